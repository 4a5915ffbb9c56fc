//! Physical addresses without privileges: a privileged process asks the kernel on behalf of a driver.
//!
//! Without an IOMMU everything but one call works on descriptors that somebody else opened: `IOMMU_IOAS_NOIOMMU_GET_PA`
//! demands `CAP_SYS_RAWIO` each time. So whoever passes the descriptors on keeps a *translator*: a process with this
//! capability and the same IOMMUFD context that answers over a socket ([`serve`]). The driver has the other end
//! ([`Passed::translator`](crate::Passed::translator)) and asks there instead.
//!
//! # The protocol
//!
//! Packets on a Unix socket of type `SOCK_SEQPACKET`, in the byte order of the host. The translator first sends an answer whose tag is
//! 0, when it is ready. Then each request gets one answer, in order.
//!
//! | request, 32 bytes | | |
//! | --- | --- | --- |
//! | 0 | u32 | what is asked: 1, the physical address behind an IOVA |
//! | 4 | u32 | identifier of the IOAS |
//! | 8 | u64 | the IOVA |
//! | 16 | u64 | how far to look, in bytes |
//! | 24 | u64 | tag: any number, given back in the answer |
//!
//! | answer, 32 bytes | | |
//! | --- | --- | --- |
//! | 0 | u32 | the errno, or 0 |
//! | 4 | u32 | 0 |
//! | 8 | u64 | the physical address |
//! | 16 | u64 | bytes that are contiguous in physical memory from there on |
//! | 24 | u64 | the tag of the request |
//!
//! | errno | |
//! | --- | --- |
//! | `EMSGSIZE` | the request has not 32 bytes (the tag of the answer is 0) |
//! | `EOPNOTSUPP` | something else is asked |
//! | `EPERM` | the request is not from the process that the translator is for; a fork of it is another process |
//! | others | as the kernel answers the ioctl |
#![forbid(unsafe_code)]

mod client;
mod server;
mod wire;

pub(crate) use client::{NAME, Translator};
pub use server::{serve, wait_until_ready};

use uapi::Errno;

/// An error number of the host's kernel as ours.
fn errno(errno: rustix::io::Errno) -> Errno {
    Errno::from_raw(errno.raw_os_error()).unwrap_or(Errno::EIO)
}
