//! The controller: bring-up, identification, queues, shutdown.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ioasis::{Bar, Device, DmaBuffer, DmaOptions, Interrupt, Sys};
use zerocopy::FromBytes;

use crate::error::{Error, Result};
use crate::queue::{Completions, Queue};
use crate::ring::Ring;
use crate::spec::{
    self, Command, CompletionEntry, IdentifyController, IdentifyNamespace, PAGE, admin, register,
};
use crate::status::Status;

/// Entries of the admin queues: a page of submission entries.
const ADMIN_DEPTH: u16 = 32;
/// How long an admin command may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a controller says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerInfo {
    /// Model.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// Firmware revision.
    pub firmware: String,
    /// Version of the specification: major, minor, tertiary.
    pub version: (u16, u8, u8),
    /// PCI vendor ID.
    pub vendor: u16,
    /// The largest transfer of one command, in bytes.
    pub max_transfer: usize,
    /// The largest depth of a queue.
    pub max_depth: u16,
    /// How many I/O queue pairs the controller grants.
    pub queues: u16,
    /// How many namespaces it may have.
    pub namespaces: u32,
    /// Whether it has a volatile write cache, so that only a flush makes writes durable.
    pub volatile_write_cache: bool,
}

/// What a namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its ID.
    pub id: u32,
    /// How many blocks it has.
    pub blocks: u64,
    /// Bytes in a block.
    pub block_size: usize,
}

/// An NVMe controller that is up.
pub struct Controller<S: Sys> {
    shared: Arc<Shared<S>>,
    info: ControllerInfo,
    next_queue: u16,
    vectors: Vec<Option<Interrupt<S>>>,
}

/// What the controller and its queues have in common. Dropping the last holder shuts the controller down and closes the
/// device.
pub(crate) struct Shared<S: Sys> {
    admin: Mutex<Admin<S>>,
    pub(crate) bar: Bar,
    pub(crate) capabilities: Capabilities,
    // Last: everything above is gone before the device is closed.
    device: Device<S>,
}

struct Admin<S: Sys> {
    ring: Ring<S>,
    cid: u16,
    /// One page for what a command reads.
    page: DmaBuffer<S>,
}

/// The CAP register (section 3.1.1).
#[derive(Clone, Copy)]
pub(crate) struct Capabilities(u64);

impl Capabilities {
    fn max_depth(self) -> u16 {
        // MQES counts from 0.
        (self.0 as u16).saturating_add(1)
    }

    fn ready_within(self) -> Duration {
        Duration::from_millis(500) * ((self.0 >> 24) as u8).max(1).into()
    }

    /// Bytes from one doorbell to the next.
    pub(crate) fn stride(self) -> usize {
        4 << (self.0 >> 32 & 0xf)
    }

    fn runs_nvm_with_4k_pages(self) -> bool {
        self.0 >> 37 & 1 == 1 && self.0 >> 48 & 0xf == 0
    }
}

impl<S: Sys> Controller<S> {
    /// Brings the controller of a device up: resets it, sets up the admin queues, enables it, and identifies it.
    ///
    /// `vectors` MSI-X vectors are enabled if the device has as many (0: queues are polled).
    pub fn new(device: Device<S>, vectors: u16) -> Result<Self> {
        let name = || device.name().to_owned();
        let class = device.config().class()?;
        if class != 0x01_08_02 {
            return Err(Error::NotNvme { device: name(), class });
        }
        device.set_bus_master(true)?;
        let bar = device.bar(0)?;
        let vectors = if vectors > 0 { device.interrupts().msix(vectors.into())? } else { Vec::new() };
        let capabilities = Capabilities(bar.read64(register::CAP));
        if !capabilities.runs_nvm_with_4k_pages() {
            let why = "it does not run the NVM command set with 4 KiB pages";
            return Err(Error::Unsuitable { device: name(), why });
        }

        let space = device.address_space();
        let options = DmaOptions::new();
        let queue = || space.allocate(PAGE, &options);
        let (submission, completion, page) = (queue()?, queue()?, queue()?);
        let asq = submission.address_at(0).0;
        let acq = completion.address_at(0).0;
        let ring = Ring::new(bar.clone(), capabilities.stride(), 0, ADMIN_DEPTH, submission, completion);
        let admin = Mutex::new(Admin { ring, cid: 0, page });
        let shared = Arc::new(Shared { admin, bar, capabilities, device });

        shared.disable()?;
        let bar = &shared.bar;
        let last = u32::from(ADMIN_DEPTH - 1);
        bar.write32(register::AQA, last << 16 | last);
        bar.write64(register::ASQ, asq.get());
        bar.write64(register::ACQ, acq.get());
        bar.write32(register::CC, spec::CC_ENABLE);
        shared.await_status("becoming ready", spec::CSTS_READY, spec::CSTS_READY)?;

        let info = shared.identify()?;
        let vectors = vectors.into_iter().map(Some).collect();
        Ok(Controller { shared, info, next_queue: 1, vectors })
    }

    /// What the controller says of itself.
    #[must_use]
    pub fn info(&self) -> &ControllerInfo {
        &self.info
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Device<S> {
        &self.shared.device
    }

    /// The active namespaces.
    pub fn namespaces(&self) -> Result<Vec<Namespace>> {
        let list = self.shared.identify_page(0, 2)?;
        let ids = list.chunks_exact(4).filter_map(|id| u32::read_from_bytes(id).ok());
        ids.take_while(|&id| id != 0).map(|id| self.namespace(id)).collect()
    }

    fn namespace(&self, id: u32) -> Result<Namespace> {
        let page = self.shared.identify_page(id, 0)?;
        let unsuitable = |why| Error::Unsuitable { device: self.shared.name(), why };
        let Ok(data) = IdentifyNamespace::read_from_bytes(&page[..]) else {
            return Err(unsuitable("its namespace data is short"));
        };
        let format = data.lbaf[usize::from(data.flbas & 0xf)];
        let shift = format >> 16 & 0xff;
        if !(9..=12).contains(&shift) || format as u16 != 0 {
            return Err(unsuitable("its block format is not of 512 to 4096 bytes without metadata"));
        }
        Ok(Namespace { id, blocks: data.nsze, block_size: 1 << shift })
    }

    /// A new pair of I/O queues with room for `depth - 1` commands under way.
    ///
    /// With [`Completions::Interrupt`] the queue takes the next free MSI-X vector.
    pub fn queue(&mut self, depth: u16, completions: Completions) -> Result<Queue<S>> {
        let argument = |what| Error::Argument { device: self.shared.name(), what };
        if !(2..=self.info.max_depth).contains(&depth) {
            let most = self.info.max_depth;
            return Err(argument(format!(
                "a queue of depth {depth} was asked for; 2 to {most} are possible"
            )));
        }
        if self.next_queue > self.info.queues {
            let most = self.info.queues;
            return Err(argument(format!(
                "the controller grants {most} I/O queue pairs, and all are in use"
            )));
        }
        let interrupt = match completions {
            Completions::Polled => None,
            Completions::Interrupt => {
                let free = self.vectors.iter().position(Option::is_some).ok_or_else(|| {
                    argument("no MSI-X vector is left: ask for more in Controller::new".to_owned())
                })?;
                self.vectors[free].take().map(|interrupt| (free as u16, interrupt))
            }
        };
        let queue = Queue::create(&self.shared, self.next_queue, depth, interrupt, self.info.max_transfer)?;
        self.next_queue += 1;
        Ok(queue)
    }
}

impl<S: Sys> Shared<S> {
    pub(crate) fn name(&self) -> String {
        self.device.name().to_owned()
    }

    /// Lets a device that runs inline do its work, and other threads theirs.
    pub(crate) fn give_turn(&self) {
        // Nothing is waited for: there is nothing to be told.
        let _ = self.device.system().wait(&[], Some(Duration::ZERO));
    }

    pub(crate) fn device(&self) -> &Device<S> {
        &self.device
    }

    /// An error if the controller has failed or is gone.
    pub(crate) fn check(&self) -> Result<()> {
        let csts = self.bar.try_read32(register::CSTS).unwrap_or(u32::MAX);
        if csts & spec::CSTS_FATAL != 0 { Err(Error::Fatal { device: self.name(), csts }) } else { Ok(()) }
    }

    fn await_status(&self, what: &'static str, mask: u32, value: u32) -> Result<()> {
        let within = self.capabilities.ready_within();
        let end = Instant::now() + within;
        loop {
            let csts = self.bar.read32(register::CSTS);
            if csts & mask == value && csts != u32::MAX {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(Error::Timeout { device: self.name(), what, within, csts });
            }
            self.give_turn();
        }
    }

    fn disable(&self) -> Result<()> {
        self.bar.write32(register::CC, 0);
        self.await_status("becoming disabled", spec::CSTS_READY, 0)
    }

    fn identify(&self) -> Result<ControllerInfo> {
        let page = self.identify_page(0, 1)?;
        let Ok(data) = IdentifyController::read_from_bytes(&page[..]) else {
            return Err(Error::Unsuitable { device: self.name(), why: "its identify data is short" });
        };
        let granted = self.admin_command(
            "Set Features (Number of Queues)",
            Command {
                opcode: admin::SET_FEATURES,
                cdw10: [spec::FEATURE_QUEUES, 63 << 16 | 63, 0, 0, 0, 0],
                ..Command::default()
            },
        )?;
        let queues = (granted.result as u16).min((granted.result >> 16) as u16).saturating_add(1);
        let limit = if data.mdts == 0 { usize::MAX } else { PAGE << data.mdts.min(20) };
        let version = self.bar.read32(register::VS);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(ControllerInfo {
            model: text(&data.model),
            serial: text(&data.serial),
            firmware: text(&data.firmware),
            version: ((version >> 16) as u16, (version >> 8) as u8, version as u8),
            vendor: data.vid,
            max_transfer: limit.min(crate::prp::LONGEST),
            max_depth: self.capabilities.max_depth(),
            queues,
            namespaces: data.nn,
            volatile_write_cache: data.vwc & 1 == 1,
        })
    }

    fn identify_page(&self, nsid: u32, cns: u32) -> Result<Box<[u8]>> {
        let mut admin = self.admin();
        let prp = [admin.page.address_at(0).0.get(), 0];
        let cdw10 = [cns, 0, 0, 0, 0, 0];
        let command = Command { opcode: admin::IDENTIFY, nsid, prp, cdw10, ..Command::default() };
        self.run(&mut admin, "Identify", command)?;
        let mut bytes = vec![0; PAGE].into_boxed_slice();
        admin.page.read_at(0, &mut bytes);
        Ok(bytes)
    }

    /// Runs an admin command to its end.
    pub(crate) fn admin_command(&self, name: &str, command: Command) -> Result<CompletionEntry> {
        self.run(&mut self.admin(), name, command)
    }

    fn admin(&self) -> MutexGuard<'_, Admin<S>> {
        self.admin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, admin: &mut Admin<S>, name: &str, mut command: Command) -> Result<CompletionEntry> {
        admin.cid = admin.cid.wrapping_add(1);
        command.cid = admin.cid;
        admin.ring.push(&command);
        admin.ring.ring();
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(entry) = admin.ring.pop() {
                admin.ring.acknowledge();
                // A command that timed out earlier may complete now: nobody waits for it any more.
                if entry.cid != command.cid {
                    continue;
                }
                return match Status::from_field(entry.status >> 1) {
                    None => Ok(entry),
                    Some(status) => {
                        Err(Error::Command { device: self.name(), command: name.to_owned(), status })
                    }
                };
            }
            self.check()?;
            if Instant::now() > end {
                let csts = self.bar.read32(register::CSTS);
                let what = "the completion of an admin command";
                return Err(Error::Timeout { device: self.name(), what, within: PATIENCE, csts });
            }
            self.give_turn();
        }
    }
}

impl<S: Sys> Drop for Shared<S> {
    /// Shuts the controller down, so that what it caches is durable and it reaches no memory any more. Closing the device
    /// resets it in any case.
    fn drop(&mut self) {
        if self.check().is_err() {
            return;
        }
        self.bar.write32(register::CC, spec::CC_ENABLE | spec::CC_SHUTDOWN);
        if self.await_status("shutdown", spec::CSTS_SHUTDOWN, spec::CSTS_SHUTDOWN_DONE).is_ok() {
            // What it answers changes nothing: the device is closed next.
            let _ = self.disable();
        }
    }
}
