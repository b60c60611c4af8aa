//! Cells of a sweep whose requests are the same, whatever becomes of them: they are generated, or read, once for all.

use std::collections::BTreeMap;

use crate::client::key::Keying;
use crate::client::workload::{Client, Workload};
use crate::experiment::lifetimes::Lifetimes;
use crate::experiment::run::extent;
use crate::experiment::scenario::Loaded;
use crate::experiment::sweep::Plan;
use crate::extent::Extent;

/// The most cells of one pass: each has machines and stores of its own.
const MOST_TOGETHER: usize = 16;

/// Jobs for each core: with fewer, cores would wait for the last of them.
const JOBS_FOR_EACH_CORE: usize = 4;

/// What the requests of a scenario follow from, where nothing that becomes of them decides what is sent, or when; two
/// scenarios for which that is equal send the same requests with the same seed, but for their keys.
pub fn traffic(loaded: &Loaded) -> Option<String> {
    let scenario = &loaded.scenario;
    // The requests of a log in place of a file would all be part of the key; sweeps play none.
    let is_logged = |workload: &Workload| workload.trace.as_ref().is_some_and(|trace| trace.logged.is_some());
    if scenario.client.workload.values().any(|workload| workload.waits() || is_logged(workload)) {
        return None;
    }
    // A sample goes by keys.
    if scenario.sampled().is_some() || extent(loaded) == Extent::Full {
        return None;
    }
    let mut client: Client = scenario.client.clone();
    (client.key, client.retention) = (Keying::default(), None);
    for workload in client.workload.values_mut() {
        (workload.key, workload.retention) = (None, None);
    }
    let head = scenario.provider.routing.hash_tokens;
    // Not as it would be written: rates are written rounded.
    Some(format!("{:?}", (client, scenario.duration, scenario.seed, head)))
}

/// What a user should know of how cells are played, if some are played together. (An axis over lifetimes goes before: what
/// its pass shares is more.)
pub fn said(plan: &Plan) -> Option<String> {
    if Lifetimes::of(&plan.outline).is_some() {
        return None;
    }
    let passes = passes(plan);
    let together = || passes.iter().map(Vec::len).filter(|cells| *cells > 1);
    let most = together().max()?;
    Some(format!(
        "{} of {} cells: the requests are generated once for up to {most} of them, since no answer decides what is sent",
        together().sum::<usize>(),
        plan.cells.len()
    ))
}

/// Which cells of a plan are played together: those whose requests are the same, as long as all cores have enough to do,
/// and every other one alone.
pub fn passes(plan: &Plan) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut alone = Vec::new();
    for cell in &plan.cells {
        match traffic(&cell.loaded) {
            Some(traffic) => groups.entry(traffic).or_default().push(cell.number),
            None => alone.push(vec![cell.number]),
        }
    }
    let jobs = JOBS_FOR_EACH_CORE * rayon::current_num_threads();
    let most = (plan.jobs() / jobs).clamp(1, MOST_TOGETHER);
    let together =
        groups.into_values().flat_map(|group| group.chunks(most).map(<[usize]>::to_vec).collect::<Vec<_>>());
    together.chain(alone).collect()
}
