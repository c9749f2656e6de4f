//! What was committed arrives, what was rolled back does not, and order holds.

use anyhow::{Result, ensure};
use syncline_integration_tests::generator::Generator;
use syncline_integration_tests::shop;
use syncline_integration_tests::sql::{execute, value};
use syncline_integration_tests::sync::Sync;

use crate::gate;

#[tokio::test]
async fn savepoints_and_rollbacks_leave_what_was_committed() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("savepoints", &["t"]).await?;
    let mut source = sync.source("CREATE TABLE t (id int PRIMARY KEY, v int)").await?;
    sync.catch_up().await?;
    execute(
        &mut source,
        "BEGIN; INSERT INTO t VALUES (1, 1); SAVEPOINT a; INSERT INTO t VALUES (2, 1); ROLLBACK TO a;
         INSERT INTO t VALUES (3, 1); SAVEPOINT b; UPDATE t SET v = 2 WHERE id = 1; RELEASE b; COMMIT;
         BEGIN; INSERT INTO t VALUES (4, 1); DELETE FROM t WHERE id = 3; ROLLBACK;
         BEGIN; INSERT INTO t VALUES (5, 1); UPDATE t SET v = 2 WHERE id = 5; DELETE FROM t WHERE id = 5;
         INSERT INTO t VALUES (5, 3); COMMIT;
         BEGIN; DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (3, 9); DELETE FROM t WHERE id = 3; COMMIT",
    )
    .await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    let rows: Vec<i32> = value(&mut sync.target().await?, "SELECT array_agg(id * 10 + v ORDER BY id) FROM t").await?;
    ensure!(rows == [12, 53], "the target holds {rows:?}");
    sync.finish().await
}

#[tokio::test]
async fn the_shop_under_a_mixed_load_comes_out_equal() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("shop", &shop::TABLES).await?;
    let mut source = sync.source("").await?;
    shop::create(&mut source, 3_000).await?;
    sync.catch_up().await?;
    sync.check(&shop::TABLES).await?;
    let mut generator = Generator::new(sync.source("").await?, 42);
    for _ in 0..3 {
        for _ in 0..400 {
            generator.transaction().await?;
        }
        sync.catch_up().await?;
        sync.check(&shop::TABLES).await?;
    }
    sync.finish().await
}

#[tokio::test]
async fn a_transaction_of_many_rows_arrives_whole() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("large_transaction", &["t"]).await?;
    let mut source = sync.source("CREATE TABLE t (id int PRIMARY KEY, v text)").await?;
    sync.catch_up().await?;
    execute(
        &mut source,
        "BEGIN; INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 100000) n;
         UPDATE t SET v = v || 'x' WHERE id % 3 = 0; DELETE FROM t WHERE id % 7 = 0; COMMIT",
    )
    .await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    sync.finish().await
}

#[tokio::test]
async fn transactions_that_ran_at_the_same_time_arrive_in_the_order_of_their_commits() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("interleaved", &["t"]).await?;
    let mut one =
        sync.source("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'a')").await?;
    let mut two = sync.source("").await?;
    sync.catch_up().await?;
    execute(&mut one, "BEGIN").await?;
    execute(&mut one, "UPDATE t SET v = 'one' WHERE id = 1; INSERT INTO t VALUES (3, 'one')").await?;
    execute(&mut two, "BEGIN").await?;
    execute(&mut two, "UPDATE t SET v = 'two' WHERE id = 2; INSERT INTO t VALUES (4, 'two'); COMMIT").await?;
    execute(&mut one, "UPDATE t SET v = 'one' WHERE id = 2; DELETE FROM t WHERE id = 4; COMMIT").await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    sync.finish().await
}
