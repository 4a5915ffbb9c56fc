//! The text form of sequences: a line for each call, `#` begins a comment.
//!
//! | line | |
//! | --- | --- |
//! | `f0 = open iommufd\|container\|device:N\|group:N r\|w\|rw` | opens a node of the N-th device |
//! | `f1 = event`, `f1 = memfd PAGES`, `f1 = dup f0` | |
//! | `close f0`, `poll f0`, `seek f0`, `fdinfo f0`, `count f0` | `count` reads an eventfd |
//! | `ioctl f0 NAME field=value … + width:value …` | the structure, and what follows it: 1, 2, 4 or 8 bytes, `text:…`, `device:N…` |
//! | `ioctl f0 NAME @null …`, `@read-only` | an argument that cannot be reached, or not be written |
//! | `ioctl f0 NAME number 3` | a plain number |
//! | `read f0 OFFSET LENGTH`, `write f0 OFFSET BYTES` | bytes in hexadecimal |
//! | `f1 = map f0 OFFSET LENGTH r\|rw shared\|private` | |
//! | `poke OFFSET WORD …` | writes 64-bit words into the scratch memory |
//!
//! A value is a number, the descriptor in a slot (`f0`), or an address (`buffer+0x1000`, `scratch+0x0`). `aside` before a call has
//! another thread make it.

use std::fmt::{self, Write as _};

use sys::Access;

use crate::command::{Command, Known};
use crate::outcome::hex;
use crate::sequence::{Argument, Call, Item, Node, Place, Request, Sequence, Slot, Step, Value};

/// A line that is no call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ScriptError {
    line: usize,
    what: String,
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.aside {
            f.write_str("aside ")?;
        }
        if let Some(into) = self.into {
            write!(f, "{into} = ")?;
        }
        match &self.call {
            Call::Open { node, access } => write!(f, "open {node} {}", access_word(*access)),
            Call::Event => f.write_str("event"),
            Call::Memfd { pages } => write!(f, "memfd {pages}"),
            Call::Dup(slot) => write!(f, "dup {slot}"),
            Call::Close(slot) => write!(f, "close {slot}"),
            Call::Ioctl { file, request } => write!(f, "ioctl {file} {request}"),
            Call::Read { file, offset, length } => write!(f, "read {file} {offset:#x} {length}"),
            Call::Write { file, offset, bytes } => write!(f, "write {file} {offset:#x} {}", hex(bytes)),
            Call::Map { file, offset, length, writable, shared } => {
                let access = if *writable { "rw" } else { "r" };
                let sharing = if *shared { "shared" } else { "private" };
                write!(f, "map {file} {offset:#x} {length:#x} {access} {sharing}")
            }
            Call::Poll(slot) => write!(f, "poll {slot}"),
            Call::Seek(slot) => write!(f, "seek {slot}"),
            Call::Fdinfo(slot) => write!(f, "fdinfo {slot}"),
            Call::Count(slot) => write!(f, "count {slot}"),
            Call::Poke { offset, words } => {
                write!(f, "poke {offset:#x}")?;
                words.iter().try_for_each(|word| write!(f, " {word:#x}"))
            }
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "f{}", self.0)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Iommufd => f.write_str("iommufd"),
            Node::Container => f.write_str("container"),
            Node::Device(number) => write!(f, "device:{number}"),
            Node::Group(number) => write!(f, "group:{number}"),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.command {
            Command::Known(known) => f.write_str(known.name)?,
            Command::Number(number) => write!(f, "{number:#x}")?,
        }
        match &self.argument {
            Argument::Number(number) => write!(f, " number {number:#x}"),
            Argument::Memory { place, fields, tail } => {
                match place {
                    Place::Page => {}
                    Place::ReadOnly => f.write_str(" @read-only")?,
                    Place::Null => f.write_str(" @null")?,
                }
                for (name, value) in fields {
                    write!(f, " {name}={value}")?;
                }
                if !tail.is_empty() {
                    f.write_str(" +")?;
                }
                tail.iter().try_for_each(|item| write!(f, " {item}"))
            }
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(number) => write!(f, "{number:#x}"),
            Value::Descriptor(slot) => write!(f, "{slot}"),
            Value::Buffer(offset) => write!(f, "buffer+{offset:#x}"),
            Value::Scratch(offset) => write!(f, "scratch+{offset:#x}"),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Number(width, value) => write!(f, "{width}:{value}"),
            Item::Text(text) => write!(f, "text:{}", Escaped(text)),
            Item::Device(number, rest) => write!(f, "device:{number}{}", Escaped(rest)),
        }
    }
}

/// Text without spaces.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            ' ' => f.write_str("%20"),
            '%' => f.write_str("%25"),
            _ => f.write_char(char),
        })
    }
}

fn unescaped(text: &str) -> String {
    text.replace("%20", " ").replace("%25", "%")
}

fn access_word(access: Access) -> &'static str {
    match access {
        Access::Read => "r",
        Access::Write => "w",
        Access::ReadWrite => "rw",
    }
}

impl Sequence {
    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let mut steps = Vec::new();
        for (line, text) in text.lines().enumerate() {
            let text = text.split('#').next().unwrap_or_default();
            let mut words = Words { words: text.split_whitespace().collect(), next: 0 };
            if !words.is_over() {
                steps.push(step(&mut words).map_err(|what| ScriptError { line: line + 1, what })?);
            }
        }
        Ok(Sequence { steps })
    }
}

type Parsed<T> = Result<T, String>;

/// The words of a line.
struct Words<'a> {
    words: Vec<&'a str>,
    next: usize,
}

impl<'a> Words<'a> {
    fn is_over(&self) -> bool {
        self.next >= self.words.len()
    }

    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).copied()
    }

    fn take(&mut self, what: &str) -> Parsed<&'a str> {
        let word = self.peek().ok_or_else(|| format!("{what} is missing"))?;
        self.next += 1;
        Ok(word)
    }

    fn take_if(&mut self, word: &str) -> bool {
        let is_next = self.peek() == Some(word);
        self.next += usize::from(is_next);
        is_next
    }

    fn slot(&mut self) -> Parsed<Slot> {
        let word = self.take("a slot")?;
        slot(word).ok_or_else(|| format!("{word} is no slot, such as f0"))
    }

    fn number<T: TryFrom<u64>>(&mut self, what: &str) -> Parsed<T> {
        let word = self.take(what)?;
        let number = number(word).and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("{what}: {word} is no number that fits"))
    }
}

fn step(words: &mut Words<'_>) -> Parsed<Step> {
    let aside = words.take_if("aside");
    let into = match words.peek().and_then(slot) {
        Some(slot) => {
            words.next += 1;
            if !words.take_if("=") {
                return Err("a slot is followed by =".to_owned());
            }
            Some(slot)
        }
        None => None,
    };
    let call = call(words)?;
    match words.peek() {
        Some(word) => Err(format!("{word} is too much")),
        None => Ok(Step { aside, into, call }),
    }
}

fn call(words: &mut Words<'_>) -> Parsed<Call> {
    Ok(match words.take("a call")? {
        "open" => Call::Open { node: node(words.take("a node")?)?, access: access(words)? },
        "event" => Call::Event,
        "memfd" => Call::Memfd { pages: words.number("pages")? },
        "dup" => Call::Dup(words.slot()?),
        "close" => Call::Close(words.slot()?),
        "ioctl" => Call::Ioctl { file: words.slot()?, request: request(words)? },
        "read" => Call::Read {
            file: words.slot()?,
            offset: words.number("an offset")?,
            length: words.number("a length")?,
        },
        "write" => Call::Write {
            file: words.slot()?,
            offset: words.number("an offset")?,
            bytes: match words.peek() {
                Some(_) => bytes(words.take("bytes")?)?,
                None => Vec::new(),
            },
        },
        "map" => Call::Map {
            file: words.slot()?,
            offset: words.number("an offset")?,
            length: words.number("a length")?,
            writable: access(words)? == Access::ReadWrite,
            shared: match words.take("shared or private")? {
                "shared" => true,
                "private" => false,
                word => return Err(format!("{word} is neither shared nor private")),
            },
        },
        "poll" => Call::Poll(words.slot()?),
        "seek" => Call::Seek(words.slot()?),
        "fdinfo" => Call::Fdinfo(words.slot()?),
        "count" => Call::Count(words.slot()?),
        "poke" => {
            let offset = words.number("an offset")?;
            let mut list = Vec::new();
            while !words.is_over() {
                list.push(words.number("a word")?);
            }
            Call::Poke { offset, words: list }
        }
        word => return Err(format!("{word} is no call")),
    })
}

fn node(word: &str) -> Parsed<Node> {
    let of_device = |prefix| word.strip_prefix(prefix)?.parse().ok();
    match word {
        "iommufd" => Some(Node::Iommufd),
        "container" => Some(Node::Container),
        _ => of_device("device:").map(Node::Device).or_else(|| of_device("group:").map(Node::Group)),
    }
    .ok_or_else(|| format!("{word} is no node: iommufd, container, device:N or group:N"))
}

fn access(words: &mut Words<'_>) -> Parsed<Access> {
    let word = words.take("r, w or rw")?;
    let all = [Access::Read, Access::Write, Access::ReadWrite];
    all.into_iter()
        .find(|access| access_word(*access) == word)
        .ok_or(format!("{word} is none of r, w and rw"))
}

fn request(words: &mut Words<'_>) -> Parsed<Request> {
    let word = words.take("the name of an ioctl")?;
    let by_number = || number(word).and_then(|number| u32::try_from(number).ok()).map(Command::Number);
    let command = Command::named(word).or_else(by_number).ok_or_else(|| format!("{word} is no ioctl"))?;
    if words.take_if("number") {
        return Ok(Request { command, argument: Argument::Number(words.number("a number")?) });
    }
    let place = match words.peek() {
        Some("@null") => Place::Null,
        Some("@read-only") => Place::ReadOnly,
        _ => Place::Page,
    };
    words.next += usize::from(place != Place::Page);
    let mut fields = Vec::new();
    while let Some(word) = words.peek().filter(|word| *word != "+") {
        fields.push(field(command, word)?);
        words.next += 1;
    }
    let mut tail = Vec::new();
    if words.take_if("+") {
        while !words.is_over() {
            tail.push(item(words.take("an item")?)?);
        }
    }
    Ok(Request { command, argument: Argument::Memory { place, fields, tail } })
}

fn field(command: Command, word: &str) -> Parsed<(&'static str, Value)> {
    let (name, text) =
        word.split_once('=').ok_or_else(|| format!("{word} is not of the form field=value"))?;
    let field = match command {
        Command::Known(known) => Known::field(known, name),
        Command::Number(_) => None,
    };
    let field = field.ok_or_else(|| format!("{} has no field {name}", command.name()))?;
    Ok((field.name, value(text)?))
}

fn item(word: &str) -> Parsed<Item> {
    let (kind, rest) =
        word.split_once(':').ok_or_else(|| format!("{word} is not of the form width:value"))?;
    match kind {
        "text" => Ok(Item::Text(unescaped(rest))),
        "device" => {
            let digits = rest.len() - rest.trim_start_matches(|char: char| char.is_ascii_digit()).len();
            let (number, rest) = rest.split_at(digits);
            let number = number.parse().map_err(|_| format!("{word} names no device"))?;
            Ok(Item::Device(number, unescaped(rest)))
        }
        "1" | "2" | "4" | "8" => Ok(Item::Number(kind.parse().unwrap_or(8), value(rest)?)),
        _ => Err(format!("{kind} is no width: 1, 2, 4 or 8")),
    }
}

fn value(text: &str) -> Parsed<Value> {
    let offset = |prefix| text.strip_prefix(prefix).and_then(number);
    slot(text)
        .map(Value::Descriptor)
        .or_else(|| offset("buffer+").map(Value::Buffer))
        .or_else(|| offset("scratch+").map(Value::Scratch))
        .or_else(|| number(text).map(Value::Number))
        .ok_or_else(|| format!("{text} is no value"))
}

fn slot(word: &str) -> Option<Slot> {
    word.strip_prefix('f')?.parse().ok().map(Slot)
}

fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

fn bytes(word: &str) -> Parsed<Vec<u8>> {
    let pair = |at: usize| word.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..word.len()).step_by(2).map(pair).collect();
    bytes.ok_or_else(|| format!("{word} is no number of bytes in hexadecimal"))
}
