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

/// The module parameter, a boolean.
pub(crate) const NOIOMMU_MODE: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

/// The driver vfio-pci and one of its devices. Dropping it leaves them bound, as they were.
pub(crate) struct Driver<'a, S: Suite> {
    sys: &'a S,
    address: &'a str,
}

/// The module parameter, set for a while. Dropping it sets it back.
pub(crate) struct Parameter<'a, S: Suite> {
    sys: &'a S,
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

    /// Sets the module parameter.
    pub(crate) fn noiommu_mode(&self, on: bool) -> Way<Parameter<'a, S>> {
        let path = Path::new(NOIOMMU_MODE);
        self.needs_path(path, "a no-IOMMU mode")?;
        let before = self.sys.read(path)?;
        let parameter = Parameter { sys: self.sys, before };
        parameter.set(on)?;
        Ok(parameter)
    }
}

impl<S: Suite> Driver<'_, S> {
    /// Takes the driver away; returns when nobody uses the device any more.
    pub(crate) fn unbind(&self) -> Result<()> {
        self.sys.write(&driver("unbind"), self.address.as_bytes())
    }

    /// Gives it back.
    pub(crate) fn bind(&self) -> Result<()> {
        self.sys.write(&driver("bind"), self.address.as_bytes())
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

impl<S: Suite> Parameter<'_, S> {
    /// Sets it to another value.
    pub(crate) fn set(&self, on: bool) -> Result<()> {
        self.sys.write(Path::new(NOIOMMU_MODE), if on { b"Y" } else { b"N" })
    }
}

impl<S: Suite> Drop for Parameter<'_, S> {
    fn drop(&mut self) {
        // Cases that need another value set it.
        let _set = self.sys.write(Path::new(NOIOMMU_MODE), &self.before);
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
        self.answer
            .recv_timeout(PATIENCE)
            .map_err(|_| Stop::Broken("the driver is not unbound though every file is closed".into()))
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
