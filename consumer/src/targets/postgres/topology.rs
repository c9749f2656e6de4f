//! The bookkeeping of a node in a topology: what each row has been through, what waits, what was discarded.

use std::sync::atomic::Ordering;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use syncline_catalog::{target_plan, target_table};
use syncline_event::table::TableDefinition;

use super::PostgresTarget;
use super::error::Doing;
use super::{contest, layout, plan};
use crate::config::ConflictLog;
use crate::targets::TargetError;

/// Made where a topology needs it; each step passes over what is there.
///
/// - `row_stamps`: the change that made each row what it is. `row_xmin` is the row's `xmin` as that change left it, so
///   another one tells of a write that has not been captured yet; NULL where it is not known, or the row is gone. Where
///   a rule looks at more than stamps, `state` is all that counts of its changes. While such a row does not show its
///   state, `row_key` is set: it is looked at again behind `fence`; `fence_row` is its `xmin` when that was sent, `held`
///   the records that it does not show.
///   Half of each page is left free, so that updates stay in their page while several writers keep old versions alive.
/// - `tombstones`: the keys whose row is `deleted` in `row_stamps`, and maybe some whose row has come back; those, and no
///   others, are `in_tombstones`, each once. An index of `row_stamps` instead would cost a delete three times as much there.
/// - `waiting`: records that wait for such a write to be captured, and those of the same key behind them.
/// - `fences`: questions to the node's producer, answered once a marker has arrived in every partition.
/// - `markers`: what the last markers of each node's topics say that all changes behind them have seen. A row that is gone
///   is `deleted` in `row_stamps` until all of them have seen that.
/// - `sync_conflicts`: what was discarded, and why. `source_value` is the change that arrived, `target_value` what the
///   row was, `result` what it is; images of whole rows where `field` is NULL. Partitioned by day (UTC).
const SCRIPT: &str = "\
CREATE TABLE IF NOT EXISTS _syncline.row_stamps (
  table_name text NOT NULL,
  key bytea NOT NULL,
  clock_us bigint,
  counter bigint,
  origin text,
  topic_partition integer,
  record_offset bigint,
  seen text,
  deleted boolean NOT NULL DEFAULT false,
  row_xmin bigint,
  state jsonb,
  held jsonb,
  row_key jsonb,
  fence bigint,
  fence_row bigint,
  in_tombstones boolean NOT NULL DEFAULT false,
  PRIMARY KEY (table_name, key)
) WITH (fillfactor = 50);
CREATE INDEX IF NOT EXISTS row_stamps_unsettled ON _syncline.row_stamps (table_name, key) WHERE row_key IS NOT NULL;
CREATE TABLE IF NOT EXISTS _syncline.tombstones (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  table_name text NOT NULL,
  key bytea NOT NULL
);
DO $$ BEGIN
  -- Before there were tombstones an index led to rows that are gone.
  IF pg_catalog.to_regclass('_syncline.row_stamps_deleted') IS NOT NULL THEN
    ALTER TABLE _syncline.row_stamps ADD COLUMN IF NOT EXISTS in_tombstones boolean NOT NULL DEFAULT false;
    INSERT INTO _syncline.tombstones (table_name, key) SELECT table_name, key FROM _syncline.row_stamps WHERE deleted;
    UPDATE _syncline.row_stamps SET in_tombstones = true WHERE deleted;
    DROP INDEX _syncline.row_stamps_deleted;
  END IF;
END $$;
CREATE TABLE IF NOT EXISTS _syncline.waiting (
  consumer_group text NOT NULL,
  cluster_id text NOT NULL,
  topic_id text NOT NULL,
  partition integer NOT NULL,
  record_offset bigint NOT NULL,
  topic text NOT NULL,
  table_name text NOT NULL,
  key bytea NOT NULL,
  operation text NOT NULL,
  clock_us bigint NOT NULL,
  counter bigint NOT NULL,
  origin text NOT NULL,
  seen text NOT NULL,
  columns text[] NOT NULL,
  image text[] NOT NULL,
  old text[],
  fence bigint,
  fence_xmin bigint,
  since timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (consumer_group, cluster_id, topic_id, partition, record_offset)
);
CREATE INDEX IF NOT EXISTS waiting_key ON _syncline.waiting (table_name, key);
CREATE TABLE IF NOT EXISTS _syncline.fences (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  table_name text NOT NULL,
  partitions integer,
  arrived integer[] NOT NULL DEFAULT '{}',
  since timestamp with time zone NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS _syncline.markers (
  topic text NOT NULL,
  partition integer NOT NULL,
  partitions integer NOT NULL,
  seen text NOT NULL,
  PRIMARY KEY (topic, partition)
);
CREATE TABLE IF NOT EXISTS _syncline.sync_conflicts (
  id text NOT NULL,
  \"timestamp\" timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  table_name text NOT NULL,
  key jsonb NOT NULL,
  field text,
  source_value jsonb,
  target_value jsonb,
  resolution text NOT NULL,
  result jsonb,
  conflict_type text NOT NULL,
  strategy text NOT NULL,
  source_clock_us bigint NOT NULL,
  source_counter bigint NOT NULL,
  source_origin text NOT NULL,
  target_clock_us bigint,
  target_counter bigint,
  target_origin text,
  topic text NOT NULL,
  partition integer NOT NULL,
  record_offset bigint NOT NULL,
  resolved_at timestamp with time zone,
  resolved_by text,
  PRIMARY KEY (\"timestamp\", id)
) PARTITION BY RANGE (\"timestamp\");
CREATE INDEX IF NOT EXISTS sync_conflicts_id ON _syncline.sync_conflicts (id);
CREATE INDEX IF NOT EXISTS sync_conflicts_table ON _syncline.sync_conflicts (table_name, \"timestamp\");
CREATE TABLE IF NOT EXISTS _syncline.sync_conflicts_default PARTITION OF _syncline.sync_conflicts DEFAULT;
";

/// Makes the bookkeeping of a node, or finds it made. Safe while others do the same.
pub(super) async fn prepare(conn: &mut PgConnection) -> Result<(), TargetError> {
    let making = Doing::Bookkeeping("creating the tables of a topology in schema _syncline");
    let mut transaction = conn.begin().await.map_err(|error| making.error(error))?;
    sqlx::raw_sql(layout::LOCK).execute(&mut *transaction).await.map_err(|error| making.error(error))?;
    sqlx::raw_sql(SCRIPT).execute(&mut *transaction).await.map_err(|error| layout::not_made(error, making, SCRIPT))?;
    transaction.commit().await.map_err(|error| making.error(error))
}

impl PostgresTarget {
    /// Compares the target's table with a definition, before there is any bookkeeping. Changes nothing.
    ///
    /// # Errors
    ///
    /// As [`crate::targets::Writer::plan`].
    pub async fn fits(&self, definition: &TableDefinition) -> Result<(), TargetError> {
        let mut conn = self.connector.connect().await?;
        let name = definition.qualified_name();
        let describing = Doing::Writing { table: &name, index: None, what: "describing" };
        let state = target_table::describe(&mut conn, definition).await.map_err(|error| describing.error(error))?;
        target_plan::plan(definition, &state).map_err(|mismatch| plan::refuse(&mismatch, None))?;
        let fires = self.connector.fires_triggers.load(Ordering::Acquire);
        if fires { contest::check_triggers(&mut conn, definition).await } else { Ok(()) }
    }

    /// Whether changes of a table (`schema.table`) have been compared here before, so that its rows have stamps.
    ///
    /// # Errors
    ///
    /// Unreachable or refused.
    pub async fn has_stamps(&self, table: &str) -> Result<bool, TargetError> {
        let reading = Doing::Bookkeeping("reading _syncline.row_stamps");
        let mut conn = self.connector.connect().await?;
        let is_there = sqlx::query_scalar("SELECT pg_catalog.to_regclass('_syncline.row_stamps') IS NOT NULL");
        if !is_there.fetch_one(&mut conn).await.map_err(|error| reading.error(error))? {
            return Ok(false);
        }
        let has = sqlx::query_scalar("SELECT EXISTS (SELECT FROM _syncline.row_stamps WHERE table_name = $1)");
        has.bind(table).fetch_one(&mut conn).await.map_err(|error| reading.error(error))
    }
}

/// Statements that give the conflict log its next days and take away those that are past keeping.
const DAYS: &str = "\
SELECT pg_catalog.format('CREATE TABLE IF NOT EXISTS _syncline.sync_conflicts_%s PARTITION OF _syncline.sync_conflicts \
  FOR VALUES FROM (%L) TO (%L)', pg_catalog.to_char(d.day, 'YYYYMMDD'), d.day::text || ' 00:00:00+00', \
  (d.day + 1)::text || ' 00:00:00+00') \
FROM (SELECT (pg_catalog.now() AT TIME ZONE 'UTC')::date + n AS day FROM pg_catalog.generate_series(0, 3) AS n) AS d \
WHERE pg_catalog.to_regclass('_syncline.sync_conflicts_' || pg_catalog.to_char(d.day, 'YYYYMMDD')) IS NULL \
UNION ALL \
SELECT pg_catalog.format('DROP TABLE _syncline.%I', c.relname) FROM pg_catalog.pg_inherits i \
JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid \
WHERE i.inhparent = '_syncline.sync_conflicts'::pg_catalog.regclass AND c.relname ~ '^sync_conflicts_[0-9]{8}$' \
AND pg_catalog.right(c.relname, 8) < pg_catalog.to_char((pg_catalog.now() AT TIME ZONE 'UTC')::date - $1::int4, 'YYYYMMDD') \
UNION ALL \
SELECT pg_catalog.format('DELETE FROM _syncline.sync_conflicts_default WHERE \"timestamp\" < %L', \
  pg_catalog.now() - pg_catalog.make_interval(days => $1::int4))";

/// Housekeeping of the conflict log: a table a day, made ahead.
pub(super) async fn maintain(conn: &mut PgConnection, log: &ConflictLog) -> Result<(), TargetError> {
    let doing = Doing::Bookkeeping("giving _syncline.sync_conflicts its days");
    let days = i32::try_from(log.retention_days).unwrap_or(i32::MAX);
    let mut transaction = conn.begin().await.map_err(|error| doing.error(error))?;
    sqlx::raw_sql(layout::LOCK).execute(&mut *transaction).await.map_err(|error| doing.error(error))?;
    let statements: Vec<String> =
        sqlx::query_scalar(DAYS).bind(days).fetch_all(&mut *transaction).await.map_err(|error| doing.error(error))?;
    for statement in statements {
        let statement = sqlx::raw_sql(AssertSqlSafe(statement));
        statement.execute(&mut *transaction).await.map_err(|error| doing.error(error))?;
    }
    transaction.commit().await.map_err(|error| doing.error(error))
}
