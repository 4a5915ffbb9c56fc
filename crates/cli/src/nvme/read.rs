//! `ioasis nvme read`

use anyhow::{Error, Result, bail};
use ioasis::{Options, Sys};
use nvme::{Completions, Stream};

use super::controller;
use crate::arguments;
use crate::output::Output;
use crate::progress;
use crate::stop::{Interrupted, StopFlag};
use crate::system::Job;

/// The depth of the queue: more than a stream has under way.
const DEPTH: u16 = 32;

pub(crate) struct Read {
    pub(crate) arguments: arguments::Read,
    pub(crate) stop: StopFlag,
}

impl Job for Read {
    fn run<S: Sys>(self, sys: &S, options: &Options) -> Result<()> {
        let Read { arguments, stop } = self;
        let (controller, namespace) = controller(sys, arguments.address, options)?;
        let lba = arguments.lba;
        let blocks = match arguments.blocks {
            Some(blocks) => blocks,
            None if lba > namespace.blocks => {
                bail!("block {lba} was asked for, but the namespace ends at block {}", namespace.blocks)
            }
            None => namespace.blocks - lba,
        };
        let mut output = Output::create(&arguments.output)?;
        let mut queue = controller.queue(DEPTH.min(controller.info().max_depth), Completions::Polled)?;
        let mut stream = Stream::new(&controller, &mut queue, namespace)?;
        let bar = progress::bar(blocks.saturating_mul(namespace.block_size as u64));
        let result = stream.read(lba, blocks, |bytes| {
            if stop.is_raised() {
                let path = arguments.output.display();
                return Err(Error::new(Interrupted(format!(
                    "{} of {} bytes were read; {path} was not made",
                    bar.position(),
                    bar.length().unwrap_or(0)
                ))));
            }
            output.write(bytes)?;
            bar.inc(bytes.len() as u64);
            Ok(())
        });
        bar.finish_and_clear();
        result?;
        output.finish()
    }
}
