//! Configurations of kernels: files as `make` writes them, plain or compressed.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use machine::kconfig::{Kconfig, Tristate};

/// A configuration, and where it comes from.
pub(super) struct Found {
    pub(super) source: String,
    pub(super) config: Kconfig,
    /// Major and minor number of the kernel, if it is not the one that machines stand for.
    pub(super) version: Option<(u32, u32)>,
}

/// What every compressed file begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A configuration is shorter than this.
const LIMIT: u64 = 16 << 20;

/// The configuration of the running kernel, if it tells one.
pub(super) fn running() -> Result<Option<Found>> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let places = [PathBuf::from("/proc/config.gz"), format!("/boot/config-{release}").into()];
    for path in &places {
        match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            _ => return file(path).map(Some),
        }
    }
    Ok(None)
}

/// The configuration in a file.
pub(super) fn file(path: &Path) -> Result<Found> {
    let cannot = || format!("cannot read the configuration {}", path.display());
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(LIMIT).read_to_end(&mut bytes)).with_context(cannot)?;
    if bytes.starts_with(&GZIP) {
        let mut plain = Vec::new();
        GzDecoder::new(&*bytes).take(LIMIT).read_to_end(&mut plain).with_context(cannot)?;
        bytes = plain;
    }
    let text = String::from_utf8_lossy(&bytes);
    if !text.lines().any(|line| line.starts_with("CONFIG_")) {
        bail!("{} is no configuration of a kernel: no line begins with CONFIG_", path.display());
    }
    Ok(Found { source: path.display().to_string(), config: config(&text), version: version(&text) })
}

fn config(text: &str) -> Kconfig {
    Kconfig::built(|symbol| {
        let line = format!("CONFIG_{}=", symbol.name());
        let value = text.lines().rev().find_map(|it| it.strip_prefix(&line)).and_then(Tristate::from_name);
        value.unwrap_or(Tristate::N)
    })
}

/// The numbers in the heading, such as `# Linux/x86 7.3.4 Kernel Configuration`.
fn version(text: &str) -> Option<(u32, u32)> {
    let heading =
        text.lines().find(|line| line.starts_with("# Linux/") && line.ends_with("Kernel Configuration"))?;
    let mut numbers = heading.split_whitespace().nth(2)?.split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
