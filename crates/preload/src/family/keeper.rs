//! The keeper of a machine: a process that was made by a fork of the program's, runs none of its code, and makes the calls of all that have the
//! machine. It ends when there are none any more.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, IntoRawFd as _, OwnedFd, RawFd};
use std::panic::RefUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use machine::{Fate, GiveDescriptor, Machine, Process, kept_descriptors};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{SocketFlags, UCred, accept_with};
use rustix::process::Pid;

use super::wire::{Connection, ToClient, ToKeeper};
use super::{Family, Owned, family, is_hung_up};
use crate::call::{Answer, Refused, Request};
use crate::descriptors;
use crate::fork;
use crate::inside::{Inside, let_in_child};
use crate::raw::raw;
use crate::signals;
use crate::state::State;

struct Keeper {
    state: &'static State,
    /// The processes that the machine is kept for, by number, with how many connections each has.
    clients: Mutex<HashMap<Pid, (Process, usize)>>,
    /// Those whose calls are being made, once for each call.
    calling: Mutex<Vec<Process>>,
    members: OwnedFd,
}

/// How long a process may take between the end of its connection and that of its descriptors; and its calls, after its own end: one that
/// waits for something may take for ever.
const LINGER: [u64; 6] = [0, 1, 4, 16, 64, 256];

/// Becomes the keeper of the machine of the process that has forked this one.
pub(super) fn keep(state: &'static State, owner: Pid) -> ! {
    // None of the threads is here that were kept out. What this one calls is for the host.
    let_in_child();
    std::mem::forget(Inside::enter());
    let Some(Family { owned: Some(owned), counts, .. }) = family().take() else { end() };
    let Owned { listeners, members, .. } = owned;
    become_a_process_of_its_own(state, listeners.iter().chain([&members]));
    let process = match state.machine.keep_for(owner, counts) {
        Ok(process) => process,
        // It has been killed.
        Err(_) => end(),
    };
    let clients = Mutex::new(HashMap::from([(owner, (process, 0))]));
    let keeper: &'static Keeper =
        Box::leak(Box::new(Keeper { state, clients, calling: Mutex::default(), members }));
    fork::start_threads(state);
    keeper.serve_all(&listeners)
}

fn end() -> ! {
    loop {
        // SAFETY: nothing of the program is to run.
        let _ended = unsafe { raw!(SYS_exit_group, 0) };
    }
}

/// Nothing of the program is left but its memory: no descriptor, no registers, no terminal.
fn become_a_process_of_its_own<'a>(state: &State, ours: impl Iterator<Item = &'a OwnedFd>) {
    let _own_session = rustix::process::setsid();
    let _named = rustix::thread::set_name(c"ioasis-keeper");
    let mut kept = kept_descriptors();
    kept.extend(ours.map(|descriptor| descriptor.as_raw_fd()));
    kept.push(state.settings.report.number());
    kept.sort_unstable();
    let mut first = 0;
    for number in kept.into_iter().chain([RawFd::MAX]) {
        if first < number {
            // SAFETY: they are the program's, which does not run here.
            let _closed = unsafe { raw!(SYS_close_range, first, number - 1, 0) };
        }
        first = first.max(number.saturating_add(1));
    }
    // A mapping of registers is one of its file, which it would keep open.
    for (addresses, _) in state.traps.regions() {
        // SAFETY: the program's too; nobody can reach them.
        let _unmapped = unsafe { raw!(SYS_munmap, addresses.start, addresses.end - addresses.start) };
    }
    // Whoever writes to one of these does not write to something else.
    while let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()) {
        if null.as_raw_fd() > 2 {
            break;
        }
        let _stays = null.into_raw_fd();
    }
    descriptors::forget();
}

impl Keeper {
    fn clients(&self) -> MutexGuard<'_, HashMap<Pid, (Process, usize)>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calling(&self) -> MutexGuard<'_, Vec<Process>> {
        self.calling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call of a process.
    fn make(&self, process: &Process, machine: &Machine, request: &Request<'_>) -> Result<Answer, Refused> {
        if let Request::Open { .. } = request {
            self.let_the_ended_go();
        }
        self.calling().push(process.clone());
        let answer = self.state.make(machine, request);
        let mut calling = self.calling();
        if let Some(at) = calling.iter().position(|calling| calling.number() == process.number()) {
            calling.swap_remove(at);
        }
        answer
    }

    /// Waits for the calls of processes that have ended: while one of them reads its process's memory, the registers that were mapped there are
    /// mapped still, and their file is open. Who has waited for the end of the process opens it again.
    fn let_the_ended_go(&self) {
        for milliseconds in LINGER {
            if !self.calling().iter().any(Process::is_over) {
                return;
            }
            thread::sleep(Duration::from_millis(milliseconds));
        }
    }

    /// Lets others in until there are no members of the family any more.
    fn serve_all(&'static self, listeners: &[OwnedFd]) -> ! {
        loop {
            let mut polled: Vec<_> =
                listeners.iter().map(|listener| PollFd::new(listener, PollFlags::IN)).collect();
            polled.push(PollFd::new(&self.members, PollFlags::empty()));
            let _waited = poll(&mut polled, None);
            let mut comes = listeners
                .iter()
                .zip(&polled)
                .filter(|(_, polled)| polled.revents().contains(PollFlags::IN))
                .peekable();
            if comes.peek().is_none() && is_hung_up(&self.members) {
                self.end_if_alone();
                // Connections are left, of processes that have closed all that they could.
                thread::sleep(Duration::from_millis(10));
            }
            for (listener, _) in comes {
                if let Ok(socket) = accept_with(listener, SocketFlags::CLOEXEC) {
                    // Without a thread, the process finds that the machine is gone.
                    let _started = signals::with_faults_let_in(|| {
                        thread::Builder::new().spawn(move || self.serve(socket))
                    });
                }
            }
        }
    }

    fn end_if_alone(&self) {
        let clients = self.clients();
        if is_hung_up(&self.members) && clients.values().all(|(_, connections)| *connections == 0) {
            end();
        }
    }

    /// Makes the calls of a thread of some process at a time, until that has no more.
    fn serve(&'static self, socket: OwnedFd) {
        // What this thread calls is for the host.
        std::mem::forget(Inside::enter());
        let Ok(peer) = socket_peercred(&socket) else { return };
        let own = rustix::process::getuid();
        if peer.uid != own && !peer.uid.is_root() && !own.is_root() {
            return;
        }
        let Ok(process) = self.arrived(&peer) else { return };
        // However it ends, there are no more.
        let _over = self.converse(&process, socket);
        if self.is_last_of(peer.pid) {
            self.left(&process);
        }
        self.end_if_alone();
    }

    /// A process has one more connection.
    fn arrived(&self, peer: &UCred) -> Result<Process, Errno> {
        let mut clients = self.clients();
        let (process, connections) = match clients.entry(peer.pid) {
            Entry::Occupied(mut known) => {
                // Another one may have the number of one that has ended.
                if known.get().0.is_over() {
                    *known.get_mut() = (self.state.machine.admit(peer.pid, peer.uid)?, 0);
                }
                known.into_mut()
            }
            Entry::Vacant(new) => new.insert((self.state.machine.admit(peer.pid, peer.uid)?, 0)),
        };
        *connections += 1;
        Ok(process.clone())
    }

    /// A process has one connection less. Whether it has none any more.
    fn is_last_of(&self, pid: Pid) -> bool {
        let mut clients = self.clients();
        let Some((_, connections)) = clients.get_mut(&pid) else { return false };
        *connections -= 1;
        let is_last = *connections == 0;
        if is_last {
            clients.remove(&pid);
        }
        is_last
    }

    /// A process has ended, or started another program: its descriptors are closed at about the same time.
    fn left(&self, process: &Process) {
        self.state.machine.leave(process);
        for milliseconds in LINGER {
            thread::sleep(Duration::from_millis(milliseconds));
            let is_over = process.is_over();
            self.state.machine.release_closed();
            self.state.settle();
            if is_over {
                break;
            }
        }
    }

    fn converse(&self, process: &Process, socket: OwnedFd) -> Result<(), Errno> {
        let connection = Arc::new(Mutex::new(Connection::new(socket)));
        let say = |words: &ToClient, beside: Option<BorrowedFd<'_>>| lock(&connection).send(words, beside);
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        say(&ToClient::Keeper { pid, client: process.number() }, None)?;
        let giver = Arc::new(Giver(Arc::clone(&connection)));
        let for_thread = |thread| self.state.machine.on_behalf_of(process, thread, giver.clone());
        let make = |thread, request: &Request<'_>| self.make(process, &for_thread(thread), request);
        let mut bytes = Vec::new();
        loop {
            let (words, _) = lock(&connection).receive(&mut bytes)?;
            let answer = match words {
                ToKeeper::Hello(mapped) => {
                    let _known = make(0, &Request::Mapped(mapped));
                    self.state.settle();
                    continue;
                }
                ToKeeper::Call { thread, request } => make(thread, &request),
                ToKeeper::Leaving => {
                    make(0, &Request::Unmapping { range: 0..u64::MAX, fate: Fate::Unmapped })
                }
                ToKeeper::Moving(range) => {
                    // What is refused has not moved.
                    let _moved = for_thread(0).follow(&range, || move_memory(&connection));
                    Ok(Answer::Done)
                }
                ToKeeper::Given(_) | ToKeeper::Moved(_) => return Err(Errno::PROTO),
            };
            self.state.settle();
            match answer {
                Ok(Answer::Descriptor(descriptor)) => {
                    say(&ToClient::Opened, Some(descriptor.as_fd()))?;
                }
                answer => say(&ToClient::Answer(answer), None)?,
            }
        }
    }
}

fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has a client move its memory, which no device has meanwhile.
fn move_memory(connection: &Mutex<Connection>) -> Result<u64, Refused> {
    let mut connection = lock(connection);
    let gone = |_| libc::EIO;
    connection.send(&ToClient::Move, None).map_err(gone)?;
    match connection.receive(&mut Vec::new()).map_err(gone)? {
        (ToKeeper::Moved(moved), _) => moved,
        _ => Err(libc::EIO),
    }
}

/// Gives a client descriptors, in the middle of a call.
struct Giver(Arc<Mutex<Connection>>);

impl RefUnwindSafe for Giver {}

impl GiveDescriptor for Giver {
    fn give(&self, descriptor: OwnedFd) -> Result<i32, uapi::Errno> {
        let mut connection = lock(&self.0);
        let gone = |_| uapi::Errno::EMFILE;
        connection.send(&ToClient::Give, Some(descriptor.as_fd())).map_err(gone)?;
        let mut bytes = Vec::new();
        match connection.receive(&mut bytes).map_err(gone)? {
            (ToKeeper::Given(Ok(number)), _) => Ok(number),
            _ => Err(uapi::Errno::EMFILE),
        }
    }

    fn take_back(&self, number: i32) {
        // A client that is gone has closed it.
        let _sent = lock(&self.0).send(&ToClient::TakeBack(number), None);
    }
}
