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
    /// What does not pass, as it does not on a real kernel either: the ends of names of tests, and why.
    pub(super) excuses: &'static [(&'static str, &'static str)],
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
    Program { path, machine, arguments, tests, excuses: &[], slow: false }
}

const WITHOUT_VIOMMU: &str = "it needs a vIOMMU, and skips itself in the variant without one";
const NO_DESCRIPTOR: &str = "the kernel answers 0 for the number of the descriptor, and so does ioasis: the test goes on with its standard input";

const IOMMUFD: [(&str, &str); 7] = [
    ("no_viommu.viommu_alloc_nested_iopf", WITHOUT_VIOMMU),
    ("no_viommu.viommu_alloc_with_data", WITHOUT_VIOMMU),
    ("no_viommu.vdevice_cache", WITHOUT_VIOMMU),
    ("no_viommu.hw_queue", WITHOUT_VIOMMU),
    ("no_viommu.vdevice_tombstone", WITHOUT_VIOMMU),
    (".dmabuf_simple", NO_DESCRIPTOR),
    (".dmabuf_revoke", NO_DESCRIPTOR),
];

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
    Program { excuses: &IOMMUFD, ..whole("iommu/iommufd", "iommufd.toml", &[], 246) },
    whole("iommu/iommufd_fail_nth", "iommufd.toml", &[], 8),
];

/// After which a program is ended. Each of its tests has a limit of its own, of 60 seconds at most.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

impl Program {
    /// Why a test of it does not pass; `None`: it is to pass.
    pub(super) fn excuse(&self, test: &str) -> Option<&'static str> {
        self.excuses.iter().find(|(end, _)| test.ends_with(end)).map(|(_, why)| *why)
    }

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
        for Program { machine, .. } in PROGRAMS {
            assert!(root().join("selftests").join(machine).is_file(), "{machine}");
        }
    }
}
