//! The same events as JSON, without a registry.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use syncline_integration_tests::records;
use syncline_integration_tests::sql::{execute, value};
use syncline_integration_tests::sync::Sync;
use syncline_integration_tests::values::postgres::{COLUMNS, DEFINITIONS};

use crate::gate;
use crate::types::{rows, table};

#[tokio::test]
async fn every_type_arrives_exactly_as_json() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("json", &["every_type"]).await?;
    sync.options.is_json = true;
    let mut source = sync.source(DEFINITIONS).await?;
    execute(&mut source, table()).await?;
    for row in rows(0) {
        execute(&mut source, row).await?;
    }
    sync.catch_up().await?;
    sync.check(&["every_type"]).await?;
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
