//! What a case finds.

use std::fmt;

use sys::Rule;
use uapi::Errno;

use crate::row::{Expect, Row};

/// What a case got.
#[derive(Clone, Debug)]
pub enum Got {
    /// The answer of the call that the row speaks of, with the rule that a refusal named.
    Answer(Result<u64, Errno>, Option<Rule>),
    /// Something compared by the case: what it expected, what it saw, and whether they agree.
    Compared {
        /// What the row makes one expect here.
        expected: String,
        /// What was seen.
        got: String,
        /// Whether they agree.
        equal: bool,
    },
}

impl Got {
    /// Compares two values.
    pub fn equal<T: PartialEq + fmt::Debug>(expected: T, got: T) -> Got {
        let equal = expected == got;
        Got::Compared { expected: format!("{expected:x?}"), got: format!("{got:x?}"), equal }
    }

    /// A statement that must be true; `got` says what was seen.
    pub fn truth(expected: impl fmt::Display, got: impl fmt::Debug, equal: bool) -> Got {
        Got::Compared { expected: expected.to_string(), got: format!("{got:x?}"), equal }
    }

    /// Of several statements the first that is false, else the last.
    #[must_use]
    pub fn all(parts: impl IntoIterator<Item = Got>) -> Got {
        let mut last = Got::truth("at least one statement", "none", false);
        for part in parts {
            let equal = matches!(part, Got::Compared { equal: true, .. });
            last = part;
            if !equal {
                break;
            }
        }
        last
    }

    /// This, provided that a statement that the row makes besides is true.
    #[must_use]
    pub fn provided(self, besides: Got) -> Got {
        match besides {
            Got::Compared { equal: true, .. } => self,
            _ => besides,
        }
    }

    /// The answer of several calls that have to answer alike.
    #[must_use]
    pub fn alike<T: Into<u64>>(calls: impl IntoIterator<Item = sys::Result<T>>) -> Got {
        let answers: Vec<Got> = calls.into_iter().map(Got::from).collect();
        let plain = |got: &Got| match got {
            Got::Answer(answer, _) => Some(*answer),
            Got::Compared { .. } => None,
        };
        match answers.split_first() {
            Some((first, rest)) if rest.iter().all(|got| plain(got) == plain(first)) => first.clone(),
            _ => Got::truth("the same answer from all calls", answers, false),
        }
    }
}

impl<T: Into<u64>> From<sys::Result<T>> for Got {
    fn from(result: sys::Result<T>) -> Self {
        match result {
            Ok(value) => Got::Answer(Ok(value.into()), None),
            Err(error) => Got::Answer(Err(error.errno()), error.rule()),
        }
    }
}

/// What the system did: an answer, or what was seen.
impl fmt::Display for Got {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Got::Answer(Ok(value), _) => write!(f, "ret={value}"),
            Got::Answer(Err(errno), _) => write!(f, "errno={errno:?}"),
            Got::Compared { got, .. } => f.write_str(got),
        }
    }
}

/// Why a case ended before it got anything.
#[derive(Debug)]
pub enum Stop {
    /// The row cannot be asked of this system; the reason.
    NotApplicable(String),
    /// Something that had to work on the way did not.
    Broken(String),
}

impl From<sys::Error> for Stop {
    fn from(error: sys::Error) -> Self {
        match error.rule() {
            Some(rule) if rule.is_not_built() => Stop::NotApplicable(rule.sentence.to_owned()),
            _ => Stop::Broken(error.to_string()),
        }
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Stop::Broken(error.to_string())
    }
}

impl From<rustix::io::Errno> for Stop {
    fn from(error: rustix::io::Errno) -> Self {
        Stop::Broken(error.to_string())
    }
}

/// What a step on the way to a row's state answers.
pub(crate) type Way<T> = Result<T, Stop>;

/// What a case answers.
pub type Outcome = Result<Got, Stop>;

/// How a case stands to its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As the row says.
    Pass,
    /// Not as the row says.
    Fail {
        /// What the row expects.
        expected: String,
        /// What the system did.
        got: String,
    },
    /// Cannot be asked here; the reason.
    NotApplicable(String),
}

impl Verdict {
    /// Holds what a case got against its row.
    #[must_use]
    pub fn of(row: &Row, outcome: &Outcome) -> Verdict {
        let fail = |got: String| Verdict::Fail { expected: row.expect.to_owned(), got };
        match outcome {
            Err(Stop::NotApplicable(reason)) => Verdict::NotApplicable(reason.clone()),
            Err(Stop::Broken(what)) => fail(format!("the way there failed: {what}")),
            // Not even where the errno happens to be the one that is expected.
            Ok(Got::Answer(_, Some(rule))) if rule.is_not_built() => {
                Verdict::NotApplicable(rule.sentence.to_owned())
            }
            Ok(Got::Compared { equal: true, .. }) => Verdict::Pass,
            Ok(Got::Compared { expected, got, .. }) => {
                Verdict::Fail { expected: format!("{} (here: {expected})", row.expect), got: got.clone() }
            }
            Ok(got @ Got::Answer(answer, _)) => {
                let right = match (row.expectation(), answer) {
                    (Expect::Errno(errnos), Err(errno)) => errnos.contains(errno),
                    (Expect::Answer(expected), Ok(value)) => expected == *value,
                    (Expect::Success, Ok(_)) => true,
                    _ => false,
                };
                if right { Verdict::Pass } else { fail(got.to_string()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::rows;

    fn row(id: &str) -> Row {
        rows().into_iter().find(|row| row.id == id).expect("the row exists")
    }

    #[test]
    fn the_row_alone_says_what_is_expected() {
        let too_small = row("B-048");
        assert_eq!(Verdict::of(&too_small, &Ok(Got::Answer(Err(Errno::EINVAL), None))), Verdict::Pass);
        for wrong in [Ok(0), Err(Errno::EFAULT)] {
            let verdict = Verdict::of(&too_small, &Ok(Got::Answer(wrong, None)));
            assert!(matches!(verdict, Verdict::Fail { .. }));
        }
    }

    #[test]
    fn an_answer_does_not_hide_what_the_row_says_besides() {
        let answer = || Got::Answer(Err(Errno::EINVAL), None);
        let row = row("B-048");
        assert_eq!(Verdict::of(&row, &Ok(answer().provided(Got::equal(1, 1)))), Verdict::Pass);
        let verdict = Verdict::of(&row, &Ok(answer().provided(Got::equal(1, 2))));
        assert!(matches!(verdict, Verdict::Fail { .. }));
    }

    #[test]
    fn calls_that_answer_differently_are_not_alike() {
        let refused = |errno| Err::<u32, _>(sys::Error::new("ioctl", "x", errno));
        let verdict = |calls: [sys::Result<u32>; 2]| Verdict::of(&row("B-048"), &Ok(Got::alike(calls)));
        assert_eq!(verdict([refused(Errno::EINVAL), refused(Errno::EINVAL)]), Verdict::Pass);
        assert!(matches!(verdict([refused(Errno::EINVAL), Ok(0)]), Verdict::Fail { .. }));
    }

    #[test]
    fn what_fails_on_the_way_is_no_pass() {
        let verdict = Verdict::of(&row("B-048"), &Err(Stop::Broken("open".into())));
        assert!(matches!(verdict, Verdict::Fail { .. }));
    }

    #[test]
    fn what_is_not_built_cannot_be_asked() {
        let rule = Rule { name: "group.not-built", sentence: "opening group nodes is not built yet" };
        let refused = || sys::Error::new("open", "/dev/vfio/noiommu-0", Errno::EINVAL).with_rule(rule);
        let not_asked = Verdict::NotApplicable(rule.sentence.to_owned());
        for outcome in [Ok(Got::from(Err::<u32, _>(refused()))), Err(Stop::from(refused()))] {
            assert_eq!(Verdict::of(&row("B-048"), &outcome), not_asked);
        }
    }

    #[test]
    fn a_value_row_is_not_answered_by_a_mere_success() {
        let verdict = Verdict::of(&row("B-058"), &Ok(Got::Answer(Ok(1), None)));
        assert!(matches!(verdict, Verdict::Fail { .. }));
    }
}
