//! `VFIO_DEVICE_FEATURE`.

use uapi::vfio::{
    VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
    VFIO_DEVICE_FEATURE_MASK, VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 as MIG_PRECOPY,
    VFIO_DEVICE_FEATURE_PROBE, VFIO_DEVICE_FEATURE_SET, VfioDeviceFeature,
};

use super::PciDevice;
use crate::ctx::CallCtx;
use crate::host::{Host, RwLock as _};
use crate::rules::{Refusal, vfio as rules};
use crate::vfio::args;

impl<H: Host> PciDevice<H> {
    /// `VFIO_DEVICE_FEATURE`: low power without notice of waking up is the one feature of these devices.
    pub(super) fn feature(&self, host: &H, ctx: &CallCtx<'_, H>, address: u64) -> Result<u32, Refusal> {
        const ACTIONS: u32 = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET;
        let argument: VfioDeviceFeature = args::take(ctx.memory, address, rules::FEATURE_ARGSZ)?;
        if argument.flags & !(VFIO_DEVICE_FEATURE_MASK | ACTIONS | VFIO_DEVICE_FEATURE_PROBE) != 0 {
            return Err(rules::FEATURE_FLAGS);
        }
        let probe = argument.flags & VFIO_DEVICE_FEATURE_PROBE != 0;
        if argument.flags & ACTIONS == ACTIONS && !probe {
            return Err(rules::FEATURE_GET_SET);
        }
        match argument.flags & VFIO_DEVICE_FEATURE_MASK {
            VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY => self.set_low_power(host, &argument, true),
            VFIO_DEVICE_FEATURE_LOW_POWER_EXIT => self.set_low_power(host, &argument, false),
            MIG_PRECOPY => Err(rules::FEATURE_PRECOPY),
            _ => Err(rules::FEATURE_UNKNOWN),
        }
    }

    /// Low power is allowed, or no longer; while it is, memory does not answer. The function itself stays powered: a
    /// platform is free to do nothing.
    fn set_low_power(&self, host: &H, argument: &VfioDeviceFeature, on: bool) -> Result<u32, Refusal> {
        if argument.flags & VFIO_DEVICE_FEATURE_GET != 0 {
            return Err(rules::FEATURE_DIRECTION);
        }
        if argument.flags & VFIO_DEVICE_FEATURE_PROBE != 0 {
            return Ok(0);
        }
        if argument.flags & VFIO_DEVICE_FEATURE_SET == 0 {
            return Err(rules::FEATURE_NO_ACTION);
        }
        self.memory.write(|memory| {
            if on && memory.low_power {
                return Err(rules::FEATURE_LOW_POWER);
            }
            memory.low_power = on;
            host.regions_enable(self.function, memory.answers());
            Ok(0)
        })
    }
}
