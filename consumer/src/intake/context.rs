//! What the client calls back while it is polled: rebalances, statistics, its log.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Statistics, TopicPartitionList};
use syncline_runtime::kafka::log_line;
use tracing::{debug, info, warn};

use super::members::Members;
use super::{commit, ignore};
use crate::handover::Event;
use crate::stats::Stats;

/// How long the lanes may take to finish transactions of partitions that are taken from us. A transaction that takes
/// longer does no harm: the swap of its progress row decides.
const HANDOVER: Duration = Duration::from_secs(5);

pub(super) struct PollContext {
    members: Mutex<Members>,
    stats: Arc<Stats>,
}

impl PollContext {
    pub(super) fn new(members: Members, stats: Arc<Stats>) -> Self {
        Self { members: Mutex::new(members), stats }
    }

    /// The members. Only the poll thread asks, so this never waits; it must not be held across a poll, which calls
    /// back.
    pub(super) fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, partitions: &[(String, i32)]) {
        let mut members = self.members();
        members.flush_all();
        let lanes = members.by_lane(partitions);
        let (done, handed_over) = sync_channel(lanes.len());
        let expected = lanes.len();
        for (lane, places) in lanes {
            members.tell(lane, Event::Revoke { places, done: done.clone() });
        }
        drop(done);
        let deadline = Instant::now() + HANDOVER;
        for _ in 0..expected {
            if handed_over.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_err() {
                debug!("a lane did not hand its partitions over in time");
                break;
            }
        }
        members.take_notes();
        if consumer.assignment_lost() {
            warn!(partitions = partitions.len(), "partitions were given to others since we did not answer in time");
        } else {
            commit(consumer, &mut members);
        }
        let mut fetched = TopicPartitionList::new();
        for (topic, partition) in partitions {
            if members.remove(topic, *partition) {
                fetched.add_partition(topic, *partition);
            }
        }
        ignore("unassign", consumer.incremental_unassign(&fetched));
    }
}

impl ConsumerContext for PollContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<(String, i32)> =
            list.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect();
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                info!(partitions = partitions.len(), "partitions assigned");
                // Nothing is fetched until the lanes know from where.
                ignore("assign", consumer.incremental_assign(&TopicPartitionList::new()));
                let mut members = self.members();
                for (topic, partition) in partitions {
                    members.assign(&topic, partition);
                }
            }
            _ => {
                info!(partitions = partitions.len(), "partitions revoked");
                self.revoke(consumer, &partitions);
            }
        }
    }
}

impl ClientContext for PollContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        debug!(target: "librdkafka", %error, "{reason}");
    }

    fn stats(&self, statistics: Statistics) {
        self.stats.update(|state| {
            for ((topic, partition), stats) in &mut state.partitions {
                let found = statistics.topics.get(topic).and_then(|topic| topic.partitions.get(partition));
                if let Some(end) = found.map(|found| found.hi_offset).filter(|end| *end >= 0) {
                    stats.end_offset = Some(end);
                }
            }
        });
    }
}
