//! What of a file a process runs: one database's two sides or one of them, or those of several nodes.

use syncline_consumer::config::ConsumerConfig;
use syncline_producer::config::ProducerConfig;
use syncline_runtime::config::nearest;

use crate::config::{MappingsFile, Node, Sides, SyncConfig};
use crate::failure::Failure;

/// All that a process runs.
pub(crate) struct Parts {
    /// One, or one for each node.
    pub(crate) list: Vec<Part>,
    /// Which rows go where.
    pub(crate) mappings: MappingsFile,
}

/// A producer, a consumer, or both.
pub(crate) struct Part {
    /// The node's name, in a topology.
    pub(crate) node: Option<String>,
    /// At least one of the two is there.
    pub(crate) producer: Option<ProducerConfig>,
    /// See `producer`.
    pub(crate) consumer: Option<ConsumerConfig>,
}

/// The parts that run of a file that was loaded for these sides and this node.
///
/// # Errors
/// The file has nothing for the verb, or the node does not fit the file.
pub(crate) fn to_run(config: SyncConfig, sides: Sides, node: Option<&str>) -> Result<Parts, Failure> {
    let missing = |verb: &str, section: &str, other: &str| {
        Failure::Usage(format!(
            "`syncline {verb}` needs `{section}` in the sync file; without it there is `syncline {other}`"
        ))
    };
    let (captures, applies) = (config.producer.is_some(), config.consumer.is_some());
    match sides {
        _ if !config.nodes.is_empty() => {}
        Sides::Both if !captures => return Err(missing("run", "source", "consume")),
        Sides::Both if !applies => return Err(missing("run", "target", "produce")),
        Sides::Producer if !captures => return Err(missing("produce", "source", "consume")),
        Sides::Consumer if !applies => return Err(missing("consume", "target", "produce")),
        Sides::Both | Sides::Producer | Sides::Consumer => {}
    }
    match (sides, config.nodes.as_slice()) {
        (Sides::Both, _) | (_, []) => {}
        (Sides::Producer | Sides::Consumer, nodes @ [first, ..]) if node.is_none() => {
            let verb = if sides == Sides::Producer { "produce" } else { "consume" };
            return Err(Failure::Usage(format!(
                "the sync file describes a topology, of which `syncline {verb}` runs one node: add --node and one of {}, for \
                 example `syncline {verb} --node {}`",
                names(nodes),
                first.name
            )));
        }
        (Sides::Producer | Sides::Consumer, _) => {}
    }
    to_check(config, node)
}

/// The parts of a file that was loaded for both sides and this node, whichever it has.
///
/// # Errors
/// The node does not fit the file.
pub(crate) fn to_check(config: SyncConfig, node: Option<&str>) -> Result<Parts, Failure> {
    let SyncConfig { producer, consumer, nodes, mappings } = config;
    if let Some(wanted) = node.filter(|wanted| !nodes.iter().any(|node| node.name == *wanted)) {
        let text = match nearest(wanted, nodes.iter().map(|node| node.name.as_str())) {
            Some(near) => format!("is none of the file's `nodes`: did you mean {near}?"),
            None if nodes.is_empty() => "the sync file has no `nodes`: leave it out".to_owned(),
            None => format!("is none of the file's `nodes`, which are {}", names(&nodes)),
        };
        return Err(Failure::Usage(format!("--node {wanted}: {text}")));
    }
    let list = if nodes.is_empty() {
        vec![Part { node: None, producer, consumer }]
    } else {
        let taken = nodes.into_iter().filter(|node| node.producer.is_some() || node.consumer.is_some());
        taken.map(|Node { name, producer, consumer }| Part { node: Some(name), producer, consumer }).collect()
    };
    Ok(Parts { list, mappings })
}

fn names(nodes: &[Node]) -> String {
    nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn topology() -> SyncConfig {
        let nodes = ["hq", "eu"].map(|name| Node { name: name.to_owned(), producer: None, consumer: None });
        let mappings = MappingsFile { file: "sync.yaml".into(), mappings: Arc::default(), names: Arc::default() };
        SyncConfig { producer: None, consumer: None, nodes: nodes.into(), mappings }
    }

    #[test]
    fn a_verb_says_which_node_it_needs() {
        let refused = |config, sides, node| to_run(config, sides, node).map(|_| ()).unwrap_err().message();
        let message = refused(topology(), Sides::Producer, None);
        assert!(
            message.contains("add --node and one of hq, eu") && message.contains("syncline produce --node hq"),
            "{message}"
        );
        let message = refused(topology(), Sides::Consumer, None);
        assert!(message.contains("syncline consume --node hq"), "{message}");
        let message = refused(topology(), Sides::Both, Some("nowhere"));
        assert!(message.contains("--node nowhere: is none of the file's `nodes`, which are hq, eu"), "{message}");
        let one_way = SyncConfig { nodes: Vec::new(), ..topology() };
        let message = to_check(one_way, Some("eu")).map(|_| ()).unwrap_err().message();
        assert!(message.contains("--node eu: the sync file has no `nodes`"), "{message}");
        assert!(to_run(topology(), Sides::Producer, Some("eu")).is_ok());
        let message = topology().one_way("not yet").unwrap_err().message();
        assert_eq!(message, "not yet");
    }
}
