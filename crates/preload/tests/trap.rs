//! A program with pages that trap: loads and stores of its own code, of glibc and of atomics, through a handler of SIGSEGV.

use std::arch::asm;
use std::cell::UnsafeCell;
use std::hint::black_box;
use std::mem;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use ioasis_preload::trap::stack::Stacks;
use ioasis_preload::trap::{Bus, Emulator, Failure, Revoked};
use sys::Width;
use sys::guarded;

/// The length of the registers, and of the ordinary memory behind them.
const LENGTH: usize = 16 * 4096;

/// The length of that instruction.
const REP_MOVSB: i64 = 2;

/// Pages without access, whose bytes are elsewhere.
struct Device {
    registers: *mut u8,
    bytes: Box<[UnsafeCell<u8>]>,
    accesses: AtomicUsize,
    /// Where ordinary memory has faulted.
    fault: AtomicU64,
    emulator: Emulator,
    stacks: Stacks,
}

// SAFETY: the pages are only touched by instructions that trap. The bytes are accessed one by one, as on hardware.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

static DEVICE: OnceLock<Device> = OnceLock::new();

impl Device {
    fn offset(&self, address: u64) -> Option<usize> {
        let offset = address.wrapping_sub(self.registers as u64) as usize;
        (offset < LENGTH).then_some(offset)
    }
}

impl Bus for &'static Device {
    fn covers(&self, address: u64) -> bool {
        self.offset(address).is_some()
    }

    fn read(&self, address: u64, width: Width) -> Result<u64, Revoked> {
        self.accesses.fetch_add(1, Ordering::Relaxed);
        let mut value = [0; 8];
        let offset = self.offset(address).ok_or(Revoked)?;
        for (to, from) in value.iter_mut().zip(&self.bytes[offset..offset + width.bytes()]) {
            // SAFETY: a byte of the device.
            *to = unsafe { from.get().read_volatile() };
        }
        Ok(u64::from_le_bytes(value))
    }

    fn write(&self, address: u64, width: Width, value: u64) -> Result<(), Revoked> {
        // More stack than a signal has.
        black_box([0_u8; 100 << 10]);
        self.accesses.fetch_add(1, Ordering::Relaxed);
        let offset = self.offset(address).ok_or(Revoked)?;
        for (to, from) in self.bytes[offset..offset + width.bytes()].iter().zip(value.to_le_bytes()) {
            // SAFETY: a byte of the device.
            unsafe { to.get().write_volatile(from) };
        }
        Ok(())
    }
}

extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes both, and they are the handler's until it returns.
    let (address, context) = unsafe { ((*info).si_addr() as u64, &mut *context.cast::<libc::ucontext_t>()) };
    if guarded::recover(context) {
        return;
    }
    let device = DEVICE.get().expect("set before its pages trap");
    if !device.covers(address) {
        // SAFETY: the instruction faults again, and ends the process.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    // SAFETY: the program may do to the pages what it does, and copies of the emulator are recovered above.
    let outcome =
        device.stacks.run(context, |context| unsafe { device.emulator.carry_out(context, &device) });
    match outcome {
        Ok(Ok(())) => {}
        // The test that makes it knows its instruction, and goes on behind it.
        Ok(Err(Failure::Fault { address, write: true })) => {
            device.fault.store(address, Ordering::Relaxed);
            context.uc_mcontext.gregs[libc::REG_RIP as usize] += REP_MOVSB;
        }
        // A panic would need locks and memory; tests may.
        Ok(Err(failure)) => {
            eprintln!("{failure:?}");
            std::process::abort();
        }
        Err(nested) => {
            eprintln!("{nested:?}");
            std::process::abort();
        }
    }
}

fn device() -> &'static Device {
    DEVICE.get_or_init(|| {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: new memory.
        let registers = unsafe { libc::mmap(ptr::null_mut(), LENGTH, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(registers, libc::MAP_FAILED);
        // SAFETY: the handler takes three arguments, and what it uses is set before a page traps.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            libc::sigfillset(&raw mut action.sa_mask);
            libc::sigdelset(&raw mut action.sa_mask, libc::SIGSEGV);
            libc::sigdelset(&raw mut action.sa_mask, libc::SIGBUS);
            for signal in [libc::SIGSEGV, libc::SIGBUS] {
                assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
            }
        }
        Device {
            registers: registers.cast(),
            bytes: (0..LENGTH).map(|_| UnsafeCell::new(0)).collect(),
            accesses: AtomicUsize::new(0),
            fault: AtomicU64::new(0),
            emulator: Emulator::new(),
            stacks: Stacks::new().expect("address space"),
        }
    })
}

/// The tests share the device: each has pages of its own.
fn page(number: usize) -> *mut u8 {
    black_box(device().registers.wrapping_add(number * 4096))
}

#[test]
fn loads_and_stores_of_each_width() {
    let page = page(0);
    // SAFETY: the page answers, through the handler.
    unsafe {
        page.cast::<u64>().write_volatile(0x0123_4567_89ab_cdef);
        assert_eq!(page.cast::<u64>().read_volatile(), 0x0123_4567_89ab_cdef);
        assert_eq!(page.add(1).read_volatile(), 0xcd);
        assert_eq!(page.add(2).cast::<u16>().read_volatile(), 0x89ab);
        assert_eq!(page.add(4).cast::<u32>().read_volatile(), 0x0123_4567);
        assert_eq!(page.add(3).cast::<u32>().read_unaligned(), 0x2345_6789);
        page.add(7).write_volatile(0x80);
        assert_eq!(page.cast::<i64>().read_volatile(), 0x8023_4567_89ab_cdef_u64 as i64);
        page.add(16).cast::<f64>().write_volatile(1.5);
        assert_eq!(page.add(16).cast::<f64>().read_volatile(), 1.5);
        page.add(32).cast::<u128>().write_volatile(7 << 64);
        assert_eq!(page.add(32).cast::<u128>().read_volatile(), 7 << 64);
    }
}

#[test]
fn copies_of_the_c_library() {
    let page = page(1);
    let source: Vec<u8> = (0..20_000_u32).map(|index| (index * 7 + index / 256) as u8).collect();
    let mut target = vec![0_u8; source.len()];
    for length in [
        0, 1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 33, 63, 65, 100, 127, 129, 255, 256, 300, 600, 1000, 2500, 5000,
        20_000,
    ] {
        for shift in [0, 1, 8] {
            let length = length.min(source.len() - shift);
            // SAFETY: five pages of the device are this test's; the slices are longer.
            unsafe {
                libc::memset(page.cast(), 0x55, length + 16);
                libc::memcpy(page.add(shift).cast(), source.as_ptr().cast(), length);
                target.fill(0);
                libc::memcpy(target.as_mut_ptr().cast(), page.add(shift).cast(), length);
                assert_eq!(target[..length], source[..length], "{length} bytes at {shift}");
                assert!(target[length..].iter().all(|byte| *byte == 0), "{length} bytes at {shift}");
                // Within the device, to somewhere that overlaps.
                libc::memmove(page.add(shift + 5).cast(), page.add(shift).cast(), length.min(10_000));
                libc::memcpy(target.as_mut_ptr().cast(), page.add(shift + 5).cast(), length.min(10_000));
                assert_eq!(
                    target[..length.min(10_000)],
                    source[..length.min(10_000)],
                    "{length} bytes at {shift}"
                );
            }
        }
    }
}

#[test]
fn comparisons_of_the_c_library() {
    let page = page(14);
    let pattern: Vec<u8> = (0..8000_u32).map(|index| (index % 251 + 1) as u8).collect();
    // SAFETY: two pages of the device are this test's; nothing is looked at beyond the zero at the end.
    unsafe {
        libc::memcpy(page.cast(), pattern.as_ptr().cast(), pattern.len());
        page.add(pattern.len()).write_volatile(0);
        let compare = |at: usize, length: usize| {
            libc::memcmp(page.add(at).cast(), pattern.as_ptr().add(at).cast(), length).signum()
        };
        for length in [1, 2, 3, 4, 7, 8, 15, 16, 31, 33, 63, 65, 127, 129, 255, 257, 513, 1000, 7000] {
            assert_eq!(compare(0, length), 0, "{length} bytes");
            assert_eq!(compare(3, length), 0, "{length} bytes");
            let last = page.add(length - 1);
            let value = last.read_volatile();
            last.write_volatile(value - 1);
            assert_eq!(compare(0, length), -1, "{length} bytes");
            last.write_volatile(value + 1);
            assert_eq!(compare(0, length), 1, "{length} bytes");
            last.write_volatile(value);
        }
        for length in [1, 20, 40, 70, 200, 7999] {
            let start = page.add(pattern.len() - length);
            assert_eq!(libc::strlen(start.cast()), length);
            assert_eq!(libc::memchr(start.cast(), 0, length + 1), start.add(length).cast());
            assert_eq!(libc::strnlen(start.cast(), 10), length.min(10));
        }
    }
}

/// glibc has its copies and comparisons once for each generation of processors, and takes those of this one.
#[test]
fn those_for_other_processors() {
    for tunable in [
        "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-Prefer_No_VZEROUPPER",
        "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX2,-AVX,-AVX_Fast_Unaligned_Load,-ERMS,-FSRM",
    ] {
        let output = std::process::Command::new(std::env::current_exe().expect("a test"))
            .arg("of_the_c_library")
            .env("GLIBC_TUNABLES", tunable)
            .output()
            .expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("2 passed"), "{tunable}: {output:?}");
    }
}

#[test]
fn atomics() {
    let page = page(6);
    // SAFETY: the page is aligned and answers, through the handler.
    let (byte, word, double, quad) = unsafe {
        (
            AtomicU8::from_ptr(page),
            AtomicU16::from_ptr(page.add(8).cast()),
            AtomicU32::from_ptr(page.add(16).cast()),
            AtomicU64::from_ptr(page.add(24).cast()),
        )
    };
    byte.store(0xf0, Ordering::SeqCst);
    assert_eq!(byte.fetch_add(0x11, Ordering::SeqCst), 0xf0);
    assert_eq!(byte.fetch_nand(3, Ordering::SeqCst), 1);
    assert_eq!(byte.load(Ordering::SeqCst), 0xfe);

    assert_eq!(word.swap(500, Ordering::SeqCst), 0);
    assert_eq!(word.fetch_sub(501, Ordering::SeqCst), 500);
    assert_eq!(word.fetch_max(3, Ordering::SeqCst), u16::MAX);

    assert_eq!(double.compare_exchange(0, 17, Ordering::SeqCst, Ordering::SeqCst), Ok(0));
    assert_eq!(double.compare_exchange(0, 18, Ordering::SeqCst, Ordering::SeqCst), Err(17));
    double.fetch_or(0x100, Ordering::SeqCst);
    double.fetch_and(0x110, Ordering::SeqCst);
    assert_eq!(double.fetch_xor(1, Ordering::SeqCst), 0x110);
    assert_eq!(double.fetch_or(0x8000, Ordering::SeqCst) & 0x8000, 0);
    assert_eq!(double.load(Ordering::SeqCst), 0x8111);

    quad.fetch_add(u64::MAX, Ordering::SeqCst);
    assert_eq!(quad.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |value| Some(value / 2)), Ok(u64::MAX));
    assert_eq!(quad.load(Ordering::SeqCst), u64::MAX >> 1);
}

#[test]
fn threads_that_change_one_word_lose_nothing() {
    const ROUNDS: u32 = 300;
    let page = page(12);
    // SAFETY: the page is aligned and answers, through the handler.
    let (count, lock, guarded) = unsafe {
        (
            AtomicU32::from_ptr(page.cast()),
            AtomicU8::from_ptr(page.add(64)),
            AtomicU32::from_ptr(page.add(128).cast()),
        )
    };
    let in_threads = |work: &(dyn Fn() + Sync)| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..ROUNDS).for_each(|_| work()));
            }
        });
    };
    in_threads(&|| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(count.load(Ordering::SeqCst), 4 * ROUNDS);

    // A lock that is released by a plain store, which an exchange that fails must not undo.
    in_threads(&|| {
        while lock.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            std::thread::yield_now();
        }
        guarded.store(guarded.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        lock.store(0, Ordering::Release);
    });
    assert_eq!(guarded.load(Ordering::SeqCst), 4 * ROUNDS);
}

#[test]
fn threads_with_a_small_stack_for_signals() {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let stack = set_small_signal_stack();
                let mut now = stack;
                let page = page(8 + thread);
                for value in 0..500_u32 {
                    // SAFETY: the page answers, and is this thread's.
                    unsafe {
                        page.cast::<u32>().add(value as usize).write_volatile(value);
                        assert_eq!(page.cast::<u32>().add(value as usize).read_volatile(), value);
                    }
                }
                // SAFETY: writes to `now`.
                assert_eq!(unsafe { libc::sigaltstack(ptr::null(), &mut now) }, 0);
                assert_eq!(
                    (now.ss_sp, now.ss_size),
                    (stack.ss_sp, stack.ss_size),
                    "it is as the program has set it"
                );
            });
        }
    });
    assert!(device().accesses.load(Ordering::Relaxed) >= 4000);
}

/// Gives the thread a stack for signals with what the kernel needs for its frame, and a little.
fn set_small_signal_stack() -> libc::stack_t {
    // SAFETY: a number of the process.
    let least = unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) } as usize;
    let stack = Box::leak(vec![0_u8; least + 2048].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: the stack is there as long as the process.
    assert_eq!(unsafe { libc::sigaltstack(&stack, ptr::null_mut()) }, 0);
    stack
}

/// The second fault comes while the first is handled, and its frame must not lie on that of the first.
#[test]
fn a_copy_to_where_nothing_is_faults_there() {
    let page = page(13);
    // SAFETY: the page answers.
    unsafe { page.write_volatile(0x77) };
    let address = page as u64;
    std::thread::spawn(move || {
        set_small_signal_stack();
        for _ in 0..10 {
            let nowhere = 0x10_u64;
            let (left, mark): (u64, u64);
            // SAFETY: the instruction has no effect, and the handler goes on behind it.
            unsafe {
                asm!(
                    "rep movsb",
                    inout("rcx") 5_u64 => left,
                    inout("rsi") address => _,
                    inout("rdi") nowhere => _,
                    inout("r15") 0x1234_u64 => mark,
                );
            }
            assert_eq!((left, mark), (5, 0x1234));
            assert_eq!(device().fault.swap(0, Ordering::Relaxed), 0x10);
        }
    })
    .join()
    .expect("no panic");
}
