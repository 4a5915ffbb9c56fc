//! The owner of a machine, who waits for others to come: then a keeper is made, and the owner is a client as they are.

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::getpid;

use super::{Family, Seat, client, family, hidden, keeper, seat, sit};
use crate::fork;
use crate::inside::{keep_out, let_in};
use crate::report::Kind;
use crate::signals;
use crate::state::State;

/// Starts the thread that waits. Whether it has started.
pub(super) fn start(state: &'static State, listeners: &[OwnedFd]) -> bool {
    let listeners: Vec<RawFd> = listeners.iter().map(|listener| listener.as_raw_fd()).collect();
    // It runs no handler of the program.
    let started = signals::with_all_but_ours_blocked(|| {
        thread::Builder::new().name("ioasis".to_owned()).spawn(move || serve(state, &listeners))
    });
    if let Err(error) = &started {
        let words =
            format_args!("children have no machine: cannot start a thread that waits for them: {error}");
        state.settings.report.tell(Kind::Trouble, words);
    }
    started.is_ok()
}

fn serve(state: &'static State, listeners: &[RawFd]) {
    loop {
        // SAFETY: the family has them open for as long as this process is its owner, which only this thread ends.
        let opened = listeners.iter().map(|listener| unsafe { BorrowedFd::borrow_raw(*listener) });
        let mut polled: Vec<_> =
            opened.map(|listener| PollFd::from_borrowed_fd(listener, PollFlags::IN)).collect();
        match poll(&mut polled, None) {
            Ok(_) if polled.iter().any(|polled| polled.revents().contains(PollFlags::IN)) => break,
            Err(Errno::INTR) => {}
            // The program has closed whatever was open.
            Ok(_) | Err(_) => return,
        }
    }
    keep_out();
    if seat() == Seat::Owner {
        step_back(state);
    }
    let_in();
}

/// The process ends. If others may come, they are to find the machine as it is now.
pub(super) fn hand_over(state: &'static State) {
    keep_out();
    let has_others = family().as_mut().is_some_and(Family::has_others);
    if seat() == Seat::Owner && has_others {
        step_back(state);
    }
    let_in();
}

/// Makes the keeper. Nobody else is inside.
fn step_back(state: &'static State) {
    state.machine.stop_threads();
    let own = getpid();
    match hidden::fork() {
        Ok(0) => keeper::keep(state, own),
        Ok(_) => {
            let mut family = family();
            if let Some(family) = &mut *family {
                family.owned = None;
                sit(Seat::Client);
                // Known to the keeper from now on: it sees when this process ends.
                if let Err(error) = client::join(&family.name, state.traps.regions()) {
                    state
                        .settings
                        .report
                        .tell(Kind::Trouble, format_args!("the keeper does not answer: {error}"));
                }
            }
        }
        Err(errno) => {
            let error = std::io::Error::from_raw_os_error(errno);
            let words = format_args!(
                "children have machines of their own: cannot fork a process that keeps one for all: {error}"
            );
            state.settings.report.tell(Kind::Trouble, words);
            if let Some(family) = &mut *family() {
                family.owned = None;
            }
            fork::start_threads(state);
        }
    }
}
