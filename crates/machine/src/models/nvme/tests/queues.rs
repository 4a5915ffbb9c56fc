//! Queues: creation, deletion, wrapping, fullness, interrupts.

use super::*;

fn create_completion(host: &Host, id: u32, entries: u32) -> Entry {
    let base = host.rig.address(Pair::new(1, 2).completion);
    Entry::new(0x05).dword(10, id | (entries - 1) << 16).dword(11, 1).prp(base, 0)
}

fn create_submission(host: &Host, id: u32, entries: u32, completion: u32) -> Entry {
    let base = host.rig.address(Pair::new(1, 2).submission);
    Entry::new(0x01).dword(10, id | (entries - 1) << 16).dword(11, completion << 16 | 1).prp(base, 0)
}

#[test]
fn every_invalid_completion_queue_is_refused() {
    let mut host = Host::enabled(8);
    let good = create_completion(&host, 1, 64);
    let bad = [
        ("identifier of the admin queue", create_completion(&host, 0, 64), INVALID_QUEUE_IDENTIFIER),
        ("identifier too large", create_completion(&host, 17, 64), INVALID_QUEUE_IDENTIFIER),
        ("one entry", create_completion(&host, 1, 1), INVALID_QUEUE_SIZE),
        ("too many entries", create_completion(&host, 1, 1025), INVALID_QUEUE_SIZE),
        ("not contiguous", good.dword(11, 0), INVALID_FIELD),
        ("not on a page", good.prp(host.rig.address(0x800), 0), PRP_OFFSET_INVALID),
        ("no such vector", good.dword(11, 32 << 16 | 3), INVALID_INTERRUPT_VECTOR),
        ("a vector without MSI-X", good.dword(11, 1 << 16 | 3), INVALID_INTERRUPT_VECTOR),
    ];
    for (what, entry, error) in bad {
        assert_eq!(host.admin(entry), Err(error), "{what}");
    }
    host.admin(good).unwrap();
    assert_eq!(host.admin(good), Err(INVALID_QUEUE_IDENTIFIER), "created twice");
}

#[test]
fn each_vector_of_msix_can_be_used_and_no_other() {
    let mut host = Host::disabled(8);
    host.rig.enable_messages(subsystem::IrqKind::MsiX, 1);
    host.enable();
    let vector = |vector: u32, interrupts: u32| vector << 16 | interrupts << 1 | 1;
    let entry = create_completion(&host, 1, 8);
    for interrupts in [0, 1] {
        let error = host.admin(entry.dword(11, vector(32, interrupts)));
        assert_eq!(error, Err(INVALID_INTERRUPT_VECTOR));
    }
    host.admin(entry.dword(11, vector(31, 1))).unwrap();
}

#[test]
fn every_invalid_submission_queue_is_refused() {
    let mut host = Host::enabled(8);
    assert_eq!(host.admin(create_submission(&host, 1, 64, 1)), Err(COMPLETION_QUEUE_INVALID));
    host.admin(create_completion(&host, 1, 64)).unwrap();
    let good = create_submission(&host, 1, 64, 1);
    let bad = [
        ("identifier of the admin queue", create_submission(&host, 0, 64, 1), INVALID_QUEUE_IDENTIFIER),
        ("identifier too large", create_submission(&host, 17, 64, 1), INVALID_QUEUE_IDENTIFIER),
        ("admin completion queue", create_submission(&host, 1, 64, 0), INVALID_QUEUE_IDENTIFIER),
        ("completion identifier too large", create_submission(&host, 1, 64, 17), INVALID_QUEUE_IDENTIFIER),
        ("no such completion queue", create_submission(&host, 1, 64, 2), COMPLETION_QUEUE_INVALID),
        ("one entry", create_submission(&host, 1, 1, 1), INVALID_QUEUE_SIZE),
        ("too many entries", create_submission(&host, 1, 1025, 1), INVALID_QUEUE_SIZE),
        ("not contiguous", good.dword(11, 1 << 16), INVALID_FIELD),
        ("not on a page", good.prp(host.rig.address(0x40), 0), PRP_OFFSET_INVALID),
    ];
    for (what, entry, error) in bad {
        assert_eq!(host.admin(entry), Err(error), "{what}");
    }
    host.admin(good).unwrap();
    assert_eq!(host.admin(good), Err(INVALID_QUEUE_IDENTIFIER), "created twice");
}

#[test]
fn only_as_many_queues_as_granted_can_be_created() {
    let mut host = Host::enabled(8);
    assert_eq!(host.admin(Entry::new(0x09).dword(10, 0x07).dword(11, 3 << 16 | 1)), Ok(3 << 16 | 1));
    host.create_pair(2, 8, false);
    assert_eq!(host.admin(create_completion(&host, 5, 8)), Err(INVALID_QUEUE_IDENTIFIER));
    assert_eq!(host.admin(create_submission(&host, 3, 8, 2)), Err(INVALID_QUEUE_IDENTIFIER));
}

#[test]
fn queue_entries_of_another_size_are_refused() {
    let mut host = Host::enabled(8);
    host.write(CC, 1);
    assert_eq!(host.admin(create_completion(&host, 1, 8)), Err(INVALID_QUEUE_SIZE));
}

#[test]
fn queues_are_deleted_submission_first() {
    let mut host = Host::enabled(8);
    host.create_pair(1, 8, false);
    let delete_submission = Entry::new(0x00).dword(10, 1);
    let delete_completion = Entry::new(0x04).dword(10, 1);
    assert_eq!(host.admin(delete_completion), Err(INVALID_QUEUE_DELETION));
    for opcode in [0x00, 0x04] {
        for id in [0, 2, 17, 0xffff] {
            assert_eq!(host.admin(Entry::new(opcode).dword(10, id)), Err(INVALID_QUEUE_IDENTIFIER));
        }
    }
    host.admin(delete_submission).unwrap();
    assert_eq!(host.admin(delete_submission), Err(INVALID_QUEUE_IDENTIFIER));
    host.admin(delete_completion).unwrap();
    assert_eq!(host.admin(delete_completion), Err(INVALID_QUEUE_IDENTIFIER));
    let mut pair = host.create_pair(1, 8, false);
    host.io(&mut pair, Entry::new(0x00).namespace(1)).unwrap();
}

#[test]
fn a_queue_created_again_starts_at_its_beginning() {
    let mut host = Host::enabled(8);
    let mut pair = host.create_pair(1, 8, false);
    for _ in 0..3 {
        host.io(&mut pair, Entry::new(0x00).namespace(1)).unwrap();
    }
    host.admin(Entry::new(0x00).dword(10, 1)).unwrap();
    host.admin(Entry::new(0x04).dword(10, 1)).unwrap();
    let mut pair = host.create_pair(1, 8, false);
    host.run();
    assert_eq!(host.peek(&mut pair.clone()), None, "the old doorbell starts nothing");
    host.io(&mut pair, Entry::new(0x00).namespace(1)).unwrap();
}

#[test]
fn a_thousand_commands_of_depth_1024_complete_in_order() {
    let mut host = Host::enabled(8);
    let mut pair = host.create_pair(1, 1024, false);
    for round in 0..3 {
        let ids: Vec<u16> = (0..1023).map(|_| host.push(&mut pair, Entry::new(0x00).namespace(1))).collect();
        host.ring_tail(&pair);
        host.run();
        for id in ids {
            let completed = host.peek(&mut pair).unwrap_or_else(|| panic!("round {round}, command {id}"));
            assert_eq!((completed.command, completed.outcome()), (id, Ok(0)));
        }
        assert_eq!(host.peek(&mut pair.clone()), None);
        host.ring_head(&pair);
    }
}

#[test]
fn a_queue_at_the_end_of_the_address_space_is_no_overflow() {
    let mut host = Host::enabled(8);
    host.admin(create_completion(&host, 1, 1024)).unwrap();
    host.admin(create_submission(&host, 1, 1024, 1).prp(!0xfff, 0)).unwrap();
    host.rig.doorbells().store(8, 1000);
    host.run();
    assert_eq!(host.read(CSTS), READY | FATAL);
}

#[test]
fn phase_tags_turn_over_with_each_round() {
    let mut host = Host::enabled(8);
    let mut pair = host.create_pair(1, 3, false);
    for _ in 0..20 {
        host.io(&mut pair, Entry::new(0x00).namespace(1)).unwrap();
    }
}

#[test]
fn sixteen_pairs_work_side_by_side() {
    let mut host = Host::enabled(64);
    let mut pairs: Vec<Pair> = (1..=16).map(|id| host.create_pair(id, 8, false)).collect();
    for pair in &mut pairs {
        let at = DATA + u64::from(pair.id) * 512;
        host.rig.store(at, &[pair.id as u8; 512]);
        let data = host.rig.address(at);
        host.push(pair, Host::transfer(0x01, pair.id.into(), 1, [data, 0]));
        host.ring_tail(pair);
    }
    host.run();
    for pair in &mut pairs {
        let completed = host.take(pair).unwrap();
        assert_eq!((completed.queue, completed.outcome()), (pair.id, Ok(0)));
    }
    let data = host.rig.address(DATA);
    host.io(&mut pairs[0], Host::transfer(0x02, 1, 8, [data, 0])).unwrap();
    for id in 1..=8 {
        assert_eq!(host.rig.load(DATA + (id - 1) * 512, 512), [id as u8; 512]);
    }
}

#[test]
fn two_submission_queues_share_a_completion_queue() {
    let mut host = Host::enabled(8);
    let mut first = host.create_pair(1, 8, false);
    let mut second = Pair::new(2, 8);
    let base = host.rig.address(second.submission);
    host.admin(create_submission(&host, 2, 8, 1).prp(base, 0)).unwrap();
    host.push(&mut first, Entry::new(0x00).namespace(1));
    host.push(&mut second, Entry::new(0x00).namespace(1));
    host.ring_tail(&first);
    host.ring_tail(&second);
    host.run();
    let mut queues = [host.take(&mut first).unwrap().queue, host.take(&mut first).unwrap().queue];
    queues.sort();
    assert_eq!(queues, [1, 2]);
}

#[test]
fn a_full_completion_queue_holds_execution_up() {
    let mut host = Host::enabled(8);
    let mut pair = host.create_pair(1, 4, false);
    let base = host.rig.address(pair.submission);
    host.admin(create_submission(&host, 2, 16, 1).prp(base + 0x8000, 0)).unwrap();
    let mut second = Pair { submission: pair.submission + 0x8000, ..Pair::new(2, 16) };
    for _ in 0..10 {
        host.push(&mut second, Entry::new(0x00).namespace(1));
    }
    host.ring_tail(&second);
    let mut seen = 0;
    for expected in [3, 3, 3, 1] {
        host.run();
        for _ in 0..expected {
            assert_eq!(host.peek(&mut pair).unwrap().command, seen);
            seen += 1;
        }
        let mut beyond = pair;
        assert_eq!(host.peek(&mut beyond), None);
        host.ring_head(&pair);
    }
}

#[test]
fn each_queue_interrupts_with_its_vector_once_per_batch() {
    let mut host = Host::disabled(8);
    host.rig.enable_messages(subsystem::IrqKind::MsiX, 4);
    host.enable();
    let mut loud = host.create_pair(3, 16, true);
    let mut quiet = host.create_pair(2, 16, false);
    assert!(host.rig.take_messages(0) > 0, "the admin queue has vector 0");
    for _ in 0..10 {
        host.push(&mut loud, Entry::new(0x00).namespace(1));
        host.push(&mut quiet, Entry::new(0x00).namespace(1));
    }
    host.ring_tail(&loud);
    host.ring_tail(&quiet);
    host.run();
    let messages: Vec<u64> = (0..4).map(|vector| host.rig.take_messages(vector)).collect();
    assert_eq!(messages, [0, 0, 0, 1]);
    assert!(!host.rig.line());
}

#[test]
fn without_msix_the_line_stays_up_until_everything_is_consumed() {
    let mut host = Host::enabled(8);
    let mut admin = host.admin;
    for _ in 0..2 {
        host.push(&mut admin, Entry::new(0x0a).dword(10, 0x07));
    }
    host.ring_tail(&admin);
    host.run();
    assert!(host.rig.line());
    host.write(INTMS, 1);
    assert!(!host.rig.line(), "masked");
    assert_eq!((host.read(INTMS), host.read(INTMC)), (1, 1));
    host.write(INTMC, 1);
    assert!(host.rig.line(), "unmasked");
    host.take(&mut admin).unwrap();
    host.run();
    assert!(host.rig.line(), "one is left");
    host.take(&mut admin).unwrap();
    host.run();
    assert!(!host.rig.line());
}
