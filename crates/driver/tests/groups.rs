//! The `edu` device through its group, in both modes that have one, on embedded machines.

use std::path::Path;
use std::time::Duration;

use ioasis::machine::{
    Access, CAPABILITIES, DeviceSpec, Iommu, IommuSpec, LayoutKind, Machine, MachineSpec, MemorySpec,
    ModelSpec, Why,
};
use ioasis::{Device, DmaOptions, Mode, Options, PageSize, Sys};

/// The device's own buffer, 4096 bytes at this address of its own.
const DEVICE_BUFFER: u64 = 0x4_0000;

/// Where huge pages can be had that 28 address bits reach, as the device has.
const LAYOUTS: [LayoutKind; 2] = [LayoutKind::Contiguous, LayoutKind::Hugepage];

/// Where the device is.
const ADDRESS: &str = "0000:01:00.0";

/// A machine whose device has a group of this mode.
fn machine(mode: Mode, layout: LayoutKind) -> Machine {
    let edu = DeviceSpec::new(ADDRESS.parse().unwrap(), ModelSpec::Edu).inline();
    let iommu = match mode {
        Mode::Group => Iommu::Translating(IommuSpec::default()),
        _ => Iommu::None,
    };
    let memory = MemorySpec { layout, ..MemorySpec::default() };
    // Who may not see physical addresses has no use for a group without an IOMMU.
    let capabilities = CAPABILITIES.map(String::from).to_vec();
    let spec = MachineSpec { devices: vec![edu], iommu, memory, capabilities, ..MachineSpec::default() };
    Machine::from_spec(spec).unwrap()
}

fn open(machine: &Machine, mode: Mode) -> Device<Machine> {
    Device::open(machine, ADDRESS.parse().unwrap(), &Options::new().allow_noiommu(true).mode(mode)).unwrap()
}

/// Has the device copy bytes from one address to another.
fn copy(device: &Device<Machine>, source: u64, destination: u64, count: u64, way: u32) {
    let registers = device.bar(0).unwrap();
    registers.write64(0x80, source);
    registers.write64(0x88, destination);
    registers.write64(0x90, count);
    registers.write32(0x98, START | way);
    while registers.read32(0x98) & START != 0 {}
}

const START: u32 = 1;
const TO_DEVICE: u32 = 0;
const FROM_DEVICE: u32 = 2;
const INTERRUPT: u32 = 4;

#[test]
fn bytes_go_both_ways_with_an_interrupt_at_the_end() {
    let modes = [Mode::Group, Mode::GroupNoiommu];
    for (mode, layout) in modes.into_iter().flat_map(|mode| LAYOUTS.map(|layout| (mode, layout))) {
        let machine = machine(mode, layout);
        let unused = machine.usage();
        let device = open(&machine, mode);
        assert_eq!(device.mode(), mode);
        let done = device.interrupts().msi(1).unwrap().remove(0);
        device.set_bus_master(true).unwrap();
        let options = DmaOptions::new().mask_bits(28);
        let (from, to) = (
            device.address_space().allocate(4096, &options).unwrap(),
            device.address_space().allocate(4096, &options).unwrap(),
        );
        let bytes: Vec<u8> = (0..4096_u32).map(|at| ((at * 7) >> 3) as u8).collect();
        from.write_at(0, &bytes);
        copy(&device, from.address_at(0).0.get(), DEVICE_BUFFER, 4096, TO_DEVICE | INTERRUPT);
        assert_eq!(done.wait(Some(Duration::from_secs(10))).unwrap(), Some(1));
        copy(&device, DEVICE_BUFFER, to.address_at(0).0.get(), 4096, FROM_DEVICE);
        let mut arrived = vec![0; 4096];
        to.read_at(0, &mut arrived);
        assert_eq!(arrived, bytes, "{mode:?} {layout:?}");
        drop((from, to, done));
        drop(device);
        assert_eq!(machine.findings(), [], "{mode:?} {layout:?}");
        assert_eq!(machine.usage(), unused);
    }
}

/// A device that a program has from a group without an IOMMU reaches what the program has looked up, and nothing else.
#[test]
fn memory_that_was_not_looked_up_is_a_finding() {
    let machine = machine(Mode::GroupNoiommu, LayoutKind::Hugepage);
    let device = open(&machine, Mode::GroupNoiommu);
    device.set_bus_master(true).unwrap();
    let options = DmaOptions::new().mask_bits(28);
    let known = device.address_space().allocate(4096, &options).unwrap();
    let reads = |address| {
        let before = machine.findings().len();
        copy(&device, address, DEVICE_BUFFER, 16, TO_DEVICE);
        machine.findings().get(before).map(|finding| finding.why)
    };
    let address = known.address_at(0).0.get();
    assert_eq!(reads(address), None);
    drop(known);
    assert_eq!(reads(address), Some(Why::Unknown), "the program has given it back");

    // Base pages move, and so their addresses are worth nothing.
    let base = |page_size| {
        let options = sys::MemoryOptions { length: 4096, page_size, highest: (1 << 28) - 1 };
        machine.allocate(&options).unwrap()
    };
    let look_up = |memory: &sys::Memory| {
        let pagemap = machine.open(Path::new("/proc/self/pagemap"), sys::Access::Read).unwrap();
        let mut entry = [0; 8];
        machine.pread(&pagemap, &mut entry, memory.start().as_ptr() as u64 / 4096 * 8).unwrap();
        (u64::from_ne_bytes(entry) & ((1 << 55) - 1)) * 4096
    };
    let small = base(PageSize::Base);
    assert_eq!(reads(look_up(&small)), Some(Why::Movable));
    let huge = base(PageSize::Huge2M);
    let address = look_up(&huge);
    assert_eq!(reads(address), None);
    assert_eq!(reads(address + 4096), Some(Why::Unknown), "the next page was not asked for");
    let findings = machine.findings();
    assert!(findings.iter().all(|finding| finding.access == Access::Read));
    assert!(findings[1].to_string().ends_with("may move that memory at any time: it is not in huge pages"));
}

/// Nothing is mapped for the devices of a container unless the program does it.
#[test]
fn memory_of_a_container_that_was_unmapped_is_a_finding() {
    let machine = machine(Mode::Group, LayoutKind::Scattered);
    let device = open(&machine, Mode::Group);
    device.set_bus_master(true).unwrap();
    let memory = device.address_space().allocate(4096, &DmaOptions::new().mask_bits(28)).unwrap();
    let address = memory.address_at(0).0.get();
    copy(&device, address, DEVICE_BUFFER, 16, TO_DEVICE);
    assert_eq!(machine.findings(), []);
    drop(memory);
    copy(&device, address, DEVICE_BUFFER, 16, TO_DEVICE);
    let [finding] = &machine.findings()[..] else { panic!("{:?}", machine.findings()) };
    assert!(finding.iova && matches!(finding.why, Why::AfterUnmap { .. }), "{finding}");
}

#[test]
fn registers_keep_the_device_open() {
    let machine = machine(Mode::GroupNoiommu, LayoutKind::Scattered);
    let unused = machine.usage();
    let device = open(&machine, Mode::GroupNoiommu);
    let registers = device.bar(0).unwrap();
    drop(device);
    assert_ne!(machine.usage(), unused, "a mapping is left");
    assert_ne!(registers.read32(0), u32::MAX);
    drop(registers);
    assert_eq!(machine.usage(), unused);
}
