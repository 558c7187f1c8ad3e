//! The kernels of one decode layer in their order, over weights that rotate: what E8 runs beside copies.
//!
//! norm, q/k/v product, rope, KV append, attention, output product, norm, gate and up product, activation, down product.
//! A stand-in for the step itself (E9), with the same kernels and bytes and no meaning in its numbers.

use orbitflow_sim::model::ModelSpec;

use super::arena::{self, Rotation};
use super::attention::{Batch, Buffers};
use super::gemms::matrices;
use crate::device::{DeviceBuffer, DeviceError, DeviceSlice, GemmWork, KvTable, NormWork, RopeWork, Work};
use crate::session::Session;

/// Memory of a layer for a batch.
#[derive(Clone)]
pub(super) struct DecodeLayer {
    model: ModelSpec,
    batch: Batch,
    attention: Buffers,
    tables: Vec<KvTable>,
    /// Whole layers of weights, one after the other.
    weights: Vec<DeviceSlice>,
    norm: DeviceBuffer,
    residual: DeviceBuffer,
    normed: DeviceBuffer,
    hidden: DeviceBuffer,
    gate_up: DeviceBuffer,
    activated: DeviceBuffer,
}

impl DecodeLayer {
    pub(super) fn new(
        session: &mut Session<'_>,
        model: &ModelSpec,
        batch: Batch,
    ) -> Result<Self, DeviceError> {
        let attention = Buffers::for_batches(session, std::slice::from_ref(&batch))?;
        let tables = batch.tables(session.device, attention.kv)?;
        let l2_bytes = session.device.facts().l2_bytes;
        let layer_bytes = aligned_layer_bytes(model);
        let layers = arena::inputs(l2_bytes, layer_bytes).max(u64::from(session.scale.weight_layers));
        let weights = arena::random(session.device, layers * layer_bytes, session.seed ^ 2, 0.05)?;
        let rows = u64::from(batch.requests());
        let seed = session.seed;
        let mut rows_of = |width: u32, count: u64, stream: u64| {
            arena::random(session.device, 2 * count * u64::from(width), seed ^ stream, 1.0)
        };
        Ok(DecodeLayer {
            norm: rows_of(model.hidden, 1, 3)?,
            residual: rows_of(model.hidden, rows, 4)?,
            normed: rows_of(model.hidden, rows, 5)?,
            hidden: rows_of(model.hidden, rows, 6)?,
            gate_up: rows_of(2 * model.intermediate, rows, 7)?,
            activated: rows_of(model.intermediate, rows, 8)?,
            weights: (0..layers).map(|layer| weights.slice(layer * layer_bytes, layer_bytes)).collect(),
            model: model.clone(),
            batch,
            attention,
            tables,
        })
    }

    /// Layers and tables, for one user to rotate through.
    pub(super) fn rotations(&self) -> (Rotation<DeviceSlice>, Rotation<KvTable>) {
        (Rotation::new(self.weights.clone()), Rotation::new(self.tables.clone()))
    }

    /// Attention alone.
    pub(super) fn attention(&self, table: KvTable) -> Work {
        self.batch.work(table, self.attention)
    }

    /// The four products in their order.
    pub(super) fn products(&self, weights: DeviceSlice) -> [Work; 4] {
        let mut offset = 0;
        let attended = self.attention.output;
        let sides = [
            (self.normed, self.attention.qkv),
            (attended, self.hidden),
            (self.normed, self.gate_up),
            (self.activated, self.hidden),
        ];
        let [qkv, output, gate_up, down, _] = matrices(&self.model);
        let mut shapes = [qkv, output, gate_up, down].into_iter();
        sides.map(|(input, to)| {
            let (_, out, inner) = shapes.next().expect("Invariant: as many shapes as products");
            let bytes = 2 * u64::from(out) * u64::from(inner);
            let weights = weights.slice(offset, bytes);
            offset += arena::aligned(bytes);
            let (input, output) = (input.all(), to.all());
            Work::Gemm(GemmWork { rows: self.batch.requests(), out, inner, weights, input, output })
        })
    }

    /// All kernels.
    pub(super) fn kernels(&self, weights: DeviceSlice, table: KvTable) -> [Work; 10] {
        let [qkv, output, gate_up, down] = self.products(weights);
        let rope = RopeWork {
            shape: self.batch.shape,
            batch: self.batch.requests(),
            qkv: self.attention.qkv.all(),
            table,
        };
        let activation = Work::SiluMul {
            rows: self.batch.requests(),
            width: self.model.intermediate,
            gate_up: self.gate_up.all(),
            output: self.activated.all(),
        };
        [
            self.norm(),
            qkv,
            Work::Rope(rope),
            Work::KvAppend(rope),
            self.attention(table),
            output,
            self.norm(),
            gate_up,
            activation,
            down,
        ]
    }

    fn norm(&self) -> Work {
        Work::Norm(NormWork {
            rows: self.batch.requests(),
            width: self.model.hidden,
            residual: self.residual.all(),
            delta: Some(self.hidden.all()),
            weights: self.norm.all(),
            output: self.normed.all(),
        })
    }
}

/// The four matrices of a layer, each at an aligned place.
fn aligned_layer_bytes(model: &ModelSpec) -> u64 {
    matrices(model)[..4]
        .iter()
        .map(|(_, out, inner)| arena::aligned(2 * u64::from(*out) * u64::from(*inner)))
        .sum()
}
