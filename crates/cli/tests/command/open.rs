//! `ioasis open` and `--bind`, as far as a host without devices shows them: what is refused, and descriptors that are not what they are
//! said to be.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::common::*;

/// No bus has such a domain.
const NOWHERE: &str = "fffe:ff:1f.7";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs `ioasis nvme identify` with these variables and the descriptor 3 of a shell's redirection.
fn with_descriptors(variables: &str, redirections: &str) -> Outcome {
    let ioasis = env!("CARGO_BIN_EXE_ioasis");
    // The shell has the process id that the command will have.
    let script = format!("{variables} exec {ioasis} nvme identify {NOWHERE} {redirections}");
    run(Command::new("sh").args(["-c", &script]))
}

#[test]
fn descriptors_of_the_wrong_kind_are_named() {
    let two = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=vfio-device:iommufd";
    for (variables, redirections, message) in [
        (
            two,
            "3</etc/passwd",
            "descriptor 3, passed as vfio-device, is /etc/passwd, and not a character device",
        ),
        (
            two,
            "3</dev/null",
            "descriptor 3, passed as vfio-device, is /dev/null, and not a PCI device of VFIO",
        ),
        (two, "3<&-", "descriptor 3, passed as vfio-device, is closed"),
        ("LISTEN_PID=$$ LISTEN_FDS=x", "", "LISTEN_FDS is \"x\", which is no number"),
        (
            "LISTEN_PID=$$ LISTEN_FDS=3 LISTEN_FDNAMES=a",
            "",
            "LISTEN_FDS is 3, and LISTEN_FDNAMES has 1 names",
        ),
    ] {
        let outcome = with_descriptors(variables, redirections);
        assert_eq!(outcome.status.code(), Some(1));
        assert!(outcome.stderr.contains(message), "{}", outcome.stderr);
    }
}

#[test]
fn descriptors_for_others_are_left_alone() {
    for variables in [
        "LISTEN_PID=1 LISTEN_FDS=2 LISTEN_FDNAMES=vfio-device:iommufd",
        "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http",
        "LISTEN_FDS=2 LISTEN_FDNAMES=vfio-device:iommufd",
    ] {
        let outcome = with_descriptors(variables, "3</dev/null");
        assert!(outcome.stderr.starts_with("error: there is no PCI device"), "{}", outcome.stderr);
    }
}

#[test]
fn a_device_that_is_not_there_is_named_before_anything_is_run() {
    let user: &[&str] = if is_root() { &["--user", "1000:1000"] } else { &[] };
    let mut command = ioasis();
    command.args(["open", NOWHERE]).args(user).args(["--", "echo", "run"]);
    assert!(fail(&mut command).starts_with(&format!("there is no PCI device {NOWHERE}; looked for:")));
    let error = fail(ioasis().args(["--bind", "nvme", "identify", NOWHERE]));
    assert!(error.starts_with(&format!("there is no PCI device {NOWHERE}")), "{error}");
}

#[test]
fn root_has_to_say_who_runs_the_command() {
    let mut command = ioasis();
    command.args(["open", NOWHERE]).env_remove("SUDO_UID").env_remove("SUDO_GID");
    if !is_root() {
        let error = fail(command.args(["--user", "nobody", "--", "true"]));
        assert_eq!(error, "--user is for root; the command is run by you");
        return;
    }
    let error = fail(command.args(["--", "true"]));
    assert!(error.contains("name one by --user NAME, or run this by sudo"), "{error}");
    for (user, message) in
        [("root", "\"root\" is root"), ("no-such-user", "/etc/passwd has no user \"no-such-user\"")]
    {
        let error = fail(ioasis().args(["open", NOWHERE, "--user", user, "--", "true"]));
        assert!(error.contains(message), "{error}");
    }
    // An ordinary user that has no way back to root finds no more than the device's absence either.
    let error = fail(ioasis().args(["open", NOWHERE, "--", "true"]).uid(65534));
    assert!(error.starts_with("there is no PCI device"), "{error}");
}

#[test]
fn what_cannot_be_is_refused() {
    let machine = Machine::with("size = \"1MiB\"");
    let file = machine.path("machine.toml");
    let error = fail(ioasis().arg("--machine").arg(&file).args(["open", ADDRESS, "--", "true"]));
    assert!(error.contains("cannot be passed on"), "{error}");
    let outcome = run(ioasis().arg("--machine").arg(&file).args(["--bind", "nvme", "identify", ADDRESS]));
    assert_eq!(outcome.status.code(), Some(2));
    let error = fail(ioasis().args(["--bind", "conform", "--list"]));
    assert_eq!(error, "--bind takes the devices that the command names, and it names none");
    let outcome = run(ioasis().args(["open", ADDRESS]));
    assert_eq!(outcome.status.code(), Some(2), "a command is demanded");
}

#[test]
fn a_translator_without_the_capability_ends_and_says_so() {
    let mut command = ioasis();
    // A process of that number need not be there: it does not come so far.
    command.args(["translate", "1", "--detached"]);
    if is_root() {
        command.uid(65534);
    }
    let error = fail(&mut command);
    assert!(error.contains("cannot reduce the capabilities to CapabilitySet(SYS_RAWIO)"), "{error}");
}
