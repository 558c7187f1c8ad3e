//! Two profiles side by side: the numbers that a simulation hangs on, and their ratio.
//!
//! A pure function from two profiles to rows, and from rows to text; JSON is the rows themselves. Tables are read inside
//! their measured range only: nothing is extrapolated to have something to compare.

use std::collections::{BTreeMap, BTreeSet};

use orbitflow_sim::cost::profile::{LinkDirection, ModelShape, Positive, PrefillShape};
use orbitflow_sim::cost::{BatchTable, HardwareProfile, ProfileKind, PromptTable};
use serde::Serialize;

/// Requests per batch at which the tables of products are compared.
const BATCHES: [u32; 3] = [1, 8, 32];
/// Prompt tokens at which prefill is compared.
const PROMPTS: [u32; 2] = [2048, 8192];

/// Two profiles side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// What the first is called: its file.
    pub a: String,
    /// What the second is called.
    pub b: String,
    /// One quantity each, in the order of the profile; those that neither has are left out.
    pub rows: Vec<Row>,
    /// What to know before reading anything into a ratio.
    pub warnings: Vec<String>,
}

/// One quantity of both profiles.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Which.
    pub quantity: String,
    /// Of both values.
    pub unit: &'static str,
    /// In the first; `None`: it does not say.
    pub a: Option<f64>,
    /// In the second.
    pub b: Option<f64>,
    /// Second over first.
    pub ratio: Option<f64>,
}

/// Compares `a` with `b`; each comes with what it is called.
pub fn compare(a: (&str, &HardwareProfile), b: (&str, &HardwareProfile)) -> Comparison {
    let (left, right) = (quantities(a.1), quantities(b.1));
    let keys: BTreeSet<&Key> = left.keys().chain(right.keys()).collect();
    let rows = keys
        .into_iter()
        .map(|key| {
            let (a, b) = (left.get(key).copied(), right.get(key).copied());
            let ratio = a.zip(b).filter(|(a, _)| *a != 0.0).map(|(a, b)| b / a);
            Row { quantity: key.quantity.clone(), unit: key.unit, a, b, ratio }
        })
        .collect();
    Comparison { a: a.0.to_owned(), b: b.0.to_owned(), rows, warnings: warnings(a, b) }
}

/// A quantity; ordered as the table is.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    section: u32,
    quantity: String,
    unit: &'static str,
}

/// The quantities of one profile, in plain units.
#[derive(Default)]
struct Quantities {
    values: BTreeMap<Key, f64>,
    section: u32,
}

impl Quantities {
    fn next_section(&mut self) {
        self.section += 1;
    }

    fn add(&mut self, quantity: &str, unit: &'static str, scale: f64, value: Option<f64>) {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            let key = Key { section: self.section, quantity: quantity.to_owned(), unit };
            self.values.insert(key, value * scale);
        }
    }
}

fn quantities(profile: &HardwareProfile) -> BTreeMap<Key, f64> {
    let mut all = Quantities::default();
    let plain = |value: Option<Positive>| value.map(Positive::get);
    direction("link h2d", Some(&profile.link.h2d), &mut all);
    direction("link d2h", profile.link.d2h.as_ref(), &mut all);
    direction("link pageable", profile.link.pageable.as_ref(), &mut all);
    let bidir = profile.link.bidir.as_ref();
    all.next_section();
    all.add("h2d rate with d2h busy", "×", 1.0, bidir.and_then(|bidir| plain(bidir.h2d_factor)));
    all.next_section();
    all.add("d2h rate with h2d busy", "×", 1.0, bidir.and_then(|bidir| plain(bidir.d2h_factor)));
    let hbm = profile.hbm.as_ref();
    all.next_section();
    all.add("memory copy (read + write)", "GB/s", 1e-9, hbm.and_then(|hbm| plain(hbm.copy_rw_bytes_per_s)));
    all.next_section();
    all.add("memory read", "GB/s", 1e-9, hbm.and_then(|hbm| plain(hbm.read_bytes_per_s)));
    models(profile, &mut all);
    contention(profile, &mut all);
    let summary = profile.validation.as_ref().and_then(|validation| validation.summary.as_ref());
    let errors = [
        ("validation median error", summary.and_then(|summary| summary.median_abs)),
        ("validation 95th percentile", summary.and_then(|summary| summary.p95_abs)),
        ("validation regret", summary.and_then(|summary| summary.regret)),
    ];
    for (name, error) in errors {
        all.next_section();
        all.add(name, "%", 100.0, error);
    }
    all.values
}

fn direction(name: &str, direction: Option<&LinkDirection>, all: &mut Quantities) {
    let of = |get: fn(&LinkDirection) -> Option<Positive>| direction.and_then(get).map(Positive::get);
    let lines = [
        ("rate", "GB/s", 1e-9, of(|line| Some(line.bw_inf_bytes_per_s))),
        ("rate below the knee", "GB/s", 1e-9, of(|line| line.bw_small_bytes_per_s)),
        ("knee", "KiB", 1.0 / 1024.0, direction.and_then(|line| Some(line.knee_bytes?.get() as f64))),
        ("latency", "µs", 1e6, of(|line| line.latency_s)),
        ("submitting a piece", "µs", 1e6, of(|line| line.submit_s_per_desc)),
    ];
    for (what, unit, scale, value) in lines {
        all.next_section();
        all.add(&format!("{name} {what}"), unit, scale, value);
    }
}

fn models(profile: &HardwareProfile, all: &mut Quantities) {
    let section = all.section;
    for shape in &profile.compute.model_shapes {
        all.section = section;
        shape_rows(shape, all);
    }
    all.section = section + SECTIONS_PER_SHAPE;
    let section = all.section;
    for shape in profile.prefill.iter().flat_map(|prefill| &prefill.model_shapes) {
        all.section = section;
        prefill_rows(shape, all);
    }
    all.section = section + PROMPTS.len() as u32;
}

/// Rows of [`shape_rows`].
const SECTIONS_PER_SHAPE: u32 = 2 * BATCHES.len() as u32 + 5;

fn shape_rows(shape: &ModelShape, all: &mut Quantities) {
    let name = &shape.model;
    let tables = [
        ("products of a layer", &shape.layer_weights_s_by_batch),
        ("output head", &shape.lm_head_s_by_batch),
    ];
    for (what, table) in tables {
        let spread = BatchTable::new(table);
        for batch in BATCHES {
            let measured =
                table.keys().next().is_some_and(|first| *first <= batch) && batch <= spread.last_batch();
            all.next_section();
            all.add(&format!("{name} {what}, B = {batch}"), "µs", 1e6, measured.then(|| spread.at(batch)));
        }
    }
    let attention = &shape.attn;
    let lines = [
        ("attention rate", "GB/s", 1e-9, Some(attention.bytes_per_s)),
        ("attention constant", "µs", 1e6, attention.c_s),
        ("attention floor", "µs", 1e6, attention.floor_s),
        ("rest of a layer", "µs", 1e6, shape.layer_other_s),
        ("rest of a step", "µs", 1e6, shape.step_fixed_s),
    ];
    for (what, unit, scale, value) in lines {
        all.next_section();
        all.add(&format!("{name} {what}"), unit, scale, value.map(Positive::get));
    }
}

fn prefill_rows(shape: &PrefillShape, all: &mut Quantities) {
    let points: Vec<(f64, f64)> =
        shape.s_by_prompt_tokens.iter().map(|(&tokens, s)| (f64::from(tokens), s.get())).collect();
    let ends = points.first().zip(points.last()).map(|(first, last)| (first.0, last.0));
    for prompt in PROMPTS {
        let tokens = f64::from(prompt);
        let measured = ends.is_some_and(|(first, last)| (first..=last).contains(&tokens));
        let seconds = measured.then(|| PromptTable::new(points.clone()).at(tokens));
        all.next_section();
        all.add(&format!("{} prefill of {prompt} tokens", shape.model), "ms", 1e3, seconds);
    }
}

fn contention(profile: &HardwareProfile, all: &mut Quantities) {
    let known = profile.contention.as_ref();
    for (what, factors) in [
        ("compute slowed", known.map(|contention| &contention.compute_slowdown)),
        ("copies slowed", known.map(|contention| &contention.copy_slowdown)),
    ] {
        all.next_section();
        for (pair, factor) in factors.into_iter().flatten() {
            all.add(&format!("{what} {pair}"), "×", 1.0, Some(factor.get()));
        }
    }
}

fn warnings(a: (&str, &HardwareProfile), b: (&str, &HardwareProfile)) -> Vec<String> {
    let mut warnings = Vec::new();
    let kinds = (a.1.kind, b.1.kind);
    if kinds.0 != kinds.1 {
        let (a, b) = (kinds.0.key(), kinds.1.key());
        warnings.push(format!("the kinds differ: {a} and {b}: the numbers do not mean the same"));
    }
    for (name, profile) in [a, b] {
        if !profile.is_measured() {
            warnings.push(format!("{name}: not measured: {}", profile.standing()));
        }
    }
    let measured = ProfileKind::Measured;
    if kinds == (measured, measured) && a.1.provenance.tool_version != b.1.provenance.tool_version {
        warnings.push("measured by different versions of gpu-validate".to_owned());
    }
    warnings
}

impl Comparison {
    /// A table with one row per quantity, warnings first.
    pub fn to_text(&self) -> String {
        let mut text: String = self.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
        text.push_str(&format!("A: {}\nB: {}\n\n", self.a, self.b));
        let value = |value: Option<f64>| value.map_or("-".to_owned(), significant);
        let cells: Vec<[String; 5]> =
            std::iter::once(["quantity", "unit", "A", "B", "B/A"].map(str::to_owned))
                .chain(self.rows.iter().map(|row| {
                    let ratio = row.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
                    [row.quantity.clone(), row.unit.to_owned(), value(row.a), value(row.b), ratio]
                }))
                .collect();
        let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..5).map(width).collect();
        for [quantity, unit, a, b, ratio] in &cells {
            text.push_str(&format!(
                "{quantity:<0$}  {unit:<1$}  {a:>2$}  {b:>3$}  {ratio:>4$}\n",
                widths[0], widths[1], widths[2], widths[3], widths[4]
            ));
        }
        text
    }
}

/// Four significant digits, without an exponent.
fn significant(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    format!("{value:.0$}", (3 - digits).clamp(0, 9) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use orbitflow_sim::cost::preset;
    use orbitflow_sim::cost::profile::{Bidirectional, Contention};

    fn profile(rate: f64) -> HardwareProfile {
        let mut profile = preset("roofline:h200-sxm").unwrap();
        profile.link.h2d.bw_inf_bytes_per_s = Positive::literal(rate);
        profile
    }

    #[test]
    fn two_profiles_stand_side_by_side_with_their_ratio_and_what_to_beware_of() {
        let mut a = profile(50e9);
        a.link.h2d.latency_s = Some(Positive::literal(4e-6));
        let mut b = profile(55e9);
        b.kind = ProfileKind::Measured;
        b.link.bidir = Some(Bidirectional { h2d_factor: Some(Positive::literal(0.8)), d2h_factor: None });
        let factors = [("layer|h2d".to_owned(), Positive::literal(1.02))];
        b.contention = Some(Contention { compute_slowdown: factors.into(), ..Contention::default() });
        insta::assert_snapshot!(compare(("a.json", &a), ("b.json", &b)).to_text(), @"
        warning: the kinds differ: datasheet and measured: the numbers do not mean the same
        warning: a.json: not measured: datasheet
        warning: b.json: not measured: unconfirmed (the measuring run's checks did not all pass)
        A: a.json
        B: b.json

        quantity                  unit      A       B    B/A
        link h2d rate             GB/s  50.00   55.00  1.100
        link h2d latency          µs    4.000       -      -
        h2d rate with d2h busy    ×         -  0.8000      -
        compute slowed layer|h2d  ×         -   1.020      -
        ");
    }

    #[test]
    fn a_table_is_not_read_beyond_what_was_measured() {
        let mut a = profile(50e9);
        let points = [(1024, Positive::literal(0.1)), (4096, Positive::literal(0.4))];
        a.prefill = Some(orbitflow_sim::cost::profile::Prefill {
            model_shapes: vec![PrefillShape {
                model: "m".to_owned(),
                layers: 1.try_into().unwrap(),
                weight_bytes_per_layer: 1.try_into().unwrap(),
                s_by_prompt_tokens: points.into(),
                attention: None,
            }],
        });
        let rows = compare(("a", &a), ("b", &a)).rows;
        // 2048: 0.1 + 0.3/3072·1024 s = 200 ms; 8192 lies beyond 4096.
        let prefill: Vec<&Row> = rows.iter().filter(|row| row.quantity.contains("prefill")).collect();
        assert_eq!(prefill.len(), 1);
        assert!((prefill[0].a.unwrap() - 200.0).abs() < 1e-9);
        assert_eq!(prefill[0].ratio, Some(1.0));
    }

    #[test]
    fn numbers_keep_four_digits_at_any_size() {
        let shown = [(54.321, "54.32"), (12345.6, "12346"), (0.0012345, "0.001234"), (0.0, "0.000")];
        for (value, text) in shown {
            assert_eq!(significant(value), text);
        }
    }
}
