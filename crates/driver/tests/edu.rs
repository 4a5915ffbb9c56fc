//! The driver library drives the `edu` device of an embedded machine: what its users rely on.

mod common;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use common::{address, machine, machine_with, open};
use ioasis::machine::LayoutKind;
use ioasis::machine::{File, Iommu, IommuSpec, Machine};
use ioasis::{
    Bar, Command, Device, DeviceAddr, DmaOptions, Errno, Error, Interrupt, InterruptKind, Mode, Options,
    PageSize, Passed, Sys,
};

/// The device's own buffer, 4096 bytes at this address of its own.
const DEVICE_BUFFER: u64 = 0x4_0000;

/// Which way bytes go.
#[derive(Clone, Copy)]
enum Way {
    ToDevice = 1,
    FromDevice = 1 | 2,
}

/// Copies bytes between memory and the device's buffer, with an interrupt at the end.
fn copy(registers: &Bar, done: &Interrupt<Machine>, memory: DeviceAddr, count: u64, way: Way) {
    start_copy(registers, memory, count, way, true);
    assert_eq!(done.wait(Some(Duration::from_secs(10))).unwrap(), Some(1));
    registers.write32(0x64, registers.read32(0x24));
}

/// The same without waiting for the end.
fn start_copy(registers: &Bar, memory: DeviceAddr, count: u64, way: Way, interrupt: bool) {
    let (source, destination) = match way {
        Way::ToDevice => (memory.get(), DEVICE_BUFFER),
        Way::FromDevice => (DEVICE_BUFFER, memory.get()),
    };
    registers.write64(0x80, source);
    registers.write64(0x88, destination);
    registers.write64(0x90, count);
    registers.write32(0x98, way as u32 | if interrupt { 4 } else { 0 });
}

const LAYOUTS: [LayoutKind; 3] = [LayoutKind::Contiguous, LayoutKind::Hugepage, LayoutKind::Scattered];

#[test]
fn without_an_iommu_the_device_has_to_be_allowed() {
    let machine = machine(LayoutKind::Scattered);
    let before = machine.usage();
    let error = Device::open(&machine, address(), &Options::new()).unwrap_err();
    assert!(matches!(error, Error::NoiommuNotAllowed { mode: Mode::IommufdNoiommu, .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("0000:01:00.0") && message.contains("allow_noiommu"), "{message}");
    assert_eq!(machine.usage(), before, "nothing was opened");
}

#[test]
fn the_mode_is_reported_and_why_better_ones_were_passed_over() {
    let machine = machine(LayoutKind::Scattered);
    let device = open(&machine);
    assert_eq!(device.mode(), Mode::IommufdNoiommu);
    let [better] = device.passed_over() else { panic!("{:?}", device.passed_over()) };
    assert_eq!(better.mode, Mode::Iommufd);
    assert_eq!(better.reason, "the device has no IOMMU (its entry is vfio-dev/noiommu-vfio0)");
}

#[test]
fn a_device_that_is_not_there_is_looked_for() {
    let machine = machine(LayoutKind::Scattered);
    let elsewhere = "0000:02:00.0".parse().unwrap();
    let error = Device::open(&machine, elsewhere, &Options::new().allow_noiommu(true)).unwrap_err();
    let message = error.to_string();
    for part in ["no PCI device 0000:02:00.0", "/sys/bus/pci/devices/0000:02:00.0: not there", "0000:01:00.0"]
    {
        assert!(message.contains(part), "{part} is not in {message}");
    }
}

#[test]
fn a_device_is_bound_once_and_the_refusal_says_what_to_do() {
    let machine = machine(LayoutKind::Scattered);
    let first = open(&machine);
    let error = Device::open(&machine, address(), &Options::new().allow_noiommu(true)).unwrap_err();
    assert!(error.errno().is_some() && error.help().is_some(), "{error}");
    let refusal = error.refusal().unwrap();
    assert!(error.to_string().contains(refusal.call()), "{error}");
    assert!(refusal.rule().is_some(), "an embedded machine names the rule: {error}");
    drop(first);
    open(&machine);
}

#[test]
fn data_goes_to_the_device_and_back_with_an_interrupt_each() {
    for layout in LAYOUTS {
        let machine = machine(layout);
        let device = open(&machine);
        let registers = device.bar(0).unwrap();
        let done = device.interrupts().msi(1).unwrap().remove(0);
        let buffer = device.address_space().allocate(2 * 4096, &DmaOptions::new().mask_bits(28)).unwrap();
        device.set_bus_master(true).unwrap();

        let message: Vec<u8> = (0..4096_u32).map(|at| (at * 7 % 251) as u8).collect();
        buffer.write_at(0, &message);
        copy(&registers, &done, buffer.address_at(0).0, 4096, Way::ToDevice);
        copy(&registers, &done, buffer.address_at(4096).0, 4096, Way::FromDevice);
        let mut echo = vec![0; 4096];
        buffer.read_at(4096, &mut echo);
        assert_eq!(echo, message);
        assert_eq!(done.try_take().unwrap(), None, "no interrupt is left over");
        assert_eq!(machine.findings(), []);
    }
}

#[test]
fn the_line_interrupt_masks_itself_until_it_is_unmasked() {
    let machine = machine(LayoutKind::Contiguous);
    let device = open(&machine);
    let registers = device.bar(0).unwrap();
    let line = device.interrupts().line().unwrap();
    registers.write32(0x60, 1);
    assert_eq!(line.wait(Some(Duration::from_secs(10))).unwrap(), Some(1));
    registers.write32(0x64, 1);
    registers.write32(0x60, 2);
    assert_eq!(line.try_take().unwrap(), None, "it is masked");
    device.interrupts().unmask_line().unwrap();
    assert_eq!(line.wait(Some(Duration::from_secs(10))).unwrap(), Some(1), "it was asserted all the time");
}

#[test]
fn interrupts_that_there_are_not_are_refused_with_their_number() {
    let machine = machine(LayoutKind::Contiguous);
    let device = open(&machine);
    let interrupts = device.interrupts();
    let counts = [InterruptKind::Line, InterruptKind::Msi, InterruptKind::Msix]
        .map(|kind| interrupts.count(kind).unwrap());
    assert_eq!(counts, [1, 1, 0]);
    let error = interrupts.msix(4).unwrap_err();
    assert_eq!(error.to_string(), "0000:01:00.0 offers 0 MSI-X vectors, and 4 were asked for");
    assert!(matches!(interrupts.msi(0), Err(Error::TooFewInterrupts { asked: 0, .. })));

    let _msi = interrupts.msi(1).unwrap();
    assert_eq!(interrupts.line().unwrap_err().errno(), Some(Errno::EINVAL), "one kind at a time");
    interrupts.disable(InterruptKind::Msi).unwrap();
    interrupts.line().unwrap();
}

#[test]
fn an_interrupt_that_does_not_come_is_waited_for_as_long_as_said() {
    let machine = machine(LayoutKind::Contiguous);
    let device = open(&machine);
    let done = device.interrupts().msi(1).unwrap().remove(0);
    assert_eq!(done.wait(Some(Duration::ZERO)).unwrap(), None);
    assert_eq!(done.wait(Some(Duration::from_millis(5))).unwrap(), None);
}

#[test]
fn memory_has_as_many_segments_as_it_really_has() {
    const LENGTH: usize = 64 * 4096;
    let counts = LAYOUTS.map(|layout| {
        let machine = machine(layout);
        let device = open(&machine);
        let buffer = device.address_space().allocate(LENGTH, &DmaOptions::new()).unwrap();
        let segments: Vec<_> = buffer.segments().collect();
        assert_eq!(segments.iter().map(|segment| segment.length).sum::<usize>(), LENGTH);
        let mut offset = 0;
        for segment in &segments {
            assert_eq!(buffer.address_at(offset), (segment.address, segment.length));
            assert_eq!(
                buffer.address_at(offset + 17),
                (DeviceAddr::new(segment.address.get() + 17), segment.length - 17)
            );
            offset += segment.length;
        }
        segments.len()
    });
    assert_eq!([counts[0], counts[1]], [1, 1], "contiguous, and within one huge page");
    assert!(counts[2] > 32, "scattered: {} segments", counts[2]);
}

#[test]
fn huge_pages_are_contiguous_however_scattered_the_rest_is() {
    let machine = machine(LayoutKind::Scattered);
    let device = open(&machine);
    let options = DmaOptions::new().page_size(PageSize::Huge2M).contiguous(true);
    let buffer = device.address_space().allocate(2 << 20, &options).unwrap();
    assert_eq!((buffer.segments().count(), buffer.largest_contiguous()), (1, 2 << 20));

    let options = DmaOptions::new().contiguous(true);
    let error = device.address_space().allocate(1 << 20, &options).unwrap_err();
    let Error::NotContiguous { needed, largest } = error else { panic!("{error}") };
    assert!(needed == 1 << 20 && (4096..1 << 20).contains(&largest), "{largest}");
}

#[test]
fn the_mask_of_the_device_is_kept() {
    for layout in LAYOUTS {
        let machine = machine(layout);
        let device = open(&machine);
        let options = DmaOptions::new().mask_bits(28);
        let buffers: Vec<_> =
            (0..16).map(|_| device.address_space().allocate(1 << 20, &options).unwrap()).collect();
        for segment in buffers.iter().flat_map(|buffer| buffer.segments()) {
            assert!(segment.address.get() + segment.length as u64 <= 1 << 28, "{segment:?}");
        }
    }
}

#[test]
fn memory_below_all_memory_is_refused_with_the_limit() {
    let machine = machine(LayoutKind::Scattered);
    let device = open(&machine);
    let before = machine.usage();
    let error = device.address_space().allocate(4096, &DmaOptions::new().mask_bits(12)).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOMEM));
    let message = error.to_string();
    assert!(message.contains("4096 bytes") && message.contains("0xfff"), "{message}");
    assert_eq!(machine.usage(), before, "what was tried is given back");
}

#[test]
fn segments_end_at_the_boundary() {
    let machine = machine(LayoutKind::Contiguous);
    let device = open(&machine);
    let buffer = device.address_space().allocate(256 << 10, &DmaOptions::new().boundary(0x1_0000)).unwrap();
    assert!(buffer.segments().count() >= 4);
    for segment in buffer.segments() {
        let last = segment.address.get() + segment.length as u64 - 1;
        assert_eq!(segment.address.get() >> 16, last >> 16, "{segment:?}");
    }
    let options = DmaOptions::new().boundary(0x1_0000).contiguous(true);
    assert!(matches!(
        device.address_space().allocate(256 << 10, &options),
        Err(Error::NotContiguous { needed: 0x4_0000, largest: 0x1_0000 })
    ));
}

#[test]
fn senseless_options_are_named() {
    let machine = machine(LayoutKind::Contiguous);
    let device = open(&machine);
    let space = device.address_space();
    for (length, options) in [
        (0, DmaOptions::new()),
        (4096, DmaOptions::new().mask_bits(65)),
        (4096, DmaOptions::new().mask_bits(0)),
        (4096, DmaOptions::new().boundary(0)),
        (4096, DmaOptions::new().boundary(12_288)),
    ] {
        assert!(matches!(space.allocate(length, &options), Err(Error::Argument(_))), "{options:?}");
    }
}

#[test]
fn configuration_space_tells_what_the_device_is() {
    let machine = machine(LayoutKind::Contiguous);
    let device = open(&machine);
    let config = device.config();
    assert_eq!((config.vendor_id().unwrap(), config.device_id().unwrap()), (0x1234, 0x11e8));
    assert_eq!((config.class().unwrap(), config.revision().unwrap()), (0x00_ff00, 0x10));
    let msi = config.msi().unwrap().unwrap();
    assert_eq!((msi.vectors, msi.enabled), (1, false));
    assert_eq!(config.msix().unwrap(), None);
    assert_eq!(config.find(0x05).unwrap(), Some(msi.offset));

    assert!(!config.command().unwrap().contains(Command::BUS_MASTER), "off at first");
    device.set_bus_master(true).unwrap();
    assert!(config.command().unwrap().contains(Command::BUS_MASTER));

    for offset in [1, 2, 0xfffd, 0xfffc] {
        assert!(matches!(config.read_u32(offset), Err(Error::Register { .. })), "{offset:#x}");
    }
}

#[test]
fn a_bar_that_is_not_there_is_missing() {
    let machine = machine(LayoutKind::Contiguous);
    let device = open(&machine);
    for index in [1, 5, 6, 255] {
        let error = device.bar(index).unwrap_err();
        assert_eq!(error.to_string(), format!("0000:01:00.0 has no BAR {index}"));
    }
    let bar = device.bar(0).unwrap();
    assert_eq!((bar.index(), bar.length(), bar.read32(0)), (0, 1 << 20, 0x0100_00ed));
    assert!(bar.try_read32(bar.length()).is_err());
}

#[test]
fn nothing_is_left_after_the_drop_and_the_device_stops_first() {
    for memory_first in [false, true] {
        let machine = machine(LayoutKind::Scattered);
        let before = machine.usage();
        let device = open(&machine);
        let registers = device.bar(0).unwrap();
        let done = device.interrupts().msi(1).unwrap().remove(0);
        let buffer = device.address_space().allocate(1 << 20, &DmaOptions::new().mask_bits(28)).unwrap();
        device.set_bus_master(true).unwrap();
        copy(&registers, &done, buffer.address_at(0).0, 4096, Way::ToDevice);
        if memory_first {
            drop(buffer);
            drop(device);
        } else {
            drop(device);
            // The device does not reach the memory any more, though it is still there.
            start_copy(&registers, buffer.address_at(0).0, 4096, Way::ToDevice, false);
            assert_eq!(machine.findings().len(), 1, "bus mastering is off");
            drop(buffer);
        }
        drop(registers);
        assert_eq!(machine.usage(), before);
        assert_eq!(machine.findings().len(), usize::from(!memory_first));
    }
}

#[test]
fn the_trace_has_the_calls_in_order_and_the_end_too() {
    let machine = machine(LayoutKind::Scattered);
    let device = Device::open(&machine, address(), &Options::new().allow_noiommu(true).trace(true)).unwrap();
    let trace = device.trace().clone();
    let buffer = device.address_space().allocate(16 * 4096, &DmaOptions::new()).unwrap();
    let segments = buffer.segments().count() as u64;
    drop(buffer);
    drop(device);
    let steps = trace.steps();
    let calls: Vec<_> = steps.iter().map(|step| step.call).collect();
    assert_eq!(
        calls,
        [
            "open",
            "open",
            "VFIO_DEVICE_BIND_IOMMUFD",
            "IOMMU_IOAS_ALLOC",
            "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
            "mmap",
            "IOMMU_IOAS_MAP",
            "IOMMU_IOAS_NOIOMMU_GET_PA",
            "IOMMU_IOAS_UNMAP",
            "VFIO_DEVICE_GET_REGION_INFO",
            "pwrite",
            "VFIO_DEVICE_DETACH_IOMMUFD_PT",
            "IOMMU_DESTROY",
        ]
    );
    assert_eq!(steps[7].times, segments, "equal calls are one step");
    assert!(steps.iter().all(|step| step.answer.is_ok()), "{steps:?}");
    assert_eq!(open(&machine).trace().steps(), [], "off unless it is asked for");
}

/// A device node and a context, as a more privileged program would open them.
struct Opened {
    files: [File; 2],
}

impl Opened {
    fn open(machine: &Machine) -> Self {
        let open = |path: &str| machine.open(Path::new(path), sys::Access::ReadWrite).unwrap();
        Opened { files: ["/dev/vfio/devices/noiommu-vfio0", "/dev/iommu"].map(open) }
    }

    fn descriptors(&self) -> [OwnedFd; 2] {
        [&self.files[0], &self.files[1]].map(|file| file.as_fd().try_clone_to_owned().unwrap())
    }
}

fn pair(device: OwnedFd, iommufd: OwnedFd) -> Passed {
    Passed { device, iommufd, translator: None }
}

#[test]
fn descriptors_that_somebody_else_opened_are_taken_over() {
    let machine = machine(LayoutKind::Scattered);
    let before = machine.usage();
    let passed = Opened::open(&machine);
    let [node, iommufd] = passed.descriptors();
    let error = Device::from_fds(&machine, pair(node, iommufd), &Options::new()).unwrap_err();
    assert!(matches!(error, Error::NoiommuNotAllowed { .. }), "{error}");
    drop(passed);

    let passed = Opened::open(&machine);
    let [node, iommufd] = passed.descriptors();
    let device =
        Device::from_fds(&machine, pair(node, iommufd), &Options::new().allow_noiommu(true)).unwrap();
    drop(passed);
    assert_eq!(device.mode(), Mode::IommufdNoiommu, "as the kernel says");
    let registers = device.bar(0).unwrap();
    let done = device.interrupts().msi(1).unwrap().remove(0);
    let buffer = device.address_space().allocate(4096, &DmaOptions::new().mask_bits(28)).unwrap();
    device.set_bus_master(true).unwrap();
    copy(&registers, &done, buffer.address_at(0).0, 4096, Way::ToDevice);
    drop((registers, buffer, device));
    assert_eq!((machine.usage(), machine.findings().len()), (before, 0));
}

#[test]
fn a_context_that_is_shared_keeps_nothing_of_the_device() {
    let machine = machine(LayoutKind::Scattered);
    let Opened { files: [node, iommufd] } = Opened::open(&machine);
    let [first, second] = [&node, &iommufd].map(|file| file.as_fd().try_clone_to_owned().unwrap());
    let device =
        Device::from_fds(&machine, pair(first, second), &Options::new().allow_noiommu(true)).unwrap();
    drop(node);
    let buffer = device.address_space().allocate(4096, &DmaOptions::new()).unwrap();
    assert!(machine.usage().objects > 0);
    drop((device, buffer));
    let usage = machine.usage();
    assert_eq!((usage.contexts, usage.objects, usage.areas, usage.pages), (1, 0, 0, 0));
    drop(iommufd);
    assert_eq!(machine.usage().contexts, 0);
}

#[test]
fn whatever_fails_is_an_error_and_leaves_nothing() {
    let machine = machine(LayoutKind::Scattered);
    let before = machine.usage();
    let run = || -> ioasis::Result<()> {
        let device = Device::open(&machine, address(), &Options::new().allow_noiommu(true))?;
        let _registers = device.bar(0)?;
        let _done = device.interrupts().msi(1)?;
        let _buffer = device.address_space().allocate(1 << 20, &DmaOptions::new())?;
        device.set_bus_master(true)
    };
    for fail in [Machine::fail_allocation, Machine::fail_pin] {
        let mut failures = 0;
        for n in 1.. {
            fail(&machine, Some(n));
            let result = run();
            let happened = fail(&machine, None).is_none();
            assert_eq!(machine.usage(), before, "failure {n}");
            if !happened {
                result.unwrap();
                break;
            }
            assert_eq!(result.unwrap_err().errno(), Some(Errno::ENOMEM), "failure {n}");
            failures += 1;
        }
        assert!(failures > 0);
    }
}

#[test]
fn descriptors_of_the_wrong_kind_are_refused() {
    let machine = machine(LayoutKind::Scattered);
    let passed = Opened::open(&machine);
    let [node, iommufd] = passed.descriptors();
    let error =
        Device::from_fds(&machine, pair(iommufd, node), &Options::new().allow_noiommu(true)).unwrap_err();
    assert!(error.to_string().contains("cannot bind"), "{error}");
    assert_eq!(error.refusal().unwrap().call(), "VFIO_DEVICE_BIND_IOMMUFD");
}

#[test]
fn words_and_structures_are_copied_in_and_out() {
    let machine = machine(LayoutKind::Scattered);
    let device = open(&machine);
    let buffer = device.address_space().allocate(8192, &DmaOptions::new()).unwrap();
    assert_eq!(buffer.read_u64(8184), 0, "zeroed");
    buffer.write_u32(4092, 0x1122_3344);
    buffer.write_u32_release(4096, 0x5566_7788);
    assert_eq!(buffer.read_u32_acquire(4092), 0x1122_3344);
    let mut bytes = [0; 8];
    buffer.read_at(4092, &mut bytes);
    assert_eq!(bytes, [0x44, 0x33, 0x22, 0x11, 0x88, 0x77, 0x66, 0x55]);

    buffer.write_from(100, &[1_u16, 2, 3]);
    assert_eq!(buffer.read_as::<[u16; 3]>(100), [1, 2, 3]);

    let part = buffer.slice(4096..8192);
    drop(buffer);
    assert_eq!((part.len(), part.read_u16(0)), (4096, 0x7788), "a slice keeps the memory");
    part.fill(0xee);
    assert_eq!(part.read_u8(4095), 0xee);
}

#[test]
#[should_panic(expected = "8 bytes at 4089 of a DMA buffer of 4096 bytes")]
fn words_past_the_end_panic() {
    let machine = machine(LayoutKind::Scattered);
    let buffer = open(&machine).address_space().allocate(8192, &DmaOptions::new()).unwrap().slice(0..4096);
    let _word = buffer.read_u64(4089);
}

#[test]
#[should_panic(expected = "unaligned")]
fn unaligned_words_panic() {
    let machine = machine(LayoutKind::Scattered);
    let buffer = open(&machine).address_space().allocate(4096, &DmaOptions::new()).unwrap();
    let _word = buffer.read_u32(2);
}

/// Behind an IOMMU nothing has to be allowed, memory is one piece in every layout, and a stray access is blocked.
#[test]
fn behind_an_iommu_the_device_uses_iovas() {
    for layout in LAYOUTS {
        let machine = machine_with(layout, Iommu::Translating(IommuSpec::default()));
        let (before, at) = (machine.usage(), "0000:01:00.0".parse().unwrap());
        let device = Device::open(&machine, address(), &Options::new()).unwrap();
        assert_eq!((device.mode(), device.passed_over().len()), (Mode::Iommufd, 0));
        let registers = device.bar(0).unwrap();
        let interrupts = device.interrupts().msi(1).unwrap();
        device.set_bus_master(true).unwrap();
        let memory = device.address_space().allocate(3 << 20, &DmaOptions::new().mask_bits(28)).unwrap();
        let (start, contiguous) = memory.address_at(0);
        assert_eq!(contiguous, 3 << 20, "the device sees one piece");
        memory.write_at(0x1_0ff0, b"across two pages, wherever they are");
        let (from, _) = memory.address_at(0x1_0ff0);
        copy(&registers, &interrupts[0], from, 36, Way::ToDevice);
        let (to, _) = memory.address_at(0x20_0000);
        copy(&registers, &interrupts[0], to, 36, Way::FromDevice);
        let mut bytes = [0; 35];
        memory.read_at(0x20_0000, &mut bytes);
        assert_eq!(&bytes, b"across two pages, wherever they are");
        assert_eq!((machine.findings(), machine.fault_count(at)), (vec![], Some(0)));

        drop(memory);
        copy(&registers, &interrupts[0], start, 8, Way::FromDevice);
        assert_eq!((machine.finding_count(), machine.fault_count(at)), (1, Some(1)));
        let fault = format!("Request device [0000:01:00.0] fault addr {:#x}", start.get());
        assert!(machine.log().iter().any(|line| line.contains(&fault)), "{:?}", machine.log());
        drop((registers, interrupts, device));
        assert_eq!(machine.usage(), before);
    }
}
