//! The user interface of Linux VFIO and IOMMUFD as plain Rust data.
//!
//! This crate holds the structures, ioctl numbers and constants that a program needs to drive a
//! PCI device through VFIO: by device file and IOMMUFD, or by group and type1 container. It makes
//! no system call itself and needs no standard library.
//!
//! Source of all numbers and layouts: the headers `linux/vfio.h` and `linux/iommufd.h` of Linux
//! 7.3.4 and the kernel's `Documentation/userspace-api/iommufd.rst`. The tests hold every item
//! against tables that were measured with a C compiler.
//!
//! # Naming
//!
//! - A structure has the C name in camel case: `vfio_device_info` is [`vfio::VfioDeviceInfo`].
//! - A field has the C name without leading underscores: `__reserved` is `reserved`; `type`, a
//!   keyword, is `type_`. Padding that C leaves to the compiler is a field `pad`.
//! - Where C has a union of two integers of one size, there is one field. It has the name used on
//!   the path through device file and IOMMUFD; its documentation tells the other one.
//! - A flexible array at the end is left out: the size is what `sizeof` gives in C.
//! - Constants, ioctl numbers and enumerators have the C name. They are `u32`, or `u64` where they
//!   are bits of a 64-bit field; a narrower field (`op` of [`iommufd::IommuOption`], `id` of
//!   [`vfio::VfioInfoCapHeader`]) needs a cast.
//!
//! # The three size rules
//!
//! Each argument structure begins with a `u32` in which the caller states the size in bytes
//! (`argsz` in VFIO, `size` in IOMMUFD). What the kernel does with it differs:
//!
//! | Rule | Used by | Less than [`Command::MIN_SIZE`] | More than the kernel knows |
//! |---|---|---|---|
//! | S1 | VFIO, all but the next row | `EINVAL` | the excess is never looked at, unless the command has a tail |
//! | S2 | `VFIO_DEVICE_BIND_IOMMUFD` | `EINVAL` | the excess must be zero, else `E2BIG` |
//! | S3 | IOMMUFD | `EINVAL` | the excess must be zero, else `E2BIG` |
//!
//! Under S2 and S3 a field between the minimum and the known size that the caller leaves out
//! counts as zero. Under S3 the reply covers the smaller of the stated and the known size.
//!
//! [`Command::new`] states `size_of::<Self>()`, which is right under each rule.

#![no_std]
#![forbid(unsafe_code)]

#[macro_use]
mod macros;

mod command;
mod errno;
pub mod iommufd;
pub mod iommufd_test;
pub mod table;
pub mod vfio;

pub use command::{Command, SelfContained};
pub use errno::Errno;

/// The ioctl number of command `nr`: what the C macro `_IO(';', nr)` gives.
///
/// VFIO and IOMMUFD encode neither direction nor size in the number.
pub const fn io(nr: u32) -> u32 {
    // ';' is the type byte that VFIO and IOMMUFD share.
    (b';' as u32) << 8 | nr
}
