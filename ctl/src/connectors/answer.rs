//! What a worker answers, as far as it is read.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A configuration: names to texts.
pub(crate) type Config = Map<String, Value>;

/// `GET /connectors/NAME/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(super) name: String,
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    pub(crate) connector: Part,
    #[serde(default)]
    pub(crate) tasks: Vec<Task>,
}

/// The connector itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) state: String,
    #[serde(default)]
    pub(super) worker_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trace: Option<String>,
}

/// One of its tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(super) id: u32,
    #[serde(flatten)]
    pub(super) part: Part,
}

/// A connector or a task that has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The task; none for the connector itself.
    pub(super) task: Option<u32>,
    pub(super) worker: String,
    pub(super) trace: String,
}

impl Status {
    /// Everything that has failed.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let tasks = self.tasks.iter().map(|task| (Some(task.id), &task.part));
        std::iter::once((None, &self.connector))
            .chain(tasks)
            .filter(|(_, part)| part.state == "FAILED")
            .map(|(task, part)| Fault {
                task,
                worker: part.worker_id.clone(),
                trace: part.trace.clone().unwrap_or_default(),
            })
            .collect()
    }

    /// Tasks in this state.
    pub(super) fn count(&self, state: &str) -> usize {
        self.tasks.iter().filter(|task| task.part.state == state).count()
    }
}

impl Fault {
    /// Who failed, the first line of the trace, and where the trace ends in a cause, that cause.
    pub(super) fn lines(&self) -> Vec<String> {
        let who = self.task.map_or_else(|| "the connector".to_owned(), |id| format!("task {id}"));
        let mut trace = self.trace.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = trace.next().unwrap_or("the worker gives no reason: see its log");
        let mut lines = vec![format!("{who} FAILED on {}: {first}", self.worker)];
        lines.extend(trace.rfind(|line| line.starts_with("Caused by: ")).map(str::to_owned));
        lines
    }
}

/// `PUT /connector-plugins/CLASS/config/validate`.
#[derive(Debug, Deserialize)]
pub(super) struct Validation {
    pub(super) error_count: u32,
    pub(super) configs: Vec<Checked>,
}

/// One key of a validated configuration.
#[derive(Debug, Deserialize)]
pub(super) struct Checked {
    #[serde(default)]
    pub(super) definition: Option<Definition>,
    /// Missing for a setting that the plugin declares but did not look at.
    #[serde(default)]
    pub(super) value: Option<CheckedValue>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Definition {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct CheckedValue {
    pub(super) name: String,
    #[serde(default)]
    pub(super) errors: Vec<String>,
}

/// An entry of `GET /connector-plugins`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Plugin {
    pub(super) class: String,
    #[serde(default)]
    pub(super) version: Option<String>,
}

/// `GET /connectors/NAME/offsets`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OffsetList {
    pub(crate) offsets: Vec<Offset>,
}

/// Where a connector stands in one partition of its source, or of Kafka.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Offset {
    pub(crate) partition: Value,
    pub(crate) offset: Value,
}

/// What every refusal says.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_told_by_its_first_line_and_its_last_cause() {
        let trace = "org.apache.kafka.connect.errors.ConnectException: Exiting WorkerSinkTask\n\tat a.B.c(B.java:1)\n\
                     Caused by: x.Outer: wrapped\n\tat d\nCaused by: y.Inner: no such table\n\tat e\n";
        let fault = Fault { task: Some(0), worker: "w:8083".to_owned(), trace: trace.to_owned() };
        assert_eq!(
            fault.lines(),
            [
                "task 0 FAILED on w:8083: org.apache.kafka.connect.errors.ConnectException: Exiting WorkerSinkTask",
                "Caused by: y.Inner: no such table"
            ]
        );
        let silent = Fault { task: None, worker: "w".to_owned(), trace: String::new() };
        assert!(silent.lines()[0].contains("see its log"));
    }
}
