//! Names of things on servers, made from the sync's name or checked as they were written.

/// Kafka's limit.
const TOPIC_LENGTH: usize = 249;
/// Leaves room for schema and table.
const PREFIX_LENGTH: usize = 120;
/// PostgreSQL's NAMEDATALEN less the terminator.
const IDENTIFIER_LENGTH: usize = 63;

/// `name` as part of a topic's name.
pub(super) fn topic_prefix_from(name: &str) -> String {
    let legal = |c: char| if is_topic_character(c) { c } else { '_' };
    name.trim().chars().map(legal).take(PREFIX_LENGTH).collect()
}

/// `name` as a replication slot, which is the narrowest of PostgreSQL's names.
pub(super) fn slot_from(name: &str) -> String {
    let lower = name.trim().to_lowercase();
    let legal = |c: char| if is_slot_character(c) { c } else { '_' };
    lower.chars().map(legal).take(IDENTIFIER_LENGTH).collect()
}

/// A slot for one of several databases: the end of a long `name` gives way to the node, which tells the slots apart.
pub(super) fn node_slot_from(name: &str, node: &str) -> String {
    let node = slot_from(node);
    let room = IDENTIFIER_LENGTH.saturating_sub(node.len() + 1);
    let name: String = slot_from(name).chars().take(room).collect();
    if name.is_empty() { node } else { format!("{name}_{node}") }
}

/// What is wrong with a node's name, in words that follow it.
pub(super) fn node_fault(name: &str) -> Option<String> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
        return Some("may hold letters, digits, `_` and `-` only, and at least one".to_owned());
    }
    (name.len() > IDENTIFIER_LENGTH).then(|| format!("may be {IDENTIFIER_LENGTH} characters long at most"))
}

/// What is wrong with a topic prefix, in words that follow it.
pub(super) fn topic_prefix_fault(prefix: &str) -> Option<String> {
    topic_name_fault(prefix, PREFIX_LENGTH)
}

/// What is wrong with a whole topic's name, in words that follow it.
pub(super) fn topic_fault(topic: &str) -> Option<String> {
    topic_name_fault(topic, TOPIC_LENGTH)
}

fn topic_name_fault(name: &str, longest: usize) -> Option<String> {
    if !name.chars().all(is_topic_character) {
        return Some("may hold letters, digits, `.`, `_` and `-` only".to_owned());
    }
    if name.len() > longest {
        return Some(format!("is longer than {longest} characters"));
    }
    if name.starts_with('.') || name.ends_with('.') {
        return Some("must not begin or end with a dot".to_owned());
    }
    None
}

/// What is wrong with a slot's name, in words that follow it.
pub(super) fn slot_fault(slot: &str) -> Option<String> {
    if !slot.chars().all(is_slot_character) {
        return Some("may hold lower-case letters, digits and `_` only, PostgreSQL says".to_owned());
    }
    identifier_fault(slot)
}

/// What is wrong with a name in PostgreSQL, in words that follow it.
pub(super) fn identifier_fault(name: &str) -> Option<String> {
    if name.len() > IDENTIFIER_LENGTH {
        return Some(format!("is longer than {IDENTIFIER_LENGTH} bytes, PostgreSQL's limit"));
    }
    name.contains('\0').then(|| "holds a zero byte".to_owned())
}

fn is_topic_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn is_slot_character(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_legal_everywhere() {
        assert_eq!(topic_prefix_from("Shop → analytics.v2"), "Shop___analytics.v2");
        assert_eq!(slot_from("Shop → analytics.v2"), "shop___analytics_v2");
        for name in ["Über-Größe", "a b", &"x".repeat(500), "İstanbul"] {
            assert_eq!(slot_fault(&slot_from(name)), None, "{name}");
            assert_eq!(topic_prefix_fault(&topic_prefix_from(name)), None, "{name}");
        }
    }

    #[test]
    fn nodes_keep_their_slots_apart_however_long_the_name() {
        assert_eq!(node_slot_from("Shop 1", "EU-1"), "shop_1_eu_1");
        let name = "x".repeat(100);
        for (one, other) in [("eu", "us"), (&"a".repeat(62), &"b".repeat(62)), (&"a".repeat(63), &"b".repeat(63))] {
            let (one, other) = (node_slot_from(&name, one), node_slot_from(&name, other));
            assert!(one != other && slot_fault(&one).is_none(), "{one}");
        }
        assert!(node_fault("eu-1_a").is_none() && node_fault(&"x".repeat(63)).is_none());
        assert!(["", "a b", "a.b", "ü", &"x".repeat(64)].into_iter().all(|name| node_fault(name).is_some()));
    }

    #[test]
    fn what_a_server_would_refuse_is_refused_here() {
        assert!(slot_fault("Shop").is_some() && slot_fault("shop-a").is_some());
        assert!(slot_fault(&"x".repeat(64)).is_some());
        assert!(topic_prefix_fault("a b").is_some() && topic_prefix_fault(".a").is_some());
        assert!(identifier_fault(&"ü".repeat(32)).is_some());
    }
}
