//! Asynchronous events and aborts.

use super::*;

const REQUEST: u8 = 0x0c;

/// Puts `count` event requests into the admin queue and lets the controller see them.
fn request(host: &mut Host, count: usize) -> Vec<u16> {
    let mut admin = host.admin;
    let ids = (0..count).map(|_| host.push(&mut admin, Entry::new(REQUEST))).collect();
    host.ring_tail(&admin);
    host.run();
    host.admin = admin;
    ids
}

fn take(host: &mut Host) -> Option<Completed> {
    let mut admin = host.admin;
    let completed = host.take(&mut admin);
    host.admin = admin;
    completed
}

fn read_log(host: &mut Host, page: u32, retain: bool) {
    let dword = page | 15 << 16 | u32::from(retain) << 15;
    host.admin(Entry::new(0x02).dword(10, dword).prp(host.rig.address(DATA), 0)).unwrap();
}

/// Rings a doorbell in a way that is an error.
fn ring_wrongly(host: &mut Host, value: u32) {
    host.rig.doorbells().store(8, value);
    host.run();
}

#[test]
fn requests_stay_until_something_happens_and_four_are_kept() {
    let mut host = Host::enabled(8);
    let ids = request(&mut host, 5);
    let refused = take(&mut host).unwrap();
    assert_eq!((refused.command, refused.outcome()), (ids[4], Err(ASYNC_EVENT_LIMIT)));
    assert_eq!(take(&mut host), None);
}

#[test]
fn a_wrong_doorbell_value_is_an_event_and_is_ignored() {
    let mut host = Host::enabled(8);
    let mut pair = host.create_pair(1, 8, false);
    let ids = request(&mut host, 2);
    ring_wrongly(&mut host, 8);
    let event = take(&mut host).unwrap();
    assert_eq!((event.command, event.outcome()), (ids[0], Ok(0x01_01_00)));
    ring_wrongly(&mut host, 9);
    assert_eq!(take(&mut host), None, "not before the log was read");
    read_log(&mut host, 1, true);
    ring_wrongly(&mut host, 10);
    assert_eq!(take(&mut host), None, "the event was retained");
    read_log(&mut host, 1, false);
    ring_wrongly(&mut host, 11);
    assert_eq!(take(&mut host).unwrap().command, ids[1]);
    assert_eq!(host.read(CSTS), READY);
    host.io(&mut pair, Entry::new(0x00).namespace(1)).unwrap();
}

#[test]
fn a_head_that_passes_the_tail_is_an_event() {
    let mut host = Host::enabled(8);
    host.create_pair(1, 8, false);
    let ids = request(&mut host, 1);
    host.rig.doorbells().store(12, 1);
    host.run();
    let event = take(&mut host).unwrap();
    assert_eq!((event.command, event.outcome()), (ids[0], Ok(0x01_01_00)));
}

#[test]
fn a_doorbell_of_no_queue_is_an_event() {
    let mut host = Host::enabled(8);
    let ids = request(&mut host, 1);
    ring_wrongly(&mut host, 1);
    let event = take(&mut host).unwrap();
    assert_eq!((event.command, event.outcome()), (ids[0], Ok(0x01_00_00)));
}

#[test]
fn the_doorbells_of_a_deleted_queue_are_no_event() {
    let mut host = Host::enabled(8);
    let mut pair = host.create_pair(1, 8, false);
    request(&mut host, 1);
    host.io(&mut pair, Entry::new(0x00).namespace(1)).unwrap();
    host.admin(Entry::new(0x00).dword(10, 1)).unwrap();
    host.admin(Entry::new(0x04).dword(10, 1)).unwrap();
    host.run();
    assert_eq!(take(&mut host), None);
}

#[test]
fn an_event_waits_for_a_request() {
    let mut host = Host::enabled(8);
    ring_wrongly(&mut host, 1);
    let ids = request(&mut host, 1);
    assert_eq!(take(&mut host).unwrap().command, ids[0]);
}

#[test]
fn a_temperature_threshold_is_an_event_if_asked_for() {
    let mut host = Host::enabled(8);
    let ids = request(&mut host, 1);
    let threshold = |kelvin: u32| Entry::new(0x09).dword(10, 0x04).dword(11, kelvin);
    host.admin(threshold(300)).unwrap();
    assert_eq!(take(&mut host), None);
    host.admin(threshold(400)).unwrap();
    host.admin(Entry::new(0x09).dword(10, 0x0b).dword(11, 2)).unwrap();
    assert_eq!(take(&mut host), None, "it is not too warm any more");
    host.admin(threshold(310)).unwrap();
    let event = take(&mut host).unwrap();
    assert_eq!((event.command, event.outcome()), (ids[0], Ok(0x02_01_01)));
}

#[test]
fn an_event_request_can_be_aborted() {
    let mut host = Host::enabled(8);
    let ids = request(&mut host, 2);
    let abort = |queue: u32, id: u16| Entry::new(0x08).dword(10, queue | u32::from(id) << 16);
    assert_eq!(host.admin(abort(0, ids[0])), Ok(0), "aborted");
    let aborted = take(&mut host).unwrap();
    assert_eq!((aborted.command, aborted.outcome()), (ids[0], Err(ABORT_REQUESTED)));
    assert_eq!(host.admin(abort(0, ids[0])), Ok(1), "there is none any more");
    assert_eq!(host.admin(abort(1, ids[1])), Ok(1), "not in that queue");
    assert_eq!(host.admin(abort(0, 0x7777)), Ok(1));
    ring_wrongly(&mut host, 1);
    assert_eq!(take(&mut host).unwrap().command, ids[1]);
}

#[test]
fn an_identifier_in_use_is_a_conflict() {
    let mut host = Host::enabled(8);
    let ids = request(&mut host, 1);
    host.admin.next_command = ids[0];
    assert_eq!(host.admin(Entry::new(0x0a).dword(10, 0x07)), Err(COMMAND_ID_CONFLICT));
}

#[test]
fn a_reset_drops_requests_and_events() {
    let mut host = Host::enabled(8);
    request(&mut host, 4);
    host.write(CC, 0);
    host.enable();
    assert_eq!(request(&mut host, 4).len(), 4);
    assert_eq!(take(&mut host), None, "four are kept again");
}
