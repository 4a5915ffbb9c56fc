//! Where the program has mapped BARs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::lock;
use crate::bus::PciFunction;

/// The BARs that are mapped, by the first address.
#[derive(Default)]
pub(crate) struct MappedRegions(Mutex<BTreeMap<u64, MappedRegion>>);

struct MappedRegion {
    end: u64,
    function: Arc<PciFunction>,
    writable: bool,
}

impl MappedRegions {
    /// The program has mapped a BAR.
    pub(crate) fn add(&self, addresses: Range<u64>, function: &Arc<PciFunction>, writable: bool) {
        let region = MappedRegion { end: addresses.end, function: Arc::clone(function), writable };
        lock(&self.0).insert(addresses.start, region);
    }

    /// It is unmapped.
    pub(crate) fn remove(&self, start: u64) {
        lock(&self.0).remove(&start);
    }

    /// Whether all of these addresses are those of BARs that answer, and can be written if `write`.
    pub(super) fn cover(&self, addresses: Range<u64>, write: bool) -> bool {
        let regions = lock(&self.0);
        let mut at = addresses.start;
        while at < addresses.end {
            let region = regions.range(..=at).next_back().map(|(_, region)| region);
            let answers =
                |it: &&MappedRegion| at < it.end && it.writable >= write && it.function.mappings_enabled();
            let Some(region) = region.filter(answers) else { return false };
            at = region.end;
        }
        true
    }
}
