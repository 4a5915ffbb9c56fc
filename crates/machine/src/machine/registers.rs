//! Mappings of BARs.

use std::ptr::NonNull;
use std::sync::Arc;

use subsystem::MappedRegion;
use sys::{Mmio, MmioError, Registers, Width};

use crate::bus::PciFunction;
use crate::file::File;
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
