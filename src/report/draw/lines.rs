//! Numbers with intervals along an axis: lines where the axis is one of numbers, rows of points where it names categories.

use plotters::prelude::*;

use plotters::style::text_anchor::HPos;

use crate::report::draw::{
    Area, Chart, Drawn, INK, SERIES, Scale, Sign, chart, dashes, marker, shown, small, star,
};
use crate::report::figure::{Axis, Panel, Published, Series};
use crate::report::table::Table;
use crate::units::round_to;

/// Points of a line that are told by markers; more are a line alone.
const MARKED: usize = 40;

/// Everything the small charts of a figure have in common.
pub struct Lines<'a> {
    table: &'a Table,
    x: &'a Axis,
    y: &'a str,
    stepped: bool,
    numbers: Scale,
    /// The most series of a small chart.
    series: usize,
}

/// The series, and what else is drawn.
pub fn legend(panels: &[Panel]) -> Vec<(String, Sign)> {
    let mut entries: Vec<(String, Sign)> = Vec::new();
    for series in panels.iter().flat_map(|panel| &panel.series) {
        let entry = (series.name.clone(), Sign::Series(series.style));
        if !series.name.is_empty() && !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    if let Some((_, name)) = panels.iter().find_map(|panel| panel.level.as_ref()) {
        entries.push((name.clone(), Sign::Level));
    }
    if panels.iter().any(|panel| !panel.published.is_empty()) {
        entries.push(("measured".into(), Sign::Published));
    }
    entries
}

impl<'a> Lines<'a> {
    pub fn new(table: &'a Table, x: &'a Axis, y: &'a str, stepped: bool, panels: &[Panel]) -> Self {
        let points = panels.iter().flat_map(|panel| &panel.series).flat_map(|series| {
            series.points.iter().flat_map(|(row, _)| {
                let (low, high) = interval(table, series, *row);
                [low, high].into_iter().flatten()
            })
        });
        let levels = panels.iter().filter_map(|panel| panel.level.as_ref().map(|(level, _)| *level));
        let mut all: Vec<f64> = points.chain(levels).collect();
        let near = near(&all);
        let measured = panels.iter().flat_map(|panel| panel.published.iter().map(|point| point.y));
        all.extend(measured.filter(|value| near.contains(value)));
        let numbers = Scale::of(all.into_iter(), stepped || y == "p-value", 6);
        let series = panels.iter().map(|panel| panel.series.len()).max().unwrap_or(1);
        Self { table, x, y, stepped, numbers, series }
    }

    pub fn draw(&self, area: &Area<'_>, panel: &Panel) -> Drawn {
        let along = Scale { from: self.x.range.0, to: self.x.range.1, ticks: self.x.ticks.clone() };
        if self.x.categories {
            let names = Scale::down(self.x.ticks.iter().map(|(_, name)| name.clone()));
            let chart = chart(area, &self.numbers, &names, (self.y, ""))?;
            return self.rows_of_points(&chart, panel);
        }
        let chart = chart(area, &along, &self.numbers, (&self.x.label, self.y))?;
        let plane = chart.plotting_area().strip_coord_spec();
        if let Some((level, _)) = &panel.level {
            let (from, to) = (pixel(&chart, (along.from, *level)), pixel(&chart, (along.to, *level)));
            dashes(&plane, from, to)?;
        }
        for series in &panel.series {
            let at = |(row, x): &(usize, f64)| Some((*x, self.table.number(*row, series.column)?));
            let mut points: Vec<_> = series.points.iter().filter_map(at).collect();
            if self.stepped {
                points = steps(&points);
            }
            let pixels: Vec<_> = points.iter().map(|point| pixel(&chart, *point)).collect();
            plane.draw(&PathElement::new(pixels, SERIES[series.style % SERIES.len()].stroke_width(2)))?;
            if self.stepped || series.points.len() > MARKED {
                continue;
            }
            for (row, x) in &series.points {
                self.point(&plane, series, *row, |value| pixel(&chart, (*x, value)))?;
            }
        }
        for point in &panel.published {
            self.measured(&plane, point, pixel(&chart, (point.x, point.y)))?;
        }
        Ok(())
    }

    /// The sign of a measured point, at the edge if it lies far outside of what is simulated.
    fn measured(&self, plane: &Area<'_>, point: &Published, at: (i32, i32)) -> Drawn {
        let (width, height) = plane.dim_in_pixel();
        let inside = (at.0.clamp(6, width as i32 - 6), at.1.clamp(6, height as i32 - 6));
        star(plane, inside, point.style.map_or(INK, |style| SERIES[style % SERIES.len()]))?;
        if point.y >= self.numbers.from && point.y <= self.numbers.to {
            return Ok(());
        }
        let (side, shift) = if inside.0 + 90 < width as i32 { (HPos::Left, 12) } else { (HPos::Right, -12) };
        let words = format!("{} (off the scale)", shown(round_to(point.y, 0)));
        plane.draw(&Text::new(words, (inside.0 + shift, inside.1), small(side)))
    }

    fn rows_of_points(&self, chart: &Chart<'_, '_>, panel: &Panel) -> Drawn {
        let plane = chart.plotting_area().strip_coord_spec();
        if let Some((level, _)) = &panel.level {
            let (bottom, top) =
                (pixel(chart, (*level, self.x.range.1)), pixel(chart, (*level, self.x.range.0)));
            dashes(&plane, top, bottom)?;
        }
        // Series lie beside each other, so that none hides another.
        let shift =
            |order: usize| (order as f64 - (self.series as f64 - 1.0) / 2.0) * 0.7 / self.series as f64;
        for (order, series) in panel.series.iter().enumerate() {
            for (row, at) in &series.points {
                self.point(&plane, series, *row, |value| pixel(chart, (value, at + shift(order))))?;
            }
        }
        for point in &panel.published {
            let order = panel.series.iter().position(|series| Some(series.style) == point.style);
            let at = pixel(chart, (point.y, point.x + order.map_or(0.0, shift)));
            self.measured(&plane, point, at)?;
        }
        Ok(())
    }

    /// A marker with its interval; `place` says where a number stands.
    fn point(
        &self,
        plane: &Area<'_>,
        series: &Series,
        row: usize,
        place: impl Fn(f64) -> (i32, i32),
    ) -> Drawn {
        let Some(value) = self.table.number(row, series.column) else { return Ok(()) };
        if let (Some(low), Some(high)) = interval(self.table, series, row)
            && place(low) != place(high)
        {
            let colour = SERIES[series.style % SERIES.len()];
            plane.draw(&PathElement::new(vec![place(low), place(high)], colour.stroke_width(1)))?;
        }
        marker(plane, place(value), series.style)
    }
}

/// The ends of the interval of a point, or the point itself.
fn interval(table: &Table, series: &Series, row: usize) -> (Option<f64>, Option<f64>) {
    let value = table.number(row, series.column);
    let half = series.ci.and_then(|ci| table.number(row, ci)).unwrap_or(0.0);
    (value.map(|value| value - half), value.map(|value| value + half))
}

/// Measured points further than so many times the simulated range outside of it are drawn at the edge.
const FAR: f64 = 1.5;

/// The range in which measured points do not squeeze what is simulated.
fn near(values: &[f64]) -> std::ops::RangeInclusive<f64> {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let room = FAR * (most - least).max(0.1 * most);
    least - room..=most + room
}

/// A line that keeps the level of each point up to the next.
fn steps(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let ends = points.windows(2).flat_map(|pair| [pair[0], (pair[1].0, pair[0].1)]);
    ends.chain(points.last().copied()).collect()
}

/// Where a point of a chart stands in its plane.
pub fn pixel(chart: &Chart<'_, '_>, point: (f64, f64)) -> (i32, i32) {
    let (x, y) = chart.backend_coord(&point);
    let (left, top) = chart.plotting_area().strip_coord_spec().get_base_pixel();
    (x - left, y - top)
}

/// Ink over a plane, for what belongs to no series.
pub fn ink(plane: &Area<'_>, from: (i32, i32), to: (i32, i32), width: u32) -> Drawn {
    plane.draw(&PathElement::new(vec![from, to], INK.stroke_width(width)))
}
