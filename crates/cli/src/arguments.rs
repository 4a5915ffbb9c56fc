//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use ioasis::{Mode, PciAddress};

/// VFIO and IOMMUFD, with or without an IOMMU.
///
/// Commands speak to the host's kernel, or with --machine to a machine inside this process, which needs
/// neither hardware nor privileges.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) system: System,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What a command speaks to.
#[derive(Args)]
pub(crate) struct System {
    /// A machine file: speak to an embedded machine instead of the host's kernel
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) machine: Option<PathBuf>,
    /// Take devices without an IOMMU, which reach all of the host's memory (an embedded machine allows it
    /// anyway)
    #[arg(long, global = true)]
    pub(crate) allow_noiommu: bool,
    /// The one way in which devices may be taken, where the best one that there is is not wanted
    #[arg(long, global = true, value_parser = mode())]
    pub(crate) mode: Option<Mode>,
    /// Take the devices that are named from their drivers of the host, bind them to vfio-pci, and give them back afterwards.
    /// One that the host uses (a mounted file system, swap, a network interface that is up) is not taken
    #[arg(long, global = true, conflicts_with = "machine")]
    pub(crate) bind: bool,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// The whole way: open, bind, map, ask for physical addresses, drive an NVMe controller and an `edu` device; on a
    /// machine of its own, or on devices that are named
    Demo(Demo),
    /// NVMe controllers
    #[command(subcommand)]
    Nvme(Nvme),
    /// Asks a system how it behaves: each row of the conformance suite, on the devices named, or on those of --machine
    Conform(Conform),
    /// Measures calls of a system, or what programs pay under `ioasis run`: medians
    Bench(Bench),
    /// Makes the calls of scripts, and prints what came of each
    Replay(Replay),
    /// Which builds of a kernel serve a device without an IOMMU; what the running kernel's, or the one asked about,
    /// offers, and what would have to change in it
    Kconfig(Kconfig),
    /// Makes the same calls on the host's kernel and on the machine that --machine names, drawn at random or from scripts, and
    /// prints the shortest sequences that they answer differently
    Differ(Differ),
    /// Runs a command without any privilege, by an ordinary user, with a device that is opened for it
    Open(Open),
    /// Runs a program that knows nothing of ioasis on the machine that --machine names: it finds the machine's nodes and
    /// devices in /dev and /sys
    Run(Run),
    /// What `open` starts to ask for physical addresses
    #[command(hide = true)]
    Translate(Translate),
    /// What `bench run` starts to be measured
    #[command(hide = true)]
    Yardstick {
        #[arg(value_enum)]
        what: Yardstick,
    },
}

impl Command {
    /// The devices that are named.
    pub(crate) fn devices(&self) -> Vec<PciAddress> {
        match self {
            Command::Nvme(Nvme::Identify { address, .. }) => vec![*address],
            Command::Nvme(Nvme::Read(Read { address, .. })) => vec![*address],
            Command::Nvme(Nvme::Write(Write { address, .. })) => vec![*address],
            Command::Nvme(Nvme::Bench(NvmeBench { address, .. })) => vec![*address],
            Command::Conform(Conform { device, .. }) | Command::Replay(Replay { device, .. }) => {
                device.clone()
            }
            Command::Bench(Bench { device, .. }) => device.iter().copied().collect(),
            Command::Open(Open { address, .. }) => vec![*address],
            Command::Demo(Demo { nvme, edu, .. }) => nvme.iter().chain(edu).copied().collect(),
            // `differ` speaks to a machine too, for which --bind is not.
            Command::Differ(_)
            | Command::Kconfig(_)
            | Command::Run(_)
            | Command::Translate(_)
            | Command::Yardstick { .. } => Vec::new(),
        }
    }
}

#[derive(Args)]
pub(crate) struct Demo {
    /// The NVMe controller to drive, of the host or of --machine
    #[arg(long, value_name = "ADDRESS", requires_all = ["edu", "overwrite"])]
    pub(crate) nvme: Option<PciAddress>,
    /// The `edu` device to drive
    #[arg(long, value_name = "ADDRESS", requires = "nvme")]
    pub(crate) edu: Option<PciAddress>,
    /// Overwrites the first 16 MiB of that controller's first namespace
    #[arg(long, requires = "nvme")]
    pub(crate) overwrite: bool,
    /// One JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Open {
    /// The device's PCI address, such as 0000:01:00.0
    pub(crate) address: PciAddress,
    /// Who the command is run by, by name or number: for root, who must not be; default: who ran sudo
    #[arg(long, value_name = "NAME|UID[:GID]")]
    pub(crate) user: Option<String>,
    /// How much memory the command may pin for the device, such as 64M, where that is not to be as it is now (ulimit -l)
    #[arg(long, value_name = "BYTES", value_parser = |text: &str| bytes(text).map(|bytes| bytes as u64))]
    pub(crate) memlock: Option<u64>,
    /// The command. It finds the device in its environment (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES)
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Args)]
pub(crate) struct Run {
    /// Print each call that the machine refuses, with the rule that it breaks
    #[arg(long)]
    pub(crate) explain: bool,
    /// Print each call on the machine, with its answer
    #[arg(long)]
    pub(crate) trace: bool,
    /// Catch the system calls that the program's own code makes past libc, even if no instruction for them is found in its file
    #[arg(long)]
    pub(crate) raw: bool,
    /// The program
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Args)]
pub(crate) struct Translate {
    /// The process that may ask
    pub(crate) process: u32,
    /// Who to become: UID and GID
    #[arg(num_args = 2)]
    pub(crate) user: Vec<u32>,
    #[arg(long)]
    pub(crate) detached: bool,
}

#[derive(Subcommand)]
pub(crate) enum Nvme {
    /// What a controller and its namespaces say of themselves
    Identify {
        /// The controller's PCI address, such as 0000:01:00.0
        address: PciAddress,
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Reads blocks into a file
    Read(Read),
    /// Writes a file to blocks, and flushes them
    Write(Write),
    /// Measures reads or writes, against memcpy where the namespace is in this process
    Bench(NvmeBench),
}

#[derive(Args)]
#[command(group = ArgGroup::new("extent").args(["blocks", "all"]).required(true))]
pub(crate) struct Read {
    /// The controller's PCI address, such as 0000:01:00.0
    pub(crate) address: PciAddress,
    /// The first block
    #[arg(long, default_value_t = 0)]
    pub(crate) lba: u64,
    /// How many blocks
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) blocks: Option<u64>,
    /// All blocks to the end of the namespace
    #[arg(long)]
    pub(crate) all: bool,
    /// The file to write, complete or not at all; - for standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(Args)]
pub(crate) struct Write {
    /// The controller's PCI address, such as 0000:01:00.0
    pub(crate) address: PciAddress,
    /// The first block
    #[arg(long, default_value_t = 0)]
    pub(crate) lba: u64,
    /// The file to read, whole blocks; - for standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: PathBuf,
}

#[derive(Args)]
pub(crate) struct NvmeBench {
    /// The controller's PCI address, such as 0000:01:00.0
    pub(crate) address: PciAddress,
    /// What to measure; writes destroy what the namespace holds
    #[arg(long, value_enum, default_value_t = Pattern::Randread)]
    pub(crate) rw: Pattern,
    /// Bytes in one transfer, such as 512, 4k or 1M
    #[arg(long, default_value = "4k", value_parser = bytes)]
    pub(crate) bs: usize,
    /// Transfers under way at once
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1023))]
    pub(crate) qd: u16,
    /// How long
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
    /// One JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Conform {
    /// Devices that are bound to vfio-pci and that nobody else needs: they are opened, reset, unbound and bound again
    #[arg(long, value_name = "ADDRESS", num_args = 1..)]
    pub(crate) device: Vec<PciAddress>,
    /// Only the rows that contain this text, such as an id, an area or a mode
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// Shows the rows, and asks nothing
    #[arg(long, conflicts_with = "json")]
    pub(crate) list: bool,
    /// One JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Shows where two runs differ that were printed with --json. It is an error if both systems were asked a row and
    /// answered differently
    #[arg(long, value_names = ["A.json", "B.json"], num_args = 2, exclusive = true)]
    pub(crate) compare: Option<Vec<PathBuf>>,
}

#[derive(Args)]
pub(crate) struct Kconfig {
    /// The configuration of a kernel, such as /boot/config-7.3.4, in place of the running one's
    #[arg(long, value_name = "FILE", conflicts_with = "machine")]
    pub(crate) config: Option<PathBuf>,
    /// Changes to be explained, such as VFIO_GROUP=n: to that configuration, or else to that of a machine
    #[arg(value_name = "OPTION=VALUE")]
    pub(crate) settings: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Bench {
    /// What to measure
    #[arg(value_enum)]
    pub(crate) what: Measured,
    /// The device to measure with; with --machine its first one if none is named
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) device: Option<PciAddress>,
    /// With `run`: few and small rounds, to see that it works
    #[arg(long)]
    pub(crate) quick: bool,
    /// One JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Replay {
    /// Scripts of calls, such as `ioasis differ` prints
    #[arg(required = true, value_name = "SCRIPT")]
    pub(crate) scripts: Vec<PathBuf>,
    /// The devices that the scripts speak of, in order, bound to vfio-pci; with --machine all of its devices if none is named
    #[arg(long, value_name = "ADDRESS", num_args = 1)]
    pub(crate) device: Vec<PciAddress>,
}

#[derive(Args)]
pub(crate) struct Differ {
    /// Scripts of calls; none: sequences are drawn at random
    #[arg(value_name = "SCRIPT")]
    pub(crate) scripts: Vec<PathBuf>,
    /// The host's devices, in the order in which the machine has its own; they are opened and reset
    #[arg(long, value_name = "ADDRESS", num_args = 1)]
    pub(crate) device: Vec<PciAddress>,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// How many sequences, each from a seed of its own
    #[arg(long, default_value_t = 1000)]
    pub(crate) sequences: u64,
    /// How many calls each has
    #[arg(long, default_value_t = 50)]
    pub(crate) calls: usize,
    /// Ends after so many differences
    #[arg(long, default_value_t = 1)]
    pub(crate) most: usize,
}

/// What a benchmark of the system measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measured {
    /// Giving memory to a device: 4 KiB, 2 MiB, 1 GiB
    Map,
    /// Taking it back
    Unmap,
    /// Asking for physical addresses: of 4 KiB, 2 MiB and 512 MiB that are contiguous
    GetPa,
    /// The least that a call takes: one that is refused at once, without a device
    Ioctl,
    /// From triggering an interrupt until its waiter runs
    Interrupt,
    /// Programs under `ioasis run`, on a machine of their own: registers, ioctls, the start and `tar`, each against what it takes
    /// without, with what is aimed at; files are in TMPDIR
    Run,
}

/// What a program does that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Yardstick {
    /// Asks for an option of IOMMUFD
    Option,
    /// Makes an ioctl that the file does not know
    Unknown,
    /// Loads from a register
    Load,
    /// Stores to one
    Store,
    /// Loads from a page without access
    Signal,
}

/// What a benchmark does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pattern {
    /// Reads in random order
    Randread,
    /// Writes in random order
    Randwrite,
    /// Reads in order
    Read,
    /// Writes in order
    Write,
}

/// A mode by its name.
fn mode() -> impl TypedValueParser<Value = Mode> {
    let by_name = |name: String| Mode::ALL.into_iter().find(|mode| mode.name() == name);
    PossibleValuesParser::new(Mode::ALL.map(Mode::name))
        .try_map(move |name| by_name(name).ok_or("not the name of a mode"))
}

/// A number of bytes with an optional suffix k, M or G (powers of 1024).
fn bytes(text: &str) -> Result<usize, String> {
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let count: usize =
        digits.parse().map_err(|_| format!("{text:?} is no number of bytes, such as 4096 or 4k"))?;
    count.checked_shl(shift).filter(|bytes| bytes >> shift == count).ok_or(format!("{text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn bytes_have_suffixes() {
        assert_eq!(bytes("512"), Ok(512));
        assert_eq!(bytes("4k"), Ok(4096));
        assert_eq!(bytes("1G"), Ok(1 << 30));
        for bad in ["", "k", "4x", "-1", "99999999999G", "4kk", "é"] {
            assert!(bytes(bad).is_err(), "{bad:?}");
        }
    }
}
