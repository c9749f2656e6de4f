//! Tables whose shape changes while their changes flow.

use anyhow::{Result, ensure};
use syncline_integration_tests::sql::{execute, value};
use syncline_integration_tests::sync::{PATIENCE, Sync, says};

use crate::gate;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, a text, b int); INSERT INTO t SELECT n, 'a' || n, n FROM generate_series(1, 50) n";

#[tokio::test]
async fn added_columns_arrive_with_what_old_rows_show_in_them() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("added", &["t"]).await?;
    let mut source = sync.source(TABLE).await?;
    sync.catch_up().await?;
    execute(
        &mut source,
        "UPDATE t SET a = 'before' WHERE id < 10; ALTER TABLE t ADD c text; UPDATE t SET c = 'x' WHERE id = 3;
         INSERT INTO t VALUES (100, 'n', 1, 'c'); ALTER TABLE t ADD d int DEFAULT 7; INSERT INTO t VALUES (101, 'n', 1, 'c', NULL);
         UPDATE t SET b = 0 WHERE id = 20; ALTER TABLE t ADD e jsonb DEFAULT '{\"k\": 1}'; DELETE FROM t WHERE id = 30;
         INSERT INTO t (id) VALUES (102)",
    )
    .await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    sync.finish().await
}

#[tokio::test]
async fn a_dropped_column_stays_in_the_target_and_is_no_longer_written() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("dropped", &["t"]).await?;
    let mut source = sync.source(TABLE).await?;
    execute(&mut source, "ALTER TABLE t ALTER b SET NOT NULL").await?;
    sync.catch_up().await?;
    execute(
        &mut source,
        "ALTER TABLE t DROP b; INSERT INTO t VALUES (200, 'after'); UPDATE t SET a = 'after' WHERE id = 1",
    )
    .await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    let kept: i64 = value(&mut sync.target().await?, "SELECT count(b) FROM t").await?;
    ensure!(kept == 50, "{kept} values are left in the dropped column");
    sync.finish().await
}

#[tokio::test]
async fn a_changed_type_stops_that_table_and_no_other() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("retyped", &["t", "other"]).await?;
    let mut source = sync.source(TABLE).await?;
    execute(&mut source, "CREATE TABLE other (id int PRIMARY KEY)").await?;
    sync.catch_up().await?;
    // `bigint` reads what `integer` wrote, so the registry takes the schema and the decision is the consumer's.
    execute(&mut source, "ALTER TABLE t ALTER b TYPE bigint; UPDATE t SET b = 5000000000; INSERT INTO other SELECT generate_series(1, 500)")
        .await?;
    let log = sync.start(&["run", "--until-caught-up"])?.expect_exit(3, PATIENCE).await?;
    says(&log, &["public.t", "column b", "bigint"])?;
    sync.check(&["other"]).await?;
    sync.finish().await
}

/// PostgreSQL 18 takes NOT NULL without looking at the rows that are there.
#[tokio::test]
async fn nulls_under_a_not_null_that_was_never_validated_arrive() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("not_valid", &["t"]).await?;
    let mut source = sync.source("CREATE TABLE t (id int PRIMARY KEY, v text, n int)").await?;
    execute(
        &mut source,
        "INSERT INTO t VALUES (1, NULL, 1), (2, 'v', 2); ALTER TABLE t ADD CONSTRAINT nn NOT NULL v NOT VALID",
    )
    .await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    // The log has such a row only where it was written before the constraint.
    execute(
        &mut source,
        "ALTER TABLE t DROP CONSTRAINT nn; UPDATE t SET n = 10 WHERE id = 1; INSERT INTO t VALUES (3, NULL, 3);
         ALTER TABLE t ADD CONSTRAINT nn NOT NULL v NOT VALID; INSERT INTO t VALUES (4, 'w', 4)",
    )
    .await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    execute(
        &mut source,
        "UPDATE t SET v = 'x' WHERE v IS NULL; ALTER TABLE t VALIDATE CONSTRAINT nn; UPDATE t SET n = 20 WHERE id = 2;
         DELETE FROM t WHERE id = 4",
    )
    .await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    sync.finish().await
}
