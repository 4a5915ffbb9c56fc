//! What VFIO and IOMMUFD show of themselves in `/dev`, `/sys` and `/proc`.

use subsystem::{Node, NodeKind, Symbol};
use uapi::Errno;

use super::pci::up;
use super::{Entry, Live, Site, Tree};
use crate::spec::CdevName;

/// Major numbers: those that a kernel gives out first, and the one of miscellaneous devices.
const VFIO_DEV: u32 = 511;
const VFIO: u32 = 510;
const MISC: u32 = 10;
/// Minor numbers of miscellaneous devices.
const CONTAINER: u32 = 196;
const IOMMUFD: u32 = 122;

impl Tree {
    /// What is there before any device.
    pub(super) fn add_vfio(&self) -> Result<(), Errno> {
        let kconfig = self.kconfig;
        self.add("/proc/sys/kernel/tainted", Entry::Live { mode: 0o444, live: Live::Tainted })?;
        self.add("/proc/self/pagemap", Entry::Live { mode: 0o400, live: Live::Pagemap })?;
        if kconfig.has(Symbol::FaultInjection) {
            self.add("/proc/self/fail-nth", Entry::Live { mode: 0o644, live: Live::FailNth })?;
            if kconfig.has(Symbol::DebugFs) {
                let live = Live::FailslabIgnoresWaiting;
                self.add("/sys/kernel/debug/failslab/ignore-gfp-wait", Entry::Live { mode: 0o600, live })?;
            }
        }
        if kconfig.has(Symbol::VfioDeviceCdev) {
            self.add("/dev/vfio/devices", Entry::directory())?;
        }
        if kconfig.has(Symbol::VfioGroup) {
            self.add("/sys/class/vfio", Entry::directory())?;
        }
        self.add("/proc/devices", Entry::Live { mode: 0o444, live: Live::Devices })?;
        self.add("/proc/interrupts", Entry::Live { mode: 0o444, live: Live::Interrupts })?;
        self.add("/dev/kmsg", Entry::Log)?;
        let parameter = |module: &str, name: &str, live| {
            self.add(&format!("/sys/module/{module}/parameters/{name}"), Entry::Live { mode: 0o644, live })
        };
        if kconfig.has(Symbol::VfioNoiommu) {
            parameter("vfio", "enable_unsafe_noiommu_mode", Live::UnsafeNoiommuMode)?;
        }
        if kconfig.has(Symbol::Iommufd) {
            parameter("iommufd", "allow_unsafe_interrupts", Live::UnsafeInterrupts)?;
        }
        if kconfig.has(Symbol::VfioPci) {
            parameter("vfio_pci", "enable_sriov", Live::EnableSriov)?;
        }
        // On a PC the container selects the module that backs it.
        if kconfig.has(Symbol::VfioContainer) {
            parameter("vfio_iommu_type1", "allow_unsafe_interrupts", Live::Type1UnsafeInterrupts)?;
            parameter("vfio_iommu_type1", "dma_entry_limit", Live::DmaEntryLimit)?;
        }
        if kconfig.has(Symbol::Vfio) {
            self.add("/sys/class/vfio-dev", Entry::directory())?;
        }
        if kconfig.has(Symbol::VfioDebugfs) {
            self.add("/sys/kernel/debug/vfio", Entry::directory())?;
        }
        self.add("/sys/kernel/iommu_groups", Entry::directory())?;
        // IOMMUFD places mappings as a kernel does that has them.
        self.add("/sys/kernel/mm/transparent_hugepage", Entry::directory())
    }

    /// The kinds of character devices that VFIO and IOMMUFD have, by major number, as `/proc/devices` lists them.
    pub(crate) fn character_devices(&self) -> Vec<(u32, &'static str)> {
        let built = |symbol, kind| self.kconfig.has(symbol).then_some(kind);
        let groups = built(Symbol::VfioGroup, (VFIO, "vfio"));
        let cdevs = built(Symbol::VfioDeviceCdev, (VFIO_DEV, "vfio-dev"));
        [Some((MISC, "misc")), groups, cdevs].into_iter().flatten().collect()
    }

    /// A node appears, with its class device. `site` is that of its device, if it has one.
    pub(crate) fn add_node(&self, node: Node, site: Option<&Site>) -> Result<(), Errno> {
        self.add_all(&entries(self, node, site))
    }

    /// A node goes, with its class device.
    pub(crate) fn remove_node(&self, node: Node, site: Option<&Site>) {
        self.remove_all(&entries(self, node, site));
    }

    /// A device gets an iommu_group that no IOMMU stands behind.
    pub(crate) fn add_iommu_group(&self, site: &Site, group: u32) -> Result<(), Errno> {
        self.add_all(&iommu_group(site, group))
    }

    /// It goes.
    pub(crate) fn remove_iommu_group(&self, site: &Site, group: u32) {
        self.remove_all(&iommu_group(site, group));
    }

    /// Adds entries; what was added before a failure is taken away again.
    fn add_all(&self, entries: &[(String, Entry)]) -> Result<(), Errno> {
        for (added, (path, entry)) in entries.iter().enumerate() {
            if let Err(errno) = self.add(path, entry.clone()) {
                self.remove_all(&entries[..added]);
                return Err(errno);
            }
        }
        Ok(())
    }

    fn remove_all(&self, entries: &[(String, Entry)]) {
        entries.iter().rev().for_each(|(path, _)| self.remove(path));
    }
}

/// Everything that a node brings along. What holds others comes first, the node itself last.
fn entries(tree: &Tree, node: Node, site: Option<&Site>) -> Vec<(String, Entry)> {
    let mode = u32::from(node.mode);
    let device = |major, minor| Entry::Node { mode, major, minor, kind: node.kind };
    match (node.kind, site) {
        (NodeKind::Iommufd, _) => vec![("/dev/iommu".into(), device(MISC, IOMMUFD))],
        (NodeKind::Container, _) => vec![("/dev/vfio/vfio".into(), device(MISC, CONTAINER))],
        (NodeKind::Device { index, noiommu, .. }, Some(site)) => {
            let noiommu = noiommu && tree.cdev_name == CdevName::NoiommuVfio;
            let name = format!("{}vfio{index}", prefix(noiommu));
            let mut entries = vfio_device(tree, &name, site, Some(index));
            entries.push((format!("/dev/vfio/devices/{name}"), device(VFIO_DEV, index)));
            entries
        }
        (NodeKind::ClassDevice { index, .. }, Some(site)) => {
            vfio_device(tree, &format!("vfio{index}"), site, None)
        }
        (NodeKind::Group { minor, group, noiommu }, _) => {
            let name = format!("{}{group}", prefix(noiommu));
            let mut entries = class_device(
                &format!("/devices/virtual/vfio/{name}"),
                &format!("/sys/class/vfio/{name}"),
                Some((&format!("vfio/{name}"), VFIO, minor)),
            );
            entries.push((format!("/dev/vfio/{name}"), device(VFIO, minor)));
            entries
        }
        // A device is somewhere.
        (NodeKind::Device { .. } | NodeKind::ClassDevice { .. }, None) => Vec::new(),
    }
}

/// What an iommu_group brings along that was made for one device.
fn iommu_group(site: &Site, group: u32) -> Vec<(String, Entry)> {
    let Site { folder: above, name, .. } = site;
    let kernel = format!("/sys/kernel/iommu_groups/{group}");
    vec![
        (kernel.clone(), Entry::directory()),
        (format!("{kernel}/name"), Entry::text("vfio-noiommu")),
        (format!("{kernel}/type"), Entry::text("unknown")),
        (format!("{kernel}/devices/{name}"), Entry::link(format!("../../../..{above}"))),
        (
            format!("/sys{above}/iommu_group"),
            Entry::link(format!("{}kernel/iommu_groups/{group}", up(above))),
        ),
    ]
}

fn prefix(noiommu: bool) -> &'static str {
    if noiommu { "noiommu-" } else { "" }
}

/// The class device of a VFIO device, and its directory in debugfs. `minor` is that of its node, if it has one.
fn vfio_device(tree: &Tree, name: &str, site: &Site, minor: Option<u32>) -> Vec<(String, Entry)> {
    let Site { folder: above, name: device, .. } = site;
    let node = format!("vfio/devices/{name}");
    let mut entries = vec![(format!("/sys{above}/vfio-dev"), Entry::directory())];
    entries.extend(class_device(
        &format!("{above}/vfio-dev/{name}"),
        &format!("/sys/class/vfio-dev/{name}"),
        minor.map(|minor| (&*node, VFIO_DEV, minor)),
    ));
    entries.push((format!("/sys{above}/vfio-dev/{name}/device"), Entry::link(format!("../../../{device}"))));
    if tree.kconfig.has(Symbol::VfioDebugfs) {
        entries.push((format!("/sys/kernel/debug/vfio/{device}"), Entry::directory()));
    }
    entries
}

/// The directory of a class device (`path` is without `/sys`), its attributes, and the link from its class. `node` is its
/// node below `/dev`, major and minor number.
fn class_device(path: &str, class: &str, node: Option<(&str, u32, u32)>) -> Vec<(String, Entry)> {
    let mut uevent = String::new();
    let mut entries = vec![(format!("/sys{path}"), Entry::directory())];
    if let Some((name, major, minor)) = node {
        uevent = format!("MAJOR={major}\nMINOR={minor}\nDEVNAME={name}\n");
        entries.push((format!("/sys{path}/dev"), Entry::text(format_args!("{major}:{minor}"))));
    }
    entries.push((format!("/sys{path}/uevent"), Entry::Text { mode: 0o644, text: uevent }));
    entries.push((class.to_string(), Entry::link(format!("../..{path}"))));
    entries
}
