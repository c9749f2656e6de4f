//! The sync file: the table of its keys, the raw settings, and the check that turns them into what the producer and
//! the consumer take.

mod check;
mod connection;
mod debezium;
mod events;
mod fields;
mod jdbc_sink;
mod mappings;
mod names;
mod raw;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use syncline_consumer::config::ConsumerConfig;
use syncline_producer::config::ProducerConfig;
use syncline_runtime::config::{ConfigError, Environment, Loaded, load};
use syncline_transforms::mapping::Mappings;

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

/// A checked sync file. A side is there if the file has it and the verb is about it.
#[derive(Debug)]
pub(crate) struct SyncConfig {
    /// With a `source`.
    pub(crate) producer: Option<ProducerConfig>,
    /// With a `target`.
    pub(crate) consumer: Option<ConsumerConfig>,
    /// Which rows go where; with or without either side.
    pub(crate) mappings: MappingsFile,
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
    Ok(Mappings::clone(&SyncConfig::check(loaded, Sides::Both)?.mappings.mappings))
}

/// The mappings, and the file they stand in.
#[derive(Debug, Clone)]
pub(crate) struct MappingsFile {
    /// For messages.
    pub(crate) file: PathBuf,
    /// The mappings.
    pub(crate) mappings: Arc<Mappings>,
}

impl SyncConfig {
    /// Reads and checks `file` for the `sides` that will run; variables come from the process's environment. The
    /// other side's section need not have its variables set and is left out.
    ///
    /// # Errors
    /// Everything that is wrong with the file, at once.
    pub(crate) fn load(file: &Path, sides: Sides) -> Result<Self, ConfigError> {
        let unused = |path: &str| match path.split_once('.') {
            Some(("target", _)) => sides == Sides::Producer,
            Some(("source", _)) => sides == Sides::Consumer,
            _ => false,
        };
        let environment = Environment { variables: &|name| std::env::var(name).ok(), secrets: None, unused: &unused };
        Self::check(load(file, fields::FIELDS, &environment)?, sides)
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
        Ok((Self::check(load(file, fields::FIELDS, &environment)?, Sides::Both)?, tree))
    }

    /// The mappings of `file` alone. Secrets need not be set.
    ///
    /// # Errors
    /// Everything that is wrong with the file, at once.
    pub(crate) fn mappings(file: &Path) -> Result<Arc<Mappings>, ConfigError> {
        let variables = |name: &str| std::env::var(name).ok();
        let secrets = |name: &str| Some(variables(name).unwrap_or_default());
        let environment = Environment { variables: &variables, secrets: Some(&secrets), unused: &|_| false };
        Ok(Self::check(load(file, fields::FIELDS, &environment)?, Sides::Both)?.mappings.mappings)
    }

    fn check(loaded: Loaded<raw::RawSync>, sides: Sides) -> Result<Self, ConfigError> {
        let places = loaded.places.clone();
        check::check(loaded, sides).map_err(|problems| places.error(problems))
    }
}
