//! Parts of a whole: bars that lie, bars that stand, and the waterfall from a whole to what is left of it.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::report::draw::lines::{ink, pixel};
use crate::report::draw::{Area, Chart, Drawn, Scale, chart, colour, shown, small};
use crate::report::figure::{BarPanel, Part};
use crate::report::table::Table;

/// Room of a bar that it does not fill, as a share of it, at each side.
const AIR: f64 = 0.14;

/// Everything the small charts of a figure have in common.
pub struct Bars<'a> {
    table: &'a Table,
    y: &'a str,
    shares: bool,
    parts: &'a [Part],
    mark: Option<&'a (Vec<usize>, String)>,
}

impl<'a> Bars<'a> {
    pub fn new(
        table: &'a Table,
        y: &'a str,
        shares: bool,
        parts: &'a [Part],
        mark: Option<&'a (Vec<usize>, String)>,
    ) -> Self {
        Self { table, y, shares, parts, mark }
    }

    fn whole(&self, row: usize) -> f64 {
        self.parts.iter().filter_map(|part| self.table.number(row, part.column)).sum()
    }

    pub fn draw(&self, area: &Area<'_>, panel: &BarPanel) -> Drawn {
        if self.shares { self.lying(area, panel) } else { self.standing(area, panel) }
    }

    fn lying(&self, area: &Area<'_>, panel: &BarPanel) -> Drawn {
        let ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0].map(|at| (at, format!("{at}"))).to_vec();
        let x = Scale { from: 0.0, to: 1.0, ticks };
        let names = Scale::down(panel.bars.iter().map(|bar| bar.label.clone()));
        let chart = chart(area, &x, &names, (self.y, ""))?;
        let plane = chart.plotting_area().strip_coord_spec();
        for (at, bar) in panel.bars.iter().enumerate() {
            let (whole, mut begin) = (self.whole(bar.row).max(f64::MIN_POSITIVE), 0.0);
            for part in self.parts {
                let end = begin + self.table.number(bar.row, part.column).unwrap_or(0.0) / whole;
                let at = at as f64;
                block(&plane, &chart, (begin, at - 0.5 + AIR), (end, at + 0.5 - AIR), &part.kind)?;
                begin = end;
            }
        }
        Ok(())
    }

    fn standing(&self, area: &Area<'_>, panel: &BarPanel) -> Drawn {
        let y = Scale::of(panel.bars.iter().map(|bar| self.whole(bar.row)), true, 5);
        let every = panel.bars.len().div_ceil(10).max(1);
        let labelled = panel.bars.iter().enumerate().step_by(every);
        let ticks = labelled.map(|(at, bar)| (at as f64, bar.label.clone())).collect();
        let x = Scale { from: -0.5, to: panel.bars.len() as f64 - 0.5, ticks };
        let chart = chart(area, &x, &y, (&panel.x, self.y))?;
        let plane = chart.plotting_area().strip_coord_spec();
        for (at, bar) in panel.bars.iter().enumerate() {
            let (left, right) = (at as f64 - 0.5 + AIR, at as f64 + 0.5 - AIR);
            let mut begin = 0.0;
            for part in self.parts {
                let end = begin + self.table.number(bar.row, part.column).unwrap_or(0.0);
                block(&plane, &chart, (left, begin), (right, end), &part.kind)?;
                begin = end;
            }
            if let Some((columns, _)) = self.mark {
                let height =
                    columns.iter().filter_map(|column| self.table.number(bar.row, *column)).sum::<f64>();
                ink(&plane, pixel(&chart, (left, height)), pixel(&chart, (right, height)), 2)?;
            }
            if !bar.event.is_empty() {
                let (x, y) = pixel(&chart, (at as f64, begin));
                plane.draw(&Text::new("▾", (x, y - 7), small(HPos::Center)))?;
            }
        }
        Ok(())
    }
}

/// A rectangle between two points of a chart.
fn block(plane: &Area<'_>, chart: &Chart<'_, '_>, from: (f64, f64), to: (f64, f64), kind: &str) -> Drawn {
    let (a, b) = (pixel(chart, from), pixel(chart, to));
    // What is less than a pixel is not drawn.
    if a.0 == b.0 || a.1 == b.1 {
        return Ok(());
    }
    plane.draw(&Rectangle::new([a, b], colour(kind).filled()))
}

/// The steps of a row that are not nothing: what is left before and behind each, and the step.
pub fn steps_of<'a>(table: &Table, steps: &'a [Part], row: usize) -> Vec<(f64, f64, &'a Part)> {
    let mut left = 0.0;
    let mut bars = Vec::new();
    for part in steps {
        let number = table.number(row, part.column).unwrap_or(0.0);
        let ends = match part.kind.as_str() {
            "all" => (0.0, number),
            "read" => (0.0, number),
            _ => (left - number, left),
        };
        left = if part.kind == "all" { number } else { left - number };
        if number > 0.0 || matches!(part.kind.as_str(), "all" | "read") {
            bars.push((ends.0, ends.1, part));
        }
    }
    bars
}

/// From a whole to what is left of it.
pub fn waterfall(area: &Area<'_>, table: &Table, y: &str, steps: &[Part], rows: &[(usize, String)]) -> Drawn {
    let row = rows.first().map_or(0, |(row, _)| *row);
    let bars = steps_of(table, steps, row);
    let whole = bars.first().map_or(1.0, |(_, whole, _)| whole.max(f64::MIN_POSITIVE));
    let x = Scale::of([0.0, 1.22 * whole].into_iter(), true, 6);
    let names = Scale::down(bars.iter().map(|(_, _, part)| part.name.clone()));
    let chart = chart(area, &x, &names, (y, ""))?;
    let plane = chart.plotting_area().strip_coord_spec();
    for (at, (begin, end, part)) in bars.iter().enumerate() {
        let middle = at as f64;
        block(&plane, &chart, (*begin, middle - 0.5 + AIR), (*end, middle + 0.5 - AIR), &part.kind)?;
        let share = 100.0 * (end - begin) / whole;
        let words = format!("{} ({share:.1} %)", shown(end - begin));
        let (x, y) = pixel(&chart, (*end, middle));
        plane.draw(&Text::new(words, (x + 6, y), small(HPos::Left)))?;
    }
    Ok(())
}
