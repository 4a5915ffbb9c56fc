//! Processes and users, and the pinned memory that is charged to them.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rustix::process::{Resource, getrlimit};
use subsystem::{Account, Task};

use super::FRAME;
use crate::lock::lock;
use crate::process::OtherProcess;

/// Processes and users, and what is charged to them.
#[derive(Debug, Default)]
pub(crate) struct Accounts(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last_task: u32,
    tasks: HashMap<u32, Process>,
    /// Pages that count against the limit of a user (`locked_vm`).
    users: HashMap<u32, u64>,
}

#[derive(Debug)]
struct Process {
    uid: u32,
    memlock: Memlock,
    holders: u32,
    exited: bool,
    /// The process, if it is not this one.
    elsewhere: Option<Arc<OtherProcess>>,
    /// Pages that count against the limit of the address space.
    locked: u64,
    /// Pages pinned, in every mode.
    pinned: u64,
}

/// `RLIMIT_MEMLOCK` of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Memlock {
    /// So many bytes; `None` for no limit.
    Fixed(Option<u64>),
    /// What the host says of the process at the moment.
    OfHost,
}

impl From<Option<u64>> for Memlock {
    fn from(bytes: Option<u64>) -> Self {
        Memlock::Fixed(bytes)
    }
}

/// The address space of a process.
pub(crate) enum Space {
    /// This process's.
    Here,
    /// Another process's.
    There(Arc<OtherProcess>),
    /// It has none any more.
    Gone,
}

impl Process {
    /// In pages; `None` for no limit.
    fn limit(&self) -> Option<u64> {
        let bytes = match (self.memlock, &self.elsewhere) {
            (Memlock::Fixed(bytes), _) => bytes,
            (Memlock::OfHost, Some(process)) => process.memlock(),
            (Memlock::OfHost, None) => getrlimit(Resource::Memlock).current,
        };
        bytes.map(|bytes| bytes / FRAME)
    }

    fn allows(&self, pages: u64) -> bool {
        self.limit().is_none_or(|limit| pages <= limit)
    }
}

impl Accounts {
    /// A new process. The caller is its first holder;
    /// [`Accounts::exit`] and [`Accounts::put`] end that.
    pub(crate) fn task(&self, uid: u32, memlock: impl Into<Memlock>) -> Task {
        let (mut state, memlock) = (lock(&self.0), memlock.into());
        state.last_task += 1;
        let task = state.last_task;
        let process =
            Process { uid, memlock, holders: 1, exited: false, elsewhere: None, locked: 0, pinned: 0 };
        state.tasks.insert(task, process);
        Task(task)
    }

    /// The process has another limit from now on.
    pub(crate) fn set_memlock(&self, task: Task, memlock: impl Into<Memlock>) {
        if let Some(process) = lock(&self.0).tasks.get_mut(&task.0) {
            process.memlock = memlock.into();
        }
    }

    /// The process ends: its address space is gone, and nothing of it can be pinned any more. What is pinned stays.
    pub(crate) fn exit(&self, task: Task) {
        if let Some(process) = lock(&self.0).tasks.get_mut(&task.0) {
            process.exited = true;
        }
    }

    /// The process is another one than this from now on.
    pub(crate) fn move_to(&self, task: Task, elsewhere: &Arc<OtherProcess>) {
        if let Some(process) = lock(&self.0).tasks.get_mut(&task.0) {
            process.elsewhere = Some(Arc::clone(elsewhere));
        }
    }

    /// Whose address space that of the process is: this process's, or another one's.
    pub(crate) fn space(&self, task: Task) -> Space {
        match lock(&self.0).tasks.get(&task.0) {
            Some(Process { exited: false, elsewhere, .. }) => match elsewhere {
                Some(elsewhere) => Space::There(Arc::clone(elsewhere)),
                None => Space::Here,
            },
            _ => Space::Gone,
        }
    }

    /// One more holder.
    pub(crate) fn hold(&self, task: Task) {
        if let Some(process) = lock(&self.0).tasks.get_mut(&task.0) {
            process.holders += 1;
        }
    }

    /// One holder less; with the last one the task is forgotten.
    pub(crate) fn put(&self, task: Task) {
        let mut state = lock(&self.0);
        if let Some(process) = state.tasks.get_mut(&task.0) {
            process.holders -= 1;
            if process.holders == 0 {
                state.tasks.remove(&task.0);
            }
        }
    }

    /// Adds pages to an account; false if the limit is reached, and nothing is added then.
    #[must_use]
    pub(crate) fn charge(&self, task: Task, account: Account, pages: u64) -> bool {
        let state = &mut *lock(&self.0);
        let Some(process) = state.tasks.get_mut(&task.0) else { return false };
        match account {
            Account::None => {}
            Account::User => {
                let user = state.users.entry(process.uid).or_default();
                if !process.allows(user.saturating_add(pages)) {
                    return false;
                }
                *user += pages;
            }
            Account::Space => {
                if !process.allows(process.locked.saturating_add(pages)) {
                    return false;
                }
                process.locked += pages;
            }
            Account::Locked { capable } => {
                if !capable && !process.allows(process.locked.saturating_add(pages)) {
                    return false;
                }
                process.locked += pages;
                return true;
            }
        }
        process.pinned += pages;
        true
    }

    /// Takes pages from an account.
    pub(crate) fn uncharge(&self, task: Task, account: Account, pages: u64) {
        let state = &mut *lock(&self.0);
        let Some(process) = state.tasks.get_mut(&task.0) else { return };
        match account {
            Account::None => {}
            Account::User => {
                if let Some(user) = state.users.get_mut(&process.uid) {
                    *user = user.saturating_sub(pages);
                }
            }
            Account::Space => process.locked = process.locked.saturating_sub(pages),
            Account::Locked { .. } => {
                process.locked = process.locked.saturating_sub(pages);
                return;
            }
        }
        process.pinned = process.pinned.saturating_sub(pages);
    }

    /// How many more pages a process may lock, and its limit in pages; `u64::MAX` for none.
    pub(crate) fn lockable(&self, task: Task) -> (u64, u64) {
        let state = lock(&self.0);
        let Some(process) = state.tasks.get(&task.0) else { return (0, 0) };
        process.limit().map_or((u64::MAX, u64::MAX), |limit| (limit.saturating_sub(process.locked), limit))
    }

    /// What a process of the host has pinned, and what of it counts as locked, in KiB.
    pub(crate) fn of_process(&self, pid: u32) -> (u64, u64) {
        let state = lock(&self.0);
        let is_it = |process: &&Process| match &process.elsewhere {
            None => pid == std::process::id(),
            Some(elsewhere) => elsewhere.pid() == pid,
        };
        let its = || state.tasks.values().filter(is_it);
        let kib = |pages: u64| pages * FRAME / 1024;
        (kib(its().map(|process| process.pinned).sum()), kib(its().map(|process| process.locked).sum()))
    }

    /// `VmPin` of the process in KiB: what is charged to it, in every mode of IOMMUFD.
    #[must_use]
    pub(crate) fn vm_pin(&self, task: Task) -> u64 {
        lock(&self.0).tasks.get(&task.0).map_or(0, |process| process.pinned * FRAME / 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = FRAME;

    #[test]
    fn processes_of_one_user_share_its_account() {
        let accounts = Accounts::default();
        let [a, b] = [(); 2].map(|()| accounts.task(1000, Some(4 * PAGE)));
        let other = accounts.task(1001, Some(4 * PAGE));
        assert!(accounts.charge(a, Account::User, 3));
        assert!(!accounts.charge(b, Account::User, 2));
        assert!(accounts.charge(b, Account::User, 1));
        assert!(accounts.charge(other, Account::User, 4));
        accounts.uncharge(a, Account::User, 3);
        assert!(accounts.charge(b, Account::User, 3));
    }

    #[test]
    fn an_address_space_has_an_account_of_its_own() {
        let accounts = Accounts::default();
        let [a, b] = [(); 2].map(|()| accounts.task(1000, Some(4 * PAGE)));
        assert!(accounts.charge(a, Account::Space, 4));
        assert!(accounts.charge(b, Account::Space, 4));
        assert!(!accounts.charge(a, Account::Space, 1));
        accounts.set_memlock(a, None);
        assert!(accounts.charge(a, Account::Space, 1));
    }

    #[test]
    fn vm_pin_counts_every_mode_and_nothing_refused() {
        let accounts = Accounts::default();
        let task = accounts.task(1000, Some(2 * PAGE));
        for account in [Account::None, Account::User, Account::Space] {
            assert!(accounts.charge(task, account, 2));
        }
        assert!(!accounts.charge(task, Account::User, 1));
        assert_eq!(accounts.vm_pin(task), 24);
        accounts.uncharge(task, Account::None, 2);
        assert_eq!(accounts.vm_pin(task), 16);
    }

    #[test]
    fn a_held_task_outlives_its_process() {
        let accounts = Accounts::default();
        let task = accounts.task(0, None);
        accounts.hold(task);
        assert!(matches!(accounts.space(task), Space::Here));
        accounts.exit(task);
        accounts.put(task);
        assert!(matches!(accounts.space(task), Space::Gone));
        accounts.put(task);
        assert!(lock(&accounts.0).tasks.is_empty());
    }
}
