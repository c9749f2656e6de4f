//! Where a partition starts when it is assigned, or why it does not. Decisions only.
//!
//! The target's row says where; Kafka's offset and what Kafka still holds are compared with it. Nothing is ever
//! skipped: what does not add up stops the partition and names the command that settles it.

use crate::targets::{PartitionKey, Progress};

/// What Kafka says about a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InKafka {
    /// The offset of the first record that is still there.
    pub low: i64,
    /// The offset the next record will get.
    pub high: i64,
    /// The group's committed offset.
    pub committed: Option<i64>,
}

/// What to do with an assigned partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Go on where the row says.
    Go(Note),
    /// Wait for someone to act. Says what is wrong and how to settle it.
    Stop(String),
}

/// What is worth saying about a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// Nothing.
    Nothing,
    /// Kafka's offset is ahead of the row: the target was restored from a backup, and records are applied again.
    Rewinds,
    /// Kafka's offset is behind the row, which wins: either the process died before it told Kafka, or an operator
    /// moved the offset back.
    Overrules,
}

/// Decides. `rows` are all progress rows of the topic's name, whatever its id.
#[must_use]
pub fn decide(key: &PartitionKey, progress: &Progress, rows: &[PartitionKey], kafka: InKafka) -> Start {
    let PartitionKey { group, topic, topic_id, partition, .. } = key;
    let next = progress.next_offset;
    let untouched = next == 0 && progress.position.is_none();
    if untouched && let Some(other) = rows.iter().find(|row| row.topic_id != *topic_id) {
        return Start::Stop(format!(
            "topic {topic} was deleted and created again: the target's progress belongs to topic id {}, the topic has id \
             {topic_id} now; what was in the old one and not applied is lost: copy the source anew with `syncline resync \
             --source`, or apply the new topic as it is with `syncline resync --topic {topic} --from earliest`",
            other.topic_id
        ));
    }
    let committed = kafka.committed.filter(|offset| *offset > 0);
    if untouched && let Some(committed) = committed {
        return Start::Stop(format!(
            "consumer group {group} stands at offset {committed} of topic {topic} partition {partition}, but this target \
             has no progress for it; if what lies before is in the target already, go on there with `syncline resync \
             --topic {topic} --partition {partition} --from {committed}`, else apply everything with `syncline resync \
             --topic {topic} --partition {partition} --from earliest`"
        ));
    }
    if kafka.low > next {
        return Start::Stop(format!(
            "topic {topic} partition {partition} starts at offset {} in kafka, and offset {next} is next here: what lies \
             between was deleted (retention) before it was applied; copy the source anew with `syncline resync \
             --source`, or accept the gap with `syncline resync --topic {topic} --partition {partition} --from earliest`",
            kafka.low
        ));
    }
    if next > kafka.high {
        return Start::Stop(format!(
            "topic {topic} partition {partition} ends at offset {} in kafka, but offset {next} is next here: kafka lost \
             records or is another one; copy the source anew with `syncline resync --source`, or go on with `syncline \
             resync --topic {topic} --partition {partition} --from latest`",
            kafka.high
        ));
    }
    Start::Go(match kafka.committed {
        Some(committed) if committed > next => Note::Rewinds,
        Some(committed) if committed < next => Note::Overrules,
        _ => Note::Nothing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_event::position::Position;

    fn key() -> PartitionKey {
        PartitionKey {
            group: "g".into(),
            cluster_id: "c".into(),
            topic: "t".into(),
            topic_id: "new".into(),
            partition: 1,
        }
    }

    fn progress(next_offset: i64) -> Progress {
        Progress { next_offset, position: None, waits_for: None, stopped: None }
    }

    fn stopped(start: &Start, words: &str) -> bool {
        matches!(start, Start::Stop(reason) if reason.contains(words) && reason.contains("`syncline resync --"))
    }

    #[test]
    fn the_row_wins_over_kafkas_offset() {
        let kafka = |committed| InKafka { low: 0, high: 100, committed };
        for (committed, note) in
            [(None, Note::Nothing), (Some(50), Note::Nothing), (Some(60), Note::Rewinds), (Some(40), Note::Overrules)]
        {
            assert_eq!(decide(&key(), &progress(50), &[key()], kafka(committed)), Start::Go(note));
        }
        assert_eq!(decide(&key(), &progress(0), &[key()], kafka(None)), Start::Go(Note::Nothing));
    }

    #[test]
    fn a_target_without_progress_takes_over_nothing_by_itself() {
        let kafka = InKafka { low: 0, high: 100, committed: Some(7) };
        assert!(stopped(&decide(&key(), &progress(0), &[key()], kafka), "--from 7"));
        let kafka = InKafka { low: 3, high: 100, committed: None };
        assert!(stopped(&decide(&key(), &progress(0), &[key()], kafka), "starts at offset 3"));
        let waits = Progress { position: Some(Position::opening(1)), ..progress(0) };
        let kafka = InKafka { low: 0, high: 100, committed: Some(7) };
        assert_eq!(decide(&key(), &waits, &[key()], kafka), Start::Go(Note::Rewinds));
    }

    #[test]
    fn gaps_and_lost_ends_stop() {
        let kafka = InKafka { low: 60, high: 100, committed: Some(50) };
        assert!(stopped(&decide(&key(), &progress(50), &[key()], kafka), "retention"));
        let kafka = InKafka { low: 0, high: 40, committed: None };
        assert!(stopped(&decide(&key(), &progress(50), &[key()], kafka), "ends at offset 40"));
    }

    #[test]
    fn a_topic_created_again_stops_unless_someone_chose_where_to_start() {
        let old = PartitionKey { topic_id: "old".into(), ..key() };
        let kafka = InKafka { low: 0, high: 100, committed: Some(50) };
        assert!(stopped(&decide(&key(), &progress(0), &[key(), old.clone()], kafka), "created again"));
        assert_eq!(decide(&key(), &progress(50), &[key(), old], kafka), Start::Go(Note::Nothing));
    }
}
