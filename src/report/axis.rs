//! Where the values of a column stand along an axis: lengths of time, rates, numbers, or just one after another.

use serde_json::Value;

use crate::report::figure::Axis;
use crate::units::{Span, round_to};

/// Values whose largest is so many times the smallest are spread by their logarithm.
const WIDE: f64 = 8.0;

/// How the values of a column are to be understood.
enum Kind {
    /// Lengths of time, in seconds.
    Times,
    /// Requests a minute.
    Rates,
    /// Plain numbers.
    Numbers,
}

/// The axis of some distinct values, in their order, with the position of each.
pub fn axis(label: &str, values: &[String]) -> (Axis, Vec<f64>) {
    let measured = [Kind::Times, Kind::Rates, Kind::Numbers].into_iter().find_map(|kind| {
        let numbers: Option<Vec<f64>> = values.iter().map(|value| kind.read(value)).collect();
        Some((kind, numbers.filter(|numbers| numbers.len() > 2)?))
    });
    match measured {
        Some((kind, numbers)) => numeric(label, values, &kind, &numbers),
        None => categories(label, values),
    }
}

impl Kind {
    fn read(&self, text: &str) -> Option<f64> {
        match self {
            Self::Times => {
                let span: Span = text.strip_prefix("every ").unwrap_or(text).parse().ok()?;
                (span != Span::UNLIMITED && text.bytes().any(|c| c.is_ascii_alphabetic()))
                    .then(|| span.seconds())
            }
            Self::Rates => {
                let (number, unit) = text.split_once('/')?;
                let a_minute = match unit.trim() {
                    "s" => 60.0,
                    "m" | "min" => 1.0,
                    "h" => 1.0 / 60.0,
                    "d" => 1.0 / 1440.0,
                    _ => return None,
                };
                number.trim().parse::<f64>().ok().map(|number| number * a_minute)
            }
            Self::Numbers => alone(text).parse().ok().filter(|number: &f64| number.is_finite()),
        }
    }

    fn unit(&self) -> &'static str {
        match self {
            Self::Rates => ", a minute",
            Self::Times | Self::Numbers => "",
        }
    }
}

fn categories(label: &str, values: &[String]) -> (Axis, Vec<f64>) {
    let positions: Vec<_> = (0..values.len()).map(|place| place as f64).collect();
    let ticks = positions.iter().copied().zip(values.iter().map(|value| readable(value))).collect();
    let range = (-0.5, values.len() as f64 - 0.5);
    (Axis { label: label.into(), categories: true, ticks, range }, positions)
}

/// A list as a person would say it; anything else as it is.
pub fn readable(value: &str) -> String {
    let list = |text: &str| match serde_json::from_str::<Vec<Value>>(text) {
        Ok(list) if list.is_empty() => Some("none".to_string()),
        Ok(list) => {
            let words =
                list.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_string));
            Some(words.collect::<Vec<_>>().join(" + "))
        }
        Err(_) => None,
    };
    list(value).unwrap_or_else(|| value.to_string())
}

/// The only item of a list of one; anything else as it is.
fn alone(value: &str) -> &str {
    let item = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    item.filter(|item| !item.contains(',')).unwrap_or(value)
}

fn numeric(label: &str, values: &[String], kind: &Kind, numbers: &[f64]) -> (Axis, Vec<f64>) {
    let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let most = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let spread = least > 0.0 && most / least >= WIDE;
    let place = |number: f64| if spread { libm::log2(number) } else { number };
    let positions: Vec<_> = numbers.iter().map(|number| place(*number)).collect();
    let (from, to) = (place(least), place(most));
    let room = if to > from { 0.04 * (to - from) } else { 0.5 };
    let mut ticks: Vec<_> =
        positions.iter().zip(values).map(|(at, value)| (*at, shown(kind, value))).collect();
    ticks.sort_by(|a, b| a.0.total_cmp(&b.0));
    let gap = 0.058 * (to - from);
    // Labels that would stand on each other are left out; the points stay where they are.
    let mut kept: Vec<(f64, String)> = Vec::new();
    for tick in ticks {
        if kept.last().is_none_or(|last| tick.0 - last.0 >= gap) {
            kept.push(tick);
        }
    }
    // A rate that is written as a gap is one.
    let label = match values.iter().all(|value| value.starts_with("every ")) {
        true => "gap between calls".to_string(),
        false => format!("{label}{}", kind.unit()),
    };
    (Axis { label, categories: false, ticks: kept, range: (from - room, to + room) }, positions)
}

fn shown(kind: &Kind, value: &str) -> String {
    match kind {
        Kind::Times => value.strip_prefix("every ").unwrap_or(value).to_string(),
        Kind::Rates => value.split('/').next().unwrap_or(value).trim().to_string(),
        Kind::Numbers => alone(value).to_string(),
    }
}

/// Round numbers from about the first to about the last, at most so many steps apart.
pub fn round_steps(from: f64, to: f64, most: usize) -> Vec<f64> {
    let width = (to - from).max(f64::MIN_POSITIVE);
    let rough = width / most.max(1) as f64;
    let power = libm::pow(10.0, libm::floor(libm::log10(rough)));
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let first = libm::ceil(from / step - 1e-9);
    let at = |n: usize| round_to((first + n as f64) * step, 9);
    (0..=most + 1).map(at).take_while(|at| *at <= to + 1e-9 * width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> (Axis, Vec<f64>) {
        axis("x", &values.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn times_rates_and_numbers_stand_where_they_belong() {
        let (times, at) = of(&["every 10s", "every 1m", "every 1h"]);
        assert_eq!(times.label, "gap between calls");
        assert!(!times.categories && at[0] < at[1] && at[2] > 11.8 && times.ticks[0].1 == "10s");
        let (rates, at) = of(&["30/min", "1/s", "6/h"]);
        assert_eq!((rates.label.as_str(), rates.ticks[0].1.as_str()), ("x, a minute", "6"));
        assert!(at[1] > at[0] && at[0] > at[2]);
        let (lists, at) = of(&["[2]", "[4]", "[32]"]);
        assert!(!lists.categories && at == [1.0, 2.0, 5.0] && lists.ticks[2].1 == "32");
        let (numbers, at) = of(&["0", "0.5", "1"]);
        assert!(!numbers.categories && at == [0.0, 0.5, 1.0]);
    }

    #[test]
    fn anything_else_stands_in_line() {
        for values in [["home", "pool", "3"], ["5m", "unlimited", "1h"]] {
            let (words, at) = of(&values);
            assert!(words.categories && at == [0.0, 1.0, 2.0]);
        }
    }

    #[test]
    fn lists_are_read_as_words() {
        let said =
            [("[]", "none"), ("[\"a\", \"b\"]", "a + b"), ("[2, 3]", "2 + 3"), ("[x", "[x"), ("a", "a")];
        assert!(said.iter().all(|(value, words)| readable(value) == *words));
    }

    #[test]
    fn steps_are_round() {
        assert_eq!(round_steps(0.93, 0.98, 5), [0.93, 0.94, 0.95, 0.96, 0.97, 0.98]);
        assert_eq!(round_steps(0.0, 2600.0, 5), [0.0, 1000.0, 2000.0]);
    }
}
