//! A process whose machine the keeper has: each call goes to it by a connection, of which there are as many as calls at a time.

use std::collections::HashMap;
use std::ffi::c_int;
use std::ops::Range;
use std::os::fd::{IntoRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
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
/// The number of this process among those of the keeper; 0 until it is known.
static NUMBER: AtomicU32 = AtomicU32::new(0);
/// Whether it was told that the keeper is gone.
static TOLD: AtomicBool = AtomicBool::new(false);

/// Connects this process, with what it has mapped. `None` if nobody has the machine.
pub(super) fn join(name: &Name, mapped: Vec<(Range<u64>, BareRegion)>) -> Result<Option<()>, Errno> {
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
    let (ToClient::Keeper { pid, client }, _) = connection.receive(&mut bytes)? else {
        return Err(Errno::PROTO);
    };
    NUMBER.store(client, Ordering::Relaxed);
    // Where Yama is there, a process says who may reach its memory. SAFETY: nothing but numbers is passed.
    let _allowed = unsafe { raw!(SYS_prctl, libc::PR_SET_PTRACER, pid, 0, 0, 0) };
    Ok(connection)
}

fn put(connection: Connection) {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
}

/// Forgets the connections, in a child: they are the parent's, as the number is.
pub(super) fn take_connections() -> Vec<Connection> {
    NUMBER.store(0, Ordering::Relaxed);
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
    talk(name, &ToKeeper::Call { thread, request }, &mut || Err(libc::EIO)).unwrap_or_else(|error| {
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
    let _told = talk(name, &ToKeeper::Leaving, &mut || Err(libc::EIO));
}

/// Moves memory by `go`, which answers where it is then, while no device has it.
pub(super) fn follow(
    name: &Name,
    from: &Range<u64>,
    go: impl FnOnce() -> Result<u64, Refused>,
) -> Result<u64, Refused> {
    let (mut go, mut moved) = (Some(go), None);
    let mut once = || *moved.get_or_insert_with(|| go.take().map_or(Err(libc::EIO), |go| go()));
    // With the keeper, the devices are gone.
    let _told = talk(name, &ToKeeper::Moving(from.clone()), &mut once);
    once()
}

/// The number of this process at the keeper, if that knows it.
pub(super) fn number() -> Option<u32> {
    Some(NUMBER.load(Ordering::Relaxed)).filter(|number| *number != 0)
}

/// Says something, and does what it takes until the answer is there. `move_it` moves the memory that it is about.
fn talk(
    name: &Name,
    words: &ToKeeper<'_>,
    move_it: &mut dyn FnMut() -> Result<u64, Refused>,
) -> Result<Result<Answer, Refused>, Errno> {
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
            ToClient::Move => {
                connection.send(&ToKeeper::Moved(move_it()), None)?;
                continue;
            }
            ToClient::Keeper { .. } => return Err(Errno::PROTO),
        };
        put(connection);
        return Ok(answer);
    }
}

fn close(number: c_int) {
    // SAFETY: it was got for the program a moment ago, which does not know of it.
    let _closed = unsafe { raw!(SYS_close, number) };
}
