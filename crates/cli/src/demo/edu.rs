//! The `edu` device (QEMU, `docs/specs/edu.rst`): bytes to its own buffer and back.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ioasis::{
    Bar, Device, DmaBuffer, DmaOptions, Error, Interrupt, InterruptKind, Options, PageSize, PciAddress, Step,
    Sys,
};

use super::PATIENCE;

/// What is sent. The device's buffer has 4096 bytes, but QEMU 7.2 ends itself where a transfer comes to their very end.
const BYTES: usize = 4000;
/// Where that buffer is, as the device's DMA engine sees it.
const BUFFER: u64 = 0x4_0000;

/// Why it interrupted.
const STATUS: usize = 0x24;
/// Takes interrupts back.
const ACKNOWLEDGE: usize = 0x64;
/// DMA: from where.
const SOURCE: usize = 0x80;
/// DMA: to where.
const DESTINATION: usize = 0x88;
/// DMA: how many bytes.
const COUNT: usize = 0x90;
/// DMA: what to do.
const COMMAND: usize = 0x98;
/// In the command: start; reads as 1 until the end.
const START: u32 = 1;
/// In the command: from memory to the device's buffer.
const FROM_MEMORY: u32 = 0;
/// In the command: from the device's buffer to memory.
const TO_MEMORY: u32 = 2;
/// In the command: interrupt at the end.
const INTERRUPT: u32 = 4;

/// What the device did.
pub(super) struct Echo {
    pub(super) right: bool,
    /// How the end of each way was told; `None` where the device was asked over and over.
    pub(super) interrupts: Option<InterruptKind>,
    pub(super) steps: Vec<Step>,
}

/// Sends bytes to the buffer of the device and back, with an interrupt at the end of each way where there is one.
pub(super) fn echo<S: Sys>(sys: &S, address: PciAddress, options: &Options) -> Result<Echo> {
    let device = Device::open(sys, address, options)?;
    let id = device.config().read_u32(0)?;
    ensure!(id == 0x11e8_1234, "{address} is no edu device: its vendor and device IDs are {id:#010x}");
    let trace = device.trace().clone();
    device.set_bus_master(true)?;
    let bar = device.bar(0)?;
    let interrupt = interrupt(&device)?;
    let [there, back] = memory(&device)?;
    let sent: Vec<u8> = (0..BYTES).map(|byte| (byte * 7) as u8).collect();
    there.write_at(0, &sent);
    let ways =
        [(there.address_at(0).0.get(), BUFFER, FROM_MEMORY), (BUFFER, back.address_at(0).0.get(), TO_MEMORY)];
    for (from, to, way) in ways {
        bar.write64(SOURCE, from);
        bar.write64(DESTINATION, to);
        bar.write64(COUNT, BYTES as u64);
        match &interrupt {
            Some(interrupt) => {
                bar.write32(COMMAND, START | way | INTERRUPT);
                take(&device, &bar, interrupt)?;
            }
            None => {
                bar.write32(COMMAND, START | way);
                poll(&bar)?;
            }
        }
    }
    let mut received = vec![0; BYTES];
    back.read_at(0, &mut received);
    let interrupts = interrupt.as_ref().map(Interrupt::kind);
    // The device first: nothing may reach for memory that is gone.
    drop((bar, interrupt, device, there, back));
    Ok(Echo { right: received == sent, interrupts, steps: trace.steps() })
}

/// Memory for each way, in the reach of a DMA engine with 28 address bits. Without an IOMMU pages are that low by chance;
/// huge pages that were reserved at boot are more likely to be.
fn memory<S: Sys>(device: &Device<S>) -> Result<[DmaBuffer<S>; 2]> {
    const PAGE: usize = 4096;
    let space = device.address_space();
    let low = DmaOptions::new().mask_bits(28);
    let memory = match space.allocate(2 * PAGE, &low) {
        Err(out_of_reach @ Error::OutOfReach { .. }) => {
            space.allocate(2 * PAGE, &low.page_size(PageSize::Huge2M)).map_err(|_| out_of_reach)
        }
        answer => answer,
    }?;
    Ok([memory.slice(0..BYTES), memory.slice(PAGE..PAGE + BYTES)])
}

/// A vector of the best kind that the mode offers.
fn interrupt<S: Sys>(device: &Device<S>) -> Result<Option<Interrupt<S>>> {
    let interrupts = device.interrupts();
    if interrupts.count(InterruptKind::Msi)? > 0 {
        return Ok(interrupts.msi(1)?.pop());
    }
    Ok(if interrupts.count(InterruptKind::Line)? > 0 { Some(interrupts.line()?) } else { None })
}

/// Waits for the interrupt, and makes the device and its line ready for the next one.
fn take<S: Sys>(device: &Device<S>, bar: &Bar, interrupt: &Interrupt<S>) -> Result<()> {
    interrupt.wait(Some(PATIENCE))?.context("the edu device sent no interrupt")?;
    bar.write32(ACKNOWLEDGE, bar.read32(STATUS));
    if interrupt.kind() == InterruptKind::Line {
        device.interrupts().unmask_line()?;
    }
    Ok(())
}

/// Asks the device until it is done.
fn poll(bar: &Bar) -> Result<()> {
    let start = Instant::now();
    while bar.read32(COMMAND) & START != 0 {
        ensure!(start.elapsed() < PATIENCE, "the edu device does not end its DMA");
        sleep(Duration::from_millis(1));
    }
    Ok(())
}
