//! Failures to order: the n-th allocation, the n-th pin.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The failures of a machine.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) allocations: Fault,
    pub(crate) pins: Fault,
    /// Of allocations and pins together: `/proc/self/fail-nth`, here that of the machine and not of a thread.
    pub(crate) nth: Fault,
    /// Whether it counts allocations. At first it spares those that may wait for memory, and all of them may:
    /// `/sys/kernel/debug/failslab/ignore-gfp-wait`.
    pub(crate) counts_allocations: AtomicBool,
}

impl Faults {
    /// Asked before each allocation: false if this one is to fail.
    pub(crate) fn permit_allocation(&self) -> bool {
        self.allocations.permit() && (!self.counts_allocations.load(Ordering::Relaxed) || self.nth.permit())
    }

    /// Asked before each pin.
    pub(crate) fn permit_pin(&self) -> bool {
        self.pins.permit() && self.nth.permit()
    }
}

/// A failure that is waiting to happen.
#[derive(Debug, Default)]
pub(crate) struct Fault {
    /// How many times it is still asked, this one included, until it happens; 0: it does not.
    left: AtomicU64,
}

impl Fault {
    /// The `n`-th of the following fails, counted from 1; `None` cancels. Answers what was left of the order before:
    /// `None` if that failure has happened, or none was ordered.
    pub(crate) fn order(&self, n: Option<u64>) -> Option<u64> {
        Some(self.left.swap(n.unwrap_or(0), Ordering::SeqCst)).filter(|&left| left != 0)
    }

    /// How many times it is still asked; 0: none is ordered, or it has happened.
    pub(crate) fn left(&self) -> u64 {
        self.left.load(Ordering::SeqCst)
    }

    /// Asked before each: false if this one is to fail.
    pub(crate) fn permit(&self) -> bool {
        if self.left.load(Ordering::Relaxed) == 0 {
            return true;
        }
        let before = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        before != Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::Fault;

    #[test]
    fn the_nth_fails_and_no_other() {
        let fault = Fault::default();
        assert!(fault.permit());
        assert_eq!(fault.order(Some(2)), None);
        assert!(fault.permit());
        assert_eq!(fault.order(Some(2)), Some(1));
        assert_eq!([fault.permit(), fault.permit(), fault.permit()], [true, false, true]);
        assert_eq!(fault.order(None), None);
    }
}
