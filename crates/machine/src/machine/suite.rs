//! What the conformance suite asks of a machine.

use std::io::SeekFrom;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use subsystem::Whence;
use sys::{Access, Creds, Error, Result, Suite, Sys as _};
use uapi::Errno;

use super::calls::Target;
use super::{Caller, Machine, refused};
use crate::file::File;
use crate::process::{ArgumentMemory, NoMemory};
use crate::spec::CAPABILITIES;

/// What comes back of another process.
type Answer = std::result::Result<u64, Errno>;

/// A path that was looked up and not opened.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) path: PathBuf,
    pub(super) target: Target,
}

impl Suite for Machine {
    type Handle = Handle;

    fn look_up(&self, path: &Path) -> Result<Handle> {
        Ok(Handle { path: path.to_path_buf(), target: self.look_up_target(path)? })
    }

    fn open_handle(&self, handle: &Handle, access: Access) -> Result<File> {
        self.open_target(&handle.target, &handle.path, access)
    }

    fn taint(&self) -> Result<u64> {
        Ok(self.world().tainted())
    }

    fn log_mark(&self) -> Result<u64> {
        Ok(self.world().log().mark())
    }

    fn log_since(&self, mark: u64) -> Result<Vec<String>> {
        Ok(self.world().log().since(mark))
    }

    /// The handle that `f` gets makes its calls with the other credentials; this one keeps its own. The memory limit is
    /// the process's, as on Linux, so it is another one for both while `f` runs.
    fn as_caller<R>(&self, creds: &Creds, f: impl FnOnce(&Self) -> R) -> Result<R> {
        if let Some(unknown) = creds.capabilities.iter().find(|name| !CAPABILITIES.contains(&name.as_str())) {
            return Err(Error::new("capset", unknown, Errno::EINVAL));
        }
        let caller = Caller::new(self.caller.task, &creds.capabilities, creds.memlock.into());
        let other = Machine { caller, ..self.clone() };
        let _limit = Limit::set(self, creds.memlock);
        Ok(f(&other))
    }

    /// The handle that `f` gets has an identity of its own, to which memory is accounted. Address space and descriptors are
    /// those of the one real process, so what depends on their being different is not shown by this.
    fn second_process(&self, f: impl FnOnce(&Self) -> Answer) -> Result<Answer> {
        let accounts = self.world().ram().accounts();
        let uid = rustix::process::getuid().as_raw();
        let task = accounts.task(uid, self.caller.memlock);
        let _task = Ended { machine: self, task };
        let caller = Caller { task, ..self.caller.clone() };
        Ok(f(&Machine { caller, ..self.clone() }))
    }

    fn in_user_namespace(&self, _: impl FnOnce(&Self) -> Answer) -> Result<Answer> {
        Err(Error::new("unshare", "an embedded machine, which has no user namespaces", Errno::ENOSYS))
    }

    fn vm_pin(&self) -> Result<u64> {
        Ok(self.world().ram().accounts().vm_pin(self.caller.task))
    }

    fn physical_address(&self, address: usize) -> Result<u64> {
        let physical = self.world().ram().physical_address(self.caller.task, address);
        physical.ok_or_else(|| Error::new("pagemap", format_args!("{address:#x}"), Errno::ENOENT))
    }

    fn read_stream(&self, file: &File, bytes: &mut [u8]) -> Result<usize> {
        let Some(id) = self.stream_of(file.opened()) else { return self.pread(file, bytes, 0) };
        let length = bytes.len() as u64;
        let memory = ArgumentMemory::new(bytes, &NoMemory);
        self.stream_read(id, file.path(), &memory, (memory.address(), length))
    }

    fn write_stream(&self, file: &File, bytes: &[u8]) -> Result<usize> {
        self.stream_write(file.opened(), file.path(), bytes)
    }

    /// An attribute is gone to wherever it is asked, and read from where each read says.
    fn seek(&self, file: &File, to: SeekFrom) -> Result<u64> {
        let failed = |errno| Error::new("lseek", file.path().display(), errno);
        let (whence, offset) = match to {
            SeekFrom::Start(offset) => (Whence::Start, offset.cast_signed()),
            SeekFrom::Current(offset) => (Whence::Current, offset),
            SeekFrom::End(offset) => (Whence::End, offset),
        };
        match self.node_of(file) {
            Some(id) => self
                .shared
                .subsystem
                .seek(id, whence, offset)
                .map_err(|refusal| refused("lseek", file.path().display(), refusal)),
            None => u64::try_from(offset).map_err(|_| failed(Errno::EINVAL)),
        }
    }

    fn fdinfo(&self, file: &File) -> Result<String> {
        let path = format!("/proc/self/fdinfo/{}", file.as_fd().as_raw_fd());
        let text = std::fs::read_to_string(&path).map_err(|_| Error::new("read", path, Errno::ENOENT))?;
        Ok(self.fdinfo_from(file.opened(), &text))
    }
}

/// Another memory limit for as long as this lives.
struct Limit<'a> {
    machine: &'a Machine,
}

impl<'a> Limit<'a> {
    fn set(machine: &'a Machine, memlock: Option<u64>) -> Self {
        machine.world().ram().accounts().set_memlock(machine.caller.task, memlock);
        Limit { machine }
    }
}

impl Drop for Limit<'_> {
    fn drop(&mut self) {
        let Caller { task, memlock, .. } = self.machine.caller;
        self.machine.world().ram().accounts().set_memlock(task, memlock);
    }
}

/// A process that ends with this.
struct Ended<'a> {
    machine: &'a Machine,
    task: subsystem::Task,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.machine.world().ram().accounts().exit(self.task);
    }
}
