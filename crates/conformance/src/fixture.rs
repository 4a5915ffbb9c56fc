//! The way to the state that a row starts from.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use sys::{Access, Result, Suite};
use uapi::iommufd::*;
use uapi::vfio::*;
use uapi::{Command, Errno};

use crate::call::ioctl_value;
use crate::outcome::{Stop, Way};
use crate::pci::{capability, register};

/// The system under test, and the devices on it that the suite may use.
#[derive(Clone, Debug)]
pub struct Target {
    /// Addresses of PCI functions that are bound to vfio-pci, such as `0000:01:00.0`. The suite opens and resets them,
    /// unbinds and binds their driver, and masters the bus with them.
    pub devices: Vec<String>,
}

/// What a row needs of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Any device with a memory BAR.
    Any,
    /// An MSI capability.
    Msi,
    /// An MSI-X capability.
    MsiX,
    /// A capability for power management.
    PowerManagement,
    /// An INTx line.
    Line,
    /// A way to be reset on its own.
    Reset,
    /// A function-level reset of PCI Express.
    FunctionReset,
    /// No way to be reset on its own.
    NoReset,
    /// An I/O BAR.
    IoBar,
}

/// A system on the way to the state that a row starts from.
pub(crate) struct Fixture<'a, S: Suite> {
    pub(crate) sys: &'a S,
    pub(crate) target: &'a Target,
}

/// A device file that is bound, with its context.
pub(crate) struct Bound<S: Suite> {
    pub(crate) device: S::File,
    pub(crate) iommufd: S::File,
    pub(crate) devid: u32,
}

/// A bound device that is attached to an IOAS.
pub(crate) struct Attached<S: Suite> {
    pub(crate) bound: Bound<S>,
    pub(crate) ioas: u32,
    pub(crate) hwpt: u32,
}

impl<'a, S: Suite> Fixture<'a, S> {
    pub(crate) fn new(sys: &'a S, target: &'a Target) -> Self {
        Fixture { sys, target }
    }

    /// The first device of the target.
    pub(crate) fn address(&self) -> Way<&'a str> {
        self.nth_address(0)
    }

    /// The first device without an IOMMU.
    pub(crate) fn noiommu_address(&self) -> Way<&'a str> {
        self.address_where(
            |address| self.is_noiommu(address),
            "every device that was named is behind an IOMMU",
        )
    }

    /// The first device that is behind an IOMMU.
    pub(crate) fn iommu_address(&self) -> Way<&'a str> {
        self.address_where(
            |address| Ok(!self.is_noiommu(address)?),
            "every device that was named is without an IOMMU",
        )
    }

    /// Whether a device is without an IOMMU.
    pub(crate) fn is_noiommu(&self, address: &str) -> Way<bool> {
        Ok(!self.exists(&self.sysfs(address).join("iommu"))?)
    }

    /// The first device that something is true of; `otherwise` says why there is none.
    fn address_where(&self, mut holds: impl FnMut(&str) -> Way<bool>, otherwise: &str) -> Way<&'a str> {
        for address in &self.target.devices {
            if holds(address)? {
                return Ok(address);
            }
        }
        Err(Stop::NotApplicable(otherwise.to_owned()))
    }

    /// The n-th device of the target.
    pub(crate) fn nth_address(&self, n: usize) -> Way<&'a str> {
        let devices = &self.target.devices;
        devices.get(n).map(String::as_str).ok_or_else(|| {
            Stop::NotApplicable(format!("needs {} devices, {} were named", n + 1, devices.len()))
        })
    }

    /// The first device that has what a row needs.
    pub(crate) fn address_with(&self, need: Need) -> Way<&'a str> {
        self.address_where(
            |address| self.fulfils(address, need),
            &format!("no device that was named has this: {need:?}"),
        )
    }

    fn fulfils(&self, address: &str, need: Need) -> Way<bool> {
        let Bound { device, .. } = &self.bound_at(address)?;
        Ok(match need {
            Need::Any => self.region_info(device, 0)?.flags & VFIO_REGION_INFO_FLAG_MMAP != 0,
            Need::Msi => self.capability(device, capability::MSI)?.is_some(),
            Need::PowerManagement => self.capability(device, capability::POWER_MANAGEMENT)?.is_some(),
            Need::MsiX => self.capability(device, capability::MSIX)?.is_some(),
            Need::Line => self.config_read(device, register::INTERRUPT_PIN)? != [0],
            Need::Reset => self.is_resettable(device, address)?,
            Need::FunctionReset => {
                self.function_reset(device)? && self.capability(device, capability::EXPRESS)?.is_some()
            }
            Need::NoReset => !self.is_resettable(device, address)?,
            Need::IoBar => self.io_bar(address)?.is_some(),
        })
    }

    /// Whether there is a way to reset the function: sysfs tells, or else the function itself.
    fn is_resettable(&self, device: &S::File, address: &str) -> Way<bool> {
        Ok(self.exists(&self.sysfs(address).join("reset"))? || self.function_reset(device)?)
    }

    /// The index of the first I/O BAR, from the sysfs `resource` file.
    pub(crate) fn io_bar(&self, address: &str) -> Way<Option<u32>> {
        const IORESOURCE_IO: u64 = 0x100;
        let text = self.text(&self.sysfs(address).join("resource"))?;
        let flags = text.lines().take(6).map(|line| {
            let flags = line.split_whitespace().nth(2).unwrap_or_default();
            u64::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap_or(0)
        });
        Ok(flags.zip(0..).find(|(flags, _)| flags & IORESOURCE_IO != 0).map(|(_, index)| index))
    }

    /// A device's folder below `/sys`.
    pub(crate) fn sysfs(&self, address: &str) -> PathBuf {
        Path::new("/sys/bus/pci/devices").join(address)
    }

    /// Whether there is anything at a path.
    pub(crate) fn exists(&self, path: &Path) -> Way<bool> {
        match self.sys.stat(path) {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Errno::ENOENT => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The text of a small file, without the newline at its end.
    pub(crate) fn text(&self, path: &Path) -> Way<String> {
        let bytes = self.sys.read(path)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    /// The name of a device's cdev, as its own `vfio-dev` folder tells.
    pub(crate) fn cdev_name(&self, address: &str) -> Way<String> {
        let folder = self.sysfs(address).join("vfio-dev");
        let names = self.sys.read_dir(&folder)?;
        names.into_iter().next().ok_or_else(|| Stop::Broken(format!("{} is empty", folder.display())))
    }

    /// The path of a device's cdev, if the kernel is built to give it one.
    pub(crate) fn cdev_path(&self, address: &str) -> Way<PathBuf> {
        let name = self.cdev_name(address)?;
        if !self.exists(&self.sysfs(address).join("vfio-dev").join(&name).join("dev"))? {
            return Err(Stop::NotApplicable("the kernel gives such devices no node of their own".into()));
        }
        Ok(Path::new("/dev/vfio/devices").join(name))
    }

    /// Whether IOMMUFD is built without devices that have no IOMMU: GET_PA is a stub that looks nothing up, and no such
    /// device has a node of its own.
    pub(crate) fn lacks_noiommu(&self) -> Way<bool> {
        const UNKNOWN: u32 = 0x7fff_0000;
        let asked = self.get_pa(&self.iommufd()?, UNKNOWN, 0, 1);
        let nodes = self.sys.read_dir(Path::new("/dev/vfio/devices")).unwrap_or_default();
        let stub = asked.is_err_and(|error| error.errno() == Errno::EOPNOTSUPP);
        Ok(stub && !nodes.iter().any(|name| name.starts_with("noiommu-")))
    }

    /// Opens a device's cdev.
    pub(crate) fn open_at(&self, address: &str) -> Way<S::File> {
        Ok(self.sys.open(&self.cdev_path(address)?, Access::ReadWrite)?)
    }

    /// Opens the first device's cdev.
    pub(crate) fn opened(&self) -> Way<S::File> {
        self.open_at(self.address()?)
    }

    /// Opens `/dev/iommu`.
    pub(crate) fn iommufd(&self) -> Way<S::File> {
        Ok(self.sys.open(Path::new("/dev/iommu"), Access::ReadWrite)?)
    }

    /// Binds a device file to a context; the device id.
    pub(crate) fn bind(&self, device: &S::File, iommufd: &S::File) -> Result<u32> {
        let iommufd = iommufd.as_fd().as_raw_fd();
        let mut bind = VfioDeviceBindIommufd { iommufd, ..VfioDeviceBindIommufd::new() };
        self.call(device, &mut bind)?;
        Ok(bind.out_devid)
    }

    /// The first device, bound to a fresh context.
    pub(crate) fn bound(&self) -> Way<Bound<S>> {
        self.bound_at(self.address()?)
    }

    /// A device with what a row needs, bound to a fresh context.
    pub(crate) fn bound_with(&self, need: Need) -> Way<Bound<S>> {
        self.bound_at(self.address_with(need)?)
    }

    /// A device, bound to a fresh context.
    pub(crate) fn bound_at(&self, address: &str) -> Way<Bound<S>> {
        let iommufd = self.iommufd()?;
        self.bound_in(address, iommufd)
    }

    /// A device, bound to a context.
    pub(crate) fn bound_in(&self, address: &str, iommufd: S::File) -> Way<Bound<S>> {
        let device = self.open_at(address)?;
        let devid = self.bind(&device, &iommufd)?;
        Ok(Bound { device, iommufd, devid })
    }

    /// The first device, bound and attached to a fresh IOAS.
    pub(crate) fn attached(&self) -> Way<Attached<S>> {
        let bound = self.bound()?;
        let ioas = self.ioas(&bound.iommufd)?;
        let hwpt = self.attach(&bound.device, ioas)?;
        Ok(Attached { bound, ioas, hwpt })
    }

    /// Attaches a bound device; the page table's id.
    pub(crate) fn attach(&self, device: &S::File, pt_id: u32) -> Result<u32> {
        let mut attach = VfioDeviceAttachIommufdPt { pt_id, ..VfioDeviceAttachIommufdPt::new() };
        self.call(device, &mut attach)?;
        Ok(attach.pt_id)
    }

    /// Detaches a bound device.
    pub(crate) fn detach(&self, device: &S::File) -> Result<u32> {
        self.call(device, &mut VfioDeviceDetachIommufdPt::new())
    }

    /// A new IOAS; its id.
    pub(crate) fn ioas(&self, iommufd: &S::File) -> Result<u32> {
        let mut alloc = IommuIoasAlloc::new();
        self.call(iommufd, &mut alloc)?;
        Ok(alloc.out_ioas_id)
    }

    /// Destroys an object.
    pub(crate) fn destroy(&self, iommufd: &S::File, id: u32) -> Result<u32> {
        self.call(iommufd, &mut IommuDestroy { id, ..IommuDestroy::new() })
    }

    /// Maps memory of the process readable and writable; the IOVA.
    pub(crate) fn map(&self, iommufd: &S::File, ioas_id: u32, user_va: u64, length: u64) -> Result<u64> {
        let flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;
        let mut map = IommuIoasMap { flags, ioas_id, user_va, length, ..IommuIoasMap::new() };
        self.call(iommufd, &mut map)?;
        Ok(map.iova)
    }

    /// Maps memory of the process readable and writable at an IOVA.
    pub(crate) fn map_at(
        &self,
        iommufd: &S::File,
        ioas_id: u32,
        user_va: u64,
        length: u64,
        iova: u64,
    ) -> Result<u32> {
        let flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;
        self.call(iommufd, &mut IommuIoasMap { flags, ioas_id, user_va, length, iova, ..IommuIoasMap::new() })
    }

    /// Maps the start of a file readable and writable at an IOVA.
    pub(crate) fn map_file_at(
        &self,
        iommufd: &S::File,
        ioas_id: u32,
        fd: i32,
        length: u64,
        iova: u64,
    ) -> Result<u32> {
        let flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;
        self.call(
            iommufd,
            &mut IommuIoasMapFile { flags, ioas_id, fd, length, iova, ..IommuIoasMapFile::new() },
        )
    }

    /// Unmaps; the number of bytes.
    pub(crate) fn unmap(&self, iommufd: &S::File, ioas_id: u32, iova: u64, length: u64) -> Result<u64> {
        let mut unmap = IommuIoasUnmap { ioas_id, iova, length, ..IommuIoasUnmap::new() };
        self.call(iommufd, &mut unmap)?;
        Ok(unmap.length)
    }

    /// The physical address behind an IOVA, and how many bytes are contiguous there.
    pub(crate) fn get_pa(
        &self,
        iommufd: &S::File,
        ioas_id: u32,
        iova: u64,
        length: u64,
    ) -> Result<(u64, u64)> {
        let mut get = IommuIoasNoiommuGetPa { ioas_id, iova, length, ..IommuIoasNoiommuGetPa::new() };
        self.call(iommufd, &mut get)?;
        Ok((get.out_phys, get.length))
    }

    /// `VFIO_DEVICE_GET_INFO`
    pub(crate) fn device_info(&self, device: &S::File) -> Result<VfioDeviceInfo> {
        let mut info = VfioDeviceInfo::new();
        self.call(device, &mut info)?;
        Ok(info)
    }

    /// `VFIO_DEVICE_GET_REGION_INFO`
    pub(crate) fn region_info(&self, device: &S::File, index: u32) -> Result<VfioRegionInfo> {
        let mut info = VfioRegionInfo { index, ..VfioRegionInfo::new() };
        self.call(device, &mut info)?;
        Ok(info)
    }

    /// `VFIO_DEVICE_GET_IRQ_INFO`
    pub(crate) fn irq_info(&self, device: &S::File, index: u32) -> Result<VfioIrqInfo> {
        let mut info = VfioIrqInfo { index, ..VfioIrqInfo::new() };
        self.call(device, &mut info)?;
        Ok(info)
    }

    /// Pinned memory of the process (`VmPin`) in KiB.
    pub(crate) fn vm_pin(&self) -> Way<i64> {
        Ok(self.sys.vm_pin()? as i64)
    }

    /// An ioctl with a whole, well-formed argument.
    pub(crate) fn call<T: Command>(&self, file: &S::File, argument: &mut T) -> Result<u32> {
        ioctl_value(self.sys, file, T::OPCODE, argument)
    }

    /// Not applicable unless the system has something that there is a path of.
    pub(crate) fn needs_path(&self, path: &Path, what: &str) -> Way<()> {
        if self.exists(path)? {
            return Ok(());
        }
        Err(Stop::NotApplicable(format!("the system is without {what}: no {}", path.display())))
    }

    /// Not applicable unless memory can be on huge pages without being asked for.
    pub(crate) fn needs_transparent_huge_pages(&self) -> Way<()> {
        self.needs_path(Path::new("/sys/kernel/mm/transparent_hugepage"), "transparent huge pages")
    }
}
