//! What the machine has to say in `/proc`, beside what the host tells there.

use std::path::Path;
use std::sync::Arc;

use uapi::Errno;

use super::Machine;
use super::calls::node;
use crate::file::{FileKey, Files, Open};
use crate::process;
use crate::ram::FRAME;
use crate::tree::Live;

impl Machine {
    /// The file below `/proc` that tells something of the machine about a process; which processes there are is the host's business.
    pub(super) fn file_of_a_process(&self, path: &Path) -> Option<Live> {
        let mut names = path.strip_prefix("/proc").ok()?.iter().map(|name| name.to_str());
        let process: Option<u32> = match names.next()?? {
            "self" | "thread-self" => None,
            number => Some(number.parse().ok()?),
        };
        let is_own = process.is_none_or(|process| process == self.caller.process());
        let mut name = names.next()??;
        if name == "task" && is_own {
            let _thread: u32 = names.next()??.parse().ok()?;
            name = names.next()??;
        }
        match (name, names.next(), names.next()) {
            ("status", None, None) if is_own => Some(Live::Status(None)),
            ("status", None, None) => process.filter(|_| path.exists()).map(|it| Live::Status(Some(it))),
            ("fdinfo", Some(Some(number)), None) if is_own => {
                let number = number.parse().ok()?;
                self.file_at(number).ok().map(|_| Live::Fdinfo(number))
            }
            _ => None,
        }
    }

    /// The machine's file that the caller has under a number.
    fn file_at(&self, number: i32) -> Result<Arc<Open>, Errno> {
        let descriptor = match &self.caller.elsewhere {
            None => process::duplicate(number),
            Some(elsewhere) => elsewhere.process.duplicate(number),
        }?;
        let key = FileKey::of(descriptor).map_err(process::errno)?;
        Files::find(&self.shared, key, false).ok_or(Errno::ENOENT)
    }

    /// `/proc/self/fdinfo/N`
    pub(super) fn fdinfo_of(&self, number: i32) -> Result<String, Errno> {
        let path = format!("/proc/{}/fdinfo/{number}", self.caller.process());
        let text = std::fs::read_to_string(path).map_err(|_| Errno::ENOENT)?;
        Ok(self.fdinfo_from(&*self.file_at(number)?, &text))
    }

    /// What is told of an open file, from what the host tells of its placeholder (`Documentation/filesystems/proc.rst`).
    pub(super) fn fdinfo_from(&self, open: &Open, placeholder: &str) -> String {
        const ACCESS: u64 = 0o3;
        const NONBLOCK: u64 = 0o4000;
        const LARGE: u64 = 0o100_000;
        let access = match (open.readable(), open.writable()) {
            (true, false) => 0o0,
            (false, _) => 0o1,
            (true, true) => 0o2,
        };
        // A file that a call has opened has not what `open` adds.
        let cleared = if open.path().is_some() { ACCESS } else { ACCESS | NONBLOCK | LARGE };
        let mut text: String = placeholder
            .lines()
            .filter_map(|line| match line.split_once(":\t")? {
                ("flags", flags) => {
                    let flags = u64::from_str_radix(flags, 8).unwrap_or(0);
                    Some(format!("flags:\t0{:o}\n", flags & !cleared | access))
                }
                ("pos" | "mnt_id" | "ino", _) => Some(format!("{line}\n")),
                _ => None,
            })
            .collect();
        if let Some(id) = node(open) {
            self.shared.subsystem.fdinfo(id, &mut |line| text.push_str(line));
        }
        text
    }

    /// The kinds of devices that the host has, but for those of VFIO and IOMMUFD, which are the machine's.
    pub(super) fn character_devices(&self) -> String {
        let ours = self.world().tree().character_devices();
        let host = std::fs::read_to_string("/proc/devices").unwrap_or_default();
        let (character, block) = host.split_once("\nBlock devices:").unwrap_or((&host, ""));
        let others = character.lines().skip(1).filter(|line| {
            let name = line.split_whitespace().nth(1);
            !["misc", "vfio", "vfio-dev"].map(Some).contains(&name)
        });
        let lines = others.map(|line| format!("{line}\n"));
        let ours = ours.into_iter().map(|(major, name)| format!("{major:3} {name}\n"));
        let text: String = lines.chain(ours).collect();
        format!("Character devices:\n{text}\nBlock devices:{block}")
    }

    /// The host's interrupts, and the machine's timer. Behind a unit that remaps them, those of their controllers are called so.
    pub(super) fn interrupts(&self) -> String {
        const TIMER: &str = "  0:          0  IO-APIC    2-edge      timer\n";
        let text = std::fs::read_to_string("/proc/interrupts").unwrap_or_default();
        let text = [&text, TIMER].concat().replace(" IR-", " ");
        if !self.world().groups().remaps_interrupts() {
            return text;
        }
        text.replace(" IO-APIC", " IR-IO-APIC").replace(" PCI-MSI", " IR-PCI-MSI")
    }

    /// What the host tells of a process, with the memory that is pinned and locked for its devices
    /// (`Documentation/filesystems/proc.rst`).
    pub(super) fn status(&self, process: u32) -> Result<String, Errno> {
        let text = std::fs::read_to_string(format!("/proc/{process}/status")).map_err(|_| Errno::ENOENT)?;
        let (pinned, locked) = self.world().ram().accounts().of_process(process);
        let line = |line: &str| {
            let more = |name, more| {
                let kib: u64 = line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse().ok()?;
                Some(format!("{name}\t{:8} kB\n", kib + more))
            };
            more("VmLck:", locked).or_else(|| more("VmPin:", pinned)).unwrap_or_else(|| format!("{line}\n"))
        };
        Ok(text.lines().map(line).collect())
    }

    /// One word for each page: whether it is present, and its frame for who may know it
    /// (`Documentation/admin-guide/mm/pagemap.rst`).
    pub(super) fn pagemap(&self, bytes: &mut [u8], offset: u64) -> Result<usize, Errno> {
        const PRESENT: u64 = 1 << 63;
        if !offset.is_multiple_of(8) || !bytes.len().is_multiple_of(8) {
            return Err(Errno::EINVAL);
        }
        for (word, page) in bytes.chunks_exact_mut(8).zip(offset / 8..) {
            let address = page.checked_mul(FRAME).and_then(|address| usize::try_from(address).ok());
            let (ram, task) = (self.world().ram(), self.caller.task);
            let entry = match self.caller.is_admin() {
                true => address.and_then(|address| ram.tell_physical_address(task, address)),
                false => address.and_then(|address| ram.physical_address(task, address)).map(|_| 0),
            };
            let entry = entry.map_or(0, |physical| PRESENT | (physical / FRAME));
            word.copy_from_slice(&entry.to_ne_bytes());
        }
        Ok(bytes.len())
    }
}
