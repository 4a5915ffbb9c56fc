//! Records how vfio-pci virtualises the configuration space of devices, byte for byte, beside what the devices themselves
//! do without it.
//!
//! Give it the addresses of functions that are bound to vfio-pci and that nobody needs: it unbinds them, writes to every byte
//! of them, and binds them again. The tests of the subsystem hold our own virtualisation against what it prints
//! (`crates/subsystem/tests/config-space`):
//!
//! ```text
//! cargo xtask vm --ioasis target/…/examples/config_space -- ioasis 0000:00:03.0 0000:00:04.0
//! ```
//!
//! Each line is an offset, or several with the same bytes, and the bytes there: of the function, as they are and after all ones and all
//! zeroes were written; then as vfio-pci shows them, as they are and after writes of all ones and all zeroes in accesses of one,
//! of two and of four bytes. Offsets where all of these are zero are left out. All numbers are hexadecimal. After each write everything is written back.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

use ioasis::{Device, Linux, Options};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    for address in std::env::args().skip(1) {
        if let Err(failure) = record(&address) {
            eprintln!("error: {address}: {failure}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn record(address: &str) -> Result<(), Failure> {
    let driver = "/sys/bus/pci/drivers/vfio-pci";
    fs::write(format!("{driver}/unbind"), address)?;
    let raw = Raw::open(address).and_then(|raw| Probes::of(&raw, &[1]));
    fs::write(format!("{driver}/bind"), address)?;
    let raw = raw?;
    let device = Device::open(&Linux, address.parse()?, &Options::new().allow_noiommu(true))?;
    let shown = Probes::of(&Shown(&device, raw.before.len()), &[1, 2, 4])?;
    println!("# {address}: {} bytes", raw.before.len());
    let row = |at: usize| -> Vec<u8> {
        [&raw, &shown].into_iter().flat_map(|it| it.columns()).map(|column| column[at]).collect()
    };
    let mut at = 0;
    while at < raw.before.len() {
        let columns = row(at);
        let alike = (at..raw.before.len()).take_while(|&at| row(at) == columns).count();
        if columns.iter().any(|byte| *byte != 0) {
            let columns: Vec<String> = columns.iter().map(|byte| format!("{byte:02x}")).collect();
            let range = match alike {
                1 => format!("{at:03x}"),
                _ => format!("{at:03x}-{:03x}", at + alike - 1),
            };
            println!("{range}\t{}", columns.join("\t"));
        }
        at += alike;
    }
    Ok(())
}

/// A configuration space that can be read and written.
trait Space {
    fn size(&self) -> usize;
    /// Reads 4 bytes.
    fn read(&self, at: usize) -> Result<[u8; 4], Failure>;
    /// Writes 1, 2 or 4 bytes.
    fn write(&self, at: usize, bytes: &[u8]) -> Result<(), Failure>;
}

/// What became of writes.
struct Probes {
    before: Vec<u8>,
    /// By width: after all ones, and after all zeroes.
    after: Vec<[Vec<u8>; 2]>,
}

impl Probes {
    fn of(space: &impl Space, widths: &[usize]) -> Result<Self, Failure> {
        let mut before = Vec::new();
        for at in (0..space.size()).step_by(4) {
            before.extend(space.read(at)?);
        }
        let mut after = Vec::new();
        for &width in widths {
            let mut bytes = [before.clone(), before.clone()];
            for at in (0..space.size()).step_by(width) {
                for (ones, after) in [0xff, 0].into_iter().zip(&mut bytes) {
                    space.write(at, &vec![ones; width])?;
                    let word = space.read(at & !3)?;
                    after[at..at + width].copy_from_slice(&word[at & 3..][..width]);
                    restore(space, &before, at)?;
                }
            }
            after.push(bytes);
        }
        Ok(Probes { before, after })
    }

    fn columns(&self) -> impl Iterator<Item = &Vec<u8>> {
        std::iter::once(&self.before).chain(self.after.iter().flatten())
    }
}

/// Writes back what a write has changed: what does more than hold bits is in the first 256 bytes, and stays there.
fn restore(space: &impl Space, before: &[u8], at: usize) -> Result<(), Failure> {
    let touched = if at < 256 { 0..256 } else { at & !3..at + 1 };
    for at in touched.step_by(4) {
        if space.read(at)? != before[at..at + 4] {
            space.write(at, &before[at..at + 4])?;
        }
    }
    Ok(())
}

/// The function itself, without a driver.
struct Raw(File, usize);

impl Raw {
    fn open(address: &str) -> Result<Self, Failure> {
        let path = format!("/sys/bus/pci/devices/{address}/config");
        let size = fs::metadata(&path)?.len() as usize;
        Ok(Raw(File::options().read(true).write(true).open(path)?, size))
    }
}

impl Space for Raw {
    fn size(&self) -> usize {
        self.1
    }

    fn read(&self, at: usize) -> Result<[u8; 4], Failure> {
        let mut bytes = [0; 4];
        self.0.read_exact_at(&mut bytes, at as u64)?;
        Ok(bytes)
    }

    fn write(&self, at: usize, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.0.write_all_at(bytes, at as u64)?)
    }
}

/// The function as vfio-pci shows it.
struct Shown<'a>(&'a Device<Linux>, usize);

impl Space for Shown<'_> {
    fn size(&self) -> usize {
        self.1
    }

    fn read(&self, at: usize) -> Result<[u8; 4], Failure> {
        Ok(self.0.config().read_u32(at as u16)?.to_le_bytes())
    }

    fn write(&self, at: usize, bytes: &[u8]) -> Result<(), Failure> {
        let (config, at) = (self.0.config(), at as u16);
        match *bytes {
            [byte] => config.write_u8(at, byte)?,
            [low, high] => config.write_u16(at, u16::from_le_bytes([low, high]))?,
            [a, b, c, d] => config.write_u32(at, u32::from_le_bytes([a, b, c, d]))?,
            _ => return Err("an access has 1, 2 or 4 bytes".into()),
        }
        Ok(())
    }
}
