//! `make bench-smoke`: Syncline's rates beside their bounds, on the same log and the same rows. A measurement, not a
//! test. Addresses come from `dev/stack env`, the program from `SYNCLINE_BIN`, the size from `BENCH_ROWS`.
#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sqlx::{AssertSqlSafe, PgConnection, Row};
use syncline_bench::{
    NAME, PATIENCE, Took, address, delete_topics, drop_database, execute, fresh, heading, line, one_way_file, rows,
    syncline, usage, variable,
};

/// Nine columns of about 150 bytes.
const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, a int, b int, c text, d text, e numeric(12,2), f boolean,
  g timestamptz, h text); INSERT INTO t VALUES (0)";

#[tokio::main]
async fn main() -> Result<()> {
    let rows = rows(150_000)?;
    let changes = f64::from(rows) * 2.0;
    let folder = std::env::temp_dir().join(format!("{NAME}-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let run = format!("{NAME}_{}", std::process::id());
    let databases = (address("SOURCE_PG", NAME)?, address("TARGET_PG", NAME)?);
    let file = one_way_file(&folder, &run, &databases.0, &databases.1)?;
    let mut source = fresh("SOURCE_PG", NAME).await?;
    let mut target = fresh("TARGET_PG", NAME).await?;
    execute(&mut source, TABLE).await?;
    println!("{rows} inserts and {rows} updates of the same rows, transactions of 10 rows");
    syncline(&file, &["run"])?;
    let bound = format!("{NAME}_bound");
    execute(&mut source, &format!("SELECT pg_create_logical_replication_slot('{bound}', 'pgoutput')")).await?;
    let begin = Instant::now();
    load(&mut source, 0, rows).await?;
    let load_alone = begin.elapsed().as_secs_f64();
    syncline(&file, &["run"])?;
    let capture_bound = receive(&mut source, &bound, &run).await?;
    // `run` above has applied everything; what it captured is captured and applied again under another name.
    let again = format!("{run}_again");
    let file = one_way_file(&folder, &again, &databases.0, &databases.1)?;
    execute(&mut target, "DROP SCHEMA _syncline CASCADE; TRUNCATE t").await?;
    execute(&mut source, "TRUNCATE t; INSERT INTO t VALUES (0)").await?;
    syncline(&file, &["run"])?;
    load(&mut source, 0, rows).await?;
    // A program's start and end are taken off: a second run with nothing to do.
    let capture = syncline(&file, &["produce"])?;
    let capture_idle = syncline(&file, &["produce"])?;
    let apply = syncline(&file, &["consume"])?;
    let apply_idle = syncline(&file, &["consume"])?;
    let apply_bound = unnest(&mut source, &mut target, rows).await?;

    let mut child = Background::start(&file)?;
    wait_for(&mut source, &mut target).await?;
    let begin = Instant::now();
    load(&mut source, rows, rows).await?;
    wait_for(&mut source, &mut target).await?;
    let seconds = begin.elapsed().as_secs_f64();
    let (cpu, peak) = usage(child.0.id())?;
    child.stop()?;

    heading();
    line("capture: pg_recvlogical", changes, capture_bound, None, None);
    let net = capture.less(capture_idle);
    line("capture: syncline produce", changes, net.seconds, Some(capture_bound / net.seconds), Some(net));
    line("apply: bare UNNEST loop", changes, apply_bound, None, None);
    let net = apply.less(apply_idle);
    line("apply: syncline consume", changes, net.seconds, Some(apply_bound / net.seconds), Some(net));
    line("the load alone, nobody following", changes, load_alone, None, None);
    line("end to end, with the load", changes, seconds, Some(load_alone / seconds), Some(Took { seconds, cpu, peak }));
    drop((source, target));
    drop_database("SOURCE_PG", NAME).await?;
    drop_database("TARGET_PG", NAME).await?;
    delete_topics(&run).await?;
    std::fs::remove_dir_all(&folder).ok();
    Ok(())
}

/// Inserts and then updates, ten rows a transaction.
async fn load(conn: &mut PgConnection, first: u32, rows: u32) -> Result<()> {
    let last = first + rows;
    execute(
        conn,
        &format!(
            "DO $$ DECLARE k int; BEGIN
               FOR k IN 0 .. {rows} / 10 - 1 LOOP
                 INSERT INTO t SELECT n, n, n % 97, md5(n::text), 'Customer ' || n, n / 3.0, n % 2 = 0, clock_timestamp(),
                   repeat('x', 40) FROM generate_series({first} + k * 10 + 1, {first} + k * 10 + 10) n;
                 COMMIT;
               END LOOP;
               FOR k IN 0 .. {rows} / 10 - 1 LOOP
                 UPDATE t SET a = a + 1, e = e + 1, g = clock_timestamp()
                 WHERE id BETWEEN {first} + k * 10 + 1 AND {first} + k * 10 + 10;
                 COMMIT;
               END LOOP; END $$"
        ),
    )
    .await?;
    execute(conn, &format!("UPDATE t SET a = {last} WHERE id = 0")).await
}

async fn wait_for(source: &mut PgConnection, target: &mut PgConnection) -> Result<()> {
    let text = "SELECT a FROM t WHERE id = 0";
    let wanted: Option<i32> = sqlx::query_scalar(text).fetch_one(source).await?;
    let begin = Instant::now();
    // The last change of the load is not the last to arrive: the sum tells when all are there.
    let sum = "SELECT count(*) FROM t WHERE id > 0 AND a IS DISTINCT FROM id + 1";
    loop {
        let found: Option<Option<i32>> = sqlx::query_scalar(text).fetch_optional(&mut *target).await?;
        if found == Some(wanted) && sqlx::query_scalar::<_, i64>(sum).fetch_one(&mut *target).await? == 0 {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "the target has not caught up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct Background(Child);

impl Background {
    fn start(file: &Path) -> Result<Self> {
        let mut command = Command::new(variable("SYNCLINE_BIN")?);
        Ok(Self(command.args(["run", "-f"]).arg(file).env("SYNCLINE_LOG", "error").stdin(Stdio::null()).spawn()?))
    }

    fn stop(&mut self) -> Result<()> {
        Command::new("kill").arg(self.0.id().to_string()).status()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// How long PostgreSQL's own client takes to read the log that the slot holds.
async fn receive(source: &mut PgConnection, slot: &str, publication: &str) -> Result<f64> {
    let end: String = sqlx::query_scalar("SELECT pg_current_wal_lsn()::text").fetch_one(source).await?;
    let begin = Instant::now();
    let status = Command::new("pg_recvlogical")
        .args(["--slot", slot, "--start", "--no-loop", "-f", "/dev/null", "--endpos", &end, "-d"])
        .arg(address("SOURCE_PG_ADMIN", NAME)?)
        .args(["-o", "proto_version=1", "-o", &format!("publication_names={publication}")])
        .status()
        .context("pg_recvlogical is missing: install PostgreSQL's client package")?;
    ensure!(status.success(), "pg_recvlogical ended with {status}");
    Ok(begin.elapsed().as_secs_f64())
}

/// The same changes, written by nothing but array statements of 5,000 rows.
async fn unnest(source: &mut PgConnection, target: &mut PgConnection, rows: u32) -> Result<f64> {
    execute(target, "CREATE TABLE bound (LIKE t INCLUDING ALL)").await?;
    let columns = ["id", "a", "b", "c", "d", "e", "f", "g", "h"];
    let arrays: Vec<String> = columns.iter().map(|column| format!("array_agg({column}::text ORDER BY id)")).collect();
    let mut batches: Vec<Vec<Vec<Option<String>>>> = Vec::new();
    for first in (1..=rows).step_by(5_000) {
        let text = format!("SELECT {} FROM t WHERE id BETWEEN {first} AND {first} + 4999", arrays.join(", "));
        let row = sqlx::query(AssertSqlSafe(text)).fetch_one(&mut *source).await?;
        batches.push((0..columns.len()).map(|index| row.try_get(index)).collect::<Result<_, _>>()?);
    }
    let statement =
        "INSERT INTO bound SELECT * FROM unnest($1::text[]::bigint[], $2::text[]::int[], $3::text[]::int[], $4::text[],
        $5::text[], $6::text[]::numeric[], $7::text[]::boolean[], $8::text[]::timestamptz[], $9::text[])
        ON CONFLICT (id) DO UPDATE SET a = excluded.a, b = excluded.b, c = excluded.c, d = excluded.d, e = excluded.e,
        f = excluded.f, g = excluded.g, h = excluded.h";
    let begin = Instant::now();
    // Once as inserts, once as updates.
    for batch in batches.iter().chain(&batches) {
        let mut query = sqlx::query(statement);
        for column in batch {
            query = query.bind(column);
        }
        query.execute(&mut *target).await?;
    }
    Ok(begin.elapsed().as_secs_f64())
}
