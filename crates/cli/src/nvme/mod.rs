//! `ioasis nvme`

mod bench;
mod identify;
mod read;
mod write;

use anyhow::{Context, Result};
use ioasis::{Device, Options, PciAddress, Sys};
use nvme::{Completions, Controller, Namespace, Queue};

use crate::arguments::{self, Nvme};
use crate::stop::StopFlag;
use crate::system;

pub(crate) fn run(system: &arguments::System, command: Nvme) -> Result<()> {
    match command {
        Nvme::Identify { address, json } => system::run(system, identify::Identify { address, json }),
        Nvme::Read(arguments) => system::run(system, read::Read { arguments, stop: StopFlag::install()? }),
        Nvme::Write(arguments) => system::run(system, write::Write { arguments, stop: StopFlag::install()? }),
        Nvme::Bench(arguments) => bench::run(system, arguments),
    }
}

/// Brings up a controller whose queues are polled, and gives its first namespace.
fn controller<S: Sys>(sys: &S, address: PciAddress, options: &Options) -> Result<(Controller<S>, Namespace)> {
    let device = Device::open(sys, address, options)?;
    let controller = Controller::new(device, 0)?;
    let namespace = first_namespace(&controller)?;
    Ok((controller, namespace))
}

/// A queue for a stream.
fn stream_queue<S: Sys>(controller: &Controller<S>) -> Result<Queue<S>> {
    /// More than a stream has under way.
    const DEPTH: u16 = 16;
    Ok(controller.queue(DEPTH.min(controller.info().max_depth), Completions::Polled)?)
}

/// The first active namespace.
pub(crate) fn first_namespace<S: Sys>(controller: &Controller<S>) -> Result<Namespace> {
    let namespaces = controller.namespaces()?;
    namespaces.first().copied().with_context(|| {
        format!("the NVMe controller of {} has no active namespace", controller.device().name())
    })
}
