//! Each allocation of each step fails in turn; the state is as before then, and the step works after all.

use super::*;
use crate::client::state;

/// Takes a step in a new guest each time, of which the first, the second, … allocation fails, until none is left that could.
/// How many there were.
fn fail_each<T>(
    prepare: impl Fn(&Guest<'_>) -> T,
    step: impl Fn(&Guest<'_>, &T) -> Result<(), Refusal>,
) -> u64 {
    for n in 0.. {
        let vfio = kernel();
        let guest = Guest::with_flags(&vfio, MOCK_FLAGS_DEVICE_PASID);
        guest.map_memory(2, Layout::Contiguous);
        let prepared = prepare(&guest);
        let before = state(&vfio);
        vfio.host().fail_allocation(Some(n));
        let result = step(&guest, &prepared);
        let failed = vfio.host().has_failed();
        vfio.host().fail_allocation(None);
        let Err(refusal) = result else {
            assert!(!failed, "allocation {n} failed and the step did not");
            return n;
        };
        assert_eq!((failed, refusal.errno()), (true, uapi::Errno::ENOMEM), "{refusal:?}");
        assert_eq!(state(&vfio), before, "allocation {n}");
        step(&guest, &prepared).expect("it works after all");
    }
    unreachable!("some attempt succeeds")
}

#[test]
fn what_is_made_for_guests() {
    let viommu = |guest: &Guest<'_>| guest.viommu().unwrap();
    assert!(fail_each(|_| {}, |guest, ()| guest.table(IOMMU_HWPT_ALLOC_NEST_PARENT).map(|_| ())) > 0);
    fail_each(|_| {}, |guest, ()| guest.nested(guest.parent, 0).map(|_| ()));
    fail_each(|_| {}, |guest, ()| guest.viommu().map(|_| ()));
    fail_each(viommu, |guest, viommu| guest.nested(*viommu, 0).map(|_| ()));
    fail_each(viommu, |guest, viommu| guest.vdevice(*viommu, guest.device, 1).map(|_| ()));
    assert!(fail_each(viommu, |guest, viommu| guest.events(*viommu, 1).map(|_| ())) > 0);
    assert!(fail_each(viommu, |guest, viommu| guest.hw_queue(*viommu, 0, IOVA, 4096).map(|_| ())) > 0);
}

#[test]
fn attaching() {
    let nested = |guest: &Guest<'_>| guest.nested(guest.parent, IOMMU_HWPT_ALLOC_PASID).unwrap();
    fail_each(nested, |guest, nested| guest.replace(*nested).map(|_| ()));
    let attached = |guest: &Guest<'_>| guest.replace(nested(guest)).unwrap();
    let pasid = |guest: &Guest<'_>, pt_id: &u32| {
        let operand = IommuTestPasidAttach { pasid: 5, pt_id: *pt_id };
        guest.test(IOMMU_TEST_OP_PASID_ATTACH, guest.stdev, operand).map(|_| ())
    };
    fail_each(attached, pasid);
}

#[test]
fn an_invalidation() {
    let viommu = |guest: &Guest<'_>| {
        let viommu = guest.viommu().unwrap();
        guest.vdevice(viommu, guest.device, 1).unwrap();
        viommu
    };
    let entry = IommuViommuInvalidateSelftest { flags: 0, vdev_id: 1, cache_id: 0 };
    let kind = IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST;
    assert!(fail_each(viommu, |guest, viommu| guest.invalidate(*viommu, kind, &[entry]).0) > 0);
}
