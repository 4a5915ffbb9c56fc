//! read and write of BARs and the ROM.

use subsystem::{Function, Region, RegionKind};

use crate::client::{CONFIG, Client, REGION, assert_refused, machine};
use crate::support::function::TestFunction;
use crate::support::function::express::{BAR, TABLE, VECTORS};

#[test]
fn accesses_are_as_wide_as_their_alignment_allows() {
    let vfio = machine(&[TestFunction::express(), TestFunction::conventional()]);
    let (mut client, device) = Client::bound(&vfio);
    vfio.host().take_events();
    let bytes = client.read(device, 0x101, 32).unwrap();
    assert_eq!(bytes, (1..33).collect::<Vec<u8>>());
    let read: Vec<String> =
        ["0x101] x1", "0x102] x2", "0x104] x4", "0x108] x8", "0x110] x8", "0x118] x8", "0x120] x1"]
            .map(|place| format!("read0[{place}"))
            .into();
    assert_eq!(vfio.host().take_events(), read);
    assert_eq!(client.write(device, 0x106, &[0xaa; 3]), Ok(3));
    assert_eq!(vfio.host().take_events(), ["write0[0x106] x2", "write0[0x108] x1"]);
    assert_eq!(client.read(device, 0x105, 5).unwrap(), [5, 0xaa, 0xaa, 0xaa, 9]);

    let (_, fd) = client.iommufd();
    let io = client.open(1);
    client.bind(io, fd).unwrap();
    vfio.host().take_events();
    assert_eq!(client.read(io, 2 * REGION, 8).unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(vfio.host().take_events(), ["read2[0x0] x4", "read2[0x4] x4"], "ports have no 8-byte cycle");
}

#[test]
fn b242_to_b246_bounds() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    for offset in [0, BAR, 20 * REGION, u64::MAX] {
        assert_eq!(client.read(device, offset, 0), Ok(vec![]));
        assert_eq!(client.write(device, offset, &[]), Ok(0));
    }
    assert_refused!(client.read(device, 20 * REGION, 4), EINVAL, "region.index");
    assert_refused!(client.read(device, 9 * REGION, 4), EINVAL, "region.index");
    assert_refused!(client.read(device, 8 * REGION, 4), EINVAL, "region.vga");
    assert_eq!(client.read(device, BAR - 4, 8).unwrap().len(), 4);
    assert_eq!(client.write(device, BAR - 4, &[0; 8]), Ok(4));
    assert_refused!(client.read(device, BAR, 4), EINVAL, "bar.bounds");
    assert_refused!(client.read(device, BAR + 1, 4), EINVAL, "bar.bounds");
    assert_refused!(client.read(device, REGION, 4), EINVAL, "bar.absent");
    assert_refused!(client.write(device, REGION, &[0; 4]), EINVAL, "bar.absent");
    assert_refused!(client.read(device, 6 * REGION, 4), EINVAL, "bar.absent");
    assert_refused!(client.write(device, 6 * REGION, &[0; 4]), EINVAL, "rom.write");
}

#[test]
fn a_bar_without_an_address_is_not_accessed() {
    let mut function = TestFunction::express();
    let kind = RegionKind::Memory { wide: false, prefetchable: false };
    function.add_region(2, Region { kind, size: 0x1000, address: 0 });
    let vfio = machine(&[function]);
    let (client, device) = Client::bound(&vfio);
    assert_refused!(client.read(device, 2 * REGION, 4), EINVAL, "bar.absent");
    client.set_config(device, 0x18, 4, u32::MAX);
    assert_eq!(client.config(device, 0x18, 4), 0, "b263: and seems absent");
}

#[test]
fn b249_b252_b646_memory_answers_while_decoding_is_on() {
    let vfio = machine(&[TestFunction::express(), TestFunction::conventional()]);
    let (mut client, device) = Client::bound(&vfio);
    let mappings = || vfio.host().function(Function(0), |function| function.mappings);
    assert!(mappings());
    client.set_config(device, 4, 2, 0);
    assert!(!mappings());
    assert_refused!(client.read(device, 0, 4), EIO, "bar.decoding");
    assert_refused!(client.write(device, 0, &[0; 4]), EIO, "bar.decoding");
    client.raw(device, uapi::vfio::VFIO_DEVICE_RESET, &mut []).unwrap();
    assert!(!mappings(), "a reset does not turn it on");
    client.set_config(device, 4, 1, 2);
    assert!(mappings());
    assert!(client.read(device, 0, 4).is_ok());
    client.raw(device, uapi::vfio::VFIO_DEVICE_RESET, &mut []).unwrap();
    assert!(mappings());
    assert!(client.read(device, 0, 4).is_ok());

    let (_, fd) = client.iommufd();
    let io = client.open(1);
    client.bind(io, fd).unwrap();
    client.set_config(io, 4, 2, 0);
    assert_eq!(client.read(io, 2 * REGION, 4).unwrap().len(), 4, "ports are not asked");
}

#[test]
fn b253_b254_the_msix_table_is_not_reached() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    let end = TABLE + 16 * u64::from(VECTORS);
    let before = vfio.host().function(Function(0), |function| function.bytes[0].clone());
    vfio.host().take_events();
    assert_eq!(client.write(device, TABLE, &[0; 64]), Ok(64));
    assert_eq!(client.read(device, TABLE, 64).unwrap(), [0xff; 64]);
    assert!(vfio.host().take_events().is_empty());
    assert_eq!(client.read(device, TABLE - 2, 4).unwrap(), [0xfe, 0xff, 0xff, 0xff]);
    assert_eq!(client.read(device, end - 2, 4).unwrap(), [0xff, 0xff, end as u8, end as u8 + 1]);
    assert_eq!(vfio.host().function(Function(0), |function| function.bytes[0].clone()), before);
    client.set_config(device, 4, 2, 0);
    assert_eq!(client.read(device, TABLE, 4).unwrap(), [0xff; 4], "even while decoding is off");
}

#[test]
fn a_rom_is_read_up_to_the_end_of_its_images() {
    let mut function = TestFunction::express();
    let kind = RegionKind::Memory { wide: false, prefetchable: false };
    function.add_region(6, Region { kind, size: 0x1000, address: 0xfec0_0000 });
    let rom = &mut function.bytes[6];
    rom.fill(0x11);
    for (start, last) in [(0, 0), (0x200, 0x80)] {
        rom[start..start + 2].copy_from_slice(&[0x55, 0xaa]);
        rom[start + 0x18..start + 0x1a].copy_from_slice(&[0x40, 0]);
        rom[start + 0x40..start + 0x44].copy_from_slice(b"PCIR");
        rom[start + 0x50..start + 0x52].copy_from_slice(&[1, 0]);
        rom[start + 0x55] = last;
    }
    let broken = {
        let mut function = function.clone();
        function.bytes[6][0] = 0;
        function
    };
    let vfio = machine(&[function, broken]);
    let (mut client, device) = Client::bound(&vfio);
    let region = |client: &Client<'_>, file| {
        let mut info = uapi::vfio::VfioRegionInfo { index: 6, ..uapi::Command::new() };
        client.call(file, &mut info).unwrap();
        (info.size, info.flags)
    };
    assert_eq!(region(&client, device), (0x1000, 1));
    let bytes = client.read(device, 6 * REGION, 0x2000).unwrap();
    assert_eq!(bytes.len(), 0x1000);
    assert_eq!((bytes[0x3ff], bytes[0x400], bytes[0xfff]), (0x11, 0xff, 0xff));
    client.set_config(device, 4, 2, 0);
    assert_eq!(region(&client, device), (0x1000, 1), "decoding is turned on for a look");
    assert_eq!(vfio.host().function(Function(0), |function| function.command()), 0);
    assert_refused!(client.read(device, 6 * REGION, 4), EIO, "bar.decoding");

    let (_, fd) = client.iommufd();
    let broken = client.open(1);
    client.bind(broken, fd).unwrap();
    assert_eq!(region(&client, broken), (0, 0));
    assert_refused!(client.read(broken, 6 * REGION, 4), EINVAL, "bar.absent");
}

#[test]
fn b238_to_b241_bounds_of_configuration_space() {
    for (function, size) in [(TestFunction::express(), 4096), (TestFunction::conventional(), 256)] {
        let vfio = machine(&[function]);
        let (client, device) = Client::bound(&vfio);
        assert_eq!(client.read(device, CONFIG, 4).unwrap(), [0x36, 0x1b, 0x10, 0]);
        assert_eq!(client.read(device, CONFIG, size).unwrap().len(), size);
        let end = CONFIG + size as u64;
        assert_refused!(client.read(device, end - 4, 8), EFAULT, "config.bounds");
        assert_refused!(client.read(device, end, 4), EFAULT, "config.bounds");
        assert_refused!(client.read(device, CONFIG + REGION - 1, 1), EFAULT, "config.bounds");
        assert_refused!(client.write(device, end - 4, &[0; 8]), EFAULT, "config.bounds");
        assert_eq!(client.read(device, end - 1, 1).unwrap().len(), 1);
    }
}
