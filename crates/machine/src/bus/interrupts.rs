//! Interrupts of one function: messages (MSI and MSI-X) and the line (INTx).
//!
//! A message is an eventfd written at once, by whoever runs the model. The line is level-triggered and needs the driver
//! core to act on it: its rise waits in the [`Outbox`] until no lock is held.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, poll};
use rustix::io::ReadWriteFlags;
use subsystem::{Function, IrqKind};

use super::Outbox;
use crate::kept::Kept;
use crate::lock::lock;

/// A reference to an eventfd.
#[derive(Clone, Debug)]
pub(crate) struct Event(Arc<Kept<OwnedFd>>);

impl Event {
    /// Takes over an eventfd.
    pub(crate) fn new(eventfd: OwnedFd) -> Self {
        Event(Arc::new(Kept::new(eventfd)))
    }

    /// A new eventfd, at zero.
    pub(crate) fn create() -> rustix::io::Result<Self> {
        rustix::event::eventfd(0, EventfdFlags::CLOEXEC).map(Self::new)
    }

    /// Whether it was signalled.
    pub(crate) fn is_signalled(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut [PollFd::new(self, PollFlags::IN)], Some(&now)), Ok(1))
    }

    /// Sets it back to zero, without waiting. True if it was signalled.
    pub(crate) fn take(&self) -> bool {
        let mut count = [0; 8];
        // The position that means "none": an eventfd has none.
        let buffers = &mut [IoSliceMut::new(&mut count)];
        rustix::io::preadv2(&*self.0, buffers, u64::MAX, ReadWriteFlags::NOWAIT).is_ok()
    }

    /// Adds 1. A counter that is full already says all there is to say: a device waits for nobody, however the program
    /// opened the eventfd.
    pub(crate) fn signal(&self) {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if matches!(poll(&mut [PollFd::new(self, PollFlags::OUT)], Some(&now)), Ok(1)) {
            // Anything but EAGAIN (it is full) is impossible on an eventfd that is held open.
            let _full = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
        }
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The interrupts of one function.
#[derive(Debug)]
pub struct Interrupts {
    function: Function,
    /// Whether it has a line.
    wired: bool,
    outbox: Arc<Outbox>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    messages: Messages,
    /// Whether the host listens to the line.
    listening: bool,
    /// Whether the device asserts it.
    level: bool,
    /// Interrupt Disable in the command register.
    disabled: bool,
    /// Bus Master Enable there: a message is a write to memory.
    bus_master: bool,
}

#[derive(Debug)]
enum Messages {
    Off,
    On { kind: IrqKind, vectors: Vec<Vector> },
}

#[derive(Clone, Debug, Default)]
struct Vector {
    event: Option<Event>,
    /// Fired while nobody was to be told: the pending bit.
    pending: bool,
}

impl Interrupts {
    pub(crate) fn new(function: Function, wired: bool, outbox: Arc<Outbox>) -> Self {
        let state = State {
            messages: Messages::Off,
            listening: false,
            level: false,
            disabled: false,
            bus_master: false,
        };
        Interrupts { function, wired, outbox, state: Mutex::new(state) }
    }

    /// The device sends the message of a vector. Without MSI and MSI-X, without bus mastering, or for a vector that the
    /// host did not enable, nothing is sent.
    pub fn message(&self, vector: u16) {
        // Held until it is sent: what the host disables signals nobody afterwards.
        let mut state = lock(&self.state);
        if !state.bus_master {
            return;
        }
        let Messages::On { vectors, .. } = &mut state.messages else { return };
        let Some(vector) = vectors.get_mut(usize::from(vector)) else { return };
        match &vector.event {
            Some(event) => event.signal(),
            None => vector.pending = true,
        }
    }

    /// The device asserts or releases its line, if it has one. It does not while messages are enabled: they replace the line.
    pub fn line(&self, level: bool) {
        if !self.wired {
            return;
        }
        let mut state = lock(&self.state);
        let before = state.asks();
        state.level = level;
        self.post_rise(before, &state);
    }

    /// Whether MSI-X is enabled.
    pub fn msix_enabled(&self) -> bool {
        matches!(lock(&self.state).messages, Messages::On { kind: IrqKind::MsiX, .. })
    }

    /// How many MSI vectors the host enabled; 0 while MSI is off.
    pub fn msi_vectors(&self) -> u32 {
        match &lock(&self.state).messages {
            Messages::On { kind: IrqKind::Msi, vectors } => vectors.len() as u32,
            _ => 0,
        }
    }

    /// Enables a kind with `count` vectors, none of which has an event yet.
    pub(crate) fn enable(&self, kind: IrqKind, count: u32) {
        let mut state = lock(&self.state);
        let before = state.asks();
        match kind {
            IrqKind::Line => state.listening = true,
            IrqKind::Msi | IrqKind::MsiX => {
                state.messages = Messages::On { kind, vectors: vec![Vector::default(); count as usize] };
            }
        }
        self.post_rise(before, &state);
    }

    /// Who is signalled when a vector fires. What fired while nobody was is delivered now.
    pub(crate) fn set(&self, kind: IrqKind, vector: u32, event: Option<Event>) {
        let mut state = lock(&self.state);
        let Messages::On { kind: enabled, vectors } = &mut state.messages else { return };
        let Some(vector) = vectors.get_mut(vector as usize).filter(|_| *enabled == kind) else { return };
        if let Some(event) = event.as_ref().filter(|_| std::mem::take(&mut vector.pending)) {
            event.signal();
        }
        vector.event = event;
    }

    /// Disables a kind; what is pending is forgotten with it.
    pub(crate) fn disable(&self, kind: IrqKind) {
        let mut state = lock(&self.state);
        match kind {
            IrqKind::Line => state.listening = false,
            IrqKind::Msi | IrqKind::MsiX => state.messages = Messages::Off,
        }
    }

    /// Interrupt Disable of the command register was written.
    pub(crate) fn disable_line(&self, disabled: bool) {
        let mut state = lock(&self.state);
        let before = state.asks();
        state.disabled = disabled;
        self.post_rise(before, &state);
    }

    /// Bus Master Enable of the command register was written.
    pub(crate) fn set_bus_master(&self, on: bool) {
        lock(&self.state).bus_master = on;
    }

    /// The function is reset: its line falls, and what was pending is forgotten. Who is signalled stays, as the host
    /// restores that.
    pub(crate) fn reset(&self) {
        let mut state = lock(&self.state);
        state.level = false;
        if let Messages::On { vectors, .. } = &mut state.messages {
            vectors.iter_mut().for_each(|vector| vector.pending = false);
        }
    }

    /// 64 pending bits of MSI-X, from vector `32 * word` on.
    pub(crate) fn pending(&self, word: usize) -> u64 {
        match &lock(&self.state).messages {
            Messages::On { kind: IrqKind::MsiX, vectors } => {
                let vectors = vectors.iter().skip(32 * word).take(64).enumerate();
                vectors.fold(0, |bits, (bit, vector)| bits | u64::from(vector.pending) << bit)
            }
            _ => 0,
        }
    }

    /// The level of the line: Interrupt Status of the status register.
    pub(crate) fn line_level(&self) -> bool {
        lock(&self.state).level
    }

    fn post_rise(&self, before: bool, state: &State) {
        if !before && state.asks() {
            self.outbox.post(self.function);
        }
    }
}

impl State {
    /// Whether the line interrupts the CPU.
    fn asks(&self) -> bool {
        self.level && self.listening && !self.disabled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::event::eventfd;

    use super::*;

    fn interrupts() -> (Interrupts, Arc<Outbox>) {
        let outbox = Arc::new(Outbox::default());
        let interrupts = Interrupts::new(Function(3), true, Arc::clone(&outbox));
        interrupts.set_bus_master(true);
        (interrupts, outbox)
    }

    fn event() -> (Event, OwnedFd) {
        let fd = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        (Event::new(fd.try_clone().unwrap()), fd)
    }

    fn count(fd: &OwnedFd) -> u64 {
        let mut bytes = [0; 8];
        rustix::io::read(fd, &mut bytes).map_or(0, |_| u64::from_ne_bytes(bytes))
    }

    #[test]
    fn a_message_reaches_the_event_of_its_vector() {
        let (interrupts, _) = interrupts();
        let (event, fd) = event();
        interrupts.message(1);
        interrupts.enable(IrqKind::MsiX, 2);
        interrupts.set(IrqKind::MsiX, 1, Some(event));
        assert_eq!(count(&fd), 0, "what fires while messages are off is lost");
        interrupts.message(0);
        interrupts.message(1);
        interrupts.message(2);
        assert_eq!(count(&fd), 1);
        interrupts.disable(IrqKind::MsiX);
        interrupts.message(1);
        assert_eq!(count(&fd), 0);
    }

    #[test]
    fn what_fires_without_an_event_is_pending() {
        let (interrupts, _) = interrupts();
        let (event, fd) = event();
        interrupts.enable(IrqKind::Msi, 1);
        interrupts.message(0);
        interrupts.set(IrqKind::Msi, 0, Some(event.clone()));
        assert_eq!(count(&fd), 1);
        interrupts.set(IrqKind::Msi, 0, None);
        interrupts.set(IrqKind::Msi, 0, Some(event));
        assert_eq!(count(&fd), 0, "delivered once");
    }

    #[test]
    fn without_bus_mastering_no_message_is_sent() {
        let (interrupts, _) = interrupts();
        let (event, fd) = event();
        interrupts.enable(IrqKind::MsiX, 1);
        interrupts.set(IrqKind::MsiX, 0, Some(event));
        interrupts.set_bus_master(false);
        interrupts.message(0);
        assert_eq!(count(&fd), 0);
    }

    #[test]
    fn nothing_fires_after_it_was_disabled() {
        let (interrupts, _) = interrupts();
        let (event, fd) = event();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    interrupts.message(0);
                    std::thread::yield_now();
                }
            });
            let mut late = 0;
            for _ in 0..1000 {
                interrupts.enable(IrqKind::MsiX, 1);
                interrupts.set(IrqKind::MsiX, 0, Some(event.clone()));
                while count(&fd) == 0 {
                    std::thread::yield_now();
                }
                interrupts.disable(IrqKind::MsiX);
                count(&fd);
                std::thread::yield_now();
                late += count(&fd);
            }
            stop.store(true, Ordering::Relaxed);
            assert_eq!(late, 0);
        });
    }

    /// However the program opened the eventfd, and whatever it wrote to it.
    #[test]
    fn a_full_counter_makes_nobody_wait() {
        let fd = eventfd(0, EventfdFlags::empty()).unwrap();
        rustix::io::write(&fd, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        let event = Event::new(fd.try_clone().unwrap());
        let (done, signalled) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            event.signal();
            done.send(()).unwrap();
        });
        signalled.recv_timeout(std::time::Duration::from_secs(10)).expect("it returns");
        assert_eq!(count(&fd), u64::MAX - 1);
    }

    #[test]
    fn pending_bits_show_until_they_are_delivered_or_reset() {
        let (interrupts, _) = interrupts();
        interrupts.enable(IrqKind::MsiX, 40);
        interrupts.message(1);
        interrupts.message(33);
        assert_eq!((interrupts.pending(0), interrupts.pending(1)), (2 << 32 | 2, 2));
        interrupts.set(IrqKind::MsiX, 1, Some(event().0));
        assert_eq!(interrupts.pending(0), 2 << 32);
        interrupts.reset();
        assert_eq!(interrupts.pending(1), 0);
    }

    #[test]
    fn the_line_posts_its_rise_once_and_again_after_an_unmask() {
        let (interrupts, outbox) = interrupts();
        interrupts.line(true);
        assert!(outbox.take().is_empty(), "nobody listens");
        interrupts.enable(IrqKind::Line, 1);
        assert_eq!(outbox.take(), [Function(3)]);
        interrupts.line(true);
        assert!(outbox.take().is_empty(), "still up");
        interrupts.disable_line(true);
        interrupts.disable_line(false);
        assert_eq!(outbox.take(), [Function(3)]);
        interrupts.line(false);
        interrupts.line(true);
        interrupts.line(true);
        assert_eq!(outbox.take(), [Function(3)]);
    }
}
