//! Processes that end without a word, at any moment.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use syncline_integration_tests::generator::Generator;
use syncline_integration_tests::random::Random;
use syncline_integration_tests::shop;
use syncline_integration_tests::sql::{execute, value};
use syncline_integration_tests::sync::Sync;

use crate::gate;

#[tokio::test]
async fn producer_and_consumer_killed_again_and_again_lose_and_repeat_nothing() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("killed", &shop::TABLES).await?;
    let mut source = sync.source("").await?;
    shop::create(&mut source, 3_000).await?;
    let mut producer = sync.start(&["produce"])?;
    let mut consumer = sync.start(&["consume"])?;
    sync.converge(&shop::TABLES, &mut [&mut producer, &mut consumer]).await?;
    let (control, load) = Generator::new(sync.source("").await?, 9).spawn(300);
    let mut random = Random::new(9);
    for round in 0..8 {
        tokio::time::sleep(Duration::from_millis(300 + random.below(1_200))).await;
        if round % 2 == 0 {
            producer.kill()?;
            producer = sync.start(&["produce"])?;
        } else {
            consumer.kill()?;
            consumer = sync.start(&["consume"])?;
        }
    }
    control.stop.store(true, Ordering::Relaxed);
    load.await??;
    sync.converge(&shop::TABLES, &mut [&mut producer, &mut consumer]).await?;
    producer.stop().await?;
    consumer.stop().await?;
    sync.finish().await
}

/// The counter shows a change that was left out or applied twice, which an overwritten row would hide.
#[tokio::test]
async fn every_change_counts_exactly_once_over_kills() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("counted", &["t"]).await?;
    let mut source = sync.source("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (-1, -1)").await?;
    sync.catch_up().await?;
    let mut target = sync.target().await?;
    execute(
        &mut target,
        "CREATE TABLE seen (id int, n int); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
           $$BEGIN INSERT INTO seen VALUES (NEW.id, NEW.n); RETURN NEW; END$$;
         CREATE TRIGGER note AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note(); ALTER TABLE t ENABLE ALWAYS TRIGGER note",
    )
    .await?;
    for round in 0..5 {
        let mut run = sync.start(&["run"])?;
        for batch in 0..6 {
            let first = round * 6_000 + batch * 1_000;
            execute(&mut source, format!("INSERT INTO t SELECT n, n FROM generate_series({first}, {first} + 999) n"))
                .await?;
        }
        tokio::time::sleep(Duration::from_millis(900 + 200 * round)).await;
        run.kill()?;
    }
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    let (rows, distinct): (i64, i64) = (
        value(&mut target, "SELECT count(*) FROM seen").await?,
        value(&mut target, "SELECT count(DISTINCT id) FROM seen").await?,
    );
    ensure!(rows == 30_000 && distinct == 30_000, "{rows} inserts of {distinct} rows were applied, not 30000");
    sync.finish().await
}

#[tokio::test]
async fn a_frozen_consumer_that_wakes_up_late_changes_nothing() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("frozen", &["t"]).await?;
    let mut source = sync.source("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0)").await?;
    let mut producer = sync.start(&["produce"])?;
    let mut frozen = sync.start(&["consume"])?;
    sync.converge(&["t"], &mut [&mut producer, &mut frozen]).await?;
    for v in 1..=3 {
        execute(
            &mut source,
            format!("UPDATE t SET v = {v}; INSERT INTO t SELECT n + {v} * 1000, 0 FROM generate_series(1, 500) n"),
        )
        .await?;
    }
    frozen.signal("STOP")?;
    execute(&mut source, "UPDATE t SET v = v + 10").await?;
    let mut other = sync.start(&["consume"])?;
    sync.converge(&["t"], &mut [&mut producer, &mut other]).await?;
    frozen.signal("CONT")?;
    execute(&mut source, "UPDATE t SET v = v + 10; DELETE FROM t WHERE id % 7 = 0").await?;
    sync.converge(&["t"], &mut [&mut producer, &mut other]).await?;
    frozen.stop().await?;
    other.stop().await?;
    producer.stop().await?;
    sync.finish().await
}
