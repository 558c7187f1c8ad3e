//! Two sweeps beside each other, joined by the names of their points, one point in memory at a time.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;
use serde_json::Value;

use super::super::table::{Cell, Table};
use super::super::{Format, OrInput};
use super::{Args, text, text_line, write_line, write_rows};
use crate::report::diff::{self, Diff, Setting, Side, Verdict};
use crate::sweep::{self, Manifest, PointRecord};

/// One point on both sides.
#[derive(Serialize)]
struct PointDiff<'a> {
    point: &'a str,
    side: Side,
    /// Why it failed, where it did.
    error_a: Option<&'a str>,
    error_b: Option<&'a str>,
    /// `None` unless both sides have its results.
    diff: Option<Diff>,
}

/// What one number did over all points that both sides have.
#[derive(Default)]
struct Tally {
    points: u64,
    better: u64,
    worse: u64,
    equal: u64,
    sum: f64,
    least: f64,
    most: f64,
}

impl Tally {
    fn add(&mut self, difference: f64, verdict: Option<Verdict>) {
        let first = self.points == 0;
        self.points += 1;
        self.better += u64::from(verdict == Some(Verdict::Better));
        self.worse += u64::from(verdict == Some(Verdict::Worse));
        self.equal += u64::from(difference == 0.0);
        self.sum += difference;
        self.least = if first { difference } else { self.least.min(difference) };
        self.most = if first { difference } else { self.most.max(difference) };
    }
}

/// Writes the difference in the format that `args` ask for.
pub fn compare(args: &Args, a: &Manifest, b: &Manifest, out: &mut impl Write) -> anyhow::Result<()> {
    let settings = settings(a, b);
    let joined = join(a, b);
    // A point that cannot be read is said before anything is printed.
    for point in &joined {
        point.load(args).or_input()?;
    }
    let mut identical = settings.is_empty();
    match args.format {
        Format::Table => {
            out.write_all(text::sides(&args.a, None, &args.b, None).as_bytes())?;
            let mut summary = Summary { settings, ..Summary::default() };
            for point in joined {
                summary.add(point.load(args).or_input()?, args.all)?;
            }
            out.write_all(summary.text()?.as_bytes())?;
        }
        Format::Json => {
            let head = |value: &Value| serde_json::to_string(value);
            let (dir_a, dir_b) = (args.a.display().to_string(), args.b.display().to_string());
            write!(out, "{{\n\"a\": {},\n\"b\": {},\n", head(&dir_a.into())?, head(&dir_b.into())?)?;
            write!(out, "\"settings\": {},\n\"points\": [", serde_json::to_string(&settings)?)?;
            for (place, point) in joined.into_iter().enumerate() {
                let point = point.load(args).or_input()?;
                identical &= is_identical(&point);
                let separator = if place == 0 { "" } else { "," };
                write!(out, "{separator}\n{}", serde_json::to_string(&point)?)?;
            }
            write!(out, "\n],\n\"identical\": {identical}\n}}\n")?;
        }
        Format::Csv => {
            let mut rows = csv::Writer::from_writer(out);
            for setting in &settings {
                write_line(&mut rows, text_line("", "", None, setting))?;
            }
            for point in joined {
                let point = point.load(args).or_input()?;
                let (a, b) = (point.error_a.map(str::to_owned), point.error_b.map(str::to_owned));
                if point.diff.is_none() {
                    let failed = Setting { name: "error".to_owned(), a, b };
                    write_line(&mut rows, text_line(point.point, "", Some(point.side), &failed))?;
                }
                if let Some(diff) = &point.diff {
                    write_rows(&mut rows, point.point, diff)?;
                }
            }
            rows.flush()?;
        }
    }
    Ok(())
}

fn is_identical(point: &PointDiff<'_>) -> bool {
    match &point.diff {
        Some(diff) => diff.identical,
        None => point.side == Side::Both && point.error_a == point.error_b,
    }
}

fn settings(a: &Manifest, b: &Manifest) -> Vec<Setting> {
    let pairs = |list: &Manifest| {
        [
            ("tool_version", list.tool_version.clone()),
            ("grid", list.grid.clone()),
            ("grid_digest", list.grid_digest.clone()),
            ("grid_points", list.grid_points.to_string()),
            ("axes", list.axes.join(", ")),
        ]
    };
    (pairs(a).into_iter().zip(pairs(b)))
        .filter(|((_, a), (_, b))| a != b)
        .map(|((name, a), (_, b))| Setting { name: name.to_owned(), a: Some(a), b: Some(b) })
        .collect()
}

/// A point of either side, with its records.
struct Joined<'a> {
    a: Option<&'a PointRecord>,
    b: Option<&'a PointRecord>,
}

/// A's points in its order, then those that B alone has.
fn join<'a>(a: &'a Manifest, b: &'a Manifest) -> Vec<Joined<'a>> {
    let by_name: BTreeMap<&str, &PointRecord> =
        b.points.iter().map(|record| (record.point.as_str(), record)).collect();
    let of_a: BTreeMap<&str, ()> = a.points.iter().map(|record| (record.point.as_str(), ())).collect();
    let mut all: Vec<Joined<'a>> = (a.points.iter())
        .map(|record| Joined { a: Some(record), b: by_name.get(record.point.as_str()).copied() })
        .collect();
    let new = b.points.iter().filter(|record| !of_a.contains_key(record.point.as_str()));
    all.extend(new.map(|record| Joined { a: None, b: Some(record) }));
    all
}

impl<'a> Joined<'a> {
    fn load(&self, args: &Args) -> anyhow::Result<PointDiff<'a>> {
        let side = match (self.a, self.b) {
            (Some(_), Some(_)) => Side::Both,
            (Some(_), None) => Side::OnlyA,
            _ => Side::OnlyB,
        };
        let digest = |record: Option<&'a PointRecord>| record.and_then(|record| record.digest.as_deref());
        let error = |record: Option<&'a PointRecord>| record.and_then(|record| record.error.as_deref());
        let diff = match (digest(self.a), digest(self.b)) {
            (Some(a), Some(b)) => {
                Some(diff::diff(&sweep::point_results(&args.a, a)?, &sweep::point_results(&args.b, b)?))
            }
            _ => None,
        };
        let named = self.a.or(self.b).expect("Invariant: a point is of one side at least");
        Ok(PointDiff { point: &named.point, side, error_a: error(self.a), error_b: error(self.b), diff })
    }
}

/// What people are shown of two sweeps.
#[derive(Default)]
struct Summary {
    settings: Vec<Setting>,
    cautions: Vec<String>,
    points: u64,
    identical: u64,
    /// Points that one side lacks or that failed, and policies that one side lacks.
    lines: Vec<String>,
    /// By policy, in the order of their first sight, and number.
    policies: Vec<String>,
    tallies: BTreeMap<(usize, usize), Tally>,
    /// Every point in full, with `--all`.
    full: String,
}

impl Summary {
    fn add(&mut self, point: PointDiff<'_>, all: bool) -> anyhow::Result<()> {
        self.points += 1;
        self.identical += u64::from(is_identical(&point));
        let name = point.point;
        match point.side {
            Side::OnlyA => self.lines.push(format!("{name}: only in A")),
            Side::OnlyB => self.lines.push(format!("{name}: only in B")),
            Side::Both => {}
        }
        for (side, error) in [("A", point.error_a), ("B", point.error_b)] {
            if let Some(error) = error {
                self.lines.push(format!("{name}: failed in {side}: {error}"));
            }
        }
        let Some(diff) = point.diff else { return Ok(()) };
        if all {
            self.full += &format!("\n== {name}\n{}", text::comparison(&diff, true)?);
        }
        for caution in diff.cautions {
            if !self.cautions.contains(&caution) {
                self.cautions.push(caution);
            }
        }
        for policy in &diff.policies {
            if policy.side != Side::Both {
                let side = if policy.side == Side::OnlyA { "A" } else { "B" };
                self.lines.push(format!("{name}: {}: only in {side}", policy.key));
            }
            let place = self.policies.iter().position(|key| *key == policy.key).unwrap_or_else(|| {
                self.policies.push(policy.key.clone());
                self.policies.len() - 1
            });
            let first = policy.rows.first().and_then(|row| row.slo_scale);
            for row in policy.rows.iter().filter(|row| row.slo_scale == first) {
                let number = text::SCORES.iter().position(|score| *score == row.metric);
                let difference = row.difference.as_ref().and_then(|difference| difference.as_f64());
                if let Some((number, difference)) = number.zip(difference) {
                    self.tallies.entry((place, number)).or_default().add(difference, row.verdict);
                }
            }
        }
        Ok(())
    }

    fn text(&self) -> anyhow::Result<String> {
        if self.settings.is_empty() && self.identical == self.points {
            return Ok(format!(
                "\nidentical: every setting and number of {} points, and the digests over every event\n",
                self.points
            ));
        }
        let mut said = text::settings(&self.settings);
        for caution in &self.cautions {
            said += &format!("caution: {caution}\n");
        }
        said += &format!("\n{} of {} points are identical\n", self.identical, self.points);
        let columns = [
            "policy",
            "number at its first SLO scale",
            "points",
            "better",
            "worse",
            "equal",
            "mean B − A",
            "least",
            "most",
        ];
        let mut table = Table::new(columns);
        for ((policy, number), tally) in &self.tallies {
            let digits = text::digits(tally.least.abs().max(tally.most.abs()));
            table.push([
                self.policies[*policy].as_str().into(),
                text::SCORES[*number].into(),
                tally.points.into(),
                tally.better.into(),
                tally.worse.into(),
                tally.equal.into(),
                Cell::Change(tally.sum / tally.points as f64, digits),
                Cell::Change(tally.least, digits),
                Cell::Change(tally.most, digits),
            ]);
        }
        if !table.is_empty() {
            said += &format!("\n{}", table.render(Format::Table)?);
            said += "  better, worse: B beside A at the same point, where a direction is known\n";
        }
        for line in &self.lines {
            said += &format!("{line}\n");
        }
        Ok(said + &self.full)
    }
}
