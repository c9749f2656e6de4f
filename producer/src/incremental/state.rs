//! Which tables are read incrementally and how far that is: what the checkpoint keeps, and what signals do to it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use syncline_event::header::BarrierKind;

use crate::signals::Command;

/// Finished scans that `snapshot status` still shows.
const REMEMBERED: usize = 32;

/// A row's values in the columns that chunks are ordered by, in the source's text form.
pub type Key = Vec<String>;

/// Everything that has to survive a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// No chunk is read until resumed.
    #[serde(default)]
    pub paused: bool,
    /// Tables to read, the one under way first.
    #[serde(default)]
    pub scans: VecDeque<Scan>,
    /// Tables that were read, or given up, last ones last.
    #[serde(default)]
    pub finished: Vec<Finished>,
    /// The number of the next scan.
    #[serde(default)]
    pub next_id: u64,
    /// The signal topic's next record.
    #[serde(default)]
    pub signal_offset: Option<i64>,
    /// The last row of the signal table that was acted upon: commit LSN and number.
    #[serde(default)]
    pub signal_row: Option<(u64, u64)>,
}

/// One table that is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// Tells it from an earlier scan of the same table.
    pub id: u64,
    /// The table's topic.
    pub topic: String,
    /// `schema.table`.
    pub table: String,
    /// Why.
    pub reason: Reason,
    /// The marker that has to go out before anything else of the scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opening: Option<Opening>,
    /// Whether rows are read at all: under `snapshot.mode` `no_data` a new table is only opened, and that at the start
    /// of a life.
    pub copies: bool,
    /// Only rows for which this SQL holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// The key of the last row that went out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Key>,
    /// The highest key when the scan began: what came later comes by the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Key>,
    /// Rows read so far.
    #[serde(default)]
    pub rows: u64,
    /// Rows the table was estimated to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<u64>,
}

/// Why a table is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// A signal asked for it.
    Signal,
    /// It came into the configuration. Before its opening marker nothing of it is published.
    Added,
    /// `syncline resync --table`.
    Resync,
}

/// The marker in front of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Opening {
    /// The partitions are opened; nothing is done to the target's table.
    Fresh,
    /// Consumers empty the target's table: rows that are gone from the source must not stay.
    Anew,
}

impl Opening {
    /// The marker's kind.
    #[must_use]
    pub fn kind(self) -> BarrierKind {
        match self {
            Self::Fresh => BarrierKind::Epoch,
            Self::Anew => BarrierKind::Snapshot,
        }
    }
}

/// A scan that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// `schema.table`.
    pub table: String,
    /// Why it was read.
    pub reason: Reason,
    /// How it ended.
    pub outcome: Outcome,
    /// Rows read.
    pub rows: u64,
}

/// How a scan ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All rows are out.
    Completed,
    /// A signal stopped it.
    Stopped,
    /// It could not go on: why, without values.
    Failed(String),
}

/// A captured table as far as signals know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Its topic.
    pub topic: String,
    /// `schema.table`.
    pub table: String,
}

impl State {
    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        *self == Self::default()
    }

    /// Does what a signal asks. Gives what to tell the operator.
    pub fn obey(&mut self, command: &Command, captured: &[Captured]) -> Vec<String> {
        match command {
            Command::Pause => {
                self.paused = true;
                vec!["incremental snapshots are paused".to_owned()]
            }
            Command::Resume => {
                self.paused = false;
                vec!["incremental snapshots go on".to_owned()]
            }
            Command::Log { message } => vec![format!("signal log: {message}")],
            Command::Stop { collections } => {
                let named = |table: &str| {
                    collections.as_ref().is_none_or(|list| list.iter().any(|collection| collection.matches(table)))
                };
                let (stopped, kept) = std::mem::take(&mut self.scans).into_iter().partition(|scan| {
                    // A table that is not opened yet would never be captured.
                    named(&scan.table) && !scan.is_muted()
                });
                self.scans = kept;
                let stopped: VecDeque<Scan> = stopped;
                let notes = stopped.iter().map(|scan| format!("the snapshot of {} is stopped", scan.table)).collect();
                for scan in stopped {
                    self.finish(scan, Outcome::Stopped);
                }
                notes
            }
            Command::Execute { collections, conditions } => {
                let tables = captured.iter().filter(|table| collections.iter().any(|c| c.matches(&table.table)));
                let mut notes = Vec::new();
                for table in tables {
                    let condition = conditions.iter().find(|(collection, _)| collection.matches(&table.table));
                    notes.push(self.execute(table, condition.map(|(_, filter)| filter.clone())));
                }
                none_matched(notes)
            }
            Command::Resync { collections } => {
                let tables = captured.iter().filter(|table| collections.iter().any(|c| c.matches(&table.table)));
                let notes = tables.map(|table| self.resync(table)).collect();
                none_matched(notes)
            }
        }
    }

    fn execute(&mut self, table: &Captured, condition: Option<String>) -> String {
        let same = |scan: &Scan| scan.topic == table.topic && (scan.condition.is_none() || scan.condition == condition);
        if self.scans.iter().any(same) {
            return format!("{} is being read already", table.table);
        }
        self.push(table, Reason::Signal, None, true, condition);
        format!("{} will be read", table.table)
    }

    fn resync(&mut self, table: &Captured) -> String {
        if self.scans.iter().any(|scan| scan.topic == table.topic && scan.is_muted()) {
            return format!("{} is new and will be read anyway", table.table);
        }
        self.scans.retain(|scan| scan.topic != table.topic);
        self.push(table, Reason::Resync, Some(Opening::Anew), true, None);
        format!("{} will be read anew behind a marker at which consumers empty it", table.table)
    }

    /// Notes a table that came into the configuration. Without an opening it is published from the start of the life.
    pub fn add(&mut self, table: &Captured, opening: Option<Opening>, copies: bool) {
        self.push(table, Reason::Added, opening, copies, None);
    }

    fn push(
        &mut self,
        table: &Captured,
        reason: Reason,
        opening: Option<Opening>,
        copies: bool,
        condition: Option<String>,
    ) {
        self.scans.push_back(Scan {
            id: self.next_id,
            topic: table.topic.clone(),
            table: table.table.clone(),
            reason,
            opening,
            copies,
            condition,
            after: None,
            until: None,
            rows: 0,
            estimate: None,
        });
        self.next_id += 1;
    }

    /// A new life opens again what the last one may have opened already: consumers empty it.
    pub fn reopen(&mut self) {
        for scan in self.scans.iter_mut().filter(|scan| scan.is_muted()) {
            scan.opening = Some(Opening::Anew);
        }
    }

    /// Whether a topic is to be opened, and nothing read.
    #[must_use]
    pub fn only_opens(&self, topic: &str) -> bool {
        self.scans.iter().any(|scan| scan.topic == topic && !scan.copies)
    }

    /// Whether a topic's table came into the configuration and is not read yet.
    #[must_use]
    pub fn is_added(&self, topic: &str) -> bool {
        self.scans.iter().any(|scan| scan.topic == topic && scan.reason == Reason::Added)
    }

    /// All of those are open.
    pub fn opened(&mut self) {
        self.scans.retain(|scan| scan.copies);
    }

    /// Forgets scans of topics that are not captured any more.
    pub fn keep_only(&mut self, is_captured: impl Fn(&str) -> bool) {
        self.scans.retain(|scan| is_captured(&scan.topic));
    }

    /// A whole snapshot reads everything: nothing else is left to read.
    pub fn superseded(&mut self) {
        self.scans.clear();
        self.paused = false;
    }

    /// The scan that has its turn: tables that are not opened yet first, since nothing of them is published.
    #[must_use]
    pub fn turn(&self) -> Option<&Scan> {
        self.scans.iter().find(|scan| scan.is_muted()).or_else(|| self.scans.front().filter(|_| !self.paused))
    }

    /// A scan by its number.
    pub fn scan_mut(&mut self, id: u64) -> Option<&mut Scan> {
        self.scans.iter_mut().find(|scan| scan.id == id)
    }

    /// Ends a scan.
    pub fn end(&mut self, id: u64, outcome: Outcome) {
        if let Some(index) = self.scans.iter().position(|scan| scan.id == id)
            && let Some(scan) = self.scans.remove(index)
        {
            self.finish(scan, outcome);
        }
    }

    fn finish(&mut self, scan: Scan, outcome: Outcome) {
        self.finished.push(Finished { table: scan.table, reason: scan.reason, outcome, rows: scan.rows });
        let surplus = self.finished.len().saturating_sub(REMEMBERED);
        self.finished.drain(..surplus);
    }

    /// Whether updates of a topic may find no row in the target yet.
    #[must_use]
    pub fn is_filling(&self, topic: &str) -> bool {
        self.scans.iter().any(|scan| scan.topic == topic)
    }

    /// Whether nothing of a topic is published yet.
    #[must_use]
    pub fn is_muted(&self, topic: &str) -> bool {
        self.scans.iter().any(|scan| scan.topic == topic && scan.is_muted())
    }
}

impl Scan {
    /// Whether the table waits to be opened.
    #[must_use]
    pub fn is_muted(&self) -> bool {
        self.reason == Reason::Added && self.opening.is_some() && self.copies
    }
}

fn none_matched(notes: Vec<String>) -> Vec<String> {
    if notes.is_empty() { vec!["a signal names no captured table; nothing is read".to_owned()] } else { notes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::Collection;

    fn captured() -> Vec<Captured> {
        let table = |name: &str| Captured { topic: format!("p.public.{name}"), table: format!("public.{name}") };
        vec![table("a"), table("b")]
    }

    fn execute(names: &[&str]) -> Command {
        let collections = names.iter().map(|name| Collection::parse(name).unwrap()).collect();
        Command::Execute { collections, conditions: Vec::new() }
    }

    fn tables(state: &State) -> Vec<&str> {
        state.scans.iter().map(|scan| scan.table.as_str()).collect()
    }

    #[test]
    fn signals_queue_and_stop_tables() {
        let mut state = State::default();
        state.obey(&execute(&["public.*"]), &captured());
        assert_eq!(tables(&state), ["public.a", "public.b"]);
        state.obey(&execute(&["public.a"]), &captured());
        assert_eq!(tables(&state), ["public.a", "public.b"], "it is queued already");
        state.obey(&Command::Stop { collections: Some(vec![Collection::parse("public.a").unwrap()]) }, &captured());
        assert_eq!(tables(&state), ["public.b"]);
        state.obey(&Command::Stop { collections: None }, &captured());
        assert!(tables(&state).is_empty());
        assert_eq!(state.finished.len(), 2);
    }

    #[test]
    fn a_resync_starts_over_behind_a_marker() {
        let mut state = State::default();
        state.obey(&execute(&["public.a"]), &captured());
        state.scans[0].after = Some(vec!["7".into()]);
        state.obey(&Command::Resync { collections: vec![Collection::parse("public.a").unwrap()] }, &captured());
        assert_eq!(state.scans.len(), 1);
        assert_eq!((state.scans[0].opening, &state.scans[0].after), (Some(Opening::Anew), &None));
    }

    #[test]
    fn a_new_table_is_opened_before_others_are_read_and_though_paused() {
        let mut state = State { paused: true, ..State::default() };
        state.obey(&execute(&["public.a"]), &captured());
        assert_eq!(state.turn(), None);
        state.add(&captured()[1], Some(Opening::Fresh), true);
        assert_eq!(state.turn().map(|scan| scan.table.as_str()), Some("public.b"));
        assert!(state.is_muted("p.public.b") && state.is_filling("p.public.b"));
        state.obey(&Command::Stop { collections: None }, &captured());
        assert_eq!(tables(&state), ["public.b"], "it has to be opened all the same");
    }

    #[test]
    fn what_may_have_been_opened_is_emptied_the_next_time() {
        let mut state = State::default();
        state.add(&captured()[0], Some(Opening::Fresh), true);
        state.add(&captured()[1], Some(Opening::Fresh), false);
        assert!(state.only_opens("p.public.b") && !state.is_muted("p.public.b"));
        state.reopen();
        state.opened();
        assert_eq!(state.scans.iter().map(|scan| scan.opening).collect::<Vec<_>>(), [Some(Opening::Anew)]);
    }

    #[test]
    fn an_empty_form_is_read() {
        assert!(serde_json::from_str::<State>("{}").unwrap().is_blank());
    }
}
