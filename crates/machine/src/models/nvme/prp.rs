//! Physical region pages: where the data of a command is in host memory (NVMe 1.4, section 4.3).

use super::status::Status;
use crate::dma::DmaPort;

/// A run of host memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) address: u64,
    pub(super) length: usize,
}

/// Resolves PRP entries. Its memory is kept from one command to the next.
#[derive(Debug)]
pub(super) struct Prp {
    page: u64,
    segments: Vec<Segment>,
    list: Vec<u8>,
}

impl Prp {
    /// For host pages of `page` bytes and transfers of up to `largest` bytes.
    pub(super) fn new(page: u64, largest: usize) -> Self {
        let entries = largest / page as usize + 1;
        let in_page = page as usize / size_of::<u64>();
        let list = vec![0; entries.min(in_page) * size_of::<u64>()];
        Prp { page, segments: Vec::with_capacity(entries), list }
    }

    /// The runs that `length` bytes (not 0, at most the largest transfer) lie in: neighbouring pages are one run.
    ///
    /// Nothing is transferred unless every entry is valid.
    pub(super) fn resolve(
        &mut self,
        dma: &mut DmaPort,
        [first, second]: [u64; 2],
        length: usize,
    ) -> Result<&[Segment], Status> {
        self.segments.clear();
        if !first.is_multiple_of(4) {
            return Err(Status::PRP_OFFSET_INVALID);
        }
        let in_first = length.min((self.page - self.offset(first)) as usize);
        self.segments.push(Segment { address: first, length: in_first });
        match length - in_first {
            0 => {}
            rest if rest as u64 <= self.page => {
                self.push_page(second, rest)?;
            }
            rest => self.walk_list(dma, second, rest)?,
        }
        Ok(&self.segments)
    }

    fn offset(&self, address: u64) -> u64 {
        address % self.page
    }

    /// Adds a page, or as much of it as is `rest`; returns what is left after it.
    fn push_page(&mut self, address: u64, rest: usize) -> Result<usize, Status> {
        if self.offset(address) != 0 {
            return Err(Status::PRP_OFFSET_INVALID);
        }
        let length = rest.min(self.page as usize);
        match self.segments.last_mut() {
            Some(last) if last.address.checked_add(last.length as u64) == Some(address) => {
                last.length += length
            }
            _ => self.segments.push(Segment { address, length }),
        }
        Ok(rest - length)
    }

    /// Follows a PRP list that describes `rest` bytes. The last entry of a page of the list leads to its next page, if
    /// more than that one entry is still needed.
    fn walk_list(&mut self, dma: &mut DmaPort, mut list: u64, mut rest: usize) -> Result<(), Status> {
        if !list.is_multiple_of(8) {
            return Err(Status::PRP_OFFSET_INVALID);
        }
        while rest > 0 {
            let room = (self.page - self.offset(list)) as usize / size_of::<u64>();
            let needed = rest.div_ceil(self.page as usize);
            let count = needed.min(room);
            self.read_list(dma, list, count)?;
            let pages = if needed > room { count - 1 } else { count };
            for index in 0..pages {
                rest = self.push_page(self.entry(index), rest)?;
            }
            if needed > room {
                list = self.entry(pages);
                if self.offset(list) != 0 {
                    return Err(Status::PRP_OFFSET_INVALID);
                }
            }
        }
        Ok(())
    }

    fn read_list(&mut self, dma: &mut DmaPort, list: u64, entries: usize) -> Result<(), Status> {
        let bytes = &mut self.list[..entries * size_of::<u64>()];
        dma.read(list, bytes).map_err(|_| Status::DATA_TRANSFER_ERROR)
    }

    fn entry(&self, index: usize) -> u64 {
        let (entries, _) = self.list.as_chunks::<8>();
        u64::from_le_bytes(entries[index])
    }
}

/// Copies `bytes` to host memory, which `segments` describe.
pub(super) fn to_host(dma: &mut DmaPort, segments: &[Segment], mut bytes: &[u8]) -> Result<(), Status> {
    for segment in segments {
        let (now, later) = bytes.split_at(segment.length.min(bytes.len()));
        dma.write(segment.address, now).map_err(|_| Status::DATA_TRANSFER_ERROR)?;
        bytes = later;
        if bytes.is_empty() {
            break;
        }
    }
    Ok(())
}

/// Copies host memory, which `segments` describe, to `bytes`.
pub(super) fn from_host(dma: &mut DmaPort, segments: &[Segment], mut bytes: &mut [u8]) -> Result<(), Status> {
    for segment in segments {
        let (now, later) = bytes.split_at_mut(segment.length.min(bytes.len()));
        dma.read(segment.address, now).map_err(|_| Status::DATA_TRANSFER_ERROR)?;
        bytes = later;
    }
    Ok(())
}
