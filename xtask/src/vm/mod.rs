//! `cargo xtask vm`: a command inside a virtual machine, on a real kernel.

mod guest;
mod initramfs;
pub(crate) mod kernel;
mod kernels;
mod machine;
mod share;

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::run::{root, run as run_command, scratch, target};
use initramfs::Placed;
use kernels::{Choice, Kernel};
use machine::{Device, Machine};
use share::{Share, Wanted};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const MIB: u64 = 1 << 20;

/// What to boot and what to do in it.
#[derive(Args)]
pub(crate) struct Options {
    /// The kernel, looked for in the folder that IOASIS_KERNELS names, then where `cargo xtask kernel` puts it
    #[arg(long, value_enum, default_value = "A", ignore_case = true)]
    kernel: Choice,
    /// The devices, bound to vfio-pci; default: all
    #[arg(long = "device", value_enum, value_delimiter = ',')]
    devices: Option<Vec<Device>>,
    /// The disk behind `nvme`, which the guest may change; default: 64 MiB of zeroes
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// With an Intel IOMMU, switched on; without this the kernel's no-IOMMU mode is on
    #[arg(long)]
    iommu: bool,
    /// With an IOMMU that does not remap interrupts
    #[arg(long, requires = "iommu")]
    no_interrupt_remapping: bool,
    /// Leave the devices without a driver
    #[arg(long)]
    no_bind: bool,
    /// A file for the guest; without a path there it is put into /bin
    #[arg(long = "file", value_name = "HOST[:GUEST]", value_parser = parse_placed)]
    files: Vec<Placed>,
    /// A file that the host wants afterwards; without a path here it is put into the current folder
    #[arg(long = "fetch", value_name = "GUEST[:HOST]", value_parser = parse_wanted)]
    wanted: Vec<Wanted>,
    /// A statically linked `ioasis`; default: built from this source
    #[arg(long, value_name = "FILE")]
    ioasis: Option<PathBuf>,
    /// More of the kernel's command line, e.g. hugepages=64
    #[arg(long = "append", value_name = "PARAMETER")]
    parameters: Vec<String>,
    /// QEMU's accelerator
    #[arg(long, default_value = "tcg,thread=multi")]
    accel: String,
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// In MiB; the size of the files comes on top
    #[arg(long, default_value_t = 1024)]
    memory: u64,
    /// Seconds after which the guest is ended
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    timeout: u64,
    /// Show the kernel's messages on the standard error
    #[arg(long)]
    console: bool,
    /// The command: `ioasis …`, or anything of busybox, e.g. sh -c '…'. Its standard input is empty
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// An error that names each kernel that is not at hand.
pub(crate) fn check_kernels(runs: &[Options]) -> Result<()> {
    let choices: Vec<Choice> = runs.iter().map(|options| options.kernel).collect();
    kernels::check(&choices)
}

/// Boots a kernel, runs the command, and returns its exit status.
pub(crate) fn run(options: &Options) -> Result<u8> {
    let kernel = kernels::find(options.kernel)?;
    let mut files = files(options, &kernel)?;
    let scratch = Scratch::new()?;
    let share = share(options, &scratch)?;
    if !kernel.mounts {
        files.extend(share.orders());
    }
    let initramfs = scratch.file("initramfs");
    initramfs::write(&initramfs, &files)?;
    let machine = Machine {
        kernel: &kernel.image,
        initramfs: &initramfs,
        devices: devices(options),
        image: disk(options, &scratch)?,
        spare_image: empty_disk(scratch.file("spare.img"))?,
        rom: rom(scratch.file("rom"))?,
        share: share.path(),
        disk: if kernel.mounts { None } else { Some(share.make_disk()?) },
        console: &scratch.file("console"),
        iommu: options.iommu,
        interrupt_remapping: !options.no_interrupt_remapping,
        accelerator: &options.accel,
        cpus: options.cpus,
        // The archive is in memory twice while the kernel unpacks it.
        memory_mib: options.memory + fs::metadata(&initramfs)?.len().div_ceil(MIB) * 2,
        parameters: &options.parameters,
    };
    let status = guest::run(&machine, &share, Duration::from_secs(options.timeout), options.console)?;
    match share.fetch(&options.wanted) {
        // A command that failed need not have made its files.
        Err(error) if status != 0 => eprintln!("warning: {error:#}"),
        fetched => fetched?,
    }
    Ok(status)
}

fn devices(options: &Options) -> &[Device] {
    options.devices.as_deref().unwrap_or(&Device::ALL)
}

fn share(options: &Options, scratch: &Scratch) -> Result<Share> {
    let bind = if options.no_bind { &[] } else { devices(options) };
    Share::new(scratch.file("share"), bind, &options.command, &options.wanted)
}

/// What the guest's root file system holds.
fn files(options: &Options, kernel: &Kernel) -> Result<Vec<Placed>> {
    let ioasis = match &options.ioasis {
        Some(path) => path.clone(),
        None => build()?,
    };
    ensure!(
        initramfs::is_static(&ioasis)?,
        "{} is not a statically linked x86-64 program; the guest has no shared libraries",
        ioasis.display()
    );
    let place = |host: PathBuf, guest: &str| Placed { host, guest: guest.into() };
    let mut files = vec![
        place(root().join("vm/init"), "/init"),
        place(busybox()?, "/bin/busybox"),
        place(ioasis, "/bin/ioasis"),
    ];
    let module = |path: &PathBuf| {
        let name = path.file_name().context("a module has no name")?;
        Ok(Placed { host: path.clone(), guest: Path::new("/modules").join(name) })
    };
    files.extend(kernel.modules.iter().map(module).collect::<Result<Vec<_>>>()?);
    files.extend(options.files.iter().cloned());
    Ok(files)
}

/// Builds `ioasis` as a static program, in a target folder of its own so that other builds stay as they are.
pub(crate) fn build() -> Result<PathBuf> {
    let target = target().join("vm");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--profile", "vm", "--package", "ioasis-cli", "--target", TARGET])
        .current_dir(root())
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    run_command(&mut command)?;
    Ok(target.join(TARGET).join("vm/ioasis"))
}

/// The guest's shell and tools.
fn busybox() -> Result<PathBuf> {
    for path in ["/bin/busybox", "/usr/bin/busybox"] {
        let path = Path::new(path);
        if path.exists() && initramfs::is_static(path)? {
            return Ok(path.to_owned());
        }
    }
    bail!("a statically linked busybox is missing: install Debian's package busybox-static")
}

fn disk(options: &Options, scratch: &Scratch) -> Result<PathBuf> {
    match &options.image {
        Some(path) => path.canonicalize().with_context(|| format!("cannot use the image {}", path.display())),
        None => empty_disk(scratch.file("disk.img")),
    }
}

fn empty_disk(path: PathBuf) -> Result<PathBuf> {
    File::create(&path)?.set_len(64 * MIB)?;
    Ok(path)
}

/// An expansion ROM with one image that does nothing (PCI Firmware Specification, 5.1).
fn rom(path: PathBuf) -> Result<PathBuf> {
    /// Where its data structure starts.
    const DATA: usize = 0x1c;
    let mut bytes = [0; 1024];
    bytes[..2].copy_from_slice(&[0x55, 0xaa]);
    bytes[0x18] = DATA as u8;
    bytes[DATA..DATA + 4].copy_from_slice(b"PCIR");
    // The structure's length in bytes, and the image's in units of 512.
    bytes[DATA + 0x0a] = 0x18;
    bytes[DATA + 0x10] = 2;
    // The last image.
    bytes[DATA + 0x15] = 0x80;
    fs::write(&path, bytes)?;
    Ok(path)
}

/// `HOST[:GUEST]`, where GUEST is absolute.
fn parse_placed(text: &str) -> Result<Placed> {
    if let Some((host, guest)) = text.rsplit_once(":/") {
        return Ok(Placed { host: host.into(), guest: format!("/{guest}").into() });
    }
    let name = Path::new(text).file_name().context("it has no file name")?;
    Ok(Placed { host: text.into(), guest: Path::new("/bin").join(name) })
}

/// `GUEST[:HOST]`, where GUEST is absolute.
fn parse_wanted(text: &str) -> Result<Wanted> {
    ensure!(text.starts_with('/') && !text.contains('\n'), "the guest's path is to be an absolute one");
    if let Some((guest, host)) = text.split_once(':') {
        return Ok(Wanted { guest: guest.to_owned(), host: host.into() });
    }
    let name = Path::new(text).file_name().context("it has no file name")?;
    Ok(Wanted { guest: text.to_owned(), host: name.into() })
}

/// This run's folder; gone afterwards.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let folder = scratch(&format!("vm-{}", process::id()))?;
        Ok(Self(folder.canonicalize()?))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: cannot remove {}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_both_sides_are_parsed() {
        let placed = |host: &str, guest: &str| Placed { host: host.into(), guest: guest.into() };
        assert_eq!(parse_placed("a/b:c:/d/e").unwrap(), placed("a/b:c", "/d/e"));
        assert_eq!(parse_placed("a/probe").unwrap(), placed("a/probe", "/bin/probe"));
        assert!(parse_placed("..").is_err());

        let wanted = |guest: &str, host: &str| Wanted { guest: guest.into(), host: host.into() };
        assert_eq!(parse_wanted("/tmp/x:y/z").unwrap(), wanted("/tmp/x", "y/z"));
        assert_eq!(parse_wanted("/tmp/x").unwrap(), wanted("/tmp/x", "x"));
        assert!(parse_wanted("tmp/x").is_err());
    }
}
