//! Tells people when a node has many conflicts. Nothing depends on it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use syncline_runtime::http::post_json;
use syncline_runtime::metrics;
use syncline_runtime::shutdown::Shutdown;
use tracing::{error, warn};

use crate::config::{Alerting, NodeSettings, Notify};
use crate::error::ConsumerError;
use crate::targets::Target;

/// What is counted.
const WINDOW: Duration = Duration::from_secs(3600);
/// How often.
const INTERVAL: Duration = Duration::from_secs(60);

/// `conflict_log.alerting` of one node.
#[derive(Debug)]
pub(crate) struct Alarm {
    topology: String,
    node: String,
    group: String,
    alerting: Alerting,
}

impl Alarm {
    /// The alarm of a node that has one.
    pub(crate) fn of(node: &NodeSettings, group: &str) -> Option<Self> {
        let alerting = node.log.alerting.clone()?;
        Some(Self { topology: node.topology.clone(), node: node.name.clone(), group: group.to_owned(), alerting })
    }

    /// Counts until the shutdown, and tells people when it is time.
    pub(crate) async fn watch(self, target: Arc<dyn Target>, stop: Shutdown) -> Result<(), ConsumerError> {
        let mut told: Option<Instant> = None;
        loop {
            let round = async {
                let counted = target.conflicts_since(WINDOW).await;
                if let Ok(count) = counted {
                    metrics::conflicts_within_hour(&self.group, count, self.alerting.threshold);
                }
                match counted {
                    Ok(count) if count < self.alerting.threshold => told = None,
                    Ok(count) if is_due(count, self.alerting.threshold, told.map(|told| told.elapsed())) => {
                        told = Some(Instant::now());
                        self.tell(count).await;
                    }
                    Ok(_) => {}
                    Err(error) => warn!(%error, "conflicts could not be counted, trying again in a minute"),
                }
                tokio::time::sleep(INTERVAL).await;
            };
            tokio::select! {
                () = stop.wait() => return Ok(()),
                () = round => {}
            }
        }
    }

    async fn tell(&self, count: u64) {
        for notify in &self.alerting.notify {
            let sent = match notify {
                Notify::Log => {
                    error!(
                        conflicts = count,
                        threshold = self.alerting.threshold,
                        "many conflicts within an hour; look with: syncline conflicts list --node {} --since 1h",
                        self.node
                    );
                    continue;
                }
                Notify::Slack { channel, webhook } => ("Slack", post_json(webhook, &self.slack(channel, count)).await),
                Notify::Webhook(address) => ("a webhook", post_json(address, &self.webhook(count)).await),
            };
            if let (receiver, Err(error)) = sent {
                warn!(%error, conflicts = count, "{receiver} could not be told of many conflicts");
            }
        }
    }

    fn slack(&self, channel: &str, count: u64) -> Value {
        let Self { topology, node, alerting, .. } = self;
        let text = format!(
            "Syncline {topology}: {count} conflicts at node {node} within an hour (threshold {}). \
             Look with `syncline conflicts list --node {node} --since 1h`.",
            alerting.threshold
        );
        json!({"channel": channel, "text": text})
    }

    fn webhook(&self, count: u64) -> Value {
        json!({
            "topology": self.topology,
            "node": self.node,
            "conflicts": count,
            "threshold": self.alerting.threshold,
            "window_seconds": WINDOW.as_secs(),
        })
    }
}

/// Whether people are told now; `told` is how long ago they were, unless it was below the threshold since.
fn is_due(count: u64, threshold: u64, told: Option<Duration>) -> bool {
    count >= threshold && told.is_none_or(|ago| ago >= WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_once_and_again_after_an_hour() {
        assert!(!is_due(4, 5, None));
        assert!(is_due(5, 5, None) && is_due(6, 5, None));
        let minute = Duration::from_secs(60);
        assert!(!is_due(500, 5, Some(minute)));
        assert!(!is_due(4, 5, Some(60 * minute)));
        assert!(is_due(5, 5, Some(60 * minute)));
    }

    #[test]
    fn a_message_says_how_many_and_where_to_look() {
        let alerting = Alerting { threshold: 5, notify: Vec::new() };
        let alarm = Alarm { topology: "shop".into(), node: "eu".into(), group: "shop.eu".into(), alerting };
        let expected =
            json!({"topology": "shop", "node": "eu", "conflicts": 7, "threshold": 5, "window_seconds": 3600});
        assert_eq!(alarm.webhook(7), expected);
        let slack = alarm.slack("#ops", 7);
        assert_eq!(slack["channel"], "#ops");
        let text = slack["text"].as_str().unwrap();
        assert!(
            text.contains("7 conflicts at node eu") && text.contains("syncline conflicts list --node eu"),
            "{text}"
        );
    }
}
