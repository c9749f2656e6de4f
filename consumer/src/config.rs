//! What the consumer was told to do, checked.

use std::collections::BTreeMap;
use std::sync::Arc;

pub use crate::sink_settings::{FieldFilter, InsertMode, KeyColumns, SinkSettings, TableName, Truncates};
use syncline_event::name::topic_name;
use syncline_event::table::TableDefinition;
use syncline_runtime::settings::{DatabaseSettings, KafkaSettings, RegistrySettings, Secret};
use syncline_transforms::mapping::{Mappings, Misfit, Names, Route};
use syncline_transforms::resolve::rules::Rules;

/// The consumer's settings.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// Kafka.
    pub kafka: KafkaSettings,
    /// Schema registry.
    pub registry: RegistrySettings,
    /// The consumer group.
    pub consumer_group: String,
    /// What to read.
    pub topics: TopicSelection,
    /// Where to write.
    pub target: TargetConfig,
    /// How records become rows of it, where that is not Syncline's own way.
    pub sink: SinkSettings,
    /// Which rows go to which tables, and how.
    pub mappings: Arc<Mappings>,
    /// Writers, each with a connection of its own.
    pub writers: usize,
    /// Most rows in one target transaction.
    pub batch_rows: usize,
    /// Attempts at a record that fails by itself.
    pub retry_attempts: u32,
    /// What the target is in a topology of several writable databases.
    pub node: Option<NodeSettings>,
}

/// A node of a topology, as its consumer sees it. It reads the topics of all nodes, its own too: they bring the stamps
/// of the node's own changes.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// The topology's name, which messages in the node's log carry.
    pub topology: String,
    /// The node's name.
    pub name: String,
    /// Every node's topic prefix, by its name.
    pub prefixes: BTreeMap<String, String>,
    /// What each node calls tables and columns otherwise than all share them, by its name.
    pub names: Arc<BTreeMap<String, Names>>,
    /// What decides about rows that were changed on several nodes, under this node's names.
    pub rules: Arc<Rules>,
    /// How conflicts are written down.
    pub log: ConflictLog,
}

impl NodeSettings {
    /// The node whose topic it is.
    #[must_use]
    pub fn origin_of(&self, topic: &str) -> Option<&str> {
        let is_of = |prefix: &str| topic.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
        self.prefixes.iter().find(|(_, prefix)| is_of(prefix)).map(|(name, _)| name.as_str())
    }

    /// Whether it is this node's topic.
    #[must_use]
    pub fn is_own(&self, topic: &str) -> bool {
        self.origin_of(topic) == Some(self.name.as_str())
    }

    /// Every node's topic of a table, which is named as here (`schema.table`); by the nodes' names.
    #[must_use]
    pub fn topics_of(&self, table: &str) -> BTreeMap<&str, String> {
        let same = Names::default();
        let of = |node: &str| self.names.get(node).unwrap_or(&same);
        let shared = of(&self.name).shared_name(table);
        let topic = |(node, prefix): (&String, &String)| {
            let own = of(node).own_table(&shared);
            let (schema, table) = own.split_once('.').unwrap_or(("", &own));
            topic_name(prefix, schema, table)
        };
        self.prefixes.iter().map(|entry| (entry.0.as_str(), topic(entry))).collect()
    }

    /// The way of a topic's table to this node's; none where all names are the same.
    ///
    /// # Errors
    ///
    /// The names do not fit the table, or each other.
    pub fn routes(&self, topic: &str, table: &TableDefinition) -> Result<Vec<Route>, Vec<Misfit>> {
        match self.origin_of(topic) {
            Some(origin) if origin != self.name => {
                let shared = Names::default();
                let of = |node: &str| self.names.get(node).unwrap_or(&shared);
                of(origin).routes(of(&self.name), table)
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// `conflict_log`, checked. Conflicts are rows of `_syncline.sync_conflicts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictLog {
    /// Days that conflicts are kept.
    pub retention_days: u32,
    /// A value longer than this many bytes is left out of the images; its length is noted.
    pub largest_value: usize,
    /// Columns whose values are left out of the images, by name.
    pub masked: Vec<String>,
    /// Who is told when there are many; nobody without it.
    pub alerting: Option<Alerting>,
}

/// `conflict_log.alerting`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alerting {
    /// As many conflicts as this within an hour, at this node, raise the alarm.
    pub threshold: u64,
    /// Who is told; at least one.
    pub notify: Vec<Notify>,
}

/// One that is told of many conflicts. The addresses are secrets: whoever knows them can write there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notify {
    /// An error in the process's log.
    Log,
    /// A channel of Slack.
    Slack {
        /// Its name, with the `#`.
        channel: String,
        /// The address of Slack's incoming webhook.
        webhook: Secret,
    },
    /// An address that a JSON object is posted to.
    Webhook(Secret),
}

/// Which topics a consumer reads.
#[derive(Debug, Clone)]
pub enum TopicSelection {
    /// Every data topic of a producer: the topics named in `<prefix>.syncline.tables`.
    Prefix(String),
    /// Just these.
    Names(Vec<String>),
    /// Every topic whose name matches.
    Regex(String),
    /// Every data topic of several producers.
    Prefixes(Vec<String>),
}

/// The kind of target.
#[derive(Debug, Clone)]
pub enum TargetConfig {
    /// PostgreSQL.
    Postgresql(DatabaseSettings),
}
