//! Several writable databases under test: `syncline` with a file of nodes, and an application on each of them.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sqlx::PgConnection;
use syncline_runtime::settings::DatabaseSettings;
use tempfile::TempDir;

use crate::database::{self, Database};
use crate::process::{Process, tail};
use crate::random::Random;
use crate::sync::{drop_slots, login, owned_database};
use crate::{records, sql, stack};

/// Of each topic.
const PARTITIONS: usize = 3;

/// How long anything may take that takes seconds.
const PATIENCE: Duration = Duration::from_secs(150);

/// A topology under test. Its nodes have the same tables, unless a test gives one of them other names.
pub struct Topology {
    /// Its name; also what topics, slots and the consumer group begin with.
    pub name: String,
    /// The nodes, in the order of the file.
    pub nodes: Vec<Node>,
    /// Lines of `conflict_resolution`.
    pub rules: Vec<String>,
    /// Lines of `conflict_log`.
    pub log: Vec<String>,
    directory: TempDir,
    logs: Mutex<Vec<std::path::PathBuf>>,
    finished: bool,
}

/// One of the databases.
pub struct Node {
    /// Its name.
    pub name: String,
    /// How its application reaches it.
    pub role: DatabaseSettings,
    /// The port on this machine where `syncline` reaches it, if it is another one.
    pub port: Option<u16>,
    /// The tables that are captured.
    pub tables: Vec<String>,
    /// Lines of `table_mappings`.
    pub mappings: Vec<String>,
    database: Option<Database>,
}

impl Topology {
    /// Makes a database for each of `nodes`, on two servers in turn, and prepares it with `text`. The first is the hub
    /// where there are more than two.
    ///
    /// # Errors
    ///
    /// The stack is not up.
    pub async fn create(name: &str, nodes: &[&str], tables: &[&str], text: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut topology = Self {
            name: format!("n{}_{number}_{name}", std::process::id()),
            nodes: Vec::new(),
            rules: Vec::new(),
            log: Vec::new(),
            directory: tempfile::tempdir()?,
            logs: Mutex::new(Vec::new()),
            finished: false,
        };
        for (index, node) in nodes.iter().enumerate() {
            let server = if index % 2 == 0 { "SOURCE_PG" } else { "TARGET_PG" };
            let (role, database) = owned_database(server, &format!("{name}_{node}")).await?;
            let mut admin = database.connect().await?;
            allow_replica_role(&mut admin, &role.username).await?;
            let mut conn = database::connect(&role).await?;
            sql::execute(&mut conn, text).await?;
            for table in tables {
                sql::execute(&mut conn, format!("ALTER TABLE {table} REPLICA IDENTITY FULL")).await?;
            }
            let tables = tables.iter().map(|table| (*table).to_owned()).collect();
            let (name, database) = ((*node).to_owned(), Some(database));
            topology.nodes.push(Node { name, role, port: None, tables, mappings: Vec::new(), database });
        }
        Ok(topology)
    }

    /// A connection as the application of a node has it.
    ///
    /// # Errors
    ///
    /// The server refuses.
    pub async fn connect(&self, node: usize) -> Result<PgConnection> {
        database::connect(&self.nodes[node].role).await
    }

    /// The sync file's text.
    ///
    /// # Errors
    ///
    /// The stack's addresses are missing.
    pub fn file(&self) -> Result<String> {
        let name = &self.name;
        let mut text = format!(
            "name: {name}\nkafka:\n  bootstrap_servers: {}\n  topic_prefix: {name}\n  consumer_group: {name}\n  \
             partitions: {PARTITIONS}\nschema_registry:\n  url: {}\n",
            stack::variable("KAFKA_BOOTSTRAP")?,
            stack::variable("SCHEMA_REGISTRY_URL")?
        );
        let (first, kind) = (&self.nodes[0].name, self.nodes.len() > 2);
        if kind {
            writeln!(text, "topology: hub_and_spoke\nhub: {first}")?;
        } else {
            writeln!(text, "topology: bidirectional")?;
        }
        writeln!(text, "nodes:")?;
        for node in &self.nodes {
            let (user, password) = login(&node.role);
            writeln!(
                text,
                "  {}:\n    type: postgresql\n    host: {}\n    port: {}\n    database: {}\n    username: {user}\n    \
                 password: '{password}'\n    tables: [{}]",
                node.name,
                node.role.host,
                node.port.unwrap_or(node.role.port),
                node.role.database,
                node.tables.join(", ")
            )?;
            if !node.mappings.is_empty() {
                writeln!(text, "    table_mappings:")?;
                node.mappings.iter().try_for_each(|line| writeln!(text, "      {line}"))?;
            }
        }
        for (section, lines) in [("conflict_resolution:", &self.rules), ("conflict_log:", &self.log)] {
            if !lines.is_empty() {
                writeln!(text, "{section}")?;
                lines.iter().try_for_each(|line| writeln!(text, "  {line}"))?;
            }
        }
        Ok(text)
    }

    /// Starts `syncline <arguments> -f <the file>`.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start(&self, arguments: &[&str]) -> Result<Process> {
        let mut logs = self.logs.lock().expect("no holder of this lock panics");
        // A file of its own: the one that was started before may still be reading.
        let path = self.directory.path().join(format!("{}.yaml", logs.len()));
        std::fs::write(&path, self.file()?)?;
        let log = self.directory.path().join(format!("{}-{}.log", logs.len(), arguments.join("-")));
        let path = path.to_str().context("a temporary folder with an odd name")?;
        let all: Vec<&str> = arguments.iter().copied().chain(["-f", path]).collect();
        let process =
            Process::start(&format!("syncline {}", arguments.join(" ")), &stack::program()?, &all, &[], &log)?;
        logs.push(log);
        Ok(process)
    }

    /// What a query gives on each node, as text.
    ///
    /// # Errors
    ///
    /// A server refuses.
    pub async fn all(&self, query: &str) -> Result<Vec<String>> {
        all(&self.roles(), query).await
    }

    /// Runs all nodes until nothing moves any more.
    ///
    /// # Errors
    ///
    /// They do not come to rest.
    pub async fn catches_up(&self) -> Result<()> {
        let mut process = self.start(&["run"])?;
        self.comes_to_rest(&mut [&mut process]).await?;
        process.stop().await
    }

    /// [`comes_to_rest`], with these nodes.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn comes_to_rest(&self, processes: &mut [&mut Process]) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            comes_to_rest(&self.roles(), processes).await?;
            if self.is_all_taken().await? {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "not all nodes have taken all records after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Whether every node has taken all records of all nodes, of every partition: one that has just been started may have
    /// to wait for its partitions, and nothing moves before that either.
    async fn is_all_taken(&self) -> Result<bool> {
        for origin in &self.nodes {
            for table in &origin.tables {
                let topic = format!("{}.{}.public.{table}", self.name, origin.name);
                let records = records::count(&topic).await?;
                let taken = format!(
                    "SELECT concat_ws(' of ', coalesce(sum(next_offset), 0), count(*)) FROM _syncline.progress \
                     WHERE topic = '{topic}'"
                );
                let all = format!("{records} of {PARTITIONS}");
                if self.all(&taken).await?.iter().any(|taken| *taken != all) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn roles(&self) -> Vec<&DatabaseSettings> {
        self.nodes.iter().map(|node| &node.role).collect()
    }

    /// Fails unless all nodes hold the same rows of a table.
    ///
    /// # Errors
    ///
    /// They differ.
    pub async fn check(&self, table: &str) -> Result<Vec<String>> {
        let query = format!("SELECT string_agg(t::text, ' ' ORDER BY t::text) FROM {table} AS t");
        let rows = self.all(&query).await?;
        for (node, other) in self.nodes.iter().zip(&rows) {
            ensure!(
                *other == rows[0],
                "{table} differs:\n{}: {}\n{}: {}",
                self.nodes[0].name,
                difference(&rows[0], other),
                node.name,
                difference(other, &rows[0])
            );
        }
        Ok(rows)
    }

    /// Makes random changes of few rows on one node: `kv (k int primary key, v text, n int)`.
    ///
    /// # Errors
    ///
    /// The server refuses.
    pub async fn play(&self, node: usize, seed: u64, changes: u64) -> Result<()> {
        let mut random = Random::new(seed * 31 + node as u64);
        let mut conn = self.connect(node).await?;
        let label = &self.nodes[node].name;
        for number in 0..changes {
            let key = random.below(12);
            let value = format!("{label}-{seed}-{number}");
            let write = format!(
                "INSERT INTO kv VALUES ({key}, '{value}', {number}) ON CONFLICT (k) DO UPDATE SET v = EXCLUDED.v, n = kv.n + 1"
            );
            let text = match random.below(12) {
                0..=5 => write,
                6..=7 => format!("UPDATE kv SET v = v || '.', n = n + 1 WHERE k = {key}"),
                8 => format!("DELETE FROM kv WHERE k = {key}"),
                9 => format!("BEGIN; SAVEPOINT s; {write}; RELEASE s; UPDATE kv SET n = n + 1 WHERE k = {key}; COMMIT"),
                10 => format!("BEGIN; {write}; DELETE FROM kv WHERE k = {key}; COMMIT"),
                _ => format!("BEGIN; {write}; ROLLBACK"),
            };
            sql::execute(&mut conn, text).await?;
            tokio::time::sleep(Duration::from_millis(random.below(15))).await;
        }
        Ok(())
    }

    /// Ends the scenario: databases, slots and topics go.
    ///
    /// # Errors
    ///
    /// They cannot be removed.
    pub async fn finish(mut self) -> Result<()> {
        self.finished = true;
        self.remove().await
    }

    async fn remove(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            if let Some(database) = node.database.take() {
                drop_slots(&database).await?;
                database.remove().await?;
            }
        }
        let prefix = format!("{}.", self.name);
        stack::delete_topics(|topic| topic.starts_with(&prefix)).await?;
        Ok(())
    }
}

/// Lets a role keep triggers still, as a node's has to; `admin` is the server's administrator.
///
/// # Errors
///
/// The server refuses.
pub async fn allow_replica_role(admin: &mut PgConnection, role: &str) -> Result<()> {
    let grant = format!("GRANT SET ON PARAMETER session_replication_role TO {role}");
    // Two that are granted at once get into each other's way.
    while let Err(error) = sql::execute(admin, grant.as_str()).await {
        let text = format!("{error:#}");
        ensure!(text.contains("unique constraint") || text.contains("concurrently updated"), error);
    }
    Ok(())
}

/// Waits until nothing moves any more: how far `nodes` are with all topics stands still for a while, and nothing waits.
/// This is also the proof that nothing goes round in circles.
///
/// # Errors
///
/// It goes on, or one of `processes` has ended.
pub async fn comes_to_rest(nodes: &[&DatabaseSettings], processes: &mut [&mut Process]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let (mut last, mut still) = (None, Instant::now());
    loop {
        for process in processes.iter_mut() {
            process.expect_running()?;
        }
        let now = position(nodes).await?;
        // A node that has not started yet stands still, too.
        if last.as_ref() != Some(&now) || now.iter().any(String::is_empty) {
            (last, still) = (Some(now), Instant::now());
        } else if still.elapsed() > Duration::from_secs(4) {
            let waiting = all(nodes, "SELECT count(*)::text FROM _syncline.waiting").await?;
            if waiting.iter().all(|count| count == "0") {
                return Ok(());
            }
        }
        ensure!(Instant::now() < deadline, "it has not come to rest after {PATIENCE:?}: {last:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// How far all nodes are with all topics.
async fn position(nodes: &[&DatabaseSettings]) -> Result<Vec<String>> {
    let query = "SELECT string_agg(concat_ws('/', topic, partition, next_offset, stopped), ' ' \
         ORDER BY topic, partition) FROM _syncline.progress";
    let mut answers = Vec::with_capacity(nodes.len());
    for node in nodes {
        let mut conn = database::connect(node).await?;
        // It is not there before the consumer's start.
        let answer = sql::value::<Option<String>>(&mut conn, query).await;
        answers.push(answer.ok().flatten().unwrap_or_default());
    }
    Ok(answers)
}

async fn all(nodes: &[&DatabaseSettings], query: &str) -> Result<Vec<String>> {
    let mut answers = Vec::with_capacity(nodes.len());
    for node in nodes {
        let mut conn = database::connect(node).await?;
        answers.push(sql::value::<Option<String>>(&mut conn, query).await?.unwrap_or_default());
    }
    Ok(answers)
}

/// The words that only the first text has.
fn difference(one: &str, other: &str) -> String {
    let words: Vec<&str> = one.split(' ').filter(|word| !other.split(' ').any(|others| others == *word)).collect();
    words.join(" ")
}

impl Drop for Topology {
    /// A scenario that failed: shows the ends of all logs and leaves no slot behind.
    #[expect(clippy::print_stdout, reason = "only print! is captured and shown with the test that failed")]
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        for log in self.logs.lock().expect("no holder of this lock panics").iter() {
            println!("--- {}\n{}", log.display(), tail(&std::fs::read_to_string(log).unwrap_or_default()));
        }
        let removed =
            std::thread::scope(|scope| scope.spawn(|| tokio::runtime::Runtime::new()?.block_on(self.remove())).join());
        if let Ok(Err(error)) = removed {
            println!("--- could not clean up: {error:#}");
        }
    }
}
