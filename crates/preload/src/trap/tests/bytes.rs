//! Whatever the bytes of an instruction are, it is carried out or refused, and a refusal leaves the registers alone.

use std::mem;

use sys::Width;

use crate::trap::xsave::FXSAVE;
use crate::trap::{Bus, Emulator, Failure, Revoked};

/// Bytes with which many instructions begin.
const STARTS: [u8; 16] =
    [0x0f, 0x0f, 0x0f, 0x48, 0x4c, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0xc4, 0xc5, 0x62, 0x64, 0x8f, 0xf7];

/// All addresses trap: nothing that is written reaches memory. Those of the instruction have its bytes.
struct Everything {
    code: [u8; 16],
}

const CODE: u64 = 0x7000_0000_0000;

impl Bus for Everything {
    fn covers(&self, _: u64) -> bool {
        true
    }

    fn read(&self, address: u64, width: Width) -> Result<u64, Revoked> {
        let byte = |address: u64| match address.wrapping_sub(CODE) {
            offset @ 0..16 => self.code[offset as usize],
            _ => (address >> 3 ^ address) as u8,
        };
        let mut value = [0; 8];
        for (index, to) in value[..width.bytes()].iter_mut().enumerate() {
            *to = byte(address.wrapping_add(index as u64));
        }
        Ok(u64::from_le_bytes(value))
    }

    fn write(&self, _: u64, _: Width, _: u64) -> Result<(), Revoked> {
        Ok(())
    }
}

fn numbers(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

#[test]
fn any_bytes_are_carried_out_or_refused() {
    let emulator = Emulator::new();
    let mut next = numbers(0x9e37_79b9_7f4a_7c15);
    let (mut done, mut refused) = (0, 0);
    for _ in 0..100_000 {
        let mut code = [0; 16];
        code[..8].copy_from_slice(&next().to_le_bytes());
        code[8..].copy_from_slice(&next().to_le_bytes());
        let starts = next() as usize % 4;
        code[..starts].iter_mut().for_each(|byte| *byte = STARTS[next() as usize % STARTS.len()]);

        let mut area = [0_u8; FXSAVE];
        // SAFETY: zeros are a context.
        let mut context: libc::ucontext_t = unsafe { mem::zeroed() };
        context.uc_mcontext.gregs = std::array::from_fn(|_| next() as i64 >> (next() % 64));
        context.uc_mcontext.gregs[libc::REG_RIP as usize] = CODE as i64;
        context.uc_mcontext.fpregs = area.as_mut_ptr().cast();
        let before = context.uc_mcontext.gregs;
        // SAFETY: the area is a copy of one without registers behind the oldest, and no memory is written to.
        let outcome = unsafe { emulator.carry_out(&mut context, &Everything { code }) };
        match outcome {
            Ok(()) => {
                done += 1;
                let length = context.uc_mcontext.gregs[libc::REG_RIP as usize] - CODE as i64;
                // A long string comes back.
                assert!((0..16).contains(&length), "{code:02x?}: {length} bytes");
            }
            Err(Failure::Unsupported(_)) => {
                refused += 1;
                assert_eq!(context.uc_mcontext.gregs, before, "{code:02x?}");
            }
            Err(failure) => panic!("{code:02x?}: {failure:?}"),
        }
    }
    assert!(done > 10_000 && refused > 10_000, "{done} carried out, {refused} refused");
}
