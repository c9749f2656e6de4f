//! `syncline takeover debezium`: goes on in the topics of a Debezium PostgreSQL connector, from where it stopped.
//!
//! The connector's slot, publication and topics become ours. The ends of the topics say what has been published; the
//! slot, which lags behind, delivers some of it again, and what is there already is left out (see [`crate::adopted`]).

mod offset;
mod tail;

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::PgConnection;
use syncline_event::header::BarrierKind;
use syncline_event::position::Lsn;
use syncline_runtime::kafka::Admin;
use syncline_runtime::registry::Registry;

pub use offset::Offset;

use crate::adopted::{Adopted, Tail};
use crate::checkpoint::{self, Checkpoint, Found, Stage};
use crate::clock;
use crate::config::{Format, ProducerConfig};
use crate::error::ProducerError;
use crate::life::{Beginning, find_place, identify, lock, open_epoch, schemas_fit};
use crate::place::Place;
use crate::sources::postgres::preflight::{Ready, preflight};
use crate::sources::postgres::publication::PublicationPlan;
use crate::sources::postgres::slot;
use crate::start::SystemIdentity;
use crate::stats::Stats;

/// What is known of the connector.
#[derive(Debug, Clone)]
pub struct Connector {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub offset: Offset,
    /// Whether the slot is right where it stands ahead of the offset (Debezium's `offset.mismatch.strategy`).
    pub trust_slot: bool,
    /// Whether it still runs: what is planned is then where it stands now, and nothing can be carried out.
    pub running: bool,
}

/// Says what taking over will do. Changes nothing.
///
/// # Errors
///
/// Whatever is missing or does not fit.
pub async fn plan(config: &ProducerConfig, connector: &Connector) -> Result<Vec<String>, ProducerError> {
    let mut control = syncline_catalog::connect::connect(&config.source, "syncline-takeover").await?;
    Ok(look(config, connector, &mut control).await?.steps(config, connector))
}

/// Does it: everything is looked at again, with the slot's lock held. The producer's next start goes on from there.
///
/// # Errors
///
/// As for [`plan`], and whatever Kafka or the registry refuse.
pub async fn execute(config: &ProducerConfig, connector: &Connector) -> Result<(), ProducerError> {
    let mut control = syncline_catalog::connect::connect(&config.source, "syncline-takeover").await?;
    let Looked { ready, admin, registry, system, slot_lsn, until, topics } =
        look(config, connector, &mut control).await?;
    let (config, stats) = (Arc::new(config.clone()), Arc::new(Stats::default()));
    let found = Found::default();
    let beginning = Beginning { config: &config, stats: &stats, admin: &admin, found: &found, system: &system };
    let (context, mut tables) = beginning.prepare(control, registry, &ready, None).await?;
    let mut adopted = Adopted { until, tails: BTreeMap::new() };
    for table in &mut tables {
        let Some(topic) = topics.get(table.topic.name()) else { continue };
        if let Some(id) = topic.key_schema {
            table.first_key_schema = id;
        }
        adopted.tails.insert(table.topic.name().to_owned(), topic.tails.clone());
    }
    // Above whatever the topics may hold; a takeover that is done again opens another one.
    let epoch = clock::epoch_after_all();
    open_epoch(&context, &mut tables, epoch, |_| BarrierKind::Epoch).await?;
    let checkpoint = Checkpoint {
        version: checkpoint::VERSION,
        term: 1,
        epoch,
        stage: Stage::Stream,
        lsn: slot_lsn,
        system_id: system.system_id.clone(),
        timeline: system.timeline,
        topics: tables.iter().map(|table| (table.topic.name().to_owned(), table.checkpoint())).collect(),
        adopted: Some(adopted),
        incremental: crate::incremental::state::State::default(),
        node: None,
    };
    let topic = checkpoint::topic_name(&config.topic_prefix);
    let mut place = Place::new(topic, &config.slot, checkpoint, config.checkpoint_interval)?;
    place.write_now(&context.publisher, |_| {}).await
}

/// What was found.
struct Looked {
    ready: Ready,
    admin: Admin,
    registry: Registry,
    system: SystemIdentity,
    slot_lsn: u64,
    until: u64,
    /// The topics that exist.
    topics: BTreeMap<String, Topic>,
}

struct Topic {
    partitions: i32,
    records: i64,
    key_schema: Option<u32>,
    tails: BTreeMap<u32, Tail>,
}

async fn look(
    config: &ProducerConfig,
    connector: &Connector,
    control: &mut PgConnection,
) -> Result<Looked, ProducerError> {
    let refused = |what: String| Err(ProducerError::Takeover(what));
    let name = &connector.name;
    if connector.offset.in_snapshot {
        return refused(format!(
            "connector {name} is still in its snapshot, which nobody can go on with: let it finish, or begin anew with \
             `syncline resync --source`"
        ));
    }
    if let Some(node) = &config.node {
        return refused(format!(
            "{} is a node of the topology {}, and records of connector {name} carry no stamps: give the node an empty \
             kafka.topic_prefix, a slot and a publication of its own",
            node.name, node.topology
        ));
    }
    let ready = preflight(control, config).await?;
    let locked = lock(control, &config.slot, ready.slot.as_ref()).await.or_else(|error| match error {
        ProducerError::SlotInUse { .. } if connector.running => Ok(()),
        error => Err(error),
    });
    locked.map_err(|error| match error {
        ProducerError::SlotInUse { slot, holder } => ProducerError::Takeover(format!(
            "slot {slot} is in use by {holder}: stop connector {name} first (`syncline takeover debezium --stop`, or \
             `syncline connectors stop {name}`)"
        )),
        other => other,
    })?;
    if find_place(config).await?.latest.is_some() {
        return refused(format!(
            "a producer of ours has a place for slot {} already: start it with `syncline run` or `syncline produce`",
            config.slot
        ));
    }
    let Some(slot) = &ready.slot else {
        return refused(format!(
            "there is no slot {} in database {}: write the connector's slot.name to cdc_config.postgresql.slot",
            config.slot, config.source.database
        ));
    };
    if slot.lost {
        return refused(format!(
            "the server has dropped log that slot {} needs: begin anew with `syncline resync --source`",
            config.slot
        ));
    }
    if slot.confirmed_lsn > connector.offset.furthest && !connector.trust_slot && !connector.running {
        return refused(format!(
            "slot {} stands at {}, ahead of connector {name} at {}: it was moved or created anew, and changes between \
             may never have been published. If the connector itself confirms more than it stores (lsn.flush.mode \
             connector_and_driver), add --trust-slot; else begin anew with `syncline resync --source`",
            config.slot,
            Lsn(slot.confirmed_lsn),
            Lsn(connector.offset.furthest)
        ));
    }
    if config.events.format == Format::Json {
        return refused(
            "the connector's topics hold Avro, and cdc_config.output_format.type is json: keys would move to other \
             partitions and lose their order; write avro"
                .to_owned(),
        );
    }
    let slot_lsn = slot.confirmed_lsn;
    let system = identify(config).await?;
    let admin = Admin::connect(&config.kafka).await?;
    let registry = Registry::connect(&config.registry)?;
    let subjects = registry.check().await?;
    let mut ends = tail::Tails::new(&config.kafka, registry.clone());
    let mut topics = BTreeMap::new();
    for (topic, definition) in &ready.tables {
        schemas_fit(&registry, &subjects, definition).await?;
        let Some(info) = admin.describe_topic(topic).await? else { continue };
        let marks = admin.watermarks(topic).await?;
        let records = marks.iter().map(|marks| marks.high - marks.low).sum();
        let found = ends.read(topic, &marks).await?;
        topics.insert(
            topic.clone(),
            Topic { partitions: info.partitions, records, key_schema: found.key_schema, tails: found.tails },
        );
    }
    if topics.is_empty() {
        return refused(format!(
            "no topic {}.<schema>.<table> exists: write the connector's topic.prefix to kafka.topic_prefix",
            config.topic_prefix
        ));
    }
    let until = slot::flushed_lsn(control)
        .await
        .map_err(|error| ProducerError::source("the log's end cannot be read", error))?;
    Ok(Looked { ready, admin, registry, system, slot_lsn, until, topics })
}

impl Looked {
    fn steps(&self, config: &ProducerConfig, connector: &Connector) -> Vec<String> {
        let mut steps = vec![format!(
            "slot {} goes on at {} (connector {} stands at {}); what it delivers again and the topics hold already is \
             not published again",
            config.slot,
            Lsn(self.slot_lsn),
            connector.name,
            Lsn(connector.offset.furthest)
        )];
        if let PublicationPlan::Change { reason, statements } = &self.ready.publication {
            steps.push(format!(
                "publication {}: {reason}; the producer's start runs: {}",
                config.publication,
                statements.join("; ")
            ));
        }
        for (name, definition) in &self.ready.tables {
            let table = definition.qualified_name();
            steps.push(match self.topics.get(name) {
                None => format!("topic {name} of table {table} does not exist yet, nothing was published: it is created"),
                Some(topic) => format!(
                    "topic {name} of table {table}: {} partitions, {} records, {}; an epoch marker is written into each \
                     partition",
                    topic.partitions,
                    topic.records,
                    match topic.key_schema {
                        Some(id) => format!("keys keep their partitions by schema id {id}"),
                        None => "without a key yet".to_owned(),
                    }
                ),
            });
        }
        steps.push(format!(
            "the place is written to {}; after that connector {} must not run again: delete it",
            checkpoint::topic_name(&config.topic_prefix),
            connector.name
        ));
        steps
    }
}
