//! The demonstrations behind `make demo-bidirectional` and `make demo-hub-and-spoke`: databases that are all written to,
//! the same rows at the same moment, and a verdict.
//!
//! Argument: the name of a file of docs/examples. Environment: the addresses of `dev/stack env`; `DEMO_SECONDS` for how
//! long it is played; `KEEP=1` to leave everything running until Ctrl-C.
#![expect(clippy::print_stdout, reason = "this program talks to a person")]

mod load;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures_util::future::try_join_all;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use syncline_integration_tests::compare::{self, Name};
use syncline_integration_tests::process::{Process, tail};
use syncline_integration_tests::random::Random;
use syncline_integration_tests::stage::{self, log_file, number, step};
use syncline_integration_tests::{database, sql, stack, topology};
use syncline_runtime::kafka::Admin;
use syncline_runtime::settings::DatabaseSettings;

use load::TABLES;

const PATIENCE: Duration = Duration::from_secs(120);
/// Rows of each table at the first node before the start, and at each of the others.
const ROWS: (u64, u64) = (100, 10);
/// So few rows are changed that all nodes meet at them.
const CONTESTED: u64 = 40;

/// A file of docs/examples, and where its nodes are on the development stack.
struct Example {
    name: &'static str,
    /// What its topics begin with.
    prefix: &'static str,
    /// Node, server, database; the first is the hub.
    nodes: &'static [(&'static str, &'static str, &'static str)],
}

const EXAMPLES: [Example; 2] = [
    Example {
        name: "bidirectional",
        prefix: "shop.",
        nodes: &[("hq", "SOURCE_PG", "shop"), ("eu", "TARGET_PG", "shop_eu")],
    },
    Example {
        name: "hub-and-spoke",
        prefix: "shops.",
        nodes: &[
            ("hq", "SOURCE_PG", "shop"),
            ("berlin", "TARGET_PG", "shop_berlin"),
            ("lisbon", "SOURCE_PG", "shop_lisbon"),
        ],
    },
];

#[tokio::main]
async fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let Some(example) = EXAMPLES.iter().find(|example| example.name == wanted) else {
        println!("usage: demo-nodes bidirectional | hub-and-spoke");
        return ExitCode::from(2);
    };
    let handed_over = AtomicBool::new(false);
    stage::present(Box::pin(demo(example, &handed_over)), &handed_over, remove(example)).await
}

async fn demo(example: &Example, handed_over: &AtomicBool) -> Result<()> {
    let length = Duration::from_secs(number("DEMO_SECONDS", 5)?);
    let names: Vec<&str> = example.nodes.iter().map(|node| node.0).collect();
    step(&format!("{} empty databases ({}), no topics", names.len(), names.join(", ")));
    remove(example).await?;
    let mut nodes = Vec::new();
    for &(name, server, database) in example.nodes {
        nodes.push(Node::create(name, server, database).await?);
    }
    step(&format!(
        "{} rows at {}, {} at each other node, one of them a different one with the same key",
        ROWS.0 * 3,
        names[0],
        ROWS.1 * 3 + 1
    ));
    for (place, node) in nodes.iter_mut().enumerate() {
        node.fill(place).await?;
    }

    let file = format!("docs/examples/{}.yaml", example.name);
    step(&format!("syncline run -f {file}"));
    let log = log_file(&format!("demo-{}", example.name));
    let mut sync = start(&file, &nodes, &log)?;
    let work = async {
        first_copy(&mut nodes, &mut sync).await?;
        if stage::keep() {
            handed_over.store(true, Ordering::Relaxed);
            return leave_running(&mut nodes, &mut sync, &log).await;
        }
        step(&format!("all nodes change the same rows at the same moment, for {} s", length.as_secs()));
        play(&mut nodes, &mut sync, Some(length)).await?;
        step("nobody writes any more; waiting until nothing moves");
        settle(example, &mut nodes, &mut sync).await
    };
    if let Err(error) = work.await {
        println!("\n--- end of {}\n{}", log.display(), tail(&sync.log()));
        return Err(error);
    }
    sync.stop().await?;
    for node in &mut nodes {
        show_conflicts(node).await?;
    }
    step("comparing all nodes, row by row");
    verdict(&mut nodes)
        .await
        .with_context(|| format!("the databases stay for a look at them, and {}", log.display()))?;
    // As it was found, so that the next one to use the stack does not meet half of a sync.
    remove(example).await?;
    std::fs::remove_file(log).ok();
    let names = names.join(", ");
    println!("\nEQUAL: all nodes ({names}) hold the same rows.");
    Ok(())
}

/// Removes what the demo has made. The stack's own databases stay, empty.
async fn remove(example: &Example) -> Result<()> {
    for &(_, server, database) in example.nodes {
        let own = stack::server(server)?;
        let admin = format!("{server}_ADMIN");
        if own.database == database {
            stage::fresh_database(&admin, &own).await?;
        } else {
            stage::drop_database(&admin, &DatabaseSettings { database: database.to_owned(), ..own }).await?;
        }
    }
    stack::delete_topics(|topic| topic.starts_with(example.prefix)).await?;
    std::fs::remove_file(log_file(&format!("demo-{}", example.name))).ok();
    Ok(())
}

/// A database and its application.
struct Node {
    name: &'static str,
    role: DatabaseSettings,
    conn: PgConnection,
    /// Rows that its application has inserted, updated and deleted.
    changes: u64,
}

impl Node {
    async fn create(name: &'static str, server: &str, database: &str) -> Result<Self> {
        let admin = format!("{server}_ADMIN");
        let role = DatabaseSettings { database: database.to_owned(), ..stack::server(server)? };
        stage::fresh_database(&admin, &role).await?;
        // A stack that was made long ago has not granted it.
        topology::allow_replica_role(&mut stage::administrator(&admin).await?, &role.username).await?;
        let mut conn = database::connect(&role).await?;
        sql::execute(&mut conn, include_str!("../../../../docs/examples/nodes.sql")).await?;
        Ok(Self { name, role, conn, changes: 0 })
    }

    /// The rows from before the start.
    async fn fill(&mut self, place: usize) -> Result<()> {
        let rows = if place == 0 { 0..ROWS.0 } else { 1000 * place as u64..1000 * place as u64 + ROWS.1 };
        for number in rows {
            for table in TABLES {
                let text = load::insert(table, number, self.name, number);
                self.change(text).await?;
            }
        }
        if place > 0 {
            self.change(load::insert("prices", 0, self.name, 1000)).await?;
        }
        Ok(())
    }

    async fn change(&mut self, text: String) -> Result<()> {
        let done = sqlx::query(AssertSqlSafe(text)).execute(&mut self.conn).await;
        self.changes += done.with_context(|| format!("at {}", self.name))?.rows_affected();
        Ok(())
    }
}

/// `syncline run`, with all that either file takes from the environment.
fn start(file: &str, nodes: &[Node], log: &Path) -> Result<Process> {
    // Nobody is told there.
    let mut variables = BTreeMap::from([("SLACK_WEBHOOK_URL".to_owned(), "http://127.0.0.1:9/".to_owned())]);
    for node in nodes {
        let (name, role, password) = (node.name.to_uppercase(), &node.role, stage::password(&node.role));
        let connection =
            format!("postgresql://{}:{password}@{}:{}/{}", role.username, role.host, role.port, role.database);
        variables.insert(format!("{name}_CONNECTION"), connection);
        variables.insert(format!("{name}_PASSWORD"), password.to_owned());
    }
    let environment: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    stage::run(file, &environment, log)
}

/// Waits until the rows from before the start are everywhere.
async fn first_copy(nodes: &mut [Node], sync: &mut Process) -> Result<()> {
    let started = Instant::now();
    while !equal(nodes).await? {
        sync.expect_running()?;
        ensure!(started.elapsed() < PATIENCE, "the nodes' first rows are not everywhere after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("all nodes hold the rows of all after {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

async fn equal(nodes: &mut [Node]) -> Result<bool> {
    let (first, others) = nodes.split_first_mut().context("no nodes")?;
    for other in others {
        for table in TABLES {
            if !compare::equal(&mut first.conn, &mut other.conn, &Name::of(table)).await? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Every round, all nodes at once. Without a length it goes on.
async fn play(nodes: &mut [Node], sync: &mut Process, length: Option<Duration>) -> Result<()> {
    let (begin, mut random) = (Instant::now(), Random::new(2026));
    let mut round = 0;
    while length.is_none_or(|length| begin.elapsed() < length) {
        sync.expect_running()?;
        let (number, value) = (random.below(CONTESTED), random.below(1000));
        let changes = nodes.iter_mut().enumerate().map(|(place, node)| {
            let text = load::statement(round, number, place, node.name, value);
            node.change(text)
        });
        try_join_all(changes).await?;
        round += 1;
        tokio::time::sleep(Duration::from_millis(random.below(40))).await;
    }
    Ok(())
}

/// Waits until nothing moves any more, and says what each node has done.
async fn settle(example: &Example, nodes: &mut [Node], sync: &mut Process) -> Result<()> {
    let begin = Instant::now();
    let roles: Vec<&DatabaseSettings> = nodes.iter().map(|node| &node.role).collect();
    topology::comes_to_rest(&roles, &mut [sync]).await?;
    let kafka = stack::admin().await?;
    // What stands still may also be stuck.
    while let Some(behind) = unread(&kafka, example, nodes).await? {
        sync.expect_running()?;
        ensure!(begin.elapsed() < PATIENCE, "{behind} after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("at rest after {:.1} s", begin.elapsed().as_secs_f64());
    let before = published(&kafka, example, nodes).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = published(&kafka, example, nodes).await?;
    println!("{:<10} {:>16} {:>24}", "node", "rows it changed", "records a second now");
    for ((node, before), after) in nodes.iter().zip(&before).zip(&after) {
        println!("{:<10} {:>16} {:>24}", node.name, node.changes, (after - before) / 2);
    }
    ensure!(before == after, "changes go on without anyone who makes them");
    Ok(())
}

/// Records in the topics of each node's tables.
async fn published(kafka: &Admin, example: &Example, nodes: &[Node]) -> Result<Vec<i64>> {
    let mut counts = Vec::new();
    for node in nodes {
        let mut count = 0;
        for table in TABLES {
            let topic = format!("{}{}.public.{table}", example.prefix, node.name);
            count += kafka.end_offsets(&topic).await?.iter().sum::<i64>();
        }
        counts.push(count);
    }
    Ok(counts)
}

/// Which node has not read all of the topics, if any.
async fn unread(kafka: &Admin, example: &Example, nodes: &mut [Node]) -> Result<Option<String>> {
    let all: i64 = published(kafka, example, nodes).await?.iter().sum();
    let prefix = example.prefix;
    for node in nodes {
        let text = format!(
            "SELECT coalesce(sum(next_offset), 0)::int8 FROM _syncline.progress WHERE starts_with(topic, '{prefix}')"
        );
        let read: i64 = sql::value(&mut node.conn, text).await?;
        if read < all {
            return Ok(Some(format!("{} has read {read} of {all} records", node.name)));
        }
    }
    Ok(None)
}

/// How many conflicts of which type a node has noted, and two of them.
async fn show_conflicts(node: &mut Node) -> Result<()> {
    let log = "_syncline.sync_conflicts";
    let types = format!("SELECT conflict_type, count(*) FROM {log} GROUP BY 1 ORDER BY 2 DESC");
    let mut counts = Vec::new();
    for row in sql::rows(&mut node.conn, types).await? {
        counts.push(format!("{} {}", row.try_get::<i64, _>(1)?, row.try_get::<String, _>(0)?));
    }
    ensure!(!counts.is_empty(), "{} has noted no conflicts", node.name);
    step(&format!("conflicts noted at {}: {}", node.name, counts.join(", ")));
    let examples = format!(
        "SELECT DISTINCT ON (conflict_type) format('%s %s%s: %s by %s', table_name, key, '.' || field, conflict_type, strategy),
           format('arrived from %s: %s', source_origin, coalesce(source_value::text, 'a delete')),
           format('was there from %s: %s', coalesce(target_origin, 'here'), coalesce(target_value::text, 'no row')),
           format('%s: %s', CASE resolution WHEN 'source' THEN 'what arrived stays' ELSE 'what was there stays' END,
             coalesce(result::text, 'no row'))
         FROM {log} ORDER BY conflict_type DESC, \"timestamp\" LIMIT 2"
    );
    for row in sql::rows(&mut node.conn, examples).await? {
        for column in 0..4 {
            println!("{}{}", if column == 0 { "  " } else { "      " }, row.try_get::<String, _>(column)?);
        }
    }
    Ok(())
}

async fn verdict(nodes: &mut [Node]) -> Result<()> {
    let (first, others) = nodes.split_first_mut().context("no nodes")?;
    let mut different = Vec::new();
    for other in others {
        for table in TABLES {
            let pair = format!("{table}, {} and {}", first.name, other.name);
            match compare::check(&mut first.conn, &mut other.conn, &Name::of(table)).await {
                Ok(rows) => println!("{pair:<28} {rows:>6} rows  equal"),
                Err(error) => {
                    println!("{pair:<28} DIFFERENT  {error:#}");
                    different.push(pair);
                }
            }
        }
    }
    if !different.is_empty() {
        bail!("the nodes do not hold the same rows: {}", different.join("; "));
    }
    Ok(())
}

/// Hands over to the person, who ends it by Ctrl-C.
async fn leave_running(nodes: &mut [Node], sync: &mut Process, log: &Path) -> Result<()> {
    println!("\nEverything keeps running, changes of the same rows at all nodes too, until Ctrl-C.");
    for node in nodes.iter() {
        println!("  {:<9} {}", node.name, stage::address(&node.role));
    }
    println!("  {:<9} {}    (syncline is process {})", "log", log.display(), sync.id());
    play(nodes, sync, None).await?;
    Err(anyhow!("the play has ended by itself"))
}
