//! Work shared out among many processes: the merged answer against that of one, refusals, and processes that are killed.
//!
//! The signals and the messages of the operating system are those of Unix.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cachecast::experiment::metrics::{COLUMNS, Row};
use cachecast::experiment::part::{Job, Whole};
use cachecast::experiment::part_file::{Part, write_part};
use cachecast::experiment::shard::Shard;
use tempfile::TempDir;

/// Two axes and a baseline, over bucket counts: all tables but the one of lifetimes.
const SWEPT: &str = r#"
title = "A small question"
duration = "20m"
warmup = "1m"
seeds = 5
client.key.strategy = "buckets"
client.retention = "in_memory"

[client.workload.calls]
users = 5
arrivals = { process = "poisson", rate = "20/min" }

[client.workload.calls.shared_prefix]
prefix_tokens = 6600
tail_tokens = 100
output_tokens = 300

[provider]
profile = "openai-classic"

[sweep]
baseline = { "client.key.buckets" = 2 }

[[sweep.axis]]
path = "client.key.buckets"
values = [1, 2, 3]

[[sweep.axis]]
path = "client.workload.calls.arrivals.rate"
values = ["5/min", "20/min", "40/min", "0.01/min"]
"#;

/// Requests of a pool of three machines, one after another.
const OBSERVED: &str = "time,prompt_tokens,prefix_tokens,cached_tokens\n0,2009,2000,0\n9,2009,2000,1920\n20,2009,2000,0\n\
    31,2009,2000,1920\n40,2009,2000,1920\n52,2009,2000,0\n60,2009,2000,1920\n71,2009,2000,1920\n85,2009,2000,1920\n";

/// A folder in which the program is run.
struct Case(TempDir);

impl Case {
    fn new() -> Self {
        let case = Self(TempDir::new().unwrap());
        fs::write(case.path("s.toml"), SWEPT).unwrap();
        fs::write(case.path("o.csv"), OBSERVED).unwrap();
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cachecast"));
        command.args(words).current_dir(self.0.path()).env("RAYON_NUM_THREADS", "2");
        command.env_remove("SLURM_ARRAY_TASK_ID").env_remove("JOB_COMPLETION_INDEX");
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs it; what it printed.
    fn answer(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it in vain; what it said.
    fn refusal(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {output:?}");
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    }

    /// Plays one shard.
    fn shard(&self, command: &[&str], index: u32, count: u32, out: &str) {
        let shard = format!("{index}/{count}");
        self.answer(&[command, &["--shard", &shard, "--out", out, "--quiet"]].concat());
    }

    fn files(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.path(folder)).unwrap().map(|entry| entry.unwrap());
        let file = |entry: fs::DirEntry| {
            (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap())
        };
        entries.map(file).collect()
    }

    /// Asserts that a folder holds what another one does.
    fn same(&self, one: &str, other: &str) {
        let (one, other) = (self.files(one), self.files(other));
        assert!(one.keys().eq(other.keys()), "{:?} and {:?}", one.keys(), other.keys());
        one.iter().for_each(|(name, bytes)| assert!(other[name] == *bytes, "{name} differs"));
    }
}

#[test]
fn any_number_of_shards_gives_the_bytes_of_one_process() {
    let lifetimes = ["sweep", "lifetimes", "--set", "duration=12h", "--seeds", "2"];
    for (command, files) in [(&["sweep", "s.toml"][..], 4), (&lifetimes, 3)] {
        let case = Case::new();
        let single = case.answer(&[command, &["--out", "single", "--quiet"]].concat());
        assert_eq!(case.files("single").len(), files);
        for count in [1, 2, 3, 7, 64] {
            let parts = format!("parts-{count}");
            for index in 0..count {
                // Every third part in columns, and the last one twice.
                let ending = if index % 3 == 1 { "parquet" } else { "csv" };
                case.shard(command, index, count, &format!("{parts}/p{index}.{ending}"));
            }
            case.shard(command, count - 1, count, &format!("{parts}/again.csv"));
            assert_eq!(case.answer(&["merge", &parts, "--missing", "--shards", &count.to_string()]), "");
            let merged = format!("merged-{count}");
            assert_eq!(case.answer(&["merge", &parts, "--out", &merged, "--quiet"]), single);
            case.same("single", &merged);
        }
    }
}

#[test]
fn a_part_of_an_array_knows_which_one_it_is() {
    let case = Case::new();
    for (name, index) in [("SLURM_ARRAY_TASK_ID", "1"), ("JOB_COMPLETION_INDEX", "0")] {
        let words = ["sweep", "s.toml", "--shard", "auto", "--shards", "2", "--out", "auto", "--quiet"];
        assert!(case.command(&words).env(name, index).status().unwrap().success());
    }
    [0, 1].iter().for_each(|index| case.shard(&["sweep", "s.toml"], *index, 2, "named"));
    case.same("auto", "named");
    let auto = ["sweep", "s.toml", "--out", "p", "--shard", "auto"];
    assert!(case.refusal(&auto).contains("add --shards N"));
    assert!(case.refusal(&[&auto[..], &["--shards", "2"]].concat()).contains("is no task of an array"));
    let beyond =
        case.command(&[&auto[..], &["--shards", "2"]].concat()).env("SLURM_ARRAY_TASK_ID", "2").output();
    assert!(String::from_utf8(beyond.unwrap().stderr).unwrap().contains("counted from 0 to 1"));
    for wrong in ["2/2", "0/0", "x", "-1/2"] {
        let shard = format!("--shard={wrong}");
        assert!(case.refusal(&["sweep", "s.toml", "--out", "p", &shard]).contains("--shard"), "{wrong}");
    }
    assert!(case.refusal(&["sweep", "s.toml", "--shard", "0/2"]).contains("--out"));
}

#[test]
fn what_is_missing_is_said_with_how_much_is_done() {
    let case = Case::new();
    fs::create_dir(case.path("parts")).unwrap();
    let missing = ["merge", "--missing", "--shards", "4", "parts"];
    assert_eq!(case.answer(&missing), "0,1,2,3\n");
    [0, 2].iter().for_each(|index| case.shard(&["sweep", "s.toml"], *index, 4, "parts"));
    let output = case.run(&missing);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1,3\n");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "2 of 4 shards, 30 of 60 runs (50 %)\n");
    // A damaged part is named, and played again.
    let path = case.path("parts/part-2.csv");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen(",1,", ",2,", 1)).unwrap();
    let output = case.run(&missing);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1,2,3\n");
    assert!(String::from_utf8(output.stderr).unwrap().contains("parts/part-2.csv: the part is damaged"));
    // One that is whole is left as it is, if that is wished.
    case.shard(&["sweep", "s.toml", "--resume"], 2, 4, "parts");
    assert_eq!(case.answer(&missing), "1,3\n");
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    case.shard(&["sweep", "s.toml", "--resume"], 2, 4, "parts");
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
    assert!(
        case.refusal(&["merge", "--missing", "--shards", "5", "parts"]).contains("part-0.csv: is shard 0/4")
    );
}

#[test]
fn a_part_cut_off_within_its_header_is_missing_and_played_again() {
    let case = Case::new();
    for ending in ["csv", "parquet"] {
        let part = |index: u32| format!("{ending}/p{index}.{ending}");
        (0..2).for_each(|index| case.shard(&["sweep", "s.toml"], index, 2, &part(index)));
        let whole = fs::read(case.path(&part(1))).unwrap();
        let missing = ["merge", "--missing", "--shards", "2", ending];
        for length in [0, 3, 4, 20, 120] {
            fs::write(case.path(&part(1)), &whole[..length]).unwrap();
            assert_eq!(case.answer(&missing), "1\n", "{ending} of {length} bytes");
            assert!(case.refusal(&["merge", ending, "--out", "never"]).contains("the part is damaged"));
            case.shard(&["sweep", "s.toml"], 1, 2, &part(1));
            assert!(fs::read(case.path(&part(1))).unwrap() == whole);
        }
    }
    assert!(!case.path("never").exists());
}

#[test]
fn what_is_missing_can_be_asked_of_a_command() {
    let case = Case::new();
    let missing = ["merge", "--missing", "--shards", "3", "parts"];
    // There is no folder yet.
    assert_eq!(case.answer(&missing), "0,1,2\n");
    let of = |command: &[&'static str]| [&missing[..], &["--"], command].concat();
    let sensitivity = ["sensitivity", "s.toml", "--trajectories", "3"];
    assert_eq!(case.answer(&of(&["sweep", "s.toml"])), "0,1,2\n");
    assert_eq!(case.answer(&of(&sensitivity)), "0,1,2\n");
    assert!(case.refusal(&of(&["sweep", "none.toml"])).contains("none.toml: there is no such file"));
    assert!(case.refusal(&of(&["sweep", "s.toml", "--set"])).contains("COMMAND: a value is required"));
    assert!(case.refusal(&of(&["schema"])).contains("COMMAND: is none that can be shared out"));
    case.shard(&["sweep", "s.toml"], 1, 3, "parts");
    assert_eq!(case.answer(&of(&["sweep", "s.toml"])), "0,2\n");
    for other in [&["sweep", "s.toml", "--seeds", "6"][..], &sensitivity] {
        assert!(case.refusal(&of(other)).contains("part-1.csv: belongs to another scenario or question"));
    }
    let many = ["merge", "--missing", "--shards", "4000000000", "parts"];
    assert!(case.refusal(&many).contains("1..=100000"));
}

#[test]
fn a_shard_writes_over_its_own_part_alone() {
    let case = Case::new();
    case.shard(&["sweep", "s.toml"], 1, 3, "p.csv");
    let before = fs::read(case.path("p.csv")).unwrap();
    let words = case.refusal(&["sweep", "s.toml", "--shard", "0/3", "--out", "p.csv"]);
    assert!(words.contains("p.csv: is shard 1/3 already, and this is 0/3"), "{words}");
    let words = case.refusal(&["sweep", "s.toml", "--seeds", "6", "--shard", "1/3", "--out", "p.csv"]);
    assert!(words.contains("p.csv: is a part of `sweep s.toml`"), "{words}");
    case.shard(&["sweep", "s.toml"], 1, 3, "p.csv");
    assert!(fs::read(case.path("p.csv")).unwrap() == before);
}

#[test]
fn results_and_strangers_stay_out_of_the_parts() {
    let case = Case::new();
    // Flags of a merge go before what a command has behind its `--`.
    (0..2).for_each(|index| {
        let shard = format!("{index}/2");
        case.answer(&["sweep", "--shard", &shard, "--out", "parts", "--quiet", "--", "s.toml"]);
    });
    for among in ["parts", "./parts/", "parts/../parts"] {
        let words = case.refusal(&["merge", "parts", "--out", among]);
        assert!(words.contains("is where the parts are: name another folder"), "{words}");
    }
    let strange = case.path("parts/cells.csv");
    fs::write(&strange, "cell,seed\n").unwrap();
    assert!(case.refusal(&["merge", "parts", "--out", "out"]).contains("parts/cells.csv: is no part"));
    fs::remove_file(&strange).unwrap();
    // Nobody writes into this pipe: to read from it would last for ever.
    assert!(Command::new("mkfifo").arg(&strange).status().unwrap().success());
    assert!(case.refusal(&["merge", "parts", "--out", "out"]).contains("is no part but a folder, a pipe"));
    fs::remove_file(&strange).unwrap();
    // A hole leaves no folder behind.
    case.refusal(&["merge", "parts/part-0.csv", "--out", "out"]);
    assert!(!case.path("out").exists());
    let merged = case.answer(&["merge", "parts", "--out", "out", "--quiet"]);
    assert_eq!(merged, case.answer(&["sweep", "s.toml", "--out", "single", "--quiet"]));
    case.same("out", "single");
}

#[test]
#[cfg(target_os = "linux")]
fn names_that_are_no_text_are_kept_or_refused() {
    use std::os::unix::ffi::OsStrExt;
    let case = Case::new();
    let strange = std::ffi::OsStr::from_bytes(b"p\xff");
    for index in ["0/2", "1/2"] {
        let mut shard = case.command(&["sweep", "s.toml", "--quiet", "--shard", index, "--out"]);
        assert!(shard.arg(strange).status().unwrap().success());
    }
    let mut merge = case.command(&["merge", "--quiet"]);
    assert!(
        merge
            .arg(strange)
            .arg("--out")
            .arg(std::ffi::OsStr::from_bytes(b"m\xff"))
            .status()
            .unwrap()
            .success()
    );
    assert!(case.0.path().join(std::ffi::OsStr::from_bytes(b"m\xff/cells.csv")).exists());
    // What a part must remember is text.
    let observed = std::ffi::OsStr::from_bytes(b"o\xff.csv");
    fs::copy(case.path("o.csv"), case.0.path().join(observed)).unwrap();
    let mut fit = case.command(&["fit", "--shard", "0/2", "--out", "fitted"]);
    let output = fit.arg(observed).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(!case.path("fitted").exists());
}

/// Writes a part that is whole, and says something else than the one it is made of.
fn forge(case: &Case, from: &str, to: &str, change: impl Fn(&mut Whole, &mut BTreeMap<Job, Row>)) {
    let part = Part::open(&case.path(from)).unwrap().unwrap();
    let header = part.header.clone();
    let mut rows = part.read_all().unwrap();
    let mut whole =
        Whole { digest: header.digest, rows: header.of, command: header.command, columns: header.columns };
    change(&mut whole, &mut rows);
    write_part(&case.path(to), &whole, header.shard, &rows).unwrap();
}

#[test]
fn holes_contradictions_and_foreign_parts_are_refused_by_name() {
    let case = Case::new();
    (0..3).for_each(|index| case.shard(&["sweep", "s.toml"], index, 3, "parts"));
    let merge = |further: &[&str]| case.refusal(&[&["merge", "--out", "out"], further].concat());
    // A hole: a shard that is not there, and a row that is not.
    let words = merge(&["parts/part-0.csv", "parts/part-2.csv"]);
    assert!(
        words.contains(
            "shards 1 of 3 are missing: 20 of 60 runs have no row, the first of them cell 1, replication 0"
        ),
        "{words}"
    );
    forge(&case, "parts/part-1.csv", "short.csv", |_, rows| drop(rows.pop_last()));
    let words = merge(&["parts/part-0.csv", "short.csv", "parts/part-2.csv"]);
    assert!(
        words.contains(
            "no shard is missing: 1 of 60 runs have no row, the first of them cell 10, replication 4"
        ),
        "{words}"
    );
    // A duplicate with other numbers.
    forge(&case, "parts/part-1.csv", "other.parquet", |_, rows| {
        rows.get_mut(&Job { cell: 4, replication: 3 }).unwrap().0[0] = Some(1.0);
    });
    let words = merge(&["parts", "other.parquet"]);
    assert!(
        words.contains("parts/part-1.csv: has other numbers for cell 4, replication 3 than other.parquet"),
        "{words}"
    );
    // A run that the sweep does not have.
    forge(&case, "parts/part-1.csv", "more.csv", |_, rows| {
        let row = rows.first_key_value().unwrap().1.clone();
        rows.insert(Job { cell: 12, replication: 0 }, row);
    });
    assert!(
        merge(&["parts", "more.csv"]).contains("more.csv: cell 12, replication 0 is no run of this sweep")
    );
    // Parts of another scenario: beside right ones, and all of them after a change of the file.
    case.shard(&["sweep", "s.toml", "--set", "duration=21m"], 1, 3, "foreign.csv");
    let words = merge(&["parts", "foreign.csv"]);
    assert!(words.contains("belongs to another scenario than foreign.csv"), "{words}");
    // Of another number of shards, and no part at all.
    case.shard(&["sweep", "s.toml"], 1, 4, "fourth.csv");
    assert!(merge(&["parts", "fourth.csv"]).contains("is shard 0/3, and fourth.csv is shard 1/4"));
    assert!(merge(&["parts", "o.csv"]).contains("o.csv: is no part"));
    let fourth = ["sweep", "s.toml", "--shard", "0/3", "--out", "o.csv"];
    assert!(case.refusal(&fourth).contains("o.csv: is there already and is no part"));
    // Of another version.
    let text = fs::read_to_string(case.path("parts/part-2.csv")).unwrap();
    let version = concat!("# version: ", env!("CARGO_PKG_VERSION"));
    fs::write(case.path("old.csv"), text.replacen(version, "# version: 0.0.1", 1)).unwrap();
    let words = merge(&["parts/part-0.csv", "parts/part-1.csv", "old.csv"]);
    assert!(words.contains("old.csv: was played by version 0.0.1, and this is version"), "{words}");
    // Nothing is written in all this, and what is whole is still merged.
    assert!(!case.path("out/cells.csv").exists());
    case.answer(&["merge", "parts", "--out", "out"]);
    fs::write(case.path("s.toml"), SWEPT.replace("seeds = 5", "seeds = 6")).unwrap();
    let words = merge(&["parts"]);
    assert!(words.contains("part-0.csv: belongs to another scenario or question"), "{words}");
    assert!(words.contains("a part of `sweep s.toml`") && words.contains("delete the parts"), "{words}");
    let missing = ["merge", "--missing", "--shards", "3", "parts"];
    assert!(case.refusal(&missing).contains("part-0.csv: belongs to another scenario or question"));
    let out = ["sweep", "s.toml", "--shard", "1/3", "--out", "parts"];
    assert!(case.refusal(&out).contains("part-1.csv: is a part of `sweep s.toml`, and belongs to another"));
}

#[test]
fn a_part_with_any_damage_is_refused() {
    let case = Case::new();
    let small = ["sweep", "s.toml", "--seeds", "1", "--set", "duration=2m"];
    case.shard(&small, 0, 5, "p.csv");
    case.shard(&small, 0, 5, "p.parquet");
    for name in ["p.csv", "p.parquet"] {
        let whole = fs::read(case.path(name)).unwrap();
        let is_refused = |bytes: &[u8]| {
            let path = case.path("damaged");
            fs::write(&path, bytes).unwrap();
            !matches!(Part::open(&path).map(|part| part.map(Part::check)), Ok(Some(Ok(()))))
        };
        assert!(!is_refused(&whole));
        for behind in ["x", "\n", "x\n", "0,0,1\n", "\u{0}"] {
            assert!(is_refused(&[&whole, behind.as_bytes()].concat()), "{name} with {behind:?} behind it");
        }
        for at in (0..whole.len()).step_by(1 + whole.len() / 400) {
            assert!(is_refused(&whole[..at]), "{name} is cut off at {at}");
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            // Of Parquet some bytes say nothing of the content: then it must be the same.
            let same = is_refused(&flipped) || {
                let rows = |path: PathBuf| Part::open(&path).unwrap().unwrap().read_all().unwrap();
                rows(case.path("damaged")) == rows(case.path(name))
            };
            assert!(same, "{name} is changed at {at}");
            assert!(same && (name.ends_with("parquet") || is_refused(&flipped)), "{name} at {at}");
        }
    }
}

/// Numbers that look random, and are the same in every run of the test.
struct Draws(u64);

impl Draws {
    fn below(&mut self, span: Duration) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        span.mul_f64((self.0 >> 11) as f64 / (1u64 << 53) as f64)
    }
}

fn spawn(case: &Case, words: &[&str]) -> Child {
    case.command(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn killed_at_200_random_instants_it_leaves_no_short_part_and_a_rerun_completes() {
    let case = Case::new();
    let command = ["sweep", "s.toml", "--seeds", "20"];
    case.answer(&[&command[..], &["--out", "single", "--quiet"]].concat());
    let mut span = Duration::MAX;
    for index in 0..4 {
        let begun = Instant::now();
        case.shard(&command, index, 4, "whole");
        span = span.min(begun.elapsed());
    }
    fs::create_dir(case.path("parts")).unwrap();
    let (mut draws, mut killed, mut finished) = (Draws(8), 0, 0);
    for kill in 0..200 {
        let index = kill % 4;
        let shard = format!("{index}/4");
        let mut child = spawn(&case, &[&command[..], &["--shard", &shard, "--out", "parts"]].concat());
        sleep(draws.below(span));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        killed += usize::from(status.signal().is_some());
        finished += usize::from(status.success());
        let path = case.path(&format!("parts/part-{index}.csv"));
        if path.exists() {
            Part::open(&path).unwrap().expect("a part").check().unwrap();
            // The next kill finds the place empty again, and then one that is taken.
            if kill % 8 < 4 {
                fs::remove_file(&path).unwrap();
            }
        }
    }
    assert!(killed > 50 && killed + finished == 200, "{killed} killed, {finished} finished");
    for name in case.files("parts").keys() {
        let is_part = name.starts_with("part-") && name.ends_with(".csv");
        let says_whose =
            name.split('.').count() >= 5 && (name.starts_with(".part-") || name.starts_with(".probe"));
        assert!(is_part || says_whose, "{name}");
    }
    let missing = case.answer(&["merge", "--missing", "--shards", "4", "parts", "--quiet"]);
    for index in missing.trim().split(',').filter(|index| !index.is_empty()) {
        case.shard(&command, index.parse().unwrap(), 4, "parts");
    }
    case.answer(&["merge", "parts", "--out", "merged", "--quiet"]);
    case.same("single", "merged");
}

#[test]
fn two_attempts_at_once_write_the_same_bytes() {
    let case = Case::new();
    case.shard(&["sweep", "s.toml"], 0, 2, "alone");
    let words = ["sweep", "s.toml", "--shard", "0/2", "--out", "both", "--quiet"];
    let attempts: Vec<_> = (0..4).map(|_| spawn(&case, &words)).collect();
    attempts.into_iter().for_each(|mut attempt| assert!(attempt.wait().unwrap().success()));
    case.same("alone", "both");
}

#[test]
fn bad_input_has_another_exit_code_than_a_part_that_cannot_be_written() {
    let case = Case::new();
    let code = |words: &[&str]| case.run(words).status.code();
    let shard = ["--shard", "0/2", "--out"];
    assert_eq!(code(&[&["sweep", "none.toml"], &shard[..], &["p"]].concat()), Some(2));
    assert_eq!(code(&[&["sweep", "s.toml", "--set", "seed=x"], &shard[..], &["p"]].concat()), Some(2));
    // What can never be written is found before anything is played.
    fs::create_dir(case.path("folder.csv")).unwrap();
    for wrong in ["o.csv/p", "o.csv/p/q.csv", "/dev/null", "folder.csv"] {
        let long = ["sweep", "s.toml", "--set", "duration=100000h", "--shard", "0/2", "--out", wrong];
        assert!(case.refusal(&long).contains("--out"), "{wrong}");
    }
    assert_eq!(code(&[&["sweep", "s.toml"], &shard[..], &["/proc/none/p"]].concat()), Some(75));
    assert_eq!(code(&[&["sweep", "s.toml"], &shard[..], &["p"]].concat()), Some(0));
}

/// Plays what is missing, round by round, until nothing is; how many rounds there were.
fn rounds(case: &Case, command: &[&str], count: u32, parts: &str) -> usize {
    fs::create_dir(case.path(parts)).unwrap();
    for round in 0..20 {
        let missing = case.answer(&["merge", "--missing", "--shards", &count.to_string(), parts, "--quiet"]);
        if missing.is_empty() {
            return round;
        }
        for index in missing.trim().split(',') {
            case.shard(command, index.parse().unwrap(), count, parts);
        }
    }
    panic!("there is no end to it");
}

#[test]
fn questions_that_go_in_rounds_have_the_answer_of_one_process() {
    let recommend = ["recommend", "s.toml", "--over", "client.key.buckets=1..3", "--save", "best.toml"];
    let sensitivity = ["sensitivity", "s.toml", "--trajectories", "3"];
    let fit = ["fit", "o.csv", "--scenario", "s.toml", "--seeds", "40", "--set", "client.key.strategy=none"];
    for (command, files, most) in [(&recommend[..], 3, 8), (&sensitivity, 1, 1), (&fit, 6, 4)] {
        let case = Case::new();
        let single = case.answer(&[command, &["--out", "single", "--quiet"]].concat());
        assert_eq!(case.files("single").len(), files, "{command:?}");
        for count in [1, 3, 16] {
            let (parts, merged) = (format!("parts-{count}"), format!("merged-{count}"));
            // A first round whose parts wait for each other, and cannot be merged yet.
            let rounds = rounds(&case, command, count, &parts);
            assert!((1..=most).contains(&rounds), "{rounds} rounds of {command:?}");
            assert_eq!(case.answer(&["merge", &parts, "--out", &merged, "--quiet"]), single);
            case.same("single", &merged);
        }
        case.shard(command, 0, 3, "first");
        let words = case.refusal(&["merge", "first", "--out", "never"]);
        assert!(words.contains("shards 1,2 of 3 have runs to play"), "{words}");
        assert!(!case.path("never").exists());
    }
}

#[test]
fn a_question_in_rounds_takes_no_parts_of_another() {
    let case = Case::new();
    case.shard(&["sensitivity", "s.toml", "--trajectories", "3"], 0, 3, "parts");
    let other = ["sensitivity", "s.toml", "--trajectories", "4", "--shard", "1/3", "--out", "parts"];
    assert!(case.refusal(&other).contains("part-0.csv: belongs to another scenario"));
    let sweep = ["sweep", "s.toml", "--shard", "1/3", "--out", "other"];
    case.answer(&sweep);
    assert!(
        case.refusal(&["merge", "parts", "other", "--out", "out"]).contains("belongs to another scenario")
    );
}

/// The most memory that a process had, in bytes.
#[cfg(target_os = "linux")]
fn peak(mut child: Child) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        most = most.max(kilobytes.unwrap_or(0) * 1024);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            return most;
        }
        sleep(Duration::from_millis(1));
    }
}

/// Asserts that a merge prints every cell to a program, and says that it prints no table to a person.
#[cfg(target_os = "linux")]
fn prints_every_cell(case: &Case, cells: usize) {
    let printed =
        |format: &str| case.run(&["merge", "parts", "--out", "merged", "--format", format, "--quiet"]);
    let csv = printed("csv").stdout;
    let mut csv = csv::Reader::from_reader(csv.as_slice());
    let header = csv.headers().unwrap().clone();
    let of_csv: Vec<_> = csv.records().map(|record| record.unwrap()[1].to_string()).collect();
    assert_eq!(of_csv.len(), cells);
    let json: Vec<serde_json::Value> = serde_json::from_slice(&printed("json").stdout).unwrap();
    let of_json: Vec<_> = json.iter().map(|row| row[&header[1]].as_str().unwrap_or_default()).collect();
    assert_eq!(of_json, of_csv);
    let table = printed("table");
    assert!(table.status.success() && table.stdout.is_empty());
    let words = String::from_utf8(table.stderr).unwrap();
    assert!(
        words.contains(&format!("a table of {cells} cells is not printed: see merged/cells.csv")),
        "{words}"
    );
}

#[test]
#[cfg(target_os = "linux")]
fn a_merge_holds_no_more_of_many_rows_than_of_few() {
    let merge = |rates: usize| {
        let case = Case::new();
        let axis =
            |values: String| SWEPT.replace(r#"values = ["5/min", "20/min", "40/min", "0.01/min"]"#, &values);
        let values: Vec<_> = (1..=rates).map(|rate| format!("\"{rate}/min\"")).collect();
        fs::write(case.path("s.toml"), axis(format!("values = [{}]", values.join(", ")))).unwrap();
        // As many parts as rows are too many to play: two shards of one cell say what parts of this sweep look like.
        let count = 3 * rates as u32;
        for index in 0..2 {
            case.shard(&["sweep", "s.toml"], index, count, "first");
        }
        fs::create_dir(case.path("parts")).unwrap();
        let header = Part::open(&case.path("first/part-0.csv")).unwrap().unwrap().header;
        let whole = Whole {
            digest: header.digest,
            rows: header.of,
            command: header.command,
            columns: header.columns,
        };
        for index in 0..4 {
            let row = |job: u64| {
                let value = |column: usize| (job * 7 + column as u64 * 3) as f64 / 8.0;
                Row((0..COLUMNS.len()).map(|column| Some(value(column))).collect())
            };
            let own = (0..u64::from(count)).filter(|cell| cell % 4 == index);
            let jobs = own.flat_map(|cell| (0..5).map(move |replication| Job { cell, replication }));
            let rows = jobs.map(|job| (job, row(job.cell * 5 + u64::from(job.replication)))).collect();
            let ending = if index % 2 == 0 { "csv" } else { "parquet" };
            let path = case.path(&format!("parts/part-{index}.{ending}"));
            write_part(&path, &whole, Shard { index: index as u32, count: 4 }, &rows).unwrap();
        }
        let words = ["merge", "parts", "--out", "merged", "--quiet"];
        let peak = peak(spawn(&case, &words));
        let lines = fs::read_to_string(case.path("merged/cells.csv")).unwrap().lines().count();
        assert_eq!(lines, 1 + 15 * rates);
        if rates < 2_000 {
            prints_every_cell(&case, 3 * rates);
        }
        peak
    };
    let (few, many) = (merge(1_200), merge(4_000));
    // 42,000 rows more would be 37 MB.
    assert!(many < few + 8_000_000, "{few} bytes for 18,000 rows, {many} for 60,000");
}

/// Writes a program in place of one of Slurm's.
fn in_place_of(case: &Case, name: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(case.path("bin")).unwrap();
    let path = case.path("bin").join(name);
    fs::write(&path, format!("#!/usr/bin/env bash\n{script}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Sends an array by the shipped script to a Slurm of one machine, whose queue cannot be asked the first time.
fn submit(case: &Case, words: &[&str]) -> Output {
    in_place_of(
        case,
        "sbatch",
        r#"echo sent >> sent
for word; do case $word in --array=*) array=${word#*=} ;; esac; done
while [[ $1 == --* ]]; do shift; done
for SLURM_ARRAY_TASK_ID in ${array//,/ }; do export SLURM_ARRAY_TASK_ID; bash "$@" > task.log 2>&1; done
echo 7
"#,
    );
    in_place_of(
        case,
        "squeue",
        "echo asked >> asked\n[ $(wc -l < asked) != 1 ] || { echo away >&2; exit 1; }\n",
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/cluster/submit");
    let path = format!("{}:{}", case.path("bin").display(), std::env::var("PATH").unwrap());
    let mut submit = Command::new("bash");
    submit.arg(script).args(words).current_dir(case.0.path()).env("PATH", path).env("POLL_SECONDS", "0");
    submit.env("CACHECAST", env!("CARGO_BIN_EXE_cachecast")).output().unwrap()
}

#[test]
fn submit_sends_what_is_missing_and_no_bad_input_twice() {
    let case = Case::new();
    let times = |name: &str| fs::read_to_string(case.path(name)).unwrap_or_default().lines().count();
    let output = submit(&case, &["3", "parts", "sweep", "s.toml"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!((times("sent"), times("asked")), (1, 2), "{output:?}");
    case.answer(&["merge", "parts", "--out", "merged", "--quiet"]);
    // Of another command, and bad before anything is sent: nothing is sent.
    for words in [&["3", "parts", "sweep", "s.toml", "--seeds", "6"][..], &["3", "new", "sweep", "none.toml"]]
    {
        let output = submit(&case, words);
        assert_eq!((output.status.code(), times("sent")), (Some(2), 1), "{output:?}");
    }
    // What only the tasks find is sent once.
    let output = submit(&case, &["3", "new", "sweep", "s.toml", "--out", "twice"]);
    assert_eq!((output.status.code(), times("sent")), (Some(2), 2), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("bad input, says new/task-0.log"));
}

/// The shipped scripts name what the program understands.
#[test]
fn the_scripts_for_clusters_say_what_the_program_takes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/cluster");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert!(read("array.sbatch").contains("--shard auto --shards \"$shards\" --out \"$parts\""));
    assert!(read("job.yaml").contains("--shard, auto, --shards, \"64\", --out, /data/parts"));
}
