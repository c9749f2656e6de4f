//! What becomes of a table's rows when nodes that have rows already are joined, key by key. The table's rule decides as
//! it will decide when the rows meet.

use std::borrow::Cow;

use serde_json::{Map, Value};
use syncline_catalog::rows::KeyedRow;
use syncline_event::stamp::{Seen, Stamp};
use syncline_event::table::TableDefinition;
use syncline_transforms::resolve::columns::{Incoming, ResolveError};
use syncline_transforms::resolve::plan::{Plan, PlanColumn, PlanError};
use syncline_transforms::resolve::row::{Operation, Version};
use syncline_transforms::resolve::rules::{Rules, TableRule};
use syncline_transforms::resolve::state::{Image, State};
use syncline_transforms::sql_type::SqlType;

/// How many keys are kept as examples of each kind.
const EXAMPLES: usize = 3;

/// What is counted of a table.
#[derive(Debug)]
pub(super) struct Count {
    pub(super) nodes: Vec<NodeCount>,
    /// Keys at any node.
    pub(super) keys: u64,
    /// Rows that are the same at all nodes.
    pub(super) equal: u64,
    /// Rows that are the same at several nodes and are not at the others.
    pub(super) equal_where_present: u64,
    /// Rows that are at several nodes with different values.
    pub(super) differ: u64,
    pub(super) differing: Vec<Key>,
    /// Columns that differ somewhere, by their places; empty where whole rows are decided.
    pub(super) columns: Vec<ColumnCount>,
    /// Rows that the rule cannot merge.
    pub(super) failed: u64,
    pub(super) failing: Vec<Key>,
    /// Why the first of them.
    pub(super) failure: Option<ResolveError>,
}

/// What is counted of a table at one node.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct NodeCount {
    pub(super) rows: u64,
    /// Rows that no other node has.
    pub(super) only: u64,
    pub(super) only_here: Vec<Key>,
    /// Of the rows that differ, those that become what this node has; where whole rows are decided.
    pub(super) wins: u64,
    /// Rows that the first load brings here.
    pub(super) inserted: u64,
    /// Rows that the first load changes here.
    pub(super) overwritten: u64,
}

/// What is counted of a column of rows that differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ColumnCount {
    /// Rows whose values of it differ.
    pub(super) differ: u64,
    /// Of these, those that take a node's value, by node; the one of the highest priority where several have it.
    pub(super) taken: Vec<u64>,
    /// Of these, those that get a value that no node has.
    pub(super) combined: u64,
}

/// A key as people see it: values by column, as texts.
pub(super) type Key = Map<String, Value>;

/// A column of the key: its name, its place among the values, whether it may be shown.
type KeyColumn = (String, usize, bool);

/// Compares the rows of one table.
#[derive(Debug)]
pub(super) struct Comparison {
    plan: Plan,
    /// Whether the rule is about columns.
    by_columns: bool,
    /// Whether the rule may change rows that do not differ.
    changes_all: bool,
    /// What stands for the rows of each node.
    versions: Vec<Version>,
    /// The nodes, highest priority first.
    by_priority: Vec<usize>,
    key: Vec<KeyColumn>,
    pub(super) count: Count,
}

impl Comparison {
    /// `columns` are those that are read, as indexes into the definition; `nodes` are those that have the table.
    ///
    /// # Errors
    ///
    /// The rule does not go with the table.
    pub(super) fn new(
        rules: &Rules,
        table: &TableDefinition,
        columns: &[usize],
        nodes: &[String],
        masked: &[String],
    ) -> Result<Self, PlanError> {
        let name = table.qualified_name();
        let planned = columns.iter().map(|index| {
            let column = &table.columns[*index];
            // As the consumer does, which knows a domain as a type of its own.
            let sql_type = match column.column_type.domain {
                Some(_) => SqlType::Opaque,
                None => SqlType::of(&column.column_type),
            };
            PlanColumn { name: &column.name, sql_type, in_key: table.key.contains(index) }
        });
        let planned: Vec<PlanColumn<'_>> = planned.collect();
        let plan = Plan::new(rules, &name, &planned)?;
        let before_sync = |node: &String| {
            let stamp = Stamp { clock_us: 0, counter: rules.priority_of(node), origin: node.clone() };
            Version { stamp, seen: Seen::default(), partition: 0, offset: 0 }
        };
        let mut by_priority: Vec<usize> = (0..nodes.len()).collect();
        by_priority.sort_by_key(|node| std::cmp::Reverse(rules.priority_of(&nodes[*node])));
        let key = table.key.iter().filter_map(|index| {
            let name = table.columns[*index].name.clone();
            let place = columns.iter().position(|column| column == index)?;
            let is_shown = !masked.contains(&name);
            Some((name, place, is_shown))
        });
        let rule = rules.of(&name);
        let by_columns = matches!(rule, TableRule::Merge | TableRule::Columns(_));
        let column = ColumnCount { differ: 0, taken: vec![0; nodes.len()], combined: 0 };
        let count = Count {
            nodes: vec![NodeCount::default(); nodes.len()],
            keys: 0,
            equal: 0,
            equal_where_present: 0,
            differ: 0,
            differing: Vec::new(),
            columns: if by_columns { vec![column; columns.len()] } else { Vec::new() },
            failed: 0,
            failing: Vec::new(),
            failure: None,
        };
        Ok(Self {
            plan,
            by_columns,
            changes_all: matches!(rule, TableRule::Columns(_)),
            versions: nodes.iter().map(before_sync).collect(),
            by_priority,
            key: key.collect(),
            count,
        })
    }

    /// Takes the rows of one key, by node.
    pub(super) fn take(&mut self, rows: Vec<Option<KeyedRow>>) {
        let rows: Vec<Option<Image>> = rows.into_iter().map(|row| row.map(|row| row.values)).collect();
        let present: Vec<(usize, &Image)> =
            rows.iter().enumerate().filter_map(|(node, row)| Some((node, row.as_ref()?))).collect();
        let Some((first, image)) = present.first().copied() else { return };
        self.count.keys += 1;
        for (node, _) in &present {
            self.count.nodes[*node].rows += 1;
        }
        let differs = present.iter().any(|(_, other)| *other != image);
        if differs {
            self.count.differ += 1;
            note(&mut self.count.differing, &self.key, image);
        } else if present.len() == 1 {
            let alone = &mut self.count.nodes[first];
            alone.only += 1;
            note(&mut alone.only_here, &self.key, image);
        }
        if !differs && present.len() == rows.len() {
            self.count.equal += 1;
        } else if !differs && present.len() > 1 {
            self.count.equal_where_present += 1;
        }
        let result = if differs || self.changes_all {
            match self.resolve(&present) {
                Ok((winner, row)) => {
                    if differs {
                        self.decided(&present, winner, &row);
                    }
                    Cow::Owned(row)
                }
                Err(error) => {
                    self.count.failed += 1;
                    note(&mut self.count.failing, &self.key, image);
                    self.count.failure.get_or_insert(error);
                    return;
                }
            }
        } else {
            Cow::Borrowed(image)
        };
        for (node, row) in rows.iter().enumerate() {
            match row {
                None => self.count.nodes[node].inserted += 1,
                Some(row) if *row != *result => self.count.nodes[node].overwritten += 1,
                Some(_) => {}
            }
        }
    }

    /// The row that all nodes have in the end, and the node whose change made it so where whole rows are decided.
    fn resolve(&self, present: &[(usize, &Image)]) -> Result<(Option<usize>, Image), ResolveError> {
        let mut state: Option<State> = None;
        let mut result = None;
        for (node, image) in present {
            let version = self.versions[*node].clone();
            let insert = Operation::Insert;
            let incoming = Incoming { operation: insert, version, before: None, after: Some((*image).clone()) };
            let resolved = self.plan.resolve(&incoming, state.as_ref())?;
            state = Some(resolved.state);
            result = resolved.row;
        }
        let by = state.iter().flat_map(State::versions).next();
        let winner = by.and_then(|by| self.versions.iter().position(|version| *version == by));
        let result = result.ok_or(ResolveError::NoImage)?;
        Ok((winner.filter(|_| !self.by_columns), result))
    }

    /// Notes what has become of a row that differs.
    fn decided(&mut self, present: &[(usize, &Image)], winner: Option<usize>, result: &Image) {
        if let Some(winner) = winner {
            self.count.nodes[winner].wins += 1;
        }
        for (place, column) in self.count.columns.iter_mut().enumerate() {
            let is_same = |(_, image): &(usize, &Image)| image[place] == present[0].1[place];
            if present.iter().all(is_same) {
                continue;
            }
            column.differ += 1;
            let has = |node: &&usize| present.iter().any(|(at, image)| at == *node && image[place] == result[place]);
            match self.by_priority.iter().find(has) {
                Some(node) => column.taken[*node] += 1,
                None => column.combined += 1,
            }
        }
    }
}

/// Keeps a row's key as an example while there are few.
fn note(examples: &mut Vec<Key>, key: &[KeyColumn], image: &Image) {
    if examples.len() == EXAMPLES {
        return;
    }
    let value = |(name, place, is_shown): &KeyColumn| {
        let value = image[*place].clone().filter(|_| *is_shown).unwrap_or_else(|| "***".to_owned());
        (name.clone(), Value::String(value))
    };
    examples.push(key.iter().map(value).collect());
}

#[cfg(test)]
#[path = "count_tests.rs"]
mod tests;
