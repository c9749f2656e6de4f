//! From a relation message and the catalog to a table definition.
//!
//! The message says what the following rows look like, the catalog what the message leaves out (NOT NULL, defaults,
//! identity) — but the catalog may already be ahead of the log. So the message decides which columns there are and of
//! which type; the catalog only describes the columns that it has in just that form.

use sqlx::PgConnection;
use syncline_catalog::describe::{DescribedTable, adjust_field_names, describe, describe_type, replica_identity};
use syncline_event::avro::schema::unsupported_columns;
use syncline_event::table::{Column, TableDefinition};
use syncline_event::tuple::TupleCell;

use super::pgoutput::{Relation, RelationColumn, Tuple};
use crate::columns::without_columns;
use crate::config::ProducerConfig;
use crate::error::ProducerError;

/// Where the cells of a relation's rows belong in its definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The row's next cell is the definition's next.
    Take,
    /// The row's next cell has no place: a column that is left out.
    Skip,
    /// The definition's next column is not in the log: it is generated.
    Absent,
}

impl Layout {
    /// How rows of `relation` become rows of `definition`; the columns of both stand in table order.
    #[must_use]
    pub fn of(relation: &Relation<'_>, definition: &TableDefinition) -> Self {
        let mut steps = Vec::new();
        let mut columns = relation.columns.iter();
        for wanted in &definition.columns {
            if !relation.columns.iter().any(|column| column.name == wanted.name) {
                steps.push(Step::Absent);
                continue;
            }
            for column in columns.by_ref() {
                if column.name == wanted.name {
                    steps.push(Step::Take);
                    break;
                }
                steps.push(Step::Skip);
            }
        }
        steps.extend(columns.map(|_| Step::Skip));
        Self { steps }
    }

    /// Fills `cells` with a row in the definition's order.
    ///
    /// # Errors
    ///
    /// The row has another number of columns than its relation.
    pub fn arrange<'a>(&self, tuple: Tuple<'a>, cells: &mut Vec<TupleCell<'a>>) -> Result<(), ProducerError> {
        let mut row = tuple.cells();
        cells.clear();
        for step in &self.steps {
            let cell = match step {
                Step::Absent => Some(TupleCell::Null),
                Step::Take | Step::Skip => row.next(),
            };
            let cell = cell.ok_or_else(|| ProducerError::Protocol("a row has too few columns".to_owned()))?;
            if *step != Step::Skip {
                cells.push(cell);
            }
        }
        if row.next().is_some() {
            return Err(ProducerError::Protocol("a row has too many columns".to_owned()));
        }
        Ok(())
    }
}

/// The definition without its columns that have no form in events; a key column stays, to be refused by name.
#[must_use]
pub fn without_unsupported(definition: TableDefinition) -> TableDefinition {
    let unsupported = unsupported_columns(&definition).into_iter().map(|(column, _)| column);
    let left_out: Vec<usize> = unsupported.filter(|column| !definition.key.contains(column)).collect();
    without_columns(definition, &left_out)
}

/// Takes the values of an update that the log left out of the new row from the old one: under REPLICA IDENTITY FULL
/// the old row has them.
pub fn fill_unchanged<'a>(new: &mut [TupleCell<'a>], old: &[TupleCell<'a>]) {
    for (new, old) in new.iter_mut().zip(old) {
        if *new == TupleCell::Unchanged {
            *new = *old;
        }
    }
}

/// Keeps the allocation of a row's cells from message to message.
#[derive(Debug, Default)]
pub struct CellBuffer(Vec<TupleCell<'static>>);

impl CellBuffer {
    /// An empty vector with the room of the one that came back last.
    #[must_use]
    pub fn take<'a>(&mut self) -> Vec<TupleCell<'a>> {
        std::mem::take(&mut self.0)
    }

    /// Takes a vector back.
    pub fn give_back(&mut self, mut cells: Vec<TupleCell<'_>>) {
        cells.clear();
        // Emptied and collected in place: only the lifetime changes.
        self.0 = cells.into_iter().map(|_| TupleCell::Null).collect();
    }
}

/// The definition under which the relation's next rows are published, not yet numbered.
///
/// # Errors
///
/// The database; or a key column that is gone.
pub async fn definition_of(
    connection: &mut PgConnection,
    relation: &Relation<'_>,
    last: &TableDefinition,
    config: &ProducerConfig,
) -> Result<TableDefinition, ProducerError> {
    let failed = |error| ProducerError::source(&format!("table {} cannot be described", last.qualified_name()), error);
    let catalog = describe(connection, relation.namespace, relation.name).await.map_err(failed)?;
    let mut columns = Vec::new();
    for column in &relation.columns {
        columns.push(match in_catalog(catalog.as_ref(), column) {
            Some(known) => known,
            None => unknown_column(connection, column).await.map_err(failed)?,
        });
    }
    insert_generated(&mut columns, catalog.as_ref());
    let key = key_of(&columns, relation, catalog.as_ref(), last)?;
    adjust_field_names(&mut columns, config.events.handling.field_names);
    let definition = TableDefinition {
        topic: last.topic.clone(),
        number: 0,
        schema: last.schema.clone(),
        table: last.table.clone(),
        columns,
        key,
        replica_identity: replica_identity(&[relation.replica_identity]),
        handling: config.events.handling.clone(),
    };
    let definition = config.events.columns.apply(definition);
    if config.skip_unsupported_columns {
        return Ok(without_unsupported(definition));
    }
    match unsupported_columns(&definition).first() {
        None => Ok(definition),
        Some((column, reason)) => Err(ProducerError::Encode {
            table: definition.qualified_name(),
            reason: format!(
                "column {} came into the table while it was captured: {reason}; drop it, or set \
                 skip.unsupported.columns in cdc_config.properties",
                definition.columns[*column].name
            ),
        }),
    }
}

fn in_catalog(catalog: Option<&DescribedTable>, column: &RelationColumn<'_>) -> Option<Column> {
    let found = catalog?.columns.iter().find(|described| {
        described.column.name == column.name
            && described.declared_oid == column.type_oid
            && described.declared_modifier == column.type_modifier
    })?;
    Some(found.column.clone())
}

/// A column the catalog no longer has in this form: anything may stand in it.
async fn unknown_column(connection: &mut PgConnection, column: &RelationColumn<'_>) -> Result<Column, sqlx::Error> {
    Ok(Column {
        name: column.name.to_owned(),
        field: column.name.to_owned(),
        column_type: describe_type(connection, column.type_oid, column.type_modifier).await?,
        nullable: !column.in_identity,
        identity: None,
        generated: None,
        default: None,
        default_value: None,
        missing_value: None,
    })
}

/// Generated columns are not in the log; they stand where the catalog has them.
fn insert_generated(columns: &mut Vec<Column>, catalog: Option<&DescribedTable>) {
    let Some(catalog) = catalog else { return };
    for (index, described) in catalog.columns.iter().enumerate() {
        let is_new = !columns.iter().any(|column| column.name == described.column.name);
        if described.column.generated.is_some() && is_new {
            columns.insert(index.min(columns.len()), described.column.clone());
        }
    }
}

/// The primary key in key order, as the catalog has it where that agrees with the message's identity columns, else
/// as it was.
fn key_of(
    columns: &[Column],
    relation: &Relation<'_>,
    catalog: Option<&DescribedTable>,
    last: &TableDefinition,
) -> Result<Vec<usize>, ProducerError> {
    let position = |name: &str| columns.iter().position(|column| column.name == name);
    let from_catalog: Option<Vec<usize>> = catalog.and_then(|table| {
        let key = if table.primary_key.is_empty() { &table.identity_index } else { &table.primary_key };
        let names = key.iter().map(|column| table.columns[*column].column.name.as_str());
        names.map(position).collect()
    });
    let in_identity = |key: &[usize]| {
        key.iter().all(|index| {
            relation.columns.iter().any(|column| column.in_identity && column.name == columns[*index].name)
        })
    };
    match from_catalog {
        Some(key) if !key.is_empty() && in_identity(&key) => Ok(key),
        _ => {
            let names = last.key.iter().map(|column| last.columns[*column].name.as_str());
            names.map(position).collect::<Option<Vec<_>>>().ok_or_else(|| ProducerError::Topic {
                topic: last.topic.clone(),
                what: format!(
                    "a key column of table {} was dropped; give the table a primary key, then run `syncline resync \
                     --source -f <file>`",
                    last.qualified_name()
                ),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_keeps_its_room() {
        let mut buffer = CellBuffer::default();
        let text = b"x".to_vec();
        let mut cells = buffer.take();
        cells.resize(100, TupleCell::Text(&text));
        buffer.give_back(cells);
        let again = buffer.take();
        assert!(again.is_empty() && again.capacity() >= 100);
    }

    #[test]
    fn the_old_row_fills_what_the_new_one_lacks() {
        let mut new = [TupleCell::Text(b"1"), TupleCell::Unchanged, TupleCell::Null];
        fill_unchanged(&mut new, &[TupleCell::Text(b"1"), TupleCell::Text(b"big"), TupleCell::Text(b"2")]);
        assert_eq!(new, [TupleCell::Text(b"1"), TupleCell::Text(b"big"), TupleCell::Null]);
    }
}
