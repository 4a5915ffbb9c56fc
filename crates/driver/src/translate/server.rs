//! The privileged end of the socket.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recv, recvmsg, send, sockopt,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use sys::Sys;
use uapi::iommufd::IommuIoasNoiommuGetPa;
use zerocopy::IntoBytes;

use super::errno;
use super::wire::{Answer, ROOM, Request};

/// Is a translator: answers the process `client` over `socket`, out of the IOMMUFD context `iommufd`, until that process
/// ends or the other end of the socket is closed.
///
/// The calling process needs `CAP_SYS_RAWIO`, and nothing else. It reads packets of 32 bytes and trusts none of them; the kernel itself says
/// who sent each one. A client that does not take its answers is not served any longer.
///
/// # Errors
///
/// [`Refused`](crate::Error::Refused) by the system: there is no such process, or `socket` is no Unix socket.
pub fn serve<S: Sys>(sys: &S, iommufd: &S::File, socket: impl AsFd, client: u32) -> crate::Result<()> {
    let refused = |call| move |answer| refused(call, client, answer);
    let pid = i32::try_from(client).ok().and_then(Pid::from_raw).ok_or(refused("pidfd_open")(Errno::SRCH))?;
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(refused("pidfd_open"))?;
    sockopt::set_socket_passcred(&socket, true).map_err(refused("setsockopt"))?;
    reply(&socket, &Answer::READY).map_err(refused("send"))?;
    loop {
        let mut polled = [PollFd::new(&process, PollFlags::IN), PollFd::new(&socket, PollFlags::IN)];
        retry_on_intr(|| poll(&mut polled, None)).map_err(refused("poll"))?;
        if !polled[0].revents().is_empty() {
            return Ok(());
        }
        let mut packet = [0; ROOM];
        let Some((length, sender)) = receive(&socket, &mut packet).map_err(refused("recvmsg"))? else {
            return Ok(());
        };
        let answer = Answer::to(&packet[..length], sender == pid, |request| translate(sys, iommufd, request));
        match reply(&socket, &answer) {
            Err(Errno::PIPE | Errno::AGAIN) => return Ok(()),
            sent => sent.map_err(refused("send"))?,
        }
    }
}

/// Waits until the translator at the other end of a socket is ready: `false` if it ended before.
///
/// # Errors
///
/// [`Refused`](crate::Error::Refused) by the system: `socket` is no socket.
pub fn wait_until_ready(socket: impl AsFd) -> crate::Result<bool> {
    let mut packet = [0; ROOM];
    let received = retry_on_intr(|| recv(&socket, &mut packet, RecvFlags::empty()));
    match received {
        Ok((_, count)) => Ok(packet.get(..count) == Some(Answer::READY.as_bytes())),
        Err(Errno::CONNRESET) => Ok(false),
        Err(answer) => Err(refused("recv", std::process::id(), answer)),
    }
}

/// One packet: its length, [`ROOM`] if it is too long, and who sent it. `None` at the end.
fn receive(socket: impl AsFd, packet: &mut [u8; ROOM]) -> Result<Option<(usize, Pid)>, Errno> {
    // There is no room for descriptors, so that the kernel drops those that come along.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = retry_on_intr(|| recvmsg(&socket, &mut [IoSliceMut::new(packet)], &mut ancillary, flags))?;
    // Every packet has a sender, an empty one too; the end has none.
    let sender = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid),
        _ => None,
    });
    Ok(sender.map(|sender| (received.bytes, sender)))
}

/// Never waits: the socket has room for the answers of a client that asks one thing at a time.
fn reply(socket: impl AsFd, answer: &Answer) -> Result<(), Errno> {
    retry_on_intr(|| send(&socket, answer.as_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL)).map(drop)
}

fn translate<S: Sys>(sys: &S, iommufd: &S::File, request: &Request) -> Result<(u64, u64), uapi::Errno> {
    use uapi::Command as _;
    let &Request { ioas: ioas_id, iova, length, .. } = request;
    let mut argument = IommuIoasNoiommuGetPa { ioas_id, iova, length, ..IommuIoasNoiommuGetPa::new() };
    match sys.ioctl(iommufd, &mut argument) {
        Ok(_) => Ok((argument.out_phys, argument.length)),
        Err(refusal) => Err(refusal.errno()),
    }
}

fn refused(call: &'static str, client: u32, answer: Errno) -> crate::Error {
    let refusal = sys::Error::new(call, format_args!("process {client}"), errno(answer));
    crate::Error::Refused { attempt: "cannot translate addresses for another process".to_owned(), refusal }
}
