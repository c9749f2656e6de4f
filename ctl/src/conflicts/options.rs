//! What can be typed behind `syncline conflicts`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use syncline_runtime::config::parse_duration;

use crate::cli::{File, Output, Part};

/// Options of `conflicts`.
#[derive(Debug, Args)]
pub(crate) struct Conflicts {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List conflicts, newest first
    #[command(after_help = "Examples:\n  syncline conflicts list -f sync.yaml --since 1h\n  \
        syncline conflicts list -f sync.yaml --node eu --table stock --unresolved --output json | jq .id\n\n\
        With --output json each conflict is an object on a line of its own.")]
    List(List),
    /// Count conflicts by node, table, type and strategy
    #[command(after_help = "Examples:\n  syncline conflicts count -f sync.yaml --since 24h\n  \
        syncline conflicts count -f sync.yaml --output json | jq -s 'map(.source + .target) | add'\n\n\
        With --output json each line is an object.")]
    Count(Which),
    /// Show a conflict with both sides beside each other
    #[command(after_help = "Example:\n  syncline conflicts show -f sync.yaml 3f2a")]
    Show(One),
    /// Tell which changes met, and why one of them stayed
    #[command(after_help = "Example:\n  syncline conflicts explain -f sync.yaml 3f2a")]
    Explain(One),
    /// Make the row what one side has, on all nodes
    #[command(after_help = "Examples:\n  syncline conflicts resolve -f sync.yaml 3f2a --take target --dry-run\n  \
        syncline conflicts resolve -f sync.yaml 3f2a --take target\n\n\
        The side's values are written at the conflict's node as an application would write them: the change is captured \
        and reaches all nodes.")]
    Resolve(Resolve),
}

/// Where conflicts are looked for.
#[derive(Debug, Args)]
pub(super) struct Where {
    #[command(flatten)]
    pub(super) file: File,

    #[command(flatten)]
    pub(super) part: Part,

    /// How the result looks; it goes to standard output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(super) output: Output,
}

/// Which conflicts are meant.
#[derive(Debug, Args)]
pub(super) struct Which {
    #[command(flatten)]
    pub(super) at: Where,

    /// Only of this table; a missing schema is public
    #[arg(long, value_name = "TABLE")]
    pub(super) table: Option<String>,

    /// Only of this type, such as update_update
    #[arg(long = "type", value_name = "TYPE")]
    pub(super) kind: Option<String>,

    /// Only those of the last time, such as 1h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) since: Option<Duration>,

    /// Only those that wait for a person
    #[arg(long)]
    pub(super) unresolved: bool,
}

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    pub(super) which: Which,

    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(super) limit: u32,
}

#[derive(Debug, Args)]
pub(super) struct One {
    #[command(flatten)]
    pub(super) at: Where,

    /// The conflict, or the first letters of its id
    #[arg(value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(super) id: String,
}

#[derive(Debug, Args)]
pub(super) struct Resolve {
    #[command(flatten)]
    pub(super) one: One,

    /// The side that the row becomes
    #[arg(long, value_enum)]
    pub(super) take: Take,

    /// Say what would be written, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,

    /// Overwrite a row that has changed since the conflict
    #[arg(long)]
    pub(super) force: bool,

    /// Resolve once more what a person has resolved
    #[arg(long)]
    pub(super) again: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Take {
    /// What arrived
    Source,
    /// What was there
    Target,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|fault| format!("`{text}` {fault}"))
}
