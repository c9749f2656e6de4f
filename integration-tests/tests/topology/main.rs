//! Several writable databases: whatever their applications do, they end up the same, and what was lost can be found.

mod conflicts;
mod faults;
#[path = "../scenarios/gate.rs"]
mod gate;
mod mapping;
mod report;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use futures_util::future::join_all;
use syncline_integration_tests::process::Process;
use syncline_integration_tests::random::Random;
use syncline_integration_tests::topology::Topology;
use syncline_integration_tests::{sql, sync};

const KV: &str = "CREATE TABLE kv (k int PRIMARY KEY, v text, n int)";

/// The same, and what the node's own applications have made of which value.
const AUDITED: &str = "CREATE TABLE kv (k int PRIMARY KEY, v text, n int); \
    CREATE TABLE kv_audit (before text, after text); \
    CREATE FUNCTION kv_note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
      INSERT INTO kv_audit SELECT CASE WHEN TG_OP <> 'INSERT' THEN OLD.v END, CASE WHEN TG_OP <> 'DELETE' THEN NEW.v END; \
      RETURN NULL; END $$; \
    CREATE TRIGGER kv_note AFTER INSERT OR UPDATE OR DELETE ON kv FOR EACH ROW EXECUTE FUNCTION kv_note()";

/// Both ways, with rows on both sides before the start, and nothing goes round in circles.
#[tokio::test]
async fn two_nodes_end_up_the_same() -> Result<()> {
    let _servers = gate::shared().await;
    let topology = Topology::create("two", &["hq", "eu"], &["kv"], KV).await?;
    let (mut hq, mut eu) = (topology.connect(0).await?, topology.connect(1).await?);
    sql::execute(&mut hq, "INSERT INTO kv VALUES (1, 'both', 1), (2, 'of hq', 1), (4, 'hq', 1)").await?;
    sql::execute(&mut eu, "INSERT INTO kv VALUES (1, 'both', 1), (3, 'of eu', 1), (4, 'eu', 1)").await?;
    let mut process = topology.start(&["run"])?;
    topology.comes_to_rest(&mut [&mut process]).await?;
    // The first of the priorities wins where neither row has a stamp.
    let rows = topology.check("kv").await?;
    assert_eq!(rows[0], "(1,both,1) (2,\"of hq\",1) (3,\"of eu\",1) (4,hq,1)");
    let conflicts = "SELECT string_agg(DISTINCT concat_ws('/', conflict_type, key), ' ') FROM _syncline.sync_conflicts";
    for found in topology.all(conflicts).await? {
        assert!(found.is_empty() || found == "insert_exists/{\"k\": 4}", "{found}");
    }

    sql::execute(&mut hq, "UPDATE kv SET v = 'changed' WHERE k = 3; DELETE FROM kv WHERE k = 2").await?;
    sql::execute(&mut eu, "INSERT INTO kv VALUES (5, 'new', 1)").await?;
    topology.comes_to_rest(&mut [&mut process]).await?;
    let rows = topology.check("kv").await?;
    assert_eq!(rows[0], "(1,both,1) (3,changed,1) (4,hq,1) (5,new,1)");
    process.stop().await?;
    topology.finish().await
}

/// A node whose clock runs ahead wins over what is written later elsewhere.
#[tokio::test]
async fn a_clock_that_runs_ahead_is_told() -> Result<()> {
    let _servers = gate::shared().await;
    let topology = Topology::create("clock", &["hq", "eu"], &["kv"], KV).await?;
    topology.catches_up().await?;
    let mut hq = topology.connect(0).await?;
    // As if hq had applied a change of a node whose clock is an hour ahead.
    let applied = format!(
        "SELECT pg_logical_emit_message(true, 'syncline.applied', jsonb_build_object('topology', '{}', 'clock_us', \
         (extract(epoch FROM now() + interval '1 hour') * 1000000)::bigint, 'counter', 0, 'progress', '[]'::jsonb)::text)",
        topology.name
    );
    sql::execute(&mut hq, &applied).await?;
    sql::execute(&mut hq, "INSERT INTO kv VALUES (1, 'early', 1)").await?;
    let mut process = topology.start(&["run"])?;
    process.said("changes of node hq are stamped ahead of this machine's clock", sync::PATIENCE).await?;
    topology.comes_to_rest(&mut [&mut process]).await?;
    assert_eq!(topology.check("kv").await?[0], "(1,early,1)");
    process.stop().await?;
    topology.finish().await
}

/// Both change the same row while neither hears of the other: the later one stays, the other one is in the log.
#[tokio::test]
async fn a_conflict_is_decided_alike_and_written_down() -> Result<()> {
    let _servers = gate::shared().await;
    let topology = Topology::create("conflict", &["hq", "eu"], &["kv"], KV).await?;
    let (mut hq, mut eu) = (topology.connect(0).await?, topology.connect(1).await?);
    sql::execute(&mut hq, "INSERT INTO kv VALUES (1, 'old', 1)").await?;
    topology.catches_up().await?;
    sql::execute(&mut hq, "UPDATE kv SET v = 'first'").await?;
    sql::execute(&mut eu, "UPDATE kv SET v = 'second'").await?;
    let mut process = topology.start(&["run"])?;
    topology.comes_to_rest(&mut [&mut process]).await?;
    assert_eq!(topology.check("kv").await?[0], "(1,second,1)");
    let log = "SELECT string_agg(concat_ws('/', conflict_type, resolution, source_value->>'v', target_value->>'v', \
         result->>'v', source_origin, target_origin), ' ') FROM _syncline.sync_conflicts";
    let found = topology.all(log).await?;
    assert_eq!(found[0], "update_update/source/second/first/second/eu/hq");
    assert_eq!(found[1], "update_update/target/first/second/second/hq/eu");
    process.stop().await?;
    topology.finish().await
}

/// Random changes of few rows on all nodes at once, while processes are killed.
async fn random_changes(name: &str, nodes: &[&str], seed: u64) -> Result<()> {
    let _servers = gate::shared().await;
    let topology = Topology::create(name, nodes, &["kv"], AUDITED).await?;
    let mut processes = Vec::new();
    for node in nodes {
        processes.push(topology.start(&["produce", "--node", node])?);
        processes.push(topology.start(&["consume", "--node", node])?);
    }
    for round in 0..3 {
        let plays = (0..nodes.len()).map(|node| topology.play(node, seed + round, 120));
        let kills = async {
            for (index, process) in processes.iter_mut().enumerate() {
                tokio::time::sleep(std::time::Duration::from_millis(150)).await;
                if (index as u64 + round).is_multiple_of(2) {
                    process.kill()?;
                    let node = nodes[index / 2];
                    let side = if index.is_multiple_of(2) { "produce" } else { "consume" };
                    *process = topology.start(&[side, "--node", node])?;
                }
            }
            anyhow::Ok(())
        };
        let (played, killed) = tokio::join!(join_all(plays), kills);
        played.into_iter().collect::<Result<Vec<()>>>()?;
        killed?;
    }
    for process in &mut processes {
        process.stop().await?;
    }
    let process = forgets_what_is_gone(&topology).await?;
    ends_equal(topology, vec![process]).await
}

/// Rows that are gone are remembered until all nodes have seen that. Housekeeping is done at each start: one asks, a later
/// one forgets.
pub(crate) async fn forgets_what_is_gone(topology: &Topology) -> Result<Process> {
    let mut left = Vec::new();
    for _ in 0..4 {
        let mut process = topology.start(&["run"])?;
        topology.comes_to_rest(&mut [&mut process]).await?;
        left = topology.all("SELECT count(*)::text FROM _syncline.row_stamps WHERE deleted").await?;
        if left.iter().all(|count| count == "0") {
            return Ok(process);
        }
        process.stop().await?;
    }
    anyhow::bail!("rows that are gone are still remembered: {left:?}")
}

/// All nodes hold the same rows in the end, changes have met, and what is missing is explained.
async fn ends_equal(topology: Topology, mut processes: Vec<Process>) -> Result<()> {
    let mut all: Vec<&mut Process> = processes.iter_mut().collect();
    topology.comes_to_rest(&mut all).await?;
    let rows = topology.check("kv").await?;
    ensure!(!rows[0].is_empty());
    // What was discarded is in a log: without conflicts such a history would prove nothing.
    let conflicts = topology.all("SELECT count(*)::text FROM _syncline.sync_conflicts").await?;
    ensure!(conflicts.iter().any(|count| count != "0"), "no conflicts: {conflicts:?}");
    every_missing_value_is_explained(&topology).await?;
    for process in &mut processes {
        process.stop().await?;
    }
    topology.finish().await
}

/// Whatever an application has written is there, or was replaced by an application that saw it, or is in a log of conflicts
/// as what lost.
async fn every_missing_value_is_explained(topology: &Topology) -> Result<()> {
    let (mut written, mut explained) = (BTreeSet::new(), BTreeSet::new());
    for node in 0..topology.nodes.len() {
        let mut conn = topology.connect(node).await?;
        let values = "SELECT coalesce(array_agg(after), '{}') FROM kv_audit WHERE after IS NOT NULL";
        written.extend(sql::value::<Vec<String>>(&mut conn, values).await?);
        let values = "SELECT coalesce(array_agg(v), '{}') FROM (SELECT v FROM kv \
             UNION ALL SELECT before FROM kv_audit WHERE before IS DISTINCT FROM after \
             UNION ALL SELECT CASE resolution WHEN 'source' THEN target_value ELSE source_value END ->> 'v' \
             FROM _syncline.sync_conflicts) AS all_of_them (v) WHERE v IS NOT NULL";
        explained.extend(sql::value::<Vec<String>>(&mut conn, values).await?);
    }
    let lost: Vec<&String> = written.difference(&explained).collect();
    ensure!(!written.is_empty() && lost.is_empty(), "of {} values these are lost in silence: {lost:?}", written.len());
    Ok(())
}

#[tokio::test]
async fn two_nodes_converge_whatever_happens() -> Result<()> {
    random_changes("two_random", &["hq", "eu"], 1).await
}

#[tokio::test]
async fn a_hub_and_three_spokes_converge_whatever_happens() -> Result<()> {
    random_changes("spokes_random", &["hq", "eu", "us", "asia"], 7).await
}

/// Every difference counts once on every node, whoever made it and whatever is killed meanwhile; other columns by rules of
/// their own.
#[tokio::test]
async fn differences_add_up_on_all_nodes() -> Result<()> {
    let _servers = gate::shared().await;
    let nodes = ["hq", "eu", "us"];
    let stock = "CREATE TABLE stock (sku int PRIMARY KEY, quantity int, highest int, tags text)";
    let mut topology = Topology::create("sums", &nodes, &["stock"], stock).await?;
    topology.rules = [
        "strategy: custom_rules",
        "custom_rules:",
        "  - {field: quantity, strategy: sum}",
        "  - {field: highest, strategy: max}",
        "  - {field: tags, strategy: concat_unique}",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut hq = topology.connect(0).await?;
    sql::execute(&mut hq, "INSERT INTO stock SELECT k, 100, 0, '' FROM generate_series(0, 4) AS k").await?;
    let mut process = topology.start(&["run"])?;
    topology.comes_to_rest(&mut [&mut process]).await?;

    let mut expected = [100_i64; 5];
    for round in 0..2 {
        let plays = (0..nodes.len()).map(|node| add(&topology, node, round));
        let kill = async {
            tokio::time::sleep(std::time::Duration::from_millis(400)).await;
            process.kill()
        };
        let (played, killed) = tokio::join!(futures_util::future::join_all(plays), kill);
        killed?;
        for added in played {
            expected.iter_mut().zip(added?).for_each(|(sum, added)| *sum += added);
        }
        process = topology.start(&["run"])?;
    }
    topology.comes_to_rest(&mut [&mut process]).await?;
    topology.check("stock").await?;
    let found = topology.all("SELECT string_agg(quantity::text, ' ' ORDER BY sku) FROM stock").await?;
    assert_eq!(found[0], expected.map(|sum| sum.to_string()).join(" "));
    let tags = topology.all("SELECT string_agg(DISTINCT tags, ' ') FROM stock WHERE sku = 0").await?;
    assert_eq!(tags[0], "eu,hq,us");
    let highest = topology.all("SELECT max(highest)::text FROM stock").await?;
    assert_eq!(highest[0], "59");
    process.stop().await?;
    topology.finish().await
}

/// Changes quantities on a node; gives by how much.
async fn add(topology: &Topology, node: usize, round: u64) -> Result<[i64; 5]> {
    let mut random = Random::new(round * 7 + node as u64 + 1);
    let mut conn = topology.connect(node).await?;
    let name = &topology.nodes[node].name;
    let mut added = [0; 5];
    for number in 0..60_u64 {
        let sku = usize::try_from(random.below(5))?;
        let by = i64::try_from(random.below(20))? - 9;
        let text = format!(
            "UPDATE stock SET quantity = quantity + {by}, highest = greatest(highest, {number}), \
             tags = CASE WHEN tags LIKE '%{name}%' THEN tags ELSE concat_ws(',', nullif(tags, ''), '{name}') END \
             WHERE sku = {sku}"
        );
        sql::execute(&mut conn, text).await?;
        added[sku] += by;
        tokio::time::sleep(std::time::Duration::from_millis(random.below(15))).await;
    }
    Ok(added)
}

/// A table that is not whole in the log, and one node alone, are told at the start.
#[tokio::test]
async fn what_cannot_be_compared_is_refused() -> Result<()> {
    let _servers = gate::shared().await;
    let topology = Topology::create("refused", &["hq", "eu"], &["kv"], KV).await?;
    let mut eu = topology.connect(1).await?;
    sql::execute(&mut eu, "ALTER TABLE kv REPLICA IDENTITY DEFAULT").await?;
    let log = topology.start(&["run"])?.expect_exit(1, sync::PATIENCE).await?;
    sync::says(&log, &["REPLICA IDENTITY FULL", "kv"])?;
    topology.finish().await
}
