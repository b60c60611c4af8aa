//! `cachecast check`: what is wrong with requests, or with a scenario.

use std::path::Path;

use anstyle::AnsiColor;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::cli::logged::{Logged, contracts, line_of};
use crate::cli::output::{Format, Printed, Table, colored, print, sentences, talk};
use crate::cli::replay::Described;
use crate::cli::run::skipped_words;
use crate::cli::{SHIPPED, Verdict, load};
use crate::error::{Error, Result, printable};
use crate::experiment::check::finding::Finding;
use crate::experiment::check::{Checker, Options, Source, scenario};
use crate::experiment::rule::{Rule, Severity};
use crate::experiment::scenario::Loaded;
use crate::experiment::sweep::Outline;
use crate::input::calls::{Calls, LogKind};
use crate::input::log::LogFormat;
use crate::input::trace::{Record, TraceReader};
use crate::units::Tokens;

/// Find what keeps requests from being cached: keys, marks, retention, and what moves in a prompt
#[derive(Debug, Args)]
#[command(
    after_help = "A file is a request body, a log of requests, a transcript, or a scenario (.toml, or the name of a shipped \
one). Several files are one log. Findings say where, at which token, what to do and on what the rule rests; never what the \
text is, unless --show-text asks for it.\n\nExit codes: 0 nothing found at --level or above; 1 something found; 2 bad input."
)]
pub struct Check {
    /// Request bodies, logs or scenarios; a line of a log by itself: requests.jsonl:17
    #[arg(required_unless_present = "list_rules")]
    files: Vec<String>,
    /// Print the rules, and check nothing
    #[arg(long, conflicts_with = "files")]
    list_rules: bool,
    /// Judge all calls by this profile [default: each by the shipped profile that has its model]
    #[arg(long, value_name = "PROFILE")]
    provider: Option<String>,
    /// Exit with 1 if there is a finding as grave as this
    #[arg(long, value_enum, default_value_t = Level::Warning)]
    level: Level,
    /// Look for these rules only, by number or name
    #[arg(long, value_name = "RULE,...", value_delimiter = ',')]
    rules: Vec<String>,
    /// Do not look for these
    #[arg(long, value_name = "RULE,...", value_delimiter = ',')]
    ignore: Vec<String>,
    /// Show the piece of text that a finding is about
    #[arg(long)]
    show_text: bool,
    #[command(flatten)]
    logged: Logged,
    #[command(flatten)]
    described: Described,
    #[command(flatten)]
    printed: Printed,
    /// Print no warnings and no summary
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Level {
    /// Whatever there is
    Note,
    /// What costs cached tokens, probably
    Warning,
    /// What costs nearly all of them, or is refused
    Error,
}

impl Check {
    pub(super) fn answer(&self) -> Result<Verdict> {
        let format = self.printed.format();
        if self.list_rules {
            rules().print(format)?;
            return Ok(Verdict::Answered);
        }
        let [only, ignored] = [("--rules", &self.rules), ("--ignore", &self.ignore)].map(parse_rules);
        let (only, ignored) = (only?, ignored?);
        let mut findings = self.find()?;
        findings.retain(|finding| {
            (only.is_empty() || only.contains(&finding.rule)) && !ignored.contains(&finding.rule)
        });
        match format {
            Format::Table => print(&lines(&findings))?,
            Format::Json => print(&json(&findings))?,
            format => table(&findings, self.show_text).print(format)?,
        }
        if !self.quiet {
            talk(&summary(&findings));
        }
        let found = findings.iter().any(|finding| finding.severity >= self.level.severity());
        Ok(if found { Verdict::Found } else { Verdict::Answered })
    }

    /// Everything that all rules find.
    fn find(&self) -> Result<Vec<Finding>> {
        let LogFormat { vocabulary, message_overhead, .. } = self.logged.format();
        let options = Options { vocabulary, message_overhead, show_text: self.show_text };
        let mut checker = Checker::new(contracts(self.provider.as_deref())?, options);
        let mut of_scenarios = Vec::new();
        for file in &self.files {
            if is_scenario(file) {
                let loaded = load(file, &[])?;
                refuse_impossible_variants(&loaded)?;
                of_scenarios.extend(scenario::findings(&loaded));
            } else {
                self.look_at(file, &mut checker)?;
            }
        }
        if !self.quiet {
            for words in checker.contracts().stranger_words() {
                talk(&format!("warning: {words}"));
            }
        }
        let mut findings = checker.finish();
        findings.extend(of_scenarios);
        Ok(findings)
    }

    /// Looks at the calls of a file.
    fn look_at(&self, name: &str, checker: &mut Checker) -> Result<()> {
        let (file, line) = line_of(name);
        let path = Path::new(file);
        if !path.exists() {
            let message =
                "there is no such file, and no shipped scenario of that name (cachecast list scenarios)";
            return Err(Error::input(name, message));
        }
        let LogFormat { kind: forced, skip_bad, .. } = self.logged.format();
        let kind = forced.map_or_else(|| Calls::detect(path), Ok)?;
        let source = Source::new(file, kind);
        let is_asked = |at: u64| line.is_none_or(|line| line == at);
        let mut looked_at = 0u64;
        let skipped = if kind == LogKind::Trace {
            let mut trace = TraceReader::open(&self.described.format(file, skip_bad), Path::new(""))?;
            let mut record = Record::default();
            while trace.read(&mut record)? {
                if is_asked(record.line) {
                    checker.call(&source, &record.call());
                    looked_at += 1;
                }
            }
            trace.skipped().clone()
        } else {
            let mut calls = Calls::open(path, forced, skip_bad)?;
            let mut without_body = 0u64;
            while let Some(call) = calls.next_call()? {
                if is_asked(call.line) {
                    checker.call(&source, &call);
                    without_body += u64::from(call.body.is_none());
                    looked_at += 1;
                }
            }
            self.warn_of_blindness(file, kind, without_body, looked_at);
            calls.skipped().clone()
        };
        if let Some(line) = line.filter(|_| looked_at == 0) {
            return Err(Error::input(name, format!("line {line} holds no request")));
        }
        if !self.quiet {
            for words in skipped_words(&(skipped.count, skipped.first)) {
                talk(&format!("warning: {words}"));
            }
        }
        Ok(())
    }
}

impl Check {
    /// Says what cannot be found because it cannot be seen.
    fn warn_of_blindness(&self, file: &str, kind: LogKind, without_body: u64, all: u64) {
        if self.quiet {
            return;
        }
        if without_body > 0 {
            let words = "have no body: only their keys, times and usage are checked";
            talk(&format!("warning: {without_body} of {all} calls of {file} {words}"));
        }
        if kind == LogKind::Anonymized {
            talk(&format!("warning: {file} is anonymized: what only text or settings show cannot be found"));
        }
    }
}

/// Refuses what a sweep of the scenario would refuse: axes that cannot be, and variants that do not load. Of more variants
/// than a few seconds load, some all over the sweep stand for the others.
fn refuse_impossible_variants(loaded: &Loaded) -> Result<()> {
    const MOST: usize = 1_000;
    let outline = Outline::new(loaded)?;
    let mut cells = (0..outline.cells()).step_by(outline.cells().div_ceil(MOST).max(1));
    cells.try_for_each(|cell| outline.cell(cell).map(drop))
}

fn is_scenario(file: &str) -> bool {
    file.ends_with(".toml") || SHIPPED.iter().any(|(name, _)| *name == file) && !Path::new(file).exists()
}

fn parse_rules((flag, texts): (&str, &Vec<String>)) -> Result<Vec<Rule>> {
    let parse = |text: &String| {
        text.trim().parse().map_err(|message| Error::input(format!("{flag} {text}"), message))
    };
    texts.iter().map(parse).collect()
}

/// What was found, as a person reads it.
fn lines(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let Finding { rule, severity, place, count, message, .. } = finding;
        let color = match severity {
            Severity::Error => AnsiColor::Red,
            Severity::Warning => AnsiColor::Yellow,
            Severity::Note => AnsiColor::Cyan,
        };
        let row = rule.row();
        let times = if *count > 1 { format!(" ({count} times)") } else { String::new() };
        let path = if place.path.is_empty() { String::new() } else { format!(" {}", place.path) };
        let sign = format!(": {} {rule} ", severity.name());
        let line = format!("{}{path}{sign}{}{times}\n", printable(&place.line().to_string()), row.name);
        let in_color = format!(": {} {rule} ", colored(severity.name(), color));
        text += &sentences(&line).replacen(&sign, &in_color, 1);
        text += &sentences(&format!("    {message}\n"));
        if let Some(shown) = &finding.text {
            text += &format!("    text: {shown:?}\n");
        }
        text += &sentences(&format!("    fix: {}\n    why: {}\n", row.fix, row.source));
    }
    text
}

/// A finding as a program reads it.
#[derive(Serialize)]
struct Row<'a> {
    rule: String,
    name: &'a str,
    severity: Severity,
    file: &'a str,
    line: Option<u64>,
    path: &'a str,
    token: Option<Tokens>,
    tokens_behind: Option<Tokens>,
    count: u64,
    message: &'a str,
    fix: &'a str,
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

impl<'a> Row<'a> {
    const COLUMNS: [&'static str; 12] = [
        "rule",
        "name",
        "severity",
        "file",
        "line",
        "path",
        "token",
        "tokens_behind",
        "count",
        "message",
        "fix",
        "source",
    ];

    fn new(finding: &'a Finding) -> Self {
        let about = finding.rule.row();
        Self {
            rule: finding.rule.to_string(),
            name: about.name,
            severity: finding.severity,
            file: &finding.place.file,
            line: finding.place.line,
            path: &finding.place.path,
            token: finding.depth.map(|(token, _)| token),
            tokens_behind: finding.depth.map(|(_, behind)| behind),
            count: finding.count,
            message: &finding.message,
            fix: about.fix,
            source: about.source,
            text: finding.text.as_deref(),
        }
    }

    fn fields(&self) -> [String; 12] {
        let number = |value: Option<u64>| value.map_or(String::new(), |value| value.to_string());
        [
            self.rule.clone(),
            self.name.into(),
            self.severity.name().into(),
            self.file.into(),
            number(self.line),
            self.path.into(),
            number(self.token.map(u64::from)),
            number(self.tokens_behind.map(u64::from)),
            self.count.to_string(),
            self.message.into(),
            self.fix.into(),
            self.source.into(),
        ]
    }
}

/// What was found as JSON: text stays text there, whatever it looks like.
fn json(findings: &[Finding]) -> String {
    let rows: Vec<_> = findings.iter().map(Row::new).collect();
    format!("{}\n", serde_json::to_string_pretty(&rows).expect("text is JSON"))
}

/// What was found as columns.
fn table(findings: &[Finding], show_text: bool) -> Table {
    let mut table = Table::new(Row::COLUMNS.into_iter().chain(show_text.then_some("text")));
    for row in findings.iter().map(Row::new) {
        let text = show_text.then(|| row.text.unwrap_or_default().to_string());
        table.row(row.fields().into_iter().chain(text));
    }
    table
}

/// All rules.
fn rules() -> Table {
    let mut table = Table::new(["rule", "name", "severity", "what", "fix", "source"]);
    for rule in Rule::ALL {
        let row = rule.row();
        let severity = row.severity.name().to_string();
        let words = [row.name, &severity, row.what, row.fix, row.source].map(String::from);
        table.row(std::iter::once(rule.to_string()).chain(words));
    }
    table
}

fn summary(findings: &[Finding]) -> String {
    let count = |severity, name: &str| {
        let count = findings.iter().filter(|finding| finding.severity == severity).count();
        format!("{count} {name}{}", if count == 1 { "" } else { "s" })
    };
    let [errors, warnings, notes] =
        [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Note, "note")]
            .map(|(severity, name)| count(severity, name));
    format!("{errors}, {warnings}, {notes}")
}

impl Level {
    fn severity(self) -> Severity {
        match self {
            Self::Note => Severity::Note,
            Self::Warning => Severity::Warning,
            Self::Error => Severity::Error,
        }
    }
}
