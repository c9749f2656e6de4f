//! The paths a value can take with Debezium on one side.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use syncline_integration_tests::connect::Connector;
use syncline_integration_tests::database::{self, Database};
use syncline_integration_tests::process::Process;
use syncline_integration_tests::sql;
use syncline_integration_tests::stack;
use syncline_integration_tests::sync::{PATIENCE, Sync};
use syncline_runtime::settings::DatabaseSettings;

use crate::arrival::{Arrival, Expected, Tried, arrivals, count};

/// Starts Debezium's PostgreSQL connector on the sync's source. Its topics begin with [`debezium_prefix`].
pub(crate) async fn debezium_postgresql(sync: &Sync, tables: &[&str]) -> Result<Connector> {
    let server = stack::server("SOURCE_PG")?;
    let included: Vec<String> = tables.iter().map(|table| format!("public\\.{table}")).collect();
    let name = debezium_prefix(sync);
    let mut config = converters()?;
    let own = json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": host(&stack::connect()?.source_pg),
        "database.port": port(&stack::connect()?.source_pg),
        "database.user": server.username,
        "database.password": password(&server),
        "database.dbname": sync.source_database(),
        "topic.prefix": name,
        "plugin.name": "pgoutput",
        "slot.name": name,
        "publication.name": name,
        "publication.autocreate.mode": "filtered",
        "table.include.list": included.join(","),
        "poll.interval.ms": "50",
        "topic.creation.default.replication.factor": "1",
        "topic.creation.default.partitions": "1",
    });
    config.extend(object(own));
    Connector::start(&name, config).await
}

/// Starts Debezium's MariaDB connector on a database.
pub(crate) async fn debezium_mariadb(sync: &Sync, database: &str) -> Result<Connector> {
    let connect = stack::connect()?;
    let name = debezium_prefix(sync);
    let mut config = converters()?;
    let own = json!({
        "connector.class": "io.debezium.connector.mariadb.MariaDbConnector",
        "tasks.max": "1",
        "database.hostname": host(&connect.mariadb),
        "database.port": port(&connect.mariadb),
        "database.user": "syncline",
        "database.password": format!("${{file:{}:mariadb_password}}", connect.secrets),
        "database.server.id": (10_000 + std::process::id() % 50_000).to_string(),
        "database.include.list": database,
        "topic.prefix": name,
        "snapshot.locking.mode": "minimal",
        "schema.history.internal.kafka.bootstrap.servers": connect.kafka,
        "schema.history.internal.kafka.topic": format!("{name}.schema-history"),
        // Else it parses the tables of other tests as well.
        "schema.history.internal.store.only.captured.databases.ddl": "true",
        "schema.history.internal.store.only.captured.tables.ddl": "true",
        "poll.interval.ms": "50",
        "topic.creation.default.replication.factor": "1",
        "topic.creation.default.partitions": "1",
    });
    config.extend(object(own));
    Connector::start(&name, config).await
}

fn debezium_prefix(sync: &Sync) -> String {
    format!("{}_debezium", sync.name)
}

/// Debezium's records, applied by `syncline consume`.
pub(crate) async fn debezium_to_syncline(
    sync: &Sync,
    connector: &Connector,
    schema: &str,
    source: Option<&mut PgConnection>,
    tried: &[Tried],
    expected: &Expected,
) -> Result<Vec<Arrival>> {
    let database = Database::create(database::TARGET, "matrix_debezium").await?;
    let file = consumer_file(sync, &database.settings, schema)?;
    let mut consumer = sync.start_with(&["consume"], &file)?;
    let mut target = database.connect().await?;
    let path = format!("SET search_path = {schema}");
    sql::execute(&mut target, path).await?;
    let stopped = "SELECT count(*) FROM _syncline._sync_metadata WHERE status = 'stopped'";
    wait_for_rows(&mut target, tried, connector, &mut consumer, stopped).await?;
    consumer.kill()?;
    let found = arrivals(&mut target, tried, expected, source).await?;
    database.remove().await?;
    Ok(found)
}

/// The file of a consumer that applies Debezium's records.
pub(crate) fn consumer_file(sync: &Sync, settings: &DatabaseSettings, schema: &str) -> Result<String> {
    let prefix = debezium_prefix(sync);
    Ok(format!(
        "name: {prefix}\nkafka:\n  bootstrap_servers: {}\n  consumer_group: {prefix}\n  topics_regex: '^{prefix}\\.{schema}\\..*'\n\
         schema_registry:\n  url: {}\ntarget:\n  type: postgresql\n  host: {}\n  port: {}\n  database: {}\n  \
         username: {}\n  password: '{}'\n",
        stack::variable("KAFKA_BOOTSTRAP")?,
        stack::variable("SCHEMA_REGISTRY_URL")?,
        settings.host,
        settings.port,
        settings.database,
        settings.username,
        password(settings),
    ))
}

/// Our records, applied by Debezium's JDBC sink. A table that it fails at is taken from it, and it starts anew.
pub(crate) async fn syncline_to_jdbc_sink(
    sync: &Sync,
    source: &mut PgConnection,
    tried: &[Tried],
    expected: &Expected,
) -> Result<Vec<Arrival>> {
    let database = Database::create(database::TARGET, "matrix_jdbc").await?;
    let mut target = database.connect().await?;
    let mut left: Vec<&Tried> = tried.iter().collect();
    let mut turn = 0;
    while !left.is_empty() {
        turn += 1;
        let name = format!("{}_jdbc_{turn}", sync.name);
        let sink = Connector::start(&name, jdbc_sink(sync, &database.settings, &left)?).await;
        let sink = match sink {
            Ok(sink) => applied(&sink, &mut target, &left).await.map(|()| sink),
            Err(error) => Err(error),
        };
        match sink {
            Ok(sink) => {
                sink.delete().await?;
                break;
            }
            Err(error) => {
                let trace = format!("{error:#}");
                let failed = left.iter().position(|tried| named(&trace, &sync.topic(&tried.table), &tried.table));
                let Some(failed) = failed else { return Err(error) };
                left.remove(failed);
            }
        }
    }
    let found = arrivals(&mut target, tried, expected, Some(source)).await?;
    database.remove().await?;
    Ok(found)
}

/// Whether a connector's trace speaks of a table.
fn named(trace: &str, topic: &str, table: &str) -> bool {
    let mut words = trace.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '.');
    words.any(|word| word.trim_matches('.') == topic || word.trim_matches('.') == table)
}

async fn applied(sink: &Connector, target: &mut PgConnection, tried: &[&Tried]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for tried in tried {
        while count(target, &tried.table).await?.is_none_or(|count| count < tried.rows()) {
            ensure!(sink.is_running().await?, "the sink was stopped");
            ensure!(Instant::now() < deadline, "the sink has not applied all rows of {}", tried.table);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

/// Waits until each table has all its rows or is said to have stopped.
async fn wait_for_rows(
    target: &mut PgConnection,
    tried: &[Tried],
    connector: &Connector,
    consumer: &mut Process,
    stopped: &str,
) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        consumer.expect_running()?;
        ensure!(connector.is_running().await?, "the connector was stopped");
        let mut missing = Vec::new();
        for tried in tried {
            if count(target, &tried.table).await?.is_none_or(|count| count < tried.rows()) {
                missing.push(tried.table.as_str());
            }
        }
        // The view is there once the consumer has made it.
        let stopped = sql::value::<i64>(target, stopped).await.unwrap_or(0);
        if missing.len() == usize::try_from(stopped)? {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "tables lack rows though only {stopped} stopped: {missing:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn jdbc_sink(sync: &Sync, settings: &DatabaseSettings, tried: &[&Tried]) -> Result<Map<String, Value>> {
    let topics: Vec<String> = tried.iter().map(|tried| sync.topic(&tried.table)).collect();
    let mut config = converters()?;
    let own = json!({
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": "1",
        "topics": topics.join(","),
        "connection.url": format!("jdbc:postgresql://{}/{}", stack::connect()?.target_pg, settings.database),
        "connection.username": settings.username,
        "connection.password": password(settings),
        "insert.mode": "upsert",
        "primary.key.mode": "record_key",
        "schema.evolution": "basic",
        "collection.name.format": "${source.table}",
        "consumer.override.auto.offset.reset": "earliest",
    });
    config.extend(object(own));
    Ok(config)
}

fn converters() -> Result<Map<String, Value>> {
    let registry = format!("{}/apis/ccompat/v7", stack::connect()?.registry);
    Ok(object(json!({
        "schema.name.adjustment.mode": "avro",
        "key.converter": "io.confluent.connect.avro.AvroConverter",
        "key.converter.schema.registry.url": registry,
        "value.converter": "io.confluent.connect.avro.AvroConverter",
        "value.converter.schema.registry.url": registry,
    })))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => unreachable!("configurations are written as objects"),
    }
}

fn password(settings: &DatabaseSettings) -> String {
    settings.password.as_ref().map(|secret| secret.expose().to_owned()).unwrap_or_default()
}

fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').map_or("", |(_, port)| port)
}
