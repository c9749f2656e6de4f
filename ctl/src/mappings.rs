//! `table_mappings` held against the tables they are about, before anything starts.

use syncline_consumer::config::{ConsumerConfig, TopicSelection};
use syncline_consumer::definitions::Definitions;
use syncline_event::table::TableDefinition;
use syncline_transforms::mapping::{Misfit, quoted_table};

use crate::config::MappingsFile;
use crate::failure::Failure;

/// What does not fit, each with the line of the file and what to do; nothing where everything does.
pub(crate) fn faults<'d>(
    mappings: &MappingsFile,
    tables: impl Iterator<Item = &'d TableDefinition> + Clone,
) -> Vec<String> {
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

/// The same for a consumer alone: the tables are those that a producer has published so far.
///
/// # Errors
/// Kafka is away, or something does not fit.
pub(crate) async fn check_published(mappings: &MappingsFile, config: &ConsumerConfig) -> Result<(), Failure> {
    let TopicSelection::Prefix(prefix) = &config.topics else { return Ok(()) };
    if mappings.mappings.list.is_empty() {
        return Ok(());
    }
    let tables = Definitions::new(&config.kafka, &config.topics).newest(prefix).await?;
    if tables.is_empty() {
        return Ok(());
    }
    refuse(faults(mappings, tables.iter().map(AsRef::as_ref)))
}

/// # Errors
/// There are faults.
pub(crate) fn refuse(faults: Vec<String>) -> Result<(), Failure> {
    if faults.is_empty() { Ok(()) } else { Err(Failure::Usage(faults.join("\n"))) }
}
