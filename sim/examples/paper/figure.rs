//! The figure of an experiment: a row of panels per semantics and SLO scale, a column per number.
//!
//! Points or bars are means over seeds, whiskers 95 % intervals. A column has one axis in all rows, so that rows can be laid
//! over each other. Beside the TBT scores stand end-to-end attainment, playback stall, TTFT and throughput
//! (design §6).

use orbitflow_sim::plot::canvas::{Align, Canvas, INK, MUTED, Point, RGBColor, render, text_width, wrap};
use orbitflow_sim::plot::panel::{self, Axis, Lettering, Panel, Tick};
use orbitflow_sim::plot::style::{self, PolicyStyle};
use orbitflow_sim::plot::words;
use orbitflow_sim::statistics::Interval;

use super::experiment::{Across, Experiment, Study};
use super::insights;
use super::scores::Metric;
use super::table::{Cell, Table};

const WIDTH: f64 = 1640.0;
const MARGIN: f64 = 26.0;
/// Left of the first panel: the row's name and the first tick labels.
const LEFT: f64 = 96.0;
const PITCH: f64 = (WIDTH - LEFT - MARGIN) / COLUMNS as f64;
/// Between a frame and the ticks of the next panel's axis.
const BETWEEN: f64 = 54.0;
const PANEL_HEIGHT: f64 = 150.0;
const ROW_PITCH: f64 = PANEL_HEIGHT + 34.0;
const LEGEND_LINE: f64 = 24.0;
const NOTE_LINE: f64 = 16.0;

/// Panels side by side.
const COLUMNS: usize = 7;

fn columns(study: Study, experiment: &Experiment) -> [Metric; COLUMNS] {
    match study {
        Study::Paper => [
            Metric::TbtPaper,
            Metric::TbtStepDeposit,
            Metric::TpotStep,
            Metric::EndToEnd,
            Metric::PlaybackStall,
            Metric::TtftMedian,
            Metric::Throughput,
        ],
        Study::Insights => insights::panels(experiment),
    }
}

/// One row of panels: its name, and each of its cells with its place along the axis.
struct Row {
    name: [String; 2],
    cells: Vec<(usize, usize)>,
}

/// What all panels of a figure share.
struct Figure<'a> {
    table: &'a Table,
    across: Across,
    places: Vec<String>,
    styles: Vec<PolicyStyle>,
    rows: Vec<Row>,
}

/// The figure as SVG.
///
/// # Errors
/// What the drawing backend said.
pub fn draw(study: Study, experiment: &Experiment, table: &Table) -> Result<String, String> {
    let figure = Figure::new(experiment.across, table);
    let legend = figure.legend_lines();
    let top = 92.0 + LEGEND_LINE * legend as f64 + 34.0;
    let x_label = if experiment.across == Across::Policies { 0.0 } else { 26.0 };
    let notes_top = top + ROW_PITCH * figure.rows.len() as f64 + x_label;
    let notes = notes(study, experiment, table);
    let height = notes_top + NOTE_LINE * notes.len() as f64 + 18.0;
    render(WIDTH, height, |canvas| {
        canvas.text(experiment.title, (MARGIN, 30.0), 21.0, INK, Align::Start);
        canvas.text(experiment.setting, (MARGIN, 56.0), 13.0, MUTED, Align::Start);
        figure.draw_legend(canvas, 84.0);
        for (index, metric) in columns(study, experiment).into_iter().enumerate() {
            figure.draw_column(canvas, experiment, index, metric, top);
        }
        for (index, row) in figure.rows.iter().enumerate() {
            let middle = top + ROW_PITCH * index as f64 + PANEL_HEIGHT / 2.0;
            for (line, text) in row.name.iter().enumerate() {
                canvas.upward_text(text, (MARGIN + 18.0 * line as f64, middle), 13.0, INK, Align::Middle);
            }
        }
        for (line, note) in notes.iter().enumerate() {
            canvas.text(note, (MARGIN, notes_top + NOTE_LINE * line as f64), 11.5, MUTED, Align::Start);
        }
    })
}

impl<'a> Figure<'a> {
    fn new(across: Across, table: &'a Table) -> Figure<'a> {
        let mut places: Vec<String> = Vec::new();
        let mut rows: Vec<Row> = Vec::new();
        for (index, cell) in table.cells.iter().enumerate() {
            let (place, name) = placed(across, cell);
            let at = places.iter().position(|known| *known == place).unwrap_or_else(|| {
                places.push(place);
                places.len() - 1
            });
            match rows.iter_mut().find(|row| row.name == name) {
                Some(row) => row.cells.push((at, index)),
                None => rows.push(Row { name, cells: vec![(at, index)] }),
            }
        }
        let styles = style::styles(table.policies.iter().map(|(key, _)| key.as_str()));
        Figure { table, across, places, styles, rows }
    }

    /// Where each policy's legend entry starts: line and left side.
    fn legend_places(&self) -> Vec<(usize, f64)> {
        let (mut line, mut left) = (0, MARGIN);
        let place = |(_, label): &(String, String)| {
            let width = 66.0 + text_width(label, 13.0) + 22.0;
            if left + width > WIDTH - MARGIN {
                (line, left) = (line + 1, MARGIN);
            }
            left += width;
            (line, left - width)
        };
        self.table.policies.iter().map(place).collect()
    }

    fn legend_lines(&self) -> usize {
        self.legend_places().last().map_or(0, |(line, _)| line + 1)
    }

    fn draw_legend(&self, canvas: &mut Canvas<'_>, top: f64) {
        let entries = self.table.policies.iter().zip(&self.styles).zip(self.legend_places());
        for (((_, label), style), (line, left)) in entries {
            let y = top + LEGEND_LINE * line as f64;
            match self.across {
                Across::Policies => canvas.rectangle((left, y - 7.0), (left + 48.0, y + 7.0), style.color),
                _ => {
                    canvas.path(&[(left, y), (left + 48.0, y)], style.color, style.width);
                    style.draw_marker(canvas, (left + 24.0, y));
                }
            }
            canvas.text(label, (left + 58.0, y), 13.0, INK, Align::Start);
        }
    }

    fn draw_column(
        &self,
        canvas: &mut Canvas<'_>,
        experiment: &Experiment,
        column: usize,
        metric: Metric,
        top: f64,
    ) {
        let left = LEFT + PITCH * column as f64;
        let y = self.y_axis(metric);
        let steps =
            if self.across == Across::Policies { self.table.policies.len() } else { self.places.len() };
        for (index, row) in self.rows.iter().enumerate() {
            let upper = top + ROW_PITCH * index as f64;
            let panel = Panel {
                left,
                top: upper,
                right: left + PITCH - BETWEEN,
                bottom: upper + PANEL_HEIGHT,
                x: Axis::Linear { from: -0.5, to: steps as f64 - 0.5 },
                y,
            };
            let last = index + 1 == self.rows.len();
            panel.draw(
                canvas,
                &Lettering {
                    title: if index == 0 { metric.title() } else { "" },
                    x_label: match experiment.across {
                        Across::Axis(_, label) if last => label,
                        Across::SloScale if last => "SLO scale",
                        _ => "",
                    },
                    x_ticks: self.x_ticks(),
                    y_ticks: y_ticks(metric, y),
                    ..Lettering::default()
                },
            );
            self.draw_values(canvas, &panel, row, metric);
        }
    }

    fn x_ticks(&self) -> Vec<Tick> {
        if self.across == Across::Policies {
            return Vec::new();
        }
        let tick = |(at, place): (usize, &String)| Tick { value: at as f64, label: vec![place.clone()] };
        self.places.iter().enumerate().map(tick).collect()
    }

    /// One axis for all rows: a share from 0 to 100, a time on a logarithmic axis, another number from 0.
    fn y_axis(&self, metric: Metric) -> Axis {
        if is_share(metric) {
            // Room for the markers at both ends.
            return Axis::Linear { from: -4.0, to: 104.0 };
        }
        let intervals: Vec<Interval> = (0..self.table.cells.len())
            .flat_map(|cell| self.table.policies.iter().map(move |(key, _)| (cell, key)))
            .filter_map(|(cell, key)| self.table.mean(cell, key, metric))
            .collect();
        if metric == Metric::TtftMedian {
            let means = intervals.iter().flat_map(|interval| [interval.mean, interval.high()]);
            return Axis::log_around(means).unwrap_or(Axis::from_zero(1.0));
        }
        Axis::from_zero(
            intervals.iter().map(Interval::high).filter(|high| high.is_finite()).fold(0.0, f64::max),
        )
    }

    fn draw_values(&self, canvas: &mut Canvas<'_>, panel: &Panel, row: &Row, metric: Metric) {
        let count = self.table.policies.len();
        for prominent in [false, true] {
            for (index, style) in self.styles.iter().enumerate() {
                if style.is_prominent() != prominent {
                    continue;
                }
                let key = &self.table.policies[index].0;
                let means = row
                    .cells
                    .iter()
                    .filter_map(|(at, cell)| Some((*at as f64, self.table.mean(*cell, key, metric)?)));
                if self.across == Across::Policies {
                    means.for_each(|(_, mean)| draw_bar(canvas, panel, index as f64, mean, style));
                } else {
                    // Side by side, so that whiskers at one place can be told apart.
                    let spread = (0.1 * self.places.len() as f64).min(0.5);
                    let aside = (index as f64 - (count as f64 - 1.0) / 2.0) * spread / count as f64;
                    draw_line(
                        canvas,
                        panel,
                        &means.map(|(x, mean)| (x + aside, mean)).collect::<Vec<_>>(),
                        style,
                    );
                }
            }
        }
    }
}

fn y_ticks(metric: Metric, axis: Axis) -> Vec<Tick> {
    if is_share(metric) {
        return panel::share_ticks();
    }
    axis.ticks(if metric == Metric::TtftMedian { words::seconds } else { words::number })
}

fn is_share(metric: Metric) -> bool {
    metric.title().ends_with("(%)")
}

/// Along the axis, and the name of the row.
fn placed(across: Across, cell: &Cell) -> (String, [String; 2]) {
    let scale = words::factor(cell.scale);
    match across {
        Across::SloScale => (scale, [cell.semantics.clone(), "by SLO scale".to_owned()]),
        _ => (cell.place.clone(), [cell.semantics.clone(), format!("SLO {scale}")]),
    }
}

fn draw_line(canvas: &mut Canvas<'_>, panel: &Panel, means: &[(f64, Interval)], style: &PolicyStyle) {
    let places: Vec<Point> = means.iter().map(|(x, mean)| panel.at(*x, mean.mean)).collect();
    // Solid: the dashes of so many panels would make the file several times as large.
    canvas.path(&places, style.color, style.width);
    for ((x, mean), place) in means.iter().zip(&places) {
        draw_whisker(canvas, panel, *x, *mean, style.color, 0.0);
        style.draw_marker(canvas, *place);
    }
}

fn draw_bar(canvas: &mut Canvas<'_>, panel: &Panel, x: f64, mean: Interval, style: &PolicyStyle) {
    let (left, right) = (panel.x_at(x - 0.36), panel.x_at(x + 0.36));
    let bottom = if matches!(panel.y, Axis::Linear { .. }) { panel.y_at(0.0) } else { panel.bottom };
    canvas.rectangle((left, panel.y_at(mean.mean)), (right, bottom), style.color);
    draw_whisker(canvas, panel, x, mean, INK, 5.0);
}

/// Values beyond the axis end on it.
fn draw_whisker(canvas: &mut Canvas<'_>, panel: &Panel, x: f64, mean: Interval, color: RGBColor, cap: f64) {
    if mean.half.is_finite() {
        let (x, low, high) = (panel.x_at(x), panel.y_at(mean.low()), panel.y_at(mean.high()));
        canvas.path(&[(x, low), (x, high)], color, 1.25);
        for y in [low, high].into_iter().filter(|_| cap > 0.0) {
            canvas.path(&[(x - cap, y), (x + cap, y)], color, 1.25);
        }
    }
}

fn notes(study: Study, experiment: &Experiment, table: &Table) -> Vec<String> {
    let scoring = match study {
        Study::Paper => {
            " Paper's scoring: OrbitFlow and methods with token deposit are scored with deposit playback, the others without; \
             the column beside it scores all with it."
        }
        Study::Insights if columns(study, experiment).contains(&Metric::AboveBound) => {
            " Bound: max(compute, copies) of each decode step, the copies those of the method's own placement."
        }
        Study::Insights => "",
    };
    let what = format!(
        "Means of {} seeds, each a trace of its own by the published recipe; whiskers: 95 % intervals (Student's t). Step and copy \
         times are the authors' published fits; nothing here was measured.{scoring} TBT and TPOT are of \
         the steps that made a token, as published: waiting and pauses are seen in e2e, playback stall and TTFT only. \
         From scenarios/{folder}/{name}.toml; the numbers: {name}.csv.",
        table.seeds.len(),
        folder = study.name(),
        name = experiment.name,
    );
    wrap(&what, WIDTH - 2.0 * MARGIN, 11.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_rows_unless_they_are_the_axis() {
        let cell = Cell { semantics: "published".to_owned(), place: "4".to_owned(), scale: 1.5 };
        let names = |first: &str| ["published".to_owned(), first.to_owned()];
        assert_eq!(placed(Across::Axis("x", "x"), &cell), ("4".to_owned(), names("SLO 1.5×")));
        assert_eq!(placed(Across::SloScale, &cell), ("1.5×".to_owned(), names("by SLO scale")));
    }
}
