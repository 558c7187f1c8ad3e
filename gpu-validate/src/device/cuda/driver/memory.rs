//! Calls of the driver that make, write, read and copy memory. Addresses are plain numbers; slices were checked by whoever
//! calls.

use std::ptr;

use cudarc::driver::sys::{self, CUresult};

use super::order::RawStream;
use super::{Driver, check};
use crate::device::DeviceError;

/// How host memory is pinned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::device::cuda) enum Pinning {
    /// Cached by the CPU.
    Cached,
    /// Write-combined.
    WriteCombined,
}

impl Driver {
    /// Free memory of the GPU, in bytes.
    pub(in crate::device::cuda) fn free_memory(&self) -> Result<u64, DeviceError> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: fills two locals.
        unsafe { check("cuMemGetInfo_v2", sys::cuMemGetInfo_v2(&mut free, &mut total))? };
        Ok(free as u64)
    }

    /// Device memory, not in stream order. Aligned to 256 bytes.
    pub(in crate::device::cuda) fn alloc(&self, bytes: u64) -> Result<u64, DeviceError> {
        let mut address = 0;
        // SAFETY: fills a local; the address is handed to the GPU only, within its size, until it is freed.
        let result = unsafe { sys::cuMemAlloc_v2(&mut address, bytes as usize) };
        if result == CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            let free = self.free_memory().unwrap_or(0);
            return Err(DeviceError::OutOfMemory { what: "device memory".to_owned(), asked: bytes, free });
        }
        check(format!("cuMemAlloc({bytes} bytes)"), result)?;
        Ok(address)
    }

    /// Gives device memory back. Waits for the device.
    pub(in crate::device::cuda) fn free(&self, address: u64) -> Result<(), DeviceError> {
        // SAFETY: the address came from `alloc` and its owner hands it over once.
        unsafe { check("cuMemFree", sys::cuMemFree_v2(address)) }
    }

    /// Host memory that the GPU can reach, page-locked by the driver; `None` if there is not enough.
    pub(in crate::device::cuda) fn alloc_pinned(
        &self,
        bytes: u64,
        pinning: Pinning,
    ) -> Result<Option<*mut u8>, DeviceError> {
        let combined = if pinning == Pinning::WriteCombined { sys::CU_MEMHOSTALLOC_WRITECOMBINED } else { 0 };
        let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP | combined;
        let mut memory = ptr::null_mut();
        // SAFETY: fills a local.
        let result = unsafe { sys::cuMemHostAlloc(&mut memory, bytes as usize, flags) };
        if result == CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return Ok(None);
        }
        check(format!("cuMemHostAlloc({bytes} bytes)"), result)?;
        Ok(Some(memory.cast()))
    }

    /// Gives pinned memory back.
    pub(in crate::device::cuda) fn free_pinned(&self, memory: *mut u8) -> Result<(), DeviceError> {
        // SAFETY: the pointer came from `alloc_pinned` and its owner hands it over once.
        unsafe { check("cuMemFreeHost", sys::cuMemFreeHost(memory.cast())) }
    }

    /// Page-locks memory that was mapped by us.
    pub(in crate::device::cuda) fn register(&self, memory: *mut u8, bytes: u64) -> Result<(), DeviceError> {
        let flags = sys::CU_MEMHOSTREGISTER_PORTABLE | sys::CU_MEMHOSTREGISTER_DEVICEMAP;
        // SAFETY: the caller's mapping is `bytes` long and stays mapped until `unregister`.
        let result = unsafe { sys::cuMemHostRegister_v2(memory.cast(), bytes as usize, flags) };
        check(format!("cuMemHostRegister({bytes} bytes)"), result)
    }

    /// Takes the page-lock away.
    pub(in crate::device::cuda) fn unregister(&self, memory: *mut u8) -> Result<(), DeviceError> {
        // SAFETY: the pointer was registered and its owner unregisters it once.
        unsafe { check("cuMemHostUnregister", sys::cuMemHostUnregister(memory.cast())) }
    }

    /// The address by which the GPU reaches pinned or registered memory.
    pub(in crate::device::cuda) fn device_address(&self, memory: *mut u8) -> Result<u64, DeviceError> {
        let mut address = 0;
        // SAFETY: fills a local; the pointer is to memory that is pinned or registered with a device mapping.
        unsafe {
            let result = sys::cuMemHostGetDevicePointer_v2(&mut address, memory.cast(), 0);
            check("cuMemHostGetDevicePointer", result)?;
        }
        Ok(address)
    }

    /// Starts a copy to the device.
    pub(in crate::device::cuda) fn copy_to_device(
        &self,
        stream: RawStream,
        to: u64,
        from: *const u8,
        bytes: u64,
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller's slices hold `bytes` bytes from both addresses, and live until the stream is waited for.
        let result = unsafe { sys::cuMemcpyHtoDAsync_v2(to, from.cast(), bytes as usize, stream.0) };
        check("cuMemcpyHtoDAsync", result)
    }

    /// Starts a copy from the device.
    pub(in crate::device::cuda) fn copy_to_host(
        &self,
        stream: RawStream,
        to: *mut u8,
        from: u64,
        bytes: u64,
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller's slices hold `bytes` bytes from both addresses, and live until the stream is waited for.
        let result = unsafe { sys::cuMemcpyDtoHAsync_v2(to.cast(), from, bytes as usize, stream.0) };
        check("cuMemcpyDtoHAsync", result)
    }

    /// Starts a copy within the device.
    pub(in crate::device::cuda) fn copy_within(
        &self,
        stream: RawStream,
        to: u64,
        from: u64,
        bytes: u64,
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller's slices hold `bytes` bytes from both addresses.
        let result = unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, bytes as usize, stream.0) };
        check("cuMemcpyDtoDAsync", result)
    }

    /// Writes device memory and waits until the bytes have arrived: from pageable memory the call alone returns when
    /// they are staged, and streams of ours do not wait for the default stream that carries them.
    pub(in crate::device::cuda) fn write(&self, to: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        // SAFETY: the caller's slice holds as many bytes from `to`.
        unsafe { check("cuMemcpyHtoD", sys::cuMemcpyHtoD_v2(to, bytes.as_ptr().cast(), bytes.len()))? };
        self.synchronize()
    }

    /// Reads device memory.
    pub(in crate::device::cuda) fn read(&self, from: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        // SAFETY: the caller's slice holds as many bytes from `from`.
        unsafe { check("cuMemcpyDtoH", sys::cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), from, bytes.len())) }
    }
}
