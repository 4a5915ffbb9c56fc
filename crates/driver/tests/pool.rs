//! The pool: whatever is asked of it in whatever order, no element straddles a segment and nothing overlaps.

mod common;

use std::ops::Range;

use common::{machine, open};
use ioasis::machine::LayoutKind;
use ioasis::machine::Machine;
use ioasis::{DmaBuffer, DmaOptions, DmaPool, Error, PageSize, Pooled, Shape};
use proptest::prelude::*;

const SIZE: usize = 8 * 4096;

fn pool(layout: LayoutKind) -> DmaPool<Machine> {
    let device = open(&machine(layout));
    DmaPool::new(device.address_space().allocate(SIZE, &DmaOptions::new()).unwrap())
}

/// What is asked of a pool.
#[derive(Clone, Copy, Debug)]
enum Step {
    Take { element: usize, count: usize, align: usize, contiguous: bool },
    Give(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let take = (1..5000_usize, 1..40_usize, 0..13_u32, any::<bool>()).prop_map(
        |(element, count, align, contiguous)| Step::Take { element, count, align: 1 << align, contiguous },
    );
    prop_oneof![3 => take, 2 => any::<prop::sample::Index>().prop_map(Step::Give)]
}

/// Where a piece is in the buffer of its pool.
fn place(pool: &DmaPool<Machine>, piece: &Pooled<Machine>) -> Range<usize> {
    let start = (piece.user_address().get() - pool.buffer().user_address().get()) as usize;
    start..start + piece.len()
}

/// Whether each of the units of a stretch lies in one segment.
fn whole(buffer: &DmaBuffer<Machine>, start: usize, unit: usize, count: usize) -> bool {
    (0..count).all(|at| buffer.address_at(start + at * unit).1 >= unit)
}

/// Looks at every place.
fn fits_anywhere(
    pool: &DmaPool<Machine>,
    taken: &[Range<usize>],
    unit: usize,
    count: usize,
    align: usize,
) -> bool {
    let bytes = unit * count;
    (0..=SIZE.saturating_sub(bytes)).step_by(align).any(|start| {
        bytes <= SIZE
            && taken.iter().all(|other| start + bytes <= other.start || other.end <= start)
            && whole(pool.buffer(), start, unit, count)
    })
}

proptest! {
    #[test]
    fn pieces_are_whole_aligned_and_apart(steps in prop::collection::vec(step(), 1..60), contiguous in any::<bool>()) {
        let layout = if contiguous { LayoutKind::Contiguous } else { LayoutKind::Scattered };
        let pool = pool(layout);
        let mut pieces: Vec<Pooled<Machine>> = Vec::new();
        for step in steps {
            match step {
                Step::Give(_) if pieces.is_empty() => {}
                Step::Give(which) => drop(pieces.swap_remove(which.index(pieces.len()))),
                Step::Take { element, count, align, contiguous } => {
                    let taken: Vec<_> = pieces.iter().map(|piece| place(&pool, piece)).collect();
                    let (unit, units) = if contiguous { (element * count, 1) } else { (element, count) };
                    let shape = Shape::array(element, count).align(align).contiguous(contiguous);
                    match pool.allocate(shape) {
                        Ok(piece) => {
                            let at = place(&pool, &piece);
                            prop_assert_eq!(at.len(), element * count);
                            prop_assert_eq!(piece.address_at(0).0.get() % align as u64, 0);
                            prop_assert!(whole(pool.buffer(), at.start, unit, units));
                            prop_assert!(taken.iter().all(|other| at.end <= other.start || other.end <= at.start));
                            pieces.push(piece);
                        }
                        Err(error) => {
                            let full = matches!(error, Error::PoolFull { .. } | Error::NotContiguous { .. });
                            prop_assert!(full, "{}", error);
                            prop_assert!(!fits_anywhere(&pool, &taken, unit, units, align), "{}", error);
                        }
                    }
                    let used: usize = pieces.iter().map(|piece| piece.len()).sum();
                    prop_assert_eq!(pool.free(), SIZE - used);
                }
            }
        }
        pieces.clear();
        prop_assert_eq!(pool.free(), SIZE);
        let all = Shape::array(1, SIZE);
        prop_assert!(pool.allocate(all).is_ok(), "free stretches are joined again");
    }
}

#[test]
fn a_ring_longer_than_any_segment_says_how_long_one_can_be() {
    let pool = pool(LayoutKind::Scattered);
    let largest = pool.largest_contiguous();
    let error = pool.allocate(Shape::array(64, 1024).align(4096).contiguous(true)).unwrap_err();
    assert_eq!(error, Error::NotContiguous { needed: 64 << 10, largest });
    pool.allocate(Shape::array(64, largest / 64).align(4096).contiguous(true)).unwrap();
}

#[test]
fn a_long_ring_fits_a_pool_in_huge_pages() {
    let machine = machine(LayoutKind::Scattered);
    let options = DmaOptions::new().page_size(PageSize::Huge2M);
    let pool = DmaPool::new(open(&machine).address_space().allocate(2 << 20, &options).unwrap());
    let ring = pool.allocate(Shape::array(64, 1024).align(4096).contiguous(true)).unwrap();
    assert_eq!((ring.len(), ring.segments().count()), (64 << 10, 1));
}

#[test]
fn what_comes_back_is_zero_again() {
    let pool = pool(LayoutKind::Contiguous);
    let piece = pool.allocate(Shape::array(1, SIZE)).unwrap();
    piece.fill(0xff);
    assert!(matches!(
        pool.allocate(Shape::array(1, 1)),
        Err(Error::PoolFull { needed: 1, free: 0, size: SIZE })
    ));
    drop(piece);
    assert_eq!(pool.allocate(Shape::array(8, 1)).unwrap().read_u64(0), 0);
}

#[test]
fn senseless_shapes_are_refused() {
    let pool = pool(LayoutKind::Contiguous);
    let shapes = [
        Shape::array(0, 1),
        Shape::array(1, 0),
        Shape::array(usize::MAX, 2),
        Shape::array(8, 1).align(3),
        Shape::array(8, 1).align(8192),
    ];
    for shape in shapes {
        assert!(matches!(pool.allocate(shape), Err(Error::Argument(_))), "{shape:?}");
    }
}
