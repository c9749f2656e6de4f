//! Servers and processes of a running topology that go away and come back while applications write on all nodes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::join_all;
use syncline_integration_tests::process::Process;
use syncline_integration_tests::proxy::Proxy;
use syncline_integration_tests::topology::Topology;
use syncline_integration_tests::{sql, stack, sync};

use crate::{AUDITED, ends_equal, gate};

/// The place of the second node's producer among the processes.
const EU_PRODUCER: usize = 2;

/// Each node's producer and consumer, in the order of the nodes.
fn start(topology: &Topology) -> Result<Vec<Process>> {
    let sides = topology.nodes.iter().flat_map(|node| ["produce", "consume"].map(|side| (side, &node.name)));
    sides.map(|(side, node)| topology.start(&[side, "--node", node])).collect()
}

/// Starts all, and waits until changes go from each node to all others: what goes away before that is told, not waited out.
async fn running(topology: &Topology) -> Result<Vec<Process>> {
    let processes = start(topology)?;
    for (number, _) in topology.nodes.iter().enumerate() {
        let mut conn = topology.connect(number).await?;
        sql::execute(&mut conn, format!("INSERT INTO kv VALUES ({}, 'first', 0)", 1000 + number)).await?;
    }
    let have_all = async || {
        let counts = topology.all("SELECT count(*)::text FROM kv WHERE k >= 1000").await;
        counts.is_ok_and(|counts| counts.iter().all(|count| *count == topology.nodes.len().to_string()))
    };
    sync::wait_until("changes reach every node", have_all).await?;
    Ok(processes)
}

/// Makes random changes on all nodes for as long as something happens, and a while longer.
async fn while_writing(topology: &Topology, happens: impl Future<Output = Result<()>>) -> Result<()> {
    let has_happened = AtomicBool::new(false);
    let writes = (0..topology.nodes.len()).map(async |node| {
        for round in 0.. {
            let is_last = has_happened.load(Ordering::Relaxed);
            topology.play(node, round, 40).await?;
            if is_last {
                break;
            }
        }
        anyhow::Ok(())
    });
    let happens = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let result = happens.await;
        has_happened.store(true, Ordering::Relaxed);
        result
    };
    let (written, happened) = tokio::join!(join_all(writes), happens);
    happened?;
    written.into_iter().collect()
}

/// `dev/stack <what> <name>`, beside what else goes on.
async fn control(what: &'static str, name: &'static str) -> Result<()> {
    tokio::task::spawn_blocking(move || stack::control(what, name)).await?
}

#[tokio::test]
async fn a_broker_that_crashes_under_load_is_waited_out() -> Result<()> {
    let _servers = gate::alone().await;
    let topology = Topology::create("broker", &["hq", "eu"], &["kv"], AUDITED).await?;
    let processes = running(&topology).await?;
    while_writing(&topology, async {
        for _ in 0..2 {
            control("kill", "kafka").await?;
            tokio::time::sleep(Duration::from_secs(2)).await;
            control("start", "kafka").await?;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        Ok(())
    })
    .await?;
    ends_equal(topology, processes).await
}

#[tokio::test]
async fn a_node_that_is_cut_off_for_a_while_catches_up() -> Result<()> {
    let _servers = gate::shared().await;
    let mut topology = Topology::create("cut", &["hq", "eu"], &["kv"], AUDITED).await?;
    let role = &topology.nodes[1].role;
    let proxy = Proxy::start(format!("{}:{}", role.host, role.port))?;
    topology.nodes[1].port = Some(proxy.port());
    let processes = running(&topology).await?;
    while_writing(&topology, async {
        for seconds in [1, 6] {
            proxy.shut(true);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            proxy.shut(false);
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        // Packets are lost while connections stay open.
        proxy.stick(true);
        tokio::time::sleep(Duration::from_secs(5)).await;
        proxy.stick(false);
        Ok(())
    })
    .await?;
    ends_equal(topology, processes).await
}

/// Changes of rows whose own changes have not been captured wait for that, however many and however long.
#[tokio::test]
async fn what_waits_for_a_producer_that_is_down_is_settled_once_it_is_back() -> Result<()> {
    let _servers = gate::shared().await;
    let topology = Topology::create("down", &["hq", "eu"], &["kv"], AUDITED).await?;
    let (mut hq, mut eu) = (topology.connect(0).await?, topology.connect(1).await?);
    sql::execute(&mut hq, "INSERT INTO kv SELECT k, 'old', 0 FROM generate_series(100, 899) AS k").await?;
    let mut processes = running(&topology).await?;
    topology.comes_to_rest(&mut processes.iter_mut().collect::<Vec<_>>()).await?;
    processes[EU_PRODUCER].kill()?;
    while_writing(&topology, async {
        sql::execute(&mut eu, "UPDATE kv SET v = 'eu', n = n + 1 WHERE k BETWEEN 100 AND 899").await?;
        sql::execute(&mut hq, "UPDATE kv SET v = 'hq' || k, n = n + 1 WHERE k BETWEEN 100 AND 899 AND k % 4 <> 0")
            .await?;
        sql::execute(&mut hq, "DELETE FROM kv WHERE k BETWEEN 100 AND 899 AND k % 8 = 0").await?;
        let waiting = async || {
            let count = sql::value::<i64>(&mut eu, "SELECT count(*) FROM _syncline.waiting").await;
            count.is_ok_and(|count| count >= 600)
        };
        sync::wait_until("hundreds of records wait", waiting).await?;
        // Those that come after them wait behind them.
        sql::execute(&mut hq, "UPDATE kv SET v = v || '!' WHERE k BETWEEN 100 AND 899").await?;
        sql::execute(&mut eu, "UPDATE kv SET n = n + 1 WHERE k BETWEEN 100 AND 899 AND k % 3 = 0").await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        Ok(())
    })
    .await?;
    let node = &topology.nodes[1].name;
    processes[EU_PRODUCER] = topology.start(&["produce", "--node", node]).context("the producer comes back")?;
    ends_equal(topology, processes).await
}
