//! One replication of a scenario.

use crate::client::traffic::Traffic;
use crate::error::Result;
use crate::experiment::metrics::{Metrics, Row};
use crate::experiment::scenario::Loaded;
use crate::random::Seed;
use crate::simulation::engine::Simulation;
use crate::simulation::outcome::Outcome;
use crate::units::{SimTime, Span};

/// What a replication gives beside the outcomes it showed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The numbers.
    pub row: Row,
    /// Bad trace lines that were skipped on request: their number, and messages for the first few.
    pub skipped: (u64, Vec<String>),
}

/// Plays one replication and shows every outcome, those of the warm-up included, to `observe`.
pub fn replicate(loaded: &Loaded, replication: u32, mut observe: impl FnMut(&Outcome)) -> Result<Report> {
    let scenario = &loaded.scenario;
    let mut simulation = simulation(loaded, replication)?;
    let generated = scenario.client.workload.values().any(|workload| workload.arrivals.is_some());
    let prices = scenario.provider.chosen_model().prices();
    let mut metrics = Metrics::new(prices, generated.then_some(SimTime::ZERO), scenario.warmup);
    simulation.run(|outcome| {
        metrics.count(outcome);
        observe(outcome);
    })?;
    let measured_until =
        (generated && scenario.duration != Span::UNLIMITED).then(|| SimTime::ZERO + scenario.duration);
    let mut skipped = (0, Vec::new());
    for lines in simulation.traffic().skipped() {
        skipped.0 += lines.count;
        skipped.1.extend(lines.first.iter().cloned());
    }
    Ok(Report { row: metrics.row(measured_until, skipped.0), skipped })
}

/// A simulation of one replication, ready to run.
pub fn simulation(loaded: &Loaded, replication: u32) -> Result<Simulation> {
    let scenario = &loaded.scenario;
    let seed = Seed::new(scenario.seed, u64::from(replication));
    let traffic = Traffic::new(
        &scenario.client,
        scenario.duration,
        scenario.provider.write.messages_wanted(),
        &seed,
        &loaded.folder,
    )?;
    Ok(Simulation::new(traffic, loaded.terms(), &scenario.provider, scenario.attribution))
}
