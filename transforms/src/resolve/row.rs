//! Last write wins, by whole rows: the change with the highest stamp stays.

use syncline_event::stamp::{Seen, Stamp};

/// A change as the others are told apart from it. Changes of one row are in the order of their stamps, those of one
/// transaction in the order of their offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// When and where it was made.
    pub stamp: Stamp,
    /// What its node had applied by then.
    pub seen: Seen,
    /// The partition of its node's topic.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
}

impl Version {
    /// Its place in the order of all changes of its row, the same on every node.
    #[must_use]
    pub fn order(&self) -> (&Stamp, u64) {
        (&self.stamp, self.offset)
    }

    /// Whether the node that made this change had the other one by then.
    #[must_use]
    pub fn saw(&self, other: &Self) -> bool {
        if self.stamp.origin == other.stamp.origin {
            return self.order() > other.order();
        }
        self.seen.includes(&other.stamp.origin, other.partition, other.offset)
    }

    /// Whether every change of the row that may still come is later and has seen this one, so that its tombstone may
    /// be forgotten if nothing waits for the key. `markers` gives, for each node of the topology, what the last marker
    /// consumed from the key's partition of its topic says that the node had seen, with all that its keys hold back
    /// taken off.
    #[must_use]
    pub fn is_passed<'a>(&self, markers: impl IntoIterator<Item = (&'a str, Option<&'a Seen>)>) -> bool {
        let includes = |seen: &Seen| seen.includes(&self.stamp.origin, self.partition, self.offset);
        markers.into_iter().all(|(node, seen)| node == self.stamp.origin || seen.is_some_and(includes))
    }
}

/// What a change does to its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// The row was not there before, or was there before the first sync.
    Insert,
    /// The row was there.
    Update,
    /// The row is gone.
    Delete,
}

/// The change that made a row what it is; of a row that is gone, the one that removed it (a tombstone).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The change.
    pub version: Version,
    /// Whether the row is gone.
    pub deleted: bool,
}

/// What is wrong between two changes of which neither saw the other. The names are those of EDB Postgres Distributed
/// (its manual, "Conflicts"), where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConflictType {
    /// Both inserted the row.
    InsertExists,
    /// Both updated the row.
    UpdateUpdate,
    /// The update's row is not there, and nothing is known of it.
    UpdateMissing,
    /// One updated, the other removed the row.
    UpdateRecentlyDeleted,
    /// One inserted, the other removed the row.
    InsertRecentlyDeleted,
    /// One removed, the other changed the row.
    DeleteRecentlyUpdated,
    /// The delete's row is not there, and nothing is known of it.
    DeleteMissing,
}

impl ConflictType {
    /// Its name in tables and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InsertExists => "insert_exists",
            Self::UpdateUpdate => "update_update",
            Self::UpdateMissing => "update_missing",
            Self::UpdateRecentlyDeleted => "update_recently_deleted",
            Self::InsertRecentlyDeleted => "insert_recently_deleted",
            Self::DeleteRecentlyUpdated => "delete_recently_updated",
            Self::DeleteMissing => "delete_missing",
        }
    }
}

/// What becomes of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the row becomes what the change says; else it stays as it is.
    pub takes: bool,
    /// Set where the one that stays had not seen the one that goes.
    pub conflict: Option<ConflictType>,
}

/// Compares a change with what is known of its row.
#[must_use]
pub fn decide(operation: Operation, incoming: &Version, stored: Option<&Stored>) -> Decision {
    let Some(stored) = stored else {
        let conflict = match operation {
            Operation::Insert => None,
            Operation::Update => Some(ConflictType::UpdateMissing),
            Operation::Delete => Some(ConflictType::DeleteMissing),
        };
        return Decision { takes: true, conflict };
    };
    let takes = incoming.order() > stored.version.order();
    let (winner, loser) = if takes { (incoming, &stored.version) } else { (&stored.version, incoming) };
    let known = winner.order() == loser.order() || winner.saw(loser);
    let conflict = if known { None } else { conflict(operation, stored.deleted) };
    Decision { takes, conflict }
}

/// What to call it when neither of two changes saw the other.
pub(super) fn conflict(operation: Operation, deleted: bool) -> Option<ConflictType> {
    Some(match (operation, deleted) {
        (Operation::Insert, false) => ConflictType::InsertExists,
        (Operation::Insert, true) => ConflictType::InsertRecentlyDeleted,
        (Operation::Update, false) => ConflictType::UpdateUpdate,
        (Operation::Update, true) => ConflictType::UpdateRecentlyDeleted,
        (Operation::Delete, false) => ConflictType::DeleteRecentlyUpdated,
        // Both wanted the same.
        (Operation::Delete, true) => return None,
    })
}
