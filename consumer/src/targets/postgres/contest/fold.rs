//! What becomes of one row's changes: compared with what is known of the row, one after the other. Decisions only.
//!
//! `known` is the heart of it: the row is what the stored change made of it, and no write of this node is on its way
//! that has no stamp yet. Only then may another node's change be compared; otherwise it waits behind a fence.

use syncline_transforms::resolve::row::{ConflictType, Decision, Operation, Stored, Version, decide};
use syncline_transforms::resolve::state::State;

/// What the database holds about a key.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// The change that made the row what it is.
    pub(super) stored: Option<Stored>,
    /// The row's `xmin` as that change left it.
    pub(super) noted: Option<u32>,
    /// The row's `xmin`; `None` where there is no row.
    pub(super) row: Option<u32>,
    /// Whether the row is ours until the end of the transaction; true where there is none.
    pub(super) locked: bool,
    /// Whether earlier records of the key wait.
    pub(super) waits: bool,
    /// What is known of the row where its table's rule looks at more than stamps.
    pub(super) state: Option<State>,
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
    /// The fence it waits for, if it does.
    pub(super) fence: Fence,
}

/// How far a change is with waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fence {
    /// It has not waited.
    None,
    /// It has come back: what was committed before it has been taken in. With the row's `xmin` when it was sent.
    Returned(Option<u32>),
}

/// A conflict that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conflict {
    /// The turn.
    pub(super) turn: usize,
    pub(super) kind: ConflictType,
    /// Whether the turn's change stays; else what was there.
    pub(super) takes: bool,
    /// What was there; `None` for a write of this node that has no stamp yet.
    pub(super) stored: Option<Stored>,
    /// The turn that put it there, if it is one of these.
    pub(super) over: Option<usize>,
}

/// The row's `xmin` from now on, as far as the stored change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    /// This.
    Xmin(Option<u32>),
    /// This transaction's.
    Mine,
}

/// What becomes of a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The turn whose change has to be written.
    pub(super) write: Option<usize>,
    /// What is known of the row from now on, where that changed.
    pub(super) entry: Option<(Option<Stored>, Note)>,
    pub(super) conflicts: Vec<Conflict>,
    /// Turns that wait.
    pub(super) waits: Vec<usize>,
    /// Whether a fence has to be sent for them: the row is locked, and shows a write that has no stamp yet.
    pub(super) asks: bool,
    /// The node's own changes that lost though the row still shows them: something is wrong with the bookkeeping.
    pub(super) astray: bool,
}

/// The row as it stands within the fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    /// As it was found.
    Found(Option<u32>),
    /// As an earlier turn made it.
    Written,
}

struct Standing {
    stored: Option<Stored>,
    note: Note,
    row: Row,
    last_write: Option<usize>,
    changed: bool,
}

impl Standing {
    fn is_known(&self) -> bool {
        let gone = self.stored.as_ref().is_none_or(|stored| stored.deleted);
        match self.row {
            Row::Written => true,
            Row::Found(None) => gone,
            Row::Found(xmin) => !gone && self.note == Note::Xmin(xmin),
        }
    }

    fn store(&mut self, turn: &Turn<'_>, note: Note) {
        let deleted = turn.operation == Operation::Delete;
        self.stored = Some(Stored { version: turn.version.clone(), deleted });
        self.note = note;
        self.changed = true;
    }

    fn write(&mut self, index: usize, turn: &Turn<'_>, outcome: &mut Outcome) {
        self.store(turn, Note::Mine);
        self.row = Row::Written;
        self.last_write = Some(index);
        outcome.write = Some(index);
    }
}

/// Takes the turns one after the other; this node's own ones should come first. `before` stands for a row that was
/// there before the first sync and that no snapshot has brought.
pub(super) fn fold(found: &Found, turns: &[Turn<'_>], before: &Version) -> Outcome {
    let mut outcome = Outcome::default();
    let mut state = Standing {
        stored: found.stored.clone(),
        note: Note::Xmin(found.noted),
        row: Row::Found(found.row),
        last_write: None,
        changed: false,
    };
    for (index, turn) in turns.iter().enumerate() {
        if turn.own {
            take_own(&mut state, index, turn, &mut outcome);
        } else {
            take_other(&mut state, index, turn, (found, before), &mut outcome);
        }
    }
    outcome.entry = state.changed.then_some((state.stored, state.note));
    outcome
}

/// The row has this node's own changes already: they bring stamps.
fn take_own(state: &mut Standing, index: usize, turn: &Turn<'_>, outcome: &mut Outcome) {
    let decision = decide(turn.operation, turn.version, state.stored.as_ref());
    note_conflict(state, index, decision, outcome);
    let in_row = matches!(state.row, Row::Found(Some(xmin)) if xmin == turn.transaction && turn.transaction != 0);
    if !decision.takes {
        outcome.astray |=
            in_row && state.stored.as_ref().is_some_and(|stored| stored.version.stamp != turn.version.stamp);
        return;
    }
    if is_overwritten(state, turn, in_row) {
        state.write(index, turn, outcome);
        return;
    }
    let note = match state.row {
        Row::Found(xmin) if in_row => Note::Xmin(xmin),
        // A later write of this node, or one in a subtransaction: not known until its record or a fence comes.
        Row::Found(_) | Row::Written => Note::Xmin(None),
    };
    state.store(turn, note);
}

/// Whether another node's change was written over a change of this node before that one had a stamp: where it turns out
/// to be the later one, it has to come back. Nobody has written the row since, so it would not come by itself.
fn is_overwritten(state: &Standing, turn: &Turn<'_>, in_row: bool) -> bool {
    match state.row {
        // By another one of these turns.
        Row::Written => true,
        // What the stored change made it, and that is not this one.
        Row::Found(Some(_)) => state.is_known() && !in_row,
        // A row that is gone tells no more, but the change that removed it does.
        Row::Found(None) => state.stored.as_ref().is_some_and(|stored| {
            let of_other = stored.version.stamp.origin != turn.version.stamp.origin;
            stored.deleted && of_other && !turn.version.saw(&stored.version)
        }),
    }
}

fn take_other(
    state: &mut Standing,
    index: usize,
    turn: &Turn<'_>,
    (found, before): (&Found, &Version),
    outcome: &mut Outcome,
) {
    if !outcome.waits.is_empty() || found.waits {
        outcome.waits.push(index);
        return;
    }
    if !state.is_known() {
        match turn.fence {
            Fence::Returned(sent) if found.locked && sent == found.row => {
                // Nothing was written since: what is stored made the row what it is.
                state.note = Note::Xmin(found.row);
                state.changed = true;
                match &mut state.stored {
                    Some(stored) => stored.deleted = found.row.is_none(),
                    None if found.row.is_some() => {
                        state.stored = Some(Stored { version: before.clone(), deleted: false });
                    }
                    None => {}
                }
            }
            Fence::Returned(_) if found.locked => {
                // Written since the fence, so later than this change, whatever stamp it gets.
                let kind = match (turn.operation, found.row) {
                    (Operation::Insert, Some(_)) => ConflictType::InsertExists,
                    (Operation::Insert, None) => ConflictType::InsertRecentlyDeleted,
                    (Operation::Update, Some(_)) => ConflictType::UpdateUpdate,
                    (Operation::Update, None) => ConflictType::UpdateRecentlyDeleted,
                    (Operation::Delete, Some(_)) => ConflictType::DeleteRecentlyUpdated,
                    (Operation::Delete, None) => return,
                };
                outcome.conflicts.push(Conflict { turn: index, kind, takes: false, stored: None, over: None });
                return;
            }
            Fence::Returned(_) | Fence::None => {
                outcome.asks = found.locked;
                outcome.waits.push(index);
                return;
            }
        }
    } else if !found.locked {
        outcome.waits.push(index);
        return;
    }
    let decision = decide(turn.operation, turn.version, state.stored.as_ref());
    note_conflict(state, index, decision, outcome);
    if decision.takes {
        state.write(index, turn, outcome);
    }
}

fn note_conflict(state: &Standing, turn: usize, decision: Decision, outcome: &mut Outcome) {
    if let Some(kind) = decision.conflict {
        let (stored, over) = (state.stored.clone(), state.last_write);
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
        Turn { operation, version, transaction, own, fence: Fence::None }
    }

    fn row(stored: Version, noted: u32, row: u32) -> Found {
        let stored = Some(Stored { version: stored, deleted: false });
        Found { stored, noted: Some(noted), row: Some(row), locked: true, ..Found::default() }
    }

    fn before() -> Version {
        version("a", 0, 0)
    }

    #[test]
    fn a_change_is_compared_only_with_a_row_that_is_known() {
        let theirs = version("b", 20, 0);
        let theirs = [turn(&theirs, Operation::Update, 0)];
        let known = fold(&row(version("a", 10, 0), 7, 7), &theirs, &before());
        assert_eq!((known.write, known.waits.len()), (Some(0), 0));
        let unknown = fold(&row(version("a", 10, 0), 7, 8), &theirs, &before());
        assert_eq!((unknown.write, unknown.waits.len(), unknown.asks), (None, 1, true));
        let locked = Found { locked: false, ..row(version("a", 10, 0), 7, 7) };
        let locked = fold(&locked, &theirs, &before());
        assert_eq!((locked.write, locked.waits.len(), locked.asks), (None, 1, false));
        let behind = Found { waits: true, ..row(version("a", 10, 0), 7, 7) };
        assert_eq!(fold(&behind, &theirs, &before()).waits, [0]);
    }

    #[test]
    fn own_changes_come_first_and_make_the_row_known() {
        let (mine, theirs) = (version("a", 30, 1), version("b", 20, 0));
        let turns = [turn(&mine, Operation::Update, 8), turn(&theirs, Operation::Update, 0)];
        let outcome = fold(&row(version("a", 10, 0), 7, 8), &turns, &before());
        assert_eq!((outcome.write, outcome.waits.len(), outcome.conflicts.len()), (None, 0, 1));
        let stored = Stored { version: mine.clone(), deleted: false };
        assert_eq!(outcome.entry, Some((Some(stored), Note::Xmin(Some(8)))));
    }

    #[test]
    fn behind_a_fence_a_changed_row_is_later_and_an_unchanged_one_is_known() {
        let theirs = version("b", 20, 0);
        let fenced = |sent| [Turn { fence: Fence::Returned(sent), ..turn(&theirs, Operation::Update, 0) }];
        let found = row(version("a", 10, 0), 7, 8);
        assert_eq!(fold(&found, &fenced(Some(8)), &before()).write, Some(0));
        let changed = fold(&found, &fenced(Some(9)), &before());
        assert_eq!((changed.write, changed.waits.len(), changed.conflicts[0].stored.clone()), (None, 0, None));
        let held = Found { locked: false, ..found };
        let held = fold(&held, &fenced(Some(9)), &before());
        assert_eq!((held.waits.len(), held.asks), (1, false));
    }

    #[test]
    fn a_row_from_before_the_first_sync_has_a_stamp_behind_a_fence() {
        let theirs = Version { stamp: Stamp { clock_us: 0, counter: 9, origin: "b".into() }, ..version("b", 0, 0) };
        let turns = [Turn { fence: Fence::Returned(Some(8)), ..turn(&theirs, Operation::Insert, 0) }];
        let found = Found { row: Some(8), locked: true, ..Found::default() };
        let outcome = fold(&found, &turns, &before());
        assert_eq!((outcome.write, outcome.conflicts[0].kind), (Some(0), ConflictType::InsertExists));
    }

    #[test]
    fn an_own_change_that_was_written_over_comes_back() {
        let (mine, gone) = (version("a", 30, 1), version("a", 31, 2));
        let turns = [turn(&mine, Operation::Insert, 8), turn(&gone, Operation::Delete, 9)];
        // The other node's row was put there while nothing told of mine.
        let outcome = fold(&row(version("b", 20, 0), 7, 7), &turns, &before());
        assert_eq!(outcome.write, Some(1));
        let outcome = fold(&row(version("b", 20, 0), 7, 7), &turns[..1], &before());
        assert_eq!(outcome.write, Some(0));
        // A later write of this node stands in the row: its own record decides.
        let outcome = fold(&row(version("b", 20, 0), 7, 10), &turns[..1], &before());
        assert_eq!(outcome.write, None);
        // An insert that has been deleted again must not come back for a while.
        let absent = Found { locked: true, ..Found::default() };
        assert_eq!(fold(&absent, &turns[..1], &before()).write, None);
    }
}
