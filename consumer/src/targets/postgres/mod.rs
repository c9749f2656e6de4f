//! PostgreSQL as a target: array statements, and progress in the same transaction.

mod barriers;
mod bind;
mod choose;
pub mod conflicts;
mod contest;
mod datetime;
mod described;
mod encode;
mod error;
mod layout;
mod noted;
mod numeric;
mod plan;
mod progress;
mod statements;
mod text;
mod topology;
mod writer;

pub use choose::Choice;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgConnection;
use syncline_catalog::connect::connect;
use syncline_runtime::retry::{Classified, ErrorClass};
use syncline_runtime::settings::DatabaseSettings;
use tokio::sync::Mutex;

use self::error::Doing;
use self::writer::PostgresWriter;
use crate::config::{NodeSettings, SinkSettings};

use super::{Guarantees, Target, TargetError, Writer};

/// What a session of ours needs, whatever the role's or the database's defaults are.
///
/// - A frozen process must not hold its progress rows for ever, and one that waits for a lock should say so.
/// - Statements are planned for the number of rows they are given: a generic plan made while a table was empty reads
///   all of it when it is large.
/// - A batch's rows are fetched by their keys: whatever is read at random is about to be written there. With the default
///   cost of that, all of a table is read for a few thousand of its rows.
/// - Text is read the way PostgreSQL prints it in the source.
const SESSION: &str = "\
SET idle_in_transaction_session_timeout = '30s'; SET lock_timeout = '30s'; SET statement_timeout = 0; \
SET default_transaction_isolation = 'read committed'; SET plan_cache_mode = force_custom_plan; SET jit = off; \
SET random_page_cost = 1.1; \
SET TimeZone = 'UTC'; SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres'; SET xmloption = content; \
SET standard_conforming_strings = on; SET client_min_messages = warning";

/// A PostgreSQL database that changes are written to. Cheap to clone; connects when asked for a writer.
#[derive(Debug, Clone)]
pub struct PostgresTarget {
    connector: Arc<Connector>,
    sink: Arc<SinkSettings>,
    node: Option<Arc<NodeSettings>>,
    /// How far a round through the tombstones came.
    tombstones: Arc<Mutex<contest::TombstoneId>>,
}

#[derive(Debug)]
struct Connector {
    settings: DatabaseSettings,
    application_name: String,
    /// Whether a connection has ever been made: from then on, a refused one is waited out.
    connected: AtomicBool,
    /// Whether what is written has been written elsewhere before, with everything that triggers made of it.
    repeats: bool,
    /// Whether triggers fire all the same, since the role may not keep them from it.
    fires_triggers: AtomicBool,
}

impl PostgresTarget {
    /// A target that connects with `settings`; `application_name` is what `pg_stat_activity` shows. Connects to
    /// nothing yet.
    #[must_use]
    pub fn new(settings: DatabaseSettings, application_name: String) -> Self {
        let connected = AtomicBool::new(false);
        let fires_triggers = AtomicBool::new(true);
        let connector = Arc::new(Connector { settings, application_name, connected, repeats: false, fires_triggers });
        Self { connector, sink: Arc::default(), node: None, tombstones: Arc::default() }
    }

    /// The same target, written to as the settings say.
    #[must_use]
    pub fn writing(self, sink: SinkSettings) -> Self {
        Self { sink: Arc::new(sink), ..self }
    }

    /// The same target, as a node of a topology.
    #[must_use]
    pub fn of_node(self, node: NodeSettings) -> Self {
        let Connector { settings, application_name, .. } = &*self.connector;
        let connector = Connector {
            settings: settings.clone(),
            application_name: application_name.clone(),
            connected: AtomicBool::new(false),
            repeats: true,
            fires_triggers: AtomicBool::new(true),
        };
        Self { connector: Arc::new(connector), node: Some(Arc::new(node)), ..self }
    }
}

impl Connector {
    async fn connect(&self) -> Result<PgConnection, TargetError> {
        let mut conn = connect(&self.settings, &self.application_name).await.map_err(|error| {
            let class = match error.class() {
                ErrorClass::Fatal if self.connected.load(Ordering::Acquire) => ErrorClass::Transient,
                class => class,
            };
            TargetError { class, message: format!("target: {error}"), table: None, source: None }
        })?;
        let doing = Doing::Bookkeeping("setting up a session of the target");
        sqlx::raw_sql(SESSION).execute(&mut conn).await.map_err(|error| doing.error(error))?;
        if self.repeats {
            // Whatever a node is asked for is found by an index; before the first ANALYZE, a server takes the few rows that
            // have to be looked at again for nearly all.
            let found = sqlx::raw_sql("SET enable_seqscan = off").execute(&mut conn).await;
            found.map_err(|error| doing.error(error))?;
            let replica = sqlx::raw_sql("SET session_replication_role = replica").execute(&mut conn).await;
            let denied =
                matches!(&replica, Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42501"));
            self.fires_triggers.store(denied, Ordering::Release);
            if !denied {
                replica.map_err(|error| doing.error(error))?;
            }
        }
        self.connected.store(true, Ordering::Release);
        Ok(conn)
    }
}

#[async_trait]
impl Target for PostgresTarget {
    fn guarantees(&self) -> Guarantees {
        Guarantees { exactly_once: true, resolves_conflicts: true }
    }

    async fn prepare(&self) -> Result<(), TargetError> {
        let mut conn = self.connector.connect().await?;
        layout::prepare(&mut conn).await?;
        if self.node.is_some() { topology::prepare(&mut conn).await } else { Ok(()) }
    }

    async fn maintain(&self) -> Result<(), TargetError> {
        let Some(node) = &self.node else { return Ok(()) };
        let mut conn = self.connector.connect().await?;
        topology::maintain(&mut conn, &node.log).await?;
        contest::collect(&mut conn, node, &mut *self.tombstones.lock().await).await
    }

    async fn conflicts_since(&self, window: Duration) -> Result<u64, TargetError> {
        if self.node.is_none() {
            return Ok(0);
        }
        conflicts::count(&mut self.connector.connect().await?, window).await
    }

    async fn writer(&self) -> Result<Box<dyn Writer>, TargetError> {
        let conn = self.connector.connect().await?;
        Ok(Box::new(PostgresWriter::new(Arc::clone(&self.connector), Arc::clone(&self.sink), self.node.clone(), conn)))
    }
}
