//! `pause`, `resume`, `stop`, `restart`, `delete`.

use serde_json::json;

use crate::cli::Output;
use crate::failure::Failure;
use crate::resync::confirm;

use super::error::ConnectorsError;
use super::options::{Delete, Named, Restart};
use super::print;
use super::secrets::Secrets;
use super::wait::{Goal, Watched, all_there, text, wait};
use super::worker::Worker;

/// What is done to connectors that run or could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Pause,
    Resume,
    Stop,
    Restart { only_failed: bool },
    Delete,
}

/// Pauses, resumes or stops.
pub(super) async fn steer(
    worker: &Worker,
    order: Order,
    options: Named,
    output: Output,
) -> Result<(), ConnectorsError> {
    let mut watched = Vec::new();
    // All names first: a misspelt one must not leave the others half done.
    for name in &options.names {
        let config = worker.config(name).await?;
        let Some(config) = config else { return Err(worker.unknown(name).await?) };
        let secrets = Secrets::of(None, &[&config]);
        let before = worker.status(name).await?;
        let goal = match order {
            Order::Pause => Goal::Paused,
            Order::Resume => Goal::Running,
            Order::Stop => Goal::Stopped,
            Order::Restart { .. } => Goal::as_before(before.as_ref()),
            Order::Delete => Goal::Gone,
        };
        let settle = if goal == Goal::Running { options.patience.settle } else { std::time::Duration::ZERO };
        let leftovers = match order {
            Order::Restart { .. } => before.map(|status| status.faults()).unwrap_or_default(),
            _ => Vec::new(),
        };
        watched.push(Watched { name: name.clone(), goal, leftovers, settle, secrets });
    }
    for Watched { name, .. } in &watched {
        match order {
            Order::Pause => worker.steer(name, "pause").await?,
            Order::Resume => worker.steer(name, "resume").await?,
            Order::Stop => worker.steer(name, "stop").await?,
            Order::Restart { only_failed } => worker.restart(name, only_failed).await?,
            Order::Delete => worker.delete(name).await?,
        }
    }
    if options.patience.wait.is_zero() {
        return Ok(());
    }
    let arrivals = wait(worker, &watched, &options.patience).await?;
    print(output, &text(&arrivals), &json!({"connectors": arrivals}));
    all_there(&arrivals, "not there yet")
}

/// Restarts.
pub(super) async fn restart(worker: &Worker, options: Restart, output: Output) -> Result<(), ConnectorsError> {
    steer(worker, Order::Restart { only_failed: options.only_failed }, options.named, output).await
}

/// Deletes, if that was confirmed.
pub(super) async fn delete(worker: &Worker, options: Delete, output: Output) -> Result<(), Failure> {
    let steps: Vec<String> = options.named.names.iter().map(|name| format!("delete connector {name}")).collect();
    for name in &options.named.names {
        if worker.config(name).await?.is_none() {
            return Err(worker.unknown(name).await?.into());
        }
    }
    confirm(&steps, options.yes)?;
    Ok(steer(worker, Order::Delete, options.named, output).await?)
}
