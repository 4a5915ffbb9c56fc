//! What came of a call, without what must differ from system to system.

use std::fmt;

use sys::Rule;
use uapi::Errno;
use uapi::table::Field;

use crate::arena::PAGE;
use crate::command::{Command, Known};

/// What came of a call.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub(crate) answer: Result<u64, Errno>,
    /// What else is to be seen: fields that changed, bytes that were read.
    pub(crate) seen: Vec<String>,
    /// The rule that the system named, if it names rules. Not compared.
    pub(crate) rule: Option<Rule>,
}

impl PartialEq for Outcome {
    fn eq(&self, other: &Self) -> bool {
        (self.answer, &self.seen) == (other.answer, &other.seen)
    }
}

impl Outcome {
    /// Whether the call was refused.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.answer.is_err()
    }

    pub(crate) fn of<T: Into<u64>>(result: sys::Result<T>) -> Self {
        let rule = result.as_ref().err().and_then(sys::Error::rule);
        Outcome { answer: result.map(Into::into).map_err(|error| error.errno()), seen: Vec::new(), rule }
    }

    #[must_use]
    pub(crate) fn with(mut self, seen: impl IntoIterator<Item = String>) -> Self {
        self.seen.extend(seen);
        self
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.answer {
            Ok(value) => write!(f, "{value}")?,
            Err(errno) => write!(f, "{errno:?}")?,
        }
        for seen in &self.seen {
            write!(f, " {seen}")?;
        }
        if let Some(rule) = self.rule {
            write!(f, " [{}]", rule.name)?;
        }
        Ok(())
    }
}

/// Physical pages by the order in which they were first seen: what two systems have in common of them.
#[derive(Debug, Default)]
pub(crate) struct Renaming(Vec<u64>);

impl Renaming {
    fn name(&mut self, address: u64) -> String {
        let page = address / PAGE;
        let known = self.0.iter().position(|other| *other == page);
        let number = known.unwrap_or_else(|| {
            self.0.push(page);
            self.0.len() - 1
        });
        format!("page{number}+{:#x}", address % PAGE)
    }
}

/// What a call changed in its argument.
pub(crate) fn changes(
    command: Command,
    before: &[u8],
    after: &[u8],
    renaming: &mut Renaming,
) -> impl Iterator<Item = String> {
    let known = match command {
        Command::Known(known) => known.fields,
        Command::Number(_) => &[],
    };
    let size = match command {
        Command::Known(Known { size, .. }) => *size,
        Command::Number(_) => 0,
    };
    let mut seen = Vec::new();
    for Field { name, offset, size } in known {
        let range = *offset..offset + size;
        let (Some(old), Some(new)) = (before.get(range.clone()), after.get(range)) else { continue };
        if old != new {
            seen.extend(change(command.name(), name, old, new, renaming));
        }
    }
    let tail = |bytes: &[u8]| bytes.get(size..).unwrap_or_default().to_vec();
    if tail(before) != tail(after) {
        seen.push(format!("tail={}", hex(&tail(after))));
    }
    seen.into_iter()
}

fn change(command: &str, field: &str, old: &[u8], new: &[u8], renaming: &mut Renaming) -> Option<String> {
    let value = match (command, field) {
        // The descriptor is the next one that is free.
        ("IOMMU_FAULT_QUEUE_ALLOC", "out_fault_fd") => return None,
        ("IOMMU_IOAS_NOIOMMU_GET_PA", "out_phys") => renaming.name(word(new)?),
        // How far memory is contiguous is the host's affair; that it is not more than was asked for is not.
        ("IOMMU_IOAS_NOIOMMU_GET_PA", "length") if (1..=word(old)?).contains(&word(new)?) => return None,
        _ => word(new).map_or_else(|| hex(new), |word| format!("{word:#x}")),
    };
    Some(format!("{field}={value}"))
}

fn word(bytes: &[u8]) -> Option<u64> {
    let mut word = [0; 8];
    word.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(u64::from_ne_bytes(word))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
