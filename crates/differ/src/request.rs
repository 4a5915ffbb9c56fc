//! Arguments of ioctls: from data to bytes.

use std::os::fd::RawFd;

use crate::arena::Arena;
use crate::command::{Command, Known, is_pointer};
use crate::sequence::{Argument, Item, Place, Request, Slot, Value};

/// What the values of an argument stand for.
pub(crate) trait Scope {
    fn arena(&self) -> &Arena;
    /// The descriptor in a slot, -1 where it is empty.
    fn descriptor(&self, slot: Slot) -> RawFd;
    /// The address of a device, empty if there is none of that number.
    fn device(&self, number: u8) -> &str;
}

/// What must not be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Harmful {
    /// An argument could be taken for an address of the process's own memory.
    #[error(
        "{number:#x} could be an address in the memory of this process: use buffer+…, scratch+…, or less than 2^44"
    )]
    Address {
        /// The argument.
        number: u64,
    },
    /// A file of VFIO or IOMMUFD would be mapped into a context that the file may keep open.
    #[error(
        "IOMMU_IOAS_MAP_FILE of a device's own file: Linux gives neither back, ever (docs/kernel-findings.md)"
    )]
    Cycle,
}

/// An argument, ready to be passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Encoded {
    Number(u64),
    Memory(Place, Vec<u8>),
}

/// The most bytes that follow a structure.
const TAIL: usize = 1024;

pub(crate) fn encode(request: &Request, scope: &impl Scope) -> Result<Encoded, Harmful> {
    let check =
        |number| if scope.arena().is_harmless(number) { Ok(()) } else { Err(Harmful::Address { number }) };
    match &request.argument {
        Argument::Number(number) => check(*number).map(|()| Encoded::Number(*number)),
        Argument::Memory { place, fields, tail } => {
            let mut bytes = structure(request.command, fields, scope);
            for item in tail {
                push(&mut bytes, item, scope);
            }
            bytes.truncate(TAIL);
            if let Command::Known(Known { fields: known, .. }) = request.command
                && let Some(size) =
                    known.first().filter(|size| fields.iter().all(|(name, _)| *name != size.name))
            {
                let length = bytes.len() as u32;
                put(&mut bytes, size.offset, size.size, length.into());
            }
            checked_words(request.command, &bytes).try_for_each(check)?;
            Ok(Encoded::Memory(*place, bytes))
        }
    }
}

fn structure(command: Command, fields: &[(&str, Value)], scope: &impl Scope) -> Vec<u8> {
    let Command::Known(known) = command else { return Vec::new() };
    let mut bytes = vec![0; known.size];
    for (name, value) in fields {
        if let Some(field) = known.field(name) {
            put(&mut bytes, field.offset, field.size, number(*value, scope));
        }
    }
    bytes
}

fn push(bytes: &mut Vec<u8>, item: &Item, scope: &impl Scope) {
    match item {
        Item::Number(width, value) => {
            let width = usize::from(*width).min(8);
            bytes.extend(&number(*value, scope).to_ne_bytes()[..width]);
        }
        Item::Text(text) => bytes.extend(text.bytes().chain([0])),
        Item::Device(device, rest) => {
            bytes.extend(scope.device(*device).bytes().chain(rest.bytes()).chain([0]))
        }
    }
}

fn put(bytes: &mut [u8], offset: usize, size: usize, number: u64) {
    let size = size.min(8);
    if let Some(field) = bytes.get_mut(offset..offset + size) {
        field.copy_from_slice(&number.to_ne_bytes()[..size]);
    }
}

/// What a value is on the system at hand.
pub(crate) fn number(value: Value, scope: &impl Scope) -> u64 {
    match value {
        Value::Number(number) => number,
        Value::Descriptor(slot) => i64::from(scope.descriptor(slot)).cast_unsigned(),
        Value::Buffer(offset) => scope.arena().buffer(offset),
        Value::Scratch(offset) => scope.arena().scratch(offset),
    }
}

/// The words of an argument that a system might take for addresses: fields that are such; all of them where the number of
/// the ioctl means different things on different files, or has no name.
fn checked_words(command: Command, bytes: &[u8]) -> impl Iterator<Item = u64> {
    /// From `VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`, which is `VFIO_IOMMU_GET_INFO` too, to `VFIO_DEVICE_FEATURE`.
    const AMBIGUOUS: std::ops::RangeInclusive<u32> = 0x3b70..=0x3b75;
    let offsets: Vec<usize> = match command {
        Command::Known(known) if !AMBIGUOUS.contains(&known.opcode) => {
            known.fields.iter().filter(|field| is_pointer(field.name)).map(|field| field.offset).collect()
        }
        // All structures have their 64-bit fields at multiples of 8.
        _ => (8..bytes.len()).step_by(8).collect(),
    };
    let word = |offset: usize| bytes.get(offset..offset + 8)?.try_into().ok().map(u64::from_ne_bytes);
    offsets.into_iter().filter_map(word).collect::<Vec<_>>().into_iter()
}
