//! From decoded images to a row and its key in the target's encoding.

use syncline_event::avro::decode::Envelope;
use syncline_event::avro::value::Value;
use syncline_event::header::{BarrierKind, Stamped};
use syncline_event::operation::Operation;
use syncline_transforms::resolve::row::Operation as Contest;

use crate::coalesce::Change;
use crate::config::{SinkSettings, Truncates};
use crate::rows::{CellForm, Rows};
use crate::table_draft::TableDraft;
use crate::targets::{Clearing, TablePlan};

/// Longest text of a key column in the bookkeeping.
const LONGEST_KEY: usize = 100;

/// A key value for people.
pub(super) fn text(value: &Value<'_>) -> String {
    match value {
        Value::Integer(number)
        | Value::Time(number)
        | Value::Timestamp(number)
        | Value::TimestampMillis(number)
        | Value::Duration(number) => number.to_string(),
        Value::Date(days) => days.to_string(),
        Value::Boolean(truth) => truth.to_string(),
        Value::Float32(number) => number.to_string(),
        Value::Float64(number) => number.to_string(),
        Value::Text(text) | Value::ZonedTimestamp(text) | Value::ZonedTime(text) | Value::SourceText(text) => {
            text.chars().filter(|character| *character != '\0').take(LONGEST_KEY).collect()
        }
        Value::Null
        | Value::Unknown
        | Value::Bytes(_)
        | Value::EncodedBytes(_)
        | Value::Decimal { .. }
        | Value::Bits { .. }
        | Value::Point { .. }
        | Value::Spatial(_)
        | Value::SparseVector(_)
        | Value::Array(_)
        | Value::Map(_) => "…".into(),
    }
}

/// Why a truncate of Debezium's stops its partition.
pub(super) const TRUNCATED: &str = "the source's table was truncated: a truncate without our header cannot be ordered \
    across partitions; empty the target's table and go on behind it with `syncline resync --topic … --from …`, or have \
    truncates passed over with target.properties: {truncate.enabled: false} (or skipped.operations=t in the connector)";

/// Whether a change of the source's table is one of a row here.
///
/// # Errors
///
/// It is nothing that can be applied.
pub(super) fn changes_a_row(envelope: &Envelope<'_>, settings: &SinkSettings) -> Result<bool, String> {
    match envelope.operation {
        operation @ (Operation::Create | Operation::Read | Operation::Update) if !envelope.after.present => {
            Err(format!("event with op {operation} has no row after the change"))
        }
        Operation::Create | Operation::Read | Operation::Update => Ok(true),
        Operation::Delete if !settings.deletes => Ok(false),
        Operation::Delete if !envelope.before.present => Err("event with op d has no row before the change".into()),
        Operation::Delete => Ok(true),
        Operation::Truncate if settings.truncates == Truncates::Ignore => Ok(false),
        Operation::Truncate => Err(TRUNCATED.into()),
        Operation::Message => Err("a logical message is no change of a table; leave its topic out".into()),
    }
}

/// Stages a change of a row as it is. `update` is what an update with unknown columns is.
pub(super) fn stage_change(envelope: &Envelope<'_>, update: Change, table: &mut TableDraft) -> Result<(), String> {
    if envelope.operation == Operation::Delete {
        return stage_key(table, |_, column| envelope.before.values.get(column));
    }
    let values = &envelope.after.values;
    let change = match (is_whole(table.plan().as_ref(), values), envelope.operation) {
        (true, _) => Change::Upsert,
        (false, Operation::Update) => update,
        (false, _) => {
            return Err(
                "a new row lacks columns that its event does not hold (its key changed while a TOASTed column \
                        did not); run `syncline resync --source`"
                    .into(),
            );
        }
    };
    stage_row(table, change, values)
}

/// Why a record without a stamp stops its partition in a topology.
pub(super) const UNSTAMPED: &str = "the record has no stamp: it was not written by a node of a topology; give each node \
    a topic prefix of its own that no other producer writes under";

/// Stages a change that is to be compared with those of other nodes: the old row, if the event has one, and the new one.
pub(super) fn stage_contender(
    operation: Operation,
    (before, after): (Option<&[Value<'_>]>, &[Value<'_>]),
    (stamped, own): (&Stamped, bool),
    table: &mut TableDraft,
) -> Result<(), String> {
    let operation = match operation {
        Operation::Update => Contest::Update,
        Operation::Delete => Contest::Delete,
        _ => Contest::Insert,
    };
    let image = if operation == Contest::Delete { before.unwrap_or_default() } else { after };
    let plan = table.plan().as_ref();
    let old = before.filter(|_| operation == Contest::Update);
    if !is_whole(plan, image) || old.is_some_and(|old| !is_whole(plan, old)) {
        return Err(
            "the change does not hold the whole row, so it cannot be compared with other nodes' changes; give \
             the table REPLICA IDENTITY FULL on every node"
                .into(),
        );
    }
    table.contend(operation, (stamped, own), |plan, rows, key| {
        write_row(plan, image, rows, key)?;
        if let Some(old) = old {
            write_row(plan, old, rows, &mut Vec::new())?;
        }
        Ok(old.is_some())
    })
}

/// What a marker that empties the source's table does to a node's: nothing, since rows go by comparison alone.
///
/// # Errors
///
/// Another node's table was truncated.
pub(super) fn node_clears(kind: BarrierKind, own: bool) -> Result<Vec<Clearing>, String> {
    if kind == BarrierKind::Truncate && !own {
        return Err("the table was truncated on the node it comes from; a TRUNCATE names no rows, so it cannot be \
             compared with other nodes' changes. Empty tables with DELETE; to go on without this TRUNCATE, bring the \
             rows back or delete them on every node, then use `syncline resync --topic … --from …`"
            .into());
    }
    Ok(Vec::new())
}

/// Stages the delete of a row. `value` finds a key value by its index in the key and by its column.
pub(super) fn stage_key<'v>(
    table: &mut TableDraft,
    value: impl Fn(usize, usize) -> Option<&'v Value<'v>>,
) -> Result<(), String> {
    table.stage(Change::Delete, |plan, rows, key| write_key(plan, value, rows, key))
}

/// Stages a row as wide as the table's definition.
pub(super) fn stage_row(table: &mut TableDraft, change: Change, values: &[Value<'_>]) -> Result<(), String> {
    table.stage(change, |plan, rows, key| write_row(plan, values, rows, key))
}

/// Whether an event knows every column that the source decides.
fn is_whole(plan: &dyn TablePlan, values: &[Value<'_>]) -> bool {
    let columns = plan.definition().columns.iter().enumerate();
    let mut decided = columns.filter(|(_, column)| column.generated.is_none());
    decided.all(|(index, _)| values.get(index).is_some_and(|value| *value != Value::Unknown))
}

/// Writes a row and its key.
fn write_row(plan: &dyn TablePlan, values: &[Value<'_>], rows: &mut Rows, key: &mut Vec<u8>) -> Result<(), String> {
    let definition = plan.definition();
    for (index, column) in definition.columns.iter().enumerate() {
        let value = values.get(index).unwrap_or(&Value::Unknown);
        if *value == Value::Unknown || column.generated.is_some() {
            rows.push(|_| Ok::<_, String>(CellForm::Unknown))?;
        } else {
            rows.push(|out| plan.encode(index, value, out)).map_err(|error| in_column(&column.name, &error))?;
        }
    }
    for column in &definition.key {
        append_key(plan, *column, values.get(*column), key)?;
    }
    Ok(())
}

/// Writes a row of which only the key cells are set, and the key.
fn write_key<'v>(
    plan: &dyn TablePlan,
    value: impl Fn(usize, usize) -> Option<&'v Value<'v>>,
    rows: &mut Rows,
    key: &mut Vec<u8>,
) -> Result<(), String> {
    let definition = plan.definition();
    for (index, column) in definition.columns.iter().enumerate() {
        let found = definition.key.iter().position(|key| *key == index).and_then(|at| value(at, index));
        match found {
            Some(value) => {
                rows.push(|out| plan.encode(index, value, out)).map_err(|error| in_column(&column.name, &error))?;
            }
            None => rows.push(|_| Ok::<_, String>(CellForm::Null))?,
        }
    }
    for (index, column) in definition.key.iter().enumerate() {
        append_key(plan, *column, value(index, *column), key)?;
    }
    Ok(())
}

fn append_key(plan: &dyn TablePlan, column: usize, value: Option<&Value<'_>>, key: &mut Vec<u8>) -> Result<(), String> {
    let name = || &plan.definition().columns[column].name;
    let missing = || in_column(name(), "a key column without a value");
    match plan.encode_key(column, value.ok_or_else(missing)?, key).map_err(|error| in_column(name(), &error))? {
        CellForm::Written => Ok(()),
        CellForm::Null | CellForm::Unknown => Err(missing()),
    }
}

fn in_column(name: &str, error: &str) -> String {
    format!("column {name}: {error}")
}
