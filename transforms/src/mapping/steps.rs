//! The steps of a mapping: columns that are changed in place, columns that are added, and filters.

use syncline_event::table::{Column, ColumnType};

use super::Written;
use super::compile::{Cell, Compiler};
use crate::expression::{Expression, Scope};
use crate::sql_type::SqlType;

impl Compiler<'_> {
    /// Columns whose value is changed in place: transformations, conversions, cleaning.
    pub(super) fn changed(&mut self) {
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

    /// New columns.
    pub(super) fn added(&mut self) {
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

    pub(super) fn filters(&mut self) -> Vec<Expression> {
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
}

pub(super) fn computed(name: &str, column_type: &ColumnType) -> Column {
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
