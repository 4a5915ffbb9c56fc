//! What only a device sees: in which state the system is while it is reset.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::{Arc, Mutex};

use machine::{CAPABILITIES, Driver, Machine, MachineSpec};
use sys::{Access, MemoryOptions, PageSize, Suite, Sys};
use uapi::Command;
use uapi::iommufd::*;
use uapi::vfio::*;

use crate::custom;
use crate::support::Witness;

const ADDRESS: &str = "0000:00:03.0";

/// Where configuration space starts in the device file.
const CONFIG: u64 = 7 << 40;

const COMMAND: u64 = 4;
const BUS_MASTER: u8 = 4;

/// What is seen during a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    bus_master: bool,
    /// `VmPin` in KiB.
    pinned: u64,
}

/// A machine whose one device looks on.
struct Bench {
    machine: Machine,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// What the device looks at. Taken away from it at the end, since the machine owns the device.
    view: Arc<Mutex<Option<Machine>>>,
}

impl Bench {
    fn new() -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let view = Arc::new(Mutex::new(None::<Machine>));
        let (record, look) = (Arc::clone(&seen), Arc::clone(&view));
        let witness = Witness {
            seen: Box::new(move || {
                if let Some(machine) = &*look.lock().unwrap() {
                    record.lock().unwrap().push(Bench::look(machine));
                }
            }),
        };
        let spec =
            MachineSpec { capabilities: CAPABILITIES.map(String::from).to_vec(), ..MachineSpec::default() };
        let witness = custom(ADDRESS, Box::new(witness), Driver::VfioPci);
        let machine = Machine::with_devices(spec, vec![witness]).unwrap();
        *view.lock().unwrap() = Some(machine.clone());
        Bench { machine, seen, view }
    }

    fn look(machine: &Machine) -> Seen {
        let pinned = machine.vm_pin().unwrap();
        Seen { bus_master: real_command(machine) & BUS_MASTER != 0, pinned }
    }

    fn now(&self) -> Seen {
        Bench::look(&self.machine)
    }

    /// What was seen since this was last called.
    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    fn open(&self, path: &str) -> machine::File {
        self.machine.open(Path::new(path), Access::ReadWrite).unwrap()
    }

    fn bind(&self, device: &machine::File, iommufd: &machine::File) {
        let iommufd = iommufd.as_fd().as_raw_fd();
        self.call(device, VfioDeviceBindIommufd { iommufd, ..VfioDeviceBindIommufd::new() });
    }

    fn call<T: Command>(&self, file: &machine::File, mut argument: T) -> T {
        // SAFETY: the only address that is passed is that of memory which outlives the machine's use of it.
        unsafe { self.machine.ioctl_typed(file, &mut argument) }.unwrap();
        argument
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.view.lock().unwrap().take();
    }
}

/// The low byte of the function's own command register.
fn real_command(machine: &Machine) -> u8 {
    let path = format!("/sys/bus/pci/devices/{ADDRESS}/config");
    machine.read(Path::new(&path)).unwrap()[COMMAND as usize]
}

/// B-703, and B-264 where somebody has left the device a bus master.
#[test]
fn bind_stops_the_device_before_it_is_reset() {
    let bench = Bench::new();
    let config = bench.open(&format!("/sys/bus/pci/devices/{ADDRESS}/config"));
    bench.machine.pwrite(&config, &[BUS_MASTER], COMMAND).unwrap();
    assert!(bench.now().bus_master, "something else has left it on");

    let (device, iommufd) = (bench.open("/dev/vfio/devices/noiommu-vfio0"), bench.open("/dev/iommu"));
    bench.bind(&device, &iommufd);
    assert_eq!(bench.take(), [Seen { bus_master: false, pinned: 0 }]);
    assert!(!bench.now().bus_master, "the user is to turn it on");
}

/// B-588
#[test]
fn close_stops_and_resets_the_device_before_memory_is_unpinned() {
    let bench = Bench::new();
    let page = MemoryOptions { length: 4096, page_size: PageSize::Base, highest: u64::MAX };
    let memory = bench.machine.allocate(&page).unwrap();
    let (device, iommufd) = (bench.open("/dev/vfio/devices/noiommu-vfio0"), bench.open("/dev/iommu"));
    bench.bind(&device, &iommufd);
    let ioas = bench.call(&iommufd, IommuIoasAlloc::new()).out_ioas_id;
    bench.call(&device, VfioDeviceAttachIommufdPt { pt_id: ioas, ..VfioDeviceAttachIommufdPt::new() });
    bench.call(
        &iommufd,
        IommuIoasMap {
            flags: IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
            ioas_id: ioas,
            user_va: memory.start().as_ptr() as u64,
            length: 4096,
            ..IommuIoasMap::new()
        },
    );
    bench.machine.pwrite(&device, &[BUS_MASTER | 2], CONFIG + COMMAND).unwrap();
    assert_eq!(bench.now(), Seen { bus_master: true, pinned: 4 });
    bench.take();

    drop(device);
    assert_eq!(bench.take(), [Seen { bus_master: false, pinned: 4 }]);
    assert_eq!(bench.now(), Seen { bus_master: false, pinned: 0 });
}

/// B-273: whether the reset really happens.
#[test]
fn a_function_level_reset_reaches_the_device() {
    const ID_EXPRESS: u8 = 0x10;
    const INITIATE: u8 = 0x80;
    let bench = Bench::new();
    let (device, iommufd) = (bench.open("/dev/vfio/devices/noiommu-vfio0"), bench.open("/dev/iommu"));
    bench.bind(&device, &iommufd);
    bench.take();
    let mut config = [0; 256];
    bench.machine.pread(&device, &mut config, CONFIG).unwrap();
    let mut at = usize::from(config[0x34]);
    while config[at] != ID_EXPRESS {
        at = usize::from(config[at + 1]);
    }
    let control = CONFIG + at as u64 + 8;
    bench.machine.pwrite(&device, &[config[at + 8], config[at + 9] | INITIATE], control).unwrap();
    assert_eq!(bench.take().len(), 1);
}
