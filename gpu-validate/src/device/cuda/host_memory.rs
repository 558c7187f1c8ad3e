//! Host memory for copies: pinned, write-combined, ordinary, or mapped with huge pages and registered.
//!
//! Pinning GiBs takes seconds, so what one experiment gives back is kept for the next. Memory is made and first touched
//! while this thread runs on the CPUs of the GPU's NUMA node, where the kernel allows it; [`HostPool::placement`] says
//! what came of that. Knows no handles and no copies.

use std::ptr;

use super::driver::{Driver, Pinning};
use crate::device::{DeviceError, HostMemory, environment};

/// Bytes of a page, and of a huge one.
const PAGE: u64 = 4096;
const HUGE_PAGE: u64 = 2 << 20;

/// One allocation.
#[derive(Clone, Copy)]
pub(super) struct HostAllocation {
    memory: *mut u8,
    bytes: u64,
    kind: HostMemory,
    /// The address by which kernels reach it, if they can.
    pub(super) device_address: Option<u64>,
}

impl HostAllocation {
    /// A pointer to `offset`. The caller's slice has been checked against the buffer, which is no longer than this.
    pub(super) fn at(&self, offset: u64) -> *mut u8 {
        assert!(offset <= self.bytes, "Invariant: an offset lies in its allocation");
        self.memory.wrapping_add(offset as usize)
    }

    /// `bytes` bytes from `offset`.
    pub(super) fn bytes_mut(&mut self, offset: u64, bytes: u64) -> &mut [u8] {
        let inside = offset.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        assert!(inside, "Invariant: {bytes} bytes from {offset} lie in an allocation of {}", self.bytes);
        // SAFETY: the range is inside memory that stays mapped as long as the pool lives; every byte of it has been
        // made by the kernel (zeroed) or written; the caller waited for copies into it.
        unsafe { std::slice::from_raw_parts_mut(self.at(offset), bytes as usize) }
    }
}

/// All host memory of a device.
pub(super) struct HostPool {
    free: Vec<HostAllocation>,
    /// The most bytes in use and kept together.
    limit: u64,
    held: u64,
    node: Option<Vec<usize>>,
    /// What was done to place memory near the GPU.
    pub(super) placement: String,
}

impl HostPool {
    /// A pool of at most `limit` bytes, near NUMA node `node`.
    pub(super) fn new(limit: u64, node: Option<i32>) -> Self {
        let (cpus, placement) = match node {
            None => (None, "not placed: the GPU's NUMA node is not known".to_owned()),
            Some(node) if node < 0 => (None, format!("not placed: the kernel reports NUMA node {node}")),
            Some(node) => match environment::cpus_of_node(node).filter(|cpus| Affinity::of(cpus).is_some()) {
                Some(cpus) => (Some(cpus), format!("first touched on NUMA node {node}")),
                None => (None, format!("not placed: no CPU of NUMA node {node} may be used")),
            },
        };
        HostPool { free: Vec::new(), limit, held: 0, node: cpus, placement }
    }

    /// Whether memory is first touched near the GPU.
    pub(super) fn is_placed(&self) -> bool {
        self.node.is_some()
    }

    /// `bytes` bytes or more, kept from before or new.
    pub(super) fn take(
        &mut self,
        driver: &Driver,
        bytes: u64,
        kind: HostMemory,
    ) -> Result<HostAllocation, DeviceError> {
        let bytes = bytes.max(1).next_multiple_of(PAGE);
        let fits = |kept: &HostAllocation| kept.kind == kind && (bytes..=2 * bytes).contains(&kept.bytes);
        let smallest = (0..self.free.len())
            .filter(|index| fits(&self.free[*index]))
            .min_by_key(|index| self.free[*index].bytes);
        if let Some(index) = smallest {
            return Ok(self.free.swap_remove(index));
        }
        if self.held + bytes > self.limit {
            self.empty(driver)?;
        }
        let free = self.limit.saturating_sub(self.held);
        let full =
            || DeviceError::OutOfMemory { what: kind.key().to_owned() + " host memory", asked: bytes, free };
        if bytes > free {
            return Err(full());
        }
        let near = self.node.as_deref().and_then(Affinity::of);
        let mut made = make(driver, bytes, kind)?;
        if made.is_none() {
            self.empty(driver)?;
            made = make(driver, bytes, kind)?;
        }
        drop(near);
        let made = made.ok_or_else(full)?;
        self.held += made.bytes;
        Ok(made)
    }

    /// Keeps an allocation for the next user.
    pub(super) fn give_back(&mut self, allocation: HostAllocation) {
        self.free.push(allocation);
    }

    /// Frees what is kept.
    pub(super) fn empty(&mut self, driver: &Driver) -> Result<(), DeviceError> {
        for allocation in std::mem::take(&mut self.free) {
            self.held -= allocation.bytes;
            unmake(driver, allocation)?;
        }
        Ok(())
    }
}

/// New memory, every page of it touched; `None` if there is not enough.
fn make(driver: &Driver, bytes: u64, kind: HostMemory) -> Result<Option<HostAllocation>, DeviceError> {
    let pinning = match kind {
        HostMemory::Pinned => Pinning::Cached,
        HostMemory::PinnedWriteCombined => Pinning::WriteCombined,
        HostMemory::Pageable => return Ok(map(bytes).map(|memory| mapped(memory, bytes, kind))),
        HostMemory::RegisteredHugePages => return make_registered(driver, bytes),
    };
    let Some(memory) = driver.alloc_pinned(bytes, pinning)? else { return Ok(None) };
    let device_address = Some(driver.device_address(memory)?);
    Ok(Some(HostAllocation { memory, bytes, kind, device_address }))
}

fn make_registered(driver: &Driver, bytes: u64) -> Result<Option<HostAllocation>, DeviceError> {
    let kind = HostMemory::RegisteredHugePages;
    let bytes = bytes.next_multiple_of(HUGE_PAGE);
    let unsupported = |reason: String| DeviceError::Unsupported { what: kind.key().to_owned(), reason };
    let Some(memory) = reserve(bytes) else { return Ok(None) };
    if let Err(reason) = advise_huge(memory, bytes) {
        unmap(memory, bytes);
        return Err(unsupported(format!("madvise(MADV_HUGEPAGE): {reason}")));
    }
    touch(memory, bytes);
    if let Err(error) = driver.register(memory, bytes) {
        unmap(memory, bytes);
        return Err(unsupported(error.to_string()));
    }
    let device_address = Some(driver.device_address(memory)?);
    Ok(Some(HostAllocation { memory, bytes, kind, device_address }))
}

fn unmake(driver: &Driver, allocation: HostAllocation) -> Result<(), DeviceError> {
    match allocation.kind {
        HostMemory::Pinned | HostMemory::PinnedWriteCombined => driver.free_pinned(allocation.memory),
        HostMemory::Pageable => {
            unmap(allocation.memory, allocation.bytes);
            Ok(())
        }
        HostMemory::RegisteredHugePages => {
            driver.unregister(allocation.memory)?;
            unmap(allocation.memory, allocation.bytes);
            Ok(())
        }
    }
}

fn mapped(memory: *mut u8, bytes: u64, kind: HostMemory) -> HostAllocation {
    HostAllocation { memory, bytes, kind, device_address: None }
}

fn map(bytes: u64) -> Option<*mut u8> {
    let memory = reserve(bytes)?;
    touch(memory, bytes);
    Some(memory)
}

/// Private memory, page-aligned (aligned to a huge page where it is that long), zero, not yet touched.
fn reserve(bytes: u64) -> Option<*mut u8> {
    let align = if bytes >= HUGE_PAGE { HUGE_PAGE } else { PAGE };
    let length = bytes + align;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new anonymous mapping; the parts before and after the aligned one are unmapped again, once, here.
    unsafe {
        let start = libc::mmap(ptr::null_mut(), length as usize, protection, flags, -1, 0);
        if start == libc::MAP_FAILED {
            return None;
        }
        let before = (start as u64).next_multiple_of(align) - start as u64;
        let memory = start.cast::<u8>().wrapping_add(before as usize);
        if before > 0 {
            libc::munmap(start, before as usize);
        }
        if align > before {
            libc::munmap(memory.wrapping_add(bytes as usize).cast(), (align - before) as usize);
        }
        Some(memory)
    }
}

fn unmap(memory: *mut u8, bytes: u64) {
    // SAFETY: the range came from `reserve` with the same size and its owner gives it up.
    unsafe { libc::munmap(memory.cast(), bytes as usize) };
}

fn advise_huge(memory: *mut u8, bytes: u64) -> Result<(), std::io::Error> {
    // SAFETY: the range is our own mapping; the advice changes no contents.
    let result = unsafe { libc::madvise(memory.cast(), bytes as usize, libc::MADV_HUGEPAGE) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Writes one byte of every page, so that the kernel gives it memory now.
fn touch(memory: *mut u8, bytes: u64) {
    for offset in (0..bytes).step_by(PAGE as usize) {
        // SAFETY: inside our own writable mapping; volatile, so that the write is not left out.
        unsafe { memory.wrapping_add(offset as usize).write_volatile(0) };
    }
}

/// This thread runs on some CPUs until this is dropped; then where it ran before.
struct Affinity {
    before: libc::cpu_set_t,
}

impl Affinity {
    /// `None` if none of these CPUs may be used; nothing is changed then.
    fn of(cpus: &[usize]) -> Option<Affinity> {
        // SAFETY: a set of CPUs is plain bits, all zero is an empty one; sizes are those of the locals; CPU numbers
        // past the set are left out.
        unsafe {
            let size = size_of::<libc::cpu_set_t>();
            let mut before: libc::cpu_set_t = std::mem::zeroed();
            if libc::sched_getaffinity(0, size, &mut before) != 0 {
                return None;
            }
            let mut wanted: libc::cpu_set_t = std::mem::zeroed();
            for cpu in cpus.iter().filter(|cpu| **cpu < 8 * size && libc::CPU_ISSET(**cpu, &before)) {
                libc::CPU_SET(*cpu, &mut wanted);
            }
            let usable = libc::CPU_COUNT(&wanted) > 0 && libc::sched_setaffinity(0, size, &wanted) == 0;
            usable.then_some(Affinity { before })
        }
    }
}

impl Drop for Affinity {
    fn drop(&mut self) {
        // SAFETY: the set was filled by the kernel.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &self.before) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_memory_is_touched_zero_and_aligned_to_huge_pages() {
        let bytes = 2 * HUGE_PAGE + PAGE;
        let mut made = mapped(map(bytes).expect("memory"), bytes, HostMemory::Pageable);
        assert_eq!(made.at(0) as u64 % HUGE_PAGE, 0);
        let last = made.bytes_mut(bytes - 1, 1);
        assert_eq!(last, [0]);
        last[0] = 7;
        assert_eq!(made.bytes_mut(bytes - PAGE, PAGE).last(), Some(&7));
        unmap(made.memory, made.bytes);
    }

    #[test]
    #[should_panic(expected = "Invariant")]
    fn bytes_past_an_allocation_are_refused() {
        let mut made = mapped(map(PAGE).expect("memory"), PAGE, HostMemory::Pageable);
        made.bytes_mut(1, PAGE);
    }

    #[test]
    fn a_thread_goes_back_to_the_cpus_it_had() {
        let allowed = || std::thread::available_parallelism().expect("known").get();
        let before = allowed();
        let all: Vec<usize> = (0..1024).collect();
        // Keep one CPU that is allowed: the first for which pinning works.
        let one = all.iter().find(|cpu| Affinity::of(&[**cpu]).is_some()).expect("some CPU may be used");
        let pinned = Affinity::of(&[*one]).expect("it worked a moment ago");
        assert_eq!(allowed(), 1);
        drop(pinned);
        assert_eq!(allowed(), before);
    }

    #[test]
    fn cpus_that_do_not_exist_change_nothing() {
        assert!(Affinity::of(&[100_000]).is_none());
        assert!(Affinity::of(&[]).is_none());
    }
}
