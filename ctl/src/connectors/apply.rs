//! `plan` and `apply`.

use std::time::Duration;

use serde_json::json;

use crate::cli::Output;

use super::error::ConnectorsError;
use super::options::{Apply, Files};
use super::plan::{Action, Plan, Step};
use super::wait::{Goal, Watched, all_there, text, wait};
use super::worker::Worker;
use super::{files, print};

/// Shows what would change.
///
/// # Errors
/// [`ConnectorsError::Pending`] if something would; a configuration that the worker refuses.
pub(super) async fn plan(worker: &Worker, options: &Files, output: Output) -> Result<(), ConnectorsError> {
    let plan = Plan::make(worker, files::read(&options.paths)?).await?;
    print(output, &plan.text(), &plan.json());
    plan.accepted()?;
    match plan.changes() {
        0 => Ok(()),
        1 => Err(ConnectorsError::Pending("1 connector".to_owned())),
        count => Err(ConnectorsError::Pending(format!("{count} connectors"))),
    }
}

/// Changes what differs, if the worker accepts all of it, and waits until everything runs.
///
/// # Errors
/// A configuration that the worker refuses, or a connector that does not get to run.
pub(super) async fn apply(worker: &Worker, options: Apply, output: Output) -> Result<(), ConnectorsError> {
    let Apply { files, patience } = options;
    let plan = Plan::make(worker, files::read(&files.paths)?).await?;
    let planned = plan.json();
    if let Err(error) = plan.accepted() {
        print(output, &plan.text(), &planned);
        return Err(error);
    }
    if output == Output::Text && plan.changes() > 0 {
        print(output, &plan.text(), &planned);
    }
    let mut watched = Vec::new();
    for step in plan.steps {
        watched.push(carry_out(worker, step, patience.settle).await?);
    }
    if patience.wait.is_zero() {
        print(output, "", &json!({"plan": planned, "connectors": []}));
        return Ok(());
    }
    let arrivals = wait(worker, &watched, &patience).await?;
    print(output, &text(&arrivals), &json!({"plan": planned, "connectors": arrivals}));
    all_there(&arrivals, "not running as asked")
}

async fn carry_out(worker: &Worker, step: Step, settle: Duration) -> Result<Watched, ConnectorsError> {
    let Step { connector, action, secrets, .. } = step;
    let name = connector.name;
    let before = worker.status(&name).await?;
    let goal = Goal::as_before(before.as_ref());
    let mut watched = Watched { name, goal, leftovers: Vec::new(), settle: Duration::ZERO, secrets };
    if action == Action::None {
        return Ok(watched);
    }
    worker.put(&watched.name, &connector.config).await?;
    watched.settle = settle;
    watched.leftovers = before.map(|status| status.faults()).unwrap_or_default();
    if !watched.leftovers.is_empty() {
        // New settings alone do not wake a task that has failed if its part of them is the same.
        worker.restart(&watched.name, true).await?;
    }
    Ok(watched)
}
