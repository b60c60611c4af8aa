//! What happened inside a run: the first replication of a few cells is played once more, and its requests are put into small
//! tables for charts of one session, one machine, the fleet, and the minutes of a key.
//!
//! It is the same engine and the same seed: what is seen here is part of what the results count.

use std::path::Path;

use rayon::prelude::*;
use rustc_hash::FxHashMap;

use crate::error::Result;
use crate::experiment::metrics::summarize;
use crate::experiment::results::write_csv;
use crate::experiment::run::replicate_requests;
use crate::experiment::scenario::Loaded;
use crate::experiment::sweep::{CellRows, Outline};
use crate::provider::routing::{Overflow, Rule};
use crate::report::session::{self, one_session, telling_session};
use crate::simulation::outcome::Outcome;
use crate::units::{SimTime, Span};

/// Requests of a run that are looked at, from its beginning.
const WINDOW: usize = 100_000;

/// Keys whose minutes are shown.
const MINUTE_KEYS: usize = 6;

/// Stretches of time that are told apart, at most.
const STRETCHES: u64 = 48;

/// Keys and machines of the fleet that are shown.
const FLEET_KEYS: usize = 16;
const FLEET_MACHINES: usize = 24;

/// What stands for all machines that are not shown.
pub const OTHERS: &str = "others";

/// A cell to look into, and why.
#[derive(Clone, Debug)]
pub struct Pick {
    /// Its number.
    pub cell: usize,
    /// Why it was chosen.
    pub why: &'static str,
    /// Its scenario.
    pub loaded: Loaded,
}

/// The cells of a sweep worth looking into: as the scenario is written, and those whose token hit ratio is the lowest, in
/// the middle and the highest.
pub fn picks(outline: &Outline, rows: &dyn CellRows) -> Result<Vec<Pick>> {
    let hits = |cell: usize| {
        let rows = rows.of_cell(cell)?;
        let ratio = summarize(&rows.iter().collect::<Vec<_>>(), "token_hit_ratio");
        Ok((ratio.map_or(-1.0, |ratio| ratio.mean), cell))
    };
    let mut ranked: Vec<(f64, usize)> = (0..outline.cells()).map(hits).collect::<Result<_>>()?;
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let last = ranked.len().saturating_sub(1);
    let ranks = [(0, "lowest hit ratio"), (last / 2, "median hit ratio"), (last, "highest hit ratio")];
    let ranked = ranks.into_iter().filter_map(|(rank, why)| Some((ranked.get(rank)?.1, why)));
    let mut picks: Vec<Pick> = Vec::new();
    for (cell, why) in outline.as_written().map(|cell| (cell, "as written")).into_iter().chain(ranked) {
        if !picks.iter().any(|known| known.cell == cell) {
            picks.push(Pick { cell, why, loaded: outline.cell(cell)?.loaded });
        }
    }
    Ok(picks)
}

/// Plays the first replication of some cells and writes what was seen into a folder.
pub fn write(picks: &[Pick], folder: &Path) -> Result<()> {
    let seen: Vec<Seen> = picks.par_iter().map(look).collect::<Result<_>>()?;
    let write = |file: &str, header: &[&str], lines: fn(&Seen) -> Vec<Vec<String>>| {
        let header: Vec<_> = header.iter().map(ToString::to_string).collect();
        write_csv(&folder.join(file), &header, seen.iter().flat_map(lines))
    };
    write("inside.csv", &["cell", "why", "seed", "seen_requests", "until_s", "limit_rpm"], |seen| {
        let limit = seen.limit_rpm.map_or(String::new(), |limit| limit.to_string());
        let until = seen.calls.last().map_or(String::new(), |call| seconds(call.arrival.0));
        let requests = seen.calls.len().to_string();
        let numbers = [seen.pick.cell.to_string(), seen.pick.why.into(), seen.seed.to_string(), requests];
        vec![numbers.into_iter().chain([until, limit]).collect()]
    })?;
    write("inside_minutes.csv", &["cell", "key", "at_s", "peak_rpm"], |seen| seen.minutes())?;
    write("inside_machine.csv", &["cell", "machine", "at_s", "in_flight", "queued"], |seen| seen.machine())?;
    let fleet = ["cell", "key", "machine", "requests", "prompt_tokens", "cached_tokens"];
    write("inside_fleet.csv", &fleet, |seen| seen.fleet())?;
    let session = seen.first().and_then(|seen| telling_session(&seen.calls));
    let lines = seen.iter().flat_map(|seen| {
        let lines = one_session(&seen.calls, &seen.pick.loaded, session).into_iter();
        lines.map(|line| [seen.cell()].into_iter().chain(line).collect())
    });
    write_csv(&folder.join("inside_calls.csv"), &session::header(), lines)
}

/// The window of one cell.
struct Seen<'a> {
    pick: &'a Pick,
    seed: u64,
    limit_rpm: Option<u32>,
    calls: Vec<Outcome>,
}

fn look(pick: &Pick) -> Result<Seen<'_>> {
    let loaded = &pick.loaded;
    let mut calls = Vec::new();
    replicate_requests(loaded, 0, &mut |outcome, _, _| {
        if calls.len() < WINDOW {
            calls.push(*outcome);
        }
    })?;
    calls.sort_by_key(|call| (call.arrival, call.call));
    let routing = &loaded.scenario.provider.routing;
    let is_limited = routing.rule == Rule::Home && routing.overflow != Overflow::None;
    let limit_rpm = is_limited.then_some(routing.limit_rpm);
    Ok(Seen { pick, seed: loaded.scenario.seed, limit_rpm, calls })
}

impl Seen<'_> {
    fn cell(&self) -> String {
        self.pick.cell.to_string()
    }

    /// How long a stretch of time is: whole minutes.
    fn stretch(&self) -> u64 {
        let minutes = match (self.calls.first(), self.calls.last()) {
            (Some(first), Some(last)) => minute(last) - minute(first) + 1,
            _ => 0,
        };
        Span::MINUTE.0 * minutes.div_ceil(STRETCHES).max(1)
    }

    /// The most requests in a calendar minute, for each stretch and each of the keys that are used most.
    fn minutes(&self) -> Vec<Vec<String>> {
        let stretch = self.stretch();
        let mut lines = Vec::new();
        for (key, calls) in most(&self.calls, MINUTE_KEYS, key_of) {
            let mut peaks: FxHashMap<u64, u64> = FxHashMap::default();
            let minutes = calls.chunk_by(|a, b| minute(a) == minute(b));
            for calls in minutes {
                let peak = peaks.entry(calls[0].arrival.0 / stretch).or_default();
                *peak = (*peak).max(calls.len() as u64);
            }
            let at = |call: Option<&Outcome>| call.map_or(0, |call| call.arrival.0 / stretch);
            let (first, last) = (at(self.calls.first()), at(self.calls.last()));
            lines.extend((first..=last).map(|number| {
                let peak = peaks.get(&number).copied().unwrap_or(0);
                vec![self.cell(), key.clone(), seconds(number * stretch), peak.to_string()]
            }));
        }
        lines
    }

    /// The most requests in flight and in the queue at once, on the machine that is used most, in each stretch of time.
    fn machine(&self) -> Vec<Vec<String>> {
        let Some((machine, calls)) = most(&self.calls, 1, machine_of).pop() else {
            return Vec::new();
        };
        let first = calls.iter().map(|call| call.arrival.0).min().unwrap_or(0);
        let end = |call: &Outcome| (call.arrival + call.timing.total).0;
        let last = calls.iter().map(end).max().unwrap_or(0);
        let stretch = ((last - first) / STRETCHES + 1).max(1);
        // Changes of (in flight, queued) in the order of time; at one instant those that free come first.
        let mut changes = Vec::new();
        for call in &calls {
            let begins = call.arrival + call.timing.wait;
            if call.timing.wait > Span::ZERO {
                changes.push((call.arrival, 0, 1));
                changes.push((begins, 0, -1));
            }
            changes.push((begins, 1, 0));
            changes.push((call.arrival + call.timing.total, -1, 0));
        }
        changes.sort_unstable();
        let (mut in_flight, mut queued, mut lines) = (0i64, 0i64, Vec::new());
        let mut changes = changes.into_iter().peekable();
        for number in 0..=(last - first) / stretch {
            let begins = first + number * stretch;
            let (mut most_in_flight, mut most_queued) = (in_flight, queued);
            while let Some((_, more_flying, more_queued)) =
                changes.next_if(|(at, ..)| *at < SimTime(begins + stretch))
            {
                in_flight += more_flying;
                queued += more_queued;
                most_in_flight = most_in_flight.max(in_flight);
                most_queued = most_queued.max(queued);
            }
            let levels = [most_in_flight.to_string(), most_queued.to_string()];
            lines.push([self.cell(), machine.clone(), seconds(begins)].into_iter().chain(levels).collect());
        }
        lines
    }

    /// How many requests of each key each machine served, and how much of them it read.
    fn fleet(&self) -> Vec<Vec<String>> {
        let kept: Vec<_> =
            most(&self.calls, FLEET_MACHINES, machine_of).into_iter().map(|(name, _)| name).collect();
        let mut lines = Vec::new();
        for (key, calls) in most(&self.calls, FLEET_KEYS, key_of) {
            let place = |call: &Outcome| {
                let name = machine_of(call);
                if kept.contains(&name) { name } else { OTHERS.into() }
            };
            for (machine, calls) in most(&calls, FLEET_MACHINES + 1, place) {
                let sum = |tokens: fn(&Outcome) -> u32| {
                    calls.iter().map(|call| u64::from(tokens(call))).sum::<u64>().to_string()
                };
                let (prompt, cached) = (sum(|call| call.prompt), sum(|call| call.cached));
                lines.push(vec![self.cell(), key.clone(), machine, calls.len().to_string(), prompt, cached]);
            }
        }
        lines
    }
}

/// The groups with the most requests, the largest first, each with its requests in their order.
fn most(calls: &[Outcome], count: usize, name: impl Fn(&Outcome) -> String) -> Vec<(String, Vec<Outcome>)> {
    let mut places: FxHashMap<String, usize> = FxHashMap::default();
    let mut groups: Vec<(String, Vec<Outcome>)> = Vec::new();
    for call in calls {
        let name = name(call);
        let place = *places.entry(name.clone()).or_insert(groups.len());
        if place == groups.len() {
            groups.push((name, Vec::new()));
        }
        groups[place].1.push(*call);
    }
    // Stable: of groups of one size the one that came first stays first.
    groups.sort_by_key(|(_, calls)| std::cmp::Reverse(calls.len()));
    groups.truncate(count);
    groups
}

/// The key of a request, by its partition where there are several.
pub fn key_of(call: &Outcome) -> String {
    let key = match call.key.to_string() {
        none if none.is_empty() => "no key".to_string(),
        key => key,
    };
    if call.named_partition == 0 { key } else { format!("{key} of partition {}", call.named_partition) }
}

/// The machine of a request, by its partition where there are several.
pub fn machine_of(call: &Outcome) -> String {
    let machine = call.machine.0;
    if call.partition == 0 { machine.to_string() } else { format!("{}/{machine}", call.partition) }
}

fn minute(call: &Outcome) -> u64 {
    call.arrival.0 / Span::MINUTE.0
}

/// Nanoseconds as seconds, to a thousandth.
pub fn seconds(nanos: u64) -> String {
    let millis = nanos / 1_000_000;
    format!("{}.{:03}", millis / 1000, millis % 1000)
}
