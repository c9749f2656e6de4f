//! `conflicts`: the log of conflicts of a topology's nodes, and what people decide about them. docs/conflicts.md
//! explains it.

mod explain;
mod options;
mod rule;
mod show;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io::Write;

use serde::Serialize;
use serde_json::json;
use syncline_consumer::config::{NodeSettings, TargetConfig};
use syncline_consumer::targets::TargetError;
use syncline_consumer::targets::postgres::PostgresTarget;
use syncline_consumer::targets::postgres::conflicts::{Conflict, Conflicts as Log, Filter, ResolveError, Side, Wish};

pub(crate) use options::Conflicts;
pub(crate) use show::aligned;

use crate::cli::Output;
use crate::config::{Sides, SyncConfig};
use crate::failure::Failure;
use crate::parts;
use options::{List, One, Resolve, Take, Verb, Where, Which};

/// Does what was typed.
///
/// # Errors
/// The file has no nodes, a server refuses, or there is no such conflict.
pub(crate) async fn conflicts(options: Conflicts) -> Result<(), Failure> {
    match options.verb {
        Verb::List(options) => list(options).await,
        Verb::Count(which) => count(which).await,
        Verb::Show(one) => {
            let found = find(&one).await?;
            match one.at.output {
                Output::Text => print(&show::conflict(&found.node.name, &found.conflict)?),
                Output::Json => print(&line(&found.node.name, &found.conflict)?),
            }
            Ok(())
        }
        Verb::Explain(one) => {
            let Found { node, mut log, conflict } = find(&one).await?;
            let since = log.since(&conflict).await.map_err(|error| Failure::from(error).of(Some(&node.name)))?;
            let text = explain::explain(&node, &conflict, since);
            match one.at.output {
                Output::Text => print(&text),
                Output::Json => print(&json!({"node": node.name, "id": conflict.id, "explanation": text}).to_string()),
            }
            Ok(())
        }
        Verb::Resolve(options) => resolve(options).await,
    }
}

async fn list(options: List) -> Result<(), Failure> {
    let List { which, limit } = options;
    let mut all = of_nodes(&which, async |log, filter| log.list(filter, limit).await).await?;
    // All times are of one zone and form.
    all.sort_by(|(_, a), (_, b)| Reverse(&a.timestamp).cmp(&Reverse(&b.timestamp)));
    all.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    put(which.at.output, &all, show::list)
}

async fn count(which: Which) -> Result<(), Failure> {
    let all = of_nodes(&which, async |log, filter| log.count(filter).await).await?;
    put(which.at.output, &all, show::tallies)
}

/// What is found in the nodes' logs, each with its node.
async fn of_nodes<T>(
    which: &Which,
    find: impl AsyncFn(&mut Log, &Filter) -> Result<Vec<T>, TargetError>,
) -> Result<Vec<(String, T)>, Failure> {
    let mut all = Vec::new();
    for (node, target) in nodes(&which.at)? {
        let filter = filter(which, &node);
        let found = async { find(&mut target.conflicts().await?, &filter).await }.await;
        let found = found.map_err(|error| Failure::from(error).of(Some(&node.name)))?;
        all.extend(found.into_iter().map(|found| (node.name.clone(), found)));
    }
    Ok(all)
}

/// What is wanted of a node's log. It has the node's own names; whoever asks may have either.
fn filter(which: &Which, node: &NodeSettings) -> Filter {
    let Which { table, kind, since, unresolved, .. } = which;
    let table = table.as_ref().map(|table| {
        let table = if table.contains('.') { table.clone() } else { format!("public.{table}") };
        node.names.get(&node.name).map_or(table.clone(), |names| names.own_table(&table))
    });
    Filter { table, kind: kind.clone(), since: *since, unresolved: *unresolved }
}

fn put<T: Serialize>(output: Output, all: &[(String, T)], text: fn(&[(String, T)]) -> String) -> Result<(), Failure> {
    match output {
        Output::Text => print(&text(all)),
        Output::Json => {
            for (node, found) in all {
                print(&line(node, found)?);
            }
        }
    }
    Ok(())
}

async fn resolve(options: Resolve) -> Result<(), Failure> {
    let Resolve { one, take, dry_run, force, again } = options;
    let Found { node, mut log, conflict } = find(&one).await?;
    let side = match take {
        Take::Source => Side::Source,
        Take::Target => Side::Target,
    };
    let done = log.resolve(&conflict, Wish { take: side, again, force, dry_run }).await;
    let done = done.map_err(|error| match error {
        ResolveError::Refused(_) => Failure::Failed(format!("conflict {}: {error}", conflict.id)),
        ResolveError::Target(error) => Failure::from(error).of(Some(&node.name)),
    })?;
    let note = rule::caveat(&node, &conflict);
    match one.at.output {
        Output::Text => print(&show::resolution(&node.name, &conflict, &done, dry_run, note.as_deref())),
        Output::Json => print(
            &json!({"node": node.name, "id": conflict.id, "written": !dry_run, "deletes": done.deletes,
                    "changes": show::value(&done.changes)?, "row_changed_since": done.row_changed_since, "note": note})
            .to_string(),
        ),
    }
    Ok(())
}

/// A conflict, and where it is.
struct Found {
    node: NodeSettings,
    log: Log,
    conflict: Conflict,
}

/// The conflict whose id begins so, on whichever node. Nodes that took the same record have it under the same id; the
/// first of them counts.
async fn find(one: &One) -> Result<Found, Failure> {
    let nodes = nodes(&one.at)?;
    let names: Vec<String> = nodes.iter().map(|(node, _)| node.name.clone()).collect();
    let (mut first, mut ids) = (None, BTreeSet::new());
    for (node, target) in nodes {
        let failed = |error| Failure::from(error).of(Some(&node.name));
        let mut log = target.conflicts().await.map_err(failed)?;
        let mut found = log.find(&one.id).await.map_err(failed)?.into_iter();
        let Some(conflict) = found.next() else { continue };
        if conflict.id == one.id {
            return Ok(Found { node, log, conflict });
        }
        ids.insert(conflict.id.clone());
        ids.extend(found.map(|conflict| conflict.id));
        first.get_or_insert(Found { node, log, conflict });
    }
    match first {
        Some(found) if ids.len() == 1 => Ok(found),
        Some(_) => {
            let ids: Vec<String> = ids.into_iter().collect();
            Err(Failure::Usage(format!(
                "several ids begin with {}, such as {}: write more of it",
                one.id,
                ids.join(", ")
            )))
        }
        None => Err(Failure::Usage(format!(
            "no conflict's id begins with {} at {}; `syncline conflicts list` shows those there are",
            one.id,
            names.join(", ")
        ))),
    }
}

/// The nodes to look at, each with its database.
fn nodes(at: &Where) -> Result<Vec<(NodeSettings, PostgresTarget)>, Failure> {
    let node = at.part.node.as_deref();
    let config = SyncConfig::load(&at.file.path, Sides::Both, node)?;
    if config.nodes.is_empty() {
        let text = "the sync file has no `nodes`: there are conflicts between several writable databases only";
        return Err(Failure::Usage(text.to_owned()));
    }
    let consumers = parts::to_check(config, node)?.list.into_iter().filter_map(|part| part.consumer);
    let opened = consumers.filter_map(|consumer| {
        let TargetConfig::Postgresql(settings) = consumer.target;
        Some((consumer.node?, PostgresTarget::new(settings, "syncline conflicts".to_owned())))
    });
    Ok(opened.collect())
}

/// An object with its node in front.
fn line<T: Serialize>(node: &str, found: &T) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Line<'a, T> {
        node: &'a str,
        #[serde(flatten)]
        found: &'a T,
    }
    serde_json::to_string(&Line { node, found }).map_err(|error| Failure::Broken { reason: error.to_string() })
}

fn print(text: &str) {
    // Whoever reads may have stopped reading; the exit code still tells.
    std::io::stdout().write_all(format!("{}\n", text.trim_end()).as_bytes()).ok();
}

#[cfg(test)]
fn example() -> Conflict {
    serde_json::from_str(
        r#"{"id": "3f2a000000000000", "timestamp": "2026-01-02T03:04:05.678+00:00", "table_name": "public.kv",
            "key": {"k": 1}, "field": null, "source_value": {"k": 1, "v": "second"},
            "target_value": {"k": 1, "v": "first"}, "resolution": "source", "result": {"k": 1, "v": "second"},
            "conflict_type": "update_update", "strategy": "last_write_wins", "source_clock_us": 1767323045500000,
            "source_counter": 0, "source_origin": "eu", "target_clock_us": 1767323044000000, "target_counter": 2,
            "target_origin": "hq", "topic": "shop.eu.public.kv", "partition": 1, "record_offset": 7,
            "resolved_at": "2026-01-02T03:04:05.678+00:00", "resolved_by": "last_write_wins"}"#,
    )
    .expect("the example is a conflict")
}

#[cfg(test)]
fn example_node() -> NodeSettings {
    use std::sync::Arc;
    use syncline_consumer::config::ConflictLog;
    use syncline_transforms::resolve::rules::{Rules, TableRule};

    let rules = Rules {
        priority: vec!["hq".to_owned(), "eu".to_owned()],
        default: TableRule::LastWriteWins,
        tables: std::collections::BTreeMap::new(),
    };
    NodeSettings {
        topology: "shop".to_owned(),
        name: "hq".to_owned(),
        prefixes: std::collections::BTreeMap::new(),
        names: Arc::default(),
        rules: Arc::new(rules),
        log: ConflictLog { retention_days: 1, largest_value: 1, masked: Vec::new(), alerting: None },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn an_object_has_every_column_and_the_node() {
        let object: Value = serde_json::from_str(&line("hq", &example()).unwrap()).unwrap();
        assert_eq!((&object["node"], &object["key"]["k"]), (&json!("hq"), &json!(1)));
        assert_eq!(object.as_object().map(serde_json::Map::len), Some(23));
    }
}
