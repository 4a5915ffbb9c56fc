//! ATTACH: a device behind an IOMMU and one without in the same context.

use sys::Suite;
use uapi::iommufd::IommuHwptAlloc;
use uapi::{Command, Errno};

use crate::case::{Case, answer, case};
use crate::fixture::{Bound, Fixture};
use crate::memory::{PAGE, Pages};
use crate::outcome::{Got, Way};
use crate::space::P;

pub(super) fn cases<S: Suite>() -> Vec<Case<S>> {
    let mut cases = joining();
    cases.extend(replacing());
    cases.extend(answering());
    cases
}

/// Which page tables they share.
fn joining<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-138", |f| {
            let pair = pair(f)?;
            let first = f.attach(&pair.noiommu, pair.ioas)?;
            let second = f.attach(&pair.iommu, pair.ioas)?;
            Ok(Got::truth("two page tables", (first, second), first != second))
        }),
        case("B-139", |f| {
            let pair = pair(f)?;
            let first = f.attach(&pair.iommu, pair.ioas)?;
            Ok(Got::equal(first, f.attach(&pair.noiommu, pair.ioas)?))
        }),
        case("B-141", |f| {
            let pair = pair(f)?;
            let made = pair.page_table(f, pair.noiommu_devid)?;
            answer(f.attach(&pair.iommu, made))
        }),
        case("B-619", |f| {
            let pair = pair(f)?;
            let shared = joined(f, &pair)?;
            f.detach(&pair.iommu)?;
            answer(f.destroy(&pair.iommufd, shared))
        }),
        case("B-620", |f| {
            let memory = Pages::new(PAGE)?;
            let pair = pair(f)?;
            joined(f, &pair)?;
            f.map_at(&pair.iommufd, pair.ioas, memory.address(), P, P)?;
            f.detach(&pair.iommu)?;
            answer(f.get_pa(&pair.iommufd, pair.ioas, P, P).map(|(address, _)| address))
        }),
        case("B-621", |f| {
            let pair = pair(f)?;
            let shared = joined(f, &pair)?;
            f.detach(&pair.iommu)?;
            f.detach(&pair.noiommu)?;
            answer(f.destroy(&pair.iommufd, shared))
        }),
        case("B-623", |f| {
            let pair = pair(f)?;
            let made = pair.page_table(f, pair.iommu_devid)?;
            Ok(Got::alike([&pair.noiommu, &pair.iommu].map(|device| f.attach(device, made).map(|_| 0u32))))
        }),
    ]
}

/// Another page table for a device that has one.
fn replacing<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-140", |f| {
            let pair = pair(f)?;
            let kept = f.attach(&pair.iommu, pair.ioas)?;
            let second = f.ioas(&pair.iommufd)?;
            f.attach(&pair.noiommu, second)?;
            let refused = f.attach(&pair.iommu, second);
            Ok(Got::from(refused).provided(Got::equal(kept, f.attach(&pair.iommu, pair.ioas)?)))
        }),
        case("B-616", |f| {
            let pair = pair(f)?;
            f.attach(&pair.iommu, pair.ioas)?;
            let made = pair.page_table(f, pair.noiommu_devid)?;
            answer(f.attach(&pair.iommu, made))
        }),
        case("B-622", |f| {
            let memory = Pages::new(PAGE)?;
            let pair = pair(f)?;
            f.map_at(&pair.iommufd, pair.ioas, memory.address(), P, P)?;
            let second = f.ioas(&pair.iommufd)?;
            f.attach(&pair.noiommu, second)?;
            let shared = f.attach(&pair.iommu, pair.ioas)?;
            let joined = f.attach(&pair.noiommu, pair.ioas)?;
            let query = f.get_pa(&pair.iommufd, pair.ioas, P, P).map_err(|error| error.errno());
            Ok(Got::equal((shared, Err(Errno::EOPNOTSUPP)), (joined, query)))
        }),
    ]
}

/// Which page table answers GET_PA: the one that was there first.
fn answering<S: Suite>() -> Vec<Case<S>> {
    vec![
        case("B-617", |f| {
            let memory = Pages::new(2 * PAGE)?;
            let pair = pair(f)?;
            two_tables(f, &pair, &memory)?;
            Ok(Got::alike([P, 2 * P].map(|iova| f.get_pa(&pair.iommufd, pair.ioas, iova, P).map(|_| 0u32))))
        }),
        case("B-618", |f| {
            let memory = Pages::new(2 * PAGE)?;
            let pair = pair(f)?;
            two_tables(f, &pair, &memory)?;
            f.detach(&pair.noiommu)?;
            answer(f.get_pa(&pair.iommufd, pair.ioas, P, P).map(|(address, _)| address))
        }),
        case("B-624", |f| {
            let memory = Pages::new(PAGE)?;
            let pair = pair(f)?;
            table_behind(f, &pair, &memory)?;
            answer(f.get_pa(&pair.iommufd, pair.ioas, P, P).map(|(address, _)| address))
        }),
        case("B-625", |f| {
            let memory = Pages::new(PAGE)?;
            let pair = pair(f)?;
            table_behind(f, &pair, &memory)?;
            f.detach(&pair.iommu)?;
            answer(f.get_pa(&pair.iommufd, pair.ioas, P, P).map(|_| 0u32))
        }),
    ]
}

/// Both devices, bound to one context with an IOAS.
struct Pair<S: Suite> {
    noiommu: S::File,
    noiommu_devid: u32,
    iommu: S::File,
    iommu_devid: u32,
    iommufd: S::File,
    ioas: u32,
}

impl<S: Suite> Pair<S> {
    /// Makes a page table of the IOAS.
    fn page_table(&self, f: &Fixture<S>, dev_id: u32) -> Way<u32> {
        let mut alloc = IommuHwptAlloc { dev_id, pt_id: self.ioas, ..IommuHwptAlloc::new() };
        f.call(&self.iommufd, &mut alloc)?;
        Ok(alloc.out_hwpt_id)
    }
}

fn pair<S: Suite>(f: &Fixture<S>) -> Way<Pair<S>> {
    let Bound { device: iommu, iommufd, devid: iommu_devid } = f.bound_at(f.iommu_address()?)?;
    let noiommu = f.open_at(f.noiommu_address()?)?;
    let noiommu_devid = f.bind(&noiommu, &iommufd)?;
    let ioas = f.ioas(&iommufd)?;
    Ok(Pair { noiommu, noiommu_devid, iommu, iommu_devid, iommufd, ioas })
}

/// The device without an IOMMU joins the page table of the other one; its id.
fn joined<S: Suite>(f: &Fixture<S>, pair: &Pair<S>) -> Way<u32> {
    let shared = f.attach(&pair.iommu, pair.ioas)?;
    f.attach(&pair.noiommu, shared)?;
    Ok(shared)
}

/// A page table of each, the one without an IOMMU first, and a page mapped before and after the second.
fn two_tables<S: Suite>(f: &Fixture<S>, pair: &Pair<S>, memory: &Pages) -> Way<()> {
    f.attach(&pair.noiommu, pair.ioas)?;
    f.map_at(&pair.iommufd, pair.ioas, memory.address(), P, P)?;
    f.attach(&pair.iommu, pair.ioas)?;
    f.map_at(&pair.iommufd, pair.ioas, memory.address() + P, P, 2 * P)?;
    Ok(())
}

/// A page table behind the IOMMU, then one without that is made by name, and a page.
fn table_behind<S: Suite>(f: &Fixture<S>, pair: &Pair<S>, memory: &Pages) -> Way<()> {
    f.attach(&pair.iommu, pair.ioas)?;
    pair.page_table(f, pair.noiommu_devid)?;
    f.map_at(&pair.iommufd, pair.ioas, memory.address(), P, P)?;
    Ok(())
}
