//! How a device is opened.
#![forbid(unsafe_code)]

use crate::Mode;

/// How a device is opened. The default takes no device without an IOMMU and records no trace.
///
/// ```
/// let options = ioasis::Options::new().allow_noiommu(true).trace(true);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub(crate) allow_noiommu: bool,
    pub(crate) mode: Option<Mode>,
    pub(crate) trace: bool,
    pub(crate) passed: bool,
}

impl Options {
    /// The default.
    #[must_use]
    pub const fn new() -> Self {
        Options { allow_noiommu: false, mode: None, trace: false, passed: false }
    }

    /// Whether a device without an IOMMU may be taken.
    ///
    /// Such a device reaches all of physical memory. A driver that tells it a wrong address, or takes memory back while
    /// the device still writes to it, overwrites whatever is there, be it the kernel. Say `true` only where that
    /// is understood.
    #[must_use]
    pub const fn allow_noiommu(mut self, allow: bool) -> Self {
        self.allow_noiommu = allow;
        self
    }

    /// The one mode that may be taken, where the best one is not wanted. It is an error if the host does not offer it. One
    /// without an IOMMU has to be allowed even so.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Whether [`Device::open`](crate::Device::open) takes over the descriptors that were passed to this process
    /// ([`Passed`](crate::Passed)) where they are of the device that it is to open. Only for [`Linux`](crate::Linux).
    #[must_use]
    pub const fn passed(mut self, passed: bool) -> Self {
        self.passed = passed;
        self
    }

    /// Whether each call is recorded for [`Device::trace`](crate::Device::trace).
    #[must_use]
    pub const fn trace(mut self, trace: bool) -> Self {
        self.trace = trace;
        self
    }
}
