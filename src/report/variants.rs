//! Charts of the variants of a sweep: each metric along the axes, where the tokens went, and cost against latency.

use crate::experiment::tables::short_names;
use crate::report::axis::{axis, readable};
use crate::report::figure::{Axis, Bar, BarPanel, Figure, Form, Panel, Part, Published, Series};
use crate::report::table::Table;
use crate::simulation::outcome::Cause;

/// The metrics that are drawn along the axes: column, title, label, what to see in it.
const METRICS: [(&str, &str, &str, &str); 5] = [
    (
        "token_hit_ratio",
        "Token hit ratio",
        "token hit ratio",
        "The share of prompt tokens read from the cache: higher is better and cheaper. Whiskers are 95 % intervals over replications.",
    ),
    (
        "request_hit_ratio",
        "Request hit ratio",
        "request hit ratio",
        "The share of requests with cached tokens, however few. Whiskers are 95 % intervals over replications.",
    ),
    (
        "ttft_p95_ms",
        "Time to first token, 95th percentile",
        "ms",
        "Lower is better. Whiskers are 95 % intervals over replications.",
    ),
    (
        "total_p95_ms",
        "Time to the end of the answer, 95th percentile",
        "ms",
        "Lower is better. Whiskers are 95 % intervals over replications.",
    ),
    (
        "cost_usd",
        "Cost of the simulated time",
        "USD",
        "Lower is better. Whiskers are 95 % intervals over replications.",
    ),
];

/// The most series of one chart: more cannot be told apart.
const MOST_SERIES: usize = 8;

/// The most bars that lie in one chart.
const MOST_BARS: usize = 80;

/// The axes of a sweep, as its summary has them: the columns between the cell's number and the seeds.
pub fn axes(summary: &Table) -> Vec<usize> {
    let seeds = summary.column("seeds").unwrap_or(0);
    let first = usize::from(summary.column("cell") == Some(0));
    (first..seeds).collect()
}

/// The name of a row by the values of the axes in which rows differ, such as `home, buckets 4`.
pub fn row_name(table: &Table, axes: &[usize], row: usize) -> String {
    let paths: Vec<_> = axes.iter().map(|axis| table.columns[*axis].name.clone()).collect();
    let differ =
        short_names(&paths).into_iter().zip(axes).filter(|(_, axis)| table.distinct(**axis).len() > 1);
    let words: Vec<_> = differ.map(|(name, axis)| named(table, *axis, &name, row)).collect();
    if words.is_empty() { "as written".into() } else { words.join(", ") }
}

/// The value of an axis, with the axis's name where one of its values does not speak for itself.
fn named(table: &Table, axis: usize, name: &str, row: usize) -> String {
    let is_bare = |value: &String| {
        value.is_empty()
            || ["true", "false", "off", "none", "nothing", "always", "[]"].contains(&value.as_str())
            || value.starts_with(|c: char| c.is_ascii_digit() || c == '[' || c == '"')
    };
    let value = table.text(row, axis);
    if table.distinct(axis).iter().any(is_bare) {
        format!("{name} {}", readable(value))
    } else {
        readable(value)
    }
}

/// All charts of the variants; measurements of others are drawn over them.
pub fn figures(summary: &Table, measured: &[Table]) -> Vec<Figure> {
    let axes = axes(summary);
    let mut figures = Vec::new();
    if summary.rows.len() > 1 && !axes.is_empty() {
        let layout = Layout::new(summary, &axes);
        let drawn = METRICS.iter().filter_map(|metric| layout.metric(summary, metric, measured));
        figures.extend(drawn);
    }
    figures.extend(waterfall(summary, &axes));
    figures.extend(losses(summary, &axes));
    figures.extend(front(summary, &axes));
    figures
}

/// Which axis lies along a chart, which is told by colour, and which by panels.
struct Layout {
    along: (Axis, Vec<(String, f64)>, usize),
    colour: Option<usize>,
    colours: Vec<String>,
    panels: Vec<(String, Vec<usize>)>,
}

impl Layout {
    fn new(table: &Table, axes: &[usize]) -> Self {
        let values: Vec<Vec<String>> = axes.iter().map(|axis| table.distinct(*axis)).collect();
        let is_measured = |place: &usize| {
            let (axis, _) = axis("", &values[*place]);
            !axis.categories
        };
        let places = 0..axes.len();
        // The last of the largest: it is the axis that the file's author turned fastest.
        let largest = |of: Vec<usize>| of.into_iter().max_by_key(|place| values[*place].len());
        let along = largest(places.clone().filter(is_measured).collect())
            .or_else(|| largest(places.clone().collect()));
        let along = along.expect("there is an axis");
        let rest: Vec<_> = places.filter(|place| *place != along && values[*place].len() > 1).collect();
        let colour =
            largest(rest.iter().copied().filter(|place| values[*place].len() <= MOST_SERIES).collect());
        let beside: Vec<_> = rest.into_iter().filter(|place| Some(*place) != colour).collect();
        let paths: Vec<_> = axes.iter().map(|axis| table.columns[*axis].name.clone()).collect();
        let names = short_names(&paths);
        let label = match paths[along].strip_prefix("provider.retention.lifetime.") {
            Some(_) => "idle lifetime",
            None => &names[along],
        };
        let (scale, positions) = axis(label, &values[along]);
        let columns: Vec<_> = beside.iter().map(|place| axes[*place]).collect();
        let panels = table.groups(&columns).into_iter().map(|(_, rows)| {
            let words = beside.iter().map(|place| named(table, axes[*place], &names[*place], rows[0]));
            (words.collect::<Vec<_>>().join(", "), rows)
        });
        Self {
            along: (scale, values[along].iter().cloned().zip(positions).collect(), axes[along]),
            colour: colour.map(|place| axes[place]),
            colours: colour.map_or(Vec::new(), |place| values[place].clone()),
            panels: panels.collect(),
        }
    }

    fn place(&self, value: &str) -> Option<f64> {
        self.along.1.iter().find(|(known, _)| known == value).map(|(_, place)| *place)
    }

    /// Number and name of the series of a row.
    fn series(&self, table: &Table, row: usize) -> (usize, String) {
        let Some(colour) = self.colour else { return (0, String::new()) };
        let value = table.text(row, colour);
        let style = self.colours.iter().position(|known| known == value).unwrap_or(0);
        let name = table.columns[colour].name.rsplit('.').next().unwrap_or_default();
        (style, named(table, colour, name, row))
    }

    fn metric(
        &self,
        table: &Table,
        (name, title, y, says): &(&str, &str, &str, &str),
        measured: &[Table],
    ) -> Option<Figure> {
        let column = table.column(name)?;
        // What is zero everywhere (a cost without a price) is no chart.
        (0..table.rows.len()).find(|row| table.number(*row, column).is_some_and(|number| number != 0.0))?;
        let panels = self.panels.iter().map(|(title, rows)| {
            let mut series: Vec<Series> = Vec::new();
            for row in rows {
                let Some(x) = self.place(table.text(*row, self.along.2)) else { continue };
                if table.number(*row, column).is_none() {
                    continue;
                }
                let (style, name) = self.series(table, *row);
                match series.iter_mut().find(|known| known.style == style) {
                    Some(known) => known.points.push((*row, x)),
                    None => series.push(Series {
                        name,
                        style,
                        column,
                        ci: table.columns[column].ci,
                        points: vec![(*row, x)],
                    }),
                }
            }
            for one in &mut series {
                one.points.sort_by(|a, b| a.1.total_cmp(&b.1));
            }
            let published = measured.iter().flat_map(|measured| self.published(table, rows, measured, name));
            Panel { title: title.clone(), series, level: None, published: published.collect() }
        });
        let panels: Vec<_> = panels.filter(|panel| !panel.series.is_empty()).collect();
        Some(Figure {
            id: name.trim_end_matches("_ms").trim_end_matches("_usd").into(),
            title: format!("{title} against {}", self.along.0.label),
            says: says.to_string(),
            file: table.file.clone(),
            form: Form::Lines { x: self.along.0.clone(), y: y.to_string(), stepped: false, panels },
        })
    }

    /// The measurements of others that stand in a panel: rows that agree with one of its rows in every axis they name.
    fn published(&self, table: &Table, rows: &[usize], measured: &Table, metric: &str) -> Vec<Published> {
        let Some(column) = measured.column(metric) else { return Vec::new() };
        let shared: Vec<_> = measured
            .columns
            .iter()
            .enumerate()
            .filter_map(|(at, known)| {
                Some((at, table.column(&known.name).filter(|_| known.name.contains('.'))?))
            })
            .collect();
        if shared.is_empty() {
            return Vec::new();
        }
        // What was measured of no certain series is of none.
        let is_of_series = self.colour.is_none_or(|colour| shared.iter().any(|(_, there)| *there == colour));
        let point = |number: usize| {
            let fits = |row: &&usize| {
                shared.iter().all(|(here, there)| measured.text(number, *here) == table.text(**row, *there))
            };
            let row = *rows.iter().find(fits)?;
            let x = self.place(table.text(row, self.along.2))?;
            let style = is_of_series.then(|| self.series(table, row).0);
            let words: Vec<_> = shared.iter().map(|(here, _)| measured.text(number, *here)).collect();
            let name = format!("measured, {} ({})", words.join(", "), measured.file);
            Some(Published { style, x, y: measured.number(number, column)?, name })
        };
        (0..measured.rows.len()).filter_map(point).collect()
    }
}

/// The causes of losses that a table knows of, with their columns; those that lost nothing anywhere are left out.
pub fn lost_parts(table: &Table) -> Vec<Part> {
    let part = |cause: &Cause| {
        let column = table.column(&format!("lost_{}_tokens", cause.name()))?;
        let lost_some =
            (0..table.rows.len()).any(|row| table.number(row, column).is_some_and(|lost| lost > 0.0));
        let name = cause.name().replace('_', " ");
        lost_some.then(|| Part { column, name, kind: cause.name().into() })
    };
    Cause::ALL.iter().filter_map(part).collect()
}

fn read_part(table: &Table, name: &str) -> Option<Part> {
    Some(Part { column: table.column("cached_tokens")?, name: name.into(), kind: "read".into() })
}

fn waterfall(table: &Table, axes: &[usize]) -> Option<Figure> {
    let all =
        Part { column: table.column("prompt_tokens")?, name: "all prompt tokens".into(), kind: "all".into() };
    let lost = lost_parts(table);
    let read = read_part(table, "read from the cache")?;
    let rows = (0..table.rows.len()).map(|row| (row, row_name(table, axes, row))).collect();
    let steps = if lost.is_empty() { return None } else { [vec![all], lost, vec![read]].concat() };
    Some(Figure {
        id: "waterfall".into(),
        title: "Loss waterfall: from every prompt token to those that were read".into(),
        says: "Each step is a cause, in the order in which tokens are lost: what is new was never sent before, the rest could have \
               been read. What is left at the end is the token hit ratio."
            .into(),
        file: table.file.clone(),
        form: Form::Waterfall { y: "tokens".into(), steps, rows },
    })
}

fn losses(table: &Table, axes: &[usize]) -> Option<Figure> {
    if table.rows.len() < 2 {
        return None;
    }
    let parts: Vec<_> = read_part(table, "read").into_iter().chain(lost_parts(table)).collect();
    if parts.len() < 2 {
        return None;
    }
    let bars = (0..table.rows.len().min(MOST_BARS)).map(|row| Bar {
        row,
        label: row_name(table, axes, row),
        event: String::new(),
    });
    let panels = vec![BarPanel { title: String::new(), x: String::new(), bars: bars.collect() }];
    Some(Figure {
        id: "losses".into(),
        title: "Where the prompt tokens went".into(),
        says: "Every bar is all prompt tokens of a variant: what was read, then what was lost, by cause."
            .into(),
        file: table.file.clone(),
        form: Form::Bars { y: "share of prompt tokens".into(), shares: true, parts, mark: None, panels },
    })
}

fn front(table: &Table, axes: &[usize]) -> Option<Figure> {
    let (x, y) = (table.column("cost_usd")?, table.column("ttft_p95_ms")?);
    let is_there =
        |row: &usize| table.number(*row, x).is_some_and(|cost| cost > 0.0) && table.number(*row, y).is_some();
    let rows: Vec<_> =
        (0..table.rows.len()).filter(is_there).map(|row| (row, row_name(table, axes, row))).collect();
    (rows.len() > 1).then(|| Figure {
        id: "front".into(),
        title: "Cost against time to first token".into(),
        says: "Down and to the left is better. The line joins the variants that no other beats in both."
            .into(),
        file: table.file.clone(),
        form: Form::Front {
            x: "cost, USD".into(),
            x_column: (x, table.columns[x].ci),
            y: "ttft p95, ms".into(),
            y_column: (y, table.columns[y].ci),
            rows,
            recommended: None,
        },
    })
}
