//! One step, submitted: layers in order on the compute stream, prefetches on the copy streams, new rows behind them.
//!
//! Everything a wait refers to has been recorded before the wait is submitted, so no step takes an event of another for
//! its own. Knows nothing about time.

use orbitflow_sim::ids::Layer;

use super::plan::{Prefetch, StepEvents, StepPlan};
use crate::device::{
    AttentionWork, CopyWork, Device, DeviceError, DeviceSlice, Direction, Event, GemmWork, NormWork, POISON,
    RopeWork, Work,
};

/// Events of an instrumented step.
pub(super) struct Marks {
    /// Start and end of each layer.
    pub layers: Vec<(Event, Event)>,
    /// Start and end of each copy.
    pub copies: Vec<(Event, Event)>,
}

/// How a step is submitted.
#[derive(Clone, Copy)]
pub(super) struct Arm<'m> {
    /// Whether it is being captured: it refers to no other step, and everything is joined at its end.
    pub captured: bool,
    /// Events around layers and copies.
    pub marks: Option<&'m Marks>,
}

/// Submits one step.
pub(super) fn submit_step(
    device: &mut dyn Device,
    plan: &StepPlan,
    events: &StepEvents,
    arm: Arm<'_>,
) -> Result<(), DeviceError> {
    device.record(plan.compute, events.begin)?;
    for stream in &plan.copy_streams {
        device.wait(*stream, events.begin)?;
    }
    let mut submission = Submission { device, plan, events, arm };
    if plan.options.keep_outputs {
        let (from, to) = (plan.activations.initial, plan.activations.state);
        submission.compute(&Work::DeviceCopy { from, to })?;
    }
    for layer in Layer::all(plan.case.layers) {
        for prefetch in &plan.prefetches[layer.index()] {
            submission.prefetch(prefetch)?;
        }
        submission.layer(layer)?;
        submission.write_back(layer)?;
    }
    submission.finish()
}

struct Submission<'a, 'm> {
    device: &'a mut dyn Device,
    plan: &'a StepPlan,
    events: &'a StepEvents,
    arm: Arm<'m>,
}

impl Submission<'_, '_> {
    fn compute(&mut self, work: &Work) -> Result<(), DeviceError> {
        self.device.submit(self.plan.compute, work)
    }

    fn prefetch(&mut self, prefetch: &Prefetch) -> Result<(), DeviceError> {
        let (plan, stream) = (self.plan, prefetch.stream);
        if let Some(layer) = prefetch.freed_by {
            self.device.wait(stream, self.events.layer_end[layer.index()])?;
        }
        if plan.options.keep_outputs {
            self.device.submit(stream, &Work::Fill { to: prefetch.slot, with: POISON })?;
        }
        let marks = self.arm.marks.map(|marks| marks.copies[prefetch.place]);
        if let Some((start, _)) = marks {
            self.device.record(stream, start)?;
        }
        let copy = CopyWork {
            direction: Direction::H2d,
            api: plan.case.granularity.api(),
            host: plan.host.expect("Invariant: what is copied has a host side"),
            device: prefetch.slot.buffer(),
            pieces: &prefetch.pieces,
        };
        self.device.copy(stream, &copy)?;
        if let Some((_, end)) = marks {
            self.device.record(stream, end)?;
        }
        if prefetch.signals {
            self.device.record(stream, self.events.ready[prefetch.place])?;
        }
        Ok(())
    }

    fn layer(&mut self, layer: Layer) -> Result<(), DeviceError> {
        let (plan, compute) = (self.plan, self.plan.compute);
        if !plan.options.drop_ready_wait {
            for place in &plan.ready[layer.index()] {
                self.device.wait(compute, self.events.ready[*place])?;
            }
        }
        // The rows that the write-back of the previous step reads are about to be written.
        if !self.arm.captured && plan.is_fetched(layer) {
            self.device.wait(compute, self.events.written[layer.index()])?;
        }
        let marks = self.arm.marks.map(|marks| marks.layers[layer.index()]);
        if let Some((start, _)) = marks {
            self.device.record(compute, start)?;
        }
        self.attention_half(layer)?;
        self.mlp_half(layer)?;
        if plan.case.dilation_s > 0.0 {
            self.compute(&Work::Spin { seconds: plan.case.dilation_s })?;
        }
        if let Some((_, end)) = marks {
            self.device.record(compute, end)?;
        }
        if plan.is_fetched(layer) {
            self.device.record(compute, self.events.layer_end[layer.index()])?;
        }
        self.keep(layer)
    }

    /// Norm, q k v, rotary embedding, append, attention, output.
    fn attention_half(&mut self, layer: Layer) -> Result<(), DeviceError> {
        let (plan, model, shape) = (self.plan, &self.plan.case.model, self.plan.case.attention());
        let weights = plan.weights[layer.index() % plan.weights.len()];
        let (activations, batch) = (&plan.activations, plan.case.batch());
        let (qkv, table) = (activations.qkv[layer.index()], plan.tables[layer.index()]);
        let attended = shape.heads * shape.head_dim;
        let rope = RopeWork { shape, batch, qkv, table };
        let attention = AttentionWork {
            shape,
            batch,
            most_tokens: plan.case.contexts.iter().copied().max().unwrap_or(1),
            total_tokens: plan.case.tokens(),
            qkv,
            table,
            splits: plan.splits,
            workspace: activations.workspace,
            output: activations.attended,
        };
        self.norm(weights.attention_norm)?;
        self.gemm(shape.qkv_width(), model.hidden, weights.qkv, activations.normed, qkv)?;
        self.compute(&Work::Rope(rope))?;
        self.compute(&Work::KvAppend(rope))?;
        self.compute(&Work::Attention(attention))?;
        self.gemm(model.hidden, attended, weights.output, activations.attended, activations.delta)
    }

    /// Norm, gate and up, activation, down.
    fn mlp_half(&mut self, layer: Layer) -> Result<(), DeviceError> {
        let (plan, model) = (self.plan, &self.plan.case.model);
        let weights = plan.weights[layer.index() % plan.weights.len()];
        let activations = &plan.activations;
        let (gate_up, output) = (activations.gate_up, activations.activated);
        let (rows, width) = (plan.case.batch(), model.intermediate);
        self.norm(weights.mlp_norm)?;
        self.gemm(2 * width, model.hidden, weights.gate_up, activations.normed, gate_up)?;
        self.compute(&Work::SiluMul { rows, width, gate_up, output })?;
        self.gemm(model.hidden, width, weights.down, output, activations.delta)
    }

    fn norm(&mut self, weights: DeviceSlice) -> Result<(), DeviceError> {
        let activations = &self.plan.activations;
        self.compute(&Work::Norm(NormWork {
            rows: self.plan.case.batch(),
            width: self.plan.case.model.hidden,
            residual: activations.residual,
            delta: Some(activations.delta),
            weights,
            output: activations.normed,
        }))
    }

    fn gemm(
        &mut self,
        out: u32,
        inner: u32,
        weights: DeviceSlice,
        input: DeviceSlice,
        output: DeviceSlice,
    ) -> Result<(), DeviceError> {
        let rows = self.plan.case.batch();
        self.compute(&Work::Gemm(GemmWork { rows, out, inner, weights, input, output }))
    }

    /// Puts the layer's outputs aside, where that is asked.
    fn keep(&mut self, layer: Layer) -> Result<(), DeviceError> {
        let activations = &self.plan.activations;
        if let Some((attended, added)) = activations.trace.get(layer.index()).copied() {
            self.compute(&Work::DeviceCopy { from: activations.attended, to: attended })?;
            self.compute(&Work::DeviceCopy { from: activations.delta, to: added })?;
        }
        Ok(())
    }

    /// The new rows of the layer's offloaded requests go to the host, behind its kernels.
    fn write_back(&mut self, layer: Layer) -> Result<(), DeviceError> {
        let plan = self.plan;
        let pieces = &plan.writes[layer.index()];
        if pieces.is_empty() {
            return Ok(());
        }
        self.device.wait(plan.write_stream, self.events.layer_end[layer.index()])?;
        let copy = CopyWork {
            direction: Direction::D2h,
            api: plan.case.granularity.api(),
            host: plan.host.expect("Invariant: what is copied has a host side"),
            device: plan.new_rows,
            pieces,
        };
        self.device.copy(plan.write_stream, &copy)?;
        self.device.record(plan.write_stream, self.events.written[layer.index()])
    }

    fn finish(&mut self) -> Result<(), DeviceError> {
        let plan = self.plan;
        self.norm(plan.final_norm)?;
        let (model, activations) = (&plan.case.model, &plan.activations);
        self.gemm(model.vocab, model.hidden, plan.head, activations.normed, activations.logits)?;
        let last_written = Layer::all(plan.case.layers).rev().find(|layer| plan.is_fetched(*layer));
        match last_written {
            Some(layer) if self.arm.captured => {
                self.device.wait(plan.compute, self.events.written[layer.index()])
            }
            _ => Ok(()),
        }
    }
}
