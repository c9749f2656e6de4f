//! What goes wrong with Kafka, in words that say what to do.

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};

use crate::retry::{Classified, ErrorClass};

/// An error of Kafka or its client.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// No broker answered in time.
    #[error("cannot reach kafka at {servers}: {reason}: start it or correct kafka.bootstrap_servers")]
    Unreachable {
        /// `kafka.bootstrap_servers`.
        servers: String,
        /// What the client last ran into.
        reason: String,
    },
    /// TLS or SASL failed.
    #[error(
        "kafka at {servers} and this client cannot agree on a login: {reason}: correct security.protocol, sasl.* and ssl.* in kafka.properties"
    )]
    Login {
        /// `kafka.bootstrap_servers`.
        servers: String,
        /// What the client or broker said.
        reason: String,
    },
    /// A property that librdkafka does not take.
    #[error("kafka.properties: {key}: {reason}")]
    Property {
        /// Its name.
        key: String,
        /// Why not; never its value, which may be a secret.
        reason: String,
    },
    /// The client could not be created from these properties together.
    #[error("kafka.properties: {reason}")]
    Client {
        /// What librdkafka said.
        reason: String,
    },
    /// The cluster's access control forbids it.
    #[error("kafka does not allow this user to {operation} {what}: grant it the right")]
    NotAllowed {
        /// For example `create`.
        operation: &'static str,
        /// For example `topic shop.public.users`.
        what: String,
    },
    /// The topic is not there.
    #[error("topic {topic} does not exist in kafka at {servers}")]
    MissingTopic {
        /// The topic.
        topic: String,
        /// `kafka.bootstrap_servers`.
        servers: String,
    },
    /// The broker answered with no.
    #[error("kafka refuses to {operation} {what}: {reason}")]
    Refused {
        /// For example `create`.
        operation: &'static str,
        /// For example `topic shop.public.users`.
        what: String,
        /// The broker's reason with a remedy where there is one.
        reason: String,
    },
    /// It did not work now and may work later.
    #[error("cannot {operation} {what} now: {reason}")]
    Unavailable {
        /// For example `read`.
        operation: &'static str,
        /// For example `topic shop.public.users`.
        what: String,
        /// What the client or broker said.
        reason: String,
    },
}

impl KafkaError {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unreachable { .. } | Self::Unavailable { .. } => ErrorClass::Transient,
            Self::Login { .. }
            | Self::Property { .. }
            | Self::Client { .. }
            | Self::NotAllowed { .. }
            | Self::MissingTopic { .. }
            | Self::Refused { .. } => ErrorClass::Fatal,
        }
    }

    /// An error met while creating a client. Property values are left out: they may be secrets.
    #[must_use]
    pub fn from_creation(error: ClientError) -> Self {
        match error {
            ClientError::ClientConfig(_, reason, key, value) => {
                let reason = if value.is_empty() { reason } else { reason.replace(&value, "***") };
                Self::Property { key, reason }
            }
            ClientError::ClientCreation(reason) => Self::Client { reason },
            other => Self::Client { reason: other.to_string() },
        }
    }

    /// An error code met while doing `operation` to `what`.
    #[must_use]
    pub(super) fn from_code(code: Code, operation: &'static str, what: String, reason: Option<&str>) -> Self {
        let reason = || reason.map_or_else(|| code.to_string(), ToOwned::to_owned);
        match code {
            Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed => {
                Self::NotAllowed { operation, what }
            }
            code if may_pass(code) => Self::Unavailable { operation, what, reason: reason() },
            _ => Self::Refused { operation, what, reason: reason() },
        }
    }
}

impl Classified for KafkaError {
    fn class(&self) -> ErrorClass {
        self.class()
    }
}

/// Codes that go away by themselves: the broker is busy, moving, starting, or not heard of yet.
fn may_pass(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::RequestTimedOut
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::NetworkException
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::NotController
            | Code::NotEnoughReplicas
            | Code::KafkaStorageError
            | Code::FetchSessionIdNotFound
            | Code::OffsetNotAvailable
            | Code::WaitingForCoordinator
            | Code::InProgress
            | Code::DestroyBroker
            | Code::ThrottlingQuotaExceeded
            | Code::UnknownLeaderEpoch
            | Code::FencedLeaderEpoch
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
    )
}

#[cfg(test)]
mod tests {
    use rdkafka::types::RDKafkaConfRes;

    use super::*;

    #[test]
    fn a_property_value_is_never_printed() {
        let error = KafkaError::from_creation(ClientError::ClientConfig(
            RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
            "Invalid value \"s3cret\" for configuration property".into(),
            "ssl.key.pem".into(),
            "s3cret".into(),
        ));
        assert_eq!(
            error.to_string(),
            "kafka.properties: ssl.key.pem: Invalid value \"***\" for configuration property"
        );
        assert_eq!(error.class(), ErrorClass::Fatal);
    }

    #[test]
    fn outages_pass_and_refusals_do_not() {
        let of = |code| KafkaError::from_code(code, "read", "topic t".into(), None).class();
        assert_eq!(of(Code::LeaderNotAvailable), ErrorClass::Transient);
        assert_eq!(of(Code::TopicAuthorizationFailed), ErrorClass::Fatal);
        assert_eq!(of(Code::InvalidTopic), ErrorClass::Fatal);
    }
}
