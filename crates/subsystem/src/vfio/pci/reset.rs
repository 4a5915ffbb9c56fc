//! Resetting a function, and what is kept across a reset.

use core::sync::atomic::Ordering;

use uapi::Errno;

use super::PciDevice;
use super::config::{Capabilities, Width};
use super::registers::{
    CACHE_LINE, COMMAND, COMMAND_INTX_DISABLE, EXPRESS_CONTROL, EXPRESS_CONTROL_2, POWER_CONTROL, POWER_STATE,
};
use crate::host::{Function, Host, Mutex as _, RwLock as _};
use crate::rules::{Refusal, vfio as rules};

/// Registers that a reset clears and that are brought back afterwards.
#[derive(Clone, Copy)]
pub(super) struct Saved {
    registers: [Option<Register>; 4],
}

#[derive(Clone, Copy)]
struct Register {
    at: u16,
    width: Width,
    value: u32,
}

impl Saved {
    /// What the registers hold now.
    pub(super) fn take<H: Host>(host: &H, function: Function) -> Self {
        let capabilities = Capabilities::find(host, function);
        let save =
            |at: u16, width: Width| Register { at, width, value: host.config_read(function, at, width) };
        let express = |at: u16| capabilities.express.map(|start| save(start.saturating_add(at), 2));
        let second =
            if capabilities.express_second(host, function) { express(EXPRESS_CONTROL_2) } else { None };
        Saved {
            registers: [Some(save(CACHE_LINE, 2)), express(EXPRESS_CONTROL), second, Some(save(COMMAND, 2))],
        }
    }

    /// Brings them back.
    pub(super) fn restore<H: Host>(&self, host: &H, function: Function) {
        for Register { at, width, value } in self.registers.iter().flatten().copied() {
            host.config_write(function, at, width, value);
        }
    }
}

/// Brings a function to the power state D0.
pub(super) fn wake<H: Host>(host: &H, function: Function) {
    if let Some(start) = Capabilities::find(host, function).power {
        let at = start.saturating_add(POWER_CONTROL);
        let control = host.config_read(function, at, 2);
        if control & POWER_STATE != 0 {
            host.config_write(function, at, 2, control & !POWER_STATE);
        }
    }
}

impl<H: Host> PciDevice<H> {
    /// Resets the function, stopped and silent meanwhile; its registers are as before then. EAGAIN while its driver is
    /// being unbound: unbinding holds the lock that a reset would have to take.
    pub(super) fn reset_function(&self, host: &H) -> Result<(), Errno> {
        if !host.can_reset(self.function) {
            return Err(Errno::ENOTTY);
        }
        if self.unbinding {
            return Err(Errno::EAGAIN);
        }
        let saved = Saved::take(host, self.function);
        host.config_write(self.function, COMMAND, 2, COMMAND_INTX_DISABLE);
        let result = host.reset(self.function);
        saved.restore(host, self.function);
        result
    }

    /// The reset at open; whether it worked.
    pub(super) fn reset_at_open(&self, host: &H) -> Result<bool, Refusal> {
        match self.reset_function(host) {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN) => Err(rules::BIND_RESET_BUSY),
            Err(_) => Ok(false),
        }
    }

    /// `VFIO_DEVICE_RESET`
    pub(super) fn reset(&self, host: &H) -> Result<u32, Refusal> {
        self.with_opened(|opened| {
            if !opened.resettable {
                return Err(rules::RESET_IMPOSSIBLE);
            }
            self.set_power_state(host, opened, 0);
            self.reset_revoked(host).map_err(|error| match error {
                Errno::EAGAIN => rules::RESET_BUSY,
                _ => rules::RESET_FAILED,
            })?;
            Ok(0)
        })
    }

    /// Resets the function while no mapping of its BARs answers.
    pub(super) fn reset_revoked(&self, host: &H) -> Result<(), Errno> {
        self.memory.write(|memory| {
            host.regions_enable(self.function, false);
            let result = self.reset_function(host);
            memory.restore_exports();
            host.regions_enable(self.function, memory.answers());
            result
        })
    }

    /// The bus of the function is about to be reset: no mapping answers from now on, and the function is in D0, stopped and
    /// silent.
    pub(crate) fn begin_bus_reset(&self, host: &H) {
        self.wake(host);
        self.opened.with(|slot| match slot {
            Some(opened) => self.set_power_state(host, opened, 0),
            None => wake(host, self.function),
        });
        self.memory.write(|memory| {
            host.regions_enable(self.function, false);
            memory.revoke_exports();
            memory.saved_for_bus = Some(Saved::take(host, self.function));
            host.config_write(self.function, COMMAND, 2, COMMAND_INTX_DISABLE);
        });
    }

    /// The bus was reset, or could not be.
    pub(crate) fn end_bus_reset(&self, host: &H, worked: bool) {
        self.memory.write(|memory| {
            if let Some(saved) = memory.saved_for_bus.take() {
                saved.restore(host, self.function);
            }
            memory.restore_exports();
            host.regions_enable(self.function, memory.answers());
        });
        if worked {
            self.needs_reset.store(false, Ordering::Relaxed);
        }
    }
}
