//! Whether two tables hold the same rows: by content, every column as text.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use sqlx::{PgConnection, Row};
use syncline_catalog::ident::quote_identifier;

use crate::sql;

/// How many differing keys a report names.
const NAMED: usize = 5;

/// A table by schema and name, as the catalog has them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The schema.
    pub schema: String,
    /// The table.
    pub table: String,
}

impl Name {
    /// `schema.table` with neither in need of quotes, or a table in `public`.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let (schema, table) = text.split_once('.').unwrap_or(("public", text));
        Self { schema: schema.to_owned(), table: table.to_owned() }
    }

    /// As it stands in SQL.
    #[must_use]
    pub fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }
}

/// Number of rows and a checksum that does not depend on their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// Rows.
    pub rows: i64,
    /// Sum of the rows' hashes, in decimal.
    pub sum: String,
}

/// The columns of a table, and which of them are its primary key, in the order of the key.
struct Shape {
    columns: Vec<String>,
    key: Vec<String>,
}

async fn shape(conn: &mut PgConnection, name: &Name) -> Result<Shape> {
    let text = "SELECT a.attname::text, coalesce(array_position(i.indkey::int2[], a.attnum), -1)::int4
        FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
        WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
    let found = sqlx::query(text).bind(name.sql()).fetch_all(conn).await?;
    ensure!(!found.is_empty(), "there is no table {}", name.sql());
    let mut columns = Vec::new();
    let mut key = BTreeMap::new();
    for row in found {
        let column: String = row.try_get(0)?;
        let place: i32 = row.try_get(1)?;
        if place >= 0 {
            key.insert(place, column.clone());
        }
        columns.push(column);
    }
    Ok(Shape { columns, key: key.into_values().collect() })
}

/// The checksum of a table over the given columns.
///
/// # Errors
///
/// The table or a column is missing.
pub async fn checksum(conn: &mut PgConnection, name: &Name, columns: &[String]) -> Result<Checksum> {
    let text = format!(
        "SELECT count(*), coalesce(sum(hashtextextended(ROW({})::text, 0)::numeric), 0)::text FROM {}",
        texts(columns),
        name.sql()
    );
    let row = sql::rows(conn, text).await?.into_iter().next().context("an aggregate without a row")?;
    Ok(Checksum { rows: row.try_get(0)?, sum: row.try_get(1)? })
}

/// Whether both tables hold the same, by checksum. A table that is missing in the target differs.
///
/// # Errors
///
/// The source's table is missing, or a server cannot be reached.
pub async fn equal(source: &mut PgConnection, target: &mut PgConnection, name: &Name) -> Result<bool> {
    equal_as(source, name, target, name).await
}

/// [`equal`] for tables of different names.
///
/// # Errors
///
/// As there.
pub async fn equal_as(
    source: &mut PgConnection,
    source_name: &Name,
    target: &mut PgConnection,
    target_name: &Name,
) -> Result<bool> {
    let columns = shape(source, source_name).await?.columns;
    let Ok(found) = shape(target, target_name).await else { return Ok(false) };
    if !columns.iter().all(|column| found.columns.contains(column)) {
        return Ok(false);
    }
    Ok(checksum(source, source_name, &columns).await? == checksum(target, target_name, &columns).await?)
}

/// Fails with the first differing keys unless both tables hold the same rows. The target may have more columns.
///
/// # Errors
///
/// They differ, or a server cannot be reached.
pub async fn check(source: &mut PgConnection, target: &mut PgConnection, name: &Name) -> Result<u64> {
    let wanted = shape(source, name).await?;
    let found = shape(target, name).await.context("in the target")?;
    let missing: Vec<&String> = wanted.columns.iter().filter(|column| !found.columns.contains(column)).collect();
    ensure!(missing.is_empty(), "{}: the target lacks the columns {missing:?}", name.sql());
    ensure!(found.key == wanted.key, "{}: the key is {:?} in the target, not {:?}", name.sql(), found.key, wanted.key);
    let expected = content(source, name, &wanted).await?;
    let actual = content(target, name, &wanted).await?;
    let mut differences = Vec::new();
    for (key, row) in &expected {
        match actual.get(key) {
            None => differences.push(format!("{key:?} is missing in the target")),
            Some(other) if other != row => {
                differences.push(format!("{key:?}: {}", describe(&wanted.columns, row, other)))
            }
            Some(_) => {}
        }
    }
    for key in actual.keys().filter(|key| !expected.contains_key(*key)) {
        differences.push(format!("{key:?} is only in the target"));
    }
    if !differences.is_empty() {
        let count = differences.len();
        differences.truncate(NAMED);
        bail!(
            "{}: {count} of {} rows differ (the target has {}):\n  {}",
            name.sql(),
            expected.len(),
            actual.len(),
            differences.join("\n  ")
        );
    }
    Ok(u64::try_from(expected.len())?)
}

type Texts = Vec<Option<String>>;

async fn content(conn: &mut PgConnection, name: &Name, shape: &Shape) -> Result<BTreeMap<Texts, Texts>> {
    let key = if shape.key.is_empty() { &shape.columns } else { &shape.key };
    let text = format!("SELECT ARRAY[{}], ARRAY[{}] FROM {}", texts(key), texts(&shape.columns), name.sql());
    let mut content = BTreeMap::new();
    for row in sql::rows(conn, text).await? {
        content.insert(row.try_get(0)?, row.try_get(1)?);
    }
    Ok(content)
}

fn describe(columns: &[String], row: &Texts, other: &Texts) -> String {
    let mut parts = Vec::new();
    for ((column, wanted), found) in columns.iter().zip(row).zip(other) {
        if wanted != found {
            parts.push(format!("{column} is {} instead of {}", short(found.as_deref()), short(wanted.as_deref())));
        }
    }
    parts.join(", ")
}

fn short(value: Option<&str>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some(text) if text.chars().count() > 60 => {
            format!("'{}…' ({} bytes)", text.chars().take(60).collect::<String>(), text.len())
        }
        Some(text) => format!("'{text}'"),
    }
}

fn texts(columns: &[String]) -> String {
    columns.iter().map(|column| format!("{}::text", quoted(column))).collect::<Vec<_>>().join(", ")
}

fn quoted(name: &str) -> String {
    quote_identifier(name).expect("the scenarios' names are names that PostgreSQL takes")
}
