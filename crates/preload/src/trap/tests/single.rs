//! What a device sees of an instruction, and what becomes of one that cannot be carried out.

use std::cell::{Cell, RefCell};
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};

use sys::Width;

use super::processor::Processor;
use crate::trap::stack::{Nested, Stacks};
use crate::trap::xsave::{FXSAVE, Layout, Vectors};
use crate::trap::{Bus, Emulator, Failure, Revoked};
use sys::guarded;

/// Where the registers of the device are: an address that no program has.
const DEVICE: u64 = 0x6000_0000_0000;

/// Two trapped pages that remember their accesses. Each byte reads as the lower half of its address.
#[derive(Default)]
struct Device {
    accesses: RefCell<Vec<(char, u64, usize)>>,
    /// Accesses from this offset on are refused.
    revoked: Option<u64>,
}

impl Device {
    fn access(&self, kind: char, address: u64, width: Width) -> Result<(), Revoked> {
        let offset = address - DEVICE;
        if self.revoked.is_some_and(|revoked| offset >= revoked) {
            return Err(Revoked);
        }
        self.accesses.borrow_mut().push((kind, offset, width.bytes()));
        Ok(())
    }
}

impl Bus for Device {
    fn covers(&self, address: u64) -> bool {
        (DEVICE..DEVICE + 2 * 4096).contains(&address)
    }

    fn read(&self, address: u64, width: Width) -> Result<u64, Revoked> {
        self.access('r', address, width)?;
        let bytes: [u8; 8] =
            std::array::from_fn(|index| if index < width.bytes() { address as u8 + index as u8 } else { 0 });
        Ok(u64::from_le_bytes(bytes))
    }

    fn write(&self, address: u64, width: Width, _: u64) -> Result<(), Revoked> {
        self.access('w', address, width)
    }
}

/// A program that is about to execute an instruction.
struct Program {
    code: [u8; 15],
    area: [u8; FXSAVE],
    context: libc::ucontext_t,
}

impl Program {
    fn new(instruction: &[u8], registers: &[(i32, u64)]) -> Self {
        let mut code = [0x90; 15];
        code[..instruction.len()].copy_from_slice(instruction);
        // SAFETY: zeros are a context.
        let mut context: libc::ucontext_t = unsafe { mem::zeroed() };
        for (register, value) in registers {
            context.uc_mcontext.gregs[*register as usize] = *value as i64;
        }
        Program { code, area: [0; FXSAVE], context }
    }

    fn run(&mut self, device: &Device) -> Result<(), Failure> {
        self.context.uc_mcontext.gregs[libc::REG_RIP as usize] = self.code.as_ptr() as i64;
        self.context.uc_mcontext.fpregs = self.area.as_mut_ptr().cast();
        // SAFETY: what a context points to is there. Instructions of the tests write to the device, or to memory of the tests.
        unsafe { Emulator::new().carry_out(&mut self.context, device) }
    }

    fn register(&self, register: i32) -> u64 {
        self.context.uc_mcontext.gregs[register as usize] as u64
    }

    /// How many bytes RIP has moved.
    fn advanced(&self) -> u64 {
        self.register(libc::REG_RIP) - self.code.as_ptr() as u64
    }
}

#[track_caller]
fn accesses(instruction: &[u8], registers: &[(i32, u64)], expected: &[(char, u64, usize)]) {
    let (mut program, device) = (Program::new(instruction, registers), Device::default());
    assert_eq!(program.run(&device), Ok(()));
    assert_eq!(*device.accesses.borrow(), expected);
    assert_eq!(program.advanced(), instruction.len() as u64);
}

#[test]
fn an_access_is_made_in_aligned_pieces() {
    let at = |offset| [(libc::REG_RBX, DEVICE + offset)];
    let mov32 = [0x8b, 0x03]; // mov eax, [rbx]
    accesses(&mov32, &at(8), &[('r', 8, 4)]);
    accesses(&mov32, &at(10), &[('r', 10, 2), ('r', 12, 2)]);
    accesses(&mov32, &at(4095), &[('r', 4095, 1), ('r', 4096, 2), ('r', 4098, 1)]);
    let mov64 = [0x48, 0x89, 0x03]; // mov [rbx], rax
    accesses(&mov64, &at(16), &[('w', 16, 8)]);
    accesses(&mov64, &at(4), &[('w', 4, 4), ('w', 8, 4)]);
    let movups = [0x0f, 0x11, 0x03]; // movups [rbx], xmm0
    accesses(&movups, &at(0), &[('w', 0, 8), ('w', 8, 8)]);
    accesses(&movups, &at(4), &[('w', 4, 4), ('w', 8, 8), ('w', 16, 4)]);
}

#[test]
fn what_reads_and_writes_makes_one_access_of_each() {
    let at = [(libc::REG_RBX, DEVICE)];
    accesses(&[0xf0, 0x01, 0x03], &at, &[('r', 0, 4), ('w', 0, 4)]); // lock add [rbx], eax
    accesses(&[0x87, 0x03], &at, &[('r', 0, 4), ('w', 0, 4)]); // xchg [rbx], eax
    accesses(&[0x39, 0x03], &at, &[('r', 0, 4)]); // cmp [rbx], eax
    // lock cmpxchg [rbx], ecx: writes though what it finds is not what is in EAX.
    accesses(&[0xf0, 0x0f, 0xb1, 0x0b], &at, &[('r', 0, 4), ('w', 0, 4)]);
    // cmovb eax, [rbx]: reads though the condition does not hold.
    accesses(&[0x0f, 0x42, 0x03], &at, &[('r', 0, 4)]);
    // bts [rbx], eax: the bit is in another word.
    accesses(
        &[0x0f, 0xab, 0x03],
        &[(libc::REG_RBX, DEVICE), (libc::REG_RAX, 70)],
        &[('r', 8, 4), ('w', 8, 4)],
    );
}

#[test]
fn a_refused_access_leaves_the_registers() {
    let device = Device { revoked: Some(0), ..Device::default() };
    let mut program = Program::new(&[0x8b, 0x03], &[(libc::REG_RBX, DEVICE + 4), (libc::REG_RAX, 7)]);
    assert_eq!(program.run(&device), Err(Failure::Revoked { address: DEVICE + 4 }));
    assert_eq!((program.register(libc::REG_RAX), program.advanced()), (7, 0));

    // pop [rbx]: the stack pointer, too.
    let word = [5_u64];
    let device = Device { revoked: Some(0), ..Device::default() };
    let stack = word.as_ptr() as u64;
    let mut program = Program::new(&[0x8f, 0x03], &[(libc::REG_RBX, DEVICE), (libc::REG_RSP, stack)]);
    assert_eq!(program.run(&device), Err(Failure::Revoked { address: DEVICE }));
    assert_eq!(program.register(libc::REG_RSP), stack);
}

#[test]
fn a_string_that_is_refused_has_done_what_came_before() {
    let mut bytes = [0_u8; 64];
    let device = Device { revoked: Some(24), ..Device::default() };
    let to = bytes.as_mut_ptr() as u64;
    let registers = [(libc::REG_RSI, DEVICE), (libc::REG_RDI, to), (libc::REG_RCX, 16)];
    let mut program = Program::new(&[0xf3, 0xa5], &registers); // rep movsd
    assert_eq!(program.run(&device), Err(Failure::Revoked { address: DEVICE + 24 }));
    let now = [libc::REG_RSI, libc::REG_RDI, libc::REG_RCX].map(|register| program.register(register));
    assert_eq!(now, [DEVICE + 24, to + 24, 10]);
    assert_eq!(program.advanced(), 0);
    assert!(bytes.iter().take(24).zip(0..).all(|(byte, index)| *byte == index));
    assert!(bytes.iter().skip(24).all(|byte| *byte == 0));
}

#[test]
fn a_string_into_memory_that_is_not_there_is_a_fault() {
    let processor = Processor::new(); // for its handler of SIGSEGV
    let end = processor.memory() + 4096;
    processor.take_access_of_second_page();
    let device = Device::default();
    let registers = [(libc::REG_RSI, DEVICE), (libc::REG_RDI, end - 16), (libc::REG_RCX, 8)];
    let mut program = Program::new(&[0xf3, 0x48, 0xa5], &registers); // rep movsq
    assert_eq!(program.run(&device), Err(Failure::Fault { address: end, write: true }));
    assert_eq!((program.register(libc::REG_RCX), program.register(libc::REG_RDI)), (6, end));
}

#[test]
fn a_long_string_comes_back_for_the_rest() {
    let mut bytes = vec![0_u8; 6000];
    let device = Device::default();
    let registers =
        [(libc::REG_RSI, DEVICE), (libc::REG_RDI, bytes.as_mut_ptr() as u64), (libc::REG_RCX, 6000)];
    let mut program = Program::new(&[0xf3, 0xa4], &registers); // rep movsb
    assert_eq!(program.run(&device), Ok(()));
    assert_eq!((program.register(libc::REG_RCX), program.advanced()), (6000 - 4096, 0));
    assert_eq!(program.run(&device), Ok(()));
    assert_eq!((program.register(libc::REG_RCX), program.advanced()), (0, 2));
    assert_eq!(device.accesses.borrow().len(), 6000);
}

#[test]
fn what_is_not_handled_is_named() {
    for (instruction, name) in [
        (&[0x0f, 0xae, 0x3b][..], "0f ae 3b Clflush"),
        (&[0x66, 0x0f, 0xfe, 0x03], "66 0f fe 03 Paddd"),
        (&[0x0f, 0x6f, 0x03], "0f 6f 03 Movq"), // of MMX
        (&[0x64, 0x8b, 0x03], "64 8b 03 Mov"),  // fs:
        (&[0xf3, 0x67, 0xa4], "f3 67 a4 Movsb"),
        (&[0x8e, 0x1b], "8e 1b Mov"), // mov ds, [rbx]
        (&[0xf7, 0x33], "f7 33 Div"),
        (&[0x6c], "6c Insb"),
    ] {
        let device = Device::default();
        let mut program = Program::new(instruction, &[(libc::REG_RBX, DEVICE), (libc::REG_RCX, 1)]);
        let Err(Failure::Unsupported(unsupported)) = program.run(&device) else {
            panic!("{name} is not handled")
        };
        assert_eq!(unsupported.bytes(), instruction);
        assert!(unsupported.to_string().contains(&format!("({name})")), "{unsupported}");
        assert_eq!((program.advanced(), device.accesses.borrow().len()), (0, 0), "{name}");
    }
}

#[test]
fn an_instruction_at_the_end_of_a_page_is_read_no_further() {
    let processor = Processor::new(); // for its handler of SIGSEGV
    let mut bytes = [0x90; Processor::MEMORY];
    bytes[4094..4096].copy_from_slice(&[0x8b, 0x03]); // mov eax, [rbx]
    processor.set_memory(&bytes);
    processor.take_access_of_second_page();
    let rip = processor.memory() + 4094;
    let device = Device::default();
    let mut program = Program::new(&[], &[(libc::REG_RBX, DEVICE), (libc::REG_RIP, rip)]);
    program.context.uc_mcontext.fpregs = program.area.as_mut_ptr().cast();
    // SAFETY: as in `Program::run`.
    let outcome = unsafe { Emulator::new().carry_out(&mut program.context, &device) };
    assert_eq!((outcome, program.register(libc::REG_RAX)), (Ok(()), 0x0302_0100));
    assert_eq!(program.register(libc::REG_RIP), rip + 2);
}

#[test]
fn a_guarded_copy_ends_where_memory_ends() {
    let processor = Processor::new(); // for its handler
    let end = processor.memory() + 4096;
    processor.take_access_of_second_page();
    let mut bytes = [1; 100];
    // SAFETY: the handler recovers.
    let read = |address, bytes: &mut [u8]| unsafe { guarded::read(address, bytes) };
    assert_eq!(read(end - 60, &mut bytes), Err(end));
    assert_eq!((bytes[59], bytes[60]), (0, 1));
    // SAFETY: memory of the tests.
    assert_eq!(unsafe { guarded::write(end - 60, &bytes) }, Err(end));
    // SAFETY: likewise.
    unsafe {
        assert!(guarded::store_u32((end - 4) as *mut u32, 5));
        assert_eq!(guarded::load_u32((end - 4) as *const u32), Some(5));
        assert!(guarded::store_u64((end - 8) as *mut u64, 7) && !guarded::store_u64(end as *mut u64, 7));
        assert_eq!(guarded::load_u64((end - 8) as *const u64), Some(7));
        assert_eq!(
            (guarded::load_u64(end as *const u64), guarded::load_u32(end as *const u32)),
            (None, None)
        );
        assert!(!guarded::store_u32(end as *mut u32, 7));
    }
    assert_eq!(read(end - 60, &mut bytes[..60]), Ok(()));
    assert_eq!(read(u64::MAX, &mut bytes), Err(u64::MAX), "no address of a program");
}

#[test]
fn a_component_in_its_initial_state_is_zero_until_it_is_written() {
    let layout = Layout::of_processor();
    let mut area = vec![0xaa_u8; 8192];
    area[464..468].copy_from_slice(&0x4650_5853_u32.to_le_bytes());
    area[472..480].copy_from_slice(&0b111_u64.to_le_bytes()); // x87, SSE, AVX are saved
    area[480..484].copy_from_slice(&8192_u32.to_le_bytes());
    area[FXSAVE..FXSAVE + 8].copy_from_slice(&0b011_u64.to_le_bytes()); // and AVX was not in use
    let mut vectors = Vectors::new(&mut area, &layout);
    let mut expected = [0; 64];
    expected[..16].fill(0xaa);
    assert_eq!(vectors.get(3), expected);
    expected[31] = 7;
    vectors.set(3, &expected).expect("AVX is saved");
    assert_eq!(vectors.get(3), expected);
    assert_eq!(vectors.get(2)[16..], [0; 48], "the others still are in their initial state");
    expected[32] = 7;
    vectors.set(3, &expected).expect_err("nothing has saved the upper halves of AVX-512");
    assert_eq!(area[FXSAVE], 0b111, "AVX is in use");
}

/// What a handler gets where the code that was interrupted has that on its stack.
fn interrupted_at<T>(local: &T) -> libc::ucontext_t {
    // SAFETY: zeros are a context.
    let mut context: libc::ucontext_t = unsafe { mem::zeroed() };
    context.uc_mcontext.gregs[libc::REG_RSP as usize] = std::ptr::from_ref(local) as i64;
    context.uc_stack.ss_flags = libc::SS_DISABLE;
    context
}

#[test]
fn work_runs_on_stacks_of_its_own() {
    let stacks = Stacks::new().expect("address space");
    let here = 0_u8;
    let answer = stacks.run(&mut interrupted_at(&here), |_| {
        let deep = [1_u8; 200 << 10];
        // A second trap in it is no trap of the program.
        assert_eq!(stacks.run(&mut interrupted_at(&deep), |_| ()), Err(Nested));
        assert!((&raw const here as usize).abs_diff(&raw const deep as usize) > 1 << 20, "another stack");
        std::hint::black_box(&deep).iter().map(|byte| u32::from(*byte)).sum::<u32>()
    });
    assert_eq!(answer, Ok(200 << 10));
}

#[test]
fn more_threads_than_stacks_wait_for_each_other() {
    let stacks = Stacks::new().expect("address space");
    let rounds = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let here = 0_u8;
                    let done = stacks.run(&mut interrupted_at(&here), |_| {
                        let own = Cell::new(0);
                        own.set(own.as_ptr() as usize);
                        std::thread::yield_now();
                        assert_eq!(own.get(), own.as_ptr() as usize);
                        rounds.fetch_add(1, Ordering::Relaxed);
                    });
                    assert_eq!(done, Ok(()));
                }
            });
        }
    });
    assert_eq!(rounds.into_inner(), 10_000);
}
