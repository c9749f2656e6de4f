//! Why one side of a conflict stayed, and whether the rule will let a person's decision stay.

use std::cmp::Ordering;

use syncline_consumer::config::NodeSettings;
use syncline_consumer::targets::postgres::conflicts::Conflict;
use syncline_transforms::resolve::rules::{ColumnRule, TableRule};

/// Whether nothing was known of the row.
pub(super) fn is_missing(conflict: &Conflict) -> bool {
    matches!(conflict.conflict_type.as_str(), "update_missing" | "delete_missing")
}

/// What a rule looks at.
enum Criterion<'a> {
    Stamp,
    Priority,
    /// Something else, in words.
    Words(String),
    /// A rule that the file does not have for this table any more.
    Former(&'a str),
}

/// Which rule decided, and why so.
pub(super) fn reason(node: &NodeSettings, conflict: &Conflict) -> String {
    let Some(target) = &conflict.target_origin else {
        return if is_missing(conflict) {
            "There was nothing to compare it with, so no rule was needed: it applies.".to_owned()
        } else {
            format!(
                "The write at {} came behind the fence, so its stamp is later than the one that arrived.",
                node.name
            )
        };
    };
    let source = &conflict.source_origin;
    let takes = conflict.resolution == "source";
    let (winner, loser) = if takes { (source, target) } else { (target, source) };
    let name = &conflict.strategy;
    let higher = |a: &str, b: &str| node.rules.priority_of(a) > node.rules.priority_of(b);
    match criterion(node, conflict) {
        Criterion::Former(name) => {
            format!("Rule {name} decided for {winner}; the file has another rule for this table by now.")
        }
        Criterion::Words(words) => format!("Rule {name} decided: {words}. That left the change of {winner}."),
        Criterion::Priority if higher(winner, loser) => {
            format!(
                "Rule {name}: {winner} stands before {loser} in `conflict_resolution.priority`, so its change stays."
            )
        }
        Criterion::Stamp | Criterion::Priority => match later(conflict, takes) {
            Some(by) => format!("Rule {name}: the change of {winner} has the later stamp ({by}), so it stays."),
            None => format!("Rule {name} decided for the change of {winner}."),
        },
    }
}

fn criterion<'a>(node: &NodeSettings, conflict: &'a Conflict) -> Criterion<'a> {
    let rule = node.rules.of(&conflict.table_name);
    if rule.name() != conflict.strategy {
        return Criterion::Former(&conflict.strategy);
    }
    match (rule, &conflict.field) {
        (TableRule::LastWriteWins | TableRule::Manual, _) => Criterion::Stamp,
        (TableRule::LastWriteWinsBy(column), _) => {
            Criterion::Words(format!("the higher value of column {column} stays, with equal ones the later stamp"))
        }
        (TableRule::SourcePriority | TableRule::Merge, Some(_)) | (TableRule::SourcePriority, None) => {
            Criterion::Priority
        }
        // Whether there is a row belongs to the latest change.
        (TableRule::Merge | TableRule::Columns(_), None) => Criterion::Stamp,
        (TableRule::Columns(columns), Some(field)) => match columns.get(field) {
            None | Some(ColumnRule::SourcePriority) => Criterion::Priority,
            Some(ColumnRule::LastWriteWins) => Criterion::Stamp,
            Some(rule) => Criterion::Words(format!("{} (column {field})", words(rule))),
        },
    }
}

fn words(rule: &ColumnRule) -> &'static str {
    match rule {
        ColumnRule::LastWriteWins => "the latest write stays",
        ColumnRule::SourcePriority => "the node of the highest priority stays",
        ColumnRule::Sum => "all differences add up",
        ColumnRule::Max => "the highest value stays",
        ColumnRule::Min => "the lowest value stays",
        ColumnRule::ConcatUnique => "the items of both sides are kept",
        ColumnRule::PriorityOrder(_) => "the value that stands first in `priority_order` stays",
    }
}

/// By what the winner's stamp is the later one, where it is.
fn later(conflict: &Conflict, takes: bool) -> Option<String> {
    let source = (conflict.source_clock_us, conflict.source_counter, conflict.source_origin.as_str());
    let target = (conflict.target_clock_us?, conflict.target_counter?, conflict.target_origin.as_deref()?);
    let (winner, loser) = if takes { (source, target) } else { (target, source) };
    if winner.cmp(&loser) != Ordering::Greater {
        return None;
    }
    Some(match (winner.0 - loser.0, winner.1 - loser.1) {
        (_, counter) if loser.0 == 0 && winner.0 == 0 && counter != 0 => "both were there before the first start; \
             the node of the highest priority counts as the later one"
            .to_owned(),
        _ if loser.0 == 0 => "the other one was there before the first start".to_owned(),
        (0, 0) => "both at the same time, so the nodes' names decide".to_owned(),
        (0, _) => "both in the same microsecond, so their counters decide".to_owned(),
        (micros, _) => format!("{} s later", seconds(micros)),
    })
}

/// Microseconds as seconds, without zeros at the end.
fn seconds(micros: i64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What may become of a person's decision under the table's rule, where that is not simply the latest change.
pub(super) fn caveat(node: &NodeSettings, conflict: &Conflict) -> Option<String> {
    let first = node.rules.priority.first().filter(|first| **first != node.name);
    let priority =
        || first.map(|first| format!("the rule prefers node {first}: a value of that node may overrule this one"));
    match (node.rules.of(&conflict.table_name), &conflict.field) {
        (TableRule::SourcePriority, _) => priority(),
        (TableRule::LastWriteWinsBy(column), _) => {
            Some(format!("the rule goes by column {column}: a row with a higher value there may overrule this one"))
        }
        (TableRule::Columns(columns), field) => {
            // A whole row is written where there is no field.
            let of = |(name, _): &(&String, &ColumnRule)| field.as_ref().is_none_or(|field| field == *name);
            let holds = |(name, rule): (&String, &ColumnRule)| match rule {
                ColumnRule::SourcePriority => priority(),
                ColumnRule::Max | ColumnRule::Min | ColumnRule::ConcatUnique => {
                    Some(format!("the rule of column {name} goes on ({}), so it may undo this", words(rule)))
                }
                ColumnRule::LastWriteWins | ColumnRule::Sum | ColumnRule::PriorityOrder(_) => None,
            };
            columns.iter().filter(of).find_map(holds)
        }
        (TableRule::LastWriteWins | TableRule::Merge | TableRule::Manual, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use syncline_transforms::resolve::rules::Rules;

    use super::super::{example, example_node};
    use super::*;

    fn under(rule: TableRule) -> (NodeSettings, Conflict) {
        let conflict = Conflict { strategy: rule.name().to_owned(), ..example() };
        let node = example_node();
        let rules = Rules { default: rule, ..Rules::clone(&node.rules) };
        (NodeSettings { rules: Arc::new(rules), ..node }, conflict)
    }

    #[test]
    fn the_reason_is_the_rules() {
        let (node, conflict) = under(TableRule::LastWriteWins);
        assert!(reason(&node, &conflict).contains("eu has the later stamp (1.5 s later)"));
        let (node, conflict) = under(TableRule::SourcePriority);
        let conflict = Conflict { resolution: "target".into(), ..conflict };
        assert!(reason(&node, &conflict).contains("hq stands before eu in `conflict_resolution.priority`"));
        let (node, conflict) = under(TableRule::LastWriteWinsBy("n".into()));
        assert!(reason(&node, &conflict).contains("higher value of column n"));
        let columns = BTreeMap::from([("v".to_owned(), ColumnRule::Max)]);
        let (node, conflict) = under(TableRule::Columns(columns));
        let conflict = Conflict { field: Some("v".into()), ..conflict };
        assert!(reason(&node, &conflict).contains("the highest value stays (column v)"));
        assert!(caveat(&node, &conflict).unwrap().contains("may undo this"));
        let former = Conflict { strategy: "merge".into(), ..conflict };
        assert!(reason(&node, &former).contains("another rule for this table by now"));
    }

    #[test]
    fn rows_from_before_the_first_start_have_no_time() {
        let before = Conflict { source_clock_us: 0, target_clock_us: Some(0), source_counter: 3, ..example() };
        assert!(later(&before, true).unwrap().contains("before the first start; the node"));
        let one = Conflict { target_clock_us: Some(0), ..example() };
        assert_eq!(later(&one, true).unwrap(), "the other one was there before the first start");
        assert_eq!(later(&example(), false), None);
    }

    #[test]
    fn a_decision_at_a_node_of_less_priority_may_not_stay() {
        let (node, conflict) = under(TableRule::SourcePriority);
        assert_eq!(caveat(&node, &conflict), None);
        let eu = NodeSettings { name: "eu".into(), ..node };
        assert!(caveat(&eu, &conflict).unwrap().contains("prefers node hq"));
    }
}
