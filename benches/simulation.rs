//! How fast a request is simulated: the open-loop bucket study at a million requests, on one core.
//!
//! `cargo bench` prints criterion's intervals, then one report: requests a second, memory at the peak, the ratio of
//! a prompt of 1,000,000 tokens to one of 1,000 (paired, so that the machine's speed cancels), and a checksum, so
//! that nobody optimises the meaning away. What must hold exactly is asserted in the same run.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use cachecast::experiment::lifetimes::Lifetimes;
use cachecast::experiment::metrics::Row;
use cachecast::experiment::run::{replicate, replicate_lifetimes};
use cachecast::experiment::scenario::{Change, Loaded};
use cachecast::experiment::sweep::Plan;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const STUDY: &str = include_str!("../scenarios/bucket-cardinality.toml");

const LIFETIMES: &str = include_str!("../scenarios/lifetimes.toml");

/// Requests of one run: 30 a minute for so many minutes.
const REQUESTS: u64 = 1_000_000;

/// The bucket study with 8 buckets and Poisson arrivals, long enough for `requests`.
fn study(requests: u64, prefix_tokens: i64, attribution: bool) -> Loaded {
    let change = |path: &str, value: toml::Value| Change::new(path, value, "bench");
    let changes = [
        change("duration", format!("{}m", requests / 30).into()),
        change("client.key.buckets", 8.into()),
        change("client.workload.study.arrivals.process", "poisson".into()),
        change("client.workload.study.shared_prefix.prefix_tokens", prefix_tokens.into()),
        change("attribution", attribution.into()),
    ];
    Loaded::from_text("study", "study", STUDY, Path::new(""), &changes).expect("the shipped scenario loads")
}

fn run(loaded: &Loaded) -> Row {
    replicate(loaded, 0, |_| ()).expect("generated traffic cannot fail").row
}

fn open_loop(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open loop, bucket study");
    group.sample_size(10).measurement_time(Duration::from_secs(8));
    for (name, attribution) in [("attribution on", true), ("attribution off", false)] {
        let loaded = study(REQUESTS / 10, 6_600, attribution);
        group.throughput(Throughput::Elements(run(&loaded).get("requests").unwrap_or(0.0) as u64));
        group.bench_function(name, |bencher| bencher.iter(|| black_box(run(&loaded))));
    }
    group.finish();
}

/// Shortest time of several runs of each of two scenarios, in turn.
fn paired(first: &Loaded, second: &Loaded) -> [Duration; 2] {
    let mut least = [Duration::MAX; 2];
    for _ in 0..7 {
        for (least, loaded) in least.iter_mut().zip([first, second]) {
            let start = Instant::now();
            black_box(run(loaded));
            *least = (*least).min(start.elapsed());
        }
    }
    least
}

/// Peak memory of this process, where the system tells.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or("unknown".into(), |line| line.trim().to_string())
}

fn report(_: &mut Criterion) {
    let full = study(REQUESTS, 6_600, true);
    let start = Instant::now();
    let row = run(&full);
    let elapsed = start.elapsed();
    let get = |name: &str| row.get(name).expect("a number");
    let requests = get("requests") + get("warmup_requests");
    println!("one run: {requests} requests in {elapsed:.2?}");
    println!("  requests a second, one core: {:.0}", requests / elapsed.as_secs_f64());
    println!("  peak memory of the process: {}", peak_memory());
    println!(
        "  checksum: {} cached tokens, token hit ratio {}",
        get("cached_tokens"),
        get("token_hit_ratio")
    );
    // Every uncached token has one cause, and no cache reads more than its ceilings.
    let lost: f64 = cachecast::experiment::metrics::COLUMNS
        .iter()
        .filter(|column| column.name.starts_with("lost_"))
        .map(|column| get(column.name))
        .sum();
    assert_eq!(lost, get("uncached_tokens"));
    assert!(get("cached_tokens") <= get("ceiling_lifetime_tokens"));

    let [short, long] = [1_024, 1_000_000].map(|tokens| study(REQUESTS / 5, tokens, true));
    let [short, long] = paired(&short, &long);
    let ratio = long.as_secs_f64() / short.as_secs_f64();
    println!("  1,000,000-token prompts cost {ratio:.3} of 1,000-token prompts");
    assert!(ratio < 1.2, "the cost of a request must not depend on the length of its prompt");
    report_lifetimes();
}

/// Every lifetime of the shipped scenario at the highest of its rates, in one pass and one by one, in turn.
fn report_lifetimes() {
    let swept = Loaded::from_text("lifetimes", "lifetimes", LIFETIMES, Path::new(""), &[]);
    let plan = Plan::new(&swept.expect("the shipped scenario loads")).expect("its axes are right");
    let axis = Lifetimes::of(&plan).expect("it has an axis of lifetimes");
    let group = &axis.groups[0];
    let lifetimes: Vec<_> = group.iter().map(|cell| axis.lifetimes[*cell]).collect();
    let first = &plan.cells[group[0]].loaded;
    let mut least = [Duration::MAX; 2];
    for _ in 0..5 {
        let start = Instant::now();
        let together = replicate_lifetimes(first, 0, &lifetimes, |_, _| ()).expect("it cannot fail");
        least[0] = least[0].min(start.elapsed());
        let start = Instant::now();
        let alone: Vec<_> = group.iter().map(|cell| run(&plan.cells[*cell].loaded)).collect();
        least[1] = least[1].min(start.elapsed());
        assert!(together.iter().map(|report| &report.row).eq(&alone), "one pass must be exact");
    }
    let ratio = least[1].as_secs_f64() / least[0].as_secs_f64();
    println!("  {} lifetimes one by one take {ratio:.1} times as long as in one pass", group.len());
}

criterion_group!(benches, open_loop, report);
criterion_main!(benches);
