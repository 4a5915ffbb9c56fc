//! Each allocation, and each pin, of each step fails in turn; the state is as before then, and the step works after all.

use subsystem::{Function, NodeKind, Subsystem};

use crate::client::{Client, PARAMETERS, Vfio, device_node, state};
use crate::support::function::TestFunction;
use crate::support::host::TestHost;
use crate::support::memory::Layout;

const BUFFER: u64 = 0x4000_0000;

/// Makes the first, the second, … allocation of a step fail until none is left that could; the last attempt succeeds.
/// How many failed.
fn fail_each<R>(vfio: &Vfio, mut step: impl FnMut() -> Result<R, subsystem::Refusal>) -> (R, u64) {
    let before = state(vfio);
    for n in 0.. {
        vfio.host().fail_allocation(Some(n));
        let result = step();
        let failed = vfio.host().has_failed();
        vfio.host().fail_allocation(None);
        match result {
            Ok(value) => {
                assert!(!failed, "allocation {n} failed and the step did not");
                return (value, n);
            }
            Err(refusal) => {
                assert!(failed, "{refusal:?}");
                assert_eq!(refusal.errno(), uapi::Errno::ENOMEM);
                assert_eq!(state(vfio), before, "allocation {n}");
            }
        }
    }
    unreachable!("some attempt succeeds")
}

#[test]
fn probe_open_bind_attach_and_interrupts() {
    let vfio = Subsystem::new(TestHost::new(), PARAMETERS).unwrap();
    let function = vfio.host().add_function(TestFunction::express());
    let (_, failures) = fail_each(&vfio, || vfio.probe(function));
    assert!(failures >= 4, "tables and nodes");
    assert_eq!(vfio.host().bus(|bus| bus.log.len()), 2, "only the probe that worked is in the log");

    let mut client = Client::new(&vfio);
    let node = device_node(&vfio, Function(0)).unwrap().kind;
    let (device, failures) = fail_each(&vfio, || client.open_node(node));
    assert!(failures >= 1);
    let (iommufd, failures) = fail_each(&vfio, || client.open_node(NodeKind::Iommufd));
    assert!(failures >= 2);
    let fd = client.caller.install(crate::support::host::Descriptor::Ours(iommufd));
    let (_, failures) = fail_each(&vfio, || client.bind(device, fd));
    assert!(failures >= 2, "the object and the shadow");

    let ioas = client.ioas(iommufd);
    vfio.host().ram(|ram| ram.map(client.caller.task, BUFFER, 4, Layout::Scattered, true));
    client.map(iommufd, ioas, BUFFER, 0, 4 * 4096);
    let (_, failures) = fail_each(&vfio, || client.attach(device, ioas));
    assert!(failures >= 1);
    client.detach(device).unwrap();
    vfio.host().fail_pin(Some(0));
    assert!(client.attach(device, ioas).is_err());
    vfio.host().fail_pin(None);
    assert!(client.physical(iommufd, ioas, 0).is_err());
    client.attach(device, ioas).unwrap();

    let (_, event) = client.eventfd();
    let index = uapi::vfio::VFIO_PCI_MSIX_IRQ_INDEX;
    let (_, failures) = fail_each(&vfio, || client.set_events(device, index, 0, &[event; 4]));
    assert!(failures >= 2, "the data and the targets");
}

#[test]
fn the_nodes_that_are_always_there() {
    for n in 0..2 {
        let host = TestHost::new();
        host.fail_allocation(Some(n));
        assert!(Subsystem::new(host, PARAMETERS).is_err());
    }
}
