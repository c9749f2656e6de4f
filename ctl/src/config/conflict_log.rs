//! `conflict_log`: how conflicts are written down, and who is told.

use serde::Deserialize;
use syncline_consumer::config::{Alerting, ConflictLog, Notify};
use syncline_runtime::config::{Field, Kind, Preset};
use syncline_runtime::settings::Secret;
use url::Url;

use super::check::Check;
use Preset::{Absent, Is, Required};

/// The section's keys.
pub(super) const LOG: &[Field] = &[
    Field::new("storage", Kind::Section(STORAGE), Is(""), "Where conflicts are kept."),
    Field::new(
        "retention_days",
        Kind::Integer { min: 1, max: 36_500 },
        Is("90"),
        "Days that conflicts are kept; later they are deleted.",
    ),
    Field::new(
        "largest_value",
        Kind::Integer { min: 1, max: 16_777_216 },
        Is("65536"),
        "A value longer than this many bytes is left out; its length is noted.",
    ),
    Field::new(
        "mask",
        Kind::Texts,
        Is(""),
        "Columns whose values are left out, by name, in every table; of several names that nodes have for a column one will do.",
    ),
    Field::new("alerting", Kind::Section(ALERTING), Absent("nobody is told"), "Who is told when there are many."),
];

const STORAGE: &[Field] = &[
    Field::new("type", Kind::Choice { works: &["table"], later: &[] }, Is("table"), "A table of each node."),
    Field::new(
        "name",
        Kind::Choice { works: &["sync_conflicts"], later: &[] },
        Is("sync_conflicts"),
        "Its name, in the schema `_syncline`.",
    ),
];

const ALERTING: &[Field] = &[
    Field::new(
        "threshold",
        Kind::Integer { min: 1, max: 1_000_000_000 },
        Is("100"),
        "As many conflicts as this within an hour, at one node, raise the alarm.",
    ),
    Field::new(
        "notify",
        Kind::Texts,
        Required,
        "Who is told: `slack:#channel`, which needs `slack_webhook_url`; `webhook:https://…`, which gets a JSON object; `log`, an \
         error in the process's log.",
    ),
    Field::new(
        "slack_webhook_url",
        Kind::Secret,
        Absent("required with `slack:#channel`"),
        "The address that Slack gave for incoming webhooks.",
    ),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    storage: RawStorage,
    retention_days: u32,
    largest_value: usize,
    mask: Vec<String>,
    alerting: Option<RawAlerting>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStorage {
    #[serde(rename = "type")]
    kind: RawStorageKind,
    name: RawStorageName,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawStorageKind {
    Table,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RawStorageName {
    SyncConflicts,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAlerting {
    threshold: u64,
    notify: Vec<String>,
    slack_webhook_url: Option<Secret>,
}

const SECTION: &str = "conflict_log.alerting";

impl Check<'_> {
    /// How conflicts are written down.
    pub(super) fn conflict_log(&mut self, raw: RawLog) -> ConflictLog {
        let RawStorage { kind: RawStorageKind::Table, name: RawStorageName::SyncConflicts } = raw.storage;
        ConflictLog {
            retention_days: raw.retention_days,
            largest_value: raw.largest_value,
            masked: raw.mask,
            alerting: raw.alerting.map(|alerting| self.alerting(alerting)),
        }
    }

    fn alerting(&mut self, raw: RawAlerting) -> Alerting {
        let RawAlerting { threshold, notify: written, slack_webhook_url: slack } = raw;
        if let Some(fault) = slack.as_ref().and_then(|url| url_fault(url.expose())) {
            self.refuse(&format!("{SECTION}.slack_webhook_url"), fault);
        }
        if written.is_empty() {
            self.refuse(&format!("{SECTION}.notify"), "names nobody: list slack:#channel, webhook:https://… or log");
        }
        let mut notify = Vec::with_capacity(written.len());
        for (number, text) in written.iter().enumerate() {
            match receiver(text, slack.as_ref()) {
                Ok(receiver) => notify.push(receiver),
                Err(fault) => self.refuse(&format!("{SECTION}.notify[{number}]"), fault),
            }
        }
        if slack.is_some() && !written.iter().any(|text| text.starts_with("slack:")) {
            let text = "is used by `slack:#channel` only, which `notify` does not list: add it, or remove this";
            self.refuse(&format!("{SECTION}.slack_webhook_url"), text);
        }
        Alerting { threshold, notify }
    }
}

/// One entry of `notify`. What is wrong is told without the entry: the address of a webhook is as good as a password.
fn receiver(text: &str, slack: Option<&Secret>) -> Result<Notify, String> {
    match text.split_once(':') {
        None if text == "log" => Ok(Notify::Log),
        Some(("slack", channel)) => {
            let name = channel.strip_prefix('#').filter(|name| !name.is_empty() && !name.contains(char::is_whitespace));
            match (name, slack) {
                (None, _) => Err("names no channel: write slack:#channel, in quotes".to_owned()),
                (Some(_), None) => Err(format!("needs `{SECTION}.slack_webhook_url`, the address that Slack gave")),
                (Some(_), Some(url)) => Ok(Notify::Slack { channel: channel.to_owned(), webhook: url.clone() }),
            }
        }
        Some(("webhook", url)) => match url_fault(url) {
            Some(fault) => Err(fault),
            None => Ok(Notify::Webhook(Secret::new(url.to_owned()))),
        },
        _ => Err("is not known: write slack:#channel, webhook:https://… or log".to_owned()),
    }
}

fn url_fault(text: &str) -> Option<String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => None,
        Ok(_) => Some("must begin with https:// or http://".to_owned()),
        Err(error) => Some(format!("is not a URL: {error}")),
    }
}
