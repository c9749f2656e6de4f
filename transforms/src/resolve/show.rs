//! The row follows its state, beside local writes that have no stamp yet.
//!
//! A state takes in every change at once; own changes among them, so that a local write that was overwritten is not
//! lost: its record brings it back. What must not happen is that a local writer reads a row in which its own writes
//! are missing, and builds on that. So where a local write may be on its way, a column is written only if it holds
//! what the state said before; one that holds something else was written locally, and that write's own record settles
//! it. Differences are added to what a summed column holds. Rows that are decided whole are left alone until then.
//!
//! A row is settled where no local write can be on its way. Where it is not, a fence is sent; if it returns and the
//! row is as it was, it is settled. Rows that local writers never leave in peace for as long as a fence takes are
//! settled when they do.
//!
//! What the state shows and the row does not yet was not seen by the node's own changes of the key: such records are
//! held back ([`syncline_event::stamp::Held`]) until it does, or the state has something else to show. A node's later
//! records do not show before its earlier ones, so that one offset says what is held.

use serde::{Deserialize, Serialize};

use super::columns::{Incoming, ResolveError};
use super::echo::{Fence, Row};
use super::plan::{Plan, PlannedColumn};
use super::row::{Operation, Version};
use super::rules::ColumnRule;
use super::state::{Image, Kind, State};
use super::value::{add_difference, equal};

/// A key at the moment its row may be written: when a change has been joined to its state, or a fence has returned.
/// The row is locked, or cannot be.
#[derive(Debug, Clone, Copy)]
pub struct Showing<'a> {
    /// What was known before the change.
    pub before: Option<&'a State>,
    /// What is known now.
    pub after: &'a State,
    /// The change; none when a fence has returned.
    pub change: Option<&'a Incoming>,
    /// Its transaction, if it is an own one.
    pub transaction: Option<u32>,
    /// The records that the key holds back.
    pub held: &'a [HeldRecord],
    /// The `xmin` of the row when it was settled last.
    pub noted_xmin: Option<u32>,
    /// The row.
    pub row: Row,
    /// Its values, where it is present.
    pub values: Option<&'a Image>,
    /// The fence that has returned, if one has.
    pub fence: Fence,
}

/// What to do to a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Nothing.
    None,
    /// Insert it if the key is free; if it is not, ask again with what is there.
    Insert(Image),
    /// Write all its columns.
    Update(Image),
    /// Remove it.
    Delete,
}

/// How a row follows its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// What to do.
    pub write: Write,
    /// Whether the row's `xmin` is noted, as it is when it is written; else none is. Then a fence has to be under way:
    /// where none is, send one and keep what the row is.
    pub settled: bool,
    /// The records that the key holds back from now on.
    pub held: Vec<HeldRecord>,
}

/// Another node's record that a row does not show yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRecord {
    /// The node.
    pub origin: String,
    /// The partition of its topic.
    pub partition: u32,
    /// The record's offset.
    pub offset: u64,
}

impl HeldRecord {
    fn of(version: &Version) -> Self {
        Self { origin: version.stamp.origin.clone(), partition: version.partition, offset: version.offset }
    }

    fn is_before(&self, version: &Version) -> bool {
        self.origin == version.stamp.origin && self.partition == version.partition && self.offset < version.offset
    }
}

impl Plan {
    /// Decides what becomes of a row.
    ///
    /// # Errors
    ///
    /// A sum has no place in its column.
    pub fn show(&self, showing: &Showing<'_>) -> Result<Shown, ResolveError> {
        let mut after = self.row(showing.after)?;
        if let (Some(after), Some(values)) = (&mut after, showing.values) {
            // Columns that were added since keep what they have.
            for (place, planned) in self.columns.iter().enumerate() {
                if !showing.after.knows(&planned.name) {
                    after[place].clone_from(&values[place]);
                }
            }
        }
        let settled = self.is_settled(showing);
        let write = match (showing.row, &after) {
            (Row::Absent, Some(after)) if settled => Write::Insert(after.clone()),
            (Row::Present { .. }, None) if settled => Write::Delete,
            (Row::Present { .. }, Some(after)) => {
                let values = showing.values.unwrap_or(after);
                let row = if settled { after.clone() } else { self.beside_local_writes(showing, values, after)? };
                if self.equal(&row, values) { Write::None } else { Write::Update(row) }
            }
            _ => Write::None,
        };
        let now = match &write {
            Write::Insert(row) | Write::Update(row) => Some(row),
            Write::Delete => None,
            Write::None => showing.values,
        };
        let hidden = match showing.row {
            // Whoever holds it has not seen anything new.
            Row::Locked => self.hidden(showing.after, None, after.as_ref())?,
            _ if now.is_none() && after.is_none() => Vec::new(),
            _ => self.hidden(showing.after, now, after.as_ref())?,
        };
        let own = showing.transaction.is_some();
        let arrived = showing.change.filter(|_| !own).map(|change| HeldRecord::of(&change.version));
        let hidden: Vec<HeldRecord> = hidden.iter().map(HeldRecord::of).collect();
        let held = showing.held.iter().cloned().chain(arrived).filter(|record| hidden.contains(record)).collect();
        Ok(Shown { write, settled, held })
    }

    fn is_settled(&self, showing: &Showing<'_>) -> bool {
        let own = showing.change.zip(showing.transaction);
        match showing.row {
            Row::Locked => false,
            Row::Present { xmin } => {
                // The transaction may have written the row more than once: then it has moved on.
                let last = |(change, transaction): (&Incoming, u32)| {
                    let same = change.after.as_ref().zip(showing.values).is_some_and(|(a, b)| self.equal(a, b));
                    transaction == xmin && same
                };
                showing.noted_xmin == Some(xmin)
                    || own.is_some_and(last)
                    || showing.fence == Fence::Returned { row: showing.row }
            }
            Row::Absent => match own {
                // Written and gone again: its removal is on its way.
                Some((change, _)) => change.operation == Operation::Delete,
                None => {
                    let known = showing.before.is_some_and(|state| !state.is_gone());
                    !known || showing.fence == Fence::Returned { row: Row::Absent }
                }
            },
        }
    }

    /// The row with those columns of `after` that no local write can be on its way for.
    fn beside_local_writes(&self, showing: &Showing<'_>, values: &Image, after: &Image) -> Result<Image, ResolveError> {
        let mut row = values.clone();
        if self.rows.is_some() {
            return Ok(row);
        }
        let before = showing.before.map(|state| self.row(state)).transpose()?.flatten();
        let own = showing.transaction.and(showing.change);
        for (place, planned) in self.columns.iter().enumerate() {
            let before = before.as_ref().map(|image| image[place].as_deref());
            if planned.rule == Some(ColumnRule::Sum) {
                if let (None, Some(before)) = (own, before) {
                    let sum = add_difference(row[place].as_deref(), after[place].as_deref(), before);
                    row[place] = Some(sum.map_err(|fault| planned.fault(fault))?);
                }
                continue;
            }
            let written = own.and_then(|change| {
                let (before, after) = (change.before.as_ref().map(|image| &image[place]), change.after.as_ref()?);
                (before != Some(&after[place])).then(|| after[place].as_deref())
            });
            let waits = || {
                Ok(match self.shown_by(showing.after, planned)? {
                    Some(version) => showing.held.iter().any(|record| record.is_before(&version)),
                    None => false,
                })
            };
            if let Some(expected) = written.or(before)
                && equal(planned.sql_type, row[place].as_deref(), expected)
                && !waits()?
            {
                row[place].clone_from(&after[place]);
            }
        }
        Ok(row)
    }

    fn equal(&self, a: &Image, b: &Image) -> bool {
        let mut columns = self.columns.iter().zip(a.iter().zip(b));
        columns.all(|(planned, (a, b))| equal(planned.sql_type, a.as_deref(), b.as_deref()))
    }

    /// The changes that a state shows as `after` and the row does not. A summed column shows every difference at once.
    fn hidden(&self, state: &State, now: Option<&Image>, after: Option<&Image>) -> Result<Vec<Version>, ResolveError> {
        let newest = match &state.0 {
            Kind::Row(winner) => {
                let shows = now.zip(after).is_some_and(|(now, after)| self.equal(now, after));
                return Ok(if shows { Vec::new() } else { vec![winner.by.clone()] });
            }
            Kind::Columns(columns) => columns.newest(),
        };
        let mut hidden = Vec::new();
        if now.is_none() || after.is_none() {
            hidden.extend(newest.map(|touch| touch.by.clone()));
        }
        let Some(after) = after else { return Ok(hidden) };
        for (place, planned) in self.columns.iter().enumerate() {
            let is = |now: &Image| equal(planned.sql_type, now[place].as_deref(), after[place].as_deref());
            if planned.rule != Some(ColumnRule::Sum) && !now.is_some_and(is) {
                hidden.extend(self.shown_by(state, planned)?);
            }
        }
        Ok(hidden)
    }

    /// The change whose value a column shows.
    fn shown_by(&self, state: &State, planned: &PlannedColumn) -> Result<Option<Version>, ResolveError> {
        let Kind::Columns(columns) = &state.0 else { return Ok(None) };
        let column = columns.columns.get(&planned.name);
        column.map(|column| self.shown(planned, column).map(|(_, version)| version)).transpose()
    }
}
