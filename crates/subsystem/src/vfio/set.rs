//! Device sets: what opening, binding and attaching of devices that are reset together happens under.
//!
//! A function on a root bus shares no reset with others and is alone in its set. That is every function here: the host
//! offers no slot or bus that could be reset.

use crate::host::{Host, Mutex as _};
use crate::iommufd::DeviceObject;

/// The set of one device: a lock, and what the device is open for.
pub(crate) struct DeviceSet<H: Host> {
    opened: H::Mutex<Option<Opened>>,
}

/// What a device is open for.
pub(crate) struct Opened {
    /// How many files have it open: one that was bound, or any number that its group gave out.
    pub(crate) files: u32,
    /// What it holds until the last of them is closed.
    pub(crate) hold: Hold,
}

/// What an open device holds.
pub(crate) enum Hold {
    /// A device object in a context.
    Binding(Binding),
    /// Its group, which stays open and in the native container of this number.
    Container(u32),
    /// Nothing: no context knows of a device without an IOMMU whose group has joined it.
    Nothing,
}

/// What a device is bound to.
pub(crate) struct Binding {
    /// The number of the context, which the binding keeps alive.
    pub(crate) context: u32,
    /// The device's object there.
    pub(crate) object: DeviceObject,
    /// Whether it has a page table.
    pub(crate) attachment: Attachment,
}

/// How a device is attached to a page table.
///
/// A device without an IOMMU has one slot for a page table, which ATTACH with PASID 0 takes too; but what was attached by
/// one form is detached by the same form only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attachment {
    /// Not at all.
    None,
    /// By ATTACH without a PASID.
    Plain,
    /// By ATTACH with PASID 0.
    PasidZero,
}

impl<H: Host> DeviceSet<H> {
    /// The set of a device that is not open.
    pub(crate) fn new() -> Self {
        DeviceSet { opened: H::Mutex::new(None) }
    }

    /// Runs `f` with the lock of the set held.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Option<Opened>) -> R) -> R {
        self.opened.with(f)
    }
}
