//! A driver of QEMU's `edu` device on rustix, which makes system calls by itself: nothing here knows of a machine.

use std::ffi::c_void;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::{AsFd, AsRawFd as _};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Result, pread, pwrite, read};
use rustix::ioctl::{Opcode, Updater, ioctl};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

const BIND: Opcode = 0x3b76;
const ATTACH: Opcode = 0x3b77;
const SET_IRQS: Opcode = 0x3b6e;
const IOAS_ALLOC: Opcode = 0x3b81;
const IOAS_MAP: Opcode = 0x3b85;
const GET_PA: Opcode = 0x3b95;

/// Makes an ioctl whose argument is words of 32 bits.
fn call<const OPCODE: Opcode, const WORDS: usize>(file: impl AsFd, words: &mut [u32; WORDS]) -> Result<()> {
    // SAFETY: the words are as many as the first of them says, in bytes.
    unsafe { ioctl(file, Updater::<OPCODE, _>::new(words)) }
}

fn low_and_high(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

fn main() -> Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "/dev/vfio/devices/noiommu-vfio0".to_owned());
    let iommufd = open("/dev/iommu", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let device = open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    call::<BIND, 6>(&device, &mut [16, 0, iommufd.as_raw_fd() as u32, 0, 0, 0])?;
    let mut alloc = [12, 0, 0];
    call::<IOAS_ALLOC, 3>(&iommufd, &mut alloc)?;
    let ioas = alloc[2];
    call::<ATTACH, 3>(&device, &mut [12, 0, ioas])?;

    let both = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: new addresses.
    let (bar, memory) = unsafe {
        let bar = mmap(std::ptr::null_mut(), 0x1000, both, MapFlags::SHARED, &device, 0)?;
        (bar.cast::<u8>(), mmap_anonymous(std::ptr::null_mut(), 8192, both, MapFlags::PRIVATE)?.cast::<u8>())
    };
    // SAFETY: these are registers of the device.
    let (get, set) = unsafe {
        (
            |at: usize| bar.add(at).cast::<u32>().read_volatile(),
            |at: usize, value: u64| bar.add(at).cast::<u64>().write_volatile(value),
        )
    };
    // SAFETY: as above.
    let set_word = |at: usize, value: u32| unsafe { bar.add(at).cast::<u32>().write_volatile(value) };
    assert_eq!(get(0), 0x0100_00ed);
    let mut command = [0; 2];
    let at = (7 << 40) + 4;
    assert_eq!(pread(&device, &mut command, at)?, 2);
    command[0] |= 6;
    assert_eq!(pwrite(&device, &command, at)?, 2);

    let [low, high] = low_and_high(memory as u64);
    call::<IOAS_MAP, 10>(&iommufd, &mut [40, 7, ioas, 0, low, high, 8192, 0, 0x10000, 0])?;
    let address = |iova: u32| {
        let mut get_pa = [40, 0, ioas, 0, iova, 0, 4096, 0, 0, 0];
        match call::<GET_PA, 10>(&iommufd, &mut get_pa) {
            Ok(()) => u64::from(get_pa[8]) | u64::from(get_pa[9]) << 32,
            // Behind an IOMMU.
            Err(_) => u64::from(iova),
        }
    };
    let addresses = [address(0x10000), address(0x11000)];

    let event = eventfd(0, EventfdFlags::NONBLOCK)?;
    call::<SET_IRQS, 6>(&device, &mut [24, 0x24, 1, 0, 1, event.as_raw_fd() as u32])?;
    // SAFETY: the memory is ours.
    unsafe { std::ptr::copy_nonoverlapping(b"there and back".as_ptr(), memory, 14) };
    for (from, to, direction) in [(addresses[0], 0x40000, 0), (0x40000, addresses[1], 2)] {
        set(0x80, from);
        set(0x88, to);
        set(0x90, 14);
        set_word(0x98, 1 | direction | 4);
        let mut wait = [PollFd::new(&event, PollFlags::IN)];
        assert_eq!(poll(&mut wait, Some(&Timespec { tv_sec: 10, tv_nsec: 0 }))?, 1);
        let mut count = [0; 8];
        assert_eq!((read(&event, &mut count)?, u64::from_ne_bytes(count)), (8, 1));
        set_word(0x64, get(0x24));
    }
    // SAFETY: the device has written there, and is done.
    let words = unsafe { std::slice::from_raw_parts(memory.add(4096), 14) };
    println!("{}", String::from_utf8_lossy(words));
    // In a thread too.
    let thread = std::thread::spawn(|| open("/dev/iommu", OFlags::RDWR, Mode::empty()).map(drop));
    thread.join().expect("the thread ends well")?;
    // SAFETY: nobody uses it any more.
    unsafe { munmap(bar.cast::<c_void>(), 0x1000) }
}
