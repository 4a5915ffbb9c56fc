//! vfio-pci: a PCI function behind a device file.
//!
//! The user reaches the real function only as far as [`config`] (configuration space), [`regions`] (BARs, the [`rom`] and [`vga`]) and
//! [`irqs`] (interrupts) let it; [`info`] describes it, and [`reset`] brings it back to a known state.

mod config;
pub(crate) mod dma_buf;
pub(super) mod feature;
mod info;
mod ioeventfd;
mod irqs;
mod low_power;
pub(super) mod regions;
mod registers;
mod reset;
mod rom;
pub(crate) mod token;
mod vga;

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use uapi::vfio::{
    VFIO_DEVICE_FEATURE, VFIO_DEVICE_GET_INFO, VFIO_DEVICE_GET_IRQ_INFO, VFIO_DEVICE_GET_REGION_INFO,
    VFIO_DEVICE_IOEVENTFD, VFIO_DEVICE_RESET, VFIO_DEVICE_SET_IRQS,
};

use self::config::Config;
use self::ioeventfd::Writes;
use self::irqs::Irqs;
use self::regions::MemorySpace;
use self::registers::{
    COMMAND, COMMAND_INTX_DISABLE, COMMAND_IO, COMMAND_MASTER, COMMAND_MEMORY, HEADER_TYPE,
};
use self::reset::Saved;
use self::token::Role;
use crate::ctx::CallCtx;
use crate::host::{Function, Host, Level, Mutex as _, RegionKind, RwLock as _};
use crate::rules::{Refusal, vfio as rules};

/// The header type without the bit that says whether there are more functions.
const HEADER_LAYOUT: u32 = 0x7f;

/// Whether the function has another header than that of an endpoint.
pub(crate) fn is_bridge<H: Host>(host: &H, function: Function) -> bool {
    host.config_read(function, HEADER_TYPE, 1) & HEADER_LAYOUT != 0
}

/// What the kernel and its platform can do with functions.
#[derive(Clone, Copy)]
pub(crate) struct PciOptions {
    /// Add MSI-X vectors while others are enabled.
    pub(crate) dynamic_msix: bool,
    /// Suspend them, and wake them up, while the system runs.
    pub(crate) runtime_power: bool,
    /// Give users the legacy addresses of display adapters.
    pub(crate) vga: bool,
}

/// A PCI function that vfio-pci drives.
pub(crate) struct PciDevice<H: Host> {
    function: Function,
    options: PciOptions,
    pub(crate) role: Role<H>,
    /// Whether the driver is being unbound from the function.
    unbinding: bool,
    /// It was closed, and could not be reset on its own then.
    needs_reset: AtomicBool,
    /// How often it was opened.
    openings: AtomicU32,
    opened: H::Mutex<Option<Opened<H>>>,
    memory: H::RwLock<MemorySpace<H::Event>>,
}

/// What is kept of a function while it is open.
struct Opened<H: Host> {
    /// How often the function was opened before.
    number: u32,
    config: Config,
    irqs: Irqs<H>,
    /// What is written when an eventfd is signalled.
    writes: Writes,
    /// What close restores.
    saved: Saved,
    /// What returning from D3 restores.
    saved_for_power: Option<Saved>,
    /// Whether the reset at open worked.
    resettable: bool,
}

impl<H: Host> PciDevice<H> {
    /// A function that is not open.
    pub(crate) fn new(host: &H, function: Function, options: PciOptions) -> Self {
        PciDevice {
            function,
            options,
            role: Role::of(host, function),
            unbinding: false,
            needs_reset: AtomicBool::new(false),
            openings: AtomicU32::new(0),
            opened: H::Mutex::new(None),
            memory: H::RwLock::new(MemorySpace::CLOSED),
        }
    }

    /// Whether it is a virtual function of SR-IOV.
    fn is_virtual(&self) -> bool {
        matches!(self.role, Role::Virtual(_))
    }

    /// From now on the driver is being unbound, which waits for whoever has the function open.
    pub(crate) fn begin_unbind(&mut self) {
        self.unbinding = true;
    }

    /// Opens the function: stops it, resets it, and makes it decode its BARs.
    pub(crate) fn open(&self, host: &H) -> Result<(), Refusal> {
        self.opened.with(|slot| {
            set_command(host, self.function, COMMAND_MASTER, 0);
            let before = host.config_read(self.function, COMMAND, 2);
            let opened =
                self.enable(host).inspect_err(|_| host.config_write(self.function, COMMAND, 2, before))?;
            self.memory.write(|memory| {
                *memory = MemorySpace::opened(&opened.config);
                host.regions_enable(self.function, memory.answers());
            });
            *slot = Some(opened);
            Ok(())
        })
    }

    fn enable(&self, host: &H) -> Result<Opened<H>, Refusal> {
        reset::wake(host, self.function);
        let decodable = self.decodable(host);
        set_command(host, self.function, decodable, decodable);
        let resettable = self.reset_at_open(host)?;
        set_command(host, self.function, COMMAND_INTX_DISABLE, 0);
        let saved = Saved::take(host, self.function);
        let config = Config::new(host, self.function).map_err(|_| rules::NO_MEMORY)?;
        let number = self.openings.fetch_add(1, Ordering::Relaxed);
        Ok(Opened {
            number,
            config,
            irqs: Irqs::new(),
            writes: Writes::new(),
            saved,
            saved_for_power: None,
            resettable,
        })
    }

    /// The enable bits of the command register that the function's BARs call for.
    fn decodable(&self, host: &H) -> u32 {
        (0..=registers::ROM_REGION).filter_map(|index| host.region(self.function, index)).fold(
            0,
            |bits, region| match region.kind {
                RegionKind::Memory { .. } => bits | COMMAND_MEMORY,
                RegionKind::Io => bits | COMMAND_IO,
            },
        )
    }

    /// Closes the function: no more DMA first, then no more interrupts; then it is reset.
    pub(crate) fn close(&self, host: &H) {
        self.opened.with(|slot| {
            let Some(mut opened) = slot.take() else { return };
            set_command(host, self.function, COMMAND_MASTER, 0);
            opened.writes.clear(host, self.function);
            opened.irqs.disable(host, self.function);
            self.memory.write(|memory| {
                *memory = MemorySpace::CLOSED;
                host.regions_enable(self.function, false);
            });
            reset::wake(host, self.function);
            opened.saved.restore(host, self.function);
            // A reset that fails now leaves a stopped function behind, and nobody to tell.
            let was_reset = opened.resettable && self.reset_function(host).is_ok();
            self.needs_reset.store(!was_reset, Ordering::Relaxed);
            set_command(host, self.function, COMMAND_MASTER, 0);
        });
    }

    /// Whether it is open.
    pub(crate) fn is_open(&self) -> bool {
        self.opened.with(|slot| slot.is_some())
    }

    /// Whether it was closed without being reset.
    pub(crate) fn needs_reset(&self) -> bool {
        self.needs_reset.load(Ordering::Relaxed)
    }

    /// Asks the user to close the device, who was asked `round` times before.
    pub(crate) fn request(&self, host: &H, round: u32) {
        let target = self.opened.with(|slot| slot.as_ref().and_then(|opened| opened.irqs.request_target()));
        match target {
            Some(target) => {
                if round.is_multiple_of(10) {
                    let line = format_args!("Relaying device request to user (#{round})");
                    host.log(Level::Notice, Some(self.function), line);
                }
                host.signal(&target);
            }
            None if round == 0 => {
                let line =
                    format_args!("No device request channel registered, blocked until released by user");
                host.log(Level::Warn, Some(self.function), line);
            }
            None => {}
        }
    }

    /// An ioctl on a device file that is bound, or that a group gave out, other than those of binding and attaching.
    pub(crate) fn ioctl(
        &self,
        host: &H,
        ctx: &CallCtx<'_, H>,
        command: u32,
        argument: u64,
    ) -> Result<u32, Refusal> {
        match command {
            VFIO_DEVICE_GET_INFO => self.get_info(ctx, argument),
            VFIO_DEVICE_GET_REGION_INFO => self.get_region_info(host, ctx, argument),
            VFIO_DEVICE_GET_IRQ_INFO => self.get_irq_info(ctx, argument),
            VFIO_DEVICE_SET_IRQS => self.set_irqs(host, ctx, argument),
            VFIO_DEVICE_RESET => self.reset(host),
            VFIO_DEVICE_IOEVENTFD => self.ioeventfd(host, ctx, argument),
            VFIO_DEVICE_FEATURE => self.feature(host, ctx, argument),
            _ => Err(rules::UNKNOWN_COMMAND),
        }
    }

    /// The INTx line rose.
    pub(crate) fn line_event(&self, host: &H) {
        self.opened.with(|slot| {
            if let Some(opened) = slot {
                opened.irqs.line_event(host, self.function);
            }
        });
    }

    /// The eventfd that unmasks the INTx line was signalled.
    pub(crate) fn unmask_event(&self, host: &H) {
        self.opened.with(|slot| {
            if let Some(opened) = slot {
                opened.irqs.unmask_line(host, self.function);
            }
        });
    }

    fn with_opened<R>(&self, f: impl FnOnce(&mut Opened<H>) -> Result<R, Refusal>) -> Result<R, Refusal> {
        self.opened.with(|slot| f(slot.as_mut().ok_or(rules::NOT_BOUND)?))
    }
}

/// Changes bits of the real command register.
fn set_command<H: Host>(host: &H, function: Function, mask: u32, bits: u32) {
    let old = host.config_read(function, COMMAND, 2);
    let new = old & !mask | bits;
    if new != old {
        host.config_write(function, COMMAND, 2, new);
    }
}
