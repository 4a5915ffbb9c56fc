//! The guest's root file system: a cpio archive in the kernel's `newc` format (kernel document
//! driver-api/early-userspace/buffer-format).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};

const FOLDER: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// A file of the host and its path in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) host: PathBuf,
    /// Absolute.
    pub(crate) guest: PathBuf,
}

/// Writes an archive of the folders that the init mounts things on, a console, and the files.
pub(crate) fn write(path: &Path, files: &[Placed]) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut archive = Archive::new(io::BufWriter::new(file));
    for folder in ["dev", "host", "proc", "sys", "tmp"] {
        archive.folder(Path::new(folder))?;
    }
    archive.entry("dev/console", CHARACTER_DEVICE, (5, 1), 0)?;
    for file in files {
        archive.file(file).with_context(|| format!("cannot put {} into the guest", file.host.display()))?;
    }
    archive.finish()?;
    Ok(())
}

struct Archive<W> {
    output: W,
    written: u64,
    inode: u32,
    folders: BTreeSet<PathBuf>,
}

impl<W: Write> Archive<W> {
    fn new(output: W) -> Self {
        Self { output, written: 0, inode: 0, folders: BTreeSet::new() }
    }

    /// A folder and those above it, each once: the kernel makes no parents by itself.
    fn folder(&mut self, path: &Path) -> Result<()> {
        if path == Path::new("") || self.folders.contains(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.folder(parent)?;
        }
        self.entry(text(path)?, FOLDER, (0, 0), 0)?;
        self.folders.insert(path.to_owned());
        Ok(())
    }

    fn file(&mut self, file: &Placed) -> Result<()> {
        let inside = file.guest.strip_prefix("/").context("the path in the guest is not absolute")?;
        let plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
        ensure!(plain && inside.file_name().is_some(), "{} is no file's path", file.guest.display());
        if let Some(parent) = inside.parent() {
            self.folder(parent)?;
        }
        let mut input = File::open(&file.host)?;
        let data = input.metadata()?;
        ensure!(data.is_file(), "it is not a file");
        let size =
            u32::try_from(data.len()).ok().context("it is larger than an initramfs can hold (4 GiB)")?;
        self.entry(text(inside)?, EXECUTABLE, (0, 0), size)?;
        let copied = io::copy(&mut input, &mut self.output)?;
        ensure!(copied == u64::from(size), "it changed while it was read");
        self.written += copied;
        self.pad()?;
        Ok(())
    }

    /// A header: thirteen numbers of eight hexadecimal digits, then the name. Numbers of a device are (major, minor).
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), size: u32) -> io::Result<()> {
        self.inode += 1;
        let length = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        let (user, group, links, time, check) = (0, 0, 1, 0, 0);
        let numbers =
            [self.inode, mode, user, group, links, time, size, 0, 0, device.0, device.1, length, check];
        let mut header = String::from("070701");
        for number in numbers {
            header.push_str(&format!("{number:08x}"));
        }
        header.push_str(name);
        header.push('\0');
        self.output.write_all(header.as_bytes())?;
        self.written += header.len() as u64;
        self.pad()
    }

    /// Headers and contents start at multiples of 4.
    fn pad(&mut self) -> io::Result<()> {
        let missing = self.written.next_multiple_of(4) - self.written;
        self.written += missing;
        self.output.write_all(&[0; 3][..missing as usize])
    }

    fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, (0, 0), 0)?;
        self.output.flush()?;
        Ok(self.output)
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// Whether a program runs without an interpreter of its own (the guest has no shared libraries): an ELF file of x86-64 without
/// the program header that names one.
pub(crate) fn is_static(program: &Path) -> Result<bool> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    Ok(is_static_elf(&bytes))
}

fn is_static_elf(bytes: &[u8]) -> bool {
    const INTERPRETER: u64 = 3;
    let number = |at: usize, length: usize| -> Option<u64> {
        let mut value = [0; 8];
        value[..length].copy_from_slice(bytes.get(at..at.checked_add(length)?)?);
        Some(u64::from_le_bytes(value))
    };
    let has_interpreter = || -> Option<bool> {
        let (machine, x86_64) = (number(18, 2)?, 62);
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        for index in 0..count {
            let header = usize::try_from(table.checked_add(index * size)?).ok()?;
            if number(header, 4)? == INTERPRETER {
                return Some(true);
            }
        }
        (machine == x86_64).then_some(false)
    };
    bytes.starts_with(b"\x7fELF\x02\x01") && has_interpreter() == Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an archive back: names, modes and contents.
    fn read(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        let mut at = 0;
        loop {
            let field = |index: usize| {
                let start = at + 6 + index * 8;
                u32::from_str_radix(std::str::from_utf8(&bytes[start..start + 8]).unwrap(), 16).unwrap()
            };
            assert_eq!(&bytes[at..at + 6], b"070701");
            let (mode, size, length) = (field(1), field(6) as usize, field(11) as usize);
            let name = std::str::from_utf8(&bytes[at + 110..at + 110 + length - 1]).unwrap().to_owned();
            let start = (at + 110 + length).next_multiple_of(4);
            if name == "TRAILER!!!" {
                return entries;
            }
            entries.push((name, mode, bytes[start..start + size].to_vec()));
            at = (start + size).next_multiple_of(4);
        }
    }

    fn placed(content: &[u8], guest: &str) -> Placed {
        let name = format!("ioasis-initramfs-{}-{}", std::process::id(), guest.replace('/', "-"));
        let host = std::env::temp_dir().join(name);
        fs::write(&host, content).unwrap();
        Placed { host, guest: guest.into() }
    }

    #[test]
    fn folders_come_before_their_files_and_once() {
        let files = [placed(b"12345", "/a/b/one"), placed(b"", "/a/two")];
        let mut archive = Archive::new(Vec::new());
        for file in &files {
            archive.file(file).unwrap();
            fs::remove_file(&file.host).unwrap();
        }
        let entries = read(&archive.finish().unwrap());
        let expected = [
            ("a".to_owned(), FOLDER, vec![]),
            ("a/b".to_owned(), FOLDER, vec![]),
            ("a/b/one".to_owned(), EXECUTABLE, b"12345".to_vec()),
            ("a/two".to_owned(), EXECUTABLE, vec![]),
        ];
        assert_eq!(entries, expected);
    }

    #[test]
    fn a_path_that_leaves_the_guest_is_refused() {
        for guest in ["relative", "/a/../b", "/"] {
            let file = Placed { host: "/dev/null".into(), guest: guest.into() };
            assert!(Archive::new(Vec::new()).file(&file).is_err(), "{guest}");
        }
    }

    /// An ELF header with one program header of the given type.
    fn elf(kind: u32) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18] = 62;
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64..68].copy_from_slice(&kind.to_le_bytes());
        bytes
    }

    #[test]
    fn a_program_with_an_interpreter_is_not_static() {
        let (load, interpreter) = (1, 3);
        assert!(is_static_elf(&elf(load)));
        assert!(!is_static_elf(&elf(interpreter)));
        assert!(!is_static_elf(&elf(load)[..66]), "cut short");
        assert!(!is_static_elf(b"#!/bin/sh\n"));
    }
}
