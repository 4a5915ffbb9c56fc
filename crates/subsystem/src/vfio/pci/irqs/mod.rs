//! Interrupts: `VFIO_DEVICE_SET_IRQS`.
//!
//! One of the line, MSI and MSI-X is enabled at a time ([`line`], [`messages`]); the notices of errors and of requests to
//! give the device back are always there.

mod line;
mod messages;

use uapi::vfio::{
    VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_TYPE_MASK,
    VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_BOOL, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    VFIO_IRQ_SET_DATA_TYPE_MASK, VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_REQ_IRQ_INDEX, VfioIrqSet,
};
use uapi::{Command, Errno};

use zerocopy::{FromBytes, IntoBytes};

use self::line::Line;
use self::messages::Messages;
use super::config::Config;
use super::{Opened, PciDevice};
use crate::ctx::CallCtx;
use crate::host::{Function, Host, IrqKind};
use crate::mem::List;
use crate::rules::{Refusal, vfio as rules};
use crate::vfio::args;

/// The interrupts of an open function.
pub(super) struct Irqs<H: Host> {
    active: Active<H>,
    /// The user has the line disabled in the command register.
    line_disabled: bool,
    error: Option<H::Event>,
    request: Option<H::Event>,
}

/// The kind of interrupt that is enabled.
enum Active<H: Host> {
    None,
    Line(Line<H>),
    Messages(Messages<H>),
}

/// What is asked of one interrupt index.
struct Request {
    action: Action,
    start: u32,
    count: u32,
    data: Data,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Mask,
    Unmask,
    Trigger,
}

/// The data of a request, one value for each vector.
enum Data {
    None,
    Bools(List<u8>),
    Events(List<i32>),
}

impl<H: Host> PciDevice<H> {
    /// `VFIO_DEVICE_SET_IRQS`. If fewer vectors can be had than are asked for, nothing is enabled and their number is
    /// returned.
    pub(super) fn set_irqs(&self, host: &H, ctx: &CallCtx<'_, H>, address: u64) -> Result<u32, Refusal> {
        let argument: VfioIrqSet = args::take(ctx.memory, address, rules::SET_IRQS_ARGSZ)?;
        self.with_opened(|opened| {
            check(&argument, &opened.config)?;
            let data = take_data(host, ctx, address, &argument)?;
            let action = match argument.flags & VFIO_IRQ_SET_ACTION_TYPE_MASK {
                VFIO_IRQ_SET_ACTION_MASK => Action::Mask,
                VFIO_IRQ_SET_ACTION_UNMASK => Action::Unmask,
                VFIO_IRQ_SET_ACTION_TRIGGER => Action::Trigger,
                _ => return Err(rules::SET_IRQS_ACTION),
            };
            let request = Request { action, start: argument.start, count: argument.count, data };
            self.apply(host, ctx, opened, argument.index, &request)
        })
    }

    fn apply(
        &self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        opened: &mut Opened<H>,
        index: u32,
        request: &Request,
    ) -> Result<u32, Refusal> {
        let Opened { irqs, config, .. } = opened;
        match (index, request.action) {
            (VFIO_PCI_INTX_IRQ_INDEX, _) => irqs.set_line(host, ctx, self.function, request),
            (VFIO_PCI_MSI_IRQ_INDEX | VFIO_PCI_MSIX_IRQ_INDEX, Action::Trigger) => {
                let kind = if index == VFIO_PCI_MSI_IRQ_INDEX { IrqKind::Msi } else { IrqKind::MsiX };
                let spec = messages::Spec {
                    function: self.function,
                    kind,
                    capacity: config.vectors(index),
                    dynamic: kind == IrqKind::MsiX && self.options.dynamic_msix,
                };
                irqs.set_messages(host, ctx, spec, request)
            }
            (VFIO_PCI_ERR_IRQ_INDEX, Action::Trigger) => set_notice(host, ctx, &mut irqs.error, request),
            (VFIO_PCI_REQ_IRQ_INDEX, Action::Trigger) => set_notice(host, ctx, &mut irqs.request, request),
            _ => Err(rules::SET_IRQS_ACTION),
        }
    }
}

impl<H: Host> Irqs<H> {
    /// Nothing is enabled.
    pub(super) fn new() -> Self {
        Irqs { active: Active::None, line_disabled: false, error: None, request: None }
    }

    /// Who is asked to give the device back.
    pub(super) fn request_target(&self) -> Option<H::Event> {
        self.request.clone()
    }

    /// Disables whatever is enabled.
    pub(super) fn disable(&mut self, host: &H, function: Function) {
        match &self.active {
            Active::None => {}
            Active::Line(_) => self.disable_line(host, function),
            Active::Messages(messages) => {
                messages.disable(host, function);
                self.active = Active::None;
            }
        }
    }
}

/// The checks that all indices have in common, in the kernel's order.
fn check(argument: &VfioIrqSet, config: &Config) -> Result<(), Refusal> {
    let VfioIrqSet { flags, index, start, count, .. } = *argument;
    if index >= VFIO_PCI_NUM_IRQS {
        return Err(rules::SET_IRQS_INDEX);
    }
    if count >= u32::MAX.saturating_sub(start) {
        return Err(rules::SET_IRQS_WRAPS);
    }
    if flags & !(VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK) != 0 {
        return Err(rules::SET_IRQS_FLAGS);
    }
    let vectors = config.vectors(index);
    if start >= vectors || start.saturating_add(count) > vectors {
        return Err(rules::SET_IRQS_VECTORS);
    }
    let each: usize = match flags & VFIO_IRQ_SET_DATA_TYPE_MASK {
        VFIO_IRQ_SET_DATA_NONE => 0,
        VFIO_IRQ_SET_DATA_BOOL => 1,
        VFIO_IRQ_SET_DATA_EVENTFD => 4,
        _ => return Err(rules::SET_IRQS_DATA_TYPE),
    };
    let room = argument.stated_size().saturating_sub(size_of::<VfioIrqSet>());
    if room < each.saturating_mul(count as usize) {
        return Err(rules::SET_IRQS_DATA_SHORT);
    }
    Ok(())
}

fn take_data<H: Host>(
    host: &H,
    ctx: &CallCtx<'_, H>,
    address: u64,
    argument: &VfioIrqSet,
) -> Result<Data, Refusal> {
    match argument.flags & VFIO_IRQ_SET_DATA_TYPE_MASK {
        VFIO_IRQ_SET_DATA_BOOL => Ok(Data::Bools(take_list(host, ctx, address, argument.count)?)),
        VFIO_IRQ_SET_DATA_EVENTFD => Ok(Data::Events(take_list(host, ctx, address, argument.count)?)),
        _ => Ok(Data::None),
    }
}

/// Takes the values that follow the argument.
fn take_list<H: Host, T: FromBytes + IntoBytes>(
    host: &H,
    ctx: &CallCtx<'_, H>,
    address: u64,
    count: u32,
) -> Result<List<T>, Refusal> {
    let mut list = List::new();
    list.reserve_many(host, count as usize).map_err(|_| rules::NO_MEMORY)?;
    for index in 0..count as usize {
        let offset = size_of::<VfioIrqSet>().saturating_add(index.saturating_mul(size_of::<T>()));
        list.push_reserved(args::take_at(ctx.memory, address, offset)?);
    }
    Ok(list)
}

/// The eventfd behind a descriptor of the caller.
fn find_event<H: Host>(ctx: &CallCtx<'_, H>, fd: i32) -> Result<H::Event, Refusal> {
    ctx.files.event(fd).map_err(|error| match error {
        Errno::EBADF => rules::SET_IRQS_FD_CLOSED,
        _ => rules::SET_IRQS_NOT_EVENTFD,
    })
}

/// Triggers, sets or takes away the target of a notice.
fn set_notice<H: Host>(
    host: &H,
    ctx: &CallCtx<'_, H>,
    target: &mut Option<H::Event>,
    request: &Request,
) -> Result<u32, Refusal> {
    match &request.data {
        Data::None => {
            let event = target.as_ref().ok_or(rules::SET_IRQS_NO_TARGET)?;
            match request.count {
                0 => *target = None,
                _ => host.signal(event),
            }
        }
        Data::Bools(bools) => {
            let trigger = bools.get(0).ok_or(rules::SET_IRQS_NO_COUNT)?;
            if let Some(event) = target.as_ref().filter(|_| *trigger != 0) {
                host.signal(event);
            }
        }
        Data::Events(events) => match *events.get(0).ok_or(rules::SET_IRQS_NO_COUNT)? {
            -1 => *target = None,
            fd if fd < 0 => return Err(rules::SET_IRQS_TARGET),
            fd => *target = Some(find_event(ctx, fd)?),
        },
    }
    Ok(0)
}
