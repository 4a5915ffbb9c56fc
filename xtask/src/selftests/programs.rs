//! The programs: on what machine each runs, and what is to come of it.

use std::time::Duration;

/// A run of a program.
pub(super) struct Program {
    /// Its folder and name.
    pub(super) path: &'static str,
    /// The machine file, in the folder `selftests`.
    pub(super) machine: &'static str,
    pub(super) arguments: &'static [&'static str],
    /// How many tests it has.
    pub(super) tests: usize,
    /// How many of them are to pass, at least.
    pub(super) pass: usize,
    /// It takes minutes by its own sleeps: only run if all are asked for.
    pub(super) slow: bool,
}

const DEVICE: &[&str] = &["0000:01:00.0"];

/// A program of which every test is to pass.
const fn whole(
    path: &'static str,
    machine: &'static str,
    arguments: &'static [&'static str],
    tests: usize,
) -> Program {
    Program { path, machine, arguments, tests, pass: tests, slow: false }
}

/// All of them.
pub(super) const PROGRAMS: [Program; 10] = [
    whole("vfio/vfio_iommufd_setup_test", "igb.toml", DEVICE, 6),
    whole("vfio/vfio_pci_device_test", "igb.toml", DEVICE, 5),
    whole("vfio/vfio_dma_mapping_test", "igb.toml", DEVICE, 30),
    whole("vfio/vfio_dma_mapping_mmio_test", "igb.toml", DEVICE, 15),
    whole(
        "vfio/vfio_pci_device_init_perf_test",
        "several.toml",
        &["0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:04:00.0"],
        5,
    ),
    whole("vfio/vfio_pci_driver_test", "ioat.toml", DEVICE, 35),
    Program { slow: true, ..whole("vfio/vfio_pci_driver_test", "igb.toml", DEVICE, 35) },
    whole("vfio/vfio_pci_sriov_uapi_test", "sriov.toml", DEVICE, 45),
    // As on a real kernel, where 5 are skipped, and 8 fail since its own mock of a dma-buf answers no descriptor.
    Program { pass: 233, ..whole("iommu/iommufd", "iommufd.toml", &[], 246) },
    whole("iommu/iommufd_fail_nth", "iommufd.toml", &[], 8),
];

/// After which a program is ended. Each of its tests has a limit of its own, of 60 seconds at most.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

impl Program {
    /// Its name, with the machine that it runs on where it runs on several.
    pub(super) fn name(&self) -> String {
        let name = self.path.rsplit('/').next().unwrap_or(self.path);
        match PROGRAMS.iter().filter(|other| other.path == self.path).count() {
            1 => name.to_string(),
            _ => format!("{name} ({})", self.machine.trim_end_matches(".toml")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::root;

    #[test]
    fn each_has_a_name_of_its_own_and_a_machine() {
        let mut names: Vec<String> = PROGRAMS.iter().map(Program::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PROGRAMS.len());
        for Program { machine, pass, tests, .. } in PROGRAMS {
            assert!(root().join("selftests").join(machine).is_file(), "{machine}");
            assert!((1..=tests).contains(&pass));
        }
    }
}
