//! Hot reset: all functions of a bus are reset together, and whoever asks for it must have every one of them.

use uapi::Command;
use uapi::vfio::{
    VFIO_PCI_DEVID_NOT_OWNED, VFIO_PCI_DEVID_OWNED, VFIO_PCI_HOT_RESET_FLAG_DEV_ID,
    VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED, VfioPciDependentDevice, VfioPciHotReset, VfioPciHotResetInfo,
};

use super::args;
use super::device::Device;
use super::file::FileKind;
use super::group::Group;
use super::pci::PciDevice;
use super::set::Hold;
use crate::ctx::CallCtx;
use crate::host::{Function, Host, Place};
use crate::mem::List;
use crate::rules::{Refusal, vfio as rules};
use crate::tables::Tables;

/// By what whoever asks has other functions.
#[derive(Clone, Copy)]
pub(crate) enum Asker {
    /// They are bound to the context of this number.
    Context(u32),
    /// He has the device from its group, and shows the files of all groups.
    Group,
}

/// `VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`
pub(crate) fn info<H: Host>(
    tables: &Tables<H>,
    host: &H,
    ctx: &CallCtx<'_, H>,
    device: &Device<H>,
    asker: Asker,
    address: u64,
) -> Result<u32, Refusal> {
    let mut info: VfioPciHotResetInfo = args::take(ctx.memory, address, rules::HOT_RESET_INFO_ARGSZ)?;
    let function = device.identity.function;
    info.count = affected(host, function)?;
    info.flags = 0;
    let room = info.stated_size().saturating_sub(size_of::<VfioPciHotResetInfo>());
    if room < size_of::<VfioPciDependentDevice>().saturating_mul(info.count as usize) {
        args::reply(ctx.memory, address, &info, size_of::<VfioPciHotResetInfo>())?;
        return Err(rules::HOT_RESET_INFO_SPACE);
    }
    if let Asker::Context(_) = asker {
        info.flags = VFIO_PCI_HOT_RESET_FLAG_DEV_ID | VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;
    }
    let mut at = size_of::<VfioPciHotResetInfo>();
    let mut told = Ok(());
    host.each_on_bus(function, &mut |function| {
        let number = match (asker, tables.device_of(function)) {
            (Asker::Context(context), Some(device)) => Ok(id(tables, device, context)),
            (Asker::Context(_), None) => Ok(VFIO_PCI_DEVID_NOT_OWNED),
            (Asker::Group, device) => {
                let group = device.and_then(|device| tables.group(device.identity.group?));
                let number =
                    group.map(Group::number).or_else(|| host.iommu(function).map(|iommu| iommu.group));
                number.ok_or(rules::HOT_RESET_INFO_GROUPS)
            }
        };
        if number == Ok(VFIO_PCI_DEVID_NOT_OWNED) {
            info.flags &= !VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED;
        }
        let Place { segment, bus, devfn } = host.place(function);
        told = told.and(number).and_then(|devid| {
            let entry = VfioPciDependentDevice { devid, segment, bus, devfn };
            args::reply_at(ctx.memory, address, at, &entry)
        });
        at = at.saturating_add(size_of::<VfioPciDependentDevice>());
    });
    told?;
    args::reply(ctx.memory, address, &info, size_of::<VfioPciHotResetInfo>())?;
    Ok(0)
}

/// `VFIO_DEVICE_PCI_HOT_RESET`. Called while no other call is under way.
pub(crate) fn reset<H: Host>(
    tables: &Tables<H>,
    host: &H,
    ctx: &CallCtx<'_, H>,
    device: &Device<H>,
    asker: Asker,
    address: u64,
) -> Result<u32, Refusal> {
    let argument: VfioPciHotReset = args::take(ctx.memory, address, rules::HOT_RESET_ARGSZ)?;
    if argument.flags != 0 {
        return Err(rules::HOT_RESET_FLAGS);
    }
    match (asker, argument.count) {
        (Asker::Context(_), 1..) => return Err(rules::HOT_RESET_COUNT),
        (Asker::Group, 0) => return Err(rules::HOT_RESET_GROUPS),
        (Asker::Context(_), 0) | (Asker::Group, 1..) => {}
    }
    let function = device.identity.function;
    if argument.count > affected(host, function)? {
        return Err(rules::HOT_RESET_MANY);
    }
    let groups = take_groups(tables, host, ctx, address, argument.count)?;
    let owns = |device: &Device<H>| match asker {
        Asker::Context(context) => id(tables, device, context) != VFIO_PCI_DEVID_NOT_OWNED,
        Asker::Group => groups.iter().any(|group| device.identity.group == Some(*group)),
    };
    let mut checked = Ok(());
    host.each_on_bus(function, &mut |function| {
        checked = checked.and_then(|()| match tables.device_of(function) {
            None => Err(rules::HOT_RESET_FOREIGN),
            Some(device) if owns(device) => Ok(()),
            Some(_) => Err(rules::HOT_RESET_NOT_OWNED),
        });
    });
    checked?;
    reset_bus(tables, host, function)?;
    Ok(0)
}

/// A device was closed. If it could not be reset on its own, its bus is reset now, unless somebody has a device of it
/// open. Called while no other call is under way.
pub(crate) fn after_close<H: Host>(tables: &Tables<H>, host: &H, device: &Device<H>) {
    let (mut unused, mut needed) = (true, false);
    host.each_on_bus(device.identity.function, &mut |function| {
        let pci = tables.device_of(function).and_then(Device::pci);
        unused &= pci.is_some_and(|pci| !pci.is_open());
        needed |= pci.is_some_and(PciDevice::needs_reset);
    });
    if unused && needed {
        // A reset that fails leaves stopped functions behind, and nobody to tell.
        let _ = reset_bus(tables, host, device.identity.function);
    }
}

/// How many functions a reset of the bus of this one resets.
fn affected<H: Host>(host: &H, function: Function) -> Result<u32, Refusal> {
    let mut count: u32 = 0;
    host.each_on_bus(function, &mut |_| count = count.saturating_add(1));
    if count == 0 { Err(rules::HOT_RESET_NONE) } else { Ok(count) }
}

/// The minor numbers of the groups whose files are shown.
fn take_groups<H: Host>(
    tables: &Tables<H>,
    host: &H,
    ctx: &CallCtx<'_, H>,
    address: u64,
    count: u32,
) -> Result<List<u32>, Refusal> {
    let mut groups = List::new();
    groups.reserve_many(host, count as usize).map_err(|_| rules::NO_MEMORY)?;
    for index in 0..count as usize {
        let at = size_of::<VfioPciHotReset>().saturating_add(index.saturating_mul(size_of::<i32>()));
        let fd: i32 = args::take_at(ctx.memory, address, at)?;
        let file = ctx.files.ours(fd).map_err(|_| rules::HOT_RESET_FD_CLOSED)?;
        let file = tables.file(file.ok_or(rules::HOT_RESET_NOT_GROUP)?)?;
        let FileKind::Group(minor) = file.kind else { return Err(rules::HOT_RESET_NOT_GROUP) };
        groups.push_reserved(minor);
    }
    Ok(groups)
}

/// The id by which a context has a device: that of its object; or "owned", if the context has another device of its group,
/// which nobody else can have then; or "not owned".
fn id<H: Host>(tables: &Tables<H>, device: &Device<H>, context: u32) -> u32 {
    let bound = |device: &Device<H>| {
        device.set.with(|opened| match opened.as_ref().map(|opened| &opened.hold) {
            Some(Hold::Binding(binding)) if binding.context == context => Some(binding.object.id()),
            _ => None,
        })
    };
    if let Some(id) = bound(device) {
        return id;
    }
    let group = device.identity.group;
    let mut others = tables.devices().filter(|other| group.is_some() && other.identity.group == group);
    if others.any(|other| bound(other).is_some()) { VFIO_PCI_DEVID_OWNED } else { VFIO_PCI_DEVID_NOT_OWNED }
}

/// Resets a bus, each function of which has a device: no mapping of their BARs answers meanwhile.
fn reset_bus<H: Host>(tables: &Tables<H>, host: &H, function: Function) -> Result<(), Refusal> {
    let functions = |f: &mut dyn FnMut(&PciDevice<H>)| {
        host.each_on_bus(function, &mut |function| {
            tables.device_of(function).and_then(Device::pci).into_iter().for_each(&mut *f);
        });
    };
    functions(&mut |pci| pci.begin_bus_reset(host));
    let result = host.reset_bus(function);
    functions(&mut |pci| pci.end_bus_reset(host, result.is_ok()));
    result.map_err(|_| rules::HOT_RESET_FAILED)
}
