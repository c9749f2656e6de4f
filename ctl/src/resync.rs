//! `resync`: after a lost slot or offset. Says what it will do, asks, does it.

use std::io::{self, BufRead, IsTerminal, Write};

use syncline_consumer::resync::From;
use syncline_producer::resync as producer;

use crate::cli::{Place, Resync};
use crate::config::{Sides, SyncConfig};
use crate::failure::Failure;
use crate::snapshot::{NO_NODES, matching, resync_tables};

/// Plans, prints the plan, and carries it out if that was wanted.
///
/// # Errors
/// The file does not fit, the plan cannot be made or carried out, or nobody confirmed it.
pub(crate) async fn resync(options: Resync) -> Result<(), Failure> {
    let sides = if options.source || !options.table.is_empty() { Sides::Producer } else { Sides::Consumer };
    let SyncConfig { producer, consumer, .. } = SyncConfig::load_one_way(&options.file.path, sides, NO_NODES)?;
    let missing = |section: &str| Failure::Usage(format!("the sync file has no `{section}` to do this with"));
    match options.topic {
        None if !options.table.is_empty() => {
            let config = producer.ok_or_else(|| missing("source"))?;
            matching(&config, &options.table).await?;
            let step = format!(
                "the producer sends a marker at which consumers empty the target tables of {}, then reads their rows again \
                 while it follows the log; other tables go on",
                options.table.join(", ")
            );
            confirm(&[step], options.yes)?;
            return resync_tables(&config, &options.table).await;
        }
        None => {
            let config = producer.ok_or_else(|| missing("source"))?;
            let plan = producer::plan(&config).await?;
            confirm(&plan.steps, options.yes)?;
            producer::execute(&config).await?;
        }
        Some(topic) => {
            let config = consumer.ok_or_else(|| missing("target"))?;
            let from = match options.from {
                Some(Place::Earliest) => From::Earliest,
                Some(Place::Latest) => From::Latest,
                Some(Place::Offset(offset)) => From::Offset(offset),
                None => return Err(Failure::Usage("--topic needs --from".to_owned())),
            };
            let plan = syncline_consumer::resync::plan(&config, &topic, options.partition, from).await?;
            confirm(&plan.steps, options.yes)?;
            syncline_consumer::resync::execute(&config, &plan).await?;
        }
    }
    say("done");
    Ok(())
}

/// Says what will be done and asks, unless `yes` was given.
///
/// # Errors
/// Nobody said yes.
pub(crate) fn confirm(steps: &[String], yes: bool) -> Result<(), Failure> {
    say("This will be done:");
    for step in steps {
        say(&format!("  - {step}"));
    }
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage("nothing was done: add --yes to do it".to_owned()));
    }
    io::stdout().write_all(b"Do it? [y/N] ").ok();
    io::stdout().flush().ok();
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|source| Failure::System { what: "cannot read the answer", source })?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Usage("nothing was done".to_owned())),
    }
}

/// A line to standard output.
pub(crate) fn say(text: &str) {
    // Whoever reads may have stopped reading; the exit code still tells.
    io::stdout().write_all(text.trim_end().as_bytes()).ok();
    io::stdout().write_all(b"\n").ok();
}
