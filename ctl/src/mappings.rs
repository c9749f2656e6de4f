//! `table_mappings` held against the tables they are about, before anything starts.

use std::collections::BTreeSet;

use syncline_consumer::config::{ConsumerConfig, TopicSelection};
use syncline_consumer::definitions::Definitions;
use syncline_event::table::TableDefinition;
use syncline_transforms::mapping::{Misfit, Names, quoted_table};

use crate::config::MappingsFile;
use crate::failure::Failure;

/// What does not fit, each with the line of the file and what to do; nothing where everything does. The tables are those
/// of a topology's `node`, or of the one source.
pub(crate) fn faults<'d>(
    mappings: &MappingsFile,
    node: Option<&str>,
    tables: impl Iterator<Item = &'d TableDefinition> + Clone,
) -> Vec<String> {
    match node {
        Some(node) => at_node(mappings, node, tables),
        None => one_way(mappings, tables),
    }
}

fn one_way<'d>(mappings: &MappingsFile, tables: impl Iterator<Item = &'d TableDefinition> + Clone) -> Vec<String> {
    let file = mappings.file.display();
    let mut faults = Vec::new();
    for mapping in &mappings.mappings.list {
        let source = &mapping.source_table;
        let mut tables = tables.clone();
        if source.value.is_name() && !tables.any(|table| source.value.matches(&table.schema, &table.table)) {
            let text = "is none of the captured tables: correct the name, or capture it";
            faults.push(format!("{file}:{}: table_mappings, source_table: {} {text}", source.line, source.value));
        }
    }
    for table in tables {
        match mappings.mappings.routes(table) {
            Ok(routes) => {
                let wanting = routes.iter().filter(|route| !route.has_whole_rows());
                for requirement in wanting.flat_map(|route| route.requirements()) {
                    let name = table.qualified_name();
                    let quoted = quoted_table(&table.schema, &table.table);
                    let fault = format!(
                        "{file}:{}: table {name} needs REPLICA IDENTITY FULL: {}; run ALTER TABLE {quoted} REPLICA \
                         IDENTITY FULL",
                        requirement.line, requirement.reason
                    );
                    // Two ways may need it for the same line.
                    if !faults.contains(&fault) {
                        faults.push(fault);
                    }
                }
            }
            Err(misfits) => faults.extend(misfits.iter().map(|misfit| {
                let Misfit { line, key, reason } = misfit;
                format!("{file}:{line}: table_mappings, {key}: {reason}")
            })),
        }
    }
    faults
}

/// What does not fit of what a node calls otherwise, on the way of its tables to any other node.
fn at_node<'d>(
    mappings: &MappingsFile,
    node: &str,
    tables: impl Iterator<Item = &'d TableDefinition> + Clone,
) -> Vec<String> {
    let (file, nothing) = (mappings.file.display(), Names::default());
    let names = mappings.names.get(node).unwrap_or(&nothing);
    let fault = |line: usize, key: &str, reason: &str| format!("{file}:{line}: table_mappings, {key}: {reason}");
    let mut faults = Vec::new();
    for renamed in &names.tables {
        let (schema, table) = &renamed.own.value;
        if !tables.clone().any(|found| found.schema == *schema && found.table == *table) {
            let reason =
                format!("{} is none of the captured tables: correct the name, or capture it", renamed.own_name());
            faults.push(fault(renamed.own.line, "source_table", &reason));
        }
    }
    let others = || mappings.names.iter().filter(|(other, _)| *other != node).map(|(_, names)| names);
    let mut shared = BTreeSet::new();
    for table in tables {
        let own = (table.schema.clone(), table.table.clone());
        if !shared.insert(names.shared_table(&own))
            && let Some(renamed) = names.tables.iter().find(|renamed| renamed.shared == names.shared_table(&own))
        {
            let reason = format!("two captured tables are called {}: give one another name", renamed.shared_name());
            faults.push(fault(renamed.own.line, "target_table", &reason));
        }
        for to in std::iter::once(&nothing).chain(others()) {
            for Misfit { line, key, reason } in names.routes(to, table).err().unwrap_or_default() {
                let fault = fault(line, key, &reason);
                if !faults.contains(&fault) {
                    faults.push(fault);
                }
            }
        }
    }
    faults
}

/// The same for a consumer alone: the tables are those that a producer has published so far.
///
/// # Errors
/// Kafka is away, or something does not fit.
pub(crate) async fn check_published(mappings: &MappingsFile, config: &ConsumerConfig) -> Result<(), Failure> {
    let own = config.node.as_ref().and_then(|node| Some((node, mappings.names.get(&node.name)?)));
    let own = own.filter(|(_, names)| !names.tables.is_empty());
    let prefix = match (&config.topics, own) {
        (_, Some((node, _))) => node.prefixes.get(&node.name),
        (TopicSelection::Prefix(prefix), None) if !mappings.mappings.list.is_empty() => Some(prefix),
        _ => None,
    };
    let Some(prefix) = prefix else { return Ok(()) };
    let tables = Definitions::new(&config.kafka, &config.topics).newest(prefix).await?;
    if tables.is_empty() {
        return Ok(());
    }
    // What a node has published may be there no more, so only the tables count that its names are about.
    let is_meant = |table: &&TableDefinition| {
        own.is_none_or(|(_, names)| {
            let mut own = names.tables.iter().map(|renamed| &renamed.own.value);
            own.any(|(schema, name)| *schema == table.schema && *name == table.table)
        })
    };
    let node = own.map(|(node, _)| node.name.as_str());
    refuse(faults(mappings, node, tables.iter().map(AsRef::as_ref).filter(is_meant)))
}

/// # Errors
/// There are faults.
pub(crate) fn refuse(faults: Vec<String>) -> Result<(), Failure> {
    if faults.is_empty() { Ok(()) } else { Err(Failure::Usage(faults.join("\n"))) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use syncline_transforms::mapping::{Renamed, Written};

    use super::*;
    use crate::rules::tests::table;

    #[test]
    fn a_nodes_names_are_held_against_its_tables_and_the_other_nodes_names() {
        let written = |value: &str, line| Written { value: value.to_owned(), line };
        let own = Written { value: ("public".to_owned(), "kunden".to_owned()), line: 7 };
        let columns = vec![(written("nr", 8), "id".to_owned()), (written("name", 9), "full_name".to_owned())];
        let eu = Names { tables: vec![Renamed { own, shared: ("public".into(), "customers".into()), columns }] };
        let names = BTreeMap::from([("hq".to_owned(), Names::default()), ("eu".to_owned(), eu)]);
        let file = MappingsFile { file: "sync.yaml".into(), mappings: Arc::default(), names: Arc::new(names) };
        let found = |node: &str, tables: &[TableDefinition]| faults(&file, Some(node), tables.iter());
        let fine = [table("kunden", &["nr", "name"]), table("stock", &["sku"])];
        assert_eq!(found("eu", &fine), Vec::<String>::new());
        assert_eq!(
            found("hq", &[table("customers", &["id", "full_name"]), table("stock", &["sku"])]),
            Vec::<String>::new()
        );
        assert_eq!(
            found("eu", &[table("kunden", &["nr", "nam"])]),
            ["sync.yaml:9: table_mappings, columns: public.kunden has no column name; it has nr, nam"]
        );
        assert_eq!(
            found("eu", &[table("stock", &["sku"])]),
            [
                "sync.yaml:7: table_mappings, source_table: public.kunden is none of the captured tables: correct the name, or capture it"
            ]
        );
        let twice = found("eu", &[table("kunden", &["nr", "name"]), table("customers", &["nr", "name"])]);
        assert!(
            twice[0].contains("sync.yaml:7: table_mappings, target_table: two captured tables are called"),
            "{twice:?}"
        );
        // What eu asks of the others is told where the others start.
        assert_eq!(
            found("hq", &[table("customers", &["id", "name"])]),
            ["sync.yaml:9: table_mappings, columns: public.customers has no column full_name; it has id, name"]
        );
        let mixed = found("hq", &[table("kunden", &["id"])]);
        assert!(mixed[0].contains("public.kunden is called public.customers by all nodes, but"), "{mixed:?}");
    }
}
