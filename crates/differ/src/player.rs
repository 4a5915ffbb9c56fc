//! Making the calls of a sequence.

use std::collections::BTreeMap;
use std::io::SeekFrom;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use conformance::Target;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use sys::{Mapping, Mmio, Suite};
use uapi::Errno;
use uapi::vfio::{VFIO_DEVICE_FEATURE_DMA_BUF, VFIO_DEVICE_FEATURE_MASK};

use crate::arena::{Arena, PAGE};
use crate::call::{ioctl, opened};
use crate::outcome::{Outcome, Renaming, changes, hex};
use crate::request::{Encoded, Harmful, Scope, encode};
use crate::sequence::{Argument, Call, Node, Place, Request, Sequence, Slot, Step, Value};

/// Makes all calls of a sequence, closes what it has opened, and says what came of each, and of closing.
pub fn play<S: Suite>(
    sys: &S,
    target: &Target,
    arena: &Arena,
    sequence: &Sequence,
) -> Result<Vec<Outcome>, Harmful> {
    let mut player = Player::new(sys, target, arena);
    let outcomes: Result<Vec<_>, _> = sequence.steps.iter().map(|step| player.step(step)).collect();
    let end = player.finish();
    outcomes.map(|mut outcomes| {
        outcomes.push(end);
        outcomes
    })
}

/// A system, with what a sequence has opened on it so far.
pub(crate) struct Player<'a, S: Suite> {
    sys: &'a S,
    target: &'a Target,
    arena: &'a Arena,
    slots: BTreeMap<Slot, Open<S>>,
    renaming: Renaming,
    /// The argument of the last ioctl, after it.
    argument: Vec<u8>,
    /// KiB that were pinned before.
    pinned: u64,
}

/// What a slot holds.
enum Open<S: Suite> {
    /// A file of the system under test.
    File(S::File),
    /// An eventfd or a memory file.
    Host(OwnedFd),
    /// A mapped region.
    Mapped { _region: Mmio },
}

impl<S: Suite> Open<S> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Open::File(file) => Some(file.as_fd()),
            Open::Host(fd) => Some(fd.as_fd()),
            Open::Mapped { .. } => None,
        }
    }
}

impl<S: Suite> Scope for Player<'_, S> {
    fn arena(&self) -> &Arena {
        self.arena
    }

    fn descriptor(&self, slot: Slot) -> RawFd {
        self.slots.get(&slot).and_then(Open::fd).map_or(-1, |fd| fd.as_raw_fd())
    }

    fn device(&self, number: u8) -> &str {
        self.target.devices.get(usize::from(number)).map_or("", String::as_str)
    }
}

/// Whether memory may be given back by a call: what is pinned again later is, as far as anybody promises, somewhere else.
fn may_unpin(step: &Step) -> bool {
    const PINNED_STAYS: [&str; 5] = [
        "IOMMU_IOAS_ALLOC",
        "IOMMU_IOAS_MAP",
        "IOMMU_IOAS_MAP_FILE",
        "IOMMU_IOAS_COPY",
        "IOMMU_IOAS_NOIOMMU_GET_PA",
    ];
    match &step.call {
        Call::Ioctl { request, .. } => !PINNED_STAYS.contains(&request.command.name()),
        // What was in the slot before is closed.
        call => step.into.is_some() || matches!(call, Call::Close(_)),
    }
}

impl<'a, S: Suite> Player<'a, S> {
    /// With nothing open.
    pub(crate) fn new(sys: &'a S, target: &'a Target, arena: &'a Arena) -> Self {
        arena.clear();
        let (slots, renaming, argument) = (BTreeMap::new(), Renaming::default(), Vec::new());
        let pinned = sys.vm_pin().unwrap_or(0);
        Player { sys, target, arena, slots, renaming, argument, pinned }
    }

    /// The argument of the last ioctl, as it was after it.
    pub(crate) fn argument(&self) -> &[u8] {
        &self.argument
    }

    /// Makes one call.
    pub(crate) fn step(&mut self, step: &Step) -> Result<Outcome, Harmful> {
        if !step.aside {
            return self.call(step);
        }
        std::thread::scope(|scope| {
            let made = scope.spawn(|| self.call(step)).join();
            made.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Closes everything, in order of the slots, and says what is left pinned of what was not before: nothing should be.
    pub(crate) fn finish(mut self) -> Outcome {
        while self.slots.pop_first().is_some() {}
        Outcome::of(self.sys.vm_pin().map(|pinned| pinned.saturating_sub(self.pinned)))
    }

    fn call(&mut self, step: &Step) -> Result<Outcome, Harmful> {
        if may_unpin(step) {
            self.renaming = Renaming::default();
        }
        let into = step.into;
        Ok(match &step.call {
            Call::Open { node, access } => match self.path(*node) {
                Ok(path) => self.keep(into, self.sys.open(&path, *access).map(Open::File)),
                Err(errno) => none(errno),
            },
            Call::Event => {
                let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
                self.keep_host(into, event)
            }
            Call::Memfd { pages } => {
                let file = memfd_create("differ", MemfdFlags::CLOEXEC)
                    .and_then(|file| ftruncate(&file, u64::from(*pages) * PAGE).map(|()| file));
                self.keep_host(into, file)
            }
            Call::Dup(slot) => match self.slots.get(slot) {
                Some(Open::File(file)) => self.keep(into, self.sys.try_clone(file).map(Open::File)),
                Some(Open::Host(fd)) => self.keep_host(into, rustix::io::fcntl_dupfd_cloexec(fd, 0)),
                _ => none(Errno::EBADF),
            },
            Call::Close(slot) => match self.slots.remove(slot) {
                Some(_) => Outcome::of(Ok(0_u64)),
                None => none(Errno::EBADF),
            },
            Call::Ioctl { file, request } => return self.ioctl(into, *file, request),
            Call::Read { file, offset, length } => self.on_file(*file, |sys, file| {
                let mut bytes = vec![0; usize::from(*length)];
                let count = sys.pread(file, &mut bytes, *offset);
                let read = count.as_ref().map_or(0, |count| *count);
                mask(*offset, &mut bytes);
                Outcome::of(count.map(|count| count as u64)).with([hex(&bytes[..read])])
            }),
            Call::Write { file, offset, bytes } => self.on_file(*file, |sys, file| {
                Outcome::of(sys.pwrite(file, bytes, *offset).map(|count| count as u64))
            }),
            Call::Map { file, offset, length, writable, shared } => {
                let Some(Open::File(file)) = self.slots.get(file) else { return Ok(none(Errno::EBADF)) };
                let (length, writable, shared) = (*length as usize, *writable, *shared);
                let mapping = Mapping { offset: *offset, length, writable, executable: false, shared };
                let region = self.sys.map_region(file, mapping);
                self.keep(into, region.map(|region| Open::Mapped { _region: region }))
            }
            Call::Poll(slot) => self.on_file(*slot, |sys, file| {
                Outcome::of(sys.poll(file).map(|readiness| u64::from(readiness.bits())))
            }),
            Call::Seek(slot) => {
                self.on_file(*slot, |sys, file| Outcome::of(sys.seek(file, SeekFrom::Start(0))))
            }
            Call::Fdinfo(slot) => self.on_file(*slot, |sys, file| {
                let text = sys.fdinfo(file);
                let ours = |line: &&str| line.starts_with("vfio") || line.starts_with("iommufd");
                let lines: Vec<String> =
                    text.iter().flat_map(|text| text.lines().filter(ours)).map(str::to_owned).collect();
                Outcome::of(text.map(|_| 0_u64)).with(lines)
            }),
            Call::Count(slot) => match self.slots.get(slot) {
                Some(Open::Host(fd)) => {
                    let mut counter = [0; 8];
                    match rustix::io::read(fd, &mut counter) {
                        Ok(_) => Outcome::of(Ok(u64::from_ne_bytes(counter))),
                        Err(errno) => none(host_errno(errno)),
                    }
                }
                _ => none(Errno::EBADF),
            },
            Call::Poke { offset, words } => {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
                self.arena.poke(u64::from(*offset), &bytes);
                Outcome::of(Ok(0_u64))
            }
        })
    }

    fn maps_a_file_of_ours(&self, request: &Request) -> bool {
        let Argument::Memory { fields, .. } = &request.argument else { return false };
        let files = fields.iter().filter(|(name, _)| *name == "fd").map(|(_, value)| value);
        request.command.name() == "IOMMU_IOAS_MAP_FILE"
            && files.into_iter().any(|value| match value {
                Value::Descriptor(slot) => matches!(self.slots.get(slot), Some(Open::File(_))),
                _ => false,
            })
    }

    fn ioctl(&mut self, into: Option<Slot>, slot: Slot, request: &Request) -> Result<Outcome, Harmful> {
        if self.maps_a_file_of_ours(request) {
            return Err(Harmful::Cycle);
        }
        let encoded = encode(request, self)?;
        let Some(file) = self.slots.get(&slot).and_then(Open::fd) else { return Ok(none(Errno::EBADF)) };
        let opcode = request.command.opcode();
        let (address, before) = match &encoded {
            Encoded::Number(number) => (*number, &[][..]),
            Encoded::Memory(Place::Page, bytes) => (self.arena.place(bytes), &bytes[..]),
            Encoded::Memory(Place::Null, _) => (0, &[][..]),
            Encoded::Memory(Place::ReadOnly, bytes) => match self.arena.place_read_only(bytes) {
                Ok(address) => (address, &[][..]),
                Err(_) => return Ok(none(Errno::ENOMEM)),
            },
        };
        let scratch = self.arena.scratch_bytes();
        let mut result = ioctl(self.sys, file, opcode, address);
        let after = self.arena.placed(before.len());
        let mut seen: Vec<String> = changes(request.command, before, &after, &mut self.renaming).collect();
        let scratch_after = self.arena.scratch_bytes();
        if scratch_after != scratch {
            seen.push(format!("scratch={}", hex(&scratch_after)));
        }
        if let Some(fd) = opened_by(request, &result, &after) {
            let file = self.sys.adopt(opened(fd), Path::new("opened by a call"));
            if let (Some(into), Ok(file)) = (into, file) {
                self.slots.insert(into, Open::File(file));
            }
            // The number is the next one that is free.
            result = Ok(0);
        }
        self.argument = after;
        Ok(Outcome::of(result).with(seen))
    }

    fn path(&self, node: Node) -> Result<PathBuf, Errno> {
        let device = |number: u8| {
            let address = self.target.devices.get(usize::from(number)).ok_or(Errno::ENOENT)?;
            Ok(Path::new("/sys/bus/pci/devices").join(address))
        };
        match node {
            Node::Iommufd => Ok("/dev/iommu".into()),
            Node::Container => Ok("/dev/vfio/vfio".into()),
            Node::Device(number) => {
                let names = self.sys.read_dir(&device(number)?.join("vfio-dev"));
                let name = names.ok().and_then(|names| names.into_iter().next()).ok_or(Errno::ENOENT)?;
                Ok(Path::new("/dev/vfio/devices").join(name))
            }
            Node::Group(number) => {
                let link = self.sys.read_link(&device(number)?.join("iommu_group"));
                let link = link.map_err(|error| error.errno())?;
                let group = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let path = Path::new("/dev/vfio").join(&group);
                let is_there = self.sys.stat(&path).is_ok();
                Ok(if is_there { path } else { Path::new("/dev/vfio").join(format!("noiommu-{group}")) })
            }
        }
    }

    fn on_file(&self, slot: Slot, f: impl FnOnce(&S, &S::File) -> Outcome) -> Outcome {
        match self.slots.get(&slot) {
            Some(Open::File(file)) => f(self.sys, file),
            _ => none(Errno::EBADF),
        }
    }

    fn keep(&mut self, into: Option<Slot>, opened: sys::Result<Open<S>>) -> Outcome {
        let outcome = Outcome::of(opened.as_ref().map(|_| 0_u64).map_err(Clone::clone));
        if let (Some(into), Ok(open)) = (into, opened) {
            self.slots.insert(into, open);
        }
        outcome
    }

    fn keep_host(&mut self, into: Option<Slot>, opened: rustix::io::Result<OwnedFd>) -> Outcome {
        let named = |errno| sys::Error::new("open", "a file of the sequence's own", host_errno(errno));
        self.keep(into, opened.map(Open::Host).map_err(named))
    }
}

/// The descriptor that a call has opened, if it has.
fn opened_by(request: &Request, result: &sys::Result<u32>, argument: &[u8]) -> Option<u32> {
    let value = *result.as_ref().ok()?;
    let field = |offset: usize| argument.get(offset..offset + 4)?.try_into().ok().map(u32::from_ne_bytes);
    match request.command.name() {
        "VFIO_GROUP_GET_DEVICE_FD" => Some(value),
        "VFIO_DEVICE_FEATURE" => (field(4)? & VFIO_DEVICE_FEATURE_MASK == VFIO_DEVICE_FEATURE_DMA_BUF
            && value > 0)
            .then_some(value),
        "IOMMU_FAULT_QUEUE_ALLOC" => field(12),
        _ => None,
    }
}

/// Takes out of configuration space what the host's firmware has put there: the addresses of the BARs, and the number of the
/// interrupt line.
fn mask(offset: u64, bytes: &mut [u8]) {
    const CONFIG: u64 = 7 << 40;
    const BARS: std::ops::Range<u64> = CONFIG + 0x10..CONFIG + 0x28;
    const INTERRUPT_LINE: u64 = CONFIG + 0x3c;
    for (at, byte) in (offset..).zip(bytes) {
        if BARS.contains(&at) || at == INTERRUPT_LINE {
            *byte = 0;
        }
    }
}

fn none(errno: Errno) -> Outcome {
    Outcome { answer: Err(errno), seen: Vec::new(), rule: None }
}

fn host_errno(errno: rustix::io::Errno) -> Errno {
    Errno::from_raw(errno.raw_os_error()).unwrap_or(Errno::EIO)
}
