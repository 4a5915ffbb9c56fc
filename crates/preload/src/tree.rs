//! The machine's files as real ones in a folder, joined with what the host has beside them.
//!
//! Directories on the way to a file of the machine hold links to the host's other entries there; so a program that lists
//! `/sys/bus/pci/devices` sees both, and whatever it opens below them is the host's. A node or an attribute is an empty file: to
//! open it is a call on the machine.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use machine::{Machine, TreeEntry};

/// Makes the folder show the tree as it is now.
pub(crate) fn show(machine: &Machine, root: &Path) -> io::Result<()> {
    let (mut there, mut directories) = (BTreeSet::new(), Vec::new());
    let mut shown = Ok(());
    machine.walk_tree(&mut |path, entry| {
        // What the host has in /proc is about the process that looks; the tree's part of it is not listed.
        if shown.is_ok() && !path.starts_with("/proc") {
            there.insert(path.to_path_buf());
            if entry == TreeEntry::Directory {
                directories.push(path.to_path_buf());
            }
            shown = show_entry(&inside(root, path), path, entry);
        }
    });
    shown?;
    directories.iter().try_for_each(|directory| join(root, directory, &there))
}

/// Where the folder has a path of the machine.
pub(crate) fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn show_entry(real: &Path, path: &Path, entry: TreeEntry<'_>) -> io::Result<()> {
    let file = |text: &str, mode: u32| {
        if fs::symlink_metadata(real).is_ok() {
            return Ok(());
        }
        fs::write(real, text)?;
        fs::set_permissions(real, fs::Permissions::from_mode(mode))
    };
    match entry {
        TreeEntry::Directory => {
            let is_link = fs::symlink_metadata(real).is_ok_and(|metadata| metadata.is_symlink());
            if is_link {
                fs::remove_file(real)?;
            }
            fs::create_dir_all(real)
        }
        TreeEntry::Link(target) => {
            let target = match target.strip_prefix("/") {
                // Absolute ones lead from the root of the machine.
                Ok(target) => up(path).join(target),
                Err(_) => target.to_path_buf(),
            };
            if fs::read_link(real).is_ok_and(|before| before == target) {
                return Ok(());
            }
            remove(real)?;
            symlink(target, real)
        }
        TreeEntry::Text(mode, text) => file(text, mode),
        TreeEntry::Attribute(mode) | TreeEntry::Node { mode, .. } => file("", mode),
    }
}

/// From the directory that a path is in to the root.
fn up(path: &Path) -> PathBuf {
    let depth = path.components().count().saturating_sub(2);
    (0..depth).map(|_| "..").collect()
}

/// Takes away from a shown directory what is no longer the machine's, and links what the host has there.
fn join(root: &Path, directory: &Path, there: &BTreeSet<PathBuf>) -> io::Result<()> {
    let real = inside(root, directory);
    let names = |path: &Path| -> io::Result<BTreeSet<_>> {
        match fs::read_dir(path) {
            Ok(entries) => entries.map(|entry| entry.map(|entry| entry.file_name())).collect(),
            // What may not be listed, or is not there, adds nothing.
            Err(_) => Ok(BTreeSet::new()),
        }
    };
    // Below the root only what the machine has something of.
    let host = if directory == Path::new("/") { BTreeSet::new() } else { names(directory)? };
    for name in names(&real)? {
        if !there.contains(&directory.join(&name)) && !host.contains(&name) {
            remove(&real.join(&name))?;
        }
    }
    for name in host {
        let path = directory.join(&name);
        if !there.contains(&path) && fs::symlink_metadata(real.join(&name)).is_err() {
            symlink(&path, real.join(&name))?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
