//! A worker that is away, busy, slow, strict or no worker at all. No server of the stack is needed.

use anyhow::{Result, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::cli::{connectors, connectors_in};
use crate::files::argument;
use crate::mock::{Mock, Reply, Request};

const CLASS: &str = "x.SourceConnector";

fn ok(body: &serde_json::Value) -> Reply {
    Some((200, body.to_string()))
}

fn refusal(status: u16, message: &str) -> Reply {
    Some((status, json!({"error_code": status, "message": message}).to_string()))
}

/// A worker with one plugin, no connector, and every configuration welcome. `put` is what it answers to a new one.
fn worker(request: &Request, before: &[Request], put: impl Fn(usize) -> Reply) -> Reply {
    let puts = before.iter().filter(|request| request.path == "/connectors/a/config" && request.method == "PUT");
    let puts = puts.count();
    let exists = puts > 0 && put(puts - 1).is_some_and(|(status, _)| status < 300);
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/connector-plugins") => ok(&json!([{"class": CLASS, "type": "source", "version": "1"}])),
        ("PUT", "/connector-plugins/x.SourceConnector/config/validate") => ok(&json!({
            "name": CLASS, "error_count": 0,
            "configs": [{"definition": {"name": "pin", "type": "PASSWORD"}, "value": {"name": "pin", "errors": []}}]
        })),
        ("PUT", "/connectors/a/config") => put(puts),
        ("GET", "/connectors/a/status") if exists => ok(&json!({
            "name": "a", "type": "source", "connector": {"state": "RUNNING", "worker_id": "w:1"},
            "tasks": [{"id": 0, "state": "RUNNING", "worker_id": "w:1"}]
        })),
        ("GET", "/connectors") => ok(&json!([])),
        _ => refusal(404, "there is none"),
    }
}

fn file(config: &str) -> Result<(TempDir, String)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("a.json");
    std::fs::write(&path, config)?;
    let path = argument(&path)?.to_owned();
    Ok((folder, path))
}

#[tokio::test]
async fn a_rebalance_is_waited_out() -> Result<()> {
    let busy = || refusal(409, "Cannot complete request momentarily due to stale configuration");
    let mock = Mock::start(move |request, before| {
        worker(request, before, |puts| if puts < 2 { busy() } else { Some((201, "{}".to_owned())) })
    })?;
    let (_folder, path) = file(r#"{"connector.class":"x.SourceConnector"}"#)?;
    let run = connectors(&["--url", &mock.url, "apply", &path, "--settle", "0s"]).await?;
    run.ended(0)?.said(&["a: RUNNING, 1 of 1 task running", "trying again", "stale configuration"])?;
    let puts = mock.asked().iter().filter(|asked| *asked == "PUT /connectors/a/config").count();
    ensure!(puts == 3, "it was configured {puts} times");
    Ok(())
}

#[tokio::test]
async fn a_worker_that_stays_busy_is_given_up() -> Result<()> {
    let mock = Mock::start(|request, before| worker(request, before, |_| refusal(409, "rebalance in progress")))?;
    let (_folder, path) = file(r#"{"connector.class":"x.SourceConnector"}"#)?;
    let run = connectors(&["--url", &mock.url, "--timeout", "2s", "apply", &path]).await?;
    run.ended(1)?.said(&["still busy after 2 s", "rebalance in progress", "configure `a`", "try again later"])?;
    Ok(())
}

#[tokio::test]
async fn a_plan_changes_nothing_and_tells_by_its_exit_code() -> Result<()> {
    let mock = Mock::start(|request, before| worker(request, before, |_| Some((201, "{}".to_owned()))))?;
    let (_folder, path) = file(r#"{"connector.class":"x.SourceConnector","pin":"1234567","b.password":"${env:PW}"}"#)?;
    let run = connectors(&["--url", &mock.url, "plan", &path]).await?.ended(5)?;
    run.said(&["a (", "+ pin: ***", "+ b.password: ${env:PW}", "`pin` is written out"])?.kept("1234567")?;
    let run = connectors(&["--url", &mock.url, "--output", "json", "plan", &path]).await?.ended(5)?.kept("1234567")?;
    ensure!(run.json()?["connectors"][0]["action"] == "create", "{}", run.stdout);
    ensure!(!mock.asked().iter().any(|asked| asked.starts_with("PUT /connectors/")), "it changed something");
    Ok(())
}

#[tokio::test]
async fn a_plugin_that_is_not_installed_is_named_beside_those_that_are() -> Result<()> {
    let mock = Mock::start(|request, before| worker(request, before, |_| refusal(500, "not asked for")))?;
    let (_folder, path) = file(r#"{"connector.class":"x.SourceConector"}"#)?;
    let run = connectors(&["--url", &mock.url, "apply", &path]).await?;
    run.ended(1)?.said(&[
        "connector.class: plugin x.SourceConector is not installed",
        "did you mean x.SourceConnector?",
        "nothing was changed",
    ])?;
    Ok(())
}

#[tokio::test]
async fn the_login_is_sent_and_a_wrong_one_is_named() -> Result<()> {
    let mock = Mock::start(|request, _| {
        // me:geheim
        let right = request.head.iter().any(|line| line.eq_ignore_ascii_case("authorization: Basic bWU6Z2VoZWlt"));
        if right { ok(&json!([])) } else { Some((401, "User cannot access the resource.".to_owned())) }
    })?;
    let address = mock.url.replace("http://", "http://me:geheim@");
    connectors(&["--url", &address, "status"]).await?.ended(0)?.said(&["no connectors"])?;
    let run = connectors_in(&[("CONNECT_PASSWORD", "geheim")], &["--url", &mock.url, "--user", "me", "status"]).await?;
    run.ended(0)?;
    let folder = tempfile::tempdir()?;
    let password = folder.path().join("password");
    std::fs::write(&password, "geheim\n")?;
    let password = argument(&password)?;
    connectors(&["--url", &mock.url, "--user", "me", "--password-file", password, "status"]).await?.ended(0)?;
    let wrong = mock.url.replace("http://", "http://me:verkehrt@");
    let run = connectors(&["--url", &wrong, "status"]).await?;
    run.ended(1)?.said(&["401", "--user and CONNECT_PASSWORD"])?.kept("verkehrt")?;
    Ok(())
}

#[tokio::test]
async fn who_does_not_answer_or_is_no_worker_is_named() -> Result<()> {
    let silent = Mock::start(|_, _| None)?;
    let run = connectors(&["--url", &silent.url, "--timeout", "1s", "status"]).await?;
    run.ended(1)?.said(&[&silent.url, "not answered within 1 s", "--timeout"])?;
    let registry = Mock::start(|_, _| Some((404, "<html>".to_owned())))?;
    let run = connectors(&["--url", &registry.url, "status"]).await?;
    run.ended(1)?.said(&[&registry.url, "not Kafka Connect's REST API", "CONNECT_URL"])?;
    let other = Mock::start(|_, _| ok(&json!({"hello": 1})))?;
    connectors(&["--url", &other.url, "status"]).await?.ended(1)?.said(&["not Kafka Connect's REST API"])?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let away = format!("http://127.0.0.1:{port}");
    connectors(&["--url", &away, "status"]).await?.ended(1)?.said(&["cannot reach", &away, "start it"])?;
    connectors(&["--url", "ftp://x", "status"]).await?.ended(2)?.said(&["--url"])?;
    connectors(&["--url", &away, "--cert", "x.pem", "status"]).await?.ended(2)?.said(&["--cert and --key"])?;
    connectors(&["--url", &away, "--cacert", "/dev/null", "status"]).await?.ended(2)?.said(&["--cacert /dev/null"])?;
    Ok(())
}

#[tokio::test]
async fn a_connector_that_stays_away_is_not_waited_for_for_ever() -> Result<()> {
    let mock = Mock::start(|request, before| match request.path.as_str() {
        "/connectors/a/status" => ok(&json!({
            "name": "a", "type": "source", "connector": {"state": "RUNNING", "worker_id": "w:1"}, "tasks": []
        })),
        _ => worker(request, before, |_| Some((201, "{}".to_owned()))),
    })?;
    let (_folder, path) = file(r#"{"connector.class":"x.SourceConnector"}"#)?;
    let run = connectors(&["--url", &mock.url, "apply", &path, "--wait", "1s"]).await?;
    run.ended(1)?.said(&["not there after 1 s", "the connector is RUNNING, no tasks"])?;
    Ok(())
}
