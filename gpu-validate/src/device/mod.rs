//! What a GPU is to the experiments: memory, streams, events, copies, and work described as data.
//!
//! An experiment says *what* runs in which order ([`Work`], [`CopyWork`]); a backend runs it: `cuda` on a GPU (the only
//! place with `unsafe`), `host` on CPU threads, `virtual-time` on a clock of its own with exact durations. The three
//! share this interface, so slots, waits, fits and reports are exercised without a GPU. Handles are plain numbers and
//! every slice is checked against its buffer when it is made, so nothing above this module can reach outside a buffer.
//!
//! Knows nothing about experiments, models' names, fits or files. Times are seconds, sizes are bytes.
//!
//! Streams run their operations in order; operations of different streams run at the same time unless an event orders
//! them. One copy engine per direction. Nothing here waits for the device but `synchronize`, `read` and `write`.

pub mod cuda;
pub mod environment;
pub mod host;
mod memory;
mod queue;
mod sizes;
pub mod virtual_time;
mod work;

pub use memory::{DeviceBuffer, DeviceSlice, HostBuffer, HostMemory, HostSlice};
pub use work::{
    AttentionShape, AttentionWork, CopyApi, CopyPiece, CopyWork, Direction, FillWith, GemmWork, KvRow,
    NormWork, POISON, RopeWork, Work,
};

use orbitflow_sim::cost::profile::{Device as DeviceRecord, DeviceSample, Host};

/// Which implementation runs the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// A GPU through the CUDA driver.
    Cuda,
    /// CPU threads that play a GPU: real data, the CPU's times.
    Host,
    /// A clock of its own: exact times, no data.
    VirtualTime,
}

impl Backend {
    /// The word used in files and on the command line.
    pub const fn key(self) -> &'static str {
        match self {
            Backend::Cuda => "cuda",
            Backend::Host => "host",
            Backend::VirtualTime => "virtual-time",
        }
    }

    /// What every header says of results that no GPU gave; `None` for a GPU.
    pub const fn disclaimer(self) -> Option<&'static str> {
        match self {
            Backend::Cuda => None,
            Backend::Host => Some("host emulation: says nothing about any GPU"),
            Backend::VirtualTime => Some("virtual time: says nothing about any GPU"),
        }
    }
}

/// An in-order queue of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stream(pub(in crate::device) u32);

/// A point in a stream that others can wait for and whose time can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event(pub(in crate::device) u32);

/// Holds a stream until the host lets go: keeps the cost of submission out of a measured interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Latch(pub(in crate::device) u32);

/// A captured sequence of work on one or more streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Graph(pub(in crate::device) u32);

/// A table in device memory: for each request of a batch, where one layer's KV lies and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KvTable(pub(in crate::device) u32);

/// The most operations that may stand behind a closed [`Latch`]: a launch queue holds about 1,024, and enqueueing
/// into a full one blocks for ever (`gpu-measurement.md` §1.1).
pub const MOST_BEHIND_A_LATCH: usize = 512;

/// The longest a latch holds its stream, in seconds; then it opens by itself and [`Device::release`] says so.
pub const LATCH_LIMIT_S: f64 = 2.0;

/// Why a device did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// This backend or this machine cannot do it: the point is waived, not failed.
    #[error("{what}: not possible here: {reason}")]
    Unsupported {
        /// What was asked.
        what: String,
        /// Why not.
        reason: String,
    },
    /// Not enough device or host memory.
    #[error("{what}: {asked} bytes asked, {free} free")]
    OutOfMemory {
        /// Which memory.
        what: String,
        /// Bytes asked.
        asked: u64,
        /// Bytes free.
        free: u64,
    },
    /// The driver, a library or a kernel failed.
    #[error("{what}: {message}")]
    Failed {
        /// The call, with its arguments where they matter.
        what: String,
        /// What the library said.
        message: String,
    },
}

impl DeviceError {
    /// Whether the point is to be waived rather than the run ended.
    pub fn is_waived(&self) -> bool {
        matches!(self, DeviceError::Unsupported { .. })
    }
}

/// What is known of a device before anything is measured.
#[derive(Clone, Debug)]
pub struct Facts {
    /// For the profile: name, driver, libraries, PCIe link.
    pub device: DeviceRecord,
    /// For the profile: the machine around it.
    pub host: Host,
    /// Multiprocessors (virtual ones where there is no GPU), at least 1.
    pub sm_count: u32,
    /// Level-2 cache, in bytes; buffers that must not be cached rotate through more than this.
    pub l2_bytes: u64,
    /// Device memory that may be used, in bytes.
    pub memory_bytes: u64,
    /// Host memory that may be used for copies, in bytes.
    pub host_memory_bytes: u64,
    /// Why something above is not known, by the profile's key path.
    pub missing: Vec<(String, String)>,
    /// What the report must warn of: link below its maximum, no NVML, …
    pub warnings: Vec<String>,
}

/// A device that experiments run on. Single-threaded: one thread submits everything.
pub trait Device {
    /// Which implementation this is.
    fn backend(&self) -> Backend;

    /// What is known of it.
    fn facts(&self) -> &Facts;

    /// Whether buffers hold data. Where they do not (`virtual-time`), checks of bytes are waived.
    fn has_data(&self) -> bool;

    /// Clocks, power, temperature and throttling now; nulls where they cannot be read.
    fn sample_state(&mut self) -> DeviceSample;

    /// Device memory of `bytes` bytes, contents undefined.
    fn alloc(&mut self, bytes: u64) -> Result<DeviceBuffer, DeviceError>;

    /// Host memory of `bytes` bytes, contents undefined but touched.
    fn alloc_host(&mut self, bytes: u64, memory: HostMemory) -> Result<HostBuffer, DeviceError>;

    /// Gives back all buffers, streams, events, latches, graphs and tables; their handles mean nothing afterwards.
    /// A backend may keep memory for the next user. Waits for the device.
    fn free_all(&mut self) -> Result<(), DeviceError>;

    /// Writes device memory and waits. `bytes` must be as long as `to`.
    fn write(&mut self, to: DeviceSlice, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Reads device memory, after everything submitted before.
    fn read(&mut self, from: DeviceSlice) -> Result<Vec<u8>, DeviceError>;

    /// Writes host memory. `bytes` must be as long as `to`.
    fn write_host(&mut self, to: HostSlice, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Reads host memory; what copies into it must have been waited for.
    fn read_host(&mut self, from: HostSlice) -> Result<Vec<u8>, DeviceError>;

    /// Fills host memory as [`Work::Fill`] fills device memory.
    fn fill_host(&mut self, to: HostSlice, with: FillWith) -> Result<(), DeviceError>;

    /// A new stream.
    fn stream(&mut self) -> Result<Stream, DeviceError>;

    /// A new event with a time.
    fn event(&mut self) -> Result<Event, DeviceError>;

    /// A new latch, closed.
    fn latch(&mut self) -> Result<Latch, DeviceError>;

    /// A table for [`AttentionWork`] and [`Work::KvAppend`]. Waits.
    fn kv_table(&mut self, rows: &[KvRow]) -> Result<KvTable, DeviceError>;

    /// Submits a kernel.
    fn submit(&mut self, stream: Stream, work: &Work) -> Result<(), DeviceError>;

    /// Submits copies between host and device.
    fn copy(&mut self, stream: Stream, work: &CopyWork<'_>) -> Result<(), DeviceError>;

    /// Marks this point of `stream`.
    fn record(&mut self, stream: Stream, event: Event) -> Result<(), DeviceError>;

    /// What follows in `stream` waits for the last record of `event`; no wait if there was none.
    fn wait(&mut self, stream: Stream, event: Event) -> Result<(), DeviceError>;

    /// What follows in `stream` waits until the latch is let go, at most [`LATCH_LIMIT_S`].
    fn hold(&mut self, stream: Stream, latch: Latch) -> Result<(), DeviceError>;

    /// Lets go of a latch. It is closed again once the stream has passed it and [`Device::synchronize`] returned.
    ///
    /// # Errors
    /// That the latch had opened by itself: what was measured behind it is not to be used.
    fn release(&mut self, latch: Latch) -> Result<(), DeviceError>;

    /// Waits until everything submitted has run, and answers the first error of any of it.
    fn synchronize(&mut self) -> Result<(), DeviceError>;

    /// Seconds from `from` to `to`, both recorded and waited for.
    fn elapsed_s(&mut self, from: Event, to: Event) -> Result<f64, DeviceError>;

    /// The submitting thread's clock, in seconds from an arbitrary start.
    fn now_s(&mut self) -> f64;

    /// Begins to capture what is submitted to `stream` and to streams that wait for it.
    fn begin_capture(&mut self, stream: Stream) -> Result<(), DeviceError>;

    /// Ends the capture; every stream that joined must have been joined back by an event.
    fn end_capture(&mut self, stream: Stream) -> Result<Graph, DeviceError>;

    /// Submits a captured graph.
    fn launch(&mut self, stream: Stream, graph: Graph) -> Result<(), DeviceError>;
}
