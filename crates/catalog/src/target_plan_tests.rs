//! Planning is a function of two descriptions, so it is tested without a server.

use syncline_event::handling::Handling;
use syncline_event::table::{Column, ColumnType, Identity, ReplicaIdentity, TableDefinition, TypeKind};

use super::*;

fn column_type(name: &str, modifier: i32) -> ColumnType {
    ColumnType {
        oid: 0,
        name: name.into(),
        schema: "pg_catalog".into(),
        modifier,
        format: format!("{name}({modifier})"),
        kind: TypeKind::Base,
        domain: None,
    }
}

fn column(name: &str, column_type: ColumnType) -> Column {
    Column {
        name: name.into(),
        field: name.into(),
        column_type,
        nullable: true,
        identity: None,
        generated: None,
        default: None,
        default_value: None,
        missing_value: None,
    }
}

fn definition(columns: Vec<Column>) -> TableDefinition {
    let mut all = vec![Column { nullable: false, ..column("id", column_type("int8", -1)) }];
    all.extend(columns);
    TableDefinition {
        topic: "p.s.t".into(),
        number: 1,
        schema: "s".into(),
        table: "t".into(),
        columns: all,
        key: vec![0],
        replica_identity: ReplicaIdentity::Default,
        handling: Handling::default(),
    }
}

fn target_column(name: &str, type_name: &str, modifier: i32) -> TargetColumn {
    TargetColumn {
        name: name.into(),
        type_schema: "pg_catalog".into(),
        type_name: type_name.into(),
        modifier,
        format: type_name.into(),
        nullable: true,
        generated: false,
        identity_always: false,
        is_enum: false,
        is_array: false,
    }
}

fn target(columns: Vec<TargetColumn>) -> TargetTable {
    let mut all = vec![TargetColumn { nullable: false, ..target_column("id", "int8", -1) }];
    all.extend(columns);
    TargetTable {
        kind: 'r',
        role: "syncline".into(),
        missing_privileges: Vec::new(),
        may_truncate: true,
        is_owner: true,
        columns: all,
        indexes: vec![TargetIndex {
            name: "t_pkey".into(),
            columns: vec!["id".into()],
            is_arbiter: true,
            primary: true,
        }],
        foreign_keys: Vec::new(),
    }
}

fn state(table: TargetTable) -> TargetState {
    TargetState { schema_exists: true, table: Some(table), ..TargetState::default() }
}

fn rendered(definition: &TableDefinition, state: &TargetState) -> Vec<String> {
    plan(definition, state).unwrap().iter().map(|change| change.render().unwrap()).collect()
}

fn refused(definition: &TableDefinition, table: TargetTable) -> String {
    plan(definition, &state(table)).unwrap_err().to_string()
}

fn mood(labels: &[&str]) -> ColumnType {
    ColumnType {
        schema: "s".into(),
        kind: TypeKind::Enum { labels: labels.iter().map(|label| (*label).into()).collect() },
        ..column_type("mood", -1)
    }
}

#[test]
fn nothing_is_there() {
    let definition = definition(vec![column("m", mood(&["a"]))]);
    let changes = plan(&definition, &TargetState::default()).unwrap();
    assert!(matches!(
        changes.as_slice(),
        [Change::CreateSchema { .. }, Change::CreateEnum { .. }, Change::CreateTable { .. }]
    ));
}

#[test]
fn a_table_that_fits_needs_nothing() {
    let definition = definition(vec![column("v", column_type("text", -1))]);
    assert_eq!(plan(&definition, &state(target(vec![target_column("v", "text", -1)]))), Ok(Vec::new()));
}

#[test]
fn a_new_column_is_added_and_a_dropped_one_takes_null() {
    let new = Column { missing_value: Some("7".into()), nullable: false, ..column("n", column_type("int4", -1)) };
    let old = TargetColumn { nullable: false, ..target_column("old", "text", -1) };
    assert_eq!(
        rendered(&definition(vec![new]), &state(target(vec![old]))),
        [
            "ALTER TABLE \"s\".\"t\" ADD COLUMN \"n\" int4(-1) DEFAULT '7'::int4(-1) NOT NULL",
            "ALTER TABLE \"s\".\"t\" ALTER COLUMN \"old\" DROP NOT NULL"
        ]
    );
}

#[test]
fn a_column_whose_old_rows_cannot_be_known_names_resync() {
    let base = column("n", column_type("int4", -1));
    for column in [
        Column { nullable: false, ..base.clone() },
        Column { default: Some("random()".into()), ..base.clone() },
        Column { identity: Some(Identity::ByDefault), ..base },
    ] {
        let text = refused(&definition(vec![column]), target(vec![]));
        assert!(text.contains("column n is missing") && text.contains("syncline resync"), "{text}");
    }
}

#[test]
fn types_may_be_wider_but_not_other() {
    let fits = |source: ColumnType, type_name: &str, modifier: i32| {
        let definition = definition(vec![column("v", source)]);
        plan(&definition, &state(target(vec![target_column("v", type_name, modifier)]))).is_ok()
    };
    let numeric = |precision: i32, scale: i32| (precision << 16 | scale) + 4;
    assert!(fits(column_type("int4", -1), "int8", -1));
    assert!(fits(column_type("int4", -1), "numeric", -1));
    assert!(!fits(column_type("int8", -1), "int4", -1));
    assert!(fits(column_type("varchar", 14), "varchar", 24));
    assert!(fits(column_type("varchar", 14), "text", -1));
    assert!(!fits(column_type("varchar", 14), "varchar", 9));
    assert!(!fits(column_type("varchar", -1), "varchar", 9));
    assert!(fits(column_type("numeric", numeric(6, 2)), "numeric", numeric(8, 3)));
    assert!(!fits(column_type("numeric", numeric(6, 2)), "numeric", numeric(6, 3)));
    assert!(!fits(column_type("numeric", numeric(6, 2)), "numeric", numeric(8, 1)));
    assert!(!fits(column_type("numeric", -1), "numeric", numeric(8, 1)));
    assert!(fits(column_type("timestamp", 3), "timestamp", -1));
    assert!(!fits(column_type("timestamp", -1), "timestamp", 3));
    assert!(!fits(column_type("text", -1), "int4", -1));
    assert!(fits(mood(&["a"]), "text", -1));
}

#[test]
fn labels_are_added_where_they_stand_in_the_source() {
    let definition = definition(vec![column("m", mood(&["first", "a", "b", "c"]))]);
    let mut table =
        target(vec![TargetColumn { type_schema: "s".into(), is_enum: true, ..target_column("m", "mood", -1) }]);
    table.columns[1].type_name = "mood".into();
    let mut state = state(table);
    state.enums.insert(("s".into(), "mood".into()), vec!["a".into(), "c".into()]);
    assert_eq!(
        rendered(&definition, &state),
        [
            "ALTER TYPE \"s\".\"mood\" ADD VALUE IF NOT EXISTS 'first' BEFORE 'a'",
            "ALTER TYPE \"s\".\"mood\" ADD VALUE IF NOT EXISTS 'b' AFTER 'a'"
        ]
    );
}

#[test]
fn what_would_break_the_promise_is_refused_with_the_remedy() {
    let definition = definition(vec![column("v", column_type("text", -1))]);
    let base = || target(vec![target_column("v", "text", -1)]);

    let mut table = base();
    table.indexes[0].columns = vec!["v".into()];
    assert!(refused(&definition, table).contains("primary key is (v)"));

    let mut table = base();
    table.indexes.push(TargetIndex {
        name: "t_v_key".into(),
        columns: vec!["v".into()],
        is_arbiter: true,
        primary: false,
    });
    assert!(refused(&definition, table).contains("unique index t_v_key"));

    let mut table = base();
    table.foreign_keys.push("t_fk".into());
    assert!(refused(&definition, table).contains("foreign key t_fk"));

    let mut table = base();
    table.missing_privileges = vec!["USAGE", "INSERT"];
    assert!(
        refused(&definition, table)
            .contains("GRANT USAGE ON SCHEMA \"s\" TO \"syncline\"; GRANT INSERT ON \"s\".\"t\" TO \"syncline\";")
    );

    let mut table = base();
    table.kind = 'v';
    assert!(refused(&definition, table).contains("no table"));

    let mut table = base();
    table.columns[1].generated = true;
    assert!(refused(&definition, table).contains("DROP EXPRESSION"));

    let mut table = base();
    table.columns[1].identity_always = true;
    assert!(refused(&definition, table).contains("SET GENERATED BY DEFAULT"));

    let mut table = target(vec![]);
    table.is_owner = false;
    assert!(refused(&definition, table).contains("have its owner run: ALTER TABLE \"s\".\"t\" ADD COLUMN \"v\""));
}
