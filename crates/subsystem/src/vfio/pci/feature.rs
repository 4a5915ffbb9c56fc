//! `VFIO_DEVICE_FEATURE`: what of it these devices have is [`super::low_power`] and [`super::token`]; [`super::dma_buf`] opens files.

use uapi::vfio::{
    VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
    VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
    VFIO_DEVICE_FEATURE_MASK, VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 as MIG_PRECOPY,
    VFIO_DEVICE_FEATURE_PCI_VF_TOKEN, VFIO_DEVICE_FEATURE_PROBE, VFIO_DEVICE_FEATURE_SET, VfioDeviceFeature,
    VfioDeviceLowPowerEntryWithWakeup,
};
use uapi::{Command, Errno};

use super::PciDevice;
use super::token::{Role, Token, Trust};
use crate::ctx::CallCtx;
use crate::host::{Host, Mutex as _};
use crate::rules::{Refusal, vfio as rules};
use crate::vfio::args;

const ACTIONS: u32 = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET;

impl<H: Host> PciDevice<H> {
    /// `VFIO_DEVICE_FEATURE`
    pub(super) fn feature(&self, host: &H, ctx: &CallCtx<'_, H>, address: u64) -> Result<u32, Refusal> {
        let argument = take(ctx, address)?;
        let feature = argument.flags & VFIO_DEVICE_FEATURE_MASK;
        match feature {
            VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY
            | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP
            | VFIO_DEVICE_FEATURE_LOW_POWER_EXIT => {}
            VFIO_DEVICE_FEATURE_PCI_VF_TOKEN if let Role::Physical(trust) = &self.role => {
                return set_token(trust, ctx, address, &argument);
            }
            MIG_PRECOPY => return Err(rules::FEATURE_PRECOPY),
            _ => return Err(rules::FEATURE_UNKNOWN),
        }
        let wakeup = feature == VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP;
        let payload = if wakeup { size_of::<VfioDeviceLowPowerEntryWithWakeup>() } else { 0 };
        if !is_set(&argument, payload)? {
            return Ok(0);
        }
        match feature {
            VFIO_DEVICE_FEATURE_LOW_POWER_EXIT => self.leave_low_power(host),
            _ if wakeup => self.enter_low_power(host, Some(take_wakeup(ctx, address)?))?,
            _ => self.enter_low_power(host, None)?,
        }
        Ok(0)
    }
}

/// Sets the token of a physical function.
fn set_token<H: Host>(
    trust: &H::Mutex<Trust>,
    ctx: &CallCtx<'_, H>,
    address: u64,
    argument: &VfioDeviceFeature,
) -> Result<u32, Refusal> {
    if is_set(argument, size_of::<Token>())? {
        let token = args::take_at(ctx.memory, address, size_of::<VfioDeviceFeature>())?;
        trust.with(|trust| trust.set(token));
    }
    Ok(0)
}

/// Takes the argument, and checks its flags.
pub(in crate::vfio) fn take<H: Host>(
    ctx: &CallCtx<'_, H>,
    address: u64,
) -> Result<VfioDeviceFeature, Refusal> {
    let argument: VfioDeviceFeature = args::take(ctx.memory, address, rules::FEATURE_ARGSZ)?;
    if argument.flags & !(VFIO_DEVICE_FEATURE_MASK | ACTIONS | VFIO_DEVICE_FEATURE_PROBE) != 0 {
        return Err(rules::FEATURE_FLAGS);
    }
    if argument.flags & ACTIONS == ACTIONS && argument.flags & VFIO_DEVICE_FEATURE_PROBE == 0 {
        return Err(rules::FEATURE_GET_SET);
    }
    Ok(argument)
}

/// Whether a feature that can be set is to be set; a probe only asks whether it could be.
fn is_set(argument: &VfioDeviceFeature, payload: usize) -> Result<bool, Refusal> {
    if argument.flags & VFIO_DEVICE_FEATURE_GET != 0 {
        return Err(rules::FEATURE_DIRECTION);
    }
    if argument.flags & VFIO_DEVICE_FEATURE_PROBE != 0 {
        return Ok(false);
    }
    if argument.flags & VFIO_DEVICE_FEATURE_SET == 0 {
        return Err(rules::FEATURE_NO_ACTION);
    }
    if argument.stated_size().saturating_sub(size_of::<VfioDeviceFeature>()) < payload {
        return Err(rules::FEATURE_PAYLOAD);
    }
    Ok(true)
}

/// Takes the eventfd that follows the argument.
fn take_wakeup<H: Host>(ctx: &CallCtx<'_, H>, address: u64) -> Result<H::Event, Refusal> {
    let entry: VfioDeviceLowPowerEntryWithWakeup =
        args::take_at(ctx.memory, address, size_of::<VfioDeviceFeature>())?;
    if entry.wakeup_eventfd < 0 {
        return Err(rules::FEATURE_FD_NEGATIVE);
    }
    ctx.files.event(entry.wakeup_eventfd).map_err(|error| match error {
        Errno::EBADF => rules::FEATURE_FD_CLOSED,
        _ => rules::FEATURE_NOT_EVENTFD,
    })
}
