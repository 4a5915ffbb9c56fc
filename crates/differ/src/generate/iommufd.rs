//! Calls on a context of `/dev/iommu`.

use super::known::{Kind, ObjectKind};
use super::{Draw, Generator, into, ioctl, n};
use crate::sequence::{Slot, Step, Value};

pub(super) const DRAWS: &[Draw] = &[
    (20, Generator::ioas_alloc),
    (12, Generator::destroy),
    (40, Generator::map),
    (12, Generator::map_file),
    (20, Generator::unmap),
    (14, Generator::copy),
    (20, Generator::get_pa),
    (5, Generator::iova_ranges),
    (4, Generator::allow_iovas),
    (6, Generator::option),
    (3, Generator::vfio_ioas),
    (8, Generator::hwpt_alloc),
    (3, Generator::hardware),
    (3, Generator::dirty),
    (3, Generator::nested),
    (3, Generator::fault_queue),
    (2, Generator::change_process),
];

const FIXED: u64 = 1;
const WRITABLE: u64 = 2;
const READABLE: u64 = 4;

impl Generator {
    /// An object of a kind, or now and then another number.
    fn id(&mut self, context: Slot, kind: ObjectKind) -> Value {
        let id = match self.rng.u8(0..20) {
            0 => None,
            1 => self.known.any_object(context, &mut self.rng),
            _ => self.known.object(context, kind, &mut self.rng),
        };
        n(id.unwrap_or_else(|| self.rng.u32(0..8)))
    }

    fn flags(&mut self) -> u64 {
        match self.rng.u8(0..16) {
            0 => self.rng.u64(0..16),
            1..4 => FIXED | READABLE,
            4..9 => WRITABLE | READABLE,
            _ => FIXED | WRITABLE | READABLE,
        }
    }

    /// A length in bytes: whole pages, mostly.
    pub(super) fn length(&mut self) -> u64 {
        match self.rng.u8(0..12) {
            0 => self.rng.u64(0..0x3000),
            1 => 2 << 20,
            _ => self.rng.u64(1..9) << 12,
        }
    }

    /// An offset in the buffer.
    pub(super) fn offset(&mut self) -> u64 {
        match self.rng.u8(0..12) {
            0 => self.rng.u64(0..0x4000),
            1 => self.rng.u64(0..4) << 20,
            _ => self.rng.u64(0..24) << 12,
        }
    }

    /// An IOVA, from few, so that mappings meet.
    pub(super) fn iova(&mut self) -> u64 {
        match self.rng.u8(0..16) {
            0 => {
                self.pick(&[u64::MAX, u64::MAX - 0xfff, 1 << 39, 1 << 48, 0xfee0_0000, 0xfed0_0000, 1 << 57])
            }
            1 => self.rng.u64(0..0x4000),
            2 => self.rng.u64(0..4) << 21,
            _ => self.rng.u64(0..32) << 12,
        }
    }

    /// The IOVA and length of something that is mapped or was; of a part of it; or of anything.
    pub(super) fn mapped(&mut self, file: Slot) -> (Option<u32>, u64, u64) {
        match self.known.area(file, &mut self.rng).filter(|_| !self.one_in(10)) {
            Some(area) if self.one_in(4) => {
                (Some(area.ioas), area.iova.wrapping_add(self.rng.u64(0..3) << 12), self.length())
            }
            Some(area) => (Some(area.ioas), area.iova, area.length),
            None => (None, self.iova(), self.length()),
        }
    }

    fn mapped_in(&mut self, file: Slot) -> (Value, u64, u64) {
        let (ioas, iova, length) = self.mapped(file);
        let ioas = match ioas {
            Some(ioas) => n(ioas),
            None => self.id(file, ObjectKind::Ioas),
        };
        (ioas, iova, length)
    }

    fn ioas_alloc(&mut self) -> Option<Step> {
        let file = self.of(Kind::Iommufd)?;
        Some(ioctl(file, "IOMMU_IOAS_ALLOC", &[]))
    }

    fn destroy(&mut self) -> Option<Step> {
        let file = self.of(Kind::Iommufd)?;
        let id = self.known.any_object(file, &mut self.rng).unwrap_or_else(|| self.rng.u32(0..10));
        Some(ioctl(file, "IOMMU_DESTROY", &[("id", n(id))]))
    }

    fn map(&mut self) -> Option<Step> {
        let file = self.of(Kind::Iommufd)?;
        let fields = [
            ("flags", n(self.flags())),
            ("ioas_id", self.id(file, ObjectKind::Ioas)),
            ("user_va", Value::Buffer(self.offset())),
            ("length", n(self.length())),
            ("iova", n(self.iova())),
        ];
        Some(ioctl(file, "IOMMU_IOAS_MAP", &fields))
    }

    fn map_file(&mut self) -> Option<Step> {
        let file = self.of(Kind::Iommufd)?;
        let source = if self.one_in(4) { Kind::DmaBuf } else { Kind::Memfd };
        let source = self.of(source)?;
        let fields = [
            ("flags", n(self.flags())),
            ("ioas_id", self.id(file, ObjectKind::Ioas)),
            ("fd", Value::Descriptor(source)),
            ("start", n(self.rng.u64(0..4) << 12)),
            ("length", n(self.length())),
            ("iova", n(self.iova())),
        ];
        Some(ioctl(file, "IOMMU_IOAS_MAP_FILE", &fields))
    }

    fn unmap(&mut self) -> Option<Step> {
        let file = self.of(Kind::Iommufd)?;
        let (ioas, mut iova, mut length) = self.mapped_in(file);
        if self.one_in(10) {
            (iova, length) = (0, u64::MAX);
        }
        Some(ioctl(file, "IOMMU_IOAS_UNMAP", &[("ioas_id", ioas), ("iova", n(iova)), ("length", n(length))]))
    }

    fn copy(&mut self) -> Option<Step> {
        let file = self.of(Kind::Iommufd)?;
        let (source, iova, length) = self.mapped_in(file);
        let fields = [
            ("flags", n(self.flags())),
            ("dst_ioas_id", self.id(file, ObjectKind::Ioas)),
            ("src_ioas_id", source),
            ("length", n(length)),
            ("dst_iova", n(self.iova())),
            ("src_iova", n(iova)),
        ];
        Some(ioctl(file, "IOMMU_IOAS_COPY", &fields))
    }

    fn get_pa(&mut self) -> Option<Step> {
        let file = self.of(Kind::Iommufd)?;
        let (ioas, iova, length) = self.mapped_in(file);
        let fields = [("ioas_id", ioas), ("iova", n(iova)), ("length", n(length))];
        Some(ioctl(file, "IOMMU_IOAS_NOIOMMU_GET_PA", &fields))
    }

    fn iova_ranges(&mut self) -> Option<Step> {
        let file = self.of(Kind::Iommufd)?;
        let fields = [
            ("ioas_id", self.id(file, ObjectKind::Ioas)),
            ("num_iovas", n(self.rng.u64(0..5))),
            ("allowed_iovas", Value::Scratch(0)),
        ];
        Some(ioctl(file, "IOMMU_IOAS_IOVA_RANGES", &fields))
    }

    fn allow_iovas(&mut self) -> Option<Step> {
        let file = self.of(Kind::Iommufd)?;
        let fields = [
            ("ioas_id", self.id(file, ObjectKind::Ioas)),
            ("num_iovas", n(self.rng.u64(0..3))),
            ("allowed_iovas", Value::Scratch(0)),
        ];
        Some(ioctl(file, "IOMMU_IOAS_ALLOW_IOVAS", &fields))
    }

    fn option(&mut self) -> Option<Step> {
        let file = self.of(Kind::Iommufd)?;
        let option = self.rng.u64(0..3);
        let object = if option == 1 { self.id(file, ObjectKind::Ioas) } else { n(0_u32) };
        let fields = [
            ("option_id", n(option)),
            ("op", n(self.rng.u64(0..3))),
            ("object_id", object),
            ("val64", n(self.rng.u64(0..3))),
        ];
        Some(ioctl(file, "IOMMU_OPTION", &fields))
    }

    fn vfio_ioas(&mut self) -> Option<Step> {
        let file = self.of(Kind::Iommufd)?;
        let fields = [("ioas_id", self.id(file, ObjectKind::Ioas)), ("op", n(self.rng.u64(0..4)))];
        Some(ioctl(file, "IOMMU_VFIO_IOAS", &fields))
    }

    fn hwpt_alloc(&mut self) -> Option<Step> {
        let file = self.of(Kind::Iommufd)?;
        let parent = if self.one_in(4) { ObjectKind::Hwpt } else { ObjectKind::Ioas };
        let fields = [
            ("flags", self.mostly(&[0, 0, 0, 1, 2, 4], 32)),
            ("dev_id", self.id(file, ObjectKind::Device)),
            ("pt_id", self.id(file, parent)),
            ("data_type", self.mostly(&[0], 4)),
            ("fault_id", self.id(file, ObjectKind::FaultQueue)),
        ];
        Some(ioctl(file, "IOMMU_HWPT_ALLOC", &fields))
    }

    fn hardware(&mut self) -> Option<Step> {
        let file = self.of(Kind::Iommufd)?;
        let fields = [
            ("dev_id", self.id(file, ObjectKind::Device)),
            ("data_len", self.mostly(&[0, 16, 64], 100)),
            ("data_uptr", Value::Scratch(0)),
        ];
        Some(ioctl(file, "IOMMU_GET_HW_INFO", &fields))
    }

    fn dirty(&mut self) -> Option<Step> {
        let file = self.of(Kind::Iommufd)?;
        let hwpt = self.id(file, ObjectKind::Hwpt);
        if self.rng.bool() {
            let fields = [("flags", self.mostly(&[0, 1], 4)), ("hwpt_id", hwpt)];
            return Some(ioctl(file, "IOMMU_HWPT_SET_DIRTY_TRACKING", &fields));
        }
        let (_, iova, length) = self.mapped(file);
        let fields = [
            ("hwpt_id", hwpt),
            ("flags", self.mostly(&[0, 1], 4)),
            ("iova", n(iova)),
            ("length", n(length)),
            ("page_size", self.mostly(&[4096], 5000)),
            ("data", Value::Scratch(0)),
        ];
        Some(ioctl(file, "IOMMU_HWPT_GET_DIRTY_BITMAP", &fields))
    }

    /// What only hardware with nested translation takes.
    fn nested(&mut self) -> Option<Step> {
        let file = self.of(Kind::Iommufd)?;
        let (device, hwpt) = (self.id(file, ObjectKind::Device), self.id(file, ObjectKind::Hwpt));
        Some(match self.rng.u8(0..5) {
            0 => {
                let fields = [
                    ("hwpt_id", hwpt),
                    ("data_uptr", Value::Scratch(0)),
                    ("data_type", self.mostly(&[0, 1], 4)),
                    ("entry_len", self.mostly(&[0, 16, 24], 64)),
                    ("entry_num", self.mostly(&[0, 1], 4)),
                ];
                ioctl(file, "IOMMU_HWPT_INVALIDATE", &fields)
            }
            1 => {
                let fields = [("type_", self.mostly(&[0, 1, 2], 5)), ("dev_id", device), ("hwpt_id", hwpt)];
                ioctl(file, "IOMMU_VIOMMU_ALLOC", &fields)
            }
            2 => ioctl(file, "IOMMU_VDEVICE_ALLOC", &[("viommu_id", hwpt), ("dev_id", device)]),
            3 => {
                let fields =
                    [("viommu_id", hwpt), ("type_", self.mostly(&[0, 1], 4)), ("veventq_depth", n(4_u32))];
                ioctl(file, "IOMMU_VEVENTQ_ALLOC", &fields)
            }
            _ => {
                let fields =
                    [("viommu_id", hwpt), ("type_", self.mostly(&[0, 1], 4)), ("length", n(4096_u32))];
                ioctl(file, "IOMMU_HW_QUEUE_ALLOC", &fields)
            }
        })
    }

    fn fault_queue(&mut self) -> Option<Step> {
        let file = self.of(Kind::Iommufd)?;
        let slot = self.fresh()?;
        Some(into(slot, ioctl(file, "IOMMU_FAULT_QUEUE_ALLOC", &[])))
    }

    fn change_process(&mut self) -> Option<Step> {
        let file = self.of(Kind::Iommufd)?;
        Some(ioctl(file, "IOMMU_IOAS_CHANGE_PROCESS", &[]))
    }
}
