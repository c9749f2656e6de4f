//! The decoder against messages that a server wrote.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, as tests may")]

use std::fmt::Write as _;

use syncline_event::tuple::TupleCell;
use syncline_producer::sources::postgres::pgoutput::{Message, OldTuple, Tuple, decode};

const RECORDED: &str = include_str!("fixtures/pgoutput_v1.txt");

fn messages() -> Vec<Vec<u8>> {
    let from_hex = |line: &str| {
        let digits = line.as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    };
    RECORDED.lines().filter(|line| !line.starts_with('#')).map(from_hex).collect()
}

fn row(tuple: Tuple<'_>) -> String {
    let mut text = String::new();
    for cell in tuple.cells() {
        match cell {
            TupleCell::Null => text.push_str("|null"),
            TupleCell::Unchanged => text.push_str("|unchanged"),
            TupleCell::Text(bytes) if bytes.len() > 100 => write!(text, "|{} bytes", bytes.len()).unwrap(),
            TupleCell::Text(bytes) => write!(text, "|{}", std::str::from_utf8(bytes).unwrap()).unwrap(),
        }
    }
    text
}

fn old(tuple: OldTuple<'_>) -> String {
    match tuple {
        OldTuple::Key(tuple) => format!("key{}", row(tuple)),
        OldTuple::Full(tuple) => format!("full{}", row(tuple)),
    }
}

/// A line a message, without what differs from server to server.
fn summary(message: &Message<'_>) -> String {
    match message {
        Message::Begin(_) => "begin".into(),
        Message::Commit(_) => "commit".into(),
        Message::Origin => "origin".into(),
        Message::Type => "type".into(),
        Message::Logical(message) => format!("message {} of {} bytes", message.prefix, message.content.len()),
        Message::Relation(relation) => {
            let columns = relation.columns.iter().map(|column| {
                let mark = if column.in_identity { "*" } else { "" };
                format!("{}{mark}({})", column.name, column.type_modifier)
            });
            let identity = char::from(relation.replica_identity);
            let columns = columns.collect::<Vec<_>>().join(" ");
            format!("relation {}.{} {identity}: {columns}", relation.namespace, relation.name)
        }
        Message::Insert { new, .. } => format!("insert {}", row(*new)),
        Message::Update { old: before, new, .. } => {
            format!("update {} -> {}", before.map(old).unwrap_or_default(), row(*new))
        }
        Message::Delete { old: before, .. } => format!("delete {}", old(*before)),
        Message::Truncate(truncate) => format!("truncate of {}", truncate.relations().count()),
    }
}

#[test]
fn every_kind_of_message_reads_as_it_was_made() {
    let recorded = messages();
    let read: Vec<String> = recorded.iter().map(|bytes| summary(&decode(bytes).unwrap())).collect();
    let fixture = "relation public.fixture d: id*(-1) name(-1) big(-1) feeling(-1)";
    let full = "relation public.Fixture full f: id*(-1) v*(393222)";
    assert_eq!(
        read,
        [
            "begin",
            "type",
            fixture,
            "insert |1|tab\tand é|3000 bytes|happy",
            "insert |2|null||null",
            "update  -> |1|kept|unchanged|happy",
            "update key|1|null|null|null -> |10|kept|unchanged|happy",
            "delete key|2|null|null|null",
            full,
            "insert |1|1.50",
            "update full|1|1.50 -> |1|2.00",
            "delete full|1|2.00",
            "message fixture of 5 bytes",
            "commit",
            "begin",
            "type",
            fixture,
            full,
            "truncate of 2",
            "commit",
            "begin",
            "type",
            "relation public.fixture d: id*(-1) big(-1) feeling(-1)",
            "insert |3|b|sad",
            "commit",
        ]
    );
}

#[test]
fn a_transaction_has_one_place_and_time() {
    let recorded = messages();
    let (Ok(Message::Begin(begin)), Ok(Message::Commit(commit))) = (decode(&recorded[0]), decode(&recorded[13])) else {
        panic!("not a transaction")
    };
    assert_eq!(begin.final_lsn, commit.commit_lsn);
    assert!(commit.end_lsn > commit.commit_lsn);
    // 2026-11-21, in microseconds since 1970.
    assert_eq!(begin.commit_us / 86_400_000_000, 20_778);
}

#[test]
fn every_cut_is_refused() {
    for bytes in messages() {
        let whole = decode(&bytes).unwrap();
        // Kinds that carry no row are not read to their end.
        if matches!(whole, Message::Type | Message::Origin) {
            continue;
        }
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "{whole:?} cut to {end} bytes");
        }
    }
}
