//! Attention against the CPU: every group size, ragged batches, contexts around the ends of blocks and splits.

use super::reference;
use super::{Check, Finding};
use crate::decode::seed_of;
use crate::device::{
    AttentionShape, AttentionWork, Backend, Device, DeviceError, DeviceSlice, FillWith, KvRow, POISON, Work,
};
use crate::session::Session;

/// Query heads per KV head: those of the models of `gpu-measurement.md` §2.6 up to 8.
const GROUPS: [u32; 5] = [1, 4, 5, 7, 8];

/// Parts: one, several, and more than the short contexts have tokens.
const SPLITS: [u32; 3] = [1, 3, 40];

const BOUND: f64 = 2e-3;

pub(super) fn checks(session: &Session<'_>) -> Vec<Check> {
    let contexts = match session.device.backend() {
        Backend::Cuda => [1, 15, 17, 4095, 8193],
        Backend::Host | Backend::VirtualTime => [1, 15, 17, 255, 1025],
    };
    let model = &session.scale.fitted;
    let (kv_heads, head_dim) = (model.kv_heads, model.head_dim);
    let shape = move |group: u32| AttentionShape { heads: group * kv_heads, kv_heads, head_dim };
    let check = |group| Check {
        name: format!("attention_fp64_g{group}"),
        what: format!(
            "attention, {kv_heads} KV heads of {head_dim}, against fp64 rounded to bf16: contexts {contexts:?} in \
             one batch and each alone, splits {SPLITS:?}"
        ),
        bound: BOUND,
        run: Box::new(move |session: &mut Session<'_>| worst(session, shape(group), &contexts)),
    };
    GROUPS.into_iter().map(check).collect()
}

/// The worst over each context alone and all of them in one batch, each with every number of splits.
fn worst(session: &mut Session<'_>, shape: AttentionShape, contexts: &[u32]) -> Result<Finding, DeviceError> {
    let seed = session.seed;
    let device = &mut *session.device;
    let mut worst = 0.0_f64;
    let alone = contexts.iter().map(std::slice::from_ref);
    for (place, batch) in alone.chain([contexts]).enumerate() {
        worst = worst.max(batch_error(device, shape, batch, seed_of(seed, &[4, place as u64]))?);
    }
    Ok(Finding::of(worst))
}

fn batch_error(
    device: &mut dyn Device,
    shape: AttentionShape,
    contexts: &[u32],
    seed: u64,
) -> Result<f64, DeviceError> {
    device.free_all()?;
    let stream = device.stream()?;
    let batch = contexts.len() as u32;
    let random = |device: &mut dyn Device, bytes: u64, scale: f32, place: u64| {
        let to = device.alloc(bytes)?.all();
        let with = FillWith::Random { seed: seed_of(seed, &[place]), scale };
        device.submit(stream, &Work::Fill { to, with })?;
        Ok::<DeviceSlice, DeviceError>(to)
    };
    // Queries of ±4 make scores that differ: a softmax that is nearly flat hides mistakes in them.
    let qkv = random(device, 2 * u64::from(batch) * u64::from(shape.qkv_width()), 4.0, 0)?;
    let mut rows = Vec::new();
    for (place, tokens) in contexts.iter().enumerate() {
        let bytes = u64::from(tokens.div_ceil(16)) * shape.block_bytes();
        rows.push(KvRow { kv: random(device, bytes, 1.0, 1 + place as u64)?, tokens: *tokens });
    }
    let table = device.kv_table(&rows)?;
    let reference = expected(device, shape, qkv, &rows)?;
    let output = device.alloc(2 * u64::from(batch * shape.heads * shape.head_dim))?.all();
    let mut worst = 0.0_f64;
    for splits in SPLITS {
        let workspace = device.alloc(AttentionWork::workspace_bytes(shape, batch, splits))?.all();
        for to in [output, workspace] {
            device.submit(stream, &Work::Fill { to, with: POISON })?;
        }
        let attention = AttentionWork {
            shape,
            batch,
            most_tokens: contexts.iter().copied().max().unwrap_or(1),
            total_tokens: contexts.iter().map(|tokens| u64::from(*tokens)).sum(),
            qkv,
            table,
            splits,
            workspace,
            output,
        };
        device.submit(stream, &Work::Attention(attention))?;
        let found = reference::values(&device.read(output)?);
        worst = worst.max(reference::relative_error(&found, &reference));
    }
    Ok(worst)
}

fn expected(
    device: &mut dyn Device,
    shape: AttentionShape,
    qkv: DeviceSlice,
    rows: &[KvRow],
) -> Result<Vec<f64>, DeviceError> {
    let qkv = reference::values(&device.read(qkv)?);
    let (width, queries) = (shape.qkv_width() as usize, (shape.heads * shape.head_dim) as usize);
    let mut all = Vec::new();
    for (row, qkv) in rows.iter().zip(qkv.chunks_exact(width)) {
        let kv = reference::values(&device.read(row.kv)?);
        all.extend(reference::attention(shape, &qkv[..queries], &kv, row.tokens as usize));
    }
    Ok(all)
}
