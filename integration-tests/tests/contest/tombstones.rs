//! What is known of rows that are gone, and when it is forgotten.

use anyhow::Result;
use syncline_consumer::targets::Target;
use syncline_transforms::resolve::row::Operation::{Delete, Insert, Update};
use syncline_transforms::resolve::rules::TableRule;

use crate::node::{Node, Said, change, own};

impl Node {
    async fn count(&self, what: &str) -> Result<String> {
        Ok(self.site.value(&format!("SELECT count(*)::text FROM _syncline.{what}")).await?.unwrap_or_default())
    }

    /// Keys that are remembered, and fences, after a round of housekeeping.
    async fn kept(&self) -> Result<(String, String)> {
        self.target.maintain().await?;
        Ok((self.count("row_stamps WHERE deleted").await?, self.count("fences").await?))
    }
}

fn numbers(keys: &str, fences: &str) -> (String, String) {
    (keys.to_owned(), fences.to_owned())
}

#[tokio::test]
async fn a_row_that_is_gone_is_forgotten_once_all_nodes_have_seen_it() -> Result<()> {
    for rule in [TableRule::LastWriteWins, TableRule::Merge] {
        let mut node = Node::with(&format!("tombstones_{}", rule.name()), rule).await?;
        // The other node's delete, and this node's own.
        node.take(&[change("b", 10, Insert, (1, "x")), change("b", 20, Delete, (1, "x"))], &[]).await?;
        let first = node.local("INSERT INTO t VALUES (2, 'y', 'secret'); DELETE FROM t").await?;
        node.take(&[own(first, 30, Insert, (2, "y")), own(first, 30, Delete, (2, "y"))], &[]).await?;
        assert_eq!(node.kept().await?, numbers("2", "1"), "no node has said anything");
        assert_eq!(node.kept().await?, numbers("2", "1"), "one question at a time");
        let fence = node.fence().await?;
        node.mark("a", fence, 1).await?;
        assert_eq!(node.kept().await?, numbers("2", "1"), "said before the delete was seen, so asked again");
        assert_ne!(node.fence().await?, fence);
        node.mark("a", node.fence().await?, 2).await?;
        assert_eq!(node.kept().await?, numbers("1", "0"), "the own delete is still to be seen by the other node");
        node.mark("b", 7, 1).await?;
        assert_eq!(node.kept().await?, numbers("1", "0"), "it has seen the insert only");
        node.mark("b", 8, 2).await?;
        assert_eq!(node.kept().await?, numbers("0", "0"));
        // The key may be used again.
        node.take(&[Said { saw: 2, ..change("b", 40, Insert, (1, "again")) }], &[]).await?;
        assert_eq!((node.rows().await?.as_str(), node.conflicts().await?.as_str()), ("1=again", ""));
        node.remove().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_row_that_is_gone_is_remembered_while_records_of_its_key_wait() -> Result<()> {
    let mut node = Node::new("tombstones_waiting").await?;
    node.take(&[change("b", 10, Insert, (1, "x")), change("b", 20, Delete, (1, "x"))], &[]).await?;
    // A write that is on its way makes the other node's next one wait.
    let mine = node.local("INSERT INTO t VALUES (1, 'mine', 'secret')").await?;
    assert_eq!(node.take(&[change("b", 25, Insert, (1, "theirs"))], &[]).await?.set_aside, 1);
    let fence = node.fence().await?;
    node.mark("b", 7, 0).await?;
    node.mark("a", fence, 3).await?;
    assert_eq!(node.kept().await?.0, "1");
    node.take(&[own(mine, 30, Insert, (1, "mine"))], &[]).await?;
    assert_eq!(node.settle().await?.set_aside, 0);
    assert_eq!((node.rows().await?.as_str(), node.kept().await?.0.as_str()), ("1=mine", "0"));
    node.take(&[Said { saw: 1, ..change("b", 40, Update, (1, "theirs")) }], &[]).await?;
    assert_eq!(node.rows().await?, "1=theirs");
    node.remove().await
}

#[tokio::test]
async fn a_key_that_comes_and_goes_is_among_the_tombstones_once_and_not_while_its_row_is_there() -> Result<()> {
    for rule in [TableRule::LastWriteWins, TableRule::Merge] {
        let mut node = Node::with(&format!("tombstones_again_{}", rule.name()), rule).await?;
        for (number, clock) in (0..).zip([10, 20, 30]) {
            let again = [change("b", clock, Insert, (1, "x")), change("b", clock + 5, Delete, (1, "x"))];
            node.take(&again.map(|change| Said { saw: number, ..change }), &[]).await?;
            assert_eq!(node.count("tombstones").await?, "1", "no node has said anything, so it is still there");
        }
        node.kept().await?;
        assert_eq!(node.count("tombstones").await?, "1");
        node.take(&[change("b", 40, Insert, (1, "x"))], &[]).await?;
        node.kept().await?;
        assert_eq!(node.count("tombstones").await?, "0");
        node.take(&[change("b", 50, Delete, (1, "x"))], &[]).await?;
        assert_eq!(node.count("tombstones").await?, "1");
        node.mark("b", 100, 100).await?;
        node.mark("a", 100, 100).await?;
        assert_eq!(node.kept().await?.0, "0");
        assert_eq!(node.count("tombstones").await?, "0");
        node.remove().await?;
    }
    Ok(())
}

#[tokio::test]
async fn rows_that_were_gone_before_there_were_tombstones_are_forgotten_too() -> Result<()> {
    let mut node = Node::new("tombstones_before").await?;
    node.take(&[change("b", 10, Insert, (1, "x")), change("b", 20, Delete, (1, "x"))], &[]).await?;
    let before = "ALTER TABLE _syncline.row_stamps DROP COLUMN in_tombstones; DROP TABLE _syncline.tombstones; \
                  CREATE INDEX row_stamps_deleted ON _syncline.row_stamps (table_name, key) WHERE deleted";
    node.site.execute(before).await?;
    for _ in 0..2 {
        node.target.prepare().await?;
        assert_eq!(node.count("tombstones").await?, "1");
    }
    node.mark("a", 100, 100).await?;
    node.mark("b", 100, 100).await?;
    assert_eq!(node.kept().await?.0, "0");
    assert_eq!(node.count("tombstones").await?, "0");
    node.remove().await
}
