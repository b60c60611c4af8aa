//! A shard: the share of a long work that one of several processes does.

use std::fmt;
use std::str::FromStr;

use crate::error::Result;
use crate::experiment::lifetimes::Lifetimes;
use crate::experiment::sweep::{Outline, Plan};

/// The most shards of a work.
pub const MOST_SHARDS: u32 = 100_000;

/// Shard `index` of `count`, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which one.
    pub index: u32,
    /// Of how many.
    pub count: u32,
}

impl Shard {
    /// One of so many; the error says what would be right.
    pub fn new(index: u32, count: u32) -> std::result::Result<Self, String> {
        if !(1..=MOST_SHARDS).contains(&count) {
            return Err(format!("`{index}/{count}`: the number of shards must be from 1 to {MOST_SHARDS}"));
        }
        if index >= count {
            return Err(format!("`{index}/{count}`: {count} shards are counted from 0 to {}", count - 1));
        }
        Ok(Self { index, count })
    }

    /// Whether the work of this number is its own. Neighbours go to different shards: cost follows the parameters.
    pub fn has(self, number: u64) -> bool {
        number % u64::from(self.count) == u64::from(self.index)
    }

    /// The part of a sweep that is its own. What is shared out are passes: the cells one by one, or those together that
    /// one pass over many lifetimes does for.
    pub fn plan(self, outline: Outline) -> Result<Plan> {
        let is_own = |number: &usize| self.has(*number as u64);
        let mut cells: Vec<usize> = match Lifetimes::of(&outline) {
            None => (0..outline.cells()).filter(is_own).collect(),
            Some(swept) => {
                let passes = swept.passes_of(&outline)?.into_iter().enumerate();
                passes.filter(|(number, _)| is_own(number)).flat_map(|(_, cells)| cells).collect()
            }
        };
        cells.sort_unstable();
        Plan::of(outline, cells)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let numbers =
            text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        let (index, count) = numbers.ok_or(format!("`{text}` is no shard: write K/N, such as 0/64"))?;
        Self::new(index, count)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_one_of_many_counted_from_0() {
        assert_eq!("3/64".parse(), Ok(Shard { index: 3, count: 64 }));
        assert_eq!("3/64".parse::<Shard>().unwrap().to_string(), "3/64");
        for wrong in ["", "3", "3/", "/3", "-1/4", "4/4", "0/0", "0/100001", "a/b"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_number_has_one_shard() {
        for number in 0..100 {
            let owners = (0..7).filter(|index| Shard { index: *index, count: 7 }.has(number));
            assert_eq!(owners.count(), 1);
        }
    }
}
