//! Types of PostgreSQL's own extensions, and of those that a server may lack.

use crate::case::{Case, Deviation};

pub(crate) const CASES: &[Case] = &[Case {
    name: "extension types",
    tables: &["extended"],
    before: r#"CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION isn;
             CREATE TABLE extended (id int PRIMARY KEY, h hstore, hn hstore NOT NULL DEFAULT 'a=>1', c citext, cn citext NOT NULL DEFAULT 'X',
                 l ltree, hs hstore[], cs citext[], ls ltree[], big hstore, i isbn);
             ALTER TABLE extended ALTER big SET STORAGE EXTERNAL;
             INSERT INTO extended VALUES
                 (1, '"a"=>"1", "b"=>NULL, "c d"=>"quote \" and \\ back", "ü"=>"€"', '', 'MiXed', '', 'a.b.c', ARRAY['a=>1', NULL]::hstore[],
                     ARRAY['A', NULL]::citext[], ARRAY['a.b', NULL]::ltree[], NULL, '0-306-40615-2'),
                 (2, NULL, 'zebra=>1, apple=>2, mango=>3, kiwi=>NULL, fig=>"", pear=>6', NULL, 'y', NULL, NULL, NULL, NULL,
                     hstore('k', repeat('v', 3000)), NULL)"#,
    after: &[
        "INSERT INTO extended (id, h) SELECT 3, hstore(array_agg('key ' || i), array_agg(i::text)) FROM generate_series(1, 40) i",
        "UPDATE extended SET c = 'other' WHERE id = 2",
        "UPDATE extended SET h = 'x=>y' WHERE id = 1",
        "DELETE FROM extended WHERE id = 1",
    ],
    in_step: false,
    // Debezium has no reader for the elements.
    deviations: &[Deviation { operations: "ru", column: "ls", debezium: "null", ours: "[\"a.b\", null]" }],
}];

/// Types of an extension that a server may lack.
pub(crate) struct Lacking {
    /// The extension.
    pub(crate) extension: &'static str,
    /// The first is the same as Debezium's, in JSON too.
    pub(crate) cases: &'static [Case],
}

pub(crate) const LACKING: [Lacking; 2] =
    [Lacking { extension: "postgis", cases: POSTGIS }, Lacking { extension: "vector", cases: PGVECTOR }];

const POSTGIS: &[Case] = &[Case {
    name: "postgis",
    tables: &["spatial"],
    before: r#"CREATE EXTENSION postgis;
             CREATE TABLE spatial (id int PRIMARY KEY, g geometry, gn geometry NOT NULL, p geometry(Point,4326) DEFAULT 'SRID=4326;POINT(1 2)',
                 o geography, oh geography NOT NULL, gs geometry[], os geography[], gh geometry[] NOT NULL, big geometry, bign geometry NOT NULL);
             ALTER TABLE spatial ALTER big SET STORAGE EXTERNAL;
             ALTER TABLE spatial ALTER bign SET STORAGE EXTERNAL;
             INSERT INTO spatial SELECT 1, 'POINT(1 2)', 'SRID=3187;POINT(174.9479 -36.7208)', 'SRID=4326;POINT(-0.1 1e300)',
                 'LINESTRING(1 2,3 4)', 'POINT EMPTY', ARRAY['POINT(1 2)', NULL, 'SRID=4326;POINT Z (3 4 5)']::geometry[],
                 ARRAY['POINT(1 2)', NULL]::geography[], '{}', big, big FROM
                 (SELECT ST_MakeLine(array_agg(ST_MakePoint(i, i * i))) AS big FROM generate_series(1, 400) i) made;
             INSERT INTO spatial VALUES (2, NULL, 'GEOMETRYCOLLECTION EMPTY', NULL, NULL, 'SRID=4326;POLYGON((0 0,0 1,1 1,0 0))',
                 NULL, NULL, ARRAY['SRID=1;MULTIPOINT M (0 0 1)'::geometry], NULL, 'POINT(0 0)')"#,
    after: &[
        "INSERT INTO spatial (id, gn, oh, gh, bign) VALUES (3, 'CIRCULARSTRING(0 0,1 1,2 0)', 'POINT(1 2)', '{}', 'POINT(1 1)')",
        "UPDATE spatial SET g = 'SRID=3857;TIN(((0 0 0,0 0 1,0 1 0,0 0 0)))' WHERE id = 1",
        "UPDATE spatial SET gs = '{}' WHERE id = 2",
        "DELETE FROM spatial WHERE id = 1",
    ],
    in_step: false,
    deviations: &[],
}];

const PGVECTOR: &[Case] = &[
    Case {
        name: "pgvector",
        tables: &["embedded", "sparse"],
        before: r#"CREATE EXTENSION vector;
             CREATE TABLE embedded (id int PRIMARY KEY, v vector, vn vector(2) NOT NULL DEFAULT '[1,2]', h halfvec(3), hn halfvec NOT NULL,
                 s sparsevec, sd sparsevec(3) DEFAULT '{1:1}/3', vs vector[], hs halfvec[], vsn vector[] NOT NULL DEFAULT '{}');
             INSERT INTO embedded VALUES
                 (1, '[1,2.5,-3e-10]', '[0.1,1e20]', '[65504,-0.1,1e-7]', '[0]', '{1:0.1,3:2,5:-3.5}/5', NULL, ARRAY['[1,2]', '[3]']::vector[],
                     ARRAY['[1,2]']::halfvec[], '{}'),
                 (2, NULL, '[0,0]', NULL, '[1]', '{}/7', '{2:1}/3', ARRAY['[1,2]', NULL]::vector[], ARRAY[NULL]::halfvec[], ARRAY['[1]']::vector[]),
                 (3, NULL, '[0,0]', NULL, '[1]', '{1:1e-7,2:1}/40000', NULL, '{}', '{}', '{}');
             CREATE TABLE sparse (id int PRIMARY KEY, s sparsevec NOT NULL);
             ALTER TABLE sparse REPLICA IDENTITY FULL;
             INSERT INTO sparse SELECT n, ('{' || string_agg(i || ':' || i * 0.5, ',' ORDER BY i) || '}/32767')::sparsevec
                 FROM generate_series(1, 60) n, LATERAL (SELECT 1 + k * (2 * n + 1) * 4 AS i FROM generate_series(0, n - 1) k) made GROUP BY n;
             INSERT INTO sparse SELECT 100 + n, ('{' || string_agg(i || ':1', ',' ORDER BY i) || '}/32767')::sparsevec
                 FROM generate_series(8, 14) n, LATERAL (SELECT 1 + k * 16 AS i FROM generate_series(0, n - 1) k) made GROUP BY n"#,
        after: &[
            "INSERT INTO embedded (id, hn, s) VALUES (4, '[0.5]', '{32767:1}/32767')",
            "UPDATE embedded SET v = '[1]' WHERE id = 1",
            "DELETE FROM embedded WHERE id = 1",
            "UPDATE sparse SET s = '{5:1,4:2}/5' WHERE id = 1",
            "DELETE FROM sparse WHERE id < 9",
        ],
        in_step: false,
        deviations: &[],
    },
    Case {
        name: "arrays of sparsevec",
        tables: &["sparses"],
        before: r#"CREATE TABLE sparses (id int PRIMARY KEY, ss sparsevec[], sn sparsevec[] NOT NULL);
                 INSERT INTO sparses VALUES (1, ARRAY['{1:0.5}/2', '{}/3']::sparsevec[], '{}'), (2, '{}', '{}'), (3, NULL, '{}')"#,
        after: &["INSERT INTO sparses SELECT id + 10, ss, sn FROM sparses"],
        in_step: false,
        // Debezium has no reader for the elements.
        deviations: &[Deviation { operations: "rc", column: "ss", debezium: "null", ours: "[{*" }],
    },
];
