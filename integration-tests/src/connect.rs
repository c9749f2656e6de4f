//! Connectors on the stack's Kafka Connect worker, through its REST interface.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, StatusCode};
use serde_json::{Map, Value};
use syncline_producer::takeover::Offset;

use crate::stack;
use crate::sync::PATIENCE;

/// A connector that runs. Deleted by [`Connector::delete`], or when this is dropped.
pub struct Connector {
    name: String,
    url: String,
    client: Client,
    deleted: bool,
}

impl Connector {
    /// Registers a connector and waits until it and its tasks run.
    ///
    /// # Errors
    ///
    /// The worker cannot be reached or refuses the configuration, or a task fails.
    pub async fn start(name: &str, config: Map<String, Value>) -> Result<Self> {
        let url = format!("{}/connectors/{name}", stack::connect()?.url);
        let connector = Self { name: name.to_owned(), url, client: Client::new(), deleted: false };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = connector.client.put(format!("{}/config", connector.url)).json(&config);
            let answer = request.send().await.context("the Connect worker does not answer")?;
            let (status, text) = (answer.status(), answer.text().await?);
            // A rebalance under way.
            if status != StatusCode::CONFLICT || Instant::now() >= deadline {
                ensure!(status.is_success(), "the Connect worker refuses {name}: {status} {text}");
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        while !connector.is_running().await? {
            ensure!(Instant::now() < deadline, "connector {name} does not run after {PATIENCE:?}");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        Ok(connector)
    }

    /// Whether the connector and its tasks run, of which there is at least one.
    ///
    /// # Errors
    ///
    /// One of them failed; the error holds its trace.
    pub async fn is_running(&self) -> Result<bool> {
        let answer = self.client.get(format!("{}/status", self.url)).send().await?;
        if answer.status() == StatusCode::NOT_FOUND || answer.status() == StatusCode::CONFLICT {
            return Ok(false);
        }
        let status: Value = answer.error_for_status()?.json().await?;
        let tasks = status["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
        for part in tasks.iter().chain([&status["connector"]]) {
            if part["state"] == "FAILED" {
                // The chain of causes, without the frames between.
                let trace = part["trace"].as_str().unwrap_or_default().lines();
                let causes: Vec<&str> = trace.filter(|line| !line.starts_with("\tat ")).collect();
                bail!("connector {} failed:\n{}", self.name, causes.join("\n"));
            }
        }
        let runs = |part: &Value| part["state"] == "RUNNING";
        Ok(runs(&status["connector"]) && !tasks.is_empty() && tasks.iter().all(runs))
    }

    /// The connector's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The state of the connector and of its tasks, as the worker names them.
    ///
    /// # Errors
    ///
    /// The worker does not answer.
    pub async fn states(&self) -> Result<Vec<String>> {
        let status: Value = self.get("status").await?;
        let tasks = status["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
        let all = std::iter::once(&status["connector"]).chain(tasks);
        Ok(all.map(|part| part["state"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// Whether it has stored an offset: a worker does that from time to time, behind the work.
    ///
    /// # Errors
    ///
    /// The worker does not answer.
    pub async fn has_offsets(&self) -> Result<bool> {
        Ok(self.get("offsets").await?["offsets"].as_array().is_some_and(|offsets| !offsets.is_empty()))
    }

    /// Whether a PostgreSQL source has stored an offset behind its snapshot, which it does a while after that has ended.
    ///
    /// # Errors
    ///
    /// The worker does not answer.
    pub async fn follows_the_log(&self) -> Result<bool> {
        let stored = self.get("offsets").await?;
        Ok(Offset::parse(&stored["offsets"][0]["offset"]).is_ok_and(|offset| !offset.in_snapshot))
    }

    async fn get(&self, what: &str) -> Result<Value> {
        Ok(self.client.get(format!("{}/{what}", self.url)).send().await?.error_for_status()?.json().await?)
    }

    /// Stops the connector and removes it from the worker, and waits until its tasks have ended.
    ///
    /// # Errors
    ///
    /// The worker keeps it.
    pub async fn delete(mut self) -> Result<()> {
        self.deleted = true;
        remove(&self.client, &self.url).await
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        if self.deleted {
            return;
        }
        let url = self.url.clone();
        let removal = move || tokio::runtime::Runtime::new()?.block_on(async { remove(&Client::new(), &url).await });
        std::thread::scope(|scope| scope.spawn(removal).join()).ok();
    }
}

async fn remove(client: &Client, url: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = client.delete(url).send().await?.status();
        if status.is_success() || status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        ensure!(status == StatusCode::CONFLICT && Instant::now() < deadline, "{url} cannot be deleted: {status}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}
