//! `cachecast check`: what is wrong with requests, or with a scenario.

use std::path::Path;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::cli::output::{Format, Table, print, talk};
use crate::cli::run::skipped_words;
use crate::cli::{SHIPPED, Verdict, from_here, load};
use crate::error::{Error, Result};
use crate::experiment::check::finding::Finding;
use crate::experiment::check::{Checker, Options, Source, scenario};
use crate::experiment::rule::{Rule, Severity};
use crate::input::calls::{Calls, LogKind};
use crate::input::render::{MESSAGE_OVERHEAD, Vocabulary};
use crate::units::Tokens;

/// Find what keeps requests from being cached: keys, marks, retention, and what moves in a prompt
#[derive(Debug, Args)]
#[command(
    after_help = "A file is a request body, a log of requests, a transcript, or a scenario (.toml, or the name of a shipped \
one). Several files are one log. Findings say where, at which token, what to do and on what the rule rests; never what the \
text is, unless --show-text asks for it.\n\nExit codes: 0 nothing found at --level or above; 1 something found; 2 bad input."
)]
pub struct Check {
    /// Request bodies, logs or scenarios
    #[arg(required_unless_present = "list_rules")]
    files: Vec<String>,
    /// Print the rules, and check nothing
    #[arg(long, exclusive = true)]
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
    /// What the files are [default: detected]
    #[arg(long, value_parser = PossibleValuesParser::new(LogKind::ALL.map(LogKind::word)))]
    kind: Option<String>,
    /// Count and name bad lines, and leave them out, instead of stopping at the first
    #[arg(long)]
    skip_bad: bool,
    /// Show the piece of text that a finding is about
    #[arg(long)]
    show_text: bool,
    /// Tokens that a message costs beside its content
    #[arg(long, value_name = "TOKENS", default_value_t = MESSAGE_OVERHEAD, value_parser = clap::value_parser!(u32).range(..=1_000))]
    message_overhead: Tokens,
    /// Which vocabulary counts tokens
    #[arg(long, value_enum, default_value_t = Words::O200kBase)]
    vocabulary: Words,
    /// How to print the answer [default: text on a terminal, csv elsewhere]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Words {
    /// gpt-4o and later
    #[value(name = "o200k_base")]
    O200kBase,
    /// gpt-4 and gpt-3.5
    #[value(name = "cl100k_base")]
    Cl100kBase,
}

impl Check {
    pub(super) fn answer(&self) -> Result<Verdict> {
        let format = if self.json { Format::Json } else { self.format.unwrap_or_else(Format::for_stdout) };
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
        let mut checker = Checker::new(Options {
            provider: self.provider.as_deref().map(from_here),
            vocabulary: self.vocabulary.vocabulary(),
            message_overhead: self.message_overhead,
            show_text: self.show_text,
        })
        .map_err(|error| match error {
            Error::Input { place, message } if place == "provider.profile" => {
                Error::input("--provider", message)
            }
            other => other,
        })?;
        let mut of_scenarios = Vec::new();
        for file in &self.files {
            if is_scenario(file) {
                of_scenarios.extend(scenario::findings(&load(file, &[])?));
            } else {
                self.look_at(file, &mut checker)?;
            }
        }
        if !self.quiet {
            for (model, taken_for) in checker.strangers() {
                talk(&format!(
                    "warning: no profile has the model `{model}`: it is judged like `{taken_for}` (--provider says otherwise)"
                ));
            }
        }
        let mut findings = checker.finish();
        findings.extend(of_scenarios);
        Ok(findings)
    }

    /// Looks at the calls of a file.
    fn look_at(&self, file: &str, checker: &mut Checker) -> Result<()> {
        let kind =
            self.kind.as_deref().and_then(|word| LogKind::ALL.into_iter().find(|kind| kind.word() == word));
        let path = Path::new(file);
        if !path.exists() {
            let message =
                "there is no such file, and no shipped scenario of that name (cachecast list scenarios)";
            return Err(Error::input(file, message));
        }
        let mut calls = Calls::open(path, kind, self.skip_bad)?;
        let source = Source::new(file, calls.kind());
        while let Some(call) = calls.next_call()? {
            checker.call(&source, &call);
        }
        if !self.quiet {
            let skipped = calls.skipped();
            for words in skipped_words(&(skipped.count, skipped.first.clone())) {
                talk(&format!("warning: {words}"));
            }
        }
        Ok(())
    }
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
        let row = rule.row();
        let times = if *count > 1 { format!(" ({count} times)") } else { String::new() };
        let path = if place.path.is_empty() { String::new() } else { format!(" {}", place.path) };
        text += &format!("{}{path}: {} {rule} {}{times}\n", place.line(), severity.name(), row.name);
        text += &format!("    {message}\n");
        if let Some(shown) = &finding.text {
            text += &format!("    text: {shown:?}\n");
        }
        text += &format!("    fix: {}\n    why: {}\n", row.fix, row.source);
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

impl Words {
    fn vocabulary(self) -> Vocabulary {
        match self {
            Self::O200kBase => Vocabulary::O200kBase,
            Self::Cl100kBase => Vocabulary::Cl100kBase,
        }
    }
}
