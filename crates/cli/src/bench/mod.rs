//! `ioasis bench`: what single calls of a system take, and what programs pay under `ioasis run`.

mod interrupt;
mod ioctl;
mod memory;
mod program;
mod table;
pub(crate) mod yardstick;

use anyhow::{Context, Result, ensure};
use ioasis::{Device, Options, PciAddress, Sys};

use crate::arguments::{self, Bench, Measured};
use crate::output::{print, print_json};
use crate::system::{self, Job};
use table::Table;

pub(crate) fn run(system: &arguments::System, bench: &Bench) -> Result<()> {
    ensure!(!bench.quick || bench.what == Measured::Run, "--quick is for `bench run` alone");
    if bench.what == Measured::Run {
        ensure!(
            system.machine.is_none() && bench.device.is_none(),
            "`bench run` has a machine of its own: --machine and --device are for the others"
        );
        return program::measure(bench);
    }
    system::run(system, Measure { bench, on_host: system.machine.is_none() })
}

struct Measure<'a> {
    bench: &'a Bench,
    on_host: bool,
}

impl Job for Measure<'_> {
    fn run<S: Sys>(self, sys: &S, options: &Options) -> Result<()> {
        let Bench { what, json, .. } = *self.bench;
        let open = || Ok::<_, anyhow::Error>(Device::open(sys, self.address(sys)?, &options.trace(true))?);
        let table = match what {
            Measured::Ioctl => Table { mode: None, lines: vec![ioctl::measure(sys)?] },
            Measured::Interrupt => {
                let device = open()?;
                Table { mode: Some(device.mode()), lines: vec![interrupt::measure(&device)?] }
            }
            _ => {
                let device = open()?;
                Table { mode: Some(device.mode()), lines: memory::measure(&device, what)? }
            }
        };
        if json { print_json(&table.json(&sys.name(), what)) } else { print(&table.text(&sys.name(), what)) }
    }
}

impl Measure<'_> {
    /// The device that was named, or a machine's first one.
    fn address<S: Sys>(&self, sys: &S) -> Result<PciAddress> {
        match self.bench.device {
            Some(address) => Ok(address),
            None if self.on_host => Err(anyhow::anyhow!(
                "no device was named to measure with: --device ADDRESS takes one of the host, --machine FILE one of \
                 an embedded machine"
            )),
            None => system::bound_devices(sys)?
                .first()
                .copied()
                .context("the machine has no device that is bound to vfio-pci: add a [[device]] to its file"),
        }
    }
}
