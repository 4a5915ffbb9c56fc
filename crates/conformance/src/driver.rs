//! Taking a device's driver away and giving it back, as an administrator does it through sysfs.

use std::os::unix::thread::JoinHandleExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sys::{Result, Suite};

use crate::fixture::Fixture;
use crate::outcome::{Stop, Way};

/// How long something may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long something is given to happen that must not.
const MOMENT: Duration = Duration::from_millis(50);

/// The module parameter that allows devices without an IOMMU, a boolean.
pub(crate) const NOIOMMU_MODE: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

/// The module parameter that allows devices whose message-signalled interrupts are not isolated, a boolean.
pub(crate) const UNSAFE_INTERRUPTS: &str = "/sys/module/iommufd/parameters/allow_unsafe_interrupts";

/// The driver vfio-pci and one of its devices. Dropping it leaves them bound, as they were.
pub(crate) struct Driver<'a, S: Suite> {
    sys: &'a S,
    address: &'a str,
}

/// Another driver of the host, which has a device for a while. Dropping it takes the device away again.
pub(crate) struct OtherDriver<'a, S: Suite> {
    sys: &'a S,
    address: &'a str,
    folder: PathBuf,
    /// What `driver_override` said before.
    before: Vec<u8>,
}

/// A module parameter, set for a while. Dropping it sets it back.
pub(crate) struct Parameter<'a, S: Suite> {
    sys: &'a S,
    path: &'static Path,
    before: Vec<u8>,
}

/// A thread that unbinds the driver while a file of the device is open.
pub(crate) struct Unbinding {
    answer: Receiver<Result<()>>,
    writer: JoinHandle<()>,
}

impl<'a, S: Suite> Fixture<'a, S> {
    /// The driver of a device. To be had before files of the device are opened, so that it is dropped after them.
    pub(crate) fn driver(&self, address: &'a str) -> Driver<'a, S> {
        Driver { sys: self.sys, address }
    }

    /// Sets the module parameter that allows devices without an IOMMU.
    pub(crate) fn noiommu_mode(&self, on: bool) -> Way<Parameter<'a, S>> {
        self.needs_path(Path::new(NOIOMMU_MODE), "a no-IOMMU mode")?;
        self.parameter(NOIOMMU_MODE, on)
    }

    /// Sets a module parameter.
    pub(crate) fn parameter(&self, path: &'static str, on: bool) -> Way<Parameter<'a, S>> {
        let path = Path::new(path);
        let before = self.sys.read(path)?;
        let parameter = Parameter { sys: self.sys, path, before };
        parameter.set(on)?;
        Ok(parameter)
    }
}

impl<'a, S: Suite> Driver<'a, S> {
    /// Takes the driver away; returns when nobody uses the device any more.
    pub(crate) fn unbind(&self) -> Result<()> {
        self.sys.write(&driver("unbind"), self.address.as_bytes())
    }

    /// Gives it back.
    pub(crate) fn bind(&self) -> Result<()> {
        self.sys.write(&driver("bind"), self.address.as_bytes())
    }

    /// Gives the device to another driver of the host, as `driver_override` allows; not applicable where there is none or
    /// it does not take the device.
    pub(crate) fn lend(&self, f: &Fixture<'a, S>, name: &str) -> Way<OtherDriver<'a, S>> {
        let folder = Path::new("/sys/bus/pci/drivers").join(name);
        f.needs_path(&folder, name)?;
        self.unbind()?;
        let only = f.sysfs(self.address).join("driver_override");
        let other =
            OtherDriver { sys: self.sys, address: self.address, folder, before: self.sys.read(&only)? };
        self.sys.write(&only, name.as_bytes())?;
        self.sys.write(Path::new("/sys/bus/pci/drivers_probe"), self.address.as_bytes())?;
        f.needs_path(&other.folder.join(self.address), "a device for it")?;
        Ok(other)
    }

    /// Takes the driver away on another thread; returns when the device's `node` is gone.
    pub(crate) fn begin_unbind(&self, node: &Path) -> Way<Unbinding> {
        let (done, answer) = mpsc::channel();
        let (sys, address) = (self.sys.clone(), self.address.to_owned());
        let writer = thread::spawn(move || {
            let unbound = sys.write(&driver("unbind"), address.as_bytes());
            // Nobody listens any more if the case has ended early.
            let _ended = done.send(unbound);
        });
        until("the node is gone", || self.sys.stat(node).is_err())?;
        Ok(Unbinding { answer, writer })
    }
}

impl<S: Suite> Drop for Driver<'_, S> {
    fn drop(&mut self) {
        if self.sys.stat(&driver(self.address)).is_err() {
            // Cases that find the device without its driver say so.
            let _bound = self.bind();
        }
    }
}

impl<S: Suite> Drop for OtherDriver<'_, S> {
    fn drop(&mut self) {
        // Cases that find the device with another driver say so.
        let _unbound = self.sys.write(&self.folder.join("unbind"), self.address.as_bytes());
        // What nothing was written to shows this, and takes an empty line for it.
        let before = if self.before == b"(null)\n" { b"\n" } else { &self.before[..] };
        let only = Path::new("/sys/bus/pci/devices").join(self.address).join("driver_override");
        let _restored = self.sys.write(&only, before);
    }
}

impl<S: Suite> Parameter<'_, S> {
    /// Sets it to another value.
    pub(crate) fn set(&self, on: bool) -> Result<()> {
        self.sys.write(self.path, if on { b"Y" } else { b"N" })
    }
}

impl<S: Suite> Drop for Parameter<'_, S> {
    fn drop(&mut self) {
        // Cases that need another value set it.
        let _set = self.sys.write(self.path, &self.before);
    }
}

impl Unbinding {
    /// Whether the write has not returned a moment later.
    pub(crate) fn waits(&self) -> bool {
        self.answer.recv_timeout(MOMENT).is_err()
    }

    /// Whether the write has returned by now.
    pub(crate) fn is_over(&self) -> bool {
        self.writer.is_finished()
    }

    /// Sends the writing thread signals until `noticed`.
    pub(crate) fn interrupt(&self, noticed: impl Fn() -> bool) -> Way<()> {
        catch_signal();
        until("the signal is noticed", || {
            // SAFETY: the handle is not consumed while `self` lives, so the thread's identifier is valid.
            unsafe { libc::pthread_kill(self.writer.as_pthread_t(), libc::SIGURG) };
            noticed()
        })
    }

    /// What the write answers, once every file of the device is closed.
    pub(crate) fn end(self) -> Way<Result<()>> {
        let late = || Stop::Broken("the driver is not unbound though every file is closed".into());
        let answer = self.answer.recv_timeout(PATIENCE).map_err(|_| late())?;
        // It has nothing left to do; a process that makes a child has no other threads.
        self.writer.join().map_err(|_| late())?;
        Ok(answer)
    }
}

fn driver(file: &str) -> PathBuf {
    Path::new("/sys/bus/pci/drivers/vfio-pci").join(file)
}

/// Makes SIGURG, which is ignored by default, one that interrupts.
fn catch_signal() {
    extern "C" fn nothing(_: libc::c_int) {}
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let handler = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: a handler that does nothing is safe at any time, and stays valid.
        unsafe { libc::signal(libc::SIGURG, handler) };
    });
}

/// Waits for what has to happen.
pub(crate) fn until(what: &str, happened: impl Fn() -> bool) -> Way<()> {
    let end = Instant::now() + PATIENCE;
    while !happened() {
        if Instant::now() > end {
            return Err(Stop::Broken(format!("not seen in time: {what}")));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
