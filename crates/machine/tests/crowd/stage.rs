//! What all threads work on: a machine with four devices, two of them on threads, and a context that is open all the time.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use machine::{File, Machine};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use sys::{MemoryOptions, PageSize, Suite, Sys};

use crate::buffer::{Buffer, PAGE, Source};
use crate::calls::Ioas;
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
    spaces: [u32; 3],
    /// Memory that several pin, and each at another address.
    file: OwnedFd,
}

impl Stage {
    pub(crate) fn new(iommu: &str, layout: &str) -> Self {
        let mut text = format!(
            "iommu = '{iommu}'\ncapabilities = ['CAP_SYS_RAWIO', 'CAP_IPC_LOCK', 'CAP_SYS_ADMIN']\n\
             [memory]\nlayout = '{layout}'\nsize = '1GiB'\n"
        );
        let devices = [(DRIVEN[0], true), (DRIVEN[1], false), (CONTESTED, false), (CARELESS, true)];
        for (address, thread) in devices {
            text += &format!(
                "[[device]]\naddress = '{address}'\nmodel = 'edu'\ndma_mask = 39\nthread = {thread}\n"
            );
        }
        let machine = Machine::from_spec(text.parse().unwrap()).unwrap();
        let context = open(&machine, "/dev/iommu").unwrap();
        let spaces = std::array::from_fn(|_| Ioas::new(&machine, &context).id);
        let file = memfd_create("crowd", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 4 * PAGE).unwrap();
        Stage { machine, iommu: iommu != "none", context, spaces, file }
    }

    pub(crate) fn context(&self) -> &File {
        &self.context
    }

    /// One of its IOASes.
    pub(crate) fn space(&self, random: &mut Random) -> Ioas<'_> {
        Ioas::of(&self.machine, &self.context, random.pick(&self.spaces))
    }

    /// What a device that is attached to an IOAS is to be told of a page there.
    pub(crate) fn device_address(&self, space: Ioas<'_>, iova: u64) -> u64 {
        if self.iommu { iova } else { space.physical(iova).unwrap() }
    }

    /// Two pages of memory that others pin too.
    pub(crate) fn shared_pages(&self, random: &mut Random) -> Source {
        Source::File { fd: self.file.as_raw_fd(), start: random.below(3) * PAGE }
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

    /// What a page of a buffer holds has to be this.
    #[track_caller]
    pub(crate) fn check_page(&self, buffer: &Buffer, page: u64, pattern: &[u8; PAGE as usize]) {
        let there = buffer.read(page);
        let wrong = there.iter().zip(pattern).position(|(there, expected)| there != expected);
        if let Some(at) = wrong {
            self.check_findings();
            panic!("byte {at} is {:#x}, not {:#x}", there[at], pattern[at]);
        }
    }

    /// Only the careless one may have been refused anything.
    pub(crate) fn check_findings(&self) {
        let others: Vec<_> =
            self.machine.findings().into_iter().filter(|finding| *finding.device != *CARELESS).collect();
        assert!(others.is_empty(), "{others:#?}");
    }
}
