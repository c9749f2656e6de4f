//! The producer's place in the log: confirmed, kept, lost.

use anyhow::{Result, ensure};
use syncline_integration_tests::records;
use syncline_integration_tests::sql::{execute, value};
use syncline_integration_tests::sync::{PATIENCE, Sync, says, wait_until};

use crate::gate;

const TABLE: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, 'v' FROM generate_series(1, 200) n";

#[tokio::test]
async fn sigterm_ends_with_zero_and_the_slot_confirmed() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("sigterm", &["t"]).await?;
    let mut source = sync.source(TABLE).await?;
    let mut run = sync.start(&["run"])?;
    sync.converge(&["t"], &mut [&mut run]).await?;
    // The server's log also grows by what other databases do: only a place inside of our transaction says something.
    execute(&mut source, "BEGIN").await?;
    execute(&mut source, "UPDATE t SET v = 'w'").await?;
    let ours: String = value(&mut source, "SELECT pg_current_wal_insert_lsn()::text").await?;
    execute(&mut source, "COMMIT").await?;
    sync.converge(&["t"], &mut [&mut run]).await?;
    run.stop().await?;
    let (confirmed, _) = sync.slot(&mut source).await?;
    let passed: bool = value(&mut source, format!("SELECT '{confirmed}'::pg_lsn > '{ours}'::pg_lsn")).await?;
    ensure!(passed, "the slot stands at {confirmed}, before the transaction that was at {ours}");
    let left = sync.undelivered(&mut source).await?;
    ensure!(left == 0, "the slot would deliver {left} messages again");
    sync.finish().await
}

#[tokio::test]
async fn a_database_without_captured_changes_does_not_hold_the_log() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("idle", &["t"]).await?;
    let mut source = sync.source(TABLE).await?;
    execute(&mut source, "CREATE TABLE busy (n int, v text)").await?;
    let mut run = sync.start(&["run"])?;
    sync.converge(&["t"], &mut [&mut run]).await?;
    execute(&mut source, "INSERT INTO busy SELECT n, repeat('x', 500) FROM generate_series(1, 20000) n").await?;
    let end: String = value(&mut source, "SELECT pg_current_wal_lsn()::text").await?;
    let query = format!(
        "SELECT confirmed_flush_lsn >= '{end}'::pg_lsn FROM pg_replication_slots WHERE slot_name = '{}'",
        sync.name
    );
    wait_until("the slot has moved over changes that are not captured", async || {
        value::<bool>(&mut source, query.as_str()).await.unwrap_or(false)
    })
    .await?;
    run.stop().await?;
    sync.finish().await
}

#[tokio::test]
async fn a_slot_that_is_gone_or_moved_stops_until_a_resync_is_asked_for() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("lost", &["t"]).await?;
    let mut source = sync.source(TABLE).await?;
    sync.catch_up().await?;
    execute(&mut source, "INSERT INTO t VALUES (1000, 'lost')").await?;
    sync.slot_is_free(&mut source).await?;
    let advance = format!("SELECT pg_replication_slot_advance('{}', pg_current_wal_lsn())", sync.name);
    execute(&mut source, advance).await?;
    sync.refused(&["produce", "--until-caught-up"], 4, &[&sync.name, "ahead", "syncline resync"]).await?;
    execute(&mut source, format!("SELECT pg_drop_replication_slot('{}')", sync.name)).await?;
    sync.refused(&["run", "--until-caught-up"], 4, &[&sync.name, "gone", "syncline resync"]).await?;
    execute(&mut source, "DELETE FROM t WHERE id < 50").await?;
    let log = sync.start(&["resync", "--source", "--yes"])?.expect_exit(0, PATIENCE).await?;
    says(&log, &["snapshot"])?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    sync.finish().await
}

#[tokio::test]
async fn a_lost_log_is_made_up_for_where_that_is_asked_for() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("when_needed", &["t"]).await?;
    sync.options.properties = vec!["snapshot.mode: when_needed".into()];
    let mut source = sync.source(TABLE).await?;
    sync.catch_up().await?;
    sync.slot_is_free(&mut source).await?;
    execute(
        &mut source,
        format!(
            "SELECT pg_drop_replication_slot('{}'); INSERT INTO t VALUES (1000, 'lost'); DELETE FROM t WHERE id < 50",
            sync.name
        ),
    )
    .await?;
    let log = sync.start(&["check"])?.expect_exit(0, PATIENCE).await?;
    says(&log, &["the slot is gone", "a start would read all rows again"])?;
    let log = sync.catch_up().await?;
    says(&log, &["the log is lost", "when_needed"])?;
    sync.check(&["t"]).await?;
    execute(&mut source, "UPDATE t SET v = 'on' WHERE id > 90").await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    sync.finish().await
}

#[tokio::test]
async fn a_second_producer_waits_for_the_first() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("second", &["t"]).await?;
    let mut source = sync.source(TABLE).await?;
    let mut first = sync.start(&["run"])?;
    sync.converge(&["t"], &mut [&mut first]).await?;
    let mut second = sync.start(&["produce"])?;
    second.said("in use", PATIENCE).await?;
    first.kill()?;
    execute(&mut source, "UPDATE t SET v = 'after'").await?;
    let mut consumer = sync.start(&["consume"])?;
    sync.converge(&["t"], &mut [&mut second, &mut consumer]).await?;
    second.stop().await?;
    consumer.stop().await?;
    sync.finish().await
}

#[tokio::test]
async fn heartbeats_act_and_a_slot_for_standbys_is_made() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("heartbeat", &["t"]).await?;
    sync.options.properties = [
        "heartbeat.interval.ms: 100",
        "topic.heartbeat.prefix: pulse",
        "heartbeat.action.query: UPDATE beats SET n = n / (CASE WHEN n = 1 THEN 0 ELSE 1 END) + 1",
        "slot.failover: true",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut source = sync.source(TABLE).await?;
    execute(&mut source, "CREATE TABLE beats (n int); INSERT INTO beats VALUES (1)").await?;
    let mut run = sync.start(&["run"])?;
    run.said("heartbeat.action.query failed", PATIENCE).await?;
    // An action that fails is tried again, and capture waits neither for it nor for what it waits for.
    execute(&mut source, "UPDATE beats SET n = 2").await?;
    let mut other = sync.source("BEGIN; LOCK TABLE beats").await?;
    execute(&mut source, "ALTER TABLE t ADD w int; INSERT INTO t VALUES (1000, 'v', 1)").await?;
    sync.converge(&["t"], &mut [&mut run]).await?;
    execute(&mut other, "COMMIT").await?;
    let topic = format!("pulse.{}", sync.name);
    wait_until("the action runs and the heart beats", async || {
        let acted = value::<bool>(&mut source, "SELECT n > 5 FROM beats").await.unwrap_or(false);
        acted && records::count(&topic).await.is_ok_and(|count| count > 5)
    })
    .await?;
    sync.converge(&["t"], &mut [&mut run]).await?;
    let failover = format!("SELECT failover FROM pg_replication_slots WHERE slot_name = '{}'", sync.name);
    ensure!(value::<bool>(&mut source, failover.as_str()).await?, "standbys would not keep the slot");
    run.stop().await?;

    // A slot that was made without it is not taken for one that standbys keep.
    let name = &sync.name;
    execute(&mut source, format!("SELECT pg_drop_replication_slot('{name}')")).await?;
    execute(&mut source, format!("SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")).await?;
    sync.refused(&["run"], 1, &["standbys do not keep it", "ALTER_REPLICATION_SLOT"]).await?;
    sync.finish().await
}
