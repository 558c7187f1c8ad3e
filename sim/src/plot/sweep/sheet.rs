//! The page of a sweep's figure: head, legend, panels in rows of facets, notes. Knows no mark inside a panel.

use std::collections::BTreeMap;

use super::measure::Measure;
use super::{Column, Figure, Row};
use crate::plot::canvas::{Align, Canvas, INK, Point, fit, render, text_width};
use crate::plot::page::{self, Foot, HEAD_HEIGHT, MARGIN, WIDTH};
use crate::plot::panel::{Axis, Lettering, Panel, Tick};
use crate::plot::style::{self, PolicyStyle};

const LEGEND_LINE: f64 = 24.0;
/// From the head to the middle of its first line.
const LEGEND_TOP: f64 = 20.0;
const LEGEND_SAMPLE: f64 = 48.0;
const LEGEND_SIZE: f64 = 13.0;
/// Title and subtitle of a panel.
const PANEL_HEAD: f64 = 46.0;
/// Tick labels and axis label.
const PANEL_FOOT: f64 = 46.0;
/// Left of a frame: tick labels.
const TICKS: f64 = 50.0;
/// Right of a frame.
const BETWEEN: f64 = 22.0;
const FACET_HEAD: f64 = 30.0;

/// A figure with what its marks need: looks and places, and rows by place.
pub struct Sheet<'a> {
    pub figure: &'a Figure,
    pub policies: Vec<(&'a str, &'a str)>,
    pub styles: Vec<PolicyStyle>,
    pub measures: Vec<Measure>,
    /// Cells along the lower side; one nameless place without an axis there.
    pub xs: Vec<&'a str>,
    /// Cells of the second column, likewise.
    pub seconds: Vec<&'a str>,
    rows: BTreeMap<(&'a str, &'a str, &'a str, &'a str), &'a Row>,
}

/// How the panels of a page are laid out.
pub struct Layout<'a> {
    /// Side by side.
    pub columns: usize,
    /// Of a frame, in pixels.
    pub height: f64,
    pub x: Axis,
    pub x_ticks: Vec<Tick>,
    pub x_label: &'a str,
    /// Whether times may have a logarithmic axis: bars start at 0.
    pub log_allowed: bool,
}

impl<'a> Sheet<'a> {
    pub fn new(figure: &'a Figure) -> Sheet<'a> {
        let stops = |column: Option<usize>| column.map_or(vec![""], |column| figure.stops(column));
        let policies = figure.policies();
        let styles = style::styles(policies.iter().map(|(key, _)| *key));
        let cell = |row: &'a Row, column: Option<usize>| column.map_or("", |column| row.at[column].as_str());
        let rows = figure.rows.iter().map(|row| {
            let place = (cell(row, figure.x), cell(row, figure.second));
            ((row.metric.as_str(), row.policy.as_str(), place.1, place.0), row)
        });
        Sheet {
            rows: rows.collect(),
            measures: figure.measures(),
            xs: stops(figure.x),
            seconds: stops(figure.second),
            policies,
            styles,
            figure,
        }
    }

    /// The mean of a policy's score at a place, with what lies around it; `None` without a value.
    pub fn mean(&self, measure: &Measure, policy: usize, second: &str, x: &str) -> Option<(f64, &'a Row)> {
        let row = self.rows.get(&(measure.name, self.policies[policy].0, second, x))?;
        Some((row.mean?, row))
    }

    /// Means and ends of intervals of one score.
    pub fn values(&self, measure: &Measure) -> Vec<f64> {
        let of = self.figure.rows.iter().filter(|row| row.metric == measure.name);
        of.flat_map(|row| [row.mean, row.ci95_high].into_iter().flatten()).collect()
    }

    /// The column along the lower side.
    pub fn x_column(&self) -> Option<&'a Column> {
        self.figure.x.map(|column| &self.figure.columns[column])
    }

    /// The column of facets, or of a map's left side.
    pub fn second_column(&self) -> Option<&'a Column> {
        self.figure.second.map(|column| &self.figure.columns[column])
    }

    /// Whether some mean has an interval.
    pub fn has_intervals(&self) -> bool {
        self.figure.rows.iter().any(|row| row.ci95_low.is_some())
    }

    /// The sentences below the head.
    fn subject(&self) -> [String; 2] {
        let held = match &self.figure.held[..] {
            [] => String::new(),
            held => {
                let texts: Vec<&str> = held.iter().map(|held| held.text.as_str()).collect();
                format!(" At {}.", texts.join(", "))
            }
        };
        [
            format!("{}.{held}", self.figure.averaged),
            "At each place and seed every policy ran the same trace.".to_owned(),
        ]
    }

    fn foot(&self, own: Vec<String>) -> Foot {
        let mut notes = own;
        if self.measures.iter().any(|measure| measure.name.starts_with("tbt_")) {
            notes.push(
                "TBT, step: how long the step took that made the token; pauses and others' prefills are not in it. Gap: \
                 time since the request's previous token, as a client sees it. With deposit: tokens made early are saved up."
                    .to_owned(),
            );
        }
        let csv = format!("the numbers: {}.csv", self.figure.name);
        let origin = format!("{} · {csv}", self.figure.origin);
        Foot::of(notes.iter().chain(&self.figure.notes), "`notes` in points/*.json", &origin)
    }

    /// A page with a head, `body` of that height in pixels, and notes. `body` is given its upper side.
    ///
    /// # Errors
    /// What the drawing backend said.
    pub fn page(
        &self,
        height: f64,
        own_notes: Vec<String>,
        body: impl FnOnce(&mut Canvas<'_>, f64),
    ) -> Result<String, String> {
        let foot = self.foot(own_notes);
        let foot_top = HEAD_HEIGHT + height;
        render(WIDTH, foot_top + foot.height(), |canvas| {
            page::draw_head(canvas, &self.figure.title, &self.subject());
            body(canvas, HEAD_HEIGHT);
            foot.draw(canvas, foot_top);
        })
    }

    /// A page of panels, one per score and facet, below a legend. `mark` draws a policy's sample in the legend from its
    /// left end, `fill` what is inside a panel.
    ///
    /// # Errors
    /// What the drawing backend said.
    pub fn panels(
        &self,
        layout: &Layout<'_>,
        own_notes: Vec<String>,
        mark: impl Fn(&mut Canvas<'_>, &PolicyStyle, Point, f64),
        fill: impl Fn(&mut Canvas<'_>, &Panel, &Measure, &str),
    ) -> Result<String, String> {
        let legend = self.legend_places();
        let legend_height = LEGEND_LINE * (legend.last().map_or(0, |(line, _)| line + 1)) as f64 + LEGEND_TOP;
        let row_height = PANEL_HEAD + layout.height + PANEL_FOOT;
        let facet_head = if self.second_column().is_some() { FACET_HEAD } else { 0.0 };
        let lines = self.measures.len().div_ceil(layout.columns);
        let facet_height = facet_head + row_height * lines as f64;
        let height = legend_height + facet_height * self.seconds.len() as f64;
        self.page(height, own_notes, |canvas, top| {
            for (((_, label), style), (line, left)) in self.policies.iter().zip(&self.styles).zip(&legend) {
                let y = top + LEGEND_TOP + LEGEND_LINE * *line as f64;
                mark(canvas, style, (*left, y), LEGEND_SAMPLE);
                let label = fit(label, WIDTH - 2.0 * MARGIN - LEGEND_SAMPLE - 10.0, LEGEND_SIZE);
                canvas.text(&label, (left + LEGEND_SAMPLE + 10.0, y), LEGEND_SIZE, INK, Align::Start);
            }
            for (facet, second) in self.seconds.iter().enumerate() {
                let top = top + legend_height + facet_height * facet as f64;
                if let Some(column) = self.second_column() {
                    let name = fit(&column.assign(second), WIDTH - 2.0 * MARGIN, 16.0);
                    canvas.text(&name, (MARGIN, top + 14.0), 16.0, INK, Align::Start);
                }
                for (index, measure) in self.measures.iter().enumerate() {
                    let top = top + facet_head + row_height * (index / layout.columns) as f64;
                    let panel = self.panel(layout, index % layout.columns, top, measure);
                    letter(canvas, &panel, layout, measure);
                    fill(canvas, &panel, measure, second);
                    panel.draw_frame(canvas);
                }
            }
        })
    }

    fn panel(&self, layout: &Layout<'_>, column: usize, top: f64, measure: &Measure) -> Panel {
        let pitch = (WIDTH - 2.0 * MARGIN) / layout.columns as f64;
        let left = MARGIN + pitch * column as f64 + TICKS;
        let axis = measure.axis(self.values(measure).into_iter(), layout.log_allowed);
        let y = match axis {
            // Room for markers at both ends.
            Axis::Linear { from, to } if measure.is_share() => {
                Axis::Linear { from: from - 4.0, to: to + 4.0 }
            }
            axis => axis,
        };
        let right = MARGIN + pitch * (column + 1) as f64 - BETWEEN;
        Panel { left, top: top + PANEL_HEAD, right, bottom: top + PANEL_HEAD + layout.height, x: layout.x, y }
    }

    /// Where each policy's entry starts: line and left side.
    fn legend_places(&self) -> Vec<(usize, f64)> {
        let (mut line, mut left) = (0, MARGIN);
        let place = |(_, label): &(&str, &str)| {
            let width = LEGEND_SAMPLE + 10.0 + text_width(label, LEGEND_SIZE) + 22.0;
            if left > MARGIN && left + width > WIDTH - MARGIN {
                (line, left) = (line + 1, MARGIN);
            }
            left += width;
            (line, left - width)
        };
        self.policies.iter().map(place).collect()
    }
}

fn letter(canvas: &mut Canvas<'_>, panel: &Panel, layout: &Layout<'_>, measure: &Measure) {
    let wide = panel.right - panel.left + BETWEEN;
    panel.draw(
        canvas,
        &Lettering {
            title: &fit(measure.title, wide, 14.0),
            subtitle: &fit(&measure.subtitle(), wide, 11.0),
            x_label: &fit(layout.x_label, wide, 12.5),
            x_ticks: layout.x_ticks.clone(),
            y_ticks: measure.ticks(panel.y),
            ..Lettering::default()
        },
    );
}
