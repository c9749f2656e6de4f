//! Random histories: a source with concurrent transactions, lives of a producer that end anywhere, a log that keeps
//! any part of what was not acknowledged, and a consumer that goes by positions alone.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use syncline_event::position::Position;

use super::engine::{Answer, Ask, Asked, Due, Engine, Read, Touch};
use super::run::place;
use super::state::{Captured, Opening, State};
use super::visible::Seen;
use crate::rows::EncodedRow;
use crate::signals::{Collection, Command};

const PARTITIONS: usize = 2;
const KEYS: u64 = 24;
const CHUNK: usize = 4;
const TOPIC: &str = "p.public.t";

/// A row: a number that grows with every write to any row, and a large value that partial updates leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    version: u64,
    big: u64,
}

#[derive(Debug, Clone, Copy)]
enum Write {
    Put(Row),
    /// An update that leaves the large value out.
    Partial(u64),
    Delete,
}

struct Open {
    xid: u32,
    writes: Vec<(u64, Write)>,
    /// In the log, not yet visible.
    committed: bool,
}

struct Commit {
    xid: u32,
    begin: u64,
    end: u64,
    writes: Vec<(u64, Write)>,
}

/// The source's database.
struct Source {
    random: u64,
    next_xid: u32,
    version: u64,
    lsn: u64,
    log: Vec<Commit>,
    open: Vec<Open>,
    visible: BTreeMap<u64, Row>,
    /// What all writes together will lead to: writers of one key wait for each other.
    latest: BTreeMap<u64, Row>,
}

/// What a record does.
#[derive(Debug, Clone, Copy)]
enum Effect {
    Read(u64, Row),
    Put(u64, Row),
    Partial(u64, u64, bool),
    Delete(u64),
    Empty,
}

type Log = Vec<(Position, Effect)>;

struct World {
    source: Source,
    logs: [Log; PARTITIONS],
    /// The checkpoint.
    kept: State,
    delivered: usize,
    term: u64,
    /// Writes that came before the table was published, by transaction: the log leaves them out.
    unpublished: BTreeMap<u32, usize>,
    /// Faults of the engine, to see that the test notices them.
    forgets_window: bool,
}

fn below(random: &mut u64, limit: u64) -> u64 {
    *random ^= *random >> 12;
    *random ^= *random << 25;
    *random ^= *random >> 27;
    (random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % limit
}

impl Source {
    fn below(&mut self, limit: u64) -> u64 {
        below(&mut self.random, limit)
    }

    /// Something happens in the database.
    fn work(&mut self) {
        match self.below(10) {
            0..=1 if self.open.len() < 4 => {
                self.open.push(Open { xid: self.next_xid, writes: Vec::new(), committed: false });
                self.next_xid += 1;
            }
            2..=6 if !self.open.is_empty() => {
                let index = self.below(self.open.len() as u64) as usize;
                let key = self.below(KEYS);
                let locked = self.open.iter().enumerate().any(|(other, open)| {
                    (other != index || open.committed) && open.writes.iter().any(|(written, _)| *written == key)
                });
                if locked || self.open[index].committed {
                    return;
                }
                self.version += 1;
                let version = self.version;
                let write = match (self.latest.get(&key).copied(), self.below(4)) {
                    (Some(_), 0) => Write::Delete,
                    (Some(row), 1..=2) => {
                        self.latest.insert(key, Row { version, ..row });
                        Write::Partial(version)
                    }
                    _ => {
                        self.latest.insert(key, Row { version, big: version });
                        Write::Put(Row { version, big: version })
                    }
                };
                if matches!(write, Write::Delete) {
                    self.latest.remove(&key);
                }
                self.open[index].writes.push((key, write));
            }
            7..=8 => {
                let running: Vec<usize> = (0..self.open.len()).filter(|index| !self.open[*index].committed).collect();
                if !running.is_empty() {
                    let index = running[self.below(running.len() as u64) as usize];
                    self.commit(index);
                }
            }
            _ => {
                let waiting: Vec<usize> = (0..self.open.len()).filter(|index| self.open[*index].committed).collect();
                if !waiting.is_empty() {
                    let index = waiting[self.below(waiting.len() as u64) as usize];
                    self.show(index);
                }
            }
        }
    }

    /// A commit is in the log before it is visible.
    fn commit(&mut self, index: usize) {
        let open = &mut self.open[index];
        open.committed = true;
        let begin = self.lsn;
        self.lsn += 16;
        self.log.push(Commit { xid: open.xid, begin, end: self.lsn, writes: open.writes.clone() });
    }

    fn show(&mut self, index: usize) {
        let open = self.open.remove(index);
        for (key, write) in open.writes {
            apply(&mut self.visible, key, write);
        }
    }

    fn seen(&self) -> Seen {
        let running: Vec<String> = self.open.iter().map(|open| open.xid.to_string()).collect();
        let xmin = self.open.iter().map(|open| open.xid).min().unwrap_or(self.next_xid);
        Seen::parse(&format!("{xmin}:{}:{}", self.next_xid, running.join(","))).unwrap()
    }

    fn writers(&self) -> BTreeSet<u32> {
        self.open.iter().filter(|open| !open.writes.is_empty()).map(|open| open.xid).collect()
    }
}

fn apply(rows: &mut BTreeMap<u64, Row>, key: u64, write: Write) {
    match write {
        Write::Put(row) => {
            rows.insert(key, row);
        }
        Write::Partial(version) => {
            if let Some(row) = rows.get_mut(&key) {
                row.version = version;
            }
        }
        Write::Delete => {
            rows.remove(&key);
        }
    }
}

/// The reader in the middle of an answer.
struct Reading {
    ask: Ask,
    writers: BTreeSet<u32>,
}

impl World {
    fn read(&self, ask: &Ask) -> Answer {
        let Asked::Chunk { after, until, .. } = &ask.what else { unreachable!("only chunks are read") };
        let number = |key: &Vec<String>| key[0].parse::<u64>().unwrap();
        let highest = self.source.visible.keys().last().copied();
        let bound = until.as_ref().map(number).or(highest);
        let from = after.as_ref().map_or(0, |key| number(key) + 1);
        let rows = self.source.visible.range(from..).take_while(|(key, _)| Some(**key) <= bound).take(CHUNK);
        let (mut bytes, mut encoded, mut last) = (Vec::new(), Vec::new(), None);
        for (key, row) in rows {
            let start = bytes.len();
            bytes.extend_from_slice(&key.to_be_bytes());
            let value = bytes.len();
            bytes.extend_from_slice(&row.version.to_be_bytes());
            bytes.extend_from_slice(&row.big.to_be_bytes());
            encoded.push(EncodedRow { key: start..value, value: value..bytes.len(), texts: Vec::new() });
            last = Some(vec![key.to_string()]);
        }
        Answer::Chunk(Read {
            seen: self.source.seen(),
            lsn: self.source.lsn,
            ended: encoded.len() < CHUNK,
            bytes,
            rows: encoded,
            last,
            until: if until.is_none() { highest.map(|key| vec![key.to_string()]) } else { None },
        })
    }

    /// One life of a producer, of some steps or until all is read and delivered.
    fn live(&mut self, mut steps: Option<u64>) {
        self.term += 1;
        if self.term > 1 {
            self.kept.reopen();
        }
        let mut engine = Engine::new(self.kept.clone());
        let mut delivered = self.delivered;
        let mut count = 0;
        let mut reading: Option<Reading> = None;
        let mut sent: [Log; PARTITIONS] = Default::default();
        // (records sent in each partition, state, delivered) that hold once those are acknowledged.
        let mut marks: Vec<([usize; PARTITIONS], State, usize)> = Vec::new();
        let mut idle = 0;
        loop {
            if let Some(left) = &mut steps {
                if *left == 0 {
                    break;
                }
                *left -= 1;
            }
            if steps.is_some() || idle < 300 {
                self.source.work();
                idle += 1;
            } else {
                // The end: everyone commits and becomes visible.
                while let Some(index) = self.source.open.iter().position(|open| !open.committed) {
                    self.source.commit(index);
                }
                while !self.source.open.is_empty() {
                    self.source.show(0);
                }
            }
            let choice = below(&mut self.source.random, 4);
            if choice < 2 && !engine.is_quiet() && delivered < self.source.log.len() {
                self.deliver(&mut engine, delivered, &mut sent, &mut count);
                delivered += 1;
            } else if choice == 2 {
                if let Some(under_way) = reading.take() {
                    match self.answer(&under_way) {
                        Some(answer) => engine.answer(under_way.ask.scan, answer),
                        None => reading = Some(under_way),
                    }
                }
            } else {
                // A keepalive: nothing concerns the slot up to here.
                if delivered == self.source.log.len() {
                    self.boundary(&mut engine, self.source.lsn, &mut sent, &mut count);
                }
                if let Some(ask) = engine.ask() {
                    let writers = self.source.writers();
                    reading = Some(Reading { ask, writers });
                }
            }
            marks.push((std::array::from_fn(|partition| sent[partition].len()), engine.state().clone(), delivered));
            if steps.is_none() && engine.is_done() && delivered == self.source.log.len() && self.source.open.is_empty()
            {
                break;
            }
        }
        self.end(&sent, &marks, steps.is_none());
    }

    fn answer(&mut self, reading: &Reading) -> Option<Answer> {
        match &reading.ask.what {
            Asked::Position => Some(Answer::Position { lsn: self.source.lsn }),
            Asked::Settle { .. } => {
                let there = self.source.open.iter().any(|open| reading.writers.contains(&open.xid));
                (!there).then_some(Answer::Settled { estimate: 0 })
            }
            Asked::Chunk { .. } => Some(self.read(&reading.ask)),
        }
    }

    fn deliver(&mut self, engine: &mut Engine, index: usize, sent: &mut [Log; PARTITIONS], count: &mut u64) {
        let (begin, end, xid) = (self.source.log[index].begin, self.source.log[index].end, self.source.log[index].xid);
        self.boundary(engine, begin, sent, count);
        let unpublished = self.unpublished.get(&xid).copied().unwrap_or_default();
        for (number, (key, write)) in (1..).zip(self.source.log[index].writes.clone()).skip(unpublished) {
            if !self.forgets_window && engine.watched() == Some(TOPIC) {
                let touch = Touch { transaction: xid, partial: matches!(write, Write::Partial(_)) };
                engine.touch(&key.to_be_bytes(), touch);
            }
            let position = Position { number, ..place(1, begin + 1, 0, 0) };
            let effect = match write {
                Write::Put(row) => Effect::Put(key, row),
                Write::Partial(version) => Effect::Partial(key, version, engine.state().is_filling(TOPIC)),
                Write::Delete => Effect::Delete(key),
            };
            if !engine.state().is_muted(TOPIC) {
                sent[(key as usize) % PARTITIONS].push((position, effect));
            }
        }
        self.boundary(engine, end, sent, count);
    }

    fn boundary(&mut self, engine: &mut Engine, lsn: u64, sent: &mut [Log; PARTITIONS], count: &mut u64) {
        while let Some(due) = engine.boundary(lsn) {
            let mut next = || {
                *count += 1;
                place(1, engine.passed(), self.term, *count)
            };
            match due {
                Due::Marker { opening, .. } => {
                    let position = next();
                    if opening == Opening::Anew {
                        sent.iter_mut().for_each(|log| log.push((position, Effect::Empty)));
                    }
                }
                Due::Rows { bytes, rows, .. } => {
                    for row in rows {
                        let number =
                            |range: std::ops::Range<usize>| u64::from_be_bytes(bytes[range].try_into().unwrap());
                        let key = number(row.key);
                        let middle = row.value.start + 8;
                        let row = Row { version: number(row.value.start..middle), big: number(middle..row.value.end) };
                        sent[(key as usize) % PARTITIONS].push((next(), Effect::Read(key, row)));
                    }
                }
                Due::Definition { .. } => unreachable!("the table is never altered here"),
            }
        }
    }

    /// The life ends: any part of what each partition was sent is there, and a checkpoint that this part covers.
    fn end(&mut self, sent: &[Log; PARTITIONS], marks: &[([usize; PARTITIONS], State, usize)], whole: bool) {
        let mut there = [0; PARTITIONS];
        for (partition, log) in sent.iter().enumerate() {
            assert!(log.windows(2).all(|pair| pair[0].0 < pair[1].0), "positions grow: {log:?}");
            there[partition] =
                if whole { log.len() } else { below(&mut self.source.random, log.len() as u64 + 1) as usize };
            self.logs[partition].extend_from_slice(&log[..there[partition]]);
        }
        let reached =
            marks.iter().filter(|(needs, _, _)| needs.iter().zip(&there).all(|(needs, there)| needs <= there));
        let reached: Vec<_> = reached.collect();
        if !reached.is_empty() {
            let last =
                if whole { reached.len() - 1 } else { below(&mut self.source.random, reached.len() as u64) as usize };
            (self.kept, self.delivered) = (reached[last].1.clone(), reached[last].2);
        }
    }

    /// A consumer takes everything, by positions alone; it waits at markers.
    fn consume(&self, target: &mut BTreeMap<u64, Row>) -> Result<(), String> {
        let mut at = [0; PARTITIONS];
        let mut last: [Option<Position>; PARTITIONS] = [None; PARTITIONS];
        // The newest write of each key that was taken, a delete included.
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        loop {
            let mut waiting: [Option<Position>; PARTITIONS] = [None; PARTITIONS];
            for partition in 0..PARTITIONS {
                while let Some((position, effect)) = self.logs[partition].get(at[partition]).copied() {
                    if last[partition].is_some_and(|last| position <= last) {
                        at[partition] += 1;
                        continue;
                    }
                    if matches!(effect, Effect::Empty) {
                        waiting[partition] = Some(position);
                        break;
                    }
                    last[partition] = Some(position);
                    at[partition] += 1;
                    take(target, &mut newest, effect)?;
                }
            }
            // All at one marker: it is done. Else those at the lowest go on without it: the others are beyond it.
            let Some(lowest) = waiting.iter().flatten().min().copied() else { return Ok(()) };
            if waiting.iter().all(|marker| *marker == Some(lowest)) {
                target.clear();
            }
            for partition in 0..PARTITIONS {
                if waiting[partition] == Some(lowest) {
                    last[partition] = Some(lowest);
                    at[partition] += 1;
                }
            }
        }
    }
}

fn take(target: &mut BTreeMap<u64, Row>, newest: &mut BTreeMap<u64, u64>, effect: Effect) -> Result<(), String> {
    match effect {
        Effect::Empty => {}
        Effect::Read(key, row) => {
            if newest.get(&key).is_some_and(|newest| row.version < *newest) {
                return Err(format!("a row of key {key} is older than a change that was taken before"));
            }
            newest.insert(key, row.version);
            target.insert(key, row);
        }
        Effect::Put(key, row) => {
            newest.insert(key, row.version);
            target.insert(key, row);
        }
        Effect::Partial(key, version, filling) => {
            newest.insert(key, version);
            match target.get_mut(&key) {
                Some(row) => row.version = version,
                None if filling => {}
                None => return Err(format!("an update of key {key} finds no row")),
            }
        }
        Effect::Delete(key) => {
            target.remove(&key);
        }
    }
    Ok(())
}

fn command(resync: bool) -> Command {
    let collections = vec![Collection::parse("public.t").unwrap()];
    if resync { Command::Resync { collections } } else { Command::Execute { collections, conditions: Vec::new() } }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    /// Rows are missing in the target, and a signal asks for all.
    Signal,
    /// The target holds rows that the source has not.
    Resync,
    /// The table was not captured before.
    Added,
}

fn history(seed: u64, story: Story, lives: &[u64], forgets_window: bool) -> Result<(), String> {
    let source = Source {
        random: seed | 1,
        next_xid: 100,
        version: 0,
        lsn: 1 << 20,
        log: Vec::new(),
        open: Vec::new(),
        visible: BTreeMap::new(),
        latest: BTreeMap::new(),
    };
    let mut world = World {
        source,
        logs: Default::default(),
        kept: State::default(),
        delivered: 0,
        term: 0,
        unpublished: BTreeMap::new(),
        forgets_window,
    };
    for _ in 0..200 {
        world.source.work();
    }
    // What was there before is what the target begins with, but for what is to be mended.
    let mut target = BTreeMap::new();
    for commit in &world.source.log {
        for (key, write) in &commit.writes {
            apply(&mut target, *key, *write);
        }
    }
    world.delivered = world.source.log.len();
    match story {
        Story::Signal => {}
        Story::Resync => {
            target.insert(KEYS + 5, Row { version: 0, big: 0 });
        }
        Story::Added => {
            world.unpublished = world.source.open.iter().map(|open| (open.xid, open.writes.len())).collect();
            target.clear();
            let opening = if seed.is_multiple_of(2) { Opening::Fresh } else { Opening::Anew };
            if opening == Opening::Anew {
                target.insert(KEYS + 5, Row { version: 0, big: 0 });
            }
            let table = Captured { topic: TOPIC.into(), table: "public.t".into() };
            world.kept.add(&table, Some(opening), true);
        }
    }
    if story == Story::Signal {
        // Every third row is lost; what changes it later while nothing is read would find no row.
        world.kept.obey(&command(false), &[Captured { topic: TOPIC.into(), table: "public.t".into() }]);
        target.retain(|key, _| key % 3 != 0);
    }
    if story == Story::Resync {
        world.kept.obey(&command(true), &[Captured { topic: TOPIC.into(), table: "public.t".into() }]);
    }
    for steps in lives {
        world.live(Some(*steps));
    }
    world.live(None);
    world.consume(&mut target)?;
    if target == world.source.visible {
        Ok(())
    } else {
        Err(format!("target {target:?}\nsource {:?}", world.source.visible))
    }
}

fn story() -> impl Strategy<Value = Story> {
    prop_oneof![Just(Story::Signal), Just(Story::Resync), Just(Story::Added)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn the_target_ends_as_the_source(
        seed in any::<u64>(),
        story in story(),
        lives in proptest::collection::vec(0_u64..150, 0..5),
    ) {
        if let Err(difference) = history(seed, story, &lives, false) {
            prop_assert!(false, "{}", difference);
        }
    }
}

/// The property above would notice rows that overwrite newer changes.
#[test]
fn without_the_window_rows_are_stale() {
    assert!((1..300).any(|seed| history(seed, Story::Signal, &[], true).is_err()));
}
