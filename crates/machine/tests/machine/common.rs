//! What the tests of a machine have in common: machines with an educational device, and the way to an attached device.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use machine::model::{Bar, BarKind, Identity};
use machine::{DeviceSpec, File, Machine, MachineSpec, ModelSpec};
use rustix::event::{EventfdFlags, eventfd};
use sys::{Access, Mapping, Memory, MemoryOptions, Mmio, PageSize, Result, Sys, Tailed};
use uapi::Command;
use uapi::iommufd::*;
use uapi::vfio::*;

pub(crate) const EDU: &str = "0000:02:00.0";
pub(crate) const NODE: &str = "/dev/vfio/devices/noiommu-vfio0";
pub(crate) const DRIVER: &str = "/sys/bus/pci/drivers/vfio-pci";
pub(crate) const PARAMETER: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

/// A specification with an educational device, inline.
pub(crate) fn edu_spec() -> MachineSpec {
    let edu = DeviceSpec::new(EDU.parse().unwrap(), ModelSpec::Edu).inline();
    MachineSpec { devices: vec![edu], ..MachineSpec::default() }
}

/// A machine with an educational device, inline.
pub(crate) fn edu_machine() -> Machine {
    Machine::from_spec(edu_spec()).unwrap()
}

pub(crate) fn open(machine: &Machine, path: &str) -> Result<File> {
    machine.open(Path::new(path), Access::ReadWrite)
}

pub(crate) fn read(machine: &Machine, path: &str) -> String {
    String::from_utf8(machine.read(Path::new(path)).unwrap()).unwrap()
}

pub(crate) fn write(machine: &Machine, path: &str, text: &str) -> Result<()> {
    machine.write(Path::new(path), text.as_bytes())
}

pub(crate) fn exists(machine: &Machine, path: &str) -> bool {
    machine.stat(Path::new(path)).is_ok()
}

pub(crate) fn bind_to(machine: &Machine, device: &File, iommufd: i32) -> Result<u32> {
    let mut bind = VfioDeviceBindIommufd { iommufd, ..Command::new() };
    // SAFETY: without a token the argument holds no address.
    unsafe { machine.ioctl_typed(device, &mut bind) }?;
    Ok(bind.out_devid)
}

pub(crate) fn map(machine: &Machine, iommufd: &File, ioas_id: u32, memory: &Memory) -> Result<u64> {
    let mut map = IommuIoasMap {
        flags: IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
        ioas_id,
        user_va: memory.start().as_ptr() as u64,
        length: memory.length() as u64,
        ..Command::new()
    };
    // SAFETY: the memory is not used by the program while a device has it.
    unsafe { machine.ioctl_typed(iommufd, &mut map) }?;
    Ok(map.iova)
}

/// What devices of the tests are: one BAR of so many bytes, and no interrupt.
pub(crate) fn identity(size: u64) -> Identity {
    let mut bars = [None; 6];
    bars[0] = Some(Bar { size, kind: BarKind::Memory32 });
    Identity {
        vendor: 0x1af4,
        device: 1,
        subsystem_vendor: 0,
        subsystem: 0,
        revision: 0,
        class: 0xff0000,
        bars,
        line: false,
        msi: None,
        msix: None,
        express: None,
        dma_bits: 64,
    }
}

/// An opened, bound and attached device.
pub(crate) struct Attached {
    pub(crate) device: File,
    pub(crate) iommufd: File,
    pub(crate) ioas: u32,
}

impl Attached {
    pub(crate) fn new(machine: &Machine) -> Self {
        Self::by_node(machine, NODE)
    }

    pub(crate) fn by_node(machine: &Machine, node: &str) -> Self {
        let device = open(machine, node).unwrap();
        let iommufd = open(machine, "/dev/iommu").unwrap();
        bind_to(machine, &device, iommufd.as_fd().as_raw_fd()).unwrap();
        let mut ioas = IommuIoasAlloc::new();
        machine.ioctl(&iommufd, &mut ioas).unwrap();
        let mut attach = VfioDeviceAttachIommufdPt { pt_id: ioas.out_ioas_id, ..Command::new() };
        machine.ioctl(&device, &mut attach).unwrap();
        Attached { device, iommufd, ioas: ioas.out_ioas_id }
    }

    /// Memory that the device can reach, mapped, and its physical address.
    pub(crate) fn memory(&self, machine: &Machine, length: usize) -> (Memory, u64) {
        let options = MemoryOptions { length, page_size: PageSize::Base, highest: (1 << 28) - 1 };
        let memory = machine.allocate(&options).unwrap();
        let iova = map(machine, &self.iommufd, self.ioas, &memory).unwrap();
        let mut query =
            IommuIoasNoiommuGetPa { ioas_id: self.ioas, iova, length: length as u64, ..Command::new() };
        machine.ioctl(&self.iommufd, &mut query).unwrap();
        (memory, query.out_phys)
    }

    pub(crate) fn config_offset(&self, machine: &Machine) -> u64 {
        self.region(machine, VFIO_PCI_CONFIG_REGION_INDEX).offset
    }

    pub(crate) fn region(&self, machine: &Machine, index: u32) -> VfioRegionInfo {
        region(machine, &self.device, index)
    }

    pub(crate) fn set_bus_master(&self, machine: &Machine, on: bool) {
        set_bus_master(machine, &self.device, on);
    }

    pub(crate) fn bar(&self, machine: &Machine, length: usize) -> Mmio {
        bar(machine, &self.device, length)
    }

    pub(crate) fn interrupt(&self, machine: &Machine, index: u32) -> OwnedFd {
        interrupt(machine, &self.device, index)
    }
}

pub(crate) fn region(machine: &Machine, device: &File, index: u32) -> VfioRegionInfo {
    let mut region = VfioRegionInfo { index, ..Command::new() };
    machine.ioctl(device, &mut region).unwrap();
    region
}

pub(crate) fn set_bus_master(machine: &Machine, device: &File, on: bool) {
    let command = region(machine, device, VFIO_PCI_CONFIG_REGION_INDEX).offset + 4;
    let value: u16 = if on { 0x0006 } else { 0x0002 };
    assert_eq!(machine.pwrite(device, &value.to_le_bytes(), command).unwrap(), 2);
}

/// The first BAR.
pub(crate) fn bar(machine: &Machine, device: &File, length: usize) -> Mmio {
    let offset = region(machine, device, 0).offset;
    machine.map_region(device, Mapping::registers(offset, length)).unwrap()
}

/// An eventfd that is signalled by vector 0 of an interrupt index.
pub(crate) fn interrupt(machine: &Machine, device: &File, index: u32) -> OwnedFd {
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    let mut set = Tailed::new(
        VfioIrqSet {
            argsz: size_of::<VfioIrqSet>() as u32 + 4,
            flags: VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
            index,
            start: 0,
            count: 1,
        },
        4,
    );
    set.tail_mut().copy_from_slice(&event.as_raw_fd().to_ne_bytes());
    machine.ioctl_tailed(device, &mut set).unwrap();
    event
}

/// How often an eventfd was signalled.
pub(crate) fn count(event: &OwnedFd) -> u64 {
    let mut bytes = [0; 8];
    rustix::io::read(event, &mut bytes).map_or(0, |_| u64::from_ne_bytes(bytes))
}
