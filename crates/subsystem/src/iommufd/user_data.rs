//! Data in the caller's memory that only the driver of an IOMMU understands.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::mem::{List, OutOfMemory};
use crate::rules::{guest, iommufd as rule};
use crate::{Alloc, Refusal, UserMemory};

/// One structure.
#[derive(Clone, Copy)]
pub(super) struct UserData<'a> {
    pub(super) memory: &'a dyn UserMemory,
    /// What it is: a number that the driver knows.
    pub(super) kind: u32,
    pub(super) address: u64,
    /// In bytes.
    pub(super) length: u32,
}

/// Several, one behind the other.
#[derive(Clone, Copy)]
pub(super) struct UserArray<'a> {
    pub(super) memory: &'a dyn UserMemory,
    /// What the entries are: a number that the driver knows.
    pub(super) kind: u32,
    pub(super) address: u64,
    /// The length of an entry in bytes.
    pub(super) length: u32,
    pub(super) count: u32,
}

impl UserData<'_> {
    /// Copies the structure, if it is what `kind` says. What the caller leaves out behind its `least` bytes is zero.
    pub(super) fn take<T: FromBytes + IntoBytes>(&self, kind: u32, least: usize) -> Result<T, Refusal> {
        if self.kind != kind {
            return Err(guest::USER_DATA_KIND);
        }
        let length = self.length as usize;
        let mut value = T::new_zeroed();
        let bytes = value.as_mut_bytes().get_mut(..length).filter(|_| least <= length);
        let bytes = bytes.ok_or(guest::USER_DATA_LENGTH)?;
        self.memory.read(self.address, bytes).map_err(|_| guest::USER_DATA_UNREADABLE)?;
        Ok(value)
    }

    /// Copies a structure back, as much of it as the caller has room for.
    pub(super) fn put<T: IntoBytes + Immutable>(&self, value: &T) -> Result<(), Refusal> {
        let bytes = value.as_bytes();
        let bytes = bytes.get(..self.length as usize).unwrap_or(bytes);
        self.memory.write(self.address, bytes).map_err(|_| guest::USER_DATA_UNWRITABLE)
    }
}

impl<'a> UserArray<'a> {
    /// The entry of this index.
    pub(super) fn entry(&self, index: u32) -> UserData<'a> {
        let UserArray { memory, kind, address, length, .. } = *self;
        let offset = u64::from(index).wrapping_mul(u64::from(length));
        UserData { memory, kind, address: address.wrapping_add(offset), length }
    }

    /// Copies all entries, if they are what `kind` says. What the caller leaves out of each is zero; what it adds must be.
    pub(super) fn all<T: FromBytes + IntoBytes>(
        &self,
        alloc: &impl Alloc,
        kind: u32,
    ) -> Result<List<T>, Refusal> {
        if self.kind != kind {
            return Err(guest::USER_DATA_KIND);
        }
        let mut all = List::new();
        all.reserve_many(alloc, self.count as usize).map_err(|OutOfMemory| rule::NO_MEMORY)?;
        for index in 0..self.count {
            let UserData { address, length, .. } = self.entry(index);
            let length = u64::from(length);
            let known = (size_of::<T>() as u64).min(length);
            let rest = self.memory.is_zero(address.wrapping_add(known), address.wrapping_add(length));
            if !rest.map_err(|_| guest::USER_DATA_UNREADABLE)? {
                return Err(guest::USER_DATA_TAIL);
            }
            let mut value = T::new_zeroed();
            let bytes = value.as_mut_bytes().get_mut(..known as usize).unwrap_or_default();
            self.memory.read(address, bytes).map_err(|_| guest::USER_DATA_UNREADABLE)?;
            all.push_reserved(value);
        }
        Ok(all)
    }
}
