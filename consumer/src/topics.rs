//! Which topics a consumer reads, looked up again and again: a new table is a new topic.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use regex::Regex;
use syncline_runtime::kafka::Admin;
use syncline_runtime::retry::{Backoff, Classified, ErrorClass};
use syncline_runtime::shutdown::Shutdown;
use tracing::{info, warn};

use crate::config::TopicSelection;
use crate::definitions::{Definitions, TABLES_SUFFIX};
use crate::error::ConsumerError;
use crate::handover::Command;

/// How often new topics are looked for.
const INTERVAL: Duration = Duration::from_secs(3);
/// The same while there is none.
const FIRST_INTERVAL: Duration = Duration::from_millis(500);
/// What the name of a producer's topic of checkpoints ends with, behind the prefix.
pub(crate) const CHECKPOINT_SUFFIX: &str = ".syncline.checkpoint";

/// Finds the topics of a selection.
#[derive(Clone)]
pub struct Topics {
    admin: Admin,
    definitions: Arc<Definitions>,
    choice: Choice,
}

#[derive(Clone)]
enum Choice {
    Prefixes(Vec<String>),
    Names(BTreeSet<String>),
    Matching(Regex),
}

impl Topics {
    /// Checks the selection.
    ///
    /// # Errors
    ///
    /// A regular expression that is none.
    pub fn new(selection: &TopicSelection, admin: Admin, definitions: Arc<Definitions>) -> Result<Self, ConsumerError> {
        let choice =
            match selection {
                TopicSelection::Prefix(prefix) => Choice::Prefixes(vec![prefix.clone()]),
                TopicSelection::Prefixes(prefixes) => Choice::Prefixes(prefixes.clone()),
                TopicSelection::Names(names) => Choice::Names(names.iter().cloned().collect()),
                TopicSelection::Regex(text) => Choice::Matching(Regex::new(text).map_err(|error| {
                    ConsumerError::Topics(format!("topics_regex is no regular expression: {error}"))
                })?),
            };
        Ok(Self { admin, definitions, choice })
    }

    /// The topics by now.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// Kafka is away.
    pub async fn list(&self) -> Result<BTreeSet<String>, ConsumerError> {
        match &self.choice {
            Choice::Prefixes(prefixes) => {
                let mut topics = BTreeSet::new();
                for prefix in prefixes {
                    topics.extend(self.definitions.topics(prefix).await?);
                }
                Ok(topics)
            }
            Choice::Names(names) => Ok(names.clone()),
            Choice::Matching(pattern) => {
                let all = self.admin.topics().await?;
                Ok(all.into_keys().filter(|name| is_data(name) && pattern.is_match(name)).collect())
            }
        }
    }

    /// The topics to subscribe to: those that are there. A client that subscribed to a name before its topic was made
    /// hears of the topic minutes later.
    async fn present(&self) -> Result<BTreeSet<String>, ConsumerError> {
        let mut topics = self.list().await?;
        if matches!(self.choice, Choice::Names(_)) {
            let there = self.admin.topics().await?;
            topics.retain(|topic| there.contains_key(topic));
        }
        Ok(topics)
    }

    /// Keeps the subscription at what the selection means.
    ///
    /// # Errors
    ///
    /// What cannot be waited out.
    pub async fn follow(self, commands: Sender<Command>, shutdown: Shutdown) -> Result<(), ConsumerError> {
        let mut subscribed = BTreeSet::new();
        let mut told = false;
        let mut backoff = Backoff::default();
        loop {
            match self.present().await {
                Ok(topics) => {
                    backoff.reset();
                    if topics.is_empty() && !told {
                        told = true;
                        info!("there are no topics yet, waiting for a producer");
                    }
                    if topics != subscribed {
                        info!(topics = topics.len(), "subscribing");
                        subscribed = topics;
                        let names = subscribed.iter().cloned().collect();
                        if commands.send(Command::Subscribe(names)).is_err() {
                            return Ok(());
                        }
                    }
                }
                Err(error) if error.class() == ErrorClass::Transient => {
                    warn!(%error, "looking for topics failed, trying again");
                    if !backoff.wait(&shutdown).await {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
            }
            let interval = if subscribed.is_empty() { FIRST_INTERVAL } else { INTERVAL };
            tokio::select! {
                () = shutdown.wait() => return Ok(()),
                () = tokio::time::sleep(interval) => {}
            }
        }
    }
}

/// Whether a topic is none of the producers' own.
fn is_data(name: &str) -> bool {
    !name.ends_with(TABLES_SUFFIX) && !name.ends_with(CHECKPOINT_SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_producers_own_topics_are_no_data() {
        assert!(is_data("shop.public.users"));
        assert!(!is_data("shop.syncline.tables") && !is_data("shop.syncline.checkpoint"));
    }
}
