//! A case turned into memory, streams and lists of work: everything a step needs, made before the first one.
//!
//! Only offsets, handles and order: contents are [`super::fill`]'s.

use orbitflow_sim::ids::Layer;

use super::RigOptions;
use super::fill::{Activations, Filler, LayerWeights};
use super::layout::{KvLayout, Limits, Region};
use super::schedule::{PlannedCopy, submission_order};
use crate::case::{Case, CopyStreams};
use crate::device::{
    CopyPiece, Device, DeviceBuffer, DeviceError, DeviceSlice, Event, HostBuffer, HostMemory, KvRow, KvTable,
    Stream,
};

/// One prefetch, ready to be submitted.
#[derive(Clone, Debug)]
pub(super) struct Prefetch {
    pub layer: Layer,
    pub freed_by: Option<Layer>,
    pub slot: DeviceSlice,
    pub pieces: Vec<CopyPiece>,
    pub stream: Stream,
    /// Place among all copies of a step.
    pub place: usize,
    /// Whether a ready event follows: the last copy for its layer in its stream.
    pub signals: bool,
}

/// Everything a step needs.
pub(super) struct StepPlan {
    pub case: Case,
    pub options: RigOptions,
    pub splits: u32,
    pub weights: Vec<LayerWeights>,
    pub final_norm: DeviceSlice,
    pub head: DeviceSlice,
    pub activations: Activations,
    /// One per layer.
    pub tables: Vec<KvTable>,
    pub layout: KvLayout,
    pub staging: Option<DeviceBuffer>,
    pub host: Option<HostBuffer>,
    pub new_rows: DeviceBuffer,
    /// Per layer: what is submitted before its kernels.
    pub prefetches: Vec<Vec<Prefetch>>,
    /// Per layer: which copies' ready events its kernels wait for.
    pub ready: Vec<Vec<usize>>,
    /// Per layer: new rows of its offloaded requests, device to host.
    pub writes: Vec<Vec<CopyPiece>>,
    pub compute: Stream,
    pub copy_streams: Vec<Stream>,
    pub write_stream: Stream,
}

/// The events of a step, used again by the next. A captured step has its own.
pub(super) struct StepEvents {
    pub begin: Event,
    /// Per layer.
    pub layer_end: Vec<Event>,
    /// Per copy.
    pub ready: Vec<Event>,
    /// Per layer.
    pub written: Vec<Event>,
}

impl StepEvents {
    pub fn new(device: &mut dyn Device, plan: &StepPlan) -> Result<StepEvents, DeviceError> {
        let layers = plan.case.layers as usize;
        let mut events = |count| (0..count).map(|_| device.event()).collect::<Result<Vec<_>, _>>();
        let (layer_end, ready, written) = (events(layers)?, events(plan.copies())?, events(layers)?);
        Ok(StepEvents { begin: device.event()?, layer_end, ready, written })
    }
}

impl StepPlan {
    /// Copies of a step.
    pub fn copies(&self) -> usize {
        self.prefetches.iter().map(Vec::len).sum()
    }

    /// Whether a layer is offloaded by someone.
    pub fn is_fetched(&self, layer: Layer) -> bool {
        !self.ready[layer.index()].is_empty()
    }

    /// Allocates and fills everything and waits for it. Gives back whatever was on the device before.
    pub fn build(
        device: &mut dyn Device,
        case: &Case,
        options: &RigOptions,
    ) -> Result<StepPlan, DeviceError> {
        device.free_all()?;
        let compute = device.stream()?;
        let mut filler = Filler { device, compute, seed: options.seed, used: 0 };
        let splits = splits(filler.device, case, options);
        let (weights, final_norm, head) = filler.weights(case, options.weight_layers)?;
        let (activations, new_rows) = filler.activations(case, splits, options.keep_outputs)?;
        let layout = KvLayout::of(case, &limits(filler.device, filler.used, options))?;
        let resident = filler.some(layout.resident_bytes)?;
        let staging = filler.some(layout.staging_bytes)?;
        let host = match layout.host_bytes {
            0 => None,
            bytes => Some(filler.device.alloc_host(bytes, HostMemory::Pinned)?),
        };
        filler.kv(&layout, resident, staging.zip(host))?;
        let tables = tables(filler.device, case, &layout, resident, staging)?;
        let copy_streams = copy_streams(filler.device, case)?;
        let write_stream = filler.device.stream()?;
        filler.device.synchronize()?;
        let (prefetches, ready) = prefetches(case, &layout, staging, &copy_streams);
        let writes = writes(case, &layout, &activations);
        Ok(StepPlan {
            case: case.clone(),
            options: *options,
            splits,
            weights,
            final_norm,
            head,
            activations,
            tables,
            layout,
            staging,
            host,
            new_rows,
            prefetches,
            ready,
            writes,
            compute,
            copy_streams: distinct(&copy_streams),
            write_stream,
        })
    }
}

fn splits(device: &dyn Device, case: &Case, options: &RigOptions) -> u32 {
    let most = case.contexts.iter().copied().max().unwrap_or(1);
    (options.splits)(case.batch(), case.model.kv_heads, most, device.facts().sm_count)
}

/// What is left for KV, less a fiftieth of the device's memory for what libraries take.
fn limits(device: &dyn Device, used: u64, options: &RigOptions) -> Limits {
    let facts = device.facts();
    let host = match options.most_host_bytes {
        Some(most) if !options.keep_outputs => most.min(facts.host_memory_bytes),
        _ => facts.host_memory_bytes,
    };
    Limits {
        device: (facts.memory_bytes - facts.memory_bytes / 50).saturating_sub(used),
        host,
        least_shared: 8 * facts.l2_bytes,
        may_share: !options.keep_outputs,
    }
}

fn tables(
    device: &mut dyn Device,
    case: &Case,
    layout: &KvLayout,
    resident: Option<DeviceBuffer>,
    staging: Option<DeviceBuffer>,
) -> Result<Vec<KvTable>, DeviceError> {
    let mut fetched = vec![0; case.contexts.len()];
    let mut tables = Vec::new();
    for layer in Layer::all(case.layers) {
        let mut rows = Vec::new();
        for (request, tokens) in case.contexts.iter().enumerate() {
            let kv = match layout.resident[request][layer.index()] {
                Some(region) => {
                    let buffer = resident.expect("Invariant: resident regions have a buffer");
                    buffer.slice(region.offset, region.bytes)
                }
                None => {
                    let slots = &layout.slots[request];
                    let slot = slots[fetched[request] % slots.len()];
                    fetched[request] += 1;
                    let buffer = staging.expect("Invariant: offloaded layers have slots");
                    buffer.slice(slot, layout.layer_bytes[request])
                }
            };
            rows.push(KvRow { kv, tokens: *tokens });
        }
        tables.push(device.kv_table(&rows)?);
    }
    Ok(tables)
}

/// Per request its copy stream; `None` if it copies nothing. All the same one for [`CopyStreams::One`].
fn copy_streams(device: &mut dyn Device, case: &Case) -> Result<Vec<Option<Stream>>, DeviceError> {
    let mut streams = Vec::new();
    for offloaded in &case.offloaded {
        let shared = streams.iter().copied().flatten().next();
        streams.push(match (offloaded.is_empty(), case.streams, shared) {
            (true, _, _) => None,
            (false, CopyStreams::One, Some(stream)) => Some(stream),
            (false, _, _) => Some(device.stream()?),
        });
    }
    Ok(streams)
}

/// Each stream once.
fn distinct(streams: &[Option<Stream>]) -> Vec<Stream> {
    streams.iter().copied().flatten().collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

type PrefetchTable = (Vec<Vec<Prefetch>>, Vec<Vec<usize>>);

fn prefetches(
    case: &Case,
    layout: &KvLayout,
    staging: Option<DeviceBuffer>,
    streams: &[Option<Stream>],
) -> PrefetchTable {
    let last_of = |layer: Layer| (0..case.contexts.len()).rfind(|r| case.offloaded[*r].contains(layer));
    let mut ready = vec![Vec::new(); case.layers as usize];
    let mut place = 0;
    let mut prefetch = |copy: PlannedCopy| {
        let slots = &layout.slots[copy.request];
        let offset = slots[copy.slot % slots.len()];
        let region = layout.host[copy.request][copy.layer.index()]
            .expect("Invariant: an offloaded layer has a host region");
        let signals = case.streams == CopyStreams::PerRequest || last_of(copy.layer) == Some(copy.request);
        if signals {
            ready[copy.layer.index()].push(place);
        }
        place += 1;
        Prefetch {
            layer: copy.layer,
            freed_by: copy.freed_by,
            slot: staging.expect("Invariant: offloaded layers have slots").slice(offset, region.bytes),
            pieces: KvLayout::pieces(case, region.offset, offset, region.bytes),
            stream: streams[copy.request].expect("Invariant: who copies has a stream"),
            place: place - 1,
            signals,
        }
    };
    let table = submission_order(case)
        .into_iter()
        .map(|copies| copies.into_iter().map(&mut prefetch).collect())
        .collect();
    (table, ready)
}

/// Per layer, the newest K and V row of each request that offloads it, from the layer's q, k and v.
fn writes(case: &Case, layout: &KvLayout, activations: &Activations) -> Vec<Vec<CopyPiece>> {
    let shape = case.attention();
    let row_bytes = 2 * u64::from(shape.qkv_width());
    let (queries, half) =
        (2 * u64::from(shape.heads) * u64::from(shape.head_dim), shape.kv_bytes_per_token() / 2);
    Layer::all(case.layers)
        .map(|layer| {
            let rows = activations.qkv[layer.index()];
            let piece = |request: usize, region: Region, value: bool| {
                let (key_row, value_row) = KvLayout::newest_rows(case, request);
                CopyPiece {
                    host_offset: region.offset + if value { value_row } else { key_row },
                    device_offset: rows.offset()
                        + request as u64 * row_bytes
                        + queries
                        + if value { half } else { 0 },
                    bytes: half,
                }
            };
            (0..case.contexts.len())
                .filter_map(|request| Some((request, layout.host[request][layer.index()]?)))
                .flat_map(|(request, region)| [false, true].map(|value| piece(request, region, value)))
                .collect()
        })
        .collect()
}
