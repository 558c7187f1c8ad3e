//! Latches: a word of host memory that a kernel polls, and a word in which it says how its wait ended.
//!
//! The kernel gives up after [`LATCH_LIMIT_S`] by the GPU's clock, so a host thread that died cannot hang the GPU. Knows
//! no streams.

use super::driver::{Driver, Pinning};
use crate::device::{DeviceError, LATCH_LIMIT_S};
use crate::kernels::memory::HOLD_RAN_OUT;

/// Memory of one latch: its two words lie on cache lines of their own.
const BYTES: u64 = 4096;
const OUTCOME_AT: usize = 128;

/// One latch.
pub(super) struct LatchWords {
    memory: *mut u8,
    device_address: u64,
    released: bool,
}

impl LatchWords {
    /// A closed latch.
    pub(super) fn new(driver: &Driver) -> Result<Self, DeviceError> {
        let memory = driver.alloc_pinned(BYTES, Pinning::Cached)?.ok_or_else(|| {
            DeviceError::OutOfMemory { what: "host memory of a latch".to_owned(), asked: BYTES, free: 0 }
        })?;
        let mut latch =
            LatchWords { memory, device_address: driver.device_address(memory)?, released: false };
        latch.close();
        Ok(latch)
    }

    /// The GPU's addresses of the word that is polled and of the one that is written.
    pub(super) fn addresses(&self) -> (u64, u64) {
        (self.device_address, self.device_address + OUTCOME_AT as u64)
    }

    /// Lets go. Answers an error if the latch had opened by itself before.
    pub(super) fn release(&mut self, hint: Option<&str>) -> Result<(), DeviceError> {
        let ran_out = self.read(OUTCOME_AT) == HOLD_RAN_OUT;
        self.write(0, 1);
        self.released = true;
        if !ran_out {
            return Ok(());
        }
        let hint = hint.map(|hint| format!("; hint: {hint}")).unwrap_or_default();
        Err(DeviceError::Failed {
            what: "letting go of a latch".to_owned(),
            message: format!(
                "it had opened by itself after {LATCH_LIMIT_S} s: nothing behind it was measured{hint}"
            ),
        })
    }

    /// Closes a latch that was let go. Everything behind it must have run.
    pub(super) fn close_if_released(&mut self) {
        if self.released {
            self.close();
        }
    }

    /// Closes it for its next user. Everything behind it must have run.
    pub(super) fn close(&mut self) {
        self.write(0, 0);
        self.write(OUTCOME_AT, 0);
        self.released = false;
    }

    /// Gives its memory back.
    pub(super) fn free(self, driver: &Driver) -> Result<(), DeviceError> {
        driver.free_pinned(self.memory)
    }

    fn read(&self, at: usize) -> u32 {
        // SAFETY: inside the latch's own 4 KiB, aligned to 4; volatile, because the GPU writes it.
        unsafe { self.memory.wrapping_add(at).cast::<u32>().read_volatile() }
    }

    fn write(&mut self, at: usize, value: u32) {
        // SAFETY: inside the latch's own 4 KiB, aligned to 4; volatile, because the GPU reads it.
        unsafe { self.memory.wrapping_add(at).cast::<u32>().write_volatile(value) }
    }
}
