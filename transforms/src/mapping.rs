//! Mappings: which columns of a source table become which columns of a target table, and which rows.
//!
//! A [`Mapping`] is what the file says. Together with a source table's definition it becomes a [`Route`], whose own
//! definition is the target's: whatever creates and writes tables works from that one and knows nothing of mappings.

mod apply;
mod compile;
mod demands;
mod names;
mod shared;
mod steps;

use std::fmt;

pub use apply::{Change, Outcome, Refusal, Write};
pub use compile::{Emptied, Requirement, Route};
pub use names::{SourceTable, check_target};
pub use shared::{Names, Renamed, TableName};

use syncline_event::table::TableDefinition;

/// A table's name as SQL writes it.
#[must_use]
pub fn quoted_table(schema: &str, table: &str) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    format!("{}.{}", quoted(schema), quoted(table))
}

/// Something a user wrote, and the line it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<T> {
    /// What was written.
    pub value: T,
    /// The line of the file, from 1; 0 where there is none.
    pub line: usize,
}

/// An item of `table_mappings`.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// `source_table`
    pub source_table: Written<SourceTable>,
    /// `target_table`; the source's name where there is none.
    pub target_table: Option<Written<String>>,
    /// `columns`: a source's column and the target's. `*` takes all others by their own names.
    pub columns: Vec<(Written<String>, String)>,
    /// `exclude_columns`
    pub exclude_columns: Vec<Written<String>>,
    /// `transformations`: a column and the expression it takes its value from.
    pub transformations: Vec<(Written<String>, Written<String>)>,
    /// `filters`: conditions that all must hold.
    pub filters: Vec<Written<String>>,
    /// `concatenate`
    pub concatenate: Vec<Written<Concatenate>>,
    /// `add_metadata`: new columns; here CURRENT_TIMESTAMP is the clock in columns named `_synced_at`.
    pub add_metadata: Vec<(Written<String>, String)>,
    /// `convert`: a column and its new type.
    pub convert: Vec<(Written<String>, String)>,
    /// `calculate`: new columns and their expressions.
    pub calculate: Vec<(Written<String>, String)>,
    /// `clean`: a column and what is done to its text.
    pub clean: Vec<(Written<String>, String)>,
    /// `static_values`: new columns and their texts.
    pub static_values: Vec<(Written<String>, String)>,
    /// `soft_delete`: the column that takes the time of a delete.
    pub soft_delete: Option<Written<String>>,
    /// `history`: every change becomes a row.
    pub history: Option<Written<bool>>,
    /// `key`: the target's key columns.
    pub key: Vec<Written<String>>,
}

impl Mapping {
    /// A mapping that takes a table's rows as they are to the table of the same name.
    #[must_use]
    pub fn new(source_table: Written<SourceTable>) -> Self {
        Self {
            source_table,
            target_table: None,
            columns: Vec::new(),
            exclude_columns: Vec::new(),
            transformations: Vec::new(),
            filters: Vec::new(),
            concatenate: Vec::new(),
            add_metadata: Vec::new(),
            convert: Vec::new(),
            calculate: Vec::new(),
            clean: Vec::new(),
            static_values: Vec::new(),
            soft_delete: None,
            history: None,
            key: Vec::new(),
        }
    }
}

/// Texts joined by a separator; NULLs are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concatenate {
    /// The new column.
    pub column: String,
    /// The columns whose texts are joined.
    pub fields: Vec<String>,
    /// What stands between them.
    pub separator: String,
}

/// Why a mapping does not fit a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The line of the file.
    pub line: usize,
    /// The key of the mapping that is concerned.
    pub key: &'static str,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        write!(f, "table_mappings, {}: {}", self.key, self.reason)
    }
}

impl std::error::Error for Misfit {}

/// All mappings of a file.
#[derive(Debug, Clone, Default)]
pub struct Mappings {
    /// In the order of the file.
    pub list: Vec<Mapping>,
}

impl Mappings {
    /// The mappings that a table goes through. A mapping that names the table wins over patterns; without any the
    /// table goes as it is.
    pub fn of<'m>(&'m self, schema: &str, table: &str) -> Vec<&'m Mapping> {
        let fitting = |mapping: &&Mapping| mapping.source_table.value.matches(schema, table);
        let all: Vec<&Mapping> = self.list.iter().filter(fitting).collect();
        let named: Vec<&Mapping> = all.iter().copied().filter(|mapping| mapping.source_table.value.is_name()).collect();
        if named.is_empty() { all } else { named }
    }

    /// The routes of a table: none where no mapping is about it.
    ///
    /// # Errors
    ///
    /// Every misfit of every mapping.
    pub fn routes(&self, definition: &TableDefinition) -> Result<Vec<Route>, Vec<Misfit>> {
        let mut routes: Vec<Route> = Vec::new();
        let mut misfits = Vec::new();
        for mapping in self.of(&definition.schema, &definition.table) {
            match Route::compile(mapping, definition, self.is_shared(mapping)) {
                Ok(route) => {
                    let same = |other: &Route| {
                        other.definition().schema == route.definition().schema
                            && other.definition().table == route.definition().table
                    };
                    if routes.iter().any(same) {
                        misfits.push(Misfit {
                            line: mapping.source_table.line,
                            key: "target_table",
                            reason: format!(
                                "{} goes to {} twice; write one mapping, or give it another target",
                                definition.qualified_name(),
                                route.definition().qualified_name()
                            ),
                        });
                    }
                    routes.push(route);
                }
                Err(found) => misfits.extend(found),
            }
        }
        if misfits.is_empty() { Ok(routes) } else { Err(misfits) }
    }

    /// Whether several sources may write to the mapping's target.
    fn is_shared(&self, mapping: &Mapping) -> bool {
        let target = |mapping: &Mapping| match &mapping.target_table {
            Some(target) => target.value.clone(),
            None => mapping.source_table.value.to_string(),
        };
        let fixed = mapping.target_table.as_ref().is_some_and(|target| !target.value.contains('$'));
        let own = target(mapping);
        (fixed && !mapping.source_table.value.is_name())
            || self.list.iter().filter(|other| target(other) == own).count() > 1
    }
}
