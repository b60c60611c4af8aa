//! `cachecast recommend`: what a client should do.

use std::path::{Path, PathBuf};

use clap::Args;
use toml::{Table as TomlTable, Value};

use crate::cli::output::{
    Field, Format, Table, bold, estimate, print, progress_bar, sentences, talk, talk_lines,
};
use crate::cli::replay::Described;
use crate::cli::report::{Reported, write_report};
use crate::cli::shard::{self, Sharding, Shared, digest, metrics};
use crate::cli::sparkline::along_choices;
use crate::cli::{Common, from_here, recommend_json, refuse_to_replace};
use crate::client::key::Strategy;
use crate::error::{Error, Result};
use crate::experiment::choices::{self, Choice};
use crate::experiment::desk::Desk;
use crate::experiment::grid::Grid;
use crate::experiment::metrics::{Row, summarize};
use crate::experiment::objective::Unit;
use crate::experiment::race::{Standing, day_factor};
use crate::experiment::recommend::{Card, Formulas, Question, recommend, scenario};
use crate::experiment::scenario::{Change, Loaded, Scenario};
use crate::experiment::statistics::Estimate;
use crate::experiment::tables::{plain, word};
use crate::experiment::{ensemble, preflight, results};
use crate::input::calls::{Calls, LogKind};
use crate::report::about::About;
use crate::units::Span;

/// Say what a client should do, and what it costs if the provider is not what it seems
#[derive(Debug, Args)]
#[command(
    after_help = "Give a scenario or a trace, or the numbers you know:\n  cachecast recommend --rps 1.4 --prefix-tokens 6600 --prompt-tokens 6687\n  cachecast recommend chat --objective cost --over 'client.key.strategy=[\"none\", \"per_user\", \"per_session\"]'"
)]
pub struct Recommend {
    /// A scenario file, the name of a shipped one, or a trace (.jsonl, .jsonl.gz, .parquet)
    #[arg(conflicts_with_all = ["rps", "prefix_tokens", "prompt_tokens"])]
    scenario: Option<String>,
    /// Requests a second, all callers together
    #[arg(long, requires_all = ["prefix_tokens", "prompt_tokens"], allow_negative_numbers = true)]
    rps: Option<f64>,
    /// Tokens at the start of the prompt that all requests share (not cached_tokens: that is less by up to a step
    /// and the hidden system message)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    prefix_tokens: Option<u32>,
    /// Tokens of the whole prompt
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    prompt_tokens: Option<u32>,
    /// Tokens of the answer
    #[arg(long, value_name = "N", default_value_t = 300)]
    output_tokens: u32,
    /// What to choose from: client paths with their values, such as client.key.buckets=1..64 [default: buckets]
    #[arg(long, value_name = "PATH=VALUES")]
    over: Vec<String>,
    /// What is to be best: cost, token_hit_ratio, request_hit_ratio, ttft_p95 (or total_p50, ...), or
    /// "weighted(cost: 0.7, ttft_p95: 0.3)"
    #[arg(long, default_value = "token_hit_ratio")]
    objective: String,
    /// What must be kept to, such as "ttft_p95 < 3s" or "cost < 20" (USD a day); can be given several times
    #[arg(long, value_name = "METRIC<BOUND")]
    constraint: Vec<String>,
    /// The difference that does not matter, in the objective's unit [default: 0.001 of a hit ratio, 1 % of others]
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    within: Option<f64>,
    /// Most replications of a choice [default: five times those of the scenario]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    most_seeds: Option<u32>,
    /// A TOML file of plausible providers, in place of the built-in ones
    #[arg(long, value_name = "FILE")]
    ensemble: Option<PathBuf>,
    /// Write the recommended choice as a scenario
    #[arg(long, value_name = "FILE.toml")]
    save: Option<PathBuf>,
    /// Write the card, the table of every choice under every provider, and the recommended scenario into a folder; with
    /// --shard, the part
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    pub(super) reported: Reported,
    /// A shipped provider profile, or the path of a profile file
    #[arg(long, value_name = "PROFILE")]
    provider: Option<String>,
    /// Tokens in one block of a trace's hash_ids
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    block_tokens: Option<u32>,
    /// Unit of a trace's timestamps: ms, s or ns
    #[arg(long, value_parser = ["ms", "s", "ns"])]
    time_unit: Option<String>,
    #[command(flatten)]
    sharding: Sharding,
    #[command(flatten)]
    common: Common,
}

/// What is asked.
pub struct Asked {
    loaded: Loaded,
    question: Question,
    /// What to know before reading the answer.
    warnings: Vec<String>,
}

impl Shared for Recommend {
    type Asked = Asked;
    type Answer = Card;

    fn ask(&self) -> Result<Asked> {
        let question = self.question()?;
        self.check_save()?;
        let (loaded, warnings) = self.load()?;
        Ok(Asked { loaded, question, warnings })
    }

    fn rows(&self, Asked { loaded, question, .. }: &Asked) -> Result<(String, Vec<String>)> {
        Ok((digest("recommend", loaded, question)?, metrics()))
    }

    fn play(&self, Asked { loaded, question, warnings }: &Asked, desk: &Desk) -> Result<Card> {
        let bar = progress_bar(self.common.quiet);
        bar.hold(self.common.as_warnings(warnings));
        let card = recommend(loaded, question, desk, |done, runs| {
            bar.set_length(runs as u64);
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        Ok(card)
    }

    fn tell(&self, Asked { loaded, .. }: &Asked, card: &Card) -> Result<()> {
        if let Some(file) = &self.save {
            save(card, loaded, file)?;
        }
        let words = format!("{}\n\n{}", headline(card, loaded), conclusion(card));
        let in_full = |shown: fn(&Table) -> String| {
            let regrets = regrets_table(card).map_or(String::new(), |table| {
                format!("\nRegret under each plausible provider, {}:\n{}", unit(card), shown(&table))
            });
            format!("{words}\n\n{}{regrets}", shown(&choices_table(card)))
        };
        let default =
            self.reported.report.then(|| PathBuf::from("results").join(format!("recommend-{}", loaded.name)));
        if let Some(folder) = self.out.as_ref().or(default.as_ref()) {
            results::prepare_folder(folder)?;
            let write = |name: &str, text: String| {
                results::write_file(&folder.join(name), |out| out.write_all(text.as_bytes()))
            };
            write("card.txt", in_full(Table::text))?;
            write("choices.csv", plain_table(card).render(Format::Csv))?;
            save(card, loaded, &folder.join("recommended.toml"))?;
            if self.reported.report {
                let about = About::new("recommend", &self.reported.command(), loaded)?;
                write_report(about, folder, self.common.quiet)?;
            }
        }
        match self.common.format() {
            Format::Table => print(&shown(card, &words)),
            Format::Markdown => print(&in_full(|table| table.render(Format::Markdown))),
            Format::Json => print(&format!("{:#}\n", recommend_json::of(card, loaded, &plain_table(card)))),
            Format::Csv => {
                if !self.common.quiet {
                    talk_lines(&words);
                }
                plain_table(card).print(Format::Csv)
            }
        }
    }
}

impl Recommend {
    pub(super) fn answer(&self) -> Result<()> {
        shard::answer(self, &self.sharding, self.out.as_deref(), self.common.quiet)
    }

    /// What is written must not replace what was asked about.
    fn check_save(&self) -> Result<()> {
        let Some(file) = &self.save else { return Ok(()) };
        if file.extension().is_none_or(|extension| extension != "toml") {
            return Err(Error::input("--save", format!("let {} end in .toml", file.display())));
        }
        self.scenario.as_ref().map_or(Ok(()), |asked| refuse_to_replace(asked, "scenario", file))
    }

    fn question(&self) -> Result<Question> {
        let over: Vec<Grid> =
            self.over.iter().map(|text| choices::over(text)).collect::<Result<Vec<_>>>()?.concat();
        if let Some(twice) = (1..over.len()).find(|at| over[..*at].iter().any(|o| o.path == over[*at].path)) {
            return Err(Error::input("--over", format!("`{}` is there twice", over[twice].path)));
        }
        let constraint = |text: &String| {
            text.parse().map_err(|message: String| Error::input(format!("--constraint {text}"), message))
        };
        let objective = self.objective.parse();
        Ok(Question {
            over,
            objective: objective.map_err(|message: String| Error::input("--objective", message))?,
            constraints: self.constraint.iter().map(constraint).collect::<Result<_>>()?,
            within: self.within,
            most_seeds: self.most_seeds,
            ensemble: self.ensemble.as_deref().map(ensemble::read).transpose()?,
        })
    }

    /// The scenario, and what to know before reading the answer.
    fn load(&self) -> Result<(Loaded, Vec<String>)> {
        let mut changes = self.common.changes()?;
        let provider = self
            .provider
            .as_deref()
            .map(|name| Change::new("provider.profile", from_here(name), "--provider"));
        changes.splice(0..0, provider);
        let loaded = match (&self.scenario, self.rps, self.prefix_tokens, self.prompt_tokens) {
            (Some(trace), ..)
                if [".jsonl", ".jsonl.gz", ".parquet"].iter().any(|end| trace.ends_with(end)) =>
            {
                self.trace(trace, changes)?
            }
            (Some(name), ..) => super::load(name, &changes)?,
            (None, Some(rps), Some(prefix), Some(prompt)) => {
                let text = scenario(rps, prefix, prompt, self.output_tokens)?;
                Loaded::from_text("recommend", "recommend", &text, Path::new(""), &changes)?
            }
            _ => {
                return Err(Error::input(
                    "recommend",
                    "give a scenario or a trace, or --rps, --prefix-tokens and --prompt-tokens",
                ));
            }
        };
        if !self.over.is_empty() && !self.over.iter().any(|over| over.contains("client.key.buckets")) {
            let warnings = preflight::warnings(&loaded);
            return Ok((loaded, warnings));
        }
        let bucketed = loaded.with(&[
            Change::new("client.key.strategy", "buckets", "recommend"),
            Change::new("client.key.buckets", 2, "recommend"),
        ])?;
        // Which bucket counts overflow or cool down is the question, not a warning.
        let about_traffic =
            |warning: &String| !warning.contains("each key") && !warning.contains("a key is used");
        let warnings = preflight::warnings(&bucketed).into_iter().filter(about_traffic).collect();
        Ok((loaded, warnings))
    }

    /// A trace as a scenario.
    fn trace(&self, trace: &str, mut changes: Vec<Change>) -> Result<Loaded> {
        let kind = Calls::detect(Path::new(trace))?;
        if kind != LogKind::Trace {
            let message = format!(
                "is {}, and no trace: `cachecast replay --what-if` compares choices on it",
                kind.name()
            );
            return Err(Error::input(trace, message));
        }
        if !trace.ends_with(".parquet") && (self.block_tokens.is_none() || self.time_unit.is_none()) {
            return Err(Error::input(trace, "a trace needs --block-tokens and --time-unit"));
        }
        let flags =
            Described { block_tokens: self.block_tokens, time_unit: self.time_unit.clone(), ids: None };
        let mut described = flags.recorded(trace);
        if self.provider.is_none() {
            described.push(Change::new("provider.profile", "openai-classic", "--provider"));
        }
        changes.splice(0..0, described);
        Loaded::from_text("recommend", "recommend", "", Path::new(""), &changes)
    }
}

/// The answer in a terminal.
fn shown(card: &Card, words: &str) -> String {
    let regrets = regrets_table(card).map_or(String::new(), |table| {
        let title = format!("\nRegret under each plausible provider, {}:", unit(card));
        format!("{}\n{}", sentences(&title), table.render(Format::Table))
    });
    let words: String = sentences(words)
        .split_inclusive('\n')
        .map(
            |line| if line.starts_with("Recommended: ") { bold(line.trim_end()) + "\n" } else { line.into() },
        )
        .collect();
    let shape = along_choices(card, |end| value(card, Some(end)))
        .map_or(String::new(), |shape| format!("\n{}\n", sentences(&shape)));
    format!("{words}\n{shape}\n{}{regrets}", choices_table(card).render(Format::Table))
}

/// Writes the recommended choice as a scenario.
fn save(card: &Card, loaded: &Loaded, file: &Path) -> Result<()> {
    let Some(choice) = card.recommended() else {
        talk(&format!("{} is not written: there is nothing to recommend", file.display()));
        return Ok(());
    };
    let origin = "the recommendation";
    let choice = &card.choices[choice];
    let changes: Vec<_> = card
        .paths
        .iter()
        .zip(&choice.values)
        .map(|(path, value)| Change { path: path.clone(), value: value.clone(), origin: origin.into() })
        .chain((!choice.values.is_empty()).then(|| {
            let strategy = word(&choice.loaded.scenario.client.key.strategy);
            Change::new("client.key.strategy", strategy, origin)
        }))
        .collect();
    let mut changed = loaded.with(&changes)?;
    // A trace beside the old file is not beside the new one.
    for (name, workload) in &loaded.scenario.client.workload {
        if let Some(trace) = &workload.trace {
            let from = loaded.folder.join(&trace.file.path);
            let path = std::path::absolute(&from).map_err(|error| Error::io(&from, "find", &error))?;
            let at = format!("client.workload.{name}.trace.file.path");
            changed = changed.with(&[Change::new(&at, path.display().to_string(), origin)])?;
        }
    }
    // What was swept is settled now.
    let mut table: TomlTable = changed.to_toml().parse().expect("a scenario is TOML");
    table.remove("sweep");
    results::write_file(file, |out| out.write_all(table.to_string().as_bytes()))
}

fn headline(card: &Card, loaded: &Loaded) -> String {
    let Scenario { client, provider, seeds, .. } = &loaded.scenario;
    let rate =
        card.formulas.map_or(String::new(), |formulas| format!("{:.1} requests a minute; ", formulas.rpm));
    let mut words =
        format!("{rate}profile {}, {}; best by {}", provider.profile, provider.model, card.objective);
    let asks_for_buckets = card.paths.iter().any(|path| path.to_string() == "client.key.buckets");
    if let Some(Formulas { limited: true, limit_rpm, minimum_buckets, recommended_buckets, .. }) =
        card.formulas
        && asks_for_buckets
    {
        words += &format!(
            "\n  minimum_buckets     = ceil(rpm / {limit_rpm}) = {minimum_buckets}\n  recommended_buckets = ceil(rpm / 10) = {recommended_buckets}"
        );
    }
    if asks_for_buckets {
        words += &format!(
            "\n  simulated: buckets assigned by {}, overflow {}, costs of the input side",
            word(&client.key.assign),
            word(&provider.routing.overflow)
        );
        if client.key.strategy != Strategy::Buckets {
            let strategy = word(&client.key.strategy);
            words +=
                &format!("\n  in place of client.key.strategy = {strategy}, which is shown as `as written`");
        }
    }
    let (runs, exhaustive) = card.runs;
    words += &format!(
        "\n  {} choices, {seeds} replications and more where they decide something: {runs} runs of {exhaustive}; 95 % intervals",
        card.choices.len()
    );
    words
}

/// What to do, and what it may cost.
fn conclusion(card: &Card) -> String {
    if card.is_hopeless() {
        return "Nothing hits under this provider, whatever is chosen: look at the warnings (too short a prompt? no \
                client.breakpoints where it stores only there?), and at what can be shared."
            .into();
    }
    let Some(recommended) = card.recommended() else {
        return "No choice keeps to the constraints: loosen one, or choose from more (--over).".into();
    };
    let name = |choice: usize| called(card, choice);
    let standing = &card.own.standings[recommended];
    let mut words =
        format!("Recommended: {} ({} {})", name(recommended), card.objective, value(card, standing.value));
    if let Some(runner_up) = card.runner_up() {
        let ahead = card.own.worse_by(&card.objective, runner_up, recommended);
        let (word, sign) =
            if ahead.is_some_and(|e| e.mean < 0.0) { ("better", -1.0) } else { ("worse", 1.0) };
        let apart = differs(card, ahead.map(|e| e.scaled(sign)));
        words += &format!("\nRunner-up: {}, {word} by {apart}, seed by seed", name(runner_up));
    }
    let as_good: Vec<_> = (0..card.choices.len()).filter(|choice| card.own.is_as_good(*choice)).collect();
    words +=
        &format!("\nAs good, within {}: {}", differs_by(card, card.own.indifference), ranges(card, &as_good));
    if as_good.len() > 1 {
        words += "; recommended of these is the first whose worst loss under other providers is the least, within as much";
    }
    if let Some((path, most)) = card.best_at_the_most() {
        words += &format!(
            "\n{most} is the most that was tried of {path}: more may be better (--over {path}=1..{})",
            2 * most
        );
    }
    words += &format!("\n\n{}", if_it_is_another(card, recommended));
    words
}

/// What the choice costs under other providers than the one as written.
fn if_it_is_another(card: &Card, recommended: usize) -> String {
    let (regret, under) = card.worst_regret(recommended);
    let hopeless = card.hopeless_members();
    let played = card.members.len() - hopeless;
    let mut words = format!("Nobody outside knows the provider. Under {played} plausible ones ");
    words += &match regret {
        regret if regret.is_infinite() => {
            format!("it does not always keep to the constraints (not under `{under}`).")
        }
        regret if regret > 0.0 => {
            format!("it loses about {} at most to the best (under `{under}`).", differs_by(card, regret))
        }
        _ => "nothing does better.".into(),
    };
    if hopeless > 0 {
        words += &format!(" Under {hopeless} more no choice keeps to the constraints.");
    }
    let least = [(card.least_worst(), "worst-case"), (card.least_mean(), "mean")];
    for (choice, what) in least {
        let Some(choice) = choice else { continue };
        let regret = if what == "mean" { card.mean_regret(choice) } else { card.worst_regret(choice).0 };
        if regret.is_finite() {
            words +=
                &format!("\nLeast {what} regret: {}, {}", called(card, choice), differs_by(card, regret));
        }
    }
    let unmoved = card.where_buckets_do_not_help();
    if !unmoved.is_empty() {
        words += &format!("\nMore buckets than one do not help under: {}.", unmoved.join("; "));
    }
    words
}

/// A choice in words.
fn called(card: &Card, choice: usize) -> String {
    match (card.paths.as_slice(), card.choices[choice].values.as_slice()) {
        ([path], [Value::Integer(1)]) if path.to_string() == "client.key.buckets" => "1 bucket".into(),
        ([path], [value]) if path.to_string() == "client.key.buckets" => format!("{value} buckets"),
        _ => card.choices[choice].name(&card.paths),
    }
}

/// Choices, neighbours joined: "2-5, 8-18".
fn ranges(card: &Card, choices: &[usize]) -> String {
    let short = |choice: usize| match card.choices[choice].values.as_slice() {
        [value] => plain(value),
        _ => card.choices[choice].name(&card.paths),
    };
    let is_counted =
        card.choices.iter().all(|choice| matches!(choice.values.as_slice(), [Value::Integer(_)] | []));
    let number = |choice: usize| match card.choices[choice].values.as_slice() {
        [Value::Integer(number)] => Some(*number),
        _ => None,
    };
    let follows = |last: usize, choice: usize| {
        number(last).zip(number(choice)).is_some_and(|(last, next)| last + 1 == next)
    };
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &choice in choices {
        match ranges.last_mut() {
            Some((_, last)) if follows(*last, choice) => *last = choice,
            _ => ranges.push((choice, choice)),
        }
    }
    let words = |&(first, last): &(usize, usize)| {
        if first == last { short(first) } else { format!("{}-{}", short(first), short(last)) }
    };
    let separator = if is_counted { ", " } else { "; " };
    ranges.iter().map(words).collect::<Vec<_>>().join(separator)
}

/// Unit and size in which values of the objective are shown to a person.
fn unit(card: &Card) -> &'static str {
    match card.objective.unit() {
        Unit::Share => "points",
        Unit::UsdPerDay if is_a_trace(card) => "USD",
        Unit::UsdPerDay => "USD a day",
        Unit::Seconds => "s",
        Unit::Relative => "of the first choice's",
    }
}

fn points(card: &Card) -> f64 {
    if card.objective.unit() == Unit::Share { 100.0 } else { 1.0 }
}

fn value(card: &Card, value: Option<Estimate>) -> String {
    match card.objective.unit() {
        Unit::Share => estimate(value, 4),
        _ => format!("{} {}", estimate(value, 2), unit(card)),
    }
}

fn differs(card: &Card, difference: Option<Estimate>) -> String {
    format!("{} {}", estimate(difference.map(|e| e.scaled(points(card))), 2), unit(card))
}

fn differs_by(card: &Card, difference: f64) -> String {
    differs(card, Some(Estimate { mean: difference, half_width: None }))
}

/// Why a choice stands out.
fn notes(card: &Card, choice: usize) -> String {
    let buckets = match (card.paths.as_slice(), card.choices[choice].values.as_slice()) {
        ([path], [Value::Integer(count)]) if path.to_string() == "client.key.buckets" => {
            u32::try_from(*count).ok()
        }
        _ => None,
    };
    let standing = &card.own.standings[choice];
    let formula = card.formulas.filter(|formulas| formulas.limited).zip(buckets);
    let notes = [
        (card.recommended() == Some(choice), "recommended"),
        (card.own.best == Some(choice), "best"),
        (card.own.best != Some(choice) && card.own.is_as_good(choice), "as good"),
        (standing.too_slow, "far slower"),
        (!standing.feasible && !standing.too_slow, "not shown to keep the constraints"),
        (formula.is_some_and(|(formulas, count)| count == formulas.minimum_buckets), "minimum_buckets"),
        (
            formula.is_some_and(|(formulas, count)| count == formulas.recommended_buckets),
            "recommended_buckets",
        ),
    ];
    notes.iter().filter(|(holds, _)| *holds).map(|(_, note)| *note).collect::<Vec<_>>().join(", ")
}

/// Values of a choice, one for each path.
fn values(card: &Card, choice: usize) -> Vec<Field> {
    let choice = &card.choices[choice];
    match choice.values.is_empty() {
        true => {
            let written = std::iter::once(Field::from("as written"));
            written.chain(std::iter::repeat_n(Field::from(""), card.paths.len() - 1)).collect()
        }
        false => choice.values.iter().map(|value| plain(value).into()).collect(),
    }
}

fn paths(card: &Card) -> Vec<String> {
    let short = |index: usize| card.paths[index].keys().last().cloned().unwrap_or_default();
    let is_unique =
        |index: usize| (0..card.paths.len()).all(|other| other == index || short(other) != short(index));
    let name = |index: usize| if is_unique(index) { short(index) } else { card.paths[index].to_string() };
    (0..card.paths.len()).map(name).collect()
}

/// Numbers of one standing that a person wants beside the objective.
fn numbers(standing: &Standing, day: f64) -> [Field; 4] {
    let rows: Vec<&Row> = standing.rows.iter().collect();
    let estimate = |name: &str, scale: f64| summarize(&rows, name).map(|e| e.scaled(scale));
    [
        Field::Estimate(estimate("token_hit_ratio", 1.0), 4),
        Field::Estimate(estimate("ttft_p95_ms", 1e-3), 2),
        Field::Estimate(estimate("total_p95_ms", 1e-3), 2),
        Field::Estimate(estimate("cost_usd", day), 2),
    ]
}

/// Names of these numbers. A trace lasts as long as it lasts: its cost is that of all of it.
fn number_names(card: &Card) -> [String; 4] {
    let cost = if is_a_trace(card) { "usd" } else { "usd_per_day" };
    ["token_hit_ratio", "ttft_p95_s", "total_p95_s", cost].map(String::from)
}

fn is_a_trace(card: &Card) -> bool {
    card.choices.iter().all(|choice| choice.loaded.scenario.duration == Span::UNLIMITED)
}

/// Every choice under the scenario's own provider, with its regrets under the others.
fn choices_table(card: &Card) -> Table {
    let header = paths(card).into_iter().chain(number_names(card));
    let [_, ttft, total, cost] = number_names(card);
    let spare = [total, "mean_regret".into(), ttft, cost, "worst_regret".into()];
    let mut table =
        Table::new(header.chain(["behind_best", "worst_regret", "mean_regret", "note"].map(String::from)))
            .spare(spare);
    let has_usd = |choice: &Choice| !preflight::has_relative_prices(&choice.loaded.scenario.provider);
    if !card.choices.iter().any(has_usd) {
        let [.., cost] = number_names(card);
        table = table.titled(&cost, &format!("cost_{}", cost.replace("usd", "units")));
    }
    for (index, choice) in card.choices.iter().enumerate() {
        let standing = &card.own.standings[index];
        let scaled = |regret: f64| Some(regret * points(card)).filter(|regret| regret.is_finite());
        let mut row = values(card, index);
        row.extend(numbers(standing, day_factor(&choice.loaded)));
        row.push(Field::Estimate(standing.behind.map(|e| e.scaled(points(card))), 2));
        row.push(Field::Number(scaled(card.worst_regret(index).0), 2));
        row.push(Field::Number(scaled(card.mean_regret(index)), 2));
        row.push(notes(card, index).into());
        table.row(row);
    }
    table
}

/// Regrets of the few choices that a person would weigh, under each member.
fn regrets_table(card: &Card) -> Option<Table> {
    let written = card.choices.iter().position(|choice| choice.values.is_empty());
    let mut weighed: Vec<usize> =
        [card.recommended(), card.runner_up(), card.least_worst(), card.least_mean(), written]
            .into_iter()
            .flatten()
            .collect();
    weighed.sort_unstable();
    weighed.dedup();
    if weighed.is_empty() {
        return None;
    }
    let mut table = Table::new(
        ["provider".to_string(), "its best".to_string()]
            .into_iter()
            .chain(weighed.iter().map(|choice| called(card, *choice))),
    );
    for (member, finish) in &card.members {
        let best = finish.best.map_or("none".to_string(), |best| called(card, best));
        let regret = |choice: &usize| match finish.standings[*choice].feasible {
            true => Field::Estimate(finish.standings[*choice].behind.map(|e| e.scaled(points(card))), 2),
            false => "no candidate".into(),
        };
        let row = [Field::from(member.name.clone()), best.into()];
        table.row(row.into_iter().chain(weighed.iter().map(regret)));
    }
    Some(table)
}

/// For programs: every choice under every provider.
fn plain_table(card: &Card) -> Table {
    let header = ["provider".to_string()].into_iter().chain(paths(card));
    let rest = ["seeds", "objective", "regret", "feasible"].map(String::from);
    let mut table = Table::new(header.chain(rest).chain(number_names(card)).chain(["note".to_string()]));
    for (member, finish) in &card.members {
        for (index, choice) in card.choices.iter().enumerate() {
            let standing = &finish.standings[index];
            let mut row = vec![Field::from(member.name.clone())];
            row.extend(values(card, index));
            row.extend([
                Field::from(standing.rows.len().to_string()),
                Field::Estimate(standing.value, 6),
                Field::Estimate(standing.behind, 6),
                u8::from(standing.feasible).to_string().into(),
            ]);
            row.extend(numbers(standing, day_factor(&choice.loaded)));
            row.push(notes(card, index).into());
            table.row(row);
        }
    }
    table
}
