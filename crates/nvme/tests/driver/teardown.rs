//! What is left when queues and controllers go: nothing.

use machine::LayoutKind;
use nvme::{Completions, Error, Operation, Stream, Transfer};

use crate::common::*;

#[test]
fn a_queue_goes_with_commands_under_way() {
    for thread in [false, true] {
        let machine = machine(LayoutKind::Scattered, thread);
        let (controller, namespace) = bring_up(&machine, 1);
        for round in 0..20_u64 {
            let mut queue = controller.queue(64, Completions::Interrupt).unwrap();
            // The memory goes with the queue, whatever the controller still does.
            let memory = buffer(&controller, 64 << 10);
            for tag in 0..63 {
                let transfer = Transfer {
                    operation: Operation::Read,
                    namespace: &namespace,
                    lba: round * 128,
                    blocks: 128,
                    buffer: &memory,
                    offset: 0,
                };
                queue.submit(&transfer, tag).unwrap();
                // Some are told of, some are only in the ring.
                if tag == 40 {
                    queue.ring();
                }
            }
        }
        assert_eq!(machine.findings(), []);
    }
}

#[test]
fn a_controller_leaves_nothing_behind() {
    for thread in [false, true] {
        let machine = machine(LayoutKind::Scattered, thread);
        let before = machine.usage();
        for _ in 0..3 {
            let (controller, namespace) = bring_up(&machine, 2);
            let mut queue = controller.queue(1024, Completions::Interrupt).unwrap();
            let other = controller.queue(8, Completions::Polled).unwrap();
            assert_ne!(machine.usage(), before);
            // A queue keeps the controller up.
            drop(controller);
            queue.submit_flush(&namespace, 1).unwrap();
            succeed(&mut queue);
            drop(other);
        }
        assert_eq!(machine.usage(), before);
        assert_eq!(machine.findings(), []);
    }
}

#[test]
fn the_next_driver_finds_what_was_written() {
    let machine = plain();
    for round in 0..3 {
        let (controller, namespace) = bring_up(&machine, 0);
        let mut queue = controller.queue(4, Completions::Polled).unwrap();
        let memory = buffer(&controller, 4096);
        transfer(&mut queue, Operation::Read, &namespace, 5, (&memory, 0), 8).unwrap();
        assert_eq!(memory.read_u8(17), round);
        memory.fill(round + 1);
        transfer(&mut queue, Operation::Write, &namespace, 5, (&memory, 0), 8).unwrap();
    }
}

#[test]
fn a_stream_that_is_given_up_leaves_its_queue_empty() {
    for thread in [false, true] {
        let machine = machine(LayoutKind::Scattered, thread);
        let (controller, namespace) = bring_up(&machine, 0);
        let mut queue = controller.queue(32, Completions::Polled).unwrap();
        for _ in 0..10 {
            let mut stream = Stream::new(&controller, &mut queue, namespace).unwrap();
            let give_up = || Error::Argument { device: "nobody".into(), what: "enough".into() };
            let error = stream.read(0, namespace.blocks, |_| Err(give_up())).unwrap_err();
            assert_eq!(error.to_string(), "nobody: enough");
            assert!(stream.write(0, namespace.blocks, |_| Err(give_up())).is_err());
            stream.flush().unwrap();
            assert_eq!(queue.under_way(), 0);
        }
        assert_eq!(machine.findings(), []);
    }
}
