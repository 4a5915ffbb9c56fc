//! Tests what the argument structures promise about their ioctls.

use std::collections::BTreeSet;

use uapi::{Command, SelfContained, iommufd, iommufd_test, table, vfio};

/// What a [`Command`] states about itself.
struct Stated {
    name: &'static str,
    opcode: u32,
    min_size: usize,
    size: usize,
    stated_size: usize,
    head: u32,
    rest_is_zero: bool,
}

fn stated<C: Command>() -> Stated {
    let new = C::new();
    let (head, rest) = new.as_bytes().split_first_chunk().expect("a size field");
    Stated {
        name: C::NAME,
        opcode: C::OPCODE,
        min_size: C::MIN_SIZE,
        size: size_of::<C>(),
        stated_size: new.stated_size(),
        head: u32::from_ne_bytes(*head),
        rest_is_zero: rest.iter().all(|&byte| byte == 0),
    }
}

/// Implemented twice for self-contained commands, so that the compiler cannot choose for those.
trait OnceUnlessSelfContained<Marker> {
    fn stated() -> Stated;
}

impl<C: Command> OnceUnlessSelfContained<()> for C {
    fn stated() -> Stated {
        stated::<C>()
    }
}

struct Second;

impl<C: SelfContained> OnceUnlessSelfContained<Second> for C {
    fn stated() -> Stated {
        stated::<C>()
    }
}

/// Compiles only if all of these are self-contained.
macro_rules! self_contained {
    ($($command:path),+ $(,)?) => {
        vec![$({
            fn require<C: SelfContained>() -> Stated {
                stated::<C>()
            }
            require::<$command>()
        }),+]
    };
}

/// Compiles only if none of these is self-contained.
macro_rules! not_self_contained {
    ($($command:path),+ $(,)?) => {
        vec![$( <$command as OnceUnlessSelfContained<_>>::stated() ),+]
    };
}

fn commands() -> Vec<Stated> {
    let mut commands = self_contained![
        iommufd::IommuDestroy,
        iommufd::IommuFaultAlloc,
        iommufd::IommuHwptSetDirtyTracking,
        iommufd::IommuIoasAlloc,
        iommufd::IommuIoasChangeProcess,
        iommufd::IommuIoasNoiommuGetPa,
        iommufd::IommuIoasUnmap,
        iommufd::IommuOption,
        iommufd::IommuVdeviceAlloc,
        iommufd::IommuVeventqAlloc,
        iommufd::IommuVfioIoas,
        vfio::VfioDeviceAttachIommufdPt,
        vfio::VfioDeviceDetachIommufdPt,
        vfio::VfioDeviceInfo,
        vfio::VfioDeviceIoeventfd,
        vfio::VfioEehPeOp,
        vfio::VfioGroupStatus,
        vfio::VfioIommuSpaprTceCreate,
        vfio::VfioIommuSpaprTceInfo,
        vfio::VfioIommuSpaprTceRemove,
        vfio::VfioIommuType1Info,
        vfio::VfioIrqInfo,
        vfio::VfioIrqSet,
        vfio::VfioPciHotResetInfo,
        vfio::VfioPrecopyInfo,
        vfio::VfioRegionInfo,
    ];
    commands.extend(not_self_contained![
        iommufd::IommuHwInfo,
        iommufd::IommuHwQueueAlloc,
        iommufd::IommuHwptAlloc,
        iommufd::IommuHwptGetDirtyBitmap,
        iommufd::IommuHwptInvalidate,
        iommufd::IommuIoasAllowIovas,
        iommufd::IommuIoasCopy,
        iommufd::IommuIoasIovaRanges,
        iommufd::IommuIoasMap,
        iommufd::IommuIoasMapFile,
        iommufd::IommuViommuAlloc,
        iommufd_test::IommuTestCmd,
        vfio::VfioDeviceBindIommufd,
        vfio::VfioDeviceFeature,
        vfio::VfioDeviceGfxPlaneInfo,
        vfio::VfioIommuSpaprRegisterMemory,
        vfio::VfioIommuType1DirtyBitmap,
        vfio::VfioIommuType1DmaMap,
        vfio::VfioIommuType1DmaUnmap,
        vfio::VfioPciHotReset,
    ]);
    commands
}

/// Ioctls without a structure, or whose structure is the command of another ioctl.
const WITHOUT_COMMAND: &[(&str, &str)] = &[
    ("VFIO_GET_API_VERSION", "no argument"),
    ("VFIO_CHECK_EXTENSION", "a number by value"),
    ("VFIO_SET_IOMMU", "a number by value"),
    ("VFIO_GROUP_SET_CONTAINER", "pointer to an i32"),
    ("VFIO_GROUP_UNSET_CONTAINER", "no argument"),
    ("VFIO_GROUP_GET_DEVICE_FD", "a string"),
    ("VFIO_DEVICE_RESET", "no argument"),
    ("VFIO_DEVICE_GET_GFX_DMABUF", "pointer to a u32"),
    ("VFIO_IOMMU_ENABLE", "no argument"),
    ("VFIO_IOMMU_DISABLE", "no argument"),
    ("VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY", "the structure of REGISTER_MEMORY"),
];

/// Ioctls of the SPAPR backend whose number the type1 backend uses for another one.
const SPAPR_OVERLAPS: &[&str] = &["VFIO_IOMMU_SPAPR_TCE_GET_INFO", "VFIO_IOMMU_SPAPR_REGISTER_MEMORY"];

/// The constants that are ioctl numbers, told by the table of structures and ioctls.
fn ioctls() -> Vec<&'static table::Constant> {
    let names: BTreeSet<_> = include_str!("uapi-layout.tsv")
        .lines()
        .filter_map(|line| line.strip_prefix("ioctl\t"))
        .map(|line| line.split('\t').nth(1).unwrap())
        // The one ioctl that stands in the table of constants.
        .chain(["IOMMU_IOAS_CHANGE_PROCESS"])
        .collect();
    table::constants().filter(|constant| names.contains(constant.name)).collect()
}

#[test]
fn a_new_argument_states_its_size_and_is_zero_otherwise() {
    for command in commands() {
        assert_eq!(command.head as usize, command.size, "{}", command.name);
        assert_eq!(command.stated_size, command.size, "{}", command.name);
        assert!(command.rest_is_zero, "{}", command.name);
    }
}

#[test]
fn each_ioctl_has_one_command_or_a_reason_for_none() {
    let commands = commands();
    for ioctl in ioctls() {
        let of_it: Vec<_> = commands.iter().filter(|command| command.name == ioctl.name).collect();
        let excused = WITHOUT_COMMAND.iter().any(|&(name, _)| name == ioctl.name);
        assert_eq!(of_it.len(), usize::from(!excused), "{}", ioctl.name);
        for command in of_it {
            assert_eq!(u64::from(command.opcode), ioctl.value, "{}", ioctl.name);
        }
    }
    assert_eq!(commands.len() + WITHOUT_COMMAND.len(), ioctls().len());
}

#[test]
fn each_ioctl_is_named_by_one_kind_of_file() {
    for ioctl in ioctls() {
        let opcode = u32::try_from(ioctl.value).unwrap();
        let names = [
            vfio::device_ioctl_name(opcode),
            vfio::group_ioctl_name(opcode),
            vfio::container_ioctl_name(opcode),
            iommufd::ioctl_name(opcode),
        ];
        let count = names.iter().filter(|&&name| name == Some(ioctl.name)).count();
        assert_eq!(count, usize::from(!SPAPR_OVERLAPS.contains(&ioctl.name)), "{}", ioctl.name);
    }
    assert_eq!(vfio::device_ioctl_name(0x3b71), Some("VFIO_DEVICE_PCI_HOT_RESET"));
    assert_eq!(vfio::container_ioctl_name(0x3b71), Some("VFIO_IOMMU_MAP_DMA"));
    assert_eq!(vfio::group_ioctl_name(0x3b71), None);
    assert_eq!(iommufd::ioctl_name(0x3b71), None);
    assert_eq!(iommufd::ioctl_name(0x3b96), None);
}

#[test]
fn the_size_rules_are_those_of_the_kernel() {
    // Name, least size, size; the least sizes up to the line were seen on a running 7.3.4.
    let expected = [
        ("IOMMU_DESTROY", 8, 8),
        ("IOMMU_IOAS_ALLOC", 12, 12),
        ("IOMMU_IOAS_ALLOW_IOVAS", 24, 24),
        ("IOMMU_IOAS_COPY", 40, 40),
        ("IOMMU_IOAS_IOVA_RANGES", 32, 32),
        ("IOMMU_IOAS_MAP", 40, 40),
        ("IOMMU_IOAS_UNMAP", 24, 24),
        ("IOMMU_OPTION", 24, 24),
        ("IOMMU_VFIO_IOAS", 12, 12),
        ("IOMMU_HWPT_ALLOC", 24, 48),
        ("IOMMU_GET_HW_INFO", 32, 40),
        ("IOMMU_HWPT_SET_DIRTY_TRACKING", 16, 16),
        ("IOMMU_HWPT_GET_DIRTY_BITMAP", 48, 48),
        ("IOMMU_HWPT_INVALIDATE", 32, 32),
        ("IOMMU_FAULT_QUEUE_ALLOC", 16, 16),
        ("IOMMU_IOAS_MAP_FILE", 40, 40),
        ("IOMMU_VIOMMU_ALLOC", 24, 40),
        ("IOMMU_VDEVICE_ALLOC", 24, 24),
        ("IOMMU_IOAS_CHANGE_PROCESS", 8, 8),
        ("IOMMU_VEVENTQ_ALLOC", 28, 32),
        ("IOMMU_HW_QUEUE_ALLOC", 40, 40),
        ("IOMMU_IOAS_NOIOMMU_GET_PA", 40, 40),
        ("IOMMU_TEST_CMD", 68, 72),
        ("VFIO_GROUP_GET_STATUS", 8, 8),
        ("VFIO_DEVICE_GET_INFO", 16, 24),
        ("VFIO_DEVICE_GET_REGION_INFO", 32, 32),
        ("VFIO_DEVICE_GET_IRQ_INFO", 16, 16),
        ("VFIO_DEVICE_SET_IRQS", 20, 20),
        ("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", 12, 12),
        ("VFIO_DEVICE_PCI_HOT_RESET", 12, 12),
        ("VFIO_DEVICE_IOEVENTFD", 28, 32),
        ("VFIO_DEVICE_FEATURE", 8, 8),
        ("VFIO_DEVICE_BIND_IOMMUFD", 16, 24),
        ("VFIO_DEVICE_ATTACH_IOMMUFD_PT", 12, 16),
        ("VFIO_DEVICE_DETACH_IOMMUFD_PT", 8, 12),
        ("VFIO_IOMMU_GET_INFO", 16, 24),
        ("VFIO_IOMMU_MAP_DMA", 32, 32),
        ("VFIO_IOMMU_UNMAP_DMA", 24, 24),
        ("VFIO_IOMMU_DIRTY_PAGES", 8, 8),
        // ----
        ("VFIO_DEVICE_QUERY_GFX_PLANE", 60, 64),
        ("VFIO_MIG_GET_PRECOPY_INFO", 24, 24),
        ("VFIO_IOMMU_SPAPR_TCE_GET_INFO", 16, 32),
        ("VFIO_EEH_PE_OP", 12, 40),
        ("VFIO_IOMMU_SPAPR_REGISTER_MEMORY", 24, 24),
        ("VFIO_IOMMU_SPAPR_TCE_CREATE", 40, 40),
        ("VFIO_IOMMU_SPAPR_TCE_REMOVE", 16, 16),
    ];
    let stated: BTreeSet<_> = commands().iter().map(|c| (c.name, c.min_size, c.size)).collect();
    assert_eq!(stated, BTreeSet::from(expected));
}
