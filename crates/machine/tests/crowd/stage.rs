//! What all threads work on: a machine with four devices, and a context with some IOASes that is open all the time.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use machine::{File, Machine};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use sys::{MemoryOptions, PageSize, Suite, Sys};
use uapi::Command;
use uapi::iommufd::IommuIoasAlloc;

use crate::buffer::PAGE;
use crate::common::{self, DRIVER, open};
use crate::random::Random;
use crate::watch::Step;

/// Driven by those who behave.
pub(crate) const DRIVEN: [&str; 2] = ["0000:01:00.0", "0000:02:00.0"];
/// Opened by its node, and through its group.
pub(crate) const CONTESTED: &str = "0000:03:00.0";
/// Told to access what it may not.
pub(crate) const CARELESS: &str = "0000:04:00.0";

pub(crate) struct Stage {
    pub(crate) machine: Machine,
    pub(crate) iommu: bool,
    context: File,
    pub(crate) spaces: [u32; 3],
    /// Memory that several pin, and each at another address.
    file: OwnedFd,
}

impl Stage {
    pub(crate) fn new(iommu: &str, layout: &str) -> Self {
        let mut text = format!(
            "iommu = '{iommu}'\ncapabilities = ['CAP_SYS_RAWIO', 'CAP_IPC_LOCK', 'CAP_SYS_ADMIN']\n\
             [memory]\nlayout = '{layout}'\nsize = '1GiB'\n"
        );
        for address in DRIVEN.into_iter().chain([CONTESTED, CARELESS]) {
            text += &format!("[[device]]\naddress = '{address}'\nmodel = 'edu'\ndma_mask = 39\n");
        }
        let machine = Machine::from_spec(text.parse().unwrap()).unwrap();
        let context = open(&machine, "/dev/iommu").unwrap();
        let spaces = std::array::from_fn(|_| {
            let mut ioas = IommuIoasAlloc::new();
            machine.ioctl(&context, &mut ioas).unwrap();
            ioas.out_ioas_id
        });
        let file = memfd_create("crowd", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 4 * PAGE).unwrap();
        Stage { machine, iommu: iommu != "none", context, spaces, file }
    }

    pub(crate) fn context(&self) -> &File {
        &self.context
    }

    pub(crate) fn context_fd(&self) -> i32 {
        self.context.as_fd().as_raw_fd()
    }

    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// The node of a device; `None` while its driver is not bound.
    pub(crate) fn node(&self, address: &str) -> Option<String> {
        let names =
            self.machine.read_dir(Path::new(&format!("/sys/bus/pci/devices/{address}/vfio-dev"))).ok()?;
        Some(format!("/dev/vfio/devices/{}", names.first()?))
    }

    /// The node of its group.
    pub(crate) fn group(&self, address: &str) -> Option<String> {
        let link = format!("/sys/bus/pci/devices/{address}/iommu_group");
        let group = self.machine.read_link(Path::new(&link)).ok()?;
        let number = group.file_name()?.to_str()?.to_owned();
        Some(format!("/dev/vfio/{}{number}", if self.iommu { "" } else { "noiommu-" }))
    }

    /// Takes a device away, or its driver, which waits for its users, and brings it back.
    pub(crate) fn unplug(&self, step: &Step, random: &mut Random) {
        let address = random.pick(&[DRIVEN[0], DRIVEN[1], CONTESTED, CARELESS]);
        let device = format!("/sys/bus/pci/devices/{address}");
        let write = |path: &str, text: &str| common::write(&self.machine, path, text).unwrap();
        if random.one_in(2) {
            step.now("unbinding a driver");
            write(&format!("{DRIVER}/unbind"), address);
        } else {
            step.now("removing a device");
            write(&format!("{device}/remove"), "1");
            step.now("finding it again");
            write("/sys/bus/pci/rescan", "1");
            write(&format!("{device}/driver_override"), "vfio-pci");
        }
        step.now("binding a driver");
        write(&format!("{DRIVER}/bind"), address);
    }

    /// Everything that is held, and how much memory can be had.
    pub(crate) fn holds(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let options = MemoryOptions { length: 2 << 20, page_size: PageSize::Huge2M, highest: u64::MAX };
        let free: Vec<_> = std::iter::from_fn(|| self.machine.allocate(&options).ok()).collect();
        (self.machine.usage(), self.machine.vm_pin().unwrap(), free.len())
    }

    /// Only the careless one may have been refused anything.
    pub(crate) fn check_findings(&self) {
        let others: Vec<_> =
            self.machine.findings().into_iter().filter(|finding| *finding.device != *CARELESS).collect();
        assert!(others.is_empty(), "{others:#?}");
    }
}
