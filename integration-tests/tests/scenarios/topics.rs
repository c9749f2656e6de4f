//! Topics that change behind our back.

use anyhow::{Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use syncline_integration_tests::sql::execute;
use syncline_integration_tests::stack;
use syncline_integration_tests::sync::{PATIENCE, Sync, says, wait_until};
use syncline_integration_tests::traces::traces;

use crate::gate;

#[tokio::test]
async fn a_topic_deleted_and_created_again_stops_with_the_command_that_mends_it() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("recreated", &["t"]).await?;
    let mut source =
        sync.source("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)").await?;
    sync.catch_up().await?;
    let topic = sync.topic("t");
    stack::delete_topics(|name| name == topic).await?;
    let admin = stack::admin().await?;
    admin.ensure_topic(&topic, 3, 1, &[]).await?;
    wait_until("the topic is there again", async || {
        admin.describe_topic(&topic).await.is_ok_and(|found| found.is_some())
    })
    .await?;
    // The new topic holds nothing to catch up with, which is not to be taken for having caught up.
    sync.refused(&["consume", "--until-caught-up"], 3, &[&topic, "created again", "resync"]).await?;
    execute(&mut source, "INSERT INTO t VALUES (1000)").await?;
    sync.refused(&["run", "--until-caught-up"], 1, &[&topic, "created again", "resync"]).await?;
    let log = sync.start(&["resync", "--source", "--yes"])?.expect_exit(0, PATIENCE).await?;
    says(&log, &["snapshot"])?;
    let log =
        sync.start(&["resync", "--topic", &topic, "--from", "earliest", "--yes"])?.expect_exit(0, PATIENCE).await?;
    says(&log, &[&topic])?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    sync.finish().await
}

#[tokio::test]
async fn a_topic_whose_partition_count_changed_stops_with_a_remedy() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("repartitioned", &["t"]).await?;
    let mut source =
        sync.source("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)").await?;
    sync.catch_up().await?;
    let topic = sync.topic("t");
    let client: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", stack::variable("KAFKA_BOOTSTRAP")?).create()?;
    client.create_partitions(&[NewPartitions::new(&topic, 5)], &AdminOptions::new()).await?;
    let admin = stack::admin().await?;
    wait_until("the topic has five partitions", async || {
        admin.describe_topic(&topic).await.is_ok_and(|found| found.is_some_and(|info| info.partitions == 5))
    })
    .await?;
    execute(&mut source, "INSERT INTO t VALUES (1000)").await?;
    let before = traces(&sync).await?;
    let log = sync.refused(&["run", "--until-caught-up"], 1, &[&topic, "partitions"]).await?;
    says(&log, &["resync"])?;
    ensure!(traces(&sync).await? == before, "the refused start changed something");
    sync.finish().await
}
