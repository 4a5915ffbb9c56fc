//! What a self-test prints: the Test Anything Protocol, as the kernel's harness speaks it.
//!
//! ```text
//! TAP version 13
//! 1..2
//! #  RUN           fixture.variant.test ...
//! # file.c:12:test:Expected 1 (1) == errno (22)
//! #          FAIL  fixture.variant.test
//! not ok 1 fixture.variant.test
//! ok 2 fixture.variant.other # SKIP there is no such device
//! # Totals: pass:0 fail:1 xfail:0 xpass:0 skip:1 error:0
//! ```

/// What a program has reported.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// How many tests it meant to make.
    pub(super) planned: usize,
    /// Why it makes none at all.
    pub(super) refusal: Option<String>,
    pub(super) tests: Vec<Test>,
    /// What it printed since the last result, the last lines of it.
    rest: Vec<String>,
}

/// A test that was made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) name: String,
    pub(super) outcome: Outcome,
    /// What was printed while it ran, the last lines of it.
    pub(super) notes: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    /// Not made, or not to be counted as passed, with the reason.
    Skipped(String),
}

/// How many lines are kept of what a test printed.
const NOTES: usize = 8;

impl Report {
    /// Reads the output of a program, both streams of it. What is no line of the protocol is taken as notes.
    pub(super) fn parse(output: &str) -> Self {
        let mut report = Report::default();
        output.lines().for_each(|line| report.line(line.trim_end()));
        report
    }

    fn line(&mut self, line: &str) {
        if let Some(plan) = line.strip_prefix("1..") {
            let (count, refusal) =
                plan.split_once(" # SKIP").map_or((plan, None), |(count, why)| (count, Some(why)));
            if let Ok(count) = count.trim().parse() {
                self.planned = count;
                self.refusal = refusal.map(|why| why.trim().to_string());
                return;
            }
        }
        let result = line.strip_prefix("ok ").map(|rest| (true, rest));
        let result = result.or_else(|| line.strip_prefix("not ok ").map(|rest| (false, rest)));
        if let Some((name, outcome)) = result.and_then(|(ok, rest)| outcome(ok, rest)) {
            let notes = std::mem::take(&mut self.rest);
            self.tests.push(Test { name, outcome, notes });
            return;
        }
        let line = line.trim_start_matches("# ").trim();
        if line.starts_with("RUN ") {
            self.rest.clear();
        } else if !line.is_empty() && line != "#" {
            self.rest.push(line.to_string());
            if self.rest.len() > NOTES {
                self.rest.remove(0);
            }
        }
    }

    pub(super) fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> usize {
        self.tests.iter().filter(|test| wanted(&test.outcome)).count()
    }

    pub(super) fn passed(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Passed)
    }

    /// Whether each planned test has a result.
    pub(super) fn is_whole(&self) -> bool {
        self.planned > 0 && self.tests.len() == self.planned
    }

    /// The last lines of a program that ended early.
    pub(super) fn last_words(&self) -> &[String] {
        &self.rest
    }
}

/// Name and outcome of a test, from what follows `ok` or `not ok`: number, name, and a directive behind a hash.
fn outcome(ok: bool, rest: &str) -> Option<(String, Outcome)> {
    let (number, rest) = rest.split_once(' ')?;
    number.parse::<usize>().ok()?;
    let (name, directive) = rest.split_once(" # ").unwrap_or((rest, ""));
    let directive = directive.trim();
    let outcome = match (ok, directive.split_once(' ').unwrap_or((directive, ""))) {
        (false, _) => Outcome::Failed,
        (true, ("SKIP", why)) => Outcome::Skipped(why.trim().to_string()),
        // A failure that was expected is no pass either.
        (true, ("XFAIL" | "XPASS", _)) => Outcome::Skipped(directive.to_string()),
        (true, _) => Outcome::Passed,
    };
    Some((name.trim().to_string(), outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
TAP version 13
1..5
# Starting 5 tests from 2 test cases.
#  RUN           cdev.bind ...
#            OK  cdev.bind
ok 1 cdev.bind
#  RUN           cdev.mode.reset ...
/src/iommu.c:444: Assertion Failure

  Expression: iommu->iommufd > 0
#
# reset: Test failed
#          FAIL  cdev.mode.reset
not ok 2 cdev.mode.reset
#  RUN           cdev.huge ...
#      SKIP      no huge pages
#            OK  cdev.huge
ok 3 cdev.huge # SKIP no huge pages
#  RUN           cdev.odd ...
ok 4 cdev.odd # XFAIL known
1..worse
not ok because of nothing
#  RUN           cdev.last ...
what it printed last
";

    #[test]
    fn results_come_with_what_was_printed_meanwhile() {
        let report = Report::parse(OUTPUT);
        let outcomes: Vec<(&str, &Outcome)> =
            report.tests.iter().map(|test| (test.name.as_str(), &test.outcome)).collect();
        let skipped = |why: &str| Outcome::Skipped(why.to_string());
        assert_eq!(
            outcomes,
            [
                ("cdev.bind", &Outcome::Passed),
                ("cdev.mode.reset", &Outcome::Failed),
                ("cdev.huge", &skipped("no huge pages")),
                ("cdev.odd", &skipped("XFAIL known")),
            ]
        );
        let notes = [
            "/src/iommu.c:444: Assertion Failure",
            "Expression: iommu->iommufd > 0",
            "reset: Test failed",
            "FAIL  cdev.mode.reset",
        ];
        assert_eq!(report.tests[1].notes, notes);
        assert_eq!((report.planned, report.passed(), report.is_whole()), (5, 1, false));
        assert_eq!(report.last_words(), ["what it printed last"]);
    }

    #[test]
    fn a_program_that_makes_no_test_says_why() {
        let report = Report::parse("1..0 # SKIP SR-IOV may not be supported by the PF: 0000:01:00.0\n");
        assert_eq!(report.refusal.as_deref(), Some("SR-IOV may not be supported by the PF: 0000:01:00.0"));
        assert!(!report.is_whole());
        assert!(!Report::parse("").is_whole(), "nor is nothing at all");
        assert!(Report::parse("1..1\nok 1 only.test\n").is_whole());
    }

    #[test]
    fn of_a_long_story_the_end_is_kept() {
        let story: String = (0..20).map(|line| format!("line {line}\n")).collect();
        let report = Report::parse(&format!("1..1\n#  RUN  a ...\n{story}not ok 1 a\n"));
        assert_eq!((report.tests[0].notes.len(), &*report.tests[0].notes[NOTES - 1]), (NOTES, "line 19"));
    }
}
