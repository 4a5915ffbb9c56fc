//! The `ioasis` command: VFIO and IOMMUFD devices, on the host's kernel or on an embedded machine.
#![forbid(unsafe_code)]

mod arguments;
mod bench;
mod conform;
mod demo;
mod differ;
mod kconfig;
mod load;
mod nvme;
mod output;
mod progress;
mod stop;
mod system;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = stop::outlive_large_files().and_then(|()| match arguments.command {
        Command::Demo(demo) => demo::run(&arguments.system, &demo),
        Command::Nvme(command) => nvme::run(&arguments.system, command),
        Command::Conform(conform) => conform::run(&arguments.system, &conform),
        Command::Bench(bench) => bench::run(&arguments.system, &bench),
        Command::Replay(replay) => differ::replay(&arguments.system, &replay),
        Command::Differ(differ) => differ::differ(&arguments.system, &differ),
        Command::Kconfig(asked) => kconfig::run(&arguments.system, &asked),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("error: {error:#}"));
            if error.is::<stop::Interrupted>() { ExitCode::from(130) } else { ExitCode::FAILURE }
        }
    }
}
