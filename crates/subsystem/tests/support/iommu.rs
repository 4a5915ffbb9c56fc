//! The IOMMU of the simulated host: domains, who is attached to them, and who has the DMA of groups.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use subsystem::{Alloc, DmaOwner, DomainKind, Function, Iommu, IommuInfo, Mapping};

use super::host::TestHost;
use super::memory::{PAGE, Pin};

/// A domain: its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Domain(u32);

/// The one in which nothing is mapped.
pub(crate) const UNMANAGED: Domain = Domain(u32::MAX);

struct State {
    kind: DomainKind,
    /// By the IOVA at which they begin; address spaces that share a physical domain may use the same ones.
    mapped: BTreeMap<u64, Vec<Mapping<Pin>>>,
    tracking: bool,
    /// IOVAs of pages that were written.
    dirty: BTreeSet<u64>,
}

/// All domains, and the functions behind an IOMMU.
#[derive(Default)]
pub(crate) struct Iommus {
    behind: HashMap<Function, IommuInfo>,
    domains: HashMap<Domain, State>,
    /// How many mappings there are of each pin.
    pins: HashMap<Pin, usize>,
    /// Whether mappings are taken on trust, and not recorded: for benches, which measure the subsystem.
    trusting: bool,
    next: u32,
    attached: HashMap<Function, Domain>,
    /// By group.
    owners: HashMap<u32, (DmaOwner, u32)>,
    /// The groups of which a driver of the host has a device.
    drivers: BTreeSet<u32>,
}

/// What an IOMMU offers unless a test says otherwise.
pub(crate) const IOMMU: IommuInfo = IommuInfo {
    group: 7,
    aperture_last: 0x7f_ffff_ffff,
    page_sizes: 0x4020_1000,
    msi_window: (0xfee0_0000, 0xfeef_ffff),
    coherent: true,
    enforces_coherency: false,
    isolated_msi: true,
    dirty_tracking: false,
    registers: [0x1122, 0x3344],
};

/// How many domains, attached functions, claims and mapped pages there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DomainsInUse {
    pub(crate) domains: usize,
    pub(crate) attached: usize,
    pub(crate) claims: u32,
    pub(crate) pages: u64,
}

impl Iommus {
    pub(crate) fn in_use(&self) -> DomainsInUse {
        DomainsInUse {
            domains: self.domains.len(),
            attached: self.attached.len(),
            claims: self.owners.values().map(|(_, claims)| claims).sum(),
            pages: self
                .domains
                .values()
                .flat_map(|state| state.mapped.values().flatten())
                .map(|it| it.pages)
                .sum(),
        }
    }

    /// A driver of the host would take a device of a group; false if a program has the group's DMA.
    pub(crate) fn driver_takes(&mut self, group: u32) -> bool {
        !self.owners.contains_key(&group) && self.drivers.insert(group)
    }

    /// It gives it back.
    pub(crate) fn driver_leaves(&mut self, group: u32) {
        self.drivers.remove(&group);
    }

    /// Whether a page of a pin is mapped anywhere.
    pub(crate) fn has_mapped(&self, pin: Pin, first: u64, pages: u64) -> bool {
        if !self.pins.contains_key(&pin) {
            return false;
        }
        let mut mapped = self.domains.values().flat_map(|state| state.mapped.values().flatten());
        mapped.any(|it| it.pin == pin && first < it.first + it.pages && it.first < first + pages)
    }

    /// The functions that move together.
    fn members(&self, group: u32) -> Vec<Function> {
        self.behind.iter().filter(|(_, info)| info.group == group).map(|(member, _)| *member).collect()
    }

    fn attach(&mut self, function: Function, domain: Option<Domain>) {
        match domain {
            Some(domain) => self.attached.insert(function, domain),
            None => self.attached.remove(&function),
        };
    }

    /// What is mapped in the domain that a function is attached to.
    fn mapped(&self, function: Function) -> impl Iterator<Item = &Mapping<Pin>> {
        let state = self.attached.get(&function).and_then(|domain| self.domains.get(domain));
        state.into_iter().flat_map(|state| state.mapped.values().flatten())
    }

    fn translated(&self, function: Function) -> bool {
        let state = self.attached.get(&function).and_then(|domain| self.domains.get(domain));
        state.is_some_and(|state| matches!(state.kind, DomainKind::Translated { .. }))
    }
}

/// What is left of a mapping on both sides of a part of it; `None` if it is no part of it.
fn part_of(part: &Mapping<Pin>, whole: &Mapping<Pin>) -> Option<Vec<Mapping<Pin>>> {
    let before = part.first.checked_sub(whole.first)?;
    let behind = (whole.first + whole.pages).checked_sub(part.first + part.pages)?;
    let expected =
        Mapping { first: part.first, pages: part.pages, iova: whole.iova + before * PAGE, ..*whole };
    let left = [
        Mapping { pages: before, ..*whole },
        Mapping {
            first: part.first + part.pages,
            pages: behind,
            iova: part.iova.wrapping_add(part.pages * PAGE),
            ..*whole
        },
    ];
    (*part == expected).then(|| left.into_iter().filter(|it| it.pages > 0).collect())
}

impl TestHost {
    /// Puts a function behind an IOMMU.
    pub(crate) fn put_behind(&self, function: Function, info: IommuInfo) {
        self.iommus(|iommus| iommus.behind.insert(function, info));
    }

    /// Takes mappings on trust from now on.
    pub(crate) fn trust_mappings(&self) {
        self.iommus(|iommus| iommus.trusting = true);
    }

    /// Works on the domains.
    pub(crate) fn iommus<R>(&self, f: impl FnOnce(&mut Iommus) -> R) -> R {
        f(&mut self.iommus.lock().unwrap())
    }

    /// Whether a device without an IOMMU may reach a physical address.
    pub(crate) fn may_reach(&self, function: Function, physical: u64) -> bool {
        let mapped: Vec<_> = self.iommus(|iommus| {
            assert!(!iommus.translated(function), "the device uses IOVAs");
            iommus.mapped(function).copied().collect()
        });
        let frame = |mapping: &Mapping<Pin>, page| self.ram(|ram| ram.pin_physical(mapping.pin, page));
        mapped.iter().any(|mapping| {
            (mapping.first..mapping.first + mapping.pages)
                .any(|page| frame(mapping, page) == physical / PAGE * PAGE)
        })
    }

    /// Where the IOVA of a device behind an IOMMU is in memory, and whether the device may write there.
    pub(crate) fn translate(&self, function: Function, iova: u64) -> Option<(u64, bool)> {
        let mapping = self.iommus(|iommus| {
            let mut mapped = iommus.mapped(function);
            let found = mapped.find(|it| (it.iova..it.iova + it.pages * PAGE).contains(&iova)).copied();
            assert!(found.is_none() || iommus.translated(function), "the device uses physical addresses");
            found
        })?;
        let page = mapping.first + (iova - mapping.iova) / PAGE;
        let physical = self.ram(|ram| ram.pin_physical(mapping.pin, page)) + iova % PAGE;
        Some((physical, mapping.rights.write))
    }

    /// A device behind an IOMMU writes to a page: whether it may.
    pub(crate) fn device_writes(&self, function: Function, iova: u64) -> bool {
        let may = self.translate(function, iova).is_some_and(|(_, write)| write);
        self.iommus(|iommus| {
            if let Some(domain) = iommus.attached.get(&function).filter(|_| may) {
                let state = iommus.domains.get_mut(domain).unwrap();
                if state.tracking {
                    state.dirty.insert(iova / PAGE * PAGE);
                }
            }
        });
        may
    }
}

impl Iommu for TestHost {
    type Domain = Domain;

    fn iommu(&self, function: Function) -> Option<IommuInfo> {
        self.iommus(|iommus| iommus.behind.get(&function).copied())
    }

    fn iommu_of_group(&self, group: u32) -> Option<IommuInfo> {
        self.iommus(|iommus| iommus.behind.values().find(|info| info.group == group).copied())
    }

    fn unmanaged_domain(&self) -> Domain {
        UNMANAGED
    }

    fn domain_new(&self, kind: DomainKind) -> Option<Domain> {
        if !self.permit() {
            return None;
        }
        self.iommus(|iommus| {
            let domain = Domain(iommus.next);
            iommus.next += 1;
            let state = State { kind, mapped: BTreeMap::new(), tracking: false, dirty: BTreeSet::new() };
            iommus.domains.insert(domain, state);
            Some(domain)
        })
    }

    fn domain_free(&self, domain: Domain) {
        self.iommus(|iommus| {
            let state = iommus.domains.remove(&domain).expect("a domain is freed twice");
            assert!(state.mapped.is_empty(), "a domain goes with everything unmapped");
            assert!(!iommus.attached.values().any(|it| *it == domain), "a domain goes before its devices");
        });
    }

    fn domain_map(&self, domain: Domain, mapping: Mapping<Pin>) -> bool {
        if !self.permit() {
            return false;
        }
        if self.iommus(|iommus| iommus.trusting) {
            return true;
        }
        self.ram(|ram| {
            assert!(mapping.first + mapping.pages <= ram.pin_pages(mapping.pin), "more is mapped than pinned")
        });
        self.iommus(|iommus| {
            let state = iommus.domains.get_mut(&domain).expect("a domain that is gone");
            if let DomainKind::Translated { aperture_last } = state.kind {
                let last = |it: &Mapping<Pin>| it.iova + (it.pages * PAGE - 1);
                assert!(last(&mapping) <= aperture_last, "the IOMMU cannot translate that");
                let overlaps = |it: &Mapping<Pin>| it.iova <= last(&mapping) && mapping.iova <= last(it);
                assert!(!state.mapped.values().flatten().any(overlaps), "mappings of a domain overlap");
            }
            state.mapped.entry(mapping.iova).or_default().push(mapping);
            *iommus.pins.entry(mapping.pin).or_default() += 1;
        });
        true
    }

    fn domain_unmap(&self, domain: Domain, mapping: Mapping<Pin>) {
        self.iommus(|iommus| {
            let Iommus { domains, pins, trusting: false, .. } = iommus else { return };
            let mapped = &mut domains.get_mut(&domain).expect("a domain that is gone").mapped;
            // A copy of the beginning of a larger mapping may be at the same IOVA as that.
            let within = |list: &Vec<Mapping<Pin>>| {
                let whole = list.iter().position(|it| *it == mapping);
                whole.or_else(|| list.iter().position(|it| part_of(&mapping, it).is_some()))
            };
            let here = mapped.get(&mapping.iova).and_then(within).map(|index| (mapping.iova, index));
            // What begins elsewhere is part of a larger mapping.
            let mut all = mapped.iter();
            let found =
                here.or_else(|| all.find_map(|(iova, list)| within(list).map(|index| (*iova, index))));
            let (iova, index) = found.expect("what is unmapped was mapped");
            let list = mapped.get_mut(&iova).expect("it was found there");
            let whole = list.swap_remove(index);
            if list.is_empty() {
                mapped.remove(&iova);
            }
            let count = pins.get_mut(&whole.pin).expect("it was counted");
            *count -= 1;
            for rest in part_of(&mapping, &whole).into_iter().flatten() {
                mapped.entry(rest.iova).or_default().push(rest);
                *count += 1;
            }
            if *count == 0 {
                pins.remove(&whole.pin);
            }
        });
    }

    fn domain_attach(&self, function: Function, domain: Option<Domain>) {
        self.iommus(|iommus| iommus.attach(function, domain));
    }

    fn group_attach(&self, group: u32, domain: Option<Domain>) {
        self.iommus(|iommus| {
            for member in iommus.members(group) {
                iommus.attach(member, domain);
            }
        });
    }

    fn dirty_tracking(&self, domain: Domain, on: bool) {
        self.iommus(|iommus| iommus.domains.get_mut(&domain).unwrap().tracking = on);
    }

    fn dirty_read(&self, domain: Domain, iova: u64, last: u64, clear: bool, each: &mut dyn FnMut(u64, u64)) {
        let found: Vec<u64> = self.iommus(|iommus| {
            let dirty = &mut iommus.domains.get_mut(&domain).unwrap().dirty;
            let found = dirty.range(iova..=last).copied().collect();
            if clear {
                dirty.retain(|page| !(iova..=last).contains(page));
            }
            found
        });
        found.into_iter().for_each(|page| each(page, page + (PAGE - 1)));
    }

    fn dma_claim(&self, group: u32, owner: DmaOwner) -> bool {
        self.iommus(|iommus| {
            if iommus.drivers.contains(&group) {
                return false;
            }
            let (holder, claims) = iommus.owners.entry(group).or_insert((owner, 0));
            *claims += u32::from(*holder == owner);
            *holder == owner
        })
    }

    fn dma_release(&self, group: u32) {
        self.iommus(|iommus| {
            let (_, claims) = iommus.owners.get_mut(&group).expect("what is released was claimed");
            *claims -= 1;
            if *claims == 0 {
                iommus.owners.remove(&group);
                let mut attached = iommus.attached.keys().filter_map(|function| iommus.behind.get(function));
                assert!(
                    !attached.any(|info| info.group == group),
                    "a group is released while it is attached"
                );
            }
        });
    }

    fn dma_claimed(&self, group: u32) -> bool {
        self.iommus(|iommus| iommus.owners.contains_key(&group) || iommus.drivers.contains(&group))
    }
}
