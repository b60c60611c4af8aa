//! Random scenarios: values drawn for paths.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Numbers below others.
pub fn dice(seed: u64) -> impl FnMut(usize) -> usize {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    move |n| (dice.next_u64() % n as u64) as usize
}

/// A value for each of these paths.
pub fn draw<'a>(
    paths: impl Iterator<Item = &'a (&'static str, &'static [&'static str])>,
    below: &mut impl FnMut(usize) -> usize,
) -> Vec<String> {
    let mut drawn = Vec::new();
    for (path, values) in paths {
        let value = if below(2) == 0 { values[0] } else { values[below(values.len())] };
        if !value.is_empty() {
            drawn.push(format!("{path}={value}"));
        }
    }
    drawn
}
