//! The program that is to run, and whether a library can be put under it.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use object::Endianness;
use object::elf::{EM_X86_64, FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

/// Interpreters of interpreters, as many as Linux follows.
const SCRIPTS: usize = 4;

/// The file that a name stands for, as a shell finds it.
pub(super) fn find(name: &OsStr) -> Result<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Ok(PathBuf::from(name));
    }
    let folders = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let is_program = |path: &PathBuf| {
        fs::metadata(path)
            .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(is_program)
        .with_context(|| format!("there is no program {}", name.display()))
}

/// Refuses a program that the dynamic loader does not put a library into.
pub(super) fn check(program: &Path) -> Result<()> {
    let mut path = program.to_path_buf();
    for _ in 0..=SCRIPTS {
        let metadata = fs::metadata(&path).with_context(|| format!("cannot run {}", path.display()))?;
        ensure!(
            metadata.permissions().mode() & 0o6000 == 0,
            "{} is run with the rights of its owner (setuid or setgid), and no library is put into such a program",
            path.display()
        );
        let mut bytes = Vec::new();
        let mut file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        file.by_ref()
            .take(1 << 16)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {}", path.display()))?;
        match bytes.strip_prefix(b"#!") {
            Some(line) => {
                path =
                    interpreter(line).with_context(|| format!("{} names no interpreter", path.display()))?
            }
            None => return check_binary(&path, &bytes),
        }
    }
    bail!("{} is a script whose interpreter is one, again and again", program.display())
}

fn interpreter(line: &[u8]) -> Option<PathBuf> {
    let line = line.split(|byte| *byte == b'\n').next()?.trim_ascii_start();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    (end > 0).then(|| PathBuf::from(OsStr::from_bytes(&line[..end])))
}

fn check_binary(path: &Path, bytes: &[u8]) -> Result<()> {
    let path = path.display();
    let header = FileHeader64::<Endianness>::parse(bytes)
        .map_err(|_| anyhow::anyhow!("{path} is no program of 64 bits, and the library is one for those"))?;
    let endian = header.endian().unwrap_or_default();
    ensure!(header.e_machine(endian) == EM_X86_64, "{path} is a program for another processor than x86-64");
    let headers = header
        .program_headers(endian, bytes)
        .with_context(|| format!("{path} has broken program headers"))?;
    ensure!(
        headers.iter().any(|header| header.p_type(endian) == PT_INTERP),
        "{path} is linked statically: no dynamic loader puts a library into it"
    );
    Ok(())
}
