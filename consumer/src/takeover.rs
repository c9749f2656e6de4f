//! `syncline takeover jdbc-sink`: goes on where a sink connector's consumer group stopped, by writing its offsets as
//! progress rows.
//!
//! The rows it wrote are in the target; what its group has not committed may be, too, and is applied again.

use std::collections::BTreeMap;
use std::sync::Arc;

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use syncline_runtime::kafka::{Admin, Watermarks};

use crate::config::{ConsumerConfig, TargetConfig};
use crate::definitions::Definitions;
use crate::error::ConsumerError;
use crate::resync::{ANSWER_TIME, commit, nobody_runs, with_client};
use crate::targets::postgres::{Choice, PostgresTarget};
use crate::topics::Topics;

/// The sink that is taken over from.
#[derive(Debug, Clone)]
pub struct Sink {
    /// The connector's name, for messages.
    pub name: String,
    /// Its consumer group.
    pub group: String,
    /// Whether it still runs: what is planned is then where it stands now, and nothing can be carried out.
    pub running: bool,
}

/// What a takeover will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In words, one step a line.
    pub steps: Vec<String>,
    choices: Vec<Choice>,
}

impl Plan {
    /// The topics that are taken over.
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.choices.iter().map(|choice| choice.topic.as_str())
    }
}

/// Says what taking over will do. Changes nothing.
///
/// # Errors
///
/// The sink or we are running, its group has no offsets here, Kafka has deleted what comes next, or we have progress
/// already.
pub async fn plan(config: &ConsumerConfig, sink: &Sink) -> Result<Plan, ConsumerError> {
    let admin = Admin::connect(&config.kafka).await?;
    if !sink.running {
        nobody_runs(config, &sink.group).await?;
    }
    nobody_runs(config, &config.consumer_group).await?;
    let definitions = Arc::new(Definitions::new(&config.kafka, &config.topics));
    let topics = Topics::new(&config.topics, admin.clone(), definitions)?.list().await?;
    if topics.is_empty() {
        return Err(ConsumerError::Takeover(
            "the sync file selects no topics that exist: name those that the sink reads in kafka.topics or \
             kafka.topics_regex"
                .to_owned(),
        ));
    }
    let target = target(config);
    let (mut steps, mut choices) = (Vec::new(), Vec::new());
    let mut known = 0;
    for topic in topics {
        let Some(info) = admin.describe_topic(&topic).await? else {
            return Err(ConsumerError::Takeover(format!("topic {topic} does not exist: correct kafka.topics")));
        };
        let taken = target.has_progress(&config.consumer_group, admin.cluster_id(), &topic).await;
        if taken.map_err(ConsumerError::Target)? {
            return Err(ConsumerError::Takeover(format!(
                "consumer group {} has progress in topic {topic} already: start it, or choose another \
                 kafka.consumer_group",
                config.consumer_group
            )));
        }
        let marks = admin.watermarks(&topic).await?;
        let committed = committed(config, sink, &topic, marks.len()).await?;
        known += committed.len();
        let offsets = offsets(&topic, sink, &marks, &committed).map_err(ConsumerError::Takeover)?;
        for (partition, offset) in &offsets {
            steps.push(format!(
                "consumer group {} goes on at offset {offset} of {topic} partition {partition}{}",
                config.consumer_group,
                if committed.contains_key(partition) { "" } else { ", its first: the sink has read nothing of it" }
            ));
        }
        choices.push(Choice {
            group: config.consumer_group.clone(),
            cluster_id: admin.cluster_id().to_owned(),
            topic,
            topic_id: info.id,
            offsets,
            whole: true,
        });
    }
    if known == 0 {
        return Err(ConsumerError::Takeover(format!(
            "consumer group {} has no offsets in these topics: name the sink's group with --group, if its \
             consumer.override.group.id sets another",
            sink.group
        )));
    }
    steps.push(format!("after that connector {} must not run again: delete it", sink.name));
    Ok(Plan { steps, choices })
}

/// Does it.
///
/// # Errors
///
/// Somebody has begun to run since, or Kafka or the target refuses.
pub async fn execute(config: &ConsumerConfig, sink: &Sink, plan: &Plan) -> Result<(), ConsumerError> {
    nobody_runs(config, &sink.group).await?;
    nobody_runs(config, &config.consumer_group).await?;
    let target = target(config);
    for choice in &plan.choices {
        target.choose(choice).await.map_err(ConsumerError::Target)?;
        commit(config, choice).await?;
    }
    Ok(())
}

fn target(config: &ConsumerConfig) -> PostgresTarget {
    let TargetConfig::Postgresql(settings) = &config.target;
    PostgresTarget::new(settings.clone(), "syncline takeover".to_owned())
}

/// The offsets that the sink's group has committed, by partition.
async fn committed(
    config: &ConsumerConfig,
    sink: &Sink,
    topic: &str,
    partitions: usize,
) -> Result<BTreeMap<i32, i64>, ConsumerError> {
    let topic = topic.to_owned();
    let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
    with_client(config, &sink.group, move |client| {
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition(&topic, partition);
        }
        let found = client.committed_offsets(list, ANSWER_TIME).map_err(|error| error.to_string())?;
        let known = found.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        });
        Ok(known.collect())
    })
    .await
}

/// Where each partition goes on; an error in words. Connect reads what it has no offset of from the first record.
fn offsets(
    topic: &str,
    sink: &Sink,
    marks: &[Watermarks],
    committed: &BTreeMap<i32, i64>,
) -> Result<Vec<(i32, i64)>, String> {
    let mut offsets = Vec::new();
    for (partition, Watermarks { low, high }) in (0..).zip(marks) {
        let offset = committed.get(&partition).copied().unwrap_or(*low);
        if !(*low..=*high).contains(&offset) {
            return Err(format!(
                "topic {topic} partition {partition} holds offsets {low} to {high}, and consumer group {} stands at \
                 {offset}: records it had not read are gone, or the topic was created anew; copy the source anew with \
                 `syncline resync --source`",
                sink.group
            ));
        }
        offsets.push((partition, offset));
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKS: [Watermarks; 2] = [Watermarks { low: 5, high: 50 }, Watermarks { low: 3, high: 7 }];

    fn sink() -> Sink {
        Sink { name: "shop-sink".to_owned(), group: "connect-shop-sink".to_owned(), running: false }
    }

    #[test]
    fn each_partition_goes_on_at_the_sinks_offset() {
        assert_eq!(offsets("t", &sink(), &MARKS, &BTreeMap::from([(0, 50), (1, 4)])), Ok(vec![(0, 50), (1, 4)]));
        assert_eq!(offsets("t", &sink(), &MARKS, &BTreeMap::from([(0, 9)])), Ok(vec![(0, 9), (1, 3)]));
    }

    #[test]
    fn records_that_are_gone_are_not_passed_over() {
        for offset in [4, 51] {
            let refused = offsets("t", &sink(), &MARKS, &BTreeMap::from([(0, offset)])).unwrap_err();
            assert!(refused.contains("connect-shop-sink") && refused.contains("resync"), "{refused}");
        }
    }
}
