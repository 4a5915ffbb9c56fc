//! Tests of the plain registers.

use super::Doorbells;

#[test]
fn a_store_is_read_back_until_the_window_is_cleared() {
    let doorbells = Doorbells::new(4096);
    doorbells.store(8, 7);
    doorbells.store(4092, 9);
    assert_eq!((doorbells.load(8), doorbells.load(4092), doorbells.load(12)), (7, 9, 0));
    doorbells.clear();
    assert_eq!((doorbells.load(8), doorbells.load(4092)), (0, 0));
}

#[test]
fn behind_the_end_there_is_nothing() {
    let doorbells = Doorbells::new(4096);
    doorbells.store(4096, 1);
    assert_eq!(doorbells.load(4096), 0);
}
