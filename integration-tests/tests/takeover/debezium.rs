//! Our producer in the place of a Debezium connector that was stopped under load, within a transaction.

use anyhow::{Result, ensure};
use syncline_integration_tests::stack;
use syncline_integration_tests::sync::{PATIENCE, Sync, says, wait_until};
use syncline_integration_tests::traces::traces;

use crate::connector;
use crate::history::{never_went_back, watch};
use crate::load::{Load, SCHEMA, TABLES, large};

/// The consumer's part of the sync: the topics by name, whoever writes them.
pub(crate) fn consumer_file(sync: &Sync) -> Result<String> {
    consumer_file_of(sync, &TABLES)
}

/// A consumer's own file: the topics of these tables.
pub(crate) fn consumer_file_of(sync: &Sync, tables: &[&str]) -> Result<String> {
    let file = sync.file()?;
    let (head, rest) = file.split_once("source:\n").unwrap_or((&file, ""));
    let target = rest.split_once("target:\n").map_or("", |(_, target)| target);
    let target = target.split_once("cdc_config:").map_or(target, |(target, _)| target);
    let topics: Vec<String> = tables.iter().map(|table| sync.topic(table)).collect();
    let head =
        head.replace(&format!("  topic_prefix: {}\n", sync.name), &format!("  topics: [{}]\n", topics.join(", ")));
    Ok(format!("{head}target:\n{target}"))
}

#[tokio::test]
async fn a_producer_goes_on_within_the_transaction_in_which_debezium_was_stopped() -> Result<()> {
    let sync = Sync::create("taken", &TABLES).await?;
    let mut source = sync.source(SCHEMA).await?;
    let connector = connector::source(&sync, &TABLES).await?;
    let mut consumer = sync.start_with(&["consume"], &consumer_file(&sync)?)?;
    sync.converge(&TABLES, &mut [&mut consumer]).await?;
    watch(&sync, &TABLES).await?;
    let load = Load::start(sync.source("").await?);
    wait_until("the connector follows the log", async || connector.follows_the_log().await.is_ok_and(|is| is)).await?;

    let takeover = |more: &[&str]| {
        let mut words = vec!["takeover", "debezium", "--connector", connector.name()];
        words.extend(more);
        sync.start(&words)
    };
    // Talk first: it runs on meanwhile, and nothing of ours appears.
    let log = takeover(&["--dry-run"])?.expect_exit(0, PATIENCE).await?;
    says(&log, &["is stopped", &sync.topic("t"), "schema id", "nothing was changed"])?;
    let log = takeover(&["--yes"])?.expect_exit(2, PATIENCE).await?;
    says(&log, &["--stop", "nothing was changed"])?;
    ensure!(connector.states().await? == ["RUNNING", "RUNNING"], "the connector was disturbed");
    let ours = format!("{}.syncline", sync.name);
    ensure!(!stack::admin().await?.topics().await?.keys().any(|topic| topic.starts_with(&ours)), "something was made");

    // Stopped while it is somewhere within a transaction of 40500 changes, which take it many times as long as the stop.
    let (admin, topic) = (stack::admin().await?, sync.topic("t"));
    let records = async || admin.end_offsets(&topic).await.map_or(0, |ends| ends.iter().sum::<i64>());
    let before = records().await;
    large(&mut source).await?;
    wait_until("it is within the transaction", async || records().await > before + 2_000).await?;
    let log = takeover(&["--stop", "--yes"])?.expect_exit(0, PATIENCE).await?;
    says(&log, &["done"])?;
    ensure!(connector.states().await? == ["STOPPED"], "the connector was not stopped");
    let published = records().await - before;

    let mut producer = sync.start(&["produce"])?;
    // Killed there, too: what was left out is left out again, and nothing else.
    wait_until("it has gone on", async || records().await > before + published + 1_000).await?;
    producer.kill()?;
    let mut producer = sync.start(&["produce"])?;
    load.end().await?;
    sync.converge(&TABLES, &mut [&mut producer, &mut consumer]).await?;
    never_went_back(&sync).await?;
    // What was left out once is not left out again after a restart.
    producer.kill()?;
    let load = Load::start(sync.source("").await?);
    let mut producer = sync.start(&["produce"])?;
    producer.said("following the log", PATIENCE).await?;
    load.end().await?;
    sync.converge(&TABLES, &mut [&mut producer, &mut consumer]).await?;
    never_went_back(&sync).await?;
    producer.stop().await?;
    consumer.stop().await?;
    let before = traces(&sync).await?;
    let log = takeover(&["--yes"])?.expect_exit(1, PATIENCE).await?;
    says(&log, &["has a place", "nothing was changed"])?;
    ensure!(traces(&sync).await? == before, "a refused takeover changed something");
    connector.delete().await?;
    sync.finish().await
}
