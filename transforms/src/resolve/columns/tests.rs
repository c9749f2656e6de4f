use std::collections::BTreeMap;

use syncline_event::stamp::{Seen, Stamp};

use super::super::echo::{Fence, Row};
use super::super::plan::{PlanColumn, PlanError};
use super::super::rules::{ColumnRule, Rules, RulesError, TableRule};
use super::super::show::{Showing, Write};
use super::*;
use crate::sql_type::SqlType;

const COLUMNS: [(&str, SqlType); 3] = [("id", SqlType::Int8), ("n", SqlType::Int4), ("s", SqlType::Text)];

fn rules(default: TableRule) -> Rules {
    Rules { priority: vec!["hq".into(), "eu".into(), "us".into()], default, tables: BTreeMap::new() }
}

fn column_rules(rules: &[(&str, ColumnRule)]) -> TableRule {
    TableRule::Columns(rules.iter().map(|(name, rule)| ((*name).to_owned(), rule.clone())).collect())
}

fn plan_of(default: TableRule, columns: &[(&'static str, SqlType)]) -> Result<Plan, PlanError> {
    let column =
        |(name, sql_type): &(&'static str, SqlType)| PlanColumn { name, sql_type: *sql_type, in_key: *name == "id" };
    let columns: Vec<_> = columns.iter().map(column).collect();
    Plan::new(&rules(default), "public.t", &columns)
}

fn plan(default: TableRule) -> Plan {
    plan_of(default, &COLUMNS).unwrap()
}

/// A change at an offset that is its time, by a node that had seen others' records below some offsets.
fn version(time: u64, origin: &str, seen: &[(&str, u64)]) -> Version {
    let mut known = Seen::default();
    for (origin, next) in seen {
        known.raise(origin, 0, *next);
    }
    Version {
        stamp: Stamp { clock_us: time, counter: 0, origin: origin.into() },
        seen: known,
        partition: 0,
        offset: time,
    }
}

fn row(n: &str, s: &str) -> Option<Image> {
    Some(["1", n, s].map(|text| (text != "-").then(|| text.to_owned())).to_vec())
}

fn change(version: Version, before: Option<Image>, after: Option<Image>) -> Incoming {
    let operation = match (&before, &after) {
        (None, _) => Operation::Insert,
        (_, None) => Operation::Delete,
        _ => Operation::Update,
    };
    Incoming { operation, version, before, after }
}

/// The row behind all changes, and the conflicts on the way.
fn fold(plan: &Plan, changes: &[&Incoming]) -> (Option<Image>, Vec<Conflict>) {
    let (mut state, mut conflicts) = (None, Vec::new());
    for change in changes {
        let resolved = plan.resolve(change, state.as_ref()).unwrap();
        conflicts.extend(resolved.conflicts);
        state = Some(resolved.state);
    }
    (plan.row(&state.unwrap()).unwrap(), conflicts)
}

#[test]
fn concurrent_changes_of_one_column_do_not_run_in_circles() {
    // By pairs: active before pending, pending before inactive, and inactive is later than active.
    let order = ColumnRule::PriorityOrder(["active", "pending", "inactive"].map(str::to_owned).to_vec());
    let plan = plan(column_rules(&[("s", order)]));
    let first = change(version(1, "hq", &[]), None, row("1", "old"));
    let active = change(version(2, "hq", &[]), row("1", "old"), row("1", "active"));
    let inactive = change(version(3, "hq", &[]), row("1", "active"), row("1", "inactive"));
    let pending = change(version(4, "eu", &[("hq", 2)]), row("1", "old"), row("1", "pending"));
    for order in [[&active, &inactive, &pending], [&active, &pending, &inactive], [&pending, &active, &inactive]] {
        let (result, conflicts) = fold(&plan, &[&[&first][..], &order[..]].concat());
        assert_eq!(result, row("1", "pending"));
        assert!(!conflicts.is_empty());
    }
}

#[test]
fn merge_keeps_both_sides_and_prefers_the_higher_node_where_both_wrote() {
    let plan = plan(TableRule::Merge);
    let first = change(version(1, "hq", &[]), None, row("1", "a"));
    let hq = change(version(2, "hq", &[]), row("1", "a"), row("2", "a"));
    let eu = change(version(9, "eu", &[("hq", 2)]), row("1", "a"), row("3", "b"));
    let (result, conflicts) = fold(&plan, &[&first, &hq, &eu]);
    assert_eq!(result, row("2", "b"));
    let [conflict] = &conflicts[..] else { panic!("{conflicts:?}") };
    assert_eq!((conflict.kind, conflict.column, conflict.takes), (ConflictType::UpdateUpdate, Some(1), false));
    // What had seen the other is later, whatever its node.
    let eu = change(version(9, "eu", &[("hq", 3)]), row("2", "a"), row("3", "b"));
    assert_eq!(fold(&plan, &[&first, &hq, &eu]), (row("3", "b"), Vec::new()));
}

#[test]
fn sums_begin_with_what_was_there_before_the_first_known_change() {
    let plan = plan(column_rules(&[("n", ColumnRule::Sum)]));
    // Never read by a snapshot: both nodes had 100.
    let hq = change(version(5, "hq", &[]), row("100", "a"), row("97", "a"));
    let eu = change(version(6, "eu", &[]), row("100", "a"), row("95", "a"));
    let us = change(version(8, "us", &[("hq", 6)]), row("97", "a"), row("98", "a"));
    for order in [[&hq, &eu, &us], [&us, &eu, &hq], [&eu, &us, &hq]] {
        assert_eq!(fold(&plan, &order).0, row("93", "a"));
    }
    // Read by the snapshots of two nodes: once, from the one of the higher priority.
    let snapshot = |priority, origin, n| {
        let stamp = Stamp { clock_us: 0, counter: priority, origin: String::from(origin) };
        change(Version { stamp, ..version(0, "", &[]) }, None, row(n, "a"))
    };
    let (a, b) = (snapshot(3, "hq", "100"), snapshot(2, "eu", "90"));
    assert_eq!(fold(&plan, &[&b, &a, &hq]).0, row("97", "a"));
    assert_eq!(fold(&plan, &[&a, &hq, &b]).0, row("97", "a"));
}

#[test]
fn a_sum_without_a_place_in_its_column_is_an_error_that_names_it() {
    let plan = plan(column_rules(&[("n", ColumnRule::Sum)]));
    let first = change(version(1, "hq", &[]), None, row("2147483647", "a"));
    let state = plan.resolve(&first, None).unwrap().state;
    let more = change(version(2, "eu", &[]), row("0", "a"), row("1", "a"));
    let error = plan.resolve(&more, Some(&state)).unwrap_err();
    assert_eq!(error.to_string(), "column n: integer out of range");
}

#[test]
fn the_highest_value_stays_and_what_it_discards_is_told() {
    let plan = plan(column_rules(&[("n", ColumnRule::Max)]));
    let first = change(version(1, "hq", &[]), None, row("9", "a"));
    let lower = change(version(2, "hq", &[]), row("9", "a"), row("5", "a"));
    let (result, conflicts) = fold(&plan, &[&first, &lower]);
    assert_eq!(result, row("9", "a"));
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].source.as_deref(), Some("5"));
    // Nothing else is known of the 9.
    let (result, conflicts) = fold(&plan, &[&lower]);
    assert_eq!(result, row("9", "a"));
    assert!(conflicts.iter().any(|conflict| conflict.column == Some(1) && conflict.other.is_none()));
}

#[test]
fn an_update_that_comes_before_its_insert_shows_the_row_it_carries() {
    let plan = plan(TableRule::Merge);
    let first = change(version(1, "hq", &[]), None, row("1", "a"));
    let later = change(version(2, "eu", &[("hq", 2)]), row("1", "a"), row("1", "b"));
    let (result, conflicts) = fold(&plan, &[&later]);
    assert_eq!(result, row("1", "b"));
    assert_eq!(conflicts[0].kind, ConflictType::UpdateMissing);
    assert_eq!(fold(&plan, &[&later, &first]).0, row("1", "b"));
}

#[test]
fn a_removal_takes_with_it_only_what_it_had_seen() {
    let plan = plan(TableRule::Merge);
    let first = change(version(1, "hq", &[]), None, row("1", "a"));
    let gone = change(version(5, "hq", &[]), row("1", "a"), None);
    let before = change(version(3, "eu", &[("hq", 2)]), row("1", "a"), row("1", "b"));
    let (result, conflicts) = fold(&plan, &[&first, &before, &gone]);
    assert_eq!((result, conflicts[0].kind), (None, ConflictType::DeleteRecentlyUpdated));
    let behind = change(version(7, "eu", &[("hq", 2)]), row("1", "a"), row("1", "b"));
    let (result, conflicts) = fold(&plan, &[&first, &gone, &behind]);
    assert_eq!((result, conflicts[0].kind), (row("1", "b"), ConflictType::UpdateRecentlyDeleted));
}

#[test]
fn columns_that_were_added_later_keep_their_values() {
    let before = plan_of(TableRule::Merge, &COLUMNS[..2]).unwrap();
    let mut first = change(version(1, "hq", &[]), None, row("1", "a"));
    first.after.as_mut().unwrap().truncate(2);
    let state = before.resolve(&first, None).unwrap().state;
    let values = row("7", "default").unwrap();
    let showing = Showing {
        before: Some(&state),
        after: &state,
        change: None,
        transaction: None,
        held: &[],
        noted_xmin: Some(5),
        row: Row::Present { xmin: 5 },
        values: Some(&values),
        fence: Fence::None,
    };
    let shown = plan(TableRule::Merge).show(&showing).unwrap();
    assert_eq!(shown.write, Write::Update(row("1", "default").unwrap()));
}

#[test]
fn changes_without_whole_rows_and_states_of_another_rule_are_refused() {
    let merge = plan(TableRule::Merge);
    let mut first = change(version(1, "hq", &[]), None, row("1", "a"));
    let state = merge.resolve(&first, None).unwrap().state;
    assert_eq!(plan(TableRule::SourcePriority).resolve(&first, Some(&state)), Err(ResolveError::RuleChanged));
    first.after = None;
    assert_eq!(merge.resolve(&first, None), Err(ResolveError::NoImage));
}

#[test]
fn rules_that_do_not_go_with_their_columns_are_refused() {
    let error = |rule: TableRule, columns: &[(&'static str, SqlType)]| plan_of(rule, columns).unwrap_err().to_string();
    let sum = column_rules(&[("n", ColumnRule::Sum)]);
    assert!(error(sum.clone(), &[("n", SqlType::Float8)]).contains("change the column's type to numeric"));
    assert!(error(sum, &[("n", SqlType::Text)]).contains("use merge"));
    assert!(error(column_rules(&[("id", ColumnRule::Max)]), &COLUMNS).contains("belongs to the key"));
    // Rules for all tables are for those that have the column; a table's own are not.
    let missing = column_rules(&[("x", ColumnRule::Max)]);
    assert!(plan_of(missing.clone(), &COLUMNS).is_ok());
    let own = Rules { tables: BTreeMap::from([("public.t".into(), missing)]), ..rules(TableRule::Merge) };
    let column = PlanColumn { name: "n", sql_type: SqlType::Int4, in_key: false };
    assert!(Plan::new(&own, "public.t", &[column]).unwrap_err().to_string().contains("no column x"));
    let list = column_rules(&[("s", ColumnRule::ConcatUnique)]);
    assert!(error(list, &[("s", SqlType::Opaque)]).contains("text with items between commas"));
    assert!(error(TableRule::LastWriteWinsBy("s".into()), &[("s", SqlType::Jsonb)]).contains("order is not known"));
}

#[test]
fn priorities_name_every_node_once() {
    let nodes = ["eu", "hq", "us"].map(str::to_owned);
    let mut rules = rules(TableRule::Merge);
    assert_eq!(rules.check(&nodes), Ok(()));
    assert_eq!(rules.check(&nodes[..2]), Err(RulesError::UnknownNode("us".into())));
    rules.priority.push("hq".into());
    assert_eq!(rules.check(&nodes), Err(RulesError::NodeTwice("hq".into())));
    rules.priority = vec!["hq".into(), "eu".into()];
    assert_eq!(rules.check(&nodes), Err(RulesError::NodeMissing("us".into())));
    rules.priority.push("us".into());
    rules.default = column_rules(&[("s", ColumnRule::PriorityOrder(vec!["a".into(), "a".into()]))]);
    assert!(matches!(rules.check(&nodes), Err(RulesError::ValueTwice { .. })));
}
