//! Keys that change, values stored apart, tables in partitions.

use anyhow::{Result, ensure};
use syncline_integration_tests::sql::{execute, value};
use syncline_integration_tests::sync::{PATIENCE, Sync, says};

use crate::gate;

#[tokio::test]
async fn key_changes_and_swaps_end_as_in_the_source() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("key_change", &["t", "two"]).await?;
    let mut source = sync
        .source(
            "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 40) n;
             CREATE TABLE two (v text, b int, a text, PRIMARY KEY (a, b));
             INSERT INTO two SELECT 'v' || n, n, 'a' FROM generate_series(1, 10) n",
        )
        .await?;
    sync.catch_up().await?;
    execute(
        &mut source,
        "UPDATE t SET id = id + 1000 WHERE id % 2 = 0;
         BEGIN; UPDATE t SET id = -1 WHERE id = 1; UPDATE t SET id = 1 WHERE id = 3; UPDATE t SET id = 3 WHERE id = -1; COMMIT;
         UPDATE t SET id = 2000, v = 'moved' WHERE id = 5; UPDATE t SET id = 5 WHERE id = 2000;
         UPDATE t SET id = 77 WHERE id = 7; INSERT INTO t VALUES (7, 'again'); DELETE FROM t WHERE id = 77;
         UPDATE t SET id = 99 WHERE id = 9; UPDATE t SET v = 'then' WHERE id = 99;
         UPDATE two SET b = b + 100 WHERE b < 4; UPDATE two SET a = 'z', v = NULL WHERE b = 5;
         BEGIN; UPDATE two SET b = 0 WHERE b = 6; UPDATE two SET b = 6 WHERE b = 7; UPDATE two SET b = 7 WHERE b = 0; COMMIT",
    )
    .await?;
    sync.catch_up().await?;
    sync.check(&["t", "two"]).await?;
    sync.finish().await
}

#[tokio::test]
async fn values_stored_apart_stay_when_an_update_does_not_touch_them() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("toast", &["t", "f"]).await?;
    let mut source = sync
        .source(
            "CREATE TABLE t (id int PRIMARY KEY, n int, one text, two text, list text[]);
             ALTER TABLE t ALTER one SET STORAGE EXTERNAL, ALTER two SET STORAGE EXTERNAL, ALTER list SET STORAGE EXTERNAL;
             CREATE TABLE f (LIKE t INCLUDING ALL); ALTER TABLE f REPLICA IDENTITY FULL",
        )
        .await?;
    for table in ["t", "f"] {
        execute(
            &mut source,
            format!(
                "INSERT INTO {table} SELECT n, n, repeat(md5(n::text), 300), repeat(md5('2' || n), 300),
                   array_fill(md5(n::text), ARRAY[200]) FROM generate_series(1, 20) n"
            ),
        )
        .await?;
    }
    sync.catch_up().await?;
    for table in ["t", "f"] {
        execute(
            &mut source,
            format!(
                "UPDATE {table} SET n = n + 1 WHERE id <= 10;
                 UPDATE {table} SET one = repeat('x', 9000) WHERE id IN (3, 4); UPDATE {table} SET n = 0 WHERE id IN (3, 4);
                 UPDATE {table} SET two = NULL WHERE id = 5; UPDATE {table} SET n = -1 WHERE id = 5;
                 BEGIN; INSERT INTO {table} VALUES (30, 1, repeat('y', 9000), 's', NULL); UPDATE {table} SET n = 2 WHERE id = 30;
                 UPDATE {table} SET two = repeat('z', 9000) WHERE id = 30; UPDATE {table} SET n = 3 WHERE id = 30; COMMIT;
                 DELETE FROM {table} WHERE id = 6; INSERT INTO {table} VALUES (6, 6, 'short', NULL, '{{}}');
                 UPDATE {table} SET n = 7 WHERE id = 6"
            ),
        )
        .await?;
    }
    sync.catch_up().await?;
    sync.check(&["t", "f"]).await?;
    sync.finish().await
}

/// The log of such a change lacks the large value, and the row under the new key is not there yet.
#[tokio::test]
async fn a_key_changes_beside_large_values_that_it_does_not_touch() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("toast_key", &["t"]).await?;
    let mut source = sync
        .source(
            "CREATE TABLE t (id int PRIMARY KEY, n int, one text, two text NOT NULL, doc jsonb NOT NULL, list text[]);
             ALTER TABLE t ALTER one SET STORAGE EXTERNAL, ALTER two SET STORAGE EXTERNAL, ALTER doc SET STORAGE EXTERNAL,
               ALTER list SET STORAGE EXTERNAL;
             INSERT INTO t SELECT n, n, repeat(md5('1' || n), 200), repeat(md5('2' || n), 200),
               jsonb_build_object('v', repeat(md5('3' || n), 200)), array_fill(md5(n::text), ARRAY[200]) FROM generate_series(1, 60) n",
        )
        .await?;
    sync.catch_up().await?;
    // All of it lies in the log before anybody reads a row again: rows that are gone, and keys that went on changing.
    let changes = "UPDATE t SET id = id + 1000 WHERE id <= 20;
         DELETE FROM t WHERE id IN (1001, 1002); UPDATE t SET id = id + 1000 WHERE id IN (1003, 1004);
         UPDATE t SET n = -n WHERE id = 1005; UPDATE t SET two = repeat('w', 9000) WHERE id = 1006;
         UPDATE t SET one = NULL WHERE id = 1007; UPDATE t SET id = 5000, n = 0 WHERE id = 1008; UPDATE t SET n = 1 WHERE id = 5000;
         DELETE FROM t WHERE id = 5000; INSERT INTO t VALUES (1008, 1, 'new', 'new', '[]', NULL);
         BEGIN; UPDATE t SET id = -1 WHERE id = 30; UPDATE t SET id = 30 WHERE id = 31; UPDATE t SET id = 31 WHERE id = -1; COMMIT";
    execute(&mut source, changes).await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    // While it runs, and through a crash.
    let mut running = sync.start(&["run"])?;
    for round in 1..6 {
        execute(&mut source, format!("UPDATE t SET id = id + 10000 * {round} WHERE id % 5 = {round} % 5")).await?;
        if round == 3 {
            running.kill()?;
            running = sync.start(&["run"])?;
        }
    }
    sync.converge(&["t"], &mut [&mut running]).await?;
    running.stop().await?;
    // A column of the table that is there no more: the table stops, and no other.
    execute(&mut source, "UPDATE t SET id = id + 1000000 WHERE id = (SELECT max(id) FROM t WHERE one IS NOT NULL); ALTER TABLE t DROP COLUMN one").await?;
    let log = sync.start(&["run", "--until-caught-up"])?.expect_exit(3, PATIENCE).await?;
    says(&log, &["the table was altered since", "public.t", &sync.topic("t"), "offset"])?;
    let mut target = sync.target().await?;
    let status = "SELECT string_agg(status, ' ') FROM _syncline._sync_metadata WHERE table_name = 'public.t'";
    ensure!(value::<String>(&mut target, status).await? == "stopped", "the table goes on without the value");
    sync.finish().await
}

#[tokio::test]
async fn large_values_are_read_again_where_that_is_asked_for() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("reselected", &["t"]).await?;
    sync.options.properties = vec!["reselect.columns.include.list: public.t.large".into()];
    sync.options.mappings = vec!["- {source_table: t, target_table: t2, calculate: {size: LENGTH(large) + n}}".into()];
    let mut source = sync
        .source(
            "CREATE TABLE t (id int PRIMARY KEY, n int, large text); ALTER TABLE t ALTER large SET STORAGE EXTERNAL;
             INSERT INTO t SELECT n, n, repeat('x', 4000 + n) FROM generate_series(1, 10) n",
        )
        .await?;
    sync.catch_up().await?;
    execute(&mut source, "UPDATE t SET n = n + 100").await?;
    sync.catch_up().await?;
    sync.target_shows("SELECT count(*) = 10 AND bool_and(size = length(large) + n AND n > 100) FROM t2").await?;
    sync.finish().await
}

#[tokio::test]
async fn a_partitioned_table_arrives_through_its_root() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("partitioned", &["events"]).await?;
    let mut source = sync
        .source(
            "CREATE TABLE events (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
             CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
             CREATE TABLE events_2 (day date NOT NULL, v text, id int NOT NULL);
             ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
             INSERT INTO events SELECT n, date '2024-01-01' + n % 60, 'v' || n FROM generate_series(1, 500) n",
        )
        .await?;
    sync.catch_up().await?;
    sync.check(&["events"]).await?;
    execute(
        &mut source,
        "UPDATE events SET v = 'new' WHERE id % 3 = 0; UPDATE events SET day = day + 31 WHERE day < '2024-01-20';
         DELETE FROM events WHERE id % 5 = 0;
         CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM ('2024-03-01') TO ('2024-04-01');
         INSERT INTO events SELECT n, '2024-03-05', 'march' FROM generate_series(1, 50) n",
    )
    .await?;
    sync.catch_up().await?;
    sync.check(&["events"]).await?;
    sync.finish().await
}

#[tokio::test]
async fn identity_and_generated_columns_arrive() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("generated", &["t"]).await?;
    let mut source = sync
        .source(
            "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED);
             INSERT INTO t (a) VALUES (1), (2)",
        )
        .await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    execute(&mut source, "INSERT INTO t (a) VALUES (3); UPDATE t SET a = 10 WHERE id = 1; DELETE FROM t WHERE id = 2")
        .await?;
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    sync.finish().await
}
