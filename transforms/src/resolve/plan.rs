//! A table's rule, ready to decide: checked against the types of its columns.

use super::rules::{ColumnRule, Rules, TableRule};
use super::value::{is_ordered, is_summed};
use crate::sql_type::SqlType;

/// How changes of one table are resolved, where more than the last write decides.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) columns: Vec<PlannedColumn>,
    /// Set where whole rows are decided, and by what.
    pub(super) rows: Option<Rank>,
    pub(super) rules: Rules,
}

#[derive(Debug, Clone)]
pub(super) struct PlannedColumn {
    pub(super) name: String,
    pub(super) sql_type: SqlType,
    /// None for `merge`.
    pub(super) rule: Option<ColumnRule>,
}

/// What whole rows are ordered by, before their changes' stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    /// Nothing.
    Stamp,
    /// The node's priority.
    Priority,
    /// A column.
    Value(usize),
}

/// Why a rule does not go with a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The rule's column is not there.
    #[error("table {table} has no column {column} for its conflict rule; name one of its columns")]
    NoColumn {
        /// The table, `schema.table`.
        table: String,
        /// The column.
        column: String,
    },
    /// The key tells rows apart, so that no two changes of a row differ in it.
    #[error("column {column} of table {table} belongs to the key and never conflicts; remove its rule")]
    KeyColumn {
        /// The table, `schema.table`.
        table: String,
        /// The column.
        column: String,
    },
    /// Sums need exact numbers.
    #[error("column {column} of table {table} is {sql_type}, and sum adds up integers and numeric only; {remedy}")]
    NotSummed {
        /// The table, `schema.table`.
        table: String,
        /// The column.
        column: String,
        /// Its type.
        sql_type: SqlType,
        /// What to do.
        remedy: &'static str,
    },
    /// Highest and lowest need an order that is the same everywhere.
    #[error(
        "column {column} of table {table} is {sql_type}, whose order is not known here; order by a number, a time or a text"
    )]
    NotOrdered {
        /// The table, `schema.table`.
        table: String,
        /// The column.
        column: String,
        /// Its type.
        sql_type: SqlType,
    },
    /// Lists are texts.
    #[error(
        "column {column} of table {table} is {sql_type}, and concat_unique takes text with items between commas; keep the items in a text column, or use merge"
    )]
    NotList {
        /// The table, `schema.table`.
        table: String,
        /// The column.
        column: String,
        /// Its type.
        sql_type: SqlType,
    },
}

/// A column as a plan needs it.
#[derive(Debug, Clone, Copy)]
pub struct PlanColumn<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type.
    pub sql_type: SqlType,
    /// Whether it belongs to the table's key.
    pub in_key: bool,
}

impl Plan {
    /// The plan of a table, named as `schema.table`, with its columns in the order of [`super::state::Image`]s.
    ///
    /// # Errors
    ///
    /// The rule names what is not there or does not go with a column's type.
    pub fn new(rules: &Rules, table: &str, columns: &[PlanColumn<'_>]) -> Result<Self, PlanError> {
        let find = |name: &str| {
            let place = columns.iter().position(|column| column.name == name);
            place.ok_or_else(|| PlanError::NoColumn { table: table.into(), column: name.into() })
        };
        let mut planned: Vec<PlannedColumn> = columns
            .iter()
            .map(|column| PlannedColumn { name: column.name.into(), sql_type: column.sql_type, rule: None })
            .collect();
        let rows = match rules.of(table) {
            TableRule::LastWriteWins | TableRule::Manual => Some(Rank::Stamp),
            TableRule::SourcePriority => Some(Rank::Priority),
            TableRule::LastWriteWinsBy(name) => {
                let place = find(name)?;
                let sql_type = columns[place].sql_type;
                if !is_ordered(sql_type) {
                    return Err(PlanError::NotOrdered { table: table.into(), column: name.clone(), sql_type });
                }
                Some(Rank::Value(place))
            }
            TableRule::Merge => None,
            TableRule::Columns(of_columns) => {
                for (name, rule) in of_columns {
                    let place = match find(name) {
                        // Rules for all tables are for those that have the column.
                        Err(_) if !rules.tables.contains_key(table) => continue,
                        place => place?,
                    };
                    check(table, columns[place], rule)?;
                    planned[place].rule = Some(rule.clone());
                }
                None
            }
        };
        Ok(Self { columns: planned, rows, rules: rules.clone() })
    }
}

fn check(table: &str, column: PlanColumn<'_>, rule: &ColumnRule) -> Result<(), PlanError> {
    let (table, name, sql_type) = (table.to_owned(), column.name.to_owned(), column.sql_type);
    if column.in_key {
        return Err(PlanError::KeyColumn { table, column: name });
    }
    match rule {
        ColumnRule::Sum if !is_summed(sql_type) => {
            let remedy = if sql_type.is_number() {
                "sums of floating point depend on their order: change the column's type to numeric"
            } else {
                "use merge, or last_write_wins"
            };
            Err(PlanError::NotSummed { table, column: name, sql_type, remedy })
        }
        ColumnRule::Max | ColumnRule::Min if !is_ordered(sql_type) => {
            Err(PlanError::NotOrdered { table, column: name, sql_type })
        }
        ColumnRule::ConcatUnique if sql_type != SqlType::Text => {
            Err(PlanError::NotList { table, column: name, sql_type })
        }
        _ => Ok(()),
    }
}
