//! `generate`: the Debezium source and the Debezium JDBC sink that do what a sync file says, so that one file
//! describes a sync whichever side captures or writes.

mod converters;
mod sink;
mod source;

use std::path::Path;

use serde_json::{Value, json};
use syncline_runtime::settings::Secret;
use tracing::warn;

use crate::cli::Output;
use crate::config::SyncConfig;
use crate::failure::Failure;

use super::answer::Config;
use super::error::ConnectorsError;
use super::options::{Generate, Side};
use super::print;

/// Prints the configurations, or writes them to files.
///
/// # Errors
/// The sync file cannot be used, or has nothing for that side.
pub(super) fn generate(options: &Generate) -> Result<(), Failure> {
    let (config, tree) = SyncConfig::describe(&options.file.path)?;
    let config = config.one_way("the file describes a topology: connectors cannot stand in for its nodes")?;
    let name = tree["name"].as_str().unwrap_or_default();
    let mut connectors = Vec::new();
    if let Some(producer) = config.producer.as_ref().filter(|_| options.side != Side::Sink) {
        connectors.push((format!("{name}-source"), source::source(producer, &tree)?));
    }
    if let Some(consumer) = config.consumer.as_ref().filter(|_| options.side != Side::Source) {
        connectors.push((format!("{name}-sink"), sink::sink(consumer, config.producer.as_ref(), &tree)?));
    }
    let connectors: Vec<(String, Value)> = connectors
        .into_iter()
        .map(|(name, config)| {
            let wrapped = json!({"name": name, "config": config});
            (name, wrapped)
        })
        .collect();
    if connectors.is_empty() {
        let section = if options.side == Side::Sink { "target" } else { "source" };
        return Err(Failure::Usage(format!("the sync file has no `{section}` to make a connector of")));
    }
    match &options.directory {
        Some(directory) => write(directory, &connectors)?,
        None => {
            let mut all: Vec<Value> = connectors.into_iter().map(|(_, connector)| connector).collect();
            let shown = if all.len() == 1 { all.remove(0) } else { Value::Array(all) };
            print(Output::Json, "", &shown);
        }
    }
    Ok(())
}

fn write(directory: &Path, connectors: &[(String, Value)]) -> Result<(), ConnectorsError> {
    let failed = |file: &Path, error: &std::io::Error| ConnectorsError::File {
        file: file.to_owned(),
        reason: format!("cannot be written: {error}"),
    };
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, &error))?;
    for (name, connector) in connectors {
        let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let file = directory.join(format!("{}.json", name.chars().map(plain).collect::<String>()));
        std::fs::write(&file, format!("{connector:#}\n")).map_err(|error| failed(&file, &error))?;
        print(Output::Text, &format!("{}\n", file.display()), &Value::Null);
    }
    Ok(())
}

/// Settings in the order in which they are put.
#[derive(Default)]
struct Settings(Config);

impl Settings {
    fn put(&mut self, key: &str, value: impl ToString) {
        self.0.insert(key.to_owned(), Value::String(value.to_string()));
    }

    /// A password as a placeholder: the sync file's own, or the variable `fallback` where the file holds the password
    /// itself.
    fn put_secret(&mut self, key: &str, secret: Option<&Secret>, written: &str, fallback: &str) {
        let Some(secret) = secret else { return };
        self.put(key, placeholder(secret, written, fallback));
    }
}

fn placeholder(secret: &Secret, written: &str, fallback: &str) -> String {
    let text = secret.expose();
    let inside = text.strip_prefix("${env:").and_then(|rest| rest.strip_suffix('}'));
    if inside.is_some_and(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')) {
        return text.to_owned();
    }
    warn!(
        variable = fallback,
        "the sync file holds `{written}` itself: the connector asks the worker's environment for it instead"
    );
    format!("${{env:{fallback}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: &str = r#"
name: Shop 1
kafka: {bootstrap_servers: "k:9092", topic_prefix: shop, partitions: 6, replication_factor: 3}
schema_registry: {url: "http://r:8081/apis/ccompat/v7", username: me, password: "${NOT_SET_REGISTRY}"}
source: {type: postgresql, host: db, database: shop, username: cdc, password: "${NOT_SET_SOURCE}"}
target: {type: postgresql, host: "::1", port: 5433, database: "a b", username: sink, password: hunter2}
cdc_config:
  postgresql: {slot: s, publication: p, tables: TABLES}
  change_tracking: {capture_deletes: false}
  properties: {snapshot.mode: no_data}
"#;

    fn made(text: &str) -> (Config, Config) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sync.yaml");
        std::fs::write(&file, text).unwrap();
        let (config, tree) = SyncConfig::describe(&file).unwrap();
        let producer = config.producer.as_ref().unwrap();
        let sink = sink::sink(config.consumer.as_ref().unwrap(), Some(producer), &tree).unwrap();
        (source::source(producer, &tree).unwrap(), sink)
    }

    #[test]
    fn a_sync_file_becomes_both_sides() {
        let (source, sink) = made(&SYNC.replace("TABLES", r#"[users, '"Sch ema"."a,b"']"#));
        for (key, value) in [
            ("database.password", "${env:NOT_SET_SOURCE}"),
            ("database.sslmode", "require"),
            ("topic.prefix", "shop"),
            ("slot.name", "s"),
            ("publication.name", "p"),
            ("plugin.name", "pgoutput"),
            ("publication.autocreate.mode", "filtered"),
            ("table.include.list", "(?-i)public\\.users,(?-i)Sch ema\\.a\\,b"),
            ("snapshot.mode", "no_data"),
            ("skipped.operations", "d,t"),
            ("schema.name.adjustment.mode", "avro"),
            ("field.name.adjustment.mode", "avro"),
            ("extended.headers.enabled", "false"),
            ("topic.creation.default.partitions", "6"),
            ("topic.creation.default.replication.factor", "3"),
            ("value.converter.basic.auth.user.info", "me:${env:NOT_SET_REGISTRY}"),
        ] {
            assert_eq!(source.get(key).and_then(Value::as_str), Some(value), "{key}");
        }
        assert!(!source.contains_key("skip.unsupported.columns"));
        for (key, value) in [
            ("topics", "shop.public.users,shop.Sch_ema.a_b"),
            ("connection.url", "jdbc:postgresql://[::1]:5433/a%20b?sslmode=disable"),
            ("connection.password", "${env:TARGET_PASSWORD}"),
            ("collection.name.format", "${source.schema}.${source.table}"),
            ("key.converter.schema.registry.url", "http://r:8081/apis/ccompat/v7"),
        ] {
            assert_eq!(sink.get(key).and_then(Value::as_str), Some(value), "{key}");
        }
        assert!(!format!("{source:?}{sink:?}").contains("hunter2"));
    }

    #[test]
    fn patterns_of_tables_become_a_pattern_of_topics_without_our_own() {
        let (source, sink) = made(&SYNC.replace("TABLES", "[users, 'sales.*']"));
        assert_eq!(source["table.include.list"], "(?-i)public\\.users,(?-i)sales\\..*");
        assert_eq!(sink["topics.regex"], "shop\\.(?!syncline\\.)[^.]+\\..+");
        assert!(!sink.contains_key("topics"));
    }

    #[test]
    fn a_password_inside_of_an_address_does_not_come_along() {
        let text = SYNC.replace("TABLES", "[users]").replace(
            "host: db, database: shop, username: cdc, password: \"${NOT_SET_SOURCE}\"",
            "connection: \"postgresql://cdc:geheim@db:6000/shop\"",
        );
        let (source, _) = made(&text);
        assert_eq!(source["database.password"], "${env:SOURCE_PASSWORD}");
        assert_eq!(source["database.port"], "6000");
        let (source, _) = made(&text.replace("geheim", "${NOT_SET}"));
        assert_eq!(source["database.password"], "${env:NOT_SET}");
    }
}
