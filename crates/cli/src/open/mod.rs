//! `ioasis open`: a command without privileges, with a device that was opened for it.

mod privileges;
mod translator;
mod user;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{self, Command};

use anyhow::{Context, Result, ensure};
use command_fds::{CommandFdExt, FdMapping};
use ioasis::{DeviceFiles, Linux, Passed};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::CapabilitySet;

use crate::arguments::{self, Open};
use crate::system;
use user::User;

pub(crate) use translator::run as translate;

/// Opens the device, gives all privileges up and becomes the command. Returns only if that fails.
///
/// The process itself becomes the command, so that its status, signals and terminal are the command's without anybody in between.
pub(crate) fn run(system: &arguments::System, open: &Open) -> Result<()> {
    ensure!(
        system.machine.is_none(),
        "a machine is inside one process: what is opened there cannot be passed on"
    );
    let user = User::choose(open.user.as_deref())?;
    let files = DeviceFiles::open(&Linux, open.address, &system::host_options(system))?;
    // Behind an IOMMU there is nothing to tell.
    let translator =
        if files.mode.has_iommu() { None } else { Some(translator::start(&files.iommufd, user.as_ref())?) };
    limit_locked_memory(open.memlock)?;
    privileges::keep(CapabilitySet::empty(), user.as_ref())?;
    let (program, arguments) = open.command.split_first().context("no command was given")?;
    let mut command = Command::new(program);
    command.args(arguments).envs(Passed::variables(process::id(), translator.is_some()));
    command.envs(user.iter().flat_map(User::variables));
    let fds = [copy(&files.device)?, copy(&files.iommufd)?].into_iter().chain(translator);
    let mappings = (3..).zip(fds).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd });
    command.fd_mappings(mappings.collect())?;
    Err(command.exec()).with_context(|| format!("cannot run {}", program.display()))
}

fn copy(file: impl AsFd) -> Result<OwnedFd> {
    Ok(file.as_fd().try_clone_to_owned()?)
}

/// How much memory the command may pin for the device.
fn limit_locked_memory(bytes: Option<u64>) -> Result<()> {
    let Some(bytes) = bytes else { return Ok(()) };
    let maximum = getrlimit(Resource::Memlock).maximum.map(|maximum| maximum.max(bytes));
    setrlimit(Resource::Memlock, Rlimit { current: Some(bytes), maximum })
        .with_context(|| format!("cannot let the command pin {bytes} bytes (RLIMIT_MEMLOCK)"))
}
