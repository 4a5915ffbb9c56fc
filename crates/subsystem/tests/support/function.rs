//! Simulated PCI functions.

use subsystem::{IommuInfo, IrqKind, Region, RegionKind, Sriov, Watch};
use uapi::Errno;

use super::bus::Event;

/// A PCI function.
#[derive(Clone)]
pub(crate) struct TestFunction {
    pub(crate) config: Vec<u8>,
    /// Configuration space as a reset leaves it, and which bits of it a write changes.
    pub(crate) power_on: Vec<u8>,
    pub(crate) writable: Vec<u8>,
    pub(crate) regions: [Option<Region>; 7],
    /// The bytes of each region, and of the legacy addresses of VGA.
    pub(crate) bytes: [Vec<u8>; 9],
    /// What serves it.
    pub(crate) iommu: Option<IommuInfo>,
    pub(crate) can_reset: bool,
    /// What the next resets answer.
    pub(crate) reset_error: Option<Errno>,
    /// The level of the line, if there is one.
    pub(crate) line: Option<bool>,
    /// How many vectors can be had, whatever the capabilities say.
    pub(crate) msi: u32,
    pub(crate) msix: u32,
    pub(crate) enabled: Option<IrqKind>,
    pub(crate) vectors: Vec<Option<Event>>,
    /// Who waits for an eventfd.
    pub(crate) watches: Vec<(Watch, Event)>,
    /// The bus that it is on, if that can be reset.
    pub(crate) bus: Option<u8>,
    pub(crate) sriov: Sriov,
    /// Whether mappings of the BARs answer.
    pub(crate) mappings: bool,
    /// How often they were told not to.
    pub(crate) revocations: u32,
    /// Vital product data, whose capability is at [`conventional::VITAL`]; `None`: the function does not answer.
    pub(crate) vital: Option<Vec<u8>>,
}

/// Where the capabilities of [`TestFunction::express`] are.
pub(crate) mod express {
    pub(crate) const POWER: u16 = 0x40;
    pub(crate) const HIDDEN: u16 = 0x48;
    pub(crate) const EXPRESS: u16 = 0x50;
    pub(crate) const MSIX: u16 = 0x90;
    pub(crate) const VECTORS: u32 = 33;
    pub(crate) const BAR: u64 = 0x4000;
    pub(crate) const TABLE: u64 = 0x2000;
}

/// Where the capabilities of [`TestFunction::conventional`] are.
pub(crate) mod conventional {
    pub(crate) const MSI: u16 = 0x40;
    pub(crate) const VENDOR: u16 = 0x60;
    pub(crate) const VENDOR_LENGTH: u16 = 0x10;
    pub(crate) const VITAL: u16 = 0x80;
    pub(crate) const VECTORS: u32 = 8;
}

fn memory(wide: bool, size: u64, address: u64) -> Region {
    Region { kind: RegionKind::Memory { wide, prefetchable: false }, size, address }
}

impl TestFunction {
    fn new(size: usize) -> Self {
        let mut function = TestFunction {
            config: vec![0; size],
            power_on: Vec::new(),
            writable: vec![0; size],
            regions: [None; 7],
            bytes: Default::default(),
            iommu: None,
            can_reset: false,
            reset_error: None,
            line: None,
            msi: 0,
            msix: 0,
            enabled: None,
            vectors: Vec::new(),
            watches: Vec::new(),
            bus: None,
            sriov: Sriov::None,
            mappings: false,
            revocations: 0,
            vital: None,
        };
        function.put(0x00, &[0x36, 0x1b, 0x10, 0x00]);
        function.allow(0x04, &[0x47, 0x05]);
        function.put(0x06, &[0x10]);
        function.put(0x08, &[2, 2, 8, 1]);
        function.allow(0x0c, &[0xff]);
        function.put(0x2c, &[0xf4, 0x1a, 0x00, 0x11]);
        function.allow(0x3c, &[0xff]);
        function
    }

    /// A function with these bytes as its configuration space, of which writes change these bits.
    pub(crate) fn from_bytes(config: &[u8], writable: &[u8]) -> Self {
        let function =
            TestFunction { config: config.to_vec(), writable: writable.to_vec(), ..Self::new(config.len()) };
        function.power_on()
    }

    /// A PCI Express function that can be reset: BAR 0 of 16 KiB, 64 bits wide, with an MSI-X table of 33 vectors. Two
    /// of its capabilities are none that a user may see.
    pub(crate) fn express() -> Self {
        use self::express::{BAR, EXPRESS, HIDDEN, MSIX, POWER, TABLE, VECTORS};
        let mut function = Self::new(4096);
        function.add_region(0, memory(true, BAR, 0x80_0000_4000));
        function.put(0x34, &[POWER as u8]);
        function.put(POWER, &[0x01, HIDDEN as u8, 0xfb, 0xc9, 0x00, 0x80]);
        function.allow(POWER + 4, &[0x03, 0x01]);
        function.put(HIDDEN, &[0x0c, EXPRESS as u8]);
        function.put(EXPRESS, &[0x10, MSIX as u8, 0x02, 0x00, 0x00, 0x80, 0x00, 0x10, 0x30, 0x28]);
        function.allow(EXPRESS + 8, &[0xff, 0x7f]);
        function.allow(EXPRESS + 0x28, &[0xff, 0xff]);
        function.put(MSIX, &[0x11, 0x00, VECTORS as u8 - 1, 0x00, 0x00, (TABLE >> 8) as u8]);
        function.allow(MSIX + 2, &[0x00, 0xc0]);
        // Extended: error reporting, one that is hidden, a serial number.
        function.put(0x100, &[0x01, 0x00, 0x02, 0x15]);
        function.allow(0x108, &[0xff; 4]);
        function.put(0x150, &[0x25, 0x00, 0x01, 0x18]);
        function.put(0x180, &[0x03, 0x00, 0x01, 0x00, 1, 2, 3, 4, 5, 6, 7, 8]);
        function.can_reset = true;
        function.msix = VECTORS;
        function.power_on()
    }

    /// A conventional function that cannot be reset: a small BAR 0, I/O ports in BAR 2, the line and MSI with 8 vectors,
    /// a capability of its vendor and
    /// vital product data.
    pub(crate) fn conventional() -> Self {
        use self::conventional::{MSI, VECTORS, VENDOR, VENDOR_LENGTH, VITAL};
        let mut function = Self::new(256);
        function.add_region(0, memory(false, 0x100, 0xfeb0_0000));
        function.add_region(2, Region { kind: RegionKind::Io, size: 0x40, address: 0xc040 });
        function.put(0x34, &[MSI as u8]);
        function.put(0x3d, &[1]);
        function.put(MSI, &[0x05, VENDOR as u8, 0x86, 0x00]);
        function.allow(MSI + 2, &[0x71]);
        function.put(VENDOR, &[0x09, VITAL as u8, VENDOR_LENGTH as u8, 0xab]);
        function.allow(VENDOR + 4, &[0xff; 4]);
        function.put(VITAL, &[0x03, 0x00]);
        function.allow(VITAL + 2, &[0xff; 6]);
        function.vital = Some((0..64).collect());
        function.line = Some(false);
        function.msi = VECTORS;
        function.power_on()
    }

    /// A display adapter, with a frame buffer in BAR 0; the bytes at its legacy addresses count upwards.
    pub(crate) fn vga() -> Self {
        let mut function = Self::new(256);
        function.add_region(0, memory(false, 0x1000, 0xfea0_0000));
        function.put(0x08, &[0, 0, 0, 3]);
        function.bytes[8] = (0..0xc_0000).map(|byte: u32| byte as u8).collect();
        function.power_on()
    }

    /// A function with the header of a bridge.
    pub(crate) fn bridge() -> Self {
        let mut function = Self::new(256);
        function.put(0x0e, &[0x81]);
        function.power_on()
    }

    fn put(&mut self, at: u16, bytes: &[u8]) {
        self.config[usize::from(at)..][..bytes.len()].copy_from_slice(bytes);
    }

    fn allow(&mut self, at: u16, mask: &[u8]) {
        self.writable[usize::from(at)..][..mask.len()].copy_from_slice(mask);
    }

    fn power_on(mut self) -> Self {
        self.power_on.clone_from(&self.config);
        self
    }

    /// Gives the function a BAR, with its bytes counting upwards.
    pub(crate) fn add_region(&mut self, index: u8, region: Region) {
        let at = if index == 6 { 0x30 } else { 0x10 + 4 * u16::from(index) };
        let kind = match region.kind {
            RegionKind::Io => 1,
            RegionKind::Memory { wide, .. } => u64::from(wide) << 2,
        };
        let bar = region.address | kind;
        self.put(at, &bar.to_le_bytes()[..4]);
        self.allow(at, &[0xf0, 0xff, 0xff, 0xff]);
        if kind == 4 {
            self.put(at + 4, &bar.to_le_bytes()[4..]);
            self.allow(at + 4, &[0xff; 4]);
        }
        self.regions[usize::from(index)] = Some(region);
        self.bytes[usize::from(index)] = (0..region.size).map(|byte| byte as u8).collect();
        self.power_on.clone_from(&self.config);
    }

    /// The command register.
    pub(crate) fn command(&self) -> u32 {
        self.load_config(4, 2)
    }

    pub(crate) fn load_config(&self, at: u16, width: u8) -> u32 {
        assert!(matches!(width, 1 | 2 | 4) && at.is_multiple_of(width.into()), "{width} bytes at {at:#x}");
        let mut value = [0; 4];
        value[..width.into()].copy_from_slice(&self.config[at.into()..][..width.into()]);
        u32::from_le_bytes(value)
    }

    pub(crate) fn store_config(&mut self, at: u16, width: u8, value: u32) {
        assert!(matches!(width, 1 | 2 | 4) && at.is_multiple_of(width.into()), "{width} bytes at {at:#x}");
        for (at, new) in (usize::from(at)..).zip(value.to_le_bytes()).take(width.into()) {
            let mask = self.writable[at];
            self.config[at] = self.config[at] & !mask | new & mask;
        }
        if self.line.is_some() && at == conventional::VITAL + 2 {
            self.transfer_vital_data();
        }
    }

    /// Reads or writes vital product data, and says that it is done.
    fn transfer_vital_data(&mut self) {
        let Some(mut vital) = self.vital.take() else { return };
        let at = usize::from(conventional::VITAL);
        let address = self.load_config(conventional::VITAL + 2, 2) as usize;
        let data = &mut vital[address & 0x3f..][..4];
        match address & 0x8000 {
            0 => self.config[at + 4..at + 8].copy_from_slice(data),
            _ => data.copy_from_slice(&self.config[at + 4..at + 8]),
        }
        self.config[at + 3] ^= 0x80;
        self.vital = Some(vital);
    }

    pub(crate) fn load(&self, index: u8, offset: u64, width: u8) -> u64 {
        assert!(
            matches!(width, 1 | 2 | 4 | 8) && offset.is_multiple_of(width.into()),
            "{width} bytes at {offset:#x}"
        );
        let mut value = [0; 8];
        value[..width.into()]
            .copy_from_slice(&self.bytes[usize::from(index)][offset as usize..][..width.into()]);
        u64::from_le_bytes(value)
    }

    pub(crate) fn store(&mut self, index: u8, offset: u64, width: u8, value: u64) {
        assert!(
            matches!(width, 1 | 2 | 4 | 8) && offset.is_multiple_of(width.into()),
            "{width} bytes at {offset:#x}"
        );
        let bytes = &mut self.bytes[usize::from(index)][offset as usize..][..width.into()];
        bytes.copy_from_slice(&value.to_le_bytes()[..width.into()]);
    }

    /// Everything but the BARs is as after power-on.
    pub(crate) fn reset(&mut self) -> Result<(), Errno> {
        if let Some(error) = self.reset_error {
            return Err(error);
        }
        let bars = self.config[0x10..0x34].to_vec();
        self.config.clone_from(&self.power_on);
        self.config[0x10..0x34].copy_from_slice(&bars);
        if let Some(level) = &mut self.line {
            *level = false;
        }
        Ok(())
    }

    pub(crate) fn enable_vectors(&mut self, kind: IrqKind, count: u32) -> u32 {
        assert_eq!(self.enabled, None, "two kinds of interrupt at a time");
        let limit = match kind {
            IrqKind::Line => u32::from(self.line.is_some()),
            IrqKind::Msi => self.msi,
            IrqKind::MsiX => self.msix,
        };
        if count <= limit {
            self.enabled = Some(kind);
            self.vectors = vec![None; limit as usize];
        }
        count.min(limit)
    }
}
