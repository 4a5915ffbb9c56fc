//! The mapped BARs of the program: addresses without access, whose accesses the machine answers.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

use machine::BareRegion;
use sys::Width;

use crate::inside::{Inside, shielded};
use crate::report::Kind;
use crate::signals;
use crate::state::State;
use crate::trap::stack::Stacks;
use crate::trap::{Bus, Emulator, Failure, Revoked};

/// A part of a mapping.
#[derive(Clone, Copy)]
struct Part {
    end: usize,
    region: BareRegion,
    /// Where it starts in the registers.
    offset: usize,
    protection: c_int,
}

/// All mapped BARs.
#[derive(Default)]
pub(crate) struct Traps {
    parts: RwLock<BTreeMap<usize, Part>>,
    count: AtomicUsize,
    tools: OnceLock<Option<Tools>>,
}

/// What answers a trap.
struct Tools {
    emulator: Emulator,
    stacks: Stacks,
}

/// What a trap came to that was not carried out.
pub(crate) enum Signal {
    /// SIGSEGV at an address.
    Segv(u64),
    /// SIGBUS at an address.
    Bus(u64),
    /// Nobody knows the instruction; the program cannot go on.
    Stuck,
}

impl Traps {
    /// Whether nothing is mapped.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Registers are mapped at addresses of the program.
    pub(crate) fn add(&self, addresses: Range<usize>, region: BareRegion, protection: c_int) {
        self.tools.get_or_init(|| {
            let stacks = Stacks::new().ok()?;
            signals::take_over();
            Some(Tools { emulator: Emulator::new(), stacks })
        });
        let part = Part { end: addresses.end, region, offset: 0, protection };
        self.remove(&addresses);
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        parts.insert(addresses.start, part);
        self.count.store(parts.len(), Ordering::Relaxed);
    }

    /// Addresses are unmapped, or something else is mapped there. Whether there were registers.
    pub(crate) fn remove(&self, addresses: &Range<usize>) -> bool {
        self.change(addresses, |_| None)
    }

    /// Where what is mapped.
    pub(crate) fn regions(&self) -> Vec<(Range<u64>, BareRegion)> {
        let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        parts.iter().map(|(start, part)| (*start as u64..part.end as u64, part.region)).collect()
    }

    /// Forgets what other threads are at: in the child after a fork, in which they are not.
    pub(crate) fn forget_others(&self) {
        if let Some(Some(tools)) = self.tools.get() {
            tools.emulator.forget_others();
            tools.stacks.forget_others();
        }
    }

    /// Changes the protection of mapped registers. Whether all of these addresses are such.
    pub(crate) fn protect(&self, addresses: &Range<usize>, protection: c_int) -> bool {
        let covered = self.all(addresses);
        if covered {
            self.change(addresses, |part| Some(Part { protection, ..part }));
        }
        covered
    }

    /// Whether all of these addresses are mapped registers.
    pub(crate) fn cover(&self, addresses: &Range<usize>) -> bool {
        shielded(|| {
            let _inside = Inside::enter();
            self.all(addresses)
        })
    }

    fn all(&self, addresses: &Range<usize>) -> bool {
        let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        let mut at = addresses.start;
        while let Some((_, part)) = parts.range(..=at).next_back().filter(|(_, part)| at < part.end) {
            at = part.end;
        }
        at >= addresses.end
    }

    /// What was mapped at some addresses is at others now, as much of it as these are. Whether there were registers at any of them.
    pub(crate) fn move_to(&self, from: &Range<usize>, to: &Range<usize>) -> bool {
        let kept = from.start..from.end.min(from.start + to.len());
        let mut were_any = self.remove(&(kept.end..from.end));
        if from.start == to.start {
            return were_any;
        }
        were_any |= self.remove(to);
        // Cut at the ends.
        were_any |= self.change(&kept, Some);
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        let moved: Vec<(usize, Part)> = parts.range(kept).map(|(start, part)| (*start, *part)).collect();
        for (start, _) in &moved {
            parts.remove(start);
        }
        let shifted = |at: usize| at - from.start + to.start;
        parts.extend(
            moved.into_iter().map(|(start, part)| (shifted(start), Part { end: shifted(part.end), ..part })),
        );
        self.count.store(parts.len(), Ordering::Relaxed);
        were_any
    }

    /// Cuts out the parts within addresses and puts in what becomes of each. Whether there are such.
    fn change(&self, addresses: &Range<usize>, becomes: impl Fn(Part) -> Option<Part>) -> bool {
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        let touched: Vec<usize> = parts
            .range(..addresses.end)
            .rev()
            .take_while(|(_, part)| part.end > addresses.start)
            .map(|(start, _)| *start)
            .collect();
        let are_any = !touched.is_empty();
        for start in touched {
            let Some(part) = parts.remove(&start) else { continue };
            let middle = start.max(addresses.start)..part.end.min(addresses.end);
            let from = |at: usize, end: usize| Part { end, offset: part.offset + (at - start), ..part };
            if start < middle.start {
                parts.insert(start, from(start, middle.start));
            }
            if middle.end < part.end {
                parts.insert(middle.end, from(middle.end, part.end));
            }
            if let Some(changed) = becomes(from(middle.start, middle.end)) {
                parts.insert(middle.start, changed);
            }
        }
        self.count.store(parts.len(), Ordering::Relaxed);
        are_any
    }

    /// The part with an address, and where in the registers that is.
    fn at(&self, address: u64) -> Option<(Part, usize)> {
        let address = usize::try_from(address).ok()?;
        let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        let (start, part) = parts.range(..=address).next_back().filter(|(_, part)| address < part.end)?;
        Some((*part, part.offset + (address - start)))
    }
}

impl State {
    /// An access of the program has faulted: carries it out if it is one to registers. `None` if it is not.
    ///
    /// # Safety
    ///
    /// `context` is what the handler of the signal has got.
    pub(crate) unsafe fn trap(
        &self,
        context: &mut libc::ucontext_t,
        address: u64,
        write: bool,
    ) -> Option<Result<(), Signal>> {
        // Before any lock is taken, and for as long as one may be: a fork waits for it.
        let _inside = Inside::enter();
        let (part, _) = self.traps.at(address)?;
        let tools = self.traps.tools.get()?.as_ref()?;
        let needed = if write { libc::PROT_WRITE } else { libc::PROT_READ };
        if part.protection & needed == 0 {
            return Some(Err(Signal::Segv(address)));
        }
        let done = tools.stacks.run(context, |context| {
            // SAFETY: as the caller has promised, and the handler has asked `recover` first.
            unsafe { tools.emulator.carry_out(context, self) }
        });
        Some(match done {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Failure::Revoked { address })) => Err(Signal::Bus(address)),
            Ok(Err(Failure::Fault { address, .. })) => Err(Signal::Segv(address)),
            Ok(Err(Failure::Unsupported(instruction))) => {
                self.settings.report.tell(Kind::Trouble, instruction);
                Err(Signal::Stuck)
            }
            Err(nested) => {
                self.settings.report.tell(
                    Kind::Trouble,
                    format_args!("{nested:?}: registers were reached by what answers them"),
                );
                Err(Signal::Stuck)
            }
        })
    }
}

impl Bus for State {
    fn covers(&self, address: u64) -> bool {
        self.traps.at(address).is_some()
    }

    fn read(&self, address: u64, width: Width) -> Result<u64, Revoked> {
        let (part, offset) = self.traps.at(address).ok_or(Revoked)?;
        self.load(part.region, offset as u64, width).map_err(|_| Revoked)
    }

    fn write(&self, address: u64, width: Width, value: u64) -> Result<(), Revoked> {
        let (part, offset) = self.traps.at(address).ok_or(Revoked)?;
        self.store(part.region, offset as u64, width, value).map_err(|_| Revoked)
    }
}
