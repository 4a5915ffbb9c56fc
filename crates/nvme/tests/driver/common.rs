//! Machines with an NVMe controller, and transfers through it.

use std::time::Duration;

use ioasis::{DmaBuffer, DmaOptions, Options};
use machine::LayoutKind;
use machine::{DeviceSpec, Iommu, IommuSpec, Machine, MachineSpec, MemorySpec, ModelSpec, NvmeBacking, Size};
use nvme::{Completion, Controller, Error, Namespace, Operation, Queue, Transfer};

pub(crate) const ADDRESS: &str = "0000:01:00.0";
pub(crate) const BLOCK: usize = 512;
pub(crate) const LAYOUTS: [LayoutKind; 3] =
    [LayoutKind::Contiguous, LayoutKind::Hugepage, LayoutKind::Scattered];
/// How long a command may take, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A machine with memory in this layout and a controller over `backing`.
pub(crate) fn machine_over(backing: NvmeBacking, layout: LayoutKind, thread: bool) -> Machine {
    let device = DeviceSpec::new(ADDRESS.parse().unwrap(), ModelSpec::Nvme(backing));
    let devices = vec![if thread { device } else { device.inline() }];
    let memory = MemorySpec { layout, ..MemorySpec::default() };
    Machine::from_spec(MachineSpec { devices, memory, ..MachineSpec::default() }).unwrap()
}

/// The same over memory, with the controller behind an IOMMU.
pub(crate) fn machine_behind_iommu(layout: LayoutKind, thread: bool) -> Machine {
    let model = ModelSpec::Nvme(NvmeBacking::Memory(Size(8 << 20)));
    let device = DeviceSpec::new(ADDRESS.parse().unwrap(), model);
    let devices = vec![if thread { device } else { device.inline() }];
    let memory = MemorySpec { layout, ..MemorySpec::default() };
    let iommu = Iommu::Translating(IommuSpec::default());
    Machine::from_spec(MachineSpec { iommu, devices, memory, ..MachineSpec::default() }).unwrap()
}

/// The same over memory.
pub(crate) fn machine(layout: LayoutKind, thread: bool) -> Machine {
    machine_over(NvmeBacking::Memory(Size(8 << 20)), layout, thread)
}

/// A deterministic machine with scattered memory.
pub(crate) fn plain() -> Machine {
    machine(LayoutKind::Scattered, false)
}

/// Opens a device without an IOMMU.
pub(crate) fn open(machine: &Machine, address: &str) -> ioasis::Device<Machine> {
    ioasis::Device::open(machine, address.parse().unwrap(), &Options::new().allow_noiommu(true)).unwrap()
}

/// The machine's controller, with so many interrupt vectors, and its namespace.
pub(crate) fn bring_up(machine: &Machine, vectors: u16) -> (Controller<Machine>, Namespace) {
    let controller = Controller::new(open(machine, ADDRESS), vectors).unwrap();
    let namespace = controller.namespaces().unwrap()[0];
    (controller, namespace)
}

pub(crate) fn buffer(controller: &Controller<Machine>, length: usize) -> DmaBuffer<Machine> {
    controller.device().address_space().allocate(length, &DmaOptions::new()).unwrap()
}

/// Bytes that differ from block to block and from seed to seed.
pub(crate) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    (0..length as u64)
        .map(|at| ((at ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ (at / 512) as u8)
        .collect()
}

/// Waits for what was submitted; each completion, in order.
pub(crate) fn complete(queue: &mut Queue<Machine>) -> Vec<Completion> {
    let mut ended = Vec::new();
    while queue.under_way() > 0 {
        assert_ne!(queue.wait(PATIENCE, |completion| ended.push(completion)).unwrap(), 0);
    }
    ended
}

/// Waits for what was submitted, which is to succeed.
pub(crate) fn succeed(queue: &mut Queue<Machine>) {
    for completion in complete(queue) {
        assert_eq!(completion.status, None, "command {}", completion.tag);
    }
}

/// Moves blocks to or from an offset of a buffer.
pub(crate) fn transfer(
    queue: &mut Queue<Machine>,
    operation: Operation,
    namespace: &Namespace,
    lba: u64,
    (buffer, offset): (&DmaBuffer<Machine>, usize),
    blocks: u32,
) -> Result<(), Error> {
    queue.submit(&Transfer { operation, namespace, lba, blocks, buffer, offset }, lba)?;
    succeed(queue);
    Ok(())
}

/// What the machine stores at a byte offset.
pub(crate) fn stored(machine: &Machine, at: usize, length: usize) -> Vec<u8> {
    machine.with_storage(ADDRESS.parse().unwrap(), |bytes| bytes[at..at + length].to_vec()).unwrap()
}
