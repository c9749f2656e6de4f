//! What the poll thread and the lanes tell each other.

use std::sync::mpsc::SyncSender;

use crate::chunk::Chunk;

/// What the lanes and the run ask of the poll thread. Commands about a partition name the assignment they mean, since
/// it may have gone and come back in the meantime.
#[derive(Debug)]
pub enum Command {
    /// Read these topics.
    Subscribe(Vec<String>),
    /// Fetch a partition from `offset`, whatever was fetched of it before. Its records carry the number `run`.
    Fetch {
        /// The partition.
        place: Place,
        /// Tells records fetched before from those fetched after.
        run: u64,
        /// The first offset.
        offset: i64,
    },
    /// Fetch no more of a partition until told otherwise.
    Hold {
        /// The partition.
        place: Place,
    },
    /// The target's progress of a partition as it starts, and what Kafka holds for it.
    Own {
        /// The partition.
        place: Place,
        /// The offset to apply next.
        next_offset: i64,
        /// The group's offset.
        committed: Option<i64>,
    },
    /// Records are in the target.
    Finish {
        /// The partition.
        place: Place,
        /// The first offset.
        from: i64,
        /// Behind the last.
        to: i64,
    },
    /// Tell Kafka what is finished, leave the group and end.
    End,
}

/// A partition during one assignment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Grows with every assignment.
    pub assignment: u64,
}

/// What the poll thread tells a lane.
#[derive(Debug)]
pub enum Event {
    /// A partition has become ours.
    Assign(Place),
    /// Records of a partition, fetched as [`Command::Fetch`] with this number asked.
    Records {
        /// The number.
        run: u64,
        /// The records.
        chunk: Chunk,
    },
    /// Partitions are taken from us: drop what is queued, finish what is under way, then answer.
    Revoke {
        /// The partitions.
        places: Vec<Place>,
        /// Takes the answer.
        done: SyncSender<()>,
    },
    /// Kafka does not hold what was asked for: look again.
    Recheck,
}
