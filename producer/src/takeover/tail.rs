//! The last record of the log in each partition of a topic, found from the topic's end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::Headers;
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::Value;
use syncline_event::avro::frame;
use syncline_event::header::HEADER_NAME;
use syncline_event::partition::partition_for_key;
use syncline_runtime::kafka::{Watermarks, client_config};
use syncline_runtime::registry::Registry;
use syncline_runtime::settings::KafkaSettings;

use crate::adopted::Tail;
use crate::error::ProducerError;

/// Records that are read at first; where the end is not found among them, more.
const WINDOW: i64 = 500;
/// How long Kafka may be silent.
const ANSWER_TIME: Duration = Duration::from_secs(15);

/// What the end of a topic says.
#[derive(Debug, Default)]
pub(super) struct TopicTail {
    /// Per partition; a partition without a record of the log has none.
    pub(super) tails: BTreeMap<u32, Tail>,
    /// The schema id of the last keys.
    pub(super) key_schema: Option<u32>,
}

/// Reads the ends of topics.
pub(super) struct Tails {
    kafka: KafkaSettings,
    registry: Registry,
    schemas: BTreeMap<u32, Arc<Schema>>,
}

struct Record {
    offset: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    ours: bool,
}

/// What a source block says of a record.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    operation: String,
    snapshot: String,
    transaction: Option<u32>,
    lsn: Option<u64>,
    behind: u64,
}

impl Tails {
    pub(super) fn new(kafka: &KafkaSettings, registry: Registry) -> Self {
        Self { kafka: kafka.clone(), registry, schemas: BTreeMap::new() }
    }

    /// Reads a topic's end.
    ///
    /// # Errors
    ///
    /// Kafka, or records that no PostgreSQL connector of Debezium has written this way.
    pub(super) async fn read(&mut self, topic: &str, marks: &[Watermarks]) -> Result<TopicTail, ProducerError> {
        let mut found = TopicTail::default();
        let count = u32::try_from(marks.len()).unwrap_or(u32::MAX);
        for (partition, marks) in (0_u32..).zip(marks) {
            let mut window = WINDOW;
            loop {
                let from = (marks.high - window).max(marks.low);
                let records = self.window(topic, partition, from, marks.high).await?;
                if let Some(key) =
                    records.iter().rev().find(|record| !record.ours).and_then(|record| record.key.as_ref())
                {
                    let id = placed_by_default(topic, key, partition, count)?;
                    found.key_schema = found.key_schema.or(Some(id));
                }
                let whole = from == marks.low;
                match self.last(topic, partition, &records, whole).await? {
                    Looked::Found(tail) => drop(found.tails.insert(partition, tail)),
                    Looked::Nothing => {}
                    Looked::FurtherBack => {
                        window *= 4;
                        continue;
                    }
                }
                break;
            }
        }
        Ok(found)
    }

    /// The last record of the log among these, with all that share its place.
    async fn last(
        &mut self,
        topic: &str,
        partition: u32,
        records: &[Record],
        whole: bool,
    ) -> Result<Looked, ProducerError> {
        let mut tail: Option<Tail> = None;
        // A tombstone follows its delete, whose place it has.
        let mut tombstones = 0;
        for record in records.iter().rev().filter(|record| !record.ours) {
            let Some(value) = &record.value else {
                tombstones += 1;
                continue;
            };
            let said = self.said(value).await.map_err(|what| {
                ProducerError::Takeover(format!("topic {topic} partition {partition} offset {}: {what}", record.offset))
            })?;
            let incremental = said.snapshot == "incremental";
            if said.operation == "r" && !incremental && tail.is_none() {
                // Rows of the first snapshot lie before everything of the log.
                return Ok(Looked::Nothing);
            }
            if incremental || said.operation == "m" {
                tombstones = 0;
                continue;
            }
            let (Some(transaction), Some(lsn)) = (said.transaction, said.lsn) else {
                return Err(ProducerError::Takeover(format!(
                    "topic {topic} partition {partition} offset {}: its source block has no txId or lsn, so where the \
                     connector ended cannot be told: was it written by Debezium's PostgreSQL connector?",
                    record.offset
                )));
            };
            match &mut tail {
                None => tail = Some(Tail { behind: said.behind, transaction, lsn, records: 1 + tombstones }),
                Some(tail) if tail.transaction == transaction && tail.lsn == lsn => tail.records += 1 + tombstones,
                Some(_) => return Ok(Looked::Found(tail.expect("it has just been looked at"))),
            }
            tombstones = 0;
        }
        Ok(match tail {
            _ if !whole => Looked::FurtherBack,
            Some(tail) => Looked::Found(tail),
            None => Looked::Nothing,
        })
    }

    async fn said(&mut self, value: &[u8]) -> Result<Said, String> {
        if value.first() == Some(&b'{') {
            let json: Value = serde_json::from_slice(value).map_err(|error| format!("it is no JSON: {error}"))?;
            let event = json.get("payload").unwrap_or(&json);
            return said(event).ok_or_else(no_envelope);
        }
        let (id, datum) = frame::split(value).map_err(|error| error.to_string())?;
        let schema = match self.schemas.get(&id) {
            Some(schema) => Arc::clone(schema),
            None => {
                let text = self.registry.schema(id).await.map_err(|error| error.to_string())?;
                let schema = Arc::new(Schema::parse_str(&text).map_err(|error| format!("schema {id}: {error}"))?);
                self.schemas.insert(id, Arc::clone(&schema));
                schema
            }
        };
        let misfit = |error| format!("it does not fit its schema {id}: {error}");
        let reader = GenericDatumReader::builder(&schema).build().map_err(misfit)?;
        let decoded = reader.read_value(&mut &datum[..]).map_err(misfit)?;
        of_avro(decoded).ok_or_else(no_envelope)
    }

    /// The records from `from` to before `to` that are still there.
    async fn window(&self, topic: &str, partition: u32, from: i64, to: i64) -> Result<Vec<Record>, ProducerError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let (kafka, topic) = (self.kafka.clone(), topic.to_owned());
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        let reading = tokio::task::spawn_blocking(move || window(&kafka, &topic, number, from, to));
        reading.await.map_err(|error| ProducerError::Internal(format!("reading a topic's end broke off: {error}")))?
    }
}

enum Looked {
    Found(Tail),
    Nothing,
    FurtherBack,
}

fn no_envelope() -> String {
    "it is no change event with a source block (is it flattened, by ExtractNewRecordState?), so where the connector \
     ended cannot be told: take the table over by `syncline resync --source`"
        .to_owned()
}

/// Rows must stay in their partitions: the key's schema id is part of what places them.
fn placed_by_default(topic: &str, key: &[u8], partition: u32, count: u32) -> Result<u32, ProducerError> {
    let (id, _) = frame::split(key).map_err(|_| {
        ProducerError::Takeover(format!(
            "topic {topic}: its keys are not in the registry's Avro form: give the connector an AvroConverter, or take \
             over by `syncline resync --source` into other topics"
        ))
    })?;
    if partition_for_key(key, count) != partition {
        return Err(ProducerError::Takeover(format!(
            "topic {topic}: a key of partition {partition} is not where Kafka's default partitioner puts it, so rows \
             would change partitions and lose their order: take over by `syncline resync --source` into other topics"
        )));
    }
    Ok(id)
}

fn window(
    kafka: &KafkaSettings,
    topic: &str,
    partition: i32,
    from: i64,
    to: i64,
) -> Result<Vec<Record>, ProducerError> {
    let failed = |error| ProducerError::client(&format!("topic {topic} partition {partition} cannot be read"), error);
    let consumer: BaseConsumer = client_config(kafka, "syncline-takeover")
        .set("group.id", "syncline-takeover")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_uncommitted")
        .create()
        .map_err(failed)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(from)).map_err(failed)?;
    consumer.assign(&list).map_err(failed)?;
    let mut records = Vec::new();
    let mut heard = Instant::now();
    loop {
        match consumer.poll(Duration::from_millis(250)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                if message.offset() >= to {
                    return Ok(records);
                }
                let ours = message.headers().is_some_and(|headers| headers.iter().any(|h| h.key == HEADER_NAME));
                let (key, value) = (message.key().map(<[u8]>::to_vec), message.payload().map(<[u8]>::to_vec));
                records.push(Record { offset: message.offset(), key, value, ours });
                if message.offset() + 1 == to {
                    return Ok(records);
                }
            }
            Some(Err(ClientError::PartitionEOF(_))) => return Ok(records),
            Some(Err(error)) if heard.elapsed() > ANSWER_TIME => return Err(failed(error)),
            None if heard.elapsed() > ANSWER_TIME => {
                return Err(ProducerError::Takeover(format!(
                    "kafka does not deliver topic {topic} partition {partition}"
                )));
            }
            Some(Err(_)) | None => {}
        }
    }
}

fn said(event: &Value) -> Option<Said> {
    let source = event.get("source")?;
    let sequence: Option<Vec<Option<String>>> =
        source.get("sequence").and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
    // None is there in the first transaction behind a snapshot.
    let behind = sequence.and_then(|sequence| sequence.into_iter().next()?).and_then(|behind| behind.parse().ok());
    Some(Said {
        operation: event.get("op")?.as_str()?.to_owned(),
        snapshot: source.get("snapshot").and_then(Value::as_str).unwrap_or("false").to_owned(),
        transaction: source.get("txId").and_then(Value::as_u64).map(|id| (id & u64::from(u32::MAX)) as u32),
        lsn: source.get("lsn").and_then(Value::as_u64),
        behind: behind.unwrap_or(0),
    })
}

/// The few fields that count, as in the JSON form.
fn of_avro(value: Avro) -> Option<Said> {
    let event: Value = ["op", "source"]
        .into_iter()
        .map(|name| Some((name.to_owned(), plain(field(&value, name)?))))
        .collect::<Option<serde_json::Map<_, _>>>()?
        .into();
    said(&event)
}

fn field<'a>(value: &'a Avro, name: &str) -> Option<&'a Avro> {
    match value {
        Avro::Record(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, value)| value),
        Avro::Union(_, value) => field(value, name),
        _ => None,
    }
}

fn plain(value: &Avro) -> Value {
    match value {
        Avro::Union(_, value) => plain(value),
        Avro::Record(fields) => fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
        Avro::String(text) | Avro::Enum(_, text) => text.clone().into(),
        Avro::Long(number) => (*number).into(),
        Avro::Int(number) => (*number).into(),
        Avro::Boolean(truth) => (*truth).into(),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_transaction_has_none_before_it() {
        let event = |sequence: Value| json!({"op": "u", "source": {"snapshot": "false", "sequence": sequence, "txId": 7, "lsn": 9}});
        let behind = |sequence| said(&event(sequence)).unwrap().behind;
        assert_eq!(behind(json!("[\"5\",\"9\"]")), 5);
        assert_eq!(behind(json!("[null,\"9\"]")), 0);
        assert_eq!(behind(Value::Null), 0);
    }

    #[test]
    fn a_row_without_an_envelope_says_nothing() {
        assert_eq!(said(&json!({"id": 1, "v": "x"})), None);
    }
}
