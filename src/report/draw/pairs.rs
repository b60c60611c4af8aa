//! What belongs to two names (a heat map) or to two numbers (a front), and what was observed within what was simulated.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::report::draw::lines::{ink, pixel};
use crate::report::draw::{Area, Drawn, FAINT, INK, SERIES, SOFT, Scale, chart, marker, shown, small, star};
use crate::report::figure::HeatPanel;
use crate::report::table::Table;
use crate::units::round_to;

/// Height of a row of a heat map, and of what is below them.
pub const HEAT_ROW: usize = 24;
pub const HEAT_REST: usize = 64;

/// Labels along the horizontal axis of a heat map, at most.
const MOST_LABELS: usize = 12;

/// A heat map: the darker, the more.
pub fn heat(area: &Area<'_>, table: &Table, y: &str, column: usize, panel: &HeatPanel) -> Drawn {
    // Rows are as high as those of the other small charts, however few there are.
    let height = (panel.down.len() * HEAT_ROW + HEAT_REST).min(area.dim_in_pixel().1 as usize);
    let area = &area.split_vertically(height as i32).0;
    let every = panel.across.len().div_ceil(MOST_LABELS).max(1);
    let labelled = panel.across.iter().enumerate().step_by(every);
    let ticks = labelled.map(|(at, name)| (at as f64, name.clone())).collect();
    let across = Scale { from: -0.5, to: panel.across.len() as f64 - 0.5, ticks };
    let down = Scale::down(panel.down.iter().cloned());
    let label = format!("{}; colour: {y}", panel.axes.0);
    let chart = chart(area, &across, &down, (&label, ""))?;
    let plane = chart.plotting_area().strip_coord_spec();
    let number = |row: usize| table.number(row, column).unwrap_or(0.0);
    let most = panel.cells.iter().map(|(row, ..)| number(*row)).fold(f64::MIN_POSITIVE, f64::max);
    for (row, x, y) in &panel.cells {
        let share = number(*row) / most;
        let (x, y) = (*x as f64, *y as f64);
        let corners = [pixel(&chart, (x - 0.48, y - 0.46)), pixel(&chart, (x + 0.48, y + 0.46))];
        plane.draw(&Rectangle::new(corners, shade(share).filled()))?;
        let words = shown(significant(number(*row)));
        // A leading zero says nothing here, and room is scarce.
        let words = words.strip_prefix('0').filter(|rest| rest.starts_with('.')).unwrap_or(&words);
        if f64::from(corners[1].0 - corners[0].0) > 7.0 * words.len() as f64 {
            let colour = if share > 0.55 { WHITE } else { INK };
            plane.draw(&Text::new(
                words.to_string(),
                pixel(&chart, (x, y)),
                small(HPos::Center).color(&colour),
            ))?;
        }
    }
    Ok(())
}

/// A number with two digits that count, or all of a whole number.
fn significant(value: f64) -> f64 {
    let places = if value == 0.0 { 0.0 } else { 1.0 - libm::floor(libm::log10(value.abs())) };
    round_to(value, places.clamp(0.0, 9.0) as u32)
}

/// From nearly white to the first colour of the series.
fn shade(share: f64) -> RGBColor {
    let RGBColor(r, g, b) = SERIES[0];
    let mix = |full: u8, pale: f64| (pale + (f64::from(full) - pale) * share) as u8;
    RGBColor(mix(r, 234.0), mix(g, 240.0), mix(b, 248.0))
}

/// The rows that no other beats in both numbers, from the left to the right.
pub fn unbeaten(table: &Table, x: usize, y: usize, rows: &[(usize, String)]) -> Vec<usize> {
    let at = |row: usize| Some((table.number(row, x)?, table.number(row, y)?));
    let mut points: Vec<_> = rows.iter().filter_map(|(row, _)| Some((at(*row)?, *row))).collect();
    points.sort_by(|(a, _), (b, _)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut best = f64::INFINITY;
    points.retain(|((_, y), _)| {
        let is_better = *y < best;
        best = best.min(*y);
        is_better
    });
    points.into_iter().map(|(_, row)| row).collect()
}

/// One number against another.
pub fn front(
    area: &Area<'_>,
    table: &Table,
    (x_label, (x, x_ci)): (&str, (usize, Option<usize>)),
    (y_label, (y, y_ci)): (&str, (usize, Option<usize>)),
    rows: &[(usize, String)],
    recommended: Option<usize>,
) -> Drawn {
    let number = |row: usize, column: usize| table.number(row, column).unwrap_or(0.0);
    let half = |row: usize, ci: Option<usize>| ci.and_then(|ci| table.number(row, ci)).unwrap_or(0.0);
    let ends = |column: usize, ci: Option<usize>| {
        let rows = rows.iter().map(|(row, _)| *row);
        rows.flat_map(move |row| [-1.0, 1.0].map(|sign| number(row, column) + sign * half(row, ci)))
    };
    let (across, up) = (Scale::of(ends(x, x_ci), false, 7), Scale::of(ends(y, y_ci), false, 6));
    let chart = chart(area, &across, &up, (x_label, y_label))?;
    let plane = chart.plotting_area().strip_coord_spec();
    let unbeaten = unbeaten(table, x, y, rows);
    let path: Vec<_> = unbeaten.iter().map(|row| pixel(&chart, (number(*row, x), number(*row, y)))).collect();
    plane.draw(&PathElement::new(path, SERIES[2].stroke_width(2)))?;
    for (row, _) in rows {
        let (at, up) = (number(*row, x), number(*row, y));
        let (across, high) = (half(*row, x_ci), half(*row, y_ci));
        let whiskers = [((at - across, up), (at + across, up)), ((at, up - high), (at, up + high))];
        for (from, to) in whiskers {
            plane.draw(&PathElement::new(
                vec![pixel(&chart, from), pixel(&chart, to)],
                FAINT.stroke_width(2),
            ))?;
        }
    }
    for (row, _) in rows {
        let style = if unbeaten.contains(row) { 2 } else { 0 };
        marker(&plane, pixel(&chart, (number(*row, x), number(*row, y))), style)?;
    }
    let named = rows.iter().filter(|(row, _)| unbeaten.contains(row) || Some(*row) == recommended);
    for (order, (row, name)) in named.enumerate() {
        let (px, py) = pixel(&chart, (number(*row, x), number(*row, y)));
        if Some(*row) == recommended {
            plane.draw(&Circle::new((px, py), 9, INK.stroke_width(2)))?;
        }
        // Right of the point, or left of it where there is no room.
        let (width, _) = plane.dim_in_pixel();
        let is_right = px + 7 * name.chars().count() as i32 + 16 < width as i32;
        let (side, at) = if is_right { (HPos::Left, px + 12) } else { (HPos::Right, px - 12) };
        let lift = if order % 2 == 0 { -9 } else { 9 };
        plane.draw(&Text::new(super::cut(name, 60), (at, py + lift), small(side)))?;
    }
    Ok(())
}

/// The observation of each row within the middle of what was simulated, every row on a scale of its own.
pub fn ranges(
    area: &Area<'_>,
    table: &Table,
    columns: [usize; 4],
    (_, rows): &(String, Vec<(usize, String)>),
) -> Drawn {
    let across = Scale { from: 0.0, to: 1.0, ticks: Vec::new() };
    let names = Scale::down(rows.iter().map(|(_, name)| name.clone()));
    let chart = chart(area, &across, &names, ("", ""))?;
    let plane = chart.plotting_area().strip_coord_spec();
    for (at, (row, _)) in rows.iter().enumerate() {
        let Some([low, middle, high, observed]) = numbers(table, *row, columns) else { continue };
        let place = own_scale([low, middle, high, observed]);
        let at = at as f64;
        let bar = [pixel(&chart, (place(low), at - 0.28)), pixel(&chart, (place(high), at + 0.28))];
        let wide = [bar[0], (bar[1].0.max(bar[0].0 + 3), bar[1].1)];
        plane.draw(&Rectangle::new(wide, RGBColor(184, 205, 235).filled()))?;
        let stroke = |dy: f64| pixel(&chart, (place(middle), at + dy));
        ink(&plane, stroke(-0.28), stroke(0.28), 1)?;
        let outside = observed < low || observed > high;
        star(&plane, pixel(&chart, (place(observed), at)), if outside { SERIES[7] } else { INK })?;
        let number = |value: f64| shown(round_to(value, 4));
        let words = format!("{} in {} to {}", number(observed), number(low), number(high));
        plane.draw(&Text::new(words, pixel(&chart, (0.99, at)), small(HPos::Right).color(&SOFT)))?;
    }
    Ok(())
}

fn numbers(table: &Table, row: usize, columns: [usize; 4]) -> Option<[f64; 4]> {
    let [a, b, c, d] = columns.map(|column| table.number(row, column));
    Some([a?, b?, c?, d?])
}

/// Where numbers stand between 0.05 and 0.65, the least of them at the left.
fn own_scale(numbers: [f64; 4]) -> impl Fn(f64) -> f64 {
    let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
    let most = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let width = if most > least { most - least } else { 1.0 };
    move |value| 0.05 + 0.6 * (value - least) / width
}
