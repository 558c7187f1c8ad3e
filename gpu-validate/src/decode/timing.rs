//! How long steps take: from the end of one to the end of the next, with the queue kept ahead but bounded.
//!
//! At most [`MOST_QUEUED`] steps are submitted between two waits. The first after each wait finds an idle device and
//! is submitted while it runs, so it is run and not counted. Instrumented steps are another pass: events around layers and
//! copies cost time, which is reported as a share.

use super::Rig;
use super::step::{Arm, Marks, submit_step};
use crate::case::Instrumented;
use crate::device::{DeviceError, Event};
use crate::sample::median;

/// Steps submitted between two waits.
const MOST_QUEUED: u32 = 16;

/// Counted steps of each kind in an instrumented pass.
const INSTRUMENTED_STEPS: u32 = 5;

impl Rig<'_> {
    /// Seconds of each of `samples` steps, after `warmups` that are not counted.
    ///
    /// # Errors
    /// What the device fails with.
    pub fn time_steps(&mut self, warmups: u32, samples: u32) -> Result<Vec<f64>, DeviceError> {
        for first in (0..warmups).step_by(MOST_QUEUED as usize) {
            for _ in first..warmups.min(first + MOST_QUEUED) {
                self.submit_step()?;
            }
            self.device.synchronize()?;
        }
        let ends = (0..MOST_QUEUED).map(|_| self.device.event()).collect::<Result<Vec<_>, _>>()?;
        self.time_with(&ends, samples, Rig::submit_step)
    }

    /// One step with events around every layer and copy, after as many plain and instrumented ones as tell what
    /// these events cost. Always kernel by kernel: a graph has no event times.
    ///
    /// # Errors
    /// What the device fails with.
    pub fn instrumented_step(&mut self) -> Result<Instrumented, DeviceError> {
        let ends = (0..MOST_QUEUED).map(|_| self.device.event()).collect::<Result<Vec<_>, _>>()?;
        let layers = self.event_pairs(self.plan.case.layers as usize)?;
        let marks = Marks { layers, copies: self.event_pairs(self.plan.copies())? };
        let plain = self.time_with(&ends, INSTRUMENTED_STEPS, Rig::submit_stream_step)?;
        let marked = self.time_with(&ends, INSTRUMENTED_STEPS, |rig| {
            let arm = Arm { captured: false, marks: Some(&marks) };
            submit_step(rig.device, &rig.plan, &rig.events, arm)
        })?;
        let overhead =
            median(&marked).zip(median(&plain)).map_or(0.0, |(marked, plain)| marked / plain - 1.0);
        let layers_s = self.spans(&marks.layers)?;
        let copies_s = self.copy_spans(&marks)?;
        Ok(Instrumented { overhead, layers_s, copies_s })
    }

    fn time_with(
        &mut self,
        ends: &[Event],
        samples: u32,
        mut submit: impl FnMut(&mut Self) -> Result<(), DeviceError>,
    ) -> Result<Vec<f64>, DeviceError> {
        let mut seconds = Vec::new();
        while seconds.len() < samples as usize {
            let counted = (samples as usize - seconds.len()).min(ends.len() - 1);
            for end in &ends[..=counted] {
                submit(self)?;
                self.device.record(self.plan.compute, *end)?;
            }
            self.device.synchronize()?;
            for pair in ends[..=counted].windows(2) {
                seconds.push(self.device.elapsed_s(pair[0], pair[1])?);
            }
        }
        Ok(seconds)
    }

    fn event_pairs(&mut self, count: usize) -> Result<Vec<(Event, Event)>, DeviceError> {
        (0..count).map(|_| Ok((self.device.event()?, self.device.event()?))).collect()
    }

    /// Seconds from the start of the last step.
    fn spans(&mut self, pairs: &[(Event, Event)]) -> Result<Vec<(f64, f64)>, DeviceError> {
        let begin = self.events.begin;
        let mut spans = Vec::new();
        for (start, end) in pairs {
            spans.push((self.device.elapsed_s(begin, *start)?, self.device.elapsed_s(begin, *end)?));
        }
        Ok(spans)
    }

    /// Per layer that is copied for: when the first copy for it starts and the last one ends.
    fn copy_spans(&mut self, marks: &Marks) -> Result<Vec<(u32, f64, f64)>, DeviceError> {
        let spans = self.spans(&marks.copies)?;
        let mut by_layer = std::collections::BTreeMap::new();
        for prefetch in self.plan.prefetches.iter().flatten() {
            let (start, end) = spans[prefetch.place];
            let (first, last) = by_layer.entry(prefetch.layer.0).or_insert((start, end));
            (*first, *last) = (start.min(*first), end.max(*last));
        }
        Ok(by_layer.into_iter().map(|(layer, (start, end))| (layer, start, end)).collect())
    }
}
