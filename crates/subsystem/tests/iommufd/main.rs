//! IOMMUFD through its ioctls, on a simulated host. The names of tests begin with the rows of the behaviour tables
//! that they hold against.

/// Checks that a call is refused, by the rule and with its errno.
macro_rules! assert_refused {
    ($result:expr, $errno:ident, $name:literal) => {{
        let rule = crate::client::refused($result);
        assert_eq!((rule.errno, rule.name), (uapi::Errno::$errno, $name));
    }};
}

/// What the locks of the simulated host are made of.
mod sync {
    pub(crate) use std::sync::{Mutex, RwLock};
    pub(crate) use std::thread_local;
}

#[expect(dead_code, reason = "what the tests of other files need is in there too")]
#[path = "../support/mod.rs"]
mod support;

mod attach;
mod behind;
mod client;
mod compat;
mod copy;
mod faults;
mod get_pa;
mod hardware;
mod map;
mod model;
mod objects;
mod option;
mod random;
mod selftest;
mod size;
mod threads;
mod unmap;
