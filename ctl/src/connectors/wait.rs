//! Waiting until a connector and its tasks are where they were sent. A worker accepts a change before it carries it
//! out, and shows the state from before for a moment.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::answer::{Fault, Status};
use super::error::ConnectorsError;
use super::options::Patience;
use super::secrets::Secrets;
use super::worker::Worker;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// How long a failure that was there before a change is taken for a leftover.
const LEFTOVER: Duration = Duration::from_secs(10);

/// Where a connector is meant to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// It and all its tasks run.
    Running,
    /// It and its tasks are paused.
    Paused,
    /// It is stopped and has no tasks.
    Stopped,
    /// There is none of that name any more.
    Gone,
}

impl Goal {
    /// Where a connector gets again after a change that is not about its state.
    pub(super) fn as_before(before: Option<&Status>) -> Self {
        match before.map(|status| status.connector.state.as_str()) {
            Some("PAUSED") => Self::Paused,
            Some("STOPPED") => Self::Stopped,
            _ => Self::Running,
        }
    }
}

/// A connector that is waited for.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) name: String,
    pub(super) goal: Goal,
    /// Failures from before the change.
    pub(super) leftovers: Vec<Fault>,
    /// How long it must have been there.
    pub(super) settle: Duration,
    pub(super) secrets: Secrets,
}

/// Where a connector got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Arrival {
    pub(super) name: String,
    pub(super) ok: bool,
    /// Of the connector.
    pub(super) state: String,
    /// Tasks that run.
    pub(super) running_tasks: usize,
    pub(super) tasks: usize,
    /// What has failed, or what is still missing.
    pub(super) reasons: Vec<String>,
}

/// What one look at a connector says.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    There,
    NotYet(String),
    Failed(Vec<Fault>),
}

/// Waits for all of them together. The results are in the same order.
///
/// # Errors
/// The worker refuses to tell; that it is away for a while is waited out.
pub(super) async fn wait(
    worker: &Worker,
    watched: &[Watched],
    patience: &Patience,
) -> Result<Vec<Arrival>, ConnectorsError> {
    let start = Instant::now();
    let mut since: Vec<Option<Instant>> = vec![None; watched.len()];
    let mut arrivals: Vec<Option<Arrival>> = vec![None; watched.len()];
    loop {
        for (number, one) in
            watched.iter().enumerate().filter(|(number, _)| arrivals[*number].is_none()).collect::<Vec<_>>()
        {
            let (status, verdict) = match worker.status(&one.name).await {
                Ok(status) => {
                    let leftovers = if start.elapsed() < LEFTOVER { one.leftovers.as_slice() } else { &[] };
                    let verdict = judge(status.as_ref(), one.goal, leftovers);
                    (status, verdict)
                }
                Err(error @ ConnectorsError::NotAllowed { .. }) => return Err(error),
                Err(error) => (None, Verdict::NotYet(error.to_string())),
            };
            let late = start.elapsed() >= patience.wait;
            let there_since = (verdict == Verdict::There).then(|| since[number].unwrap_or_else(Instant::now));
            since[number] = there_since;
            let reasons = match (verdict, there_since) {
                (Verdict::There, Some(there)) if there.elapsed() >= one.settle => Vec::new(),
                (Verdict::There, _) => continue,
                (Verdict::Failed(faults), _) => faults.iter().flat_map(Fault::lines).collect(),
                (Verdict::NotYet(missing), _) if late => {
                    vec![format!("not there after {} s: {missing}", patience.wait.as_secs())]
                }
                (Verdict::NotYet(_), _) => continue,
            };
            arrivals[number] = Some(arrival(one, status.as_ref(), reasons));
        }
        if arrivals.iter().all(Option::is_some) {
            return Ok(arrivals.into_iter().flatten().collect());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn arrival(one: &Watched, status: Option<&Status>, reasons: Vec<String>) -> Arrival {
    let gone = if one.goal == Goal::Gone { "GONE" } else { "UNKNOWN" };
    Arrival {
        name: one.name.clone(),
        ok: reasons.is_empty(),
        state: status.map_or(gone, |status| status.connector.state.as_str()).to_owned(),
        running_tasks: status.map_or(0, |status| status.count("RUNNING")),
        tasks: status.map_or(0, |status| status.tasks.len()),
        reasons: reasons.iter().map(|reason| one.secrets.scrub(reason)).collect(),
    }
}

fn judge(status: Option<&Status>, goal: Goal, leftovers: &[Fault]) -> Verdict {
    let Some(status) = status else {
        return match goal {
            Goal::Gone => Verdict::There,
            _ => Verdict::NotYet("the worker does not know it yet".to_owned()),
        };
    };
    let faults = status.faults();
    let state = status.connector.state.as_str();
    let there = match goal {
        Goal::Running => {
            let fresh: Vec<Fault> = faults.into_iter().filter(|fault| !leftovers.contains(fault)).collect();
            if !fresh.is_empty() {
                return Verdict::Failed(fresh);
            }
            state == "RUNNING" && !status.tasks.is_empty() && status.count("RUNNING") == status.tasks.len()
        }
        // What has failed stays failed, and does nothing either.
        Goal::Paused => state == "PAUSED" && status.count("PAUSED") + status.count("FAILED") == status.tasks.len(),
        Goal::Stopped => state == "STOPPED" && status.tasks.is_empty(),
        Goal::Gone => false,
    };
    if there { Verdict::There } else { Verdict::NotYet(describe(status)) }
}

/// The states of a connector and its tasks in one line.
fn describe(status: &Status) -> String {
    let tasks: Vec<String> = status.tasks.iter().map(|task| format!("task {} {}", task.id, task.part.state)).collect();
    let tasks = if tasks.is_empty() { "no tasks".to_owned() } else { tasks.join(", ") };
    format!("the connector is {}, {tasks}", status.connector.state)
}

/// What [`wait`] found, for people.
pub(super) fn text(arrivals: &[Arrival]) -> String {
    let mut out = String::new();
    for Arrival { name, state, running_tasks, tasks, reasons, .. } in arrivals {
        out.push_str(&match (reasons.as_slice(), *tasks) {
            ([], 0) => format!("{name}: {state}\n"),
            ([], 1) => format!("{name}: {state}, {running_tasks} of 1 task running\n"),
            ([], tasks) => format!("{name}: {state}, {running_tasks} of {tasks} tasks running\n"),
            (reasons, _) => format!("{name}: {}\n", reasons.join("\n    ")),
        });
    }
    out
}

/// The error if one did not get there.
///
/// # Errors
/// One did not.
pub(super) fn all_there(arrivals: &[Arrival], what: &str) -> Result<(), ConnectorsError> {
    let missing: Vec<&str> = arrivals.iter().filter(|one| !one.ok).map(|one| one.name.as_str()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(ConnectorsError::Failed(format!("{what}: {}; the worker's log says more", missing.join(", "))))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(connector: &str, tasks: &[&str]) -> Status {
        let part = |state: &str| json!({"state": state, "worker_id": "w", "trace": if state == "FAILED" { "x: y" } else { "" }});
        let tasks: Vec<Value> = tasks
            .iter()
            .enumerate()
            .map(|(id, state)| {
                let mut task = part(state);
                task["id"] = json!(id);
                task
            })
            .collect();
        serde_json::from_value(json!({"name": "a", "connector": part(connector), "tasks": tasks, "type": "sink"}))
            .unwrap()
    }

    #[test]
    fn running_means_the_connector_and_every_task() {
        let look = |connector: &str, tasks: &[&str]| judge(Some(&status(connector, tasks)), Goal::Running, &[]);
        assert_eq!(look("RUNNING", &["RUNNING", "RUNNING"]), Verdict::There);
        for (connector, tasks) in
            [("RUNNING", &[][..]), ("RUNNING", &["RUNNING", "UNASSIGNED"]), ("UNASSIGNED", &["RUNNING"])]
        {
            assert!(matches!(look(connector, tasks), Verdict::NotYet(_)), "{connector} {tasks:?}");
        }
        assert!(matches!(look("RUNNING", &["RUNNING", "FAILED"]), Verdict::Failed(_)));
        assert!(matches!(look("FAILED", &[]), Verdict::Failed(_)));
        assert!(matches!(judge(None, Goal::Running, &[]), Verdict::NotYet(_)));
    }

    #[test]
    fn a_failure_from_before_is_not_the_changes_failure() {
        let failed = status("RUNNING", &["FAILED"]);
        assert!(matches!(judge(Some(&failed), Goal::Running, &failed.faults()), Verdict::NotYet(_)));
        assert!(matches!(judge(Some(&failed), Goal::Running, &[]), Verdict::Failed(_)));
    }

    #[test]
    fn paused_stopped_and_gone_have_their_own_signs() {
        assert_eq!(judge(Some(&status("PAUSED", &["PAUSED", "FAILED"])), Goal::Paused, &[]), Verdict::There);
        assert!(matches!(judge(Some(&status("PAUSED", &["RUNNING"])), Goal::Paused, &[]), Verdict::NotYet(_)));
        assert_eq!(judge(Some(&status("STOPPED", &[])), Goal::Stopped, &[]), Verdict::There);
        assert!(matches!(judge(Some(&status("STOPPED", &["RUNNING"])), Goal::Stopped, &[]), Verdict::NotYet(_)));
        assert_eq!(judge(None, Goal::Gone, &[]), Verdict::There);
        assert!(matches!(judge(Some(&status("RUNNING", &["RUNNING"])), Goal::Gone, &[]), Verdict::NotYet(_)));
    }
}
