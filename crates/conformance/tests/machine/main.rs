//! The rows of the first slice, asked of machines embedded in the test.

mod builds;
mod dma_buf_rules;
mod emulated_rules;
mod group_rules;
mod iommu_rules;
mod iommufd_rules;
mod order;
mod rows;
mod rules;
mod sriov_rules;
mod support;
mod vfio_rules;

use conformance::Target;
use machine::LayoutKind;
use machine::kconfig::Kconfig;
use machine::model::Model;
use machine::{
    CAPABILITIES, CustomDevice, DeviceSpec, Driver, Iommu, Machine, MachineSpec, MemorySpec, ModelSpec,
    NvmeBacking, PortSpec, Size,
};

use support::{Both, Bridge, Ports};

/// A machine with memory of one layout, the devices that rows ask for, and a caller who may do everything.
fn machine(layout: LayoutKind) -> (Machine, Target) {
    machine_of(layout, Kconfig::FULL)
}

/// The same, of a kernel that is built so.
fn machine_of(layout: LayoutKind, kconfig: Kconfig) -> (Machine, Target) {
    machine_with(layout, kconfig, Iommu::None, &[])
}

/// The same with an IOMMU, which some of its devices bypass.
fn machine_with(layout: LayoutKind, kconfig: Kconfig, iommu: Iommu, bypass: &[&str]) -> (Machine, Target) {
    let device = |address: &str, model| DeviceSpec {
        behind_iommu: !bypass.contains(&address),
        ..DeviceSpec::new(address.parse().expect("an address"), model)
    };
    let nvme = || ModelSpec::Nvme(NvmeBacking::Memory(Size(1 << 20)));
    let mut devices = vec![
        device("0000:00:03.0", ModelSpec::Edu),
        device("0000:00:04.0", nvme()),
        device("0000:00:05.0", ModelSpec::Edu),
        // Two functions behind a port, and one alone behind another.
        device("0000:01:00.0", ModelSpec::Edu),
        device("0000:01:00.1", nvme()),
        device("0000:02:00.0", ModelSpec::Edu),
    ];
    let port = |address: &str, bus| PortSpec { address: address.parse().expect("an address"), bus };
    let ports = custom("0000:00:06.0", Box::new(Ports), Driver::VfioPci);
    let both = custom("0000:00:08.0", Box::new(Both), Driver::VfioPci);
    let bridge = custom("0000:00:07.0", Box::new(Bridge), Driver::None);
    let mut bound: Vec<String> = devices.iter().map(|device| device.address.to_string()).collect();
    bound.splice(3..3, [&ports, &both].map(|device| device.address.to_string()));
    // Cases lend devices to this driver of the host.
    let driver = Driver::Host("uio_pci_generic".into());
    devices.push(DeviceSpec { driver, ..device("0000:00:09.0", ModelSpec::Edu) });
    let spec = MachineSpec {
        iommu,
        capabilities: CAPABILITIES.map(String::from).to_vec(),
        kconfig,
        memory: MemorySpec { layout, ..MemorySpec::default() },
        ports: vec![port("0000:00:1c.0", 1), port("0000:00:1d.0", 2)],
        devices,
        ..MachineSpec::default()
    };
    let machine = Machine::with_devices(spec, vec![ports, both, bridge]).expect("the machine can be built");
    (machine, Target { devices: bound })
}

fn custom(address: &str, model: Box<dyn Model>, driver: Driver) -> CustomDevice {
    CustomDevice { address: address.parse().expect("an address"), model, thread: true, driver }
}
