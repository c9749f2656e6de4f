//! What happens to rows and tables.

use crate::case::{Case, Deviation};

/// The first cases, none of which deviates.
pub(crate) const AS_DEBEZIUM: &[Case] = CASES.split_at(3).0;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "row changes",
        tables: &["plain"],
        before: "CREATE TABLE plain (id int PRIMARY KEY, v text, n int NOT NULL DEFAULT 7);
                 INSERT INTO plain VALUES (1, 'one', 1), (2, NULL, 2), (3, 'three', 3)",
        after: &[
            "INSERT INTO plain VALUES (4, 'four', 4)",
            "UPDATE plain SET v = 'vier' WHERE id = 4",
            "UPDATE plain SET v = NULL WHERE id = 4",
            "UPDATE plain SET v = v WHERE id = 1",
            "DELETE FROM plain WHERE id = 3",
            "UPDATE plain SET id = 10 WHERE id = 1",
            "UPDATE plain SET id = id WHERE id = 2",
            "BEGIN; INSERT INTO plain VALUES (20, 'x', 1); UPDATE plain SET v = 'y' WHERE id = 20; \
             UPDATE plain SET id = 21 WHERE id = 20; DELETE FROM plain WHERE id = 21; INSERT INTO plain VALUES (21, 'z'); COMMIT",
            "BEGIN; INSERT INTO plain VALUES (30, 'gone', 1); ROLLBACK",
            "BEGIN; INSERT INTO plain VALUES (31, 'a', 1); SAVEPOINT s; INSERT INTO plain VALUES (32, 'b', 1); \
             ROLLBACK TO s; INSERT INTO plain VALUES (33, 'c', 1); COMMIT",
        ],
        in_step: false,
        deviations: &[],
    },
    Case {
        name: "truncate",
        tables: &["emptied", "emptied_too"],
        before: "CREATE TABLE emptied (id int PRIMARY KEY, v text);
                 CREATE TABLE emptied_too (id int PRIMARY KEY, emptied int REFERENCES emptied);
                 INSERT INTO emptied VALUES (1, 'a'); INSERT INTO emptied_too VALUES (1, 1)",
        after: &[
            "TRUNCATE emptied_too",
            "INSERT INTO emptied_too VALUES (2, 1)",
            "TRUNCATE emptied CASCADE",
            "INSERT INTO emptied VALUES (2, 'b')",
            "BEGIN; TRUNCATE emptied, emptied_too; INSERT INTO emptied VALUES (3, 'c'); COMMIT",
        ],
        in_step: false,
        deviations: &[],
    },
    Case {
        name: "unchanged TOASTed values",
        tables: &["toasted", "toasted_full"],
        before: "CREATE TABLE toasted (id int PRIMARY KEY, n int, big text, doc jsonb, bin bytea, nn text NOT NULL DEFAULT 'd',
                     texts text[], numbers int[], uuids uuid[], longs bigint[], dates date[], num numeric);
                 CREATE TABLE toasted_full (id int PRIMARY KEY, n int, big text, doc jsonb);
                 ALTER TABLE toasted_full REPLICA IDENTITY FULL;
                 ALTER TABLE toasted ALTER big SET STORAGE EXTERNAL, ALTER doc SET STORAGE EXTERNAL, ALTER bin SET STORAGE EXTERNAL,
                     ALTER nn SET STORAGE EXTERNAL, ALTER texts SET STORAGE EXTERNAL, ALTER numbers SET STORAGE EXTERNAL,
                     ALTER uuids SET STORAGE EXTERNAL, ALTER longs SET STORAGE EXTERNAL, ALTER dates SET STORAGE EXTERNAL,
                     ALTER num SET STORAGE EXTERNAL;
                 ALTER TABLE toasted_full ALTER big SET STORAGE EXTERNAL, ALTER doc SET STORAGE EXTERNAL;
                 INSERT INTO toasted SELECT 1, 1, repeat('x', 3000), jsonb_build_object('k', repeat('y', 3000)),
                     decode(repeat('ab', 3000), 'hex'), repeat('z', 3000), array_fill('t'::text, ARRAY[1000]),
                     array_fill(1, ARRAY[1000]), array_fill('00000000-0000-0000-0000-000000000001'::uuid, ARRAY[500]),
                     array_fill(1::bigint, ARRAY[1000]), array_fill('2020-01-01'::date, ARRAY[1000]), repeat('7', 9000)::numeric;
                 INSERT INTO toasted_full SELECT 1, 1, repeat('x', 3000), jsonb_build_object('k', repeat('y', 3000))",
        after: &[
            "UPDATE toasted SET n = 2",
            "UPDATE toasted SET big = 'small'",
            "DELETE FROM toasted",
            "UPDATE toasted_full SET n = 2",
            "UPDATE toasted_full SET id = 3",
            "DELETE FROM toasted_full",
        ],
        in_step: false,
        deviations: &[],
    },
    Case {
        name: "a key that changes beside an unchanged TOASTed value",
        tables: &["rekeyed"],
        before: "CREATE TABLE rekeyed (id int PRIMARY KEY, big text); ALTER TABLE rekeyed ALTER big SET STORAGE EXTERNAL;
                 INSERT INTO rekeyed VALUES (1, repeat('x', 3000))",
        after: &["UPDATE rekeyed SET id = 2"],
        in_step: false,
        // The row under the new key has to be whole: its value is read again.
        deviations: &[Deviation {
            operations: "c",
            column: "big",
            debezium: "\"__debezium_unavailable_value\"",
            ours: "\"xxxxxxxx*",
        }],
    },
    Case {
        name: "keys",
        tables: &["composite", "odd_key", "text_key"],
        before: "CREATE TABLE composite (a int, b text, c numeric(6,0), v text, PRIMARY KEY (b, a, c));
                 CREATE TABLE odd_key (u uuid, t timestamptz, d date, b bytea, n numeric(10,2), f float8, s smallint, l bool, v int,
                     PRIMARY KEY (f, u, t, d, b, n, s, l));
                 CREATE TABLE text_key (k varchar(200) PRIMARY KEY, v int);
                 INSERT INTO composite VALUES (1, 'k', 5, 'v');
                 INSERT INTO odd_key VALUES ('b68a35a7-17ad-35b3-af2a-ae46edb4545a', '2020-01-01 00:00:00.5+01', '1999-12-31', '\\x00ff',
                     0.10, 1e300, -3, true, 1);
                 INSERT INTO text_key VALUES ('', 0), ('\"quoted\" \\ back', 1), ('äöü 😀', 2)",
        after: &[
            "INSERT INTO composite VALUES (2, 'k', 6, 'w')",
            "UPDATE composite SET v = 'x' WHERE a = 2",
            "UPDATE composite SET c = 7 WHERE a = 2",
            "DELETE FROM composite WHERE a = 1",
            "UPDATE odd_key SET v = 2",
            "UPDATE odd_key SET n = 0.0000001, f = 1.25e-5, l = false",
            "UPDATE odd_key SET n = 12345678.90, f = 100, t = 'infinity'",
            "DELETE FROM odd_key",
            "UPDATE text_key SET k = 'moved ' || k",
            "UPDATE text_key SET k = E'tab\\there' WHERE v = 0",
            "DELETE FROM text_key",
        ],
        in_step: false,
        deviations: &[],
    },
    Case {
        name: "replica identities",
        tables: &["identity_full"],
        before: "CREATE TABLE identity_full (id int PRIMARY KEY, a text, b int NOT NULL, c int DEFAULT 3);
                 ALTER TABLE identity_full REPLICA IDENTITY FULL;
                 INSERT INTO identity_full VALUES (1, 'a', 1), (2, NULL, 2)",
        after: &[
            "UPDATE identity_full SET a = 'b' WHERE id = 1",
            "UPDATE identity_full SET a = NULL WHERE id = 1",
            "UPDATE identity_full SET id = 5 WHERE id = 1",
            "DELETE FROM identity_full WHERE id = 2",
            "DELETE FROM identity_full",
        ],
        in_step: false,
        deviations: &[],
    },
    Case {
        name: "an index as identity, and comments",
        tables: &["by_index"],
        before: "CREATE TABLE by_index (a int NOT NULL, b text NOT NULL, v text, w int DEFAULT 3);
                 CREATE UNIQUE INDEX by_index_b ON by_index (b); ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_b;
                 COMMENT ON TABLE by_index IS 'a table'; COMMENT ON COLUMN by_index.v IS 'a column';
                 INSERT INTO by_index VALUES (1, 'one', 'v'), (2, 'two', NULL)",
        after: &[
            "UPDATE by_index SET v = 'w' WHERE b = 'one'",
            "UPDATE by_index SET b = 'eins' WHERE b = 'one'",
            "DELETE FROM by_index WHERE b = 'two'",
        ],
        in_step: false,
        deviations: &[],
    },
    Case {
        name: "odd identifiers",
        tables: &[r#""Sch ema"."Select from""#, r#""größe.x"."täble-1st""#],
        before: r#"CREATE SCHEMA "Sch ema"; CREATE SCHEMA "größe.x";
                 CREATE TABLE "Sch ema"."Select from" ("Id" int PRIMARY KEY, "a b" text, "1st" int, "x.y" int, "süß" text);
                 CREATE TABLE "größe.x"."täble-1st" ("the key" int PRIMARY KEY, "order" text);
                 INSERT INTO "Sch ema"."Select from" VALUES (1, 'a', 2, 3, 'b');
                 INSERT INTO "größe.x"."täble-1st" VALUES (1, 'x')"#,
        after: &[
            r#"UPDATE "Sch ema"."Select from" SET "x.y" = 5"#,
            r#"UPDATE "Sch ema"."Select from" SET "Id" = 5"#,
            r#"DELETE FROM "Sch ema"."Select from""#,
            r#"UPDATE "größe.x"."täble-1st" SET "the key" = 5"#,
        ],
        in_step: false,
        deviations: &[],
    },
    Case {
        name: "partitions",
        tables: &["root"],
        before: "CREATE TABLE root (id int, at date, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
                 CREATE TABLE leaf_a PARTITION OF root FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
                 CREATE TABLE leaf_b (v text, at date NOT NULL, id int NOT NULL);
                 ALTER TABLE root ATTACH PARTITION leaf_b FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
                 INSERT INTO root VALUES (1, '2020-05-05', 'a'), (2, '2021-05-05', 'b')",
        after: &[
            "INSERT INTO root VALUES (3, '2021-06-06', 'c')",
            "UPDATE root SET v = 'd' WHERE id = 1",
            "UPDATE root SET at = '2021-07-07' WHERE id = 1",
            "DELETE FROM root WHERE id = 2",
            "CREATE TABLE leaf_c PARTITION OF root FOR VALUES FROM ('2022-01-01') TO ('2023-01-01')",
            "INSERT INTO root VALUES (4, '2022-06-06', 'e')",
        ],
        in_step: false,
        deviations: &[],
    },
    Case {
        name: "a table altered in mid-stream",
        tables: &["evolving"],
        before: "CREATE TABLE evolving (id int PRIMARY KEY, v text); INSERT INTO evolving VALUES (1, 'a')",
        after: &[
            "INSERT INTO evolving VALUES (2, 'b')",
            "ALTER TABLE evolving ADD extra int DEFAULT 5",
            "INSERT INTO evolving VALUES (3, 'c', 6)",
            "UPDATE evolving SET v = 'aa' WHERE id = 1",
            "ALTER TABLE evolving ADD needed text NOT NULL DEFAULT 'x'",
            "INSERT INTO evolving VALUES (4, 'd', 7, 'y')",
            "ALTER TABLE evolving ALTER extra TYPE bigint",
            "INSERT INTO evolving VALUES (5, 'e', 8, 'y')",
            "ALTER TABLE evolving RENAME needed TO renamed",
            "INSERT INTO evolving VALUES (6, 'f', 8, 'y')",
            "ALTER TABLE evolving DROP v",
            "INSERT INTO evolving VALUES (7, 8, 'y')",
            "DELETE FROM evolving WHERE id = 1",
        ],
        in_step: true,
        deviations: &[],
    },
];
