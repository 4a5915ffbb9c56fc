//! What the unit of the self-tests takes and gives where IOMMUFD leaves data to the driver of an IOMMU.

structs! {
    /// What `IOMMU_GET_HW_INFO` tells, of type [`IOMMU_HW_INFO_TYPE_SELFTEST`].
    pub struct IommuTestHwInfo: 8 {
        /// Zero.
        pub flags: u32,
        /// [`IOMMU_HW_INFO_SELFTEST_REGVAL`].
        pub test_reg: u32,
    }

    /// Data of `IOMMU_HWPT_ALLOC`, of type [`IOMMU_HWPT_DATA_SELFTEST`].
    pub struct IommuHwptSelftest: 8 {
        /// What each entry of the IOTLB holds at first.
        pub iotlb: u32,
        /// [`MOCK_IOMMUPT_DEFAULT`] or [`MOCK_IOMMUPT_HUGE`].
        pub pagetable_type: u32,
    }

    /// An entry of `IOMMU_HWPT_INVALIDATE` for a nested page table.
    pub struct IommuHwptInvalidateSelftest: 8 {
        /// [`IOMMU_TEST_INVALIDATE_FLAG_ALL`] or zero.
        pub flags: u32,
        /// Number of the entry of the IOTLB.
        pub iotlb_id: u32,
    }

    /// Data of `IOMMU_VIOMMU_ALLOC`, of type [`IOMMU_VIOMMU_TYPE_SELFTEST`].
    pub struct IommuViommuSelftest: 24 {
        /// Any value.
        pub in_data: u32,
        /// Out: the same.
        pub out_data: u32,
        /// Out: the offset at which the file of the context is to be mapped.
        pub out_mmap_offset: u64,
        /// Out: how many bytes of it.
        pub out_mmap_length: u64,
    }

    /// An entry of `IOMMU_HWPT_INVALIDATE` for a vIOMMU.
    pub struct IommuViommuInvalidateSelftest: 12 {
        /// [`IOMMU_TEST_INVALIDATE_FLAG_ALL`] or zero.
        pub flags: u32,
        /// The virtual number of the device.
        pub vdev_id: u32,
        /// Number of the entry of its cache.
        pub cache_id: u32,
    }

    /// An event of a vIOMMU.
    pub struct IommuViommuEventSelftest: 4 {
        /// The virtual number of the device.
        pub virt_id: u32,
    }
}

constants! {
    /// A page table with the aperture of [`MOCK_APERTURE_START`](super::MOCK_APERTURE_START).
    pub const MOCK_IOMMUPT_DEFAULT: u32 = 0;
    /// A page table of large pages, with the whole aperture.
    pub const MOCK_IOMMUPT_HUGE: u32 = 1;

    /// The highest number of an entry of an IOTLB.
    pub const MOCK_NESTED_DOMAIN_IOTLB_ID_MAX: u32 = 3;
    /// How many entries an IOTLB has.
    pub const MOCK_NESTED_DOMAIN_IOTLB_NUM: u32 = 4;
    /// The highest number of an entry of a device's cache.
    pub const MOCK_DEV_CACHE_ID_MAX: u32 = 3;
    /// How many entries a device's cache has.
    pub const MOCK_DEV_CACHE_NUM: u32 = 4;

    /// Type of [`IommuTestHwInfo`].
    pub const IOMMU_HW_INFO_TYPE_SELFTEST: u32 = 0xfeed_beef;
    /// What it holds.
    pub const IOMMU_HW_INFO_SELFTEST_REGVAL: u32 = 0xdead_beef;
    /// Type of [`IommuHwptSelftest`].
    pub const IOMMU_HWPT_DATA_SELFTEST: u32 = 0xdead;
    /// What tests have entries of an IOTLB hold.
    pub const IOMMU_TEST_IOTLB_DEFAULT: u32 = 0x0bad_beef;
    /// What an entry of a device's cache holds at first.
    pub const IOMMU_TEST_DEV_CACHE_DEFAULT: u32 = 0x00ba_ddad;
    /// Type of [`IommuHwptInvalidateSelftest`].
    pub const IOMMU_HWPT_INVALIDATE_DATA_SELFTEST: u32 = 0xdead_beef;
    /// A type that there is not.
    pub const IOMMU_HWPT_INVALIDATE_DATA_SELFTEST_INVALID: u32 = 0x0dad_beef;
    /// All entries are meant.
    pub const IOMMU_TEST_INVALIDATE_FLAG_ALL: u32 = 1 << 0;
    /// Type of [`IommuViommuSelftest`].
    pub const IOMMU_VIOMMU_TYPE_SELFTEST: u32 = 0xdead_beef;
    /// Type of [`IommuViommuInvalidateSelftest`].
    pub const IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST: u32 = 0xdead_beef;
    /// A type that there is not.
    pub const IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST_INVALID: u32 = 0x0dad_beef;
    /// Type of [`IommuViommuEventSelftest`].
    pub const IOMMU_VEVENTQ_TYPE_SELFTEST: u32 = 0xbeef_beef;
    /// The type of queue that there is.
    pub const IOMMU_HW_QUEUE_TYPE_SELFTEST: u32 = 0xdead_beef;
    /// How many queues a vIOMMU has at most.
    pub const IOMMU_TEST_HW_QUEUE_MAX: u32 = 2;
}
