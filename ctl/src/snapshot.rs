//! `snapshot`: asks a running producer to read tables again while it follows the log, and shows how far that is.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use syncline_producer::config::ProducerConfig;
use syncline_producer::incremental::state::{Outcome, Reason, Scan};
use syncline_producer::incremental::status::{Status, status};
use syncline_producer::signals::send::send;
use syncline_producer::signals::{Collection, Signal};

use crate::cli::{Output, Snapshot, SnapshotVerb};
use crate::config::{Sides, SyncConfig};
use crate::failure::Failure;

/// How long a running producer may take to act on a signal.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why nothing is read again in a topology: the rows would have to be told from what other nodes have written since.
pub(crate) const NO_NODES: &str = "the file describes a topology: a node's tables cannot be read anew yet";

/// Sends a signal, or shows the state.
///
/// # Errors
/// The file does not fit, a table is not captured, or a server cannot be reached.
pub(crate) async fn snapshot(options: Snapshot) -> Result<(), Failure> {
    match options.verb {
        SnapshotVerb::Start { file, tables, conditions } => {
            let config = producer(&file.path)?;
            let tables = matching(&config, &tables).await?;
            let conditions = conditions
                .iter()
                .map(|(table, filter)| json!({"data-collection": regex::escape(&qualified(table)), "filter": filter}));
            let data = json!({
                "type": "incremental",
                "data-collections": tables,
                "additional-conditions": conditions.collect::<Vec<_>>(),
            });
            signal(&config, "execute-snapshot", data).await
        }
        SnapshotVerb::Stop { file, tables } => {
            let config = producer(&file.path)?;
            let data = match tables.as_slice() {
                [] => json!({"type": "incremental"}),
                tables => json!({"type": "incremental", "data-collections": matching(&config, tables).await?}),
            };
            signal(&config, "stop-snapshot", data).await
        }
        SnapshotVerb::Pause { file } => signal(&producer(&file.path)?, "pause-snapshot", json!({})).await,
        SnapshotVerb::Resume { file } => signal(&producer(&file.path)?, "resume-snapshot", json!({})).await,
        SnapshotVerb::Status { file, output } => {
            let status = status(&producer(&file.path)?).await?;
            match output {
                Output::Text => say(&text(&status)),
                Output::Json => say(&as_json(&status).to_string()),
            }
            Ok(())
        }
    }
}

/// The tables' part of `resync`: what is asked of the producer.
///
/// # Errors
/// As for [`snapshot`].
pub(crate) async fn resync_tables(config: &ProducerConfig, tables: &[String]) -> Result<(), Failure> {
    let tables = matching(config, tables).await?;
    signal(config, "resync-snapshot", json!({"data-collections": tables})).await
}

/// Expressions for the captured tables that `wanted` names, each of which must name one.
///
/// # Errors
/// One names none.
pub(crate) async fn matching(config: &ProducerConfig, wanted: &[String]) -> Result<Vec<String>, Failure> {
    let captured = status(config).await?.tables;
    let mut expressions = Vec::new();
    for table in wanted {
        let name = qualified(table);
        let collection = Collection::parse(&name).map_err(|error| Failure::Usage(error.to_string()))?;
        if !captured.iter().any(|captured| collection.matches(captured)) {
            return Err(Failure::Usage(format!(
                "`{table}` names no captured table; these are captured: {}",
                captured.join(", ")
            )));
        }
        // A name as it is, so that it means no other table.
        expressions.push(if captured.contains(&name) { regex::escape(&name) } else { name });
    }
    Ok(expressions)
}

/// A missing schema is `public`, as in the sync file.
fn qualified(table: &str) -> String {
    if table.contains('.') { table.to_owned() } else { format!("public.{table}") }
}

fn producer(path: &std::path::Path) -> Result<ProducerConfig, Failure> {
    let config = SyncConfig::load_one_way(path, Sides::Producer, NO_NODES)?;
    config.producer.ok_or_else(|| Failure::Usage("the sync file has no `source` to do this with".to_owned()))
}

/// Sends the signal, and waits until a running producer has acted on it.
async fn signal(config: &ProducerConfig, kind: &str, data: Value) -> Result<(), Failure> {
    let before = status(config).await?;
    let signal = Signal { id: None, kind: kind.to_owned(), data };
    let offset = send(config, &signal).await?;
    let Some(producer) = before.producer else {
        say(&format!("{kind} is noted; no producer runs with slot {}: the next one to start acts on it", config.slot));
        return Ok(());
    };
    if before.copying {
        say(&format!("{kind} is noted; the producer ({producer}) acts on it once the first snapshot is over"));
        return Ok(());
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = status(config).await?;
        if status.state.signal_offset.is_some_and(|next| next > offset) {
            say(&text(&status));
            return Ok(());
        }
        if status.producer.is_none() {
            say(&format!("{kind} is noted; the producer has ended: the next one to start acts on it"));
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::Usage(format!(
                "{kind} is sent, but the producer ({producer}) has not acted on it within {} s; its log says why",
                PATIENCE.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn text(status: &Status) -> String {
    let state = &status.state;
    let mut lines = vec![match &status.producer {
        Some(producer) => format!("producer: {producer}"),
        None => "producer: none runs; this is where the last one stopped".to_owned(),
    }];
    if status.copying {
        lines.push("a first snapshot of all tables is under way or due".to_owned());
    }
    if state.scans.is_empty() && state.finished.is_empty() {
        lines.push("no incremental snapshot was asked for".to_owned());
    }
    for (index, scan) in state.scans.iter().enumerate() {
        let how = match (index, state.paused) {
            (_, true) => "paused",
            (0, _) => "reading",
            _ => "waiting",
        };
        lines.push(format!("{}: {how}{}, {}", scan.table, why(scan.reason), progress(scan)));
    }
    for finished in &state.finished {
        let how = match &finished.outcome {
            Outcome::Completed => "done".to_owned(),
            Outcome::Stopped => "stopped".to_owned(),
            Outcome::Failed(reason) => format!("failed ({reason})"),
        };
        lines.push(format!("{}: {how}{}, {} rows", finished.table, why(finished.reason), finished.rows));
    }
    if state.paused {
        lines.push("incremental snapshots are paused: `syncline snapshot resume` goes on".to_owned());
    }
    lines.join("\n")
}

fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Signal => "",
        Reason::Added => " (new table)",
        Reason::Resync => " (resync)",
    }
}

fn progress(scan: &Scan) -> String {
    match scan.estimate {
        Some(estimate) if estimate > 0 && estimate >= scan.rows => {
            format!("{} of about {estimate} rows ({} %)", scan.rows, scan.rows * 100 / estimate)
        }
        _ => format!("{} rows", scan.rows),
    }
}

/// Without keys: they are the table's data.
fn as_json(status: &Status) -> Value {
    let state = &status.state;
    let scans = state.scans.iter().map(|scan| {
        json!({"table": scan.table, "reason": scan.reason, "condition": scan.condition, "rows": scan.rows,
               "estimated_rows": scan.estimate, "opened": scan.opening.is_none()})
    });
    let finished = state.finished.iter().map(|finished| {
        let (outcome, error) = match &finished.outcome {
            Outcome::Completed => ("completed", None),
            Outcome::Stopped => ("stopped", None),
            Outcome::Failed(reason) => ("failed", Some(reason)),
        };
        json!({"table": finished.table, "reason": finished.reason, "outcome": outcome, "error": error,
               "rows": finished.rows})
    });
    json!({
        "producer": status.producer,
        "copying": status.copying,
        "paused": state.paused,
        "tables": status.tables,
        "scans": scans.collect::<Vec<_>>(),
        "finished": finished.collect::<Vec<_>>(),
    })
}

fn say(text: &str) {
    // Whoever reads may have stopped reading; the exit code still tells.
    io::stdout().write_all(text.trim_end().as_bytes()).ok();
    io::stdout().write_all(b"\n").ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncline_producer::incremental::state::{Captured, State};
    use syncline_producer::signals::Command;

    fn status_of(state: State) -> Status {
        Status { producer: Some("process 7".to_owned()), state, tables: vec!["public.a".to_owned()], copying: false }
    }

    #[test]
    fn progress_is_shown_without_keys() {
        let mut state = State::default();
        let captured = [Captured { topic: "p.public.a".into(), table: "public.a".into() }];
        let collections = vec![Collection::parse("public.a").unwrap()];
        state.obey(&Command::Execute { collections, conditions: Vec::new() }, &captured);
        let scan = &mut state.scans[0];
        (scan.rows, scan.estimate, scan.after) = (50, Some(200), Some(vec!["secret".to_owned()]));
        let status = status_of(state);
        assert!(text(&status).contains("public.a: reading, 50 of about 200 rows (25 %)"), "{}", text(&status));
        let json = as_json(&status);
        assert_eq!(json["scans"][0]["rows"], 50);
        assert!(!json.to_string().contains("secret"));
    }

    #[test]
    fn a_missing_schema_is_public() {
        assert_eq!((qualified("a"), qualified("s.a")), ("public.a".to_owned(), "s.a".to_owned()));
    }
}
