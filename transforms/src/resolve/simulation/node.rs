//! A node: its database, with writers of its own.

use std::collections::{BTreeMap, BTreeSet};

use syncline_event::stamp::{Seen, Stamp};

use super::super::echo::{Entry, Row};
use super::super::row::{Operation, Version};
use super::super::show::HeldRecord;
use super::super::state::{Image, State};
use super::Random;
use super::producer::{Logged, Producer};

pub(super) type Key = u8;

/// A record's node, partition and offset.
pub(super) type Place = (usize, usize, u64);

pub(super) const COLUMNS: usize = 4;
pub(super) const NOTE: usize = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredRow {
    pub(super) xmin: u32,
    pub(super) values: Image,
}

/// A change on its way through the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Local {
    pub(super) key: Key,
    pub(super) before: Option<Image>,
    pub(super) after: Option<Image>,
    /// Records of others that the row showed when it was written.
    pub(super) truth: BTreeSet<Place>,
}

#[derive(Debug, Clone)]
pub(super) struct Transaction {
    pub(super) xid: u32,
    /// Another one where the rows are written in a subtransaction.
    pub(super) row_xid: u32,
    pub(super) changes: Vec<Local>,
    /// In the log, not yet visible.
    pub(super) committed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) version: Version,
    pub(super) transaction: u32,
    pub(super) key: Key,
    pub(super) before: Option<Image>,
    pub(super) after: Option<Image>,
    pub(super) truth: BTreeSet<Place>,
}

impl Change {
    pub(super) fn operation(&self) -> Operation {
        match (&self.before, &self.after) {
            (None, _) => Operation::Insert,
            (_, None) => Operation::Delete,
            _ => Operation::Update,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Change(Change),
    Marker { id: u64, seen: Seen },
}

/// A record that waits, with its fence.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) offset: u64,
    pub(super) fence: Option<(u64, Row)>,
}

#[derive(Debug, Clone)]
pub(super) struct StateEntry {
    pub(super) state: State,
    pub(super) noted_xmin: Option<u32>,
    /// Records that the row does not show yet.
    pub(super) held: Vec<HeldRecord>,
}

/// A conflict: who lost, in which column.
#[derive(Debug, Clone)]
pub(super) struct Lost {
    pub(super) stamp: Stamp,
    pub(super) offset: u64,
    pub(super) column: Option<usize>,
}

/// What a transaction of the applying side changes, all or nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    pub(super) rows: BTreeMap<Key, StoredRow>,
    pub(super) entries: BTreeMap<Key, Entry>,
    pub(super) states: BTreeMap<Key, StateEntry>,
    pub(super) waiting: BTreeMap<(Key, usize, usize), Vec<Waiting>>,
    /// Keys whose rows are looked at again when a fence returns.
    pub(super) unsettled: BTreeMap<Key, (u64, Row)>,
    pub(super) progress: BTreeMap<(usize, usize), u64>,
    pub(super) arrived: BTreeMap<u64, BTreeSet<usize>>,
    /// What the last consumed markers say that all later changes of their nodes have seen.
    pub(super) heard: BTreeMap<(usize, usize), Seen>,
    pub(super) lost: Vec<Lost>,
    /// What each row shows of others, for the judge.
    pub(super) shown: BTreeMap<Key, BTreeSet<Place>>,
    /// What was discarded at once, for the judge.
    pub(super) discarded: BTreeSet<Place>,
}

pub(super) struct Node {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) skew_us: i64,
    pub(super) tables: Tables,
    pub(super) open: Vec<Transaction>,
    pub(super) log: Vec<Logged>,
    pub(super) next_xid: u32,
    pub(super) next_fence: u64,
    pub(super) next_value: u32,
    pub(super) producer: Producer,
    pub(super) checkpoint: Producer,
    pub(super) topic: Vec<Vec<Record>>,
    /// `shown` as it was committed, for the judge.
    pub(super) committed: BTreeMap<Key, BTreeSet<Place>>,
    /// Values of `note` by when they became visible, for the judge.
    notes: BTreeMap<Key, Vec<Option<String>>>,
    /// By the rule an earlier change may be the higher one.
    pub(super) older_values_win: bool,
}

fn words(random: &mut Random) -> String {
    const WORDS: [&str; 4] = ["a", "b", "c", "d"];
    let some = WORDS.iter().filter(|_| random.below(2) == 0);
    some.copied().collect::<Vec<_>>().join(",")
}

impl Tables {
    /// The lowest offset of a partition that any key holds back.
    pub(super) fn held_from(&self, name: &str, origin: usize, partition: usize) -> Option<u64> {
        let of_partition = |(_, of, at): &(Key, usize, usize)| (*of, *at) == (origin, partition);
        let waits = self.waiting.iter().filter(|(place, _)| of_partition(place)).flat_map(|(_, queue)| queue);
        let held = self.states.values().flat_map(|known| &known.held);
        let held = held.filter(|record| record.origin == name && record.partition as usize == partition);
        waits.map(|waiting| waiting.offset).chain(held.map(|record| record.offset)).min()
    }
}

impl Node {
    pub(super) fn new(index: usize, partitions: usize, skew_us: i64) -> Self {
        let producer = Producer::new(partitions);
        Self {
            index,
            name: format!("n{index}"),
            skew_us,
            tables: Tables::default(),
            open: Vec::new(),
            log: Vec::new(),
            next_xid: 100,
            next_fence: 1,
            next_value: 0,
            checkpoint: producer.clone(),
            producer,
            topic: vec![Vec::new(); partitions],
            committed: BTreeMap::new(),
            notes: BTreeMap::new(),
            older_values_win: false,
        }
    }

    pub(super) fn xid(&mut self) -> u32 {
        self.next_xid += 1;
        self.next_xid
    }

    /// A row from before the first sync, and its record.
    pub(super) fn preload(&mut self, key: Key, priority: u32, random: &mut Random) {
        let values = self.values(None, random);
        self.tables.rows.insert(key, StoredRow { xmin: 3, values: values.clone() });
        let partition = key as usize % self.topic.len();
        let version = Version {
            stamp: Stamp { clock_us: 0, counter: priority, origin: self.name.clone() },
            seen: Seen::default(),
            partition: partition as u32,
            offset: self.topic[partition].len() as u64,
        };
        let change = Change { version, transaction: 0, key, before: None, after: Some(values), truth: BTreeSet::new() };
        self.topic[partition].push(Record::Change(change));
        self.producer.sent[partition] += 1;
        self.checkpoint = self.producer.clone();
    }

    /// Values of a new row, or some others in an old one.
    fn values(&mut self, old: Option<&Image>, random: &mut Random) -> Image {
        const STATUS: [&str; 4] = ["active", "pending", "inactive", "other"];
        self.next_value += 1;
        let mut row = old.cloned().unwrap_or_else(|| vec![None; COLUMNS]);
        let mut all = [old.is_none(); COLUMNS];
        for change in &mut all {
            *change |= random.below(3) == 0;
        }
        all[random.below(COLUMNS as u64) as usize] = true;
        if all[0] {
            let number = row[0].as_ref().map_or(0, |text| text.parse::<i64>().unwrap());
            row[0] = (random.below(9) > 0).then(|| (number + random.below(9) as i64 - 3).to_string());
        }
        if all[1] {
            row[1] = (random.below(5) > 0).then(|| words(random));
        }
        if all[2] {
            row[2] = Some(STATUS[random.below(4) as usize].to_owned());
        }
        if all[NOTE] {
            row[NOTE] = Some(format!("{}-{}", self.name, self.next_value));
        }
        row
    }

    /// Something happens among the node's writers, but to no row that is locked.
    pub(super) fn work(
        &mut self,
        keys: u64,
        now_us: u64,
        random: &mut Random,
        locked: &BTreeSet<Key>,
    ) -> Result<(), String> {
        match random.below(10) {
            0 | 1 if self.open.len() < 3 => {
                let xid = self.xid();
                let row_xid = if random.below(6) == 0 { self.xid() } else { xid };
                self.open.push(Transaction { xid, row_xid, changes: Vec::new(), committed: false });
            }
            2..=5 if !self.open.is_empty() => {
                let index = random.below(self.open.len() as u64) as usize;
                let key = random.below(keys) as Key;
                if !self.open[index].committed && !locked.contains(&key) {
                    return self.write(index, key, random);
                }
            }
            6 | 7 if !self.open.is_empty() => {
                let index = random.below(self.open.len() as u64) as usize;
                self.commit(index, now_us, random);
            }
            8 if !self.open.is_empty() => {
                let index = random.below(self.open.len() as u64) as usize;
                if self.open[index].committed {
                    self.show(index);
                } else if random.below(3) == 0 {
                    self.open.remove(index);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn write(&mut self, index: usize, key: Key, random: &mut Random) -> Result<(), String> {
        let touches = |open: &Transaction| open.changes.iter().any(|change| change.key == key);
        if self.open.iter().enumerate().any(|(other, open)| other != index && touches(open)) {
            return Ok(());
        }
        let own = self.open[index].changes.iter().rev().find(|change| change.key == key).cloned();
        let (before, truth) = match own {
            Some(change) => (change.after, change.truth),
            None => {
                let row = self.tables.rows.get(&key).map(|row| row.values.clone());
                self.check_notes(key, row.as_ref())?;
                (row, self.committed.get(&key).cloned().unwrap_or_default())
            }
        };
        let after = match &before {
            Some(_) if random.below(4) == 0 => None,
            before => Some(self.values(before.as_ref(), random)),
        };
        self.open[index].changes.push(Local { key, before, after, truth });
        Ok(())
    }

    /// A writer never finds its node's older value where a newer one had been visible.
    fn check_notes(&self, key: Key, row: Option<&Image>) -> Result<(), String> {
        if self.older_values_win {
            return Ok(());
        }
        let (Some(row), Some(notes)) = (row, self.notes.get(&key)) else { return Ok(()) };
        match notes.iter().position(|note| *note == row[NOTE]) {
            Some(place) if place + 1 < notes.len() => {
                Err(format!("{} reads its old {:?} of key {key} behind {:?}", self.name, row[NOTE], notes.last()))
            }
            _ => Ok(()),
        }
    }

    /// A commit is in the log before it is visible.
    pub(super) fn commit(&mut self, index: usize, now_us: u64, random: &mut Random) {
        let open = &mut self.open[index];
        if open.committed {
            return;
        }
        open.committed = true;
        // The time is taken before the place in the log.
        let commit_us = now_us.saturating_add_signed(self.skew_us) - random.below(3);
        self.log.push(Logged::Local { xid: open.xid, commit_us, changes: open.changes.clone() });
    }

    pub(super) fn show(&mut self, index: usize) {
        let open = self.open.remove(index);
        for change in open.changes {
            match change.after {
                Some(values) => {
                    if change.before.as_ref().is_none_or(|before| before[NOTE] != values[NOTE]) {
                        self.notes.entry(change.key).or_default().push(values[NOTE].clone());
                    }
                    self.tables.rows.insert(change.key, StoredRow { xmin: open.row_xid, values });
                }
                None => {
                    // It may come back with what it was.
                    self.notes.remove(&change.key);
                    self.tables.rows.remove(&change.key);
                }
            }
        }
    }

    /// The row as `SELECT … FOR UPDATE SKIP LOCKED` finds it.
    pub(super) fn lock(&self, key: Key) -> Row {
        match self.tables.rows.get(&key) {
            None => Row::Absent,
            Some(_) if self.is_written(key) => Row::Locked,
            Some(row) => Row::Present { xmin: row.xmin },
        }
    }

    /// Whether a transaction that is not over has written the key: an insert would wait for it.
    pub(super) fn is_written(&self, key: Key) -> bool {
        self.open.iter().any(|open| open.changes.iter().any(|change| change.key == key))
    }
}
