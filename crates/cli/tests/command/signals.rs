//! Runs that are stopped from outside.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};

use crate::common::*;

const MIB: usize = 1 << 20;

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// A write from a pipe that stays open, stopped by a signal after 40 MiB were taken.
fn stopped_write(machine: &Machine, lba: &str, bytes: &[u8], signal: Signal) -> Outcome {
    let mut child = machine
        .nvme("write", &["--lba", lba, "-i", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // All but what fits into the pipe was read when this returns: two chunks of 16 MiB, and a part of the
    // third.
    stdin.write_all(bytes).unwrap();
    send(&child, signal);
    let outcome = outcome(child.wait_with_output().unwrap());
    drop(stdin);
    outcome
}

#[test]
fn ctrl_c_in_a_write_says_how_far_it_got() {
    for signal in [Signal::INT, Signal::TERM] {
        let machine = Machine::with_sparse_image(64 << 20);
        let bytes = pattern(40 * MIB);
        let outcome = stopped_write(&machine, "8", &bytes, signal);
        assert_eq!(outcome.status.code(), Some(130));
        assert_eq!(outcome.stderr, "error: blocks 8 to 65543 were written and flushed: interrupted\n");
        assert!(read(&machine.path("disk.img"))[4096..4096 + 32 * MIB] == bytes[..32 * MIB]);
    }
}

#[test]
fn what_was_flushed_survives_a_kill() {
    let machine = Machine::with_sparse_image(64 << 20);
    let first = pattern(MIB);
    let outcome = run_with_input(&mut machine.nvme("write", &["-i", "-"]), &first);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    let outcome = stopped_write(&machine, "4096", &pattern(40 * MIB), Signal::KILL);
    assert_eq!(outcome.status.code(), None);
    assert!(read(&machine.path("disk.img"))[..MIB] == first);
}

#[test]
fn ctrl_c_in_a_read_leaves_no_file() {
    // So much that it is not read to the end before the signal comes.
    let machine = Machine::with_sparse_image(64 << 30);
    let child = machine
        .nvme("read", &["--all", "-o", "out"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while machine.other_files().is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    send(&child, Signal::INT);
    let outcome = outcome(child.wait_with_output().unwrap());
    assert_eq!(outcome.status.code(), Some(130));
    assert!(
        outcome.stderr.ends_with("of 68719476736 bytes were read, and out was not written: interrupted\n"),
        "{}",
        outcome.stderr
    );
    assert_eq!(machine.other_files(), [""; 0]);
}

/// Interrupts a read of 64 MiB: its outcome.
fn interrupted_read(child: Child) -> Outcome {
    send(&child, Signal::INT);
    outcome(child.wait_with_output().unwrap())
}

#[test]
fn ctrl_c_in_a_read_reaches_it_while_its_reader_is_slow() {
    let machine = Machine::with_sparse_image(64 << 20);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let child =
        machine.nvme("read", &["--all", "-o", "-"]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    // It has begun, and has much more to write than the pipe holds.
    reader.read_exact(&mut [0; 100]).unwrap();
    let outcome = interrupted_read(child);
    assert_eq!(outcome.status.code(), Some(130));
    assert_eq!(
        outcome.stderr,
        "error: 0 of 67108864 bytes were read, and standard output got only a part: interrupted\n"
    );
}

#[test]
fn ctrl_c_in_a_read_reaches_it_while_a_named_pipe_has_no_reader() {
    let machine = Machine::with_sparse_image(64 << 20);
    mknodat(CWD, machine.path("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let child = machine
        .nvme("read", &["--all", "-o", "fifo"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until_it_catches(&child, Signal::INT);
    let outcome = interrupted_read(child);
    assert_eq!(outcome.status.code(), Some(130));
    assert_eq!(outcome.stderr, "error: cannot write fifo: interrupted\n");
}

/// Waits until a process has a handler for a signal (`proc_pid_status(5)`).
fn wait_until_it_catches(child: &Child, signal: Signal) {
    let bit = 1_u64 << (signal.as_raw() - 1);
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        if u64::from_str_radix(caught.trim(), 16).unwrap() & bit != 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_named_pipe_gets_every_byte() {
    let image = pattern(4 * MIB);
    let machine = Machine::with_image(&image);
    mknodat(CWD, machine.path("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let path = machine.path("fifo");
    let reader = std::thread::spawn(move || read(&path));
    succeed(&mut machine.nvme("read", &["--all", "-o", "fifo"]));
    assert!(reader.join().unwrap() == image);
}
