//! The VGA region of display adapters: what is in it, and which cycles reach the function.

use subsystem::{FileId, Refusal, Symbol};
use uapi::Command;
use uapi::vfio::*;

use crate::client::{Client, REGION, assert_refused, machine, machine_with};
use crate::support::function::TestFunction;

const VGA: u64 = VFIO_PCI_VGA_REGION_INDEX as u64 * REGION;

fn info(client: &Client, device: FileId) -> Result<VfioRegionInfo, Refusal> {
    let argument = VfioRegionInfo { index: VFIO_PCI_VGA_REGION_INDEX, ..Command::new() };
    client.sized(device, &argument, size_of::<VfioRegionInfo>())
}

#[test]
fn cycles_are_of_up_to_4_bytes_within_a_range() {
    let vfio = machine_with(&[Symbol::VfioPciVga], &[TestFunction::vga()]);
    let (client, device) = Client::bound(&vfio);
    for (at, length, cycles) in [
        (0xa_0000, 8, "read8[0xa0000] x4, read8[0xa0004] x4"),
        (0xb_fffd, 8, "read8[0xbfffd] x1, read8[0xbfffe] x2"),
        (0x3b9, 8, "read8[0x3b9] x1, read8[0x3ba] x2"),
        (0x3c4, 2, "read8[0x3c4] x2"),
        (0x3dc, 64, "read8[0x3dc] x4"),
    ] {
        vfio.host().take_events();
        let bytes = client.read(device, VGA + at, length).unwrap();
        assert_eq!(vfio.host().take_events().join(", "), cycles);
        let expected: Vec<u8> = (at..).map(|byte| byte as u8).take(bytes.len()).collect();
        assert_eq!(bytes, expected, "{at:#x}");
        let inverted: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
        assert_eq!(client.write(device, VGA + at, &inverted), Ok(bytes.len()));
        assert_eq!(vfio.host().take_events().join(", "), cycles.replace("read", "write"));
        assert_eq!(client.read(device, VGA + at, bytes.len()), Ok(inverted));
    }
}

#[test]
fn what_is_between_the_ranges_is_refused() {
    let vfio = machine_with(&[Symbol::VfioPciVga], &[TestFunction::vga()]);
    let (client, device) = Client::bound(&vfio);
    let info = info(&client, device).unwrap();
    let flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    assert_eq!((info.size, info.offset, info.flags), (0xc_0000, VGA, flags));
    for at in [0, 0x3af, 0x3bc, 0x3bf, 0x3e0, 0x9_ffff, 0xc_0000, REGION - 1] {
        assert_refused!(client.read(device, VGA + at, 1), EINVAL, "vga.bounds");
        assert_refused!(client.write(device, VGA + at, &[0]), EINVAL, "vga.bounds");
    }
}

#[test]
fn memory_that_is_off_is_off_for_bars_alone() {
    let vfio = machine_with(&[Symbol::VfioPciVga], &[TestFunction::vga()]);
    let (client, device) = Client::bound(&vfio);
    client.set_config(device, 4, 2, 0);
    assert_refused!(client.read(device, 0, 4), EIO, "bar.decoding");
    assert!(client.read(device, VGA + 0xa_0000, 4).is_ok());
}

#[test]
fn b155_b248_it_is_one_of_vga_devices_where_the_kernel_has_it() {
    for vfio in [
        machine(&[TestFunction::vga()]),
        machine_with(&[Symbol::VfioPciVga], &[TestFunction::conventional()]),
    ] {
        let (client, device) = Client::bound(&vfio);
        assert_refused!(info(&client, device), EINVAL, "region-info.vga");
        assert_refused!(client.read(device, VGA + 0xa_0000, 4), EINVAL, "region.vga");
        assert_refused!(client.write(device, VGA + 0xa_0000, &[0]), EINVAL, "region.vga");
    }
}
