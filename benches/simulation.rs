//! How fast a request is simulated, beside the least that any such simulation must do.
//!
//! `cargo bench` prints criterion's intervals for two runs, then one report: nanoseconds of thread CPU time a request,
//! as ratios to a bare loop in the same process (so that the speed of the machine cancels), the hit ratio and a checksum
//! of every run, memory, and what cost must not depend on. What must hold exactly, and the closed forms, are asserted
//! in the same run, so that nobody optimises the meaning away; time is never asserted.
//!
//! `CACHECAST_BENCH=all cargo bench` adds what takes minutes and gigabytes: a million live conversations and more, and a
//! billion requests on two cores (`CACHECAST_BENCH=billion` for that alone).

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cachecast::error::Result;
use cachecast::experiment::lifetimes::Lifetimes;
use cachecast::experiment::metrics::{COLUMNS, Row};
use cachecast::experiment::run::{
    Report, replicate, replicate_lifetimes, replicate_unwatched, replicate_variants, simulation,
};
use cachecast::experiment::scenario::{Change, Loaded};
use cachecast::experiment::sweep::Plan;
use cachecast::random::mix;
use cachecast::simulation::outcome::Outcome;
use criterion::{Criterion, criterion_group, criterion_main};
use rustix::time::{ClockId, clock_gettime};

const LIFETIMES: &str = include_str!("../scenarios/lifetimes.toml");

/// A fleet that answers at once and forgets nothing by chance: what is left is the open loop.
const AT_ONCE: &str = r#"
provider.latency.overhead = "0s"
provider.latency.per_uncached_token = "0s"
provider.latency.per_cached_token = "0s"
provider.latency.per_output_token = "0s"
provider.latency.noise_sigma = 0.0
provider.write.visible = "arrival"
"#;

/// What is simulated.
#[derive(Clone)]
struct Case {
    name: String,
    toml: String,
    /// Conversations alive at a time, and machines: those of the bare loop beside it.
    live: u64,
    machines: u64,
    /// Requests before the clock runs, and while it does.
    warm: u64,
    timed: u64,
    /// The most that the makers of this want it to cost, in nanoseconds.
    aim: Option<u32>,
}

/// What came of it.
struct Played {
    nanoseconds: f64,
    row: Row,
}

impl Case {
    fn loaded(&self) -> Loaded {
        Loaded::from_text("bench", "bench.toml", &self.toml, Path::new(""), &[]).expect("a case loads")
    }

    /// Plays it once: thread CPU time of a request once the caches are as full as they get.
    fn play(&self) -> Played {
        let loaded = self.loaded();
        let (mut seen, mut begin, mut end) = (0, Duration::ZERO, Duration::ZERO);
        let report = replicate(&loaded, 0, |_| {
            seen += 1;
            if seen == self.warm {
                begin = thread_time();
            } else if seen == self.warm + self.timed {
                end = thread_time();
            }
        });
        assert!(seen >= self.warm + self.timed, "{}: only {seen} requests", self.name);
        let nanoseconds = (end - begin).as_nanos() as f64 / self.timed as f64;
        Played { nanoseconds, row: report.expect("generated traffic cannot fail").row }
    }

    fn with(&self, name: &str, toml: &str) -> Self {
        Self { name: name.into(), toml: format!("{}{toml}", self.toml), aim: None, ..self.clone() }
    }
}

fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

/// The fastest of several runs of each of these cases, which all say the same. What is compared runs in turn, so that a
/// machine whose speed comes and goes favours none; `between` runs before each turn.
fn fastest<const N: usize>(cases: [&Case; N], runs: u32, mut between: impl FnMut()) -> [Played; N] {
    let mut turn = || {
        between();
        cases.map(Case::play)
    };
    let mut best = turn();
    for _ in 1..runs {
        for (best, next) in best.iter_mut().zip(turn()) {
            assert_eq!(best.row, next.row);
            best.nanoseconds = best.nanoseconds.min(next.nanoseconds);
        }
    }
    best.iter().for_each(|played| check(&played.row));
    best
}

/// How many turns are worth their time with so many conversations.
fn turns(live: u64) -> u32 {
    if live > 100_000 { 2 } else { 5 }
}

fn get(row: &Row, name: &str) -> f64 {
    row.get(name).expect("a number")
}

/// Every uncached token has one cause, and no cache reads more than its ceilings.
fn check(row: &Row) {
    assert_eq!(get(row, "cached_tokens") + get(row, "uncached_tokens"), get(row, "prompt_tokens"));
    if let Some(ceiling) = row.get("ceiling_lifetime_tokens") {
        let lost = COLUMNS.iter().filter(|column| column.name.starts_with("lost_"));
        assert_eq!(lost.map(|column| get(row, column.name)).sum::<f64>(), get(row, "uncached_tokens"));
        assert!(get(row, "cached_tokens") <= ceiling);
    }
}

/// The least that a simulation of this must do: two random draws, an exponential gap, a hash to a machine, an exact
/// limiter of 15 a minute, and the time of a conversation's last request. Nanoseconds a request.
fn bare_loop(conversations: u64, machines: u64, requests: u64) -> f64 {
    const MINUTE: u64 = 60_000_000_000;
    let mut last = vec![0u64; conversations as usize];
    let mut rings = vec![([0u64; 15], 0usize); machines as usize];
    // 15 a minute for every machine, and a lifetime of one mean gap of a conversation.
    let gap = (MINUTE / 15 / machines) as f64;
    let lifetime = (gap * conversations as f64) as u64;
    let (mut now, mut state, mut hits, mut overflowed) = (MINUTE + lifetime, 1u64, 0u64, 0u64);
    let mut draw = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(state)
    };
    let begin = thread_time();
    for _ in 0..requests {
        let uniform = ((draw() >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
        now += (-libm::log(uniform) * gap) as u64;
        let conversation = ((u128::from(draw()) * u128::from(conversations)) >> 64) as u64;
        // An odd factor hashes and keeps machines even, as the closed form wants them.
        let machine = (conversation.wrapping_mul(0x9E37_79B9_7F4A_7C15) % machines) as usize;
        let (ring, oldest) = &mut rings[machine];
        if now - ring[*oldest] < MINUTE {
            overflowed += 1;
        } else {
            ring[*oldest] = now;
            *oldest = (*oldest + 1) % 15;
        }
        let touched = &mut last[conversation as usize];
        hits += u64::from(now - *touched <= lifetime);
        *touched = now;
    }
    let nanoseconds = (thread_time() - begin).as_nanos() as f64 / requests as f64;
    // Where every conversation was seen: 1 - 1/e. Where machines have equally many: Erlang's B of 15 for 15.
    if requests > 20 * conversations {
        let share = |count: u64| count as f64 / requests as f64;
        assert!((share(hits) - 0.632).abs() < 0.05, "{}", share(hits));
        assert!((share(overflowed) - 0.180).abs() < 0.03, "{}", share(overflowed));
    }
    black_box(nanoseconds)
}

/// The bucket study: one shared prefix, 25 tails, 8 buckets at so many requests a minute.
fn study(name: &str, rate: u64, toml: &str) -> Case {
    let toml = format!(
        r#"
duration = "{}s"
attribution = false
client.retention = "in_memory"
client.key = {{ strategy = "buckets", buckets = 8, assign = "round_robin" }}
client.workload.study.arrivals = {{ process = "poisson", rate = "{rate}/min" }}
client.workload.study.shared_prefix = {{ prefix_tokens = 6600, tail_tokens = 87, tails = 25, output_tokens = "uniform(100..512)" }}
provider.profile = "azure-classic"
provider.model = "gpt-5.2"
{toml}"#,
        60 * 1_000_000 / rate
    );
    Case { name: name.into(), toml, live: 1_000, machines: 16, warm: 10_000, timed: 900_000, aim: None }
}

/// Conversations of 20 turns a minute apart, four to a bucket; `think` is their pause.
fn chat(name: &str, live: u64, machines: u64, think: &str, toml: &str) -> Case {
    // With pauses of about a minute a conversation lives 20 minutes.
    let toml = format!(
        r#"
duration = "30m"
attribution = false
client.retention = "in_memory"
client.key = {{ strategy = "buckets", buckets = {}, assign = "session" }}
client.workload.chat.arrivals = {{ process = "poisson", rate = "{}/min" }}
client.workload.chat.chat = {{ prefix_tokens = 3000, turns = 20, user_tokens = 60, output_tokens = 250, think = "{think}" }}
provider.profile = "openai-classic"
provider.routing.machines = {machines}
{toml}"#,
        (live / 4).max(1),
        live / 20
    );
    Case { name: name.into(), toml, live, machines, warm: live * 21 / 2, timed: live * 5, aim: None }
}

/// Agents on 300,000 tokens, 500 calls a turn apart.
fn agent(toml: &str) -> Case {
    let toml = format!(
        r#"
duration = "3h"
attribution = false
client.retention = "in_memory"
client.key.strategy = "per_session"
client.workload.agent.arrivals = {{ process = "poisson", rate = "10/min" }}
client.workload.agent.agent = {{ prefix_tokens = 20000, start_tokens = 300000, turns = 50, calls = 10, user_tokens = 100, tool_tokens = "uniform(50..150)", output_tokens = 20, pause = "4s", think = "30s" }}
provider.profile = "openai-classic"
{toml}"#
    );
    Case {
        name: "agents, 350,000-token prompts".into(),
        toml,
        live: 600,
        machines: 64,
        warm: 200_000,
        timed: 500_000,
        aim: None,
    }
}

fn fork_tree() -> Case {
    let toml = r#"
duration = "10h"
attribution = false
client.retention = "in_memory"
client.key.strategy = "per_branch"
client.workload.tree.arrivals = { process = "poisson", rate = "20/min" }
client.workload.tree.fork_tree = { prefix_tokens = 8000, start_tokens = 40000, branching = [20, 2], order = "parallel", task_tokens = "lognormal(200, 0.5)", output_tokens = 400 }
provider.profile = "openai-classic"
"#;
    let (name, toml) = ("fork trees of 61 calls".to_string(), toml.to_string());
    Case { name, toml, live: 1_000, machines: 64, warm: 50_000, timed: 500_000, aim: None }
}

/// 100 sessions that all began at the start: nanoseconds at turns 3 to 7, and at 480 to 500.
fn by_turn(toml: &str) -> [f64; 2] {
    let mut text = format!(
        "duration = \"1h\"\nattribution = false\nclient.retention = \"in_memory\"\nclient.key.strategy = \"per_session\"\n\
         provider.profile = \"openai-classic\"\n{AT_ONCE}{toml}"
    );
    for session in 0..100 {
        text += &format!(
            "[client.workload.w{session}]\narrivals = {{ process = \"fixed\", rate = \"every 100h\" }}\nchat = {{ prefix_tokens \
             = 3000, turns = 520, user_tokens = 60, output_tokens = 250, think = \"1s\" }}\n"
        );
    }
    let loaded = Loaded::from_text("bench", "bench.toml", &text, Path::new(""), &[]).expect("a case loads");
    let mut least = [f64::MAX; 2];
    for _ in 0..30 {
        let (mut seen, mut times) = (0, [Duration::ZERO; 4]);
        let run = replicate(&loaded, 0, |_| {
            seen += 1;
            if let Some(mark) = [300, 700, 48_000, 50_000].iter().position(|mark| *mark == seen) {
                times[mark] = thread_time();
            }
        });
        run.expect("generated traffic cannot fail");
        let of = |from: usize, requests: f64| (times[from + 1] - times[from]).as_nanos() as f64 / requests;
        least = [least[0].min(of(0, 400.0)), least[1].min(of(2, 2_000.0))];
    }
    least
}

/// Plays a case and the bare loop beside it, in turn, and prints what they cost.
fn report_case(case: &Case) {
    let Case { live, machines, .. } = *case;
    let (requests, mut bare) = ((25 * live).clamp(1_000_000, 20_000_000), f64::MAX);
    let [Played { nanoseconds, row }] =
        fastest([case], turns(live), || bare = bare.min(bare_loop(live, machines, requests)));
    let aim = case.aim.map_or(String::new(), |aim| format!("  (aim {aim})"));
    println!(
        "{:<46} {live:>10} {bare:>6.1} {nanoseconds:>7.0} {:>6.1} {:>7.2} {:>8.4} {:>17}{aim}",
        case.name,
        nanoseconds / bare,
        1e3 / nanoseconds,
        get(&row, "token_hit_ratio"),
        get(&row, "cached_tokens")
    );
}

/// Peak memory in bytes of a process that plays this case and nothing else, and how much of it segments take.
fn peak_memory(index: usize) -> [f64; 2] {
    let this = std::env::current_exe().expect("a program knows its file");
    let output = Command::new(this).env("CACHECAST_BENCH_MEMORY", index.to_string()).output();
    let text = String::from_utf8(output.expect("it runs").stdout).expect("it prints numbers");
    let mut numbers = text.split_whitespace().map(|number| number.parse().expect("a number"));
    let [peak, segments]: [f64; 2] = std::array::from_fn(|_| numbers.next().expect("two numbers"));
    [peak * 1_024.0, segments]
}

/// What is played for its memory: so many conversations at a time.
const MEMORY: [u64; 2] = [20_000, 100_000];

fn play_for_memory(index: usize) {
    let case = chat("memory", MEMORY[index], 64, "60s", AT_ONCE);
    black_box(case.play().nanoseconds);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = line.map_or("0", |line| line.trim().trim_end_matches(" kB"));
    // The same again, to ask it what it holds: arrays keep the room that they needed most.
    let mut simulation = simulation(&case.loaded(), 0).expect("a case is right");
    simulation.run(&mut |_: &Outcome| ()).expect("generated traffic cannot fail");
    println!("{peak} {}", simulation.segment_bytes());
}

fn criterion_runs(criterion: &mut Criterion) {
    if let Ok(index) = std::env::var("CACHECAST_BENCH_MEMORY") {
        play_for_memory(index.parse().expect("an index"));
        std::process::exit(0);
    }
    let mut group = criterion.benchmark_group("runs of 100,000 requests");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for (name, toml) in [("attribution off", "attribution = false"), ("attribution on", "attribution = true")]
    {
        let mut case = study("study", 300, "");
        case.toml = case.toml.replace("attribution = false", toml).replace("200000s", "20000s");
        let loaded = case.loaded();
        group.bench_function(name, |bencher| bencher.iter(|| black_box(replicate_unwatched(&loaded, 0))));
    }
    group.finish();
}

fn report(_: &mut Criterion) {
    let asked = std::env::var("CACHECAST_BENCH").unwrap_or_default();
    if asked == "billion" {
        return report_billion();
    }
    let all = asked == "all";
    println!(
        "\n{:<46} {:>10} {:>6} {:>7} {:>6} {:>7} {:>8} {:>17}",
        "case", "live", "bare", "ns", "/bare", "M/s", "hits", "cached tokens"
    );
    report_rows(all);
    report_attribution(all);
    report_independence();
    report_memory();
    report_lifetimes();
    report_cardinalities();
    if all {
        report_billion();
    }
}

fn report_rows(all: bool) {
    let aim = |case: Case, aim: u32| Case { aim: Some(aim), ..case };
    let mut cases = vec![
        study("open loop: bucket study, limiter idle", 30, ""),
        study("open loop: bucket study, limiter saturated", 240, ""),
        study("open loop: bucket study, answers at once", 240, AT_ONCE),
        chat("open loop: chat", 1_000, 16, "60s", AT_ONCE),
        aim(chat("open loop: chat", 20_000, 64, "60s", AT_ONCE), 60),
        chat("closed loop: chat", 1_000, 16, "54s", ""),
        aim(chat("closed loop: chat", 20_000, 64, "54s", ""), 150),
        agent(""),
        fork_tree(),
    ];
    let closed = chat("closed loop", 20_000, 64, "54s", "");
    for semantics in ["whole_body", "first_tokens", "breakpoints"] {
        let toml = format!("provider.write.semantics = \"{semantics}\"\n");
        cases.push(closed.with(&format!("closed loop: {semantics}"), &toml));
    }
    if all {
        cases.push(aim(chat("open loop: chat", 1_000_000, 1_024, "60s", AT_ONCE), 120));
        let mixed = "choice(30s: 1, 50s: 1, 70s: 1, 90s: 1)";
        cases.push(aim(chat("open loop: chat, four pauses", 1_000_000, 1_024, mixed, AT_ONCE), 160));
        cases.push(aim(chat("closed loop: chat", 1_000_000, 3_200, "54s", ""), 300));
        cases.push(chat("open loop: chat", 10_000_000, 4_096, "60s", AT_ONCE));
    }
    cases.iter().for_each(report_case);
}

/// Attribution on against off.
fn report_attribution(all: bool) {
    for live in [20_000].into_iter().chain(all.then_some(1_000_000)) {
        let off = chat("off", live, 64, "60s", AT_ONCE);
        let mut on = off.clone();
        on.toml = on.toml.replace("attribution = false", "attribution = true");
        let [off, on] = fastest([&off, &on], turns(live), || ()).map(|played| played.nanoseconds);
        let aim = if live > 100_000 { 1.7 } else { 1.4 };
        println!("attribution on / off at {live} live: {:.2}  (aim {aim})", on / off);
    }
}

/// What the cost of a request must not depend on.
fn report_independence() {
    let prefix = |tokens: u32| {
        let mut case = study("prefix", 240, AT_ONCE);
        case.toml = case.toml.replace("6600", &tokens.to_string());
        case
    };
    let [short, long] = [prefix(1_024), prefix(1_000_000)];
    let [short, long] = fastest([&short, &long], 10, || ()).map(|played| played.nanoseconds);
    println!("1,000,000-token prompts / 1,000-token prompts: {:.3}  (aim 1.05)", long / short);
    for (name, toml, aim) in [
        ("without overflow", "provider.routing.overflow = \"none\"\n", 1.1),
        ("with overflow", "provider.routing.limit_rpm = 15\n", 1.3),
    ] {
        let [early, late] = by_turn(toml);
        println!("turns 480-500 / turns 3-7, {name}: {:.2}  (aim {aim})", late / early);
    }
}

fn report_memory() {
    let [some, most] = [0, 1].map(peak_memory);
    let conversations = (MEMORY[1] - MEMORY[0]) as f64;
    let [all, segments] = [0, 1].map(|number| (most[number] - some[number]) / conversations);
    println!(
        "bytes a live conversation, four to a bucket: {all:.0}, of which {segments:.0} are its segments'; beyond them {:.0}  \
         (aim 220)",
        all - segments
    );
    println!("peak memory at {} live: {:.0} MiB", MEMORY[1], most[0] / 1_048_576.0);
}

/// Every lifetime of the shipped scenario at the highest of its rates, in one pass and one by one, in turn.
fn report_lifetimes() {
    let swept = Loaded::from_text("lifetimes", "lifetimes", LIFETIMES, Path::new(""), &[]);
    let plan = Plan::new(&swept.expect("the shipped scenario loads")).expect("its axes are right");
    let axis = Lifetimes::of(&plan.outline).expect("it has an axis of lifetimes");
    let group = axis.groups().next().expect("it has cells");
    let lifetimes: Vec<_> = group.iter().map(|cell| axis.lifetime(*cell)).collect();
    let loaded: Vec<_> = group.iter().map(|cell| &plan.cells[*cell].loaded).collect();
    let ratio = alone_against(&loaded, || replicate_lifetimes(loaded[0], 0, &lifetimes, |_, _| ()));
    println!("{} lifetimes one by one / in one pass: {ratio:.1}", group.len());
}

/// Sixteen bucket counts over one generated traffic and over one recorded trace, in one pass and one by one, in turn.
fn report_cardinalities() {
    let generated = study("cardinalities", 240, "").loaded();
    let folder = tempfile::tempdir().expect("a folder for a while");
    let lines = (0..100_000).map(|line| {
        format!(
            r#"{{"timestamp":{},"input_length":2048,"output_length":200,"hash_ids":[0,1,2,{}]}}"#,
            line * 250,
            3 + line % 5_000
        ) + "\n"
    });
    std::fs::write(folder.path().join("trace.jsonl"), lines.collect::<String>()).expect("it can be written");
    let trace = r#"
attribution = false
client.key = { strategy = "buckets", buckets = 8, assign = "round_robin" }
client.workload.trace.trace.file = { path = "trace.jsonl", block_tokens = 512, time_unit = "ms" }
provider.profile = "openai-classic"
"#;
    let recorded = Loaded::from_text("bench", "bench.toml", trace, folder.path(), &[]).expect("it loads");
    for (name, base) in [("the bucket study", generated), ("a trace", recorded)] {
        let with = |buckets: i64| base.with(&[Change::new("client.key.buckets", buckets, "bench")]);
        let variants: Vec<_> = (1..=16).map(|buckets| with(buckets).expect("a bucket count")).collect();
        let variants: Vec<_> = variants.iter().collect();
        let ratio = alone_against(&variants, || replicate_variants(&variants, 0, |_, _| ()));
        println!("16 cardinalities of {name}, one by one / in one pass: {ratio:.2}");
    }
}

/// How much longer runs take one by one than `together`, which must say the same; in turn, so that the speed of the machine
/// cancels.
fn alone_against(loaded: &[&Loaded], together: impl Fn() -> Result<Vec<Report>>) -> f64 {
    let mut least = [Duration::MAX; 2];
    for _ in 0..3 {
        let start = thread_time();
        let together = together().expect("it cannot fail");
        least[0] = least[0].min(thread_time() - start);
        let start = thread_time();
        let alone = loaded.iter().map(|loaded| replicate_unwatched(loaded, 0).expect("it cannot fail").row);
        let alone: Vec<_> = alone.collect();
        least[1] = least[1].min(thread_time() - start);
        assert!(together.iter().map(|report| &report.row).eq(&alone), "one pass must be exact");
    }
    least[1].as_secs_f64() / least[0].as_secs_f64()
}

/// Two replications of half a billion requests each, with 100,000 live conversations, side by side.
fn report_billion() {
    let case = chat("billion", 100_000, 64, "60s", AT_ONCE);
    // 100,000 requests a minute.
    let toml = case.toml.replace("duration = \"30m\"", "duration = \"5010m\"");
    let case = Case { toml, ..case };
    let start = Instant::now();
    let requests: f64 = std::thread::scope(|scope| {
        let runs = [0, 1].map(|replication| {
            let loaded = case.loaded();
            scope.spawn(move || replicate_unwatched(&loaded, replication).expect("it cannot fail").row)
        });
        runs.map(|run| run.join().expect("it ends")).iter().map(|row| get(row, "requests")).sum()
    });
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown").trim();
    println!("{requests:.3e} requests on two cores: {:.0?}, peak memory so far {peak}", start.elapsed());
}

criterion_group!(benches, criterion_runs, report);
criterion_main!(benches);
