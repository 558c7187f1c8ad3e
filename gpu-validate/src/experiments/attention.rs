//! E6: decode attention of one layer over batch, context and query heads per KV head, KV cold; ragged batches too.
//!
//! Heads are the fitted model's KV heads and head size with several groups; the held-out model's group is never among
//! them, so no fit can have seen it. Each run reads another place of the KV arena, so nothing is cached. Contexts are cut
//! into parts by the rule that decode steps use, so that what is fitted here is what runs there.

use super::arena::{self, Rotation};
use crate::case::attention_shape;
use crate::decode::splits::fill_the_device;
use crate::device::{AttentionShape, AttentionWork, Device, DeviceBuffer, DeviceError, KvRow, KvTable, Work};
use crate::measure::{Group, Importance, Point, Runs, measure};
use crate::results::AttentionPoint;
use crate::scale::Scale;
use crate::session::Session;

const EXPERIMENT: &str = "E6";

/// Requests of ragged batches, where the scale has such batches.
const RAGGED_BATCHES: [u32; 3] = [4, 8, 32];

/// What a batch's attention needs of memory: shared by all points.
#[derive(Clone, Copy)]
pub(super) struct Buffers {
    pub(super) kv: DeviceBuffer,
    pub(super) qkv: DeviceBuffer,
    pub(super) workspace: DeviceBuffer,
    pub(super) output: DeviceBuffer,
}

/// A batch of requests.
#[derive(Clone)]
pub(super) struct Batch {
    pub(super) shape: AttentionShape,
    pub(super) contexts: Vec<u32>,
    pub(super) splits: u32,
}

impl Batch {
    pub(super) fn new(shape: AttentionShape, contexts: Vec<u32>, sm_count: u32) -> Self {
        let most = contexts.iter().copied().max().unwrap_or(1);
        let splits = fill_the_device(contexts.len() as u32, shape.kv_heads, most, sm_count);
        Batch { shape, contexts, splits }
    }

    pub(super) fn requests(&self) -> u32 {
        self.contexts.len() as u32
    }

    fn kv_bytes_of(&self, tokens: u32) -> u64 {
        u64::from(tokens.div_ceil(16)) * self.shape.block_bytes()
    }

    /// Whole blocks of all requests.
    fn place_bytes(&self) -> u64 {
        self.contexts.iter().map(|tokens| self.kv_bytes_of(*tokens)).sum()
    }

    /// Tables of this batch, each at another place of the arena.
    pub(super) fn tables(
        &self,
        device: &mut dyn Device,
        kv: DeviceBuffer,
    ) -> Result<Vec<KvTable>, DeviceError> {
        let l2_bytes = device.facts().l2_bytes;
        let places = arena::slices(kv, l2_bytes, self.place_bytes());
        places
            .into_iter()
            .map(|place| {
                let mut offset = 0;
                let row = |tokens: &u32| {
                    let kv = place.slice(offset, self.kv_bytes_of(*tokens));
                    offset += kv.bytes();
                    KvRow { kv, tokens: *tokens }
                };
                let rows: Vec<KvRow> = self.contexts.iter().map(row).collect();
                device.kv_table(&rows)
            })
            .collect()
    }

    pub(super) fn work(&self, table: KvTable, buffers: Buffers) -> Work {
        Work::Attention(AttentionWork {
            shape: self.shape,
            batch: self.requests(),
            most_tokens: self.contexts.iter().copied().max().unwrap_or(1),
            total_tokens: self.contexts.iter().map(|tokens| u64::from(*tokens)).sum(),
            qkv: buffers.qkv.all(),
            table,
            splits: self.splits,
            workspace: buffers.workspace.all(),
            output: buffers.output.all(),
        })
    }
}

impl Buffers {
    /// For any of `batches`.
    pub(super) fn for_batches(session: &mut Session<'_>, batches: &[Batch]) -> Result<Self, DeviceError> {
        let l2_bytes = session.device.facts().l2_bytes;
        let most = |bytes: &dyn Fn(&Batch) -> u64| batches.iter().map(bytes).max().unwrap_or(1);
        let kv = most(&|batch| arena::bytes_of_inputs(l2_bytes, batch.place_bytes()));
        let qkv = most(&|batch| 2 * u64::from(batch.requests() * batch.shape.qkv_width()));
        let workspace =
            most(&|batch| AttentionWork::workspace_bytes(batch.shape, batch.requests(), batch.splits));
        let output =
            most(&|batch| 2 * u64::from(batch.requests() * batch.shape.heads * batch.shape.head_dim));
        Ok(Buffers {
            kv: arena::random(session.device, kv, session.seed, 1.0)?,
            qkv: arena::random(session.device, qkv, session.seed ^ 1, 1.0)?,
            workspace: session.device.alloc(arena::aligned(workspace))?,
            output: session.device.alloc(arena::aligned(output))?,
        })
    }
}

/// Measures E6.
///
/// # Errors
/// The device's.
pub fn attention(session: &mut Session<'_>) -> Result<Vec<AttentionPoint>, DeviceError> {
    session.device.free_all()?;
    let sm_count = session.device.facts().sm_count;
    let batches: Vec<(Batch, Importance)> = contexts(session.scale)
        .into_iter()
        .map(|(shape, contexts, importance)| (Batch::new(shape, contexts, sm_count), importance))
        .collect();
    let all: Vec<Batch> = batches.iter().map(|(batch, _)| batch.clone()).collect();
    let buffers = Buffers::for_batches(session, &all)?;
    let points = batches.into_iter().map(|(batch, importance)| point(batch, importance, buffers)).collect();
    let group = Group::new(EXPERIMENT, session);
    Ok(measure(session, group, points)?
        .into_iter()
        .map(|point| {
            let Batch { shape, contexts, splits } = point.row;
            let tokens: u64 = contexts.iter().map(|tokens| u64::from(*tokens)).sum();
            let AttentionShape { heads, kv_heads, head_dim } = shape;
            let kv_bytes = tokens * shape.kv_bytes_per_token();
            AttentionPoint { heads, kv_heads, head_dim, contexts, splits, kv_bytes, timing: point.timing }
        })
        .collect())
}

/// The batches of E6, by what they are for.
fn contexts(scale: &Scale) -> Vec<(AttentionShape, Vec<u32>, Importance)> {
    let fitted = attention_shape(&scale.fitted);
    let held_out = attention_shape(&scale.held_out).group();
    let mut groups: Vec<u32> = scale.groups.iter().copied().filter(|group| *group != held_out).collect();
    if !groups.contains(&fitted.group()) {
        groups.push(fitted.group());
    }
    let fits = |contexts: &[u32]| contexts.iter().map(|c| u64::from(*c)).sum::<u64>() <= scale.most_tokens;
    let mut batches = Vec::new();
    for group in groups {
        let shape = AttentionShape { heads: group * fitted.kv_heads, ..fitted };
        let is_fitted = group == fitted.group();
        let importance = if is_fitted { Importance::Essential } else { Importance::Detail };
        for batch in &scale.batches {
            let equal = scale.contexts.iter().map(|tokens| vec![*tokens; *batch as usize]);
            batches.extend(equal.filter(|equal| fits(equal)).map(|equal| (shape, equal, importance)));
        }
        if is_fitted {
            let ragged = ragged(scale).into_iter().filter(|contexts| fits(contexts));
            batches.extend(ragged.map(|contexts| (shape, contexts, Importance::Useful)));
        }
    }
    batches
}

/// One long context among short ones.
fn ragged(scale: &Scale) -> Vec<Vec<u32>> {
    let (Some(short), longest) = (scale.contexts.first(), scale.contexts.iter().rev().take(3)) else {
        return Vec::new();
    };
    let mut batches = Vec::new();
    for long in longest.filter(|long| *long > short) {
        for batch in
            RAGGED_BATCHES.iter().filter(|batch| **batch <= *scale.batches.iter().max().unwrap_or(&1))
        {
            let mut contexts = vec![*short; *batch as usize];
            contexts[0] = *long;
            batches.push(contexts);
        }
    }
    batches
}

fn point<'p>(batch: Batch, importance: Importance, buffers: Buffers) -> Point<'p, Batch> {
    let most = batch.contexts.iter().copied().max().unwrap_or(1);
    let least = batch.contexts.iter().copied().min().unwrap_or(1);
    let requests = batch.requests();
    let lengths = if most == least {
        format!("{requests} x {most}")
    } else {
        format!("1 x {most} + {} x {least}", requests - 1)
    };
    let name = format!("{}/{} heads, {lengths} tokens", batch.shape.heads, batch.shape.kv_heads);
    let row = batch.clone();
    Point::new(name, importance, row, move |device| {
        let tables = Rotation::new(batch.tables(device, buffers.kv)?);
        Ok(Runs::of(move |queue| queue.submit(&batch.work(*tables.next(), buffers))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Backend;

    #[test]
    fn the_held_out_models_group_is_never_measured_and_the_fitted_ones_always() {
        for backend in [Backend::Cuda, Backend::VirtualTime] {
            for quick in [false, true] {
                let mut scale = Scale::of(backend, quick);
                scale.groups = vec![attention_shape(&scale.held_out).group()];
                let groups: Vec<u32> = contexts(&scale).iter().map(|(shape, _, _)| shape.group()).collect();
                assert!(!groups.is_empty());
                assert!(groups.iter().all(|group| *group == attention_shape(&scale.fitted).group()));
            }
        }
    }

    #[test]
    fn no_batch_has_more_tokens_than_the_scale_allows() {
        let scale = Scale::of(Backend::Cuda, false);
        let batches = contexts(&scale);
        let tokens = |contexts: &[u32]| contexts.iter().map(|tokens| u64::from(*tokens)).sum::<u64>();
        assert!(batches.iter().all(|(_, contexts, _)| tokens(contexts) <= 1 << 20));
        assert!(batches.iter().any(|(_, contexts, _)| contexts.first() != contexts.last()));
    }
}
