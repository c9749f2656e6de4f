use super::*;
use crate::place::Passages;
use crate::tracker::AckTracker;
use proptest::prelude::*;
use syncline_event::stamp::AppliedProgress;

const TABLES: [&str; 2] = ["public.a", "public.b"];

fn settings() -> NodeSettings {
    NodeSettings { topology: "shop".into(), name: "hq".into(), priority: 3 }
}

fn node(checkpoint: &NodeCheckpoint) -> Node {
    Node::new(&settings(), checkpoint, TABLES.iter().map(|&table| table.to_owned()))
}

fn fresh() -> Node {
    node(&NodeCheckpoint::new(&settings()))
}

fn applied(topology: &str, clock_us: u64, progress: &[(usize, u32, u64)]) -> Vec<u8> {
    let progress = progress.iter().map(|(table, partition, next_offset)| AppliedProgress {
        origin: "eu".into(),
        table: TABLES[*table].into(),
        partition: *partition,
        next_offset: *next_offset,
        held_from: None,
        crowded: false,
    });
    let applied =
        Applied { topology: topology.into(), clock_us, counter: 5, progress: progress.collect(), held: Vec::new() };
    serde_json::to_vec(&applied).unwrap()
}

fn message<'a>(prefix: &'a str, transactional: bool, content: &'a [u8]) -> Logical<'a> {
    Logical { transactional, lsn: 0x10, prefix, content }
}

/// A piece of the log. Transactions are placed by their commit records.
#[derive(Debug, Clone)]
enum Piece {
    Transaction { at: u64, end: u64, commit_us: i64, content: Option<Vec<u8>>, rows: Vec<usize> },
    Fence { at: u64, content: Vec<u8> },
    KeepAlive { wal_end: u64 },
}

/// What a piece published: the stamps of its rows.
fn take(node: &mut Node, piece: &Piece) -> Vec<Stamped> {
    match piece {
        Piece::Transaction { commit_us, content, rows, at, .. } => {
            node.begin();
            if let Some(content) = content {
                assert_eq!(node.message(&message(APPLIED_PREFIX, true, content), 0).unwrap(), None);
            }
            let xid = u32::try_from(*at).unwrap();
            let stamps = rows.iter().filter_map(|table| {
                let time = node.change(*commit_us)?;
                Some(node.stamped(*table, time, xid, || None).clone())
            });
            stamps.collect()
        }
        Piece::Fence { content, .. } => {
            assert!(node.message(&message(FENCE_PREFIX, false, content), 0).unwrap().is_some());
            Vec::new()
        }
        Piece::KeepAlive { .. } => Vec::new(),
    }
}

/// The log that some numbers stand for.
fn log(seeds: &[(u8, u8, u8)]) -> Vec<Piece> {
    let mut end = 8_u64;
    let mut pieces = Vec::new();
    for (kind, a, b) in seeds {
        let (a, b) = (u64::from(*a), u64::from(*b));
        let at = end + 8;
        let rows: Vec<usize> = (0..a % 4).map(|row| usize::try_from((row + b) % 2).unwrap()).collect();
        // The database's clock goes back now and then, and other nodes' clocks run ahead.
        let commit_us = i64::try_from(1_000 + end * 3).unwrap() - i64::from(*kind) * 4;
        match kind % 5 {
            0 | 1 => pieces.push(Piece::Transaction { at, end: at + 16, commit_us, content: None, rows }),
            2 => {
                let topology = if b.is_multiple_of(5) { "another" } else { "shop" };
                let content = applied(topology, 1_000 + end * 3 + a * 2, &[(usize::from(b > 99), 1, b)]);
                pieces.push(Piece::Transaction { at, end: at + 16, commit_us, content: Some(content), rows });
            }
            3 => {
                let (topology, tables) = ("shop".to_owned(), vec![TABLES[0].to_owned()]);
                let fence = Fence { topology, id: a, tables, clock_us: 1_000 + end * 3 + b, counter: 1 };
                pieces.push(Piece::Fence { at, content: serde_json::to_vec(&fence).unwrap() });
            }
            // Where the server stands, or stood a while ago.
            _ => pieces.push(Piece::KeepAlive { wal_end: if b > 99 { end } else { end.saturating_sub(a) } }),
        }
        end = match pieces.last() {
            Some(Piece::Transaction { end, .. }) => *end,
            Some(Piece::Fence { at, .. }) => at + 8,
            _ => end,
        };
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    /// Whenever records are acknowledged, and in whatever order, the checkpoint that comes of it repeats what follows.
    #[test]
    fn a_replay_from_any_checkpoint_gives_the_same_stamps(
        seeds in proptest::collection::vec(any::<(u8, u8, u8)>(), 1..60),
        acks in proptest::collection::vec(any::<u16>(), 60),
    ) {
        let log = log(&seeds);
        let mut node = fresh();
        let (mut tracker, mut passages, mut open) = (AckTracker::default(), Passages::starting_at(8), Vec::new());
        let (mut published, mut numbers) = (Vec::new(), Vec::new());
        let mut checkpoints = vec![(8, NodeCheckpoint::new(&settings()), 0)];
        for (piece, ack) in log.iter().zip(acks) {
            let stamps = take(&mut node, piece);
            let records = if matches!(piece, Piece::Fence { .. }) { 2 } else { stamps.len() };
            published.push(stamps);
            open.extend((0..records).map(|_| tracker.enqueue()));
            numbers.push(tracker.next());
            match piece {
                Piece::Transaction { end, .. } => passages.push(tracker.next(), *end, Some(node.mark())),
                Piece::KeepAlive { wal_end } => passages.push(tracker.next(), *wal_end, Some(node.mark())),
                Piece::Fence { .. } => {}
            }
            for _ in 0..ack % 4 {
                if !open.is_empty() {
                    tracker.acknowledge(open.swap_remove(usize::from(ack) % open.len()));
                }
            }
            if let Some((lsn, mark)) = passages.reach(tracker.prefix()) {
                let mut checkpoint = NodeCheckpoint::new(&settings());
                checkpoint.note(&mark.unwrap());
                let text = serde_json::to_string(&checkpoint).unwrap();
                checkpoints.push((lsn, serde_json::from_str(&text).unwrap(), tracker.prefix()));
            }
        }
        for (lsn, checkpoint, prefix) in checkpoints {
            let mut again = super::tests::node(&checkpoint);
            for (index, piece) in log.iter().enumerate() {
                let (Piece::Transaction { at, .. } | Piece::Fence { at, .. }) = piece else { continue };
                if *at >= lsn {
                    prop_assert_eq!(&take(&mut again, piece), &published[index]);
                } else {
                    prop_assert!(numbers[index] <= prefix, "a checkpoint passes what is not acknowledged");
                }
            }
            prop_assert_eq!(again.mark(), node.mark());
        }
    }
}

#[test]
fn a_change_is_later_than_what_was_applied_and_knows_it() {
    let mut node = fresh();
    node.begin();
    let content = applied("shop", 9_000, &[(0, 2, 7)]);
    node.message(&message(APPLIED_PREFIX, true, &content), 0).unwrap();
    assert_eq!(node.change(100), None);
    node.begin();
    let time = node.change(200).unwrap();
    assert_eq!(time, (9_000, 6));
    let stamped = node.stamped(0, time, 77, || None).clone();
    assert!(stamped.transaction == 77 && stamped.stamp.origin == "hq");
    assert!(stamped.seen.includes("eu", 2, 6) && !stamped.seen.includes("eu", 2, 7));
    assert_eq!(node.stamped(1, time, 77, || None).seen, Seen::default(), "of another table");
}

#[test]
fn a_transaction_tells_of_each_table_before_its_rows() {
    let mut node = fresh();
    node.begin();
    node.message(&message(APPLIED_PREFIX, true, &applied("shop", 100, &[(0, 0, 7)])), 0).unwrap();
    assert_eq!(node.change(100), None);
    node.message(&message(APPLIED_PREFIX, true, &applied("shop", 9_000, &[(1, 0, 8)])), 1).unwrap();
    assert_eq!(node.change(100), None);
    node.begin();
    let time = node.change(200).unwrap();
    assert_eq!(time, (9_000, 6));
    for (table, next) in [(0, 7), (1, 8)] {
        let seen = &node.stamped(table, time, 77, || None).seen;
        assert!(seen.includes("eu", 0, next - 1) && !seen.includes("eu", 0, next), "{table}: {seen:?}");
    }
}

#[test]
fn a_marker_has_seen_nothing_while_older_rows_may_come_behind_it() {
    let mut node = fresh();
    node.begin();
    node.message(&message(APPLIED_PREFIX, true, &applied("shop", 9_000, &[(0, 0, 7)])), 0).unwrap();
    let marker = node.marker(0, false);
    assert!(marker.stamp.clock_us >= 9_000 && marker.seen.includes("eu", 0, 6));
    assert_eq!(node.marker(0, true), Stamped { seen: Seen::default(), ..marker });
}

#[test]
fn what_other_syncs_apply_and_what_comes_late_is_captured() {
    let mut node = fresh();
    for (topology, rows) in [("another", 0), ("shop", 1)] {
        node.begin();
        node.message(&message(APPLIED_PREFIX, true, &applied(topology, 9_000, &[(0, 0, 1)])), rows).unwrap();
        assert!(node.change(100).is_some_and(|(clock_us, _)| clock_us == 100));
    }
    assert!(node.mark().seen.is_empty());
}

#[test]
fn messages_that_nobody_of_ours_wrote_stop() {
    let good = applied("shop", 1, &[]);
    let far = applied("shop", 1, &[(0, u32::MAX, 1)]);
    for (prefix, transactional, content) in [
        (APPLIED_PREFIX, true, &b"secret"[..]),
        (APPLIED_PREFIX, true, br#"{"topology":"shop"}"#),
        (APPLIED_PREFIX, false, &good),
        (APPLIED_PREFIX, true, &far),
        (FENCE_PREFIX, false, br#"{"topology":"shop","id":"secret"}"#),
    ] {
        let error = fresh().message(&message(prefix, transactional, content), 0).unwrap_err().to_string();
        assert!(error.contains(prefix) && error.contains("0/10") && !error.contains("secret"), "{error}");
    }
    let others = br#"{"topology":"another"}"#;
    assert_eq!(fresh().message(&message(FENCE_PREFIX, true, others), 0).unwrap(), None);
    assert_eq!(fresh().message(&message("audit", true, b"anything"), 0).unwrap(), None);
}
