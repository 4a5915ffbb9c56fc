//! The assertions, as data.

use std::fmt;

use uapi::Errno;

const TABLE: &str = include_str!("../rows.tsv");

/// One assertion.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// `B-001`…
    pub id: &'static str,
    /// The part of the interface that it speaks of, such as `BIND`.
    pub area: &'static str,
    /// What it is asked with: once in each of these.
    pub modes: &'static [Mode],
    /// The slice of the work that it belongs to: 1 the no-IOMMU cdev, 3 everything else, 4 several processes.
    pub slice: u8,
    /// How it is known: `kernel` (seen), `code` (read), `verify` (open).
    pub known: &'static str,
    /// The state before.
    pub given: &'static str,
    /// What is done.
    pub when: &'static str,
    /// What follows, in words.
    pub then: &'static str,
    /// What follows, to compare with.
    pub expect: &'static str,
}

/// What a row is asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// A device without an IOMMU, through its character device.
    Noiommu,
    /// The same through its group.
    NoiommuGroup,
    /// A device behind an IOMMU, through its character device.
    Iommu,
    /// The same through its group.
    IommuGroup,
    /// Devices of both kinds.
    Mixed,
    /// An IOMMUFD context, whatever device there is.
    Iommufd,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 6] =
        [Mode::Noiommu, Mode::NoiommuGroup, Mode::Iommu, Mode::IommuGroup, Mode::Mixed, Mode::Iommufd];

    /// `noiommu`, `iommu-group`…
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Noiommu => "noiommu",
            Mode::NoiommuGroup => "noiommu-group",
            Mode::Iommu => "iommu",
            Mode::IommuGroup => "iommu-group",
            Mode::Mixed => "mixed",
            Mode::Iommufd => "iommufd",
        }
    }

    /// The modes that the table's own words stand for.
    fn parse(words: &str) -> Option<&'static [Mode]> {
        Some(match words {
            "noiommu" => &[Mode::Noiommu],
            "iommu" => &[Mode::Iommu],
            "both" => &[Mode::Noiommu, Mode::Iommu],
            "noiommu group" => &[Mode::NoiommuGroup],
            "iommu group" => &[Mode::IommuGroup],
            "both group" => &[Mode::NoiommuGroup, Mode::IommuGroup],
            "mixed" => &[Mode::Mixed],
            "iommufd" => &[Mode::Iommufd],
            _ => return None,
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a row expects, as far as it can be compared without knowing the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The call fails with one of these.
    Errno(Vec<Errno>),
    /// The call answers this.
    Answer(u64),
    /// The call succeeds, whatever it answers.
    Success,
    /// Something that the case itself compares.
    Other(&'static str),
}

/// All assertions, in order of their ids.
#[must_use]
pub fn rows() -> Vec<Row> {
    TABLE.lines().skip(1).filter_map(parse).collect()
}

fn parse(line: &'static str) -> Option<Row> {
    let mut fields = line.split('\t');
    let mut field = || fields.next();
    Some(Row {
        id: field()?,
        area: field()?,
        modes: Mode::parse(field()?)?,
        slice: field()?.parse().ok()?,
        known: field()?,
        given: field()?,
        when: field()?,
        then: field()?,
        expect: field()?,
    })
}

impl Row {
    /// What the row expects.
    #[must_use]
    pub fn expectation(&self) -> Expect {
        if let Some(names) = self.expect.strip_prefix("errno=") {
            let errnos: Option<Vec<Errno>> = names.split(" or ").map(Errno::from_name).collect();
            return errnos.map_or(Expect::Other(self.expect), Expect::Errno);
        }
        match self.expect.strip_prefix("ret=").map(str::parse) {
            Some(Ok(value)) => Expect::Answer(value),
            _ if self.expect == "ret>=0" => Expect::Success,
            _ => Expect::Other(self.expect),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: given {}; {}: {} ({})",
            self.id, self.area, self.given, self.when, self.then, self.expect
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_row_and_every_id_stands_once() {
        let rows = rows();
        assert_eq!(rows.len(), TABLE.lines().count() - 1);
        assert!(rows.iter().zip(rows.iter().skip(1)).all(|(a, b)| a.id < b.id));
    }

    #[test]
    fn every_errno_is_known() {
        for row in rows().iter().filter(|row| row.expect.starts_with("errno=")) {
            assert!(matches!(row.expectation(), Expect::Errno(_)), "{row}");
        }
    }
}
