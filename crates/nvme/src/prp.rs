//! PRP entries: where the data of a command is (NVMe 1.4, section 4.3).

use crate::spec::PAGE;

/// Why data cannot be described by PRP entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrpError {
    /// More pages than one list holds.
    TooLong,
    /// The data does not start at a multiple of 4 bytes.
    Unaligned,
}

/// Entries in one page of a PRP list.
pub(crate) const LIST_ENTRIES: usize = PAGE / 8;

/// The most bytes that the two entries of a command and one list page describe, wherever the data starts.
pub(crate) const LONGEST: usize = LIST_ENTRIES * PAGE;

/// Describes `length` bytes that start `offset` bytes into a buffer: gives the command's two entries. A list,
/// where one is needed, is passed entry by entry to `list`, and stands at the device address `list_address`.
///
/// `page_address` gives the device address at an offset of the buffer. It is asked once for each page, since
/// no two pages need be neighbours.
pub(crate) fn describe(
    offset: usize,
    length: usize,
    page_address: impl Fn(usize) -> u64,
    list_address: u64,
    mut list: impl FnMut(usize, u64),
) -> Result<[u64; 2], PrpError> {
    let first = page_address(offset);
    if !first.is_multiple_of(4) {
        return Err(PrpError::Unaligned);
    }
    let in_first = PAGE - first as usize % PAGE;
    if length <= in_first {
        return Ok([first, 0]);
    }
    let second = offset + in_first;
    let rest = length - in_first;
    if rest <= PAGE {
        return Ok([first, page_address(second)]);
    }
    let pages = rest.div_ceil(PAGE);
    if pages > LIST_ENTRIES {
        return Err(PrpError::TooLong);
    }
    for page in 0..pages {
        list(page, page_address(second + page * PAGE));
    }
    Ok([first, list_address])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Pages somewhere, no two of them neighbours.
    fn scattered(base: usize) -> impl Fn(usize) -> u64 {
        move |offset| {
            let at = base + offset;
            ((at / PAGE) as u64 * 7919 % 65_521) << 14 | (at % PAGE) as u64
        }
    }

    /// What a controller makes of the entries: the device address of each byte, in runs of pages.
    fn follow(prp: [u64; 2], entries: &[u64], length: usize) -> Vec<u64> {
        let mut bytes = Vec::new();
        let mut take = |address: u64, left: usize| {
            let count = (PAGE - address as usize % PAGE).min(left);
            bytes.extend((0..count as u64).map(|byte| address + byte));
            left - count
        };
        let mut left = take(prp[0], length);
        if left > 0 && entries.is_empty() {
            left = take(prp[1], left);
        }
        for &entry in entries {
            left = take(entry, left);
        }
        assert_eq!(left, 0);
        bytes
    }

    proptest! {
        #[test]
        fn a_controller_finds_every_byte(
            base in 0..64_usize,
            offset in 0..9_000_usize,
            length in 1..40_000_usize,
        ) {
            let (base, offset) = (base * PAGE, offset * 4);
            let address = scattered(base);
            let mut entries = Vec::new();
            let prp = describe(offset, length, &address, 0xdead_0000, |index, entry| {
                assert_eq!(index, entries.len());
                entries.push(entry);
            }).expect("short enough");
            let expected: Vec<u64> = (offset..offset + length).map(&address).collect();
            prop_assert_eq!(follow(prp, &entries, length), expected);
            prop_assert_eq!(!entries.is_empty(), prp[1] == 0xdead_0000);
        }
    }

    #[test]
    fn what_no_list_holds_is_refused() {
        let address = scattered(0);
        assert_eq!(describe(0, LONGEST + PAGE + 1, &address, 0, |_, _| ()), Err(PrpError::TooLong));
        assert!(describe(4, LONGEST, &address, 0, |_, _| ()).is_ok());
        assert_eq!(describe(2, PAGE, &address, 0, |_, _| ()), Err(PrpError::Unaligned));
    }
}
