//! A sorted map of a few entries, in exactly the memory they take. The broker remembers millions of these for weeks; a tree of one or two entries takes ten
//! times as much.

/// Sorted by key, each key once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Few<K, V>(Box<[(K, V)]>);

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<K: Ord, V> Few<K, V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.0.iter()
    }

    fn at(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(k, _)| k.cmp(key))
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let at = self.at(key).ok()?;
        self.0.get(at).map(|(_, v)| v)
    }

    pub(crate) fn contains(&self, key: &K) -> bool {
        self.at(key).is_ok()
    }

    /// Takes an entry away; costs a copy of the others.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.at(key).ok()?;
        let mut all = std::mem::take(&mut self.0).into_vec();
        let (_, value) = all.remove(at);
        self.0 = all.into_boxed_slice();
        Some(value)
    }

    /// Puts a value in the place of the one before; a new key costs a copy of all.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self.at(&key) {
            Ok(at) => {
                if let Some(entry) = self.0.get_mut(at) {
                    entry.1 = value;
                }
            }
            Err(at) => {
                let mut all = std::mem::take(&mut self.0).into_vec();
                all.reserve_exact(1);
                all.insert(at, (key, value));
                self.0 = all.into_boxed_slice();
            }
        }
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Few<K, V> {
    /// Of entries with the same key the last one counts.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let sorted: std::collections::BTreeMap<K, V> = entries.into_iter().collect();
        Self(sorted.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_each_key_once_in_order() {
        let mut few: Few<u8, &str> = [(3, "c"), (1, "x"), (1, "a")].into_iter().collect();
        few.insert(2, "b");
        few.insert(3, "d");
        let all: Vec<_> = few.iter().copied().collect();
        assert_eq!(all, [(1, "a"), (2, "b"), (3, "d")]);
        assert_eq!((few.get(&2), few.get(&4)), (Some(&"b"), None));
        assert!(few.contains(&1) && !few.contains(&0));
        assert_eq!(few.len(), 3);
        assert_eq!((few.remove(&2), few.remove(&2)), (Some("b"), None));
        assert!(few.remove(&1).is_some() && few.remove(&3).is_some());
        assert!(few.is_empty());
    }
}
