//! Configuration space and BARs of a bound device, by read and write on its file.

use sys::Suite;
use uapi::vfio::*;

use crate::fixture::{Fixture, Need};
use crate::outcome::{Stop, Way};
use crate::pci::{capability, config, register};

/// Where the MSI-X table of a function is.
pub(crate) struct MsixTable {
    /// The BAR.
    pub(crate) bar: u32,
    /// Where it starts there.
    pub(crate) offset: u64,
    /// How many vectors it has.
    pub(crate) vectors: u32,
}

impl<S: Suite> Fixture<'_, S> {
    /// Bytes of configuration space.
    pub(crate) fn config_read<const N: usize>(&self, device: &S::File, offset: u64) -> Way<[u8; N]> {
        let mut bytes = [0; N];
        match self.sys.pread(device, &mut bytes, config(offset))? {
            count if count == N => Ok(bytes),
            count => Err(Stop::Broken(format!("{count} bytes of {N} read at {offset:#x}"))),
        }
    }

    /// Writes bytes of configuration space; how many were taken.
    pub(crate) fn config_write(&self, device: &S::File, offset: u64, bytes: &[u8]) -> sys::Result<u64> {
        self.sys.pwrite(device, bytes, config(offset)).map(|count| count as u64)
    }

    /// The command register.
    pub(crate) fn command(&self, device: &S::File) -> Way<u16> {
        Ok(u16::from_le_bytes(self.config_read(device, register::COMMAND)?))
    }

    /// Changes bits of the command register.
    pub(crate) fn set_command(&self, device: &S::File, bits: u16, on: bool) -> Way<()> {
        let command = self.command(device)?;
        let command = if on { command | bits } else { command & !bits };
        self.config_write(device, register::COMMAND, &command.to_le_bytes())?;
        Ok(())
    }

    /// Where a capability is, if the function has it.
    pub(crate) fn capability(&self, device: &S::File, id: u8) -> Way<Option<u64>> {
        // No more than there is room for, even where the chain is a circle.
        let [mut at] = self.config_read(device, register::CAPABILITIES)?;
        for _ in 0..48 {
            if at == 0 {
                break;
            }
            let [found, next] = self.config_read(device, at.into())?;
            if found == id {
                return Ok(Some(at.into()));
            }
            at = next;
        }
        Ok(None)
    }

    /// Where a capability is that a row needs.
    pub(crate) fn needed_capability(&self, device: &S::File, id: u8) -> Way<u64> {
        let found = self.capability(device, id)?;
        found.ok_or_else(|| Stop::NotApplicable(format!("the device has no capability {id:#x}")))
    }

    /// Where the MSI-X table is.
    pub(crate) fn msix_table(&self, device: &S::File) -> Way<MsixTable> {
        let at = self.needed_capability(device, capability::MSIX)?;
        let control = u16::from_le_bytes(self.config_read(device, at + 2)?);
        let table = u32::from_le_bytes(self.config_read(device, at + 4)?);
        let vectors = u32::from(control & 0x7ff) + 1;
        Ok(MsixTable { bar: table & 7, offset: u64::from(table & !7), vectors })
    }

    /// Whether the function says that it can be reset on its own: by PCI Express or by the capability for advanced
    /// features.
    pub(crate) fn function_reset(&self, device: &S::File) -> Way<bool> {
        if let Some(at) = self.capability(device, capability::EXPRESS)? {
            return Ok(u32::from_le_bytes(self.config_read(device, at + 4)?) & 1 << 28 != 0);
        }
        match self.capability(device, capability::ADVANCED_FEATURES)? {
            Some(at) => Ok(self.config_read::<1>(device, at + 3)?[0] & 3 == 3),
            None => Ok(false),
        }
    }

    /// The first BAR of a bound device that can be mapped.
    pub(crate) fn mappable_bar(&self, device: &S::File) -> Way<VfioRegionInfo> {
        for index in 0..6 {
            let info = self.region_info(device, index)?;
            if info.flags & VFIO_REGION_INFO_FLAG_MMAP != 0 {
                return Ok(info);
            }
        }
        Err(Stop::NotApplicable("the device has no BAR that can be mapped".into()))
    }

    /// The address of the first device with an I/O BAR, and the index of that.
    pub(crate) fn io_bar_address(&self) -> Way<(&str, u32)> {
        let address = self.address_with(Need::IoBar)?;
        let index = self.io_bar(address)?;
        Ok((address, index.ok_or_else(|| Stop::Broken("the I/O BAR is gone".into()))?))
    }

    /// Bytes of the real configuration space, as sysfs shows it.
    pub(crate) fn real_config<const N: usize>(&self, address: &str, offset: u64) -> Way<[u8; N]> {
        let path = self.sysfs(address).join("config");
        let file = self.sys.open(&path, sys::Access::Read)?;
        let mut bytes = [0; N];
        self.sys.pread(&file, &mut bytes, offset)?;
        Ok(bytes)
    }
}
