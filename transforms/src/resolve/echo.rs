//! Last write wins on a node with writers of its own: whether a row may be touched yet.
//!
//! A local write is in its row at once, but has no stamp until it has come back through the node's own topic. What is
//! known of a row is its entry: the change that made it so, and the `xmin` that change left in it. Another `xmin` is
//! that of a local write on its way. A change of another node then waits behind a fence: when the fence's markers
//! have come back, every local write committed before the fence has been recorded, and every later one has a higher
//! stamp, because the fence carries the stamps of what waits.
//!
//! An absent row has neither a lock nor an `xmin`. Two things follow. A change that brings a row is guarded by the
//! table's key: it writes only where no other transaction has inserted, and is decided again where one has. And a row
//! may have come and gone again unrecorded, so an own removal that turns out to be the later change is done again.
//!
//! A record may come back before its transaction is visible, which a commit is only after it is in the log. So own
//! records and markers are taken when the applying transaction sees the transactions of all own records up to them.
//!
//! A row that was written in a subtransaction, read by a snapshot, or rewritten by `ALTER TABLE` has an `xmin` that no
//! record names. It costs a fence, and is noted by then.

use super::row::{ConflictType, Decision, Operation, Stored, Version, decide};

/// The row of a key as the applying transaction finds it. The entry is locked before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// Not there, as far as it is visible.
    Absent,
    /// There, and locked by this transaction.
    Present {
        /// The row's `xmin`.
        xmin: u32,
    },
    /// Another transaction holds it, or is about to insert it: nothing is known.
    Locked,
}

/// How far the fence of a waiting change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// None has been sent.
    None,
    /// All its markers have been consumed.
    Returned {
        /// The row when the fence was sent, while the transaction held it.
        row: Row,
    },
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The change with the highest stamp.
    pub stored: Stored,
    /// The `xmin` of the row as it is known; none while it is not.
    pub noted_xmin: Option<u32>,
}

/// What to do with another node's change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Do what the decision says. Where it takes, the row is written whole (inserted only if the key is free; if it is
    /// not, ask again with what is there), and the entry notes the `xmin` it has then, or none for a removal.
    Decide(Decision),
    /// Set it aside, with those of its key and partition that come behind it; send a fence with its stamp, keep what
    /// the row is now, and ask again when the fence has returned.
    Wait,
}

/// A change of another node.
#[must_use]
pub fn remote(operation: Operation, incoming: &Version, entry: Option<&Entry>, row: Row, fence: Fence) -> Step {
    let mut decision = decide(operation, incoming, entry.map(|entry| &entry.stored));
    if entry.is_none() && row != Row::Absent {
        // The row was there before anything was recorded.
        decision.conflict = (operation == Operation::Insert).then_some(ConflictType::InsertExists);
    }
    // What loses touches no row, and what is on its way there can only be later than the entry.
    if !decision.takes || is_known(operation, entry, row, fence) {
        return Step::Decide(decision);
    }
    Step::Wait
}

/// Whether no local write is on its way that the change would have to be compared with.
fn is_known(operation: Operation, entry: Option<&Entry>, row: Row, fence: Fence) -> bool {
    let gone = entry.is_none_or(|entry| entry.stored.deleted);
    match (row, fence) {
        (Row::Locked, _) => false,
        (Row::Present { .. }, Fence::Returned { row: then }) if then == row => true,
        (Row::Present { xmin }, _) => entry.is_some_and(|entry| entry.noted_xmin == Some(xmin)),
        (Row::Absent, Fence::Returned { row: Row::Absent }) => true,
        (Row::Absent, Fence::Returned { .. }) => gone,
        // A removal leaves nothing that an insert on its way would run into.
        (Row::Absent, Fence::None) => gone && operation != Operation::Delete,
    }
}

/// What an own change says about its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// Where it takes, the entry's change is this one; else the entry keeps its own.
    pub decision: Decision,
    /// The entry's from now on.
    pub noted_xmin: Option<u32>,
    /// What is to be done to the row.
    pub repair: Repair,
}

/// What becomes of a row that is there although its entry says that it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Nothing is to be done, or a later own change will.
    None,
    /// Remove it.
    Remove,
    /// It is locked: send a fence, and ask [`repair`] when it has returned.
    Later,
}

/// A change of this node, come back. Unless it is a removal its row need not be locked: an `xmin` that was read does.
#[must_use]
pub fn own(operation: Operation, incoming: &Version, transaction: u32, entry: Option<&Entry>, row: Row) -> Own {
    let mut decision = decide(operation, incoming, entry.map(|entry| &entry.stored));
    if entry.is_none() {
        decision.conflict = None;
    }
    let noted = entry.and_then(|entry| entry.noted_xmin);
    let deleted = operation == Operation::Delete;
    let noted_xmin = match row {
        _ if !decision.takes => noted,
        Row::Present { xmin } if xmin == transaction && !deleted => Some(xmin),
        Row::Absent => None,
        // The transaction has inserted the row again behind this removal.
        _ if deleted && noted == Some(transaction) => None,
        _ => noted,
    };
    let repair = if decision.takes && deleted { repair(true, noted_xmin, row) } else { Repair::None };
    Own { decision, noted_xmin, repair }
}

/// Whether a row has to go: its entry says that it is gone, and no local write has touched it since it was noted.
#[must_use]
pub fn repair(deleted: bool, noted_xmin: Option<u32>, row: Row) -> Repair {
    match row {
        Row::Present { xmin } if deleted && noted_xmin == Some(xmin) => Repair::Remove,
        Row::Locked if deleted && noted_xmin.is_some() => Repair::Later,
        _ => Repair::None,
    }
}
