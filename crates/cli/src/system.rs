//! What a command speaks to: the host's kernel or an embedded machine.

use anyhow::{Result, bail};
use ioasis::{Linux, Options, Sys};
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
        None => job.run(&Linux, &Options::new().allow_noiommu(system.allow_noiommu)),
        Some(path) => {
            let machine = Machine::from_file(path)?;
            run_on(&machine, job)
        }
    }
}

/// Runs a job on a machine. A device that reached for memory it was not given makes the run fail, whatever
/// the job says.
pub(crate) fn run_on(machine: &Machine, job: impl Job) -> Result<()> {
    let result = job.run(machine, &Options::new().allow_noiommu(true));
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
