//! The catalogue of rules: every refusal has a name.
//!
//! The kernel answers EINVAL for twenty reasons. A [`Refusal`] carries the errno that Linux gives and the rule that was
//! broken; the catalogue holds one sentence for each.

pub mod group;
pub mod guest;
pub mod iommufd;
pub mod selftest;
pub mod type1;
pub mod vfio;

use core::fmt;

use uapi::Errno;

/// A rule that a call can break.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Short name: the call or object, a dot, and what was wrong, such as `bind.already-bound`.
    pub name: &'static str,
    /// What Linux answers.
    pub errno: Errno,
    /// The rule, in one sentence that says what has to be so.
    pub sentence: &'static str,
}

/// A call was refused: the rule that it broke.
#[derive(Clone, Copy)]
pub struct Refusal(&'static Rule);

impl Refusal {
    /// The rule that was broken.
    #[must_use]
    pub const fn of(rule: &'static Rule) -> Self {
        Refusal(rule)
    }

    /// The rule that was broken.
    #[must_use]
    pub const fn rule(self) -> &'static Rule {
        self.0
    }

    /// What Linux answers.
    #[must_use]
    pub const fn errno(self) -> Errno {
        self.0.errno
    }
}

impl PartialEq for Refusal {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Refusal {}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} [{}]", self.0.errno, self.0.name)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A rule says what has to be so, except where it says that a part is not there.
        let lead = if self.0.name.ends_with(".not-built") { "" } else { "breaks the rule " };
        write!(f, "{}: {lead}{}: {}", self.0.errno, self.0.name, self.0.sentence)
    }
}

/// Defines rules as constants that are refusals, and the list of them.
///
/// `rules! { BIND_ALREADY_BOUND = EINVAL, "bind.already-bound", "a device file is bound once"; }`
macro_rules! rules {
    ($($constant:ident = $errno:ident, $name:literal, $sentence:literal;)*) => {
        $(
            #[doc = $sentence]
            pub const $constant: $crate::Refusal = $crate::Refusal::of(&$crate::Rule {
                name: $name,
                errno: uapi::Errno::$errno,
                sentence: $sentence,
            });
        )*

        /// All rules of this module.
        pub const ALL: &[$crate::Refusal] = &[$($constant),*];
    };
}
pub(crate) use rules;

/// Every rule there is.
pub fn catalogue() -> impl Iterator<Item = &'static Rule> {
    let all = [iommufd::ALL, guest::ALL, vfio::ALL, group::ALL, type1::ALL, selftest::ALL];
    all.into_iter().flatten().map(|refusal| refusal.rule())
}
