//! The privileged side of `ioasis open`: a process that asks for physical addresses, and can do nothing else.
//!
//! It holds one capability, a socket and the IOMMUFD context, as the user that the command is run by, and ends with the command. It is
//! started as a program of its own, so that no memory or descriptor of anybody else is in it; twice, so that it is no child of the
//! command, which might wait for all of its children.

use std::env;
use std::fs::File;
use std::io::{stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Command};

use anyhow::{Context, Result, ensure};
use ioasis::{Linux, Sys, translate};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{DumpableBehavior, set_dumpable_behavior, setsid};
use rustix::stdio::dup2_stderr;
use rustix::thread::CapabilitySet;

use super::privileges;
use super::user::User;
use crate::arguments::Translate;

/// Starts one for this process, out of an IOMMUFD context: the socket to ask it over. Returns when it has given its privileges up.
pub(super) fn start(iommufd: impl AsFd, user: Option<&User>) -> Result<OwnedFd> {
    let (client, server) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let mut command = translator();
    command.arg(process::id().to_string());
    if let Some(User { uid, gid, .. }) = user {
        command.args([uid, gid].map(u32::to_string));
    }
    let status = command.stdin(server).stdout(iommufd.as_fd().try_clone_to_owned()?).status();
    // It holds the other end of the socket, of which an end could not be told otherwise.
    drop(command);
    let status = status.context("cannot start what tells physical addresses")?;
    ensure!(
        status.success() && translate::wait_until_ready(&client)?,
        "what tells physical addresses has ended; it said above why"
    );
    Ok(client)
}

/// Is one, with the socket as standard input and the context as standard output.
pub(crate) fn run(arguments: &Translate) -> Result<()> {
    if !arguments.detached {
        translator().args(env::args_os().skip(2)).arg("--detached").spawn()?;
        return Ok(());
    }
    setsid().context("cannot leave the terminal")?;
    env::set_current_dir("/")?;
    let user = arguments.user.as_chunks().0.first().map(|&[uid, gid]| User::numbers(uid, gid));
    privileges::keep(CapabilitySet::SYS_RAWIO, user.as_ref())?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let iommufd = Linux.adopt(stdout().as_fd().try_clone_to_owned()?, Path::new("/dev/iommu"))?;
    // Whoever reads the command's standard error is not to wait for this one too.
    dup2_stderr(File::open("/dev/null")?)?;
    Ok(translate::serve(&Linux, &iommufd, stdin(), arguments.process)?)
}

/// This program, as a translator.
fn translator() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("ioasis").env_clear().arg("translate");
    command
}
