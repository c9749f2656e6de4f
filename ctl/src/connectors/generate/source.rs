//! The Debezium PostgreSQL source that captures what our producer would, to the same topics.

use serde_json::Value;
use syncline_producer::config::{ProducerConfig, SkippedOperations};
use syncline_producer::publish::MAX_RECORD_BYTES;
use syncline_producer::sources::postgres::selection::TablePattern;
use syncline_runtime::settings::SslMode;

use crate::connectors::answer::Config;
use crate::failure::Failure;

use super::{Settings, converters};

/// Ours alone: Debezium has no such property, or its signal topic needs settings of its own.
const OURS: &[&str] = &["signal.enabled.channels", "signal.kafka.topic", "skip.unsupported.columns"];
/// What Kafka adds to a record before it compares it with the producer's limit.
const OVERHEAD: usize = 64 * 1024;

/// The connector's settings.
///
/// # Errors
/// An entry of `tables` that is no pattern.
pub(super) fn source(config: &ProducerConfig, tree: &Value) -> Result<Config, Failure> {
    let mut settings = Settings::default();
    settings.put("connector.class", "io.debezium.connector.postgresql.PostgresConnector");
    settings.put("tasks.max", 1);
    let database = &config.source;
    settings.put("database.hostname", &database.host);
    settings.put("database.port", database.port);
    settings.put("database.user", &database.username);
    settings.put_secret("database.password", database.password.as_ref(), "source.password", "SOURCE_PASSWORD");
    settings.put("database.dbname", &database.database);
    settings.put(
        "database.sslmode",
        match database.ssl {
            SslMode::Disabled => "disable",
            SslMode::Required => "require",
        },
    );
    settings.put("topic.prefix", &config.topic_prefix);
    settings.put("slot.name", &config.slot);
    settings.put("publication.name", &config.publication);
    settings.put("publication.autocreate.mode", "filtered");
    settings.put("publish.via.partition.root", true);
    settings.put("table.include.list", tables(&config.tables)?);
    settings.put("snapshot.max.threads", config.parallel_tables);
    let properties = tree["cdc_config"]["properties"].as_object();
    for (key, value) in properties.into_iter().flatten().filter(|(key, _)| !OURS.contains(&key.as_str())) {
        match value {
            Value::String(text) => settings.put(key, text),
            Value::Bool(_) | Value::Number(_) => settings.put(key, value),
            Value::Array(items) if items.is_empty() => {}
            Value::Array(items) => {
                settings.put(key, items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","))
            }
            Value::Object(duration) => {
                let part = |name: &str| duration.get(name).and_then(Value::as_u64);
                if let (Some(secs), Some(nanos)) = (part("secs"), part("nanos")) {
                    settings.put(key, secs * 1000 + nanos / 1_000_000);
                }
            }
            Value::Null => {}
        }
    }
    settings.put("skipped.operations", skipped(config.events.skipped));
    settings.put("topic.creation.default.partitions", config.kafka.partitions);
    settings.put("topic.creation.default.replication.factor", config.kafka.replication_factor);
    settings.put("topic.creation.default.cleanup.policy", "delete");
    settings.put("topic.creation.default.max.message.bytes", MAX_RECORD_BYTES);
    settings.put("producer.override.max.request.size", MAX_RECORD_BYTES + OVERHEAD);
    converters::put(&mut settings, &config.registry, tree);
    Ok(settings.0)
}

/// `skipped.operations`, with what `change_tracking` adds to them.
fn skipped(skipped: SkippedOperations) -> String {
    let SkippedOperations { creates, updates, deletes, truncates } = skipped;
    let all = [("c", creates), ("u", updates), ("d", deletes), ("t", truncates)];
    let operations: Vec<&str> = all.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
    if operations.is_empty() { "none".to_owned() } else { operations.join(",") }
}

/// `table.include.list`. Debezium takes regular expressions over `schema.table` and does not look at case by itself.
fn tables(entries: &[String]) -> Result<String, Failure> {
    let patterns: Result<Vec<TablePattern>, _> = entries.iter().map(|entry| TablePattern::parse(entry)).collect();
    let patterns = patterns.map_err(|error| Failure::Usage(format!("cdc_config.postgresql.{error}")))?;
    // A comma separates patterns unless a backslash stands before it.
    let one = |pattern: &TablePattern| format!("(?-i){}", pattern.regex().replace(',', "\\,"));
    Ok(patterns.iter().map(one).collect::<Vec<_>>().join(","))
}
