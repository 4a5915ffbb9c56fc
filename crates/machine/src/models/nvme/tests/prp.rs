//! Where data lies in memory: every valid form, and every invalid one.

use super::*;

const READ: u8 = 0x02;
const WRITE: u8 = 0x01;

/// A host with one I/O queue pair, whose namespace has a different byte pattern in each block.
fn host() -> (Host, Pair) {
    let mut host = Host::enabled(16384);
    let mut pair = host.create_pair(1, 16, false);
    for block in 0..BLOCKS {
        host.rig.store(DATA + block * 512, &pattern(block));
    }
    let data = host.rig.address(DATA);
    store_list(&host, LIST, &(1..BLOCKS / 8).map(|page| data + page * 4096).collect::<Vec<_>>());
    let list = host.rig.address(LIST);
    host.io(&mut pair, Host::transfer(WRITE, 0, BLOCKS as u32, [data, list])).unwrap();
    host.rig.store(DATA, &vec![0; BLOCKS as usize * 512]);
    (host, pair)
}

/// Blocks that have a pattern: 512 pages, which one page of a PRP list can describe.
const BLOCKS: u64 = 4096;

fn pattern(block: u64) -> [u8; 512] {
    std::array::from_fn(|at| (block * 7 + at as u64 * 3 + block / 256) as u8)
}

fn expected(first: u64, bytes: usize) -> Vec<u8> {
    (first..).flat_map(pattern).take(bytes).collect()
}

fn store_list(host: &Host, at: u64, entries: &[u64]) {
    host.rig.store(at, &entries.iter().flat_map(|entry| entry.to_le_bytes()).collect::<Vec<_>>());
}

#[test]
fn one_entry_may_start_anywhere_in_a_page() {
    let (mut host, mut pair) = host();
    for (offset, blocks) in [(0, 1), (0, 8), (4, 1), (512, 7), (4096 - 512, 1)] {
        let data = host.rig.address(DATA + offset);
        host.io(&mut pair, Host::transfer(READ, 5, blocks, [data, 0xffff_ffff_ffff_ffff])).unwrap();
        let bytes = blocks as usize * 512;
        assert_eq!(host.rig.load(DATA + offset, bytes), expected(5, bytes), "{offset} {blocks}");
    }
}

#[test]
fn two_entries_need_not_be_neighbours() {
    let (mut host, mut pair) = host();
    let prp = [host.rig.address(DATA + 0x800), host.rig.address(DATA + 0x9000)];
    host.io(&mut pair, Host::transfer(READ, 100, 12, prp)).unwrap();
    let all = expected(100, 12 * 512);
    assert_eq!(host.rig.load(DATA + 0x800, 0x800), all[..0x800]);
    assert_eq!(host.rig.load(DATA + 0x9000, 0x1000), all[0x800..]);
    assert_eq!(host.rig.load(DATA + 0xa000, 4), [0; 4]);
}

#[test]
fn a_list_gives_its_pages_in_any_order() {
    let (mut host, mut pair) = host();
    let pages: Vec<u64> = (0..32).map(|page| (page * 13 + 5) % 32).collect();
    let addresses: Vec<u64> = pages.iter().map(|page| host.rig.address(DATA + page * 4096)).collect();
    store_list(&host, LIST + 0x18, &addresses[1..]);
    let prp = [addresses[0], host.rig.address(LIST + 0x18)];
    host.io(&mut pair, Host::transfer(READ, 0, 256, prp)).unwrap();
    for (at, page) in (0..).zip(pages) {
        assert_eq!(host.rig.load(DATA + page * 4096, 4096), expected(at * 8, 4096), "page {page}");
    }
    assert!(host.rig.take_findings().is_empty());
}

#[test]
fn a_list_goes_on_where_its_last_entry_points() {
    let (mut host, mut pair) = host();
    let data: Vec<u64> = (0..64).map(|page| host.rig.address(DATA + page * 4096)).collect();
    // The list starts with its page's last four slots: three entries and the way to the next page.
    let next = LIST + 0x3000;
    store_list(&host, LIST + 4096 - 32, &[data[1], data[2], data[3], host.rig.address(next)]);
    store_list(&host, next, &data[4..]);
    let prp = [data[0], host.rig.address(LIST + 4096 - 32)];
    host.io(&mut pair, Host::transfer(READ, 0, 512, prp)).unwrap();
    assert_eq!(host.rig.load(DATA, 512 * 512), expected(0, 512 * 512));

    // With four entries left the fourth slot is an entry, and no way to anywhere.
    host.rig.store(DATA, &[0; 5 * 4096]);
    store_list(&host, LIST + 4096 - 8, &[data[4]]);
    host.io(&mut pair, Host::transfer(READ, 0, 40, prp)).unwrap();
    assert_eq!(host.rig.load(DATA, 5 * 4096), expected(0, 5 * 4096));
    assert!(host.rig.take_findings().is_empty());
}

#[test]
fn a_list_may_start_with_the_way_to_its_next_page() {
    let (mut host, mut pair) = host();
    let data: Vec<u64> = (0..4).map(|page| host.rig.address(DATA + page * 4096)).collect();
    store_list(&host, LIST + 4096 - 8, &[host.rig.address(LIST + 0x2000)]);
    store_list(&host, LIST + 0x2000, &data[1..]);
    let prp = [data[0], host.rig.address(LIST + 4096 - 8)];
    host.io(&mut pair, Host::transfer(READ, 64, 32, prp)).unwrap();
    assert_eq!(host.rig.load(DATA, 4 * 4096), expected(64, 4 * 4096));
}

#[test]
fn the_largest_transfer_takes_a_list_of_three_pages() {
    let (mut host, mut pair) = host();
    // 1024 pages and a bit: 4 MiB that start inside a page.
    let data: Vec<u64> = (0..=1024).map(|page| host.rig.address(DATA + page * 4096)).collect();
    let lists: Vec<u64> = (0..3).map(|page| host.rig.address(LIST + page * 4096)).collect();
    store_list(&host, LIST, &data[1..512]);
    store_list(&host, LIST + 511 * 8, &[lists[1]]);
    store_list(&host, LIST + 4096, &data[512..1023]);
    store_list(&host, LIST + 4096 + 511 * 8, &[lists[2]]);
    store_list(&host, LIST + 8192, &data[1023..]);
    let prp = [data[0] + 512, lists[0]];
    host.io(&mut pair, Host::transfer(READ, 0, 8192, prp)).unwrap();
    assert_eq!(host.rig.load(DATA + 512, 2 << 20), expected(0, 2 << 20));
    let error = host.io(&mut pair, Host::transfer(READ, 0, 8193, prp));
    assert_eq!(error, Err(INVALID_FIELD), "a block more");
    let error = host.io(&mut pair, Host::transfer(WRITE, 0, 65536, prp));
    assert_eq!(error, Err(INVALID_FIELD));
}

#[test]
fn larger_host_pages_take_fewer_entries() {
    let (mut host, mut pair) = host();
    host.write(CC, 0);
    host.write(CC, ENABLE | 4 << 7);
    host.admin = Pair::new(0, ADMIN_ENTRIES);
    host.rig.store(host.admin.completion, &[0; 16 * ADMIN_ENTRIES as usize]);
    pair = Pair { tail: 0, head: 0, phase: 1, ..host.create_pair(pair.id, 16, false) };
    let prp = [host.rig.address(DATA + 0x8000), host.rig.address(DATA + 0x4_0000)];
    host.io(&mut pair, Host::transfer(READ, 0, 192, prp)).unwrap();
    assert_eq!(host.rig.load(DATA + 0x8000, 0x8000), expected(0, 0x8000));
    assert_eq!(host.rig.load(DATA + 0x4_0000, 0x1_0000), expected(64, 0x1_0000));
    let misaligned = [prp[0], prp[1] + 0x1000];
    let error = host.io(&mut pair, Host::transfer(READ, 0, 192, misaligned));
    assert_eq!(error, Err(PRP_OFFSET_INVALID), "on a page of 4 KiB, but not of 64 KiB");
}

#[test]
fn every_misplaced_entry_is_refused_before_anything_moves() {
    let (mut host, mut pair) = host();
    let base = host.rig.address(DATA);
    let data = |page: u64| base + page * 4096;
    let list = host.rig.address(LIST);
    let one_page = [list + 4096 - 16, list + 4096 - 8];
    let cases: [(&str, u32, [u64; 2], &[u64]); 10] = [
        ("first entry not on a dword", 1, [data(0) + 2, 0], &[]),
        ("first entry odd", 8, [data(0) + 1, 0], &[]),
        ("second entry inside a page", 16, [data(0), data(1) + 512], &[]),
        ("second entry off by a byte", 16, [data(0), data(1) + 1], &[]),
        ("list not on a qword", 24, [data(0), list + 4], &[data(1), data(2)]),
        ("first entry of the list inside a page", 24, [data(0), list], &[data(1) + 8, data(2)]),
        ("last entry of the list inside a page", 24, [data(0), list], &[data(1), data(2) + 512]),
        ("entry of the list off by a byte", 32, [data(0), list], &[data(1), data(2) | 1, data(3)]),
        ("next page of the list inside a page", 32, [data(0), one_page[0]], &[data(1), list + 0x2008]),
        ("next page of the list, at once", 32, [data(0), one_page[1]], &[list + 0x2008]),
    ];
    for opcode in [READ, WRITE] {
        for (what, blocks, prp, entries) in cases {
            store_list(&host, LIST + (prp[1] & !7).saturating_sub(list) % 4096, entries);
            let error = host.io(&mut pair, Host::transfer(opcode, 0, blocks, prp));
            assert_eq!(error, Err(PRP_OFFSET_INVALID), "{what}");
            assert_eq!(host.rig.load(DATA, 4 * 4096), vec![0; 4 * 4096], "{what}: nothing was read");
        }
    }
    let prp = [data(0), 0];
    host.io(&mut pair, Host::transfer(READ, 0, 8, prp)).unwrap();
    assert_eq!(host.rig.load(DATA, 4096), expected(0, 4096), "nothing was written");
    assert!(host.rig.take_findings().is_empty());
}

#[test]
fn forbidden_memory_is_a_transfer_error_that_names_the_command() {
    let (mut host, mut pair) = host();
    let data = host.rig.address(DATA);
    let list = host.rig.address(LIST);
    store_list(&host, LIST, &[data + 4096, 0x7000]);
    let cases = [
        (READ, "READ", [0x5000, 0], 8, 0x5000),
        (WRITE, "WRITE", [0x5000, 0], 8, 0x5000),
        (READ, "READ", [data, 0x6000], 16, 0x6000),
        (READ, "READ", [data, 0x6000], 24, 0x6000),
        (WRITE, "WRITE", [data, list], 24, 0x7000),
    ];
    for (opcode, name, prp, blocks, address) in cases {
        let command = pair.next_command;
        let error = host.io(&mut pair, Host::transfer(opcode, 0, blocks, prp));
        assert_eq!(error, Err(DATA_TRANSFER_ERROR), "{name} {prp:x?}");
        let findings = host.rig.take_findings();
        let [(Some(doing), at)] = findings[..] else { panic!("{findings:?}") };
        assert_eq!((doing.what, doing.queue, doing.id), (name, Some(1), Some(command.into())));
        assert_eq!(at, address);
    }
    assert_eq!(host.read(CSTS), READY, "the controller goes on");
}

#[test]
fn admin_data_follows_the_same_rules() {
    let mut host = Host::enabled(8);
    let data = host.rig.address(DATA);
    let identify = |prp1, prp2| Entry::new(0x06).dword(10, 1).prp(prp1, prp2);
    host.admin(identify(data + 0x800, data + 0x4000)).unwrap();
    assert_eq!(host.rig.load(DATA + 0x804, 6), *b"TEST 1");
    assert_eq!(host.rig.load(DATA + 0x4000, 2), 2500u16.to_le_bytes(), "power state 0, at 2048");
    assert_eq!(host.admin(identify(data + 2, 0)), Err(PRP_OFFSET_INVALID));
    assert_eq!(host.admin(identify(data + 0x800, data + 4)), Err(PRP_OFFSET_INVALID));
    assert_eq!(host.admin(identify(0x5000, 0)), Err(DATA_TRANSFER_ERROR));
    assert_eq!(host.rig.take_findings().len(), 1);
}
