//! Why a consumer ends without having been asked to.

use std::fmt;

use syncline_runtime::kafka::KafkaError;
use syncline_runtime::registry::RegistryError;
use syncline_runtime::retry::{Classified, ErrorClass};

use crate::targets::TargetError;

/// Why the consumer cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// Kafka, beyond what is waited out.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The target, beyond what is waited out.
    #[error("{0}")]
    Target(#[source] TargetError),
    /// The registry refuses us.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The choice of topics cannot be used.
    #[error("topics: {0}")]
    Topics(String),
    /// The target cannot be a node of a topology of several writable databases.
    #[error("node {node}: {missing}; make it the target of a one-way sync")]
    NoNode {
        /// The node.
        node: String,
        /// What it lacks.
        missing: &'static str,
    },
    /// A resync that cannot be done. Says why.
    #[error("{0}")]
    Resync(String),
    /// A sink that cannot be taken over from. Says why.
    #[error("{0}; nothing was changed")]
    Takeover(String),
    /// The topic of table definitions holds something that is no definition.
    #[error(
        "the topic of table definitions holds a record that cannot be read: {reason}; upgrade this consumer if a newer \
         producer wrote it"
    )]
    Definitions {
        /// Which record, and what is wrong with it.
        reason: String,
    },
    /// Everything else has been applied, but these partitions need someone to act.
    #[error("{} stopped: {}", count(.0.len()), List(.0))]
    Stopped(Vec<StoppedPartition>),
    /// A task of the consumer ended in a way that it should not.
    #[error("the consumer's {task} ended unexpectedly: {reason}")]
    Task {
        /// Which one.
        task: &'static str,
        /// What it left behind.
        reason: String,
    },
}

/// A partition that waits for someone to act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoppedPartition {
    /// The source's table, or the topic where the table is not known.
    pub table: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset of the record that could not be applied.
    pub offset: i64,
    /// Why, and what to do.
    pub reason: String,
}

impl fmt::Display for StoppedPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, topic, partition, offset, reason } = self;
        write!(f, "table {table} (topic {topic} partition {partition} offset {offset}): {reason}")
    }
}

struct List<'a>(&'a [StoppedPartition]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, stopped) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            stopped.fmt(f)?;
        }
        Ok(())
    }
}

fn count(partitions: usize) -> String {
    if partitions == 1 { "1 partition".into() } else { format!("{partitions} partitions") }
}

impl Classified for ConsumerError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Kafka(error) => error.class(),
            Self::Registry(error) => error.class(),
            Self::Target(error) => error.class,
            Self::Stopped(_) => ErrorClass::BadRecord,
            Self::Topics(_)
            | Self::NoNode { .. }
            | Self::Resync(_)
            | Self::Takeover(_)
            | Self::Definitions { .. }
            | Self::Task { .. } => ErrorClass::Fatal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopped_partitions_are_listed_with_table_place_and_reason() {
        let stopped = |partition| StoppedPartition {
            table: "public.users".into(),
            topic: "shop.public.users".into(),
            partition,
            offset: 7,
            reason: "missing row".into(),
        };
        let text = ConsumerError::Stopped(vec![stopped(0), stopped(2)]).to_string();
        assert!(
            text.starts_with("2 partitions stopped: table public.users (topic shop.public.users partition 0 offset 7)")
        );
    }
}
