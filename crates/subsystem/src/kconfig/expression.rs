//! Values of options, and expressions over them, as Kconfig has them
//! (kernel documentation, `Documentation/kbuild/kconfig-language.rst`).

use core::fmt;

use super::{Kconfig, Symbol};

/// The value of an option. An option that is `m` has the effect of `y` once its module is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tristate {
    /// Not built.
    N,
    /// A module.
    M,
    /// Built in.
    Y,
}

impl Tristate {
    /// The value that is written so: `n`, `m` or `y`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Tristate> {
        match name {
            "n" => Some(Tristate::N),
            "m" => Some(Tristate::M),
            "y" => Some(Tristate::Y),
            _ => None,
        }
    }
}

impl fmt::Display for Tristate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tristate::N => "n",
            Tristate::M => "m",
            Tristate::Y => "y",
        })
    }
}

/// A condition over options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expression {
    /// A value.
    Value(Tristate),
    /// The value of an option.
    Is(Symbol),
    /// `y` if an option has just this value, else `n`.
    IsJust(Symbol, Tristate),
    /// `y` if two options have the same value, else `n`.
    Same(Symbol, Symbol),
    /// `y` for `n`, `m` for `m`, `n` for `y`.
    Not(Symbol),
    /// The least of several.
    All(&'static [Expression]),
    /// The greatest of several.
    Any(&'static [Expression]),
}

impl Expression {
    /// Its value.
    pub(super) fn value(&self, of: &Kconfig) -> Tristate {
        match self {
            Expression::Value(value) => *value,
            Expression::Is(symbol) => of.value(*symbol),
            Expression::IsJust(symbol, value) if of.value(*symbol) == *value => Tristate::Y,
            Expression::Same(one, other) if of.value(*one) == of.value(*other) => Tristate::Y,
            Expression::IsJust(..) | Expression::Same(..) => Tristate::N,
            Expression::Not(symbol) => match of.value(*symbol) {
                Tristate::N => Tristate::Y,
                Tristate::M => Tristate::M,
                Tristate::Y => Tristate::N,
            },
            Expression::All(parts) => parts.iter().map(|part| part.value(of)).min().unwrap_or(Tristate::Y),
            Expression::Any(parts) => parts.iter().map(|part| part.value(of)).max().unwrap_or(Tristate::N),
        }
    }

    /// Tells `f` each option that it names.
    pub(super) fn each_symbol(&self, f: &mut dyn FnMut(Symbol)) {
        match self {
            Expression::Value(_) => {}
            Expression::Is(symbol) | Expression::IsJust(symbol, _) | Expression::Not(symbol) => f(*symbol),
            Expression::Same(one, other) => [one, other].into_iter().for_each(|symbol| f(*symbol)),
            Expression::All(parts) | Expression::Any(parts) => {
                parts.iter().for_each(|part| part.each_symbol(f));
            }
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, inner: bool) -> fmt::Result {
        let (parts, operator) = match self {
            Expression::Value(value) => return write!(f, "{value}"),
            Expression::Is(symbol) => return write!(f, "{symbol}"),
            Expression::IsJust(symbol, value) => return write!(f, "{symbol}={value}"),
            Expression::Same(one, other) => return write!(f, "{one}={other}"),
            Expression::Not(symbol) => return write!(f, "!{symbol}"),
            Expression::All(parts) => (parts, " && "),
            Expression::Any(parts) => (parts, " || "),
        };
        f.write_str(if inner { "(" } else { "" })?;
        for (index, part) in parts.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { operator })?;
            part.write(f, true)?;
        }
        f.write_str(if inner { ")" } else { "" })
    }
}

/// As a Kconfig file has it.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, false)
    }
}
