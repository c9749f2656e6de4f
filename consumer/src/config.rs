//! What the consumer was told to do, checked.

use std::sync::Arc;

pub use crate::sink_settings::{FieldFilter, InsertMode, KeyColumns, SinkSettings, TableName, Truncates};
use syncline_runtime::settings::{DatabaseSettings, KafkaSettings, RegistrySettings};
use syncline_transforms::mapping::Mappings;

/// The consumer's settings.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// Kafka.
    pub kafka: KafkaSettings,
    /// Schema registry.
    pub registry: RegistrySettings,
    /// The consumer group.
    pub consumer_group: String,
    /// What to read.
    pub topics: TopicSelection,
    /// Where to write.
    pub target: TargetConfig,
    /// How records become rows of it, where that is not Syncline's own way.
    pub sink: SinkSettings,
    /// Which rows go to which tables, and how.
    pub mappings: Arc<Mappings>,
    /// Writers, each with a connection of its own.
    pub writers: usize,
    /// Most rows in one target transaction.
    pub batch_rows: usize,
    /// Attempts at a record that fails by itself.
    pub retry_attempts: u32,
}

/// Which topics a consumer reads.
#[derive(Debug, Clone)]
pub enum TopicSelection {
    /// Every data topic of a producer: the topics named in `<prefix>.syncline.tables`.
    Prefix(String),
    /// Just these.
    Names(Vec<String>),
    /// Every topic whose name matches.
    Regex(String),
}

/// The kind of target.
#[derive(Debug, Clone)]
pub enum TargetConfig {
    /// PostgreSQL.
    Postgresql(DatabaseSettings),
}
