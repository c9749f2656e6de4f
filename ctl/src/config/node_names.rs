//! `nodes.<node>.table_mappings`: what a node calls tables and columns otherwise than all nodes together.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use syncline_producer::sources::postgres::selection::TablePattern;
use syncline_runtime::config::{Field, Kind, Preset};
use syncline_transforms::mapping::{Names, Renamed, SourceTable, TableName, Written};
use syncline_transforms::resolve::rules::{Rules, TableRule};

use super::check::Check;
use Preset::{Is, Required};

/// The keys of an item: names only.
pub(super) const NAMES: &[Field] = &[
    Field::new(
        "source_table",
        Kind::Text,
        Required,
        "The node's own table: `schema.table`, quoted as in SQL; no schema means `public`.",
    ),
    Field::new(
        "target_table",
        Kind::Text,
        Required,
        "What all nodes call it. Rules for conflicts name it so, and the nodes that have no mapping for it.",
    ),
    Field::new(
        "columns",
        Kind::Map,
        Is(""),
        "The node's own columns and what all nodes call them. Columns that are not here keep their names.",
    ),
    one_way("exclude_columns"),
    one_way("transformations"),
    one_way("filters"),
    one_way("concatenate"),
    one_way("add_metadata"),
    one_way("convert"),
    one_way("calculate"),
    one_way("clean"),
    one_way("static_values"),
    one_way("soft_delete"),
    one_way("history"),
    one_way("key"),
];

const fn one_way(key: &'static str) -> Field {
    Field::refused(
        key,
        "a node's changes must be able to go both ways, so its mapping gives other names and nothing else",
    )
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNames {
    source_table: String,
    target_table: String,
    columns: Map<String, Value>,
}

impl Check<'_> {
    /// A node's own names, as far as they can be checked without its tables; `captured` is what it captures.
    pub(super) fn own_names(&mut self, section: &str, raw: Vec<RawNames>, captured: &[String]) -> Names {
        let section = format!("{section}.table_mappings");
        let mut tables: Vec<Renamed> = Vec::with_capacity(raw.len());
        for (number, RawNames { source_table, target_table, columns }) in raw.into_iter().enumerate() {
            let path = |key: &str| format!("{section}[{number}].{key}");
            let own = self.table_name(&path("source_table"), &source_table);
            let shared = self.table_name(&path("target_table"), &target_table);
            let columns = self.renamed_columns(&path("columns"), columns);
            let (Some(own), Some(shared)) = (own, shared) else { continue };
            if tables.iter().any(|other| other.own.value == own) {
                self.refuse(&path("source_table"), format!("`{source_table}` has a mapping already"));
            }
            if let Some(other) = tables.iter().find(|other| other.shared == shared) {
                let text = format!(
                    "`{target_table}` is what {} is called already; each table needs its own",
                    other.own_name()
                );
                self.refuse(&path("target_table"), text);
            }
            let line = self.line(&path("source_table"));
            tables.push(Renamed { own: Written { value: own, line }, shared, columns });
        }
        let names = Names { tables };
        self.beside_captured(&section, &names, captured);
        names
    }

    fn table_name(&mut self, path: &str, written: &str) -> Option<TableName> {
        match SourceTable::parse(written).map(|table| table.name()) {
            Ok(Some(name)) => return Some(name),
            Ok(None) => self.refuse(path, format!("`{written}` must be one table's name, not a pattern")),
            Err(fault) => self.refuse(path, format!("`{written}` {fault}")),
        }
        None
    }

    fn renamed_columns(&mut self, section: &str, raw: Map<String, Value>) -> Vec<(Written<String>, String)> {
        let mut columns: Vec<(Written<String>, String)> = Vec::with_capacity(raw.len());
        for (own, shared) in raw {
            let path = format!("{section}.{own}");
            let shared = shared.as_str().unwrap_or_default().to_owned();
            if own == "*" {
                self.refuse(&path, "is not needed: columns that are not listed keep their names");
            } else if shared.trim().is_empty() {
                self.refuse(&path, "is empty");
            } else if let Some((other, _)) = columns.iter().find(|(_, other)| *other == shared) {
                let text = format!("`{shared}` is what {} is called already; each column needs its own", other.value);
                self.refuse(&path, text);
            }
            let line = self.line(&path);
            columns.push((Written { value: own, line }, shared));
        }
        columns
    }

    /// What can be told where tables are captured by their names.
    fn beside_captured(&mut self, section: &str, names: &Names, captured: &[String]) {
        let literal = |text: &String| {
            let pattern = TablePattern::parse(text).ok()?;
            pattern.name().map(|(schema, table)| (schema.to_owned(), table.to_owned()))
        };
        let literals: Vec<Option<TableName>> = captured.iter().map(literal).collect();
        let known: Vec<TableName> = literals.iter().flatten().cloned().collect();
        for (number, renamed) in names.tables.iter().enumerate() {
            let path = |key: &str| format!("{section}[{number}].{key}");
            if known.len() == literals.len() && !known.contains(&renamed.own.value) {
                let text = format!(
                    "{} is none of the tables that the node captures: correct the name, or capture it",
                    renamed.own_name()
                );
                self.refuse(&path("source_table"), text);
            }
            let is_plain = |own: &TableName| *own != renamed.own.value && names.shared_table(own) == *own;
            if known.contains(&renamed.shared) && is_plain(&renamed.shared) {
                let text = format!(
                    "{} is a table of the node, too: give that one another name here, or do not capture it",
                    renamed.shared_name()
                );
                self.refuse(&path("target_table"), text);
            }
        }
    }

    /// Rules have the names that all nodes share.
    pub(super) fn rules_beside(&mut self, node: &str, names: &Names, rules: &Rules) {
        for (number, renamed) in names.tables.iter().enumerate() {
            let section = format!("nodes.{node}.table_mappings[{number}]");
            let (own, shared) = (renamed.own_name(), renamed.shared_name());
            let is_shared = names.tables.iter().any(|other| other.shared == renamed.own.value);
            if rules.tables.contains_key(&own) && !is_shared {
                let text = format!("all nodes call {own} {shared}: name it so in `conflict_resolution.tables`, too");
                self.refuse(&format!("{section}.source_table"), text);
            }
            let wanted: Vec<&String> = match (rules.of(&shared), rules.tables.contains_key(&shared)) {
                (TableRule::LastWriteWinsBy(column), _) => vec![column],
                (TableRule::Columns(columns), true) => columns.keys().collect(),
                // Rules for all tables are for those that have the column.
                _ => Vec::new(),
            };
            for column in wanted.into_iter().filter(|column| renamed.own_column(column).is_none()) {
                let text = format!(
                    "all nodes call `{column}` otherwise, and no column of {shared} so: `conflict_resolution` names it by the \
                     name that all share"
                );
                self.refuse(&format!("{section}.columns.{column}"), text);
            }
        }
    }
}

/// The columns that a node leaves out of its log of conflicts: under every name that one of `masked` has at any node, since
/// it may be meant there.
pub(super) fn masked_at(node: &str, names: &BTreeMap<String, Names>, masked: &[String]) -> Vec<String> {
    let columns = |names: &Names| -> Vec<(String, String)> {
        let columns = names.tables.iter().flat_map(|renamed| &renamed.columns);
        columns.map(|(own, shared)| (own.value.clone(), shared.clone())).collect()
    };
    let mut all = masked.to_vec();
    let meant = names.values().flat_map(columns).filter(|(own, _)| masked.contains(own));
    all.extend(meant.map(|(_, shared)| shared));
    let here = names.get(node).map(columns).unwrap_or_default();
    let own: Vec<String> = here.into_iter().filter(|(_, shared)| all.contains(shared)).map(|(own, _)| own).collect();
    all.extend(own);
    all.sort();
    all.dedup();
    all
}
