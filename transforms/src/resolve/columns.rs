//! Resolving a change against all that its row has been through.
//!
//! A state is a join of changes: each rule keeps a least upper bound (the latest, the highest, the union, the sum of
//! differences), so the same changes give the same state in whatever order the nodes' changes interleave. Changes of
//! one node arrive in their order, since a key keeps its partition; one that the node's last change has overtaken is a
//! repeat and does nothing.
//!
//! **Concurrent changes of a column** (`merge`, `priority_order`). Comparing two changes at a time does not do: with
//! `a1 < a2` of one node and `b` of another, `b` may come before `a1` and behind `a2` by rank, a circle. So the last
//! value of each node stays, those that another one had seen do not count, and of the rest the rank decides, then the
//! stamp. That depends on nothing but the set of changes, with any number of nodes; a node that had seen a change had
//! seen those before it too, so a node's last change sees for the others. What another one saw has a lower stamp, so
//! some change is left always.
//!
//! **Existence** belongs to the latest change of all: an update that is later than a removal brings the row back, with
//! the values that all changes together give it.
//!
//! **Removal and return.** Columns go on: what has been written stays in the tombstone, and a row that comes back is
//! joined with it. Under `merge` and `last_write_wins` the return is the later write and has its own values. Under
//! `sum` a removal takes away what its row showed, so only differences that it had not seen are left. Under `max`,
//! `min`, `concat_unique` and `source_priority` the old value counts on: to forget it at the removal, nodes would have
//! to agree which changes belong to which life, and they do not arrive in one order.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::plan::{Plan, PlannedColumn, Rank};
use super::row::{ConflictType, Operation, Version, conflict};
use super::rules::ColumnRule;
use super::state::{Columns, Image, Kind, State, Touch, Winner};
use super::value::{compare, equal};
use crate::fault::Fault;

mod column;
#[cfg(test)]
mod tests;

/// A change to be resolved: an own one, come back, or another node's. Rows of a snapshot are inserts with a stamp
/// whose clock is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// What it does to its row.
    pub operation: Operation,
    /// When and where it was made.
    pub version: Version,
    /// The whole row before it; none for an insert.
    pub before: Option<Image>,
    /// The whole row behind it; none for a removal.
    pub after: Option<Image>,
}

/// What has become of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What is known of the key from now on.
    pub state: State,
    /// What the row is from now on ([`Plan::row`]).
    pub row: Option<Image>,
    /// What was discarded.
    pub conflicts: Vec<Conflict>,
}

/// Two changes of which the one that stays had not seen the one that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// What is wrong between them.
    pub kind: ConflictType,
    /// The column, as an index into images; none where it is about the row.
    pub column: Option<usize>,
    /// The change that was there; none where nothing is known of the row.
    pub other: Option<Version>,
    /// Whether the change that came stays.
    pub takes: bool,
    /// The column's value in the change that came.
    pub source: Option<String>,
    /// Its value before.
    pub target: Option<String>,
    /// Its value now.
    pub result: Option<String>,
}

/// Why a change cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// A value is none of its column's type, or the result has no place in it.
    #[error("column {column}: {fault}")]
    Value {
        /// The column's name.
        column: String,
        /// What is wrong.
        fault: Fault,
    },
    /// The state was made under another rule.
    #[error("the table's conflict rule has changed since its rows were recorded; restore it, or resync the table")]
    RuleChanged,
    /// The log gave part of the row.
    #[error("the change lacks the whole row before or behind it; set REPLICA IDENTITY FULL on its table")]
    NoImage,
}

impl PlannedColumn {
    pub(super) fn fault(&self, fault: Fault) -> ResolveError {
        ResolveError::Value { column: self.name.clone(), fault }
    }
}

impl Plan {
    /// Joins a change to what is known of its key.
    ///
    /// # Errors
    ///
    /// The change cannot be resolved, and changes nothing.
    pub fn resolve(&self, incoming: &Incoming, state: Option<&State>) -> Result<Resolved, ResolveError> {
        let whole = |image: &Option<Image>| image.as_ref().is_some_and(|image| image.len() == self.columns.len());
        let complete = match incoming.operation {
            Operation::Insert => whole(&incoming.after),
            Operation::Update => whole(&incoming.before) && whole(&incoming.after),
            Operation::Delete => whole(&incoming.before),
        };
        if !complete {
            return Err(ResolveError::NoImage);
        }
        match (self.rows, state.map(|state| &state.0)) {
            (Some(rank), None) => Ok(self.by_rows(rank, incoming, None)),
            (Some(rank), Some(Kind::Row(known))) => Ok(self.by_rows(rank, incoming, Some(known))),
            (None, None) => self.by_columns(incoming, None),
            (None, Some(Kind::Columns(columns))) => self.by_columns(incoming, Some(columns)),
            _ => Err(ResolveError::RuleChanged),
        }
    }

    /// The row that a state stands for, NULL in columns that nothing is known of; none where it is gone.
    ///
    /// # Errors
    ///
    /// A sum has no place in its column.
    pub fn row(&self, state: &State) -> Result<Option<Image>, ResolveError> {
        let Kind::Columns(columns) = &state.0 else { return Ok(self.whole_row(state)) };
        if state.is_gone() {
            return Ok(None);
        }
        let values = self.columns.iter().map(|planned| match columns.columns.get(&planned.name) {
            Some(column) => self.shown(planned, column).map(|(value, _)| value),
            None => Ok(None),
        });
        values.collect::<Result<_, _>>().map(Some)
    }

    /// The row of a state that is decided whole.
    fn whole_row(&self, state: &State) -> Option<Image> {
        let Kind::Row(Winner { row: Some(row), .. }) = &state.0 else { return None };
        Some(self.columns.iter().map(|planned| row.get(&planned.name).cloned().flatten()).collect())
    }

    /// Whether a row that is gone may be forgotten once every node's changes to come have seen all of
    /// [`State::versions`]: nothing of it would count against them.
    #[must_use]
    pub fn is_forgettable(&self, state: &State) -> bool {
        let leaves_nothing = match &state.0 {
            Kind::Row(_) => self.rows == Some(Rank::Stamp),
            Kind::Columns(columns) => self.columns.iter().all(|planned| match columns.columns.get(&planned.name) {
                Some(column) => self.leaves_nothing(planned, column),
                None => true,
            }),
        };
        state.is_gone() && leaves_nothing
    }

    fn by_rows(&self, rank: Rank, incoming: &Incoming, known: Option<&Winner<Version>>) -> Resolved {
        let value = |image: &Option<Image>| match rank {
            Rank::Value(column) => image.as_ref().and_then(|image| image[column].clone()),
            Rank::Stamp | Rank::Priority => None,
        };
        let image = if incoming.after.is_some() { &incoming.after } else { &incoming.before };
        let names = self.columns.iter().map(|planned| planned.name.clone());
        let row = incoming.after.as_ref().map(|after| names.zip(after.iter().cloned()).collect());
        let arrived = Winner { by: incoming.version.clone(), rank: value(image), row };
        let Some(known) = known else {
            let conflicts = missing(incoming.operation);
            return Resolved { row: incoming.after.clone(), state: State(Kind::Row(arrived)), conflicts };
        };
        let higher = match rank {
            Rank::Stamp => Ordering::Equal,
            Rank::Priority => self.priority(&arrived.by).cmp(&self.priority(&known.by)),
            Rank::Value(column) => {
                compare(self.columns[column].sql_type, arrived.rank.as_deref(), known.rank.as_deref())
            }
        };
        let takes = higher.then_with(|| arrived.by.order().cmp(&known.by.order())).is_gt();
        let kind = conflict(incoming.operation, known.row.is_none());
        let conflicts = unless_seen(kind, incoming, &known.by, takes).into_iter().collect();
        let state = State(Kind::Row(if takes { arrived } else { known.clone() }));
        Resolved { row: self.whole_row(&state), state, conflicts }
    }

    fn by_columns(&self, incoming: &Incoming, state: Option<&Columns<Version>>) -> Result<Resolved, ResolveError> {
        let version = &incoming.version;
        let mut columns = state.cloned().unwrap_or(Columns { latest: Vec::new(), columns: BTreeMap::new() });
        let place = columns.latest.binary_search_by(|touch| touch.by.stamp.origin.cmp(&version.stamp.origin));
        if let Ok(place) = place
            && columns.latest[place].by.order() >= version.order()
        {
            let state = State(Kind::Columns(columns));
            return Ok(Resolved { row: self.row(&state)?, state, conflicts: Vec::new() });
        }
        let mut conflicts =
            if state.is_some() { columns.about_existence(incoming) } else { missing(incoming.operation) };
        let touch = Touch { by: version.clone(), deleted: incoming.operation == Operation::Delete };
        match place {
            Ok(place) => columns.latest[place] = touch,
            Err(place) => columns.latest.insert(place, touch),
        }
        for (place, planned) in self.columns.iter().enumerate() {
            let before = incoming.before.as_ref().map(|image| image[place].as_deref());
            let after = incoming.after.as_ref().map(|image| image[place].as_deref());
            let known = columns.columns.remove(&planned.name);
            // Sums discard nothing.
            let summed = planned.rule == Some(ColumnRule::Sum);
            let target = known.as_ref().filter(|_| !summed).map(|column| self.shown(planned, column)).transpose()?;
            let Some(column) = self.join(planned, known, version, before, after)? else { continue };
            if let Some(after) = after
                && before != Some(after)
                && !summed
            {
                let result = self.shown(planned, &column)?;
                conflicts.extend(self.about_column(place, incoming, (before.flatten(), after), target, result));
            }
            columns.columns.insert(planned.name.clone(), column);
        }
        let state = State(Kind::Columns(columns));
        Ok(Resolved { row: self.row(&state)?, state, conflicts })
    }

    fn priority(&self, version: &Version) -> u32 {
        self.rules.priority_of(&version.stamp.origin)
    }

    fn same(&self, column: usize, a: Option<&str>, b: Option<&str>) -> bool {
        equal(self.columns[column].sql_type, a, b)
    }
}

impl Columns<Version> {
    /// Conflicts about whether the row is there.
    fn about_existence(&self, incoming: &Incoming) -> Vec<Conflict> {
        let Some(newest) = self.newest() else { return Vec::new() };
        let takes = incoming.version.order() > newest.by.order();
        if incoming.operation == Operation::Delete && takes {
            // With the row goes all that the others have written to it.
            let written = self.latest.iter().filter(|touch| !touch.deleted);
            return written
                .filter_map(|touch| unless_seen(conflict(Operation::Delete, false), incoming, &touch.by, true))
                .collect();
        }
        if incoming.operation != Operation::Delete && !newest.deleted {
            return Vec::new();
        }
        unless_seen(conflict(incoming.operation, newest.deleted), incoming, &newest.by, takes).into_iter().collect()
    }
}

/// Where nothing is known of a row that should be there.
fn missing(operation: Operation) -> Vec<Conflict> {
    let kind = match operation {
        Operation::Insert => return Vec::new(),
        Operation::Update => ConflictType::UpdateMissing,
        Operation::Delete => ConflictType::DeleteMissing,
    };
    vec![Conflict { kind, column: None, other: None, takes: true, source: None, target: None, result: None }]
}

fn unless_seen(kind: Option<ConflictType>, incoming: &Incoming, other: &Version, takes: bool) -> Option<Conflict> {
    let (stays, goes) = if takes { (&incoming.version, other) } else { (other, &incoming.version) };
    if stays.order() == goes.order() || stays.saw(goes) {
        return None;
    }
    let other = Some(other.clone());
    Some(Conflict { kind: kind?, column: None, other, takes, source: None, target: None, result: None })
}
