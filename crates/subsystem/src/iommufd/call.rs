//! The argument of an ioctl: copied from the caller and back.

use uapi::Command;

use crate::rules::iommufd as rule;
use crate::{CallCtx, FileId, Function, Host, Refusal, UserMemoryExt};

/// Which of the caller's files are dma-bufs.
pub(crate) type Exports<'a> = dyn Fn(FileId) -> Option<DmaBuf> + 'a;

/// A dma-buf, as it is mapped.
#[derive(Clone, Copy)]
pub(crate) struct DmaBuf {
    /// Whose it is.
    pub(crate) exporter: Exporter,
    /// Its bus address: that of its first range.
    pub(crate) address: u64,
    /// The length of all ranges in bytes.
    pub(crate) length: u64,
    /// Whether there is no other range.
    pub(crate) single: bool,
    /// Whether it can be mapped now.
    pub(crate) answers: bool,
}

/// Whose a dma-buf is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exporter {
    /// A part of a BAR of this function.
    Function(Function),
    /// Memory of a self-test of IOMMUFD, by number.
    Test(u32),
}

/// One ioctl under way.
pub(super) struct Call<'a, H: Host> {
    pub(super) host: &'a H,
    pub(super) caller: &'a CallCtx<'a, H>,
    pub(super) exports: &'a Exports<'a>,
    pub(super) argument: u64,
}

/// The argument of an ioctl, with the size that the caller stated.
pub(super) struct Argument<T> {
    pub(super) value: T,
    size: usize,
}

impl<H: Host> Call<'_, H> {
    /// The stated size, which leads every argument.
    pub(super) fn stated_size(&self) -> Result<u32, Refusal> {
        self.caller.memory.get(self.argument).map_err(|_| rule::ARGUMENT_UNREADABLE)
    }

    /// Copies the argument. What the caller leaves out of it is zero; what it adds must be zero.
    pub(super) fn take<T: Command>(&self) -> Result<Argument<T>, Refusal> {
        let size = self.stated_size()? as usize;
        if size < T::MIN_SIZE {
            return Err(rule::ARGUMENT_TOO_SMALL);
        }
        let known = size_of::<T>();
        self.check_tail(known, size)?;
        let mut value = T::new_zeroed();
        let bytes = value.as_mut_bytes().get_mut(..size.min(known)).unwrap_or_default();
        self.caller.memory.read(self.argument, bytes).map_err(|_| rule::ARGUMENT_UNREADABLE)?;
        Ok(Argument { value, size })
    }

    /// Copies the argument back, as much of it as the caller stated.
    pub(super) fn reply<T: Command>(&self, argument: &Argument<T>) -> Result<(), Refusal> {
        let bytes = argument.value.as_bytes();
        let bytes = bytes.get(..argument.size).unwrap_or(bytes);
        self.caller.memory.write(self.argument, bytes).map_err(|_| rule::ARGUMENT_UNWRITABLE)
    }

    /// Bytes `from` to `to` of the argument must be zero.
    fn check_tail(&self, from: usize, to: usize) -> Result<(), Refusal> {
        let end = self.argument.checked_add(to as u64).ok_or(rule::ARGUMENT_UNREADABLE)?;
        let from = self.argument.saturating_add(from as u64);
        match self.caller.memory.is_zero(from, end) {
            Ok(true) => Ok(()),
            Ok(false) => Err(rule::ARGUMENT_TAIL),
            Err(_) => Err(rule::ARGUMENT_UNREADABLE),
        }
    }
}
