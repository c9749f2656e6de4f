//! A connector of its own for a scenario, on the stack's worker.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use syncline_integration_tests::stack;
use syncline_integration_tests::sync::{Sync, wait_until};

/// Deleted at the end, also of a scenario that fails.
pub(crate) struct Connector {
    pub(crate) name: String,
    url: String,
}

impl Connector {
    /// Debezium's PostgreSQL connector for the tables of a sync, with the sync's own slot, publication and prefix.
    pub(crate) async fn source(sync: &Sync, tables: &[&str]) -> Result<Self> {
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
        converters(&mut config, &connect.registry);
        Self::create(format!("{}-source", sync.name), config, &connect.url).await
    }

    /// Debezium's JDBC sink of these topics into the target of a sync.
    pub(crate) async fn sink(sync: &Sync, tables: &[&str]) -> Result<Self> {
        let connect = stack::connect()?;
        let topics: Vec<String> = tables.iter().map(|table| sync.topic(table)).collect();
        let mut config = json!({
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
        converters(&mut config, &connect.registry);
        Self::create(format!("{}-sink", sync.name), config, &connect.url).await
    }

    async fn create(name: String, config: Value, url: &str) -> Result<Self> {
        let connector = Self { name, url: url.to_owned() };
        let answer = reqwest::Client::new().put(connector.at("config")).json(&config).send().await?;
        let status = answer.status();
        ensure!(status.is_success(), "the worker answers {status}: {}", answer.text().await?);
        wait_until("the connector runs", async || {
            connector.states().await.is_ok_and(|states| states == ["RUNNING", "RUNNING"])
        })
        .await?;
        Ok(connector)
    }

    /// The state of the connector and of its tasks.
    pub(crate) async fn states(&self) -> Result<Vec<String>> {
        let status: Value = reqwest::get(self.at("status")).await?.error_for_status()?.json().await?;
        let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
        let all = std::iter::once(&status["connector"]).chain(&tasks);
        Ok(all.map(|part| part["state"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// Deletes it.
    pub(crate) async fn delete(&self) -> Result<()> {
        reqwest::Client::new().delete(format!("{}/connectors/{}", self.url, self.name)).send().await?;
        Ok(())
    }

    fn at(&self, what: &str) -> String {
        format!("{}/connectors/{}/{what}", self.url, self.name)
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        std::thread::scope(|scope| {
            scope.spawn(|| tokio::runtime::Runtime::new().map(|runtime| runtime.block_on(self.delete())).ok());
        });
    }
}

fn converters(config: &mut Value, registry: &str) {
    for part in ["key", "value"] {
        config[format!("{part}.converter")] = json!("io.confluent.connect.avro.AvroConverter");
        config[format!("{part}.converter.schema.registry.url")] = json!(format!("{registry}/apis/ccompat/v7"));
    }
}
