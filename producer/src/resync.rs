//! `syncline resync --source`: begin anew with a snapshot, on the operator's word.

use syncline_runtime::kafka::Admin;
use syncline_runtime::settings::KafkaSettings;

use crate::checkpoint::{self, Checkpoint, Stage};
use crate::clock;
use crate::config::{ProducerConfig, SnapshotMode};
use crate::error::ProducerError;
use crate::life::{find_place, identify, lock};
use crate::node::NODE_READS_ONCE;
use crate::place::Place;
use crate::publish::Publisher;
use crate::sources::postgres::preflight::{Ready, preflight};
use crate::sources::postgres::slot;

/// What a resync will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In words, one step a line.
    pub steps: Vec<String>,
}

/// Says what a resync of the whole source will do. Changes nothing.
///
/// # Errors
///
/// The source or Kafka cannot be looked at.
pub async fn plan(config: &ProducerConfig) -> Result<Plan, ProducerError> {
    not_of_a_node(config)?;
    let mut control = syncline_catalog::connect::connect(&config.source, "syncline-resync").await?;
    let ready = preflight(&mut control, config).await?;
    let tables: Vec<String> = ready.tables.values().map(|table| table.qualified_name()).collect();
    let mut steps = Vec::new();
    if let Some(slot) = &ready.slot {
        let user =
            slot.holder.as_ref().map(|holder| format!(" (in use by {holder}: stop it first)")).unwrap_or_default();
        steps.push(format!(
            "drop replication slot {}{user}; changes it has not delivered are not needed any more",
            config.slot
        ));
    }
    steps.push("note in the checkpoint that a snapshot is wanted".to_owned());
    steps.push(match config.snapshot_mode {
        SnapshotMode::InitialOnly => format!(
            "at the next start of the producer: copy all rows of {} behind a marker at which consumers empty the target \
             tables, and end, since snapshot.mode is initial_only",
            tables.join(", ")
        ),
        SnapshotMode::Initial | SnapshotMode::WhenNeeded => format!(
            "at the next start of the producer: create the slot, and copy all rows of {} behind a marker at which \
             consumers empty the target tables",
            tables.join(", ")
        ),
        SnapshotMode::NoData => format!(
            "at the next start of the producer: create the slot and follow {} from then on, without copying rows, since \
             snapshot.mode is no_data",
            tables.join(", ")
        ),
    });
    Ok(Plan { steps })
}

/// Does it. The snapshot itself is taken by the producer's next start.
///
/// # Errors
///
/// The slot is in use, or the source or Kafka refuses.
pub async fn execute(config: &ProducerConfig) -> Result<(), ProducerError> {
    not_of_a_node(config)?;
    let mut control = syncline_catalog::connect::connect(&config.source, "syncline-resync").await?;
    let Ready { slot: found_slot, .. } = preflight(&mut control, config).await?;
    lock(&mut control, &config.slot, found_slot.as_ref()).await?;
    let system = identify(config).await?;
    let found = find_place(config).await?;
    let checkpoint = match found.latest {
        Some(last) => Checkpoint {
            term: last.term + 1,
            stage: Stage::Snapshot,
            lsn: 0,
            system_id: system.system_id,
            timeline: system.timeline,
            adopted: None,
            ..last
        },
        None => Checkpoint {
            version: checkpoint::VERSION,
            term: 1,
            epoch: clock::epoch_after_all(),
            stage: Stage::Snapshot,
            lsn: 0,
            system_id: system.system_id,
            timeline: system.timeline,
            topics: std::collections::BTreeMap::new(),
            adopted: None,
            incremental: crate::incremental::state::State::default(),
            node: None,
        },
    };
    write(&config.kafka, config, checkpoint).await?;
    if found_slot.is_some() {
        slot::drop_slot(&mut control, &config.slot)
            .await
            .map_err(|error| ProducerError::source(&format!("slot {} cannot be dropped", config.slot), error))?;
    }
    Ok(())
}

fn not_of_a_node(config: &ProducerConfig) -> Result<(), ProducerError> {
    match &config.node {
        None => Ok(()),
        Some(node) => Err(ProducerError::Node { name: node.name.clone(), what: NODE_READS_ONCE.to_owned() }),
    }
}

async fn write(kafka: &KafkaSettings, config: &ProducerConfig, checkpoint: Checkpoint) -> Result<(), ProducerError> {
    let topic = checkpoint::topic_name(&config.topic_prefix);
    let settings = [("cleanup.policy", "compact"), ("max.message.bytes", "16777216")];
    Admin::connect(kafka).await?.ensure_topic(&topic, 1, kafka.replication_factor, &settings).await?;
    let publisher = Publisher::open(kafka)?;
    Place::new(topic, &config.slot, checkpoint, config.checkpoint_interval)?.write_now(&publisher, |_| {}).await
}
