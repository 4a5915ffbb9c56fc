//! Nested page tables.

use super::*;
use crate::client::{assert_refused, state};

const SELFTEST: u32 = IOMMU_HWPT_INVALIDATE_DATA_SELFTEST;

impl Guest<'_> {
    /// Whether the entries of the IOTLB of a nested page table are these.
    fn holds(&self, table: u32, iotlb: [u32; 4]) -> bool {
        (0_u32..).zip(iotlb).all(|(id, iotlb)| {
            self.test(IOMMU_TEST_OP_MD_CHECK_IOTLB, table, IommuTestCheckIotlb { id, iotlb }).is_ok()
        })
    }
}

fn entry(flags: u32, iotlb_id: u32) -> IommuHwptInvalidateSelftest {
    IommuHwptInvalidateSelftest { flags, iotlb_id }
}

#[test]
fn what_a_nested_page_table_is_made_from() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let other = guest.table(0).unwrap();
    let before = state(&vfio);
    let alloc = |argument: IommuHwptAlloc| guest.call(&mut { argument });
    let good = || guest.nested_argument(guest.parent, 0);
    assert_refused!(alloc(IommuHwptAlloc { reserved: 1, ..good() }), EOPNOTSUPP, "hwpt-alloc.reserved");
    assert_refused!(alloc(IommuHwptAlloc { data_type: 0, ..good() }), EINVAL, "hwpt-alloc.data");
    assert_refused!(alloc(IommuHwptAlloc { dev_id: 99, ..good() }), ENOENT, "hwpt-alloc.device");
    assert_refused!(alloc(IommuHwptAlloc { pt_id: 99, ..good() }), EINVAL, "hwpt-alloc.parent");
    assert_refused!(alloc(IommuHwptAlloc { pt_id: guest.device, ..good() }), EINVAL, "hwpt-alloc.parent");
    let flags = IOMMU_HWPT_ALLOC_NEST_PARENT;
    assert_refused!(alloc(IommuHwptAlloc { flags, ..good() }), EOPNOTSUPP, "hwpt-alloc.nested");
    assert_refused!(alloc(IommuHwptAlloc { pt_id: other, ..good() }), EINVAL, "hwpt-alloc.nested-parent");
    assert_refused!(alloc(IommuHwptAlloc { data_type: 1, ..good() }), EOPNOTSUPP, "test.nested-data");
    assert_refused!(alloc(IommuHwptAlloc { data_len: 3, ..good() }), EINVAL, "user-data.length");
    assert_refused!(alloc(IommuHwptAlloc { data_len: 9, ..good() }), EINVAL, "user-data.length");
    assert_refused!(alloc(IommuHwptAlloc { data_uptr: 0, ..good() }), EFAULT, "user-data.unreadable");
    let flags = IOMMU_HWPT_FAULT_ID_VALID;
    assert_refused!(alloc(IommuHwptAlloc { flags, ..good() }), ENOENT, "hwpt-alloc.fault-queue");
    assert_eq!(state(&vfio), before);
    let flags = IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_FAULT_ID_VALID;
    assert_refused!(guest.table(flags), EOPNOTSUPP, "hwpt-alloc.parent-faults");
    assert_refused!(guest.table(1 << 31), EOPNOTSUPP, "hwpt-alloc.flags");
    let table = IommuHwptAlloc { pt_id: guest.ioas, ..good() };
    assert_refused!(alloc(IommuHwptAlloc { data_type: 1, ..table }), EOPNOTSUPP, "test.table-data");
    guest.data(&IommuHwptSelftest { iotlb: 0, pagetable_type: 2 });
    assert_refused!(alloc(table), EOPNOTSUPP, "test.table-type");

    let nested = guest.nested(guest.parent, 0).unwrap();
    assert_refused!(guest.nested(nested, 0), EINVAL, "hwpt-alloc.parent");
    alloc(IommuHwptAlloc { data_len: 4, ..good() }).expect("the least that is needed");
    guest.close(&[]);
}

#[test]
fn a_nested_page_table_keeps_what_it_is_nested_in() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let [first, second] = [0; 2].map(|_| guest.nested(guest.parent, 0).unwrap());
    assert_refused!(guest.destroy(guest.parent), EBUSY, "destroy.hwpt-in-use");
    assert_eq!(guest.replace(first), Ok(first));
    assert_refused!(guest.destroy(first), EBUSY, "destroy.hwpt-in-use");
    assert_eq!(guest.replace(second), Ok(second));
    guest.destroy(first).unwrap();
    assert_refused!(guest.destroy(guest.parent), EBUSY, "destroy.hwpt-in-use");
    guest.replace(guest.parent).unwrap();
    guest.destroy(second).unwrap();
    assert_refused!(guest.destroy(guest.parent), EBUSY, "destroy.hwpt-in-use");
    guest.replace(guest.ioas).unwrap();
    guest.destroy(guest.parent).unwrap();
    guest.close(&[]);
}

#[test]
fn a_device_on_a_nested_page_table_keeps_the_window_of_the_parent() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let nested = guest.nested(guest.parent, 0).unwrap();
    guest.replace(nested).unwrap();
    assert_refused!(guest.destroy(guest.ioas), EBUSY, "destroy.ioas-in-use");
    guest.destroy(guest.stdev).unwrap();
    guest.destroy(nested).unwrap();
    guest.destroy(guest.parent).unwrap();
    guest.destroy(guest.ioas).unwrap();
    guest.close(&[]);
}

#[test]
fn an_invalidation_says_how_many_entries_were_handled() {
    let vfio = kernel();
    let guest = Guest::new(&vfio);
    let nested = guest.nested(guest.parent, 0).unwrap();
    assert!(guest.holds(nested, [7; 4]));
    let refused = guest.test(IOMMU_TEST_OP_MD_CHECK_IOTLB, nested, IommuTestCheckIotlb { id: 4, iotlb: 0 });
    assert_refused!(refused, EINVAL, "test.iotlb");
    let refused = guest.test(IOMMU_TEST_OP_MD_CHECK_IOTLB, guest.parent, IommuTestCheckIotlb::default());
    assert_refused!(refused, ENOENT, "test.nested");

    let none: [IommuHwptInvalidateSelftest; 0] = [];
    assert_eq!(guest.invalidate(nested, SELFTEST, &none), (Ok(()), 0));
    let (refused, done) = guest.invalidate(nested, SELFTEST - 1, &none);
    assert_refused!(refused, EINVAL, "user-data.kind");
    assert_eq!(done, 0);
    let (refused, done) = guest.invalidate(guest.parent, SELFTEST, &[entry(0, 0)]);
    assert_refused!(refused, EINVAL, "invalidate.type");
    assert_eq!(done, 0);
    let (refused, done) = guest.invalidate(nested, SELFTEST, &[[entry(0, 0); 2]]);
    assert_refused!(refused, EINVAL, "user-data.length");
    assert_eq!(done, 0);

    let (refused, done) = guest.invalidate(nested, SELFTEST, &[entry(0, 0), entry(2, 1), entry(0, 2)]);
    assert_refused!(refused, EOPNOTSUPP, "test.invalidate-flags");
    assert_eq!((done, guest.holds(nested, [0, 7, 7, 7])), (1, true));
    let (refused, done) = guest.invalidate(nested, SELFTEST, &[entry(0, 1), entry(0, 4)]);
    assert_refused!(refused, EINVAL, "test.invalidate-entry");
    assert_eq!((done, guest.holds(nested, [0, 0, 7, 7])), (1, true));
    assert_eq!(guest.invalidate(nested, SELFTEST, &[entry(0, 3); 2]), (Ok(()), 2));
    assert!(guest.holds(nested, [0, 0, 7, 0]));
    assert_eq!(guest.invalidate(nested, SELFTEST, &[entry(1, 0)]), (Ok(()), 1));
    assert!(guest.holds(nested, [0; 4]));
    guest.close(&[]);
}
