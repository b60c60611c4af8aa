//! A line of bars, one for each value: the shape of numbers at a glance.

use std::collections::{BTreeMap, BTreeSet};

use toml::Value;

use crate::cli::output::{Field, Format, Table, console_width, sentences};
use crate::cli::sweep::axis_names;
use crate::error::Result;
use crate::experiment::choices::Choice;
use crate::experiment::metrics::{Row, summarize};
use crate::experiment::recommend::Card;
use crate::experiment::statistics::Estimate;
use crate::experiment::sweep::{CellRows, Outline};
use crate::experiment::tables::plain;
use crate::simulation::outcome::Cause;
use crate::units::{Rate, Span};

/// Bars of eight heights.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The values between `low` and `high` as bars; a missing one is a space.
pub fn sparkline(values: &[Option<f64>], low: f64, high: f64) -> String {
    let bar = |value: &Option<f64>| match value {
        None => ' ',
        // Without a difference there is no shape.
        Some(_) if high <= low => BARS[3],
        Some(value) => {
            let height = ((value - low) / (high - low) * 8.0).floor();
            BARS[height.clamp(0.0, 7.0) as usize]
        }
    };
    values.iter().map(bar).collect()
}

/// Columns of the longest bar.
const WIDEST: usize = 40;

/// What became of all prompt tokens, in bars: those read from the cache, and the others by cause, as far as there are
/// any; `None` where nothing is attributed.
pub fn what_became(rows: &[&Row]) -> Option<String> {
    let mean = |name: &str| summarize(rows, name).map_or(0.0, |estimate| estimate.mean);
    let prompts = mean("prompt_tokens");
    let lost = Cause::ALL
        .map(|cause| (cause.name().replace('_', " "), mean(&format!("lost_{}_tokens", cause.name()))));
    if prompts <= 0.0 || lost.iter().all(|(_, tokens)| *tokens == 0.0) {
        return None;
    }
    let all = [("read from the cache".to_string(), mean("cached_tokens"))].into_iter().chain(lost);
    let some: Vec<_> = all.filter(|(_, tokens)| *tokens > 0.0).collect();
    let names = some.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    // Beside it stand the names, a share and some room.
    let widest = console_width().map_or(WIDEST, |width| width.saturating_sub(names + 14).clamp(8, WIDEST));
    let line = |(name, tokens): &(String, f64)| {
        let share = tokens / prompts;
        format!(" {name:names$}  {:5.1} %  {}\n", share * 100.0, bar(share * widest as f64))
    };
    Some(format!(
        "Of all prompt tokens, uncached ones by cause:\n{}",
        some.iter().map(line).collect::<String>()
    ))
}

/// A bar of so many columns, to an eighth of one; never nothing.
fn bar(columns: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = ((columns * 8.0).round() as usize).max(1);
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

/// What is drawn of a sweep: a metric, its name in a table, what it is multiplied by, its decimal places, and the
/// difference below which there is nothing to see (nor below the widest half of an interval).
const DRAWN: [(&str, &str, f64, usize, f64); 2] =
    [("token_hit_ratio", "token_hit_ratio", 1.0, 4, 0.001), ("ttft_p95_ms", "ttft_p95_s", 1e-3, 2, 0.01)];

/// An axis with fewer values has no shape.
const LEAST_VALUES: usize = 4;

/// Cells of a sweep that differ along one axis only, in the order of its values.
struct Group {
    /// The values of the other axes.
    others: Vec<Field>,
    cells: Vec<usize>,
}

/// How the main numbers of a sweep go along its longest axis of numbers, one line for each of the other values; `None`
/// if no axis has a shape, or nothing changes along it.
pub fn along_axis(outline: &Outline, rows: &dyn CellRows) -> Result<Option<String>> {
    let Some(axis) = longest_axis(outline) else { return Ok(None) };
    let groups = groups(outline, axis);
    let names = axis_names(outline);
    let mut header: Vec<String> =
        (0..names.len()).filter(|other| *other != axis).map(|o| names[o].clone()).collect();
    let mut lines: Vec<Vec<Field>> = groups.iter().map(|group| group.others.clone()).collect();
    let mut ranges = Vec::new();
    for (metric, name, scale, places, difference) in DRAWN {
        let summary = |cell: &usize| {
            let of_cell = rows.of_cell(*cell)?;
            let summary = summarize(&of_cell.iter().collect::<Vec<_>>(), metric);
            Ok(summary.map(|estimate| estimate.scaled(scale)))
        };
        let summaries = |group: &Group| group.cells.iter().map(summary).collect::<Result<Vec<_>>>();
        let drawn: Vec<_> = groups.iter().map(summaries).collect::<Result<_>>()?;
        let known = || drawn.iter().flatten().flatten();
        let (low, high) = ends(known().map(|estimate| estimate.mean));
        let unsure = known().filter_map(|estimate| estimate.half_width).fold(difference, f64::max);
        if high - low < unsure || low > high {
            continue;
        }
        header.push(name.into());
        for (line, drawn) in lines.iter_mut().zip(&drawn) {
            let means: Vec<_> = drawn.iter().map(|estimate| estimate.map(|estimate| estimate.mean)).collect();
            line.push(sparkline(&means, low, high).into());
        }
        let shown = name.replace('_', " ");
        ranges.push(format!("{shown} from {low:.places$} (▁) to {high:.places$} (█)"));
    }
    if ranges.is_empty() {
        return Ok(None);
    }
    let mut table = Table::new(header);
    lines.into_iter().for_each(|line| table.row(line));
    let cells = &groups[0].cells;
    let [from, to] = [cells[0], cells[cells.len() - 1]].map(|cell| plain(&outline.values(cell)[axis]));
    let words = format!("Along {}, from {from} to {to}: {}", outline.axes[axis], ranges.join(", "));
    Ok(Some(format!("{}\n{}", sentences(&words), table.render(Format::Table))))
}

/// The axis with the most values, of those whose values are numbers; the last of equals.
fn longest_axis(outline: &Outline) -> Option<usize> {
    let count = |axis: usize| {
        let values = outline.values_of(axis);
        let are_numbers = values.iter().all(|value| size(value).is_some());
        let count = values.iter().map(plain).collect::<BTreeSet<_>>().len();
        (are_numbers && count >= LEAST_VALUES).then_some(count)
    };
    let counts = (0..outline.axes.len()).filter_map(|axis| Some((count(axis)?, axis)));
    counts.max().map(|(_, axis)| axis)
}

/// The cells by the values of the other axes, as they come.
fn groups(outline: &Outline, axis: usize) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut known: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for index in 0..outline.cells() {
        let values = outline.values(index);
        let others = values.iter().enumerate().filter(|(other, _)| *other != axis);
        let others: Vec<String> = others.map(|(_, value)| plain(value)).collect();
        let group = *known.entry(others.clone()).or_insert_with(|| {
            groups.push(Group { others: others.into_iter().map(Field::from).collect(), cells: Vec::new() });
            groups.len() - 1
        });
        groups[group].cells.push(index);
    }
    let size = |cell: &usize| size(&outline.values(*cell)[axis]).unwrap_or(f64::NAN);
    groups.iter_mut().for_each(|group| group.cells.sort_by(|a, b| size(a).total_cmp(&size(b))));
    groups
}

/// The lowest and the highest of some values.
fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// The objective along the one path of numbers that is chosen from, its ends as `shown`; `None` if there is no shape.
pub fn along_choices(card: &Card, shown: impl Fn(Estimate) -> String) -> Option<String> {
    let number = |choice: &Choice| match choice.values.as_slice() {
        [Value::Integer(number)] => Some(*number),
        _ => None,
    };
    let mut along: Vec<(i64, Option<f64>)> = card
        .choices
        .iter()
        .zip(&card.own.standings)
        .filter_map(|(choice, standing)| Some((number(choice)?, standing.value.map(|value| value.mean))))
        .collect();
    along.sort_by_key(|(number, _)| *number);
    let values: Vec<_> = along.iter().map(|(_, value)| *value).collect();
    let (low, high) = ends(values.iter().copied().flatten());
    let (first, last) = (along.first()?.0, along.last()?.0);
    let [least, most] = [low, high].map(|value| shown(Estimate { mean: value, half_width: None }));
    (along.len() >= LEAST_VALUES && low < high).then(|| {
        format!(
            "{} along {} from {first} to {last}, between {least} (▁) and {most} (█):\n  {}",
            card.objective,
            card.paths[0],
            sparkline(&values, low, high)
        )
    })
}

/// A value of an axis as a number: a count, a share, a time, or a rate.
fn size(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number).filter(|number| number.is_finite()),
        Value::String(text) => {
            let span = text.parse::<Span>().ok().map(Span::seconds);
            span.or_else(|| text.parse::<Rate>().ok().map(|rate| rate.0))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_go_from_the_lowest_to_the_highest_value() {
        let values: Vec<_> = (0..8).map(|value| Some(f64::from(value))).collect();
        assert_eq!(sparkline(&values, 0.0, 7.0), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&[Some(1.0), None, Some(2.0)], 1.0, 2.0), "▁ █");
        assert_eq!(sparkline(&[Some(1.0), Some(1.0)], 1.0, 1.0), "▄▄");
        assert_eq!([2.5, 0.0, 1.125].map(bar), ["██▌", "▏", "█▏"]);
    }
}
