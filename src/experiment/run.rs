//! One replication of a scenario.

use crate::client::request::Request;
use crate::client::traffic::Traffic;
use crate::error::Result;
use crate::experiment::metrics::{Metrics, Row};
use crate::experiment::scenario::Loaded;
use crate::prompt::PrefixTree;
use crate::provider::profile::Provider;
use crate::provider::write::MarksWanted;
use crate::random::{Seed, digest};
use crate::simulation::engine::{Regime, Simulation};
use crate::simulation::lifetimes::Lifetimes;
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
    let mut simulation = simulation(loaded, replication)?;
    let mut metrics = metrics(loaded);
    simulation.run(|outcome| {
        metrics.count(outcome);
        observe(outcome);
    })?;
    Ok(report(loaded, &simulation, &mut metrics))
}

/// Like [`replicate`], and shows the requests behind the outcomes too, with the tree that their prompts stand in.
pub fn replicate_requests(
    loaded: &Loaded,
    replication: u32,
    mut observe: impl FnMut(&Outcome, &Request, &PrefixTree),
) -> Result<Report> {
    let mut simulation = simulation(loaded, replication)?;
    let mut metrics = metrics(loaded);
    simulation.run_requests(|outcome, request, tree| {
        metrics.count(outcome);
        observe(outcome, request, tree);
    })?;
    Ok(report(loaded, &simulation, &mut metrics))
}

/// Plays one replication under each of these constant lifetimes in place of the scenario's, in one pass: one report
/// for each lifetime, and the same that [`replicate`] would give, if no
/// [`obstacle`](crate::experiment::lifetimes::obstacle) is in the way.
pub fn replicate_lifetimes(
    loaded: &Loaded,
    replication: u32,
    lifetimes: &[Span],
    mut observe: impl FnMut(usize, &Outcome),
) -> Result<Vec<Report>> {
    let mut simulation = Lifetimes::new(simulation(loaded, replication)?, lifetimes);
    let mut counted: Vec<_> = lifetimes.iter().map(|_| metrics(loaded)).collect();
    simulation.run(|number, outcome| {
        counted[number].count(outcome);
        observe(number, outcome);
    })?;
    Ok(counted.iter_mut().map(|metrics| report(loaded, simulation.simulation(), metrics)).collect())
}

/// Nothing counted yet.
fn metrics(loaded: &Loaded) -> Metrics {
    let scenario = &loaded.scenario;
    let prices = scenario.providers().map(|(at, provider)| (at, provider.chosen_model().prices())).collect();
    Metrics::new(prices, start(loaded), scenario.warmup)
}

/// The report on a simulation that has run.
fn report(loaded: &Loaded, simulation: &Simulation, metrics: &mut Metrics) -> Report {
    let duration = loaded.scenario.duration;
    let measured_until =
        (start(loaded).is_some() && duration != Span::UNLIMITED).then(|| SimTime::ZERO + duration);
    let mut skipped = (0, Vec::new());
    for lines in simulation.traffic().skipped() {
        skipped.0 += lines.count;
        skipped.1.extend(lines.first.iter().cloned());
    }
    Report { row: metrics.row(measured_until, skipped.0), skipped }
}

/// When the traffic starts: at time zero, or (`None`) with its first request, where all of it is recorded.
fn start(loaded: &Loaded) -> Option<SimTime> {
    let mut workloads = loaded.scenario.client.workload.values();
    workloads.any(|workload| workload.arrivals.is_some()).then_some(SimTime::ZERO)
}

/// A simulation of one replication, ready to run.
pub fn simulation(loaded: &Loaded, replication: u32) -> Result<Simulation> {
    let scenario = &loaded.scenario;
    let seed = Seed::new(scenario.seed, u64::from(replication));
    // A session may live on under a provider that looks at more of what it has sent.
    let wanted = scenario.providers().map(|(_, provider)| provider.write.marks_wanted());
    let traffic = Traffic::new(
        &scenario.client,
        scenario.duration,
        wanted.fold(MarksWanted::default(), MarksWanted::and),
        &seed,
        &loaded.folder,
    )?;
    let regime = |(at, provider): (Span, &Provider)| {
        let provider = provider.clone();
        Regime { at, terms: loaded.terms(&provider), provider }
    };
    let regimes = scenario.providers().map(regime).collect();
    let backends = seed.session_keys(digest("backends")).next_key();
    Ok(Simulation::new(traffic, start(loaded), regimes, backends, scenario.attribution))
}
