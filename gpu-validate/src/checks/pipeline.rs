//! The decode pipeline against itself: offloading must not change a bit of any layer's output.
//!
//! The same kernels, splits and contents give the same bits wherever KV lies, so every difference is a race or a wrong
//! byte. Slots hold poison before each copy, host KV differs per request and layer, and guard bands stand around slots. Each
//! seed is run with every placement, slots and kind of copy stream; granularities take turns. That the comparison can
//! fail is a check of its own: copies are held back, and a pipeline that does not wait for them must be caught, one that
//! does must not.

use orbitflow_sim::ids::Layer;
use orbitflow_sim::model::LayerSet;

use super::{Check, Finding};
use crate::case::{Case, CopyStreams, Granularity};
use crate::decode::{Rig, RigOptions, seed_of};
use crate::device::DeviceError;
use crate::results::Submission;
use crate::session::Session;

/// Layers run, or the model's if it has fewer.
const LAYERS: u32 = 8;

/// Ragged, over several blocks and splits; one ends with its block.
const CONTEXTS: [u32; 4] = [1025, 300, 17, 640];

/// Steps run before outputs are compared: slots and new rows of one step meet those of the next.
const STEPS: u32 = 3;

/// Different layers of weights: contents matter here, and caches do not.
const WEIGHT_LAYERS: u32 = 2;

/// Seconds that copies are held back at least: far longer than a step.
const LEAST_HOLD_S: f64 = 0.03;

/// All placements of a batch, by name.
fn placements(layers: u32) -> Vec<(&'static str, Vec<LayerSet>)> {
    let every = |n: u32| Layer::all(layers).filter(|layer| layer.0.is_multiple_of(n)).collect::<LayerSet>();
    let half = Layer::all(layers).filter(|layer| layer.0 > layers / 2).collect::<LayerSet>();
    vec![
        ("all", vec![every(1); 4]),
        ("every 2nd", vec![every(2); 4]),
        ("mixed", vec![every(1), every(4), LayerSet::EMPTY, half]),
    ]
}

fn case(session: &Session<'_>, placement: &str, offloaded: Vec<LayerSet>) -> Case {
    let model = session.scale.fitted.clone();
    Case {
        id: format!("check {placement}"),
        workload: "check".to_owned(),
        layers: layers(session),
        model,
        contexts: CONTEXTS.to_vec(),
        offloaded,
        placement: placement.to_owned(),
        slots: 1,
        granularity: Granularity::Layer,
        streams: CopyStreams::One,
        dilation_s: 0.0,
        held_out: false,
    }
}

fn layers(session: &Session<'_>) -> u32 {
    LAYERS.min(session.scale.fitted.layers)
}

/// Every placement with every number of slots and kind of stream.
fn cases(session: &Session<'_>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, offloaded) in placements(layers(session)) {
        for slots in 1..=3 {
            for streams in [CopyStreams::One, CopyStreams::PerRequest] {
                let granularity = Granularity::ALL[cases.len() % Granularity::ALL.len()];
                let base = case(session, name, offloaded.clone());
                cases.push(Case { slots, streams, granularity, ..base });
            }
        }
    }
    // Slots and streams shift the turns of granularities by a full round: give each kind all three once more.
    for granularity in Granularity::ALL {
        let base = case(session, "all", placements(layers(session))[0].1.clone());
        cases.push(Case { slots: 2, granularity, ..base });
    }
    cases
}

/// What the runs of one seed found.
#[derive(Default)]
struct Found {
    runs: u32,
    differing: u64,
    poisoned: u64,
    guards: u64,
    wrong_rows: u64,
    rows: u64,
    first: Option<String>,
}

pub(super) fn checks() -> Vec<Check> {
    let mut checks: Vec<Check> = [0, 1].map(bit_equality).into();
    checks.extend([
        Check {
            name: "pipeline_guards_and_rows".to_owned(),
            what: "bytes changed in guard bands around slots, and new rows on the host that differ from the device's"
                .to_owned(),
            bound: 0.0,
            run: Box::new(|session: &mut Session<'_>| {
                let found = all_cases(session, seed_of(session.seed, &[7, 2]), 5)?;
                let note = Some(format!("{} runs, {} bytes of new rows", found.runs, found.rows));
                // Without a single row written the comparison would be of nothing.
                let nothing = u64::from(found.rows == 0);
                Ok(Finding { worst: (found.guards + found.wrong_rows + nothing) as f64, note })
            }),
        },
        Check {
            name: "pipeline_graph".to_owned(),
            what: "a captured step against the resident one: differing bytes of outputs".to_owned(),
            bound: 0.0,
            run: Box::new(graph),
        },
        Check {
            name: "pipeline_late_copies".to_owned(),
            what: "copies held back for longer than a step: differing bytes of outputs, compute waiting for them"
                .to_owned(),
            bound: 0.0,
            run: Box::new(|session: &mut Session<'_>| {
                let (differing, runs) = late_copies(session, false)?;
                Ok(Finding { worst: differing.iter().sum::<u64>() as f64, note: Some(format!("{runs} runs")) })
            }),
        },
        Check {
            name: "pipeline_dropped_wait_is_caught".to_owned(),
            what: "the same with compute not waiting: pipelines whose outputs nevertheless equal the resident run's"
                .to_owned(),
            bound: 0.0,
            run: Box::new(|session: &mut Session<'_>| {
                let (differing, runs) = late_copies(session, true)?;
                let missed = differing.iter().filter(|bytes| **bytes == 0).count();
                let note = Some(format!("{runs} faulty pipelines, differing bytes {differing:?}"));
                Ok(Finding { worst: missed as f64, note })
            }),
        },
    ]);
    checks
}

fn bit_equality(repeat: u64) -> Check {
    Check {
        name: format!("pipeline_bit_equality_{}", repeat + 1),
        what: format!(
            "all layers' outputs and logits of offloaded runs against the resident run, contexts {CONTEXTS:?}, slots 1 \
             to 3, three granularities, one copy stream and one per request: differing bytes and NaNs"
        ),
        bound: 0.0,
        run: Box::new(move |session: &mut Session<'_>| {
            let found = all_cases(session, seed_of(session.seed, &[7, repeat]), 1)?;
            let note = found.first.unwrap_or_else(|| format!("{} runs", found.runs));
            Ok(Finding { worst: (found.differing + found.poisoned) as f64, note: Some(note) })
        }),
    }
}

/// Outputs of the resident run; a second run of it must give the same, or nothing can be compared.
fn resident(session: &mut Session<'_>, seed: u64) -> Result<(Vec<u8>, f64), DeviceError> {
    let case = case(session, "none", vec![LayerSet::EMPTY; CONTEXTS.len()]);
    let options = RigOptions::checking(seed, WEIGHT_LAYERS);
    let mut rig = Rig::new(&mut *session.device, &case, options)?;
    rig.run_steps(STEPS)?;
    let outputs = rig.outputs()?;
    let step_s = rig.time_steps(0, 1)?[0];
    Ok((outputs, step_s))
}

/// Every `nth` case.
fn all_cases(session: &mut Session<'_>, seed: u64, nth: usize) -> Result<Found, DeviceError> {
    let (expected, _) = resident(session, seed)?;
    let mut found = Found { poisoned: nans(&expected), ..Found::default() };
    let again = resident(session, seed)?.0;
    found.note(differing(&expected, &again), "the resident run itself, run again");
    for case in cases(session).into_iter().step_by(nth) {
        let options = RigOptions::checking(seed, WEIGHT_LAYERS);
        let mut rig = Rig::new(&mut *session.device, &case, options)?;
        rig.run_steps(STEPS)?;
        let outputs = rig.outputs()?;
        found.runs += 1;
        found.poisoned += nans(&outputs);
        let what = format!(
            "{}, {} slots, {}, {:?}",
            case.placement,
            case.slots,
            case.granularity.key(),
            case.streams
        );
        found.note(differing(&expected, &outputs), &what);
        found.guards += rig.changed_guard_bytes()?;
        let (wrong, all) = rig.wrong_written_bytes()?;
        found.wrong_rows += wrong;
        found.rows += all;
    }
    Ok(found)
}

impl Found {
    fn note(&mut self, bytes: u64, what: &str) {
        self.differing += bytes;
        if bytes > 0 && self.first.is_none() {
            self.first = Some(format!("first in {what}: {bytes} bytes differ"));
        }
    }
}

fn graph(session: &mut Session<'_>) -> Result<Finding, DeviceError> {
    let seed = seed_of(session.seed, &[7, 3]);
    let (expected, _) = resident(session, seed)?;
    let checking = RigOptions::checking(seed, WEIGHT_LAYERS);
    let options = RigOptions { submission: Submission::Graph, ..checking };
    let (mut worst, mut runs) = (0, 0);
    for (name, offloaded) in placements(layers(session)) {
        let case = Case { slots: 2, ..case(session, name, offloaded) };
        let mut rig = Rig::new(&mut *session.device, &case, options)?;
        rig.run_steps(STEPS)?;
        worst += differing(&expected, &rig.outputs()?);
        runs += 1;
    }
    Ok(Finding { worst: worst as f64, note: Some(format!("{runs} runs")) })
}

/// Differing bytes of each run whose copies were held back, and how many runs.
fn late_copies(session: &mut Session<'_>, drop_ready_wait: bool) -> Result<(Vec<u64>, usize), DeviceError> {
    let seed = seed_of(session.seed, &[7, 4]);
    let (expected, step_s) = resident(session, seed)?;
    let checking = RigOptions::checking(seed, WEIGHT_LAYERS);
    let options = RigOptions { drop_ready_wait, ..checking };
    let mut found = Vec::new();
    for (name, offloaded) in placements(layers(session)) {
        for streams in [CopyStreams::One, CopyStreams::PerRequest] {
            let case = Case { slots: 2, streams, ..case(session, name, offloaded.clone()) };
            let mut rig = Rig::new(&mut *session.device, &case, options)?;
            rig.run_step_with_late_copies((10.0 * step_s).max(LEAST_HOLD_S))?;
            found.push(differing(&expected, &rig.outputs()?));
        }
    }
    let runs = found.len();
    Ok((found, runs))
}

fn differing(expected: &[u8], found: &[u8]) -> u64 {
    let apart = expected.iter().zip(found).filter(|(expected, found)| expected != found).count();
    apart as u64 + expected.len().abs_diff(found.len()) as u64
}

/// bf16 values that are no number.
fn nans(outputs: &[u8]) -> u64 {
    let bits = outputs.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
    bits.filter(|bits| bits & 0x7fff > 0x7f80).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poison_counts_as_no_number_and_infinity_as_one() {
        // 0x7fc0 is the poison, 0x7f80 infinity, 0x3f80 one; little-endian
        assert_eq!(nans(&[0xc0, 0x7f, 0x80, 0x7f, 0x80, 0x3f]), 1);
    }

    #[test]
    fn a_missing_byte_is_a_difference() {
        assert_eq!(differing(&[1, 2, 3], &[1, 5]), 2);
    }
}
