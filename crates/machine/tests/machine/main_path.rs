//! The main path: from a node to data that a device has moved, checked on the way.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use machine::{DeviceSpec, Machine, MachineSpec, ModelSpec};
use rustix::event::{EventfdFlags, eventfd};
use sys::{Memory, Suite, Sys, Tailed};
use uapi::vfio::*;

use crate::common::*;

const SOURCE: usize = 0x80;
const DESTINATION: usize = 0x88;
const COUNT: usize = 0x90;
const COMMAND: usize = 0x98;
const BUFFER: u64 = 0x40000;

fn fill(memory: &Memory, pattern: impl Fn(usize) -> u8) {
    for at in 0..memory.length() {
        // SAFETY: the mapping is that long, and the device is at rest.
        unsafe { memory.start().add(at).write_volatile(pattern(at)) };
    }
}

fn bytes(memory: &Memory) -> Vec<u8> {
    // SAFETY: as above.
    (0..memory.length()).map(|at| unsafe { memory.start().add(at).read_volatile() }).collect()
}

fn transfer(bar: &sys::Mmio, source: u64, destination: u64, command: u64) {
    bar.write64(SOURCE, source);
    bar.write64(DESTINATION, destination);
    bar.write64(COUNT, 4096);
    bar.write64(COMMAND, command);
}

/// Moves a page into the device and back into another one, with an interrupt for each.
fn round_trip(machine: &Machine) {
    let device = Attached::new(machine);
    let (from, from_address) = device.memory(machine, 4096);
    let (to, to_address) = device.memory(machine, 4096);
    let event = device.interrupt(machine, VFIO_PCI_MSI_IRQ_INDEX);
    let bar = device.bar(machine, 4096);
    device.set_bus_master(machine, true);
    assert_eq!(bar.read32(0), 0x0100_00ed);
    fill(&from, |at| (at * 7) as u8);

    for (source, destination, command) in [(from_address, BUFFER, 5), (BUFFER, to_address, 7)] {
        transfer(&bar, source, destination, command);
        let done = machine.wait(&[event.as_fd()], Some(Duration::from_secs(10))).unwrap();
        assert_eq!((done, count(&event)), (vec![true], 1));
        bar.write32(0x64, bar.read32(0x24));
    }
    assert_eq!(bytes(&to), bytes(&from));
    assert_eq!(machine.findings(), []);
}

#[test]
fn data_goes_to_an_inline_device_and_back() {
    round_trip(&edu_machine());
}

#[test]
fn data_goes_to_a_device_on_a_thread_and_back() {
    let edu = DeviceSpec::new(EDU.parse().unwrap(), ModelSpec::Edu);
    round_trip(&Machine::from_spec(MachineSpec { devices: vec![edu], ..MachineSpec::default() }).unwrap());
}

#[test]
fn nothing_is_left_when_everything_is_closed() {
    let machine = edu_machine();
    let before = machine.usage();
    round_trip(&machine);
    assert_eq!(machine.usage(), before);
    assert_eq!(machine.vm_pin().unwrap(), 0);
}

#[test]
fn a_stray_access_is_a_finding() {
    let machine = edu_machine();
    let device = Attached::new(&machine);
    let (_memory, address) = device.memory(&machine, 4096);
    let bar = device.bar(&machine, 4096);
    device.set_bus_master(&machine, true);
    transfer(&bar, address + 4096, BUFFER, 1);
    let findings = machine.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((&*findings[0].device, findings[0].address), (EDU, address + 4096));
}

#[test]
fn registers_are_revoked_while_memory_decoding_is_off() {
    let machine = edu_machine();
    let device = Attached::new(&machine);
    let bar = device.bar(&machine, 4096);
    let command = device.config_offset(&machine) + 4;
    machine.pwrite(&device.device, &[0, 0], command).unwrap();
    assert!(matches!(bar.try_read32(0), Err(sys::MmioError::Revoked { offset: 0 })));
    machine.pwrite(&device.device, &[2, 0], command).unwrap();
    assert_eq!(bar.try_read32(0), Ok(0x0100_00ed));
}

/// What an unmasking of the line looks like; `data` stands behind it.
fn unmask(flags: u32) -> VfioIrqSet {
    VfioIrqSet {
        argsz: 24,
        flags: flags | VFIO_IRQ_SET_ACTION_UNMASK,
        index: VFIO_PCI_INTX_IRQ_INDEX,
        start: 0,
        count: 1,
    }
}

#[test]
fn the_line_interrupts_once_until_it_is_unmasked() {
    let machine = edu_machine();
    let device = Attached::new(&machine);
    let bar = device.bar(&machine, 4096);
    let event = device.interrupt(&machine, VFIO_PCI_INTX_IRQ_INDEX);
    bar.write32(0x60, 1);
    bar.write32(0x60, 2);
    assert_eq!(count(&event), 1, "masked by its delivery");
    let mut argument = Tailed::new(unmask(VFIO_IRQ_SET_DATA_NONE), 4);
    machine.ioctl_tailed(&device.device, &mut argument).unwrap();
    assert_eq!(count(&event), 1, "still asserted");
    bar.write32(0x64, 3);
    machine.ioctl_tailed(&device.device, &mut argument).unwrap();
    assert_eq!(count(&event), 0);
    bar.write32(0x60, 1);
    assert_eq!(count(&event), 1);
}

#[test]
fn an_eventfd_unmasks_the_line() {
    let machine = edu_machine();
    let device = Attached::new(&machine);
    let bar = device.bar(&machine, 4096);
    let event = device.interrupt(&machine, VFIO_PCI_INTX_IRQ_INDEX);
    let unmasks = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let mut argument = Tailed::new(unmask(VFIO_IRQ_SET_DATA_EVENTFD), 4);
    argument.tail_mut().copy_from_slice(&unmasks.as_raw_fd().to_ne_bytes());
    machine.ioctl_tailed(&device.device, &mut argument).unwrap();
    bar.write32(0x60, 1);
    assert_eq!(count(&event), 1);

    // Another thread writes it while this one waits.
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        rustix::io::write(&unmasks, &1u64.to_ne_bytes()).unwrap();
        unmasks
    });
    assert_eq!(machine.wait(&[event.as_fd()], Some(Duration::from_secs(10))).unwrap(), [true]);
    assert_eq!(count(&event), 1, "still asserted");
    writer.join().unwrap();
}

#[test]
fn the_line_of_a_device_on_a_thread_interrupts() {
    let edu = DeviceSpec::new(EDU.parse().unwrap(), ModelSpec::Edu);
    let machine = Machine::from_spec(MachineSpec { devices: vec![edu], ..MachineSpec::default() }).unwrap();
    let device = Attached::new(&machine);
    let bar = device.bar(&machine, 4096);
    let event = device.interrupt(&machine, VFIO_PCI_INTX_IRQ_INDEX);
    // A factorial is computed by the thread, which asserts the line when it is done.
    bar.write32(0x20, 0x80);
    bar.write32(8, 5);
    assert_eq!(machine.wait(&[event.as_fd()], Some(Duration::from_secs(10))).unwrap(), [true]);
    assert_eq!((bar.read32(8), bar.read32(0x24)), (120, 1));
}

#[test]
fn the_nth_failure_leaves_nothing_behind() {
    let machine = edu_machine();
    let before = machine.usage();
    let attempt = |machine: &Machine| -> sys::Result<()> {
        let device = open(machine, NODE)?;
        let iommufd = open(machine, "/dev/iommu")?;
        bind_to(machine, &device, iommufd.as_fd().as_raw_fd())?;
        Ok(())
    };
    let mut failures = 0;
    for n in 1.. {
        machine.fail_allocation(Some(n));
        let answer = attempt(&machine);
        let unused = machine.fail_allocation(None).is_some();
        assert_eq!(machine.usage(), before, "after the failure of allocation {n}");
        match answer {
            Ok(()) => {
                assert!(unused, "allocation {n} failed without consequence");
                break;
            }
            Err(error) => assert_eq!(error.errno(), uapi::Errno::ENOMEM, "{error}"),
        }
        failures += 1;
    }
    assert!(failures > 0);
}

#[test]
fn a_failing_pin_refuses_the_mapping() {
    let machine = edu_machine();
    let device = Attached::new(&machine);
    let options = sys::MemoryOptions { length: 8192, page_size: sys::PageSize::Base, highest: u64::MAX };
    let memory = machine.allocate(&options).unwrap();
    machine.fail_pin(Some(1));
    let error = map(&machine, &device.iommufd, device.ioas, &memory).unwrap_err();
    assert_eq!(error.errno(), uapi::Errno::ENOMEM);
    assert_eq!(machine.fail_pin(None), None);
    assert_eq!(machine.vm_pin().unwrap(), 0);
    map(&machine, &device.iommufd, device.ioas, &memory).unwrap();
    assert_eq!(machine.vm_pin().unwrap(), 8);
}
