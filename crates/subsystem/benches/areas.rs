//! `IntervalMap` against `std::collections::BTreeMap` with equal entries, and the bytes that an area takes.
//!
//! An entry is as large as what an IOAS keeps of a mapping: first and last address, and 16 bytes. Keys come in random
//! order, another one for insertion, look-up and removal, and for each round. Ours and std's take turns; the fastest
//! round of each counts, so that whatever else runs on the machine distorts the ratios little. `--quick` is for CI.

use std::{
    array,
    collections::BTreeMap,
    env,
    error::Error,
    hint::black_box,
    time::{Duration, Instant},
};

use subsystem::{
    Alloc,
    mem::{IdMap, IntervalMap},
};

/// As large as what iommufd keeps of an area.
type Value = [u64; 2];

/// As large as what iommufd keeps of the memory that a MAP call named.
#[derive(Default)]
struct Record {
    _numbers: [u64; 5],
    _flag: bool,
}

type Std = BTreeMap<u64, (u64, Value)>;

/// Areas of one page, in every fourth page.
const STRIDE: u64 = 0x4000;
const LENGTH: u64 = 0x1000;

/// Permits everything.
struct Always;

impl Alloc for Always {
    fn permit(&self) -> bool {
        true
    }
}

/// Random numbers (xorshift), the same in each run.
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

/// The time of insertion, look-up and removal.
type Times = [Duration; 3];

fn timed(f: impl FnOnce()) -> Duration {
    let start = Instant::now();
    f();
    start.elapsed()
}

/// One round with ours; also the bytes held when it was full.
fn ours([insert, find, remove]: &[Vec<u64>; 3]) -> (Times, usize) {
    let mut map = IntervalMap::<Value>::new();
    let inserted = timed(|| {
        for &key in insert {
            map.reserve(&Always).expect("there is memory");
            map.insert(key, key + LENGTH - 1, [key; 2]).expect("the areas are disjoint");
        }
    });
    let memory = map.memory();
    let found = timed(|| {
        for &key in find {
            black_box(map.get(key + LENGTH / 2).expect("the area is there"));
        }
    });
    let removed = timed(|| {
        for &key in remove {
            black_box(map.remove(key).expect("the area is there"));
        }
    });
    ([inserted, found, removed], memory)
}

/// One round with std's. It is not asked whether areas overlap.
fn stds([insert, find, remove]: &[Vec<u64>; 3]) -> Times {
    let mut map = Std::new();
    let inserted = timed(|| {
        for &key in insert {
            map.insert(key, (key + LENGTH - 1, [key; 2]));
        }
    });
    let found = timed(|| {
        for &key in find {
            let area = map.range(..=key + LENGTH / 2).next_back();
            black_box(area.filter(|(_, (last, _))| *last >= key + LENGTH / 2).expect("the area is there"));
        }
    });
    let removed = timed(|| {
        for &key in remove {
            black_box(map.remove(&key).expect("the area is there"));
        }
    });
    [inserted, found, removed]
}

/// Bytes per record of `count`.
fn record_bytes(count: usize) -> Result<f64, Box<dyn Error>> {
    let mut records = IdMap::new(0, u32::MAX);
    for _ in 0..count {
        records.insert(&Always, Record::default()).map_err(|refused| format!("{refused:?}"))?;
    }
    Ok(records.memory() as f64 / count as f64)
}

fn measure(count: usize, rounds: usize) -> Result<(), Box<dyn Error>> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut keys: [Vec<u64>; 3] = array::from_fn(|_| (0..count as u64).map(|index| index * STRIDE).collect());
    let (mut best_ours, mut best_std) = ([Duration::MAX; 3], [Duration::MAX; 3]);
    let mut memory = 0;
    for _ in 0..rounds {
        keys.iter_mut().for_each(|keys| random.shuffle(keys));
        let (times, held) = ours(&keys);
        best_ours = array::from_fn(|at| best_ours[at].min(times[at]));
        let times = stds(&keys);
        best_std = array::from_fn(|at| best_std[at].min(times[at]));
        memory = held;
    }
    print!("{count:>10}");
    for (ours, std) in best_ours.iter().zip(best_std) {
        let each = |time: Duration| time.as_secs_f64() * 1e9 / count as f64;
        print!("  {:6.0} {:6.0} {:5.2}", each(*ours), each(std), ours.as_secs_f64() / std.as_secs_f64());
    }
    let (tree, record) = (memory as f64 / count as f64, record_bytes(count)?);
    println!("  {tree:6.1} {record:6.1} {:6.1}", tree + record);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let quick = env::args().any(|argument| argument == "--quick");
    println!("nanoseconds per operation: ours, std's, ours / std's; bytes per area: tree, record, both");
    println!(
        "{:>10}  {:<20}  {:<20}  {:<20}  {:>6} {:>6} {:>6}",
        "areas", "insert", "look-up", "remove", "tree", "record", "both"
    );
    let sizes: &[(usize, usize)] = if quick {
        &[(1_000, 200), (100_000, 5)]
    } else {
        &[(1_000, 2_000), (1_000_000, 5), (10_000_000, 2)]
    };
    sizes.iter().try_for_each(|&(count, rounds)| measure(count, rounds))
}
