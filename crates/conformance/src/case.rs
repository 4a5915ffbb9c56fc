//! What a case is.

use sys::{Result, Suite};

use crate::fixture::Fixture;
use crate::outcome::Outcome;

/// A test that asks one row of a system.
pub struct Case<S: Suite> {
    /// The row's id.
    pub id: &'static str,
    pub(crate) ask: fn(&mut Fixture<S>) -> Outcome,
}

/// The case of a row.
pub(crate) fn case<S: Suite>(id: &'static str, ask: fn(&mut Fixture<S>) -> Outcome) -> Case<S> {
    Case { id, ask }
}

/// The answer of the call that a row speaks of.
pub(crate) fn answer<T: Into<u64>>(result: Result<T>) -> Outcome {
    Ok(result.into())
}
