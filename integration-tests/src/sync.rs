//! One sync with databases, topics and a slot of its own: `syncline` as a person would start it.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sqlx::PgConnection;
use syncline_runtime::settings::DatabaseSettings;
use tempfile::TempDir;

use crate::compare::{self, Name};
use crate::database::{self, Database};
use crate::process::{Process, tail};
use crate::{sql, stack};

/// How long anything may take that takes seconds. Generous: two cores may be shared with other tests.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A sync under test.
pub struct Sync {
    /// Its name; also the slot, the publication, the topic prefix and the consumer group.
    pub name: String,
    /// What the file says where scenarios differ.
    pub options: Options,
    source: Option<Database>,
    target: Option<Database>,
    source_role: DatabaseSettings,
    target_role: DatabaseSettings,
    directory: TempDir,
    logs: Mutex<Vec<std::path::PathBuf>>,
    finished: bool,
}

/// What the sync file says.
#[derive(Debug, Clone)]
pub struct Options {
    /// `cdc_config.postgresql.tables`.
    pub tables: Vec<String>,
    /// `kafka.partitions`.
    pub partitions: u32,
    /// `cdc_config.output_format.type: json`, and no registry.
    pub is_json: bool,
    /// `kafka.bootstrap_servers`, where it is not the stack's.
    pub kafka: Option<String>,
    /// `schema_registry.url`, where it is not the stack's.
    pub registry: Option<String>,
    /// `source.username` and `source.password`, where they are not the stack's ordinary role.
    pub source_login: Option<(String, String)>,
    /// `source.port`, where it is not the stack's.
    pub source_port: Option<u16>,
    /// `target.port`, where it is not the stack's.
    pub target_port: Option<u16>,
    /// Further lines of `sync_settings`.
    pub settings: Vec<String>,
    /// Further lines of `cdc_config.properties`.
    pub properties: Vec<String>,
    /// Further lines of `kafka.properties`.
    pub kafka_properties: Vec<String>,
    /// Lines of `table_mappings`.
    pub mappings: Vec<String>,
}

impl Sync {
    /// Makes an empty source and an empty target; `tables` is what the file lists.
    ///
    /// # Errors
    ///
    /// The stack is not up.
    pub async fn create(name: &str, tables: &[&str]) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (source_role, source) = owned_database("SOURCE_PG", name).await?;
        let (target_role, target) = owned_database("TARGET_PG", name).await?;
        Ok(Self {
            name: format!("t{}_{number}_{name}", std::process::id()),
            options: Options {
                tables: tables.iter().map(|table| (*table).to_owned()).collect(),
                partitions: 3,
                is_json: false,
                kafka: None,
                registry: None,
                source_login: None,
                source_port: None,
                target_port: None,
                settings: Vec::new(),
                properties: Vec::new(),
                kafka_properties: Vec::new(),
                mappings: Vec::new(),
            },
            source: Some(source),
            target: Some(target),
            source_role,
            target_role,
            directory: tempfile::tempdir()?,
            logs: Mutex::new(Vec::new()),
            finished: false,
        })
    }

    /// A connection to the source as the role that owns the database, prepared with `text`.
    ///
    /// # Errors
    ///
    /// The server refuses.
    pub async fn source(&self, text: &str) -> Result<PgConnection> {
        let mut conn = database::connect(&self.source_role).await?;
        if !text.is_empty() {
            sql::execute(&mut conn, text).await?;
        }
        Ok(conn)
    }

    /// A connection to the target as the role that owns the database.
    ///
    /// # Errors
    ///
    /// The server refuses.
    pub async fn target(&self) -> Result<PgConnection> {
        database::connect(&self.target_role).await
    }

    /// A connection to the source as its administrator.
    ///
    /// # Errors
    ///
    /// The server refuses.
    pub async fn source_admin(&self) -> Result<PgConnection> {
        self.source.as_ref().context("finished")?.connect().await
    }

    /// A connection to the target as its administrator.
    ///
    /// # Errors
    ///
    /// The server refuses.
    pub async fn target_admin(&self) -> Result<PgConnection> {
        self.target.as_ref().context("finished")?.connect().await
    }

    /// The source database's name.
    #[must_use]
    pub fn source_database(&self) -> &str {
        &self.source_role.database
    }

    /// The target database's name.
    #[must_use]
    pub fn target_database(&self) -> &str {
        &self.target_role.database
    }

    /// The topic of a table with a plain name.
    #[must_use]
    pub fn topic(&self, table: &str) -> String {
        let Name { schema, table } = Name::of(table);
        format!("{}.{schema}.{table}", self.name)
    }

    /// The sync file's text.
    ///
    /// # Errors
    ///
    /// The stack's addresses are missing.
    pub fn file(&self) -> Result<String> {
        let Options { tables, partitions, kafka, registry, settings, properties, .. } = &self.options;
        let (source, target) = (&self.source_role, &self.target_role);
        let kafka = kafka.clone().map_or_else(|| stack::variable("KAFKA_BOOTSTRAP"), Ok)?;
        let registry = registry.clone().map_or_else(|| stack::variable("SCHEMA_REGISTRY_URL"), Ok)?;
        let registry =
            if self.options.is_json { String::new() } else { format!("schema_registry:\n  url: {registry}\n") };
        let (user, password) = self.options.source_login.clone().unwrap_or_else(|| login(source));
        let name = &self.name;
        let mut text = format!(
            "name: {name}\nkafka:\n  bootstrap_servers: {kafka}\n  topic_prefix: {name}\n  consumer_group: {name}\n  \
             partitions: {partitions}\n"
        );
        section(&mut text, "  properties:", &self.options.kafka_properties, "    ");
        write!(
            text,
            "{registry}source:\n  type: postgresql\n  host: {}\n  port: {}\n  database: {}\n  \
             username: {user}\n  password: '{password}'\n",
            source.host,
            self.options.source_port.unwrap_or(source.port),
            source.database
        )?;
        let (user, password) = login(target);
        write!(
            text,
            "target:\n  type: postgresql\n  host: {}\n  port: {}\n  database: {}\n  username: {user}\n  password: \
             '{password}'\n",
            target.host,
            self.options.target_port.unwrap_or(target.port),
            target.database
        )?;
        section(&mut text, "sync_settings:", settings, "  ");
        write!(text, "cdc_config:\n  postgresql:\n    publication: {name}\n    slot: {name}\n    tables:\n")?;
        for table in tables {
            writeln!(text, "      - '{}'", table.replace('\'', "''"))?;
        }
        if self.options.is_json {
            text.push_str("  output_format:\n    type: json\n");
        }
        section(&mut text, "  properties:", properties, "    ");
        section(&mut text, "table_mappings:", &self.options.mappings, "  ");
        Ok(text)
    }

    /// Starts `syncline <arguments> -f <the file>`.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start(&self, arguments: &[&str]) -> Result<Process> {
        self.start_with(arguments, &self.file()?)
    }

    /// [`Sync::start`] with a file of another text.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start_with(&self, arguments: &[&str], file: &str) -> Result<Process> {
        let mut logs = self.logs.lock().expect("no holder of this lock panics");
        let path = self.directory.path().join(format!("{}.yaml", logs.len()));
        std::fs::write(&path, file)?;
        let log = self.directory.path().join(format!("{}-{}.log", logs.len(), arguments.first().unwrap_or(&"")));
        let mut all: Vec<&str> = arguments.to_vec();
        let path = path.to_str().context("a temporary folder with an odd name")?;
        all.extend(["-f", path]);
        let name = format!("syncline {}", arguments.join(" "));
        let process = Process::start(&name, &stack::program()?, &all, &[], &log)?;
        logs.push(log);
        Ok(process)
    }

    /// `syncline run --until-caught-up`, to its good end.
    ///
    /// # Errors
    ///
    /// It ends otherwise, or not in time.
    pub async fn catch_up(&self) -> Result<String> {
        self.start(&["run", "--until-caught-up"])?.expect_exit(0, PATIENCE).await
    }

    /// Runs a verb that is expected to fail with `code`, and to say all of `words`.
    ///
    /// # Errors
    ///
    /// It does anything else.
    pub async fn refused(&self, arguments: &[&str], code: i32, words: &[&str]) -> Result<String> {
        let log = self.start(arguments)?.expect_exit(code, PATIENCE).await?;
        says(&log, words)?;
        Ok(log)
    }

    /// Fails unless the target holds what the source holds.
    ///
    /// # Errors
    ///
    /// They differ.
    pub async fn check(&self, tables: &[&str]) -> Result<()> {
        let (mut source, mut target) = (self.source("").await?, self.target().await?);
        for table in tables {
            compare::check(&mut source, &mut target, &Name::of(table)).await?;
        }
        Ok(())
    }

    /// Waits until the target holds what the source holds, while something else keeps it in step.
    ///
    /// # Errors
    ///
    /// They still differ after a time, or one of `processes` has ended.
    pub async fn converge(&self, tables: &[&str], processes: &mut [&mut Process]) -> Result<()> {
        let (mut source, mut target) = (self.source("").await?, self.target().await?);
        let deadline = Instant::now() + PATIENCE;
        for table in tables {
            let name = Name::of(table);
            while !compare::equal(&mut source, &mut target, &name).await? {
                for process in processes.iter_mut() {
                    process.expect_running()?;
                }
                if Instant::now() >= deadline {
                    compare::check(&mut source, &mut target, &name).await?;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            compare::check(&mut source, &mut target, &name).await?;
        }
        Ok(())
    }

    /// Waits for a condition in the target: a query that gives one boolean. A table that is missing is waited for.
    ///
    /// # Errors
    ///
    /// It does not come true in time.
    pub async fn target_shows(&self, query: &str) -> Result<()> {
        let mut target = self.target().await?;
        wait_until(query, async || sql::value::<Option<bool>>(&mut target, query).await.ok().flatten() == Some(true))
            .await
    }

    /// `confirmed_flush_lsn` of the slot, and how many bytes of log it lies behind.
    ///
    /// # Errors
    ///
    /// There is no slot.
    pub async fn slot(&self, source: &mut PgConnection) -> Result<(String, i64)> {
        use sqlx::Row;
        let text = format!(
            "SELECT confirmed_flush_lsn::text, (pg_current_wal_lsn() - confirmed_flush_lsn)::int8
             FROM pg_replication_slots WHERE slot_name = '{}'",
            self.name
        );
        let row = sql::rows(source, text).await?.into_iter().next().context("there is no slot")?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    /// Waits until nobody uses the slot: a process that was killed is missed by the server a little later.
    ///
    /// # Errors
    ///
    /// It stays in use.
    pub async fn slot_is_free(&self, source: &mut PgConnection) -> Result<()> {
        let text = format!("SELECT NOT active FROM pg_replication_slots WHERE slot_name = '{}'", self.name);
        wait_until("the slot is free", async || sql::value::<bool>(source, text.as_str()).await.is_ok_and(|free| free))
            .await
    }

    /// How many messages the slot would deliver to whoever asks next: everything captured that is not confirmed.
    ///
    /// # Errors
    ///
    /// There is no slot, or it stays in use.
    pub async fn undelivered(&self, source: &mut PgConnection) -> Result<i64> {
        self.slot_is_free(source).await?;
        let name = &self.name;
        let text = format!(
            "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('{name}', NULL, NULL, 'proto_version', '1', \
             'publication_names', '{name}')"
        );
        sql::value(source, text).await
    }

    /// Ends the scenario: databases, slot and topics go.
    ///
    /// # Errors
    ///
    /// They cannot be removed.
    pub async fn finish(mut self) -> Result<()> {
        self.finished = true;
        self.remove().await
    }

    async fn remove(&mut self) -> Result<()> {
        if let Some(source) = self.source.take() {
            drop_slots(&source).await?;
            source.remove().await?;
        }
        if let Some(target) = self.target.take() {
            target.remove().await?;
        }
        let prefix = format!("{}.", self.name);
        let signals = format!("{}-signal", self.name);
        stack::delete_topics(|topic| topic.starts_with(&prefix) || topic == signals).await?;
        Ok(())
    }
}

impl Drop for Sync {
    /// A scenario that failed: shows the ends of all logs and leaves no slot behind, which would hold the log of the
    /// whole server.
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        for log in self.logs.lock().expect("no holder of this lock panics").iter() {
            show(&format!("--- {}\n{}", log.display(), tail(&std::fs::read_to_string(log).unwrap_or_default())));
        }
        if std::env::var_os("KEEP_FAILED").is_some() {
            self.directory.disable_cleanup(true);
            show(&format!("--- kept: {}, databases {}", self.directory.path().display(), self.source_database()));
            return;
        }
        let removed =
            std::thread::scope(|scope| scope.spawn(|| tokio::runtime::Runtime::new()?.block_on(self.remove())).join());
        if let Ok(Err(error)) = removed {
            show(&format!("--- could not clean up: {error:#}"));
        }
    }
}

/// Fails unless a log holds all of `words`.
///
/// # Errors
///
/// One is missing.
pub fn says(log: &str, words: &[&str]) -> Result<()> {
    for word in words {
        ensure!(log.contains(word), "it does not say '{word}':\n{}", tail(log));
    }
    Ok(())
}

/// Asks until the answer is yes.
///
/// # Errors
///
/// It is not yes in time.
pub async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        ensure!(Instant::now() < deadline, "still not so after {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// A database that belongs to the stack's ordinary role.
pub(crate) async fn owned_database(variable: &str, name: &str) -> Result<(DatabaseSettings, Database)> {
    let role = stack::server(variable)?;
    let database = Database::create(&format!("{variable}_ADMIN"), name).await?;
    let mut conn = database.connect().await?;
    let user = &role.username;
    let text =
        format!("ALTER DATABASE {} OWNER TO {user}; ALTER SCHEMA public OWNER TO {user}", database.settings.database);
    sql::execute(&mut conn, text).await?;
    Ok((DatabaseSettings { database: database.settings.database.clone(), ..role }, database))
}

/// Drops all replication slots of a database, and whoever uses them.
///
/// # Errors
///
/// The server cannot be reached, or a slot stays in use.
pub async fn drop_slots(database: &Database) -> Result<()> {
    let mut conn = database.connect().await?;
    let mine = "FROM pg_replication_slots WHERE database = current_database()";
    sql::rows(&mut conn, format!("SELECT pg_terminate_backend(active_pid, 5000) {mine} AND active")).await?;
    sql::rows(&mut conn, format!("SELECT pg_drop_replication_slot(slot_name) {mine}")).await?;
    Ok(())
}

pub(crate) fn login(settings: &DatabaseSettings) -> (String, String) {
    let password = settings.password.as_ref().map(|secret| secret.expose().to_owned());
    (settings.username.clone(), password.unwrap_or_default())
}

fn section(text: &mut String, head: &str, lines: &[String], indent: &str) {
    if lines.is_empty() {
        return;
    }
    text.push_str(head);
    for line in lines {
        text.push_str(&format!("\n{indent}{line}"));
    }
    text.push('\n');
}

/// To the test's captured output.
#[expect(clippy::print_stdout, reason = "only print! is captured and shown with the test that failed")]
fn show(text: &str) {
    println!("{text}");
}
