use std::collections::BTreeMap;

use serde_json::json;
use syncline_transforms::resolve::rules::ColumnRule;

use super::super::show;
use super::super::{Report, TableReport};
use super::*;

fn table() -> TableDefinition {
    let column = |(name, kind): (&str, &str)| {
        let kind = json!({"oid": 0, "name": kind, "schema": "pg_catalog", "modifier": -1, "format": kind});
        json!({"name": name, "field": name, "type": kind, "nullable": true})
    };
    let columns = [("k", "int4"), ("v", "text"), ("n", "int4")].map(column);
    let definition = json!({"topic": "t", "number": 1, "schema": "public", "table": "kv", "columns": columns, "key": [0],
                            "replica_identity": "full"});
    serde_json::from_value(definition).unwrap()
}

/// Compares rows that each node has: `k`, `v`, `n`.
fn counted(rule: TableRule, nodes: &[&str], rows: &[&[Option<(&str, &str)>]]) -> Count {
    let nodes: Vec<String> = nodes.iter().map(|node| (*node).to_owned()).collect();
    let rules = Rules { priority: nodes.clone(), default: rule, tables: BTreeMap::new() };
    let mut comparison = Comparison::new(&rules, &table(), &[0, 1, 2], &nodes, &[]).unwrap();
    for (key, of_key) in rows.iter().enumerate() {
        let row = |row: &Option<(&str, &str)>| {
            let (v, n) = (*row)?;
            let n = Some(n.to_owned()).filter(|n| n != "NULL");
            Some(KeyedRow { key: Vec::new(), values: vec![Some(key.to_string()), Some(v.to_owned()), n] })
        };
        comparison.take(of_key.iter().map(row).collect());
    }
    comparison.count
}

fn of_node(count: &Count, get: fn(&NodeCount) -> u64) -> Vec<u64> {
    count.nodes.iter().map(get).collect()
}

#[test]
fn whole_rows_go_by_priority_where_neither_has_a_stamp() {
    let rows: &[&[_]] = &[
        &[Some(("a", "1")), None],
        &[None, Some(("b", "1"))],
        &[None, Some(("c", "1"))],
        &[Some(("d", "1")), Some(("d", "1"))],
        &[Some(("e", "1")), Some(("f", "2"))],
    ];
    for rule in [TableRule::LastWriteWins, TableRule::SourcePriority, TableRule::Manual] {
        let count = counted(rule, &["hq", "eu"], rows);
        assert_eq!((count.keys, count.equal, count.differ, count.failed), (5, 1, 1, 0));
        assert_eq!(of_node(&count, |node| node.rows), [3, 4]);
        assert_eq!(of_node(&count, |node| node.only), [1, 2]);
        assert_eq!(of_node(&count, |node| node.inserted), [2, 1]);
        assert_eq!(of_node(&count, |node| node.overwritten), [0, 1]);
        assert_eq!(of_node(&count, |node| node.wins), [1, 0]);
        assert_eq!(json!(count.differing), json!([{"k": "4"}]));
        assert_eq!(json!(count.nodes[1].only_here), json!([{"k": "1"}, {"k": "2"}]));
    }
    let count = counted(TableRule::LastWriteWinsBy("n".into()), &["hq", "eu"], rows);
    assert_eq!(of_node(&count, |node| node.wins), [0, 1]);
    assert_eq!(of_node(&count, |node| node.overwritten), [1, 0]);
}

#[test]
fn columns_are_counted_with_what_the_rule_does() {
    let rows: &[&[_]] = &[&[Some(("b,a", "1")), Some(("c", "7"))], &[Some(("x", "5")), Some(("x", "4"))]];
    let columns = BTreeMap::from([("v".to_owned(), ColumnRule::ConcatUnique), ("n".to_owned(), ColumnRule::Max)]);
    let count = counted(TableRule::Columns(columns), &["hq", "eu"], rows);
    let column = |differ, taken: [u64; 2], combined| ColumnCount { differ, taken: taken.into(), combined };
    assert_eq!(count.columns, [column(0, [0, 0], 0), column(1, [0, 0], 1), column(2, [1, 1], 0)]);
    // Both change where lists are joined.
    assert_eq!(of_node(&count, |node| node.overwritten), [1, 2]);
    let count = counted(TableRule::Merge, &["hq", "eu"], rows);
    assert_eq!(count.columns, [column(0, [0, 0], 0), column(1, [1, 0], 0), column(2, [2, 0], 0)]);
    assert_eq!(of_node(&count, |node| node.overwritten), [0, 2]);
}

#[test]
fn rows_that_do_not_differ_may_change_by_a_rule_of_columns() {
    let columns = BTreeMap::from([("v".to_owned(), ColumnRule::ConcatUnique), ("n".to_owned(), ColumnRule::Sum)]);
    let rows: &[&[_]] = &[&[Some(("b,a", "1")), Some(("b,a", "1"))], &[Some(("a", "NULL")), None]];
    let count = counted(TableRule::Columns(columns), &["hq", "eu"], rows);
    assert_eq!((count.equal, count.differ), (1, 0));
    assert_eq!(of_node(&count, |node| node.overwritten), [2, 1]);
    assert_eq!(of_node(&count, |node| node.inserted), [0, 1]);
}

#[test]
fn several_nodes_may_lack_a_row() {
    let one = Some(("a", "1"));
    let rows: &[&[_]] = &[&[one, one, None], &[one, one, one], &[None, one, Some(("b", "1"))]];
    let count = counted(TableRule::LastWriteWins, &["hq", "eu", "us"], rows);
    assert_eq!((count.equal, count.equal_where_present, count.differ), (1, 1, 1));
    assert_eq!(of_node(&count, |node| node.inserted), [1, 0, 1]);
    assert_eq!(of_node(&count, |node| node.wins), [0, 1, 0]);
}

#[test]
fn what_has_no_place_is_no_merged_row() {
    let columns = BTreeMap::from([("n".to_owned(), ColumnRule::Sum)]);
    let rows: &[&[_]] = &[&[Some(("a", "99999999999")), Some(("a", "1"))], &[Some(("a", "1")), Some(("a", "1"))]];
    let count = counted(TableRule::Columns(columns), &["hq", "eu"], rows);
    assert_eq!((count.failed, json!(count.failing)), (1, json!([{"k": "0"}])));
    let text = count.failure.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(text.contains("column n") && !text.contains("99999999999"), "{text}");
}

#[test]
fn the_report_says_what_the_first_load_does_and_no_values() {
    let rows: &[&[_]] = &[&[Some(("secret", "1")), None], &[Some(("secret", "2")), Some(("hidden", "1"))]];
    let table = |count, faults: &[&str]| TableReport {
        name: "public.kv".into(),
        rule: "last_write_wins",
        nodes: vec!["hq".into(), "eu".into()],
        is_everywhere: true,
        columns: Vec::new(),
        count,
        notes: Vec::new(),
        faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
    };
    let count = counted(TableRule::LastWriteWins, &["hq", "eu"], rows);
    let report = Report { faults: Vec::new(), tables: vec![table(Some(count), &[])] };
    assert_eq!(
        show::text(&report),
        "public.kv (rule last_write_wins)\n  \
           node  rows  only here  to insert  to overwrite  wins\n  \
           hq    2     1          0          0             1\n  \
           eu    1     0          1          1             0\n  \
           equal at all of them: 0, differ: 1\n  \
           only at hq, for example: k=0\n  \
           differ, for example: k=1\n  \
           The first load inserts 1 at eu, and overwrites 1 at eu; then every node has 2 rows.\n\n\
         All rows can be merged; nothing was changed.\n"
    );
    let object: Value = serde_json::from_str(&show::json(&report)).unwrap();
    let found = &object["tables"][0];
    assert_eq!((&object["ok"], &found["nodes"]["hq"]["wins"], &found["differ"]), (&json!(true), &json!(1), &json!(1)));
    let faults = Report { faults: vec![("eu".into(), "no slot".into())], tables: vec![table(None, &["no key"])] };
    let text = show::text(&faults);
    assert!(text.starts_with("FAULT eu: no slot\n") && text.contains("\n  FAULT no key\n"), "{text}");
    for text in [show::text(&report), show::json(&report)] {
        assert!(!text.contains("secret") && !text.contains("hidden"), "{text}");
    }
}
