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
//! 4. a container, or within iommufd: objects of a context, an IOAS, its pages, the unit of the self-tests;
//! 5. a device: its interrupts and the shadow of its configuration space;
//! 6. a device: whether its memory answers (read for each access to a BAR);
//! 7. a physical function: who may use its virtual ones;
//! 8. the module parameters, for as long as they are read or set;
//! 9. whatever the host takes to answer [`Host`], which never calls back.
//!
//! Removal sleeps without any of them.

mod calls;

use core::sync::atomic::{AtomicBool, Ordering};

use crate::ctx::CallCtx;
use crate::host::{Function, Host, Level, Node, NodeKind, RwLock as _, Sriov, Transfer, Watch};
use crate::iommufd::Context;
use crate::kconfig::{Kconfig, Symbol};
use crate::parameters::{ModuleParameters, Parameters};
use crate::rules::{Refusal, vfio as rules};
use crate::tables::{Kind, SharedId, Tables};
use crate::vfio::device::{Device, IommuKind, wait_for_users};
use crate::vfio::emulated::{self, Request};
use crate::vfio::file::FileKind;
use crate::vfio::{Access, FileId, cdev, hot_reset, noiommu, pci};

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
            Ok(FileKind::TestAccess { context, access }) => {
                if let Ok(shared) = tables.context(*context) {
                    shared.object.test_access_closed(&self.host, *access);
                }
                Some(SharedId::Context(*context))
            }
            Ok(FileKind::Queue { context, queue }) => {
                if let Ok(shared) = tables.context(*context) {
                    shared.object.queue_closed(*queue);
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
