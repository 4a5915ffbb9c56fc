//! What the keeper of a machine and its clients say to each other: messages behind their lengths, on a connection of a socket, with a
//! descriptor beside where one is passed.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use machine::BareRegion;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::call::{Answer, Refused, Request};

/// What a client says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToKeeper<'a> {
    /// The first words on a connection: where the process has mapped BARs.
    Hello(Vec<(Range<u64>, BareRegion)>),
    /// A call of a thread.
    Call {
        thread: i32,
        #[serde(borrow)]
        request: Request<'a>,
    },
    /// The number that a descriptor has got.
    Given(Result<i32, Refused>),
    /// The process ends: what devices have of its memory is to be copied.
    Leaving,
    /// The process moves memory, once it is told to.
    Moving(Range<u64>),
    /// It has, and this is where it starts now.
    Moved(Result<u64, Refused>),
}

/// What the keeper says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToClient {
    /// The first words on a connection: which process reaches the client's memory and descriptors, and the client's number among
    /// the processes that it keeps the machine for.
    Keeper { pid: i32, client: u32 },
    /// The answer of a call.
    Answer(Result<Answer, Refused>),
    /// The answer of a call that opens something; the descriptor is beside.
    Opened,
    /// A descriptor is beside, of which the number is asked for.
    Give,
    /// A descriptor is to be closed again.
    TakeBack(i32),
    /// No device has the memory that is to be moved.
    Move,
}

/// The longest message: the bytes of a call on a file, and some more.
const LONGEST: usize = (1 << 20) + (1 << 12);

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    /// What was received, and not read yet.
    received: Vec<u8>,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Connection { socket, received: Vec::new() }
    }

    /// Sends a message, with a descriptor beside.
    pub(super) fn send(&self, message: &impl Serialize, beside: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let mut bytes = vec![0; size_of::<u32>()];
        bytes = postcard::to_extend(message, bytes).map_err(|_| Errno::INVAL)?;
        let length = (bytes.len() - size_of::<u32>()) as u32;
        bytes[..size_of::<u32>()].copy_from_slice(&length.to_ne_bytes());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = beside.map(|descriptor| [descriptor]);
        if let Some(descriptors) = &descriptors {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let mut rest = &*bytes;
        while !rest.is_empty() {
            match sendmsg(&self.socket, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    rest = &rest[count..];
                    control.clear();
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Receives a message, into the bytes that it borrows from, and the descriptor beside it.
    pub(super) fn receive<'a, M: Deserialize<'a>>(
        &mut self,
        bytes: &'a mut Vec<u8>,
    ) -> Result<(M, Option<OwnedFd>), Errno> {
        let mut beside = None;
        self.fill(size_of::<u32>(), &mut beside)?;
        let mut length = [0; size_of::<u32>()];
        length.copy_from_slice(&self.received[..size_of::<u32>()]);
        let length = u32::from_ne_bytes(length) as usize;
        if length > LONGEST {
            return Err(Errno::PROTO);
        }
        self.fill(size_of::<u32>() + length, &mut beside)?;
        bytes.clear();
        bytes.extend(self.received.drain(..size_of::<u32>() + length).skip(size_of::<u32>()));
        let message = postcard::from_bytes(bytes).map_err(|_| Errno::PROTO)?;
        Ok((message, beside))
    }

    /// Receives until so many bytes are there. Each side waits for the other, so that nothing of a later message comes along.
    fn fill(&mut self, wanted: usize, beside: &mut Option<OwnedFd>) -> Result<(), Errno> {
        let mut piece = [0; 1 << 12];
        while self.received.len() < wanted {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let buffers = &mut [IoSliceMut::new(&mut piece)];
            match recvmsg(&self.socket, buffers, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) if received.bytes == 0 => return Err(Errno::CONNRESET),
                Ok(received) => self.received.extend_from_slice(&piece[..received.bytes]),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            }
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    *beside = descriptors.last().or(beside.take());
                }
            }
        }
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
