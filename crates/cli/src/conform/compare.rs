//! `ioasis conform --compare`: two runs of the suite held against each other.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, ensure};

use super::results::{Entry, Results, Status};
use crate::output::{print, table};

/// Prints every row and mode in which two runs differ. It is an error if both systems were asked a row and answered it
/// differently.
pub(super) fn run(left: &Path, right: &Path) -> Result<()> {
    let (left, right) = (Results::read(left)?, Results::read(right)?);
    let mut rows = table();
    rows.set_header(["row", "mode", &left.system, &right.system]);
    let (mut contradictions, mut differences) = (0, 0);
    for ((id, mode), sides) in pair(&left, &right) {
        let Some(difference) = Difference::of(sides) else { continue };
        differences += 1;
        contradictions += usize::from(difference == Difference::Answer);
        rows.add_row([id.to_owned(), mode.to_owned(), cell(sides.0), cell(sides.1)]);
    }
    let counts = format!("{differences} differences, in {contradictions} of them both were asked\n");
    match differences {
        0 => print("no difference\n")?,
        _ => print(&format!("{}\n\n{counts}", rows.trim_fmt()))?,
    }
    ensure!(contradictions == 0, "{contradictions} rows are answered differently");
    Ok(())
}

/// The results of both sides of one row in one mode.
type Sides<'a> = (Option<&'a Entry>, Option<&'a Entry>);

fn pair<'a>(left: &'a Results, right: &'a Results) -> BTreeMap<(&'a str, &'a str), Sides<'a>> {
    let mut pairs: BTreeMap<_, Sides<'_>> = BTreeMap::new();
    for entry in &left.results {
        pairs.entry(entry.key()).or_default().0 = Some(entry);
    }
    for entry in &right.results {
        pairs.entry(entry.key()).or_default().1 = Some(entry);
    }
    pairs
}

/// How two results of a row differ.
#[derive(Debug, PartialEq, Eq)]
enum Difference {
    /// Both systems were asked, and answered differently.
    Answer,
    /// One system alone was asked.
    Asked,
}

impl Difference {
    fn of(sides: Sides<'_>) -> Option<Self> {
        let asked = |side: Option<&'_ Entry>| side.is_some_and(|entry| entry.status != Status::NotApplicable);
        match sides {
            (Some(left), Some(right)) if asked(sides.0) && asked(sides.1) => {
                (!agree(left, right)).then_some(Difference::Answer)
            }
            _ => (asked(sides.0) != asked(sides.1)).then_some(Difference::Asked),
        }
    }
}

/// Whether two answers are the same. What is got where both pass can be an address or a descriptor, which differs
/// from run to run; an errno does not.
fn agree(left: &Entry, right: &Entry) -> bool {
    let errno = |entry: &Entry| entry.got.clone().filter(|got| got.starts_with("errno="));
    match (left.status, right.status) {
        (Status::Pass, Status::Pass) => errno(left) == errno(right),
        (Status::Fail, Status::Fail) => left.got == right.got,
        _ => false,
    }
}

fn cell(side: Option<&Entry>) -> String {
    let Some(Entry { status, expected, got, reason, .. }) = side else {
        return "not in this run".to_owned();
    };
    let got = got.as_deref().unwrap_or_default();
    match status {
        Status::Pass => format!("pass: {got}"),
        Status::Fail => format!("FAIL: {got}, expected {expected}"),
        Status::NotApplicable => format!("n/a: {}", reason.as_deref().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Difference, Entry, Status};

    fn entry(status: Status, got: &str) -> Entry {
        let (got, expected) = (Some(got.to_owned()), "errno=EINVAL or EFAULT".to_owned());
        Entry { id: "B-001".to_owned(), mode: "noiommu".to_owned(), status, expected, got, reason: None }
    }

    fn difference(left: Option<Entry>, right: Option<Entry>) -> Option<Difference> {
        Difference::of((left.as_ref(), right.as_ref()))
    }

    #[test]
    fn answers_are_compared_and_addresses_are_not() {
        let pass = |got| Some(entry(Status::Pass, got));
        assert_eq!(difference(pass("errno=EINVAL"), pass("errno=EINVAL")), None);
        assert_eq!(difference(pass("errno=EINVAL"), pass("errno=EFAULT")), Some(Difference::Answer));
        assert_eq!(difference(pass("0x1000"), pass("0x2000")), None);
        let fail = |got| Some(entry(Status::Fail, got));
        assert_eq!(difference(pass("errno=EINVAL"), fail("errno=EFAULT")), Some(Difference::Answer));
        assert_eq!(difference(fail("ret=0"), fail("ret=1")), Some(Difference::Answer));
        assert_eq!(difference(fail("ret=0"), fail("ret=0")), None);
    }

    #[test]
    fn a_row_that_one_system_was_not_asked_is_no_contradiction() {
        let pass = || Some(entry(Status::Pass, "ret=0"));
        let not_asked = || Some(entry(Status::NotApplicable, ""));
        assert_eq!(difference(pass(), not_asked()), Some(Difference::Asked));
        assert_eq!(difference(None, pass()), Some(Difference::Asked));
        assert_eq!(difference(None, not_asked()), None);
    }
}
