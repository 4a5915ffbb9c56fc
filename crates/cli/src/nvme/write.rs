//! `ioasis nvme write`

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use anyhow::{Context, Error, Result, ensure};
use ioasis::{Options, Sys};
use nvme::{Completions, Namespace, Stream};

use super::controller;
use crate::arguments;
use crate::progress;
use crate::stop::{Interrupted, StopFlag};
use crate::system::Job;

/// The depth of the queue: more than a stream has under way.
const DEPTH: u16 = 32;
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
        let (mut input, length) = open(&arguments.input, &namespace, arguments.lba)?;
        let mut queue = controller.queue(DEPTH.min(controller.info().max_depth), Completions::Polled)?;
        let mut stream = Stream::new(&controller, &mut queue, namespace)?;
        let bar = progress::bar(length.unwrap_or(0));
        let mut lba = arguments.lba;
        let mut chunk = vec![0; CHUNK];
        let name = name(&arguments.input);
        let result = loop {
            if stop.is_raised() {
                break Err(Error::new(Interrupted(format!(
                    "blocks {} to {lba}, that one excluded, were written and flushed",
                    arguments.lba
                ))));
            }
            let count = match fill(&mut input, &mut chunk) {
                Ok(0) => break Ok(()),
                Ok(count) => count,
                Err(error) => break Err(Error::new(error).context(format!("cannot read {name}"))),
            };
            let whole = count / namespace.block_size * namespace.block_size;
            let mut rest = &chunk[..whole];
            let written = stream.write(lba, (whole / namespace.block_size) as u64, |bytes| {
                let (now, later) = rest.split_at(bytes.len());
                bytes.copy_from_slice(now);
                rest = later;
                Ok::<(), Error>(())
            });
            if let Err(error) = written {
                break Err(error);
            }
            lba += (whole / namespace.block_size) as u64;
            bar.inc(count as u64);
            if whole < count {
                break Err(Error::msg(format!(
                    "{name} ends in the middle of a block of {} bytes; blocks {} to {lba}, that one excluded, were written",
                    namespace.block_size, arguments.lba
                )));
            }
        };
        bar.finish_and_clear();
        // Whatever the outcome, what was written is made durable.
        let flushed = stream.flush();
        result?;
        Ok(flushed?)
    }
}

fn name(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// Opens the input, and sees before anything is written that a file of known length fits.
fn open(path: &Path, namespace: &Namespace, lba: u64) -> Result<(Box<dyn io::Read>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let data = file.metadata().with_context(|| format!("cannot read {}", path.display()))?;
    if !data.is_file() {
        ensure!(!data.is_dir(), "cannot read {}: it is a directory", path.display());
        return Ok((Box::new(file), None));
    }
    let size = namespace.block_size as u64;
    let length = data.len();
    ensure!(
        length % size == 0,
        "{} has {length} bytes, which are no whole blocks of {size} bytes",
        path.display()
    );
    let room = namespace.blocks.checked_sub(lba);
    ensure!(
        room.is_some_and(|room| length / size <= room),
        "{} has {} blocks, which do not fit from block {lba} on: the namespace ends at block {}",
        path.display(),
        length / size,
        namespace.blocks
    );
    Ok((Box::new(file), Some(length)))
}

/// Reads until the buffer is full or the input ends.
fn fill(input: &mut dyn io::Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match input.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
