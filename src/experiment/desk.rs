//! The desk that long questions get their replications from: played here, or taken from the parts that several processes
//! have written.
//!
//! A question whose further runs depend on the rows of earlier ones goes as far as the rows that are known allow. Each
//! process plays its share of the runs that are wanted next, and writes them down; once all have, the same question goes
//! further. It asks for the same runs in the same order whoever plays them, so that its answer is the same, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::experiment::metrics::Row;
use crate::experiment::part::Job;
use crate::experiment::shard::Shard;

/// Where rows come from.
#[derive(Debug)]
pub struct Desk {
    known: BTreeMap<Job, Row>,
    players: Players,
    /// What was played here.
    played: Mutex<BTreeMap<Job, Row>>,
    /// Numbers of the runs that others have to play.
    wanted: Mutex<BTreeSet<u64>>,
}

/// Who plays what is not known.
#[derive(Clone, Copy, Debug)]
enum Players {
    /// This process, everything.
    Alone,
    /// This process its share.
    Shard(Shard),
    /// Nobody: all has been played, or the question waits.
    Nobody,
}

impl Desk {
    fn new(known: BTreeMap<Job, Row>, players: Players) -> Self {
        Self { known, players, played: Mutex::default(), wanted: Mutex::default() }
    }

    /// Everything is played here.
    pub fn alone() -> Self {
        Self::new(BTreeMap::new(), Players::Alone)
    }

    /// What is not known is played, as far as it is the shard's.
    pub fn of_shard(shard: Shard, known: BTreeMap<Job, Row>) -> Self {
        Self::new(known, Players::Shard(shard))
    }

    /// Nothing is played.
    pub fn of_parts(known: BTreeMap<Job, Row>) -> Self {
        Self::new(known, Players::Nobody)
    }

    /// The rows of some runs, in their order. `cells` is how many things are played at most: the runs of one replication
    /// of all of them are neighbours, which go to different shards.
    ///
    /// # Errors
    /// [`Error::Waiting`] if others have runs to play first; its own share is played then.
    pub fn rows<T: Sync>(
        &self,
        runs: &[(Job, T)],
        cells: u64,
        play: impl Fn(Job, &T) -> Result<Row> + Sync,
    ) -> Result<Vec<Row>> {
        let number = |job: &Job| u64::from(job.replication) * cells + job.cell;
        let row = |(job, what): &(Job, T)| -> Result<Option<Row>> {
            if let Some(row) = self.known.get(job) {
                return Ok(Some(row.clone()));
            }
            let is_own = match self.players {
                Players::Alone => return play(*job, what).map(Some),
                Players::Shard(shard) => shard.has(number(job)),
                Players::Nobody => false,
            };
            if !is_own {
                self.wanted.lock().expect("nothing panics with the lock").insert(number(job));
                return Ok(None);
            }
            let row = play(*job, what)?;
            self.played.lock().expect("nothing panics with the lock").insert(*job, row.clone());
            Ok(Some(row))
        };
        let rows: Vec<Option<Row>> = runs.par_iter().map(row).collect::<Result<_>>()?;
        let missing = rows.iter().filter(|row| row.is_none()).count();
        let waiting = || Error::Waiting(format!("{missing} runs that other shards play have no row yet"));
        rows.into_iter().collect::<Option<_>>().ok_or_else(waiting)
    }

    /// The shards, of so many, that have runs to play.
    pub fn wanted_of(&self, shards: u32) -> Vec<u32> {
        let wanted = self.wanted.lock().expect("nothing panics with the lock");
        let shards: BTreeSet<u32> = wanted.iter().map(|number| (number % u64::from(shards)) as u32).collect();
        shards.into_iter().collect()
    }

    /// What was played here.
    pub fn played(self) -> BTreeMap<Job, Row> {
        self.played.into_inner().expect("nothing panics with the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(cells: u64, replications: u32) -> Vec<(Job, f64)> {
        let jobs = (0..cells).flat_map(|cell| (0..replications).map(move |replication| (cell, replication)));
        jobs.map(|(cell, replication)| {
            (Job { cell, replication }, (cell * 100) as f64 + f64::from(replication))
        })
        .collect()
    }

    /// Asks for two runs of everything, then for a third of what has most: a question of two rounds.
    fn ask(desk: &Desk) -> Result<f64> {
        let play = |_: Job, what: &f64| Ok(Row(vec![Some(*what)]));
        let first = desk.rows(&runs(5, 2), 5, play)?;
        let most = first.iter().filter_map(|row| row.0[0]).fold(0.0, f64::max);
        let cell = (most / 100.0) as u64;
        let last = desk.rows(&[(Job { cell, replication: 2 }, most + 1.0)], 5, play)?;
        Ok(last[0].0[0].unwrap())
    }

    #[test]
    fn shards_answer_in_rounds_what_one_process_answers_at_once() {
        let alone = ask(&Desk::alone()).unwrap();
        for count in [1, 2, 3, 20] {
            let mut known = BTreeMap::new();
            let mut rounds = 0;
            let answer = loop {
                let merged = Desk::of_parts(known.clone());
                match ask(&merged) {
                    Ok(answer) => break answer,
                    Err(error) => assert!(matches!(error, Error::Waiting(_))),
                }
                for index in merged.wanted_of(count) {
                    let desk = Desk::of_shard(Shard { index, count }, known.clone());
                    let _ = ask(&desk);
                    known.extend(desk.played());
                }
                rounds += 1;
            };
            assert_eq!(answer, alone);
            assert!(rounds <= 2, "{rounds} rounds with {count} shards");
        }
    }
}
