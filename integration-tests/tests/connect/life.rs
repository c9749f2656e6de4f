//! A source and a sink, made from a sync file, through everything that is done to connectors.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use syncline_integration_tests::sql::execute;
use syncline_integration_tests::sync::Sync;
use tempfile::TempDir;

use crate::cli::{Registered, connectors};
use crate::files::{ConnectorFile, argument};

const SCHEMA: &str = "
    CREATE SCHEMA sales;
    CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL, paid numeric(10,2), seen timestamptz);
    CREATE TABLE sales.orders (id bigint PRIMARY KEY, what text);
    CREATE TABLE \"Users\" (id int PRIMARY KEY);
    INSERT INTO users SELECT n, 'name ' || n, n / 3.0, '2026-01-01T00:00:00Z' FROM generate_series(1, 50) n;
    INSERT INTO sales.orders VALUES (1, 'one'), (2, 'two');
    INSERT INTO \"Users\" VALUES (1)";

struct Pair {
    sync: Sync,
    folder: TempDir,
    source: String,
    sink: String,
}

impl Pair {
    /// The configurations that the sync file stands for, with the addresses that the worker knows.
    async fn generate(sync: Sync) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("sync.yaml");
        std::fs::write(&file, sync.file()?)?;
        let made = folder.path().join("connectors");
        let (file, made) = (argument(&file)?.to_owned(), argument(&made)?.to_owned());
        let run = connectors(&["generate", "-f", &file, "--directory", &made]).await?.ended(0)?;
        ensure!(run.stdout.lines().count() == 2, "{}", run.stdout);
        for line in run.stdout.lines() {
            let path = PathBuf::from(line);
            let mut connector = ConnectorFile::read(&path)?;
            ensure!(
                !std::fs::read_to_string(&path)?.contains("\"syncline\"")
                    || !connector.get("database.password").contains("syncline")
            );
            connector.on_the_stack()?;
            std::fs::remove_file(&path)?;
            connector.write(folder.path())?;
        }
        std::fs::remove_file(file)?;
        let (source, sink) = (format!("{}-source", sync.name), format!("{}-sink", sync.name));
        Ok(Self { sync, folder, source, sink })
    }

    fn path(&self) -> Result<&str> {
        argument(self.folder.path())
    }

    fn change(&self, name: &str, key: &str, value: &str) -> Result<()> {
        let mut file = ConnectorFile::read(&self.folder.path().join(format!("{name}.json")))?;
        file.set(key, value);
        file.write(self.folder.path()).map(drop)
    }

    async fn state(&self, name: &str) -> Result<(String, usize)> {
        let run = connectors(&["status", name, "--output", "json"]).await?.ended(0)?;
        let status = run.json()?["connectors"][0].clone();
        let tasks = status["tasks"].as_array().context("no tasks")?;
        let running = tasks.iter().filter(|task| task["state"] == "RUNNING").count();
        Ok((status["connector"]["state"].as_str().unwrap_or_default().to_owned(), running))
    }
}

#[tokio::test]
async fn a_sync_file_becomes_a_source_and_a_sink_and_they_live() -> Result<()> {
    let sync = Sync::create("connectors", &["users", "sales.*"]).await?;
    let mut source = sync.source(SCHEMA).await?;
    execute(&mut sync.target().await?, "CREATE SCHEMA sales").await?;
    let pair = Pair::generate(sync).await?;
    let Pair { sync, source: source_name, sink, .. } = &pair;
    let path = pair.path()?;
    let _registered = Registered(vec![source_name.clone(), sink.clone()]);

    let run = connectors(&["plan", path]).await?.ended(5)?.said(&["plan: 2 to create", "${env:SOURCE_PASSWORD}"])?;
    ensure!(run.stdout.contains(&format!("{sink} (")), "{}", run.stdout);
    let run = connectors(&["apply", path]).await?.ended(0)?;
    run.said(&[&format!("{source_name}: RUNNING, 1 of 1 task"), &format!("{sink}: RUNNING, 4 of 4 tasks")])?;
    ensure!(pair.state(source_name).await? == ("RUNNING".to_owned(), 1));
    sync.target_shows("SELECT count(*) = 50 FROM users").await?;
    sync.target_shows("SELECT count(*) = 2 FROM sales.orders").await?;

    // What runs is what the files say: nothing to do, and nothing done.
    connectors(&["plan", path]).await?.ended(0)?.said(&["plan: 2 unchanged"])?;
    let again = connectors(&["apply", path, "--output", "json"]).await?.ended(0)?;
    ensure!(again.json()?["plan"]["changes"] == 0, "{}", again.stdout);

    pair.change(sink, "batch.size", "500")?;
    let run = connectors(&["plan", path]).await?.ended(5)?.said(&["~ batch.size: 10000 -> 500", "1 to change"])?;
    let marks = run.stdout.lines().filter(|line| ["  ~ ", "  + ", "  - "].iter().any(|mark| line.starts_with(mark)));
    ensure!(marks.count() == 1, "more than one difference:\n{}", run.stdout);
    connectors(&["apply", path]).await?.ended(0)?.said(&["~ batch.size"])?;
    connectors(&["plan", path]).await?.ended(0)?;

    connectors(&["pause", sink]).await?.ended(0)?.said(&["PAUSED"])?;
    ensure!(pair.state(sink).await? == ("PAUSED".to_owned(), 0));
    // A change leaves it paused.
    pair.change(sink, "batch.size", "400")?;
    connectors(&["apply", path]).await?.ended(0)?.said(&[&format!("{sink}: PAUSED")])?;
    execute(&mut source, "UPDATE users SET name = 'changed' WHERE id = 1; DELETE FROM users WHERE id = 2").await?;
    connectors(&["resume", sink]).await?.ended(0)?.said(&["RUNNING, 4 of 4 tasks"])?;
    sync.target_shows("SELECT count(*) = 49 AND bool_or(id = 1 AND name = 'changed') FROM users").await?;

    offsets(&pair).await?;

    // One after the other: a truncate has no key, so it may stand in another partition than the rows, and the sink's tasks
    // do not wait for one another.
    execute(&mut source, "TRUNCATE sales.orders").await?;
    connectors(&["restart", source_name, sink]).await?.ended(0)?.said(&["RUNNING, 1 of 1 task"])?;
    sync.target_shows("SELECT count(*) = 0 FROM sales.orders").await?;
    execute(&mut source, "INSERT INTO sales.orders VALUES (3, 'three')").await?;
    sync.target_shows("SELECT count(*) = 1 AND min(what) = 'three' FROM sales.orders").await?;
    // Debezium looks at names without their case unless told otherwise.
    sync.target_shows("SELECT count(*) = 0 FROM pg_tables WHERE tablename = 'Users'").await?;

    connectors(&["delete", source_name, sink]).await?.ended(2)?.said(&["--yes"])?;
    connectors(&["delete", source_name, sink, "--yes"]).await?.ended(0)?.said(&["GONE"])?;
    connectors(&["status", sink]).await?.ended(1)?.said(&["no connector is called"])?;
    pair.sync.finish().await
}

/// Offsets are shown at any time and changed only while nobody uses them.
async fn offsets(pair: &Pair) -> Result<()> {
    let (sink, sync) = (&pair.sink, &pair.sync);
    let topic = sync.topic("users");
    connectors(&["offsets", "get", &pair.source]).await?.ended(0)?.said(&["\"lsn\""])?;
    let saved = connectors(&["offsets", "get", sink, "--output", "json"]).await?.ended(0)?.said(&[&topic])?;
    let file = pair.folder.path().join("offsets.txt");
    std::fs::write(&file, &saved.stdout)?;
    let file = argument(&file)?;
    let stop = format!("syncline connectors stop {sink}");
    connectors(&["offsets", "reset", sink, "--yes"]).await?.ended(1)?.said(&["is RUNNING", &stop])?;

    connectors(&["stop", sink]).await?.ended(0)?.said(&["STOPPED"])?;
    ensure!(pair.state(sink).await? == ("STOPPED".to_owned(), 0));
    connectors(&["offsets", "reset", sink]).await?.ended(2)?.said(&["forget all offsets", "nothing was done"])?;
    connectors(&["offsets", "reset", sink, "--yes"]).await?.ended(0)?.said(&["reset"])?;
    connectors(&["offsets", "get", sink]).await?.ended(0)?.said(&["no offsets yet"])?;
    connectors(&["offsets", "alter", sink, "--from", file, "--yes"]).await?.ended(0)?.said(&["altered"])?;
    let now = connectors(&["offsets", "get", sink, "--output", "json"]).await?.ended(0)?;
    ensure!(sorted(&now.json()?) == sorted(&saved.json()?), "{}\nis not\n{}", now.stdout, saved.stdout);
    connectors(&["resume", sink]).await?.ended(0)?;
    Ok(())
}

fn sorted(list: &Value) -> Vec<String> {
    let mut entries: Vec<String> = list["offsets"].as_array().into_iter().flatten().map(ToString::to_string).collect();
    entries.sort();
    entries
}
