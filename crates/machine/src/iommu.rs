//! The IOMMU of a machine: an Intel VT-d unit as far as drivers can tell.
#![forbid(unsafe_code)]

mod groups;

use subsystem::IommuInfo;

use crate::spec::IommuSpec;

pub(crate) use groups::{Groups, Isolation, Place, Unit};

/// What `intel-iommu` of QEMU 7.2 has in its capability registers, but for what an [`IommuSpec`] says.
const CAPABILITY: u64 = 0x00d2_008c_2222_0286 & !(0x3f << 16 | 0x1f << 8);
const EXTENDED_CAPABILITY: u64 = 0x00f0_0f4a & !INTERRUPT_REMAPPING;
/// Bits of the extended capability register: interrupt remapping with its handle mask, snoop control, and what dirty tracking takes (scalable mode,
/// second-stage translation and its accessed and dirty bits).
const INTERRUPT_REMAPPING: u64 = 1 << 3 | 0xf << 20;
const SNOOP_CONTROL: u64 = 1 << 7;
const DIRTY_TRACKING: u64 = 1 << 43 | 1 << 45 | 1 << 46;
/// Pages of 4 KiB, 2 MiB and 1 GiB.
const PAGE_SIZES: u64 = 1 << 12 | 1 << 21 | 1 << 30;
/// Where writes are interrupts, on every PC.
const MSI_WINDOW: (u64, u64) = (0xfee0_0000, 0xfeef_ffff);

impl IommuSpec {
    /// The capability register, and the extended one.
    pub(crate) fn registers(self) -> [u64; 2] {
        let width = u64::from(self.address_width);
        // Bit n of the supported widths is for 30 + 9 n; a unit of 48 bits supports 39 too.
        let widths = (39..=width).step_by(9).fold(0_u64, |widths, width| widths | 1 << ((width - 30) / 9));
        let bit = |on: bool, bits: u64| if on { bits } else { 0 };
        let extended = EXTENDED_CAPABILITY
            | bit(self.interrupt_remapping, INTERRUPT_REMAPPING)
            | bit(self.snoop_control, SNOOP_CONTROL)
            | bit(self.dirty_tracking, DIRTY_TRACKING);
        [CAPABILITY | (width - 1) << 16 | widths << 8, extended]
    }

    /// The last IOVA that it can translate.
    pub(crate) fn aperture_last(self) -> u64 {
        (1 << self.address_width) - 1
    }

    fn info(self, group: u32) -> IommuInfo {
        IommuInfo {
            group,
            aperture_last: self.aperture_last(),
            page_sizes: PAGE_SIZES,
            msi_window: MSI_WINDOW,
            coherent: self.coherent,
            enforces_coherency: self.snoop_control,
            isolated_msi: self.interrupt_remapping,
            dirty_tracking: self.dirty_tracking,
            registers: self.registers(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The defaults are what the unit of QEMU 7.2 shows.
    #[test]
    fn the_registers_are_those_of_qemu() {
        let info = IommuSpec::default().info(0);
        assert_eq!(info.registers, [0x00d2_008c_2226_0286, 0x00f0_0f4a]);
        assert_eq!(info.aperture_last, 0x7f_ffff_ffff);
    }
}
