//! Locks that know the order in which they may be taken (ARCHITECTURE.md, Locks), and panic when a thread leaves it, or takes
//! one twice. What a lock guards says which one it is.
//!
//! They are made of those in `crate::sync`: of the standard library, or of a model checker (`tests/interleavings`).

use std::any::type_name;
use std::cell::RefCell;

use subsystem::Locks;

use super::host::TestHost;
use crate::sync;

/// What each lock guards, and the place of the lock in the order. Two locks of one place are never held together.
const ORDER: [(u8, &str); 13] = [
    (1, "tables::Tables"),
    (2, "vfio::group::State"),
    (3, "vfio::set::Opened"),
    (4, "vfio::container::State"),
    (4, "iommufd::objects::Objects"),
    (5, "vfio::container::type1::Space"),
    (5, "iommufd::areas::Areas"),
    (6, "iommufd::records::Records"),
    (7, "iommufd::selftest::Mock"),
    (8, "vfio::pci::Opened"),
    (9, "vfio::pci::regions::MemorySpace"),
    (10, "vfio::pci::token::Trust"),
    (11, "parameters::ModuleParameters"),
];

/// The place of a lock, by the name of the type that it guards.
fn place(full: &str) -> u8 {
    let name = full.strip_prefix("core::option::Option<").unwrap_or(full);
    let name = name.split_once(['<', '>']).map_or(name, |(name, _)| name);
    let known = ORDER.iter().find(|(_, guarded)| name.strip_prefix("subsystem::") == Some(guarded));
    known.unwrap_or_else(|| panic!("the lock around {full} has no place in the order")).0
}

sync::thread_local! {
    /// The locks that this thread holds, outermost first: their places, and what they guard.
    static HELD: RefCell<Vec<(u8, &'static str)>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` while the lock around a type of this name counts as held.
///
/// Benches are built without assertions, and measure what a lock costs without this.
pub(crate) fn holding<R>(name: &'static str, f: impl FnOnce() -> R) -> R {
    if !cfg!(debug_assertions) {
        return f();
    }
    /// Lets go of the last lock, even when a test fails within.
    struct Release;
    impl Drop for Release {
        fn drop(&mut self) {
            HELD.with(|held| held.borrow_mut().pop());
        }
    }
    HELD.with(|held| {
        let mut held = held.borrow_mut();
        let own = place(name);
        let before = held.last().filter(|&&(last, _)| last >= own);
        assert!(before.is_none(), "{name} is locked inside {}", before.map_or("", |(_, name)| name));
        held.push((own, name));
    });
    let _release = Release;
    f()
}

pub(crate) struct Mutex<T>(sync::Mutex<T>);

impl<T: Send> subsystem::Mutex<T> for Mutex<T> {
    fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        holding(type_name::<T>(), || f(&mut self.0.lock().unwrap()))
    }
}

pub(crate) struct RwLock<T>(sync::RwLock<T>);

impl<T: Send + Sync> subsystem::RwLock<T> for RwLock<T> {
    fn new(value: T) -> Self {
        Self(sync::RwLock::new(value))
    }

    fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        holding(type_name::<T>(), || f(&self.0.read().unwrap()))
    }

    fn write<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        holding(type_name::<T>(), || f(&mut self.0.write().unwrap()))
    }
}

impl Locks for TestHost {
    type Mutex<T: Send> = Mutex<T>;
    type RwLock<T: Send + Sync> = RwLock<T>;
}
