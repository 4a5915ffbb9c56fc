//! An access that a device was not entitled to, and how it is told.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use super::port::Doing;

/// The direction of an access, as the device sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The device reads memory.
    Read,
    /// The device writes memory.
    Write,
}

/// What was wrong with an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Bus mastering is off.
    BusMasterOff,
    /// The device cannot drive that many address bits.
    BeyondMask {
        /// How many it can.
        bits: u8,
    },
    /// The IOMMU translates no such address.
    BeyondAperture {
        /// How many bits an IOVA has.
        bits: u8,
    },
    /// The device is attached to no domain.
    NoDomain,
    /// The memory is mapped for reading only.
    ReadOnly,
    /// The memory is mapped for writing only, which an IOMMU can tell.
    WriteOnly,
    /// The program knows where the memory is, but the kernel may move it at any time: it is not in huge pages.
    Movable,
    /// The program has not asked where the memory is, or has given it back since.
    Unknown,
    /// The memory was mapped once, and is not any more.
    AfterUnmap {
        /// How many calls of the program ago it was unmapped.
        calls: u64,
    },
    /// The memory starts right behind what is mapped.
    PastEnd,
    /// The memory is mapped, but the program has taken it away from its address space in a way that the machine has not seen.
    Gone,
    /// Nothing is mapped there or was.
    Outside,
}

/// A mapping, as a finding tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Its IOVA.
    pub iova: u64,
    /// Its length in bytes.
    pub length: u64,
    /// The physical address of that page of it which the finding is about, or which is nearest; `None` behind an IOMMU, where
    /// devices know IOVAs only.
    pub physical: Option<u64>,
}

/// An access that a device was not entitled to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The device's address on the bus.
    pub device: Arc<str>,
    /// What it was executing.
    pub doing: Option<Doing>,
    /// The direction.
    pub access: Access,
    /// The first byte that it was not entitled to: a physical address, or an IOVA.
    pub address: u64,
    /// Whether that is an IOVA: the device is behind an IOMMU.
    pub iova: bool,
    /// How many bytes the access has from there on.
    pub length: u64,
    /// What was wrong.
    pub why: Why,
    /// The mapping that it has to do with, or the nearest one within 2 MiB.
    pub mapping: Option<Mapped>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { device, doing, access, address, iova, length, why, mapping } = self;
        write!(f, "{device} ")?;
        if let Some(doing) = doing {
            write!(f, "{doing} ")?;
        }
        let verb = match access {
            Access::Read => "reads",
            Access::Write => "writes",
        };
        let bytes = if *length == 1 { "byte" } else { "bytes" };
        let space = if *iova { "IOVA " } else { "" };
        write!(f, "{verb} {length} {bytes} at {space}{}: {why}", Address(*address))?;
        match (mapping, why) {
            (None, _) => Ok(()),
            (Some(mapping), Why::AfterUnmap { .. }) => write!(f, " (was {mapping})"),
            (Some(mapping), Why::Outside) => match mapping.physical {
                Some(address) => write!(f, " (nearest: {} of {mapping})", Address(address)),
                None => write!(f, " (nearest: {mapping})"),
            },
            (Some(mapping), _) => write!(f, " ({mapping})"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Why::BusMasterOff => f.write_str("bus mastering is off"),
            Why::BeyondMask { bits } => write!(f, "beyond the {bits} address bits of the device"),
            Why::BeyondAperture { bits } => write!(f, "beyond the {bits} bits of an IOVA"),
            Why::NoDomain => f.write_str("the device is attached to nothing that memory could be mapped in"),
            Why::ReadOnly => f.write_str("mapped for reading only"),
            Why::WriteOnly => f.write_str("mapped for writing only"),
            Why::Movable => {
                f.write_str("the kernel may move that memory at any time: it is not in huge pages")
            }
            Why::Unknown => f.write_str("the program has not read that address from /proc/self/pagemap"),
            Why::AfterUnmap { calls: 0 } => f.write_str("unmapped just now"),
            Why::AfterUnmap { calls: 1 } => f.write_str("unmapped 1 call ago"),
            Why::AfterUnmap { calls } => write!(f, "unmapped {calls} calls ago"),
            Why::PastEnd => f.write_str("past the end of a mapping"),
            Why::Gone => {
                f.write_str("the program has unmapped or protected that memory while the device had it")
            }
            Why::Outside => f.write_str("not mapped"),
        }
    }
}

impl fmt::Display for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IOVA {:#x}, {}", self.iova, Size(self.length))
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Doing { what, queue, id } = *self;
        match (queue, id) {
            (None, None) => f.write_str(what),
            (Some(queue), None) => write!(f, "{what} (queue {queue})"),
            (None, Some(id)) => write!(f, "{what} (command {id})"),
            (Some(queue), Some(id)) => write!(f, "{what} (queue {queue}, command {id})"),
        }
    }
}

/// A physical address, in groups of four digits: `0x1_2345_6000`.
struct Address(u64);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:x}", self.0);
        f.write_str("0x")?;
        for (at, digit) in digits.char_indices() {
            if at > 0 && (digits.len() - at).is_multiple_of(4) {
                f.write_str("_")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// A number of bytes, in the largest unit that divides it: `2 MiB`, `12 KiB`, `100 bytes`.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.into_iter().find(|&(bits, _)| self.0 > 0 && self.0.trailing_zeros() >= bits) {
            Some((bits, unit)) => write!(f, "{} {unit}", self.0 >> bits),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(why: Why, mapping: Option<Mapped>) -> String {
        let doing = Doing { what: "WRITE", queue: Some(1), id: Some(17) };
        Finding {
            device: "0000:01:00.0".into(),
            doing: Some(doing),
            access: Access::Read,
            address: 0x1_2345_6000,
            iova: false,
            length: 4096,
            why,
            mapping,
        }
        .to_string()
    }

    #[test]
    fn findings_read_well() {
        let mapping = Some(Mapped { iova: 0x20_0000, length: 2 << 20, physical: Some(0x1_2345_5000) });
        let start = "0000:01:00.0 WRITE (queue 1, command 17) reads 4096 bytes at 0x1_2345_6000: ";
        for (finding, end) in [
            (
                finding(Why::AfterUnmap { calls: 3 }, mapping),
                "unmapped 3 calls ago (was IOVA 0x200000, 2 MiB)",
            ),
            (finding(Why::PastEnd, mapping), "past the end of a mapping (IOVA 0x200000, 2 MiB)"),
            (finding(Why::Outside, mapping), "not mapped (nearest: 0x1_2345_5000 of IOVA 0x200000, 2 MiB)"),
            (finding(Why::Outside, None), "not mapped"),
            (finding(Why::BusMasterOff, None), "bus mastering is off"),
        ] {
            assert_eq!(finding, format!("{start}{end}"));
        }
    }

    #[test]
    fn sizes_and_addresses_read_well() {
        assert_eq!(Size(12 << 10).to_string(), "12 KiB");
        assert_eq!(Size(100).to_string(), "100 bytes");
        assert_eq!(Address(0).to_string(), "0x0");
        assert_eq!(Address(0xabc_def0).to_string(), "0xabc_def0");
    }
}
