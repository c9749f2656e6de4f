//! `topology`, `hub` and `nodes`: several writable databases, each captured and each written to.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use syncline_consumer::config::{ConflictLog, ConsumerConfig, NodeSettings, TopicSelection};
use syncline_producer::config::{NodeSettings as CapturedNode, SignalSources};
use syncline_runtime::config::{Field, Kind, Preset};
use syncline_runtime::settings::{DatabaseSettings, Secret};
use syncline_transforms::mapping::Names;

use super::Node;
use super::capture::{Capture, Common};
use super::check::Check;
use super::conflict_log::RawLog;
use super::connection::{DEFAULT_PORT, from_url, is_loopback};
use super::events::property;
use super::fields::{SOURCES, database};
use super::names::{identifier_fault, node_fault, node_slot_from, slot_fault, topic_prefix_fault};
use super::node_names::{NAMES, RawNames, masked_at};
use super::raw::{RawDatabase, RawDatabaseKind, RawSsl};
use super::rules::RawRules;
use Preset::Absent;

/// The keys of a node: those of any database, and what is captured of it.
pub(super) const NODE: &[Field] = &with_capture(database(SOURCES));

/// The keys that say how a database is reached; only who talks to it needs them.
pub(super) const OF_DATABASE: [&str; 6] = ["connection", "host", "port", "database", "username", "password"];

const fn with_capture(database: [Field; 12]) -> [Field; 17] {
    let topic_prefix = Field::new(
        "topic_prefix",
        Kind::Text,
        Absent("`<kafka.topic_prefix>.<node>`"),
        "First part of the names of the node's topics. No node's may begin with another's.",
    );
    let publication = Field::new(
        "publication",
        Kind::Text,
        Absent("`name` and the node's name, made legal like `slot`"),
        "Publication for exactly the captured tables. Created if missing and allowed.",
    );
    let slot = Field::new(
        "slot",
        Kind::Text,
        Absent("`<name>_<node>`, made legal like `cdc_config.postgresql.slot`"),
        "Replication slot. Created if missing and allowed.",
    );
    let tables = Field::new(
        "tables",
        Kind::Texts,
        Absent("`cdc_config.postgresql.tables`"),
        "Tables to capture, as in `cdc_config.postgresql.tables`.",
    );
    let table_mappings = Field::new(
        "table_mappings",
        Kind::Sections(NAMES),
        Preset::Is(""),
        "Tables and columns that have other names at this node; see [conflicts.md](conflicts.md#other-names-at-a-node).",
    );
    let [a, b, c, d, e, f, g, h, i, j, k, l] = database;
    [a, b, c, d, e, f, g, h, i, j, k, l, topic_prefix, publication, slot, tables, table_mappings]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawTopology {
    OneWay,
    Bidirectional,
    HubAndSpoke,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNode {
    #[serde(rename = "type")]
    kind: RawDatabaseKind,
    connection: Option<Secret>,
    host: Option<String>,
    port: Option<u16>,
    database: Option<String>,
    username: Option<String>,
    password: Option<Secret>,
    ssl: Option<RawSsl>,
    topic_prefix: Option<String>,
    publication: Option<String>,
    slot: Option<String>,
    tables: Option<Vec<String>>,
    table_mappings: Vec<RawNames>,
}

impl RawNode {
    fn place(&self) -> Option<Place> {
        let (host, port, database) = match &self.connection {
            Some(url) => from_url(url.expose()).ok().map(|url| (url.host, url.port, url.database))?,
            None => (self.host.clone()?, self.port.unwrap_or(DEFAULT_PORT), self.database.clone()?),
        };
        let host = if is_loopback(&host) { "localhost".to_owned() } else { host.to_lowercase() };
        Some(Place { host, port, database })
    }

    fn into_database(self) -> RawDatabase {
        let Self { kind, connection, host, port, database, username, password, ssl, .. } = self;
        RawDatabase { kind, connection, host, port, database, username, password, ssl }
    }
}

/// Where a database is, as far as its settings tell: one server may have several names.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    host: String,
    port: u16,
    database: String,
}

impl Place {
    fn is_beside(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

/// The sections of a file that belong to a topology.
pub(super) struct Topology {
    pub(super) kind: RawTopology,
    pub(super) hub: Option<String>,
    pub(super) nodes: Vec<(String, RawNode)>,
    pub(super) rules: RawRules,
    pub(super) log: RawLog,
}

impl Topology {
    pub(super) fn is_asked_for(&self) -> bool {
        self.kind != RawTopology::OneWay || !self.nodes.is_empty()
    }
}

/// A node whose settings have been looked at by themselves.
struct Draft {
    name: String,
    topic_prefix: String,
    publication: String,
    slot: String,
    tables: Vec<String>,
    names: Names,
    place: Option<Place>,
    /// Where the verb is about it.
    database: Option<DatabaseSettings>,
}

impl Check<'_> {
    /// What only a topology has, in a file that is none.
    pub(super) fn no_topology(&mut self, topology: &Topology) {
        if topology.hub.is_some() {
            self.refuse("hub", "belongs to `topology: hub_and_spoke`: remove it, or write `topology` and `nodes`");
        }
        for path in ["nodes", "conflict_resolution", "conflict_log"] {
            if self.is_written(path) {
                let text =
                    "belongs to a topology of several writable databases: remove it, or write `topology` and `nodes`";
                self.refuse(path, text);
            }
        }
    }

    /// The nodes of a topology, and what each calls otherwise. Those that the verb is not about have no sides.
    pub(super) fn nodes(&mut self, topology: Topology, common: &Common) -> (Vec<Node>, Arc<BTreeMap<String, Names>>) {
        let Topology { kind, hub, nodes, rules, log } = topology;
        self.beside_nodes();
        self.lossless(&common.cdc);
        let names: Vec<String> = nodes.iter().map(|(name, _)| name.clone()).collect();
        self.shape(kind, hub.as_deref(), &names);
        let drafts: Vec<Draft> = nodes.into_iter().map(|(name, raw)| self.draft(name, raw, common)).collect();
        self.compare(&drafts);
        let prefixes: BTreeMap<String, String> =
            drafts.iter().map(|draft| (draft.name.clone(), draft.topic_prefix.clone())).collect();
        let topics: Vec<String> = drafts.iter().map(|draft| draft.topic_prefix.clone()).collect();
        let rules = self.rules(rules, hub.as_deref(), &names);
        let log = self.conflict_log(log);
        let names: BTreeMap<String, Names> =
            drafts.iter().map(|draft| (draft.name.clone(), draft.names.clone())).collect();
        let names = Arc::new(names);
        for (node, names) in names.iter() {
            self.rules_beside(node, names, &rules);
        }
        let node = |draft: Draft| {
            let Draft { name, topic_prefix, publication, slot, tables, names: own, place: _, database } = draft;
            let Some(database) = database else { return Node { name, producer: None, consumer: None } };
            let captured =
                CapturedNode { topology: common.name.clone(), name: name.clone(), priority: rules.priority_of(&name) };
            let signals = SignalSources::default();
            let capture = Capture { topic_prefix, slot, publication, tables, signals, node: Some(captured) };
            let applied = NodeSettings {
                topology: common.name.clone(),
                name: name.clone(),
                prefixes: prefixes.clone(),
                names: Arc::clone(&names),
                rules: Arc::new(rules.under(&own)),
                log: ConflictLog { masked: masked_at(&name, &names, &log.masked), ..log.clone() },
            };
            let group = format!("{}.{name}", common.consumer_group);
            let consumer = common.consumer(group, TopicSelection::Prefixes(topics.clone()), database.clone());
            let sides = self.scope.sides;
            let producer = sides.captures().then(|| self.producer(common, database, capture));
            let consumer = sides.applies().then_some(ConsumerConfig { node: Some(applied), ..consumer });
            Node { name, producer, consumer }
        };
        (drafts.into_iter().map(node).collect(), names)
    }

    /// What says the same as `nodes`, or has no meaning for them.
    fn beside_nodes(&mut self) {
        for (path, text) in [
            ("source", "stands beside `nodes`, each of which is captured: remove it"),
            ("target", "stands beside `nodes`, each of which is written to: remove it"),
            ("kafka.topics", "stands beside `nodes`, whose topics are read: remove it"),
            ("kafka.topics_regex", "stands beside `nodes`, whose topics are read: remove it"),
            (
                "table_mappings",
                "cannot stand beside `nodes`: other names at a node are its own, `nodes.<node>.table_mappings`",
            ),
            ("cdc_config.postgresql.slot", "stands beside `nodes`: each has a slot of its own, `nodes.<node>.slot`"),
            (
                "cdc_config.postgresql.publication",
                "stands beside `nodes`: each has a publication of its own, `nodes.<node>.publication`",
            ),
        ] {
            if self.is_written(path) {
                self.refuse(path, text);
            }
        }
        for key in ["signal.enabled.channels", "signal.data.collection", "signal.kafka.topic"] {
            if self.is_written(&property(key)) {
                self.refuse(
                    &property(key),
                    "cannot stand beside `nodes`: a node's tables cannot be read anew yet; remove it",
                );
            }
        }
    }

    fn shape(&mut self, kind: RawTopology, hub: Option<&str>, names: &[String]) {
        for name in names {
            if let Some(fault) = node_fault(name) {
                self.refuse(&format!("nodes.{name}"), format!("`{name}` is no name of a node: it {fault}"));
            }
        }
        let count = names.len();
        match kind {
            RawTopology::OneWay => {
                let text = "is needed with `nodes`: write `bidirectional` for two, or `hub_and_spoke`";
                self.refuse("topology", text);
            }
            RawTopology::Bidirectional if count != 2 => {
                let text = format!("`bidirectional` has exactly two `nodes`, not {count}; more have `hub_and_spoke`");
                self.refuse("topology", text);
            }
            RawTopology::HubAndSpoke if count < 2 => {
                self.refuse("topology", format!("`hub_and_spoke` has at least two `nodes`, not {count}"));
            }
            RawTopology::Bidirectional | RawTopology::HubAndSpoke => {}
        }
        match (kind, hub) {
            (RawTopology::HubAndSpoke, None) => {
                self.refuse("hub", "is required with `topology: hub_and_spoke`: write the name of a node");
            }
            (RawTopology::HubAndSpoke, Some(hub)) => {
                if let Some(fault) = not_among(hub, names) {
                    self.refuse("hub", fault);
                }
            }
            (RawTopology::OneWay | RawTopology::Bidirectional, Some(_)) => {
                self.refuse("hub", "belongs to `topology: hub_and_spoke`: remove it");
            }
            (RawTopology::OneWay | RawTopology::Bidirectional, None) => {}
        }
    }

    fn draft(&mut self, name: String, mut raw: RawNode, common: &Common) -> Draft {
        let section = format!("nodes.{name}");
        let path = |key: &str| format!("{section}.{key}");
        let topic_prefix = raw.topic_prefix.clone().unwrap_or_else(|| format!("{}.{name}", common.topic_prefix));
        let topic_prefix = self.name(&path("topic_prefix"), topic_prefix, topic_prefix_fault);
        let slot = match raw.slot.clone() {
            Some(slot) => self.name(&path("slot"), slot, slot_fault),
            None => node_slot_from(&common.name, &name),
        };
        let publication = match raw.publication.clone() {
            Some(publication) => self.name(&path("publication"), publication, identifier_fault),
            None => node_slot_from(&common.name, &name),
        };
        let tables = raw.tables.clone().or_else(|| common.cdc.postgresql.tables.clone()).unwrap_or_default();
        if tables.is_empty() {
            let text = "is required: list the tables to capture, for example [users, \"sales.*\"]; those of all nodes may \
                        stand once, under `cdc_config.postgresql.tables`";
            self.refuse(&path("tables"), text);
        }
        self.table_names(&path("tables"), &tables);
        let names = self.own_names(&section, std::mem::take(&mut raw.table_mappings), &tables);
        let place = raw.place();
        let database = if self.scope.takes(&name) { self.database(&section, raw.into_database()) } else { None };
        Draft { name, topic_prefix, publication, slot, tables, names, place, database }
    }

    /// What two nodes may not share.
    fn compare(&mut self, drafts: &[Draft]) {
        for (number, draft) in drafts.iter().enumerate() {
            let path = |key: &str| format!("nodes.{}.{key}", draft.name);
            for other in &drafts[..number] {
                let (prefix, earlier) = (&draft.topic_prefix, &other.topic_prefix);
                if prefix == earlier {
                    let text = format!("`{prefix}` is the prefix of node `{}` too: give each its own", other.name);
                    self.refuse(&path("topic_prefix"), text);
                } else if begins(prefix, earlier) || begins(earlier, prefix) {
                    let text = format!(
                        "`{prefix}` and `{earlier}`, which is node `{}`'s, begin alike: their topics could not be told apart; \
                         neither may be the other's first part",
                        other.name
                    );
                    self.refuse(&path("topic_prefix"), text);
                }
                let (Some(place), Some(earlier)) = (&draft.place, &other.place) else { continue };
                if place == earlier {
                    let text =
                        format!("is the same database as node `{}`: a topology is of different ones", other.name);
                    self.refuse(&format!("nodes.{}", draft.name), text);
                } else if place.is_beside(earlier) && draft.slot == other.slot {
                    let text = format!(
                        "`{}` is the slot of node `{}` too, and both are on one server: give each its own",
                        draft.slot, other.name
                    );
                    self.refuse(&path("slot"), text);
                }
            }
        }
    }
}

/// Whether a topic under `prefix` could be one under `other`.
fn begins(prefix: &str, other: &str) -> bool {
    prefix.strip_prefix(other).is_some_and(|rest| rest.starts_with('.'))
}

/// What to say of a name that is none of the nodes'.
pub(super) fn not_among(name: &str, nodes: &[String]) -> Option<String> {
    if nodes.iter().any(|node| node == name) {
        return None;
    }
    Some(match syncline_runtime::config::nearest(name, nodes.iter().map(String::as_str)) {
        Some(near) => format!("`{name}` is no node: did you mean `{near}`?"),
        None => format!("`{name}` is no node; the nodes are {}", nodes.join(", ")),
    })
}
