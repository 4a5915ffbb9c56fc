//! Identify (NVMe 1.4, section 5.15): who the controller and its namespace are.

use super::command::ALL_NAMESPACES;
use super::events;
use super::features::WARNING_TEMPERATURE;
use super::log::{ERROR_ENTRIES, FIRMWARE};
use super::namespace::{BLOCK_BYTES, Namespace};
use super::registers::VERSION;
use super::status::Status;
use super::{MAX_TRANSFER, SUBSYSTEM_VENDOR, VENDOR};

/// Bytes of every identify structure.
pub(super) const IDENTIFY_BYTES: usize = 4096;

const MODEL: &[u8] = b"ioasis NVMe controller";

/// Write Zeroes; the SEL field of Get Features.
const OPTIONAL_COMMANDS: u16 = 1 << 3 | 1 << 4;

/// A volatile write cache is present, and a flush of all namespaces is supported.
const VOLATILE_WRITE_CACHE: u8 = 0b111;

/// Log pages may be read from an offset on, with a long length.
const EXTENDED_LOG_PAGES: u8 = 1 << 2;

const _: () = assert!(MAX_TRANSFER.is_power_of_two() && MAX_TRANSFER >= 4096);

type Structure = Box<[u8; IDENTIFY_BYTES]>;

/// The names that a controller goes by.
#[derive(Clone, Debug)]
pub(super) struct Names {
    serial: String,
    uuid: [u8; 16],
}

impl Names {
    /// From a serial number, of which 20 characters of printable ASCII count. The others follow from it.
    pub(super) fn new(serial: &str) -> Self {
        let printable = serial.chars().filter(|character| matches!(character, ' '..='~'));
        Names { serial: printable.take(20).collect(), uuid: uuid(serial) }
    }

    /// The structure that a "controller or namespace structure" value (CNS) names.
    pub(super) fn identify(
        &self,
        structure: u8,
        namespace_id: u32,
        namespace: &Namespace,
    ) -> Result<Structure, Status> {
        match (structure, namespace_id) {
            (0x00, 1) => Ok(namespace_structure(namespace)),
            (0x01, _) => Ok(self.controller_structure()),
            (0x02, 0xffff_fffe | ALL_NAMESPACES) => Err(Status::INVALID_NAMESPACE),
            (0x02, above) => Ok(active_list(above)),
            (0x03, 1) => Ok(self.namespace_descriptors()),
            (0x00 | 0x03, _) => Err(Status::INVALID_NAMESPACE),
            _ => Err(Status::INVALID_FIELD),
        }
    }

    fn controller_structure(&self) -> Structure {
        let mut page = Page::new();
        page.u16(0, VENDOR);
        page.u16(2, SUBSYSTEM_VENDOR);
        page.text(4, 20, self.serial.as_bytes());
        page.text(24, 40, MODEL);
        page.text(64, 8, FIRMWARE);
        page.u8(77, (MAX_TRANSFER / 4096).trailing_zeros() as u8);
        page.u32(80, VERSION);
        page.u8(111, 1); // an I/O controller
        page.u8(258, 3); // abort commands at a time, zero-based
        page.u8(259, events::LIMIT as u8 - 1);
        page.u8(260, 1 | 1 << 1); // firmware: the first slot is read-only, and is the only one
        page.u8(261, EXTENDED_LOG_PAGES);
        page.u8(262, ERROR_ENTRIES as u8 - 1);
        page.u16(266, WARNING_TEMPERATURE);
        page.u16(268, WARNING_TEMPERATURE + 30);
        page.u8(512, 6 | 6 << 4); // submission queue entries: 2^6 bytes
        page.u8(513, 4 | 4 << 4); // completion queue entries: 2^4 bytes
        page.u32(516, 1); // namespaces
        page.u16(520, OPTIONAL_COMMANDS);
        page.u8(525, VOLATILE_WRITE_CACHE);
        page.put(768, format!("nqn.2014-08.org.nvmexpress:uuid:{}", hyphenated(&self.uuid)).as_bytes());
        page.u16(2048, 2500); // power state 0: 25 W, in units of 0.01 W
        page.0
    }

    fn namespace_descriptors(&self) -> Structure {
        let mut page = Page::new();
        page.u8(0, 3); // a UUID
        page.u8(1, 16);
        page.put(4, &self.uuid);
        page.0
    }
}

fn namespace_structure(namespace: &Namespace) -> Structure {
    let mut page = Page::new();
    for field in [0, 8, 16] {
        page.put(field, &namespace.blocks().to_le_bytes()); // size, capacity, utilisation
    }
    page.u8(33, 1); // what was deallocated or never written reads as zeros
    page.u8(99, u8::from(!namespace.is_writable()));
    page.u8(130, BLOCK_BYTES.trailing_zeros() as u8); // LBA format 0
    page.0
}

/// The active namespaces with an identifier above `above`.
fn active_list(above: u32) -> Structure {
    let mut page = Page::new();
    if above == 0 {
        page.u32(0, 1);
    }
    page.0
}

struct Page(Structure);

impl Page {
    fn new() -> Self {
        Page(Box::new([0; IDENTIFY_BYTES]))
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn u8(&mut self, at: usize, value: u8) {
        self.0[at] = value;
    }

    fn u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    /// Text, filled up with spaces.
    fn text(&mut self, at: usize, length: usize, text: &[u8]) {
        self.0[at..at + length].fill(b' ');
        self.put(at, text);
    }
}

/// A UUID of version 8 (RFC 9562), in which all else is a hash (FNV-1a) of `name`.
fn uuid(name: &str) -> [u8; 16] {
    let hash = name.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    let mut uuid = hash.to_be_bytes();
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

fn hyphenated(uuid: &[u8; 16]) -> String {
    let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
