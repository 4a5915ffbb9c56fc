//! Closing with everything still live.

use subsystem::{Function, Usage};

use crate::client::{Client, Vfio, machine};
use crate::support::function::TestFunction;
use crate::support::memory::Layout;

const BUFFER: u64 = 0x4000_0000;

/// A process with a bound and attached device, whose interrupts are enabled, and 4 mapped pages.
fn live(vfio: &Vfio) -> (Client<'_>, subsystem::FileId, subsystem::FileId, u32) {
    let mut client = Client::new(vfio);
    let (iommufd, fd) = client.iommufd();
    let device = client.open(0);
    client.bind(device, fd).unwrap();
    let ioas = client.ioas(iommufd);
    vfio.host().ram(|ram| ram.map(client.caller.task, BUFFER, 4, Layout::Scattered, true));
    client.map(iommufd, ioas, BUFFER, 0, 4 * 4096);
    client.attach(device, ioas).unwrap();
    let (_, event) = client.eventfd();
    client.set_events(device, uapi::vfio::VFIO_PCI_MSIX_IRQ_INDEX, 0, &[event, event]).unwrap();
    client.set_events(device, uapi::vfio::VFIO_PCI_REQ_IRQ_INDEX, 0, &[event]).unwrap();
    client.set_config(device, 4, 2, 6);
    (client, iommufd, device, ioas)
}

fn pinned(vfio: &Vfio) -> u64 {
    vfio.host().in_use().pinned_pages
}

#[test]
fn b083_b588_the_device_is_stopped_before_anything_else() {
    let vfio = machine(&[TestFunction::express()]);
    let (_, _, device, _) = live(&vfio);
    vfio.host().take_events();
    vfio.release(device);
    let events = vfio.host().take_events();
    let at = |event: &str| {
        events.iter().position(|other| other == event).unwrap_or_else(|| panic!("{event}: {events:?}"))
    };
    assert!(at("config[0x4] = 0x2") < at("MsiX off"));
    assert!(at("MsiX off") < at("reset"));
    assert!(at("mappings off") < at("reset"));
    let function = Function(0);
    assert_eq!(vfio.host().function(function, |function| function.command() & 4), 0);
    assert!(!vfio.host().may_reach(function, 0));
}

#[test]
fn b588_pages_are_unpinned_after_the_reset() {
    let vfio = machine(&[TestFunction::express()]);
    let (_, _, device, _) = live(&vfio);
    assert_eq!(pinned(&vfio), 4);
    // While the function is being reset, everything is still pinned.
    let seen = vfio.host().pinned_at_reset();
    vfio.release(device);
    assert_eq!(seen.lock().unwrap().as_slice(), [4]);
    assert_eq!(pinned(&vfio), 0);
}

#[test]
fn b579_b581_the_context_survives_the_device() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, iommufd, device, ioas) = live(&vfio);
    vfio.release(device);
    assert_eq!((pinned(&vfio), vfio.usage().areas), (0, 1));
    let fd = client.caller.install(crate::support::host::Descriptor::Ours(iommufd));
    let device = client.open(0);
    assert_eq!(client.bind(device, fd), Ok(1));
    client.attach(device, ioas).unwrap();
    assert_eq!(pinned(&vfio), 4);
    assert!(client.physical(iommufd, ioas, 0).is_ok());
}

#[test]
fn b580_b582_in_whatever_order_files_are_closed_nothing_is_left() {
    let orders: [[usize; 2]; 2] = [[0, 1], [1, 0]];
    for order in orders {
        let vfio = machine(&[TestFunction::express()]);
        let (_, iommufd, device, _) = live(&vfio);
        order.iter().for_each(|which| vfio.release([iommufd, device][*which]));
        assert_eq!(vfio.usage(), Usage { devices: 1, groups: 1, ..Usage::default() });
        assert_eq!(pinned(&vfio), 0);
        vfio.remove(Function(0));
        assert_eq!(vfio.usage(), Usage::default());
    }
}

#[test]
fn b703_bus_mastering_is_off_before_the_reset_at_open() {
    let vfio = machine(&[TestFunction::express()]);
    vfio.host().function(Function(0), |function| function.store_config(4, 2, 4));
    Client::bound(&vfio);
    let events = vfio.host().take_events();
    let at = |event: &str| {
        events.iter().position(|other| other == event).unwrap_or_else(|| panic!("{event}: {events:?}"))
    };
    assert!(at("config[0x4] = 0x0") < at("reset"));
}

#[test]
fn registers_that_the_user_changed_are_restored() {
    let vfio = machine(&[TestFunction { can_reset: false, ..TestFunction::express() }]);
    let (client, device) = Client::bound(&vfio);
    let read = |at| vfio.host().function(Function(0), |function| function.load_config(at, 2));
    let registers = [4, 0x0c, crate::support::function::express::EXPRESS + 8];
    let before = registers.map(read);
    for at in registers {
        client.set_config(device, at, 2, 0x0107);
        assert_ne!(read(at), before[0] ^ !0, "{at:#x}");
    }
    assert_ne!(registers.map(read), before);
    vfio.release(device);
    assert_eq!(registers.map(read), before);
}

#[test]
fn a_device_in_d3_is_woken_when_it_is_closed() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    let at = crate::support::function::express::POWER + 4;
    client.set_config(device, at, 2, 3);
    vfio.release(device);
    assert_eq!(vfio.host().function(Function(0), |function| function.load_config(at, 2)) & 3, 0);
}
