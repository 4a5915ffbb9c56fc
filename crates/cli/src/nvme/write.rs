//! `ioasis nvme write`

use std::fs::File;
use std::io::{self, ErrorKind, Read, stdin};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Error, Result, bail, ensure};
use indicatif::ProgressBar;
use ioasis::{Options, Sys};
use nvme::{Namespace, Stream};
use rustix::event::PollFlags;

use super::{controller, stream_queue};
use crate::arguments;
use crate::progress;
use crate::stop::{StopFlag, is_ready};
use crate::system::Job;

/// Bytes that are read from the input at once, a multiple of every block size.
const CHUNK: usize = 16 << 20;

pub(crate) struct Write {
    pub(crate) arguments: arguments::Write,
    pub(crate) stop: StopFlag,
}

impl Job for Write {
    fn run<S: Sys>(self, sys: &S, options: &Options) -> Result<()> {
        let Write { arguments, stop } = self;
        let (controller, namespace) = controller(sys, arguments.address, options)?;
        let mut input = Input::open(&arguments.input)?;
        input.check_room(&namespace, arguments.lba)?;
        let mut queue = stream_queue(&controller)?;
        let mut stream = Stream::new(&controller, &mut queue, namespace)?;
        let bar = progress::bar(input.length);
        let mut next = arguments.lba;
        let result = copy(&mut input, &mut stream, &namespace, &mut next, &stop, &bar);
        bar.finish_and_clear();
        // Whatever the outcome, what was written is made durable.
        let flushed = stream.flush();
        match result {
            Ok(()) => Ok(flushed?),
            Err(error) => Err(error.context(match flushed {
                Ok(()) if next == arguments.lba => "no block is known to be written".to_owned(),
                Ok(()) => format!("blocks {} to {} were written and flushed", arguments.lba, next - 1),
                Err(refusal) => format!("what was written is not known to be durable ({refusal})"),
            })),
        }
    }
}

/// Writes the input to its end, a chunk at a time. `next` is the first block that is not known to be written.
fn copy<S: Sys>(
    input: &mut Input,
    stream: &mut Stream<'_, S>,
    namespace: &Namespace,
    next: &mut u64,
    stop: &StopFlag,
    bar: &ProgressBar,
) -> Result<()> {
    let size = namespace.block_size;
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = input.fill(&mut chunk, stop).with_context(|| format!("cannot read {}", input.name))?;
        stop.check()?;
        let blocks = count / size;
        let mut rest = &chunk[..blocks * size];
        stream.write(*next, blocks as u64, |bytes| {
            let (now, later) = rest.split_at(bytes.len());
            bytes.copy_from_slice(now);
            rest = later;
            Ok::<(), Error>(())
        })?;
        *next += blocks as u64;
        bar.inc(count as u64);
        if !count.is_multiple_of(size) {
            bail!("{} ends in the middle of a block of {size} bytes", input.name);
        }
        if count < CHUNK {
            return Ok(());
        }
    }
}

/// A file that is read.
struct Input {
    name: String,
    file: File,
    /// Its length in bytes, if that is known before it is read.
    length: Option<u64>,
}

impl Input {
    /// Opens a file; `-` is standard input.
    fn open(path: &Path) -> Result<Self> {
        let (name, file) = if path == Path::new("-") {
            ("standard input".to_owned(), stdin().as_fd().try_clone_to_owned().map(File::from))
        } else {
            (path.display().to_string(), File::open(path))
        };
        let cannot = || format!("cannot read {name}");
        let file = file.with_context(cannot)?;
        let data = file.metadata().with_context(cannot)?;
        ensure!(!data.is_dir(), "cannot read {name}: it is a directory");
        // Standard input may have been read in part by somebody else.
        let known = data.is_file() && path != Path::new("-");
        Ok(Input { name, file, length: known.then_some(data.len()) })
    }

    /// Sees before anything is written that a file of known length fits.
    fn check_room(&self, namespace: &Namespace, lba: u64) -> Result<()> {
        let (name, size, blocks) = (&self.name, namespace.block_size as u64, namespace.blocks);
        ensure!(lba < blocks, "block {lba} was asked for, but the namespace has {blocks} blocks");
        let Some(length) = self.length else { return Ok(()) };
        ensure!(
            length.is_multiple_of(size),
            "{name} has {length} bytes, which are no whole blocks of {size} bytes"
        );
        ensure!(
            length / size <= blocks - lba,
            "{name} has {} blocks, which do not fit from block {lba} on: the namespace has {blocks} blocks",
            length / size
        );
        Ok(())
    }

    /// Reads until the buffer is full, the input ends or somebody asks to stop.
    fn fill(&mut self, bytes: &mut [u8], stop: &StopFlag) -> io::Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() && !stop.is_raised() {
            if !is_ready(&self.file, PollFlags::IN)? {
                continue;
            }
            match self.file.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}
