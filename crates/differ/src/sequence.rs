//! Sequences of calls, as data.

use sys::Access;

use crate::command::Command;

/// Calls, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    pub(crate) steps: Vec<Step>,
}

impl Sequence {
    /// How many calls there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Whether a thread other than the main one makes it.
    pub(crate) aside: bool,
    /// Where the file goes that it opens.
    pub(crate) into: Option<Slot>,
    pub(crate) call: Call,
}

/// A place for an open file. An empty one stands for a descriptor that is not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) u8);

/// What is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Open {
        node: Node,
        access: Access,
    },
    /// An eventfd that does not block.
    Event,
    /// A memory file of so many pages.
    Memfd {
        pages: u16,
    },
    Dup(Slot),
    Close(Slot),
    Ioctl {
        file: Slot,
        request: Request,
    },
    Read {
        file: Slot,
        offset: u64,
        length: u16,
    },
    Write {
        file: Slot,
        offset: u64,
        bytes: Vec<u8>,
    },
    Map {
        file: Slot,
        offset: u64,
        length: u32,
        writable: bool,
        shared: bool,
    },
    Poll(Slot),
    Seek(Slot),
    Fdinfo(Slot),
    /// Reads an eventfd's counter.
    Count(Slot),
    /// Writes words into the scratch memory.
    Poke {
        offset: u16,
        words: Vec<u64>,
    },
}

/// A node to open; devices and groups by their number among those that the sequence is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Iommufd,
    Container,
    Device(u8),
    Group(u8),
}

/// An ioctl.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) argument: Argument,
}

/// What an ioctl is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    /// A plain number.
    Number(u64),
    /// The address of the command's structure, and what follows it.
    Memory {
        place: Place,
        /// The fields that are not zero. The one that states the size is right unless it is among them.
        fields: Vec<(&'static str, Value)>,
        tail: Vec<Item>,
    },
}

/// Where an argument lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At the end of a page, with nothing behind it.
    Page,
    /// In memory that can only be read.
    ReadOnly,
    /// At address 0.
    Null,
}

/// What follows a structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A number of so many bytes.
    Number(u8, Value),
    /// Text, with a NUL at its end.
    Text(String),
    /// The address of a device as text, with what follows it and a NUL at the end.
    Device(u8, String),
}

/// A number in an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Number(u64),
    /// The descriptor in a slot, -1 where it is empty.
    Descriptor(Slot),
    /// An address in the buffer.
    Buffer(u64),
    /// An address in the scratch memory.
    Scratch(u64),
}
