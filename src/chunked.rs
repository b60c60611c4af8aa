//! A growing array whose values never move.
//!
//! A `Vec` that grows is there twice while it is copied, and what it leaves behind stays with the allocator for the arrays
//! that come later. The largest arrays, those of live conversations and of what is held of them, grow by chunks instead: memory
//! is what is used.

use std::ops::{Index, IndexMut};

/// Values of one chunk: so many that finding a chunk costs little, so few that the last one hardly counts.
const CHUNK: usize = 1 << 10;

/// A growing array whose values never move, once there are more than a few.
#[derive(Clone, Debug)]
pub struct Chunked<T> {
    /// All but the last one are full.
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> Chunked<T> {
    /// How many values there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Adds a value behind all others.
    #[inline]
    pub fn push(&mut self, value: T) {
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => last.push(value),
            _ => self.push_chunk(value),
        }
    }

    #[cold]
    fn push_chunk(&mut self, value: T) {
        // A small array is a `Vec`.
        let mut chunk = if self.chunks.is_empty() { Vec::new() } else { Vec::with_capacity(CHUNK) };
        chunk.push(value);
        self.chunks.push(chunk);
    }

    /// A value, if there are so many.
    #[inline(always)]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    /// The same, to be changed.
    #[inline(always)]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.chunks.get_mut(index / CHUNK)?.get_mut(index % CHUNK)
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// The values in order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten()
    }

    /// Bytes that the values take, whatever they point to.
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(Vec::capacity).sum::<usize>() * size_of::<T>()
    }
}

impl<T> Index<usize> for Chunked<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, index: usize) -> &T {
        &self.chunks[index / CHUNK][index % CHUNK]
    }
}

impl<T> IndexMut<usize> for Chunked<T> {
    #[inline(always)]
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_array_whose_values_stay_where_they_are() {
        let mut array = Chunked::default();
        assert!(array.is_empty() && array.get(0).is_none());
        let (mut vec, mut places) = (Vec::new(), Vec::new());
        for value in 0..5 * CHUNK + 7 {
            assert_eq!(array.len(), value);
            array.push(value);
            vec.push(value);
            if value >= CHUNK {
                places.push(&raw const array[value]);
            }
        }
        assert!(array.iter().eq(&vec) && array.get(vec.len()).is_none());
        assert!((0..vec.len()).all(|index| array[index] == index && array.get(index) == Some(&index)));
        assert!(places.iter().zip(CHUNK..).all(|(place, index)| *place == &raw const array[index]));
        array[CHUNK] = 1;
        *array.get_mut(2 * CHUNK).expect("it is there") = 2;
        assert_eq!([array[0], array[CHUNK], array[2 * CHUNK]], [0, 1, 2]);
        // The last chunk is the only one with room to spare.
        assert!(array.bytes() < (array.len() + CHUNK) * size_of::<usize>());
    }
}
