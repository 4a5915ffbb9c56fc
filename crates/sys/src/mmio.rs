//! Device registers.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::Memory;

/// The width of a register access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Width {
    /// 1 byte
    U8 = 1,
    /// 2 bytes
    U16 = 2,
    /// 4 bytes
    U32 = 4,
    /// 8 bytes
    U64 = 8,
}

impl Width {
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self as usize
    }
}

/// Why a register access was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MmioError {
    /// Past the end of the mapping, or not aligned to its width.
    OutOfBounds {
        /// Offset in bytes from the start of the mapping.
        offset: usize,
        /// Width of the access.
        width: Width,
        /// Length of the mapping in bytes.
        length: usize,
    },
    /// The mapping is revoked: memory decoding is off, or the device is gone. On a real mapping the
    /// process gets SIGBUS instead.
    Revoked {
        /// Offset in bytes from the start of the mapping.
        offset: usize,
    },
}

impl fmt::Display for MmioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            MmioError::OutOfBounds { offset, width, length } => write!(
                f,
                "{}-byte register access at offset {offset:#x} is unaligned or past the end of the {length:#x}-byte mapping",
                width.bytes()
            ),
            MmioError::Revoked { offset } => write!(
                f,
                "register access at offset {offset:#x}: the mapping is revoked (memory decoding is off, or the device is gone)"
            ),
        }
    }
}

impl std::error::Error for MmioError {}

/// Registers that are answered by a call: the other half of [`Mmio`]. Offsets count from the start of the
/// mapping and are in bounds and aligned.
pub trait Registers: Send + Sync {
    /// Reads a register, little-endian value.
    fn read(&self, offset: usize, width: Width) -> Result<u64, MmioError>;
    /// Writes a register.
    fn write(&self, offset: usize, width: Width, value: u64) -> Result<(), MmioError>;
    /// The addresses that are reserved for the mapping, where there are some. They cannot be read.
    fn address(&self) -> Option<NonNull<u8>> {
        None
    }
}

#[derive(Clone)]
enum Kind {
    /// A mapped BAR.
    Memory(Arc<Memory>),
    /// A register that a model answers.
    Called(Arc<dyn Registers>),
}

/// A mapping of device registers: 8-, 16-, 32- and 64-bit accesses, volatile, in order, and checked against the
/// length and the alignment. Dropping the last clone unmaps it.
///
/// The plain forms panic on an access that is out of bounds, as indexing does; the `try_` forms do not.
#[derive(Clone)]
pub struct Mmio {
    kind: Kind,
    length: usize,
}

macro_rules! accessors {
    ($($read:ident, $try_read:ident, $write:ident, $try_write:ident, $type:ty, $width:ident;)*) => {$(
        #[doc = concat!("Reads a little-endian `", stringify!($type), "` at `offset` bytes.")]
        ///
        /// # Panics
        ///
        /// Past the end, unaligned, or on a revoked mapping.
        #[inline]
        #[must_use]
        pub fn $read(&self, offset: usize) -> $type {
            self.$try_read(offset).unwrap_or_else(|error| panic!("{error}"))
        }

        #[doc = concat!("Reads a little-endian `", stringify!($type), "` at `offset` bytes, or says why not.")]
        #[inline]
        pub fn $try_read(&self, offset: usize) -> Result<$type, MmioError> {
            self.check(offset, Width::$width)?;
            match &self.kind {
                Kind::Memory(memory) => {
                    let register = memory.start().as_ptr().wrapping_add(offset).cast::<$type>();
                    // SAFETY: `check` has shown that the register lies within the mapping and is aligned; the
                    // mapping lives as long as `memory`.
                    Ok(<$type>::from_le(unsafe { register.read_volatile() }))
                }
                Kind::Called(registers) => Ok(registers.read(offset, Width::$width)? as $type),
            }
        }

        #[doc = concat!("Writes a little-endian `", stringify!($type), "` at `offset` bytes.")]
        ///
        /// # Panics
        ///
        /// Past the end, unaligned, or on a revoked mapping.
        #[inline]
        pub fn $write(&self, offset: usize, value: $type) {
            self.$try_write(offset, value).unwrap_or_else(|error| panic!("{error}"));
        }

        #[doc = concat!("Writes a little-endian `", stringify!($type), "` at `offset` bytes, or says why not.")]
        #[inline]
        pub fn $try_write(&self, offset: usize, value: $type) -> Result<(), MmioError> {
            self.check(offset, Width::$width)?;
            match &self.kind {
                Kind::Memory(memory) => {
                    let register = memory.start().as_ptr().wrapping_add(offset).cast::<$type>();
                    // SAFETY: as in the read.
                    unsafe { register.write_volatile(value.to_le()) };
                    Ok(())
                }
                Kind::Called(registers) => registers.write(offset, Width::$width, u64::from(value)),
            }
        }
    )*};
}

impl Mmio {
    /// Registers in mapped memory.
    #[must_use]
    pub fn memory(memory: Memory) -> Self {
        let length = memory.length();
        Mmio { kind: Kind::Memory(Arc::new(memory)), length }
    }

    /// Registers that are answered by a call; `length` in bytes.
    #[must_use]
    pub fn called(registers: Arc<dyn Registers>, length: usize) -> Self {
        Mmio { kind: Kind::Called(registers), length }
    }

    /// Length in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The address of the mapping, where it has one.
    #[must_use]
    pub fn address(&self) -> Option<NonNull<u8>> {
        match &self.kind {
            Kind::Memory(memory) => Some(memory.start()),
            Kind::Called(registers) => registers.address(),
        }
    }

    #[inline]
    fn check(&self, offset: usize, width: Width) -> Result<(), MmioError> {
        let bytes = width.bytes();
        if offset.is_multiple_of(bytes) && offset.checked_add(bytes).is_some_and(|end| end <= self.length) {
            Ok(())
        } else {
            Err(MmioError::OutOfBounds { offset, width, length: self.length })
        }
    }

    accessors! {
        read8, try_read8, write8, try_write8, u8, U8;
        read16, try_read16, write16, try_write16, u16, U16;
        read32, try_read32, write32, try_write32, u32, U32;
        read64, try_read64, write64, try_write64, u64, U64;
    }
}

impl fmt::Debug for Mmio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Memory(_) => "memory",
            Kind::Called(_) => "called",
        };
        write!(f, "Mmio({kind}, {:#x} bytes)", self.length)
    }
}

#[cfg(test)]
mod tests {
    use std::ptr::NonNull;
    use std::sync::{Arc, Mutex};

    use super::{Mmio, MmioError, Registers, Width};
    use crate::Memory;

    /// Registers in memory of the test, 16 bytes long.
    fn in_memory() -> Mmio {
        let words = Box::leak(Box::new([0_u64; 2]));
        let start = NonNull::from(words).cast::<u8>();
        let free = |start: NonNull<u8>, _| {
            // SAFETY: `start` is what was leaked above, of that type, and is given back once.
            drop(unsafe { Box::from_raw(start.cast::<[u64; 2]>().as_ptr()) });
        };
        // SAFETY: the 16 bytes are there until `free` is called, and the reference to them is gone.
        Mmio::memory(unsafe { Memory::from_raw(start, 16, free) })
    }

    /// Keeps what was written last, and is revoked from offset 8 on.
    struct Last(Mutex<(usize, Width, u64)>);

    impl Registers for Last {
        fn read(&self, offset: usize, _: Width) -> Result<u64, MmioError> {
            if offset < 8 { Ok(0x1122_3344_5566_7788) } else { Err(MmioError::Revoked { offset }) }
        }

        fn write(&self, offset: usize, width: Width, value: u64) -> Result<(), MmioError> {
            *self.0.lock().unwrap() = (offset, width, value);
            Ok(())
        }
    }

    #[test]
    fn registers_in_memory_are_little_endian() {
        let mmio = in_memory();
        mmio.write32(8, 0xaabb_ccdd);
        assert_eq!([mmio.read8(8), mmio.read8(11)], [0xdd, 0xaa]);
        assert_eq!(mmio.read16(10), 0xaabb);
        assert_eq!(mmio.read64(8), 0xaabb_ccdd);
    }

    #[test]
    fn what_is_out_of_bounds_or_unaligned_is_not_touched() {
        let mmio = in_memory();
        mmio.write64(8, u64::MAX);
        for offset in [2, 13, 16, 20, usize::MAX - 3, usize::MAX] {
            let refused = MmioError::OutOfBounds { offset, width: Width::U32, length: 16 };
            assert_eq!(mmio.try_read32(offset), Err(refused));
            assert_eq!(mmio.try_write32(offset, 0), Err(refused));
        }
        assert_eq!((mmio.try_read64(8), mmio.try_read8(15)), (Ok(u64::MAX), Ok(255)));
    }

    #[test]
    fn registers_that_are_called_see_width_and_value() {
        let registers = Arc::new(Last(Mutex::new((0, Width::U8, 0))));
        let mmio = Mmio::called(registers.clone(), 16);
        mmio.write16(6, 0x1234);
        assert_eq!(*registers.0.lock().unwrap(), (6, Width::U16, 0x1234));
        assert_eq!(mmio.read16(0), 0x7788, "a read gives as many bits as its width");
        assert_eq!(mmio.try_read8(8), Err(MmioError::Revoked { offset: 8 }));
        assert_eq!(
            mmio.try_read8(16),
            Err(MmioError::OutOfBounds { offset: 16, width: Width::U8, length: 16 })
        );
    }

    #[test]
    #[should_panic(expected = "past the end of the 0x10-byte mapping")]
    fn the_plain_form_panics_and_says_why() {
        let _value = in_memory().read32(16);
    }
}
