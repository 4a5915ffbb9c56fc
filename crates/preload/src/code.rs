//! Whether a piece of code makes system calls by itself.

use iced_x86::{Decoder, DecoderOptions, Instruction};

/// `syscall`
const INSTRUCTION: [u8; 2] = [0x0f, 0x05];

/// How far before the bytes of the instruction code is decoded from, in order to come upon them.
const BEFORE: usize = 128;
/// How many places there it is decoded from.
const STARTS: usize = 8;
/// The most bytes of an instruction.
const LONGEST: usize = 15;

/// Whether code has the instruction. Its bytes may be there by chance, in a constant or across two other instructions, and to catch the calls of
/// a program makes all of its calls slower.
pub(crate) fn makes_calls(code: &[u8]) -> bool {
    let mut from = 0;
    while let Some(found) = find(&code[from..]) {
        let at = from + found;
        if is_instruction(code, at) {
            return true;
        }
        from = at + 1;
    }
    false
}

fn find(code: &[u8]) -> Option<usize> {
    // SAFETY: both are slices.
    let found = unsafe {
        libc::memmem(code.as_ptr().cast(), code.len(), INSTRUCTION.as_ptr().cast(), INSTRUCTION.len())
    };
    (!found.is_null()).then(|| found.addr() - code.as_ptr().addr())
}

/// Whether the bytes at a place are an instruction. A decoder that begins in the middle of one falls into step after a few: it is let begin at
/// several places, and one that comes upon the bytes is enough.
fn is_instruction(code: &[u8], at: usize) -> bool {
    (0..STARTS).any(|start| {
        let (begin, end) = (at.saturating_sub(BEFORE + start), code.len().min(at + LONGEST));
        let mut decoder = Decoder::new(64, &code[begin..end], DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        while begin + decoder.position() < at {
            let before = decoder.position();
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() && decoder.set_position(before + 1).is_err() {
                return false;
            }
        }
        begin + decoder.position() == at
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_is_told_from_the_same_bytes_in_others() {
        let padded = |code: &[u8]| [&[0x90; 200], code, &[0xcc; 20]].concat();
        let getpid = [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3];
        let constant = [0xb8, 0x0f, 0x05, 0, 0, 0xc3]; // mov eax, 0x50f
        let across = [0x83, 0xc0, 0x0f, 0x05, 1, 0, 0, 0, 0xc3]; // add eax, 15; add eax, 1
        assert!(makes_calls(&getpid), "at the beginning");
        assert!(makes_calls(&padded(&getpid)));
        assert!(makes_calls(&[padded(&constant), padded(&getpid)].concat()), "behind others");
        for other in [&constant[..], &across, &[0x90]] {
            assert!(!makes_calls(&padded(other)), "{other:02x?}");
        }
        assert!(!makes_calls(&[]) && !makes_calls(&[0x90, 0x0f]));
    }
}
