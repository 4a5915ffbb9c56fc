//! Calls on a device file.

use uapi::vfio::*;

use super::known::{Kind, ObjectKind};
use super::{Draw, Generator, into, ioctl, ioctl_number, ioctl_tailed, n, plain};
use crate::sequence::{Call, Item, Slot, Step, Value};

pub(super) const DRAWS: &[Draw] = &[
    (30, Generator::bind),
    (30, Generator::attach),
    (10, Generator::detach),
    (6, Generator::info),
    (8, Generator::region_info),
    (6, Generator::irq_info),
    (25, Generator::set_irqs),
    (2, Generator::reset),
    (3, Generator::hot_reset_info),
    (3, Generator::hot_reset),
    (10, Generator::feature),
    (4, Generator::ioeventfd),
    (14, Generator::read),
    (10, Generator::write),
    (6, Generator::map_region),
];

/// Where a region begins in a device file.
const fn region(index: u64) -> u64 {
    index << 40
}

impl Generator {
    fn bind(&mut self) -> Option<Step> {
        let (device, context) = (self.of(Kind::Device)?, self.of(Kind::Iommufd)?);
        Some(ioctl(device, "VFIO_DEVICE_BIND_IOMMUFD", &[("iommufd", Value::Descriptor(context))]))
    }

    fn attach(&mut self) -> Option<Step> {
        let (device, context) = (self.of(Kind::Device)?, self.of(Kind::Iommufd)?);
        let kind = if self.one_in(4) { ObjectKind::Hwpt } else { ObjectKind::Ioas };
        let id = self.known.object(context, kind, &mut self.rng).unwrap_or_else(|| self.rng.u32(0..8));
        let mut fields = vec![("pt_id", n(id))];
        if self.one_in(15) {
            fields.extend([("flags", n(1_u32)), ("pasid", n(self.rng.u32(0..3)))]);
        }
        Some(ioctl(device, "VFIO_DEVICE_ATTACH_IOMMUFD_PT", &fields))
    }

    fn detach(&mut self) -> Option<Step> {
        let device = self.of(Kind::Device)?;
        let flags = self.mostly(&[0], 3);
        Some(ioctl(device, "VFIO_DEVICE_DETACH_IOMMUFD_PT", &[("flags", flags)]))
    }

    /// More room behind a structure, for capabilities.
    fn room(&mut self) -> Vec<Item> {
        let words = self.pick(&[0_usize, 0, 2, 4, 16]);
        vec![Item::Number(8, n(0_u32)); words]
    }

    fn info(&mut self) -> Option<Step> {
        let device = self.of(Kind::Device)?;
        Some(ioctl_tailed(device, "VFIO_DEVICE_GET_INFO", &[], self.room()))
    }

    fn region_info(&mut self) -> Option<Step> {
        let device = self.of(Kind::Device)?;
        let index = n(self.rng.u32(0..11));
        Some(ioctl_tailed(device, "VFIO_DEVICE_GET_REGION_INFO", &[("index", index)], self.room()))
    }

    fn irq_info(&mut self) -> Option<Step> {
        let device = self.of(Kind::Device)?;
        Some(ioctl(device, "VFIO_DEVICE_GET_IRQ_INFO", &[("index", n(self.rng.u32(0..7)))]))
    }

    fn set_irqs(&mut self) -> Option<Step> {
        let device = self.of(Kind::Device)?;
        let action = self.pick(&[
            VFIO_IRQ_SET_ACTION_MASK,
            VFIO_IRQ_SET_ACTION_UNMASK,
            VFIO_IRQ_SET_ACTION_TRIGGER,
            VFIO_IRQ_SET_ACTION_TRIGGER,
            VFIO_IRQ_SET_ACTION_TRIGGER,
        ]);
        let data = self.pick(&[
            VFIO_IRQ_SET_DATA_NONE,
            VFIO_IRQ_SET_DATA_BOOL,
            VFIO_IRQ_SET_DATA_EVENTFD,
            VFIO_IRQ_SET_DATA_EVENTFD,
        ]);
        let count = self.pick(&[0_u32, 1, 1, 1, 1, 2, 3]);
        let tail = (0..count)
            .filter_map(|_| match data {
                VFIO_IRQ_SET_DATA_BOOL => Some(Item::Number(1, n(self.rng.u8(0..2)))),
                VFIO_IRQ_SET_DATA_EVENTFD => {
                    let event = self.of(Kind::Event).filter(|_| !self.one_in(6)).unwrap_or(Slot(u8::MAX));
                    Some(Item::Number(4, Value::Descriptor(event)))
                }
                _ => None,
            })
            .collect();
        let fields = [
            ("flags", n(action | data)),
            ("index", n(self.pick(&[0_u32, 0, 1, 1, 1, 2, 3, 4, 5]))),
            ("start", self.mostly(&[0], 4)),
            ("count", n(count)),
        ];
        Some(ioctl_tailed(device, "VFIO_DEVICE_SET_IRQS", &fields, tail))
    }

    fn reset(&mut self) -> Option<Step> {
        let device = self.of(Kind::Device)?;
        Some(ioctl_number(device, "VFIO_DEVICE_RESET", 0))
    }

    fn hot_reset_info(&mut self) -> Option<Step> {
        let device = self.of(Kind::Device)?;
        let room = self.room();
        Some(ioctl_tailed(device, "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", &[], room))
    }

    fn hot_reset(&mut self) -> Option<Step> {
        let device = self.of(Kind::Device)?;
        let count = self.rng.u32(0..3);
        let files = (0..count).filter_map(|_| self.known.anything(&mut self.rng));
        let tail = files.map(|slot| Item::Number(4, Value::Descriptor(slot))).collect();
        Some(ioctl_tailed(device, "VFIO_DEVICE_PCI_HOT_RESET", &[("count", n(count))], tail))
    }

    fn feature(&mut self) -> Option<Step> {
        let device = self.of(Kind::Device)?;
        let feature = self.rng.u32(0..15);
        let operation = self.pick(&[
            VFIO_DEVICE_FEATURE_PROBE,
            VFIO_DEVICE_FEATURE_GET,
            VFIO_DEVICE_FEATURE_SET,
            VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET,
            VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET,
        ]);
        let word = |value| Item::Number(4, value);
        let tail = match feature {
            VFIO_DEVICE_FEATURE_PCI_VF_TOKEN => vec![Item::Number(8, n(1_u32)), Item::Number(8, n(2_u32))],
            VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP => {
                let event = self.of(Kind::Event).unwrap_or(Slot(u8::MAX));
                vec![word(Value::Descriptor(event)), word(n(0_u32))]
            }
            VFIO_DEVICE_FEATURE_DMA_BUF => {
                let ranges = self.pick(&[1_u32, 1, 1, 0, 2]);
                let mut tail = vec![
                    word(self.mostly(&[0], 9)),
                    word(n(0o2_000_002_u32)),
                    word(n(0_u32)),
                    word(n(ranges)),
                ];
                for _ in 0..ranges {
                    tail.extend([
                        Item::Number(8, n(self.rng.u64(0..3) << 12)),
                        Item::Number(8, n(0x1000_u32)),
                    ]);
                }
                tail
            }
            VFIO_DEVICE_FEATURE_BUS_MASTER => vec![word(self.mostly(&[0], 3))],
            _ => self.room(),
        };
        let step = ioctl_tailed(device, "VFIO_DEVICE_FEATURE", &[("flags", n(feature | operation))], tail);
        Some(match feature {
            VFIO_DEVICE_FEATURE_DMA_BUF => into(self.fresh()?, step),
            _ => step,
        })
    }

    fn ioeventfd(&mut self) -> Option<Step> {
        let device = self.of(Kind::Device)?;
        let event = self.of(Kind::Event).unwrap_or(Slot(u8::MAX));
        let offset = match self.rng.u8(0..5) {
            0 => region(self.rng.u64(0..9)) + self.rng.u64(0..0x200),
            _ => region(0) + (self.rng.u64(0..8) << 2),
        };
        let fields = [
            ("flags", self.mostly(&[1, 2, 4, 8, 4], 32)),
            ("offset", n(offset)),
            ("data", n(self.rng.u32(0..4))),
            ("fd", Value::Descriptor(event)),
        ];
        Some(ioctl(device, "VFIO_DEVICE_IOEVENTFD", &fields))
    }

    fn read(&mut self) -> Option<Step> {
        let file = self.of(Kind::Device)?;
        let (offset, length) = match self.rng.u8(0..10) {
            // The identification and nothing that a model may answer in its own way.
            0 => (region(0), 4),
            1 => (region(self.rng.u64(1..12)) + self.rng.u64(0..64), self.rng.u16(0..9)),
            2 => (region(7) + self.rng.u64(0..0x1100), self.rng.u16(0..70)),
            _ => (region(7) + self.rng.u64(0..0x80), self.rng.u16(0..9)),
        };
        Some(plain(Call::Read { file, offset, length }))
    }

    fn write(&mut self) -> Option<Step> {
        let file = self.of(Kind::Device)?;
        let length = self.pick(&[0_usize, 1, 1, 2, 2, 4, 4, 4, 3, 8]);
        let mut bytes: Vec<u8> = (0..length).map(|_| self.rng.u8(..)).collect();
        // What no capability claims, QEMU's devices let software write, and keep. So nothing is written behind the one that
        // `edu` has at 0x40.
        let offset = match self.rng.u8(0..6) {
            0 => region(self.pick(&[6, 8, 9, 10, 11])) + self.rng.u64(0..0x110),
            1 => region(7) + self.rng.u64(0x100..0x1100),
            2 => {
                bytes.fill(0xff);
                region(7) + 0x10 + (self.rng.u64(0..9) << 2)
            }
            _ => region(7) + self.rng.u64(0..0x46),
        };
        // Bus mastering stays off: no device is to do anything.
        let command = region(7) + 4;
        for (at, byte) in (offset..).zip(&mut bytes) {
            if at == command {
                *byte &= !4;
            }
        }
        Some(plain(Call::Write { file, offset, bytes }))
    }

    fn map_region(&mut self) -> Option<Step> {
        let file = self.of(Kind::Device)?;
        let index = self.pick(&[0_u64, 0, 0, 0, 1, 7, 8]);
        let offset = region(index) + self.pick(&[0, 0, 0, 0x1000, 0xf_f000, 0x10_0000]);
        let length = self.pick(&[0x1000_u32, 0x1000, 0x1000, 0x2000, 0x10_0000, 0x10_1000, 0x800]);
        let (writable, shared) = (!self.one_in(6), !self.one_in(8));
        Some(into(self.fresh()?, plain(Call::Map { file, offset, length, writable, shared })))
    }
}
