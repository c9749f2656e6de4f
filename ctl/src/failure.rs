//! What went wrong, as a message and as an exit code.

use std::error::Error;
use std::process::ExitCode;

use syncline_catalog::rows::RowsError;
use syncline_consumer::error::ConsumerError;
use syncline_consumer::targets::TargetError;
use syncline_producer::error::ProducerError;
use syncline_runtime::config::ConfigError;
use syncline_runtime::kafka::KafkaError;
use syncline_runtime::metrics::MetricsError;
use syncline_runtime::registry::RegistryError;
use syncline_runtime::telemetry::TelemetryError;

use crate::connectors::ConnectorsError;

/// Why a verb did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The sync file.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file is fine, but not for this verb.
    #[error("{0}")]
    Usage(String),
    /// Logging.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// Metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Kafka, at the start.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The schema registry, at the start.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The target, at the start.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Capture.
    #[error(transparent)]
    Producer(#[from] ProducerError),
    /// Apply.
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    /// Rows that were to be compared.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// Kafka Connect.
    #[error(transparent)]
    Connectors(#[from] ConnectorsError),
    /// The operating system.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// One node of a topology.
    #[error("node {node}: {source}")]
    OfNode {
        /// Its name.
        node: String,
        /// What went wrong there.
        source: Box<Failure>,
    },
    /// `check` found something; it has been printed.
    #[error("{0} found; nothing was changed")]
    Found(String),
    /// What was asked for was done, and found wanting; it has been printed.
    #[error("{0}")]
    Failed(String),
    /// SIGTERM or Ctrl-C came first.
    #[error("ended by a signal before it had caught up; what was done is safe, the next start goes on from there")]
    Interrupted,
    /// A part did not end in time after a signal.
    #[error("did not end within {seconds} s after the signal; what was not finished is done again at the next start")]
    Hung {
        /// How long it was given.
        seconds: u64,
    },
    /// A part of the process broke.
    #[error("a part of the process broke: {reason}; please report this")]
    Broken {
        /// Its last words.
        reason: String,
    },
}

impl Failure {
    /// As documented in the help and in docs/configuration.md.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Config(_) | Self::Usage(_) | Self::Telemetry(_) => 2,
            Self::Connectors(error) => error.exit_code(),
            Self::Consumer(ConsumerError::Stopped(_)) => 3,
            Self::Producer(ProducerError::Lost { .. }) => 4,
            Self::OfNode { source, .. } => return source.exit_code(),
            _ => 1,
        })
    }

    /// The same, with the node it is about, where there is one.
    pub(crate) fn of(self, node: Option<&str>) -> Self {
        match node {
            Some(node) => Self::OfNode { node: node.to_owned(), source: Box::new(self) },
            None => self,
        }
    }

    /// What is printed.
    pub(crate) fn message(&self) -> String {
        chain(self)
    }
}

/// An error's text and the causes below it. A cause whose text the one above repeats is left out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !last.contains(&next) {
            text.push_str(&format!("\n  because: {next}"));
        }
        last = next;
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_the_message() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let failure = Failure::Config(ConfigError::Unreadable { file: "sync.yaml".into(), source });
        assert_eq!(failure.message(), "cannot read the configuration file sync.yaml\n  because: no such file");
    }

    #[test]
    fn a_node_stands_in_front_of_its_failure() {
        let stopped = || Failure::from(ConsumerError::Stopped(Vec::new()));
        let failure = stopped().of(Some("eu"));
        assert_eq!(failure.message(), format!("node eu: {}", stopped().message()));
        assert_eq!(format!("{:?}", failure.exit_code()), format!("{:?}", ExitCode::from(3)));
    }
}
