//! Calls of several threads on one subsystem: `shuttle` draws which thread goes on at each lock, a thousand times, and says
//! how to repeat a run that failed. The simulated host finds what is given back twice or too early, `shuttle` deadlocks.

/// What the locks of the simulated host are made of.
mod sync {
    pub(crate) use shuttle::sync::{Mutex, RwLock};
    pub(crate) use shuttle::thread_local;
}

#[expect(
    dead_code,
    unused_macros,
    unused_imports,
    reason = "what the tests of single calls need is in there too"
)]
#[path = "../vfio/client.rs"]
mod client;
#[expect(dead_code, reason = "what the tests of other files need is in there too")]
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use shuttle::scheduler::RandomScheduler;
use shuttle::thread;
use subsystem::{FileId, Function, IommuInfo, NodeKind, Refusal, Slept};
use uapi::Command;
use uapi::iommufd::*;
use uapi::vfio::*;

use client::{Client, Vfio, device_node, machine};
use support::function::TestFunction;
use support::host::Descriptor;
use support::iommu::IOMMU;
use support::memory::{InUse, Layout};

const RUNS: usize = 1000;
const PAGE: u64 = 4096;
const BUFFER: u64 = 0x4000_0000;

/// Runs `f` in orders that are drawn.
fn explore(f: impl Fn() + Send + Sync + 'static) {
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20;
    shuttle::Runner::new(RandomScheduler::new(RUNS), config).run(f);
}

/// A thread with a process of its own.
fn spawn(vfio: &Arc<Vfio>, f: impl FnOnce(Client<'_>) + Send + 'static) -> thread::JoinHandle<()> {
    let vfio = Arc::clone(vfio);
    thread::spawn(move || f(Client::new(&vfio)))
}

fn join(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// What the subsystem holds, and what of the host.
fn held(vfio: &Vfio) -> impl PartialEq + std::fmt::Debug + use<> {
    let InUse { pinned_pages, task_holders, domains, .. } = vfio.host().in_use();
    (vfio.usage(), pinned_pages, task_holders, domains)
}

/// Opens the device of a function if it is there, and has it use an IOAS of a context.
fn use_device(
    client: &Client<'_>,
    function: Function,
    (iommufd, ioas): (FileId, u32),
) -> Result<(), Refusal> {
    let Some(node) = device_node(client.vfio, function) else { return Ok(()) };
    let device = client.open_node(node.kind)?;
    let used = client.bind(device, client.caller.install(Descriptor::Ours(iommufd))).and_then(|_| {
        client.attach(device, ioas)?;
        client.detach(device)?;
        client.attach(device, ioas)
    });
    client.vfio.release(device);
    used.map(drop)
}

/// Opens the group of the first function if it is there, and its device through a container.
fn use_group(client: &Client<'_>, kind: u32) -> Result<(), Refusal> {
    let nodes = client.vfio.host().bus(|bus| bus.nodes.clone());
    let group = nodes.iter().find(|node| matches!(node.kind, NodeKind::Group { .. }));
    let Some(group) = group else { return Ok(()) };
    let group = client.open_node(group.kind)?;
    let container = client.open_node(NodeKind::Container)?;
    let descriptor = client.caller.install(Descriptor::Ours(container));
    let opened = client.raw(group, VFIO_GROUP_SET_CONTAINER, &mut descriptor.to_ne_bytes()).and_then(|_| {
        client.vfio.ioctl(&client.caller.ctx(), container, VFIO_SET_IOMMU, kind.into())?;
        let fd = client.raw(group, VFIO_GROUP_GET_DEVICE_FD, &mut b"0000:00:00.0\0".to_owned())?;
        Ok(client.caller.file(fd.cast_signed()).expect("the descriptor is open"))
    });
    client.vfio.release(container);
    client.vfio.release(group);
    opened.map(|device| client.vfio.release(device))
}

/// Two threads map, copy and unmap in the IOASes of a context, while two devices, with and without an IOMMU, are attached there.
#[test]
fn memory_comes_and_goes_under_devices() {
    explore(|| {
        let behind = TestFunction { iommu: Some(IommuInfo { group: 0, ..IOMMU }), ..TestFunction::express() };
        let vfio = machine(&[TestFunction::express(), behind]);
        let mut client = Client::new(&vfio);
        let (iommufd, _) = client.iommufd();
        let spaces = [client.ioas(iommufd), client.ioas(iommufd)];
        let before = held(&vfio);
        let mappers =
            [1, 2].map(|number| spawn(&vfio, move |client| map_and_copy(&client, iommufd, spaces, number)));
        let users = [0, 1].map(|number| {
            spawn(&vfio, move |client| {
                let [first, second] = spaces;
                let ioas = if number == 0 { first } else { second };
                use_device(&client, Function(number), (iommufd, ioas)).unwrap();
            })
        });
        join(mappers.into_iter().chain(users));
        assert_eq!(held(&vfio), before);
    });
}

fn map_and_copy(client: &Client<'_>, iommufd: FileId, [first, second]: [u32; 2], number: u64) {
    client.vfio.host().ram(|ram| ram.map(client.caller.task, BUFFER, 2, Layout::Scattered, true));
    let (iova, length) = (number << 32, 2 * PAGE);
    client.map(iommufd, first, BUFFER, iova, length);
    let mut copy = IommuIoasCopy {
        flags: IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE,
        dst_ioas_id: second,
        src_ioas_id: first,
        length: PAGE,
        dst_iova: iova,
        src_iova: iova + PAGE,
        ..Command::new()
    };
    client.call(iommufd, &mut copy).unwrap();
    for (ioas_id, length) in [(first, length), (second, PAGE)] {
        let mut unmap = IommuIoasUnmap { ioas_id, iova, length, ..Command::new() };
        client.call(iommufd, &mut unmap).unwrap();
        assert_eq!(unmap.length, length);
    }
}

/// A device is opened by its node and through its group, and its driver is unbound and bound again. Who comes too late or second
/// is refused.
fn a_device_is_wanted_by_everybody(function: fn() -> TestFunction, kind: u32) {
    explore(move || {
        let vfio = machine(&[function()]);
        vfio.host().during_every_sleep(|| {
            thread::yield_now();
            Slept::Over
        });
        let before = held(&vfio);
        join([
            spawn(&vfio, |mut client| {
                let (iommufd, _) = client.iommufd();
                let ioas = client.ioas(iommufd);
                let _late = use_device(&client, Function(0), (iommufd, ioas));
                client.vfio.release(iommufd);
            }),
            spawn(&vfio, move |client| {
                let _late = use_group(&client, kind);
            }),
            spawn(&vfio, |client| {
                client.vfio.remove(Function(0));
                client.vfio.probe(Function(0)).unwrap();
            }),
        ]);
        assert_eq!(held(&vfio), before);
    });
}

#[test]
fn a_device_without_an_iommu_is_wanted_by_everybody() {
    a_device_is_wanted_by_everybody(TestFunction::express, VFIO_NOIOMMU_IOMMU);
}

#[test]
fn a_device_behind_an_iommu_is_wanted_by_everybody() {
    let behind = || TestFunction { iommu: Some(IommuInfo { group: 0, ..IOMMU }), ..TestFunction::express() };
    a_device_is_wanted_by_everybody(behind, VFIO_TYPE1v2_IOMMU);
}
