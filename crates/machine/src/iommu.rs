//! The IOMMU of a machine: an Intel VT-d unit as far as drivers can tell, the functions behind it, and who has their DMA.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::Mutex;

use subsystem::{DmaOwner, Function, IommuInfo};

use crate::ram::lock;
use crate::spec::{DeviceSpec, Iommu, IommuSpec, PciAddress};

/// What `intel-iommu` of QEMU 7.2 has in its capability registers, but for what an [`IommuSpec`] says.
const CAPABILITY: u64 = 0x00d2_008c_2222_0286 & !(0x3f << 16 | 0x1f << 8);
const EXTENDED_CAPABILITY: u64 = 0x00f0_0f4a & !(1 << 3);
/// Bits of the extended capability register: interrupt remapping, snoop control, and what dirty tracking takes (scalable mode,
/// second-stage translation and its accessed and dirty bits).
const INTERRUPT_REMAPPING: u64 = 1 << 3;
const SNOOP_CONTROL: u64 = 1 << 7;
const DIRTY_TRACKING: u64 = 1 << 43 | 1 << 45 | 1 << 46;
/// Pages of 4 KiB, 2 MiB and 1 GiB.
const PAGE_SIZES: u64 = 1 << 12 | 1 << 21 | 1 << 30;
/// Where writes are interrupts, on every PC.
const MSI_WINDOW: (u64, u64) = (0xfee0_0000, 0xfeef_ffff);

/// Which functions of a machine are behind its IOMMU, and who has their DMA.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// By number of function: what serves it.
    functions: Vec<Option<IommuInfo>>,
    /// Who has the DMA of a group, and how often.
    owners: Mutex<HashMap<u32, (DmaOwner, u32)>>,
}

impl Groups {
    /// The groups of devices that are on the bus in this order; groups are numbered as they come.
    pub(crate) fn new(iommu: Iommu, devices: impl Iterator<Item = (PciAddress, Isolation)>) -> Self {
        let Iommu::Translating(spec) = iommu else { return Groups::default() };
        let mut seen: Vec<(PciAddress, Isolation)> = Vec::new();
        let functions = devices.map(|(address, isolation)| {
            if isolation == Isolation::Bypass {
                return None;
            }
            let together = |&(other, its): &(PciAddress, Isolation)| {
                its == isolation && (isolation != Isolation::Own || other.is_of_device(address))
            };
            let group = seen.iter().position(together).unwrap_or_else(|| {
                seen.push((address, isolation));
                seen.len() - 1
            });
            Some(spec.info(group as u32))
        });
        Groups { functions: functions.collect(), owners: Mutex::default() }
    }

    /// What serves a function.
    pub(crate) fn info(&self, function: Function) -> Option<IommuInfo> {
        self.functions.get(function.0 as usize).copied().flatten()
    }

    /// The function and all others of its group.
    pub(crate) fn members(&self, function: Function) -> impl Iterator<Item = Function> {
        let group = self.info(function).map(|info| info.group);
        let behind = self.functions.iter().enumerate();
        let others = behind.filter(move |(_, info)| group.is_some() && info.map(|info| info.group) == group);
        let others =
            others.map(|(number, _)| Function(number as u32)).filter(move |other| *other != function);
        std::iter::once(function).chain(others)
    }

    /// How many groups there are: they have the first numbers.
    pub(crate) fn count(&self) -> usize {
        let numbers = self.functions.iter().flatten().map(|info| info.group as usize + 1);
        numbers.max().unwrap_or(0)
    }

    /// Gives the DMA of a group to an owner.
    pub(crate) fn claim(&self, group: u32, owner: DmaOwner) -> bool {
        let mut owners = lock(&self.owners);
        let (holder, claims) = owners.entry(group).or_insert((owner, 0));
        let own = *holder == owner;
        *claims += u32::from(own);
        own
    }

    /// Takes back one claim.
    pub(crate) fn release(&self, group: u32) {
        let mut owners = lock(&self.owners);
        if let Some((_, claims)) = owners.get_mut(&group) {
            *claims -= 1;
            if *claims == 0 {
                owners.remove(&group);
            }
        }
    }

    /// Whether anybody has the DMA of a group.
    pub(crate) fn is_claimed(&self, group: u32) -> bool {
        lock(&self.owners).contains_key(&group)
    }
}

/// Where a device is with regard to the IOMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Not behind it.
    Bypass,
    /// In a group with the other functions of its device, and no others.
    Own,
    /// In a group with all others of this number.
    Shared(u32),
}

impl Isolation {
    pub(crate) fn of(device: &DeviceSpec) -> Self {
        match device.group {
            _ if !device.behind_iommu => Isolation::Bypass,
            Some(label) => Isolation::Shared(label),
            None => Isolation::Own,
        }
    }
}

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

    fn info(self, group: u32) -> IommuInfo {
        IommuInfo {
            group,
            aperture_last: (1 << self.address_width) - 1,
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

    #[test]
    fn a_group_has_one_owner() {
        let devices = [
            ("0000:00:03.0", Isolation::Shared(7)),
            ("0000:00:04.0", Isolation::Bypass),
            ("0000:00:05.0", Isolation::Own),
            ("0000:00:05.1", Isolation::Own),
            ("0000:00:06.0", Isolation::Shared(7)),
            ("0000:00:07.0", Isolation::Own),
        ];
        let devices = devices.map(|(address, isolation)| (address.parse().unwrap(), isolation));
        let groups = Groups::new(Iommu::Translating(IommuSpec::default()), devices.into_iter());
        let numbers: Vec<_> = (0..6).map(|n| groups.info(Function(n)).map(|info| info.group)).collect();
        assert_eq!(numbers, [Some(0), None, Some(1), Some(1), Some(0), Some(2)]);
        assert_eq!(groups.members(Function(4)).collect::<Vec<_>>(), [Function(4), Function(0)]);
        let (one, other) = (DmaOwner::Context(1), DmaOwner::Context(2));
        assert!(groups.claim(0, one) && groups.claim(0, one));
        groups.release(0);
        assert!(!groups.claim(0, other), "one device of the group still has an owner");
        groups.release(0);
        assert!(!groups.is_claimed(0) && groups.claim(0, other));
    }
}
