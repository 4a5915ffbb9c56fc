//! Mappings of BARs, and of memory of the subsystem's own.

use std::collections::BTreeSet;
use std::ptr::NonNull;
use std::sync::Arc;

use subsystem::{MappedMemory, MappedRegion, Task};
use sys::{Mmio, MmioError, Registers, Width};

use super::Shared;
use crate::bus::PciFunction;
use crate::file::File;
use crate::lock::lock;
use crate::model::Register;
use crate::process::Reserved;

/// A mapping of a part of a BAR. It keeps its file open.
struct MappedBar {
    function: Arc<PciFunction>,
    bar: u8,
    /// Where the mapping starts in the BAR.
    start: u64,
    /// The length of the BAR. A mapping of a small one is longer: nothing answers behind its end.
    size: u64,
    addresses: Reserved,
    file: File,
}

/// A mapping of `length` bytes of a region, to be written or not.
pub(super) fn map(
    function: Arc<PciFunction>,
    region: MappedRegion,
    (length, writable): (usize, bool),
    addresses: Reserved,
    file: File,
) -> Mmio {
    let size = size_of_bar(&function, region.index);
    file.opened().shared().world().regions().add(addresses.range(), &function, writable);
    let mapped = MappedBar { function, bar: region.index, start: region.offset, size, addresses, file };
    Mmio::called(Arc::new(mapped), length)
}

/// A mapping of memory of the subsystem's own. It keeps its file open, and what the memory belongs to.
struct OwnMemory {
    memory: MappedMemory,
    addresses: Reserved,
    file: File,
}

/// A mapping of `length` bytes of such memory.
pub(super) fn map_memory(memory: MappedMemory, length: usize, addresses: Reserved, file: File) -> Mmio {
    file.opened().shared().subsystem.set_mapped(memory, true);
    Mmio::called(Arc::new(OwnMemory { memory, addresses, file }), length)
}

impl Drop for OwnMemory {
    fn drop(&mut self) {
        self.file.opened().shared().subsystem.set_mapped(self.memory, false);
    }
}

impl Registers for OwnMemory {
    fn read(&self, offset: usize, width: Width) -> Result<u64, MmioError> {
        Ok(self.file.opened().shared().memory_read(self.memory, offset as u64, width))
    }

    fn write(&self, offset: usize, width: Width, value: u64) -> Result<(), MmioError> {
        self.file.opened().shared().memory_write(self.memory, offset as u64, width, value);
        Ok(())
    }

    fn address(&self) -> Option<NonNull<u8>> {
        Some(self.addresses.start())
    }
}

impl Shared {
    /// Reads memory of the subsystem's own.
    pub(super) fn memory_read(&self, memory: MappedMemory, at: u64, width: Width) -> u64 {
        let mut value = [0; 8];
        self.subsystem.mapped_read(memory, at, &mut value[..width.bytes()]);
        u64::from_le_bytes(value)
    }

    /// Writes it.
    pub(super) fn memory_write(&self, memory: MappedMemory, at: u64, width: Width, value: u64) {
        self.subsystem.mapped_write(memory, at, &value.to_le_bytes()[..width.bytes()]);
    }

    /// Says what of such memory a process has mapped.
    pub(super) fn set_mapped(&self, process: Option<Task>, now: BTreeSet<MappedMemory>) {
        let mut mapped = lock(&self.mapped);
        let before = mapped.insert(process, now.clone()).unwrap_or_default();
        now.difference(&before).for_each(|memory| self.subsystem.set_mapped(*memory, true));
        before.difference(&now).for_each(|memory| self.subsystem.set_mapped(*memory, false));
    }
}

/// The length of a BAR, 0 if there is none.
pub(super) fn size_of_bar(function: &PciFunction, bar: u8) -> u64 {
    function.identity().bars.get(usize::from(bar)).copied().flatten().map_or(0, |bar| bar.size)
}

impl Drop for MappedBar {
    fn drop(&mut self) {
        self.file.opened().shared().world().regions().remove(self.addresses.range().start);
    }
}

impl MappedBar {
    /// The register at an offset of the mapping; `None` behind the end of the BAR.
    fn register(&self, offset: usize, width: Width) -> Result<Option<Register>, MmioError> {
        if !self.function.mappings_enabled() {
            return Err(MmioError::Revoked { offset });
        }
        let offset = self.start + offset as u64;
        Ok((offset < self.size).then_some(Register { bar: self.bar, offset, width }))
    }
}

impl Registers for MappedBar {
    fn read(&self, offset: usize, width: Width) -> Result<u64, MmioError> {
        let value = self.register(offset, width)?.map_or(u64::MAX, |register| self.function.read(register));
        self.file.opened().shared().settle();
        Ok(value)
    }

    fn write(&self, offset: usize, width: Width, value: u64) -> Result<(), MmioError> {
        if let Some(register) = self.register(offset, width)? {
            self.function.write(register, value);
        }
        self.file.opened().shared().settle();
        Ok(())
    }

    fn address(&self) -> Option<NonNull<u8>> {
        Some(self.addresses.start())
    }
}
