//! The log of conflicts as a person reads it. [`resolve`] writes what the person decides.

mod resolve;
mod table;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row};

pub use resolve::{Change, Resolution, ResolveError, Side, Wish};

use super::PostgresTarget;
use super::error::Doing;
use crate::targets::TargetError;
use syncline_runtime::retry::ErrorClass;

const READING: Doing<'static> = Doing::Bookkeeping("reading _syncline.sync_conflicts");

/// A line of `_syncline.sync_conflicts`. Values are the JSON text that the server prints, digit by digit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the table's columns, which docs/conflicts.md explains")]
pub struct Conflict {
    pub id: String,
    pub timestamp: String,
    pub table_name: String,
    pub key: Box<RawValue>,
    pub field: Option<String>,
    pub source_value: Option<Box<RawValue>>,
    pub target_value: Option<Box<RawValue>>,
    pub resolution: String,
    pub result: Option<Box<RawValue>>,
    pub conflict_type: String,
    pub strategy: String,
    pub source_clock_us: i64,
    pub source_counter: i64,
    pub source_origin: String,
    pub target_clock_us: Option<i64>,
    pub target_counter: Option<i64>,
    pub target_origin: Option<String>,
    pub topic: String,
    pub partition: i32,
    pub record_offset: i64,
    pub resolved_at: Option<String>,
    pub resolved_by: Option<String>,
}

impl Conflict {
    /// Whether a person has settled it; a rule leaves its own name.
    #[must_use]
    pub fn is_resolved_by_person(&self) -> bool {
        self.resolved_by.as_ref().is_some_and(|by| *by != self.strategy)
    }
}

/// Which conflicts are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this table, `schema.table`.
    pub table: Option<String>,
    /// Of this type.
    pub kind: Option<String>,
    /// Not older than this.
    pub since: Option<Duration>,
    /// Those that nobody and nothing has resolved.
    pub unresolved: bool,
}

/// Conflicts of one kind, counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// The table, `schema.table`.
    pub table_name: String,
    /// The conflicts' type.
    pub conflict_type: String,
    /// The rule that decided them.
    pub strategy: String,
    /// Those in which the change that arrived stayed.
    pub source: i64,
    /// Those in which what was there stayed.
    pub target: i64,
    /// Those that wait for a person.
    pub unresolved: i64,
}

/// What has become of a conflict's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// It is what the conflict made of it, as far as the log has its values.
    Same,
    /// It is something else by now.
    Changed,
    /// The table is not there any more, or has another primary key.
    Unknown,
}

/// A node's log of conflicts: a connection of its own, which an application could have too. What it writes is captured.
#[derive(Debug)]
pub struct Conflicts {
    conn: PgConnection,
}

impl PostgresTarget {
    /// Opens the log of conflicts.
    ///
    /// # Errors
    ///
    /// Unreachable, or there is none.
    pub async fn conflicts(&self) -> Result<Conflicts, TargetError> {
        let mut conn = self.connector.connect().await?;
        let is_there = sqlx::query_scalar("SELECT pg_catalog.to_regclass('_syncline.sync_conflicts') IS NOT NULL");
        if is_there.fetch_one(&mut conn).await.map_err(|error| READING.error(error))? {
            return Ok(Conflicts { conn });
        }
        let message = "there is no log of conflicts: the node's consumer makes it when it starts for the first time";
        Err(TargetError { class: ErrorClass::Fatal, message: message.to_owned(), table: None, source: None })
    }
}

impl Conflicts {
    /// Conflicts, newest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// The server refuses.
    pub async fn list(&mut self, filter: &Filter, limit: u32) -> Result<Vec<Conflict>, TargetError> {
        let text = format!(
            "SELECT pg_catalog.to_jsonb(c)::text FROM _syncline.sync_conflicts AS c WHERE {WANTED} \
             ORDER BY \"timestamp\" DESC, id LIMIT $5"
        );
        let query = wanted(&text, filter).bind(i64::from(limit));
        let rows = query.fetch_all(&mut self.conn).await.map_err(|error| READING.error(error))?;
        rows.iter().map(|row| parse(&row.try_get::<String, _>(0).map_err(|error| READING.error(error))?)).collect()
    }

    /// Conflicts by table, type and rule, in this order.
    ///
    /// # Errors
    ///
    /// The server refuses.
    pub async fn count(&mut self, filter: &Filter) -> Result<Vec<Tally>, TargetError> {
        let text = format!(
            "SELECT table_name, conflict_type, strategy, count(*) FILTER (WHERE resolution = 'source') AS source, \
             count(*) FILTER (WHERE resolution = 'target') AS target, \
             count(*) FILTER (WHERE resolved_at IS NULL) AS unresolved \
             FROM _syncline.sync_conflicts WHERE {WANTED} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        );
        let rows = wanted(&text, filter).fetch_all(&mut self.conn).await.map_err(|error| READING.error(error))?;
        rows.iter().map(|row| tally(row).map_err(|error| READING.error(error))).collect()
    }

    /// Conflicts whose id begins so; two are enough to see that it is not the only one.
    ///
    /// # Errors
    ///
    /// The server refuses.
    pub async fn find(&mut self, prefix: &str) -> Result<Vec<Conflict>, TargetError> {
        let query = sqlx::query(
            "SELECT pg_catalog.to_jsonb(c)::text FROM _syncline.sync_conflicts AS c \
             WHERE pg_catalog.starts_with(id, $1) ORDER BY id <> $1, \"timestamp\" DESC LIMIT 2",
        );
        let rows = query.bind(prefix).fetch_all(&mut self.conn).await.map_err(|error| READING.error(error))?;
        rows.iter().map(|row| parse(&row.try_get::<String, _>(0).map_err(|error| READING.error(error))?)).collect()
    }
}

/// What a [`Filter`] means; [`wanted`] binds its parameters.
const WANTED: &str = "($1::text IS NULL OR table_name = $1) AND ($2::text IS NULL OR conflict_type = $2) \
    AND ($3::float8 IS NULL \
      OR \"timestamp\" >= pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $3)) \
    AND (resolved_at IS NULL OR NOT $4)";

fn wanted<'q>(text: &str, filter: &'q Filter) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(AssertSqlSafe(text.to_owned()))
        .bind(&filter.table)
        .bind(&filter.kind)
        .bind(filter.since.map(|since| since.as_secs_f64()))
        .bind(filter.unresolved)
}

fn tally(row: &PgRow) -> Result<Tally, sqlx::Error> {
    Ok(Tally {
        table_name: row.try_get("table_name")?,
        conflict_type: row.try_get("conflict_type")?,
        strategy: row.try_get("strategy")?,
        source: row.try_get("source")?,
        target: row.try_get("target")?,
        unresolved: row.try_get("unresolved")?,
    })
}

fn parse(text: &str) -> Result<Conflict, TargetError> {
    serde_json::from_str(text).map_err(|_| TargetError {
        class: ErrorClass::Fatal,
        message:
            "_syncline.sync_conflicts has other columns than this version knows: use the version that runs the sync"
                .to_owned(),
        table: None,
        // It could quote a value.
        source: None,
    })
}

/// How many conflicts were written down within a while until now.
pub(super) async fn count(conn: &mut PgConnection, window: Duration) -> Result<u64, TargetError> {
    let query = sqlx::query_scalar::<_, i64>(
        "SELECT count(*) FROM _syncline.sync_conflicts \
         WHERE \"timestamp\" >= pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $1)",
    );
    let count = query.bind(window.as_secs_f64()).fetch_one(conn).await.map_err(|error| READING.error(error))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_its_digits_and_tells_who_resolved_it() {
        let line = r#"{"id": "a", "timestamp": "t", "table_name": "public.t", "key": {"id": 1}, "field": null,
            "source_value": {"n": 1.10000000000000000000001}, "target_value": null, "resolution": "source",
            "result": {"n": 1.10000000000000000000001}, "conflict_type": "insert_exists", "strategy": "manual",
            "source_clock_us": 1, "source_counter": 0, "source_origin": "eu", "target_clock_us": null,
            "target_counter": null, "target_origin": null, "topic": "t", "partition": 0, "record_offset": 7,
            "resolved_at": null, "resolved_by": null}"#;
        let conflict = parse(line).unwrap();
        assert_eq!(conflict.source_value.as_ref().unwrap().get(), r#"{"n": 1.10000000000000000000001}"#);
        assert!(conflict.target_value.is_none() && !conflict.is_resolved_by_person());
        let by = |by: &str| Conflict { resolved_by: Some(by.to_owned()), ..conflict.clone() };
        assert!(
            !by("manual").is_resolved_by_person() && by("ann (syncline conflicts resolve)").is_resolved_by_person()
        );
        let error = parse(r#"{"secret": 1}"#).unwrap_err();
        assert!(!error.message.contains("secret"));
    }
}
