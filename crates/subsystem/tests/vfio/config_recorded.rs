//! Configuration space, byte for byte as vfio-pci of Linux 7.3 showed it on devices of QEMU
//! (`crates/driver/examples/config_space.rs` recorded it).

use subsystem::{FileId, Region, RegionKind};

use crate::client::{CONFIG, Client, machine};
use crate::support::function::TestFunction;

/// What was recorded of a function.
struct Recorded {
    /// Its bytes, and which bits of them a write changes.
    raw: Vec<u8>,
    writable: Vec<u8>,
    /// What vfio-pci showed: as it is, then after all ones and all zeroes in accesses of 1, 2 and 4 bytes.
    shown: Vec<[u8; 7]>,
}

impl Recorded {
    /// The function at an address in the recording.
    fn of(address: &str) -> Self {
        let text = include_str!("../config-space/linux-7.3.tsv");
        let head = format!("# {address}: ");
        let mut lines = text.lines().skip_while(|line| !line.starts_with(&head));
        let size =
            lines.next().and_then(|line| line[head.len()..].split(' ').next()).expect("it was recorded");
        let size: usize = size.parse().expect("a size");
        let mut recorded =
            Recorded { raw: vec![0; size], writable: vec![0; size], shown: vec![[0; 7]; size] };
        for line in lines.take_while(|line| !line.starts_with('#')) {
            let (range, columns) = line.split_once('\t').expect("columns");
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let hex = |text| usize::from_str_radix(text, 16).expect("a hexadecimal number");
            let bytes: Vec<u8> = columns.split('\t').map(|column| hex(column) as u8).collect();
            let [raw, ones, zeroes, shown @ ..] = &bytes[..] else { panic!("{line}") };
            for at in hex(first)..=hex(last) {
                recorded.raw[at] = *raw;
                recorded.writable[at] = ones & !zeroes;
                recorded.shown[at] = shown.try_into().expect("7 columns");
            }
        }
        recorded
    }

    /// The function, with the BARs that its registers tell.
    fn function(&self) -> TestFunction {
        let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let mut function = TestFunction::from_bytes(&self.raw, &self.writable);
        let mut index = 0;
        while index < 6 {
            let at = 0x10 + 4 * index;
            let (bar, mask) = (word(&self.raw, at), word(&self.writable, at));
            let wide = bar & 7 == 4;
            if mask != 0 {
                let low = if bar & 1 == 0 { bar & !0xf } else { bar & !3 };
                let high = if wide { u64::from(word(&self.raw, at + 4)) << 32 } else { 0 };
                let kind = match bar & 1 {
                    0 => RegionKind::Memory { wide, prefetchable: bar & 8 != 0 },
                    _ => RegionKind::Io,
                };
                let size = u64::from(mask.wrapping_neg());
                function.regions[index] = Some(Region { kind, size, address: u64::from(low) | high });
            }
            index += if wide { 2 } else { 1 };
        }
        function.line = (self.raw[0x3d] != 0).then_some(false);
        function.can_reset = true;
        function
    }
}

/// What a client sees of configuration space when it does what the recorder did.
fn shown(client: &Client, device: FileId, size: usize) -> Vec<[u8; 7]> {
    let word = |at: usize| {
        client.read(device, CONFIG + at as u64, 4).expect("configuration space").try_into().expect("4 bytes")
    };
    let before: Vec<u8> = (0..size).step_by(4).flat_map(|at| -> [u8; 4] { word(at) }).collect();
    let mut shown: Vec<[u8; 7]> = before.iter().map(|byte| [*byte; 7]).collect();
    for (column, width) in [(1, 1), (3, 2), (5, 4)] {
        for at in (0..size).step_by(width) {
            for (column, byte) in [(column, 0xff), (column + 1, 0)] {
                client.write(device, CONFIG + at as u64, &vec![byte; width]).expect("a write succeeds");
                let after: [u8; 4] = word(at & !3);
                for offset in 0..width {
                    shown[at + offset][column] = after[(at & 3) + offset];
                }
                let touched = if at < 256 { 0..256 } else { at & !3..at + 1 };
                for at in touched.step_by(4) {
                    if word(at)[..] != before[at..at + 4] {
                        client
                            .write(device, CONFIG + at as u64, &before[at..at + 4])
                            .expect("it is written back");
                    }
                }
            }
        }
    }
    shown
}

fn agrees(address: &str) {
    let recorded = Recorded::of(address);
    let vfio = machine(&[recorded.function()]);
    let (client, device) = Client::bound(&vfio);
    let shown = shown(&client, device, recorded.raw.len());
    let differences: Vec<String> = (0..recorded.raw.len())
        .filter(|&at| shown[at] != recorded.shown[at])
        .map(|at| format!("{at:#05x}: Linux {:02x?}, here {:02x?}", recorded.shown[at], shown[at]))
        .collect();
    assert!(differences.is_empty(), "{address}\n{}", differences.join("\n"));
}

#[test]
fn a_conventional_function_with_msi() {
    agrees("0000:00:03.0");
}

#[test]
fn an_nvme_controller() {
    agrees("0000:00:04.0");
}

#[test]
fn a_network_controller() {
    agrees("0000:00:06.0");
}
