//! Low power, which the user allows.
//!
//! While it is allowed no mapping of a BAR answers. Where the kernel suspends devices at run time (`CONFIG_PM`), the function sleeps
//! between calls, and each call wakes it up: if an eventfd came with the permission, the first one signals it, and the
//! permission is over. Elsewhere the function stays powered, so that it never wakes up and nobody is told.

use super::PciDevice;
use crate::host::{Host, Mutex as _, RwLock as _};
use crate::rules::{Refusal, vfio as rules};

/// Whether the user has allowed low power.
#[derive(Default)]
pub(super) enum LowPower<E> {
    /// No.
    #[default]
    Off,
    /// Until it is taken back.
    Allowed,
    /// Until the function wakes up, when this is signalled.
    UntilAwake(E),
}

impl<H: Host> PciDevice<H> {
    /// Low power is allowed from now on; with an eventfd, until the function wakes up.
    pub(super) fn enter_low_power(&self, host: &H, wakeup: Option<H::Event>) -> Result<(), Refusal> {
        self.memory.write(|memory| {
            host.regions_enable(self.function, false);
            memory.revoke_exports();
            if !matches!(memory.low_power, LowPower::Off) {
                return Err(rules::FEATURE_LOW_POWER);
            }
            memory.low_power = match wakeup.filter(|_| self.options.runtime_power) {
                Some(event) => LowPower::UntilAwake(event),
                None => LowPower::Allowed,
            };
            Ok(())
        })?;
        if self.options.runtime_power {
            // It is put to sleep from D0, and comes back there.
            self.opened.with(|slot| {
                if let Some(opened) = slot {
                    self.set_power_state(host, opened, 0);
                }
            });
        }
        Ok(())
    }

    /// Low power is no longer allowed.
    pub(super) fn leave_low_power(&self, host: &H) {
        self.memory.write(|memory| {
            memory.low_power = LowPower::Off;
            memory.restore_exports();
            host.regions_enable(self.function, memory.answers());
        });
    }

    /// A call is about to be made on the function: if it sleeps, it wakes up. What was exported stays revoked, as the kernel
    /// leaves it.
    pub(crate) fn wake(&self, host: &H) {
        let sleeps = self.memory.read(|memory| matches!(memory.low_power, LowPower::UntilAwake(_)));
        if !sleeps {
            return;
        }
        self.memory.write(|memory| {
            if let LowPower::UntilAwake(event) = core::mem::take(&mut memory.low_power) {
                host.signal(&event);
            }
            host.regions_enable(self.function, memory.answers());
        });
    }
}
