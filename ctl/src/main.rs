//! The one binary, syncline.

mod check;
mod cli;
mod config;
mod conflicts;
mod connectors;
mod failure;
mod first_load;
mod life;
mod mappings;
mod parts;
mod progress;
mod resync;
mod rules;
mod run;
mod snapshot;
mod takeover;
mod transform;
mod version;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match life::lead(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            writeln!(std::io::stderr(), "syncline: {}", failure.message()).ok();
            failure.exit_code()
        }
    }
}
