//! Memory of the simulated host: frames, address spaces, files, pins and accounts.

use std::collections::{BTreeMap, HashMap};

use subsystem::{Account, Backing, Memory, PinError, Run, Source, Task, Transfer};
use uapi::Errno;

use super::emulated;
use super::host::TestHost;
use super::iommu::DomainsInUse;

pub(crate) const PAGE: u64 = 4096;

/// How the frames of new memory lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// No two pages are neighbours.
    Scattered,
    /// All pages are neighbours.
    Contiguous,
}

/// Frames in a row, as part of an address space or a file.
#[derive(Clone, Copy, Debug)]
struct Frames {
    /// The number of the first frame.
    frame: u64,
    pages: u64,
    writable: bool,
}

/// A row of pages: where each run of frames begins.
type Pages = BTreeMap<u64, Frames>;

/// A process.
#[derive(Default)]
pub(crate) struct Process {
    pages: Pages,
    /// Where it has mapped BARs: address, how many pages, and whether it may write them.
    pub(crate) regions: Vec<(u64, u64, bool)>,
    /// RLIMIT_MEMLOCK, in pages; `None`: no limit.
    pub(crate) limit: Option<u64>,
    /// `locked_vm` of the user, in pages.
    pub(crate) user: u64,
    /// `pinned_vm` of the address space that counts against the limit, in pages.
    pub(crate) space: u64,
    /// All pinned pages: `VmPin`.
    pub(crate) pinned: u64,
    /// How many holders the task has.
    pub(crate) holders: u64,
}

/// A file.
struct File {
    /// `None`: not a memory file.
    pages: Option<Pages>,
    /// In bytes.
    size: u64,
}

/// Pages that were pinned with one call.
struct Pinned {
    /// By page of the pin.
    runs: Pages,
    pages: u64,
    /// What was given back, as first page and how many.
    returned: Vec<(u64, u64)>,
}

/// A pin: its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pin(u32);

/// All memory.
#[derive(Default)]
pub(crate) struct Ram {
    frames: u64,
    contents: HashMap<u64, Box<[u8]>>,
    tasks: Vec<Process>,
    files: Vec<File>,
    /// The file behind each backing that is held; the inner `None` is a file without memory.
    backings: Vec<Option<Option<usize>>>,
    pins: Vec<Option<Pinned>>,
    free_pins: Vec<u32>,
}

/// What of a host's memory the subsystem uses, for comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct InUse {
    pub(crate) pinned_pages: u64,
    pub(crate) charged: Vec<(u64, u64, u64)>,
    pub(crate) task_holders: u64,
    pub(crate) backings: usize,
    pub(crate) domains: DomainsInUse,
}

impl Ram {
    /// A new process without memory.
    pub(crate) fn new_task(&mut self) -> Task {
        self.tasks.push(Process::default());
        Task(u32::try_from(self.tasks.len() - 1).unwrap())
    }

    pub(crate) fn process(&mut self, task: Task) -> &mut Process {
        &mut self.tasks[task.0 as usize]
    }

    /// The number of the first of `pages` new frames. Scattered ones are asked for one by one.
    fn new_frames(&mut self, pages: u64) -> u64 {
        // A frame is left out before each row, so that no two rows are neighbours.
        let frame = 0x10_0000 + self.frames + 1;
        self.frames += pages + 1;
        frame
    }

    fn new_pages(&mut self, first: u64, pages: u64, layout: Layout, writable: bool) -> Pages {
        match layout {
            Layout::Contiguous => [(first, Frames { frame: self.new_frames(pages), pages, writable })].into(),
            Layout::Scattered => (first..first + pages)
                .map(|page| (page, Frames { frame: self.new_frames(1), pages: 1, writable }))
                .collect(),
        }
    }

    /// Gives a process new memory.
    pub(crate) fn map(&mut self, task: Task, address: u64, pages: u64, layout: Layout, writable: bool) {
        let new = self.new_pages(address / PAGE, pages, layout, writable);
        self.process(task).pages.extend(new);
    }

    /// Takes memory from a process that was given with one call.
    pub(crate) fn unmap(&mut self, task: Task, address: u64, pages: u64) {
        let range = address / PAGE..address / PAGE + pages;
        self.process(task).pages.retain(|page, _| !range.contains(page));
    }

    /// Makes the memory at an address writable or not, which was given with one call.
    pub(crate) fn protect(&mut self, task: Task, address: u64, writable: bool) {
        let (_, frames) = self.process(task).pages.range_mut(address / PAGE..).next().expect("memory");
        frames.writable = writable;
    }

    /// A new memory file of so many bytes.
    pub(crate) fn new_memfd(&mut self, size: u64, layout: Layout) -> usize {
        let pages = self.new_pages(0, size.div_ceil(PAGE), layout, true);
        self.files.push(File { pages: Some(pages), size });
        self.files.len() - 1
    }

    /// A new file on a disk.
    pub(crate) fn new_disk_file(&mut self) -> usize {
        self.files.push(File { pages: None, size: 1 << 20 });
        self.files.len() - 1
    }

    /// The physical address behind an address of a process.
    pub(crate) fn physical(&self, task: Task, address: u64) -> Option<u64> {
        let (frame, _) = find(&self.tasks[task.0 as usize].pages, address / PAGE)?;
        Some(frame * PAGE + address % PAGE)
    }

    /// The physical address behind an offset in a memory file.
    pub(crate) fn file_physical(&self, file: usize, offset: u64) -> Option<u64> {
        let (frame, _) = find(self.files[file].pages.as_ref()?, offset / PAGE)?;
        Some(frame * PAGE + offset % PAGE)
    }

    pub(crate) fn read(&mut self, task: Task, address: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        let mut at = address;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (frame, _) = find(&self.tasks[task.0 as usize].pages, at / PAGE).ok_or(Errno::EFAULT)?;
            let within = (at % PAGE) as usize;
            let (now, later) = rest.split_at_mut(rest.len().min(PAGE as usize - within));
            match self.contents.get(&frame) {
                Some(page) => now.copy_from_slice(&page[within..within + now.len()]),
                None => now.fill(0),
            }
            at = at.checked_add(now.len() as u64).ok_or(Errno::EFAULT)?;
            rest = later;
        }
        Ok(())
    }

    pub(crate) fn write(&mut self, task: Task, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        let mut at = address;
        let mut rest = bytes;
        while !rest.is_empty() {
            let found = find(&self.tasks[task.0 as usize].pages, at / PAGE);
            let (frame, _) = found.filter(|(_, frames)| frames.writable).ok_or(Errno::EFAULT)?;
            let within = (at % PAGE) as usize;
            let (now, later) = rest.split_at(rest.len().min(PAGE as usize - within));
            let page = self.contents.entry(frame).or_insert_with(|| vec![0; PAGE as usize].into());
            page[within..within + now.len()].copy_from_slice(now);
            at = at.checked_add(now.len() as u64).ok_or(Errno::EFAULT)?;
            rest = later;
        }
        Ok(())
    }

    /// One more backing.
    pub(crate) fn hold_file(&mut self, file: Option<usize>) -> Backing {
        let free = self.backings.iter().position(Option::is_none).unwrap_or(self.backings.len());
        self.backings.resize(self.backings.len().max(free + 1), None);
        self.backings[free] = Some(file);
        Backing(u32::try_from(free).unwrap())
    }

    /// What of the memory is in use; of the domains, [`TestHost::in_use`] knows.
    fn ram_in_use(&self) -> InUse {
        let pins = || self.pins.iter().flatten();
        InUse {
            pinned_pages: pins().map(Pinned::held).sum(),
            charged: self.tasks.iter().map(|task| (task.user, task.space, task.pinned)).collect(),
            task_holders: self.tasks.iter().map(|task| task.holders).sum(),
            backings: self.backings.iter().flatten().count(),
            domains: DomainsInUse::default(),
        }
    }

    /// The physical address of a page of a pin.
    pub(crate) fn pin_physical(&mut self, pin: Pin, page: u64) -> u64 {
        find(&self.pin_mut(pin).runs, page).expect("a page of the pin").0 * PAGE
    }

    /// Reads pinned memory.
    pub(crate) fn read_pin(&mut self, pin: Pin, at: u64, bytes: &mut [u8]) {
        for (at, byte) in (at..).zip(bytes) {
            let frame = self.pin_physical(pin, at / PAGE) / PAGE;
            *byte = self.contents.get(&frame).map_or(0, |page| page[(at % PAGE) as usize]);
        }
    }

    /// Writes pinned memory.
    pub(crate) fn write_pin(&mut self, pin: Pin, at: u64, bytes: &[u8]) {
        for (at, byte) in (at..).zip(bytes) {
            let frame = self.pin_physical(pin, at / PAGE) / PAGE;
            self.contents.entry(frame).or_insert_with(|| vec![0; PAGE as usize].into())
                [(at % PAGE) as usize] = *byte;
        }
    }

    /// How many pages a pin has.
    pub(crate) fn pin_pages(&mut self, pin: Pin) -> u64 {
        self.pin_mut(pin).pages
    }

    fn pin_mut(&mut self, pin: Pin) -> &mut Pinned {
        self.pins[pin.0 as usize].as_mut().expect("a pin that was given back is used")
    }

    fn pin(&mut self, source: Source, first: u64, pages: u64, write: bool) -> Result<Pin, PinError> {
        let (from, start) = match source {
            Source::User { task, address } => (&self.tasks[task.0 as usize].pages, address / PAGE + first),
            Source::File { backing, offset } => {
                let file = self.backings[backing.0 as usize].expect("a backing that was put is used");
                let file = file.map(|file| &self.files[file]).ok_or(PinError::Unsuitable)?;
                let start = offset / PAGE + first;
                if start.checked_add(pages).is_none_or(|end| end > file.size / PAGE) {
                    return Err(PinError::Unsuitable);
                }
                (file.pages.as_ref().ok_or(PinError::Unsuitable)?, start)
            }
        };
        let mut runs = Pages::new();
        let mut page = 0;
        while page < pages {
            let at = start.checked_add(page).ok_or(PinError::Fault)?;
            let (frame, frames) =
                find(from, at).filter(|(_, frames)| frames.writable || !write).ok_or(PinError::Fault)?;
            let run = frames.pages.min(pages - page);
            runs.insert(page, Frames { frame, pages: run, writable: write });
            page += run;
        }
        let pinned = Some(Pinned { runs, pages, returned: Vec::new() });
        Ok(match self.free_pins.pop() {
            Some(free) => {
                self.pins[free as usize] = pinned;
                Pin(free)
            }
            None => {
                self.pins.push(pinned);
                Pin(u32::try_from(self.pins.len() - 1).unwrap())
            }
        })
    }

    fn unpin(&mut self, pin: Pin, first: u64, pages: u64) {
        let pinned = self.pin_mut(pin);
        assert!(first + pages <= pinned.pages, "pages are given back that were not pinned");
        let overlaps = |other: u64, length: u64| first < other + length && other < first + pages;
        assert!(
            !pinned.returned.iter().any(|&(first, pages)| overlaps(first, pages)),
            "a page is given back twice"
        );
        pinned.returned.push((first, pages));
        if pinned.held() == 0 {
            self.pins[pin.0 as usize] = None;
            self.free_pins.push(pin.0);
        }
    }
}

impl Pinned {
    /// Whether a page of it is still pinned, and has this frame.
    fn holds(&self, page: u64, frame: u64) -> bool {
        let returned = self.returned.iter().any(|&(first, pages)| (first..first + pages).contains(&page));
        !returned && find(&self.runs, page).is_some_and(|(found, _)| found == frame)
    }

    /// How many pages are still pinned.
    fn held(&self) -> u64 {
        self.pages - self.returned.iter().map(|(_, pages)| pages).sum::<u64>()
    }
}

/// The frame of a page, and the run from there on.
fn find(pages: &Pages, page: u64) -> Option<(u64, Frames)> {
    let (first, frames) = pages.range(..=page).next_back()?;
    let skipped = page - first;
    let frame = frames.frame + skipped;
    (skipped < frames.pages).then(|| (frame, Frames { frame, pages: frames.pages - skipped, ..*frames }))
}

impl TestHost {
    /// What of the host the subsystem uses.
    pub(crate) fn in_use(&self) -> InUse {
        let domains = self.iommus(|iommus| iommus.in_use());
        InUse { domains, ..self.ram(|ram| ram.ram_in_use()) }
    }
}

impl Memory for TestHost {
    type Pin = Pin;

    fn pin(&self, source: Source, first: u64, pages: u64, write: bool) -> Result<Pin, PinError> {
        assert!(pages > 0, "nothing is pinned");
        if !self.pins.next() {
            return Err(PinError::NoMemory);
        }
        self.ram(|ram| ram.pin(source, first, pages, write))
    }

    fn is_region(&self, task: Task, address: u64, pages: u64, write: bool) -> bool {
        let end = address + pages * PAGE;
        let covers = |(start, pages, writable): &(u64, u64, bool)| {
            *start <= address && end <= start + pages * PAGE && (*writable || !write)
        };
        self.ram(|ram| ram.process(task).regions.iter().any(covers))
    }

    fn unpin(&self, pin: Pin, first: u64, pages: u64) {
        let mapped = self.iommus(|iommus| iommus.has_mapped(pin, first, pages));
        assert!(!mapped, "a page is unpinned while a device may reach it");
        self.ram(|ram| ram.unpin(pin, first, pages));
    }

    fn run(&self, pin: Pin, page: u64, left: u64) -> Run {
        self.ram(|ram| {
            let pinned = ram.pin_mut(pin);
            assert!(page + left <= pinned.pages, "a run is asked for behind the end of a pin");
            let (frame, frames) = find(&pinned.runs, page).unwrap();
            Run { address: frame * PAGE, pages: frames.pages }
        })
    }

    fn pins(&self, pin: Pin, page: u64) -> u64 {
        self.ram(|ram| {
            let frame = find(&ram.pin_mut(pin).runs, page).expect("a page of the pin").0;
            let held =
                |pinned: &Pinned| (0..pinned.pages).filter(|&page| pinned.holds(page, frame)).count() as u64;
            ram.pins.iter().flatten().map(held).sum()
        })
    }

    fn copy(&self, pin: Pin, at: u64, bytes: Transfer<'_>) {
        emulated::copy(self, pin, at, bytes);
    }

    fn charge(&self, task: Task, account: Account, pages: u64) -> bool {
        assert!(pages > 0, "nothing is charged");
        self.ram(|ram| {
            let process = ram.process(task);
            let limit = process.limit.unwrap_or(u64::MAX);
            match account {
                Account::None => {}
                Account::User if process.user + pages > limit => return false,
                Account::Space | Account::Locked { capable: false } if process.space + pages > limit => {
                    return false;
                }
                Account::User => process.user += pages,
                Account::Space => process.space += pages,
                Account::Locked { .. } => {
                    process.space += pages;
                    return true;
                }
            }
            process.pinned += pages;
            true
        })
    }

    fn uncharge(&self, task: Task, account: Account, pages: u64) {
        let minus =
            |counter: &mut u64| *counter = counter.checked_sub(pages).expect("an account falls below zero");
        self.ram(|ram| {
            let process = ram.process(task);
            match account {
                Account::None => {}
                Account::User => minus(&mut process.user),
                Account::Space => minus(&mut process.space),
                Account::Locked { .. } => return minus(&mut process.space),
            }
            minus(&mut process.pinned);
        });
    }

    fn lockable(&self, task: Task) -> (u64, u64) {
        self.ram(|ram| {
            let process = ram.process(task);
            process.limit.map_or((u64::MAX, u64::MAX), |limit| (limit.saturating_sub(process.space), limit))
        })
    }

    fn hold_task(&self, task: Task) {
        self.ram(|ram| ram.process(task).holders += 1);
    }

    fn put_task(&self, task: Task) {
        self.ram(|ram| {
            let holders = &mut ram.process(task).holders;
            *holders = holders.checked_sub(1).expect("a task is put that is not held");
        });
    }

    fn put_backing(&self, backing: Backing) {
        let file = self.ram(|ram| ram.backings[backing.0 as usize].take());
        assert!(file.is_some(), "a backing is put twice");
    }
}
