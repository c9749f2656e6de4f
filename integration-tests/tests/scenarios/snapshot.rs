//! The first copy: with writes going on, interrupted, left out.

use anyhow::{Result, ensure};
use std::sync::atomic::Ordering;
use std::time::Duration;
use syncline_integration_tests::generator::Generator;
use syncline_integration_tests::shop;
use syncline_integration_tests::sql::{execute, value};
use syncline_integration_tests::stack;
use syncline_integration_tests::sync::{PATIENCE, Sync, wait_until};

use crate::gate;

#[tokio::test]
async fn a_first_copy_with_writes_going_on_has_no_gap_and_no_overlap() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("snapshot", &shop::TABLES).await?;
    let mut source = sync.source("").await?;
    shop::create(&mut source, 20_000).await?;
    let (control, load) = Generator::new(sync.source("").await?, 1).spawn(400);
    let mut run = sync.start(&["run"])?;
    sync.target_shows("SELECT count(*) > 0 FROM order_items").await?;
    // Load beyond the end of the copy, so that the hand-over lies within it.
    tokio::time::sleep(Duration::from_secs(3)).await;
    control.stop.store(true, Ordering::Relaxed);
    load.await??;
    sync.converge(&shop::TABLES, &mut [&mut run]).await?;
    run.stop().await?;
    sync.finish().await
}

#[tokio::test]
async fn an_interrupted_first_copy_starts_over_and_leaves_no_ghost_rows() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("interrupted", &["t", "u"]).await?;
    let mut source = sync
        .source(
            "CREATE TABLE t (id int PRIMARY KEY, body text); CREATE TABLE u (id int PRIMARY KEY, body text);
             INSERT INTO t SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, 60000) n;
             INSERT INTO u SELECT n, 'u' FROM generate_series(1, 100) n",
        )
        .await?;
    let mut consumer = sync.start(&["consume"])?;
    let (topic, admin) = (sync.topic("t"), stack::admin().await?);
    for round in 1..=3 {
        let records = async || admin.end_offsets(&topic).await.map_or(0, |ends| ends.iter().sum::<i64>());
        let before = records().await;
        let mut producer = sync.start(&["produce"])?;
        wait_until("the copy is under way", async || records().await > before + 3_000).await?;
        producer.kill()?;
        // Rows that the copy may have sent already, and that the next one will not see.
        execute(&mut source, format!("DELETE FROM t WHERE id % 10 = {round}; DELETE FROM u WHERE id % 10 = {round}"))
            .await?;
    }
    let mut producer = sync.start(&["produce"])?;
    sync.converge(&["t", "u"], &mut [&mut producer, &mut consumer]).await?;
    execute(&mut source, "INSERT INTO t VALUES (-1, 'after'); UPDATE u SET body = 'after' WHERE id = 5").await?;
    sync.converge(&["t", "u"], &mut [&mut producer, &mut consumer]).await?;
    producer.stop().await?;
    consumer.stop().await?;
    sync.finish().await
}

#[tokio::test]
async fn without_a_first_copy_only_later_changes_arrive() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("no_data", &["t"]).await?;
    sync.options.properties.push("snapshot.mode: no_data".to_owned());
    let mut source = sync.source("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await?;
    sync.catch_up().await?;
    execute(&mut source, "INSERT INTO t VALUES (2)").await?;
    sync.catch_up().await?;
    let found: Vec<i32> = value(&mut sync.target().await?, "SELECT array_agg(id) FROM t").await?;
    ensure!(found == [2], "the target holds {found:?}");
    sync.finish().await
}

#[tokio::test]
async fn an_empty_table_is_created_in_the_target() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("empty", &["t"]).await?;
    let mut source = sync.source("CREATE TABLE t (id int PRIMARY KEY, v text)").await?;
    sync.catch_up().await?;
    execute(&mut source, "INSERT INTO t VALUES (1, 'a')").await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    sync.finish().await
}

#[tokio::test]
async fn rows_are_read_once_where_no_more_is_asked_for() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("once", &["t"]).await?;
    sync.options.properties = vec!["snapshot.mode: initial_only".to_owned()];
    let mut source = sync.source("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await?;
    // It ends by itself, and so does the consumer beside it.
    let mut run = sync.start(&["run"])?;
    run.expect_exit(0, PATIENCE).await?;
    sync.check(&["t"]).await?;
    let slots = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'", sync.name);
    ensure!(value::<i64>(&mut source, slots).await? == 0, "a slot holds the log for nobody");
    execute(&mut source, "INSERT INTO t VALUES (3)").await?;
    let mut again = sync.start(&["run"])?;
    again.expect_exit(0, PATIENCE).await?;
    let copied: i64 = value(&mut sync.target().await?, "SELECT count(*) FROM t").await?;
    ensure!(copied == 2, "{copied} rows are in the target: they were read a second time");
    // Another mode begins anew: nothing was captured since.
    execute(&mut source, "DELETE FROM t WHERE id = 1").await?;
    sync.options.properties.clear();
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    sync.finish().await
}
