//! Members of a group, their lanes real, their Kafka played.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use syncline_event::avro::frame::SchemaId;
use syncline_event::table::TableDefinition;
use syncline_runtime::shutdown::Shutdown;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

use super::memory::{Faults, Memory, Row};
use super::source::{PARTITIONS, Random, Source, Stored, TOPIC, schema, source};
use crate::batch::Limits;
use crate::chunk::{Chunk, NamedSchemas, Record};
use crate::commit::Commits;
use crate::error::ConsumerError;
use crate::handover::{Command, Event, Place};
use crate::lane::{Lane, LaneSettings, Lookup, LookupError};
use crate::start::InKafka;
use crate::stats::Stats;
use crate::targets::Progress;

/// What may happen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chaos {
    pub(super) crashes: bool,
    /// Partitions are given to another member without the first one hearing of it for a while.
    pub(super) zombies: bool,
    /// Producers repeat, and send for epochs that are over.
    pub(super) repeats: bool,
    /// Truncates and snapshots.
    pub(super) barriers: bool,
}

/// The answers of Kafka and the registry.
struct Outside {
    source: Arc<Source>,
    committed: Arc<Mutex<BTreeMap<i32, i64>>>,
}

#[async_trait]
impl Lookup for Outside {
    async fn schema(&self, id: SchemaId) -> Result<Arc<str>, LookupError> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let SchemaId::Id(id) = id else { unreachable!("the source frames its records") };
        Ok(schema(id).into())
    }

    async fn newest_value_schema(&self, _: &str) -> Result<Option<SchemaId>, LookupError> {
        Ok(None)
    }

    async fn definition(&self, _: &str, number: u32) -> Result<Option<Arc<TableDefinition>>, LookupError> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok((number <= 1).then(|| Arc::clone(&self.source.definition)))
    }

    async fn partition(&self, _: &str, partition: i32) -> Result<(String, InKafka), LookupError> {
        let high = self.source.logs[partition as usize].len() as i64;
        let committed = self.committed.lock().unwrap().get(&partition).copied();
        Ok(("id".into(), InKafka { low: 0, high, committed }))
    }
}

fn partition_of(key: &[u8]) -> i32 {
    let id: i32 = std::str::from_utf8(key).unwrap().parse().unwrap();
    id % PARTITIONS
}

struct Fetch {
    place: Place,
    run: u64,
    offset: i64,
}

struct Member {
    events: UnboundedSender<Event>,
    commands: Receiver<Command>,
    task: JoinHandle<Result<(), ConsumerError>>,
    /// What it takes for its own: it does not hear at once of what it loses.
    held: BTreeMap<i32, Place>,
    fetches: BTreeMap<i32, Fetch>,
    commits: Commits,
}

struct World {
    random: Random,
    source: Arc<Source>,
    target: Memory,
    committed: Arc<Mutex<BTreeMap<i32, i64>>>,
    members: Vec<Member>,
    /// The assignment in force.
    owners: BTreeMap<i32, (usize, Place)>,
    /// Assignments that their members do not know to be over.
    zombies: Vec<(usize, Place)>,
    assignments: u64,
}

/// One history. An error says what the target lacks.
pub(super) fn simulate(seed: u64, chaos: Chaos, faults: Faults) -> Result<(), String> {
    simulate_with(seed, chaos, faults, |_| ())
}

/// The same, with something done to the target first.
pub(super) fn simulate_with(
    seed: u64,
    chaos: Chaos,
    faults: Faults,
    prepare: impl FnOnce(&Memory),
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let target = Memory::new(seed, faults);
    prepare(&target);
    runtime.block_on(history(seed, chaos, target))
}

async fn history(seed: u64, chaos: Chaos, target: Memory) -> Result<(), String> {
    let source = Arc::new(source(seed, chaos));
    let mut world = World {
        random: Random::new(seed ^ 0x55),
        source,
        target,
        committed: Arc::default(),
        members: Vec::new(),
        owners: BTreeMap::new(),
        zombies: Vec::new(),
        assignments: 0,
    };
    for _ in 0..2 {
        let member = world.member();
        world.members.push(member);
    }
    for partition in 0..PARTITIONS {
        world.assign(partition);
    }
    for _ in 0..80 {
        world.obey();
        match world.random.below(20) {
            0 if chaos.crashes => world.crash(),
            1 if chaos.zombies => world.make_zombie(),
            2 => world.rebalance().await,
            3..=8 => {
                let pause = world.random.below(40);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            _ => world.deliver(20),
        }
    }
    world.settle().await
}

impl World {
    fn member(&self) -> Member {
        let (events, inbox) = tokio::sync::mpsc::unbounded_channel();
        let (commands, orders) = std::sync::mpsc::channel();
        let lane = Lane::new(
            LaneSettings {
                group: "g".into(),
                cluster_id: "c".into(),
                limits: Limits { changes: 7, bytes: 5000 },
                attempts: 2,
                sink: Arc::default(),
                mappings: Arc::default(),
                node: None,
            },
            Arc::new(self.target.clone()),
            Arc::new(Outside { source: Arc::clone(&self.source), committed: Arc::clone(&self.committed) }),
            Stats::new(),
            inbox,
            commands,
            Shutdown::new(),
        );
        let task = tokio::spawn(lane.run());
        Member {
            events,
            commands: orders,
            task,
            held: BTreeMap::new(),
            fetches: BTreeMap::new(),
            commits: Commits::default(),
        }
    }

    fn assign(&mut self, partition: i32) {
        self.assignments += 1;
        let member = self.random.below(self.members.len() as u64) as usize;
        let place = Place { topic: TOPIC.into(), partition, assignment: self.assignments };
        // A member that lost it before hears of that first.
        let told = self.zombies.extract_if(.., |(zombie, place)| *zombie == member && place.partition == partition);
        for (member, place) in told.collect::<Vec<_>>() {
            self.tell_revoked(member, place);
        }
        self.owners.insert(partition, (member, place.clone()));
        self.members[member].held.insert(partition, place.clone());
        drop(self.members[member].events.send(Event::Assign(place)));
    }

    /// What the poll thread does with commands, and the commit of offsets.
    fn obey(&mut self) {
        for member in &mut self.members {
            while let Ok(command) = member.commands.try_recv() {
                match command {
                    Command::Fetch { place, run, offset } if member.held.get(&place.partition) == Some(&place) => {
                        member.fetches.insert(place.partition, Fetch { place, run, offset });
                    }
                    Command::Hold { place } => {
                        if member.fetches.get(&place.partition).is_some_and(|fetch| fetch.place == place) {
                            member.fetches.remove(&place.partition);
                        }
                    }
                    Command::Own { place, next_offset, committed } => {
                        member.commits.start(TOPIC, place.partition, next_offset, committed);
                    }
                    Command::Finish { place, from, to } => member.commits.finish(TOPIC, place.partition, from, to),
                    Command::Fetch { .. } => {}
                    Command::Subscribe(_) | Command::End => unreachable!("lanes do not ask for it"),
                }
            }
            for ((_, partition), offset) in member.commits.take() {
                self.committed.lock().unwrap().insert(partition, offset);
            }
        }
    }

    /// Hands some records of a random partition to whoever fetches it.
    fn deliver(&mut self, most: u64) {
        let member = self.random.below(self.members.len() as u64) as usize;
        let partition = self.random.below(PARTITIONS as u64) as i32;
        let count = self.random.below(most) as usize + 1;
        let log = &self.source.logs[partition as usize];
        let member = &mut self.members[member];
        let Some(fetch) = member.fetches.get_mut(&partition) else { return };
        let mut chunk = Chunk::new(Arc::default());
        for Stored { key, value, header } in log.iter().skip(fetch.offset as usize).take(count) {
            let record = Record {
                offset: fetch.offset,
                key: key.as_deref(),
                value: value.as_deref(),
                header: Some(header),
                named: Ok(NamedSchemas::default()),
            };
            chunk.push(record);
            fetch.offset += 1;
        }
        drop(member.events.send(Event::Records { run: fetch.run, chunk }));
    }

    /// A member dies; what it has sent to the target may still arrive there.
    fn crash(&mut self) {
        let index = self.random.below(self.members.len() as u64) as usize;
        let member = self.member();
        let dead = std::mem::replace(&mut self.members[index], member);
        dead.task.abort();
        self.zombies.retain(|(member, _)| *member != index);
        let lost: Vec<i32> =
            self.owners.iter().filter(|(_, (member, _))| *member == index).map(|(partition, _)| *partition).collect();
        for partition in lost {
            self.assign(partition);
        }
    }

    /// A partition is given away and its member does not hear of it.
    fn make_zombie(&mut self) {
        let partition = self.random.below(PARTITIONS as u64) as i32;
        let zombie = self.owners[&partition].clone();
        self.zombies.push(zombie);
        self.assign(partition);
    }

    async fn rebalance(&mut self) {
        let partition = self.random.below(PARTITIONS as u64) as i32;
        let (member, place) = self.owners[&partition].clone();
        let (done, answered) = sync_channel(1);
        self.members[member].fetches.remove(&partition);
        self.members[member].held.remove(&partition);
        drop(self.members[member].events.send(Event::Revoke { places: vec![place], done }));
        // The poll thread waits for the answer, but not for ever.
        for _ in 0..self.random.below(20) {
            if answered.try_recv().is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.obey();
        self.assign(partition);
    }

    fn tell_revoked(&mut self, member: usize, place: Place) {
        let (done, _) = sync_channel(1);
        let told = &mut self.members[member];
        if told.held.get(&place.partition) == Some(&place) {
            told.held.remove(&place.partition);
            told.fetches.remove(&place.partition);
        }
        drop(told.events.send(Event::Revoke { places: vec![place], done }));
    }

    /// Whether every partition is at its end, or has stopped.
    fn done(&self) -> bool {
        let state = self.target.state.lock().unwrap();
        (0..PARTITIONS).all(|partition| {
            let end = self.source.logs[partition as usize].len() as i64;
            let at_end = |row: &Progress| row.next_offset == end && row.waits_for.is_none();
            state.progress.get(&partition).is_some_and(|row| row.stopped.is_some() || at_end(row))
        })
    }

    fn verdict(&self) -> Result<(), String> {
        let state = self.target.state.lock().unwrap();
        if let Some((partition, row)) = state.progress.iter().find(|(_, row)| row.stopped.is_some()) {
            return Err(self.stopped(*partition, row, &state.rows));
        }
        match state.rows == self.source.rows {
            true => Ok(()),
            false => Err(format!("target {:?}, source {:?}", state.rows, self.source.rows)),
        }
    }

    /// What to say of a stopped partition: the record's key, if all other partitions are as they should be.
    fn stopped(&self, partition: i32, row: &Progress, rows: &BTreeMap<Vec<u8>, Row>) -> String {
        let others = |rows: &BTreeMap<Vec<u8>, Row>| -> BTreeMap<Vec<u8>, Row> {
            let other = |key: &[u8]| partition_of(key) != partition;
            rows.iter().filter(|(key, _)| other(key)).map(|(key, row)| (key.clone(), row.clone())).collect()
        };
        if others(rows) != others(&self.source.rows) {
            return format!("other partitions are not at their ends, stopped: {row:?}");
        }
        let reason = row.stopped.clone().unwrap_or_default();
        let offset: usize = reason.trim_start_matches("offset ").split(':').next().unwrap().parse().unwrap();
        let key = self.source.logs[partition as usize][offset].key.clone().unwrap_or_default();
        // Behind the frame, the key is one long in zigzag: below 64, one byte.
        format!("stopped at a record of key {}", key.last().unwrap() / 2)
    }

    /// Nothing more goes wrong but answers of the target: everything must be applied before long.
    async fn settle(mut self) -> Result<(), String> {
        for (member, place) in std::mem::take(&mut self.zombies) {
            self.tell_revoked(member, place);
        }
        for _ in 0..3000 {
            self.obey();
            for _ in 0..6 {
                self.deliver(50);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            if !self.done() {
                continue;
            }
            // Transactions of the dead may still be under way, and a new owner may be about to try again.
            tokio::time::sleep(Duration::from_millis(300)).await;
            self.obey();
            if self.done() {
                return self.verdict();
            }
        }
        let state = self.target.state.lock().unwrap();
        Err(format!(
            "never done: {:?}, ends {:?}",
            state.progress,
            self.source.logs.iter().map(Vec::len).collect::<Vec<_>>()
        ))
    }
}
