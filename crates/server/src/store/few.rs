//! Lists for what is kept a million times: one that mostly has one entry, which then lies in its owner and needs no memory
//! of its own, and one that is mostly empty.

use std::ops::Deref;

/// A list of fixed length.
#[derive(Debug)]
pub enum Few<T> {
    /// One entry.
    One([T; 1]),
    /// None, or several.
    Many(Box<[T]>),
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::Many(Box::default())
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(list: Vec<T>) -> Self {
        match <[T; 1]>::try_from(list) {
            Ok(one) => Self::One(one),
            Err(list) => Self::Many(list.into()),
        }
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A list that is mostly empty, and then takes one word.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "one word where a boxed slice takes two")]
pub struct Rare<T>(Option<Box<Vec<T>>>);

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> From<Vec<T>> for Rare<T> {
    fn from(list: Vec<T>) -> Self {
        Self((!list.is_empty()).then(|| Box::new(list)))
    }
}

impl<T> Deref for Rare<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_the_same_however_long_it_is() {
        for length in 0..4 {
            let list: Vec<usize> = (0..length).collect();
            let few = Few::from(list.clone());
            assert_eq!(few.to_vec(), list);
            assert_eq!(matches!(few, Few::One(_)), length == 1);
        }
    }
}
