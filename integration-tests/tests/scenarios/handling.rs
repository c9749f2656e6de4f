//! Debezium's handling modes: in whatever form values travel, the target holds what the source holds, as far as the
//! form can say it.

use anyhow::Result;
use syncline_integration_tests::sql::execute;
use syncline_integration_tests::sync::Sync;

use crate::gate;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, n numeric(12,2), v numeric, m money, d date, ti time,
    ts timestamp, b bytea, i interval, na numeric(6,2)[], da date[], ba bytea[])";

const ROWS: &str = "INSERT INTO t SELECT g, 9999999999.99, 1.500, -12.34, '2024-02-29', '23:59:59.999999',
    '2024-02-29 12:34:56.789012', '\\x00ff5c27', '1 year 2 mons -3 days 04:05:06.78', '{1.50,NULL}',
    '{2024-02-29,NULL}', ARRAY['\\x00ff'::bytea, NULL] FROM generate_series(1, 3) g;
    INSERT INTO t (id) VALUES (4)";

async fn exact(name: &str, modes: &[&str], extremes: &str) -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create(name, &["t"]).await?;
    sync.options.properties = modes.iter().map(|&mode| mode.to_owned()).collect();
    let mut source = sync.source(&format!("{TABLE}; {ROWS}")).await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    execute(&mut source, extremes).await?;
    execute(
        &mut source,
        "UPDATE t SET n = -0.01, ts = '1999-12-31 23:59:59.9' WHERE id = 2; DELETE FROM t WHERE id = 3",
    )
    .await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    sync.finish().await
}

#[tokio::test]
async fn text_forms_are_exact() -> Result<()> {
    let modes = [
        "decimal.handling.mode: string",
        "time.precision.mode: isostring",
        "binary.handling.mode: hex",
        "interval.handling.mode: string",
    ];
    let extremes = "INSERT INTO t (id, n, v, d, ti, ts, i) VALUES
        (10, 'NaN', '-Infinity', '-infinity', '24:00:00', 'infinity', '-00:00:00.000001'),
        (11, 0, 'NaN', '0044-03-15 BC', '00:00:00', '294276-12-31 23:59:59.999999', '-1 year 3 days')";
    exact("text_forms", &modes, extremes).await
}

#[tokio::test]
async fn one_precision_for_all_times_is_exact() -> Result<()> {
    let modes = ["time.precision.mode: nanoseconds", "binary.handling.mode: base64-url-safe"];
    let extremes = "INSERT INTO t (id, ti, ts) VALUES (10, '24:00:00', 'infinity'), (11, '00:00:00', '1066-10-14')";
    exact("nanoseconds", &modes, extremes).await
}

#[tokio::test]
async fn a_mode_may_change_between_two_starts() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("other_mode", &["t"]).await?;
    let mut source = sync.source("CREATE TABLE t (id int PRIMARY KEY, ti time(0))").await?;
    execute(&mut source, "INSERT INTO t VALUES (1, '12:34:56')").await?;
    sync.catch_up().await?;
    execute(&mut source, "INSERT INTO t VALUES (2, '01:02:03')").await?;
    // An int becomes a long: the registry takes the new schema, and a reader takes both.
    sync.options.properties = vec!["time.precision.mode: microseconds".to_owned()];
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    sync.finish().await
}

#[tokio::test]
async fn skipped_operations_leave_the_target_as_it_was() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("skipped", &["t"]).await?;
    sync.options.properties = vec!["skipped.operations: u,d,t".to_owned(), "tombstones.on.delete: false".to_owned()];
    let mut source =
        sync.source("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')").await?;
    sync.catch_up().await?;
    execute(
        &mut source,
        "UPDATE t SET v = 'x' WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (3, 'c')",
    )
    .await?;
    sync.catch_up().await?;
    sync.target_shows("SELECT string_agg(id || v, ',' ORDER BY id) = '1a,2b,3c' FROM t").await?;
    sync.finish().await
}

#[tokio::test]
async fn deletes_without_tombstones_delete() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("no_tombstones", &["t"]).await?;
    sync.options.properties = vec!["tombstones.on.delete: false".to_owned()];
    let mut source =
        sync.source("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')").await?;
    sync.catch_up().await?;
    execute(&mut source, "DELETE FROM t WHERE id = 1; UPDATE t SET id = 3 WHERE id = 2").await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    sync.finish().await
}
