//! Conflicts for people's eyes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::value::RawValue;
use syncline_consumer::targets::postgres::conflicts::{Conflict, Resolution, Tally};

use crate::failure::Failure;

/// Values beside each other are cut behind so many letters; `--output json` has all of them.
const WIDTH: usize = 40;

/// All on a line each.
pub(super) fn list(all: &[(String, Conflict)]) -> String {
    if all.is_empty() {
        return "no conflicts".to_owned();
    }
    let head = ["id", "time (UTC)", "node", "table", "key", "field", "type", "strategy", "stays", "resolved"];
    let mut rows = vec![head.map(str::to_owned)];
    for (node, conflict) in all {
        rows.push([
            conflict.id.clone(),
            time(&conflict.timestamp),
            node.clone(),
            conflict.table_name.clone(),
            cut(conflict.key.get()),
            conflict.field.clone().unwrap_or_else(|| "-".to_owned()),
            conflict.conflict_type.clone(),
            conflict.strategy.clone(),
            stays(node, conflict),
            resolved(conflict),
        ]);
    }
    aligned(&rows)
}

/// Counts as a table.
pub(super) fn tallies(all: &[(String, Tally)]) -> String {
    if all.is_empty() {
        return "no conflicts".to_owned();
    }
    let head = ["node", "table", "type", "strategy", "conflicts", "source stays", "target stays", "unresolved"];
    let mut rows = vec![head.map(str::to_owned)];
    for (node, tally) in all {
        let Tally { table_name, conflict_type, strategy, source, target, unresolved } = tally;
        let counts = [source + target, *source, *target, *unresolved].map(|count| count.to_string());
        let [sum, source, target, unresolved] = counts;
        let [table, kind, strategy] = [table_name, conflict_type, strategy].map(Clone::clone);
        rows.push([node.clone(), table, kind, strategy, sum, source, target, unresolved]);
    }
    aligned(&rows)
}

/// One with all it has.
///
/// # Errors
/// The log holds something else than rows.
pub(super) fn conflict(node: &str, conflict: &Conflict) -> Result<String, Failure> {
    let stamp =
        |clock: i64, counter: i64, origin: &str| format!("{} {counter} {origin}", super::explain::moment(clock));
    let target = match (conflict.target_clock_us, conflict.target_counter, &conflict.target_origin) {
        (Some(clock), Some(counter), Some(origin)) => stamp(clock, counter, origin),
        _ => "none".to_owned(),
    };
    let fields = [
        ("conflict", conflict.id.clone()),
        ("node", node.to_owned()),
        ("time (UTC)", time(&conflict.timestamp)),
        ("table", conflict.table_name.clone()),
        ("key", conflict.key.get().to_owned()),
        ("field", conflict.field.clone().unwrap_or_else(|| "- (whole rows)".to_owned())),
        ("type", conflict.conflict_type.clone()),
        ("strategy", conflict.strategy.clone()),
        ("stays", stays(node, conflict)),
        ("source stamp", stamp(conflict.source_clock_us, conflict.source_counter, &conflict.source_origin)),
        ("target stamp", target),
        ("record", format!("{} partition {} offset {}", conflict.topic, conflict.partition, conflict.record_offset)),
        ("resolved", resolved(conflict)),
        ("resolved at", conflict.resolved_at.as_deref().map_or_else(|| "-".to_owned(), time)),
    ];
    let fields: Vec<[String; 2]> = fields.map(|(name, value)| [name.to_owned(), value]).into();
    Ok(format!("{}\n\n{}", aligned(&fields), images(conflict)?))
}

/// Both sides and the result beside each other; `*` marks columns in which the sides differ.
fn images(conflict: &Conflict) -> Result<String, Failure> {
    let images = [&conflict.source_value, &conflict.target_value, &conflict.result];
    let mut sides: Vec<BTreeMap<String, &RawValue>> = Vec::with_capacity(images.len());
    for image in images {
        sides.push(match (image, &conflict.field) {
            (Some(value), Some(field)) => BTreeMap::from([(field.clone(), &**value)]),
            (Some(row), None) => serde_json::from_str(row.get())
                .map_err(|_| Failure::Failed(format!("conflict {}: its images are no rows", conflict.id)))?,
            (None, _) => BTreeMap::new(),
        });
    }
    let columns: BTreeSet<&String> = sides.iter().flat_map(BTreeMap::keys).collect();
    let mut rows = vec![["", "column", "source", "target", "result"].map(str::to_owned)];
    for column in columns {
        let value = |side: usize| sides[side].get(column).map(|value| value.get());
        let shown = |side: usize| match (value(side), images[side], &conflict.field) {
            (Some(value), ..) => cut(value),
            (None, None, None) => "(no row)".to_owned(),
            (None, ..) => "-".to_owned(),
        };
        let mark = if value(0) == value(1) { "" } else { "*" };
        rows.push([mark.to_owned(), column.clone(), shown(0), shown(1), shown(2)]);
    }
    Ok(aligned(&rows))
}

/// What was done, or would be.
pub(super) fn resolution(
    node: &str,
    conflict: &Conflict,
    done: &Resolution,
    dry_run: bool,
    note: Option<&str>,
) -> String {
    let (table, key) = (&conflict.table_name, conflict.key.get());
    let what = match (done.deletes, done.changes.is_empty()) {
        (true, _) => "the row is deleted",
        (false, true) => "the row has these values already",
        (false, false) => "these columns change",
    };
    let mut out = format!("{table} {key} at node {node}: {what}\n");
    for change in done.changes.iter().filter(|_| !done.deletes) {
        let text =
            |value: &Option<Box<RawValue>>| value.as_ref().map_or_else(|| "-".to_owned(), |value| cut(value.get()));
        out.push_str(&format!("  {}: {} -> {}\n", change.column, text(&change.before), text(&change.after)));
    }
    if done.row_changed_since {
        out.push_str("warning: the row had changed since the conflict; that change is overwritten\n");
    }
    if let Some(note) = note {
        out.push_str(&format!("note: {note}\n"));
    }
    out.push_str(&if dry_run {
        "nothing was changed: without --dry-run it is".to_owned()
    } else {
        format!("conflict {} is resolved; the change reaches the other nodes as any other", conflict.id)
    });
    out
}

/// As JSON, digit by digit.
///
/// # Errors
/// It is none.
pub(super) fn value<T: Serialize>(value: &T) -> Result<Box<RawValue>, Failure> {
    serde_json::value::to_raw_value(value).map_err(|error| Failure::Broken { reason: error.to_string() })
}

/// The side that stays, with the node whose change it is.
fn stays(node: &str, conflict: &Conflict) -> String {
    let origin = match conflict.resolution.as_str() {
        "source" => &conflict.source_origin,
        // Without a stamp it is a write of the node itself.
        _ => conflict.target_origin.as_deref().unwrap_or(node),
    };
    format!("{} ({origin})", conflict.resolution)
}

fn resolved(conflict: &Conflict) -> String {
    match &conflict.resolved_by {
        Some(by) if conflict.is_resolved_by_person() => by.clone(),
        Some(_) => "by the rule".to_owned(),
        None => "no".to_owned(),
    }
}

/// `2026-01-02T03:04:05.678+00:00` to the second.
fn time(text: &str) -> String {
    text.get(..19).unwrap_or(text).replace('T', " ")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some(_) => text.chars().take(WIDTH).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

/// Lines whose cells stand below each other.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn counts_tell_who_stays() {
        let [table_name, conflict_type, strategy] = ["public.kv", "update_update", "manual"].map(str::to_owned);
        let tally = Tally { table_name, conflict_type, strategy, source: 3, target: 9, unresolved: 2 };
        let shown = tallies(&[("hq".to_owned(), tally)]);
        let words: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words, ["hq", "public.kv", "update_update", "manual", "12", "3", "9", "2"]);
        assert_eq!(tallies(&[]), "no conflicts");
    }

    #[test]
    fn a_list_says_what_stays() {
        let shown = list(&[("hq".to_owned(), example())]);
        let line = shown.lines().nth(1).unwrap();
        let words: Vec<&str> = line.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
        assert_eq!(
            words,
            [
                "3f2a000000000000",
                "2026-01-02 03:04:05",
                "hq",
                "public.kv",
                "{\"k\": 1}",
                "-",
                "update_update",
                "last_write_wins",
                "source (eu)",
                "by the rule"
            ]
        );
        let unstamped = Conflict { resolution: "target".into(), target_origin: None, ..example() };
        assert_eq!(stays("hq", &unstamped), "target (hq)");
    }

    #[test]
    fn columns_that_differ_are_marked() {
        let shown = conflict("hq", &example()).unwrap();
        assert!(shown.contains("\n   k       1         1        1"), "{shown}");
        assert!(shown.contains("\n*  v       \"second\"  \"first\"  \"second\""), "{shown}");
        let deleted = conflict("hq", &Conflict { source_value: None, ..example() }).unwrap();
        assert!(deleted.contains("*  v       (no row)"), "{deleted}");
        let one = Conflict { field: Some("v".into()), ..example() };
        let raw = |text: &str| RawValue::from_string(text.to_owned()).ok();
        let one = Conflict { source_value: raw("1"), target_value: raw("2"), result: raw("2"), ..one };
        assert!(conflict("hq", &one).unwrap().ends_with("*  v       1       2       2"));
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(cut(&"ä".repeat(41)), format!("{}…", "ä".repeat(40)));
        assert_eq!(cut(&"ä".repeat(40)), "ä".repeat(40));
    }
}
