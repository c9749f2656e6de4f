//! The rows of several nodes, each in the order of their keys, joined by key. Holds one row a node.

use syncline_catalog::rows::KeyedRow;

/// What is at hand of a node's rows.
#[derive(Debug, Clone)]
enum Head {
    /// The next row has to be fetched.
    Wanted,
    Row(KeyedRow),
    End,
}

/// A merge-join: [`Merge::wants`] tells whose next row it lacks, [`Merge::take`] gives the rows of the lowest key once
/// it lacks none.
#[derive(Debug)]
pub(super) struct Merge {
    heads: Vec<Head>,
}

impl Merge {
    pub(super) fn new(nodes: usize) -> Self {
        Self { heads: vec![Head::Wanted; nodes] }
    }

    /// A node whose next row is needed.
    pub(super) fn wants(&self) -> Option<usize> {
        self.heads.iter().position(|head| matches!(head, Head::Wanted))
    }

    /// A node's next row; none at the end.
    pub(super) fn give(&mut self, node: usize, row: Option<KeyedRow>) {
        self.heads[node] = row.map_or(Head::End, Head::Row);
    }

    /// The rows of the lowest key, by node; none at the end.
    pub(super) fn take(&mut self) -> Option<Vec<Option<KeyedRow>>> {
        let rows = self.heads.iter().filter_map(|head| match head {
            Head::Row(row) => Some(&row.key),
            Head::Wanted | Head::End => None,
        });
        let lowest = rows.min()?.clone();
        let taken = self.heads.iter_mut().map(|head| match head {
            Head::Row(row) if row.key == lowest => match std::mem::replace(head, Head::Wanted) {
                Head::Row(row) => Some(row),
                Head::Wanted | Head::End => None,
            },
            _ => None,
        });
        Some(taken.collect())
    }
}

#[cfg(test)]
mod tests {
    use syncline_catalog::rows::KeyValue;

    use super::*;

    fn joined(nodes: &[&[i64]]) -> Vec<Vec<i64>> {
        let row = |key: &i64| KeyedRow { key: vec![KeyValue::Integer(*key)], values: vec![Some(key.to_string())] };
        let mut left: Vec<_> = nodes.iter().map(|keys| keys.iter().map(row)).collect();
        let mut merge = Merge::new(nodes.len());
        let mut all = Vec::new();
        loop {
            while let Some(node) = merge.wants() {
                merge.give(node, left[node].next());
            }
            let Some(rows) = merge.take() else { return all };
            let key = |row: Option<KeyedRow>| match row.map(|row| row.key[0].clone()) {
                Some(KeyValue::Integer(key)) => key,
                _ => 0,
            };
            all.push(rows.into_iter().map(key).collect());
        }
    }

    #[test]
    fn rows_of_one_key_come_together() {
        assert_eq!(joined(&[&[1, 2, 4], &[2, 3]]), [[1, 0], [2, 2], [0, 3], [4, 0]]);
        assert_eq!(joined(&[&[5], &[], &[5, 6]]), [[5, 0, 5], [0, 0, 6]]);
        assert_eq!(joined(&[&[], &[]]), Vec::<Vec<i64>>::new());
    }
}
