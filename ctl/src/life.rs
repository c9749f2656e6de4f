//! From the command line to a verb's life: what is synchronous first, then the runtime.

use std::time::Duration;

use syncline_runtime::metrics;
use syncline_runtime::telemetry::{self, LogFormat};

use crate::cli::{self, Cli, Long, Verb};
use crate::config::{Sides, SyncConfig};
use crate::failure::Failure;
use crate::progress::Display;
use crate::{check, conflicts, connectors, first_load, parts, resync, run, snapshot, takeover, transform};

/// Does what was typed.
///
/// # Errors
/// Why it could not be done.
pub(crate) fn lead(cli: Cli) -> Result<(), Failure> {
    let format = cli.log_format.into();
    match cli.verb {
        Verb::Run(options) if options.dry_run => {
            once(first_load::report(&options.long.file.path, options.output), format)
        }
        Verb::Run(options) => keep_on(Sides::Both, &options.long, format),
        Verb::Produce(options) => keep_on(Sides::Producer, &options, format),
        Verb::Consume(options) => keep_on(Sides::Consumer, &options, format),
        Verb::Check(options) => once(check::check(&options.file.path, options.part.node, options.output), format),
        Verb::Snapshot(options) => once(snapshot::snapshot(options), format),
        Verb::Resync(options) => once(resync::resync(options), format),
        Verb::Connectors(options) => once(connectors::connectors(*options), format),
        Verb::Conflicts(options) => once(conflicts::conflicts(*options), format),
        Verb::Takeover(options) => once(takeover::takeover(*options), format),
        Verb::Transform(options) => transform::transform(options),
        Verb::Completions { shell } => {
            cli::completions(shell);
            Ok(())
        }
    }
}

fn keep_on(sides: Sides, options: &Long, format: LogFormat) -> Result<(), Failure> {
    let node = options.part.node.as_deref();
    let parts = parts::to_run(SyncConfig::load(&options.file.path, sides, node)?, sides, node)?;
    let display = Display::open(format)?;
    block_on(async {
        let metrics = options.metrics_address.map(metrics::serve).transpose()?;
        let life = run::run(parts, options.until_caught_up, display);
        match metrics {
            Some(answers) => tokio::select! {
                result = life => result,
                failed = answers => failed.map_err(Failure::from),
            },
            None => life.await,
        }
    })
}

fn once(life: impl Future<Output = Result<(), Failure>>, format: LogFormat) -> Result<(), Failure> {
    telemetry::init(format)?;
    block_on(life)
}

fn block_on(life: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|source| Failure::System { what: "cannot start the asynchronous runtime", source })?;
    let result = runtime.block_on(life);
    // A thread that waits for a server must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}
