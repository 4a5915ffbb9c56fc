//! The calls, and what they may answer beside others.

use machine::File;
use sys::{Result, Sys};
use uapi::iommufd::*;
use uapi::vfio::VfioDeviceAttachIommufdPt;
use uapi::{Command, Errno};

use crate::buffer::{PAGE, Source};
use crate::stage::Stage;

const FLAGS: u32 = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_FIXED_IOVA;

/// What was answered; `None` for a refusal that others may bring about at any time.
#[track_caller]
pub(crate) fn unless<T>(errnos: &[Errno], result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) if errnos.contains(&error.errno()) => None,
        Err(error) => panic!("{error}"),
    }
}

impl Stage {
    /// Maps `pages` pages at an IOVA.
    pub(crate) fn map(&self, space: u32, iova: u64, source: Source, pages: u64) -> Result<u32> {
        match source {
            Source::Memory { address } => {
                let mut map = IommuIoasMap {
                    flags: FLAGS,
                    ioas_id: space,
                    user_va: address,
                    length: pages * PAGE,
                    iova,
                    ..Command::new()
                };
                // SAFETY: the memory is reached as memory that devices share, through raw pointers.
                unsafe { self.machine.ioctl_typed(self.context(), &mut map) }
            }
            Source::File { fd, start } => {
                let mut map = IommuIoasMapFile {
                    flags: FLAGS,
                    ioas_id: space,
                    fd,
                    start,
                    length: pages * PAGE,
                    iova,
                    ..Command::new()
                };
                // SAFETY: the file is mapped nowhere in the process but by the machine.
                unsafe { self.machine.ioctl_typed(self.context(), &mut map) }
            }
        }
    }

    pub(crate) fn copy(&self, from: u32, to: u32, iova: u64, pages: u64) -> Result<u32> {
        let mut copy = IommuIoasCopy {
            flags: FLAGS,
            dst_ioas_id: to,
            src_ioas_id: from,
            length: pages * PAGE,
            dst_iova: iova,
            src_iova: iova,
            ..Command::new()
        };
        // SAFETY: what is mapped was given to devices already.
        unsafe { self.machine.ioctl_typed(self.context(), &mut copy) }
    }

    pub(crate) fn unmap(&self, space: u32, iova: u64, pages: u64) {
        let mut unmap = IommuIoasUnmap { ioas_id: space, iova, length: pages * PAGE, ..Command::new() };
        self.machine.ioctl(self.context(), &mut unmap).unwrap();
        assert_eq!(unmap.length, pages * PAGE);
    }

    /// The physical address of a page.
    pub(crate) fn physical(&self, space: u32, iova: u64) -> Result<u64> {
        let mut query = IommuIoasNoiommuGetPa { ioas_id: space, iova, length: PAGE, ..Command::new() };
        self.machine.ioctl(self.context(), &mut query)?;
        assert_eq!(query.length, PAGE);
        Ok(query.out_phys)
    }

    /// What a device that is attached to an IOAS is to be told of a page there.
    pub(crate) fn device_address(&self, space: u32, iova: u64) -> u64 {
        if self.iommu { iova } else { self.physical(space, iova).unwrap() }
    }

    pub(crate) fn attach(&self, device: &File, space: u32) {
        let mut attach = VfioDeviceAttachIommufdPt { pt_id: space, ..Command::new() };
        self.machine.ioctl(device, &mut attach).unwrap();
    }
}
