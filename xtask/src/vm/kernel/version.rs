//! Versions of Linux.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// A version, as far as it says which features there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    major: u32,
    minor: u32,
}

impl Version {
    pub(super) const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// The first two numbers of `7.3` or `7.3.4`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|number| number.parse().ok());
        Some(Self { major: numbers.next()??, minor: numbers.next()?? })
    }

    /// Of an unpacked source, from its Makefile.
    pub(super) fn of_source(folder: &Path) -> Result<Self> {
        let makefile = folder.join("Makefile");
        let text =
            fs::read_to_string(&makefile).with_context(|| format!("cannot read {}", makefile.display()))?;
        Self::of_makefile(&text).with_context(|| format!("{} is not Linux's", makefile.display()))
    }

    fn of_makefile(text: &str) -> Option<Self> {
        let number = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        Some(Self { major: number("VERSION =")?, minor: number("PATCHLEVEL =")? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert_eq!(Version::parse("7.3.4"), Some(Version::new(7, 3)));
        assert!(Version::parse("7.10") > Version::parse("7.9"));
        assert_eq!(Version::parse("rt"), None);
        assert_eq!(Version::of_makefile("# x\nVERSION = 7\nPATCHLEVEL = 3\n"), Some(Version::new(7, 3)));
        assert_eq!(Version::of_makefile("all:\n"), None);
    }
}
