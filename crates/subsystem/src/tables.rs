//! The tables of the subsystem: what is open, registered and shared.

use core::sync::atomic::{AtomicU32, Ordering};

use uapi::Errno;

use crate::ctx::{CallCtx, Polling};
use crate::host::{Alloc, Function, Host, Mutex as _};
use crate::iommufd::Context;
use crate::iommufd::call::{DmaBuf, Exporter};
use crate::iommufd::selftest::buffer::{self, Buffer};
use crate::kconfig::Kconfig;
use crate::mem::{IdError, IdMap, Slab};
use crate::parameters::ModuleParameters;
use crate::rules::{Refusal, group as group_rules, selftest as test_rules, vfio as rules};
use crate::vfio::container::Container;
use crate::vfio::device::{Device, Identity, IommuKind};
use crate::vfio::driver::Driver;
use crate::vfio::file::{Access, DeviceFile, Exported, File, FileId, FileKind};
use crate::vfio::group::Group;
use crate::vfio::pci::PciOptions;
use crate::vfio::pci::dma_buf::Export;

/// How many devices there can be: the number of minors of their nodes.
const DEVICES: u32 = 1 << 20;

/// Everything that is found by a number. Read for each call, written to register, unregister, open and release.
pub(crate) struct Tables<H: Host> {
    files: Slab<File>,
    devices: IdMap<Device<H>>,
    groups: IdMap<Group<H>>,
    containers: Containers<H>,
    contexts: IdMap<SharedContext<H>>,
    /// The number of the newest dma-buf of a self-test.
    last_buffer: u32,
    modules: H::Mutex<ModuleParameters>,
}

/// Containers by number.
pub(crate) type Containers<H> = IdMap<Shared<Container<H>>>;

/// A context and its holders: its file, each device that is bound to it, and each group that has joined it.
pub(crate) type SharedContext<H> = Shared<Context<H>>;

/// What several hold.
pub(crate) struct Shared<T> {
    pub(crate) object: T,
    holders: AtomicU32,
}

/// What can be held by number, and is given back with [`Tables::put`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SharedId {
    /// A context.
    Context(u32),
    /// A native container.
    Container(u32),
}

impl<T> Shared<T> {
    fn new(object: T) -> Self {
        Shared { object, holders: AtomicU32::new(1) }
    }

    /// One holder more.
    pub(crate) fn hold(&self) {
        self.holders.fetch_add(1, Ordering::Relaxed);
    }

    /// One holder less; whether it was the last.
    fn put(&mut self) -> bool {
        let holders = self.holders.get_mut();
        *holders = holders.saturating_sub(1);
        *holders == 0
    }
}

/// What is decided of a device before it is registered.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// What stands between it and memory.
    pub(crate) iommu: IommuKind,
    /// Whether it gets an iommu_group.
    pub(crate) grouped: bool,
    /// Whether it gets a node of its own.
    pub(crate) node: bool,
    /// How a PCI function is driven.
    pub(crate) options: PciOptions,
}

impl<H: Host> Tables<H> {
    /// Empty tables.
    pub(crate) fn new(modules: ModuleParameters) -> Self {
        Tables {
            files: Slab::new(),
            devices: IdMap::new(0, DEVICES - 1),
            groups: IdMap::new(0, DEVICES - 1),
            containers: IdMap::new(0, u32::MAX - 1),
            contexts: IdMap::new(0, u32::MAX - 1),
            last_buffer: 0,
            modules: H::Mutex::new(modules),
        }
    }

    /// The module parameters at the moment. Nothing is locked under their lock.
    pub(crate) fn modules(&self) -> ModuleParameters {
        self.modules.with(|modules| *modules)
    }

    pub(crate) fn set_modules(&self, change: impl FnOnce(&mut ModuleParameters)) {
        self.modules.with(change);
    }

    /// How many files, devices, groups, containers and contexts there are.
    pub(crate) fn counts(&self) -> [usize; 5] {
        [self.files.len(), self.devices.len(), self.groups.len(), self.containers.len(), self.contexts.len()]
    }

    /// All contexts.
    pub(crate) fn contexts(&self) -> impl Iterator<Item = &Context<H>> {
        self.contexts.iter().map(|(_, shared)| &shared.object)
    }

    /// An open file.
    pub(crate) fn file(&self, id: FileId) -> Result<&File, Refusal> {
        self.files.get(id.0).ok_or(rules::FILE_CLOSED)
    }

    /// The context of a file or a binding.
    pub(crate) fn context(&self, number: u32) -> Result<&SharedContext<H>, Refusal> {
        self.contexts.get(number).ok_or(rules::FILE_CLOSED)
    }

    /// The group with a minor number, as long as it has devices or its file is open.
    pub(crate) fn group(&self, minor: u32) -> Option<&Group<H>> {
        self.groups.get(minor)
    }

    /// All containers.
    pub(crate) fn containers(&self) -> &Containers<H> {
        &self.containers
    }

    /// The container of a file or a group.
    pub(crate) fn container(&self, number: u32) -> Result<&Shared<Container<H>>, Refusal> {
        self.containers.get(number).ok_or(rules::FILE_CLOSED)
    }

    /// The device of an open file.
    pub(crate) fn device(&self, index: u32) -> Result<&Device<H>, Refusal> {
        self.devices.get(index).ok_or(rules::FILE_CLOSED)
    }

    /// All devices.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &Device<H>> {
        self.devices.iter().map(|(_, device)| device)
    }

    /// The device of a function.
    pub(crate) fn device_of(&self, function: Function) -> Option<&Device<H>> {
        self.devices().find(|device| device.identity.function == function)
    }

    /// Registers a device, and makes its nodes appear; where that fails, nothing was registered.
    pub(crate) fn register(&mut self, host: &H, function: Function, kind: Kind) -> Result<(), Refusal> {
        if self.device_of(function).is_some() {
            return Err(rules::PROBE_TWICE);
        }
        let index = self.devices.lowest_free().ok_or(rules::PROBE_NO_INDEX)?;
        let group = if kind.grouped { Some(self.find_group(host, function, kind.iommu)?) } else { None };
        let identity = Identity { function, index, iommu: kind.iommu, group, has_node: kind.node };
        self.add_device(host, identity, kind.options).inspect_err(|_| {
            self.unregister(host, identity);
        })
    }

    /// The minor number of the group of a function, which is made if there is none yet.
    fn find_group(&mut self, host: &H, function: Function, iommu: IommuKind) -> Result<u32, Refusal> {
        let number = host.iommu(function).map(|iommu| iommu.group);
        let found = |number| self.groups.iter().find(|(_, group)| group.takes(number));
        if let Some((minor, _)) = number.and_then(found) {
            return Ok(minor);
        }
        self.groups.reserve(host).map_err(no_index)?;
        let minor = self.groups.lowest_free().ok_or(rules::PROBE_NO_INDEX)?;
        self.groups.insert(host, Group::create(host, function, iommu, minor)?).map_err(no_index)
    }

    fn add_device(&mut self, host: &H, identity: Identity, options: PciOptions) -> Result<(), Refusal> {
        if let Some(group) = identity.group.and_then(|group| self.groups.get_mut(group)) {
            group.register(host, identity.index)?;
        }
        self.devices.insert(host, Device::new(host, identity, options)).map_err(no_index)?;
        identity.publish(host)?;
        identity.taint(host);
        Ok(())
    }

    /// The driver lets go of a device; its identity, and `None` if the driver is not bound to the function.
    pub(crate) fn unbind_driver(&mut self, function: Function) -> Option<Identity> {
        let identity = self.device_of(function)?.identity;
        let device = self.devices.get_mut(identity.index)?;
        if !device.driver_bound {
            return None;
        }
        device.driver_bound = false;
        if let Driver::Pci(pci) = &mut device.driver {
            pci.begin_unbind();
        }
        device.registration = device.registration.saturating_sub(1);
        if let Some(group) = identity.group.and_then(|group| self.groups.get_mut(group)) {
            group.withhold(identity.index);
        }
        Some(identity)
    }

    /// Forgets a device that nobody holds any more, and its group if it was the last one there.
    pub(crate) fn unregister(&mut self, host: &H, identity: Identity) {
        self.devices.remove(identity.index);
        let Some(minor) = identity.group else { return };
        let Tables { groups, containers, .. } = self;
        let left = groups.get_mut(minor).and_then(|group| {
            group.withhold(identity.index);
            group.unregister(host, containers, identity.function)
        });
        if let Some(left) = left {
            self.put(left);
        }
        self.forget_group(minor);
    }

    /// Forgets a group that has no device any more, and is not open.
    fn forget_group(&mut self, minor: u32) {
        if self.groups.get(minor).is_some_and(Group::is_over) {
            self.groups.remove(minor);
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
        let number = self.contexts.insert(alloc, Shared::new(context()?)).map_err(|_| rules::NO_MEMORY)?;
        Ok(FileId(self.files.insert_reserved(File { access, kind: FileKind::Iommufd(number) })))
    }

    /// Opens `/dev/vfio/vfio` with a native container of its own.
    pub(crate) fn open_container(&mut self, alloc: &impl Alloc, access: Access) -> Result<FileId, Refusal> {
        self.files.reserve(alloc).map_err(|_| rules::NO_MEMORY)?;
        let number =
            self.containers.insert(alloc, Shared::new(Container::new())).map_err(|_| rules::NO_MEMORY)?;
        Ok(FileId(self.files.insert_reserved(File { access, kind: FileKind::Container(number) })))
    }

    /// Opens the node of a group.
    pub(crate) fn open_group(
        &mut self,
        alloc: &impl Alloc,
        access: Access,
        (minor, number): (u32, u32),
        privileged: bool,
    ) -> Result<FileId, Refusal> {
        let group = self.groups.get(minor).filter(|group| group.number() == number);
        let group = group.ok_or(group_rules::GROUP_UNKNOWN)?;
        self.files.reserve(alloc).map_err(|_| rules::NO_MEMORY)?;
        group.open(privileged)?;
        Ok(FileId(self.files.insert_reserved(File { access, kind: FileKind::Group(minor) })))
    }

    /// A file for the device that a name stands for in a group; it is not open yet.
    pub(crate) fn open_group_device(&mut self, host: &H, minor: u32, name: &[u8]) -> Result<FileId, Refusal> {
        let group = self.groups.get(minor).ok_or(rules::FILE_CLOSED)?;
        let index = group.find(self, host, name)?;
        let kind = FileKind::Device(DeviceFile::of_group(index));
        let id = self.files.insert(host, File { access: Access::READ_WRITE, kind });
        let id = id.map_err(|_| rules::NO_MEMORY)?;
        if let Some(device) = self.devices.get_mut(index) {
            device.registration = device.registration.saturating_add(1);
        }
        Ok(FileId(id))
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
        if device.identity.is_noiommu() && !privileged {
            return Err(rules::OPEN_CAPABILITY);
        }
        let file = File { access, kind: FileKind::Device(DeviceFile::of_node(index)) };
        let id = self.files.insert(alloc, file).map_err(|_| rules::NO_MEMORY)?;
        device.registration = device.registration.saturating_add(1);
        Ok(FileId(id))
    }

    /// A command on an iommufd file that makes a queue: opens a file for it, and gives the caller a descriptor of that.
    pub(crate) fn open_queue(
        &mut self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        iommufd: FileId,
        call: (u32, u64),
    ) -> Result<u32, Refusal> {
        let FileKind::Iommufd(context) = self.file(iommufd)?.kind else { return Err(rules::FILE_CLOSED) };
        let shared = self.contexts.get(context).ok_or(rules::FILE_CLOSED)?;
        let files = &mut self.files;
        shared.object.queue_alloc(host, ctx, call, &mut |queue, give| {
            let kind = FileKind::Queue { context, queue };
            open_given(files, host, kind, give)
        })?;
        shared.hold();
        Ok(0)
    }

    /// `CREATE_ACCESS` of `IOMMU_TEST_CMD` on an iommufd file: opens a file for the new access, and gives the caller a
    /// descriptor of it.
    pub(crate) fn open_test_access(
        &mut self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        iommufd: FileId,
        argument: u64,
    ) -> Result<u32, Refusal> {
        let FileKind::Iommufd(context) = self.file(iommufd)?.kind else { return Err(rules::FILE_CLOSED) };
        let shared = self.contexts.get(context).ok_or(rules::FILE_CLOSED)?;
        let files = &mut self.files;
        shared.object.test_access_new(host, ctx, argument, |access, give| {
            let kind = FileKind::TestAccess { context, access };
            open_given(files, host, kind, give)
        })?;
        shared.hold();
        Ok(0)
    }

    /// `VFIO_DEVICE_FEATURE_DMA_BUF` on the file of a device: opens a file for a part of a BAR; the caller's descriptor of it.
    pub(crate) fn open_dma_buf(
        &mut self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        kconfig: Kconfig,
        device: u32,
        argument: u64,
    ) -> Result<u32, Refusal> {
        let pci = self.device(device)?.pci().ok_or(rules::FEATURE_UNKNOWN)?;
        let Some(export) = pci.export(host, ctx, kconfig, argument)? else { return Ok(0) };
        self.give_dma_buf(host, ctx, Exported::Bar(export))
    }

    /// `DMABUF_GET` of `IOMMU_TEST_CMD`: opens a file for memory of a test. The caller gets a descriptor of it, and is not told which, as
    /// in Linux.
    pub(crate) fn open_test_buffer(
        &mut self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        argument: u64,
    ) -> Result<u32, Refusal> {
        let length = buffer::wanted(host, ctx, argument)?;
        let number = self.last_buffer.wrapping_add(1);
        self.give_dma_buf(host, ctx, Exported::Test(Buffer { number, length, revoked: false }))?;
        self.last_buffer = number;
        Ok(0)
    }

    /// `DMABUF_REVOKE` of `IOMMU_TEST_CMD`: whatever is mapped of a dma-buf is not there any more, and it can be mapped again or not.
    pub(crate) fn revoke_test_buffer(
        &mut self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        argument: u64,
    ) -> Result<u32, Refusal> {
        let (file, revoked) = buffer::revoked(host, ctx, argument)?;
        let number = match self.files.get_mut(file.0).map(|file| &mut file.kind) {
            Some(FileKind::DmaBuf(Exported::Test(buffer))) => {
                buffer.revoked = revoked;
                buffer.number
            }
            Some(FileKind::DmaBuf(Exported::Bar(_))) => return Err(test_rules::BUFFER_OTHER),
            _ => return Err(test_rules::BUFFER_FILE),
        };
        self.contexts().for_each(|context| context.revoke_test_buffer(number));
        Ok(0)
    }

    /// Opens a file for a dma-buf; the caller's descriptor of it.
    fn give_dma_buf(&mut self, host: &H, ctx: &CallCtx<'_, H>, of: Exported) -> Result<u32, Refusal> {
        let file = File { access: Access::READ_WRITE, kind: FileKind::DmaBuf(of) };
        let key = self.files.insert(host, file).map_err(|_| rules::NO_MEMORY)?;
        let mut descriptor = 0;
        let installed = ctx.files.install(FileId(key), Polling::State { writable: true }, &mut |fd| {
            descriptor = fd;
            Ok(())
        });
        match installed {
            Ok(()) => Ok(descriptor.cast_unsigned()),
            Err(errno) => {
                self.files.remove(key);
                Err(if errno == Errno::ENOMEM { rules::NO_MEMORY } else { rules::DMA_BUF_DESCRIPTOR })
            }
        }
    }

    /// The dma-buf that a file is.
    pub(crate) fn exported(&self, file: FileId) -> Option<DmaBuf> {
        let export = match self.file(file).ok()?.kind {
            FileKind::DmaBuf(Exported::Bar(export)) => export,
            FileKind::DmaBuf(Exported::Test(buffer)) => return Some(buffer.dma_buf()),
            _ => return None,
        };
        let pci = self.device_of(export.function).and_then(Device::pci);
        let answers = pci.is_some_and(|pci| pci.is_exported(&export));
        let Export { function, address, length, single, .. } = export;
        Some(DmaBuf { exporter: Exporter::Function(function), address, length, single, answers })
    }

    /// Forgets an open file.
    pub(crate) fn close(&mut self, id: FileId) -> Option<File> {
        let file = self.files.remove(id.0)?;
        if let FileKind::Group(minor) = file.kind {
            self.forget_group(minor);
        }
        Some(file)
    }

    /// A holder of something shared is gone; a context that had no other is to be closed.
    pub(crate) fn put(&mut self, id: SharedId) -> Option<Context<H>> {
        match id {
            SharedId::Context(number) if self.contexts.get_mut(number)?.put() => {
                self.contexts.remove(number).map(|shared| shared.object)
            }
            SharedId::Container(number) if self.containers.get_mut(number)?.put() => {
                // No group has joined it any more: nothing is mapped there.
                self.containers.remove(number);
                None
            }
            SharedId::Context(_) | SharedId::Container(_) => None,
        }
    }

    /// A file of a device is gone; the function if somebody waits for its last one.
    pub(crate) fn put_registration(&mut self, index: u32) -> Option<Function> {
        let device = self.devices.get_mut(index)?;
        device.registration = device.registration.saturating_sub(1);
        (device.registration == 0).then_some(device.identity.function)
    }
}

/// Opens a file that `give` gives the caller a descriptor of. All or nothing.
fn open_given(
    files: &mut Slab<File>,
    alloc: &impl Alloc,
    kind: FileKind,
    give: &mut dyn FnMut(FileId) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let file = File { access: Access::READ_WRITE, kind };
    let key = files.insert(alloc, file).map_err(|_| rules::NO_MEMORY)?;
    give(FileId(key)).inspect_err(|_| {
        files.remove(key);
    })
}

fn no_index(error: IdError) -> Refusal {
    match error {
        IdError::OutOfMemory => rules::NO_MEMORY,
        IdError::Exhausted => rules::PROBE_NO_INDEX,
    }
}
