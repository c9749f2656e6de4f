//! A contested table's statements. Parameters are arrays of cells, as in [`super::super::statements`].

use std::collections::BTreeMap;

use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo};
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row, Type};
use syncline_catalog::ident::quote_literal;

use super::super::encode::Codec;
use super::super::error::Doing;
use super::super::statements::{self, StatementColumn};
use crate::config::ConflictLog;
use crate::rows::{Cell, CellForm, Rows};
use crate::targets::TargetError;

/// A table as changes of several nodes are written to it.
pub(in crate::targets::postgres) struct ContestTable {
    /// `schema.table`.
    pub(in crate::targets::postgres) name: String,
    /// Quoted.
    pub(in crate::targets::postgres) table: String,
    /// Columns that are written, each with its place in the rows.
    pub(in crate::targets::postgres) columns: Vec<(usize, StatementColumn)>,
    /// The columns' names as the table has them.
    pub(in crate::targets::postgres) names: Vec<String>,
    /// The key's columns, as indexes into `columns`.
    pub(in crate::targets::postgres) key: Vec<usize>,
    /// Whether identity columns are overridden.
    pub(in crate::targets::postgres) identity: bool,
}

impl ContestTable {
    fn all(&self) -> Vec<&StatementColumn> {
        self.columns.iter().map(|(_, column)| column).collect()
    }

    fn key_columns(&self) -> Vec<&StatementColumn> {
        self.key.iter().map(|index| &self.columns[*index].1).collect()
    }

    /// `SELECT n, xmin, place` of the rows that are there, by key, in any order; the place only of those that are in no
    /// partition. With `lock` of those that nobody else has locked, which are locked then; with `values` as texts behind.
    pub(super) fn look(&self, lock: bool, values: bool) -> String {
        let lock = if lock { " FOR UPDATE OF t SKIP LOCKED" } else { "" };
        let texts = |(_, column): &(usize, StatementColumn)| format!("t.{}::pg_catalog.text", column.name);
        let texts: Vec<String> = self.columns.iter().filter(|_| values).map(texts).collect();
        let values = if values { format!(", ARRAY[{}]", texts.join(", ")) } else { String::new() };
        format!(
            "SELECT u.n, t.xmin, CASE t.tableoid WHEN {}::pg_catalog.regclass THEN t.ctid END{values} \
             FROM {} JOIN {} AS t ON {}{lock}",
            quote_literal(&self.table),
            numbered(&self.key_columns(), 1),
            self.table,
            statements::conditions(&self.key_columns(), 0)
        )
    }

    /// `SELECT n, texts`: the key's columns as PostgreSQL puts them out, by given keys.
    pub(super) fn key_texts(&self) -> String {
        let value =
            |(index, place): (usize, &usize)| format!("pg_catalog.concat(u.c{index}{})", self.columns[*place].1.cast);
        let values: Vec<String> = self.key.iter().enumerate().map(value).collect();
        format!("SELECT u.n, ARRAY[{}] FROM {} ORDER BY u.n", values.join(", "), numbered(&self.key_columns(), 1))
    }

    /// Locks rows by key, waiting for whoever has them.
    pub(super) fn queue_up(&self) -> String {
        format!(
            "SELECT FROM {} JOIN {} AS t ON {} FOR UPDATE OF t",
            numbered(&self.key_columns(), 1),
            self.table,
            statements::conditions(&self.key_columns(), 0)
        )
    }

    /// `SELECT n, image, hash` of the rows that are there, by key. Parameters: the log's largest value and its masks,
    /// then the key.
    pub(super) fn images_in_table(&self) -> String {
        let columns: Vec<String> =
            self.columns.iter().map(|(_, column)| format!("t.{0} AS {0}", column.name)).collect();
        format!(
            "SELECT n, {IMAGE}::pg_catalog.text, pg_catalog.md5(x::pg_catalog.text) FROM (SELECT u.n, pg_catalog.to_jsonb(r) AS x \
             FROM {} JOIN {} AS t ON {}, LATERAL (SELECT {}) AS r) AS s ORDER BY n",
            numbered(&self.key_columns(), 3),
            self.table,
            statements::conditions(&self.key_columns(), 0),
            columns.join(", "),
        )
    }

    /// `SELECT n, key, image, hash` of given rows. Parameters as before, then all columns.
    pub(super) fn images_of_rows(&self) -> String {
        let value = |index: usize| {
            let column = &self.columns[index].1;
            format!("u.c{index}{} AS {}", column.cast, column.name)
        };
        let all: Vec<String> = (0..self.columns.len()).map(value).collect();
        let key: Vec<String> = self.key.iter().map(|index| value(*index)).collect();
        format!(
            "SELECT n, k::pg_catalog.text, {IMAGE}::pg_catalog.text, pg_catalog.md5(x::pg_catalog.text) FROM (SELECT u.n, pg_catalog.to_jsonb(q) AS k, \
             pg_catalog.to_jsonb(r) AS x FROM {}, LATERAL (SELECT {}) AS q, LATERAL (SELECT {}) AS r) AS s ORDER BY n",
            numbered(&self.all(), 3),
            key.join(", "),
            all.join(", "),
        )
    }

    /// Inserts rows or overwrites them. Parameters: all columns.
    pub(super) fn upsert(&self) -> String {
        statements::upsert(&self.table, &self.all(), &self.key_columns(), self.identity)
    }

    /// Overwrites rows that are locked, where they are, which costs less than to find them by key. None without columns
    /// beside the key. Parameters: the places, then all columns.
    pub(super) fn overwrite(&self) -> Option<String> {
        let (mut assignments, mut rows, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (_, column)) in self.columns.iter().enumerate() {
            if !self.key.contains(&index) {
                assignments.push(format!("{} = u.c{index}{}", column.name, column.cast));
            }
            rows.push(column.unnest(index + 2));
            names.push(format!("c{index}"));
        }
        let text = format!(
            "UPDATE ONLY {} AS t SET {} FROM (SELECT pg_catalog.unnest($1::tid[]), {}) AS u (place, {}) \
             WHERE t.ctid = u.place",
            self.table,
            assignments.join(", "),
            rows.join(", "),
            names.join(", ")
        );
        (!assignments.is_empty()).then_some(text)
    }

    /// Takes the lock that an insert needs of the whole table, or fails at once.
    pub(super) fn lock(&self) -> String {
        format!("LOCK TABLE {} IN ROW EXCLUSIVE MODE NOWAIT", self.table)
    }

    /// Inserts rows. Parameters: all columns.
    pub(super) fn insert(&self) -> String {
        statements::insert(&self.table, &self.all(), self.identity)
    }

    /// Inserts rows whose keys are free, at half as much again. Parameters: all columns.
    pub(super) fn insert_free(&self) -> String {
        self.insert() + " ON CONFLICT DO NOTHING"
    }

    /// Deletes rows. Parameters: the key's columns.
    pub(super) fn delete(&self) -> String {
        statements::delete(&self.table, &self.key_columns())
    }

    /// Deletes rows that are locked, where they are. Parameter: the places.
    pub(super) fn delete_at(&self) -> String {
        format!(
            "DELETE FROM ONLY {} AS t USING (SELECT pg_catalog.unnest($1::tid[])) AS u (place) WHERE t.ctid = u.place",
            self.table
        )
    }

    /// `SELECT n, texts`: given rows as arrays of their columns' texts. Parameters: all columns.
    pub(super) fn texts(&self) -> String {
        let value = |(index, (_, column)): (usize, &(usize, StatementColumn))| {
            format!("(u.c{index}{})::pg_catalog.text", column.cast)
        };
        let values: Vec<String> = self.columns.iter().enumerate().map(value).collect();
        format!("SELECT u.n, ARRAY[{}] FROM {} ORDER BY u.n", values.join(", "), numbered(&self.all(), 1))
    }
}

/// Values that are longer than allowed are left out with their length, masked ones without; `x` is a whole image.
const IMAGE: &str = "(SELECT pg_catalog.jsonb_object_agg(e.key, CASE \
     WHEN e.key = ANY ($2::pg_catalog.text[]) THEN '\"***\"'::pg_catalog.jsonb \
     WHEN pg_catalog.octet_length(e.value::pg_catalog.text) > $1::pg_catalog.int8 \
     THEN pg_catalog.jsonb_build_object('omitted_bytes', pg_catalog.octet_length(e.value::pg_catalog.text)) \
     ELSE e.value END) FROM pg_catalog.jsonb_each(x) AS e)";

/// What [`IMAGE`] needs as its parameters.
pub(super) fn image_limits(log: &ConflictLog) -> (i64, &[String]) {
    (i64::try_from(log.largest_value).unwrap_or(i64::MAX), &log.masked)
}

/// `(SELECT unnest($first::…[]), …, generate_subscripts(…)) AS u (c0, …, n)`.
fn numbered(columns: &[&StatementColumn], first: usize) -> String {
    let rows: Vec<String> = (first..).zip(columns).map(|(number, column)| column.unnest(number)).collect();
    let names: Vec<String> = (0..columns.len()).map(|index| format!("c{index}")).collect();
    let numbers = columns.first().map(|column| column.array(first)).unwrap_or_default();
    format!(
        "(SELECT {}, pg_catalog.generate_subscripts({numbers}, 1)::pg_catalog.int8) AS u ({}, n)",
        rows.join(", "),
        names.join(", ")
    )
}

/// A row's values as PostgreSQL's texts, in the order of a contested table's columns.
pub(super) type Image = Vec<Option<String>>;

/// Rows as texts, in their order. They may be of several plans of one table.
pub(super) async fn texts(conn: &mut PgConnection, rows: &[RowAt<'_>]) -> Result<Vec<Image>, TargetError> {
    let mut images = Vec::with_capacity(rows.len());
    for same in rows.chunk_by(|a, b| std::ptr::eq(a.table, b.table)) {
        let table = same[0].table;
        let doing = Doing::Writing { table: &table.name, index: None, what: "comparing rows of" };
        let mut query = sqlx::query(AssertSqlSafe(table.texts()));
        for array in CellArray::all(table, same) {
            query = query.bind(array);
        }
        for row in query.fetch_all(&mut *conn).await.map_err(|error| doing.error(error))? {
            images.push(row.try_get(1).map_err(|error| doing.error(error))?);
        }
    }
    Ok(images)
}

/// The keys' columns of given rows, by name, as PostgreSQL puts them out. They may be of several plans of one table.
pub(super) async fn key_texts(
    conn: &mut PgConnection,
    rows: &[RowAt<'_>],
) -> Result<Vec<BTreeMap<String, String>>, TargetError> {
    let mut keys = Vec::with_capacity(rows.len());
    for same in rows.chunk_by(|a, b| std::ptr::eq(a.table, b.table)) {
        let table = same[0].table;
        let doing = Doing::Writing { table: &table.name, index: None, what: "reading keys of" };
        let mut query = sqlx::query(AssertSqlSafe(table.key_texts()));
        for array in CellArray::key(table, same) {
            query = query.bind(array);
        }
        for row in query.fetch_all(&mut *conn).await.map_err(|error| doing.error(error))? {
            let texts: Vec<String> = row.try_get(1).map_err(|error| doing.error(error))?;
            keys.push(table.key.iter().map(|place| table.names[*place].clone()).zip(texts).collect());
        }
    }
    Ok(keys)
}

/// Rows of texts.
pub(super) fn rows_of<'i>(table: &ContestTable, images: impl Iterator<Item = &'i Image>) -> Rows {
    let mut rows = Rows::new(table.columns.len());
    for value in images.flatten() {
        let Ok(()) = rows.push(|out| {
            Ok::<_, std::convert::Infallible>(match value {
                Some(text) => {
                    out.extend_from_slice(text.as_bytes());
                    CellForm::Written
                }
                None => CellForm::Null,
            })
        });
    }
    rows
}

/// A row among those of one table in several arenas.
#[derive(Clone, Copy)]
pub(super) struct RowAt<'a> {
    pub(super) table: &'a ContestTable,
    pub(super) rows: &'a Rows,
    pub(super) row: u32,
}

impl<'a> RowAt<'a> {
    /// The cell of one of the table's columns.
    fn cell(&self, column: usize) -> Option<&'a [u8]> {
        let cell: Cell = self.rows.row(self.row as usize)[self.table.columns[column].0];
        self.rows.bytes(cell)
    }
}

/// One column of some rows as an array parameter, in the binary form (`array_recv`).
pub(super) struct CellArray<'a> {
    codec: Codec,
    rows: &'a [RowAt<'a>],
    column: usize,
    /// Whether `column` counts the key's columns.
    of_key: bool,
}

impl<'a> CellArray<'a> {
    /// Arrays of all columns of some rows, which are of one table.
    pub(super) fn all(table: &'a ContestTable, rows: &'a [RowAt<'a>]) -> impl Iterator<Item = Self> {
        let of = move |(column, (_, named)): (usize, &(usize, StatementColumn))| Self {
            codec: named.codec,
            rows,
            column,
            of_key: false,
        };
        table.columns.iter().enumerate().map(of)
    }

    /// Arrays of the key's columns.
    pub(super) fn key(table: &'a ContestTable, rows: &'a [RowAt<'a>]) -> impl Iterator<Item = Self> {
        let of = move |(column, index): (usize, &usize)| Self {
            codec: table.columns[*index].1.codec,
            rows,
            column,
            of_key: true,
        };
        table.key.iter().enumerate().map(of)
    }
}

impl Type<Postgres> for CellArray<'_> {
    /// Never asked: every instance says what it produces.
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1009))
    }
}

impl<'q> Encode<'q, Postgres> for CellArray<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let (_, element_oid, _) = self.codec.element();
        buffer.extend_from_slice(&1_i32.to_be_bytes());
        buffer.extend_from_slice(&1_i32.to_be_bytes()); // may hold NULLs
        buffer.extend_from_slice(&element_oid.to_be_bytes());
        buffer.extend_from_slice(&i32::try_from(self.rows.len())?.to_be_bytes());
        buffer.extend_from_slice(&1_i32.to_be_bytes()); // lower bound
        for row in self.rows {
            let column = if self.of_key { row.table.key[self.column] } else { self.column };
            match row.cell(column) {
                Some(bytes) => {
                    buffer.extend_from_slice(&i32::try_from(bytes.len())?.to_be_bytes());
                    buffer.extend_from_slice(bytes);
                }
                None => buffer.extend_from_slice(&(-1_i32).to_be_bytes()),
            }
        }
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.codec.element().2)))
    }
}
