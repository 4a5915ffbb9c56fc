//! Processes that have one machine: those that a program has made by `fork`, with itself.
//!
//! After a fork, parent and child go on with a copy of the machine each, at no cost. The parent's is the right one: it has it to itself until
//! a child makes its first call. Then the parent makes a *keeper*, a process without a program, which has the machine from then on; all
//! others are its clients, and each call of theirs goes to it by a socket (`client`, `keeper`, `wire`).
//!
//! All of them know one name, which whoever has the machine is found by: of a socket, that the kernel gives to one process at a time and
//! takes back when that ends. Where nobody has it, the parent has ended, and the first child to come takes the name, with its own copy.

mod client;
mod hidden;
mod keeper;
mod name;
mod service;
mod wire;

use std::ops::Range;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use machine::PinCounts;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::call::{Answer, Refused, Request};
use crate::fork;
use crate::report::Kind;
use crate::state::{self, State};

pub(crate) use hidden::{give_back, handle as handle_call, set_up};
use name::Name;

/// What this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Seat {
    /// It has the machine.
    Owner = 0,
    /// A child that has not made a call on it yet.
    Fresh = 1,
    /// It has calls made by the keeper.
    Client = 2,
}

static SEAT: AtomicU8 = AtomicU8::new(Seat::Owner as u8);
/// The family that this process is of, once it has forked with files of the machine open, or was made so.
static FAMILY: Mutex<Option<Family>> = Mutex::new(None);
/// Whether the machine may be another one than at the first of the forks whose children have not come yet.
static CHANGED: AtomicBool = AtomicBool::new(false);

/// A family.
#[derive(Debug)]
struct Family {
    name: Name,
    /// Of a pipe: each member has it open, so that it is known whether there are any.
    member: Option<OwnedFd>,
    /// What the keeper has pinned of each.
    counts: PinCounts,
    /// What the owner has besides.
    owned: Option<Owned>,
}

/// What the one has who has the machine.
#[derive(Debug)]
struct Owned {
    /// Where the others come to.
    listeners: Vec<OwnedFd>,
    /// The other end of the pipe.
    members: OwnedFd,
    /// Whether a thread waits for the others.
    is_served: bool,
}

fn seat() -> Seat {
    match SEAT.load(Ordering::Acquire) {
        0 => Seat::Owner,
        1 => Seat::Fresh,
        _ => Seat::Client,
    }
}

fn sit(seat: Seat) {
    SEAT.store(seat as u8, Ordering::Release);
}

fn family() -> MutexGuard<'static, Option<Family>> {
    FAMILY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A descriptor under a high number, where programs have none of theirs.
fn high(descriptor: OwnedFd) -> OwnedFd {
    rustix::io::fcntl_dupfd_cloexec(&descriptor, 900).unwrap_or(descriptor)
}

impl Family {
    /// A new one, whose owner this process is.
    fn found(name: Name, member: Option<OwnedFd>, counts: PinCounts) -> Result<Self, Errno> {
        let listeners = name.listen()?.into_iter().map(high).collect();
        let (members, member) = match member {
            None => rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?,
            // What was the other end was the former owner's.
            Some(member) => {
                let path = format!("/proc/self/fd/{}", member.as_raw_fd());
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                (rustix::fs::open(path, flags, Mode::empty())?, member)
            }
        };
        let owned = Owned { listeners, members: high(members), is_served: false };
        Ok(Family { name, member: Some(high(member)), counts, owned: Some(owned) })
    }

    /// Whether there are others in it, now that this process, its owner, ends.
    fn has_others(&mut self) -> bool {
        self.member = None;
        self.owned.as_ref().is_some_and(|owned| !is_hung_up(&owned.members))
    }
}

/// Before a fork: the child is to find the machine, if it has files of it.
pub(crate) fn before_fork(state: &State) {
    if seat() != Seat::Owner || !state.machine.has_bare_files() {
        return;
    }
    let mut family = family();
    if family.is_none() {
        let new =
            PinCounts::new().and_then(|counts| Family::found(Name::new(&state.settings.root), None, counts));
        match new {
            Ok(founded) => *family = Some(founded),
            Err(error) => state.settings.report.tell(
                Kind::Trouble,
                format_args!(
                    "a child has a machine of its own: cannot have a socket and a pipe for it: {error}"
                ),
            ),
        }
        CHANGED.store(false, Ordering::Relaxed);
    }
}

/// After it, in the parent.
pub(crate) fn in_parent(state: &'static State) {
    let mut family = family();
    if let Some(Family { owned: Some(owned), .. }) = &mut *family
        && !owned.is_served
    {
        owned.is_served = service::start(state, &owned.listeners);
    }
}

/// And in the child. Whether it has a family.
pub(crate) fn in_child(shares_files: bool) -> bool {
    // Connections are the parent's, and so is what the owner has. What both have open is not closed.
    let connections = client::take_connections();
    let mut family = family();
    let owned = family.as_mut().and_then(|family| family.owned.take());
    if shares_files {
        std::mem::forget((connections, owned));
    }
    if family.is_none() {
        return false;
    }
    if seat() == Seat::Owner {
        sit(Seat::Fresh);
    }
    true
}

/// Whether this process has the machine, or a copy that may become it.
pub(crate) fn has_machine() -> bool {
    seat() == Seat::Owner
}

/// Makes a call of this process.
pub(crate) fn ask(state: &State, request: &Request<'_>) -> Result<Answer, Refused> {
    loop {
        match seat() {
            Seat::Owner => {
                let answer = state.make(&state.machine, request);
                // From a look at something nothing follows.
                if !matches!(request, Request::LookUp { .. } | Request::PathOf(_)) {
                    CHANGED.store(true, Ordering::Relaxed);
                    state.settle();
                }
                return answer;
            }
            Seat::Fresh => {
                if let Some(answer) = ask_copy(state, request) {
                    return answer;
                }
                join(state)?;
            }
            Seat::Client => {
                let name = family().as_ref().map(|family| family.name.clone()).ok_or(libc::EIO)?;
                let ask = || client::ask(&name, &state.settings.report, request.clone());
                return match request {
                    Request::PathOf(file) => client::path_of(*file, ask),
                    _ => ask(),
                };
            }
        }
    }
}

/// What a child need not ask the owner for: most children look at some paths, close what they have, and start a program.
fn ask_copy(state: &State, request: &Request<'_>) -> Option<Result<Answer, Refused>> {
    match request {
        Request::LookUp { path, .. } => {
            let found = state.make(&state.machine, request);
            let beside = || {
                let parent = path.iter().rposition(|byte| *byte == b'/').map(|at| &path[..at]);
                let parent = parent.filter(|parent| *parent != b"/dev");
                let look = |path| state.make(&state.machine, &Request::LookUp { path, follow: true });
                parent.is_some_and(|parent| look(parent).is_ok())
            };
            // What is not there may have come since, in a directory of the machine.
            if found.is_ok() || !beside() { Some(found) } else { None }
        }
        Request::PathOf(_) => Some(state.make(&state.machine, request)).filter(Result::is_ok),
        Request::Mapped(_) | Request::Closed => Some(Ok(Answer::Done)),
        Request::Turn => Some(Ok(Answer::Turn(None))),
        _ => None,
    }
}

/// The first call of a child: it becomes a client of the keeper, or the owner if there is none any more.
fn join(state: &State) -> Result<(), Refused> {
    let mut family = family();
    if seat() != Seat::Fresh {
        return Ok(());
    }
    let refused = |error: Errno| {
        let words = format_args!("cannot reach the machine of the process that forked: {error}");
        state.settings.report.tell(Kind::Trouble, words);
        libc::EIO
    };
    let (name, counts) =
        family.as_ref().map(|family| (family.name.clone(), family.counts)).ok_or(libc::EIO)?;
    loop {
        if client::join(&name, state.traps.regions()).map_err(refused)?.is_some() {
            sit(Seat::Client);
            break;
        }
        // Nobody has the name: whoever takes it first has the machine.
        let member = family.as_ref().and_then(|family| family.member.as_ref()?.try_clone().ok());
        match Family::found(name.clone(), member, counts) {
            Ok(founded) => {
                *family = Some(founded);
                sit(Seat::Owner);
                if let Some(Family { owned: Some(owned), .. }) = &mut *family
                    && let Some(state) = state::existing()
                {
                    owned.is_served = service::start(state, &owned.listeners);
                    fork::start_threads(state);
                }
                break;
            }
            Err(Errno::ADDRINUSE) => {}
            Err(error) => return Err(refused(error)),
        }
    }
    drop(family);
    state.used_by_child();
    Ok(())
}

/// Whether devices may have memory of this process at some addresses.
pub(crate) fn has_pinned(state: &State, addresses: &Range<u64>) -> bool {
    match seat() {
        Seat::Owner => state.machine.has_pinned(addresses),
        // What is pinned is the parent's.
        Seat::Fresh => false,
        Seat::Client => client::number().is_some_and(|number| {
            family().as_ref().is_some_and(|family| family.counts.may_have(number, addresses))
        }),
    }
}

/// Moves memory of this process that devices have by `go`, which answers where it is then.
pub(crate) fn follow(
    state: &State,
    from: &Range<u64>,
    go: impl FnOnce() -> Result<u64, Refused>,
) -> Result<u64, Refused> {
    let name = family().as_ref().map(|family| family.name.clone());
    match name.filter(|_| seat() == Seat::Client) {
        Some(name) => client::follow(&name, from, go),
        None => {
            CHANGED.store(true, Ordering::Relaxed);
            state.machine.follow(from, go)
        }
    }
}

/// This process ends in an orderly way. Its memory stays with devices, and the machine with its children.
pub(crate) fn leave() {
    let Some(state) = state::existing() else { return };
    match seat() {
        Seat::Owner if CHANGED.load(Ordering::Relaxed) => service::hand_over(state),
        Seat::Owner | Seat::Fresh | Seat::Client => {}
    }
    let name = family().as_ref().map(|family| family.name.clone());
    if let Some(name) = name.filter(|_| seat() == Seat::Client) {
        client::leave(&name);
    }
}

/// Whether nobody has the other end of a pipe any more, or it is closed itself.
fn is_hung_up(pipe: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pipe, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().intersects(PollFlags::HUP | PollFlags::NVAL)
}
