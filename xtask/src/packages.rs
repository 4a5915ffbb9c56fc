//! What chores need of the system, and Debian's packages of it.

use std::io;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Something that a chore needs.
pub(crate) enum Need {
    /// A program, by name.
    Program(&'static str),
    /// A header of C, as it is included.
    Header(&'static str),
}

/// Names every missing package at once; each need comes with Debian's package of it. What needs a header needs gcc, too.
pub(crate) fn check(needs: &[(Need, &'static str)]) -> Result<()> {
    let mut missing: Vec<&str> = Vec::new();
    for (need, package) in needs {
        let there = match need {
            Need::Program(name) => has_program(name),
            // Without a compiler it cannot be told; that is said already.
            Need::Header(name) => missing.contains(&"gcc") || has_header(name)?,
        };
        if !there && !missing.contains(package) {
            missing.push(package);
        }
    }
    ensure!(missing.is_empty(), "missing packages (Debian's names): apt install {}", missing.join(" "));
    Ok(())
}

fn has_program(name: &str) -> bool {
    let started = Command::new(name).arg("--version").stdin(Stdio::null()).output();
    !started.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn has_header(name: &str) -> Result<bool> {
    let mut compiler = Command::new("gcc");
    compiler.args(["-E", "-include", name, "-x", "c", "/dev/null"]);
    let status = compiler.stdout(Stdio::null()).stderr(Stdio::null()).status().context("cannot start gcc")?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_packages_are_named_once_and_together() {
        let needs = [
            (Need::Program("sh"), "dash"),
            (Need::Program("no-such-program"), "one"),
            (Need::Program("nor-this-one"), "one"),
            (Need::Header("no/such/header.h"), "two"),
        ];
        let error = check(&needs).unwrap_err().to_string();
        assert!(error.ends_with("apt install one two"), "{error}");
        assert!(check(&needs[..1]).is_ok());
    }
}
