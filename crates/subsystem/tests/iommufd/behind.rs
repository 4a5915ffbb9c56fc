//! Devices behind an IOMMU: groups, page tables, PASIDs, reserved IOVAs and dirty pages. What is refused, and in which order,
//! was seen on Linux 7.3.4 with QEMU's `intel-iommu`.

use subsystem::iommufd::{Binding, DeviceObject};
use subsystem::{DmaOwner, Function, IommuInfo};
use uapi::Command;
use uapi::iommufd::*;

use crate::client::{BEHIND_IOMMU, BUFFER, Client, pages};
use crate::support::host::{ARGUMENT, TestHost};
use crate::support::iommu::IOMMU;
use crate::support::memory::Layout;

/// Two functions of one iommu_group, one of another, and one without an IOMMU.
const FIRST: Function = Function(1);
const SIBLING: Function = Function(2);
const OTHER: Function = Function(3);
const NOIOMMU: Function = Function(4);

fn host() -> TestHost {
    let host = TestHost::new();
    for (function, group) in [(FIRST, 1), (SIBLING, 1), (OTHER, 2)] {
        host.put_behind(function, IommuInfo { group, dirty_tracking: true, ..IOMMU });
    }
    host
}

impl Client<'_> {
    fn bind_at(&self, function: Function) -> DeviceObject {
        let binding = if function == NOIOMMU { Binding::Noiommu } else { BEHIND_IOMMU };
        self.context.bind(self.host, function, binding).expect("bind")
    }

    fn attach_pasid(&self, device: DeviceObject, pasid: u32, pt_id: u32) -> Result<u32, subsystem::Refusal> {
        self.context.attach(self.host, device, pasid, pt_id)
    }

    /// HWPT_ALLOC with flags; the id.
    fn table(&self, device: DeviceObject, ioas: u32, flags: u32) -> u32 {
        let mut argument = IommuHwptAlloc { dev_id: device.id(), pt_id: ioas, flags, ..Command::new() };
        self.call(&mut argument).expect("a page table");
        argument.out_hwpt_id
    }

    /// IOVA_RANGES.
    pub(crate) fn ranges(&self, ioas: u32) -> Vec<(u64, u64)> {
        let at = ARGUMENT + 0x800;
        let mut argument =
            IommuIoasIovaRanges { ioas_id: ioas, num_iovas: 8, allowed_iovas: at, ..Command::new() };
        self.call(&mut argument).expect("IOVA_RANGES");
        let number = |at| {
            let mut bytes = [0; 8];
            subsystem::UserMemory::read(&self.caller, at, &mut bytes).expect("the array");
            u64::from_le_bytes(bytes)
        };
        let entries = (0..u64::from(argument.num_iovas)).map(|index| at + 16 * index);
        entries.map(|at| (number(at), number(at + 8))).collect()
    }
}

const ALL: (u64, u64) = (0, u64::MAX);
const APERTURE: (u64, u64) = (0, 0x7f_ffff_ffff);
const BELOW: (u64, u64) = (0, 0xfedf_ffff);
const ABOVE: (u64, u64) = (0xfef0_0000, 0x7f_ffff_ffff);

#[test]
fn a_group_has_one_owner_and_one_page_table() {
    let host = host();
    let client = Client::new(&host);
    let device = client.bind_at(FIRST);
    let stranger = Binding::Iommu { owner: DmaOwner::Context(2), unsafe_interrupts: false };
    assert_refused!(client.context.bind(&host, SIBLING, stranger), EPERM, "bind.dma-owner");
    let sibling = client.bind_at(SIBLING);
    let (first, second) = (client.ioas(), client.ioas());
    assert_eq!((first, second, client.attach(device, first)), (3, 4, Ok(5)));
    assert_refused!(client.attach(sibling, second), EINVAL, "attach.group");
    assert_eq!(client.attach(sibling, first), Ok(5));
    assert_eq!(client.attach(sibling, second), Ok(6), "replacing moves the whole group");
    assert_refused!(client.destroy(5), ENOENT, "destroy.unknown");
    assert_eq!((client.ranges(first), client.ranges(second)), (vec![ALL], vec![BELOW, ABOVE]));
    assert_eq!(client.attach(device, second), Ok(6), "it was moved along");
    client.detach(device);
    assert_eq!(client.ranges(second), [BELOW, ABOVE]);
    assert_refused!(client.attach(device, first), EINVAL, "attach.group");
    client.detach(sibling);
    assert_eq!(client.ranges(second), [ALL]);
    assert_eq!(client.attach(device, first), Ok(5));
    let manual = client.table(device, first, 0);
    assert_refused!(client.attach(sibling, manual), EINVAL, "attach.group");
    assert_eq!((client.attach(sibling, first), client.attach(device, manual)), (Ok(5), Ok(manual)));
    assert_eq!(client.attach(sibling, first), Ok(5), "back again, both of them");
    client.context.unbind(&host, device);
    assert_refused!(client.context.bind(&host, FIRST, stranger), EPERM, "bind.dma-owner");
    client.context.unbind(&host, sibling);
    let taken = Client::new(&host);
    let device = taken.context.bind(&host, FIRST, stranger).expect("nobody has the group any more");
    taken.context.unbind(&host, device);
    taken.context.close(&host);
    client.close();
}

#[test]
fn pasids_need_page_tables_that_allow_them() {
    let host = host();
    let client = Client::new(&host);
    let (device, ioas) = (client.bind_at(OTHER), client.ioas());
    let [pasid, other] = [0; 2].map(|_| client.table(device, ioas, IOMMU_HWPT_ALLOC_PASID));
    let plain = client.table(device, ioas, 0);
    assert_eq!(client.attach_pasid(device, 5, pasid), Ok(pasid));
    assert_refused!(client.destroy(pasid), EBUSY, "destroy.hwpt-in-use");
    assert_refused!(client.attach(device, ioas), EINVAL, "attach.pasid-table");
    assert_eq!(client.attach(device, pasid), Ok(pasid));
    assert_refused!(client.attach_pasid(device, 6, ioas), EINVAL, "attach.pasid-table");
    assert_eq!(client.attach_pasid(device, 6, pasid), Ok(pasid));
    assert_refused!(client.attach_pasid(device, 7, plain), EINVAL, "attach.pasid-table");
    assert_refused!(client.attach(device, plain), EINVAL, "attach.pasid-table");
    assert_refused!(client.attach_pasid(device, 5, plain), EINVAL, "attach.pasid-table");
    assert_eq!(client.attach_pasid(device, 5, other), Ok(other));
    client.context.detach(&host, device, 5);
    client.context.detach(&host, device, 9);
    client.destroy(other).expect("nothing is attached to it");
    assert_refused!(client.attach(device, plain), EINVAL, "attach.pasid-table");
    client.context.detach(&host, device, 6);
    assert_eq!(client.attach(device, plain), Ok(plain));
    assert_refused!(client.attach_pasid(device, 5, pasid), EINVAL, "attach.pasid-table");
    client.detach(device);
    assert_eq!(client.attach_pasid(device, 3, pasid), Ok(pasid));
    client.context.unbind(&host, device);
    client.destroy(pasid).expect("the device is gone");
    client.close();
}

#[test]
fn what_is_kept_free() {
    let host = host();
    let client = Client::new(&host);
    let (device, other, ioas) = (client.bind_at(FIRST), client.bind_at(OTHER), client.ioas());
    client.memory(BUFFER, 1, Layout::Scattered);
    client.allow(ioas, &[(0xfee0_0000, 0xfee0_0fff)]).expect("nothing is kept free yet");
    assert_refused!(client.attach(device, ioas), EADDRINUSE, "attach.reserved");
    client.allow(ioas, &[(1 << 39, (1 << 39) + 4095)]).unwrap();
    assert_refused!(client.attach(device, ioas), EADDRINUSE, "attach.aperture");
    client.allow(ioas, &[(0x1000, 0xff_ffff)]).unwrap();
    assert_eq!(client.ranges(ioas), [ALL]);
    let table = client.attach(device, ioas).unwrap();
    assert_eq!(client.attach(other, ioas), Ok(table), "the page table is shared");
    assert_eq!(client.ranges(ioas), [BELOW, ABOVE]);
    assert_refused!(
        client.allow(ioas, &[(0xfee0_0000, 0xfee0_0fff)]),
        EADDRINUSE,
        "allow-iovas.reserved-region"
    );
    for iova in [0xfee0_0000, 1 << 39] {
        assert_refused!(client.map_at(ioas, BUFFER, 4096, iova), EINVAL, "map.reserved");
    }
    client.map_at(ioas, BUFFER, 4096, 0x7f_ffff_f000).expect("the last page");
    client.detach(device);
    assert_eq!(client.ranges(ioas), [BELOW, ABOVE], "the other device is still there");
    client.detach(other);
    assert_eq!(client.ranges(ioas), [ALL]);
    client.close();
}

/// In Linux a replacement within one IOAS that is refused late gives up the device's window for good.
#[test]
fn a_refused_replacement_loses_the_window() {
    let host = host();
    let client = Client::new(&host);
    let (device, noiommu, ioas) = (client.bind_at(FIRST), client.bind_at(NOIOMMU), client.ioas());
    let without = client.attach(noiommu, ioas).unwrap();
    let table = client.attach(device, ioas).unwrap();
    assert_ne!(table, without);
    assert_eq!(client.ranges(ioas), [BELOW, ABOVE]);
    assert_refused!(client.attach(device, without), ENODEV, "attach.replace-noiommu-table");
    assert_eq!(client.ranges(ioas), [APERTURE]);
    client.detach(device);
    assert_eq!(client.attach(device, ioas), Ok(table));
    assert_eq!(client.ranges(ioas), [BELOW, ABOVE], "a new attachment keeps it free again");
    client.close();
}

#[test]
fn a_device_reaches_what_its_page_table_translates() {
    let host = host();
    let client = Client::new(&host);
    let (device, ioas, second) = (client.bind_at(FIRST), client.ioas(), client.ioas());
    let sibling = client.bind_at(SIBLING);
    client.memory(BUFFER, 4, Layout::Scattered);
    client.map_at(ioas, BUFFER, pages(4), 0x10_0000).unwrap();
    client.map(second, IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_FIXED_IOVA, BUFFER, 4096, 0x20_0000).unwrap();
    assert_eq!(host.translate(FIRST, 0x10_0000), None, "it is not attached");
    client.attach(device, ioas).unwrap();
    assert_eq!(host.translate(FIRST, 0x10_2010), Some((client.pagemap(BUFFER + 0x2010), true)));
    assert_eq!(host.translate(SIBLING, 0x10_0000), host.translate(FIRST, 0x10_0000), "so does its group");
    assert_eq!(host.translate(FIRST, 0x10_4000), None);
    client.attach(device, second).unwrap();
    assert_eq!(host.translate(FIRST, 0x20_0000), Some((client.pagemap(BUFFER), false)));
    assert_eq!(host.translate(FIRST, 0x10_0000), None);
    assert_refused!(client.physical(second, 0x20_0000, 1), EOPNOTSUPP, "get-pa.no-page-table");
    client.unmap(second, 0x20_0000, 4096).unwrap();
    assert_eq!(host.translate(FIRST, 0x20_0000), None);
    client.context.unbind(&host, sibling);
    client.close();
}

#[test]
fn written_pages_are_told() {
    let host = host();
    let client = Client::new(&host);
    let (device, ioas) = (client.bind_at(FIRST), client.ioas());
    client.memory(BUFFER, 70, Layout::Scattered);
    client.map_at(ioas, BUFFER, pages(70), 0x10_0000).unwrap();
    let table = client.table(device, ioas, IOMMU_HWPT_ALLOC_DIRTY_TRACKING);
    client.attach(device, table).unwrap();
    let track =
        |flags| client.call(&mut IommuHwptSetDirtyTracking { hwpt_id: table, flags, ..Command::new() });
    let bitmap = |flags, iova, count| {
        let data = ARGUMENT + 0x800;
        subsystem::UserMemory::write(&client.caller, data, &[0; 16]).unwrap();
        let mut argument = IommuHwptGetDirtyBitmap {
            hwpt_id: table,
            flags,
            iova,
            length: pages(count),
            page_size: 4096,
            data,
            ..Command::new()
        };
        client.call(&mut argument).expect("GET_DIRTY_BITMAP");
        let mut bytes = [0; 16];
        subsystem::UserMemory::read(&client.caller, data, &mut bytes).unwrap();
        u128::from_le_bytes(bytes)
    };
    host.device_writes(FIRST, 0x10_0000);
    track(IOMMU_HWPT_DIRTY_TRACKING_ENABLE).unwrap();
    for page in [1, 63, 64, 69] {
        assert!(host.device_writes(FIRST, 0x10_0000 + pages(page)));
    }
    let all = 1 << 1 | 1 << 63 | 1 << 64 | 1 << 69;
    assert_eq!(bitmap(IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR, 0x10_0000, 70), all);
    assert_eq!(bitmap(0, 0x10_0000 + pages(60), 5), 1 << 3 | 1 << 4);
    assert_eq!(bitmap(0, 0x10_0000, 100), 1 << 1 | 1 << 69, "up to the end of what is mapped");
    assert_eq!(bitmap(0, 0x10_0000, 70), 0);
    track(0).unwrap();
    host.device_writes(FIRST, 0x10_0000);
    assert_eq!(bitmap(0, 0x10_0000, 70), 0);
    client.close();
}
