//! What a command speaks to: the host's kernel or an embedded machine.

use std::path::Path;

use anyhow::{Result, bail};
use ioasis::{Linux, Options, PciAddress, Sys};
use machine::Machine;

use crate::arguments;
use crate::output::complain;

/// Work that runs on either system.
pub(crate) trait Job {
    /// Does it; `options` say how to open devices.
    fn run<S: Sys>(self, sys: &S, options: &Options) -> Result<()>;
}

/// Runs a job on the system that the command line names.
pub(crate) fn run(system: &arguments::System, job: impl Job) -> Result<()> {
    match &system.machine {
        None => job.run(&Linux, &host_options(system)),
        Some(path) => run_on(&Machine::from_file(path)?, system, job),
    }
}

/// Runs a job on a machine.
pub(crate) fn run_on(machine: &Machine, system: &arguments::System, job: impl Job) -> Result<()> {
    checked(machine, job.run(machine, &options(system).allow_noiommu(true)))
}

/// How devices of the host are opened: one that was passed to this process needs no opening.
pub(crate) fn host_options(system: &arguments::System) -> Options {
    options(system).allow_noiommu(system.allow_noiommu).passed(true)
}

fn options(system: &arguments::System) -> Options {
    system.mode.map_or(Options::new(), |mode| Options::new().mode(mode))
}

/// What came of work on a machine. A device that reached for memory it was not given makes it fail, whatever the
/// work itself came to.
pub(crate) fn checked(machine: &Machine, result: Result<()>) -> Result<()> {
    let findings = machine.findings();
    for finding in &findings {
        complain(&format!("DMA checker: {finding}"));
    }
    match findings.len() {
        0 => result,
        count => {
            if let Err(error) = result {
                complain(&format!("error: {error:#}"));
            }
            bail!("{count} accesses of devices to memory that they were not given, see above")
        }
    }
}

/// The devices of a system that are bound to vfio-pci.
pub(crate) fn bound_devices(sys: &impl Sys) -> Result<Vec<PciAddress>> {
    let names = sys.read_dir(Path::new("/sys/bus/pci/drivers/vfio-pci"))?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}
