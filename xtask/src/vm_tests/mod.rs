//! What is shown on real kernels: a table of boots, and for each a script of `vm/tests` that checks what is to be seen in it.

mod bench;
mod differ;
mod harness;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::image;
use crate::run::{Steps, root, scratch};
use crate::vm;

/// A boot. Any of them can be repeated by hand: what is run is printed.
struct Boot {
    name: &'static str,
    /// Options of `cargo xtask vm`, parted by blanks.
    options: &'static str,
    /// The script, which finds `lib.sh` in /bin and the image's sha256 in /etc.
    script: &'static str,
}

const BOOTS: [Boot; 18] = [
    Boot {
        name: "kernel A without an IOMMU",
        options: "--kernel A --append hugepages=64",
        script: "noiommu.sh",
    },
    Boot { name: "kernel A with an IOMMU", options: "--kernel A --iommu", script: "iommu.sh" },
    Boot { name: "kernel C without an IOMMU", options: "--kernel C --append hugepages=8", script: "cdev.sh" },
    Boot { name: "kernel D with an IOMMU", options: "--kernel D --iommu", script: "group.sh" },
    Boot {
        name: "kernel D without an IOMMU",
        options: "--kernel D --append hugepages=64",
        script: "group-noiommu.sh",
    },
    Boot {
        name: "Debian's kernel without an IOMMU",
        options: "--kernel debian --no-bind --append hugepages=64",
        script: "debian.sh",
    },
    Boot {
        name: "Debian's kernel with an IOMMU",
        options: "--kernel debian --iommu",
        script: "debian-iommu.sh",
    },
    Boot {
        name: "the suite on kernel A without an IOMMU",
        options: "--kernel A --append hugepages=16",
        script: "conform.sh",
    },
    Boot { name: "the suite on kernel A with an IOMMU", options: "--kernel A --iommu", script: "conform.sh" },
    Boot {
        name: "the suite on kernel A with devices of both kinds",
        options: "--kernel A --iommu --device edu,nvme,e1000e,e1000e-bypassing",
        script: "both-kinds.sh",
    },
    Boot {
        name: "the suite on kernel A with interrupts that are not remapped",
        options: "--kernel A --iommu --no-interrupt-remapping",
        script: "open-interrupts.sh",
    },
    Boot {
        name: "the suite on kernel B without an IOMMU",
        options: "--kernel B --append hugepages=16",
        script: "conform.sh",
    },
    Boot {
        name: "the suite on kernel C without an IOMMU",
        options: "--kernel C --append hugepages=16",
        script: "conform.sh",
    },
    Boot { name: "the suite on kernel C with an IOMMU", options: "--kernel C --iommu", script: "conform.sh" },
    Boot {
        name: "the suite on kernel D without an IOMMU",
        options: "--kernel D --append hugepages=16",
        script: "conform.sh",
    },
    Boot { name: "the suite on kernel D with an IOMMU", options: "--kernel D --iommu", script: "conform.sh" },
    Boot {
        name: "a driver without privileges",
        options: "--kernel A --no-bind --append hugepages=64",
        script: "broker.sh",
    },
    Boot {
        name: "devices taken from their drivers",
        options: "--kernel debian --iommu --no-bind",
        script: "bind.sh",
    },
];

/// The disk behind the controller that is read.
const IMAGE_BYTES: u64 = 16 << 20;

/// `cargo xtask vm`, as far as the words behind it go.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct CommandLine {
    #[command(flatten)]
    options: vm::Options,
}

impl Boot {
    fn own_options(&self) -> Vec<String> {
        self.options.split_whitespace().map(str::to_owned).collect()
    }

    /// What is behind `cargo xtask vm`; `more` are more options.
    fn command_line(&self, files: &Files, more: &[&str]) -> Vec<String> {
        let tests = root().join("vm/tests");
        let mut words = self.own_options();
        let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
        option("--timeout", "900".to_owned());
        option("--image", files.image.display().to_string());
        option("--file", format!("{}:/etc/image.sha256", files.sum.display()));
        option("--file", tests.join("lib.sh").display().to_string());
        option("--file", tests.join(self.script).display().to_string());
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words.extend(["--".to_owned(), self.script.to_owned()]);
        words
    }

    fn run(&self, files: &Files, more: &[&str]) -> Result<()> {
        let words = self.command_line(files, more);
        let status = vm::run(&parse(&words)?);
        let again = || format!("to see it again: cargo xtask vm {}", words.join(" "));
        let status = status.with_context(again)?;
        ensure!(status == 0, "checks failed, see above; {}", again());
        Ok(())
    }
}

fn parse(words: &[String]) -> Result<vm::Options> {
    Ok(CommandLine::try_parse_from(words)?.options)
}

/// What the guests are given.
struct Files {
    image: PathBuf,
    sum: PathBuf,
}

impl Files {
    fn make() -> Result<Self> {
        let folder = scratch("vm-tests")?.canonicalize()?;
        let files = Files { image: folder.join("disk.img"), sum: folder.join("image.sha256") };
        image::make(&files.image, &root().join("docs"), IMAGE_BYTES)?;
        fs::write(&files.sum, image::sha256(&files.image)?)?;
        Ok(files)
    }
}

fn every_boot() -> impl Iterator<Item = &'static Boot> {
    BOOTS.iter().chain(differ::PAIRS.iter().map(|pair| &pair.boot)).chain([&bench::BOOT])
}

/// An error, before anything else is done, if a kernel is missing.
pub(crate) fn check_kernels(steps: &Steps) -> Result<()> {
    let options =
        |boot: &Boot| parse(&[boot.own_options(), vec!["--".to_owned(), boot.script.to_owned()]].concat());
    let boots = every_boot().filter(|boot| steps.wants(boot.name));
    vm::check_kernels(&boots.map(options).collect::<Result<Vec<_>>>()?)
}

/// Runs all boots, and what `cargo xtask vm` itself promises.
pub(crate) fn run(steps: &mut Steps) -> Result<()> {
    let files = Files::make()?;
    steps.run("vm passes results", harness::passes_results)?;
    steps.run("vm ends what hangs", harness::ends_what_hangs)?;
    steps.run("vm ends when interrupted", harness::ends_when_interrupted)?;
    steps.run("vm names what is missing", harness::names_what_is_missing)?;
    BOOTS.iter().try_for_each(|boot| steps.run(boot.name, || boot.run(&files, &[])))?;
    differ::PAIRS.iter().try_for_each(|pair| steps.run(pair.boot.name, || differ::run(pair, &files)))?;
    steps.run(bench::BOOT.name, || bench::run(&files))
}

/// Measures the calls of both sides alone.
pub(crate) fn bench() -> Result<()> {
    bench::run(&Files::make()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_boot_has_options_and_a_script() {
        let files = Files { image: PathBuf::from("/disk.img"), sum: PathBuf::from("/sum") };
        for boot in every_boot() {
            parse(&boot.command_line(&files, &[])).unwrap();
        }
        for boot in &BOOTS {
            let script = fs::read_to_string(root().join("vm/tests").join(boot.script)).unwrap();
            assert!(script.trim_end().ends_with("\nfinish"), "{} does not tell what failed", boot.script);
        }
        for entry in fs::read_dir(root().join("vm/tests")).unwrap() {
            let name = entry.unwrap().file_name();
            let used = name == "lib.sh" || every_boot().any(|boot| name == boot.script);
            assert!(used, "{} is run by no boot", name.display());
        }
    }
}
