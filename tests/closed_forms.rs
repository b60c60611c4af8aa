//! The simulator against queueing theory: every figure that has a closed form must lie around it.
//!
//! Each Poisson figure is the mean over independent replications; the closed form must lie inside its 99 %
//! interval (Student t), and the interval must be narrow. Where traffic is fixed, figures are exact. Seeds
//! are fixed, so that the tests always give the same answer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cachecast::client::key::PromptCacheKey;
use cachecast::experiment::metrics::Row;
use cachecast::experiment::run::replicate;
use cachecast::experiment::scenario::{Change, Loaded};
use cachecast::experiment::statistics::t_quantile;
use cachecast::provider::routing::MachineId;
use cachecast::simulation::outcome::Outcome;
use rayon::prelude::*;

/// One Poisson stream of calls with one prefix, to one unlimited machine without latency.
const STREAM: &str = r#"
duration = "1h"
attribution = false

[client.workload.stream]
arrivals = { process = "poisson", rate = "1/s" }

[client.workload.stream.shared_prefix]
prefix_tokens = 2048
tail_tokens = 0
output_tokens = 1

[provider]
profile = "ideal"
"#;

/// Changes to [`STREAM`]: 300 calls, one every 2 s, dealt out to buckets in turn; nothing expires or
/// overflows.
const FIXED: &str = r#"
    duration=10m
    client.key.strategy=buckets
    client.workload.stream.arrivals={ process = "fixed", rate = "30/min" }
    provider.routing.machines=64
"#;

/// [`STREAM`] with other values at some paths: `path=value`, one a line.
fn stream(changes: &str) -> Loaded {
    let lines = changes.lines().filter(|line| !line.trim().is_empty());
    let changes: Vec<_> = lines.map(|line| Change::parse(line.trim()).unwrap()).collect();
    Loaded::from_text("stream", "stream.toml", STREAM, Path::new(""), &changes).unwrap()
}

fn row(scenario: &Loaded, replication: u32) -> Row {
    replicate(scenario, replication, |_| ()).unwrap().row
}

/// A mean with its 99 % interval.
#[derive(Clone, Copy, Debug)]
struct Interval {
    mean: f64,
    half_width: f64,
}

impl Interval {
    /// Student's t interval of independent values.
    fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / (n - 1.0);
        Self { mean, half_width: t_quantile(0.99, values.len() - 1) * (variance / n).sqrt() }
    }

    /// The interval of one column over replications.
    fn simulated(scenario: &Loaded, replications: u32, column: &str) -> Self {
        let value = |replication| row(scenario, replication).get(column).expect("requests were counted");
        Self::of(&(0..replications).into_par_iter().map(value).collect::<Vec<_>>())
    }

    /// Whether a value lies inside; figures of a row are rounded, ratios to six decimals.
    fn contains(&self, value: f64) -> bool {
        (value - self.mean).abs() <= self.half_width + 0.5e-6
    }

    /// Fails unless the closed form lies inside, and the interval is no wider than `widest` on either side.
    fn assert_around(&self, theory: f64, widest: f64, what: &str) {
        let Self { mean, half_width } = self;
        println!("{what}: theory {theory:.6}, simulated {mean:.6} +- {half_width:.6}");
        assert!(self.contains(theory), "{what}: {theory} is not within {mean} +- {half_width}");
        assert!(*half_width <= widest, "{what}: {mean} +- {half_width} says too little");
    }
}

/// Probabilities of 0, 1, 2 ... events of a Poisson law: p(k) = p(k - 1) x mean / k.
fn poisson(mean: f64) -> impl Iterator<Item = f64> {
    (1..1_000u32).scan(libm::exp(-mean), move |next, k| {
        let this = *next;
        *next *= mean / f64::from(k);
        Some(this)
    })
}

/// Erlang's loss formula by its recurrence in the number of servers (Erlang 1917).
fn erlang_b(load: f64, servers: u32) -> f64 {
    (1..=servers).fold(1.0, |blocked, k| load * blocked / (f64::from(k) + load * blocked))
}

/// Erlang's delay formula, the share of calls that wait, from his loss formula.
fn erlang_c(load: f64, servers: u32) -> f64 {
    let blocked = erlang_b(load, servers);
    blocked / (1.0 - load / f64::from(servers) * (1.0 - blocked))
}

#[test]
fn formulas_give_known_values() {
    // Erlang B of 10 erlang on 15 lines; Erlang C of 2 erlang on 3 servers is 4 / 9; P(Poisson(15) >= 15).
    assert!((erlang_b(10.0, 15) - 0.036_497).abs() < 1e-6);
    assert!((erlang_c(2.0, 3) - 4.0 / 9.0).abs() < 1e-12);
    assert!((poisson(15.0).skip(15).sum::<f64>() - 0.534_346).abs() < 1e-6);
    assert!((poisson(60.0).sum::<f64>() - 1.0).abs() < 1e-12);
}

/// M/G/infinity: under `expiry = max(old, arrival + L)` a prefix is alive as long as any earlier request's
/// lifetime L runs, that is as long as the M/G/infinity queue with service times L is not empty. Its length
/// is Poisson with mean rate x E[L] (Takacs 1962), and a Poisson arrival finds it as it is at any time.
#[test]
fn a_poisson_stream_hits_as_often_as_an_infinite_server_queue_is_busy() {
    let laws = [
        ("5m", 5.0),
        ("10m", 10.0),
        ("20m", 20.0),
        ("uniform(5m..10m)", 7.5),
        ("uniform(1m..3m)", 2.0),
        ("uniform(5m..60m)", 32.5),
        ("choice(5m: 3, 30m: 1)", 11.25),
    ];
    for (law, minutes) in laws {
        // From an hour on, the longest lifetime, the cold start has no effect.
        let scenario = stream(&format!(
            "seed=1000
            duration=4001h
            warmup=1h
            client.workload.stream.arrivals.rate=3/h
            provider.profile=openai-classic
            provider.routing.machines=1
            provider.routing.overflow=none
            provider.write.visible=arrival
            provider.retention.lifetime.in_memory={law}"
        ));
        let hits = Interval::simulated(&scenario, 40, "request_hit_ratio");
        let theory = 1.0 - libm::exp(-3.0 / 60.0 * minutes);
        hits.assert_around(theory, 0.003, &format!("request hit ratio, lifetime {law}"));
    }
}

/// A Poisson stream that is split at random over m machines is m independent ones of a m-th of the rate.
#[test]
fn a_pool_divides_the_rate_by_its_machines() {
    for pool in [1, 2, 5, 20] {
        let scenario = stream(&format!(
            "seed=2000
            duration=6005m
            warmup=5m
            client.workload.stream.arrivals.rate=1/min
            provider.routing.machines=64
            provider.routing.rule=pool
            provider.routing.pool={pool}
            provider.retention.lifetime.ideal=5m"
        ));
        let hits = Interval::simulated(&scenario, 40, "request_hit_ratio");
        let theory = 1.0 - libm::exp(-5.0 / f64::from(pool));
        hits.assert_around(theory, 0.003, &format!("request hit ratio, pool of {pool}"));
    }
}

/// The overflow share of a Poisson stream under each way of counting, with `load` = rate x 60 s and c = 15:
/// * `admitted`: a rank is a loss system of c servers that are each busy for 60 s, M/D/c/c: Erlang B, which
///   does not depend on the law of the service times;
/// * `arrivals`: as many as c earlier arrivals in the window, P(N >= c) for N Poisson(load);
/// * `tumbling`: all but the first c of a minute, E[(N - c)+] / E[N].
fn overflow_shares(load: f64) -> [(&'static str, f64); 3] {
    let above = (15u32..).zip(poisson(load).skip(15)).map(|(n, p)| f64::from(n - 15) * p);
    [
        ("admitted", erlang_b(load, 15)),
        ("arrivals", poisson(load).skip(15).sum()),
        ("tumbling", above.sum::<f64>() / load),
    ]
}

#[test]
fn the_overflow_share_follows_from_what_is_counted() {
    for (rate, hours, widest) in [(5, 200, 0.0001), (15, 40, 0.005), (30, 20, 0.005), (60, 10, 0.005)] {
        let shares = overflow_shares(f64::from(rate));
        for (count, theory) in shares {
            let scenario = stream(&format!(
                "seed=3000
                duration={}h
                warmup=1h
                client.workload.stream.arrivals.rate={rate}/min
                provider.routing.machines=64
                provider.routing.overflow=cascade
                provider.routing.rate_count={count}",
                hours + 1
            ));
            let share = Interval::simulated(&scenario, 40, "overflow_share");
            let what = format!("overflow share at {rate} a minute, counting {count}");
            share.assert_around(theory, widest, &what);
            let others = shares.iter().filter(|(other, _)| *other != count);
            others.for_each(|(other, theory)| assert!(!share.contains(*theory), "{what}: might be {other}"));
        }
    }
}

/// M/D/1: mean wait = rho x D / (2 (1 - rho)) (Pollaczek and Khinchine). D = 0.2 s overhead + 500 uncached
/// tokens of 1 ms + 30 output tokens of 10 ms = 1 s: every part of the service must hold the slot.
#[test]
fn one_slot_makes_requests_wait_as_in_m_d_1() {
    for (load, hours) in [(0.3, 20), (0.6, 20), (0.8, 30)] {
        let scenario = stream(&format!(
            "seed=4000
            duration={}h
            warmup=1h
            client.workload.stream.arrivals.rate={load}/s
            client.workload.stream.shared_prefix.prefix_tokens=0
            client.workload.stream.shared_prefix.tail_tokens=500
            client.workload.stream.shared_prefix.output_tokens=30
            provider.latency.slots=1
            provider.latency.overhead=200ms
            provider.latency.per_uncached_token=1ms
            provider.latency.per_output_token=10ms",
            hours + 1
        ));
        let wait = Interval::simulated(&scenario, 20, "wait_mean_ms");
        let theory = 1_000.0 * load / (2.0 * (1.0 - load));
        wait.assert_around(theory, 0.03 * theory, &format!("M/D/1 wait at load {load}, ms"));
    }
}

/// M/M/c: mean wait = C(c, a) / (c mu - lambda), with Erlang's C and a = lambda / mu. Answers of 10,000
/// tokens on average make the steps of a token too small to see.
#[test]
fn several_slots_make_requests_wait_as_in_m_m_c() {
    for (slots, load, hours) in [(1, 0.5, 30), (2, 0.7, 30), (4, 0.8, 20)] {
        let rate = f64::from(slots) * load;
        let scenario = stream(&format!(
            "seed=5000
            duration={}h
            warmup=1h
            client.workload.stream.arrivals.rate={rate}/s
            client.workload.stream.shared_prefix.output_tokens=exponential(10000)
            provider.latency.slots={slots}
            provider.latency.per_output_token=100us",
            hours + 1
        ));
        let wait = Interval::simulated(&scenario, 20, "wait_mean_ms");
        let theory = 1_000.0 * erlang_c(rate, slots) / (f64::from(slots) - rate);
        wait.assert_around(theory, 0.03 * theory, &format!("M/M/{slots} wait at load {load}, ms"));
    }
}

/// Round robin deals fixed arrivals out evenly: k buckets get n / k requests each, the busiest the most that
/// any of k gets of a minute's 30. When the key is identity and nothing expires, each bucket misses once.
#[test]
fn round_robin_buckets_share_fixed_arrivals_exactly() {
    for buckets in [1, 2, 3, 4, 6, 12u32] {
        let scenario =
            stream(&format!("{FIXED}\nclient.key.buckets={buckets}\nprovider.routing.key_role=identity"));
        let mut calls = BTreeMap::<PromptCacheKey, u32>::new();
        let row = replicate(&scenario, 0, |outcome| *calls.entry(outcome.key).or_default() += 1).unwrap().row;
        assert!(calls.len() == buckets as usize && calls.values().all(|calls| *calls == 300 / buckets));
        let (k, tokens) = (f64::from(buckets), 2_048.0);
        let exact = [
            ("requests", 300.0),
            ("keys", k),
            ("key_rpm_mean", 30.0 / k),
            ("key_rpm_peak", f64::from(30u32.div_ceil(buckets))),
            ("machines_per_key", 1.0),
            ("overflow_share", 0.0),
            ("hit_requests", 300.0 - k),
            ("cached_tokens", (300.0 - k) * tokens),
            ("written_tokens", k * tokens),
        ];
        for (column, value) in exact {
            assert_eq!(row.get(column), Some(value), "{column} of {buckets} buckets");
        }
    }
}

/// When the key only steers routing, buckets that share a machine share its prefix: each machine misses once.
#[test]
fn buckets_that_only_steer_miss_once_a_machine() {
    let mut shared = 0;
    for buckets in [1, 3, 6, 12, 60] {
        let scenario = stream(&format!("{FIXED}\nclient.key.buckets={buckets}"));
        let mut machines = BTreeSet::<MachineId>::new();
        let row = replicate(&scenario, 0, |outcome| _ = machines.insert(outcome.machine)).unwrap().row;
        assert_eq!(row.get("hit_requests"), Some(300.0 - machines.len() as f64));
        shared += buckets - machines.len();
    }
    assert!(shared > 0, "60 keys on 64 machines do not all live alone");
}

/// Fixed arrivals at r a minute and bucket fill the limit of 15 in a cycle of 60 s: `admitted` and
/// `tumbling` turn away all but 15 of r, `arrivals` counts r - 1 earlier ones, so that all overflow or none.
#[test]
fn fixed_arrivals_overflow_exactly() {
    for (rate, buckets) in [(15, 1), (16, 1), (30, 1), (30, 2), (60, 1), (60, 3), (60, 4u32)] {
        let each = f64::from(rate) / f64::from(buckets);
        let turned_away = (1.0 - 15.0 / each).max(0.0);
        let all_or_none = if each - 1.0 >= 15.0 { 1.0 } else { 0.0 };
        for (count, share) in
            [("admitted", turned_away), ("tumbling", turned_away), ("arrivals", all_or_none)]
        {
            let scenario = stream(&format!(
                "{FIXED}
                warmup=1m
                client.workload.stream.arrivals.rate={rate}/min
                client.key.buckets={buckets}
                provider.routing.overflow=cascade
                provider.routing.rate_count={count}"
            ));
            let simulated = row(&scenario, 0).get("overflow_share");
            assert_eq!(simulated, Some(share), "{rate} a minute in {buckets} buckets, counting {count}");
        }
    }
}

/// A mixture with every kind of draw: bursts, lengths, think times, buckets, machines, lifetimes, noise.
const MIXTURE: &str = r#"
    attribution=true
    warmup=5m
    client.key={ strategy = "buckets", buckets = 3, assign = "random" }
    client.workload.stream.arrivals.rate=20/min
    client.workload.stream.shared_prefix.tail_tokens=uniform(10..500)
    client.workload.talk.arrivals={ process = "gamma", rate = "2/min", gap_variation = 3.0 }
    client.workload.talk.chat.prefix_tokens=1500
    client.workload.talk.chat.turns=uniform(1..6)
    client.workload.talk.chat.user_tokens=lognormal(200, 1.0)
    client.workload.talk.chat.output_tokens=exponential(300)
    client.workload.talk.chat.think=exponential(40s)
    provider.profile=openai-classic
    provider.routing.rule=pool
"#;

#[test]
fn a_replication_is_a_function_of_its_seed() {
    let play = |seed: u32, replication: u32| {
        let mut outcomes = Vec::new();
        let scenario = stream(&format!("seed={seed}\n{MIXTURE}"));
        let report =
            replicate(&scenario, replication, |outcome: &Outcome| outcomes.push(format!("{outcome:?}")));
        (report.unwrap().row, outcomes)
    };
    let first = play(6_000, 0);
    assert!(first.1.len() > 1_000);
    assert_eq!(play(6_000, 0), first, "the same again");
    assert_eq!(play(5_997, 3), first, "replication n is the seed n further on");
    for other in 1..5 {
        let (row, outcomes) = play(6_000, other);
        assert_ne!(row, first.0, "replication {other}");
        let same = outcomes.iter().zip(&first.1).filter(|(this, that)| this == that).count();
        assert_eq!(same, 0, "replication {other}");
    }
}
