//! The world as the subsystem's memory: that of processes, pinned.
#![forbid(unsafe_code)]

use subsystem::{Account, Backing, PinError, Run, Source, Task, Transfer};

use super::World;
use crate::ram::{Pin, Space};

impl subsystem::Memory for World {
    type Pin = Pin;

    fn pin(&self, source: Source, first: u64, pages: u64, write: bool) -> Result<Pin, PinError> {
        if self.faults.permit_pin() {
            self.ram.pin(source, first, pages, write)
        } else {
            Err(PinError::NoMemory)
        }
    }

    fn is_region(&self, task: Task, address: u64, pages: u64, write: bool) -> bool {
        // The tasks of this process have one address space.
        let space = match self.ram.accounts().space(task) {
            Space::Here => None,
            Space::There(_) => Some(task),
            Space::Gone => return false,
        };
        let end = pages.checked_mul(Self::PAGE).and_then(|length| address.checked_add(length));
        end.is_some_and(|end| self.regions.cover(space, address..end, write))
    }

    fn unpin(&self, pin: Pin, first: u64, pages: u64) {
        self.domains.unpin(pin, first, pages);
    }

    fn run(&self, pin: Pin, page: u64, left: u64) -> Run {
        self.ram.run(pin, page, left)
    }

    fn pins(&self, pin: Pin, page: u64) -> u64 {
        self.ram.pins(pin, page)
    }

    fn lockable(&self, task: Task) -> (u64, u64) {
        self.ram.accounts().lockable(task)
    }

    fn copy(&self, pin: Pin, at: u64, bytes: Transfer<'_>) {
        match bytes {
            Transfer::Read(bytes) => self.ram.read_pinned(pin, at, bytes),
            Transfer::Write(bytes) => self.ram.write_pinned(pin, at, bytes),
        }
    }

    fn charge(&self, task: Task, account: Account, pages: u64) -> bool {
        self.ram.accounts().charge(task, account, pages)
    }

    fn uncharge(&self, task: Task, account: Account, pages: u64) {
        self.ram.accounts().uncharge(task, account, pages);
    }

    fn hold_task(&self, task: Task) {
        self.ram.accounts().hold(task);
    }

    fn put_task(&self, task: Task) {
        self.ram.accounts().put(task);
    }

    fn put_backing(&self, backing: Backing) {
        self.ram.put_backing(backing);
    }
}
