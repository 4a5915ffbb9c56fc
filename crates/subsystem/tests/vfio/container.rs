//! The native container, and what backs it.

use subsystem::Function;
use uapi::Command;
use uapi::iommufd::IommuIoasAlloc;
use uapi::vfio::*;

use crate::client::{Client, assert_refused, machine};
use crate::group::{Joins, behind_iommu};
use crate::support::function::TestFunction;

/// Which of the extensions 0 to 12, and of numbers that are none, a container has.
fn extensions(client: &Client<'_>, container: subsystem::FileId) -> Vec<u64> {
    let has = |number: &u64| client.number(container, VFIO_CHECK_EXTENSION, *number) == Ok(1);
    (0..13).chain([u64::MAX, (1 << 32) + 1, (1 << 32) + 8]).filter(has).collect()
}

#[test]
fn b327_to_b333_b657_extensions() {
    let vfio = machine(&[TestFunction::express(), behind_iommu(7)]);
    let client = Client::new(&vfio);
    let (container, fd) = client.container();
    assert_eq!(client.number(container, VFIO_GET_API_VERSION, 0), Ok(0));
    assert_eq!(extensions(&client, container), [1, 3, 8, 9]);
    vfio.set_modules(|modules| modules.unsafe_noiommu_mode = false);
    assert_eq!(extensions(&client, container), [1, 3, 9]);
    vfio.set_modules(|modules| modules.unsafe_noiommu_mode = true);
    let group = client.open_group(0).unwrap();
    client.set_container(group, fd).unwrap();
    assert_eq!(extensions(&client, container), [8]);
    client.set_iommu(container, VFIO_NOIOMMU_IOMMU).unwrap();
    assert_eq!(extensions(&client, container), [8]);
    vfio.set_modules(|modules| modules.unsafe_noiommu_mode = false);
    assert_eq!(extensions(&client, container), [0_u64; 0], "what backs it is asked");
    let (container, fd) = client.container();
    let group = client.open_group(1).unwrap();
    client.set_container(group, fd).unwrap();
    assert_eq!(extensions(&client, container), [1, 3, 9]);
    assert_refused!(client.set_iommu(container, VFIO_NOIOMMU_IOMMU), ENODEV, "set-iommu.unknown");
}

#[test]
fn b334_to_b344_b659_choosing_what_backs_it() {
    let vfio = machine(&[TestFunction::express()]);
    let mut client = Client::new(&vfio);
    let (container, fd) = client.container();
    assert_refused!(client.set_iommu(container, VFIO_NOIOMMU_IOMMU), EINVAL, "set-iommu.no-group");
    let group = client.open_group(0).unwrap();
    client.set_container(group, fd).unwrap();
    assert_refused!(client.set_iommu(container, VFIO_TYPE1_IOMMU), ENODEV, "set-iommu.unknown");
    vfio.set_modules(|modules| modules.unsafe_noiommu_mode = false);
    assert_refused!(client.set_iommu(container, VFIO_NOIOMMU_IOMMU), ENODEV, "set-iommu.unknown");
    vfio.set_modules(|modules| modules.unsafe_noiommu_mode = true);
    client.caller.caps.sys_rawio = false;
    assert_refused!(client.set_iommu(container, VFIO_NOIOMMU_IOMMU), EPERM, "set-iommu.capability");
    client.caller.caps.sys_rawio = true;
    for command in [VFIO_IOMMU_MAP_DMA, IommuIoasAlloc::OPCODE] {
        assert_refused!(client.number(container, command, 0), EINVAL, "container.unset");
    }
    client.set_iommu(container, VFIO_NOIOMMU_IOMMU).unwrap();
    assert_refused!(client.set_iommu(container, VFIO_NOIOMMU_IOMMU), EINVAL, "set-iommu.set");
    for command in [VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA, VFIO_IOMMU_GET_INFO, VFIO_IOMMU_DIRTY_PAGES] {
        assert_refused!(client.number(container, command, 0), ENOTTY, "container.noiommu");
    }
    client.unset_container(group).unwrap();
    assert_refused!(client.number(container, VFIO_IOMMU_MAP_DMA, 0), EINVAL, "container.unset");
}

#[test]
fn containers_groups_and_devices_are_closed_in_any_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for joins in [Joins::Container, Joins::Iommufd] {
            let vfio = machine(&[TestFunction::express()]);
            let mut client = Client::new(&vfio);
            let (group, container) = client.joined(joins);
            let device = client.device_of(group, crate::group::NAME).unwrap();
            order.iter().for_each(|index| vfio.release([group, container, device][*index]));
            vfio.remove(Function(0));
            assert_eq!(vfio.usage(), subsystem::Usage::default());
        }
    }
}
