//! Device models that rows ask for and that the machine does not bring along.

mod both;
mod bridge;
mod ports;
mod witness;

pub(crate) use both::Both;
pub(crate) use bridge::Bridge;
pub(crate) use ports::Ports;
pub(crate) use witness::Witness;

use machine::model::Identity;

/// A conventional function that has nothing: no BAR, no interrupt, no reset.
fn bare() -> Identity {
    Identity {
        vendor: 0x1af4,
        device: 1,
        subsystem_vendor: 0,
        subsystem: 0,
        revision: 0,
        class: 0xff_0000,
        bars: [None; 6],
        line: false,
        msi: None,
        msix: None,
        express: None,
        dma_bits: 64,
    }
}
