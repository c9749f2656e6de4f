//! What measurements on the development stack share: its databases, the program under `SYNCLINE_BIN`, lines of results.
#![expect(clippy::print_stdout, reason = "measurements talk to a person")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use syncline_runtime::kafka::Admin;
use syncline_runtime::settings::KafkaSettings;

/// The database on each server, and what names begin with.
pub const NAME: &str = "syncline_bench";

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What a program took.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// From its start to its end.
    pub seconds: f64,
    /// CPU seconds.
    pub cpu: f64,
    /// The most memory it held, in bytes.
    pub peak: u64,
}

impl Took {
    /// Without what its start and its end took.
    #[must_use]
    pub fn less(self, idle: Self) -> Self {
        let (seconds, cpu) = (self.seconds - idle.seconds, self.cpu - idle.cpu);
        Self { seconds: seconds.max(0.001), cpu: cpu.max(0.0), peak: self.peak }
    }
}

/// Prints what the lines below show.
pub fn heading() {
    println!("{:<34} {:>10} {:>8} {:>12} {:>9}", "", "changes/s", "ratio", "CPU s/M", "peak MB");
}

/// Prints how `changes` went.
pub fn line(what: &str, changes: f64, seconds: f64, ratio: Option<f64>, took: Option<Took>) {
    let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
    let (cpu, peak) = took.map_or_else(
        || ("-".to_owned(), "-".to_owned()),
        |took| (format!("{:.1}", took.cpu / changes * 1e6), (took.peak / 1_048_576).to_string()),
    );
    println!("{what:<34} {:>10.0} {ratio:>8} {cpu:>12} {peak:>9}", changes / seconds);
}

/// A measurement's size, from `BENCH_ROWS`.
///
/// # Errors
///
/// Not a number.
pub fn rows(default: u32) -> Result<u32> {
    std::env::var("BENCH_ROWS").map_or(Ok(default), |text| text.parse()).context("BENCH_ROWS")
}

/// A variable of the development stack.
///
/// # Errors
///
/// It is not set.
pub fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: eval \"$(dev/stack env)\", or use `make`"))
}

/// The address of a database on the server that a variable names.
///
/// # Errors
///
/// As [`variable`].
pub fn address(server: &str, database: &str) -> Result<String> {
    let address = variable(server)?;
    let (server, _) = address.rsplit_once('/').context("an address without a database")?;
    Ok(format!("{server}/{database}"))
}

/// Makes a database anew and connects to it.
///
/// # Errors
///
/// The server refuses, or cannot be reached.
pub async fn fresh(server: &str, database: &str) -> Result<PgConnection> {
    let mut conn = drop_database(server, database).await?;
    execute(&mut conn, &format!("CREATE DATABASE {database} OWNER syncline")).await?;
    Ok(PgConnection::connect(&address(server, database)?).await?)
}

/// Removes a database with its slots. Returns the administrator's connection.
///
/// # Errors
///
/// As [`fresh`].
pub async fn drop_database(server: &str, database: &str) -> Result<PgConnection> {
    let mut conn = PgConnection::connect(&variable(&format!("{server}_ADMIN"))?).await?;
    let slots = format!("FROM pg_replication_slots WHERE database = '{database}'");
    execute(&mut conn, &format!("SELECT pg_terminate_backend(active_pid, 5000) {slots} AND active")).await?;
    execute(&mut conn, &format!("SELECT pg_drop_replication_slot(slot_name) {slots}")).await?;
    execute(&mut conn, &format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")).await?;
    Ok(conn)
}

/// Deletes the topics whose names begin with this.
///
/// # Errors
///
/// Kafka cannot be reached, or refuses.
pub async fn delete_topics(prefix: &str) -> Result<()> {
    let settings = KafkaSettings {
        bootstrap_servers: variable("KAFKA_BOOTSTRAP")?,
        partitions: 1,
        replication_factor: 1,
        properties: BTreeMap::new(),
    };
    let admin = Admin::connect(&settings).await?;
    for topic in admin.topics().await?.keys().filter(|topic| topic.starts_with(prefix)) {
        admin.delete_topic(topic).await?;
    }
    Ok(())
}

/// Runs statements.
///
/// # Errors
///
/// The database's.
pub async fn execute(conn: &mut PgConnection, text: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(conn).await?;
    Ok(())
}

/// Writes a sync file: its name, the stack's Kafka and registry, and the rest as given.
///
/// # Errors
///
/// As [`variable`], and the file system's.
pub fn sync_file(folder: &Path, name: &str, rest: &str) -> Result<PathBuf> {
    let file = folder.join(format!("{name}.yaml"));
    let text = format!(
        "name: {name}\nkafka:\n  bootstrap_servers: {}\n  partitions: 4\nschema_registry:\n  url: {}\n{rest}",
        variable("KAFKA_BOOTSTRAP")?,
        variable("SCHEMA_REGISTRY_URL")?,
    );
    std::fs::write(&file, text)?;
    Ok(file)
}

/// Writes a sync file that takes table `t` of one database to another.
///
/// # Errors
///
/// As [`sync_file`].
pub fn one_way_file(folder: &Path, name: &str, source: &str, target: &str) -> Result<PathBuf> {
    let rest = format!(
        "source:\n  type: postgresql\n  connection: {source}\ntarget:\n  type: postgresql\n  connection: {target}\n\
         cdc_config:\n  postgresql:\n    tables: [t]\n"
    );
    sync_file(folder, name, &rest)
}

/// Runs a command of the program, with a sync file and `--until-caught-up`, to its end.
///
/// # Errors
///
/// It fails, or does not end.
pub fn syncline(file: &Path, command: &[&str]) -> Result<Took> {
    let begin = Instant::now();
    let mut child = Command::new(variable("SYNCLINE_BIN")?)
        .args(command)
        .args(["--until-caught-up", "-f"])
        .arg(file)
        .env("SYNCLINE_LOG", "error")
        .stdin(Stdio::null())
        .spawn()?;
    let (mut cpu, mut peak) = (0.0, 0);
    loop {
        (cpu, peak) = usage(child.id()).unwrap_or((cpu, peak));
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "syncline {} ended with {status}", command.join(" "));
            return Ok(Took { seconds: begin.elapsed().as_secs_f64(), cpu, peak });
        }
        ensure!(begin.elapsed() < PATIENCE, "syncline {} does not end", command.join(" "));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// CPU seconds and peak memory in bytes of a process, from `/proc`; an ended one has none.
///
/// # Errors
///
/// There is no such process.
pub fn usage(id: u32) -> Result<(f64, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    let (_, fields) = stat.rsplit_once(") ").context("no process name in stat")?;
    let ticks: u32 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok((f64::from(ticks) / 100.0, peak.trim().trim_end_matches(" kB").parse::<u64>()? * 1024))
}
