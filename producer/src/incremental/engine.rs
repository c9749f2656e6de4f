//! The state machine of incremental snapshots: what to ask the source for, which rows of an answer still hold, and
//! where in the stream they go. No I/O, no clock; `incremental/mod.rs` has the argument.

use rustc_hash::FxHashSet;
use syncline_event::table::TableDefinition;

use super::state::{Captured, Key, Opening, Outcome, State};
use super::visible::Seen;
use crate::rows::EncodedRow;
use crate::signals::Command;

/// Bytes of keys that may be kept while a chunk is read; beyond, it is read again while the stream waits.
const MOST_TOUCHED: usize = 16 * 1024 * 1024;

/// What the reader is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The scan.
    pub scan: u64,
    /// Its topic.
    pub topic: String,
    /// What.
    pub what: Asked,
}

/// What the reader is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A log position that is not below anything an earlier life has published.
    Position,
    /// Wait until nobody who writes to the table now is still at it.
    Settle {
        /// The table is new in the publication.
        added: bool,
    },
    /// The next chunk.
    Chunk {
        /// Behind this key.
        after: Option<Key>,
        /// Up to this one; where it is not known, the table's highest, which the answer tells.
        until: Option<Key>,
        /// Only rows for which this holds.
        condition: Option<String>,
        /// The last one came too early: wait a moment.
        again: bool,
        /// Where the log is known to have come to.
        passed: u64,
    },
}

/// What the reader answers. Every answer names its scan.
#[derive(Debug)]
pub enum Answer {
    /// To [`Asked::Position`].
    Position {
        /// The log's end.
        lsn: u64,
    },
    /// To [`Asked::Settle`].
    Settled {
        /// Estimated rows of the table.
        estimate: u64,
    },
    /// To [`Asked::Chunk`].
    Chunk(Read),
    /// To [`Asked::Chunk`]: the table has other columns than the stream knows by now.
    Ahead {
        /// The table as it is.
        definition: Box<TableDefinition>,
        /// The log's end behind the snapshot that saw it.
        lsn: u64,
    },
    /// The scan cannot go on. No values.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Rows of one table in key order, read in one snapshot.
#[derive(Debug)]
pub struct Read {
    /// The snapshot.
    pub seen: Seen,
    /// The log's end, read behind the snapshot: everything the snapshot sees was committed before.
    pub lsn: u64,
    /// Bytes of the rows.
    pub bytes: Vec<u8>,
    /// The rows.
    pub rows: Vec<EncodedRow>,
    /// The last row's key, where there is a row.
    pub last: Option<Key>,
    /// The table's highest key, where it was asked for and there is a row.
    pub until: Option<Key>,
    /// Nothing is left behind it.
    pub ended: bool,
}

/// What has to go out at a boundary.
#[derive(Debug)]
pub enum Due {
    /// A marker into all partitions.
    Marker {
        /// Of this topic.
        topic: String,
        /// Which.
        opening: Opening,
    },
    /// Rows; those that do not hold any more are left out.
    Rows {
        /// Of this topic.
        topic: String,
        /// Their bytes.
        bytes: Vec<u8>,
        /// The rows.
        rows: Vec<EncodedRow>,
    },
    /// The stream goes on under this definition.
    Definition {
        /// Of this topic.
        topic: String,
        /// The definition.
        definition: Box<TableDefinition>,
    },
}

/// A change of the table under way, as far as it matters to a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// Its transaction.
    pub transaction: u32,
    /// Its record does not hold the whole row.
    pub partial: bool,
}

#[derive(Debug)]
struct Waiting {
    ask: Ask,
    /// The stream waits for the answer.
    quiet: bool,
    /// Transactions that touched the table before the question and that no snapshot is known to see.
    before: FxHashSet<u32>,
    /// Keys that were touched since, one behind the other.
    keys: Vec<u8>,
    touches: Vec<(usize, Touch)>,
    truncates: Vec<u32>,
    /// The answer is of no use: too much was touched, or the table's definition changed.
    spoiled: bool,
}

#[derive(Debug)]
struct Held {
    scan: u64,
    topic: String,
    /// From where on it may go out.
    from: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Marker(Opening),
    Rows(Chunk),
    Definition(Box<TableDefinition>),
}

#[derive(Debug)]
struct Chunk {
    read: Read,
    /// Row indexes in the order of their keys' bytes.
    order: Vec<u32>,
    dropped: Vec<bool>,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Idle,
    Waiting(Waiting),
    Held(Held),
}

/// The machine. One life of a producer has one.
#[derive(Debug)]
pub struct Engine {
    state: State,
    changed: bool,
    step: Step,
    /// The scan whose table is watched: nobody who wrote to it when the watch began is still at it.
    settled: Option<u64>,
    /// Transactions that touched the watched table and that no snapshot is known to see.
    unsettled: FxHashSet<u32>,
    /// The last boundary.
    passed: u64,
    /// The next chunk is read while the stream waits.
    quiet: bool,
    again: bool,
    abandoned: bool,
}

impl Engine {
    /// Goes on from the checkpoint.
    #[must_use]
    pub fn new(state: State) -> Self {
        Self {
            state,
            changed: false,
            step: Step::Idle,
            settled: None,
            unsettled: FxHashSet::default(),
            passed: 0,
            quiet: false,
            again: false,
            abandoned: false,
        }
    }

    /// Whether nobody waits for the answer to the last question any more, since the last call.
    pub fn take_abandoned(&mut self) -> bool {
        std::mem::take(&mut self.abandoned)
    }

    /// What the checkpoint should keep once everything sent so far is acknowledged.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The state, if it changed since the last call.
    pub fn take_changed(&mut self) -> Option<State> {
        std::mem::take(&mut self.changed).then(|| self.state.clone())
    }

    /// Whether the stream has to wait for an answer.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        matches!(&self.step, Step::Waiting(waiting) if waiting.quiet)
    }

    /// Whether something waits to go out at a boundary; gives the boundary.
    #[must_use]
    pub fn waits_for(&self) -> Option<u64> {
        match &self.step {
            Step::Held(held) => Some(held.from),
            Step::Idle | Step::Waiting(_) => None,
        }
    }

    /// Whether all is read that can be read without anybody doing something.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state.turn().is_none()
    }

    /// Whether there is nothing to do at any boundary.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        matches!(self.step, Step::Idle) && self.state.scans.is_empty() && self.settled.is_none()
    }

    /// The topic whose changes [`Engine::touch`] has to hear of.
    #[must_use]
    pub fn watched(&self) -> Option<&str> {
        match &self.step {
            Step::Waiting(Waiting { ask: Ask { what: Asked::Position, .. }, .. }) => None,
            Step::Waiting(waiting) => Some(&waiting.ask.topic),
            Step::Held(held) => Some(&held.topic),
            Step::Idle => {
                let scan = self.state.turn()?;
                (self.settled == Some(scan.id)).then_some(scan.topic.as_str())
            }
        }
    }

    /// Does what a signal asks. Gives what to tell the operator.
    pub fn obey(&mut self, command: &Command, captured: &[Captured]) -> Vec<String> {
        self.changed = true;
        let notes = self.state.obey(command, captured);
        self.drop_strangers();
        notes
    }

    /// Notes how far the signal topic is read.
    pub fn signals_read(&mut self, offset: i64) {
        self.state.signal_offset = Some(offset);
        self.changed = true;
    }

    /// Whether a row of the signal table is new; it is not afterwards.
    pub fn takes_signal_row(&mut self, position: (u64, u64)) -> bool {
        if self.state.signal_row.is_some_and(|last| position <= last) {
            return false;
        }
        self.state.signal_row = Some(position);
        self.changed = true;
        true
    }

    /// The next question. To be called between transactions only, so that no transaction is heard of in part.
    pub fn ask(&mut self) -> Option<Ask> {
        if !matches!(self.step, Step::Idle) {
            return None;
        }
        let Some(scan) = self.state.turn() else {
            self.unwatch();
            return None;
        };
        let what = if scan.opening.is_some() {
            Asked::Position
        } else if self.settled != Some(scan.id) {
            Asked::Settle { added: scan.reason == super::state::Reason::Added }
        } else {
            Asked::Chunk {
                after: scan.after.clone(),
                until: scan.until.clone(),
                condition: scan.condition.clone(),
                again: std::mem::take(&mut self.again),
                passed: self.passed,
            }
        };
        let ask = Ask { scan: scan.id, topic: scan.topic.clone(), what };
        if !matches!(ask.what, Asked::Chunk { .. }) {
            self.unwatch();
        }
        self.step = Step::Waiting(Waiting {
            quiet: std::mem::take(&mut self.quiet) && matches!(ask.what, Asked::Chunk { .. }),
            before: std::mem::take(&mut self.unsettled),
            ask: ask.clone(),
            keys: Vec::new(),
            touches: Vec::new(),
            truncates: Vec::new(),
            spoiled: false,
        });
        Some(ask)
    }

    /// Hears of a changed key of the watched topic. Of a key change both keys are told.
    pub fn touch(&mut self, key: &[u8], touch: Touch) {
        match &mut self.step {
            Step::Idle => {
                self.unsettled.insert(touch.transaction);
            }
            Step::Waiting(waiting) => {
                self.unsettled.insert(touch.transaction);
                if !matches!(waiting.ask.what, Asked::Chunk { .. }) || waiting.spoiled {
                    return;
                }
                if waiting.keys.len() + waiting.touches.len() * 24 + key.len() > MOST_TOUCHED {
                    waiting.spoiled = true;
                    self.quiet = true;
                    (waiting.keys, waiting.touches) = (Vec::new(), Vec::new());
                    return;
                }
                waiting.keys.extend_from_slice(key);
                waiting.touches.push((waiting.keys.len(), touch));
            }
            Step::Held(held) => {
                let What::Rows(chunk) = &mut held.what else {
                    self.unsettled.insert(touch.transaction);
                    return;
                };
                if chunk.read.seen.sees(touch.transaction) {
                    return;
                }
                self.unsettled.insert(touch.transaction);
                if !chunk.drop(key, touch) {
                    self.spoil();
                }
            }
        }
    }

    /// Hears that the watched topic's table was truncated.
    pub fn truncated(&mut self, transaction: u32) {
        self.unsettled.insert(transaction);
        match &mut self.step {
            Step::Idle => {}
            Step::Waiting(waiting) => waiting.truncates.push(transaction),
            Step::Held(Held { what: What::Rows(chunk), .. }) => {
                if !chunk.read.seen.sees(transaction) {
                    chunk.dropped.fill(true);
                }
            }
            Step::Held(_) => {}
        }
    }

    /// Hears that a topic's table goes on under another definition: rows that were read under the last one are of no
    /// use, and with other key columns neither is the place in the table.
    pub fn redefined(&mut self, topic: &str, other_key: bool) {
        match &mut self.step {
            Step::Waiting(waiting) if waiting.ask.topic == topic => waiting.spoiled = true,
            Step::Held(held) if held.topic == topic && !matches!(held.what, What::Marker(_)) => self.step = Step::Idle,
            _ => {}
        }
        if other_key {
            for scan in self.state.scans.iter_mut().filter(|scan| scan.topic == topic) {
                (scan.after, scan.until, scan.rows) = (None, None, 0);
                self.changed = true;
            }
        }
    }

    /// Hears an answer.
    pub fn answer(&mut self, scan: u64, answer: Answer) {
        let Step::Waiting(waiting) = std::mem::take(&mut self.step) else { return };
        if waiting.ask.scan != scan {
            self.step = Step::Waiting(waiting);
            return;
        }
        let held = |from: u64, what: What| Step::Held(Held { scan, topic: waiting.ask.topic.clone(), from, what });
        match answer {
            Answer::Failed { reason } => {
                self.state.end(scan, Outcome::Failed(reason));
                self.changed = true;
                self.unwatch();
            }
            Answer::Position { lsn } => {
                if let Some(opening) = self.state.turn().and_then(|turn| turn.opening) {
                    self.step = held(lsn, What::Marker(opening));
                }
            }
            Answer::Settled { estimate } => {
                self.settled = Some(scan);
                if let Some(scan) = self.state.scan_mut(scan) {
                    scan.estimate = Some(estimate);
                }
            }
            _ if waiting.spoiled => self.unsettled.extend(waiting.before),
            Answer::Ahead { definition, lsn } => {
                self.unsettled.extend(waiting.before);
                self.step = held(lsn, What::Definition(definition));
            }
            Answer::Chunk(read) => self.take(waiting, read),
        }
    }

    fn take(&mut self, waiting: Waiting, read: Read) {
        if !waiting.before.iter().all(|transaction| read.seen.sees(*transaction)) {
            // Delivered by the log before the question, and not seen yet: on its way to being visible.
            self.unsettled.extend(waiting.before);
            self.again = true;
            return;
        }
        self.unsettled.retain(|transaction| !read.seen.sees(*transaction));
        let mut chunk = Chunk::new(read);
        if waiting.truncates.iter().any(|transaction| !chunk.read.seen.sees(*transaction)) {
            chunk.dropped.fill(true);
        }
        let mut start = 0;
        let mut whole = true;
        for (end, touch) in &waiting.touches {
            if !chunk.read.seen.sees(touch.transaction) {
                whole &= chunk.drop(&waiting.keys[start..*end], *touch);
            }
            start = *end;
        }
        let Ask { scan, topic, .. } = waiting.ask;
        self.step = Step::Held(Held { scan, topic, from: chunk.read.lsn, what: What::Rows(chunk) });
        if !whole {
            self.spoil();
        }
    }

    /// A row of the chunk was changed by a record that does not hold all of it: the chunk is read again, while the
    /// stream waits, so that the same cannot happen again and again.
    fn spoil(&mut self) {
        self.step = Step::Idle;
        self.quiet = true;
    }

    fn unwatch(&mut self) {
        self.settled = None;
        self.unsettled.clear();
    }

    /// Lets go of what is held of, or asked for, a scan that has not its turn any more.
    fn drop_strangers(&mut self) {
        let turn = self.state.turn().map(|turn| turn.id);
        if let Step::Held(held) = &self.step
            && Some(held.scan) != turn
        {
            self.step = Step::Idle;
        }
        if let Step::Waiting(waiting) = &self.step
            && Some(waiting.ask.scan) != turn
        {
            self.step = Step::Idle;
            self.abandoned = true;
        }
        if self.settled.is_some() && self.settled != turn {
            self.unwatch();
        }
    }

    /// Hears of a boundary: every transaction delivered so far was committed before `lsn`, every later one is
    /// committed at `lsn` or behind it. Gives what goes out here. Call again until there is nothing.
    pub fn boundary(&mut self, lsn: u64) -> Option<Due> {
        self.passed = self.passed.max(lsn);
        match &self.step {
            Step::Held(held) if held.from <= self.passed => {}
            _ => return None,
        }
        let Step::Held(Held { scan: id, topic, what, .. }) = std::mem::take(&mut self.step) else { return None };
        match what {
            What::Marker(opening) => {
                let scan = self.state.scan_mut(id)?;
                scan.opening = None;
                self.changed = true;
                Some(Due::Marker { topic, opening })
            }
            What::Definition(definition) => Some(Due::Definition { topic, definition }),
            What::Rows(chunk) => {
                let scan = self.state.scan_mut(id)?;
                self.changed = true;
                scan.rows += chunk.read.rows.len() as u64;
                if chunk.read.last.is_some() {
                    scan.after.clone_from(&chunk.read.last);
                }
                if scan.until.is_none() {
                    scan.until.clone_from(&chunk.read.until);
                }
                if chunk.read.ended {
                    self.state.end(id, Outcome::Completed);
                    self.unwatch();
                }
                let Chunk { read, dropped, .. } = chunk;
                let rows = read.rows.into_iter().zip(dropped);
                let rows = rows.filter_map(|(row, dropped)| (!dropped).then_some(row)).collect();
                Some(Due::Rows { topic, bytes: read.bytes, rows })
            }
        }
    }

    /// The last boundary, where something may go out still as long as no transaction has begun.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed
    }
}

impl Chunk {
    fn new(read: Read) -> Self {
        let mut order: Vec<u32> = (0..u32::try_from(read.rows.len()).unwrap_or(u32::MAX)).collect();
        let key = |index: u32| &read.bytes[read.rows[index as usize].key.clone()];
        order.sort_unstable_by(|a, b| key(*a).cmp(key(*b)));
        let dropped = vec![false; read.rows.len()];
        Self { read, order, dropped }
    }

    /// Drops the row of a key. False where that would lose columns: the record that changed the row does not hold
    /// them, and the row may not be in the target yet.
    fn drop(&mut self, key: &[u8], touch: Touch) -> bool {
        let Self { read, order, dropped } = self;
        let key_of = |index: u32| &read.bytes[read.rows[index as usize].key.clone()];
        let from = order.partition_point(|index| key_of(*index) < key);
        let mut whole = true;
        for index in order[from..].iter().take_while(|index| key_of(**index) == key) {
            whole &= !touch.partial;
            dropped[*index as usize] = true;
        }
        whole
    }
}
