//! A device that is reached by its files in sysfs (kernel document `PCI/sysfs-pci.rst`).
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;
use sys::{Access, Mapping, Mmio, Sys};

use super::called::Called;
use super::uio::UioEvents;
use crate::calls::Calls;
use crate::config::COMMAND;
use crate::{Command, Errno, InterruptKind};

/// Kinds of a resource, in the flags that its line in `resource` ends with.
const PORTS: u64 = 0x100;
const MEMORY: u64 = 0x200;

/// The files of a device in sysfs.
pub(crate) struct SysfsDevice<S: Sys> {
    calls: Calls<S>,
    folder: PathBuf,
    config: S::File,
    /// The interrupt line, where `uio_pci_generic` is bound.
    line: Option<Arc<UioEvents<S>>>,
    /// Whether the device was enabled here: nobody else does it where no driver is bound.
    enabled: bool,
}

impl<S: Sys> SysfsDevice<S> {
    /// Opens a device by its directory, with `uio` its device node of UIO. One without a driver is enabled.
    pub(crate) fn open(
        calls: &Calls<S>,
        folder: &Path,
        uio: Option<&Path>,
        driven: bool,
    ) -> sys::Result<Self> {
        let config = calls.open(&folder.join("config"), Access::ReadWrite)?;
        lock(&calls.sys, &config)?;
        let open_line = |node| UioEvents::open(calls, node, calls.sys.try_clone(&config)?);
        let line = uio.map(open_line).transpose()?.map(Arc::new);
        if !driven {
            calls.set(&folder.join("enable"), "1")?;
        }
        let folder = folder.to_path_buf();
        let device = SysfsDevice { calls: calls.clone(), folder, config, line, enabled: !driven };
        device.quiesce()?;
        Ok(device)
    }

    /// Keeps the function from reaching memory, whatever the last driver left on, and from raising its line. Where no
    /// driver is bound nobody answers that, and the kernel would switch the line off for the other devices on it.
    fn quiesce(&self) -> sys::Result<()> {
        let mut bytes = [0; 2];
        self.read_config(&mut bytes, COMMAND)?;
        let before = Command::from_bits_retain(u16::from_le_bytes(bytes));
        let command = (before.difference(Command::BUS_MASTER) | Command::INTX_DISABLE).bits();
        self.write_config(&command.to_le_bytes(), COMMAND, "bus master and INTx off").map(drop)
    }

    pub(super) fn config_length(&self) -> sys::Result<usize> {
        let size = self.calls.sys.stat(&self.folder.join("config"))?.size;
        Ok(usize::try_from(size).unwrap_or(usize::MAX))
    }

    pub(super) fn read_config(&self, bytes: &mut [u8], offset: u16) -> sys::Result<usize> {
        self.calls.sys.pread(&self.config, bytes, offset.into())
    }

    pub(super) fn write_config(&self, bytes: &[u8], offset: u16, words: &str) -> sys::Result<usize> {
        self.calls.write(&self.config, bytes, offset.into(), words)
    }

    pub(super) fn map_bar(&self, index: u8) -> sys::Result<Option<Mmio>> {
        let path = self.folder.join("resource");
        let text = String::from_utf8_lossy(&self.calls.sys.read(&path)?).into_owned();
        let Some(resource) = Resource::parse(&text, index) else { return Ok(None) };
        let file = self.calls.open(&self.folder.join(format!("resource{index}")), Access::ReadWrite)?;
        if resource.ports {
            let registers = Called { sys: self.calls.sys.clone(), file, start: 0 };
            return Ok(Some(Mmio::called(Arc::new(registers), resource.length)));
        }
        // The file is mapped by whole pages: registers that start within one would be looked for at the wrong place.
        if !resource.first.is_multiple_of(rustix::param::page_size() as u64) {
            return Err(sys::Error::new("mmap", self.calls.sys.path_of(&file).display(), Errno::EINVAL));
        }
        self.calls.map_region(&file, Mapping::registers(0, resource.length)).map(Some)
    }

    pub(super) fn vectors(&self, kind: InterruptKind) -> sys::Result<u32> {
        Ok(u32::from(kind == InterruptKind::Line && self.line.is_some()))
    }

    /// The interrupt line, if it can be had.
    pub(crate) fn line(&self) -> Option<Arc<UioEvents<S>>> {
        self.line.clone()
    }

    pub(super) fn reset(&self) -> sys::Result<()> {
        self.calls.set(&self.folder.join("reset"), "1")
    }
}

impl<S: Sys> Drop for SysfsDevice<S> {
    fn drop(&mut self) {
        if self.enabled {
            // A device that has gone refuses it, and does no harm any more.
            let _gone = self.calls.set(&self.folder.join("enable"), "0");
        }
    }
}

impl<S: Sys> AsFd for SysfsDevice<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.config.as_fd()
    }
}

/// Keeps the device from other programs that ask in the same way: the kernel itself lets in whoever may open the file. The
/// lock is held until the last duplicate of the file is closed.
fn lock<S: Sys>(sys: &S, config: &S::File) -> sys::Result<()> {
    rustix::fs::flock(config, FlockOperation::NonBlockingLockExclusive).map_err(|answer| {
        // It is refused in the way that `open` refuses files of VFIO.
        let errno = match answer {
            rustix::io::Errno::WOULDBLOCK => Errno::EBUSY,
            answer => Errno::from_raw(answer.raw_os_error()).unwrap_or(Errno::EIO),
        };
        sys::Error::new("flock", sys.path_of(config).display(), errno)
    })
}

/// What a line of `resource` says of a BAR: the first and the last address, and flags.
#[derive(Debug, PartialEq, Eq)]
struct Resource {
    first: u64,
    length: usize,
    ports: bool,
}

impl Resource {
    /// The resource of a BAR; `None` if there is none, or the text is not of the kernel.
    fn parse(text: &str, index: u8) -> Option<Self> {
        let mut words = text.lines().nth(index.into())?.split_whitespace();
        let mut word = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
        let (first, last, flags) = (word()?, word()?, word()?);
        let length = usize::try_from(last.checked_sub(first)?).ok()?.checked_add(1)?;
        (flags & (PORTS | MEMORY) != 0).then_some(Resource { first, length, ports: flags & PORTS != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::Resource;

    const TEXT: &str = "0x00000000fea00000 0x00000000feafffff 0x0000000000040200\n\
                        0x000000000000c000 0x000000000000c01f 0x0000000000040101\n\
                        0x0000000000000000 0x0000000000000000 0x0000000000000000\n";

    #[test]
    fn each_bar_has_its_line() {
        let memory = Resource { first: 0xfea0_0000, length: 0x10_0000, ports: false };
        assert_eq!(Resource::parse(TEXT, 0), Some(memory));
        assert_eq!(Resource::parse(TEXT, 1), Some(Resource { first: 0xc000, length: 32, ports: true }));
        assert_eq!(Resource::parse(TEXT, 2), None, "nothing there");
        assert_eq!(Resource::parse(TEXT, 3), None, "no such line");
        assert_eq!(Resource::parse("0x1 zz 0x200", 0), None);
        assert_eq!(Resource::parse("0x2 0x1 0x200", 0), None, "it ends before it starts");
    }
}
