//! The beginning of a producer's life: preflight, lock, place, topics, snapshot if one is due, and the slot.

mod node;
mod prepare;
mod topics;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sqlx::PgConnection;
use syncline_event::header::BarrierKind;
use syncline_event::position::Position;
use syncline_runtime::kafka::{Admin, CompactedRecord, KafkaError, read_latest};
use syncline_runtime::registry::Registry;
use tokio::sync::mpsc;

use crate::adopted::Tails;
use crate::beside::Beside;
use crate::captured::CapturedTable;
use crate::checkpoint::{self, Checkpoint, Found, Stage, TopicCheckpoint};
use crate::clock;
use crate::config::{Format, ProducerConfig, SnapshotMode};
use crate::context::Context;
use crate::error::ProducerError;
use crate::incremental::run::{Incremental, captured};
use crate::incremental::state::{Opening, State};
use crate::node::{Node, NodeCheckpoint};
use crate::place::Place;
use crate::publish::Publisher;
use crate::signals::send::ensure_topic;
use crate::signals::topic::{Received, follow};
use crate::snapshot::Snapshot;
use crate::sources::postgres::preflight::{Ready, preflight};
use crate::sources::postgres::publication::PublicationPlan;
use crate::sources::postgres::slot::{self, Slot};
use crate::sources::postgres::transport::{CreatedSlot, ReplicationSession, SlotKind};
use crate::start::{SlotFacts, Start, SystemIdentity, decide, reads_rows};
use crate::stats::Stats;
use crate::stream::Stream;

pub(crate) use topics::schemas_fit;
use topics::{same_form, same_topic};

/// A life that follows the log.
pub(crate) struct Life {
    /// Connections and settings.
    pub(crate) context: Context,
    /// The replication session, streaming.
    pub(crate) session: ReplicationSession,
    /// The place.
    pub(crate) place: Place,
    /// The captured tables.
    pub(crate) stream: Stream,
    /// Where the source's log ended at the start.
    pub(crate) goal: u64,
}

/// Begins a life: nothing is changed before everything has been looked at. `None` where all there was to do is done.
///
/// # Errors
///
/// Whatever is missing or does not fit.
pub(crate) async fn begin(config: &Arc<ProducerConfig>, stats: &Arc<Stats>) -> Result<Option<Life>, ProducerError> {
    let mut control = syncline_catalog::connect::connect(&config.source, "syncline-control").await?;
    let ready = preflight(&mut control, config).await?;
    lock(&mut control, &config.slot, ready.slot.as_ref()).await?;
    // The lock is held: nobody else moves the place while it is read.
    let Outlook { admin, registry, found, system, start } = look(config, &ready).await?;
    let Some(start) = start else {
        tracing::info!("all rows were read before, and snapshot.mode is initial_only: nothing is left to do");
        if ready.slot.is_some() {
            tracing::warn!(
                slot = config.slot,
                "the slot holds the log for nobody: drop it with pg_drop_replication_slot"
            );
        }
        return Ok(None);
    };
    let known = resumed(&start, &found);
    if let Start::Snapshot { lost: Some(what), .. } = &start {
        tracing::warn!(
            slot = config.slot,
            what,
            "the log is lost: reading all rows again, as snapshot.mode is when_needed"
        );
    }

    let beginning = Beginning { config, stats, admin: &admin, found: &found, system: &system };
    let goal = slot::flushed_lsn(&mut control)
        .await
        .map_err(|error| ProducerError::source("the log's end cannot be read", error))?;
    let (mut context, tables) = beginning.prepare(control, registry, &ready, known).await?;
    // What a topic or a schema beside the tables lacks shows before hours of a snapshot.
    let beside = Beside::open(&context).await?;
    publish_tables(&mut context.control, config, &ready.publication).await?;
    let used = beginning.used_topics(&tables).await?;
    let start = match start {
        // Topics without a checkpoint: epochs they already hold are unknown, so this one is above all by the clock.
        Start::First { .. } if used.contains(&true) => Start::First { epoch: clock::epoch_after_all() },
        start => start,
    };
    for table in known.into_iter().flat_map(|checkpoint| gone(&ready, checkpoint)) {
        tracing::info!(table = table.definition.qualified_name(), "the table is captured no more");
    }
    let (mut state, signals) = beginning.signals(beginning.scans(known, &tables, &used)).await?;
    let mut place = beginning.place(&context.publisher, &tables, &start, state.clone()).await?;
    let (epoch, session, tables) = match &start {
        Start::Resume { epoch, lsn, new_epoch } => {
            beginning.resume(&mut context, &mut place, tables, (*epoch, *lsn, *new_epoch)).await?
        }
        Start::First { epoch } | Start::Snapshot { epoch, .. } => {
            let copies = reads_rows(&start, config.snapshot_mode);
            beginning.first(&mut context, &mut place, (tables, &used), (*epoch, copies), ready.slot.as_ref()).await?
        }
    };
    if config.snapshot_mode == SnapshotMode::InitialOnly {
        tracing::info!("all rows are read; snapshot.mode is initial_only, so the log is not followed");
        return Ok(None);
    }
    state.opened();
    let incremental = Incremental::new(config, state, place.checkpoint().term, signals);
    let node = config.node.as_ref().zip(place.checkpoint().node.as_ref());
    let names = tables.iter().map(|table| table.definition.qualified_name());
    let node = node.map(|(settings, checkpoint)| Node::new(settings, checkpoint, names));
    let stream = Stream::new(epoch, tables, incremental, config.signals.table.as_deref(), beside, node);
    Ok(Some(Life { context, session, place, stream, goal }))
}

/// What a start finds beside a source that is ready.
pub(crate) struct Outlook {
    admin: Admin,
    registry: Registry,
    found: Found,
    system: SystemIdentity,
    /// `None` where nothing is left to do.
    pub(crate) start: Option<Start>,
}

/// Looks at everything that could stop a start, and changes nothing: a start that is refused leaves no trace.
///
/// # Errors
///
/// Whatever is missing or does not fit.
pub(crate) async fn look(config: &ProducerConfig, ready: &Ready) -> Result<Outlook, ProducerError> {
    let admin = Admin::connect(&config.kafka).await?;
    let registry = Registry::connect(&config.registry)?;
    let subjects = registry.check().await?;
    // Behind the slot, which never leads the checkpoint.
    let found = find_place(config).await?;
    let system = identify(config).await?;
    let facts = ready.slot.as_ref().map(|slot| SlotFacts { confirmed_lsn: slot.confirmed_lsn, lost: slot.lost });
    node::same_node(config, found.latest.as_ref())?;
    let start = decide(&config.slot, facts.as_ref(), found.latest.as_ref(), &system, config.snapshot_mode)?;
    if let (Some(node), Some(start)) = (&config.node, &start) {
        node::goes_on(config, node, &admin, (ready, &found), start).await?;
    }
    let known = start.as_ref().and_then(|start| resumed(start, &found)).map(|checkpoint| &checkpoint.topics);
    for (name, definition) in &ready.tables {
        match known.and_then(|topics| topics.get(name)) {
            Some(last) => {
                same_form(name, last, config.events.format)?;
                same_topic(&admin, name, last).await?;
            }
            None if config.events.format == Format::Avro => schemas_fit(&registry, &subjects, definition).await?,
            None => {}
        }
    }
    Ok(Outlook { admin, registry, found, system, start })
}

/// The checkpoint that a start goes on from.
fn resumed<'a>(start: &Start, found: &'a Found) -> Option<&'a Checkpoint> {
    found.latest.as_ref().filter(|_| matches!(start, Start::Resume { .. }))
}

/// Takes the slot's lock, or says who has it.
pub(crate) async fn lock(control: &mut PgConnection, name: &str, slot: Option<&Slot>) -> Result<(), ProducerError> {
    let failed = |error| ProducerError::source("the slot's lock cannot be taken", error);
    let holder = if slot::try_lock(control, name).await.map_err(failed)? {
        slot.and_then(|slot| slot.holder.clone())
    } else {
        Some(slot::lock_holder(control, name).await.map_err(failed)?.unwrap_or_else(|| "another producer".to_owned()))
    };
    match holder {
        None => Ok(()),
        Some(holder) => Err(ProducerError::SlotInUse { slot: name.to_owned(), holder }),
    }
}

pub(crate) async fn find_place(config: &ProducerConfig) -> Result<Found, ProducerError> {
    let records = read_if_there(config, &checkpoint::topic_name(&config.topic_prefix)).await?;
    checkpoint::find(&config.slot, &records)
}

/// The (key, value) records of a compacted topic; none where it does not exist yet.
async fn read_if_there(config: &ProducerConfig, topic: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>, ProducerError> {
    let with_value = |record: CompactedRecord| record.value.map(|value| (record.key, value));
    match read_latest(&config.kafka, topic).await {
        Ok(records) => Ok(records.into_iter().filter_map(with_value).collect()),
        Err(KafkaError::MissingTopic { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn identify(config: &ProducerConfig) -> Result<SystemIdentity, ProducerError> {
    ReplicationSession::open(&config.source, &config.slot, &config.publication, 0).await?.identify().await
}

/// Tables that are captured no more: what they left in Kafka and in the target stays.
fn gone<'a>(ready: &'a Ready, checkpoint: &'a Checkpoint) -> impl Iterator<Item = &'a TopicCheckpoint> {
    let gone = checkpoint.topics.iter().filter(|(topic, _)| !ready.tables.contains_key(*topic));
    gone.map(|(_, topic)| topic)
}

async fn publish_tables(
    control: &mut PgConnection,
    config: &ProducerConfig,
    plan: &PublicationPlan,
) -> Result<(), ProducerError> {
    let PublicationPlan::Change { reason, statements } = plan else { return Ok(()) };
    for statement in statements {
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statement.clone())).execute(&mut *control).await;
        if let Err(sqlx::Error::Database(error)) = &done
            && error.code().as_deref() == Some("42501")
        {
            return Err(ProducerError::Preflight(vec![format!(
                "publication {}: {reason}, and role {} may not change that ({}): let a DBA run\n  {};",
                config.publication,
                config.source.username,
                error.message(),
                statements.join(";\n  ")
            )]));
        }
        done.map_err(|error| ProducerError::source(&format!("publication {}", config.publication), error))?;
        tracing::info!(publication = config.publication, statement, "publication is made to fit");
    }
    Ok(())
}

/// What a beginning is made from.
pub(crate) struct Beginning<'a> {
    pub(crate) config: &'a Arc<ProducerConfig>,
    pub(crate) stats: &'a Arc<Stats>,
    pub(crate) admin: &'a Admin,
    pub(crate) found: &'a Found,
    pub(crate) system: &'a SystemIdentity,
}

impl Beginning<'_> {
    /// Which tables are to be read while the log is followed: those that the checkpoint names and those that are new.
    fn scans(&self, known: Option<&Checkpoint>, tables: &[CapturedTable], used: &[bool]) -> State {
        let mut state = self.found.latest.as_ref().map(|latest| latest.incremental.clone()).unwrap_or_default();
        let Some(known) = known else {
            state.superseded();
            return state;
        };
        state.keep_only(|topic| tables.iter().any(|table| table.topic.name() == topic));
        // An earlier life may have opened a table and published some of it. This one leaves out what was committed
        // before its own marker, deletes included, so nothing of that may stay.
        state.reopen();
        let copies = self.config.snapshot_mode.reads_rows();
        for (table, used) in tables.iter().zip(used) {
            if known.topics.contains_key(table.topic.name()) {
                continue;
            }
            let opening = match self.config.node {
                // Published from the start: stamps tell what is later, whatever was published before, and nothing that
                // other nodes have may be emptied.
                Some(_) => None,
                None if *used && copies => Some(Opening::Anew),
                None => Some(Opening::Fresh),
            };
            tracing::info!(
                table = table.definition.qualified_name(),
                copies,
                "the table is new among the captured ones"
            );
            state.add(&captured(table), opening, copies);
        }
        state
    }

    /// Where the signal topic is read from: behind what was acted upon, or behind everything there was at the first
    /// start.
    async fn signals(&self, mut state: State) -> Result<(State, mpsc::Receiver<Received>), ProducerError> {
        let Some(topic) = &self.config.signals.topic else { return Ok((state, mpsc::channel(1).1)) };
        ensure_topic(self.admin, self.config, topic).await?;
        let marks = self.admin.watermarks(topic).await?;
        let (low, high) = marks.first().map_or((0, 0), |marks| (marks.low, marks.high));
        let offset = match state.signal_offset {
            None => high,
            Some(offset) if (low..=high).contains(&offset) => offset,
            Some(offset) => {
                tracing::warn!(topic, offset, low, high, "the signal topic does not hold the next signal any more");
                low
            }
        };
        state.signal_offset = Some(offset);
        let receiver = follow(&self.config.kafka, topic, &self.config.topic_prefix, offset)?;
        Ok((state, receiver))
    }

    async fn place(
        &self,
        publisher: &Publisher,
        tables: &[CapturedTable],
        start: &Start,
        incremental: State,
    ) -> Result<Place, ProducerError> {
        let config = self.config;
        let (epoch, lsn, stage) = match start {
            Start::Resume { epoch, lsn, .. } => (*epoch, *lsn, Stage::Stream),
            Start::First { epoch } | Start::Snapshot { epoch, .. } => (*epoch, 0, Stage::Snapshot),
        };
        let checkpoint = Checkpoint {
            version: checkpoint::VERSION,
            term: self.found.latest.as_ref().map_or(1, |latest| latest.term + 1),
            epoch,
            stage,
            lsn,
            system_id: self.system.system_id.clone(),
            timeline: self.system.timeline,
            topics: tables.iter().map(|table| (table.topic.name().to_owned(), table.checkpoint())).collect(),
            adopted: resumed(start, self.found).and_then(|checkpoint| checkpoint.adopted.clone()),
            incremental,
            node: self.config.node.as_ref().map(|settings| {
                let earlier = self.found.latest.as_ref().and_then(|latest| latest.node.clone());
                earlier.unwrap_or_else(|| NodeCheckpoint::new(settings))
            }),
        };
        let topic = checkpoint::topic_name(&config.topic_prefix);
        let mut place = Place::new(topic, &config.slot, checkpoint, config.checkpoint_interval)?;
        // The new term is on record before anything is done under it.
        place.write_now(publisher, |_| {}).await?;
        let outdated = self.found.outdated.iter().copied().chain(self.found.latest.as_ref().map(|latest| latest.term));
        for term in outdated {
            place.forget(publisher, &config.slot, term).await?;
        }
        Ok(place)
    }

    async fn resume(
        &self,
        context: &mut Context,
        place: &mut Place,
        mut tables: Vec<CapturedTable>,
        (epoch, lsn, new_epoch): (u32, u64, bool),
    ) -> Result<(u32, ReplicationSession, Vec<CapturedTable>), ProducerError> {
        let config = self.config;
        for table in &mut tables {
            table.tails = Tails::of(place.checkpoint().adopted.as_ref(), table.topic.name());
        }
        let mut session = ReplicationSession::open(&config.source, &config.slot, &config.publication, lsn).await?;
        session.start().await?;
        if new_epoch {
            open_epoch(context, &mut tables, epoch, |_| BarrierKind::Epoch).await?;
            place.write_now(&context.publisher, |_| {}).await?;
        }
        // New tables whose rows are not read, or of a node: what is published of them begins here, however often this is
        // repeated.
        let incremental = &place.checkpoint().incremental;
        let opens =
            |topic: &str| incremental.only_opens(topic) || (config.node.is_some() && incremental.is_added(topic));
        for table in tables.iter_mut().filter(|table| opens(table.topic.name())) {
            table.send_marker(&context.publisher, Position::opening(epoch), BarrierKind::Epoch, None, None).await?;
        }
        context.publisher.drained().await?;
        context.stats.confirmed_lsn.store(lsn, Ordering::Relaxed);
        tracing::info!(slot = config.slot, lsn = %syncline_event::position::Lsn(lsn), epoch, "following the log");
        Ok((epoch, session, tables))
    }

    async fn first(
        &self,
        context: &mut Context,
        place: &mut Place,
        (mut tables, used): (Vec<CapturedTable>, &[bool]),
        (epoch, copies): (u32, bool),
        slot: Option<&Slot>,
    ) -> Result<(u32, ReplicationSession, Vec<CapturedTable>), ProducerError> {
        let config = self.config;
        // Rows of an earlier snapshot or an earlier life may be in the target: they must not outlive this one.
        let kind = |index: usize| match config.node {
            // What other nodes wrote may be there too: the snapshot's stamps lose to theirs.
            None if used[index] && copies => BarrierKind::Snapshot,
            _ => BarrierKind::Epoch,
        };
        let kept = slot.filter(|slot| config.node.is_some() && !slot.lost);
        if slot.is_some() && kept.is_none() {
            slot::drop_slot(&mut context.control, &config.slot)
                .await
                .map_err(|error| ProducerError::source(&format!("slot {} cannot be dropped", config.slot), error))?;
        }
        let mut session = ReplicationSession::open(&config.source, &config.slot, &config.publication, 0).await?;
        let only = config.snapshot_mode == SnapshotMode::InitialOnly;
        // Nobody will follow the log: the slot ends with the session.
        let keep = if only { SlotKind::Temporary } else { SlotKind::Kept { failover: config.failover } };
        let created = match kept {
            Some(slot) => CreatedSlot {
                consistent_point: slot.confirmed_lsn,
                snapshot_name: Some(node::export_snapshot(&mut context.control).await?),
            },
            None => session.create_slot(copies, keep).await?,
        };
        open_epoch(context, &mut tables, epoch, kind).await?;
        if let (true, Some(name)) = (copies, &created.snapshot_name) {
            context.stats.snapshot_running.store(true, Ordering::Relaxed);
            let snapshot = Snapshot {
                source: &config.source,
                name,
                consistent_point: created.consistent_point,
                epoch,
                parallel_tables: config.parallel_tables,
                node: config.node.as_ref(),
            };
            snapshot.copy(&context.publisher, &mut tables).await?;
            context.stats.snapshot_running.store(false, Ordering::Relaxed);
        } else if config.snapshot_mode == SnapshotMode::NoData {
            tracing::info!("snapshot.mode is no_data: rows that are there already are not copied");
        }
        if kept.is_some() {
            node::end_snapshot(&mut context.control).await?;
        }
        context.publisher.drained().await?;
        place
            .write_now(&context.publisher, |checkpoint| {
                checkpoint.stage = if only { Stage::Done } else { Stage::Stream };
                checkpoint.lsn = created.consistent_point;
            })
            .await?;
        if !only {
            session.start().await?;
        }
        context.stats.confirmed_lsn.store(created.consistent_point, Ordering::Relaxed);
        Ok((epoch, session, tables))
    }
}

/// Opens an epoch with a marker in every partition of every topic.
pub(crate) async fn open_epoch(
    context: &Context,
    tables: &mut [CapturedTable],
    epoch: u32,
    kind: impl Fn(usize) -> BarrierKind,
) -> Result<(), ProducerError> {
    for (index, table) in tables.iter_mut().enumerate() {
        table.send_marker(&context.publisher, Position::opening(epoch), kind(index), None, None).await?;
    }
    context.publisher.drained().await
}
