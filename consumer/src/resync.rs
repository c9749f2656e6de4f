//! `syncline resync --topic`: an operator says where a topic goes on. Writes the target's progress rows, which decide,
//! and Kafka's offsets, which lag tools read and which must agree.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use syncline_runtime::kafka::{Admin, Watermarks, client_config};
use syncline_runtime::settings::KafkaSettings;

use crate::config::{ConsumerConfig, TargetConfig};
use crate::error::ConsumerError;
use crate::outside::Quiet;
use crate::targets::postgres::{Choice, PostgresTarget};

/// How long Kafka may take to answer.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Where to go on in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At the first record there is.
    Earliest,
    /// Behind the last record.
    Latest,
    /// At this offset.
    Offset(i64),
}

/// What a resync will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In words, one step a line.
    pub steps: Vec<String>,
    choice: Choice,
}

/// Says what a resync of a topic, or of one of its partitions, will do. Changes nothing.
///
/// # Errors
///
/// Kafka cannot be looked at, the topic or the offset is not there, or members of the group are running.
pub async fn plan(
    config: &ConsumerConfig,
    topic: &str,
    partition: Option<i32>,
    from: From,
) -> Result<Plan, ConsumerError> {
    let admin = Admin::connect(&config.kafka).await?;
    let Some(info) = admin.describe_topic(topic).await? else {
        return Err(ConsumerError::Resync(format!("topic {topic} does not exist; nothing was changed")));
    };
    nobody_runs(config, &config.consumer_group).await?;
    let watermarks = admin.watermarks(topic).await?;
    let offsets = offsets(topic, &watermarks, partition, from).map_err(ConsumerError::Resync)?;
    let mut steps: Vec<String> = offsets
        .iter()
        .map(|(partition, offset)| {
            format!(
                "consumer group {} goes on at offset {offset} of {topic} partition {partition}",
                config.consumer_group
            )
        })
        .collect();
    steps.push(match from {
        From::Latest => "what lies before is not applied; the target keeps what it has".to_owned(),
        From::Earliest | From::Offset(_) => {
            "records from there on are applied again, also those that were applied before: until the topic's end is \
             reached the target may show older rows"
                .to_owned()
        }
    });
    let choice = Choice {
        group: config.consumer_group.clone(),
        cluster_id: admin.cluster_id().to_owned(),
        topic: topic.to_owned(),
        topic_id: info.id,
        offsets,
        whole: partition.is_none(),
    };
    Ok(Plan { steps, choice })
}

/// Does it.
///
/// # Errors
///
/// Members of the group are running, a marker is in the way, or Kafka or the target refuses.
pub async fn execute(config: &ConsumerConfig, plan: &Plan) -> Result<(), ConsumerError> {
    nobody_runs(config, &config.consumer_group).await?;
    let TargetConfig::Postgresql(settings) = &config.target;
    let target = PostgresTarget::new(settings.clone(), "syncline resync".to_owned());
    target.choose(&plan.choice).await.map_err(ConsumerError::Target)?;
    commit(config, &plan.choice).await
}

/// The offset of each partition concerned; an error in words.
fn offsets(
    topic: &str,
    watermarks: &[Watermarks],
    partition: Option<i32>,
    from: From,
) -> Result<Vec<(i32, i64)>, String> {
    if matches!(from, From::Offset(_)) && partition.is_none() && watermarks.len() > 1 {
        return Err(format!("topic {topic} has {} partitions: an offset needs --partition", watermarks.len()));
    }
    let all = (0..).zip(watermarks).filter(|(number, _)| partition.is_none_or(|wanted| wanted == *number));
    let mut offsets = Vec::new();
    for (number, Watermarks { low, high }) in all {
        let offset = match from {
            From::Earliest => *low,
            From::Latest => *high,
            From::Offset(offset) if (*low..=*high).contains(&offset) => offset,
            From::Offset(offset) => {
                return Err(format!("topic {topic} partition {number} holds offsets {low} to {high}, not {offset}"));
            }
        };
        offsets.push((number, offset));
    }
    if offsets.is_empty() {
        return Err(format!("topic {topic} has {} partitions, numbered from 0", watermarks.len()));
    }
    Ok(offsets)
}

/// A running member would overwrite what is chosen, or be thrown out by it.
pub(crate) async fn nobody_runs(config: &ConsumerConfig, group: &str) -> Result<(), ConsumerError> {
    let name = group.to_owned();
    let members = with_client(config, group, move |client| {
        let found = client.fetch_group_list(Some(&name), ANSWER_TIME).map_err(|error| error.to_string())?;
        Ok(found.groups().iter().map(|group| group.members().len()).sum::<usize>())
    })
    .await?;
    if members > 0 {
        return Err(ConsumerError::Resync(format!(
            "consumer group {group} has {members} running members: stop all of them first; nothing was changed"
        )));
    }
    Ok(())
}

pub(crate) async fn commit(config: &ConsumerConfig, choice: &Choice) -> Result<(), ConsumerError> {
    let (topic, offsets) = (choice.topic.clone(), choice.offsets.clone());
    with_client(config, &choice.group, move |client| {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&topic, partition, Offset::Offset(offset)).map_err(|error| error.to_string())?;
        }
        client.commit(&list, CommitMode::Sync).map_err(|error| error.to_string())
    })
    .await
}

/// Runs a blocking question to Kafka with a client that never joins the group.
pub(crate) async fn with_client<T: Send + 'static>(
    config: &ConsumerConfig,
    group: &str,
    ask: impl FnOnce(&BaseConsumer<Quiet>) -> Result<T, String> + Send + 'static,
) -> Result<T, ConsumerError> {
    let (settings, group): (KafkaSettings, String) = (config.kafka.clone(), group.to_owned());
    let what = format!("kafka, for consumer group {group}");
    let answer = tokio::task::spawn_blocking(move || {
        let client: BaseConsumer<Quiet> = client_config(&settings, "syncline-resync")
            .set("group.id", &group)
            .set("enable.auto.commit", "false")
            .create_with_context(Quiet)
            .map_err(|error| error.to_string())?;
        ask(&client)
    });
    let answer = answer.await.map_err(|error| ConsumerError::Task { task: "resync", reason: error.to_string() })?;
    answer.map_err(|reason| ConsumerError::Resync(format!("{what}: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KAFKA: [Watermarks; 2] = [Watermarks { low: 5, high: 50 }, Watermarks { low: 0, high: 7 }];

    #[test]
    fn a_whole_topic_goes_to_one_of_its_ends() {
        assert_eq!(offsets("t", &KAFKA, None, From::Earliest), Ok(vec![(0, 5), (1, 0)]));
        assert_eq!(offsets("t", &KAFKA, None, From::Latest), Ok(vec![(0, 50), (1, 7)]));
        assert_eq!(offsets("t", &KAFKA, Some(1), From::Latest), Ok(vec![(1, 7)]));
    }

    #[test]
    fn an_offset_belongs_to_one_partition_and_must_be_there() {
        assert_eq!(offsets("t", &KAFKA, Some(0), From::Offset(50)), Ok(vec![(0, 50)]));
        assert_eq!(offsets("t", &KAFKA[..1], None, From::Offset(5)), Ok(vec![(0, 5)]));
        assert!(offsets("t", &KAFKA, None, From::Offset(6)).unwrap_err().contains("needs --partition"));
        assert!(offsets("t", &KAFKA, Some(0), From::Offset(4)).unwrap_err().contains("holds offsets 5 to 50, not 4"));
        assert!(offsets("t", &KAFKA, Some(2), From::Earliest).unwrap_err().contains("2 partitions"));
    }
}
