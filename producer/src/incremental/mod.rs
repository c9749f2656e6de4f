//! Incremental snapshots: tables are read in chunks while the log is followed, without a lock and without writing to
//! the source's tables (DBLog's idea, with transaction ids for watermarks).
//!
//! # A chunk
//!
//! A chunk is the next rows in key order, read in one REPEATABLE READ transaction that locks the table against DDL
//! (ACCESS SHARE) before its snapshot is taken. Two facts come with it: the snapshot S, and a log position L read
//! behind S. A commit is in the log before it is visible, so **everything S sees was committed before L**.
//!
//! A *boundary* B is a log position between two delivered transactions: everything delivered before was committed
//! below B, everything later will be at B or above (the commit LSN in a Begin, the end LSN of a Commit, the position in
//! a keepalive between transactions). The chunk's rows go out at the first boundary B >= L, minus the rows whose keys
//! were changed by a delivered transaction that S does not see. So at B:
//!
//! - what S sees has been delivered: a row is never behind the stream and never overwritten by an older change later;
//! - what S does not see and has been delivered touched none of the rows that are sent: no row overwrites a newer
//!   change;
//! - what S does not see and was not delivered comes later, as usual.
//!
//! "Delivered but not seen" is rare but real: a commit is in the log, and sent, before it becomes visible, by
//! microseconds, or by as long as a synchronous standby takes. Three measures cover it, whenever the transaction was
//! delivered:
//!
//! - between question and answer: the keys it touched are remembered and dropped from the answer;
//! - before the question, but after the watch of the table began: its id is remembered; an answer that does not see
//!   it is read again;
//! - before the watch began (perhaps in an earlier life of the producer): the watch begins with a list of everyone
//!   who holds a writer's lock on the table, and no chunk is read before these transactions are over. Locks are held
//!   until a commit is visible, so whoever is not in the list is visible.
//!
//! The same list covers a table that is new in the publication: a transaction that wrote to it before that is in the
//! log without these rows, and over before the first chunk is read.
//!
//! An update with unchanged (TOASTed) columns does not hold the whole row. If it is the reason to drop a row of a
//! chunk, the chunk is read again while the stream waits. If its row is not in the target yet, the target passes over
//! it (the header says `filling`): the row comes whole with a later chunk.
//!
//! # Positions
//!
//! Rows and markers at a boundary B have the position (epoch, stream, B - 1, term and count). LSNs are aligned, so
//! B - 1 is no transaction's; it lies above everything delivered before and below everything later. So the order in
//! which records are enqueued stays the order of their positions.
//!
//! Across restarts: a new life repeats the stream from the checkpoint at the same positions, which consumers skip, and
//! reads the unfinished chunk again with another snapshot, at another position. That position is above everything an
//! earlier life has sent: the walsender only sends what is flushed, L was read after this life took the slot, and
//! B >= L. On an idle source B may be the same; then the term, which every start takes anew before it does anything,
//! decides. So rows of this life are never skipped. Rows that an earlier life has sent of the same chunk may be there
//! in some partitions and not in others: each was right at its position, and the changes behind it and this life's row
//! follow it in the same partition.
//!
//! A record of an earlier life that arrives late (a frozen process) is either below the partition's last position and
//! skipped, or it continues an unbroken sequence of that life, which holds the stream's changes up to it, too.
//!
//! The state (which tables, how far) is in the checkpoint, as of the records that are acknowledged. A chunk counts as
//! read when all its rows are.
//!
//! # Opening a table
//!
//! A table that came into the configuration, or that `syncline resync --table` names, starts with a marker in every
//! partition, at a boundary like a chunk. Where the topic was used before, the marker makes consumers empty the
//! table's rows, for rows may have gone from the source unseen. Of a new table nothing is published before its
//! marker: whatever that leaves out was committed before the marker, and the chunks see it. A life that finds a new
//! table not yet opened empties it, too: an earlier life may have published rows whose deletes this one leaves out.

pub mod engine;
mod query;
mod reader;
pub(crate) mod run;
pub mod state;
pub mod status;
pub mod visible;

#[cfg(test)]
mod simulation;
