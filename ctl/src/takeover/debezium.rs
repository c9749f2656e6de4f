//! `takeover debezium`: the file is compared with the connector, the connector stops, the producer takes its place.

use serde_json::Value;
use syncline_producer::config::ProducerConfig;
use syncline_producer::takeover::{Connector, Offset, execute, plan};
use syncline_runtime::kafka::read_latest;

use super::NO_NODES;
use super::connector::{Settings, is_stopped, still_runs, stop};
use super::options::{Common, Debezium};
use crate::config::{Sides, SyncConfig};
use crate::connectors::{Worker, WorkerOptions};
use crate::failure::Failure;
use crate::resync::{confirm, say};

/// Says what will be done and does it.
///
/// # Errors
/// The file does not fit the connector, or something is in the way.
pub(super) async fn takeover(worker: &WorkerOptions, options: Debezium) -> Result<(), Failure> {
    let Debezium { common, offset_topic, trust_slot } = options;
    let config = SyncConfig::load_one_way(&common.file.path, Sides::Producer, NO_NODES)?.producer;
    let config = config.ok_or_else(|| Failure::Usage("the sync file has no `source` to capture from".to_owned()))?;
    if let Some(topic) = offset_topic {
        let value = stored_offset(&config, &common.connector, &topic).await?;
        return carry_out(&config, &common, offset(&common.connector, &value)?, (trust_slot, false), None).await;
    }
    let worker = Worker::new(worker)?;
    let settings = Settings::of(&worker, &common.connector).await?;
    compare(&config, &common.connector, &settings)?;
    let stopped = is_stopped(&worker, &common.connector).await?;
    if !stopped && !common.stop && !common.dry_run {
        return Err(still_runs(&common.connector));
    }
    let stands = shown_offset(&config, &worker, &common.connector).await?;
    carry_out(&config, &common, stands, (trust_slot, !stopped), Some(&worker)).await
}

async fn carry_out(
    config: &ProducerConfig,
    common: &Common,
    offset: Offset,
    (trust_slot, running): (bool, bool),
    worker: Option<&Worker>,
) -> Result<(), Failure> {
    let mut connector = Connector { name: common.connector.clone(), offset, trust_slot, running };
    let mut steps = plan(config, &connector).await?;
    if running {
        steps.insert(0, format!("connector {} is stopped", common.connector));
    }
    if common.dry_run {
        say("This would be done:");
        steps.iter().for_each(|step| say(&format!("  - {step}")));
        say("nothing was changed");
        return Ok(());
    }
    confirm(&steps, common.yes)?;
    if let (true, Some(worker)) = (running, worker) {
        stop(worker, &common.connector).await?;
        connector.offset = shown_offset(config, worker, &common.connector).await?;
        connector.running = false;
    }
    execute(config, &connector).await?;
    say("done: go on with `syncline run` or `syncline produce`");
    Ok(())
}

/// What the sync file and the connector must agree on, each difference with the line to write.
fn compare(config: &ProducerConfig, name: &str, settings: &Settings) -> Result<(), Failure> {
    settings.expect_class(name, "PostgresConnector", "Debezium's PostgreSQL connector")?;
    let mut differences = Vec::new();
    let pairs = [
        ("topic.prefix", None, "kafka.topic_prefix", &config.topic_prefix),
        ("slot.name", Some("debezium"), "cdc_config.postgresql.slot", &config.slot),
        ("publication.name", Some("dbz_publication"), "cdc_config.postgresql.publication", &config.publication),
        ("database.dbname", None, "source.database", &config.source.database),
    ];
    for (theirs, default, ours, value) in pairs {
        if let Some(found) = settings.get(theirs).or(default)
            && found != value
        {
            differences.push(format!("{theirs} is {found}, {ours} is {value}: write {ours}: {found}"));
        }
    }
    if settings.get("plugin.name") != Some("pgoutput") {
        differences.push("plugin.name is not pgoutput: another plugin's slot cannot be gone on with".to_owned());
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "the sync file does not fit connector {name}; nothing was changed\n{}",
        differences.join("\n")
    )))
}

async fn shown_offset(config: &ProducerConfig, worker: &Worker, name: &str) -> Result<Offset, Failure> {
    let list = worker.offsets(name).await?;
    let mine = list.offsets.iter().find(|entry| is_of(&entry.partition, &config.topic_prefix));
    let value = mine.map(|entry| &entry.offset).filter(|value| !value.is_null());
    offset(name, value.ok_or_else(|| no_offset(name))?)
}

/// The offset as Connect keeps it: the last record under `["<connector>", {"server": "<topic.prefix>"}]`.
async fn stored_offset(config: &ProducerConfig, name: &str, topic: &str) -> Result<Value, Failure> {
    let records = read_latest(&config.kafka, topic).await?;
    let mine = records.into_iter().rfind(|record| match serde_json::from_slice::<Value>(&record.key) {
        Ok(Value::Array(parts)) => {
            parts.first().and_then(Value::as_str) == Some(name)
                && parts.get(1).is_some_and(|partition| is_of(partition, &config.topic_prefix))
        }
        _ => false,
    });
    let value = mine.and_then(|record| serde_json::from_slice(&record.value?).ok());
    value.ok_or_else(|| no_offset(name))
}

fn is_of(partition: &Value, prefix: &str) -> bool {
    partition.get("server").and_then(Value::as_str) == Some(prefix)
}

fn no_offset(name: &str) -> Failure {
    Failure::Usage(format!(
        "connector {name} has stored no offset, so there is nothing to go on from; nothing was changed"
    ))
}

fn offset(name: &str, value: &Value) -> Result<Offset, Failure> {
    Offset::parse(value).map_err(|what| {
        Failure::Usage(format!("the offset of connector {name} cannot be used: {what}; nothing was changed"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_belongs_to_its_server() {
        assert!(is_of(&serde_json::json!({"server": "shop"}), "shop"));
        assert!(!is_of(&serde_json::json!({"server": "other"}), "shop"));
    }
}
