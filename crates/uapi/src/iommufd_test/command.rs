//! The ioctl and its operations.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::io;

structs! {
    /// Argument of [`IOMMU_TEST_CMD`].
    pub struct IommuTestCmd: 72 {
        /// Size of the argument in bytes.
        pub size: u32,
        /// `IOMMU_TEST_OP_*`.
        pub op: u32,
        /// What the operation works on: an object, or a descriptor of an access.
        pub id: u32,
        /// Not looked at.
        pub reserved: u32,
        /// The operation's own argument, at the start: see [`IommuTestCmd::get`].
        pub operand: [u64; 6],
        /// Marks the end.
        pub last: u32,
        /// Padding.
        pub pad: u32,
    }

    /// Operand of [`IOMMU_TEST_OP_ADD_RESERVED`].
    pub struct IommuTestAddReserved: 16 {
        /// The first IOVA.
        pub start: u64,
        /// How many.
        pub length: u64,
    }

    /// Operand of [`IOMMU_TEST_OP_MOCK_DOMAIN`] and [`IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS`].
    pub struct IommuTestMockDomainFlags: 16 {
        /// Out: the object that stands for the device and is destroyed with it.
        pub out_stdev_id: u32,
        /// Out: the page table that the device is attached to.
        pub out_hwpt_id: u32,
        /// Out: the device, as binding has made it.
        pub out_idev_id: u32,
        /// `MOCK_FLAGS_DEVICE_*`; `MOCK_DOMAIN` does not look at it.
        pub dev_flags: u32,
    }

    /// Operand of [`IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE`].
    pub struct IommuTestMockDomainReplace: 4 {
        /// An IOAS or a page table; out: the page table.
        pub pt_id: u32,
    }

    /// Operand of [`IOMMU_TEST_OP_MD_CHECK_MAP`].
    pub struct IommuTestCheckMap: 24 {
        /// The first IOVA.
        pub iova: u64,
        /// How many.
        pub length: u64,
        /// Address of the memory that is to be mapped there.
        pub uptr: u64,
    }

    /// Operand of [`IOMMU_TEST_OP_MD_CHECK_REFS`].
    pub struct IommuTestCheckRefs: 24 {
        /// In bytes.
        pub length: u64,
        /// Address of the memory.
        pub uptr: u64,
        /// How often each page is to be pinned.
        pub refs: u32,
        /// Padding.
        pub pad: u32,
    }

    /// Operand of [`IOMMU_TEST_OP_CREATE_ACCESS`].
    pub struct IommuTestCreateAccess: 8 {
        /// Out: a descriptor of the access.
        pub out_access_fd: u32,
        /// [`MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES`] or zero.
        pub flags: u32,
    }

    /// Operand of [`IOMMU_TEST_OP_DESTROY_ACCESS_PAGES`].
    pub struct IommuTestDestroyAccessPages: 4 {
        /// The number that `ACCESS_PAGES` gave.
        pub access_pages_id: u32,
    }

    /// Operand of [`IOMMU_TEST_OP_ACCESS_PAGES`].
    pub struct IommuTestAccessPages: 32 {
        /// [`MOCK_FLAGS_ACCESS_WRITE`] or [`MOCK_FLAGS_ACCESS_SYZ`].
        pub flags: u32,
        /// Out: a number for what was pinned.
        pub out_access_pages_id: u32,
        /// The first IOVA.
        pub iova: u64,
        /// How many.
        pub length: u64,
        /// Address of the memory that is to be there, or zero.
        pub uptr: u64,
    }

    /// Operand of [`IOMMU_TEST_OP_ACCESS_RW`].
    pub struct IommuTestAccessRw: 32 {
        /// The first IOVA.
        pub iova: u64,
        /// How many bytes.
        pub length: u64,
        /// Address of a buffer.
        pub uptr: u64,
        /// `MOCK_ACCESS_RW_*` or [`MOCK_FLAGS_ACCESS_SYZ`].
        pub flags: u32,
        /// Padding.
        pub pad: u32,
    }

    /// Operand of [`IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT`].
    pub struct IommuTestMemoryLimit: 4 {
        /// In bytes.
        pub limit: u32,
    }

    /// Operand of [`IOMMU_TEST_OP_ACCESS_REPLACE_IOAS`].
    pub struct IommuTestAccessReplaceIoas: 4 {
        /// The new one.
        pub ioas_id: u32,
    }

    /// Operand of [`IOMMU_TEST_OP_DIRTY`].
    pub struct IommuTestDirty: 48 {
        /// Not looked at.
        pub flags: u32,
        /// Padding.
        pub pad: u32,
        /// The first IOVA.
        pub iova: u64,
        /// How many.
        pub length: u64,
        /// What a bit stands for, in bytes.
        pub page_size: u64,
        /// Address of a bitmap of the pages to be written.
        pub uptr: u64,
        /// Out: how many bits are set.
        pub out_nr_dirty: u64,
    }

    /// Operand of [`IOMMU_TEST_OP_MD_CHECK_IOTLB`].
    pub struct IommuTestCheckIotlb: 8 {
        /// Number of the entry.
        pub id: u32,
        /// What it is to hold.
        pub iotlb: u32,
    }

    /// Operand of [`IOMMU_TEST_OP_TRIGGER_IOPF`].
    pub struct IommuTestTriggerIopf: 24 {
        /// The device that faults.
        pub dev_id: u32,
        /// Its PASID, or zero.
        pub pasid: u32,
        /// The group of requests.
        pub grpid: u32,
        /// What was to be done.
        pub perm: u32,
        /// Where.
        pub addr: u64,
    }

    /// Operand of [`IOMMU_TEST_OP_DEV_CHECK_CACHE`].
    pub struct IommuTestCheckDevCache: 8 {
        /// Number of the entry.
        pub id: u32,
        /// What it is to hold.
        pub cache: u32,
    }

    /// Operand of [`IOMMU_TEST_OP_TRIGGER_VEVENT`].
    pub struct IommuTestTriggerVevent: 4 {
        /// The device that the event is about.
        pub dev_id: u32,
    }

    /// Operand of [`IOMMU_TEST_OP_PASID_ATTACH`], [`IOMMU_TEST_OP_PASID_REPLACE`] and, without `pt_id`,
    /// [`IOMMU_TEST_OP_PASID_DETACH`].
    pub struct IommuTestPasidAttach: 8 {
        /// The PASID.
        pub pasid: u32,
        /// An IOAS or a page table; out: the page table.
        pub pt_id: u32,
    }

    /// Operand of [`IOMMU_TEST_OP_PASID_CHECK_HWPT`].
    pub struct IommuTestPasidCheck: 8 {
        /// The PASID.
        pub pasid: u32,
        /// The page table that the device is to be attached to; zero: none.
        pub hwpt_id: u32,
    }

    /// Operand of [`IOMMU_TEST_OP_DMABUF_GET`].
    pub struct IommuTestDmabufGet: 8 {
        /// In bytes.
        pub length: u32,
        /// `O_*`.
        pub open_flags: u32,
    }

    /// Operand of [`IOMMU_TEST_OP_DMABUF_REVOKE`].
    pub struct IommuTestDmabufRevoke: 8 {
        /// A descriptor of the dma-buf.
        pub dmabuf_fd: i32,
        /// Whether its memory is not there from now on.
        pub revoked: u32,
    }
}

constants! {
    /// Ioctl with [`IommuTestCmd`].
    pub const IOMMU_TEST_CMD: u32 = io(crate::iommufd::IOMMUFD_CMD_BASE + 32);

    /// Keeps IOVAs of an IOAS free.
    pub const IOMMU_TEST_OP_ADD_RESERVED: u32 = 1;
    /// Makes a device, binds it, and attaches it.
    pub const IOMMU_TEST_OP_MOCK_DOMAIN: u32 = 2;
    /// Checks what a page table translates to.
    pub const IOMMU_TEST_OP_MD_CHECK_MAP: u32 = 3;
    /// Checks how often pages are pinned.
    pub const IOMMU_TEST_OP_MD_CHECK_REFS: u32 = 4;
    /// Makes an access, attached to an IOAS.
    pub const IOMMU_TEST_OP_CREATE_ACCESS: u32 = 5;
    /// Gives back what an access has pinned.
    pub const IOMMU_TEST_OP_DESTROY_ACCESS_PAGES: u32 = 6;
    /// Has an access pin pages.
    pub const IOMMU_TEST_OP_ACCESS_PAGES: u32 = 7;
    /// Has an access read or write.
    pub const IOMMU_TEST_OP_ACCESS_RW: u32 = 8;
    /// Bounds how much memory the kernel uses at a time while it pins.
    pub const IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT: u32 = 9;
    /// Attaches a device to something else.
    pub const IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE: u32 = 10;
    /// Attaches an access to another IOAS.
    pub const IOMMU_TEST_OP_ACCESS_REPLACE_IOAS: u32 = 11;
    /// Makes a device with flags.
    pub const IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS: u32 = 12;
    /// Has a device write to pages.
    pub const IOMMU_TEST_OP_DIRTY: u32 = 13;
    /// Checks an entry of the IOTLB of a nested page table.
    pub const IOMMU_TEST_OP_MD_CHECK_IOTLB: u32 = 14;
    /// Has a device fault.
    pub const IOMMU_TEST_OP_TRIGGER_IOPF: u32 = 15;
    /// Checks an entry of the cache of a device.
    pub const IOMMU_TEST_OP_DEV_CHECK_CACHE: u32 = 16;
    /// Has an event happen that a vIOMMU tells.
    pub const IOMMU_TEST_OP_TRIGGER_VEVENT: u32 = 17;
    /// Attaches a device under a PASID.
    pub const IOMMU_TEST_OP_PASID_ATTACH: u32 = 18;
    /// Attaches a device under a PASID to something else.
    pub const IOMMU_TEST_OP_PASID_REPLACE: u32 = 19;
    /// Detaches a device under a PASID.
    pub const IOMMU_TEST_OP_PASID_DETACH: u32 = 20;
    /// Checks what a device is attached to under a PASID.
    pub const IOMMU_TEST_OP_PASID_CHECK_HWPT: u32 = 21;
    /// Makes a dma-buf.
    pub const IOMMU_TEST_OP_DMABUF_GET: u32 = 22;
    /// Takes the memory of a dma-buf away, or gives it back.
    pub const IOMMU_TEST_OP_DMABUF_REVOKE: u32 = 23;

    /// The first IOVA that a page table translates, unless it is a huge one.
    pub const MOCK_APERTURE_START: u32 = 1 << 24;
    /// The last one.
    pub const MOCK_APERTURE_LAST: u32 = (1 << 31) - 1;
    /// The smallest page, in bytes.
    pub const MOCK_PAGE_SIZE: u32 = 2048;
    /// The page of a huge page table, in bytes.
    pub const MOCK_HUGE_PAGE_SIZE: u32 = 512 * MOCK_PAGE_SIZE;

    /// Pages are pinned to be written.
    pub const MOCK_FLAGS_ACCESS_WRITE: u32 = 1 << 0;
    /// The IOVA is the number of an area and an offset there.
    pub const MOCK_FLAGS_ACCESS_SYZ: u32 = 1 << 16;
    /// Memory is written.
    pub const MOCK_ACCESS_RW_WRITE: u32 = 1 << 0;
    /// The kernel takes its general path.
    pub const MOCK_ACCESS_RW_SLOW_PATH: u32 = 1 << 2;
    /// The access pins pages.
    pub const MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES: u32 = 1 << 0;
    /// The IOMMU of the device cannot tell which pages were written.
    pub const MOCK_FLAGS_DEVICE_NO_DIRTY: u32 = 1 << 0;
    /// The device has PASIDs.
    pub const MOCK_FLAGS_DEVICE_PASID: u32 = 1 << 2;
    /// How many bits a PASID has.
    pub const MOCK_PASID_WIDTH: u32 = 20;
    /// The PASID under which the second attachment of a device fails.
    pub const IOMMU_TEST_PASID_RESERVED: u32 = 1024;
}

impl IommuTestCmd {
    /// The operation's own argument.
    pub fn get<T: FromBytes>(&self) -> T {
        const { assert!(size_of::<T>() <= 48, "an operand fits") }
        match T::read_from_prefix(self.operand.as_bytes()) {
            Ok((operand, _)) => operand,
            Err(_) => T::new_zeroed(),
        }
    }

    /// Replaces it.
    pub fn put<T: IntoBytes + Immutable>(&mut self, operand: &T) {
        const { assert!(size_of::<T>() <= 48, "an operand fits") }
        let written = operand.write_to_prefix(self.operand.as_mut_bytes());
        debug_assert!(written.is_ok(), "an operand fits");
    }
}

command!(IommuTestCmd, IOMMU_TEST_CMD, size, min 68);
