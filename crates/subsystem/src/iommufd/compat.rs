//! A context in the place of a container: which IOAS that is, and the first container ioctls.

use uapi::iommufd::{IOMMU_VFIO_IOAS_CLEAR, IOMMU_VFIO_IOAS_GET, IOMMU_VFIO_IOAS_SET, IommuVfioIoas};
use uapi::vfio::{
    VFIO_API_VERSION, VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU, VFIO_GET_API_VERSION, VFIO_IOMMU_GET_INFO,
    VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA, VFIO_NOIOMMU_IOMMU, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU,
    VFIO_TYPE1v2_IOMMU as VFIO_TYPE1_V2_IOMMU, VFIO_UNMAP_ALL,
};

use super::call::Call;
use super::context::Context;
use super::objects::Objects;
use crate::rules::iommufd as rule;
use crate::{Host, Mutex, Refusal, RwLock};

impl<H: Host> Context<H> {
    /// `IOMMU_VFIO_IOAS`
    pub(super) fn vfio_ioas(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuVfioIoas>()?;
        let command = &mut argument.value;
        if command.reserved != 0 {
            return Err(rule::VFIO_IOAS_FIELDS);
        }
        match u32::from(command.op) {
            IOMMU_VFIO_IOAS_GET => {
                command.ioas_id =
                    self.objects.read(|objects| objects.compat_ioas).ok_or(rule::VFIO_IOAS_NONE)?;
                call.reply(&argument)
            }
            IOMMU_VFIO_IOAS_SET => self.objects.write(|objects| {
                objects.ioas(command.ioas_id)?;
                objects.compat_ioas = Some(command.ioas_id);
                Ok(())
            }),
            IOMMU_VFIO_IOAS_CLEAR => {
                self.objects.write(|objects| objects.compat_ioas = None);
                Ok(())
            }
            _ => Err(rule::VFIO_IOAS_FIELDS),
        }
    }

    /// An ioctl that is not IOMMUFD's own. Returns what `ioctl(2)` does.
    pub(super) fn compat(&self, call: &Call<'_, H>, number: u32) -> Result<u32, Refusal> {
        match number {
            VFIO_GET_API_VERSION => Ok(VFIO_API_VERSION),
            VFIO_CHECK_EXTENSION => self.objects.read(|objects| check_extension(objects, call.argument)),
            VFIO_SET_IOMMU => self.objects.read(|objects| set_iommu(objects, call.argument)),
            VFIO_IOMMU_GET_INFO | VFIO_IOMMU_MAP_DMA | VFIO_IOMMU_UNMAP_DMA => Err(rule::COMPAT_NOT_BUILT),
            _ => Err(rule::UNKNOWN_COMMAND),
        }
    }
}

/// Whether a container that is this context has an extension.
fn check_extension<H: Host>(objects: &Objects<H>, extension: u64) -> Result<u32, Refusal> {
    match u32::try_from(extension) {
        Ok(VFIO_TYPE1_IOMMU | VFIO_TYPE1_V2_IOMMU | VFIO_UNMAP_ALL | VFIO_NOIOMMU_IOMMU) => Ok(1),
        Ok(VFIO_DMA_CC_IOMMU) => {
            let ioas = objects.ioas(objects.compat_ioas.ok_or(rule::VFIO_IOAS_NONE)?)?;
            // No page table of a device without IOMMU keeps its DMA coherent.
            Ok(u32::from(ioas.hwpts == 0))
        }
        _ => Ok(0),
    }
}

/// Chooses the kind of IOMMU. Type 1, unlike its second version, goes without large pages.
fn set_iommu<H: Host>(objects: &Objects<H>, kind: u64) -> Result<u32, Refusal> {
    let first_version = match u32::try_from(kind) {
        Ok(VFIO_TYPE1_IOMMU) => true,
        Ok(VFIO_TYPE1_V2_IOMMU) => false,
        _ => return Err(rule::COMPAT_IOMMU_TYPE),
    };
    let ioas = objects.ioas(objects.compat_ioas.ok_or(rule::VFIO_IOAS_NONE)?)?;
    if first_version {
        ioas.areas.with(|areas| areas.disable_huge_pages())?;
    }
    Ok(0)
}
