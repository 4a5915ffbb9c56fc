//! What mapping memory for a device costs, in each layout of memory: `IOMMU_IOAS_MAP` and `IOMMU_IOAS_UNMAP` on a machine
//! with a device attached, of 1 GiB and of 2 MiB: `cargo bench -p ioasis-machine --bench mapping [-- --quick]`.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use bench::{Comparisons, timed};
use machine::{DeviceSpec, File, LayoutKind, Machine, MachineSpec, MemorySpec, ModelSpec};
use sys::{Access, Memory, MemoryOptions, PageSize, Sys};
use uapi::Command;
use uapi::iommufd::{
    IOMMU_IOAS_MAP_READABLE, IOMMU_IOAS_MAP_WRITEABLE, IommuIoasAlloc, IommuIoasMap, IommuIoasUnmap,
};
use uapi::vfio::{VfioDeviceAttachIommufdPt, VfioDeviceBindIommufd};

const LAYOUTS: [LayoutKind; 3] = [LayoutKind::Contiguous, LayoutKind::Hugepage, LayoutKind::Scattered];

/// Pairs of calls in a round.
const CALLS: u32 = 16;

const fn of_length(length: usize) -> MemoryOptions {
    MemoryOptions { length, page_size: PageSize::Base, highest: u64::MAX }
}

/// A program that has a device attached to an IOAS.
struct Program {
    machine: Machine,
    iommufd: File,
    ioas: u32,
    _device: File,
}

impl Program {
    fn new(layout: LayoutKind) -> sys::Result<Self> {
        let edu = DeviceSpec::new("0000:01:00.0".parse().expect("an address"), ModelSpec::Edu).inline();
        let memory = MemorySpec { layout, ..MemorySpec::default() };
        let spec = MachineSpec { memory, devices: vec![edu], ..MachineSpec::default() };
        let machine = Machine::from_spec(spec).expect("a machine");
        let open = |path| machine.open(Path::new(path), Access::ReadWrite);
        let (device, iommufd) = (open("/dev/vfio/devices/noiommu-vfio0")?, open("/dev/iommu")?);
        let mut bind = VfioDeviceBindIommufd { iommufd: iommufd.as_fd().as_raw_fd(), ..Command::new() };
        // SAFETY: without a token the argument holds no address.
        unsafe { machine.ioctl_typed(&device, &mut bind) }?;
        let mut ioas = IommuIoasAlloc::new();
        machine.ioctl(&iommufd, &mut ioas)?;
        let ioas = ioas.out_ioas_id;
        machine.ioctl(&device, &mut VfioDeviceAttachIommufdPt { pt_id: ioas, ..Command::new() })?;
        Ok(Self { machine, iommufd, ioas, _device: device })
    }

    /// Maps and unmaps memory.
    fn round(&self, memory: &Memory) -> Duration {
        timed(|| (0..CALLS).for_each(|_| self.map_and_unmap(memory).expect("MAP and UNMAP")))
    }

    fn map_and_unmap(&self, memory: &Memory) -> sys::Result<()> {
        let length = memory.length() as u64;
        let mut map = IommuIoasMap {
            flags: IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
            ioas_id: self.ioas,
            user_va: memory.start().as_ptr() as u64,
            length,
            ..Command::new()
        };
        // SAFETY: the program does not touch the memory, and neither does the device.
        unsafe { self.machine.ioctl_typed(&self.iommufd, &mut map) }?;
        let mut unmap = IommuIoasUnmap { ioas_id: self.ioas, iova: map.iova, length, ..Command::new() };
        self.machine.ioctl(&self.iommufd, &mut unmap).map(|_| ())
    }
}

fn mapping(comparisons: &mut Comparisons, layout: LayoutKind) {
    let program = Program::new(layout).expect("an attached device");
    let [large, small] = [1 << 30, 2 << 20]
        .map(|length| program.machine.allocate(&of_length(length)).expect("memory of the machine"));
    let name = format!("IOAS_MAP + UNMAP, {layout:?}: 1 GiB / 2 MiB");
    comparisons.compare(&name, CALLS, Some(3.0), || program.round(&large), || program.round(&small));
}

fn main() -> ExitCode {
    let mut comparisons = Comparisons::new();
    LAYOUTS.into_iter().for_each(|layout| mapping(&mut comparisons, layout));
    comparisons.finish()
}
