//! Bad input: one message that names the thing and the remedy, a non-zero exit, nothing changed.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use syncline_integration_tests::registry_proxy::RegistryProxy;
use syncline_integration_tests::sql::execute;
use syncline_integration_tests::stack;
use syncline_integration_tests::sync::{PATIENCE, Sync, says};
use syncline_integration_tests::traces::traces;
use tokio::net::TcpSocket;

use crate::gate;

/// Everything that a start could leave behind: taken before, to be the same behind.
async fn unchanged(sync: &Sync, before: &BTreeSet<String>) -> Result<()> {
    let now = traces(sync).await?;
    let changed: Vec<&String> = before.symmetric_difference(&now).collect();
    ensure!(changed.is_empty(), "a refused start changed something:\n{changed:#?}");
    Ok(())
}

/// A port that nobody listens on, for as long as the socket lives: bound, so that nobody else gets it.
fn dead_port() -> Result<(TcpSocket, u16)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let port = socket.local_addr()?.port();
    Ok((socket, port))
}

#[tokio::test]
async fn a_malformed_file_is_refused_with_every_fault_in_its_line() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("malformed", &["t"]).await?;
    let before = traces(&sync).await?;
    let file = sync.file()?.replace("partitions: 3", "partitons: 3\n  partitions: many");
    let log = sync.start_with(&["run"], &file)?.expect_exit(2, PATIENCE).await?;
    says(&log, &["partitons", "partitions", ".yaml:"])?;
    for broken in ["kafka: [", "", "topology: bidirectional\n"] {
        let text = if broken.starts_with("topology") { format!("{}{broken}", sync.file()?) } else { broken.to_owned() };
        sync.start_with(&["run"], &text)?.expect_exit(2, PATIENCE).await?;
    }
    unchanged(&sync, &before).await?;
    sync.finish().await
}

#[tokio::test]
async fn servers_that_do_not_answer_and_passwords_that_are_wrong_are_named() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("unreachable", &["t"]).await?;
    sync.source("CREATE TABLE t (id int PRIMARY KEY)").await?;
    let good = sync.options.clone();
    let before = traces(&sync).await?;
    let (_socket, port) = dead_port()?;
    let address = format!("127.0.0.1:{port}");

    sync.options.source_port = Some(port);
    sync.refused(&["run"], 1, &[&port.to_string()]).await?;
    sync.options = good.clone();
    sync.options.target_port = Some(port);
    sync.refused(&["run"], 1, &[&port.to_string()]).await?;
    sync.options = good.clone();
    sync.options.kafka = Some(address.clone());
    sync.refused(&["run"], 1, &[&address]).await?;
    sync.options = good.clone();
    sync.options.registry = Some(format!("http://{address}/apis/ccompat/v7"));
    sync.refused(&["run"], 1, &[&address]).await?;
    sync.options = good;
    sync.options.source_login = Some(("syncline".to_owned(), "wrong-secret".to_owned()));
    let log = sync.refused(&["run"], 1, &["password", "syncline"]).await?;
    ensure!(!log.contains("wrong-secret"), "the password is in the log");
    unchanged(&sync, &before).await?;
    sync.finish().await
}

#[tokio::test]
async fn tables_that_are_missing_without_a_key_or_not_ours_are_named() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("unfit", &["t", "missing"]).await?;
    sync.source("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE keyless (id int); CREATE TABLE u (id int PRIMARY KEY, b box)").await?;
    let before = traces(&sync).await?;
    sync.refused(&["run"], 1, &["missing"]).await?;
    sync.options.tables = vec!["keyless".to_owned()];
    sync.refused(&["run"], 1, &["keyless", "PRIMARY KEY"]).await?;
    sync.options.tables = vec!["u".to_owned()];
    sync.refused(&["run"], 1, &["box", "skip.unsupported.columns"]).await?;
    sync.options.tables = vec!["t".to_owned()];
    let role = format!("{}_role", sync.name);
    let mut admin = sync.source_admin().await?;
    execute(&mut admin, format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'p'")).await?;
    sync.options.source_login = Some((role.clone(), "p".to_owned()));
    let refused = sync.refused(&["run"], 1, &["GRANT", &role]).await;
    execute(&mut admin, format!("ALTER ROLE {role} NOREPLICATION; GRANT SELECT ON t TO {role}")).await?;
    let refused_too = sync.refused(&["run"], 1, &["REPLICATION", &role]).await;
    execute(&mut admin, format!("DROP OWNED BY {role}; DROP ROLE {role}")).await?;
    refused?;
    refused_too?;
    unchanged(&sync, &before).await?;
    sync.finish().await
}

#[tokio::test]
async fn a_schema_that_the_registry_refuses_stops_with_its_subject() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("conflict", &["t"]).await?;
    sync.source("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await?;
    let subject = format!("{}-value", sync.topic("t"));
    let registry = stack::variable("SCHEMA_REGISTRY_URL")?;
    let client = reqwest::Client::new();
    let other = serde_json::json!({"schema": "{\"type\":\"record\",\"name\":\"Other\",\"fields\":[{\"name\":\"x\",\"type\":\"int\"}]}"});
    client.post(format!("{registry}/subjects/{subject}/versions")).json(&other).send().await?.error_for_status()?;
    let rule = serde_json::json!({"compatibility": "BACKWARD"});
    client.put(format!("{registry}/config/{subject}")).json(&rule).send().await?.error_for_status()?;
    let before = traces(&sync).await?;
    sync.refused(&["run"], 1, &[&subject, "compatib"]).await?;
    sync.refused(&["produce"], 1, &[&subject, "compatib"]).await?;
    unchanged(&sync, &before).await?;
    sync.finish().await
}

/// The registry may just be starting, so it is asked a few times; then a person has to look.
#[tokio::test]
async fn a_registry_that_answers_500_at_the_start_is_named_and_nothing_is_changed() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("registry_500", &["t"]).await?;
    sync.source("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await?;
    let before = traces(&sync).await?;
    let proxy = RegistryProxy::start()?;
    proxy.break_down(true);
    sync.options.registry = Some(proxy.url());
    for verb in ["run", "produce", "consume"] {
        let log =
            sync.refused(&[verb], 1, &[&proxy.address(), "500", "the store is broken", "schema_registry.url"]).await?;
        says(&log, &["trying again"])?;
    }
    unchanged(&sync, &before).await?;
    // It was the registry alone.
    proxy.break_down(false);
    sync.catch_up().await?;
    sync.check(&["t"]).await?;
    sync.finish().await
}

/// In the middle of the stream a server error is an outage like any other.
#[tokio::test]
async fn a_registry_that_answers_500_in_mid_stream_is_named_and_waited_out() -> Result<()> {
    let _servers = gate::shared().await;
    let mut sync = Sync::create("registry_later", &["t"]).await?;
    let mut source = sync.source("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await?;
    let proxy = RegistryProxy::start()?;
    sync.options.registry = Some(proxy.url());
    let mut producer = sync.start(&["produce"])?;
    let mut consumer = sync.start(&["consume"])?;
    sync.converge(&["t"], &mut [&mut producer, &mut consumer]).await?;
    proxy.break_down(true);
    execute(&mut source, "ALTER TABLE t ADD v text; INSERT INTO t VALUES (2, 'new')").await?;
    producer.said("the store is broken", PATIENCE).await?;
    says(&producer.log(), &[&proxy.address(), "500", &format!("{}-value", sync.topic("t"))])?;
    consumer.expect_running()?;
    proxy.break_down(false);
    sync.converge(&["t"], &mut [&mut producer, &mut consumer]).await?;
    producer.stop().await?;
    consumer.stop().await?;
    sync.finish().await
}
