//! `cachecast fit`: what the provider is doing, from a log or a table of observations.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::Common;
use crate::cli::logged::Logged;
use crate::cli::output::{
    Field, Format, Table, print, progress_bar, sentences, talk, talk_lines, value_json,
};
use crate::cli::report::{Reported, write_report};
use crate::cli::shard::{self, Sharding, Shared, digest};
use crate::error::{Error, Result};
use crate::experiment::desk::Desk;
use crate::experiment::fit::{Fit as Answer, INDIFFERENCE, Judged, Question, REPLICATIONS, columns, fit};
use crate::experiment::fitted::{self, latency_lines};
use crate::experiment::grid::Grid;
use crate::experiment::observations::Observations;
use crate::experiment::point::LEAST_REPLICATIONS;
use crate::experiment::rivals::free;
use crate::experiment::scenario::Loaded;
use crate::experiment::tables::plain;
use crate::report::about::About;
use crate::units::round_to;

/// Fit the provider's unknown numbers to observations, and rank rival hypotheses
#[derive(Debug, Args)]
#[command(after_help = "\
Observations are your own logs, or tables of what was observed. A log is whatever `cached_tokens` stands in: JSON lines of
(time, request, usage), a gateway's log, a session of Codex or Claude Code, a CSV of usage, plain or gzip; where bodies are
known, what prompts have in common is taken from their text. Text is never shown.

  cachecast fit requests.jsonl --out fitted/

Tables are CSV files (lines with # are comments), of one kind each, recognised by the header:
  requests   time (s) or time_ms, prompt_tokens, cached_tokens; optionally key, prefix, prefix_tokens, output_tokens,
             ttft_ms, total_ms, cell, and scenario paths such as client.retention
  cells      scenario paths such as client.key.buckets, and metrics such as token_hit_ratio or total_p95_ms
  latencies  ttft_ms, uncached_tokens, cached_tokens; optionally count (rows are means of so many runs)

  cachecast fit log.csv --scenario bucket-cardinality --free provider.routing.pool=2..12 --out fitted/")]
pub struct Fit {
    /// Files of observations, fitted together
    #[arg(required = true, value_name = "OBSERVATIONS")]
    observations: Vec<PathBuf>,
    /// The scenario that they are laid over: its provider, and for cells its traffic
    ///
    /// Logs need none: the first shipped profile that has their model stands for it
    #[arg(long, value_name = "SCENARIO")]
    scenario: Option<String>,
    #[command(flatten)]
    logged: Logged,
    /// Leave a value open: a list or a range of whole numbers, in addition to the rivals' own grids or in their place
    #[arg(long, value_name = "PATH=VALUES")]
    free: Vec<String>,
    /// Ask about these rivals only
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    rivals: Vec<String>,
    /// Folder for rivals.csv, parameters.csv, checks.csv, fitted.toml and ensemble.toml; with --shard, the part
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    #[command(flatten)]
    sharding: Sharding,
    #[command(flatten)]
    pub(super) reported: Reported,
    #[command(flatten)]
    common: Common,
}

/// What is asked.
pub struct Asked {
    loaded: Loaded,
    observations: Observations,
    free: Vec<Grid>,
}

impl Shared for Fit {
    type Asked = Asked;
    type Answer = Answer;

    fn ask(&self) -> Result<Asked> {
        // Replications of a fit are its own: those of the scenario are for another purpose.
        let changes: Vec<_> =
            self.common.changes()?.into_iter().filter(|change| change.origin != "--seeds").collect();
        let mut observations = Observations::from_files(&self.observations, &self.logged.format())?;
        let loaded = match &self.scenario {
            Some(scenario) => super::load(scenario, &changes)?,
            None if observations.models.is_empty() => return Err(self.needs_a_scenario()),
            None => observations.scenario(&changes)?,
        };
        observations.lay_over(&loaded);
        let free = self.free.iter().map(|text| free(text)).collect::<Result<_>>()?;
        Ok(Asked { loaded, observations, free })
    }

    fn rows(&self, asked: &Asked) -> Result<(String, Vec<String>)> {
        let question = self.question(asked);
        let Question { observations, free, only, replications, .. } = &question;
        let digest = digest("fit", &asked.loaded, &(observations, free, only, replications))?;
        Ok((digest, columns(&question)?))
    }

    fn play(&self, asked: &Asked, desk: &Desk) -> Result<Answer> {
        let bar = progress_bar(self.common.quiet);
        let answer = fit(&self.question(asked), desk, |done, known| {
            bar.set_length(known as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        answer
    }

    fn tell(&self, Asked { loaded, observations, .. }: &Asked, answer: &Answer) -> Result<()> {
        let default =
            self.reported.report.then(|| PathBuf::from("results").join(format!("fit-{}", loaded.name)));
        let folder = self.out.as_ref().or(default.as_ref());
        if let Some(folder) = folder {
            fitted::write(answer, loaded, &observations.files.join(", "), folder)?;
        }
        self.say(answer)?;
        if let Some(folder) = folder.filter(|_| !self.common.quiet) {
            talk(&format!("written to {}", folder.display()));
        }
        match folder.filter(|_| self.reported.report) {
            Some(folder) => {
                let about = About::new("fit", &self.reported.command(), loaded)?;
                let seeds = self.common.seeds.unwrap_or(REPLICATIONS);
                write_report(About { seeds, ..about }, folder, self.common.quiet)
            }
            None => Ok(()),
        }
    }
}

impl Fit {
    pub(super) fn answer(&self) -> Result<()> {
        shard::answer(self, &self.sharding, self.out.as_deref(), self.common.quiet)
    }

    fn question<'a>(&self, Asked { loaded, observations, free }: &'a Asked) -> Question<'a> {
        Question {
            loaded,
            observations,
            free: free.clone(),
            only: self.rivals.clone(),
            replications: self.common.seeds.unwrap_or(REPLICATIONS),
        }
    }

    fn needs_a_scenario(&self) -> Error {
        let message = "is needed for a table: the scenario that it is laid over, such as bucket-cardinality (a table of \
                       usage is read as a log with --kind usage-table)";
        Error::input("--scenario", message)
    }

    fn say(&self, answer: &Answer) -> Result<()> {
        let format = self.common.format();
        let main = if answer.rivals.is_empty() { latency(answer) } else { rivals(answer) };
        let words = answer.sentences().join("\n");
        match format {
            Format::Json => return print(&format!("{:#}\n", json(answer))),
            Format::Csv => {
                if !self.common.quiet {
                    talk_lines(&format!("{}\n{words}", method(answer)));
                }
                return main.print(format);
            }
            Format::Table | Format::Markdown => {}
        }
        let for_a_person = |text: &str| if format == Format::Table { sentences(text) } else { text.into() };
        let words = for_a_person(&words);
        let mut text = format!("{}\n\n{}", for_a_person(&method(answer)), main.render(format));
        if let Some(best) = answer.rivals.first() {
            text += &format!("\nUnder `{}`:\n{}", best.rival.name, parameters(best).render(format));
        }
        if !answer.rivals.is_empty() && answer.latency.is_some() {
            text += &format!("\n{}", latency(answer).render(format));
        }
        if !words.is_empty() {
            text += &format!("\n{words}\n");
        }
        print(&text)
    }
}

/// How it was done, with its errors.
fn method(answer: &Answer) -> String {
    if answer.rivals.is_empty() {
        return "Least squares of ttft = overhead + a x uncached + b x cached; 95 % intervals (Student t)."
            .into();
    }
    let error = (0.05f64 * 0.95 / f64::from(answer.replications)).sqrt();
    format!(
        "{} rows; {} replications of every point not hopeless after {LEAST_REPLICATIONS}: a p-value of 0.05 is known to ±{error:.3}.\n\
         95 % sets hold the values not rejected at 5 %: they cover by construction, up to that error and the grid.\n\
         Scores: synthetic log-likelihood less half of ln(rows) a parameter; within {INDIFFERENCE} they tell nothing apart.",
        answer.rows, answer.replications
    )
}

fn rivals(answer: &Answer) -> Table {
    let mut table = Table::new([
        "rival",
        "over",
        "verdict",
        "p",
        "behind_best",
        "explained",
        "first_contradiction",
        "best",
    ])
    .spare(["over", "explained", "behind_best"]);
    for judged in &answer.rivals {
        let exact = judged.exact.as_ref();
        let explained =
            exact.map_or(String::new(), |exact| format!("{} of {}", exact.explained, exact.compared));
        table.row([
            Field::from(judged.rival.name),
            judged.rival.over.into(),
            answer.verdict(judged).into(),
            Field::Number(Some(round_to(judged.p, 4)), 3),
            Field::Number(Some(round_to(answer.rivals[0].score - judged.score, 2)), 1),
            explained.into(),
            exact.and_then(|exact| exact.contradicted_at.clone()).unwrap_or_default().into(),
            short_values(judged).into(),
        ]);
    }
    table
}

/// The whole answer as JSON.
fn json(answer: &Answer) -> Value {
    let rivals = if answer.rivals.is_empty() { json!([]) } else { rivals(answer).objects() };
    let parameters = |judged: &Judged| {
        let of_one = judged.parameters.iter().map(|parameter| {
            json!({
                "path": parameter.path.to_string(),
                "best": value_json(&parameter.best),
                "set": parameter.set(),
                "inert": parameter.inert,
                "tried": parameter.values.iter().map(|(value, _)| value_json(value)).collect::<Vec<_>>(),
            })
        });
        json!({ "rival": judged.rival.name, "parameters": of_one.collect::<Vec<_>>() })
    };
    json!({
        "rows": answer.rows,
        "replications": answer.replications,
        "rivals": rivals,
        "parameters": answer.rivals.iter().map(parameters).collect::<Vec<_>>(),
        "latency": latency(answer).objects(),
        "sentences": answer.sentences(),
    })
}

/// The free values of the best point, by the last keys of their paths.
fn short_values(judged: &Judged) -> String {
    let open = judged.parameters.iter().filter(|parameter| parameter.values.len() > 1 && !parameter.inert);
    let last = |path: &crate::document::KeyPath| path.keys().last().cloned().unwrap_or_default();
    let words = open.map(|parameter| format!("{}={}", last(&parameter.path), plain(&parameter.best)));
    words.collect::<Vec<_>>().join(" ")
}

fn parameters(judged: &Judged) -> Table {
    let mut table = Table::new(["parameter", "best", "95 % set", "tried"]).spare(["tried"]);
    for parameter in &judged.parameters {
        let tried: Vec<_> = parameter.values.iter().map(|(value, _)| plain(value)).collect();
        let set = if parameter.inert { "makes no difference".into() } else { parameter.set() };
        table.row([parameter.path.to_string(), plain(&parameter.best), set, tried.join(", ")]);
    }
    table
}

fn latency(answer: &Answer) -> Table {
    let mut table = Table::new(["number", "value", "ci95"]);
    for (name, value, half_width) in answer.latency.iter().flat_map(latency_lines) {
        let places = if name == "points" { 0 } else { 3 };
        table.row([Field::from(name), Field::Number(Some(value), places), Field::Number(half_width, places)]);
    }
    table
}
