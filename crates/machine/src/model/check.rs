//! What a model says that it is, held against what a function can be.

use super::{Bar, BarKind, DoorbellWindow, Identity, MsixSpec};
use crate::spec::DMA_BITS;

impl Identity {
    /// Whether there can be such a function, with this doorbell window; what stands in the way, in words.
    pub(crate) fn check(&self, window: Option<DoorbellWindow>) -> Result<(), String> {
        for (index, bar) in self.bars.iter().enumerate() {
            let Some(bar) = bar else { continue };
            bar.check().map_err(|problem| format!("BAR {index}: {problem}"))?;
            if bar.kind == BarKind::Memory64 && self.bars.get(index + 1) != Some(&None) {
                return Err(format!("BAR {index}: a 64-bit BAR takes the next one, too"));
            }
        }
        if self.msi.is_some_and(|vectors| !vectors.is_power_of_two() || vectors > 32) {
            return Err("MSI: 1, 2, 4, 8, 16 or 32 vectors are needed".into());
        }
        if let Some(msix) = self.msix {
            self.check_msix(msix).map_err(|problem| format!("MSI-X: {problem}"))?;
        }
        if let Some(DoorbellWindow { bar, offset, length }) = window {
            let aligned = [offset, length].iter().all(|number| number.is_multiple_of(4096)) && length > 0;
            if !aligned || !self.is_within(bar, offset, length) {
                return Err("doorbells: whole pages of a memory BAR are needed".into());
            }
        }
        if DMA_BITS.contains(&self.dma_bits) {
            Ok(())
        } else {
            Err(format!("{} address bits: 12 to 64 are needed", self.dma_bits))
        }
    }

    fn check_msix(&self, msix: MsixSpec) -> Result<(), &'static str> {
        let MsixSpec { vectors, table_bar, table_offset, pending_bar, pending_offset } = msix;
        let (vectors, table, pending) = (u64::from(vectors), table_offset.into(), pending_offset.into());
        if !(1..=2048).contains(&vectors) {
            return Err("1 to 2048 vectors are needed");
        }
        if !self.is_within(table_bar, table, 16 * vectors) {
            return Err("the table has to lie in a memory BAR");
        }
        if !self.is_within(pending_bar, pending, vectors.div_ceil(64) * 8) {
            return Err("the pending bits have to lie in a memory BAR");
        }
        if table % 8 == 0 && pending % 8 == 0 {
            Ok(())
        } else {
            Err("table and pending bits start at multiples of 8")
        }
    }

    /// Whether a range of bytes lies in a memory BAR.
    fn is_within(&self, bar: u8, offset: u64, length: u64) -> bool {
        let bar = self.bars.get(usize::from(bar)).copied().flatten();
        let end = offset.checked_add(length);
        bar.filter(|bar| bar.kind != BarKind::Io).is_some_and(|bar| end.is_some_and(|end| end <= bar.size))
    }
}

impl Bar {
    fn check(self) -> Result<(), String> {
        let sizes = match self.kind {
            BarKind::Io => 4..=256,
            BarKind::Memory32 => 16..=1 << 28,
            BarKind::Memory64 => 16..=1 << 40,
        };
        if self.size.is_power_of_two() && sizes.contains(&self.size) {
            return Ok(());
        }
        let (least, most) = (sizes.start(), sizes.end());
        Err(format!("{:#x} bytes: a power of two from {least:#x} to {most:#x} is needed", self.size))
    }
}
