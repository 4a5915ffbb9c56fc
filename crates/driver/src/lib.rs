//! What a userspace driver of a PCI device is written with, with or without an IOMMU.
//!
//! A driver opens a [`Device`], reaches its registers through a [`Bar`], gives it memory as [`DmaBuffer`]s and waits for
//! its [`Interrupt`]s. The same driver runs on the kernel of the host ([`Linux`]) and on a machine embedded in the process
//! (the feature `machine`), which needs neither hardware nor privileges and checks every memory access of its devices.
//!
//! # A driver from start to end
//!
//! The device is QEMU's educational one, `edu`: it inverts what is written to one register, and copies between memory
//! and a buffer of its own. Here is its driver, and a program that runs it on an embedded machine. The pieces are
//! explained below.
//!
//! ```
//! use std::time::Duration;
//! use ioasis::machine::{DeviceSpec, Machine, MachineSpec, ModelSpec};
//! use ioasis::{Bar, Device, DmaBuffer, DmaOptions, Interrupt, Options, PciAddress, Sys};
//!
//! // Registers of the device (QEMU documentation, "EDU device").
//! const LIVENESS: usize = 0x04;
//! const INTERRUPT_STATUS: usize = 0x24;
//! const INTERRUPT_ACKNOWLEDGE: usize = 0x64;
//! const DMA_SOURCE: usize = 0x80;
//! const DMA_DESTINATION: usize = 0x88;
//! const DMA_COUNT: usize = 0x90;
//! const DMA_COMMAND: usize = 0x98;
//! // Its own buffer, 4096 bytes at this address of its own.
//! const DEVICE_BUFFER: u64 = 0x4_0000;
//! // Bits of the command: start, direction, interrupt when done.
//! const TO_DEVICE: u32 = 1 | 4;
//! const FROM_DEVICE: u32 = 1 | 2 | 4;
//!
//! struct Edu<S: Sys> {
//!     // Fields are dropped in this order: the device stops before its memory is taken back.
//!     device: Device<S>,
//!     registers: Bar,
//!     done: Interrupt<S>,
//!     buffer: DmaBuffer<S>,
//! }
//!
//! impl<S: Sys> Edu<S> {
//!     fn open(sys: &S, address: PciAddress, options: &Options) -> ioasis::Result<Self> {
//!         let device = Device::open(sys, address, options)?;
//!         let registers = device.bar(0)?;
//!         let done = device.interrupts().msi(1)?.remove(0);
//!         // The device has 28 address bits.
//!         let buffer = device.address_space().allocate(4096, &DmaOptions::new().mask_bits(28))?;
//!         device.set_bus_master(true)?;
//!         Ok(Edu { device, registers, done, buffer })
//!     }
//!
//!     fn copy(&self, source: u64, destination: u64, length: usize, command: u32) -> ioasis::Result<bool> {
//!         self.registers.write64(DMA_SOURCE, source);
//!         self.registers.write64(DMA_DESTINATION, destination);
//!         self.registers.write64(DMA_COUNT, length as u64);
//!         self.registers.write32(DMA_COMMAND, command);
//!         let fired = self.done.wait(Some(Duration::from_secs(10)))?;
//!         self.registers.write32(INTERRUPT_ACKNOWLEDGE, self.registers.read32(INTERRUPT_STATUS));
//!         Ok(fired.is_some())
//!     }
//!
//!     fn echo(&self, message: &[u8]) -> ioasis::Result<Vec<u8>> {
//!         // What the device is to be told: an IOVA behind an IOMMU, a physical address without one.
//!         let (address, contiguous) = self.buffer.address_at(0);
//!         assert!(message.len() <= contiguous);
//!         self.buffer.write_at(0, message);
//!         assert!(self.copy(address.get(), DEVICE_BUFFER, message.len(), TO_DEVICE)?, "the device is silent");
//!         self.buffer.fill(0);
//!         assert!(self.copy(DEVICE_BUFFER, address.get(), message.len(), FROM_DEVICE)?, "the device is silent");
//!         let mut echo = vec![0; message.len()];
//!         self.buffer.read_at(0, &mut echo);
//!         Ok(echo)
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A machine without an IOMMU and with one device. On the host it is `ioasis::Linux` instead.
//! let edu = DeviceSpec::new("0000:01:00.0".parse()?, ModelSpec::Edu);
//! let machine = Machine::from_spec(MachineSpec { devices: vec![edu], ..MachineSpec::default() })?;
//!
//! let edu = Edu::open(&machine, "0000:01:00.0".parse()?, &Options::new().allow_noiommu(true))?;
//! assert_eq!(edu.device.mode().name(), "iommufd-noiommu");
//! edu.registers.write32(LIVENESS, 0x1234_5678);
//! assert_eq!(edu.registers.read32(LIVENESS), !0x1234_5678);
//! assert_eq!(edu.echo(b"there and back")?, b"there and back");
//!
//! // The device touched nothing that it was not given.
//! assert!(machine.findings().is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # Opening
//!
//! [`Device::open`] finds the device in sysfs, takes the best [`Mode`] that the host offers, and tells why better ones
//! were passed over ([`Device::passed_over`]):
//!
//! | mode | nodes | device address comes from | interrupts |
//! | --- | --- | --- | --- |
//! | `iommufd` | `/dev/vfio/devices/vfioN`, `/dev/iommu` | the IOVA | all |
//! | `iommufd-noiommu` | `/dev/vfio/devices/noiommu-vfioN`, `/dev/iommu` | `IOMMU_IOAS_NOIOMMU_GET_PA` | all |
//! | `group` | `/dev/vfio/G`, `/dev/vfio/vfio` | the IOVA | all |
//! | `group-noiommu` | `/dev/vfio/noiommu-G`, `/dev/vfio/vfio` | `/proc/self/pagemap` | all |
//! | `uio` | resource files of sysfs, `/dev/uioN` | `/proc/self/pagemap` | the line, by `uio_pci_generic` |
//!
//! [`Options::mode`] asks for a certain one. In the modes `group` and `group-noiommu` a group is opened once, so that two
//! devices of one IOMMU group cannot be open at a time. The modes that read `/proc/self/pagemap` need `CAP_SYS_ADMIN` and huge pages
//! (`/proc/sys/vm/nr_hugepages`): nothing pins memory there, and the kernel may move any other. In the mode `uio` the
//! kernel keeps nobody else from the device either, but this crate does, by a lock on its `config`.
//!
//! A mode without an IOMMU is never taken silently: without [`Options::allow_noiommu`] the answer is
//! [`Error::NoiommuNotAllowed`]. On the host the device must be bound to `vfio-pci` (for `uio` to `uio_pci_generic`, or to
//! no driver):
//!
//! ```text
//! echo vfio-pci     > /sys/bus/pci/devices/0000:01:00.0/driver_override
//! echo 0000:01:00.0 > /sys/bus/pci/devices/0000:01:00.0/driver/unbind     # if it has a driver
//! echo 0000:01:00.0 > /sys/bus/pci/drivers_probe
//! ```
//!
//! Without an IOMMU `vfio-pci` takes it only while `/sys/module/vfio/parameters/enable_unsafe_noiommu_mode` is `Y`,
//! and the program needs `CAP_SYS_RAWIO`.
//!
//! # Without privileges
//!
//! A program that `ioasis open ADDRESS -- PROGRAM` starts has no privilege, and finds the device open:
//!
//! ```no_run
//! use ioasis::{Device, Options};
//!
//! # fn main() -> ioasis::Result<()> {
//! let device = Device::from_env(&Options::new().allow_noiommu(true))?;
//! println!("{} in mode {}", device.name(), device.mode());
//! # Ok(())
//! # }
//! ```
//!
//! Everything else is as for a device that it opened itself; physical addresses are asked of a [translator](translate). [`Passed`] describes
//! what is passed and how, [`Device::from_fds`] takes over descriptors that came in another way, and with
//! [`Options::passed`] a program runs in both ways.
//!
//! # Configuration space and registers
//!
//! [`Device::config`] reads and writes configuration space and finds capabilities ([`Config::msix`],
//! [`Config::express`], …). [`Device::bar`] maps the registers behind a BAR; [`Bar`] has accesses of 8, 16, 32 and 64
//! bits, volatile, little-endian and bounds-checked (the methods of [`Mmio`]).
//!
//! # Memory
//!
//! [`AddressSpace::allocate`] gives memory that both sides reach. What matters is that it is **not contiguous** for a
//! device without an IOMMU: two neighbouring pages of a [`DmaBuffer`] may lie anywhere in physical memory.
//! [`DmaBuffer::segments`] lists the pieces, [`DmaBuffer::address_at`] tells the device address of a byte and how far
//! it goes on from there.
//!
//! ```
//! # use ioasis::machine::{DeviceSpec, Machine, MachineSpec, ModelSpec};
//! # use ioasis::{Device, DmaOptions, DmaPool, Options, PageSize, Shape};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let edu = DeviceSpec::new("0000:01:00.0".parse()?, ModelSpec::Edu);
//! # let machine = Machine::from_spec(MachineSpec { devices: vec![edu], ..MachineSpec::default() })?;
//! # let device = Device::open(&machine, "0000:01:00.0".parse()?, &Options::new().allow_noiommu(true))?;
//! let buffer = device.address_space().allocate(64 << 10, &DmaOptions::new())?;
//! for segment in buffer.segments() {
//!     println!("{} bytes at {}", segment.length, segment.address);
//! }
//!
//! // Queues and small structures come from a pool. A ring that the device is told by one address must be contiguous.
//! let huge = DmaOptions::new().page_size(PageSize::Huge2M);
//! let pool = DmaPool::new(device.address_space().allocate(2 << 20, &huge)?);
//! let ring = pool.allocate(Shape::array(64, 1024).align(4096).contiguous(true))?;
//! assert_eq!(ring.segments().count(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! The device may change the bytes at any time, so no reference to them is ever made: they are copied
//! ([`DmaBuffer::read_at`], [`DmaBuffer::write_at`]) or read and written as words. Of a word by which the device says
//! that other words are ready, take the `_acquire` form; to say so to the device, the `_release` form.
//!
//! # Interrupts
//!
//! [`Interrupts::msix`], [`Interrupts::msi`] and [`Interrupts::line`] give [`Interrupt`]s: eventfds to wait for
//! ([`Interrupt::wait`]), to look at ([`Interrupt::try_take`]), or to hand to any runtime (`AsFd`). Messages are memory
//! writes of the device, so bus mastering must be on.
//!
//! # The end
//!
//! Dropping a [`Device`] stops it from mastering the bus, disables its interrupts, detaches it and closes it. Dropping
//! the last handle on a [`DmaBuffer`] unmaps it and then frees it. Behind an IOMMU the two may come in any order.
//! **Without an IOMMU a device that still writes to memory that was freed overwrites what is there next**: drop the device first
//! (the order of the fields above), or see its last command complete.
//!
//! # What went wrong
//!
//! An [`Error`] says what was attempted, on which object, the errno, and what to do; on an embedded machine also which
//! rule of the kernel was broken. With [`Options::trace`] each call is recorded, with its answer and its time
//! ([`Device::trace`]).
//!
//! # Safety
//!
//! This crate is memory-safe behind an IOMMU. Without one, a device that is told a wrong address writes there; nothing
//! in software can prevent that, which is why such a device has to be allowed. An embedded machine finds such accesses.

#![deny(unsafe_code)]

mod address;
mod bar;
mod calls;
mod config;
mod device;
mod error;
mod help;
mod interrupt;
mod interrupts;
mod memory;
mod mode;
mod open;
mod options;
mod passed;
mod pool;
mod reach;
mod trace;
pub mod translate;

pub use address::{DeviceAddr, Iova, ParseAddressError, PciAddress, PhysAddr, UserVa};
pub use bar::Bar;
pub use config::{
    Capability, Command, Config, ExpressCapability, MsiCapability, MsixCapability, PowerCapability, Status,
};
pub use device::Device;
pub use error::{Error, Result};
pub use interrupt::Interrupt;
pub use interrupts::{InterruptKind, Interrupts};
pub use memory::{AddressSpace, DmaBuffer, DmaOptions, Segment, Segments};
pub use mode::{Looked, Mode, PassedOver};
pub use open::DeviceFiles;
pub use options::Options;
pub use passed::Passed;
pub use pool::{DmaPool, Pooled, Shape};
pub use trace::{Step, Trace};

pub use sys::{Linux, Mmio, MmioError, PageSize, Sys};
pub use uapi::Errno;

#[cfg(feature = "machine")]
pub use machine;

/// The example of the project's front page compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct FrontPage;
