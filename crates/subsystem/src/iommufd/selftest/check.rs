//! What tests check of memory.

use uapi::iommufd_test::{IommuTestCheckMap, IommuTestCheckRefs, IommuTestCmd};

use crate::iommufd::PAGE;
use crate::iommufd::call::Call;
use crate::iommufd::context::Context;
use crate::iommufd::domain::Domain;
use crate::iommufd::placement::is_aligned;
use crate::rules::{iommufd as rule, selftest as test_rule};
use crate::{Host, Mutex, Refusal, RwLock, Source};

impl<H: Host> Context<H> {
    /// `MD_CHECK_MAP`: a page table translates IOVAs to the memory that the caller has at an address.
    pub(super) fn check_map(&self, call: &Call<'_, H>, command: &IommuTestCmd) -> Result<(), Refusal> {
        let IommuTestCheckMap { iova, length, uptr } = command.get();
        self.objects.read(|objects| {
            let hwpt = objects.hwpt(command.id).ok_or(rule::HWPT_UNKNOWN)?;
            let Domain::Mock(domain) = hwpt.domain else { return Err(test_rule::UNIT) };
            let unit = hwpt.geometry.granule();
            if ![iova, length, uptr].into_iter().all(|value| is_aligned(value, unit)) {
                return Err(test_rule::ALIGNMENT);
            }
            // Nothing is unmapped meanwhile.
            objects.ioas(hwpt.ioas)?.areas.with(|_| {
                with_memory(call, uptr, length, |pin, offset| {
                    let mut done = 0_u64;
                    while done < length {
                        let at = offset.saturating_add(done);
                        let physical = call.host.run(pin, at / PAGE, 1).address.saturating_add(at % PAGE);
                        let iova = iova.saturating_add(done);
                        let found = self.mock.with(|mock| mock.translate(call.host, domain, iova));
                        if found != Some(physical) {
                            return Err(test_rule::MAP);
                        }
                        done = done.saturating_add(unit);
                    }
                    Ok(())
                })
            })
        })
    }

    /// `MD_CHECK_REFS`: memory of the caller is pinned so often. Linux leaves out huge pages, of which it knows no such number.
    pub(super) fn check_refs(&self, call: &Call<'_, H>, command: &IommuTestCmd) -> Result<(), Refusal> {
        let IommuTestCheckRefs { length, uptr, refs, .. } = command.get();
        if !is_aligned(length, PAGE) || !is_aligned(uptr, PAGE) {
            return Err(test_rule::ALIGNMENT);
        }
        with_memory(call, uptr, length, |pin, _| {
            // One pin is that of the check itself.
            let expected = u64::from(refs).saturating_add(1);
            let all = (0..length / PAGE).all(|page| call.host.pins(pin, page) == expected);
            if all { Ok(()) } else { Err(test_rule::REFS) }
        })
    }
}

/// Runs `f` with memory of the caller pinned, and the offset of its first byte in the pin.
pub(super) fn with_memory<H: Host>(
    call: &Call<'_, H>,
    address: u64,
    length: u64,
    f: impl FnOnce(H::Pin, u64) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let end = address.checked_add(length).ok_or(test_rule::ALIGNMENT)?;
    if length == 0 {
        return Ok(());
    }
    let offset = address % PAGE;
    let first = address.saturating_sub(offset);
    let pages = end.saturating_sub(first).div_ceil(PAGE);
    let source = Source::User { task: call.caller.task, address: first };
    let pin = call.host.pin(source, 0, pages, false).map_err(|_| test_rule::MEMORY)?;
    let result = f(pin, offset);
    call.host.unpin(pin, 0, pages);
    result
}
