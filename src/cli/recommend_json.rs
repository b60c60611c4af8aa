//! A recommendation as JSON: the answer first, then every choice under every provider.

use serde_json::{Map, Value, json};

use crate::cli::output::{Table, estimate_json, number_json, value_json};
use crate::experiment::objective::Unit;
use crate::experiment::recommend::{Card, Formulas};
use crate::experiment::scenario::Loaded;

/// The whole answer; `choices` has a row for each choice under each provider.
pub fn of(card: &Card, loaded: &Loaded, choices: &Table) -> Value {
    let provider = &loaded.scenario.provider;
    let choice = |choice: usize| values(card, choice);
    let as_good = (0..card.choices.len()).filter(|choice| card.own.is_as_good(*choice));
    let (played, exhaustive) = card.runs;
    json!({
        "profile": provider.profile,
        "model": provider.model,
        "objective": card.objective.to_string(),
        "unit": unit(card.objective.unit()),
        "formulas": card.formulas.map(formulas),
        "recommended": card.recommended().map(|index| standing(card, index)),
        "runner_up": card.runner_up().map(|index| standing(card, index)),
        "as_good_within": number_json(card.own.indifference),
        "as_good": as_good.map(choice).collect::<Vec<_>>(),
        "least_worst_regret": card.least_worst().map(|index| standing(card, index)),
        "least_mean_regret": card.least_mean().map(|index| standing(card, index)),
        "hopeless": card.is_hopeless(),
        "providers": card.members.iter().map(|(member, _)| &member.name).collect::<Vec<_>>(),
        "runs": { "played": played, "exhaustive": exhaustive },
        "choices": choices.objects(),
    })
}

/// In what the objective and regrets are counted.
fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Share => "share",
        Unit::UsdPerDay => "usd",
        Unit::Seconds => "s",
        Unit::Relative => "relative",
    }
}

fn formulas(formulas: Formulas) -> Value {
    let Formulas { rpm, limit_rpm, limited, minimum_buckets, recommended_buckets } = formulas;
    json!({
        "requests_per_minute": number_json(rpm),
        "limit_rpm": limit_rpm,
        "limited": limited,
        "minimum_buckets": minimum_buckets,
        "recommended_buckets": recommended_buckets,
    })
}

/// The values of a choice by their paths; none for the scenario as it is written.
fn values(card: &Card, choice: usize) -> Value {
    let values = card.paths.iter().zip(&card.choices[choice].values);
    values.map(|(path, value)| (path.to_string(), value_json(value))).collect::<Map<_, _>>().into()
}

/// A choice with how it stands; a regret is null where it breaks a constraint that others keep.
fn standing(card: &Card, choice: usize) -> Value {
    let (regret, under) = card.worst_regret(choice);
    let finite = |regret: f64| Some(regret).filter(|regret| regret.is_finite()).map(number_json);
    let standing = &card.own.standings[choice];
    json!({
        "choice": values(card, choice),
        "objective": standing.value.map(estimate_json),
        "behind_best": standing.behind.map(estimate_json),
        "worst_regret": finite(regret),
        "worst_under": under,
        "mean_regret": finite(card.mean_regret(choice)),
    })
}
