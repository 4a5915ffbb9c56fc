//! Failures to order: the n-th allocation, the n-th pin.

use std::sync::atomic::{AtomicU64, Ordering};

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
