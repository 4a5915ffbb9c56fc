//! VF tokens, by which the users of the functions of one SR-IOV device show that they trust each other.
//!
//! A physical function has the token. Whoever opens one of its virtual functions gives it; so does whoever opens the physical
//! one while virtual ones are open. While none is, a token that comes with the physical function becomes the new one.

use crate::host::{Function, Host, Level, Mutex as _, Sriov};
use crate::rules::{Refusal, vfio as rules};
use crate::tables::Tables;
use crate::vfio::device::Device;

/// A UUID, in the order of its digits.
pub(crate) type Token = [u8; 16];

/// What a function is with regard to SR-IOV.
pub(crate) enum Role<H: Host> {
    /// Neither of the two.
    Plain,
    /// A physical function.
    Physical(H::Mutex<Trust>),
    /// A virtual function of this physical one.
    Virtual(Function),
}

/// What a physical function knows of the users of its virtual ones.
#[derive(Default)]
pub(crate) struct Trust {
    /// `None`: one was drawn when the driver was bound, and nobody knows it.
    token: Option<Token>,
    /// How many virtual functions are open.
    users: u32,
}

impl<H: Host> Role<H> {
    pub(super) fn of(host: &H, function: Function) -> Self {
        match host.sriov(function) {
            Sriov::None => Role::Plain,
            Sriov::Physical { .. } => Role::Physical(H::Mutex::new(Trust::default())),
            Sriov::Virtual(physical) => Role::Virtual(physical),
        }
    }
}

/// What the physical function of a virtual one keeps, if that has the driver of VFIO too. (Only that driver makes virtual functions
/// here, and takes them away before it lets go.)
fn trust_of<H: Host>(tables: &Tables<H>, physical: Function) -> Option<&H::Mutex<Trust>> {
    match &tables.device_of(physical)?.pci()?.role {
        Role::Physical(trust) => Some(trust),
        Role::Plain | Role::Virtual(_) => None,
    }
}

/// Checks the token that comes with opening a device, and keeps it where it is a new one.
pub(crate) fn check_token<H: Host>(
    tables: &Tables<H>,
    host: &H,
    device: &Device<H>,
    given: Option<Token>,
) -> Result<(), Refusal> {
    // An emulated device takes none, which was seen to before.
    let Some(pci) = device.pci() else { return Ok(()) };
    let told = match (&pci.role, given) {
        (Role::Plain, None) => Ok(()),
        (Role::Plain, Some(_)) => Err((rules::BIND_TOKEN, "VF token incorrectly provided, not a PF or VF")),
        (Role::Virtual(physical), given) => match (trust_of(tables, *physical), given) {
            (Some(trust), given) => trust.with(|trust| trust.check(given)),
            (None, None) => Ok(()),
            (None, Some(_)) => {
                Err((rules::TOKEN_PHYSICAL, "VF token incorrectly provided, PF not bound to vfio-pci"))
            }
        },
        (Role::Physical(trust), given) => trust.with(|trust| {
            if trust.users > 0 {
                return trust.check(given);
            }
            trust.token = given.or(trust.token);
            Ok(())
        }),
    };
    told.map_err(|(refusal, line)| {
        host.log(Level::Info, Some(device.identity.function), format_args!("{line}"));
        refusal
    })
}

impl Trust {
    /// The token from now on.
    pub(super) fn set(&mut self, token: Token) {
        self.token = Some(token);
    }

    /// Checks a token that is needed.
    fn check(&self, given: Option<Token>) -> Result<(), (Refusal, &'static str)> {
        match given {
            None => Err((rules::TOKEN_REQUIRED, "VF token required to access device")),
            Some(given) if self.token == Some(given) => Ok(()),
            Some(_) => Err((rules::TOKEN_WRONG, "Incorrect VF token provided for device")),
        }
    }
}

/// A device was opened: its physical function has one more user, if it is a virtual one.
pub(crate) fn add_user<H: Host>(tables: &Tables<H>, device: &Device<H>) {
    with_users(tables, device, |users| users.saturating_add(1));
}

/// It is closed.
pub(crate) fn remove_user<H: Host>(tables: &Tables<H>, device: &Device<H>) {
    with_users(tables, device, |users| users.saturating_sub(1));
}

fn with_users<H: Host>(tables: &Tables<H>, device: &Device<H>, change: impl FnOnce(u32) -> u32) {
    if let Some(Role::Virtual(physical)) = device.pci().map(|pci| &pci.role)
        && let Some(trust) = trust_of(tables, *physical)
    {
        trust.with(|trust| trust.users = change(trust.users));
    }
}
