//! The subsystem: the calls that the host passes on to it.
//!
//! # Lock order
//!
//! Each lock is taken before those behind it, and never twice:
//!
//! 1. the tables: read for each call, written only to register, unregister, open and release, and for a hot reset, in which
//!    every device of a bus takes part;
//! 2. a group: opening it, what it has joined;
//! 3. the lock of a device set: opening, binding, attaching;
//! 4. a container, or within iommufd: objects of a context, an IOAS, its pages;
//! 5. a device: its interrupts and the shadow of its configuration space;
//! 6. a device: whether its memory answers (read for each access to a BAR);
//! 7. a physical function: who may use its virtual ones;
//! 8. the module parameters, for as long as they are read or set;
//! 9. whatever the host takes to answer [`Host`], which never calls back.
//!
//! Removal sleeps without any of them.

use core::sync::atomic::{AtomicBool, Ordering};

use uapi::Errno;
use uapi::iommufd::IOMMU_FAULT_QUEUE_ALLOC;
use uapi::vfio::{
    VFIO_DEVICE_FEATURE, VFIO_DEVICE_PCI_HOT_RESET, VFIO_GROUP_GET_DEVICE_FD, VFIO_GROUP_UNSET_CONTAINER,
};

use crate::ctx::{CallCtx, Polling};
use crate::host::{Function, Host, Level, Node, NodeKind, RwLock as _, Sriov, Transfer, Watch};
use crate::iommufd::{Context, fault_queue};
use crate::kconfig::{Kconfig, Symbol};
use crate::parameters::{ModuleParameters, Parameters};
use crate::rules::{Refusal, group as group_rules, iommufd as iommufd_rules, vfio as rules};
use crate::tables::{Kind, SharedId, Tables};
use crate::vfio::device::{Device, IommuKind, wait_for_users};
use crate::vfio::emulated::{self, Request};
use crate::vfio::file::{DeviceFile, File, FileKind};
use crate::vfio::{
    Access, FileId, MapRequest, MappedRegion, Ready, Whence, cdev, container, group, hot_reset, noiommu, pci,
};

/// What the subsystem holds at a moment. All zero when every file is closed and every function removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Open files.
    pub files: u64,
    /// Registered devices.
    pub devices: u64,
    /// Groups that have devices, or are open.
    pub groups: u64,
    /// Native containers.
    pub containers: u64,
    /// iommufd contexts.
    pub contexts: u64,
    /// Objects in them.
    pub objects: u64,
    /// Mapped areas in them.
    pub areas: u64,
    /// Records of backing memory in them.
    pub pages: u64,
}

/// VFIO and IOMMUFD on a host.
pub struct Subsystem<H: Host> {
    host: H,
    kconfig: Kconfig,
    dynamic_msix: bool,
    /// Whether the log says who provides the container's node.
    container_told: AtomicBool,
    tables: H::RwLock<Tables<H>>,
}

const IOMMUFD_NODE: Node = Node { kind: NodeKind::Iommufd, mode: 0o660 };
const CONTAINER_NODE: Node = Node { kind: NodeKind::Container, mode: 0o666 };

/// Registration.
impl<H: Host> Subsystem<H> {
    /// Starts, and makes the nodes appear that are always there.
    pub fn new(host: H, parameters: Parameters) -> Result<Self, Refusal> {
        let has = |symbol| parameters.kconfig.has(symbol);
        if has(Symbol::Iommufd) {
            host.node_add(IOMMUFD_NODE).map_err(|_| rules::PROBE_NODE)?;
        }
        if has(Symbol::VfioContainer) || has(Symbol::IommufdVfioContainer) {
            host.node_add(CONTAINER_NODE).map_err(|_| {
                if has(Symbol::Iommufd) {
                    host.node_remove(IOMMUFD_NODE);
                }
                rules::PROBE_NODE
            })?;
        }
        Ok(Subsystem {
            host,
            kconfig: parameters.kconfig,
            dynamic_msix: parameters.dynamic_msix,
            container_told: AtomicBool::new(false),
            tables: H::RwLock::new(Tables::new(parameters.modules)),
        })
    }

    /// The host.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// The module parameters.
    pub fn modules(&self) -> ModuleParameters {
        self.tables.read(Tables::modules)
    }

    /// Changes module parameters.
    pub fn set_modules(&self, change: impl FnOnce(&mut ModuleParameters)) {
        self.tables.read(|tables| tables.set_modules(change));
    }

    /// The driver vfio-pci is bound to a function: registers a device and makes its nodes appear. What is refused leaves
    /// no trace.
    pub fn probe(&self, function: Function) -> Result<(), Refusal> {
        if pci::is_bridge(&self.host, function) {
            return Err(rules::PROBE_BRIDGE);
        }
        if let Sriov::Physical { enabled: 1.. } = self.host.sriov(function) {
            let line = format_args!("Cannot bind to PF with SR-IOV enabled");
            self.host.log(Level::Warn, Some(function), line);
            return Err(rules::PROBE_SRIOV);
        }
        let mode = self.modules().unsafe_noiommu_mode;
        let iommu = noiommu::decide(&self.host, self.kconfig, mode, function)?;
        self.register(function, iommu)
    }

    /// A driver that emulates a device registers it, and its nodes appear (`vfio_register_emulated_iommu_dev`). What is
    /// refused leaves no trace.
    pub fn register_emulated(&self, function: Function) -> Result<(), Refusal> {
        self.register(function, IommuKind::Emulated)
    }

    fn register(&self, function: Function, iommu: IommuKind) -> Result<(), Refusal> {
        let grouped = self.kconfig.has(Symbol::VfioGroup);
        let node = noiommu::has_node(self.kconfig, iommu);
        let options = pci::PciOptions {
            dynamic_msix: self.dynamic_msix,
            runtime_power: self.kconfig.has(Symbol::Pm),
            vga: self.kconfig.has(Symbol::VfioPciVga),
        };
        let kind = Kind { iommu, grouped, node, options };
        self.tables.write(|tables| tables.register(&self.host, function, kind))
    }

    /// The driver is unbound: takes the device's node away, then sleeps until every file of the device is closed. Does
    /// nothing if the driver is not bound to the function.
    pub fn remove(&self, function: Function) {
        let Some(identity) = self.tables.write(|tables| tables.unbind_driver(function)) else { return };
        identity.withdraw(&self.host);
        let request = |round| {
            self.tables.read(|tables| {
                let users = tables.device_of(function).filter(|device| device.registration > 0);
                users.inspect(|device| device.driver.request(&self.host, round)).is_some()
            })
        };
        wait_for_users(&self.host, function, request);
        self.tables.write(|tables| tables.unregister(&self.host, identity));
    }

    /// What is held at the moment.
    pub fn usage(&self) -> Usage {
        self.tables.read(|tables| {
            let [files, devices, groups, containers, contexts] = tables.counts().map(|count| count as u64);
            let mut usage = Usage { files, devices, groups, containers, contexts, ..Usage::default() };
            let mapped = tables.containers().iter().map(|(_, shared)| shared.object.mappings() as u64);
            usage.areas = mapped.sum();
            for held in tables.contexts().map(|context| context.usage()) {
                usage.objects = usage.objects.saturating_add(held.objects as u64);
                usage.areas = usage.areas.saturating_add(held.areas as u64);
                usage.pages = usage.pages.saturating_add(held.pages as u64);
            }
            usage
        })
    }
}

/// Opening and closing.
impl<H: Host> Subsystem<H> {
    /// Opens a node.
    pub fn open(&self, ctx: &CallCtx<'_, H>, node: NodeKind, access: Access) -> Result<FileId, Refusal> {
        match node {
            NodeKind::Device { function, index, .. } => self
                .tables
                .write(|tables| tables.open_device(&self.host, access, function, index, ctx.caps.sys_rawio)),
            NodeKind::ClassDevice { .. } => Err(rules::OPEN_NO_DEVICE),
            NodeKind::Group { minor, group, .. } => self
                .tables
                .write(|tables| tables.open_group(&self.host, access, (minor, group), ctx.caps.sys_rawio)),
            NodeKind::Iommufd => self.tables.write(|tables| {
                tables.open_context(&self.host, access, || Context::new(&self.host, self.kconfig))
            }),
            NodeKind::Container if self.kconfig.has(Symbol::IommufdVfioContainer) => {
                let opened = self.tables.write(|tables| {
                    tables
                        .open_context(&self.host, access, || Context::new_container(&self.host, self.kconfig))
                })?;
                if !self.container_told.swap(true, Ordering::Relaxed) {
                    let line = format_args!("iommufd: IOMMUFD is providing /dev/vfio/vfio, not VFIO.");
                    self.host.log(Level::Info, None, line);
                }
                Ok(opened)
            }
            NodeKind::Container => self.tables.write(|tables| tables.open_container(&self.host, access)),
        }
    }

    /// The last descriptor and the last mapping of a file are gone.
    pub fn release(&self, id: FileId) {
        let left = self.tables.read(|tables| match tables.file(id).map(|file| &file.kind) {
            Ok(FileKind::Device(file)) => cdev::close(tables, &self.host, file),
            Ok(FileKind::Group(minor)) => {
                tables.group(*minor).and_then(|group| group.close(&self.host, tables.containers()))
            }
            Ok(FileKind::Iommufd(context)) => Some(SharedId::Context(*context)),
            Ok(FileKind::Container(number)) => Some(SharedId::Container(*number)),
            Ok(FileKind::DmaBuf(_)) => None,
            Ok(FileKind::FaultQueue { context, queue }) => {
                if let Ok(shared) = tables.context(*context) {
                    shared.object.fault_queue_closed(*queue);
                }
                Some(SharedId::Context(*context))
            }
            Err(_) => None,
        });
        self.forget(id);
        if let Some(left) = left {
            self.put(left);
        }
    }

    /// Forgets a file; whoever waits for its device is woken.
    fn forget(&self, id: FileId) {
        let woken = self.tables.write(|tables| match tables.close(id)?.kind {
            FileKind::Device(file) => {
                if let Ok(device) = tables.device(file.device)
                    && device.pci().is_some()
                {
                    hot_reset::after_close(tables, &self.host, device);
                }
                tables.put_registration(file.device)
            }
            _ => None,
        });
        if let Some(function) = woken {
            self.host.wake(function);
        }
    }

    /// A holder of something shared is gone.
    fn put(&self, id: SharedId) {
        if let Some(context) = self.tables.write(|tables| tables.put(id)) {
            context.close(&self.host);
        }
    }
}

/// Calls on open files.
impl<H: Host> Subsystem<H> {
    /// `ioctl(2)`; the value is what a successful call returns.
    pub fn ioctl(
        &self,
        ctx: &CallCtx<'_, H>,
        file: FileId,
        command: u32,
        argument: u64,
    ) -> Result<u32, Refusal> {
        match command {
            IOMMU_FAULT_QUEUE_ALLOC if self.is_iommufd(file) => {
                self.tables.write(|tables| tables.open_fault_queue(&self.host, ctx, file, argument))
            }
            VFIO_GROUP_GET_DEVICE_FD if let Some(minor) = self.group_of(file) => {
                self.open_group_device(ctx, minor, argument)
            }
            VFIO_GROUP_UNSET_CONTAINER if let Some(minor) = self.group_of(file) => {
                self.unset_container(minor)
            }
            VFIO_DEVICE_FEATURE if let Some(device) = self.exporter_of(file, ctx, argument) => {
                let kconfig = self.kconfig;
                self.tables.write(|tables| tables.open_dma_buf(&self.host, ctx, kconfig, device, argument))
            }
            // Every device of the bus takes part, so nobody else does anything meanwhile.
            VFIO_DEVICE_PCI_HOT_RESET => {
                self.tables.write(|tables| self.ioctl_in(tables, ctx, file, command, argument))
            }
            _ => self.tables.read(|tables| self.ioctl_in(tables, ctx, file, command, argument)),
        }
    }

    /// A command that opens nothing and puts nothing.
    fn ioctl_in(
        &self,
        tables: &Tables<H>,
        ctx: &CallCtx<'_, H>,
        file: FileId,
        command: u32,
        argument: u64,
    ) -> Result<u32, Refusal> {
        match &tables.file(file)?.kind {
            FileKind::Iommufd(number) => {
                let exports = |file| tables.exported(file);
                tables.context(*number)?.object.ioctl_with(&self.host, ctx, &exports, command, argument)
            }
            FileKind::Device(file) => cdev::ioctl(tables, &self.host, ctx, file, command, argument),
            FileKind::Group(minor) => {
                let group = tables.group(*minor).ok_or(rules::FILE_CLOSED)?;
                group.ioctl(tables, &self.host, ctx, command, argument)
            }
            FileKind::Container(number) => {
                let modules = tables.modules();
                let call = container::Call { host: &self.host, ctx, modules, command, argument };
                tables.container(*number)?.object.ioctl(&call)
            }
            FileKind::DmaBuf(_) => Err(rules::DMA_BUF_IOCTL),
            FileKind::FaultQueue { .. } => Err(iommufd_rules::FAULT_QUEUE_IOCTL),
        }
    }

    /// The device whose file was granted and is asked to export a part of a BAR.
    fn exporter_of(&self, file: FileId, ctx: &CallCtx<'_, H>, argument: u64) -> Option<u32> {
        let device = self.tables.read(|tables| match &tables.file(file).ok()?.kind {
            FileKind::Device(file) if file.granted() => {
                tables.device(file.device).ok()?.pci().map(|_| file.device)
            }
            _ => None,
        });
        device.filter(|_| pci::dma_buf::is_asked(ctx, argument))
    }

    fn is_iommufd(&self, file: FileId) -> bool {
        self.tables
            .read(|tables| tables.file(file).is_ok_and(|file| matches!(file.kind, FileKind::Iommufd(_))))
    }

    /// The minor number of the group that a file is of.
    fn group_of(&self, file: FileId) -> Option<u32> {
        self.tables.read(|tables| match tables.file(file).ok()?.kind {
            FileKind::Group(minor) => Some(minor),
            _ => None,
        })
    }

    /// `VFIO_GROUP_UNSET_CONTAINER`
    fn unset_container(&self, minor: u32) -> Result<u32, Refusal> {
        let left = self.tables.read(|tables| {
            tables.group(minor).ok_or(rules::FILE_CLOSED)?.unset_container(&self.host, tables.containers())
        })?;
        if let Some(left) = left {
            self.put(left);
        }
        Ok(0)
    }

    /// `VFIO_GROUP_GET_DEVICE_FD`: the descriptor comes first, and tells its number only if the device was opened.
    fn open_group_device(&self, ctx: &CallCtx<'_, H>, minor: u32, argument: u64) -> Result<u32, Refusal> {
        let name = group::read_name(&self.host, ctx.memory, argument)?;
        let file = self
            .tables
            .write(|tables| tables.open_group_device(&self.host, minor, name.iter().as_slice()))?;
        let mut opened = None;
        let installed = ctx.files.install(file, Polling::None, &mut |number| {
            let result = self.tables.read(|tables| self.open_device(tables, ctx, minor, file));
            opened = Some(result.map(|()| number.cast_unsigned()));
            result.map_err(Refusal::errno)
        });
        match (installed, opened) {
            (Ok(()), Some(Ok(number))) => Ok(number),
            (_, opened) => {
                self.release(file);
                Err(match opened {
                    Some(Err(refusal)) => refusal,
                    _ if installed == Err(Errno::EMFILE) => group_rules::DEVICE_FD_DESCRIPTOR,
                    _ => rules::NO_MEMORY,
                })
            }
        }
    }

    /// Opens the device of a file that its group is about to give out.
    fn open_device(
        &self,
        tables: &Tables<H>,
        ctx: &CallCtx<'_, H>,
        minor: u32,
        file: FileId,
    ) -> Result<(), Refusal> {
        let group = tables.group(minor).ok_or(rules::FILE_CLOSED)?;
        let FileKind::Device(file) = &tables.file(file)?.kind else { return Err(rules::FILE_CLOSED) };
        group.open_device(tables, &self.host, ctx, tables.device(file.device)?)?;
        file.grant();
        Ok(())
    }

    /// `pread(2)`; the number of bytes that were read.
    pub fn read(
        &self,
        _ctx: &CallCtx<'_, H>,
        file: FileId,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<usize, Refusal> {
        self.tables.read(|tables| {
            let File { access, kind } = tables.file(file)?;
            match kind {
                _ if !access.read => Err(rules::FILE_NOT_READABLE),
                FileKind::Iommufd(_) => Err(rules::IOMMUFD_READ),
                FileKind::Group(_) | FileKind::Container(_) => Err(group_rules::FILE_READ),
                FileKind::Device(file) => bound(tables, file)?.driver.read(&self.host, offset, bytes),
                FileKind::DmaBuf(_) => Err(rules::DMA_BUF_POSITION),
                FileKind::FaultQueue { .. } => Err(iommufd_rules::FAULT_QUEUE_POSITION),
            }
        })
    }

    /// `read(2)`; the number of bytes that were read. A file that has positions is read at its start: where it is after
    /// other reads, the host knows, and calls [`Subsystem::read`].
    pub fn read_stream(
        &self,
        ctx: &CallCtx<'_, H>,
        file: FileId,
        bytes: &mut [u8],
    ) -> Result<usize, Refusal> {
        match self.stream(file) {
            Some(Stream::FaultQueue) => fault_queue::read(bytes),
            Some(Stream::DmaBuf) => Err(rules::DMA_BUF_ACCESS),
            None => self.read(ctx, file, 0, bytes),
        }
    }

    /// `write(2)`; the number of bytes that were written. A file that has positions is written at its start.
    pub fn write_stream(&self, ctx: &CallCtx<'_, H>, file: FileId, bytes: &[u8]) -> Result<usize, Refusal> {
        match self.stream(file) {
            Some(Stream::FaultQueue) => fault_queue::write(bytes),
            Some(Stream::DmaBuf) => Err(rules::DMA_BUF_ACCESS),
            None => self.write(ctx, file, 0, bytes),
        }
    }

    /// `poll(2)`. A fault queue is readable while faults are queued, which never are; every other file is always ready.
    pub fn poll(&self, file: FileId) -> Ready {
        Ready { read: self.stream(file) != Some(Stream::FaultQueue), write: true }
    }

    fn stream(&self, file: FileId) -> Option<Stream> {
        self.tables.read(|tables| match tables.file(file).ok()?.kind {
            FileKind::FaultQueue { .. } => Some(Stream::FaultQueue),
            FileKind::DmaBuf(_) => Some(Stream::DmaBuf),
            _ => None,
        })
    }

    /// `pwrite(2)`; the number of bytes that were written.
    pub fn write(
        &self,
        _ctx: &CallCtx<'_, H>,
        file: FileId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<usize, Refusal> {
        self.tables.read(|tables| {
            let File { access, kind } = tables.file(file)?;
            match kind {
                _ if !access.write => Err(rules::FILE_NOT_WRITABLE),
                FileKind::Iommufd(_) => Err(rules::IOMMUFD_WRITE),
                FileKind::Group(_) | FileKind::Container(_) => Err(group_rules::FILE_WRITE),
                FileKind::Device(file) => bound(tables, file)?.driver.write(&self.host, offset, bytes),
                FileKind::DmaBuf(_) => Err(rules::DMA_BUF_POSITION),
                FileKind::FaultQueue { .. } => Err(iommufd_rules::FAULT_QUEUE_POSITION),
            }
        })
    }

    /// `mmap(2)`; the file is not released while the mapping lives.
    pub fn map(
        &self,
        _ctx: &CallCtx<'_, H>,
        file: FileId,
        request: MapRequest,
    ) -> Result<MappedRegion, Refusal> {
        let MapRequest { offset, length, shared, writable, executable } = request;
        self.tables.read(|tables| {
            let File { access, kind } = tables.file(file)?;
            match kind {
                _ if length == 0 => Err(rules::MAP_EMPTY),
                _ if !offset.is_multiple_of(H::PAGE) => Err(rules::MAP_UNALIGNED),
                _ if shared && writable && !access.write => Err(rules::MAP_NOT_WRITABLE),
                _ if !access.read => Err(rules::MAP_NOT_READABLE),
                FileKind::Iommufd(_) if !shared => Err(rules::IOMMUFD_MAP_PRIVATE),
                FileKind::Iommufd(_) if executable => Err(rules::IOMMUFD_MAP_EXECUTABLE),
                FileKind::Iommufd(_) => Err(rules::IOMMUFD_MAP),
                FileKind::Group(_) | FileKind::Container(_) => Err(group_rules::FILE_MAP),
                FileKind::Device(file) => bound(tables, file)?.driver.map(&self.host, request),
                FileKind::DmaBuf(_) => Err(rules::DMA_BUF_ACCESS),
                FileKind::FaultQueue { .. } => Err(iommufd_rules::FAULT_QUEUE_MAP),
            }
        })
    }

    /// `lseek(2)`: only a dma-buf has a place to go to, its start or its end.
    pub fn seek(&self, file: FileId, whence: Whence, offset: i64) -> Result<u64, Refusal> {
        self.tables.read(|tables| match tables.file(file)?.kind {
            FileKind::DmaBuf(export) => match (whence, offset) {
                (Whence::Start, 0) => Ok(0),
                (Whence::End, 0) => Ok(export.length),
                _ => Err(rules::DMA_BUF_SEEK),
            },
            FileKind::FaultQueue { .. } => Err(iommufd_rules::FAULT_QUEUE_POSITION),
            FileKind::Iommufd(_) | FileKind::Device(_) | FileKind::Group(_) | FileKind::Container(_) => {
                Err(rules::FILE_SEEK)
            }
        })
    }

    /// What `/proc/self/fdinfo/N` says beyond what it says of every file, in whole lines.
    pub fn fdinfo(&self, file: FileId, write: &mut dyn FnMut(&str)) {
        self.tables.read(|tables| {
            if let Ok(File { kind: FileKind::Device(file), .. }) = tables.file(file)
                && let Ok(device) = tables.device(file.device)
            {
                write("vfio-device-syspath: /sys");
                self.host.sysfs_path(device.identity.function, write);
                write("\n");
            }
        });
    }
}

/// What comes from the bus.
impl<H: Host> Subsystem<H> {
    /// The INTx line of a function rose. Called from the host's outbox, never from within a call.
    pub fn line_event(&self, function: Function) {
        self.tables.read(|tables| {
            if let Some(pci) = tables.device_of(function).and_then(Device::pci) {
                pci.line_event(&self.host);
            }
        });
    }

    /// The eventfd of a [`Watch`] was signalled. Called from the host's outbox, never from within a call.
    pub fn watch_event(&self, function: Function, watch: Watch) {
        self.tables.read(|tables| {
            let Some(pci) = tables.device_of(function).and_then(Device::pci) else { return };
            match watch {
                Watch::Unmask => pci.unmask_event(&self.host),
                Watch::Write(number) => pci.write_event(&self.host, number),
            }
        });
    }
}

/// What comes from drivers of emulated devices. Called from the host's outbox, never from within a call.
impl<H: Host> Subsystem<H> {
    /// `vfio_pin_pages`: pins the pages from `iova` on, a multiple of the page size, for a device that is open. The driver is
    /// told of them with [`Emulated::pages_pinned`](crate::Emulated::pages_pinned), and has them until it gives them back
    /// or [`Emulated::dma_unmap`](crate::Emulated::dma_unmap) takes them.
    pub fn pin_pages(&self, function: Function, iova: u64, pages: u64, write: bool) -> Result<(), Refusal> {
        self.serve(function, iova, Request::Pin { pages, write })
    }

    /// `vfio_unpin_pages`: gives back what was pinned with one call, if it was not taken.
    pub fn unpin_pages(&self, function: Function, iova: u64, pages: u64) {
        // A device that was closed has nothing pinned.
        let _nothing = self.serve(function, iova, Request::Unpin { pages });
    }

    /// `vfio_dma_rw`: copies from or to the memory at an IOVA, for a device that is open. What was copied before a refusal
    /// stays.
    pub fn transfer(&self, function: Function, iova: u64, bytes: Transfer<'_>) -> Result<(), Refusal> {
        self.serve(function, iova, Request::Transfer(bytes))
    }

    fn serve(&self, function: Function, iova: u64, request: Request<'_>) -> Result<(), Refusal> {
        self.tables.read(|tables| emulated::serve(tables, &self.host, function, iova, request))
    }
}

/// A file without positions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    FaultQueue,
    DmaBuf,
}

/// The device of a file that was bound.
fn bound<'a, H: Host>(tables: &'a Tables<H>, file: &DeviceFile) -> Result<&'a Device<H>, Refusal> {
    if !file.granted() {
        return Err(rules::NOT_BOUND);
    }
    tables.device(file.device)
}
