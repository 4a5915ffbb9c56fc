use std::collections::{BTreeMap, BTreeSet};
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::*;
use Tristate::{M, N, Y};

/// An option and its value, such as `VFIO_GROUP=n`.
fn setting(text: &str) -> (Symbol, Tristate) {
    let (name, value) = text.split_once('=').unwrap();
    (Symbol::from_name(name).unwrap(), Tristate::from_name(value).unwrap())
}

fn resolve(text: &str) -> Result<Kconfig, String> {
    let asked: Vec<_> = text.split_whitespace().map(setting).collect();
    Kconfig::FULL.with(&asked).map_err(|refused| refused.to_string())
}

#[test]
fn options_are_numbered_in_their_order_and_speak_of_earlier_ones_only() {
    for (index, symbol) in Symbol::ALL.into_iter().enumerate() {
        assert_eq!(symbol as usize, index);
        let Definition { depends, selected, default, .. } = symbol.definition();
        let mut named = Vec::from_iter(selected.iter().map(|(by, _)| *by));
        let conditions = selected.iter().map(|(_, condition)| condition);
        for expression in depends.iter().chain(conditions).chain([&default]) {
            expression.each_symbol(&mut |other| named.push(other));
        }
        assert!(named.into_iter().all(|other| (other as usize) < index), "{symbol}");
    }
}

#[test]
fn nothing_asked_for_is_everything() {
    assert_eq!(resolve(""), Ok(Kconfig::FULL));
}

/// The matrix of `Documentation/driver-api/vfio.rst`, with its exception.
#[test]
fn the_support_matrix() {
    let noiommu = |text: &str| {
        let config = resolve(text).unwrap();
        (config.has(Symbol::VfioNoiommu), config.has(Symbol::IommufdNoiommu))
    };
    let no_container = "VFIO_CONTAINER=n IOMMUFD_VFIO_CONTAINER=n";
    for atomic in ["n", "y"] {
        let with = |rest: &str| noiommu(&format!("GENERIC_ATOMIC64={atomic} {rest}"));
        let by_cdev = atomic == "n";
        for container in ["VFIO_CONTAINER=y", "VFIO_CONTAINER=n IOMMUFD_VFIO_CONTAINER=y"] {
            assert_eq!(with(&format!("VFIO_DEVICE_CDEV=n {container}")), (true, false), "case 1");
            assert_eq!(with(&format!("VFIO_DEVICE_CDEV=y {container}")), (true, by_cdev), "case 3");
        }
        assert_eq!(with(&format!("VFIO_DEVICE_CDEV=n {no_container}")), (false, false), "case 2");
        assert_eq!(with(&format!("VFIO_DEVICE_CDEV=y {no_container}")), (false, false), "case 4");
        assert_eq!(with("VFIO_GROUP=n"), (by_cdev, by_cdev), "case 5");
    }
    let neither = resolve("VFIO_GROUP=n VFIO_DEVICE_CDEV=n").unwrap_err();
    assert_eq!(
        neither,
        "CONFIG_VFIO_DEVICE_CDEV cannot be n: VFIO selects it if !VFIO_GROUP, and VFIO=y VFIO_GROUP=n"
    );
}

#[test]
fn a_refusal_names_what_fails() {
    for (asked, refusal) in [
        (
            "VFIO_NOIOMMU=y VFIO_CONTAINER=n IOMMUFD_VFIO_CONTAINER=n",
            "CONFIG_VFIO_NOIOMMU cannot be y: it depends on !VFIO_GROUP || VFIO_CONTAINER || IOMMUFD_VFIO_CONTAINER, \
             but VFIO_GROUP=y VFIO_CONTAINER=n IOMMUFD_VFIO_CONTAINER=n",
        ),
        (
            "GENERIC_ATOMIC64=y VFIO_GROUP=n VFIO_NOIOMMU=y",
            "CONFIG_VFIO_NOIOMMU cannot be y: it depends on VFIO_GROUP || (VFIO_DEVICE_CDEV && !GENERIC_ATOMIC64), \
             but VFIO_GROUP=n VFIO_DEVICE_CDEV=y GENERIC_ATOMIC64=y",
        ),
        (
            "IOMMUFD=m VFIO=y",
            "CONFIG_VFIO cannot be y: it depends on IOMMUFD || !IOMMUFD, but IOMMUFD=m IOMMUFD=m",
        ),
        ("VFIO_GROUP=m", "CONFIG_VFIO_GROUP cannot be m: it is no module, but y or n"),
        (
            "IOMMUFD=n VFIO_GROUP=n",
            "CONFIG_VFIO_GROUP cannot be n: VFIO selects it if SPAPR_TCE_IOMMU || IOMMUFD=n, \
             and VFIO=y SPAPR_TCE_IOMMU=n IOMMUFD=n",
        ),
        (
            "IOMMUFD_NOIOMMU=n",
            "CONFIG_IOMMUFD_NOIOMMU cannot be n: VFIO_NOIOMMU selects it if VFIO_DEVICE_CDEV && !GENERIC_ATOMIC64, \
             and VFIO_NOIOMMU=y VFIO_DEVICE_CDEV=y GENERIC_ATOMIC64=n",
        ),
        (
            "VFIO_NOIOMMU=n IOMMUFD_NOIOMMU=y",
            "CONFIG_IOMMUFD_NOIOMMU cannot be y: it has no prompt; \
             VFIO_NOIOMMU selects it if VFIO_DEVICE_CDEV && !GENERIC_ATOMIC64",
        ),
        (
            "VFIO_PCI_DMABUF=y",
            "CONFIG_VFIO_PCI_DMABUF cannot be y: it has no prompt; it is VFIO_PCI && PCI_P2PDMA && DMA_SHARED_BUFFER",
        ),
    ] {
        assert_eq!(resolve(asked), Err(refusal.to_string()), "{asked}");
    }
}

#[test]
fn what_depends_on_a_module_follows_it() {
    let config = resolve("IOMMUFD=m").unwrap();
    assert_eq!([Symbol::Vfio, Symbol::VfioPci].map(|symbol| config.value(symbol)), [M, M]);
    assert_eq!(config.value(Symbol::VfioNoiommu), Y);
}

/// Only allowed combinations come out of it, and none is nearer.
#[test]
fn the_nearest_configuration() {
    let changes = |from: &str| {
        let config = resolve(from).unwrap();
        let nearest = config.nearest(|it| it.has(Symbol::IommufdNoiommu) && it.has(Symbol::VfioPci))?;
        let differs = |symbol: &Symbol| {
            symbol.origin() == Origin::Prompt && nearest.value(*symbol) != config.value(*symbol)
        };
        let changes = Symbol::ALL.into_iter().filter(differs);
        Some(
            changes.map(|symbol| format!("{symbol}={}", nearest.value(symbol))).collect::<Vec<_>>().join(" "),
        )
    };
    assert_eq!(changes("").as_deref(), Some(""));
    assert_eq!(changes("VFIO_NOIOMMU=n").as_deref(), Some("VFIO_NOIOMMU=y"));
    assert_eq!(changes("VFIO_DEVICE_CDEV=n").as_deref(), Some("VFIO_DEVICE_CDEV=y"));
    assert_eq!(
        changes("VFIO_CONTAINER=n IOMMUFD_VFIO_CONTAINER=n").as_deref(),
        Some("VFIO_CONTAINER=y VFIO_NOIOMMU=y")
    );
    assert_eq!(changes("GENERIC_ATOMIC64=y"), None);
    assert_eq!(
        changes("IOMMUFD=n").as_deref(),
        Some("IOMMUFD=y VFIO_DEVICE_CDEV=y"),
        "a kernel as distributions built them before"
    );
}

/// The variants that are built for the tests, by the fragments that configure them.
#[test]
fn the_fragments_of_the_test_kernels_are_allowed() {
    let base = include_str!("../../../../vm/kernel/base.config");
    let variants = [
        ("", include_str!("../../../../vm/kernel/A.config")),
        ("VFIO_GROUP=n", include_str!("../../../../vm/kernel/C.config")),
        ("VFIO_CONTAINER=n", include_str!("../../../../vm/kernel/D.config")),
    ];
    for (named, fragment) in variants {
        let mut values = BTreeMap::new();
        for line in base.lines().chain(fragment.lines()) {
            let (name, value) =
                match line.strip_prefix("# CONFIG_").and_then(|rest| rest.strip_suffix(" is not set")) {
                    Some(name) => (name, N),
                    None => match line.split_once('=') {
                        Some((name, "y")) => (name, Y),
                        _ => continue,
                    },
                };
            if let Some(symbol) = Symbol::from_name(name) {
                values.insert(symbol.name(), (symbol, value));
            }
        }
        let asked: Vec<_> = values.into_values().collect();
        assert_eq!(Kconfig::FULL.with(&asked), Ok(resolve(named).unwrap()), "{named}");
    }
}

/// What `make olddefconfig` of Linux 7.3.4 made of these settings, on top of the fragment that the test kernels have in common;
/// what is not named is off.
#[test]
fn the_kernel_configures_itself_alike() {
    for (settings, recorded) in [
        (
            "VFIO_GROUP=y VFIO_CONTAINER=y VFIO_DEVICE_CDEV=n",
            "VFIO=y VFIO_GROUP=y VFIO_CONTAINER=y VFIO_NOIOMMU=y VFIO_PCI=y IOMMUFD=y",
        ),
        (
            "VFIO_GROUP=y VFIO_CONTAINER=n IOMMUFD_VFIO_CONTAINER=y VFIO_DEVICE_CDEV=n",
            "VFIO=y VFIO_GROUP=y VFIO_NOIOMMU=y VFIO_PCI=y IOMMUFD=y IOMMUFD_VFIO_CONTAINER=y",
        ),
        (
            "VFIO_GROUP=y VFIO_CONTAINER=n IOMMUFD_VFIO_CONTAINER=n VFIO_DEVICE_CDEV=n",
            "VFIO=y VFIO_GROUP=y VFIO_PCI=y IOMMUFD=y",
        ),
        (
            "VFIO_GROUP=y VFIO_CONTAINER=y VFIO_DEVICE_CDEV=y",
            "VFIO=y VFIO_DEVICE_CDEV=y VFIO_GROUP=y VFIO_CONTAINER=y VFIO_NOIOMMU=y VFIO_PCI=y IOMMUFD=y IOMMUFD_NOIOMMU=y",
        ),
        (
            "VFIO_GROUP=y VFIO_CONTAINER=n IOMMUFD_VFIO_CONTAINER=y VFIO_DEVICE_CDEV=y",
            "VFIO=y VFIO_DEVICE_CDEV=y VFIO_GROUP=y VFIO_NOIOMMU=y VFIO_PCI=y IOMMUFD=y IOMMUFD_NOIOMMU=y IOMMUFD_VFIO_CONTAINER=y",
        ),
        (
            "VFIO_GROUP=y VFIO_CONTAINER=n IOMMUFD_VFIO_CONTAINER=n VFIO_DEVICE_CDEV=y",
            "VFIO=y VFIO_DEVICE_CDEV=y VFIO_GROUP=y VFIO_PCI=y IOMMUFD=y",
        ),
        (
            "VFIO_GROUP=n VFIO_DEVICE_CDEV=y",
            "VFIO=y VFIO_DEVICE_CDEV=y VFIO_NOIOMMU=y VFIO_PCI=y IOMMUFD=y IOMMUFD_NOIOMMU=y",
        ),
        (
            "VFIO_GROUP=n VFIO_DEVICE_CDEV=n",
            "VFIO=y VFIO_DEVICE_CDEV=y VFIO_NOIOMMU=y VFIO_PCI=y IOMMUFD=y IOMMUFD_NOIOMMU=y",
        ),
        ("IOMMUFD=n VFIO_GROUP=n", "VFIO=y VFIO_GROUP=y VFIO_CONTAINER=y VFIO_NOIOMMU=y VFIO_PCI=y"),
        (
            "VFIO_CONTAINER=n",
            "VFIO=y VFIO_DEVICE_CDEV=y VFIO_GROUP=y VFIO_NOIOMMU=y VFIO_PCI=y IOMMUFD=y IOMMUFD_NOIOMMU=y IOMMUFD_VFIO_CONTAINER=y",
        ),
        ("VFIO_NOIOMMU=n", "VFIO=y VFIO_DEVICE_CDEV=y VFIO_GROUP=y VFIO_CONTAINER=y VFIO_PCI=y IOMMUFD=y"),
        (
            "IOMMUFD=m",
            "VFIO=m VFIO_DEVICE_CDEV=y VFIO_GROUP=y VFIO_CONTAINER=y VFIO_NOIOMMU=y VFIO_PCI=m IOMMUFD=m IOMMUFD_NOIOMMU=y",
        ),
    ] {
        let settings: Vec<_> = settings.split(' ').map(setting).collect();
        let config = Kconfig::FULL.with(&settings).unwrap_or_else(|refused| refused.config);
        let on: BTreeMap<&str, Tristate> =
            recorded.split(' ').map(setting).map(|(symbol, value)| (symbol.name(), value)).collect();
        let decided = Symbol::ALL.into_iter().filter(|symbol| symbol.origin() != Origin::Given);
        for symbol in decided.filter(|symbol| *symbol != Symbol::VfioDebugfs) {
            let recorded = on.get(symbol.name()).copied().unwrap_or(N);
            assert_eq!(config.value(symbol), recorded, "{symbol} of {recorded} with {settings:?}");
        }
    }
}

/// Against the Kconfig files of a kernel whose source is at hand (`IOASIS_LINUX_SOURCE`): the same dependencies, selections
/// and defaults.
#[test]
#[ignore = "needs the source of Linux 7.3: IOASIS_LINUX_SOURCE"]
fn the_definitions_are_those_of_the_kernel() {
    let root =
        std::env::var("IOASIS_LINUX_SOURCE").expect("IOASIS_LINUX_SOURCE names the source of Linux 7.3");
    let files = ["drivers/vfio/Kconfig", "drivers/vfio/pci/Kconfig", "drivers/iommu/iommufd/Kconfig"];
    let text = files.map(|file| std::fs::read_to_string(format!("{root}/{file}")).unwrap()).join("\n");
    let mut seen = BTreeSet::new();
    let mut lines = BTreeMap::<String, BTreeSet<String>>::new();
    let mut config = String::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("").trim();
        if let Some(name) = line.strip_prefix("config ").or(line.strip_prefix("menuconfig ")) {
            config = name.trim().to_string();
            seen.insert(config.clone());
        }
        if line.starts_with("menu ") {
            config.clear();
        }
        let kept = ["depends on ", "select ", "default "].iter().any(|word| line.starts_with(word));
        if kept {
            lines.entry(config.clone()).or_default().insert(line.to_string());
        }
    }
    let has = |config: &str, line: String| {
        let there = lines.get(config).is_some_and(|lines| lines.contains(&line));
        assert!(there, "config {config} has no line {line:?}: {:?}", lines.get(config));
    };
    for symbol in Symbol::ALL.into_iter().filter(|symbol| symbol.origin() != Origin::Given) {
        let Definition { name, depends, selected, default, .. } = symbol.definition();
        assert!(seen.contains(name), "there is no config {name}");
        // What `if` and `menu` around it make it depend on is not in its own lines.
        let around = |clause: &&Expression| {
            !matches!(clause, Expression::Is(Symbol::Vfio | Symbol::Iommufd | Symbol::Pci | Symbol::VfioPci))
        };
        if symbol != Symbol::VfioPciDmabuf {
            for clause in depends.iter().filter(around) {
                has(name, format!("depends on {clause}"));
            }
            for (by, condition) in selected {
                has(by.name(), format!("select {name} if {condition}"));
            }
            match default {
                Expression::Value(N) => {}
                default => has(name, format!("default {default}")),
            }
        }
        // And there is no other dependency.
        let own = lines.get(name).into_iter().flatten().filter(|line| line.starts_with("depends on")).count();
        assert_eq!(own, depends.iter().filter(around).count(), "{name}");
    }
    // Whoever selects one of ours is known.
    for (config, lines) in &lines {
        for line in lines.iter().filter_map(|line| line.strip_prefix("select ")) {
            let Some(symbol) = line.split_whitespace().next().and_then(Symbol::from_name) else { continue };
            if symbol.origin() != Origin::Given {
                let by = symbol.definition().selected.iter().any(|(by, _)| by.name() == config);
                assert!(by, "{config} selects {symbol}");
            }
        }
    }
}
