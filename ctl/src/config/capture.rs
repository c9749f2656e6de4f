//! The settings of one producer and one consumer, from what the whole file says and what is said of their database.

use std::sync::Arc;

use syncline_consumer::config::{ConsumerConfig, SinkSettings, TargetConfig, TopicSelection};
use syncline_producer::config::{NodeSettings, ProducerConfig, SignalSources, SnapshotMode};
use syncline_runtime::settings::{DatabaseSettings, KafkaSettings, RegistrySettings};
use syncline_transforms::mapping::Mappings;

use super::check::Check;
use super::names::{identifier_fault, slot_fault, slot_from};
use super::raw::{RawCdc, RawMethod, RawProperties, RawSettings, RawSnapshotMode};

/// What holds for every producer and consumer of the file.
pub(super) struct Common {
    pub(super) name: String,
    pub(super) topic_prefix: String,
    pub(super) consumer_group: String,
    pub(super) kafka: KafkaSettings,
    pub(super) registry: RegistrySettings,
    pub(super) settings: RawSettings,
    pub(super) cdc: RawCdc,
}

impl Common {
    /// A consumer without mappings, that writes Syncline's own way.
    pub(super) fn consumer(
        &self,
        consumer_group: String,
        topics: TopicSelection,
        target: DatabaseSettings,
    ) -> ConsumerConfig {
        ConsumerConfig {
            kafka: self.kafka.clone(),
            registry: self.registry.clone(),
            consumer_group,
            topics,
            target: TargetConfig::Postgresql(target),
            sink: SinkSettings::default(),
            mappings: Arc::new(Mappings::default()),
            writers: self.settings.parallel_tables,
            batch_rows: self.settings.batch_size,
            retry_attempts: self.settings.retry_attempts,
            node: None,
        }
    }
}

/// What is captured of one database, and under which names.
pub(super) struct Capture {
    pub(super) topic_prefix: String,
    pub(super) slot: String,
    pub(super) publication: String,
    pub(super) tables: Vec<String>,
    pub(super) signals: SignalSources,
    pub(super) node: Option<NodeSettings>,
}

impl Check<'_> {
    /// The producer of one database.
    pub(super) fn producer(&mut self, common: &Common, source: DatabaseSettings, capture: Capture) -> ProducerConfig {
        let RawMethod::LogicalReplication = common.cdc.method;
        let properties = &common.cdc.properties;
        ProducerConfig {
            kafka: common.kafka.clone(),
            registry: common.registry.clone(),
            source,
            parallel_tables: common.settings.parallel_tables,
            checkpoint_interval: common.settings.checkpoint_interval,
            snapshot_mode: match properties.snapshot_mode {
                RawSnapshotMode::Initial => SnapshotMode::Initial,
                RawSnapshotMode::InitialOnly => SnapshotMode::InitialOnly,
                RawSnapshotMode::NoData => SnapshotMode::NoData,
                RawSnapshotMode::WhenNeeded => SnapshotMode::WhenNeeded,
            },
            capture_before_values: common.cdc.change_tracking.capture_before_values,
            chunk_size: properties.chunk_size,
            skip_unsupported_columns: properties.skip_unsupported_columns,
            events: self.events(&common.cdc, &capture.topic_prefix),
            heartbeat: self.heartbeat(properties, &capture.topic_prefix),
            failover: properties.failover,
            topic_prefix: capture.topic_prefix,
            slot: capture.slot,
            publication: capture.publication,
            tables: capture.tables,
            signals: capture.signals,
            node: capture.node,
        }
    }

    /// What is captured of a file's one source.
    pub(super) fn capture(&mut self, common: &Common) -> Capture {
        let raw = &common.cdc.postgresql;
        let signals = self.signals(&common.cdc.properties, &common.topic_prefix);
        let slot = match raw.slot.clone() {
            Some(slot) => self.name("cdc_config.postgresql.slot", slot, slot_fault),
            None => slot_from(&common.name),
        };
        let publication = match raw.publication.clone() {
            Some(publication) => self.name("cdc_config.postgresql.publication", publication, identifier_fault),
            None => slot_from(&common.name),
        };
        let path = "cdc_config.postgresql.tables";
        let mut tables = raw.tables.clone().unwrap_or_default();
        if tables.is_empty() {
            let text = "is required with `source`: list the tables to capture, for example [users, \"sales.*\"]";
            self.refuse(path, text);
        }
        self.table_names(path, &tables);
        tables.extend(signals.table.clone());
        Capture { topic_prefix: common.topic_prefix.clone(), slot, publication, tables, signals, node: None }
    }

    /// What can be told of the names of tables without a database.
    pub(super) fn table_names(&mut self, path: &str, tables: &[String]) {
        if tables.iter().any(|table| table.trim().is_empty()) {
            self.refuse(path, "holds an empty name");
        }
    }

    fn signals(&mut self, raw: &RawProperties, topic_prefix: &str) -> SignalSources {
        let mut sources = SignalSources::default();
        for channel in raw.signal_channels.split(',').map(str::trim).filter(|channel| !channel.is_empty()) {
            match channel {
                "source" => sources.table.clone_from(&raw.signal_table),
                "kafka" => {
                    let topic = raw.signal_topic.clone().unwrap_or_else(|| format!("{topic_prefix}-signal"));
                    sources.topic = Some(topic);
                }
                other => self.refuse(
                    "cdc_config.properties.signal.enabled.channels",
                    format!("`{other}` is not supported: source and kafka are"),
                ),
            }
        }
        sources
    }
}
