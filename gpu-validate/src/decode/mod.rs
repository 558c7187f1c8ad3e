//! A real decode step, layer by layer, on any device: the thing that predictions are held against (E9, E10, E11).
//!
//! ```text
//! copy stream(s)   ── wait slot free ── host KV of (request, layer) ──► slot ── ready ──┐
//! compute stream   ── … layer j−1 ── slot free ──────────────────── wait ready ── layer j ── …
//! write stream                                                        new K, V of layer j ──► host
//! ```
//!
//! Per layer: norm, q k v, rope, KV append, attention, output, norm, gate and up, activation, down; after the last one
//! the final norm and the output head. One attention launch mixes resident and staged requests by a pointer each. No copy
//! of a step starts before the step does (design §3.4, no cross-step prefetch). Only new rows of offloaded
//! (request, layer) pairs are written to the host (`gpu-measurement.md` §4.2), where the simulator's `write_back = "link"`
//! writes all; a write delays only the next step's same layer. Contexts stay as they are from step to step.
//!
//! Left out of a step: embedding lookup and sampling (a timed step goes on with the last one's residual stream) and
//! biases of q, k and v.
//!
//! Knows nothing about predictions, fits or files.

mod fill;
mod layout;
mod plan;
mod schedule;
pub mod splits;
mod step;
mod timing;

#[cfg(test)]
pub(crate) mod tests;

pub use splits::SplitRule;

pub(crate) use fill::seed_of;

use self::fill::GUARD_WORD;
use self::layout::GUARD_BYTES;
use self::plan::{StepEvents, StepPlan};
use self::step::{Arm, submit_step};
use crate::case::Case;
use crate::device::{Device, DeviceError, DeviceSlice, Graph, POISON, Work};
use crate::results::Submission;

/// How a case is run.
#[derive(Clone, Copy, Debug)]
pub struct RigOptions {
    /// Of all random contents.
    pub seed: u64,
    /// Layers with weights of their own, at least 1; layer `j` uses those of `j mod weight_layers`.
    pub weight_layers: u32,
    /// Kernel by kernel, or as a captured graph.
    pub submission: Submission,
    /// Attention's splits.
    pub splits: SplitRule,
    /// The most pinned host memory for KV, in bytes, where outputs are not kept; regions share it beyond that.
    /// `None`: all that the device offers.
    pub most_host_bytes: Option<u64>,
    /// For checks: every (request, layer) has memory of its own, every step starts from the same residual stream, slots
    /// are poisoned before each copy, and each layer's outputs are put aside. Such steps are not for timing.
    pub keep_outputs: bool,
    /// A deliberate fault: compute does not wait for copies. For the check that must catch it.
    pub drop_ready_wait: bool,
}

impl RigOptions {
    /// For timing: KV on the host shares 4 GiB where it is more.
    pub fn timing(seed: u64, weight_layers: u32) -> RigOptions {
        RigOptions {
            seed,
            weight_layers,
            submission: Submission::Stream,
            splits: splits::fill_the_device,
            most_host_bytes: Some(4 << 30),
            keep_outputs: false,
            drop_ready_wait: false,
        }
    }

    /// For comparing outputs.
    pub fn checking(seed: u64, weight_layers: u32) -> RigOptions {
        RigOptions { keep_outputs: true, most_host_bytes: None, ..RigOptions::timing(seed, weight_layers) }
    }
}

/// A case on a device, ready to run.
pub struct Rig<'d> {
    device: &'d mut dyn Device,
    plan: StepPlan,
    events: StepEvents,
    graph: Option<Graph>,
}

impl<'d> Rig<'d> {
    /// Allocates and fills everything that `case` needs and waits for it; gives back what was on the device before.
    /// A graph is captured after one step kernel by kernel.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] if it does not fit, [`DeviceError::Unsupported`] if graphs are not possible here,
    /// and whatever the device fails with.
    pub fn new(device: &'d mut dyn Device, case: &Case, options: RigOptions) -> Result<Rig<'d>, DeviceError> {
        assert_eq!(case.contexts.len(), case.offloaded.len(), "Invariant: a placement for each request");
        assert!(case.slots >= 1 && case.layers >= 1, "Invariant: a case has layers and slots");
        let plan = StepPlan::build(device, case, &options)?;
        let events = StepEvents::new(device, &plan)?;
        let mut rig = Rig { device, plan, events, graph: None };
        if options.submission == Submission::Graph {
            rig.capture()?;
        }
        Ok(rig)
    }

    /// What is run.
    pub fn case(&self) -> &Case {
        &self.plan.case
    }

    /// Into how many parts attention cuts each context.
    pub fn splits(&self) -> u32 {
        self.plan.splits
    }

    /// Which KV shares memory with other KV, in words: nothing that a timed step could notice, but its contents are not
    /// all different. Empty if each (request, layer) has its own.
    pub fn shared_memory(&self) -> &[String] {
        &self.plan.layout.shared
    }

    /// Submits one step and does not wait for it.
    ///
    /// # Errors
    /// What the device fails with.
    pub fn submit_step(&mut self) -> Result<(), DeviceError> {
        match self.graph {
            Some(graph) => self.device.launch(self.plan.compute, graph),
            None => self.submit_stream_step(),
        }
    }

    /// Runs `steps` steps and waits for them. Kept outputs are poisoned first.
    ///
    /// # Errors
    /// What the device fails with.
    pub fn run_steps(&mut self, steps: u32) -> Result<(), DeviceError> {
        let compute = self.plan.compute;
        for to in self.kept() {
            self.device.submit(compute, &Work::Fill { to, with: POISON })?;
        }
        for _ in 0..steps {
            self.submit_step()?;
        }
        self.device.synchronize()
    }

    /// Runs one step whose copies all wait until `hold_s` seconds after it was submitted (at most 1 s), however fast the
    /// device is: compute that does not wait for them finds what was in the slots before. Kept outputs are poisoned
    /// first.
    ///
    /// # Errors
    /// What the device fails with.
    pub fn run_step_with_late_copies(&mut self, hold_s: f64) -> Result<(), DeviceError> {
        self.run_steps(0)?;
        // All latches before the first hold: making one allocates memory, which may wait for the device.
        let latches = (self.plan.copy_streams.iter())
            .map(|_| self.device.latch())
            .collect::<Result<Vec<_>, DeviceError>>()?;
        for (stream, latch) in self.plan.copy_streams.iter().zip(&latches) {
            self.device.hold(*stream, *latch)?;
        }
        self.submit_step()?;
        std::thread::sleep(std::time::Duration::from_secs_f64(hold_s.clamp(0.0, 1.0)));
        for latch in latches {
            self.device.release(latch)?;
        }
        self.device.synchronize()
    }

    /// Of the last step: each layer's attention output and what it adds to the residual stream, then the logits; bf16.
    /// Panics unless [`RigOptions::keep_outputs`].
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] on a device without data, and whatever the device fails with.
    pub fn outputs(&mut self) -> Result<Vec<u8>, DeviceError> {
        assert!(self.plan.options.keep_outputs, "Invariant: outputs are read where they are kept");
        let mut outputs = Vec::new();
        for slice in self.kept() {
            outputs.extend(self.device.read(slice)?);
        }
        Ok(outputs)
    }

    /// How many bytes of the guard bands around slots have changed.
    ///
    /// # Errors
    /// As [`Rig::outputs`].
    pub fn changed_guard_bytes(&mut self) -> Result<u64, DeviceError> {
        let Some(staging) = self.plan.staging else { return Ok(0) };
        let word = GUARD_WORD.to_ne_bytes();
        let mut changed = 0;
        for guard in &self.plan.layout.guards {
            let band = self.device.read(staging.slice(*guard, GUARD_BYTES))?;
            changed += band.iter().zip(word.iter().cycle()).filter(|(is, was)| is != was).count() as u64;
        }
        Ok(changed)
    }

    /// How many bytes of the new rows that went to the host differ from those on the device, and of how many.
    ///
    /// # Errors
    /// As [`Rig::outputs`].
    pub fn wrong_written_bytes(&mut self) -> Result<(u64, u64), DeviceError> {
        let Some(host) = self.plan.host else { return Ok((0, 0)) };
        let (mut wrong, mut all) = (0, 0);
        for piece in self.plan.writes.iter().flatten() {
            let device = self.device.read(self.plan.new_rows.slice(piece.device_offset, piece.bytes))?;
            let written = self.device.read_host(host.slice(piece.host_offset, piece.bytes))?;
            wrong += device.iter().zip(&written).filter(|(device, host)| device != host).count() as u64;
            all += piece.bytes;
        }
        Ok((wrong, all))
    }

    fn kept(&self) -> Vec<DeviceSlice> {
        let activations = &self.plan.activations;
        let layers = activations.trace.iter().flat_map(|(attended, added)| [*attended, *added]);
        layers.chain(self.plan.options.keep_outputs.then_some(activations.logits)).collect()
    }

    fn submit_stream_step(&mut self) -> Result<(), DeviceError> {
        submit_step(self.device, &self.plan, &self.events, Arm { captured: false, marks: None })
    }

    /// The captured step has events of its own: those of a capture mean nothing outside it.
    fn capture(&mut self) -> Result<(), DeviceError> {
        self.submit_stream_step()?;
        self.device.synchronize()?;
        let events = StepEvents::new(self.device, &self.plan)?;
        self.device.begin_capture(self.plan.compute)?;
        let submitted = submit_step(self.device, &self.plan, &events, Arm { captured: true, marks: None });
        let graph = self.device.end_capture(self.plan.compute);
        submitted?;
        self.graph = Some(graph?);
        Ok(())
    }
}
