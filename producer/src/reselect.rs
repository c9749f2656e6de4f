//! Large values that the log left out, read again from the table.
//!
//! An update leaves out large values that it did not touch. That is enough for a row that is there, but the row that a
//! change of the key makes is new wherever the change arrives: it has to be whole. (Debezium has the same as a post
//! processor, `ReselectColumnsPostProcessor`.)
//!
//! What is read may be newer than the change: then the change that made it follows in the log, and the row ends as in
//! the source. If the row is gone, or has another key by now, its removal follows in the log likewise; until then its
//! unknown values are NULL, or the least value of their type where they may not be.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use syncline_catalog::ident::{qualified, quote_identifier, quote_literal};
use syncline_event::table::{Column, TableDefinition, TypeKind};
use syncline_event::tuple::TupleCell;

use crate::context::Context;
use crate::error::ProducerError;
use crate::incremental::visible::Seen;

/// How long a transaction that the log holds may stay invisible: as long as its commit waits for a synchronous standby.
const INVISIBLE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// No such table, no such column, a key of another type.
const ALTERED: [&str; 5] = ["42P01", "42703", "42883", "42804", "22P02"];

/// Values that were read again.
#[derive(Debug, Default)]
pub(crate) struct Reselected {
    /// Columns that were asked for, as indexes into the definition.
    columns: Vec<usize>,
    found: Found,
}

#[derive(Debug, Default)]
enum Found {
    /// Nothing was asked for, or the table or one of the columns is not what it was.
    #[default]
    Nothing,
    /// The row as it is by now; `None` inside is NULL.
    Row(Vec<Option<String>>),
    /// There is no row with this key any more.
    Gone,
}

impl Reselected {
    /// Reads what an update left out, where that is wanted: all of it where the key changed, else the columns that the
    /// settings name. `row` is the new row of `transaction`.
    ///
    /// # Errors
    ///
    /// The source. Not cancel-safe: the session may be within a query.
    pub(crate) async fn read(
        context: &mut Context,
        definition: &TableDefinition,
        row: &[TupleCell<'_>],
        is_rekeyed: bool,
        transaction: u32,
    ) -> Result<Self, ProducerError> {
        let settings = &context.config.events.columns;
        let wanted = |column: &usize| {
            row[*column] == TupleCell::Unchanged && (is_rekeyed || settings.reselects(definition, *column))
        };
        let columns: Vec<usize> = (0..row.len()).filter(wanted).collect();
        if columns.is_empty() {
            return Ok(Self::default());
        }
        let found = find(&mut context.control, definition, row, &columns, transaction).await?;
        if matches!(found, Found::Nothing) {
            tracing::warn!(
                table = definition.qualified_name(),
                "large values that an update left out cannot be read again: the table was altered since"
            );
        }
        Ok(Self { columns, found })
    }

    /// Puts the values in. Of a row that is gone, where its removal will follow (`is_removed`), what stands for them.
    pub(crate) fn fill<'a>(&'a self, definition: &TableDefinition, is_removed: bool, row: &mut [TupleCell<'a>]) {
        for (number, column) in self.columns.iter().enumerate() {
            row[*column] = match &self.found {
                Found::Row(texts) => {
                    texts[number].as_ref().map_or(TupleCell::Null, |text| TupleCell::Text(text.as_bytes()))
                }
                Found::Gone if is_removed => of_gone_row(&definition.columns[*column]),
                Found::Gone | Found::Nothing => TupleCell::Unchanged,
            };
        }
    }
}

async fn find(
    control: &mut PgConnection,
    definition: &TableDefinition,
    row: &[TupleCell<'_>],
    columns: &[usize],
    transaction: u32,
) -> Result<Found, ProducerError> {
    let Some(query) = query(definition, row, columns)? else { return Ok(Found::Nothing) };
    let failed = |error| {
        ProducerError::source(&format!("large values of {} cannot be read again", definition.qualified_name()), error)
    };
    until_visible(control, transaction).await.map_err(failed)?;
    match sqlx::raw_sql(AssertSqlSafe(query)).fetch_optional(control).await {
        Ok(Some(row)) => {
            let texts = (0..columns.len()).map(|column| row.try_get(column));
            Ok(Found::Row(texts.collect::<Result<_, _>>().map_err(failed)?))
        }
        Ok(None) => Ok(Found::Gone),
        Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| ALTERED.contains(&&*code)) => {
            Ok(Found::Nothing)
        }
        Err(error) => Err(failed(error)),
    }
}

/// The server sends a transaction to the slot a moment before others see it.
async fn until_visible(control: &mut PgConnection, transaction: u32) -> Result<(), sqlx::Error> {
    let deadline = tokio::time::Instant::now() + INVISIBLE;
    loop {
        let text: String = sqlx::query_scalar("SELECT pg_current_snapshot()::text").fetch_one(&mut *control).await?;
        if Seen::parse(&text).is_none_or(|seen| seen.sees(transaction)) {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(sqlx::Error::Io(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "the transaction is in the log and not visible yet; does its commit wait for a synchronous standby?",
            )));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// `None` where the row does not tell its key.
fn query(
    definition: &TableDefinition,
    row: &[TupleCell<'_>],
    columns: &[usize],
) -> Result<Option<String>, ProducerError> {
    let name = |column: usize| quote_identifier(&definition.columns[column].name);
    let mut conditions = Vec::with_capacity(definition.key.len());
    for column in &definition.key {
        let TupleCell::Text(text) = row[*column] else { return Ok(None) };
        let Ok(text) = std::str::from_utf8(text) else { return Ok(None) };
        // A literal without a type takes that of the column.
        conditions.push(format!("{} = {}", name(*column)?, quote_literal(text)));
    }
    let mut values = Vec::with_capacity(columns.len());
    for column in columns {
        let name = name(*column)?;
        // The type's own output, as in the log: a cast to text would cut the blanks of a char(n).
        values.push(format!("CASE WHEN {name} IS NOT NULL THEN pg_catalog.format('%s', {name}) END"));
    }
    let table = qualified(&definition.schema, &definition.table)?;
    Ok(Some(format!("SELECT {} FROM {table} WHERE {} LIMIT 1", values.join(", "), conditions.join(" AND "))))
}

/// The cell of an unknown value of a row that is gone; unchanged where its type has no value that fits all columns.
fn of_gone_row(column: &Column) -> TupleCell<'static> {
    if column.nullable {
        return TupleCell::Null;
    }
    let text: &'static [u8] = match (&column.column_type.kind, column.column_type.name.as_str()) {
        (TypeKind::Array { .. }, _) | (TypeKind::Base, "json" | "jsonb") => b"{}",
        (TypeKind::Base, "text" | "varchar" | "bpchar" | "tsvector" | "citext" | "hstore") => b"",
        (TypeKind::Base, "bytea") => b"\\x",
        (TypeKind::Base, "xml") => b"<gone/>",
        (TypeKind::Base, "numeric") => b"0",
        _ => return TupleCell::Unchanged,
    };
    TupleCell::Text(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_event::handling::Handling;
    use syncline_event::table::{ColumnType, ReplicaIdentity};

    fn column(name: &str, type_name: &str, nullable: bool) -> Column {
        Column {
            name: name.to_owned(),
            field: name.to_owned(),
            column_type: ColumnType {
                oid: 0,
                name: type_name.to_owned(),
                schema: "pg_catalog".to_owned(),
                modifier: -1,
                format: type_name.to_owned(),
                kind: TypeKind::Base,
                domain: None,
            },
            nullable,
            identity: None,
            generated: None,
            default: None,
            default_value: None,
            missing_value: None,
        }
    }

    fn definition() -> TableDefinition {
        TableDefinition {
            topic: "p.s.t".into(),
            number: 1,
            schema: "s".into(),
            table: "T".into(),
            columns: vec![column("id", "int4", false), column("It's", "text", true), column("doc", "jsonb", false)],
            key: vec![0],
            replica_identity: ReplicaIdentity::Default,
            handling: Handling::default(),
        }
    }

    const ROW: [TupleCell<'_>; 3] = [TupleCell::Text(b"1'2"), TupleCell::Unchanged, TupleCell::Unchanged];

    #[test]
    fn the_query_names_the_key_and_what_is_missing() {
        assert_eq!(
            query(&definition(), &ROW, &[1]).unwrap().unwrap(),
            "SELECT CASE WHEN \"It's\" IS NOT NULL THEN pg_catalog.format('%s', \"It's\") END FROM \"s\".\"T\" \
             WHERE \"id\" = '1''2' LIMIT 1"
        );
        let keyless = [TupleCell::Unchanged; 3];
        assert_eq!(query(&definition(), &keyless, &[1]).unwrap(), None);
    }

    #[test]
    fn a_row_that_is_gone_has_values_that_any_target_takes() {
        let filled = |found: Found, is_removed: bool| {
            let again = Reselected { columns: vec![1, 2], found };
            let mut row = ROW;
            // The row lives as long as what was read.
            let again: &'static Reselected = Box::leak(Box::new(again));
            again.fill(&definition(), is_removed, &mut row);
            row
        };
        let texts = vec![None, Some("[1]".to_owned())];
        assert_eq!(filled(Found::Row(texts), true)[1..], [TupleCell::Null, TupleCell::Text(b"[1]")]);
        assert_eq!(filled(Found::Gone, true)[1..], [TupleCell::Null, TupleCell::Text(b"{}")]);
        assert_eq!(filled(Found::Gone, false)[1..], ROW[1..]);
        assert_eq!(filled(Found::Nothing, true)[1..], ROW[1..]);
    }
}
