//! PostgreSQL as a source: description, preflight, publication, slot and log, against a real server.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use sqlx::{AssertSqlSafe, PgConnection};
use syncline_catalog::connect::{ConnectError, connect};
use syncline_catalog::describe::describe;
use syncline_event::table::{Identity, ReplicaIdentity, TypeKind};
use syncline_event::tuple::TupleCell;
use syncline_integration_tests::database::Database;
use syncline_producer::config::{EventSettings, ProducerConfig, SnapshotMode};
use syncline_producer::error::ProducerError;
use syncline_producer::sources::postgres::copy::CopyRow;
use syncline_producer::sources::postgres::pgoutput::{Message, decode};
use syncline_producer::sources::postgres::preflight::{Ready, preflight};
use syncline_producer::sources::postgres::publication::PublicationPlan;
use syncline_producer::sources::postgres::slot::{self, Slot};
use syncline_producer::sources::postgres::transport::{Incoming, ReplicationSession, ReplicationTransport, SlotKind};
use syncline_runtime::settings::{DatabaseSettings, KafkaSettings, RegistrySettings, Secret, SslMode};

/// The variable with the address of the source server, as its administrator.
const SOURCE: &str = "SOURCE_PG_ADMIN";

async fn run(connection: &mut PgConnection, sql: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.with_context(|| sql.to_owned())?;
    Ok(())
}

fn config(source: &DatabaseSettings, slot: &str, tables: &[&str]) -> ProducerConfig {
    ProducerConfig {
        kafka: KafkaSettings {
            bootstrap_servers: "localhost:1".into(),
            partitions: 1,
            replication_factor: 1,
            properties: std::collections::BTreeMap::new(),
        },
        registry: RegistrySettings { urls: vec!["http://localhost:1".into()], username: None, password: None },
        topic_prefix: "test".into(),
        source: source.clone(),
        slot: slot.into(),
        publication: "Pub licätion".into(),
        tables: tables.iter().map(|&table| table.to_owned()).collect(),
        parallel_tables: 1,
        checkpoint_interval: Duration::from_secs(1),
        snapshot_mode: SnapshotMode::Initial,
        capture_before_values: false,
        chunk_size: 1024,
        signals: syncline_producer::config::SignalSources::default(),
        skip_unsupported_columns: false,
        events: EventSettings::default(),
        heartbeat: None,
        failover: false,
        node: None,
    }
}

/// A slot's name is the server's, not the database's: it has to differ from those of other runs.
fn slot_name(database: &Database) -> String {
    format!("slot_{}", database.settings.database)
}

async fn drop_database(database: Database) -> Result<()> {
    let mut admin = database.connect().await?;
    for _ in 0..50 {
        let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
                     WHERE database = current_database() AND NOT active";
        run(&mut admin, drop).await?;
        let left: i64 =
            sqlx::query_scalar("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()")
                .fetch_one(&mut admin)
                .await?;
        if left == 0 {
            return database.remove().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("a slot stays in use")
}

async fn findings(settings: &DatabaseSettings, config: &ProducerConfig) -> Result<Vec<String>> {
    let mut connection = connect(settings, "test").await?;
    match preflight(&mut connection, config).await {
        Ok(_) => Ok(Vec::new()),
        Err(ProducerError::Preflight(problems)) => Ok(problems),
        Err(other) => Err(other.into()),
    }
}

#[tokio::test]
async fn a_table_is_described_as_it_was_made() -> Result<()> {
    let database = Database::create(SOURCE, "describe").await?;
    let mut admin = connect(&database.settings, "test").await?;
    let types = r#"CREATE SCHEMA "Sch ema"; CREATE TYPE "Sch ema".mood AS ENUM ('sad', 'happy')"#;
    run(&mut admin, types).await?;
    run(&mut admin, r#"ALTER TYPE "Sch ema".mood ADD VALUE 'ok' BEFORE 'happy'"#).await?;
    run(
        &mut admin,
        r#"CREATE DOMAIN "Sch ema".price AS numeric(10,2);
           CREATE DOMAIN "Sch ema".cheap AS "Sch ema".price;
           CREATE TABLE "Sch ema"."Sel""ect" (
               gone int, id int GENERATED ALWAYS AS IDENTITY, k text NOT NULL,
               p "Sch ema".cheap DEFAULT 1.5, m "Sch ema".mood DEFAULT 'ok', a varchar(3)[] DEFAULT '{x,y}',
               at timestamptz(3) DEFAULT '2020-01-01 00:00:00+01', n timestamptz DEFAULT now(),
               flag bool DEFAULT true, c char(5) DEFAULT 'ab', g int GENERATED ALWAYS AS (length(k)) STORED,
               PRIMARY KEY (k, id));
           ALTER TABLE "Sch ema"."Sel""ect" DROP COLUMN gone;
           INSERT INTO "Sch ema"."Sel""ect" (k) VALUES ('x');
           ALTER TABLE "Sch ema"."Sel""ect" ADD late text DEFAULT 'it''s', ADD later int[] DEFAULT '{1,2}';"#,
    )
    .await?;
    let table = describe(&mut admin, "Sch ema", "Sel\"ect").await?.context("no table")?;
    let columns: Vec<_> = table.columns.iter().map(|described| &described.column).collect();
    let by_name = |name: &str| *columns.iter().find(|column| column.name == name).unwrap();

    assert_eq!(
        columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
        ["id", "k", "p", "m", "a", "at", "n", "flag", "c", "g", "late", "later"]
    );
    assert_eq!(table.primary_key, [1, 0]);
    assert_eq!(table.replica_identity, ReplicaIdentity::Default);
    assert_eq!(by_name("id").identity, Some(Identity::Always));
    assert!(!by_name("k").nullable && by_name("p").nullable);
    assert!(by_name("g").generated.as_deref().is_some_and(|g| g.contains("length")) && by_name("g").default.is_none());
    let price = by_name("p");
    assert_eq!(
        (price.column_type.format.as_str(), price.column_type.domain.as_deref()),
        ("numeric(10,2)", Some("Sch ema.cheap"))
    );
    let TypeKind::Enum { labels } = &by_name("m").column_type.kind else { bail!("not an enum") };
    assert_eq!((labels.join(" "), by_name("m").column_type.schema.as_str()), ("sad ok happy".into(), "Sch ema"));
    let TypeKind::Array { element } = &by_name("a").column_type.kind else { bail!("not an array") };
    assert_eq!(element.format, "character varying(3)");
    for (name, value) in [
        ("p", Some("1.50")),
        ("m", Some("ok")),
        ("a", Some("{x,y}")),
        ("at", Some("2019-12-31 23:00:00+00")),
        ("n", None),
        ("flag", Some("t")),
        ("c", Some("ab   ")),
        ("late", Some("it's")),
    ] {
        assert_eq!(by_name(name).default_value.as_deref(), value, "{name}");
    }
    assert_eq!(by_name("late").missing_value.as_deref(), Some("it's"));
    assert_eq!(by_name("later").missing_value.as_deref(), Some("{1,2}"));
    assert_eq!(describe(&mut admin, "public", "nothing").await?, None);
    drop_database(database).await
}

#[tokio::test]
async fn preflight_names_every_obstacle_and_its_remedy() -> Result<()> {
    let database = Database::create(SOURCE, "preflight").await?;
    let mut admin = database.connect().await?;
    let role = format!("role_{}", database.settings.database);
    run(
        &mut admin,
        &format!(
            r#"CREATE ROLE {role} LOGIN PASSWORD 'secret';
               CREATE TABLE no_key (a int);
               CREATE TABLE hidden (id int PRIMARY KEY); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
               CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent);
               CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
               CREATE TABLE late (id int PRIMARY KEY DEFERRABLE);
               CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
               CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (9); ALTER TABLE leaf REPLICA IDENTITY NOTHING;
               CREATE TABLE "a b" (id int PRIMARY KEY); CREATE TABLE "a+b" (id int PRIMARY KEY);
               CREATE TABLE odd (id int PRIMARY KEY, shape circle);
               CREATE TABLE secret (id int PRIMARY KEY);
               GRANT SELECT ON no_key, hidden, parent, nothing, late, root, "a b", "a+b", odd TO {role};"#
        ),
    )
    .await?;
    let settings = DatabaseSettings {
        username: role.clone(),
        password: Some(Secret::new("secret".into())),
        ..database.settings.clone()
    };
    let tables = ["no_key", "hidden", "parent", "nothing", "late", "root", "leaf", "\"a b\"", "a+b", "odd", "secret"];
    let problems = findings(&settings, &config(&settings, &slot_name(&database), &tables)).await?;
    for (about, remedy) in [
        ("may not replicate", "REPLICATION"),
        ("no_key\" has no primary key", "ADD PRIMARY KEY"),
        ("public.hidden has row-level security", "BYPASSRLS"),
        ("public.parent is inherited from", "partitioned"),
        ("nothing\" has REPLICA IDENTITY NOTHING", "REPLICA IDENTITY DEFAULT"),
        ("public.late has a deferrable primary key", "REPLICA IDENTITY FULL"),
        ("partition public.leaf of public.root", "ALTER TABLE \"public\".\"leaf\" REPLICA IDENTITY DEFAULT"),
        ("partition public.leaf is captured through public.root already", "leave one of them out"),
        ("would share the topic test.public.a_b", "leave one of them out"),
        ("table public.odd, column shape", "circle"),
        ("may not read public.secret", "GRANT"),
        ("it does not exist, and role", "CREATE PUBLICATION \"Pub licätion\""),
    ] {
        let found = problems.iter().find(|problem| problem.contains(about));
        assert!(found.is_some_and(|problem| problem.contains(remedy)), "{about:?} in {problems:#?}");
    }
    let missing = findings(&settings, &config(&settings, "s", &["Secret"])).await?;
    assert!(missing.iter().any(|problem| problem.contains("\"Secret\" matches no table")), "{missing:?}");
    let publications: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_publication").fetch_one(&mut admin).await?;
    assert_eq!(publications, 0, "a check changes nothing");
    run(&mut admin, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await?;
    drop_database(database).await
}

#[tokio::test]
async fn before_values_need_full_identity_also_of_partitions() -> Result<()> {
    let database = Database::create(SOURCE, "before").await?;
    let mut admin = database.connect().await?;
    run(
        &mut admin,
        "CREATE TABLE plain (id int PRIMARY KEY);
         CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (9);
         ALTER TABLE root REPLICA IDENTITY FULL;",
    )
    .await?;
    let mut wanted = config(&database.settings, &slot_name(&database), &["plain", "root"]);
    assert_eq!(findings(&database.settings, &wanted).await?, [""; 0]);
    wanted.capture_before_values = true;
    let problems = findings(&database.settings, &wanted).await?;
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("ALTER TABLE \"public\".\"plain\" REPLICA IDENTITY FULL"), "{problems:?}");
    assert!(problems[1].contains("ALTER TABLE \"public\".\"leaf\" REPLICA IDENTITY FULL"), "{problems:?}");
    drop_database(database).await
}

/// Rows that the log delivers until `count` transactions have ended; the end of the last.
async fn follow(session: &mut ReplicationSession, count: usize) -> Result<(Vec<String>, u64)> {
    let (mut rows, mut ended) = (Vec::new(), 0);
    loop {
        let incoming = tokio::time::timeout(Duration::from_secs(20), session.next()).await??;
        match incoming {
            Incoming::Data { bytes, .. } => {
                if let Message::Insert { new, .. } = decode(&bytes)? {
                    rows.push(text(new.cells()));
                }
            }
            Incoming::Commit(commit) => {
                ended += 1;
                if ended == count {
                    return Ok((rows, commit.end_lsn));
                }
            }
            _ => {}
        }
    }
}

fn text<'a>(cells: impl Iterator<Item = TupleCell<'a>>) -> String {
    let cells = cells.map(|cell| match cell {
        TupleCell::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    });
    cells.collect::<Vec<_>>().join("|")
}

/// The slot, once it is as wanted.
async fn slot_once(conn: &mut PgConnection, name: &str, wanted: impl Fn(&Slot) -> bool) -> Result<Slot> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = slot::find(conn, name).await?.context("no slot")?;
        if wanted(&found) {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "the slot stays as it is: {found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn snapshot_and_log_meet_without_gap_or_overlap() -> Result<()> {
    let database = Database::create(SOURCE, "slot").await?;
    let mut admin = connect(&database.settings, "test").await?;
    run(&mut admin, "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, E'a\\tb\\\\'), (2, NULL)")
        .await?;
    let name = slot_name(&database);
    let config = config(&database.settings, &name, &["t"]);

    let Ready { publication, slot, .. } = preflight(&mut admin, &config).await?;
    let PublicationPlan::Change { statements, .. } = publication else { bail!("the publication is there already") };
    assert_eq!(slot, None);
    run(&mut admin, &statements.join(";")).await?;
    assert_eq!(preflight(&mut admin, &config).await?.publication, PublicationPlan::Ready);

    let mut session = ReplicationSession::open(&config.source, &name, &config.publication, 0).await?;
    assert!(!session.identify().await?.system_id.is_empty());
    let created = session.create_slot(true, SlotKind::Kept { failover: false }).await?;
    run(&mut admin, "INSERT INTO t VALUES (3, 'after')").await?;

    let mut reader = connect(&config.source, "test").await?;
    let snapshot = created.snapshot_name.context("no snapshot")?;
    run(&mut reader, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    run(&mut reader, &format!("SET TRANSACTION SNAPSHOT '{snapshot}'")).await?;
    let mut copied = Vec::new();
    {
        let mut rows = reader.copy_out_raw("COPY (SELECT * FROM t ORDER BY id) TO STDOUT").await?;
        let mut parser = CopyRow::default();
        while let Some(row) = rows.next().await {
            copied.push(text(parser.parse(&row?)?));
        }
    }
    assert_eq!(copied, ["1|a\tb\\", "2|Null"]);

    session.start().await?;
    run(&mut admin, "INSERT INTO t VALUES (4, 'more')").await?;
    let (rows, end) = follow(&mut session, 2).await?;
    assert_eq!(rows, ["3|after", "4|more"]);

    // Another session learns who follows the slot.
    let mut second = ReplicationSession::open(&config.source, &name, &config.publication, 0).await?;
    assert!(matches!(second.start().await, Err(ProducerError::SlotInUse { .. })));
    let holder = slot::find(&mut admin, &name).await?.context("no slot")?.holder.context("no holder")?;
    assert!(holder.contains("syncline-producer"), "{holder}");

    session.confirm(end);
    // The position goes out with the next status.
    let found = slot_once(&mut admin, &name, |slot| slot.confirmed_lsn >= end).await?;
    assert!(!found.lost && found.plugin == "pgoutput", "{found:?}");
    session.close().await?;
    slot_once(&mut admin, &name, |slot| slot.holder.is_none()).await?;
    run(&mut admin, "INSERT INTO t VALUES (5, 'last')").await?;
    let mut session = ReplicationSession::open(&config.source, &name, &config.publication, end).await?;
    session.start().await?;
    assert_eq!(follow(&mut session, 1).await?.0, ["5|last"]);
    session.close().await?;
    drop_database(database).await
}

#[tokio::test]
async fn a_session_outlives_a_slow_reader() -> Result<()> {
    let database = Database::create(SOURCE, "slow").await?;
    let mut admin = database.connect().await?;
    // A server that gives up on a silent reader after two seconds.
    let silence = format!("ALTER DATABASE {} SET wal_sender_timeout = '2s'", database.settings.database);
    run(&mut admin, &silence).await?;
    run(&mut admin, "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE PUBLICATION p FOR TABLE t").await?;
    let name = slot_name(&database);
    let mut session = ReplicationSession::open(&database.settings, &name, "p", 0).await?;
    session.create_slot(false, SlotKind::Kept { failover: false }).await?;
    run(&mut admin, "INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g").await?;
    session.start().await?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(follow(&mut session, 1).await?.0.len(), 20_000);
    session.close().await?;
    drop_database(database).await
}

#[tokio::test]
async fn two_producers_cannot_hold_one_lock() -> Result<()> {
    let database = Database::create(SOURCE, "lock").await?;
    let mut first = connect(&database.settings, "first producer").await?;
    let mut second = connect(&database.settings, "second producer").await?;
    assert!(slot::try_lock(&mut first, "s").await?);
    assert!(!slot::try_lock(&mut second, "s").await?);
    let holder = slot::lock_holder(&mut second, "s").await?.context("nobody")?;
    assert!(holder.contains("first producer"), "{holder}");
    assert!(slot::try_lock(&mut second, "another slot").await?);
    drop_database(database).await
}

#[tokio::test]
async fn a_refused_connection_says_what_to_mend() -> Result<()> {
    let database = Database::create(SOURCE, "refused").await?;
    let good = database.settings.clone();
    // The administrator may be let in without a password.
    let wrong_password = DatabaseSettings {
        username: "no_such_role".into(),
        password: Some(Secret::new("Wr0ng".into())),
        ..good.clone()
    };
    let wrong_database = DatabaseSettings { database: "no_such".into(), ..good.clone() };
    let encrypted = DatabaseSettings { ssl: SslMode::Required, ..good.clone() };
    for (settings, expected) in [(wrong_password, "role"), (wrong_database, "database"), (encrypted, "TLS")] {
        let ordinary = connect(&settings, "test").await.err().context("let in")?;
        let Err(ProducerError::Connect(replication)) = ReplicationSession::open(&settings, "s", "p", 0).await else {
            bail!("replication is let in")
        };
        for error in [ordinary, replication] {
            let fits = match &error {
                ConnectError::Refused { .. } => expected == "role",
                ConnectError::UnknownDatabase { .. } => expected == "database",
                ConnectError::Tls { .. } => expected == "TLS",
                _ => false,
            };
            let text = error.to_string();
            assert!(fits && text.contains(&format!("{}:{}", good.host, good.port)), "{expected}: {error:?}");
            assert!(!text.contains("Wr0ng"));
        }
    }
    drop_database(database).await
}
