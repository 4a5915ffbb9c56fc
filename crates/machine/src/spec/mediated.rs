//! Mediated devices of a machine file.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// A mediated device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MediatedSpec {
    /// What it is known by.
    pub uuid: Uuid,
    /// What it is.
    pub model: MediatedModel,
}

/// The model of a mediated device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediatedModel {
    /// It copies memory of its user.
    Copier,
}

/// A UUID, such as `83b8f4f2-509f-382f-3c1e-e6bfe0fa1001`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(u128);

/// Where the dashes are in its text.
const DASHES: [usize; 4] = [8, 13, 18, 23];

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", self.0);
        let (first, rest) = digits.split_at(8);
        write!(f, "{first}-{}-{}-{}-{}", &rest[..4], &rest[4..8], &rest[8..12], &rest[12..])
    }
}

impl FromStr for Uuid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| match byte {
                b'-' => DASHES.contains(&at),
                _ => byte.is_ascii_hexdigit() && !DASHES.contains(&at),
            });
        let number = u128::from_str_radix(&text.replace('-', ""), 16).ok().filter(|_| fits);
        number.map(Uuid).ok_or_else(|| {
            format!(
                "{text:?} is not a UUID: 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12 are needed, with dashes between them"
            )
        })
    }
}

impl<'de> Deserialize<'de> for Uuid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
