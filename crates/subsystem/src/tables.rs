//! The tables of the subsystem: what is open, registered and shared.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::ctx::CallCtx;
use crate::host::{Alloc, Function, Host};
use crate::iommufd::Context;
use crate::mem::{IdError, IdMap, Slab};
use crate::rules::{Refusal, vfio as rules};
use crate::vfio::device::{Device, Identity};
use crate::vfio::file::{Access, DeviceFile, File, FileId, FileKind};

/// How many devices there can be: the number of minors of their nodes.
const DEVICES: u32 = 1 << 20;

/// Everything that is found by a number. Read for each call, written to register, unregister, open and release.
pub(crate) struct Tables<H: Host> {
    files: Slab<File>,
    devices: IdMap<Device<H>>,
    groups: IdMap<()>,
    contexts: IdMap<SharedContext<H>>,
}

/// A context and how many hold it: its file, and each device that is bound to it.
pub(crate) struct SharedContext<H: Host> {
    pub(crate) context: Context<H>,
    holders: AtomicU32,
}

impl<H: Host> SharedContext<H> {
    /// One holder more.
    pub(crate) fn hold(&self) {
        self.holders.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is decided of a device before it is registered.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// Whether it counts as one without an IOMMU.
    pub(crate) noiommu: bool,
    /// Whether it gets an iommu_group.
    pub(crate) grouped: bool,
    /// Whether it gets a node of its own.
    pub(crate) node: bool,
    /// Whether MSI-X vectors can be added while others are enabled.
    pub(crate) dynamic_msix: bool,
}

impl<H: Host> Tables<H> {
    /// Empty tables.
    pub(crate) const fn new() -> Self {
        Tables {
            files: Slab::new(),
            devices: IdMap::new(0, DEVICES - 1),
            groups: IdMap::new(0, DEVICES - 1),
            contexts: IdMap::new(0, u32::MAX - 1),
        }
    }

    /// How many files, devices and contexts there are.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (self.files.len(), self.devices.len(), self.contexts.len())
    }

    /// All contexts.
    pub(crate) fn contexts(&self) -> impl Iterator<Item = &Context<H>> {
        self.contexts.iter().map(|(_, shared)| &shared.context)
    }

    /// An open file.
    pub(crate) fn file(&self, id: FileId) -> Result<&File, Refusal> {
        self.files.get(id.0).ok_or(rules::FILE_CLOSED)
    }

    /// The context of a file or a binding.
    pub(crate) fn context(&self, number: u32) -> Result<&SharedContext<H>, Refusal> {
        self.contexts.get(number).ok_or(rules::FILE_CLOSED)
    }

    /// The device of an open file.
    pub(crate) fn device(&self, index: u32) -> Result<&Device<H>, Refusal> {
        self.devices.get(index).ok_or(rules::FILE_CLOSED)
    }

    /// The device of a function.
    pub(crate) fn device_of(&self, function: Function) -> Option<&Device<H>> {
        self.devices.iter().map(|(_, device)| device).find(|device| device.identity.function == function)
    }

    /// Registers a device, and makes it known by `publish`; where that fails, nothing was registered.
    pub(crate) fn register(
        &mut self,
        alloc: &impl Alloc,
        function: Function,
        kind: Kind,
        publish: impl FnOnce(Identity) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        if self.device_of(function).is_some() {
            return Err(rules::PROBE_TWICE);
        }
        let index = self.devices.lowest_free().ok_or(rules::PROBE_NO_INDEX)?;
        let group = match kind.grouped {
            true => Some(self.groups.insert(alloc, ()).map_err(no_index)?),
            false => None,
        };
        let identity = Identity { function, index, noiommu: kind.noiommu, group, has_node: kind.node };
        let added = self.devices.insert(alloc, Device::new(identity, kind.dynamic_msix));
        let added = added.map_err(no_index);
        added.and_then(|_| publish(identity)).inspect_err(|_| self.unregister(identity))
    }

    /// The driver lets go of a device; its identity, and `None` if the driver is not bound to the function.
    pub(crate) fn unbind_driver(&mut self, function: Function) -> Option<Identity> {
        let identity = self.device_of(function)?.identity;
        let device = self.devices.get_mut(identity.index)?;
        if !device.driver_bound {
            return None;
        }
        device.driver_bound = false;
        device.pci.begin_unbind();
        device.registration = device.registration.saturating_sub(1);
        Some(identity)
    }

    /// Forgets a device that nobody holds any more.
    pub(crate) fn unregister(&mut self, identity: Identity) {
        self.devices.remove(identity.index);
        self.free_group(identity.group);
    }

    fn free_group(&mut self, group: Option<u32>) {
        if let Some(group) = group {
            self.groups.remove(group);
        }
    }

    /// Opens `/dev/iommu` with a context of its own, which is made once nothing else can fail.
    pub(crate) fn open_context(
        &mut self,
        alloc: &impl Alloc,
        access: Access,
        context: impl FnOnce() -> Result<Context<H>, Refusal>,
    ) -> Result<FileId, Refusal> {
        self.files.reserve(alloc).map_err(|_| rules::NO_MEMORY)?;
        self.contexts.reserve(alloc).map_err(|_| rules::NO_MEMORY)?;
        let shared = SharedContext { context: context()?, holders: AtomicU32::new(1) };
        let number = self.contexts.insert(alloc, shared).map_err(|_| rules::NO_MEMORY)?;
        Ok(FileId(self.files.insert_reserved(File { access, kind: FileKind::Iommufd(number) })))
    }

    /// Opens the node of a device.
    pub(crate) fn open_device(
        &mut self,
        alloc: &impl Alloc,
        access: Access,
        function: Function,
        index: u32,
        privileged: bool,
    ) -> Result<FileId, Refusal> {
        let device = self.devices.get_mut(index).filter(|device| device.identity.function == function);
        let device = device.ok_or(rules::OPEN_NO_DEVICE)?;
        if device.registration == 0 {
            return Err(rules::OPEN_UNREGISTERED);
        }
        if device.identity.noiommu && !privileged {
            return Err(rules::OPEN_CAPABILITY);
        }
        let file = File { access, kind: FileKind::Device(DeviceFile::new(index)) };
        let id = self.files.insert(alloc, file).map_err(|_| rules::NO_MEMORY)?;
        device.registration = device.registration.saturating_add(1);
        Ok(FileId(id))
    }

    /// `IOMMU_FAULT_QUEUE_ALLOC` on an iommufd file: opens a file for the new queue, and gives the caller a descriptor of it.
    pub(crate) fn open_fault_queue(
        &mut self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        iommufd: FileId,
        argument: u64,
    ) -> Result<u32, Refusal> {
        let FileKind::Iommufd(context) = self.file(iommufd)?.kind else { return Err(rules::FILE_CLOSED) };
        let shared = self.contexts.get(context).ok_or(rules::FILE_CLOSED)?;
        let files = &mut self.files;
        shared.context.fault_queue_alloc(host, ctx, argument, |queue, give| {
            let kind = FileKind::FaultQueue { context, queue };
            let file = File { access: Access::READ_WRITE, kind };
            let key = files.insert(host, file).map_err(|_| rules::NO_MEMORY)?;
            give(FileId(key)).inspect_err(|_| {
                files.remove(key);
            })
        })?;
        shared.hold();
        Ok(0)
    }

    /// Forgets an open file.
    pub(crate) fn close(&mut self, id: FileId) -> Option<File> {
        self.files.remove(id.0)
    }

    /// A holder of a context is gone; the context if it was the last.
    pub(crate) fn put_context(&mut self, number: u32) -> Option<Context<H>> {
        let shared = self.contexts.get_mut(number)?;
        let holders = shared.holders.get_mut();
        *holders = holders.saturating_sub(1);
        if *holders > 0 {
            return None;
        }
        self.contexts.remove(number).map(|shared| shared.context)
    }

    /// A file of a device is gone; the function if somebody waits for its last one.
    pub(crate) fn put_registration(&mut self, index: u32) -> Option<Function> {
        let device = self.devices.get_mut(index)?;
        device.registration = device.registration.saturating_sub(1);
        (device.registration == 0).then_some(device.identity.function)
    }
}

fn no_index(error: IdError) -> Refusal {
    match error {
        IdError::OutOfMemory => rules::NO_MEMORY,
        IdError::Exhausted => rules::PROBE_NO_INDEX,
    }
}
