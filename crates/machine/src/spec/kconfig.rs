//! Build options of the kernel that a machine stands for.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de};
use subsystem::kconfig::{Kconfig, Symbol, Tristate};

/// What the kernel's self-tests of IOMMUFD want.
pub(super) const FOR_TESTS: [(Symbol, Tristate); 4] = [
    (Symbol::DebugKernel, Tristate::Y),
    (Symbol::FaultInjection, Tristate::Y),
    (Symbol::RuntimeTestingMenu, Tristate::Y),
    (Symbol::IommufdTest, Tristate::Y),
];

/// An option and the value that it is to have, by their names.
pub fn setting(name: &str, value: &str) -> Result<(Symbol, Tristate), String> {
    let symbol = Symbol::from_name(name).ok_or_else(|| {
        format!("{name} is none of the options known here: {}", Symbol::ALL.map(Symbol::name).join(", "))
    })?;
    let value = Tristate::from_name(value)
        .ok_or_else(|| format!("{name} = {value:?}: \"y\", \"m\" or \"n\" is needed"))?;
    Ok((symbol, value))
}

/// The table of a machine file: names, with `CONFIG_`, and values.
pub(super) fn table<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Kconfig, D::Error> {
    let table = BTreeMap::<String, String>::deserialize(deserializer)?;
    let settings = table.iter().map(|(name, value)| {
        let known = name.strip_prefix("CONFIG_").ok_or(format!("{name}: a name begins with CONFIG_"))?;
        setting(known, value)
    });
    let settings = settings.collect::<Result<Vec<_>, _>>().map_err(de::Error::custom)?;
    Kconfig::FULL.with(&settings).map_err(de::Error::custom)
}
