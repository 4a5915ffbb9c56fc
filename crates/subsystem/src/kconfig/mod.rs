//! Build options of the kernel that is stood for, as data.

mod expression;
mod options;
#[cfg(test)]
mod tests;

use core::fmt;

pub use expression::{Expression, Tristate};
use options::{COUNT, Definition};
pub use options::{Origin, Symbol};

/// The value of each option: a combination that Kconfig allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kconfig {
    values: [Tristate; COUNT],
}

impl Kconfig {
    /// Everything that serves devices without an IOMMU: groups, the native container, nodes of devices under IOMMUFD.
    pub const FULL: Kconfig = {
        use Tristate::{N, Y};
        Kconfig { values: [N, N, Y, N, Y, Y, Y, N, N, N, N, Y, Y, Y, Y, Y, N, Y, Y, Y, N, N, Y, Y, N, N] }
    };

    /// The configuration that Kconfig makes of this one and these values, each option given once: the others stay as they
    /// are as far as their dependencies allow, and are what they are by default if they could not be chosen before. Refused
    /// if Kconfig would make something else of a value.
    pub fn with(&self, asked: &[(Symbol, Tristate)]) -> Result<Kconfig, Refused> {
        let wanted = |symbol| asked.iter().find(|(other, _)| *other == symbol).map(|(_, value)| *value);
        let could = |symbol: Symbol| self.visible(&symbol.definition()) != Tristate::N;
        let config =
            Kconfig::make(|symbol| wanted(symbol).or_else(|| could(symbol).then(|| self.value(symbol))));
        match asked.iter().find(|(symbol, value)| config.value(*symbol) != *value) {
            Some(&(symbol, asked)) => Err(Refused { symbol, asked, config }),
            None => Ok(config),
        }
    }

    /// The configuration with these values, which a kernel was built with.
    #[must_use]
    pub fn built(value: impl FnMut(Symbol) -> Tristate) -> Kconfig {
        Kconfig { values: Symbol::ALL.map(value) }
    }

    /// The allowed configuration that is `wanted`, takes the least away from this one, and adds the least to it. What is
    /// given stays.
    #[must_use]
    pub fn nearest(&self, wanted: impl Fn(&Kconfig) -> bool) -> Option<Kconfig> {
        let prompts = || Symbol::ALL.into_iter().filter(|symbol| symbol.origin() == Origin::Prompt);
        let candidates = (0..1u32 << prompts().count()).map(|flips| {
            let flips =
                |symbol| prompts().position(|it| it == symbol).is_some_and(|bit| flips >> bit & 1 != 0);
            Kconfig::make(|symbol| {
                Some(match self.value(symbol) {
                    value if !flips(symbol) => value,
                    Tristate::N => Tristate::Y,
                    Tristate::M | Tristate::Y => Tristate::N,
                })
            })
        });
        let changes = |config: &Kconfig| {
            let count = |less: &Kconfig, more: &Kconfig| {
                prompts().filter(|&it| less.value(it) < more.value(it)).count()
            };
            (count(config, self), count(self, config))
        };
        candidates.filter(wanted).min_by_key(changes)
    }

    /// What Kconfig makes of these values, as `make olddefconfig` does.
    fn make(wanted: impl Fn(Symbol) -> Option<Tristate>) -> Kconfig {
        let mut config = Kconfig { values: [Tristate::N; COUNT] };
        for symbol in Symbol::ALL {
            let value = config.evaluate(&symbol.definition(), wanted(symbol));
            if let Some(place) = config.values.get_mut(symbol as usize) {
                *place = value;
            }
        }
        config
    }

    /// The value of an option, those before it being known.
    fn evaluate(&self, definition: &Definition, wanted: Option<Tristate>) -> Tristate {
        let wanted = wanted.filter(|_| definition.origin != Origin::Derived);
        let value = wanted.unwrap_or_else(|| definition.default.value(self));
        let value = definition.promoted(value.min(self.visible(definition)));
        let selected =
            definition.selected.iter().map(|selection| definition.promoted(self.selected(selection)));
        selected.fold(value, Tristate::max)
    }

    /// The value that an option can have at most.
    fn visible(&self, definition: &Definition) -> Tristate {
        let clauses = definition.depends.iter().map(|clause| definition.promoted(clause.value(self)));
        clauses.min().unwrap_or(Tristate::Y)
    }

    /// The value that a selection gives at least.
    fn selected(&self, (by, condition): &(Symbol, Expression)) -> Tristate {
        self.value(*by).min(condition.value(self))
    }

    /// The value of an option.
    #[must_use]
    pub fn value(&self, symbol: Symbol) -> Tristate {
        self.values.get(symbol as usize).copied().unwrap_or(Tristate::N)
    }

    /// Whether an option is built.
    #[must_use]
    pub fn has(&self, symbol: Symbol) -> bool {
        self.value(symbol) != Tristate::N
    }
}

/// Kconfig makes something else of a value that was asked for. Displays as the dependency or the selection that does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The option.
    pub symbol: Symbol,
    /// The value that it was to have.
    pub asked: Tristate,
    /// What Kconfig makes of it all.
    pub config: Kconfig,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refused { symbol, asked, config } = self;
        let definition = symbol.definition();
        write!(f, "CONFIG_{symbol} cannot be {asked}: ")?;
        if *asked == Tristate::M && !definition.tristate {
            return f.write_str("it is no module, but y or n");
        }
        let fails = |clause: &&Expression| definition.promoted(clause.value(config)) < *asked;
        if let Some(clause) = definition.depends.iter().find(fails) {
            write!(f, "it depends on {clause}, but")?;
            return config.write_values(f, &[clause]);
        }
        if let Some(selection) = definition.selected.iter().find(|it| config.selected(it) > *asked) {
            let (by, condition) = selection;
            write!(f, "{by} selects it if {condition}, and")?;
            return config.write_values(f, &[&Expression::Is(*by), condition]);
        }
        // All that is left is an option without a prompt.
        f.write_str("it has no prompt")?;
        for (by, condition) in definition.selected {
            write!(f, "; {by} selects it if {condition}")?;
        }
        if definition.selected.is_empty() {
            write!(f, "; it is {}", definition.default)?;
        }
        Ok(())
    }
}

impl core::error::Error for Refused {}

impl Kconfig {
    /// Writes the values of the options that expressions name, each after a space.
    fn write_values(&self, f: &mut fmt::Formatter<'_>, expressions: &[&Expression]) -> fmt::Result {
        let mut result = Ok(());
        for expression in expressions {
            expression.each_symbol(&mut |symbol| {
                result = result.and_then(|()| write!(f, " {symbol}={}", self.value(symbol)));
            });
        }
        result
    }
}
