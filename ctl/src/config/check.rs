//! Raw settings to settings that cannot be wrong: what single keys cannot say about each other.

use std::sync::Arc;

use regex::Regex;
use syncline_consumer::config::{ConsumerConfig, TopicSelection};
use syncline_runtime::config::{Loaded, Places, Problem};
use syncline_runtime::kafka::{KafkaError, check_properties, protected_property};
use syncline_runtime::settings::{DatabaseSettings, KafkaSettings, RegistrySettings, Secret, SslMode};
use syncline_transforms::mapping::Mappings;
use url::Url;

use super::capture::Common;
use super::connection::{DEFAULT_PORT, default_ssl, from_url};
use super::jdbc_sink;
use super::names::{topic_prefix_fault, topic_prefix_from};
use super::nodes::Topology;
use super::raw::{
    RawDatabase, RawDatabaseKind, RawFormatKind, RawKafka, RawMode, RawRegistry, RawSsl, RawSync, RawTarget,
};
use super::{MappingsFile, Scope, Sides, SyncConfig};

/// Checks the whole file.
///
/// # Errors
/// All problems, with their places.
pub(super) fn check(loaded: Loaded<RawSync>, scope: Scope<'_>) -> Result<SyncConfig, Vec<Problem>> {
    let Loaded { value: raw, places } = loaded;
    let mut check = Check { places, scope, problems: Vec::new() };
    let config = check.sync(raw);
    match (config, check.problems) {
        (Some(config), problems) if problems.is_empty() => Ok(config),
        (_, problems) => Err(problems),
    }
}

/// Goes on after a problem: a user wants to see all of them.
pub(super) struct Check<'a> {
    places: Places,
    pub(super) scope: Scope<'a>,
    problems: Vec<Problem>,
}

impl Check<'_> {
    /// Notes a problem. One that several nodes share is told once.
    pub(super) fn refuse(&mut self, path: &str, text: impl Into<String>) {
        let problem = self.places.problem(path, text);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Whether there are no problems so far.
    pub(super) fn is_fine(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn is_written(&self, path: &str) -> bool {
        self.places.is_written(path)
    }

    pub(super) fn line(&self, path: &str) -> usize {
        self.places.line(path)
    }

    /// A name as written, if it has no fault.
    pub(super) fn name(&mut self, path: &str, name: String, fault: fn(&str) -> Option<String>) -> String {
        if let Some(fault) = fault(&name) {
            self.refuse(path, format!("`{name}` {fault}"));
        }
        name
    }

    fn sync(&mut self, raw: RawSync) -> Option<SyncConfig> {
        let RawMode::Incremental = raw.sync_settings.mode;
        let topology = Topology {
            kind: raw.topology,
            hub: raw.hub,
            nodes: raw.nodes,
            rules: raw.conflict_resolution,
            log: raw.conflict_log,
        };
        let topics = self.topics(&raw.kafka, raw.source.is_some());
        let topic_prefix = match raw.kafka.topic_prefix.clone() {
            Some(prefix) => self.name("kafka.topic_prefix", prefix, topic_prefix_fault),
            None => topic_prefix_from(&raw.name),
        };
        let captures = raw.source.is_some() || topology.is_asked_for();
        let is_needed = captures && raw.cdc_config.output_format.kind == RawFormatKind::Avro;
        let common = Common {
            consumer_group: raw.kafka.consumer_group.clone().unwrap_or_else(|| topic_prefix_from(&raw.name)),
            name: raw.name,
            topic_prefix,
            kafka: self.kafka(raw.kafka),
            registry: self.registry(raw.schema_registry, is_needed),
            settings: raw.sync_settings,
            cdc: raw.cdc_config,
        };
        let mappings = Arc::new(self.mappings(raw.table_mappings));
        let file = self.places.file().to_owned();
        let file = MappingsFile { file, mappings: Arc::clone(&mappings), names: Arc::default() };
        if topology.is_asked_for() {
            let (nodes, names) = self.nodes(topology, &common);
            let mappings = MappingsFile { names, ..file };
            return Some(SyncConfig { producer: None, consumer: None, nodes, mappings });
        }
        self.no_topology(&topology);
        if raw.source.is_none() && raw.target.is_none() {
            self.refuse("", "neither `source` nor `target`: write at least one of them, or a topology's `nodes`");
        }
        let producer = match raw.source {
            Some(_) if self.scope.sides == Sides::Consumer => None,
            Some(source) => {
                let source = self.database("source", source);
                let capture = self.capture(&common);
                source.map(|source| self.producer(&common, source, capture))
            }
            None => {
                if self.is_written("cdc_config") {
                    self.refuse("cdc_config", "says how a source is captured, and there is no `source`: remove it");
                }
                None
            }
        };
        let consumer = match raw.target {
            Some(_) if self.scope.sides == Sides::Producer => None,
            Some(target) => self.target(target, &common, topics, mappings),
            None => None,
        };
        Some(SyncConfig { producer, consumer, nodes: Vec::new(), mappings: file })
    }

    fn target(
        &mut self,
        target: RawTarget,
        common: &Common,
        topics: Option<TopicSelection>,
        mappings: Arc<Mappings>,
    ) -> Option<ConsumerConfig> {
        let (database, properties) = target.split();
        let sink = jdbc_sink::settings(&properties, |key, text| {
            self.refuse(&format!("target.properties.{key}"), text);
        });
        if properties.collection_name_format.is_some() && !mappings.list.is_empty() {
            let text = "stands beside `table_mappings`: name the target's table there, with `target_table`";
            self.refuse("target.properties.collection.name.format", text);
        }
        if sink.json_of_target && !mappings.list.is_empty() {
            let text = "`target` reads the source's columns off the target's table, which `table_mappings` makes another \
                        one: have the connector write schemas";
            self.refuse("target.properties.json.types", text);
        }
        let topics = topics.unwrap_or_else(|| TopicSelection::Prefix(common.topic_prefix.clone()));
        let target = self.database("target", database)?;
        Some(ConsumerConfig { sink, mappings, ..common.consumer(common.consumer_group.clone(), topics, target) })
    }

    /// The topics that were listed; none when the prefix decides.
    fn topics(&mut self, raw: &RawKafka, beside_source: bool) -> Option<TopicSelection> {
        let RawKafka { topics, topics_regex, .. } = raw;
        for (path, written) in [("kafka.topics", !topics.is_empty()), ("kafka.topics_regex", topics_regex.is_some())] {
            if written && beside_source {
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

    pub(super) fn database(&mut self, section: &str, raw: RawDatabase) -> Option<DatabaseSettings> {
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
}

/// Lists may also be written as one text with commas, as Kafka's own files do.
pub(super) fn split_all(texts: &[String]) -> Vec<String> {
    let parts = texts.iter().flat_map(|text| text.split(','));
    parts.map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
