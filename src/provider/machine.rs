//! Machine: a first-in first-out queue before a number of slots; time to first token and total latency.
//!
//! `ttft = network + queue wait + noise x (overhead + a x uncached + b x cached + attention)` and
//! `total = ttft + output x time per output token`. A slot is held from the end of the wait to the end of the
//! answer. As the service time is known at arrival, the queue needs no events: each slot remembers when it
//! will be free.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::provider::routing::MachineId;
use crate::queue::{Event, Queue};
use crate::random::{Draws, Purpose};
use crate::units::{SimTime, Span, Tokens};

/// How long a machine takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Requests a machine works on at a time.
    pub slots: u32,
    /// Time on the wire, outside the machine.
    pub network: Span,
    /// Time before the first token that no token accounts for.
    pub overhead: Span,
    /// Time to compute one uncached prompt token.
    pub per_uncached_token: Span,
    /// Time to load one cached prompt token.
    pub per_cached_token: Span,
    /// Attention term: time for each million pairs of an uncached token and a token before it.
    pub attention_per_million_pairs: Span,
    /// Standard deviation of the logarithm of the noise that multiplies the time before the first token; the
    /// noise has mean 1, and 0 switches it off.
    pub noise_sigma: f64,
    /// Time to generate one output token.
    pub per_output_token: Span,
}

impl Latency {
    /// Checks what the types cannot say; the error names the field.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        if self.slots == 0 {
            return Err(("slots", "must be 1 or more".into()));
        }
        if !(0.0..=3.0).contains(&self.noise_sigma) {
            return Err(("noise_sigma", "must be from 0 to 3".into()));
        }
        Ok(())
    }

    /// The noise of a request with these draws; `None` if it is switched off.
    #[inline(always)]
    fn noise(&self, draws: Draws) -> Option<f64> {
        let sigma = self.noise_sigma;
        let noise = || libm::exp(sigma * draws.normal(Purpose::Noise, 0) - sigma * sigma / 2.0);
        (sigma != 0.0).then(noise)
    }

    /// Time from the start of service to the first token.
    #[inline(always)]
    fn prefill(&self, uncached: Tokens, cached: Tokens, noise: Option<f64>) -> Span {
        let mean = self.overhead
            + self.per_uncached_token.times(u64::from(uncached))
            + self.per_cached_token.times(u64::from(cached))
            + self.attention(uncached, cached);
        noise.map_or(mean, |noise| mean.scale(noise))
    }

    fn attention(&self, uncached: Tokens, cached: Tokens) -> Span {
        if self.attention_per_million_pairs == Span::ZERO {
            return Span::ZERO;
        }
        let pairs = u64::from(uncached) * (u64::from(cached) + u64::from(uncached) / 2);
        let attention = u128::from(pairs) * u128::from(self.attention_per_million_pairs.0) / 1_000_000;
        Span(u64::try_from(attention).unwrap_or(u64::MAX))
    }
}

/// When things happen to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Time in the queue.
    pub wait: Span,
    /// Time from arrival to the first token.
    pub ttft: Span,
    /// Time from arrival to the end of the answer.
    pub total: Span,
}

/// The queues of all machines.
#[derive(Clone, Debug)]
pub struct Machines {
    latency: Latency,
    /// For each machine, when each of the slots it has used will be free.
    slots: Vec<BinaryHeap<Reverse<SimTime>>>,
    unfinished: Queue,
    /// Requests so far.
    served: u64,
    in_flight: Vec<u32>,
}

impl Machines {
    /// Idle machines.
    pub fn new(latency: &Latency, count: usize) -> Self {
        Self {
            latency: latency.clone(),
            slots: vec![BinaryHeap::new(); count],
            unfinished: Queue::default(),
            served: 0,
            in_flight: vec![0; count],
        }
    }

    /// Forgets requests that are complete by `now`.
    #[inline(always)]
    pub fn advance(&mut self, now: SimTime) {
        while let Some(Event { subject: machine, .. }) = self.unfinished.pop_until(now) {
            self.in_flight[machine as usize] -= 1;
        }
    }

    /// Unfinished requests on one machine.
    pub fn in_flight(&self, machine: MachineId) -> u32 {
        self.in_flight[machine.0 as usize]
    }

    /// Unfinished requests on all machines, with one that has just been served in `timing`.
    pub fn in_flight_with(&self, timing: &Timing) -> u32 {
        // What is answered at once is not in flight for anybody else.
        self.unfinished.len() as u32 + u32::from(timing.total == Span::ZERO)
    }

    /// The noise of a request with these draws, if there is any.
    #[inline(always)]
    pub fn noise(&self, draws: Draws) -> Option<f64> {
        self.latency.noise(draws)
    }

    /// Standard deviation of the logarithm of the noise.
    pub fn noise_sigma(&self) -> f64 {
        self.latency.noise_sigma
    }

    /// Puts a request that arrives at `now` behind those already there.
    #[inline(always)]
    pub fn serve(
        &mut self,
        machine: MachineId,
        now: SimTime,
        cached: Tokens,
        uncached: Tokens,
        output: Tokens,
        noise: Option<f64>,
    ) -> Timing {
        let prefill = self.latency.prefill(uncached, cached, noise);
        let decode = self.latency.per_output_token.times(u64::from(output));
        let slots = &mut self.slots[machine.0 as usize];
        // Whichever slot is free first takes it; one that is free already does as well as one never used.
        let all_used = slots.len() >= self.latency.slots as usize;
        let start = match slots.peek() {
            Some(Reverse(free)) if all_used || *free <= now => now.max(*free),
            _ => {
                slots.push(Reverse(SimTime::ZERO));
                now
            }
        };
        *slots.peek_mut().expect("a machine has a slot") = Reverse(start + prefill + decode);
        let wait = start.since(now);
        let ttft = self.latency.network + wait + prefill;
        let total = ttft + decode;
        let timing = Timing { wait, ttft, total };
        if total > Span::ZERO {
            self.in_flight[machine.0 as usize] += 1;
            self.served += 1;
            self.unfinished.push(Event { time: now + total, order: self.served, subject: machine.0 });
        }
        timing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SessionKey;

    #[test]
    fn three_requests_share_two_slots_in_order() {
        let second = |n| Span::from_seconds(n);
        let latency = Latency {
            slots: 2,
            network: second(1),
            overhead: second(2),
            per_uncached_token: second(1),
            per_cached_token: Span::ZERO,
            attention_per_million_pairs: Span::ZERO,
            noise_sigma: 0.0,
            per_output_token: second(1),
        };
        let mut machines = Machines::new(&latency, 1);
        assert_eq!(machines.noise(SessionKey(1).turn(0)), None);
        let mut serve = |now, uncached| {
            machines.advance(SimTime::ZERO + second(now));
            let timing = machines.serve(MachineId(0), SimTime::ZERO + second(now), 5, uncached, 3, None);
            ([timing.wait, timing.ttft, timing.total].map(Span::seconds), machines.in_flight_with(&timing))
        };
        assert_eq!(serve(0, 5), ([0.0, 8.0, 11.0], 1));
        assert_eq!(serve(1, 0), ([0.0, 3.0, 6.0], 2));
        assert_eq!(serve(2, 0), ([4.0, 7.0, 10.0], 3), "the second slot is free at 6 s");
        assert_eq!(serve(20, 0), ([0.0, 3.0, 6.0], 1));
    }
}
