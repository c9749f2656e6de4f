//! Load whose rows carry versions that only grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use sqlx::PgConnection;
use syncline_integration_tests::sql::{execute, value};
use tokio::task::JoinHandle;

/// The tables of the scenarios.
pub(crate) const TABLES: [&str; 2] = ["t", "u"];

/// Makes them.
pub(crate) const SCHEMA: &str = "
    CREATE SEQUENCE versions;
    CREATE TABLE t (id bigint PRIMARY KEY, version bigint NOT NULL DEFAULT nextval('versions'), v text);
    CREATE TABLE u (id bigint PRIMARY KEY, version bigint NOT NULL DEFAULT nextval('versions'), v text);
    INSERT INTO t (id, v) SELECT n, 'first' FROM generate_series(1, 500) n;
    INSERT INTO u (id, v) SELECT n, 'first' FROM generate_series(1, 500) n";

/// Transactions of many rows in both tables: the same row several times, deletes, rows made again, and rows of one
/// COPY, which share a place in the log.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<()>>,
}

impl Load {
    pub(crate) fn start(mut conn: PgConnection) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut round = 0;
            while !stopped.load(Ordering::Relaxed) {
                round += 1;
                transaction(&mut conn, round).await?;
                tokio::time::sleep(std::time::Duration::from_millis(30)).await;
            }
            Ok(())
        });
        Self { stop, task }
    }

    pub(crate) async fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

async fn transaction(conn: &mut PgConnection, round: u64) -> Result<()> {
    let tenth = round % 10;
    execute(
        conn,
        format!(
            "BEGIN; UPDATE t SET version = nextval('versions'), v = 'a{round}' WHERE id <= 500 AND id % 10 = {tenth};
             UPDATE u SET version = nextval('versions'), v = 'a{round}' WHERE id <= 500 AND id % 10 = {tenth};
             UPDATE t SET version = nextval('versions'), v = 'b{round}' WHERE id <= 500 AND id % 10 = {tenth};
             DELETE FROM t WHERE id <= 500 AND id % 100 = {round} % 100;
             INSERT INTO t (id, v) SELECT n, 'again{round}' FROM generate_series(1, 500) n WHERE n % 100 = {round} % 100"
        ),
    )
    .await?;
    let first: i64 = value(conn, "SELECT 2000000 + 100 * nextval('versions')").await?;
    let mut copy = conn.copy_in_raw("COPY u (id, v) FROM STDIN").await?;
    let rows: String = (first..first + 20).map(|id| format!("{id}\tcopied\n")).collect();
    copy.send(rows.as_bytes()).await?;
    copy.finish().await?;
    execute(conn, "COMMIT").await
}

/// One transaction of many rows, each of them changed twice.
pub(crate) async fn large(conn: &mut PgConnection) -> Result<()> {
    execute(
        conn,
        "BEGIN; INSERT INTO t (id, v) SELECT n, 'large' FROM generate_series(1000001, 1020000) n;
         UPDATE t SET version = nextval('versions'), v = 'larger' WHERE id > 1000000;
         UPDATE u SET version = nextval('versions'), v = 'larger'; COMMIT",
    )
    .await
}
