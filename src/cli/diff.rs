//! `cachecast diff`: where prompts part.

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::logged::{Logged, contracts, line_of};
use crate::cli::output::{Field, Format, Printed, Table, console_width, print, sentences, talk};
use crate::cli::run::skipped_words;
use crate::error::{Error, Result, printable};
use crate::experiment::breaks::{Breaks, Broken};
use crate::experiment::contract::Contract;
use crate::experiment::diff::{Difference, Eligible, Kind, Place, Side};
use crate::input::calls::Calls;
use crate::input::log::LogFormat;
use crate::input::render::Renderer;
use crate::prompt::Run;
use crate::units::Tokens;

/// Find where two requests part, or where the prefixes of a log broke
#[derive(Debug, Args)]
#[command(
    after_help = "A request is a file with its JSON body, or a line of a log: requests.jsonl:17. What is cached of B is said by the \
documented rule alone (minimum and step), and by everything in the profile (hidden tokens before the prompt, the last token \
always computed), if A was written and is still alive. No text is printed unless --show-text asks for it."
)]
pub struct Diff {
    /// The earlier request, or a log
    #[arg(value_name = "A|LOG")]
    earlier: String,
    /// The later request
    #[arg(value_name = "B")]
    later: Option<String>,
    /// Judge by this profile [default: the shipped profile that has the model]
    #[arg(long, value_name = "PROFILE")]
    provider: Option<String>,
    /// Show the text around the first difference
    #[arg(long)]
    show_text: bool,
    #[command(flatten)]
    logged: Logged,
    #[command(flatten)]
    printed: Printed,
    /// Print no warnings and no summary
    #[arg(long)]
    quiet: bool,
}

/// Tokens that are shown on each side of a difference.
const SHOWN: usize = 12;

impl Diff {
    pub(super) fn answer(&self) -> Result<()> {
        let format = self.printed.format();
        match &self.later {
            Some(later) => self.pair(later, format),
            None => self.log(format),
        }
    }

    fn warn(&self, words: &[String]) {
        if !self.quiet {
            words.iter().for_each(|words| talk(&format!("warning: {words}")));
        }
    }

    fn pair(&self, later: &str, format: Format) -> Result<()> {
        let read_as = self.logged.format();
        let mut renderer = Renderer::new(read_as.vocabulary, read_as.message_overhead);
        let sides = [side(&self.earlier, &read_as, &mut renderer)?, side(later, &read_as, &mut renderer)?];
        let mut known = contracts(self.provider.as_deref())?;
        let contract = known.of(sides[1].call.settings.prefix.get("model").map(String::as_str));
        self.warn(&known.stranger_words());
        let difference = Difference::between(&sides[0], &sides[1]);
        let [earlier, later_marks] = [&sides[0], &sides[1]].map(Side::marks);
        let [one, other] = difference.tokens;
        let eligible =
            Eligible::of(&contract.provider.write, (one, &earlier), (other, &later_marks), difference.prefix);
        let texts = (self.show_text && difference.settings.is_empty()).then(|| {
            [&sides[0], &sides[1]].map(|side| around(&renderer, &side.rendered.tokens, difference.prefix))
        });
        let answer = Pair { names: [&self.earlier, later], difference, eligible, contract, texts };
        match format {
            Format::Table => print(&answer.text()),
            Format::Json => print(&format!("{:#}\n", answer.json())),
            format => answer.table().print(format),
        }
    }

    fn log(&self, format: Format) -> Result<()> {
        let mut known = contracts(self.provider.as_deref())?;
        let read_as = self.logged.format();
        let breaks = Breaks::read(Path::new(&self.earlier), &read_as, &mut known)?;
        self.warn(&known.stranger_words());
        self.warn(&breaks.log.notes);
        let skipped = &breaks.log.skipped;
        self.warn(&skipped_words(&(skipped.count, skipped.first.clone())));
        let texts = |broken: &Broken| {
            let renderer = Renderer::new(read_as.vocabulary, read_as.message_overhead);
            let (runs, prefix) = &broken.first;
            let tokens = |runs: &[Run]| breaks.log.tree.tokens(runs).collect::<Vec<_>>();
            [&runs[0], &runs[1]].map(|runs| around(&renderer, &tokens(runs), *prefix))
        };
        let table = places(&breaks, &self.earlier);
        match format {
            Format::Table => {
                let mut text = format!("{}\n", sentences(&summary(&breaks, &self.earlier)));
                if !breaks.places.is_empty() {
                    text += &format!("\n{}", table.render(format));
                }
                if self.show_text {
                    breaks.places.iter().for_each(|broken| {
                        text += &format!("\n{}\n{}", printable(&broken.path), shown(&texts(broken)));
                    });
                }
                print(&text)
            }
            Format::Json => {
                let mut answer = log_json(&breaks);
                if self.show_text {
                    for (place, broken) in
                        answer["broken"].as_array_mut().into_iter().flatten().zip(&breaks.places)
                    {
                        place["text"] = json!(texts(broken));
                    }
                }
                print(&format!("{answer:#}\n"))
            }
            format => {
                if !self.quiet {
                    talk(&summary(&breaks, &self.earlier));
                }
                table.print(format)
            }
        }
    }
}

/// A request: a file with one, or a line of a log.
fn side(name: &str, format: &LogFormat, renderer: &mut Renderer) -> Result<Side> {
    let (file, line) = line_of(name);
    let mut calls = Calls::open(Path::new(file), format.kind, format.skip_bad)?;
    let mut found = None;
    while let Some(call) = calls.next_call()? {
        if line.is_some_and(|line| line != call.line) {
            continue;
        }
        if found.is_some() {
            let message =
                format!("holds more than one request: name a line of it, such as {file}:{}", call.line);
            return Err(Error::input(name, message));
        }
        found = Some(call);
        if line.is_some() {
            break;
        }
    }
    let Some(call) = found else {
        return Err(Error::input(
            name,
            line.map_or("holds no request".to_string(), |line| format!("line {line} holds no request")),
        ));
    };
    let Some(body) = call.body.as_ref().filter(|_| !call.continues) else {
        return Err(Error::input(name, "has no whole body: only text can be compared"));
    };
    let rendered = renderer.render(body);
    Ok(Side { call, rendered })
}

/// The text before a token, and from it on.
fn around(renderer: &Renderer, tokens: &[u32], at: Tokens) -> [String; 2] {
    let at = at as usize;
    let [from, to] = [at.saturating_sub(SHOWN), (at + SHOWN).min(tokens.len())];
    [renderer.decode(&tokens[from..at]), renderer.decode(&tokens[at..to])]
}

fn shown(texts: &[[String; 2]; 2]) -> String {
    let line =
        |(name, [before, behind]): (&str, &[String; 2])| format!("  {name}  {before:?} | {behind:?}\n");
    ["A", "B"].into_iter().zip(texts).map(line).collect()
}

/// What is said of two requests.
struct Pair<'a> {
    names: [&'a str; 2],
    difference: Difference,
    eligible: Eligible,
    contract: Contract,
    texts: Option<[[String; 2]; 2]>,
}

impl Pair<'_> {
    fn rows(&self) -> Vec<(&'static str, String, String)> {
        let Difference { tokens: [earlier, later], prefix, kind, .. } = &self.difference;
        let write = &self.contract.provider.write;
        let share = |of: Tokens| if of == 0 { 100.0 } else { f64::from(*prefix) * 100.0 / f64::from(of) };
        let meaning = match kind {
            Kind::Identical => "A and B are the same",
            Kind::Extension => "B goes on where A ends",
            Kind::Truncation => "B ends inside A",
            Kind::Mutation => "B differs inside A",
        };
        let next = self.eligible.next;
        let mut rows = vec![
            ("kind", kind.name().to_string(), meaning.to_string()),
            ("earlier_tokens", earlier.to_string(), self.names[0].to_string()),
            ("later_tokens", later.to_string(), self.names[1].to_string()),
            (
                "prefix_tokens",
                prefix.to_string(),
                format!("the same in both: {:.1} % of A, {:.1} % of B", share(*earlier), share(*later)),
            ),
            ("first_difference", self.parting(1), format!("in A: {}", self.parting(0))),
            (
                "documented_tokens",
                self.eligible.documented.to_string(),
                format!(
                    "cached_tokens by the rule alone: {} or more, in steps of {}",
                    write.min_tokens, write.report_step
                ),
            ),
            (
                "expected_tokens",
                self.eligible.expected.to_string(),
                format!("cached_tokens by the profile {}", self.contract.provider.profile),
            ),
            (
                "next_tier_tokens",
                next.map_or(String::new(), |(tier, _)| tier.to_string()),
                next.map_or("only marks count here".into(), |(_, more)| {
                    let hidden = match write.hidden_tokens {
                        0 => String::new(),
                        hidden => format!(" ({hidden} hidden ones stand before the prompt)"),
                    };
                    format!("with {more} more shared tokens{hidden}")
                }),
            ),
        ];
        if !self.difference.settings.is_empty() {
            rows.push((
                "settings",
                self.difference.settings.join(" "),
                "differ, and are part of the prefix".into(),
            ));
        }
        rows
    }

    fn parting(&self, side: usize) -> String {
        let end = || "behind its end".to_string();
        self.difference.parting[side]
            .as_ref()
            .map_or_else(end, |place| format!("{} token {}", place.path, place.token))
    }

    fn table(&self) -> Table {
        let mut table = Table::new(["what", "value", "meaning"]);
        self.rows()
            .into_iter()
            .for_each(|(what, value, meaning)| table.row([what.to_string(), value, meaning]));
        if let Some(texts) = &self.texts {
            for (name, [before, behind]) in ["text_a", "text_b"].into_iter().zip(texts) {
                table.row([name.to_string(), format!("{before}|{behind}"), "around the difference".into()]);
            }
        }
        table
    }

    fn text(&self) -> String {
        let Difference { tokens: [earlier, later], prefix, .. } = self.difference;
        let longest = earlier.max(later);
        let bar = |name: &str, tokens: Tokens| {
            format!(
                "  {name} {}{}\n",
                "█".repeat(scaled(prefix, longest)),
                "░".repeat(scaled(tokens, longest) - scaled(prefix, longest))
            )
        };
        let bars = bar("A", earlier) + &bar("B", later);
        let mut table = Table::new(["", "", ""]);
        let spaced = |what: &str| what.replace('_', " ");
        self.rows().into_iter().for_each(|(what, value, meaning)| table.row([spaced(what), value, meaning]));
        let rows = table.render(Format::Table);
        let rows = rows.trim_start_matches(|c: char| c.is_whitespace());
        let texts = self.texts.as_ref().map_or(String::new(), |texts| format!("\n{}", shown(texts)));
        format!("{bars}\n {rows}{texts}")
    }

    fn json(&self) -> Value {
        let Difference { tokens: [earlier, later], prefix, kind, settings, parting } = &self.difference;
        let [at_earlier, at_later] = [&parting[0], &parting[1]].map(|place| place.as_ref().map(place_json));
        let mut answer = json!({
            "kind": kind.name(),
            "earlier_tokens": earlier,
            "later_tokens": later,
            "prefix_tokens": prefix,
            "first_difference": { "token": prefix, "earlier": at_earlier, "later": at_later },
            "settings": settings,
            "profile": self.contract.provider.profile,
            "model": self.contract.provider.model,
            "documented_tokens": self.eligible.documented,
            "expected_tokens": self.eligible.expected,
            "next_tier_tokens": self.eligible.next.map(|(tier, _)| tier),
            "tokens_to_next_tier": self.eligible.next.map(|(_, more)| more),
        });
        if let Some(texts) = &self.texts {
            answer["text"] = json!(texts);
        }
        answer
    }
}

fn place_json(place: &Place) -> Value {
    json!({ "path": place.path, "role": place.role.map(|role| role.name()), "token": place.token })
}

/// So many tokens in characters of a bar.
fn scaled(tokens: Tokens, longest: Tokens) -> usize {
    const WIDTH: usize = 60;
    // Before it stand four columns.
    let width = console_width().map_or(WIDTH, |width| width.saturating_sub(5).clamp(8, WIDTH));
    (u64::from(tokens) * width as u64).div_ceil(u64::from(longest.max(1))) as usize
}

/// What became of a log's prefixes, in a line.
fn summary(breaks: &Breaks, file: &str) -> String {
    let kinds =
        Kind::ALL.iter().map(|kind| format!("{} {}", breaks.kinds.get(kind).unwrap_or(&0), kind.name()));
    let kinds: Vec<_> = kinds.collect();
    format!(
        "{file} is {}: {} calls; {} begin a conversation; then {}",
        breaks.log.kind.name(),
        breaks.log.calls.len(),
        breaks.first_calls,
        kinds.join(", ")
    )
}

fn places(breaks: &Breaks, file: &str) -> Table {
    let mut table = Table::new([
        "broken_at",
        "role",
        "breaks",
        "mean_depth_tokens",
        "lost_tokens",
        "lost_usd",
        "first_at",
    ])
    .spare(["role", "mean_depth_tokens", "lost_usd"]);
    for broken in &breaks.places {
        table.row([
            Field::from(broken.path.as_str()),
            broken.role.map_or("setting", |role| role.name()).into(),
            broken.count.to_string().into(),
            Field::Number(Some(broken.depths as f64 / broken.count as f64), 0),
            broken.lost_tokens.to_string().into(),
            Field::Number(lost_usd(broken), 4),
            format!("{file}:{}", broken.line).into(),
        ]);
    }
    table
}

/// Dollars; nothing where prices are not known in them.
fn lost_usd(broken: &Broken) -> Option<f64> {
    Some(broken.lost_usd.dollars()).filter(|usd| *usd > 0.0 || broken.lost_tokens == 0)
}

fn log_json(breaks: &Breaks) -> Value {
    let kinds: serde_json::Map<_, _> = Kind::ALL
        .iter()
        .map(|kind| (kind.name().to_string(), json!(breaks.kinds.get(kind).unwrap_or(&0))))
        .collect();
    let broken = breaks.places.iter().map(|broken| {
        json!({
            "path": broken.path,
            "role": broken.role.map(|role| role.name()),
            "breaks": broken.count,
            "mean_depth_tokens": broken.depths / broken.count,
            "lost_tokens": broken.lost_tokens,
            "lost_usd": lost_usd(broken),
            "first_line": broken.line,
        })
    });
    json!({
        "form": breaks.log.kind.word(),
        "calls": breaks.log.calls.len(),
        "first_calls": breaks.first_calls,
        "kinds": kinds,
        "broken": broken.collect::<Vec<_>>(),
        "skipped": breaks.log.skipped.count,
        "notes": breaks.log.notes,
    })
}
