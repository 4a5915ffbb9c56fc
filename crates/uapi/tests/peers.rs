//! A second opinion: the layouts and values that other crates got from the kernel headers.
//!
//! They know an older kernel; what they do not know is listed by name. None knows the header of the kernel's self-tests.

use std::collections::BTreeSet;

use uapi::table::{self, Constant, Struct};

/// What another crate says of one structure.
struct Peer {
    structure: &'static str,
    size: usize,
    fields: Vec<PeerField>,
}

struct PeerField {
    name: &'static str,
    offset: usize,
    size: usize,
}

/// Structures that are newer than the other crates.
const NEW_STRUCTS: &[&str] = &["IommuIoasNoiommuGetPa", "VfioDeviceFeatureZpciErr"];

/// Constants that are newer than the other crates.
const NEW_CONSTANTS: &[&str] = &[
    "IOMMUFD_CMD_IOAS_NOIOMMU_GET_PA",
    "IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI",
    "VFIO_DEVICE_FEATURE_ZPCI_ERROR",
];

/// The size of a field, told by a function that borrows it.
fn size_of_field<S, F>(_: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

/// Lists structures of another crate: fields by its names, with ours behind an arrow where it differs in
/// more than leading underscores. Flexible arrays are not listed.
macro_rules! peers {
    ($crate_path:path: $( $structure:ident { $( $field:ident $(=> $ours:ident)? ),+ $(,)? }, )+) => {{
        use $crate_path as peer;
        vec![$(
            Peer {
                structure: stringify!($structure),
                size: size_of::<peer::$structure>(),
                fields: vec![$(
                    PeerField {
                        name: [$(stringify!($ours),)? stringify!($field)][0],
                        offset: core::mem::offset_of!(peer::$structure, $field),
                        size: size_of_field(|s: &peer::$structure| &s.$field),
                    }
                ),+],
            }
        ),+]
    }};
}

/// Lists constants of another crate with their values.
macro_rules! values {
    ($crate_path:path: $( $name:ident, )+) => {{
        use $crate_path as peer;
        vec![$( (stringify!($name), i128::from(peer::$name)) ),+]
    }};
}

fn peers() -> Vec<Peer> {
    let mut peers = peers! {
        vfio_bindings::bindings::vfio:
        vfio_info_cap_header { id, version, next },
        vfio_group_status { argsz, flags },
        vfio_device_info { argsz, flags, num_regions, num_irqs, cap_offset, pad },
        vfio_device_info_cap_pci_atomic_comp { header, flags, reserved },
        vfio_region_info { argsz, flags, index, cap_offset, size, offset },
        vfio_region_sparse_mmap_area { offset, size },
        vfio_region_info_cap_sparse_mmap { header, nr_areas, reserved },
        vfio_region_info_cap_type { header, type_, subtype },
        vfio_region_gfx_edid { edid_offset, edid_max_size, edid_size, max_xres, max_yres, link_state },
        vfio_device_migration_info { device_state, reserved, pending_bytes, data_offset, data_size },
        vfio_region_info_cap_nvlink2_ssatgt { header, tgt },
        vfio_region_info_cap_nvlink2_lnkspd { header, link_speed, __pad },
        vfio_irq_info { argsz, flags, index, count },
        vfio_irq_set { argsz, flags, index, start, count },
        vfio_pci_dependent_device { __bindgen_anon_1 => devid, segment, bus, devfn },
        vfio_pci_hot_reset_info { argsz, flags, count },
        vfio_pci_hot_reset { argsz, flags, count },
        vfio_device_gfx_plane_info {
            argsz, flags, drm_plane_type, drm_format, drm_format_mod, width, height, stride, size,
            x_pos, y_pos, x_hot, y_hot, __bindgen_anon_1 => region_index, reserved,
        },
        vfio_device_ioeventfd { argsz, flags, offset, data, fd, reserved },
        vfio_device_feature { argsz, flags },
        vfio_device_bind_iommufd { argsz, flags, iommufd, out_devid, token_uuid_ptr },
        vfio_device_attach_iommufd_pt { argsz, flags, pt_id, pasid },
        vfio_device_detach_iommufd_pt { argsz, flags, pasid },
        vfio_device_feature_migration { flags },
        vfio_device_feature_mig_state { device_state, data_fd },
        vfio_precopy_info { argsz, flags, initial_bytes, dirty_bytes },
        vfio_device_low_power_entry_with_wakeup { wakeup_eventfd, reserved },
        vfio_device_feature_dma_logging_control { page_size, num_ranges, __reserved, ranges },
        vfio_device_feature_dma_logging_range { iova, length },
        vfio_device_feature_dma_logging_report { iova, length, page_size, bitmap },
        vfio_device_feature_mig_data_size { stop_copy_length },
        vfio_device_feature_bus_master { op },
        vfio_region_dma_range { offset, length },
        vfio_device_feature_dma_buf { region_index, open_flags, flags, nr_ranges },
        vfio_iommu_type1_info { argsz, flags, iova_pgsizes, cap_offset, pad },
        vfio_iova_range { start, end },
        vfio_iommu_type1_info_cap_iova_range { header, nr_iovas, reserved },
        vfio_iommu_type1_info_cap_migration { header, flags, pgsize_bitmap, max_dirty_bitmap_size },
        vfio_iommu_type1_info_dma_avail { header, avail },
        vfio_iommu_type1_dma_map { argsz, flags, vaddr, iova, size },
        vfio_bitmap { pgsize, size, data },
        vfio_iommu_type1_dma_unmap { argsz, flags, iova, size },
        vfio_iommu_type1_dirty_bitmap { argsz, flags },
        vfio_iommu_type1_dirty_bitmap_get { iova, size, bitmap },
        vfio_iommu_spapr_tce_ddw_info { pgsizes, max_dynamic_windows_supported, levels },
        vfio_iommu_spapr_tce_info { argsz, flags, dma32_window_start, dma32_window_size, ddw },
        vfio_eeh_pe_err { type_, func, addr, mask },
        vfio_eeh_pe_op { argsz, flags, op, __bindgen_anon_1 => err },
        vfio_iommu_spapr_register_memory { argsz, flags, vaddr, size },
        vfio_iommu_spapr_tce_create {
            argsz, flags, page_shift, __resv1, window_size, levels, __resv2, start_addr,
        },
        vfio_iommu_spapr_tce_remove { argsz, flags, start_addr },
    };
    peers.extend(peers! {
        iommufd_bindings::iommufd:
        iommu_destroy { size, id },
        iommu_ioas_alloc { size, flags, out_ioas_id },
        iommu_iova_range { start, last },
        iommu_ioas_iova_ranges {
            size, ioas_id, num_iovas, __reserved, allowed_iovas, out_iova_alignment,
        },
        iommu_ioas_allow_iovas { size, ioas_id, num_iovas, __reserved, allowed_iovas },
        iommu_ioas_map { size, flags, ioas_id, __reserved, user_va, length, iova },
        iommu_ioas_map_file { size, flags, ioas_id, fd, start, length, iova },
        iommu_ioas_copy { size, flags, dst_ioas_id, src_ioas_id, length, dst_iova, src_iova },
        iommu_ioas_unmap { size, ioas_id, iova, length },
        iommu_option { size, option_id, op, __reserved, object_id, val64 },
        iommu_vfio_ioas { size, ioas_id, op, __reserved },
        iommu_hwpt_vtd_s1 { flags, pgtbl_addr, addr_width, __reserved },
        iommu_hwpt_arm_smmuv3 { ste },
        iommu_hwpt_amd_guest { dte },
        iommu_hwpt_alloc {
            size, flags, dev_id, pt_id, out_hwpt_id, __reserved, data_type, data_len, data_uptr,
            fault_id, __reserved2,
        },
        iommu_hw_info_vtd { flags, __reserved, cap_reg, ecap_reg },
        iommu_hw_info_arm_smmuv3 { flags, __reserved, idr, iidr, aidr },
        iommu_hw_info_tegra241_cmdqv { flags, version, log2vcmdqs, log2vsids, __reserved },
        iommu_hw_info_amd { efr, efr2 },
        iommu_hw_info {
            size, flags, dev_id, data_len, data_uptr, __bindgen_anon_1 => out_data_type,
            out_max_pasid_log2, __reserved, out_capabilities,
        },
        iommu_hwpt_set_dirty_tracking { size, flags, hwpt_id, __reserved },
        iommu_hwpt_get_dirty_bitmap { size, hwpt_id, flags, __reserved, iova, length, page_size, data },
        iommu_hwpt_vtd_s1_invalidate { addr, npages, flags, __reserved },
        iommu_viommu_arm_smmuv3_invalidate { cmd },
        iommu_hwpt_invalidate { size, hwpt_id, data_uptr, data_type, entry_len, entry_num, __reserved },
        iommu_hwpt_pgfault { flags, dev_id, pasid, grpid, perm, __reserved, addr, length, cookie },
        iommu_hwpt_page_response { cookie, code },
        iommu_fault_alloc { size, flags, out_fault_id, out_fault_fd },
        iommu_viommu_tegra241_cmdqv { out_vintf_mmap_offset, out_vintf_mmap_length },
        iommu_viommu_alloc {
            size, flags, type_, dev_id, hwpt_id, out_viommu_id, data_len, __reserved, data_uptr,
        },
        iommu_vdevice_alloc { size, viommu_id, dev_id, out_vdevice_id, virt_id },
        iommu_ioas_change_process { size, __reserved },
        iommufd_vevent_header { flags, sequence },
        iommu_vevent_arm_smmuv3 { evt },
        iommu_vevent_tegra241_cmdqv { lvcmdq_err_map },
        iommu_veventq_alloc {
            size, flags, viommu_id, type_, veventq_depth, out_veventq_id, out_veventq_fd, __reserved,
        },
        iommu_hw_queue_alloc {
            size, flags, viommu_id, type_, index, out_hw_queue_id, nesting_parent_iova, length,
        },
    });
    peers
}

fn values() -> Vec<(&'static str, i128)> {
    let mut values = values! {
        vfio_bindings::bindings::vfio:
        VFIO_API_VERSION,
        VFIO_TYPE1_IOMMU,
        VFIO_SPAPR_TCE_IOMMU,
        VFIO_TYPE1v2_IOMMU,
        VFIO_DMA_CC_IOMMU,
        VFIO_EEH,
        VFIO_SPAPR_TCE_v2_IOMMU,
        VFIO_NOIOMMU_IOMMU,
        VFIO_UNMAP_ALL,
        VFIO_UPDATE_VADDR,
        VFIO_TYPE,
        VFIO_BASE,
        VFIO_GROUP_FLAGS_VIABLE,
        VFIO_GROUP_FLAGS_CONTAINER_SET,
        VFIO_DEVICE_FLAGS_RESET,
        VFIO_DEVICE_FLAGS_PCI,
        VFIO_DEVICE_FLAGS_PLATFORM,
        VFIO_DEVICE_FLAGS_AMBA,
        VFIO_DEVICE_FLAGS_CCW,
        VFIO_DEVICE_FLAGS_AP,
        VFIO_DEVICE_FLAGS_FSL_MC,
        VFIO_DEVICE_FLAGS_CAPS,
        VFIO_DEVICE_FLAGS_CDX,
        VFIO_DEVICE_INFO_CAP_ZPCI_BASE,
        VFIO_DEVICE_INFO_CAP_ZPCI_GROUP,
        VFIO_DEVICE_INFO_CAP_ZPCI_UTIL,
        VFIO_DEVICE_INFO_CAP_ZPCI_PFIP,
        VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP,
        VFIO_PCI_ATOMIC_COMP32,
        VFIO_PCI_ATOMIC_COMP64,
        VFIO_PCI_ATOMIC_COMP128,
        VFIO_REGION_INFO_FLAG_READ,
        VFIO_REGION_INFO_FLAG_WRITE,
        VFIO_REGION_INFO_FLAG_MMAP,
        VFIO_REGION_INFO_FLAG_CAPS,
        VFIO_REGION_INFO_CAP_SPARSE_MMAP,
        VFIO_REGION_INFO_CAP_TYPE,
        VFIO_REGION_TYPE_PCI_VENDOR_TYPE,
        VFIO_REGION_TYPE_PCI_VENDOR_MASK,
        VFIO_REGION_TYPE_GFX,
        VFIO_REGION_TYPE_CCW,
        VFIO_REGION_TYPE_MIGRATION_DEPRECATED,
        VFIO_REGION_SUBTYPE_INTEL_IGD_OPREGION,
        VFIO_REGION_SUBTYPE_INTEL_IGD_HOST_CFG,
        VFIO_REGION_SUBTYPE_INTEL_IGD_LPC_CFG,
        VFIO_REGION_SUBTYPE_NVIDIA_NVLINK2_RAM,
        VFIO_REGION_SUBTYPE_IBM_NVLINK2_ATSD,
        VFIO_REGION_SUBTYPE_GFX_EDID,
        VFIO_DEVICE_GFX_LINK_STATE_UP,
        VFIO_DEVICE_GFX_LINK_STATE_DOWN,
        VFIO_REGION_SUBTYPE_CCW_ASYNC_CMD,
        VFIO_REGION_SUBTYPE_CCW_SCHIB,
        VFIO_REGION_SUBTYPE_CCW_CRW,
        VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED,
        VFIO_DEVICE_STATE_V1_STOP,
        VFIO_DEVICE_STATE_V1_RUNNING,
        VFIO_DEVICE_STATE_V1_SAVING,
        VFIO_DEVICE_STATE_V1_RESUMING,
        VFIO_DEVICE_STATE_MASK,
        VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
        VFIO_REGION_INFO_CAP_NVLINK2_SSATGT,
        VFIO_REGION_INFO_CAP_NVLINK2_LNKSPD,
        VFIO_IRQ_INFO_EVENTFD,
        VFIO_IRQ_INFO_MASKABLE,
        VFIO_IRQ_INFO_AUTOMASKED,
        VFIO_IRQ_INFO_NORESIZE,
        VFIO_IRQ_SET_DATA_NONE,
        VFIO_IRQ_SET_DATA_BOOL,
        VFIO_IRQ_SET_DATA_EVENTFD,
        VFIO_IRQ_SET_ACTION_MASK,
        VFIO_IRQ_SET_ACTION_UNMASK,
        VFIO_IRQ_SET_ACTION_TRIGGER,
        VFIO_IRQ_SET_DATA_TYPE_MASK,
        VFIO_IRQ_SET_ACTION_TYPE_MASK,
        VFIO_PCI_DEVID_OWNED,
        VFIO_PCI_DEVID_NOT_OWNED,
        VFIO_PCI_HOT_RESET_FLAG_DEV_ID,
        VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED,
        VFIO_GFX_PLANE_TYPE_PROBE,
        VFIO_GFX_PLANE_TYPE_DMABUF,
        VFIO_GFX_PLANE_TYPE_REGION,
        VFIO_DEVICE_IOEVENTFD_8,
        VFIO_DEVICE_IOEVENTFD_16,
        VFIO_DEVICE_IOEVENTFD_32,
        VFIO_DEVICE_IOEVENTFD_64,
        VFIO_DEVICE_IOEVENTFD_SIZE_MASK,
        VFIO_DEVICE_FEATURE_MASK,
        VFIO_DEVICE_FEATURE_GET,
        VFIO_DEVICE_FEATURE_SET,
        VFIO_DEVICE_FEATURE_PROBE,
        VFIO_DEVICE_BIND_FLAG_TOKEN,
        VFIO_DEVICE_ATTACH_PASID,
        VFIO_DEVICE_DETACH_PASID,
        VFIO_DEVICE_FEATURE_PCI_VF_TOKEN,
        VFIO_MIGRATION_STOP_COPY,
        VFIO_MIGRATION_P2P,
        VFIO_MIGRATION_PRE_COPY,
        VFIO_DEVICE_FEATURE_MIGRATION,
        VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
        VFIO_PRECOPY_INFO_REINIT,
        VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
        VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
        VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
        VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
        VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,
        VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
        VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
        VFIO_DEVICE_FEATURE_CLEAR_MASTER,
        VFIO_DEVICE_FEATURE_SET_MASTER,
        VFIO_DEVICE_FEATURE_BUS_MASTER,
        VFIO_DEVICE_FEATURE_DMA_BUF,
        VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2,
        VFIO_IOMMU_INFO_PGSIZES,
        VFIO_IOMMU_INFO_CAPS,
        VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
        VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION,
        VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
        VFIO_DMA_MAP_FLAG_READ,
        VFIO_DMA_MAP_FLAG_WRITE,
        VFIO_DMA_MAP_FLAG_VADDR,
        VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
        VFIO_DMA_UNMAP_FLAG_ALL,
        VFIO_DMA_UNMAP_FLAG_VADDR,
        VFIO_IOMMU_DIRTY_PAGES_FLAG_START,
        VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP,
        VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
        VFIO_IOMMU_SPAPR_INFO_DDW,
        VFIO_EEH_PE_DISABLE,
        VFIO_EEH_PE_ENABLE,
        VFIO_EEH_PE_UNFREEZE_IO,
        VFIO_EEH_PE_UNFREEZE_DMA,
        VFIO_EEH_PE_GET_STATE,
        VFIO_EEH_PE_STATE_NORMAL,
        VFIO_EEH_PE_STATE_RESET,
        VFIO_EEH_PE_STATE_STOPPED,
        VFIO_EEH_PE_STATE_STOPPED_DMA,
        VFIO_EEH_PE_STATE_UNAVAIL,
        VFIO_EEH_PE_RESET_DEACTIVATE,
        VFIO_EEH_PE_RESET_HOT,
        VFIO_EEH_PE_RESET_FUNDAMENTAL,
        VFIO_EEH_PE_CONFIGURE,
        VFIO_EEH_PE_INJECT_ERR,
        VFIO_PCI_BAR0_REGION_INDEX,
        VFIO_PCI_BAR1_REGION_INDEX,
        VFIO_PCI_BAR2_REGION_INDEX,
        VFIO_PCI_BAR3_REGION_INDEX,
        VFIO_PCI_BAR4_REGION_INDEX,
        VFIO_PCI_BAR5_REGION_INDEX,
        VFIO_PCI_ROM_REGION_INDEX,
        VFIO_PCI_CONFIG_REGION_INDEX,
        VFIO_PCI_VGA_REGION_INDEX,
        VFIO_PCI_NUM_REGIONS,
        VFIO_PCI_INTX_IRQ_INDEX,
        VFIO_PCI_MSI_IRQ_INDEX,
        VFIO_PCI_MSIX_IRQ_INDEX,
        VFIO_PCI_ERR_IRQ_INDEX,
        VFIO_PCI_REQ_IRQ_INDEX,
        VFIO_PCI_NUM_IRQS,
        VFIO_CCW_CONFIG_REGION_INDEX,
        VFIO_CCW_NUM_REGIONS,
        VFIO_CCW_IO_IRQ_INDEX,
        VFIO_CCW_CRW_IRQ_INDEX,
        VFIO_CCW_REQ_IRQ_INDEX,
        VFIO_CCW_NUM_IRQS,
        VFIO_AP_REQ_IRQ_INDEX,
        VFIO_AP_CFG_CHG_IRQ_INDEX,
        VFIO_AP_NUM_IRQS,
        vfio_device_mig_state_VFIO_DEVICE_STATE_ERROR,
        vfio_device_mig_state_VFIO_DEVICE_STATE_STOP,
        vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING,
        vfio_device_mig_state_VFIO_DEVICE_STATE_STOP_COPY,
        vfio_device_mig_state_VFIO_DEVICE_STATE_RESUMING,
        vfio_device_mig_state_VFIO_DEVICE_STATE_RUNNING_P2P,
        vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY,
        vfio_device_mig_state_VFIO_DEVICE_STATE_PRE_COPY_P2P,
        vfio_device_mig_state_VFIO_DEVICE_STATE_NR,
    };
    values.extend(values! {
        iommufd_bindings::iommufd:
        IOMMUFD_TYPE,
        IOMMUFD_CMD_BASE,
        IOMMUFD_CMD_DESTROY,
        IOMMUFD_CMD_IOAS_ALLOC,
        IOMMUFD_CMD_IOAS_ALLOW_IOVAS,
        IOMMUFD_CMD_IOAS_COPY,
        IOMMUFD_CMD_IOAS_IOVA_RANGES,
        IOMMUFD_CMD_IOAS_MAP,
        IOMMUFD_CMD_IOAS_UNMAP,
        IOMMUFD_CMD_OPTION,
        IOMMUFD_CMD_VFIO_IOAS,
        IOMMUFD_CMD_HWPT_ALLOC,
        IOMMUFD_CMD_GET_HW_INFO,
        IOMMUFD_CMD_HWPT_SET_DIRTY_TRACKING,
        IOMMUFD_CMD_HWPT_GET_DIRTY_BITMAP,
        IOMMUFD_CMD_HWPT_INVALIDATE,
        IOMMUFD_CMD_FAULT_QUEUE_ALLOC,
        IOMMUFD_CMD_IOAS_MAP_FILE,
        IOMMUFD_CMD_VIOMMU_ALLOC,
        IOMMUFD_CMD_VDEVICE_ALLOC,
        IOMMUFD_CMD_IOAS_CHANGE_PROCESS,
        IOMMUFD_CMD_VEVENTQ_ALLOC,
        IOMMUFD_CMD_HW_QUEUE_ALLOC,
        iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA,
        iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE,
        iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE,
        iommufd_option_IOMMU_OPTION_RLIMIT_MODE,
        iommufd_option_IOMMU_OPTION_HUGE_PAGES,
        iommufd_option_ops_IOMMU_OPTION_OP_SET,
        iommufd_option_ops_IOMMU_OPTION_OP_GET,
        iommufd_vfio_ioas_op_IOMMU_VFIO_IOAS_GET,
        iommufd_vfio_ioas_op_IOMMU_VFIO_IOAS_SET,
        iommufd_vfio_ioas_op_IOMMU_VFIO_IOAS_CLEAR,
        iommufd_hwpt_alloc_flags_IOMMU_HWPT_ALLOC_NEST_PARENT,
        iommufd_hwpt_alloc_flags_IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
        iommufd_hwpt_alloc_flags_IOMMU_HWPT_FAULT_ID_VALID,
        iommufd_hwpt_alloc_flags_IOMMU_HWPT_ALLOC_PASID,
        iommu_hwpt_vtd_s1_flags_IOMMU_VTD_S1_SRE,
        iommu_hwpt_vtd_s1_flags_IOMMU_VTD_S1_EAFE,
        iommu_hwpt_vtd_s1_flags_IOMMU_VTD_S1_WPE,
        iommu_hwpt_data_type_IOMMU_HWPT_DATA_NONE,
        iommu_hwpt_data_type_IOMMU_HWPT_DATA_VTD_S1,
        iommu_hwpt_data_type_IOMMU_HWPT_DATA_ARM_SMMUV3,
        iommu_hwpt_data_type_IOMMU_HWPT_DATA_AMD_GUEST,
        iommu_hw_info_vtd_flags_IOMMU_HW_INFO_VTD_ERRATA_772415_SPR17,
        iommu_hw_info_type_IOMMU_HW_INFO_TYPE_NONE,
        iommu_hw_info_type_IOMMU_HW_INFO_TYPE_DEFAULT,
        iommu_hw_info_type_IOMMU_HW_INFO_TYPE_INTEL_VTD,
        iommu_hw_info_type_IOMMU_HW_INFO_TYPE_ARM_SMMUV3,
        iommu_hw_info_type_IOMMU_HW_INFO_TYPE_TEGRA241_CMDQV,
        iommu_hw_info_type_IOMMU_HW_INFO_TYPE_AMD,
        iommufd_hw_capabilities_IOMMU_HW_CAP_DIRTY_TRACKING,
        iommufd_hw_capabilities_IOMMU_HW_CAP_PCI_PASID_EXEC,
        iommufd_hw_capabilities_IOMMU_HW_CAP_PCI_PASID_PRIV,
        iommufd_hw_capabilities_IOMMU_HW_CAP_PCI_ATS_NOT_SUPPORTED,
        iommufd_hw_info_flags_IOMMU_HW_INFO_FLAG_INPUT_TYPE,
        iommufd_hwpt_set_dirty_tracking_flags_IOMMU_HWPT_DIRTY_TRACKING_ENABLE,
        iommufd_hwpt_get_dirty_bitmap_flags_IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR,
        iommu_hwpt_invalidate_data_type_IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
        iommu_hwpt_invalidate_data_type_IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3,
        iommu_hwpt_vtd_s1_invalidate_flags_IOMMU_VTD_INV_FLAGS_LEAF,
        iommu_hwpt_pgfault_flags_IOMMU_PGFAULT_FLAGS_PASID_VALID,
        iommu_hwpt_pgfault_flags_IOMMU_PGFAULT_FLAGS_LAST_PAGE,
        iommu_hwpt_pgfault_perm_IOMMU_PGFAULT_PERM_READ,
        iommu_hwpt_pgfault_perm_IOMMU_PGFAULT_PERM_WRITE,
        iommu_hwpt_pgfault_perm_IOMMU_PGFAULT_PERM_EXEC,
        iommu_hwpt_pgfault_perm_IOMMU_PGFAULT_PERM_PRIV,
        iommufd_page_response_code_IOMMUFD_PAGE_RESP_SUCCESS,
        iommufd_page_response_code_IOMMUFD_PAGE_RESP_INVALID,
        iommu_viommu_type_IOMMU_VIOMMU_TYPE_DEFAULT,
        iommu_viommu_type_IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
        iommu_viommu_type_IOMMU_VIOMMU_TYPE_TEGRA241_CMDQV,
        iommu_veventq_flag_IOMMU_VEVENTQ_FLAG_LOST_EVENTS,
        iommu_veventq_type_IOMMU_VEVENTQ_TYPE_DEFAULT,
        iommu_veventq_type_IOMMU_VEVENTQ_TYPE_ARM_SMMUV3,
        iommu_veventq_type_IOMMU_VEVENTQ_TYPE_TEGRA241_CMDQV,
        iommu_hw_queue_type_IOMMU_HW_QUEUE_TYPE_DEFAULT,
        iommu_hw_queue_type_IOMMU_HW_QUEUE_TYPE_TEGRA241_CMDQV,
    });
    values
}

/// `vfio_iommu_type1_info` to `VfioIommuType1Info`.
fn rust_struct_name(c: &str) -> String {
    c.split('_')
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_ascii_uppercase() + rest
        })
        .collect()
}

/// The C name in a name that may begin with the enumeration it belongs to: `iommufd_option_IOMMU_...`.
fn c_constant_name(peer: &str) -> &str {
    &peer[peer.find(|c: char| c.is_ascii_uppercase()).expect("an upper-case letter")..]
}

/// What is of the header of the self-tests, by the rows of a table.
fn of_the_self_tests(table: &'static str) -> BTreeSet<&'static str> {
    let columns = table.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    columns.filter(|columns| columns.get(1) == Some(&"iommufd_test.h")).map(|columns| columns[2]).collect()
}

#[test]
fn structures_agree() {
    let tests_only = of_the_self_tests(include_str!("uapi-layout.tsv"));
    let mut not_compared: BTreeSet<_> = table::structs().map(|structure| structure.name).collect();
    not_compared.retain(|name| !tests_only.iter().any(|c_name| rust_struct_name(c_name) == *name));
    for peer in peers() {
        let name = rust_struct_name(peer.structure);
        let Struct { size, fields, .. } =
            table::structs().find(|s| s.name == name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(*size, peer.size, "size of {name}");
        for peer_field in &peer.fields {
            let field_name = peer_field.name.trim_start_matches('_');
            let field = fields
                .iter()
                .find(|field| field.name == field_name)
                .unwrap_or_else(|| panic!("{name}.{field_name} is missing"));
            assert_eq!(field.offset, peer_field.offset, "offset of {name}.{field_name}");
            assert_eq!(field.size, peer_field.size, "size of {name}.{field_name}");
        }
        // Only padding that the C compiler adds has no counterpart.
        for field in fields.iter().filter(|field| field.name != "pad") {
            let known = peer.fields.iter().any(|f| f.name.trim_start_matches('_') == field.name);
            assert!(known, "{name}.{} was not compared", field.name);
        }
        not_compared.remove(name.as_str());
    }
    assert_eq!(not_compared, NEW_STRUCTS.iter().copied().collect());
}

#[test]
fn constants_agree() {
    let tests_only = of_the_self_tests(include_str!("uapi-constants.tsv"));
    let mut not_compared: BTreeSet<_> = table::constants().map(|constant| constant.name).collect();
    not_compared.retain(|name| !tests_only.contains(name) && *name != "IOMMU_TEST_CMD");
    for (peer, value) in values() {
        let name = c_constant_name(peer);
        let Constant { value: ours, bits, .. } =
            table::constants().find(|c| c.name == name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(i128::from(*ours), value.rem_euclid(1 << bits), "{name}");
        not_compared.remove(name);
    }
    // The generator of the other crates does not translate ioctl numbers.
    let mut expected: BTreeSet<_> = NEW_CONSTANTS.iter().copied().collect();
    expected.extend(table::constants().filter(|c| (0x3b64..=0x3b95).contains(&c.value)).map(|c| c.name));
    assert_eq!(not_compared, expected);
}

#[test]
fn texts_agree() {
    use vfio_bindings::bindings::vfio as peer;
    let theirs: [(&str, &[u8]); 5] = [
        ("VFIO_DEVICE_API_PCI_STRING", peer::VFIO_DEVICE_API_PCI_STRING),
        ("VFIO_DEVICE_API_PLATFORM_STRING", peer::VFIO_DEVICE_API_PLATFORM_STRING),
        ("VFIO_DEVICE_API_AMBA_STRING", peer::VFIO_DEVICE_API_AMBA_STRING),
        ("VFIO_DEVICE_API_CCW_STRING", peer::VFIO_DEVICE_API_CCW_STRING),
        ("VFIO_DEVICE_API_AP_STRING", peer::VFIO_DEVICE_API_AP_STRING),
    ];
    let ours: Vec<_> = table::texts().map(|text| (text.name, text.value.as_bytes())).collect();
    let theirs = theirs.map(|(name, value)| (name, value.strip_suffix(b"\0").expect("a final NUL")));
    assert_eq!(ours, theirs);
}
