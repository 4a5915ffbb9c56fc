//! What a driver reads and writes there.

use super::super::function::Place;
use super::super::sriov::Role;
use super::build::{CAPABILITIES, ID_EXPRESS, ID_MSI, ID_MSIX, ID_POWER};
use super::*;
use crate::model::{Bar, Express, Identity, MsixSpec};

fn identity() -> Identity {
    let mut bars = [None; 6];
    bars[0] = Some(Bar { size: 16384, kind: BarKind::Memory64 });
    bars[2] = Some(Bar { size: 64, kind: BarKind::Io });
    Identity {
        vendor: 0x1b36,
        device: 0x0010,
        subsystem_vendor: 0x1af4,
        subsystem: 0x1100,
        revision: 2,
        class: 0x01_08_02,
        bars,
        line: true,
        msi: Some(8),
        msix: Some(MsixSpec {
            vectors: 33,
            table_bar: 0,
            table_offset: 0x2000,
            pending_bar: 0,
            pending_offset: 0x3000,
        }),
        express: Some(Express { function_reset: true }),
        dma_bits: 64,
    }
}

fn config() -> ConfigSpace {
    let place = Place {
        number: subsystem::Function(0),
        address: "0000:00:03.0".parse().unwrap(),
        several: false,
        addresses: [0x80_0000_4000, 0, 0xc040, 0, 0, 0],
        rom: None,
        role: Role::Plain,
    };
    ConfigSpace::new(&identity(), None, &place)
}

fn capability(config: &ConfigSpace, id: u8) -> u16 {
    let mut at = config.read(CAPABILITIES, 1, false) as u16;
    while at != 0 {
        if config.read(at, 1, false) == u32::from(id) {
            return at;
        }
        at = config.read(at + 1, 1, false) as u16;
    }
    panic!("no capability {id:#x}");
}

#[test]
fn the_header_tells_the_identity() {
    let config = config();
    assert_eq!(config.size(), 4096);
    assert_eq!(config.read(0, 4, false), 0x0010_1b36);
    assert_eq!(config.read(8, 4, false), 0x0108_0202);
    assert_eq!(config.read(0x2c, 4, false), 0x1100_1af4);
    assert_eq!(config.read(0x3d, 1, false), 1);
    assert_eq!(config.read(STATUS, 2, false), 0x10);
    assert_eq!(config.read(STATUS, 2, true), 0x18);
    assert_eq!(config.read(4096, 4, false), 0xffff_ffff);
}

#[test]
fn bars_answer_their_size_when_all_ones_are_written() {
    let mut config = config();
    assert_eq!(config.read(0x10, 4, false), 0x0000_4004);
    assert_eq!(config.read(0x14, 4, false), 0x80);
    for at in [0x10, 0x14, 0x18] {
        config.write(at, 4, 0xffff_ffff);
    }
    assert_eq!(config.read(0x10, 4, false), 0xffff_c004);
    assert_eq!(config.read(0x14, 4, false), 0xffff_ffff);
    assert_eq!(config.read(0x18, 4, false), 0xffff_ffc1);
    config.write(0x1c, 4, 0xffff_ffff);
    assert_eq!(config.read(0x1c, 4, false), 0, "an absent BAR stays 0");
}

#[test]
fn identity_is_read_only() {
    let mut config = config();
    config.write(0, 4, 0);
    assert_eq!(config.read(0, 4, false), 0x0010_1b36);
}

#[test]
fn the_reset_bit_is_noticed_in_every_width_and_reads_zero() {
    let mut config = config();
    let control = capability(&config, ID_EXPRESS) + 8;
    assert!(config.write(control, 2, 0xa810));
    assert!(config.write(control, 4, 0xa810));
    assert!(config.write(control + 1, 1, 0xa8));
    assert!(!config.write(control, 2, 0x2810));
    assert!(!config.write(control, 1, 0x80));
    assert_eq!(config.read(control, 2, false) & 0x8000, 0);
}

#[test]
fn decoding_needs_its_enable_bit_and_full_power() {
    let mut config = config();
    let power = capability(&config, ID_POWER) + 4;
    config.write(COMMAND, 2, 0);
    assert!(!config.decodes(BarKind::Memory64));
    config.write(COMMAND, 2, u32::from(command::MEMORY));
    assert!(config.decodes(BarKind::Memory64) && !config.decodes(BarKind::Io));
    config.write(power, 2, 3);
    assert!(!config.decodes(BarKind::Memory64));
    config.write(power, 2, 0);
    assert!(config.decodes(BarKind::Memory64));
}

#[test]
fn a_reset_leaves_what_the_bus_core_restores() {
    let mut config = config();
    let (power, express) = (capability(&config, ID_POWER), capability(&config, ID_EXPRESS));
    for (at, value) in
        [(COMMAND, 0x0406), (power + 4, 3), (express + 8, 0x5810), (0x3c, 11), (0x10, 0xfeb0_0000)]
    {
        config.write(at, 4, value);
    }
    config.enable_msix(true);
    let before: Vec<u32> = [0x10, 0x14, 0x18, 0x3c].map(|at| config.read(at, 4, false)).to_vec();
    config.reset();
    assert_eq!((config.command(), config.read(power + 4, 2, false)), (0, 8));
    assert_eq!(config.read(express + 8, 2, false), 0x2810);
    assert_eq!([0x10, 0x14, 0x18, 0x3c].map(|at| config.read(at, 4, false)).to_vec(), before);
    assert_eq!(config.read(capability(&config, ID_MSIX) + 2, 2, false) & 0x8000, 0x8000);
}

#[test]
fn vectors_show_in_the_capabilities() {
    let mut config = config();
    let (msi, msix) = (capability(&config, ID_MSI), capability(&config, ID_MSIX));
    assert_eq!(config.read(msi + 2, 2, false), 0x86);
    config.enable_msi(Some(3));
    assert_eq!(config.read(msi + 2, 2, false), 0xa7, "three vectors need four");
    config.enable_msi(None);
    assert_eq!(config.read(msi + 2, 2, false), 0x86);
    config.enable_msix(true);
    assert_eq!(config.read(msix + 2, 2, false), 0x8020);
}
