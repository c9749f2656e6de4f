//! A file of cases: the tables, the changes and what is expected of them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use syncline_event::handling::Handling;
use syncline_event::operation::Operation;
use syncline_event::table::{Column, ReplicaIdentity, TableDefinition};
use syncline_runtime::config::yaml;
use syncline_transforms::expression::{Expression, Scope};
use syncline_transforms::mapping::SourceTable;

/// What a file holds.
#[derive(Debug)]
pub(super) struct Cases {
    pub(super) tables: Vec<TableDefinition>,
    pub(super) cases: Vec<Case>,
}

/// A change and what is expected of it.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    /// The source's table.
    pub(super) table: SourceTable,
    pub(super) operation: Operation,
    /// The old row as far as it is given; none where the event has none.
    pub(super) before: Option<Row>,
    pub(super) after: Option<Row>,
    /// Columns whose values the event leaves out: large, and unchanged.
    pub(super) unchanged: Vec<String>,
    /// As SQL has it; 1970 where nothing is said.
    pub(super) commit_time: Option<String>,
    pub(super) clock: Option<String>,
    pub(super) expect: Vec<Expected>,
    /// Words of the reason for which the change is refused.
    pub(super) refused: Option<String>,
}

/// Columns and their texts; `None` is NULL.
pub(super) type Row = Vec<(String, Option<String>)>;

/// A write that is expected.
#[derive(Debug)]
pub(super) struct Expected {
    /// `upsert`, `update`, `delete`.
    pub(super) kind: &'static str,
    /// The target's table, with its schema.
    pub(super) table: String,
    /// The columns to compare.
    pub(super) row: Row,
}

impl Case {
    /// Whether the case is about the table.
    pub(super) fn is_of(&self, table: &TableDefinition) -> bool {
        self.table.matches(&table.schema, &table.table)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    tables: BTreeMap<String, RawTable>,
    cases: Vec<RawCase>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    columns: Map<String, Value>,
    key: Vec<String>,
    replica_identity: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: String,
    table: String,
    op: String,
    before: Option<Map<String, Value>>,
    after: Option<Map<String, Value>>,
    #[serde(default)]
    unchanged: Vec<String>,
    commit_time: Option<String>,
    clock: Option<String>,
    #[serde(default)]
    expect: Vec<RawExpected>,
    refused: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpected {
    upsert: Option<String>,
    update: Option<String>,
    delete: Option<String>,
    row: Map<String, Value>,
}

/// Reads a file's text.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn read(text: &str) -> Result<Cases, String> {
    let value = yaml(text)?;
    if !value.is_object() {
        return Err("expected keys and values: `tables` and `cases`".to_owned());
    }
    let RawFile { tables, cases } = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let tables = tables.into_iter().map(|(name, raw)| table(&name, raw)).collect::<Result<_, _>>()?;
    let cases = cases.into_iter().map(case).collect::<Result<_, _>>()?;
    Ok(Cases { tables, cases })
}

fn table(name: &str, raw: RawTable) -> Result<TableDefinition, String> {
    let (schema, table) = SourceTable::parse(name)
        .and_then(|parsed| parsed.name().ok_or_else(|| "is no table's name".to_owned()))
        .map_err(|fault| format!("tables: `{name}` {fault}"))?;
    let columns = raw.columns.iter().map(|(column, declared)| {
        let declared = declared.as_str().unwrap_or_default();
        let (declared, nullable) = match declared.strip_suffix(" NOT NULL").or(declared.strip_suffix(" not null")) {
            Some(declared) => (declared, false),
            None => (declared, !raw.key.contains(column)),
        };
        let typed = Expression::compile(&format!("CAST(NULL AS {declared})"), &Scope { columns: &[], clock: false });
        let typed =
            typed.map_err(|_| format!("tables, {name}: column {column}: type `{declared}` is not known here"))?;
        Ok(Column {
            name: column.clone(),
            field: column.clone(),
            column_type: typed.column_type().clone(),
            nullable,
            identity: None,
            generated: None,
            default: None,
            default_value: None,
            missing_value: None,
        })
    });
    let columns = columns.collect::<Result<Vec<Column>, String>>()?;
    let key = raw.key.iter().map(|key| {
        let place = columns.iter().position(|column| column.name == *key);
        place.ok_or_else(|| format!("tables, {name}: key column {key} is none of its columns"))
    });
    let replica_identity = match raw.replica_identity.as_deref() {
        None | Some("default") => ReplicaIdentity::Default,
        Some("full") => ReplicaIdentity::Full,
        Some(other) => return Err(format!("tables, {name}: replica_identity `{other}` is neither default nor full")),
    };
    Ok(TableDefinition {
        topic: name.to_owned(),
        number: 1,
        schema,
        table,
        key: key.collect::<Result<_, _>>()?,
        columns,
        replica_identity,
        handling: Handling::default(),
    })
}

fn case(raw: RawCase) -> Result<Case, String> {
    let RawCase { name, table, op, before, after, unchanged, commit_time, clock, expect, refused } = raw;
    let of = |fault: String| format!("case `{name}`: {fault}");
    let changes_rows = |operation: &Operation| !matches!(operation, Operation::Truncate | Operation::Message);
    let operation = Operation::from_code(&op).filter(changes_rows);
    let operation = operation.ok_or_else(|| of(format!("op: `{op}` is no operation; c, u, d, r")))?;
    let table = SourceTable::parse(&table).map_err(|fault| of(format!("table: `{table}` {fault}")))?;
    let expect = expect.into_iter().map(|raw| expected(raw).map_err(&of)).collect::<Result<_, _>>()?;
    let (before, after) = (before.map(row), after.map(row));
    Ok(Case { operation, table, before, after, unchanged, commit_time, clock, expect, refused, name })
}

fn expected(raw: RawExpected) -> Result<Expected, String> {
    let RawExpected { upsert, update, delete, row: columns } = raw;
    let (kind, table) = match (upsert, update, delete) {
        (Some(table), None, None) => ("upsert", table),
        (None, Some(table), None) => ("update", table),
        (None, None, Some(table)) => ("delete", table),
        _ => return Err("expect: each item is one of upsert, update, delete, with the target's table".to_owned()),
    };
    let parsed = SourceTable::parse(&table).ok().and_then(|parsed| parsed.name());
    let (schema, name) = parsed.ok_or_else(|| format!("expect: `{table}` is no table's name"))?;
    Ok(Expected { kind, table: format!("{schema}.{name}"), row: row(columns) })
}

fn row(columns: Map<String, Value>) -> Row {
    columns.into_iter().map(|(column, value)| (column, value.as_str().map(str::to_owned))).collect()
}
