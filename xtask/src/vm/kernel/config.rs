//! Kernel configurations: `vm/kernel/base.config` and one fragment per variant.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use crate::vm::kernels::Variant;

/// Symbols (without `CONFIG_`) and their values; `n` for what is off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Config(BTreeMap<String, String>);

impl Config {
    /// What a variant asks for.
    pub(super) fn wanted(variant: Variant) -> Result<Self> {
        let fragment = match variant {
            Variant::A => include_str!("../../../../vm/kernel/A.config"),
            Variant::B => include_str!("../../../../vm/kernel/B.config"),
            Variant::C => include_str!("../../../../vm/kernel/C.config"),
            Variant::D => include_str!("../../../../vm/kernel/D.config"),
        };
        let mut wanted = Self::parse(include_str!("../../../../vm/kernel/base.config"))?;
        wanted.0.extend(Self::parse(fragment)?.0);
        Ok(wanted)
    }

    /// Reads the format of `.config`.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut values = BTreeMap::new();
        for line in text.lines() {
            let off = line.strip_prefix("# CONFIG_").and_then(|rest| rest.strip_suffix(" is not set"));
            let set = line.strip_prefix("CONFIG_").and_then(|rest| rest.split_once('='));
            match (off, set) {
                (Some(symbol), _) => values.insert(symbol.to_owned(), "n".to_owned()),
                (None, Some((symbol, value))) => values.insert(symbol.to_owned(), value.to_owned()),
                (None, None) if line.is_empty() || line.starts_with('#') => continue,
                (None, None) => bail!("{line:?} is no line of a kernel configuration"),
            };
        }
        Ok(Self(values))
    }

    /// The same, one line for each symbol.
    pub(super) fn text(&self) -> String {
        self.0.iter().map(|(symbol, value)| format!("CONFIG_{symbol}={value}\n")).collect()
    }

    /// What `self` asks for and `real` has otherwise: a symbol whose dependencies are not met falls away without a word.
    pub(super) fn unmet(&self, real: &Self) -> Vec<String> {
        let value = |symbol| real.0.get(symbol).map_or("n", String::as_str);
        let differs = self.0.iter().filter(|(symbol, wanted)| value(*symbol) != wanted.as_str());
        differs.map(|(symbol, wanted)| format!("CONFIG_{symbol}={wanted}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_overrides_the_base() {
        let group = |variant| Config::wanted(variant).unwrap().0["VFIO_GROUP"].clone();
        assert_eq!(group(Variant::A), "y");
        assert_eq!(group(Variant::C), "n");
        for variant in [Variant::A, Variant::B, Variant::C, Variant::D] {
            let wanted = Config::wanted(variant).unwrap();
            assert_eq!(wanted.0["VFIO_NOIOMMU"], "y");
            assert_eq!(wanted.0["LOCALVERSION"], format!("\"-ioasis-{}\"", variant.name()));
            assert_eq!(Config::parse(&wanted.text()).unwrap(), wanted);
        }
    }

    #[test]
    fn what_the_kernel_dropped_is_named() {
        let wanted = Config::parse("CONFIG_A=y\nCONFIG_B=8\n# CONFIG_C is not set\nCONFIG_D=y\n").unwrap();
        let real =
            Config::parse("#\n# Linux\n#\nCONFIG_A=y\nCONFIG_B=64\n\n# CONFIG_D is not set\n").unwrap();
        assert_eq!(wanted.unmet(&real), ["CONFIG_B=8", "CONFIG_D=y"]);
        assert!(wanted.unmet(&wanted).is_empty());
    }

    #[test]
    fn other_lines_are_refused() {
        assert!(Config::parse("VFIO=y\n").is_err());
    }
}
