//! The registers that a signal has saved.
//!
//! All unsafe code that reaches them is in [`Context::of_signal`]: the rest works on slices.

use iced_x86::Register;
use libc::{
    REG_EFL, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RAX, REG_RBP, REG_RBX,
    REG_RCX, REG_RDI, REG_RDX, REG_RIP, REG_RSI, REG_RSP,
};

use super::xsave::{FXSAVE, Layout, Vectors};

/// Where the signal's frame has the general registers, in the order in which instructions number them.
const SLOTS: [i32; 16] = [
    REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11,
    REG_R12, REG_R13, REG_R14, REG_R15,
];

pub(super) struct Context<'a> {
    general: &'a mut [libc::greg_t; 23],
    pub(super) vectors: Vectors<'a>,
}

impl<'a> Context<'a> {
    /// The registers in the frame of a signal.
    ///
    /// # Safety
    ///
    /// The kernel has written `context`, or it is a copy whose `fpregs` points to a copy of all of that area; nobody else
    /// uses the area during `'a`.
    pub(super) unsafe fn of_signal(context: &'a mut libc::ucontext_t, layout: &'a Layout) -> Self {
        let area = context.uc_mcontext.fpregs.cast::<u8>();
        // SAFETY: the kernel always saves that much, and says there how much it has saved in all.
        let length = Vectors::length(unsafe { &*area.cast::<[u8; FXSAVE]>() });
        // SAFETY: it has saved so many bytes, and they are only ours.
        let area = unsafe { std::slice::from_raw_parts_mut(area, length) };
        Context { general: &mut context.uc_mcontext.gregs, vectors: Vectors::new(area, layout) }
    }

    pub(super) fn rip(&self) -> u64 {
        self.general[REG_RIP as usize] as u64
    }

    pub(super) fn set_rip(&mut self, value: u64) {
        self.general[REG_RIP as usize] = value as i64;
    }

    pub(super) fn flags(&self) -> u64 {
        self.general[REG_EFL as usize] as u64
    }

    pub(super) fn set_flags(&mut self, value: u64) {
        self.general[REG_EFL as usize] = value as i64;
    }

    /// A general register of any width, extended by zeros. `None` for all other kinds.
    pub(super) fn get(&self, register: Register) -> Option<u64> {
        let Part { slot, shift, size } = part(register)?;
        Some(self.general[slot] as u64 >> shift & mask(size))
    }

    /// Writes a general register as instructions do: 32 bits clear the upper half, 8 and 16 leave the rest alone. `None` for
    /// all other kinds.
    pub(super) fn set(&mut self, register: Register, value: u64) -> Option<()> {
        let Part { slot, shift, size } = part(register)?;
        let value = match size {
            8 => value,
            4 => value & mask(4),
            _ => self.general[slot] as u64 & !(mask(size) << shift) | (value & mask(size)) << shift,
        };
        self.general[slot] = value as i64;
        Some(())
    }
}

/// Which bits a register is.
struct Part {
    slot: usize,
    shift: u32,
    size: usize,
}

fn part(register: Register) -> Option<Part> {
    let (number, shift) = match register {
        Register::AH => (0, 8),
        Register::CH => (1, 8),
        Register::DH => (2, 8),
        Register::BH => (3, 8),
        _ if register.is_gpr() => (register.full_register().number(), 0),
        _ => return None,
    };
    Some(Part { slot: SLOTS[number] as usize, shift, size: register.size() })
}

/// The bits of so many bytes.
pub(super) fn mask(size: usize) -> u64 {
    if size >= 8 { u64::MAX } else { (1 << (8 * size)) - 1 }
}
