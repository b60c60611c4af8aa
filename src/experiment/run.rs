//! One replication of a scenario.

use crate::client::request::Request;
use crate::client::sample::GROUPS;
use crate::client::traffic::Traffic;
use crate::error::Result;
use crate::experiment::coupling::{fleet, is_as_busy};
use crate::experiment::metrics::{Metrics, Row};
use crate::experiment::sample::{Estimated, estimate};
use crate::experiment::scenario::{Loaded, Scenario};
use crate::extent::Extent;
use crate::prompt::PrefixTree;
use crate::provider::profile::Provider;
use crate::provider::write::MarksWanted;
use crate::random::{Seed, digest};
use crate::simulation::engine::{self, Observer, Simulation};
use crate::simulation::lifetimes::Lifetimes;
use crate::simulation::outcome::Outcome;
use crate::simulation::regime::Regime;
use crate::simulation::variants::Variants;
use crate::units::{SimTime, Span};

/// What a replication gives beside the outcomes it showed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The numbers, estimated if only a sample was simulated.
    pub row: Row,
    /// The estimate with what its error follows from, if only a sample was simulated.
    pub estimated: Option<Estimated>,
    /// Requests that were simulated, those of the warm-up and repeated ones included.
    pub sent: u64,
    /// Time from the first of them (of generated traffic: from its beginning) to the last that was counted.
    pub span: Span,
    /// Bad trace lines that were skipped on request: their number, and messages for the first few.
    pub skipped: (u64, Vec<String>),
}

/// Plays one replication that nobody watches. (It stands here once, and not wherever it is called: the loop is long, and
/// takes long to compile.)
#[inline(never)]
pub fn replicate_unwatched(loaded: &Loaded, replication: u32) -> Result<Report> {
    replicate(loaded, replication, |_| ())
}

/// Plays one replication and shows every outcome, those of the warm-up included, to `observe`.
pub fn replicate(loaded: &Loaded, replication: u32, observe: impl FnMut(&Outcome)) -> Result<Report> {
    let mut simulation = simulation(loaded, replication)?;
    let mut counting = Counting { parts: metrics(loaded), observe };
    simulation.run(&mut counting)?;
    Ok(report(loaded, &simulation, &mut counting.parts))
}

/// Counts outcomes, and shows them to somebody.
struct Counting<F> {
    parts: Vec<Metrics>,
    observe: F,
}

impl<F: FnMut(&Outcome)> Observer for Counting<F> {
    #[inline(always)]
    fn observe(&mut self, outcome: &Outcome) {
        self.parts[usize::from(outcome.group)].count(outcome);
        (self.observe)(outcome);
    }
}

/// Like [`replicate`], and shows the requests behind the outcomes too, with the tree that their prompts stand in. (Compiled
/// once, for whoever looks so closely.)
pub fn replicate_requests(
    loaded: &Loaded,
    replication: u32,
    observe: &mut dyn FnMut(&Outcome, &Request, &PrefixTree),
) -> Result<Report> {
    let mut simulation = simulation(loaded, replication)?;
    let mut parts = metrics(loaded);
    simulation.run_requests(&mut |outcome, request, tree| {
        parts[usize::from(outcome.group)].count(outcome);
        observe(outcome, request, tree);
    })?;
    Ok(report(loaded, &simulation, &mut parts))
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
        counted[number][usize::from(outcome.group)].count(outcome);
        observe(number, outcome);
    })?;
    Ok(counted.iter_mut().map(|parts| report(loaded, simulation.simulation(), parts)).collect())
}

/// Plays one replication of each of these scenarios, whose traffic is the
/// [`same`](crate::experiment::same_traffic::traffic), in one pass: one report for each, and the same that
/// [`replicate`] would give.
///
/// # Panics
/// If there are none, or one needs more than [plain](Extent::Plain) runs.
pub fn replicate_variants(
    variants: &[&Loaded],
    replication: u32,
    mut observe: impl FnMut(usize, &Outcome),
) -> Result<Vec<Report>> {
    let mut together = Variants::new(simulation(variants[0], replication)?);
    // One after the other, so that a trace is open twice at most.
    for loaded in &variants[1..] {
        together.add(simulation(loaded, replication)?);
    }
    let mut counted: Vec<_> = variants.iter().map(|loaded| metrics(loaded)).collect();
    together.run(|number, outcome| {
        counted[number][usize::from(outcome.group)].count(outcome);
        observe(number, outcome);
    })?;
    let reports = variants.iter().zip(&mut counted);
    Ok(reports.map(|(loaded, parts)| report(loaded, together.simulation(), parts)).collect())
}

/// Nothing counted yet: of what is simulated whole and, if there is a sample, of each of its groups.
fn metrics(loaded: &Loaded) -> Vec<Metrics> {
    let scenario = &loaded.scenario;
    let prices: Vec<_> =
        scenario.providers().map(|(at, provider)| (at, provider.chosen_model().prices())).collect();
    let groups = scenario.sampled().map_or(0, |_| GROUPS);
    (0..=groups).map(|_| Metrics::new(prices.clone(), start(loaded), scenario.warmup)).collect()
}

/// The report on a simulation that has run.
fn report(loaded: &Loaded, simulation: &Simulation, parts: &mut [Metrics]) -> Report {
    let duration = loaded.scenario.duration;
    let measured_until =
        (start(loaded).is_some() && duration != Span::UNLIMITED).then(|| SimTime::ZERO + duration);
    let mut skipped = (0, Vec::new());
    for lines in simulation.traffic().skipped() {
        skipped.0 += lines.count;
        skipped.1.extend(lines.first.iter().cloned());
    }
    let sent = simulation.traffic().calls();
    let span = parts.iter().map(Metrics::span).max().unwrap_or(Span::ZERO);
    // Lines are skipped by traces, which are played whole.
    let mut lines = skipped.0;
    let row = |part: &mut Metrics| part.row(measured_until, std::mem::take(&mut lines));
    let mut rows: Vec<_> = parts.iter_mut().map(row).collect();
    let Scenario { client, .. } = &loaded.scenario;
    let estimated = loaded.scenario.sampled().zip(simulation.traffic().sample()).map(|(share, sample)| {
        let is_as_busy = loaded.scenario.providers().all(|(_, provider)| is_as_busy(client, provider, share));
        let times = |without: Option<usize>| {
            let groups = parts.iter().skip(1).enumerate().filter(|(group, _)| Some(*group) != without);
            let mut together = metrics(loaded).swap_remove(0);
            groups.for_each(|(_, part)| together.add_times(part));
            together.row(None, 0)
        };
        estimate(&rows, sample, is_as_busy, times)
    });
    let row = estimated.as_ref().map_or_else(|| rows.swap_remove(0), |estimated| estimated.row.clone());
    Report { row, estimated, sent, span, skipped }
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
    let (client, duration) = (&scenario.client, scenario.duration);
    let traffic = Traffic::new(client, duration, marks_wanted(scenario), &seed, &loaded.folder)?;
    let traffic = match scenario.sampled() {
        Some(share) => {
            let salt = seed.session_keys(digest("sample")).next_key();
            traffic.sampled(client, share, salt.0)
        }
        None => traffic,
    };
    let backends = seed.session_keys(digest("backends")).next_key();
    Ok(Simulation::new(traffic, start(loaded), regimes(loaded), backends, scenario.attribution))
}

/// How much of the model a scenario's runs need.
pub fn extent(loaded: &Loaded) -> Extent {
    let scenario = &loaded.scenario;
    engine::extent(scenario.client.extent(marks_wanted(scenario)), &regimes(loaded))
}

/// The marks that its providers look at: a session may live on under one that looks at more of what it has sent.
fn marks_wanted(scenario: &Scenario) -> MarksWanted {
    let wanted = scenario.providers().map(|(_, provider)| provider.write.marks_wanted());
    wanted.fold(MarksWanted::default(), MarksWanted::and)
}

fn regimes(loaded: &Loaded) -> Vec<Regime> {
    let scenario = &loaded.scenario;
    let regime = |(at, provider): (Span, &Provider)| {
        let mut provider = provider.clone();
        if let Some(share) = scenario.sampled() {
            provider.routing.machines = fleet(&scenario.client, &provider, share);
        }
        Regime { at, terms: loaded.terms(&provider), provider }
    };
    scenario.providers().map(regime).collect()
}
