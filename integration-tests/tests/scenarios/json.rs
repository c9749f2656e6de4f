//! The same events as JSON, without a registry.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use syncline_integration_tests::records;
use syncline_integration_tests::sql::{execute, value};
use syncline_integration_tests::sync::{PATIENCE, Sync};
use syncline_integration_tests::values::postgres::COLUMNS;

use crate::gate;
use crate::types::{filled, rows};

#[tokio::test]
async fn every_type_arrives_exactly_as_json() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("json", &["every_type"]).await?;
    sync.options.is_json = true;
    let mut source = filled(&sync).await?;
    for row in rows(100) {
        execute(&mut source, row).await?;
    }
    let columns: Vec<String> = (0..COLUMNS.len()).map(|number| format!("c{number} = NULL")).collect();
    execute(&mut source, format!("UPDATE every_type SET {} WHERE id < 3", columns.join(", "))).await?;
    execute(&mut source, "UPDATE every_type SET id = id + 1000 WHERE id = 4; DELETE FROM every_type WHERE id = 5")
        .await?;
    sync.catch_up().await?;
    sync.check(&["every_type"]).await?;
    execute(&mut source, "TRUNCATE every_type").await?;
    sync.catch_up().await?;
    let left: i64 = value(&mut sync.target().await?, "SELECT count(*) FROM every_type").await?;
    ensure!(left == 0, "{left} rows are left behind the truncate");

    let records = records::read(&[sync.topic("every_type")]).await?.remove(0);
    let operations: Vec<String> = records
        .iter()
        .filter_map(|record| record.value.as_deref())
        .map(|value| {
            let value: Value = serde_json::from_slice(value)?;
            Ok(value["op"].as_str().context("no operation")?.to_owned())
        })
        .collect::<Result<_>>()?;
    for operation in ["r", "c", "u", "d", "t"] {
        ensure!(operations.iter().any(|found| found == operation), "no {operation} among the records");
    }
    sync.finish().await
}

#[tokio::test]
async fn another_form_of_keys_waits_for_a_new_snapshot() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("form", &["t"]).await?;
    let mut source = sync
        .source("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT n, 0 FROM generate_series(1, 50) n")
        .await?;
    sync.catch_up().await?;
    for (is_json, words) in
        [(true, ["records are Avro", "resync --source"]), (false, ["records are JSON", "resync --source"])]
    {
        sync.options.is_json = is_json;
        execute(&mut source, "UPDATE t SET v = v + 1").await?;
        // Keys are placed by their bytes: the same row would go on in another partition.
        sync.refused(&["run", "--until-caught-up"], 1, &words).await?;
        sync.start(&["resync", "--source", "--yes"])?.expect_exit(0, PATIENCE).await?;
        sync.catch_up().await?;
        sync.check(&["t"]).await?;
        execute(&mut source, "UPDATE t SET v = v + 1; DELETE FROM t WHERE id % 7 = 0").await?;
        sync.catch_up().await?;
        sync.check(&["t"]).await?;
    }
    sync.finish().await
}
