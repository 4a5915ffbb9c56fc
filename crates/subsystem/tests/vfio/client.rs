//! A machine with one function, and a process that uses it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use subsystem::kconfig::Tristate;
use subsystem::{
    Access, FileId, Function, Kconfig, ModuleParameters, Node, NodeKind, Parameters, Refusal, Rule,
    Subsystem, Symbol, Usage, UserMemory,
};
use uapi::Command;
use uapi::iommufd::*;
use uapi::vfio::*;
use zerocopy::IntoBytes;

use crate::support::bus::Event;
use crate::support::function::TestFunction;
use crate::support::host::{ARGUMENT, Caller, Descriptor, TestHost};
use crate::support::memory::InUse;

pub(crate) type Vfio = Subsystem<TestHost>;

pub(crate) const PARAMETERS: Parameters = Parameters {
    kconfig: Kconfig::FULL,
    modules: ModuleParameters { unsafe_noiommu_mode: true, ..ModuleParameters::DEFAULT },
    dynamic_msix: true,
};

/// The size of the spacing of regions in a device file.
pub(crate) const REGION: u64 = 1 << 40;
/// Where configuration space starts in a device file.
pub(crate) const CONFIG: u64 = 7 * REGION;

/// The errno and the name of a refusal.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> &'static Rule {
    result.expect_err("is refused").rule()
}

/// Checks that a call is refused, by the rule and with its errno.
macro_rules! assert_refused {
    ($result:expr, $errno:ident, $name:literal) => {{
        let rule = crate::client::refused($result);
        assert_eq!((rule.errno, rule.name), (uapi::Errno::$errno, $name));
    }};
}
pub(crate) use assert_refused;

/// A subsystem whose driver is bound to these functions, numbered from 0.
pub(crate) fn machine(functions: &[TestFunction]) -> Arc<Vfio> {
    machine_with(&[], functions)
}

/// As [`machine`], of a kernel that was built with these options too.
pub(crate) fn machine_with(options: &[Symbol], functions: &[TestFunction]) -> Arc<Vfio> {
    let options: Vec<_> = options.iter().map(|&option| (option, Tristate::Y)).collect();
    let kconfig = Kconfig::FULL.with(&options).expect("what these options depend on");
    let vfio = Subsystem::new(TestHost::new(), Parameters { kconfig, ..PARAMETERS }).expect("a subsystem");
    for function in functions {
        let function = vfio.host().add_function(function.clone());
        vfio.probe(function).expect("a device without an IOMMU");
    }
    Arc::new(vfio)
}

/// The node of a function's device.
pub(crate) fn device_node(vfio: &Vfio, function: Function) -> Option<Node> {
    vfio.host().bus(|bus| {
        let of_function =
            |node: &&Node| matches!(node.kind, NodeKind::Device { function: f, .. } if f == function);
        bus.nodes.iter().find(of_function).copied()
    })
}

/// A process.
pub(crate) struct Client<'a> {
    pub(crate) vfio: &'a Vfio,
    pub(crate) caller: Caller<'a>,
}

/// All that can be seen of a subsystem and of what it uses of the host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct State {
    usage: Usage,
    in_use: InUse,
    nodes: Vec<Node>,
    masters: Vec<bool>,
}

pub(crate) fn state(vfio: &Vfio) -> State {
    State {
        usage: vfio.usage(),
        in_use: vfio.host().in_use(),
        nodes: vfio.host().bus(|bus| bus.nodes.clone()),
        masters: vfio
            .host()
            .bus(|bus| bus.functions.iter().map(|function| function.command() & 4 != 0).collect()),
    }
}

impl<'a> Client<'a> {
    pub(crate) fn new(vfio: &'a Vfio) -> Self {
        Client { vfio, caller: Caller::root(vfio.host()) }
    }

    /// A process with the first function bound to a context.
    pub(crate) fn bound(vfio: &'a Vfio) -> (Self, FileId) {
        let mut client = Self::new(vfio);
        let device = client.open(0);
        let (_, fd) = client.iommufd();
        client.bind(device, fd).expect("bind");
        (client, device)
    }

    pub(crate) fn open_node(&self, node: NodeKind) -> Result<FileId, Refusal> {
        self.vfio.open(&self.caller.ctx(), node, Access::READ_WRITE)
    }

    /// Opens the device node of a function.
    pub(crate) fn open(&self, function: u32) -> FileId {
        let node = device_node(self.vfio, Function(function)).expect("a node");
        self.open_node(node.kind).expect("open")
    }

    /// Opens `/dev/iommu`; the file and its descriptor.
    pub(crate) fn iommufd(&mut self) -> (FileId, i32) {
        let file = self.open_node(NodeKind::Iommufd).expect("open /dev/iommu");
        (file, self.caller.install(Descriptor::Ours(file)))
    }

    /// A new eventfd, and its descriptor.
    pub(crate) fn eventfd(&mut self) -> (Event, i32) {
        let event = Event::default();
        (event.clone(), self.caller.install(Descriptor::Event(event)))
    }

    /// An ioctl with these bytes as argument, which get the reply.
    pub(crate) fn raw(&self, file: FileId, command: u32, bytes: &mut [u8]) -> Result<u32, Refusal> {
        self.caller.write(ARGUMENT, bytes).expect("room for the argument");
        let result = self.vfio.ioctl(&self.caller.ctx(), file, command, ARGUMENT);
        self.caller.read(ARGUMENT, bytes).expect("the argument");
        result
    }

    /// An ioctl with a typed argument, which gets the reply.
    pub(crate) fn call<T: Command>(&self, file: FileId, argument: &mut T) -> Result<u32, Refusal> {
        self.raw(file, T::OPCODE, argument.as_mut_bytes())
    }

    /// An ioctl whose argument is this value, with another size stated, in a buffer of that many bytes.
    pub(crate) fn sized<T: Command>(&self, file: FileId, argument: &T, size: usize) -> Result<T, Refusal> {
        let mut bytes = vec![0; size.max(size_of::<T>())];
        bytes[..size_of::<T>()].copy_from_slice(argument.as_bytes());
        bytes[..4].copy_from_slice(&(size as u32).to_le_bytes());
        self.raw(file, T::OPCODE, &mut bytes)?;
        Ok(T::read_from_bytes(&bytes[..size_of::<T>()]).expect("the size"))
    }

    /// BIND; the id of the device object.
    pub(crate) fn bind(&self, device: FileId, iommufd: i32) -> Result<u32, Refusal> {
        let mut argument = VfioDeviceBindIommufd { iommufd, ..Command::new() };
        self.call(device, &mut argument).map(|answer| {
            assert_eq!(answer, 0);
            argument.out_devid
        })
    }

    /// ATTACH; the id of the page table.
    pub(crate) fn attach(&self, device: FileId, pt_id: u32) -> Result<u32, Refusal> {
        let mut argument = VfioDeviceAttachIommufdPt { pt_id, ..Command::new() };
        self.call(device, &mut argument).map(|_| argument.pt_id)
    }

    /// ATTACH with a PASID.
    pub(crate) fn attach_pasid(&self, device: FileId, pt_id: u32, pasid: u32) -> Result<u32, Refusal> {
        let flags = VFIO_DEVICE_ATTACH_PASID;
        let mut argument = VfioDeviceAttachIommufdPt { flags, pt_id, pasid, ..Command::new() };
        self.call(device, &mut argument).map(|_| argument.pt_id)
    }

    pub(crate) fn detach(&self, device: FileId) -> Result<u32, Refusal> {
        self.call(device, &mut VfioDeviceDetachIommufdPt::new())
    }

    pub(crate) fn detach_pasid(&self, device: FileId, pasid: u32) -> Result<u32, Refusal> {
        let flags = VFIO_DEVICE_DETACH_PASID;
        self.call(device, &mut VfioDeviceDetachIommufdPt { flags, pasid, ..Command::new() })
    }

    pub(crate) fn ioas(&self, iommufd: FileId) -> u32 {
        let mut argument = IommuIoasAlloc::new();
        self.call(iommufd, &mut argument).expect("an IOAS");
        argument.out_ioas_id
    }

    /// FAULT_QUEUE_ALLOC; the id of the queue, and its file.
    pub(crate) fn fault_queue(&self, iommufd: FileId) -> Result<(u32, FileId), Refusal> {
        let mut argument = IommuFaultAlloc::new();
        self.call(iommufd, &mut argument)?;
        let file = self.caller.file(argument.out_fault_fd as i32).expect("the descriptor is open");
        Ok((argument.out_fault_id, file))
    }

    /// HWPT_ALLOC with a fault queue; the id of the page table.
    pub(crate) fn faulting_hwpt(
        &self,
        iommufd: FileId,
        (dev_id, pt_id): (u32, u32),
        fault_id: u32,
    ) -> Result<u32, Refusal> {
        let flags = IOMMU_HWPT_FAULT_ID_VALID;
        let mut argument = IommuHwptAlloc { flags, dev_id, pt_id, fault_id, ..Command::new() };
        self.call(iommufd, &mut argument).map(|_| argument.out_hwpt_id)
    }

    pub(crate) fn destroy(&self, iommufd: FileId, id: u32) -> Result<u32, Refusal> {
        self.call(iommufd, &mut IommuDestroy { id, ..Command::new() })
    }

    /// MAP of pages at an IOVA.
    pub(crate) fn map(&self, iommufd: FileId, ioas: u32, address: u64, iova: u64, length: u64) {
        let flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;
        let mut argument =
            IommuIoasMap { flags, ioas_id: ioas, user_va: address, length, iova, ..Command::new() };
        self.call(iommufd, &mut argument).expect("MAP");
    }

    /// GET_PA of one page.
    pub(crate) fn physical(&self, iommufd: FileId, ioas: u32, iova: u64) -> Result<u64, Refusal> {
        let mut argument = IommuIoasNoiommuGetPa { ioas_id: ioas, iova, length: 4096, ..Command::new() };
        self.call(iommufd, &mut argument).map(|_| argument.out_phys)
    }

    pub(crate) fn read(&self, file: FileId, offset: u64, length: usize) -> Result<Vec<u8>, Refusal> {
        let mut bytes = vec![0x55; length];
        let read = self.vfio.read(&self.caller.ctx(), file, offset, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    pub(crate) fn write(&self, file: FileId, offset: u64, bytes: &[u8]) -> Result<usize, Refusal> {
        self.vfio.write(&self.caller.ctx(), file, offset, bytes)
    }

    /// Reads a register of configuration space.
    pub(crate) fn config(&self, file: FileId, at: u16, width: usize) -> u32 {
        let mut value = [0; 4];
        let bytes = self.read(file, CONFIG + u64::from(at), width).expect("configuration space");
        assert_eq!(bytes.len(), width);
        value[..width].copy_from_slice(&bytes);
        u32::from_le_bytes(value)
    }

    /// Writes a register of configuration space.
    pub(crate) fn set_config(&self, file: FileId, at: u16, width: usize, value: u32) {
        let written = self.write(file, CONFIG + u64::from(at), &value.to_le_bytes()[..width]);
        assert_eq!(written, Ok(width));
    }

    /// SET_IRQS with data behind the argument.
    pub(crate) fn set_irqs(
        &self,
        file: FileId,
        index: u32,
        flags: u32,
        (start, count): (u32, u32),
        data: &[u8],
    ) -> Result<u32, Refusal> {
        let argsz = (size_of::<VfioIrqSet>() + data.len()) as u32;
        let argument = VfioIrqSet { argsz, flags, index, start, count };
        let mut bytes = [argument.as_bytes(), data].concat();
        self.raw(file, VFIO_DEVICE_SET_IRQS, &mut bytes)
    }

    /// SET_IRQS, action trigger, with eventfds.
    pub(crate) fn set_events(
        &self,
        file: FileId,
        index: u32,
        start: u32,
        fds: &[i32],
    ) -> Result<u32, Refusal> {
        let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
        let data: Vec<u8> = fds.iter().flat_map(|fd| fd.to_le_bytes()).collect();
        self.set_irqs(file, index, flags, (start, fds.len() as u32), &data)
    }

    /// SET_IRQS without data.
    pub(crate) fn irqs(
        &self,
        file: FileId,
        index: u32,
        action: u32,
        range: (u32, u32),
    ) -> Result<u32, Refusal> {
        self.set_irqs(file, index, VFIO_IRQ_SET_DATA_NONE | action, range, &[])
    }
}

/// The count of an eventfd, which is zero then.
pub(crate) fn take(event: &Event) -> u64 {
    event.swap(0, Ordering::Relaxed)
}
