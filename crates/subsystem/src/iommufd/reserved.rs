//! IOVAs that nothing may be mapped at: the windows of devices, and what is beyond the aperture of a page table.

use crate::Host;
use crate::Refusal;
use crate::mem::List;
use crate::rules::iommufd as rule;

/// Who keeps IOVAs free for good: no object has this id.
pub(super) const NOBODY: u32 = 0;

/// IOVAs that an object of the context keeps free.
struct Window {
    first: u64,
    last: u64,
    owner: u32,
}

/// What is kept free in an IOAS. Windows overlap as they like; there are a few of each device and page table.
pub(super) struct Reserved {
    windows: List<Window>,
}

impl Reserved {
    pub(super) const fn new() -> Self {
        Self { windows: List::new() }
    }

    /// Keeps the IOVAs from `first` to `last` free, for the object of this id.
    pub(super) fn add<H: Host>(
        &mut self,
        host: &H,
        (first, last): (u64, u64),
        owner: u32,
    ) -> Result<(), Refusal> {
        self.windows.push(host, Window { first, last, owner }).map_err(|_| rule::NO_MEMORY)
    }

    /// Gives up everything that an object keeps free.
    pub(super) fn remove(&mut self, owner: u32) {
        while let Some(at) = self.windows.iter().position(|window| window.owner == owner) {
            self.windows.remove(at);
        }
    }

    pub(super) fn overlaps(&self, first: u64, last: u64) -> bool {
        self.windows.iter().any(|window| window.first <= last && first <= window.last)
    }

    /// The first range from `from` to `last` that is not kept free, as large as it is.
    pub(super) fn open_from(&self, from: u64, last: u64) -> Option<(u64, u64)> {
        let mut first = from;
        while let Some(window) = self.windows.iter().find(|it| (it.first..=it.last).contains(&first)) {
            first = window.last.checked_add(1)?;
        }
        let next = self.windows.iter().map(|window| window.first).filter(|next| *next > first).min();
        let end = next.map_or(last, |next| next.saturating_sub(1).min(last));
        (first <= end).then_some((first, end))
    }
}
