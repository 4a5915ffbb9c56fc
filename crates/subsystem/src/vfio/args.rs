//! Arguments of device ioctls: taken from the caller and given back.
//!
//! The size rules S1 and S2 are explained in [`uapi`].

use uapi::Command;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::ctx::UserMemory;
use crate::rules::{Refusal, vfio as rules};

/// Reads the first `length` bytes of an argument; what is behind them is zero.
pub(crate) fn head<T: FromBytes + IntoBytes>(
    memory: &dyn UserMemory,
    address: u64,
    length: usize,
) -> Result<T, Refusal> {
    let mut value = T::new_zeroed();
    let bytes = value.as_mut_bytes().get_mut(..length).ok_or(rules::ARGUMENT_FAULT)?;
    memory.read(address, bytes).map_err(|_| rules::ARGUMENT_FAULT)?;
    Ok(value)
}

/// Reads a field of an argument, or what follows it.
pub(crate) fn take_at<T: FromBytes + IntoBytes>(
    memory: &dyn UserMemory,
    address: u64,
    offset: usize,
) -> Result<T, Refusal> {
    head(memory, address.checked_add(offset as u64).ok_or(rules::ARGUMENT_FAULT)?, size_of::<T>())
}

/// Takes an argument by rule S1: its least size is read, and `argsz` must state as much.
pub(crate) fn take<T: Command>(
    memory: &dyn UserMemory,
    address: u64,
    too_small: Refusal,
) -> Result<T, Refusal> {
    let value: T = head(memory, address, T::MIN_SIZE)?;
    if value.stated_size() < T::MIN_SIZE {
        return Err(too_small);
    }
    Ok(value)
}

/// Takes an argument by rule S2: what is missing of it is zero, and what exceeds it must be.
pub(crate) fn take_extensible<T: Command>(
    memory: &dyn UserMemory,
    address: u64,
    too_small: Refusal,
    tail: Refusal,
) -> Result<T, Refusal> {
    let stated = head::<u32>(memory, address, size_of::<u32>())?;
    let length = stated as usize;
    if length < T::MIN_SIZE {
        return Err(too_small);
    }
    let end = address.checked_add(stated.into()).ok_or(rules::ARGUMENT_FAULT)?;
    let known = address.saturating_add(size_of::<T>() as u64);
    if !memory.is_zero(known, end).map_err(|_| rules::ARGUMENT_FAULT)? {
        return Err(tail);
    }
    head(memory, address, length.min(size_of::<T>()))
}

/// Gives the first `length` bytes of a reply back.
pub(crate) fn reply<T: IntoBytes + Immutable>(
    memory: &dyn UserMemory,
    address: u64,
    value: &T,
    length: usize,
) -> Result<(), Refusal> {
    let bytes = value.as_bytes();
    let bytes = bytes.get(..length.min(bytes.len())).ok_or(rules::REPLY_FAULT)?;
    memory.write(address, bytes).map_err(|_| rules::REPLY_FAULT)
}

/// Gives a field of a reply, or a capability behind it, back.
pub(crate) fn reply_at<T: IntoBytes + Immutable>(
    memory: &dyn UserMemory,
    address: u64,
    offset: usize,
    value: &T,
) -> Result<(), Refusal> {
    let at = address.checked_add(offset as u64).ok_or(rules::REPLY_FAULT)?;
    reply(memory, at, value, size_of::<T>())
}
