//! Whether the nodes' tables can be joined at all, where a producer's and a consumer's own checks do not say it.

use syncline_event::table::TableDefinition;
use syncline_transforms::resolve::rules::TableRule;

/// A node that lacks a table which others capture.
pub(super) fn missing(node: &str, others: &[String]) -> String {
    format!(
        "{} captures it and {node} does not: create it at {node} with the same columns, and name it in the `tables` of every node",
        others.join(", ")
    )
}

/// What differs between the definitions that nodes have of a table, each with what to do. `nodes` are their names.
pub(super) fn differences(nodes: &[String], definitions: &[&TableDefinition]) -> Vec<String> {
    let mut faults = Vec::new();
    let Some((first, others)) = definitions.split_first() else { return faults };
    for (node, other) in nodes.iter().skip(1).zip(others) {
        let at = &nodes[0];
        let mut lacks = |has: &str, table: &TableDefinition, node: &str, other: &TableDefinition| {
            for column in table.columns.iter().filter(|column| find(other, &column.name).is_none()) {
                faults.push(format!("column {} is at {has} and not at {node}: add it there, or drop it", column.name));
            }
        };
        lacks(at, first, node, other);
        lacks(node, other, at, first);
        for column in &first.columns {
            let Some(there) = find(other, &column.name) else { continue };
            let (here, there) = (what(column), what(there));
            if here != there {
                faults.push(format!(
                    "column {} is {here} at {at} and {there} at {node}: make it the same at both",
                    column.name
                ));
            }
        }
        let (here, there) = (key(first), key(other));
        if here != there {
            faults.push(format!(
                "its key is ({}) at {at} and ({}) at {node}: give both the same primary key",
                here.join(", "),
                there.join(", ")
            ));
        }
    }
    faults
}

/// The name of a column's rule, where columns have rules.
pub(super) fn column_rule(rule: &TableRule, column: &str) -> Option<&'static str> {
    match rule {
        TableRule::Merge => Some(rule.name()),
        TableRule::Columns(columns) => Some(columns.get(column).map_or(TableRule::Merge.name(), |rule| rule.name())),
        TableRule::LastWriteWins | TableRule::LastWriteWinsBy(_) | TableRule::SourcePriority | TableRule::Manual => {
            None
        }
    }
}

fn find<'t>(table: &'t TableDefinition, name: &str) -> Option<&'t syncline_event::table::Column> {
    table.columns.iter().find(|column| column.name == name)
}

fn what(column: &syncline_event::table::Column) -> String {
    let generated = if column.generated.is_some() { " (generated)" } else { "" };
    format!("{}{generated}", column.column_type.format)
}

fn key(table: &TableDefinition) -> Vec<&str> {
    table.key.iter().map(|index| table.columns[*index].name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(columns: &[(&str, &str)], key: &[usize]) -> TableDefinition {
        let column = |(name, format): &(&str, &str)| {
            let kind = json!({"oid": 0, "name": format, "schema": "pg_catalog", "modifier": -1, "format": format});
            json!({"name": name, "field": name, "type": kind, "nullable": false})
        };
        let columns: Vec<_> = columns.iter().map(column).collect();
        let definition = json!({"topic": "t", "number": 1, "schema": "public", "table": "t", "columns": columns, "key": key,
                                "replica_identity": "full"});
        serde_json::from_value(definition).unwrap()
    }

    #[test]
    fn tables_that_differ_are_told_with_what_to_do() {
        let nodes = ["hq".to_owned(), "eu".to_owned()];
        let hq = table(&[("id", "integer"), ("v", "text"), ("w", "text")], &[0]);
        let turned = table(&[("w", "text"), ("v", "text"), ("id", "integer")], &[2]);
        assert_eq!(differences(&nodes, &[&hq, &turned]), Vec::<String>::new());
        let eu = table(&[("id", "bigint"), ("v", "text"), ("x", "text")], &[0, 1]);
        assert_eq!(
            differences(&nodes, &[&hq, &eu]),
            [
                "column w is at hq and not at eu: add it there, or drop it",
                "column x is at eu and not at hq: add it there, or drop it",
                "column id is integer at hq and bigint at eu: make it the same at both",
                "its key is (id) at hq and (id, v) at eu: give both the same primary key",
            ]
        );
    }
}
