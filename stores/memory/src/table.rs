//! A sorted map that can take back what was written since the last commit.
//!
//! Invariant: after `undo` the map is what it was after the last `keep`.

use std::{
    collections::{BTreeMap, btree_map::Range},
    ops::RangeBounds,
};

#[derive(Debug)]
pub(crate) struct Table<K, V> {
    rows: BTreeMap<K, V>,
    replaced: Vec<(K, Option<V>)>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Table { rows: BTreeMap::new(), replaced: Vec::new() }
    }
}

impl<K: Ord + Clone, V: Clone> Table<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key)
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.rows.contains_key(key)
    }

    pub(crate) fn last_key(&self) -> Option<&K> {
        self.rows.last_key_value().map(|(key, _)| key)
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.rows.iter()
    }

    pub(crate) fn range<R: RangeBounds<K>>(&self, range: R) -> Range<'_, K, V> {
        self.rows.range(range)
    }

    pub(crate) fn set(&mut self, key: K, value: V) {
        let before = self.rows.insert(key.clone(), value);
        self.replaced.push((key, before));
    }

    pub(crate) fn remove(&mut self, key: &K) {
        if let Some(before) = self.rows.remove(key) {
            self.replaced.push((key.clone(), Some(before)));
        }
    }

    /// Change a row in place; whether there is one.
    pub(crate) fn change(&mut self, key: &K, change: impl FnOnce(&mut V)) -> bool {
        let Some(row) = self.rows.get_mut(key) else { return false };
        self.replaced.push((key.clone(), Some(row.clone())));
        change(row);
        true
    }

    pub(crate) fn keep(&mut self) {
        self.replaced.clear();
    }

    pub(crate) fn undo(&mut self) {
        while let Some((key, before)) = self.replaced.pop() {
            match before {
                Some(row) => self.rows.insert(key, row),
                None => self.rows.remove(&key),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undo_takes_back_everything_since_keep() {
        let mut table = Table::default();
        table.set(1, "a");
        table.set(2, "b");
        table.keep();
        table.set(1, "x");
        table.remove(&2);
        table.set(3, "c");
        table.change(&3, |row| *row = "d");
        table.undo();
        assert_eq!(table.iter().collect::<Vec<_>>(), [(&1, &"a"), (&2, &"b")]);
    }
}
