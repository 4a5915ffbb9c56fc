//! Device files: binding to an iommufd context, attaching to a page table, and closing.

use core::mem::offset_of;

use uapi::Command;
use uapi::vfio::{
    VFIO_DEVICE_ATTACH_IOMMUFD_PT, VFIO_DEVICE_ATTACH_PASID, VFIO_DEVICE_BIND_FLAG_TOKEN,
    VFIO_DEVICE_BIND_IOMMUFD, VFIO_DEVICE_DETACH_IOMMUFD_PT, VFIO_DEVICE_DETACH_PASID,
    VfioDeviceAttachIommufdPt, VfioDeviceBindIommufd, VfioDeviceDetachIommufdPt,
};

use super::args;
use super::device::Device;
use super::file::{DeviceFile, FileKind};
use super::set::{Attachment, Binding};
use crate::ctx::CallCtx;
use crate::host::{Host, Level};
use crate::rules::{Refusal, vfio as rules};
use crate::tables::{SharedContext, Tables};

/// PASIDs are below this.
const PASIDS: u32 = 1 << 31;

/// An ioctl on a device file.
pub(crate) fn ioctl<H: Host>(
    tables: &Tables<H>,
    host: &H,
    ctx: &CallCtx<'_, H>,
    file: &DeviceFile,
    command: u32,
    argument: u64,
) -> Result<u32, Refusal> {
    let device = tables.device(file.device)?;
    if command == VFIO_DEVICE_BIND_IOMMUFD {
        return bind(tables, device, host, ctx, file, argument);
    }
    if !file.granted() {
        return Err(rules::NOT_BOUND);
    }
    match command {
        VFIO_DEVICE_ATTACH_IOMMUFD_PT => attach(tables, device, host, ctx, argument),
        VFIO_DEVICE_DETACH_IOMMUFD_PT => detach(tables, device, host, ctx, argument),
        _ => device.pci.ioctl(host, ctx, command, argument),
    }
}

fn bind<H: Host>(
    tables: &Tables<H>,
    device: &Device<H>,
    host: &H,
    ctx: &CallCtx<'_, H>,
    file: &DeviceFile,
    address: u64,
) -> Result<u32, Refusal> {
    let argument: VfioDeviceBindIommufd =
        args::take_extensible(ctx.memory, address, rules::BIND_ARGSZ, rules::BIND_TAIL)?;
    if argument.iommufd < 0 {
        return Err(rules::BIND_FD_NEGATIVE);
    }
    if argument.flags & !VFIO_DEVICE_BIND_FLAG_TOKEN != 0 {
        return Err(rules::BIND_FLAGS);
    }
    device.set.with(|binding| {
        if file.granted() {
            return Err(rules::BIND_ALREADY_BOUND);
        }
        check_token(device, host, ctx, &argument)?;
        let (number, shared) = find_context(tables, ctx, argument.iommufd)?;
        if binding.is_some() {
            return Err(rules::BIND_DEVICE_OPEN);
        }
        let object = shared.context.bind(host, device.identity.function, device.identity.noiommu)?;
        let opened = device.pci.open(host).and_then(|()| {
            let reply = args::reply_at(
                ctx.memory,
                address,
                offset_of!(VfioDeviceBindIommufd, out_devid),
                &object.id(),
            );
            reply.inspect_err(|_| device.pci.close(host))
        });
        opened.inspect_err(|_| shared.context.unbind(host, object))?;
        shared.hold();
        *binding = Some(Binding { context: number, object, attachment: Attachment::None });
        file.grant();
        Ok(0)
    })
}

/// Checks the VF token: no function here is part of SR-IOV, so none may be given.
fn check_token<H: Host>(
    device: &Device<H>,
    host: &H,
    ctx: &CallCtx<'_, H>,
    argument: &VfioDeviceBindIommufd,
) -> Result<(), Refusal> {
    if argument.flags & VFIO_DEVICE_BIND_FLAG_TOKEN == 0 {
        return Ok(());
    }
    let mut token = [0; 16];
    ctx.memory.read(argument.token_uuid_ptr, &mut token).map_err(|_| rules::BIND_TOKEN_FAULT)?;
    let line = format_args!("VF token incorrectly provided, not a PF or VF");
    host.log(Level::Info, Some(device.identity.function), line);
    Err(rules::BIND_TOKEN)
}

/// The context that a descriptor of the caller stands for, and its number.
fn find_context<'a, H: Host>(
    tables: &'a Tables<H>,
    ctx: &CallCtx<'_, H>,
    fd: i32,
) -> Result<(u32, &'a SharedContext<H>), Refusal> {
    let file = ctx.files.ours(fd).map_err(|_| rules::BIND_FD_CLOSED)?.ok_or(rules::BIND_NOT_IOMMUFD)?;
    match tables.file(file).map_err(|_| rules::BIND_FD_CLOSED)?.kind {
        FileKind::Iommufd(number) => Ok((number, tables.context(number)?)),
        FileKind::Device(_) => Err(rules::BIND_NOT_IOMMUFD),
    }
}

fn attach<H: Host>(
    tables: &Tables<H>,
    device: &Device<H>,
    host: &H,
    ctx: &CallCtx<'_, H>,
    address: u64,
) -> Result<u32, Refusal> {
    let mut argument: VfioDeviceAttachIommufdPt = args::take(ctx.memory, address, rules::ATTACH_ARGSZ)?;
    if argument.flags & !VFIO_DEVICE_ATTACH_PASID != 0 {
        return Err(rules::ATTACH_FLAGS);
    }
    let by_pasid = argument.flags & VFIO_DEVICE_ATTACH_PASID != 0;
    if by_pasid {
        if argument.stated_size() < size_of::<VfioDeviceAttachIommufdPt>() {
            return Err(rules::ATTACH_ARGSZ);
        }
        argument = args::head(ctx.memory, address, size_of::<VfioDeviceAttachIommufdPt>())?;
    }
    with_binding(tables, device, |shared, binding| {
        let form = if by_pasid { Attachment::PasidZero } else { Attachment::Plain };
        check_slot(shared, binding, form, &argument)?;
        let table = shared.context.attach(host, binding.object, argument.pt_id)?;
        binding.attachment = form;
        let reply = args::reply_at(ctx.memory, address, offset_of!(VfioDeviceAttachIommufdPt, pt_id), &table);
        // What cannot be told is undone, in the plain form even where something else was attached before.
        reply.inspect_err(|_| detach_form(shared, host, binding, Attachment::Plain))?;
        Ok(0)
    })
}

/// Checks that the one slot for a page table can be taken, or replaced, by this form of ATTACH.
fn check_slot<H: Host>(
    shared: &SharedContext<H>,
    binding: &Binding,
    form: Attachment,
    argument: &VfioDeviceAttachIommufdPt,
) -> Result<(), Refusal> {
    let pasid = if form == Attachment::PasidZero { argument.pasid } else { 0 };
    if pasid >= PASIDS {
        return Err(rules::ATTACH_PASID_RANGE);
    }
    if pasid != 0 {
        shared.context.page_table(argument.pt_id)?;
        return Err(rules::ATTACH_PASID);
    }
    if binding.attachment != Attachment::None && binding.attachment != form {
        shared.context.page_table(argument.pt_id)?;
        return Err(rules::ATTACH_BUSY);
    }
    Ok(())
}

fn detach<H: Host>(
    tables: &Tables<H>,
    device: &Device<H>,
    host: &H,
    ctx: &CallCtx<'_, H>,
    address: u64,
) -> Result<u32, Refusal> {
    let mut argument: VfioDeviceDetachIommufdPt = args::take(ctx.memory, address, rules::DETACH_ARGSZ)?;
    if argument.flags & !VFIO_DEVICE_DETACH_PASID != 0 {
        return Err(rules::DETACH_FLAGS);
    }
    let by_pasid = argument.flags & VFIO_DEVICE_DETACH_PASID != 0;
    if by_pasid {
        if argument.stated_size() < size_of::<VfioDeviceDetachIommufdPt>() {
            return Err(rules::DETACH_ARGSZ);
        }
        argument = args::head(ctx.memory, address, size_of::<VfioDeviceDetachIommufdPt>())?;
    }
    with_binding(tables, device, |shared, binding| {
        match (by_pasid, argument.pasid) {
            (false, _) => detach_form(shared, host, binding, Attachment::Plain),
            (true, 0) => detach_form(shared, host, binding, Attachment::PasidZero),
            (true, _) => {}
        }
        Ok(0)
    })
}

/// Detaches the device if it is attached in that form.
fn detach_form<H: Host>(shared: &SharedContext<H>, host: &H, binding: &mut Binding, form: Attachment) {
    if binding.attachment == form {
        shared.context.detach(host, binding.object);
        binding.attachment = Attachment::None;
    }
}

/// Runs `f` under the lock of the device set, with the context that the device is bound to.
fn with_binding<H: Host, R>(
    tables: &Tables<H>,
    device: &Device<H>,
    f: impl FnOnce(&SharedContext<H>, &mut Binding) -> Result<R, Refusal>,
) -> Result<R, Refusal> {
    device.set.with(|binding| {
        let binding = binding.as_mut().ok_or(rules::NOT_BOUND)?;
        f(tables.context(binding.context)?, binding)
    })
}

/// Ends what a file that is being closed was bound for; the context that it no longer holds.
///
/// The device is stopped and reset before its page table is taken away, so that no memory is unpinned that it may still
/// reach.
pub(crate) fn close<H: Host>(tables: &Tables<H>, host: &H, file: &DeviceFile) -> Option<u32> {
    if !file.granted() {
        return None;
    }
    let device = tables.device(file.device).ok()?;
    device.set.with(|slot| {
        let mut binding = slot.take()?;
        device.pci.close(host);
        if let Ok(shared) = tables.context(binding.context) {
            detach_form(shared, host, &mut binding, Attachment::PasidZero);
            detach_form(shared, host, &mut binding, Attachment::Plain);
            shared.context.unbind(host, binding.object);
        }
        Some(binding.context)
    })
}
