//! The `ioasis` command: VFIO and IOMMUFD devices, on the host's kernel or on an embedded machine.
#![forbid(unsafe_code)]

mod arguments;
mod bench;
mod bind;
mod conform;
mod demo;
mod differ;
mod kconfig;
mod load;
mod nvme;
mod open;
mod output;
mod progress;
mod run;
mod stop;
mod system;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    match start(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("error: {error:#}"));
            if error.is::<stop::Interrupted>() { ExitCode::from(130) } else { ExitCode::FAILURE }
        }
    }
}

fn start(Arguments { system, command }: Arguments) -> Result<ExitCode> {
    stop::outlive_large_files()?;
    if system.bind {
        return bind::run(&command.devices());
    }
    match command {
        Command::Demo(demo) => demo::run(&system, &demo)?,
        Command::Nvme(command) => nvme::run(&system, command)?,
        Command::Conform(conform) => conform::run(&system, &conform)?,
        Command::Bench(bench) => bench::run(&system, &bench)?,
        Command::Replay(replay) => differ::replay(&system, &replay)?,
        Command::Differ(differ) => differ::differ(&system, &differ)?,
        Command::Kconfig(asked) => kconfig::run(&system, &asked)?,
        Command::Open(arguments) => open::run(&system, &arguments)?,
        Command::Run(arguments) => return run::run(&system, &arguments),
        Command::Translate(arguments) => open::translate(&arguments)?,
        Command::Yardstick { what } => bench::yardstick::run(what)?,
    }
    Ok(ExitCode::SUCCESS)
}
