//! A list of everything that the crate defines, for tests and for printing.

use crate::{iommufd, iommufd_test, vfio};

/// One structure.
#[derive(Clone, Copy, Debug)]
pub struct Struct {
    /// Name of the Rust type.
    pub name: &'static str,
    /// Size in bytes.
    pub size: usize,
    /// Fields in the order of their definition, without gaps.
    pub fields: &'static [Field],
}

/// One field of a structure.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name of the Rust field.
    pub name: &'static str,
    /// Distance from the start of the structure in bytes.
    pub offset: usize,
    /// Size in bytes.
    pub size: usize,
}

/// One numeric constant or ioctl number.
#[derive(Clone, Copy, Debug)]
pub struct Constant {
    /// Name, which is the C name too.
    pub name: &'static str,
    /// Value, widened with zeros.
    pub value: u64,
    /// Width of the Rust type in bits: 32 or 64.
    pub bits: u32,
}

/// One text constant.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// Name, which is the C name too.
    pub name: &'static str,
    /// Value, without a final NUL.
    pub value: &'static str,
}

/// All structures.
pub fn structs() -> impl Iterator<Item = &'static Struct> {
    vfio::STRUCTS.iter().chain(iommufd::STRUCTS).chain(iommufd_test::STRUCTS).copied().flatten()
}

/// All numeric constants and ioctl numbers.
pub fn constants() -> impl Iterator<Item = &'static Constant> {
    vfio::CONSTANTS.iter().chain(iommufd::CONSTANTS).chain(iommufd_test::CONSTANTS).copied().flatten()
}

/// All text constants.
pub fn texts() -> impl Iterator<Item = &'static Text> {
    vfio::TEXTS.iter()
}
