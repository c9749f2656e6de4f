//! Nodes that call their tables and columns otherwise.

use std::time::Duration;

use anyhow::{Result, ensure};
use syncline_integration_tests::random::Random;
use syncline_integration_tests::topology::Topology;
use syncline_integration_tests::{sql, sync};

use crate::{forgets_what_is_gone, gate};

const SHARED: &str = "CREATE TABLE customers (id int PRIMARY KEY, full_name text, visits int); \
    CREATE TABLE stock (sku int PRIMARY KEY, quantity int, status text, note text)";

/// Other names, in another order; `status` and `note` have changed places.
const OWN: &str = "DROP TABLE customers, stock; \
    CREATE TABLE kunden (name text, kunden_nr int PRIMARY KEY, visits int); \
    CREATE TABLE lager (status text, menge int, artikel int PRIMARY KEY, note text); \
    ALTER TABLE kunden REPLICA IDENTITY FULL; ALTER TABLE lager REPLICA IDENTITY FULL";

/// What each node's tables hold, under the shared names.
const CONTENTS: [[&str; 2]; 2] = [
    [
        "SELECT string_agg(concat_ws('/', id, full_name, visits), ' ' ORDER BY id) FROM customers",
        "SELECT string_agg(concat_ws('/', sku, quantity, status, note), ' ' ORDER BY sku) FROM stock",
    ],
    [
        "SELECT string_agg(concat_ws('/', kunden_nr, name, visits), ' ' ORDER BY kunden_nr) FROM kunden",
        "SELECT string_agg(concat_ws('/', artikel, menge, note, status), ' ' ORDER BY artikel) FROM lager",
    ],
];

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

async fn contents(topology: &Topology, table: usize) -> Result<String> {
    let mut found = Vec::new();
    for (node, queries) in CONTENTS.iter().enumerate() {
        let mut conn = topology.connect(node).await?;
        found.push(sql::value::<Option<String>>(&mut conn, queries[table]).await?.unwrap_or_default());
    }
    ensure!(found[0] == found[1], "the nodes differ:\n{}\n{}", found[0], found[1]);
    Ok(found.swap_remove(0))
}

/// Random changes at a node, in its own names; gives by how much each quantity was changed.
async fn play(topology: &Topology, node: usize, seed: u64) -> Result<[i64; 4]> {
    let mut random = Random::new(seed * 17 + node as u64 + 3);
    let mut conn = topology.connect(node).await?;
    let label = &topology.nodes[node].name;
    let mut added = [0; 4];
    for number in 0..80_u64 {
        let (key, sku) = (random.below(9), usize::try_from(random.below(4))?);
        let by = i64::try_from(random.below(20))? - 9;
        let value = format!("{label}-{seed}-{number}");
        let texts = match node {
            0 => [
                format!(
                    "INSERT INTO customers VALUES ({key}, '{value}', 1) ON CONFLICT (id) DO UPDATE SET full_name = EXCLUDED.full_name"
                ),
                format!("UPDATE customers SET visits = visits + 1 WHERE id = {key}"),
                format!("DELETE FROM customers WHERE id = {key}"),
                format!("UPDATE stock SET quantity = quantity + {by}, status = '{value}' WHERE sku = {sku}"),
                format!("UPDATE stock SET note = '{value}' WHERE sku = {sku}"),
            ],
            _ => [
                format!(
                    "INSERT INTO kunden VALUES ('{value}', {key}, 1) ON CONFLICT (kunden_nr) DO UPDATE SET name = EXCLUDED.name"
                ),
                format!("UPDATE kunden SET visits = visits + 1 WHERE kunden_nr = {key}"),
                format!("DELETE FROM kunden WHERE kunden_nr = {key}"),
                format!("UPDATE lager SET menge = menge + {by}, note = '{value}' WHERE artikel = {sku}"),
                format!("UPDATE lager SET status = '{value}' WHERE artikel = {sku}"),
            ],
        };
        let which = usize::try_from(random.below(5))?;
        sql::execute(&mut conn, texts[which].as_str()).await?;
        if which == 3 {
            added[sku] += by;
        }
        tokio::time::sleep(Duration::from_millis(random.below(12))).await;
    }
    Ok(added)
}

/// Two nodes with other tables, columns and orders of columns hold the same in the end; rules count under the shared names,
/// and what was discarded is in each log under its node's names.
#[tokio::test]
async fn nodes_with_other_names_end_up_the_same() -> Result<()> {
    let _servers = gate::shared().await;
    let mut topology = Topology::create("mapped", &["hq", "eu"], &["customers", "stock"], SHARED).await?;
    let (mut hq, mut eu) = (topology.connect(0).await?, topology.connect(1).await?);
    sql::execute(&mut eu, OWN).await?;
    topology.rules = lines(
        "tables:
  stock:
    strategy: custom_rules
    custom_rules:
      - {field: quantity, strategy: sum}",
    );
    topology.log = lines("mask: [full_name]");
    topology.nodes[1].tables = ["kunden", "lager"].map(str::to_owned).to_vec();
    let kunden = "- {source_table: kunden, target_table: customers, columns: {kunden_nr: id, name: full_name}}";
    let lager = "- source_table: lager
  target_table: stock
  columns: {artikel: sku, menge: quantity, status: note, note: status}";

    // A column that is not there is told before anything starts.
    topology.nodes[1].mappings = lines(&format!("{}\n{lager}", kunden.replace("name:", "nam:")));
    let log = topology.start(&["run"])?.expect_exit(2, sync::PATIENCE).await?;
    sync::says(&log, &["eu: ", ".yaml:", "table_mappings, columns: public.kunden has no column nam"])?;

    topology.nodes[1].mappings = lines(&format!("{kunden}\n{lager}"));
    let log = topology.start(&["check"])?.expect_exit(0, sync::PATIENCE).await?;
    sync::says(&log, &["captures public.kunden, public.lager"])?;
    sql::execute(&mut hq, "INSERT INTO stock SELECT k, 100, 'new', '' FROM generate_series(0, 3) AS k").await?;
    sql::execute(&mut hq, "INSERT INTO customers VALUES (1, 'of hq', 1), (2, 'hq', 1)").await?;
    sql::execute(&mut eu, "INSERT INTO kunden VALUES ('of eu', 3, 1), ('eu', 2, 1)").await?;
    let log = topology.start(&["run", "--dry-run"])?.expect_exit(0, sync::PATIENCE).await?;
    let first_load = "The first load inserts 1 at hq and 1 at eu, and overwrites 1 at eu; then every node has 3 rows.";
    sync::says(&log, &["public.customers (rule last_write_wins)", first_load])?;
    let mut process = topology.start(&["run"])?;
    topology.comes_to_rest(&mut [&mut process]).await?;
    assert_eq!(contents(&topology, 0).await?, "1/of hq/1 2/hq/1 3/of eu/1");

    let mut expected = [100_i64; 4];
    for round in 0..2 {
        let kill = async {
            tokio::time::sleep(Duration::from_millis(400)).await;
            process.kill()
        };
        let (one, other, killed) = tokio::join!(play(&topology, 0, round), play(&topology, 1, round), kill);
        killed?;
        let (one, other) = (one?, other?);
        expected.iter_mut().zip(one).zip(other).for_each(|((sum, one), other)| *sum += one + other);
        process = topology.start(&["run"])?;
    }
    topology.comes_to_rest(&mut [&mut process]).await?;
    process.stop().await?;
    contents(&topology, 0).await?;
    contents(&topology, 1).await?;
    forgets_what_is_gone(&topology).await?.stop().await?;
    let quantities: String =
        sql::value(&mut eu, "SELECT string_agg(menge::text, ' ' ORDER BY artikel) FROM lager").await?;
    assert_eq!(quantities, expected.map(|sum| sum.to_string()).join(" "));

    the_logs_have_own_names(&topology).await?;
    // Nothing was made under the other node's names.
    let tables = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class \
         WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
    assert_eq!(topology.all(tables).await?, ["customers stock", "kunden lager"]);
    topology.finish().await
}

/// Both change the same rows while neither hears of the other.
async fn the_logs_have_own_names(topology: &Topology) -> Result<()> {
    let (mut hq, mut eu) = (topology.connect(0).await?, topology.connect(1).await?);
    sql::execute(&mut hq, "INSERT INTO customers VALUES (100, 'first', 0)").await?;
    sql::execute(&mut hq, "UPDATE stock SET quantity = quantity + 1, note = 'first' WHERE sku = 0").await?;
    sql::execute(&mut eu, "INSERT INTO kunden VALUES ('second', 100, 0)").await?;
    sql::execute(&mut eu, "UPDATE lager SET menge = menge + 1, status = 'second' WHERE artikel = 0").await?;
    let mut process = topology.start(&["run"])?;
    topology.comes_to_rest(&mut [&mut process]).await?;
    ensure!(contents(topology, 0).await?.contains("100/second/0"));
    // hq has the higher priority.
    ensure!(contents(topology, 1).await?.starts_with("0/") && contents(topology, 1).await?.contains("/first "));

    let last = "SELECT concat_ws(' ', table_name, key, source_value, target_value) FROM _syncline.sync_conflicts \
         WHERE field IS NULL AND table_name IN ('public.customers', 'public.kunden') ORDER BY timestamp DESC LIMIT 1";
    let found = topology.all(last).await?;
    ensure!(
        found[0].starts_with("public.customers {\"id\": 100}") && found[0].contains("\"full_name\": \"***\""),
        "{found:?}"
    );
    ensure!(
        found[1].starts_with("public.kunden {\"kunden_nr\": 100}") && found[1].contains("\"name\": \"***\""),
        "{found:?}"
    );
    let fields = "SELECT concat_ws(' ', table_name, field, strategy) FROM _syncline.sync_conflicts \
         WHERE field IN ('note', 'status') AND key IN ('{\"sku\": 0}', '{\"artikel\": 0}') ORDER BY timestamp DESC LIMIT 1";
    let found = topology.all(fields).await?;
    assert_eq!(found, ["public.stock note custom_rules", "public.lager status custom_rules"]);

    // Asked by the shared name, both nodes answer.
    let list = ["conflicts", "list", "--table", "customers", "--limit", "2"];
    let text = topology.start(&list)?.expect_exit(0, sync::PATIENCE).await?;
    sync::says(&text, &["public.customers", "public.kunden"])?;
    let id: String = sql::value(
        &mut eu,
        "SELECT id FROM _syncline.sync_conflicts WHERE table_name = 'public.lager' AND field = 'status' \
         ORDER BY timestamp DESC LIMIT 1",
    )
    .await?;
    let explain = ["conflicts", "explain", "--node", "eu", &id];
    let text = topology.start(&explain)?.expect_exit(0, sync::PATIENCE).await?;
    sync::says(&text, &["column status of public.lager {\"artikel\": 0}", "Rule custom_rules: hq stands before eu"])?;
    process.stop().await?;
    Ok(())
}
