//! The machine under the program, made when it is needed first.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::{env, fs};

use machine::{CAPABILITIES, FileKey, Handle, Machine, MachineSpec};

use crate::call::{Answer, Refused, Request};
use crate::report::{Kind, Report};
use crate::signals;
use crate::traps::Traps;
use crate::tree;
use crate::{family, fork, paths};

/// What `ioasis run` passes on in the environment.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The machine file.
    machine: PathBuf,
    /// The folder that the tree of the machine is made in.
    pub(crate) root: PathBuf,
    /// The host's file systems in which the machine has something.
    pub(crate) shadowed: [u64; 2],
    /// Whether system calls past libc are caught even if no instruction for them is found.
    pub(crate) raw: bool,
    pub(crate) report: Report,
}

/// A machine, and what the program has of it.
pub(crate) struct State {
    pub(crate) machine: Machine,
    pub(crate) settings: &'static Settings,
    pub(crate) traps: Traps,
    /// Where attributes are read next.
    pub(crate) positions: Mutex<HashMap<FileKey, u64>>,
    /// What was looked at and not opened, by the files that stand for it.
    pub(crate) handles: Mutex<HashMap<FileKey, Handle>>,
    used: AtomicBool,
    findings: AtomicU64,
    shown: AtomicU64,
}

/// The capabilities that are not in effect for this process, by their bits.
pub(crate) static OUT_OF_EFFECT: AtomicU64 = AtomicU64::new(0);
static SETTINGS: OnceLock<Settings> = OnceLock::new();
static STATE: OnceLock<Option<State>> = OnceLock::new();

/// Takes over what the environment says. Without it the library does nothing.
pub(crate) fn set_up() {
    let path = |name| env::var_os(name).map(PathBuf::from);
    let number = |name| env::var(name).ok().and_then(|value| value.parse::<RawFd>().ok());
    if let (Some(machine), Some(root), Some(pipe)) =
        (path("IOASIS_RUN_MACHINE"), path("IOASIS_RUN_ROOT"), number("IOASIS_RUN_REPORT"))
    {
        let is_set = |name| env::var_os(name).is_some();
        let report = Report::new(pipe, is_set("IOASIS_RUN_EXPLAIN"), is_set("IOASIS_RUN_TRACE"));
        report.tell(Kind::Loaded, process());
        let (shadowed, raw) = (paths::links::shadowed(), is_set("IOASIS_RUN_RAW"));
        let _first = SETTINGS.set(Settings { machine, root, shadowed, raw, report });
        paths::look_where_we_are();
    }
}

/// The process, so that no other is taken for it: its number, and when it began, which a program that it turns into has too.
fn process() -> String {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in brackets, may hold anything; the start is the twentieth word behind it.
    let began = stat.rsplit(')').next().and_then(|words| words.split_ascii_whitespace().nth(19));
    format!("{} {}", std::process::id(), began.unwrap_or("0"))
}

/// The settings; `None` if the program does not run under `ioasis run`.
pub(crate) fn settings() -> Option<&'static Settings> {
    SETTINGS.get()
}

/// The capabilities that the machine file gives to processes, by their bits in Linux.
pub(crate) fn capabilities() -> u64 {
    static GIVEN: OnceLock<u64> = OnceLock::new();
    let Some(settings) = settings() else { return 0 };
    *GIVEN.get_or_init(|| {
        // One that cannot be read is told of when the machine is built.
        let given =
            MachineSpec::from_file(&settings.machine).map(|spec| spec.capabilities).unwrap_or_default();
        let bits = given.iter().filter_map(|name| CAPABILITIES.iter().position(|known| known == name));
        bits.fold(0, |set, bit| set | 1 << bit)
    })
}

/// The machine, which is built with the first call that needs it. `None` if there is none, or it cannot be built.
pub(crate) fn get() -> Option<&'static State> {
    let settings = settings()?;
    STATE.get_or_init(|| build(settings)).as_ref()
}

/// The machine, if it is there already.
pub(crate) fn existing() -> Option<&'static State> {
    STATE.get()?.as_ref()
}

fn build(settings: &'static Settings) -> Option<State> {
    let built = signals::with_faults_let_in(|| Machine::from_file(&settings.machine));
    let built = built.map_err(|error| error.to_string());
    let state = built.map(|mut machine| {
        machine.follow_limits_of_host();
        machine.change_capabilities(0, OUT_OF_EFFECT.load(Ordering::Relaxed));
        State {
            machine,
            settings,
            traps: Traps::default(),
            positions: Mutex::default(),
            handles: Mutex::default(),
            used: AtomicBool::new(false),
            findings: AtomicU64::new(0),
            shown: AtomicU64::new(u64::MAX),
        }
    });
    let state = state.inspect_err(|error| settings.report.tell(Kind::Trouble, error)).ok()?;
    state.show_tree();
    Some(state)
}

impl State {
    /// Makes a call of this process.
    pub(crate) fn ask(&self, request: &Request<'_>) -> Result<Answer, Refused> {
        family::ask(self, request)
    }

    /// What follows from a call: changes of the tree, and findings.
    pub(crate) fn settle(&self) {
        fork::called();
        if self.shown.load(Ordering::Relaxed) != self.machine.tree_changes() {
            self.show_tree();
        }
        let count = self.machine.finding_count();
        let told = self.findings.swap(count, Ordering::Relaxed);
        if told < count {
            let findings = self.machine.findings();
            let new = usize::try_from(count - told).unwrap_or(usize::MAX).min(findings.len());
            findings[findings.len() - new..]
                .iter()
                .for_each(|finding| self.settings.report.tell(Kind::Finding, finding));
        }
    }

    /// Tells, once, that this process uses its machine. Its devices may come to memory that is not there from now on.
    pub(crate) fn used(&self) {
        if !self.used.swap(true, Ordering::Relaxed) {
            signals::take_over();
            self.settings.report.tell(Kind::Uses, process());
        }
    }

    /// As [`State::used`], in a child after a fork.
    pub(crate) fn used_by_child(&self) {
        self.used.store(false, Ordering::Relaxed);
        self.used();
    }

    fn show_tree(&self) {
        let changes = self.machine.tree_changes();
        if self.shown.swap(changes, Ordering::Relaxed) != changes
            && let Err(error) = tree::show(&self.machine, &self.settings.root)
        {
            let root = self.settings.root.display();
            self.settings
                .report
                .tell(Kind::Trouble, format_args!("cannot show the machine's files in {root}: {error}"));
        }
    }

    /// Tells of a call that was refused, if that is asked for.
    pub(crate) fn refused(&self, error: &sys::Error) {
        if self.settings.report.explains || self.settings.report.traces {
            self.settings.report.tell(Kind::Call, error);
        }
    }

    /// Tells of a call that was made, if that is asked for.
    pub(crate) fn made(&self, call: impl std::fmt::Display) {
        if self.settings.report.traces {
            self.settings.report.tell(Kind::Call, call);
        }
    }

    /// A path of the machine, as the folder has it.
    pub(crate) fn shown_path(&self, path: &Path) -> PathBuf {
        tree::inside(&self.settings.root, path)
    }
}
