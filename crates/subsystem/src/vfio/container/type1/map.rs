//! `VFIO_IOMMU_MAP_DMA` and `VFIO_IOMMU_UNMAP_DMA`.

use uapi::Command as _;
use uapi::vfio::{
    VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_VADDR, VFIO_DMA_MAP_FLAG_WRITE, VFIO_DMA_UNMAP_FLAG_ALL,
    VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, VFIO_DMA_UNMAP_FLAG_VADDR, VfioBitmap, VfioIommuType1DmaMap,
    VfioIommuType1DmaUnmap,
};

use super::dirty::Bitmap;
use super::{Call, Mapped, PAGE, Space, Type1, enter, leave, no_memory, pages};
use crate::host::{Account, Host, Level, Memory, Mutex as _, PinError, Rights, Source};
use crate::mem::Entry;
use crate::rules::{Refusal, type1 as rules, vfio as vfio_rules};
use crate::vfio::args;

/// The size of the argument of UNMAP_DMA; a bitmap may follow.
const HEAD: usize = size_of::<VfioIommuType1DmaUnmap>();
const WITH_BITMAP: usize = HEAD + size_of::<VfioBitmap>();

impl<H: Host> Type1<H> {
    pub(super) fn map_dma(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let argument: VfioIommuType1DmaMap = args::take(call.ctx.memory, call.argument, rules::MAP_ARGSZ)?;
        let VfioIommuType1DmaMap { flags, vaddr, iova, size, .. } = argument;
        const ACCESS: u32 = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
        if flags & !(ACCESS | VFIO_DMA_MAP_FLAG_VADDR) != 0 {
            return Err(rules::MAP_FLAGS);
        }
        let rest = size.checked_sub(1).ok_or(rules::MAP_SIZE)?;
        let last = iova.checked_add(rest).ok_or(rules::MAP_WRAPS)?;
        vaddr.checked_add(rest).ok_or(rules::MAP_WRAPS)?;
        let new_address = flags & VFIO_DMA_MAP_FLAG_VADDR != 0;
        if new_address == (flags & ACCESS != 0) {
            return Err(rules::MAP_FLAGS);
        }
        self.space.with(|space| {
            if [size, iova, vaddr].iter().any(|value| !value.is_multiple_of(PAGE)) {
                return Err(rules::MAP_ALIGNMENT);
            }
            if new_address {
                return space.give_address(call, (iova, last), vaddr);
            }
            if space.mappings.overlaps(iova, last) {
                return Err(rules::MAP_OVERLAP);
            }
            if space.available == 0 {
                return Err(rules::MAP_LIMIT);
            }
            if space.usable_from(iova).is_none_or(|(first, end)| first != iova || end < last) {
                return Err(rules::MAP_RANGE);
            }
            let has = |flag| flags & flag != 0;
            let rights = Rights { read: has(VFIO_DMA_MAP_FLAG_READ), write: has(VFIO_DMA_MAP_FLAG_WRITE) };
            space.map(call, (iova, last), vaddr, rights)
        })
    }

    pub(super) fn unmap_dma(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let memory = call.ctx.memory;
        let mut argument: VfioIommuType1DmaUnmap = args::take(memory, call.argument, rules::UNMAP_ARGSZ)?;
        const BITMAP: u32 = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
        const OTHERS: u32 = VFIO_DMA_UNMAP_FLAG_ALL | VFIO_DMA_UNMAP_FLAG_VADDR;
        let flags = argument.flags;
        if flags & !(BITMAP | OTHERS) != 0 || flags & BITMAP != 0 && flags & OTHERS != 0 {
            return Err(rules::UNMAP_FLAGS);
        }
        let bitmap = match flags & BITMAP {
            0 => None,
            _ if argument.stated_size() < WITH_BITMAP => return Err(rules::UNMAP_ARGSZ),
            _ => Some(Bitmap::check(args::take_at(memory, call.argument, HEAD)?, argument.size)?),
        };
        argument.size = self.space.with(|space| {
            if flags & VFIO_DMA_UNMAP_FLAG_VADDR != 0 && space.emulated.has_groups() {
                return Err(rules::UNMAP_EMULATED);
            }
            let everything = flags & VFIO_DMA_UNMAP_FLAG_ALL != 0;
            let (first, last) = range(&argument, everything)?;
            if bitmap.as_ref().is_some_and(|bitmap| !space.tracks_dirty || !bitmap.is_by_page()) {
                return Err(rules::UNMAP_UNTRACKED);
            }
            if self.v2 && !everything && space.bisects(first, last) {
                return Err(rules::UNMAP_BISECTS);
            }
            // Version 1 unmaps from the start of a mapping on, and then all of it.
            let whole = |entry: &Entry<Mapped<H::Pin>>| {
                entry.first <= last && (self.v2 || everything || first <= entry.first)
            };
            match flags & VFIO_DMA_UNMAP_FLAG_VADDR {
                0 => space.unmap(call, first, whole, bitmap.as_ref()),
                _ => space.take_addresses(first, whole),
            }
        })?;
        args::reply(memory, call.argument, &argument, HEAD)
    }
}

/// First and last IOVA of what is to be unmapped.
fn range(argument: &VfioIommuType1DmaUnmap, everything: bool) -> Result<(u64, u64), Refusal> {
    let VfioIommuType1DmaUnmap { iova, size, .. } = *argument;
    if !iova.is_multiple_of(PAGE) {
        return Err(rules::UNMAP_ALIGNMENT);
    }
    if everything {
        return if iova == 0 && size == 0 { Ok((0, u64::MAX)) } else { Err(rules::UNMAP_SIZE) };
    }
    let rest = size.checked_sub(1).ok_or(rules::UNMAP_SIZE)?;
    if !size.is_multiple_of(PAGE) {
        return Err(rules::UNMAP_ALIGNMENT);
    }
    Ok((iova, iova.checked_add(rest).ok_or(rules::UNMAP_WRAPS)?))
}

impl<H: Host> Space<H> {
    /// Whether a mapping is partly in a range, at its start or its end.
    pub(super) fn bisects(&self, first: u64, last: u64) -> bool {
        let at = |iova| self.mappings.get(iova);
        at(first).is_some_and(|entry| entry.first != first)
            || at(last).is_some_and(|entry| entry.last != last)
    }

    /// Maps memory: pins it, and maps it in every domain, if there is one. A refusal changes nothing.
    fn map(
        &mut self,
        call: &Call<'_, H>,
        (first, last): (u64, u64),
        address: u64,
        rights: Rights,
    ) -> Result<(), Refusal> {
        let (host, task, capable) = (call.host, call.ctx.task, call.ctx.caps.ipc_lock);
        self.mappings.reserve(host).map_err(no_memory)?;
        let value = Mapped { pin: None, address, rights, task, capable, has_address: true, stale: 0 };
        let mut entry = Entry { first, last, value };
        if !self.domains.is_empty() {
            entry.value.pin = value.lock(host, pages(&entry), 0)?;
        }
        for (done, domain) in self.domains.iter().enumerate() {
            if !enter(host, domain.domain, &entry) {
                self.domains.iter().take(done).for_each(|domain| leave(host, domain.domain, &entry));
                entry.value.unlock(host, pages(&entry), 0);
                return Err(vfio_rules::NO_MEMORY);
            }
        }
        host.hold_task(task);
        let inserted = self.mappings.insert(first, last, entry.value);
        debug_assert!(inserted.is_ok(), "a mapping was placed on another one");
        self.available = self.available.saturating_sub(1);
        Ok(())
    }

    /// Takes a mapping away, of which no driver has pages any more.
    pub(super) fn remove(&mut self, host: &H, entry: &Entry<Mapped<H::Pin>>) {
        let mut mapped = entry.value;
        self.domains.iter().for_each(|domain| leave(host, domain.domain, entry));
        mapped.unlock(host, pages(entry), 0);
        host.put_task(mapped.task);
        self.mappings.remove(entry.first);
        self.forget_written(entry.first, entry.last);
        self.available = self.available.saturating_add(1);
        if !mapped.has_address {
            self.without_address = self.without_address.saturating_sub(1);
        }
    }

    /// Unmaps what `whole` says, ascending from the mapping at `first` on, and tells of its dirty pages; how many bytes that
    /// was. What was unmapped before a bitmap could not be written stays unmapped.
    fn unmap(
        &mut self,
        call: &Call<'_, H>,
        first: u64,
        whole: impl Fn(&Entry<Mapped<H::Pin>>) -> bool,
        bitmap: Option<&Bitmap>,
    ) -> Result<u64, Refusal> {
        let mut bytes = 0_u64;
        while let Some(entry) = self.mappings.at_or_after(first).filter(&whole) {
            self.take_back(call.host, &entry);
            if let Some(bitmap) = bitmap {
                bitmap.mark(call.ctx.memory, first, &entry, &self.dirty(first, &entry))?;
            }
            self.remove(call.host, &entry);
            bytes = bytes.saturating_add(pages(&entry).saturating_mul(PAGE));
        }
        Ok(bytes)
    }

    /// Takes from mappings their address in the process; how many bytes they have. If one of them has none, nothing changes.
    fn take_addresses(
        &mut self,
        first: u64,
        whole: impl Fn(&Entry<Mapped<H::Pin>>) -> bool,
    ) -> Result<u64, Refusal> {
        if self.mappings.iter_from(first).take_while(&whole).any(|entry| !entry.value.has_address) {
            return Err(rules::UNMAP_VADDR);
        }
        let (mut bytes, mut at) = (0_u64, Some(first));
        while let Some(entry) = at.and_then(|at| self.mappings.at_or_after(at)).filter(&whole) {
            if let Some(mapped) = self.mappings.get_mut(entry.first) {
                mapped.has_address = false;
            }
            self.without_address = self.without_address.saturating_add(1);
            bytes = bytes.saturating_add(pages(&entry).saturating_mul(PAGE));
            at = entry.last.checked_add(1);
        }
        Ok(bytes)
    }

    /// Gives a mapping that has lost its address a new one, in the caller's process, which is charged for it from now on.
    fn give_address(
        &mut self,
        call: &Call<'_, H>,
        (first, last): (u64, u64),
        address: u64,
    ) -> Result<(), Refusal> {
        if !self.mappings.overlaps(first, last) {
            return Err(rules::VADDR_NONE);
        }
        let entry = self.mappings.get(first).filter(|entry| (entry.first, entry.last) == (first, last));
        let entry = entry.filter(|entry| !entry.value.has_address).ok_or(rules::VADDR_MISMATCH)?;
        let (host, task) = (call.host, call.ctx.task);
        let Mapped { task: before, capable, .. } = entry.value;
        let Some(mapped) = self.mappings.get_mut(first) else { return Err(rules::VADDR_NONE) };
        if before != task {
            let account = Account::Locked { capable: call.ctx.caps.ipc_lock };
            if entry.value.pin.is_some() {
                if !host.charge(task, account, pages(&entry)) {
                    return Err(rules::MAP_LOCKED);
                }
                host.uncharge(before, Account::Locked { capable }, pages(&entry));
            }
            host.hold_task(task);
            host.put_task(before);
            mapped.task = task;
            mapped.capable = call.ctx.caps.ipc_lock;
        }
        (mapped.has_address, mapped.address) = (true, address);
        self.without_address = self.without_address.saturating_sub(1);
        Ok(())
    }
}

impl<P: Copy> Mapped<P> {
    /// Pins the memory of a mapping, and counts it as locked, but for pages that are `counted` already. `None`: it is that of
    /// a BAR.
    pub(super) fn lock<H>(&self, host: &H, count: u64, counted: u64) -> Result<Option<P>, Refusal>
    where
        H: Host + Memory<Pin = P>,
    {
        let Mapped { address, rights, task, capable, .. } = *self;
        if host.is_region(task, address, count, rights.write) {
            return Ok(None);
        }
        let pin = |count| {
            host.pin(Source::User { task, address }, 0, count, rights.write).map_err(|error| match error {
                PinError::Fault | PinError::Unsuitable => rules::MAP_FAULT,
                PinError::NoMemory => vfio_rules::NO_MEMORY,
            })
        };
        let fresh = count.saturating_sub(counted);
        let (room, limit) = host.lockable(task);
        if !capable && room < fresh {
            // Linux pins and counts page by page: a page that cannot be pinned is found only before the limit.
            host.unpin(pin(room.saturating_add(1))?, 0, room.saturating_add(1));
            let bytes = limit.saturating_mul(PAGE);
            let line = format_args!("vfio_pin_pages_remote: RLIMIT_MEMLOCK ({bytes}) exceeded");
            host.log(Level::Warn, None, line);
            return Err(rules::MAP_LOCKED);
        }
        let pin = pin(count)?;
        if fresh > 0 && !host.charge(task, Account::Locked { capable }, fresh) {
            host.unpin(pin, 0, count);
            return Err(rules::MAP_LOCKED);
        }
        Ok(Some(pin))
    }

    /// Gives back what [`Mapped::lock`] took, if anything; pages that are to stay `counted` do.
    pub(super) fn unlock<H>(&mut self, host: &H, count: u64, counted: u64)
    where
        H: Host + Memory<Pin = P>,
    {
        let Some(pin) = self.pin.take() else { return };
        host.unpin(pin, 0, count);
        let fresh = count.saturating_sub(counted);
        if fresh > 0 {
            host.uncharge(self.task, Account::Locked { capable: self.capable }, fresh);
        }
    }
}
