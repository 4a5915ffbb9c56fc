//! The kernel's own build, driven.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use super::config::Config;
use crate::packages::{self, Need};
use crate::vm::kernels::Variant;

/// What the build needs, and Debian's package of each.
const NEEDS: [(Need, &str); 8] = [
    (Need::Program("make"), "make"),
    (Need::Program("gcc"), "gcc"),
    (Need::Program("flex"), "flex"),
    (Need::Program("bison"), "bison"),
    (Need::Program("bc"), "bc"),
    (Need::Program("tar"), "tar"),
    (Need::Program("xz"), "xz-utils"),
    (Need::Header("gelf.h"), "libelf-dev"),
];
/// What one variant takes, for the progress line.
const OBJECTS: usize = 1350;

/// Names every missing package at once.
pub(super) fn check_packages() -> Result<()> {
    packages::check(&NEEDS)
}

/// A source and the folder of its objects, which the variants share: a change of configuration rebuilds only what it touches.
pub(super) struct Tree {
    pub(super) source: PathBuf,
    pub(super) objects: PathBuf,
}

impl Tree {
    /// Writes the configuration of a variant and sees that it took effect.
    pub(super) fn configure(&self, variant: Variant) -> Result<()> {
        fs::create_dir_all(&self.objects)?;
        let path = self.objects.join(".config");
        let wanted = Config::wanted(variant)?;
        self.make_quietly("tinyconfig")?;
        // Of two lines for a symbol, or for two choices of which one can be had, the last counts.
        let mut file = File::options().append(true).open(&path)?;
        file.write_all(wanted.text().as_bytes())?;
        self.make_quietly("olddefconfig")?;

        let real = Config::parse(&fs::read_to_string(&path)?)?;
        let unmet = wanted.unmet(&real);
        ensure!(
            unmet.is_empty(),
            "this Linux does not take these settings of kernel {}: {}",
            variant.name(),
            unmet.join(", ")
        );
        Ok(())
    }

    /// Compiles; the image.
    pub(super) fn compile(&self, variant: Variant, jobs: usize) -> Result<PathBuf> {
        let log_path = self.objects.join("build.log");
        let mut log = File::create(&log_path)?;
        let mut make = self.make();
        make.arg("bzImage").arg(format!("-j{jobs}")).stdout(Stdio::piped()).stderr(log.try_clone()?);
        let mut child = make.spawn().context("cannot start make")?;
        let output = child.stdout.take().context("make has no output")?;
        let mut progress = Progress::new(variant);
        for line in BufReader::new(output).lines() {
            let line = line?;
            writeln!(log, "{line}")?;
            progress.line(&line);
        }
        progress.end();
        if !child.wait()?.success() {
            bail!("the build failed; its log {} ends with:\n{}", log_path.display(), end_of(&log_path)?);
        }
        Ok(self.objects.join("arch/x86/boot/bzImage"))
    }

    fn make_quietly(&self, goal: &str) -> Result<()> {
        let output = self.make().arg(goal).output().context("cannot start make")?;
        let complaints = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`make {goal}` in {} failed:\n{complaints}", self.source.display());
        Ok(())
    }

    fn make(&self) -> Command {
        let mut make = Command::new("make");
        make.arg("-C").arg(&self.source).arg(format!("O={}", self.objects.display())).arg("ARCH=x86_64");
        make.stdin(Stdio::null()).env("LC_ALL", "C");
        make
    }
}

fn end_of(log: &Path) -> Result<String> {
    let text = fs::read(log)?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(20)..].join("\n"))
}

/// Says how far the compilation is: on a terminal one line that changes, elsewhere a line for every hundred objects.
struct Progress {
    variant: Variant,
    start: Instant,
    objects: usize,
    terminal: bool,
}

impl Progress {
    fn new(variant: Variant) -> Self {
        Self { variant, start: Instant::now(), objects: 0, terminal: io::stdout().is_terminal() }
    }

    fn line(&mut self, line: &str) {
        if !is_step(line) {
            return;
        }
        self.objects += 1;
        if self.terminal {
            print!("\r{}", self.text());
            // Only the display is at stake.
            let _ = io::stdout().flush();
        } else if self.objects.is_multiple_of(100) {
            println!("{}", self.text());
        }
    }

    fn end(&self) {
        println!("{}{}", if self.terminal { "\r" } else { "" }, self.text());
    }

    fn text(&self) -> String {
        let seconds = self.start.elapsed().as_secs();
        let (name, objects) = (self.variant.name(), self.objects);
        format!(
            "kernel {name}: {objects} of about {OBJECTS} objects, {} min {:02} s",
            seconds / 60,
            seconds % 60
        )
    }
}

/// `  CC      kernel/fork.o`: an object that is made.
fn is_step(line: &str) -> bool {
    line.starts_with("  ") && line.ends_with(".o")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_count_as_progress() {
        assert!(is_step("  CC      kernel/fork.o"));
        assert!(is_step("  AS      arch/x86/entry/entry_64.o"));
        assert!(!is_step("  GEN     Makefile"));
        assert!(!is_step("make[1]: Entering directory '/linux/objects.o'"));
    }
}
