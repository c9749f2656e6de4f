//! How the rows of one definition are written into one table: codecs, statement texts, and what the table still lacks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::{AssertSqlSafe, PgConnection};
use syncline_catalog::ddl::Change;
use syncline_catalog::ident::{IdentError, qualified, quote_identifier};
use syncline_catalog::target_plan::{self, Mismatch};
use syncline_catalog::target_table::{self, TargetState};
use syncline_event::avro::value::Value;
use syncline_event::table::{TableDefinition, TypeKind};
use syncline_runtime::retry::ErrorClass;

use super::contest::ContestTable;
use super::encode::{self, Codec};
use super::error::Doing;
use super::noted::{self, Noted};
use super::statements::{self, StatementColumn};
use crate::config::{InsertMode, SinkSettings};
use crate::rows::{Cell, CellForm};
use crate::targets::{TablePlan, TargetError};

/// Statements kept for different sets of known columns; a table has a handful of columns that can be unknown.
const MOST_UPDATES: usize = 64;

const NOTING: Doing<'static> = Doing::Bookkeeping("noting a table's definition");

/// The plan of one table definition.
pub(super) struct PostgresPlan {
    definition: Arc<TableDefinition>,
    /// Quoted, for statements.
    pub(super) table: String,
    /// `schema.table`, for messages and for the order in which tables are written.
    pub(super) name: String,
    /// As wide as the definition; `None` for generated columns, which the target computes.
    columns: Vec<Option<StatementColumn>>,
    /// Columns that are written, as indexes into the definition.
    pub(super) written: Vec<usize>,
    /// The columns of `upsert`'s parameters, in order.
    pub(super) upserted: Vec<usize>,
    /// Whether the table may be changed.
    evolves: bool,
    /// Whether values of identity columns are overridden.
    identity: bool,
    pub(super) upsert: Arc<str>,
    pub(super) delete: Arc<str>,
    updates: Mutex<HashMap<Vec<usize>, Arc<str>>>,
    /// Whether the table (or its types) may still lack something.
    pending: AtomicBool,
    may_truncate: AtomicBool,
}

impl PostgresPlan {
    /// Compares definition and target.
    pub(super) async fn make(
        conn: &mut PgConnection,
        definition: &Arc<TableDefinition>,
        sink: &SinkSettings,
    ) -> Result<Self, TargetError> {
        let name = definition.qualified_name();
        let doing = Doing::Writing { table: &name, index: None, what: "describing" };
        let state = target_table::describe(conn, definition).await.map_err(|error| doing.error(error))?;
        let noted = noted::read(conn, definition, NOTING).await?;
        check_returning(definition, &state, noted.as_ref(), None)?;
        let changes = target_plan::plan(definition, &state).map_err(|mismatch| refuse(&mismatch, None))?;
        check_evolves(definition, &changes, sink.evolves)?;
        let pending = !changes.is_empty() || noted::is_news(noted.as_ref(), definition);
        Self::new(definition, &state, pending, sink).map_err(|error| unnameable(&name, None, &error))
    }

    fn new(
        definition: &Arc<TableDefinition>,
        state: &TargetState,
        pending: bool,
        sink: &SinkSettings,
    ) -> Result<Self, IdentError> {
        let existing = state.table.as_ref();
        let columns: Result<Vec<Option<StatementColumn>>, _> = definition
            .columns
            .iter()
            .map(|column| {
                if column.generated.is_some() {
                    return Ok(None);
                }
                let name = column.name.as_str();
                let found = existing.and_then(|table| table.columns.iter().find(|found| found.name == column.name));
                match found {
                    // The type that is there may be wider than the source's.
                    Some(found) => {
                        let base = !found.is_enum && !found.is_array;
                        let codec = if base {
                            Codec::of(&found.type_schema, &found.type_name, &TypeKind::Base)
                        } else {
                            Codec::Cast
                        };
                        StatementColumn::new(name, &found.type_schema, &found.type_name, codec)
                    }
                    None => {
                        let source = &column.column_type;
                        let codec = Codec::of(&source.schema, &source.name, &source.kind);
                        StatementColumn::new(name, &source.schema, &source.name, codec)
                    }
                }
                .map(Some)
            })
            .collect();
        let columns = columns?;
        let written: Vec<usize> = (0..columns.len()).filter(|index| columns[*index].is_some()).collect();
        let table = qualified(&definition.schema, &definition.table)?;
        let all: Vec<&StatementColumn> = columns.iter().flatten().collect();
        let key: Vec<&StatementColumn> = definition.key.iter().filter_map(|index| columns[*index].as_ref()).collect();
        let others: Vec<usize> = written.iter().copied().filter(|index| !definition.key.contains(index)).collect();
        let identity = definition.columns.iter().any(|column| column.identity.is_some())
            || existing.is_some_and(|table| table.columns.iter().any(|column| column.identity_always));
        Ok(Self {
            upsert: match sink.insert {
                InsertMode::Upsert => statements::upsert(&table, &all, &key, identity).into(),
                InsertMode::Insert => statements::insert(&table, &all, identity).into(),
                InsertMode::Update => {
                    let others: Vec<&StatementColumn> =
                        others.iter().filter_map(|index| columns[*index].as_ref()).collect();
                    statements::update(&table, &key, &others).into()
                }
            },
            upserted: match sink.insert {
                InsertMode::Upsert | InsertMode::Insert => written.clone(),
                InsertMode::Update => definition.key.iter().chain(&others).copied().collect(),
            },
            evolves: sink.evolves,
            identity,
            delete: statements::delete(&table, &key).into(),
            updates: Mutex::new(HashMap::new()),
            name: definition.qualified_name(),
            table,
            columns,
            written,
            definition: Arc::clone(definition),
            pending: AtomicBool::new(pending),
            may_truncate: AtomicBool::new(existing.is_none_or(|table| table.may_truncate)),
        })
    }

    /// The key's columns, as indexes into the definition, in key order.
    pub(super) fn key(&self) -> &[usize] {
        &self.definition.key
    }

    /// The table as changes of several nodes are written to it.
    pub(super) fn contest(&self) -> ContestTable {
        let of = |index: &usize| self.columns[*index].clone().map(|column| (*index, column));
        let columns: Vec<(usize, StatementColumn)> = self.written.iter().filter_map(of).collect();
        let place = |column: &usize| columns.iter().position(|(index, _)| index == column);
        ContestTable {
            name: self.name.clone(),
            table: self.table.clone(),
            names: columns.iter().map(|(index, _)| self.definition.columns[*index].name.clone()).collect(),
            key: self.definition.key.iter().filter_map(place).collect(),
            columns,
            identity: self.identity,
        }
    }

    /// How a column's values travel.
    pub(super) fn codec(&self, column: usize) -> Codec {
        self.columns[column].as_ref().map_or(Codec::Cast, |column| column.codec)
    }

    /// The columns besides the key whose cells of a row are known.
    pub(super) fn known(&self, row: &[Cell], known: &mut Vec<usize>) {
        known.clear();
        known.extend(
            self.written
                .iter()
                .copied()
                .filter(|index| row[*index] != Cell::Unknown && !self.definition.key.contains(index)),
        );
    }

    /// The statement that updates the `known` columns.
    pub(super) fn update(&self, known: &[usize]) -> Arc<str> {
        let mut updates = self.updates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = updates.get(known) {
            return Arc::clone(text);
        }
        let column = |index: &usize| self.columns[*index].as_ref();
        let key: Vec<&StatementColumn> = self.definition.key.iter().filter_map(column).collect();
        let others: Vec<&StatementColumn> = known.iter().filter_map(column).collect();
        let text: Arc<str> = statements::update(&self.table, &key, &others).into();
        if updates.len() >= MOST_UPDATES {
            updates.clear();
        }
        updates.insert(known.to_vec(), Arc::clone(&text));
        text
    }

    /// The statement that marks the rows that are not marked in a column; `None` where the target computes it.
    pub(super) fn mark(&self, column: usize) -> Option<String> {
        self.columns[column].as_ref().map(|column| statements::mark(&self.table, column))
    }

    /// Whether [`PostgresPlan::settle`] has to be called.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// To be called when the transaction that settled the plan is committed.
    pub(super) fn settled(&self) {
        self.pending.store(false, Ordering::Release);
    }

    pub(super) fn may_truncate(&self) -> bool {
        self.may_truncate.load(Ordering::Acquire)
    }

    /// Makes what has to be committed before a transaction can use it: labels of enum types.
    pub(super) async fn settle_alone(&self, conn: &mut PgConnection, index: Option<usize>) -> Result<(), TargetError> {
        let changes = self.changes(conn, index).await?;
        self.execute(conn, changes.iter().filter(|change| change.stands_alone()), index).await
    }

    /// Makes what the table lacks, inside the transaction of the batch. Looks again first: under the lock that the
    /// caller holds, another lane may have made it since.
    pub(super) async fn settle(&self, conn: &mut PgConnection, index: Option<usize>) -> Result<(), TargetError> {
        let changes = self.changes(conn, index).await?;
        self.execute(conn, changes.iter(), index).await?;
        let noted = noted::read(conn, &self.definition, NOTING).await?;
        noted::write(conn, &self.definition, noted.as_ref(), NOTING).await
    }

    async fn changes(&self, conn: &mut PgConnection, index: Option<usize>) -> Result<Vec<Change>, TargetError> {
        let doing = Doing::Writing { table: &self.name, index, what: "describing" };
        let state = target_table::describe(conn, &self.definition).await.map_err(|error| doing.error(error))?;
        if let Some(table) = &state.table {
            self.may_truncate.store(table.may_truncate, Ordering::Release);
        }
        let noted = noted::read(conn, &self.definition, NOTING).await?;
        check_returning(&self.definition, &state, noted.as_ref(), index)?;
        let changes = target_plan::plan(&self.definition, &state).map_err(|mismatch| refuse(&mismatch, index))?;
        check_evolves(&self.definition, &changes, self.evolves)?;
        Ok(changes)
    }

    async fn execute(
        &self,
        conn: &mut PgConnection,
        changes: impl Iterator<Item = &Change>,
        index: Option<usize>,
    ) -> Result<(), TargetError> {
        for change in changes {
            let text = change.render().map_err(|error| unnameable(&self.name, index, &error))?;
            tracing::info!(table = %self.name, statement = %text, "changing the target");
            let doing = Doing::Writing { table: &self.name, index, what: "creating or altering" };
            if let Err(error) = sqlx::raw_sql(AssertSqlSafe(text.clone())).execute(&mut *conn).await {
                let refused =
                    matches!(&error, sqlx::Error::Database(error) if error.code().as_deref() == Some("42501"));
                let mut error = doing.error(error);
                if refused {
                    // The class's own advice is about rows.
                    let reason = error.message.split("; run:").next().unwrap_or_default().to_owned();
                    error.message = format!("{reason}; have a role that may do it run: {text};");
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

/// `schema.evolution: none`.
fn check_evolves(definition: &TableDefinition, changes: &[Change], evolves: bool) -> Result<(), TargetError> {
    if evolves || changes.is_empty() {
        return Ok(());
    }
    Err(TargetError {
        class: ErrorClass::BadRecord,
        message: format!(
            "target table {}: it does not fit and schema.evolution is none; run: {} or set target.properties: \
             {{schema.evolution: basic}}",
            definition.qualified_name(),
            syncline_catalog::ddl::script(changes).unwrap_or_default().trim_end()
        ),
        table: None,
        source: None,
    })
}

/// A column that comes back under its old name is another column: what the target holds in it is stale.
fn check_returning(
    definition: &TableDefinition,
    state: &TargetState,
    noted: Option<&Noted>,
    index: Option<usize>,
) -> Result<(), TargetError> {
    let Some(table) = &state.table else { return Ok(()) };
    let exists = |name: &str| table.columns.iter().any(|column| column.name == name);
    let Some(column) = noted::returning(noted, definition, exists) else { return Ok(()) };
    let name = definition.qualified_name();
    let statement = match (qualified(&definition.schema, &definition.table), quote_identifier(column)) {
        (Ok(table), Ok(column)) => format!("ALTER TABLE {table} DROP COLUMN {column};"),
        _ => "ALTER TABLE … DROP COLUMN …".to_owned(),
    };
    Err(TargetError {
        class: ErrorClass::BadRecord,
        message: format!(
            "target table {name}: column {column} was dropped in the source and added again, and still holds the old \
             values here; run: {statement} it is added anew as it is in the source"
        ),
        table: index,
        source: None,
    })
}

pub(super) fn refuse(mismatch: &Mismatch, index: Option<usize>) -> TargetError {
    TargetError { class: ErrorClass::BadRecord, message: mismatch.to_string(), table: index, source: None }
}

fn unnameable(table: &str, index: Option<usize>, error: &IdentError) -> TargetError {
    TargetError {
        class: ErrorClass::BadRecord,
        message: format!("target table {table}: {error}; rename it in the source, or leave it out"),
        table: index,
        source: None,
    }
}

impl TablePlan for PostgresPlan {
    fn definition(&self) -> &Arc<TableDefinition> {
        &self.definition
    }

    fn encode(&self, column: usize, value: &Value<'_>, out: &mut Vec<u8>) -> Result<CellForm, String> {
        match &self.columns[column] {
            Some(planned) => encode::push(planned.codec, &self.definition.columns[column].column_type, value, out),
            // Generated here: whatever the event says of it, or does not say, is not written.
            None => Ok(CellForm::Null),
        }
    }

    fn encode_key(&self, column: usize, value: &Value<'_>, out: &mut Vec<u8>) -> Result<CellForm, String> {
        encode::push_key(self.codec(column), &self.definition.columns[column].column_type, value, out)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
