//! What goes wrong with a Kafka Connect worker, in words that say what to do.

use std::path::PathBuf;

/// Why a verb of `connectors` did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectorsError {
    /// A file that holds no connector configuration.
    #[error("{}: {reason}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An address or a login that cannot be used.
    #[error("--url: {0}: use for example http://localhost:8083")]
    Address(String),
    /// A certificate, key or password that cannot be used.
    #[error("{option} {}: {reason}", file.display())]
    Login {
        /// The option that named it.
        option: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Options that do not fit together.
    #[error("{0}")]
    Options(String),
    /// Nobody answers.
    #[error("cannot reach the Kafka Connect worker at {url}: {reason}: start it, or correct --url or CONNECT_URL")]
    Unreachable {
        /// The worker.
        url: String,
        /// What the connection ran into.
        reason: String,
    },
    /// One of the two does not trust the other.
    #[error(
        "no trusted connection to the Kafka Connect worker at {url}: {reason}: --cacert names the authority that signed its certificate, --cert and --key ours"
    )]
    Untrusted {
        /// The worker.
        url: String,
        /// What the handshake ran into.
        reason: String,
    },
    /// It took too long.
    #[error(
        "the Kafka Connect worker at {url} has not answered within {seconds} s to {what}: see its log, or allow more with --timeout"
    )]
    Slow {
        /// The worker.
        url: String,
        /// What it was asked to do.
        what: String,
        /// How long it was given.
        seconds: u64,
    },
    /// The login is wrong or has too few rights.
    #[error(
        "the Kafka Connect worker at {url} does not allow us to {what} (status {status}): correct --user and CONNECT_PASSWORD, or --cert and --key"
    )]
    NotAllowed {
        /// The worker.
        url: String,
        /// What it was asked to do.
        what: String,
        /// 401 or 403.
        status: u16,
    },
    /// Something answers, but not a worker.
    #[error("what answers at {url} is not Kafka Connect's REST API: {reason}: correct --url or CONNECT_URL")]
    NotAWorker {
        /// The address.
        url: String,
        /// What was wrong with the answer.
        reason: String,
    },
    /// It said for too long that it is busy.
    #[error(
        "the Kafka Connect worker at {url} was still busy after {seconds} s ({reason}) and did not {what}: try again later"
    )]
    Busy {
        /// The worker.
        url: String,
        /// What it was asked to do.
        what: String,
        /// How long it was asked.
        seconds: u64,
        /// What it said.
        reason: String,
    },
    /// It says no.
    #[error("the Kafka Connect worker at {url} refuses to {what} (status {status}): {reason}")]
    Refused {
        /// The worker.
        url: String,
        /// What it was asked to do.
        what: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        reason: String,
    },
    /// No connector of that name.
    #[error("no connector is called `{name}`{}", hint(nearest.as_deref(), known))]
    Unknown {
        /// The name.
        name: String,
        /// What may have been meant.
        nearest: Option<String>,
        /// All there are.
        known: Vec<String>,
    },
    /// The connector must be stopped first.
    #[error(
        "connector `{name}` is {state}, and offsets can be changed only while it is STOPPED: run `syncline connectors stop {name}` first"
    )]
    NotStopped {
        /// The connector.
        name: String,
        /// What it is instead.
        state: String,
    },
    /// The worker refuses configurations; they have been printed.
    #[error("the worker refuses {0}; nothing was changed")]
    Invalid(String),
    /// Connectors that do not do what was asked; they have been printed.
    #[error("{0}")]
    Failed(String),
    /// `plan` found something to do; it has been printed.
    #[error("{0} to apply: `syncline connectors apply` does it")]
    Pending(String),
}

impl ConnectorsError {
    /// As documented in the help.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::File { .. } | Self::Address(_) | Self::Login { .. } | Self::Options(_) => 2,
            Self::Pending(_) => 5,
            _ => 1,
        }
    }
}

fn hint(nearest: Option<&str>, known: &[String]) -> String {
    match (nearest, known) {
        (Some(name), _) => format!(": did you mean `{name}`?"),
        (None, []) => ": the worker has none".to_owned(),
        (None, known) => format!("; there are: {}", known.join(", ")),
    }
}
