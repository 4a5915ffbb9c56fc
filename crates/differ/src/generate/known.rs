//! What a generator knows of the system: what is open, which objects there are, what is mapped.

use fastrand::Rng;

use crate::outcome::Outcome;
use crate::sequence::{Argument, Call, Node, Request, Slot, Step, Value};

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Iommufd,
    Device,
    Group,
    Container,
    FaultQueue,
    DmaBuf,
    Event,
    Memfd,
    Region,
}

/// What an id of a context names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObjectKind {
    Ioas,
    Device,
    Hwpt,
    FaultQueue,
}

/// An object of a context.
#[derive(Clone, Copy, Debug)]
pub(super) struct Object {
    pub(super) context: Slot,
    pub(super) id: u32,
    pub(super) kind: ObjectKind,
}

/// Something mapped; not forgotten when it is unmapped, so that it is asked for again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) file: Slot,
    /// 0 in a container.
    pub(super) ioas: u32,
    pub(super) iova: u64,
    pub(super) length: u64,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    files: Vec<(Slot, Kind)>,
    objects: Vec<Object>,
    areas: Vec<Area>,
}

impl Known {
    pub(super) fn any(&self, kind: Kind) -> bool {
        self.files.iter().any(|(_, other)| *other == kind)
    }

    pub(super) fn holds(&self, slot: Slot) -> bool {
        self.files.iter().any(|(other, _)| *other == slot)
    }

    pub(super) fn one_of(&self, kind: Kind, rng: &mut Rng) -> Option<Slot> {
        let files = self.files.iter().filter(|(_, other)| *other == kind);
        rng.choice(files.collect::<Vec<_>>()).map(|(slot, _)| *slot)
    }

    pub(super) fn anything(&self, rng: &mut Rng) -> Option<Slot> {
        rng.choice(&self.files).map(|(slot, _)| *slot)
    }

    pub(super) fn object(&self, context: Slot, kind: ObjectKind, rng: &mut Rng) -> Option<u32> {
        let objects = self.objects.iter().filter(|it| it.context == context && it.kind == kind);
        rng.choice(objects.collect::<Vec<_>>()).map(|object| object.id)
    }

    pub(super) fn any_object(&self, context: Slot, rng: &mut Rng) -> Option<u32> {
        let objects = self.objects.iter().filter(|object| object.context == context);
        rng.choice(objects.collect::<Vec<_>>()).map(|object| object.id)
    }

    pub(super) fn area(&self, file: Slot, rng: &mut Rng) -> Option<Area> {
        let areas = self.areas.iter().filter(|area| area.file == file);
        rng.choice(areas.collect::<Vec<_>>()).copied()
    }

    /// Learns from a step that succeeded; `argument` is an ioctl's, after it.
    pub(super) fn learn(&mut self, step: &Step, outcome: &Outcome, argument: &[u8]) {
        if outcome.answer.is_err() {
            return;
        }
        if let Call::Close(slot) = step.call {
            self.forget(slot);
        }
        if let Some((into, kind)) = step.into.zip(self.opened(step)) {
            self.forget(into);
            self.files.push((into, kind));
        }
        if let Call::Ioctl { file, request } = &step.call {
            self.learn_ioctl(*file, request, argument);
        }
    }

    fn forget(&mut self, slot: Slot) {
        self.files.retain(|(other, _)| *other != slot);
        self.objects.retain(|object| object.context != slot);
        self.areas.retain(|area| area.file != slot);
    }

    fn opened(&self, step: &Step) -> Option<Kind> {
        Some(match &step.call {
            Call::Open { node, .. } => match node {
                Node::Iommufd => Kind::Iommufd,
                Node::Container => Kind::Container,
                Node::Device(_) => Kind::Device,
                Node::Group(_) => Kind::Group,
            },
            Call::Event => Kind::Event,
            Call::Memfd { .. } => Kind::Memfd,
            Call::Map { .. } => Kind::Region,
            Call::Dup(of) => self.files.iter().find(|(slot, _)| slot == of)?.1,
            Call::Ioctl { request, .. } => match request.command.name() {
                "VFIO_GROUP_GET_DEVICE_FD" => Kind::Device,
                "VFIO_DEVICE_FEATURE" => Kind::DmaBuf,
                "IOMMU_FAULT_QUEUE_ALLOC" => Kind::FaultQueue,
                _ => return None,
            },
            _ => return None,
        })
    }

    fn learn_ioctl(&mut self, file: Slot, request: &Request, argument: &[u8]) {
        let word = |offset: usize| argument.get(offset..offset + 4)?.try_into().ok().map(u32::from_ne_bytes);
        let wide = |offset: usize| argument.get(offset..offset + 8)?.try_into().ok().map(u64::from_ne_bytes);
        let mut object = |context, offset, kind| {
            if let Some(id) = word(offset)
                && !self.objects.iter().any(|it| it.context == context && it.id == id)
            {
                self.objects.push(Object { context, id, kind });
            }
        };
        match request.command.name() {
            "IOMMU_IOAS_ALLOC" => object(file, 8, ObjectKind::Ioas),
            "IOMMU_HWPT_ALLOC" => object(file, 16, ObjectKind::Hwpt),
            "IOMMU_FAULT_QUEUE_ALLOC" => object(file, 8, ObjectKind::FaultQueue),
            "VFIO_DEVICE_BIND_IOMMUFD" => {
                if let Some(context) = descriptor(request, "iommufd") {
                    object(context, 12, ObjectKind::Device);
                }
            }
            "VFIO_DEVICE_ATTACH_IOMMUFD_PT" => {
                // The context is not named here; ids are the same small numbers in all of them.
                let mut contexts =
                    self.files.iter().filter(|(_, kind)| *kind == Kind::Iommufd).map(|(slot, _)| *slot);
                if let (Some(context), Some(id)) = (contexts.next_back(), word(8)) {
                    self.objects.push(Object { context, id, kind: ObjectKind::Hwpt });
                }
            }
            "IOMMU_DESTROY" => {
                if let Some(id) = word(4) {
                    self.objects.retain(|object| object.context != file || object.id != id);
                }
            }
            "IOMMU_IOAS_MAP" | "IOMMU_IOAS_MAP_FILE" => {
                if let (Some(ioas), Some(length), Some(iova)) = (word(8), wide(24), wide(32)) {
                    self.areas.push(Area { file, ioas, iova, length });
                }
            }
            "VFIO_IOMMU_MAP_DMA" => {
                if let (Some(iova), Some(length)) = (wide(16), wide(24)) {
                    self.areas.push(Area { file, ioas: 0, iova, length });
                }
            }
            _ => {}
        }
    }
}

fn descriptor(request: &Request, field: &str) -> Option<Slot> {
    let Argument::Memory { fields, .. } = &request.argument else { return None };
    fields.iter().find_map(|(name, value)| match value {
        Value::Descriptor(slot) if *name == field => Some(*slot),
        _ => None,
    })
}
