//! A device with a clock of its own: exact times in whole picoseconds, no data, the same at every run.
//!
//! What it is for: a harness and a fit that run here must find the [`VirtualTruth`] again, and a decode step must take
//! what `orbitflow_sim` predicts. It says nothing about any GPU. Kernels and copies take the truth's time on one compute
//! engine and one copy engine per direction; records, waits and latches take none; submitting takes the truth's CPU time.
//! A gather kernel occupies the compute engine as well as its direction of the link, so it hides behind nothing.
//!
//! Buffers are sizes: writing is accepted, reading is [`DeviceError::Unsupported`], and checks of bytes are waived.

mod link;
mod progress;
mod timeline;
mod truth;

#[cfg(test)]
mod tests;

pub use link::{VirtualLink, VirtualLinks};
pub use truth::{VirtualContention, VirtualNoise, VirtualTruth};

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use orbitflow_sim::cost::profile::{Device as DeviceRecord, DeviceSample, Host};
use orbitflow_sim::units::{SimDuration, SimTime};

use self::progress::ONE_PPM;
use self::timeline::{Timed, Timeline};
use super::queue::{Engines, occupied_by, unknown};
use super::sizes::{assert_rows, assert_sizes, table_of};
use super::{
    Backend, CopyWork, Device, DeviceBuffer, DeviceError, DeviceSlice, Event, Facts, FillWith, Graph,
    HostBuffer, HostMemory, HostSlice, KvRow, KvTable, Latch, Stream, Work,
};

/// See the module's documentation.
pub struct VirtualTimeDevice {
    truth: VirtualTruth,
    facts: Facts,
    timeline: Timeline,
    /// The submitting thread's clock.
    now: SimTime,
    tables: BTreeMap<KvTable, Vec<KvRow>>,
    allocated: [u64; 2],
    next_handle: u32,
    /// Kernels and copies submitted so far: the place in the sequence of noise.
    submitted: u64,
}

const DEVICE_SIDE: usize = 0;
const HOST_SIDE: usize = 1;

impl VirtualTimeDevice {
    /// A device with the times of `truth`. Panics on contention below 1 and on noise of 100 % or more.
    pub fn new(truth: VirtualTruth) -> Self {
        let tame = truth.noise.is_none_or(|noise| noise.ppm < ONE_PPM);
        assert!(tame, "Invariant: noise stays below 100 %");
        VirtualTimeDevice {
            facts: facts(&truth),
            timeline: Timeline::new(truth.contention),
            truth,
            now: SimTime::ZERO,
            tables: BTreeMap::new(),
            allocated: [0; 2],
            next_handle: 0,
            submitted: 0,
        }
    }

    /// What it is.
    pub fn truth(&self) -> &VirtualTruth {
        &self.truth
    }

    /// When an event was recorded, exactly.
    ///
    /// # Errors
    /// Never recorded, not waited for by [`Device::synchronize`], or recorded in a capture.
    pub fn event_time(&self, event: Event) -> Result<SimTime, DeviceError> {
        self.timeline.queues.time_of(event)
    }

    fn handle(&mut self) -> u32 {
        self.next_handle += 1;
        self.next_handle
    }

    fn reserve(&mut self, side: usize, what: &str, bytes: u64) -> Result<u32, DeviceError> {
        let free = self.truth.memory_bytes - self.allocated[side];
        if bytes > free {
            return Err(DeviceError::OutOfMemory { what: what.to_owned(), asked: bytes, free });
        }
        self.allocated[side] += bytes;
        Ok(self.handle())
    }

    /// The CPU time of `calls` submissions passes; answers when the first of them has been made.
    fn submit_calls(&mut self, calls: u64) -> SimTime {
        let first = self.now + self.truth.submit;
        self.now += self.truth.submit * calls;
        first
    }

    fn work(
        &mut self,
        stream: Stream,
        operations: usize,
        engines: Engines,
        time: SimDuration,
    ) -> Result<(), DeviceError> {
        let time = self.noisy(time);
        let at = self.submit_calls(operations as u64);
        self.timeline.queues.work(stream, at, Timed { engines, time, operations })
    }

    fn noisy(&mut self, time: SimDuration) -> SimDuration {
        self.submitted += 1;
        let Some(noise) = self.truth.noise else { return time };
        let random = mix(noise.seed ^ mix(self.submitted));
        let spread = u64::from(noise.ppm);
        let factor = u64::from(ONE_PPM) - spread + random % (2 * spread + 1);
        let scaled = u128::from(time.as_picos()) * u128::from(factor) / u128::from(ONE_PPM);
        SimDuration::from_picos(u64::try_from(scaled).unwrap_or(u64::MAX))
    }

    fn rows_of(&self, work: &Work) -> Result<&[KvRow], DeviceError> {
        let Some(table) = table_of(work) else { return Ok(&[]) };
        self.tables.get(&table).map(Vec::as_slice).ok_or_else(|| unknown("table", table.0))
    }

    fn wait_for_all(&mut self, what: &str) -> Result<(), DeviceError> {
        self.timeline.queues.refuse_in_capture(what)?;
        self.now = self.timeline.run_all(self.now);
        Ok(())
    }
}

impl Device for VirtualTimeDevice {
    fn backend(&self) -> Backend {
        Backend::VirtualTime
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn has_data(&self) -> bool {
        false
    }

    fn sample_state(&mut self) -> DeviceSample {
        DeviceSample {
            t_s: self.now_s(),
            sm_mhz: None,
            mem_mhz: None,
            power_w: None,
            temp_c: None,
            throttle_bits: None,
        }
    }

    fn alloc(&mut self, bytes: u64) -> Result<DeviceBuffer, DeviceError> {
        let id = self.reserve(DEVICE_SIDE, "device memory", bytes)?;
        Ok(DeviceBuffer::new(id, bytes))
    }

    fn alloc_host(&mut self, bytes: u64, _memory: HostMemory) -> Result<HostBuffer, DeviceError> {
        let id = self.reserve(HOST_SIDE, "host memory", bytes)?;
        Ok(HostBuffer::new(id, bytes))
    }

    fn free_all(&mut self) -> Result<(), DeviceError> {
        self.wait_for_all("giving everything back")?;
        self.timeline.queues.clear();
        self.tables.clear();
        self.allocated = [0; 2];
        Ok(())
    }

    fn write(&mut self, to: DeviceSlice, bytes: &[u8]) -> Result<(), DeviceError> {
        assert!(bytes.len() as u64 == to.bytes(), "Invariant: what is written is as long as its place");
        self.wait_for_all("writing device memory")
    }

    fn read(&mut self, _from: DeviceSlice) -> Result<Vec<u8>, DeviceError> {
        Err(no_data("reading device memory"))
    }

    fn write_host(&mut self, to: HostSlice, bytes: &[u8]) -> Result<(), DeviceError> {
        assert!(bytes.len() as u64 == to.bytes(), "Invariant: what is written is as long as its place");
        Ok(())
    }

    fn read_host(&mut self, _from: HostSlice) -> Result<Vec<u8>, DeviceError> {
        Err(no_data("reading host memory"))
    }

    fn fill_host(&mut self, _to: HostSlice, _with: FillWith) -> Result<(), DeviceError> {
        Ok(())
    }

    fn stream(&mut self) -> Result<Stream, DeviceError> {
        Ok(self.timeline.queues.stream())
    }

    fn event(&mut self) -> Result<Event, DeviceError> {
        Ok(self.timeline.queues.event())
    }

    fn latch(&mut self) -> Result<Latch, DeviceError> {
        Ok(self.timeline.queues.latch())
    }

    fn kv_table(&mut self, rows: &[KvRow]) -> Result<KvTable, DeviceError> {
        assert_rows(rows);
        self.wait_for_all("making a table")?;
        let table = KvTable(self.handle());
        self.tables.insert(table, rows.to_vec());
        Ok(table)
    }

    fn submit(&mut self, stream: Stream, work: &Work) -> Result<(), DeviceError> {
        assert_sizes(work, self.rows_of(work)?);
        let time = self.truth.kernel_time(work);
        self.work(stream, 1, Engines::COMPUTE, time)
    }

    fn copy(&mut self, stream: Stream, work: &CopyWork<'_>) -> Result<(), DeviceError> {
        work.assert_inside();
        let time = self.truth.copy_time(work.direction, work.api, work.pieces);
        let (engines, calls) = occupied_by(work);
        self.work(stream, calls, engines, time)
    }

    fn record(&mut self, stream: Stream, event: Event) -> Result<(), DeviceError> {
        let at = self.submit_calls(1);
        self.timeline.queues.record(stream, at, event)
    }

    fn wait(&mut self, stream: Stream, event: Event) -> Result<(), DeviceError> {
        let at = self.submit_calls(1);
        self.timeline.queues.wait(stream, at, event)
    }

    fn hold(&mut self, stream: Stream, latch: Latch) -> Result<(), DeviceError> {
        let at = self.submit_calls(1);
        self.timeline.queues.hold(stream, at, latch)
    }

    fn release(&mut self, latch: Latch) -> Result<(), DeviceError> {
        self.timeline.run_before(self.now);
        self.timeline.queues.release(self.now, latch)
    }

    fn synchronize(&mut self) -> Result<(), DeviceError> {
        self.wait_for_all("waiting for the device")
    }

    fn elapsed_s(&mut self, from: Event, to: Event) -> Result<f64, DeviceError> {
        let (from, to) = (self.event_time(from)?, self.event_time(to)?);
        let forward = to.saturating_since(from).as_secs_f64();
        Ok(forward - from.saturating_since(to).as_secs_f64())
    }

    fn now_s(&mut self) -> f64 {
        self.now.as_secs_f64()
    }

    fn begin_capture(&mut self, stream: Stream) -> Result<(), DeviceError> {
        self.timeline.queues.begin_capture(stream)
    }

    fn end_capture(&mut self, stream: Stream) -> Result<Graph, DeviceError> {
        self.timeline.queues.end_capture(stream)
    }

    fn launch(&mut self, stream: Stream, graph: Graph) -> Result<(), DeviceError> {
        let at = self.submit_calls(1);
        self.timeline.queues.launch(stream, at, graph)
    }
}

fn no_data(what: &str) -> DeviceError {
    DeviceError::Unsupported { what: what.to_owned(), reason: "virtual time has no data".to_owned() }
}

fn facts(truth: &VirtualTruth) -> Facts {
    let mut device = DeviceRecord::named("virtual time");
    device.sm_count = NonZeroU32::new(truth.sm_count);
    device.l2_bytes = NonZeroU64::new(truth.l2_bytes);
    device.mem_bytes = NonZeroU64::new(truth.memory_bytes);
    let nothing = "virtual time: there is no such thing".to_owned();
    Facts {
        device,
        host: Host::default(),
        sm_count: truth.sm_count,
        l2_bytes: truth.l2_bytes,
        memory_bytes: truth.memory_bytes,
        host_memory_bytes: truth.memory_bytes,
        missing: vec![("device".to_owned(), nothing.clone()), ("provenance.host".to_owned(), nothing)],
        warnings: Backend::VirtualTime.disclaimer().map(str::to_owned).into_iter().collect(),
    }
}

/// Stafford's mix 13 of a 64-bit counter.
const fn mix(counter: u64) -> u64 {
    let mixed = (counter ^ (counter >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
