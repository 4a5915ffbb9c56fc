//! `docs/no-iommu.md`: its commands run, and its tables are what the code says. `UPDATE_DOCS=1` writes the tables anew.

use std::fmt::Write;
use std::path::Path;

use subsystem::Refusal;
use subsystem::rules::{iommufd, vfio};

use crate::common::*;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/no-iommu.md");

/// The calls of the main path, and the rules that each may break, by the beginning of their names.
const CALLS: [(&str, &[Refusal], &[&str]); 8] = [
    ("open of the device", vfio::ALL, &["open."]),
    ("`VFIO_DEVICE_BIND_IOMMUFD`", vfio::ALL, &["bind."]),
    ("`IOMMU_IOAS_ALLOC`", iommufd::ALL, &["ioas-alloc."]),
    ("`VFIO_DEVICE_ATTACH_IOMMUFD_PT`", vfio::ALL, &["attach."]),
    ("`IOMMU_IOAS_MAP`", iommufd::ALL, &["map.", "pin."]),
    ("`IOMMU_IOAS_NOIOMMU_GET_PA`", iommufd::ALL, &["get-pa."]),
    ("`IOMMU_IOAS_UNMAP`", iommufd::ALL, &["unmap."]),
    ("`VFIO_DEVICE_DETACH_IOMMUFD_PT`", vfio::ALL, &["detach."]),
];

fn page() -> String {
    std::fs::read_to_string(PAGE).unwrap()
}

/// What is between the marks of a table is this.
fn holds(table: &str, expected: &str) {
    let page = page();
    let begin = format!("<!-- {table} -->\n");
    let start = page.find(&begin).expect("the mark") + begin.len();
    let end = start + page[start..].find("<!-- end -->").expect("the end");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, [&page[..start], expected, &page[end..]].concat()).unwrap();
        return;
    }
    assert_eq!(&page[start..end], expected, "run this test with UPDATE_DOCS=1");
}

/// The blocks of a language.
fn blocks(language: &str) -> Vec<String> {
    let page = page();
    let begin = format!("```{language}\n");
    let parts = page.split(&begin).skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_tables_are_those_of_the_code() {
    let matrix = succeed(ioasis().arg("kconfig")).text().to_owned();
    let matrix = matrix.split("\n\n").next().unwrap();
    holds("matrix", &format!("```text\n{matrix}\n```\n"));
    let mut refusals =
        String::from("| call | errno | rule | what has to be so |\n| --- | --- | --- | --- |\n");
    for (call, rules, names) in CALLS {
        let rules = rules.iter().map(|refusal| refusal.rule());
        let rules: Vec<_> =
            rules.filter(|rule| names.iter().any(|name| rule.name.starts_with(name))).collect();
        assert!(!rules.is_empty(), "{call}");
        for rule in rules {
            writeln!(refusals, "| {call} | {} | `{}` | {} |", rule.errno, rule.name, rule.sentence).unwrap();
        }
    }
    holds("refusals", &refusals);
}

#[test]
fn the_commands_run() {
    let [machine] = &blocks("toml")[..] else { panic!("one machine") };
    let machine = Machine::file(machine);
    let commands: Vec<String> = blocks("console")
        .iter()
        .flat_map(|block| block.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned))
        .collect();
    assert!(commands.len() >= 7, "{commands:?}");
    for command in commands {
        let mut words = command.split_whitespace();
        assert_eq!(words.next(), Some("ioasis"), "{command}");
        let outcome = run(ioasis().current_dir(machine.folder.path()).args(words));
        assert!(outcome.status.success(), "{command}: {}", outcome.stderr);
    }
    assert_eq!(std::fs::metadata(machine.path("copy.img")).unwrap().len(), 4 << 20);
}

#[test]
fn its_links_lead_somewhere() {
    for link in page().split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(Path::new(PAGE).with_file_name(link).exists(), "{link}");
    }
}
