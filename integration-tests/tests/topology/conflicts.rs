//! What people do about conflicts: look at them, decide them, and be told of many.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use syncline_integration_tests::process::Process;
use syncline_integration_tests::topology::Topology;
use syncline_integration_tests::{sql, sync};

use crate::{KV, gate};

/// What a command prints.
async fn says(topology: &Topology, arguments: &[&str], code: i32) -> Result<String> {
    topology.start(arguments)?.expect_exit(code, sync::PATIENCE).await
}

/// The only conflict of each node.
async fn listed(topology: &Topology) -> Result<Vec<Value>> {
    let text = says(topology, &["conflicts", "list", "--output", "json"], 0).await?;
    let mut all = Vec::new();
    for line in text.lines() {
        all.push(serde_json::from_str::<Value>(line)?);
    }
    all.sort_by_key(|conflict| conflict["node"].to_string());
    Ok(all)
}

/// Both nodes change a row while neither hears of the other, and then do; eu is the later one.
async fn meet(topology: &Topology, run: &[&str]) -> Result<Process> {
    let (mut hq, mut eu) = (topology.connect(0).await?, topology.connect(1).await?);
    sql::execute(&mut hq, "INSERT INTO kv VALUES (1, 'old', 1)").await?;
    topology.catches_up().await?;
    sql::execute(&mut hq, "UPDATE kv SET v = 'first'").await?;
    sql::execute(&mut eu, "UPDATE kv SET v = 'second'").await?;
    let mut process = topology.start(run)?;
    topology.comes_to_rest(&mut [&mut process]).await?;
    assert_eq!(topology.check("kv").await?[0], "(1,second,1)");
    Ok(process)
}

fn id(conflict: &Value) -> Result<&str> {
    conflict["id"].as_str().context("an id")
}

#[tokio::test]
async fn a_person_can_take_the_side_that_lost() -> Result<()> {
    let _servers = gate::shared().await;
    let mut topology = Topology::create("decide", &["hq", "eu"], &["kv"], KV).await?;
    let metrics = free_address()?;
    let mut process = meet(&topology, &["run", "--metrics-address", &metrics]).await?;
    for node in ["hq", "eu"] {
        let job = format!("sync_job=\"{}.{node}\",table_name=\"public.kv\"", topology.name);
        let of = "resolution_strategy=\"last_write_wins\",conflict_type=\"update_update\"";
        measured(&metrics, &format!("conflict_count{{{job},{of}}} 1")).await?;
        measured(&metrics, &format!("sync_lag_seconds{{{job}}} 0")).await?;
    }
    let all = listed(&topology).await?;
    ensure!(all.len() == 2, "{all:?}");
    let (at_eu, at_hq) = (&all[0], &all[1]);
    let [eu_id, hq_id] = [id(at_eu)?, id(at_hq)?];
    ensure!(at_hq["resolution"] == "source" && at_hq["target_value"]["v"] == "first", "{at_hq}");
    ensure!(at_eu["resolution"] == "target" && at_eu["source_value"]["v"] == "first", "{at_eu}");
    let text =
        says(&topology, &["conflicts", "list", "--table", "kv", "--type", "update_update", "--since", "1h"], 0).await?;
    sync::says(&text, &[hq_id, eu_id, "source (eu)", "target (eu)", "last_write_wins", "by the rule"])?;
    for verb in ["list", "count"] {
        let text = says(&topology, &["conflicts", verb, "--unresolved"], 0).await?;
        sync::says(&text, &["no conflicts"])?;
    }
    let text = says(&topology, &["conflicts", "count", "--table", "kv", "--output", "json"], 0).await?;
    let counts: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let count = |node, source, target| {
        json!({"node": node, "table_name": "public.kv", "conflict_type": "update_update", "strategy": "last_write_wins",
               "source": source, "target": target, "unresolved": 0})
    };
    ensure!(counts == [count("hq", 1, 0), count("eu", 0, 1)], "{text}");

    let prefix = hq_id.get(..8).context("a long id")?;
    let text = says(&topology, &["conflicts", "show", prefix], 0).await?;
    sync::says(&text, &[hq_id, "\"second\"  \"first\"  \"second\"", "\n*  v "])?;
    let text = says(&topology, &["conflicts", "explain", hq_id], 0).await?;
    sync::says(
        &text,
        &["a change of node eu", "a change of node hq", "Neither had seen the other", "has the later stamp"],
    )?;
    sync::says(&text, &["partition", "It has not changed since"])?;
    let text = says(&topology, &["conflicts", "show", "nothing"], 2).await?;
    sync::says(&text, &["no conflict's id begins with nothing at hq, eu"])?;

    let text = says(&topology, &["conflicts", "resolve", hq_id, "--take", "target", "--dry-run"], 0).await?;
    sync::says(&text, &["v: \"second\" -> \"first\"", "nothing was changed"])?;
    assert_eq!(topology.check("kv").await?[0], "(1,second,1)");
    let text = says(&topology, &["conflicts", "resolve", hq_id, "--take", "target"], 0).await?;
    sync::says(&text, &["v: \"second\" -> \"first\"", "is resolved"])?;
    topology.comes_to_rest(&mut [&mut process]).await?;
    assert_eq!(topology.check("kv").await?[0], "(1,first,1)");
    let text = says(&topology, &["conflicts", "resolve", hq_id, "--take", "source"], 1).await?;
    sync::says(&text, &["a person has resolved this conflict"])?;
    // At the other node the row is not what the conflict made of it any more.
    let text = says(&topology, &["conflicts", "resolve", eu_id, "--take", "target"], 1).await?;
    sync::says(&text, &["the row has changed since the conflict", "--force"])?;
    says(&topology, &["conflicts", "resolve", eu_id, "--take", "target", "--force", "--node", "eu"], 0).await?;
    topology.comes_to_rest(&mut [&mut process]).await?;
    assert_eq!(topology.check("kv").await?[0], "(1,second,1)");
    // A decision is no conflict of its own.
    let all = listed(&topology).await?;
    ensure!(all.len() == 2, "{all:?}");
    for conflict in &all {
        let by = conflict["resolved_by"].as_str().unwrap_or_default();
        ensure!(by.ends_with("(syncline conflicts resolve)"), "{conflict}");
    }
    process.stop().await?;

    let (address, posts) = listen()?;
    topology.log = vec![format!("alerting: {{threshold: 1, notify: ['webhook:{address}', log]}}")];
    let mut process = topology.start(&["consume", "--node", "eu", "--metrics-address", &metrics])?;
    for (gauge, value) in [("conflicts_within_hour", 1), ("conflict_threshold", 1)] {
        measured(&metrics, &format!("{gauge}{{sync_job=\"{}.eu\"}} {value}", topology.name)).await?;
    }
    process.said("many conflicts within an hour", sync::PATIENCE).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    process.stop().await?;
    let posts = posts.lock().expect("no holder of this lock panics").clone();
    ensure!(posts.len() == 1, "{posts:?}");
    let told: Value = serde_json::from_str(&posts[0])?;
    ensure!(told["topology"] == topology.name.as_str() && told["node"] == "eu", "{told}");
    ensure!(told["conflicts"] == 1 && told["threshold"] == 1 && told["window_seconds"] == 3600, "{told}");
    topology.finish().await
}

/// What the log has left out cannot be written.
#[tokio::test]
async fn a_masked_value_is_not_written() -> Result<()> {
    let _servers = gate::shared().await;
    let mut topology = Topology::create("masked", &["hq", "eu"], &["kv"], KV).await?;
    topology.log = vec!["mask: [v]".to_owned()];
    let mut process = meet(&topology, &["run"]).await?;
    let all = listed(&topology).await?;
    let one = id(all.first().context("a conflict")?)?;
    let text = says(&topology, &["conflicts", "resolve", one, "--take", "source"], 1).await?;
    sync::says(&text, &["column v", "masked", "nothing was changed"])?;
    assert_eq!(topology.check("kv").await?[0], "(1,second,1)");
    process.stop().await?;
    topology.finish().await
}

const LINES: &str = "CREATE TABLE lines (shop int, line text, item text, amount int, PRIMARY KEY (line, shop))";

/// One column of a row, a row that was deleted at one side, keys of several columns.
#[tokio::test]
async fn a_person_decides_about_columns_and_deletes() -> Result<()> {
    let _servers = gate::shared().await;
    let mut topology = Topology::create("columns", &["hq", "eu"], &["lines"], LINES).await?;
    topology.rules = vec!["strategy: merge".to_owned()];
    let (mut hq, mut eu) = (topology.connect(0).await?, topology.connect(1).await?);
    sql::execute(&mut hq, "INSERT INTO lines VALUES (1, 'a', 'pen', 1), (1, 'b', 'cup', 1)").await?;
    topology.catches_up().await?;
    sql::execute(&mut hq, "UPDATE lines SET item = 'ink', amount = 2 WHERE line = 'a'").await?;
    sql::execute(&mut hq, "UPDATE lines SET amount = 5 WHERE line = 'b'").await?;
    sql::execute(&mut eu, "UPDATE lines SET item = 'nib' WHERE line = 'a'").await?;
    sql::execute(&mut eu, "DELETE FROM lines WHERE line = 'b'").await?;
    let mut process = topology.start(&["run"])?;
    topology.comes_to_rest(&mut [&mut process]).await?;
    assert_eq!(topology.check("lines").await?[0], "(1,a,ink,2)", "hq stands first; the delete is the later change");

    let all = listed(&topology).await?;
    let of = |node: &str, line: &str| {
        let is = |conflict: &&Value| conflict["node"] == node && conflict["key"]["line"] == line;
        all.iter().find(is).with_context(|| format!("no conflict of {line} at {node} in {all:?}"))
    };
    let column = of("hq", "a")?;
    ensure!(column["field"] == "item" && column["key"]["shop"] == 1, "{column}");
    let [lost, _] = sides(column, |value| value == "nib");
    let text = says(&topology, &["conflicts", "resolve", id(column)?, "--take", lost], 0).await?;
    sync::says(&text, &["item: \"ink\" -> \"nib\"", "is resolved"])?;
    topology.comes_to_rest(&mut [&mut process]).await?;
    assert_eq!(topology.check("lines").await?[0], "(1,a,nib,2)", "the other column stays");

    // The row comes back with the values of the side that had kept it, and goes again.
    let delete = of("hq", "b")?;
    let [kept, gone] = sides(delete, |value| value["amount"] == 5);
    says(&topology, &["conflicts", "resolve", id(delete)?, "--take", kept], 0).await?;
    topology.comes_to_rest(&mut [&mut process]).await?;
    assert_eq!(topology.check("lines").await?[0], "(1,a,nib,2) (1,b,cup,5)");
    let again = ["conflicts", "resolve", id(delete)?, "--take", gone, "--again", "--force"];
    says(&topology, &again, 0).await?;
    topology.comes_to_rest(&mut [&mut process]).await?;
    assert_eq!(topology.check("lines").await?[0], "(1,a,nib,2)");
    process.stop().await?;
    topology.finish().await
}

/// The side of a conflict with such a value, and the other one. Which of two changes a node takes first is chance: no change
/// waits under these rules.
fn sides(conflict: &Value, is: impl Fn(&Value) -> bool) -> [&'static str; 2] {
    if is(&conflict["source_value"]) { ["source", "target"] } else { ["target", "source"] }
}

/// An address that nobody listens at.
fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Waits until a metric has a value.
async fn measured(address: &str, line: &str) -> Result<()> {
    let url = format!("http://{address}/metrics");
    let is_there = async || {
        let answer = reqwest::get(&url).await.ok()?.text().await.ok()?;
        answer.lines().any(|other| other == line).then_some(())
    };
    sync::wait_until(line, async || is_there().await.is_some()).await
}

/// Bodies that were posted.
type Posts = Arc<Mutex<Vec<String>>>;

/// Listens, and answers every request with 200.
fn listen() -> Result<(String, Posts)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}/alarm", listener.local_addr()?);
    let posts = Posts::default();
    let heard = Arc::clone(&posts);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Ok(body) = answer(stream) {
                heard.lock().expect("no holder of this lock panics").push(body);
            }
        }
    });
    Ok((address, posts))
}

fn answer(mut stream: TcpStream) -> Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let (mut request, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut part)?;
        ensure!(count > 0, "the request ended early");
        request.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).context("no length")?;
        if body.len() >= length.trim().parse()? {
            let body = body.to_owned();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
            return Ok(body);
        }
    }
}
