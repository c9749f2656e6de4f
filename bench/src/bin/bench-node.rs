//! `make bench-node`: what a node that compares changes takes beside a one-way target that does not, for the same
//! changes. A measurement, not a test. Addresses come from `dev/stack env`, the program from `SYNCLINE_BIN`, the size
//! from `BENCH_ROWS`.
#![expect(clippy::print_stdout, reason = "this program talks to a person")]

use std::path::{Path, PathBuf};

use anyhow::Result;
use sqlx::{Connection, PgConnection};
use syncline_bench::{
    NAME, Took, address, delete_topics, drop_database, execute, fresh, heading, line, one_way_file, rows, sync_file,
    syncline,
};

const ONE_WAY: &str = "syncline_bench_one_way";

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, a int, b text, c numeric(12,2), d timestamptz); ALTER TABLE t REPLICA IDENTITY FULL";

#[tokio::main]
async fn main() -> Result<()> {
    let rows = rows(400_000)?;
    let folder = std::env::temp_dir().join(format!("{NAME}-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let run = format!("{NAME}_{}", std::process::id());
    let databases = (address("SOURCE_PG", NAME)?, address("TARGET_PG", ONE_WAY)?);
    let one_way = one_way_file(&folder, &format!("{run}_one_way"), &databases.0, &databases.1)?;
    let nodes = nodes_file(&folder, &format!("{run}_nodes"))?;
    let mut source = fresh("SOURCE_PG", NAME).await?;
    let mut node = fresh("TARGET_PG", NAME).await?;
    let mut target = fresh("TARGET_PG", ONE_WAY).await?;
    for conn in [&mut source, &mut node, &mut target] {
        execute(conn, TABLE).await?;
    }
    syncline(&one_way, &["run"])?;
    syncline(&nodes, &["run"])?;
    println!("{rows} rows of five columns: what a consumer takes for them, one way, and at a node, beside that");
    heading();
    let half = rows / 2;
    for (what, text, changes) in [
        (
            "inserts",
            format!("INSERT INTO t SELECT n, n, md5(n::text), n / 3.0, now() FROM generate_series(1, {rows}) n"),
            rows,
        ),
        ("updates", "UPDATE t SET a = a + 1, c = c + 1, d = clock_timestamp()".to_owned(), rows),
        ("updates again", "UPDATE t SET a = a + 1, c = c + 1, d = clock_timestamp()".to_owned(), rows),
        ("deletes of half of them", format!("DELETE FROM t WHERE id <= {half}"), half),
    ] {
        execute(&mut source, &text).await?;
        syncline(&one_way, &["produce"])?;
        syncline(&nodes, &["produce", "--node", "a"])?;
        settle(ONE_WAY).await?;
        let plain = consume(&one_way, &["consume"])?;
        settle(NAME).await?;
        let compared = consume(&nodes, &["consume", "--node", "b"])?;
        let changes = f64::from(changes);
        line(&format!("{what}: one way"), changes, plain.seconds, None, Some(plain));
        let ratio = plain.seconds / compared.seconds;
        line(&format!("{what}: node"), changes, compared.seconds, Some(ratio), Some(compared));
    }
    drop((source, node, target));
    drop_database("SOURCE_PG", NAME).await?;
    drop_database("TARGET_PG", NAME).await?;
    drop_database("TARGET_PG", ONE_WAY).await?;
    delete_topics(&run).await?;
    std::fs::remove_dir_all(&folder).ok();
    Ok(())
}

/// What the stage before left to be written does not count for the next.
async fn settle(database: &str) -> Result<()> {
    let mut conn = PgConnection::connect(&address("TARGET_PG_ADMIN", database)?).await?;
    execute(&mut conn, "VACUUM").await?;
    execute(&mut conn, "CHECKPOINT").await
}

/// Without its start and its end: a second run has nothing to do.
fn consume(file: &Path, command: &[&str]) -> Result<Took> {
    let took = syncline(file, command)?;
    Ok(took.less(syncline(file, command)?))
}

fn nodes_file(folder: &Path, name: &str) -> Result<PathBuf> {
    let (a, b) = (address("SOURCE_PG", NAME)?, address("TARGET_PG", NAME)?);
    let rest = format!(
        "topology: bidirectional\nnodes:\n  a:\n    type: postgresql\n    connection: {a}\n  b:\n    type: postgresql\n    \
         connection: {b}\ncdc_config:\n  postgresql:\n    tables: [t]\nconflict_resolution:\n  strategy: last_write_wins\n"
    );
    sync_file(folder, name, &rest)
}
