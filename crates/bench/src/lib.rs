//! What the benches have in common: each compares two things within one run, and a table of ratios comes at the end.
//!
//! Criterion measures, but ratios in place of times: what one side took, divided by what the other took. The sides take
//! turns, so that whatever else the computer is doing meets both alike. Times are never held against an aim, since they
//! are another computer's tomorrow; what does not depend on time is, and makes a bench fail.
//!
//! `--quick` asks for small sizes and fewer samples. Without `--bench`, which `cargo bench` passes and `cargo test` does
//! not, everything is done once, to see that it runs.
#![forbid(unsafe_code)]

mod ratio;

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use criterion::Criterion;

use ratio::Ratio;

/// How long something takes.
pub fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// A run of comparisons.
pub struct Comparisons {
    criterion: Criterion<Ratio>,
    /// The lines of the table.
    lines: Vec<String>,
    /// Whether a fact missed its aim.
    missed: bool,
}

impl Default for Comparisons {
    fn default() -> Self {
        Self::new()
    }
}

impl Comparisons {
    /// A run as the command line asks for it: criterion's options, such as a name to choose by, are understood.
    #[must_use]
    pub fn new() -> Self {
        let criterion = Criterion::default()
            .with_measurement(Ratio)
            .without_plots()
            .sample_size(20)
            .nresamples(5_000)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(if is_quick() { 1 } else { 3 }))
            .configure_from_args();
        Comparisons { criterion, lines: Vec::new(), missed: false }
    }

    /// `full`, or `quick` where that is enough.
    #[must_use]
    pub fn size<T>(&self, full: T, quick: T) -> T {
        if is_quick() { quick } else { full }
    }

    /// Compares what a round of so many `operations` takes here and there. `aim` is the largest ratio that is wanted.
    pub fn compare(
        &mut self,
        name: &str,
        operations: u32,
        aim: Option<f64>,
        mut here: impl FnMut() -> Duration,
        mut there: impl FnMut() -> Duration,
    ) {
        let mut rounds = 0;
        let mut total = [Duration::ZERO; 2];
        self.criterion.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let mut taken = [Duration::ZERO; 2];
                for _ in 0..iterations {
                    taken[0] += here();
                    taken[1] += there();
                }
                rounds += iterations;
                total = [total[0] + taken[0], total[1] + taken[1]];
                iterations as f64 * taken[0].div_duration_f64(taken[1])
            });
        });
        if rounds > 0 {
            let each = |total: Duration| total.as_secs_f64() * 1e9 / (rounds as f64 * f64::from(operations));
            let [here, there] = total.map(each);
            self.lines.push(format!(
                "{name:<58} {here:>9.1} {there:>9.1} {:>7.2}{}",
                here / there,
                words(aim)
            ));
        }
    }

    /// Something that is the same in each run. The bench fails where it is more than its aim.
    pub fn fact(&mut self, name: &str, value: f64, aim: f64) {
        self.missed |= value > aim;
        self.lines.push(format!("{name:<58} {value:>27.2}{}", words(Some(aim))));
    }

    /// Prints the table.
    #[must_use]
    pub fn finish(self) -> ExitCode {
        println!("\n{:<58} {:>9} {:>9} {:>7}", "nanoseconds per operation, a / b", "a", "b", "a / b");
        self.lines.iter().for_each(|line| println!("{line}"));
        if self.missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

fn is_quick() -> bool {
    let has = |name| env::args().any(|argument| argument == name);
    has("--quick") || !has("--bench")
}

fn words(aim: Option<f64>) -> String {
    aim.map_or_else(String::new, |aim| format!("  at most {aim}"))
}
