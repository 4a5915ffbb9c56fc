//! The locks of the simulated host refuse what would be a deadlock some day.

use std::panic::catch_unwind;

use crate::support::locks::holding;

const TABLES: &str = "subsystem::tables::Tables<Host>";
const OPENED: &str = "core::option::Option<subsystem::vfio::pci::Opened<Host>>";

#[test]
fn locks_are_taken_in_one_order_and_once() {
    let refused = |outer, inner| catch_unwind(|| holding(outer, || holding(inner, || ()))).is_err();
    assert_eq!([refused(TABLES, OPENED), refused(OPENED, TABLES)], [false, true]);
    assert!(refused(OPENED, OPENED));
    assert!(refused(TABLES, "subsystem::Other"), "a lock without a place");
    assert!(!refused(TABLES, OPENED), "what panicked has let go");
}
