//! A truncate concerns all partitions at once, whoever reads them.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use syncline_integration_tests::process::Process;
use syncline_integration_tests::sql::{execute, value};
use syncline_integration_tests::sync::{Sync, wait_until};

use crate::gate;

const TABLE: &str =
    "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, 'old' FROM generate_series(1, 5000) n";

#[tokio::test]
async fn a_truncate_removes_what_was_before_it_and_nothing_behind_it() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("truncate", &["t"]).await?;
    let mut source = sync.source(TABLE).await?;
    sync.catch_up().await?;
    for round in 0..3 {
        execute(
            &mut source,
            format!(
                "UPDATE t SET v = 'changed'; BEGIN; DELETE FROM t WHERE id = 7; TRUNCATE t;
                 INSERT INTO t SELECT n, 'new {round}' FROM generate_series(1, 300) n; COMMIT; UPDATE t SET v = 'x' WHERE id < 20"
            ),
        )
        .await?;
    }
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    execute(&mut source, "TRUNCATE t").await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    sync.finish().await
}

#[tokio::test]
async fn truncates_under_load_with_a_consumer_killed_at_the_barrier_end_equal() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("truncate_killed", &["t"]).await?;
    sync.options.partitions = 4;
    let mut source = sync.source(TABLE).await?;
    let mut producer = sync.start(&["produce"])?;
    let mut stays = sync.start(&["consume"])?;
    sync.converge(&["t"], &mut [&mut producer, &mut stays]).await?;
    let mut goes = sync.start(&["consume"])?;
    let mut writer = sync.source("").await?;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let load = tokio::spawn(async move {
        let mut round = 0;
        while !stopped.load(Ordering::Relaxed) {
            round += 1;
            let text = format!(
                "INSERT INTO t SELECT n, 'load {round}' FROM generate_series(1, 400) n ON CONFLICT (id) DO UPDATE SET v = excluded.v;
                 DELETE FROM t WHERE id % 50 = {round} % 50"
            );
            execute(&mut writer, text).await?;
        }
        anyhow::Ok(())
    });
    let mut target = sync.target().await?;
    let mut keeper = sync.target().await?;
    for _ in 0..2 {
        let owned = partitions_of(&goes, &sync).await?;
        let list: Vec<String> = owned.iter().map(ToString::to_string).collect();
        // A partition of another consumer cannot arrive while its progress is held here: all others have to wait.
        let held = (0..4).find(|partition| !owned.contains(partition)).context("one consumer has all partitions")?;
        let hold = format!("BEGIN; SELECT FROM _syncline.progress WHERE partition = {held} FOR UPDATE");
        execute(&mut keeper, hold).await?;
        execute(&mut source, "TRUNCATE t").await?;
        let waiting = format!(
            "SELECT count(*) = 1 FROM _syncline.barriers WHERE kind = 'truncate' AND NOT released AND NOT dropped
             AND arrived @> ARRAY[{}] AND NOT {held} = ANY (arrived)",
            list.join(", ")
        );
        wait_until("the consumer waits at the barrier", async || {
            value::<bool>(&mut target, waiting.as_str()).await.is_ok_and(|waits| waits)
        })
        .await?;
        goes.kill()?;
        ensure!(value::<bool>(&mut target, waiting).await?, "the barrier was released before the consumer was killed");
        execute(&mut keeper, "ROLLBACK").await?;
        goes = sync.start(&["consume"])?;
        sync.target_shows("SELECT bool_and(released OR dropped) FROM _syncline.barriers WHERE kind = 'truncate'")
            .await?;
    }
    stop.store(true, Ordering::Relaxed);
    load.await??;
    sync.converge(&["t"], &mut [&mut producer, &mut stays]).await?;
    goes.stop().await?;
    stays.stop().await?;
    producer.stop().await?;
    // Those that everyone has left behind are gone.
    let barriers: i64 = value(&mut target, "SELECT count(*) FROM _syncline.barriers").await?;
    ensure!(barriers == 1, "{barriers} barriers are kept");
    sync.finish().await
}

/// The partitions that a consumer has begun to read, once these are half of the four.
async fn partitions_of(consumer: &Process, sync: &Sync) -> Result<BTreeSet<i32>> {
    let topic = sync.topic("t");
    let mut owned = BTreeSet::new();
    wait_until("the consumer has its share of the partitions", async || {
        let log = consumer.log();
        let lines = log.lines().filter(|line| line.contains(&topic) && line.contains("offset="));
        owned = lines.filter_map(|line| line.split_once("partition=")?.1.split(' ').next()?.parse().ok()).collect();
        owned.len() == 2
    })
    .await?;
    Ok(owned)
}
