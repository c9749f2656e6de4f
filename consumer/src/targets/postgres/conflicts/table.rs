//! The table of a conflict: what its row is, and the statements that write it.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::super::error::Doing;
use super::{Change, Conflict};
use crate::targets::TargetError;

/// The table of a conflict as the database has it.
pub(super) struct Table {
    name: String,
    /// Quoted.
    quoted: String,
    pub(super) columns: Vec<Column>,
}

pub(super) struct Column {
    pub(super) name: String,
    /// Quoted.
    quoted: String,
    key: bool,
    /// An identity column that takes no values in an UPDATE.
    pub(super) fixed: bool,
}

impl Table {
    /// The table, unless it has gone or has another primary key. Generated columns are left out.
    pub(super) async fn find(conn: &mut PgConnection, conflict: &Conflict) -> Result<Option<Self>, TargetError> {
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
        let named: BTreeMap<&str, &RawValue> = serde_json::from_str(conflict.key.get()).unwrap_or_default();
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
    pub(super) async fn row(
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
    pub(super) async fn changes(
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

    pub(super) async fn write(
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
    let columns: BTreeMap<String, &RawValue> =
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
