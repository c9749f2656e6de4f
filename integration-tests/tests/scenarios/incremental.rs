//! Tables that are read while the log is followed: on a signal, because they are new, because they are to be resynced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use sqlx::PgConnection;
use syncline_integration_tests::process::Process;
use syncline_integration_tests::random::Random;
use syncline_integration_tests::sql::{execute, value};
use syncline_integration_tests::sync::{PATIENCE, Sync, says, wait_until};
use tokio::task::JoinHandle;

use crate::gate;

/// A table with a text key under the database's collation, composite, with rows large enough to be TOASTed.
fn table(name: &str, rows: u32) -> String {
    format!(
        "CREATE TABLE {name} (part text, id int, v int NOT NULL DEFAULT 0, big text, PRIMARY KEY (part, id));
         ALTER TABLE {name} ALTER big SET STORAGE EXTERNAL;
         INSERT INTO {name} SELECT (ARRAY['a', 'B', 'ä', 'it''s', 'z z'])[n % 5 + 1], n, n,
                CASE WHEN n % 50 = 0 THEN repeat(md5(n::text), 100) END FROM generate_series(1, {rows}) n"
    )
}

/// Writes to some tables until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<()>>,
}

impl Load {
    fn start(mut source: PgConnection, tables: &'static [&'static str], rows: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut random = Random::new(7);
            while !stopped.load(Ordering::Relaxed) {
                for table in tables {
                    let id = random.below(rows * 2) + 1;
                    let text = match random.below(9) {
                        0 => format!(
                            "INSERT INTO {table} VALUES ('n', {id}, 1, repeat('n', 5000)) ON CONFLICT DO NOTHING"
                        ),
                        1 => format!("DELETE FROM {table} WHERE id = {id}"),
                        2 => format!("UPDATE {table} SET id = -id, big = 'moved' WHERE id IN ({id}, -{id})"),
                        3 => format!("UPDATE {table} SET big = repeat('u', 4000) WHERE id = {id}"),
                        // Partial: the large text is not in the log.
                        _ => format!("UPDATE {table} SET v = v + 1 WHERE id % 100 = {} AND id < {id}", id % 100),
                    };
                    execute(&mut source, text).await?;
                }
                tokio::task::yield_now().await;
            }
            Ok(())
        });
        Self { stop, task }
    }

    async fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

/// Runs a verb of `syncline` to its good end and gives what it said.
async fn command(sync: &Sync, arguments: &[&str]) -> Result<String> {
    sync.start(arguments)?.expect_exit(0, PATIENCE).await
}

/// Waits until nothing is read any more.
async fn read(sync: &Sync, processes: &mut [&mut Process]) -> Result<serde_json::Value> {
    let mut last = serde_json::Value::Null;
    for _ in 0..600 {
        let said = command(sync, &["snapshot", "status", "--output", "json"]).await?;
        last = serde_json::from_str(said.trim().lines().last().unwrap_or_default())?;
        if last["scans"].as_array().is_some_and(Vec::is_empty) {
            return Ok(last);
        }
        for process in processes.iter_mut() {
            process.expect_running()?;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    anyhow::bail!("still reading: {last}")
}

#[tokio::test]
async fn a_signalled_table_is_read_under_load_and_across_kills() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("incremental", &["t", "u"]).await?;
    sync.options.properties.push("incremental.snapshot.chunk.size: 200".to_owned());
    let mut source = sync.source(&format!("{}; {}", table("t", 20_000), table("u", 100))).await?;
    let mut consumer = sync.start(&["consume"])?;
    let mut producer = sync.start(&["produce"])?;
    sync.converge(&["t", "u"], &mut [&mut producer, &mut consumer]).await?;
    // What a consumer of another kind may have lost.
    let mut target = sync.target().await?;
    execute(&mut target, "DELETE FROM t WHERE id % 7 = 0; UPDATE t SET v = -1 WHERE id % 11 = 0").await?;
    let said = command(&sync, &["snapshot", "start", "t"]).await?;
    says(&said, &["public.t"])?;
    let load = Load::start(sync.source("").await?, &["t", "u"], 20_000);
    for _ in 0..4 {
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        producer.kill()?;
        producer = sync.start(&["produce"])?;
    }
    let status = read(&sync, &mut [&mut producer, &mut consumer]).await?;
    ensure!(status["finished"][0]["outcome"] == "completed", "{status}");
    load.end().await?;
    sync.converge(&["t", "u"], &mut [&mut producer, &mut consumer]).await?;
    execute(&mut source, "UPDATE t SET v = v + 1").await?;
    sync.converge(&["t", "u"], &mut [&mut producer, &mut consumer]).await?;
    producer.stop().await?;
    consumer.stop().await?;
    sync.finish().await
}

#[tokio::test]
async fn a_table_added_to_a_running_sync_is_read_beside_the_others() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("added", &["t"]).await?;
    sync.options.properties.push("incremental.snapshot.chunk.size: 300".to_owned());
    let mut source = sync.source(&format!("{}; {}", table("t", 500), table("u", 8_000))).await?;
    let mut consumer = sync.start(&["consume"])?;
    let mut producer = sync.start(&["produce"])?;
    sync.converge(&["t"], &mut [&mut producer, &mut consumer]).await?;
    let load = Load::start(sync.source("").await?, &["t", "u"], 8_000);
    producer.stop().await?;
    // A transaction that has written to the table before it is published, and ends later.
    let mut old = sync.source("").await?;
    execute(&mut old, "BEGIN; UPDATE u SET v = 1000000 WHERE id % 1000 = 1; INSERT INTO u VALUES ('old', 0)").await?;
    sync.options.tables.push("u".to_owned());
    producer = sync.start(&["produce"])?;
    wait_until("the table is opened", async || producer.log().contains("opened by a marker")).await?;
    execute(&mut old, "UPDATE u SET v = v + 1 WHERE id % 1000 = 1; COMMIT").await?;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    producer.kill()?;
    producer = sync.start(&["produce"])?;
    let status = read(&sync, &mut [&mut producer, &mut consumer]).await?;
    ensure!(status["finished"].as_array().is_some_and(|all| all.len() == 1), "{status}");
    load.end().await?;
    sync.converge(&["t", "u"], &mut [&mut producer, &mut consumer]).await?;

    // Left out, changed, and taken in again: rows that went meanwhile must go.
    producer.stop().await?;
    sync.options.tables.pop();
    producer = sync.start(&["produce"])?;
    execute(&mut source, "DELETE FROM u WHERE id % 3 = 0; UPDATE t SET v = v + 1").await?;
    sync.converge(&["t"], &mut [&mut producer, &mut consumer]).await?;
    producer.stop().await?;
    sync.options.tables.push("u".to_owned());
    producer = sync.start(&["produce"])?;
    read(&sync, &mut [&mut producer, &mut consumer]).await?;
    sync.converge(&["t", "u"], &mut [&mut producer, &mut consumer]).await?;
    producer.stop().await?;
    consumer.stop().await?;
    sync.finish().await
}

#[tokio::test]
async fn a_resynced_table_loses_its_ghost_rows_while_others_go_on() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("resync_table", &["t", "u"]).await?;
    sync.options.properties.push("incremental.snapshot.chunk.size: 250".to_owned());
    let _source = sync.source(&format!("{}; {}", table("t", 6_000), table("u", 300))).await?;
    let mut consumer = sync.start(&["consume"])?;
    let mut producer = sync.start(&["produce"])?;
    sync.converge(&["t", "u"], &mut [&mut producer, &mut consumer]).await?;
    let mut target = sync.target().await?;
    execute(&mut target, "INSERT INTO t SELECT 'ghost', n, 0 FROM generate_series(1, 500) n; UPDATE t SET v = -1")
        .await?;
    let load = Load::start(sync.source("").await?, &["t", "u"], 6_000);
    sync.refused(&["resync", "--table", "nope", "--yes"], 2, &["nope", "public.t"]).await?;
    command(&sync, &["resync", "--table", "t", "--yes"]).await?;
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    producer.kill()?;
    consumer.kill()?;
    consumer = sync.start(&["consume"])?;
    producer = sync.start(&["produce"])?;
    let status = read(&sync, &mut [&mut producer, &mut consumer]).await?;
    ensure!(status["finished"][0]["reason"] == "resync", "{status}");
    load.end().await?;
    sync.converge(&["t", "u"], &mut [&mut producer, &mut consumer]).await?;
    producer.stop().await?;
    consumer.stop().await?;
    sync.finish().await
}

#[tokio::test]
async fn a_snapshot_is_paused_resumed_and_stopped() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("paused", &["t", "u"]).await?;
    sync.options.properties.push("incremental.snapshot.chunk.size: 10".to_owned());
    let _source = sync.source(&format!("{}; {}", table("t", 4_000), table("u", 4_000))).await?;
    let mut run = sync.start(&["run"])?;
    sync.converge(&["t", "u"], &mut [&mut run]).await?;
    command(&sync, &["snapshot", "pause"]).await?;
    let said = command(&sync, &["snapshot", "start", "t", "u"]).await?;
    says(&said, &["public.t: paused", "public.u: paused"])?;
    // It stays so across a restart, and signals are not forgotten while nobody runs.
    run.stop().await?;
    let said = command(&sync, &["snapshot", "stop", "u"]).await?;
    says(&said, &["no producer runs"])?;
    run = sync.start(&["run"])?;
    wait_until("the signal is acted upon", async || {
        command(&sync, &["snapshot", "status"]).await.is_ok_and(|said| said.contains("public.u: stopped"))
    })
    .await?;
    says(&command(&sync, &["snapshot", "status"]).await?, &["public.t: paused, 0"])?;
    command(&sync, &["snapshot", "resume"]).await?;
    let status = read(&sync, &mut [&mut run]).await?;
    ensure!(status["finished"][1]["outcome"] == "completed" && status["finished"][1]["rows"] == 4_000, "{status}");
    sync.converge(&["t", "u"], &mut [&mut run]).await?;
    run.stop().await?;
    sync.finish().await
}

#[tokio::test]
async fn signals_come_from_a_table_too_and_conditions_choose_rows() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("signals", &["t"]).await?;
    sync.options.properties.push("snapshot.mode: no_data".to_owned());
    sync.options.properties.push("signal.data.collection: public.debezium_signal".to_owned());
    let signals =
        "CREATE TABLE debezium_signal (id varchar(42) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048))";
    let mut source = sync.source(&format!("{}; {signals}", table("t", 1_000))).await?;
    let mut run = sync.start(&["run"])?;
    run.said("snapshot.mode is no_data", PATIENCE).await?;
    let ask = r#"INSERT INTO debezium_signal VALUES ('one', 'execute-snapshot',
        '{"type":"incremental","data-collections":["public\\.t"],
          "additional-conditions":[{"data-collection":"public.t","filter":"id <= 100 AND part <> ''a''"}]}')"#;
    execute(&mut source, ask).await?;
    sync.target_shows("SELECT count(*) = 80 AND max(id) = 99 FROM t").await?;
    // Once it is in the checkpoint it is not acted upon again, whatever the log repeats.
    wait_until("the snapshot is in the checkpoint", async || {
        command(&sync, &["snapshot", "status"]).await.is_ok_and(|said| said.contains("public.t: done"))
    })
    .await?;
    run.kill()?;
    execute(&mut sync.target().await?, "DELETE FROM t WHERE id < 50").await?;
    run = sync.start(&["run"])?;
    execute(&mut source, "INSERT INTO t VALUES ('new', 5000)").await?;
    sync.target_shows("SELECT count(*) = 1 FROM t WHERE id = 5000").await?;
    let found: i64 = value(&mut sync.target().await?, "SELECT count(*) FROM t WHERE id < 50").await?;
    ensure!(found == 0, "the signal was acted upon again: {found} rows");
    // What cannot be read is given up, and capture goes on.
    command(&sync, &["snapshot", "start", "t", "--condition", "t=nope > 1"]).await?;
    let status = read(&sync, &mut [&mut run]).await?;
    let last = status["finished"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
    ensure!(last["outcome"] == "failed" && last["error"].as_str().is_some_and(|e| e.contains("nope")), "{status}");
    execute(&mut source, "INSERT INTO t VALUES ('new', 5001)").await?;
    sync.target_shows("SELECT count(*) = 1 FROM t WHERE id = 5001").await?;
    run.stop().await?;
    sync.finish().await
}
