//! mmap of BARs.

use subsystem::{Function, MapRequest, Mapped, MappedRegion};

use crate::client::{CONFIG, Client, REGION, assert_refused, machine};
use crate::support::function::{TestFunction, express::BAR};

#[test]
fn a_bar_is_mapped_in_whole_or_in_part() {
    let vfio = machine(&[TestFunction::express()]);
    let (client, device) = Client::bound(&vfio);
    let map = |offset, length| vfio.map(&client.caller.ctx(), device, MapRequest::shared(offset, length));
    let function = Function(0);
    assert_eq!(map(0, BAR), Ok(Mapped::Region(MappedRegion { function, index: 0, offset: 0, length: BAR })));
    assert_eq!(
        map(0x3000, 1),
        Ok(Mapped::Region(MappedRegion { function, index: 0, offset: 0x3000, length: 0x1000 }))
    );
}

#[test]
fn a_bar_smaller_than_a_page_is_mapped_as_one() {
    let vfio = machine(&[TestFunction::conventional()]);
    let (client, device) = Client::bound(&vfio);
    let map = |length| vfio.map(&client.caller.ctx(), device, MapRequest::shared(0, length));
    let Ok(Mapped::Region(region)) = map(0x100) else { panic!("a part of the BAR") };
    assert_eq!(region.length, 0x1000);
    assert_refused!(map(0x1001), EINVAL, "map.bounds");
}

#[test]
fn b255_to_b259_b647_what_is_not_mapped() {
    let vfio = machine(&[TestFunction::conventional(), TestFunction::express()]);
    let (mut client, io) = Client::bound(&vfio);
    let (_, fd) = client.iommufd();
    let device = client.open(1);
    client.bind(device, fd).unwrap();
    let map = |file, offset, length, shared| {
        vfio.map(&client.caller.ctx(), file, MapRequest { shared, ..MapRequest::shared(offset, length) })
    };
    assert_refused!(map(device, 0, BAR, false), EINVAL, "map.private");
    assert_refused!(map(device, CONFIG, 4096, true), EINVAL, "map.not-bar");
    assert_refused!(map(device, 6 * REGION, 4096, true), EINVAL, "map.not-bar");
    assert_refused!(map(device, 8 * REGION, 4096, true), EINVAL, "map.not-bar");
    assert_refused!(map(device, 9 * REGION, 4096, true), EINVAL, "region.index");
    assert_refused!(map(device, REGION, 4096, true), EINVAL, "map.unmappable");
    assert_refused!(map(io, 2 * REGION, 0x40, true), EINVAL, "map.unmappable");
    assert_refused!(map(device, 0, BAR + 4096, true), EINVAL, "map.bounds");
    assert_refused!(map(device, BAR, 4096, true), EINVAL, "map.bounds");
    assert_refused!(map(device, 0, u64::MAX, true), EINVAL, "map.bounds");
    assert_refused!(map(device, 0, 0, true), EINVAL, "map.empty");
    assert_refused!(map(device, 8, 4096, true), EINVAL, "map.unaligned");
}
