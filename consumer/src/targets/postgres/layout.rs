//! The bookkeeping in a target: schema `_syncline`.

use sqlx::{Connection, PgConnection};
use syncline_runtime::retry::ErrorClass;

use super::error::Doing;
use crate::targets::TargetError;

/// The layout this build reads and writes. A newer build upgrades an older layout; an older build refuses a newer one.
const VERSION: i32 = 3;

/// Everything, for a database without `_syncline` or with an older layout: each step passes over what is there. Also
/// what a DBA is shown where the role may not create it.
///
/// Rows of `progress` are updated by every batch: half of each page is left free, so that the updates stay in their
/// page.
const SCRIPT: &str = "\
CREATE SCHEMA IF NOT EXISTS _syncline;
CREATE TABLE IF NOT EXISTS _syncline.layout (
  version integer NOT NULL
);
CREATE TABLE IF NOT EXISTS _syncline.progress (
  consumer_group text NOT NULL,
  cluster_id text NOT NULL,
  topic text NOT NULL,
  topic_id text NOT NULL,
  partition integer NOT NULL,
  next_offset bigint NOT NULL,
  position bytea,
  waits_for bytea,
  stopped text,
  table_name text,
  records bigint NOT NULL DEFAULT 0,
  last_key text,
  updated_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (consumer_group, cluster_id, topic_id, partition)
) WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS _syncline.barriers (
  consumer_group text NOT NULL,
  cluster_id text NOT NULL,
  topic text NOT NULL,
  topic_id text NOT NULL,
  position bytea NOT NULL,
  kind text NOT NULL,
  partitions integer NOT NULL,
  arrived integer[] NOT NULL DEFAULT '{}',
  released boolean NOT NULL DEFAULT false,
  dropped boolean NOT NULL DEFAULT false,
  updated_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (consumer_group, cluster_id, topic_id, position)
);
CREATE TABLE IF NOT EXISTS _syncline.tables (
  topic text NOT NULL,
  table_schema text NOT NULL,
  table_name text NOT NULL,
  definition bigint NOT NULL,
  columns text[] NOT NULL,
  retired text[] NOT NULL,
  PRIMARY KEY (topic, table_schema, table_name)
);
ALTER TABLE _syncline.tables DROP CONSTRAINT tables_pkey, ADD PRIMARY KEY (topic, table_schema, table_name);
CREATE OR REPLACE VIEW _syncline._sync_metadata AS
SELECT
  coalesce(p.table_name, (SELECT string_agg(t.table_schema || '.' || t.table_name, ', '
                                        ORDER BY t.table_schema, t.table_name)
                          FROM _syncline.tables t WHERE t.topic = p.topic), p.topic) AS table_name,
  max(updated_at) AS last_sync_at,
  (array_agg(last_key ORDER BY updated_at DESC) FILTER (WHERE last_key IS NOT NULL))[1] AS last_sync_key,
  sum(records)::bigint AS records_synced,
  CASE
    WHEN bool_or(stopped IS NOT NULL) THEN 'stopped'
    WHEN bool_or(waits_for IS NOT NULL) THEN 'waiting'
    ELSE 'running'
  END AS status,
  string_agg(p.topic || '/' || partition || ' at offset ' || next_offset || ': ' || stopped, '; '
             ORDER BY p.topic, partition) FILTER (WHERE stopped IS NOT NULL) AS reason
FROM _syncline.progress p
GROUP BY 1;
INSERT INTO _syncline.layout (version) SELECT 3 WHERE NOT EXISTS (SELECT FROM _syncline.layout);
UPDATE _syncline.layout SET version = 3 WHERE version < 3;
";

/// Held while the layout is made: \"sync\" and \"layo\" as numbers.
pub(super) const LOCK: &str = "SELECT pg_catalog.pg_advisory_xact_lock(1937337955, 1818326383)";

/// Makes the bookkeeping, or finds it made. Safe while others do the same.
pub(super) async fn prepare(conn: &mut PgConnection) -> Result<(), TargetError> {
    let looking = Doing::Bookkeeping("reading the layout of _syncline");
    if is_current(version(conn).await.map_err(|error| looking.error(error))?)? {
        return Ok(());
    }
    let making = Doing::Bookkeeping("creating schema _syncline");
    let mut transaction = conn.begin().await.map_err(|error| making.error(error))?;
    sqlx::raw_sql(LOCK).execute(&mut *transaction).await.map_err(|error| making.error(error))?;
    let found = version(&mut transaction).await.map_err(|error| looking.error(error))?;
    if is_current(found)? {
        return Ok(());
    }
    tracing::info!(layout = VERSION, found, "making the bookkeeping schema _syncline");
    sqlx::raw_sql(SCRIPT).execute(&mut *transaction).await.map_err(|error| not_made(error, making, SCRIPT))?;
    transaction.commit().await.map_err(|error| making.error(error))
}

async fn version(conn: &mut PgConnection) -> Result<Option<i32>, sqlx::Error> {
    let made: bool = sqlx::query_scalar("SELECT pg_catalog.to_regclass('_syncline.layout') IS NOT NULL")
        .fetch_one(&mut *conn)
        .await?;
    if !made {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT max(version) FROM _syncline.layout").fetch_one(conn).await
}

fn is_current(found: Option<i32>) -> Result<bool, TargetError> {
    let Some(found) = found.filter(|found| *found > VERSION) else {
        return Ok(found == Some(VERSION));
    };
    Err(TargetError {
        class: ErrorClass::Fatal,
        message: format!(
            "schema _syncline of the target has layout {found}, this build knows layout {VERSION}; upgrade Syncline"
        ),
        table: None,
        source: None,
    })
}

pub(super) fn not_made(error: sqlx::Error, making: Doing<'_>, script: &str) -> TargetError {
    let refused = matches!(&error, sqlx::Error::Database(database) if database.code().as_deref() == Some("42501"));
    let mut error = making.error(error);
    if refused {
        error.message = format!(
            "{}; grant CREATE on the target database to the role Syncline connects as, or have a DBA run as that role's \
             owner:\n{script}GRANT USAGE ON SCHEMA _syncline TO <role>;\n\
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA _syncline TO <role>;",
            error.message
        );
    }
    error
}
