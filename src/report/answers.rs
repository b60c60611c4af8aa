//! Charts of a recommendation, of a fit, and of what an average over an unknown lifetime came to.

use crate::report::axis::axis;
use crate::report::figure::{Figure, Form, HeatPanel, Panel, Series};
use crate::report::table::Table;

/// The rivals whose checks are drawn.
const MOST_PANELS: usize = 12;

/// The rivals of one chart: more cannot be told apart.
const MOST_SERIES: usize = 8;

/// The columns of a recommendation that say what was chosen: those between the provider and the seeds.
pub fn chosen(choices: &Table) -> Vec<usize> {
    (1..choices.column("seeds").unwrap_or(1)).collect()
}

/// The charts of a recommendation: the objective, what is lost under each provider, and cost against latency.
pub fn recommendation(choices: &Table) -> Vec<Figure> {
    let Some(provider) = choices.column("provider") else { return Vec::new() };
    let paths = chosen(choices);
    if paths.is_empty() {
        return Vec::new();
    }
    let own = choices.text(0, provider).to_string();
    let own: Vec<_> = (0..choices.rows.len()).filter(|row| choices.text(*row, provider) == own).collect();
    [objective(choices, &own), regret(choices, provider), front(choices, &own)]
        .into_iter()
        .flatten()
        .collect()
}

/// What was chosen in a row.
pub fn choice_name(choices: &Table, row: usize) -> String {
    let paths = chosen(choices);
    if paths.len() == 1 {
        let name = &choices.columns[paths[0]].name;
        return format!("{} {}", name.rsplit('.').next().unwrap_or(name), choices.text(row, paths[0]));
    }
    paths.iter().map(|path| choices.text(row, *path)).collect::<Vec<_>>().join(", ")
}

fn objective(choices: &Table, own: &[usize]) -> Option<Figure> {
    let column = choices.column("objective")?;
    let paths = chosen(choices);
    let names: Vec<_> = if paths.len() == 1 {
        own.iter().map(|row| choices.text(*row, paths[0]).to_string()).collect()
    } else {
        own.iter().map(|row| choice_name(choices, *row)).collect()
    };
    let label = if paths.len() == 1 { choices.columns[paths[0]].name.as_str() } else { "choice" };
    let (x, at) = axis(label, &names);
    let points =
        own.iter().copied().zip(at).filter(|(row, _)| choices.number(*row, column).is_some()).collect();
    let series = Series { name: String::new(), style: 0, column, ci: choices.columns[column].ci, points };
    Some(Figure {
        id: "objective".into(),
        title: format!("The objective against {}", x.label),
        says: "Under the provider as the scenario has it. Whiskers are 95 % intervals over replications."
            .into(),
        file: choices.file.clone(),
        form: Form::Lines {
            x,
            y: "objective".into(),
            stepped: false,
            panels: vec![Panel { series: vec![series], ..Panel::default() }],
        },
    })
}

fn regret(choices: &Table, provider: usize) -> Option<Figure> {
    let column = choices.column("regret")?;
    let down = choices.distinct(provider);
    let mut across: Vec<String> = Vec::new();
    let mut cells = Vec::new();
    for row in 0..choices.rows.len() {
        let name = choice_name(choices, row);
        let x = across.iter().position(|known| *known == name).unwrap_or_else(|| {
            across.push(name);
            across.len() - 1
        });
        let y = down.iter().position(|known| known == choices.text(row, provider)).unwrap_or(0);
        if choices.number(row, column).is_some() {
            cells.push((row, x, y));
        }
    }
    let paths = chosen(choices);
    let axis = if paths.len() == 1 { choices.columns[paths[0]].name.clone() } else { "choice".into() };
    if paths.len() == 1 {
        across =
            across.into_iter().map(|name| name.rsplit(' ').next().unwrap_or_default().to_string()).collect();
    }
    Some(Figure {
        id: "regret".into(),
        title: "What each choice loses if the provider is another".into(),
        says: "Regret: how far a choice lies behind the best one under that provider, in the objective's unit. Pale is good."
            .into(),
        file: choices.file.clone(),
        form: Form::Heat {
            y: "regret".into(),
            column,
            panels: vec![HeatPanel { title: String::new(), axes: (axis, "provider".into()), across, down, cells }],
        },
    })
}

fn front(choices: &Table, own: &[usize]) -> Option<Figure> {
    let (x, y) = (choices.column("usd_per_day")?, choices.column("ttft_p95_s")?);
    let rows: Vec<_> = own
        .iter()
        .filter(|row| choices.number(**row, x).is_some() && choices.number(**row, y).is_some())
        .map(|row| (*row, choice_name(choices, *row)))
        .collect();
    let is_recommended =
        |row: &&usize| choices.named(**row, "note").split(", ").any(|word| word == "recommended");
    (rows.len() > 1).then(|| Figure {
        id: "front".into(),
        title: "Cost against time to first token".into(),
        says: "Down and to the left is better. The line joins the choices that no other beats in both; the ring is the \
               recommended one."
            .into(),
        file: choices.file.clone(),
        form: Form::Front {
            x: "cost, USD a day".into(),
            x_column: (x, choices.columns[x].ci),
            y: "ttft p95, s".into(),
            y_column: (y, choices.columns[y].ci),
            rows,
            recommended: own.iter().find(is_recommended).copied(),
        },
    })
}

/// How plausible the values of each parameter are under each rival: one chart for each parameter that makes a difference.
pub fn posteriors(parameters: &Table) -> Vec<Figure> {
    let column = |name: &str| parameters.column(name);
    let (Some(p), Some(value), Some(rival), Some(path)) =
        (column("p"), column("value"), column("rival"), column("path"))
    else {
        return Vec::new();
    };
    // A parameter that makes no difference, or of which one value was tried, tells nothing.
    let tells = |rows: &Vec<usize>| {
        rows.len() > 1 && rows.iter().all(|row| parameters.named(*row, "makes_a_difference") != "no")
    };
    let groups: Vec<_> =
        parameters.groups(&[path, rival]).into_iter().filter(|(_, rows)| tells(rows)).collect();
    let mut paths: Vec<&String> = groups.iter().map(|(key, _)| &key[0]).collect();
    paths.dedup();
    paths.sort();
    paths.dedup();
    let figure = |of: &&String| {
        let groups: Vec<_> = groups.iter().filter(|(key, _)| key[0] == **of).take(MOST_SERIES).collect();
        let mut values: Vec<String> = Vec::new();
        for row in groups.iter().flat_map(|(_, rows)| rows) {
            let text = parameters.text(*row, value);
            if !values.iter().any(|known| known == text) {
                values.push(text.to_string());
            }
        }
        let (x, at) = axis(of, &values);
        let series = groups.iter().enumerate().map(|(style, (key, rows))| {
            let place = |row: usize| values.iter().position(|known| known == parameters.text(row, value));
            let mut points: Vec<_> = rows.iter().filter_map(|row| Some((*row, at[place(*row)?]))).collect();
            points.sort_by(|a, b| a.1.total_cmp(&b.1));
            Series { name: key[1].clone(), style, column: p, ci: None, points }
        });
        let level = Some((0.05, "rejected below".into()));
        let panel = Panel { series: series.collect(), level, ..Panel::default() };
        let last = of.rsplit('.').next().unwrap_or_default();
        Figure {
            id: format!("posterior_{}", plain_name(last)),
            title: format!("Which values of {of} the observations allow"),
            says: "The p-value of every value that was tried, at the best of the other values. Those above 0.05 are the \
                   95 % set of a rival. Rivals that say the same lie on each other: filter to see one."
                .into(),
            file: parameters.file.clone(),
            form: Form::Lines { x, y: "p-value".into(), stepped: false, panels: vec![panel] },
        }
    };
    paths.iter().map(figure).collect()
}

/// What can stand in the name of a file, of whatever a name is made of.
fn plain_name(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .take(40)
        .collect()
}

/// What was observed within what the best rivals simulate.
pub fn checks(checks: &Table) -> Option<Figure> {
    let column = |name: &str| checks.column(name);
    let columns =
        [column("simulated_p05")?, column("simulated_p50")?, column("simulated_p95")?, column("observed")?];
    let groups = checks.groups(&[column("rival")?]);
    let panels = groups.into_iter().take(MOST_PANELS).map(|(key, rows)| {
        let name = |row: usize| format!("{}, {}", checks.named(row, "cell"), checks.named(row, "summary"));
        (key[0].clone(), rows.into_iter().map(|row| (row, name(row))).collect())
    });
    Some(Figure {
        id: "checks".into(),
        title: "Predictive checks: what was observed within what was simulated".into(),
        says: "Every row has a scale of its own: the bar is the middle 90 % of what was simulated, its stroke the median, the \
               mark the observation. A mark outside of its bar speaks against the rival."
            .into(),
        file: checks.file.clone(),
        form: Form::Ranges { columns, panels: panels.collect() },
    })
}

/// The mean over an unknown lifetime.
pub fn unknown_lifetime(table: &Table) -> Option<Figure> {
    let column = table.column("token_hit_ratio")?;
    let last = table.column("lifetimes")?.checked_sub(1)?;
    let (x, at) = axis(&table.columns[last].name, &table.distinct(last));
    let place = |row: usize| table.distinct(last).iter().position(|known| known == table.text(row, last));
    let points = (0..table.rows.len()).filter_map(|row| Some((row, at[place(row)?]))).collect();
    let series = Series { name: String::new(), style: 0, column, ci: table.columns[column].ci, points };
    Some(Figure {
        id: "lifetime_unknown".into(),
        title: "What to expect if the lifetime is not known".into(),
        says: "Token hit ratio as the mean over a constant lifetime anywhere from 5 to 60 minutes.".into(),
        file: table.file.clone(),
        form: Form::Lines {
            x,
            y: "token hit ratio".into(),
            stepped: false,
            panels: vec![Panel { series: vec![series], ..Panel::default() }],
        },
    })
}
