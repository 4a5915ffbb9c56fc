//! Machine files, and runs of the command.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const ADDRESS: &str = "0000:01:00.0";

/// The command.
pub(crate) fn ioasis() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ioasis"))
}

/// A folder with a machine file.
pub(crate) struct Machine {
    pub(crate) folder: TempDir,
}

impl Machine {
    /// With this text.
    pub(crate) fn file(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("machine.toml"), text).unwrap();
        Machine { folder }
    }

    /// With a controller whose namespace has this key, such as `size = "1MiB"`.
    pub(crate) fn with(namespace: &str) -> Self {
        let memory = "[memory]\nlayout = \"scattered\"\nseed = 7\n";
        Machine::file(&format!(
            "{memory}[[device]]\naddress = \"{ADDRESS}\"\nmodel = \"nvme\"\n{namespace}\n"
        ))
    }

    /// With an image of these bytes.
    pub(crate) fn with_image(bytes: &[u8]) -> Self {
        let machine = Machine::with("image = \"disk.img\"");
        std::fs::write(machine.path("disk.img"), bytes).unwrap();
        machine
    }

    /// With an image that is all zeroes and takes no room.
    pub(crate) fn with_sparse_image(length: u64) -> Self {
        let machine = Machine::with_image(&[]);
        File::create(machine.path("disk.img")).unwrap().set_len(length).unwrap();
        machine
    }

    /// A file in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What is in its folder besides the machine file and the image.
    pub(crate) fn other_files(&self) -> Vec<String> {
        let names = self.folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap());
        names.filter(|name| name != "machine.toml" && name != "disk.img").collect()
    }

    /// `ioasis --machine … nvme WORD 0000:01:00.0 MORE…`, in its folder.
    pub(crate) fn nvme(&self, word: &str, more: &[&str]) -> Command {
        let mut command = ioasis();
        command.current_dir(self.folder.path()).args(["--machine", "machine.toml", "nvme", word, ADDRESS]);
        command.args(more);
        command
    }
}

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap()
    }
}

/// Runs to the end, with these bytes as standard input. A panic fails the test.
pub(crate) fn run_with_input(command: &mut Command, input: &[u8]) -> Outcome {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A command that reads no input closes it early.
        scope.spawn(move || drop(stdin.write_all(input)));
        outcome(child.wait_with_output().unwrap())
    })
}

pub(crate) fn outcome(output: std::process::Output) -> Outcome {
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{stderr}");
    Outcome { status: output.status, stdout: output.stdout, stderr }
}

/// Runs to the end.
pub(crate) fn run(command: &mut Command) -> Outcome {
    run_with_input(command, b"")
}

/// Runs to the end, which is to be a good one, without a word on standard error.
pub(crate) fn succeed(command: &mut Command) -> Outcome {
    let outcome = run(command);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    assert_eq!(outcome.stderr, "");
    outcome
}

/// Runs to the end, which is to be an error: its text. Nothing is printed on standard output.
pub(crate) fn fail(command: &mut Command) -> String {
    let outcome = run(command);
    assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, b"");
    let error = outcome.stderr.strip_prefix("error: ").unwrap_or_else(|| panic!("{}", outcome.stderr));
    error.trim_end().to_owned()
}

/// Bytes that differ from block to block.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(at / 512 + 1) >> 3) as u8).collect()
}

pub(crate) fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// What root is told of the host; anybody else may not ask, and is told that.
pub(crate) fn for_root(words: &'static str) -> &'static str {
    if rustix::process::geteuid().is_root() { words } else { "it has to run as root" }
}
