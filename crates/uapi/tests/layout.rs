//! Holds every structure, number and constant against what a C program measured on Linux 7.3.4.
//!
//! Both directions are tested: what the tables have, the crate has, and the other way round. Nothing
//! of the tables is left out.

use std::collections::{BTreeMap, BTreeSet};

use uapi::table;

const LAYOUT: &str = include_str!("uapi-layout.tsv");
const CONSTANTS: &str = include_str!("uapi-constants.tsv");

/// Members of C unions that share their place with another: structure, member, our field.
const UNIONS: &[(&str, &str, &str)] = &[
    ("vfio_pci_dependent_device", "group_id", "devid"),
    ("vfio_device_gfx_plane_info", "dmabuf_id", "region_index"),
    ("iommu_hw_info", "in_data_type", "out_data_type"),
];

/// Padding that the C compiler adds and that we name: structure, our field.
const PADDING: &[(&str, &str)] = &[
    ("vfio_iommu_type1_info_cap_migration", "pad"),
    ("vfio_eeh_pe_op", "pad"),
    ("iommu_test_cmd", "pad"),
    ("iommu_test_check_refs", "pad"),
    ("iommu_test_access_rw", "pad"),
    ("iommu_test_dirty", "pad"),
];

/// The rows of a table that are of one kind, without the kind.
fn rows(table: &'static str, kind: &str) -> Vec<Vec<&'static str>> {
    table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter(|columns| columns[0] == kind)
        .map(|columns| columns[1..].to_vec())
        .collect()
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.strip_prefix("0x").expect("a hexadecimal number"), 16).expect("a number")
}

/// `VfioIommuType1Info` to `vfio_iommu_type1_info`.
fn c_struct_name(rust: &str) -> String {
    let mut name = String::new();
    for character in rust.chars() {
        if character.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(character.to_ascii_lowercase());
    }
    name
}

/// The field that holds a member of a C structure.
fn field_name(structure: &str, member: &str) -> String {
    if let Some(&(_, _, field)) = UNIONS.iter().find(|&&(s, m, _)| (s, m) == (structure, member)) {
        return field.to_owned();
    }
    match member.trim_start_matches('_') {
        "type" => "type_".to_owned(),
        name => name.to_owned(),
    }
}

fn our_structs() -> BTreeMap<String, &'static table::Struct> {
    let list: Vec<_> = table::structs().collect();
    let map: BTreeMap<_, _> = list.iter().map(|s| (c_struct_name(s.name), *s)).collect();
    assert_eq!(map.len(), list.len(), "a structure is listed twice");
    map
}

fn our_constants() -> BTreeMap<&'static str, &'static table::Constant> {
    let list: Vec<_> = table::constants().collect();
    let map: BTreeMap<_, _> = list.iter().map(|c| (c.name, *c)).collect();
    assert_eq!(map.len(), list.len(), "a constant is listed twice");
    map
}

#[test]
fn every_structure_has_the_size_of_c() {
    let ours = our_structs();
    let theirs = rows(LAYOUT, "struct");
    for row in &theirs {
        let &[_, name, size] = row.as_slice() else { panic!("{row:?}") };
        let structure = ours.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(structure.size, size.parse::<usize>().unwrap(), "size of {name}");
    }
    let known: BTreeSet<_> = theirs.iter().map(|row| row[1]).collect();
    for name in ours.keys() {
        assert!(known.contains(name.as_str()), "{name} is not in C");
    }
    // The tables were not cut short.
    assert_eq!(ours.len(), 117);
}

#[test]
fn every_field_lies_where_c_has_it() {
    let ours = our_structs();
    let mut matched = BTreeSet::new();
    for row in rows(LAYOUT, "field") {
        let &[structure, member, offset, size] = row.as_slice() else { panic!("{row:?}") };
        let name = field_name(structure, member);
        let field = ours[structure]
            .fields
            .iter()
            .find(|field| field.name == name)
            .unwrap_or_else(|| panic!("{structure}.{member} is missing"));
        assert_eq!(field.offset, offset.parse::<usize>().unwrap(), "offset of {structure}.{member}");
        assert_eq!(field.size, size.parse::<usize>().unwrap(), "size of {structure}.{member}");
        matched.insert((structure, name));
    }
    for (structure, layout) in &ours {
        for field in layout.fields {
            let padding = PADDING.contains(&(structure, field.name));
            let in_c = matched.contains(&(structure.as_str(), field.name.to_owned()));
            assert!(padding != in_c, "{structure}.{} is not in C", field.name);
        }
    }
}

#[test]
fn fields_leave_no_gaps() {
    for structure in table::structs() {
        let mut end = 0;
        for field in structure.fields {
            assert_eq!(field.offset, end, "{}.{}", structure.name, field.name);
            end += field.size;
        }
        assert_eq!(end, structure.size, "{}", structure.name);
    }
}

#[test]
fn every_number_has_the_value_of_c() {
    let ours = our_constants();
    let mut theirs = rows(LAYOUT, "ioctl");
    assert_eq!(theirs.len(), 56);
    theirs.extend(rows(CONSTANTS, "const"));
    for row in &theirs {
        let &[_, name, value] = row.as_slice() else { panic!("{row:?}") };
        let constant = ours.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        let value = hex(value);
        let expected = match constant.bits {
            64 => value,
            // A negative int of C is widened with ones in the table, with zeros here.
            32 if value >> 31 == u64::MAX >> 31 => value & u64::from(u32::MAX),
            32 => value,
            bits => panic!("{name} has {bits} bits"),
        };
        assert_eq!(constant.value, expected, "{name}");
    }
    let known: BTreeSet<_> = theirs.iter().map(|row| row[1]).collect();
    for name in ours.keys() {
        assert!(known.contains(name), "{name} is not in C");
    }
}

#[test]
fn every_text_is_that_of_c() {
    let ours: BTreeMap<_, _> = table::texts().map(|text| (text.name, text.value)).collect();
    let theirs: BTreeMap<_, _> = rows(CONSTANTS, "text").iter().map(|row| (row[1], row[2])).collect();
    assert_eq!(ours, theirs);
}

#[test]
fn every_row_of_the_tables_is_of_a_known_kind() {
    let known = ["struct", "field", "ioctl", "const", "text"];
    for line in LAYOUT.lines().chain(CONSTANTS.lines()).filter(|line| !line.starts_with('#')) {
        let kind = line.split('\t').next().unwrap();
        assert!(known.contains(&kind), "{line}");
    }
}
