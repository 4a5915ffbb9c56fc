//! What the argument structures of ioctls have in common.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A structure that is the argument of one ioctl.
pub trait Command: FromBytes + IntoBytes + Immutable + KnownLayout {
    /// The number passed to `ioctl(2)`.
    const OPCODE: u32;

    /// The C name of the ioctl, for example `"IOMMU_IOAS_MAP"`.
    const NAME: &'static str;

    /// The least size in bytes that the kernel accepts in the leading `argsz` or `size` field.
    ///
    /// A smaller size is refused with `EINVAL`. For VFIO this is the common minimum of S1 (or S2
    /// for the bind), without what single flags add; for IOMMUFD that of S3. See the three size
    /// rules in the crate documentation.
    const MIN_SIZE: usize;

    /// A zeroed argument whose leading field states the full size of the structure.
    fn new() -> Self;

    /// The size in bytes that the leading field states.
    ///
    /// The kernel trusts it: where it exceeds the buffer, the kernel may read and write behind the
    /// buffer. Compare the two before the call.
    fn stated_size(&self) -> usize;
}

/// A command that touches no memory of the process but its own argument.
///
/// The kernel reads and writes nothing but the bytes of the argument itself (a variable tail in
/// the same buffer included), and the call cannot make memory of the calling process unsafe to
/// use. This holds on two conditions that the caller has to see to: [`Command::stated_size`] is not
/// more than the length of the buffer, and the file is one of VFIO or IOMMUFD. A file of the wrong
/// kind among these may take the number for another command, but writes within the stated size even
/// so; at most the kernel reads some bytes behind a short argument before it refuses it.
///
/// No other crate can implement the trait: it could promise what is not so.
///
/// Left out, because the argument holds or may hold an address of the process that the kernel then
/// reads or writes:
///
/// - `VfioDeviceBindIommufd` (token), `VfioDeviceFeature` (the payloads of DMA logging and of the
///   s390 error), `VfioIommuType1DmaUnmap` and `VfioIommuType1DirtyBitmap` (dirty bitmap in the tail)
/// - `IommuIoasIovaRanges`, `IommuIoasAllowIovas`, `IommuHwInfo`, `IommuHwptAlloc`,
///   `IommuHwptGetDirtyBitmap`, `IommuHwptInvalidate`, `IommuViommuAlloc`
/// - `IommuTestCmd` (what is checked, read and written)
/// - `VfioDeviceGfxPlaneInfo` (a container takes it for an unmap, with a dirty bitmap in the tail)
///
/// Left out, because the kernel does not hold the tail against the stated size:
///
/// - `VfioPciHotReset` (`count` alone says how many file descriptors follow)
///
/// Left out, because the call hands memory to a device or to the kernel, or widens who reaches it:
///
/// - `VfioIommuType1DmaMap`, `VfioIommuSpaprRegisterMemory`, `IommuIoasMap`, `IommuIoasMapFile` (the
///   memory of the file may be mapped here too), `IommuIoasCopy`, `IommuHwQueueAlloc` (a queue in
///   mapped memory that hardware then works on)
///
/// Included are the commands that let a device at memory which an earlier map call has given away
/// (attach), and those that take memory back (unmap, destroy): who maps memory vouches for it under
/// each device that the address space may serve, so nothing is added here.
pub trait SelfContained: Command + Sealed {}

/// Keeps [`SelfContained`] to this crate.
pub trait Sealed {}
