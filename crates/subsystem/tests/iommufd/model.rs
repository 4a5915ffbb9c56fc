//! MAP, UNMAP, COPY, GET_PA, attaching and detaching against a model that is slow and simple.

use std::collections::{BTreeMap, BTreeSet};
use subsystem::iommufd::Binding;

use proptest::prelude::*;
use proptest::sample::select;
use subsystem::Function;
use subsystem::iommufd::DeviceObject;

use crate::client::{BUFFER, Client, pages};
use crate::support::host::TestHost;
use crate::support::memory::{Layout, PAGE};

const SPACES: usize = 2;

/// More than all mappings reach.
const END: u64 = 1 << 40;

/// What is asked for. Spaces and devices are numbers below [`SPACES`].
#[derive(Clone, Debug)]
enum Action {
    Map { space: usize, address: u64, length: u64, iova: Option<u64> },
    Copy { from: usize, source: u64, length: u64, to: usize, iova: Option<u64> },
    Unmap { space: usize, iova: u64, length: u64 },
    UnmapAll { space: usize },
    Physical { space: usize, iova: u64, length: u64 },
    Attach { device: usize, space: usize },
    Detach { device: usize },
}

/// The name of the rule that refuses.
type Answer<T> = Result<T, &'static str>;

#[derive(Clone, Copy, Debug)]
struct Area {
    length: u64,
    /// Which MAP it comes from.
    record: usize,
    /// The address of its first byte.
    address: u64,
}

#[derive(Default)]
struct Space {
    areas: BTreeMap<u64, Area>,
    attached: BTreeSet<usize>,
}

#[derive(Default)]
struct Model {
    spaces: [Space; SPACES],
    records: usize,
}

impl Space {
    fn alignment(&self) -> u64 {
        if self.attached.is_empty() { 1 } else { PAGE }
    }

    fn is_free(&self, iova: u64, length: u64) -> bool {
        self.areas.iter().all(|(start, area)| start + area.length <= iova || iova + length <= *start)
    }

    /// The lowest place, found by trying every hole.
    fn lowest(&self, address: u64, length: u64) -> Answer<u64> {
        let natural = length.next_power_of_two().min(1 << address.trailing_zeros().min(63));
        let want = natural.min(2 << 20);
        if want < self.alignment() {
            return Err("map.natural-alignment");
        }
        let fit = |begin: u64| begin.next_multiple_of(want) | (address % PAGE);
        // From the end of each area to the begin of the next, as far as that is behind the first place of all.
        let begins = [PAGE].into_iter().chain(self.areas.iter().map(|(start, area)| start + area.length));
        let ends = self.areas.keys().copied().chain([END]);
        begins
            .zip(ends)
            .filter_map(|(begin, end)| {
                let start = fit(begin.max(fit(PAGE)));
                // A start at the last byte of a hole is not taken.
                (start + 1 < end && start + length <= end).then_some(start)
            })
            .next()
            .ok_or("map.no-room")
    }

    fn place(&self, address: u64, length: u64, iova: Option<u64>) -> Answer<u64> {
        if !length.is_multiple_of(self.alignment()) {
            return Err("map.length-alignment");
        }
        let Some(iova) = iova else { return self.lowest(address, length) };
        if !iova.is_multiple_of(self.alignment()) {
            return Err("map.iova-alignment");
        }
        if self.is_free(iova, length) { Ok(iova) } else { Err("map.overlap") }
    }

    /// Maps pieces one behind the other.
    fn map(&mut self, pieces: &[Area], iova: Option<u64>) -> Answer<u64> {
        let length = pieces.iter().map(|piece| piece.length).sum();
        let start = self.place(pieces[0].address, length, iova)?;
        let mut next = start;
        for piece in pieces {
            if !(piece.address % PAGE).is_multiple_of(self.alignment()) {
                return Err("map.source-alignment");
            }
            if !next.is_multiple_of(self.alignment()) {
                return Err("map.piece-alignment");
            }
            next += piece.length;
        }
        if !self.attached.is_empty() && !pieces.iter().all(is_present) {
            return Err("pin.fault");
        }
        let mut next = start;
        for piece in pieces {
            self.areas.insert(next, *piece);
            next += piece.length;
        }
        Ok(start)
    }

    fn at(&self, iova: u64) -> Option<(u64, Area)> {
        let (start, area) = self.areas.range(..=iova).next_back()?;
        (iova < start + area.length).then_some((*start, *area))
    }

    fn slices(&self, iova: u64, length: u64) -> Answer<Vec<Area>> {
        let (mut at, end) = (iova, iova + length);
        let mut slices = Vec::new();
        while at < end {
            let (start, area) = self.at(at).ok_or("copy.uncovered")?;
            let length = (start + area.length).min(end) - at;
            slices.push(Area { length, address: area.address + (at - start), ..area });
            at += length;
        }
        Ok(slices)
    }

    fn unmap(&mut self, iova: u64, length: u64) -> Answer<u64> {
        let mut bytes = 0;
        for (start, area) in self.areas.clone() {
            let end = start + area.length;
            if end <= iova || iova + length <= start {
                continue;
            }
            if start < iova || end > iova + length {
                return Err("unmap.partial");
            }
            self.areas.remove(&start);
            bytes += area.length;
        }
        if bytes == 0 { Err("unmap.nothing") } else { Ok(bytes) }
    }
}

/// Whether all memory of an area is there: the buffer has a hole.
fn is_present(area: &Area) -> bool {
    area.address + area.length <= BUFFER + HOLE.0 || area.address >= BUFFER + HOLE.1
}

/// The hole in the buffer.
const HOLE: (u64, u64) = (pages(20), pages(22));

impl Model {
    fn attach(&mut self, device: usize, space: usize) -> Answer<()> {
        let target = &self.spaces[space];
        if target.attached.is_empty() {
            let aligned = target.areas.iter().all(|(iova, area)| {
                [*iova, area.length, area.address].iter().all(|value| value.is_multiple_of(PAGE))
            });
            if !aligned {
                return Err("attach.alignment");
            }
            if !target.areas.values().all(is_present) {
                return Err("pin.fault");
            }
        }
        self.detach(device);
        self.spaces[space].attached.insert(device);
        Ok(())
    }

    fn detach(&mut self, device: usize) {
        for space in &mut self.spaces {
            space.attached.remove(&device);
        }
    }

    /// How many pages are pinned: each page of a MAP once, if an area with it is in a space with a page table.
    fn pinned(&self) -> u64 {
        let linked = self.spaces.iter().filter(|space| !space.attached.is_empty());
        let pages: BTreeSet<(usize, u64)> = linked
            .flat_map(|space| space.areas.values())
            .flat_map(|area| {
                let page = area.address / PAGE;
                (page..page + area.length / PAGE).map(|page| (area.record, page))
            })
            .collect();
        pages.len() as u64
    }
}

/// The real thing, with what the model has to be told of it.
struct Real<'a> {
    client: Client<'a>,
    spaces: [u32; SPACES],
    devices: [DeviceObject; SPACES],
}

impl Real<'_> {
    /// Page by page, from what the process sees.
    fn physical(&self, model: &Model, space: usize, iova: u64, length: u64) -> Answer<(u64, u64)> {
        let (start, area) = model.spaces[space].at(iova).ok_or("get-pa.unmapped")?;
        if model.spaces[space].attached.is_empty() {
            return Err("get-pa.no-page-table");
        }
        let address = area.address + (iova - start);
        let end = area.address + area.length;
        let physical = self.client.pagemap(address);
        let mut found = (PAGE - address % PAGE).min(end - address);
        while found < length
            && address + found < end
            && self.client.pagemap(address + found) == physical + found
        {
            found += PAGE.min(end - address - found);
        }
        Ok((physical, found.min(length)))
    }

    /// Does an action to both and compares.
    fn act(&self, model: &mut Model, action: &Action) {
        let client = &self.client;
        let flags = |iova: Option<u64>| 6 | u32::from(iova.is_some());
        match *action {
            Action::Map { space, address, length, iova } => {
                let real = client.map(self.spaces[space], flags(iova), address, length, iova.unwrap_or(0));
                let area = Area { length, record: model.records, address };
                model.records += 1;
                assert_eq!(named(real), model.spaces[space].map(&[area], iova));
            }
            Action::Copy { from, source, length, to, iova } => {
                let mut argument = uapi::iommufd::IommuIoasCopy {
                    flags: flags(iova),
                    dst_ioas_id: self.spaces[to],
                    src_ioas_id: self.spaces[from],
                    length,
                    dst_iova: iova.unwrap_or(0),
                    src_iova: source,
                    ..uapi::Command::new()
                };
                let real = client.call(&mut argument).map(|()| argument.dst_iova);
                let slices = model.spaces[from].slices(source, length);
                assert_eq!(named(real), slices.and_then(|slices| model.spaces[to].map(&slices, iova)));
            }
            Action::Unmap { space, iova, length } => {
                let real = client.unmap(self.spaces[space], iova, length);
                assert_eq!(named(real), model.spaces[space].unmap(iova, length));
            }
            Action::UnmapAll { space } => {
                let areas = std::mem::take(&mut model.spaces[space].areas);
                let bytes = areas.values().map(|area| area.length).sum();
                assert_eq!(named(client.unmap(self.spaces[space], 0, u64::MAX)), Ok(bytes));
            }
            Action::Physical { space, iova, length } => {
                let expected = self.physical(model, space, iova, length);
                assert_eq!(named(client.physical(self.spaces[space], iova, length)), expected);
            }
            Action::Attach { device, space } => {
                let real = client.attach(self.devices[device], self.spaces[space]).map(drop);
                assert_eq!(named(real), model.attach(device, space));
            }
            Action::Detach { device } => {
                client.detach(self.devices[device]);
                model.detach(device);
            }
        }
        let areas: usize = model.spaces.iter().map(|space| space.areas.len()).sum();
        assert_eq!((client.context.usage().areas, client.pinned()), (areas, model.pinned()));
    }
}

fn named<T>(result: Result<T, subsystem::Refusal>) -> Answer<T> {
    result.map_err(|refusal| refusal.rule().name)
}

/// Mostly whole pages.
fn bytes(most: u64) -> impl Strategy<Value = u64> {
    (0..most, select(vec![0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x23, 0x7ff]))
        .prop_map(|(count, rest)| pages(count) + rest)
}

fn length() -> impl Strategy<Value = u64> {
    bytes(8).prop_map(|length| length.max(1))
}

fn action() -> impl Strategy<Value = Action> {
    let space = || 0..SPACES;
    let iova = || prop::option::of(bytes(40));
    prop_oneof![
        6 => (space(), bytes(32), length(), iova()).prop_map(|(space, offset, length, iova)| {
            Action::Map { space, address: BUFFER + offset, length, iova }
        }),
        6 => (space(), bytes(40), length(), space(), iova())
            .prop_map(|(from, source, length, to, iova)| Action::Copy { from, source, length, to, iova }),
        3 => (space(), bytes(40), length()).prop_map(|(space, iova, length)| Action::Unmap { space, iova, length }),
        1 => space().prop_map(|space| Action::UnmapAll { space }),
        4 => (space(), bytes(40), length())
            .prop_map(|(space, iova, length)| Action::Physical { space, iova, length }),
        4 => (space(), space()).prop_map(|(device, space)| Action::Attach { device, space }),
        1 => space().prop_map(|device| Action::Detach { device }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn as_the_model_says(actions in prop::collection::vec(action(), 1..60)) {
        let host = TestHost::new();
        let client = Client::new(&host);
        client.memory(BUFFER, 10, Layout::Scattered);
        client.memory(BUFFER + pages(10), 10, Layout::Contiguous);
        client.memory(BUFFER + HOLE.1, 20, Layout::Contiguous);
        let devices = [0, 1].map(|function| client.context.bind(&host, Function(function), Binding::Noiommu).unwrap());
        let spaces = [client.ioas(), client.ioas()];
        let real = Real { client, spaces, devices };
        let mut model = Model::default();
        for action in &actions {
            real.act(&mut model, action);
        }
        real.client.close();
    }
}
