//! `ioasis kconfig`: which builds of a kernel serve a device without an IOMMU, and what one would need for it.

mod matrix;
mod offers;
mod read;

use anyhow::{Context, Error, Result};
use machine::kconfig::{Kconfig, Origin, Symbol, Tristate};
use machine::{MachineSpec, setting};

use crate::arguments;
use crate::output::{print, table};
use offers::Offers;
use read::Found;

/// The first kernel that serves a device without an IOMMU by its own node.
const FIRST: (u32, u32) = (7, 3);

/// Prints the matrix and explains the running kernel, or explains the configuration that is asked about.
pub(crate) fn run(system: &arguments::System, asked: &arguments::Kconfig) -> Result<()> {
    let changes = asked.settings.iter().map(|text| parse(text)).collect::<Result<Vec<_>>>()?;
    let found = match (&asked.config, &system.machine) {
        (Some(path), _) => read::file(path)?,
        (None, Some(path)) => {
            let config = MachineSpec::from_file(path)?.kconfig;
            Found { source: path.display().to_string(), config, version: None }
        }
        (None, None) if changes.is_empty() => {
            print(&matrix::text()?)?;
            match read::running()? {
                Some(found) => found,
                None => {
                    return print(
                        "\nThe running kernel shows its configuration neither in /proc/config.gz nor below /boot: name \
                         a file with --config.\n",
                    );
                }
            }
        }
        (None, None) => {
            Found { source: "a machine's kernel".to_owned(), config: Kconfig::FULL, version: None }
        }
    };
    let config = found.config.with(&changes).map_err(|refused| Error::msg(format!("{refused}")))?;
    print(&explain(&found, config)?)
}

/// A setting as the command line has it, such as `VFIO_GROUP=n`.
fn parse(text: &str) -> Result<(Symbol, Tristate)> {
    let (name, value) = text.split_once('=').with_context(|| {
        format!("{text:?} is no setting: an option and a value are needed, as in VFIO_GROUP=n")
    })?;
    setting(name, value).map_err(Error::msg)
}

/// What a configuration has and offers, and what would have to change in it.
fn explain(found: &Found, config: Kconfig) -> Result<String> {
    let mut options = table();
    for symbol in Symbol::ALL {
        let origin = match symbol.origin() {
            Origin::Given => "given",
            Origin::Prompt => "",
            Origin::Derived => "follows from others",
        };
        options.add_row([&format!("CONFIG_{symbol}"), &config.value(symbol).to_string(), origin]);
    }
    let of = match found.version {
        Some((major, minor)) => format!("{}, Linux {major}.{minor}", found.source),
        None => found.source.clone(),
    };
    let (offers, changes) = (Offers::of(config)?, changes(found, config));
    Ok(format!(
        "\n{of}\n\n{}\n\nA device without an IOMMU, with enable_unsafe_noiommu_mode=Y, has: {offers}\n\
         For a node of its own under IOMMUFD: {changes}\n",
        options.trim_fmt()
    ))
}

/// What would have to change for a device without an IOMMU to be served by its own node.
fn changes(found: &Found, config: Kconfig) -> String {
    let mut needs = Vec::new();
    if let Some((major, minor)) = found.version.filter(|version| *version < FIRST) {
        needs.push(format!("Linux 7.3 or newer, this is {major}.{minor}"));
    }
    let serves = |it: &Kconfig| it.has(Symbol::IommufdNoiommu) && it.has(Symbol::VfioPci);
    let Some(nearest) = config.nearest(serves) else {
        return format!(
            "no configuration with CONFIG_GENERIC_ATOMIC64={} CONFIG_SPAPR_TCE_IOMMU={} CONFIG_PCI={}",
            config.value(Symbol::GenericAtomic64),
            config.value(Symbol::SpaprTceIommu),
            config.value(Symbol::Pci)
        );
    };
    let changed = |symbol: &Symbol| {
        symbol.origin() == Origin::Prompt && nearest.value(*symbol) != config.value(*symbol)
    };
    let changed = Symbol::ALL.into_iter().filter(changed);
    needs.extend(changed.map(|symbol| format!("CONFIG_{symbol}={}", nearest.value(symbol))));
    if needs.is_empty() { "as it is".to_owned() } else { needs.join(", ") }
}
