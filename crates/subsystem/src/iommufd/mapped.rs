//! Memory of the kernel's own that a program maps from the file of its context: what an IOMMU has for a guest to read and write.
//!
//! It belongs to a vIOMMU, which stays as long as the memory is mapped.

use super::PAGE;
use super::context::Context;
use super::objects::{Object, Objects};
use crate::mem::{List, OutOfMemory};
use crate::rules::{iommufd as rule, vfio::IOMMUFD_MAP};
use crate::{Host, Refusal, RwLock};

/// Memory that can be mapped.
pub(super) struct Mappable {
    /// Where it is in the file.
    offset: u64,
    bytes: List<u8>,
}

impl Mappable {
    /// Memory of so many bytes, all zero, at an offset that is free.
    pub(super) fn new<H: Host>(host: &H, objects: &Objects<H>, length: usize) -> Result<Self, Refusal> {
        let mut bytes = List::new();
        bytes.reserve_many(host, length).map_err(|OutOfMemory| rule::NO_MEMORY)?;
        (0..length).for_each(|_| bytes.push_reserved(0));
        // The lowest, but not the first page: an offset is told from none.
        let mut offset = PAGE;
        while let Some(other) = objects.mappable().find(|other| other.overlaps(offset, length as u64)) {
            offset = other.end();
        }
        Ok(Mappable { offset, bytes })
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn end(&self) -> u64 {
        self.offset.saturating_add(self.length())
    }

    fn overlaps(&self, offset: u64, length: u64) -> bool {
        offset < self.end() && self.offset < offset.saturating_add(length)
    }

    /// Reads it; zeros behind its end.
    fn read(&self, at: u64, bytes: &mut [u8]) {
        for (from, to) in (at as usize..).zip(bytes) {
            *to = self.bytes.get(from).copied().unwrap_or(0);
        }
    }

    /// Writes it; what is behind its end is dropped.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) {
        for (to, from) in (at as usize..).zip(bytes) {
            if let Some(to) = self.bytes.get_mut(to) {
                *to = *from;
            }
        }
    }
}

impl<H: Host> Context<H> {
    /// `mmap(2)` of the context's file: memory is mapped as a whole, at its offset. The id of what it belongs to.
    pub(crate) fn map(&self, offset: u64, length: u64) -> Result<u32, Refusal> {
        let asked = |memory: &Mappable| memory.offset == offset && memory.length() == length;
        self.objects.read(|objects| {
            let mut viommus = objects.all().filter(|(_, object)| match object {
                Object::Viommu(viommu) => viommu.driver.memory().is_some_and(asked),
                _ => false,
            });
            viommus.next().map(|(id, _)| id).ok_or(IOMMUFD_MAP)
        })
    }

    /// A program has mapped the memory of an object, or has it mapped no longer.
    pub(crate) fn set_mapped(&self, id: u32, mapped: bool) {
        self.objects.write(|objects| match mapped {
            true => objects.hold_viommu(id),
            false => objects.put_viommu(id),
        });
    }

    /// Reads memory that is mapped.
    pub(crate) fn mapped_read(&self, id: u32, at: u64, bytes: &mut [u8]) {
        self.objects.read(|objects| {
            if let Some(memory) = objects.viommu(id).ok().and_then(|viommu| viommu.driver.memory()) {
                memory.read(at, bytes);
            }
        });
    }

    /// Writes memory that is mapped.
    pub(crate) fn mapped_write(&self, id: u32, at: u64, bytes: &[u8]) {
        self.objects.write(|objects| {
            if let Some(memory) = objects.viommu_mut(id).and_then(|viommu| viommu.driver.memory_mut()) {
                memory.write(at, bytes);
            }
        });
    }
}

impl<H: Host> Objects<H> {
    /// All memory that can be mapped.
    fn mappable(&self) -> impl Iterator<Item = &Mappable> {
        self.all().filter_map(|(_, object)| match object {
            Object::Viommu(viommu) => viommu.driver.memory(),
            _ => None,
        })
    }
}
