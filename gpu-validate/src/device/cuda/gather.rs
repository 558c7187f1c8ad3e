//! Lists of pieces for the gather kernel, in GPU memory, and small GPU memory for tables.
//!
//! A list goes to the GPU by a copy in front of the kernel that reads it, in the same stream, until the device has been
//! waited for once; from then on it is there, so a measured interval holds the kernel alone. Lists live until everything
//! is given back, so a captured graph may copy its own again at each launch. Nothing is allocated while work is
//! captured, because the driver refuses that.

use std::collections::BTreeMap;

use super::driver::{Driver, RawStream};
use super::host_memory::{HostAllocation, HostPool};
use crate::device::{DeviceError, HostMemory};

/// Memory that is taken at a time.
const CHUNK: u64 = 32 << 20;
/// What the driver aligns memory to.
const ALIGNMENT: u64 = 256;

/// GPU memory that is given back all at once.
pub(super) struct Arena {
    chunks: Vec<(u64, u64)>,
    used: u64,
}

impl Arena {
    /// With one chunk ready.
    pub(super) fn new(driver: &Driver) -> Result<Self, DeviceError> {
        Ok(Arena { chunks: vec![(driver.alloc(CHUNK)?, CHUNK)], used: 0 })
    }

    /// `bytes` bytes. While work is captured, only from what is there.
    pub(super) fn take(&mut self, driver: &Driver, bytes: u64, capturing: bool) -> Result<u64, DeviceError> {
        let bytes = bytes.next_multiple_of(ALIGNMENT);
        let room = self.chunks.last().map_or(0, |(_, size)| size - self.used);
        if bytes > room {
            if capturing {
                return Err(not_while_capturing("memory for a table"));
            }
            let size = bytes.max(CHUNK);
            self.chunks.push((driver.alloc(size)?, size));
            self.used = 0;
        }
        let (start, _) = self.chunks.last().expect("Invariant: a chunk with room was found or made");
        let address = start + self.used;
        self.used += bytes;
        Ok(address)
    }

    /// Gives everything back but the first chunk, which is kept for the next user.
    pub(super) fn clear(&mut self, driver: &Driver) -> Result<(), DeviceError> {
        self.used = 0;
        self.chunks.drain(1..).try_for_each(|(address, _)| driver.free(address))
    }
}

/// Why something cannot be done while work is captured.
pub(super) fn not_while_capturing(what: &str) -> DeviceError {
    DeviceError::Unsupported {
        what: what.to_owned(),
        reason: "the driver refuses it while work is captured; hint: run the work once before".to_owned(),
    }
}

struct List {
    device: u64,
    staged: *const u8,
    /// Whether it is on the GPU for every stream.
    settled: bool,
    /// Whether a copy outside of a capture is on its way.
    sent: bool,
}

/// Lists by content.
pub(super) struct GatherLists {
    lists: BTreeMap<Vec<u64>, List>,
    staging: Vec<HostAllocation>,
    staged: u64,
}

impl GatherLists {
    pub(super) const fn new() -> Self {
        GatherLists { lists: BTreeMap::new(), staging: Vec::new(), staged: 0 }
    }

    /// The GPU's address of a list; what follows in `stream` finds it complete.
    pub(super) fn place(
        &mut self,
        (driver, pool, arena): (&Driver, &mut HostPool, &mut Arena),
        stream: RawStream,
        words: Vec<u64>,
        capturing: bool,
    ) -> Result<u64, DeviceError> {
        let bytes = 8 * words.len() as u64;
        if !self.lists.contains_key(&words) {
            let device = arena.take(driver, bytes, capturing)?;
            let staged = self.stage(driver, pool, &words, capturing)?;
            self.lists.insert(words.clone(), List { device, staged, settled: false, sent: false });
        }
        let list = self.lists.get_mut(&words).expect("Invariant: the list is there or was made");
        if !list.settled {
            driver.copy_to_device(stream, list.device, list.staged, bytes)?;
            list.sent |= !capturing;
        }
        Ok(list.device)
    }

    fn stage(
        &mut self,
        driver: &Driver,
        pool: &mut HostPool,
        words: &[u64],
        capturing: bool,
    ) -> Result<*const u8, DeviceError> {
        let bytes = 8 * words.len() as u64;
        if self.staging.is_empty() || self.staged + bytes > CHUNK {
            if capturing {
                return Err(not_while_capturing("memory for a list of pieces"));
            }
            self.staging.push(pool.take(driver, bytes.max(CHUNK), HostMemory::Pinned)?);
            self.staged = 0;
        }
        let place = self.staging.last_mut().expect("Invariant: a chunk was found or made");
        let at = self.staged;
        let target = place.bytes_mut(at, bytes);
        for (eight, word) in target.chunks_exact_mut(8).zip(words) {
            eight.copy_from_slice(&word.to_le_bytes());
        }
        self.staged += bytes;
        Ok(place.at(at).cast_const())
    }

    /// The device has been waited for: what was sent is there.
    pub(super) fn settle(&mut self) {
        for list in self.lists.values_mut() {
            list.settled |= list.sent;
        }
    }

    /// Forgets all lists; their GPU memory is the arena's.
    pub(super) fn clear(&mut self, pool: &mut HostPool) {
        self.lists.clear();
        self.staging.drain(..).for_each(|place| pool.give_back(place));
    }
}
