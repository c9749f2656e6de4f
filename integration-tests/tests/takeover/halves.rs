//! One half of ours and the other of Debezium's: the shop under load, and tables of MySQL and MariaDB.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use syncline_integration_tests::generator::Generator;
use syncline_integration_tests::mariadb::Database;
use syncline_integration_tests::shop;
use syncline_integration_tests::sql::{execute, value};
use syncline_integration_tests::stack;
use syncline_integration_tests::sync::{PATIENCE, Sync, wait_until};

use crate::connector;
use crate::debezium::consumer_file_of;
use crate::load::{Load, SCHEMA, TABLES};

/// The shop, as far as Debezium carries it: its sink makes a double of a numeric without a scale, its source cuts such a
/// number's zeros, and Apicurio Registry takes no schema of its with the default `{}`.
async fn shop(sync: &Sync) -> Result<()> {
    let mut source = sync.source("").await?;
    shop::create(&mut source, 2_000).await?;
    execute(
        &mut source,
        "ALTER TABLE orders ALTER total TYPE numeric(30, 10);
         ALTER TABLE products ALTER attributes DROP DEFAULT, ALTER attributes DROP NOT NULL",
    )
    .await
}

/// Makes the shop's changes for a while.
async fn load(sync: &Sync) -> Result<()> {
    let (control, generator) = Generator::new(sync.source("").await?, 7).spawn(300);
    tokio::time::sleep(Duration::from_secs(4)).await;
    control.stop.store(true, Ordering::Relaxed);
    generator.await?
}

#[tokio::test]
async fn debeziums_jdbc_sink_applies_what_our_producer_writes() -> Result<()> {
    let mut sync = Sync::create("shop_jdbc", &shop::TABLES).await?;
    // The sink knows no placeholder: it would write it into the table.
    sync.options.properties = vec!["reselect.columns.include.list: '.*'".to_owned()];
    shop(&sync).await?;
    let mut producer = sync.start(&["produce"])?;
    producer.said("snapshot is complete", PATIENCE).await?;
    let sink = connector::sink(&sync, &shop::TABLES).await?;
    load(&sync).await?;
    sync.converge(&shop::TABLES, &mut [&mut producer]).await?;
    producer.stop().await?;
    sink.delete().await?;
    sync.finish().await
}

#[tokio::test]
async fn our_consumer_applies_what_debezium_writes() -> Result<()> {
    let sync = Sync::create("shop_debezium", &shop::TABLES).await?;
    shop(&sync).await?;
    let source = connector::source(&sync, &shop::TABLES).await?;
    let mut consumer = sync.start_with(&["consume"], &consumer_file_of(&sync, &shop::TABLES)?)?;
    load(&sync).await?;
    sync.converge(&shop::TABLES, &mut [&mut consumer]).await?;
    consumer.stop().await?;
    source.delete().await?;
    sync.finish().await
}

#[tokio::test]
async fn our_consumer_applies_json_without_schemas_by_the_targets_tables() -> Result<()> {
    let sync = Sync::create("plain_json", &TABLES).await?;
    sync.source(SCHEMA).await?;
    let json = json!({
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "key.converter.schemas.enable": "false",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
    });
    let source = connector::source_with(&sync, &TABLES, json).await?;
    let tables = "CREATE TABLE t (id bigint PRIMARY KEY, version bigint NOT NULL, v text);
                  CREATE TABLE u (id bigint PRIMARY KEY, version bigint NOT NULL, v text)";
    execute(&mut sync.target().await?, tables).await?;
    let file = consumer_file_of(&sync, &TABLES)?;
    // Nobody guesses types.
    sync.start_with(&["consume", "--until-caught-up"], &file)?.expect_exit(3, PATIENCE).await?;
    let file = file.replace("target:\n", "target:\n  properties: {json.types: target}\n");
    let mut consumer = sync.start_with(&["consume"], &file)?;
    let load = Load::start(sync.source("").await?);
    tokio::time::sleep(Duration::from_secs(2)).await;
    load.end().await?;
    sync.converge(&TABLES, &mut [&mut consumer]).await?;
    // A new column is not lost in silence, and the other table goes on.
    execute(&mut sync.source("").await?, "ALTER TABLE t ADD extra int; INSERT INTO t (id, extra) VALUES (9001, 1)")
        .await?;
    consumer.said("field after.extra", PATIENCE).await?;
    execute(&mut sync.source("").await?, "INSERT INTO u (id) VALUES (9001)").await?;
    sync.converge(&["u"], &mut [&mut consumer]).await?;
    consumer.stop().await?;
    source.delete().await?;
    sync.finish().await
}

const OTHERS: [(&str, &str); 2] = [
    ("mysql", "io.debezium.connector.mysql.MySqlConnector"),
    ("mariadb", "io.debezium.connector.mariadb.MariaDbConnector"),
];

#[tokio::test]
async fn our_consumer_applies_what_debezium_writes_of_mysql_and_mariadb() -> Result<()> {
    for (kind, class) in OTHERS {
        other(kind, class).await.with_context(|| kind)?;
    }
    Ok(())
}

async fn other(kind: &str, class: &str) -> Result<()> {
    let sync = Sync::create(&format!("from_{kind}"), &[]).await?;
    let server = if kind == "mysql" { stack::mysql()? } else { stack::mariadb()? };
    let database = Database::create(&server, &sync.name)?;
    database.execute(
        "CREATE TABLE item (id int PRIMARY KEY, name varchar(50), price decimal(10,2), at datetime(3), n bigint, doc json);
         INSERT INTO item VALUES (1, 'one', 1.50, '2024-02-29 12:00:00.125', 1, NULL), (2, 'zwei ü', -0.01, NULL, NULL, NULL),
             (3, NULL, NULL, NULL, 9223372036854775807, '{\"a\": 1}'), (4, 'gone', 0, NULL, 0, NULL);",
    )?;
    let connect = stack::connect()?;
    let address = if kind == "mysql" { &connect.mysql } else { &connect.mariadb };
    let (host, port) = address.split_once(':').context("host:port")?;
    let config = json!({
        "connector.class": class,
        "tasks.max": "1",
        "database.hostname": host,
        "database.port": port,
        "database.user": "syncline",
        "database.password": format!("${{file:{}:{kind}_password}}", connect.secrets),
        "database.server.id": (20_000 + std::process::id() % 40_000).to_string(),
        "database.include.list": sync.name,
        "database.ssl.mode": if kind == "mysql" { "preferred" } else { "disable" },
        "topic.prefix": sync.name,
        "snapshot.locking.mode": "minimal",
        "schema.history.internal.kafka.bootstrap.servers": connect.kafka,
        "schema.history.internal.kafka.topic": format!("{}.schema-history", sync.name),
        "schema.history.internal.store.only.captured.databases.ddl": "true",
        "schema.history.internal.store.only.captured.tables.ddl": "true",
        "poll.interval.ms": "50",
        "topic.creation.default.replication.factor": "1",
        "topic.creation.default.partitions": "3",
    });
    let connector = connector::start(&sync, kind, config, &connect.registry).await?;
    let file = consumer_file_of(&sync, &[])?
        .replace("  topics: []\n", &format!("  topics_regex: '{0}\\.{0}\\..*'\n", sync.name));
    let mut consumer = sync.start_with(&["consume"], &file)?;
    database.execute(
        "INSERT INTO item VALUES (5, 'five', 5, '1999-12-31 23:59:59.999', 5, '[]'); UPDATE item SET price = 2.75, name = 'two' WHERE id = 2;
         DELETE FROM item WHERE id = 4; UPDATE item SET id = 30 WHERE id = 3; ALTER TABLE item ADD extra int;
         INSERT INTO item (id, name, extra) VALUES (6, 'six', 7)",
    )?;
    let expected = database
        .execute("SELECT concat_ws('|', id, name, price, date_format(at, '%Y-%m-%d %H:%i:%s.%f'), n, extra) FROM item ORDER BY id")?;
    ensure!(expected.lines().count() == 5, "the source has other rows: {expected}");
    let query = format!(
        "SELECT string_agg(concat_ws('|', id, name, price, to_char(at, 'YYYY-MM-DD HH24:MI:SS.US'), n, extra), E'\\n' ORDER BY id) || E'\\n' \
         FROM \"{}\".item",
        sync.name
    );
    let mut target = sync.target().await?;
    wait_until("the target has what the source has", async || {
        value::<String>(&mut target, query.as_str()).await.is_ok_and(|found| found == expected)
    })
    .await?;
    consumer.stop().await?;
    connector.delete().await?;
    drop(database);
    sync.finish().await
}
