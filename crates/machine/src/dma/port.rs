//! A device's way to memory.
//!
//! Each access is checked, and behind an IOMMU translated, page by page in the domain that the device is attached to. What was found there last
//! is remembered by the port and asked first, so that a check costs no lock and no search.
//!
//! Taking memory away waits for accesses that are under way ([`Gate`]). An access is cut into segments, so that the wait is
//! short.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::checker::{Checker, Mode};
use super::domains::DomainState;
use super::finding::{Access, Finding, Mapped, Why};
use super::gate::Gate;
use super::memo::Memo;
use super::reach::Stray;
use crate::lock::lock;
use crate::log::{Log, Priority};
use crate::ram::{FRAME, Found, FramePointer, Gone, Ram};

/// The most bytes that are copied before an unmap gets its turn.
const SEGMENT: u64 = 64 << 10;

/// What a device is executing, for findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doing {
    /// Such as `WRITE`.
    pub what: &'static str,
    /// The queue that it came from.
    pub queue: Option<u16>,
    /// Its number there.
    pub id: Option<u32>,
}

/// An access was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("access to {address:#x} aborted: {why}")]
pub struct DmaError {
    /// The bus address of the first byte that was neither read nor written.
    pub address: u64,
    /// What was wrong.
    pub why: Why,
}

/// What the model's half of a port and the bus's half share.
#[derive(Debug)]
pub(super) struct PortState {
    device: Arc<str>,
    bus_master: AtomicBool,
    /// How many address bits the device drives.
    bits: u8,
    pub(super) gate: Gate,
    domain: Mutex<Option<Arc<DomainState>>>,
    /// What an IOMMU blocks of it; `None`: it is not behind one.
    faults: Option<Faults>,
}

/// What an IOMMU blocks of a device.
#[derive(Debug)]
struct Faults {
    log: Arc<Log>,
    count: AtomicU64,
}

impl PortState {
    /// What the device is attached to.
    pub(super) fn domain(&self) -> Option<Arc<DomainState>> {
        lock(&self.domain).clone()
    }

    /// Attaches the device; answers what it was attached to before.
    pub(super) fn set_domain(&self, domain: Option<Arc<DomainState>>) -> Option<Arc<DomainState>> {
        std::mem::replace(&mut lock(&self.domain), domain)
    }
}

impl Faults {
    /// Counts a blocked access, and logs it as Linux does for an Intel VT-d unit.
    fn report(&self, device: &str, access: Access, address: u64, why: Why) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let (code, reason) = match (why, access) {
            (Why::NoDomain, _) => (0x02, "Present bit in context entry is clear"),
            (Why::BeyondAperture { .. }, _) => (0x04, "Access beyond MGAW"),
            (_, Access::Write) => (0x05, "PTE Write access is not set"),
            (_, Access::Read) => (0x06, "PTE Read access is not set"),
        };
        let verb = match access {
            Access::Read => "Read",
            Access::Write => "Write",
        };
        self.log.line(Priority::ERROR, format_args!("DMAR: DRHD: handling fault status reg 2"));
        self.log.line(Priority::ERROR, format_args!(
            "DMAR: [DMA {verb} NO_PASID] Request device [{device}] fault addr {:#x} [fault reason {code:#04x}] {reason}",
            address & !(FRAME - 1)
        ));
    }
}

/// Why an access does not go on.
enum Stop {
    BusMasterOff,
    /// It has come to a page that the device is not entitled to, this many bytes after its start.
    Stray(u64),
    /// It has come to a page that is being moved.
    Moving(u64),
    /// It has come to a page that the program has taken away.
    Gone(u64),
}

/// A device's way to memory: bus addresses, checked one by one against what the device is entitled to.
#[derive(Debug)]
pub struct DmaPort {
    ram: Arc<Ram>,
    checker: Arc<Checker>,
    state: Arc<PortState>,
    doing: Option<Doing>,
    memo: Memo,
}

impl DmaPort {
    pub(super) fn new(ram: Arc<Ram>, checker: Arc<Checker>, state: Arc<PortState>) -> Self {
        DmaPort { ram, checker, state, doing: None, memo: Memo::default() }
    }

    /// What the device executes from now on, for findings.
    pub fn doing(&mut self, doing: Doing) {
        self.doing = Some(doing);
    }

    /// Reads memory. Aborted: the bytes from the error's address on are all ones.
    pub fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), DmaError> {
        let result = self.access(Access::Read, address, bytes.len(), |frame, offset, part| match frame {
            Some(frame) => frame.read(offset, &mut bytes[part]),
            None => {
                bytes[part].fill(0xff);
                Ok(())
            }
        });
        if let Err(error) = &result {
            bytes[(error.address - address) as usize..].fill(0xff);
        }
        result
    }

    /// Writes memory. Aborted: nothing is written from the error's address on.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), DmaError> {
        self.access(Access::Write, address, bytes.len(), |frame, offset, part| {
            frame.map_or(Ok(()), |frame| frame.write(offset, &bytes[part]))
        })
    }

    /// Walks through the memory of an access, part by part within a frame: `part` gets the frame, the offset in it,
    /// and which bytes of the access these are. No frame: they are dropped.
    #[inline]
    fn access(
        &mut self,
        access: Access,
        address: u64,
        length: usize,
        mut part: impl FnMut(Option<FramePointer<'_>>, usize, Range<usize>) -> Result<(), Gone>,
    ) -> Result<(), DmaError> {
        let length = length as u64;
        self.admit(access, address, length)?;
        let mut blamed = false;
        let mut at = 0;
        while at < length {
            let end = (at + SEGMENT).min(length);
            at = match self.segment(access, address, at..end, &mut part) {
                Ok(()) => end,
                Err(Stop::BusMasterOff) => {
                    return Err(self.abort(access, address + at, length - at, Why::BusMasterOff));
                }
                Err(Stop::Gone(at)) => return Err(self.abort(access, address + at, length - at, Why::Gone)),
                Err(Stop::Moving(at)) => {
                    std::thread::yield_now();
                    at
                }
                Err(Stop::Stray(at)) => {
                    let (here, call) = (address + at, self.checker.calls());
                    let stray = Stray { access, address: here, entered: at > 0, call };
                    let frame = self.refuse(&stray, length - at, &mut blamed)?;
                    let end = length.min(at + (FRAME - here % FRAME));
                    let frame = frame.and_then(|frame| self.ram.frame(frame));
                    // What a stray access reaches is machine RAM, which does not go.
                    let _there = part(frame, (here % FRAME) as usize, at as usize..end as usize);
                    end
                }
            };
        }
        Ok(())
    }

    /// The part of an access that whoever takes memory away waits for.
    #[inline]
    fn segment(
        &mut self,
        access: Access,
        address: u64,
        bytes: Range<u64>,
        part: &mut impl FnMut(Option<FramePointer<'_>>, usize, Range<usize>) -> Result<(), Gone>,
    ) -> Result<(), Stop> {
        let inside = self.state.gate.enter();
        if !self.state.bus_master.load(Ordering::Relaxed) {
            return Err(Stop::BusMasterOff);
        }
        self.memo.renew(&self.state, inside.epoch());
        let mut at = bytes.start;
        while at < bytes.end {
            let here = address + at;
            let end = bytes.end.min(at + (FRAME - here % FRAME));
            let frame = self.memo.frame(&self.ram, here, access).ok_or(Stop::Stray(at))?;
            let frame = match self.ram.find(frame) {
                Found::Here(frame) => frame,
                Found::Moving => return Err(Stop::Moving(at)),
                Found::Nowhere => return Err(Stop::Stray(at)),
            };
            part(Some(frame), (here % FRAME) as usize, at as usize..end as usize)
                .map_err(|Gone| Stop::Gone(at))?;
            at = end;
        }
        Ok(())
    }

    /// Whether the device can drive the addresses of an access.
    #[inline]
    fn admit(&self, access: Access, address: u64, length: u64) -> Result<(), DmaError> {
        let bits = self.state.bits;
        let highest = if bits < 64 { (1 << bits) - 1 } else { u64::MAX };
        match address.checked_add(length.saturating_sub(1)) {
            Some(last) if last <= highest => Ok(()),
            _ => Err(self.abort(access, address, length, Why::BeyondMask { bits })),
        }
    }

    /// The device cannot send the rest of an access at all.
    #[cold]
    fn abort(&self, access: Access, address: u64, length: u64, why: Why) -> DmaError {
        self.blame(access, address, length, why, None);
        DmaError { address, why }
    }

    /// An access has come to a page that the device is not entitled to. Answers the frame that is accessed
    /// nevertheless, if any.
    #[cold]
    fn refuse(&self, stray: &Stray, length: u64, blamed: &mut bool) -> Result<Option<u64>, DmaError> {
        let &Stray { access, address, .. } = stray;
        let domain = self.state.domain();
        let (why, mapping) = match domain {
            Some(domain) => domain.explain(&self.ram, stray),
            None => (Why::NoDomain, None),
        };
        if !std::mem::replace(blamed, true) {
            self.blame(access, address, length, why, mapping);
        }
        if let Some(faults) = &self.state.faults {
            faults.report(&self.state.device, access, address, why);
            return Err(DmaError { address, why });
        }
        match self.checker.mode() {
            Mode::Enforce => Err(DmaError { address, why }),
            Mode::Report => {
                let frame = self.ram.layout().frame_at(address);
                Ok(frame.filter(|&frame| self.ram.is_machine_ram(frame)))
            }
        }
    }

    fn blame(&self, access: Access, address: u64, length: u64, why: Why, mapping: Option<Mapped>) {
        let (device, iova) = (Arc::clone(&self.state.device), self.state.faults.is_some());
        self.checker.add(Finding { device, doing: self.doing, access, address, iova, length, why, mapping });
    }
}

macro_rules! words {
    ($($read:ident, $write:ident, $load:ident, $store:ident, $type:ty;)*) => {
        impl DmaPort {$(
            #[doc = concat!("Reads a little-endian `", stringify!($type), "`: if aligned, in one load, and what was")]
            /// written before it is seen by later reads. All ones if the access is dropped.
            pub fn $read(&mut self, address: u64) -> Result<$type, DmaError> {
                if !address.is_multiple_of(size_of::<$type>() as u64) {
                    let mut bytes = [0; size_of::<$type>()];
                    return self.read(address, &mut bytes).map(|()| <$type>::from_le_bytes(bytes));
                }
                let mut value = <$type>::MAX;
                self.access(Access::Read, address, size_of::<$type>(), |frame, offset, _| {
                    value = frame.map_or(Ok(value), |frame| frame.$load(offset))?;
                    Ok(())
                })?;
                Ok(value)
            }

            #[doc = concat!("Writes a little-endian `", stringify!($type), "`: if aligned, in one store, which is seen after")]
            /// everything that was written before it.
            pub fn $write(&mut self, address: u64, value: $type) -> Result<(), DmaError> {
                if !address.is_multiple_of(size_of::<$type>() as u64) {
                    return self.write(address, &value.to_le_bytes());
                }
                self.access(Access::Write, address, size_of::<$type>(), |frame, offset, _| {
                    frame.map_or(Ok(()), |frame| frame.$store(offset, value))
                })
            }
        )*}
    };
}

words! {
    read_u32, write_u32_release, load_u32, store_u32, u32;
    read_u64, write_u64_release, load_u64, store_u64, u64;
}

/// The bus's half of a port.
#[derive(Clone, Debug)]
pub(crate) struct PortControl(Arc<PortState>);

impl PortControl {
    pub(super) fn new(device: &str, bits: u8, faults: Option<Arc<Log>>) -> Self {
        PortControl(Arc::new(PortState {
            device: device.into(),
            bus_master: AtomicBool::new(false),
            bits,
            gate: Gate::new(),
            domain: Mutex::new(None),
            faults: faults.map(|log| Faults { log, count: AtomicU64::new(0) }),
        }))
    }

    pub(super) fn state(&self) -> &Arc<PortState> {
        &self.0
    }

    /// How many accesses an IOMMU has blocked.
    pub(crate) fn fault_count(&self) -> u64 {
        self.0.faults.as_ref().map_or(0, |faults| faults.count.load(Ordering::Relaxed))
    }

    /// Switches bus mastering. Off: returns when no access is under way any more.
    pub(crate) fn set_bus_master(&self, on: bool) {
        self.0.bus_master.store(on, Ordering::Relaxed);
        if !on {
            self.0.gate.quiesce();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;

    use sys::{MemoryOptions, PageSize};

    use subsystem::Rights;

    use super::*;
    use crate::dma::Domains;
    use crate::ram::{LayoutKind, RamSpec};

    /// Whoever takes memory away returns only when an access that began before is over.
    #[test]
    fn taking_away_waits_for_an_access_under_way() {
        let ram =
            Ram::new(&RamSpec { bytes: 16 << 20, layout: LayoutKind::Scattered, seed: 1 }).expect("RAM");
        let domains = Domains::new(Arc::clone(&ram), Arc::new(Checker::new(Mode::Enforce)));
        let (_port, control) = domains.port("0000:01:00.0", 64, None);
        let domain = domains.create(None);
        domains.attach(&control, Some(domain));
        let options = MemoryOptions { length: 4096, page_size: PageSize::Base, highest: u64::MAX };
        let memory = ram.allocate(&options).expect("memory");
        let task = ram.accounts().task(0, None);
        let source = subsystem::Source::User { task, address: memory.start().as_ptr() as u64 };
        let pin = ram.pin(source, 0, 1, true).expect("machine RAM");
        let mapping = subsystem::Mapping {
            iova: 0,
            pin,
            first: 0,
            pages: 1,
            rights: Rights { read: true, write: true },
        };
        domains.map(domain, &mapping);

        let takers: [(&str, &(dyn Fn() + Sync)); 3] = [
            ("revoke", &|| domains.unmap(domain, &mapping)),
            ("bus master", &|| control.set_bus_master(false)),
            ("attach", &|| domains.attach(&control, None)),
        ];
        for (name, take) in takers {
            let left = AtomicBool::new(false);
            let epoch = control.0.gate.epoch();
            let inside = control.0.gate.enter();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    take();
                    assert!(left.load(SeqCst), "{name} did not wait");
                });
                while control.0.gate.epoch() == epoch {
                    std::thread::yield_now();
                }
                // By now nothing but the wait keeps the other thread from returning.
                for _ in 0..1000 {
                    std::thread::yield_now();
                }
                left.store(true, SeqCst);
                drop(inside);
            });
        }
    }

    /// A page of a file that two contexts have pinned is reached through one of the two pins. When that goes, the device of the
    /// other context must be through with it before it is unmapped.
    #[test]
    fn a_pin_that_goes_waits_for_devices_of_other_contexts() {
        let spec = RamSpec { bytes: 16 << 20, layout: LayoutKind::Scattered, seed: 1 };
        let ram = Ram::new(&spec).expect("RAM");
        let domains = Domains::new(Arc::clone(&ram), Arc::new(Checker::new(Mode::Enforce)));
        let (_port, control) = domains.port("0000:01:00.0", 64, None);
        let domain = domains.create(None);
        domains.attach(&control, Some(domain));
        let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).expect("a memfd");
        rustix::fs::ftruncate(&file, FRAME).expect("sized");
        let backing = ram.hold_backing(std::os::fd::AsFd::as_fd(&file)).expect("held");
        let pin = || ram.pin(subsystem::Source::File { backing, offset: 0 }, 0, 1, true).expect("a memfd");
        let (first, second) = (pin(), pin());
        domains.map(
            domain,
            &subsystem::Mapping {
                iova: 0,
                pin: second,
                first: 0,
                pages: 1,
                rights: Rights { read: true, write: true },
            },
        );
        let left = AtomicBool::new(false);
        let inside = control.0.gate.enter();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                domains.unpin(first, 0, 1);
                assert!(left.load(SeqCst), "it did not wait");
            });
            for _ in 0..1000 {
                std::thread::yield_now();
            }
            left.store(true, SeqCst);
            drop(inside);
        });
        // Nobody else has the page: there is nothing to wait for.
        let _inside = control.0.gate.enter();
        domains.unpin(second, 0, 1);
    }
}
