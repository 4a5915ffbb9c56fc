//! `cargo xtask kernel`: the kernels of `cargo xtask vm`, from the distribution's source package.

mod apt;
mod build;
mod config;
mod debian;
mod version;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::kernels::{self, Choice, Variant};
use crate::run::{alone_in, cache, run as run_command};
use build::Tree;
use version::Version;

/// The first with no-IOMMU character devices.
const LEAST: Version = Version::new(7, 3);
/// One variant, cold; the others rebuild what differs.
const PROCESSOR_MINUTES: usize = 30;

/// Which kernels, and from what.
#[derive(Args)]
pub(crate) struct Options {
    /// Which ones
    #[arg(value_enum, ignore_case = true, default_value = "A")]
    kernels: Vec<Choice>,
    /// A source of Linux 7.3 or newer: a folder, or an archive that tar can read; default: Debian's package
    #[arg(long, value_name = "PATH")]
    source: Option<PathBuf>,
    /// How many compilers run at once; default: one per processor
    #[arg(long, short)]
    jobs: Option<usize>,
    /// Do everything but the compilation
    #[arg(long)]
    dry_run: bool,
}

/// Builds or fetches the kernels and puts them into the cache.
pub(crate) fn run(options: &Options) -> Result<()> {
    let built = |choice: &Choice| match choice {
        Choice::Built(variant) => Some(*variant),
        Choice::Debian => None,
    };
    let variants: Vec<Variant> = options.kernels.iter().filter_map(built).collect();
    if variants.len() < options.kernels.len() {
        debian::install()?;
    }
    if variants.is_empty() { Ok(()) } else { build_all(&variants, options) }
}

fn build_all(variants: &[Variant], options: &Options) -> Result<()> {
    build::check_packages()?;
    let kernels = kernels::cache()?;
    let work = work()?;
    fs::create_dir_all(&kernels)?;
    let jobs = options.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    announce(&work, jobs);

    let source = source(options.source.as_deref())?;
    let tree = Tree { source, objects: work.join("objects") };
    for &variant in variants {
        println!("kernel {}: configuring", variant.name());
        tree.configure(variant)?;
        if options.dry_run {
            println!("kernel {}: configured in {}, not compiled", variant.name(), tree.objects.display());
            continue;
        }
        let image = tree.compile(variant, jobs)?;
        let kernel = kernels.join(Choice::Built(variant).image());
        fs::copy(&image, &kernel).with_context(|| format!("cannot write {}", kernel.display()))?;
        println!("kernel {}: {}", variant.name(), kernel.display());
    }
    println!("source and objects stay in {} for the next build; they can be removed", work.display());
    Ok(())
}

fn announce(work: &Path, jobs: usize) {
    println!(
        "A first kernel takes about {} minutes on {jobs} processors ({PROCESSOR_MINUTES} minutes of one), further ones less; \
         about 4 GB below {}.",
        PROCESSOR_MINUTES.div_ceil(jobs.max(1)),
        work.display()
    );
}

/// An unpacked source of Linux 7.3 or newer: what `given` names, or else that of the distribution's package.
pub(crate) fn source(given: Option<&Path>) -> Result<PathBuf> {
    let work = work()?;
    let _alone = alone_in(&work)?;
    let source = match given {
        Some(path) => unpacked(path, &work)?,
        None => packaged(&work)?,
    };
    let version = Version::of_source(&source)?;
    ensure!(version >= LEAST, "{} is Linux {version}; {LEAST} or newer is needed", source.display());
    Ok(source)
}

/// Where sources and objects stay.
fn work() -> Result<PathBuf> {
    let work = cache()?.join("linux");
    fs::create_dir_all(&work)?;
    Ok(work)
}

/// The source that the user names, unpacked if it is an archive.
fn unpacked(path: &Path, work: &Path) -> Result<PathBuf> {
    let path = path.canonicalize().with_context(|| format!("cannot use the source {}", path.display()))?;
    if path.is_dir() {
        return Ok(path);
    }
    let folder = work.join("source-given");
    unpack(&path, &folder)?;
    Ok(folder)
}

/// The source of the distribution's package, fetched at most once.
fn packaged(work: &Path) -> Result<PathBuf> {
    let folder = work.join("source");
    if folder.exists() {
        println!("using the source in {}", folder.display());
        return Ok(folder);
    }
    let package = apt::fetch_source(&work.join("apt"), LEAST)
        .context("there is no package to build from; give the source of Linux with --source")?;
    let contents = work.join("package");
    clear(&contents)?;
    run_command(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&contents))?;
    unpack(&archive_in(&contents.join("usr/src"))?, &folder)?;
    fs::remove_dir_all(&contents)?;
    fs::remove_file(&package)?;
    Ok(folder)
}

/// The one archive of a source package.
fn archive_in(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .find(|path| path.to_string_lossy().contains(".tar"))
        .with_context(|| format!("the package has no archive in {}", folder.display()))
}

/// Unpacks an archive that has one folder at its top; what stands in `folder` is whole.
fn unpack(archive: &Path, folder: &Path) -> Result<()> {
    println!("unpacking {} (about 2 GB)", archive.display());
    let partial = folder.with_extension("partial");
    clear(&partial)?;
    clear(folder)?;
    fs::create_dir_all(&partial)?;
    let mut tar = Command::new("tar");
    tar.arg("--extract")
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(&partial)
        .arg("--strip-components=1");
    run_command(tar.stdin(Stdio::null()))?;
    fs::rename(&partial, folder)?;
    Ok(())
}

fn clear(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}
