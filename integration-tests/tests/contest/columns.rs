//! Rules that look at more than stamps.

use std::collections::BTreeMap;

use anyhow::Result;
use syncline_transforms::resolve::row::Operation::{Delete, Insert, Update};
use syncline_transforms::resolve::rules::{ColumnRule, TableRule};

use crate::node::{Node, Said, change, own};

/// Both nodes know the row `(1, old, old)`.
async fn shared(name: &str, rule: TableRule) -> Result<Node> {
    let mut node = Node::with(name, rule).await?;
    let first = node.local("INSERT INTO t VALUES (1, 'old', 'old')").await?;
    node.take(&[Said { note: "old", ..own(first, 10, Insert, (1, "old")) }], &[]).await?;
    Ok(node)
}

impl Node {
    async fn notes(&self) -> Result<String> {
        let text = "SELECT coalesce(string_agg(name || '/' || note, ' ' ORDER BY id), '') FROM t";
        Ok(self.site.value(text).await?.unwrap_or_default())
    }

    /// Conflicts as `field/resolution/source/target/result`.
    async fn fields(&self) -> Result<String> {
        let text = "SELECT coalesce(string_agg(concat_ws('/', field, resolution, source_value #>> '{}', \
             target_value #>> '{}', result #>> '{}'), ' ' ORDER BY \"timestamp\", field), '') FROM _syncline.sync_conflicts";
        Ok(self.site.value(text).await?.unwrap_or_default())
    }
}

#[tokio::test]
async fn columns_that_different_nodes_changed_are_merged() -> Result<()> {
    let mut node = shared("contest_merge", TableRule::Merge).await?;
    let mine = node.local("UPDATE t SET name = 'mine'").await?;
    let theirs = Said { note: "theirs", old: Some(("old", "old")), saw: 1, ..change("b", 15, Update, (1, "old")) };
    assert_eq!(node.take(&[theirs], &[]).await?.set_aside, 1, "mine has no stamp yet");
    assert_eq!(node.notes().await?, "mine/theirs", "a column that nobody has written here is free");
    let fence = node.fence().await?;
    let mine = Said { note: "old", old: Some(("old", "old")), ..own(mine, 20, Update, (1, "mine")) };
    node.take(&[mine], &[fence]).await?;
    assert_eq!(node.settle().await?.set_aside, 0);
    assert_eq!((node.notes().await?.as_str(), node.fields().await?.as_str()), ("mine/theirs", ""));
    // Both change the same column: the node of the higher priority stays, although it was earlier.
    let again = node.local("UPDATE t SET note = 'a'").await?;
    let again = Said { note: "a", old: Some(("mine", "theirs")), saw: 1, ..own(again, 30, Update, (1, "mine")) };
    node.take(&[again], &[]).await?;
    let theirs = Said { note: "b", old: Some(("mine", "theirs")), saw: 2, ..change("b", 40, Update, (1, "mine")) };
    node.take(&[theirs], &[]).await?;
    assert_eq!(node.notes().await?, "mine/a");
    assert_eq!(node.fields().await?, "note/target/***/***/***", "the column is masked");
    node.remove().await
}

#[tokio::test]
async fn a_local_change_that_loses_is_undone() -> Result<()> {
    let mut node = shared("contest_undone", TableRule::LastWriteWinsBy("note".into())).await?;
    let theirs = Said { note: "z", old: Some(("old", "old")), saw: 1, ..change("b", 15, Update, (1, "theirs")) };
    node.take(&[theirs], &[]).await?;
    assert_eq!(node.notes().await?, "theirs/z");
    // It saw the other one, but its value is lower.
    let mine = node.local("UPDATE t SET name = 'mine', note = 'c'").await?;
    let mine = Said { note: "c", old: Some(("theirs", "z")), saw: 1, ..own(mine, 30, Update, (1, "mine")) };
    node.take(&[mine], &[]).await?;
    assert_eq!(node.notes().await?, "theirs/z");
    // So is a delete.
    let gone = node.local("UPDATE t SET note = 'd'; DELETE FROM t").await?;
    let change = Said { note: "d", old: Some(("theirs", "z")), saw: 1, ..own(gone, 40, Update, (1, "theirs")) };
    let delete = Said { note: "d", saw: 1, ..own(gone, 40, Delete, (1, "theirs")) };
    node.take(&[change, delete], &[]).await?;
    assert_eq!(node.notes().await?, "theirs/z");
    node.remove().await
}

#[tokio::test]
async fn columns_have_rules_of_their_own() -> Result<()> {
    let columns = BTreeMap::from([("note".to_owned(), ColumnRule::ConcatUnique)]);
    let mut node = shared("contest_columns", TableRule::Columns(columns)).await?;
    let mine = node.local("UPDATE t SET note = 'old,mine'").await?;
    let mine = Said { note: "old,mine", old: Some(("old", "old")), ..own(mine, 20, Update, (1, "old")) };
    let theirs =
        Said { note: "old,theirs", old: Some(("old", "old")), saw: 1, ..change("b", 15, Update, (1, "other")) };
    node.take(&[mine, theirs], &[]).await?;
    assert_eq!(node.notes().await?, "other/mine,old,theirs");
    node.remove().await
}

#[tokio::test]
async fn a_rule_that_does_not_go_with_its_column_is_told() -> Result<()> {
    let columns = BTreeMap::from([("note".to_owned(), ColumnRule::Sum)]);
    let error = shared("contest_rule", TableRule::Columns(columns)).await.err().map(|error| error.to_string());
    assert!(error.as_ref().is_some_and(|error| error.contains("sum adds up integers and numeric only")), "{error:?}");
    Ok(())
}
