//! `conflict_resolution` held against the tables it is about, before anything starts: a rule whose name is misspelt would
//! decide nothing.

use syncline_event::table::TableDefinition;
use syncline_runtime::config::nearest;
use syncline_transforms::resolve::rules::{Rules, TableRule};

/// What does not fit a node's captured tables, each with what to do.
pub(crate) fn faults(rules: &Rules, tables: &[TableDefinition]) -> Vec<String> {
    let names: Vec<String> = tables.iter().map(TableDefinition::qualified_name).collect();
    let mut faults = Vec::new();
    for name in rules.tables.keys().filter(|name| !names.contains(name)) {
        let remedy = remedy(name, names.iter().map(String::as_str), "correct the name, or capture it");
        faults.push(format!("conflict_resolution.tables: {name} is none of the captured tables: {remedy}"));
    }
    for (table, name) in tables.iter().zip(&names) {
        let known = || table.columns.iter().map(|column| column.name.as_str());
        let wanted = match rules.of(name) {
            // Rules for all tables are for those that have the column.
            TableRule::Columns(_) if !rules.tables.contains_key(name) => Vec::new(),
            rule => columns(rule),
        };
        for column in wanted.into_iter().filter(|column| known().all(|found| found != *column)) {
            let remedy = remedy(column, known(), "correct the name, or give the table rules of its own");
            faults.push(format!("conflict_resolution: table {name} has no column {column}: {remedy}"));
        }
    }
    let every = || tables.iter().flat_map(|table| &table.columns).map(|column| column.name.as_str());
    if let rule @ TableRule::Columns(_) = &rules.default {
        for column in columns(rule).into_iter().filter(|column| every().all(|found| found != *column)) {
            let remedy = remedy(column, every(), "correct the name, or remove the rule");
            faults.push(format!("conflict_resolution.custom_rules: no captured table has a column {column}: {remedy}"));
        }
    }
    faults
}

/// The columns that a rule is about.
fn columns(rule: &TableRule) -> Vec<&str> {
    match rule {
        TableRule::LastWriteWinsBy(column) => vec![column],
        TableRule::Columns(rules) => rules.keys().map(String::as_str).collect(),
        TableRule::LastWriteWins | TableRule::SourcePriority | TableRule::Merge | TableRule::Manual => Vec::new(),
    }
}

fn remedy<'n>(name: &str, known: impl Iterator<Item = &'n str>, otherwise: &str) -> String {
    nearest(name, known).map_or_else(|| otherwise.to_owned(), |near| format!("did you mean {near}?"))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use syncline_transforms::resolve::rules::ColumnRule;

    use super::*;

    /// A table of integers.
    pub(crate) fn table(name: &str, columns: &[&str]) -> TableDefinition {
        let kind = json!({"oid": 23, "name": "int4", "schema": "pg_catalog", "modifier": -1, "format": "integer"});
        let columns = columns.iter().map(|name| json!({"name": name, "field": name, "type": kind, "nullable": true}));
        let columns: Vec<_> = columns.collect();
        let definition = json!({"topic": name, "number": 1, "schema": "public", "table": name, "columns": columns,
                                "key": [0], "replica_identity": "full"});
        serde_json::from_value(definition).unwrap()
    }

    fn rule(column: &str) -> TableRule {
        TableRule::Columns(BTreeMap::from([(column.to_owned(), ColumnRule::Sum)]))
    }

    #[test]
    fn misspelt_names_are_told_with_the_nearest() {
        let tables = [table("stock", &["id", "quantity"]), table("users", &["id", "updated_at"])];
        let rules = |default, tables: &[(&str, TableRule)]| Rules {
            priority: Vec::new(),
            default,
            tables: tables.iter().map(|(name, rule)| ((*name).to_owned(), rule.clone())).collect(),
        };
        let fine = rules(rule("quantity"), &[("public.users", TableRule::LastWriteWinsBy("updated_at".into()))]);
        assert_eq!(faults(&fine, &tables), Vec::<String>::new());
        let own = rules(TableRule::Merge, &[("public.stok", TableRule::Merge), ("public.stock", rule("quantty"))]);
        assert_eq!(
            faults(&own, &tables),
            [
                "conflict_resolution.tables: public.stok is none of the captured tables: did you mean public.stock?",
                "conflict_resolution: table public.stock has no column quantty: did you mean quantity?",
            ]
        );
        let default = rules(TableRule::LastWriteWinsBy("updated_at".into()), &[]);
        assert_eq!(
            faults(&default, &tables),
            [
                "conflict_resolution: table public.stock has no column updated_at: correct the name, or give the table rules of its own"
            ]
        );
        let nowhere = rules(rule("price"), &[]);
        assert_eq!(
            faults(&nowhere, &tables),
            [
                "conflict_resolution.custom_rules: no captured table has a column price: correct the name, or remove the rule"
            ]
        );
    }
}
