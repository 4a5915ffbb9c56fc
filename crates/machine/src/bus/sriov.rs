//! Single Root I/O Virtualization: physical functions, and the virtual ones that they can have.
//!
//! The virtual functions are there from the start, each with a model of its own, but nobody knows of them before they are enabled.

use subsystem::Function;

use crate::model::{Bar, Identity};
use crate::spec::PciAddress;

/// How far behind the physical function the first virtual one is, and the next one behind that, in numbers of device and
/// function.
pub(crate) const OFFSET: u8 = 0x80;
pub(crate) const STRIDE: u8 = 2;
/// How many virtual functions there can be.
pub(crate) const MOST: u8 = 8;

/// What a function is with regard to SR-IOV.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// Neither of the two.
    Plain,
    Physical(VirtualFunctions),
    /// A virtual function of this physical one; its index.
    Virtual(Function, u8),
}

/// What a physical function says of its virtual ones.
#[derive(Clone, Debug)]
pub(crate) struct VirtualFunctions {
    /// How many there can be.
    pub(crate) total: u8,
    /// Their device ID.
    pub(crate) device: u16,
    /// Their BARs, and where those of the first one are; those of the next follow.
    pub(crate) bars: [Option<(Bar, u64)>; 6],
}

impl VirtualFunctions {
    /// As many of this identity, whose BARs are put in place by `place`, one behind the other.
    pub(super) fn new(identity: &Identity, total: u8, mut place: impl FnMut(Bar) -> u64) -> Self {
        let bars = identity.bars.map(|bar| {
            let bar = bar?;
            let first = place(bar);
            for _ in 1..total {
                place(bar);
            }
            Some((bar, first))
        });
        VirtualFunctions { total, device: identity.device, bars }
    }

    /// Where the BARs of one are.
    pub(super) fn addresses(&self, index: u8) -> [u64; 6] {
        self.bars.map(|bar| bar.map_or(0, |(bar, first)| first + u64::from(index) * bar.size))
    }
}

/// The address of a virtual function; `None`: the bus ends before it.
pub(crate) fn address(physical: PciAddress, index: u8) -> Option<PciAddress> {
    let devfn = physical.devfn().checked_add(OFFSET)?.checked_add(STRIDE.checked_mul(index)?)?;
    Some(physical.with_devfn(devfn))
}
