//! The map against `BTreeMap` and a plain scan, with random steps.

use proptest::prelude::*;
use std::{collections::BTreeMap, vec::Vec};

use super::{Entry, IntervalMap, Overlap};
use crate::mem::testing::Always;

type Model = BTreeMap<u64, (u64, u32)>;

fn entry((&first, &(last, value)): (&u64, &(u64, u32))) -> Entry<u32> {
    Entry { first, last, value }
}

fn insert(map: &mut IntervalMap<u32>, first: u64, last: u64, value: u32) -> Result<(), Overlap> {
    map.reserve(&Always).unwrap();
    map.insert(first, last, value)
}

/// The same as [`IntervalMap::hole`], by looking at everything.
fn scan_for_hole(model: &Model, from: u64, to: u64, length: u64) -> Option<(u64, u64)> {
    let mut start = Some(from);
    let ends = model.iter().map(|(&first, &(last, _))| (first, Some(last))).chain([(u64::MAX, None)]);
    for (first, last) in ends {
        let hole_start = start?;
        let end = if last.is_none() { to } else { to.min(first.saturating_sub(1)) };
        let ends_before = last.is_some() && first == 0;
        if !ends_before && hole_start <= end && end - hole_start >= length.max(1) - 1 {
            return Some((hole_start, end));
        }
        if let Some(last) = last.filter(|&last| last >= hole_start) {
            start = last.checked_add(1);
        }
    }
    None
}

fn compare_at(map: &mut IntervalMap<u32>, model: &Model, at: u64) {
    let floor = model.range(..=at).next_back().map(entry);
    let containing = floor.filter(|entry| entry.last >= at);
    let next = model.range(at..).next().map(entry);
    let before = model.iter().map(entry).take_while(|entry| entry.last < at).last();
    assert_eq!(map.get(at), containing);
    assert_eq!(map.get_mut(at).copied(), containing.map(|entry| entry.value));
    assert_eq!(map.at_or_after(at), containing.or(next));
    assert_eq!(map.before(at), before);
}

#[derive(Clone, Debug)]
enum Action {
    Insert(u64, u64),
    Append(u64, u64),
    Remove(usize),
    RemoveAround(usize, usize),
    Shorten(u64, u64),
    Hole(u64, u64, u64),
    Look(u64),
}

/// Numbers that meet each other often, at both ends of the range as well.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..20_000_u64, 1 => 0..4_u64, 1 => u64::MAX - 40..=u64::MAX]
}

fn action() -> impl Strategy<Value = Action> {
    let width = || prop_oneof![4 => 0..4_u64, 1 => 0..400_u64];
    prop_oneof![
        12 => (number(), width()).prop_map(|(first, width)| Action::Insert(first, width)),
        4 => (width(), width()).prop_map(|(gap, width)| Action::Append(gap, width)),
        4 => any::<usize>().prop_map(Action::Remove),
        1 => (any::<usize>(), 1..120_usize).prop_map(|(at, count)| Action::RemoveAround(at, count)),
        2 => (number(), number()).prop_map(|(at, last)| Action::Shorten(at, last)),
        3 => (number(), number(), width()).prop_map(|(a, b, length)| Action::Hole(a.min(b), a.max(b), length)),
        3 => number().prop_map(Action::Look),
    ]
}

fn step(map: &mut IntervalMap<u32>, model: &mut Model, action: &Action, value: u32) {
    match *action {
        Action::Insert(first, width) => add(map, model, first, first.saturating_add(width), value),
        Action::Append(gap, width) => {
            let end = model.range(..u64::MAX - 1000).next_back().map_or(0, |(_, &(last, _))| last);
            let first = end.saturating_add(1).saturating_add(gap);
            add(map, model, first, first.saturating_add(width), value);
        }
        Action::Remove(at) => take(map, model, at, 1),
        Action::RemoveAround(at, count) => take(map, model, at, count),
        Action::Shorten(at, last) => {
            let first = map.at_or_after(at).map_or(at, |entry| entry.first);
            // Mostly a number of the entry: only the lowest bits of `last` are of use for that.
            let last = if last % 4 == 0 { last } else { first.saturating_add(last % 8) };
            let shortened = model.get_mut(&first).filter(|(end, _)| (first..*end).contains(&last));
            assert_eq!(map.set_last(first, last), shortened.is_some());
            shortened.into_iter().for_each(|(end, _)| *end = last);
        }
        Action::Hole(from, to, length) => {
            assert_eq!(map.hole(from, to, length), scan_for_hole(model, from, to, length));
        }
        Action::Look(at) => {
            compare_at(map, model, at);
            assert_eq!(map.remove(at).is_some(), model.remove(&at).is_some());
        }
    }
}

fn add(map: &mut IntervalMap<u32>, model: &mut Model, first: u64, last: u64, value: u32) {
    let overlaps = model.range(..=last).next_back().is_some_and(|(_, &(end, _))| end >= first);
    assert_eq!(map.overlaps(first, last), overlaps);
    assert_eq!(insert(map, first, last, value).is_err(), overlaps);
    if !overlaps {
        model.insert(first, (last, value));
    }
}

fn take(map: &mut IntervalMap<u32>, model: &mut Model, at: usize, count: usize) {
    let start = at % model.len().max(1);
    let firsts: Vec<u64> = model.keys().copied().skip(start).take(count).collect();
    for first in firsts {
        let (last, value) = model.remove(&first).unwrap();
        assert_eq!(map.remove(first), Some(Entry { first, last, value }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_a_btree_map(actions in prop::collection::vec(action(), 1..2500), start in 0..24_000_u64) {
        let (mut map, mut model) = (IntervalMap::new(), Model::new());
        for (value, action) in (0_u32..).zip(&actions) {
            step(&mut map, &mut model, action, value);
            map.tree.check();
            assert_eq!(map.len(), model.len());
        }
        assert!(map.iter().eq(model.iter().map(entry)));
        assert!(map.iter_from(start).eq(model.iter().map(entry).filter(|entry| entry.last >= start)));
        while !model.is_empty() {
            take(&mut map, &mut model, actions.len() * 7919, 3);
            map.tree.check();
        }
        assert_eq!(map.iter().next(), None);
    }
}

#[test]
fn both_ends_of_the_numbers_are_like_all_others() {
    let mut map = IntervalMap::new();
    assert_eq!(map.hole(0, u64::MAX, u64::MAX), Some((0, u64::MAX)));
    assert_eq!(insert(&mut map, 0, u64::MAX, 1), Ok(()));
    assert_eq!(map.hole(0, u64::MAX, 1), None);
    assert_eq!(insert(&mut map, 7, 7, 2), Err(Overlap));
    assert_eq!(map.get(u64::MAX).map(|entry| entry.value), Some(1));
    assert_eq!(map.before(u64::MAX), None);
    assert_eq!(map.remove(0).map(|entry| entry.last), Some(u64::MAX));
    assert_eq!(insert(&mut map, u64::MAX, u64::MAX, 3), Ok(()));
    assert_eq!(insert(&mut map, 0, 0, 4), Ok(()));
    assert_eq!(map.hole(0, u64::MAX, 5), Some((1, u64::MAX - 1)));
    assert_eq!(map.hole(9, 12, 5), None);
    assert_eq!(map.hole(9, 13, 5), Some((9, 13)));
    assert_eq!(map.at_or_after(1).map(|entry| entry.value), Some(3));
    map.tree.check();
}

#[test]
fn an_interval_that_ends_before_it_begins_is_refused() {
    assert_eq!(insert(&mut IntervalMap::new(), 8, 7, 1), Err(Overlap));
}

#[test]
fn the_only_wide_hole_of_many_is_found() {
    let mut map = IntervalMap::new();
    for index in 0..50_000_u64 {
        let first = index * 16 + if index > 31_234 { 100 } else { 0 };
        insert(&mut map, first, first + 7, 0).unwrap();
    }
    let wide = (31_234 * 16 + 8, 31_235 * 16 + 99);
    assert_eq!(map.hole(0, u64::MAX, 9), Some(wide));
    assert_eq!(map.hole(0, wide.1 - 99, 9), Some((wide.0, wide.1 - 99)));
    assert_eq!(map.hole(0, wide.0 + 7, 9), None);
}

#[test]
fn a_tree_of_many_levels_stays_in_order() {
    let mut map = IntervalMap::new();
    let count = 60_000_u64;
    // Steps of a number that shares no factor with the count come to all in no order.
    let order = || (0..count).map(|step| step * 7_919 % count * 10);
    for (step, first) in order().enumerate() {
        insert(&mut map, first, first + 4, 0).unwrap();
        if step % 5_000 == 0 {
            map.tree.check();
        }
    }
    assert!(map.iter().map(|entry| entry.first).eq((0..count).map(|index| index * 10)));
    for (step, first) in order().enumerate() {
        assert!(map.remove(first).is_some());
        if step % 5_000 == 0 {
            map.tree.check();
        }
    }
    assert!(map.is_empty());
    map.tree.check();
}
