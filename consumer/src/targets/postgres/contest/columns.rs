//! Tables whose rule looks at more than stamps: what each row has been through is kept as a state, which every change
//! is joined to at once. The row follows its state as far as local writes on their way allow ([`Plan::show`]); where
//! they do not, it is looked at again behind a fence.

use std::collections::BTreeMap;

use syncline_transforms::resolve::columns::{Conflict, Incoming, ResolveError};
use syncline_transforms::resolve::echo::{Fence, Row};
use syncline_transforms::resolve::plan::Plan;
use syncline_transforms::resolve::row::{Operation, Version};
use syncline_transforms::resolve::show::{HeldRecord, Showing, Write};
use syncline_transforms::resolve::state::State;

use super::fold::{Found, Turn, Unsettled};
use super::table::Image;

/// What becomes of a row.
#[derive(Debug)]
pub(super) struct Resolution {
    pub(super) write: Write,
    /// What is known of the row from now on, where that changed.
    pub(super) entry: Option<StateEntry>,
    pub(super) discarded: Vec<Discarded>,
    /// Where the key holds back something else than before.
    pub(super) held: Vec<Holding>,
    /// Whether a fence has to be sent.
    pub(super) asks: bool,
}

/// What a key holds back of a node's partition.
#[derive(Debug, Clone)]
pub(super) struct Holding {
    pub(super) origin: String,
    pub(super) partition: u32,
    /// The lowest offset; none where it holds nothing any more.
    pub(super) from: Option<u64>,
}

/// What is known of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StateEntry {
    pub(super) state: State,
    /// Whether the row is gone and need not be remembered once all nodes have seen that.
    pub(super) is_tombstone: bool,
    /// The row's `xmin`, where no write of this node is on its way.
    pub(super) noted: Option<u32>,
    /// Records that the row does not show.
    pub(super) held: Vec<HeldRecord>,
    /// Set while the row has to be looked at again.
    pub(super) unsettled: Option<Unsettled>,
}

/// Something that did not stay.
#[derive(Debug)]
pub(super) struct Discarded {
    /// The turn.
    pub(super) turn: usize,
    pub(super) conflict: Conflict,
    /// The row before and behind the turn.
    pub(super) target: Option<Image>,
    pub(super) result: Option<Image>,
}

/// Takes the turns one after the other; this node's own ones should come first. `images` are the turns' new rows (of
/// deletes the old ones) and old rows, `mine` is this transaction's id. Without turns, the row is looked at again:
/// `before` stands for one that was there before the first sync and that no snapshot has brought.
///
/// # Errors
///
/// A change that cannot be joined.
pub(super) fn resolve(
    plan: &Plan,
    found: &Found,
    (turns, images): (&[Turn<'_>], &[(Image, Option<Image>)]),
    (mine, before): (u32, &Version),
) -> Result<Resolution, ResolveError> {
    let mut row = Following {
        plan,
        state: found.state.clone(),
        noted: found.noted,
        held: found.held.clone(),
        row: found.row(),
        values: found.values.clone(),
        mine,
        settled: false,
        written: false,
    };
    let mut discarded = Vec::new();
    for (index, (turn, (image, old))) in turns.iter().zip(images).enumerate() {
        let incoming = incoming(turn, image, old.as_ref());
        let target = row.shown_by_state()?;
        let conflicts = row.take(&incoming, turn.own.then_some(turn.transaction))?;
        let result = if conflicts.is_empty() { None } else { row.shown_by_state()? };
        discarded.extend(conflicts.into_iter().map(|conflict| Discarded {
            turn: index,
            conflict,
            target: target.clone(),
            result: result.clone(),
        }));
    }
    if turns.is_empty() {
        row.look_again(found.unsettled.map_or(Fence::None, Unsettled::returned), before)?;
    }
    row.end(found, turns, discarded)
}

fn incoming(turn: &Turn<'_>, image: &Image, old: Option<&Image>) -> Incoming {
    let (before, after) = match turn.operation {
        Operation::Insert => (None, Some(image.clone())),
        Operation::Update => (old.cloned(), Some(image.clone())),
        Operation::Delete => (Some(image.clone()), None),
    };
    Incoming { operation: turn.operation, version: turn.version.clone(), before, after }
}

/// A row while its changes are taken one after the other.
struct Following<'a> {
    plan: &'a Plan,
    state: Option<State>,
    noted: Option<u32>,
    held: Vec<HeldRecord>,
    row: Row,
    values: Option<Image>,
    mine: u32,
    settled: bool,
    written: bool,
}

impl Following<'_> {
    fn shown_by_state(&self) -> Result<Option<Image>, ResolveError> {
        Ok(self.state.as_ref().map(|state| self.plan.row(state)).transpose()?.flatten())
    }

    fn take(&mut self, incoming: &Incoming, transaction: Option<u32>) -> Result<Vec<Conflict>, ResolveError> {
        let resolved = self.plan.resolve(incoming, self.state.as_ref())?;
        self.show(resolved.state, Some(incoming), transaction, Fence::None)?;
        Ok(resolved.conflicts)
    }

    fn look_again(&mut self, fence: Fence, before: &Version) -> Result<(), ResolveError> {
        let Some(mut state) = self.state.clone() else { return Ok(()) };
        let is_own = |version: &Version| version.stamp.origin == before.stamp.origin;
        if let (Some(values), true) = (&self.values, fence == Fence::Returned { row: self.row })
            && !state.versions().iter().any(is_own)
            && self.shown_by_state()?.as_ref() != Some(values)
        {
            // All that this node has changed is known by now, and this row is none of it.
            let (operation, after) = (Operation::Insert, Some(values.clone()));
            let there = Incoming { operation, version: before.clone(), before: None, after };
            state = self.plan.resolve(&there, Some(&state))?.state;
        }
        self.show(state, None, None, fence)
    }

    fn show(
        &mut self,
        after: State,
        change: Option<&Incoming>,
        transaction: Option<u32>,
        fence: Fence,
    ) -> Result<(), ResolveError> {
        let shown = self.plan.show(&Showing {
            before: self.state.as_ref(),
            after: &after,
            change,
            transaction,
            held: &self.held,
            noted_xmin: self.noted,
            row: self.row,
            values: self.values.as_ref(),
            fence,
        })?;
        match shown.write {
            Write::None => {}
            Write::Insert(values) | Write::Update(values) => {
                (self.row, self.values, self.written) = (Row::Present { xmin: self.mine }, Some(values), true);
            }
            Write::Delete => (self.row, self.values, self.written) = (Row::Absent, None, true),
        }
        self.noted = match self.row {
            Row::Present { xmin } if shown.settled => Some(xmin),
            _ => None,
        };
        (self.state, self.held, self.settled) = (Some(after), shown.held, shown.settled);
        Ok(())
    }

    fn end(self, found: &Found, turns: &[Turn<'_>], discarded: Vec<Discarded>) -> Result<Resolution, ResolveError> {
        let write = match self.values {
            _ if !self.written => Write::None,
            Some(values) if found.row.is_none() => Write::Insert(values),
            Some(values) => Write::Update(values),
            None if found.row.is_none() => Write::None,
            None => Write::Delete,
        };
        // A fence that is under way is waited for.
        let under_way = found.unsettled.filter(|_| !turns.is_empty());
        let unsettled = match self.row {
            _ if self.settled => None,
            _ if under_way.is_some() => under_way,
            // A fence that has come back goes on to count for the row as it was then.
            Row::Locked => Some(found.unsettled.unwrap_or(Unsettled::ForRow)),
            row => Some(Unsettled::ForFence { id: None, row }),
        };
        let asks = matches!(unsettled, Some(Unsettled::ForFence { id: None, .. }));
        let mut first: BTreeMap<(String, u32), (Option<u64>, Option<u64>)> = BTreeMap::new();
        for (records, is_now) in [(&found.held, false), (&self.held, true)] {
            for record in records {
                let (then, now) = first.entry((record.origin.clone(), record.partition)).or_default();
                let slot = if is_now { now } else { then };
                *slot = Some(slot.map_or(record.offset, |offset| offset.min(record.offset)));
            }
        }
        let held = first.into_iter().filter(|(_, (then, now))| then != now);
        let held = held.map(|((origin, partition), (_, from))| Holding { origin, partition, from }).collect();
        let entry = self.state.map(|state| {
            let is_tombstone = self.plan.is_forgettable(&state);
            StateEntry { state, is_tombstone, noted: self.noted, held: self.held, unsettled }
        });
        let entry = entry.filter(|entry| {
            (Some(&entry.state), entry.noted, &entry.held, entry.unsettled)
                != (found.state.as_ref(), found.noted, &found.held, found.unsettled)
        });
        Ok(Resolution { write, entry, discarded, held, asks })
    }
}
