//! Locks of the standard library that also notice when one thread takes one twice.

use std::cell::RefCell;

use subsystem::Locks;

use super::host::TestHost;

thread_local! {
    /// The locks that this thread holds, by address.
    static HELD: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` while the lock at `address` counts as held.
fn holding<R>(address: usize, f: impl FnOnce() -> R) -> R {
    /// Lets go of the last lock, even when a test fails within.
    struct Release;
    impl Drop for Release {
        fn drop(&mut self) {
            HELD.with_borrow_mut(|held| held.pop());
        }
    }
    HELD.with_borrow_mut(|held| {
        assert!(!held.contains(&address), "a lock is taken twice by one thread");
        held.push(address);
    });
    let _release = Release;
    f()
}

pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T: Send> subsystem::Mutex<T> for Mutex<T> {
    fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        holding(&raw const *self as usize, || f(&mut self.0.lock().unwrap()))
    }
}

pub(crate) struct RwLock<T>(std::sync::RwLock<T>);

impl<T: Send + Sync> subsystem::RwLock<T> for RwLock<T> {
    fn new(value: T) -> Self {
        Self(std::sync::RwLock::new(value))
    }

    fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        holding(&raw const *self as usize, || f(&self.0.read().unwrap()))
    }

    fn write<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        holding(&raw const *self as usize, || f(&mut self.0.write().unwrap()))
    }
}

impl Locks for TestHost {
    type Mutex<T: Send> = Mutex<T>;
    type RwLock<T: Send + Sync> = RwLock<T>;
}
