//! The same requests under several providers and keying strategies, in one pass.
//!
//! Where no answer decides what is sent, or when, requests are the same whatever becomes of them. They are then generated,
//! or read from a trace, once, and every one comes to each side, with the key that it has there, as if that side were
//! the only one.

use crate::client::key::Keying;
use crate::client::request::Request;
use crate::client::session::Session;
use crate::error::Result;
use crate::extent::Extent;
use crate::simulation::engine::{Simulation, response};
use crate::simulation::outcome::Outcome;
use crate::units::SimTime;

/// One traffic and its variants.
///
/// Whoever asks for this answers for the conditions, which [`traffic`](crate::experiment::same_traffic::traffic) knows.
pub struct Variants {
    simulation: Simulation,
    /// What the requests become at each further side.
    others: Vec<Other>,
}

/// What requests become at another side than the first.
struct Other {
    /// How those of each workload are keyed.
    keyed: Vec<Keyed>,
    /// Whether their noise is that at the first side.
    shares_noise: bool,
}

/// How a workload's requests are keyed.
struct Keyed {
    keying: Keying,
    /// Requests assigned in turn.
    assigned: u64,
}

impl Variants {
    /// `simulation` alone; others are added.
    pub fn new(simulation: Simulation) -> Self {
        assert_eq!(simulation.extent(), Extent::Plain, "no answer may decide what is sent");
        Self { simulation, others: Vec::new() }
    }

    /// Adds the provider of `other`, a simulation of the same traffic, and the keys that it gives to requests.
    pub fn add(&mut self, other: Simulation) {
        assert_eq!(other.extent(), Extent::Plain, "no answer may decide what is sent");
        let Self { simulation: Simulation { sides, .. }, others } = self;
        let shares_noise = sides.first.noise_sigma() == other.sides.first.noise_sigma();
        let keyed = |keying: &Keying| Keyed { keying: keying.clone(), assigned: 0 };
        let keyed = other.traffic.keyings().map(keyed).collect();
        sides.others.push(other.sides.first);
        others.push(Other { keyed, shares_noise });
    }

    /// Runs to the end of the traffic and shows every outcome, in the order of arrival, of each variant by its number.
    /// Fails only where the traffic does: at a bad line of a trace.
    pub fn run(&mut self, mut observe: impl FnMut(usize, &Outcome)) -> Result<()> {
        let Self { simulation, others } = self;
        simulation.play(Extent::Plain, |simulation, session, now| {
            arrive(simulation, others, session, now, &mut observe)
        })
    }

    /// What was simulated, for what its traffic skipped.
    pub fn simulation(&self) -> &Simulation {
        &self.simulation
    }
}

/// One request, at every side; when its session calls again.
fn arrive(
    simulation: &mut Simulation,
    others: &mut [Other],
    session: &mut Session,
    now: SimTime,
    observe: &mut impl FnMut(usize, &Outcome),
) -> Option<SimTime> {
    let mut request = simulation.traffic.request(session, now, &mut simulation.tree, Extent::Plain);
    let noise = simulation.sides.first.noise(request.draws);
    let first = answer(simulation, 0, &request, noise, now);
    observe(0, &first);
    let seen = response(&request, &first);
    // What its session's last response came by is known of the first side alone.
    request.likely = None;
    debug_assert!(!request.known, "single calls and traces know of no routing key");
    for (number, Other { keyed, shares_noise }) in (1..).zip(others) {
        let Keyed { keying, assigned } = &mut keyed[request.workload as usize];
        request.key = simulation.traffic.key_under(keying, session, &request, assigned);
        let noise = match shares_noise {
            true => noise,
            false => simulation.sides.numbered(number).noise(request.draws),
        };
        observe(number as usize, &answer(simulation, number, &request, noise, now));
    }
    simulation.traffic.answered(session, &request, &seen, &mut simulation.next, Extent::Plain)
}

/// What becomes of a request at the side of this number.
fn answer(
    simulation: &mut Simulation,
    number: u32,
    request: &Request,
    noise: Option<f64>,
    now: SimTime,
) -> Outcome {
    let Simulation { sides, tree, .. } = simulation;
    let (outcome, left) = sides.numbered(number).answer_plainly(tree, request, now, noise);
    simulation.arrived_plainly(number, left, outcome.visible_at, now);
    outcome
}
