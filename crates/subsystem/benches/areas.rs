//! `IntervalMap` against `std::collections::BTreeMap` with equal entries, and the bytes that an area takes:
//! `cargo bench -p ioasis-subsystem --bench areas [-- --quick]`.
//!
//! An entry is as large as what an IOAS keeps of a mapping: first and last address, and 16 bytes. Both maps are filled
//! with as many areas, in the same random order; then they take turns. A round is a thousand areas that lie anywhere:
//! they are looked up, or a thousand are inserted and a thousand others removed. Those come back after many rounds, when
//! no cache remembers them; a map of a thousand areas is filled and emptied in each.

use std::array;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use bench::{Comparisons, timed};
use subsystem::Alloc;
use subsystem::mem::{IdMap, IntervalMap};

/// As large as what iommufd keeps of an area.
type Value = [u64; 2];

/// As large as what iommufd keeps of the memory that a MAP call named.
#[derive(Default)]
struct Record {
    _numbers: [u64; 5],
    _flag: bool,
}

/// Areas of one page, in every fourth page.
const STRIDE: u64 = 0x4000;
const LENGTH: u64 = 0x1000;
/// Areas in a round.
const BATCH: usize = 1_000;

/// Permits everything.
struct Always;

impl Alloc for Always {
    fn permit(&self) -> bool {
        true
    }
}

/// A map of areas, by their first address.
trait Areas: Default {
    fn insert(&mut self, key: u64);
    /// Finds the area that has its middle here.
    fn find(&self, middle: u64);
    fn remove(&mut self, key: u64);
}

type Ours = IntervalMap<Value>;

impl Areas for Ours {
    fn insert(&mut self, key: u64) {
        self.reserve(&Always).expect("there is memory");
        self.insert(key, key + LENGTH - 1, [key; 2]).expect("the areas are disjoint");
    }

    fn find(&self, middle: u64) {
        black_box(self.get(middle).expect("the area is there"));
    }

    fn remove(&mut self, key: u64) {
        black_box(self.remove(key).expect("the area is there"));
    }
}

type Std = BTreeMap<u64, (u64, Value)>;

/// It is not asked whether areas overlap.
impl Areas for Std {
    fn insert(&mut self, key: u64) {
        self.insert(key, (key + LENGTH - 1, [key; 2]));
    }

    fn find(&self, middle: u64) {
        let area = self.range(..=middle).next_back();
        black_box(area.filter(|(_, (last, _))| *last >= middle).expect("the area is there"));
    }

    fn remove(&mut self, key: u64) {
        black_box(self.remove(&key).expect("the area is there"));
    }
}

/// Random numbers (xorshift), the same in each run.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn shuffle(&mut self, keys: &mut [u64]) {
        for index in (1..keys.len()).rev() {
            keys.swap(index, (self.next() % (index as u64 + 1)) as usize);
        }
    }
}

/// The areas in random order, batch after batch, round and round.
#[derive(Clone)]
struct Keys {
    keys: Vec<u64>,
    random: Random,
}

impl Keys {
    fn new(count: usize) -> Self {
        let mut keys: Vec<u64> = (0..count as u64).map(|index| index * STRIDE).collect();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        random.shuffle(&mut keys);
        Self { keys, random }
    }

    /// A batch, in another order each time.
    fn batch(&mut self, number: usize) -> &[u64] {
        let start = number * BATCH % self.keys.len();
        let batch = &mut self.keys[start..start + BATCH];
        self.random.shuffle(batch);
        batch
    }
}

/// A map and what is done to it.
struct Side<M> {
    map: M,
    keys: Keys,
    /// The batch whose turn it is.
    next: usize,
    /// How many batches, from that one on, are not in the map.
    out: usize,
}

impl<M: Areas> Side<M> {
    fn filled(keys: &Keys) -> Self {
        let mut map = M::default();
        keys.keys.iter().for_each(|&key| map.insert(key));
        Self { map, keys: keys.clone(), next: 0, out: 0 }
    }

    /// Takes a tenth of the batches out.
    fn make_room(&mut self) {
        self.out = (self.keys.keys.len() / BATCH / 10).max(1);
        for number in self.next..self.next + self.out {
            self.keys.batch(number).iter().for_each(|&key| self.map.remove(key));
        }
    }

    fn find(&mut self) -> Duration {
        let batch = self.keys.batch(self.next);
        self.next += 1;
        timed(|| batch.iter().for_each(|&key| self.map.find(key + LENGTH / 2)))
    }

    /// Inserts a batch and removes another one, as many as there are then; how long either took.
    fn replace(&mut self) -> [Duration; 2] {
        let batch = self.keys.batch(self.next);
        let inserted = timed(|| batch.iter().for_each(|&key| self.map.insert(key)));
        let batch = self.keys.batch(self.next + self.out);
        let removed = timed(|| batch.iter().for_each(|&key| self.map.remove(key)));
        self.next += 1;
        [inserted, removed]
    }
}

/// Bytes per record of `count`.
fn record_bytes(count: usize) -> f64 {
    let mut records = IdMap::new(0, u32::MAX);
    for _ in 0..count {
        records.insert(&Always, Record::default()).expect("there is memory");
    }
    records.memory() as f64 / count as f64
}

fn measure(comparisons: &mut Comparisons, count: usize) {
    let keys = Keys::new(count);
    let (mut ours, mut std) = (Side::<Ours>::filled(&keys), Side::<Std>::filled(&keys));
    let bytes = ours.map.memory() as f64 / count as f64 + record_bytes(count);
    let mut compare = |operation, here: &mut dyn FnMut() -> Duration, there: &mut dyn FnMut() -> Duration| {
        let name = format!("{operation} among {count} areas: ours / std's");
        comparisons.compare(&name, BATCH as u32, Some(1.0), here, there);
    };
    compare("look-up", &mut || ours.find(), &mut || std.find());
    ours.make_room();
    std.make_room();
    let [insert, remove] = array::from_fn(|at| at);
    compare("insert", &mut || ours.replace()[insert], &mut || std.replace()[insert]);
    compare("remove", &mut || ours.replace()[remove], &mut || std.replace()[remove]);
    comparisons.fact(&format!("bytes per area, its record with it, of {count}"), bytes, 96.0);
}

fn main() -> ExitCode {
    let mut comparisons = Comparisons::new();
    let sizes: &[usize] = comparisons.size(&[1_000, 1_000_000, 10_000_000], &[1_000, 100_000]);
    sizes.iter().for_each(|&count| measure(&mut comparisons, count));
    comparisons.finish()
}
