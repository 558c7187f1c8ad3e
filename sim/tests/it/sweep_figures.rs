//! The figures of a sweep: their rows and nothing else, what is missing, what is held, and wrong wishes.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use orbitflow_sim::plot::draw_all;
use orbitflow_sim::plot::sweep::{Choice, Figure, Kind, Row, figures};
use orbitflow_sim::report::grid::{AxisUnit, GridAxis, GridPoint, GridResults, GridValue, Scored};
use orbitflow_sim::report::rows::{PolicyResult, QuantileRow, TimelineRow};

use super::made_up::{POLICIES, SCALES, policy_result, quantiles, results, timeline};
use super::plots::{assert_texts_lie_within_the_page, texts};

fn axis(key: &str, unit: AxisUnit, values: &[(&str, Option<f64>)]) -> GridAxis {
    let value =
        |(text, number): &(&str, Option<f64>)| GridValue { text: (*text).to_owned(), number: *number };
    GridAxis { key: key.to_owned(), unit, values: values.iter().map(value).collect() }
}

/// The results of three policies at one point, made up, slower with more load and less link.
fn point_results(slowness: f64) -> Vec<PolicyResult> {
    let of =
        |(key, label, slow): &(&str, &str, f64)| policy_result(&(*key, *label, slow * slowness), &SCALES);
    POLICIES[..3].iter().map(of).collect()
}

fn scored(policies: &[PolicyResult]) -> Vec<Scored> {
    Scored::of(policies, |policy| POLICIES.iter().position(|known| known.0 == policy.key).expect("known"))
}

/// Load, link (not in order), server and three seeds: 36 points.
fn grid() -> GridResults {
    let axes = vec![
        axis("trace.load", AxisUnit::Plain, &[("1", Some(1.0)), ("2", Some(2.0)), ("4", Some(4.0))]),
        axis("link", AxisUnit::GigabytesPerSecond, &[("70 GB/s", Some(70.0)), ("7 GB/s", Some(7.0))]),
        axis("server", AxisUnit::Words, &[("small", None), ("large", None)]),
        axis("seed", AxisUnit::Plain, &[("1", Some(1.0)), ("2", Some(2.0)), ("3", Some(3.0))]),
    ];
    let mut points = Vec::new();
    for (load, factor) in [0.7, 1.0, 1.4].into_iter().enumerate() {
        for link in 0..2 {
            for server in 0..2 {
                for seed in 0..3 {
                    let slowness =
                        factor * (1.0 + 0.3 * link as f64 - 0.1 * server as f64 + 0.05 * seed as f64);
                    let place = vec![load, link, server, seed];
                    points.push(GridPoint { place, scored: scored(&point_results(slowness)) });
                }
            }
        }
    }
    GridResults {
        grid: "grid.toml".to_owned(),
        grid_digest: "0123456789abcdef".to_owned(),
        tool_version: "0.1.0".to_owned(),
        axes,
        policies: POLICIES[..3]
            .iter()
            .map(|(key, label, _)| ((*key).to_owned(), (*label).to_owned()))
            .collect(),
        points,
        notes: vec!["hardware: made up".to_owned()],
        switches: [("engine.slots".to_owned(), "3".to_owned())].into(),
    }
}

fn named<'a>(figures: &'a [Figure], name: &str) -> &'a Figure {
    let known = || figures.iter().map(|figure| figure.name.as_str()).collect::<Vec<_>>();
    figures.iter().find(|figure| figure.name == name).unwrap_or_else(|| panic!("{name}: {:?}", known()))
}

fn wish(x: &str, y: &str, metric: &str, held: &[(&str, &str)]) -> Choice {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let held = held.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Choice { x: some(x), y: some(y), facet: None, metric: some(metric), held }
}

/// The rows as another program reads them from the CSV.
fn reread(figure: &Figure) -> Vec<Row> {
    let csv = figure.csv();
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let columns = figure.columns.len();
    let head: Vec<String> = reader.headers().expect("a head").iter().map(str::to_owned).collect();
    let names: Vec<&str> = figure.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(head[..columns], names);
    let rest = ["policy", "label", "metric", "seeds", "missing", "mean", "ci95_low", "ci95_high"];
    assert_eq!(head[columns..], rest);
    let row = |record: csv::StringRecord| {
        let cell = |index: usize| record[columns + index].to_owned();
        let number = |index: usize| cell(index).parse().ok();
        Row {
            at: record.iter().take(columns).map(str::to_owned).collect(),
            policy: cell(0),
            label: cell(1),
            metric: cell(2),
            seeds: cell(3).parse().expect("a count"),
            missing: cell(4).parse().expect("a count"),
            mean: number(5),
            ci95_low: number(6),
            ci95_high: number(7),
        }
    };
    reader.records().map(|record| row(record.expect("a record"))).collect()
}

#[test]
fn without_a_wish_there_are_lines_and_bars_of_every_axis_and_a_heat_map_of_the_numeric_ones() {
    let figures = figures(&grid(), &Choice::default()).unwrap();
    let names: Vec<&str> = figures.iter().map(|figure| figure.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "attainment-by-trace.load",
            "bars-by-trace.load",
            "attainment-by-link",
            "bars-by-link",
            "attainment-by-server",
            "bars-by-server",
            "attainment-by-slo.scale",
            "heatmap-e2e_pct-by-trace.load-and-link",
        ]
    );
    // Kept under target/tmp, to be looked at.
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sweep-figures");
    fs::create_dir_all(&kept).unwrap();
    for figure in &figures {
        let svg = figure.svg().unwrap();
        fs::write(kept.join(format!("{}.svg", figure.name)), &svg).unwrap();
        assert_eq!(svg, figure.svg().unwrap(), "{}: twice the same", figure.name);
        assert_texts_lie_within_the_page(&svg, Path::new(&figure.name));
        assert_no_texts_overlap(&svg, &figure.name);
        let texts = texts(&svg).join("\n");
        for said in [
            "grid.toml",
            "Means over 3 seeds",
            "95 % intervals",
            "hardware: made up",
            "engine.slots = 3",
            "0123456789ab",
        ] {
            assert!(texts.contains(said), "{} lacks `{said}`", figure.name);
        }
    }
}

#[test]
fn a_figure_is_drawn_from_the_rows_of_its_csv_and_nothing_else() {
    for figure in figures(&grid(), &Choice::default()).unwrap() {
        let rows = reread(&figure);
        assert_eq!(rows, figure.rows, "{}", figure.name);
        let again = Figure { rows, ..figure.clone() };
        assert_eq!(again.svg(), figure.svg(), "{}", figure.name);
        let mut other = figure.clone();
        other.rows[0].mean = other.rows[0].mean.map(|mean| mean * 0.5);
        assert_ne!(other.svg(), figure.svg(), "{}: another mean is another figure", figure.name);
    }
}

#[test]
fn the_rows_of_a_comparison_stand_beside_its_figures() {
    let dir = tempfile::tempdir().unwrap();
    let (results, quantiles, timeline) =
        (results(&POLICIES, &SCALES), quantiles(&POLICIES), timeline(&POLICIES));
    draw_all(&results, &quantiles, &timeline, &[], dir.path(), false).unwrap();
    let reader = |name: &str| csv::Reader::from_path(dir.path().join(name)).expect("a CSV");
    let read: Vec<QuantileRow> = reader("tbt_cdf.csv").into_deserialize().map(|row| row.unwrap()).collect();
    assert_eq!(read, quantiles);
    let read: Vec<TimelineRow> =
        reader("timeline-static-1.csv").into_deserialize().map(|row| row.unwrap()).collect();
    assert_eq!(read, timeline.into_iter().filter(|row| row.policy == "static-1").collect::<Vec<_>>());
    let mut attainment = reader("attainment.csv");
    assert_eq!(attainment.headers().unwrap().get(7), Some("e2e_pct"));
    let e2e: Vec<f64> = attainment.records().map(|row| row.unwrap()[7].parse().unwrap()).collect();
    let scales = results.policies.iter().flat_map(|policy| &policy.by_slo_scale);
    assert_eq!(e2e, scales.map(|scale| scale.attainment_pct.e2e).collect::<Vec<_>>());
}

#[test]
fn a_mean_is_over_seeds_with_students_interval() {
    let mut grid = grid();
    for (seed, point) in grid.points[..3].iter_mut().enumerate() {
        let mut policies = point_results(1.0);
        policies[0].by_slo_scale[0].attainment_pct.e2e = [80.0, 85.0, 90.0][seed];
        point.scored = scored(&policies);
    }
    let held = [("link", "70"), ("server", "small")];
    let figures = figures(&grid, &wish("trace.load", "", "e2e_pct", &held)).unwrap();
    let row = &named(&figures, "e2e_pct-by-trace.load").rows[0];
    // 80, 85, 90: mean 85, s = 5, t(0.975, 2) = 4.303: 85 ± 4.303 · 5/√3 = 85 ± 12.42; beyond 100 % it is left as it is.
    assert_eq!((row.mean, row.seeds, row.missing), (Some(85.0), 3, 0));
    assert!((row.ci95_high.unwrap() - 97.42).abs() < 5e-3 && (row.ci95_low.unwrap() - 72.58).abs() < 5e-3);
    // load, link (in GB/s), server, SLO scale.
    assert_eq!(row.at, ["1", "70", "small", "1.5"]);
}

#[test]
fn one_seed_has_no_interval_and_says_so() {
    let figures = figures(&grid(), &wish("trace.load", "", "", &[("seed", "2")])).unwrap();
    for figure in &figures {
        assert!(
            figure.rows.iter().all(|row| row.seeds == 1 && row.ci95_low.is_none() && row.ci95_high.is_none())
        );
        assert!(figure.svg().unwrap().contains("Seed 2 alone: no intervals"), "{}", figure.name);
    }
    let mut unseeded = grid();
    unseeded.axes.pop();
    unseeded.points.retain(|point| point.place[3] == 0);
    unseeded.points.iter_mut().for_each(|point| point.place.truncate(3));
    let figures = self::figures(&unseeded, &Choice::default()).unwrap();
    assert!(figures[0].svg().unwrap().contains("One run per place: no intervals"));
}

#[test]
fn failed_points_are_counted_and_never_a_zero() {
    let mut grid = grid();
    // Load 1, link 70 GB/s, small: all seeds; load 1, link 70 GB/s, large: one of three.
    (0..4).for_each(|point| grid.points[point].scored.clear());
    let held = [("server", "small")];
    for choice in [wish("trace.load", "", "", &[held[0], ("link", "70")]), wish("", "link", "", &held)] {
        for figure in figures(&grid, &choice).unwrap() {
            let (missing, there): (Vec<&Row>, Vec<&Row>) =
                figure.rows.iter().partition(|row| row.at[..3] == ["1", "70", "small"]);
            assert!(!missing.is_empty() && missing.iter().all(|row| (row.seeds, row.missing) == (0, 3)));
            assert!(missing.iter().all(|row| row.mean.is_none()), "{}", figure.name);
            assert!(there.iter().all(|row| (row.seeds, row.missing) == (3, 0)), "{}", figure.name);
            let svg = figure.svg().unwrap();
            assert!(svg.contains("4 of 36 points failed"), "{}", figure.name);
            assert!(svg.contains("not a 0"), "{}", figure.name);
        }
    }
    let partly = figures(&grid, &wish("trace.load", "", "", &[("server", "large"), ("link", "70")])).unwrap();
    let first = &partly[0].rows[0];
    assert_eq!((first.seeds, first.missing), (2, 1), "a mean over the seeds that are there");
    grid.points.iter_mut().for_each(|point| point.scored.clear());
    grid.policies.clear();
    let said = figures(&grid, &Choice::default()).unwrap_err().to_string();
    assert!(said.starts_with("no point of the sweep was simulated"), "{said}");
}

#[test]
fn a_percentile_of_the_first_scales_run_is_no_other_scales() {
    let held = [("slo.scale", "2.5"), ("server", "small"), ("link", "7 GB/s")];
    let figures = figures(&grid(), &wish("trace.load", "", "tbt_step_p95_s", &held)).unwrap();
    for row in figures[0].rows.iter().filter(|row| row.metric == "tbt_step_p95_s") {
        // ORBITFLOW ran anew for the scale, the others were only scored again.
        assert_eq!(row.mean.is_none(), row.policy == "orbitflow", "{row:?}");
    }
}

#[test]
fn a_score_of_tbt_never_stands_alone() {
    let price = ["e2e attainment", "Playback stall", "TTFT, median", "Throughput (tokens/s)"];
    let held = [("server", "small")];
    let alone = [wish("link", "", "tbt_gap_pct", &[]), wish("", "link", "tbt_step_p95_s", &held)];
    for choice in alone.into_iter().chain([Choice::default()]) {
        for figure in figures(&grid(), &choice).unwrap() {
            let svg = figure.svg().unwrap();
            let texts = texts(&svg).join("\n");
            if texts.contains("TBT") {
                price.iter().for_each(|price| assert!(texts.contains(price), "{}: {price}", figure.name));
            }
        }
    }
}

#[test]
fn an_axis_over_a_decade_is_logarithmic_and_few_names_are_facets() {
    let figures = figures(&grid(), &Choice::default()).unwrap();
    let svg = |name: &str| named(&figures, name).svg().unwrap();
    assert!(svg("attainment-by-link").contains("Link rate (GB/s), logarithmic"));
    assert!(!svg("attainment-by-trace.load").contains("logarithmic"));
    for facet in ["server = small", "server = large"] {
        assert!(svg("attainment-by-trace.load").contains(facet));
    }
    // Numbers ascend whatever their order in the file, names do not.
    let links: Vec<&str> =
        named(&figures, "attainment-by-link").rows.iter().map(|row| row.at[1].as_str()).collect();
    assert!(links.iter().position(|link| *link == "7") < links.iter().position(|link| *link == "70"));
    // Held: the middle of three loads, the SLO scale that is planned for.
    let held: Vec<&str> =
        named(&figures, "bars-by-server").held.iter().map(|held| held.text.as_str()).collect();
    assert_eq!(held, ["trace.load = 2", "link = 7 GB/s", "slo.scale = 1.5×"]);
}

#[test]
fn a_heat_map_says_who_leads_and_where_it_is_a_tie() {
    let mut grid = grid();
    for point in grid.points.iter_mut().filter(|point| point.place[0] == 2) {
        let mut policies = point_results(1.0);
        policies.iter_mut().for_each(|policy| policy.by_slo_scale[0].attainment_pct.e2e = 50.0);
        point.scored = scored(&policies);
    }
    let figures = figures(&grid, &wish("trace.load", "link", "", &[("server", "small")])).unwrap();
    let map = named(&figures, "heatmap-e2e_pct-by-trace.load-and-link");
    assert_eq!(map.kind, Kind::Map);
    let svg = map.svg().unwrap();
    let texts = texts(&svg);
    assert!(texts.contains(&"Best policy, and its lead"));
    assert_eq!(texts.iter().filter(|text| **text == "=").count(), 2, "one tie per link");
    // Every mean is printed: 3 policies at 3 loads and 2 links.
    for row in &map.rows {
        let printed = format!("{:.0}", row.mean.unwrap());
        assert!(texts.contains(&printed.as_str()), "{printed}");
    }
}

#[test]
fn a_wish_for_what_there_is_not_is_answered_with_what_there_is() {
    let said = |choice: Choice| figures(&grid(), &choice).unwrap_err().to_string();
    let axes = "`trace.load`, `link`, `server`, `slo.scale`";
    assert_eq!(
        said(wish("trace.lod", "", "", &[])),
        format!("--x: `trace.lod` is no axis of this sweep: expected one of {axes}")
    );
    assert_eq!(
        said(wish("", "", "", &[("sede", "1")])),
        format!("--where: `sede` is no axis of this sweep: expected one of {axes}, `seed`")
    );
    assert_eq!(
        said(wish("", "", "", &[("link", "9 GB/s")])),
        "--where: link: `9 GB/s` is no value of this axis: expected one of `7 GB/s`, `70 GB/s`"
    );
    assert!(said(wish("", "", "", &[("seed", "9")])).contains("expected one of `1`, `2`, `3`"));
    assert!(
        said(wish("", "", "e2e", &[]))
            .starts_with("--metric: `e2e` is no column of sweep.csv: expected one of e2e_pct, ")
    );
    assert!(said(wish("link", "link", "", &[])).starts_with("--x and --y both name `link`"));
    assert!(said(wish("link", "", "", &[("link", "7")])).starts_with("--where and --x both name `link`"));
    let facet = Choice { facet: Some("server".to_owned()), ..wish("", "link", "", &[]) };
    assert!(said(facet).starts_with("--facet: a map has one panel per policy"));
}

#[test]
fn a_thousand_places_have_bars_of_one_of_them() {
    let texts: Vec<String> = (0..1000).map(|load| load.to_string()).collect();
    let values: Vec<_> = texts.iter().map(|text| (text.as_str(), text.parse().ok())).collect();
    let mut grid = grid();
    grid.axes = vec![axis("trace.load", AxisUnit::Plain, &values)];
    let one = scored(&point_results(1.0));
    let point = |load| GridPoint { place: vec![load], scored: one.clone() };
    grid.points = (0..1000).map(point).collect();
    let figures = figures(&grid, &Choice::default()).unwrap();
    let bars = named(&figures, "bars");
    assert_eq!(bars.held[0].text, "trace.load = 499");
    assert!(figures.iter().all(|figure| figure.svg().is_ok()));
}

/// No horizontal text lies over another: widths as in [`assert_texts_lie_within_the_page`], heights of small letters.
fn assert_no_texts_overlap(svg: &str, name: &str) {
    let number = |tag: &str, name: &str| -> f64 {
        let value = tag.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
        value.and_then(|(value, _)| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {tag}"))
    };
    let mut boxes: Vec<(&str, [f64; 4])> = Vec::new();
    for tag in svg.split("<text").skip(1).filter(|tag| !tag.contains("rotate")) {
        let text = tag.split_once(">\n").expect("a text").1.split('\n').next().expect("a line");
        let size = number(tag, "font-size");
        let width = text.chars().count() as f64 * 0.53 * size;
        let before = if tag.contains("\"end\"") {
            1.0
        } else if tag.contains("\"middle\"") {
            0.5
        } else {
            0.0
        };
        let left = number(tag, "x") - before * width;
        let y = number(tag, "y");
        boxes.push((text, [left, left + width, y - 0.4 * size, y]));
    }
    for (index, (text, one)) in boxes.iter().enumerate() {
        for (other_text, other) in &boxes[..index] {
            let apart = one[1] <= other[0] || other[1] <= one[0] || one[3] <= other[2] || other[3] <= one[2];
            assert!(apart, "{name}: `{text}` lies over `{other_text}`");
        }
    }
}

/// 8 points of a few milliseconds.
const GRID: &str = r#"
model = "llama-3-8b"
hardware = "engine-fit:a6000"
policies = ["orbitflow", "static-1"]
slo.scale = [1.5, 1]
[trace]
draw = { requests = 8, length_scale = 0.1 }
[axes]
"trace.load" = [1, 4]
link = ["7 GB/s", "25 GB/s"]
seed = [1, 2]
"#;

fn orbitflow(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("orbitflow").expect("the program");
    command.current_dir(dir).args(args);
    for name in ["SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"] {
        command.env_remove(name);
    }
    command
}

#[test]
fn a_sweep_leaves_its_figures_and_plot_draws_them_again_or_others() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    fs::write(dir.join("grid.toml"), GRID).unwrap();
    orbitflow(dir, &["sweep", "grid.toml", "--out", "s"]).assert().success();
    let drawn = orbitflow(dir, &["plot", "s", "--out", "again"]).assert().success();
    let stdout = String::from_utf8_lossy(&drawn.get_output().stdout).into_owned();
    let stderr = String::from_utf8_lossy(&drawn.get_output().stderr).into_owned();
    // Lines and bars of two axes, lines of the SLO scale, a map; each with its CSV.
    assert_eq!(stdout.lines().count(), 6 * 2, "{stdout}");
    for file in stdout.lines() {
        let name = Path::new(file).file_name().unwrap();
        let (again, first) =
            (fs::read(dir.join(file)).unwrap(), fs::read(dir.join("s/plots").join(name)).unwrap());
        assert!(again == first, "{file}");
    }
    assert!(stderr.contains("attainment-by-trace.load: at link = 7 GB/s, slo.scale = 1.5×"), "{stderr}");
    let quiet = orbitflow(dir, &["plot", "s", "--out", "again", "--quiet"]).assert().success();
    assert!(quiet.get_output().stderr.is_empty());
    // The same numbers as sweep.csv: the mean of two seeds.
    let wish = ["plot", "s", "--x", "link", "--metric", "e2e_pct", "--where", "trace.load=4", "--out", "o"];
    orbitflow(dir, &wish).assert().success();
    let table = fs::read_to_string(dir.join("s/sweep.csv")).unwrap();
    let mut rows = csv::Reader::from_reader(table.as_bytes());
    let head = rows.headers().unwrap().clone();
    let column = |name: &str| head.iter().position(|column| column == name).unwrap();
    let (load, link, policy, scale, e2e) =
        (column("trace.load"), column("link"), column("policy"), column("slo_scale"), column("e2e_pct"));
    let values: Vec<f64> = rows
        .records()
        .map(|row| row.unwrap())
        .filter(|row| {
            row[load] == *"4" && row[link] == *"25 GB/s" && row[policy] == *"static-1" && row[scale] == *"1.5"
        })
        .map(|row| row[e2e].parse().unwrap())
        .collect();
    assert_eq!(values.len(), 2);
    let figure = fs::read_to_string(dir.join("o/e2e_pct-by-link.csv")).unwrap();
    let mean = (values[0] + values[1]) / 2.0;
    let expected = format!("4,25,1.5,static-1,FlexGen,e2e_pct,2,0,{mean},");
    assert!(figure.contains(&expected), "{expected}\n{figure}");
}

#[test]
fn plot_refuses_wishes_of_a_comparison_two_kinds_of_results_and_a_broken_point() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    fs::write(dir.join("grid.toml"), GRID).unwrap();
    let set = ["--set", "seed=1", "--set", "trace.load=1"];
    orbitflow(dir, &[&["sweep", "grid.toml", "--out", "s"], &set[..]].concat()).assert().success();
    let one = ["compare", "grid.toml", "--out", "c", "--set", "link=7 GB/s"];
    orbitflow(dir, &[&one[..], &set[..]].concat()).assert().success();
    let said = |args: &[&str]| {
        let refused = orbitflow(dir, args).assert().code(2).stdout("");
        String::from_utf8_lossy(&refused.get_output().stderr).into_owned()
    };
    let of_comparison = said(&["plot", "c", "--x", "link"]);
    assert!(of_comparison.contains("--x: is for the results of `orbitflow sweep`"), "{of_comparison}");
    let wish = said(&["plot", "s", "--y", "seeds"]);
    assert!(
        wish.contains(
            "s: --y: `seeds` is no axis of this sweep: expected one of `trace.load`, `link`, `slo.scale`"
        ),
        "{wish}"
    );
    assert!(said(&["plot", "s", "--where", "link"]).contains("--where: \"link\": expected KEY=VALUE"));
    fs::copy(dir.join("c/results.json"), dir.join("s/results.json")).unwrap();
    assert!(said(&["plot", "s"]).contains("s: holds both a comparison and a sweep"));
    fs::remove_file(dir.join("s/results.json")).unwrap();
    let point = fs::read_dir(dir.join("s/points")).unwrap().next().unwrap().unwrap().path();
    fs::write(&point, "{").unwrap();
    assert!(said(&["plot", "s"]).contains(".json: EOF while parsing"));
}
