//! Blocks: reading, writing, zeroing, flushing, and media that fail.

use std::io::Write;
use std::os::unix::fs::FileExt;

use super::*;
use crate::models::nvme::namespace::NamespaceError;

const FLUSH: u8 = 0x00;
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
const WRITE_ZEROES: u8 = 0x08;

const FORCE_UNIT_ACCESS: u32 = 1 << 30;

/// A host with one I/O queue pair, and the address of its data.
fn ready(namespace: Namespace) -> (Host, Pair, [u64; 2]) {
    let mut host = Host::with(namespace);
    host.enable();
    let pair = host.create_pair(1, 16, false);
    let data = host.rig.address(DATA);
    (host, pair, [data, data + 4096])
}

fn memory(blocks: u64) -> Namespace {
    Namespace::memory(blocks * 512).unwrap()
}

fn image(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn what_was_written_is_read_back() {
    let file = image(&[0; 64 * 512]);
    for namespace in [memory(64), Namespace::image(file.path()).unwrap()] {
        let (mut host, mut pair, data) = ready(namespace);
        let bytes: Vec<u8> = (0..16 * 512).map(|at| (at % 251) as u8).collect();
        host.rig.store(DATA, &bytes);
        host.io(&mut pair, Host::transfer(WRITE, 48, 16, data)).unwrap();
        host.rig.store(DATA, &[0; 16 * 512]);
        host.io(&mut pair, Host::transfer(READ, 48, 16, data)).unwrap();
        assert_eq!(host.rig.load(DATA, 16 * 512), bytes);
        host.io(&mut pair, Host::transfer(READ, 40, 8, data)).unwrap();
        assert_eq!(host.rig.load(DATA, 4096), [0; 4096], "its neighbours are as they were");
    }
}

#[test]
fn zeroes_are_written_without_data_and_beyond_the_largest_transfer() {
    let file = image(&vec![7; 20000 * 512]);
    let (mut host, mut pair, _) = ready(Namespace::image(file.path()).unwrap());
    host.io(&mut pair, Host::transfer(WRITE_ZEROES, 1, 19998, [1, 1])).unwrap();
    let mut bytes = vec![0; 20000 * 512];
    file.as_file().read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes[..512].iter().chain(&bytes[19999 * 512..]).all(|&byte| byte == 7));
    assert!(bytes[512..19999 * 512].iter().all(|&byte| byte == 0));
    let error = host.io(&mut pair, Host::transfer(WRITE_ZEROES, 0, 20001, [0, 0]));
    assert_eq!(error, Err(LBA_OUT_OF_RANGE));
}

#[test]
fn the_last_block_is_the_last() {
    let (mut host, mut pair, data) = ready(memory(64));
    for opcode in [READ, WRITE, WRITE_ZEROES] {
        host.io(&mut pair, Host::transfer(opcode, 63, 1, data)).unwrap();
        for (first, blocks) in [(64, 1), (63, 2), (0, 65), (u64::MAX, 1), (u64::MAX, 2), (1 << 55, 1)] {
            let error = host.io(&mut pair, Host::transfer(opcode, first, blocks, data));
            assert_eq!(error, Err(LBA_OUT_OF_RANGE), "{first} {blocks}");
        }
    }
}

#[test]
fn there_is_one_namespace() {
    let (mut host, mut pair, data) = ready(memory(64));
    for namespace in [0, 2, 0xffff_ffff] {
        for opcode in [READ, WRITE, WRITE_ZEROES] {
            let entry = Host::transfer(opcode, 0, 1, data).namespace(namespace);
            assert_eq!(host.io(&mut pair, entry), Err(INVALID_NAMESPACE), "{opcode} {namespace:#x}");
        }
    }
    for (namespace, result) in [(1, Ok(0)), (0xffff_ffff, Ok(0)), (0, Err(INVALID_NAMESPACE))] {
        assert_eq!(host.io(&mut pair, Entry::new(FLUSH).namespace(namespace)), result);
    }
}

#[test]
fn commands_that_the_controller_does_not_have_are_refused() {
    let (mut host, mut pair, data) = ready(memory(64));
    for opcode in [0x04, 0x05, 0x09, 0x0d, 0x0e, 0x11, 0x15, 0x7f, 0x80, 0xff] {
        assert_eq!(host.io(&mut pair, Host::transfer(opcode, 0, 1, data)), Err(INVALID_OPCODE));
    }
    for flags in [0x40, 0x80, 0xc0, 0x01, 0x02, 0x03] {
        let entry = Host::transfer(READ, 0, 1, data);
        let entry = entry.dword(0, entry.0[0] | flags << 8);
        assert_eq!(host.io(&mut pair, entry), Err(INVALID_FIELD), "flags {flags:#x}");
    }
}

#[test]
fn an_image_is_written_in_place() {
    let file = image(&[1; 8 * 512]);
    let (mut host, mut pair, data) = ready(Namespace::image(file.path()).unwrap());
    host.rig.store(DATA, &[2; 512]);
    host.io(&mut pair, Host::transfer(WRITE, 3, 1, data)).unwrap();
    host.io(&mut pair, Entry::new(FLUSH).namespace(1)).unwrap();
    host.rig.store(DATA, &[3; 512]);
    host.io(&mut pair, Host::transfer(WRITE, 4, 1, data).dword(12, FORCE_UNIT_ACCESS)).unwrap();
    host.admin(Entry::new(0x09).dword(10, 0x06).dword(11, 0)).unwrap();
    host.rig.store(DATA, &[4; 512]);
    host.io(&mut pair, Host::transfer(WRITE, 5, 1, data)).unwrap();
    // Whatever happens to the process now: the file has it.
    let bytes = std::fs::read(file.path()).unwrap();
    let blocks: Vec<u8> = bytes.chunks(512).map(|block| block[0]).collect();
    assert_eq!(blocks, [1, 1, 1, 2, 3, 4, 1, 1]);
    assert!(bytes.chunks(512).all(|block| block.iter().all(|&byte| byte == block[0])));
}

#[test]
fn a_write_that_fails_to_fetch_its_data_leaves_the_image_alone() {
    let file = image(&[1; 16 * 512]);
    let (mut host, mut pair, [data, _]) = ready(Namespace::image(file.path()).unwrap());
    let error = host.io(&mut pair, Host::transfer(WRITE, 0, 16, [data, 0x5000]));
    assert_eq!(error, Err(DATA_TRANSFER_ERROR));
    assert_eq!(std::fs::read(file.path()).unwrap(), [1; 16 * 512]);
}

#[test]
fn an_image_that_shrinks_is_a_read_error() {
    let file = image(&[1; 64 * 512]);
    let (mut host, mut pair, data) = ready(Namespace::image(file.path()).unwrap());
    file.as_file().set_len(32 * 512).unwrap();
    host.io(&mut pair, Host::transfer(READ, 31, 1, data)).unwrap();
    let failed = host.execute(&mut pair, Host::transfer(READ, 31, 2, data));
    assert_eq!(failed.outcome(), Err(UNRECOVERED_READ_ERROR));
    assert_eq!(failed.status >> 15, 0, "it may be retried");
}

#[test]
fn an_image_that_cannot_be_written_is_a_write_fault() {
    let file = image(&[1; 8 * 512]);
    // A descriptor that does not allow what the namespace believes it may do.
    let unwritable = std::fs::File::open(file.path()).unwrap();
    let (mut host, mut pair, data) = ready(Namespace::of_file(unwritable, true, file.path()).unwrap());
    for opcode in [WRITE, WRITE_ZEROES] {
        let failed = host.execute(&mut pair, Host::transfer(opcode, 0, 1, data));
        assert_eq!(failed.outcome(), Err(WRITE_FAULT));
        assert_eq!(failed.status >> 15, 0, "it may be retried");
    }
    assert_eq!(host.read(CSTS), READY);
}

#[test]
fn an_image_that_may_only_be_read_is_write_protected() {
    let file = image(&[1; 8 * 512]);
    let (mut host, mut pair, data) =
        ready(Namespace::of_file(file.reopen().unwrap(), false, file.path()).unwrap());
    host.io(&mut pair, Host::transfer(READ, 0, 8, data)).unwrap();
    assert_eq!(host.rig.load(DATA, 4096), [1; 4096]);
    for opcode in [WRITE, WRITE_ZEROES] {
        assert_eq!(host.io(&mut pair, Host::transfer(opcode, 0, 8, data)), Err(WRITE_PROTECTED));
    }
    host.io(&mut pair, Entry::new(FLUSH).namespace(1)).unwrap();
    host.admin(Entry::new(0x06).namespace(1).prp(data[0], 0)).unwrap();
    assert_eq!(host.rig.load(DATA + 99, 1), [1], "identify says so too");
}

#[test]
fn an_image_has_one_writer_or_any_number_of_readers() {
    let file = image(&[1; 8 * 512]);
    let reader = || Namespace::of_file(file.reopen().unwrap(), false, file.path());
    let refused = |result: Result<Namespace, NamespaceError>| {
        let text = result.unwrap_err().to_string();
        assert!(text.contains(file.path().to_str().unwrap()) && text.contains("in use"), "{text}");
    };
    let writer = Namespace::image(file.path()).unwrap();
    refused(Namespace::image(file.path()));
    refused(reader());
    drop(writer);
    let readers = [reader().unwrap(), reader().unwrap()];
    refused(Namespace::image(file.path()));
    drop(readers);
    Namespace::image(file.path()).unwrap();
}

#[test]
fn what_cannot_be_a_namespace_is_refused_by_name() {
    let error = |result: Result<Namespace, NamespaceError>| result.unwrap_err().to_string();
    let odd = image(&[0; 1000]);
    let empty = image(&[]);
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("disk.img");
    let text = error(Namespace::image(odd.path()));
    assert!(text.contains(odd.path().to_str().unwrap()) && text.contains("1000"), "{text}");
    let text = error(Namespace::image(empty.path()));
    assert!(text.contains("empty"), "{text}");
    let text = error(Namespace::image(&missing));
    assert!(text.contains("disk.img") && text.contains("No such file"), "{text}");
    assert!(Namespace::image(folder.path()).is_err());
    assert!(error(Namespace::memory(0)).contains("0 bytes"));
    assert!(error(Namespace::memory(513)).contains("513 bytes"));
    assert!(error(Namespace::memory(1 << 62)).contains("memory"));
}
