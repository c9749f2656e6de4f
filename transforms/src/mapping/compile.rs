//! A mapping and a source table's definition become a route: checked once, applied to every change.

use std::sync::Arc;

use syncline_event::avro::value::Value;
use syncline_event::table::{Column, ColumnType, ReplicaIdentity, TableDefinition};

use super::{Mapping, Misfit, Written};
use crate::expression::{Expression, Named, Scope};
use crate::sql_type::SqlType;

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
    pub(super) source: String,
    /// The row before a row was there: NULLs.
    pub(super) no_row: Box<[Value<'static>]>,
    reads: Box<[bool]>,
    requirements: Vec<Requirement>,
}

/// The columns of a history's row beside the table's own.
const HISTORY: [(&str, SqlType); 3] =
    [("_operation", SqlType::Text), ("_position", SqlType::Text), ("_changed_at", SqlType::Timestamptz)];

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
            source: source.qualified_name(),
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

struct Compiler<'m> {
    mapping: &'m Mapping,
    source: &'m TableDefinition,
    scope: Vec<Named>,
    columns: Vec<(Column, Cell)>,
    misfits: Vec<Misfit>,
    requirements: Vec<Requirement>,
}

impl Compiler<'_> {
    fn refuse(&mut self, line: usize, key: &'static str, reason: impl Into<String>) {
        self.misfits.push(Misfit { line, key, reason: reason.into() });
    }

    fn index(&self, name: &str) -> Option<usize> {
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

    fn push(&mut self, line: usize, key: &'static str, column: Column, cell: Cell) {
        if self.columns.iter().any(|(other, _)| other.name == column.name) {
            let text = format!("target column {} gets a value twice; rename one, or exclude it", column.name);
            self.refuse(line, key, text);
            return;
        }
        self.columns.push((column, cell));
    }

    /// Columns whose value is changed in place: transformations, conversions, cleaning.
    fn changed(&mut self) {
        let mapping = self.mapping;
        let mut changed: Vec<usize> = Vec::new();
        for (column, expression) in &mapping.transformations {
            self.change(column, "transformations", &expression.value, expression.line, &mut changed);
        }
        for (column, sql_type) in &mapping.convert {
            let text = format!("{}::{sql_type}", quoted(&column.value));
            self.change(column, "convert", &text, column.line, &mut changed);
        }
        for (column, how) in &mapping.clean {
            match cleaned(&column.value, how) {
                Ok(text) => self.change(column, "clean", &text, column.line, &mut changed),
                Err(reason) => self.refuse(column.line, "clean", reason),
            }
        }
    }

    /// A source column's name wins over a target's.
    fn change(
        &mut self,
        column: &Written<String>,
        key: &'static str,
        text: &str,
        line: usize,
        changed: &mut Vec<usize>,
    ) {
        let by_source = self.index(&column.value);
        let position = self.columns.iter().position(|(target, cell)| match by_source {
            Some(source) => matches!(cell, Cell::Copy(from) if *from == source),
            None => target.name == column.value,
        });
        let Some(position) = position.or_else(|| {
            let source = by_source?;
            // Already changed: found by its name to say so.
            let name = &self.source.columns[source].name;
            let target = self.mapping.columns.iter().find(|(from, _)| from.value == *name).map_or(name, |(_, to)| to);
            changed.iter().copied().find(|position| self.columns[*position].0.name == *target)
        }) else {
            let name = &column.value;
            self.refuse(column.line, key, format!("no column {name} goes to the target; add a new one with calculate"));
            return;
        };
        if changed.contains(&position) {
            let text = format!("column {} is changed twice; write one expression in transformations", column.value);
            self.refuse(column.line, key, text);
            return;
        }
        changed.push(position);
        if let Some(expression) = self.expression(line, key, text, false) {
            let target = &mut self.columns[position];
            target.0 = computed(&target.0.name, expression.column_type());
            target.1 = Cell::Compute(Box::new(expression));
        }
    }

    fn expression(&mut self, line: usize, key: &'static str, text: &str, clock: bool) -> Option<Expression> {
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

    fn needs_before(&mut self, line: usize, expression: &Expression) {
        if !expression.columns_before().is_empty() {
            self.requirements
                .push(Requirement { line, reason: "an expression reads the row before the change".into() });
        }
    }

    /// New columns.
    fn added(&mut self) {
        let mapping = self.mapping;
        for step in &mapping.concatenate {
            let fields: Vec<String> = step.value.fields.iter().map(|field| quoted(field)).collect();
            let separator = step.value.separator.replace('\'', "''");
            let text = format!("CONCAT_WS('{separator}', {})", fields.join(", "));
            self.add(step.line, "concatenate", &step.value.column, &text, false);
        }
        for (column, text) in &mapping.calculate {
            self.add(column.line, "calculate", &column.value, text, false);
        }
        for (column, text) in &mapping.static_values {
            let text = format!("'{}'", text.replace('\'', "''"));
            self.add(column.line, "static_values", &column.value, &text, false);
        }
        for (column, text) in &mapping.add_metadata {
            let cell = match text.trim().to_ascii_uppercase().as_str() {
                "OPERATION" | "OPERATION()" => Some((Cell::Operation, SqlType::Text)),
                "POSITION" | "POSITION()" => Some((Cell::Position, SqlType::Text)),
                _ => None,
            };
            match cell {
                Some((cell, sql_type)) => {
                    self.push(column.line, "add_metadata", computed(&column.value, &sql_type.column_type(-1)), cell);
                }
                None => self.add(column.line, "add_metadata", &column.value, text, column.value == "_synced_at"),
            }
        }
    }

    fn add(&mut self, line: usize, key: &'static str, name: &str, text: &str, clock: bool) {
        if let Some(expression) = self.expression(line, key, text, clock) {
            self.push(line, key, computed(name, expression.column_type()), Cell::Compute(Box::new(expression)));
        }
    }

    fn filters(&mut self) -> Vec<Expression> {
        let mut filters = Vec::new();
        for filter in &self.mapping.filters {
            match Expression::condition(&filter.value, &Scope { columns: &self.scope, clock: false }) {
                Ok(expression) => {
                    self.needs_before(filter.line, &expression);
                    filters.push(expression);
                }
                Err(mistake) => self.refuse(filter.line, "filters", mistake.to_string()),
            }
        }
        filters
    }

    fn mode(&mut self) -> Mode {
        let mapping = self.mapping;
        let history = mapping.history.as_ref().filter(|history| history.value);
        match (&mapping.soft_delete, history) {
            (Some(column), Some(_)) => {
                self.refuse(column.line, "soft_delete", "stands beside history, which keeps every row anyway");
                Mode::History
            }
            (Some(column), None) => {
                if let Some(filter) = mapping.filters.first() {
                    let text = "stands beside soft_delete: a row that was never written could not be marked; drop one";
                    self.refuse(filter.line, "filters", text);
                }
                let made = computed(&column.value, &SqlType::Timestamptz.column_type(-1));
                self.push(column.line, "soft_delete", made, Cell::DeletedAt);
                Mode::SoftDelete
            }
            (None, Some(history)) => {
                for ((name, sql_type), cell) in
                    HISTORY.into_iter().zip([Cell::Operation, Cell::Position, Cell::ChangedAt])
                {
                    self.push(history.line, "history", computed(name, &sql_type.column_type(-1)), cell);
                }
                for (column, cell) in &mut self.columns {
                    // A row of the past is no source of new values.
                    column.identity = None;
                    column.nullable |= !matches!(cell, Cell::Position);
                }
                Mode::History
            }
            (None, None) => Mode::Rows,
        }
    }

    /// The target's key columns, and whether the source's key tells them.
    fn key(&mut self, mode: Mode) -> Option<(Vec<usize>, bool)> {
        let mapping = self.mapping;
        let mut key = Vec::new();
        if mapping.key.is_empty() {
            for source in &self.source.key {
                let found =
                    self.columns.iter().position(|(_, cell)| matches!(cell, Cell::Copy(from) if from == source));
                match found {
                    Some(position) => key.push(position),
                    None => {
                        let name = self.source.columns[*source].name.clone();
                        let text = format!(
                            "key column {name} of {} does not reach the target unchanged; map it, or name the target's \
                             key columns with `key`",
                            self.source.qualified_name()
                        );
                        self.refuse(mapping.source_table.line, "columns", text);
                    }
                }
            }
        }
        for name in &mapping.key {
            match self.columns.iter().position(|(column, _)| column.name == name.value) {
                Some(position) => key.push(position),
                None => self.refuse(name.line, "key", format!("no target column is called {}", name.value)),
            }
        }
        if mode == Mode::History
            && let Some(position) = self.columns.iter().position(|(_, cell)| matches!(cell, Cell::Position))
        {
            key.push(position);
        }
        let told = |cell: &Cell| match cell {
            Cell::Copy(column) => self.source.key.contains(column),
            Cell::Compute(expression) => {
                expression.columns_before().is_empty()
                    && expression.columns().iter().all(|column| self.source.key.contains(column))
            }
            Cell::Position | Cell::ChangedAt | Cell::Operation | Cell::DeletedAt => true,
        };
        let own = key.iter().all(|position| told(&self.columns[*position].1));
        for position in &key {
            self.columns[*position].0.nullable = false;
        }
        self.misfits.is_empty().then_some((key, own))
    }

    fn require(&mut self, shared: bool, own_key: bool, mode: Mode, filters: &[Expression]) {
        let line = self.mapping.source_table.line;
        let mut require = |line: usize, reason: &str| {
            self.requirements.push(Requirement { line, reason: reason.into() });
        };
        if !own_key {
            let line = self.mapping.key.first().map_or(line, |key| key.line);
            require(line, "the target's key is made of other columns than the source's key");
        }
        if shared && !filters.is_empty() {
            require(line, "several sources write to one target, and a row that a filter drops may be another source's");
        }
        if mode == Mode::History {
            require(line, "history keeps the row that was deleted");
        }
        // Only values of this length and more are stored apart, and may then be missing in an event.
        let may_be_missing = |column: usize| {
            let column_type: &ColumnType = &self.source.columns[column].column_type;
            matches!(
                SqlType::of(column_type),
                SqlType::Text | SqlType::Json | SqlType::Jsonb | SqlType::Bytea | SqlType::Textual | SqlType::Opaque
            ) && !(5..=1_004).contains(&column_type.modifier)
        };
        let filtered =
            filters.iter().any(|filter| filter.columns().iter().any(|column| !self.source.key.contains(column)));
        let expressions = self.columns.iter().flat_map(|(_, cell)| match cell {
            Cell::Copy(column) => std::slice::from_ref(column),
            Cell::Compute(expression) => expression.columns(),
            Cell::Position | Cell::ChangedAt | Cell::Operation | Cell::DeletedAt => &[],
        });
        let large = expressions.copied().find(|column| may_be_missing(*column));
        if let (true, Some(large)) = (filtered, large) {
            let reason = format!(
                "a filter may let a row in again by an update that leaves out {} where it is large and unchanged",
                self.source.columns[large].name
            );
            let line = self.mapping.filters.first().map_or(line, |filter| filter.line);
            self.requirements.push(Requirement { line, reason });
            return;
        }
        let filter = self.mapping.filters.iter().zip(filters);
        let reads: Vec<usize> = filter
            .filter(|(_, expression)| expression.columns().iter().any(|column| may_be_missing(*column)))
            .map(|(filter, _)| filter.line)
            .collect();
        for line in reads {
            self.requirements.push(Requirement {
                line,
                reason: "a filter reads a column whose value an update leaves out where it is large and unchanged"
                    .into(),
            });
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

fn computed(name: &str, column_type: &ColumnType) -> Column {
    Column {
        name: name.to_owned(),
        field: name.to_owned(),
        column_type: column_type.clone(),
        nullable: true,
        identity: None,
        generated: None,
        default: None,
        default_value: None,
        missing_value: None,
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The expression of `clean`: a list of what is done, in order.
fn cleaned(column: &str, how: &str) -> Result<String, String> {
    let mut text = quoted(column);
    for step in how.split(',').map(str::trim) {
        text = match step {
            "trim" => format!("TRIM({text})"),
            "lower" => format!("LOWER({text})"),
            "upper" => format!("UPPER({text})"),
            "collapse_spaces" => format!("REGEXP_REPLACE({text}, '\\s+', ' ', 'g')"),
            "digits_only" => format!("REGEXP_REPLACE({text}, '\\D', '', 'g')"),
            "empty_to_null" => format!("NULLIF({text}, '')"),
            other => {
                return Err(format!(
                    "`{other}` is not known; known are trim, lower, upper, collapse_spaces, digits_only, empty_to_null"
                ));
            }
        };
    }
    Ok(text)
}
