//! Configurations that the worker does not accept, and tasks that fail.

use anyhow::{Result, ensure};
use syncline_integration_tests::sql::execute;
use syncline_integration_tests::stack;
use syncline_integration_tests::sync::Sync;

use crate::cli::{Registered, connectors};
use crate::files::{ConnectorFile, argument};

/// The ready PostgreSQL source, capturing the table `t` of this sync under another name.
fn source(sync: &Sync, name: &str) -> Result<ConnectorFile> {
    let mut file = ConnectorFile::read(&stack::root().join("connect-configs/postgres-source.json"))?;
    file.name = format!("{}-{name}", sync.name);
    file.on_the_stack()?;
    file.set("database.dbname", sync.source_database());
    file.set("topic.prefix", &sync.name);
    file.set("slot.name", format!("{}_{name}", sync.name));
    file.set("publication.name", &sync.name);
    file.set("table.include.list", "public\\.t");
    Ok(file)
}

#[tokio::test]
async fn a_refused_configuration_names_the_key_and_the_reason_and_nothing_is_changed() -> Result<()> {
    let sync = Sync::create("connect_refused", &["t"]).await?;
    sync.source("CREATE TABLE t (id int PRIMARY KEY)").await?;
    let folder = tempfile::tempdir()?;
    let good = source(&sync, "good")?;
    let _registered = Registered(vec![good.name.clone(), good.name.replace("good", "bad")]);
    good.write(folder.path())?;
    let mut bad = source(&sync, "bad")?;
    bad.set("snapshot.mode", "sometimes");
    bad.set("tasks.max", "many");
    bad.set("table.includ.list", "public\\.t");
    bad.write(folder.path())?;
    let path = argument(folder.path())?;
    for verb in ["plan", "apply"] {
        let run = connectors(&[verb, path]).await?.ended(1)?;
        run.said(&[
            "! snapshot.mode: ",
            "! tasks.max: Invalid value many for configuration tasks.max",
            "did you mean `table.include.list`?",
            "refuses 1 configuration; nothing was changed",
        ])?;
    }
    // A password that is wrong is found before anything runs.
    let mut locked_out = source(&sync, "bad")?;
    locked_out.set("database.password", "not the password");
    locked_out.write(folder.path())?;
    let run = connectors(&["apply", path]).await?.ended(1)?;
    run.said(&["password authentication failed", "`database.password` is written out"])?.kept("not the password")?;
    let all = connectors(&["status", "--output", "json"]).await?;
    ensure!(!all.stdout.contains(&sync.name), "something was registered:\n{}", all.stdout);
    sync.finish().await
}

#[tokio::test]
async fn a_task_that_fails_is_told_by_its_trace_and_mended_by_a_restart() -> Result<()> {
    let sync = Sync::create("connect_failing", &["t"]).await?;
    let mut database = sync.source("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await?;
    let folder = tempfile::tempdir()?;
    let mut first = source(&sync, "first")?;
    first.set("publication.autocreate.mode", "disabled");
    let path = first.write(folder.path())?;
    let (path, name) = (argument(&path)?, first.name.as_str());
    let _registered = Registered(vec![name.to_owned(), name.replace("first", "second")]);

    let run = connectors(&["apply", path]).await?.ended(1)?;
    run.said(&[name, "FAILED on ", "ublication", "not running as asked"])?.kept("\tat ")?;
    connectors(&["status", name]).await?.ended(1)?.said(&["FAILED", "ublication", "0/1"])?;
    // Doing it again changes nothing about it, and does not call it done.
    connectors(&["apply", path]).await?.ended(1)?.said(&["FAILED on "])?;
    execute(&mut database, format!("CREATE PUBLICATION {} FOR TABLE t", sync.name)).await?;
    connectors(&["restart", name, "--only-failed"]).await?.ended(0)?.said(&["RUNNING, 1 of 1 task"])?;

    // The slot is taken: the task shows RUNNING first, and fails when it has tried often enough.
    let mut second = source(&sync, "second")?;
    second.set("slot.name", first.get("slot.name"));
    // Two connectors of one prefix would wait for each other's metrics first.
    second.set("topic.prefix", format!("{}.second", sync.name));
    second.set("slot.max.retries", "1");
    second.set("slot.retry.delay.ms", "500");
    second.set("errors.max.retries", "0");
    second.set("offset.mismatch.strategy", "no_validation");
    let other = second.write(folder.path())?;
    let run = connectors(&["apply", argument(&other)?, "--settle", "60s"]).await?.ended(1)?;
    run.said(&[&second.name, "FAILED on ", "slot"])?;
    // New settings wake it, once the slot is free.
    connectors(&["stop", name]).await?.ended(0)?.said(&["STOPPED"])?;
    second.set("slot.max.retries", "3");
    second.write(folder.path())?;
    connectors(&["apply", argument(&other)?]).await?.ended(0)?.said(&["RUNNING, 1 of 1 task"])?;

    // A name that is almost right.
    let typo = name.replace("first", "frist");
    connectors(&["pause", &typo]).await?.ended(1)?.said(&[&format!("did you mean `{name}`?")])?;
    connectors(&["delete", name, &second.name, "--yes"]).await?.ended(0)?;
    sync.finish().await
}
