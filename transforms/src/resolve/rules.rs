//! Which rule decides about which rows and columns.

use std::collections::BTreeMap;

use crate::mapping::{Names, Renamed};

/// `conflict_resolution`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The nodes, highest priority first; all nodes of the topology.
    pub priority: Vec<String>,
    /// The rule of tables that have none of their own.
    pub default: TableRule,
    /// Rules of single tables, by `schema.table`.
    pub tables: BTreeMap<String, TableRule>,
}

/// How changes of one table are decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableRule {
    /// `last_write_wins`: by whole rows, the highest stamp stays.
    LastWriteWins,
    /// `last_write_wins` with `order_by: <column>`: by whole rows, the highest value of the column stays, then the
    /// highest stamp.
    LastWriteWinsBy(String),
    /// `source_priority`: by whole rows, the node of the highest priority stays, then the highest stamp.
    SourcePriority,
    /// `merge`: by columns; where several nodes changed one without having seen each other, the node of the highest
    /// priority stays, then the highest stamp. Converges with any number of nodes (see [`super::columns`]).
    Merge,
    /// `custom_rules`: by columns, as `merge` where a column has no rule of its own.
    Columns(BTreeMap<String, ColumnRule>),
    /// `manual`: as `last_write_wins`, and each conflict waits for a person in the conflict log.
    Manual,
}

impl TableRule {
    /// Its name in configuration and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::LastWriteWins | Self::LastWriteWinsBy(_) => "last_write_wins",
            Self::SourcePriority => "source_priority",
            Self::Merge => "merge",
            Self::Columns(_) => "custom_rules",
            Self::Manual => "manual",
        }
    }

    /// The same with a node's own names of columns.
    fn under(&self, renamed: &Renamed) -> Self {
        match self {
            Self::LastWriteWinsBy(column) => {
                Self::LastWriteWinsBy(renamed.own_column(column).unwrap_or(column).to_owned())
            }
            Self::Columns(columns) => {
                let own = |(column, rule): (&String, &ColumnRule)| {
                    Some((renamed.own_column(column)?.to_owned(), rule.clone()))
                };
                Self::Columns(columns.iter().filter_map(own).collect())
            }
            Self::LastWriteWins | Self::SourcePriority | Self::Merge | Self::Manual => self.clone(),
        }
    }
}

/// How changes of one column are decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnRule {
    /// The highest stamp stays.
    LastWriteWins,
    /// The node of the highest priority stays, then the highest stamp: another node's write is undone until that
    /// one writes the column again.
    SourcePriority,
    /// All differences add up. NULL counts as 0, and becomes it.
    Sum,
    /// The highest value stays, for as long as the key is known.
    Max,
    /// The lowest value stays, for as long as the key is known.
    Min,
    /// The items of both sides, each once, between commas and in the order of their bytes. None goes away again.
    ConcatUnique,
    /// Of changes that had not seen each other, the value that stands first in this list stays; one that is not in it
    /// comes last.
    PriorityOrder(Vec<String>),
}

impl ColumnRule {
    /// Its name in configuration.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::LastWriteWins => "last_write_wins",
            Self::SourcePriority => "source_priority",
            Self::Sum => "sum",
            Self::Max => "max",
            Self::Min => "min",
            Self::ConcatUnique => "concat_unique",
            Self::PriorityOrder(_) => "priority_order",
        }
    }
}

/// Why rules cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// `priority` is one order of all nodes.
    #[error("conflict_resolution.priority names {0}, which is no node of the topology; remove it")]
    UnknownNode(String),
    /// `priority` is one order of all nodes.
    #[error("conflict_resolution.priority names {0} twice; keep one")]
    NodeTwice(String),
    /// `priority` is one order of all nodes.
    #[error("conflict_resolution.priority lacks node {0}; add it where it belongs")]
    NodeMissing(String),
    /// A value has one place.
    #[error("priority_order of column {column} of table {table} names a value twice; keep one")]
    ValueTwice {
        /// The table, `schema.table`.
        table: String,
        /// The column.
        column: String,
    },
    /// An order without values says nothing.
    #[error("priority_order of column {column} of table {table} names no values; list them, first what stays")]
    NoValues {
        /// The table, `schema.table`.
        table: String,
        /// The column.
        column: String,
    },
}

impl Rules {
    /// Checks what needs no table: every rule converges with any number of nodes if their order is one of all nodes.
    ///
    /// # Errors
    ///
    /// The first that is wrong.
    pub fn check(&self, nodes: &[String]) -> Result<(), RulesError> {
        for (place, node) in self.priority.iter().enumerate() {
            if !nodes.contains(node) {
                return Err(RulesError::UnknownNode(node.clone()));
            }
            if self.priority[..place].contains(node) {
                return Err(RulesError::NodeTwice(node.clone()));
            }
        }
        if let Some(node) = nodes.iter().find(|node| !self.priority.contains(node)) {
            return Err(RulesError::NodeMissing(node.clone()));
        }
        let tables = self.tables.iter().map(|(table, rule)| (table.as_str(), rule));
        for (table, rule) in tables.chain([("(default)", &self.default)]) {
            let TableRule::Columns(columns) = rule else { continue };
            for (column, rule) in columns {
                let ColumnRule::PriorityOrder(order) = rule else { continue };
                let (table, column) = (table.to_owned(), column.clone());
                if order.is_empty() {
                    return Err(RulesError::NoValues { table, column });
                }
                if (1..order.len()).any(|place| order[..place].contains(&order[place])) {
                    return Err(RulesError::ValueTwice { table, column });
                }
            }
        }
        Ok(())
    }

    /// The rule of a table, named as `schema.table`.
    #[must_use]
    pub fn of(&self, table: &str) -> &TableRule {
        self.tables.get(table).unwrap_or(&self.default)
    }

    /// The same under a node's own names of tables and columns.
    #[must_use]
    pub fn under(&self, names: &Names) -> Self {
        let mut tables = self.tables.clone();
        for renamed in &names.tables {
            tables.remove(&renamed.shared_name());
            tables.remove(&renamed.own_name());
        }
        for renamed in &names.tables {
            let (own, of_all) = (self.tables.get(&renamed.shared_name()), self.default.under(renamed));
            let rule = own.map(|rule| rule.under(renamed)).or_else(|| (of_all != self.default).then_some(of_all));
            tables.extend(rule.map(|rule| (renamed.own_name(), rule)));
        }
        Self { tables, ..self.clone() }
    }

    /// A node's place in the order of priorities: the higher, the more it counts.
    #[must_use]
    pub fn priority_of(&self, node: &str) -> u32 {
        let place = self.priority.iter().position(|name| name == node);
        place.map_or(0, |place| u32::try_from(self.priority.len() - place).unwrap_or(u32::MAX))
    }
}
