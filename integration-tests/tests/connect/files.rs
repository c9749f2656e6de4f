//! Configurations as the worker of this stack can use them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use syncline_integration_tests::stack::{self, Connect};

/// A connector file in memory.
pub(crate) struct ConnectorFile {
    pub(crate) name: String,
    pub(crate) config: serde_json::Map<String, Value>,
}

impl ConnectorFile {
    /// Reads `{"name": …, "config": {…}}`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        Self::parse(&std::fs::read_to_string(path)?).with_context(|| path.display().to_string())
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut value: Value = serde_json::from_str(text)?;
        let name = value["name"].as_str().context("no name")?.to_owned();
        let config = value["config"].take().as_object().context("no config")?.clone();
        Ok(Self { name, config })
    }

    pub(crate) fn set(&mut self, key: &str, value: impl ToString) {
        self.config.insert(key.to_owned(), Value::String(value.to_string()));
    }

    pub(crate) fn get(&self, key: &str) -> &str {
        self.config.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// Puts the addresses of the stack, as the worker sees them, in the place of those in the file.
    pub(crate) fn on_the_stack(&mut self) -> Result<()> {
        let Connect { registry, kafka, source_pg, target_pg, mariadb, mysql, .. } = stack::connect()?;
        let keys: Vec<String> = self.config.keys().cloned().collect();
        for key in keys {
            if key.ends_with("schema.registry.url") {
                self.set(&key, format!("{registry}/apis/ccompat/v7"));
            }
            if key.ends_with("bootstrap.servers") {
                self.set(&key, &kafka);
            }
        }
        let address = match self.get("connector.class").rsplit('.').next() {
            Some("PostgresConnector") => source_pg,
            Some("MariaDbConnector") => mariadb,
            Some("MySqlConnector") => mysql,
            Some("JdbcSinkConnector") => {
                let url = self.get("connection.url").to_owned();
                let database = url.rsplit('/').next().context("no database in connection.url")?;
                self.set("connection.url", format!("jdbc:postgresql://{target_pg}/{database}"));
                return Ok(());
            }
            _ => return Ok(()),
        };
        let (host, port) = address.rsplit_once(':').context("an address without a port")?;
        self.set("database.hostname", host);
        self.set("database.port", port);
        Ok(())
    }

    /// Writes it into a folder, under its name.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(format!("{}.json", self.name));
        let text = serde_json::json!({"name": self.name, "config": self.config});
        std::fs::write(&path, format!("{text:#}"))?;
        Ok(path)
    }
}

/// A path as an argument.
pub(crate) fn argument(path: &Path) -> Result<&str> {
    path.to_str().context("a temporary folder with an odd name")
}
