//! What becomes of one row's changes: compared with what is known of the row, one after the other. Decisions only.
//!
//! `known` is the heart of it: the row is what the stored change made of it, and no write of this node is on its way
//! that has no stamp yet. Only then may another node's change be compared; otherwise it waits behind a fence.

use syncline_transforms::resolve::row::{ConflictType, Decision, Operation, Stored, Version, decide};

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

struct State {
    stored: Option<Stored>,
    note: Note,
    row: Row,
    last_write: Option<usize>,
    changed: bool,
}

impl State {
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
    let mut state = State {
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
fn take_own(state: &mut State, index: usize, turn: &Turn<'_>, outcome: &mut Outcome) {
    let decision = decide(turn.operation, turn.version, state.stored.as_ref());
    note_conflict(state, index, decision, outcome);
    let in_row = matches!(state.row, Row::Found(Some(xmin)) if xmin == turn.transaction && turn.transaction != 0);
    if !decision.takes {
        outcome.astray |=
            in_row && state.stored.as_ref().is_some_and(|stored| stored.version.stamp != turn.version.stamp);
        return;
    }
    // Another node's change was written over it, before it had a stamp: the later one has to come back.
    let overwritten = state.stored.as_ref().is_some_and(|stored| {
        stored.version.stamp.origin != turn.version.stamp.origin && !turn.version.saw(&stored.version)
    });
    if overwritten && state.is_known() && !in_row {
        state.write(index, turn, outcome);
        return;
    }
    let note = match state.row {
        Row::Found(xmin) if in_row => Note::Xmin(xmin),
        // A later write of this node, or one in a subtransaction: not known until its record or a fence comes.
        Row::Found(_) => Note::Xmin(None),
        Row::Written => state.note,
    };
    state.store(turn, note);
}

fn take_other(
    state: &mut State,
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

fn note_conflict(state: &State, turn: usize, decision: Decision, outcome: &mut Outcome) {
    if let Some(kind) = decision.conflict {
        let (stored, over) = (state.stored.clone(), state.last_write);
        outcome.conflicts.push(Conflict { turn, kind, takes: decision.takes, stored, over });
    }
}
