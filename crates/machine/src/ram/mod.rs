//! Memory of the machine, and memory of the program that is pinned for its devices.
//!
//! Physical memory is a linear space of 4 KiB frames. A [`Layout`] says which physical address each frame has. The
//! frames of machine RAM come first: one large mapping that the machine hands out pieces of. Behind them are the frames
//! of foreign memory: heap, files, mappings that the program made itself, which get a frame while they are pinned. Pins,
//! and the checks of device accesses, are kept by frame: a large piece of machine RAM is one interval in every layout.
#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "memory that devices and the program share is reached through raw pointers")]
mod access;
mod accounts;
#[expect(unsafe_code, reason = "it maps the machine's memory")]
mod arena;
mod aside;
mod backings;
#[expect(unsafe_code, reason = "it maps memory that processes share")]
mod counts;
#[expect(unsafe_code, reason = "it says for which frames there is a pointer")]
mod foreign;
mod layout;
#[expect(unsafe_code, reason = "it asks the kernel by an ioctl")]
mod maps;
mod pins;
#[expect(unsafe_code, reason = "it maps files and makes pages present")]
mod process;
mod shuffle;
mod spans;
mod table;
#[cfg(test)]
#[expect(unsafe_code, reason = "it maps memory of its own")]
mod tests;

use std::sync::Arc;

use subsystem::Task;
use sys::{Memory, MemoryOptions, PageSize};
use uapi::Errno;

use crate::process::OtherProcess;

pub(crate) use access::{FramePointer, Gone};
pub(crate) use accounts::{Accounts, Memlock, Space};
use arena::Arena;
pub(crate) use arena::Known;
pub use aside::Fate;
use backings::Backings;
pub use counts::PinCounts;
use foreign::Foreign;
pub(crate) use layout::Layout;
pub use layout::LayoutKind;
pub(crate) use pins::Pin;
use process::Owner;
pub(crate) use spans::Spans;

/// Bytes in a frame.
pub(crate) const FRAME: u64 = 4096;
/// Frames in a huge page of 2 MiB.
const HUGE_FRAMES: u64 = 512;
/// How much foreign memory can be pinned at a time: 16 GiB.
const FOREIGN_FRAMES: u64 = (16 << 30) / FRAME;

/// What RAM a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RamSpec {
    /// Bytes: a multiple of 2 MiB, from 16 MiB to 64 GiB.
    pub bytes: u64,
    /// Where its frames are.
    pub layout: LayoutKind,
    /// What the scattering is drawn from.
    pub seed: u64,
}

impl Default for RamSpec {
    fn default() -> Self {
        RamSpec { bytes: 16 << 30, layout: LayoutKind::Scattered, seed: 1 }
    }
}

/// Why a machine has no RAM.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RamError {
    /// The size is not one that a machine can have.
    #[error("RAM of {0:#x} bytes: the size must be a multiple of 2 MiB, from 16 MiB to 64 GiB")]
    Size(u64),
    /// The host refused.
    #[error("{call} for {bytes:#x} bytes of RAM: {error}")]
    Host {
        /// The system call.
        call: &'static str,
        /// The size of the RAM.
        bytes: u64,
        /// What it answered.
        error: rustix::io::Errno,
    },
}

/// The bytes of a frame, if it has any.
#[derive(Clone, Debug)]
pub(crate) enum Found<'a> {
    /// Here they are.
    Here(FramePointer<'a>),
    /// They are being moved, and will be somewhere soon.
    Moving,
    /// The frame is not in use.
    Nowhere,
}

/// The machine's memory, its accounts, and the files that memory may come from.
#[derive(Debug)]
pub(crate) struct Ram {
    layout: Layout,
    arena: Arc<Arena>,
    foreign: Foreign,
    backings: Backings,
    accounts: Accounts,
}

impl Ram {
    /// RAM as specified; nothing of it takes real memory until it is touched.
    pub(crate) fn new(spec: &RamSpec) -> Result<Arc<Ram>, RamError> {
        if !spec.bytes.is_multiple_of(HUGE_FRAMES * FRAME) || !(16 << 20..=64 << 30).contains(&spec.bytes) {
            return Err(RamError::Size(spec.bytes));
        }
        let frames = spec.bytes / FRAME;
        Ok(Arc::new(Ram {
            layout: Layout::new(spec.layout, frames, FOREIGN_FRAMES, spec.seed),
            arena: Arc::new(Arena::new(frames)?),
            foreign: Foreign::new(frames, FOREIGN_FRAMES),
            backings: Backings::default(),
            accounts: Accounts::default(),
        }))
    }

    /// Which physical address each frame has.
    #[must_use]
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Processes, users and what is charged to them.
    #[must_use]
    pub(crate) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Machine RAM for the program, zeroed and in one piece of frames.
    ///
    /// Dropping it gives the frames back, those that are pinned when they are no longer. EINVAL for no bytes at all;
    /// ENOMEM if no such memory is left (such pages, below such an address).
    pub(crate) fn allocate(&self, options: &MemoryOptions) -> sys::Result<Memory> {
        let refused = |errno| {
            let &MemoryOptions { length, page_size, highest } = options;
            let pages = if page_size == PageSize::Huge2M { "2 MiB" } else { "4 KiB" };
            let what =
                format!("machine RAM ({length:#x} bytes in pages of {pages}, addresses up to {highest:#x})");
            sys::Error::new("allocate", what, errno)
        };
        let huge = options.page_size == PageSize::Huge2M;
        let page_frames = if huge { HUGE_FRAMES } else { 1 };
        let frames = (options.length as u64).div_ceil(page_frames * FRAME) * page_frames;
        if frames == 0 {
            return Err(refused(Errno::EINVAL));
        }
        // Large pieces are aligned, so that 2 MiB of them are 2 MiB of one physical piece where the layout has such.
        let align = if frames >= HUGE_FRAMES { HUGE_FRAMES } else { 1 };
        let choices = self.layout.choices(huge, options.highest);
        self.arena.allocate(frames, (align, huge), choices).ok_or_else(|| refused(Errno::ENOMEM))
    }

    /// The physical address of a virtual one, as pagemap tells it: known for machine RAM that the program has, and for
    /// foreign memory while it is pinned.
    #[must_use]
    pub(crate) fn physical_address(&self, task: Task, address: usize) -> Option<u64> {
        let address = address as u64;
        let foreign = |owner| self.foreign.frame_of(maps::identity(owner, address)?);
        let frame = match self.accounts.space(task) {
            Space::Gone => None,
            Space::There(process) => foreign(Owner::Other(task, &process)),
            Space::Here => match self.arena.frame_of(address) {
                Some(frame) => self.arena.is_given(frame).then_some(frame),
                None => foreign(Owner::This),
            },
        };
        frame.map(|frame| self.layout.run_at(frame).0 + address % FRAME)
    }

    /// The same, told to the program, which may give it to devices if the memory stays where it is.
    pub(crate) fn tell_physical_address(&self, task: Task, address: usize) -> Option<u64> {
        let own = matches!(self.accounts.space(task), Space::Here);
        let frame = self.arena.frame_of(address as u64).filter(|_| own);
        let told = frame.is_none_or(|frame| self.arena.tell(frame));
        self.physical_address(task, address).filter(|_| told)
    }

    /// What the program knows of a frame.
    pub(crate) fn known(&self, frame: u64) -> Known {
        self.arena.known(frame)
    }

    /// The bytes of a frame. Foreign frames have some while they are pinned.
    #[inline]
    pub(crate) fn find(&self, frame: u64) -> Found<'_> {
        match self.arena.frame(frame) {
            Some(frame) => Found::Here(frame),
            None => self.foreign.find(frame),
        }
    }

    /// Those of a frame that is not being moved: within [`Ram::hold_still`], or machine RAM.
    #[inline]
    pub(crate) fn frame(&self, frame: u64) -> Option<FramePointer<'_>> {
        match self.find(frame) {
            Found::Here(frame) => Some(frame),
            Found::Moving | Found::Nowhere => None,
        }
    }

    /// Until this is dropped, no frame is moved. What devices do by their ports is waited for, and needs no such hold.
    pub(crate) fn hold_still(&self) -> impl Drop {
        self.foreign.hold_still()
    }

    /// The process that had this memory so far is another one from now on: this one is its copy.
    pub(crate) fn leave(&self, task: Task, other: &Arc<OtherProcess>, counts: PinCounts) {
        self.accounts.move_to(task, other);
        self.foreign.leave(task, other, counts);
    }

    /// Another process has calls made.
    pub(crate) fn admit(&self, task: Task, other: &Arc<OtherProcess>) {
        self.accounts.move_to(task, other);
        self.foreign.admit(task, other);
    }

    /// It has ended: its memory was set aside.
    pub(crate) fn forget(&self, task: Task) {
        self.foreign.forget(task);
        self.accounts.exit(task);
        self.accounts.put(task);
    }

    /// Whether a frame is machine RAM that somebody holds: memory that exists, whoever may use it.
    pub(crate) fn is_machine_ram(&self, frame: u64) -> bool {
        self.arena.is_held(frame)
    }
}
