//! Types of PostgreSQL's own extensions.

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
