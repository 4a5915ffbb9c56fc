//! Which pages devices have written. No device of the unit writes to memory; tests say what it would have written.

use uapi::iommufd_test::{IommuTestCmd, IommuTestDirty};

use super::Mock;
use super::domain::{MockDomain, Place};
use crate::iommufd::PAGE;
use crate::iommufd::call::{Argument, Call};
use crate::iommufd::context::Context;
use crate::iommufd::domain::Domain;
use crate::mem::{Entry, IntervalMap, OutOfMemory};
use crate::rules::{iommufd as rule, selftest as test_rule};
use crate::{Host, Mutex, Refusal, RwLock};

/// Most pages that a test has written at a time.
const MOST: u64 = 8 * (16 << 20);

impl<H: Host> Context<H> {
    /// `DIRTY`: has a device write to the pages whose bits are set in a bitmap of the caller.
    pub(super) fn set_dirty(
        &self,
        call: &Call<'_, H>,
        argument: &mut Argument<IommuTestCmd>,
    ) -> Result<(), Refusal> {
        let mut operand: IommuTestDirty = argument.value.get();
        let IommuTestDirty { iova, length, page_size, uptr, .. } = operand;
        let pages = |bytes: u64| bytes.checked_div(page_size).filter(|_| bytes.is_multiple_of(page_size));
        let count = pages(length).filter(|count| *count > 0 && uptr != 0 && pages(iova).is_some());
        let count = count.ok_or(test_rule::DIRTY_RANGE)?;
        if count > MOST {
            return Err(test_rule::DIRTY_MANY);
        }
        self.objects.read(|objects| {
            let hwpt = objects.hwpt(argument.value.id).ok_or(rule::HWPT_UNKNOWN)?;
            let Domain::Mock(domain) = hwpt.domain else { return Err(test_rule::UNIT) };
            objects.ioas(hwpt.ioas)?.areas.with(|areas| {
                self.mock.with(|mock| {
                    let domain = mock.domains.get_mut(domain).filter(|domain| domain.tracking);
                    let domain = domain.ok_or(test_rule::DIRTY_UNTRACKED)?;
                    operand.out_nr_dirty = 0;
                    each_bit(call, uptr, count, |bit| {
                        let iova = iova.wrapping_add(bit.wrapping_mul(page_size));
                        operand.out_nr_dirty = operand.out_nr_dirty.saturating_add(1);
                        domain.set_dirty(call.host, iova, areas.huge_pages())
                    })
                })
            })
        })?;
        argument.value.put(&operand);
        call.reply(argument)
    }
}

/// Calls `f` for each bit that is set among the first `count` at an address.
fn each_bit<H: Host>(
    call: &Call<'_, H>,
    address: u64,
    count: u64,
    mut f: impl FnMut(u64) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut block = [0_u8; 256];
    let mut done = 0_u64;
    while done < count {
        let bits = count.saturating_sub(done).min(8 * 256);
        let bytes = block.get_mut(..bits.div_ceil(8) as usize).unwrap_or_default();
        let at = address.checked_add(done / 8).ok_or(test_rule::DIRTY_BITMAP)?;
        call.caller.memory.read(at, bytes).map_err(|_| test_rule::DIRTY_BITMAP)?;
        for bit in 0..bits {
            if bytes.get((bit / 8) as usize).is_some_and(|byte| byte & (1 << (bit % 8)) != 0) {
                f(done.saturating_add(bit))?;
            }
        }
        done = done.saturating_add(bits);
    }
    Ok(())
}

impl<P: Copy> MockDomain<P> {
    /// Notes the page of an IOVA as written, if there is one.
    fn set_dirty<H: Host<Pin = P>>(&mut self, host: &H, iova: u64, huge: bool) -> Result<(), Refusal> {
        let Some(entry) = self.mapped.get(iova) else { return Ok(()) };
        let sizes = if huge { self.geometry.page_sizes } else { self.geometry.page_sizes & below(PAGE) };
        let (first, last) = page_of(host, &entry, iova, sizes);
        self.dirty.reserve(host).map_err(|OutOfMemory| rule::NO_MEMORY)?;
        // It may be noted already.
        let _noted = self.dirty.insert(first, last, ());
        Ok(())
    }
}

/// All sizes up to this one.
fn below(size: u64) -> u64 {
    size | size.saturating_sub(1)
}

/// The page of an IOVA: Linux maps each piece of memory that is contiguous with the largest pages that fit, one by one.
fn page_of<H: Host>(host: &H, entry: &Entry<Place<H::Pin>>, iova: u64, sizes: u64) -> (u64, u64) {
    let smallest = sizes & sizes.wrapping_neg();
    // Pages of a page of the CPU at most lie where they are aligned.
    let mut first =
        if sizes > below(PAGE) { entry.first } else { entry.first.max(iova & PAGE.wrapping_neg()) };
    loop {
        let at = entry.value.at.saturating_add(first.saturating_sub(entry.first));
        let left = entry.last.saturating_sub(first).saturating_add(1);
        let run = host.run(entry.value.pin, at / PAGE, left.div_ceil(PAGE));
        let (physical, within) = (run.address.saturating_add(at % PAGE), at % PAGE);
        let most = left.min(run.pages.saturating_mul(PAGE).saturating_sub(within));
        let aligned = (first | physical) & (first | physical).wrapping_neg();
        let fits = sizes & below(aligned) & below(most.checked_ilog2().map_or(0, |log| 1 << log));
        let size = fits.checked_ilog2().map_or(smallest, |log| 1 << log);
        let last = first.saturating_add(size.saturating_sub(1)).min(entry.last);
        if iova <= last || last == entry.last {
            return (first, last);
        }
        first = last.saturating_add(1);
    }
}

/// Tells the noted pages from `first` to `last`, cut to that, and forgets them if `clear`.
pub(super) fn take_dirty(
    dirty: &mut IntervalMap<()>,
    (first, last): (u64, u64),
    clear: bool,
    each: &mut dyn FnMut(u64, u64),
) {
    let mut at = Some(first);
    while let Some(page) = at.and_then(|at| dirty.at_or_after(at)).filter(|page| page.first <= last) {
        each(page.first.max(first), page.last.min(last));
        if clear {
            dirty.remove(page.first);
        }
        at = page.last.checked_add(1);
    }
}

impl<H: Host> Mock<H> {
    /// Whether a page table notes which pages are written from now on; on, it begins with no page written.
    pub(in crate::iommufd) fn track_dirty(&mut self, number: u32, on: bool) {
        if let Some(domain) = self.domains.get_mut(number) {
            domain.tracking = on;
            if on {
                domain.dirty = IntervalMap::new();
            }
        }
    }

    /// Tells the pages from `first` to `last` that were noted as written, and forgets them if `clear`.
    pub(in crate::iommufd) fn read_dirty(
        &mut self,
        number: u32,
        range: (u64, u64),
        clear: bool,
        each: &mut dyn FnMut(u64, u64),
    ) {
        if let Some(domain) = self.domains.get_mut(number) {
            take_dirty(&mut domain.dirty, range, clear, each);
        }
    }
}
