//! Where the library is that goes under programs.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

const NAME: &str = "libioasis_preload.so";

/// Finds it: where `IOASIS_PRELOAD` says, beside this program, or in `../lib` from there.
pub(crate) fn find() -> Result<PathBuf> {
    if let Some(path) = env::var_os("IOASIS_PRELOAD") {
        let path = PathBuf::from(path);
        return path.canonicalize().with_context(|| format!("IOASIS_PRELOAD names {}", path.display()));
    }
    let own = env::current_exe().context("cannot tell where this program is")?;
    let folder = own.parent().unwrap_or(&own);
    let places = [folder.join(NAME), folder.join("../lib").join(NAME)];
    match places.iter().find(|place| place.is_file()) {
        Some(place) => place.canonicalize().with_context(|| format!("cannot find {}", place.display())),
        None => bail!(
            "there is no {NAME} beside {}; `cargo xtask preload` in ioasis' source builds it and puts it there, and \
             IOASIS_PRELOAD can name another place",
            own.display()
        ),
    }
}
