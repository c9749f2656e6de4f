//! PostgreSQL as a target: the conformance suite, and what only it has: bookkeeping, DDL, privileges.

use std::sync::Arc;

use anyhow::Result;
use syncline_consumer::targets::postgres::PostgresTarget;
use syncline_consumer::targets::{Arrival, Batch, Clear, Clearing, Move, Target, TargetError, Writer, Written};
use syncline_event::avro::value::Value;
use syncline_event::header::BarrierKind;
use syncline_event::table::{Column, ColumnType, Identity, TableDefinition, TypeKind};
use syncline_integration_tests::conformance::{
    self, Change, Site, at, column, column_type, definition, partition, required, step, table_batch, write,
};
use syncline_integration_tests::postgres_site::PostgresSite;
use syncline_runtime::retry::ErrorClass;
use syncline_runtime::settings::{DatabaseSettings, Secret};

macro_rules! conforms {
    ($($name:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() -> Result<()> {
                let site = PostgresSite::new(stringify!($name)).await?;
                conformance::$name(&site).await?;
                site.database.remove().await
            }
        )*
    };
}

conforms!(
    inserts_updates_and_deletes,
    a_repeated_batch_is_fenced,
    one_foreign_partition_fences_the_whole_batch,
    two_writers_race,
    partial_updates,
    a_barrier_waits_for_all_partitions,
    one_batch_may_bring_all_arrivals,
    an_overtaken_barrier_is_dropped,
    composite_keys,
    odd_identifiers,
    stops_are_noted,
);

fn int8(name: &str) -> Column {
    required(name, column_type("int8", "bigint"))
}

fn int4(name: &str) -> Column {
    column(name, column_type("int4", "integer"))
}

fn text(name: &str) -> Column {
    column(name, column_type("text", "text"))
}

fn next(definition: &TableDefinition, columns: Vec<Column>) -> Arc<TableDefinition> {
    Arc::new(TableDefinition { number: definition.number + 1, columns, ..definition.clone() })
}

async fn upsert(
    writer: &mut dyn Writer,
    definition: &Arc<TableDefinition>,
    from: i64,
    row: Vec<Value<'_>>,
) -> Result<()> {
    let plan = writer.plan(definition).await?;
    let written = write(writer, step(0, from, from + 1), table_batch(&plan, &[Change::Upsert(row)])?).await?;
    assert_eq!(written, Written::released(Vec::new()));
    Ok(())
}

async fn refusal(writer: &mut dyn Writer, definition: TableDefinition) -> TargetError {
    let error = writer.plan(&Arc::new(definition)).await.err().expect("the plan was accepted");
    assert_eq!(error.class, ErrorClass::BadRecord, "{error}");
    error
}

#[tokio::test]
async fn bookkeeping_is_made_once_by_many() -> Result<()> {
    let site = PostgresSite::new("bookkeeping").await?;
    site.execute("DROP SCHEMA _syncline CASCADE").await?;
    let (a, b, c) = tokio::join!(site.target.prepare(), site.target.prepare(), site.target.prepare());
    a.and(b).and(c)?;
    assert_eq!(site.value("SELECT count(*)::text FROM _syncline.layout").await?.as_deref(), Some("1"));
    // An older layout is brought up to date.
    site.execute("DROP TABLE _syncline.tables CASCADE; UPDATE _syncline.layout SET version = 1").await?;
    site.target.prepare().await?;
    assert_eq!(site.value("SELECT count(*)::text FROM _syncline.tables").await?.as_deref(), Some("0"));
    // Up to layout 2 a topic had one table.
    site.execute(
        "INSERT INTO _syncline.tables VALUES ('t', 'public', 'b', 1, '{}', '{}');
         ALTER TABLE _syncline.tables DROP CONSTRAINT tables_pkey, ADD PRIMARY KEY (topic);
         UPDATE _syncline.layout SET version = 2",
    )
    .await?;
    site.target.prepare().await?;
    site.execute("INSERT INTO _syncline.tables VALUES ('t', 'public', 'a', 1, '{}', '{}')").await?;
    assert_eq!(site.value("SELECT version::text FROM _syncline.layout").await?.as_deref(), Some("3"));
    site.execute("UPDATE _syncline.layout SET version = 99").await?;
    let error = site.target.prepare().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Fatal);
    assert!(error.message.contains("upgrade Syncline"), "{error}");
    site.database.remove().await
}

#[tokio::test]
async fn bookkeeping_without_the_privilege_prints_the_sql() -> Result<()> {
    let site = PostgresSite::new("privileges").await?;
    let role = site.database.settings.database.clone();
    site.execute(&format!("DROP SCHEMA _syncline CASCADE; CREATE ROLE {role} LOGIN PASSWORD 'secret'; REVOKE ALL ON DATABASE {role} FROM PUBLIC; GRANT CONNECT ON DATABASE {role} TO {role}")).await?;
    let settings = DatabaseSettings {
        username: role.clone(),
        password: Some(Secret::new("secret".into())),
        ..site.database.settings.clone()
    };
    let target = PostgresTarget::new(settings.clone(), "conformance".into());
    let error = target.prepare().await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Fatal);
    assert!(error.message.contains("CREATE TABLE IF NOT EXISTS _syncline.progress"), "{error}");

    // A DBA made it: no further privilege is asked for.
    site.target.prepare().await?;
    site.execute(&format!("GRANT USAGE ON SCHEMA _syncline TO {role}; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA _syncline TO {role}")).await?;
    target.prepare().await?;
    let mut writer = target.writer().await?;
    writer.progress(&partition(0)).await?;

    // A table that may only be read is refused with the grant, one that may not be made with its DDL.
    site.execute(&format!("CREATE TABLE t (id bigint PRIMARY KEY, name text, note text); GRANT SELECT ON t TO {role}"))
        .await?;
    let error = refusal(&mut *writer, (*conformance::simple()).clone()).await;
    assert!(error.message.contains("GRANT INSERT, UPDATE, DELETE ON \"public\".\"t\""), "{error}");
    site.execute("DROP TABLE t").await?;
    let plan = writer.plan(&conformance::simple()).await?;
    let table = table_batch(&plan, &[Change::Upsert(conformance::row(1, "a", "b"))])?;
    let error = write(&mut *writer, step(0, 0, 1), table).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::BadRecord);
    assert!(error.message.contains("run: CREATE TABLE \"public\".\"t\""), "{error}");

    // Without TRUNCATE a barrier deletes.
    site.execute(&format!("CREATE TABLE t (id bigint PRIMARY KEY, name text, note text); GRANT SELECT, INSERT, UPDATE, DELETE ON t TO {role}; INSERT INTO t VALUES (1)")).await?;
    let plan = writer.plan(&conformance::simple()).await?;
    let clears = vec![Clearing { plan, how: Clear::Delete }];
    let arrivals =
        [Arrival { partition: partition(0), position: at(5), kind: BarrierKind::Truncate, partitions: 1, clears }];
    let batch = Batch { moves: &[step(0, 0, 1)], tables: &[], arrivals: &arrivals, fences: &[] };
    assert_eq!(writer.write(&batch).await?, Written::released(vec![true]));
    assert!(site.rows("public", "t", &["id"]).await?.is_empty());

    let wrong = DatabaseSettings { password: Some(Secret::new("wrong".into())), ..settings };
    if let Err(error) = PostgresTarget::new(wrong, "conformance".into()).prepare().await {
        assert_eq!(error.class, ErrorClass::Fatal);
        assert!(!error.message.contains("wrong"), "{error}");
    }
    site.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await?;
    site.database.remove().await
}

#[tokio::test]
async fn a_missing_table_is_made_as_it_is_in_the_source() -> Result<()> {
    let site = PostgresSite::new("create").await?;
    let mood = ColumnType {
        schema: "app".into(),
        kind: TypeKind::Enum { labels: vec!["sad".into(), "ok".into()] },
        ..column_type("mood", "app.mood")
    };
    let moods = ColumnType {
        schema: "app".into(),
        kind: TypeKind::Array { element: Box::new(mood.clone()) },
        ..column_type("_mood", "app.mood[]")
    };
    let columns = vec![
        Column { identity: Some(Identity::Always), ..int8("id") },
        Column { nullable: false, default_value: Some("it's".into()), ..text("name") },
        Column { generated: Some("id * 2".into()), ..column("twice", column_type("int8", "bigint")) },
        Column { identity: Some(Identity::Always), nullable: false, ..int4("counter") },
        column("mood", mood.clone()),
        column("moods", moods),
    ];
    let first = definition("shop", "orders", columns, vec![0]);
    let mut writer = site.writer().await?;
    let row = |id, mood| {
        let twice = Value::Unknown;
        vec![
            Value::Integer(id),
            Value::Text("n"),
            twice,
            Value::Integer(id * 10),
            Value::Text(mood),
            Value::SourceText("{ok,NULL}"),
        ]
    };
    upsert(&mut *writer, &Arc::new(first.clone()), 0, row(1, "sad")).await?;
    // Overwrites the identity column that is no part of the key.
    upsert(&mut *writer, &Arc::new(first.clone()), 1, {
        let mut row = row(1, "ok");
        row[3] = Value::Integer(77);
        row
    })
    .await?;
    let found = site.rows("shop", "orders", &["id", "name", "twice", "counter", "mood", "moods"]).await?;
    assert_eq!(found, [["1", "n", "2", "77", "ok", "{ok,NULL}"].map(|cell| Some(cell.to_owned()))]);
    let shape = site
        .value("SELECT string_agg(column_name || ' ' || is_nullable || ' ' || coalesce(identity_generation, '') || ' ' || coalesce(column_default, ''), '; ' ORDER BY ordinal_position) FROM information_schema.columns WHERE table_name = 'orders'")
        .await?;
    assert_eq!(
        shape.as_deref(),
        Some("id NO ALWAYS ; name NO  'it''s'::text; twice YES  ; counter NO BY DEFAULT ; mood YES  ; moods YES  ")
    );

    // The enum gets a label in the middle.
    let mut columns = first.columns.clone();
    columns[4].column_type.kind = TypeKind::Enum { labels: vec!["sad".into(), "so so".into(), "ok".into()] };
    columns.truncate(5);
    upsert(&mut *writer, &next(&first, columns), 2, row(2, "so so")[..5].to_vec()).await?;
    let labels = site.value("SELECT enum_range(NULL::app.mood)::text").await?;
    assert_eq!(labels.as_deref(), Some("{sad,\"so so\",ok}"));
    site.database.remove().await
}

#[tokio::test]
async fn columns_come_and_go_in_mid_stream() -> Result<()> {
    let site = PostgresSite::new("evolve").await?;
    let first = definition("public", "t", vec![int8("id"), Column { nullable: false, ..text("old") }], vec![0]);
    let mut writer = site.writer().await?;
    upsert(&mut *writer, &Arc::new(first.clone()), 0, vec![Value::Integer(1), Value::Text("a")]).await?;
    let before = writer.plan(&Arc::new(first.clone())).await?;

    let second = next(
        &first,
        vec![
            int8("id"),
            Column { nullable: false, missing_value: Some("7".into()), default_value: Some("7".into()), ..int4("n") },
            text("note"),
        ],
    );
    // Two lanes meet the new definition at once.
    let mut other = conformance::writer(&site, 3).await?;
    let (plan, same) = (writer.plan(&second).await?, other.plan(&second).await?);
    let row = |id| [Change::Upsert(vec![Value::Integer(id), Value::Integer(5), Value::Null])];
    let (left, right) = tokio::join!(
        write(&mut *writer, step(1, 0, 1), table_batch(&plan, &row(2))?),
        write(&mut *other, step(2, 0, 1), table_batch(&same, &row(3))?)
    );
    assert_eq!((left?, right?), (Written::released(vec![]), Written::released(vec![])));

    // A row from before the change still arrives, and shows what the source shows.
    let late = table_batch(&before, &[Change::Upsert(vec![Value::Integer(4), Value::Text("late")])])?;
    write(&mut *writer, step(0, 1, 2), late).await?;
    let found = site.rows("public", "t", &["id", "old", "n", "note"]).await?;
    let expected = [
        [Some("1"), Some("a"), Some("7"), None],
        [Some("2"), None, Some("5"), None],
        [Some("3"), None, Some("5"), None],
        [Some("4"), Some("late"), Some("7"), None],
    ];
    assert_eq!(found, expected.map(|row| row.map(|cell| cell.map(str::to_owned)).to_vec()));

    for (columns, reason) in [
        (vec![int8("id"), text("n")], "column n has type integer here and text in the source"),
        (vec![int8("id"), Column { nullable: false, ..text("new") }], "takes no NULL"),
        (vec![int8("id"), Column { default: Some("random()".into()), ..text("new") }], "no constant"),
    ] {
        let error = refusal(&mut *writer, (*next(&first, columns)).clone()).await;
        assert!(error.message.contains(reason) && error.message.contains("syncline resync"), "{error}");
    }
    let other_key = TableDefinition { key: vec![1], ..(*next(&first, vec![int8("id"), int8("n")])).clone() };
    assert!(refusal(&mut *writer, other_key).await.message.contains("its primary key is (id)"));
    site.database.remove().await
}

#[tokio::test]
async fn a_column_that_comes_back_is_another_column() -> Result<()> {
    let site = PostgresSite::new("returning").await?;
    let mut writer = site.writer().await?;
    let first = definition("public", "t", vec![int8("id"), text("v")], vec![0]);
    upsert(&mut *writer, &Arc::new(first.clone()), 0, vec![Value::Integer(1), Value::Text("old")]).await?;
    let second = next(&first, vec![int8("id")]);
    upsert(&mut *writer, &second, 1, vec![Value::Integer(2)]).await?;
    // Another lane may still be at the first definition, or plan it anew.
    upsert(&mut *writer, &Arc::new(first.clone()), 2, vec![Value::Integer(3), Value::Text("late")]).await?;

    let third = next(&second, vec![int8("id"), text("v")]);
    let error = refusal(&mut *writer, (*third).clone()).await;
    assert!(error.message.contains("ALTER TABLE \"public\".\"t\" DROP COLUMN \"v\";"), "{error}");
    site.execute("ALTER TABLE t DROP COLUMN v").await?;
    upsert(&mut *writer, &third, 3, vec![Value::Integer(4), Value::Text("new")]).await?;
    upsert(&mut *writer, &third, 4, vec![Value::Integer(5), Value::Text("new")]).await?;
    let found = site.rows("public", "t", &["id", "v"]).await?;
    let expected = [("1", None), ("2", None), ("3", None), ("4", Some("new")), ("5", Some("new"))];
    assert_eq!(found, expected.map(|(id, v)| vec![Some(id.to_owned()), v.map(str::to_owned)]));
    site.database.remove().await
}

#[tokio::test]
async fn tables_that_break_the_promise_are_refused() -> Result<()> {
    let site = PostgresSite::new("refuse").await?;
    let mut writer = site.writer().await?;
    let simple = || (*conformance::simple()).clone();
    for (sql, reason) in [
        ("CREATE TABLE t (id bigint PRIMARY KEY, name text UNIQUE, note text)", "unique index t_name_key"),
        ("CREATE TABLE t (id bigint PRIMARY KEY DEFERRABLE, name text, note text)", "deferrable"),
        ("CREATE TABLE t (id bigint, name text, note text)", "no primary key"),
        (
            "CREATE TABLE p (id bigint PRIMARY KEY); CREATE TABLE t (id bigint PRIMARY KEY REFERENCES p, name text, note text)",
            "foreign key t_id_fkey",
        ),
        (
            "CREATE TABLE t (id bigint PRIMARY KEY, name text, note text); CREATE TABLE p (id bigint REFERENCES t)",
            "foreign key p_id_fkey",
        ),
        ("CREATE VIEW t AS SELECT 1::bigint AS id", "no table"),
        (
            "CREATE TABLE t (id bigint PRIMARY KEY, name text, note text GENERATED ALWAYS AS (name) STORED)",
            "generated here",
        ),
    ] {
        site.execute(sql).await?;
        let error = refusal(&mut *writer, simple()).await;
        assert!(error.message.contains(reason), "{sql}: {error}");
        site.execute("DROP VIEW IF EXISTS p, t").await.or(site.execute("DROP TABLE IF EXISTS p, t CASCADE").await)?;
        site.execute("DROP TABLE IF EXISTS p, t CASCADE").await?;
    }
    // Wider types and a unique index in the key's place are fine, also in a partitioned table.
    site.execute(
        "CREATE TABLE t (id numeric NOT NULL, name varchar, note text NOT NULL DEFAULT '') PARTITION BY HASH (id); \
         CREATE UNIQUE INDEX ON t (id); CREATE TABLE t1 PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
    )
    .await?;
    upsert(&mut *writer, &conformance::simple(), 0, vec![Value::Integer(7), Value::Text("x"), Value::Null]).await?;
    let plan = writer.plan(&conformance::simple()).await?;
    let changes = [
        Change::Delete(vec![Value::Integer(8), Value::Null, Value::Null]),
        Change::Update(vec![Value::Integer(7), Value::Text("y"), Value::Unknown]),
    ];
    write(&mut *writer, step(0, 1, 3), table_batch(&plan, &changes)?).await?;
    assert_eq!(site.rows("public", "t", &["id", "name", "note"]).await?, [[Some("7".into()), Some("y".into()), None]]);
    site.database.remove().await
}

#[tokio::test]
async fn a_row_that_the_server_refuses_stops_its_table_without_showing_the_row() -> Result<()> {
    let site = PostgresSite::new("bad").await?;
    site.execute("CREATE TABLE t (id bigint PRIMARY KEY, name text CONSTRAINT name_is_short CHECK (length(name) < 5), note json)").await?;
    let mut writer = site.writer().await?;
    let json =
        definition("public", "t", vec![int8("id"), text("name"), column("note", column_type("json", "json"))], vec![0]);
    let plan = writer.plan(&Arc::new(json)).await?;
    for (name, note, reason) in [("canary-in-name", "1", "name_is_short"), ("ok", "canary {", "SQLSTATE 22P02")] {
        let row = vec![Value::Integer(1), Value::Text(name), Value::Text(note)];
        let error = write(&mut *writer, step(0, 0, 1), table_batch(&plan, &[Change::Upsert(row)])?).await.unwrap_err();
        assert_eq!((error.class, error.table), (ErrorClass::BadRecord, Some(0)), "{error}");
        assert!(error.message.contains("public.t") && error.message.contains(reason), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
    // The writer goes on.
    let row = vec![Value::Integer(1), Value::Text("ok"), Value::Text("{}")];
    write(&mut *writer, step(0, 0, 1), table_batch(&plan, &[Change::Upsert(row)])?).await?;
    site.database.remove().await
}

#[tokio::test]
async fn a_lost_connection_is_made_again() -> Result<()> {
    let site = PostgresSite::new("lost").await?;
    let mut writer = site.writer().await?;
    let plan = writer.plan(&conformance::simple()).await?;
    let table = || table_batch(&plan, &[Change::Upsert(conformance::row(1, "a", "b"))]);
    site.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'conformance' AND datname = current_database()").await?;
    let error = write(&mut *writer, step(0, 0, 1), table()?).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient, "{error}");
    assert_eq!(write(&mut *writer, step(0, 0, 1), table()?).await?, Written::released(vec![]));
    site.database.remove().await
}

#[tokio::test]
async fn sync_metadata_shows_progress_and_stops() -> Result<()> {
    let site = PostgresSite::new("metadata").await?;
    let mut writer = conformance::writer(&site, 2).await?;
    let plan = writer.plan(&conformance::simple()).await?;
    write(&mut *writer, step(0, 0, 4), table_batch(&plan, &[])?).await?;
    write(&mut *writer, step(1, 0, 6), table_batch(&plan, &[])?).await?;
    let line = "SELECT concat_ws('|', table_name, last_sync_key, records_synced, status, reason) FROM _syncline._sync_metadata";
    assert_eq!(site.value(line).await?.as_deref(), Some("public.t|6|10|running"));
    writer.note_stop(&partition(1), Some("column x is missing")).await?;
    assert_eq!(
        site.value(line).await?.as_deref(),
        Some("public.t|6|10|stopped|shop.public.t/1 at offset 6: column x is missing")
    );
    // A partition that had only met a marker kept the topic for its table, and stood beside the table when it stopped.
    let unnamed = Move { table: partition(0).topic, ..step(0, 4, 5) };
    write(&mut *writer, unnamed, table_batch(&plan, &[])?).await?;
    let names = "SELECT string_agg(table_name, ' ') FROM _syncline._sync_metadata";
    assert_eq!(site.value(names).await?.as_deref(), Some("public.t"));
    site.database.remove().await
}
