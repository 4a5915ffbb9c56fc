//! GET_INFO, GET_REGION_INFO, GET_IRQ_INFO, reset and features.

use subsystem::{Function, MapRequest, Region, RegionKind};
use uapi::vfio::*;
use uapi::{Command, Errno};

use crate::client::{Client, PARAMETERS, REGION, Vfio, assert_refused, machine};
use crate::support::function::{TestFunction, conventional, express};
use crate::support::host::TestHost;

fn region(client: &Client<'_>, device: subsystem::FileId, index: u32) -> (u64, u32) {
    let mut info = VfioRegionInfo { index, ..Command::new() };
    client.call(device, &mut info).unwrap();
    assert_eq!(info.offset, u64::from(index) * REGION, "even where there is nothing");
    (info.size, info.flags)
}

fn irq(client: &Client<'_>, device: subsystem::FileId, index: u32) -> (u32, u32) {
    let mut info = VfioIrqInfo { index, ..Command::new() };
    client.call(device, &mut info).unwrap();
    (info.count, info.flags)
}

#[test]
fn b143_to_b148_the_device() {
    for (function, flags) in [(TestFunction::express(), 3), (TestFunction::conventional(), 2)] {
        let vfio = machine(&[function]);
        let (client, device) = Client::bound(&vfio);
        assert_refused!(client.sized(device, &VfioDeviceInfo::new(), 15), EINVAL, "get-info.argsz");
        let info = client.sized(device, &VfioDeviceInfo::new(), 24).unwrap();
        assert_eq!((info.flags, info.num_regions, info.num_irqs, info.cap_offset), (flags, 9, 5, 0));
        // Not more is written back than is asked for.
        let untouched = VfioDeviceInfo { cap_offset: 0x55, pad: 0x66, ..Command::new() };
        let info = client.sized(device, &untouched, 16).unwrap();
        assert_eq!((info.num_irqs, info.cap_offset, info.pad), (5, 0x55, 0x66));
    }
}

#[test]
fn b148_a_reset_that_failed_at_open_is_none() {
    let vfio = machine(&[TestFunction { reset_error: Some(Errno::ENOTTY), ..TestFunction::express() }]);
    let (client, device) = Client::bound(&vfio);
    let info = client.sized(device, &VfioDeviceInfo::new(), 24).unwrap();
    assert_eq!(info.flags & VFIO_DEVICE_FLAGS_RESET, 0);
    assert_refused!(client.raw(device, VFIO_DEVICE_RESET, &mut []), EINVAL, "reset.impossible");
}

#[test]
fn b149_to_b157_regions() {
    let vfio = machine(&[TestFunction::express(), TestFunction::conventional()]);
    let (mut client, device) = Client::bound(&vfio);
    let argument = VfioRegionInfo::new();
    assert_refused!(client.sized(device, &argument, 31), EINVAL, "region-info.argsz");
    assert_eq!(region(&client, device, 7), (4096, 3));
    assert_eq!(region(&client, device, 0), (express::BAR, 0xf));
    for absent in [1, 2, 5, 6] {
        assert_eq!(region(&client, device, absent), (0, 0), "{absent}");
    }
    for (index, rule) in [(8, "region-info.vga"), (9, "region-info.index"), (u32::MAX, "region-info.index")] {
        let rule_broken =
            crate::client::refused(client.sized(device, &VfioRegionInfo { index, ..argument }, 32));
        assert_eq!((rule_broken.errno, rule_broken.name), (Errno::EINVAL, rule));
    }
    let (_, fd) = client.iommufd();
    let device = client.open(1);
    client.bind(device, fd).unwrap();
    assert_eq!(region(&client, device, 7), (256, 3));
    assert_eq!(region(&client, device, 0), (0x100, 7), "small, but alone in its page");
    assert_eq!(region(&client, device, 2), (0x40, 3), "I/O ports");
}

#[test]
fn a_small_bar_in_the_middle_of_a_page_is_not_mappable() {
    let mut function = TestFunction::express();
    let kind = RegionKind::Memory { wide: false, prefetchable: false };
    function.add_region(2, Region { kind, size: 0x100, address: 0xfeb0_0100 });
    let vfio = machine(&[function]);
    let (client, device) = Client::bound(&vfio);
    assert_eq!(region(&client, device, 2), (0x100, 3));
    let map = vfio.map(&client.caller.ctx(), device, MapRequest::shared(2 * REGION, 4096));
    assert_refused!(map, EINVAL, "map.unmappable");
}

#[test]
fn b158_to_b160_the_capability_of_the_bar_with_the_msix_table() {
    let vfio = machine(&[TestFunction::express(), TestFunction::conventional()]);
    let (mut client, device) = Client::bound(&vfio);
    let argument = VfioRegionInfo { cap_offset: 0x55, ..Command::new() };
    for size in [32, 39] {
        let info = client.sized(device, &argument, size).unwrap();
        assert_eq!((info.argsz, info.cap_offset, info.flags), (40, 0, 0xf), "{size}");
    }
    let mut bytes = [0; 40];
    bytes[0] = 40;
    client.raw(device, VFIO_DEVICE_GET_REGION_INFO, &mut bytes).unwrap();
    assert_eq!(bytes[12..16], [32, 0, 0, 0]);
    assert_eq!(bytes[32..], [3, 0, 1, 0, 0, 0, 0, 0]);

    let info = client.sized(device, &VfioRegionInfo { index: 7, ..argument }, 64).unwrap();
    assert_eq!((info.argsz, info.cap_offset), (64, 0x55));
    let (_, fd) = client.iommufd();
    let device = client.open(1);
    client.bind(device, fd).unwrap();
    let info = client.sized(device, &argument, 32).unwrap();
    assert_eq!((info.argsz, info.cap_offset), (32, 0x55));
}

#[test]
fn b161_to_b169_interrupts() {
    let vfio = machine(&[TestFunction::express(), TestFunction::conventional()]);
    let (mut client, device) = Client::bound(&vfio);
    let argument = VfioIrqInfo::new();
    assert_refused!(client.sized(device, &argument, 15), EINVAL, "irq-info.argsz");
    assert_refused!(
        client.sized(device, &VfioIrqInfo { index: 5, ..argument }, 16),
        EINVAL,
        "irq-info.index"
    );
    assert_eq!(irq(&client, device, 0), (0, 7));
    assert_eq!(irq(&client, device, 1), (0, 9));
    assert_eq!(irq(&client, device, 2), (express::VECTORS, 1));
    assert_eq!(irq(&client, device, 3), (1, 9));
    assert_eq!(irq(&client, device, 4), (1, 9));
    let (_, fd) = client.iommufd();
    let device = client.open(1);
    client.bind(device, fd).unwrap();
    assert_eq!(irq(&client, device, 0), (1, 7));
    assert_eq!(irq(&client, device, 1), (conventional::VECTORS, 9));
    assert_eq!(irq(&client, device, 2), (0, 9), "where there is no MSI-X, nothing is added to it");
    assert_eq!(irq(&client, device, 3), (1, 9), "on a conventional function too");
}

#[test]
fn b163_a_pin_without_a_wired_line_is_hidden() {
    let vfio = machine(&[TestFunction { line: None, ..TestFunction::conventional() }]);
    let (client, device) = Client::bound(&vfio);
    assert_eq!(irq(&client, device, 0), (0, 7));
    assert_eq!(client.config(device, 0x3d, 1), 0);
}

#[test]
fn b166_msix_without_dynamic_vectors() {
    let vfio =
        Vfio::new(TestHost::new(), subsystem::Parameters { dynamic_msix: false, ..PARAMETERS }).unwrap();
    vfio.probe(vfio.host().add_function(TestFunction::express())).unwrap();
    let (client, device) = Client::bound(&vfio);
    assert_eq!(irq(&client, device, 2), (express::VECTORS, 9));
}

#[test]
fn b183_b184_reset() {
    let vfio = machine(&[TestFunction::express(), TestFunction::conventional()]);
    let (mut client, device) = Client::bound(&vfio);
    client.set_config(device, 4, 2, 6);
    vfio.host().take_events();
    assert_eq!(client.raw(device, VFIO_DEVICE_RESET, &mut []), Ok(0));
    let events = vfio.host().take_events();
    let at = |event: &str| events.iter().position(|other| other == event).unwrap();
    assert!(at("mappings off") < at("config[0x4] = 0x400"), "{events:?}");
    assert!(at("config[0x4] = 0x400") < at("reset"), "silent and stopped meanwhile: {events:?}");
    assert!(at("reset") < at("mappings on"), "{events:?}");
    assert_eq!(vfio.host().function(Function(0), |function| function.command()), 6, "as it was");

    let fail = |error| vfio.host().function(Function(0), |function| function.reset_error = Some(error));
    fail(Errno::EAGAIN);
    assert_refused!(client.raw(device, VFIO_DEVICE_RESET, &mut []), EAGAIN, "reset.busy");
    fail(Errno::ETIMEDOUT);
    assert_refused!(client.raw(device, VFIO_DEVICE_RESET, &mut []), ENOTTY, "reset.failed");

    let (_, fd) = client.iommufd();
    let device = client.open(1);
    client.bind(device, fd).unwrap();
    assert_refused!(client.raw(device, VFIO_DEVICE_RESET, &mut []), EINVAL, "reset.impossible");
}

#[test]
fn hot_reset_of_a_function_on_a_root_bus() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    assert_refused!(client.sized(device, &VfioPciHotResetInfo::new(), 11), EINVAL, "hot-reset-info.argsz");
    assert_refused!(client.sized(device, &VfioPciHotResetInfo::new(), 64), ENODEV, "hot-reset.none");
    let reset = VfioPciHotReset::new();
    assert_refused!(client.sized(device, &reset, 11), EINVAL, "hot-reset.argsz");
    assert_refused!(
        client.sized(device, &VfioPciHotReset { flags: 1, ..reset }, 12),
        EINVAL,
        "hot-reset.flags"
    );
    assert_refused!(
        client.sized(device, &VfioPciHotReset { count: 1, ..reset }, 16),
        EINVAL,
        "hot-reset.count"
    );
    assert_refused!(client.sized(device, &reset, 12), ENODEV, "hot-reset.none");
}

#[test]
fn features() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    let feature = |flags| client.sized(device, &VfioDeviceFeature { flags, ..Command::new() }, 8).map(|_| ());
    let (get, set, probe) = (VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_SET, VFIO_DEVICE_FEATURE_PROBE);
    assert_refused!(client.sized(device, &VfioDeviceFeature::new(), 7), EINVAL, "feature.argsz");
    assert_refused!(feature(1 << 19), EINVAL, "feature.flags");
    assert_refused!(feature(get | set | 3), EINVAL, "feature.get-set");
    for unknown in [0, 1, 2, 6, 7, 8, 9, 10, 11, 13, 14, 0xffff] {
        assert_refused!(feature(unknown | set | probe), ENOTTY, "feature.unknown");
    }
    assert_refused!(feature(12 | set), EINVAL, "feature.precopy");
    assert_refused!(feature(3 | get), EINVAL, "feature.direction");
    assert_refused!(feature(3), EINVAL, "feature.no-action");
    assert_eq!(feature(3 | set | probe), Ok(()));
    assert_eq!(feature(5 | set), Ok(()), "leaving what was never entered");
    assert_eq!(feature(3 | set), Ok(()));
    assert_refused!(feature(3 | set), EINVAL, "feature.low-power");
    assert!(!vfio.host().function(Function(0), |function| function.mappings));
    assert!(client.read(device, 0, 4).is_ok(), "a read wakes it up");
    assert_eq!(feature(5 | set), Ok(()));
    assert!(vfio.host().function(Function(0), |function| function.mappings));
}
