//! Which buses are behind ports.

use std::collections::BTreeMap;

use crate::spec::{PciAddress, PortSpec};

/// The ports of a machine, by the bus behind them. Every other bus is a root bus, on a host bridge of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topology {
    ports: BTreeMap<(u16, u8), PciAddress>,
}

impl Topology {
    pub(crate) fn new(ports: &[PortSpec]) -> Self {
        Topology { ports: ports.iter().map(|port| (port.secondary(), port.address)).collect() }
    }

    /// The port that a function is behind.
    pub(crate) fn port(&self, address: PciAddress) -> Option<PciAddress> {
        self.ports.get(&(address.domain(), address.bus())).copied()
    }

    /// Whether there is a port at an address.
    pub(crate) fn is_port(&self, address: PciAddress) -> bool {
        self.ports.values().any(|port| *port == address)
    }

    /// The directory of a function, without `/sys`.
    pub(crate) fn path(&self, address: PciAddress) -> String {
        match self.port(address) {
            Some(port) => format!("{}/{address}", self.path(port)),
            None => format!("/devices/pci{:04x}:{:02x}/{address}", address.domain(), address.bus()),
        }
    }
}
