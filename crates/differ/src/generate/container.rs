//! Calls on groups and containers, and on contexts that stand for a container.

use uapi::vfio::*;

use super::known::Kind;
use super::{Draw, Generator, into, ioctl, ioctl_number, ioctl_tailed, n, plain};
use crate::command::Command;
use crate::sequence::{Argument, Call, Item, Node, Place, Request, Slot, Step, Value};

pub(super) const DRAWS: &[Draw] = &[
    (4, Generator::open_group),
    (4, Generator::open_container),
    (3, Generator::group_status),
    (8, Generator::set_container),
    (3, Generator::unset_container),
    (8, Generator::device_fd),
    (3, Generator::api),
    (8, Generator::set_iommu),
    (3, Generator::container_info),
    (8, Generator::map_dma),
    (6, Generator::unmap_dma),
    (2, Generator::dirty_pages),
];

impl Generator {
    /// A container, or what may stand for one.
    fn container(&mut self) -> Option<Slot> {
        let kind = if self.one_in(4) { Kind::Iommufd } else { Kind::Container };
        self.of(kind)
    }

    fn open_group(&mut self) -> Option<Step> {
        let number = self.rng.u8(0..self.devices.max(1));
        self.open(Node::Group(number))
    }

    fn open_container(&mut self) -> Option<Step> {
        self.open(Node::Container)
    }

    fn group_status(&mut self) -> Option<Step> {
        let group = self.of(Kind::Group)?;
        Some(ioctl(group, "VFIO_GROUP_GET_STATUS", &[]))
    }

    fn set_container(&mut self) -> Option<Step> {
        let (group, container) = (self.of(Kind::Group)?, self.container()?);
        Some(pointed(group, "VFIO_GROUP_SET_CONTAINER", Item::Number(4, Value::Descriptor(container))))
    }

    fn unset_container(&mut self) -> Option<Step> {
        let group = self.of(Kind::Group)?;
        Some(ioctl_number(group, "VFIO_GROUP_UNSET_CONTAINER", 0))
    }

    fn device_fd(&mut self) -> Option<Step> {
        let group = self.of(Kind::Group)?;
        let slot = self.fresh()?;
        let name = match self.rng.u8(0..12) {
            0 => Item::Text("0000:99:00.0".to_owned()),
            1 => Item::Device(0, " vf_token=00000000-0000-0000-0000-000000000001".to_owned()),
            2 => Item::Device(0, " ".to_owned()),
            3 => Item::Device(0, "x".to_owned()),
            _ => Item::Device(self.rng.u8(0..self.devices.max(1)), String::new()),
        };
        Some(into(slot, pointed(group, "VFIO_GROUP_GET_DEVICE_FD", name)))
    }

    fn api(&mut self) -> Option<Step> {
        let file = self.container()?;
        if self.one_in(4) {
            return Some(ioctl_number(file, "VFIO_GET_API_VERSION", 0));
        }
        Some(ioctl_number(file, "VFIO_CHECK_EXTENSION", self.rng.u64(0..13)))
    }

    fn set_iommu(&mut self) -> Option<Step> {
        let file = self.container()?;
        let kind =
            self.pick(&[VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, VFIO_NOIOMMU_IOMMU, VFIO_NOIOMMU_IOMMU, 0, 7]);
        Some(ioctl_number(file, "VFIO_SET_IOMMU", kind.into()))
    }

    fn container_info(&mut self) -> Option<Step> {
        let file = self.container()?;
        let words = self.pick(&[0_usize, 2, 8, 32]);
        Some(ioctl_tailed(file, "VFIO_IOMMU_GET_INFO", &[], vec![Item::Number(8, n(0_u32)); words]))
    }

    fn map_dma(&mut self) -> Option<Step> {
        let file = self.container()?;
        let fields = [
            ("flags", self.mostly(&[3, 3, 1, 2], 8)),
            ("vaddr", Value::Buffer(self.offset())),
            ("iova", n(self.iova())),
            ("size", n(self.length())),
        ];
        Some(ioctl(file, "VFIO_IOMMU_MAP_DMA", &fields))
    }

    fn unmap_dma(&mut self) -> Option<Step> {
        let file = self.container()?;
        let (_, iova, length) = self.mapped(file);
        let flags = self.mostly(&[0, 0, 0, 0, 2, 1], 8);
        let all = flags == n(2_u32);
        let range = if all {
            [("iova", n(0_u32)), ("size", n(0_u32))]
        } else {
            [("iova", n(iova)), ("size", n(length))]
        };
        let tail = if flags == n(1_u32) { self.bitmap() } else { Vec::new() };
        let fields = [("flags", flags), range[0], range[1]];
        Some(ioctl_tailed(file, "VFIO_IOMMU_UNMAP_DMA", &fields, tail))
    }

    fn bitmap(&mut self) -> Vec<Item> {
        let size = self.pick(&[8_u64, 8, 16, 0]);
        [n(4096_u32), n(size), Value::Scratch(0)].map(|value| Item::Number(8, value)).to_vec()
    }

    fn dirty_pages(&mut self) -> Option<Step> {
        let file = self.container()?;
        let flags = self.mostly(&[1, 2, 4], 8);
        let (_, iova, length) = self.mapped(file);
        let mut tail = vec![Item::Number(8, n(iova)), Item::Number(8, n(length))];
        tail.extend(self.bitmap());
        Some(ioctl_tailed(file, "VFIO_IOMMU_DIRTY_PAGES", &[("flags", flags)], tail))
    }
}

/// An ioctl with the address of something that is no structure.
fn pointed(file: Slot, name: &'static str, item: Item) -> Step {
    let command = Command::named(name).unwrap_or(Command::Number(0));
    let argument = Argument::Memory { place: Place::Page, fields: Vec::new(), tail: vec![item] };
    plain(Call::Ioctl { file, request: Request { command, argument } })
}
