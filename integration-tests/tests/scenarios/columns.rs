//! Columns that stay behind, columns that are hidden, keys of other columns.

use anyhow::Result;
use sqlx::PgConnection;
use syncline_integration_tests::sql::{execute, value};
use syncline_integration_tests::sync::Sync;

use crate::gate;

#[tokio::test]
async fn hidden_columns_arrive_hidden_and_others_do_not_arrive() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("hidden", &["t"]).await?;
    sync.options.properties = vec![
        "column.exclude.list: public.t.secret".to_owned(),
        "column.mask.hash.v2.SHA-256.with.salt.salt: public.t.email".to_owned(),
        "column.mask.with.3.chars: public.t.phone".to_owned(),
        "column.truncate.to.4.chars: public.t.about".to_owned(),
    ];
    let mut source = sync
        .source(
            "CREATE TABLE t (id int PRIMARY KEY, email text NOT NULL, phone varchar(20), about text, secret text);
             INSERT INTO t VALUES (1, 'a', '555-0100', 'long story', 'x'), (2, 'b', NULL, NULL, 'y')",
        )
        .await?;
    sync.catch_up().await?;
    let shows = "SELECT bool_and(email = encode(sha256(convert_to('salt' || CASE id WHEN 1 THEN 'a' WHEN 2 THEN 'b' \
                 ELSE 'c' END, 'UTF8')), 'hex') AND phone = '***' AND about IS NOT DISTINCT FROM CASE id WHEN 1 THEN \
                 'long' WHEN 3 THEN repeat('z', 4) END) FROM t";
    sync.target_shows(shows).await?;
    sync.target_shows(
        "SELECT string_agg(column_name, ',' ORDER BY ordinal_position) = 'id,email,phone,about' \
         FROM information_schema.columns WHERE table_name = 't'",
    )
    .await?;
    execute(&mut source, "INSERT INTO t VALUES (3, 'c', '1', repeat('z', 100000), 'x'); UPDATE t SET secret = 'w'")
        .await?;
    // The large text is not in the log again: what arrived stays.
    execute(&mut source, "UPDATE t SET phone = '2' WHERE id = 3; DELETE FROM t WHERE id = 2").await?;
    sync.catch_up().await?;
    sync.target_shows(shows).await?;
    sync.target_shows("SELECT count(*) = 2 FROM t").await?;
    sync.finish().await
}

#[tokio::test]
async fn a_mask_that_hides_nothing_is_refused() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("idle_mask", &["t"]).await?;
    sync.options.properties =
        vec!["column.mask.with.3.chars: t.phone".to_owned(), "column.truncate.to.2.chars: public.t.age".to_owned()];
    sync.source("CREATE TABLE t (id int PRIMARY KEY, phone text, age int)").await?;
    sync.refused(
        &["check"],
        1,
        &["column.mask.with.3.chars matches no column", "column age: column.truncate.to.2.chars is for texts"],
    )
    .await?;
    sync.finish().await
}

#[tokio::test]
async fn an_index_identifies_rows_where_there_is_no_primary_key() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("by_index", &["t", "pair"]).await?;
    let mut source = sync
        .source(
            "CREATE TABLE t (a int NOT NULL, b text NOT NULL, v text, w int NOT NULL);
             CREATE UNIQUE INDEX t_ba ON t (b, a); ALTER TABLE t REPLICA IDENTITY USING INDEX t_ba;
             CREATE TABLE pair (id int PRIMARY KEY, code int NOT NULL, v text);
             CREATE UNIQUE INDEX pair_code ON pair (code, id); ALTER TABLE pair REPLICA IDENTITY USING INDEX pair_code;
             INSERT INTO t SELECT g, 'b' || g, 'v', g FROM generate_series(1, 20) g;
             INSERT INTO pair SELECT g, g, 'v' FROM generate_series(1, 20) g",
        )
        .await?;
    sync.catch_up().await?;
    same_rows(&sync, &mut source).await?;
    sync.check(&["pair"]).await?;
    execute(
        &mut source,
        "UPDATE t SET v = 'w' WHERE a = 1; UPDATE t SET b = 'c', a = 100 WHERE a = 2; DELETE FROM t WHERE a = 3;
         UPDATE pair SET code = 100 WHERE id = 1; UPDATE pair SET id = 200 WHERE id = 2; DELETE FROM pair WHERE id = 3",
    )
    .await?;
    sync.catch_up().await?;
    same_rows(&sync, &mut source).await?;
    sync.check(&["pair"]).await?;
    sync.finish().await
}

#[tokio::test]
async fn message_key_columns_are_the_key() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("message_key", &["t"]).await?;
    sync.options.properties = vec!["message.key.columns: 'public.t:tenant,code'".to_owned()];
    let mut source = sync
        .source(
            "CREATE TABLE t (tenant int NOT NULL, code text NOT NULL, v text);
             INSERT INTO t SELECT g, 'c' || g, 'v' FROM generate_series(1, 20) g",
        )
        .await?;
    sync.refused(&["check"], 1, &["REPLICA IDENTITY FULL"]).await?;
    execute(&mut source, "ALTER TABLE t REPLICA IDENTITY FULL").await?;
    sync.catch_up().await?;
    execute(
        &mut source,
        "UPDATE t SET v = 'w' WHERE tenant = 1; UPDATE t SET code = 'x' WHERE tenant = 2; DELETE FROM t WHERE tenant = 3",
    )
    .await?;
    sync.catch_up().await?;
    same_rows(&sync, &mut source).await?;
    sync.finish().await
}

/// For a table without a primary key in the source: its rows as text.
async fn same_rows(sync: &Sync, source: &mut PgConnection) -> Result<()> {
    let rows = "SELECT string_agg(t::text, ';' ORDER BY t::text) FROM t";
    let expected: String = value(source, rows).await?;
    sync.target_shows(&format!("SELECT ({rows}) = '{expected}'")).await
}
