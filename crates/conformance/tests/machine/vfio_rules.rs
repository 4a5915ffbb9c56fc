//! The rules of VFIO that no row of the slice breaks, or none whose answer is the refusal alone.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use machine::LayoutKind;
use machine::{File, Machine};
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, getrlimit, setrlimit};
use subsystem::Refusal;
use subsystem::rules::iommufd as iommufd_rule;
use subsystem::rules::vfio as rule;
use sys::{Access, Result, Sys};
use uapi::Command;
use uapi::iommufd::IommuIoasAlloc;
use uapi::vfio::*;

use crate::machine;
use crate::rules::Broken;

/// The rules that rows break through sysfs, which tells the errno alone, and the rows.
pub(crate) const UNNAMED: &[(Refusal, &str)] =
    &[(rule::PROBE_BRIDGE, "B-027"), (rule::PROBE_NO_IOMMU, "B-004")];

/// The rules that no call on a machine can break.
pub(crate) const OUT_OF_REACH: &[(Refusal, &str)] = &[
    (rule::PROBE_TWICE, "the machine itself binds its driver to a function once"),
    (rule::PROBE_COHERENCY, "only the log names it: seen in `iommu_rules`"),
    (rule::PROBE_NO_INDEX, "it would take 2^20 devices"),
    (rule::PROBE_NODE, "the machine has room for every node, and no two have one path"),
    (rule::OPEN_UNREGISTERED, "only while the thread that unbinds has not woken up yet: at times, in B-087"),
    (rule::FILE_CLOSED, "the machine passes on no call on a closed file"),
    (rule::FILE_NOT_READABLE, CHECKED_BEFORE),
    (rule::FILE_NOT_WRITABLE, CHECKED_BEFORE),
    (rule::MAP_NOT_READABLE, CHECKED_BEFORE),
    (rule::MAP_NOT_WRITABLE, CHECKED_BEFORE),
    (rule::MAP_EMPTY, CHECKED_BEFORE),
    (rule::MAP_UNALIGNED, CHECKED_BEFORE),
    (rule::DMA_BUF_DESCRIPTOR, "the descriptors of the process are the machine's too"),
    (rule::RESET_FAILED, "the functions of a machine come back from a reset"),
    (rule::HOT_RESET_FAILED, "the buses of a machine come back from a reset"),
    (rule::SET_IRQS_NO_LINE, "a function of a machine that has an interrupt pin has a line"),
    (rule::SET_IRQS_NO_VECTORS, "a machine always has interrupt vectors left"),
    (rule::PROBE_SRIOV, ONLY_VFIO_PCI),
    (rule::TOKEN_PHYSICAL, ONLY_VFIO_PCI),
    (rule::EMULATED_CLOSED, "the driver of an emulated device is told, and no system call"),
];

const ONLY_VFIO_PCI: &str =
    "only vfio-pci makes virtual functions on a machine, and it takes them away before it lets go";
const CHECKED_BEFORE: &str = "the machine checks it as the VFS does, before the subsystem is asked";

/// The number of no open file.
const CLOSED: u32 = i32::MAX as u32;
const MINUS_ONE: u32 = u32::MAX;
const MINUS_TWO: u32 = u32::MAX - 1;

/// The size of the NVMe controller's BAR, and where the MSI-X table is in it.
const NVME_BAR: u64 = 0x4000;
const NVME_TABLE: u64 = 0x2000;

/// Where a region starts in a device file.
const fn region(index: u32) -> u64 {
    (index as u64) << 40
}

/// A bound device.
pub(crate) struct Device<'a> {
    machine: &'a Machine,
    file: File,
    pub(crate) iommufd: File,
    pub(crate) ioas: u32,
}

impl<'a> Device<'a> {
    pub(crate) fn new(machine: &'a Machine, address: &str) -> Self {
        let folder = format!("/sys/bus/pci/devices/{address}/vfio-dev");
        let name = machine.read_dir(Path::new(&folder)).expect("the device is registered").remove(0);
        let open = |path: &Path| machine.open(path, Access::ReadWrite).expect("a file to open");
        let (file, iommufd) =
            (open(&Path::new("/dev/vfio/devices").join(name)), open(Path::new("/dev/iommu")));
        let mut alloc = IommuIoasAlloc::new();
        machine.ioctl(&iommufd, &mut alloc).expect("an IOAS");
        let device = Device { machine, file, ioas: alloc.out_ioas_id, iommufd };
        let iommufd = device.iommufd.as_fd().as_raw_fd() as u32;
        device.ioctl(VFIO_DEVICE_BIND_IOMMUFD, &[16, 0, iommufd, 0]).expect("the device can be bound");
        device
    }

    /// An ioctl whose argument holds no address and is as long as it says.
    pub(crate) fn ioctl(&self, command: u32, argument: &[u32]) -> Result<u32> {
        let mut argument = argument.to_vec();
        // SAFETY: the callers pass neither addresses nor sizes beyond the argument.
        unsafe { self.machine.ioctl_raw(self.file.as_fd(), command, argument.as_mut_ptr().cast()) }
    }

    fn set_irqs(&self, flags: u32, index: u32, (start, count): (u32, u32), fds: &[u32]) -> Result<u32> {
        let argsz = 20 + 4 * fds.len() as u32;
        self.ioctl(VFIO_DEVICE_SET_IRQS, &[&[argsz, flags, index, start, count], fds].concat())
    }
}

/// Each call breaks one rule, the others it keeps.
pub(crate) fn broken() -> Vec<Broken> {
    let (machine, target) = machine(LayoutKind::Scattered);
    let nvme = Device::new(&machine, &target.devices[1]);
    let ports = Device::new(&machine, &target.devices[3]);
    let mut broken = attaching(&nvme);
    broken.extend(interrupts(&nvme, &ports));
    broken.extend(notices(&ports));
    broken.extend(hot_resets(&nvme, &Device::new(&machine, "0000:01:00.0")));
    broken.extend(features(&ports));
    broken.extend(low_power(&ports));
    broken.extend(regions(&nvme));
    broken.extend(vga());
    broken.extend(register_writes(&nvme));
    broken.extend(leaving(&machine, nvme, &target.devices[1]));
    broken
}

/// While the driver is being unbound from a function, it cannot be reset.
fn leaving(machine: &Machine, device: Device, address: &str) -> Vec<Broken> {
    let folder = format!("/sys/bus/pci/devices/{address}/vfio-dev");
    let name = machine.read_dir(Path::new(&folder)).expect("the device is registered").remove(0);
    let late = machine.open(&Path::new("/dev/vfio/devices").join(name), Access::ReadWrite).expect("a file");
    let driver = |what: &str| {
        machine.write(&Path::new("/sys/bus/pci/drivers/vfio-pci").join(what), address.as_bytes())
    };
    std::thread::scope(|scope| {
        let unbinding = scope.spawn(|| driver("unbind"));
        while machine.stat(Path::new(&folder)).is_ok() {
            assert!(!unbinding.is_finished(), "unbinding waits for the files");
            std::thread::yield_now();
        }
        let reset = device.ioctl(VFIO_DEVICE_RESET, &[]);
        let Device { file, iommufd, ioas, .. } = device;
        drop(file);
        let late = Device { machine, file: late, ioas, iommufd };
        let number = late.iommufd.as_fd().as_raw_fd() as u32;
        let bind = late.ioctl(VFIO_DEVICE_BIND_IOMMUFD, &[16, 0, number, 0]);
        drop(late);
        unbinding.join().expect("no panic").expect("the driver is unbound once the files are closed");
        driver("bind").expect("the driver is bound again");
        vec![(rule::RESET_BUSY, reset), (rule::BIND_RESET_BUSY, bind)]
    })
}

fn attaching(device: &Device) -> Vec<Broken> {
    let attach = |flags, pasid| device.ioctl(VFIO_DEVICE_ATTACH_IOMMUFD_PT, &[16, flags, device.ioas, pasid]);
    let (range, pasid) = (attach(VFIO_DEVICE_ATTACH_PASID, 1 << 31), attach(VFIO_DEVICE_ATTACH_PASID, 1));
    attach(0, 0).expect("the device can be attached");
    vec![
        (rule::ATTACH_PASID_RANGE, range),
        (iommufd_rule::ATTACH_PASID_TABLE, pasid),
        (rule::ATTACH_BUSY, attach(VFIO_DEVICE_ATTACH_PASID, 0)),
    ]
}

/// `nvme` has a line, and `ports` several vectors of MSI.
fn interrupts(nvme: &Device, ports: &Device) -> Vec<Broken> {
    const TRIGGER: u32 = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
    const TARGETS: u32 = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    const MASK: u32 = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK;
    const LINE: u32 = VFIO_PCI_INTX_IRQ_INDEX;
    const MSI: u32 = VFIO_PCI_MSI_IRQ_INDEX;
    let event = eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd");
    let fd = event.as_raw_fd() as u32;
    nvme.machine.fail_allocation(Some(1));
    let no_memory = nvme.set_irqs(TARGETS, LINE, (0, 1), &[fd]);
    nvme.set_irqs(TARGETS, LINE, (0, 1), &[fd]).expect("the line can be enabled");
    ports.set_irqs(TARGETS, MSI, (0, 1), &[fd]).expect("MSI can be enabled");
    vec![
        (rule::NO_MEMORY, no_memory),
        (rule::SET_IRQS_WRAPS, nvme.set_irqs(TRIGGER, LINE, (1, u32::MAX - 1), &[])),
        (rule::SET_IRQS_LINE_RANGE, nvme.set_irqs(MASK, LINE, (0, 0), &[])),
        (rule::SET_IRQS_FIXED, ports.set_irqs(TARGETS, MSI, (1, 1), &[fd])),
    ]
}

fn notices(device: &Device) -> Vec<Broken> {
    const TRIGGER: u32 = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
    const TARGETS: u32 = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    let set = |flags, count, fds: &[u32]| device.set_irqs(flags, VFIO_PCI_REQ_IRQ_INDEX, (0, count), fds);
    vec![
        (rule::SET_IRQS_NO_TARGET, set(TRIGGER, 1, &[])),
        (rule::SET_IRQS_NO_COUNT, set(TARGETS, 0, &[])),
        (rule::SET_IRQS_TARGET, set(TARGETS, 1, &[MINUS_TWO])),
    ]
}

/// `device` is on a root bus, and `behind` behind a port, with another function.
fn hot_resets(device: &Device, behind: &Device) -> Vec<Broken> {
    const SIBLING: &[u8] = b"0000:01:00.1";
    let reset = |argument: &[u32]| device.ioctl(VFIO_DEVICE_PCI_HOT_RESET, argument);
    let driver = |what: &str| {
        let file = Path::new("/sys/bus/pci/drivers/vfio-pci").join(what);
        behind.machine.write(&file, SIBLING).expect("the driver can be bound and unbound");
    };
    let not_owned = behind.ioctl(VFIO_DEVICE_PCI_HOT_RESET, &[12, 0, 0]);
    driver("unbind");
    let foreign = behind.ioctl(VFIO_DEVICE_PCI_HOT_RESET, &[12, 0, 0]);
    driver("bind");
    vec![
        (rule::HOT_RESET_INFO_SPACE, behind.ioctl(VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &[12, 0, 0])),
        (rule::HOT_RESET_NOT_OWNED, not_owned),
        (rule::HOT_RESET_FOREIGN, foreign),
        (rule::HOT_RESET_INFO_ARGSZ, device.ioctl(VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &[11, 0, 0])),
        (rule::HOT_RESET_ARGSZ, reset(&[11, 0, 0])),
        (rule::HOT_RESET_FLAGS, reset(&[12, 1, 0])),
        (rule::HOT_RESET_COUNT, reset(&[16, 0, 1, CLOSED])),
        (rule::HOT_RESET_NONE, reset(&[12, 0, 0])),
    ]
}

fn features(device: &Device) -> Vec<Broken> {
    const GET: u32 = VFIO_DEVICE_FEATURE_GET;
    const SET: u32 = VFIO_DEVICE_FEATURE_SET;
    const ENTRY: u32 = VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY;
    let feature = |argsz, flags| device.ioctl(VFIO_DEVICE_FEATURE, &[argsz, flags]);
    vec![
        (rule::FEATURE_ARGSZ, feature(7, SET | ENTRY)),
        (rule::FEATURE_FLAGS, feature(8, 1 << 19)),
        (rule::FEATURE_GET_SET, feature(8, GET | SET | ENTRY)),
        (rule::FEATURE_DIRECTION, feature(8, GET | ENTRY)),
        (rule::FEATURE_NO_ACTION, feature(8, ENTRY)),
        (rule::FEATURE_UNKNOWN, feature(8, GET | VFIO_DEVICE_FEATURE_MIGRATION)),
        (rule::FEATURE_PRECOPY, feature(8, GET | VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2)),
    ]
}

fn low_power(device: &Device) -> Vec<Broken> {
    const SET: u32 = VFIO_DEVICE_FEATURE_SET;
    const WAKEUP: u32 = SET | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP;
    let feature = |argument: &[u32]| device.ioctl(VFIO_DEVICE_FEATURE, argument);
    let (payload, negative) = (feature(&[8, WAKEUP]), feature(&[16, WAKEUP, MINUS_ONE, 0]));
    let file = device.file.as_fd().as_raw_fd() as u32;
    let (closed, other) = (feature(&[16, WAKEUP, CLOSED, 0]), feature(&[16, WAKEUP, file, 0]));
    let enter = || feature(&[8, SET | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY]);
    enter().expect("low power can be entered");
    vec![
        (rule::FEATURE_PAYLOAD, payload),
        (rule::FEATURE_FD_NEGATIVE, negative),
        (rule::FEATURE_FD_CLOSED, closed),
        (rule::FEATURE_NOT_EVENTFD, other),
        (rule::FEATURE_LOW_POWER, enter()),
    ]
}

fn regions(device: &Device) -> Vec<Broken> {
    let Device { machine, file, .. } = device;
    let read = machine.pread(file, &mut [0; 4], region(VFIO_PCI_VGA_REGION_INDEX));
    let write = machine.pwrite(file, &[0; 4], region(VFIO_PCI_ROM_REGION_INDEX));
    let info = [32, 0, VFIO_PCI_VGA_REGION_INDEX, 0, 0, 0, 0, 0];
    vec![
        (rule::REGION_INFO_VGA, device.ioctl(VFIO_DEVICE_GET_REGION_INFO, &info)),
        (rule::REGION_VGA, read.map(|count| count as u32)),
        (rule::ROM_WRITE, write.map(|count| count as u32)),
    ]
}

/// The VGA region of a display adapter, between its ranges.
fn vga() -> Vec<Broken> {
    let text = "[kconfig]\nCONFIG_VFIO_PCI_VGA = 'y'\n[[device]]\naddress = '0000:00:02.0'\nmodel = 'vga'";
    let machine =
        Machine::from_spec(text.parse().expect("a machine file")).expect("the machine can be built");
    let device = Device::new(&machine, "0000:00:02.0");
    let read = machine.pread(&device.file, &mut [0; 4], region(VFIO_PCI_VGA_REGION_INDEX));
    vec![(rule::VGA_BOUNDS, read.map(|count| count as u32))]
}

fn register_writes(device: &Device) -> Vec<Broken> {
    const WIDTH: u32 = VFIO_DEVICE_IOEVENTFD_32;
    // A machine has a descriptor for each of the thousand, as many as a process mostly may have.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("a process may have as many files as it may allow itself");
    let event = eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd");
    let fd = event.as_raw_fd() as u32;
    let write = |argsz, flags, offset: u64, data, fd| {
        let offset = [offset as u32, (offset >> 32) as u32];
        device.ioctl(VFIO_DEVICE_IOEVENTFD, &[argsz, flags, offset[0], offset[1], data, 0, fd, 0])
    };
    let install = |argsz, flags, offset, fd| write(argsz, flags, offset, 0, fd);
    let twice = || {
        install(32, WIDTH, 0x100, fd).expect("it can be installed");
        install(32, WIDTH, 0x100, fd)
    };
    vec![
        (rule::IOEVENTFD_ARGSZ, install(27, WIDTH, 0, fd)),
        (rule::IOEVENTFD_FLAGS, install(32, 0, 0, fd)),
        (rule::IOEVENTFD_FD, install(32, WIDTH, 0, MINUS_TWO)),
        (rule::IOEVENTFD_BAR, install(32, WIDTH, region(VFIO_PCI_CONFIG_REGION_INDEX), fd)),
        (rule::IOEVENTFD_BOUNDS, install(32, WIDTH, NVME_BAR - 2, fd)),
        (rule::IOEVENTFD_TABLE, install(32, WIDTH, NVME_TABLE, fd)),
        (rule::IOEVENTFD_UNKNOWN, install(32, WIDTH, 0, MINUS_ONE)),
        (rule::IOEVENTFD_FD_CLOSED, install(32, WIDTH, 0, CLOSED)),
        (rule::IOEVENTFD_NOT_EVENTFD, install(32, WIDTH, 0, device.file.as_fd().as_raw_fd() as u32)),
        (rule::IOEVENTFD_EXISTS, twice()),
        (
            rule::IOEVENTFD_MOST,
            (0..1001).map(|data| write(32, WIDTH, 0, data, fd)).find(Result::is_err).expect("a limit"),
        ),
    ]
}
