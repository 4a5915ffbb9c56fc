//! `ioasis nvme read`

use anyhow::{Error, Result, bail};
use indicatif::ProgressBar;
use ioasis::{Options, Sys};
use nvme::Stream;

use super::{controller, stream_queue};
use crate::arguments;
use crate::output::Output;
use crate::progress;
use crate::stop::{Interrupted, StopFlag};
use crate::system::Job;

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
            None if lba >= namespace.blocks => {
                bail!("block {lba} was asked for, but the namespace has {} blocks", namespace.blocks)
            }
            None => namespace.blocks - lba,
        };
        let mut queue = stream_queue(&controller)?;
        let mut stream = Stream::new(&controller, &mut queue, namespace)?;
        let mut output = Output::create(&arguments.output, &stop)?;
        let bar = progress::bar(Some(blocks.saturating_mul(namespace.block_size as u64)));
        let result = stream.read(lba, blocks, |bytes| {
            output.write(bytes, &stop)?;
            bar.inc(bytes.len() as u64);
            Ok::<(), Error>(())
        });
        let result =
            result.map_err(|error: Error| match error.is::<nvme::Error>() || error.is::<Interrupted>() {
                true => error.context(so_far(&bar, &output)),
                false => error,
            });
        // This moves the bar to its end.
        bar.finish_and_clear();
        result?;
        output.finish()
    }
}

fn so_far(bar: &ProgressBar, output: &Output) -> String {
    let (done, all) = (bar.position(), bar.length().unwrap_or(0));
    format!("{done} of {all} bytes were read, and {}", output.remains())
}
