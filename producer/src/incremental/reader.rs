//! The task that reads: one session at the source, one question at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use syncline_catalog::describe::describe;
use syncline_catalog::ident::{qualified, quote_identifier};
use syncline_event::avro::encode::{SnapshotMarker, SourceInfo, TableEncoder};
use syncline_event::avro::schema::unsupported_columns;
use syncline_event::position::Lsn;
use syncline_event::table::TableDefinition;
use syncline_event::tuple::TupleCell;
use syncline_runtime::retry::ErrorClass;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::engine::{Answer, Ask, Asked, Read};
use super::query::{FACTS, KEY_COLUMNS, STILL_THERE, Scanned, WRITERS};
use super::state::Key;
use super::visible::Seen;
use crate::config::ProducerConfig;
use crate::error::ProducerError;
use crate::rows::{EncodedRow, arrange, encode_read};
use crate::sources::postgres::copy::CopyRow;
use crate::sources::postgres::relation::without_unsupported;

/// Bytes of encoded rows in one chunk, whatever its number of rows. One row may be more.
const CHUNK_BYTES: usize = 8 * 1024 * 1024;

/// Between two looks at who still writes.
const SETTLE_INTERVAL: Duration = Duration::from_millis(50);

/// After how long the log says whom a scan waits for.
const SETTLE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a transaction that the log has delivered gets to become visible before it is looked for again.
const AGAIN: Duration = Duration::from_millis(20);

/// The prefix of the logical messages that move the log on where nothing else does.
pub(crate) const MESSAGE_PREFIX: &str = "syncline";

/// A question with what it takes to answer it.
pub(super) struct Job {
    pub(super) ask: Ask,
    pub(super) definition: Arc<TableDefinition>,
    pub(super) encoder: Arc<TableEncoder>,
}

/// An answer.
pub(crate) struct Answered {
    pub(super) scan: u64,
    pub(super) answer: Answer,
}

/// The reading task; it ends when this is dropped.
pub(super) struct Reader {
    pub(super) jobs: mpsc::Sender<Job>,
    pub(super) answers: mpsc::Receiver<Answered>,
    task: JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reader {
    /// Starts the task. It connects when it is first asked.
    pub(super) fn start(config: Arc<ProducerConfig>) -> Self {
        let (jobs, inbox) = mpsc::channel(1);
        let (outbox, answers) = mpsc::channel(1);
        let limit = config.chunk_size;
        let worker = Worker { config, session: None, known: None, limit };
        Self { jobs, answers, task: tokio::spawn(worker.run(inbox, outbox)) }
    }
}

/// A table whose columns were looked at.
struct Known {
    topic: String,
    definition: u32,
    scanned: Scanned,
    /// The catalog's columns that were found to be the definition's.
    columns: Option<String>,
}

struct Worker {
    config: Arc<ProducerConfig>,
    session: Option<PgConnection>,
    known: Option<Known>,
    /// Rows of the next chunk: fewer than configured where rows are large.
    limit: usize,
}

impl Worker {
    async fn run(mut self, mut inbox: mpsc::Receiver<Job>, outbox: mpsc::Sender<Answered>) {
        while let Some(job) = inbox.recv().await {
            let answer = self.answer(&job).await;
            if outbox.send(Answered { scan: job.ask.scan, answer }).await.is_err() {
                return;
            }
        }
    }

    /// Answers, however long the source is away.
    async fn answer(&mut self, job: &Job) -> Answer {
        let mut wait = Duration::from_millis(200);
        loop {
            let error = match self.work(job).await {
                Ok(answer) => return answer,
                Err(error) => error,
            };
            self.session = None;
            self.known = None;
            if error.class() != ErrorClass::Transient {
                return Answer::Failed { reason: reason(&error) };
            }
            tracing::warn!(table = job.definition.qualified_name(), %error, "reading is interrupted, trying again");
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(30));
        }
    }

    async fn work(&mut self, job: &Job) -> Result<Answer, ProducerError> {
        if self.session.is_none() {
            self.session = Some(self.open().await?);
        }
        match &job.ask.what {
            Asked::Position => self.position().await,
            Asked::Settle { added } => self.settle(&job.definition, *added).await,
            Asked::Chunk { again, .. } => {
                if *again {
                    tokio::time::sleep(AGAIN).await;
                }
                self.chunk(job).await
            }
        }
    }

    async fn open(&self) -> Result<PgConnection, ProducerError> {
        let mut session = syncline_catalog::connect::connect(&self.config.source, "syncline-incremental").await?;
        let settings = "SET standard_conforming_strings = on; SET statement_timeout = 0; SET lock_timeout = 0; \
                        SET idle_in_transaction_session_timeout = 0";
        run(&mut session, settings).await?;
        Ok(session)
    }

    fn session(&mut self) -> Result<&mut PgConnection, ProducerError> {
        self.session.as_mut().ok_or_else(|| ProducerError::Internal("the reading session is gone".to_owned()))
    }

    async fn position(&mut self) -> Result<Answer, ProducerError> {
        let session = self.session()?;
        let text: String = sqlx::query_scalar("SELECT pg_current_wal_insert_lsn()::text")
            .fetch_one(&mut *session)
            .await
            .map_err(|error| ProducerError::source("the log's end cannot be read", error))?;
        let lsn = parse_lsn(&text)?;
        move_on(session).await;
        Ok(Answer::Position { lsn })
    }

    /// Waits for everyone who holds a writer's lock on the table. Whoever comes later is delivered later, or visible.
    async fn settle(&mut self, definition: &TableDefinition, added: bool) -> Result<Answer, ProducerError> {
        let publication = self.config.publication.clone();
        let table = definition.qualified_name();
        let failed = |error| ProducerError::source(&format!("table {table}: its writers cannot be read"), error);
        let session = self.session()?;
        let oid = table_oid(session, definition).await?;
        let found: Vec<(String, i32)> =
            sqlx::query_as(WRITERS).bind(oid).fetch_all(&mut *session).await.map_err(failed)?;
        let (mut writers, processes): (Vec<String>, Vec<i32>) = found.into_iter().unzip();
        let started = tokio::time::Instant::now();
        let mut told = false;
        while !writers.is_empty() {
            if !told && started.elapsed() > SETTLE_PATIENCE {
                told = true;
                tracing::info!(
                    table,
                    ?processes,
                    "an incremental snapshot waits for transactions that have written to the table"
                );
            }
            tokio::time::sleep(SETTLE_INTERVAL).await;
            writers = sqlx::query_scalar(STILL_THERE).bind(writers).fetch_all(&mut *session).await.map_err(failed)?;
        }
        if added {
            publish_again(session, &publication).await;
        }
        let estimate = crate::snapshot::estimate_rows(session, definition).await?;
        Ok(Answer::Settled { estimate })
    }

    async fn chunk(&mut self, job: &Job) -> Result<Answer, ProducerError> {
        let Asked::Chunk { after, until, condition, passed, .. } = &job.ask.what else {
            return Err(ProducerError::Internal("not a chunk".to_owned()));
        };
        let definition = &job.definition;
        let failed =
            |error| ProducerError::source(&format!("table {} cannot be read", definition.qualified_name()), error);
        self.know(job).await?;
        let Self { session: Some(session), known: Some(known), limit, config } = self else {
            return Err(ProducerError::Internal("the reading session is gone".to_owned()));
        };
        run(session, &known.scanned.begin()).await?;
        let name = qualified(&definition.schema, &definition.table)?;
        let oid = sqlx::query_scalar("SELECT to_regclass($1)::oid").bind(&name);
        let oid: sqlx::postgres::types::Oid = oid.fetch_one(&mut *session).await.map_err(failed)?;
        let facts = sqlx::query(FACTS).bind(oid).fetch_one(&mut *session).await.map_err(failed)?;
        let seen: String = facts.try_get("seen").map_err(failed)?;
        let seen =
            Seen::parse(&seen).ok_or_else(|| ProducerError::Protocol("pg_current_snapshot() is malformed".into()))?;
        let lsn = parse_lsn(&facts.try_get::<String, _>("lsn").map_err(failed)?)?;
        let at_us: i64 = facts.try_get("at_us").map_err(failed)?;
        let columns: Option<String> = facts.try_get("columns").map_err(failed)?;

        if known.columns != columns {
            if let Some(definition) = ahead(session, job, config).await? {
                run(session, "COMMIT").await?;
                move_on(session).await;
                self.known = None;
                return Ok(Answer::Ahead { definition: Box::new(definition), lsn });
            }
            known.columns = columns;
        }
        let condition = condition.as_deref();
        let mut found = None;
        if until.is_none() {
            // Prepared, so that a condition is one expression and not several statements.
            let highest = known.scanned.highest(condition);
            found = sqlx::query_scalar::<_, Key>(AssertSqlSafe(highest))
                .fetch_optional(&mut *session)
                .await
                .map_err(failed)?;
        }
        let Some(bound) = until.as_ref().or(found.as_ref()) else {
            run(session, "COMMIT").await?;
            let read = Read { seen, lsn, bytes: Vec::new(), rows: Vec::new(), last: None, until: None, ended: true };
            if lsn > *passed {
                move_on(session).await;
            }
            return Ok(Answer::Chunk(read));
        };
        let statement = known.scanned.chunk(after.as_ref(), bound, condition, *limit);
        let mut rows = Rows::new(job, known.scanned.width(), at_us);
        {
            let mut copy = session.copy_out_raw(&statement).await.map_err(failed)?;
            while let Some(row) = copy.next().await {
                rows.push(row.map_err(failed)?)?;
            }
        }
        let ended = rows.seen < *limit && rows.kept() == rows.seen;
        // The next chunk fits, or grows back.
        *limit = if rows.kept() < rows.seen { rows.kept() } else { (*limit * 2).min(config.chunk_size) };
        let last = rows.last_key()?;
        let Rows { bytes, rows, nulls, .. } = rows;
        let newer = if nulls { ahead(session, job, config).await? } else { None };
        if nulls && newer.is_none() {
            return Err(ProducerError::Protocol("a NULL in a column that cannot hold one".to_owned()));
        }
        run(session, "COMMIT").await?;
        if lsn > *passed {
            move_on(session).await;
        }
        if let Some(definition) = newer {
            self.known = None;
            return Ok(Answer::Ahead { definition: Box::new(definition), lsn });
        }
        Ok(Answer::Chunk(Read { seen, lsn, bytes, rows, last, until: found, ended }))
    }

    /// Looks up what chunks of the table are ordered by.
    async fn know(&mut self, job: &Job) -> Result<(), ProducerError> {
        let (topic, definition) = (&job.definition.topic, &job.definition);
        if self.known.as_ref().is_some_and(|known| known.topic == *topic && known.definition == definition.number) {
            return Ok(());
        }
        self.limit = self.config.chunk_size;
        let session = self.session()?;
        let oid = table_oid(session, definition).await?;
        let key: Option<Vec<String>> = sqlx::query_scalar(KEY_COLUMNS)
            .bind(oid)
            .fetch_optional(&mut *session)
            .await
            .map(Option::flatten)
            .map_err(|error| {
                ProducerError::source(&format!("table {}: its key cannot be read", definition.qualified_name()), error)
            })?;
        let Some(key) = key else {
            return Err(ProducerError::Preflight(vec![format!(
                "table {} has no primary key and no unique index without NULLs that chunks could follow",
                definition.qualified_name()
            )]));
        };
        let scanned = Scanned::new(definition, &key)?;
        self.known = Some(Known { topic: topic.clone(), definition: definition.number, scanned, columns: None });
        Ok(())
    }
}

/// The table's definition in the session's snapshot, where rows read now do not fit the one in force.
async fn ahead(
    session: &mut PgConnection,
    job: &Job,
    config: &ProducerConfig,
) -> Result<Option<TableDefinition>, ProducerError> {
    let known = &job.definition;
    let failed = |error| ProducerError::source(&format!("table {} cannot be described", known.qualified_name()), error);
    let Some(described) = describe(session, &known.schema, &known.table).await.map_err(failed)? else {
        return Err(ProducerError::Preflight(vec![format!("table {} is gone", known.qualified_name())]));
    };
    let described = described.definition(known.topic.clone(), config.events.handling.clone());
    let mut definition = config.events.columns.apply(described);
    if config.skip_unsupported_columns {
        definition = without_unsupported(definition);
    }
    if let Some((column, reason)) = unsupported_columns(&definition).first() {
        return Err(ProducerError::Preflight(vec![format!(
            "table {}, column {}: {reason}",
            definition.qualified_name(),
            definition.columns[*column].name
        )]));
    }
    Ok((!reads_alike(&definition, known)).then_some(definition))
}

/// Whether rows of one can be read as rows of the other.
fn reads_alike(catalog: &TableDefinition, known: &TableDefinition) -> bool {
    catalog.key == known.key
        && catalog.columns.len() == known.columns.len()
        && catalog.columns.iter().zip(&known.columns).all(|(catalog, known)| {
            catalog.name == known.name
                && catalog.column_type.oid == known.column_type.oid
                && catalog.column_type.modifier == known.column_type.modifier
                && catalog.generated.is_some() == known.generated.is_some()
                // A column that may hold NULLs by now; the other way round does no harm.
                && (known.nullable || !catalog.nullable)
        })
}

/// Rows of a chunk while it is read.
struct Rows<'a> {
    job: &'a Job,
    width: usize,
    source: SourceInfo<'static>,
    bytes: Vec<u8>,
    rows: Vec<EncodedRow>,
    last: Option<Bytes>,
    /// Rows that came, kept or not.
    seen: usize,
    /// A NULL where the definition has none.
    nulls: bool,
    parsed: CopyRow,
}

impl<'a> Rows<'a> {
    fn new(job: &'a Job, width: usize, at_us: i64) -> Self {
        let source = SourceInfo {
            ts_us: at_us,
            snapshot: SnapshotMarker::Incremental,
            sequence: (None, 0),
            tx_id: None,
            lsn: 0,
            origin: None,
            origin_lsn: None,
        };
        Self {
            job,
            width,
            source,
            bytes: Vec::new(),
            rows: Vec::new(),
            last: None,
            seen: 0,
            nulls: false,
            parsed: CopyRow::default(),
        }
    }

    fn push(&mut self, row: Bytes) -> Result<(), ProducerError> {
        self.seen += 1;
        if self.bytes.len() >= CHUNK_BYTES || self.nulls {
            return Ok(());
        }
        let definition = &self.job.definition;
        let malformed = |error| ProducerError::Protocol(format!("table {}: {error}", definition.qualified_name()));
        let fields = self.parsed.parse(&row).map_err(malformed)?.skip(self.width);
        let cells = arrange(definition, fields).map_err(malformed)?;
        match encode_read(definition, &self.job.encoder, &cells, self.source, &mut self.bytes) {
            Ok(encoded) => self.rows.push(encoded),
            Err(ProducerError::NullInNotNull { .. }) => self.nulls = true,
            Err(error) => return Err(error),
        }
        drop(cells);
        self.last = Some(row);
        Ok(())
    }

    fn kept(&self) -> usize {
        self.rows.len()
    }

    fn last_key(&mut self) -> Result<Option<Key>, ProducerError> {
        let Some(row) = &self.last else { return Ok(None) };
        let malformed = || ProducerError::Protocol("a chunk's last key is malformed".to_owned());
        let fields = self.parsed.parse(row).map_err(|_| malformed())?.take(self.width);
        let key = fields.map(|cell| match cell {
            TupleCell::Text(text) => String::from_utf8(text.to_vec()).map_err(|_| malformed()),
            TupleCell::Null | TupleCell::Unchanged => Err(malformed()),
        });
        key.collect::<Result<Key, _>>().map(Some)
    }
}

async fn run(session: &mut PgConnection, statements: &str) -> Result<(), ProducerError> {
    let done = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(session).await;
    done.map(drop).map_err(|error| ProducerError::source("reading a table", error))
}

async fn table_oid(
    session: &mut PgConnection,
    definition: &TableDefinition,
) -> Result<sqlx::postgres::types::Oid, ProducerError> {
    let name = qualified(&definition.schema, &definition.table)?;
    let oid: Option<sqlx::postgres::types::Oid> = sqlx::query_scalar("SELECT to_regclass($1)::oid")
        .bind(name)
        .fetch_one(session)
        .await
        .map_err(|error| ProducerError::source(&format!("table {}", definition.qualified_name()), error))?;
    oid.ok_or_else(|| ProducerError::Preflight(vec![format!("table {} is gone", definition.qualified_name())]))
}

/// Moves the log on, so that the stream soon passes where it ends now: on a quiet source nothing else would, and what
/// was written without a commit is not even flushed. Where it may not be written, the next keepalive does.
async fn move_on(session: &mut PgConnection) {
    let message = "SELECT pg_logical_emit_message(true, $1, '')";
    if let Err(error) = sqlx::query(message).bind(MESSAGE_PREFIX).execute(session).await {
        tracing::debug!(%error, "the log cannot be moved on by a message");
    }
}

/// Before 18, 17.5, 16.9, 15.13 and 14.18 a transaction that wrote to a table before the table came into the
/// publication could leave the walsender believing that it is not in it. Any later change of the publication makes it
/// look again.
async fn publish_again(session: &mut PgConnection, publication: &str) {
    let mended = "SELECT v >= 180000 OR (v < 180000 AND v >= 170005) OR (v < 170000 AND v >= 160009)
                      OR (v < 160000 AND v >= 150013) OR (v < 150000 AND v >= 140018)
                    FROM (SELECT current_setting('server_version_num')::int AS v) s";
    if sqlx::query_scalar(mended).fetch_one(&mut *session).await.unwrap_or(false) {
        return;
    }
    let Ok(name) = quote_identifier(publication) else { return };
    let again = format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = true)");
    if let Err(error) = run(session, &again).await {
        tracing::warn!(publication, %error, "an old server may not notice the new table of the publication");
    }
}

/// What to tell of a failure. Data exceptions may hold values in their text.
fn reason(error: &ProducerError) -> String {
    match error {
        ProducerError::Source { what, error: sqlx::Error::Database(database) }
            if database.code().is_some_and(|code| code.starts_with("22")) =>
        {
            format!("{what}: a data exception ({})", database.code().unwrap_or_default())
        }
        ProducerError::Preflight(problems) => problems.join("; "),
        other => other.to_string(),
    }
}

fn parse_lsn(text: &str) -> Result<u64, ProducerError> {
    text.parse::<Lsn>().map(|lsn| lsn.0).map_err(|_| ProducerError::Protocol("a log position is malformed".to_owned()))
}
