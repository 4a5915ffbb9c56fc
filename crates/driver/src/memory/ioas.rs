//! An I/O address space of IOMMUFD (kernel document `userspace-api/iommufd.rst`).
#![forbid(unsafe_code)]

use sys::{Memory, Sys};
use uapi::Command;
use uapi::iommufd::{IommuDestroy, IommuIoasAlloc};

use super::addresses::{Segment, join};
use crate::calls::Calls;
use crate::error::Attempt;
use crate::translate::Translator;
use crate::{Error, Iova, Result};

/// An IOAS, destroyed when it is dropped.
pub(crate) struct Ioas<S: Sys> {
    calls: Calls<S>,
    iommufd: S::File,
    id: u32,
    translation: Translation,
}

/// What makes device addresses of IOVAs.
pub(crate) enum Translation {
    /// An IOMMU: the device is told IOVAs.
    Iommu,
    /// Nothing does; the kernel tells what is behind them.
    Kernel,
    /// The same, but this process may not ask.
    Translator(Translator),
}

impl<S: Sys> Ioas<S> {
    /// Makes one in a context.
    pub(crate) fn new(calls: &Calls<S>, iommufd: S::File, translation: Translation) -> Result<Self> {
        let made = calls
            .ioctl(&iommufd, IommuIoasAlloc::new(), |done| format!("IOAS {}", done.out_ioas_id))
            .attempt(|| "cannot make an address space".to_owned())?;
        Ok(Ioas { calls: calls.clone(), iommufd, id: made.out_ioas_id, translation })
    }

    /// Its identifier in the context.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn map(&self, memory: &Memory) -> Result<Iova> {
        self.calls
            .ioas_map(&self.iommufd, self.id, memory)
            .attempt(|| format!("cannot give the device {} bytes", memory.length()))
    }

    /// What the device is to be told: the IOVA, or the physical addresses behind it, one after the other.
    pub(super) fn segments(&self, iova: Iova, length: usize) -> Result<Vec<Segment>> {
        let mut pieces = Vec::new();
        let mut done = 0;
        while done < length {
            let at = Iova::new(iova.get() + done as u64);
            let left = (length - done) as u64;
            let answer = match &self.translation {
                Translation::Iommu => return Ok(vec![Segment { address: iova.into(), length }]),
                Translation::Kernel => self.calls.physical(&self.iommufd, self.id, at, left),
                Translation::Translator(translator) => self.calls.translated(translator, self.id, at, left),
            };
            let (address, run) =
                answer.attempt(|| format!("cannot learn the physical address of IOVA {at}"))?;
            // A run of nothing would keep this going for ever; one too long would go past the end.
            let run = (run as usize).min(length - done);
            if run == 0 || !run.is_multiple_of(4096) {
                let what = format!(
                    "the kernel gave {run} bytes at {address} for IOVA {at}, which are no whole pages"
                );
                return Err(Error::Argument(what));
            }
            pieces.push(Segment { address: address.into(), length: run });
            done += run;
        }
        Ok(join(pieces))
    }

    pub(super) fn unmap(&self, iova: Iova, length: usize) {
        // Where it is refused the pages stay pinned: the process loses its mapping of them, and nobody else gets them.
        let _pinned = self.calls.ioas_unmap(&self.iommufd, self.id, iova, length as u64);
    }
}

impl<S: Sys> Drop for Ioas<S> {
    fn drop(&mut self) {
        // The context can be shared with others, so that closing it may not be enough. A device that somebody else
        // attached keeps it; there is nothing to be done about that here.
        let argument = IommuDestroy { id: self.id, ..IommuDestroy::new() };
        let _kept = self.calls.ioctl(&self.iommufd, argument, |_| "destroyed".to_owned());
    }
}
