//! Which rule decides about which rows and columns.

use std::collections::BTreeMap;

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
    /// `merge`: by columns; where both sides changed one, the node of the highest priority stays, then the highest
    /// stamp.
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
}

/// How changes of one column are decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnRule {
    /// The highest stamp stays.
    LastWriteWins,
    /// The node of the highest priority stays, then the highest stamp.
    SourcePriority,
    /// All differences add up.
    Sum,
    /// The highest value stays.
    Max,
    /// The lowest value stays.
    Min,
    /// The items of both sides, each once.
    ConcatUnique,
    /// Of changes that had not seen each other, the value that stands first in this list stays.
    PriorityOrder(Vec<String>),
}

impl Rules {
    /// The rule of a table, named as `schema.table`.
    #[must_use]
    pub fn of(&self, table: &str) -> &TableRule {
        self.tables.get(table).unwrap_or(&self.default)
    }

    /// A node's place in the order of priorities: the higher, the more it counts.
    #[must_use]
    pub fn priority_of(&self, node: &str) -> u32 {
        let place = self.priority.iter().position(|name| name == node);
        place.map_or(0, |place| u32::try_from(self.priority.len() - place).unwrap_or(u32::MAX))
    }
}
