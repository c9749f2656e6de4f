//! `connectors`: Kafka Connect connectors through a worker's REST API, for those who capture with Debezium or write
//! with its JDBC sink. docs/connect.md explains it.

mod answer;
mod apply;
mod error;
mod files;
mod generate;
mod offsets;
mod options;
mod plan;
mod secrets;
mod status;
mod steer;
mod wait;
mod worker;

use std::io::Write;

use serde_json::Value;

pub(crate) use answer::Config;
pub(crate) use error::ConnectorsError;
pub(crate) use options::{Connectors, WorkerOptions};
pub(crate) use worker::Worker;

use crate::cli::Output;
use crate::failure::Failure;
use options::Verb;
use steer::Order;

/// Does what was typed.
///
/// # Errors
/// [`ConnectorsError`] for the most part.
pub(crate) async fn connectors(options: Connectors) -> Result<(), Failure> {
    let Connectors { worker: options, verb } = options;
    let output = options.output;
    let worker = Worker::new(&options)?;
    match verb {
        Verb::Plan(files) => apply::plan(&worker, &files, output).await?,
        Verb::Apply(options) => apply::apply(&worker, options, output).await?,
        Verb::Status(options) => status::status(&worker, &options, output).await?,
        Verb::Pause(named) => steer::steer(&worker, Order::Pause, named, output).await?,
        Verb::Resume(named) => steer::steer(&worker, Order::Resume, named, output).await?,
        Verb::Stop(named) => steer::steer(&worker, Order::Stop, named, output).await?,
        Verb::Restart(options) => steer::restart(&worker, options, output).await?,
        Verb::Delete(options) => steer::delete(&worker, options, output).await?,
        Verb::Offsets(options) => offsets::offsets(&worker, options, output).await?,
        Verb::Generate(options) => generate::generate(&options)?,
    }
    Ok(())
}

fn print(output: Output, text: &str, json: &Value) {
    let shown = match output {
        Output::Text => text.to_owned(),
        Output::Json => format!("{json:#}\n"),
    };
    // Whoever reads may have stopped reading; the exit code still tells.
    std::io::stdout().write_all(shown.as_bytes()).ok();
}
