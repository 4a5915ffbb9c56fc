//! Giving privileges up (`capabilities(7)`).

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, no_new_privs, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::user::User;

/// Becomes `user`, unless that is `None`, keeps these capabilities and no others, and neither this process nor what it becomes ever has more again.
///
/// Credentials are those of a thread, so the process must have no other one.
pub(super) fn keep(kept: CapabilitySet, user: Option<&User>) -> Result<()> {
    // With no capability a program may not empty its bounding set; `no_new_privs` keeps it from gaining one all the same.
    if capabilities(None)?.effective.contains(CapabilitySet::SETPCAP) {
        empty_bounding_set().context("cannot empty the bounding set of capabilities")?;
    }
    clear_ambient_capability_set().context("cannot empty the ambient set of capabilities")?;
    if let Some(user) = user {
        become_user(user).with_context(|| format!("cannot become the user {}", user.uid))?;
    }
    let wanted = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, wanted).with_context(|| format!("cannot reduce the capabilities to {kept:?}"))?;
    set_no_new_privs(true).context("cannot set no_new_privs")?;
    // What is at stake is worth a second look.
    ensure!(
        capabilities(None)? == wanted && no_new_privs()?,
        "the kernel has left more privileges than {kept:?}"
    );
    if let Some(user) = user {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        ensure!((uid, gid) == (user.uid, user.gid), "the kernel has left user {uid} and group {gid}");
    }
    Ok(())
}

fn empty_bounding_set() -> Result<(), Errno> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            // The kernel knows no such capability.
            Err(Errno::INVAL) => break,
            Ok(true) => remove_capability_from_bounding_set(capability)?,
            found => found.map(drop)?,
        }
    }
    Ok(())
}

fn become_user(user: &User) -> Result<(), Errno> {
    // Else all capabilities go with the user id, those to be kept too.
    set_keep_capabilities(true)?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}
