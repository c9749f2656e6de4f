//! Several consumers of one group.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use syncline_integration_tests::generator::Generator;
use syncline_integration_tests::shop;
use syncline_integration_tests::sync::{PATIENCE, Sync};

use crate::gate;

#[tokio::test]
async fn consumers_that_join_and_leave_under_load_share_the_work() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("joining", &shop::TABLES).await?;
    let mut source = sync.source("").await?;
    shop::create(&mut source, 3_000).await?;
    let mut producer = sync.start(&["produce"])?;
    let mut stays = sync.start(&["consume"])?;
    let (control, load) = Generator::new(sync.source("").await?, 5).spawn(300);
    for _ in 0..3 {
        let mut joins = sync.start(&["consume"])?;
        joins.said("partitions assigned", PATIENCE).await?;
        tokio::time::sleep(Duration::from_millis(700)).await;
        joins.stop().await?;
        stays.expect_running()?;
    }
    control.stop.store(true, Ordering::Relaxed);
    load.await??;
    sync.converge(&shop::TABLES, &mut [&mut producer, &mut stays]).await?;
    stays.stop().await?;
    producer.stop().await?;
    sync.finish().await
}
