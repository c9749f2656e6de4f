//! What can be typed behind `syncline connectors`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use syncline_runtime::config::parse_duration;

use crate::cli::{File, Output};

/// Options of `connectors`.
#[derive(Debug, Args)]
pub(crate) struct Connectors {
    #[command(flatten)]
    pub(super) worker: WorkerOptions,

    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// Where the worker is, and who asks. Every verb takes them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Kafka Connect")]
pub(crate) struct WorkerOptions {
    /// The worker's REST API
    #[arg(long, global = true, env = "CONNECT_URL", default_value = "http://localhost:8083", hide_env_values = true)]
    pub(super) url: String,

    /// User name for basic authentication; the password is read from CONNECT_PASSWORD
    #[arg(long, global = true, value_name = "NAME", env = "CONNECT_USER")]
    pub(super) user: Option<String>,

    /// Read the password from this file instead
    #[arg(long, global = true, value_name = "FILE", env = "CONNECT_PASSWORD_FILE")]
    pub(super) password_file: Option<PathBuf>,

    /// Certificates (PEM) to trust besides the system's
    #[arg(long, global = true, value_name = "FILE", env = "CONNECT_CACERT")]
    pub(super) cacert: Option<PathBuf>,

    /// Our certificate (PEM), where the worker asks for one; needs --key
    #[arg(long, global = true, value_name = "FILE", env = "CONNECT_CERT")]
    pub(super) cert: Option<PathBuf>,

    /// Private key (PEM) of --cert
    #[arg(long, global = true, value_name = "FILE", env = "CONNECT_KEY")]
    pub(super) key: Option<PathBuf>,

    /// How long one request may take, and how long a rebalance (409) is waited out
    #[arg(long, global = true, value_name = "TIME", default_value = "90s", value_parser = duration)]
    pub(super) timeout: Duration,

    /// How the result looks; it goes to standard output
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub(super) output: Output,
}

const FILES: &str = "\
A file is JSON or YAML: {\"name\": …, \"config\": {…}}, a list of those, or the bare settings, named by their `name` or \
else by the file. A folder stands for its *.json, *.yaml and *.yml; `-` is standard input.";

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Validate configurations against the worker and show what `apply` would change; changes nothing
    #[command(after_help = format!("Example:\n  syncline connectors plan connect-configs/ --url http://localhost:8083\n\n{FILES}\n\n\
        Exit codes: 0 nothing would change, 5 there are changes, 1 the worker refuses a configuration or cannot be asked."))]
    Plan(Files),
    /// Register or change connectors, and wait until they and their tasks run
    #[command(after_help = format!("Examples:\n  syncline connectors apply connect-configs/postgres-source.json\n  \
        syncline connectors generate -f sync.yaml | syncline connectors apply -\n\n{FILES}\n\n\
        If the worker refuses one configuration, none is applied. Doing it again does nothing."))]
    Apply(Apply),
    /// Show connectors and tasks; exits with 1 if one has failed
    #[command(after_help = "Example:\n  syncline connectors status --watch")]
    Status(Status),
    /// Pause connectors; their tasks stay assigned
    #[command(after_help = "Example:\n  syncline connectors pause shop-sink")]
    Pause(Named),
    /// Let paused or stopped connectors go on
    #[command(after_help = "Example:\n  syncline connectors resume shop-sink")]
    Resume(Named),
    /// Stop connectors: their tasks end, their offsets can be changed
    #[command(after_help = "Example:\n  syncline connectors stop shop-source")]
    Stop(Named),
    /// Restart connectors with their tasks
    #[command(after_help = "Example:\n  syncline connectors restart shop-source --only-failed")]
    Restart(Restart),
    /// Delete connectors; the worker keeps their offsets, so that one of the same name goes on there
    #[command(after_help = "Example:\n  syncline connectors delete shop-sink --yes")]
    Delete(Delete),
    /// Show, alter or reset the offsets of a connector
    #[command(subcommand, after_help = "Example:\n  syncline connectors offsets get shop-source --output json")]
    Offsets(Offsets),
    /// Print the Debezium source and JDBC sink that do what a sync file says
    #[command(after_help = "Examples:\n  syncline connectors generate -f sync.yaml --side source > source.json\n  \
        syncline connectors generate -f sync.yaml --directory connectors/\n\n\
        Variables in passwords need not be set: ${NAME} becomes ${env:NAME}, which the worker resolves.")]
    Generate(Generate),
}

#[derive(Debug, Args)]
pub(super) struct Files {
    /// Files and folders
    #[arg(required = true, value_name = "FILE")]
    pub(super) paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Apply {
    #[command(flatten)]
    pub(super) files: Files,

    #[command(flatten)]
    pub(super) patience: Patience,
}

/// How long a change may take to show.
#[derive(Debug, Args)]
pub(super) struct Patience {
    /// How long connectors and tasks may take to get there; 0s does not wait
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub(super) wait: Duration,

    /// How long everything must have run without a failure: a task shows RUNNING before it has done anything
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(super) settle: Duration,
}

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Connectors; all without names
    pub(super) names: Vec<String>,

    /// Show it over and over until Ctrl-C
    #[arg(long)]
    pub(super) watch: bool,

    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration, requires = "watch")]
    pub(super) interval: Duration,
}

#[derive(Debug, Args)]
pub(super) struct Named {
    /// Connectors
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<String>,

    #[command(flatten)]
    pub(super) patience: Patience,
}

#[derive(Debug, Args)]
pub(super) struct Restart {
    #[command(flatten)]
    pub(super) named: Named,

    /// Only what has failed
    #[arg(long)]
    pub(super) only_failed: bool,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    #[command(flatten)]
    pub(super) named: Named,

    /// Do it without asking
    #[arg(long, short = 'y')]
    pub(super) yes: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Offsets {
    /// Show the offsets
    #[command(after_help = "Example:\n  syncline connectors offsets get shop-source")]
    Get {
        /// The connector
        name: String,
    },
    /// Set offsets; the connector must be stopped
    #[command(after_help = "Example:\n  syncline connectors offsets get shop-sink --output json > offsets.json\n  \
        syncline connectors stop shop-sink\n  syncline connectors offsets alter shop-sink --from offsets.json")]
    Alter {
        /// The connector
        name: String,

        /// A file as `get --output json` prints it; `-` is standard input
        #[arg(long, value_name = "FILE")]
        from: PathBuf,

        /// Do it without asking
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// Forget all offsets; the connector must be stopped
    #[command(
        after_help = "Example:\n  syncline connectors stop shop-sink\n  syncline connectors offsets reset shop-sink --yes"
    )]
    Reset {
        /// The connector
        name: String,

        /// Do it without asking
        #[arg(long, short = 'y')]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Generate {
    #[command(flatten)]
    pub(super) file: File,

    /// Which of the two
    #[arg(long, value_enum, default_value_t = Side::Both)]
    pub(super) side: Side,

    /// Write a file per connector into this folder instead
    #[arg(long, value_name = "FOLDER")]
    pub(super) directory: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Side {
    /// Source and sink, as far as the file has them
    Both,
    /// The Debezium source
    Source,
    /// The Debezium JDBC sink
    Sink,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|fault| format!("`{text}` {fault}"))
}
