//! The locks that the subsystem is given: those of the standard library, without poison. A panic under one of them is a
//! bug of the subsystem, which has no panicking code.

use std::sync::PoisonError;

use crate::lock::lock;

/// A lock with one holder.
pub(crate) struct Mutex<T>(std::sync::Mutex<T>);

impl<T: Send> subsystem::Mutex<T> for Mutex<T> {
    fn new(value: T) -> Self {
        Mutex(std::sync::Mutex::new(value))
    }

    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut lock(&self.0))
    }
}

/// A lock with many readers or one writer.
pub(crate) struct RwLock<T>(std::sync::RwLock<T>);

impl<T: Send + Sync> subsystem::RwLock<T> for RwLock<T> {
    fn new(value: T) -> Self {
        RwLock(std::sync::RwLock::new(value))
    }

    fn read<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        f(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}
