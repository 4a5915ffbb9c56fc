//! Outputs that take no more.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use crate::common::*;

#[test]
fn a_full_disk_is_an_error() {
    let machine = Machine::with_image(&pattern(1 << 20));
    let error = fail(&mut machine.nvme("read", &["--all", "-o", "/dev/full"]));
    assert_eq!(error, "cannot write /dev/full: the disk is full");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = machine.nvme("read", &["--all", "-o", "-"]).stdout(full.try_clone().unwrap()).output();
    let outcome = outcome(output.unwrap());
    assert_eq!(outcome.stderr, "error: cannot write standard output: the disk is full\n");
    // Neither is a message that nobody takes a reason to panic.
    let status = ioasis().arg("demo").stdout(full.try_clone().unwrap()).stderr(full).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn a_file_that_may_not_grow_is_not_made() {
    // The machine's memory is a file to the limit too: 24 MiB here.
    let machine = Machine::with_sparse_image(128 << 20);
    let text = String::from_utf8(read(&machine.path("machine.toml"))).unwrap();
    let text = text.replace("[memory]", "[memory]\nsize = \"24MiB\"");
    std::fs::write(machine.path("machine.toml"), text).unwrap();
    std::fs::write(machine.path("out"), "what was there").unwrap();
    let command = machine.nvme("read", &["--all", "-o", "out"]);
    let mut limited = Command::new("sh");
    limited.current_dir(machine.folder.path()).args(["-c", "ulimit -f 65536; exec \"$@\"", "sh"]);
    limited.arg(command.get_program()).args(command.get_args());
    let error = fail(&mut limited);
    assert!(error.starts_with("cannot write ") && error.ends_with("; it was not written"), "{error}");
    assert!(error.contains("out: it would be larger than the file system or the limit"), "{error}");
    assert_eq!(machine.other_files(), ["out"]);
    assert_eq!(read(&machine.path("out")), b"what was there");
}

#[test]
fn an_output_that_cannot_be_made_is_named() {
    let machine = Machine::with("size = \"1MiB\"");
    for (output, message) in [
        ("none/out", "cannot write none/out: No such file or directory"),
        (".", "cannot write .: it is a directory"),
        ("none/..", "cannot write none/..: it names no file"),
    ] {
        let error = fail(&mut machine.nvme("read", &["--all", "-o", output]));
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn a_reader_that_goes_away_is_an_error() {
    let machine = Machine::with_sparse_image(64 << 20);
    let mut child = machine
        .nvme("read", &["--all", "-o", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut head = [1; 100];
    child.stdout.take().unwrap().read_exact(&mut head).unwrap();
    assert_eq!(head, [0; 100]);
    let outcome = outcome(child.wait_with_output().unwrap());
    assert_eq!(outcome.status.code(), Some(1));
    assert_eq!(outcome.stderr, "error: cannot write standard output: its reader went away before the end\n");
}

#[test]
fn a_medium_that_fails_is_an_error_with_the_block() {
    let machine = Machine::with_sparse_image(64 << 20);
    let mut child = machine
        .nvme("read", &["--all", "-o", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 100]).unwrap();
    // The command waits for its reader, a few MiB ahead.
    let image = File::options().write(true).open(machine.path("disk.img")).unwrap();
    image.set_len(32 << 20).unwrap();
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    let outcome = outcome(child.wait_with_output().unwrap());
    assert_eq!(outcome.status.code(), Some(1));
    let message = format!(
        "error: {} of 67108864 bytes were read, and standard output got only a part: {ADDRESS}: \
         Read at block 65536 failed: Unrecovered Read Error (status code type 0x2, code 0x81)\n",
        rest.len() + 100
    );
    assert_eq!(outcome.stderr, message);
}

#[test]
fn a_report_that_nobody_reads_is_an_error() {
    let machine = Machine::with("size = \"1MiB\"");
    for more in [&[][..], &["--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let outcome = outcome(machine.nvme("identify", more).stdout(writer).output().unwrap());
        assert_eq!(outcome.status.code(), Some(1));
        assert_eq!(
            outcome.stderr,
            "error: cannot write standard output: its reader went away before the end\n"
        );
    }
}
