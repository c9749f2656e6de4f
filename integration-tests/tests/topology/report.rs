//! Databases that have rows already: what `run --dry-run` says the first load will do, and what it does then.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use syncline_integration_tests::sql;
use syncline_integration_tests::sync::{self, Sync};
use syncline_integration_tests::topology::Topology;

use crate::gate;

const TABLES: &str = "CREATE TABLE kv (k text PRIMARY KEY, v text, n int); \
     CREATE TABLE stock (shop int, sku bigint, quantity numeric, tags text, note text, PRIMARY KEY (shop, sku))";

/// What the report says.
async fn reported(topology: &Topology, code: i32) -> Result<Value> {
    let log = topology.start(&["run", "--dry-run", "--output", "json"])?.expect_exit(code, sync::PATIENCE).await?;
    // Log lines stand around it.
    let object = log.lines().skip_while(|line| *line != "{").take_while(|line| !line.starts_with("syncline:"));
    let object: Vec<&str> = object.collect();
    let end = object.iter().rposition(|line| *line == "}").context("no object")?;
    Ok(serde_json::from_str(&object[..=end].join("\n"))?)
}

/// The rows of a table at each node, by key.
async fn rows(topology: &Topology, table: &str, key: &str) -> Result<Vec<BTreeMap<String, String>>> {
    let query =
        format!("SELECT coalesce(json_object_agg(concat_ws('/', {key}), t::text), '{{}}')::text FROM {table} AS t");
    let all = topology.all(&query).await?;
    all.iter().map(|text| Ok(serde_json::from_str(text)?)).collect()
}

#[tokio::test]
async fn the_report_before_a_first_load_tells_the_truth() -> Result<()> {
    let _servers = gate::shared().await;
    let mut topology = Topology::create("first", &["hq", "eu"], &["kv", "stock"], TABLES).await?;
    topology.rules = [
        "strategy: last_write_wins",
        "priority: [eu, hq]",
        "tables:",
        "  stock:",
        "    strategy: custom_rules",
        "    custom_rules: [{field: quantity, strategy: sum}, {field: tags, strategy: concat_unique}]",
    ]
    .map(str::to_owned)
    .to_vec();
    let (mut hq, mut eu) = (topology.connect(0).await?, topology.connect(1).await?);
    // Keys that servers with other locales would order otherwise, and more rows than come at once.
    let many = "INSERT INTO kv SELECT 'k' || i, 'same', i FROM generate_series(1, 3000) AS i";
    sql::execute(&mut hq, many).await?;
    sql::execute(&mut eu, many).await?;
    sql::execute(
        &mut hq,
        "INSERT INTO kv VALUES ('a', 'hq', 1), ('B', 'hq', 1), ('ä', 'hq', 1), ('_', 'hq', 1), ('Z z', 'hq', 2); \
         INSERT INTO stock VALUES (1, 10, 5, 'x', 'same'), (1, 9, 7, 'b,a', 'hq'), (2, -1, NULL, NULL, 'hq'), \
         (3, 1, 1.5, 'b,a', 'same')",
    )
    .await?;
    sql::execute(
        &mut eu,
        "INSERT INTO kv VALUES ('b', 'eu', 1), ('B', 'eu', 1), ('ä', 'eu', 1), ('Z z', 'hq', 2); \
         INSERT INTO stock VALUES (1, 10, 5, 'x', 'same'), (1, 9, 8, 'c', 'eu'), (2, 1, 1, 't', 'eu'), \
         (3, 1, 1.5, 'b,a', 'same')",
    )
    .await?;
    let before = [rows(&topology, "kv", "k").await?, rows(&topology, "stock", "shop, sku").await?];

    let report = reported(&topology, 0).await?;
    let (kv, stock) = (&report["tables"][0], &report["tables"][1]);
    ensure!(report["ok"] == true && kv["table"] == "public.kv" && stock["table"] == "public.stock", "{report:#}");
    assert_eq!((&kv["equal"], &kv["differ"], &kv["rows"]), (&json!(3001), &json!(2), &json!(3006)), "{kv:#}");
    assert_eq!((&kv["nodes"]["hq"]["rows"], &kv["nodes"]["hq"]["only_here"]), (&json!(3005), &json!(2)), "{kv:#}");
    assert_eq!((&kv["nodes"]["eu"]["rows"], &kv["nodes"]["eu"]["only_here"]), (&json!(3004), &json!(1)), "{kv:#}");
    assert_eq!((&kv["nodes"]["hq"]["wins"], &kv["nodes"]["eu"]["wins"]), (&json!(0), &json!(2)), "{kv:#}");
    assert_eq!(kv["differ_examples"], json!([{"k": "B"}, {"k": "ä"}]));
    assert_eq!((&stock["equal"], &stock["differ"]), (&json!(2), &json!(1)), "{stock:#}");
    let columns = stock["columns"].as_array().context("columns")?;
    let combined =
        |column: &str| columns.iter().find(|found| found["column"] == column).map(|found| &found["combined"]);
    assert_eq!((combined("tags"), combined("quantity")), (Some(&json!(1)), Some(&json!(0))), "{stock:#}");
    let text = topology.start(&["run", "--dry-run"])?.expect_exit(0, sync::PATIENCE).await?;
    sync::says(
        &text,
        &[
            "public.kv (rule last_write_wins)",
            "The first load inserts 1 at hq and 2 at eu, and overwrites 2 at hq; then every node has 3006 rows.",
        ],
    )?;
    ensure!(!text.contains("same") && !text.contains("'hq'"), "{text}");

    // Nothing has been made anywhere.
    assert_eq!(before, [rows(&topology, "kv", "k").await?, rows(&topology, "stock", "shop, sku").await?]);
    let made = "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = '_syncline')::text || \
                (SELECT count(*) FROM pg_publication) || \
                (SELECT count(*) FROM pg_replication_slots WHERE database = current_database())";
    assert_eq!(topology.all(made).await?, ["000", "000"]);

    let mut process = topology.start(&["run"])?;
    // Before the first record comes nothing moves either.
    let has_begun = async || {
        let counts =
            topology.all("SELECT concat_ws(' ', (SELECT count(*) FROM kv), (SELECT count(*) FROM stock))").await;
        counts.is_ok_and(|counts| counts.iter().all(|count| count == "3006 5"))
    };
    sync::wait_until("every node has all rows", has_begun).await?;
    topology.comes_to_rest(&mut [&mut process]).await?;
    topology.check("kv").await?;
    topology.check("stock").await?;
    let after = [rows(&topology, "kv", "k").await?, rows(&topology, "stock", "shop, sku").await?];
    for (table, (before, after)) in [kv, stock].into_iter().zip(before.iter().zip(&after)) {
        for (name, (before, after)) in ["hq", "eu"].into_iter().zip(before.iter().zip(after)) {
            let told = &table["nodes"][name];
            let inserted = after.keys().filter(|key| !before.contains_key(*key)).count();
            let overwritten = before.iter().filter(|(key, row)| after.get(*key) != Some(row)).count();
            assert_eq!(told["to_insert"], json!(inserted), "{name}: {table:#}");
            assert_eq!(told["to_overwrite"], json!(overwritten), "{name}: {table:#}");
            assert_eq!(table["rows"], json!(after.len()), "{name}: {table:#}");
        }
    }
    process.stop().await?;
    // From now on rows have stamps, and the report says so.
    let report = reported(&topology, 0).await?;
    sync::says(&report["tables"][0]["notes"].to_string(), &["hq has compared changes", "eu has compared changes"])?;
    topology.finish().await
}

/// What keeps nodes from being joined is told before anything is made, also what `check` does not see.
#[tokio::test]
async fn the_report_tells_what_cannot_be_joined() -> Result<()> {
    let _servers = gate::shared().await;
    let text = "CREATE TABLE kv (k int PRIMARY KEY, v text, n int); CREATE TABLE ok (k int PRIMARY KEY, v text); \
                CREATE TABLE sums (k int PRIMARY KEY, n int); INSERT INTO ok VALUES (1, 'a')";
    let mut topology = Topology::create("unfit", &["hq", "eu"], &["kv", "ok", "sums"], text).await?;
    topology.rules =
        ["tables:", "  sums: {strategy: custom_rules, custom_rules: [{field: n, strategy: concat_unique}]}"]
            .map(str::to_owned)
            .to_vec();
    let mut eu = topology.connect(1).await?;
    sql::execute(
        &mut eu,
        "ALTER TABLE kv ALTER n TYPE bigint, DROP v, REPLICA IDENTITY DEFAULT; CREATE UNIQUE INDEX extra ON ok (v)",
    )
    .await?;
    let report = reported(&topology, 1).await?;
    let faults = report["faults"].to_string();
    sync::says(&faults, &["eu", "ALTER TABLE", "REPLICA IDENTITY FULL"])?;
    let of = |index: usize| report["tables"][index]["faults"].to_string();
    sync::says(&of(0), &["column v is at hq and not at eu", "column n is integer at hq and bigint at eu"])?;
    sync::says(&of(1), &["at eu: ", "unique index extra"])?;
    sync::says(&of(2), &["concat_unique takes text"])?;
    assert_eq!(report["tables"][1]["equal"], json!(1), "{report:#}");

    sql::execute(&mut eu, "DROP TABLE ok").await?;
    let report = reported(&topology, 1).await?;
    sync::says(&report["faults"].to_string(), &["\\\"ok\\\" matches no table"])?;
    topology.finish().await
}

#[tokio::test]
async fn one_way_there_is_nothing_to_compare() -> Result<()> {
    let _servers = gate::shared().await;
    let sync = Sync::create("dry", &["t"]).await?;
    sync.refused(&["run", "--dry-run"], 2, &["no `nodes`", "syncline check"]).await?;
    sync.finish().await
}
