//! Device files that a group gives out.
//!
//! Any number of files has a device open at a time. What the first one took (a device object in the context that the group
//! has joined, or a hold on the group that keeps it in its container) is given back with the last one.

use core::str;

use super::Group;
use crate::ctx::{CallCtx, UserMemory};
use crate::host::{Host, Level, Mutex as _};
use crate::iommufd::NO_PASID;
use crate::mem::List;
use crate::rules::{Refusal, group as rules, vfio as vfio_rules};
use crate::tables::{SharedId, Tables};
use crate::vfio::args;
use crate::vfio::cdev;
use crate::vfio::device::Device;
use crate::vfio::pci::token::{Token, check_token};
use crate::vfio::set::{Attachment, Binding, Hold, Opened};

/// The option that may follow a name.
const TOKEN: &[u8] = b"vf_token=";

/// Reads the name of a device, and the options behind it, from the caller. It ends before a zero, within a page's length.
pub(crate) fn read_name<H: Host>(
    host: &H,
    memory: &dyn UserMemory,
    address: u64,
) -> Result<List<u8>, Refusal> {
    let mut name = List::new();
    for offset in 0..H::PAGE {
        // Byte by byte: what follows the string may not be there.
        match args::take_at::<u8>(memory, address, offset as usize)? {
            0 => return Ok(name),
            byte => name.push(host, byte).map_err(|_| vfio_rules::NO_MEMORY)?,
        }
    }
    Err(rules::DEVICE_FD_NAME)
}

impl<H: Host> Group<H> {
    /// The index of the device that a name, with options, stands for.
    pub(crate) fn find(&self, tables: &Tables<H>, host: &H, name: &[u8]) -> Result<u32, Refusal> {
        for index in self.devices.iter() {
            let device = tables.device(*index)?;
            if matches(tables, host, device, name)? {
                return Ok(*index);
            }
        }
        Err(rules::DEVICE_FD_UNKNOWN)
    }

    /// Opens a device for a file that the group gives out.
    pub(crate) fn open_device(
        &self,
        tables: &Tables<H>,
        host: &H,
        ctx: &CallCtx<'_, H>,
        device: &Device<H>,
    ) -> Result<(), Refusal> {
        self.state.with(|state| {
            let joined = state.joined.ok_or(rules::DEVICE_FD_NOT_JOINED)?;
            device.set.with(|slot| {
                if let Some(opened) = slot {
                    opened.files = opened.files.saturating_add(1);
                    return Ok(());
                }
                let hold = match joined {
                    SharedId::Container(number) => {
                        let container = &tables.container(number)?.object;
                        container.check_use(ctx)?;
                        device.open(tables, host)?;
                        container
                            .open_device(host, &device.identity)
                            .inspect_err(|_| device.close(tables, host))?;
                        state.holders = state.holders.saturating_add(1);
                        Hold::Container(number)
                    }
                    SharedId::Context(number) => open_in_context(tables, host, ctx, device, number)?,
                };
                *slot = Some(Opened { files: 1, hold });
                if device.identity.is_noiommu() {
                    host.domain_attach(device.identity.function, Some(host.unmanaged_domain()));
                }
                Ok(())
            })
        })?;
        if device.identity.is_noiommu() {
            let line = format_args!("vfio-noiommu device opened by user ({})", ctx.thread);
            host.log(Level::Warn, Some(device.identity.function), line);
        }
        Ok(())
    }

    /// A file that the group gave out is closed; what it no longer holds is to be put.
    pub(crate) fn close_device(&self, tables: &Tables<H>, host: &H, device: &Device<H>) -> Option<SharedId> {
        self.state.with(|state| {
            let hold = device.set.with(|slot| {
                let opened = slot.as_mut()?;
                opened.files = opened.files.saturating_sub(1);
                if opened.files > 0 {
                    return None;
                }
                device.close(tables, host);
                if device.identity.is_noiommu() {
                    host.domain_attach(device.identity.function, None);
                }
                slot.take().map(|opened| opened.hold)
            })?;
            match hold {
                Hold::Binding(binding) => Some(cdev::unbind(tables, host, binding)),
                Hold::Container(number) => {
                    if let Ok(shared) = tables.container(number) {
                        shared.object.close_device(host, &device.identity);
                    }
                    self.put(host, tables.containers(), state)
                }
                Hold::Nothing => None,
            }
        })
    }
}

/// Opens a device whose group has joined a context. Without an IOMMU the context is told nothing of it: it has no object
/// there, and reaches no memory that is mapped there.
fn open_in_context<H: Host>(
    tables: &Tables<H>,
    host: &H,
    ctx: &CallCtx<'_, H>,
    device: &Device<H>,
    number: u32,
) -> Result<Hold, Refusal> {
    let shared = tables.context(number)?;
    if device.identity.is_noiommu() {
        if !ctx.caps.sys_rawio {
            return Err(rules::DEVICE_FD_CAPABILITY);
        }
        if shared.object.compat_ioas().is_ok() {
            return Err(rules::DEVICE_FD_IOAS);
        }
        device.open(tables, host)?;
        return Ok(Hold::Nothing);
    }
    let object = cdev::bind_to(tables, host, device, number)?;
    device.open(tables, host).inspect_err(|_| shared.object.unbind(host, object))?;
    let attached =
        shared.object.compat_ioas().and_then(|ioas| shared.object.attach(host, object, NO_PASID, ioas));
    attached.inspect_err(|_| {
        device.close(tables, host);
        shared.object.unbind(host, object);
    })?;
    shared.hold();
    Ok(Hold::Binding(Binding { context: number, object, attachment: Attachment::Plain }))
}

/// Whether a name is that of a device; options that follow it are checked then.
fn matches<H: Host>(tables: &Tables<H>, host: &H, device: &Device<H>, name: &[u8]) -> Result<bool, Refusal> {
    let function = device.identity.function;
    let mut rest = Some(name);
    host.name(function, &mut |part| rest = rest.and_then(|rest| rest.strip_prefix(part.as_bytes())));
    // Only vfio-pci takes options.
    let may_follow = |byte: &u8| *byte == b' ' && device.pci().is_some();
    let Some(options) = rest.filter(|rest| rest.first().is_none_or(may_follow)) else {
        return Ok(false);
    };
    check_token(tables, host, device, parse_options(options)?)?;
    Ok(true)
}

/// The token among the options of a name.
fn parse_options(mut options: &[u8]) -> Result<Option<Token>, Refusal> {
    let mut token = None;
    while let Some((first, rest)) = options.split_first() {
        options = match options.strip_prefix(TOKEN) {
            _ if *first == b' ' => rest,
            Some(text) if token.is_none() => {
                let (uuid, rest) = text.split_at_checked(36).ok_or(rules::DEVICE_FD_UUID)?;
                token = Some(parse_uuid(uuid).ok_or(rules::DEVICE_FD_UUID)?);
                rest
            }
            _ => return Err(rules::DEVICE_FD_OPTION),
        };
    }
    Ok(token)
}

/// A UUID from its 36 characters: digits in hexadecimal, with dashes after the 8th, 12th, 16th and 20th.
fn parse_uuid(text: &[u8]) -> Option<Token> {
    let mut token = [0; 16];
    let mut at = 0;
    for (byte, value) in token.iter_mut().enumerate() {
        if matches!(byte, 4 | 6 | 8 | 10) {
            (*text.get(at)? == b'-').then_some(())?;
            at = at.checked_add(1)?;
        }
        let end = at.checked_add(2)?;
        let digits = text.get(at..end).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        *value = u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        at = end;
    }
    Some(token)
}
