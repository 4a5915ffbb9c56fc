//! What is refused, by the driver or by the controller.

use std::os::fd::AsRawFd;

use ioasis::DmaOptions;
use machine::LayoutKind;
use machine::{DeviceSpec, Machine, MachineSpec, ModelSpec, NvmeBacking, Size};
use nvme::{Completions, Error, Operation, Stream, Transfer};
use rustix::fs::{MemfdFlags, SealFlags};

use crate::common::*;

#[test]
fn what_makes_no_sense_is_refused_before_the_controller_sees_it() {
    let machine = plain();
    let (controller, namespace) = bring_up(&machine, 0);
    let mut queue = controller.queue(4, Completions::Polled).unwrap();
    let memory = buffer(&controller, 4 << 20);
    let most = queue.max_transfer();
    let last = namespace.blocks - 1;
    for (lba, blocks, offset, message) in [
        (0, 0, 0, "0 blocks were asked for; 1 to 65536 are possible".to_owned()),
        (0, 65_537, 0, "65537 blocks were asked for; 1 to 65536 are possible".to_owned()),
        (
            last,
            2,
            0,
            format!(
                "2 blocks from block {last} on were asked for, but the namespace has {} blocks",
                last + 1
            ),
        ),
        (
            u64::MAX,
            1,
            0,
            format!("1 blocks from block {} on were asked for, but the namespace has 16384 blocks", u64::MAX),
        ),
        (0, 8192, 0, format!("a transfer of {} bytes was asked for; {most} are possible", 8192 * BLOCK)),
        (0, 1, 2, "data at offset 0x2 of a buffer does not start at a multiple of 4".to_owned()),
        (
            0,
            2,
            (4 << 20) - BLOCK,
            "1024 bytes at offset 0x3ffe00 reach past the end of the buffer of 4194304 bytes".to_owned(),
        ),
        (
            0,
            1,
            usize::MAX - 3,
            "512 bytes at offset 0xfffffffffffffffc reach past the end of the buffer of 4194304 bytes"
                .to_owned(),
        ),
    ] {
        let transfer = Transfer {
            operation: Operation::Read,
            namespace: &namespace,
            lba,
            blocks,
            buffer: &memory,
            offset,
        };
        let error = queue.submit(&transfer, 0).unwrap_err().to_string();
        assert_eq!(error, format!("{ADDRESS}: {message}"));
    }
    assert!(queue.submit_write_zeroes(&namespace, last, 2, 0).is_err());
    assert_eq!((queue.under_way(), queue.wait(PATIENCE, |_| ()).unwrap()), (0, 0));
}

#[test]
fn a_full_queue_takes_no_more() {
    let machine = plain();
    let (controller, namespace) = bring_up(&machine, 0);
    let mut queue = controller.queue(3, Completions::Polled).unwrap();
    queue.submit_flush(&namespace, 0).unwrap();
    queue.submit_flush(&namespace, 1).unwrap();
    let error = queue.submit_flush(&namespace, 2).unwrap_err().to_string();
    assert_eq!(error, "0000:01:00.0: the queue is full: 2 commands are under way");
    succeed(&mut queue);
    queue.submit_flush(&namespace, 2).unwrap();
}

#[test]
fn a_namespace_that_lies_gets_the_controllers_answer() {
    let machine = plain();
    let (controller, namespace) = bring_up(&machine, 0);
    let mut queue = controller.queue(4, Completions::Polled).unwrap();
    let larger = nvme::Namespace { blocks: u64::MAX, ..namespace };
    let other = nvme::Namespace { id: 2, ..namespace };
    queue.submit_write_zeroes(&larger, namespace.blocks, 1, 0).unwrap();
    queue.submit_flush(&other, 1).unwrap();
    let names: Vec<_> = complete(&mut queue).iter().map(|end| end.status.unwrap().name()).collect();
    assert_eq!(names, ["LBA Out of Range", "Invalid Namespace or Format"]);
}

/// An image that opens for writing and refuses to be written.
#[test]
fn a_medium_that_cannot_be_written_gives_a_write_fault() {
    let image = rustix::fs::memfd_create("image", MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&image, 1 << 20).unwrap();
    rustix::fs::fcntl_add_seals(&image, SealFlags::WRITE).unwrap();
    let path = format!("/proc/self/fd/{}", image.as_raw_fd());
    let machine = machine_over(NvmeBacking::Image(path.into()), LayoutKind::Scattered, false);
    let (controller, namespace) = bring_up(&machine, 0);
    let mut queue = controller.queue(32, Completions::Polled).unwrap();
    let mut stream = Stream::new(&controller, &mut queue, namespace).unwrap();
    let error = stream.write(8, 1000, |_| Ok::<(), Error>(())).unwrap_err();
    let message = "0000:01:00.0: Write at block 8 failed: Write Fault (status code type 0x2, code 0x80)";
    assert_eq!(error.to_string(), message);
    // Reading goes on.
    stream.read(0, 100, |_| Ok::<(), Error>(())).unwrap();
}

#[test]
fn a_medium_that_ends_too_early_gives_a_read_error() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    let machine = machine_over(NvmeBacking::Image(image.path().to_owned()), LayoutKind::Scattered, true);
    image.as_file().set_len(1 << 19).unwrap();
    let (controller, namespace) = bring_up(&machine, 0);
    let mut queue = controller.queue(32, Completions::Polled).unwrap();
    let mut stream = Stream::new(&controller, &mut queue, namespace).unwrap();
    let mut whole = 0;
    let error = stream
        .read(0, namespace.blocks, |bytes| {
            whole += bytes.len();
            Ok::<(), Error>(())
        })
        .unwrap_err();
    assert!(error.to_string().contains("Read at block 1024 failed: Unrecovered Read Error"), "{error}");
    assert!(whole <= 1 << 19);
}

/// Memory that was given to another device is not this one's.
#[test]
fn memory_of_another_device_is_a_fault_and_a_finding() {
    let other = "0000:02:00.0";
    let device = |address: &str| {
        let model = ModelSpec::Nvme(NvmeBacking::Memory(Size(1 << 20)));
        DeviceSpec::new(address.parse().unwrap(), model).inline()
    };
    let devices = vec![device(ADDRESS), device(other)];
    let machine = Machine::from_spec(MachineSpec { devices, ..MachineSpec::default() }).unwrap();
    let (controller, namespace) = bring_up(&machine, 0);
    let neighbour = open(&machine, other);
    let memory = neighbour.address_space().allocate(4096, &DmaOptions::new()).unwrap();
    let mut queue = controller.queue(4, Completions::Polled).unwrap();
    let transfer = Transfer {
        operation: Operation::Read,
        namespace: &namespace,
        lba: 0,
        blocks: 8,
        buffer: &memory,
        offset: 0,
    };
    queue.submit(&transfer, 7).unwrap();
    let [end] = complete(&mut queue)[..] else { panic!("one command was submitted") };
    assert_eq!(end.status.unwrap().name(), "Data Transfer Error");
    assert_eq!(machine.findings().len(), 1);
}
