//! A GPU through the CUDA driver, NVRTC, cuBLAS and NVML: the only module with `unsafe`.
//!
//! ```text
//! library ─ opens the libraries            compiler ─ sources to machine code
//! driver ── every driver call, checked     kernels (outside of here) ─ what is compiled and how it is launched
//! host_memory, latches, gather, tables ─ what handles stand for           submit, batch, products ─ running it
//! facts, management ─ what the GPU and its machine are
//! ```
//!
//! What each [`DeviceError`] means here: `Unsupported` is a call that this driver, this memory or a capture cannot do, or
//! heads without a kernel; `OutOfMemory` is device memory, or host memory beyond half of what was available at the
//! start; `Failed` is everything else, and after one of a kernel's own faults every later call fails too, because the
//! driver keeps such an error until the program ends.
//!
//! Never sets clocks, power, persistence or any other state of the card; never uses managed memory. What no machine
//! without a GPU can show is listed in `gpu-validate/FIRST_GPU_RUN.md`.
#![allow(unsafe_code)]

mod batch;
pub mod compiler;
mod driver;
mod facts;
mod gather;
mod host_fill;
mod host_memory;
mod latches;
pub mod library;
mod management;
mod products;
mod submit;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use orbitflow_sim::cost::profile::DeviceSample;

use compiler::Compiler;
use driver::{Driver, RawEvent, RawFunction, RawGraph, RawModule, RawStream, without_panic};
use gather::{Arena, GatherLists, not_while_capturing};
use host_memory::{HostAllocation, HostPool};
use latches::LatchWords;
use management::Management;
use products::Products;
use tables::Table;

use super::{
    Backend, CopyWork, Device, DeviceBuffer, DeviceError, DeviceSlice, Event, Facts, FillWith, Graph,
    HostBuffer, HostMemory, HostSlice, KvRow, KvTable, LATCH_LIMIT_S, Latch, Stream, Work, sizes,
};
use crate::kernels::attention::VARIANTS;
use crate::kernels::layer::rope_turns;
use crate::kernels::memory::hold;
use crate::kernels::source::{MOST_LOCAL_BYTES, OPTIONS, SOURCES};
use crate::preflight::Preflight;

/// Base of the rotary embedding: Llama-3's.
const ROPE_BASE: f64 = 500_000.0;

/// Why a latch may open by itself although nothing is wrong with the GPU.
const FIRST_PRODUCT: &str = "the first product of a shape loads its kernel, which may wait for the device: run it once \
                             before it is held";

struct Memory {
    address: u64,
}

struct Kernel {
    function: RawFunction,
    compared: bool,
}

struct TableEntry {
    rows: Vec<KvRow>,
    bases: u64,
    tokens: u64,
}

/// A capture that is going on, or that had to be given up.
struct Capture {
    stream: RawStream,
    given_up: Option<String>,
}

/// A GPU.
pub struct CudaDevice {
    driver: Driver,
    modules: Vec<RawModule>,
    kernels: BTreeMap<&'static str, Kernel>,
    products: Products,
    management: Option<Management>,
    facts: Facts,
    began: Instant,
    pool: HostPool,
    arena: Arena,
    lists: GatherLists,
    /// Where rotations per position lie, by `head_dim`.
    turns: BTreeMap<u32, u64>,
    memory: Table<Memory>,
    host: Table<HostAllocation>,
    streams: Table<RawStream>,
    events: Table<RawEvent>,
    latches: Table<LatchWords>,
    spare_latches: Vec<LatchWords>,
    graphs: Table<RawGraph>,
    tables: Table<TableEntry>,
    capture: Option<Capture>,
    /// Whether a latch may be closed in front of work, and whether a product of a new shape was put behind it.
    held: bool,
    first_behind_latch: bool,
}

impl CudaDevice {
    /// GPU number `gpu`, as the driver counts those that it may use. Compiles and loads every kernel.
    ///
    /// # Errors
    /// The call that failed; a kernel that does not compile or that spills registers. `found` must lack nothing that
    /// is needed.
    pub fn open(found: &Preflight, gpu: usize) -> Result<Self, DeviceError> {
        without_panic("opening the GPU", || CudaDevice::open_checked(found, gpu))
    }

    fn open_checked(found: &Preflight, gpu: usize) -> Result<Self, DeviceError> {
        let driver = Driver::open(gpu as u32)?;
        let compiler = Compiler::open()?;
        let products = Products::open(&driver)?;
        let (modules, kernels) = load_kernels(&driver, &compiler)?;
        let (turns, arena) = (upload_turns(&driver)?, Arena::new(&driver)?);
        let facts_from =
            facts::Sources { driver: &driver, found, nvrtc: &compiler.version, cublas: &products.version };
        let (mut facts, management) = facts::gather(&facts_from, facts::host_memory_limit())?;
        let pool = HostPool::new(facts.host_memory_bytes, facts.host.numa_node);
        if !pool.is_placed() {
            facts.warnings.push(format!("host memory for copies: {}", pool.placement));
        }
        Ok(CudaDevice {
            driver,
            modules,
            kernels,
            products,
            management,
            facts,
            began: Instant::now(),
            pool,
            arena,
            lists: GatherLists::new(),
            turns,
            memory: Table::new("device buffer"),
            host: Table::new("host buffer"),
            streams: Table::new("stream"),
            events: Table::new("event"),
            latches: Table::new("latch"),
            spare_latches: Vec::new(),
            graphs: Table::new("graph"),
            tables: Table::new("KV table"),
            capture: None,
            held: false,
            first_behind_latch: false,
        })
    }

    fn capturing(&self) -> bool {
        self.capture.as_ref().is_some_and(|capture| capture.given_up.is_none())
    }

    /// Hands a result on. An error while work is captured breaks the capture, so it is left at once: the stream could
    /// not be used otherwise.
    fn guarded<T>(&mut self, result: Result<T, DeviceError>) -> Result<T, DeviceError> {
        if let (Err(error), Some(capture)) = (&result, &mut self.capture)
            && capture.given_up.is_none()
        {
            self.driver.abandon_capture(capture.stream);
            capture.given_up = Some(error.to_string());
        }
        result
    }

    fn refuse_while_capturing(&mut self, what: &str) -> Result<(), DeviceError> {
        if !self.capturing() {
            return Ok(());
        }
        self.guarded(Err(not_while_capturing(what)))
    }

    fn raw(&self, stream: Stream) -> RawStream {
        *self.streams.get(stream.0)
    }

    /// Everything submitted has run: latches close, lists are in place.
    fn settled(&mut self) {
        self.latches.iter_mut().for_each(LatchWords::close_if_released);
        self.lists.settle();
        self.held = false;
    }

    fn give_back_all(&mut self) -> Result<(), DeviceError> {
        for graph in self.graphs.drain() {
            self.driver.destroy_graph(graph)?;
        }
        self.products.forget_streams();
        for event in self.events.drain() {
            self.driver.destroy_event(event)?;
        }
        for stream in self.streams.drain() {
            self.driver.destroy_stream(stream)?;
        }
        for mut latch in self.latches.drain() {
            latch.close();
            self.spare_latches.push(latch);
        }
        self.tables.drain();
        self.lists.clear(&mut self.pool);
        self.arena.clear(&self.driver)?;
        for allocation in self.host.drain() {
            self.pool.give_back(allocation);
        }
        for memory in self.memory.drain() {
            self.driver.free(memory.address)?;
        }
        Ok(())
    }
}

/// Compiles for the GPU's own architecture, loads, and refuses kernels that spill.
fn load_kernels(
    driver: &Driver,
    compiler: &Compiler,
) -> Result<(Vec<RawModule>, BTreeMap<&'static str, Kernel>), DeviceError> {
    let arch = facts::compute_capability(driver).ok_or_else(|| DeviceError::Failed {
        what: "compiling kernels".to_owned(),
        message: "the driver does not tell the GPU's compute capability".to_owned(),
    })?;
    let (mut modules, mut kernels) = (Vec::new(), BTreeMap::new());
    for source in SOURCES {
        let compiled = compiler.compile(source.name, source.text, arch, &OPTIONS)?;
        let module = driver.load_module(source.name, &compiled.machine_code)?;
        modules.push(module);
        for name in source.kernels {
            let function = driver.function(module, name)?;
            let local_bytes = driver.local_bytes(function)?;
            if local_bytes > MOST_LOCAL_BYTES {
                let message = format!(
                    "it takes {local_bytes} bytes of local memory per thread; expected 0 (no spills)"
                );
                return Err(DeviceError::Failed { what: format!("kernel {name}"), message });
            }
            kernels.insert(*name, Kernel { function, compared: false });
        }
    }
    Ok((modules, kernels))
}

fn upload_turns(driver: &Driver) -> Result<BTreeMap<u32, u64>, DeviceError> {
    let mut turns = BTreeMap::new();
    for head_dim in BTreeSet::from(VARIANTS.map(|variant| variant.head_dim)) {
        let bytes: Vec<u8> =
            rope_turns(head_dim, ROPE_BASE).iter().flat_map(|turn| turn.to_le_bytes()).collect();
        let address = driver.alloc(bytes.len() as u64)?;
        driver.write(address, &bytes)?;
        turns.insert(head_dim, address);
    }
    Ok(turns)
}

/// Whether a GPU of this name is one that a test driver plays.
fn is_fake(name: &str) -> bool {
    name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("fake"))
}

impl Device for CudaDevice {
    /// A driver of tests calls its GPU a fake. Nothing on it may be taken for a measurement, whoever asks.
    fn backend(&self) -> Backend {
        if is_fake(&self.facts.device.name) { Backend::Host } else { Backend::Cuda }
    }

    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn has_data(&self) -> bool {
        true
    }

    /// Also brings `facts().device.pcie.replays_delta` up to date.
    fn sample_state(&mut self) -> DeviceSample {
        let t_s = self.began.elapsed().as_secs_f64();
        let Some(management) = &self.management else { return management::no_sample(t_s) };
        if let Some(pcie) = &mut self.facts.device.pcie {
            pcie.replays_delta = management.replays();
        }
        management.sample(t_s)
    }

    fn alloc(&mut self, bytes: u64) -> Result<DeviceBuffer, DeviceError> {
        self.refuse_while_capturing("device memory")?;
        let address = self.driver.alloc(bytes.max(1))?;
        Ok(DeviceBuffer::new(self.memory.add(Memory { address }), bytes))
    }

    fn alloc_host(&mut self, bytes: u64, memory: HostMemory) -> Result<HostBuffer, DeviceError> {
        self.refuse_while_capturing("host memory")?;
        let allocation = self.pool.take(&self.driver, bytes, memory)?;
        Ok(HostBuffer::new(self.host.add(allocation), bytes))
    }

    /// Keeps host memory and latches for the next user, gives everything else back.
    fn free_all(&mut self) -> Result<(), DeviceError> {
        if let Some(capture) = self.capture.take()
            && capture.given_up.is_none()
        {
            self.driver.abandon_capture(capture.stream);
        }
        self.synchronize()?;
        self.give_back_all()
    }

    fn write(&mut self, to: DeviceSlice, bytes: &[u8]) -> Result<(), DeviceError> {
        assert!(bytes.len() as u64 == to.bytes(), "Invariant: what is written is as long as its slice");
        self.synchronize()?;
        self.driver.write(self.place(to), bytes)
    }

    fn read(&mut self, from: DeviceSlice) -> Result<Vec<u8>, DeviceError> {
        self.synchronize()?;
        let mut bytes = vec![0; from.bytes() as usize];
        self.driver.read(self.place(from), &mut bytes)?;
        Ok(bytes)
    }

    fn write_host(&mut self, to: HostSlice, bytes: &[u8]) -> Result<(), DeviceError> {
        assert!(bytes.len() as u64 == to.bytes(), "Invariant: what is written is as long as its slice");
        self.host.get_mut(to.buffer().id()).bytes_mut(to.offset(), to.bytes()).copy_from_slice(bytes);
        Ok(())
    }

    fn read_host(&mut self, from: HostSlice) -> Result<Vec<u8>, DeviceError> {
        Ok(self.host.get_mut(from.buffer().id()).bytes_mut(from.offset(), from.bytes()).to_vec())
    }

    fn fill_host(&mut self, to: HostSlice, with: FillWith) -> Result<(), DeviceError> {
        host_fill::fill(self.host.get_mut(to.buffer().id()).bytes_mut(to.offset(), to.bytes()), with);
        Ok(())
    }

    fn stream(&mut self) -> Result<Stream, DeviceError> {
        let stream = self.driver.stream()?;
        Ok(Stream(self.streams.add(stream)))
    }

    fn event(&mut self) -> Result<Event, DeviceError> {
        let event = self.driver.event()?;
        Ok(Event(self.events.add(event)))
    }

    fn latch(&mut self) -> Result<Latch, DeviceError> {
        self.refuse_while_capturing("a latch")?;
        let latch = self.spare_latches.pop().map_or_else(|| LatchWords::new(&self.driver), Ok)?;
        Ok(Latch(self.latches.add(latch)))
    }

    fn kv_table(&mut self, rows: &[KvRow]) -> Result<KvTable, DeviceError> {
        sizes::assert_rows(rows);
        self.synchronize()?;
        let addresses = rows.iter().flat_map(|row| self.place(row.kv).to_le_bytes());
        let tokens = rows.iter().flat_map(|row| row.tokens.to_le_bytes());
        let bytes: Vec<u8> = addresses.chain(tokens).collect();
        let bases = self.arena.take(&self.driver, bytes.len() as u64, false)?;
        self.driver.write(bases, &bytes)?;
        let tokens = bases + 8 * rows.len() as u64;
        Ok(KvTable(self.tables.add(TableEntry { rows: rows.to_vec(), bases, tokens })))
    }

    fn submit(&mut self, stream: Stream, work: &Work) -> Result<(), DeviceError> {
        let result = self.run(self.raw(stream), work);
        self.guarded(result)
    }

    fn copy(&mut self, stream: Stream, work: &CopyWork<'_>) -> Result<(), DeviceError> {
        let result = self.run_copies(self.raw(stream), work);
        self.guarded(result)
    }

    /// Within a capture an event orders streams and has no time.
    fn record(&mut self, stream: Stream, event: Event) -> Result<(), DeviceError> {
        let result = self.driver.record(self.raw(stream), *self.events.get(event.0));
        self.guarded(result)
    }

    fn wait(&mut self, stream: Stream, event: Event) -> Result<(), DeviceError> {
        let result = self.driver.wait(self.raw(stream), *self.events.get(event.0));
        self.guarded(result)
    }

    fn hold(&mut self, stream: Stream, latch: Latch) -> Result<(), DeviceError> {
        self.refuse_while_capturing("holding a stream")?;
        let (gate, outcome) = self.latches.get(latch.0).addresses();
        let limit_ns = (LATCH_LIMIT_S * 1e9) as u64;
        self.launch(self.raw(stream), &hold(gate, outcome, limit_ns))?;
        self.held = true;
        self.first_behind_latch = false;
        Ok(())
    }

    fn release(&mut self, latch: Latch) -> Result<(), DeviceError> {
        self.held = false;
        let hint = self.first_behind_latch.then_some(FIRST_PRODUCT);
        self.latches.get_mut(latch.0).release(hint)
    }

    fn synchronize(&mut self) -> Result<(), DeviceError> {
        self.refuse_while_capturing("waiting for the device")?;
        let result = self.driver.synchronize();
        self.settled();
        result
    }

    fn elapsed_s(&mut self, from: Event, to: Event) -> Result<f64, DeviceError> {
        self.driver.elapsed_s(*self.events.get(from.0), *self.events.get(to.0))
    }

    fn now_s(&mut self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn begin_capture(&mut self, stream: Stream) -> Result<(), DeviceError> {
        self.refuse_while_capturing("a capture within a capture")?;
        let stream = self.raw(stream);
        self.driver.begin_capture(stream)?;
        self.capture = Some(Capture { stream, given_up: None });
        Ok(())
    }

    fn end_capture(&mut self, stream: Stream) -> Result<Graph, DeviceError> {
        if let Some(Capture { given_up: Some(reason), .. }) = self.capture.take() {
            return Err(DeviceError::Unsupported { what: "capturing work".to_owned(), reason });
        }
        let graph = self.driver.end_capture(self.raw(stream))?;
        Ok(Graph(self.graphs.add(graph)))
    }

    fn launch(&mut self, stream: Stream, graph: Graph) -> Result<(), DeviceError> {
        let result = self.driver.launch_graph(self.raw(stream), *self.graphs.get(graph.0));
        self.guarded(result)
    }
}

impl Drop for CudaDevice {
    /// Gives everything back as far as the driver still answers; errors have no one left to tell.
    fn drop(&mut self) {
        let _ = self.free_all();
        let _ = self.products.close(&self.driver);
        for latch in self.spare_latches.drain(..) {
            let _ = latch.free(&self.driver);
        }
        let _ = self.pool.empty(&self.driver);
        for module in self.modules.drain(..) {
            let _ = self.driver.unload_module(module);
        }
    }
}
