//! Mapping memory and taking it back: MAP, MAP_FILE, COPY and UNMAP.

use uapi::iommufd::{
    IOMMU_IOAS_MAP_FIXED_IOVA, IOMMU_IOAS_MAP_READABLE, IOMMU_IOAS_MAP_WRITEABLE, IommuIoasCopy,
    IommuIoasMap, IommuIoasMapFile, IommuIoasUnmap,
};

use super::PAGE;
use super::areas::Slice;
use super::call::{Call, DmaBuf};
use super::context::Context;
use super::ioas::Ioas;
use super::objects::Objects;
use super::placement::Placement;
use super::records::{Named, Origin};
use super::span::Span;
use crate::mem::List;
use crate::rules::iommufd as rule;
use crate::{Account, Host, Mutex, Refusal, Rights, RwLock, Source};

/// A mapping of a dma-buf has fewer pages than this.
const MOST_PAGES: u64 = 1 << 32;

/// How a mapping is to be made: what MAP, MAP_FILE and COPY have in common.
#[derive(Clone, Copy)]
pub(super) struct How {
    pub(super) rights: Rights,
    pub(super) placement: Placement,
}

impl How {
    fn new(flags: u32, iova: u64) -> Self {
        let has = |flag| flags & flag != 0;
        Self {
            rights: Rights { read: has(IOMMU_IOAS_MAP_READABLE), write: has(IOMMU_IOAS_MAP_WRITEABLE) },
            placement: if has(IOMMU_IOAS_MAP_FIXED_IOVA) {
                Placement::Fixed(iova)
            } else {
                Placement::Lowest
            },
        }
    }
}

/// Memory to be mapped: `length` bytes from byte `offset` of the first page of `source` on.
struct Bytes {
    source: Origin,
    offset: u64,
    length: u64,
}

/// Checks what can be checked without knowing the IOAS. IOVAs are looked at even where they are to be chosen.
fn check_flags(flags: u32, reserved: u32, limited: &[u64]) -> Result<(), Refusal> {
    const RIGHTS: u32 = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;
    if flags & !(RIGHTS | IOMMU_IOAS_MAP_FIXED_IOVA) != 0 || reserved != 0 {
        return Err(rule::MAP_FLAGS);
    }
    if limited.contains(&u64::MAX) {
        return Err(rule::MAP_LIMIT);
    }
    if flags & RIGHTS == 0 { Err(rule::MAP_ACCESS) } else { Ok(()) }
}

/// A length with the rest of a page before it must stay in 64 bits.
fn check_length(length: u64) -> Result<(), Refusal> {
    if (1..=u64::MAX - PAGE).contains(&length) { Ok(()) } else { Err(rule::MAP_LENGTH) }
}

impl<H: Host> Context<H> {
    /// `IOMMU_IOAS_MAP`
    pub(super) fn ioas_map(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuIoasMap>()?;
        let command = &mut argument.value;
        check_flags(command.flags, command.reserved, &[command.iova, command.length])?;
        let how = How::new(command.flags, command.iova);
        command.iova = self.objects.read(|objects| {
            let ioas = objects.ioas(command.ioas_id)?;
            self.map_user(call, objects, ioas, how, (command.user_va, command.length))
        })?;
        call.reply(&argument)
    }

    /// Maps memory of the caller: an address and a length.
    pub(super) fn map_user(
        &self,
        call: &Call<'_, H>,
        objects: &Objects<H>,
        ioas: &Ioas<H>,
        how: How,
        (address, length): (u64, u64),
    ) -> Result<u64, Refusal> {
        address.checked_add(length).ok_or(rule::MAP_SOURCE_WRAPS)?;
        check_length(length)?;
        let offset = address % PAGE;
        let address = address.saturating_sub(offset);
        let source = Origin::Memory(Source::User { task: call.caller.task, address });
        self.map_new(call, objects, ioas, how, Bytes { source, offset, length })
    }

    /// `IOMMU_IOAS_MAP_FILE`
    pub(super) fn ioas_map_file(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuIoasMapFile>()?;
        let command = &mut argument.value;
        check_flags(command.flags, 0, &[command.iova, command.length])?;
        let how = How::new(command.flags, command.iova);
        command.iova = self.objects.read(|objects| {
            let ioas = objects.ioas(command.ioas_id)?;
            if command.length == 0 {
                return Err(rule::MAP_LENGTH);
            }
            command.start.checked_add(command.length).ok_or(rule::MAP_SOURCE_WRAPS)?;
            let offset = command.start % PAGE;
            if let Some(buffer) = dma_buf(call, command.fd) {
                let end = command.start.saturating_add(command.length);
                if end > buffer.length || command.length / PAGE >= MOST_PAGES {
                    return Err(rule::MAP_FILE_BOUNDS);
                }
                if !buffer.answers {
                    return Err(rule::MAP_FILE_REVOKED);
                }
                if !buffer.single {
                    return Err(rule::MAP_FILE_RANGES);
                }
                let source = Origin::Device {
                    exporter: buffer.exporter,
                    address: buffer.address.saturating_add(command.start.saturating_sub(offset)),
                };
                return self.map_new(
                    call,
                    objects,
                    ioas,
                    how,
                    Bytes { source, offset, length: command.length },
                );
            }
            let backing = call.caller.files.backing(command.fd).map_err(|_| rule::MAP_FILE_DESCRIPTOR)?;
            if let Err(refusal) = check_length(command.length) {
                call.host.put_backing(backing);
                return Err(refusal);
            }
            let source =
                Origin::Memory(Source::File { backing, offset: command.start.saturating_sub(offset) });
            self.map_new(call, objects, ioas, how, Bytes { source, offset, length: command.length })
        })?;
        call.reply(&argument)
    }

    /// Maps memory that is not mapped yet.
    fn map_new(
        &self,
        call: &Call<'_, H>,
        objects: &Objects<H>,
        ioas: &Ioas<H>,
        how: How,
        bytes: Bytes,
    ) -> Result<u64, Refusal> {
        let Bytes { source, offset, length } = bytes;
        let named = Named {
            source,
            pages: Span::of_bytes(offset, length).last.saturating_add(1),
            writable: how.rights.write,
            task: call.caller.task,
            account: if call.caller.caps.ipc_lock { Account::None } else { objects.account },
        };
        self.with_areas(call.host, ioas, |areas, linker| {
            let record = linker.records.create(call.host, named)?;
            let slice = Slice { record, offset, length };
            let mapped = areas.map(linker, how.placement, how.rights, &[slice]);
            if mapped.is_err() {
                linker.records.put(call.host, record);
            }
            mapped
        })
    }

    /// `IOMMU_IOAS_COPY`
    pub(super) fn ioas_copy(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuIoasCopy>()?;
        let command = &mut argument.value;
        check_flags(command.flags, 0, &[command.length, command.src_iova, command.dst_iova])?;
        let how = How::new(command.flags, command.dst_iova);
        let mut slices = List::new();
        let copied = self.objects.read(|objects| {
            let source = objects.ioas(command.src_ioas_id)?;
            self.collect(call, source, command.src_iova, command.length, &mut slices)?;
            let target = objects.ioas(command.dst_ioas_id)?;
            self.with_areas(call.host, target, |areas, linker| {
                areas.map(linker, how.placement, how.rights, slices.iter().as_slice())
            })
        });
        match copied {
            Ok(iova) => {
                command.dst_iova = iova;
                call.reply(&argument)
            }
            Err(refusal) => {
                self.records.with(|records| {
                    slices.iter().for_each(|slice| records.put(call.host, slice.record));
                });
                Err(refusal)
            }
        }
    }

    /// Collects what is mapped in a range, with references, so that it stays when the source's lock is given up.
    fn collect(
        &self,
        call: &Call<'_, H>,
        source: &Ioas<H>,
        iova: u64,
        length: u64,
        slices: &mut List<Slice>,
    ) -> Result<(), Refusal> {
        let last = length.checked_sub(1).ok_or(rule::MAP_LENGTH)?;
        iova.checked_add(last).ok_or(rule::MAP_SOURCE_WRAPS)?;
        self.with_areas(call.host, source, |areas, linker| {
            areas.slices(call.host, linker.records, iova, length, slices)
        })
    }

    /// `IOMMU_IOAS_UNMAP`
    pub(super) fn ioas_unmap(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuIoasUnmap>()?;
        let command = &mut argument.value;
        command.length = self.objects.read(|objects| {
            let ioas = objects.ioas(command.ioas_id)?;
            self.with_areas(call.host, ioas, |areas, linker| {
                let mut bytes = 0;
                if command.iova == 0 && command.length == u64::MAX {
                    return areas.unmap_all(linker, &mut bytes).map(|()| bytes);
                }
                if command.iova == u64::MAX || command.length == u64::MAX {
                    return Err(rule::UNMAP_LIMIT);
                }
                let last = unmap_last(command.iova, command.length)?;
                areas.unmap(linker, command.iova, last, &mut bytes)?;
                if bytes == 0 { Err(rule::UNMAP_NOTHING) } else { Ok(bytes) }
            })
        })?;
        call.reply(&argument)
    }
}

/// The dma-buf behind a descriptor of the caller.
fn dma_buf<H: Host>(call: &Call<'_, H>, fd: i32) -> Option<DmaBuf> {
    call.caller.files.ours(fd).ok().flatten().and_then(call.exports)
}

/// The last IOVA of a range to be unmapped.
pub(super) fn unmap_last(iova: u64, length: u64) -> Result<u64, Refusal> {
    let rest = length.checked_sub(1).ok_or(rule::UNMAP_LENGTH)?;
    iova.checked_add(rest).ok_or(rule::UNMAP_WRAPS)
}
