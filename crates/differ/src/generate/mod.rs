//! Drawing sequences: calls that fit what is open at the moment, near-misses, and rubbish.
//!
//! A sequence is drawn while it is made on one system: each step is chosen knowing what the steps before it answered, and is
//! written down with the numbers that came of that. Another system makes the same calls then.

mod container;
mod device;
mod iommufd;
mod known;

use conformance::Target;
use fastrand::Rng;
use sys::{Access, Suite};

use crate::arena::Arena;
use crate::command::{Command, is_descriptor, is_pointer};
use crate::outcome::Outcome;
use crate::player::Player;
use crate::sequence::{Argument, Call, Item, Node, Place, Request, Sequence, Slot, Step, Value};
use known::{Kind, Known};

/// Draws a sequence of so many calls from a seed, while it is made on a system.
pub fn draw<S: Suite>(
    sys: &S,
    target: &Target,
    arena: &Arena,
    seed: u64,
    calls: usize,
) -> (Sequence, Vec<Outcome>) {
    let mut generator = Generator::new(seed, target.devices.len());
    let mut player = Player::new(sys, target, arena);
    let (mut sequence, mut outcomes) = (Sequence::default(), Vec::new());
    while sequence.steps.len() < calls {
        let step = generator.step();
        // What could be an address of this process is not passed on, and something else drawn in its place.
        let Ok(outcome) = player.step(&step) else { continue };
        generator.known.learn(&step, &outcome, player.argument());
        sequence.steps.push(step);
        outcomes.push(outcome);
    }
    outcomes.push(player.finish());
    (sequence, outcomes)
}

/// Draws steps.
struct Generator {
    rng: Rng,
    devices: u8,
    known: Known,
}

/// How often a step of one kind is drawn, and how.
type Draw = (u32, fn(&mut Generator) -> Option<Step>);

/// How many slots a sequence has: few, so that files are closed and replaced.
const SLOTS: u8 = 16;

impl Generator {
    /// A generator for systems with so many devices.
    fn new(seed: u64, devices: usize) -> Self {
        let devices = u8::try_from(devices).unwrap_or(u8::MAX);
        Generator { rng: Rng::with_seed(seed), devices, known: Known::default() }
    }

    fn step(&mut self) -> Step {
        let mut draws: Vec<Draw> = vec![
            (if self.known.any(Kind::Iommufd) { 3 } else { 200 }, Self::open_iommufd),
            (if self.known.any(Kind::Device) { 3 } else { 200 }, Self::open_device),
            (5, Self::event),
            (3, Self::memfd),
            (2, Self::dup),
            (4, Self::close),
            (2, Self::poke),
            (2, Self::look),
            (2, Self::unknown_ioctl),
        ];
        draws.extend_from_slice(iommufd::DRAWS);
        draws.extend_from_slice(device::DRAWS);
        draws.extend_from_slice(container::DRAWS);
        let total = draws.iter().map(|(weight, _)| weight).sum();
        loop {
            let mut at = self.rng.u32(0..total);
            for (weight, draw) in &draws {
                if at < *weight {
                    if let Some(step) = draw(self) {
                        return self.disturb(step);
                    }
                    break;
                }
                at -= weight;
            }
        }
    }

    /// Now and then something about a step is wrong.
    fn disturb(&mut self, mut step: Step) -> Step {
        step.aside = self.one_in(12);
        if let Call::Ioctl { file, request } = &mut step.call {
            if self.one_in(40)
                && let Some(other) = self.known.anything(&mut self.rng)
            {
                *file = other;
            }
            if let (Command::Known(known), Argument::Memory { place, fields, .. }) =
                (request.command, &mut request.argument)
            {
                if self.one_in(60) {
                    *place = if self.rng.bool() { Place::Null } else { Place::ReadOnly };
                }
                if self.one_in(8)
                    && let Some(field) = self.rng.choice(known.fields)
                {
                    let drawn = fields.iter().find(|(name, _)| *name == field.name).map(|(_, value)| *value);
                    let wrong = self.wrong(field.name, drawn.unwrap_or(Value::Number(0)));
                    fields.retain(|(name, _)| *name != field.name);
                    fields.push((field.name, wrong));
                }
            }
        }
        step
    }

    /// Another value for a field.
    fn wrong(&mut self, field: &str, value: Value) -> Value {
        if is_descriptor(field) {
            let slot = self.known.anything(&mut self.rng).unwrap_or(Slot(SLOTS));
            return Value::Descriptor(slot);
        }
        match value {
            Value::Buffer(offset) => Value::Buffer(self.near(offset) & 0xff_ffff),
            Value::Scratch(offset) => Value::Scratch(self.near(offset) & 0x1_ffff),
            _ if is_pointer(field) => {
                Value::Number(self.pick(&[0, 8, 0x7000, 1 << 47, u64::MAX, u64::MAX - 7]))
            }
            Value::Number(number) => Value::Number(self.near(number)),
            Value::Descriptor(_) => Value::Number(u64::MAX),
        }
    }

    /// A number near another one, or one that is often special.
    fn near(&mut self, number: u64) -> u64 {
        match self.rng.u8(0..7) {
            0 => number.wrapping_add(1),
            1 => number.wrapping_sub(1),
            2 => number ^ (1 << self.rng.u32(0..64)),
            3 => number ^ (1 << self.rng.u32(0..6)),
            4 => self.pick(&[0, 1, 2, 3, 0xff, 0x1000, 0x1001, 1 << 31, u64::MAX, u64::MAX - 0xfff]),
            5 => number.wrapping_add(0x1000),
            _ => self.rng.u64(0..16),
        }
    }

    fn one_in(&mut self, times: u32) -> bool {
        self.rng.u32(0..times) == 0
    }

    fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.rng.usize(0..values.len())]
    }

    /// A number that is among a few, or now and then another small one.
    fn mostly(&mut self, values: &[u64], other: u64) -> Value {
        let other_one = self.one_in(6);
        Value::Number(if other_one { self.rng.u64(0..other) } else { self.pick(values) })
    }

    /// A slot for a new file: an empty one, mostly.
    fn fresh(&mut self) -> Option<Slot> {
        let slot = Slot(self.rng.u8(0..SLOTS));
        (!self.known.holds(slot) || self.one_in(10)).then_some(slot)
    }

    fn of(&mut self, kind: Kind) -> Option<Slot> {
        self.known.one_of(kind, &mut self.rng)
    }
}

/// Steps that every sequence has.
impl Generator {
    fn access(&mut self) -> Access {
        self.pick(&[Access::ReadWrite; 12].map(Some))
            .filter(|_| !self.one_in(15))
            .unwrap_or_else(|| if self.rng.bool() { Access::Read } else { Access::Write })
    }

    fn open(&mut self, node: Node) -> Option<Step> {
        let access = self.access();
        Some(Step { aside: false, into: Some(self.fresh()?), call: Call::Open { node, access } })
    }

    fn open_iommufd(&mut self) -> Option<Step> {
        self.open(Node::Iommufd)
    }

    fn open_device(&mut self) -> Option<Step> {
        let number = self.rng.u8(0..self.devices.max(1));
        self.open(Node::Device(number))
    }

    fn event(&mut self) -> Option<Step> {
        Some(Step { aside: false, into: Some(self.fresh()?), call: Call::Event })
    }

    fn memfd(&mut self) -> Option<Step> {
        let pages = self.rng.u16(1..32);
        Some(Step { aside: false, into: Some(self.fresh()?), call: Call::Memfd { pages } })
    }

    fn dup(&mut self) -> Option<Step> {
        let slot = self.known.anything(&mut self.rng)?;
        Some(Step { aside: false, into: Some(self.fresh()?), call: Call::Dup(slot) })
    }

    fn close(&mut self) -> Option<Step> {
        self.known.anything(&mut self.rng).map(|slot| plain(Call::Close(slot)))
    }

    fn poke(&mut self) -> Option<Step> {
        let mut words: Vec<u64> = (0..self.rng.usize(1..6)).map(|_| self.rng.u64(0..64) << 12).collect();
        if self.rng.bool() {
            words.sort_unstable();
        }
        // Ranges are pairs of a start and a last byte.
        words.iter_mut().skip(1).step_by(2).for_each(|last| *last |= 0xfff);
        Some(plain(Call::Poke { offset: 0, words }))
    }

    fn look(&mut self) -> Option<Step> {
        let slot = self.known.anything(&mut self.rng)?;
        let call = self.pick(&[Call::Poll, Call::Seek, Call::Fdinfo, Call::Count]);
        Some(plain(call(slot)))
    }

    fn unknown_ioctl(&mut self) -> Option<Step> {
        let file = self.known.anything(&mut self.rng)?;
        let number = self.pick(&[0x3b63_u32, 0x3b7f, 0x3b96, 0x3bff, 0x3b00, 0x1234, 0x5401]);
        let argument = Argument::Number(0);
        Some(plain(Call::Ioctl { file, request: Request { command: Command::Number(number), argument } }))
    }
}

fn plain(call: Call) -> Step {
    Step { aside: false, into: None, call }
}

/// An ioctl with a structure.
fn ioctl(file: Slot, name: &'static str, fields: &[(&'static str, Value)]) -> Step {
    ioctl_tailed(file, name, fields, Vec::new())
}

/// An ioctl with something behind the structure.
fn ioctl_tailed(file: Slot, name: &'static str, fields: &[(&'static str, Value)], tail: Vec<Item>) -> Step {
    let command = Command::named(name).unwrap_or(Command::Number(0));
    debug_assert!(!command.name().is_empty(), "{name} is known");
    let argument = Argument::Memory { place: Place::Page, fields: fields.to_vec(), tail };
    plain(Call::Ioctl { file, request: Request { command, argument } })
}

/// An ioctl with a plain number.
fn ioctl_number(file: Slot, name: &'static str, number: u64) -> Step {
    let command = Command::named(name).unwrap_or(Command::Number(0));
    debug_assert!(!command.name().is_empty(), "{name} is known");
    plain(Call::Ioctl { file, request: Request { command, argument: Argument::Number(number) } })
}

/// A step that opens something.
fn into(slot: Slot, mut step: Step) -> Step {
    step.into = Some(slot);
    step
}

fn n(number: impl Into<u64>) -> Value {
    Value::Number(number.into())
}
