//! Playing a sweep: every cell with every seed, on every core, cells together where one pass does for them.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::experiment::lifetimes::Lifetimes;
use crate::experiment::metrics::Row;
use crate::experiment::run::{Report, replicate, replicate_lifetimes};
use crate::experiment::sweep::{Finished, Plan, Rows};

impl Plan {
    /// Plays every cell with every seed, those that differ in a constant lifetime alone in one pass where that is
    /// exact. `known` holds rows of an earlier, interrupted run; `done` is told of each further run, and ends the
    /// sweep early by answering false.
    pub fn play(&self, known: &Finished, done: impl Fn(usize, u32, &Report) -> bool + Sync) -> Result<Rows> {
        let swept = Lifetimes::of(self);
        let alone = || (0..self.cells.len()).map(|cell| vec![cell]).collect();
        let passes = swept.as_ref().map_or_else(alone, |swept| swept.passes(self));
        let jobs: Vec<_> =
            passes.iter().flat_map(|pass| (0..self.seeds).map(move |seed| (pass, seed))).collect();
        let stopped = AtomicBool::new(false);
        let played: Vec<Vec<_>> = jobs
            .par_iter()
            .map(|&(pass, seed)| {
                let (finished, missing): (Vec<usize>, Vec<usize>) =
                    pass.iter().partition(|cell| known.0.contains_key(&(**cell, seed)));
                let row = |cell| ((cell, seed), known.0[&(cell, seed)].clone());
                let mut rows: Vec<_> = finished.into_iter().map(row).collect();
                if missing.is_empty() {
                    return Ok(rows);
                }
                if stopped.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted(String::new()));
                }
                for (cell, report) in missing.iter().zip(self.play_pass(swept.as_ref(), &missing, seed)?) {
                    if !done(*cell, seed, &report) {
                        stopped.store(true, Ordering::Relaxed);
                    }
                    rows.push(((*cell, seed), report.row));
                }
                Ok(rows)
            })
            .collect::<Result<_>>()?;
        let mut rows: Vec<_> = played.into_iter().flatten().collect();
        rows.sort_by_key(|(job, _)| *job);
        let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
        Ok(Rows(rows.chunks(self.seeds as usize).map(<[Row]>::to_vec).collect()))
    }

    /// Plays some cells of one pass with one seed.
    fn play_pass(&self, swept: Option<&Lifetimes>, cells: &[usize], seed: u32) -> Result<Vec<Report>> {
        let loaded = &self.cells[cells[0]].loaded;
        match swept {
            Some(Lifetimes { lifetimes, .. }) if cells.len() > 1 => {
                let lifetimes: Vec<_> = cells.iter().map(|cell| lifetimes[*cell]).collect();
                replicate_lifetimes(loaded, seed, &lifetimes, |_, _| ())
            }
            _ => replicate(loaded, seed, |_| ()).map(|report| vec![report]),
        }
    }
}
