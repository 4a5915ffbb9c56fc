//! The kernels that can be booted, and where they lie.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

/// What a kernel was built with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// Groups, the native container, character devices, no-IOMMU
    #[value(name = "A")]
    A,
    /// A with the self-test hooks of IOMMUFD and fault injection
    #[value(name = "B")]
    B,
    /// Character devices only
    #[value(name = "C")]
    C,
    /// Groups with IOMMUFD as their container
    #[value(name = "D")]
    D,
}

impl Variant {
    /// The letter.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
        }
    }

    /// The kernel image's file name.
    pub(crate) fn file_name(self) -> String {
        format!("bzImage-{}", self.name())
    }
}

/// Names the folder that holds kernels built elsewhere.
const FOLDER: &str = "IOASIS_KERNELS";

/// Finds a kernel: in the folder that `IOASIS_KERNELS` names, then in the cache.
pub(crate) fn find(variant: Variant) -> Result<PathBuf> {
    let mut folders: Vec<PathBuf> = env::var_os(FOLDER).map(PathBuf::from).into_iter().collect();
    folders.push(cache()?);
    find_in(variant, &folders)
}

fn find_in(variant: Variant, folders: &[PathBuf]) -> Result<PathBuf> {
    for folder in folders {
        let kernel = folder.join(variant.file_name());
        if kernel.is_file() {
            return Ok(kernel);
        }
    }
    let looked: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let (file, name) = (variant.file_name(), variant.name());
    bail!(
        "there is no kernel {name}: no {file} in {}; build it with `cargo xtask kernel {name}`, or let {FOLDER} name a folder \
         that has it",
        looked.join(" or ")
    )
}

/// The folder of the kernels that `cargo xtask kernel` built.
pub(crate) fn cache() -> Result<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    let folder = absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .context("no cache folder: neither XDG_CACHE_HOME nor HOME names an absolute path")?;
    Ok(folder.join(Path::new("ioasis/kernels")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_folder_that_has_the_kernel_is_taken() {
        let root = env::temp_dir().join(format!("ioasis-kernels-{}", std::process::id()));
        let (empty, full) = (root.join("empty"), root.join("full"));
        std::fs::create_dir_all(&empty).unwrap();
        std::fs::create_dir_all(&full).unwrap();
        std::fs::write(full.join("bzImage-C"), b"kernel").unwrap();
        let folders = [empty, full.clone()];

        assert_eq!(find_in(Variant::C, &folders).unwrap(), full.join("bzImage-C"));
        let error = find_in(Variant::A, &folders).unwrap_err().to_string();
        assert!(error.contains("cargo xtask kernel A") && error.contains("IOASIS_KERNELS"), "{error}");
        std::fs::remove_dir_all(&root).unwrap();
    }
}
