//! The machine file: what a machine is built from.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};
use subsystem::{Kconfig, ModuleParameters, Symbol};

use crate::bus::sriov;
use crate::dma::Mode;
use crate::ram::{LayoutKind, RamSpec};

mod driver;
mod error;
mod iommu;
mod kconfig;
mod mediated;
mod units;

pub use driver::Driver;
pub(crate) use driver::VFIO_PCI;
pub use error::SpecError;
pub use iommu::{Iommu, IommuSpec};
pub use kconfig::setting;
pub use mediated::{MediatedModel, MediatedSpec, Uuid};
pub use units::{CAPABILITIES, PciAddress, Size};

/// How many address bits a device may drive.
pub(crate) const DMA_BITS: RangeInclusive<u8> = 12..=64;

/// What a machine is built from. The default has no device.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MachineSpec {
    /// The IOMMU between the devices and memory.
    pub iommu: Iommu,
    /// The `vfio` module parameter `enable_unsafe_noiommu_mode`, as it is when the devices are probed.
    pub unsafe_noiommu_mode: bool,
    /// The `iommufd` module parameter `allow_unsafe_interrupts`, as it is at the start.
    pub allow_unsafe_interrupts: bool,
    /// The `vfio_pci` module parameter `enable_sriov`, as it is at the start.
    pub enable_sriov: bool,
    /// The module parameters of `vfio_iommu_type1`, as they are at the start.
    #[serde(rename = "vfio_iommu_type1")]
    pub type1: Type1Spec,
    /// The capabilities that the process is taken to hold, by name.
    pub capabilities: Vec<String>,
    /// What becomes of a memory access that a device was not entitled to. An IOMMU blocks it in any case.
    pub dma: Mode,
    /// What the character devices of devices without an IOMMU are called.
    pub cdev_name: CdevName,
    /// Build options of the kernel.
    #[serde(deserialize_with = "kconfig::table")]
    pub kconfig: Kconfig,
    /// Whether the options are on, too, that the kernel's self-tests of IOMMUFD want: `CONFIG_IOMMUFD_TEST` and what it depends on.
    pub iommufd_test: bool,
    /// Physical memory.
    pub memory: MemorySpec,
    /// Root ports, in any order.
    #[serde(rename = "port")]
    pub ports: Vec<PortSpec>,
    /// The devices, in any order.
    #[serde(rename = "device")]
    pub devices: Vec<DeviceSpec>,
    /// Mediated devices.
    pub mediated: Vec<MediatedSpec>,
    /// Limits of the process.
    pub limits: Limits,
}

impl Default for MachineSpec {
    fn default() -> Self {
        MachineSpec {
            iommu: Iommu::None,
            unsafe_noiommu_mode: true,
            allow_unsafe_interrupts: false,
            enable_sriov: true,
            type1: Type1Spec::default(),
            capabilities: ["CAP_SYS_RAWIO", "CAP_IPC_LOCK"].map(String::from).to_vec(),
            dma: Mode::Enforce,
            cdev_name: CdevName::NoiommuVfio,
            kconfig: Kconfig::FULL,
            iommufd_test: false,
            memory: MemorySpec::default(),
            ports: Vec::new(),
            devices: Vec::new(),
            mediated: Vec::new(),
            limits: Limits::default(),
        }
    }
}

/// What the character devices of devices without an IOMMU are called, before their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CdevName {
    /// As in Linux.
    #[default]
    NoiommuVfio,
    /// Like those of devices behind an IOMMU, for programs that look for no other name.
    Vfio,
}

/// The module parameters of `vfio_iommu_type1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Type1Spec {
    /// Whether groups come under type1 whose interrupts are not isolated.
    pub allow_unsafe_interrupts: bool,
    /// How many mappings a container has at most.
    pub dma_entry_limit: u32,
}

impl Default for Type1Spec {
    fn default() -> Self {
        let ModuleParameters { type1_unsafe_interrupts, dma_entry_limit, .. } = ModuleParameters::DEFAULT;
        Type1Spec { allow_unsafe_interrupts: type1_unsafe_interrupts, dma_entry_limit }
    }
}

/// The physical memory of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemorySpec {
    /// How much there is. It takes real memory only where it is touched.
    pub size: Size,
    /// Where its frames are.
    pub layout: LayoutKind,
    /// What the scattering is drawn from.
    pub seed: u64,
}

impl Default for MemorySpec {
    fn default() -> Self {
        let RamSpec { bytes, layout, seed } = RamSpec::default();
        MemorySpec { size: Size(bytes), layout, seed }
    }
}

/// A root port of PCI Express. What is on the bus behind it can be reset together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortSpec {
    /// Where it is, on a root bus.
    pub address: PciAddress,
    /// The bus behind it, which has one device: number 0, with up to 8 functions.
    pub bus: u8,
}

impl PortSpec {
    /// Domain and number of the bus behind it.
    pub(crate) fn secondary(&self) -> (u16, u8) {
        (self.address.domain(), self.bus)
    }
}

/// Limits of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// `RLIMIT_MEMLOCK`; `None`: [`Limits::MEMLOCK`], or what the host says of a process that has one of its own. Who holds `CAP_IPC_LOCK`
    /// is not held to it.
    pub memlock: Option<Size>,
}

impl Limits {
    /// The limit of locked memory that processes of Linux have unless somebody sets another.
    pub const MEMLOCK: Size = Size(8 << 20);
}

/// A device of a machine.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "RawDevice")]
pub struct DeviceSpec {
    /// Where it is on the bus.
    pub address: PciAddress,
    /// What it is.
    pub model: ModelSpec,
    /// How many address bits its DMA engine drives; `None` for as many as the model has by default.
    pub dma_mask: Option<u8>,
    /// Whether it runs on a thread of its own, or else inline: deterministically, whenever it is accessed.
    pub thread: bool,
    /// The driver that is bound to it when the machine starts.
    pub driver: Driver,
    /// Whether it is on the bus when the machine starts; else a rescan finds it.
    pub present: bool,
    /// Whether it is behind the machine's IOMMU, if there is one.
    pub behind_iommu: bool,
    /// Behind an IOMMU: it is in one iommu_group with all devices of the same number; `None`: in one of its own.
    pub group: Option<u32>,
    /// How many virtual functions it can have; only the model `igb` has any.
    pub vfs: u8,
}

impl DeviceSpec {
    /// A device on a thread of its own, bound to vfio-pci.
    #[must_use]
    pub fn new(address: PciAddress, model: ModelSpec) -> Self {
        DeviceSpec {
            address,
            model,
            dma_mask: None,
            thread: true,
            driver: Driver::VfioPci,
            present: true,
            behind_iommu: true,
            group: None,
            vfs: 0,
        }
    }

    /// The same, run inline.
    #[must_use]
    pub fn inline(self) -> Self {
        DeviceSpec { thread: false, ..self }
    }
}

/// A device model and what it is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSpec {
    /// An NVMe controller with one namespace.
    Nvme(NvmeBacking),
    /// QEMU's educational device.
    Edu,
    /// An Ethernet controller, Intel 82576, whose frames come back to it.
    Igb,
    /// A DMA engine, Intel's I/OAT of Skylake servers.
    Ioat,
    /// A display adapter without a display.
    Vga,
}

/// What holds the blocks of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NvmeBacking {
    /// A file, with a length that is a multiple of 512 bytes.
    Image(PathBuf),
    /// Memory that goes with the machine, zeroed; a multiple of 512 bytes.
    Memory(Size),
}

/// A device as the file has it: which keys go together depends on the model.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDevice {
    address: PciAddress,
    model: RawModel,
    image: Option<PathBuf>,
    size: Option<Size>,
    #[serde(default, deserialize_with = "dma_mask")]
    dma_mask: Option<u8>,
    #[serde(default = "yes")]
    thread: bool,
    #[serde(default)]
    driver: Driver,
    #[serde(default = "yes")]
    present: bool,
    #[serde(default = "yes")]
    behind_iommu: bool,
    group: Option<u32>,
    #[serde(default)]
    vfs: u8,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawModel {
    Nvme,
    Edu,
    Igb,
    Ioat,
    Vga,
}

fn yes() -> bool {
    true
}

fn dma_mask<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    let bits = u8::deserialize(deserializer)?;
    if DMA_BITS.contains(&bits) {
        Ok(Some(bits))
    } else {
        Err(de::Error::custom(format_args!(
            "dma_mask = {bits}: a number of address bits from 12 to 64 is needed"
        )))
    }
}

impl TryFrom<RawDevice> for DeviceSpec {
    type Error = String;

    fn try_from(raw: RawDevice) -> Result<Self, String> {
        let RawDevice {
            address,
            model,
            image,
            size,
            dma_mask,
            thread,
            driver,
            present,
            behind_iommu,
            group,
            vfs,
        } = raw;
        let model = match (model, image, size) {
            (RawModel::Nvme, Some(image), None) => ModelSpec::Nvme(NvmeBacking::Image(image)),
            (RawModel::Nvme, None, Some(size)) => ModelSpec::Nvme(NvmeBacking::Memory(size)),
            (RawModel::Nvme, None, None) => {
                return Err(format!("device {address}: `image` or `size` is needed for model \"nvme\""));
            }
            (RawModel::Nvme, Some(_), Some(_)) => {
                return Err(format!("device {address}: `image` and `size` exclude each other"));
            }
            (RawModel::Edu, None, None) => ModelSpec::Edu,
            (RawModel::Igb, None, None) => ModelSpec::Igb,
            (RawModel::Ioat, None, None) => ModelSpec::Ioat,
            (RawModel::Vga, None, None) => ModelSpec::Vga,
            (RawModel::Edu | RawModel::Igb | RawModel::Ioat | RawModel::Vga, ..) => {
                return Err(format!("device {address}: `image` and `size` are for model \"nvme\" only"));
            }
        };
        Ok(DeviceSpec { address, model, dma_mask, thread, driver, present, behind_iommu, group, vfs })
    }
}

impl MachineSpec {
    /// Reads a machine file. A relative `image` counts from the folder of the file.
    pub fn from_file(path: &Path) -> Result<Self, SpecError> {
        let text = std::fs::read_to_string(path).map_err(|error| SpecError::file(path, &error))?;
        let mut spec = Self::parse(&text).map_err(|error| error.in_file(path))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for device in &mut spec.devices {
            if let ModelSpec::Nvme(NvmeBacking::Image(image)) = &mut device.model {
                *image = folder.join(&*image);
            }
        }
        Ok(spec)
    }

    /// Reads the text of a machine file; nothing outside it is looked at.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        toml::from_str(text).map_err(|error| SpecError::syntax(text, &error))
    }

    /// What the parser cannot know, since it concerns several keys, or values that were not parsed.
    pub(crate) fn check(&self) -> Result<(), SpecError> {
        if let Some(unknown) = self.capabilities.iter().find(|name| !CAPABILITIES.contains(&name.as_str())) {
            return Err(SpecError::key(
                "capabilities",
                format_args!("{unknown:?} is not a capability of Linux"),
            ));
        }
        let kconfig = self.build_options()?;
        self.check_ports()?;
        self.check_mediated()?;
        let mut seen: BTreeSet<PciAddress> = self.ports.iter().map(|port| port.address).collect();
        for device in &self.devices {
            if device.driver == Driver::VfioPci && !kconfig.has(Symbol::VfioPci) {
                return Err(SpecError::key(
                    "device.driver",
                    "\"vfio-pci\" needs CONFIG_VFIO_PCI; use \"none\" or a driver of the host",
                ));
            }
            if !seen.insert(device.address) {
                return Err(SpecError::duplicate(device.address));
            }
            if device.vfs > 0 && (device.model != ModelSpec::Igb || device.vfs > sriov::MOST) {
                return Err(SpecError::key(
                    "device.vfs",
                    format_args!(
                        "device {}: model \"igb\" can have up to {} of them, the others none",
                        device.address,
                        sriov::MOST
                    ),
                ));
            }
            if device.group.is_some() && (!device.behind_iommu || self.iommu == Iommu::None) {
                return Err(SpecError::key(
                    "device.group",
                    format_args!("device {} is not behind an IOMMU, and in no group", device.address),
                ));
            }
            if device.dma_mask.is_some_and(|bits| !DMA_BITS.contains(&bits)) {
                return Err(SpecError::key(
                    "device.dma_mask",
                    "a number of address bits from 12 to 64 is needed",
                ));
            }
        }
        Ok(())
    }

    /// The build options of the kernel, all of them.
    pub(crate) fn build_options(&self) -> Result<Kconfig, SpecError> {
        if !self.iommufd_test {
            return Ok(self.kconfig);
        }
        self.kconfig.with(&kconfig::FOR_TESTS).map_err(|refused| SpecError::key("iommufd_test", refused))
    }

    fn check_ports(&self) -> Result<(), SpecError> {
        let mut buses = BTreeSet::new();
        for port in &self.ports {
            if port.bus == port.address.bus() || !buses.insert(port.secondary()) {
                let problem =
                    format_args!("{}: the bus behind port {} is another one's", port.bus, port.address);
                return Err(SpecError::key("port.bus", problem));
            }
        }
        let behind = |address: PciAddress| buses.contains(&(address.domain(), address.bus()));
        if let Some(port) = self.ports.iter().find(|port| behind(port.address)) {
            let problem =
                format_args!("\"{}\" is behind another port; a root port is on a root bus", port.address);
            return Err(SpecError::key("port.address", problem));
        }
        if let Some(device) =
            self.devices.iter().find(|it| behind(it.address) && it.address.devfn() >> 3 != 0)
        {
            let problem = format_args!("\"{}\": behind a port there is device 00 only", device.address);
            return Err(SpecError::key("device.address", problem));
        }
        Ok(())
    }

    fn check_mediated(&self) -> Result<(), SpecError> {
        if !self.mediated.is_empty() && !self.kconfig.has(Symbol::Vfio) {
            return Err(SpecError::key("mediated", "mediated devices need CONFIG_VFIO"));
        }
        let mut seen = BTreeSet::new();
        match self.mediated.iter().find(|device| !seen.insert(device.uuid)) {
            Some(twice) => {
                let problem = format_args!("\"{}\" is given to two devices", twice.uuid);
                Err(SpecError::key("mediated.uuid", problem))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn ram(&self) -> RamSpec {
        RamSpec { bytes: self.memory.size.0, layout: self.memory.layout, seed: self.memory.seed }
    }
}

impl FromStr for MachineSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        Self::parse(text)
    }
}
