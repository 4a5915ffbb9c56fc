//! The calls, and what they may answer beside others.

use machine::{File, Machine};
use sys::{Result, Sys};
use uapi::iommufd::*;
use uapi::vfio::VfioDeviceAttachIommufdPt;
use uapi::{Command, Errno};

use crate::buffer::{PAGE, Source};

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

/// An IOAS of a context.
#[derive(Clone, Copy)]
pub(crate) struct Ioas<'a> {
    machine: &'a Machine,
    context: &'a File,
    pub(crate) id: u32,
}

impl<'a> Ioas<'a> {
    pub(crate) fn new(machine: &'a Machine, context: &'a File) -> Self {
        let mut argument = IommuIoasAlloc::new();
        machine.ioctl(context, &mut argument).unwrap();
        Ioas::of(machine, context, argument.out_ioas_id)
    }

    /// The one of this id.
    pub(crate) fn of(machine: &'a Machine, context: &'a File, id: u32) -> Self {
        Ioas { machine, context, id }
    }

    pub(crate) fn destroy(self) {
        self.machine.ioctl(self.context, &mut IommuDestroy { id: self.id, ..Command::new() }).unwrap();
    }

    /// Maps two pages at an IOVA.
    pub(crate) fn map(self, iova: u64, source: Source) {
        match source {
            Source::Memory { address } => {
                let mut map = IommuIoasMap {
                    flags: FLAGS,
                    ioas_id: self.id,
                    user_va: address,
                    length: 2 * PAGE,
                    iova,
                    ..Command::new()
                };
                // SAFETY: the memory is reached as memory that devices share, through raw pointers.
                unsafe { self.machine.ioctl_typed(self.context, &mut map) }.unwrap();
            }
            Source::File { fd, start } => {
                let mut map = IommuIoasMapFile {
                    flags: FLAGS,
                    ioas_id: self.id,
                    fd,
                    start,
                    length: 2 * PAGE,
                    iova,
                    ..Command::new()
                };
                // SAFETY: the file is mapped nowhere in the process but by the machine.
                unsafe { self.machine.ioctl_typed(self.context, &mut map) }.unwrap();
            }
        }
    }

    /// Maps the same two pages in another IOAS, at the same IOVA.
    pub(crate) fn copy_to(self, other: Self, iova: u64) {
        let mut copy = IommuIoasCopy {
            flags: FLAGS,
            dst_ioas_id: other.id,
            src_ioas_id: self.id,
            length: 2 * PAGE,
            dst_iova: iova,
            src_iova: iova,
            ..Command::new()
        };
        // SAFETY: what is mapped was given to devices already.
        unsafe { self.machine.ioctl_typed(self.context, &mut copy) }.unwrap();
    }

    pub(crate) fn unmap(self, iova: u64) {
        let mut unmap = IommuIoasUnmap { ioas_id: self.id, iova, length: 2 * PAGE, ..Command::new() };
        self.machine.ioctl(self.context, &mut unmap).unwrap();
        assert_eq!(unmap.length, 2 * PAGE);
    }

    /// The physical address of a page.
    pub(crate) fn physical(self, iova: u64) -> Result<u64> {
        let mut query = IommuIoasNoiommuGetPa { ioas_id: self.id, iova, length: PAGE, ..Command::new() };
        self.machine.ioctl(self.context, &mut query)?;
        assert_eq!(query.length, PAGE);
        Ok(query.out_phys)
    }

    /// Attaches a device that is bound to the context, or changes it over.
    pub(crate) fn attach(self, device: &File) {
        let mut attach = VfioDeviceAttachIommufdPt { pt_id: self.id, ..Command::new() };
        self.machine.ioctl(device, &mut attach).unwrap();
    }
}
