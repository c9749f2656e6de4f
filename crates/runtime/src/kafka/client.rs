//! The settings every Kafka client of ours starts from, and those nobody may change.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use tracing::{debug, error, info, warn};

use super::error::KafkaError;
use crate::settings::KafkaSettings;

/// The base of every client's settings: where Kafka is, who we are, and the user's own properties. Callers add what
/// their part of the guarantees rests on afterwards, so that it wins.
///
/// `client_id` is what brokers log and set quotas by, unless the user's properties name another.
#[must_use]
pub fn client_config(settings: &KafkaSettings, client_id: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("client.id", client_id);
    // An idle connection that a firewall has forgotten is found while nothing is waiting for it.
    config.set("socket.keepalive.enable", "true");
    for (name, value) in &settings.properties {
        config.set(name, value);
    }
    config.set("bootstrap.servers", &settings.bootstrap_servers);
    config
}

/// Checks that librdkafka knows every property and takes its value. Connects to nothing.
///
/// # Errors
///
/// [`KafkaError::Property`] names the first one it does not take, [`KafkaError::Client`] a combination that does not
/// work, such as a mechanism that was not compiled in.
pub fn check_properties(settings: &KafkaSettings) -> Result<(), KafkaError> {
    for (key, value) in &settings.properties {
        if let Some(reason) = protected_property(key) {
            return Err(KafkaError::Property { key: key.clone(), reason: reason.to_owned() });
        }
        let mut config = ClientConfig::new();
        config.set(key, value).create_native_config().map_err(KafkaError::from_creation)?;
    }
    Ok(())
}

const ACKNOWLEDGED: &str =
    "every change must be acknowledged by all in-sync replicas, once and in order; this is fixed";
const PARTITIONED: &str = "records must go to the partition that kafka connect would choose; this is fixed";
const OFFSETS: &str = "offsets are kept with the target's data and committed after the write; this is fixed";
const GROUP: &str = "set kafka.consumer_group instead; how the group shares partitions is fixed";
const SERVERS: &str = "set kafka.bootstrap_servers instead";
const UNSEEN: &str = "every record and every missing topic must be seen; this is fixed";
const INTERNAL: &str = "the program needs it for itself";

/// Properties that nobody may set, with the reason.
const PROTECTED: &[(&str, &[&str])] = &[
    (
        ACKNOWLEDGED,
        &[
            "acks",
            "request.required.acks",
            "enable.idempotence",
            "enable.gapless.guarantee",
            "max.in.flight",
            "max.in.flight.requests.per.connection",
            "message.send.max.retries",
            "retries",
            "message.timeout.ms",
            "delivery.timeout.ms",
            "queuing.strategy",
            "msg_order_cmp",
            "delivery.report.only.error",
            "transactional.id",
            "transaction.timeout.ms",
        ],
    ),
    (PARTITIONED, &["partitioner"]),
    (
        OFFSETS,
        &[
            "enable.auto.commit",
            "auto.commit.enable",
            "auto.commit.interval.ms",
            "enable.auto.offset.store",
            "auto.offset.reset",
            "offset.store.method",
            "offset.store.path",
            "offset.store.sync.interval.ms",
        ],
    ),
    (
        GROUP,
        &[
            "group.id",
            "group.protocol",
            "group.protocol.type",
            "group.remote.assignor",
            "partition.assignment.strategy",
        ],
    ),
    (SERVERS, &["bootstrap.servers", "metadata.broker.list"]),
    (
        UNSEEN,
        &[
            "isolation.level",
            "enable.partition.eof",
            "allow.auto.create.topics",
            "topic.blacklist",
            "consume.callback.max.messages",
        ],
    ),
    (
        INTERNAL,
        &[
            "enabled_events",
            "opaque",
            "log.queue",
            "log_level",
            "default_topic_conf",
            "interceptors",
            "ssl_engine_callback_data",
            "builtin.features",
            "test.mock.num.brokers",
            "test.mock.broker.rtt",
        ],
    ),
];

/// Why a property may not be set under `kafka.properties`, for those the guarantees rest on; none for the others.
#[must_use]
pub fn protected_property(name: &str) -> Option<&'static str> {
    // librdkafka takes a topic's properties with and without this prefix.
    let bare = name.strip_prefix("topic.");
    let listed = PROTECTED.iter().find(|(_, names)| names.iter().any(|known| *known == name || Some(*known) == bare));
    let callback = name.ends_with("_cb").then_some(INTERNAL);
    listed.map(|(reason, _)| *reason).or(callback)
}

/// What the linked librdkafka can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mechanisms {
    /// Version of librdkafka.
    pub librdkafka: String,
    /// Compiled-in features: compression codecs, TLS, SASL mechanisms.
    pub features: Vec<String>,
}

/// What the linked librdkafka can do, for `--version`.
#[must_use]
pub fn mechanisms() -> Mechanisms {
    let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
    let features = ClientConfig::new()
        .create_native_config()
        .and_then(|config| config.get("builtin.features"))
        .map(|list| list.split(',').map(|feature| feature.trim().to_owned()).collect())
        .unwrap_or_default();
    Mechanisms { librdkafka, features }
}

/// Writes a line of librdkafka's log to ours: for [`ClientContext::log`] of our contexts. Lost connections come as
/// errors from librdkafka, which then connects again by itself: they are warnings here.
pub fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        // A property of the consumer handed to a producer, or the other way round: one list serves both.
        _ if facility == "CONFWARN" => debug!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            error!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => warn!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => info!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Debug => debug!(target: "librdkafka", facility, "{message}"),
    }
}

/// Remembers what a short-lived client ran into, for the one error it ends with; logs nothing above debug.
#[derive(Default)]
pub(super) struct Symptoms {
    seen: Mutex<HashMap<Kind, String>>,
}

#[derive(PartialEq, Eq, Hash)]
enum Kind {
    Login,
    Connection,
}

impl Symptoms {
    /// What a refused login said.
    pub(super) fn login(&self) -> Option<String> {
        self.of(&Kind::Login)
    }

    /// What a failed connection said.
    pub(super) fn connection(&self) -> Option<String> {
        self.of(&Kind::Connection)
    }

    fn of(&self, kind: &Kind) -> Option<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(kind).cloned()
    }

    fn note(&self, kind: Kind, reason: &str) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, plain(reason));
    }
}

/// librdkafka's reason without its thread and broker prefix and its state suffix.
fn plain(reason: &str) -> String {
    // librdkafka then advises larger responses, but these are the first bytes of another protocol.
    if reason.contains("Invalid response size") {
        return "what answers there does not speak kafka's protocol".to_owned();
    }
    let reason = reason.split_once("]: ").map_or(reason, |(_, rest)| rest);
    let reason = reason.split_once(" (after ").map_or(reason, |(rest, _)| rest);
    reason.trim().to_owned()
}

impl ClientContext for Symptoms {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(target: "librdkafka", ?level, facility, "{message}");
    }

    fn error(&self, error: ClientError, reason: &str) {
        debug!(target: "librdkafka", %error, "{reason}");
        match error.rdkafka_error_code() {
            Some(
                Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL | Code::UnsupportedSASLMechanism,
            ) => {
                self.note(Kind::Login, reason);
            }
            // Says only that all connections failed; the reason has come before.
            Some(Code::AllBrokersDown) => {}
            _ => self.note(Kind::Connection, reason),
        }
    }
}

impl ConsumerContext for Symptoms {}

#[cfg(test)]
mod tests {
    use rdkafka::types::RDKafkaConfRes;

    use super::*;

    fn settings(properties: &[(&str, &str)]) -> KafkaSettings {
        KafkaSettings {
            bootstrap_servers: "127.0.0.1:1".into(),
            partitions: 1,
            replication_factor: 1,
            properties: properties.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        }
    }

    #[test]
    fn what_the_guarantees_rest_on_is_protected_and_tuning_is_not() {
        for name in
            ["acks", "topic.acks", "partitioner", "group.id", "topic.blacklist", "rebalance_cb", "isolation.level"]
        {
            assert!(protected_property(name).is_some(), "{name}");
        }
        for name in ["linger.ms", "sasl.password", "compression.type", "fetch.min.bytes", "client.rack", "debug"] {
            assert!(protected_property(name).is_none(), "{name}");
        }
    }

    #[test]
    fn every_protected_name_is_one_librdkafka_knows() {
        for name in PROTECTED.iter().flat_map(|(_, names)| *names) {
            let refused = ClientConfig::new().set(*name, "?").create_native_config().err();
            let unknown = RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN;
            assert!(!matches!(refused, Some(ClientError::ClientConfig(code, ..)) if code == unknown), "{name}");
        }
    }

    #[test]
    fn the_users_properties_are_handed_on_but_not_the_address() {
        let config = client_config(&settings(&[("linger.ms", "7"), ("bootstrap.servers", "elsewhere:1")]), "syncline");
        assert_eq!(config.get("linger.ms"), Some("7"));
        assert_eq!(config.get("client.id"), Some("syncline"));
        assert_eq!(config.get("bootstrap.servers"), Some("127.0.0.1:1"));
    }

    #[test]
    fn wrong_properties_are_named() {
        let error = |properties: &[(&str, &str)]| check_properties(&settings(properties)).unwrap_err().to_string();
        assert!(error(&[("linger.sm", "5")]).contains("linger.sm"));
        assert!(error(&[("linger.ms", "fast")]).contains("linger.ms"));
        assert!(error(&[("acks", "1")]).contains("acks: every change must be acknowledged"));
        check_properties(&settings(&[("linger.ms", "5"), ("compression.type", "zstd")])).unwrap();
    }

    #[test]
    fn what_the_binary_can_do_is_listed() {
        let mechanisms = mechanisms();
        assert!(mechanisms.librdkafka.starts_with("2."), "{}", mechanisms.librdkafka);
        for feature in ["ssl", "sasl_scram", "zstd", "lz4"] {
            assert!(mechanisms.features.iter().any(|found| found == feature), "{feature}");
        }
    }

    #[test]
    fn reasons_lose_librdkafkas_prefix() {
        assert_eq!(
            plain(
                "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)"
            ),
            "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused"
        );
    }
}
