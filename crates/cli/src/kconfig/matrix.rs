//! The support matrix of the kernel's documentation (`Documentation/driver-api/vfio.rst`), as the options' own dependencies
//! and machines of such builds have it.

use std::fmt::Write;

use anyhow::Result;
use machine::kconfig::{Kconfig, Symbol, Tristate};

use super::offers::Offers;
use crate::output::table;

/// A combination: its number there, and what it chooses.
struct Case {
    number: u8,
    group: bool,
    container: bool,
    cdev: bool,
    atomic64: bool,
}

const fn case(number: u8, [group, container, cdev]: [bool; 3], atomic64: bool) -> Case {
    Case { number, group, container, cdev, atomic64 }
}

/// The six cases, and what becomes of those that work where 64-bit atomic operations are emulated.
const CASES: [Case; 9] = [
    case(1, [true, true, false], false),
    case(2, [true, false, false], false),
    case(3, [true, true, true], false),
    case(4, [true, false, true], false),
    case(5, [false, false, true], false),
    case(6, [false, false, false], false),
    case(1, [true, true, false], true),
    case(3, [true, true, true], true),
    case(5, [false, false, true], true),
];

impl Case {
    fn settings(&self) -> Vec<(Symbol, Tristate)> {
        let value = |on| if on { Tristate::Y } else { Tristate::N };
        let mut settings = vec![
            (Symbol::GenericAtomic64, value(self.atomic64)),
            (Symbol::VfioGroup, value(self.group)),
            (Symbol::VfioDeviceCdev, value(self.cdev)),
        ];
        if self.group {
            settings.extend([
                (Symbol::VfioContainer, value(self.container)),
                (Symbol::IommufdVfioContainer, Tristate::N),
            ]);
        }
        settings
    }
}

/// The matrix, and why some cases are none.
pub(super) fn text() -> Result<String> {
    let mut rows = table();
    rows.set_header([
        "case",
        "group",
        "container",
        "cdev",
        "atomic64",
        "no-IOMMU",
        "a device without an IOMMU has",
    ]);
    let mut reasons = String::new();
    for case in &CASES {
        let mut settings = case.settings();
        let config = Kconfig::FULL.with(&settings);
        let wanted = [(Symbol::VfioNoiommu, Tristate::Y)];
        settings.extend(wanted);
        let (noiommu, has) = match Kconfig::FULL.with(&settings) {
            Ok(config) => ("yes", Offers::of(config)?.to_string()),
            Err(refused) => {
                writeln!(reasons, "{}: {refused}.", case.number)?;
                (if config.is_ok() { "no" } else { "-" }, "nothing".to_owned())
            }
        };
        let mark = |on| if on { "y" } else { "n" };
        let container = if case.group { mark(case.container) } else { "-" };
        rows.add_row([
            &*case.number.to_string(),
            mark(case.group),
            container,
            mark(case.cdev),
            mark(case.atomic64),
            noiommu,
            &has,
        ]);
    }
    Ok(format!("{}\n\n{reasons}", rows.trim_fmt()))
}
