//! One type's values: where they come from, and how they arrived.
//!
//! Text stands for a value: what a column shows says all that is in it.

use std::collections::BTreeMap;

use anyhow::Result;
use sqlx::{PgConnection, Row};
use syncline_integration_tests::sql;

/// A type with values, in a table of its own, so that one which a path does not carry stops nothing but itself.
#[derive(Debug)]
pub(crate) struct Tried {
    pub(crate) table: String,
    pub(crate) column_type: &'static str,
    pub(crate) values: Vec<&'static str>,
}

impl Tried {
    pub(crate) fn create(&self) -> String {
        format!("CREATE TABLE {} (id int PRIMARY KEY, v {});", self.table, self.column_type)
    }

    /// The values as rows: `first` holds NULL, the values follow.
    pub(crate) fn insert(&self, first: usize) -> String {
        let mut text = format!("INSERT INTO {} VALUES ({first}, NULL)", self.table);
        for (number, value) in self.values.iter().enumerate() {
            text.push_str(&format!(", ({}, {value})", first + 1 + number));
        }
        text + ";"
    }

    /// How many rows there are, once both kinds of rows are in.
    pub(crate) fn rows(&self) -> usize {
        2 * (1 + self.values.len())
    }

    /// The value that a row holds, as it is written in SQL.
    fn written(&self, id: i32) -> &'static str {
        let place = usize::try_from(id % 100).unwrap_or(0);
        place.checked_sub(1).and_then(|place| self.values.get(place)).copied().unwrap_or("NULL")
    }
}

/// What became of one type's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// All are what they were, in a column of this type.
    Exact(String),
    /// Some are not, in a column of this type: these, as they are written in SQL.
    Changed(String, Vec<&'static str>),
    /// The rows arrive without the column.
    Without,
    /// The rows do not arrive: the path stops.
    Stops,
}

/// The values that the rows of each table hold where nothing was lost, by `id`, as text.
pub(crate) type Expected = Vec<BTreeMap<i32, Option<String>>>;

/// What the tables of a PostgreSQL database hold.
pub(crate) async fn expected(source: &mut PgConnection, tried: &[Tried]) -> Result<Expected> {
    let mut expected = Vec::new();
    for tried in tried {
        expected.push(texts(source, &tried.table).await?);
    }
    Ok(expected)
}

/// Compares each table of a target. Where a value arrived as another text, `source`, if there is one, says whether that
/// is the same value in the column's own type: `12.50` is `$12.50`.
pub(crate) async fn arrivals(
    target: &mut PgConnection,
    tried: &[Tried],
    expected: &Expected,
    mut source: Option<&mut PgConnection>,
) -> Result<Vec<Arrival>> {
    let mut arrivals = Vec::new();
    for (tried, expected) in tried.iter().zip(expected) {
        let table = &tried.table;
        if count(target, table).await?.is_none_or(|count| count < tried.rows()) {
            arrivals.push(Arrival::Stops);
            continue;
        }
        let Some(column_type) = column_type(target, table).await? else {
            arrivals.push(Arrival::Without);
            continue;
        };
        let found = texts(target, table).await?;
        let mut changed: Vec<&str> = Vec::new();
        for (id, value) in expected {
            let found = found.get(id).cloned().flatten();
            let mut same = found == *value;
            if let (false, Some(source), Some(text)) = (same, source.as_deref_mut(), found) {
                same = in_type(source, tried.column_type, &text).await == *value;
            }
            let written = tried.written(*id);
            if !same && !changed.contains(&written) {
                changed.push(written);
            }
        }
        arrivals.push(if changed.is_empty() {
            Arrival::Exact(column_type)
        } else {
            Arrival::Changed(column_type, changed)
        });
    }
    Ok(arrivals)
}

async fn column_type(target: &mut PgConnection, table: &str) -> Result<Option<String>> {
    let text = format!(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attname = 'v'"
    );
    Ok(sql::rows(target, text).await?.into_iter().next().map(|row| row.try_get(0)).transpose()?)
}

/// A text as a type writes it; none where it is no value of that type.
async fn in_type(conn: &mut PgConnection, column_type: &str, text: &str) -> Option<String> {
    let text = match (column_type, text) {
        ("bit(1)", "true") => "1",
        ("bit(1)", "false") => "0",
        _ => text,
    };
    let quoted = text.replace('\'', "''");
    sql::value(conn, format!("SELECT ('{quoted}'::text)::{column_type}::text")).await.ok()
}

/// The rows of a table, none where there is no such table.
pub(crate) async fn count(target: &mut PgConnection, table: &str) -> Result<Option<usize>> {
    if !sql::value::<bool>(target, format!("SELECT to_regclass('{table}') IS NOT NULL")).await? {
        return Ok(None);
    }
    let count: i64 = sql::value(target, format!("SELECT count(*) FROM {table}")).await?;
    Ok(Some(usize::try_from(count)?))
}

async fn texts(conn: &mut PgConnection, table: &str) -> Result<BTreeMap<i32, Option<String>>> {
    let mut texts = BTreeMap::new();
    for row in sql::rows(conn, format!("SELECT id::int4, v::text FROM {table}")).await? {
        texts.insert(row.try_get(0)?, row.try_get(1)?);
    }
    Ok(texts)
}
