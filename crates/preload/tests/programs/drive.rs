//! A driver of QEMU's `edu` device on libc and std: nothing here knows of a machine.

use std::ffi::{c_int, c_long, c_ulong, c_void};
use std::fs::{File, OpenOptions};
use std::io::{Error, Result};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

unsafe extern "C" {
    fn ioctl(file: c_int, command: c_ulong, ...) -> c_int;
    fn mmap(address: *mut c_void, length: usize, protection: c_int, flags: c_int, file: c_int, offset: c_long) -> *mut c_void;
}

/// Makes an ioctl whose argument is words of 32 bits.
fn call<const WORDS: usize>(file: &File, command: c_ulong, words: &mut [u32; WORDS]) -> Result<()> {
    // SAFETY: the words are as many as the first of them says, in bytes.
    match unsafe { ioctl(file.as_raw_fd(), command, words.as_mut_ptr()) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

fn open(path: &str) -> Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

fn main() -> Result<()> {
    let path = std::env::args().nth(1).expect("a device");
    let (iommufd, device) = (open("/dev/iommu")?, open(&path)?);
    call(&device, 0x3b76, &mut [16, 0, iommufd.as_raw_fd() as u32, 0, 0, 0])?;
    let mut alloc = [12, 0, 0];
    call(&iommufd, 0x3b81, &mut alloc)?;
    let ioas = alloc[2];
    call(&device, 0x3b77, &mut [12, 0, ioas])?;

    // Shared memory of the device, then private memory of nobody's.
    // SAFETY: new addresses.
    let (bar, memory) = unsafe {
        let bar = mmap(std::ptr::null_mut(), 0x1000, 3, 0x01, device.as_raw_fd(), 0);
        (bar.cast::<u8>(), mmap(std::ptr::null_mut(), 8192, 3, 0x22, -1, 0).cast::<u8>())
    };
    let mut command = [0; 2];
    device.read_exact_at(&mut command, (7 << 40) + 4)?;
    command[0] |= 6;
    device.write_all_at(&command, (7 << 40) + 4)?;

    let start = memory as u64;
    call(&iommufd, 0x3b85, &mut [40, 7, ioas, 0, start as u32, (start >> 32) as u32, 8192, 0, 0x10000, 0])?;
    let addresses = [0x10000, 0x11000].map(|iova| {
        let mut get_pa = [40, 0, ioas, 0, iova, 0, 4096, 0, 0, 0];
        // Behind an IOMMU it is refused, and the device is told the IOVA.
        call(&iommufd, 0x3b95, &mut get_pa).map_or(iova.into(), |()| u64::from(get_pa[8]) | u64::from(get_pa[9]) << 32)
    });
    // SAFETY: the memory is this program's, and the registers are those of the device.
    let words = unsafe {
        memory.copy_from_nonoverlapping(b"there and back".as_ptr(), 14);
        for (from, to, direction) in [(addresses[0], 0x40000, 0), (0x40000, addresses[1], 2)] {
            bar.add(0x80).cast::<u64>().write_volatile(from);
            bar.add(0x88).cast::<u64>().write_volatile(to);
            bar.add(0x90).cast::<u64>().write_volatile(14);
            bar.add(0x98).cast::<u32>().write_volatile(1 | direction);
            while bar.add(0x98).cast::<u32>().read_volatile() & 1 != 0 {
                std::thread::yield_now();
            }
        }
        std::slice::from_raw_parts(memory.add(4096), 14)
    };
    println!("{}", String::from_utf8_lossy(words));
    Ok(())
}
