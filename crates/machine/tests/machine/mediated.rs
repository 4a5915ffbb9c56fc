//! Mediated devices: where they are, and what they copy and pin of the program's memory.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::thread;

use machine::{File, Machine, MachineSpec};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use sys::{Memory, MemoryOptions, PageSize, Suite, Sys};
use uapi::iommufd::*;
use uapi::vfio::*;
use uapi::{Command, Errno};

use crate::common::*;

const UUID: &str = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
const DEVICE: &str = "/sys/devices/virtual/copier/copier/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
const PAGE: u64 = 4096;

/// Registers of a copier.
const SOURCE: u64 = 0x08;
const DESTINATION: u64 = 0x10;
const LENGTH: u64 = 0x18;
const COMMAND: u64 = 0x1c;
const STATUS: u64 = 0x20;
const PINNED: u64 = 0x24;
const UNMAPS: u64 = 0x28;
const UNMAPPED: u64 = 0x30;

/// Commands of a copier.
const COPY: u32 = 1;
const PIN: u32 = 2;
const PIN_TO_WRITE: u32 = 3;
const UNPIN: u32 = 4;
const COPY_PINNED: u32 = 5;

fn machine(more: &str) -> Machine {
    let text = format!("{more}\n[[mediated]]\nuuid = \"{UUID}\"\nmodel = \"copier\"");
    Machine::from_spec(text.parse().unwrap()).unwrap()
}

/// A copier that the program has open.
struct Copier<'a> {
    machine: &'a Machine,
    device: File,
}

impl Copier<'_> {
    fn get(&self, register: u64) -> u32 {
        let mut word = [0; 4];
        assert_eq!(self.machine.pread(&self.device, &mut word, register).unwrap(), 4);
        u32::from_le_bytes(word)
    }

    fn get_wide(&self, register: u64) -> u64 {
        u64::from(self.get(register)) | u64::from(self.get(register + 4)) << 32
    }

    fn set(&self, register: u64, value: &[u8]) {
        assert_eq!(self.machine.pwrite(&self.device, value, register).unwrap(), value.len());
    }

    /// A command, and what it came to.
    fn command(&self, number: u32, from: u64, to: u64, length: u64) -> Result<(), Errno> {
        self.set(SOURCE, &from.to_le_bytes());
        self.set(DESTINATION, &to.to_le_bytes());
        self.set(LENGTH, &(length as u32).to_le_bytes());
        self.set(COMMAND, &number.to_le_bytes());
        match self.get(STATUS) {
            0 => Ok(()),
            errno => Err(Errno::from_raw(errno as i32).unwrap()),
        }
    }
}

/// A copier, and an IOAS that it is attached to, or a container.
struct Attached<'a> {
    copier: Copier<'a>,
    iommufd: File,
    ioas: u32,
}

fn attached(machine: &Machine) -> Attached<'_> {
    let device = open(machine, "/dev/vfio/devices/vfio0").unwrap();
    let iommufd = open(machine, "/dev/iommu").unwrap();
    bind_to(machine, &device, iommufd.as_fd().as_raw_fd()).unwrap();
    let mut ioas = IommuIoasAlloc::new();
    machine.ioctl(&iommufd, &mut ioas).unwrap();
    let mut attach = VfioDeviceAttachIommufdPt { pt_id: ioas.out_ioas_id, ..Command::new() };
    machine.ioctl(&device, &mut attach).unwrap();
    Attached { copier: Copier { machine, device }, iommufd, ioas: ioas.out_ioas_id }
}

impl Attached<'_> {
    fn unmap(&self, iova: u64, length: u64) -> Result<u64, Errno> {
        let mut unmap = IommuIoasUnmap { ioas_id: self.ioas, iova, length, ..Command::new() };
        let unmapped = self.copier.machine.ioctl(&self.iommufd, &mut unmap);
        unmapped.map(|_| unmap.length).map_err(|error| error.errno())
    }
}

fn memory(machine: &Machine, pages: usize) -> Memory {
    let options =
        MemoryOptions { length: pages * PAGE as usize, page_size: PageSize::Base, highest: u64::MAX };
    machine.allocate(&options).unwrap()
}

fn bytes(memory: &Memory, at: usize, length: usize) -> Vec<u8> {
    assert!(at + length <= memory.length());
    let mut bytes = vec![0; length];
    // SAFETY: within the memory, to which there is no reference.
    unsafe { sys::shared::read(memory.start().add(at), &mut bytes) };
    bytes
}

fn fill(memory: &Memory, at: usize, bytes: &[u8]) {
    assert!(at + bytes.len() <= memory.length());
    // SAFETY: as above.
    unsafe { sys::shared::write(memory.start().add(at), bytes) };
}

#[test]
fn it_is_where_the_kernel_has_such_devices() {
    let machine = machine("[[device]]\naddress = '0000:02:00.0'\nmodel = 'edu'");
    assert_eq!(machine.taint().unwrap(), 64, "the device on the bus has none");
    let by_uuid = format!("/sys/bus/mdev/devices/{UUID}");
    let link = |path: &str| machine.read_link(Path::new(path)).unwrap().display().to_string();
    assert_eq!(link(&by_uuid), format!("../../..{}", &DEVICE[4..]));
    assert_eq!(link(&format!("{DEVICE}/subsystem")), "../../../../../bus/mdev");
    assert_eq!(link(&format!("{DEVICE}/driver")), "../../../../../bus/mdev/drivers/copier");
    assert_eq!(link(&format!("{DEVICE}/iommu_group")), "../../../../../kernel/iommu_groups/1");
    assert!(exists(&machine, &format!("/sys/bus/mdev/drivers/copier/{UUID}/vfio-dev")));
    assert_eq!(read(&machine, &format!("{by_uuid}/iommu_group/name")), "vfio-noiommu\n");
    assert_eq!(read(&machine, &format!("{by_uuid}/iommu_group/type")), "unknown\n");
    assert_eq!(read(&machine, &format!("{by_uuid}/uevent")), "DRIVER=copier\n");
    assert_eq!(read(&machine, &format!("{by_uuid}/vfio-dev/vfio1/dev")), "511:1\n");
    assert!(exists(&machine, &format!("/sys/kernel/debug/vfio/{UUID}")));
    assert!(exists(&machine, "/dev/vfio/1") && exists(&machine, "/dev/vfio/devices/vfio1"));
    let said = machine.log().into_iter().filter(|line| line.contains(UUID)).collect::<Vec<_>>();
    assert_eq!(said, [format!("copier {UUID}: Adding to iommu group 1")]);

    let file = open(&machine, "/dev/vfio/devices/vfio1").unwrap();
    let fdinfo = machine.fdinfo(&file).unwrap();
    assert!(fdinfo.ends_with(&format!("vfio-device-syspath: {DEVICE}\n")), "{fdinfo}");
}

#[test]
fn alone_it_leaves_no_taint() {
    assert_eq!(machine("unsafe_noiommu_mode = false").taint().unwrap(), 0);
}

#[test]
fn it_copies_where_memory_is_mapped() {
    let machine = machine("");
    let attached = attached(&machine);
    let copier = &attached.copier;
    assert_eq!(copier.get(0), u32::from_le_bytes(*b"copy"));
    let memory = memory(&machine, 4);
    fill(&memory, 0xff0, b"a copy across pages");
    let iova = map(&machine, &attached.iommufd, attached.ioas, &memory).unwrap();
    assert_eq!(copier.command(COPY, iova + 0xff0, iova + 0x2ff8, 19), Ok(()));
    assert_eq!(bytes(&memory, 0x2ff8, 19), b"a copy across pages");
    assert_eq!(copier.command(COPY, iova, iova + 3 * PAGE, 2 * PAGE), Err(Errno::ENOENT));
    assert_eq!(copier.command(COPY, iova, iova, 0), Err(Errno::EINVAL));
    assert_eq!(copier.command(COPY, iova, iova, (64 << 10) + 1), Err(Errno::EINVAL));
    assert_eq!(copier.command(9, iova, iova, 1), Err(Errno::EINVAL));
    assert_eq!(machine.findings(), [], "it does no DMA");
}

#[test]
fn it_reaches_a_file() {
    let machine = machine("");
    let attached = attached(&machine);
    let file = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, 2 * PAGE).unwrap();
    rustix::io::pwrite(&file, b"in a file", 0x1804).unwrap();
    let mut map_file = IommuIoasMapFile {
        flags: IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_FIXED_IOVA,
        ioas_id: attached.ioas,
        fd: file.as_raw_fd(),
        length: 2 * PAGE,
        iova: 0x10_0000,
        ..Command::new()
    };
    // SAFETY: the file is used by this test only.
    unsafe { machine.ioctl_typed(&attached.iommufd, &mut map_file) }.unwrap();
    assert_eq!(attached.copier.command(COPY, 0x10_1804, 0x10_0fff, 9), Ok(()));
    let mut copied = [0; 9];
    rustix::io::pread(&file, &mut copied, 0xfff).unwrap();
    assert_eq!(&copied, b"in a file");
    assert_eq!(attached.copier.command(PIN_TO_WRITE, 0x10_0000, 0, 2 * PAGE), Ok(()));
    assert_eq!(attached.copier.command(COPY_PINNED, 0x10_1804, 0x10_0100, 9), Ok(()));
    rustix::io::pread(&file, &mut copied, 0x100).unwrap();
    assert_eq!(&copied, b"in a file");
}

#[test]
fn it_copies_within_what_it_has_pinned() {
    let machine = machine("");
    let attached = attached(&machine);
    let copier = &attached.copier;
    let memory = memory(&machine, 8);
    fill(&memory, 0x1ff8, b"across pinned pages");
    let iova = map(&machine, &attached.iommufd, attached.ioas, &memory).unwrap();
    let (from, to) = (iova + PAGE, iova + 5 * PAGE);
    assert_eq!(copier.command(PIN, from + 1, 0, PAGE), Err(Errno::EINVAL));
    assert_eq!(copier.command(PIN, iova + 7 * PAGE, 0, 2 * PAGE), Err(Errno::ENOENT));
    assert_eq!(copier.command(PIN, from, 0, PAGE + 1), Ok(()));
    assert_eq!(copier.command(PIN, to, 0, 2 * PAGE), Ok(()));
    let copy = || copier.command(COPY_PINNED, from + 0xff8, to + 0xffd, 19);
    assert_eq!(copy(), Err(Errno::EFAULT), "the destination is pinned for reading");
    assert_eq!(copier.command(PIN_TO_WRITE, to, 0, 2 * PAGE), Ok(()));
    assert_eq!(copy(), Ok(()));
    assert_eq!(bytes(&memory, 0x5ffd, 19), b"across pinned pages");
    assert_eq!(copier.get(PINNED), 6);

    assert_eq!(copier.command(UNPIN, to, 0, PAGE), Err(Errno::EINVAL), "that was never pinned alone");
    for _ in 0..2 {
        assert_eq!(copier.command(UNPIN, to, 0, 2 * PAGE), Ok(()));
    }
    assert_eq!((copy(), copier.get(PINNED)), (Err(Errno::EFAULT), 2));
    assert_eq!((attached.unmap(iova, 8 * PAGE), copier.get(PINNED)), (Ok(8 * PAGE), 0));
    assert_eq!(copier.get(UNMAPS), 1);
    assert_eq!([copier.get_wide(UNMAPPED), copier.get_wide(UNMAPPED + 8)], [iova, iova + (8 * PAGE - 1)]);
}

/// A device that is pinned to stays so when the program gives up its memory, as DMA does.
#[test]
fn what_is_pinned_outlives_the_programs_mapping() {
    let machine = machine("");
    let attached = attached(&machine);
    let (kept, given_up) = (memory(&machine, 1), memory(&machine, 1));
    let [to, from] =
        [&kept, &given_up].map(|it| map(&machine, &attached.iommufd, attached.ioas, it).unwrap());
    fill(&given_up, 0, b"pinned");
    assert_eq!(attached.copier.command(PIN, from, 0, PAGE), Ok(()));
    assert_eq!(attached.copier.command(PIN_TO_WRITE, to, 0, PAGE), Ok(()));
    drop(given_up);
    assert_eq!(attached.copier.command(COPY_PINNED, from, to, 6), Ok(()));
    assert_eq!(bytes(&kept, 0, 6), b"pinned");
    assert_eq!(
        attached.copier.command(COPY, from, to, 6),
        Err(Errno::EFAULT),
        "a copy goes through the program"
    );
}

#[test]
fn it_shares_a_container_with_a_device_behind_an_iommu() {
    let machine =
        machine("iommu = 'translating'\n[[device]]\naddress = '0000:02:00.0'\nmodel = 'edu'\nthread = false");
    let copiers_group = open(&machine, "/dev/vfio/1").unwrap();
    let edus_group = open(&machine, "/dev/vfio/0").unwrap();
    let container = open(&machine, "/dev/vfio/vfio").unwrap();
    let join = |group: &File| {
        let mut fd = container.as_fd().as_raw_fd();
        // SAFETY: the argument is a descriptor's number.
        unsafe { machine.ioctl_raw(group.as_fd(), VFIO_GROUP_SET_CONTAINER, (&raw mut fd).cast()) }.unwrap();
    };
    join(&copiers_group);
    // SAFETY: the argument is a number.
    unsafe { machine.ioctl_raw(container.as_fd(), VFIO_SET_IOMMU, std::ptr::without_provenance_mut(3)) }
        .unwrap();
    let memory = memory(&machine, 2);
    let mut map = VfioIommuType1DmaMap {
        flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        vaddr: memory.start().as_ptr() as u64,
        iova: 0x10000,
        size: 2 * PAGE,
        ..Command::new()
    };
    // SAFETY: the memory is not used by the program while a device has it.
    unsafe { machine.ioctl_typed(&container, &mut map) }.unwrap();
    let name = std::ffi::CString::new(UUID).unwrap();
    // SAFETY: the argument is a string that ends with a zero.
    let fd = unsafe {
        machine.ioctl_raw(copiers_group.as_fd(), VFIO_GROUP_GET_DEVICE_FD, name.as_ptr().cast_mut().cast())
    };
    // SAFETY: the descriptor was just opened for this program, and nobody else has it.
    let fd = unsafe { std::os::fd::FromRawFd::from_raw_fd(fd.unwrap() as i32) };
    let device = machine.adopt(fd, Path::new("copier")).unwrap();
    let copier = Copier { machine: &machine, device };
    fill(&memory, 0, b"through a container");
    assert_eq!(copier.command(COPY, 0x10000, 0x11000, 19), Ok(()));
    assert_eq!(bytes(&memory, 0x1000, 19), b"through a container");
    assert_eq!(copier.command(PIN_TO_WRITE, 0x10000, 0, PAGE), Ok(()));
    join(&edus_group);
    assert_eq!(copier.command(COPY_PINNED, 0x10008, 0x10020, 11), Ok(()));
    assert_eq!(bytes(&memory, 0x20, 11), b"a container");
    let mut unmap = VfioIommuType1DmaUnmap { iova: 0x10000, size: 2 * PAGE, ..Command::new() };
    // SAFETY: without a bitmap the argument holds no address.
    unsafe { machine.ioctl_typed(&container, &mut unmap) }.unwrap();
    assert_eq!((unmap.size, copier.get(PINNED), copier.get(UNMAPS)), (2 * PAGE, 0, 1));
    drop(copier);
    assert_eq!(machine.usage().areas, 0);
}

/// One thread maps and unmaps, the other pins and copies: each copy is done as a whole or refused, and in the end nothing
/// is left pinned.
#[test]
fn an_unmap_and_a_pin_at_once() {
    const ROUNDS: usize = 300;
    let machine = machine("");
    let attached = attached(&machine);
    let memory = memory(&machine, 4);
    let fixed = |iova| IommuIoasMap {
        flags: IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_FIXED_IOVA,
        ioas_id: attached.ioas,
        user_va: memory.start().as_ptr() as u64,
        length: 4 * PAGE,
        iova,
        ..Command::new()
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                // SAFETY: what the device writes to the memory, this test alone reads.
                unsafe { machine.ioctl_typed(&attached.iommufd, &mut fixed(0x10_0000)) }.unwrap();
                assert_eq!(attached.unmap(0x10_0000, 4 * PAGE), Ok(4 * PAGE));
            }
        });
        let set = |register, value: u32| attached.copier.set(register, &value.to_le_bytes());
        for _ in 0..ROUNDS {
            set(SOURCE, 0x10_0000);
            set(DESTINATION, 0x10_2000);
            set(LENGTH, 2 * PAGE as u32);
            for command in [PIN_TO_WRITE, COPY_PINNED, COPY, UNPIN] {
                set(COMMAND, command);
                while attached.copier.get(STATUS) == u32::MAX {}
                let status = attached.copier.get(STATUS) as i32;
                let expected = [0, Errno::ENOENT.raw(), Errno::EFAULT.raw(), Errno::EINVAL.raw()];
                assert!(expected.contains(&status), "{status}");
            }
        }
    });
    assert_eq!(attached.copier.get(PINNED), 0);
    let (device, iommufd) = (attached.copier.device, attached.iommufd);
    drop((device, iommufd, memory));
    assert_eq!((machine.usage().pages, machine.usage().contexts), (0, 0));
}

#[test]
fn configuration_space_and_a_reset() {
    let machine = machine("");
    let attached = attached(&machine);
    let copier = &attached.copier;
    const CONFIG: u64 = 7 << 40;
    assert_eq!((copier.get(CONFIG), copier.get(CONFIG + 8) >> 16), (0x0c09_1234, 0x0880));
    copier.set(CONFIG + 0x10, &[0xff; 4]);
    assert_eq!(copier.get(CONFIG + 0x10), 0xffff_f000, "the size of BAR 0");
    copier.set(SOURCE, &7_u64.to_le_bytes());
    copier.set(SOURCE + 1, &[9]);
    assert_eq!(copier.get_wide(SOURCE), 7, "a byte is no register");
    let mut byte = [0];
    machine.pread(&copier.device, &mut byte, 3).unwrap();
    assert_eq!(byte, *b"y");
    // SAFETY: a reset has no argument.
    unsafe { machine.ioctl_raw(copier.device.as_fd(), VFIO_DEVICE_RESET, std::ptr::null_mut()) }.unwrap();
    assert_eq!((copier.get_wide(SOURCE), copier.get(CONFIG + 0x10)), (0, 0));
}

#[test]
fn kernels_without_groups_or_nodes_of_devices() {
    let bare = machine("[kconfig]\nCONFIG_VFIO_GROUP = 'n'");
    assert!(exists(&bare, "/dev/vfio/devices/vfio0") && !exists(&bare, &format!("{DEVICE}/iommu_group")));
    let grouped = machine("[kconfig]\nCONFIG_VFIO_DEVICE_CDEV = 'n'");
    assert!(exists(&grouped, "/dev/vfio/0") && exists(&grouped, &format!("{DEVICE}/vfio-dev/vfio0")));
    assert!(!exists(&grouped, "/dev/vfio/devices"));
}

#[test]
fn what_is_wrong_with_the_file() {
    let refused = |text: &str| {
        let spec = text.parse::<MachineSpec>();
        spec.and_then(|spec| Machine::from_spec(spec).map(drop)).unwrap_err().to_string()
    };
    let one = format!("[[mediated]]\nuuid = \"{UUID}\"\nmodel = \"copier\"\n");
    assert_eq!(refused(&format!("{one}{one}")), format!("mediated.uuid: \"{UUID}\" is given to two devices"));
    let text = one.replace("83b8f4f2-", "83b8f4f2");
    assert!(refused(&text).contains("is not a UUID"), "{}", refused(&text));
    assert!(refused(&one.replace("copier", "nvme")).contains("unknown variant"));
}
