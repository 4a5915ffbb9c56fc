//! Ioctl arguments with data behind them.

use std::fmt;
use std::marker::PhantomData;

use uapi::{Command, Errno};
use zerocopy::IntoBytes;

use crate::{Error, Result};

/// An ioctl argument with a tail: the flexible array or the capability chain behind the structure.
pub struct Tailed<T> {
    // Words, so that the structure at the start is aligned (no argument needs more than 8 bytes).
    words: Vec<u64>,
    length: usize,
    kind: PhantomData<T>,
}

impl<T: Command> Tailed<T> {
    /// `head` with `tail` zeroed bytes behind it.
    #[must_use]
    pub fn new(head: T, tail: usize) -> Self {
        const { assert!(align_of::<T>() <= align_of::<u64>()) };
        let length = size_of::<T>() + tail;
        let mut this = Tailed { words: vec![0; length.div_ceil(8)], length, kind: PhantomData };
        *this.head_mut() = head;
        this
    }

    /// The structure at the start.
    #[must_use]
    pub fn head(&self) -> &T {
        match T::ref_from_prefix(self.words.as_bytes()) {
            Ok((head, _)) => head,
            Err(_) => unreachable!("the words are aligned and hold at least the head"),
        }
    }

    /// The structure at the start, to change.
    pub fn head_mut(&mut self) -> &mut T {
        match T::mut_from_prefix(self.words.as_mut_bytes()) {
            Ok((head, _)) => head,
            Err(_) => unreachable!("the words are aligned and hold at least the head"),
        }
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.length]
    }

    /// All of it, to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.words.as_mut_bytes()[..self.length]
    }

    /// Whether the argument states no more than it has, so that the call stays within it; else EINVAL.
    pub fn check(&self, object: impl fmt::Display) -> Result<()> {
        if self.head().stated_size() > self.length {
            return Err(Error::new(T::NAME, object, Errno::EINVAL));
        }
        Ok(())
    }

    /// What stands behind the structure.
    #[must_use]
    pub fn tail(&self) -> &[u8] {
        &self.bytes()[size_of::<T>()..]
    }

    /// What stands behind the structure, to change.
    pub fn tail_mut(&mut self) -> &mut [u8] {
        &mut self.bytes_mut()[size_of::<T>()..]
    }
}

#[cfg(test)]
mod tests {
    use uapi::vfio::VfioIrqSet;
    use uapi::{Command as _, Errno};

    use super::Tailed;

    #[test]
    fn the_tail_lies_behind_the_head() {
        let mut argument = Tailed::new(VfioIrqSet { argsz: 25, ..VfioIrqSet::new() }, 5);
        argument.tail_mut().copy_from_slice(&[1, 2, 3, 4, 5]);
        argument.head_mut().count = 7;
        assert_eq!(argument.head().count, 7);
        assert_eq!(argument.bytes().len(), 25);
        assert_eq!(argument.bytes()[..4], 25_u32.to_ne_bytes());
        assert_eq!(argument.bytes()[20..], [1, 2, 3, 4, 5]);
        assert_eq!(argument.tail(), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn no_more_may_be_stated_than_is_there() {
        let mut argument = Tailed::new(VfioIrqSet { argsz: 24, ..VfioIrqSet::new() }, 4);
        assert_eq!(argument.check("here"), Ok(()));
        argument.head_mut().argsz = 25;
        let error = argument.check("here").unwrap_err();
        assert_eq!(
            (error.call(), error.object(), error.errno()),
            ("VFIO_DEVICE_SET_IRQS", "here", Errno::EINVAL)
        );
    }
}
