//! A chart before it is drawn: which fields of which table stand where. The SVG beside the CSV and the chart in the page are
//! drawn from the same figure, so that both show what the file says; a filter in the page only leaves rows out.

use serde::Serialize;

/// A chart of one table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Its name, and that of its SVG file.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// How to read it.
    pub says: String,
    /// The file of its table.
    pub file: String,
    /// Its form.
    #[serde(flatten)]
    pub form: Form,
}

/// What a chart looks like.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "form", rename_all = "snake_case")]
pub enum Form {
    /// Numbers with intervals along an axis: lines, or rows of points where the axis is one of categories.
    Lines {
        /// Where the points stand.
        x: Axis,
        /// What is measured, with its unit.
        y: String,
        /// Whether the level between two points is that of the first.
        stepped: bool,
        /// Small charts of one scale.
        panels: Vec<Panel>,
    },
    /// Bars made of parts that add up.
    Bars {
        /// What the length of a bar is.
        y: String,
        /// Whether the bars lie, each of the same length.
        shares: bool,
        /// The parts from the base on.
        parts: Vec<Part>,
        /// Column of a level marked on each bar, with its name: what was read and written.
        #[serde(skip_serializing_if = "Option::is_none")]
        mark: Option<(Vec<usize>, String)>,
        /// Small charts.
        panels: Vec<BarPanel>,
    },
    /// From a whole to what is left of it, loss by loss.
    Waterfall {
        /// What is measured.
        y: String,
        /// The columns: the whole, then the losses; what is left is the last.
        steps: Vec<Part>,
        /// The rows one can choose from, with their names; the first is drawn.
        rows: Vec<(usize, String)>,
    },
    /// Which number belongs to which pair.
    Heat {
        /// What the colour says.
        y: String,
        /// Column of the number.
        column: usize,
        /// Small charts.
        panels: Vec<HeatPanel>,
    },
    /// One number against another, and the rows that no other row beats in both.
    Front {
        /// Label of the number along the horizontal axis.
        x: String,
        /// Its column and that of its half-width.
        x_column: (usize, Option<usize>),
        /// Label of the other.
        y: String,
        /// Its column and that of its half-width.
        y_column: (usize, Option<usize>),
        /// The rows, with their names.
        rows: Vec<(usize, String)>,
        /// What is recommended.
        recommended: Option<usize>,
    },
    /// What was observed within what was simulated.
    Ranges {
        /// Columns of the 5 %, 50 % and 95 % points, and of the observation.
        columns: [usize; 4],
        /// Small charts: title, and rows with their names.
        panels: Vec<(String, Vec<(usize, String)>)>,
    },
}

/// The axis along which points stand.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Axis {
    /// What it says, with its unit.
    pub label: String,
    /// Whether it names categories.
    pub categories: bool,
    /// Positions with their labels.
    pub ticks: Vec<(f64, String)>,
    /// First and last position.
    pub range: (f64, f64),
}

/// One of several small charts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Panel {
    /// What its rows have in common; empty if there is only one.
    pub title: String,
    /// What is drawn.
    pub series: Vec<Series>,
    /// A line to compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<(f64, String)>,
    /// Measured points of others, to compare with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
}

/// Points that belong together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Number of its colour and marker.
    pub style: usize,
    /// Column of the number.
    pub column: usize,
    /// Column of its half-width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ci: Option<usize>,
    /// Row and position of each point.
    pub points: Vec<(usize, f64)>,
}

/// A point that was measured, not simulated.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Published {
    /// The series it is to be compared with, if it is one of them.
    pub style: Option<usize>,
    /// Its position.
    pub x: f64,
    /// The number.
    pub y: f64,
    /// What it is.
    pub name: String,
}

/// One part of a bar, or one step of a waterfall.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// Column of the number.
    pub column: usize,
    /// Its name.
    pub name: String,
    /// What it stands for: `read`, `all`, or the cause of a loss. It decides the colour.
    pub kind: String,
}

/// One of several small charts of bars.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BarPanel {
    /// What its bars have in common.
    pub title: String,
    /// Label of the axis along which they stand.
    pub x: String,
    /// The rows with their labels, and what is to be said of them.
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bar {
    /// The row.
    pub row: usize,
    /// Its label.
    pub label: String,
    /// A sign to put at it, if something happened there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub event: String,
}

/// One of several small charts of pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeatPanel {
    /// What its pairs have in common.
    pub title: String,
    /// What stands along the axes.
    pub axes: (String, String),
    /// Labels along the horizontal axis.
    pub across: Vec<String>,
    /// Labels along the vertical axis.
    pub down: Vec<String>,
    /// Row of the table, then the places along both axes.
    pub cells: Vec<(usize, usize, usize)>,
}
