//! Where the KV of a case lies: resident regions, staging slots between guard bands, host copies.
//!
//! Pure arithmetic on offsets; knows no device. A region is one layer of one request, in whole blocks of 16 tokens.
//! Every region is distinct while memory lasts. Where it does not and the case is only timed, regions share an arena
//! that starts again at its front when full ([`Arena::shared`]); it is refused where contents matter or where the arena
//! would fit a cache.

use orbitflow_sim::ids::Layer;
use orbitflow_sim::units::blocks_for_tokens;

use crate::case::Case;
use crate::device::{CopyPiece, DeviceError};

/// Regions and slots start at multiples of this: a checksum's unit, and more than any kernel's alignment.
const ALIGNMENT: u64 = 4096;

/// Bytes of one guard band; one stands before, between and after the slots.
pub(super) const GUARD_BYTES: u64 = 4096;

/// The most memory that KV may take, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// On the device: resident regions and staging slots together.
    pub device: u64,
    /// Pinned host memory.
    pub host: u64,
    /// An arena that is shared must hold at least this much, so that no cache answers for it.
    pub least_shared: u64,
    /// Whether regions may share memory at all.
    pub may_share: bool,
}

/// Room for regions, one after the other; starts again at its front when full.
#[derive(Clone, Debug)]
struct Arena {
    capacity: u64,
    next: u64,
    shared: bool,
}

/// Where a region starts, and whether it is the first to lie there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// In bytes.
    pub offset: u64,
    /// Size.
    pub bytes: u64,
    /// Whether no region was there before: it is filled once.
    pub fresh: bool,
}

impl Arena {
    fn new(what: &str, wanted: &[u64], limit: u64, limits: &Limits) -> Result<Arena, DeviceError> {
        let all: u64 = wanted.iter().map(|bytes| bytes.next_multiple_of(ALIGNMENT)).sum();
        if all <= limit {
            return Ok(Arena { capacity: all, next: 0, shared: false });
        }
        let largest = wanted.iter().copied().max().unwrap_or(0).next_multiple_of(ALIGNMENT);
        let capacity = limit / ALIGNMENT * ALIGNMENT;
        if !limits.may_share || capacity < largest.max(limits.least_shared) {
            return Err(DeviceError::OutOfMemory { what: what.to_owned(), asked: all, free: limit });
        }
        Ok(Arena { capacity, next: 0, shared: true })
    }

    fn place(&mut self, bytes: u64, wrapped: &mut bool) -> Region {
        let padded = bytes.next_multiple_of(ALIGNMENT);
        if self.next + padded > self.capacity {
            self.next = 0;
            *wrapped = true;
        }
        let region = Region { offset: self.next, bytes, fresh: !*wrapped };
        self.next += padded;
        region
    }
}

/// Where the KV of a case lies.
#[derive(Clone, Debug)]
pub(super) struct KvLayout {
    /// Whole blocks of one layer, per request, in bytes.
    pub layer_bytes: Vec<u64>,
    /// Per request and layer (index 0 is layer 1): its region in device memory, `None` if offloaded.
    pub resident: Vec<Vec<Option<Region>>>,
    /// Size of the resident arena.
    pub resident_bytes: u64,
    /// Per request and layer: its region in host memory, `None` if resident.
    pub host: Vec<Vec<Option<Region>>>,
    /// Size of the host arena.
    pub host_bytes: u64,
    /// Per request: the offsets of its slots in the staging buffer; empty if it offloads nothing.
    pub slots: Vec<Vec<u64>>,
    /// Offsets of the guard bands in the staging buffer.
    pub guards: Vec<u64>,
    /// Size of the staging buffer.
    pub staging_bytes: u64,
    /// In words, each arena whose regions share memory.
    pub shared: Vec<String>,
}

impl KvLayout {
    /// Lays out the KV of `case`.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] if it does not fit and may not be shared, or only in a cache's size.
    pub fn of(case: &Case, limits: &Limits) -> Result<KvLayout, DeviceError> {
        let block = case.attention().block_bytes();
        let layer_bytes: Vec<u64> =
            case.contexts.iter().map(|tokens| blocks_for_tokens(u64::from(*tokens)) * block).collect();
        let (slots, guards, staging_bytes) = staging(case, &layer_bytes);
        let left = limits.device.checked_sub(staging_bytes).ok_or_else(|| DeviceError::OutOfMemory {
            what: "staging slots".to_owned(),
            asked: staging_bytes,
            free: limits.device,
        })?;
        let mut shared = Vec::new();
        let mut regions = |what: &str, limit: u64, offloaded: bool| {
            let (table, bytes, sharing) = place_all(case, &layer_bytes, (what, limit, offloaded), limits)?;
            if sharing {
                shared.push(format!("{what}: rotates through {bytes} bytes"));
            }
            Ok::<_, DeviceError>((table, bytes))
        };
        let (resident, resident_bytes) = regions("resident KV", left, false)?;
        let (host, host_bytes) = regions("host KV", limits.host, true)?;
        Ok(KvLayout {
            layer_bytes,
            resident,
            resident_bytes,
            host,
            host_bytes,
            slots,
            guards,
            staging_bytes,
            shared,
        })
    }

    /// Where a request's newest K and V rows lie in its region: K's offset and V's, from the region's start.
    pub fn newest_rows(case: &Case, request: usize) -> (u64, u64) {
        let (block, token) = (case.attention().block_bytes(), u64::from(case.contexts[request]) - 1);
        let key = token / 16 * block + token % 16 * (case.attention().kv_bytes_per_token() / 2);
        (key, key + block / 2)
    }

    /// The pieces of one copy between a host region and a slot.
    pub fn pieces(case: &Case, host_offset: u64, device_offset: u64, bytes: u64) -> Vec<CopyPiece> {
        let piece = case.granularity.piece_bytes(case.attention()).unwrap_or(bytes);
        (0..bytes.div_ceil(piece))
            .map(|place| CopyPiece {
                host_offset: host_offset + place * piece,
                device_offset: device_offset + place * piece,
                bytes: piece.min(bytes - place * piece),
            })
            .collect()
    }
}

type RegionTable = Vec<Vec<Option<Region>>>;

/// The regions of all (request, layer) that are offloaded, or of all that are not; layer by layer, as they are read.
fn place_all(
    case: &Case,
    layer_bytes: &[u64],
    (what, limit, offloaded): (&str, u64, bool),
    limits: &Limits,
) -> Result<(RegionTable, u64, bool), DeviceError> {
    let mut table = vec![vec![None; case.layers as usize]; case.contexts.len()];
    let places: Vec<(Layer, usize)> = Layer::all(case.layers)
        .flat_map(|layer| (0..case.contexts.len()).map(move |request| (layer, request)))
        .filter(|(layer, request)| case.offloaded[*request].contains(*layer) == offloaded)
        .collect();
    let wanted: Vec<u64> = places.iter().map(|(_, request)| layer_bytes[*request]).collect();
    let mut arena = Arena::new(what, &wanted, limit, limits)?;
    let mut wrapped = false;
    for (layer, request) in places {
        table[request][layer.index()] = Some(arena.place(layer_bytes[request], &mut wrapped));
    }
    Ok((table, arena.capacity, arena.shared))
}

/// Slots of every request that offloads something, a guard band before, between and after.
fn staging(case: &Case, layer_bytes: &[u64]) -> (Vec<Vec<u64>>, Vec<u64>, u64) {
    let (mut guards, mut next) = (vec![0], GUARD_BYTES);
    let mut slots = vec![Vec::new(); case.contexts.len()];
    for (request, bytes) in layer_bytes.iter().enumerate() {
        for _ in 0..case.slots.min(case.offloaded[request].len()) {
            slots[request].push(next);
            // The band begins where the slot ends, not where the next one may begin: an overrun by one row is seen.
            guards.push(next + bytes);
            next = (next + bytes + GUARD_BYTES).next_multiple_of(ALIGNMENT);
        }
    }
    let staging_bytes = if guards.len() == 1 { 0 } else { next };
    if staging_bytes == 0 {
        guards.clear();
    }
    (slots, guards, staging_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::tests::case;

    const PLENTY: Limits = Limits { device: 1 << 40, host: 1 << 40, least_shared: 1 << 20, may_share: false };

    #[test]
    fn slots_stand_between_guard_bands_and_never_touch() {
        // blocks of 16 · 4 · 2 · 8 = 1,024 bytes; contexts 17 and 64: 2 and 4 blocks
        let layout = KvLayout::of(&case(4, &[17, 64], &[&[2, 4], &[]], 2), &PLENTY).unwrap();
        assert_eq!(layout.layer_bytes, [2048, 4096]);
        // 4,096 of guard, 2,048 of slot, guard to 10,240, next multiple of 4,096 is 12,288
        assert_eq!(layout.slots, [vec![4096, 12_288], vec![]]);
        assert_eq!(layout.guards, [0, 6144, 14_336]);
        assert_eq!(layout.staging_bytes, 20_480); // 14,336 + 4,096 = 18,432, rounded up
    }

    #[test]
    fn regions_are_distinct_while_memory_lasts_and_are_refused_where_contents_matter() {
        let case = case(4, &[64, 64], &[&[1], &[]], 1);
        let layout = KvLayout::of(&case, &PLENTY).unwrap();
        // 3 + 4 resident regions of 4,096 bytes and one in host memory
        assert_eq!((layout.resident_bytes, layout.host_bytes), (7 * 4096, 4096));
        assert!(layout.shared.is_empty());
        let little = Limits { device: layout.staging_bytes + 3 * 4096, least_shared: 4096, ..PLENTY };
        assert!(matches!(KvLayout::of(&case, &little), Err(DeviceError::OutOfMemory { asked: 28_672, .. })));
        let rotating = KvLayout::of(&case, &Limits { may_share: true, ..little }).unwrap();
        assert_eq!(rotating.shared, ["resident KV: rotates through 12288 bytes"]);
        let fresh = rotating.resident.iter().flatten().flatten().filter(|region| region.fresh);
        assert_eq!(fresh.count(), 3); // the first three fill the arena, the other four share it
    }

    #[test]
    fn an_arena_that_a_cache_would_hold_is_refused() {
        let limits = Limits { device: 8 << 10, least_shared: 1 << 20, may_share: true, ..PLENTY };
        let refused = KvLayout::of(&case(4, &[64], &[&[]], 1), &limits);
        assert!(matches!(refused, Err(DeviceError::OutOfMemory { free: 8192, .. })));
    }

    #[test]
    fn the_newest_row_lies_in_the_last_block() {
        // token 17 − 1 = 16: the first of the second block; K and V are 512 bytes apart
        assert_eq!(KvLayout::newest_rows(&case(1, &[17], &[&[]], 1), 0), (1024, 1536));
        // token 15 is the last of the first block: 15 rows of 32 bytes in
        assert_eq!(KvLayout::newest_rows(&case(1, &[16], &[&[]], 1), 0), (480, 992));
    }
}
