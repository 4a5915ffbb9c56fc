//! Who on the host needs a device.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Host;

/// What on the host would fail without the device whose folder in sysfs this is, each with what to do; empty if nothing is known to.
pub(super) fn find(host: &Host, folder: &Path) -> Result<Vec<String>> {
    let roots = roots(host, folder)?;
    let below = |path: &Path| roots.iter().any(|root| path.starts_with(root));
    let mut users = Vec::new();
    let mounts = mounts(host);
    for (name, path) in class(host, "block").into_iter().filter(|(_, path)| below(path)) {
        users.extend(users_of_disk(host, &name, &path, &mounts));
    }
    for (name, path) in class(host, "net").into_iter().filter(|(_, path)| below(path)) {
        if is_up(&path) {
            users.push(format!("the network interface {name} is up (ip link set {name} down)"));
        }
    }
    users.extend(shared_folders(&roots, &mounts));
    Ok(users)
}

/// The folders in sysfs that what the device drives is in: its own, and that of the subsystem of an NVMe controller with several paths.
fn roots(host: &Host, folder: &Path) -> Result<Vec<PathBuf>> {
    let device = folder.canonicalize()?;
    let controllers = |subsystem: &Path| links(subsystem).any(|(_, path)| path.starts_with(&device));
    let subsystems = class(host, "nvme-subsystem").into_iter().map(|(_, path)| path);
    let mut roots: Vec<PathBuf> = subsystems.filter(|path| controllers(path)).collect();
    roots.push(device);
    Ok(roots)
}

/// The entries of a class: names and folders.
fn class(host: &Host, name: &str) -> Vec<(String, PathBuf)> {
    links(&host.path("sys/class").join(name)).collect()
}

/// What a folder has, with links followed.
fn links(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        Some((entry.file_name().to_string_lossy().into_owned(), entry.path().canonicalize().ok()?))
    })
}

/// A mounted file system (`proc_pid_mountinfo(5)`).
struct Mount {
    /// `major:minor`
    device: String,
    point: String,
    kind: String,
    source: String,
}

fn mounts(host: &Host) -> Vec<Mount> {
    let text = fs::read_to_string(host.path("proc/self/mountinfo")).unwrap_or_default();
    let parse = |line: &str| {
        let (head, tail) = line.split_once(" - ")?;
        let (mut head, mut tail) = (head.split(' '), tail.split(' '));
        let (device, point) = (head.nth(2)?.to_owned(), head.nth(1)?.to_owned());
        Some(Mount { device, point, kind: tail.next()?.to_owned(), source: tail.next()?.to_owned() })
    };
    text.lines().filter_map(parse).collect()
}

fn users_of_disk(host: &Host, name: &str, path: &Path, mounts: &[Mount]) -> Vec<String> {
    // Names in sysfs have an exclamation mark where those in /dev have a slash.
    let node = host.path("dev").join(name.replace('!', "/"));
    let number = fs::read_to_string(path.join("dev")).unwrap_or_default();
    // File systems of several disks have a number of their own.
    let is_on = |mount: &&Mount| {
        mount.device == number.trim() || Path::new(&mount.source) == Path::new("/dev").join(name)
    };
    let mut users: Vec<String> = mounts
        .iter()
        .filter(is_on)
        .map(|mount| format!("{name} is mounted on {0} (umount {0})", mount.point))
        .collect();
    let swaps = fs::read_to_string(host.path("proc/swaps")).unwrap_or_default();
    if swaps
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .any(|path| path == format!("/dev/{name}"))
    {
        users.push(format!("{name} is swap (swapoff /dev/{name})"));
    }
    for (holder, _) in links(&path.join("holders")) {
        users.push(format!(
            "{name} is a part of {holder} (stop that: vgchange -an, cryptsetup close, mdadm --stop)"
        ));
    }
    if users.is_empty() && is_claimed(&node) {
        users.push(format!(
            "{name} is in use, though nothing in this mount namespace tells by whom (lsof {})",
            node.display()
        ));
    }
    users
}

/// Whether somebody has a disk for himself, as who mounts it does in any mount namespace (`open(2)`, `O_EXCL`).
fn is_claimed(node: &Path) -> bool {
    let flags = (OFlags::EXCL | OFlags::NONBLOCK).bits().cast_signed();
    let opened = File::options().read(true).custom_flags(flags).open(node);
    opened.err().and_then(|error| Errno::from_io_error(&error)) == Some(Errno::BUSY)
}

fn is_up(interface: &Path) -> bool {
    const IFF_UP: u32 = 1;
    let flags = fs::read_to_string(interface.join("flags")).unwrap_or_default();
    u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).is_ok_and(|flags| flags & IFF_UP != 0)
}

/// Folders of the host of a virtual machine, which come over a device (9p).
fn shared_folders(roots: &[PathBuf], mounts: &[Mount]) -> Vec<String> {
    let tags = roots
        .iter()
        .flat_map(|root| links(root))
        .filter_map(|(_, path)| fs::read(path.join("mount_tag")).ok());
    // The kernel ends it with a zero byte.
    let tags: Vec<String> =
        tags.map(|tag| String::from_utf8_lossy(&tag).trim_end_matches(['\0', '\n']).to_owned()).collect();
    let uses = |mount: &&Mount| mount.kind == "9p" && tags.contains(&mount.source);
    mounts
        .iter()
        .filter(uses)
        .map(|mount| format!("{} is mounted on {1} (umount {1})", mount.source, mount.point))
        .collect()
}
