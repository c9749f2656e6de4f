//! A change through a route: which rows of the target are written and which are deleted.

use bumpalo::Bump;
use syncline_event::avro::value::Value;
use syncline_event::operation::Operation;
use syncline_event::position::Position;
use syncline_event::table::ReplicaIdentity;

use super::compile::{Cell, Mode, Route};
use crate::expression::{Context, Row, Truth};

/// A change of a source row.
#[derive(Debug, Clone, Copy)]
pub struct Change<'e, 'a> {
    /// Read, create, update or delete.
    pub operation: Operation,
    /// The old row; only what [`Change::before_is_whole`] allows may be read.
    pub before: &'e [Value<'a>],
    /// Whether all of `before` is data, and not the key alone.
    pub before_is_whole: bool,
    /// The new row.
    pub after: &'e [Value<'a>],
    /// Where the change stands in the source's order, where that is known.
    pub position: Option<Position>,
    /// Times.
    pub context: Context,
}

/// What a route writes for a change: a delete by key first, then a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Whether the key in `old` is deleted.
    pub deletes: bool,
    /// What is done with the row in `new`.
    pub write: Option<Write>,
}

/// How a row is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Inserted, or put in the place of the row that is there.
    Upsert,
    /// The known values are put into a row that must be there.
    Update,
    /// The known values are put into a row, if it is there.
    Fill,
}

/// Why a route has no answer for a change. Says what to do; no values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl Route {
    /// Whether the old rows of the source's log are whole.
    #[must_use]
    pub fn has_whole_rows(&self) -> bool {
        self.identity == ReplicaIdentity::Full
    }

    /// A row in the target's columns, as far as they are copied: all of it where the mapping only renames.
    pub fn rename<'a>(&self, row: &[Value<'a>], out: &mut Vec<Value<'a>>) {
        out.clear();
        out.extend(self.cells.iter().map(|cell| match cell {
            Cell::Copy(column) => row.get(*column).copied().unwrap_or(Value::Unknown),
            _ => Value::Unknown,
        }));
    }

    /// Applies the route. `old` and `new` receive rows as wide as the target's definition: of `old` only the key
    /// cells count.
    ///
    /// # Errors
    ///
    /// An expression fails, or needs what the event does not hold.
    pub fn apply<'a>(
        &'a self,
        change: &Change<'_, 'a>,
        bump: &'a Bump,
        old: &mut Vec<Value<'a>>,
        new: &mut Vec<Value<'a>>,
    ) -> Result<Outcome, Refusal> {
        match (change.operation, self.mode) {
            (Operation::Delete, Mode::Rows) => self.delete(change, bump, old),
            (Operation::Delete, Mode::SoftDelete | Mode::History) => self.keep_deleted(change, bump, new),
            _ => self.write(change, bump, old, new),
        }
    }

    fn write<'a>(
        &'a self,
        change: &Change<'_, 'a>,
        bump: &'a Bump,
        old: &mut Vec<Value<'a>>,
        new: &mut Vec<Value<'a>>,
    ) -> Result<Outcome, Refusal> {
        let updates = change.operation == Operation::Update;
        let before: &[Value<'a>] = match updates {
            true if change.before_is_whole => change.before,
            true => &[],
            false => &self.no_row,
        };
        let row = Row { after: change.after, before, context: change.context };
        if !self.passes(&row, bump)? {
            return match (self.mode, self.shared) {
                (Mode::History, _) => Ok(Outcome::default()),
                // What was never written here may be another source's row.
                (_, true) if !updates => Ok(Outcome::default()),
                (_, true) => self.delete_if_ours(change, bump, old),
                (_, false) => {
                    self.key_row(&row, change, bump, old)?;
                    Ok(Outcome { deletes: true, write: None })
                }
            };
        }
        let whole = self.fill(&row, change, bump, new)?;
        let write = if whole || !updates { Write::Upsert } else { Write::Update };
        if !whole && !updates {
            return Err(Refusal(
                "a new row lacks columns that its event does not hold (its key changed while a TOASTed column did not); \
                 run `syncline resync --source`"
                    .into(),
            ));
        }
        let mut deletes = false;
        if updates && !self.own_key && self.mode != Mode::History {
            self.old_key(change, bump, old)?;
            deletes = self.definition.key.iter().any(|column| old[*column] != new[*column]);
        }
        Ok(Outcome { deletes, write: Some(write) })
    }

    fn delete<'a>(
        &'a self,
        change: &Change<'_, 'a>,
        bump: &'a Bump,
        old: &mut Vec<Value<'a>>,
    ) -> Result<Outcome, Refusal> {
        if self.shared && !self.filters.is_empty() {
            return self.delete_if_ours(change, bump, old);
        }
        self.old_key(change, bump, old)?;
        Ok(Outcome { deletes: true, write: None })
    }

    /// Deletes the old row if the filters let it through: else it was never written.
    fn delete_if_ours<'a>(
        &'a self,
        change: &Change<'_, 'a>,
        bump: &'a Bump,
        old: &mut Vec<Value<'a>>,
    ) -> Result<Outcome, Refusal> {
        if !change.before_is_whole {
            return Err(self.needs_whole("several sources write to one target behind a filter"));
        }
        let row = Row { after: change.before, before: &[], context: change.context };
        if !self.passes(&row, bump)? {
            return Ok(Outcome::default());
        }
        self.old_key(change, bump, old)?;
        Ok(Outcome { deletes: true, write: None })
    }

    /// A deleted row that stays: marked, or as a row of the history.
    fn keep_deleted<'a>(
        &'a self,
        change: &Change<'_, 'a>,
        bump: &'a Bump,
        new: &mut Vec<Value<'a>>,
    ) -> Result<Outcome, Refusal> {
        let row = Row { after: change.before, before: change.before, context: change.context };
        if change.before_is_whole {
            if self.mode == Mode::History && !self.passes(&row, bump)? {
                return Ok(Outcome::default());
            }
            let whole = self.fill(&row, change, bump, new)?;
            return Ok(Outcome { deletes: false, write: Some(if whole { Write::Upsert } else { Write::Update }) });
        }
        if self.mode == Mode::History || !self.own_key {
            return Err(self.needs_whole("history keeps the row that was deleted"));
        }
        // A row that is not there has nothing to mark.
        self.key_row(&row, change, bump, new)?;
        for (cell, value) in self.cells.iter().zip(new.iter_mut()) {
            match cell {
                Cell::DeletedAt => *value = Value::Timestamp(change.context.commit_us),
                _ if *value == Value::Null => *value = Value::Unknown,
                _ => {}
            }
        }
        Ok(Outcome { deletes: false, write: Some(Write::Fill) })
    }

    fn old_key<'a>(&'a self, change: &Change<'_, 'a>, bump: &'a Bump, old: &mut Vec<Value<'a>>) -> Result<(), Refusal> {
        if !self.own_key && !change.before_is_whole {
            return Err(self.needs_whole("the target's key is made of other columns than the source's key"));
        }
        let row = Row { after: change.before, before: change.before, context: change.context };
        self.key_row(&row, change, bump, old)
    }

    fn needs_whole(&self, why: &str) -> Refusal {
        Refusal(format!(
            "{why}, and the event holds the old row's key alone; run ALTER TABLE {} REPLICA IDENTITY FULL in the source, \
             then `syncline resync --source`",
            self.source
        ))
    }

    fn passes<'a>(&'a self, row: &Row<'_, 'a>, bump: &'a Bump) -> Result<bool, Refusal> {
        let mut unknown = false;
        for filter in &self.filters {
            match filter.holds(row, bump).map_err(|fault| Refusal(format!("a filter fails: {fault}")))? {
                Truth::True => {}
                Truth::False => return Ok(false),
                Truth::Unknown => unknown = true,
            }
        }
        if unknown {
            return Err(self.needs_whole("a filter reads a large value that the update left unchanged"));
        }
        Ok(true)
    }

    /// Computes a row. Whether every value is known.
    fn fill<'a>(
        &'a self,
        row: &Row<'_, 'a>,
        change: &Change<'_, 'a>,
        bump: &'a Bump,
        out: &mut Vec<Value<'a>>,
    ) -> Result<bool, Refusal> {
        out.clear();
        let mut whole = true;
        for index in 0..self.cells.len() {
            let value = self.cell(index, row, change, bump)?;
            whole &= value != Value::Unknown;
            out.push(value);
        }
        self.check_key(out)?;
        Ok(whole)
    }

    /// Computes the key's cells, and NULL for the others.
    fn key_row<'a>(
        &'a self,
        row: &Row<'_, 'a>,
        change: &Change<'_, 'a>,
        bump: &'a Bump,
        out: &mut Vec<Value<'a>>,
    ) -> Result<(), Refusal> {
        out.clear();
        out.resize(self.cells.len(), Value::Null);
        for column in &self.definition.key {
            out[*column] = self.cell(*column, row, change, bump)?;
        }
        self.check_key(out)
    }

    fn check_key(&self, row: &[Value<'_>]) -> Result<(), Refusal> {
        let missing = |column: &&usize| matches!(row[**column], Value::Null | Value::Unknown);
        match self.definition.key.iter().find(missing) {
            Some(column) => Err(Refusal(format!(
                "key column {} of target {} has no value",
                self.definition.columns[*column].name,
                self.definition.qualified_name()
            ))),
            None => Ok(()),
        }
    }

    fn cell<'a>(
        &'a self,
        index: usize,
        row: &Row<'_, 'a>,
        change: &Change<'_, 'a>,
        bump: &'a Bump,
    ) -> Result<Value<'a>, Refusal> {
        Ok(match &self.cells[index] {
            Cell::Copy(column) => row.after.get(*column).copied().unwrap_or(Value::Unknown),
            Cell::Compute(expression) => expression.value(row, bump).map_err(|fault| {
                let name = &self.definition.columns[index].name;
                Refusal(format!("column {name}: its expression fails: {fault}"))
            })?,
            Cell::DeletedAt if change.operation == Operation::Delete => Value::Timestamp(change.context.commit_us),
            Cell::DeletedAt => Value::Null,
            Cell::Operation => Value::Text(change.operation.code()),
            Cell::ChangedAt => Value::Timestamp(change.context.commit_us),
            Cell::Position => match change.position {
                Some(position) => Value::Text(bumpalo::format!(in bump, "{}", position.sortable()).into_bump_str()),
                None => {
                    return Err(Refusal(
                        "the event has no position: only records that Syncline's own producer wrote have one".into(),
                    ));
                }
            },
        })
    }
}
