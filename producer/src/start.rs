//! How a producer begins: slot and checkpoint compared. Facts in, decision out.
//!
//! Whatever does not fit stops the producer with the command that mends it. It never silently starts over, since a
//! new snapshot or a skipped stretch of the log is the operator's decision.

use syncline_event::position::Lsn;

use crate::checkpoint::{Checkpoint, Stage};
use crate::config::SnapshotMode;
use crate::error::ProducerError;

/// The source's identity (`IDENTIFY_SYSTEM`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemIdentity {
    /// The cluster's identifier.
    pub system_id: String,
    /// The timeline.
    pub timeline: u32,
    /// Where the timeline was forked off its parent; 0 on the first.
    pub forked_at: u64,
}

/// What the source says of the slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotFacts {
    /// `confirmed_flush_lsn`.
    pub confirmed_lsn: u64,
    /// Whether the server has dropped log that the slot needs (`wal_status = lost`, an invalidation).
    pub lost: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Nothing was captured before: create the slot; with `Initial`, copy all rows.
    First {
        /// The epoch to open.
        epoch: u32,
    },
    /// A snapshot was asked for, was interrupted, or is needed: drop the slot if there is one, begin anew behind a
    /// barrier.
    Snapshot {
        /// The epoch to open.
        epoch: u32,
        /// What is lost, where that is why.
        lost: Option<String>,
    },
    /// Go on behind the checkpoint.
    Resume {
        /// The epoch to go on in.
        epoch: u32,
        /// The checkpoint's position.
        lsn: u64,
        /// Whether the epoch opens now, since the source was promoted to another timeline.
        new_epoch: bool,
    },
}

/// Compares what is there. `None`: all rows were read, and the log is not to be followed.
///
/// # Errors
///
/// Everything that a person has to decide; with `snapshot.mode: when_needed` they have decided that a lost log is made
/// up for by a new snapshot.
pub fn decide(
    slot_name: &str,
    slot: Option<&SlotFacts>,
    checkpoint: Option<&Checkpoint>,
    system: &SystemIdentity,
    mode: SnapshotMode,
) -> Result<Option<Start>, ProducerError> {
    let lost = |what: String| ProducerError::Lost { slot: slot_name.to_owned(), what };
    let Some(checkpoint) = checkpoint else {
        return match slot {
            None => Ok(Some(Start::First { epoch: 1 })),
            Some(_) => Err(lost(
                "the slot exists but no checkpoint belongs to it: it may be another program's, or the checkpoint topic \
                 was deleted"
                    .to_owned(),
            )),
        };
    };
    if checkpoint.system_id != system.system_id {
        return Err(lost(format!(
            "the checkpoint belongs to the database cluster {}, this is the cluster {}",
            checkpoint.system_id, system.system_id
        )));
    }
    // Between a snapshot without a slot and another mode nothing was captured.
    let is_behind = checkpoint.stage == Stage::Done && mode != SnapshotMode::InitialOnly;
    if checkpoint.stage == Stage::Snapshot || is_behind {
        return Ok(Some(Start::Snapshot { epoch: checkpoint.epoch + 1, lost: None }));
    }
    if mode == SnapshotMode::InitialOnly {
        return Ok(None);
    }
    match go_on(slot, checkpoint, system) {
        Ok(start) => Ok(Some(start)),
        Err(what) if mode == SnapshotMode::WhenNeeded => {
            Ok(Some(Start::Snapshot { epoch: checkpoint.epoch + 1, lost: Some(what) }))
        }
        Err(what) => Err(lost(what)),
    }
}

/// The way behind a checkpoint of this cluster, or what is lost.
fn go_on(slot: Option<&SlotFacts>, checkpoint: &Checkpoint, system: &SystemIdentity) -> Result<Start, String> {
    let Some(slot) = slot else {
        return Err("the slot is gone, and with it the log since the checkpoint".to_owned());
    };
    if slot.lost {
        return Err("the server has dropped log that the slot had not confirmed (max_slot_wal_keep_size)".to_owned());
    }
    if slot.confirmed_lsn > checkpoint.lsn {
        return Err(format!(
            "the slot stands at {}, ahead of the checkpoint at {}: it was recreated or moved by another program",
            Lsn(slot.confirmed_lsn),
            Lsn(checkpoint.lsn)
        ));
    }
    let new_epoch = system.timeline != checkpoint.timeline;
    if new_epoch && checkpoint.lsn > system.forked_at {
        return Err(format!(
            "the source was promoted to timeline {} at {}, before the checkpoint at {}: changes that were published are \
             not in its history",
            system.timeline,
            Lsn(system.forked_at),
            Lsn(checkpoint.lsn)
        ));
    }
    Ok(Start::Resume { epoch: checkpoint.epoch + u32::from(new_epoch), lsn: checkpoint.lsn, new_epoch })
}

/// Whether a start reads all rows.
#[must_use]
pub fn reads_rows(start: &Start, mode: SnapshotMode) -> bool {
    match start {
        Start::First { .. } | Start::Snapshot { .. } => mode.reads_rows(),
        Start::Resume { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use SnapshotMode::{Initial, WhenNeeded};

    /// A start that has something to do.
    fn begin(
        slot_name: &str,
        slot: Option<&SlotFacts>,
        checkpoint: Option<&Checkpoint>,
        system: &SystemIdentity,
        mode: SnapshotMode,
    ) -> Result<Start, ProducerError> {
        decide(slot_name, slot, checkpoint, system, mode).map(|start| start.expect("there is something to do"))
    }

    fn checkpoint(stage: Stage, lsn: u64) -> Checkpoint {
        Checkpoint {
            version: 1,
            term: 4,
            epoch: 2,
            stage,
            lsn,
            system_id: "a".into(),
            timeline: 1,
            topics: BTreeMap::new(),
            adopted: None,
            incremental: crate::incremental::state::State::default(),
            node: None,
        }
    }

    fn system() -> SystemIdentity {
        SystemIdentity { system_id: "a".into(), timeline: 1, forked_at: 0 }
    }

    fn slot(confirmed_lsn: u64) -> SlotFacts {
        SlotFacts { confirmed_lsn, lost: false }
    }

    #[test]
    fn nothing_there_is_a_first_start() {
        assert_eq!(begin("s", None, None, &system(), Initial).unwrap(), Start::First { epoch: 1 });
    }

    #[test]
    fn a_slot_behind_the_checkpoint_goes_on() {
        let start = begin("s", Some(&slot(90)), Some(&checkpoint(Stage::Stream, 100)), &system(), Initial).unwrap();
        assert_eq!(start, Start::Resume { epoch: 2, lsn: 100, new_epoch: false });
    }

    #[test]
    fn an_interrupted_snapshot_starts_over_in_a_new_epoch() {
        for found in [None, Some(slot(50))] {
            let start = begin("s", found.as_ref(), Some(&checkpoint(Stage::Snapshot, 0)), &system(), Initial).unwrap();
            assert_eq!(start, Start::Snapshot { epoch: 3, lost: None });
        }
    }

    #[test]
    fn rows_that_were_to_be_read_once_are_not_read_again_until_more_is_asked_for() {
        let only = SnapshotMode::InitialOnly;
        assert_eq!(begin("s", None, None, &system(), only).unwrap(), Start::First { epoch: 1 });
        let interrupted = begin("s", None, Some(&checkpoint(Stage::Snapshot, 0)), &system(), only).unwrap();
        assert_eq!(interrupted, Start::Snapshot { epoch: 3, lost: None });
        for stage in [Stage::Done, Stage::Stream] {
            assert_eq!(decide("s", None, Some(&checkpoint(stage, 100)), &system(), only).unwrap(), None);
        }
        let start = begin("s", None, Some(&checkpoint(Stage::Done, 100)), &system(), Initial).unwrap();
        assert_eq!(start, Start::Snapshot { epoch: 3, lost: None });
    }

    #[test]
    fn whatever_lost_log_stops() {
        let stream = checkpoint(Stage::Stream, 100);
        let lost_slot = SlotFacts { lost: true, ..slot(90) };
        for (found, place) in [
            (Some(&slot(101)), Some(&stream)),
            (None, Some(&stream)),
            (Some(&lost_slot), Some(&stream)),
            (Some(&slot(1)), None),
        ] {
            let error = begin("s", found, place, &system(), Initial).unwrap_err();
            assert!(matches!(error, ProducerError::Lost { .. }), "{error}");
            // Without a checkpoint nobody knows whose the slot is.
            match begin("s", found, place, &system(), WhenNeeded) {
                Ok(Start::Snapshot { epoch: 3, lost: Some(_) }) => assert!(place.is_some()),
                other => assert!(place.is_none() && other.is_err(), "{other:?}"),
            }
        }
    }

    #[test]
    fn another_cluster_stops_even_a_snapshot() {
        let other = SystemIdentity { system_id: "b".into(), ..system() };
        for (stage, mode) in [(Stage::Stream, Initial), (Stage::Snapshot, Initial), (Stage::Stream, WhenNeeded)] {
            assert!(begin("s", Some(&slot(1)), Some(&checkpoint(stage, 100)), &other, mode).is_err());
        }
    }

    #[test]
    fn a_promotion_opens_an_epoch_unless_it_forked_before_the_checkpoint() {
        let promoted = |forked_at| SystemIdentity { timeline: 2, forked_at, ..system() };
        let stream = checkpoint(Stage::Stream, 100);
        let start = begin("s", Some(&slot(90)), Some(&stream), &promoted(100), Initial).unwrap();
        assert_eq!(start, Start::Resume { epoch: 3, lsn: 100, new_epoch: true });
        assert!(begin("s", Some(&slot(90)), Some(&stream), &promoted(99), Initial).is_err());
    }
}
