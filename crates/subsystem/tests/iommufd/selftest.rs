//! The unit of the kernel's self-tests, through `IOMMU_TEST_CMD`.

use subsystem::kconfig::{Symbol, Tristate};
use subsystem::{Kconfig, Refusal, UserMemory};
use uapi::Command;
use uapi::iommufd::{
    IOMMU_HWPT_ALLOC_DIRTY_TRACKING, IOMMU_VFIO_IOAS_SET, IommuHwInfo, IommuHwptAlloc, IommuVfioIoas,
};
use uapi::iommufd_test::*;
use uapi::vfio::VfioIommuType1Info;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::client::{BEHIND_IOMMU, BUFFER, Client, FUNCTION, READ_WRITE, pages};
use crate::support::host::{ARGUMENT, TestHost};
use crate::support::iommu::IOMMU;
use crate::support::memory::Layout;

/// A kernel that is built with the tests.
pub(crate) fn with_tests() -> Kconfig {
    let options =
        [Symbol::DebugKernel, Symbol::FaultInjection, Symbol::RuntimeTestingMenu, Symbol::IommufdTest];
    Kconfig::FULL.with(&options.map(|symbol| (symbol, Tristate::Y))).expect("such a kernel can be built")
}

/// A device of the tests: what stands for it, its page table, and the device.
struct Mock {
    stdev: u32,
    hwpt: u32,
    idev: u32,
}

impl Client<'_> {
    /// An operation on an object; its operand with the answer.
    fn test<T: FromBytes + IntoBytes + Immutable>(
        &self,
        op: u32,
        id: u32,
        operand: &T,
    ) -> Result<T, Refusal> {
        let mut command = IommuTestCmd { op, id, ..Command::new() };
        command.put(operand);
        self.call(&mut command).map(|()| command.get())
    }

    fn mock_with(&self, pt_id: u32, dev_flags: u32) -> Result<Mock, Refusal> {
        let operand = IommuTestMockDomainFlags { dev_flags, ..Default::default() };
        let made = self.test(IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS, pt_id, &operand)?;
        Ok(Mock { stdev: made.out_stdev_id, hwpt: made.out_hwpt_id, idev: made.out_idev_id })
    }

    fn mock(&self, pt_id: u32) -> Mock {
        self.mock_with(pt_id, 0).expect("a device")
    }

    fn check_map(&self, hwpt: u32, iova: u64, length: u64, uptr: u64) -> Result<(), Refusal> {
        let operand = IommuTestCheckMap { iova, length, uptr };
        self.test(IOMMU_TEST_OP_MD_CHECK_MAP, hwpt, &operand).map(|_| ())
    }

    fn check_refs(&self, uptr: u64, length: u64, refs: u32) -> Result<(), Refusal> {
        let operand = IommuTestCheckRefs { uptr, length, refs, ..Default::default() };
        self.test(IOMMU_TEST_OP_MD_CHECK_REFS, 0, &operand).map(|_| ())
    }

    fn reserve(&self, ioas: u32, start: u64, length: u64) -> Result<(), Refusal> {
        let operand = IommuTestAddReserved { start, length };
        self.test(IOMMU_TEST_OP_ADD_RESERVED, ioas, &operand).map(|_| ())
    }
}

#[test]
fn a_kernel_without_the_tests_knows_no_such_command() {
    let host = TestHost::new();
    let client = Client::new(&host);
    assert_refused!(client.reserve(client.ioas(), 0, 1), ENOTTY, "iommufd.unknown-command");
    client.close();
}

#[test]
fn a_device_is_made_bound_and_attached() {
    let host = TestHost::new();
    let client = Client::configured(&host, with_tests());
    let ioas = client.ioas();
    let Mock { stdev, hwpt, idev } = client.mock(ioas);
    assert_eq!([stdev, idev, hwpt], [ioas + 1, ioas + 2, ioas + 3], "in the order of Linux");
    assert_eq!(client.alignment(ioas), 2048);
    assert_eq!(client.mock(ioas).hwpt, hwpt, "the page table is shared");
    let mut info = IommuHwInfo { dev_id: idev, ..Command::new() };
    client.call(&mut info).expect("GET_HW_INFO");
    assert_eq!((info.out_data_type, info.data_len, info.out_max_pasid_log2), (0xfeed_beef, 8, 0));
    assert_refused!(client.destroy(idev), EBUSY, "destroy.device");
    assert_refused!(client.destroy(hwpt), EBUSY, "destroy.hwpt-in-use");
    let other = client.ioas();
    let replaced = client
        .test(IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, stdev, &IommuTestMockDomainReplace { pt_id: other })
        .expect("another page table");
    assert_ne!(replaced.pt_id, hwpt);
    client.destroy(stdev).expect("it goes with its device");
    assert_refused!(client.destroy(replaced.pt_id), ENOENT, "destroy.unknown");
    assert_refused!(client.mock_with(ioas, 1 << 1).map(|_| ()), EINVAL, "test.device-flags");
    assert_refused!(client.mock_with(9999, 0).map(|_| ()), ENOENT, "attach.unknown");
    client.close();
}

#[test]
fn page_tables_translate_pages_of_2_kib() {
    let host = TestHost::new();
    let client = Client::configured(&host, with_tests());
    let ioas = client.ioas();
    client.memory(BUFFER, 4, Layout::Scattered);
    let first = client.mock(ioas);
    let iova = client.map(ioas, READ_WRITE, BUFFER + 2048, 3 * 2048, 0).expect("a place");
    assert_eq!(iova % 2048, 0);
    client.check_map(first.hwpt, iova, 3 * 2048, BUFFER + 2048).expect("mapped");
    assert_refused!(client.check_map(first.hwpt, iova, 2048, BUFFER), EINVAL, "test.map");
    assert_refused!(client.check_map(first.hwpt, iova, 4 * 2048, BUFFER + 2048), EINVAL, "test.map");
    assert_refused!(client.check_map(first.hwpt, iova, 100, BUFFER), EINVAL, "test.alignment");
    assert_refused!(client.check_map(first.hwpt, iova, 2048, 0x100_0000), EFAULT, "test.memory");
    assert_refused!(client.check_map(ioas, iova, 2048, BUFFER), ENOENT, "hwpt.unknown");
    client.check_refs(BUFFER, pages(2), 1).expect("pinned once");
    assert_refused!(client.check_refs(BUFFER, pages(3), 1), EIO, "test.refs");
    client.check_refs(BUFFER + pages(2), pages(2), 0).expect("not pinned");
    assert_refused!(client.map_at(ioas, BUFFER, 2048, (1 << 24) - 2048), EINVAL, "map.reserved");
    assert_refused!(client.map_at(ioas, BUFFER, 2048, 1 << 31), EINVAL, "map.reserved");
    let mut table = IommuHwptAlloc { dev_id: first.idev, pt_id: ioas, ..Command::new() };
    client.call(&mut table).expect("a second page table, filled");
    client.check_map(table.out_hwpt_id, iova, 3 * 2048, BUFFER + 2048).expect("mapped there too");
    client.check_refs(BUFFER, pages(2), 1).expect("still once");
    client.unmap(ioas, iova, 3 * 2048).expect("unmapped");
    assert_refused!(client.check_map(first.hwpt, iova, 2048, BUFFER + 2048), EINVAL, "test.map");
    client.check_refs(BUFFER, pages(4), 0).expect("not pinned");
    client.close();
}

#[test]
fn the_unit_translates_within_its_aperture() {
    let host = TestHost::new();
    let client = Client::configured(&host, with_tests());
    let ioas = client.ioas();
    client.memory(BUFFER, 1, Layout::Scattered);
    client.map_at(ioas, BUFFER, 4096, 0x1000).expect("no page table yet");
    assert_refused!(client.mock_with(ioas, 0).map(|_| ()), EADDRINUSE, "attach.aperture");
    client.unmap(ioas, 0x1000, 4096).unwrap();
    let before = client.state();
    let mock = client.mock(ioas);
    client.destroy(mock.stdev).unwrap();
    assert_eq!(client.state(), before);
    client.close();
}

/// What a kernel built with the tests was seen to tell, of page tables small and large.
#[test]
fn what_page_tables_translate() {
    let host = TestHost::new();
    let client = Client::configured(&host, with_tests());
    let [small, large] = [client.ioas(), client.ioas()];
    let page_sizes = |ioas_id| {
        let op = IOMMU_VFIO_IOAS_SET as u16;
        client.call(&mut IommuVfioIoas { ioas_id, op, ..Command::new() }).expect("an IOAS");
        let mut info = VfioIommuType1Info::new();
        client.call(&mut info).map(|()| info.iova_pgsizes)
    };
    let mock = client.mock(small);
    assert_eq!(client.ranges(small), [(0x100_0000, 0x7fff_ffff)]);
    assert_eq!((page_sizes(small), client.alignment(small)), (Ok(0x1f_ffff_f000), 2048));
    let (data, kind) = (ARGUMENT + 0x900, [0, MOCK_IOMMUPT_HUGE]);
    client.caller.write(data, kind.as_bytes()).expect("room for it");
    let mut table = IommuHwptAlloc {
        dev_id: mock.idev,
        pt_id: large,
        data_type: IOMMU_HWPT_DATA_SELFTEST,
        data_len: 8,
        data_uptr: data,
        ..Command::new()
    };
    client.call(&mut table).expect("a page table of large pages");
    assert_eq!(client.ranges(large), [(0, 0x3f_ffff_ffff)]);
    assert_eq!((page_sizes(large), client.alignment(large)), (Ok(0x10_1000), 4096));
    client.close();
}

#[test]
fn iovas_are_kept_free_for_good() {
    let host = TestHost::new();
    let client = Client::configured(&host, with_tests());
    let ioas = client.ioas();
    client.memory(BUFFER, 1, Layout::Scattered);
    assert_refused!(client.reserve(ioas, 0, 0), EINVAL, "test.length");
    assert_refused!(client.reserve(ioas, u64::MAX, 2), EOVERFLOW, "test.wraps");
    assert_refused!(client.reserve(9999, 0, 1), ENOENT, "ioas.unknown");
    client.reserve(ioas, 0, 0x2000).expect("free");
    assert_refused!(client.map_at(ioas, BUFFER, 4096, 0x1000), EINVAL, "map.reserved");
    client.map_at(ioas, BUFFER, 4096, 0x2000).expect("behind it");
    assert_refused!(client.reserve(ioas, 0x2fff, 1), EADDRINUSE, "test.reserved");
    client.close();
}

#[test]
fn a_device_without_dirty_tracking_gets_no_table_that_tracks() {
    let host = TestHost::new();
    let client = Client::configured(&host, with_tests());
    let ioas = client.ioas();
    let (able, unable) =
        (client.mock(ioas), client.mock_with(ioas, MOCK_FLAGS_DEVICE_NO_DIRTY).expect("a device"));
    let table = |device| {
        let flags = IOMMU_HWPT_ALLOC_DIRTY_TRACKING;
        let mut argument = IommuHwptAlloc { dev_id: device, pt_id: ioas, flags, ..Command::new() };
        client.call(&mut argument).map(|()| argument.out_hwpt_id)
    };
    assert_refused!(table(unable.idev), EOPNOTSUPP, "hwpt-alloc.dirty");
    let pt_id = table(able.idev).expect("a page table that tracks");
    let replace = |mock: &Mock| {
        client.test(IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, mock.stdev, &IommuTestMockDomainReplace { pt_id })
    };
    replace(&able).expect("it suits");
    assert_refused!(replace(&unable), EINVAL, "attach.dirty");
    client.close();
}

#[test]
fn two_units_in_one_context_share_no_page_table() {
    let host = TestHost::new();
    host.put_behind(FUNCTION, IOMMU);
    let client = Client::configured(&host, with_tests());
    let ioas = client.ioas();
    let device = client.context.bind(&host, FUNCTION, BEHIND_IOMMU).expect("bind");
    let mock = client.mock(ioas);
    let hosts = client.attach(device, ioas).expect("a page table of its own");
    assert_ne!(hosts, mock.hwpt);
    assert_eq!(client.mock(ioas).hwpt, mock.hwpt, "the one that suits");
    assert_refused!(client.attach(device, mock.hwpt), EINVAL, "attach.unit");
    let replace =
        |id, pt_id| client.test(IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, id, &IommuTestMockDomainReplace { pt_id });
    assert_refused!(replace(mock.stdev, hosts), EINVAL, "attach.unit");
    assert_refused!(replace(mock.idev, mock.hwpt), ENOENT, "test.selftest");
    assert_refused!(client.check_map(hosts, 1 << 24, 2048, BUFFER), EINVAL, "test.unit");
    let cache =
        |id| client.test(IOMMU_TEST_OP_DEV_CHECK_CACHE, id, &IommuTestCheckDevCache::default()).map(|_| ());
    assert_refused!(cache(device.id()), EINVAL, "test.unit");
    assert_refused!(cache(mock.stdev), ENOENT, "test.device");
    client.context.unbind(&host, device);
    client.close();
}

/// Makes a device, maps memory for it, makes another page table, and changes over to that of another IOAS.
fn sequence(client: &Client<'_>, [ioas, other]: [u32; 2]) -> Result<(), Refusal> {
    let iova = 1 << 24;
    client.map_at(ioas, BUFFER + 2048, pages(3), iova)?;
    let mock = client.mock_with(ioas, 0)?;
    client.map(ioas, READ_WRITE, BUFFER, pages(4), 0)?;
    let mut table = IommuHwptAlloc { dev_id: mock.idev, pt_id: ioas, ..Command::new() };
    client.call(&mut table)?;
    client.check_map(table.out_hwpt_id, iova, pages(3), BUFFER + 2048)?;
    client.mock_with(table.out_hwpt_id, 0)?;
    let replace = IommuTestMockDomainReplace { pt_id: other };
    client.test(IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE, mock.stdev, &replace).map(|_| ())
}

#[test]
fn each_allocation_and_pin_fails_in_turn() {
    for arm in [TestHost::fail_allocation, TestHost::fail_pin] {
        let mut failures = 0;
        for n in 0.. {
            let host = TestHost::new();
            let client = Client::configured(&host, with_tests());
            let both = [client.ioas(), client.ioas()];
            client.memory(BUFFER, 4, Layout::Scattered);
            arm(&host, Some(n));
            let result = sequence(&client, both);
            assert_eq!(result.is_err(), host.has_failed(), "n = {n}: {result:?}");
            arm(&host, None);
            // Nothing is left behind of what was refused.
            client.close();
            if result.is_ok() {
                break;
            }
            failures += 1;
        }
        assert!(failures >= 3, "{failures}");
    }
}

#[test]
fn odds_and_ends() {
    let host = TestHost::new();
    let client = Client::configured(&host, with_tests());
    let ioas = client.ioas();
    let mock = client.mock(ioas);
    let cache = |id, cache| {
        client.test(IOMMU_TEST_OP_DEV_CHECK_CACHE, mock.idev, &IommuTestCheckDevCache { id, cache })
    };
    (0..4).for_each(|id| assert!(cache(id, IOMMU_TEST_DEV_CACHE_DEFAULT).is_ok()));
    assert_refused!(cache(4, IOMMU_TEST_DEV_CACHE_DEFAULT), EINVAL, "test.cache");
    assert_refused!(cache(0, 1), EINVAL, "test.cache");
    let limit = |limit| client.test(IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT, 0, &IommuTestMemoryLimit { limit });
    assert!(limit(12).is_ok());
    assert_refused!(limit(11), EINVAL, "test.memory-limit");
    assert_refused!(client.test(99, 0, &0_u32), EOPNOTSUPP, "test.operation");
    let mut short = [0; 72];
    short[0] = 64;
    assert_refused!(client.raw(IOMMU_TEST_CMD, &mut short), EINVAL, "iommufd.argument-too-small");
    client.close();
}
