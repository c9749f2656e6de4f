//! Every value arrives as it was: through the first copy and through the log.

use anyhow::Result;
use sqlx::PgConnection;
use syncline_integration_tests::sql::execute;
use syncline_integration_tests::sync::Sync;
use syncline_integration_tests::values::postgres::{COLUMNS, DEFINITIONS};

use crate::gate;

fn table() -> String {
    let mut text = "CREATE TABLE every_type (id bigint PRIMARY KEY".to_owned();
    for (number, (column_type, _)) in COLUMNS.iter().enumerate() {
        text.push_str(&format!(", c{number} {column_type}"));
    }
    text + ")"
}

/// Rows from `id` on: the first all NULL, then all first values, all second ones, and so on.
pub(crate) fn rows(id: usize) -> Vec<String> {
    let most = COLUMNS.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
    let mut rows = vec![format!("INSERT INTO every_type (id) VALUES ({id})")];
    for turn in 0..most {
        let values: Vec<String> = COLUMNS
            .iter()
            .map(|(column_type, values)| format!("({})::{column_type}", values[turn % values.len()]))
            .collect();
        rows.push(format!("INSERT INTO every_type VALUES ({}, {})", id + 1 + turn, values.join(", ")));
    }
    rows
}

/// The source with the table and its first rows, which have arrived.
pub(crate) async fn filled(sync: &Sync) -> Result<PgConnection> {
    let mut source = sync.source(DEFINITIONS).await?;
    execute(&mut source, table()).await?;
    for row in rows(0) {
        execute(&mut source, row).await?;
    }
    sync.catch_up().await?;
    sync.check(&["every_type"]).await?;
    Ok(source)
}

#[tokio::test]
async fn every_type_arrives_exactly_by_the_first_copy_and_by_the_log() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("types", &["every_type"]).await?;
    let mut source = filled(&sync).await?;
    for row in rows(100) {
        execute(&mut source, row).await?;
    }
    // Each of the rows of the first copy becomes the one behind it, so that every value is updated to another.
    let columns: Vec<String> = (0..COLUMNS.len()).map(|number| format!("c{number}")).collect();
    let (list, other) = (columns.join(", "), columns.join(", o."));
    execute(
        &mut source,
        format!("UPDATE every_type t SET ({list}) = (SELECT o.{other} FROM every_type o WHERE o.id = t.id + 1) WHERE t.id < 9"),
    )
    .await?;
    sync.catch_up().await?;
    sync.check(&["every_type"]).await?;
    sync.finish().await
}

#[tokio::test]
async fn null_stays_null_in_columns_with_defaults() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("defaults", &["t"]).await?;
    let mut source = sync
        .source(
            "CREATE TABLE t (id int PRIMARY KEY DEFAULT 7, i int DEFAULT 5, s text DEFAULT 'x', b boolean DEFAULT true,
               n numeric(6,2) DEFAULT 1.5, ts timestamptz DEFAULT now(), j jsonb DEFAULT '{}', a int[] DEFAULT '{1}',
               nn text NOT NULL DEFAULT 'there', f real DEFAULT 'NaN');
             INSERT INTO t (id) VALUES (1); INSERT INTO t VALUES (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '', NULL)",
        )
        .await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    execute(
        &mut source,
        "INSERT INTO t VALUES (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'y', NULL); INSERT INTO t (id) VALUES (4);
         UPDATE t SET i = NULL, s = NULL, b = NULL, n = NULL, ts = NULL, j = NULL, a = NULL, f = NULL WHERE id = 1;
         DELETE FROM t WHERE id = 2",
    )
    .await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    sync.finish().await
}

#[tokio::test]
async fn odd_names_and_names_that_meet_after_adjustment_stay_apart() -> Result<()> {
    let _servers = gate::shared().await;
    let table = "Ta\"ble ü '1'";
    let sync = Sync::create("names", &["\"Sch ema\".\"Ta\"\"ble ü '1'\"", "\"Select\""]).await?;
    let mut source = sync
        .source(
            "CREATE SCHEMA \"Sch ema\";
             CREATE TABLE \"Sch ema\".\"Ta\"\"ble ü '1'\" (\"a b\" int, \"a-b\" int, a_b int, \"A B\" text, \"Größe\" text,
               \"1st\" text, \"select\" text, \"qu\"\"oted\" text, \"日本\" text, \"k 2\" text, \"K 1\" int, \"$1\" text,
               \"back\\slash\" text, PRIMARY KEY (\"k 2\", \"K 1\"));
             CREATE TABLE \"Select\" (\"Id\" int PRIMARY KEY, \"From\" text);
             INSERT INTO \"Sch ema\".\"Ta\"\"ble ü '1'\" VALUES (1, 2, 3, 'a', 'b', 'c', 'd', 'e', 'f', 'g', 1, 'h', 'i');
             INSERT INTO \"Select\" VALUES (1, 'x')",
        )
        .await?;
    sync.catch_up().await?;
    let odd = format!("Sch ema.{table}");
    sync.check(&[&odd, "Select"]).await?;
    execute(
        &mut source,
        "INSERT INTO \"Sch ema\".\"Ta\"\"ble ü '1'\" VALUES (4, 5, 6, 'a', NULL, 'c', 'd', 'e', 'f', 'ü', 2, NULL, '\\');
         UPDATE \"Sch ema\".\"Ta\"\"ble ü '1'\" SET \"a b\" = 9, \"日本\" = '本', \"k 2\" = 'other' WHERE \"K 1\" = 1;
         UPDATE \"Select\" SET \"Id\" = 2",
    )
    .await?;
    sync.catch_up().await?;
    sync.check(&[&odd, "Select"]).await?;
    sync.finish().await
}

#[tokio::test]
async fn a_text_of_a_megabyte_arrives_and_stays_when_other_columns_change() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("large", &["t"]).await?;
    let mut source = sync
        .source(
            "CREATE TABLE t (id int PRIMARY KEY, small int, large text, raw bytea);
             ALTER TABLE t ALTER large SET STORAGE EXTERNAL, ALTER raw SET STORAGE EXTERNAL;
             INSERT INTO t SELECT n, n, repeat(md5(n::text), 32768), decode(repeat(md5('r' || n), 8192), 'hex')
             FROM generate_series(1, 4) n",
        )
        .await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    execute(
        &mut source,
        "INSERT INTO t SELECT n, n, repeat(md5(n::text), 32768), NULL FROM generate_series(5, 8) n;
         UPDATE t SET small = small + 100 WHERE id IN (1, 5);
         UPDATE t SET large = 'short' WHERE id = 2; UPDATE t SET large = NULL WHERE id = 3;
         UPDATE t SET raw = '\\x00', small = 0 WHERE id = 4;
         UPDATE t SET large = '__debezium_unavailable_value' WHERE id = 6",
    )
    .await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    sync.finish().await
}

const EXTENSIONS: &str = "CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree";

#[tokio::test]
async fn types_of_extensions_arrive_where_the_target_has_them_too() -> Result<()> {
    let _servers = gate::shared().await;
    for mode in ["json", "map"] {
        let mut sync = Sync::create("extensions", &["t"]).await?;
        sync.options.properties = vec![format!("hstore.handling.mode: {mode}")];
        execute(&mut sync.source_admin().await?, EXTENSIONS).await?;
        let mut source = sync
            .source(
                "CREATE TABLE t (id int PRIMARY KEY, h hstore, c citext, l ltree, hs hstore[], cs citext[], ls ltree[]);
                 INSERT INTO t VALUES (1, 'a=>1, b=>NULL, \"q \\\" \\\\\"=>\"\"', 'MiXed', 'a.b', ARRAY['a=>1', NULL]::hstore[],
                     ARRAY['A', NULL]::citext[], ARRAY['a.b', NULL]::ltree[]), (2, '', '', '', '{}', '{}', '{}'),
                     (3, NULL, NULL, NULL, NULL, NULL, NULL)",
            )
            .await?;
        sync.refused(&["run", "--until-caught-up"], 3, &["hstore", "CREATE EXTENSION"]).await?;
        execute(&mut sync.target_admin().await?, EXTENSIONS).await?;
        sync.catch_up().await?;
        sync.check(&["t"]).await?;
        execute(
            &mut source,
            "UPDATE t SET h = h || 'new=>1', l = 'x.y', c = 'other' WHERE id = 1; DELETE FROM t WHERE id = 2",
        )
        .await?;
        sync.catch_up().await?;
        sync.check(&["t"]).await?;
        sync.finish().await?;
    }
    Ok(())
}
