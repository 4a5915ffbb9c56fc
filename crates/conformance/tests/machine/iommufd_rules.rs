//! The rules of IOMMUFD that no row of the slice breaks, or none whose answer is the refusal alone.

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use machine::LayoutKind;
use machine::kconfig::{Kconfig, Symbol, Tristate};
use machine::{File, Machine};
use subsystem::Refusal;
use subsystem::rules::iommufd as rule;
use sys::{Access, Mapping, Memory, MemoryOptions, PageSize, Result, Suite, Sys};
use uapi::Command;
use uapi::iommufd::*;
use uapi::vfio::{
    VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU, VfioDeviceAttachIommufdPt,
    VfioDeviceBindIommufd, VfioIommuType1DmaMap, VfioIommuType1DmaUnmap, VfioIommuType1Info,
};
use zerocopy::IntoBytes;

use crate::rules::Broken;
use crate::{machine, machine_of};

/// The rules that no call on a machine can break.
pub(crate) const OUT_OF_REACH: &[(Refusal, &str)] = &[
    (rule::OBJECTS_EXHAUSTED, "it would take 2^31 objects"),
    (rule::DEVICE_GONE, "a device file keeps its object for as long as calls on it are under way"),
    (rule::QUEUE_DESCRIPTOR, "it takes a process that has no descriptor left, and so no test in it"),
    (rule::ACCESS_DETACHED, DRIVERS),
    (rule::ACCESS_LENGTH, DRIVERS),
    (rule::ACCESS_WRAPS, DRIVERS),
    (rule::ACCESS_UNMAPPED, DRIVERS),
    (rule::ACCESS_RIGHTS, DRIVERS),
    (rule::ACCESS_BAR, DRIVERS),
];

const DRIVERS: &str = "the driver of an emulated device is told, and no system call";

/// An address where nothing is mapped.
const NOWHERE: u64 = 0x7000;

const RW: u32 = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;

/// A device that is attached to an IOAS with one page mapped at 0x1000.
pub(crate) struct Bench {
    pub(crate) machine: Machine,
    pub(crate) iommufd: File,
    pub(crate) device: File,
    memory: Memory,
    pub(crate) devid: u32,
    pub(crate) ioas: u32,
    pub(crate) hwpt: u32,
}

impl Bench {
    fn new() -> Self {
        let (machine, target) = machine(LayoutKind::Scattered);
        Self::on(machine, &target.devices[0])
    }

    /// With the first device of a machine.
    pub(crate) fn on(machine: Machine, address: &str) -> Self {
        let folder = format!("/sys/bus/pci/devices/{address}/vfio-dev");
        let name = machine.read_dir(Path::new(&folder)).expect("the device is registered").remove(0);
        let open = |path: &Path| machine.open(path, Access::ReadWrite).expect("a file to open");
        let device = open(&Path::new("/dev/vfio/devices").join(name));
        let iommufd = open(Path::new("/dev/iommu"));
        let memory = MemoryOptions { length: 4096, page_size: PageSize::Base, highest: u64::MAX };
        let memory = machine.allocate(&memory).expect("a page");
        let mut bench = Bench { machine, iommufd, device, memory, devid: 0, ioas: 0, hwpt: 0 };
        bench.attach();
        bench
    }

    fn attach(&mut self) {
        let fd = self.iommufd.as_fd().as_raw_fd();
        let mut bind = VfioDeviceBindIommufd { iommufd: fd, ..VfioDeviceBindIommufd::new() };
        call(&self.machine, &self.device, &mut bind).expect("the device can be bound");
        let mut alloc = IommuIoasAlloc::new();
        call(&self.machine, &self.iommufd, &mut alloc).expect("an IOAS");
        let mut attach =
            VfioDeviceAttachIommufdPt { pt_id: alloc.out_ioas_id, ..VfioDeviceAttachIommufdPt::new() };
        call(&self.machine, &self.device, &mut attach).expect("the device can be attached");
        (self.devid, self.ioas, self.hwpt) = (bind.out_devid, alloc.out_ioas_id, attach.pt_id);
        self.call(self.map()).expect("the page can be mapped");
    }

    pub(crate) fn call<T: Command>(&self, mut argument: T) -> Result<u32> {
        call(&self.machine, &self.iommufd, &mut argument)
    }

    /// A call on a context of its own.
    fn raw(&self, command: u32, argument: *mut c_void) -> Result<u32> {
        // SAFETY: the callers pass a plain number, or an argument that holds no address and may be read.
        unsafe { self.machine.ioctl_raw(self.iommufd.as_fd(), command, argument) }
    }
}

pub(crate) fn call<T: Command>(machine: &Machine, file: &File, argument: &mut T) -> Result<u32> {
    // SAFETY: addresses in the arguments of this file point to the bench's own page, to a range of its own that is
    // read or written during the call, or to nothing that is mapped.
    unsafe { machine.ioctl_typed(file, argument) }
}

/// Well-formed arguments, which the calls below change in one field.
impl Bench {
    pub(crate) fn map(&self) -> IommuIoasMap {
        IommuIoasMap {
            flags: IOMMU_IOAS_MAP_FIXED_IOVA | RW,
            ioas_id: self.ioas,
            user_va: self.memory.start().as_ptr() as u64,
            length: 4096,
            iova: 0x1000,
            ..IommuIoasMap::new()
        }
    }

    pub(crate) fn hwpt_alloc(&self) -> IommuHwptAlloc {
        IommuHwptAlloc { dev_id: self.devid, pt_id: self.ioas, ..IommuHwptAlloc::new() }
    }

    fn dirty_bitmap(&self) -> IommuHwptGetDirtyBitmap {
        IommuHwptGetDirtyBitmap {
            hwpt_id: self.hwpt,
            iova: 0x1000,
            length: 4096,
            page_size: 4096,
            ..IommuHwptGetDirtyBitmap::new()
        }
    }

    fn event_queue(&self) -> IommuVeventqAlloc {
        IommuVeventqAlloc { type_: 1, veventq_depth: 1, ..IommuVeventqAlloc::new() }
    }

    fn hw_queue(&self) -> IommuHwQueueAlloc {
        IommuHwQueueAlloc { type_: 1, length: 4096, ..IommuHwQueueAlloc::new() }
    }
}

/// Each call breaks one rule, the others it keeps.
pub(crate) fn broken() -> Vec<Broken> {
    let bench = Bench::new();
    let mut broken = every_command(&bench);
    broken.extend(objects(&bench));
    broken.extend(mappings(&bench));
    broken.extend(page_tables(&bench));
    broken.extend(hardware(&bench));
    broken.extend(fault_queues(&bench));
    broken.extend(containers(&bench));
    broken.push((rule::GET_PA_KCONFIG, without_noiommu()));
    broken
}

/// GET_PA of a kernel that has no devices without an IOMMU.
fn without_noiommu() -> Result<u32> {
    let kconfig = Kconfig::FULL.with(&[(Symbol::VfioNoiommu, Tristate::N)]).expect("Kconfig allows it");
    let (machine, _) = machine_of(LayoutKind::Scattered, kconfig);
    let iommufd = machine.open(Path::new("/dev/iommu"), Access::ReadWrite).expect("a context");
    call(&machine, &iommufd, &mut IommuIoasNoiommuGetPa { length: 4096, ..Command::new() })
}

fn every_command(bench: &Bench) -> Vec<Broken> {
    // In memory that cannot be written.
    static ALLOC: IommuIoasAlloc = IommuIoasAlloc { size: 12, flags: 0, out_ioas_id: 0 };
    let unwritable = bench.raw(IOMMU_IOAS_ALLOC, (&raw const ALLOC).cast_mut().cast());
    let fresh = bench.machine.open(Path::new("/dev/iommu"), Access::ReadWrite).expect("a context");
    bench.machine.fail_allocation(Some(1));
    let no_memory = call(&bench.machine, &fresh, &mut IommuIoasAlloc::new());
    vec![(rule::ARGUMENT_UNWRITABLE, unwritable), (rule::NO_MEMORY, no_memory)]
}

fn objects(bench: &Bench) -> Vec<Broken> {
    let destroy = |id| bench.call(IommuDestroy { id, ..IommuDestroy::new() });
    let ranges = IommuIoasIovaRanges { ioas_id: bench.ioas, ..IommuIoasIovaRanges::new() };
    let allow = IommuIoasAllowIovas { ioas_id: bench.ioas, num_iovas: 1, ..IommuIoasAllowIovas::new() };
    vec![
        (rule::DESTROY_DEVICE, destroy(bench.devid)),
        (rule::DESTROY_IOAS_IN_USE, destroy(bench.ioas)),
        (rule::DESTROY_HWPT_IN_USE, destroy(bench.hwpt)),
        (rule::IOVA_RANGES_RESERVED, bench.call(IommuIoasIovaRanges { reserved: 1, ..ranges })),
        (
            rule::IOVA_RANGES_ARRAY,
            bench.call(IommuIoasIovaRanges { num_iovas: 1, allowed_iovas: NOWHERE, ..ranges }),
        ),
        (rule::IOVA_RANGES_ROOM, bench.call(ranges)),
        (rule::ALLOW_IOVAS_RESERVED, bench.call(IommuIoasAllowIovas { reserved: 1, ..allow })),
        (rule::ALLOW_IOVAS_ARRAY, bench.call(IommuIoasAllowIovas { allowed_iovas: NOWHERE, ..allow })),
    ]
}

fn mappings(bench: &Bench) -> Vec<Broken> {
    let map = IommuIoasMap { iova: 0x10_0000, ..bench.map() };
    bench.machine.fail_pin(Some(1));
    let pin_no_memory = bench.call(map);
    let placed = IommuIoasMap { flags: RW, length: 1 << 63, user_va: 0x1000, ..map };
    let process = IommuIoasChangeProcess::new();
    vec![
        (rule::PIN_NO_MEMORY, pin_no_memory),
        (rule::MAP_TOO_LONG, bench.call(placed)),
        (rule::MAP_PIECE_ALIGNMENT, copy_of_unaligned_pieces(bench)),
        (rule::CHANGE_PROCESS_RESERVED, bench.call(IommuIoasChangeProcess { reserved: 1, ..process })),
        (rule::CHANGE_PROCESS_USER, bench.call(process)),
    ]
}

/// Copies two mappings, together a page, to an IOAS where only whole pages can be mapped.
fn copy_of_unaligned_pieces(bench: &Bench) -> Result<u32> {
    let mut alloc = IommuIoasAlloc::new();
    call(&bench.machine, &bench.iommufd, &mut alloc)?;
    let piece = IommuIoasMap { ioas_id: alloc.out_ioas_id, ..bench.map() };
    bench.call(IommuIoasMap { length: 100, ..piece })?;
    bench.call(IommuIoasMap { length: 4096 - 100, iova: piece.iova + 100, ..piece })?;
    bench.call(IommuIoasCopy {
        flags: IOMMU_IOAS_MAP_FIXED_IOVA | RW,
        dst_ioas_id: bench.ioas,
        src_ioas_id: alloc.out_ioas_id,
        length: 4096,
        dst_iova: 0x20_0000,
        src_iova: piece.iova,
        ..IommuIoasCopy::new()
    })
}

fn page_tables(bench: &Bench) -> Vec<Broken> {
    let alloc = bench.hwpt_alloc();
    let refused = |alloc| bench.call::<IommuHwptAlloc>(alloc);
    vec![
        (rule::HWPT_ALLOC_RESERVED, refused(IommuHwptAlloc { reserved: 1, ..alloc })),
        (rule::HWPT_ALLOC_DATA, refused(IommuHwptAlloc { data_type: IOMMU_HWPT_DATA_VTD_S1, ..alloc })),
        (rule::HWPT_ALLOC_DEVICE, refused(IommuHwptAlloc { dev_id: 99, ..alloc })),
        (rule::HWPT_ALLOC_PARENT, refused(IommuHwptAlloc { pt_id: bench.devid, ..alloc })),
        (
            rule::HWPT_ALLOC_FLAGS_NOIOMMU,
            refused(IommuHwptAlloc { flags: IOMMU_HWPT_ALLOC_NEST_PARENT, ..alloc }),
        ),
        (rule::HWPT_ALLOC_NESTED, refused(IommuHwptAlloc { pt_id: bench.hwpt, ..alloc })),
        (rule::HWPT_ALLOC_FAULT_QUEUE, refused(IommuHwptAlloc { flags: IOMMU_HWPT_FAULT_ID_VALID, ..alloc })),
    ]
}

fn hardware(bench: &Bench) -> Vec<Broken> {
    let info = IommuHwInfo { dev_id: bench.devid, ..IommuHwInfo::new() };
    let tracking = IommuHwptSetDirtyTracking { hwpt_id: 99, ..IommuHwptSetDirtyTracking::new() };
    let bitmap = bench.dirty_bitmap();
    let invalidate = IommuHwptInvalidate { hwpt_id: bench.hwpt, ..IommuHwptInvalidate::new() };
    let viommu = IommuViommuAlloc { type_: 1, dev_id: bench.devid, ..IommuViommuAlloc::new() };
    let (events, queue) = (bench.event_queue(), bench.hw_queue());
    vec![
        (rule::HW_INFO_FIELDS, bench.call(IommuHwInfo { reserved: [0, 0, 1], ..info })),
        (rule::HW_INFO_DEVICE, bench.call(IommuHwInfo { dev_id: 99, ..info })),
        (rule::HW_INFO_NOIOMMU, bench.call(info)),
        (rule::HWPT_UNKNOWN, bench.call(tracking)),
        (rule::DIRTY_FIELDS, bench.call(IommuHwptGetDirtyBitmap { reserved: 1, ..bitmap })),
        (rule::DIRTY_LENGTH, bench.call(IommuHwptGetDirtyBitmap { length: 0, ..bitmap })),
        (
            rule::DIRTY_WRAPS,
            bench.call(IommuHwptGetDirtyBitmap { iova: u64::MAX - 0xfff, length: 8192, ..bitmap }),
        ),
        (rule::DIRTY_ALIGNMENT, bench.call(IommuHwptGetDirtyBitmap { page_size: 0, ..bitmap })),
        (rule::DIRTY_UNSUPPORTED, bench.call(bitmap)),
        (rule::INVALIDATE_RESERVED, bench.call(IommuHwptInvalidate { reserved: 1, ..invalidate })),
        (rule::INVALIDATE_ARRAY, bench.call(IommuHwptInvalidate { entry_num: 1, ..invalidate })),
        (rule::INVALIDATE_UNKNOWN, bench.call(IommuHwptInvalidate { hwpt_id: 99, ..invalidate })),
        (rule::INVALIDATE_TYPE, bench.call(invalidate)),
        (rule::VIOMMU_FIELDS, bench.call(IommuViommuAlloc { type_: 0, ..viommu })),
        (rule::VIOMMU_DEVICE, bench.call(IommuViommuAlloc { dev_id: 99, ..viommu })),
        (rule::VIOMMU_UNSUPPORTED, bench.call(viommu)),
        (
            rule::VIOMMU_UNKNOWN,
            bench.call(IommuVdeviceAlloc { dev_id: bench.devid, ..IommuVdeviceAlloc::new() }),
        ),
        (rule::EVENT_QUEUE_FIELDS, bench.call(IommuVeventqAlloc { type_: 0, ..events })),
        (rule::EVENT_QUEUE_DEPTH, bench.call(IommuVeventqAlloc { veventq_depth: 0, ..events })),
        (rule::HW_QUEUE_FIELDS, bench.call(IommuHwQueueAlloc { flags: 1, ..queue })),
        (rule::HW_QUEUE_LENGTH, bench.call(IommuHwQueueAlloc { length: 0, ..queue })),
        (
            rule::HW_QUEUE_WRAPS,
            bench.call(IommuHwQueueAlloc { nesting_parent_iova: u64::MAX - 0xff, ..queue }),
        ),
    ]
}

fn fault_queues(bench: &Bench) -> Vec<Broken> {
    let machine = &bench.machine;
    let mut alloc = IommuFaultAlloc::new();
    call(machine, &bench.iommufd, &mut alloc).expect("a fault queue");
    // SAFETY: the call answered with a descriptor that it has opened for its caller, and nobody else knows of it.
    let fd = unsafe { OwnedFd::from_raw_fd(alloc.out_fault_fd.cast_signed()) };
    let queue = machine.adopt(fd, Path::new("fault queue")).expect("the queue's file");
    let destroy = || bench.call(IommuDestroy { id: alloc.out_fault_id, ..IommuDestroy::new() });
    let respond = |code| {
        let response = IommuHwptPageResponse { cookie: 7, code };
        machine.write_stream(&queue, response.as_bytes())
    };
    let count = |answer: Result<usize>| answer.map(|count| count as u32);
    let mut broken = vec![
        (rule::FAULT_QUEUE_FLAGS, bench.call(IommuFaultAlloc { flags: 1, ..IommuFaultAlloc::new() })),
        (rule::QUEUE_POSITION, count(machine.pread(&queue, &mut [0; 40], 0))),
        (rule::FAULT_QUEUE_READ_SIZE, count(machine.read_stream(&queue, &mut [0; 39]))),
        (rule::FAULT_QUEUE_WRITE_SIZE, count(machine.write_stream(&queue, &[0; 7]))),
        (rule::FAULT_QUEUE_CODE, count(respond(99))),
        (rule::FAULT_QUEUE_COOKIE, count(respond(IOMMUFD_PAGE_RESP_SUCCESS))),
        (rule::QUEUE_IOCTL, call(machine, &queue, &mut IommuIoasAlloc::new())),
        (rule::QUEUE_MAP, machine.map_region(&queue, Mapping::registers(0, 4096)).map(|_| 0)),
        (rule::DESTROY_QUEUE_OPEN, destroy()),
    ];
    let flags = IOMMU_HWPT_FAULT_ID_VALID;
    let naming = IommuHwptAlloc { flags, fault_id: alloc.out_fault_id, ..bench.hwpt_alloc() };
    bench.call(naming).expect("a page table that names the queue");
    drop(queue);
    broken.push((rule::DESTROY_FAULT_QUEUE_IN_USE, destroy()));
    broken
}

fn containers(bench: &Bench) -> Vec<Broken> {
    let vfio_ioas = IommuVfioIoas { op: IOMMU_VFIO_IOAS_GET as u16, ..IommuVfioIoas::new() };
    let mut broken = vec![
        (rule::VFIO_IOAS_FIELDS, bench.call(IommuVfioIoas { op: 3, ..vfio_ioas })),
        (rule::VFIO_IOAS_NONE, bench.call(vfio_ioas)),
        (rule::VFIO_IOAS_NONE, bench.raw(VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU as usize as *mut c_void)),
        (rule::COMPAT_IOMMU_TYPE, bench.raw(VFIO_SET_IOMMU, 99 as *mut c_void)),
    ];
    let choose = |ioas_id| {
        let choice = IommuVfioIoas { op: IOMMU_VFIO_IOAS_SET as u16, ioas_id, ..IommuVfioIoas::new() };
        bench.call(choice).expect("the IOAS is there");
    };
    let IommuIoasMap { user_va: vaddr, length: size, .. } = bench.map();
    let map = VfioIommuType1DmaMap { vaddr, iova: 0x10_0000, size, ..VfioIommuType1DmaMap::new() };
    let unmap = VfioIommuType1DmaUnmap { iova: 0x10_0000, size: 0x800, ..VfioIommuType1DmaUnmap::new() };
    choose(bench.ioas);
    broken.extend([
        (rule::COMPAT_INFO_ARGSZ, bench.call(VfioIommuType1Info { argsz: 15, ..VfioIommuType1Info::new() })),
        (rule::COMPAT_MAP_ARGSZ, bench.call(VfioIommuType1DmaMap { argsz: 31, ..map })),
        (rule::COMPAT_UNMAP_ARGSZ, bench.call(VfioIommuType1DmaUnmap { argsz: 23, ..unmap })),
        (rule::COMPAT_UNMAP_FLAGS, bench.call(VfioIommuType1DmaUnmap { flags: 4, ..unmap })),
        (rule::LINK_RIGHTS, bench.call(map)),
    ]);
    let mut alloc = IommuIoasAlloc::new();
    call(&bench.machine, &bench.iommufd, &mut alloc).expect("an IOAS");
    choose(alloc.out_ioas_id);
    bench.raw(VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU as usize as *mut c_void).expect("it is empty");
    bench.call(map).expect("it has no page table");
    broken.push((rule::CUT_ALIGNMENT, bench.call(unmap)));
    broken
}
