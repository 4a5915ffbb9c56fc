//! Where programs have mapped BARs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use subsystem::Task;

use crate::bus::PciFunction;
use crate::lock::lock;

/// The BARs that are mapped, by process (`None`: this one) and first address.
#[derive(Default)]
pub(crate) struct MappedRegions(Mutex<BTreeMap<(Option<Task>, u64), MappedRegion>>);

#[derive(Clone)]
pub(crate) struct MappedRegion {
    pub(crate) end: u64,
    pub(crate) function: Arc<PciFunction>,
    pub(crate) writable: bool,
}

impl MappedRegions {
    /// This process has mapped a BAR.
    pub(crate) fn add(&self, addresses: Range<u64>, function: &Arc<PciFunction>, writable: bool) {
        let region = MappedRegion { end: addresses.end, function: Arc::clone(function), writable };
        lock(&self.0).insert((None, addresses.start), region);
    }

    /// It is unmapped.
    pub(crate) fn remove(&self, start: u64) {
        lock(&self.0).remove(&(None, start));
    }

    /// All that a process has mapped, by first address.
    pub(crate) fn set(&self, task: Option<Task>, mapped: Vec<(u64, MappedRegion)>) {
        let mut regions = lock(&self.0);
        regions.retain(|(of, _), _| *of != task);
        regions.extend(mapped.into_iter().map(|(start, region)| ((task, start), region)));
    }

    /// Whether all of these addresses are those of BARs that answer, and can be written if `write`.
    pub(super) fn cover(&self, task: Option<Task>, addresses: Range<u64>, write: bool) -> bool {
        let regions = lock(&self.0);
        let mut at = addresses.start;
        while at < addresses.end {
            let region = regions.range((task, 0)..=(task, at)).next_back().map(|(_, region)| region);
            let answers =
                |it: &&MappedRegion| at < it.end && it.writable >= write && it.function.mappings_enabled();
            let Some(region) = region.filter(answers) else { return false };
            at = region.end;
        }
        true
    }
}
