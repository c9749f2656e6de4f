//! A conflict in words.

use jiff::Timestamp;
use syncline_consumer::config::NodeSettings;
use syncline_consumer::targets::postgres::conflicts::{Conflict, Since};

use super::rule;

/// Which changes met, why neither had seen the other, what decided, and what the row is since.
pub(super) fn explain(node: &NodeSettings, conflict: &Conflict, since: Since) -> String {
    let what = match &conflict.field {
        Some(field) => format!("column {field} of {} {}", conflict.table_name, conflict.key.get()),
        None => format!("{} {}", conflict.table_name, conflict.key.get()),
    };
    let source = &conflict.source_origin;
    let mut out =
        format!("Conflict {} at node {}: {} ({}).\n\n", conflict.id, node.name, what, kind(&conflict.conflict_type));
    out.push_str(&format!(
        "source: a change of node {source}, {}; topic {}, partition {}, offset {}\n",
        made(conflict.source_clock_us, conflict.source_counter),
        conflict.topic,
        conflict.partition,
        conflict.record_offset
    ));
    let here = &node.name;
    out.push_str(&match (conflict.target_clock_us, conflict.target_counter, &conflict.target_origin) {
        (Some(clock), Some(counter), Some(origin)) => {
            let seen = if clock == 0 || conflict.source_clock_us == 0 {
                "What was there before the first start has seen nothing of other nodes.".to_owned()
            } else {
                format!(
                    "Neither had seen the other: when {source} made its change, the one of {origin} had not been applied \
                     there, and the other way round."
                )
            };
            format!("target: a change of node {origin}, {}\n\n{seen}\n", made(clock, counter))
        }
        _ if rule::is_missing(conflict) => {
            format!("target: nothing\n\nNothing was known of the row at {here} when the change of {source} arrived.\n")
        }
        _ => format!(
            "target: a write at node {here} that had no stamp yet\n\nThe write had not been captured when the change of \
             {source} was compared with it, so neither had seen the other.\n"
        ),
    });
    out.push_str(&format!("{}\n", rule::reason(node, conflict)));
    let result = conflict.result.as_ref().map_or("no row", |result| result.get());
    out.push_str(&format!("Since then it was: {result}\n"));
    out.push_str(match since {
        Since::Same => "It has not changed since, as far as the log has its values.\n",
        Since::Changed => "It has changed since.\n",
        Since::Unknown => "The table is not there any more, or has another primary key.\n",
    });
    out.push_str(&match &conflict.resolved_by {
        Some(by) if conflict.is_resolved_by_person() => format!("It was resolved by {by}."),
        Some(_) => "The rule resolved it; `syncline conflicts resolve` can take the other side.".to_owned(),
        None => "It waits for a person: `syncline conflicts resolve`.".to_owned(),
    });
    out
}

/// A stamp's clock as a time (UTC).
pub(super) fn moment(clock_us: i64) -> String {
    match Timestamp::from_microsecond(clock_us) {
        Ok(_) if clock_us == 0 => "before the first start".to_owned(),
        Ok(time) => time.to_string(),
        Err(_) => format!("{clock_us} µs since 1970"),
    }
}

fn made(clock_us: i64, counter: i64) -> String {
    match clock_us {
        0 => "there before the first start".to_owned(),
        _ => format!("stamped {} (counter {counter})", moment(clock_us)),
    }
}

fn kind(name: &str) -> &str {
    match name {
        "insert_exists" => "insert_exists: both inserted the row",
        "update_update" => "update_update: both changed the row",
        "update_missing" => "update_missing: a change of a row that is not there",
        "update_recently_deleted" => "update_recently_deleted: one changed, the other deleted the row",
        "insert_recently_deleted" => "insert_recently_deleted: one inserted, the other deleted the row",
        "delete_recently_updated" => "delete_recently_updated: one deleted, the other changed the row",
        "delete_missing" => "delete_missing: a delete of a row that is not there",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{example, example_node};
    use super::*;

    #[test]
    fn both_changes_the_rule_and_the_row_are_told() {
        let text = explain(&example_node(), &example(), Since::Same);
        for part in [
            "public.kv {\"k\": 1} (update_update",
            "source: a change of node eu, stamped 2026-01-02T03:04:05.5Z (counter 0); topic shop.eu.public.kv, partition 1, offset 7",
            "target: a change of node hq, stamped 2026-01-02T03:04:04Z (counter 2)",
            "Neither had seen the other",
            "1.5 s later",
            "Since then it was: {\"k\": 1, \"v\": \"second\"}",
            "It has not changed since",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn a_write_without_a_stamp_and_a_missing_row_are_told_apart() {
        let unstamped = Conflict {
            target_clock_us: None,
            target_counter: None,
            target_origin: None,
            resolution: "target".into(),
            ..example()
        };
        let text = explain(&example_node(), &unstamped, Since::Changed);
        assert!(text.contains("a write at node hq that had no stamp yet") && text.contains("changed since"), "{text}");
        let missing = Conflict {
            conflict_type: "update_missing".into(),
            target_value: None,
            resolution: "source".into(),
            resolved_by: None,
            ..unstamped
        };
        let text = explain(&example_node(), &missing, Since::Unknown);
        assert!(text.contains("Nothing was known of the row") && text.contains("waits for a person"), "{text}");
    }
}
