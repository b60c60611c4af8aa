//! `cachecast init`: a scenario to start from.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::output::{print, talk};
use crate::error::{Error, Result};
use crate::experiment::init::{Answers, Topic};
use crate::experiment::{results, schema};

/// What the schema beside a new scenario is called.
const SCHEMA: &str = "scenario.schema.json";

/// Write a commented scenario to start from
#[derive(Debug, Args)]
#[command(
    after_help = "On a terminal what no flag says is asked, with a default that Enter takes. Elsewhere, and with --yes, the defaults are \
taken. Without --out the scenario goes to stdout.\n\n  \
cachecast init --workload chat --users 2000 --rate 40/min --out mine.toml"
)]
pub struct Init {
    /// The file to write, and beside it the schema with which editors complete and check it
    #[arg(long, value_name = "FILE.toml")]
    out: Option<PathBuf>,
    /// Write over files that are there
    #[arg(long)]
    force: bool,
    /// Ask nothing: take the default of what no flag says
    #[arg(short, long)]
    yes: bool,
    /// Write no schema beside the scenario
    #[arg(long)]
    no_schema: bool,
    /// Traffic: shared_prefix (independent calls behind one prompt), chat, agent, fork_tree, trace
    #[arg(long, value_name = "KIND", help_heading = "Answers")]
    workload: Option<String>,
    /// Users
    #[arg(long, value_name = "N", help_heading = "Answers")]
    users: Option<String>,
    /// Sessions (or independent calls) that start, all users together, such as 20/min
    #[arg(long, value_name = "RATE", help_heading = "Answers")]
    rate: Option<String>,
    /// Tokens of tools and system prompt that all share
    #[arg(long, value_name = "N", help_heading = "Answers")]
    prefix_tokens: Option<String>,
    /// Tokens that an agent's session or a fork tree brings along at its start
    #[arg(long, value_name = "N", help_heading = "Answers")]
    start_tokens: Option<String>,
    /// Calls that a fork tree forks into, level by level, such as 4,2
    #[arg(long, value_name = "N,...", help_heading = "Answers")]
    branching: Option<String>,
    /// Messages of a user in a chat or an agent's session
    #[arg(long, value_name = "N", help_heading = "Answers")]
    turns: Option<String>,
    /// Calls of an agent for one message
    #[arg(long, value_name = "N", help_heading = "Answers")]
    calls: Option<String>,
    /// Tokens of a user's message, of what follows a shared prefix, or of the task of a fork tree's call
    #[arg(long, value_name = "N", help_heading = "Answers")]
    user_tokens: Option<String>,
    /// Tokens of a tool's result
    #[arg(long, value_name = "N", help_heading = "Answers")]
    tool_tokens: Option<String>,
    /// Tokens of an answer
    #[arg(long, value_name = "N", help_heading = "Answers")]
    output_tokens: Option<String>,
    /// Pause of a user before the next message, such as 45s
    #[arg(long, value_name = "SPAN", help_heading = "Answers")]
    think: Option<String>,
    /// The trace to play (.jsonl, .jsonl.gz, .parquet); means --workload trace
    #[arg(long, value_name = "FILE", help_heading = "Answers")]
    trace: Option<String>,
    /// Tokens in one block of a trace's hash_ids
    #[arg(long, value_name = "N", help_heading = "Answers")]
    block_tokens: Option<String>,
    /// Unit of a trace's timestamps: ms, s or ns
    #[arg(long, value_name = "UNIT", help_heading = "Answers")]
    time_unit: Option<String>,
    /// A shipped provider profile, or the path of a profile file
    #[arg(long, value_name = "PROFILE", help_heading = "Answers")]
    provider: Option<String>,
    /// The retention policy asked for
    #[arg(long, value_name = "POLICY", help_heading = "Answers")]
    retention: Option<String>,
    /// The keying strategy
    #[arg(long, value_name = "STRATEGY", help_heading = "Answers")]
    key: Option<String>,
    /// Say nothing of what was written
    #[arg(long)]
    quiet: bool,
}

impl Init {
    pub(super) fn answer(&self) -> Result<()> {
        let mut answers = self.flags()?;
        let asks = !self.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        if let Some(out) = &self.out {
            self.check_out(out)?;
        }
        if asks {
            ask(&mut answers, &mut std::io::stdin().lock())?;
        }
        let asked_out = (asks && self.out.is_none() && std::io::stdout().is_terminal())
            .then(|| self.ask_out(&answers, &mut std::io::stdin().lock()))
            .transpose()?;
        match self.out.as_ref().or(asked_out.as_ref()) {
            Some(out) => self.write(answers, out),
            None => print(&answers.scenario("FILE", None)?),
        }
    }

    /// What the flags answer.
    fn flags(&self) -> Result<Answers> {
        let implied = self.trace.as_ref().map(|_| "trace".to_string());
        let workload = self.workload.clone().or(implied);
        let given = [
            (Topic::Workload, &workload),
            (Topic::Users, &self.users),
            (Topic::Rate, &self.rate),
            (Topic::PrefixTokens, &self.prefix_tokens),
            (Topic::StartTokens, &self.start_tokens),
            (Topic::Branching, &self.branching),
            (Topic::Turns, &self.turns),
            (Topic::Calls, &self.calls),
            (Topic::UserTokens, &self.user_tokens),
            (Topic::ToolTokens, &self.tool_tokens),
            (Topic::OutputTokens, &self.output_tokens),
            (Topic::Think, &self.think),
            (Topic::Trace, &self.trace),
            (Topic::BlockTokens, &self.block_tokens),
            (Topic::TimeUnit, &self.time_unit),
            (Topic::Provider, &self.provider),
            (Topic::Retention, &self.retention),
            (Topic::Key, &self.key),
        ];
        let mut answers = Answers::default();
        for (topic, text) in given {
            if let Some(text) = text {
                answers.answer(topic, text).map_err(|message| Error::input(topic.flag(), message))?;
            }
        }
        match answers.idle() {
            Some(topic) => Err(Error::input(topic.flag(), answers.is_idle(topic))),
            None => Ok(answers),
        }
    }

    fn check_out(&self, out: &Path) -> Result<()> {
        if out.to_string_lossy().contains(char::is_control) {
            return Err(Error::input(
                "--out",
                format!("{} holds a line break or another control character", out.display()),
            ));
        }
        if out.extension().is_none_or(|extension| extension != "toml") {
            return Err(Error::input("--out", format!("let {} end in .toml", out.display())));
        }
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return Err(Error::input(
                out.display(),
                format!("the folder `{}` is not there", folder.display()),
            ));
        }
        if out.exists() && !self.force {
            return Err(Error::input(
                out.display(),
                "is there already: name another file, or write over it with --force",
            ));
        }
        Ok(())
    }

    /// Asks for a file until one is named that can be written.
    fn ask_out(&self, answers: &Answers, input: &mut dyn BufRead) -> Result<PathBuf> {
        let default = format!("{}.toml", answers.get(Topic::Workload).unwrap_or_default());
        loop {
            let out = PathBuf::from(asked("Which file shall it be written to?", Some(&default), input)?);
            match self.check_out(&out) {
                Ok(()) => return Ok(out),
                Err(error) => talk(&format!("  {error}")),
            }
        }
    }

    fn write(&self, mut answers: Answers, out: &Path) -> Result<()> {
        let folder = out.parent().unwrap_or(Path::new(""));
        answers.seen_from(folder)?;
        let schema = folder.join(SCHEMA);
        let named = (!self.no_schema).then_some(SCHEMA);
        let text = answers.scenario(&out.display().to_string(), named)?;
        results::write_file(out, |file| file.write_all(text.as_bytes()))?;
        let mut words = format!("written to {}", out.display());
        if named.is_some() {
            let text = schema::text(&schema::scenario()?);
            match std::fs::read_to_string(&schema) {
                Ok(known) if known == text => {}
                Ok(_) if !self.force => {
                    words += &format!("; {} is there already, and is left as it is", schema.display());
                }
                _ => {
                    results::write_file(&schema, |file| file.write_all(text.as_bytes()))?;
                    words += &format!(", and what editors complete it with to {}", schema.display());
                }
            }
        }
        if !self.quiet {
            talk(&words);
            talk(&format!("Next: cachecast run {}", out.display()));
        }
        Ok(())
    }
}

/// Asks what is not answered yet.
fn ask(answers: &mut Answers, input: &mut dyn BufRead) -> Result<()> {
    talk(
        "Enter takes what stands in brackets. A count or a time can also be drawn: uniform(5..15), lognormal(40s, 1.0), ...",
    );
    for topic in Topic::ALL {
        while !answers.has(topic) && answers.needs(topic) {
            let text = asked(&answers.asked(topic), answers.get(topic).as_deref(), input)?;
            if let Err(message) = answers.answer(topic, &text) {
                talk(&format!("  {message}"));
            }
        }
    }
    Ok(())
}

/// One question and its answer, which is `default` where nothing is typed.
fn asked(question: &str, default: Option<&str>, input: &mut dyn BufRead) -> Result<String> {
    let shown = default.map_or(String::new(), |default| format!(" [{default}]"));
    // The answer follows on the line below.
    talk(&format!("{question}{shown}"));
    let mut out = std::io::stderr();
    // Nobody need listen.
    let _ = write!(out, "> ").and_then(|()| out.flush());
    let mut line = String::new();
    match input.read_line(&mut line) {
        Ok(0) => Err(Error::input("stdin", "ended before the questions did: nothing is written")),
        Ok(_) if line.trim().is_empty() => Ok(default.unwrap_or_default().to_string()),
        Ok(_) => Ok(line.trim().to_string()),
        Err(error) => Err(Error::input("stdin", error)),
    }
}
