//! Devices that are reached by their group, which joins a container (kernel document `driver-api/vfio.rst`).
#![forbid(unsafe_code)]

use std::path::Path;

use sys::{Access, Sys};
use uapi::Command as _;
use uapi::vfio::{
    VFIO_GROUP_FLAGS_VIABLE, VFIO_NOIOMMU_IOMMU, VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, VfioGroupStatus,
};

use super::survey::CONTAINER;
use crate::calls::Calls;
use crate::error::Attempt;
use crate::memory::{Addressing, Container, Pagemap};
use crate::reach::{Hold, Reach, VfioDevice};
use crate::{Error, Mode, PciAddress, Result};

/// Opens a device by the node of its group.
pub(super) fn enter<S: Sys>(
    calls: &Calls<S>,
    address: PciAddress,
    mode: Mode,
    node: &Path,
    number: &str,
) -> Result<(Reach<S>, Addressing<S>)> {
    let group =
        calls.open(node, Access::ReadWrite).attempt(|| format!("cannot open the group of {address}"))?;
    viable(calls, &group, address, number)?;
    let container = calls
        .open(Path::new(CONTAINER), Access::ReadWrite)
        .attempt(|| format!("cannot open a container for {address}"))?;
    calls
        .set_container(&group, &container)
        .attempt(|| format!("cannot put the group of {address} into a container"))?;
    choose_iommu(calls, &container, mode)
        .attempt(|| format!("cannot choose the IOMMU of the container of {address}"))?;
    let addressing = if mode.has_iommu() {
        Addressing::Container(Container::new(calls, container)?)
    } else {
        // The container lives on in its group, and nothing more is asked of it.
        Addressing::Pagemap(Pagemap::open(calls)?)
    };
    let file =
        calls.group_device(&group, address).attempt(|| format!("cannot have {address} from its group"))?;
    let device = VfioDevice::new(calls, file, Hold::Group { _file: group });
    Ok((Reach::Vfio(device), addressing))
}

/// Whether nobody else has a device of the group.
fn viable<S: Sys>(calls: &Calls<S>, group: &S::File, address: PciAddress, number: &str) -> Result<()> {
    let words = |status: &VfioGroupStatus| format!("flags {:#x}", status.flags);
    let status = calls
        .ioctl(group, VfioGroupStatus::new(), words)
        .attempt(|| format!("cannot ask about the group of {address}"))?;
    if status.flags & VFIO_GROUP_FLAGS_VIABLE == 0 {
        return Err(Error::NotViable { device: address.to_string(), group: number.to_owned() });
    }
    Ok(())
}

/// Chooses what backs a container that a group has joined.
fn choose_iommu<S: Sys>(calls: &Calls<S>, container: &S::File, mode: Mode) -> sys::Result<()> {
    if !mode.has_iommu() {
        return calls.set_iommu(container, VFIO_NOIOMMU_IOMMU);
    }
    // The second version unmaps exactly what was mapped; so does this crate, and the first one is as good.
    calls.set_iommu(container, VFIO_TYPE1v2_IOMMU).or_else(|_| calls.set_iommu(container, VFIO_TYPE1_IOMMU))
}
