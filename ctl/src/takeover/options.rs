//! What can be typed behind `syncline takeover`.

use clap::{Args, Subcommand};

use crate::cli::File;
use crate::connectors::WorkerOptions;

/// Options of `takeover`.
#[derive(Debug, Args)]
pub(crate) struct Takeover {
    #[command(flatten)]
    pub(super) worker: WorkerOptions,

    #[command(subcommand)]
    pub(super) from: From,
}

#[derive(Debug, Subcommand)]
pub(super) enum From {
    /// Capture in the place of a Debezium PostgreSQL connector: its slot, publication and topics
    #[command(after_help = "Examples:\n  \
        syncline takeover debezium -f sync.yaml --connector shop-source --dry-run\n  \
        syncline takeover debezium -f sync.yaml --connector shop-source --stop --yes && syncline produce -f sync.yaml\n\n\
        The sync file names the connector's slot.name, publication.name and topic.prefix.")]
    Debezium(Debezium),
    /// Apply in the place of a JDBC sink connector: its consumer group's offsets
    #[command(after_help = "Examples:\n  \
        syncline takeover jdbc-sink -f sync.yaml --connector shop-sink --dry-run\n  \
        syncline takeover jdbc-sink -f sync.yaml --connector shop-sink --stop --yes && syncline consume -f sync.yaml")]
    JdbcSink(JdbcSink),
}

/// What both have.
#[derive(Debug, Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) file: File,

    /// The connector's name
    #[arg(long, value_name = "NAME")]
    pub(super) connector: String,

    /// Stop the connector first; without this it has to be stopped
    #[arg(long)]
    pub(super) stop: bool,

    /// Say what would be done, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,

    /// Do it without asking
    #[arg(long, short = 'y')]
    pub(super) yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct Debezium {
    #[command(flatten)]
    pub(super) common: Common,

    /// Read the connector's offset from this topic (offset.storage.topic) and ask no worker
    #[arg(long, value_name = "TOPIC", conflicts_with = "stop")]
    pub(super) offset_topic: Option<String>,

    /// Go on at the slot even where it stands ahead of the connector's offset
    #[arg(long)]
    pub(super) trust_slot: bool,
}

#[derive(Debug, Args)]
pub(super) struct JdbcSink {
    #[command(flatten)]
    pub(super) common: Common,

    /// The sink's consumer group, where it is not connect-NAME, and ask no worker
    #[arg(long, value_name = "GROUP", conflicts_with = "stop")]
    pub(super) group: Option<String>,
}
