//! The producer's place: what it must know to go on after any end of its process.
//!
//! Kept in the compacted topic `<topic_prefix>.syncline.checkpoint` under a key of (slot, term). Every start takes a
//! new term and the highest term wins, so a producer that wakes up late overwrites only its own, outdated place. The
//! checkpoint is acknowledged before the slot is confirmed: the slot may lag behind it, never lead.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use syncline_event::table::TableDefinition;

use crate::adopted::Adopted;
use crate::config::Format;
use crate::error::ProducerError;
use crate::incremental::state::State;
use crate::node::NodeCheckpoint;

/// Layout of [`Checkpoint`]; a newer one is refused.
pub const VERSION: u32 = 3;

/// The layout of a checkpoint that is no node's.
const WITHOUT_NODE: u32 = 2;

/// The layout of a checkpoint without unfinished incremental snapshots, which an older build may go on from.
const WITHOUT_SCANS: u32 = 1;

/// The key of a checkpoint record, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointKey {
    /// The replication slot.
    pub slot: String,
    /// The start that wrote it.
    pub term: u64,
}

/// The value of a checkpoint record, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// [`VERSION`].
    pub version: u32,
    /// The start that wrote it.
    pub term: u64,
    /// The epoch of the records since.
    pub epoch: u32,
    /// What the producer was doing.
    pub stage: Stage,
    /// Everything committed up to here is acknowledged by Kafka. 0 while a snapshot runs.
    pub lsn: u64,
    /// `IDENTIFY_SYSTEM`: another database cluster must never be taken for this one.
    pub system_id: String,
    /// `IDENTIFY_SYSTEM`: grows when a standby is promoted.
    pub timeline: u32,
    /// Captured topics by name.
    pub topics: BTreeMap<String, TopicCheckpoint>,
    /// Where the producer ended from which the topics were taken over, until that is far behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted: Option<Adopted>,
    /// Incremental snapshots and signals.
    #[serde(default, skip_serializing_if = "State::is_blank")]
    pub incremental: State,
    /// What a node of a topology knew at `lsn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeCheckpoint>,
}

impl Checkpoint {
    /// The layout its content needs: an older build must not pass over tables that are being read, nor publish a node's
    /// changes without stamps.
    #[must_use]
    pub fn needed_version(&self) -> u32 {
        if self.node.is_some() {
            VERSION
        } else if self.incremental.scans.is_empty() {
            WITHOUT_SCANS
        } else {
            WITHOUT_NODE
        }
    }
}

/// What the producer was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// A snapshot was asked for or is under way; it cannot go on, it starts over.
    Snapshot,
    /// The log is followed.
    Stream,
    /// All rows were read, and nothing was to follow (`snapshot.mode: initial_only`).
    Done,
}

/// One captured topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicCheckpoint {
    /// Kafka's id of the topic.
    pub topic_id: String,
    /// Its partition count: a change of it would put keys elsewhere.
    pub partitions: u32,
    /// The schema id of the topic's first key. Keys under later ids are placed as if they had this one. 0, which no
    /// registry gives, for JSON.
    pub first_key_schema: u32,
    /// The definition last used: the catalog may be ahead of the log.
    pub definition: TableDefinition,
}

impl TopicCheckpoint {
    /// The form of the topic's records.
    #[must_use]
    pub fn form(&self) -> Format {
        if self.first_key_schema == 0 { Format::Json } else { Format::Avro }
    }
}

/// The name of the checkpoint topic.
#[must_use]
pub fn topic_name(prefix: &str) -> String {
    format!("{prefix}.syncline.checkpoint")
}

/// What the records of a checkpoint topic say about one slot.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The checkpoint of the highest term.
    pub latest: Option<Checkpoint>,
    /// Terms that have a record and are outdated.
    pub outdated: Vec<u64>,
}

/// Picks the slot's place from (key, value) records.
///
/// # Errors
///
/// A record that is not a checkpoint, or one of a newer layout: refused, since guessing a place loses data.
pub fn find(slot: &str, records: &[(Vec<u8>, Vec<u8>)]) -> Result<Found, ProducerError> {
    let unreadable = |what: &str, error: serde_json::Error| {
        ProducerError::Internal(format!("the checkpoint topic holds a {what} this version cannot read: {error}"))
    };
    let mut found = Found::default();
    for (key, value) in records {
        let key: CheckpointKey = serde_json::from_slice(key).map_err(|e| unreadable("key", e))?;
        if key.slot != slot {
            continue;
        }
        let checkpoint: Checkpoint = serde_json::from_slice(value).map_err(|e| unreadable("checkpoint", e))?;
        if checkpoint.version > VERSION {
            return Err(ProducerError::Internal(format!(
                "the checkpoint of slot {slot} has layout {}, this build knows {VERSION}: upgrade this producer",
                checkpoint.version
            )));
        }
        match &found.latest {
            Some(latest) if latest.term > checkpoint.term => found.outdated.push(checkpoint.term),
            _ => {
                found.outdated.extend(found.latest.as_ref().map(|latest| latest.term));
                found.latest = Some(checkpoint);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_event::horizon::Horizon;
    use syncline_event::stamp::{Clock, Held};

    fn checkpoint(term: u64, lsn: u64) -> Checkpoint {
        Checkpoint {
            version: VERSION,
            term,
            epoch: 1,
            stage: Stage::Stream,
            lsn,
            system_id: "7".into(),
            timeline: 1,
            topics: BTreeMap::new(),
            adopted: None,
            incremental: State::default(),
            node: None,
        }
    }

    fn record(slot: &str, checkpoint: &Checkpoint) -> (Vec<u8>, Vec<u8>) {
        let key = CheckpointKey { slot: slot.into(), term: checkpoint.term };
        (serde_json::to_vec(&key).unwrap(), serde_json::to_vec(checkpoint).unwrap())
    }

    #[test]
    fn the_highest_term_wins_whatever_the_order() {
        let records = [
            record("s", &checkpoint(2, 20)),
            record("other", &checkpoint(9, 90)),
            record("s", &checkpoint(3, 10)),
            record("s", &checkpoint(1, 99)),
        ];
        let found = find("s", &records).unwrap();
        assert_eq!(found.latest.map(|c| (c.term, c.lsn)), Some((3, 10)));
        assert_eq!(found.outdated, vec![2, 1]);
    }

    #[test]
    fn a_checkpoint_of_the_first_layout_is_read() {
        let text =
            r#"{"version":1,"term":3,"epoch":2,"stage":"stream","lsn":7,"system_id":"7","timeline":1,"topics":{}}"#;
        let found: Checkpoint = serde_json::from_str(text).unwrap();
        assert!(found.incremental.is_blank());
        assert_eq!(found.needed_version(), 1, "without unfinished snapshots an older build may go on");
        assert_eq!(serde_json::to_string(&found).unwrap(), text);
    }

    #[test]
    fn a_newer_layout_is_refused() {
        let newer = Checkpoint { version: VERSION + 1, ..checkpoint(1, 1) };
        assert!(find("s", &[record("s", &newer)]).is_err());
    }

    #[test]
    fn an_older_build_does_not_go_on_from_a_nodes_checkpoint() {
        let mut horizon = Horizon::default();
        let (origin, table, partition) = ("eu".to_owned(), "public.users".to_owned(), 0);
        horizon.hold(&Held { table, key: 5, origin, partition, from: Some(2) });
        let node = NodeCheckpoint {
            topology: "shop".into(),
            name: "hq".into(),
            clock: Clock::default(),
            seen: BTreeMap::from([("public.users".into(), horizon)]),
        };
        let checkpoint = Checkpoint { node: Some(node), ..checkpoint(1, 1) };
        assert_eq!(checkpoint.needed_version(), VERSION);
        let (key, value) = record("s", &checkpoint);
        assert_eq!(find("s", &[(key, value)]).unwrap().latest, Some(checkpoint));
    }
}
