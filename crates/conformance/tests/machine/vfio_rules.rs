//! The rules of VFIO that no row of the slice breaks, or none whose answer is the refusal alone.

use subsystem::Refusal;

use crate::rules::Broken;

/// The rules that no call on a machine can break.
pub(crate) const OUT_OF_REACH: &[(Refusal, &str)] = &[];

pub(crate) fn broken() -> Vec<Broken> {
    vec![]
}
