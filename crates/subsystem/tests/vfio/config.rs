//! Configuration space: what is shadowed, what is written, what a write sets off.

use subsystem::Function;

use crate::client::{CONFIG, Client, machine};
use crate::support::function::TestFunction;
use crate::support::function::conventional::{MSI, VENDOR, VITAL};
use crate::support::function::express::{BAR, EXPRESS, MSIX, POWER};

const COMMAND: u16 = 4;

fn hardware(client: &Client<'_>, at: u16, width: u8) -> u32 {
    client.vfio.host().function(Function(0), |function| function.load_config(at, width))
}

#[test]
fn b264_b265_b644_the_command_register() {
    let vfio = machine(&[TestFunction::express(), TestFunction::conventional()]);
    let (mut client, device) = Client::bound(&vfio);
    assert_eq!(client.config(device, COMMAND, 2), 2, "memory decoding is on, bus mastering off");
    client.set_config(device, COMMAND, 2, 6);
    assert_eq!((client.config(device, COMMAND, 2), hardware(&client, COMMAND, 2)), (6, 6));
    client.set_config(device, COMMAND, 4, 0xffff_0002);
    assert_eq!(hardware(&client, COMMAND, 2), 2);
    let (_, fd) = client.iommufd();
    let ports = client.open(1);
    client.bind(ports, fd).unwrap();
    assert_eq!(client.config(ports, COMMAND, 2), 3, "ports and memory");
}

#[test]
fn a_function_that_lost_its_bars_gets_them_back() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    let real = hardware(&client, 0x10, 4);
    vfio.host().function(Function(0), |function| {
        function.store_config(COMMAND, 2, 0);
        function.store_config(0x10, 4, 0);
    });
    client.set_config(device, COMMAND, 2, 6);
    assert_eq!((hardware(&client, 0x10, 4), hardware(&client, COMMAND, 2)), (real, 6));
    assert!(
        vfio.host().bus(|bus| bus.log.iter().any(|line| line == "Info 0: reset recovery - restoring BARs"))
    );
}

#[test]
fn b261_b262_bars_are_sized_and_never_written() {
    let vfio = machine(&[TestFunction::express(), TestFunction::conventional()]);
    let (mut client, device) = Client::bound(&vfio);
    let real = (hardware(&client, 0x10, 4), hardware(&client, 0x14, 4));
    assert_eq!((client.config(device, 0x10, 4), client.config(device, 0x14, 4)), (0x4004, 0x80));
    for at in [0x10, 0x14, 0x18, 0x30] {
        client.set_config(device, at, 4, u32::MAX);
    }
    assert_eq!(client.config(device, 0x10, 4), !(BAR as u32 - 1) | 4);
    assert_eq!(client.config(device, 0x14, 4), u32::MAX);
    assert_eq!((client.config(device, 0x18, 4), client.config(device, 0x30, 4)), (0, 0));
    client.set_config(device, 0x11, 1, 0x7f);
    assert_eq!(client.config(device, 0x10, 2), 0x4004, "bits below the size do not stay");
    assert_eq!((hardware(&client, 0x10, 4), hardware(&client, 0x14, 4)), real);

    let (_, fd) = client.iommufd();
    let ports = client.open(1);
    client.bind(ports, fd).unwrap();
    client.set_config(ports, 0x18, 4, u32::MAX);
    assert_eq!(client.config(ports, 0x18, 4), 0xffff_ffc1);
}

#[test]
fn b266_to_b269_read_only_and_shadowed_registers() {
    let vfio = machine(&[TestFunction::conventional()]);
    let (client, device) = Client::bound(&vfio);
    for at in [0, 2, 6, 8, 0x0e, 0x2c, 0x34, 0x3d, 0x3e] {
        let width = if at >= 0x34 { 1 } else { 2 };
        let before = client.config(device, at, width);
        client.set_config(device, at, width, !before);
        assert_eq!(client.config(device, at, width), before, "{at:#x}");
    }
    client.set_config(device, 0x3c, 1, 0x5a);
    assert_eq!((client.config(device, 0x3c, 1), hardware(&client, 0x3c, 1)), (0x5a, 0));
    client.set_config(device, 0x0c, 1, 0x10);
    assert_eq!((client.config(device, 0x0c, 1), hardware(&client, 0x0c, 1)), (0x10, 0x10));
}

#[test]
fn b270_the_msix_capability_is_read_only() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    let before = client.config(device, MSIX + 2, 2);
    client.set_config(device, MSIX + 2, 2, 0xc000);
    assert_eq!((client.config(device, MSIX + 2, 2), hardware(&client, MSIX + 2, 2)), (before, before));
}

#[test]
fn b275_an_unaligned_access_is_cut() {
    let vfio = machine(&[TestFunction::conventional()]);
    let (client, device) = Client::bound(&vfio);
    assert_eq!(client.read(device, CONFIG + 1, 4).unwrap(), [0x1b, 0x10, 0x00, 0x03]);
    // A write over the end of one capability and into what belongs to none.
    assert_eq!(client.write(device, CONFIG + u64::from(VENDOR) + 2, &[0xee; 4]), Ok(4));
    assert_eq!(hardware(&client, VENDOR, 4), 0xab10_8009, "its length is the function's");
    assert_eq!(hardware(&client, VENDOR + 4, 4), 0xeeee);
}

#[test]
fn hidden_capabilities_are_left_out_of_the_lists() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    let mut list = Vec::new();
    let mut at = client.config(device, 0x34, 1) as u16;
    while at != 0 {
        list.push((at, client.config(device, at, 1)));
        at = client.config(device, at + 1, 1) as u16;
    }
    assert_eq!(list, [(POWER, 0x01), (EXPRESS, 0x10), (MSIX, 0x11)]);
    let mut list = Vec::new();
    let mut at = 0x100;
    while at != 0 {
        let header = client.config(device, at, 4);
        list.push((at, header & 0xffff));
        at = (header >> 20) as u16;
    }
    assert_eq!(list, [(0x100, 0x01), (0x180, 0x03)]);
    assert_eq!(client.config(device, 0x184, 4), 0x0403_0201);
}

#[test]
fn a_hidden_capability_at_the_start_of_the_extended_list_holds_the_link() {
    let mut function = TestFunction::express();
    function.config[0x100] = 0x26;
    let vfio = machine(&[TestFunction { can_reset: false, ..function }]);
    let (client, device) = Client::bound(&vfio);
    assert_eq!(client.config(device, 0x100, 4), 0x180 << 20);
    assert_eq!(client.config(device, 0x180, 2), 0x03);
}

#[test]
fn lists_that_lead_nowhere_end() {
    let mut function = TestFunction { can_reset: false, ..TestFunction::express() };
    // The last of each list points back to the first.
    function.config[usize::from(MSIX) + 1] = POWER as u8;
    function.config[0x182] = 0x01;
    function.config[0x183] = 0x10;
    let vfio = machine(&[function]);
    let (client, device) = Client::bound(&vfio);
    assert_eq!(client.config(device, 0x34, 1), u32::from(POWER));
}

#[test]
fn a_function_whose_capabilities_are_all_hidden_has_none() {
    let mut function = TestFunction { can_reset: false, ..TestFunction::conventional() };
    function.config[usize::from(MSI)] = 0x0c;
    function.config[usize::from(VENDOR)] = 0x0d;
    function.config[usize::from(VITAL)] = 0x00;
    let vfio = machine(&[function]);
    let (client, device) = Client::bound(&vfio);
    assert_eq!((client.config(device, 0x34, 1), client.config(device, 6, 2)), (0, 0));
}

#[test]
fn power_states() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    assert_eq!(client.config(device, POWER + 2, 2), 0x01fb, "no PME is offered");
    assert_eq!(client.config(device, POWER + 4, 2), 0);
    client.set_config(device, COMMAND, 2, 6);
    client.set_config(device, POWER + 4, 2, 0x103);
    assert_eq!((client.config(device, POWER + 4, 2), hardware(&client, POWER + 4, 2)), (3, 0x8003));
    crate::client::assert_refused!(client.read(device, 0, 4), EIO, "bar.decoding");
    assert!(!vfio.host().function(Function(0), |function| function.mappings));
    client.set_config(device, POWER + 4, 2, 1);
    assert_eq!(hardware(&client, POWER + 4, 1), 3, "it has no D1");
    // What a function forgets in D3 is restored.
    vfio.host().function(Function(0), |function| function.store_config(COMMAND, 2, 0));
    client.set_config(device, POWER + 4, 2, 0);
    assert_eq!(hardware(&client, COMMAND, 2), 6);
    assert!(client.read(device, 0, 4).is_ok());
    client.set_config(device, POWER + 4, 2, 3);
    client.raw(device, uapi::vfio::VFIO_DEVICE_RESET, &mut []).unwrap();
    assert!(client.read(device, 0, 4).is_ok(), "a reset brings it to D0");
}

#[test]
fn b273_function_reset_by_configuration_space() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    client.set_config(device, COMMAND, 2, 6);
    let control = client.config(device, EXPRESS + 8, 2);
    let resets = || vfio.host().take_events().iter().filter(|event| *event == "reset").count();
    resets();
    client.set_config(device, EXPRESS + 8, 2, control | 0x8000);
    assert_eq!(resets(), 1);
    assert_eq!(client.config(device, EXPRESS + 8, 2), control);
    assert_eq!(hardware(&client, COMMAND, 2), 6, "the rest is as before");
    client.set_config(device, EXPRESS + 9, 1, 0x80 | control >> 8);
    assert_eq!(resets(), 1, "by its upper byte alone");
    client.set_config(device, EXPRESS + 8, 1, control);
    assert_eq!(resets(), 0);
}

#[test]
fn device_control_of_pci_express() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    let real = hardware(&client, EXPRESS + 8, 2);
    client.set_config(device, EXPRESS + 8, 2, real & !0x70e0 | 0x00e0 | 0x0200);
    assert_eq!(
        client.config(device, EXPRESS + 8, 2),
        real & !0x70e0 | 0x00e0,
        "payload is shadowed, phantom not set"
    );
    assert_eq!(
        hardware(&client, EXPRESS + 8, 2),
        real & !0x7000 | 0x1000,
        "payload as it was, and reads no smaller"
    );
    client.set_config(device, EXPRESS + 0x28, 2, 0xff);
    assert_eq!(hardware(&client, EXPRESS + 0x28, 2), 0xdf, "forwarding is not the user's");
}

#[test]
fn the_msi_capability_follows_set_irqs() {
    let vfio = machine(&[TestFunction::conventional()]);
    let (mut client, device) = Client::bound(&vfio);
    assert_eq!(client.config(device, MSI + 2, 2), 0x86);
    client.set_config(device, MSI + 4, 4, 0xfee0_0000);
    assert_eq!((client.config(device, MSI + 4, 4), hardware(&client, MSI + 4, 4)), (0xfee0_0000, 0));
    client.set_config(device, MSI + 2, 2, 0x86 | 0x31);
    assert_eq!(
        (client.config(device, MSI + 2, 2), hardware(&client, MSI + 2, 2)),
        (0x86, 0x86),
        "not enabled yet"
    );

    let fds: Vec<i32> = (0..3).map(|_| client.eventfd().1).collect();
    client.set_events(device, uapi::vfio::VFIO_PCI_MSI_IRQ_INDEX, 0, &fds).unwrap();
    assert_eq!(client.config(device, MSI + 2, 2), 0x86, "the user's own last value");
    client.set_config(device, MSI + 2, 2, 0x86 | 0x31);
    let expected = 0x86 | 0x21;
    assert_eq!(
        (client.config(device, MSI + 2, 2), hardware(&client, MSI + 2, 2)),
        (expected, expected),
        "4 at most"
    );
}

#[test]
fn vital_product_data_is_transferred() {
    let vfio = machine(&[TestFunction::conventional()]);
    let (client, device) = Client::bound(&vfio);
    client.set_config(device, VITAL + 2, 2, 8);
    assert_eq!(client.config(device, VITAL + 2, 2), 0x8008, "done");
    assert_eq!(client.config(device, VITAL + 4, 4), 0x0b0a_0908);
    client.set_config(device, VITAL + 4, 4, 0x1234_5678);
    client.set_config(device, VITAL + 2, 1, 12);
    assert_eq!(client.config(device, VITAL + 4, 4), 0x1234_5678, "the lower byte starts nothing");
    client.set_config(device, VITAL + 3, 1, 0x80);
    assert_eq!(client.config(device, VITAL + 2, 2), 12, "done");
    client.set_config(device, VITAL + 2, 2, 12);
    assert_eq!(client.config(device, VITAL + 4, 4), 0x1234_5678);
    vfio.host().function(Function(0), |function| function.vital = None);
    client.set_config(device, VITAL + 2, 2, 8);
    assert_eq!(client.config(device, VITAL + 2, 2), 8, "never done");
}
