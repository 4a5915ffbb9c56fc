//! The IOAS: an address space, with the commands on it as a whole.

use uapi::iommufd::{IommuIoasAlloc, IommuIoasAllowIovas, IommuIoasIovaRanges, IommuIovaRange};

use super::areas::Areas;
use super::call::Call;
use super::context::Context;
use super::link::Linker;
use super::objects::Object;
use crate::mem::{IntervalMap, List, OutOfMemory};
use crate::rules::iommufd as rule;
use crate::{Host, Mutex, Refusal, RwLock, UserMemoryExt};

/// An address space. It is in use while it has page tables, or accesses are attached to it.
pub(super) struct Ioas<H: Host> {
    pub(super) areas: H::Mutex<Areas<H>>,
    /// The ids of its page tables, in the order in which they were made.
    pub(super) hwpts: List<u32>,
}

impl<H: Host> Ioas<H> {
    pub(super) fn new() -> Self {
        Self { areas: H::Mutex::new(Areas::new()), hwpts: List::new() }
    }

    pub(super) fn is_in_use(&self) -> bool {
        !self.hwpts.is_empty() || self.areas.with(|areas| !areas.accesses.is_empty())
    }
}

impl<H: Host> Context<H> {
    /// Runs `f` with the areas of an IOAS and the records of the context locked, in this order.
    pub(super) fn with_areas<R>(
        &self,
        host: &H,
        ioas: &Ioas<H>,
        f: impl FnOnce(&mut Areas<H>, &mut Linker<'_, H>) -> R,
    ) -> R {
        ioas.areas.with(|areas| {
            self.records.with(|records| f(areas, &mut Linker { host, records, mock: &self.mock }))
        })
    }

    /// `IOMMU_IOAS_ALLOC`
    pub(super) fn ioas_alloc(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuIoasAlloc>()?;
        if argument.value.flags != 0 {
            return Err(rule::IOAS_ALLOC_FLAGS);
        }
        self.objects.write(|objects| {
            let id = objects.insert(call.host, Object::Ioas(Ioas::new()))?;
            argument.value.out_ioas_id = id;
            let replied = call.reply(&argument);
            if replied.is_err() {
                objects.remove(id);
            }
            replied
        })
    }

    /// `IOMMU_IOAS_IOVA_RANGES`: as many ranges as there is room for, and how many there are.
    pub(super) fn ioas_iova_ranges(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuIoasIovaRanges>()?;
        let command = &mut argument.value;
        if command.reserved != 0 {
            return Err(rule::IOVA_RANGES_RESERVED);
        }
        let (room, array) = (command.num_iovas, command.allowed_iovas);
        command.num_iovas = 0;
        self.objects.read(|objects| {
            objects.ioas(command.ioas_id)?.areas.with(|areas| {
                command.out_iova_alignment = areas.alignment();
                for (start, last) in areas.open_ranges() {
                    if command.num_iovas < room {
                        write_range(call, array, command.num_iovas, IommuIovaRange { start, last })?;
                    }
                    command.num_iovas = command.num_iovas.saturating_add(1);
                }
                Ok(())
            })
        })?;
        let all = command.num_iovas <= room;
        call.reply(&argument)?;
        if all { Ok(()) } else { Err(rule::IOVA_RANGES_ROOM) }
    }

    /// `IOMMU_IOAS_ALLOW_IOVAS`
    pub(super) fn ioas_allow_iovas(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let command = call.take::<IommuIoasAllowIovas>()?.value;
        if command.reserved != 0 {
            return Err(rule::ALLOW_IOVAS_RESERVED);
        }
        self.objects.read(|objects| {
            let ioas = objects.ioas(command.ioas_id)?;
            let allowed = read_ranges(call, command.allowed_iovas, command.num_iovas)?;
            ioas.areas.with(|areas| areas.set_allowed(allowed))
        })
    }
}

/// Where an entry of an array of ranges is.
fn range_at(array: u64, index: u32) -> Option<u64> {
    u64::from(index).saturating_mul(size_of::<IommuIovaRange>() as u64).checked_add(array)
}

fn write_range<H: Host>(
    call: &Call<'_, H>,
    array: u64,
    index: u32,
    range: IommuIovaRange,
) -> Result<(), Refusal> {
    let at = range_at(array, index).ok_or(rule::IOVA_RANGES_ARRAY)?;
    call.caller.memory.put(at, &range).map_err(|_| rule::IOVA_RANGES_ARRAY)
}

/// Reads disjoint ranges from the caller's array.
fn read_ranges<H: Host>(call: &Call<'_, H>, array: u64, count: u32) -> Result<IntervalMap<()>, Refusal> {
    let mut ranges = IntervalMap::new();
    for index in 0..count {
        let range: IommuIovaRange = range_at(array, index)
            .ok_or(rule::ALLOW_IOVAS_ARRAY)
            .and_then(|at| call.caller.memory.get(at).map_err(|_| rule::ALLOW_IOVAS_ARRAY))?;
        if range.start >= range.last {
            return Err(rule::ALLOW_IOVAS_RANGE);
        }
        ranges.reserve(call.host).map_err(|OutOfMemory| rule::NO_MEMORY)?;
        ranges.insert(range.start, range.last, ()).map_err(|_| rule::ALLOW_IOVAS_OVERLAP)?;
    }
    Ok(ranges)
}
