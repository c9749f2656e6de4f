//! The connector that is taken over from, as its worker shows it.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::connectors::{Config, Worker};
use crate::failure::Failure;

/// How long a connector may take to stop.
const STOPPING: Duration = Duration::from_secs(60);

/// A connector's settings.
pub(super) struct Settings(Config);

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// There is no such connector, or the worker cannot be asked.
    pub(super) async fn of(worker: &Worker, name: &str) -> Result<Self, Failure> {
        match worker.config(name).await? {
            Some(config) => Ok(Self(config)),
            None => Err(worker.unknown(name).await?.into()),
        }
    }

    /// A setting; none where it is not set, or stands somewhere else (`${file:…}`).
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.contains("${"))
    }

    /// Fails unless the connector is of this kind.
    ///
    /// # Errors
    /// It is another one.
    pub(super) fn expect_class(&self, name: &str, suffix: &str, what: &str) -> Result<(), Failure> {
        match self.get("connector.class") {
            Some(class) if !class.ends_with(suffix) => {
                Err(Failure::Usage(format!("connector {name} is a {class}, not {what}; nothing was changed")))
            }
            _ => Ok(()),
        }
    }
}

/// Whether the connector is stopped, and none of its tasks runs.
///
/// # Errors
/// The worker cannot be asked.
pub(super) async fn is_stopped(worker: &Worker, name: &str) -> Result<bool, Failure> {
    let status = worker.status(name).await?;
    Ok(status.is_some_and(|status| status.connector.state == "STOPPED" && status.tasks.is_empty()))
}

/// Stops the connector and waits until its tasks have ended, with their offsets stored.
///
/// # Errors
/// The worker refuses, or it takes too long.
pub(super) async fn stop(worker: &Worker, name: &str) -> Result<(), Failure> {
    worker.steer(name, "stop").await?;
    let deadline = Instant::now() + STOPPING;
    while !is_stopped(worker, name).await? {
        if Instant::now() >= deadline {
            return Err(Failure::Usage(format!(
                "connector {name} has not stopped within {} s: see `syncline connectors status {name}`, then start again",
                STOPPING.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

/// The remedy where a connector runs.
pub(super) fn still_runs(name: &str) -> Failure {
    Failure::Usage(format!(
        "connector {name} runs: add --stop, or stop it with `syncline connectors stop {name}`; nothing was changed"
    ))
}
