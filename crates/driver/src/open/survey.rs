//! What the host says about a device, and which modes that opens.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use sys::{FileKind, Sys};

use crate::{Errno, Error, Looked, Mode, PciAddress, Result};

const DEVICES: &str = "/sys/bus/pci/devices";
pub(super) const IOMMU: &str = "/dev/iommu";
pub(super) const CONTAINER: &str = "/dev/vfio/vfio";
/// The driver that leaves a device to programs, but for its interrupt line.
const UIO_DRIVER: &str = "uio_pci_generic";

/// The driver of VFIO, and the parameter that lets it take devices without an IOMMU.
const VFIO_DRIVER: &str = "/sys/bus/pci/drivers/vfio-pci";
const NOIOMMU_MODE: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

/// What the host says about a device.
pub(super) struct Survey {
    /// Whether `/dev/iommu` is there.
    iommufd: bool,
    /// Whether `/dev/vfio/vfio` is there.
    container: bool,
    /// Its directory in sysfs.
    folder: PathBuf,
    /// The driver that is bound to it.
    driver: Option<String>,
    /// How to bind it to `vfio-pci`.
    advice: String,
    /// Its entry in `vfio-dev`, such as `noiommu-vfio0`.
    entry: Option<String>,
    /// The character device that belongs to the entry.
    node: Option<PathBuf>,
    /// Its IOMMU group.
    group: Option<Group>,
    /// Its node of UIO.
    uio: Option<PathBuf>,
    /// Whether its registers are files in sysfs.
    resources: bool,
    pub(super) looked: Vec<Looked>,
}

struct Group {
    number: String,
    /// What the devices in it are translated by, such as `DMA`, `identity`.
    translation: String,
    node: Option<GroupNode>,
}

struct GroupNode {
    path: PathBuf,
    noiommu: bool,
}

/// The way into a mode.
#[derive(Clone, Copy)]
pub(super) enum Way<'a> {
    /// The device's own node.
    Node(&'a Path),
    /// The node of its group, and the number of that.
    Group(&'a Path, &'a str),
    /// Its directory in sysfs.
    Sysfs { folder: &'a Path, uio: Option<&'a Path>, driven: bool },
}

impl Survey {
    pub(super) fn make<S: Sys>(sys: &S, address: PciAddress) -> Result<Self> {
        let mut looked = Vec::new();
        let folder = Path::new(DEVICES).join(address.to_string());
        let present = look(sys, &folder, &mut looked);
        let iommufd = look(sys, Path::new(IOMMU), &mut looked);
        let container = look(sys, Path::new(CONTAINER), &mut looked);
        if !present {
            looked.push(Looked { path: DEVICES.into(), found: neighbours(sys) });
            return Err(Error::NoDevice { address, looked });
        }
        let driver = driver(sys, &folder, &mut looked);
        let advice = advice(sys, &mut looked);
        let entry = entry(sys, &folder.join("vfio-dev"), &mut looked);
        let node = entry
            .as_ref()
            .map(|name| Path::new("/dev/vfio/devices").join(name))
            .filter(|node| look(sys, node, &mut looked));
        let group = group(sys, &folder, &mut looked);
        let uio = uio(sys, &folder, driver.as_deref(), &mut looked);
        let files = sys.read_dir(&folder).unwrap_or_default();
        let resources = (0..6).any(|index| files.contains(&format!("resource{index}")));
        Ok(Survey { iommufd, container, folder, driver, advice, entry, node, group, uio, resources, looked })
    }

    /// The way into a mode, or why there is none.
    pub(super) fn way(&self, mode: Mode) -> std::result::Result<Way<'_>, String> {
        match mode {
            Mode::Iommufd | Mode::IommufdNoiommu => self.node_for(mode).map(Way::Node),
            Mode::Group | Mode::GroupNoiommu => self.group_for(mode),
            Mode::Uio => self.sysfs(),
        }
    }

    /// The device's own node, for a mode of IOMMUFD.
    pub(super) fn node_for(&self, mode: Mode) -> std::result::Result<&Path, String> {
        let Some(entry) = &self.entry else {
            return Err(match &self.group {
                Some(Group { node: Some(node), .. }) => format!(
                    "the device is in vfio by its group alone ({}): the kernel is older than 6.6, or built without \
                     VFIO_DEVICE_CDEV",
                    node.path.display()
                ),
                _ => self.unbound(),
            });
        };
        let noiommu = entry.starts_with("noiommu-") || self.group_node().is_some_and(|node| node.noiommu);
        match (mode.has_iommu(), noiommu) {
            (true, true) => return Err(format!("the device has no IOMMU (its entry is vfio-dev/{entry})")),
            (false, false) => return Err(format!("the device has an IOMMU (its entry is vfio-dev/{entry})")),
            _ => {}
        }
        if !self.iommufd {
            return Err(format!(
                "there is no {IOMMU}: the kernel is built without IOMMUFD, or its module is not loaded"
            ));
        }
        self.node.as_deref().ok_or_else(|| {
            format!("there is no /dev/vfio/devices/{entry}: the kernel is built without VFIO_DEVICE_CDEV")
        })
    }

    /// The node of its group.
    fn group_for(&self, mode: Mode) -> std::result::Result<Way<'_>, String> {
        let vfio = self.entry.is_some() || self.group_node().is_some();
        let Some(Group { number, node, .. }) = self.group.as_ref().filter(|_| vfio) else {
            return Err(match &self.entry {
                Some(_) => "the device is in no group: the kernel is built without VFIO_GROUP".to_owned(),
                None => self.unbound(),
            });
        };
        let Some(GroupNode { path, noiommu }) = node else {
            return Err(format!(
                "there is neither /dev/vfio/{number} nor /dev/vfio/noiommu-{number}: the kernel is built without VFIO_GROUP"
            ));
        };
        match (mode.has_iommu(), *noiommu) {
            (true, true) => Err(format!("the device has no IOMMU (its group is {})", path.display())),
            (false, false) => Err(format!("the device has an IOMMU (its group is {})", path.display())),
            _ if !self.container => Err(format!("there is no {CONTAINER}: the module vfio is not loaded")),
            _ => Ok(Way::Group(path, number)),
        }
    }

    /// Its files in sysfs.
    fn sysfs(&self) -> std::result::Result<Way<'_>, String> {
        match &self.driver {
            Some(driver) if driver != UIO_DRIVER => {
                return Err(format!(
                    "the device is bound to {driver}; unbind it, or bind it to {UIO_DRIVER} to have interrupts"
                ));
            }
            _ => {}
        }
        match &self.group {
            Some(Group { number, translation, .. }) if translation != "identity" => Err(format!(
                "there is an IOMMU between the device and memory (its group is {number}, of type {translation}), so that \
                 physical addresses mean nothing to it"
            )),
            _ if !self.resources => Err("its registers are no files in sysfs".to_owned()),
            _ => Ok(Way::Sysfs {
                folder: &self.folder,
                uio: self.uio.as_deref(),
                driven: self.driver.is_some(),
            }),
        }
    }

    fn group_node(&self) -> Option<&GroupNode> {
        self.group.as_ref()?.node.as_ref()
    }

    /// Why VFIO does not know the device.
    fn unbound(&self) -> String {
        let advice = &self.advice;
        match &self.driver {
            Some(driver) => format!("the device is bound to {driver}, which is no driver of VFIO; {advice}"),
            None => format!("the device is bound to no driver; {advice}"),
        }
    }
}

/// Whether there is something at a path.
fn look<S: Sys>(sys: &S, path: &Path, looked: &mut Vec<Looked>) -> bool {
    let (present, found) = match sys.stat(path) {
        Ok(stat) => (true, kind(stat.kind)),
        Err(refusal) if refusal.errno() == Errno::ENOENT => (false, "not there".to_owned()),
        Err(refusal) => (false, refusal.errno().to_string()),
    };
    looked.push(Looked { path: path.to_path_buf(), found });
    present
}

fn kind(kind: FileKind) -> String {
    match kind {
        FileKind::CharDevice { major, minor } => format!("character device {major}:{minor}"),
        FileKind::Directory => "a directory".to_owned(),
        FileKind::Link => "a link".to_owned(),
        FileKind::Regular => "a file".to_owned(),
        FileKind::Other => "something else".to_owned(),
    }
}

/// The name of the driver that is bound to a device.
fn driver<S: Sys>(sys: &S, folder: &Path, looked: &mut Vec<Looked>) -> Option<String> {
    let path = folder.join("driver");
    let name = sys
        .read_link(&path)
        .ok()
        .and_then(|target| target.file_name().map(|name| name.to_string_lossy().into_owned()));
    let found = name.clone().unwrap_or_else(|| "not there: no driver is bound".to_owned());
    looked.push(Looked { path, found });
    name
}

/// How to bind a device to `vfio-pci`.
fn advice<S: Sys>(sys: &S, looked: &mut Vec<Looked>) -> String {
    if !look(sys, Path::new(VFIO_DRIVER), looked) {
        return "load vfio-pci (modprobe vfio-pci; the kernel may be built without VFIO_PCI) and bind it to that".to_owned();
    }
    let value =
        sys.read(Path::new(NOIOMMU_MODE)).map(|value| String::from_utf8_lossy(&value).trim().to_owned());
    let (advice, found) = match value {
        Ok(value) if value == "Y" => ("bind it to vfio-pci".to_owned(), value),
        Ok(value) => {
            let how = format!(
                "bind it to vfio-pci, which takes one without an IOMMU only while {NOIOMMU_MODE} is Y"
            );
            (how, value)
        }
        Err(refusal) => {
            let how = "bind it to vfio-pci, which takes only devices with an IOMMU here (the kernel is built without VFIO_NOIOMMU)";
            (how.to_owned(), refusal.errno().to_string())
        }
    };
    looked.push(Looked { path: NOIOMMU_MODE.into(), found });
    advice
}

/// The entry of a device in its `vfio-dev`: what VFIO registered it as.
fn entry<S: Sys>(sys: &S, path: &Path, looked: &mut Vec<Looked>) -> Option<String> {
    let names = sys.read_dir(path).unwrap_or_default();
    let found =
        if names.is_empty() { "nothing: VFIO does not know the device".to_owned() } else { names.join(" ") };
    looked.push(Looked { path: path.to_path_buf(), found });
    names.into_iter().find(|name| name.trim_start_matches("noiommu-").starts_with("vfio"))
}

/// The IOMMU group of a device, and its node.
fn group<S: Sys>(sys: &S, folder: &Path, looked: &mut Vec<Looked>) -> Option<Group> {
    let path = folder.join("iommu_group");
    let number = sys
        .read_link(&path)
        .ok()
        .and_then(|target| target.file_name().map(|name| name.to_string_lossy().into_owned()));
    let translation = sys.read(&path.join("type")).unwrap_or_default();
    let translation = String::from_utf8_lossy(&translation).trim().to_owned();
    let found = match &number {
        Some(number) => format!("group {number} of type {translation}"),
        None => "not there: the device is in no IOMMU group".to_owned(),
    };
    looked.push(Looked { path, found });
    let number = number?;
    let mut node = |name: String, noiommu| {
        let path = Path::new("/dev/vfio").join(name);
        look(sys, &path, looked).then_some(GroupNode { path, noiommu })
    };
    let node = node(number.clone(), false).or_else(|| node(format!("noiommu-{number}"), true));
    Some(Group { number, translation, node })
}

/// The node of UIO of a device that is bound to its driver.
fn uio<S: Sys>(sys: &S, folder: &Path, driver: Option<&str>, looked: &mut Vec<Looked>) -> Option<PathBuf> {
    driver.filter(|driver| *driver == UIO_DRIVER)?;
    let name = sys.read_dir(&folder.join("uio")).unwrap_or_default().into_iter().next()?;
    let node = Path::new("/dev").join(name);
    look(sys, &node, looked).then_some(node)
}

/// The PCI devices that there are, for who mistyped.
fn neighbours<S: Sys>(sys: &S) -> String {
    const SHOWN: usize = 16;
    match sys.read_dir(Path::new(DEVICES)) {
        Ok(names) if names.is_empty() => "no device".to_owned(),
        Ok(names) if names.len() > SHOWN => {
            format!("{} and {} more", names[..SHOWN].join(" "), names.len() - SHOWN)
        }
        Ok(names) => names.join(" "),
        Err(refusal) if refusal.errno() == Errno::ENOENT => "not there: this host has no PCI bus".to_owned(),
        Err(refusal) => refusal.errno().to_string(),
    }
}
