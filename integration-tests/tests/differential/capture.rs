//! Both captures side by side: Debezium in a Connect worker and our producer, on one database and the same statements.
//!
//! Both have the same topic prefix, which stands in the names of schemas. Debezium's records are routed to topics of
//! their own by Kafka's RegexRouter, which leaves a record as it is.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use syncline_event::name::topic_name;
use syncline_integration_tests::connect::Connector;
use syncline_integration_tests::process::Process;
use syncline_integration_tests::records::{self, Record};
use syncline_integration_tests::sql;
use syncline_integration_tests::stack;
use syncline_integration_tests::sync::{PATIENCE, Sync};

use crate::case::{Case, name_of};

/// A table of which each side writes a last record.
const END: &str = "end_of_case";

/// One topic's records from both sides.
pub(crate) struct Pair {
    /// The case the topic belongs to; none for the topics beside the tables'.
    pub(crate) case: Option<&'static Case>,
    /// The table as the case names it, or what the topic holds.
    pub(crate) about: String,
    /// Our topic, and the subject of our schemas.
    pub(crate) topic: String,
    /// Debezium's.
    pub(crate) debezium_topic: String,
    pub(crate) debezium: Vec<Record>,
    pub(crate) ours: Vec<Record>,
}

/// What both sides are told beside the tables.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    /// Lines of `cdc_config.properties`, which Debezium gets as well.
    pub(crate) properties: &'static [(&'static str, &'static str)],
    /// Topics beside the tables', without the prefix: `transaction`.
    pub(crate) topics: &'static [&'static str],
    /// JSON without schemas in the place of Avro.
    pub(crate) is_json: bool,
    /// Partitions of every topic; 0: as always.
    pub(crate) partitions: u32,
}

/// Runs all cases through both sides and gives what they wrote.
pub(crate) async fn capture(name: &str, cases: &'static [Case], options: Options) -> Result<(Sync, Vec<Pair>)> {
    let tables: Vec<&str> = cases.iter().flat_map(|case| case.tables).copied().chain([END]).collect();
    let mut sync = Sync::create(name, &tables).await?;
    sync.options.is_json = options.is_json;
    if options.partitions > 0 {
        sync.options.partitions = options.partitions;
    }
    sync.options.properties = options.properties.iter().map(|(name, value)| format!("{name}: '{value}'")).collect();
    for case in cases {
        // An extension takes the administrator, its types do not.
        let extensions = case.before.rfind("CREATE EXTENSION").and_then(|last| {
            let end = last + case.before.get(last..)?.find(';')? + 1;
            case.before.split_at_checked(end)
        });
        let (extensions, before) = extensions.unwrap_or(("", case.before));
        sql::execute(&mut sync.source_admin().await?, extensions).await?;
        let mut source = sync.source("").await?;
        sql::execute(&mut source, before).await.with_context(|| format!("case {}", case.name))?;
    }
    let mut source = sync.source(&format!("CREATE TABLE {END} (id int PRIMARY KEY)")).await?;

    let mut both = Both::start(sync, &tables, options).await?;
    for case in cases {
        for text in case.after {
            sql::execute(&mut source, *text).await.with_context(|| format!("case {}", case.name))?;
            if case.in_step {
                both.catch_up(&mut source).await?;
            }
        }
    }
    both.catch_up(&mut source).await?;
    let sync = both.stop().await?;
    let mut pairs = Vec::new();
    let of_tables = cases.iter().flat_map(|case| case.tables.iter().map(move |table| (Some(case), *table)));
    for (case, table) in of_tables {
        let (schema, name) = name_of(table);
        pairs.push((case, table.to_owned(), topic_name(&sync.name, &schema, &name)));
    }
    for topic in options.topics {
        pairs.push((None, (*topic).to_owned(), format!("{}.{topic}", sync.name)));
    }
    let topics = |rename: &dyn Fn(&str) -> String| pairs.iter().map(|(_, _, topic)| rename(topic)).collect::<Vec<_>>();
    let debezium = existing(topics(&|topic| debezium_topic(&sync, topic))).await?;
    let ours = existing(topics(&str::to_owned)).await?;
    let pairs = pairs.into_iter().zip(debezium.into_iter().zip(ours));
    let pairs = pairs.map(|((case, about, topic), (debezium, ours))| {
        let debezium_topic = debezium_topic(&sync, &topic);
        Pair { case, about, topic, debezium_topic, debezium, ours }
    });
    let pairs = pairs.collect();
    Ok((sync, pairs))
}

/// The records of each topic; none of one that is not there.
async fn existing(topics: Vec<String>) -> Result<Vec<Vec<Record>>> {
    let known = stack::admin().await?.topics().await?;
    let there: Vec<String> = topics.iter().filter(|topic| known.contains_key(*topic)).cloned().collect();
    let mut read = records::read(&there).await?.into_iter();
    Ok(topics.iter().map(|topic| if there.contains(topic) { read.next() } else { None }.unwrap_or_default()).collect())
}

fn debezium_topic(sync: &Sync, topic: &str) -> String {
    format!("{}.debezium.{topic}", sync.name)
}

/// The two captures at work.
struct Both {
    sync: Sync,
    connector: Connector,
    producer: Process,
    /// Rows in the table that marks the ends.
    ends: i64,
}

impl Both {
    /// Starts both and waits until both have read the rows that are there.
    async fn start(sync: Sync, tables: &[&str], options: Options) -> Result<Self> {
        let mut producer = sync.start(&["produce"])?;
        producer.said("snapshot is complete", PATIENCE).await?;
        let connector = Connector::start(&sync.name, configuration(&sync, tables, options)?).await?;
        let mut source = sync.source("").await?;
        let mut both = Self { sync, connector, producer, ends: 0 };
        for table in tables {
            let (schema, name) = name_of(table);
            let rows = sql::value::<i64>(&mut source, format!("SELECT count(*) FROM \"{schema}\".\"{name}\"")).await?;
            let topic = debezium_topic(&both.sync, &topic_name(&both.sync.name, &schema, &name));
            both.wait_for(&topic, rows).await?;
        }
        Ok(both)
    }

    /// Waits until both have written what was committed.
    async fn catch_up(&mut self, source: &mut PgConnection) -> Result<()> {
        self.ends += 1;
        sql::execute(source, format!("INSERT INTO {END} VALUES ({})", self.ends)).await?;
        let end = topic_name(&self.sync.name, "public", END);
        self.wait_for(&debezium_topic(&self.sync, &end), self.ends).await?;
        // A marker of ours stands in every partition beside the rows.
        self.wait_for(&end, self.ends + i64::from(self.sync.options.partitions)).await
    }

    async fn wait_for(&mut self, topic: &str, wanted: i64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = records::count(topic).await?;
            if found >= wanted {
                return Ok(());
            }
            self.producer.expect_running()?;
            ensure!(self.connector.is_running().await?, "the connector was stopped");
            ensure!(Instant::now() < deadline, "{topic} holds {found} records of {wanted}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    async fn stop(mut self) -> Result<Sync> {
        self.connector.delete().await?;
        self.producer.stop().await?;
        Ok(self.sync)
    }
}

fn configuration(sync: &Sync, tables: &[&str], options: Options) -> Result<Map<String, Value>> {
    let (server, connect) = (stack::server("SOURCE_PG")?, stack::connect()?);
    let (host, port) = connect.source_pg.rsplit_once(':').context("CONNECT_SOURCE_PG has no port")?;
    let registry = format!("{}/apis/ccompat/v7", connect.registry);
    let included: Vec<String> = tables
        .iter()
        .map(|table| {
            let (schema, name) = name_of(table);
            format!("{}\\.{}", escaped(&schema), escaped(&name))
        })
        .collect();
    let name = &sync.name;
    let config = json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": host,
        "database.port": port,
        "database.user": server.username,
        "database.password": format!("${{file:{}:source_password}}", connect.secrets),
        "database.dbname": sync.source_database(),
        "topic.prefix": name,
        "plugin.name": "pgoutput",
        "slot.name": format!("{name}_debezium"),
        // Our producer made it.
        "publication.name": name,
        "publication.autocreate.mode": "disabled",
        "table.include.list": included.join(","),
        "poll.interval.ms": "50",
        // What we do by default and Debezium does not.
        "skipped.operations": "none",
        "schema.name.adjustment.mode": "avro",
        "field.name.adjustment.mode": "avro",
        "topic.creation.default.replication.factor": "1",
        "topic.creation.default.partitions": sync.options.partitions.to_string(),
        "key.converter": "io.confluent.connect.avro.AvroConverter",
        "key.converter.schema.registry.url": registry,
        "value.converter": "io.confluent.connect.avro.AvroConverter",
        "value.converter.schema.registry.url": registry,
        "transforms": "apart",
        "transforms.apart.type": "org.apache.kafka.connect.transforms.RegexRouter",
        "transforms.apart.regex": "(.*)",
        "transforms.apart.replacement": format!("{name}.debezium.$1"),
    });
    let Value::Object(mut config) = config else { unreachable!("it is written as an object") };
    if options.is_json {
        for converter in ["key.converter", "value.converter"] {
            config.remove(&format!("{converter}.schema.registry.url"));
            config.insert(converter.to_owned(), "org.apache.kafka.connect.json.JsonConverter".into());
            config.insert(format!("{converter}.schemas.enable"), false.into());
        }
    }
    for (name, value) in options.properties {
        config.insert((*name).to_owned(), (*value).into());
    }
    Ok(config)
}

/// A name as Java's regular expressions find it.
fn escaped(name: &str) -> String {
    name.chars().fold(String::new(), |mut text, c| {
        if !c.is_alphanumeric() && c != '_' && c != ' ' {
            text.push('\\');
        }
        text.push(c);
        text
    })
}
