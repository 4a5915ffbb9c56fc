//! The driver's end of the socket.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::io::retry_on_intr;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use uapi::{Command, Errno, iommufd::IommuIoasNoiommuGetPa};
use zerocopy::{FromBytes, IntoBytes};

use super::errno;
use super::wire::{Answer, GET_PA, ROOM, Request, SIZE};
use crate::{Iova, PhysAddr};

/// What its refusals name as their object.
pub(crate) const NAME: &str = "the translator's socket";

/// Asks a translator.
pub(crate) struct Translator {
    socket: OwnedFd,
    /// The process that it is for. A fork holds the same socket, and would take away the answers of this one.
    process: u32,
    /// The tag of the last request; held from a request until its answer, since threads share the socket too.
    turn: Mutex<u64>,
}

impl Translator {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Translator { socket, process: std::process::id(), turn: Mutex::new(0) }
    }

    /// The physical address of an IOVA, and for how many bytes it goes on without a break.
    pub(crate) fn physical(&self, ioas: u32, iova: Iova, length: u64) -> sys::Result<(PhysAddr, u64)> {
        self.ask(ioas, iova.get(), length)
            .map(|answer| (PhysAddr::new(answer.address), answer.length))
            .map_err(|errno| sys::Error::new(IommuIoasNoiommuGetPa::NAME, NAME, errno))
    }

    fn ask(&self, ioas: u32, iova: u64, length: u64) -> Result<Answer, Errno> {
        if std::process::id() != self.process {
            return Err(Errno::EPERM);
        }
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        *turn += 1;
        let request = Request { what: GET_PA, ioas, iova, length, tag: *turn };
        retry_on_intr(|| send(&self.socket, request.as_bytes(), SendFlags::NOSIGNAL)).map_err(errno)?;
        let mut packet = [0; ROOM];
        loop {
            let (_, count) =
                retry_on_intr(|| recv(&self.socket, &mut packet, RecvFlags::empty())).map_err(errno)?;
            if count == 0 {
                return Err(Errno::EPIPE);
            }
            match Answer::read_from_bytes(&packet[..count.min(ROOM)]) {
                Ok(answer) if count == SIZE && answer.tag == request.tag => {
                    return match i32::try_from(answer.errno).ok().and_then(Errno::from_raw) {
                        None if answer.errno == 0 => Ok(answer),
                        refusal => Err(refusal.unwrap_or(Errno::EIO)),
                    };
                }
                // The answer to somebody else, or to a request that was given up.
                _ => {}
            }
        }
    }
}
