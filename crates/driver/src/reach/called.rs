//! Registers that cannot be mapped, such as I/O ports: each access is a system call.
#![forbid(unsafe_code)]

use std::ptr::NonNull;

use sys::{MmioError, Registers, Sys, Width};

/// Registers in a file, from `start` on.
pub(super) struct Called<S: Sys> {
    pub(super) sys: S,
    pub(super) file: S::File,
    pub(super) start: u64,
}

impl<S: Sys> Registers for Called<S> {
    fn read(&self, offset: usize, width: Width) -> Result<u64, MmioError> {
        let mut bytes = [0; 8];
        let part = &mut bytes[..width.bytes()];
        match self.sys.pread(&self.file, part, self.start + offset as u64) {
            Ok(count) if count == width.bytes() => Ok(u64::from_le_bytes(bytes)),
            _ => Err(MmioError::Revoked { offset }),
        }
    }

    fn write(&self, offset: usize, width: Width, value: u64) -> Result<(), MmioError> {
        let bytes = value.to_le_bytes();
        let part = &bytes[..width.bytes()];
        match self.sys.pwrite(&self.file, part, self.start + offset as u64) {
            Ok(count) if count == width.bytes() => Ok(()),
            _ => Err(MmioError::Revoked { offset }),
        }
    }

    fn address(&self) -> Option<NonNull<u8>> {
        None
    }
}
