//! The command line: what a person can type, and the help that explains it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use syncline_runtime::telemetry::LogFormat;

use crate::conflicts::Conflicts;
use crate::connectors::Connectors;
use crate::takeover::Takeover;
use crate::transform::Transform;
use crate::version;

const EXIT_CODES: &str = "\
Exit codes:
  0  done, or ended as asked by SIGTERM or Ctrl-C
  1  failed: the message names what and the remedy
  2  the command line or the configuration cannot be used
  3  a table stopped; everything else was applied
  4  the producer's place is lost: `syncline resync` decides what next
  5  `connectors plan`: there are changes to apply";

/// Keeps databases in step through Kafka.
#[derive(Debug, Parser)]
#[command(name = "syncline", version = version::text(), after_help = EXIT_CODES, propagate_version = true)]
#[command(arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// How log lines look; they go to standard error
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, env = "SYNCLINE_LOG_FORMAT")]
    pub(crate) log_format: Format,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Capture and apply, in one process
    #[command(after_help = "Examples:\n  SOURCE_PASSWORD=… TARGET_PASSWORD=… syncline run -f sync.yaml\n  \
        syncline run -f topology.yaml --node eu\n  \
        syncline run -f topology.yaml --dry-run\n\n\
        With --until-caught-up it ends once everything that was committed in the source before the start has been \
        applied by any member of the consumer group; a stopped table makes it exit with 3. Of a topology all nodes run, \
        or one; it has caught up once what was committed at any of them has been applied at all of them.\n\n\
        With --dry-run it compares the rows that the nodes of a topology have and tells what joining them would do: \
        exit code 0 if all can be merged, 1 if something would be refused.")]
    Run(Run),
    /// Capture: source database to Kafka
    #[command(after_help = "Example:\n  syncline produce -f sync.yaml --log-format json\n\n\
        With --until-caught-up it ends once everything that was committed in the source before the start has been \
        acknowledged by Kafka. Of a topology --node says whose changes.")]
    Produce(Long),
    /// Apply: Kafka to target; start as many as the load needs
    #[command(after_help = "Example:\n  syncline consume -f sync.yaml & syncline consume -f sync.yaml\n\n\
        With --until-caught-up it ends once what Kafka held at the start has been applied by any member of the group; \
        a stopped table makes it exit with 3. Of a topology --node says which database is written to.")]
    Consume(Long),
    /// Check the configuration and whether the servers are ready for it; changes nothing
    #[command(after_help = "Example:\n  syncline check -f sync.yaml --output json | jq .")]
    Check(Check),
    /// Start over after a lost slot or offset: say what will be done, then do it
    #[command(after_help = "Examples:\n  \
        syncline resync -f sync.yaml --source\n      read all rows of the source again, behind a marker that drops ghost rows\n  \
        syncline resync -f sync.yaml --table users --yes\n      read one table again while the others go on, behind a marker that drops its ghost rows\n  \
        syncline resync -f sync.yaml --topic shop.public.users --from earliest --yes\n      apply a topic again from the first record that Kafka still has")]
    Resync(Resync),
    /// Register and watch Kafka Connect connectors
    #[command(after_help = "Example:\n  syncline connectors plan connect-configs/ --url http://localhost:8083")]
    Connectors(Box<Connectors>),
    /// Go on where a Debezium connector or a JDBC sink stopped, in its place
    #[command(after_help = "Example:\n  syncline takeover debezium -f sync.yaml --connector shop-source --dry-run")]
    Takeover(Box<Takeover>),
    /// Read tables again while the log is followed (incremental snapshots)
    #[command(after_help = "Examples:\n  \
        syncline snapshot start -f sync.yaml users 'sales\\..*'\n  \
        syncline snapshot start -f sync.yaml orders --condition \"orders=created_at > '2026-01-01'\"\n  \
        syncline snapshot status -f sync.yaml --output json | jq .\n\n\
        The producer runs in another process or on another machine; it is told through Kafka. Without one, the next to \
        start acts on what was asked.")]
    Snapshot(Snapshot),
    /// Look at conflicts between several writable databases, and decide them
    #[command(after_help = "Examples:\n  syncline conflicts list -f sync.yaml --since 1h\n  \
        syncline conflicts explain -f sync.yaml 3f2a\n  \
        syncline conflicts resolve -f sync.yaml 3f2a --take target")]
    Conflicts(Box<Conflicts>),
    /// Try `table_mappings` on changes of your own
    #[command(after_help = "Example:\n  syncline transform test -f sync.yaml cases.yaml")]
    Transform(Transform),
    /// Print the completions of a shell
    #[command(
        after_help = "Example:\n  syncline completions bash > ~/.local/share/bash-completion/completions/syncline"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// The sync file.
#[derive(Debug, Args)]
pub(crate) struct File {
    /// The file that describes the sync
    #[arg(short = 'f', long = "file", value_name = "FILE", env = "SYNCLINE_FILE")]
    pub(crate) path: PathBuf,
}

/// The part of a topology.
#[derive(Debug, Args)]
pub(crate) struct Part {
    /// Only this one of the file's `nodes`
    #[arg(long = "node", value_name = "NODE")]
    pub(crate) node: Option<String>,
}

/// Options of the verbs that go on until they are told to end.
#[derive(Debug, Args)]
pub(crate) struct Long {
    #[command(flatten)]
    pub(crate) file: File,

    #[command(flatten)]
    pub(crate) part: Part,

    /// End once what was there at the start is through
    #[arg(long)]
    pub(crate) until_caught_up: bool,

    /// Serve metrics for Prometheus at http://HOST:PORT/metrics
    #[arg(long, value_name = "IP:PORT", env = "SYNCLINE_METRICS_ADDRESS")]
    pub(crate) metrics_address: Option<SocketAddr>,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) long: Long,

    /// Compare the rows of a topology's nodes, tell what the first load would do to them, and change nothing
    #[arg(long, conflicts_with_all = ["until_caught_up", "node"])]
    pub(crate) dry_run: bool,

    /// How the result of --dry-run looks; it goes to standard output
    #[arg(long, value_enum, default_value_t = Output::Text, requires = "dry_run")]
    pub(crate) output: Output,
}

/// Options of `check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) file: File,

    #[command(flatten)]
    pub(crate) part: Part,

    /// How the result looks; it goes to standard output
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// Options of `snapshot`.
#[derive(Debug, Args)]
pub(crate) struct Snapshot {
    #[command(subcommand)]
    pub(crate) verb: SnapshotVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotVerb {
    /// Read tables again: their rows are upserted, none is deleted
    #[command(
        after_help = "Example:\n  syncline snapshot start -f sync.yaml orders --condition \"orders=created_at > '2026-01-01'\""
    )]
    Start {
        #[command(flatten)]
        file: File,

        /// Captured tables: names, or regular expressions over schema.table; a missing schema is public
        #[arg(required = true, value_name = "TABLE")]
        tables: Vec<String>,

        /// Read only the rows of a table for which this SQL holds
        #[arg(long = "condition", value_name = "TABLE=SQL", value_parser = condition)]
        conditions: Vec<(String, String)>,
    },
    /// Read nothing more until resumed
    #[command(after_help = "Example:\n  syncline snapshot pause -f sync.yaml")]
    Pause {
        #[command(flatten)]
        file: File,
    },
    /// Go on
    #[command(after_help = "Example:\n  syncline snapshot resume -f sync.yaml")]
    Resume {
        #[command(flatten)]
        file: File,
    },
    /// Give up reading these tables, or all
    #[command(after_help = "Example:\n  syncline snapshot stop -f sync.yaml orders")]
    Stop {
        #[command(flatten)]
        file: File,

        /// As for start
        #[arg(value_name = "TABLE")]
        tables: Vec<String>,
    },
    /// Show what is read, how far it is, and what was read
    #[command(after_help = "Example:\n  syncline snapshot status -f sync.yaml --output json | jq .")]
    Status {
        #[command(flatten)]
        file: File,

        /// How the result looks; it goes to standard output
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

fn condition(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((table, filter)) if !table.trim().is_empty() && !filter.trim().is_empty() => {
            Ok((table.trim().to_owned(), filter.trim().to_owned()))
        }
        _ => Err("write TABLE=SQL, for example \"orders=id > 1000\"".to_owned()),
    }
}

/// Options of `resync`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["source", "table", "topic"]))]
pub(crate) struct Resync {
    #[command(flatten)]
    pub(crate) file: File,

    /// Read the whole source again by a new snapshot
    #[arg(long)]
    pub(crate) source: bool,

    /// Read this table again while the others go on; may be repeated
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Vec<String>,

    /// Apply this topic again; needs --from
    #[arg(long, value_name = "TOPIC", requires = "from")]
    pub(crate) topic: Option<String>,

    /// Where to go on in the topic: earliest, latest, or an offset
    #[arg(long, value_name = "earliest|latest|OFFSET", requires = "topic", value_parser = place)]
    pub(crate) from: Option<Place>,

    /// Only this partition; an offset needs it where the topic has several
    #[arg(long, value_name = "N", requires = "topic")]
    pub(crate) partition: Option<i32>,

    /// Do it without asking
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}

/// Prints the completions of a shell.
pub(crate) fn completions(shell: Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "syncline", &mut std::io::stdout());
}

/// A place in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first record there is.
    Earliest,
    /// Behind the last record.
    Latest,
    /// This offset.
    Offset(i64),
}

fn place(text: &str) -> Result<Place, String> {
    match text {
        "earliest" => Ok(Place::Earliest),
        "latest" => Ok(Place::Latest),
        _ => match text.parse::<i64>() {
            Ok(offset) if offset >= 0 => Ok(Place::Offset(offset)),
            _ => Err("write earliest, latest or an offset from 0".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_has_an_example() {
        fn check(command: &clap::Command) {
            for verb in command.get_subcommands() {
                let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example"), "{}", verb.get_name());
                check(verb);
            }
        }
        check(&Cli::command());
    }

    #[test]
    fn options_work_in_front_of_the_verb_and_behind_it() {
        for line in ["syncline --log-format json run -f a", "syncline run --log-format json -f a --until-caught-up"] {
            assert_eq!(parse(line).unwrap().log_format, Format::Json);
        }
    }

    #[test]
    fn a_dry_run_is_of_all_nodes() {
        let Verb::Run(run) = parse("syncline run -f a").unwrap().verb else { panic!() };
        assert!(!run.dry_run);
        let Verb::Run(run) = parse("syncline run -f a --dry-run --output json").unwrap().verb else { panic!() };
        assert_eq!((run.dry_run, run.output), (true, Output::Json));
        for more in ["--dry-run --node eu", "--dry-run --until-caught-up", "--output json"] {
            assert!(parse(&format!("syncline run -f a {more}")).is_err(), "{more}");
        }
    }

    #[test]
    fn a_resync_says_what() {
        assert!(parse("syncline resync -f a").is_err());
        assert!(parse("syncline resync -f a --topic t").is_err());
        assert!(parse("syncline resync -f a --source --topic t --from earliest").is_err());
        assert!(parse("syncline resync -f a --topic t --from yesterday").is_err());
        let Verb::Resync(resync) = parse("syncline resync -f a --topic t --from 12 -y").unwrap().verb else { panic!() };
        assert_eq!((resync.from, resync.yes), (Some(Place::Offset(12)), true));
    }
}
