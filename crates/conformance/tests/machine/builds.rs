//! The rows on machines of other builds: what holds of one kernel and not of another.

use std::collections::BTreeSet;

use conformance::{Mode, Report, Verdict, run};
use machine::kconfig::{Kconfig, Symbol, Tristate};
use machine::{Iommu, IommuSpec, LayoutKind};

use crate::machine_with;

/// Asks every row in the modes of a build, and finds those that hold only there. `asked` are rows that the build of everything
/// cannot be asked.
fn behaves(settings: &[(Symbol, Tristate)], modes: &[Mode], asked: &[&str]) {
    behaves_with(Iommu::None, settings, modes, asked);
}

/// The same of a machine with or without an IOMMU.
fn behaves_with(iommu: Iommu, settings: &[(Symbol, Tristate)], modes: &[Mode], asked: &[&str]) {
    let kconfig = Kconfig::FULL.with(settings).expect("Kconfig allows it");
    let (machine, mut target) = machine_with(LayoutKind::Scattered, kconfig, iommu, &[]);
    if iommu == Iommu::None && !kconfig.has(Symbol::VfioNoiommu) {
        // No device has a driver then.
        target.devices.clear();
    }
    let unused = machine.usage();
    let reports = run(&machine, &target, |_| true);
    let failures: Vec<_> = reports.iter().filter(|it| matches!(it.verdict, Verdict::Fail { .. })).collect();
    assert!(failures.is_empty(), "{failures:#?}");
    assert_eq!(machine.usage(), unused, "the cases have closed what they opened");
    let passes = |it: &&Report| it.verdict == Verdict::Pass;
    let passed: BTreeSet<&str> = reports.iter().filter(passes).map(|it| it.row.id).collect();
    for id in asked {
        let of_row: Vec<_> = reports.iter().filter(|it| it.row.id == *id).map(|it| &it.verdict).collect();
        assert!(passed.contains(id), "{id} was not asked: {of_row:?}");
    }
    for mode in modes {
        let asked = reports.iter().filter(|it| it.mode == *mode).filter(passes).count();
        assert!(asked > 30, "only {asked} rows were asked in the mode {mode:?}");
    }
}

/// Nodes of devices only, without groups.
#[test]
fn without_groups() {
    behaves(
        &[(Symbol::VfioGroup, Tristate::N)],
        &[Mode::Noiommu, Mode::Iommufd],
        &["B-003", "B-005", "B-012"],
    );
}

/// IOMMUFD is the container.
#[test]
fn without_the_native_container() {
    behaves(
        &[(Symbol::VfioContainer, Tristate::N)],
        &[Mode::Noiommu, Mode::NoiommuGroup, Mode::Iommufd],
        &[],
    );
}

/// Groups only: devices have no nodes of their own.
#[test]
fn without_nodes_of_devices() {
    behaves(&[(Symbol::VfioDeviceCdev, Tristate::N)], &[Mode::NoiommuGroup], &["B-551", "B-552"]);
}

/// Nodes of devices are built, but not for those without an IOMMU.
#[test]
fn without_64_bit_atomics() {
    behaves(&[(Symbol::GenericAtomic64, Tristate::Y)], &[Mode::NoiommuGroup], &["B-024", "B-551", "B-552"]);
}

/// BARs are exported as dma-bufs.
#[test]
fn with_dma_bufs() {
    behaves(
        &[(Symbol::PciP2pdma, Tristate::Y), (Symbol::DmaSharedBuffer, Tristate::Y)],
        &[Mode::Noiommu, Mode::NoiommuGroup, Mode::Iommufd],
        &[
            "B-200", "B-201", "B-202", "B-203", "B-544", "B-545", "B-546", "B-547", "B-694", "B-695",
            "B-696", "B-697", "B-698", "B-699", "B-700",
        ],
    );
}

/// What IOMMUFD says without a device can be asked.
#[test]
fn without_devices_that_have_no_iommu() {
    behaves(&[(Symbol::VfioNoiommu, Tristate::N)], &[Mode::Iommufd], &["B-551", "B-552", "B-656"]);
}

/// Devices behind an IOMMU need no mode for those that have none.
#[test]
fn behind_an_iommu_without_the_noiommu_mode() {
    behaves_with(
        Iommu::Translating(IommuSpec::default()),
        &[(Symbol::VfioNoiommu, Tristate::N)],
        &[Mode::Iommu, Mode::IommuGroup, Mode::Iommufd],
        &["B-023"],
    );
}
