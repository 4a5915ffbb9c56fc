//! Device files: binding to an iommufd context, attaching to a page table, and closing.

use core::mem::offset_of;

use uapi::Command;
use uapi::vfio::{
    VFIO_DEVICE_ATTACH_IOMMUFD_PT, VFIO_DEVICE_ATTACH_PASID, VFIO_DEVICE_BIND_FLAG_TOKEN,
    VFIO_DEVICE_BIND_IOMMUFD, VFIO_DEVICE_DETACH_IOMMUFD_PT, VFIO_DEVICE_DETACH_PASID,
    VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, VFIO_DEVICE_PCI_HOT_RESET, VfioDeviceAttachIommufdPt,
    VfioDeviceBindIommufd, VfioDeviceDetachIommufdPt,
};

use super::args;
use super::device::{Device, IommuKind};
use super::file::{DeviceFile, FileKind};
use super::group::Group;
use super::hot_reset::{self, Asker};
use super::pci::token::{Token, check_token};
use super::set::{Attachment, Binding, Hold, Opened};
use crate::ctx::CallCtx;
use crate::host::{DmaOwner, Host};
use crate::iommufd::{self, DeviceObject, NO_PASID};
use crate::rules::{Refusal, vfio as rules};
use crate::tables::{SharedContext, SharedId, Tables};

/// PASIDs are below this.
const PASIDS: u32 = 1 << 31;

/// A call on the file of a device.
struct Call<'a, H: Host> {
    tables: &'a Tables<H>,
    device: &'a Device<H>,
    host: &'a H,
    ctx: &'a CallCtx<'a, H>,
    /// Where the argument is.
    address: u64,
}

/// An ioctl on a device file.
pub(crate) fn ioctl<H: Host>(
    tables: &Tables<H>,
    host: &H,
    ctx: &CallCtx<'_, H>,
    file: &DeviceFile,
    command: u32,
    address: u64,
) -> Result<u32, Refusal> {
    let device = tables.device(file.device)?;
    let call = Call { tables, device, host, ctx, address };
    if command == VFIO_DEVICE_BIND_IOMMUFD {
        return call.bind(file);
    }
    if !file.granted() {
        return Err(rules::NOT_BOUND);
    }
    device.driver.wake(host);
    match command {
        VFIO_DEVICE_ATTACH_IOMMUFD_PT if !file.from_group => call.attach(),
        VFIO_DEVICE_DETACH_IOMMUFD_PT if !file.from_group => call.detach(),
        VFIO_DEVICE_GET_PCI_HOT_RESET_INFO if device.pci().is_some() => {
            hot_reset::info(tables, host, ctx, device, call.asker(file)?, address)
        }
        VFIO_DEVICE_PCI_HOT_RESET if device.pci().is_some() => {
            hot_reset::reset(tables, host, ctx, device, call.asker(file)?, address)
        }
        _ => device.driver.ioctl(host, ctx, command, address),
    }
}

impl<'a, H: Host> Call<'a, H> {
    fn bind(&self, file: &DeviceFile) -> Result<u32, Refusal> {
        let Call { device, host, ctx, .. } = *self;
        let argument: VfioDeviceBindIommufd =
            args::take_extensible(ctx.memory, self.address, rules::BIND_ARGSZ, rules::BIND_TAIL)?;
        if argument.iommufd < 0 {
            return Err(rules::BIND_FD_NEGATIVE);
        }
        if argument.flags & !VFIO_DEVICE_BIND_FLAG_TOKEN != 0 {
            return Err(rules::BIND_FLAGS);
        }
        if file.from_group {
            return Err(rules::BIND_GROUP_FILE);
        }
        let group = device.identity.group.and_then(|group| self.tables.group(group));
        group.map_or(Ok(()), Group::block)?;
        let bound = device.set.with(|slot| {
            if file.granted() {
                return Err(rules::BIND_ALREADY_BOUND);
            }
            check_token(self.tables, host, device, self.take_token(&argument)?)?;
            let (number, shared) = self.find_context(argument.iommufd)?;
            if slot.is_some() {
                return Err(rules::BIND_DEVICE_OPEN);
            }
            let object = bind_to(self.tables, host, device, number)?;
            self.open_device(object.id()).inspect_err(|_| shared.object.unbind(host, object))?;
            shared.hold();
            let binding = Binding { context: number, object, attachment: Attachment::None };
            *slot = Some(Opened { files: 1, hold: Hold::Binding(binding) });
            file.grant();
            Ok(0)
        });
        if bound.is_err() {
            group.inspect(|group| group.unblock());
        }
        bound
    }

    /// Takes the VF token, if there is one.
    fn take_token(&self, argument: &VfioDeviceBindIommufd) -> Result<Option<Token>, Refusal> {
        if argument.flags & VFIO_DEVICE_BIND_FLAG_TOKEN == 0 {
            return Ok(None);
        }
        if self.device.pci().is_none() {
            return Err(rules::BIND_TOKEN);
        }
        let mut token = Token::default();
        self.ctx.memory.read(argument.token_uuid_ptr, &mut token).map_err(|_| rules::BIND_TOKEN_FAULT)?;
        Ok(Some(token))
    }

    /// The context that a descriptor of the caller stands for, and its number.
    fn find_context(&self, fd: i32) -> Result<(u32, &'a SharedContext<H>), Refusal> {
        let file =
            self.ctx.files.ours(fd).map_err(|_| rules::BIND_FD_CLOSED)?.ok_or(rules::BIND_NOT_IOMMUFD)?;
        match self.tables.file(file).map_err(|_| rules::BIND_FD_CLOSED)?.kind {
            FileKind::Iommufd(number) => Ok((number, self.tables.context(number)?)),
            _ => Err(rules::BIND_NOT_IOMMUFD),
        }
    }

    /// Opens the device, and tells the caller the identifier of its object. Both or neither.
    fn open_device(&self, id: u32) -> Result<(), Refusal> {
        let Call { tables, device, host, .. } = *self;
        device.open(tables, host)?;
        args::reply_at(self.ctx.memory, self.address, offset_of!(VfioDeviceBindIommufd, out_devid), &id)
            .inspect_err(|_| device.close(tables, host))
    }

    /// By what the caller has other functions.
    fn asker(&self, file: &DeviceFile) -> Result<Asker, Refusal> {
        if file.from_group {
            return Ok(Asker::Group);
        }
        self.with_binding(|_, binding| Ok(Asker::Context(binding.context)))
    }

    fn attach(&self) -> Result<u32, Refusal> {
        let argument: VfioDeviceAttachIommufdPt = self.take(rules::ATTACH_ARGSZ)?;
        if argument.flags & !VFIO_DEVICE_ATTACH_PASID != 0 {
            return Err(rules::ATTACH_FLAGS);
        }
        let pasid = match argument.flags & VFIO_DEVICE_ATTACH_PASID {
            0 => None,
            _ if self.device.pci().is_none() => return Err(rules::ATTACH_NO_PASIDS),
            _ => Some(self.take_pasid(
                &argument,
                offset_of!(VfioDeviceAttachIommufdPt, pasid),
                rules::ATTACH_ARGSZ,
            )?),
        };
        self.with_binding(|shared, binding| {
            let form = check_slot(shared, binding, argument.pt_id, pasid)?;
            let slot = pasid.unwrap_or(NO_PASID);
            let table = shared.object.attach(self.host, binding.object, slot, argument.pt_id)?;
            binding.attachment = form;
            let reply = offset_of!(VfioDeviceAttachIommufdPt, pt_id);
            args::reply_at(self.ctx.memory, self.address, reply, &table)
                // What cannot be told is undone, in the plain form even where something else was attached before.
                .inspect_err(|_| detach_form(shared, self.host, binding, Attachment::Plain))?;
            Ok(0)
        })
    }

    fn detach(&self) -> Result<u32, Refusal> {
        let argument: VfioDeviceDetachIommufdPt = self.take(rules::DETACH_ARGSZ)?;
        if argument.flags & !VFIO_DEVICE_DETACH_PASID != 0 {
            return Err(rules::DETACH_FLAGS);
        }
        let pasid = match argument.flags & VFIO_DEVICE_DETACH_PASID {
            0 => None,
            _ if self.device.pci().is_none() => return Err(rules::DETACH_NO_PASIDS),
            _ => Some(self.take_pasid(
                &argument,
                offset_of!(VfioDeviceDetachIommufdPt, pasid),
                rules::DETACH_ARGSZ,
            )?),
        };
        self.with_binding(|shared, binding| {
            match pasid {
                None => detach_form(shared, self.host, binding, Attachment::Plain),
                Some(NO_PASID) => detach_form(shared, self.host, binding, Attachment::PasidZero),
                Some(pasid) => shared.object.detach(self.host, binding.object, pasid),
            }
            Ok(0)
        })
    }

    /// Takes the argument by rule S1.
    fn take<T: Command>(&self, too_small: Refusal) -> Result<T, Refusal> {
        args::take(self.ctx.memory, self.address, too_small)
    }

    /// Takes the PASID, which ends the argument.
    fn take_pasid<T: Command>(
        &self,
        argument: &T,
        offset: usize,
        too_small: Refusal,
    ) -> Result<u32, Refusal> {
        if argument.stated_size() < size_of::<T>() {
            return Err(too_small);
        }
        args::take_at(self.ctx.memory, self.address, offset)
    }

    /// Runs `f` under the lock of the device set, with the context that the device is bound to.
    fn with_binding<R>(
        &self,
        f: impl FnOnce(&SharedContext<H>, &mut Binding) -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        self.device.set.with(|slot| match slot {
            Some(Opened { hold: Hold::Binding(binding), .. }) => {
                f(self.tables.context(binding.context)?, binding)
            }
            _ => Err(rules::NOT_BOUND),
        })
    }
}

/// Checks that the plain slot for a page table can be taken, or what is in it replaced, by ATTACH with or without a PASID;
/// the form of attachment that it is in then. PASIDs other than 0 have slots of their own.
fn check_slot<H: Host>(
    shared: &SharedContext<H>,
    binding: &Binding,
    pt_id: u32,
    pasid: Option<u32>,
) -> Result<Attachment, Refusal> {
    let form = match pasid {
        None => Attachment::Plain,
        Some(NO_PASID) => Attachment::PasidZero,
        Some(PASIDS..) => return Err(rules::ATTACH_PASID_RANGE),
        Some(_) => return Ok(binding.attachment),
    };
    if binding.attachment != Attachment::None && binding.attachment != form {
        return shared.object.page_table(pt_id).and(Err(rules::ATTACH_BUSY));
    }
    Ok(form)
}

/// Detaches the device if it is attached in that form.
fn detach_form<H: Host>(shared: &SharedContext<H>, host: &H, binding: &mut Binding, form: Attachment) {
    if binding.attachment == form {
        shared.object.detach(host, binding.object, NO_PASID);
        binding.attachment = Attachment::None;
    }
}

/// Ends what a file of a device that is being closed had it open for; what is no longer held is to be put.
///
/// The device is stopped and reset before its page table is taken away, so that no memory is unpinned that it may still
/// reach.
pub(crate) fn close<H: Host>(tables: &Tables<H>, host: &H, file: &DeviceFile) -> Option<SharedId> {
    if !file.granted() {
        return None;
    }
    let device = tables.device(file.device).ok()?;
    let group = device.identity.group.and_then(|group| tables.group(group));
    if file.from_group {
        return group?.close_device(tables, host, device);
    }
    let unbound = device.set.with(|slot| match slot.take()?.hold {
        Hold::Binding(binding) => {
            device.close(tables, host);
            Some(unbind(tables, host, binding))
        }
        Hold::Container(_) | Hold::Nothing => None,
    });
    group.inspect(|group| group.unblock());
    unbound
}

/// Makes an object for a device in a context.
pub(super) fn bind_to<H: Host>(
    tables: &Tables<H>,
    host: &H,
    device: &Device<H>,
    context: u32,
) -> Result<DeviceObject, Refusal> {
    let how = match device.identity.iommu {
        IommuKind::None => iommufd::Binding::Noiommu,
        IommuKind::Emulated => iommufd::Binding::Emulated,
        IommuKind::Hardware => iommufd::Binding::Iommu {
            owner: DmaOwner::Context(context),
            unsafe_interrupts: tables.modules().unsafe_interrupts,
        },
    };
    tables.context(context)?.object.bind(host, device.identity.function, how)
}

/// Takes a device's object out of the context that it is bound to, which is to be put.
pub(super) fn unbind<H: Host>(tables: &Tables<H>, host: &H, binding: Binding) -> SharedId {
    if let Ok(shared) = tables.context(binding.context) {
        shared.object.unbind(host, binding.object);
    }
    SharedId::Context(binding.context)
}
