//! CPU threads that play a GPU: real data, the CPU's times.
//!
//! What it is for: slots, waits, checks, fits and reports run end to end without a GPU, and a wait that was left out shows
//! as stale or poisoned data. It says nothing about any GPU. One kernel and one copy per direction run at a time, on
//! threads of their own; the link is `memcpy`, held to a rate if one is given. Host memory of all kinds is ordinary
//! memory. A gather kernel is a copy that occupies the compute engine too.

mod attention;
mod bytes;
mod engines;
mod layer;
mod machine;
mod store;

#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use orbitflow_sim::cost::profile::DeviceSample;

use self::engines::{Job, Workers};
use self::layer::Row;
use self::store::Place;
use super::queue::{Engines, occupied_by, unknown};
use super::sizes::{assert_rows, assert_sizes, table_of};
use super::{
    AttentionWork, Backend, CopyWork, Device, DeviceBuffer, DeviceError, DeviceSlice, Event, Facts, FillWith,
    GemmWork, Graph, HostBuffer, HostMemory, HostSlice, KvRow, KvTable, Latch, NormWork, Stream, Work,
};

/// What a host device is told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HostOptions {
    /// Copies take at least their bytes over this rate; `None`: as fast as `memcpy` is.
    pub link_bytes_per_s: Option<f64>,
    /// Memory that can be allocated on each side, in bytes; `None`: a quarter of what is free, at most 4 GiB.
    pub memory_bytes: Option<u64>,
}

/// See the module's documentation.
pub struct HostDevice {
    options: HostOptions,
    facts: Facts,
    workers: Workers,
    began: Instant,
    device_memory: BTreeMap<u32, Place>,
    host_memory: BTreeMap<u32, Place>,
    tables: BTreeMap<KvTable, (Vec<KvRow>, Arc<[Row]>)>,
    allocated: [u64; 2],
    next_handle: u32,
}

const DEVICE_SIDE: usize = 0;
const HOST_SIDE: usize = 1;

impl HostDevice {
    /// Starts the threads.
    ///
    /// # Errors
    /// A rate that is no rate; threads that cannot be had.
    pub fn new(options: HostOptions) -> Result<Self, DeviceError> {
        if let Some(rate) = options.link_bytes_per_s.filter(|rate| !(1.0..1e15).contains(rate)) {
            let message = format!("{rate} B/s is no rate of a link: expected 1 to 1e15");
            return Err(DeviceError::Failed { what: "starting the host device".to_owned(), message });
        }
        Ok(HostDevice {
            options,
            facts: machine::facts(&options),
            workers: Workers::start()?,
            began: Instant::now(),
            device_memory: BTreeMap::new(),
            host_memory: BTreeMap::new(),
            tables: BTreeMap::new(),
            allocated: [0; 2],
            next_handle: 0,
        })
    }

    fn handle(&mut self) -> u32 {
        self.next_handle += 1;
        self.next_handle
    }

    fn reserve(&mut self, side: usize, what: &str, bytes: u64) -> Result<u32, DeviceError> {
        let free = self.facts.memory_bytes - self.allocated[side];
        if bytes > free {
            return Err(DeviceError::OutOfMemory { what: what.to_owned(), asked: bytes, free });
        }
        self.allocated[side] += bytes;
        Ok(self.handle())
    }

    fn device_place(&self, slice: DeviceSlice) -> Result<Place, DeviceError> {
        let id = slice.buffer().id();
        let whole = self.device_memory.get(&id).ok_or_else(|| unknown("device buffer", id))?;
        Ok(whole.part(slice.offset() as usize, slice.bytes() as usize))
    }

    fn host_place(&self, slice: HostSlice) -> Result<Place, DeviceError> {
        let id = slice.buffer().id();
        let whole = self.host_memory.get(&id).ok_or_else(|| unknown("host buffer", id))?;
        Ok(whole.part(slice.offset() as usize, slice.bytes() as usize))
    }

    fn enqueue(
        &self,
        stream: Stream,
        name: &'static str,
        (engines, operations): (Engines, usize),
        run: impl Fn() + Send + Sync + 'static,
    ) -> Result<(), DeviceError> {
        let job = Job { name, engines, operations, run: Arc::new(run) };
        self.workers.queue(|queues, now| queues.work(stream, now, job))
    }

    fn kernel(
        &self,
        stream: Stream,
        name: &'static str,
        run: impl Fn() + Send + Sync + 'static,
    ) -> Result<(), DeviceError> {
        self.enqueue(stream, name, (Engines::COMPUTE, 1), run)
    }

    fn rows_of(&self, work: &Work) -> Result<(&[KvRow], Arc<[Row]>), DeviceError> {
        let Some(table) = table_of(work) else { return Ok((&[], Arc::new([]))) };
        let (rows, places) = self.tables.get(&table).ok_or_else(|| unknown("table", table.0))?;
        Ok((rows, Arc::clone(places)))
    }

    fn wait_for_all(&self, what: &str) -> Result<(), DeviceError> {
        self.workers.queue(|queues, _| queues.refuse_in_capture(what))?;
        self.workers.wait_for_all()
    }

    fn submit_gemm(&self, stream: Stream, work: &GemmWork) -> Result<(), DeviceError> {
        let sizes = [work.rows, work.out, work.inner].map(|size| size as usize);
        let weights = self.device_place(work.weights)?;
        let input = self.device_place(work.input)?;
        let output = self.device_place(work.output)?;
        self.kernel(stream, "gemm", move || layer::gemm(sizes, &weights, &input, &output))
    }

    fn submit_norm(&self, stream: Stream, work: &NormWork) -> Result<(), DeviceError> {
        let sizes = [work.rows, work.width].map(|size| size as usize);
        let residual = self.device_place(work.residual)?;
        let delta = work.delta.map(|delta| self.device_place(delta)).transpose()?;
        let weights = self.device_place(work.weights)?;
        let output = self.device_place(work.output)?;
        self.kernel(stream, "norm", move || {
            layer::norm(sizes, &residual, delta.as_ref(), &weights, &output);
        })
    }

    fn submit_attention(
        &self,
        stream: Stream,
        work: &AttentionWork,
        rows: Arc<[Row]>,
    ) -> Result<(), DeviceError> {
        let (shape, splits) = (work.shape, work.splits as usize);
        let qkv = self.device_place(work.qkv)?;
        let workspace = self.device_place(work.workspace)?;
        let output = self.device_place(work.output)?;
        self.kernel(stream, "attention", move || {
            attention::attention(shape, &rows, splits, &qkv, &workspace, &output);
        })
    }
}

impl Device for HostDevice {
    fn backend(&self) -> Backend {
        Backend::Host
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn has_data(&self) -> bool {
        true
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
        self.device_memory.insert(id, Place::new(bytes));
        Ok(DeviceBuffer::new(id, bytes))
    }

    fn alloc_host(&mut self, bytes: u64, memory: HostMemory) -> Result<HostBuffer, DeviceError> {
        if memory == HostMemory::RegisteredHugePages {
            let reason = "the host device has no driver to register memory with".to_owned();
            return Err(DeviceError::Unsupported { what: "registering huge pages".to_owned(), reason });
        }
        let id = self.reserve(HOST_SIDE, "host memory", bytes)?;
        let place = Place::new(bytes);
        bytes::fill(&place, FillWith::Word(0));
        self.host_memory.insert(id, place);
        Ok(HostBuffer::new(id, bytes))
    }

    fn free_all(&mut self) -> Result<(), DeviceError> {
        let outcome = self.wait_for_all("giving everything back");
        self.workers.queue(|queues, _| queues.refuse_in_capture("giving everything back"))?;
        self.workers.queue(|queues, _| queues.clear());
        self.device_memory.clear();
        self.host_memory.clear();
        self.tables.clear();
        self.allocated = [0; 2];
        outcome
    }

    fn write(&mut self, to: DeviceSlice, bytes: &[u8]) -> Result<(), DeviceError> {
        assert!(bytes.len() as u64 == to.bytes(), "Invariant: what is written is as long as its place");
        let place = self.device_place(to)?;
        self.wait_for_all("writing device memory")?;
        place.write(bytes);
        Ok(())
    }

    fn read(&mut self, from: DeviceSlice) -> Result<Vec<u8>, DeviceError> {
        let place = self.device_place(from)?;
        self.wait_for_all("reading device memory")?;
        Ok(place.read())
    }

    fn write_host(&mut self, to: HostSlice, bytes: &[u8]) -> Result<(), DeviceError> {
        assert!(bytes.len() as u64 == to.bytes(), "Invariant: what is written is as long as its place");
        self.host_place(to)?.write(bytes);
        Ok(())
    }

    fn read_host(&mut self, from: HostSlice) -> Result<Vec<u8>, DeviceError> {
        Ok(self.host_place(from)?.read())
    }

    fn fill_host(&mut self, to: HostSlice, with: FillWith) -> Result<(), DeviceError> {
        bytes::fill(&self.host_place(to)?, with);
        Ok(())
    }

    fn stream(&mut self) -> Result<Stream, DeviceError> {
        Ok(self.workers.queue(|queues, _| queues.stream()))
    }

    fn event(&mut self) -> Result<Event, DeviceError> {
        Ok(self.workers.queue(|queues, _| queues.event()))
    }

    fn latch(&mut self) -> Result<Latch, DeviceError> {
        Ok(self.workers.queue(|queues, _| queues.latch()))
    }

    fn kv_table(&mut self, rows: &[KvRow]) -> Result<KvTable, DeviceError> {
        assert_rows(rows);
        self.wait_for_all("making a table")?;
        let place = |row: &KvRow| Ok(Row { kv: self.device_place(row.kv)?, tokens: row.tokens as usize });
        let places = rows.iter().map(place).collect::<Result<Arc<[Row]>, DeviceError>>()?;
        let table = KvTable(self.handle());
        self.tables.insert(table, (rows.to_vec(), places));
        Ok(table)
    }

    fn submit(&mut self, stream: Stream, work: &Work) -> Result<(), DeviceError> {
        let (rows, places) = self.rows_of(work)?;
        assert_sizes(work, rows);
        match work {
            Work::Empty => self.kernel(stream, "empty", || {}),
            Work::Spin { seconds } => {
                let (lasting, stop) = (Duration::from_secs_f64(*seconds), self.workers.stop().clone());
                self.kernel(stream, "spin", move || stop.wait_until(Instant::now() + lasting))
            }
            Work::Fill { to, with } => {
                let (to, with) = (self.device_place(*to)?, *with);
                self.kernel(stream, "fill", move || bytes::fill(&to, with))
            }
            Work::Checksum { of, into } => {
                let (of, into) = (self.device_place(*of)?, self.device_place(*into)?);
                self.kernel(stream, "checksum", move || bytes::checksum(&of, &into))
            }
            Work::ReadOnly { of, into } => {
                let (of, into) = (self.device_place(*of)?, self.device_place(*into)?);
                self.kernel(stream, "read", move || bytes::read_only(&of, &into))
            }
            Work::DeviceCopy { from, to } => {
                let (from, to) = (self.device_place(*from)?, self.device_place(*to)?);
                self.kernel(stream, "copy within the device", move || bytes::copy_within(&from, &to))
            }
            Work::Gemm(gemm) => self.submit_gemm(stream, gemm),
            Work::Norm(norm) => self.submit_norm(stream, norm),
            Work::Rope(rope) => {
                let (shape, qkv) = (rope.shape, self.device_place(rope.qkv)?);
                self.kernel(stream, "rope", move || layer::rope(shape, &places, &qkv))
            }
            Work::KvAppend(append) => {
                let (shape, qkv) = (append.shape, self.device_place(append.qkv)?);
                self.kernel(stream, "KV append", move || layer::kv_append(shape, &places, &qkv))
            }
            Work::Attention(attention) => self.submit_attention(stream, attention, places),
            Work::SiluMul { rows, width, gate_up, output } => {
                let sizes = [*rows as usize, *width as usize];
                let (gate_up, output) = (self.device_place(*gate_up)?, self.device_place(*output)?);
                self.kernel(stream, "activation", move || layer::silu_mul(sizes, &gate_up, &output))
            }
        }
    }

    fn copy(&mut self, stream: Stream, work: &CopyWork<'_>) -> Result<(), DeviceError> {
        work.assert_inside();
        let (host, device) = (self.host_place(work.host.all())?, self.device_place(work.device.all())?);
        let pieces: Vec<(Place, Place)> = work
            .pieces
            .iter()
            .map(|piece| {
                let bytes = piece.bytes as usize;
                (
                    host.part(piece.host_offset as usize, bytes),
                    device.part(piece.device_offset as usize, bytes),
                )
            })
            .collect();
        let (direction, rate) = (work.direction, self.options.link_bytes_per_s);
        let stop = self.workers.stop().clone();
        self.enqueue(stream, "copy", occupied_by(work), move || bytes::copy(direction, &pieces, rate, &stop))
    }

    fn record(&mut self, stream: Stream, event: Event) -> Result<(), DeviceError> {
        self.workers.queue(|queues, now| queues.record(stream, now, event))
    }

    fn wait(&mut self, stream: Stream, event: Event) -> Result<(), DeviceError> {
        self.workers.queue(|queues, now| queues.wait(stream, now, event))
    }

    fn hold(&mut self, stream: Stream, latch: Latch) -> Result<(), DeviceError> {
        self.workers.queue(|queues, now| queues.hold(stream, now, latch))
    }

    fn release(&mut self, latch: Latch) -> Result<(), DeviceError> {
        self.workers.queue(|queues, now| {
            queues.settle(now);
            queues.release(now, latch)
        })
    }

    fn synchronize(&mut self) -> Result<(), DeviceError> {
        self.wait_for_all("waiting for the device")
    }

    fn elapsed_s(&mut self, from: Event, to: Event) -> Result<f64, DeviceError> {
        self.workers.queue(|queues, _| {
            let (from, to) = (queues.time_of(from)?, queues.time_of(to)?);
            let forward = to.saturating_duration_since(from).as_secs_f64();
            Ok(forward - from.saturating_duration_since(to).as_secs_f64())
        })
    }

    fn now_s(&mut self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn begin_capture(&mut self, stream: Stream) -> Result<(), DeviceError> {
        self.workers.queue(|queues, _| queues.begin_capture(stream))
    }

    fn end_capture(&mut self, stream: Stream) -> Result<Graph, DeviceError> {
        self.workers.queue(|queues, _| queues.end_capture(stream))
    }

    fn launch(&mut self, stream: Stream, graph: Graph) -> Result<(), DeviceError> {
        self.workers.queue(|queues, now| queues.launch(stream, now, graph))
    }
}
