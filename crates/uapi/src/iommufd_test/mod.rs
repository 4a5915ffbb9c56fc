//! The interface of `drivers/iommu/iommufd/iommufd_test.h`: the ioctl by which the kernel's self-tests of IOMMUFD make
//! devices and an IOMMU for themselves. Only a kernel that is built with `IOMMUFD_TEST` knows it.

mod command;
mod data;

pub use command::*;
pub use data::*;

use crate::table::{Constant, Struct};

/// The structures of each file.
pub(crate) const STRUCTS: &[&[Struct]] = &[command::STRUCTS, data::STRUCTS];

/// The numeric constants of each file.
pub(crate) const CONSTANTS: &[&[Constant]] = &[command::CONSTANTS, data::CONSTANTS];
