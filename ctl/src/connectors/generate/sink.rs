//! The Debezium JDBC sink that writes what our consumer would, from the same topics to the same tables.

use serde_json::Value;
use syncline_consumer::config::{ConsumerConfig, TargetConfig, TopicSelection};
use syncline_event::name::topic_name;
use syncline_producer::config::ProducerConfig;
use syncline_producer::sources::postgres::selection::TablePattern;
use syncline_runtime::settings::{DatabaseSettings, SslMode};

use crate::connectors::answer::Config;
use crate::failure::Failure;

use super::{Settings, converters};

/// The connector's settings; `producer` is the file's source, which says what topics there are.
///
/// # Errors
/// An entry of `tables` that is no pattern.
pub(super) fn sink(
    config: &ConsumerConfig,
    producer: Option<&ProducerConfig>,
    tree: &Value,
) -> Result<Config, Failure> {
    let TargetConfig::Postgresql(database) = &config.target;
    let mut settings = Settings::default();
    settings.put("connector.class", "io.debezium.connector.jdbc.JdbcSinkConnector");
    settings.put("tasks.max", config.writers);
    topics(&mut settings, &config.topics, producer)?;
    settings.put("connection.url", url(database));
    settings.put("connection.username", &database.username);
    settings.put_secret("connection.password", database.password.as_ref(), "target.password", "TARGET_PASSWORD");
    settings.put("insert.mode", "upsert");
    settings.put("delete.enabled", true);
    settings.put("truncate.enabled", true);
    settings.put("primary.key.mode", "record_key");
    settings.put("schema.evolution", "basic");
    settings.put("quote.identifiers", true);
    settings.put("collection.name.format", "${source.schema}.${source.table}");
    settings.put("batch.size", config.batch_rows);
    settings.put("consumer.override.max.poll.records", config.batch_rows);
    converters::put(&mut settings, &config.registry, tree);
    Ok(settings.0)
}

fn url(database: &DatabaseSettings) -> String {
    let DatabaseSettings { host, port, database, ssl, .. } = database;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let database = percent_encoding::utf8_percent_encode(database, percent_encoding::NON_ALPHANUMERIC);
    let mode = match ssl {
        SslMode::Disabled => "disable",
        SslMode::Required => "require",
    };
    format!("jdbc:postgresql://{host}:{port}/{database}?sslmode={mode}")
}

fn topics(
    settings: &mut Settings,
    selection: &TopicSelection,
    producer: Option<&ProducerConfig>,
) -> Result<(), Failure> {
    let pattern = match selection {
        TopicSelection::Names(names) => {
            settings.put("topics", names.join(","));
            return Ok(());
        }
        TopicSelection::Regex(regex) => regex.clone(),
        TopicSelection::Prefix(prefix) => {
            if let Some(names) = producer.map(|producer| named(prefix, &producer.tables)).transpose()?.flatten() {
                settings.put("topics", names.join(","));
                return Ok(());
            }
            beneath(&regex::escape(prefix))
        }
        TopicSelection::Prefixes(prefixes) => {
            let prefixes: Vec<String> = prefixes.iter().map(|prefix| regex::escape(prefix)).collect();
            beneath(&format!("(?:{})", prefixes.join("|")))
        }
    };
    settings.put("topics.regex", pattern);
    // New topics are looked for this often; by itself every five minutes.
    settings.put("consumer.override.metadata.max.age.ms", 10_000);
    Ok(())
}

/// A pattern of the data topics under a prefix; Syncline's own topics hold no rows.
fn beneath(prefix: &str) -> String {
    format!("{prefix}\\.(?!syncline\\.)[^.]+\\..+")
}

/// The topics, if every entry names one table.
fn named(prefix: &str, entries: &[String]) -> Result<Option<Vec<String>>, Failure> {
    let mut topics = Vec::new();
    for entry in entries {
        let pattern = TablePattern::parse(entry);
        let pattern = pattern.map_err(|error| Failure::Usage(format!("cdc_config.postgresql.{error}")))?;
        let Some((schema, table)) = pattern.name() else { return Ok(None) };
        topics.push(topic_name(prefix, schema, table));
    }
    Ok(Some(topics))
}
