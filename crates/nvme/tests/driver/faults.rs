//! Memory that runs out, at every place of the way to a block.

use ioasis::{Device, DmaOptions, Options};
use machine::Machine;
use nvme::{Completions, Controller, Error, Operation};

use crate::common::*;

/// Opens the controller and reads a block by an interrupt.
fn read_a_block(machine: &Machine) -> Result<(), Error> {
    let device = Device::open(machine, ADDRESS.parse().unwrap(), &Options::new().allow_noiommu(true))?;
    let controller = Controller::new(device, 1)?;
    let namespace = controller.namespaces()?[0];
    let mut queue = controller.queue(8, Completions::Interrupt)?;
    let memory = controller.device().address_space().allocate(4096, &DmaOptions::new())?;
    transfer(&mut queue, Operation::Read, &namespace, 0, (&memory, 0), 8)
}

/// Lets the first attempt fail that `fail` orders, then the second, and so on until nothing is left to fail.
fn sweep(fail: impl Fn(&Machine, Option<u64>) -> Option<u64>) {
    let machine = plain();
    let before = machine.usage();
    let mut failures = 0;
    for n in 1.. {
        fail(&machine, Some(n));
        let result = read_a_block(&machine);
        let happened = fail(&machine, None).is_none();
        assert_eq!(machine.usage(), before, "failure {n}");
        assert_eq!(machine.findings(), [], "failure {n}");
        if !happened {
            result.unwrap();
            break;
        }
        let error = result.unwrap_err();
        assert!(error.to_string().contains("ENOMEM"), "failure {n}: {error}");
        failures += 1;
    }
    assert!(failures > 0);
}

#[test]
fn an_allocation_that_fails_leaves_nothing() {
    sweep(Machine::fail_allocation);
}

#[test]
fn a_pin_that_fails_leaves_nothing() {
    sweep(Machine::fail_pin);
}
