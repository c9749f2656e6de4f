//! Signals: what an operator asks of a running producer, in Debezium's words.
//!
//! They come from the signal table (`signal.data.collection`: inserts of id, type and data, taken from the log), from
//! the signal topic (`signal.kafka.topic`: records whose key is the topic prefix), and so from `syncline snapshot` and
//! `syncline resync --table`, which write to that topic.

pub mod send;
pub mod topic;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::config::NodeSettings;
use crate::node::NODE_READS_ONCE;

/// A signal as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Who asked, for the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What is asked.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its parameters: an object, in the signal table as text.
    #[serde(default)]
    pub data: serde_json::Value,
}

/// A table that a signal names: a regular expression over all of `schema.table`, or the name as it is.
#[derive(Debug, Clone)]
pub struct Collection {
    text: String,
    pattern: Regex,
}

impl Collection {
    /// Compiles it.
    ///
    /// # Errors
    ///
    /// Not a regular expression.
    pub fn parse(text: &str) -> Result<Self, SignalError> {
        let pattern = Regex::new(&format!("^(?:{text})$"))
            .map_err(|error| SignalError(format!("data-collections: {text:?}: {error}")))?;
        Ok(Self { text: text.to_owned(), pattern })
    }

    /// Whether it means this table.
    #[must_use]
    pub fn matches(&self, table: &str) -> bool {
        self.text == table || self.pattern.is_match(table)
    }
}

impl PartialEq for Collection {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// What a signal asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// `execute-snapshot`: read these tables again while the log is followed.
    Execute {
        /// The tables.
        collections: Vec<Collection>,
        /// SQL conditions by table: only rows for which they hold are read.
        conditions: Vec<(Collection, String)>,
    },
    /// `stop-snapshot`: give up these tables, or all.
    Stop {
        /// The tables; `None` for all.
        collections: Option<Vec<Collection>>,
    },
    /// `pause-snapshot`.
    Pause,
    /// `resume-snapshot`.
    Resume,
    /// `log`: write a message to the log.
    Log {
        /// The message.
        message: String,
    },
    /// `resync-snapshot`, not Debezium's: read these tables again behind a marker at which consumers empty them.
    Resync {
        /// The tables.
        collections: Vec<Collection>,
    },
}

/// A signal that cannot be acted upon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SignalError(pub String);

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Parameters {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    data_collections: Option<Vec<String>>,
    #[serde(default)]
    additional_conditions: Vec<Condition>,
    #[serde(default)]
    surrogate_key: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Condition {
    data_collection: String,
    filter: String,
}

impl Signal {
    /// What it asks, where a producer may do that: not where it is a node's, whose tables are read once.
    ///
    /// # Errors
    ///
    /// As for [`Signal::command`], and what a node cannot do.
    pub fn allowed_command(&self, node: Option<&NodeSettings>) -> Result<Command, SignalError> {
        let command = self.command()?;
        let refused = |why: &str| Err(SignalError(format!("signal {}: {why}", self.kind)));
        match &command {
            Command::Execute { .. } | Command::Resync { .. } if node.is_some() => refused(NODE_READS_ONCE),
            Command::Stop { .. } if node.is_some() => refused(
                "a node's new table whose snapshot is stopped cannot be completed later: pause it instead (`syncline \
                 snapshot pause`), or take the table off the configuration",
            ),
            _ => Ok(command),
        }
    }

    /// What it asks.
    ///
    /// # Errors
    ///
    /// An unknown type, or parameters that do not fit.
    pub fn command(&self) -> Result<Command, SignalError> {
        let parameters: Parameters = match &self.data {
            serde_json::Value::Null => serde_json::from_str("{}"),
            serde_json::Value::String(text) if text.trim().is_empty() => serde_json::from_str("{}"),
            serde_json::Value::String(text) => serde_json::from_str(text),
            data => Parameters::deserialize(data),
        }
        .map_err(|error| SignalError(format!("signal {}: its data cannot be read: {error}", self.kind)))?;
        let wanted = |collections: Option<Vec<String>>| match collections {
            Some(list) if !list.is_empty() => parse_all(&list),
            _ => Err(SignalError(format!("signal {}: data-collections names no table", self.kind))),
        };
        match self.kind.as_str() {
            "execute-snapshot" => {
                only_incremental(parameters.kind.as_deref())?;
                if parameters.surrogate_key.is_some() {
                    return Err(SignalError(
                        "signal execute-snapshot: surrogate-key is not supported: chunks follow the primary key, or \
                         another unique index without NULLs"
                            .to_owned(),
                    ));
                }
                let mut conditions = Vec::new();
                for condition in parameters.additional_conditions {
                    conditions.push((Collection::parse(&condition.data_collection)?, condition.filter));
                }
                Ok(Command::Execute { collections: wanted(parameters.data_collections)?, conditions })
            }
            "stop-snapshot" => {
                only_incremental(parameters.kind.as_deref())?;
                let collections = parameters.data_collections.filter(|list| !list.is_empty());
                Ok(Command::Stop { collections: collections.map(|list| parse_all(&list)).transpose()? })
            }
            "pause-snapshot" => Ok(Command::Pause),
            "resume-snapshot" => Ok(Command::Resume),
            "resync-snapshot" => Ok(Command::Resync { collections: wanted(parameters.data_collections)? }),
            "log" => Ok(Command::Log { message: parameters.message.unwrap_or_default() }),
            other => Err(SignalError(format!(
                "signal {other:?} is not known: execute-snapshot, stop-snapshot, pause-snapshot, resume-snapshot and log \
                 are"
            ))),
        }
    }
}

fn parse_all(list: &[String]) -> Result<Vec<Collection>, SignalError> {
    list.iter().map(|text| Collection::parse(text)).collect()
}

fn only_incremental(kind: Option<&str>) -> Result<(), SignalError> {
    match kind {
        None => Ok(()),
        Some(kind) if kind.eq_ignore_ascii_case("incremental") => Ok(()),
        Some(kind) => Err(SignalError(format!("snapshots of type {kind:?} are not supported: incremental ones are"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Result<Command, SignalError> {
        serde_json::from_str::<Signal>(text).unwrap().command()
    }

    #[test]
    fn debeziums_signals_are_understood() {
        let execute = command(
            r#"{"id":"1","type":"execute-snapshot","data":{"type":"INCREMENTAL","data-collections":["public\\.a.*"],
                "additional-conditions":[{"data-collection":"public.a","filter":"id > 5"}]}}"#,
        );
        let Ok(Command::Execute { collections, conditions }) = execute else { panic!("{execute:?}") };
        assert!(collections[0].matches("public.ab") && !collections[0].matches("xpublic.a"));
        assert_eq!(conditions[0].1, "id > 5");
        assert_eq!(command(r#"{"type":"pause-snapshot","data":"{}"}"#), Ok(Command::Pause));
        assert_eq!(command(r#"{"type":"resume-snapshot"}"#), Ok(Command::Resume));
        assert_eq!(command(r#"{"type":"stop-snapshot","data":{}}"#), Ok(Command::Stop { collections: None }));
        assert_eq!(
            command(r#"{"type":"log","data":"{\"message\":\"here\"}"}"#),
            Ok(Command::Log { message: "here".into() })
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (text, word) in [
            (r#"{"type":"execute-snapshot","data":{}}"#, "names no table"),
            (r#"{"type":"execute-snapshot","data":{"type":"blocking","data-collections":["a"]}}"#, "blocking"),
            (r#"{"type":"execute-snapshot","data":{"surrogate-key":"k","data-collections":["a"]}}"#, "surrogate-key"),
            (r#"{"type":"execute-snapshot","data":{"data-collections":["("]}}"#, "data-collections"),
            (r#"{"type":"schema-changes"}"#, "schema-changes"),
            (r#"{"type":"stop-snapshot","data":"no json"}"#, "cannot be read"),
        ] {
            let error = command(text).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn a_name_with_special_characters_means_itself() {
        let odd = Collection::parse(r"public.a+b").unwrap();
        assert!(odd.matches("public.a+b"));
    }
}
