//! The VGA region of a display adapter.

use machine::{File, Machine};
use sys::{Mapping, Sys};
use uapi::Command;
use uapi::vfio::*;

use crate::common::*;

const VGA: u64 = (VFIO_PCI_VGA_REGION_INDEX as u64) << 40;
const CONFIG: u64 = (VFIO_PCI_CONFIG_REGION_INDEX as u64) << 40;

/// A machine with a display adapter, of a kernel with or without this region.
fn machine(option: &str) -> Machine {
    let text = format!(
        "[kconfig]\nCONFIG_VFIO_PCI_VGA = '{option}'\n[[device]]\naddress = '{EDU}'\nmodel = 'vga'\nthread = false"
    );
    Machine::from_spec(text.parse().unwrap()).unwrap()
}

fn read<const N: usize>(machine: &Machine, device: &File, at: u64) -> [u8; N] {
    let mut bytes = [0; N];
    assert_eq!(machine.pread(device, &mut bytes, at).unwrap(), N, "{at:#x}");
    bytes
}

fn write(machine: &Machine, device: &File, at: u64, bytes: &[u8]) {
    assert_eq!(machine.pwrite(device, bytes, at).unwrap(), bytes.len(), "{at:#x}");
}

/// The name of the rule that a read of 4 bytes breaks, or how much was read.
fn outcome(machine: &Machine, device: &File, at: u64) -> Result<usize, &'static str> {
    machine.pread(device, &mut [0; 4], at).map_err(|error| error.rule().unwrap().name)
}

#[test]
fn the_region_is_768_kib_of_which_three_ranges_answer() {
    let machine = machine("y");
    let device = Attached::new(&machine).device;
    let info = region(&machine, &device, VFIO_PCI_VGA_REGION_INDEX);
    let flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    assert_eq!((info.size, info.offset, info.flags), (0xc_0000, VGA, flags));
    for (first, last) in [(0x3b0, 0x3bb), (0x3c0, 0x3df), (0xa_0000, 0xb_ffff)] {
        assert_eq!(outcome(&machine, &device, VGA + first), Ok(4));
        assert_eq!(outcome(&machine, &device, VGA + last - 1), Ok(2), "as much as is in the range");
        for outside in [first - 1, last + 1] {
            assert_eq!(outcome(&machine, &device, VGA + outside), Err("vga.bounds"), "{outside:#x}");
        }
    }
    assert_eq!(outcome(&machine, &device, VGA), Err("vga.bounds"));
    assert!(machine.map_region(&device, Mapping::registers(VGA + 0xa_0000, 4096)).is_err());
}

#[test]
fn legacy_memory_is_the_first_of_the_frame_buffer() {
    let machine = machine("y");
    let device = Attached::new(&machine).device;
    write(&machine, &device, VGA + 0xb_8001, b"a text");
    assert_eq!(&read::<6>(&machine, &device, 0x1_8001), b"a text");
    write(&machine, &device, 0x1_ffff, b"!");
    assert_eq!(&read::<1>(&machine, &device, VGA + 0xb_ffff), b"!");
    // Whether memory decodes is the BAR's business alone.
    write(&machine, &device, CONFIG + 4, &[0, 0]);
    assert_eq!(&read::<6>(&machine, &device, VGA + 0xb_8001), b"a text");
    assert_eq!(outcome(&machine, &device, 0x1_8001), Err("bar.decoding"));
}

#[test]
fn registers_are_behind_their_index() {
    let machine = machine("y");
    let device = Attached::new(&machine).device;
    // Index and value at once, as drivers write them.
    write(&machine, &device, VGA + 0x3c4, &[2, 0x0f]);
    write(&machine, &device, VGA + 0x3ce, &[6, 0x05]);
    assert_eq!(read(&machine, &device, VGA + 0x3c4), [2, 0x0f]);
    assert_eq!(read(&machine, &device, VGA + 0x3ce), [6, 0x05]);
    write(&machine, &device, VGA + 0x3c4, &[3]);
    assert_eq!(read(&machine, &device, VGA + 0x3c4), [3, 0]);
    write(&machine, &device, VGA + 0x3c4, &[7]);
    assert_eq!(read(&machine, &device, VGA + 0x3c5), [0xff], "there are 5");
    // The CRT controller moves.
    write(&machine, &device, VGA + 0x3b4, &[0x0e, 0x12]);
    assert_eq!(read(&machine, &device, VGA + 0x3d4), [0xff, 0xff]);
    write(&machine, &device, VGA + 0x3c2, &[0x01]);
    assert_eq!(read(&machine, &device, VGA + 0x3cc), [0x01]);
    assert_eq!(read(&machine, &device, VGA + 0x3d4), [0x0e, 0x12]);
    assert_eq!(read(&machine, &device, VGA + 0x3b4), [0xff, 0xff]);
}

#[test]
fn b155_b248_no_other_device_and_no_other_kernel_has_it() {
    for machine in [machine("n"), edu_machine()] {
        let device = Attached::new(&machine).device;
        let mut info = VfioRegionInfo { index: VFIO_PCI_VGA_REGION_INDEX, ..Command::new() };
        let error = machine.ioctl(&device, &mut info).unwrap_err();
        assert_eq!(error.rule().unwrap().name, "region-info.vga");
        assert_eq!(outcome(&machine, &device, VGA + 0xa_0000), Err("region.vga"));
    }
}
