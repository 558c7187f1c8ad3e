//! Matrix products against the CPU: 64 random outputs of each matrix of the fitted model.

use orbitflow_sim::random::{Stream, keyed, uniform_whole};

use super::reference;
use super::{Check, Finding};
use crate::case::attention_shape;
use crate::decode::seed_of;
use crate::device::{Device, DeviceError, FillWith, GemmWork, POISON, Work};
use crate::session::Session;

/// Outputs looked at per product.
const SAMPLES: u64 = 64;

/// Rows: one, an odd number, and a full batch.
const ROWS: [u32; 3] = [1, 7, 32];

/// Two of 64 outputs on the wrong side of a rounding boundary give at most 1.4e-3; rounding all of them wrongly 7e-3.
const BOUND: f64 = 3e-3;

pub(super) fn checks() -> Vec<Check> {
    vec![Check {
        name: "gemm_fp64".to_owned(),
        what: format!(
            "{SAMPLES} random outputs of q k v, output, gate and up, down and output head, rows {ROWS:?}, against fp64 \
             rounded to bf16"
        ),
        bound: BOUND,
        run: Box::new(worst),
    }]
}

fn worst(session: &mut Session<'_>) -> Result<Finding, DeviceError> {
    let (model, seed) = (session.scale.fitted.clone(), session.seed);
    let shape = attention_shape(&model);
    let matrices = [
        (shape.qkv_width(), model.hidden),
        (model.hidden, shape.heads * shape.head_dim),
        (2 * model.intermediate, model.hidden),
        (model.hidden, model.intermediate),
        (model.vocab, model.hidden),
    ];
    let mut worst = 0.0_f64;
    for (place, (out, inner)) in matrices.into_iter().enumerate() {
        let seed = seed_of(seed, &[5, place as u64]);
        worst = worst.max(matrix_error(&mut *session.device, out, inner, seed)?);
    }
    Ok(Finding::of(worst))
}

fn matrix_error(device: &mut dyn Device, out: u32, inner: u32, seed: u64) -> Result<f64, DeviceError> {
    device.free_all()?;
    let stream = device.stream()?;
    let most = u64::from(ROWS[ROWS.len() - 1]);
    let row_bytes = 2 * u64::from(inner);
    let weights = device.alloc(row_bytes * u64::from(out))?.all();
    let input = device.alloc(row_bytes * most)?.all();
    let output = device.alloc(2 * u64::from(out) * most)?.all();
    for (place, to) in [weights, input].into_iter().enumerate() {
        let with = FillWith::Random { seed: seed_of(seed, &[place as u64]), scale: 1.0 };
        device.submit(stream, &Work::Fill { to, with })?;
    }
    let mut random = keyed(seed, Stream::Noise, &[]);
    let mut worst = 0.0_f64;
    for rows in ROWS {
        device.submit(stream, &Work::Fill { to: output, with: POISON })?;
        device.submit(stream, &Work::Gemm(GemmWork { rows, out, inner, weights, input, output }))?;
        let (mut found, mut reference) = (Vec::new(), Vec::new());
        for _ in 0..SAMPLES {
            let row = uniform_whole(&mut random, 0, u64::from(rows) - 1);
            let column = uniform_whole(&mut random, 0, u64::from(out) - 1);
            let left = device.read(input.slice(row * row_bytes, row_bytes))?;
            let right = device.read(weights.slice(column * row_bytes, row_bytes))?;
            reference.push(reference::dot(&reference::values(&left), &reference::values(&right)));
            let at = 2 * (row * u64::from(out) + column);
            found.extend(reference::values(&device.read(output.slice(at, 2))?));
        }
        worst = worst.max(reference::relative_error(&found, &reference));
    }
    Ok(worst)
}
