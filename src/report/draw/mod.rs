//! Figures as SVG, drawn by plotters: text without fonts of its own, whole pixels, the same bytes everywhere.
//!
//! Reading order: a frame is title, legend and a grid of small charts; `lines` are numbers along an axis, `bars` parts of a
//! whole, `pairs` what belongs to two names, or to two numbers.

mod lines;
mod bars;
mod pairs;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::error::{Error, Result};
use crate::report::axis::round_steps;
use crate::report::figure::{Figure, Form};
use crate::report::table::Table;
use crate::units::round_to;

/// Width of a chart, in pixels.
const WIDTH: u32 = 920;

/// Pixels of a letter of the labels, about.
const LETTER: f64 = 6.4;

/// The most letters of a label; longer ones are cut.
const LONGEST: usize = 72;

/// Colours of series, told apart by markers too.
const SERIES: [RGBColor; 8] = [
    RGBColor(11, 98, 196),
    RGBColor(194, 86, 12),
    RGBColor(26, 127, 90),
    RGBColor(130, 80, 223),
    RGBColor(191, 57, 137),
    RGBColor(122, 92, 0),
    RGBColor(87, 96, 106),
    RGBColor(207, 34, 46),
];

const INK: RGBColor = RGBColor(31, 35, 40);
const SOFT: RGBColor = RGBColor(89, 99, 110);
const FAINT: RGBColor = RGBColor(225, 229, 234);

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Failed = DrawingAreaErrorKind<std::io::Error>;
type Drawn = std::result::Result<(), Failed>;
type Chart<'a, 'b> = ChartContext<'b, SVGBackend<'a>, Cartesian2d<Scale, Scale>>;

/// A figure of a table as SVG, with its title and what it says as text for those who do not see it.
pub fn svg(figure: &Figure, table: &Table) -> Result<String> {
    let frame = Frame::of(figure, table);
    let mut text = String::new();
    let drawn: Drawn = (|| {
        let root = SVGBackend::with_string(&mut text, (WIDTH, frame.height())).into_drawing_area();
        root.fill(&WHITE)?;
        let panels = frame.begin(&root, &figure.title)?;
        match &figure.form {
            Form::Lines { x, y, stepped, panels: drawn } => {
                let lines = lines::Lines::new(table, x, y, *stepped, drawn);
                panels.iter().zip(drawn).try_for_each(|(area, panel)| lines.draw(area, panel))?;
            }
            Form::Bars { y, shares, parts, mark, panels: drawn } => {
                let bars = bars::Bars::new(table, y, *shares, parts, mark.as_ref());
                panels.iter().zip(drawn).try_for_each(|(area, panel)| bars.draw(area, panel))?;
            }
            Form::Waterfall { y, steps, rows } => bars::waterfall(&panels[0], table, y, steps, rows)?,
            Form::Heat { y, column, panels: drawn } => {
                panels
                    .iter()
                    .zip(drawn)
                    .try_for_each(|(area, panel)| pairs::heat(area, table, y, *column, panel))?;
            }
            Form::Front { x, x_column, y, y_column, rows, recommended } => {
                pairs::front(&panels[0], table, (x, *x_column), (y, *y_column), rows, *recommended)?;
            }
            Form::Ranges { columns, panels: drawn } => {
                panels
                    .iter()
                    .zip(drawn)
                    .try_for_each(|(area, panel)| pairs::ranges(area, table, *columns, panel))?;
            }
        }
        root.present()
    })();
    drawn.map_err(|error| Error::input(format!("{}.svg", figure.id), format!("cannot be drawn: {error}")))?;
    Ok(with_words(&text, figure))
}

/// The SVG with title and description as elements of its own, and without what is the default anyway.
fn with_words(svg: &str, figure: &Figure) -> String {
    let Some((head, body)) = svg.split_once('>') else { return svg.to_string() };
    let (title, says) = (escaped(&figure.title), escaped(&figure.says));
    let mut words = format!(
        "{head} role=\"img\" font-family=\"{FONT}\" font-size=\"{SMALL}\">\n<title>{title}</title>\n"
    );
    words += &format!("<desc>{says} The numbers are in {}.</desc>\n", escaped(&figure.file));
    let mut is_text = false;
    for line in body.lines().filter(|line| !line.is_empty()) {
        // A text stands on a line of its own, and what it says must stay as it is.
        if is_text && !line.starts_with("</text>") {
            words += line;
            continue;
        }
        let mut line = line.to_string();
        for (said, short) in SHORTER {
            line = line.replace(said, short);
        }
        is_text = line.starts_with("<text ");
        words += &line;
        if !is_text {
            words.push('\n');
        }
    }
    words
}

/// The font of all texts, and the size of most.
const FONT: &str = "system-ui, sans-serif";
const SMALL: f64 = 12.0;

/// What plotters says and nobody needs to hear: defaults, and what the whole drawing says already. (It takes sizes for those
/// of whole lines.)
const SHORTER: [(&str, &str); 5] = [
    (" opacity=\"1\"", ""),
    (" stroke=\"none\"", ""),
    (" font-family=\"sans-serif\"", ""),
    (" font-size=\"9.67741935483871\"", ""),
    (" font-size=\"13.709677419354838\"", " font-size=\"17\""),
];

/// Text as it may stand in XML.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML has no way to say them.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Title, legend, and a grid of small charts.
struct Frame {
    /// Name and sign of each entry of the legend.
    legend: Vec<(String, Sign)>,
    across: usize,
    down: usize,
    /// Height of one small chart.
    height: u32,
    titles: Vec<String>,
}

/// How an entry of the legend is drawn.
#[derive(Clone, Copy, PartialEq)]
enum Sign {
    Series(usize),
    Part(RGBColor),
    Published,
    Level,
    Mark,
}

/// Height of the title, of a line of the legend, and of the title of a small chart.
const TITLE: u32 = 40;
const LEGEND_LINE: u32 = 20;
const PANEL_TITLE: u32 = 22;

impl Frame {
    fn of(figure: &Figure, table: &Table) -> Self {
        let rows = |count: usize, each: f64, rest: f64| (count as f64 * each + rest) as u32;
        let (titles, height, legend): (Vec<String>, u32, Vec<(String, Sign)>) = match &figure.form {
            Form::Lines { x, panels, .. } => {
                let titles: Vec<_> = panels.iter().map(|panel| panel.title.clone()).collect();
                let height = if x.categories {
                    let series = panels.iter().map(|panel| panel.series.len()).max().unwrap_or(1);
                    rows(x.ticks.len(), 12.0 + 12.0 * series as f64, 70.0)
                } else if panels.len() == 1 {
                    400
                } else {
                    280
                };
                (titles, height, lines::legend(panels))
            }
            Form::Bars { shares, parts, mark, panels, .. } => {
                let titles = panels.iter().map(|panel| panel.title.clone()).collect();
                let bars = panels.iter().map(|panel| panel.bars.len()).max().unwrap_or(1);
                let height =
                    if *shares { rows(bars, if bars > 40 { 16.0 } else { 20.0 }, 60.0) } else { 300 };
                let mark = mark.iter().map(|(_, name)| (name.clone(), Sign::Mark));
                let parts = parts.iter().map(|part| (part.name.clone(), Sign::Part(colour(&part.kind))));
                (titles, height, parts.chain(mark).collect())
            }
            Form::Waterfall { steps, rows: choices, .. } => {
                let steps = bars::steps_of(table, steps, choices.first().map_or(0, |(row, _)| *row)).len();
                let titles = choices.first().map(|(_, name)| name.clone());
                (titles.into_iter().collect(), rows(steps, 34.0, 70.0), Vec::new())
            }
            Form::Heat { panels, .. } => {
                let down = panels.iter().map(|panel| panel.down.len()).max().unwrap_or(1);
                let titles = panels.iter().map(|panel| panel.title.clone()).collect();
                (titles, rows(down, pairs::HEAT_ROW as f64, pairs::HEAT_REST as f64), Vec::new())
            }
            Form::Front { .. } => (vec![String::new()], 420, Vec::new()),
            Form::Ranges { panels, .. } => {
                let down = panels.iter().map(|panel| panel.1.len()).max().unwrap_or(1);
                (panels.iter().map(|panel| panel.0.clone()).collect(), rows(down, 22.0, 30.0), Vec::new())
            }
        };
        let count = titles.len().max(1);
        let is_narrow =
            matches!(&figure.form, Form::Lines { .. } | Form::Heat { .. } | Form::Bars { shares: false, .. });
        let across = if count > 1 && is_narrow { 2 } else { 1 };
        Self { legend, across, down: count.div_ceil(across), height, titles }
    }

    fn legend_lines(&self) -> u32 {
        self.placed_legend().last().map_or(0, |(line, ..)| *line + 1)
    }

    fn panel_height(&self) -> u32 {
        self.height + if self.titles.iter().any(|title| !title.is_empty()) { PANEL_TITLE } else { 0 }
    }

    fn height(&self) -> u32 {
        TITLE + self.legend_lines() * LEGEND_LINE + self.down as u32 * self.panel_height() + 10
    }

    /// Line and column of each entry of the legend.
    fn placed_legend(&self) -> Vec<(u32, i32, &str, Sign)> {
        let (mut line, mut x) = (0, 16);
        let mut placed = Vec::new();
        for (name, sign) in &self.legend {
            let width = 34 + (letters(name) * LETTER) as i32;
            if x + width > WIDTH as i32 && x > 16 {
                (line, x) = (line + 1, 16);
            }
            placed.push((line, x, name.as_str(), *sign));
            x += width;
        }
        placed
    }

    /// Draws title and legend; the areas of the small charts.
    fn begin<'a>(&self, root: &Area<'a>, title: &str) -> std::result::Result<Vec<Area<'a>>, Failed> {
        let bold = ("sans-serif", 17).into_font().style(FontStyle::Bold).color(&INK);
        root.draw(&Text::new(cut(title, 96), (16, 12), bold))?;
        for (line, x, name, sign) in self.placed_legend() {
            let y = (TITLE + line * LEGEND_LINE) as i32 + 8;
            draw_sign(root, (x + 8, y), sign)?;
            root.draw(&Text::new(cut(name, LONGEST), (x + 22, y), small(HPos::Left)))?;
        }
        let top = (TITLE + self.legend_lines() * LEGEND_LINE) as i32;
        let (_, below) = root.split_vertically(top);
        let (grid, _) = below.split_vertically((self.down as u32 * self.panel_height()) as i32);
        let areas = grid.split_evenly((self.down, self.across));
        let mut panels = Vec::new();
        for (area, title) in areas.into_iter().zip(&self.titles) {
            if self.panel_height() == self.height {
                panels.push(area);
                continue;
            }
            let room = area.dim_in_pixel().0 as f64 / LETTER;
            area.draw(&Text::new(cut(title, room as usize - 4), (16, 10), panel_title()))?;
            panels.push(area.split_vertically(PANEL_TITLE as i32).1);
        }
        Ok(panels)
    }
}

fn panel_title() -> TextStyle<'static> {
    ("sans-serif", 12).into_font().style(FontStyle::Bold).color(&INK).pos(Pos::new(HPos::Left, VPos::Center))
}

/// The style of labels.
fn small(side: HPos) -> TextStyle<'static> {
    ("sans-serif", 12).into_font().color(&INK).pos(Pos::new(side, VPos::Center))
}

fn letters(text: &str) -> f64 {
    text.chars().count().min(LONGEST) as f64
}

fn cut(text: &str, most: usize) -> String {
    // What XML cannot hold, plotters would write all the same.
    let plain: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if plain.chars().count() <= most {
        return plain;
    }
    plain.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// The colour of a part of a whole, by what it stands for.
fn colour(kind: &str) -> RGBColor {
    match kind {
        "read" => RGBColor(26, 127, 90),
        "new" => RGBColor(170, 180, 191),
        "changed" => RGBColor(191, 57, 137),
        "unwritten" => RGBColor(130, 80, 223),
        "other_account" => RGBColor(122, 92, 0),
        "other_key" => RGBColor(11, 98, 196),
        "not_yet_visible" => RGBColor(84, 174, 255),
        "other_machine" => RGBColor(224, 122, 31),
        "expired" => RGBColor(207, 34, 46),
        "evicted" => RGBColor(130, 7, 30),
        "rounding" => RGBColor(110, 119, 129),
        _ => RGBColor(87, 96, 106),
    }
}

fn draw_sign(area: &Area<'_>, at: (i32, i32), sign: Sign) -> Drawn {
    match sign {
        Sign::Series(style) => marker(area, at, style),
        Sign::Part(colour) => {
            area.draw(&Rectangle::new([(at.0 - 6, at.1 - 6), (at.0 + 6, at.1 + 6)], colour.filled()))
        }
        Sign::Published => star(area, at, INK),
        Sign::Level => dashes(area, (at.0 - 10, at.1), (at.0 + 10, at.1)),
        Sign::Mark => {
            area.draw(&PathElement::new(vec![(at.0 - 7, at.1), (at.0 + 7, at.1)], INK.stroke_width(2)))
        }
    }
}

/// The marker of a series: another shape for each, so that colour is not the only sign.
fn marker(area: &Area<'_>, (x, y): (i32, i32), style: usize) -> Drawn {
    let colour = SERIES[style % SERIES.len()];
    let points: Vec<(i32, i32)> = match style % SERIES.len() {
        0 => return area.draw(&Circle::new((x, y), 4, colour.filled())),
        1 => vec![(x - 4, y - 4), (x + 4, y - 4), (x + 4, y + 4), (x - 4, y + 4)],
        2 => vec![(x, y - 5), (x + 5, y + 4), (x - 5, y + 4)],
        3 => vec![(x, y - 5), (x + 5, y), (x, y + 5), (x - 5, y)],
        4 => vec![(x, y + 5), (x + 5, y - 4), (x - 5, y - 4)],
        5 => return area.draw(&Circle::new((x, y), 4, colour.stroke_width(2))),
        6 => vec![(x - 5, y - 2), (x + 5, y - 2), (x + 5, y + 2), (x - 5, y + 2)],
        _ => vec![(x - 2, y - 5), (x + 2, y - 5), (x + 2, y + 5), (x - 2, y + 5)],
    };
    area.draw(&Polygon::new(points, colour.filled()))
}

/// The marker of what was measured.
fn star(area: &Area<'_>, (x, y): (i32, i32), colour: RGBColor) -> Drawn {
    for (dx, dy) in [(6, 0), (0, 6), (4, 4), (4, -4)] {
        area.draw(&PathElement::new(vec![(x - dx, y - dy), (x + dx, y + dy)], colour.stroke_width(2)))?;
    }
    Ok(())
}

/// A dashed line, straight along an axis.
fn dashes(area: &Area<'_>, from: (i32, i32), to: (i32, i32)) -> Drawn {
    let length = (to.0 - from.0).max(to.1 - from.1).max(1);
    let place =
        |along: i32| (from.0 + (to.0 - from.0) * along / length, from.1 + (to.1 - from.1) * along / length);
    for begin in (0..length).step_by(9) {
        let end = (begin + 5).min(length);
        area.draw(&PathElement::new(vec![place(begin), place(end)], RGBColor(207, 34, 46).stroke_width(2)))?;
    }
    Ok(())
}

/// One axis of a small chart: its range, and labels where they are wanted.
#[derive(Clone)]
struct Scale {
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
}

impl Scale {
    /// Round numbers over a range of values, with some room.
    fn of(values: impl Iterator<Item = f64>, with_zero: bool, ticks: usize) -> Self {
        let start = if with_zero { (0.0, 0.0) } else { (f64::INFINITY, f64::NEG_INFINITY) };
        let (mut from, mut to) = values.fold(start, |(from, to), value| (from.min(value), to.max(value)));
        if from > to {
            (from, to) = (0.0, 1.0);
        }
        let room = if to > from { 0.06 * (to - from) } else { (0.05 * to.abs()).max(1e-3) };
        // Nothing here is negative, and no axis should say that it could be.
        from = if from >= 0.0 { (from - room).max(0.0) } else { from - room };
        if with_zero {
            from = from.min(0.0);
        }
        to += room;
        let steps = round_steps(from, to, ticks);
        Self { from, to, ticks: steps.into_iter().map(|at| (at, shown(at))).collect() }
    }

    /// Categories from the top down.
    fn down(names: impl Iterator<Item = String>) -> Self {
        let ticks: Vec<_> = names.enumerate().map(|(at, name)| (at as f64, cut(&name, LONGEST))).collect();
        Self { from: ticks.len() as f64 - 0.5, to: -0.5, ticks }
    }

    /// Room for the labels at the left.
    fn label_room(&self) -> u32 {
        let longest = self.ticks.iter().map(|(_, label)| letters(label)).fold(0.0, f64::max);
        (longest * LETTER) as u32 + 14
    }
}

/// A number as it stands at an axis.
fn shown(value: f64) -> String {
    let rounded = round_to(value, 6);
    match rounded.abs() {
        large if large >= 1e9 => format!("{}G", round_to(rounded / 1e9, 3)),
        large if large >= 1e6 => format!("{}M", round_to(rounded / 1e6, 3)),
        large if large >= 1e4 => format!("{}k", round_to(rounded / 1e3, 3)),
        _ => rounded.to_string(),
    }
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        // The library's own rule, which counts whole pixels; a range from high to low runs backwards.
        if self.to > self.from {
            return RangedCoordf64::from(self.from..self.to).map(value, limit);
        }
        RangedCoordf64::from(self.to..self.from).map(&(self.from + self.to - value), limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(at, _)| *at).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, value: &f64) -> String {
        self.ticks.iter().find(|(at, _)| at == value).map_or(String::new(), |(_, label)| cut(label, LONGEST))
    }
}

/// The axes of a small chart.
fn chart<'a, 'b>(
    area: &'b Area<'a>,
    x: &Scale,
    y: &Scale,
    (x_label, y_label): (&str, &str),
) -> std::result::Result<Chart<'a, 'b>, Failed> {
    let names = y.from > y.to;
    let left = y.label_room().clamp(44, 490) + if y_label.is_empty() { 0 } else { 22 };
    let mut chart = ChartBuilder::on(area)
        .margin_right(18)
        .margin_left(10)
        .margin_top(6)
        .x_label_area_size(if x_label.is_empty() { 26 } else { 44 })
        .y_label_area_size(left)
        .build_cartesian_2d(x.clone(), y.clone())?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(SOFT)
        .x_desc(cut(x_label, 2 * LONGEST))
        .y_desc(cut(y_label, LONGEST))
        .axis_desc_style(("sans-serif", 12).into_font().color(&SOFT))
        .x_labels(64)
        .y_labels(200)
        .max_light_lines(0)
        .label_style(("sans-serif", 12).into_font().color(&INK));
    if names {
        mesh.disable_y_mesh();
    }
    mesh.draw()?;
    Ok(chart)
}
