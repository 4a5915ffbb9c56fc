//! What a program pays that runs under a machine, against the same program without: `cargo bench --bench program [-- --quick]`.
//!
//! It needs a C compiler, tar, and `ioasis` of the release profile (built beside this workspace, or named by `IOASIS`).

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

use bench::{Comparisons, timed};
use tempfile::TempDir;

const MACHINE: &str = "[[device]]\naddress = \"0000:42:00.0\"\nmodel = \"edu\"\n";

/// Ioctls in a round.
const IOCTLS: u32 = 2000;
/// An option of IOMMUFD is asked for, and a command that no file knows.
const OPTION: &str = "0x3b87";
const UNKNOWN: &str = "0x5aff";

/// Where the programs are, and the machine file.
struct Bench {
    folder: TempDir,
    ioasis: PathBuf,
    library: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let ioasis =
            env::var_os("IOASIS").map_or_else(|| here.join("../../target/release/ioasis"), PathBuf::from);
        assert!(
            ioasis.is_file(),
            "{} is not there: cargo build --release -p ioasis-cli builds it",
            ioasis.display()
        );
        let own = env::current_exe().expect("this bench's path");
        let library = own.with_file_name("libioasis_preload.so");
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("machine.toml"), MACHINE).expect("a machine file");
        let source = here.join("benches/programs/ioctls.c");
        let built =
            Command::new("cc").arg("-O2").arg("-o").arg(folder.path().join("ioctls")).arg(source).status();
        assert!(built.expect("a C compiler, cc").success());
        Bench { folder, ioasis, library }
    }

    /// A program as it is, or under the machine.
    fn command(&self, under: bool, words: &[&str]) -> Command {
        let mut command = Command::new(if under { self.ioasis.as_os_str() } else { words[0].as_ref() });
        if under {
            command
                .env("IOASIS_PRELOAD", &self.library)
                .args(["--machine", "machine.toml", "run", "--"])
                .arg(words[0]);
        }
        command.args(&words[1..]).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn time(&self, under: bool, words: &[&str]) -> Duration {
        let mut command = self.command(under, words);
        timed(|| assert!(command.status().expect("it starts").success(), "{words:?}"))
    }
}

/// A program that makes ioctls as it is told.
struct Caller {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Caller {
    fn new(bench: &Bench, under: bool, file: &str, command: &str) -> Self {
        let mut start = bench.command(under, &["./ioctls", file, command]);
        let mut child = start.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let (orders, answers) = (child.stdin.take(), child.stdout.take().expect("a pipe"));
        Caller { child, orders, answers: BufReader::new(answers) }
    }

    fn call(&mut self) -> Duration {
        let mut answer = String::new();
        writeln!(self.orders.as_mut().expect("until it is dropped"), "{IOCTLS}").expect("it listens");
        self.answers.read_line(&mut answer).expect("it answers");
        Duration::from_nanos(answer.trim().parse().expect("it has opened the file"))
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // The end of its orders ends it.
        drop(self.orders.take());
        let _ended = self.child.wait();
    }
}

/// A tree of so many folders with a hundred files each, as source code has them.
fn grow(tree: &Path, folders: u32) {
    for folder in 0..folders {
        let folder = tree.join(folder.to_string());
        fs::create_dir_all(&folder).expect("a folder");
        for file in 0..100 {
            fs::write(folder.join(file.to_string()), vec![b'x'; 100 * file]).expect("a file");
        }
    }
}

fn main() -> ExitCode {
    let bench = Bench::new();
    let mut comparisons = Comparisons::new();
    let mut plain = Caller::new(&bench, false, "/dev/null", UNKNOWN);
    for (name, file, command) in [
        ("ioctl that the machine answers / unknown one, real", "/dev/iommu", OPTION),
        ("unknown one of the host's, under a machine / real", "/dev/null", UNKNOWN),
    ] {
        let mut under = Caller::new(&bench, true, file, command);
        comparisons.compare(name, IOCTLS, Some(5.0), || under.call(), || plain.call());
    }
    comparisons.compare(
        "true, under a machine / as it is",
        1,
        None,
        || bench.time(true, &["true"]),
        || bench.time(false, &["true"]),
    );
    grow(&bench.folder.path().join("tree"), comparisons.size(200, 2));
    // Several times, so that the start, which is told above, counts for little.
    let tar = [&["tar", "-cf", "archive"][..], &["tree"; 8]].concat();
    comparisons.compare(
        "tar, under a machine / as it is",
        1,
        Some(1.05),
        || bench.time(true, &tar),
        || bench.time(false, &tar),
    );
    comparisons.finish()
}
