//! OPTION, VFIO_IOAS and the container ioctls.

use subsystem::Kconfig;
use subsystem::iommufd::Context;
use uapi::Command;
use uapi::iommufd::*;
use uapi::vfio::*;

use crate::client::{BUFFER, Client};
use crate::support::host::TestHost;
use crate::support::memory::Layout;

const MODE: u32 = IOMMU_OPTION_RLIMIT_MODE;
const HUGE: u32 = IOMMU_OPTION_HUGE_PAGES;
const SET: u32 = IOMMU_OPTION_OP_SET;
const GET: u32 = IOMMU_OPTION_OP_GET;

#[test]
fn b554_to_b562_rlimit_mode() {
    let host = TestHost::new();
    let mut client = Client::new(&host);
    assert_eq!(client.option(MODE, GET, 0, 5), Ok(0));
    assert_eq!(client.option(MODE, SET, 0, 1), Ok(1));
    assert_eq!(client.option(MODE, GET, 0, 5), Ok(1));
    assert_refused!(client.option(MODE, SET, 0, 2), EINVAL, "option.rlimit-value");
    assert_refused!(client.option(MODE, GET, 1, 0), EOPNOTSUPP, "option.rlimit-object");
    assert_refused!(client.option(7, GET, 0, 0), EOPNOTSUPP, "option.unknown");
    assert_refused!(client.option(MODE, 2, 0, 0), EOPNOTSUPP, "option.unknown");
    let mut reserved = IommuOption { op: 1, reserved: 1, ..Command::new() };
    assert_refused!(client.call(&mut reserved), EOPNOTSUPP, "option.unknown");
    client.caller.caps.sys_resource = false;
    assert_refused!(client.option(MODE, SET, 0, 0), EPERM, "option.rlimit-capability");
    client.caller.caps.sys_resource = true;
    client.ioas();
    assert_refused!(client.option(MODE, SET, 0, 1), EBUSY, "option.rlimit-late");
    client.close();

    let mut client = Client::new(&host);
    client.context.close(&host);
    client.context = Context::new_container(&host, Kconfig::FULL).unwrap().into();
    assert_eq!(client.option(MODE, GET, 0, 0), Ok(1));
    client.close();
}

#[test]
fn b563_to_b569_b701_b702_huge_pages() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let ioas = client.ioas();
    assert_eq!(client.option(HUGE, GET, ioas, 0), Ok(1));
    assert_refused!(client.option(HUGE, GET, 99, 0), ENOENT, "ioas.unknown");
    assert_refused!(client.option(HUGE, 2, 99, 0), ENOENT, "ioas.unknown");
    assert_refused!(client.option(HUGE, 2, ioas, 0), EOPNOTSUPP, "option.unknown");
    assert_refused!(client.option(HUGE, SET, ioas, 2), EINVAL, "option.huge-value");
    client.map_at(ioas, BUFFER, 100, 0x1000).unwrap();
    assert_refused!(client.option(HUGE, SET, ioas, 0), EADDRINUSE, "option.huge-alignment");
    client.unmap(ioas, 0, u64::MAX).unwrap();
    client.option(HUGE, SET, ioas, 0).unwrap();
    assert_eq!((client.option(HUGE, GET, ioas, 7), client.alignment(ioas)), (Ok(0), 4096));
    client.option(HUGE, SET, ioas, 1).unwrap();
    assert_eq!(client.alignment(ioas), 1);

    let device = client.bind();
    client.attach(device, ioas).unwrap();
    client.option(HUGE, SET, ioas, 0).unwrap();
    client.memory(BUFFER, 1, Layout::Scattered);
    client.map_at(ioas, BUFFER, 4096, 0x1000).unwrap();
    client.option(HUGE, SET, ioas, 0).unwrap();
    client.option(HUGE, SET, ioas, 1).unwrap();
    assert_refused!(client.option(HUGE, SET, ioas, 0), EINVAL, "option.huge-filled");
    client.close();
}

#[test]
fn the_context_as_a_container() {
    let host = TestHost::new();
    let client = Client::new(&host);
    let call = |command, argument| client.context.ioctl(&host, &client.caller.ctx(), command, argument);
    let choose = |op: u32, ioas_id| {
        let mut argument = IommuVfioIoas { op: op.try_into().unwrap(), ioas_id, ..Command::new() };
        client.call(&mut argument).map(|()| argument.ioas_id)
    };
    assert_eq!(call(VFIO_GET_API_VERSION, 0), Ok(VFIO_API_VERSION));
    for (extension, answer) in [(1, 1), (3, 1), (6, 0), (8, 1), (9, 1), (10, 0), (1 << 32 | 1, 0)] {
        assert_eq!(call(VFIO_CHECK_EXTENSION, extension), Ok(answer), "extension {extension}");
    }
    assert_refused!(call(VFIO_CHECK_EXTENSION, 4), ENODEV, "vfio-ioas.none");
    assert_refused!(call(VFIO_SET_IOMMU, 3), ENODEV, "vfio-ioas.none");
    assert_refused!(call(VFIO_SET_IOMMU, 8), EINVAL, "compat.iommu-type");
    assert_refused!(choose(IOMMU_VFIO_IOAS_GET, 0), ENODEV, "vfio-ioas.none");
    assert_refused!(choose(IOMMU_VFIO_IOAS_SET, 99), ENOENT, "ioas.unknown");
    assert_refused!(choose(3, 0), EOPNOTSUPP, "vfio-ioas.fields");
    let ioas = client.ioas();
    choose(IOMMU_VFIO_IOAS_SET, ioas).unwrap();
    assert_eq!(choose(IOMMU_VFIO_IOAS_GET, 0), Ok(ioas));
    assert_eq!(call(VFIO_SET_IOMMU, 3), Ok(0));
    assert_eq!(client.alignment(ioas), 1);
    assert_eq!(call(VFIO_SET_IOMMU, 1), Ok(0));
    assert_eq!(client.alignment(ioas), 4096, "type 1 goes without large pages");
    client.destroy(ioas).unwrap();
    assert_refused!(choose(IOMMU_VFIO_IOAS_GET, 0), ENODEV, "vfio-ioas.none");
    choose(IOMMU_VFIO_IOAS_CLEAR, 0).unwrap();
    client.close();
}
