//! `status`: connectors and tasks as a table, once or over and over.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use syncline_runtime::shutdown::Shutdown;

use crate::cli::Output;
use crate::failure::{Failure, chain};

use super::answer::{Fault, Status};
use super::error::ConnectorsError;
use super::options;
use super::print;
use super::secrets::Secrets;
use super::worker::Worker;

/// Shows the connectors that were named, or all.
///
/// # Errors
/// The worker cannot be asked, there is no such connector, or one has failed. With `--watch` only a signal ends it.
pub(super) async fn status(worker: &Worker, options: &options::Status, output: Output) -> Result<(), Failure> {
    if options.watch {
        return watch(worker, options, output).await;
    }
    let (all, missing) = look(worker, &options.names).await?;
    print(output, &table(&all), &json(&all));
    if let Some(name) = missing {
        return Err(worker.unknown(&name).await?.into());
    }
    let failed: Vec<&str> =
        all.iter().filter(|one| !one.faults.is_empty()).map(|one| one.status.name.as_str()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(ConnectorsError::Failed(format!("failed: {}", failed.join(", "))).into())
}

async fn watch(worker: &Worker, options: &options::Status, output: Output) -> Result<(), Failure> {
    let shutdown =
        Shutdown::on_signals().map_err(|source| Failure::System { what: "cannot listen for signals", source })?;
    let mut screen = Screen::open(output);
    loop {
        match look(worker, &options.names).await {
            Ok((all, missing)) => {
                let missing = missing.map_or_else(String::new, |name| format!("{name}: no connector is called so\n"));
                screen.show(&format!("{}{missing}", table(&all)), &json(&all));
            }
            // It is what is watched for, not a reason to stop watching.
            Err(error) => screen.show(&format!("{}\n", chain(&error)), &json!({"error": chain(&error)})),
        }
        tokio::select! {
            () = shutdown.wait() => return Ok(()),
            () = tokio::time::sleep(options.interval.max(Duration::from_millis(100))) => {}
        }
    }
}

/// A connector, and what has failed of it in words that may be shown.
struct Looked {
    status: Status,
    faults: Vec<Vec<String>>,
}

/// The connectors of these names, all without names; and the first name that nobody has.
async fn look(worker: &Worker, names: &[String]) -> Result<(Vec<Looked>, Option<String>), ConnectorsError> {
    let wanted = if names.is_empty() { worker.names().await? } else { names.to_vec() };
    let (mut all, mut missing) = (Vec::new(), None);
    for name in wanted {
        let Some(status) = worker.status(&name).await? else {
            // Without names it has been deleted since they were listed.
            missing = missing.or(Some(name).filter(|_| !names.is_empty()));
            continue;
        };
        let faults = status.faults();
        let config = if faults.is_empty() { None } else { worker.config(&name).await? };
        let secrets = Secrets::of(None, &config.iter().collect::<Vec<_>>());
        let words = |fault: &Fault| fault.lines().iter().map(|line| secrets.scrub(line)).collect();
        let faults = faults.iter().map(words).collect();
        all.push(Looked { status, faults });
    }
    Ok((all, missing))
}

fn table(all: &[Looked]) -> String {
    if all.is_empty() {
        return "no connectors\n".to_owned();
    }
    let width = all.iter().map(|one| one.status.name.chars().count()).max().unwrap_or(0).max("connector".len());
    let mut out = format!("{:width$}  {:6}  {:10}  {:>7}  worker\n", "connector", "type", "state", "tasks");
    for Looked { status, faults } in all {
        let Status { name, kind, connector, tasks } = status;
        let running = format!("{}/{}", status.count("RUNNING"), tasks.len());
        let state = &connector.state;
        out.push_str(&format!("{name:width$}  {kind:6}  {state:10}  {running:>7}  {}\n", connector.worker_id));
        // A task that neither runs nor has failed nor follows its connector is on its way, or nobody's.
        for task in tasks.iter().filter(|task| !["RUNNING", "FAILED", state].contains(&task.part.state.as_str())) {
            out.push_str(&format!("    task {} {}\n", task.id, task.part.state));
        }
        for lines in faults {
            out.push_str(&format!("    {}\n", lines.join("\n        ")));
        }
    }
    out
}

fn json(all: &[Looked]) -> Value {
    let connectors = all.iter().map(|Looked { status, faults }| {
        let part = |part: &super::answer::Part| json!({"state": part.state, "worker_id": part.worker_id});
        let tasks = status.tasks.iter().map(|task| {
            let mut value = part(&task.part);
            value["id"] = json!(task.id);
            value
        });
        let tasks: Vec<Value> = tasks.collect();
        let faults: Vec<String> = faults.iter().map(|lines| lines.join("\n")).collect();
        json!({"name": status.name, "type": status.kind, "connector": part(&status.connector), "tasks": tasks, "failures": faults})
    });
    json!({"connectors": connectors.collect::<Vec<_>>()})
}

/// Where a watched table goes.
enum Screen {
    /// Drawn over itself.
    Terminal(ProgressBar),
    /// One below the other.
    Plain(Output),
}

impl Screen {
    fn open(output: Output) -> Self {
        if output == Output::Json || !std::io::stdout().is_terminal() {
            return Self::Plain(output);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
        bar.set_style(ProgressStyle::with_template("{msg}").expect("the template is a constant"));
        Self::Terminal(bar)
    }

    fn show(&mut self, text: &str, json: &Value) {
        match self {
            Self::Terminal(bar) => {
                bar.set_message(text.trim_end().to_owned());
                bar.tick();
            }
            Self::Plain(Output::Json) => {
                // One line a look, so that a reader can take them apart.
                std::io::stdout().write_all(format!("{json}\n").as_bytes()).ok();
            }
            Self::Plain(Output::Text) => {
                std::io::stdout().write_all(format!("{text}\n").as_bytes()).ok();
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Self::Terminal(bar) = self {
            bar.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_who_failed_and_why() {
        let status = |name: &str, state: &str, tasks: Value| {
            serde_json::from_value::<Status>(json!({
                "name": name, "type": "source", "connector": {"state": state, "worker_id": "w:8083"}, "tasks": tasks
            }))
            .unwrap()
        };
        let good = status("shop-source", "RUNNING", json!([{"id": 0, "state": "RUNNING", "worker_id": "w:8083"}]));
        let bad = status(
            "s",
            "RUNNING",
            json!([{"id": 0, "state": "FAILED", "worker_id": "w:8083"}, {"id": 1, "state": "UNASSIGNED", "worker_id": "w:8083"}]),
        );
        let all = [
            Looked { status: good, faults: Vec::new() },
            Looked {
                status: bad,
                faults: vec![vec!["task 0 FAILED on w:8083: x".to_owned(), "Caused by: y".to_owned()]],
            },
        ];
        assert_eq!(
            table(&all),
            "connector    type    state         tasks  worker\n\
             shop-source  source  RUNNING         1/1  w:8083\n\
             s            source  RUNNING         0/2  w:8083\n    task 1 UNASSIGNED\n    task 0 FAILED on w:8083: x\n        Caused by: y\n"
        );
        assert_eq!(json(&all)["connectors"][1]["failures"][0], "task 0 FAILED on w:8083: x\nCaused by: y");
    }
}
