//! What a user wrote, defaults filled in, nothing checked beyond single keys. One struct per section of the table.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use syncline_event::handling::{
    BinaryHandling, DecimalHandling, HstoreHandling, IntervalHandling, NameAdjustment, TimePrecision,
};
use syncline_runtime::settings::Secret;

use super::conflict_log::RawLog;
use super::mappings::RawMapping;
use super::nodes::{RawNode, RawTopology};
use super::rules::RawRules;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSync {
    pub(super) name: String,
    pub(super) kafka: RawKafka,
    pub(super) schema_registry: RawRegistry,
    pub(super) source: Option<RawDatabase>,
    pub(super) target: Option<RawTarget>,
    pub(super) sync_settings: RawSettings,
    pub(super) cdc_config: RawCdc,
    pub(super) table_mappings: Vec<RawMapping>,
    pub(super) topology: RawTopology,
    pub(super) hub: Option<String>,
    pub(super) nodes: Vec<(String, RawNode)>,
    pub(super) conflict_resolution: RawRules,
    pub(super) conflict_log: RawLog,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKafka {
    pub(super) bootstrap_servers: Vec<String>,
    pub(super) topic_prefix: Option<String>,
    pub(super) consumer_group: Option<String>,
    pub(super) partitions: i32,
    pub(super) replication_factor: i32,
    pub(super) topics: Vec<String>,
    pub(super) topics_regex: Option<String>,
    pub(super) properties: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRegistry {
    pub(super) url: Vec<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDatabase {
    #[serde(rename = "type")]
    pub(super) kind: RawDatabaseKind,
    pub(super) connection: Option<Secret>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) database: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) ssl: Option<RawSsl>,
}

/// A database that is written to: its keys, and how it is written to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTarget {
    #[serde(rename = "type")]
    pub(super) kind: RawDatabaseKind,
    pub(super) connection: Option<Secret>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) database: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) ssl: Option<RawSsl>,
    pub(super) properties: RawSinkProperties,
}

impl RawTarget {
    pub(super) fn split(self) -> (RawDatabase, RawSinkProperties) {
        let Self { kind, connection, host, port, database, username, password, ssl, properties } = self;
        (RawDatabase { kind, connection, host, port, database, username, password, ssl }, properties)
    }
}

/// The properties of a JDBC sink. What has a single value that works has been checked by then and is dropped.
#[derive(Debug, Deserialize)]
pub(super) struct RawSinkProperties {
    #[serde(rename = "collection.name.format")]
    pub(super) collection_name_format: Option<String>,
    #[serde(rename = "insert.mode")]
    pub(super) insert_mode: RawInsertMode,
    #[serde(rename = "primary.key.mode")]
    pub(super) primary_key_mode: RawKeyMode,
    #[serde(rename = "primary.key.fields")]
    pub(super) primary_key_fields: Vec<String>,
    #[serde(rename = "delete.enabled")]
    pub(super) delete_enabled: bool,
    #[serde(rename = "truncate.enabled")]
    pub(super) truncate_enabled: Option<bool>,
    #[serde(rename = "schema.evolution")]
    pub(super) schema_evolution: RawEvolution,
    #[serde(rename = "field.include.list")]
    pub(super) field_include_list: Vec<String>,
    #[serde(rename = "field.exclude.list")]
    pub(super) field_exclude_list: Vec<String>,
    #[serde(rename = "json.types")]
    pub(super) json_types: RawJsonTypes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawJsonTypes {
    Schema,
    Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawInsertMode {
    Upsert,
    Insert,
    Update,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawKeyMode {
    RecordKey,
    RecordValue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawEvolution {
    Basic,
    None,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawDatabaseKind {
    Postgresql,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawSsl {
    Disabled,
    Required,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSettings {
    pub(super) mode: RawMode,
    pub(super) batch_size: usize,
    pub(super) parallel_tables: usize,
    pub(super) retry_attempts: u32,
    pub(super) checkpoint_interval: Duration,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawMode {
    Incremental,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCdc {
    pub(super) method: RawMethod,
    pub(super) postgresql: RawPostgresql,
    pub(super) change_tracking: RawTracking,
    pub(super) output_format: RawFormat,
    pub(super) properties: RawProperties,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawMethod {
    LogicalReplication,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPostgresql {
    pub(super) publication: Option<String>,
    pub(super) slot: Option<String>,
    pub(super) tables: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTracking {
    pub(super) capture_deletes: bool,
    pub(super) capture_before_values: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFormat {
    #[serde(rename = "type")]
    pub(super) kind: RawFormatKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawFormatKind {
    Avro,
    Json,
}

/// Properties with a single value that works have been checked by then and are dropped.
#[derive(Debug, Deserialize)]
pub(super) struct RawProperties {
    #[serde(rename = "snapshot.mode")]
    pub(super) snapshot_mode: RawSnapshotMode,
    #[serde(rename = "incremental.snapshot.chunk.size")]
    pub(super) chunk_size: usize,
    #[serde(rename = "signal.enabled.channels")]
    pub(super) signal_channels: String,
    #[serde(rename = "signal.data.collection")]
    pub(super) signal_table: Option<String>,
    #[serde(rename = "signal.kafka.topic")]
    pub(super) signal_topic: Option<String>,
    #[serde(rename = "skip.unsupported.columns")]
    pub(super) skip_unsupported_columns: bool,
    #[serde(rename = "decimal.handling.mode")]
    pub(super) decimal: DecimalHandling,
    #[serde(rename = "time.precision.mode")]
    pub(super) time: TimePrecision,
    #[serde(rename = "binary.handling.mode")]
    pub(super) binary: BinaryHandling,
    #[serde(rename = "interval.handling.mode")]
    pub(super) interval: IntervalHandling,
    #[serde(rename = "schema.name.adjustment.mode")]
    pub(super) schema_names: NameAdjustment,
    #[serde(rename = "field.name.adjustment.mode")]
    pub(super) field_names: NameAdjustment,
    #[serde(rename = "unavailable.value.placeholder")]
    pub(super) placeholder: String,
    #[serde(rename = "tombstones.on.delete")]
    pub(super) tombstones: bool,
    #[serde(rename = "message.key.columns")]
    pub(super) key_columns: Option<String>,
    #[serde(rename = "column.include.list")]
    pub(super) column_include: Option<String>,
    #[serde(rename = "column.exclude.list")]
    pub(super) column_exclude: Option<String>,
    #[serde(rename = "reselect.columns.include.list")]
    pub(super) reselect: Option<String>,
    #[serde(rename = "column.mask.hash.")]
    pub(super) mask_hash: BTreeMap<String, String>,
    #[serde(rename = "column.mask.with.")]
    pub(super) mask_with: BTreeMap<String, String>,
    #[serde(rename = "column.truncate.to.")]
    pub(super) truncate_to: BTreeMap<String, String>,
    #[serde(rename = "skipped.operations")]
    pub(super) skipped_operations: String,
    #[serde(rename = "hstore.handling.mode")]
    pub(super) hstore: HstoreHandling,
    #[serde(rename = "provide.transaction.metadata")]
    pub(super) transactions: bool,
    #[serde(rename = "topic.transaction")]
    pub(super) transaction_topic: String,
    #[serde(rename = "message.prefix.include.list")]
    pub(super) message_include: Option<String>,
    #[serde(rename = "message.prefix.exclude.list")]
    pub(super) message_exclude: Option<String>,
    #[serde(rename = "extended.headers.enabled")]
    pub(super) context_headers: bool,
    #[serde(rename = "heartbeat.interval.ms")]
    pub(super) heartbeat_ms: u64,
    #[serde(rename = "topic.heartbeat.prefix")]
    pub(super) heartbeat_prefix: String,
    #[serde(rename = "heartbeat.action.query")]
    pub(super) heartbeat_action: Option<String>,
    #[serde(rename = "slot.failover")]
    pub(super) failover: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawSnapshotMode {
    Initial,
    InitialOnly,
    NoData,
    WhenNeeded,
}
