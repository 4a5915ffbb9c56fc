//! Registers, enabling and the ways to end.

use super::*;

#[test]
fn the_registers_say_what_the_controller_can_do() {
    let mut host = Host::disabled(8);
    let capabilities = u64::from(host.read(CAP)) | u64::from(host.read(CAP + 4)) << 32;
    assert_eq!(capabilities & 0xffff, 1023, "entries of a queue, zero-based");
    assert_eq!(capabilities >> 16 & 1, 1, "queues are contiguous");
    assert_eq!(capabilities >> 32 & 0xf, 0, "doorbell stride");
    assert_eq!(capabilities >> 37 & 1, 1, "NVM command set");
    assert_eq!(capabilities >> 48 & 0xff, 0x40, "pages from 4 KiB to 64 KiB");
    let wide = host.nvme.read(Register { bar: 0, offset: CAP, width: Width::U64 }, &mut host.rig.reach());
    assert_eq!(wide, capabilities);
    assert_eq!(host.read(0x08), 0x1_0400);
    assert_eq!(host.read(0x38), 0, "no controller memory buffer");
}

#[test]
fn narrow_accesses_read_their_part_and_write_nothing() {
    let mut host = Host::disabled(8);
    let mut narrow =
        |offset, width| host.nvme.read(Register { bar: 0, offset, width }, &mut host.rig.reach());
    assert_eq!(narrow(0x09, Width::U8) & 0xff, 0x04);
    assert_eq!(narrow(0x0a, Width::U16) & 0xffff, 0x0001);
    let at = Register { bar: 0, offset: AQA, width: Width::U16 };
    host.nvme.write(at, 0x7f, &mut host.rig.reach());
    assert_eq!(host.read(AQA), 0);
}

#[test]
fn what_cannot_be_enabled_is_a_fatal_status() {
    let bad: [(&str, u64, u32); 8] = [
        ("no submission queue entries", AQA, 31 << 16),
        ("no completion queue entries", AQA, 31),
        ("submission queue not on a 64 KiB page", CC, ENABLE | 4 << 7),
        ("page size too large", CC, ENABLE | 5 << 7),
        ("command set", CC, ENABLE | 1 << 4),
        ("arbitration", CC, ENABLE | 1 << 11),
        ("reserved command set", CC, ENABLE | 7 << 4),
        ("vendor specific arbitration", CC, ENABLE | 7 << 11),
    ];
    for (what, register, value) in bad {
        let mut host = Host::disabled(8);
        host.write(AQA, 31 | 31 << 16);
        host.write_wide(ASQ, host.rig.address(0x1000));
        host.write_wide(ACQ, host.rig.address(0x1_0000));
        host.write(register, value);
        host.write(CC, if register == CC { value } else { ENABLE });
        assert_eq!(host.read(CSTS), FATAL, "{what}");
        host.write(CC, 0);
        assert_eq!(host.read(CSTS), 0, "{what}: a reset clears it");
        host.enable();
    }
}

#[test]
fn a_controller_reset_forgets_queues_and_settings_and_keeps_the_data() {
    let mut host = Host::enabled(8);
    let mut pair = host.create_pair(1, 16, false);
    host.rig.store(DATA, &[7; 512]);
    let data = host.rig.address(DATA);
    host.io(&mut pair, Host::transfer(0x01, 3, 1, [data, 0])).unwrap();
    host.admin(Entry::new(0x09).dword(10, 0x06).dword(11, 0)).unwrap();

    host.write(CC, 0);
    assert_eq!(host.read(CSTS), 0);
    assert_eq!(host.rig.doorbells().load(8), 1, "a disabled controller leaves the doorbells alone");
    host.enable();
    assert_eq!(host.rig.doorbells().load(8), 0);
    assert_eq!(host.admin(Entry::new(0x0a).dword(10, 0x06)), Ok(1), "the write cache is on again");
    let deleted = host.admin(Entry::new(0x00).dword(10, 1));
    assert_eq!(deleted, Err(INVALID_QUEUE_IDENTIFIER), "the queue is gone");

    let mut pair = host.create_pair(1, 16, false);
    host.rig.store(DATA, &[0; 512]);
    host.io(&mut pair, Host::transfer(0x02, 3, 1, [data, 0])).unwrap();
    assert_eq!(host.rig.load(DATA, 512), [7; 512]);
}

#[test]
fn a_function_reset_leaves_the_registers_as_after_power_on() {
    let mut host = Host::enabled(8);
    host.write(INTMS, 5);
    host.nvme.reset(&mut host.rig.reach());
    for register in [INTMS, CC, CSTS, AQA, ASQ, ASQ + 4, ACQ, ACQ + 4] {
        assert_eq!(host.read(register), 0, "{register:#x}");
    }
    host.rig.doorbells().store(0, 1);
    host.run();
    assert_eq!(host.read(CSTS), 0, "a doorbell of a disabled controller does nothing");
    host.enable();
    assert!(host.admin(Entry::new(0x0a).dword(10, 0x07)).is_ok());
}

#[test]
fn a_shutdown_completes_and_ends_the_execution_of_commands() {
    for kind in [1, 2] {
        let mut host = Host::enabled(8);
        host.write(CC, ENABLE | kind << 14);
        assert_eq!(host.read(CSTS), READY | 2 << 2);
        let mut admin = host.admin;
        host.push(&mut admin, Entry::new(0x0a).dword(10, 0x07));
        host.ring_tail(&admin);
        host.run();
        assert_eq!(host.peek(&mut admin), None);
        host.write(CC, 0);
        assert_eq!(host.read(CSTS), 0);
        host.enable();
    }
}

#[test]
fn a_queue_in_forbidden_memory_is_fatal_and_a_reset_helps() {
    let mut host = Host::disabled(8);
    host.write(AQA, 31 | 31 << 16);
    host.write_wide(ASQ, 0x5000);
    host.write_wide(ACQ, 0x6000);
    host.write(CC, ENABLE);
    assert_eq!(host.read(CSTS), READY);
    host.rig.doorbells().store(0, 1);
    host.run();
    assert_eq!(host.read(CSTS), READY | FATAL);
    let (doing, address) = host.rig.take_findings()[0];
    assert_eq!(address, 0x5000);
    assert_eq!(doing.unwrap().queue, Some(0));
    host.run();
    assert_eq!(host.rig.take_findings(), [], "it has stopped");
    host.write(CC, 0);
    host.enable();
}

#[test]
fn a_completion_queue_in_forbidden_memory_is_fatal() {
    let mut host = Host::enabled(8);
    let completion = Entry::new(0x05).dword(10, 1 | 7 << 16).dword(11, 1);
    host.admin(completion.prp(0x5000, 0)).unwrap();
    let pair = Pair::new(1, 8);
    let submission = Entry::new(0x01).dword(10, 1 | 7 << 16).dword(11, 1 << 16 | 1);
    host.admin(submission.prp(host.rig.address(pair.submission), 0)).unwrap();
    host.rig.doorbells().store(8, 1);
    host.run();
    assert_eq!(host.read(CSTS), READY | FATAL);
    let (doing, address) = host.rig.take_findings()[0];
    assert_eq!((address, doing.unwrap().what, doing.unwrap().id), (0x5000, "completion", Some(0)));
}
