//! Groups: what is isolated from the rest of the system as one, and how programs had devices before device files had nodes.
//!
//! A group is opened by its node, by one at a time, joins a container or an iommufd, and gives out files of its devices
//! then. While it is open, no device of it is bound through its own node, and the other way round.
//!
//! Source: Linux 7.3, `drivers/vfio/group.c` as observed, and `Documentation/driver-api/vfio.rst`.

mod device;

use uapi::vfio::{
    VFIO_GROUP_FLAGS_CONTAINER_SET, VFIO_GROUP_FLAGS_VIABLE, VFIO_GROUP_GET_STATUS, VFIO_GROUP_SET_CONTAINER,
    VfioGroupStatus,
};

use crate::ctx::CallCtx;
use crate::host::{Function, Host, Mutex as _, Node, NodeKind};
use crate::mem::List;
use crate::rules::{Refusal, group as rules, vfio as vfio_rules};
use crate::tables::{Containers, SharedId, Tables};
use crate::vfio::args;
use crate::vfio::container::Member;
use crate::vfio::device::{IommuKind, NODE_MODE};
use crate::vfio::file::FileKind;

pub(crate) use device::read_name;

/// A group that has devices, or whose file is still open.
pub(crate) struct Group<H: Host> {
    /// The minor number of its node, by which the tables find it.
    minor: u32,
    /// The number of the iommu_group behind it.
    number: u32,
    /// What stands between its devices and memory.
    iommu: IommuKind,
    /// The devices that it gives out, by index.
    devices: List<u32>,
    /// How many devices are registered, those included whose driver is being unbound. Without any, the group is gone for
    /// who still has it open.
    registered: u32,
    state: H::Mutex<State>,
}

/// What changes while a group is in use.
pub(super) struct State {
    /// How many hold it open: its file, and each device that it opened through a native container.
    holders: u32,
    joined: Option<SharedId>,
    /// How many of its devices are bound through their own nodes.
    bound: u32,
}

/// Registration.
impl<H: Host> Group<H> {
    /// A group for a function, whose node appears; with an iommu_group of its own if no IOMMU gave the function one.
    pub(crate) fn create(
        host: &H,
        function: Function,
        iommu: IommuKind,
        minor: u32,
    ) -> Result<Self, Refusal> {
        let number = match host.iommu(function) {
            Some(info) => info.group,
            None => host.iommu_group_add(function).map_err(|_| vfio_rules::PROBE_NODE)?,
        };
        let state = H::Mutex::new(State { holders: 0, joined: None, bound: 0 });
        let group = Group { minor, number, iommu, devices: List::new(), registered: 0, state };
        if host.node_add(group.node()).is_err() {
            group.leave_iommu_group(host, function);
            return Err(vfio_rules::PROBE_NODE);
        }
        Ok(group)
    }

    fn node(&self) -> Node {
        let Group { minor, number, iommu, .. } = *self;
        let noiommu = iommu == IommuKind::None;
        Node { kind: NodeKind::Group { minor, group: number, noiommu }, mode: NODE_MODE }
    }

    /// What a container that it joins knows of it.
    fn member(&self) -> Member {
        let Group { minor, number, iommu, .. } = *self;
        Member { minor, number, iommu }
    }

    fn leave_iommu_group(&self, host: &H, function: Function) {
        if self.iommu != IommuKind::Hardware {
            host.iommu_group_remove(function, self.number);
        }
    }

    /// The number of the iommu_group behind it.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Whether a device that is registered in this iommu_group joins it. One that has lost its last device is no group any
    /// more, though its file may be open yet.
    pub(crate) fn takes(&self, number: u32) -> bool {
        self.number == number && self.registered > 0
    }

    /// Adds a device.
    pub(crate) fn register(&mut self, host: &H, index: u32) -> Result<(), Refusal> {
        self.devices.push(host, index).map_err(|_| vfio_rules::NO_MEMORY)?;
        self.registered = self.registered.saturating_add(1);
        Ok(())
    }

    /// The driver lets go of a device, which is given out no more.
    pub(crate) fn withhold(&mut self, index: u32) {
        if let Some(at) = self.devices.iter().position(|other| *other == index) {
            self.devices.remove(at);
        }
    }

    /// Forgets a device. With the last one the node goes, and the group leaves the container that it is in, which is to be
    /// put then; an iommufd is left with the file only.
    pub(crate) fn unregister(
        &mut self,
        host: &H,
        containers: &Containers<H>,
        function: Function,
    ) -> Option<SharedId> {
        self.leave_iommu_group(host, function);
        self.registered = self.registered.saturating_sub(1);
        if self.registered > 0 {
            return None;
        }
        host.node_remove(self.node());
        self.state.with(|state| match state.joined {
            Some(SharedId::Container(_)) => self.leave(host, containers, state),
            Some(SharedId::Context(_)) | None => None,
        })
    }

    /// Whether nobody knows of it any more.
    pub(crate) fn is_over(&self) -> bool {
        self.registered == 0 && self.state.with(|state| state.holders == 0)
    }
}

/// The file of a group, and what it excludes.
impl<H: Host> Group<H> {
    /// Opens the node.
    pub(crate) fn open(&self, privileged: bool) -> Result<(), Refusal> {
        if self.registered == 0 {
            return Err(rules::GROUP_GONE);
        }
        if self.iommu == IommuKind::None && !privileged {
            return Err(rules::GROUP_CAPABILITY);
        }
        self.state.with(|state| {
            if state.bound > 0 {
                return Err(rules::GROUP_DEVICE_BOUND);
            }
            if state.holders > 0 {
                return Err(rules::GROUP_OPEN);
            }
            state.holders = 1;
            Ok(())
        })
    }

    /// The file is closed. What the group had joined is to be put if nobody else holds the group open.
    pub(crate) fn close(&self, host: &H, containers: &Containers<H>) -> Option<SharedId> {
        self.state.with(|state| self.put(host, containers, state))
    }

    /// A device is about to be bound through its own node.
    pub(super) fn block(&self) -> Result<(), Refusal> {
        self.state.with(|state| {
            if state.holders > 0 {
                return Err(vfio_rules::BIND_GROUP_OPEN);
            }
            state.bound = state.bound.saturating_add(1);
            Ok(())
        })
    }

    /// It is bound no more.
    pub(super) fn unblock(&self) {
        self.state.with(|state| state.bound = state.bound.saturating_sub(1));
    }

    /// Who holds the group open lets go. With the last one it leaves what it has joined, which is to be put then.
    fn put(&self, host: &H, containers: &Containers<H>, state: &mut State) -> Option<SharedId> {
        state.holders = state.holders.saturating_sub(1);
        if state.holders == 0 { self.leave(host, containers, state) } else { None }
    }

    /// Leaves what it has joined.
    fn leave(&self, host: &H, containers: &Containers<H>, state: &mut State) -> Option<SharedId> {
        let left = state.joined.take();
        if let Some(SharedId::Container(number)) = left
            && let Some(shared) = containers.get(number)
        {
            shared.object.detach(host, self.minor);
        }
        left
    }
}

/// Commands.
impl<H: Host> Group<H> {
    /// An ioctl on the file of a group, but for those that open or put what the tables hold: [`Group::unset_container`]
    /// and [`open_device`].
    pub(crate) fn ioctl(
        &self,
        tables: &Tables<H>,
        host: &H,
        ctx: &CallCtx<'_, H>,
        command: u32,
        argument: u64,
    ) -> Result<u32, Refusal> {
        match command {
            VFIO_GROUP_GET_STATUS => self.get_status(host, ctx, argument),
            VFIO_GROUP_SET_CONTAINER => self.set_container(tables, host, ctx, argument),
            _ => Err(rules::GROUP_COMMAND),
        }
    }

    fn get_status(&self, host: &H, ctx: &CallCtx<'_, H>, address: u64) -> Result<u32, Refusal> {
        let mut status: VfioGroupStatus = args::take(ctx.memory, address, rules::STATUS_ARGSZ)?;
        if self.registered == 0 {
            return Err(rules::GROUP_GONE);
        }
        status.flags = match self.state.with(|state| state.joined) {
            Some(_) => VFIO_GROUP_FLAGS_CONTAINER_SET | VFIO_GROUP_FLAGS_VIABLE,
            None if self.iommu == IommuKind::Hardware && host.dma_claimed(self.number) => 0,
            None => VFIO_GROUP_FLAGS_VIABLE,
        };
        args::reply(ctx.memory, address, &status, size_of::<VfioGroupStatus>())?;
        Ok(0)
    }

    fn set_container(
        &self,
        tables: &Tables<H>,
        host: &H,
        ctx: &CallCtx<'_, H>,
        address: u64,
    ) -> Result<u32, Refusal> {
        let fd: i32 = args::take_at(ctx.memory, address, 0)?;
        let file = ctx.files.ours(fd).map_err(|_| rules::SET_CONTAINER_FD_CLOSED)?;
        self.state.with(|state| {
            if state.joined.is_some() {
                return Err(rules::SET_CONTAINER_JOINED);
            }
            if self.registered == 0 {
                return Err(rules::GROUP_GONE);
            }
            let file = file.ok_or(rules::SET_CONTAINER_OTHER)?;
            let joined = match tables.file(file).map_err(|_| rules::SET_CONTAINER_FD_CLOSED)?.kind {
                FileKind::Container(number) => {
                    let shared = tables.container(number)?;
                    shared.object.attach(host, ctx, tables.modules(), self.member())?;
                    shared.hold();
                    SharedId::Container(number)
                }
                FileKind::Iommufd(number) => {
                    let shared = tables.context(number)?;
                    shared.object.join(host, self.iommu == IommuKind::None)?;
                    shared.hold();
                    SharedId::Context(number)
                }
                FileKind::Device(_)
                | FileKind::Group(_)
                | FileKind::DmaBuf(_)
                | FileKind::TestAccess { .. }
                | FileKind::Queue { .. } => {
                    return Err(rules::SET_CONTAINER_OTHER);
                }
            };
            state.joined = Some(joined);
            Ok(0)
        })
    }

    /// `VFIO_GROUP_UNSET_CONTAINER`: what was left, and is to be put.
    pub(crate) fn unset_container(
        &self,
        host: &H,
        containers: &Containers<H>,
    ) -> Result<Option<SharedId>, Refusal> {
        self.state.with(|state| match state.joined {
            None => Err(rules::UNSET_CONTAINER_NONE),
            // The file of the group is one holder.
            Some(SharedId::Container(_)) if state.holders > 1 => Err(rules::UNSET_CONTAINER_BUSY),
            Some(_) => Ok(self.leave(host, containers, state)),
        })
    }
}
