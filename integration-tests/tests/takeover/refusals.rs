//! What cannot be taken over from, each with what is the matter and nothing changed.

use anyhow::{Result, ensure};
use syncline_integration_tests::sync::{PATIENCE, Sync, says};
use syncline_integration_tests::traces::traces;

use crate::connector;
use crate::load::{SCHEMA, TABLES};

#[tokio::test]
async fn a_connector_that_does_not_fit_the_file_is_named_with_the_lines_to_write() -> Result<()> {
    let sync = Sync::create("unfit_takeover", &TABLES).await?;
    let mut source = sync.source(SCHEMA).await?;
    let connector = connector::source(&sync, &TABLES).await?;
    // The snapshot is done and stands behind.
    syncline_integration_tests::sync::wait_until("the first rows are published", async || {
        let admin = syncline_integration_tests::stack::admin().await;
        let Ok(admin) = admin else { return false };
        let ends = admin.end_offsets(&sync.topic("u")).await;
        ends.is_ok_and(|ends| ends.iter().sum::<i64>() >= 500)
    })
    .await?;
    syncline_integration_tests::sql::execute(&mut source, "UPDATE t SET v = 'x' WHERE id = 1").await?;
    let name = connector.name();
    let stop = ["connectors", "stop", name];
    let url = syncline_integration_tests::stack::connect()?.url;
    ensure!(url.starts_with("http"), "{url}");
    let answer = reqwest::Client::new().put(format!("{url}/connectors/{name}/{}", stop[1])).send().await?;
    ensure!(answer.status().is_success(), "the worker answers {}", answer.status());
    syncline_integration_tests::sync::wait_until("it is stopped", async || {
        connector.states().await.is_ok_and(|states| states == ["STOPPED"])
    })
    .await?;
    sync.slot_is_free(&mut source).await?;
    let before = traces(&sync).await?;
    let words = ["takeover", "debezium", "--connector", name, "--yes"];

    let other = sync.file()?.replace(&format!("slot: {}", sync.name), "slot: another");
    let log = sync.start_with(&words, &other)?.expect_exit(2, PATIENCE).await?;
    says(&log, &["slot.name", "cdc_config.postgresql.slot", &sync.name, "nothing was changed"])?;
    let log =
        sync.start(&["takeover", "debezium", "--connector", "no-such", "--yes"])?.expect_exit(1, PATIENCE).await?;
    says(&log, &["no-such"])?;
    let log = sync.start(&["takeover", "jdbc-sink", "--connector", name, "--yes"])?.expect_exit(2, PATIENCE).await?;
    says(&log, &["not a JDBC sink", "nothing was changed"])?;
    ensure!(traces(&sync).await? == before, "a refused takeover changed something");

    // Moved by somebody else: what lies between may never have been published.
    syncline_integration_tests::sql::execute(
        &mut source,
        format!(
            "UPDATE t SET v = 'y' WHERE id = 2; SELECT pg_replication_slot_advance('{}', pg_current_wal_lsn())",
            sync.name
        ),
    )
    .await?;
    let before = traces(&sync).await?;
    let log = sync.start(&words)?.expect_exit(1, PATIENCE).await?;
    says(&log, &["ahead of connector", "--trust-slot", "resync --source", "nothing was changed"])?;
    ensure!(traces(&sync).await? == before, "a refused takeover changed something");
    connector.delete().await?;
    sync.finish().await
}
