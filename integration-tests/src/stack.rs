//! The servers that the scenarios use, as `dev/stack env` prints them. A missing address is a failure, never a skip.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use syncline_runtime::kafka::Admin;
use syncline_runtime::settings::{DatabaseSettings, KafkaSettings};

use crate::{database, sql};

/// An environment variable that has to be there.
///
/// # Errors
///
/// It is not set.
pub fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| {
        format!("{name} is not set: run `dev/stack up` and `eval \"$(dev/stack env)\"`, or `make test`")
    })
}

/// What `dev/stack up connect` starts, with the addresses of other servers as its worker sees them.
#[derive(Clone, Debug)]
pub struct Connect {
    /// The worker's REST interface.
    pub url: String,
    /// Kafka's bootstrap servers.
    pub kafka: String,
    /// The registry, without a path: `/apis/ccompat/v7` for Confluent's API, `/apis/registry/v2` for Apicurio's.
    pub registry: String,
    /// `host:port` of the source PostgreSQL.
    pub source_pg: String,
    /// `host:port` of the target PostgreSQL.
    pub target_pg: String,
    /// `host:port` of MariaDB.
    pub mariadb: String,
    /// `host:port` of MySQL.
    pub mysql: String,
    /// The file whose entries `source_password`, `target_password`, `mariadb_password` and `mysql_password` a connector
    /// reads as `${file:<this>:<entry>}`.
    pub secrets: String,
}

/// The Kafka Connect worker.
///
/// # Errors
///
/// The stack runs without it.
pub fn connect() -> Result<Connect> {
    Ok(Connect {
        url: optional("connect", "CONNECT_URL")?,
        kafka: variable("CONNECT_KAFKA")?,
        registry: variable("CONNECT_REGISTRY")?,
        source_pg: variable("CONNECT_SOURCE_PG")?,
        target_pg: variable("CONNECT_TARGET_PG")?,
        mariadb: variable("CONNECT_MARIADB")?,
        mysql: variable("CONNECT_MYSQL")?,
        secrets: variable("CONNECT_SECRETS")?,
    })
}

/// The address `mysql://root:…@host:port/shop` of the MariaDB server, as its administrator.
///
/// # Errors
///
/// The stack runs without it.
pub fn mariadb() -> Result<String> {
    optional("mariadb", "MARIADB_ADMIN")
}

/// The address `mysql://root:…@host:port/shop` of the MySQL server, as its administrator.
///
/// # Errors
///
/// The stack runs without it.
pub fn mysql() -> Result<String> {
    optional("mysql", "MYSQL_ADMIN")
}

fn optional(server: &str, name: &str) -> Result<String> {
    std::env::var(name).with_context(|| {
        format!(
            "{name} is not set: this test needs {server}. Run `dev/stack up {server}` and \
             `eval \"$(dev/stack env)\"` once more, or `make test`"
        )
    })
}

/// The database server that a variable names.
///
/// # Errors
///
/// The variable is missing or no address.
pub fn server(name: &str) -> Result<DatabaseSettings> {
    database::parse(&variable(name)?).with_context(|| format!("{name} is no address of a PostgreSQL database"))
}

/// Whether the server that a variable names can create an extension: the stack's own servers lack some.
///
/// # Errors
///
/// The server cannot be reached.
pub async fn has_extension(variable: &str, name: &str) -> Result<bool> {
    let mut conn = database::connect(&server(variable)?).await?;
    let known = format!("SELECT count(*) FROM pg_available_extensions WHERE name = '{name}'");
    Ok(sql::value::<i64>(&mut conn, known).await? > 0)
}

/// Says what a test leaves out for want of something that the stack does not promise, past the test harness, which shows
/// the output of failed tests only.
///
/// # Panics
///
/// The error output is closed.
pub fn not_run(what: &str) {
    writeln!(std::io::stderr(), "NOT RUN: {what}").expect("a test has an error output");
}

/// Kafka's bootstrap servers.
///
/// # Errors
///
/// The variable is missing.
pub fn kafka() -> Result<KafkaSettings> {
    let bootstrap_servers = variable("KAFKA_BOOTSTRAP")?;
    Ok(KafkaSettings { bootstrap_servers, partitions: 1, replication_factor: 1, properties: BTreeMap::new() })
}

/// A connection for questions about topics.
///
/// # Errors
///
/// Kafka cannot be reached.
pub async fn admin() -> Result<Admin> {
    Ok(Admin::connect(&kafka()?).await?)
}

/// Deletes the topics that `chosen` picks, and waits until they are gone. Returns their names.
///
/// # Errors
///
/// Kafka cannot be reached, or keeps a topic.
pub async fn delete_topics(chosen: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let admin = admin().await?;
    let names: Vec<String> = admin.topics().await?.into_keys().filter(|name| chosen(name)).collect();
    for name in &names {
        admin.delete_topic(name).await?;
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while admin.topics().await?.keys().any(|name| names.contains(name)) {
        ensure!(Instant::now() < deadline, "kafka keeps topics that were deleted: {names:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(names)
}

/// The program under test: `SYNCLINE_BIN`, else `syncline` of the build that this test belongs to.
///
/// # Errors
///
/// It has not been built.
pub fn program() -> Result<PathBuf> {
    let path = match std::env::var_os("SYNCLINE_BIN") {
        Some(path) => PathBuf::from(path),
        None => {
            let own = std::env::current_exe()?;
            let folder = own.ancestors().find(|folder| folder.ends_with("release") || folder.ends_with("debug"));
            folder.context("this test lies outside of a target folder: set SYNCLINE_BIN")?.join("syncline")
        }
    };
    if !path.is_file() {
        bail!("{} does not exist: run `cargo build --release --workspace`, or set SYNCLINE_BIN", path.display());
    }
    Ok(path)
}

/// The checkout.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."))
}

/// Starts, stops or kills one server of the stack: `dev/stack <what> <name>`. Blocks until it answers or is gone.
///
/// # Errors
///
/// It did not work.
pub fn control(what: &str, name: &str) -> Result<()> {
    variable("SYNCLINE_STACK_DIR")?;
    let output = Command::new(root().join("dev/stack")).args([what, name]).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "dev/stack {what} {name}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
