//! Traces from one form into another, and out of a run: what is replayed stays the same to the byte.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A trace in blocks of 100 tokens and milliseconds, with everything that a line may have and some that it may not.
const TRACE: &str = r#"{"timestamp": 5, "input_length": 1500, "output_length": 3, "hash_ids": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]}

{"timestamp": 5.25, "input_length": 1550, "session": 12, "key": "a\"b\u00e9", "first256": "3ea9", "runs": [[1, 15]], "text": "private"}
{"timestamp": "6.000001", "input_length": 1550, "session_id": "12", "prompt_cache_key": "", "runs": [[1, 12], [40, 4]]}
{"timestamp": 60000, "input_length": 3000}
{"timestamp": 60000, "input_length": 1250, "output_length": 7, "session": "x", "runs": [[9223372036854775795, 13]]}
{"timestamp": 400000, "input_length": 1600, "output_length": 7, "session": "x", "runs": [[9223372036854775795, 13], [0, 3]]}
{"timestamp": 400001, "input_length": 1640, "session": "x", "named_length": 1550, "hash_ids": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]}
{"timestamp": 400002, "input_length": 9000, "session": "y", "named_length": 1290, "hash_ids": [1,2,3,4,5,6,7,8,9,10,11,12]}
{"timestamp": 400003, "input_length": 9000, "session": "y", "named_length": 1290, "runs": [[1, 13]]}
"#;

/// The flags that describe it.
const FLAGS: [&str; 4] = ["--block-tokens", "100", "--time-unit", "ms"];

struct Case(TempDir);

impl Case {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn run(&self, args: &[&str], flags: &[&str]) -> Output {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cachecast"));
        command.args(args).args(flags).current_dir(self.0.path()).output().unwrap()
    }

    /// What it printed, and what it said.
    fn answers(&self, args: &[&str], flags: &[&str]) -> (String, String) {
        let Output { status, stdout, stderr } = self.run(args, flags);
        let said = String::from_utf8(stderr).unwrap();
        assert!(status.success(), "{args:?}: {said}");
        (String::from_utf8(stdout).unwrap(), said)
    }

    /// Exit code 2 and one message with these words; no file is left.
    fn refuses(&self, args: &[&str], words: &str) {
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let before = names();
        let Output { status, stdout, stderr } = self.run(args, &[]);
        let said = String::from_utf8(stderr).unwrap();
        assert_eq!((status.code(), &*stdout), (Some(2), &b""[..]), "{args:?}: {said}");
        assert_eq!(said.lines().filter(|line| !line.starts_with("warning: ")).count(), 1, "{args:?}: {said}");
        assert!(said.contains(words) && !said.contains("panicked"), "{args:?}: {said}");
        assert_eq!(names(), before, "{args:?}");
    }

    /// The numbers of a replay, and its requests one by one.
    fn replays(&self, trace: &str, flags: &[&str]) -> (String, String) {
        let (printed, _) = self.answers(&["replay", trace, "--requests", "requests.csv"], flags);
        (printed, String::from_utf8(self.read("requests.csv")).unwrap())
    }
}

/// One column of a CSV.
fn column(csv: &str, name: &str) -> Vec<String> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let index = reader.headers().unwrap().iter().position(|header| header == name).unwrap();
    reader.records().map(|row| row.unwrap()[index].to_string()).collect()
}

#[test]
fn every_form_of_a_trace_replays_alike() {
    let case = Case::new(&[("t.jsonl", TRACE)]);
    // A line without a session has no place where ids are those of a session.
    let sessions: String =
        TRACE.lines().skip(2).filter(|line| line.contains("session")).collect::<Vec<_>>().join("\n");
    fs::write(case.path("s.jsonl"), sessions).unwrap();
    for (trace, ids) in [("t.jsonl", "global"), ("s.jsonl", "session")] {
        let described = [&FLAGS[..], &["--ids", ids]].concat();
        case.answers(&["convert", trace, "t.parquet"], &described);
        let (_, said) = case.answers(&["convert", "t.parquet", "back.jsonl.gz"], &[]);
        assert!(said.contains("cachecast replay back.jsonl.gz --block-tokens 100 --time-unit ms"), "{said}");
        assert_eq!(said.contains("--ids session"), ids == "session", "{said}");
        case.answers(&["convert", "back.jsonl.gz", "again.parquet"], &described);
        assert_eq!(case.read("again.parquet"), case.read("t.parquet"));
        for provider in ["openai-classic", "ideal", "openai-5.6"] {
            let under = ["--provider", provider, "--seeds", "2"];
            let original = case.replays(trace, &[&described[..], &under].concat());
            assert_eq!(case.replays("t.parquet", &under), original);
            assert_eq!(case.replays("back.jsonl.gz", &[&described[..], &under].concat()), original);
        }
    }
}

#[test]
fn only_what_a_replay_needs_is_kept() {
    let case = Case::new(&[("t.jsonl", TRACE)]);
    case.answers(&["convert", "t.jsonl", "back.jsonl"], &FLAGS);
    let back = String::from_utf8(case.read("back.jsonl")).unwrap();
    let lines: Vec<_> = back.lines().collect();
    assert_eq!(lines[0], r#"{"timestamp":5,"input_length":1500,"output_length":3,"runs":[[1,15]]}"#);
    assert_eq!(lines[1], "", "every request keeps the number of its line");
    let second = r#"{"timestamp":5.25,"input_length":1550,"output_length":0,"session":"12","key":"a\"bé","first256":"3ea9","runs":[[1,15]]}"#;
    assert_eq!(lines[2], second);
    assert!(lines[3].starts_with(r#"{"timestamp":6.000001,"#), "{}", lines[3]);
    let named = |line: &str| line.contains(r#""named_length":"#);
    assert_eq!(lines.iter().map(|line| named(line)).collect::<Vec<_>>()[6..], [false, true, true, true]);
    assert!(lines[8].contains(r#""named_length":1200,"#), "{}", lines[8]);
    case.answers(&["convert", "t.jsonl", "t.parquet"], &FLAGS);
    let columns = case.read("t.parquet");
    assert!(!columns.windows(7).any(|bytes| bytes == b"private"));
}

#[test]
fn lines_that_are_left_out_change_nothing_else() {
    let bad = TRACE.replacen("\n\n", "\n{\n\nx\n", 1);
    let case = Case::new(&[("t.jsonl", &bad)]);
    let (_, said) = case.answers(&["convert", "t.jsonl", "t.parquet", "--skip-bad"], &FLAGS);
    assert!(said.contains("t.jsonl:2: ") && said.contains("2 bad lines were skipped"), "{said}");
    case.answers(&["convert", "t.parquet", "back.jsonl"], &[]);
    let (_, original) = case.replays("t.jsonl", &[&FLAGS[..], &["--skip-bad"]].concat());
    assert_eq!(case.replays("t.parquet", &[]).1, original);
    assert_eq!(case.replays("back.jsonl", &FLAGS).1, original);
    case.refuses(
        &[&["convert", "t.jsonl", "o.parquet"], &FLAGS[..]].concat(),
        "t.jsonl:2: the line is cut off",
    );
}

#[test]
fn many_groups_of_rows_are_read_as_they_were_written() {
    let line = |n: u64| {
        let runs: Vec<_> = (0..n % 40).map(|at| format!("[{},1]", n * 7 + at * 2)).collect();
        let ids = if runs.is_empty() { String::new() } else { format!(",\"runs\":[{}]", runs.join(",")) };
        let session =
            if n.is_multiple_of(3) { String::new() } else { format!(",\"session\":\"{}\"", n % 1_000) };
        format!(
            "{{\"timestamp\":{n},\"input_length\":{},\"output_length\":{n}{session}{ids}}}\n",
            n % 40 * 100
        )
    };
    let text: String = (0..150_000).map(line).collect();
    let case = Case::new(&[("t.jsonl", &text)]);
    case.answers(&["convert", "t.jsonl", "t.parquet"], &FLAGS);
    case.answers(&["convert", "t.parquet", "back.jsonl"], &[]);
    assert!(case.read("back.jsonl") == text.as_bytes());
}

#[test]
fn bad_input_gets_one_message() {
    let case =
        Case::new(&[("t.jsonl", TRACE), ("empty.jsonl", ""), ("bad.parquet", "PAR1 and nothing more")]);
    case.answers(&["convert", "t.jsonl", "t.parquet"], &FLAGS);
    let whole = case.read("t.parquet");
    fs::write(case.path("cut.parquet"), &whole[..whole.len() / 2]).unwrap();
    let described = |args: &[&'static str]| [args, &FLAGS].concat();
    let names = "let its name end in .parquet, .jsonl or .jsonl.gz";
    let rows: &[(Vec<&str>, &str)] = &[
        (described(&["convert", "t.jsonl", "t.csv"]), names),
        (described(&["convert", "t.jsonl", "no/t.parquet"]), "no/t.parquet: the folder `no` is not there"),
        (described(&["convert", "t.jsonl", "./t.jsonl"]), "is the trace itself: name another file"),
        (described(&["convert", "no.jsonl", "o.parquet"]), "no.jsonl: cannot open the trace"),
        (described(&["convert", "empty.jsonl", "o.parquet"]), "empty.jsonl: the trace is empty"),
        (
            vec!["convert", "t.jsonl", "o.parquet"],
            "t.jsonl: a JSONL trace needs `block_tokens` and `time_unit`",
        ),
        (vec!["replay", "t.jsonl", "--time-unit", "ms"], "t.jsonl: a JSONL trace needs"),
        (vec!["replay", "cut.parquet"], "cut.parquet: cannot read the Parquet trace"),
        (vec!["replay", "bad.parquet"], "bad.parquet: cannot read the Parquet trace"),
        (
            vec!["replay", "t.parquet", "--block-tokens", "9"],
            "t.parquet: the trace says itself that it has block_tokens = 100",
        ),
        (vec!["replay", "t.parquet", "--time-unit", "s"], "it has time_unit = \"ms\": leave that out"),
        (vec!["replay", "t.parquet", "--ids", "session"], "it has ids = \"global\": leave that out"),
    ];
    for (args, words) in rows {
        case.refuses(args, words);
    }
}

#[test]
fn damage_anywhere_is_an_error_and_no_panic() {
    let case = Case::new(&[("t.jsonl", TRACE)]);
    case.answers(&["convert", "t.jsonl", "t.parquet"], &FLAGS);
    let whole = case.read("t.parquet");
    for at in (4..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        fs::write(case.path("t.parquet"), &damaged).unwrap();
        let Output { status, stderr, .. } = case.run(&["replay", "t.parquet"], &[]);
        let said = String::from_utf8_lossy(&stderr);
        assert!(matches!(status.code(), Some(0 | 2)) && !said.contains("panicked"), "byte {at}: {said}");
    }
}

const CHAT: &str = r#"
duration = "30m"
seeds = 1
[client.key]
strategy = "per_session"
[client.workload.chat]
arrivals = { process = "poisson", rate = "4/min" }
[client.workload.chat.chat]
prefix_tokens = 3000
turns = "uniform(1..6)"
user_tokens = "uniform(20..900)"
output_tokens = 300
think = "exponential(45s)"
[client.workload.calls]
arrivals = { process = "fixed", rate = "6/min" }
[client.workload.calls.shared_prefix]
prefix_tokens = 2000
tail_tokens = 150
output_tokens = 10
[provider]
profile = "ideal"
"#;

#[test]
fn what_a_run_sends_is_replayed_in_open_loop() {
    let case = Case::new(&[
        ("s.toml", CHAT),
        ("p.toml", &CHAT.replace("[client.workload.calls]", "[client.workload.calls]\npartition = 'b'")),
    ]);
    for trace in ["t.parquet", "t.jsonl"] {
        case.answers(&["run", "s.toml", "--requests", "sent.csv", "--trace", trace], &[]);
        let sent = String::from_utf8(case.read("sent.csv")).unwrap();
        let flags: &[&str] = if Path::new(trace).extension().is_some_and(|end| end == "jsonl") {
            &["--block-tokens", "1", "--time-unit", "ns", "--provider", "ideal"]
        } else {
            &["--provider", "ideal"]
        };
        let (_, replayed) = case.replays(trace, flags);
        for name in
            ["arrival_s", "prompt_tokens", "output_tokens", "cached_tokens", "turn", "lost_new_tokens"]
        {
            assert_eq!(column(&replayed, name), column(&sent, name), "{name}");
        }
        let same = |names: Vec<String>| -> Vec<usize> {
            names.iter().map(|name| names.iter().position(|known| known == name).unwrap()).collect()
        };
        for name in ["session", "key"] {
            assert_eq!(same(column(&replayed, name)), same(column(&sent, name)), "{name}");
        }
    }
    case.refuses(&["run", "p.toml", "--trace", "o.parquet"], "a trace has no partitions");
    case.refuses(&["run", "s.toml", "--trace", "o.csv"], "let its name end in .parquet");
    case.refuses(&["run", "s.toml", "--trace", "s.toml"], "s.toml: is the scenario itself");
}

/// Without attribution the text of ended sessions is forgotten, and its room used again: the ids in a trace are not.
#[test]
fn a_trace_is_the_same_whatever_the_run_forgets() {
    let case = Case::new(&[(
        "s.toml",
        &CHAT.replace("30m", "6h").replace("profile = \"ideal\"", "profile = \"openai-classic\""),
    )]);
    let written = |attribution: &str| {
        let set = format!("attribution={attribution}");
        case.answers(&["run", "s.toml", "--set", &set, "--trace", "t.jsonl"], &[]);
        case.read("t.jsonl")
    };
    assert!(written("true") == written("false"));
}
