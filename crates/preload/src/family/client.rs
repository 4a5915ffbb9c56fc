//! A process whose machine the keeper has: each call goes to it by a connection, of which there are as many as calls at a time.

use std::collections::HashMap;
use std::ffi::c_int;
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use machine::{BareRegion, FileKey};
use rustix::io::Errno;

use super::wire::{Connection, ToClient, ToKeeper};
use super::{Name, high};
use crate::call::{Answer, Refused, Request};
use crate::raw::raw;
use crate::report::{Kind, Report};

/// Connections that no call is under way on.
static IDLE: Mutex<Vec<Connection>> = Mutex::new(Vec::new());
/// The paths of files.
static PATHS: LazyLock<Mutex<HashMap<FileKey, Vec<u8>>>> = LazyLock::new(Mutex::default);
/// Of how many at most.
const REMEMBERED: usize = 1 << 10;
/// Whether it was told that the keeper is gone.
static TOLD: AtomicBool = AtomicBool::new(false);

/// Connects this process, with what it has mapped. `None` if nobody has the machine.
pub(super) fn join(
    name: &Name,
    mapped: Vec<(std::ops::Range<u64>, BareRegion)>,
) -> Result<Option<()>, Errno> {
    let connected = match connect(name) {
        Err(Errno::CONNREFUSED | Errno::CONNRESET) => return Ok(None),
        connected => connected?,
    };
    connected.send(&ToKeeper::Hello(mapped), None)?;
    put(connected);
    Ok(Some(()))
}

/// A new connection.
fn connect(name: &Name) -> Result<Connection, Errno> {
    let mut connection = Connection::new(high(name.connect()?));
    let mut bytes = Vec::new();
    let (ToClient::Keeper(pid), _) = connection.receive(&mut bytes)? else { return Err(Errno::PROTO) };
    // Where Yama is there, a process says who may reach its memory. SAFETY: nothing but numbers is passed.
    let _allowed = unsafe { raw!(SYS_prctl, libc::PR_SET_PTRACER, pid, 0, 0, 0) };
    Ok(connection)
}

fn put(connection: Connection) {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
}

/// Forgets the connections, in a child: they are the parent's.
pub(super) fn take_connections() -> Vec<Connection> {
    std::mem::take(&mut *IDLE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The path that a file was opened at, which stays the same.
pub(super) fn path_of(
    file: FileKey,
    ask: impl FnOnce() -> Result<Answer, Refused>,
) -> Result<Answer, Refused> {
    let paths = || PATHS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = paths().get(&file) {
        return Ok(Answer::Bytes(path.clone()));
    }
    let answer = ask();
    if let Ok(Answer::Bytes(path)) = &answer {
        let mut paths = paths();
        // Those of files that are closed are not of use any more.
        if paths.len() == REMEMBERED {
            paths.clear();
        }
        paths.insert(file, path.clone());
    }
    answer
}

/// Makes a call. EIO, and a line, if the keeper is gone.
pub(super) fn ask(name: &Name, report: &Report, request: Request<'_>) -> Result<Answer, Refused> {
    let thread = rustix::thread::gettid().as_raw_nonzero().get();
    talk(name, &ToKeeper::Call { thread, request }).unwrap_or_else(|error| {
        if !TOLD.swap(true, Ordering::Relaxed) {
            let pid = rustix::process::getpid();
            report.tell(
                Kind::Trouble,
                format_args!(
                    "process {pid} has lost its machine (EIO from now on): the process that kept it is gone: {error}"
                ),
            );
        }
        Err(libc::EIO)
    })
}

/// Tells the keeper that this process ends, if it knows of it.
pub(super) fn leave(name: &Name) {
    // One that is gone needs to know nothing.
    let _told = talk(name, &ToKeeper::Leaving);
}

/// Says something, and does what it takes until the answer is there.
fn talk(name: &Name, words: &ToKeeper<'_>) -> Result<Result<Answer, Refused>, Errno> {
    let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut connection = match idle {
        Some(connection) => connection,
        None => connect(name)?,
    };
    connection.send(words, None)?;
    let mut bytes = Vec::new();
    loop {
        let (words, beside) = connection.receive(&mut bytes)?;
        let answer = match words {
            ToClient::Answer(answer) => answer,
            ToClient::Opened => Ok(Answer::Descriptor(beside.ok_or(Errno::MFILE)?)),
            ToClient::Give => {
                let number = beside.map(OwnedFd::into_raw_fd).ok_or(libc::EMFILE);
                connection.send(&ToKeeper::Given(number), None)?;
                continue;
            }
            ToClient::TakeBack(number) => {
                close(number);
                continue;
            }
            ToClient::Keeper(_) => return Err(Errno::PROTO),
        };
        put(connection);
        return Ok(answer);
    }
}

fn close(number: c_int) {
    // SAFETY: it was got for the program a moment ago, which does not know of it.
    let _closed = unsafe { raw!(SYS_close, number) };
}
