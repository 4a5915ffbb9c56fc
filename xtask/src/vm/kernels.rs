//! The kernels that can be booted, and where they lie.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::run;

/// What a kernel of our own was built with.
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
}

/// A kernel that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Built(Variant),
    /// The one that Debian has for virtual machines.
    Debian,
}

impl Choice {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Built(variant) => variant.name(),
            Self::Debian => "debian",
        }
    }

    /// The kernel image, in a folder of kernels.
    pub(crate) fn image(self) -> PathBuf {
        match self {
            Self::Built(variant) => format!("bzImage-{}", variant.name()).into(),
            Self::Debian => "debian/vmlinuz".into(),
        }
    }
}

impl ValueEnum for Choice {
    fn value_variants<'a>() -> &'a [Self] {
        use Variant::{A, B, C, D};
        &[Self::Built(A), Self::Built(B), Self::Built(C), Self::Built(D), Self::Debian]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Built(variant) => variant.to_possible_value(),
            Self::Debian => {
                Some(PossibleValue::new("debian").help("This Debian release's own, linux-image-cloud-amd64"))
            }
        }
    }
}

/// A kernel at hand.
pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    /// In the order in which they can be loaded.
    pub(crate) modules: Vec<PathBuf>,
    /// Whether it can mount a folder of the host. Debian's for virtual machines has no 9p.
    pub(crate) mounts: bool,
}

/// Names the folder that holds kernels built elsewhere.
const FOLDER: &str = "IOASIS_KERNELS";

/// Finds a kernel: in the folder that `IOASIS_KERNELS` names, then in the cache.
pub(crate) fn find(choice: Choice) -> Result<Kernel> {
    let image = find_in(&[choice], &folders()?)?.remove(0);
    let folder = image.with_file_name("modules");
    match choice {
        Choice::Built(_) => Ok(Kernel { image, modules: Vec::new(), mounts: true }),
        Choice::Debian => Ok(Kernel { image, modules: in_order(&folder)?, mounts: false }),
    }
}

/// An error that names all that are missing, if one is.
pub(crate) fn check(choices: &[Choice]) -> Result<()> {
    find_in(choices, &folders()?).map(drop)
}

fn folders() -> Result<Vec<PathBuf>> {
    let mut folders: Vec<PathBuf> = env::var_os(FOLDER).map(PathBuf::from).into_iter().collect();
    folders.push(cache()?);
    Ok(folders)
}

/// The images of kernels.
fn find_in(choices: &[Choice], folders: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let image = |choice: Choice| {
        folders.iter().map(|folder| folder.join(choice.image())).find(|image| image.is_file()).ok_or(choice)
    };
    let (mut images, mut missing) = (Vec::new(), Vec::new());
    for choice in choices {
        match image(*choice) {
            Ok(image) => images.push(image),
            Err(choice) if missing.contains(&choice.name()) => {}
            Err(choice) => missing.push(choice.name()),
        }
    }
    if missing.is_empty() {
        return Ok(images);
    }
    let looked: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let names = missing.join(" ");
    bail!(
        "there is no kernel {names} in {}; `cargo xtask kernel {names}` puts it there, or let {FOLDER} name a folder that has it",
        looked.join(" or ")
    )
}

/// The files of a folder, by name.
fn in_order(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    Ok(paths)
}

/// The folder of the kernels that `cargo xtask kernel` built.
pub(crate) fn cache() -> Result<PathBuf> {
    Ok(run::cache()?.join("kernels"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_folder_that_has_the_kernel_is_taken() {
        let root = env::temp_dir().join(format!("ioasis-kernels-{}", std::process::id()));
        let (empty, full) = (root.join("empty"), root.join("full"));
        fs::create_dir_all(&empty).unwrap();
        fs::create_dir_all(&full).unwrap();
        fs::write(full.join("bzImage-C"), b"kernel").unwrap();
        let folders = [empty, full.clone()];

        let [a, c] = [Variant::A, Variant::C].map(Choice::Built);
        assert_eq!(find_in(&[c], &folders).unwrap(), [full.join("bzImage-C")]);
        let error = find_in(&[a, c, Choice::Debian, a], &folders).unwrap_err().to_string();
        assert!(
            error.contains("cargo xtask kernel A debian`") && error.contains("IOASIS_KERNELS"),
            "{error}"
        );
        fs::remove_dir_all(&root).unwrap();
    }
}
