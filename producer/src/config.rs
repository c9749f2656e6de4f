//! What the producer was told to do, checked.

use std::time::Duration;

use syncline_event::handling::{DecimalHandling, Handling, TimePrecision};
use syncline_runtime::settings::{DatabaseSettings, KafkaSettings, RegistrySettings};

use crate::columns::{ColumnSettings, Patterns};

/// The producer's settings.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// Kafka.
    pub kafka: KafkaSettings,
    /// Schema registry.
    pub registry: RegistrySettings,
    /// First part of every topic's name (Debezium's `topic.prefix`).
    pub topic_prefix: String,
    /// The source.
    pub source: DatabaseSettings,
    /// Replication slot (`slot.name`).
    pub slot: String,
    /// Publication (`publication.name`).
    pub publication: String,
    /// Tables to capture, as written: names, globs, `/regular expressions/`.
    pub tables: Vec<String>,
    /// Tables read at once by a snapshot.
    pub parallel_tables: usize,
    /// The checkpoint is written at least this often while there is progress.
    pub checkpoint_interval: Duration,
    /// What to do on the first start.
    pub snapshot_mode: SnapshotMode,
    /// `change_tracking.capture_before_values`: every table must have REPLICA IDENTITY FULL.
    pub capture_before_values: bool,
    /// Most rows of a chunk of an incremental snapshot (`incremental.snapshot.chunk.size`).
    pub chunk_size: usize,
    /// Where signals come from.
    pub signals: SignalSources,
    /// Columns of unsupported types are left out instead of refused.
    pub skip_unsupported_columns: bool,
    /// What Debezium's properties say about the events.
    pub events: EventSettings,
    /// `heartbeat.interval.ms`, where it is not 0.
    pub heartbeat: Option<Heartbeat>,
    /// `slot.failover`: the slot, when it is created, is one that standbys keep too.
    pub failover: bool,
    /// What this database is in a topology of several writable ones.
    pub node: Option<NodeSettings>,
}

impl ProducerConfig {
    /// Settings that cannot be used together, each with its remedy: a node carries whole rows and all of their changes, or
    /// the nodes would come to differ.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let Some(node) = &self.node else { return Vec::new() };
        let EventSettings { handling, skipped, columns, .. } = &self.events;
        let mut problems = Vec::new();
        let mut refuse = |is_set: bool, setting: &str, why: &str, remedy: &str| {
            if is_set {
                problems.push(format!("node {}: {setting}: {why}: {remedy}", node.name));
            }
        };
        let (mode, whole) = (self.snapshot_mode, "other nodes need whole rows, as they are");
        refuse(
            mode == SnapshotMode::WhenNeeded,
            "snapshot.mode when_needed",
            "a second snapshot would publish what other nodes have written as if it had been there before the first sync",
            "write initial or no_data",
        );
        refuse(
            mode == SnapshotMode::InitialOnly,
            "snapshot.mode initial_only",
            "a node's log has to be followed",
            "write initial or no_data",
        );
        refuse(
            *skipped != SkippedOperations::default(),
            "skipped.operations, or change_tracking.capture_deletes: false",
            "other nodes would keep what is changed or removed here",
            "write skipped.operations none and capture_deletes true",
        );
        refuse(columns.include.is_some(), "column.include.list", whole, "remove it");
        refuse(columns.exclude.is_some(), "column.exclude.list", whole, "remove it");
        for rule in &columns.masks {
            refuse(true, &rule.property, whole, "remove it");
        }
        refuse(self.skip_unsupported_columns, "skip.unsupported.columns true", whole, "write false");
        refuse(
            handling.decimal == DecimalHandling::Double,
            "decimal.handling.mode double",
            whole,
            "write precise or string",
        );
        refuse(
            handling.time == TimePrecision::Connect,
            "time.precision.mode connect",
            whole,
            "write adaptive, or another mode that loses nothing",
        );
        problems
    }
}

/// A node of a topology, as its producer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSettings {
    /// The topology's name: rows that another sync has applied are captured like any other.
    pub topology: String,
    /// The node's name, which stamps carry.
    pub name: String,
    /// The node's place in the order of priorities, from `Rules::priority_of`: the higher, the more it counts.
    pub priority: u32,
}

/// Records that tell that the producer lives.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    /// How often (`heartbeat.interval.ms`).
    pub interval: Duration,
    /// Their topic (`topic.heartbeat.prefix`).
    pub topic: String,
    /// What is run on the source before each (`heartbeat.action.query`).
    pub action: Option<String>,
}

/// What Debezium's properties say about the events.
#[derive(Debug, Clone)]
pub struct EventSettings {
    /// In which form values travel.
    pub handling: Handling,
    /// `tombstones.on.delete`.
    pub tombstones: bool,
    /// `skipped.operations`, with `change_tracking.capture_deletes`.
    pub skipped: SkippedOperations,
    /// Which columns travel, which are changed on the way, which make the key.
    pub columns: ColumnSettings,
    /// The topic of transactions' bounds (`topic.transaction`), where `provide.transaction.metadata` asks for them.
    pub transaction_topic: Option<String>,
    /// Which logical messages are published.
    pub messages: MessageFilter,
    /// `extended.headers.enabled`.
    pub context_headers: bool,
    /// `cdc_config.output_format.type`.
    pub format: Format,
}

/// The form of keys and values in Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Confluent's wire format, schemas in the registry.
    #[default]
    Avro,
    /// What Connect's `JsonConverter` writes without schemas.
    Json,
}

/// `message.prefix.include.list` and `message.prefix.exclude.list`.
#[derive(Debug, Clone, Default)]
pub struct MessageFilter {
    /// Prefixes that are published; all where there is none.
    pub include: Option<Patterns>,
    /// Prefixes that are not.
    pub exclude: Option<Patterns>,
}

/// Prefixes of the messages that Syncline itself writes into a database's log.
const OWN_PREFIX: &str = "syncline";

impl MessageFilter {
    /// Whether messages with this prefix are published.
    #[must_use]
    pub fn takes(&self, prefix: &str) -> bool {
        let own = prefix.strip_prefix(OWN_PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        !own && self.include.as_ref().is_none_or(|include| include.matches(prefix))
            && !self.exclude.as_ref().is_some_and(|exclude| exclude.matches(prefix))
    }
}

impl Default for EventSettings {
    fn default() -> Self {
        Self {
            handling: Handling::default(),
            tombstones: true,
            skipped: SkippedOperations::default(),
            columns: ColumnSettings::default(),
            transaction_topic: None,
            messages: MessageFilter::default(),
            context_headers: false,
            format: Format::default(),
        }
    }
}

/// Kinds of changes that are not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SkippedOperations {
    /// `c`.
    pub creates: bool,
    /// `u`.
    pub updates: bool,
    /// `d`.
    pub deletes: bool,
    /// `t`.
    pub truncates: bool,
}

/// Where signals come from (`signal.enabled.channels`).
#[derive(Debug, Clone, Default)]
pub struct SignalSources {
    /// The signal table, `schema.table` (`signal.data.collection`).
    pub table: Option<String>,
    /// The signal topic (`signal.kafka.topic`).
    pub topic: Option<String>,
}

/// Debezium's `snapshot.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotMode {
    /// Read all rows, then stream.
    Initial,
    /// Stream from now on.
    NoData,
    /// Read all rows, and end.
    InitialOnly,
    /// As `Initial`, and again where the log that has to be followed is lost.
    WhenNeeded,
}

impl SnapshotMode {
    /// Whether rows that are there already are read.
    #[must_use]
    pub fn reads_rows(self) -> bool {
        match self {
            Self::Initial | Self::InitialOnly | Self::WhenNeeded => true,
            Self::NoData => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_ones_own_and_those_that_are_filtered_out_are_not_published() {
        let patterns = |text| Some(Patterns::parse(text).unwrap());
        let all = MessageFilter::default();
        assert!(all.takes("audit") && all.takes("") && all.takes("synclines"));
        assert!(!all.takes("syncline") && !all.takes("syncline.origin"));
        let some = MessageFilter { include: patterns("audit.*,outbox"), exclude: None };
        assert!(some.takes("audit.a") && some.takes("outbox") && !some.takes("outboxes"));
        let others = MessageFilter { include: None, exclude: patterns("noise.*") };
        assert!(others.takes("audit") && !others.takes("noise.a"));
    }
}
