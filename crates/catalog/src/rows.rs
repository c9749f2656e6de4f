//! The rows of tables as one moment shows them, in the order of their keys: tables of several databases can be held
//! against each other row by row, however large they are.

use std::cmp::Ordering;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use syncline_event::table::{Column, ColumnType, TableDefinition};
use syncline_runtime::settings::DatabaseSettings;

use crate::connect::{ConnectError, connect};
use crate::ident::{IdentError, qualified, quote_identifier};

/// Why rows cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// No session.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A name that no statement can hold.
    #[error(transparent)]
    Ident(#[from] IdentError),
    /// No transaction.
    #[error("a transaction that only reads cannot be begun")]
    Begin(#[source] sqlx::Error),
    /// The server.
    #[error("rows of table {table} cannot be read")]
    Read {
        /// `schema.table`.
        table: String,
        /// Its answer.
        source: sqlx::Error,
    },
    /// Not the order that was asked for.
    #[error(
        "rows of table {table} do not come in the order of their keys: its database has an encoding other than UTF8, which \
         is not supported here"
    )]
    Order {
        /// `schema.table`.
        table: String,
    },
}

/// A value of a key, in an order that is the same on every server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyValue {
    /// Of an integer column.
    Integer(i64),
    /// Of any other: its text, by bytes.
    Text(String),
}

/// A row, all values as PostgreSQL's texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRow {
    /// In key order.
    pub key: Vec<KeyValue>,
    /// In the order of the columns that were asked for.
    pub values: Vec<Option<String>>,
}

/// A session that sees the database as it is at its first question, and can change nothing.
#[derive(Debug)]
pub struct View {
    connection: PgConnection,
}

impl View {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// The server is away or refuses.
    pub async fn open(settings: &DatabaseSettings, application_name: &str) -> Result<Self, RowsError> {
        let mut connection = connect(settings, application_name).await?;
        // A large table takes its time, and the session waits while other servers are read.
        let begin = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
                     BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        sqlx::raw_sql(begin).execute(&mut connection).await.map_err(RowsError::Begin)?;
        Ok(Self { connection })
    }

    /// The rows of a table by its key, with these of its columns.
    ///
    /// # Errors
    ///
    /// A name that no statement can hold.
    pub fn rows(&mut self, table: &TableDefinition, columns: &[usize]) -> Result<KeyedRows<'_>, RowsError> {
        let statement = sqlx::query(AssertSqlSafe(select(table, columns)?)).persistent(false);
        let is_integer = table.key.iter().map(|column| is_integer(&table.columns[*column].column_type));
        let form = Form { is_integer: is_integer.collect(), width: columns.len() };
        let name = table.qualified_name();
        let mut last: Option<Vec<KeyValue>> = None;
        let rows = statement.fetch(&mut self.connection).map(move |row| {
            let read = |source| RowsError::Read { table: name.clone(), source };
            let row = row.and_then(|row| form.keyed(&row)).map_err(read)?;
            if last.as_ref().is_some_and(|last| row.key.cmp(last) != Ordering::Greater) {
                return Err(RowsError::Order { table: name.clone() });
            }
            last = Some(row.key.clone());
            Ok(row)
        });
        Ok(KeyedRows(Box::pin(rows)))
    }
}

/// Rows on their way. One at a time is held here; the server waits with the others.
pub struct KeyedRows<'v>(BoxStream<'v, Result<KeyedRow, RowsError>>);

impl KeyedRows<'_> {
    /// The next row. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The server gives no more, or not in order.
    pub async fn next(&mut self) -> Result<Option<KeyedRow>, RowsError> {
        self.0.try_next().await
    }
}

/// How a row comes.
struct Form {
    /// Of each column of the key.
    is_integer: Vec<bool>,
    /// How many columns come before the key.
    width: usize,
}

impl Form {
    fn keyed(&self, row: &PgRow) -> Result<KeyedRow, sqlx::Error> {
        let value = |(place, is_integer): (usize, &bool)| {
            let place = self.width + place;
            Ok::<_, sqlx::Error>(if *is_integer {
                KeyValue::Integer(row.try_get(place)?)
            } else {
                KeyValue::Text(row.try_get(place)?)
            })
        };
        Ok(KeyedRow {
            key: self.is_integer.iter().enumerate().map(value).collect::<Result<_, _>>()?,
            values: (0..self.width).map(|place| row.try_get(place)).collect::<Result<_, _>>()?,
        })
    }
}

/// `SELECT` of the columns, then of the key, in the key's order. An integer key is read along its index; other types
/// are ordered by their texts, since their own order may depend on the server's locale.
fn select(table: &TableDefinition, columns: &[usize]) -> Result<String, IdentError> {
    let name = |column: &usize| quote_identifier(&table.columns[*column].name).map(|name| format!("t.{name}"));
    let (mut outputs, mut order) = (Vec::new(), Vec::new());
    for column in columns {
        outputs.push(format!("{}::pg_catalog.text", name(column)?));
    }
    for column in &table.key {
        let (name, column) = (name(column)?, &table.columns[*column]);
        if is_integer(&column.column_type) {
            outputs.push(format!("{name}::pg_catalog.int8"));
            order.push(name);
        } else {
            let text = key_text(&name, column);
            order.push(format!("{text} COLLATE \"C\""));
            outputs.push(text);
        }
    }
    let table = qualified(&table.schema, &table.table)?;
    Ok(format!("SELECT {} FROM {table} AS t ORDER BY {}", outputs.join(", "), order.join(", ")))
}

/// One text for all forms of a value that the type takes for the same.
fn key_text(name: &str, column: &Column) -> String {
    match (column.column_type.schema.as_str(), column.column_type.name.as_str()) {
        ("pg_catalog", "numeric") => format!("pg_catalog.trim_scale({name})::pg_catalog.text"),
        (_, "citext") => format!("pg_catalog.lower({name}::pg_catalog.text)"),
        _ => format!("{name}::pg_catalog.text"),
    }
}

fn is_integer(column: &ColumnType) -> bool {
    column.schema == "pg_catalog" && matches!(column.name.as_str(), "int2" | "int4" | "int8")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(key: &[(&str, &str)]) -> TableDefinition {
        let column = |(name, kind): &(&str, &str)| {
            let kind = json!({"oid": 0, "name": kind, "schema": "pg_catalog", "modifier": -1, "format": kind});
            json!({"name": name, "field": name, "type": kind, "nullable": false})
        };
        let columns: Vec<_> = key.iter().chain(&[("v", "text")]).map(column).collect();
        let definition = json!({"topic": "t", "number": 1, "schema": "public", "table": "T", "columns": columns,
                                "key": (0..key.len()).collect::<Vec<_>>(), "replica_identity": "full"});
        serde_json::from_value(definition).unwrap()
    }

    #[test]
    fn keys_have_one_order_on_all_servers() {
        let statement = select(&table(&[("id", "int4")]), &[0, 1]).unwrap();
        assert_eq!(
            statement,
            "SELECT t.\"id\"::pg_catalog.text, t.\"v\"::pg_catalog.text, t.\"id\"::pg_catalog.int8 \
             FROM \"public\".\"T\" AS t ORDER BY t.\"id\""
        );
        let statement = select(&table(&[("a", "text"), ("n", "numeric"), ("i", "int8")]), &[3]).unwrap();
        assert!(
            statement.ends_with(
                "ORDER BY t.\"a\"::pg_catalog.text COLLATE \"C\", \
                 pg_catalog.trim_scale(t.\"n\")::pg_catalog.text COLLATE \"C\", t.\"i\""
            ),
            "{statement}"
        );
        assert!(
            KeyValue::Integer(-1) < KeyValue::Integer(10) && KeyValue::Text("B".into()) < KeyValue::Text("a".into())
        );
    }
}
