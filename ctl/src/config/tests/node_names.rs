//! Nodes that call tables and columns otherwise.

use std::collections::BTreeMap;

use syncline_consumer::config::NodeSettings;
use syncline_transforms::resolve::rules::{ColumnRule, TableRule};

use super::*;

/// Two nodes, of which eu has these mappings.
fn two(mappings: &str) -> String {
    format!(
        "name: Shop
kafka: {{bootstrap_servers: 'k:1'}}
schema_registry: {{url: http://r}}
topology: bidirectional
nodes:
  hq: {{type: postgresql, host: hq, database: shop, username: a, tables: [customers, stock]}}
  eu:
    {{type: postgresql, host: eu, database: shop, username: a, tables: [kunden, stock],
      table_mappings: {mappings}}}
"
    )
}

const KUNDEN: &str =
    "[{source_table: kunden, target_table: customers, columns: {kunden_nr: id, name: full_name, changed: updated_at}}]";

fn nodes(text: &str) -> [NodeSettings; 2] {
    let nodes = config(text).unwrap().nodes.into_iter();
    let nodes: Vec<_> = nodes.map(|node| node.consumer.unwrap().node.unwrap()).collect();
    nodes.try_into().unwrap()
}

#[test]
fn a_nodes_names_are_known_to_all_with_their_lines() {
    let config = config(&two(KUNDEN)).unwrap();
    let names = &config.mappings.names;
    assert!(names["hq"].tables.is_empty());
    let renamed = &names["eu"].tables[0];
    assert_eq!((renamed.own_name(), renamed.shared_name()), ("public.kunden".into(), "public.customers".into()));
    assert_eq!((renamed.own.line, renamed.columns.len(), renamed.columns[0].0.line), (9, 3, 9));
    assert_eq!(renamed.own_column("full_name"), Some("name"));
    for node in config.nodes {
        assert_eq!(node.consumer.unwrap().node.unwrap().names, *names);
    }
}

#[test]
fn rules_are_under_each_nodes_own_names() {
    let rules = "conflict_resolution:
  order_by: updated_at
  tables:
    customers:
      strategy: custom_rules
      custom_rules: [{field: full_name, strategy: max}, {field: visits, strategy: sum}]
";
    let [hq, eu] = nodes(&(two(KUNDEN) + rules));
    let columns = |name: &str| {
        TableRule::Columns(BTreeMap::from([(name.to_owned(), ColumnRule::Max), ("visits".to_owned(), ColumnRule::Sum)]))
    };
    assert_eq!(hq.rules.of("public.customers"), &columns("full_name"));
    assert_eq!(eu.rules.of("public.kunden"), &columns("name"));
    let by_time = TableRule::LastWriteWinsBy("updated_at".into());
    assert_eq!((hq.rules.of("public.stock"), eu.rules.of("public.stock")), (&by_time, &by_time));
    assert_eq!((eu.rules.tables.len(), &eu.rules.default), (1, &by_time));
    // The rule of all tables is about another column in a table that calls it otherwise.
    let [hq, eu] = nodes(&(two(KUNDEN) + "conflict_resolution: {order_by: updated_at}"));
    assert_eq!(hq.rules.of("public.customers"), &by_time);
    assert_eq!(eu.rules.of("public.kunden"), &TableRule::LastWriteWinsBy("changed".into()));
    // Without other names nothing is looked at by table.
    let [_, eu] =
        nodes(&(two("[{source_table: kunden, target_table: customers}]") + "conflict_resolution: {strategy: merge}"));
    assert!(eu.rules.tables.is_empty());
}

#[test]
fn a_masked_column_is_masked_under_all_its_names() {
    for (mask, at_hq, at_eu) in [
        ("full_name", vec!["full_name"], vec!["full_name", "name"]),
        // Whoever writes a node's own name means the same column elsewhere.
        ("name", vec!["full_name", "name"], vec!["full_name", "name"]),
        ("note", vec!["note"], vec!["note"]),
    ] {
        let [hq, eu] = nodes(&format!("{}conflict_log: {{mask: [{mask}]}}", two(KUNDEN)));
        assert_eq!(
            (hq.log.masked, eu.log.masked),
            (at_hq.iter().map(ToString::to_string).collect(), at_eu.iter().map(ToString::to_string).collect()),
            "{mask}"
        );
    }
}

#[test]
fn each_refusal_of_a_nodes_names_has_its_line_and_the_reason() {
    let one = |keys: &str| format!("[{{source_table: kunden, target_table: customers, {keys}}}]");
    let mut refused: Vec<(String, String)> = [
        ("[{source_table: kunden}]", "table_mappings[0].target_table: is required"),
        ("[{source_table: 'kund*', target_table: customers}]", "source_table: `kund*` must be one table's name"),
        ("[{source_table: '/kunden/', target_table: customers}]", "`/kunden/` must be one table's name, not a pattern"),
        ("[{source_table: kunden, target_table: 'c*'}]", "target_table: `c*` must be one table's name"),
        ("[{source_table: a.b.c, target_table: customers}]", "`a.b.c` is no table's name"),
        (
            "[{source_table: kundn, target_table: customers}]",
            "public.kundn is none of the tables that the node captures",
        ),
        ("[{source_table: kunden, target_table: stock}]", "public.stock is a table of the node, too"),
        (
            "[{source_table: kunden, target_table: a}, {source_table: stock, target_table: public.a}]",
            "table_mappings[1].target_table: `public.a` is what public.kunden is called already",
        ),
        (
            "[{source_table: kunden, target_table: a}, {source_table: kunden, target_table: b}]",
            "table_mappings[1].source_table: `kunden` has a mapping already",
        ),
    ]
    .map(|(text, expected)| (text.to_owned(), expected.to_owned()))
    .to_vec();
    for (keys, expected) in [
        ("columns: {a: c, b: c}", "columns.b: `c` is what a is called already"),
        ("columns: {'*': '*'}", "columns.*: is not needed"),
        ("columns: {a: ' '}", "columns.a: is empty"),
        ("colums: {}", "did you mean `columns`?"),
    ] {
        refused.push((one(keys), expected.to_owned()));
    }
    for key in ["transformations: []", "filters: ['a > 1']", "history: true", "soft_delete: a", "exclude_columns: [a]"]
    {
        let name = key.split(':').next().unwrap();
        let why = "cannot stand here: a node's changes must be able to go both ways";
        refused.push((one(key), format!("nodes.eu.table_mappings[0].{name}: {why}")));
    }
    for (mappings, expected) in refused {
        let message = refusal(&two(&mappings));
        assert!(message.contains(&expected), "{mappings}\ngave {message:?}, expected {expected:?}");
        assert!(message.starts_with("sync.yaml:9: nodes.eu.table_mappings"), "{message}");
    }
    // Where tables are captured by patterns, only the database can tell.
    let patterns = two("[{source_table: other, target_table: customers}]").replace("[kunden, stock]", "['k*', stock]");
    assert!(config(&patterns).is_ok());
}

#[test]
fn rules_that_name_what_only_one_node_calls_so_are_refused() {
    for (rules, expected) in [
        ("{tables: {kunden: {strategy: merge}}}", "source_table: all nodes call public.kunden public.customers"),
        ("{tables: {customers: {order_by: name}}}", "columns.name: all nodes call `name` otherwise"),
        ("{order_by: name}", "columns.name: all nodes call `name` otherwise"),
        (
            "{tables: {customers: {strategy: custom_rules, custom_rules: [{field: name, strategy: max}]}}}",
            "columns.name: all nodes call `name` otherwise",
        ),
    ] {
        let message = refusal(&format!("{}conflict_resolution: {rules}", two(KUNDEN)));
        assert!(message.contains(expected), "{rules}\ngave {message:?}, expected {expected:?}");
        assert!(message.starts_with("sync.yaml:9: nodes.eu.table_mappings[0]."), "{message}");
    }
    let fine = "{strategy: custom_rules, custom_rules: [{field: name, strategy: max}]}";
    let [_, eu] = nodes(&format!("{}conflict_resolution: {fine}", two(KUNDEN)));
    assert_eq!(eu.rules.of("public.kunden"), &TableRule::Columns(BTreeMap::new()));
}
