//! The sync file: the table of its keys, the raw settings, and the check that turns them into what the producer and
//! the consumer take.

mod capture;
mod check;
mod conflict_log;
mod connection;
mod debezium;
mod events;
mod fields;
mod jdbc_sink;
mod mappings;
mod names;
mod node_names;
mod nodes;
mod raw;
#[cfg(test)]
mod reference;
mod rules;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use syncline_consumer::config::ConsumerConfig;
use syncline_producer::config::ProducerConfig;
use syncline_runtime::config::{ConfigError, Environment, Loaded, load};
use syncline_transforms::mapping::{Mappings, Names};

use crate::failure::Failure;

/// Which sides of a sync a verb is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sides {
    /// `run`, `check`
    Both,
    /// `produce`
    Producer,
    /// `consume`
    Consumer,
}

impl Sides {
    fn captures(self) -> bool {
        matches!(self, Self::Both | Self::Producer)
    }

    fn applies(self) -> bool {
        matches!(self, Self::Both | Self::Consumer)
    }
}

/// Which part of a file a verb is about.
#[derive(Debug, Clone, Copy)]
struct Scope<'a> {
    sides: Sides,
    /// The only node, where one was named.
    node: Option<&'a str>,
}

impl Scope<'_> {
    const ALL: Self = Self { sides: Sides::Both, node: None };

    /// Whether the verb is about this node. One side of a topology is run for a named node only.
    fn takes(self, node: &str) -> bool {
        match self.node {
            Some(wanted) => wanted == node,
            None => self.sides == Sides::Both,
        }
    }

    /// Whether nobody will use what stands at this path, so that its variables need not be set.
    fn leaves_out(self, path: &str) -> bool {
        match path.split_once('.') {
            Some(("source", _)) => self.sides == Sides::Consumer,
            Some(("target", _)) => self.sides == Sides::Producer,
            Some(("nodes", below)) => {
                below.split_once('.').is_some_and(|(node, key)| !self.takes(node) && nodes::OF_DATABASE.contains(&key))
            }
            _ => false,
        }
    }
}

/// A checked sync file. A side is there if the file has it and the verb is about it.
#[derive(Debug)]
pub(crate) struct SyncConfig {
    /// With a `source`.
    pub(crate) producer: Option<ProducerConfig>,
    /// With a `target`.
    pub(crate) consumer: Option<ConsumerConfig>,
    /// The databases of a topology, in the file's order; then there is no `source` and no `target`.
    pub(crate) nodes: Vec<Node>,
    /// Which rows go where; with or without either side.
    pub(crate) mappings: MappingsFile,
}

/// A writable database of a topology. Its sides are there if the verb is about them, and about this node.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: String,
    /// Captures its changes.
    pub(crate) producer: Option<ProducerConfig>,
    /// Applies everybody's changes to it.
    pub(crate) consumer: Option<ConsumerConfig>,
}

/// The mappings of a text that has nothing else of a sync file.
#[cfg(test)]
pub(crate) fn mappings_of(text: &str) -> Result<Mappings, ConfigError> {
    let rest = "name: a\nkafka: {bootstrap_servers: 'a:1'}\nschema_registry: {url: http://a}\n\
        target: {type: postgresql, host: a, database: a, username: a}\n";
    let environment = Environment { variables: &|_| None, secrets: None, unused: &|_| false };
    let loaded = syncline_runtime::config::parse(
        Path::new("sync.yaml"),
        &format!("{rest}{text}"),
        fields::FIELDS,
        &environment,
    )?;
    Ok(Mappings::clone(&SyncConfig::check(loaded, Scope::ALL)?.mappings.mappings))
}

/// The mappings, and the file they stand in.
#[derive(Debug, Clone)]
pub(crate) struct MappingsFile {
    /// For messages.
    pub(crate) file: PathBuf,
    /// The mappings.
    pub(crate) mappings: Arc<Mappings>,
    /// Of a topology: what each node calls tables and columns otherwise.
    pub(crate) names: Arc<BTreeMap<String, Names>>,
}

impl SyncConfig {
    /// Reads and checks `file` for the `sides` that will run, of a topology's `node` or of all; variables come from the
    /// process's environment. What belongs to others need not have its variables set and is left out.
    ///
    /// # Errors
    /// Everything that is wrong with the file, at once.
    pub(crate) fn load(file: &Path, sides: Sides, node: Option<&str>) -> Result<Self, ConfigError> {
        let scope = Scope { sides, node };
        let unused = |path: &str| scope.leaves_out(path);
        let environment = Environment { variables: &|name| std::env::var(name).ok(), secrets: None, unused: &unused };
        Self::check(load(file, fields::FIELDS, &environment)?, scope)
    }

    /// The same for a verb that can do nothing with a topology, for a reason.
    ///
    /// # Errors
    /// As for [`SyncConfig::load`], or the file describes a topology.
    pub(crate) fn load_one_way(file: &Path, sides: Sides, reason: &str) -> Result<Self, Failure> {
        Self::load(file, sides, None)?.one_way(reason)
    }

    /// Itself, unless it is a topology, with which nothing can be done for a reason.
    ///
    /// # Errors
    /// It is one.
    pub(crate) fn one_way(self, reason: &str) -> Result<Self, Failure> {
        if self.nodes.is_empty() { Ok(self) } else { Err(Failure::Usage(reason.to_owned())) }
    }

    /// Reads and checks `file` for others than our own processes, with its settings as a tree beside it, defaults filled
    /// in. Variables in passwords need not be set and become `${env:NAME}`, which Kafka Connect resolves by itself.
    ///
    /// # Errors
    /// Everything that is wrong with the file, at once.
    pub(crate) fn describe(file: &Path) -> Result<(Self, Value), ConfigError> {
        let variables = |name: &str| std::env::var(name).ok();
        let secrets = |name: &str| {
            // The address of a database has to be taken apart; its password is replaced then.
            let address =
                variables(name).filter(|text| text.starts_with("postgres://") || text.starts_with("postgresql://"));
            Some(address.unwrap_or_else(|| format!("${{env:{name}}}")))
        };
        let environment = Environment { variables: &variables, secrets: Some(&secrets), unused: &|_| false };
        let tree = load(file, fields::FIELDS, &environment)?.value;
        Ok((Self::check(load(file, fields::FIELDS, &environment)?, Scope::ALL)?, tree))
    }

    /// The mappings of `file` alone. Secrets need not be set.
    ///
    /// # Errors
    /// Everything that is wrong with the file, at once.
    pub(crate) fn mappings(file: &Path) -> Result<Arc<Mappings>, Failure> {
        let variables = |name: &str| std::env::var(name).ok();
        let secrets = |name: &str| Some(variables(name).unwrap_or_default());
        let environment = Environment { variables: &variables, secrets: Some(&secrets), unused: &|_| false };
        let config = Self::check(load(file, fields::FIELDS, &environment)?, Scope::ALL)?;
        Ok(config
            .one_way("the `table_mappings` of a topology's nodes only give other names: there is nothing to try")?
            .mappings
            .mappings)
    }

    fn check(loaded: Loaded<raw::RawSync>, scope: Scope<'_>) -> Result<Self, ConfigError> {
        let places = loaded.places.clone();
        check::check(loaded, scope).map_err(|problems| places.error(problems))
    }
}
