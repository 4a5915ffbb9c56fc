//! Medians, as people and programs read them.

use std::time::Duration;

use clap::ValueEnum;
use ioasis::Mode;
use serde_json::{Value, json};

use crate::arguments::Measured;
use crate::output;

/// What was measured on one system.
pub(super) struct Table {
    /// How the device was reached, where there was one.
    pub(super) mode: Option<Mode>,
    pub(super) lines: Vec<Line>,
}

/// One measurement.
pub(super) struct Line {
    /// What was measured, such as a size.
    pub(super) name: String,
    /// How long each sample took, or why there is none.
    pub(super) samples: Result<Vec<Duration>, String>,
}

impl Table {
    pub(super) fn text(&self, system: &str, what: Measured) -> String {
        let mut rows = output::table();
        rows.set_header([&name(what), "median", "samples"]);
        for Line { name, samples } in &self.lines {
            match samples {
                Ok(samples) => rows.add_row([
                    name.clone(),
                    format!("{:.2?}", median(samples)),
                    samples.len().to_string(),
                ]),
                Err(reason) => rows.add_row([name.clone(), "-".to_owned(), format!("none: {reason}")]),
            };
        }
        let mode = self.mode.map(|mode| format!(", {mode}")).unwrap_or_default();
        format!("{system}{mode}\n\n{}\n", rows.trim_fmt())
    }

    pub(super) fn json(&self, system: &str, what: Measured) -> Value {
        let line = |Line { name, samples }: &Line| {
            let taken = samples.as_ref().ok();
            json!({
                "what": name,
                "median_ns": taken.map(|samples| median(samples).as_nanos() as u64),
                "samples": taken.map_or(0, Vec::len),
                "reason": samples.as_ref().err(),
            })
        };
        json!({
            "system": system,
            "mode": self.mode.map(Mode::name),
            "bench": name(what),
            "results": self.lines.iter().map(line).collect::<Vec<_>>(),
        })
    }
}

/// The name on the command line.
pub(super) fn name(what: impl ValueEnum) -> String {
    what.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// The middle one, or the upper of the two in the middle; zero of none.
pub(super) fn median(samples: &[Duration]) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let samples = [9, 1, 5].map(Duration::from_nanos);
        assert_eq!(median(&samples), Duration::from_nanos(5));
        assert_eq!(median(&[]), Duration::ZERO);
    }
}
