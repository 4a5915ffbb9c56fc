//! The ioctls that sequences know by name.

use std::sync::LazyLock;

use uapi::iommufd::*;
use uapi::table::{Field, Struct, structs};
use uapi::vfio::*;

/// An ioctl by its name, or a number that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Known(&'static Known),
    Number(u32),
}

/// An ioctl with a name.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) opcode: u32,
    /// The fields of its argument; empty if that is no structure.
    pub(crate) fields: &'static [Field],
    /// The size of the structure.
    pub(crate) size: usize,
}

/// Fields that hold addresses which the system reads or writes.
const POINTERS: [&str; 6] = ["allowed_iovas", "data_uptr", "data", "user_va", "vaddr", "token_uuid_ptr"];

/// Fields that hold descriptors.
const DESCRIPTORS: [&str; 2] = ["iommufd", "fd"];

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Known {}

impl Known {
    pub(crate) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// Whether a field holds an address that the system follows.
pub(crate) fn is_pointer(field: &str) -> bool {
    POINTERS.contains(&field)
}

/// Whether a field holds a descriptor.
pub(crate) fn is_descriptor(field: &str) -> bool {
    DESCRIPTORS.contains(&field)
}

impl Command {
    /// The ioctl of a name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        KNOWN.iter().find(|known| known.name == name).map(Command::Known)
    }

    pub(crate) fn opcode(self) -> u32 {
        match self {
            Command::Known(known) => known.opcode,
            Command::Number(opcode) => opcode,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Command::Known(known) => known.name,
            Command::Number(_) => "",
        }
    }
}

/// An ioctl whose argument is a structure.
fn structured<T: uapi::Command>() -> Known {
    let path = std::any::type_name::<T>();
    let name = path.rsplit("::").next().unwrap_or(path);
    let Struct { fields, size, .. } =
        structs().find(|it| it.name == name).unwrap_or_else(|| panic!("{name} is in the table"));
    Known { name: T::NAME, opcode: T::OPCODE, fields, size: *size }
}

/// All of them.
static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    macro_rules! structured {
        ($($argument:ident)+) => { vec![$(structured::<$argument>()),+] };
    }
    macro_rules! plain {
        ($($name:ident)+) => { [$(Known { name: stringify!($name), opcode: $name, fields: &[], size: 0 }),+] };
    }
    let mut known = structured![
        VfioDeviceInfo VfioRegionInfo VfioIrqInfo VfioIrqSet VfioPciHotResetInfo VfioPciHotReset
        VfioDeviceGfxPlaneInfo VfioDeviceIoeventfd VfioDeviceFeature VfioDeviceBindIommufd
        VfioDeviceAttachIommufdPt VfioDeviceDetachIommufdPt VfioGroupStatus VfioIommuType1Info
        VfioIommuType1DmaMap VfioIommuType1DmaUnmap VfioIommuType1DirtyBitmap
        IommuDestroy IommuOption IommuVfioIoas IommuHwptAlloc IommuHwptSetDirtyTracking
        IommuHwptGetDirtyBitmap IommuHwptInvalidate IommuHwInfo IommuIoasAlloc IommuIoasIovaRanges
        IommuIoasAllowIovas IommuIoasMap IommuIoasNoiommuGetPa IommuIoasMapFile IommuIoasCopy
        IommuIoasUnmap IommuIoasChangeProcess IommuViommuAlloc IommuVdeviceAlloc IommuVeventqAlloc
        IommuHwQueueAlloc IommuFaultAlloc
    ];
    known.extend(plain![
        VFIO_DEVICE_RESET VFIO_DEVICE_GET_GFX_DMABUF VFIO_GET_API_VERSION VFIO_CHECK_EXTENSION VFIO_SET_IOMMU
        VFIO_GROUP_SET_CONTAINER VFIO_GROUP_UNSET_CONTAINER VFIO_GROUP_GET_DEVICE_FD
        VFIO_IOMMU_ENABLE VFIO_IOMMU_DISABLE
    ]);
    known
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for known in KNOWN.iter() {
            assert_eq!(Command::named(known.name), Some(Command::Known(known)));
        }
    }

    /// A field that is forgotten here would let an address of a script's choice through.
    #[test]
    fn fields_that_look_like_addresses_are_known_as_such() {
        let looks = |name: &str| name.contains("ptr") || name.contains("vaddr") || name.ends_with("_va");
        let fields = KNOWN.iter().flat_map(|known| known.fields);
        for field in fields.filter(|field| looks(field.name)) {
            assert!(is_pointer(field.name), "{}", field.name);
        }
    }
}
