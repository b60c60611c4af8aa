//! The program as a user runs it: bad input, recorded traces, sweeps, and what goes to stdout and to stderr.
//!
//! The messages of the operating system and the signals are those of Unix.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tempfile::TempDir;

/// A small scenario with a sweep. Tests put other lines into it, by their number.
const SCENARIO: &str = r#"title = "A small question"
duration = "10m"
warmup = "1m"
seeds = 2

[client]
retention = "in_memory"

[client.key]
strategy = "buckets"
buckets = 2

[client.workload.calls]
users = 5
arrivals = { process = "poisson", rate = "10/min" }

[client.workload.calls.shared_prefix]
prefix_tokens = 6600
tail_tokens = 100
output_tokens = 300

[provider]
profile = "openai-classic"

[sweep]
baseline = { "client.key.buckets" = 1 }

[[sweep.axis]]
path = "client.key.buckets"
values = [1, 2]
"#;

/// A fork tree in place of the calls.
const FORKS: &str = r#"
duration = "10m"

[client.workload.forks]
arrivals = { process = "poisson", rate = "1/min" }

[client.workload.forks.fork_tree]
prefix_tokens = 2000
start_tokens = 3000
branching = [3, 3]
task_tokens = 100
output_tokens = 50

[provider]
profile = "openai-classic"
"#;

/// A scenario that plays `t.jsonl`.
const RECORDED: &str = r#"duration = "1h"
seeds = 1

[client.key]
strategy = "recorded"

[client.workload.log.trace.file]
path = "t.jsonl"
block_tokens = 100
time_unit = "ms"

[provider]
profile = "openai-classic"
"#;

/// A good line of a trace in milliseconds and blocks of 100 tokens.
const LINE: &str = r#"{"timestamp": 5, "input_length": 200, "output_length": 3, "hash_ids": [1, 2]}"#;

/// Plays the scenario.
const RUN: &[&str] = &["run", "s.toml"];

/// The files of a sweep over bucket counts.
const SWEPT: [&str; 4] =
    ["cache_hit_ratio_vs_cardinality.csv", "cells.csv", "summary.csv", "ttft_p95_vs_cardinality.csv"];

/// Contents by name; folders have a slash behind their name.
type Files = BTreeMap<String, Vec<u8>>;

/// A folder with files, in which the program is run.
struct Case(TempDir);

impl Case {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// Adds a file, with the folders above it.
    fn file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Adds the scenario as `s.toml`.
    fn scenario(self) -> Self {
        self.file("s.toml", SCENARIO)
    }

    /// Adds the scenario as `s.toml`, with another text in place of one line.
    fn with_line(self, number: usize, text: &str) -> Self {
        let mut lines: Vec<_> = SCENARIO.lines().collect();
        lines[number - 1] = text;
        self.file("s.toml", lines.join("\n"))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cachecast"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        command.env_remove("RAYON_NUM_THREADS").env_remove("RUST_BACKTRACE");
        command
    }

    fn run(&self, args: &[&str]) -> Said {
        self.run_threads(args, "2")
    }

    fn run_threads(&self, args: &[&str], threads: &str) -> Said {
        let mut command = assert_cmd::Command::from_std(self.command(args));
        command.env("RAYON_NUM_THREADS", threads).timeout(Duration::from_secs(60));
        let done = command.output().unwrap();
        Said {
            args: args.join(" "),
            code: done.status.code(),
            stdout: String::from_utf8(done.stdout).unwrap(),
            stderr: String::from_utf8(done.stderr).unwrap(),
        }
    }

    /// Everything below a folder of the case; "" is the whole case.
    fn files(&self, folder: &str) -> Files {
        let mut files = Files::new();
        collect(&self.0.path().join(folder), "", &mut files);
        files
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    /// Runs and expects a refusal in one line with these words, which leaves every file as it was.
    fn refuses(&self, args: &[&str], words: &[&str]) {
        let said = self.refuses_usage(args, words);
        let known = |line: &str| line.starts_with("error: ") || line.starts_with("warning: ");
        assert!(said.stderr.lines().all(known), "{said:?}");
    }

    /// The same for wrong flags, where a hint to the usage follows.
    fn refuses_usage(&self, args: &[&str], words: &[&str]) -> Said {
        let before = self.files("");
        let said = self.run(args);
        said.refused(words);
        let after = self.files("");
        let names = [&before, &after].map(|files| files.keys().collect::<Vec<_>>());
        assert_eq!(names[0], names[1], "files before and after {said:?}");
        assert!(after == before, "a file was changed: {said:?}");
        said
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut Files) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{name}/"), files);
            files.insert(name + "/", Vec::new());
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}

/// What a run of the program said.
struct Said {
    args: String,
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { args, code, stdout, stderr } = self;
        write!(f, "cachecast {args}\nexit code {code:?}\nstdout:\n{stdout}\nstderr:\n{stderr}")
    }
}

impl Said {
    /// Exit code 0; what it printed.
    fn answered(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.stdout
    }

    /// Exit code 2, nothing on stdout, and one error with these words: where, and what would be right.
    fn refused(&self, words: &[&str]) {
        assert_eq!(self.code, Some(2), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let errors = self.stderr.lines().filter(|line| line.starts_with("error: "));
        assert_eq!(errors.count(), 1, "one message: {self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is missing: {self:?}");
        }
        for word in ["panicked", ".tmp", "struct ", "error: :"] {
            assert!(!self.stderr.contains(word), "`{word}` is not for users: {self:?}");
        }
    }

    /// The same answer, with nothing on stderr.
    fn answered_quietly(&self, stdout: &str) {
        assert_eq!((self.answered(), &*self.stderr), (stdout, ""), "cachecast {}", self.args);
    }
}

/// More arguments behind the first.
fn and<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [args, more].concat()
}

/// The arguments that replay `t.jsonl` in blocks of 100 tokens under `ideal`.
fn replay<'a>(unit: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    let args = ["replay", "t.jsonl", "--provider", "ideal", "--block-tokens", "100", "--time-unit", unit];
    and(&args, flags)
}

fn sweep_into(folder: &str) -> [&str; 4] {
    ["sweep", "s.toml", "--out", folder]
}

/// The rows of a CSV, header first; every row is as long as the header.
fn csv_rows(text: &str) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    reader.records().map(|row| row.unwrap().iter().map(String::from).collect()).collect()
}

/// One column of a CSV, without its header.
fn column(text: &str, name: &str) -> Vec<String> {
    let rows = csv_rows(text);
    let index = rows[0].iter().position(|header| header == name).unwrap();
    rows[1..].iter().map(|row| row[index].clone()).collect()
}

// Bad input.

/// A line of the scenario, what stands there instead, and the words that the one message must have.
const BAD_LINES: &[(usize, &str, &[&str])] = &[
    // Keys and names that are not known, with the nearest that is.
    (11, "bukets = 2", &["client.key.bukets: ", "did you mean `buckets`?"]),
    (11, "colour = 2", &["client.key.colour: ", "expected one of `strategy`, `buckets`, `assign`"]),
    (1, "tittle = 'x'", &["tittle: ", "did you mean `title`?"]),
    (25, "[sweeps]", &["sweeps: ", "did you mean `sweep`?"]),
    (10, "strategy = 'bucket'", &["client.key.strategy: ", "did you mean `buckets`?"]),
    (15, "arrivals.process = 'posson'", &["calls.arrivals.process: ", "did you mean `poisson`?"]),
    (17, "[client.workload.calls.shared_prefx]", &["calls.shared_prefx: ", "did you mean `shared_prefix`?"]),
    (23, "profile = 'openai-clasic'", &["provider.profile: ", "did you mean `openai-classic`?"]),
    (23, "profile = 3", &["provider.profile: ", "must be the name of a profile"]),
    // No TOML.
    (2, "duration = \"10m", &["expected `\"`"]),
    (4, "warmup = '2m'", &["duplicate key"]),
    // Wrong units in a span, in a rate and in a distribution.
    (2, "duration = '10 parsecs'", &["duration: ", "write a number and a unit, such as \"250ms\""]),
    (2, "duration = '600'", &["duration: ", "write a number and a unit, such as \"250ms\""]),
    (2, "duration = '-10m'", &["duration: ", "write a number and a unit, such as \"250ms\""]),
    (15, "arrivals.rate = '10/fortnight'", &["calls.arrivals.rate: ", "such as \"15/min\""]),
    (15, "arrivals.rate = '10'", &["calls.arrivals.rate: ", "such as \"15/min\""]),
    (15, "arrivals.rate = '0/min'", &["calls.arrivals.rate: ", "above zero"]),
    (19, "tail_tokens = '100 bytes'", &["tail_tokens: `100 bytes` is not a whole number"]),
    (19, "tail_tokens = 'uniform(5m..9m)'", &["tail_tokens: `5m` is not a whole number"]),
    (19, "tail_tokens = 'uniform(9..5)'", &["tail_tokens: ", "the lower bound is above the upper one"]),
    (19, "tail_tokens = 'even(5..9)'", &["tail_tokens: ", "write a plain value, uniform(a..b)"]),
    (19, "tail_tokens = 1.5", &["tail_tokens: ", "such as \"uniform(50..200)\""]),
    // Counts of zero and below.
    (2, "duration = '0s'", &["duration: ", "must be above zero"]),
    (4, "seeds = 0", &["seeds: ", "must be from 1 to"]),
    (4, "seeds = -2", &["seeds: ", "`-2`"]),
    (11, "buckets = 0", &["client.key.buckets: ", "must be 1 or more"]),
    (11, "buckets = -2", &["client.key.buckets: ", "`-2`"]),
    (14, "users = 0", &["calls.users: ", "must be 1 or more"]),
    (14, "users = -5", &["calls.users: ", "`-5`"]),
    (19, "tail_tokens = -1", &["tail_tokens: ", "a whole number"]),
    // Values that do not go with the others.
    (3, "warmup = '10m'", &["warmup: ", "must be shorter than the duration"]),
    (7, "retention = '48h'", &["client.retention: ", "does not support", "it supports in_memory, 24h"]),
    (14, "key.strategy = 'recorded'", &["calls.key.strategy: ", "takes its keys from a trace"]),
    // The sweep.
    (26, "baseline = { 'client.key.assign' = 1 }", &["baseline: `client.key.assign` is not an axis"]),
    (
        26,
        "baseline = { 'client.key.buckets' = 7 }",
        &["baseline: ", "client.key.buckets = 7 is not among the values of the axes"],
    ),
];

#[test]
fn a_wrong_line_of_a_scenario_is_named_with_what_would_be_right() {
    for (number, line, words) in BAD_LINES {
        let case = Case::new().with_line(*number, line);
        let place = format!("s.toml:{number}: ");
        let words = and(words, &[&place]);
        case.refuses(&sweep_into("out"), &words);
        if *number < 25 {
            case.refuses(&["run", "s.toml", "--requests", "r.csv"], &words);
        }
    }
}

#[test]
fn what_a_scenario_lacks_is_named() {
    let cases: &[(usize, &str, &[&str])] = &[
        (2, "", &["s.toml:15: client.workload.calls.arrivals: ", "set `duration`, such as \"1h\""]),
        (10, "strategy = 'recorded'", &["s.toml:10: client.key.strategy: ", "takes its keys from a trace"]),
        (15, "", &["s.toml:13: client.workload.calls.arrivals: ", "say when sessions start"]),
        (20, "", &["s.toml:17: client.workload.calls.shared_prefix: ", "`output_tokens`"]),
        (23, "", &["s.toml:22: provider.profile: ", "name a profile, such as \"openai-classic\""]),
    ];
    for (number, line, words) in cases {
        Case::new().with_line(*number, line).refuses(RUN, words);
    }
}

#[test]
fn a_workload_is_of_exactly_one_kind() {
    let (head, tail) = SCENARIO.split_once("[client.workload.calls.shared_prefix]").unwrap();
    let chat = "[client.workload.calls.chat]\nprefix_tokens = 1\nturns = 2\nuser_tokens = 3\n\
                output_tokens = 4\nthink = '5s'\n";
    let words = [
        "s.toml:13: client.workload.calls: ",
        "one of the tables shared_prefix, chat, agent, fork_tree and trace",
    ];
    let none = format!("{head}{}", &tail[tail.find("[provider]").unwrap()..]);
    for text in [none, format!("{SCENARIO}{chat}")] {
        Case::new().file("s.toml", text).refuses(RUN, &words);
    }
    let timed = format!("{RECORDED}\n[client.workload.log.arrivals]\nprocess = 'fixed'\nrate = '1/s'\n");
    let case = Case::new().file("s.toml", timed).file("t.jsonl", LINE);
    case.refuses(RUN, &["s.toml:15: client.workload.log.arrivals: a trace has its own times"]);
}

#[test]
fn a_wrong_axis_is_named_with_what_would_be_right() {
    let cases: &[(usize, &str, &[&str])] = &[
        (29, "path = 'client.key.bukets'", &["client.key.bukets", "did you mean `buckets`?"]),
        (29, "path = 'client..buckets'", &["axis[0] (client..buckets)", "write keys with dots between them"]),
        (29, "path = ''", &["axis[0]", "write keys with dots between them"]),
        (29, "path = 'client.key.buckets.few'", &["names no path: `client.key.buckets` is a plain value"]),
        (29, "path = 3", &["s.toml:29: sweep.axis.0.path: ", "expected a string"]),
        (29, "path = 'seeds'", &["axis[0] (seeds)", "cannot be an axis"]),
        (30, "values = []", &["axis[0] (client.key.buckets)", "needs at least one value"]),
        (30, "values = '5..1'", &["axis[0] (client.key.buckets)", "needs at least one value"]),
        (30, "values = '1-5'", &["axis[0] (client.key.buckets)", "write \"1..64\" or a list"]),
        (30, "values = [1, 0]", &["client.key.buckets = 0", "must be 1 or more"]),
        (30, "values = [1, 'many']", &["client.key.buckets = \"many\"", "client.key.buckets: "]),
        (30, "", &["s.toml:28: sweep.axis.0: lacks the key `values`"]),
    ];
    for (number, line, words) in cases {
        Case::new().with_line(*number, line).refuses(&sweep_into("out"), words);
    }
    let twice = format!("{SCENARIO}[[sweep.axis]]\npath = 'client.key.buckets'\nvalues = [3]\n");
    let words = ["axis[1] (client.key.buckets)", "has an axis already"];
    Case::new().file("s.toml", twice).refuses(&sweep_into("out"), &words);
}

#[test]
fn a_wrong_set_is_named_with_what_would_be_right() {
    let cases: &[(&str, &[&str])] = &[
        ("client.key.bukets=3", &["client.key.bukets: ", "did you mean `buckets`?"]),
        ("client.key.buckets", &["write path=value, such as client.key.buckets=8"]),
        ("=3", &["write keys with dots between them"]),
        ("client..buckets=3", &["write keys with dots between them"]),
        ("client.\"key.buckets=3", &["write keys with dots between them"]),
        ("client.key.buckets.few=3", &["names no path: `client.key.buckets` is a plain value"]),
        ("provider.routing.machines=0", &["provider.routing.machines: must be 1 or more"]),
        ("provider.routing.machines=-4", &["provider.routing.machines: ", "`-4`"]),
        ("provider.routing.limit_rpm=0", &["provider.routing.limit_rpm: must be 1 or more"]),
        ("provider.routing.limit_rpm=-1", &["provider.routing.limit_rpm: ", "`-1`"]),
        ("provider.write.interval=0", &["provider.write.interval: must be 1 or more"]),
        ("provider.latency.slots=0", &["provider.latency.slots: must be 1 or more"]),
        ("provider.latency.noise_sigma=-1", &["provider.latency.noise_sigma: must be from 0 to 3"]),
        ("provider.latency.overhead=1s1", &["overhead: ", "write a number and a unit"]),
        ("provider.retention.lifetime.in_memory=61m", &["in_memory: `61m` can last longer than 1h"]),
        ("provider.retention.lifetime.in_memory=exponential(5m)", &["can last longer than 1h"]),
        ("provider.retention.lifetime.24h=2d", &["lifetime.24h: ", "can last longer than 24h"]),
        ("provider.retention.default=1h", &["provider.retention.default: ", "the policies 24h, in_memory"]),
        ("provider.model=gpt-4", &["provider.model: ", "did you mean `gpt-4o`?"]),
        ("provider.write.look_back=0", &["provider.write.look_back: must be 1 or more"]),
        ("provider.failures.stream=1.5", &["provider.failures.stream: must be from 0 to 1"]),
        ("client.breakpoints=['history']", &["workload `calls`: ", "have no segment `history` to mark"]),
        ("client.breakpoints=['answer']", &["unknown variant `answer`", "`history`"]),
        (
            "client.breakpoints=['developer','context','history','status','message']",
            &["client.breakpoints: has 5 marks, and a request carries at most 4"],
        ),
        ("client.breakpoints=['message','message']", &["client.breakpoints: marks `message` twice"]),
        ("client.gateway.accounts=0", &["client.gateway.accounts: must be from 1 to 10000"]),
        ("client.gateway.continuation=implicit", &["`calls`: `implicit` needs a chat or an agent"]),
        ("client.execution=batch", &["client.execution: unknown variant `batch`", "`background`"]),
        ("client.key.fingerprint=2", &["client.key.fingerprint: must be from 0 to 1"]),
        ("client.workload.calls.reaction.after_miss=rebase", &["needs a chat or an agent"]),
        ("client.workload.calls.reaction.keep_alive=4m", &["needs a chat or an agent"]),
        ("client.workload.calls.reaction.miss_below=-1", &["miss_below: must be from 0 to 1"]),
        ("provider.models.\"gpt-9\".cached=1", &["provider.models.gpt-9: lacks the key `input`"]),
        ("provider.models.\"gpt-5.2\".long_prompt.above=9", &["long_prompt: lacks the key `input_factor`"]),
        ("provider.models.\"gpt-5.4\".long_prompt.above=0", &["long_prompt.above: must be 1 or more"]),
        (
            "provider.models.\"gpt-5.4\".long_prompt.output_factor=-1",
            &["long_prompt.output_factor: must be from 0 to 1000"],
        ),
        ("provider.retention.zero_data_retention=[\"1h\"]", &["zero_data_retention: `1h` is not among the"]),
        // Too much to simulate.
        ("provider.routing.machines=4000000000", &["provider.routing.machines: must be 1048576 or fewer"]),
        ("provider.write.hidden_tokens=4000000000", &["hidden_tokens: must be 16777216 or less"]),
        ("client.workload.calls.shared_prefix.tail_tokens=4000000000", &["from 0 to 16777216"]),
        ("client.workload.calls.arrivals.rate=1e9/s", &["rate: ", "is too fast: at most"]),
    ];
    let case = Case::new().scenario();
    for (set, words) in cases {
        let place = format!("--set {set}: ");
        case.refuses(&["run", "s.toml", "--set", set], &and(words, &[&place]));
    }
    let unsupported = ["--set", "provider.model=gpt-4o", "--set", "client.retention=24h"];
    let words = ["client.retention: ", "`gpt-4o` does not support retention `24h`; it supports in_memory"];
    case.refuses(&and(RUN, &unsupported), &words);
}

#[test]
fn under_zero_data_retention_a_forbidden_policy_is_named_and_an_implicit_one_is_allowed() {
    let case = Case::new().scenario();
    let zero = ["--set", "client.zero_data_retention=true"];
    let asked = and(&zero, &["--set", "client.retention=24h"]);
    let words =
        ["client.retention: `24h` is not allowed under zero data retention", "`gpt-5.2` has in_memory"];
    case.refuses(&and(RUN, &asked), &words);
    let own = and(&zero, &["--set", "client.workload.calls.retention=24h"]);
    case.refuses(&and(RUN, &own), &["client.workload.calls.retention: `24h` is not allowed under zero"]);

    let implicit = Case::new().with_line(7, "");
    let none = and(&zero, &["--set", "provider.profile=openai-5.5"]);
    let words =
        ["client.zero_data_retention: `gpt-5.5` supports 24h only", "name what your contract allows in"];
    implicit.refuses(&and(RUN, &none), &words);
    let in_memory = case.run(RUN).answered().to_string();
    let said = implicit.run(&and(RUN, &and(&zero, &["--set", "provider.profile=openai-24h"])));
    assert_eq!(said.answered(), in_memory, "the first allowed policy applies");
    let words =
        "warning: zero data retention does not allow the default retention `24h`: `in_memory` applies";
    assert_eq!(said.stderr.trim_end(), words);
}

#[test]
fn a_retention_nobody_chose_is_warned_of_where_a_longer_one_is_supported() {
    let implicit = Case::new().with_line(7, "");
    let said = implicit.run(RUN);
    assert_eq!(
        said.stderr,
        "warning: retention is left implicit: `in_memory` (uniform(5m..10m)) applies, though `24h` is supported: \
         set client.retention\n"
    );
    for chosen in [
        "client.workload.calls.retention=in_memory",
        "provider.profile=openai-24h",
        "provider.model=gpt-4o",
        "client.zero_data_retention=true",
    ] {
        assert_eq!(implicit.run(&and(RUN, &["--set", chosen])).stderr, "", "{chosen}");
    }
}

#[test]
fn one_provider_is_listed_value_by_value_with_its_evidence() {
    let case = Case::new().scenario();
    let said = case.run(&["list", "providers", "openai-classic", "--format", "csv"]);
    let rows = csv_rows(said.answered());
    assert_eq!(rows[0], ["path", "value", "tag", "source"]);
    let row = |path: &str| rows.iter().find(|row| row[0] == path).unwrap_or_else(|| panic!("{path}"));
    assert_eq!(row("provider.retention.zero_data_retention")[1..3], ["[\"in_memory\"]", "doc"]);
    assert!(row("provider.retention.residency")[1].contains("GPU-local storage"));
    let long = row("provider.models.\"gpt-5.4\".long_prompt");
    assert_eq!(long[1..3], ["{ above = 272000, input_factor = 2.0, output_factor = 1.5 }", "guess"]);
    assert!(rows[1..].iter().all(|row| !row[1].is_empty() && !row[3].is_empty()), "{rows:?}");
    case.refuses(
        &["list", "providers", "openai-clasic"],
        &["openai-clasic: ", "did you mean `openai-classic`?"],
    );
    case.refuses(&["list", "axes", "openai-classic"], &["only providers are listed one by one"]);
}

/// What follows `"timestamp": ` on the second line of a trace, and the words that the one message must have.
const BAD_TRACE_LINES: &[(&str, &str)] = &[
    (r#"6, "input_length": 200, "hash_i"#, "the line is cut off"),
    (r#"4, "input_length": 200, "hash_ids": [1, 2]}"#, "goes back from 5ms to 4ms: lines must be in order"),
    (r#"6, "input_length": 99, "hash_ids": [1, 2]}"#, "`input_length` 99 needs 1"),
    (r#"6, "input_length": 400, "hash_ids": [1, 2]}"#, "`input_length` 400 needs 4"),
    (r#"6, "input_length": 401, "hash_ids": [1, 2, 3]}"#, "needs 5 (last block of 100 tokens partly filled)"),
    (r#"6, "input_length": 400, "runs": [[1, 2]]}"#, "`input_length` 400 needs 4"),
    (r#"6, "input_length": 200, "hash_ids": [1, 2], "runs": [[1, 2]]}"#, "a line has one of the two"),
    (r#"6, "input_length": 200, "runs": [1, 2]}"#, "it must be [[first, count], ...]"),
    (r#"6, "input_length": 200, "hash_ids": [1, -2]}"#, "ids are whole numbers from 0"),
    (r#"-6, "input_length": 200, "hash_ids": [1, 2]}"#, "it must be a number of milliseconds"),
    (r#"6, "input_length": -200, "hash_ids": [1, 2]}"#, "`input_length` is -200: it must be"),
    (r#"6, "hash_ids": [1, 2]}"#, "`input_length` is missing"),
    (r#"null, "input_length": 200, "hash_ids": [1, 2]}"#, "`timestamp` is missing"),
    (r#"6, "input_length" 200}"#, "not valid JSON"),
];

fn bad_trace_line(rest: &str) -> String {
    format!("{{\"timestamp\": {rest}")
}

#[test]
fn a_bad_line_of_a_trace_is_named_with_what_would_be_right() {
    for (rest, right) in BAD_TRACE_LINES {
        let trace = format!("{LINE}\n{}\n{LINE}\n", bad_trace_line(rest));
        let case = Case::new().file("t.jsonl", trace).file("s.toml", RECORDED);
        case.refuses(&replay("ms", &["--requests", "r.csv"]), &["t.jsonl:2: ", right]);
        case.refuses(&["run", "s.toml", "--requests", "r.csv"], &["t.jsonl:2: ", right]);
    }
}

#[test]
fn a_trace_that_does_not_fit_its_flags_is_named_with_what_would_be_right() {
    let case = |trace: &[u8]| Case::new().file("t.jsonl", trace);
    let line = || case(LINE.as_bytes());
    case(b"").refuses(&replay("ms", &[]), &["t.jsonl: ", "one JSON object a line for each request"]);
    case(b"a,b\n1,2\n").refuses(&replay("ms", &[]), &["t.jsonl:1: ", "a request is written like {"]);
    case(&gzip(LINE)[..30]).refuses(&replay("ms", &[]), &["t.jsonl:1: ", "gzip file is damaged or cut off"]);
    line().refuses(&replay("ms", &["--ids", "session"]), &["t.jsonl:1: `session` (or `session_id`) is"]);
    line().refuses(&replay("ms", &["--lifetime", "300"]), &["--lifetime: ", "write a number and a unit"]);
    line().refuses(&replay("ms", &["--lifetime", "0s"]), &["--lifetime: ", "must be above zero"]);
    let zero = line().file("s.toml", RECORDED.replace("= 100", "= 0"));
    zero.refuses(RUN, &["s.toml:9: ", "file.block_tokens: must be from 1"]);
    let unit = line().file("s.toml", RECORDED.replace("\"ms\"", "\"min\""));
    unit.refuses(RUN, &["s.toml:10: ", "time_unit: ", "expected one of `ms`, `s`, `ns`"]);
}

#[test]
fn slips_of_a_hand_are_answered_in_the_words_of_the_program() {
    let rows: &[(&[&str], &[&str])] = &[
        (
            &["run", "s.toml", "--set", "duration=600"],
            &["--set duration=600: duration: ", "a time span such as"],
        ),
        (&["run", "s.toml", "--set", "client.workload.calls.arrivals.rate=10"], &["a rate such as"]),
        (&["run", "s.toml", "--set", "client.key.buckets=-2"], &["a whole number of zero or more"]),
        (&["run", "s.toml", "--set", "provider.routing=3"], &["expected a table"]),
        (
            &["run", "s.toml", "--set", "client.workload.new.users=3"],
            &["--set client.workload.new.users=3: "],
        ),
        (&["run", "s.toml", "--requests", "no/r.csv"], &["no/r.csv: ", "the folder `no` is not there"]),
        (&["run", "hot-ky"], &["hot-ky: ", "did you mean `hot-key`?"]),
    ];
    for (args, words) in rows {
        Case::new().file("s.toml", SCENARIO).refuses(args, words);
    }
}

#[test]
fn skip_bad_counts_and_names_the_lines_it_skips() {
    let bad: Vec<_> = BAD_TRACE_LINES.iter().map(|(rest, _)| bad_trace_line(rest)).collect();
    let case = Case::new().file("t.jsonl", format!("{LINE}\n{}\n{LINE}\n", bad.join("\n")));
    let said = case.run(&replay("ms", &["--skip-bad"]));
    assert_eq!(column(said.answered(), "mean")[0], "2", "requests of {said:?}");
    for number in 2..=6 {
        assert!(said.stderr.contains(&format!("t.jsonl:{number}: ")), "{said:?}");
    }
    assert!(said.stderr.contains(&format!("{} bad lines were skipped", bad.len())), "{said:?}");
    assert!(said.stderr.lines().all(|line| line.starts_with("warning: ")), "{said:?}");
    case.run(&replay("ms", &["--skip-bad", "--quiet"])).answered_quietly(&said.stdout);
}

#[test]
fn files_that_are_not_there_are_named() {
    let case = Case::new().scenario().file("r.toml", RECORDED).file("folder/x", "");
    case.refuses(&["run", "no.toml"], &["no.toml: ", "no such file", "bucket-cardinality, hot-key"]);
    case.refuses(&["sweep", "no.toml", "--out", "out"], &["no.toml: ", "no such file"]);
    case.refuses(&["recommend", "no.toml"], &["no.toml: ", "no such file"]);
    case.refuses(&["run", "folder"], &["folder: ", "directory"]);
    case.refuses(&["run", "r.toml"], &["t.jsonl: cannot open the trace: No such file"]);
    case.refuses(&replay("ms", &[]), &["t.jsonl: cannot open the trace: No such file"]);
    let missing = "no.toml: cannot read profile: No such file";
    case.refuses(&and(RUN, &["--set", "provider.profile=no.toml"]), &[missing]);
    let units = ["--block-tokens", "9", "--time-unit", "s"];
    case.refuses(&and(&["replay", "t.jsonl", "--provider", "no.toml"], &units), &[missing]);
    case.refuses(&and(&["replay", "t.jsonl", "--provider", "idela"], &units), &["did you mean `ideal`?"]);
    case.refuses(&and(&["replay", "folder"], &units), &["folder: ", "a trace is one JSONL file"]);
}

#[test]
fn a_profile_needs_its_tags_and_known_keys() {
    let cases = [
        ("machines = 3", "a profile's value must be { value = ..., tag = \"doc\" | \"fit\" | \"guess\""),
        ("machines = { value = 0, tag = 'guess', source = 'x' }", "routing.machines: must be 1 or more"),
        ("machins = { value = 3, tag = 'guess', source = 'x' }", "did you mean `machines`?"),
    ];
    let circle = Case::new().with_line(23, "profile = 'p.toml'").file("p.toml", "extends = 'p.toml'");
    circle.refuses(RUN, &["p.toml extends p.toml: a profile cannot extend itself"]);
    for (line, words) in cases {
        let profile = format!("extends = 'openai-classic'\n[routing]\n{line}\n");
        let case = Case::new().with_line(23, "profile = 'p.toml'").file("p.toml", profile);
        case.refuses(RUN, &["p.toml:3: ", words]);
    }
}

#[test]
fn output_that_cannot_be_written_is_named() {
    let case = Case::new().scenario().file("folder/cells.csv/x", "").file("t.jsonl", LINE);
    case.refuses(&sweep_into("s.toml"), &["s.toml: cannot make the folder"]);
    case.refuses(&sweep_into("s.toml/below"), &["s.toml/below: cannot make the folder: Not a directory"]);
    case.refuses(&sweep_into("folder"), &["folder/cells.csv: is a folder, and would be a file of results"]);
    case.refuses(&["run", "s.toml", "--requests", "folder"], &["folder: is a folder: name a file"]);
    case.refuses(&replay("ms", &["--requests", "folder"]), &["folder: is a folder: name a file"]);
}

#[test]
fn wrong_flags_are_named_with_what_would_be_right() {
    let cases: &[(&str, &[&str])] = &[
        ("rnu s.toml", &["unrecognized subcommand 'rnu'", "similar subcommand exists: 'run'", "--help"]),
        ("frobnicate s.toml", &["unrecognized subcommand 'frobnicate'", "--help"]),
        ("sweeep s.toml", &["'sweeep'", "'sweep'"]),
        ("run", &["<SCENARIO>", "Usage: cachecast run"]),
        ("run s.toml --sets a=1", &["'--sets'", "'--set'"]),
        ("run s.toml --fast", &["'--fast'", "Usage: cachecast run"]),
        ("run s.toml --seeds 0", &["'--seeds <N>'", "1..="]),
        ("run s.toml --seeds two", &["'--seeds <N>'", "digit"]),
        ("run s.toml --format xml", &["'--format", "[possible values: table, csv, json, markdown]"]),
        ("replay t.jsonl --block-tokens 0 --time-unit s", &["'--block-tokens <N>'", "1..="]),
        ("replay t.jsonl --block-tokens 9", &["--time-unit <TIME_UNIT>"]),
        ("replay t.jsonl --block-tokens 9 --time-unit min", &["[possible values: ms, s, ns]"]),
        ("recommend", &["give a scenario or a trace, or --rps, --prefix-tokens and --prompt-tokens"]),
        ("recommend --rps 1.4", &["--prefix-tokens <N>", "--prompt-tokens <N>"]),
        ("recommend s.toml --rps 1.4", &["'[SCENARIO]' cannot be used with '--rps <RPS>'"]),
        ("list models", &["[possible values: providers, scenarios, axes]"]),
    ];
    let case = Case::new().scenario().file("t.jsonl", LINE);
    for (args, words) in cases {
        case.refuses_usage(&args.split(' ').collect::<Vec<_>>(), words);
    }
    let help = case.run(&["help", "sweep"]);
    assert_eq!(help.answered(), case.run(&["sweep", "--help"]).answered());
    assert_eq!(case.run(&["help"]).answered(), case.run(&["--help"]).answered());
}

#[test]
fn costs_at_relative_prices_are_not_headed_as_usd() {
    let case = Case::new().scenario();
    let sweep = |more: &[&str]| case.run(&and(&sweep_into("o"), &and(&["--quiet", "--seeds", "1"], more)));
    for (profile, retention, heading) in
        [("openai-classic", "in_memory", "cost_usd"), ("xai", "server", "cost_units")]
    {
        let profile = format!("provider.profile={profile}");
        let retention = format!("client.retention={retention}");
        let flags = ["--set", &profile, "--set", &retention];
        let shown = sweep(&and(&flags, &["--format", "markdown"]));
        assert!(shown.answered().lines().next().unwrap().contains(heading), "{shown:?}");
        // A program finds the column by its name.
        let plain = sweep(&and(&flags, &["--format", "csv"]));
        assert_eq!(column(plain.answered(), "cost_usd").len(), 2);
    }
}

#[test]
fn wrong_questions_are_named_with_what_would_be_right() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["--objective", "price"], &["--objective: `price` is no metric: write cost,"]),
        (&["--objective", "weighted(cost)"], &["--objective: ", "write weighted(cost: 0.7, ttft_p95: 0.3)"]),
        (
            &["--constraint", "ttft_p95 3s"],
            &["--constraint ttft_p95 3s: ", "write a metric, < or >, and a bound"],
        ),
        (
            &["--constraint", "ttft_p95 < 1s", "--constraint", "ttft_p95 > 2s"],
            &["--constraint: `ttft_p95 < 1s` and `ttft_p95 > 2s` cannot both hold"],
        ),
        (&["--over", "provider.routing.pool=1..3"], &["is not the client's to choose: only client.* is"]),
        (&["--over", "client.key.buckets"], &["write path=values, such as client.key.buckets=1..64"]),
        (&["--over", "client.key.bukets=1..3"], &["client.key.bukets", "did you mean `buckets`?"]),
        (
            &["--over", "client.key.buckets=1..3", "--over", "client.key.buckets=4"],
            &["--over: `client.key.buckets` is there twice"],
        ),
        (&["--within", "-1"], &["--within: must be above zero"]),
        (&["--ensemble", "none.toml"], &["none.toml", "read ensemble"]),
        (&["--ensemble", "empty.toml"], &["empty.toml", "lacks the key `member`"]),
        (&["--ensemble", "weight.toml"], &["weight.toml:3: member.0.weight: must be above zero"]),
        (&["--ensemble", "wrong.toml"], &["member `odd`: provider.routing.rule: unknown variant `fish`"]),
    ];
    let weight = "[[member]]\nname = 'none'\nweight = 0\n";
    let wrong = "[[member]]\nname = 'odd'\n[member.provider.routing]\nrule = 'fish'\n";
    let case =
        Case::new().scenario().file("empty.toml", "").file("weight.toml", weight).file("wrong.toml", wrong);
    for (args, words) in cases {
        case.refuses(&and(&["recommend", "s.toml", "--seeds", "5"], args), words);
    }
    let trace = r#"{"timestamp": 0, "input_length": 10, "hash_ids": [0]}"#;
    let case = case.file("t.jsonl", trace).file("log.jsonl", r#"{"input": "hello"}"#);
    case.refuses(&["recommend", "t.jsonl"], &["t.jsonl: a trace needs --block-tokens and --time-unit"]);
    case.refuses(
        &["recommend", "log.jsonl"],
        &["log.jsonl: is ", "and no trace: `cachecast replay --what-if`"],
    );
    let case = case.file("s.gz", [0x1f, 0x8b, 0xff]);
    case.refuses(&["run", "./s.gz"], &["s.gz: is no text: a scenario is a TOML file"]);
    case.refuses(&["sensitivity", "s.toml", "--metric", "price"], &["--metric: `price` is no metric"]);
    case.refuses(
        &["sensitivity", "s.toml", "--over", "provider.routing.rule=[\"home\"]"],
        &["`provider.routing.rule` needs two values or more"],
    );
}

#[test]
fn a_recommendation_is_saved_as_a_scenario_that_runs() {
    let case = Case::new().scenario();
    let over = "client.key.buckets=[2, 3]";
    case.run(&["recommend", "s.toml", "--seeds", "5", "--over", over, "--save", "best.toml"]).answered();
    let row = |args: &[&str]| csv_rows(case.run(args).answered());
    let best = row(&["run", "best.toml", "--seeds", "2"]);
    let by_hand: Vec<_> = ["2", "3"]
        .iter()
        .map(|count| {
            let set = format!("client.key.buckets={count}");
            row(&["run", "s.toml", "--seeds", "2", "--set", "client.key.strategy=buckets", "--set", &set])
        })
        .collect();
    assert!(by_hand.contains(&best));
}

#[test]
fn wrong_numbers_for_a_recommendation_are_named_with_what_would_be_right() {
    let cases = [
        ("0", "6528", "6687", "--rps: `0` must be above zero and at most 1000, in requests a second"),
        ("nan", "6528", "6687", "--rps: `NaN` must be above zero and at most 1000, in requests a second"),
        ("1", "0", "6687", "--prefix-tokens: `0` must be from 1 to the 6687 tokens of the prompt"),
        ("1", "6528", "100", "--prefix-tokens: `6528` must be from 1 to the 100 tokens of the prompt"),
    ];
    for (rps, prefix, prompt, words) in cases {
        let args = ["recommend", "--rps", rps, "--prefix-tokens", prefix, "--prompt-tokens", prompt];
        Case::new().refuses(&args, &[words]);
    }
}

// Traces: `cached_tokens` under `ideal`, worked by hand.

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// A column of the requests of a trace that is replayed in blocks of 100 tokens, by the lines of the trace.
fn replayed(trace: impl AsRef<[u8]>, unit: &str, flags: &[&str], name: &str) -> Vec<(usize, String)> {
    let case = Case::new().file("t.jsonl", trace);
    case.run(&and(&replay(unit, &["--requests", "r.csv"]), flags)).answered();
    let requests = case.text("r.csv");
    let lines = column(&requests, "line").into_iter().map(|line| line.parse().unwrap());
    lines.zip(column(&requests, name)).collect()
}

/// The cached tokens of a trace whose every line is a request.
fn cached(trace: impl AsRef<[u8]>, unit: &str, flags: &[&str]) -> Vec<u32> {
    let rows = replayed(trace, unit, flags, "cached_tokens");
    assert!(rows.iter().map(|(line, _)| *line).eq(1..=rows.len()), "{rows:?}");
    rows.into_iter().map(|(_, cached)| cached.parse().unwrap()).collect()
}

/// Six requests: time in ms, ids, cached tokens if nothing ever dies, and with lifetimes of 300 s.
const IDLE: [(u64, &[u64], u32, u32); 6] = [
    // Nothing is there.
    (0, &[1, 2], 0, 0),
    // Age 300 s: alive at age L. All 200 tokens, as `ideal` need not compute the last one.
    (300_000, &[1, 2], 200, 200),
    // Age 300.001 s: dead. Written anew, until 900.001 s.
    (600_001, &[1, 2], 200, 0),
    // Shares block 1 and renews it until 1000 s; block 3 is new here, and block 2 is not touched.
    (700_000, &[1, 3], 100, 100),
    // Block 2 died at 900.001 s, block 1 is alive. Both are good until 1200.002 s.
    (900_002, &[1, 2], 200, 100),
    // Age 300 s. Behind block 2, block 3 is another text than behind block 1.
    (1_200_002, &[1, 2, 3], 200, 200),
];

/// These requests in one spelling of the time and of the blocks.
fn spelled(time: impl Fn(u64) -> String, blocks: impl Fn(&[u64]) -> String) -> String {
    let line = |(ms, ids, ..): &(u64, &[u64], u32, u32)| {
        let (time, blocks, tokens) = (time(*ms), blocks(ids), 100 * ids.len());
        format!("{{\"timestamp\": {time}, \"input_length\": {tokens}, {blocks}, \"output_length\": 7}}\n")
    };
    IDLE.iter().map(line).collect()
}

#[test]
fn a_replay_says_how_dense_its_trace_is_and_doubts_what_cannot_be() {
    let line = |number: u64| {
        let time = number * 1_000;
        format!(
            "{{\"timestamp\":{time},\"input_length\":100,\"output_length\":1,\"hash_ids\":[1],\"key\":\"{number}\"}}\n"
        )
    };
    // A key for each line: what is said of the trace must not follow from its keys.
    let case = Case::new().file("t.jsonl", (0..=1_800).map(line).collect::<String>());
    let pace = |unit| {
        let said = case.run(&replay(unit, &[])).stderr;
        said.lines().last().expect("something is said").to_string()
    };
    assert_eq!(pace("ms"), "t.jsonl: 1801 requests in 30 min, 60 a minute");
    assert_eq!(pace("s"), "t.jsonl: 1801 requests in 21 days, one every 17 min");
    let doubted = "t.jsonl: 1801 requests in 1.8 ms, 60000000 a minute: is its unit of time right?";
    assert_eq!(pace("ns"), format!("warning: {doubted}"));
    let long = Case::new().file("t.jsonl", [0, 40_000].map(line).concat());
    let said = long.run(&replay("s", &[])).stderr;
    assert!(
        said.ends_with("2 requests in 463 days, one every 463 days: is its unit of time right?\n"),
        "{said}"
    );
}

#[test]
fn a_fleet_that_is_too_small_for_its_traffic_is_told() {
    let case = Case::new().file("s.toml", SCENARIO);
    let words = "for a slot: a fleet of 1 machines with 1 slots each is too small for this traffic";
    let few = [
        "provider.latency.slots=1",
        "provider.routing.machines=1",
        "client.workload.calls.arrivals.rate=5/s",
    ];
    let few: Vec<_> = few.into_iter().flat_map(|value| ["--set", value]).collect();
    let said = case.run(&and(&["run", "s.toml"], &few)).stderr;
    assert!(said.contains(words), "{said}");
    assert!(!case.run(&["run", "s.toml"]).stderr.contains("for a slot"));
}

#[test]
fn every_spelling_of_a_trace_gives_the_same_cached_tokens() {
    let hash_ids = |ids: &[u64]| format!("\"hash_ids\": {ids:?}");
    let runs = |ids: &[u64]| match ids {
        [1, 3] => "\"runs\": [[1, 1], [3, 1]]".to_string(),
        ids => format!("\"runs\": [[1, {}]]", ids.len()),
    };
    let ms = |ms: u64| ms.to_string();
    let seconds = |ms: u64| format!("{}.{:03}", 1_760_428_221 + (ms + 546) / 1000, (ms + 546) % 1000);
    let nanos = |ms: u64| format!("\"{}\"", 1_760_428_221_546_000_001 + 1_000_000 * ms);
    let plain = spelled(ms, hash_ids);
    let (head, tail) = plain.split_at(plain.len() / 2);
    let named = plain.replace("\"output_length\": 7", r#""key": "k", "session": 5, "runs": null, "x": []"#);
    let spellings: [(&str, Vec<u8>); 8] = [
        ("ms", plain.clone().into()),
        ("ms", spelled(ms, runs).into()),
        ("ms", gzip(&plain)),
        // Packed in two parts, as `cat a.gz b.gz` joins them.
        ("ms", [gzip(head), gzip(tail)].concat()),
        ("ms", plain.replace('\n', "\r\n").into()),
        ("ms", named.into()),
        ("s", spelled(seconds, hash_ids).into()),
        ("ns", spelled(nanos, runs).into()),
    ];
    for (unit, trace) in &spellings {
        let unlimited = IDLE.map(|(_, _, cached, _)| cached);
        assert_eq!(cached(trace, unit, &[]), unlimited);
        assert_eq!(cached(trace, unit, &["--lifetime", "unlimited"]), unlimited);
        assert_eq!(cached(trace, unit, &["--lifetime", "300s"]), IDLE.map(|(_, _, _, cached)| cached));
    }
}

#[test]
fn nanoseconds_past_two_to_the_53_are_exact() {
    // Gaps of 300 s (alive at age L), of 300 s and 1 ns (dead), and of 300 s. Floats lie 256 ns apart here.
    let gaps = [0, 300_000_000_000, 600_000_000_001, 900_000_000_001];
    let times = gaps.map(|gap| 1_760_428_221_546_000_001u64 + gap);
    let trace = |write: fn(u64) -> String| -> String {
        let line = |time| format!("{{\"timestamp\": {time}, \"input_length\": 100, \"hash_ids\": [9]}}\n");
        times.iter().map(|time| line(write(*time))).collect()
    };
    let seconds = |time| format!("{}.{:09}", time / 1_000_000_000, time % 1_000_000_000);
    for (unit, trace) in [
        ("ns", trace(|time| format!("\"{time}\""))),
        ("ns", trace(|time| time.to_string())),
        ("s", trace(seconds)),
    ] {
        assert_eq!(cached(&trace, unit, &["--lifetime", "300s"]), [0, 100, 0, 100]);
        assert_eq!(cached(&trace, unit, &["--lifetime", "300000000001ns"]), [0, 100, 100, 100]);
        assert_eq!(cached(&trace, unit, &[]), [0, 100, 100, 100]);
        // Of the time, whole days are dropped: 1760428221 s is 20375 days and 28221 s.
        let arrival = &replayed(&trace, unit, &[], "arrival_s")[2];
        assert_eq!(*arrival, (3, "28821.546000002".to_string()));
    }
}

#[test]
fn last_blocks_may_be_partly_filled_or_left_out() {
    let requests: [(u32, &str, u32); 11] = [
        (300, "[1, 2, 3]", 0),
        (300, "[1, 2, 3]", 300),
        // As many ids as the length rounded up: of block 4, which is new, this fills 50 tokens.
        (350, "[1, 2, 3, 4]", 300),
        // All of block 4, of which 50 tokens are stored.
        (400, "[1, 2, 3, 4]", 350),
        // Less of block 4 than is stored.
        (320, "[1, 2, 3, 4]", 320),
        // Rounded down: the last 50 tokens are this request's own ...
        (350, "[1, 2, 3]", 300),
        // ... also if the same line comes again.
        (350, "[1, 2, 3]", 300),
        // A prompt shorter than a block: a part of block 1, or nothing that has a name.
        (60, "[1]", 60),
        (60, "[]", 0),
        (60, "[]", 0),
        // Known ids at another depth are another text.
        (200, "[2, 3]", 0),
    ];
    let line = |(second, (tokens, ids, _)): (usize, &(u32, &str, u32))| {
        format!("{{\"timestamp\": {second}, \"input_length\": {tokens}, \"hash_ids\": {ids}}}\n")
    };
    let trace: String = requests.iter().enumerate().map(line).collect();
    assert_eq!(cached(trace, "s", &[]), requests.map(|(_, _, cached)| cached));
}

#[test]
fn ids_can_be_local_to_a_session() {
    // Session, ids, cached tokens if ids are those of the whole trace, and if they are those of the session.
    let requests: [(&str, &str, u32, u32); 5] = [
        ("\"a\"", "[1, 2]", 0, 0),
        ("\"b\"", "[1, 2]", 200, 0),
        ("\"a\"", "[1, 2, 3]", 200, 200),
        ("\"b\"", "[1, 2, 3]", 300, 200),
        ("7", "[1]", 100, 0),
    ];
    for name in ["session", "session_id"] {
        let line = |(session, ids, ..): &(&str, &str, u32, u32)| {
            let tokens = 100 * ids.split(',').count();
            let time = "\"timestamp\": 1.5e0";
            format!("{{{time}, \"input_length\": {tokens}, \"{name}\": {session}, \"hash_ids\": {ids}}}\n")
        };
        let trace: String = requests.iter().map(line).collect();
        assert_eq!(cached(&trace, "s", &["--ids", "global"]), requests.map(|(_, _, global, _)| global));
        assert_eq!(cached(&trace, "s", &["--ids", "session"]), requests.map(|(_, _, _, local)| local));
    }
}

#[test]
fn skipped_and_blank_lines_keep_the_numbers_of_the_others() {
    let rows = replayed(format!("{LINE}\n\n{{\n{LINE}\nbad\n{LINE}"), "ms", &["--skip-bad"], "cached_tokens");
    assert_eq!(rows, [(1, "0"), (4, "200"), (6, "200")].map(|(line, cached)| (line, cached.to_string())));
}

// Sweeps: the same bytes, and whole files whatever happens.

/// The scenario with a second axis, of 2 x 2 cells.
fn larger_sweep(seeds: u32) -> String {
    let axis = "[[sweep.axis]]\npath = 'provider.routing.rule'\nvalues = ['home', 'pool']\n";
    SCENARIO.replace("seeds = 2", &format!("seeds = {seeds}")) + axis
}

#[test]
fn a_sweep_gives_the_same_bytes_with_any_number_of_threads() {
    let case = Case::new().file("s.toml", larger_sweep(5));
    let first = case.run_threads(&sweep_into("deep/one"), "1");
    let files = case.files("deep/one");
    assert!(files.keys().eq(SWEPT.iter()), "{:?}", files.keys());
    for (folder, threads) in [("two", "2"), ("again", "2"), ("deep/one", "3")] {
        assert_eq!(case.run_threads(&sweep_into(folder), threads).answered(), first.answered());
        assert!(case.files(folder) == files, "other bytes with {threads} threads");
    }
    let rows = SWEPT.map(|name| csv_rows(std::str::from_utf8(&files[name]).unwrap()));
    assert_eq!(rows.each_ref().map(Vec::len), [1 + 4, 1 + 4 * 5, 1 + 4, 1 + 4]);
    let [hit_ratio, cells, summary, ttft] = rows;
    assert_eq!(cells[0][..4], ["cell", "client.key.buckets", "provider.routing.rule", "seed"]);
    assert_eq!(summary[0][..4], ["cell", "client.key.buckets", "provider.routing.rule", "seeds"]);
    assert_eq!(cells[6][..4], ["1", "1", "pool", "1"]);
    assert_eq!(hit_ratio[0][..3], ["retention", "cardinality", "cache_hit_ratio"]);
    assert_eq!(ttft[1][..2], ["in_memory", "1"]);
    assert_eq!(csv_rows(first.answered()).len(), 1 + 4);
}

#[test]
fn the_time_and_the_values_of_a_change_of_the_provider_can_be_swept() {
    let change = "\n[[regime]]\nat = '5m'\n[regime.provider.write]\nsemantics = 'whole_body'\n";
    let axes = "[[sweep.axis]]\npath = 'regime.0.at'\nvalues = ['2m', '5m', '9m']\n\
                [[sweep.axis]]\npath = 'regime.0.provider.write.semantics'\nvalues = ['partial_prefix', 'whole_body']\n";
    let scenario = &SCENARIO[..SCENARIO.find("[sweep]").unwrap()];
    let case = Case::new().file("s.toml", format!("{scenario}{change}{axes}"));
    let said = case.run(&and(&sweep_into("out"), &["--quiet"]));
    let hits: Vec<f64> =
        column(said.answered(), "token_hit_ratio").iter().map(|hits| hits.parse().unwrap()).collect();
    // The later the change to whole bodies, which no call of this traffic can read again, the more is read before.
    let (partial, whole): (Vec<f64>, Vec<f64>) = hits.chunks(2).map(|pair| (pair[0], pair[1])).unzip();
    assert!(whole[0] < whole[1] && whole[1] < whole[2] && whole[2] < partial[0], "{said:?}");
    assert!(partial.iter().all(|hits| *hits > 0.8), "the same provider again, cold: {said:?}");
    case.refuses(
        &and(&sweep_into("o"), &["--set", "regime.0.at=3m"]),
        &["is set by --set and swept too: leave out the flag"],
    );
    case.refuses(
        &and(RUN, &["--set", "regime.0.at=11m"]),
        &["regime.0.at: must be before the end of the duration"],
    );
    let said = case.run(&and(RUN, &["--set", "client.workload.calls.users=9"]));
    let words = "warning: after the first 5m: workload `calls`: every tail is its own and only whole bodies are stored";
    assert!(said.stderr.contains(words), "{said:?}");
}

#[test]
fn a_sweep_over_other_things_writes_its_two_files_into_results() {
    let case = Case::new().with_line(29, "path = 'provider.routing.machines'");
    case.run(&["sweep", "s.toml", "--set", "sweep.baseline={}", "--seeds", "1"]).answered();
    let files = case.files("results");
    assert!(files.keys().eq(["s/", "s/cells.csv", "s/summary.csv"]), "{:?}", files.keys());
    assert_eq!(column(&case.text("results/s/cells.csv"), "provider.routing.machines"), ["1", "2"]);
}

#[test]
fn an_axis_that_is_called_like_a_metric_has_a_column_of_its_own() {
    let axis = "[[sweep.axis]]\npath = 'provider.routing.overflow'\nvalues = ['cascade', 'none']\n";
    let case = Case::new().file("s.toml", SCENARIO.replace("seeds = 2", "seeds = 1") + axis);
    let said = case.run(&and(&sweep_into("o"), &["--quiet"]));
    assert_eq!(column(said.answered(), "routing.overflow"), ["cascade", "none", "cascade", "none"]);
    assert!(column(said.answered(), "overflow").iter().all(|share| share.parse::<f64>().is_ok()), "{said:?}");
    let said = case.run(&and(&sweep_into("o"), &["--quiet", "--format", "json"]));
    let rows: Vec<Map<String, Value>> = serde_json::from_str(said.answered()).unwrap();
    assert!(rows[0]["routing.overflow"] == "cascade" && rows[0]["overflow"].is_number(), "{said:?}");
}

#[test]
fn a_finished_sweep_replaces_its_files_and_leaves_others() {
    let case = Case::new().scenario().file("out/cells.csv", "old").file("out/mine", "old");
    let case = case.file("out/unfinished.csv", "old");
    case.run(&sweep_into("out")).answered();
    let mut files = case.files("out");
    assert_eq!(files.remove("mine").unwrap(), b"old");
    assert!(files.keys().eq(SWEPT.iter()) && files["cells.csv"] != b"old", "{:?}", files.keys());
    let wrong = and(&sweep_into("out"), &["--set", "provider.routing.machines=0"]);
    case.refuses(&wrong, &["provider.routing.machines: must be 1 or more"]);
}

/// Every CSV is whole: it ends with a line end, and its rows have the same length.
fn assert_whole(files: &Files) {
    for (name, bytes) in files.iter().filter(|(name, _)| name.ends_with(".csv")) {
        let text = std::str::from_utf8(bytes).unwrap();
        assert!(text.ends_with('\n'), "{name} is cut");
        // The first line of saved rows says what they belong to.
        csv_rows(if name == "unfinished.csv" { text.split_once('\n').unwrap().1 } else { text });
    }
}

/// A file that was being written beside its place; only a killed program leaves one.
fn is_temporary(name: &str) -> bool {
    name.starts_with('.')
}

/// The files of a folder without the temporary ones.
fn results(case: &Case, folder: &str) -> Files {
    case.files(folder).into_iter().filter(|(name, _)| !is_temporary(name)).collect()
}

/// Starts a sweep, waits for its folder and then a while, and sends a signal; the exit code, if there is one.
fn stopped(case: &Case, args: &[&str], signal: &str, after: Duration) -> Option<i32> {
    let mut child = case.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !case.0.path().join(args[3]).exists() && begun.elapsed() < Duration::from_secs(10) {
        sleep(Duration::from_millis(1));
    }
    sleep(after);
    // A sweep that has ended already takes no signal.
    let _ = Command::new("kill").args([signal, &child.id().to_string()]).stderr(Stdio::null()).status();
    child.wait().unwrap().code()
}

/// Interrupts a sweep. If the signal comes before the sweep listens, it kills: then once more, and later.
fn interrupted(case: &Case, args: &[&str]) {
    for after in [5, 10, 20, 40, 80, 160, 320, 640] {
        let code = stopped(case, args, "-INT", Duration::from_millis(after));
        if code == Some(130) {
            return;
        }
        assert_eq!(code, None, "the sweep ended before it was interrupted");
        for name in case.files(args[3]).into_keys().filter(|name| is_temporary(name)) {
            fs::remove_file(case.0.path().join(args[3]).join(name)).unwrap();
        }
    }
    panic!("no sweep could be interrupted");
}

#[test]
fn an_interrupted_sweep_goes_on_to_the_same_bytes() {
    let case = Case::new().file("s.toml", larger_sweep(6000));
    let resume = and(&sweep_into("cut"), &["--resume"]);
    let whole = case.run(&sweep_into("whole"));
    interrupted(&case, &sweep_into("cut"));
    let saved = case.files("cut");
    assert!(saved.keys().eq(["unfinished.csv"]), "{:?}", saved.keys());
    assert!(case.text("cut/unfinished.csv").lines().count() > 1, "finished rows are saved");
    assert_whole(&saved);
    // Interrupted again, and then killed: what was saved stays.
    interrupted(&case, &resume);
    let more = case.files("cut");
    assert!(more.keys().eq(saved.keys()), "{:?}", more.keys());
    assert!(more["unfinished.csv"].len() >= saved["unfinished.csv"].len(), "saved rows are gone");
    stopped(&case, &resume, "-KILL", Duration::from_millis(20));
    assert_whole(&case.files("cut"));
    foreign_and_damaged_rows_are_refused(&case, &resume);
    assert_eq!(case.run(&resume).answered(), whole.answered());
    assert!(results(&case, "cut") == case.files("whole"), "other bytes after an interruption");
}

/// Rows of another sweep and rows that are not whole are refused, and stay.
fn foreign_and_damaged_rows_are_refused(case: &Case, resume: &[&str]) {
    let path = case.0.path().join("cut/unfinished.csv");
    let saved = fs::read_to_string(&path).unwrap();
    let (stamp, rows) = saved.split_once('\n').unwrap();
    let row = rows.lines().next().unwrap();
    let foreign = "unfinished.csv: belongs to another scenario or version";
    let damaged = "unfinished.csv:2: is no row of this sweep";
    let cases = [
        (String::new(), foreign),
        ("cell,seed\n1,2\n".into(), foreign),
        (saved.replacen("s ", "t ", 1), foreign),
        (format!("{stamp}\n{}", row.rsplit_once(',').unwrap().0), damaged),
        (format!("{stamp}\n{row},1\n"), damaged),
        (format!("{stamp}\n9{row}\n"), damaged),
        (format!("{stamp}\nx{row}\n"), damaged),
        (format!("{stamp}\n\n"), damaged),
    ];
    for (text, words) in cases {
        fs::write(&path, text).unwrap();
        case.refuses(resume, &[words]);
    }
    fs::write(&path, &saved).unwrap();
    case.refuses(&and(resume, &["--seeds", "3"]), &[foreign, "run without --resume, or into another folder"]);
}

#[test]
fn a_killed_sweep_leaves_no_half_file() {
    let case = Case::new().file("s.toml", larger_sweep(20));
    let begun = Instant::now();
    case.run(&sweep_into("whole")).answered();
    let (took, whole) = (begun.elapsed(), case.files("whole"));
    // From the beginning to the end of the sweep, when the files are written.
    for tenths in 1..=12 {
        let folder = format!("killed-{tenths}");
        stopped(&case, &sweep_into(&folder), "-KILL", took * tenths / 10);
        let left = results(&case, &folder);
        assert_whole(&left);
        assert!(left.iter().all(|(name, bytes)| whole[name] == *bytes), "{:?}", left.keys());
        case.run(&and(&sweep_into(&folder), &["--resume"])).answered();
        assert!(results(&case, &folder) == whole, "other bytes after a kill");
    }
}

// stdout is data, stderr is talk.

/// What is printed under each format but `table`, as rows of text with the header first.
fn rows_by_format(case: &Case, args: &[&str]) -> [Vec<Vec<String>>; 3] {
    let say = |format| case.run(&and(args, &["--format", format])).answered().to_string();
    let csv = csv_rows(&say("csv"));
    let header = &csv[0];
    let objects: Vec<Map<String, Value>> = serde_json::from_str(&say("json")).unwrap();
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let row = |object: &Map<String, Value>| header.iter().map(|name| text(&object[name])).collect();
    let json = std::iter::once(header.clone()).chain(objects.iter().map(row)).collect();
    let fields = |line: &str| -> Vec<String> {
        let inside = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')).unwrap();
        inside.split('|').map(|field| field.trim().to_string()).collect()
    };
    let mut markdown: Vec<_> = say("markdown").lines().map(fields).collect();
    let rule = markdown.remove(1).concat();
    assert!(rule.len() > 1 && rule.chars().all(|c| "-:".contains(c)), "{rule}");
    let table = say("table");
    assert!(csv[1..].iter().all(|row| table.contains(&row[0])), "{table}");
    assert_eq!(case.run(args).answered(), say("csv"), "a pipe gets CSV");
    [csv, json, markdown]
}

/// Numbers without the zeros at their end, which JSON has not.
fn shortened(rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let short = |field: &String| field.parse::<f64>().map_or(field.clone(), |number| number.to_string());
    rows.iter().map(|row| row.iter().map(short).collect()).collect()
}

#[test]
fn every_format_has_the_same_rows() {
    let case = Case::new().scenario().file("t.jsonl", LINE);
    let verbs: [(&[&str], &str); 5] = [
        (RUN, "metric"),
        (&sweep_into("out"), "buckets"),
        (&replay("ms", &[]), "metric"),
        (&["list", "providers"], "profile"),
        (&["list", "scenarios"], "scenario"),
    ];
    for (args, first) in verbs {
        let [csv, json, markdown] = rows_by_format(&case, args);
        assert!(csv.len() > 1 && csv[0][0] == first, "{csv:?}");
        assert_eq!(shortened(&csv), shortened(&json));
        // For people, numbers are rounded and stand beside their intervals.
        assert!(markdown.iter().all(|row| row.len() == markdown[0].len()), "{markdown:?}");
        assert!(markdown.iter().map(|row| &row[0]).eq(csv.iter().map(|row| &row[0])), "{markdown:?}");
    }
}

#[test]
fn an_answer_of_more_than_one_table_is_an_object_with_all_of_it() {
    let log = format!("{}/scenarios/logs/support.jsonl.gz", env!("CARGO_MANIFEST_DIR"));
    let case = Case::new().scenario();
    let recommend = ["recommend", "s.toml", "--seeds", "5", "--over", "client.key.buckets=1..3"];
    let fit = ["fit", &log, "--rivals", "home,pool", "--seeds", "39"];
    let sensitivity = ["sensitivity", "s.toml", "--trajectories", "2"];
    let replay = ["replay", &log, "--what-if", "key=session", "--seeds", "2"];
    let answers: [(&[&str], &[&str], &str, &str); 4] = [
        (
            &recommend,
            &["/recommended/choice/client.key.buckets", "/objective", "/as_good/0"],
            "/choices",
            "Recommended: ",
        ),
        (
            &fit,
            &["/rows", "/replications", "/sentences/0", "/parameters/0/rival"],
            "/rivals",
            "replications of every point",
        ),
        (
            &sensitivity,
            &["/metric", "/unit", "/as_written/mean"],
            "/effects",
            "as written; effects in points",
        ),
        (
            &replay,
            &["/form", "/validation/calls", "/variants/1/points_gained/mean"],
            "/variants",
            "is a log of requests",
        ),
    ];
    for (args, pointers, rows, words) in answers {
        let say = |format| case.run(&and(args, &["--format", format]));
        let json: Value = serde_json::from_str(say("json").answered()).unwrap();
        for pointer in pointers {
            assert!(json.pointer(pointer).is_some_and(|value| !value.is_null()), "{pointer}: {json:#}");
        }
        let csv = say("csv");
        let lines = csv_rows(csv.answered()).len() - 1;
        assert_eq!(json.pointer(rows).unwrap().as_array().unwrap().len(), lines, "{csv:?}");
        // In a pipe data is all that stdout has; the words of a person's answer are talk.
        assert!(!csv.stdout.contains(words) && csv.stderr.contains(words), "{csv:?}");
        assert_eq!(case.run(args).answered(), csv.stdout);
        for format in ["table", "markdown"] {
            let said = say(format);
            let on_stderr = args[0] == "sensitivity" && format == "table";
            assert!(
                said.stdout.contains(words) != on_stderr && said.stderr.contains(words) == on_stderr,
                "{said:?}"
            );
        }
        let quiet = case.run(&and(args, &["--quiet"]));
        quiet.answered_quietly(&csv.stdout);
    }
}

/// Names of all keys of objects below a value; those of metrics and of paths are data.
fn keys_of(value: &Value, keys: &mut std::collections::BTreeSet<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|below| keys_of(below, keys)),
        Value::Object(object) => {
            for (key, below) in object {
                keys.insert(key.clone());
                if !["metrics", "choice", "as_good"].contains(&&**key) {
                    keys_of(below, keys);
                }
            }
        }
        _ => {}
    }
}

#[test]
fn every_key_of_every_answer_is_documented() {
    let own = |file: &str| format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
    let documented = fs::read_to_string(own("results/output.md")).unwrap();
    let log = own("scenarios/logs/support.jsonl.gz");
    let cells = own("scenarios/observations/azure-study-cells.csv");
    let ttft = own("scenarios/observations/openai-cookbook-ttft.csv");
    let (one, other) = (format!("{log}:5"), format!("{log}:6"));
    let case = Case::new().scenario().file("t.jsonl", LINE);
    let verbs: [&[&str]; 18] = [
        RUN,
        &sweep_into("out"),
        &["replay", &log, "--what-if", "key=session", "--seeds", "2"],
        &["recommend", "s.toml", "--seeds", "5", "--over", "client.key.buckets=1..3"],
        &["sensitivity", "s.toml", "--trajectories", "2"],
        &["fit", &log, "--rivals", "home", "--seeds", "39"],
        &["fit", &cells, "--scenario", "bucket-cardinality", "--rivals", "home", "--seeds", "39"],
        &["fit", &ttft, "--scenario", "bucket-cardinality"],
        &["diff", &log],
        &["diff", &one, &other],
        &["check", &log, "--rules", "volatile-head", "--level", "error"],
        &["check", "--list-rules"],
        &["convert", "t.jsonl", "t.parquet", "--block-tokens", "100", "--time-unit", "ms"],
        &["anonymize", &log, "--out", "a.jsonl"],
        &["list", "providers"],
        &["list", "providers", "ideal"],
        &["list", "axes"],
        &["list", "scenarios"],
    ];
    for args in verbs {
        let said = case.run(&and(args, &["--format", "json"]));
        assert!(said.code == Some(0) || args[0] == "check" && said.code == Some(1), "{said:?}");
        let mut keys = std::collections::BTreeSet::new();
        keys_of(&serde_json::from_str(&said.stdout).unwrap(), &mut keys);
        assert!(keys.len() > 2, "{said:?}");
        // An axis has the name of its path.
        for key in keys.iter().filter(|key| *key != "buckets") {
            let name = key.strip_suffix("_ci95").unwrap_or(key);
            assert!(
                documented.contains(&format!("`{name}`")),
                "`{name}` of {args:?} is not in results/output.md"
            );
        }
    }
}

#[test]
fn files_that_are_written_are_answered_for_where_asked() {
    let log = format!("{}/scenarios/logs/support.jsonl.gz", env!("CARGO_MANIFEST_DIR"));
    let case = Case::new().file("t.jsonl", LINE);
    let convert = ["convert", "t.jsonl", "t.parquet", "--block-tokens", "100", "--time-unit", "ms"];
    let anonymize = ["anonymize", &log, "--out", "a.jsonl"];
    for (args, column, value) in [(&convert[..], "requests", 1), (&anonymize, "calls", 24)] {
        assert_eq!(case.run(args).answered(), "", "what was done is talk");
        let json = case.run(&and(args, &["--format", "json"]));
        let rows: Vec<Map<String, Value>> = serde_json::from_str(json.answered()).unwrap();
        assert_eq!(rows[0][column], value, "{json:?}");
        assert_eq!(json.stderr, "");
        let csv = case.run(&and(args, &["--format", "csv"]));
        assert!(csv_rows(csv.answered())[0].iter().eq(rows[0].keys()), "{csv:?}");
    }
}

#[test]
fn a_line_of_a_log_is_checked_by_itself() {
    let log = format!("{}/scenarios/logs/support.jsonl.gz", env!("CARGO_MANIFEST_DIR"));
    let case = Case::new();
    let check = |name: &str| {
        let said = case.run(&["check", name, "--format", "json", "--level", "error"]);
        serde_json::from_str::<Vec<Map<String, Value>>>(&said.stdout).unwrap()
    };
    let of_a_line = check(&format!("{log}:5"));
    assert!(of_a_line.iter().all(|finding| finding["line"] == 5 && finding["count"] == 1), "{of_a_line:?}");
    assert!(check(&log).iter().any(|finding| finding["count"] != 1), "several lines show more");
    case.refuses(&["check", &format!("{log}:999")], &["support.jsonl.gz:999: line 999 holds no request"]);
}

#[test]
fn warnings_are_not_in_the_way_of_an_error() {
    let case = Case::new().scenario();
    // Each would be warned of a rate above the limit, if there were anything to read.
    let hot = "client.workload.calls.arrivals.rate=100/min";
    let of_run = ["run", "s.toml", "--requests", "no/r.csv"];
    let of_sweep = ["sweep", "s.toml", "--out", "s.toml"];
    let of_recommend =
        ["recommend", "s.toml", "--within", "0", "--over", "client.key.strategy=[\"none\", \"constant\"]"];
    let of_sensitivity = ["sensitivity", "s.toml", "--over", "provider.routing.pol=[1, 2]"];
    for args in [&of_run[..], &of_sweep, &of_recommend, &of_sensitivity] {
        let args = and(args, &["--set", hot, "--set", "client.key.strategy=constant"]);
        let said = case.run(&args);
        said.refused(&["error: "]);
        assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    }
    let warned = case.run(&["run", "s.toml", "--set", hot, "--set", "client.key.strategy=constant"]);
    assert!(warned.stderr.starts_with("warning: "), "{warned:?}");
}

#[test]
fn a_long_answer_says_in_a_pipe_how_far_it_is() {
    let case = Case::new();
    let args = [
        "recommend",
        "--rps",
        "1000",
        "--prefix-tokens",
        "6600",
        "--prompt-tokens",
        "6687",
        "--set",
        "client.retention=24h",
    ];
    let mut child = case.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    let begun = Instant::now();
    let word = lines.next().unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(word.contains(" so far: ") && word.contains(" runs"), "{word}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let quick = case.run(&[
        "recommend",
        "--rps",
        "0.1",
        "--prefix-tokens",
        "2000",
        "--prompt-tokens",
        "2100",
        "--quiet",
    ]);
    assert_eq!(quick.stderr, "");
}

#[test]
fn quiet_says_nothing_on_stderr() {
    let case = Case::new().scenario().file("t.jsonl", LINE);
    for args in [RUN, &sweep_into("out"), &replay("ms", &[]), &["recommend", "s.toml", "--seeds", "5"]] {
        let args = and(args, &["--set", "provider.routing.limit_rpm=1"]);
        let said = case.run(&args);
        case.run(&and(&args, &["--quiet"])).answered_quietly(said.answered());
    }
    let said = case.run(&sweep_into("out"));
    let (effort, written) = said.stderr.split_once("; ").expect("how long it took, and where the files are");
    assert!(effort.starts_with("2 cells x 2 seeds in ") && effort.ends_with(" % busy"), "{said:?}");
    assert_eq!(written, "written to out\n", "no progress bar without a terminal");
}

#[test]
fn a_reader_that_has_heard_enough_is_no_error() {
    let case = Case::new().scenario();
    for args in
        [RUN, &sweep_into("out"), &["recommend", "s.toml", "--seeds", "5"], &["list", "axes"], &["--help"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = case.command(args).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(0), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked") && !stderr.contains("error"), "{args:?}: {stderr}");
    }
    assert!(case.files("out").keys().eq(SWEPT.iter()), "the files are written all the same");
}

#[test]
fn requests_are_written_whole() {
    let case = Case::new().scenario().file("r.csv", "old");
    let plain = case.run(RUN);
    assert_eq!(case.run(&["run", "s.toml", "--requests", "r.csv"]).answered(), plain.answered());
    let one_seed = case.run(&["run", "s.toml", "--seeds", "1"]);
    let rows = csv_rows(one_seed.answered());
    let mean = |name: &str| rows.iter().find(|row| row[0] == name).unwrap()[1].parse::<usize>().unwrap();
    // The file also has the requests of the warm-up.
    assert_eq!(csv_rows(&case.text("r.csv")).len(), 1 + mean("requests") + mean("warmup_requests"));
    assert!(case.files("").keys().eq(["r.csv", "s.toml"]), "no temporary file stays");
}

// list, --help, warnings.

#[test]
fn providers_and_scenarios_are_listed() {
    let case = Case::new();
    let names = |what, header| column(case.run(&["list", what]).answered(), header);
    let profiles = names("providers", "profile");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/providers");
    for file in std::fs::read_dir(folder).unwrap() {
        let name = file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
        assert!(profiles.contains(&name), "{name} is not listed");
    }
    assert_eq!(names("scenarios", "scenario")[..4], ["bucket-cardinality", "hot-key", "idle-gap", "chat"]);
    for name in names("scenarios", "scenario") {
        // It was found, if there is something wrong with what is laid over it.
        case.refuses(&["run", &name, "--set", "seeds=0"], &["--set seeds=0: seeds: must be from 1 to"]);
    }
}

#[test]
fn every_listed_default_can_be_set() {
    let case = Case::new().scenario().file("t.jsonl", LINE).file("r.toml", RECORDED).file("f.toml", FORKS);
    let axes = csv_rows(case.run(&["list", "axes"]).answered());
    assert_eq!(axes[0], ["path", "type", "default", "meaning"]);
    let json = case.run(&["list", "axes", "--format", "json"]);
    assert_eq!(serde_json::from_str::<Vec<Value>>(json.answered()).unwrap().len(), axes.len() - 1);
    let plain = case.run(&["run", "s.toml", "--seeds", "1"]);
    let mut provider_paths = 0;
    for row in axes[1..].iter().filter(|row| !row[2].is_empty()) {
        // Without an end only a trace can be played.
        let of_trace = row[0].contains(".trace.") || row[0] == "duration";
        let (file, name) = match of_trace {
            true => ("r.toml", "log"),
            false if row[0].contains(".fork_tree.") => ("f.toml", "forks"),
            false => ("s.toml", "calls"),
        };
        let set = format!("{}={}", row[0].replace("NAME", name), row[2]);
        let said = case.run(&["run", file, "--set", &set, "--seeds", "1"]);
        assert!(!said.answered().is_empty());
        if row[0].starts_with("provider.") {
            provider_paths += 1;
            assert_eq!(said.stdout, plain.stdout, "{set} is what the profile has");
        }
    }
    assert!(provider_paths > 35, "{provider_paths}");
}

#[test]
fn help_names_every_verb_and_flag() {
    let verbs = [
        ("run", "--requests"),
        ("sweep", "--out --resume"),
        ("replay", "--provider --block-tokens --time-unit --ids --lifetime --skip-bad --requests"),
        ("recommend", "--rps --prefix-tokens --prompt-tokens --output-tokens --provider"),
        ("list", "--format"),
        ("init", "--out --force --yes --workload --users --prefix-tokens --rate"),
        ("schema", "--out"),
    ];
    let common = ["--set", "--seeds", "--format", "--quiet"];
    let case = Case::new();
    let main = case.run(&["--help"]);
    assert!(
        main.answered().contains("Exit codes: 0 answered; 1 `check` found something; 2 bad input"),
        "{main:?}"
    );
    for (verb, flags) in verbs {
        assert!(main.stdout.contains(&format!("\n  {verb} ")), "{main:?}");
        for help in ["--help", "-h"] {
            let said = case.run(&[verb, help]);
            let words: Vec<_> = said.answered().split_whitespace().collect();
            assert!(flags.split(' ').all(|flag| words.contains(&flag)), "{said:?}");
            assert!(
                ["list", "init", "schema"].contains(&verb) || common.iter().all(|flag| words.contains(flag)),
                "{said:?}"
            );
            assert_eq!(said.stderr, "");
        }
    }
    case.run(&["--version"]).answered_quietly(&format!("cachecast {}\n", env!("CARGO_PKG_VERSION")));
    let nothing = case.run(&[]);
    assert_eq!((nothing.code, &*nothing.stdout), (Some(2), ""));
    assert!(nothing.stderr.contains("Usage: cachecast"), "{nothing:?}");
}

#[test]
fn a_provider_that_needs_marks_and_a_floor_that_is_too_low_are_warned_of() {
    let rows: &[(&[&str], &str)] = &[
        (
            &["--set", "provider.profile=anthropic-5m", "--set", "client.retention=5m"],
            "stores at explicit breakpoints only",
        ),
        (
            &["--set", "provider.write.semantics=first_tokens", "--set", "provider.write.first_tokens=100"],
            "the first 100 tokens hold no boundary that is reported",
        ),
        (&["--set", "client.workload.calls.volatility.head_tokens=9"], "its head changes with every call"),
        (
            &["--set", "client.key.strategy=per_user", "--set", "client.workload.calls.users=1"],
            "keys go by user, but there is only one",
        ),
    ];
    for (flags, words) in rows {
        let said = Case::new().scenario().run(&[RUN, flags].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.stderr.contains(words), "{said:?}");
    }
    let trace = Case::new()
        .file("t.jsonl", LINE)
        .run(&replay("ms", &["--set", "provider.write.semantics=whole_body"]));
    assert!(trace.stderr.contains("mostly end inside a block"), "{trace:?}");
}

#[test]
fn warnings_say_what_to_know_before_reading_the_numbers() {
    let same = "client.workload.calls.shared_prefix.tail_tokens=0";
    let cases = [
        ("client.workload.calls.shared_prefix.prefix_tokens=500", "below 1024 nothing is cached"),
        ("client.key.strategy=per_call", "every call has a key of its own"),
        ("provider.routing.limit_rpm=1", "each key gets 5.0 requests a minute, above the limit of 1"),
        (same, "all prompts are the same"),
        ("client.workload.calls.arrivals.rate=1/h", "a key is used every 7200 s on average"),
        ("provider.write.semantics=whole_body", "there can be no hits"),
    ];
    let case = Case::new().scenario();
    assert_eq!(case.run(RUN).stderr, "", "nothing to warn of");
    for (set, words) in cases {
        let said = case.run(&["run", "s.toml", "--set", set]);
        let warned = |line: &str| line.starts_with("warning: workload `calls`: ") && line.contains(words);
        assert!(said.stderr.lines().any(warned), "{said:?}");
        case.run(&["run", "s.toml", "--quiet", "--set", set]).answered_quietly(said.answered());
    }
    // A sweep warns of what holds in every cell; what holds in some is what it is there to show.
    let said = case.run(&and(&sweep_into("out"), &["--set", same]));
    assert_eq!(said.stderr.matches("all prompts are the same").count(), 1, "{said:?}");
    let said = case.run(&and(&sweep_into("out"), &["--set", "provider.routing.limit_rpm=6"]));
    assert!(!said.stderr.contains("warning: "), "only one bucket of the two is too hot: {said:?}");
}

// Fits.

/// A log of one key: the first request misses, and a late one.
const LOG: &str = "time,key,prefix_tokens,prompt_tokens,cached_tokens,ttft_ms
0,a,6600,6700,0,1300
2,a,6600,6687,6528,1100
4.5,a,6600,6690,6528,1150
60,a,6600,6700,0,1240
62,a,6600,6650,6528,1120
";

fn fit<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    and(&["fit", "o.csv", "--scenario", "s.toml", "--seeds", "39"], flags)
}

#[test]
fn observations_that_cannot_be_fitted_are_refused_in_one_message() {
    let header = "time,prefix_tokens,prompt_tokens,cached_tokens\n";
    let steady = format!("{header}0,6600,6700,6528\n1,6600,6700,6528\n");
    let bad: &[(&str, &[&str])] = &[
        ("", &["o.csv: is empty"]),
        (header, &["o.csv: has a header and no rows"]),
        (
            &steady,
            &[
                "o.csv: every `cached_tokens` is 6528",
                "nothing beyond the rule of the report",
                "explained exactly",
            ],
        ),
        (
            "time,prompt_tokens,cached_tokens\n0,6700,6701\n",
            &["o.csv:2: `cached_tokens` is 6701, above the 6700"],
        ),
        ("time,prompt_tokens,cached_tokens\n3,6700,0\n2,6700,9\n", &["o.csv:3: `time` goes backwards"]),
        (
            "time,promt_tokens,cached_tokens\n",
            &["o.csv:1: the column `promt_tokens`", "did you mean `prompt_tokens`?"],
        ),
        ("time,prompt_tokens,cached_tokens\n0,600,0\n1,600,9\n", &["o.csv:2: ", "column `prefix_tokens`"]),
        (
            "client.key.bukets,token_hit_ratio\n3,0.9\n",
            &["o.csv:2: client.key.bukets", "did you mean `buckets`?"],
        ),
        (
            "client.key.buckets,token_hit_ratio\n3,0.9\n",
            &["o.csv: 1 rows for the", "free parameters", "--free PATH=[VALUE]"],
        ),
        ("ttft_ms,uncached_tokens,cached_tokens\n900,5,0\n", &["o.csv: 1 points for 2 numbers"]),
    ];
    for (text, words) in bad {
        Case::new().scenario().file("o.csv", text).refuses(&fit(&["--out", "out"]), words);
    }
    let case = Case::new().scenario().file("o.csv", LOG);
    case.refuses(
        &fit(&["--free", "provider.routing.pol=[2]"]),
        &["--free provider.routing.pol=[2]: ", "`pool`?"],
    );
    case.refuses(
        &fit(&["--free", "provider.routing.pool"]),
        &["--free provider.routing.pool: write path=values"],
    );
    case.refuses(&fit(&["--rivals", "hom"]), &["--rivals: ", "did you mean `home`?"]);
    case.refuses(&and(&fit(&[])[..4], &["--seeds", "5"]), &["--seeds: must be 39 or more"]);
    case.refuses(&["fit", "none.csv", "--scenario", "s.toml"], &["none.csv: cannot read observations"]);
}

#[test]
fn a_log_is_fitted_without_a_scenario_and_shows_no_names() {
    let line = |time: u32, word: &str, cached: u32| {
        let text = format!("{}{word}", "secret ".repeat(1_500));
        format!(
            "{{\"time\": {time}, \"request\": {{\"model\": \"gpt-5.2\", \"prompt_cache_key\": \"hidden\", \"input\": \
             \"{text}\"}}, \"usage\": {{\"input_tokens\": 1520, \"input_tokens_details\": {{\"cached_tokens\": {cached}}}}}}}\n"
        )
    };
    let log: String =
        (0..12).map(|n| line(20 * n, &format!("end {n}"), if n == 0 { 0 } else { 1_408 })).collect();
    let case = Case::new().file("log.jsonl", &log);
    let said =
        case.run(&["fit", "log.jsonl", "--seeds", "39", "--rivals", "home,whole_body", "--format", "csv"]);
    assert!(said.answered().contains("rival,over,verdict"), "{said:?}");
    for words in [
        "log.jsonl: read as a log of requests with 12 calls, 12 of them with their `cached_tokens`",
        "that of `openai-classic` (the first profile that has the model gpt-5.2)",
        "two prompts that share 5,000 tokens and differ after them",
    ] {
        assert!(said.stderr.contains(words), "{words}: {said:?}");
    }
    let all = format!("{said:?}");
    assert!(all.contains("log.jsonl:2") && !all.contains("secret") && !all.contains("hidden\""), "{all}");

    let bad = Case::new().file("log.jsonl", format!("{log}no json\n"));
    bad.refuses(&["fit", "log.jsonl"], &["log.jsonl:13: "]);
    let table = Case::new().file("o.csv", LOG);
    table.refuses(&["fit", "o.csv"], &["--scenario: is needed for a table", "--kind usage-table"]);
}

#[test]
fn a_fit_writes_tables_a_profile_that_loads_and_an_ensemble() {
    let case = Case::new().scenario().file("o.csv", LOG);
    let said = case.run(&fit(&["--out", "out", "--format", "json"]));
    let answer: Value = serde_json::from_str(said.answered()).unwrap();
    let rivals = answer["rivals"].as_array().unwrap();
    let names: Vec<_> = rivals.iter().map(|rival| rival["rival"].as_str().unwrap()).collect();
    for name in ["home", "pool", "whole_body", "write_once", "first_tokens"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(answer["replications"], 39);
    let files: Vec<_> = case.files("out").into_keys().collect();
    let expected = [
        "checks.csv",
        "ensemble.toml",
        "fitted.toml",
        "latency.csv",
        "parameters.csv",
        "report_rules.csv",
        "rivals.csv",
    ];
    assert_eq!(files, expected);
    assert_eq!(column(&case.text("out/rivals.csv"), "rival"), names);
    let ensemble: toml::Table = case.text("out/ensemble.toml").parse().unwrap();
    let members = ensemble["member"].as_array().unwrap();
    let weight: f64 = members.iter().map(|member| member["weight"].as_float().unwrap()).sum();
    assert!((weight - 1.0).abs() < 0.01, "{weight}");
    assert_eq!(members[0]["name"].as_str(), Some(names[0]));
    assert!(members[0]["provider"]["routing"].is_table());
    // The fitted profile is one that scenarios can name.
    case.run(&and(RUN, &["--set", "provider.profile='out/fitted.toml'"])).answered();
    assert!(case.text("out/fitted.toml").contains("tag = \"fit\""));
    // Quiet, it says nothing but the table; on any number of threads the same.
    let quiet = ["1", "3"].map(|threads| case.run_threads(&fit(&["--quiet", "--format", "csv"]), threads));
    assert_eq!(quiet[0].answered(), quiet[1].answered());
    assert_eq!(quiet[0].stderr, "");
}

// Samples.

/// A sample of sessions with keys of their own.
const SAMPLED: [&str; 7] = [
    "--set",
    "client.key.strategy=per_session",
    "--set",
    "client.workload.calls.arrivals.rate=20/s",
    "--quiet",
    "--sample",
    "1/4",
];

#[test]
fn a_sample_states_its_error_beside_every_number() {
    let case = Case::new().file("s.toml", SCENARIO);
    let said = case.run(&and(RUN, &SAMPLED));
    let rows = csv_rows(said.answered());
    assert_eq!(rows[0], ["metric", "mean", "ci95", "sample_ci95", "meaning"]);
    let requests: Vec<f64> = rows[1][1..4].iter().map(|field| field.parse().unwrap()).collect();
    // 20 a second for nine minutes; as each session is one request, their number leaves no error to speak of.
    assert!((requests[0] - 10_800.0).abs() < 300.0 && requests[2] < 200.0, "{requests:?}");
    let all = case.run(&and(&and(RUN, &SAMPLED[..5]), &["--sample", "1/1"]));
    assert_eq!(csv_rows(all.answered())[0], ["metric", "mean", "ci95", "meaning"]);
}

#[test]
fn a_share_of_the_keys_can_be_swept() {
    let axis = "[[sweep.axis]]\npath = 'sample'\nvalues = ['1/1', '1/2', '1/4']\n";
    let scenario = &SCENARIO[..SCENARIO.find("[sweep]").unwrap()];
    let case = Case::new().file("s.toml", format!("{scenario}{axis}"));
    let said = case.run(&and(&sweep_into("out"), &SAMPLED[..5]));
    let hits: Vec<f64> =
        column(said.answered(), "token_hit_ratio").iter().map(|hits| hits.parse().unwrap()).collect();
    assert!(hits.iter().all(|other| (other - hits[0]).abs() < 0.01), "{hits:?}");
    case.refuses(&and(&sweep_into("o"), &SAMPLED), &["sample", "swept too: leave out the flag"]);
    let said = case.run(&and(&sweep_into("one"), &and(&SAMPLED[..4], &["--seeds", "1"])));
    assert!(said.stderr.contains("warning: sample: with one seed a sweep has no intervals"), "{said:?}");
}

#[test]
fn a_share_that_is_none_is_refused() {
    let case = Case::new().file("s.toml", SCENARIO);
    for share in ["0/64", "3/2", "x", "0.5"] {
        case.refuses(
            &and(RUN, &["--sample", share]),
            &["sample: ", "is not a share above 0 and up to 1: write it as \"1/64\""],
        );
    }
    case.refuses(
        &and(RUN, &["--sample", "1/2"]),
        &["sample: ", "nothing to sample: workload `calls`: its key"],
    );
}

#[test]
fn a_recommendation_replaces_no_scenario_and_says_what_it_does_not_write() {
    let case = Case::new().scenario();
    let recommend = |args: &[&'static str]| [&["recommend", "s.toml", "--seeds", "5"], args].concat();
    case.refuses(&recommend(&["--save", "s.toml"]), &["s.toml: is the scenario itself"]);
    case.refuses(&recommend(&["--save", "./s.toml"]), &["is the scenario itself: name another file"]);
    case.refuses(&recommend(&["--save", "s.json"]), &["--save: let s.json end in .toml"]);
    let over = "client.key.buckets=[2, 3]";
    let impossible = recommend(&["--over", over, "--constraint", "ttft_p95 < 1ms", "--save", "o.toml"]);
    let said = case.run(&impossible);
    assert!(said.stderr.contains("o.toml is not written: there is nothing to recommend"), "{said:?}");
    assert!(!case.0.path().join("o.toml").exists());
    // What was swept is settled.
    case.run(&recommend(&["--over", over, "--save", "best.toml"])).answered();
    assert!(case.text("s.toml").contains("[sweep]") && !case.text("best.toml").contains("sweep"));
}
