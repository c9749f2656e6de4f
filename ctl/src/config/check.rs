//! Raw settings to settings that cannot be wrong: what single keys cannot say about each other.

use std::sync::Arc;

use regex::Regex;
use syncline_consumer::config::{ConsumerConfig, TargetConfig, TopicSelection};
use syncline_producer::config::{ProducerConfig, SignalSources, SnapshotMode};
use syncline_runtime::config::{Loaded, Places, Problem};
use syncline_runtime::kafka::{KafkaError, check_properties, protected_property};
use syncline_runtime::settings::{DatabaseSettings, KafkaSettings, RegistrySettings, Secret, SslMode};
use url::Url;

use super::connection::{DEFAULT_PORT, default_ssl, from_url};
use super::jdbc_sink;
use super::names::{identifier_fault, slot_fault, slot_from, topic_prefix_fault, topic_prefix_from};
use super::raw::{
    RawCdc, RawDatabase, RawDatabaseKind, RawFormatKind, RawKafka, RawMethod, RawMode, RawProperties, RawRegistry,
    RawSnapshotMode, RawSsl, RawSync,
};
use super::{MappingsFile, Sides, SyncConfig};

/// Checks the whole file.
///
/// # Errors
/// All problems, with their places.
pub(super) fn check(loaded: Loaded<RawSync>, sides: Sides) -> Result<SyncConfig, Vec<Problem>> {
    let Loaded { value: raw, places } = loaded;
    let mut check = Check { places, sides, problems: Vec::new() };
    let config = check.sync(raw);
    match (config, check.problems) {
        (Some(config), problems) if problems.is_empty() => Ok(config),
        (_, problems) => Err(problems),
    }
}

/// Goes on after a problem: a user wants to see all of them.
pub(super) struct Check {
    places: Places,
    sides: Sides,
    problems: Vec<Problem>,
}

impl Check {
    pub(super) fn refuse(&mut self, path: &str, text: impl Into<String>) {
        self.problems.push(self.places.problem(path, text));
    }

    pub(super) fn line(&self, path: &str) -> usize {
        self.places.line(path)
    }

    /// A name as written, if it has no fault.
    fn name(&mut self, path: &str, name: String, fault: fn(&str) -> Option<String>) -> String {
        if let Some(fault) = fault(&name) {
            self.refuse(path, format!("`{name}` {fault}"));
        }
        name
    }

    fn sync(&mut self, raw: RawSync) -> Option<SyncConfig> {
        let RawMode::Incremental = raw.sync_settings.mode;
        if raw.source.is_none() && raw.target.is_none() {
            self.refuse("", "neither `source` nor `target`: write at least one of them");
        }
        let topics = self.topics(&raw);
        let topic_prefix = match raw.kafka.topic_prefix.clone() {
            Some(prefix) => self.name("kafka.topic_prefix", prefix, topic_prefix_fault),
            None => topic_prefix_from(&raw.name),
        };
        let consumer_group = raw.kafka.consumer_group.clone().unwrap_or_else(|| topic_prefix_from(&raw.name));
        let mappings = Arc::new(self.mappings(raw.table_mappings));
        let kafka = self.kafka(raw.kafka);
        let is_needed = raw.source.is_some() && raw.cdc_config.output_format.kind == RawFormatKind::Avro;
        let registry = self.registry(raw.schema_registry, is_needed);
        let producer = match raw.source {
            Some(_) if self.sides == Sides::Consumer => None,
            Some(source) => {
                let source = self.database("source", source);
                let signals = self.signals(&raw.cdc_config.properties, &topic_prefix);
                let mut capture = self.capture(&raw.name, &raw.cdc_config);
                capture.tables.extend(signals.table.clone());
                source.map(|source| ProducerConfig {
                    kafka: kafka.clone(),
                    registry: registry.clone(),
                    topic_prefix: topic_prefix.clone(),
                    source,
                    slot: capture.slot,
                    publication: capture.publication,
                    tables: capture.tables,
                    parallel_tables: raw.sync_settings.parallel_tables,
                    checkpoint_interval: raw.sync_settings.checkpoint_interval,
                    snapshot_mode: match raw.cdc_config.properties.snapshot_mode {
                        RawSnapshotMode::Initial => SnapshotMode::Initial,
                        RawSnapshotMode::InitialOnly => SnapshotMode::InitialOnly,
                        RawSnapshotMode::NoData => SnapshotMode::NoData,
                        RawSnapshotMode::WhenNeeded => SnapshotMode::WhenNeeded,
                    },
                    capture_before_values: raw.cdc_config.change_tracking.capture_before_values,
                    chunk_size: raw.cdc_config.properties.chunk_size,
                    signals,
                    skip_unsupported_columns: raw.cdc_config.properties.skip_unsupported_columns,
                    events: self.events(&raw.cdc_config, &topic_prefix),
                    heartbeat: self.heartbeat(&raw.cdc_config.properties, &topic_prefix),
                    failover: raw.cdc_config.properties.failover,
                    node: None,
                })
            }
            None => {
                if self.places.is_written("cdc_config") {
                    self.refuse("cdc_config", "says how a source is captured, and there is no `source`: remove it");
                }
                None
            }
        };
        let consumer = match raw.target {
            Some(_) if self.sides == Sides::Producer => None,
            Some(target) => {
                let (database, properties) = target.split();
                let sink = jdbc_sink::settings(&properties, |key, text| {
                    self.refuse(&format!("target.properties.{key}"), text);
                });
                if properties.collection_name_format.is_some() && !mappings.list.is_empty() {
                    let text = "stands beside `table_mappings`: name the target's table there, with `target_table`";
                    self.refuse("target.properties.collection.name.format", text);
                }
                if sink.json_of_target && !mappings.list.is_empty() {
                    let text = "`target` reads the source's columns off the target's table, which `table_mappings` makes \
                                another one: have the connector write schemas";
                    self.refuse("target.properties.json.types", text);
                }
                let RawDatabaseKind::Postgresql = database.kind;
                self.database("target", database).map(|target| ConsumerConfig {
                    kafka,
                    registry,
                    consumer_group,
                    topics: topics.unwrap_or(TopicSelection::Prefix(topic_prefix)),
                    target: TargetConfig::Postgresql(target),
                    sink,
                    mappings: Arc::clone(&mappings),
                    writers: raw.sync_settings.parallel_tables,
                    batch_rows: raw.sync_settings.batch_size,
                    retry_attempts: raw.sync_settings.retry_attempts,
                    node: None,
                })
            }
            None => None,
        };
        let mappings = MappingsFile { file: self.places.file().to_owned(), mappings };
        Some(SyncConfig { producer, consumer, mappings })
    }

    /// The topics that were listed; none when the prefix decides.
    fn topics(&mut self, raw: &RawSync) -> Option<TopicSelection> {
        let RawKafka { topics, topics_regex, .. } = &raw.kafka;
        for (path, written) in [("kafka.topics", !topics.is_empty()), ("kafka.topics_regex", topics_regex.is_some())] {
            if written && raw.source.is_some() {
                self.refuse(
                    path,
                    "only a file without `source` lists topics: a consumer beside a producer reads what it publishes",
                );
            }
        }
        match (topics.is_empty(), topics_regex) {
            (false, Some(_)) => {
                self.refuse("kafka.topics_regex", "stands beside `kafka.topics`: write one of them");
                None
            }
            (false, None) => Some(TopicSelection::Names(topics.clone())),
            (true, Some(regex)) => {
                if let Err(error) = Regex::new(regex) {
                    self.refuse("kafka.topics_regex", format!("is not a regular expression: {error}"));
                }
                Some(TopicSelection::Regex(regex.clone()))
            }
            (true, None) => None,
        }
    }

    fn kafka(&mut self, raw: RawKafka) -> KafkaSettings {
        let servers: Vec<String> = split_all(&raw.bootstrap_servers);
        if servers.is_empty() {
            self.refuse("kafka.bootstrap_servers", "names no server: write host:port");
        }
        for server in &servers {
            let port = server.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none_or(|port| port == 0) {
                self.refuse("kafka.bootstrap_servers", format!("`{server}` has no port: write host:port"));
            }
        }
        let mut allowed = true;
        for name in raw.properties.keys() {
            if let Some(reason) = protected_property(name) {
                allowed = false;
                self.refuse(&format!("kafka.properties.{name}"), format!("cannot be set: {reason}"));
            }
        }
        let settings = KafkaSettings {
            bootstrap_servers: servers.join(","),
            partitions: raw.partitions,
            replication_factor: raw.replication_factor,
            properties: raw.properties,
        };
        if allowed {
            match check_properties(&settings) {
                Ok(()) => {}
                Err(KafkaError::Property { key, reason }) => {
                    self.refuse(&format!("kafka.properties.{key}"), format!("is refused by librdkafka: {reason}"));
                }
                Err(error) => self.refuse("kafka.properties", error.to_string()),
            }
        }
        settings
    }

    fn registry(&mut self, raw: RawRegistry, is_needed: bool) -> RegistrySettings {
        let urls = split_all(&raw.url);
        if urls.is_empty() && is_needed {
            self.refuse(
                "schema_registry.url",
                "is required: write the registry's address, for example http://localhost:8081/apis/ccompat/v7",
            );
        }
        for url in &urls {
            match Url::parse(url) {
                Err(error) => self.refuse("schema_registry.url", format!("is not a URL: {error}")),
                Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                    self.refuse("schema_registry.url", "must begin with http:// or https://");
                }
                Ok(url) if url.password().is_some() || !url.username().is_empty() => {
                    let text =
                        "holds a user name: write it to `schema_registry.username` and `schema_registry.password`";
                    self.refuse("schema_registry.url", text);
                }
                Ok(_) => {}
            }
        }
        if raw.password.is_some() && raw.username.is_none() {
            self.refuse("schema_registry.password", "stands without `schema_registry.username`");
        }
        let urls = urls.into_iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        RegistrySettings { urls, username: raw.username, password: raw.password }
    }

    fn database(&mut self, section: &str, raw: RawDatabase) -> Option<DatabaseSettings> {
        let RawDatabaseKind::Postgresql = raw.kind;
        if let Some(url) = &raw.connection {
            for key in ["host", "port", "database", "username", "password", "ssl"] {
                let path = format!("{section}.{key}");
                if self.places.is_written(&path) {
                    self.refuse(&path, format!("stands beside `{section}.connection`: write one or the other"));
                }
            }
            return from_url(url.expose()).map_err(|error| self.refuse(&format!("{section}.connection"), error)).ok();
        }
        let mut required = |key: &str, value: Option<String>| {
            if value.is_none() {
                self.refuse(&format!("{section}.{key}"), "is required (or `connection`, which holds it)");
            }
            value
        };
        let host = required("host", raw.host);
        let database = required("database", raw.database);
        let username = required("username", raw.username);
        let host = host?;
        let ssl = match raw.ssl {
            Some(RawSsl::Disabled) => SslMode::Disabled,
            Some(RawSsl::Required) => SslMode::Required,
            None => default_ssl(&host),
        };
        Some(DatabaseSettings {
            host,
            port: raw.port.unwrap_or(DEFAULT_PORT),
            database: database?,
            username: username?,
            password: raw.password.filter(|password| *password != Secret::new(String::new())),
            ssl,
        })
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

    fn capture(&mut self, name: &str, raw: &RawCdc) -> Capture {
        let RawMethod::LogicalReplication = raw.method;
        let slot = match raw.postgresql.slot.clone() {
            Some(slot) => self.name("cdc_config.postgresql.slot", slot, slot_fault),
            None => slot_from(name),
        };
        let publication = match raw.postgresql.publication.clone() {
            Some(publication) => self.name("cdc_config.postgresql.publication", publication, identifier_fault),
            None => slot_from(name),
        };
        let tables = raw.postgresql.tables.clone().unwrap_or_default();
        if tables.is_empty() {
            let text = "is required with `source`: list the tables to capture, for example [users, \"sales.*\"]";
            self.refuse("cdc_config.postgresql.tables", text);
        }
        if tables.iter().any(|table| table.trim().is_empty()) {
            self.refuse("cdc_config.postgresql.tables", "holds an empty name");
        }
        Capture { slot, publication, tables }
    }
}

struct Capture {
    slot: String,
    publication: String,
    tables: Vec<String>,
}

/// Lists may also be written as one text with commas, as Kafka's own files do.
pub(super) fn split_all(texts: &[String]) -> Vec<String> {
    let parts = texts.iter().flat_map(|text| text.split(','));
    parts.map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
