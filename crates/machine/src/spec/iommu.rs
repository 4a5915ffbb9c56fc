//! The IOMMU that a machine file asks for.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// The IOMMU of a machine: in the file `"none"`, `"translating"`, or a table of the properties of a translating one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Iommu {
    /// There is none: devices reach all of memory by physical address.
    #[default]
    None,
    /// One that translates, and confines each device behind it to what is mapped for it.
    Translating(IommuSpec),
}

/// The properties of a translating IOMMU. The defaults are those of QEMU's `intel-iommu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IommuSpec {
    /// How many bits an IOVA has: 39, 48 or 57.
    #[serde(deserialize_with = "address_width")]
    pub address_width: u8,
    /// Whether DMA is coherent with the caches of the CPU.
    pub coherent: bool,
    /// Whether it can keep devices from DMA that is not.
    pub snoop_control: bool,
    /// Whether it keeps devices from raising interrupts that are not theirs.
    pub interrupt_remapping: bool,
    /// Whether it can tell which pages were written.
    pub dirty_tracking: bool,
}

impl Default for IommuSpec {
    fn default() -> Self {
        IommuSpec {
            address_width: 39,
            coherent: true,
            snoop_control: false,
            interrupt_remapping: true,
            dirty_tracking: false,
        }
    }
}

fn address_width<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    match u8::deserialize(deserializer)? {
        bits @ (39 | 48 | 57) => Ok(bits),
        bits => Err(Error::custom(format_args!("address_width = {bits}: 39, 48 or 57 is needed"))),
    }
}

impl<'de> Deserialize<'de> for Iommu {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Iommu;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"none\", \"translating\", or a table of properties")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Iommu, E> {
                match name {
                    "none" => Ok(Iommu::None),
                    "translating" => Ok(Iommu::Translating(IommuSpec::default())),
                    _ => Err(E::invalid_value(Unexpected::Str(name), &self)),
                }
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Iommu, M::Error> {
                IommuSpec::deserialize(MapAccessDeserializer::new(map)).map(Iommu::Translating)
            }
        }

        deserializer.deserialize_any(Either)
    }
}
