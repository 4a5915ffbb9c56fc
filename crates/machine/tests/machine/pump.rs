//! A device that never stops to write to memory, and programs that have it: by its node, or by its group.

use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use machine::model::{Express, Identity, Model, Reach, Register, Work};
use machine::{CustomDevice, Driver, File, Finding, Machine, MachineSpec, Why};
use sys::{Memory, MemoryOptions, Mmio, PageSize, Sys};
use uapi::Command;
use uapi::iommufd::*;
use uapi::vfio::*;

use crate::common::*;
use crate::container::*;

/// Where programs map memory.
pub(crate) const IOVA: u64 = 0x10_0000;

/// How long something may take that has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A device that goes on writing to memory: a number that grows, at the address that was stored in its register at 0, until an
/// access is aborted or it is reset. Its register at 8 tells the number.
#[derive(Default)]
struct Pump {
    target: u64,
    count: u32,
}

impl Model for Pump {
    fn identity(&self) -> Identity {
        Identity { express: Some(Express { function_reset: true }), ..identity(4096) }
    }

    fn read(&mut self, _: Register, _: &mut Reach<'_>) -> u64 {
        u64::from(self.count)
    }

    fn write(&mut self, _: Register, value: u64, _: &mut Reach<'_>) {
        self.target = value;
    }

    fn work(&mut self, reach: &mut Reach<'_>) -> Work {
        if self.target == 0 {
            return Work::Idle;
        }
        match reach.dma.write_u32_release(self.target, self.count + 1) {
            Ok(()) => self.count += 1,
            Err(_) => self.target = 0,
        }
        Work::More
    }

    fn reset(&mut self, _: &mut Reach<'_>) {
        *self = Pump::default();
    }
}

/// A machine with a pump on a thread, behind an IOMMU.
pub(crate) fn pump_machine() -> Machine {
    let address = ALONE.parse().unwrap();
    let device =
        CustomDevice { address, model: Box::<Pump>::default(), thread: true, driver: Driver::VfioPci };
    Machine::with_devices(MachineSpec { devices: Vec::new(), ..iommu_spec() }, vec![device]).unwrap()
}

/// How a program has the device: by its node, or by its group.
pub(crate) enum Program {
    Node(Bound),
    Group(Contained),
}

/// The ways to it; the last one with an iommufd in the place of the container.
pub(crate) const WAYS: [fn(&Machine) -> Program; 3] = [
    |machine| Program::Node(Bound::new(machine, ALONE)),
    |machine| Program::Group(Contained::new(machine, ALONE)),
    |machine| Program::Group(Contained::in_iommufd(machine, ALONE)),
];

impl Program {
    fn device(&self) -> &File {
        match self {
            Program::Node(Bound { device, .. }) | Program::Group(Contained { device, .. }) => device,
        }
    }

    /// Maps memory at [`IOVA`].
    fn map(&self, machine: &Machine, memory: &Memory) {
        let (user_va, length) = (memory.start().as_ptr() as u64, memory.length() as u64);
        match self {
            Program::Group(Contained { container, .. }) => {
                map_dma(machine, container, user_va, IOVA, length).unwrap();
            }
            Program::Node(Bound { iommufd, ioas, .. }) => {
                let flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;
                let (ioas_id, iova) = (*ioas, IOVA);
                let mut map = IommuIoasMap { flags, ioas_id, user_va, length, iova, ..Command::new() };
                // SAFETY: the memory is not used by the program while a device has it.
                unsafe { machine.ioctl_typed(iommufd, &mut map) }.unwrap();
            }
        }
    }
}

/// A program whose device writes to its memory.
pub(crate) struct Pumping {
    bar: Mmio,
    /// Signalled when the program is asked to let go.
    request: OwnedFd,
    _program: Program,
    _memory: Memory,
}

impl Pumping {
    pub(crate) fn start(machine: &Machine, way: fn(&Machine) -> Program) -> Self {
        let program = way(machine);
        let memory = page(machine);
        program.map(machine, &memory);
        let device = program.device();
        let request = interrupt(machine, device, VFIO_PCI_REQ_IRQ_INDEX);
        let bar = bar(machine, device, 4096);
        set_bus_master(machine, device, true);
        bar.write64(0, IOVA);
        let pumping = Pumping { bar, request, _program: program, _memory: memory };
        pumping.goes_on();
        pumping
    }

    /// Returns when the device has written again.
    pub(crate) fn goes_on(&self) {
        let before = self.bar.read32(8);
        let end = Instant::now() + PATIENCE;
        while self.bar.read32(8) == before {
            assert!(Instant::now() < end, "the device has stopped");
            thread::yield_now();
        }
    }

    /// Returns when the program is asked to let go of the device.
    pub(crate) fn is_asked(&self, machine: &Machine) {
        assert_eq!(machine.wait(&[self.request.as_fd()], Some(PATIENCE)).unwrap(), [true]);
    }
}

/// A page of memory.
pub(crate) fn page(machine: &Machine) -> Memory {
    let options = MemoryOptions { length: 4096, page_size: PageSize::Base, highest: u64::MAX };
    machine.allocate(&options).unwrap()
}

/// What devices did that they were not entitled to, but for accesses that bus mastering was switched off under.
pub(crate) fn strays(machine: &Machine) -> Vec<Finding> {
    let mut findings = machine.findings();
    findings.retain(|finding| finding.why != Why::BusMasterOff);
    findings
}
