//! A mapping and a source table's definition become a route: checked once, applied to every change.

use std::sync::Arc;

use syncline_event::avro::value::Value;
use syncline_event::table::{Column, ReplicaIdentity, TableDefinition};

use super::{Mapping, Misfit, Written, quoted_table};
use crate::expression::{Expression, Named, Scope};

/// How a target column gets its value.
#[derive(Debug)]
pub(super) enum Cell {
    /// The source's column as it is.
    Copy(usize),
    /// An expression.
    Compute(Box<Expression>),
    /// When the row was deleted; NULL while it is there.
    DeletedAt,
    /// `c`, `u`, `d`: what the history's row records.
    Operation,
    /// The change's position.
    Position,
    /// When the source committed.
    ChangedAt,
}

/// What a route does with a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Rows,
    SoftDelete,
    History,
}

/// What becomes of a target's rows when the source's table is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emptied {
    /// They are deleted.
    Deleted,
    /// They are marked as deleted in this column of the target.
    Marked(usize),
    /// They stay: they are the past.
    Stays,
    /// Nobody can tell which of them came from this source.
    Unclear,
}

/// Why a mapping needs whole old rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The line of the file.
    pub line: usize,
    /// Why, in words that follow the table's name.
    pub reason: String,
}

/// One source table's way into one target table.
#[derive(Debug)]
pub struct Route {
    pub(super) definition: Arc<TableDefinition>,
    pub(super) cells: Box<[Cell]>,
    pub(super) filters: Box<[Expression]>,
    pub(super) mode: Mode,
    /// Whether other sources write to the same table.
    pub(super) shared: bool,
    /// Whether the key can be told from the source's key alone.
    pub(super) own_key: bool,
    pub(super) identity: ReplicaIdentity,
    /// The source's table as SQL writes it.
    pub(super) source: String,
    /// The row before a row was there: NULLs.
    pub(super) no_row: Box<[Value<'static>]>,
    reads: Box<[bool]>,
    requirements: Vec<Requirement>,
}

impl Route {
    /// Checks a mapping against a table.
    ///
    /// # Errors
    ///
    /// Everything that does not fit.
    pub fn compile(mapping: &Mapping, source: &TableDefinition, shared: bool) -> Result<Self, Vec<Misfit>> {
        let mut compiler = Compiler {
            mapping,
            source,
            scope: scope(mapping, source),
            columns: Vec::new(),
            misfits: Vec::new(),
            requirements: Vec::new(),
        };
        compiler.columns();
        compiler.added();
        let filters = compiler.filters();
        let mode = compiler.mode();
        let Some((key, own_key)) = compiler.key(mode) else { return Err(compiler.misfits) };
        compiler.require(shared, own_key, mode, &filters);
        let target = compiler.target();
        let Compiler { columns, misfits, requirements, .. } = compiler;
        let (false, Some((schema, table))) = (!misfits.is_empty(), target) else { return Err(misfits) };
        let (columns, cells): (Vec<Column>, Vec<Cell>) = columns.into_iter().unzip();
        let mut reads = vec![false; source.columns.len()];
        let expressions =
            cells.iter().filter_map(|cell| if let Cell::Compute(found) = cell { Some(found.as_ref()) } else { None });
        for expression in expressions.chain(&filters) {
            for column in expression.columns().iter().chain(expression.columns_before()) {
                reads[*column] = true;
            }
        }
        let copied = cells.iter().filter_map(|cell| if let Cell::Copy(column) = cell { Some(*column) } else { None });
        for column in copied.chain(source.key.iter().copied()) {
            reads[column] = true;
        }
        let definition = TableDefinition {
            topic: source.topic.clone(),
            number: source.number,
            schema,
            table,
            columns,
            key,
            replica_identity: source.replica_identity,
            handling: source.handling.clone(),
        };
        Ok(Self {
            definition: Arc::new(definition),
            cells: cells.into(),
            filters: filters.into(),
            mode,
            shared,
            own_key,
            identity: source.replica_identity,
            source: quoted_table(&source.schema, &source.table),
            no_row: vec![Value::Null; source.columns.len()].into(),
            reads: reads.into(),
            requirements,
        })
    }

    /// The target table, as the source's columns and the expressions make it.
    #[must_use]
    pub fn definition(&self) -> &Arc<TableDefinition> {
        &self.definition
    }

    /// Whether the route reads a column of the source; what no route reads need not be decoded.
    #[must_use]
    pub fn reads(&self, column: usize) -> bool {
        self.reads.get(column).copied().unwrap_or(true)
    }

    /// Why the source table needs REPLICA IDENTITY FULL; empty where it does not.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether the source's key alone tells what a delete does.
    #[must_use]
    pub fn deletes_by_key(&self) -> bool {
        self.own_key && self.mode != Mode::History && (self.filters.is_empty() || !self.shared)
    }

    /// What the target makes of it when the source's table is emptied.
    #[must_use]
    pub fn emptied(&self) -> Emptied {
        match self.mode {
            Mode::History => Emptied::Stays,
            _ if self.shared => Emptied::Unclear,
            Mode::Rows => Emptied::Deleted,
            Mode::SoftDelete => {
                let mark = self.cells.iter().position(|cell| matches!(cell, Cell::DeletedAt));
                Emptied::Marked(mark.expect("soft_delete adds the column that is marked"))
            }
        }
    }
}

/// What expressions may name: source columns, then, where no source column has the name, what they are renamed to.
fn scope(mapping: &Mapping, source: &TableDefinition) -> Vec<Named> {
    let index = |name: &str| source.columns.iter().position(|column| column.name == name);
    let usable = |column: &Column| column.generated.is_none();
    let own = source.columns.iter().enumerate().filter(|(_, column)| usable(column)).map(|(index, column)| Named {
        name: column.name.clone(),
        column: index,
        column_type: column.column_type.clone(),
    });
    let mut scope: Vec<Named> = own.collect();
    for (from, to) in &mapping.columns {
        if let Some(column) = index(&from.value).filter(|column| usable(&source.columns[*column])) {
            let column_type = source.columns[column].column_type.clone();
            scope.push(Named { name: to.clone(), column, column_type });
        }
    }
    scope
}

/// A route on its way: what its parts have found so far.
pub(super) struct Compiler<'m> {
    pub(super) mapping: &'m Mapping,
    pub(super) source: &'m TableDefinition,
    /// What expressions may name.
    pub(super) scope: Vec<Named>,
    /// The target's columns.
    pub(super) columns: Vec<(Column, Cell)>,
    pub(super) misfits: Vec<Misfit>,
    pub(super) requirements: Vec<Requirement>,
}

impl Compiler<'_> {
    pub(super) fn refuse(&mut self, line: usize, key: &'static str, reason: impl Into<String>) {
        self.misfits.push(Misfit { line, key, reason: reason.into() });
    }

    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.source.columns.iter().position(|column| column.name == name)
    }

    fn no_column(&mut self, line: usize, key: &'static str, name: &str) {
        let known: Vec<&str> = self.source.columns.iter().map(|column| column.name.as_str()).collect();
        let text = format!("{} has no column {name}; it has {}", self.source.qualified_name(), known.join(", "));
        self.refuse(line, key, text);
    }

    /// The columns that are copied or transformed, in the source's order.
    fn columns(&mut self) {
        let mapping = self.mapping;
        let star = mapping.columns.is_empty() || mapping.columns.iter().any(|(from, _)| from.value == "*");
        for (from, to) in &mapping.columns {
            if from.value == "*" {
                if to != "*" {
                    self.refuse(
                        from.line,
                        "columns",
                        "\"*\" stands for all other columns by their own names: \"*\": \"*\"",
                    );
                }
            } else if self.index(&from.value).is_none() {
                self.no_column(from.line, "columns", &from.value);
            }
        }
        for name in &mapping.exclude_columns {
            if self.index(&name.value).is_none() {
                self.no_column(name.line, "exclude_columns", &name.value);
            }
            if let Some((from, _)) = mapping.columns.iter().find(|(from, _)| from.value == name.value) {
                self.refuse(from.line, "columns", format!("{} is in exclude_columns too", name.value));
            }
        }
        for (index, column) in self.source.columns.iter().enumerate() {
            let excluded = mapping.exclude_columns.iter().any(|name| name.value == column.name);
            let renamed: Vec<&(Written<String>, String)> =
                mapping.columns.iter().filter(|(from, _)| from.value == column.name).collect();
            if column.generated.is_some() {
                if let Some((from, _)) = renamed.first() {
                    let text =
                        format!("{} is a generated column, which the log does not carry; calculate it", column.name);
                    self.refuse(from.line, "columns", text);
                }
                continue;
            }
            if excluded {
                continue;
            }
            if renamed.is_empty() && !star {
                let text = format!(
                    "column {} of {} is neither mapped nor excluded; add it to columns or to exclude_columns, or write \
                     \"*\": \"*\"",
                    column.name,
                    self.source.qualified_name()
                );
                self.refuse(mapping.source_table.line, "columns", text);
                continue;
            }
            let targets: Vec<(String, usize)> = if renamed.is_empty() {
                vec![(column.name.clone(), mapping.source_table.line)]
            } else {
                renamed.iter().map(|(from, to)| (to.clone(), from.line)).collect()
            };
            for (target, line) in targets {
                self.push(
                    line,
                    "columns",
                    Column { name: target.clone(), field: target, ..column.clone() },
                    Cell::Copy(index),
                );
            }
        }
        self.changed();
    }

    pub(super) fn push(&mut self, line: usize, key: &'static str, column: Column, cell: Cell) {
        if self.columns.iter().any(|(other, _)| other.name == column.name) {
            let text = format!("target column {} gets a value twice; rename one, or exclude it", column.name);
            self.refuse(line, key, text);
            return;
        }
        self.columns.push((column, cell));
    }

    pub(super) fn expression(&mut self, line: usize, key: &'static str, text: &str, clock: bool) -> Option<Expression> {
        match Expression::compile(text, &Scope { columns: &self.scope, clock }) {
            Ok(expression) => {
                self.needs_before(line, &expression);
                Some(expression)
            }
            Err(mistake) => {
                self.refuse(line, key, mistake.to_string());
                None
            }
        }
    }

    pub(super) fn needs_before(&mut self, line: usize, expression: &Expression) {
        if !expression.columns_before().is_empty() {
            self.requirements
                .push(Requirement { line, reason: "an expression reads the row before the change".into() });
        }
    }

    fn target(&mut self) -> Option<(String, String)> {
        let (schema, table) = (&self.source.schema, &self.source.table);
        let Some(target) = &self.mapping.target_table else { return Some((schema.clone(), table.clone())) };
        match self.mapping.source_table.value.target(&target.value, schema, table) {
            Ok(target) => Some(target),
            Err(reason) => {
                self.refuse(target.line, "target_table", format!("{} {reason}", target.value));
                None
            }
        }
    }
}
