//! Reads and writes: every layout, alignment, way to run the device and to learn of completions.

use machine::{LayoutKind, Machine};
use nvme::{Completions, Namespace, Operation, Queue, Transfer};

use crate::common::*;

/// Writes a pattern from one offset of memory, and reads it back to another.
fn there_and_back(machine: Machine, completions: Completions) {
    let (controller, namespace) = bring_up(&machine, 1);
    let mut queue = controller.queue(8, completions).unwrap();
    let memory = buffer(&controller, 256 << 10);
    // Within one page, over a boundary, with one entry and with a list; lengths of one block to the longest
    // here.
    for (seed, offset) in [0, 4, 512, 3580, 3584, 4092, 4096, 6000].into_iter().enumerate() {
        for blocks in [1, 7, 8, 9, 16, 17, 200] {
            let length = blocks * BLOCK;
            let lba = (seed * 300) as u64;
            let bytes = pattern(length, seed as u64);
            memory.fill(0xee);
            memory.write_at(offset, &bytes);
            let place = (&memory, offset);
            transfer(&mut queue, Operation::Write, &namespace, lba, place, blocks as u32).unwrap();
            assert_eq!(stored(&machine, lba as usize * BLOCK, length), bytes);

            let to = 128 << 10 | (offset & !3) ^ 4;
            transfer(&mut queue, Operation::Read, &namespace, lba, (&memory, to), blocks as u32).unwrap();
            let mut all = vec![0; 256 << 10];
            memory.read_at(0, &mut all);
            assert_eq!(all[to..to + length], bytes, "{blocks} blocks at {offset}");
            let beside = all[..offset].iter().chain(&all[offset + length..to]).chain(&all[to + length..]);
            assert!(beside.into_iter().all(|&byte| byte == 0xee), "{blocks} blocks at {offset}");
        }
    }
    assert_eq!(machine.findings(), []);
}

#[test]
fn bytes_come_back_in_every_layout_and_way() {
    for layout in LAYOUTS {
        for thread in [false, true] {
            for completions in [Completions::Polled, Completions::Interrupt] {
                there_and_back(machine(layout, thread), completions);
            }
        }
    }
}

#[test]
fn bytes_come_back_through_an_iommu() {
    for layout in LAYOUTS {
        there_and_back(machine_behind_iommu(layout, false), Completions::Polled);
        there_and_back(machine_behind_iommu(layout, true), Completions::Interrupt);
    }
}

#[test]
fn the_longest_transfer_starts_anywhere_in_a_page() {
    let machine = plain();
    let (controller, namespace) = bring_up(&machine, 0);
    let mut queue = controller.queue(4, Completions::Polled).unwrap();
    let longest = queue.max_transfer();
    let memory = buffer(&controller, longest + 4096);
    let bytes = pattern(longest, 1);
    let blocks = (longest / BLOCK) as u32;
    memory.write_at(4, &bytes);
    transfer(&mut queue, Operation::Write, &namespace, 3, (&memory, 4), blocks).unwrap();
    memory.fill(0);
    transfer(&mut queue, Operation::Read, &namespace, 3, (&memory, 4092), blocks).unwrap();
    let mut back = vec![0; longest];
    memory.read_at(4092, &mut back);
    assert!(back == bytes);
}

/// Keeps a queue of this depth full until each block of a region was written and read back.
fn fill_ring(depth: u16, completions: Completions, thread: bool) {
    let machine = machine(LayoutKind::Scattered, thread);
    let (controller, namespace) = bring_up(&machine, 1);
    let mut queue = controller.queue(depth, completions).unwrap();
    // More than twice around the ring, and not a multiple of it.
    let blocks = usize::from(depth) * 2 + 5;
    let written = buffer(&controller, blocks * BLOCK);
    let read = buffer(&controller, blocks * BLOCK);
    let bytes = pattern(blocks * BLOCK, depth.into());
    written.write_at(0, &bytes);
    for (operation, memory) in [(Operation::Write, &written), (Operation::Read, &read)] {
        let mut tags = Vec::new();
        for block in 0..blocks {
            if queue.room() == 0 {
                queue.wait(PATIENCE, |completion| tags.push(completion.tag)).unwrap();
            }
            let transfer = Transfer {
                operation,
                namespace: &namespace,
                lba: block as u64,
                blocks: 1,
                buffer: memory,
                offset: block * BLOCK,
            };
            queue.submit(&transfer, block as u64).unwrap();
        }
        tags.extend(complete(&mut queue).iter().map(|completion| completion.tag));
        tags.sort_unstable();
        assert!(tags.into_iter().eq(0..blocks as u64), "each command ends once");
    }
    let mut back = vec![0; blocks * BLOCK];
    read.read_at(0, &mut back);
    assert!(back == bytes, "depth {depth}");
    assert_eq!(machine.findings(), []);
}

#[test]
fn rings_of_every_depth_go_around() {
    for depth in [2, 3, 8, 64, 65, 300, 1024] {
        fill_ring(depth, Completions::Polled, false);
    }
    for depth in [2, 64, 1024] {
        fill_ring(depth, Completions::Interrupt, false);
        fill_ring(depth, Completions::Polled, true);
        fill_ring(depth, Completions::Interrupt, true);
    }
}

#[test]
fn threads_have_a_queue_each() {
    const BLOCKS: usize = 1000;
    for thread in [false, true] {
        let machine = machine(LayoutKind::Scattered, thread);
        let (controller, namespace) = bring_up(&machine, 2);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (controller, machine) = (&controller, &machine);
                scope.spawn(move || {
                    let kind = if worker < 2 { Completions::Polled } else { Completions::Interrupt };
                    let mut queue = controller.queue(16, kind).unwrap();
                    let memory = buffer(controller, BLOCKS * BLOCK);
                    let bytes = pattern(BLOCKS * BLOCK, worker);
                    memory.write_at(0, &bytes);
                    let first = worker * BLOCKS as u64;
                    for operation in [Operation::Write, Operation::Read] {
                        sweep(&mut queue, &namespace, operation, first, &memory);
                        if operation == Operation::Write {
                            assert!(stored(machine, first as usize * BLOCK, bytes.len()) == bytes);
                            memory.fill(0);
                        }
                    }
                    let mut back = vec![0; bytes.len()];
                    memory.read_at(0, &mut back);
                    assert!(back == bytes, "worker {worker}");
                });
            }
        });
        assert_eq!(machine.findings(), []);
    }
}

/// One command for each block of the buffer.
fn sweep(
    queue: &mut Queue<Machine>,
    namespace: &Namespace,
    operation: Operation,
    first: u64,
    buffer: &ioasis::DmaBuffer<Machine>,
) {
    for block in 0..buffer.len() / BLOCK {
        if queue.room() == 0 {
            queue.wait(PATIENCE, |completion| assert_eq!(completion.status, None)).unwrap();
        }
        let lba = first + block as u64;
        let transfer = Transfer { operation, namespace, lba, blocks: 1, buffer, offset: block * BLOCK };
        queue.submit(&transfer, lba).unwrap();
        queue.ring();
    }
    succeed(queue);
}

#[test]
fn zeroes_are_written_without_data() {
    let machine = plain();
    let (controller, namespace) = bring_up(&machine, 0);
    let mut queue = controller.queue(4, Completions::Polled).unwrap();
    let memory = buffer(&controller, 64 * BLOCK);
    memory.fill(0xff);
    transfer(&mut queue, Operation::Write, &namespace, 0, (&memory, 0), 64).unwrap();
    queue.submit_write_zeroes(&namespace, 10, 20, 0).unwrap();
    succeed(&mut queue);
    let bytes = stored(&machine, 0, 64 * BLOCK);
    let zeroes = 10 * BLOCK..30 * BLOCK;
    assert!(bytes.iter().enumerate().all(|(at, &byte)| (byte == 0) == zeroes.contains(&at)));
}

#[test]
fn what_was_flushed_is_in_the_image() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    let backing = machine::NvmeBacking::Image(image.path().to_owned());
    let machine = machine_over(backing, LayoutKind::Scattered, true);
    let (controller, namespace) = bring_up(&machine, 1);
    let mut queue = controller.queue(4, Completions::Interrupt).unwrap();
    let memory = buffer(&controller, 8 * BLOCK);
    let bytes = pattern(8 * BLOCK, 9);
    memory.write_at(0, &bytes);
    transfer(&mut queue, Operation::Write, &namespace, 100, (&memory, 0), 8).unwrap();
    queue.submit_flush(&namespace, 0).unwrap();
    succeed(&mut queue);
    let all = std::fs::read(image.path()).unwrap();
    assert_eq!(all[100 * BLOCK..108 * BLOCK], bytes);
    assert_eq!(all.len(), 1 << 20);
}
