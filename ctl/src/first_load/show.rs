//! The report for people's eyes and for scripts.

use serde_json::{Value, json};

use super::count::{ColumnCount, Count, Key, NodeCount};
use super::{Report, TableReport};
use crate::conflicts::aligned;

/// For people.
pub(super) fn text(report: &Report) -> String {
    let mut parts = Vec::new();
    if !report.faults.is_empty() {
        parts.push(lines("FAULT", report.faults.iter().map(|(node, fault)| format!("{node}: {fault}"))));
    }
    parts.extend(report.tables.iter().map(table));
    parts.push(match report.faults() {
        0 => "All rows can be merged; nothing was changed.".to_owned(),
        _ => "A start would be refused, or would not merge all rows, for what is marked FAULT.".to_owned(),
    });
    parts.join("\n\n") + "\n"
}

/// For scripts: one object with the same facts.
pub(super) fn json(report: &Report) -> String {
    let faults = report.faults.iter().map(|(node, fault)| json!({"node": node, "fault": fault}));
    let value = json!({
        "ok": report.faults() == 0,
        "faults": faults.collect::<Vec<_>>(),
        "tables": report.tables.iter().map(table_json).collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}

fn table(table: &TableReport) -> String {
    let mut parts = vec![format!("{} (rule {})", table.name, table.rule)];
    if let Some(count) = &table.count {
        parts.push(indented(&nodes(table, count)));
        parts.push(format!("  {}", together(table, count)));
        if count.columns.iter().any(|column| column.differ > 0) {
            parts.push(indented(&columns(table, count)));
        }
        let only =
            table.nodes.iter().zip(&count.nodes).map(|(name, node)| (format!("only at {name}"), &node.only_here));
        let kinds =
            only.chain([("differ".to_owned(), &count.differing), ("cannot be merged".to_owned(), &count.failing)]);
        for (kind, keys) in kinds.filter(|(_, keys)| !keys.is_empty()) {
            let keys: Vec<String> = keys.iter().map(key).collect();
            parts.push(format!("  {kind}, for example: {}", keys.join("; ")));
        }
    }
    parts.extend(table.notes.iter().map(|note| format!("  note: {note}")));
    parts.extend((!table.faults.is_empty()).then(|| indented(&lines("FAULT", table.faults.iter().cloned()))));
    parts.push(format!("  {}", first_load(table)));
    parts.join("\n")
}

fn nodes(table: &TableReport, count: &Count) -> String {
    let head = ["node", "rows", "only here", "to insert", "to overwrite", "wins"];
    let mut rows = vec![head.map(str::to_owned)];
    for (name, node) in table.nodes.iter().zip(&count.nodes) {
        let NodeCount { rows: own, only, inserted, overwritten, wins, .. } = node;
        let wins = if count.columns.is_empty() { wins.to_string() } else { "by column".to_owned() };
        let numbers = [own, only, inserted, overwritten].map(u64::to_string);
        let [own, only, inserted, overwritten] = numbers;
        rows.push([name.clone(), own, only, inserted, overwritten, wins]);
    }
    aligned(&rows)
}

fn together(table: &TableReport, count: &Count) -> String {
    let mut text = format!("equal at all of them: {}, differ: {}", count.equal, count.differ);
    if table.nodes.len() > 2 {
        text.push_str(&format!(", equal at several and missing at others: {}", count.equal_where_present));
    }
    text
}

fn columns(table: &TableReport, count: &Count) -> String {
    let mut rows = vec![["column that differs", "rule", "rows", "becomes"].map(str::to_owned)];
    for ((name, rule), column) in table.columns.iter().zip(&count.columns).filter(|(_, column)| column.differ > 0) {
        let rule = rule.unwrap_or("-").to_owned();
        rows.push([name.clone(), rule, column.differ.to_string(), becomes(table, column)]);
    }
    aligned(&rows)
}

fn becomes(table: &TableReport, column: &ColumnCount) -> String {
    let of = table.nodes.iter().zip(&column.taken).filter(|(_, taken)| **taken > 0);
    let of = of.map(|(node, taken)| format!("that of {node}: {taken}"));
    of.chain((column.combined > 0).then(|| format!("a new value: {}", column.combined))).collect::<Vec<_>>().join(", ")
}

/// What the first load will do to a table, in a sentence.
pub(super) fn first_load(table: &TableReport) -> String {
    let Some(count) = &table.count else {
        return "The first load is not possible before this is mended, and the rows have not been compared.".to_owned();
    };
    let at = |get: fn(&NodeCount) -> u64| {
        let nodes = table.nodes.iter().zip(&count.nodes).map(move |(name, node)| (name, get(node)));
        let nodes: Vec<String> =
            nodes.filter(|(_, rows)| *rows > 0).map(|(name, rows)| format!("{rows} at {name}")).collect();
        nodes.join(" and ")
    };
    let does = [("inserts", at(|node| node.inserted)), ("overwrites", at(|node| node.overwritten))];
    let does = does.into_iter().filter(|(_, at)| !at.is_empty()).map(|(verb, at)| format!("{verb} {at}"));
    let does: Vec<String> = does.collect();
    let rows = match count.keys - count.failed {
        1 => "1 row".to_owned(),
        rows => format!("{rows} rows"),
    };
    let whose = if table.is_everywhere { "every node has" } else { "each of these nodes has" };
    let mut text = if does.is_empty() {
        format!("The first load changes nothing; {whose} {rows}.")
    } else {
        format!("The first load {}; then {whose} {rows}.", does.join(", and "))
    };
    if count.failed > 0 {
        text.push_str(&format!(" It stops at {} that cannot be merged.", count.failed));
    }
    text
}

fn table_json(table: &TableReport) -> Value {
    let mut object = json!({"table": table.name, "rule": table.rule, "captured_by": table.nodes});
    if let Some(count) = &table.count {
        let nodes = table.nodes.iter().zip(&count.nodes).map(|(name, node)| {
            let mut object = json!({"rows": node.rows, "only_here": node.only, "to_insert": node.inserted,
                                    "to_overwrite": node.overwritten, "only_here_examples": node.only_here});
            if count.columns.is_empty() {
                object["wins"] = node.wins.into();
            }
            (name.clone(), object)
        });
        object["nodes"] = Value::Object(nodes.collect());
        for (name, number) in [
            ("rows", count.keys),
            ("equal", count.equal),
            ("equal_where_present", count.equal_where_present),
            ("differ", count.differ),
            ("cannot_be_merged", count.failed),
        ] {
            object[name] = number.into();
        }
        object["differ_examples"] = json!(count.differing);
        object["cannot_be_merged_examples"] = json!(count.failing);
        let columns = table.columns.iter().zip(&count.columns).filter(|(_, column)| column.differ > 0);
        let columns = columns.map(|((name, rule), column)| {
            let taken: serde_json::Map<String, Value> =
                table.nodes.iter().cloned().zip(column.taken.iter().map(|taken| Value::from(*taken))).collect();
            json!({"column": name, "rule": rule, "differ": column.differ, "taken": taken, "combined": column.combined})
        });
        object["columns"] = columns.collect();
    }
    object["notes"] = json!(table.notes);
    object["faults"] = json!(table.faults);
    object["first_load"] = first_load(table).into();
    object
}

fn key(key: &Key) -> String {
    let value = |(name, value): (&String, &Value)| format!("{name}={}", value.as_str().unwrap_or_default());
    key.iter().map(value).collect::<Vec<_>>().join(", ")
}

fn lines(mark: &str, texts: impl Iterator<Item = String>) -> String {
    texts.map(|text| format!("{mark} {}", text.replace('\n', "\n    "))).collect::<Vec<_>>().join("\n")
}

fn indented(text: &str) -> String {
    format!("  {}", text.replace('\n', "\n  "))
}
