//! Playing a sweep: every cell with every seed, on every core, cells together where one pass does for them.
//!
//! The longest runs come first, so that at the end no core waits for one long run of another.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::experiment::lifetimes::Lifetimes;
use crate::experiment::metrics::Row;
use crate::experiment::preflight::requests_per_minute;
use crate::experiment::run::{Report, replicate_lifetimes, replicate_unwatched, replicate_variants};
use crate::experiment::same_traffic;
use crate::experiment::scenario::Loaded;
use crate::experiment::sweep::{Finished, Plan, Rows};

impl Plan {
    /// Plays every cell with every seed, in one pass those that differ in a constant lifetime alone where that is exact,
    /// or those whose requests are the same. `known` holds rows of an earlier, interrupted run; `done` is told of each
    /// further run with the number of its cell, and ends the sweep early by answering false.
    pub fn play(&self, known: &Finished, done: impl Fn(usize, u32, &Report) -> bool + Sync) -> Result<Rows> {
        self.play_measured(known, &Effort::begin(), done)
    }

    /// Like [`play`](Self::play), and adds the work to `effort`.
    pub fn play_measured(
        &self,
        known: &Finished,
        effort: &Effort,
        done: impl Fn(usize, u32, &Report) -> bool + Sync,
    ) -> Result<Rows> {
        let swept = Lifetimes::of(&self.outline);
        let passes = match &swept {
            Some(swept) => swept.passes(self),
            None => same_traffic::passes(self),
        };
        let seeds = self.outline.seeds;
        let mut longest_first: Vec<_> = passes.iter().collect();
        longest_first.sort_by(|a, b| self.length(b).total_cmp(&self.length(a)));
        let jobs = longest_first.iter().flat_map(|pass| (0..seeds).map(move |seed| (*pass, seed)));
        let stopped = AtomicBool::new(false);
        // Jobs are taken one by one, in this order, by whichever core is free.
        let played: Vec<Vec<_>> = jobs
            .par_bridge()
            .map(|(pass, seed)| {
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
                let reports = effort.work(|| self.play_pass(swept.as_ref(), &missing, seed))?;
                for (cell, report) in missing.iter().zip(reports) {
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
        Ok(Rows(rows.chunks(seeds as usize).map(<[Row]>::to_vec).collect()))
    }

    /// Plays some cells of one pass with one seed.
    fn play_pass(&self, swept: Option<&Lifetimes>, cells: &[usize], seed: u32) -> Result<Vec<Report>> {
        let loaded: Vec<_> = cells.iter().map(|cell| self.loaded(*cell)).collect();
        match (swept, &loaded[..]) {
            (_, [loaded]) => replicate_unwatched(loaded, seed).map(|report| vec![report]),
            (None, together) => replicate_variants(together, seed, |_, _| ()),
            (Some(swept), together) => {
                let lifetimes: Vec<_> = cells.iter().map(|cell| swept.lifetime(*cell)).collect();
                replicate_lifetimes(together[0], seed, &lifetimes, |_, _| ())
            }
        }
    }

    /// The scenario of a cell of this plan.
    fn loaded(&self, number: usize) -> &Loaded {
        &self.cells[self.find(number).expect("a cell of the plan")].loaded
    }

    /// How long a pass takes with one seed, in no particular unit.
    fn length(&self, cells: &[usize]) -> f64 {
        expected_requests(self.loaded(cells[0])) * cells.len() as f64
    }
}

/// How many requests a scenario sends; traces are not looked into, and all alike.
fn expected_requests(loaded: &Loaded) -> f64 {
    let minutes = loaded.scenario.duration.seconds() / 60.0;
    let generated = loaded.scenario.client.workload.values().filter_map(requests_per_minute);
    generated.map(|rate| rate * minutes).sum()
}

/// How well a sweep used the machine.
#[derive(Debug)]
pub struct Effort {
    begun: Instant,
    /// Time spent in runs, on all cores together, in nanoseconds.
    worked: AtomicU64,
}
impl Effort {
    /// Nothing is done yet, and the time runs.
    pub fn begin() -> Self {
        Self { begun: Instant::now(), worked: AtomicU64::new(0) }
    }

    /// Does some work and takes its time.
    fn work<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let answer = work();
        self.worked.fetch_add(nanos(begun.elapsed()), Ordering::Relaxed);
        answer
    }

    /// How long it took until now, on how many cores, and which share of their time was work.
    pub fn said(&self) -> String {
        let (took, cores) = (self.begun.elapsed(), rayon::current_num_threads());
        let worked = Duration::from_nanos(self.worked.load(Ordering::Relaxed)).as_secs_f64();
        let busy = 100.0 * worked / (took.as_secs_f64() * cores as f64);
        let cores = if cores == 1 { "1 core".into() } else { format!("{cores} cores") };
        format!("{:.1} s on {cores}, {busy:.0} % busy", took.as_secs_f64())
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use super::*;

    const CALLS: &str = r#"
        duration = "10m"
        seeds = 2
        [client.workload.calls]
        arrivals = { process = "poisson", rate = "1/min" }
        [client.workload.calls.shared_prefix]
        prefix_tokens = 2000
        tail_tokens = 100
        output_tokens = 10
        [provider]
        profile = "openai-classic"
        [[sweep.axis]]
        path = "client.workload.calls.arrivals.rate"
        values = ["2/min", "9/min", "5/min"]
    "#;

    #[test]
    fn the_longest_runs_come_first_and_the_rows_stay_in_order() {
        let plan = Plan::new(&Loaded::from_text("s", "s", CALLS, Path::new(""), &[]).unwrap()).unwrap();
        let order = Mutex::new(Vec::new());
        let effort = Effort::begin();
        let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let rows = alone.install(|| {
            plan.play_measured(&Finished::default(), &effort, |cell, seed, _| {
                order.lock().unwrap().push((cell, seed));
                true
            })
        });
        assert_eq!(*order.lock().unwrap(), [(1, 0), (1, 1), (2, 0), (2, 1), (0, 0), (0, 1)]);
        let many = plan.play(&Finished::default(), |_, _, _| true).unwrap();
        assert_eq!(rows.unwrap(), many);
        assert!(alone.install(|| effort.said()).contains(" s on 1 core, "), "{}", effort.said());
        let requests = |cell: usize| many.0[cell][0].get("requests").unwrap();
        assert!(requests(1) > requests(2) && requests(2) > requests(0));
    }
}
