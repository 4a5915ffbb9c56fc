//! Running the model of a function: every call of it once the machine is built.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use super::PciFunction;
use crate::dma::DmaPort;
use crate::lock::lock;
use crate::log::Priority;
use crate::model::{Model, Reach, Work};

/// How many pieces of work are done before others get their turn.
const TURN: u32 = 64;

/// How often a lock is tried before waiting for it costs the processor no more: a few microseconds.
const SPINS: u32 = 200;

/// The device itself: its model, if that has not panicked, and its way to memory.
pub(super) struct Device {
    model: Option<Box<dyn Model>>,
    port: DmaPort,
}

impl Device {
    pub(super) fn new(model: Box<dyn Model>, port: DmaPort) -> Self {
        Device { model: Some(model), port }
    }

    /// The model goes, and takes nothing along if it panics at that.
    fn discard(&mut self) {
        let model = self.model.take();
        let _panic = catch_unwind(AssertUnwindSafe(|| drop(model)));
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.discard();
    }
}

impl PciFunction {
    /// Does some work. `Idle` if there was none, or the model has panicked.
    pub(crate) fn turn(&self) -> Work {
        let mut spins = 0..SPINS;
        while self.waiting.load(Ordering::SeqCst) > 0 {
            match spins.next() {
                Some(_) => std::hint::spin_loop(),
                None => std::thread::yield_now(),
            }
        }
        let mut device = lock(&self.device);
        let mut turn = Work::Idle;
        for _ in 0..TURN {
            if self.guard(&mut device, |model, reach| model.work(reach)) != Some(Work::More) {
                break;
            }
            turn = Work::More;
            if self.waiting.load(Ordering::Relaxed) > 0 {
                break;
            }
        }
        turn
    }

    /// Runs `f` on what the model stores in memory, while the model does nothing else.
    pub(crate) fn with_storage<R>(&self, f: impl FnOnce(&[u8]) -> R) -> Option<R> {
        // A panic of `f` is its caller's, not the model's.
        let look = |bytes: &[u8]| catch_unwind(AssertUnwindSafe(|| f(bytes)));
        let answer = self.with_device(|model, _| model.storage().map(look)).flatten()?;
        Some(answer.unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// Takes the device. Its thread gives it up within one piece of work, which is sooner than this thread could go to sleep
    /// and be woken again.
    fn enter(&self) -> MutexGuard<'_, Device> {
        for _ in 0..SPINS {
            if let Ok(device) = self.device.try_lock() {
                return device;
            }
            std::hint::spin_loop();
        }
        lock(&self.device)
    }

    /// Runs `f` on the model. `None` if it has panicked, or does now.
    pub(super) fn with_device<R>(&self, f: impl FnOnce(&mut dyn Model, &mut Reach<'_>) -> R) -> Option<R> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut device = self.enter();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.guard(&mut device, f)
    }

    /// A model that panics takes nothing down but itself.
    fn guard<R>(
        &self,
        device: &mut Device,
        f: impl FnOnce(&mut dyn Model, &mut Reach<'_>) -> R,
    ) -> Option<R> {
        let Device { model, port } = device;
        let model = model.as_mut()?;
        let mut reach = Reach { dma: port, interrupts: &self.interrupts, doorbells: &self.doorbells };
        match catch_unwind(AssertUnwindSafe(|| f(model.as_mut(), &mut reach))) {
            Ok(value) => Some(value),
            Err(panic) => {
                device.discard();
                let text = panic_text(&*panic);
                let address = self.address;
                self.log.line(
                    Priority::ERROR,
                    format_args!("{address}: the device model panicked and answers no more: {text}"),
                );
                None
            }
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
