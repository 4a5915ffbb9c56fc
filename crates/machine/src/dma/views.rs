//! The contexts of a machine, what is mapped in them, and the devices that are attached to them.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use subsystem::Grant;

use super::checker::Checker;
use super::port::{DmaPort, PortControl, PortState};
use super::reach::{Piece, Reach};
use crate::ram::{FRAME, Pin, Ram, lock};

/// One iommufd context or container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct View(u64);

/// All contexts of a machine.
#[derive(Debug)]
pub(crate) struct Views {
    ram: Arc<Ram>,
    checker: Arc<Checker>,
    contexts: Mutex<(u64, HashMap<View, Arc<Context>>)>,
}

/// A context, as the ports of its devices see it.
#[derive(Debug)]
pub(super) struct Context {
    reach: RwLock<Reach>,
    ports: Mutex<Vec<Arc<PortState>>>,
}

impl Context {
    pub(super) fn reach(&self) -> RwLockReadGuard<'_, Reach> {
        self.reach.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach_mut(&self) -> RwLockWriteGuard<'_, Reach> {
        self.reach.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn ports(&self) -> Vec<Arc<PortState>> {
        lock(&self.ports).clone()
    }
}

impl Views {
    /// None yet.
    #[must_use]
    pub(crate) fn new(ram: Arc<Ram>, checker: Arc<Checker>) -> Self {
        Views { ram, checker, contexts: Mutex::default() }
    }

    /// The memory that they are about.
    #[must_use]
    pub(crate) fn ram(&self) -> &Arc<Ram> {
        &self.ram
    }

    /// What was found.
    #[must_use]
    pub(crate) fn checker(&self) -> &Arc<Checker> {
        &self.checker
    }

    /// A port for a device with `bits` address bits, bus mastering off and attached to nothing: the half that the model
    /// gets, and the half that the bus keeps. `device` names it in findings.
    #[must_use]
    pub(crate) fn port(&self, device: &str, bits: u8) -> (DmaPort, PortControl) {
        let control = PortControl::new(device, bits);
        let port =
            DmaPort::new(Arc::clone(&self.ram), Arc::clone(&self.checker), Arc::clone(control.state()));
        (port, control)
    }

    /// A new context, empty.
    #[must_use]
    pub(crate) fn create(&self) -> View {
        let (last, contexts) = &mut *lock(&self.contexts);
        *last += 1;
        let context = Context { reach: RwLock::new(Reach::new()), ports: Mutex::default() };
        contexts.insert(View(*last), Arc::new(context));
        View(*last)
    }

    /// The context is gone, with everything granted in it; its devices may reach nothing.
    pub(crate) fn remove(&self, view: View) {
        let Some(context) = lock(&self.contexts).1.remove(&view) else { return };
        for port in context.ports() {
            port.set_context(None);
            port.quiesce();
        }
    }

    /// The devices of the context may reach this memory from now on.
    pub(crate) fn grant(&self, view: View, grant: &Grant<Pin>) {
        let Some(context) = self.context(view) else { return };
        let pieces = self.pieces(grant);
        let mut reach = context.reach_mut();
        for piece in pieces {
            reach.add(piece, grant.writable);
        }
    }

    /// They may no longer; returns when no access to it is under way any more.
    pub(crate) fn revoke(&self, view: View, grant: &Grant<Pin>) {
        let Some(context) = self.context(view) else { return };
        let pieces = self.pieces(grant);
        let call = self.checker.calls();
        {
            let mut reach = context.reach_mut();
            for piece in pieces {
                reach.remove(piece, grant.writable, call);
            }
        }
        for port in context.ports() {
            port.quiesce();
        }
    }

    /// Gives back pages of a pin that is granted in no context any more. Its pages may be pinned elsewhere too, in another
    /// context, and have been reached through this pin all the same: returns when no access does that any more.
    pub(crate) fn unpin(&self, pin: Pin, first: u64, pages: u64) {
        self.ram.unpin(pin, first, pages, || {
            let contexts: Vec<_> = lock(&self.contexts).1.values().map(Arc::clone).collect();
            contexts.iter().flat_map(|context| context.ports()).for_each(|port| port.quiesce());
        });
    }

    /// The device's accesses are checked against this context from now on; `None`: it may reach nothing. Returns when no
    /// access that began before is under way any more.
    pub(crate) fn attach(&self, port: &PortControl, view: Option<View>) {
        let port = port.state();
        let context = view.and_then(|view| self.context(view));
        // Listed first, so that no revocation overlooks the port.
        if let Some(context) = &context {
            lock(&context.ports).push(Arc::clone(port));
        }
        let before = port.set_context(context);
        port.quiesce();
        if let Some(before) = before {
            let mut ports = lock(&before.ports);
            if let Some(at) = ports.iter().position(|other| Arc::ptr_eq(other, port)) {
                ports.swap_remove(at);
            }
        }
    }

    fn context(&self, view: View) -> Option<Arc<Context>> {
        lock(&self.contexts).1.get(&view).map(Arc::clone)
    }

    fn pieces(&self, grant: &Grant<Pin>) -> Vec<Piece> {
        let mapping = (grant.iova, grant.pages * FRAME);
        let mut iova = grant.iova;
        let frames = self.ram.pinned_frames(grant.pin, grant.first, grant.pages);
        frames
            .into_iter()
            .map(|frames| {
                let piece = Piece { mapping, iova, first: frames.start, end: frames.end };
                // The last piece may end with the address space.
                iova = iova.wrapping_add((frames.end - frames.start) * FRAME);
                piece
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use proptest::prelude::*;
    use subsystem::Source;
    use sys::{Memory, MemoryOptions, PageSize};

    use super::*;
    use crate::dma::{Access, DmaError, Doing, Mapped, Mode, Why};
    use crate::ram::{LayoutKind, RamSpec};

    /// A machine with one device, attached to one context, and some memory that is pinned.
    struct Setup {
        views: Views,
        port: DmaPort,
        control: PortControl,
        view: View,
        memory: Memory,
        pin: Pin,
    }

    const PAGES: u64 = 16;

    fn setup(layout: LayoutKind, mode: Mode) -> Setup {
        let ram = Ram::new(&RamSpec { bytes: 16 << 20, layout, seed: 5 }).expect("RAM");
        let views = Views::new(Arc::clone(&ram), Arc::new(Checker::new(mode)));
        let (port, control) = views.port("0000:01:00.0", 64);
        control.set_bus_master(true);
        let view = views.create();
        views.attach(&control, Some(view));
        let length = (PAGES * FRAME) as usize;
        let options = MemoryOptions { length, page_size: PageSize::Base, highest: u64::MAX };
        let memory = ram.allocate(&options).expect("memory");
        let task = ram.accounts().task(0, None);
        let source = Source::User { task, address: memory.start().as_ptr() as u64 };
        let pin = ram.pin(source, 0, PAGES, true).expect("machine RAM");
        Setup { views, port, control, view, memory, pin }
    }

    impl Setup {
        fn grant(&self, iova: u64, first: u64, pages: u64, writable: bool) -> Grant<Pin> {
            let grant = Grant { iova, pin: self.pin, first, pages, writable };
            self.views.grant(self.view, &grant);
            grant
        }

        fn physical(&self, page: u64) -> u64 {
            self.views.ram().run(self.pin, page, 1).address
        }

        fn write(&mut self, address: u64, length: usize) -> Result<(), DmaError> {
            self.port.write(address, &vec![1; length])
        }
    }

    #[test]
    fn data_goes_both_ways() {
        for layout in [LayoutKind::Contiguous, LayoutKind::Hugepage, LayoutKind::Scattered] {
            let mut setup = setup(layout, Mode::Enforce);
            setup.grant(0, 0, PAGES, true);
            let (first, last) = (setup.physical(0), setup.physical(PAGES - 1));
            setup.port.write(first + 100, b"hello").expect("mapped");
            setup.port.write_u32_release(last + 4092, 0x0403_0201).expect("mapped");
            let mut bytes = [0; 7];
            setup.port.read(first + 99, &mut bytes).expect("mapped");
            assert_eq!(&bytes, b"\0hello\0");
            assert_eq!(setup.port.read_u32(last + 4092), Ok(0x0403_0201));
            assert_eq!(
                setup.port.read_u32(last + 4091),
                setup.port.read_u32(last + 4092).map(|word| word << 8)
            );
            assert_eq!(setup.views.checker().count(), 0);
        }
    }

    /// An access that is longer than what is waited for in one go crosses frames where they follow each other.
    #[test]
    fn long_accesses() {
        let mut setup = setup(LayoutKind::Contiguous, Mode::Enforce);
        setup.grant(0, 0, PAGES, true);
        let bytes: Vec<u8> = (0..PAGES * FRAME - 10).map(|at| at as u8 ^ (at >> 8) as u8).collect();
        let start = setup.physical(0) + 5;
        setup.port.write(start, &bytes).expect("mapped");
        let mut back = vec![0; bytes.len()];
        setup.port.read(start, &mut back).expect("mapped");
        assert!(bytes == back);
    }

    #[test]
    fn past_the_end() {
        let mut setup = setup(LayoutKind::Contiguous, Mode::Enforce);
        setup.grant(0x10_0000, 0, 2, true);
        let start = setup.physical(1) + 4000;
        let end = setup.physical(2);
        assert_eq!(setup.write(start, 200), Err(DmaError { address: end, why: Why::PastEnd }));
        let finding = setup.views.checker().findings().pop().expect("a finding");
        let mapping = Mapped { iova: 0x10_0000, length: 2 * FRAME, physical: setup.physical(1) };
        assert_eq!((finding.address, finding.length, finding.mapping), (end, 104, Some(mapping)));
        // What was before the end has arrived; of what was behind it, nothing is seen.
        let mut bytes = [0; 200];
        assert!(setup.port.read(start, &mut bytes).is_err());
        assert!(bytes[..96].iter().all(|&byte| byte == 1) && bytes[96..].iter().all(|&byte| byte == 0xff));
    }

    /// Behind the end may be what was unmapped before: an access that runs into it went past the end all the same.
    #[test]
    fn past_the_end_into_what_is_gone() {
        let mut setup = setup(LayoutKind::Contiguous, Mode::Enforce);
        setup.grant(0, 0, 2, true);
        let gone = setup.grant(2 * FRAME, 2, 2, true);
        setup.views.revoke(setup.view, &gone);
        let end = setup.physical(2);
        assert_eq!(setup.write(end - 1, 2), Err(DmaError { address: end, why: Why::PastEnd }));
        assert_eq!(setup.write(end, 2), Err(DmaError { address: end, why: Why::AfterUnmap { calls: 0 } }));
    }

    #[test]
    fn after_unmap() {
        let mut setup = setup(LayoutKind::Scattered, Mode::Enforce);
        let grant = setup.grant(0x20_0000, 0, 4, true);
        let address = setup.physical(2);
        setup.write(address, 4096).expect("mapped");
        setup.views.revoke(setup.view, &grant);
        for _ in 0..3 {
            setup.views.checker().call();
        }
        setup.port.doing(Doing { what: "WRITE", queue: Some(1), id: Some(17) });
        assert_eq!(setup.write(address, 4096), Err(DmaError { address, why: Why::AfterUnmap { calls: 3 } }));
        let finding = setup.views.checker().findings().pop().expect("a finding").to_string();
        assert!(finding.starts_with("0000:01:00.0 WRITE (queue 1, command 17) writes 4096 bytes at 0x"));
        assert!(finding.ends_with(": unmapped 3 calls ago (was IOVA 0x200000, 16 KiB)"), "{finding}");
    }

    #[test]
    fn read_only() {
        let mut setup = setup(LayoutKind::Scattered, Mode::Enforce);
        let read_only = setup.grant(0, 0, 4, false);
        let address = setup.physical(3);
        assert!(setup.port.read_u64(address).is_ok());
        assert_eq!(setup.write(address, 1), Err(DmaError { address, why: Why::ReadOnly }));
        let writable = setup.grant(0x10000, 3, 1, true);
        setup.write(address, 1).expect("one of the mappings is writable");
        setup.views.revoke(setup.view, &writable);
        assert_eq!(setup.write(address, 1), Err(DmaError { address, why: Why::ReadOnly }));
        setup.views.revoke(setup.view, &read_only);
        assert!(setup.port.read_u64(address).is_err());
    }

    #[test]
    fn what_a_device_cannot_send() {
        for mode in [Mode::Enforce, Mode::Report] {
            let mut setup = setup(LayoutKind::Scattered, mode);
            setup.grant(0, 0, PAGES, true);
            let address = setup.physical(0);
            let needed = (64 - address.leading_zeros()) as u8;
            for bits in [needed - 1, needed] {
                let (mut port, control) = setup.views.port("0000:02:00.0", bits);
                control.set_bus_master(true);
                setup.views.attach(&control, Some(setup.view));
                let beyond = Err(DmaError { address, why: Why::BeyondMask { bits } });
                assert_eq!(port.write(address, &[1]), if bits < needed { beyond } else { Ok(()) });
            }
            assert!(setup.write(u64::MAX, 2).is_err(), "the address space ends there");
            setup.control.set_bus_master(false);
            assert_eq!(setup.write(address, 1), Err(DmaError { address, why: Why::BusMasterOff }));
            assert_eq!(setup.port.read(address, &mut []), Ok(()));
        }
    }

    #[test]
    fn a_device_that_is_detached_reaches_nothing() {
        let mut setup = setup(LayoutKind::Scattered, Mode::Enforce);
        setup.grant(0, 0, PAGES, true);
        let address = setup.physical(0);
        setup.write(address, 1).expect("attached");
        setup.views.attach(&setup.control, None);
        assert_eq!(setup.write(address, 1), Err(DmaError { address, why: Why::NoContext }));
        setup.views.attach(&setup.control, Some(setup.view));
        setup.write(address, 1).expect("attached again");
        setup.views.remove(setup.view);
        assert_eq!(setup.write(address, 1), Err(DmaError { address, why: Why::NoContext }));
    }

    #[test]
    fn outside_tells_the_nearest() {
        let mut setup = setup(LayoutKind::Contiguous, Mode::Enforce);
        setup.grant(0x7000, 4, 1, false);
        let address = setup.physical(1);
        assert_eq!(setup.port.read_u32(address), Err(DmaError { address, why: Why::Outside }));
        let finding = setup.views.checker().findings().pop().expect("a finding");
        let mapping = Mapped { iova: 0x7000, length: FRAME, physical: setup.physical(4) };
        assert_eq!((finding.access, finding.mapping), (Access::Read, Some(mapping)));
    }

    /// Reported accesses are made where there is memory that is in use, and nowhere else.
    #[test]
    fn report_mode() {
        let mut setup = setup(LayoutKind::Contiguous, Mode::Report);
        let address = setup.physical(0);
        setup.write(address, 2 * FRAME as usize).expect("it is performed");
        let mut bytes = [0; 8];
        setup.port.read(address, &mut bytes).expect("it is performed");
        assert_eq!(bytes, [1; 8]);
        assert_eq!(setup.views.checker().count(), 2, "one for each access, not for each page");
        let unused = setup.physical(PAGES - 1) + FRAME;
        setup.write(unused, 8).expect("it is dropped");
        setup.port.read(unused, &mut bytes).expect("it is dropped");
        assert_eq!(bytes, [0xff; 8]);
        drop(setup.memory);
    }

    /// However a device hammers at a page: once it is unmapped, nothing arrives there any more.
    #[test]
    fn nothing_arrives_after_an_unmap() {
        let setup = setup(LayoutKind::Scattered, Mode::Enforce);
        let address = setup.physical(0);
        let Setup { views, mut port, view, pin, .. } = setup;
        let frame = views.ram().layout().frame_at(address).and_then(|frame| views.ram().frame(frame));
        let frame = frame.expect("machine RAM");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _aborted = port.write(address, &[0xaa; FRAME as usize]);
                }
            });
            let mut bytes = [0; FRAME as usize];
            for _ in 0..100 {
                let grant = Grant { iova: 0, pin, first: 0, pages: 1, writable: true };
                views.grant(view, &grant);
                while frame.load_u32(0) == 0 {
                    std::thread::yield_now();
                }
                views.revoke(view, &grant);
                frame.write(0, &[0; FRAME as usize]);
                std::thread::yield_now();
                frame.read(0, &mut bytes);
                if bytes != [0; FRAME as usize] {
                    stop.store(true, Ordering::Relaxed);
                    panic!("something arrived after the unmap");
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    #[derive(Clone, Debug)]
    enum Step {
        Grant {
            first: u64,
            pages: u64,
            writable: bool,
        },
        /// Takes back a grant: all of it, or the pages before and behind a point in it, in two calls.
        Revoke {
            which: usize,
            split: Option<u64>,
        },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let grant = (0..PAGES, 1..PAGES, any::<bool>()).prop_map(|(first, pages, writable)| Step::Grant {
            first,
            pages: pages.min(PAGES - first),
            writable,
        });
        let revoke =
            (any::<usize>(), any::<Option<u64>>()).prop_map(|(which, split)| Step::Revoke { which, split });
        prop::collection::vec(prop_oneof![grant, revoke], 1..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is granted and revoked, a device reaches what counting page by page says.
        #[test]
        fn agrees_with_counting_pages(steps in steps(), scattered: bool) {
            let layout = if scattered { LayoutKind::Scattered } else { LayoutKind::Contiguous };
            let mut setup = setup(layout, Mode::Enforce);
            let mut grants: Vec<Grant<Pin>> = Vec::new();
            for step in steps {
                match step {
                    Step::Grant { first, pages, writable } => {
                        grants.push(setup.grant(first * FRAME, first, pages, writable));
                    }
                    Step::Revoke { which, split } if !grants.is_empty() => {
                        let grant = grants.swap_remove(which % grants.len());
                        let split = split.map_or(0, |split| split % grant.pages);
                        let rest = Grant {
                            iova: grant.iova + split * FRAME,
                            first: grant.first + split,
                            pages: grant.pages - split,
                            ..grant
                        };
                        setup.views.revoke(setup.view, &rest);
                        if split > 0 {
                            setup.views.revoke(setup.view, &Grant { pages: split, ..grant });
                        }
                    }
                    Step::Revoke { .. } => {}
                }
                for page in 0..PAGES {
                    let over = |grant: &&Grant<Pin>| (grant.first..grant.first + grant.pages).contains(&page);
                    let readable = grants.iter().any(|grant| over(&grant));
                    let writable = grants.iter().filter(over).any(|grant| grant.writable);
                    let address = setup.physical(page);
                    prop_assert_eq!(setup.port.read_u32(address).is_ok(), readable);
                    let written = setup.port.write_u32_release(address, 0);
                    prop_assert_eq!(written.is_ok(), writable);
                    if readable && !writable {
                        prop_assert_eq!(written.map_err(|error| error.why), Err(Why::ReadOnly));
                    }
                }
            }
        }
    }
}
