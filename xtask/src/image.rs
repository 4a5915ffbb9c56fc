//! A real ext4 image, read and written through the driver on an embedded machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::run::{build_ioasis, ioasis_path, run, scratch};

/// Makes an ext4 image of at least 1 GiB over a folder of real files, reads all of it through the driver from memory that is
/// scattered page by page, and compares; then writes it to a second, empty image and compares that.
pub(crate) fn round_trip() -> Result<()> {
    build_ioasis()?;
    let folder = scratch("image")?;
    let image = folder.join("disk.img");
    make_real_image(&image)?;

    let copy = folder.join("copy.img");
    let source = machine(&folder, "source", &image)?;
    nvme(&source, &["read", "0000:01:00.0", "--lba", "0", "--all", "-o"], &copy)?;
    same(&image, &copy)?;
    run(Command::new(tool("e2fsck")?).args(["-fn"]).arg(&copy).stdout(Stdio::null()))?;
    fs::remove_file(&copy)?;

    let target = folder.join("target.img");
    File::create(&target)?.set_len(fs::metadata(&image)?.len())?;
    let destination = machine(&folder, "destination", &target)?;
    nvme(&destination, &["write", "0000:01:00.0", "--lba", "0", "-i"], &image)?;
    same(&image, &target)?;
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// An error if a tool is missing that [`round_trip`] needs.
pub(crate) fn check_tools() -> Result<()> {
    ["mke2fs", "e2fsck"].into_iter().try_for_each(|name| tool(name).map(drop))
}

/// An image of real files.
fn make_real_image(image: &Path) -> Result<()> {
    let files = real_files()?;
    // A third more than the files need, for the file system's own structures.
    let bytes = (occupied(&files)? / 3 * 4).max(1 << 30).next_multiple_of(1 << 20);
    make(image, &files, bytes)
}

/// Makes an ext4 image of so many bytes over a folder.
pub(crate) fn make(image: &Path, files: &Path, bytes: u64) -> Result<()> {
    File::create(image)?.set_len(bytes)?;
    run(Command::new(tool("mke2fs")?).args(["-q", "-F", "-t", "ext4", "-d"]).arg(files).arg(image))
}

/// Real files of every size, which whoever builds this has: the libraries of the Rust toolchain.
fn real_files() -> Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().context("cannot start rustc")?;
    ensure!(output.status.success(), "rustc --print sysroot failed");
    Ok(Path::new(String::from_utf8(output.stdout)?.trim()).join("lib"))
}

/// Bytes in whole 4 KiB blocks of everything below a folder, links not followed.
fn occupied(folder: &Path) -> Result<u64> {
    let mut bytes = 4096;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        let data = entry.metadata()?;
        bytes += if data.is_dir() { occupied(&entry.path())? } else { data.len().next_multiple_of(4096) };
    }
    Ok(bytes)
}

fn machine(folder: &Path, name: &str, image: &Path) -> Result<PathBuf> {
    let path = folder.join(format!("{name}.toml"));
    let text = format!(
        "[memory]\nlayout = \"scattered\"\nseed = 7\n\n[[device]]\naddress = \"0000:01:00.0\"\nmodel = \"nvme\"\nimage = {image:?}\n"
    );
    fs::write(&path, text)?;
    Ok(path)
}

fn nvme(machine: &Path, words: &[&str], file: &Path) -> Result<()> {
    run(Command::new(ioasis_path()).arg("--machine").arg(machine).arg("nvme").args(words).arg(file))
}

fn same(left: &Path, right: &Path) -> Result<()> {
    let (a, b) = (sha256(left)?, sha256(right)?);
    println!("{a}  {}\n{b}  {}", left.display(), right.display());
    ensure!(a == b, "{} and {} differ", left.display(), right.display());
    Ok(())
}

pub(crate) fn sha256(path: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg("--").arg(path).output().context("cannot start sha256sum")?;
    ensure!(output.status.success(), "sha256sum of {} failed", path.display());
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

/// A tool of e2fsprogs, which Debian keeps outside an ordinary user's path.
fn tool(name: &str) -> Result<PathBuf> {
    for folder in ["/usr/sbin", "/sbin", "/usr/bin"] {
        let path = Path::new(folder).join(name);
        if path.exists() {
            return Ok(path);
        }
    }
    bail!("{name} is missing: install the package e2fsprogs")
}
