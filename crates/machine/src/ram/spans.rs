//! Disjoint spans of frames, each with a value; neighbours with equal values are one span.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::Range;

/// A map from frames to values, kept by span: what it costs follows from the number of spans, never from their length.
#[derive(Debug)]
pub(crate) struct Spans<V> {
    /// First frame to end and value.
    by_start: BTreeMap<u64, (u64, V)>,
}

impl<V: Copy + PartialEq> Spans<V> {
    /// No frame has a value.
    pub(crate) const fn new() -> Self {
        Spans { by_start: BTreeMap::new() }
    }

    /// The span around a frame.
    pub(crate) fn get(&self, frame: u64) -> Option<(Range<u64>, V)> {
        let (&start, &(end, value)) = self.by_start.range(..=frame).next_back()?;
        (frame < end).then_some((start..end, value))
    }

    /// Gives every frame of `range` a new value, which `change` makes of the old one; it is asked once per piece.
    pub(crate) fn update(
        &mut self,
        range: Range<u64>,
        mut change: impl FnMut(Range<u64>, Option<V>) -> Option<V>,
    ) {
        if range.is_empty() {
            return;
        }
        self.split(range.start);
        self.split(range.end);
        let mut at = range.start;
        while at < range.end {
            let (next, end, old) = match self.by_start.range(at..range.end).next() {
                Some((&start, &(end, value))) if start == at => (end, end, Some(value)),
                Some((&start, _)) => (start, start, None),
                None => (range.end, range.end, None),
            };
            match change(at..end, old) {
                Some(value) => self.by_start.insert(at, (end, value)),
                None => self.by_start.remove(&at),
            };
            at = next;
        }
        self.join(range);
    }

    /// Makes `at` a border if it lies within a span.
    fn split(&mut self, at: u64) {
        if let Some((span, value)) = self.get(at)
            && span.start < at
        {
            self.by_start.insert(span.start, (at, value));
            self.by_start.insert(at, (span.end, value));
        }
    }

    /// Joins equal neighbours from the span before `range` to the span behind it.
    fn join(&mut self, range: Range<u64>) {
        let before = self.by_start.range(..range.start).next_back().map(|(&start, _)| start);
        let mut at = before.unwrap_or(range.start);
        while at <= range.end {
            let Some((&start, &(end, value))) = self.by_start.range(at..=range.end).next() else { break };
            match self.by_start.get(&end) {
                Some(&(next_end, next)) if next == value => {
                    self.by_start.remove(&end);
                    self.by_start.insert(start, (next_end, value));
                    at = start;
                }
                _ => at = end,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Spans;

    proptest! {
        /// Counting up and down by span is counting by frame, and equal neighbours are joined.
        #[test]
        fn counts_as_an_array_does(steps in prop::collection::vec((0_u64..64, 0_u64..64, any::<bool>()), 1..60)) {
            let mut spans = Spans::new();
            let mut model = [0_u32; 64];
            for (a, b, up) in steps {
                let range = a.min(b)..a.max(b);
                let mut seen = range.start;
                spans.update(range.clone(), |piece, old: Option<u32>| {
                    assert_eq!(piece.start, seen);
                    seen = piece.end;
                    let old = old.unwrap_or(0);
                    let new = if up { old + 1 } else { old.saturating_sub(1) };
                    (new > 0).then_some(new)
                });
                prop_assert_eq!(seen, range.end);
                for count in &mut model[range.start as usize..range.end as usize] {
                    *count = if up { *count + 1 } else { count.saturating_sub(1) };
                }
                for frame in 0..64_u64 {
                    let value = model[frame as usize];
                    let first = (0..frame).rev().take_while(|&f| model[f as usize] == value).last().unwrap_or(frame);
                    let end = (frame..64).take_while(|&f| model[f as usize] == value).last().unwrap_or(frame) + 1;
                    prop_assert_eq!(spans.get(frame), (value > 0).then_some((first..end, value)));
                }
            }
        }
    }
}
