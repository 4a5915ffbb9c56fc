//! The rows of the first slice, asked of machines embedded in the test.

mod iommufd_rules;
mod rows;
mod rules;

use conformance::Target;
use machine::ram::LayoutKind;
use machine::{CAPABILITIES, DeviceSpec, Machine, MachineSpec, MemorySpec, ModelSpec, NvmeBacking, Size};

/// A machine with memory of one layout, the devices that rows ask for, and a caller who may do everything.
fn machine(layout: LayoutKind) -> (Machine, Target) {
    let device = |address: &str, model| DeviceSpec::new(address.parse().expect("an address"), model);
    let nvme = || ModelSpec::Nvme(NvmeBacking::Memory(Size(1 << 20)));
    let devices = vec![
        device("0000:00:03.0", ModelSpec::Edu),
        device("0000:00:04.0", nvme()),
        device("0000:00:05.0", ModelSpec::Edu),
    ];
    let target = Target { devices: devices.iter().map(|device| device.address.to_string()).collect() };
    let spec = MachineSpec {
        capabilities: CAPABILITIES.map(String::from).to_vec(),
        memory: MemorySpec { layout, ..MemorySpec::default() },
        devices,
        ..MachineSpec::default()
    };
    (Machine::from_spec(spec).expect("the machine can be built"), target)
}
