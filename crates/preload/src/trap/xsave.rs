//! Vector registers, in the area that the processor's XSAVE writes and the kernel hands to handlers of signals.
#![forbid(unsafe_code)]

use std::arch::x86_64::{__cpuid, __cpuid_count};

/// Length of the oldest part of the area, which is always there.
pub(super) const FXSAVE: usize = 512;

/// Where the kernel tells what follows: a magic number, the length of what it has saved, which components it has saved, and
/// the length of those (`struct _fpx_sw_bytes`).
const MAGIC: usize = 464;
const MAGIC_VALUE: u32 = 0x4650_5853;
const SAVED: usize = MAGIC + 8;
const SAVED_LENGTH: usize = MAGIC + 16;

/// Which components are not in their initial state: the first field behind the oldest part.
const IN_USE: usize = FXSAVE;

const XMM: usize = 160;

/// Components of the area, by their number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Component {
    /// The lower 128 bits of registers 0 to 15.
    Sse = 1,
    /// The next 128.
    Avx = 2,
    /// k0 to k7.
    Opmask = 5,
    /// The upper 256 bits of registers 0 to 15.
    ZmmUpper = 6,
    /// Registers 16 to 31.
    ZmmHigh = 7,
}

/// The area's layout on this processor: start and length of each component.
#[derive(Debug)]
pub(super) struct Layout([(usize, usize); 8]);

impl Layout {
    pub(super) fn of_processor() -> Self {
        let mut components = [(0, 0); 8];
        components[Component::Sse as usize] = (XMM, 256);
        if __cpuid(0).eax >= 0xd {
            for component in [Component::Avx, Component::Opmask, Component::ZmmUpper, Component::ZmmHigh] {
                let leaf = __cpuid_count(0xd, component as u32);
                components[component as usize] = (leaf.ebx as usize, leaf.eax as usize);
            }
        }
        Layout(components)
    }
}

/// The area lacks what the instruction needs: nothing has saved it.
#[derive(Debug)]
pub(super) struct Lacking;

/// All 512 bits of a register.
pub(super) type Vector = [u8; 64];

pub(super) struct Vectors<'a> {
    area: &'a mut [u8],
    layout: &'a Layout,
}

impl<'a> Vectors<'a> {
    /// The length of an area that begins with these bytes.
    pub(super) fn length(start: &[u8; FXSAVE]) -> usize {
        if word(start, MAGIC) == MAGIC_VALUE { word(start, SAVED_LENGTH) as usize } else { FXSAVE }
    }

    /// # Panics
    ///
    /// If the area is shorter than the oldest part.
    pub(super) fn new(area: &'a mut [u8], layout: &'a Layout) -> Self {
        assert!(area.len() >= FXSAVE, "the area that the processor saves has its oldest part");
        Vectors { area, layout }
    }

    /// A vector register. What nothing has saved is zero.
    pub(super) fn get(&self, number: usize) -> Vector {
        let mut vector = [0; 64];
        for (component, start, length) in pieces(number) {
            if let Some(at) = self.find(component)
                && self.in_use(component)
            {
                let from = at + self.index(component, number);
                vector[start..start + length].copy_from_slice(&self.area[from..from + length]);
            }
        }
        vector
    }

    /// Writes the lower 128 bits and leaves the others alone.
    pub(super) fn set_low(&mut self, number: usize, value: &[u8; 16]) -> Result<(), Lacking> {
        let mut vector = self.get(number);
        vector[..16].copy_from_slice(value);
        self.set(number, &vector)
    }

    /// Writes all of a vector register.
    pub(super) fn set(&mut self, number: usize, value: &Vector) -> Result<(), Lacking> {
        for (component, start, length) in pieces(number) {
            let piece = &value[start..start + length];
            let initial = piece.iter().all(|byte| *byte == 0);
            match self.find(component) {
                Some(_) if initial && !self.in_use(component) => {}
                Some(at) => {
                    self.put_in_use(component, at);
                    let to = at + self.index(component, number);
                    self.area[to..to + length].copy_from_slice(piece);
                }
                None if initial => {}
                None => return Err(Lacking),
            }
        }
        Ok(())
    }

    /// A mask register.
    pub(super) fn mask(&self, number: usize) -> Result<u64, Lacking> {
        let at = self.find(Component::Opmask).ok_or(Lacking)?;
        if !self.in_use(Component::Opmask) {
            return Ok(0);
        }
        Ok(long(self.area, at + 8 * number))
    }

    /// Writes a mask register.
    pub(super) fn set_mask(&mut self, number: usize, value: u64) -> Result<(), Lacking> {
        let at = self.find(Component::Opmask).ok_or(Lacking)?;
        self.put_in_use(Component::Opmask, at);
        self.area[at + 8 * number..][..8].copy_from_slice(&value.to_le_bytes());
        Ok(())
    }

    /// Where a component begins, if it was saved.
    fn find(&self, component: Component) -> Option<usize> {
        let (at, length) = self.layout.0[component as usize];
        let saved = component == Component::Sse
            || self.is_extended() && long(self.area, SAVED) >> component as u32 & 1 == 1;
        (saved && length > 0 && at + length <= self.area.len()).then_some(at)
    }

    /// Where the register's piece is within the component.
    fn index(&self, component: Component, number: usize) -> usize {
        match component {
            Component::Sse | Component::Avx => 16 * number,
            Component::ZmmUpper => 32 * number,
            Component::ZmmHigh => 64 * (number - 16),
            Component::Opmask => 8 * number,
        }
    }

    fn in_use(&self, component: Component) -> bool {
        !self.is_extended() || long(self.area, IN_USE) >> component as u32 & 1 == 1
    }

    /// The component is restored from here on: what else is in it gets its initial value, where it has not been.
    fn put_in_use(&mut self, component: Component, at: usize) {
        if !self.in_use(component) {
            let (_, length) = self.layout.0[component as usize];
            self.area[at..at + length].fill(0);
            let in_use = long(self.area, IN_USE) | 1 << component as u32;
            self.area[IN_USE..IN_USE + 8].copy_from_slice(&in_use.to_le_bytes());
        }
    }

    fn is_extended(&self) -> bool {
        self.area.len() > FXSAVE
    }
}

/// What a register is made of: components, and the bytes that each holds.
fn pieces(number: usize) -> impl Iterator<Item = (Component, usize, usize)> {
    let low = [(Component::Sse, 0, 16), (Component::Avx, 16, 16), (Component::ZmmUpper, 32, 32)];
    let high = [(Component::ZmmHigh, 0, 64)];
    low.into_iter().filter(move |_| number < 16).chain(high.into_iter().filter(move |_| number >= 16))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|index| bytes[at + index]))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]))
}
