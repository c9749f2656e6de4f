//! The row follows its state, beside local writes that have no stamp yet.
//!
//! A state takes in every change at once; own changes among them, so that a local write that was overwritten is not
//! lost: its record brings it back. What must not happen is that a local writer reads a row in which its own writes
//! are missing, and builds on that. So where a local write may be on its way, a column is written only if it holds
//! what the state said before; one that holds something else was written locally, and that write's own record settles
//! it. Differences are added to what a summed column holds. Rows that are decided whole are left alone until then.
//!
//! A row is settled where no local write can be on its way. Where it is not, a fence is sent; if it returns and the
//! row is as it was, it is settled. Only settled rows are noted. Rows that local writers never leave in peace for as
//! long as a fence takes are settled when they do.

use super::columns::{Incoming, ResolveError};
use super::echo::{Fence, Row};
use super::plan::Plan;
use super::row::Operation;
use super::rules::ColumnRule;
use super::state::Image;
use super::value::{add_difference, equal};

/// A key at the moment its row may be written: when a change has been joined to its state, or a fence has returned.
#[derive(Debug, Clone, Copy)]
pub struct Showing<'a> {
    /// What the row was by the state before the change.
    pub before: Option<&'a Image>,
    /// What it is by the state now.
    pub after: Option<&'a Image>,
    /// The change; none when a fence has returned.
    pub change: Option<&'a Incoming>,
    /// Its transaction, if it is an own one.
    pub transaction: Option<u32>,
    /// The `xmin` of the row when it was settled last.
    pub noted_xmin: Option<u32>,
    /// The row, and its fence.
    pub row: Row,
    /// The row's values, where it is present.
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
    /// Whether the row's `xmin` is noted, as it is when this is done. If not, none is, and a fence has to be under way.
    pub settled: bool,
    /// Whether the row shows all of its state then: none of the records that the key holds back is held any more.
    pub shows_state: bool,
    /// Whether it shows what the change did. Where it does not, the key holds the change's record back: it counts as
    /// not seen by the node's own changes of the key.
    pub shows_change: bool,
}

impl Plan {
    /// Decides what becomes of a row.
    ///
    /// # Errors
    ///
    /// A sum has no place in its column.
    pub fn show(&self, showing: &Showing<'_>) -> Result<Shown, ResolveError> {
        let settled = self.is_settled(showing);
        let write = match (showing.row, showing.after) {
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
        let there = matches!(showing.row, Row::Present { .. });
        let (shows_state, shows_change) = match (now, showing.after) {
            (_, _) if showing.row == Row::Locked => (false, false),
            (Some(now), Some(after)) => (self.shows(None, now, after), self.shows(showing.change, now, after)),
            (None, None) => (!there || write == Write::Delete, !there || write == Write::Delete),
            _ => (false, false),
        };
        Ok(Shown { write, settled, shows_state, shows_change })
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
                // Written, and gone again.
                Some((change, _)) => change.operation == Operation::Delete || showing.after.is_none(),
                None => showing.before.is_none() || showing.fence == Fence::Returned { row: Row::Absent },
            },
        }
    }

    /// The row with those columns of `after` that no local write can be on its way for.
    fn beside_local_writes(&self, showing: &Showing<'_>, values: &Image, after: &Image) -> Result<Image, ResolveError> {
        let mut row = values.clone();
        if self.rows.is_some() {
            return Ok(row);
        }
        let own = showing.transaction.and(showing.change);
        for (place, planned) in self.columns.iter().enumerate() {
            let written = own.and_then(|change| {
                let (before, after) = (change.before.as_ref().map(|image| &image[place]), change.after.as_ref()?);
                (before != Some(&after[place])).then(|| after[place].as_deref())
            });
            let before = showing.before.map(|image| image[place].as_deref());
            if planned.rule == Some(ColumnRule::Sum) {
                if let (None, Some(before)) = (own, before) {
                    let sum = add_difference(row[place].as_deref(), after[place].as_deref(), before);
                    let fault = |fault| ResolveError::Value { column: planned.name.clone(), fault };
                    row[place] = Some(sum.map_err(fault)?);
                }
                continue;
            }
            if let Some(expected) = written.or(before)
                && equal(planned.sql_type, row[place].as_deref(), expected)
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

    /// Whether the columns that a change wrote, or all, are as the state says. A summed one shows every difference at
    /// once.
    fn shows(&self, change: Option<&Incoming>, now: &Image, after: &Image) -> bool {
        self.columns.iter().enumerate().all(|(place, planned)| {
            let value = |image: &Option<Image>| image.as_ref().map(|image| image[place].clone());
            planned.rule == Some(ColumnRule::Sum)
                || change.is_some_and(|change| value(&change.before) == value(&change.after))
                || equal(planned.sql_type, now[place].as_deref(), after[place].as_deref())
        })
    }
}
