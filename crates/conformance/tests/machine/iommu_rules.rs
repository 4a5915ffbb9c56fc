//! The rules that it takes an IOMMU to break.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use machine::{DeviceSpec, Iommu, IommuSpec, Machine, MachineSpec, ModelSpec};
use subsystem::rules::iommufd as rule;
use sys::{Access, Result, Sys};
use uapi::iommufd::*;
use uapi::vfio::{VfioDeviceAttachIommufdPt, VfioDeviceBindIommufd};
use uapi::{Command, Errno};

use crate::iommufd_rules::{Bench, call};
use crate::rules::Broken;

/// Two devices of one iommu_group behind an IOMMU, one without.
const ADDRESSES: [&str; 3] = ["0000:00:03.0", "0000:00:04.0", "0000:00:05.0"];

fn machine(iommu: IommuSpec) -> Machine {
    let device = |(at, address): (usize, &str)| {
        let device = DeviceSpec::new(address.parse().expect("an address"), ModelSpec::Edu);
        match at {
            2 => DeviceSpec { behind_iommu: false, ..device },
            _ => DeviceSpec { group: Some(1), ..device },
        }
    };
    let devices = ADDRESSES.into_iter().enumerate().map(device).collect();
    let spec = MachineSpec { iommu: Iommu::Translating(iommu), devices, ..MachineSpec::default() };
    Machine::from_spec(spec).expect("the machine can be built")
}

/// A device file that is not bound.
fn open(machine: &Machine, address: &str) -> machine::File {
    let folder = format!("/sys/bus/pci/devices/{address}/vfio-dev");
    let name = machine.read_dir(Path::new(&folder)).expect("the device is registered").remove(0);
    machine.open(&Path::new("/dev/vfio/devices").join(name), Access::ReadWrite).expect("a device file")
}

fn bind(machine: &Machine, device: &machine::File, iommufd: &machine::File) -> Result<u32> {
    let iommufd = iommufd.as_fd().as_raw_fd();
    let mut bind = VfioDeviceBindIommufd { iommufd, ..VfioDeviceBindIommufd::new() };
    call(machine, device, &mut bind).map(|_| bind.out_devid)
}

fn attach(machine: &Machine, device: &machine::File, pt_id: u32) -> Result<u32> {
    let mut attach = VfioDeviceAttachIommufdPt { pt_id, ..VfioDeviceAttachIommufdPt::new() };
    call(machine, device, &mut attach).map(|_| attach.pt_id)
}

/// Each call breaks one rule, the others it keeps.
pub(crate) fn broken() -> Vec<Broken> {
    let bench = Bench::on(machine(IommuSpec::default()), ADDRESSES[0]);
    let mut broken = interrupts();
    broken.extend(windows(&bench));
    // What is refused here no longer keeps the window of the device free, as in Linux.
    broken.extend(page_tables(&bench));
    broken.extend(description(&bench));
    broken.extend(groups(&bench));
    broken.extend(mixed(&bench));
    broken
}

/// Without isolation of interrupts, devices are bound only if that is accepted.
fn interrupts() -> Vec<Broken> {
    let machine = machine(IommuSpec { interrupt_remapping: false, ..IommuSpec::default() });
    let (device, iommufd) = (open(&machine, ADDRESSES[0]), context(&machine));
    let refused = bind(&machine, &device, &iommufd);
    let parameter = Path::new("/sys/module/iommufd/parameters/allow_unsafe_interrupts");
    machine.write(parameter, b"Y").expect("the parameter can be set");
    bind(&machine, &device, &iommufd).expect("it is allowed now");
    let warning = "vfio-pci 0000:00:03.0: MSI interrupts are not secure";
    assert_eq!(machine.log().iter().filter(|line| line.starts_with(warning)).count(), 1);
    vec![(rule::BIND_INTERRUPTS, refused)]
}

fn context(machine: &Machine) -> machine::File {
    machine.open(Path::new("/dev/iommu"), Access::ReadWrite).expect("a context")
}

fn page_tables(bench: &Bench) -> Vec<Broken> {
    let alloc = bench.hwpt_alloc();
    let refused = |alloc| bench.call::<IommuHwptAlloc>(alloc);
    let nested =
        IommuHwptAlloc { pt_id: bench.hwpt, data_type: IOMMU_HWPT_DATA_VTD_S1, data_len: 24, ..alloc };
    let mut queue = IommuFaultAlloc::new();
    call(&bench.machine, &bench.iommufd, &mut queue).expect("a fault queue");
    let (flags, fault_id) = (IOMMU_HWPT_FAULT_ID_VALID, queue.out_fault_id);
    let mut faults = IommuHwptAlloc { flags, fault_id, ..alloc };
    call(&bench.machine, &bench.iommufd, &mut faults).expect("a page table that names it");
    vec![
        (rule::ATTACH_FAULTS, attach(&bench.machine, &bench.device, faults.out_hwpt_id)),
        (rule::HWPT_ALLOC_FLAGS, refused(IommuHwptAlloc { flags: IOMMU_HWPT_ALLOC_NEST_PARENT, ..alloc })),
        (rule::HWPT_ALLOC_DIRTY, refused(IommuHwptAlloc { flags: IOMMU_HWPT_ALLOC_DIRTY_TRACKING, ..alloc })),
        (rule::HWPT_ALLOC_NESTED, refused(IommuHwptAlloc { pt_id: bench.hwpt, ..alloc })),
        (rule::HWPT_ALLOC_NESTED_PARENT, refused(nested)),
    ]
}

fn description(bench: &Bench) -> Vec<Broken> {
    let info = IommuHwInfo { dev_id: bench.devid, ..IommuHwInfo::new() };
    let wanted =
        IommuHwInfo { flags: IOMMU_HW_INFO_FLAG_INPUT_TYPE, out_data_type: IOMMU_HW_INFO_TYPE_AMD, ..info };
    vec![
        (rule::HW_INFO_TYPE, bench.call(wanted)),
        (rule::HW_INFO_BUFFER, bench.call(IommuHwInfo { data_len: 24, data_uptr: 0x7000, ..info })),
    ]
}

/// What devices and page tables keep free.
fn windows(bench: &Bench) -> Vec<Broken> {
    const MSI: u64 = 0xfee0_0000;
    const BEYOND: u64 = 1 << 39;
    let ioas = || {
        let mut alloc = IommuIoasAlloc::new();
        call(&bench.machine, &bench.iommufd, &mut alloc).expect("an IOAS");
        alloc.out_ioas_id
    };
    let map = |ioas_id, iova| bench.call(IommuIoasMap { ioas_id, iova, ..bench.map() });
    let range = IommuIovaRange { start: MSI, last: MSI + 1 };
    let allow = IommuIoasAllowIovas {
        ioas_id: bench.ioas,
        num_iovas: 1,
        allowed_iovas: &raw const range as u64,
        ..IommuIoasAllowIovas::new()
    };
    let (in_window, beyond) = (ioas(), ioas());
    map(in_window, MSI).expect("nothing is kept free yet");
    map(beyond, BEYOND).expect("nothing is kept free yet");
    vec![
        (rule::MAP_RESERVED, map(bench.ioas, MSI)),
        (rule::MAP_RESERVED, map(bench.ioas, BEYOND)),
        (rule::ALLOW_IOVAS_RESERVED_REGION, bench.call(allow)),
        (rule::ATTACH_RESERVED, attach(&bench.machine, &bench.device, in_window)),
        (rule::LINK_APERTURE, attach(&bench.machine, &bench.device, beyond)),
    ]
}

/// A group belongs to one context, and has one page table there.
fn groups(bench: &Bench) -> Vec<Broken> {
    let Bench { machine, iommufd, .. } = bench;
    let (sibling, other) = (open(machine, ADDRESSES[1]), context(machine));
    let owner = bind(machine, &sibling, &other);
    bind(machine, &sibling, iommufd).expect("the group belongs to this context");
    let mut alloc = bench.hwpt_alloc();
    call(machine, iommufd, &mut alloc).expect("a page table");
    vec![(rule::BIND_OWNER, owner), (rule::ATTACH_GROUP, attach(machine, &sibling, alloc.out_hwpt_id))]
}

/// A page table that was made for a device without an IOMMU serves no other.
fn mixed(bench: &Bench) -> Vec<Broken> {
    let Bench { machine, iommufd, device, .. } = bench;
    let noiommu = open(machine, ADDRESSES[2]);
    let dev_id = bind(machine, &noiommu, iommufd).expect("it can be bound");
    let mut alloc = IommuHwptAlloc { dev_id, ..bench.hwpt_alloc() };
    call(machine, iommufd, &mut alloc).expect("a page table");
    let replaced = attach(machine, device, alloc.out_hwpt_id);
    let mut detach = uapi::vfio::VfioDeviceDetachIommufdPt::new();
    call(machine, device, &mut detach).expect("detached");
    let refused = attach(machine, device, alloc.out_hwpt_id);
    vec![(rule::REPLACE_NOIOMMU_TABLE, replaced), (rule::ATTACH_NOIOMMU_TABLE, refused)]
}

/// A device whose DMA is not coherent is refused when its driver is bound.
#[test]
fn dma_has_to_be_coherent() {
    let machine = machine(IommuSpec { coherent: false, ..IommuSpec::default() });
    assert_eq!(machine.read_dir(Path::new("/dev/vfio/devices")), Ok(vec!["noiommu-vfio0".to_string()]));
    let bind = machine.write(Path::new("/sys/bus/pci/drivers/vfio-pci/bind"), ADDRESSES[0].as_bytes());
    assert_eq!(bind.map_err(|error| error.errno()), Err(Errno::EINVAL));
}
