//! E5: the matrix products of the models, at the rows of decode batches and of prompts, with cold weights.
//!
//! Weights of one product rotate through an arena that holds `weight_layers` layers of the largest model and passes the
//! level-2 cache five times. The output head is timed for decode batches only: a prefill needs it for one row.

use orbitflow_sim::model::ModelSpec;

use super::arena::{self, Rotation};
use crate::case::attention_shape;
use crate::device::{DeviceBuffer, DeviceError, GemmWork, POISON, Work};
use crate::measure::{Group, Importance, Point, Runs, measure};
use crate::results::{GemmPoint, Matrix};
use crate::scale::Scale;
use crate::session::Session;

const EXPERIMENT: &str = "E5";

/// Largest magnitude of weights: sums over the columns of a real model stay far from overflow in bf16.
const WEIGHT_SCALE: f32 = 0.05;

/// The matrices of a model: which, columns of the output, columns of the input.
pub fn matrices(model: &ModelSpec) -> [(Matrix, u32, u32); 5] {
    let shape = attention_shape(model);
    let ModelSpec { hidden, intermediate, vocab, .. } = *model;
    [
        (Matrix::Qkv, shape.qkv_width(), hidden),
        (Matrix::Output, hidden, shape.heads * shape.head_dim),
        (Matrix::GateUp, 2 * intermediate, hidden),
        (Matrix::Down, hidden, intermediate),
        (Matrix::LmHead, vocab, hidden),
    ]
}

#[derive(Clone)]
struct Row {
    model: String,
    matrix: Matrix,
    rows: u32,
    out: u32,
    inner: u32,
    importance: Importance,
}

/// Measures E5.
///
/// # Errors
/// The device's.
pub fn matrix_products(session: &mut Session<'_>) -> Result<Vec<GemmPoint>, DeviceError> {
    session.device.free_all()?;
    let rows = rows(session.scale);
    let buffers = buffers(session, &rows)?;
    let l2_bytes = session.device.facts().l2_bytes;
    let points = rows.into_iter().map(|row| point(row, buffers, l2_bytes)).collect();
    let group = Group::new(EXPERIMENT, session);
    Ok(measure(session, group, points)?
        .into_iter()
        .map(|point| {
            let Row { model, matrix, rows, out, inner, .. } = point.row;
            GemmPoint { model, matrix, rows, out, inner, timing: point.timing }
        })
        .collect())
}

/// The fitted and the held-out model at decode and prompt rows, then further models at decode rows; each model once.
fn rows(scale: &Scale) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let validated = [&scale.fitted, &scale.held_out];
    for model in validated.into_iter().chain(&scale.gemm_models) {
        if rows.iter().any(|row| row.model == model.name) {
            continue;
        }
        let is_validated = validated.iter().any(|other| other.name == model.name);
        for (matrix, out, inner) in matrices(model) {
            let mut add = |rows_of_point: u32, importance| {
                let model = model.name.clone();
                rows.push(Row { model, matrix, rows: rows_of_point, out, inner, importance });
            };
            let decode = if is_validated { Importance::Essential } else { Importance::Detail };
            scale.batches.iter().for_each(|batch| add(*batch, decode));
            if is_validated && matrix != Matrix::LmHead {
                let longer = scale.prefill_rows.iter().filter(|rows| !scale.batches.contains(rows));
                longer.for_each(|rows| add(*rows, Importance::Useful));
            }
        }
    }
    rows
}

#[derive(Clone, Copy)]
struct Buffers {
    weights: DeviceBuffer,
    input: DeviceBuffer,
    output: DeviceBuffer,
}

fn buffers(session: &mut Session<'_>, rows: &[Row]) -> Result<Buffers, DeviceError> {
    let l2_bytes = session.device.facts().l2_bytes;
    let most = |bytes: fn(&Row) -> u64| rows.iter().map(bytes).max().unwrap_or(1);
    let scale = session.scale;
    let models = [&scale.fitted, &scale.held_out].into_iter().chain(&scale.gemm_models);
    let layers = models.map(|model| u64::from(scale.weight_layers) * model.layer_weight_bytes().get());
    let cold = rows.iter().map(|row| arena::bytes_of_inputs(l2_bytes, weight_bytes(row))).max();
    let weight_bytes = layers.max().max(cold).unwrap_or(1);
    let input_bytes = most(|row| 2 * u64::from(row.rows) * u64::from(row.inner));
    let output_bytes = most(|row| 2 * u64::from(row.rows) * u64::from(row.out));
    let weights = arena::random(session.device, weight_bytes, session.seed, WEIGHT_SCALE)?;
    let input = arena::random(session.device, input_bytes, session.seed ^ 1, 1.0)?;
    let output = session.device.alloc(arena::aligned(output_bytes))?;
    let stream = session.device.stream()?;
    session.device.submit(stream, &Work::Fill { to: output.all(), with: POISON })?;
    session.device.synchronize()?;
    Ok(Buffers { weights, input, output })
}

fn weight_bytes(row: &Row) -> u64 {
    2 * u64::from(row.out) * u64::from(row.inner)
}

fn point<'p>(row: Row, buffers: Buffers, l2_bytes: u64) -> Point<'p, Row> {
    let Row { rows, out, inner, .. } = row;
    let name = format!("{} {:?} x {rows} rows", row.model, row.matrix);
    let bytes = weight_bytes(&row);
    Point::new(name, row.importance, row, move |_| {
        let weights = Rotation::new(arena::slices(buffers.weights, l2_bytes, bytes));
        Ok(Runs::of(move |queue| {
            queue.submit(&Work::Gemm(GemmWork {
                rows,
                out,
                inner,
                weights: *weights.next(),
                input: buffers.input.all(),
                output: buffers.output.all(),
            }))
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrices_of_a_model_are_its_layers_weights() {
        let scale = Scale::of(crate::device::Backend::Cuda, false);
        let layer: u64 = matrices(&scale.fitted)[..4]
            .iter()
            .map(|(_, out, inner)| 2 * u64::from(*out) * u64::from(*inner))
            .sum();
        let norms = 2 * 2 * u64::from(scale.fitted.hidden);
        assert_eq!(layer + norms, scale.fitted.layer_weight_bytes().get());
    }

    #[test]
    fn a_model_that_is_listed_twice_is_timed_once_and_prompts_do_without_the_output_head() {
        let scale = Scale::of(crate::device::Backend::Cuda, false);
        let rows = rows(&scale);
        // 3 models x 5 matrices x 8 batches, and 2 models x 4 matrices x 3 prompts
        assert_eq!(rows.len(), 3 * 5 * 8 + 2 * 4 * 3);
        assert!(rows.iter().all(|row| row.matrix != Matrix::LmHead || row.rows <= 128));
    }
}
