//! Servers that go away and come back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use syncline_integration_tests::generator::Generator;
use syncline_integration_tests::shop;
use syncline_integration_tests::sql::execute;
use syncline_integration_tests::stack;
use syncline_integration_tests::sync::Sync;

use crate::gate;

#[tokio::test]
async fn target_and_broker_that_crash_under_load_are_waited_out() -> Result<()> {
    let _servers = gate::alone().await;
    let sync = Sync::create("outages", &shop::TABLES).await?;
    let mut source = sync.source("").await?;
    shop::create(&mut source, 2_000).await?;
    let mut producer = sync.start(&["produce"])?;
    let mut consumer = sync.start(&["consume"])?;
    sync.converge(&shop::TABLES, &mut [&mut producer, &mut consumer]).await?;
    let (control, load) = Generator::new(sync.source("").await?, 3).spawn(200);
    for (how, server) in [("kill", "target"), ("stop", "target"), ("kill", "kafka"), ("stop", "kafka")] {
        stack::control(how, server)?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        stack::control("start", server)?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        producer.expect_running()?;
        consumer.expect_running()?;
    }
    control.stop.store(true, Ordering::Relaxed);
    load.await??;
    sync.converge(&shop::TABLES, &mut [&mut producer, &mut consumer]).await?;
    producer.stop().await?;
    consumer.stop().await?;
    sync.finish().await
}

#[tokio::test]
async fn a_source_that_crashes_is_waited_out() -> Result<()> {
    let _servers = gate::alone().await;
    let sync = Sync::create("source_outage", &["t"]).await?;
    let mut source = sync.source("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0)").await?;
    let mut run = sync.start(&["run"])?;
    sync.converge(&["t"], &mut [&mut run]).await?;
    execute(&mut source, "UPDATE t SET v = 1").await?;
    drop(source);
    stack::control("kill", "source")?;
    stack::control("start", "source")?;
    sync.source("UPDATE t SET v = v + 10; INSERT INTO t VALUES (2, 2)").await?;
    sync.converge(&["t"], &mut [&mut run]).await?;
    run.stop().await?;
    sync.finish().await
}
