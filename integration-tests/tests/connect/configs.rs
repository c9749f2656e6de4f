//! Every file of `connect-configs/` is accepted by the worker, and explained in docs/connect.md.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use syncline_integration_tests::stack;

use crate::files::ConnectorFile;

/// What the worker has against a configuration: key and error.
async fn errors(file: &ConnectorFile) -> Result<Vec<(String, String)>> {
    let url = stack::connect()?.url;
    let mut config = file.config.clone();
    config.insert("name".to_owned(), Value::String(file.name.clone()));
    let class = file.get("connector.class");
    let address = format!("{url}/connector-plugins/{class}/config/validate");
    let answer = reqwest::Client::new().put(address).json(&config).send().await?.error_for_status()?;
    let answer: Value = answer.json().await?;
    let checked = answer["configs"].as_array().into_iter().flatten();
    let errors = checked.flat_map(|checked| {
        let name = checked["value"]["name"].as_str().unwrap_or_default().to_owned();
        let errors = checked["value"]["errors"].as_array().into_iter().flatten();
        errors.map(move |error| (name.clone(), error.as_str().unwrap_or_default().to_owned())).collect::<Vec<_>>()
    });
    Ok(errors.collect())
}

async fn accepted(name: &str, change: impl Fn(&mut ConnectorFile)) -> Result<()> {
    let mut file = ConnectorFile::read(&stack::root().join(format!("connect-configs/{name}.json")))?;
    file.on_the_stack()?;
    change(&mut file);
    let errors = errors(&file).await?;
    ensure!(errors.is_empty(), "{name}: {errors:?}");
    // Were it accepted without a look at it, this would be too.
    file.set("tasks.max", "none");
    ensure!(!self::errors(&file).await?.is_empty(), "{name}: anything is accepted");
    Ok(())
}

/// For servers that the stack does not have: the one error is that there is none.
async fn accepted_but_for_the_server(
    name: &str,
    key: &str,
    words: &str,
    change: impl Fn(&mut ConnectorFile),
) -> Result<()> {
    let mut file = ConnectorFile::read(&stack::root().join(format!("connect-configs/{name}.json")))?;
    file.on_the_stack()?;
    change(&mut file);
    let errors = errors(&file).await?;
    ensure!(errors.len() == 1 && errors[0].0 == key && errors[0].1.contains(words), "{name}: {errors:?}");
    Ok(())
}

#[tokio::test]
async fn the_postgresql_source_is_valid() -> Result<()> {
    accepted("postgres-source", |_| {}).await
}

#[tokio::test]
async fn the_jdbc_sink_is_valid() -> Result<()> {
    accepted("jdbc-sink", |_| {}).await
}

#[tokio::test]
async fn the_mariadb_source_is_valid() -> Result<()> {
    stack::mariadb()?;
    accepted("mariadb-source", |_| {}).await
}

#[tokio::test]
async fn the_mysql_source_is_valid() -> Result<()> {
    stack::mysql()?;
    accepted("mysql-source", |_| {}).await
}

#[tokio::test]
async fn the_sql_server_source_is_valid_but_for_the_server() -> Result<()> {
    accepted_but_for_the_server("sqlserver-source", "database.hostname", "Unable to connect", |file| {
        file.set("database.hostname", "127.0.0.1");
        file.set("database.port", "1");
    })
    .await
}

#[tokio::test]
async fn the_mongodb_source_is_valid_but_for_the_server() -> Result<()> {
    accepted_but_for_the_server("mongodb-source", "mongodb.connection.string", "Unable to connect", |file| {
        file.set("mongodb.connection.string", "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=2000");
    })
    .await
}

/// The keys in the tables of docs/connect.md, by the heading above them.
fn explained() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let text = std::fs::read_to_string(stack::root().join("docs/connect.md"))?;
    let mut tables: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut heading = String::new();
    let (_, below) = text.split_once("## The ready configurations").context("no such section")?;
    for line in below.lines() {
        if let Some(name) = line.strip_prefix("### ") {
            heading = name.trim_matches('`').to_owned();
        } else if let Some(row) = line.strip_prefix("| `") {
            let key = row.split('`').next().unwrap_or_default().to_owned();
            ensure!(tables.entry(heading.clone()).or_default().insert(key), "{heading} has a row twice: {line}");
        }
    }
    Ok(tables)
}

#[test]
fn every_key_is_explained_and_every_explained_key_is_there() -> Result<()> {
    let mut tables = explained()?;
    let every_file = tables.remove("Every file").context("no table for every file")?;
    let every_source = tables.remove("Every source").context("no table for every source")?;
    for entry in std::fs::read_dir(stack::root().join("connect-configs"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).context("a file with an odd name")?;
        let mut told = tables.remove(name).with_context(|| format!("docs/connect.md has no table for {name}"))?;
        told.extend(every_file.iter().cloned());
        if name.ends_with("-source.json") {
            told.extend(every_source.iter().cloned());
        }
        let keys: BTreeSet<String> = ConnectorFile::read(&path)?.config.keys().cloned().collect();
        let silent: Vec<&String> = keys.difference(&told).collect();
        let stale: Vec<&String> = told.difference(&keys).collect();
        ensure!(silent.is_empty() && stale.is_empty(), "{name}: not explained {silent:?}, explained in vain {stale:?}");
    }
    ensure!(tables.is_empty(), "docs/connect.md explains files that are not there: {:?}", tables.keys());
    Ok(())
}

#[test]
fn secrets_come_from_config_providers_only() -> Result<()> {
    for entry in std::fs::read_dir(stack::root().join("connect-configs"))? {
        let path = entry?.path();
        let file = ConnectorFile::read(&path)?;
        let passwords: Vec<&String> = file.config.keys().filter(|key| key.ends_with("password")).collect();
        ensure!(!passwords.is_empty(), "{}: no password", path.display());
        for key in passwords {
            ensure!(file.get(key).starts_with("${env:"), "{}: {key}", path.display());
        }
    }
    Ok(())
}
