//! From triggering an interrupt until its waiter runs.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ioasis::{Device, Interrupt, InterruptKind, Mode, Sys};
use sys::Tailed;
use uapi::Command;
use uapi::vfio::*;

use super::table::Line;

const SAMPLES: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the waiter is given to fall asleep.
const NAP: Duration = Duration::from_micros(300);

/// The driver itself triggers, so that the device has no part in it.
pub(super) fn measure<S: Sys>(device: &Device<S>) -> Result<Line> {
    ensure!(
        device.mode() != Mode::Uio,
        "in mode uio no call triggers an interrupt; --mode chooses another one"
    );
    let interrupt = first_vector(device)?;
    let name = format!("{} to its waiter", interrupt.kind());
    Ok(Line { name, samples: Ok(samples(device, &interrupt)?) })
}

/// One vector of the best kind that the device has.
fn first_vector<S: Sys>(device: &Device<S>) -> Result<Interrupt<S>> {
    let interrupts = device.interrupts();
    let mut vectors = if interrupts.count(InterruptKind::Msix)? > 0 {
        interrupts.msix(1)?
    } else if interrupts.count(InterruptKind::Msi)? > 0 {
        interrupts.msi(1)?
    } else {
        vec![interrupts.line()?]
    };
    vectors.pop().with_context(|| format!("{} has no interrupts", device.name()))
}

fn samples<S: Sys>(device: &Device<S>, interrupt: &Interrupt<S>) -> Result<Vec<Duration>> {
    let trigger = Trigger::new(device, interrupt.kind())?;
    let (ready, sleeps) = mpsc::sync_channel::<()>(0);
    thread::scope(|scope| {
        let waiter = scope.spawn(move || -> Result<Vec<Instant>> {
            let mut wakings = Vec::with_capacity(SAMPLES);
            // The other side is gone where triggering failed.
            while wakings.len() < SAMPLES && ready.send(()).is_ok() {
                interrupt.wait(Some(PATIENCE))?.context("the interrupt did not come")?;
                wakings.push(Instant::now());
            }
            Ok(wakings)
        });
        let triggered = trigger_each(&trigger, sleeps);
        let wakings = waiter.join().map_err(|_| anyhow::anyhow!("the waiting thread has ended"))?;
        let (triggered, wakings) = (triggered?, wakings?);
        Ok(triggered.into_iter().zip(wakings).map(|(start, end)| end - start).collect())
    })
}

/// Triggers whenever the waiter is about to sleep; when that was.
fn trigger_each<S: Sys>(trigger: &Trigger<S>, sleeps: mpsc::Receiver<()>) -> Result<Vec<Instant>> {
    let mut triggered = Vec::with_capacity(SAMPLES);
    while sleeps.recv().is_ok() {
        thread::sleep(NAP);
        triggered.push(Instant::now());
        trigger.pull()?;
    }
    Ok(triggered)
}

/// The call that makes an interrupt look as if the device had sent it.
struct Trigger<S: Sys> {
    sys: S,
    file: S::File,
    index: u32,
}

impl<S: Sys> Trigger<S> {
    fn new(device: &Device<S>, kind: InterruptKind) -> Result<Self> {
        let sys = device.system().clone();
        let file = sys.adopt(device.as_fd().try_clone_to_owned()?, Path::new(device.name()))?;
        let index = match kind {
            InterruptKind::Line => VFIO_PCI_INTX_IRQ_INDEX,
            InterruptKind::Msi => VFIO_PCI_MSI_IRQ_INDEX,
            InterruptKind::Msix => VFIO_PCI_MSIX_IRQ_INDEX,
        };
        Ok(Trigger { sys, file, index })
    }

    fn pull(&self) -> Result<()> {
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
        let argument = VfioIrqSet { flags, index: self.index, count: 1, ..VfioIrqSet::new() };
        self.sys.ioctl_tailed(&self.file, &mut Tailed::new(argument, 0))?;
        Ok(())
    }
}
