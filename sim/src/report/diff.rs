//! Two results side by side (design §2.1, `diff`): what was run differently, and what came out differently.
//!
//! It compares the trees of `results.json`, so every number there is is compared, also one that a later version adds.
//! Which direction is better is said only where it is known ([`direction`]), and of the second result: B against A.
//! Knows nothing about where results come from, or why they differ.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Number, Value};

use super::rows::{PolicyResult, Results};

/// Which of the two results have a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Both.
    Both,
    /// The first alone.
    OnlyA,
    /// The second alone.
    OnlyB,
}

/// What B's number is beside A's, where a direction is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// B's is better.
    Better,
    /// B's is worse.
    Worse,
}

/// A setting, or another text, that differs; `None` where it is absent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    /// Its dotted key in `results.json`; of a note, `note` and the word that it begins with.
    pub name: String,
    /// Its value in A.
    pub a: Option<String>,
    /// Its value in B.
    pub b: Option<String>,
}

/// One number, equal or not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The SLO scale that it belongs to; `None`: it is of the whole run at the first scale.
    pub slo_scale: Option<f64>,
    /// Its dotted key within the policy's entry or the scale's.
    pub metric: String,
    /// Its value in A.
    pub a: Option<Number>,
    /// Its value in B.
    pub b: Option<Number>,
    /// B − A, where both are there.
    pub difference: Option<Number>,
    /// B beside A, where they differ and a direction is known.
    pub verdict: Option<Verdict>,
}

impl Row {
    /// Whether both sides have the same, a number or none.
    pub fn is_equal(&self) -> bool {
        self.a == self.b
    }
}

/// One policy on both sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicyDiff {
    /// Its key.
    pub key: String,
    /// Its name in plots, A's if it has one.
    pub label: String,
    /// Who has it.
    pub side: Side,
    /// Whether the event digests are equal; `None` unless both have it.
    pub same_events: Option<bool>,
    /// Texts and yes-or-no answers that differ.
    pub texts: Vec<Setting>,
    /// Every number.
    pub rows: Vec<Row>,
}

impl PolicyDiff {
    /// Whether both have it, and the same to the last event and number.
    pub fn is_identical(&self) -> bool {
        self.same_events == Some(true) && self.texts.is_empty() && self.rows.iter().all(Row::is_equal)
    }
}

/// Two results side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
    /// Whether the two are the same in everything, event digests included.
    pub identical: bool,
    /// What must be known before one number is held against another.
    pub cautions: Vec<String>,
    /// What was run differently: scenario, seed, trace, hardware, switches, versions, digests, notes.
    pub settings: Vec<Setting>,
    /// A's policies in its order, then those that B alone has.
    pub policies: Vec<PolicyDiff>,
}

/// Compares `b` with `a`.
pub fn diff(a: &Results, b: &Results) -> Diff {
    let find = |results: &'_ Results, key: &str| results.policies.iter().position(|policy| policy.key == key);
    let mut policies: Vec<PolicyDiff> = (a.policies.iter())
        .map(|policy| policy_diff(Some(policy), find(b, &policy.key).map(|place| &b.policies[place])))
        .collect();
    let new = b.policies.iter().filter(|policy| find(a, &policy.key).is_none());
    policies.extend(new.map(|policy| policy_diff(None, Some(policy))));
    Diff { identical: a == b, cautions: cautions(a, b), settings: settings(a, b), policies }
}

/// A leaf of the tree: a number, or anything else as text.
#[derive(Clone, Debug, PartialEq)]
enum Leaf {
    Number(Number),
    Text(String),
}

/// Every leaf below `value` by its dotted key. Null is no leaf: there is nothing.
fn leaves(prefix: &str, value: &Value, all: &mut BTreeMap<String, Leaf>) {
    let inner = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") };
    match value {
        Value::Null => {}
        Value::Object(entries) => entries.iter().for_each(|(key, value)| leaves(&inner(key), value, all)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(place, value)| leaves(&inner(&place.to_string()), value, all))
        }
        Value::Number(number) => _ = all.insert(prefix.to_owned(), Leaf::Number(number.clone())),
        Value::String(text) => _ = all.insert(prefix.to_owned(), Leaf::Text(text.clone())),
        Value::Bool(yes) => _ = all.insert(prefix.to_owned(), Leaf::Text(yes.to_string())),
    }
}

/// The leaves of plain data, without those entries.
fn leaves_of<T: Serialize>(data: &T, without: &[&str]) -> BTreeMap<String, Leaf> {
    let mut value = serde_json::to_value(data).expect("Invariant: results are plain data");
    if let Value::Object(entries) = &mut value {
        entries.retain(|key, _| !without.contains(&key.as_str()));
    }
    let mut all = BTreeMap::new();
    leaves("", &value, &mut all);
    all
}

/// Both sides of every key that either has.
fn joined<T>(a: BTreeMap<String, T>, mut b: BTreeMap<String, T>) -> Vec<(String, Option<T>, Option<T>)> {
    let mut all: Vec<_> = (a.into_iter())
        .map(|(key, value)| {
            let other = b.remove(&key);
            (key, Some(value), other)
        })
        .collect();
    all.extend(b.into_iter().map(|(key, value)| (key, None, Some(value))));
    all.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    all
}

fn shown(leaf: Leaf) -> String {
    match leaf {
        Leaf::Number(number) => number.to_string(),
        Leaf::Text(text) => text,
    }
}

fn settings(a: &Results, b: &Results) -> Vec<Setting> {
    let of = |results: &Results| {
        let mut all = leaves_of(results, &["notes", "policies", "overrides"]);
        if !results.overrides.is_empty() {
            all.insert("overrides".to_owned(), Leaf::Text(results.overrides.join(" ")));
        }
        all
    };
    let mut all: Vec<Setting> = (joined(of(a), of(b)).into_iter())
        .filter(|(_, a, b)| a != b)
        .map(|(name, a, b)| Setting { name, a: a.map(shown), b: b.map(shown) })
        .collect();
    all.extend(notes(&a.notes, &b.notes));
    all
}

/// Notes that one side alone has; two that begin with the same words up to a colon stand beside each other.
fn notes(a: &[String], b: &[String]) -> Vec<Setting> {
    let subject = |note: &str| {
        let word = note.split_once(": ").map_or("", |(word, _)| word);
        format!("note {word}").trim_end().to_owned()
    };
    let mut of_b: Vec<&String> = b.iter().filter(|note| !a.contains(note)).collect();
    let mut all = Vec::new();
    for note in a.iter().filter(|note| !b.contains(note)) {
        let name = subject(note);
        let place = of_b.iter().position(|other| name != "note" && subject(other) == name);
        let other = place.map(|place| of_b.remove(place).clone());
        all.push(Setting { name, a: Some(note.clone()), b: other });
    }
    all.extend(of_b.into_iter().map(|note| Setting { name: subject(note), a: None, b: Some(note.clone()) }));
    all
}

fn cautions(a: &Results, b: &Results) -> Vec<String> {
    let mut all = Vec::new();
    if a.trace != b.trace {
        all.push("the traces differ: differences are of what was asked, too".to_owned());
    }
    let promises = |results: &Results| -> Vec<(u64, u64)> {
        let first = results.policies.first();
        let scales = first.iter().flat_map(|policy| &policy.by_slo_scale);
        scales.map(|scale| (scale.scale.to_bits(), scale.slo_s.to_bits())).collect()
    };
    let (of_a, of_b) = (promises(a), promises(b));
    let other = |(scale, slo): &(u64, u64)| of_b.iter().any(|(s, promise)| s == scale && promise != slo);
    if of_a.iter().any(other) {
        all.push(
            "the SLO of a scale differs in seconds: attainment, playback stall and goodput are held against different \
             promises"
                .to_owned(),
        );
    }
    if a.tool_version != b.tool_version {
        all.push("written by different versions of orbitflow: the model itself may differ".to_owned());
    }
    all
}

fn policy_diff(a: Option<&PolicyResult>, b: Option<&PolicyResult>) -> PolicyDiff {
    let named = a.or(b).expect("Invariant: one of two results has the policy");
    let side = match (a, b) {
        (Some(_), Some(_)) => Side::Both,
        (Some(_), None) => Side::OnlyA,
        _ => Side::OnlyB,
    };
    let same_events = a.zip(b).map(|(a, b)| a.event_digest == b.event_digest);
    let mut found = PolicyDiff {
        key: named.key.clone(),
        label: named.label.clone(),
        side,
        same_events,
        texts: Vec::new(),
        rows: Vec::new(),
    };
    let scales = |policy: Option<&PolicyResult>| -> BTreeMap<u64, BTreeMap<String, Leaf>> {
        let scales = policy.into_iter().flat_map(|policy| &policy.by_slo_scale);
        // Scales are positive: their bits are in their order.
        scales.map(|at| (at.scale.to_bits(), leaves_of(at, &["scale"]))).collect()
    };
    let (of_a, of_b) = (scales(a), scales(b));
    let mut order: Vec<u64> = Vec::new();
    for policy in [a, b].into_iter().flatten() {
        for at in &policy.by_slo_scale {
            if !order.contains(&at.scale.to_bits()) {
                order.push(at.scale.to_bits());
            }
        }
    }
    for scale in order {
        let side = |of: &BTreeMap<u64, BTreeMap<String, Leaf>>| of.get(&scale).cloned().unwrap_or_default();
        add(&mut found, Some(f64::from_bits(scale)), side(&of_a), side(&of_b));
    }
    // What a scale's entry holds stands at the top once more, for the first scale.
    let run = |policy: Option<&PolicyResult>| {
        let own = ["key", "by_slo_scale"];
        let again =
            ["attainment_pct", "playback_stall_pct", "goodput_requests_per_s", "throughput_tokens_per_s"];
        policy.map_or_else(BTreeMap::new, |policy| {
            let again = if policy.by_slo_scale.is_empty() { &[][..] } else { &again[..] };
            leaves_of(policy, &[&own, again].concat())
        })
    };
    add(&mut found, None, run(a), run(b));
    found
}

/// Adds the numbers of both sides, and the texts that differ where both sides have the policy.
fn add(found: &mut PolicyDiff, slo_scale: Option<f64>, a: BTreeMap<String, Leaf>, b: BTreeMap<String, Leaf>) {
    for (key, a, b) in joined(a, b) {
        let text = |leaf: &Option<Leaf>| matches!(leaf, Some(Leaf::Text(_)));
        if text(&a) || text(&b) {
            if a != b && found.side == Side::Both {
                let name = slo_scale.map_or_else(|| key.clone(), |scale| format!("scale {scale}: {key}"));
                found.texts.push(Setting { name, a: a.map(shown), b: b.map(shown) });
            }
            continue;
        }
        let number = |leaf: Option<Leaf>| match leaf {
            Some(Leaf::Number(number)) => Some(number),
            _ => None,
        };
        let (a, b) = (number(a), number(b));
        let difference = a.as_ref().zip(b.as_ref()).and_then(|(a, b)| minus(b, a));
        let verdict = difference.as_ref().and_then(|difference| verdict(&key, difference.as_f64()?));
        found.rows.push(Row { slo_scale, metric: key, a, b, difference, verdict });
    }
}

/// `b − a`: whole where both are, so that counts of bytes stay exact.
fn minus(b: &Number, a: &Number) -> Option<Number> {
    if let (Some(b), Some(a)) = (b.as_i64(), a.as_i64()) {
        return b.checked_sub(a).map(Number::from);
    }
    Number::from_f64(b.as_f64()? - a.as_f64()?)
}

fn verdict(metric: &str, difference: f64) -> Option<Verdict> {
    let better = direction(metric)? * difference;
    if better > 0.0 {
        Some(Verdict::Better)
    } else if better < 0.0 {
        Some(Verdict::Worse)
    } else {
        None
    }
}

/// Keys of which more is better (1) and less is better (−1), by how they begin. Of the others neither is known: a
/// pause, a copy or a decode step is a means.
const DIRECTIONS: [(&str, f64); 21] = [
    ("attainment_pct.", 1.0),
    ("goodput_requests_per_s", 1.0),
    ("throughput_tokens_per_s", 1.0),
    ("requests.finished", 1.0),
    ("tokens.delivered", 1.0),
    ("playback_stall_pct", -1.0),
    ("ttft_p50_s", -1.0),
    ("tbt_step_s.", -1.0),
    ("tbt_gap_s.", -1.0),
    ("tpot_step_s.", -1.0),
    ("tpot_gap_s.", -1.0),
    ("ttft_s.", -1.0),
    ("e2e_s.", -1.0),
    ("makespan_s", -1.0),
    ("busy_s.stall", -1.0),
    ("requests.rejected", -1.0),
    ("requests.unfinished", -1.0),
    ("requests.capped", -1.0),
    ("forecast_error_pct.", -1.0),
    ("pauses.longest_s", -1.0),
    ("preemptions", -1.0),
];

/// 1 if more of a metric is better, −1 if less is, `None` if that is not known.
pub fn direction(metric: &str) -> Option<f64> {
    DIRECTIONS.iter().find(|(start, _)| metric.starts_with(start)).map(|(_, direction)| *direction)
}
