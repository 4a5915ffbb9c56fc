//! The containers against models, and against a host that refuses memory.

use std::{collections::BTreeMap, vec::Vec};

use proptest::prelude::*;

use super::{
    IdError, IdMap, IntervalMap, Key, List, OutOfMemory, Slab,
    testing::{Always, Budget},
};

/// What a step of a random test does.
#[derive(Clone, Debug)]
enum Action {
    Insert,
    Remove(usize),
    RemoveAll,
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        600 => Just(Action::Insert),
        400 => any::<usize>().prop_map(Action::Remove),
        1 => Just(Action::RemoveAll),
    ];
    prop::collection::vec(action, 1..3000)
}

/// The position that a random number stands for.
fn pick(at: usize, len: usize) -> usize {
    at.checked_rem(len).unwrap_or(0)
}

/// Fills a container with a growing number of permitted allocations; whatever is refused must have changed nothing.
fn fill_with_refusals<C>(
    mut container: C,
    insert: impl Fn(&mut C, &Budget) -> bool,
    len: impl Fn(&C) -> usize,
) -> usize {
    let mut refused = 0;
    for expected in 0..3000 {
        let allocations = (0..).find(|&allocations| {
            assert_eq!(len(&container), expected, "a refusal leaves the container as it was");
            insert(&mut container, &Budget::new(allocations))
        });
        refused += allocations.unwrap();
        assert_eq!(len(&container), expected + 1);
    }
    refused
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_slab_finds_what_was_not_removed(actions in actions()) {
        let mut slab = Slab::new();
        let mut live: Vec<(Key<usize>, usize)> = Vec::new();
        let mut stale: Vec<Key<usize>> = Vec::new();
        for (value, action) in actions.iter().enumerate() {
            let doomed = match *action {
                Action::Insert => {
                    live.push((slab.insert(&Always, value).unwrap(), value));
                    0..0
                }
                Action::Remove(at) => {
                    let at = pick(at, live.len());
                    at..live.len().min(at + 1)
                }
                Action::RemoveAll => 0..live.len(),
            };
            for (key, value) in live.drain(doomed) {
                prop_assert_eq!(slab.remove(key), Some(value));
                stale.push(key);
            }
            prop_assert_eq!(slab.len(), live.len());
        }
        for &(key, value) in &live {
            prop_assert_eq!((slab.get(key), slab.key_at(key.index())), (Some(&value), Some(key)));
            *slab.get_mut(key).unwrap() += 1;
        }
        for key in stale {
            prop_assert_eq!((slab.get(key), slab.key_at(key.index()) == Some(key)), (None, false));
            prop_assert_eq!(slab.get_mut(key), None);
            prop_assert_eq!(slab.remove(key), None);
        }
        let mut expected: Vec<_> = live.iter().map(|&(key, value)| (key.index(), value + 1)).collect();
        expected.sort_unstable();
        prop_assert!(slab.iter().map(|(key, &value)| (key.index(), value)).eq(expected.iter().copied()));
        prop_assert!(slab.iter_mut().map(|(key, value)| (key.index(), *value)).eq(expected));
    }

    #[test]
    fn an_id_map_gives_out_the_lowest_number(actions in actions(), base in 0..3_u32, room in 1..900_u32) {
        let last = base + room - 1;
        let (mut map, mut model) = (IdMap::new(base, last), BTreeMap::new());
        for (value, action) in actions.iter().enumerate() {
            let lowest = (base..=last).find(|id| !model.contains_key(id));
            prop_assert_eq!(map.lowest_free(), lowest);
            let doomed: Vec<u32> = match *action {
                Action::Insert => {
                    prop_assert_eq!(map.insert(&Always, value), lowest.ok_or(IdError::Exhausted));
                    model.extend(lowest.map(|id| (id, value)));
                    continue;
                }
                Action::Remove(at) => model.keys().copied().skip(pick(at, model.len())).take(1).collect(),
                Action::RemoveAll => model.keys().copied().collect(),
            };
            for id in doomed {
                prop_assert_eq!(map.remove(id), model.remove(&id));
                prop_assert_eq!(map.get(id), None);
                prop_assert_eq!(map.get_mut(id), None);
                prop_assert_eq!(map.remove(id), None);
            }
        }
        prop_assert_eq!(map.len(), model.len());
        prop_assert!(map.iter().eq(model.iter().map(|(&id, value)| (id, value))));
    }

    #[test]
    fn a_list_behaves_as_a_vec(actions in actions()) {
        let (mut list, mut model) = (List::new(), Vec::new());
        for (value, action) in actions.iter().enumerate() {
            match *action {
                Action::Insert => {
                    list.push(&Always, value).unwrap();
                    model.push(value);
                }
                Action::Remove(at) if at % 2 == 0 => prop_assert_eq!(list.pop(), model.pop()),
                Action::Remove(at) => {
                    let at = at % (model.len() + 1);
                    let removed = (at < model.len()).then(|| model.remove(at));
                    prop_assert_eq!(list.remove(at), removed);
                }
                Action::RemoveAll => {
                    list.clear();
                    model.clear();
                    prop_assert_eq!(list.memory(), 0);
                }
            }
            prop_assert_eq!((list.len(), list.get(value / 2)), (model.len(), model.get(value / 2)));
        }
        prop_assert!(list.iter().eq(&model));
        prop_assert!(list.iter_mut().map(|value| *value).eq(model));
    }
}

#[test]
fn every_allocation_may_be_refused() {
    let slab = fill_with_refusals(Slab::new(), |slab, budget| slab.insert(budget, 7).is_ok(), Slab::len);
    let ids =
        fill_with_refusals(IdMap::new(1, 9000), |map, budget| map.insert(budget, 7).is_ok(), IdMap::len);
    let list = fill_with_refusals(List::new(), |list, budget| list.push(budget, 7).is_ok(), List::len);
    let insert = |map: &mut IntervalMap<u32>, budget: &Budget| {
        // Multiplied by an odd number, the low bits run through all values in no order.
        let first = (map.len() as u64).wrapping_mul(2_654_435_761) % 4096 * 16;
        let reserved = map.reserve(budget);
        reserved.is_ok() && map.insert(first, first + 7, 1).is_ok()
    };
    let intervals = fill_with_refusals(IntervalMap::new(), insert, IntervalMap::len);
    assert!(
        [slab, ids, list, intervals].iter().all(|&refused| refused > 5),
        "memory was asked for all along"
    );
}

#[test]
fn a_reservation_outlives_removals() {
    for removed in 0..700 {
        let mut slab = Slab::new();
        let keys: Vec<_> = (0..640).map(|value| slab.insert(&Always, value).unwrap()).collect();
        slab.reserve(&Always).unwrap();
        keys.iter().rev().take(removed).for_each(|&key| assert!(slab.remove(key).is_some()));
        let key = slab.insert(&Budget::new(0), 1000).unwrap();
        assert_eq!(slab.get(key), Some(&1000));
    }
}

#[test]
fn an_emptied_container_gives_its_memory_back() {
    let mut slab = Slab::new();
    let keys: Vec<_> = (0..100_000_u64).map(|value| slab.insert(&Always, [value; 5]).unwrap()).collect();
    let full = slab.memory();
    assert!(full < 100_000 * 52, "a slab takes little more than its values");
    for &key in keys.iter().step_by(2).chain(keys.iter().skip(1).step_by(2)) {
        slab.remove(key).unwrap();
    }
    assert!(slab.memory() < full / 50, "a directory and one chunk are left");

    let mut map = IntervalMap::new();
    for first in 0..100_000_u64 {
        map.reserve(&Always).unwrap();
        map.insert(first * 16, first * 16 + 7, [first; 3]).unwrap();
    }
    let full = map.memory();
    assert!(full < 100_000 * 42, "who inserts in ascending order gets full leaves");
    for first in 0..100_000_u64 {
        map.remove(first * 16).unwrap();
    }
    assert!(map.memory() < full / 50, "two directories and one chunk of each kind are left");
}

#[test]
fn a_list_without_room_takes_nothing() {
    assert_eq!(List::new().push(&Budget::new(0), 1), Err(OutOfMemory));
    assert_eq!(List::<u8>::new().pop(), None);
}
