//! GPU and host pools: how much there is, how much is in use, and that the two never disagree (law 3).
//!
//! The GPU pool is a flat number of layer-blocks; any layer of any request may use any free one, so only counts
//! matter (design §3.1). The host pool holds a full copy of every layer of every admitted request (§3.3).
//!
//! **Bounded host memory** (`host_kv`; facts A.3): `Σ_r L·b_r·block ≤ host_kv` over admitted requests, paused and preempted
//! ones included. Who does not fit waits; a prompt that never can is rejected; a running request whose next row finds no
//! room gives up its turn until there is. Worked (4 layers of 1 MB per block, 8 MB): a request of one block has 4 MB, so one
//! of two blocks, 8 MB, waits until the first has ended, at 18 ms. Tests: `host_memory_is_waited_for`,
//! `what_can_never_fit_is_rejected_at_once_with_its_reason`.

use crate::units::Bytes;

/// A pool that is never overdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuPool {
    capacity: u64,
    used: u64,
}

impl GpuPool {
    /// An empty pool of `capacity` layer-blocks.
    pub const fn new(capacity: u64) -> Self {
        GpuPool { capacity, used: 0 }
    }

    /// Layer-blocks there are.
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Layer-blocks in use.
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// Whether `blocks` layer-blocks in all fit.
    pub const fn fits(&self, blocks: u64) -> bool {
        blocks <= self.capacity
    }

    /// Sets the use to `blocks` layer-blocks. Panics beyond the capacity: whoever asks must have checked.
    pub fn set_used(&mut self, blocks: u64) {
        assert!(
            self.fits(blocks),
            "Invariant: GPU use never exceeds capacity ({blocks} > {})",
            self.capacity
        );
        self.used = blocks;
    }
}

/// Host memory for KV copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPool {
    capacity: Option<Bytes>,
    used: Bytes,
}

impl HostPool {
    /// An empty pool; `None` is unbounded.
    pub const fn new(capacity: Option<Bytes>) -> Self {
        HostPool { capacity, used: Bytes::ZERO }
    }

    /// Bytes there are, if bounded.
    pub const fn capacity(&self) -> Option<Bytes> {
        self.capacity
    }

    /// Bytes in use.
    pub const fn used(&self) -> Bytes {
        self.used
    }

    /// Whether `more` bytes fit on top of what is in use.
    pub fn fits(&self, more: Bytes) -> bool {
        self.capacity.is_none_or(|capacity| self.used + more <= capacity)
    }

    /// Takes `more` bytes. Panics beyond the capacity.
    pub fn take(&mut self, more: Bytes) {
        assert!(self.fits(more), "Invariant: host use never exceeds capacity");
        self.used += more;
    }

    /// Gives `bytes` back. Panics if they were never taken.
    pub fn give(&mut self, bytes: Bytes) {
        assert!(bytes <= self.used, "Invariant: only host memory in use is given back");
        self.used = self.used - bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "never exceeds capacity")]
    fn the_gpu_pool_is_never_overdrawn() {
        let mut pool = GpuPool::new(10);
        pool.set_used(10);
        assert_eq!(pool.used(), 10);
        pool.set_used(11);
    }

    #[test]
    fn a_bounded_host_pool_refuses_what_does_not_fit() {
        let mut pool = HostPool::new(Some(Bytes::new(100)));
        pool.take(Bytes::new(60));
        assert!(!pool.fits(Bytes::new(41)));
        pool.give(Bytes::new(20));
        assert!(pool.fits(Bytes::new(60)));
        assert!(HostPool::new(None).fits(Bytes::new(u64::MAX)));
    }
}
