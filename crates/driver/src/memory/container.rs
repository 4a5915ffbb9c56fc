//! The address space of a container of VFIO: the program says at which IOVA memory is mapped.
#![forbid(unsafe_code)]

use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sys::{Memory, Sys, Tailed};
use uapi::Command;
use uapi::vfio::{VFIO_IOMMU_INFO_CAPS, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, VfioIommuType1Info};

use super::iovas::Iovas;
use crate::calls::Calls;
use crate::error::Attempt;
use crate::{DmaOptions, Error, Iova, Result};

/// What is assumed of kernels before 5.6, which do not tell: below the window for message-signalled interrupts of x86.
const UNTOLD: RangeInclusive<u64> = 0..=0xfedf_ffff;
/// Memory is placed by its size, but no more strictly than the page of an IOMMU that saves the most entries.
const STRICTEST: u64 = 2 << 20;

/// A container whose IOMMU has been chosen.
pub(crate) struct Container<S: Sys> {
    calls: Calls<S>,
    file: S::File,
    iovas: Mutex<Iovas>,
}

impl<S: Sys> Container<S> {
    /// Takes over a container, and asks which IOVAs it has.
    pub(crate) fn new(calls: &Calls<S>, file: S::File) -> Result<Self> {
        let ranges = ranges(calls, &file).attempt(|| "cannot ask a container for its IOVAs".to_owned())?;
        Ok(Container { calls: calls.clone(), file, iovas: Mutex::new(Iovas::new(ranges)) })
    }

    pub(super) fn map(&self, memory: &Memory, options: &DmaOptions) -> Result<Iova> {
        let length = memory.length() as u64;
        let alignment = length.next_power_of_two().min(options.boundary_or(STRICTEST));
        let iova = self
            .iovas()
            .take(length, alignment, options.highest())
            .map(Iova::new)
            .ok_or(Error::NoIova { length, bits: options.mask_bits })?;
        let mapped = self.calls.dma_map(&self.file, iova, memory);
        if mapped.is_err() {
            self.iovas().give_back(iova.get());
        }
        mapped.attempt(|| format!("cannot give the device {length} bytes at IOVA {iova}"))?;
        Ok(iova)
    }

    pub(super) fn unmap(&self, iova: Iova, length: usize) {
        // It is refused where the device has left the container: then nothing is mapped any more.
        if self.calls.dma_unmap(&self.file, iova, length as u64).is_ok() {
            self.iovas().give_back(iova.get());
        }
    }

    fn iovas(&self) -> MutexGuard<'_, Iovas> {
        self.iovas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The IOVAs that a container has, as the kernel tells in a capability behind the answer.
fn ranges<S: Sys>(calls: &Calls<S>, file: &S::File) -> sys::Result<Vec<RangeInclusive<u64>>> {
    let words = || "asked".to_owned();
    let mut answer = Tailed::new(VfioIommuType1Info::new(), 0);
    calls.ioctl_tailed(file, &mut answer, words)?;
    // The first answer tells how long the whole one is.
    let length = answer.head().argsz as usize;
    let tail = length.saturating_sub(size_of::<VfioIommuType1Info>());
    let head = VfioIommuType1Info { argsz: length as u32, ..VfioIommuType1Info::new() };
    let mut answer = Tailed::new(head, tail);
    calls.ioctl_tailed(file, &mut answer, words)?;
    let told = answer.head().flags & VFIO_IOMMU_INFO_CAPS != 0;
    let ranges = told.then(|| parse(answer.bytes(), answer.head().cap_offset as usize)).flatten();
    Ok(ranges.unwrap_or_else(|| vec![UNTOLD]))
}

/// Finds the IOVA ranges in a chain of capabilities; `at` is where the first one starts, each says where the next one does.
/// `None` if there are none, or the chain is broken.
fn parse(answer: &[u8], mut at: usize) -> Option<Vec<RangeInclusive<u64>>> {
    let u16_at = |at: usize| Some(u16::from_ne_bytes(*answer.get(at..)?.first_chunk()?));
    let u32_at = |at: usize| Some(u32::from_ne_bytes(*answer.get(at..)?.first_chunk()?));
    let u64_at = |at: usize| Some(u64::from_ne_bytes(*answer.get(at..)?.first_chunk()?));
    while at != 0 {
        let next = u32_at(at + 4)? as usize;
        if u32::from(u16_at(at)?) == VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE {
            let count = u32_at(at + 8)? as usize;
            let ranges = answer.get(at + 16..)?.len() / 16;
            let starts = (0..count.min(ranges)).map(|index| at + 16 + index * 16);
            return starts.map(|start| Some(u64_at(start)?..=u64_at(start + 8)?)).collect();
        }
        // The chain goes forward; one that goes back would never end.
        at = if next > at { next } else { 0 };
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::parse;

    /// A capability: its number, where the next one starts, what it holds.
    fn capability(id: u16, next: u32, body: &[u8]) -> Vec<u8> {
        [&id.to_ne_bytes()[..], &1_u16.to_ne_bytes(), &next.to_ne_bytes(), body].concat()
    }

    fn ranges(ranges: &[(u64, u64)]) -> Vec<u8> {
        let count = ranges.len() as u64;
        let words = ranges.iter().flat_map(|(first, last)| [*first, *last]);
        [count].into_iter().chain(words).flat_map(u64::to_ne_bytes).collect()
    }

    #[test]
    fn the_ranges_are_found_behind_other_capabilities() {
        let head = vec![0; 24];
        let other = capability(3, 24 + 12, &7_u32.to_ne_bytes());
        let wanted = capability(1, 0, &ranges(&[(0, 0xfedf_ffff), (0xfef0_0000, 0x7f_ffff_ffff)]));
        let answer = [head, other, wanted].concat();
        assert_eq!(parse(&answer, 24), Some(vec![0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff]));
        assert_eq!(parse(&answer, 0), None, "no capability");
        assert_eq!(parse(&answer[..36], 24), None, "the chain is cut off");
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic(bytes: Vec<u8>, at in 0_usize..64) {
            let _none = parse(&bytes, at);
        }
    }
}
