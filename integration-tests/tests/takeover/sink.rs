//! Our consumer in the place of Debezium's JDBC sink, and then our producer in the place of the source.

use anyhow::{Result, ensure};
use syncline_integration_tests::sync::{PATIENCE, Sync, says};

use crate::connector;
use crate::debezium::consumer_file;
use crate::history::{never_went_back, watch};
use crate::load::{Load, SCHEMA, TABLES};

#[tokio::test]
async fn a_running_pair_of_connectors_is_replaced_under_load_one_after_the_other() -> Result<()> {
    let sync = Sync::create("replaced", &TABLES).await?;
    sync.source(SCHEMA).await?;
    let source = connector::source(&sync, &TABLES).await?;
    let sink = connector::sink(&sync, &TABLES).await?;
    sync.converge(&TABLES, &mut []).await?;
    watch(&sync, &TABLES).await?;
    let load = Load::start(sync.source("").await?);

    let file = consumer_file(&sync)?;
    let words = ["takeover", "jdbc-sink", "--connector", sink.name()];
    let log = sync.start_with(&[&words[..], &["--dry-run"]].concat(), &file)?.expect_exit(0, PATIENCE).await?;
    says(&log, &["is stopped", "goes on at offset", "nothing was changed"])?;
    let log = sync.start_with(&[&words[..], &["--yes"]].concat(), &file)?.expect_exit(2, PATIENCE).await?;
    says(&log, &["--stop", "nothing was changed"])?;
    ensure!(sink.states().await? == ["RUNNING", "RUNNING"], "the sink was disturbed");
    let log = sync.start_with(&[&words[..], &["--stop", "--yes"]].concat(), &file)?.expect_exit(0, PATIENCE).await?;
    says(&log, &["done"])?;
    ensure!(sink.states().await? == ["STOPPED"], "the sink was not stopped");
    let mut consumer = sync.start_with(&["consume"], &file)?;
    consumer.said("partition starts", PATIENCE).await?;
    let log = sync.start_with(&[&words[..], &["--yes"]].concat(), &file)?.expect_exit(1, PATIENCE).await?;
    says(&log, &["running members", "nothing was changed"])?;

    let words = ["takeover", "debezium", "--connector", source.name(), "--stop", "--yes"];
    sync.start(&words)?.expect_exit(0, PATIENCE).await?;
    let mut producer = sync.start(&["produce"])?;
    load.end().await?;
    sync.converge(&TABLES, &mut [&mut producer, &mut consumer]).await?;
    never_went_back(&sync).await?;
    producer.stop().await?;
    consumer.stop().await?;
    let log = sync
        .start_with(&["takeover", "jdbc-sink", "--connector", sink.name(), "--yes"], &file)?
        .expect_exit(1, PATIENCE)
        .await?;
    says(&log, &["has progress", "nothing was changed"])?;
    sink.delete().await?;
    source.delete().await?;
    sync.finish().await
}
