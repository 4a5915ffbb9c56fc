//! Guests: page tables of theirs, vIOMMUs, page faults and events. Their IOMMU is the unit of the kernel's self-tests.

mod devices;
mod dirty;
mod events;
mod failures;
mod hw_queues;
mod mapped;
mod page_faults;
mod pasids;
mod random;
mod tables;

use std::sync::Arc;

use subsystem::{FileId, Refusal, Symbol, UserMemory};
use uapi::Command;
use uapi::iommufd::*;
use uapi::iommufd_test::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::client::{Client, Vfio, machine_with};
use crate::support::function::TestFunction;
use crate::support::host::{ARGUMENT, Descriptor};
use crate::support::memory::Layout;

/// Where the data behind an argument is.
const DATA: u64 = ARGUMENT + 0x800;
/// Where memory is that is mapped for the guest.
const BUFFER: u64 = 0x4000_0000;
/// The first IOVA that the unit translates.
const IOVA: u64 = MOCK_APERTURE_START as u64;

/// A kernel with the unit.
fn kernel() -> Arc<Vfio> {
    kernel_with(&[])
}

/// As [`kernel`], on a machine with devices without an IOMMU, too.
fn kernel_with(functions: &[TestFunction]) -> Arc<Vfio> {
    let options =
        [Symbol::DebugKernel, Symbol::FaultInjection, Symbol::RuntimeTestingMenu, Symbol::IommufdTest];
    machine_with(&options, functions)
}

/// A process with a device attached to an IOAS, and a page table there in which others can be nested.
struct Guest<'a> {
    client: Client<'a>,
    iommufd: FileId,
    ioas: u32,
    /// What the device is destroyed by.
    stdev: u32,
    device: u32,
    parent: u32,
}

impl<'a> Guest<'a> {
    fn new(vfio: &'a Vfio) -> Self {
        Self::with_flags(vfio, 0)
    }

    /// As [`Guest::new`], where the device has flags.
    fn with_flags(vfio: &'a Vfio, flags: u32) -> Self {
        let mut client = Client::new(vfio);
        let (iommufd, _) = client.iommufd();
        let ioas = client.ioas(iommufd);
        let mut guest = Guest { client, iommufd, ioas, stdev: 0, device: 0, parent: 0 };
        (guest.stdev, guest.device) = guest.new_device(flags);
        guest.parent = guest.table(IOMMU_HWPT_ALLOC_NEST_PARENT).expect("a page table");
        guest
    }

    fn call<T: Command>(&self, argument: &mut T) -> Result<(), Refusal> {
        self.client.call(self.iommufd, argument).map(|answer| assert_eq!(answer, 0))
    }

    /// An operation of IOMMU_TEST_CMD, whose operand gets the reply.
    fn test<T: IntoBytes + FromBytes + Immutable>(&self, op: u32, id: u32, operand: T) -> Result<T, Refusal> {
        let mut command = IommuTestCmd { op, id, ..Command::new() };
        command.put(&operand);
        self.call(&mut command)?;
        Ok(command.get())
    }

    /// A device that is attached to the IOAS; the id that it is destroyed by, and its own.
    fn new_device(&self, dev_flags: u32) -> (u32, u32) {
        let operand = IommuTestMockDomainFlags { dev_flags, ..Default::default() };
        let made = self.test(IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS, self.ioas, operand).expect("a device");
        (made.out_stdev_id, made.out_idev_id)
    }

    /// Attaches the device to something else.
    fn replace(&self, pt_id: u32) -> Result<u32, Refusal> {
        let operand = IommuTestMockDomainReplace { pt_id };
        self.test(IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, self.stdev, operand).map(|reply| reply.pt_id)
    }

    fn destroy(&self, id: u32) -> Result<(), Refusal> {
        self.call(&mut IommuDestroy { id, ..Command::new() })
    }

    /// HWPT_ALLOC in the IOAS.
    fn table(&self, flags: u32) -> Result<u32, Refusal> {
        let (dev_id, pt_id) = (self.device, self.ioas);
        let mut argument = IommuHwptAlloc { dev_id, pt_id, flags, ..Command::new() };
        self.call(&mut argument).map(|()| argument.out_hwpt_id)
    }

    /// The argument of HWPT_ALLOC for a page table that is nested in another, or of a vIOMMU; each entry of its IOTLB is 7.
    fn nested_argument(&self, pt_id: u32, flags: u32) -> IommuHwptAlloc {
        self.data(&IommuHwptSelftest { iotlb: 7, pagetable_type: 0 });
        IommuHwptAlloc {
            dev_id: self.device,
            pt_id,
            flags,
            data_type: IOMMU_HWPT_DATA_SELFTEST,
            data_len: 8,
            data_uptr: DATA,
            ..Command::new()
        }
    }

    fn nested(&self, pt_id: u32, flags: u32) -> Result<u32, Refusal> {
        let mut argument = self.nested_argument(pt_id, flags);
        self.call(&mut argument).map(|()| argument.out_hwpt_id)
    }

    /// A nested page table that names a fault queue.
    fn faulting(&self, pt_id: u32, flags: u32, fault_id: u32) -> Result<u32, Refusal> {
        let flags = flags | IOMMU_HWPT_FAULT_ID_VALID;
        let mut argument = IommuHwptAlloc { fault_id, ..self.nested_argument(pt_id, flags) };
        self.call(&mut argument).map(|()| argument.out_hwpt_id)
    }

    fn viommu(&self) -> Result<u32, Refusal> {
        let mut argument = self.viommu_argument();
        self.call(&mut argument).map(|()| argument.out_viommu_id)
    }

    fn viommu_argument(&self) -> IommuViommuAlloc {
        IommuViommuAlloc {
            type_: IOMMU_VIOMMU_TYPE_SELFTEST,
            dev_id: self.device,
            hwpt_id: self.parent,
            ..Command::new()
        }
    }

    fn vdevice(&self, viommu_id: u32, dev_id: u32, virt_id: u64) -> Result<u32, Refusal> {
        let mut argument = IommuVdeviceAlloc { viommu_id, dev_id, virt_id, ..Command::new() };
        self.call(&mut argument).map(|()| argument.out_vdevice_id)
    }

    /// VEVENTQ_ALLOC; the id of the queue, and its file.
    fn events(&self, viommu_id: u32, veventq_depth: u32) -> Result<(u32, FileId), Refusal> {
        let type_ = IOMMU_VEVENTQ_TYPE_SELFTEST;
        let mut argument = IommuVeventqAlloc { viommu_id, type_, veventq_depth, ..Command::new() };
        self.call(&mut argument)?;
        let file = self.client.caller.file(argument.out_veventq_fd.cast_signed()).expect("it is open");
        Ok((argument.out_veventq_id, file))
    }

    /// HW_QUEUE_ALLOC.
    fn hw_queue(&self, viommu_id: u32, index: u32, iova: u64, length: u64) -> Result<u32, Refusal> {
        let mut argument = IommuHwQueueAlloc {
            viommu_id,
            type_: IOMMU_HW_QUEUE_TYPE_SELFTEST,
            index,
            nesting_parent_iova: iova,
            length,
            ..Command::new()
        };
        self.call(&mut argument).map(|()| argument.out_hw_queue_id)
    }

    /// Puts what a call reads behind its argument.
    fn data<T: IntoBytes + Immutable + ?Sized>(&self, value: &T) {
        self.client.caller.write(DATA, value.as_bytes()).expect("room for the data");
    }

    /// HWPT_INVALIDATE with these entries; what came of it, and how many were handled.
    fn invalidate<T: IntoBytes + Immutable>(
        &self,
        hwpt_id: u32,
        data_type: u32,
        entries: &[T],
    ) -> (Result<(), Refusal>, u32) {
        self.data(entries);
        let (entry_len, entry_num) = (size_of::<T>() as u32, entries.len() as u32);
        let data_uptr = DATA;
        let mut argument =
            IommuHwptInvalidate { hwpt_id, data_type, data_uptr, entry_len, entry_num, ..Command::new() };
        let result = self.call(&mut argument);
        (result, argument.entry_num)
    }

    /// Memory of the process, mapped from the first IOVA on that the unit translates.
    fn map_memory(&self, pages: u64, layout: Layout) {
        self.client.vfio.host().ram(|ram| ram.map(self.client.caller.task, BUFFER, pages, layout, true));
        self.map_memory_again(pages);
    }

    fn map_memory_again(&self, pages: u64) {
        self.client.map(self.iommufd, self.ioas, BUFFER, IOVA, pages * 4096);
    }

    fn unmap(&self, iova: u64, length: u64) -> Result<(), Refusal> {
        self.call(&mut IommuIoasUnmap { ioas_id: self.ioas, iova, length, ..Command::new() })
    }

    /// `read(2)` of a queue.
    fn read(&self, queue: FileId, length: u64) -> Result<Vec<u8>, Refusal> {
        let mut bytes = vec![0; self.read_to(ARGUMENT, queue, length)?];
        self.client.caller.read(ARGUMENT, &mut bytes).expect("what was written to");
        Ok(bytes)
    }

    /// The same, to memory at an address.
    fn read_to(&self, address: u64, queue: FileId, length: u64) -> Result<usize, Refusal> {
        self.client.vfio.read_stream(&self.client.caller.ctx(), queue, address, length)
    }

    /// `write(2)` to a queue.
    fn write(&self, queue: FileId, bytes: &[u8]) -> Result<usize, Refusal> {
        self.client.vfio.write_stream(&self.client.caller.ctx(), queue, bytes)
    }

    /// Closes the context, and checks that nothing is left.
    fn close(self, files: &[FileId]) {
        let vfio = self.client.vfio;
        files.iter().for_each(|file| vfio.release(*file));
        vfio.release(self.iommufd);
        assert_eq!(vfio.usage(), Default::default());
        let mut in_use = vfio.host().in_use();
        in_use.charged.clear();
        assert_eq!(in_use, Default::default(), "something was not given back");
    }
}
