//! A process that uses one context.

use std::sync::Arc;

use subsystem::iommufd::{Binding, Context, DeviceObject, Usage};
use subsystem::{DmaOwner, Function, Kconfig, Refusal, Rule, UserMemory};
use uapi::Command;
use uapi::iommufd::*;

use crate::support::host::{ARGUMENT, Caller, TestHost};
use crate::support::memory::{InUse, Layout, PAGE};

pub(crate) const READ: u32 = IOMMU_IOAS_MAP_READABLE;
pub(crate) const READ_WRITE: u32 = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;
pub(crate) const FIXED: u32 = IOMMU_IOAS_MAP_FIXED_IOVA;

/// Where tests have their memory.
pub(crate) const BUFFER: u64 = 0x4000_0000;

/// How a device behind an IOMMU is bound to the context.
pub(crate) const BEHIND_IOMMU: Binding =
    Binding::Iommu { owner: DmaOwner::Context(1), unsafe_interrupts: false };

/// The function that tests bind.
pub(crate) const FUNCTION: Function = Function(7);

/// A process with an open context.
pub(crate) struct Client<'a> {
    pub(crate) host: &'a TestHost,
    pub(crate) caller: Caller<'a>,
    pub(crate) context: Arc<Context<TestHost>>,
}

/// All that can be seen of a context and of what it uses of the host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct State {
    usage: Usage,
    in_use: InUse,
}

/// The errno and the name of a refusal, for comparing in one go.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> &'static Rule {
    result.expect_err("is refused").rule()
}

impl<'a> Client<'a> {
    pub(crate) fn new(host: &'a TestHost) -> Self {
        Self::configured(host, Kconfig::FULL)
    }

    /// A process on a kernel of this configuration.
    pub(crate) fn configured(host: &'a TestHost, kconfig: Kconfig) -> Self {
        let context = Arc::new(Context::new(host, kconfig).expect("a context"));
        Self { host, caller: Caller::root(host), context }
    }

    /// Another process with the same context.
    pub(crate) fn sharing(&self) -> Self {
        Self { host: self.host, caller: Caller::root(self.host), context: Arc::clone(&self.context) }
    }

    /// A client whose memory has one device attached, and the ids of IOAS and page table.
    pub(crate) fn attached(host: &'a TestHost) -> (Self, DeviceObject, u32, u32) {
        let client = Self::new(host);
        let device = client.bind();
        let ioas = client.ioas();
        let hwpt = client.attach(device, ioas).expect("attach");
        (client, device, ioas, hwpt)
    }

    /// An ioctl with these bytes as argument, which get the reply.
    pub(crate) fn raw(&self, command: u32, bytes: &mut [u8]) -> Result<u32, Refusal> {
        self.caller.write(ARGUMENT, bytes).expect("room for the argument");
        let result = self.context.ioctl(self.host, &self.caller.ctx(), command, ARGUMENT);
        self.caller.read(ARGUMENT, bytes).expect("the argument");
        result
    }

    /// An ioctl with a typed argument, which gets the reply.
    pub(crate) fn call<T: Command>(&self, argument: &mut T) -> Result<(), Refusal> {
        self.raw(T::OPCODE, argument.as_mut_bytes()).map(|answer| assert_eq!(answer, 0))
    }

    pub(crate) fn bind(&self) -> DeviceObject {
        self.context.bind(self.host, FUNCTION, Binding::Noiommu).expect("bind")
    }

    pub(crate) fn attach(&self, device: DeviceObject, pt_id: u32) -> Result<u32, Refusal> {
        self.context.attach(self.host, device, 0, pt_id)
    }

    pub(crate) fn detach(&self, device: DeviceObject) {
        self.context.detach(self.host, device, 0);
    }

    pub(crate) fn try_ioas(&self) -> Result<u32, Refusal> {
        let mut argument = IommuIoasAlloc::new();
        self.call(&mut argument).map(|()| argument.out_ioas_id)
    }

    pub(crate) fn ioas(&self) -> u32 {
        self.try_ioas().expect("an IOAS")
    }

    pub(crate) fn destroy(&self, id: u32) -> Result<(), Refusal> {
        self.call(&mut IommuDestroy { id, ..Command::new() })
    }

    /// Gives the process memory at an address.
    pub(crate) fn memory(&self, address: u64, pages: u64, layout: Layout) {
        self.host.ram(|ram| ram.map(self.caller.task, address, pages, layout, true));
    }

    /// MAP; the IOVA.
    pub(crate) fn map(
        &self,
        ioas: u32,
        flags: u32,
        address: u64,
        length: u64,
        iova: u64,
    ) -> Result<u64, Refusal> {
        let mut argument =
            IommuIoasMap { flags, ioas_id: ioas, user_va: address, length, iova, ..Command::new() };
        self.call(&mut argument).map(|()| argument.iova)
    }

    /// MAP readable and writable at a fixed IOVA.
    pub(crate) fn map_at(&self, ioas: u32, address: u64, length: u64, iova: u64) -> Result<u64, Refusal> {
        self.map(ioas, READ_WRITE | FIXED, address, length, iova)
    }

    /// MAP readable and writable wherever there is room.
    pub(crate) fn map_any(&self, ioas: u32, address: u64, length: u64) -> Result<u64, Refusal> {
        self.map(ioas, READ_WRITE, address, length, 0)
    }

    /// MAP_FILE wherever there is room.
    pub(crate) fn map_file(&self, ioas: u32, fd: i32, start: u64, length: u64) -> Result<u64, Refusal> {
        let mut argument =
            IommuIoasMapFile { flags: READ_WRITE, ioas_id: ioas, fd, start, length, ..Command::new() };
        self.call(&mut argument).map(|()| argument.iova)
    }

    /// COPY readable and writable to a fixed IOVA.
    pub(crate) fn copy_at(
        &self,
        (src_ioas_id, src_iova): (u32, u64),
        length: u64,
        (dst_ioas_id, dst_iova): (u32, u64),
    ) -> Result<u64, Refusal> {
        let flags = READ_WRITE | FIXED;
        let mut argument =
            IommuIoasCopy { flags, dst_ioas_id, src_ioas_id, length, dst_iova, src_iova, ..Command::new() };
        self.call(&mut argument).map(|()| argument.dst_iova)
    }

    /// UNMAP; how many bytes.
    pub(crate) fn unmap(&self, ioas: u32, iova: u64, length: u64) -> Result<u64, Refusal> {
        let mut argument = IommuIoasUnmap { ioas_id: ioas, iova, length, ..Command::new() };
        self.call(&mut argument).map(|()| argument.length)
    }

    /// GET_PA; the physical address and how many bytes are contiguous there.
    pub(crate) fn physical(&self, ioas: u32, iova: u64, length: u64) -> Result<(u64, u64), Refusal> {
        let mut argument = IommuIoasNoiommuGetPa { ioas_id: ioas, iova, length, ..Command::new() };
        self.call(&mut argument).map(|()| (argument.out_phys, argument.length))
    }

    /// IOVA_RANGES with room for one; the alignment.
    pub(crate) fn alignment(&self, ioas: u32) -> u64 {
        let mut argument = IommuIoasIovaRanges {
            ioas_id: ioas,
            num_iovas: 1,
            allowed_iovas: ARGUMENT + 0x800,
            ..Command::new()
        };
        self.call(&mut argument).expect("IOVA_RANGES");
        argument.out_iova_alignment
    }

    /// ALLOW_IOVAS.
    pub(crate) fn allow(&self, ioas: u32, ranges: &[(u64, u64)]) -> Result<(), Refusal> {
        let at = ARGUMENT + 0x800;
        for (index, (start, last)) in ranges.iter().enumerate() {
            let bytes = [start.to_le_bytes(), last.to_le_bytes()].concat();
            self.caller.write(at + 16 * index as u64, &bytes).expect("room for the ranges");
        }
        let num_iovas = u32::try_from(ranges.len()).unwrap();
        self.call(&mut IommuIoasAllowIovas { ioas_id: ioas, num_iovas, allowed_iovas: at, ..Command::new() })
    }

    /// OPTION; the value.
    pub(crate) fn option(&self, option_id: u32, op: u32, object_id: u32, val64: u64) -> Result<u64, Refusal> {
        let op = u16::try_from(op).unwrap();
        let mut argument = IommuOption { option_id, op, object_id, val64, ..Command::new() };
        self.call(&mut argument).map(|()| argument.val64)
    }

    /// HWPT_ALLOC; the id.
    pub(crate) fn hwpt(&self, device: DeviceObject, ioas: u32) -> Result<u32, Refusal> {
        let mut argument = IommuHwptAlloc { dev_id: device.id(), pt_id: ioas, ..Command::new() };
        self.call(&mut argument).map(|()| argument.out_hwpt_id)
    }

    /// How many pages are pinned, as `VmPin` of the process says.
    pub(crate) fn pinned(&self) -> u64 {
        self.host.ram(|ram| ram.process(self.caller.task).pinned)
    }

    /// The physical address behind an address of the process.
    pub(crate) fn pagemap(&self, address: u64) -> u64 {
        self.host.ram(|ram| ram.physical(self.caller.task, address).expect("memory"))
    }

    pub(crate) fn state(&self) -> State {
        State { usage: self.context.usage(), in_use: self.host.in_use() }
    }

    /// Takes the capabilities that lift the limit, and sets the limit in pages.
    pub(crate) fn limit(&mut self, pages: u64) {
        self.caller.caps.ipc_lock = false;
        self.host.ram(|ram| ram.process(self.caller.task).limit = Some(pages));
    }

    /// Closes the context and checks that nothing of the host is in use any more.
    pub(crate) fn close(self) {
        self.context.close(self.host);
        assert_eq!(self.context.usage(), Usage::default());
        let in_use = self.host.in_use();
        let charged = vec![(0, 0, 0); in_use.charged.len()];
        assert_eq!(in_use, InUse { charged, ..InUse::default() }, "something was not given back");
    }
}

/// So many pages in bytes.
pub(crate) const fn pages(count: u64) -> u64 {
    count * PAGE
}
