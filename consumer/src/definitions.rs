//! Table definitions by topic and number, from the producers' topics `<prefix>.syncline.tables`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use syncline_event::table::TableDefinition;
use syncline_runtime::kafka::{CompactedReader, CompactedRecord, KafkaError};
use syncline_runtime::settings::KafkaSettings;
use tokio::sync::Mutex;

use crate::config::TopicSelection;
use crate::error::ConsumerError;

/// What the name of a topic of table definitions ends with, behind the prefix.
pub const TABLES_SUFFIX: &str = ".syncline.tables";

/// The number that stands for a topic's newest definition: markers that concern no definition carry it.
pub const NEWEST: u32 = 0;

/// All definitions read so far; shared by all lanes.
pub struct Definitions {
    settings: KafkaSettings,
    /// All prefixes there are, where they are known.
    known: Vec<String>,
    sources: Mutex<BTreeMap<String, Source>>,
}

struct Source {
    reader: CompactedReader,
    found: Found,
}

#[derive(Default)]
struct Found {
    by_topic: BTreeMap<String, BTreeMap<u32, Arc<TableDefinition>>>,
}

impl Definitions {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(settings: &KafkaSettings, topics: &TopicSelection) -> Self {
        let known = match topics {
            TopicSelection::Prefix(prefix) => vec![prefix.clone()],
            TopicSelection::Prefixes(prefixes) => prefixes.clone(),
            TopicSelection::Names(_) | TopicSelection::Regex(_) => Vec::new(),
        };
        Self { settings: settings.clone(), known, sources: Mutex::default() }
    }

    /// The definition of a topic by number; [`NEWEST`] asks for the newest. What is not known yet is looked for up to
    /// the end of the topic. `None`: no producer has published it.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// Kafka is away, or holds something that is no definition.
    pub async fn get(&self, topic: &str, number: u32) -> Result<Option<Arc<TableDefinition>>, ConsumerError> {
        let mut sources = self.sources.lock().await;
        for prefix in self.prefixes(topic) {
            let source = sources.entry(prefix).or_insert_with_key(|prefix| Source::new(&self.settings, prefix));
            // The newest may have become older.
            if number != NEWEST
                && let Some(found) = source.found.get(topic, number)
            {
                return Ok(Some(found));
            }
            source.read_on().await?;
            if let Some(found) = source.found.get(topic, number) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The data topics of a producer by now.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// As for [`Definitions::get`].
    pub async fn topics(&self, prefix: &str) -> Result<BTreeSet<String>, ConsumerError> {
        let mut sources = self.sources.lock().await;
        let source = sources.entry(prefix.to_owned()).or_insert_with_key(|prefix| Source::new(&self.settings, prefix));
        source.read_on().await?;
        Ok(source.found.by_topic.keys().cloned().collect())
    }

    /// The newest definition of each of a producer's tables.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// As for [`Definitions::get`].
    pub async fn newest(&self, prefix: &str) -> Result<Vec<Arc<TableDefinition>>, ConsumerError> {
        let topics = self.topics(prefix).await?;
        let mut newest = Vec::with_capacity(topics.len());
        for topic in topics {
            newest.extend(self.get(&topic, NEWEST).await?);
        }
        Ok(newest)
    }

    /// The prefixes a topic's definitions may be published under: the parts of its name, longest first.
    fn prefixes(&self, topic: &str) -> Vec<String> {
        if !self.known.is_empty() {
            let begins = |prefix: &&String| topic.strip_prefix(*prefix).is_some_and(|rest| rest.starts_with('.'));
            return self.known.iter().filter(begins).cloned().collect();
        }
        topic.rmatch_indices('.').filter_map(|(at, _)| topic.get(..at)).map(str::to_owned).collect()
    }
}

impl Source {
    fn new(settings: &KafkaSettings, prefix: &str) -> Self {
        let topic = format!("{prefix}{TABLES_SUFFIX}");
        Self { reader: CompactedReader::new(settings, &topic), found: Found::default() }
    }

    async fn read_on(&mut self) -> Result<(), ConsumerError> {
        match self.reader.read_on().await {
            Ok(records) => records.iter().try_for_each(|record| self.found.add(record)),
            // A producer that has not started yet, or a prefix that is none.
            Err(KafkaError::MissingTopic { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Found {
    fn add(&mut self, record: &CompactedRecord) -> Result<(), ConsumerError> {
        let Some(value) = &record.value else { return Ok(()) };
        let definition: TableDefinition = serde_json::from_slice(value).map_err(|error| {
            let key = String::from_utf8_lossy(&record.key).into_owned();
            let reason = format!("partition {} offset {} key {key}: {error}", record.partition, record.offset);
            ConsumerError::Definitions { reason }
        })?;
        let numbers = self.by_topic.entry(definition.topic.clone()).or_default();
        numbers.insert(definition.number, Arc::new(definition));
        Ok(())
    }

    fn get(&self, topic: &str, number: u32) -> Option<Arc<TableDefinition>> {
        let numbers = self.by_topic.get(topic)?;
        let found = if number == NEWEST { numbers.values().next_back() } else { numbers.get(&number) };
        found.map(Arc::clone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn record(topic: &str, number: u32) -> CompactedRecord {
        let value = format!(
            r#"{{"topic":"{topic}","number":{number},"schema":"public","table":"t","columns":[],"key":[],"replica_identity":"default"}}"#
        );
        CompactedRecord { partition: 0, offset: 0, key: b"{}".to_vec(), value: Some(value.into_bytes()) }
    }

    #[test]
    fn definitions_are_found_by_number_and_the_newest_by_none() {
        let mut found = Found::default();
        for number in [1, 3, 2] {
            found.add(&record("p.s.t", number)).unwrap();
        }
        assert_eq!(found.get("p.s.t", 2).unwrap().number, 2);
        assert_eq!(found.get("p.s.t", NEWEST).unwrap().number, 3);
        assert!(found.get("p.s.t", 4).is_none() && found.get("p.s.u", NEWEST).is_none());
        let bad = CompactedRecord { value: Some(b"[]".to_vec()), ..record("p.s.t", 1) };
        assert!(matches!(found.add(&bad), Err(ConsumerError::Definitions { .. })));
    }

    #[test]
    fn a_prefix_that_is_not_known_is_some_part_of_the_name() {
        let settings = KafkaSettings {
            bootstrap_servers: String::new(),
            partitions: 1,
            replication_factor: 1,
            properties: BTreeMap::new(),
        };
        let names = Definitions::new(&settings, &TopicSelection::Names(Vec::new()));
        assert_eq!(names.prefixes("shop.eu.public.users"), ["shop.eu.public", "shop.eu", "shop"]);
        let prefix = Definitions::new(&settings, &TopicSelection::Prefix("shop".into()));
        assert_eq!(prefix.prefixes("shop.eu.public.users"), ["shop"]);
        let both = TopicSelection::Prefixes(vec!["shop.eu".into(), "shop.e".into()]);
        assert_eq!(Definitions::new(&settings, &both).prefixes("shop.eu.public.users"), ["shop.eu"]);
    }
}
