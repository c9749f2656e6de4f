//! The connectors of a scenario, on the stack's worker.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use syncline_integration_tests::connect::Connector;
use syncline_integration_tests::stack;
use syncline_integration_tests::sync::{Sync, wait_until};

/// Debezium's PostgreSQL connector for the tables of a sync, with the sync's own slot, publication and prefix.
pub(crate) async fn source(sync: &Sync, tables: &[&str]) -> Result<Connector> {
    source_with(sync, tables, json!({})).await
}

/// The same with further settings.
pub(crate) async fn source_with(sync: &Sync, tables: &[&str], more: Value) -> Result<Connector> {
    let connect = stack::connect()?;
    let (host, port) = connect.source_pg.split_once(':').context("host:port")?;
    let included: Vec<String> = tables.iter().map(|table| format!("public\\.{table}")).collect();
    let mut config = json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": host,
        "database.port": port,
        "database.user": "syncline",
        "database.password": format!("${{file:{}:source_password}}", connect.secrets),
        "database.dbname": sync.source_database(),
        "topic.prefix": sync.name,
        "plugin.name": "pgoutput",
        "slot.name": sync.name,
        "publication.name": sync.name,
        "publication.autocreate.mode": "filtered",
        "table.include.list": included.join(","),
        "snapshot.mode": "initial",
        // Small batches, so that it ends in the middle of a transaction.
        "max.batch.size": "64",
        "max.queue.size": "128",
        "poll.interval.ms": "20",
        "schema.name.adjustment.mode": "avro",
        "field.name.adjustment.mode": "avro",
        "topic.creation.default.replication.factor": "1",
        "topic.creation.default.partitions": "3",
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    start(sync, "source", config, &connect.registry).await
}

/// Debezium's JDBC sink of these topics into the target of a sync.
pub(crate) async fn sink(sync: &Sync, tables: &[&str]) -> Result<Connector> {
    let connect = stack::connect()?;
    let topics: Vec<String> = tables.iter().map(|table| sync.topic(table)).collect();
    let config = json!({
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": "1",
        "topics": topics.join(","),
        "connection.url": format!("jdbc:postgresql://{}/{}", connect.target_pg, sync.target_database()),
        "connection.username": "syncline",
        "connection.password": format!("${{file:{}:target_password}}", connect.secrets),
        "insert.mode": "upsert",
        "primary.key.mode": "record_key",
        "delete.enabled": "true",
        "schema.evolution": "basic",
        "collection.name.format": "${source.schema}.${source.table}",
        "consumer.override.metadata.max.age.ms": "1000",
    });
    start(sync, "sink", config, &connect.registry).await
}

/// Starts a connector, with the Avro converter unless it has another one.
pub(crate) async fn start(sync: &Sync, kind: &str, mut config: Value, registry: &str) -> Result<Connector> {
    let converted = config.get("value.converter").is_some();
    for part in ["key", "value"].into_iter().filter(|_| !converted) {
        config[format!("{part}.converter")] = json!("io.confluent.connect.avro.AvroConverter");
        config[format!("{part}.converter.schema.registry.url")] = json!(format!("{registry}/apis/ccompat/v7"));
    }
    let config = config.as_object().context("a configuration is an object")?;
    let connector = Connector::start(&format!("{}-{kind}", sync.name), config.clone()).await?;
    // A takeover goes on from these; the worker stores them behind the rows, which may be seen first.
    wait_until("the connector has stored offsets", async || connector.has_offsets().await.is_ok_and(|stored| stored))
        .await?;
    Ok(connector)
}
