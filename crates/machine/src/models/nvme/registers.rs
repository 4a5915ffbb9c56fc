//! Controller registers (NVMe 1.4, section 3.1).
//!
//! A 64-bit register may be accessed as two halves, so they are kept and dispatched by dword.

/// Most entries of an I/O queue.
pub(super) const MAX_QUEUE_ENTRIES: u32 = 1024;

/// The version that the controller complies with: 1.4.
pub(super) const VERSION: u32 = 0x0001_0400;

/// Where the doorbells start in BAR 0. Stride 0: submission queue y at `8 * y`, completion queue y at `8 * y + 4`.
pub(super) const DOORBELLS: u64 = 0x1000;

/// Host page sizes from 4 KiB to 64 KiB: 2^12 to 2^(12 + this).
const MAX_PAGE_SHIFT_ABOVE_4K: u32 = 4;

/// CAP, low half: `MAX_QUEUE_ENTRIES` (zero-based), queues must be contiguous, ready within 15 s.
const CAP_LOW: u32 = (MAX_QUEUE_ENTRIES - 1) | 1 << 16 | 30 << 24;
/// CAP, high half: doorbell stride 4 bytes, the NVM command set, page sizes.
const CAP_HIGH: u32 = 1 << 5 | MAX_PAGE_SHIFT_ABOVE_4K << 20;

pub(super) const CSTS_READY: u32 = 1 << 0;
pub(super) const CSTS_FATAL: u32 = 1 << 1;
pub(super) const CSTS_SHUTDOWN_COMPLETE: u32 = 2 << 2;

/// What a write to a register asks of the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// CC.EN rose.
    Enable,
    /// CC.EN fell: a controller reset.
    Disable,
    /// CC.SHN asks for a shutdown.
    Shutdown,
    /// The interrupt mask changed.
    Mask,
}

/// The registers that keep something.
#[derive(Clone, Debug, Default)]
pub(super) struct Registers {
    /// Interrupt mask, for pin-based interrupts.
    pub(super) mask: u32,
    pub(super) configuration: Configuration,
    pub(super) status: u32,
    admin_attributes: u32,
    admin_submission: u64,
    admin_completion: u64,
}

/// CC.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Configuration(u32);

/// The admin queues as AQA, ASQ and ACQ describe them: addresses and numbers of entries.
pub(super) struct AdminQueues {
    pub(super) submission: (u64, u32),
    pub(super) completion: (u64, u32),
}

impl Configuration {
    const fn enabled(self) -> bool {
        self.0 & 1 != 0
    }

    const fn shutdown(self) -> bool {
        self.0 >> 14 & 3 != 0
    }

    /// The host's page size, which PRP entries count in.
    pub(super) const fn page_size(self) -> u64 {
        4096 << (self.0 >> 7 & 0xf)
    }

    /// Whether I/O submission queue entries are 64 bytes.
    pub(super) const fn submission_entries_fit(self) -> bool {
        self.0 >> 16 & 0xf == 6
    }

    /// Whether I/O completion queue entries are 16 bytes.
    pub(super) const fn completion_entries_fit(self) -> bool {
        self.0 >> 20 & 0xf == 4
    }

    /// Whether the controller can run this way: NVM command set, a page size it has, round robin.
    const fn is_supported(self) -> bool {
        let command_set = self.0 >> 4 & 7;
        let page_shift = self.0 >> 7 & 0xf;
        let arbitration = self.0 >> 11 & 7;
        command_set == 0 && page_shift <= MAX_PAGE_SHIFT_ABOVE_4K && arbitration == 0
    }
}

impl Registers {
    /// The dword at `offset`; those that are reserved or of features that the controller lacks read 0.
    pub(super) fn load(&self, offset: u64) -> u32 {
        match offset {
            0x00 => CAP_LOW,
            0x04 => CAP_HIGH,
            0x08 => VERSION,
            0x0c | 0x10 => self.mask,
            0x14 => self.configuration.0,
            0x1c => self.status,
            0x24 => self.admin_attributes,
            0x28 => self.admin_submission as u32,
            0x2c => (self.admin_submission >> 32) as u32,
            0x30 => self.admin_completion as u32,
            0x34 => (self.admin_completion >> 32) as u32,
            _ => 0,
        }
    }

    /// Stores a dword. What follows from it is the controller's to do.
    pub(super) fn store(&mut self, offset: u64, value: u32) -> Option<Request> {
        match offset {
            0x0c => {
                self.mask |= value;
                return Some(Request::Mask);
            }
            0x10 => {
                self.mask &= !value;
                return Some(Request::Mask);
            }
            0x14 => return self.configure(Configuration(value & 0x00ff_fff1)),
            0x24 => self.admin_attributes = value & 0x0fff_0fff,
            0x28 => set_low(&mut self.admin_submission, value & !0xfff),
            0x2c => set_high(&mut self.admin_submission, value),
            0x30 => set_low(&mut self.admin_completion, value & !0xfff),
            0x34 => set_high(&mut self.admin_completion, value),
            _ => {}
        }
        None
    }

    fn configure(&mut self, new: Configuration) -> Option<Request> {
        let old = std::mem::replace(&mut self.configuration, new);
        match (old.enabled(), new.enabled()) {
            (false, true) => Some(Request::Enable),
            (true, false) => Some(Request::Disable),
            _ if new.shutdown() && !old.shutdown() => Some(Request::Shutdown),
            _ => None,
        }
    }

    /// The admin queues, if the controller can be enabled with the registers as they are.
    pub(super) fn admin_queues(&self) -> Option<AdminQueues> {
        let entries = |field: u32| (field & 0xfff) + 1;
        let submission = (self.admin_submission, entries(self.admin_attributes));
        let completion = (self.admin_completion, entries(self.admin_attributes >> 16));
        let page = self.configuration.page_size();
        let fits = |(address, entries): (u64, u32)| address.is_multiple_of(page) && entries >= 2;
        (self.configuration.is_supported() && fits(submission) && fits(completion))
            .then_some(AdminQueues { submission, completion })
    }

    /// What a controller reset (CC.EN falls) leaves: the description of the admin queues, and CC as written.
    pub(super) fn reset_controller(&mut self) {
        self.status = 0;
        self.mask = 0;
    }

    pub(super) fn is_running(&self) -> bool {
        self.status & (CSTS_READY | CSTS_FATAL | CSTS_SHUTDOWN_COMPLETE) == CSTS_READY
    }
}

fn set_low(register: &mut u64, value: u32) {
    *register = *register & !0xffff_ffff | u64::from(value);
}

fn set_high(register: &mut u64, value: u32) {
    *register = *register & 0xffff_ffff | u64::from(value) << 32;
}
