//! An IOAS with memory to map into it: what most rows about mappings start from.
//!
//! The `_with` methods make a well-formed call in which a case changes the one field that its row speaks of.

use std::rc::Rc;

use sys::{Creds, Result, Suite};
use uapi::iommufd::*;
use uapi::{Command, Errno};

use crate::fixture::{Attached, Bound, Fixture};
use crate::memory::{PAGE, Pages, Protection};
use crate::outcome::{Stop, Way};

/// A page, as addresses and lengths of calls are counted.
pub(crate) const P: u64 = PAGE as u64;

/// The flags of a mapping that devices may read and write.
pub(crate) const RW: u32 = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;

/// The flags of a mapping at an IOVA of the caller's choice that devices may read and write.
pub(crate) const FIXED_RW: u32 = IOMMU_IOAS_MAP_FIXED_IOVA | RW;

/// The id of no object.
pub(crate) const UNKNOWN: u32 = 99;

/// An IOAS, its context, a device that may be bound to the context, and 16 pages of memory at a multiple of 64 KiB.
pub(crate) struct Space<'a, S: Suite> {
    fixture: Fixture<'a, S>,
    held: Rc<Held<S>>,
    /// The IOAS.
    pub(crate) id: u32,
}

/// What the spaces of a context share. The files are closed before the memory is unmapped.
struct Held<S: Suite> {
    device: Option<(S::File, u32)>,
    iommufd: S::File,
    memory: Pages,
}

/// What `IOMMU_IOAS_IOVA_RANGES` tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// Start and last IOVA of each range that there was room for.
    pub(crate) ranges: Vec<(u64, u64)>,
    /// How many ranges there are.
    pub(crate) total: u32,
    pub(crate) alignment: u64,
}

impl<'a, S: Suite> Fixture<'a, S> {
    /// An IOAS of a fresh context that no device is bound to.
    pub(crate) fn space(&self) -> Way<Space<'a, S>> {
        let iommufd = self.iommufd()?;
        let id = self.ioas(&iommufd)?;
        self.space_of(None, iommufd, id)
    }

    /// An IOAS of a fresh context that the first device is bound to.
    pub(crate) fn bound_space(&self) -> Way<Space<'a, S>> {
        let Bound { device, iommufd, devid } = self.bound()?;
        let id = self.ioas(&iommufd)?;
        self.space_of(Some((device, devid)), iommufd, id)
    }

    /// An IOAS of a fresh context that the first device is attached to.
    pub(crate) fn attached_space(&self) -> Way<Space<'a, S>> {
        let Attached { bound, ioas, .. } = self.attached()?;
        self.space_of(Some((bound.device, bound.devid)), bound.iommufd, ioas)
    }

    /// An IOAS that the first device is attached to, in a context that accounts by process (`RLIMIT_MODE` 1).
    pub(crate) fn attached_space_by_process(&self) -> Way<Space<'a, S>> {
        let iommufd = self.iommufd()?;
        let mut mode = IommuOption { op: IOMMU_OPTION_OP_SET as u16, val64: 1, ..IommuOption::new() };
        let creds = caller(&["CAP_SYS_RESOURCE"], None);
        self.sys.as_caller(&creds, |sys| Fixture::new(sys, self.target).call(&iommufd, &mut mode))??;
        let Bound { device, iommufd, devid } = self.bound_in(self.address()?, iommufd)?;
        let id = self.ioas(&iommufd)?;
        self.attach(&device, id)?;
        self.space_of(Some((device, devid)), iommufd, id)
    }

    /// An IOAS of a context that tells physical addresses.
    pub(crate) fn telling_space(&self) -> Way<Space<'a, S>> {
        self.needs_get_pa()?;
        self.space()
    }

    /// Not applicable where contexts tell no physical addresses.
    pub(crate) fn needs_get_pa(&self) -> Way<()> {
        match self.lacks_noiommu()? {
            true => Err(Stop::NotApplicable("the kernel is built without IOMMUFD_NOIOMMU".into())),
            false => Ok(()),
        }
    }

    fn space_of(&self, device: Option<(S::File, u32)>, iommufd: S::File, id: u32) -> Way<Space<'a, S>> {
        let memory = Pages::aligned(16 * PAGE, 16 * PAGE, Protection::ReadWrite)?;
        let held = Rc::new(Held { device, iommufd, memory });
        Ok(Space { fixture: Fixture::new(self.sys, self.target), held, id })
    }
}

/// Somebody with these capabilities and this `RLIMIT_MEMLOCK`.
pub(crate) fn caller(capabilities: &[&str], memlock: Option<u64>) -> Creds {
    Creds { capabilities: capabilities.iter().map(|&name| name.to_owned()).collect(), memlock }
}

impl<S: Suite> Space<'_, S> {
    /// A second IOAS of the same context, attached to nothing.
    pub(crate) fn another(&self) -> Way<Self> {
        let id = self.fixture.ioas(self.iommufd())?;
        let fixture = Fixture::new(self.fixture.sys, self.fixture.target);
        Ok(Space { fixture, held: Rc::clone(&self.held), id })
    }

    /// The same, used by somebody else.
    pub(crate) fn as_caller<R>(&self, creds: &Creds, f: impl FnOnce(&Space<'_, S>) -> R) -> Way<R> {
        Ok(self.fixture.sys.as_caller(creds, |sys| {
            let fixture = Fixture::new(sys, self.fixture.target);
            f(&Space { fixture, held: Rc::clone(&self.held), id: self.id })
        })?)
    }

    /// The context.
    pub(crate) fn iommufd(&self) -> &S::File {
        &self.held.iommufd
    }

    /// The device that is bound to the context.
    pub(crate) fn device(&self) -> Way<&S::File> {
        Ok(&self.held.device.as_ref().ok_or_else(no_device)?.0)
    }

    /// The id of its object.
    pub(crate) fn devid(&self) -> Way<u32> {
        Ok(self.held.device.as_ref().ok_or_else(no_device)?.1)
    }

    /// Where the memory starts.
    pub(crate) fn va(&self) -> u64 {
        self.held.memory.address()
    }

    /// Attaches the device to the IOAS; the page table's id.
    pub(crate) fn attach(&self) -> Way<u32> {
        Ok(self.fixture.attach(self.device()?, self.id)?)
    }

    /// Makes a page table of the IOAS for the device (`IOMMU_HWPT_ALLOC`); its id.
    pub(crate) fn page_table(&self) -> Way<u32> {
        let mut alloc = self.page_table_of(self.devid()?);
        self.call(&mut alloc)?;
        Ok(alloc.out_hwpt_id)
    }

    /// `IOMMU_HWPT_ALLOC` of the IOAS for the device.
    pub(crate) fn page_table_with(&self, change: impl FnOnce(&mut IommuHwptAlloc)) -> Way<Result<u32>> {
        let mut alloc = self.page_table_of(self.devid()?);
        change(&mut alloc);
        Ok(self.call(&mut alloc))
    }

    fn page_table_of(&self, dev_id: u32) -> IommuHwptAlloc {
        IommuHwptAlloc { dev_id, pt_id: self.id, ..IommuHwptAlloc::new() }
    }

    /// Detaches the device.
    pub(crate) fn detach(&self) -> Way<()> {
        self.fixture.detach(self.device()?)?;
        Ok(())
    }

    /// Destroys the IOAS.
    pub(crate) fn destroy(&self) -> Result<u32> {
        self.fixture.destroy(self.iommufd(), self.id)
    }

    /// Maps the start of the memory at an IOVA.
    pub(crate) fn map(&self, iova: u64, length: u64) -> Result<u32> {
        self.map_at(iova, self.va(), length)
    }

    /// Maps any memory at an IOVA.
    pub(crate) fn map_at(&self, iova: u64, user_va: u64, length: u64) -> Result<u32> {
        self.fixture.map_at(self.iommufd(), self.id, user_va, length, iova)
    }

    /// Maps any memory at an IOVA of the system's choice; the IOVA.
    pub(crate) fn place(&self, user_va: u64, length: u64) -> Result<u64> {
        self.fixture.map(self.iommufd(), self.id, user_va, length)
    }

    /// `IOMMU_IOAS_MAP` of the first page of the memory at 0x1000.
    pub(crate) fn map_with(&self, change: impl FnOnce(&mut IommuIoasMap)) -> Result<u32> {
        let mut map = IommuIoasMap {
            flags: FIXED_RW,
            ioas_id: self.id,
            user_va: self.va(),
            length: P,
            iova: P,
            ..IommuIoasMap::new()
        };
        change(&mut map);
        self.call(&mut map)
    }

    /// `IOMMU_IOAS_MAP_FILE` of the first page of a file at 0x1000.
    pub(crate) fn map_file_with(&self, fd: i32, change: impl FnOnce(&mut IommuIoasMapFile)) -> Result<u32> {
        let mut map = IommuIoasMapFile {
            flags: FIXED_RW,
            ioas_id: self.id,
            fd,
            length: P,
            iova: P,
            ..IommuIoasMapFile::new()
        };
        change(&mut map);
        self.call(&mut map)
    }

    /// Maps the start of a file at an IOVA of the system's choice; the IOVA.
    pub(crate) fn place_file(&self, fd: i32, length: u64) -> Result<u64> {
        let mut map = IommuIoasMapFile { flags: RW, ioas_id: self.id, fd, length, ..IommuIoasMapFile::new() };
        self.call(&mut map)?;
        Ok(map.iova)
    }

    /// `IOMMU_IOAS_COPY` of the page at 0x1000 to 0x100000 in the same IOAS.
    pub(crate) fn copy_with(&self, change: impl FnOnce(&mut IommuIoasCopy)) -> Result<u32> {
        let mut copy = IommuIoasCopy {
            flags: FIXED_RW,
            dst_ioas_id: self.id,
            src_ioas_id: self.id,
            length: P,
            dst_iova: 0x10_0000,
            src_iova: P,
            ..IommuIoasCopy::new()
        };
        change(&mut copy);
        self.call(&mut copy)
    }

    /// Unmaps; the number of bytes.
    pub(crate) fn unmap(&self, iova: u64, length: u64) -> Result<u64> {
        self.fixture.unmap(self.iommufd(), self.id, iova, length)
    }

    /// The physical address behind an IOVA, and how many bytes are contiguous there.
    pub(crate) fn get_pa(&self, iova: u64, length: u64) -> Result<(u64, u64)> {
        self.fixture.get_pa(self.iommufd(), self.id, iova, length)
    }

    /// `IOMMU_IOAS_NOIOMMU_GET_PA` of the page at 0x1000.
    pub(crate) fn get_pa_with(&self, change: impl FnOnce(&mut IommuIoasNoiommuGetPa)) -> Result<u32> {
        let mut get =
            IommuIoasNoiommuGetPa { ioas_id: self.id, iova: P, length: P, ..IommuIoasNoiommuGetPa::new() };
        change(&mut get);
        self.call(&mut get)
    }

    /// The usable IOVAs, asked for with room for so many ranges, and the errno that came with the reply.
    pub(crate) fn ranges_in(&self, room: u32) -> (Ranges, Option<Errno>) {
        let mut array = vec![IommuIovaRange::default(); room as usize];
        let mut ask = IommuIoasIovaRanges {
            ioas_id: self.id,
            num_iovas: room,
            allowed_iovas: array.as_mut_ptr() as u64,
            ..IommuIoasIovaRanges::new()
        };
        let errno = self.call(&mut ask).err().map(|error| error.errno());
        let told = array.iter().take(ask.num_iovas as usize);
        let ranges = told.map(|range| (range.start, range.last)).collect();
        (Ranges { ranges, total: ask.num_iovas, alignment: ask.out_iova_alignment }, errno)
    }

    /// What mappings have to be aligned to.
    pub(crate) fn alignment(&self) -> u64 {
        self.ranges_in(1).0.alignment
    }

    /// Says at which IOVAs the system may place mappings.
    pub(crate) fn allow(&self, ranges: &[(u64, u64)]) -> Result<u32> {
        let array: Vec<_> = ranges.iter().map(|&(start, last)| IommuIovaRange { start, last }).collect();
        self.call(&mut IommuIoasAllowIovas {
            ioas_id: self.id,
            num_iovas: array.len() as u32,
            allowed_iovas: array.as_ptr() as u64,
            ..IommuIoasAllowIovas::new()
        })
    }

    /// Sets the `HUGE_PAGES` option of the IOAS.
    pub(crate) fn huge_pages(&self, value: u64) -> Result<u32> {
        self.call(&mut IommuOption {
            option_id: IOMMU_OPTION_HUGE_PAGES,
            op: IOMMU_OPTION_OP_SET as u16,
            object_id: self.id,
            val64: value,
            ..IommuOption::new()
        })
    }

    /// The physical address of memory of the process.
    pub(crate) fn physical(&self, va: u64) -> Way<u64> {
        Ok(self.fixture.sys.physical_address(va as usize)?)
    }

    /// Pinned memory of the process in KiB.
    pub(crate) fn vm_pin(&self) -> Way<i64> {
        self.fixture.vm_pin()
    }

    fn call<T: Command>(&self, argument: &mut T) -> Result<u32> {
        self.fixture.call(self.iommufd(), argument)
    }
}

fn no_device() -> Stop {
    Stop::Broken("the case asks for the device of a context without one".into())
}
