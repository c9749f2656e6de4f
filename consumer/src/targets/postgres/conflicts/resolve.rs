//! What a person decides: one side's values are written as any application would write them. So they are captured, get
//! a stamp that is later than both sides', and reach every node.

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::{Connection, PgConnection, Row};

use super::super::error::Doing;
use super::table::Table;
use super::{Conflict, Conflicts, Since};
use crate::targets::TargetError;

/// One side of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What arrived.
    Source,
    /// What was there.
    Target,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// The side that the row becomes.
    pub take: Side,
    /// Although a person has resolved it before.
    pub again: bool,
    /// Although the row has changed since.
    pub force: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What was done, or would be.
#[derive(Debug, Clone, Serialize)]
pub struct Resolution {
    /// Whether the row goes.
    pub deletes: bool,
    /// Columns that change.
    pub changes: Vec<Change>,
    /// Whether the row had changed since the conflict.
    pub row_changed_since: bool,
}

/// A column that changes.
#[derive(Debug, Clone, Serialize)]
pub struct Change {
    /// Its name.
    pub column: String,
    /// Its value before; none where there was no row.
    pub before: Option<Box<RawValue>>,
    /// Its value from then on; none where the row goes.
    pub after: Option<Box<RawValue>>,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// It should not be, or cannot be with what the log has.
    #[error("{0}; nothing was changed")]
    Refused(String),
    /// The server.
    #[error(transparent)]
    Target(#[from] TargetError),
}

impl Conflicts {
    /// Whether the row is still what the conflict made of it.
    ///
    /// # Errors
    ///
    /// The server refuses.
    pub async fn since(&mut self, conflict: &Conflict) -> Result<Since, TargetError> {
        let Some(table) = Table::find(&mut self.conn, conflict).await? else { return Ok(Since::Unknown) };
        let current = table.row(&mut self.conn, conflict, false).await?;
        let changed = has_changed(&mut self.conn, conflict, current.as_deref()).await?;
        Ok(if changed { Since::Changed } else { Since::Same })
    }

    /// Writes one side's values and notes who decided, in one transaction.
    ///
    /// # Errors
    ///
    /// Refused with a reason, or the server's.
    pub async fn resolve(&mut self, conflict: &Conflict, wish: Wish) -> Result<Resolution, ResolveError> {
        let refused = |text: String| ResolveError::Refused(text);
        let doing = Doing::Transaction("resolving a conflict");
        let mut transaction = self.conn.begin().await.map_err(|error| doing.error(error))?;
        let conn = &mut *transaction;
        let conflict = &locked(conn, conflict).await?;
        if conflict.is_resolved_by_person() && !wish.again {
            return Err(refused(
                "a person has resolved this conflict: `show` says who; add --again to do it again".into(),
            ));
        }
        let Some(table) = Table::find(conn, conflict).await? else {
            return Err(refused(format!(
                "{} is not there any more, or its primary key is another",
                conflict.table_name
            )));
        };
        let image = match wish.take {
            Side::Source => &conflict.source_value,
            Side::Target => &conflict.target_value,
        };
        let image = image.as_ref().map(|image| image.get());
        if let Some((column, why)) = lacking(conn, conflict, image).await? {
            return Err(refused(format!(
                "the log does not have the value of column {column}, which {why}: change the row in the database instead"
            )));
        }
        let current = table.row(conn, conflict, !wish.dry_run).await?;
        let row_changed_since = has_changed(conn, conflict, current.as_deref()).await?;
        if row_changed_since && !wish.force {
            return Err(refused(
                "the row has changed since the conflict, and that change would be lost: `show` and the table say what, \
                 --force overwrites it"
                    .into(),
            ));
        }
        if conflict.field.is_some() && current.is_none() {
            return Err(refused("the row is not there any more, so its column cannot be written".into()));
        }
        if let Some(field) = &conflict.field
            && !table.columns.iter().any(|column| column.name == *field && !column.fixed)
        {
            return Err(refused(format!("column {field} is not there any more, or takes no values")));
        }
        let changes = table.changes(conn, conflict, current.as_deref(), image).await?;
        let deletes = image.is_none() && current.is_some();
        if !wish.dry_run {
            table.write(conn, conflict, image).await?;
            note(conn, conflict).await?;
            transaction.commit().await.map_err(|error| doing.error(error))?;
        }
        Ok(Resolution { deletes, changes, row_changed_since })
    }
}

const NOTING: Doing<'static> = Doing::Bookkeeping("writing to _syncline.sync_conflicts");

/// The line as it is by now, so that of two people who decide at once the second one hears of the first.
async fn locked(conn: &mut PgConnection, conflict: &Conflict) -> Result<Conflict, ResolveError> {
    let query = sqlx::query_scalar::<_, String>(
        "SELECT pg_catalog.to_jsonb(c)::text FROM _syncline.sync_conflicts AS c \
         WHERE id = $1 AND \"timestamp\" = $2::timestamptz FOR UPDATE",
    );
    let query = query.bind(&conflict.id).bind(&conflict.timestamp);
    let line = query.fetch_optional(conn).await.map_err(|error| NOTING.error(error))?;
    let gone = || ResolveError::Refused("the conflict is not in the log any more".to_owned());
    Ok(super::parse(&line.ok_or_else(gone)?)?)
}

async fn note(conn: &mut PgConnection, conflict: &Conflict) -> Result<(), TargetError> {
    let query = sqlx::query(
        "UPDATE _syncline.sync_conflicts SET resolved_at = pg_catalog.clock_timestamp(), \
         resolved_by = current_user || ' (syncline conflicts resolve)' WHERE id = $1 AND \"timestamp\" = $2::timestamptz",
    );
    let query = query.bind(&conflict.id).bind(&conflict.timestamp);
    query.execute(conn).await.map_err(|error| NOTING.error(error))?;
    Ok(())
}

/// A column whose value the log has left out, and why. Key columns are known from the key.
async fn lacking(
    conn: &mut PgConnection,
    conflict: &Conflict,
    image: Option<&str>,
) -> Result<Option<(String, &'static str)>, TargetError> {
    // `***` that an application wrote cannot be told from a mask: a row must not be filled with either by mistake.
    let query = sqlx::query(
        "SELECT e.key, e.value = '\"***\"'::jsonb FROM pg_catalog.jsonb_each(CASE WHEN $2::text IS NULL THEN $1::jsonb - \
         ARRAY(SELECT pg_catalog.jsonb_object_keys($3::jsonb)) ELSE pg_catalog.jsonb_build_object($2::text, $1::jsonb) END) AS e \
         WHERE e.value = '\"***\"'::jsonb OR pg_catalog.jsonb_typeof(e.value) = 'object' AND e.value ? 'omitted_bytes' \
         AND e.value - 'omitted_bytes' = '{}'::jsonb ORDER BY 1 LIMIT 1",
    );
    let query = query.bind(image).bind(&conflict.field).bind(conflict.key.get());
    let Some(row) = query.fetch_optional(conn).await.map_err(|error| super::READING.error(error))? else {
        return Ok(None);
    };
    let read = || Ok((row.try_get(0)?, row.try_get(1)?));
    let (column, masked) = read().map_err(|error| super::READING.error(error))?;
    let why = if masked { "is masked (`conflict_log.mask`)" } else { "was too large (`conflict_log.largest_value`)" };
    Ok(Some((column, why)))
}

/// Whether a row differs from what the conflict made of it, in a column that the log has.
async fn has_changed(conn: &mut PgConnection, conflict: &Conflict, current: Option<&str>) -> Result<bool, TargetError> {
    let result = conflict.result.as_ref().map(|result| result.get());
    let (Some(result), Some(current)) = (result, current) else {
        // Of a column's conflict there is a result always.
        return Ok(result.is_some() != current.is_some());
    };
    let query = sqlx::query_scalar::<_, bool>(
        "SELECT EXISTS (SELECT FROM pg_catalog.jsonb_each(CASE WHEN $3::text IS NULL THEN $1::jsonb \
         ELSE pg_catalog.jsonb_build_object($3::text, $1::jsonb) END) AS e WHERE e.value <> '\"***\"'::jsonb \
         AND NOT (pg_catalog.jsonb_typeof(e.value) = 'object' AND e.value ? 'omitted_bytes') \
         AND $2::jsonb -> e.key IS DISTINCT FROM e.value)",
    );
    let query = query.bind(result).bind(current).bind(&conflict.field);
    query.fetch_one(conn).await.map_err(|error| super::READING.error(error))
}
