//! Finding a device and the best way to have it.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use sys::{FileKind, Sys};

use crate::calls::Calls;
use crate::device::Opened;
use crate::error::Attempt;
use crate::{Device, Errno, Error, Looked, Mode, Options, PassedOver, PciAddress, Result};

const DEVICES: &str = "/sys/bus/pci/devices";
const IOMMU: &str = "/dev/iommu";
const NOT_BUILT: &str = "not built yet in this version of ioasis";

pub(crate) fn open<S: Sys>(sys: &S, address: PciAddress, options: &Options) -> Result<Device<S>> {
    let found = Survey::make(sys, address)?;
    let mut passed_over = Vec::new();
    for mode in Mode::ALL {
        match found.node(mode) {
            Ok(_) if !mode.has_iommu() && !options.allow_noiommu => {
                return Err(Error::NoiommuNotAllowed { device: address.to_string(), mode });
            }
            Ok(node) => return open_node(sys, address, node, mode, passed_over, options),
            Err(reason) => passed_over.push(PassedOver { mode, reason }),
        }
    }
    Err(Error::NoMode { address, passed_over, looked: found.looked })
}

fn open_node<S: Sys>(
    sys: &S,
    address: PciAddress,
    node: &Path,
    mode: Mode,
    passed_over: Vec<PassedOver>,
    options: &Options,
) -> Result<Device<S>> {
    let calls = Calls::new(sys, options.trace);
    let label = address.to_string();
    let file = calls.open(node).attempt(|| format!("cannot open {label}"))?;
    let iommufd =
        calls.open(Path::new(IOMMU)).attempt(|| format!("cannot open an IOMMUFD context for {label}"))?;
    let opened = Opened { calls, file, iommufd, label };
    opened.bind()?;
    opened.attach(mode, passed_over)
}

/// What the host says about a device.
struct Survey {
    /// Whether `/dev/iommu` is there.
    iommufd: bool,
    /// The driver that is bound to it.
    driver: Option<String>,
    /// Its entry in `vfio-dev`, such as `noiommu-vfio0`.
    entry: Option<String>,
    /// The character device that belongs to the entry.
    node: Option<PathBuf>,
    looked: Vec<Looked>,
}

impl Survey {
    fn make<S: Sys>(sys: &S, address: PciAddress) -> Result<Self> {
        let mut looked = Vec::new();
        let folder = Path::new(DEVICES).join(address.to_string());
        let present = look(sys, &folder, &mut looked);
        let iommufd = look(sys, Path::new(IOMMU), &mut looked);
        if !present {
            looked.push(Looked { path: DEVICES.into(), found: neighbours(sys) });
            return Err(Error::NoDevice { address, looked });
        }
        let driver = driver(sys, &folder, &mut looked);
        let entry = entry(sys, &folder.join("vfio-dev"), &mut looked);
        let node = entry
            .as_ref()
            .map(|name| Path::new("/dev/vfio/devices").join(name))
            .filter(|node| look(sys, node, &mut looked));
        Ok(Survey { iommufd, driver, entry, node, looked })
    }

    /// The node to open for a mode, or why there is none.
    fn node(&self, mode: Mode) -> std::result::Result<&Path, String> {
        let noiommu = match mode {
            Mode::Iommufd => false,
            Mode::IommufdNoiommu => true,
            Mode::Group | Mode::GroupNoiommu | Mode::Uio => return Err(NOT_BUILT.to_owned()),
        };
        let Some(entry) = &self.entry else {
            return Err(match &self.driver {
                Some(driver) => format!("the device is bound to {driver}, which is no driver of VFIO; bind it to vfio-pci"),
                None => "the device is bound to no driver; bind it to vfio-pci (which refuses a device without an IOMMU \
                         unless the parameter enable_unsafe_noiommu_mode of the module vfio is on)"
                    .to_owned(),
            });
        };
        match (noiommu, entry.starts_with("noiommu-")) {
            (false, true) => return Err(format!("the device has no IOMMU (its entry is vfio-dev/{entry})")),
            (true, false) => return Err(format!("the device has an IOMMU (its entry is vfio-dev/{entry})")),
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

/// The entry of a device in its `vfio-dev`: what VFIO registered it as.
fn entry<S: Sys>(sys: &S, path: &Path, looked: &mut Vec<Looked>) -> Option<String> {
    let names = sys.read_dir(path).unwrap_or_default();
    let found =
        if names.is_empty() { "nothing: VFIO does not know the device".to_owned() } else { names.join(" ") };
    looked.push(Looked { path: path.to_path_buf(), found });
    names.into_iter().find(|name| name.trim_start_matches("noiommu-").starts_with("vfio"))
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
