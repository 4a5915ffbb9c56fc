//! What is shown on a terminal.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::common::*;

/// Runs a command with a terminal of so many columns as its standard output and error, the one that it
/// belongs to: what it shows.
fn on_terminal(command: &Command, columns: u16) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let screen = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty()).unwrap();
    tcsetwinsize(&screen, size).unwrap();
    let screen = File::from(screen);
    let mut leader = Command::new("setsid");
    leader.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
    leader.stdin(screen.try_clone().unwrap()).stdout(screen.try_clone().unwrap()).stderr(screen);
    leader.env("TERM", "xterm");
    if let Some(folder) = command.get_current_dir() {
        leader.current_dir(folder);
    }
    let mut child = leader.spawn().unwrap();
    // The last holder of the other side besides the command.
    drop(leader);
    let mut shown = Vec::new();
    // The end of a terminal is an error (EIO) once nobody has it open.
    let _hung_up = File::from(terminal).read_to_end(&mut shown);
    let status = child.wait().unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert!(status.success(), "{shown}");
    shown
}

#[test]
fn long_work_shows_a_bar_on_a_terminal() {
    let machine = Machine::with_sparse_image(64 << 20);
    let shown = on_terminal(&machine.nvme("read", &["--all", "-o", "out"]), 80);
    assert!(shown.contains('%') && shown.contains('█'), "{shown:?}");
    assert_eq!(read(&machine.path("out")).len(), 64 << 20);
}

#[test]
fn the_bar_fits_a_narrow_terminal() {
    let machine = Machine::with_sparse_image(64 << 20);
    let shown = on_terminal(&machine.nvme("read", &["--all", "-o", "out"]), 40);
    // Each drawing begins with a return to the first column, and escape sequences take none.
    let drawings: Vec<&str> = shown.split(['\r', '\n', '\x1b']).filter(|part| part.contains('%')).collect();
    assert!(!drawings.is_empty(), "{shown:?}");
    for drawing in drawings {
        assert!(drawing.contains("left") && drawing.chars().count() <= 40 + "[2K".len(), "{drawing:?}");
    }
}

#[test]
fn long_work_shows_nothing_in_a_pipe() {
    let machine = Machine::with_sparse_image(64 << 20);
    let mut command = machine.nvme("read", &["--all", "-o", "out"]);
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b""[..], &b""[..]));
}

#[test]
fn tables_fit_a_narrow_terminal() {
    let machine = Machine::with("size = \"1MiB\"");
    for (command, columns) in
        [(machine.nvme("identify", &[]), 40), (machine.nvme("bench", &["--seconds", "1"]), 40), (demo(), 80)]
    {
        let shown = on_terminal(&command, columns);
        assert!(shown.lines().count() > 4, "{shown}");
        for line in shown.lines() {
            assert!(line.chars().count() <= columns.into(), "{line:?} in\n{shown}");
        }
    }
}

#[test]
fn a_terminal_that_does_not_know_its_width_shows_whole_words() {
    let machine = Machine::with("size = \"1MiB\"");
    let shown = on_terminal(&machine.nvme("identify", &[]), 0);
    assert!(shown.contains("ioasis NVMe controller"), "{shown}");
}

fn demo() -> Command {
    let mut command = ioasis();
    command.arg("demo");
    command
}

#[test]
fn blocks_are_not_shown_on_a_terminal() {
    let machine = Machine::with("size = \"1MiB\"");
    let mut command = Command::new("sh");
    let read = machine.nvme("read", &["--all", "-o", "-"]);
    command.current_dir(machine.folder.path()).args(["-c", "\"$@\" || true", "sh"]);
    command.arg(read.get_program()).args(read.get_args());
    let shown = on_terminal(&command, 80);
    assert!(shown.starts_with("error: standard output is a terminal; name a file with -o"), "{shown:?}");
}
