//! Groups, the containers that they join, and the device files that they give out.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use sys::{Access, Result, Suite};
use uapi::Command;
use uapi::iommufd::*;
use uapi::vfio::*;

use crate::call::{ioctl_at, ioctl_bytes, ioctl_value};
use crate::fixture::Fixture;
use crate::memory::Pages;
use crate::outcome::{Stop, Way};
use crate::space::P;

/// What a group joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Container {
    /// `/dev/vfio/vfio`, where VFIO itself provides it.
    Native,
    /// `/dev/iommu`.
    Iommufd,
}

/// The group of a device, which has joined a container.
pub(crate) struct Joined<'a, S: Suite> {
    fixture: Fixture<'a, S>,
    pub(crate) address: &'a str,
    pub(crate) group: S::File,
    pub(crate) container: S::File,
}

impl<'a, S: Suite> Fixture<'a, S> {
    /// The number of a device's group.
    pub(crate) fn group_number(&self, address: &str) -> Way<u32> {
        let link = self.sysfs(address).join("iommu_group");
        self.needs_path(&link, "groups")?;
        let folder = self.sys.read_link(&link)?;
        let number = folder.file_name().and_then(|name| name.to_str()?.parse().ok());
        number.ok_or_else(|| Stop::Broken(format!("{} names no group", folder.display())))
    }

    /// The node of a device's group.
    pub(crate) fn group_path(&self, address: &str) -> Way<PathBuf> {
        let prefix = if self.is_noiommu(address)? { "noiommu-" } else { "" };
        let path = Path::new("/dev/vfio").join(format!("{prefix}{}", self.group_number(address)?));
        self.needs_path(&path, "group files")?;
        Ok(path)
    }

    /// Opens the group of a device.
    pub(crate) fn group(&self, address: &str) -> Way<S::File> {
        Ok(self.sys.open(&self.group_path(address)?, Access::ReadWrite)?)
    }

    /// Opens `/dev/vfio/vfio`, whoever provides it.
    pub(crate) fn container_node(&self) -> Way<S::File> {
        let path = Path::new("/dev/vfio/vfio");
        self.needs_path(path, "containers")?;
        Ok(self.sys.open(path, Access::ReadWrite)?)
    }

    /// Whether IOMMUFD provides `/dev/vfio/vfio`: then its own calls work on it.
    pub(crate) fn iommufd_is_container(&self) -> Way<bool> {
        Ok(self.ioas(&self.container_node()?).is_ok())
    }

    /// Opens `/dev/vfio/vfio`, provided by VFIO itself.
    pub(crate) fn native_container(&self) -> Way<S::File> {
        if self.iommufd_is_container()? {
            return Err(Stop::NotApplicable("IOMMUFD provides /dev/vfio/vfio".into()));
        }
        self.container_node()
    }

    /// The containers that there are.
    pub(crate) fn containers(&self) -> Way<Vec<Container>> {
        match self.native_container() {
            Ok(_) => Ok(vec![Container::Native, Container::Iommufd]),
            Err(Stop::NotApplicable(_)) => Ok(vec![Container::Iommufd]),
            Err(stop) => Err(stop),
        }
    }

    /// The group of a device, which has joined a fresh container.
    pub(crate) fn joined(&self, address: &'a str, container: Container) -> Way<Joined<'a, S>> {
        let group = self.group(address)?;
        let container = match container {
            Container::Native => self.native_container()?,
            Container::Iommufd => self.iommufd()?,
        };
        self.set_container(&group, &container)?;
        let fixture = Fixture::new(self.sys, self.target);
        Ok(Joined { fixture, address, group, container })
    }

    /// The same, with the backend that a native container needs before it gives out devices.
    pub(crate) fn usable(&self, address: &'a str, container: Container) -> Way<Joined<'a, S>> {
        let joined = self.joined(address, container)?;
        if container == Container::Native {
            let backend = if self.is_noiommu(address)? { VFIO_NOIOMMU_IOMMU } else { VFIO_TYPE1v2_IOMMU };
            self.set_iommu(&joined.container, backend)?;
        }
        Ok(joined)
    }

    /// `VFIO_GROUP_SET_CONTAINER`
    pub(crate) fn set_container(&self, group: &S::File, container: &impl AsFd) -> Result<u32> {
        self.set_container_number(group, container.as_fd().as_raw_fd())
    }

    /// The same with any number.
    pub(crate) fn set_container_number(&self, group: &S::File, mut fd: i32) -> Result<u32> {
        ioctl_value(self.sys, group, VFIO_GROUP_SET_CONTAINER, &mut fd)
    }

    /// `VFIO_GROUP_UNSET_CONTAINER`
    pub(crate) fn unset_container(&self, group: &S::File) -> Result<u32> {
        ioctl_at(self.sys, group, VFIO_GROUP_UNSET_CONTAINER, 0)
    }

    /// `VFIO_GROUP_GET_STATUS` with a size; the flags.
    pub(crate) fn group_status(&self, group: &S::File, argsz: u32) -> Result<u32> {
        let mut status = VfioGroupStatus { argsz, flags: 0 };
        self.call(group, &mut status)?;
        Ok(status.flags)
    }

    /// `VFIO_GROUP_GET_DEVICE_FD`; the device file.
    pub(crate) fn device_of(&self, group: &S::File, name: &str) -> Result<S::File> {
        let mut bytes = [name.as_bytes(), &[0]].concat();
        let fd = ioctl_bytes(self.sys, group, VFIO_GROUP_GET_DEVICE_FD, &mut bytes)?;
        // SAFETY: the call answered with a descriptor that it has opened for its caller, and nobody else knows of it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd.cast_signed()) };
        self.sys.adopt(fd, Path::new(name))
    }

    /// `VFIO_CHECK_EXTENSION`
    pub(crate) fn check_extension(&self, container: &S::File, number: u32) -> Result<u32> {
        ioctl_at(self.sys, container, VFIO_CHECK_EXTENSION, number as usize)
    }

    /// Which of the extensions 1 to 12 a container has.
    pub(crate) fn extensions(&self, container: &S::File) -> Result<Vec<u32>> {
        let asked = (1..=12).map(|number| Ok((number, self.check_extension(container, number)?)));
        let answers: Vec<(u32, u32)> = asked.collect::<Result<_>>()?;
        Ok(answers.into_iter().filter(|(_, answer)| *answer != 0).map(|(number, _)| number).collect())
    }

    /// `VFIO_SET_IOMMU`
    pub(crate) fn set_iommu(&self, container: &S::File, backend: u32) -> Result<u32> {
        ioctl_at(self.sys, container, VFIO_SET_IOMMU, backend as usize)
    }

    /// Makes an IOAS the one that container calls on an IOMMUFD work on.
    pub(crate) fn set_compat_ioas(&self, iommufd: &S::File, ioas_id: u32) -> Result<u32> {
        self.vfio_ioas(iommufd, IOMMU_VFIO_IOAS_SET, ioas_id).map(|_| 0)
    }

    /// The IOAS that container calls on an IOMMUFD work on.
    pub(crate) fn compat_ioas(&self, iommufd: &S::File) -> Result<u32> {
        self.vfio_ioas(iommufd, IOMMU_VFIO_IOAS_GET, 0)
    }

    /// `IOMMU_VFIO_IOAS`; the id that is there after it.
    pub(crate) fn vfio_ioas(&self, iommufd: &S::File, op: u32, ioas_id: u32) -> Result<u32> {
        let mut argument = IommuVfioIoas { op: op as u16, ioas_id, ..IommuVfioIoas::new() };
        self.call(iommufd, &mut argument)?;
        Ok(argument.ioas_id)
    }
}

impl<S: Suite> Joined<'_, S> {
    /// The device file.
    pub(crate) fn device(&self) -> Result<S::File> {
        self.named(self.address)
    }

    /// The device file of the device with a name.
    pub(crate) fn named(&self, name: &str) -> Result<S::File> {
        self.fixture.device_of(&self.group, name)
    }

    /// Leaves the container.
    pub(crate) fn leave(&self) -> Result<u32> {
        self.fixture.unset_container(&self.group)
    }
}

/// Where [`dma_map`] maps.
pub(crate) const MAPPED_AT: u64 = 0x10_0000;

/// What [`dma_map`] maps.
pub(crate) const MAPPED: u64 = 2 * P;

/// `VFIO_IOMMU_MAP_DMA` of the two first pages of memory at 0x100000.
pub(crate) fn dma_map(memory: &Pages) -> VfioIommuType1DmaMap {
    VfioIommuType1DmaMap {
        flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        vaddr: memory.address(),
        iova: MAPPED_AT,
        size: MAPPED,
        ..VfioIommuType1DmaMap::new()
    }
}

/// `VFIO_IOMMU_UNMAP_DMA` of the first page that [`dma_map`] maps.
pub(crate) fn dma_unmap() -> VfioIommuType1DmaUnmap {
    VfioIommuType1DmaUnmap { iova: MAPPED_AT, size: P, ..VfioIommuType1DmaUnmap::new() }
}

/// What a call that opens something answered, without what it opened.
pub(crate) fn opened<T>(result: Result<T>) -> Result<u32> {
    result.map(|_| 0)
}
