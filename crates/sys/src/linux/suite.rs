//! What the conformance suite asks of the host's kernel. Much of it needs root.
#![forbid(unsafe_code)]

use std::io::SeekFrom;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};
use uapi::Errno;

use super::child::{self, Answer};
use super::{Linux, LinuxFile, errno, refused};
use crate::{Access, Creds, Error, Mmio, Result, Suite, Sys};

/// A path of the host that was looked up and not opened.
#[derive(Debug)]
pub struct LinuxHandle {
    fd: OwnedFd,
    path: PathBuf,
}

impl Suite for Linux {
    type Handle = LinuxHandle;

    fn look_up(&self, path: &Path) -> Result<LinuxHandle> {
        let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|answer| refused("open", path, answer))?;
        Ok(LinuxHandle { fd, path: path.to_path_buf() })
    }

    fn open_handle(&self, handle: &LinuxHandle, access: Access) -> Result<LinuxFile> {
        let door = format!("/proc/self/fd/{}", handle.fd.as_raw_fd());
        let LinuxFile { fd, .. } = self
            .open(Path::new(&door), access)
            .map_err(|refusal| Error::new(refusal.call(), handle.path.display(), refusal.errno()))?;
        Ok(LinuxFile { fd, path: handle.path.clone() })
    }

    fn taint(&self) -> Result<u64> {
        let path = Path::new("/proc/sys/kernel/tainted");
        text(self, path)?.trim().parse().map_err(|_| Error::new("read", path.display(), Errno::EINVAL))
    }

    fn log_mark(&self) -> Result<u64> {
        Ok(log_records()?.last().map_or(0, |(number, _)| number + 1))
    }

    fn log_since(&self, mark: u64) -> Result<Vec<String>> {
        Ok(log_records()?.into_iter().filter(|(number, _)| *number >= mark).map(|(_, line)| line).collect())
    }

    /// The capabilities are those of this thread; the limit is one of the process, so that no other thread may be about
    /// memory meanwhile.
    fn as_caller<R>(&self, creds: &Creds, f: impl FnOnce(&Self) -> R) -> Result<R> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let _limit = Limit::set(creds.memlock)?;
        let _capabilities = Capabilities::set(&creds.capabilities)?;
        Ok(f(self))
    }

    /// A child, which only a process without other threads can make: what they hold, the child would wait for in vain.
    fn second_process(&self, f: impl FnOnce(&Self) -> Answer) -> Result<Answer> {
        child::run(|| Ok(()), || f(self))
    }

    fn in_user_namespace(&self, f: impl FnOnce(&Self) -> Answer) -> Result<Answer> {
        child::run(child::enter_user_namespace, || f(self))
    }

    fn vm_pin(&self) -> Result<u64> {
        let path = Path::new("/proc/self/status");
        text(self, path)?
            .lines()
            .find_map(|line| line.strip_prefix("VmPin:")?.trim().strip_suffix("kB")?.trim().parse().ok())
            .ok_or_else(|| Error::new("read of VmPin", path.display(), Errno::ENOENT))
    }

    fn physical_address(&self, address: usize) -> Result<u64> {
        const ENTRY: usize = 8;
        const PRESENT: u64 = 1 << 63;
        const FRAME: u64 = (1 << 55) - 1;
        let path = Path::new("/proc/self/pagemap");
        let page = rustix::param::page_size();
        let file = self.open(path, Access::Read)?;
        let mut entry = [0; ENTRY];
        let count = self.pread(&file, &mut entry, (address / page * ENTRY) as u64)?;
        let entry = u64::from_ne_bytes(entry);
        let refused =
            |errno| Err(Error::new("read", format_args!("{} for {address:#x}", path.display()), errno));
        match entry & FRAME {
            _ if count < ENTRY || entry & PRESENT == 0 => refused(Errno::EFAULT),
            // What the unprivileged are told instead.
            0 => refused(Errno::EPERM),
            frame => Ok(frame * page as u64 + (address % page) as u64),
        }
    }

    fn read_stream(&self, file: &LinuxFile, bytes: &mut [u8]) -> Result<usize> {
        rustix::io::retry_on_intr(|| rustix::io::read(file, &mut *bytes))
            .map_err(|answer| file.refused("read", answer))
    }

    fn write_stream(&self, file: &LinuxFile, bytes: &[u8]) -> Result<usize> {
        rustix::io::retry_on_intr(|| rustix::io::write(file, bytes))
            .map_err(|answer| file.refused("write", answer))
    }

    fn touch(&self, registers: &Mmio) -> std::result::Result<(), Errno> {
        let address = registers.address().ok_or(Errno::EFAULT)?;
        super::touch::touch(address.as_ptr().cast())
    }

    fn seek(&self, file: &LinuxFile, to: SeekFrom) -> Result<u64> {
        let to = match to {
            SeekFrom::Start(offset) => rustix::fs::SeekFrom::Start(offset),
            SeekFrom::Current(offset) => rustix::fs::SeekFrom::Current(offset),
            SeekFrom::End(offset) => rustix::fs::SeekFrom::End(offset),
        };
        rustix::fs::seek(file, to).map_err(|answer| file.refused("lseek", answer))
    }

    fn fdinfo(&self, file: &LinuxFile) -> Result<String> {
        text(self, &Path::new("/proc/self/fdinfo").join(file.as_fd().as_raw_fd().to_string()))
    }
}

/// A small file as text.
fn text(sys: &Linux, path: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&sys.read(path)?).into_owned())
}

/// The kernel's log: number and text of each record that is still there (kernel document `ABI/testing/dev-kmsg`).
fn log_records() -> Result<Vec<(u64, String)>> {
    let path = Path::new("/dev/kmsg");
    let log = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .map_err(|answer| refused("open", path, answer))?;
    let mut records = Vec::new();
    let mut record = vec![0; 8192];
    loop {
        match rustix::io::read(&log, &mut record) {
            Ok(length) => records.extend(parse_record(&String::from_utf8_lossy(&record[..length]))),
            Err(rustix::io::Errno::AGAIN) => return Ok(records),
            // The record was overwritten before it was read; the next one follows.
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::INTR) => {}
            Err(answer) => return Err(refused("read", path, answer)),
        }
    }
}

/// `priority,number,time,flags;text`, and lines of properties behind it.
fn parse_record(record: &str) -> Option<(u64, String)> {
    let (head, text) = record.split_once(';')?;
    let number = head.split(',').nth(1)?.parse().ok()?;
    Some((number, text.lines().next().unwrap_or_default().to_owned()))
}

/// The effective capabilities of this thread, as they were before; set again when it is dropped.
struct Capabilities(CapabilitySets);

impl Capabilities {
    fn set(names: &[String]) -> Result<Self> {
        let refused =
            |call, answer| Error::new(call, format_args!("this thread, for {names:?}"), errno(answer));
        let before = rustix::thread::capabilities(None).map_err(|answer| refused("capget", answer))?;
        let mut effective = CapabilitySet::empty();
        for name in names {
            let known = name.strip_prefix("CAP_").and_then(CapabilitySet::from_name);
            effective |=
                known.ok_or_else(|| Error::new("capset", format_args!("unknown {name:?}"), Errno::EINVAL))?;
        }
        rustix::thread::set_capabilities(None, CapabilitySets { effective, ..before })
            .map_err(|answer| refused("capset", answer))?;
        Ok(Capabilities(before))
    }
}

impl Drop for Capabilities {
    fn drop(&mut self) {
        // What a thread has in its permitted set it can always have back.
        let _restored = rustix::thread::set_capabilities(None, self.0);
    }
}

/// The limit on locked memory, as it was before; set again when it is dropped.
struct Limit(Rlimit);

impl Limit {
    fn set(bytes: Option<u64>) -> Result<Self> {
        let before = rustix::process::getrlimit(Resource::Memlock);
        // The hard limit stays, so that the process can go back without a privilege; no limit is as much as it allows.
        let wanted = Rlimit { current: bytes.or(before.maximum), ..before };
        rustix::process::setrlimit(Resource::Memlock, wanted).map_err(|answer| {
            Error::new("setrlimit", format_args!("RLIMIT_MEMLOCK = {bytes:?}"), errno(answer))
        })?;
        Ok(Limit(before))
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _restored = rustix::process::setrlimit(Resource::Memlock, self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::parse_record;

    #[test]
    fn a_record_of_the_log_has_a_number_and_a_text() {
        let record = "6,339,5140900,-;vfio-pci 0000:01:00.0: Adding kernel taint\n SUBSYSTEM=pci\n";
        assert_eq!(
            parse_record(record),
            Some((339, "vfio-pci 0000:01:00.0: Adding kernel taint".to_owned()))
        );
        assert_eq!(parse_record("nonsense"), None);
    }
}
