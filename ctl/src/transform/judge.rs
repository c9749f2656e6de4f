//! One case through the mappings of its table, and whether that is what was expected.

use bumpalo::Bump;
use syncline_event::avro::value::Value;
use syncline_event::position::{Phase, Position};
use syncline_event::table::TableDefinition;
use syncline_transforms::expression::{Context, Expression, Named, Row as ExpressionRow, Scope};
use syncline_transforms::mapping::{Change, Mapping, Mappings, Route, SourceTable, Write, Written};

use super::cases::{Case, Expected, Row};

/// Where the change stands, for mappings that keep it: every case is the first change of its epoch.
const POSITION: Position = Position { epoch: 1, phase: Phase::Stream, lsn: 1, number: 1, sub: 0 };

/// A write that was made: kind, table, and the columns that are known with their texts.
struct Made {
    kind: &'static str,
    table: String,
    row: Row,
    /// Columns that keep what the target has.
    kept: Vec<String>,
}

/// What differs; `None` where nothing does.
pub(super) fn fault(mappings: &Mappings, table: &TableDefinition, case: &Case) -> Option<String> {
    match (made(mappings, table, case), &case.refused) {
        (Err(reason), Some(words)) if reason.contains(words) => None,
        (Err(reason), _) => Some(reason),
        (Ok(_), Some(words)) => Some(format!("expected it to be refused for `{words}`, and it was not")),
        (Ok(made), None) => difference(&made, &case.expect),
    }
}

fn made(mappings: &Mappings, table: &TableDefinition, case: &Case) -> Result<Vec<Made>, String> {
    let mut routes = mappings.routes(table).map_err(|misfits| {
        let misfits: Vec<String> = misfits.iter().map(ToString::to_string).collect();
        misfits.join("\n")
    })?;
    if routes.is_empty() {
        let source = SourceTable::parse("*.*").map(|value| Written { value, line: 0 })?;
        let as_it_is = Route::compile(&Mapping::new(source), table, false);
        routes.push(as_it_is.map_err(|_| "the table has no mapping and no key".to_owned())?);
    }
    let before = typed(table, case.before.as_ref(), &[])?;
    let after = typed(table, case.after.as_ref(), &case.unchanged)?;
    let bump = Bump::new();
    let (before_values, after_values) = (values(&before, &bump)?, values(&after, &bump)?);
    let context = Context { commit_us: micros(case.commit_time.as_deref())?, clock_us: micros(case.clock.as_deref())? };
    let mut made = Vec::new();
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for route in &routes {
        let change = Change {
            operation: case.operation,
            before: &before_values,
            before_is_whole: case.before.is_some() && route.has_whole_rows(),
            after: &after_values,
            position: Some(POSITION),
            context,
        };
        let outcome = route.apply(&change, &bump, &mut old, &mut new).map_err(|refusal| refusal.to_string())?;
        let target = route.definition();
        if outcome.deletes {
            let mut row = shown(target, &old, &bump)?;
            row.row.retain(|(name, _)| target.key.iter().any(|key| target.columns[*key].name == *name));
            made.push(Made { kind: "delete", ..row });
        }
        let kind = match outcome.write {
            Some(Write::Upsert) => "upsert",
            Some(Write::Update | Write::Fill) => "update",
            None => continue,
        };
        made.push(Made { kind, ..shown(target, &new, &bump)? });
    }
    Ok(made)
}

/// Each column's value as an expression, `None` for a value that the event leaves out.
fn typed(table: &TableDefinition, row: Option<&Row>, unchanged: &[String]) -> Result<Vec<Option<Expression>>, String> {
    let Some(row) = row else { return Ok(Vec::new()) };
    let known = |name: &String| table.columns.iter().any(|column| column.name == *name);
    if let Some(name) = row.iter().map(|(name, _)| name).chain(unchanged).find(|name| !known(name)) {
        return Err(format!("table {} has no column {name}", table.qualified_name()));
    }
    let columns = table.columns.iter().map(|column| {
        if unchanged.contains(&column.name) {
            return Ok(None);
        }
        let text = row.iter().find(|(name, _)| *name == column.name).and_then(|(_, text)| text.as_deref());
        let literal = text.map_or_else(|| "NULL".to_owned(), |text| format!("'{}'", text.replace('\'', "''")));
        let cast = format!("CAST({literal} AS {})", column.column_type.format);
        let value = Expression::compile(&cast, &Scope { columns: &[], clock: false });
        value.map(Some).map_err(|mistake| format!("column {}: {}", column.name, mistake.reason))
    });
    columns.collect()
}

fn values<'a>(columns: &'a [Option<Expression>], bump: &'a Bump) -> Result<Vec<Value<'a>>, String> {
    let nothing = ExpressionRow { after: &[], before: &[], context: Context::default() };
    let values = columns.iter().enumerate().map(|(index, column)| match column {
        None => Ok(Value::Unknown),
        Some(column) => {
            column.value(&nothing, bump).map_err(|fault| format!("the value of column {}: {fault}", index + 1))
        }
    });
    values.collect()
}

fn micros(time: Option<&str>) -> Result<i64, String> {
    let Some(time) = time else { return Ok(0) };
    let text = format!("(EXTRACT(EPOCH FROM CAST('{}' AS timestamptz)) * 1000000)::bigint", time.replace('\'', "''"));
    let wrong = || format!("`{time}` is no time; write it as 2026-01-31 12:00:00+00");
    let value = Expression::compile(&text, &Scope { columns: &[], clock: false }).map_err(|_| wrong())?;
    let bump = Bump::new();
    let nothing = ExpressionRow { after: &[], before: &[], context: Context::default() };
    match value.value(&nothing, &bump) {
        Ok(Value::Integer(micros)) => Ok(micros),
        _ => Err(wrong()),
    }
}

/// A row of the target as PostgreSQL would print it.
fn shown(target: &TableDefinition, values: &[Value<'_>], bump: &Bump) -> Result<Made, String> {
    let mut made = Made { kind: "", table: target.qualified_name(), row: Vec::new(), kept: Vec::new() };
    for (index, column) in target.columns.iter().enumerate() {
        if values[index] == Value::Unknown {
            made.kept.push(column.name.clone());
            continue;
        }
        let named = [Named { name: "value".to_owned(), column: index, column_type: column.column_type.clone() }];
        let text = Expression::compile("CAST(value AS text)", &Scope { columns: &named, clock: false })
            .map_err(|mistake| format!("column {}: {}", column.name, mistake.reason))?;
        let row = ExpressionRow { after: values, before: &[], context: Context::default() };
        let printed = text.print(&row, bump).map_err(|fault| format!("column {}: {fault}", column.name))?;
        made.row.push((column.name.clone(), printed.map(str::to_owned)));
    }
    Ok(made)
}

fn difference(made: &[Made], expected: &[Expected]) -> Option<String> {
    let write = |kind: &str, table: &str| format!("{kind} of {table}");
    for number in 0..made.len().max(expected.len()) {
        let found = made.get(number).map(|made| write(made.kind, &made.table));
        let wanted = expected.get(number).map(|expected| write(expected.kind, &expected.table));
        let (Some(made), Some(expected)) = (made.get(number), expected.get(number)) else {
            let nothing = || "nothing".to_owned();
            return Some(format!(
                "expected {}, found {}",
                wanted.unwrap_or_else(nothing),
                found.unwrap_or_else(nothing)
            ));
        };
        if found != wanted {
            return Some(format!("expected {}, found {}", wanted?, found?));
        }
        for (column, value) in &expected.row {
            let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
            if made.kept.contains(column) {
                return Some(format!(
                    "{}, column {column}: expected {}, the target's value stays",
                    wanted?,
                    text(value)
                ));
            }
            match made.row.iter().find(|(name, _)| name == column) {
                None => return Some(format!("{} has no column {column}", wanted?)),
                Some((_, found)) if found != value => {
                    return Some(format!(
                        "{}, column {column}: expected {}, found {}",
                        wanted?,
                        text(value),
                        text(found)
                    ));
                }
                Some(_) => {}
            }
        }
    }
    None
}
