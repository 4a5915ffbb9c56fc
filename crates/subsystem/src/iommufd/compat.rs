//! A context in the place of a container: which IOAS that is, and the first container ioctls.

use uapi::iommufd::{IOMMU_VFIO_IOAS_CLEAR, IOMMU_VFIO_IOAS_GET, IOMMU_VFIO_IOAS_SET, IommuVfioIoas};
use uapi::vfio::{
    VFIO_API_VERSION, VFIO_CHECK_EXTENSION, VFIO_DMA_CC_IOMMU, VFIO_GET_API_VERSION, VFIO_IOMMU_GET_INFO,
    VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA, VFIO_NOIOMMU_IOMMU, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU,
    VFIO_TYPE1v2_IOMMU as VFIO_TYPE1_V2_IOMMU, VFIO_UNMAP_ALL,
};

use super::call::Call;
use super::context::Context;
use super::ioas::Ioas;
use super::objects::Object;
use crate::rules::{group as group_rule, iommufd as rule};
use crate::{Host, Mutex, Refusal, RwLock, Symbol};

impl<H: Host> Context<H> {
    /// A group joins the context. One without an IOMMU leaves its mark for good; for one behind an IOMMU there is an IOAS
    /// for container ioctls then.
    pub fn join(&self, host: &H, noiommu: bool) -> Result<(), Refusal> {
        self.objects.write(|objects| match (noiommu, objects.compat_ioas) {
            (true, Some(_)) => Err(group_rule::SET_CONTAINER_IOAS),
            (true, None) => {
                objects.noiommu_mode = true;
                Ok(())
            }
            (false, _) if objects.noiommu_mode => Err(group_rule::SET_CONTAINER_NOIOMMU),
            (false, Some(_)) => Ok(()),
            (false, None) => {
                objects.compat_ioas = Some(objects.insert(host, Object::Ioas(Ioas::new()))?);
                Ok(())
            }
        })
    }

    /// The IOAS that container ioctls work on.
    pub fn compat_ioas(&self) -> Result<u32, Refusal> {
        self.objects.read(|objects| objects.compat_ioas).ok_or(rule::VFIO_IOAS_NONE)
    }

    /// `IOMMU_VFIO_IOAS`
    pub(super) fn vfio_ioas(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        let mut argument = call.take::<IommuVfioIoas>()?;
        let command = &mut argument.value;
        if command.reserved != 0 {
            return Err(rule::VFIO_IOAS_FIELDS);
        }
        match u32::from(command.op) {
            IOMMU_VFIO_IOAS_GET => {
                command.ioas_id = self.compat_ioas()?;
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
            VFIO_CHECK_EXTENSION => self.check_extension(call.argument),
            VFIO_SET_IOMMU => self.set_iommu(call).map(|()| 0),
            VFIO_IOMMU_GET_INFO => self.compat_info(call).map(|()| 0),
            VFIO_IOMMU_MAP_DMA => self.compat_map(call).map(|()| 0),
            VFIO_IOMMU_UNMAP_DMA => self.compat_unmap(call).map(|()| 0),
            _ => Err(rule::UNKNOWN_COMMAND),
        }
    }

    /// Whether a container that is this context has an extension.
    fn check_extension(&self, extension: u64) -> Result<u32, Refusal> {
        self.objects.read(|objects| match u32::try_from(extension) {
            Ok(VFIO_TYPE1_IOMMU | VFIO_TYPE1_V2_IOMMU | VFIO_UNMAP_ALL) => Ok((!objects.noiommu_mode).into()),
            // The module parameter is not asked.
            Ok(VFIO_NOIOMMU_IOMMU) => Ok(self.kconfig.has(Symbol::VfioNoiommu).into()),
            Ok(VFIO_DMA_CC_IOMMU) => {
                let ioas = objects.compat()?;
                // No page table of a device without IOMMU keeps its DMA coherent.
                let enforces = |id: &u32| objects.hwpt(*id).is_some_and(|hwpt| hwpt.enforces_coherency);
                Ok(u32::from(ioas.hwpts.iter().all(enforces)))
            }
            _ => Ok(0),
        })
    }

    /// Chooses the kind of IOMMU. Type 1, unlike its second version, goes without large pages.
    fn set_iommu(&self, call: &Call<'_, H>) -> Result<(), Refusal> {
        self.objects.read(|objects| match u32::try_from(call.argument) {
            Ok(VFIO_NOIOMMU_IOMMU) if objects.noiommu_mode && !call.caller.caps.sys_rawio => {
                Err(group_rule::SET_IOMMU_CAPABILITY)
            }
            Ok(VFIO_NOIOMMU_IOMMU) if objects.noiommu_mode => Ok(()),
            Ok(VFIO_TYPE1_IOMMU) if !objects.noiommu_mode => {
                objects.compat()?.areas.with(|areas| areas.disable_huge_pages())
            }
            Ok(VFIO_TYPE1_V2_IOMMU) if !objects.noiommu_mode => objects.compat().map(|_| ()),
            _ => Err(rule::COMPAT_IOMMU_TYPE),
        })
    }
}
