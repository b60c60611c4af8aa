//! Charts of what happened inside a run: the minutes of its keys, one machine, the fleet, one session.

use crate::report::figure::{Axis, Bar, BarPanel, Figure, Form, HeatPanel, Panel, Part, Series};
use crate::report::inside::OTHERS;
use crate::report::table::Table;
use crate::report::variants::{axes, lost_parts, row_name};

/// Marks along an axis of time.
const TICKS: usize = 6;

/// All charts of the insides; the summary names the cells, and `inside` says which were looked into.
pub fn figures(inside: &Table, summary: Option<&Table>, of: impl Fn(&str) -> Option<Table>) -> Vec<Figure> {
    let cells = Cells { inside, summary };
    let minutes = of("inside_minutes.csv").and_then(|table| cells.minutes(&table));
    let machine = of("inside_machine.csv").and_then(|table| cells.machine(&table));
    let fleet = of("inside_fleet.csv").and_then(|table| cells.fleet(&table));
    let calls = of("inside_calls.csv").and_then(|table| cells.calls(&table));
    [minutes, calls, fleet, machine].into_iter().flatten().collect()
}

struct Cells<'a> {
    inside: &'a Table,
    summary: Option<&'a Table>,
}

impl Cells<'_> {
    /// What a cell is called, and why it was looked into.
    fn title(&self, cell: &str) -> String {
        let why = (0..self.inside.rows.len()).find(|row| self.inside.named(*row, "cell") == cell);
        let why = why.map_or("", |row| self.inside.named(row, "why"));
        let name = self.summary.and_then(|summary| {
            let column = summary.column("cell")?;
            let row = (0..summary.rows.len()).find(|row| summary.text(*row, column) == cell)?;
            let axes = axes(summary);
            (!axes.is_empty()).then(|| row_name(summary, &axes, row))
        });
        match name {
            Some(name) if why.is_empty() => name,
            Some(name) => format!("{name} ({why})"),
            None => String::new(),
        }
    }

    fn limit(&self, cell: &str) -> Option<f64> {
        let row = (0..self.inside.rows.len()).find(|row| self.inside.named(*row, "cell") == cell)?;
        self.inside.named(row, "limit_rpm").parse().ok()
    }

    fn minutes(&self, table: &Table) -> Option<Figure> {
        let (cell, key, at, column) =
            (table.column("cell")?, table.column("key")?, table.column("at_s")?, table.column("peak_rpm")?);
        let time = Time::of(table, at);
        let panels = table.groups(&[cell]).into_iter().map(|(of, rows)| {
            let mut series: Vec<Series> = Vec::new();
            for row in rows {
                let name = table.text(row, key);
                let point = (row, time.place(table.number(row, at).unwrap_or(0.0)));
                match series.iter_mut().find(|known| known.name == name) {
                    Some(known) => known.points.push(point),
                    None => series.push(Series {
                        name: name.into(),
                        style: series.len(),
                        column,
                        ci: None,
                        points: vec![point],
                    }),
                }
            }
            let level = self.limit(&of[0]).map(|limit| (limit, "limit of the home machine".to_string()));
            Panel { title: self.title(&of[0]), series, level, published: Vec::new() }
        });
        Some(Figure {
            id: "minutes".into(),
            title: "Requests a minute of each key".into(),
            says: "The keys that are used most; each point is the busiest calendar minute of its stretch of time. Above the \
                   limit line, a home machine sends requests elsewhere."
                .into(),
            file: table.file.clone(),
            form: Form::Lines {
                x: time.axis.clone(),
                y: "requests a minute".into(),
                stepped: true,
                panels: panels.collect(),
            },
        })
    }

    fn machine(&self, table: &Table) -> Option<Figure> {
        let (cell, at, machine) = (table.column("cell")?, table.column("at_s")?, table.column("machine")?);
        let columns = [("in flight", table.column("in_flight")?), ("queued", table.column("queued")?)];
        let time = Time::of(table, at);
        let panels = table.groups(&[cell]).into_iter().map(|(of, rows)| {
            let series = columns.iter().enumerate().map(|(style, (name, column))| Series {
                name: name.to_string(),
                style,
                column: *column,
                ci: None,
                points: rows
                    .iter()
                    .map(|row| (*row, time.place(table.number(*row, at).unwrap_or(0.0))))
                    .collect(),
            });
            let place = format!("machine {}", rows.first().map_or("", |row| table.text(*row, machine)));
            let title = match self.title(&of[0]) {
                none if none.is_empty() => place,
                title => format!("{place}: {title}"),
            };
            Panel { title, series: series.collect(), level: None, published: Vec::new() }
        });
        Some(Figure {
            id: "machine".into(),
            title: "One machine: requests in flight and in its queue".into(),
            says: "The machine that is used most; the most at once in each stretch of time.".into(),
            file: table.file.clone(),
            form: Form::Lines {
                x: time.axis.clone(),
                y: "requests".into(),
                stepped: true,
                panels: panels.collect(),
            },
        })
    }

    fn fleet(&self, table: &Table) -> Option<Figure> {
        let (cell, key, machine, column) = (
            table.column("cell")?,
            table.column("key")?,
            table.column("machine")?,
            table.column("requests")?,
        );
        let panels = table.groups(&[cell]).into_iter().map(|(of, rows)| {
            let (mut across, mut down): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
            let mut cells = Vec::new();
            // All that are not shown one by one come last.
            let (others, ones): (Vec<_>, Vec<_>) =
                rows.iter().partition(|row| table.text(**row, machine) == OTHERS);
            for row in ones.into_iter().chain(others).copied() {
                let x = place_of(&mut across, table.text(row, machine));
                let y = place_of(&mut down, table.text(row, key));
                cells.push((row, x, y));
            }
            let axes = ("machine".to_string(), "key".to_string());
            HeatPanel { title: self.title(&of[0]), axes, across, down, cells }
        });
        Some(Figure {
            id: "fleet".into(),
            title: "The fleet: which key lives where".into(),
            says: "Requests of each key on each machine that served it. A key on many machines has to warm each of them."
                .into(),
            file: table.file.clone(),
            form: Form::Heat { y: "requests".into(), column, panels: panels.collect() },
        })
    }

    fn calls(&self, table: &Table) -> Option<Figure> {
        let cell = table.column("cell")?;
        let read = Part { column: table.column("cached_tokens")?, name: "read".into(), kind: "read".into() };
        let written = table.column("written_tokens")?;
        let mark = Some((vec![read.column, written], "written up to here".to_string()));
        let panels = table.groups(&[cell]).into_iter().map(|(of, rows)| {
            let name = rows.first().map_or("", |row| table.named(*row, "of")).to_string();
            let title = match self.title(&of[0]) {
                none if none.is_empty() => name,
                title => format!("{name}: {title}"),
            };
            let bars = rows.into_iter().map(|row| Bar {
                row,
                label: table.named(row, "call").into(),
                event: event(table, row),
            });
            BarPanel { title, x: "call".into(), bars: bars.collect() }
        });
        Some(Figure {
            id: "session".into(),
            title: "One session, call by call".into(),
            says: "Every bar is a prompt: what was read, then what was lost, by cause; the stroke shows how far it was written. \
                   Signs above the bars mark what changed, and overflow. Where every session is one call, it is those of the \
                   key that is used most."
                .into(),
            file: table.file.clone(),
            form: Form::Bars {
                y: "tokens".into(),
                shares: false,
                parts: [vec![read], lost_parts(table)].concat(),
                mark,
                panels: panels.collect(),
            },
        })
    }
}

fn place_of(known: &mut Vec<String>, name: &str) -> usize {
    known.iter().position(|other| other == name).unwrap_or_else(|| {
        known.push(name.to_string());
        known.len() - 1
    })
}

/// What happened at a call, in words.
fn event(table: &Table, row: usize) -> String {
    let is = |name: &str| table.named(row, name) == "1";
    let occasion = table.named(row, "occasion");
    let words = [
        table.named(row, "change"),
        if is("overflowed") { "overflow" } else { "" },
        if is("failed") { "failed" } else { "" },
        match occasion {
            "call" => "",
            other => other,
        },
    ];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ")
}

/// An axis of time since the start, in the unit that suits it.
struct Time {
    axis: Axis,
    unit: f64,
}

impl Time {
    fn of(table: &Table, column: usize) -> Self {
        let times = || (0..table.rows.len()).filter_map(|row| table.number(row, column));
        let (first, last) = (times().fold(f64::INFINITY, f64::min), times().fold(0.0, f64::max));
        let units = [("days", 86_400.0), ("h", 3_600.0), ("min", 60.0), ("s", 1.0)];
        let (name, unit) =
            units.into_iter().find(|(_, unit)| last - first >= 3.0 * unit).unwrap_or(("s", 1.0));
        // One stretch of time is a chart too.
        let (begin, end) =
            if last > first { (first / unit, last / unit) } else { (last / unit, last / unit + 1.0) };
        let ticks = crate::report::axis::round_steps(begin, end, TICKS);
        let ticks = ticks.into_iter().map(|at| (at, format!("{}", crate::units::round_to(at, 6)))).collect();
        let label = format!("time, {name}");
        Self { axis: Axis { label, categories: false, ticks, range: (begin, end) }, unit }
    }

    fn place(&self, seconds: f64) -> f64 {
        crate::units::round_to(seconds / self.unit, 6)
    }
}
