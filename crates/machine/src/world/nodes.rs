//! The world as the subsystem's file system: nodes, groups in sysfs, and waiting for users.
#![forbid(unsafe_code)]

use subsystem::{Function, Node, NodeKind, Slept};
use uapi::Errno;

use super::World;
use crate::log::Priority;
use crate::tree::Site;

impl subsystem::Nodes for World {
    fn node_add(&self, node: Node) -> Result<(), Errno> {
        self.tree.add_node(node, self.site_of(node.kind).as_ref())
    }

    fn node_remove(&self, node: Node) {
        self.tree.remove_node(node, self.site_of(node.kind).as_ref());
        if let NodeKind::Device { function, .. } | NodeKind::ClassDevice { function, .. } = node.kind {
            self.sleepers.begin(function);
        }
    }

    fn iommu_group_add(&self, function: Function) -> Result<u32, Errno> {
        let site = self.site(function).ok_or(Errno::ENODEV)?;
        let number = self.groups.make(function);
        if let Err(errno) = self.tree.add_iommu_group(&site, number) {
            self.groups.leave(function);
            return Err(errno);
        }
        self.log.line(
            Priority::INFO,
            format_args!("{} {}: Adding to iommu group {number}", site.driver, site.name),
        );
        Ok(number)
    }

    fn iommu_group_remove(&self, function: Function, group: u32) {
        self.groups.leave(function);
        if let Some(site) = self.site(function) {
            self.log.line(
                Priority::INFO,
                format_args!("{} {}: Removing from iommu group {group}", site.driver, site.name),
            );
            self.tree.remove_iommu_group(&site, group);
        }
    }

    fn sleep(&self, function: Function, seconds: u32) -> Slept {
        self.sleepers.sleep(function, seconds)
    }

    fn wake(&self, function: Function) {
        self.sleepers.wake(function);
    }
}

impl World {
    /// Where the device of a node is.
    fn site_of(&self, kind: NodeKind) -> Option<Site> {
        match kind {
            NodeKind::Device { function, .. } | NodeKind::ClassDevice { function, .. } => self.site(function),
            NodeKind::Group { .. } | NodeKind::Iommufd | NodeKind::Container => None,
        }
    }
}
