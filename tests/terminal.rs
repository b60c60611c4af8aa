//! What a person sees: the program in a terminal of a given width. Nothing is wider than it, no word is broken, colours are
//! never the only sign, progress has its rate and time left, and `init` asks.
#![cfg(unix)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tempfile::TempDir;

const CALLS: &str = r#"
title = "A question"
duration = "12m"
seeds = 5
[client]
retention = "24h"
[client.key]
strategy = "buckets"
[client.workload.calls]
arrivals = { process = "poisson", rate = "10/min" }
[client.workload.calls.shared_prefix]
prefix_tokens = 6600
tail_tokens = 100
output_tokens = 300
[provider]
profile = "openai-classic"
[[sweep.axis]]
path = "client.key.buckets"
values = [1, 2, 4, 8, 16]
[[sweep.axis]]
path = "client.retention"
values = ["in_memory", "24h"]
[sweep.baseline]
"client.key.buckets" = 1
"#;

/// A terminal with a program in it.
struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: Vec<u8>,
    child: std::process::Child,
}

impl Terminal {
    fn run(folder: &TempDir, width: u16, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let keyboard: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let size = Winsize { ws_row: 50, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        let name = ptsname(&keyboard, Vec::new()).unwrap().into_string().unwrap();
        let line = File::options().read(true).write(true).open(name).unwrap();
        tcsetwinsize(line.as_fd(), size).unwrap();
        let stdio = || Stdio::from(line.try_clone().unwrap());
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cachecast"));
        // (Where `CI` is set, colours are taken to be wanted even on a dumb terminal.)
        for unset in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "CI"] {
            command.env_remove(unset);
        }
        command.env("TERM", "xterm-256color").envs(environment.iter().copied());
        command.args(args).current_dir(folder.path()).stdin(stdio()).stdout(stdio()).stderr(stdio());
        let child = command.spawn().unwrap();
        drop(line);
        drop(command);
        let (sender, screen) = channel();
        let mut output = File::from(keyboard.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            // Once nobody holds the other end, reading is an error.
            while let Ok(read @ 1..) = output.read(&mut chunk) {
                if sender.send(chunk[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { keyboard: File::from(keyboard), screen, seen: Vec::new(), child }
    }

    /// Waits until the program has said something.
    fn wait_for(&mut self, words: &str) {
        self.wait(words, |text| text.contains(words));
    }

    /// Waits until the program has asked something, and is ready for the answer.
    fn is_asked(&mut self, words: &str) {
        self.wait(words, |text| text.ends_with('>') && text.contains(words));
    }

    fn wait(&mut self, words: &str, is_said: impl Fn(&str) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        // Sentences are broken where a line ends.
        while !is_said(&unbroken(&self.text())) {
            let left = end.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(chunk) => self.seen.extend(chunk),
                Err(_) => panic!("`{words}` is not said: {}", self.text()),
            }
        }
    }

    fn types(&mut self, line: &str) {
        writeln!(self.keyboard, "{line}").unwrap();
    }

    /// The exit code, and everything that was said.
    fn end(mut self) -> (i32, String) {
        let end = Instant::now() + Duration::from_secs(120);
        while let Ok(chunk) = self.screen.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.seen.extend(chunk);
        }
        let code = self.child.wait().unwrap().code().unwrap();
        (code, self.text())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).replace("\r\n", "\n")
    }
}

/// A text in one line.
fn unbroken(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text without colours.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\u{1b}') {
        plain += before;
        let end = escape.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(escape.len() - 1);
        rest = &escape[end + 1..];
    }
    plain + rest
}

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("s.toml"), CALLS).unwrap();
    let log = format!("{}/scenarios/logs/support.jsonl.gz", env!("CARGO_MANIFEST_DIR"));
    std::fs::copy(log, folder.path().join("log.jsonl.gz")).unwrap();
    folder
}

/// What each verb says in a terminal, as words, with its exit code.
fn said(folder: &TempDir, width: u16, args: &[&str]) -> String {
    let (code, text) = Terminal::run(folder, width, args, &[]).end();
    assert!(code == 0 || args[0] == "check" && code == 1, "{args:?}: {text}");
    plain(&text)
}

#[test]
fn no_verb_breaks_a_word_or_leaves_the_terminal_at_any_width() {
    let folder = folder();
    let verbs: [&[&str]; 13] = [
        &["run", "s.toml", "--quiet"],
        &["sweep", "s.toml", "--quiet", "--out", "out"],
        &["replay", "log.jsonl.gz", "--what-if", "key=session", "--seeds", "2", "--quiet"],
        &["recommend", "s.toml", "--over", "client.key.buckets=1..4", "--quiet"],
        &["sensitivity", "s.toml", "--trajectories", "2", "--seeds", "2", "--quiet"],
        &["fit", "log.jsonl.gz", "--rivals", "home", "--seeds", "39", "--quiet"],
        &["diff", "log.jsonl.gz", "--quiet"],
        &["diff", "log.jsonl.gz:5", "log.jsonl.gz:6"],
        &["check", "log.jsonl.gz"],
        &["check", "--list-rules"],
        &["list", "providers"],
        &["list", "scenarios"],
        &["list", "axes"],
    ];
    for args in verbs {
        // Every word of the answer as it is where there is room.
        let wide = said(&folder, 1000, args);
        let words: std::collections::BTreeSet<_> = wide.split_whitespace().collect();
        for width in [60, 80, 120, 200] {
            let text = said(&folder, width, args);
            for line in text.lines() {
                assert!(line.chars().count() <= usize::from(width), "{args:?} at {width}: {line:?}");
            }
            let note = text.find("Left out for want of room").unwrap_or(text.len());
            for word in text[..note].split_whitespace() {
                let is_drawn = word.chars().all(|c| "▁▂▃▄▅▆▇█░▏▎▍▌▋▊▉".contains(c));
                assert!(words.contains(word) || is_drawn, "{args:?} at {width}: {word:?} is no word of it");
            }
        }
    }
}

#[test]
fn a_narrow_sweep_says_what_it_leaves_out_and_a_chart_shows_its_shape() {
    let folder = folder();
    let args = ["sweep", "s.toml", "--quiet", "--out", "out"];
    let narrow = said(&folder, 60, &args);
    assert!(narrow.contains("Left out for want of room: overflow"), "{narrow}");
    assert!(unbroken(&narrow).contains("(--format csv has every column)"), "{narrow}");
    let wide = said(&folder, 200, &args);
    assert!(wide.contains("overflow") && !wide.contains("Left out"), "{wide}");
    for text in [narrow, wide] {
        assert!(
            unbroken(&text).contains("Along client.key.buckets, from 1 to 16: token hit ratio from 0."),
            "{text}"
        );
        let is_drawn = |line: &&str| line.contains("in_memory") && line.contains('█');
        assert_eq!(text.lines().filter(is_drawn).count(), 1, "{text}");
    }
}

#[test]
fn a_run_shows_what_became_of_the_tokens_and_its_shares_are_all_of_them() {
    let text = said(&folder(), 80, &["run", "s.toml", "--quiet"]);
    let (_, bars) = text.split_once("Of all prompt tokens").expect("bars");
    let share = |line: &str| {
        line.split_once(" %").and_then(|(before, _)| before.rsplit(' ').next()?.parse::<f64>().ok())
    };
    let shares: Vec<_> = bars.lines().filter_map(share).collect();
    assert!(shares.len() >= 3 && (shares.iter().sum::<f64>() - 100.0).abs() < 0.5, "{bars}");
    assert!(bars.contains("read from the cache   9") && bars.contains('█'), "{bars}");
}

#[test]
fn colours_are_there_in_a_terminal_unless_nobody_wants_them_and_say_nothing_by_themselves() {
    let folder = folder();
    std::fs::write(folder.path().join("bad.toml"), CALLS.replace("seeds", "sed")).unwrap();
    for args in [&["run", "s.toml", "--quiet"][..], &["run", "bad.toml"], &["check", "log.jsonl.gz"]] {
        let (code, colored) = Terminal::run(&folder, 80, args, &[]).end();
        assert!(colored.contains('\u{1b}'), "{args:?}: {colored}");
        for unwanted in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let (same, bare) = Terminal::run(&folder, 80, args, &[unwanted]).end();
            assert!(!bare.contains('\u{1b}'), "{args:?}, {unwanted:?}: {bare}");
            assert_eq!((code, plain(&colored)), (same, bare), "the words are the same");
        }
    }
}

#[test]
fn hostile_names_come_out_as_text() {
    let folder = TempDir::new().unwrap();
    let hostile = CALLS.replace("values = [\"in_memory\", \"24h\"]", "values = [\"in_memory\"]");
    let hostile = hostile.replace("path = \"client.retention\"", "path = \"client.workload.calls.text\"");
    let hostile =
        hostile.replace("[\"in_memory\"]", "[\"\\u001b[31mred\\u0007\\u202e<script>|\", \"plain\"]");
    std::fs::write(folder.path().join("s.toml"), hostile).unwrap();
    let (code, text) =
        Terminal::run(&folder, 200, &["sweep", "s.toml", "--quiet", "--out", "o"], &[("NO_COLOR", "1")])
            .end();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("\\u{1b}[31mred\\u{7}\\u{202e}<script>|"), "{text}");
    assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{text}");
    // On stderr, too, whether something is written, warned of or wrong; and no line of a name passes for one of the program.
    let name = "\u{1b}]0;title\u{7}\nerror: forged.toml";
    let one = CALLS.replace("values = [1, 2, 4, 8, 16]", "values = [1]").replace("10/min", "40/min");
    std::fs::write(folder.path().join(name), one.replace(".calls", r#"."\u001b[2Jcalls""#)).unwrap();
    let unwritten = CALLS.replace("seeds = 5", "\"\\u001b[2J\" = 5");
    std::fs::write(folder.path().join("bad.toml"), unwritten).unwrap();
    for (args, expected, words) in [
        (&["sweep", name][..], 0, "written to results/"),
        (&["run", name], 0, "warning: workload `\\u{1b}[2Jcalls`"),
        (&["run", "none\u{1b}[2J.toml"], 2, "error: none\\u{1b}[2J.toml: there is no such file"),
        (&["run", "bad.toml"], 2, "\\u{1b}[2J"),
    ] {
        let (code, text) = Terminal::run(&folder, 1000, args, &[("NO_COLOR", "1"), ("TERM", "dumb")]).end();
        assert_eq!(code, expected, "{text}");
        assert!(text.contains(words), "{args:?}: {text}");
        // (A bar clears its line by a sequence of its own.)
        for hostile in ["\u{1b}]", "\u{1b}[2J", "\u{7}"] {
            assert!(!text.contains(hostile), "{args:?}: {text}");
        }
        assert!(!text.lines().any(|line| line.starts_with("error: forged")), "{args:?}: {text}");
    }
}

#[test]
fn progress_has_its_rate_and_the_time_left_and_goes_away() {
    let folder = folder();
    let long = CALLS.replace("12m", "30d").replace("10/min", "600/min");
    std::fs::write(folder.path().join("long.toml"), long).unwrap();
    let mut terminal = Terminal::run(&folder, 80, &["sweep", "long.toml", "--out", "out"], &[]);
    terminal.wait_for(" of 50 runs");
    terminal.child.kill().unwrap();
    terminal.child.wait().unwrap();
    let (code, text) = Terminal::run(&folder, 60, &["run", "s.toml", "--seeds", "200"], &[]).end();
    assert_eq!(code, 0);
    let bar = text.lines().find(|line| line.contains(" of 200 runs, ")).unwrap_or_else(|| panic!("{text}"));
    assert!(bar.contains("/s, ") && bar.contains(" left"), "{bar}");
    let quiet = said(&folder, 60, &["run", "s.toml", "--seeds", "200", "--quiet"]);
    assert!(!quiet.contains(" runs"), "{quiet}");
}

#[test]
fn init_asks_one_sentence_each_says_what_is_wrong_and_writes_over_nothing() {
    let folder = folder();
    let mut terminal = Terminal::run(&folder, 80, &["init", "--users", "2000"], &[]);
    terminal.is_asked("What is the traffic");
    terminal.types("chats");
    terminal.is_asked("did you mean `chat`? What is");
    terminal.types("");
    terminal.is_asked("How often does a conversation start");
    terminal.types("40/min");
    terminal.is_asked("[6000]");
    terminal.types("4500");
    terminal.is_asked("How many messages");
    for question in [
        "tokens is a message",
        "tokens is an answer",
        "think",
        "Whose cache",
        "retention",
        "prompt_cache_key",
    ] {
        terminal.types("");
        terminal.is_asked(question);
    }
    terminal.types("");
    terminal.is_asked("[chat.toml]");
    terminal.types("s.toml");
    terminal.is_asked("with --force Which file");
    terminal.types("mine.toml");
    let (code, text) = terminal.end();
    assert_eq!(code, 0, "{text}");
    assert!(!text.contains("How many users"), "a flag has said it: {text}");
    assert!(text.lines().all(|line| plain(line).chars().count() <= 80), "{text}");
    assert_eq!(std::fs::read_to_string(folder.path().join("s.toml")).unwrap(), CALLS);
    let written = std::fs::read_to_string(folder.path().join("mine.toml")).unwrap();
    for line in ["users = 2000", "rate = \"40/min\"", "prefix_tokens = 4500", "strategy = \"per_session\""] {
        assert!(written.contains(line), "{line}: {written}");
    }
    let run = said(&folder, 80, &["run", "mine.toml", "--seeds", "1", "--set", "duration=40m", "--quiet"]);
    assert!(run.contains("token_hit_ratio"), "{run}");
}
