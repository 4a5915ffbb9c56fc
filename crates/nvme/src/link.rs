//! The link to a controller: its registers and its admin queue, which the controller's handle and its queues
//! share.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ioasis::{Device, DmaBuffer, DmaOptions, Interrupt, Sys};

use crate::error::{Error, Result};
use crate::registers::{Capabilities, Registers};
use crate::ring::{self, Ring};
use crate::spec::{self, Command, CompletionEntry, PAGE, admin, register};
use crate::status::Status;

/// Entries of the admin queues.
const ADMIN_DEPTH: u16 = 32;
/// How long an admin command may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The link. Dropping the last holder shuts the controller down and closes the device.
pub(crate) struct Link<S: Sys> {
    admin: Mutex<Admin<S>>,
    spare: Mutex<Spare<S>>,
    pub(crate) registers: Registers,
    pub(crate) capabilities: Capabilities,
    // Last: everything above is gone before the device is closed.
    pub(crate) device: Device<S>,
}

struct Admin<S: Sys> {
    ring: Ring<S>,
    cid: u16,
    /// One page for what a command reads.
    page: DmaBuffer<S>,
    /// Whether a command was not answered in time. What it may still write to is in use: no other one follows
    /// it.
    stuck: bool,
}

/// What I/O queues take when they are made and give back when they go.
pub(crate) struct Spare<S: Sys> {
    pub(crate) ids: Vec<u16>,
    pub(crate) vectors: Vec<Interrupt<S>>,
}

impl<S: Sys> Link<S> {
    /// Resets the controller, sets up the admin queues and enables it. `vectors` become spare; queue IDs do
    /// once it is known how many the controller grants.
    pub(crate) fn new(device: Device<S>, registers: Registers, vectors: Vec<Interrupt<S>>) -> Result<Self> {
        let capabilities = registers.capabilities();
        let name = || device.name().to_owned();
        if capabilities.is_gone() {
            return Err(Error::Gone { device: name() });
        }
        if !capabilities.runs_nvm_with_4k_pages() {
            let why = "it does not run the NVM command set with 4 KiB pages";
            return Err(Error::Unsuitable { device: name(), why });
        }
        let (submission, completion) = ring::extents(ADMIN_DEPTH);
        let space = device.address_space();
        let memory = space.allocate(submission + completion, &DmaOptions::new())?;
        let page = space.allocate(PAGE, &DmaOptions::new())?;
        let ring = Ring::new(registers.clone(), capabilities.stride(), 0, ADMIN_DEPTH, &memory);
        let admin = Mutex::new(Admin { ring, cid: 0, page, stuck: false });
        let spare = Mutex::new(Spare { ids: Vec::new(), vectors });
        let link = Link { admin, spare, registers, capabilities, device };
        link.enable()?;
        Ok(link)
    }

    pub(crate) fn name(&self) -> String {
        self.device.name().to_owned()
    }

    /// Lets a device that runs inline do its work.
    pub(crate) fn give_turn(&self) {
        // Nothing is waited for: there is nothing to be told.
        let _ = self.device.system().wait(&[], Some(Duration::ZERO));
    }

    /// An error if the controller has failed or is gone.
    pub(crate) fn check(&self) -> Result<()> {
        match self.registers.read32(register::CSTS) {
            u32::MAX => Err(Error::Gone { device: self.name() }),
            csts if csts & spec::CSTS_FATAL != 0 => Err(Error::Fatal { device: self.name(), csts }),
            _ => Ok(()),
        }
    }

    /// What queues take and give back.
    pub(crate) fn spare(&self) -> MutexGuard<'_, Spare<S>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs an admin command to its end.
    pub(crate) fn admin_command(&self, name: &str, command: Command) -> Result<CompletionEntry> {
        self.run(&mut self.admin(), name, command)
    }

    /// The data that Identify gives: of what `cns` says, of namespace `nsid` where it concerns one.
    pub(crate) fn identify(&self, nsid: u32, cns: u32) -> Result<[u8; PAGE]> {
        let mut admin = self.admin();
        let prp = [admin.page.address_at(0).0.get(), 0];
        let cdw10 = [cns, 0, 0, 0, 0, 0];
        let command = Command { opcode: admin::IDENTIFY, nsid, prp, cdw10, ..Command::default() };
        self.run(&mut admin, "Identify", command)?;
        let mut bytes = [0; PAGE];
        admin.page.read_at(0, &mut bytes);
        Ok(bytes)
    }

    /// That something did not happen in time.
    pub(crate) fn timeout(&self, what: &'static str, within: Duration) -> Error {
        Error::Timeout { device: self.name(), what, within, csts: self.registers.read32(register::CSTS) }
    }

    fn enable(&self) -> Result<()> {
        self.disable()?;
        let (asq, acq) = {
            let admin = self.admin();
            (admin.ring.submission_address(), admin.ring.completion_address())
        };
        let last = u32::from(ADMIN_DEPTH - 1);
        self.registers.write32(register::AQA, last << 16 | last);
        self.registers.write64(register::ASQ, asq);
        self.registers.write64(register::ACQ, acq);
        self.registers.write32(register::CC, spec::CC_ENABLE);
        self.await_status("becoming ready", spec::CSTS_READY | spec::CSTS_FATAL, spec::CSTS_READY)
    }

    fn disable(&self) -> Result<()> {
        self.registers.write32(register::CC, 0);
        self.await_status("becoming disabled", spec::CSTS_READY, 0)
    }

    fn shut_down(&self) -> Result<()> {
        self.check()?;
        if self.registers.read32(register::CSTS) & spec::CSTS_READY != 0 {
            self.registers.write32(register::CC, spec::CC_ENABLE | spec::CC_SHUTDOWN);
            self.await_status("shutdown", spec::CSTS_SHUTDOWN, spec::CSTS_SHUTDOWN_DONE)?;
        }
        self.disable()
    }

    fn await_status(&self, what: &'static str, mask: u32, value: u32) -> Result<()> {
        let within = self.capabilities.ready_within();
        let end = Instant::now() + within;
        loop {
            match self.registers.read32(register::CSTS) {
                u32::MAX => return Err(Error::Gone { device: self.name() }),
                csts if csts & mask == value => return Ok(()),
                csts if csts & mask & spec::CSTS_FATAL != 0 => {
                    return Err(Error::Fatal { device: self.name(), csts });
                }
                _ if Instant::now() > end => return Err(self.timeout(what, within)),
                _ => self.give_turn(),
            }
        }
    }

    fn admin(&self) -> MutexGuard<'_, Admin<S>> {
        self.admin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, admin: &mut Admin<S>, name: &str, mut command: Command) -> Result<CompletionEntry> {
        const WHAT: &str = "the completion of an admin command";
        if admin.stuck {
            return Err(self.timeout(WHAT, PATIENCE));
        }
        admin.cid = admin.cid.wrapping_add(1);
        command.cid = admin.cid;
        admin.ring.push(&command);
        admin.ring.ring();
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = admin.ring.pop();
            admin.ring.acknowledge();
            // A sound controller answers nothing but the one command.
            if let Some(entry) = answer.filter(|entry| entry.cid == command.cid) {
                return match Status::from_field(entry.status >> 1) {
                    None => Ok(entry),
                    Some(status) => {
                        Err(Error::Command { device: self.name(), command: name.to_owned(), status })
                    }
                };
            }
            self.check()?;
            if Instant::now() > end {
                admin.stuck = true;
                // Whatever memory it was told of is not its any more. A device that refuses is gone.
                let _gone = self.device.set_bus_master(false);
                return Err(self.timeout(WHAT, PATIENCE));
            }
            self.give_turn();
        }
    }
}

impl<S: Sys> Drop for Link<S> {
    /// Shuts the controller down, so that what it caches is durable and it reaches no memory any more.
    /// Closing the device resets it in any case.
    fn drop(&mut self) {
        if self.shut_down().is_err() {
            // The memory of the admin queues goes before the device is closed. A device that refuses is gone.
            let _gone = self.device.set_bus_master(false);
        }
    }
}
