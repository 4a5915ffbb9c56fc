//! Identify, features, log pages and whatever else goes to the admin queue.

use super::*;

fn identify(host: &mut Host, structure: u32, namespace: u32) -> Result<Vec<u8>, Error> {
    let entry = Entry::new(0x06).namespace(namespace).dword(10, structure);
    host.rig.store(DATA, &[0xee; 4096]);
    host.admin(entry.prp(host.rig.address(DATA), 0))?;
    Ok(host.rig.load(DATA, 4096))
}

#[test]
fn identify_describes_the_controller() {
    let mut host = Host::enabled(8);
    let page = identify(&mut host, 1, 0).unwrap();
    assert_eq!(page[0..2], [0x36, 0x1b]);
    assert_eq!(page[4..24], *b"TEST 1              ");
    assert!(page[24..64].starts_with(b"ioasis"));
    assert_eq!(page[77], 10, "2^10 pages: 4 MiB");
    assert_eq!(page[80..84], [0, 4, 1, 0]);
    assert_eq!((page[512], page[513]), (0x66, 0x44));
    assert_eq!(page[516..520], [1, 0, 0, 0]);
    assert_eq!(page[525] & 1, 1, "volatile write cache");
    assert!(page[768..].starts_with(b"nqn.2014-08.org.nvmexpress:uuid:"));
    assert_eq!(page[768 + 32 + 36], 0);
}

#[test]
fn identify_describes_the_namespace() {
    let mut host = Host::enabled(1234);
    let page = identify(&mut host, 0, 1).unwrap();
    for field in [0, 8, 16] {
        assert_eq!(page[field..field + 8], 1234u64.to_le_bytes());
    }
    assert_eq!((page[25], page[26], page[130]), (0, 0, 9), "one format, of 512-byte blocks");
    let list = identify(&mut host, 2, 0).unwrap();
    assert_eq!((&list[..4], list[4..].iter().any(|&byte| byte != 0)), (&[1, 0, 0, 0][..], false));
    assert!(identify(&mut host, 2, 1).unwrap().iter().all(|&byte| byte == 0));
    let descriptors = identify(&mut host, 3, 1).unwrap();
    assert_eq!(descriptors[..4], [3, 16, 0, 0]);
    assert_eq!((descriptors[10] >> 4, descriptors[20]), (8, 0), "a UUID of version 8, and nothing else");
}

#[test]
fn identify_refuses_what_is_not_there() {
    let mut host = Host::enabled(8);
    for (structure, namespace, error) in [
        (0, 0, INVALID_NAMESPACE),
        (0, 2, INVALID_NAMESPACE),
        (0, 0xffff_ffff, INVALID_NAMESPACE),
        (2, 0xffff_fffe, INVALID_NAMESPACE),
        (2, 0xffff_ffff, INVALID_NAMESPACE),
        (3, 2, INVALID_NAMESPACE),
        (4, 0, INVALID_FIELD),
        (0x10, 0, INVALID_FIELD),
        (0xff, 0, INVALID_FIELD),
    ] {
        assert_eq!(identify(&mut host, structure, namespace), Err(error), "{structure} {namespace:#x}");
    }
}

fn set(feature: u32, value: u32) -> Entry {
    Entry::new(0x09).dword(10, feature).dword(11, value)
}

fn get(feature: u32) -> Entry {
    Entry::new(0x0a).dword(10, feature)
}

#[test]
fn features_read_back_as_set_and_default_as_they_were() {
    let mut host = Host::enabled(8);
    for (feature, value) in [
        (0x01, 0x0102_0304),
        (0x02, 0),
        (0x05, 0x1_0203),
        (0x06, 0),
        (0x08, 0x0a05),
        (0x0a, 1),
        (0x0b, 0x0000_0001),
    ] {
        let namespace = if feature == 0x05 { 1 } else { 0 };
        let before = host.admin(get(feature).namespace(namespace)).unwrap();
        host.admin(set(feature, value).namespace(namespace)).unwrap();
        assert_eq!(host.admin(get(feature).namespace(namespace)), Ok(value), "{feature:#x}");
        let default = host.admin(get(feature | 1 << 8).namespace(namespace));
        assert_eq!(default, Ok(before), "{feature:#x}");
        let capabilities = host.admin(get(feature | 3 << 8).namespace(namespace)).unwrap();
        assert_eq!(capabilities, if feature == 0x05 { 6 } else { 4 }, "{feature:#x}");
    }
}

#[test]
fn features_with_a_selector_are_kept_apart() {
    let mut host = Host::enabled(8);
    host.admin(set(0x09, 5 | 1 << 16)).unwrap();
    assert_eq!(host.admin(get(0x09).dword(11, 5)), Ok(5 | 1 << 16));
    assert_eq!(host.admin(get(0x09).dword(11, 4)), Ok(4));
    assert_eq!(host.admin(get(0x09).dword(11, 32)), Err(INVALID_FIELD));
    assert_eq!(host.admin(set(0x09, 32)), Err(INVALID_FIELD));
    host.admin(set(0x04, 1 << 20 | 300)).unwrap();
    assert_eq!(host.admin(get(0x04).dword(11, 1 << 20)), Ok(300));
    assert_eq!(host.admin(get(0x04)), Ok(343));
    assert_eq!(host.admin(set(0x04, 1 << 16)), Err(INVALID_FIELD), "there is one sensor");
    assert_eq!(host.admin(set(0x04, 2 << 20)), Err(INVALID_FIELD));
}

#[test]
fn the_number_of_queues_is_granted_up_to_sixteen_and_only_before_there_are_any() {
    let mut host = Host::enabled(8);
    assert_eq!(host.admin(get(0x07)), Ok(15 << 16 | 15));
    assert_eq!(host.admin(set(0x07, 0xffff)), Err(INVALID_FIELD));
    assert_eq!(host.admin(set(0x07, 0xffff_0000)), Err(INVALID_FIELD));
    assert_eq!(host.admin(set(0x07, 100 << 16 | 7)), Ok(15 << 16 | 7));
    host.create_pair(1, 8, false);
    assert_eq!(host.admin(set(0x07, 0)), Err(COMMAND_SEQUENCE_ERROR));
    assert_eq!(host.admin(get(0x07)), Ok(15 << 16 | 7));
}

#[test]
fn features_that_cannot_be_are_refused() {
    let mut host = Host::enabled(8);
    assert_eq!(host.admin(get(0x03)), Err(INVALID_FIELD));
    assert_eq!(host.admin(set(0xc0, 0)), Err(INVALID_FIELD));
    assert_eq!(host.admin(get(0x06 | 4 << 8)), Err(INVALID_FIELD), "reserved selector");
    assert_eq!(host.admin(set(0x06 | 1 << 31, 0)), Err(FEATURE_NOT_SAVEABLE));
    assert_eq!(host.admin(set(0x06, 0).namespace(1)), Err(FEATURE_NOT_NAMESPACE_SPECIFIC));
    assert_eq!(host.admin(set(0x05, 0).namespace(2)), Err(INVALID_NAMESPACE));
    assert_eq!(host.admin(get(0x05).namespace(2)), Err(INVALID_NAMESPACE));
    assert_eq!(host.admin(set(0x02, 1)), Err(INVALID_FIELD), "there is one power state");
}

fn get_log(host: &Host, page: u32, dwords: u32) -> Entry {
    let numbers = dwords - 1;
    let entry = Entry::new(0x02).namespace(0xffff_ffff).prp(host.rig.address(DATA), 0);
    entry.dword(10, page | numbers << 16).dword(11, numbers >> 16)
}

#[test]
fn log_pages_have_the_sizes_asked_for() {
    let mut host = Host::enabled(8);
    for (page, bytes) in [(1, 16 * 64), (2, 512), (3, 512)] {
        for asked in [4, 64, bytes] {
            host.rig.store(DATA, &[0xee; 4096]);
            host.admin(get_log(&host, page, asked / 4)).unwrap();
            let data = host.rig.load(DATA, 4096);
            assert!(data[asked as usize..].iter().all(|&byte| byte == 0xee), "page {page}, {asked} bytes");
        }
        host.rig.store(DATA, &[0xee; 4096]);
        host.admin(get_log(&host, page, 1024)).unwrap();
        assert_eq!(host.rig.load(DATA, 4096)[bytes as usize], 0xee, "nothing behind the end");
    }
    host.admin(get_log(&host, 2, 128)).unwrap();
    let health = host.rig.load(DATA, 512);
    assert_eq!((health[0], u16::from_le_bytes([health[1], health[2]])), (0, 310));
    host.admin(get_log(&host, 2, 1).dword(12, 0)).unwrap();
    host.rig.store(DATA, &[0xee; 8]);
    host.admin(get_log(&host, 3, 2).dword(12, 8)).unwrap();
    assert_eq!(host.rig.load(DATA, 8), *b"1.4     ", "from an offset on");
}

#[test]
fn log_pages_that_cannot_be_are_refused() {
    let mut host = Host::enabled(8);
    let good = get_log(&host, 2, 128);
    for (what, entry, error) in [
        ("page 0", get_log(&host, 0, 1), INVALID_LOG_PAGE),
        ("page 5", get_log(&host, 5, 1), INVALID_LOG_PAGE),
        ("of a namespace", good.namespace(1), INVALID_FIELD),
        ("offset not on a dword", good.dword(12, 2), INVALID_FIELD),
        ("offset behind the end", good.dword(12, 516), INVALID_FIELD),
        ("offset far behind the end", good.dword(13, 1), INVALID_FIELD),
        ("longer than a transfer", get_log(&host, 2, 0x10_0001), INVALID_FIELD),
    ] {
        assert_eq!(host.admin(entry), Err(error), "{what}");
    }
}

#[test]
fn the_error_log_names_the_command_that_failed() {
    let mut host = Host::enabled(8);
    let mut pair = host.create_pair(1, 8, false);
    let data = host.rig.address(DATA);
    let failed = host.execute(&mut pair, Host::transfer(0x02, 9, 1, [data, 0]));
    assert_eq!(failed.outcome(), Err(LBA_OUT_OF_RANGE));
    assert_eq!(failed.status >> 14, 0b11, "do not retry; see the log");
    host.admin(get_log(&host, 1, 32)).unwrap();
    let entry = host.rig.load(DATA, 64);
    assert_eq!(entry[0..8], 1u64.to_le_bytes());
    assert_eq!(entry[8..12], [1, 0, failed.command as u8, 0]);
    assert_eq!(u16::from_le_bytes([entry[12], entry[13]]) >> 1 & 0x7ff, LBA_OUT_OF_RANGE.0);
    assert_eq!(entry[16..28], [9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(host.rig.load(DATA + 64, 8), [0; 8], "there was one");
}

#[test]
fn the_error_log_keeps_the_newest() {
    let mut host = Host::enabled(8);
    for _ in 0..20 {
        host.admin(Entry::new(0xff)).unwrap_err();
    }
    host.admin(get_log(&host, 1, 256)).unwrap();
    let page = host.rig.load(DATA, 1024);
    let counts: Vec<u64> =
        page.chunks(64).map(|entry| u64::from_le_bytes(entry[..8].try_into().unwrap())).collect();
    assert_eq!(counts, (5..=20).rev().collect::<Vec<_>>());
}

#[test]
fn the_health_log_counts() {
    let mut host = Host::enabled(4096);
    let mut pair = host.create_pair(1, 8, false);
    let data = host.rig.address(DATA);
    host.rig.store(LIST, &(1..128).flat_map(|page| (data + page * 4096).to_le_bytes()).collect::<Vec<_>>());
    let list = host.rig.address(LIST);
    for _ in 0..2 {
        host.io(&mut pair, Host::transfer(0x02, 0, 1024, [data, list])).unwrap();
    }
    host.io(&mut pair, Host::transfer(0x01, 0, 1, [data, 0])).unwrap();
    host.io(&mut pair, Entry::new(0x99).namespace(1)).unwrap_err();
    host.admin(get_log(&host, 2, 128)).unwrap();
    let health = host.rig.load(DATA, 512);
    let counter = |at: usize| u128::from_le_bytes(health[at..at + 16].try_into().unwrap());
    assert_eq!((counter(32), counter(48)), (3, 1), "thousands of blocks read and written");
    assert_eq!((counter(64), counter(80)), (2, 1), "commands");
    assert_eq!(counter(176), 1, "errors");
}

#[test]
fn commands_that_the_controller_does_not_have_are_refused() {
    let mut host = Host::enabled(8);
    for opcode in [0x03, 0x07, 0x0b, 0x0d, 0x10, 0x11, 0x18, 0x80, 0x84, 0xc0, 0xff] {
        assert_eq!(host.admin(Entry::new(opcode)), Err(INVALID_OPCODE), "{opcode:#x}");
    }
    for flags in [0x40, 0x80, 0xc0, 0x01, 0x02, 0x03] {
        let entry = get(0x07);
        assert_eq!(host.admin(entry.dword(0, entry.0[0] | flags << 8)), Err(INVALID_FIELD), "{flags:#x}");
    }
}
