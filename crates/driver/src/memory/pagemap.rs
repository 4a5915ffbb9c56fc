//! Physical addresses by `/proc/self/pagemap` (kernel document `admin-guide/mm/pagemap.rst`).
//!
//! Nothing pins this memory, so it has to be of a kind that the kernel leaves where it is: huge pages, which compaction passes
//! over. They move where an administrator has it done (memory taken offline, pages migrated by hand), and out of an area
//! that is set apart for contiguous memory (`cma=`) when that is needed: a host that lends such memory should not be driven in
//! these modes. Locking base pages keeps them from being swapped out, but not from being moved, so they are not taken.
#![forbid(unsafe_code)]

use std::path::Path;

use sys::{Access, Memory, PageSize, Sys};

use super::addresses::{Segment, join};
use crate::calls::Calls;
use crate::error::Attempt;
use crate::{DeviceAddr, Errno, Error, Result, UserVa};

const PATH: &str = "/proc/self/pagemap";
/// The bytes of an entry; there is one for each base page of the process.
const ENTRY: usize = 8;
const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;

/// Where the pages of this process are. What the kernel tells depends on the privileges that there were at the time
/// of opening.
pub(crate) struct Pagemap<S: Sys> {
    calls: Calls<S>,
    file: S::File,
}

impl<S: Sys> Pagemap<S> {
    /// The one kind of pages that stay where they are.
    pub(super) const PAGE_SIZE: PageSize = PageSize::Huge2M;

    pub(crate) fn open(calls: &Calls<S>) -> Result<Self> {
        let file = calls
            .open(Path::new(PATH), Access::Read)
            .attempt(|| "cannot open what tells physical addresses".to_owned())?;
        Ok(Pagemap { calls: calls.clone(), file })
    }

    pub(super) fn segments(&self, memory: &Memory) -> Result<Vec<Segment>> {
        let page = rustix::param::page_size();
        let start = memory.start().as_ptr() as usize;
        let mut entries = vec![0; memory.length() / page * ENTRY];
        let mut done = 0;
        while done < entries.len() {
            let at = (start / page * ENTRY + done) as u64;
            let count = self.calls.sys.pread(&self.file, &mut entries[done..], at);
            match count.attempt(|| format!("cannot learn where {} bytes are", memory.length()))? {
                0 => {
                    return Err(sys::Error::new("pread", PATH, Errno::EIO))
                        .attempt(|| "it ends early".to_owned());
                }
                count => done += count,
            }
        }
        let entries = entries.chunks_exact(ENTRY).map(|entry| {
            let mut bytes = [0; ENTRY];
            bytes.copy_from_slice(entry);
            u64::from_ne_bytes(bytes)
        });
        frames(entries, start, page)
    }
}

/// What entries say of the pages from `start` on.
fn frames(entries: impl Iterator<Item = u64>, start: usize, page: usize) -> Result<Vec<Segment>> {
    let segment = |(index, entry): (usize, u64)| {
        let hidden = |why| Error::Frame { at: UserVa::new((start + index * page) as u64), why };
        match entry & FRAME {
            _ if entry & PRESENT == 0 => Err(hidden("it is not present")),
            0 => Err(hidden(
                "the kernel shows frame number 0, as to those without CAP_SYS_ADMIN: the process needs this capability when \
                 it opens the device",
            )),
            frame => Ok(Segment { address: DeviceAddr::new(frame * page as u64), length: page }),
        }
    };
    let segments: Vec<Segment> = entries.enumerate().map(segment).collect::<Result<_>>()?;
    Ok(join(segments))
}

#[cfg(test)]
mod tests {
    use super::{Segment, frames};
    use crate::DeviceAddr;

    const PRESENT: u64 = 1 << 63;
    /// Bits that say other things: soft-dirty, exclusively mapped.
    const OTHERS: u64 = 1 << 55 | 1 << 56;

    #[test]
    fn pages_side_by_side_are_one_segment() {
        let entries = [0x10, 0x11, 0x13].map(|frame| frame | PRESENT | OTHERS);
        let segments = frames(entries.into_iter(), 0x7000_0000, 0x1000).unwrap();
        let at = |address, length| Segment { address: DeviceAddr::new(address), length };
        assert_eq!(segments, [at(0x1_0000, 0x2000), at(0x1_3000, 0x1000)]);
    }

    #[test]
    fn a_frame_that_is_hidden_names_the_capability() {
        let error =
            frames([0x10 | PRESENT, PRESENT].into_iter(), 0x7000_0000, 0x1000).unwrap_err().to_string();
        assert!(error.contains("0x70001000") && error.contains("CAP_SYS_ADMIN"), "{error}");
    }

    #[test]
    fn a_page_that_is_not_there_has_no_address() {
        let error = frames([0x10].into_iter(), 0x7000_0000, 0x1000).unwrap_err().to_string();
        assert!(error.contains("0x70000000") && error.contains("not present"), "{error}");
    }
}
