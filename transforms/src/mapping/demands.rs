//! What a mapping makes of a table as a whole: whether rows are kept, by which key, and what that demands of the source.

use syncline_event::table::ColumnType;

use super::compile::{Cell, Compiler, Mode, Requirement};
use super::steps::computed;
use crate::expression::Expression;
use crate::sql_type::SqlType;

/// The columns of a history's row beside the table's own.
const HISTORY: [(&str, SqlType); 3] =
    [("_operation", SqlType::Text), ("_position", SqlType::Text), ("_changed_at", SqlType::Timestamptz)];

impl Compiler<'_> {
    pub(super) fn mode(&mut self) -> Mode {
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
    pub(super) fn key(&mut self, mode: Mode) -> Option<(Vec<usize>, bool)> {
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

    pub(super) fn require(&mut self, shared: bool, own_key: bool, mode: Mode, filters: &[Expression]) {
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
}
