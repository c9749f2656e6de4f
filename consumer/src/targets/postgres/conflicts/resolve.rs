//! What a person decides: one side's values are written as any application would write them. So they are captured, get
//! a stamp that is later than both sides', and reach every node.

use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use super::super::error::Doing;
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

/// The table of a conflict as the database has it.
struct Table {
    name: String,
    /// Quoted.
    quoted: String,
    columns: Vec<Column>,
}

struct Column {
    name: String,
    /// Quoted.
    quoted: String,
    key: bool,
    /// An identity column that takes no values in an UPDATE.
    fixed: bool,
}

impl Table {
    /// The table, unless it has gone or has another primary key. Generated columns are left out.
    async fn find(conn: &mut PgConnection, conflict: &Conflict) -> Result<Option<Self>, TargetError> {
        let query = sqlx::query(
            "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), a.attname::text, pg_catalog.quote_ident(a.attname), \
             a.attnum = ANY (i.indkey), a.attidentity = 'a' FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
             WHERE n.nspname || '.' || c.relname = $1 AND c.relkind IN ('r', 'p') ORDER BY a.attnum",
        );
        let doing = Doing::Bookkeeping("looking for the table of a conflict");
        let rows = query.bind(&conflict.table_name).fetch_all(conn).await.map_err(|error| doing.error(error))?;
        let mut table = Self { name: conflict.table_name.clone(), quoted: String::new(), columns: Vec::new() };
        for row in &rows {
            let read = || {
                let column = Column {
                    name: row.try_get(1)?,
                    quoted: row.try_get(2)?,
                    key: row.try_get(3)?,
                    fixed: row.try_get(4)?,
                };
                Ok((row.try_get(0)?, column))
            };
            let (quoted, column) = read().map_err(|error| doing.error(error))?;
            table.quoted = quoted;
            table.columns.push(column);
        }
        let named: std::collections::BTreeMap<&str, &RawValue> =
            serde_json::from_str(conflict.key.get()).unwrap_or_default();
        let key: Vec<&str> = table.key().map(|column| column.name.as_str()).collect();
        let fits = !key.is_empty() && key.len() == named.len() && key.iter().all(|name| named.contains_key(name));
        Ok(fits.then_some(table))
    }

    fn key(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| column.key)
    }

    /// `t` and `r` agree on the key.
    fn same_key(&self) -> String {
        let equal = |column: &Column| format!("t.{0} = r.{0}", column.quoted);
        self.key().map(equal).collect::<Vec<_>>().join(" AND ")
    }

    fn doing(&self, what: &'static str) -> Doing<'_> {
        Doing::Writing { table: &self.name, index: None, what }
    }

    /// The conflict's row as it is now, as JSON.
    async fn row(
        &self,
        conn: &mut PgConnection,
        conflict: &Conflict,
        lock: bool,
    ) -> Result<Option<String>, TargetError> {
        let text = format!(
            "SELECT pg_catalog.to_jsonb(t)::text FROM pg_catalog.jsonb_populate_record(NULL::{0}, $1::jsonb) AS r \
             JOIN {0} AS t ON {1}{2}",
            self.quoted,
            self.same_key(),
            if lock { " FOR UPDATE OF t" } else { "" }
        );
        let query = sqlx::query_scalar(AssertSqlSafe(text)).bind(conflict.key.get());
        query.fetch_optional(conn).await.map_err(|error| self.doing("reading a conflict's row of").error(error))
    }

    /// What a side's values change of the row.
    async fn changes(
        &self,
        conn: &mut PgConnection,
        conflict: &Conflict,
        current: Option<&str>,
        image: Option<&str>,
    ) -> Result<Vec<Change>, TargetError> {
        let query = sqlx::query(
            "SELECT n.name, ($1::jsonb -> n.name)::text, (w.image -> n.name)::text FROM (SELECT CASE WHEN $3::text IS NULL \
             THEN $2::jsonb ELSE pg_catalog.jsonb_build_object($3::text, $2::jsonb) END AS image) AS w, \
             pg_catalog.unnest($4::text[]) WITH ORDINALITY AS n (name, place) \
             WHERE ($1::jsonb -> n.name) IS DISTINCT FROM (w.image -> n.name) AND (w.image IS NULL OR w.image ? n.name) \
             ORDER BY n.place",
        );
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let query = query.bind(current).bind(image).bind(&conflict.field).bind(names);
        let doing = self.doing("comparing a conflict's row of");
        let rows = query.fetch_all(conn).await.map_err(|error| doing.error(error))?;
        let mut changes = Vec::with_capacity(rows.len());
        for row in &rows {
            let read = || Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
            let (column, before, after): (String, Option<String>, Option<String>) =
                read().map_err(|error| doing.error(error))?;
            let [before, after] = [before, after].map(|text| text.and_then(|text| RawValue::from_string(text).ok()));
            changes.push(Change { column, before, after });
        }
        Ok(changes)
    }

    async fn write(
        &self,
        conn: &mut PgConnection,
        conflict: &Conflict,
        image: Option<&str>,
    ) -> Result<(), TargetError> {
        let key = conflict.key.get();
        let names = image_names(conflict, image);
        let text = match image {
            None => format!(
                "DELETE FROM {0} AS t USING pg_catalog.jsonb_populate_record(NULL::{0}, $1::jsonb) AS r WHERE {1}",
                self.quoted,
                self.same_key()
            ),
            Some(_) => self.statement(conflict.field.as_deref(), &names),
        };
        let mut query = sqlx::query(AssertSqlSafe(text)).bind(key);
        if let Some(image) = image {
            query = query.bind(image).bind(&conflict.field);
        }
        query.execute(conn).await.map_err(|error| self.doing("writing to").error(error))?;
        Ok(())
    }

    /// The statement that writes an image, or one column. `$1` is the key, `$2` the image or value, `$3` the column.
    fn statement(&self, field: Option<&str>, names: &[String]) -> String {
        let written = |column: &&Column| names.contains(&column.name);
        let values = format!(
            "pg_catalog.jsonb_populate_record(NULL::{}, CASE WHEN $3::text IS NULL THEN $2::jsonb \
             ELSE pg_catalog.jsonb_build_object($3::text, $2::jsonb) END || $1::jsonb) AS r",
            self.quoted
        );
        let set = |from: &str| {
            let others = self.columns.iter().filter(|column| !column.key && !column.fixed).filter(written);
            others.map(|column| format!("{0} = {from}.{0}", column.quoted)).collect::<Vec<_>>().join(", ")
        };
        if field.is_some() {
            return format!("UPDATE {} AS t SET {} FROM {values} WHERE {}", self.quoted, set("r"), self.same_key());
        }
        let list = |prefix: &str, columns: &mut dyn Iterator<Item = &Column>| {
            columns.map(|column| format!("{prefix}{}", column.quoted)).collect::<Vec<_>>().join(", ")
        };
        let all = |prefix| list(prefix, &mut self.columns.iter().filter(|column| column.key || written(column)));
        let action = match set("EXCLUDED") {
            none if none.is_empty() => "NOTHING".to_owned(),
            set => format!("UPDATE SET {set}"),
        };
        format!(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {values} ON CONFLICT ({}) DO {action}",
            self.quoted,
            all(""),
            all("r."),
            list("", &mut self.key())
        )
    }
}

/// The columns that an image has, or the one that the conflict is about.
fn image_names(conflict: &Conflict, image: Option<&str>) -> Vec<String> {
    if let Some(field) = &conflict.field {
        return vec![field.clone()];
    }
    let columns: std::collections::BTreeMap<String, &RawValue> =
        image.and_then(|image| serde_json::from_str(image).ok()).unwrap_or_default();
    columns.into_keys().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let column = |name: &str, key, fixed| Column { name: name.into(), quoted: format!("\"{name}\""), key, fixed };
        let columns = vec![column("id", true, true), column("v", false, false), column("added", false, false)];
        Table { name: "public.t".into(), quoted: "public.t".into(), columns }
    }

    #[test]
    fn an_image_is_written_without_the_columns_it_lacks() {
        let text = table().statement(None, &["id".to_owned(), "v".to_owned(), "dropped".to_owned()]);
        assert!(
            text.starts_with(
                "INSERT INTO public.t (\"id\", \"v\") OVERRIDING SYSTEM VALUE SELECT r.\"id\", r.\"v\" FROM"
            )
        );
        assert!(text.ends_with("ON CONFLICT (\"id\") DO UPDATE SET \"v\" = EXCLUDED.\"v\""), "{text}");
        let text = table().statement(None, &["id".to_owned()]);
        assert!(text.ends_with("DO NOTHING"), "{text}");
    }

    #[test]
    fn a_column_is_updated_alone() {
        let text = table().statement(Some("v"), &["v".to_owned()]);
        assert!(text.starts_with("UPDATE public.t AS t SET \"v\" = r.\"v\" FROM"), "{text}");
        assert!(text.ends_with("WHERE t.\"id\" = r.\"id\""), "{text}");
    }
}
