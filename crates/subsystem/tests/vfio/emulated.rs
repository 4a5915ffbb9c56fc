//! Emulated devices: their groups and nodes, what their users see, and what they are attached to. What a kernel answers was
//! asked of its `mtty` sample.

use subsystem::kconfig::Tristate;
use subsystem::{
    FileId, Function, Kconfig, ModuleParameters, NodeKind, Parameters, Refusal, Subsystem, Symbol,
};
use uapi::Command;
use uapi::iommufd::*;
use uapi::vfio::*;

use crate::client::{Client, PARAMETERS, REGION, Vfio, assert_refused};
use crate::support::host::TestHost;
use crate::support::memory::Layout;

pub(crate) const PAGE: u64 = 4096;
/// Where the process has 16 pages of memory, and none behind them.
pub(crate) const BUFFER: u64 = 0x4000_0000;
pub(crate) const NAME: &str = "emulated-0";

/// A subsystem with an emulated device.
pub(crate) fn one() -> (Vfio, Function) {
    let vfio = Subsystem::new(TestHost::new(), PARAMETERS).expect("a subsystem");
    let function = vfio.host().add_emulated();
    vfio.register_emulated(function).expect("a device");
    (vfio, function)
}

/// A process with memory.
pub(crate) fn process(vfio: &Vfio) -> Client<'_> {
    let client = Client::new(vfio);
    vfio.host().ram(|ram| ram.map(client.caller.task, BUFFER, 16, Layout::Scattered, true));
    client
}

/// A process that has the device attached to an IOAS.
pub(crate) struct Attached<'a> {
    pub(crate) client: Client<'a>,
    pub(crate) device: FileId,
    pub(crate) iommufd: FileId,
    pub(crate) ioas: u32,
}

impl<'a> Attached<'a> {
    pub(crate) fn new(vfio: &'a Vfio, function: Function) -> Self {
        let mut client = process(vfio);
        let device = client.open(function.0);
        let (iommufd, fd) = client.iommufd();
        client.bind(device, fd).expect("bind");
        let ioas = client.ioas(iommufd);
        client.attach(device, ioas).expect("attach");
        Attached { client, device, iommufd, ioas }
    }

    /// MAP of pages of the memory, from this one on.
    pub(crate) fn map(&self, flags: u32, page: u64, iova: u64, pages: u64) -> Result<u32, Refusal> {
        let flags = flags | IOMMU_IOAS_MAP_FIXED_IOVA;
        let (user_va, length) = (BUFFER + page * PAGE, pages * PAGE);
        self.client.call(
            self.iommufd,
            &mut IommuIoasMap { flags, ioas_id: self.ioas, user_va, length, iova, ..Command::new() },
        )
    }

    pub(crate) fn unmap(&self, iova: u64, length: u64) -> Result<u64, Refusal> {
        let mut argument = IommuIoasUnmap { ioas_id: self.ioas, iova, length, ..Command::new() };
        self.client.call(self.iommufd, &mut argument).map(|_| argument.length)
    }

    pub(crate) fn physical(&self, page: u64) -> u64 {
        self.client
            .vfio
            .host()
            .ram(|ram| ram.physical(self.client.caller.task, BUFFER + page * PAGE))
            .unwrap()
    }
}

pub(crate) const READ: u32 = IOMMU_IOAS_MAP_READABLE;
pub(crate) const READ_WRITE: u32 = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;

pub(crate) fn pinned(vfio: &Vfio) -> u64 {
    vfio.host().in_use().pinned_pages
}

/// What the driver was told to let go, which is forgotten then.
pub(crate) fn take_unmapped(vfio: &Vfio, function: Function) -> Vec<(u64, u64)> {
    vfio.host().emulated(function, |device| std::mem::take(&mut device.unmapped))
}

#[test]
fn it_has_a_group_and_a_node_and_leaves_no_taint() {
    let (vfio, function) = one();
    let nodes = vfio.host().bus(|bus| bus.nodes.iter().map(|node| node.kind).collect::<Vec<_>>());
    assert!(nodes.contains(&NodeKind::Group { minor: 0, group: 0, noiommu: false }));
    assert!(nodes.contains(&NodeKind::Device { function, index: 0, noiommu: false }));
    vfio.host().bus(|bus| {
        assert_eq!((bus.taint, &*bus.iommu_groups), (0, &[(0, function)][..]));
        assert_eq!(bus.log, [""; 0]);
    });
    assert_refused!(vfio.register_emulated(function), EBUSY, "probe.twice");
    // Whoever may open the nodes may have it: there is nothing to be kept from.
    let mut client = process(&vfio);
    client.caller.caps.sys_rawio = false;
    vfio.release(client.open_group(0).unwrap());
    vfio.release(client.open(function.0));
    vfio.remove(function);
    vfio.host().bus(|bus| {
        assert!(bus.iommu_groups.is_empty());
        assert!(bus.nodes.iter().all(|node| matches!(node.kind, NodeKind::Iommufd | NodeKind::Container)));
    });
}

/// The module parameter is not asked, and a kernel without groups has the node only.
#[test]
fn it_needs_neither_an_iommu_nor_the_mode_without() {
    let kconfig = Kconfig::FULL.with(&[(Symbol::VfioGroup, Tristate::N)]).unwrap();
    let modules = ModuleParameters { unsafe_noiommu_mode: false, ..PARAMETERS.modules };
    let parameters = Parameters { kconfig, modules, ..PARAMETERS };
    let vfio = Subsystem::new(TestHost::new(), parameters).unwrap();
    let function = vfio.host().add_emulated();
    vfio.register_emulated(function).unwrap();
    assert_eq!(vfio.usage().groups, 0);
    drop(Attached::new(&vfio, function));
}

#[test]
fn unbinding_waits_for_the_user_and_asks_nobody() {
    let (vfio, function) = one();
    let vfio = std::sync::Arc::new(vfio);
    let device = Attached::new(&vfio, function).device;
    let other = vfio.clone();
    vfio.host().during_sleep(move || {
        other.release(device);
        subsystem::Slept::Over
    });
    vfio.remove(function);
    assert_eq!(vfio.usage().devices, 0);
    assert_eq!(vfio.host().bus(|bus| bus.log.clone()), [""; 0]);
}

#[test]
fn it_looks_like_a_pci_function_without_interrupts() {
    let (vfio, function) = one();
    let Attached { client, device, .. } = Attached::new(&vfio, function);
    let mut info = VfioDeviceInfo::new();
    client.call(device, &mut info).unwrap();
    assert_eq!((info.flags, info.num_regions, info.num_irqs), (3, 9, 5));
    let region = |index| {
        let mut info = VfioRegionInfo { index, ..Command::new() };
        client.call(device, &mut info).map(|_| (info.size, info.flags, info.offset))
    };
    assert_eq!(region(0), Ok((16, 3, 0)));
    assert_eq!(region(7), Ok((0, 0, 7 * REGION)));
    assert_refused!(region(9), EINVAL, "region-info.index");
    let irqs = |index| {
        let mut info = VfioIrqInfo { index, flags: 7, count: 7, ..Command::new() };
        client.call(device, &mut info).map(|_| (info.flags, info.count))
    };
    assert_eq!(irqs(4), Ok((0, 0)));
    assert_refused!(irqs(5), EINVAL, "irq-info.index");
    assert_refused!(client.set_events(device, 0, 0, &[0]), EINVAL, "set-irqs.emulated");

    assert_eq!(client.write(device, 1, &[1, 2, 3, 4, 5, 6, 7, 8, 9]), Ok(9));
    assert_eq!(client.read(device, 0, 11), Ok(vec![0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0]));
    assert_eq!(client.read(device, 0, 0), Ok(vec![]));
    assert_eq!(client.read(device, 7 * REGION, 0), Ok(vec![]));
    assert_refused!(client.read(device, 13, 4), EINVAL, "bar.bounds");
    assert_refused!(client.write(device, 16, &[1]), EINVAL, "bar.bounds");
    assert_refused!(client.read(device, 7 * REGION, 4), EINVAL, "region.index");
    assert_refused!(client.read(device, 20 * REGION, 4), EINVAL, "region.index");
    client.raw(device, VFIO_DEVICE_RESET, &mut []).unwrap();
    assert_eq!(client.read(device, 0, 4), Ok(vec![0; 4]));
    let request = subsystem::MapRequest::shared(0, PAGE);
    assert_refused!(vfio.map(&client.caller.ctx(), device, request), EINVAL, "map.emulated");

    let feature = |flags| client.call(device, &mut VfioDeviceFeature { flags, ..Command::new() });
    assert_refused!(feature(VFIO_DEVICE_FEATURE_PROBE | 3), ENOTTY, "feature.unknown");
    assert_refused!(
        feature(VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF),
        ENOTTY,
        "feature.unknown"
    );
    assert_refused!(feature(VFIO_DEVICE_FEATURE_GET | 12), EINVAL, "feature.precopy");
    assert_refused!(client.call(device, &mut VfioPciHotResetInfo::new()), ENOTTY, "device.unknown-command");
    assert_refused!(client.call(device, &mut VfioPciHotReset::new()), ENOTTY, "device.unknown-command");
}

#[test]
fn it_is_attached_to_an_ioas_as_such() {
    let (vfio, function) = one();
    let mut client = process(&vfio);
    let device = client.open(function.0);
    let (iommufd, fd) = client.iommufd();
    let flags = VFIO_DEVICE_BIND_FLAG_TOKEN;
    let mut token = VfioDeviceBindIommufd { iommufd: fd, flags, ..Command::new() };
    assert_refused!(client.call(device, &mut token), EINVAL, "bind.token");
    let access = client.bind(device, fd).unwrap();
    let (first, second) = (client.ioas(iommufd), client.ioas(iommufd));
    assert_refused!(client.attach(device, 99), ENOENT, "ioas.unknown");
    assert_refused!(client.attach(device, access), ENOENT, "ioas.unknown");
    assert_refused!(client.attach_pasid(device, first, 1), EOPNOTSUPP, "emulated.attach-pasid");
    assert_refused!(client.detach_pasid(device, 1), EOPNOTSUPP, "emulated.detach-pasid");
    assert_eq!(client.detach(device), Ok(0));

    let unaligned = |ioas_id| IommuIoasMap {
        flags: READ_WRITE | IOMMU_IOAS_MAP_FIXED_IOVA,
        ioas_id,
        user_va: BUFFER + 8,
        length: 64,
        iova: 0x9008,
        ..Command::new()
    };
    client.call(iommufd, &mut unaligned(first)).unwrap();
    assert_refused!(client.attach(device, first), EADDRINUSE, "attach.alignment");
    assert_eq!(client.attach(device, second), Ok(second));
    assert_refused!(client.call(iommufd, &mut unaligned(second)), EINVAL, "map.length-alignment");
    assert_eq!(client.attach(device, second), Ok(second));
    assert_refused!(client.attach(device, first), EADDRINUSE, "attach.alignment");
    assert_refused!(client.attach(device, 99), ENOENT, "ioas.unknown");

    assert_refused!(client.destroy(iommufd, second), EBUSY, "destroy.ioas-in-use");
    assert_refused!(client.destroy(iommufd, access), EBUSY, "destroy.device");
    let mut hwpt = IommuHwptAlloc { dev_id: access, pt_id: second, ..Command::new() };
    assert_refused!(client.call(iommufd, &mut hwpt), ENOENT, "hwpt-alloc.device");
    assert_refused!(client.physical(iommufd, second, 0x1000), ENOENT, "get-pa.unmapped");
    client.map(iommufd, second, BUFFER, 0x1000, PAGE);
    assert_refused!(client.physical(iommufd, second, 0x1000), EOPNOTSUPP, "get-pa.no-page-table");
    assert_eq!(pinned(&vfio), 0, "nobody has asked for anything");
    assert_refused!(client.open_group(0), EBUSY, "group.device-bound");
    client.detach(device).unwrap();
    client.call(iommufd, &mut unaligned(second)).expect("any alignment will do again");
    client.destroy(iommufd, second).unwrap();
}
