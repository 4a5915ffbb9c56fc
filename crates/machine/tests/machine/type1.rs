//! type1 on a machine: its module parameters, its limit, and BARs that are mapped for devices.

use std::path::Path;

use machine::{Iommu, IommuSpec, Machine, MachineSpec, Type1Spec};
use sys::{Access, Mapping, Memory, MemoryOptions, Mmio, PageSize, Sys};
use uapi::Errno;
use uapi::vfio::*;

use crate::common::*;
use crate::container::*;

const PARAMETERS: &str = "/sys/module/vfio_iommu_type1/parameters";
const PAGE: u64 = 4096;

fn machine() -> Machine {
    Machine::from_spec(iommu_spec()).unwrap()
}

fn page(machine: &Machine) -> (Memory, u64) {
    let options = MemoryOptions { length: PAGE as usize, page_size: PageSize::Base, highest: u64::MAX };
    let memory = machine.allocate(&options).unwrap();
    let address = memory.start().as_ptr() as u64;
    (memory, address)
}

fn set(machine: &Machine, parameter: &str, text: &str) -> Result<(), Errno> {
    write(machine, &format!("{PARAMETERS}/{parameter}"), text).map_err(|error| error.errno())
}

/// The errno of a refusal, and the rule that was broken.
fn refused<T: std::fmt::Debug>(result: sys::Result<T>) -> (Errno, &'static str) {
    let error = result.unwrap_err();
    (error.errno(), error.rule().map_or("", |rule| rule.name))
}

/// As many mappings as the kernel allows, and one more.
#[test]
fn a_container_has_room_for_65535_mappings() {
    let machine = machine();
    let contained = Contained::new(&machine, FIRST);
    let (_memory, address) = page(&machine);
    let map = |number: u64| {
        map_dma(&machine, &contained.container, address, 0x1_0000_0000 + number * 2 * PAGE, PAGE)
    };
    for number in 0..65_535 {
        map(number).unwrap();
    }
    assert_eq!(refused(map(65_535)), (Errno::ENOSPC, "type1-map.limit"));
    assert_eq!(refused(map(7)), (Errno::EEXIST, "type1-map.overlap"), "that is seen first");
    assert_eq!(machine.usage().areas, 65_535);
    assert_eq!(unmap_dma(&machine, &contained.container, 0x1_0000_0000, PAGE), Ok(PAGE));
    map(65_535).unwrap();
    drop(contained);
    assert_eq!((machine.usage().areas, machine.usage().containers), (0, 0));
}

#[test]
fn the_limit_is_a_parameter() {
    let spec =
        MachineSpec { type1: Type1Spec { dma_entry_limit: 2, ..Type1Spec::default() }, ..iommu_spec() };
    let machine = Machine::from_spec(spec).unwrap();
    assert_eq!(read(&machine, &format!("{PARAMETERS}/dma_entry_limit")), "2\n");
    assert_eq!(machine.stat(Path::new(&format!("{PARAMETERS}/dma_entry_limit"))).unwrap().mode, 0o644);
    let (_memory, address) = page(&machine);
    let room = |contained: &Contained| {
        (0..9)
            .take_while(|n| map_dma(&machine, &contained.container, address, n * PAGE, PAGE).is_ok())
            .count()
    };
    let first = Contained::new(&machine, FIRST);
    set(&machine, "dma_entry_limit", "0x3\n").unwrap();
    assert_eq!(room(&first), 2, "it counts as it was");
    let second = Contained::new(&machine, ALONE);
    assert_eq!(room(&second), 3);
    for (text, errno) in [("", Errno::EINVAL), ("-1", Errno::EINVAL), ("4294967296", Errno::ERANGE)] {
        assert_eq!(set(&machine, "dma_entry_limit", text), Err(errno), "{text:?}");
    }
    set(&machine, "dma_entry_limit", "010").unwrap();
    assert_eq!(read(&machine, &format!("{PARAMETERS}/dma_entry_limit")), "8\n");
}

#[test]
fn interrupts_that_are_not_isolated_can_be_allowed() {
    let iommu = Iommu::Translating(IommuSpec { interrupt_remapping: false, ..IommuSpec::default() });
    let machine = Machine::from_spec(MachineSpec { iommu, ..iommu_spec() }).unwrap();
    let (group, container) = (open_group(&machine, FIRST).unwrap(), open_container(&machine));
    set_container(&machine, &group, &container).unwrap();
    let choose = || set_iommu(&machine, &container, VFIO_TYPE1v2_IOMMU);
    assert_eq!(refused(choose()), (Errno::EPERM, "type1.group-interrupts"));
    assert_eq!(read(&machine, &format!("{PARAMETERS}/allow_unsafe_interrupts")), "N\n");
    write(&machine, "/sys/module/iommufd/parameters/allow_unsafe_interrupts", "Y").unwrap();
    assert_eq!(refused(choose()), (Errno::EPERM, "type1.group-interrupts"), "that is another module's");
    set(&machine, "allow_unsafe_interrupts", "1").unwrap();
    choose().unwrap();
    set(&machine, "allow_unsafe_interrupts", "0").unwrap();
    let alone = open_group(&machine, ALONE).unwrap();
    assert_eq!(
        refused(set_container(&machine, &alone, &container)),
        (Errno::EPERM, "type1.group-interrupts")
    );
}

/// Two pages of the first BAR of a device that a group gave out.
fn registers(machine: &Machine, contained: &Contained, writable: bool) -> Mmio {
    let offset = region(machine, &contained.device, 0).offset;
    let mapping = Mapping { writable, ..Mapping::registers(offset, 2 * PAGE as usize) };
    machine.map_region(&contained.device, mapping).unwrap()
}

#[test]
fn a_mapped_bar_is_mapped_while_it_answers() {
    let spec = MachineSpec { capabilities: Vec::new(), ..iommu_spec() };
    let machine = Machine::from_spec(spec).unwrap();
    let contained = Contained::new(&machine, FIRST);
    let bar = registers(&machine, &contained, true);
    let address = bar.address().unwrap().as_ptr() as u64;
    let map = |address, iova, size| map_dma(&machine, &contained.container, address, iova, size);
    map(address, 0, 2 * PAGE).unwrap();
    map(address + PAGE, 0x10_0000, PAGE).unwrap();
    assert_eq!(refused(map(address + PAGE, 0x20_0000, 2 * PAGE)), (Errno::EFAULT, "type1-map.fault"));
    let only_read = registers(&machine, &contained, false);
    let unwritable = only_read.address().unwrap().as_ptr() as u64;
    assert_eq!(refused(map(unwritable, 0x20_0000, PAGE)), (Errno::EFAULT, "type1-map.fault"));

    // With decoding off the BAR does not answer; what was mapped before stays.
    let config = region(&machine, &contained.device, VFIO_PCI_CONFIG_REGION_INDEX).offset;
    let command = |value: u8| machine.pwrite(&contained.device, &[value, 0], config + 4).unwrap();
    command(0);
    assert_eq!(refused(map(address, 0x20_0000, PAGE)), (Errno::EFAULT, "type1-map.fault"));
    command(2);
    map(address, 0x20_0000, PAGE).unwrap();
    drop(bar);
    assert_eq!(refused(map(address, 0x30_0000, PAGE)), (Errno::EFAULT, "type1-map.fault"));
    assert_eq!(unmap_dma(&machine, &contained.container, 0, 0x30_0000), Ok(4 * PAGE));
}

/// Where IOMMUFD is the container, a BAR is no memory that could be pinned.
#[test]
fn an_iommufd_maps_no_bars() {
    let machine = machine();
    let contained = Contained::in_iommufd(&machine, FIRST);
    let bar = registers(&machine, &contained, true);
    let address = bar.address().unwrap().as_ptr() as u64;
    let map = map_dma(&machine, &contained.container, address, 0, PAGE);
    assert_eq!(refused(map), (Errno::EFAULT, "pin.fault"));
}

/// A machine file says how the module starts.
#[test]
fn the_parameters_are_those_of_the_file() {
    let text = "[vfio_iommu_type1]\nallow_unsafe_interrupts = true\n";
    let machine = Machine::from_spec(text.parse().unwrap()).unwrap();
    assert_eq!(read(&machine, &format!("{PARAMETERS}/allow_unsafe_interrupts")), "Y\n");
    assert_eq!(read(&machine, &format!("{PARAMETERS}/dma_entry_limit")), "65535\n");
    let text = "[kconfig]\nCONFIG_VFIO_CONTAINER = \"n\"\n";
    let machine = Machine::from_spec(text.parse().unwrap()).unwrap();
    assert!(machine.open(Path::new(PARAMETERS), Access::Read).is_err_and(|it| it.errno() == Errno::ENOENT));
}
