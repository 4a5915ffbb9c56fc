//! VF tokens, by which the users of the functions of one SR-IOV device show that they trust each other.

use crate::host::{Function, Host, Level};
use crate::rules::{Refusal, vfio as rules};

/// A UUID, in the order of its digits.
pub(crate) type Token = [u8; 16];

/// Checks the token that comes with opening a function: no function here is part of SR-IOV, so none may be given.
pub(crate) fn check_token<H: Host>(
    host: &H,
    function: Function,
    token: Option<Token>,
) -> Result<(), Refusal> {
    if token.is_none() {
        return Ok(());
    }
    host.log(Level::Info, Some(function), format_args!("VF token incorrectly provided, not a PF or VF"));
    Err(rules::BIND_TOKEN)
}
