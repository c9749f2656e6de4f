//! `run --dry-run`: what the first load will do to writable databases that have rows already. Reads their tables side by
//! side and changes nothing; docs/conflicts.md explains it.

mod count;
mod fit;
mod merge;
mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use syncline_catalog::rows::View;
use syncline_consumer::config::{NodeSettings, TargetConfig};
use syncline_consumer::targets::postgres::PostgresTarget;
use syncline_event::table::TableDefinition;
use syncline_producer::config::ProducerConfig;
use syncline_producer::error::ProducerError;
use syncline_runtime::settings::DatabaseSettings;
use syncline_transforms::mapping::Names;

use self::count::{Comparison, Count};
use self::merge::Merge;
use crate::cli::Output;
use crate::config::{Sides, SyncConfig};
use crate::failure::Failure;
use crate::{parts, rules};

/// Everything that was found.
#[derive(Debug)]
struct Report {
    /// What keeps nodes from starting, by node.
    faults: Vec<(String, String)>,
    tables: Vec<TableReport>,
}

/// What was found about one table.
#[derive(Debug)]
struct TableReport {
    name: String,
    /// The table's conflict rule.
    rule: &'static str,
    /// The nodes that capture it.
    nodes: Vec<String>,
    /// Whether all nodes capture it.
    is_everywhere: bool,
    /// The columns that were compared, each with its rule, where it has one.
    columns: Vec<(String, Option<&'static str>)>,
    /// None where rows cannot be compared.
    count: Option<Count>,
    notes: Vec<String>,
    faults: Vec<String>,
}

impl Report {
    fn faults(&self) -> usize {
        self.faults.len() + self.tables.iter().map(|table| table.faults.len()).sum::<usize>()
    }
}

/// A node, with the connections that look at it.
struct Node {
    settings: NodeSettings,
    /// What it calls otherwise.
    names: Names,
    /// By the names that all nodes share; none where they cannot be told.
    tables: Option<BTreeMap<String, Table>>,
    target: PostgresTarget,
    view: View,
}

/// A node's table.
#[derive(Clone)]
struct Table {
    /// As the node calls it.
    own: TableDefinition,
    /// As all nodes do; its columns are in the same places.
    shared: TableDefinition,
}

/// Compares the nodes' rows and prints what was found to standard output.
///
/// # Errors
/// The file has no nodes, a server cannot be reached, or something would be refused.
pub(crate) async fn report(file: &Path, output: Output) -> Result<(), Failure> {
    let config = SyncConfig::load(file, Sides::Both, None)?;
    if config.nodes.is_empty() {
        let text = "`--dry-run` compares the rows of several writable databases, and the sync file has no `nodes`: \
                    `syncline check` tells what a start would find and do";
        return Err(Failure::Usage(text.to_owned()));
    }
    let (mut nodes, mut faults) = (Vec::new(), Vec::new());
    for part in parts::to_check(config, None)?.list {
        let (Some(producer), Some(consumer)) = (part.producer, part.consumer) else { continue };
        let TargetConfig::Postgresql(database) = consumer.target;
        let Some(settings) = consumer.node else { continue };
        let name = settings.name.clone();
        let (node, found) = open(producer, settings, database).await.map_err(|failure| failure.of(Some(&name)))?;
        faults.extend(found.into_iter().map(|fault| (name.clone(), fault)));
        nodes.push(node);
    }
    let names: BTreeSet<String> =
        nodes.iter().flat_map(|node| &node.tables).flat_map(|all| all.keys().cloned()).collect();
    let mut report = Report { faults, tables: Vec::new() };
    for name in names {
        tracing::info!(table = name, "comparing rows");
        report.tables.push(table(&mut nodes, name).await?);
    }
    let shown = match output {
        Output::Text => show::text(&report),
        Output::Json => show::json(&report),
    };
    // Whoever reads may have stopped reading; the exit code still tells.
    std::io::stdout().write_all(shown.as_bytes()).ok();
    match report.faults() {
        0 => Ok(()),
        1 => Err(Failure::Found("1 fault".to_owned())),
        count => Err(Failure::Found(format!("{count} faults"))),
    }
}

/// Looks at a node by itself. Gives what keeps it from starting too.
async fn open(
    producer: ProducerConfig,
    settings: NodeSettings,
    database: DatabaseSettings,
) -> Result<(Node, Vec<String>), Failure> {
    let names = settings.names.get(&settings.name).cloned().unwrap_or_default();
    let (tables, mut faults) = match syncline_producer::check::tables(&producer).await {
        Ok((tables, mut faults)) => {
            faults.extend(rules::faults(&settings.rules, &tables));
            let tables = tables.into_iter().map(|own| Table { shared: names.shared_definition(&own), own });
            (Some(tables.map(|table| (table.shared.qualified_name(), table)).collect()), faults)
        }
        Err(ProducerError::Preflight(faults)) => (None, faults),
        Err(error) => return Err(error.into()),
    };
    if !producer.snapshot_mode.reads_rows() {
        let text = "snapshot.mode is no_data, so rows that are there before the first start reach no other node: write \
                    initial";
        faults.push(text.to_owned());
    }
    let name = "syncline-dry-run";
    let view = View::open(&database, name).await?;
    let target = PostgresTarget::new(database, name.to_owned()).of_node(settings.clone());
    Ok((Node { settings, names, tables, target, view }, faults))
}

/// Compares one table.
async fn table(nodes: &mut [Node], name: String) -> Result<TableReport, Failure> {
    let captured: Vec<(usize, Table)> = nodes
        .iter()
        .enumerate()
        .filter_map(|(index, node)| Some((index, node.tables.as_ref()?.get(&name)?.clone())))
        .collect();
    let at: Vec<String> = captured.iter().map(|(index, _)| nodes[*index].settings.name.clone()).collect();
    // A node's rules have its own names.
    let first = &captured[0].1.own;
    let own_name = first.qualified_name();
    let rule = nodes[captured[0].0].settings.rules.of(&own_name);
    let mut report = TableReport {
        rule: rule.name(),
        columns: Vec::new(),
        nodes: at,
        is_everywhere: captured.len() == nodes.len(),
        count: None,
        notes: Vec::new(),
        faults: Vec::new(),
        name,
    };
    // A node whose tables cannot be told has said why.
    let lacks = |node: &&Node| node.tables.as_ref().is_some_and(|tables| !tables.contains_key(&report.name));
    let lacking: Vec<&str> = nodes.iter().filter(lacks).map(|node| node.settings.name.as_str()).collect();
    report.faults.extend(lacking.iter().map(|node| fit::missing(node, &report.nodes)));
    let definitions: Vec<&TableDefinition> = captured.iter().map(|(_, table)| &table.shared).collect();
    let differences = fit::differences(&report.nodes, &definitions);
    if !differences.is_empty() {
        report.faults.extend(differences);
        return Ok(report);
    }
    for (index, table) in &captured {
        let node = &mut nodes[*index];
        if node.target.has_stamps(&table.own.qualified_name()).await.map_err(|error| node.failed(error))? {
            report.notes.push(format!(
                "{} has compared changes of this table before: what is known of its rows since then decides, not their \
                 being there",
                node.settings.name
            ));
        }
        for (_, other) in captured.iter().filter(|(other, _)| other != index) {
            if let Err(error) = node.target.fits(&node.names.own_definition(&other.shared)).await {
                let fault = format!("at {}: {error}", node.settings.name);
                if !report.faults.contains(&fault) {
                    report.faults.push(fault);
                }
            }
        }
    }
    if first.key.is_empty() {
        // The nodes have said so.
        return Ok(report);
    }
    let columns: Vec<usize> =
        (0..first.columns.len()).filter(|index| first.columns[*index].generated.is_none()).collect();
    let settings = &nodes[captured[0].0].settings;
    let rule = settings.rules.of(&own_name);
    for index in &columns {
        let own = &first.columns[*index].name;
        report.columns.push((definitions[0].columns[*index].name.clone(), fit::column_rule(rule, own)));
    }
    match Comparison::new(&settings.rules, first, &columns, &report.nodes, &settings.log.masked) {
        Ok(mut comparison) => {
            compare(nodes, &captured, &report.columns, &mut comparison).await?;
            let count = comparison.count;
            if let Some(failure) = &count.failure {
                report.faults.push(format!("{} rows cannot be merged: {failure}", count.failed));
            }
            report.count = Some(count);
        }
        Err(error) => report.faults.push(error.to_string()),
    }
    Ok(report)
}

/// Reads the table's rows at all nodes that have it, side by side.
async fn compare(
    nodes: &mut [Node],
    captured: &[(usize, Table)],
    columns: &[(String, Option<&'static str>)],
    comparison: &mut Comparison,
) -> Result<(), Failure> {
    let mut streams = Vec::with_capacity(captured.len());
    for (index, node) in nodes.iter_mut().enumerate() {
        let Some((_, table)) = captured.iter().find(|(at, _)| *at == index) else { continue };
        // Nodes may have their columns in other places.
        let place = |(name, _): &(String, _)| table.shared.columns.iter().position(|column| column.name == *name);
        let places: Vec<usize> = columns.iter().filter_map(place).collect();
        let rows =
            node.view.rows(&table.own, &places).map_err(|error| Failure::from(error).of(Some(&node.settings.name)))?;
        streams.push((node.settings.name.as_str(), rows));
    }
    let mut merge = Merge::new(streams.len());
    loop {
        while let Some(wanted) = merge.wants() {
            let (node, rows) = &mut streams[wanted];
            let row = rows.next().await.map_err(|error| Failure::from(error).of(Some(node)))?;
            merge.give(wanted, row);
        }
        let Some(rows) = merge.take() else { return Ok(()) };
        comparison.take(rows);
    }
}

impl Node {
    fn failed(&self, error: impl Into<Failure>) -> Failure {
        error.into().of(Some(&self.settings.name))
    }
}
