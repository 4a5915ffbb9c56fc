//! `ioasis conform`: the conformance suite on a kernel or on a machine.

mod compare;
mod host;
mod results;
mod table;

use std::path::Path;

use anyhow::{Result, bail, ensure};
use conformance::{Report, Row, Target, Verdict, rows};
use ioasis::{Linux, PciAddress, Sys as _};
use machine::Machine;
use sys::Suite;

use crate::arguments::{self, Conform};
use crate::output::{complain, print, print_json};
use crate::stop::StopFlag;
use crate::system;
use results::Results;

pub(crate) fn run(system: &arguments::System, conform: &Conform) -> Result<()> {
    if let Some([left, right]) = conform.compare.as_deref() {
        return compare::run(left, right);
    }
    ensure!(
        rows().iter().any(|row| conform.wants(row)),
        "no row of the suite contains {:?}; --list shows them",
        conform.filter.as_deref().unwrap_or_default()
    );
    if conform.list {
        return list(conform);
    }
    ensure!(system.mode.is_none(), "the suite goes its own ways to a device; --mode is not for it");
    match &system.machine {
        Some(path) => {
            let machine = Machine::from_file(path)?;
            let target = machine_target(&machine, path, &conform.device)?;
            system::checked(&machine, ask(&machine, &target, conform))
        }
        None => {
            let becomes = "the devices are opened, reset and allowed to master the bus, vfio-pci is taken from them and given \
                           back, memory is pinned, and the vfio parameter enable_unsafe_noiommu_mode is changed and set back";
            ask(&Linux, &host_target(&conform.device, becomes)?, conform)
        }
    }
}

/// Prints the rows themselves.
fn list(conform: &Conform) -> Result<()> {
    let rows: Vec<Row> = rows().into_iter().filter(|row| conform.wants(row)).collect();
    print(&table::list(&rows))
}

/// Asks a system the rows, and prints what came of it.
fn ask<S: Suite>(sys: &S, target: &Target, conform: &Conform) -> Result<()> {
    let stop = StopFlag::install()?;
    // A case that has begun ends, so that everything is as it was before.
    let reports = conformance::run(sys, target, |row| conform.wants(row) && !stop.is_raised());
    stop.check()?;
    if conform.json {
        print_json(&Results::new(sys.name(), &reports))?;
    } else {
        print(&table::text(&sys.name(), &reports)?)?;
    }
    match reports.iter().filter(|report| is_failure(report)).count() {
        0 => Ok(()),
        failures => bail!("{failures} of {} answers are not as the rows say", asked(&reports)),
    }
}

/// How many answers there are.
fn asked(reports: &[Report]) -> usize {
    reports.iter().filter(|report| !matches!(report.verdict, Verdict::NotApplicable(_))).count()
}

fn is_failure(report: &Report) -> bool {
    matches!(report.verdict, Verdict::Fail { .. })
}

impl Conform {
    fn wants(&self, row: &Row) -> bool {
        let modes: Vec<&str> = row.modes.iter().map(|mode| mode.name()).collect();
        let text = format!("{row} {}", modes.join(" ")).to_lowercase();
        self.filter.as_ref().is_none_or(|part| text.contains(&part.to_lowercase()))
    }
}

/// The devices of a machine that were named, or all of them.
pub(crate) fn machine_target(machine: &Machine, path: &Path, named: &[PciAddress]) -> Result<Target> {
    let devices = system::bound_devices(machine)?;
    ensure!(
        !devices.is_empty(),
        "{} has no device that is bound to vfio-pci, and one is needed: add a [[device]]",
        path.display()
    );
    Ok(Target { devices: choose(devices, named)? })
}

/// Of the devices that are there those that were named, or all.
fn choose(there: Vec<PciAddress>, named: &[PciAddress]) -> Result<Vec<String>> {
    if let Some(missing) = named.iter().find(|address| !there.contains(address)) {
        let there: Vec<String> = there.iter().map(PciAddress::to_string).collect();
        bail!("the machine has no device {missing} bound to vfio-pci; it has {}", there.join(" "));
    }
    let chosen = if named.is_empty() { &there } else { named };
    Ok(chosen.iter().map(PciAddress::to_string).collect())
}

/// The devices of the host that were named, after a word of what becomes of them.
pub(crate) fn host_target(named: &[PciAddress], becomes: &str) -> Result<Target> {
    ensure!(
        !named.is_empty(),
        "nothing was named to ask: --machine FILE asks an embedded machine, without hardware and privileges; \
         --device ADDRESS asks the host's kernel, with devices that are bound to vfio-pci and that nobody else needs"
    );
    host::check(named)?;
    let devices: Vec<String> = named.iter().map(PciAddress::to_string).collect();
    complain(&format!(
        "{}, with {}: {becomes}; the kernel marks itself as tainted where they have no IOMMU. Ctrl-C ends it in order.",
        Linux.name(),
        devices.join(" ")
    ));
    Ok(Target { devices })
}
