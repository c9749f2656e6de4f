//! What becomes of one row's changes, one after the other: [`echo`] decides, here it is kept what the row is meanwhile.

use syncline_transforms::resolve::echo::{self, Entry, Repair, Row, Step};
use syncline_transforms::resolve::row::{ConflictType, Decision, Operation, Stored, Version};
use syncline_transforms::resolve::show::HeldRecord;
use syncline_transforms::resolve::state::{Image, State};

use super::system::Tid;

/// What the database holds about a key.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// Where the entry is, a `ctid`.
    pub(super) place: Tid,
    /// What a new entry was made with, though nothing is known yet.
    pub(super) guessed: Option<Entry>,
    /// Whether the key is among the tombstones, though its row may have come back.
    pub(super) in_tombstones: bool,
    /// What is known of the row.
    pub(super) entry: Option<Entry>,
    /// The row's `xmin`; `None` where there is no row.
    pub(super) row: Option<u32>,
    /// Where the row is, a `ctid`, unless it is in a partition.
    pub(super) row_place: Option<Tid>,
    /// Whether the row is ours until the end of the transaction; true where there is none and one could be inserted.
    pub(super) locked: bool,
    /// Whether earlier records of the key wait.
    pub(super) waits: bool,
    /// What is known of the row where its table's rule looks at more than stamps.
    pub(super) state: Option<State>,
    /// The row's `xmin` as that state left it.
    pub(super) noted: Option<u32>,
    /// Records that are in the state and not in the row.
    pub(super) held: Vec<HeldRecord>,
    /// Set while the row has to be looked at again.
    pub(super) unsettled: Option<Unsettled>,
    /// The row's values, where they count.
    pub(super) values: Option<Image>,
}

/// What a row waits for that does not show all of its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsettled {
    /// Somebody else had it locked.
    ForRow,
    /// A fence; none has been sent while it has no number.
    ForFence {
        id: Option<u64>,
        /// The row when it was sent.
        row: Row,
    },
}

impl Unsettled {
    /// The fence as it has come back.
    pub(super) fn returned(self) -> echo::Fence {
        match self {
            Self::ForRow => echo::Fence::None,
            Self::ForFence { row, .. } => echo::Fence::Returned { row },
        }
    }
}

impl Found {
    /// Where the row is, if it is ours.
    pub(super) fn locked_place(&self) -> Option<Tid> {
        self.row_place.filter(|_| self.locked && self.row.is_some())
    }

    pub(super) fn row(&self) -> Row {
        match self.row {
            _ if !self.locked => Row::Locked,
            None => Row::Absent,
            Some(xmin) => Row::Present { xmin },
        }
    }
}

/// A change's turn.
#[derive(Debug, Clone)]
pub(super) struct Turn<'a> {
    pub(super) operation: Operation,
    pub(super) version: &'a Version,
    /// The id of its transaction at its origin.
    pub(super) transaction: u32,
    /// Whether it is this node's own.
    pub(super) own: bool,
    /// How far it is with waiting.
    pub(super) waited: Waited,
}

/// How far a change is with waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// It has just come.
    No,
    /// For a row that somebody else had locked.
    ForRow,
    /// For a fence, which has come back; with the row's `xmin` when it was sent.
    ForFence(Option<u32>),
}

impl Waited {
    /// Whether it has been set aside before.
    pub(super) fn was_aside(self) -> bool {
        self != Self::No
    }

    fn fence(self) -> echo::Fence {
        match self {
            Self::No | Self::ForRow => echo::Fence::None,
            Self::ForFence(None) => echo::Fence::Returned { row: Row::Absent },
            Self::ForFence(Some(xmin)) => echo::Fence::Returned { row: Row::Present { xmin } },
        }
    }
}

/// A conflict that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conflict {
    /// The turn.
    pub(super) turn: usize,
    pub(super) kind: ConflictType,
    /// Whether the turn's change stays; else what was there.
    pub(super) takes: bool,
    /// What was there.
    pub(super) stored: Option<Stored>,
    /// The turn that put it there, if it is one of these.
    pub(super) over: Option<usize>,
}

/// What becomes of a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The turn whose change has to be written.
    pub(super) write: Option<usize>,
    /// Whether it may be written only if nobody else has put a row there.
    pub(super) inserts: bool,
    /// The last turn that brings the row, though a later one may remove it.
    pub(super) brings: Option<usize>,
    /// What is known of the row from now on, where that changed.
    pub(super) entry: Option<Entry>,
    pub(super) conflicts: Vec<Conflict>,
    /// Turns that wait.
    pub(super) waits: Vec<usize>,
    /// Whether a fence has to be sent for them; else they wait for the row.
    pub(super) asks: bool,
}

impl Outcome {
    /// The turn whose row is inserted. So is one that is removed again at once: a row that somebody else has put there
    /// unseen is found by its key alone.
    pub(super) fn inserted(&self) -> Option<usize> {
        self.brings.filter(|_| self.inserts)
    }
}

/// Takes the turns one after the other; this node's own ones should come first. `mine` is this transaction's id, and
/// `before` stands for a row that was there before the first sync and that no snapshot has brought.
pub(super) fn fold(found: &Found, turns: &[Turn<'_>], mine: u32, before: &Version) -> Outcome {
    let mut outcome = Outcome::default();
    let mut standing = Standing { entry: found.entry.clone(), row: found.row(), mine };
    for (index, turn) in turns.iter().enumerate() {
        if turn.own {
            standing.take_own(index, turn, &mut outcome);
            continue;
        }
        if !outcome.waits.is_empty() || found.waits {
            outcome.waits.push(index);
            continue;
        }
        let fence = turn.waited.fence();
        if let (None, Row::Present { xmin }, echo::Fence::Returned { row }) = (&standing.entry, standing.row, fence)
            && row == standing.row
        {
            let stored = Stored { version: before.clone(), deleted: false };
            standing.entry = Some(Entry { stored, noted_xmin: Some(xmin) });
        }
        match echo::remote(turn.operation, turn.version, standing.entry.as_ref(), standing.row, fence) {
            Step::Decide(decision) => {
                standing.note_conflict(index, decision, &mut outcome);
                if decision.takes {
                    standing.write(index, turn, &mut outcome);
                }
            }
            Step::Wait => {
                outcome.asks = standing.row != Row::Locked;
                outcome.waits.push(index);
            }
        }
    }
    outcome.inserts = found.row.is_none();
    outcome.entry = standing.entry.filter(|entry| found.entry.as_ref() != Some(entry));
    outcome
}

/// What will most likely be known of a row, of which nothing is known so far, once its changes are taken.
pub(super) fn likely(turns: &[Turn<'_>], mine: u32, before: &Version) -> Option<Entry> {
    let own = turns.iter().rfind(|turn| turn.own && turn.operation != Operation::Delete);
    let row = own.map(|turn| turn.transaction);
    fold(&Found { row, locked: true, ..Found::default() }, turns, mine, before).entry
}

/// The row as it stands within the fold.
struct Standing {
    entry: Option<Entry>,
    row: Row,
    mine: u32,
}

impl Standing {
    fn store(&mut self, turn: &Turn<'_>, noted_xmin: Option<u32>) {
        let deleted = turn.operation == Operation::Delete;
        self.entry = Some(Entry { stored: Stored { version: turn.version.clone(), deleted }, noted_xmin });
    }

    fn write(&mut self, index: usize, turn: &Turn<'_>, outcome: &mut Outcome) {
        let deleted = turn.operation == Operation::Delete;
        self.store(turn, (!deleted).then_some(self.mine));
        self.row = if deleted { Row::Absent } else { Row::Present { xmin: self.mine } };
        outcome.write = Some(index);
        outcome.brings = if deleted { outcome.brings } else { Some(index) };
    }

    /// The row has this node's own changes already: they bring stamps.
    fn take_own(&mut self, index: usize, turn: &Turn<'_>, outcome: &mut Outcome) {
        let repair = if turn.waited == Waited::No {
            let own = echo::own(turn.operation, turn.version, turn.transaction, self.entry.as_ref(), self.row);
            self.note_conflict(index, own.decision, outcome);
            if own.decision.takes {
                self.store(turn, own.noted_xmin);
            }
            own.repair
        } else {
            let entry = self.entry.as_ref();
            let noted_xmin = entry.and_then(|entry| entry.noted_xmin);
            echo::repair(entry.is_some_and(|entry| entry.stored.deleted), noted_xmin, self.row)
        };
        match repair {
            Repair::None => {}
            Repair::Remove => {
                self.row = Row::Absent;
                if let Some(entry) = &mut self.entry {
                    entry.noted_xmin = None;
                }
                outcome.write = Some(index);
            }
            Repair::Later => outcome.waits.push(index),
        }
    }

    fn note_conflict(&self, turn: usize, decision: Decision, outcome: &mut Outcome) {
        let Some(kind) = decision.conflict else { return };
        let stored = self.entry.as_ref().map(|entry| entry.stored.clone());
        let over = outcome.write;
        outcome.conflicts.push(Conflict { turn, kind, takes: decision.takes, stored, over });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_event::stamp::{Seen, Stamp};

    fn version(origin: &str, clock_us: u64, offset: u64) -> Version {
        let stamp = Stamp { clock_us, counter: 0, origin: origin.into() };
        Version { stamp, seen: Seen::default(), partition: 0, offset }
    }

    fn turn(version: &Version, operation: Operation, transaction: u32) -> Turn<'_> {
        let own = version.stamp.origin == "a";
        Turn { operation, version, transaction, own, waited: Waited::No }
    }

    fn row(stored: Version, noted: u32, row: u32) -> Found {
        let entry = Entry { stored: Stored { version: stored, deleted: false }, noted_xmin: Some(noted) };
        Found { entry: Some(entry), row: Some(row), locked: true, ..Found::default() }
    }

    fn taken(found: &Found, turns: &[Turn<'_>]) -> Outcome {
        fold(found, turns, 99, &version("a", 0, 0))
    }

    #[test]
    fn a_change_is_compared_only_with_a_row_that_is_known() {
        let theirs = version("b", 20, 0);
        let theirs = [turn(&theirs, Operation::Update, 0)];
        let known = taken(&row(version("a", 10, 0), 7, 7), &theirs);
        assert_eq!((known.write, known.waits.len()), (Some(0), 0));
        let unknown = taken(&row(version("a", 10, 0), 7, 8), &theirs);
        assert_eq!((unknown.write, unknown.waits.len(), unknown.asks), (None, 1, true));
        let locked = Found { locked: false, ..row(version("a", 10, 0), 7, 7) };
        let locked = taken(&locked, &theirs);
        assert_eq!((locked.write, locked.waits.len(), locked.asks), (None, 1, false));
        let behind = Found { waits: true, ..row(version("a", 10, 0), 7, 7) };
        assert_eq!(taken(&behind, &theirs).waits, [0]);
    }

    #[test]
    fn a_new_entry_is_made_with_what_is_known_in_the_end_unless_a_row_is_there() {
        let (mine, theirs) = (version("a", 30, 1), version("b", 20, 0));
        let free = Found { locked: true, ..Found::default() };
        let there = Found { row: Some(8), ..free.clone() };
        let likely = |turns: &[Turn<'_>]| likely(turns, 99, &version("a", 0, 0));
        let theirs = turn(&theirs, Operation::Insert, 0);
        let known = Entry { stored: Stored { version: theirs.version.clone(), deleted: false }, noted_xmin: Some(99) };
        assert_eq!(likely(std::slice::from_ref(&theirs)), Some(known.clone()));
        assert_eq!(taken(&free, std::slice::from_ref(&theirs)).entry, Some(known));
        assert_eq!(taken(&there, std::slice::from_ref(&theirs)).entry, None, "it waits, so nothing is known yet");
        let own = [turn(&mine, Operation::Insert, 8)];
        assert_eq!(likely(&own), taken(&there, &own).entry);
        let gone = [turn(&mine, Operation::Delete, 8)];
        assert_eq!(likely(&gone), taken(&free, &gone).entry);
    }

    #[test]
    fn own_changes_come_first_and_make_the_row_known() {
        let (mine, theirs) = (version("a", 30, 1), version("b", 20, 0));
        let turns = [turn(&mine, Operation::Update, 8), turn(&theirs, Operation::Update, 0)];
        let outcome = taken(&row(version("a", 10, 0), 7, 8), &turns);
        assert_eq!((outcome.write, outcome.waits.len(), outcome.conflicts.len()), (None, 0, 1));
        let stored = Stored { version: mine.clone(), deleted: false };
        assert_eq!(outcome.entry, Some(Entry { stored, noted_xmin: Some(8) }));
    }

    #[test]
    fn behind_a_fence_an_unchanged_row_is_known() {
        let theirs = version("b", 20, 0);
        let fenced = |sent| [Turn { waited: Waited::ForFence(sent), ..turn(&theirs, Operation::Update, 0) }];
        let found = row(version("a", 10, 0), 7, 8);
        assert_eq!(taken(&found, &fenced(Some(8))).write, Some(0));
        let changed = taken(&found, &fenced(Some(9)));
        assert_eq!((changed.write, changed.waits.len(), changed.asks), (None, 1, true));
    }

    #[test]
    fn a_row_from_before_the_first_sync_has_a_stamp_behind_a_fence() {
        let theirs = Version { stamp: Stamp { clock_us: 0, counter: 9, origin: "b".into() }, ..version("b", 0, 0) };
        let turns = [Turn { waited: Waited::ForFence(Some(8)), ..turn(&theirs, Operation::Insert, 0) }];
        let found = Found { row: Some(8), locked: true, ..Found::default() };
        let outcome = taken(&found, &turns);
        assert_eq!((outcome.write, outcome.conflicts[0].kind), (Some(0), ConflictType::InsertExists));
    }

    #[test]
    fn a_row_that_goes_again_at_once_is_inserted_all_the_same() {
        let (came, gone) = (version("b", 20, 0), version("b", 21, 1));
        let turns = [turn(&came, Operation::Insert, 0), turn(&gone, Operation::Delete, 0)];
        let free = Found { locked: true, ..Found::default() };
        let outcome = taken(&free, &turns);
        assert_eq!((outcome.write, outcome.inserted()), (Some(1), Some(0)));
        let outcome = taken(&row(version("b", 10, 0), 7, 7), &turns);
        assert_eq!((outcome.write, outcome.inserted()), (Some(1), None), "it is there, and locked");
        let outcome = taken(&Found { locked: false, ..free }, &turns);
        assert_eq!((outcome.write, outcome.inserted(), outcome.waits.as_slice()), (None, None, &[0, 1][..]));
    }

    #[test]
    fn an_own_delete_that_was_written_over_is_done_again() {
        let (mine, gone) = (version("a", 30, 1), version("a", 31, 2));
        let turns = [turn(&mine, Operation::Insert, 8), turn(&gone, Operation::Delete, 9)];
        // The other node's row was put there while nothing told of mine.
        let outcome = taken(&row(version("b", 20, 0), 7, 7), &turns);
        assert_eq!(outcome.write, Some(1));
        // A later write of this node stands in the row: its own record decides.
        let outcome = taken(&row(version("b", 20, 0), 7, 10), &turns);
        assert_eq!(outcome.write, None);
    }
}
