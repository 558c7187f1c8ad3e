//! The calls of the CUDA driver that this backend makes, each with its return code checked and turned into a
//! [`DeviceError`] that names the call.
//!
//! cudarc resolves each symbol at its first call and panics where it is missing; [`Driver::open`] therefore looks every
//! one of them up beforehand, so that no later call can panic. Its safe layer is not used: it orders streams by events
//! of its own, pins memory write-combined and allocates in stream order (`gpu-measurement.md` §0). Knows no buffer
//! table, no kernel by name and no experiment. Addresses are plain `u64`.

mod memory;
mod modules;
mod order;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use cudarc::driver::sys::{self, CUresult};

use crate::device::DeviceError;

pub(in crate::device::cuda) use memory::Pinning;
pub(in crate::device::cuda) use modules::{RawFunction, RawModule, argument_bytes};
pub(in crate::device::cuda) use order::{RawEvent, RawGraph, RawStream};

/// Every symbol that is called without asking first.
const NEEDED: [&str; 45] = [
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetName",
    "cuDeviceGetPCIBusId",
    "cuDeviceGetUuid_v2",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventRecord",
    "cuFuncGetAttribute",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuGraphUpload",
    "cuInit",
    "cuLaunchKernel",
    "cuMemAlloc_v2",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemHostGetDevicePointer_v2",
    "cuMemHostRegister_v2",
    "cuMemHostUnregister",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoH_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyHtoD_v2",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamBeginCapture_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamEndCapture",
    "cuStreamWaitEvent",
];

type ElapsedTime = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> CUresult;
type LoadFunction = unsafe extern "C" fn(sys::CUfunction) -> CUresult;
type ParameterInfo = unsafe extern "C" fn(sys::CUfunction, usize, *mut usize, *mut usize) -> CUresult;

/// The driver with one GPU's primary context current on this thread.
pub(in crate::device::cuda) struct Driver {
    device: sys::CUdevice,
    elapsed_time: ElapsedTime,
    load_function: Option<LoadFunction>,
    parameter_info: Option<ParameterInfo>,
    /// Whether this driver has `cuMemcpyBatchAsync_v2` (CUDA 13).
    pub has_batch_copies: bool,
}

/// `Ok` for success; the call, the code's name and its text otherwise.
pub(in crate::device::cuda) fn check(what: impl Into<String>, result: CUresult) -> Result<(), DeviceError> {
    match result {
        CUresult::CUDA_SUCCESS => Ok(()),
        CUresult::CUDA_ERROR_NOT_SUPPORTED
        | CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
        | CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED => {
            Err(DeviceError::Unsupported { what: what.into(), reason: text_of(result) })
        }
        _ => Err(DeviceError::Failed { what: what.into(), message: text_of(result) }),
    }
}

fn text_of(result: CUresult) -> String {
    let text = |call: unsafe fn(CUresult, *mut *const c_char) -> CUresult| {
        let mut text: *const c_char = ptr::null();
        // SAFETY: both functions fill a pointer to a string that lives as long as the driver, or null.
        unsafe {
            let known = call(result, &mut text) == CUresult::CUDA_SUCCESS && !text.is_null();
            known.then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    };
    let name = text(sys::cuGetErrorName).unwrap_or_else(|| "unknown".to_owned());
    let meaning = text(sys::cuGetErrorString).unwrap_or_else(|| "the driver has no text for it".to_owned());
    format!("{name} ({}): {meaning}", result as u32)
}

/// Runs `calls`; a panic of cudarc (a library or symbol that went missing) becomes an error.
pub(in crate::device::cuda) fn without_panic<T>(
    what: &str,
    calls: impl FnOnce() -> Result<T, DeviceError>,
) -> Result<T, DeviceError> {
    catch_unwind(AssertUnwindSafe(calls)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without a message");
        Err(DeviceError::Failed { what: what.to_owned(), message: message.replace('\n', " ") })
    })
}

fn symbol<T: Copy>(name: &str) -> Option<T> {
    // SAFETY: `T` is at every use below a function pointer with the symbol's C signature, or a plain address; the
    // library is never unloaded.
    unsafe { sys::culib().get::<T>(name.as_bytes()).ok().map(|symbol| *symbol) }
}

impl Driver {
    /// Starts the driver and makes the context of GPU `ordinal` current. The libraries must be known to be there.
    pub(in crate::device::cuda) fn open(ordinal: u32) -> Result<Self, DeviceError> {
        without_panic("opening the CUDA driver", || {
            let missing = |name: &&&str| symbol::<*const c_void>(name).is_none();
            if let Some(name) = NEEDED.iter().find(missing) {
                let message = format!("the driver has no `{name}`; hint: CUDA 12 or later is needed");
                return Err(DeviceError::Failed { what: "opening the CUDA driver".to_owned(), message });
            }
            let elapsed_time = symbol("cuEventElapsedTime_v2").or_else(|| symbol("cuEventElapsedTime"));
            let elapsed_time = elapsed_time.ok_or_else(|| DeviceError::Failed {
                what: "opening the CUDA driver".to_owned(),
                message: "the driver has no `cuEventElapsedTime`".to_owned(),
            })?;
            let (mut device, mut context) = (0, ptr::null_mut());
            // SAFETY: both pointers are to locals of the types that the calls fill.
            unsafe {
                check("cuInit", sys::cuInit(0))?;
                check(format!("cuDeviceGet({ordinal})"), sys::cuDeviceGet(&mut device, ordinal as c_int))?;
                check("cuDevicePrimaryCtxRetain", sys::cuDevicePrimaryCtxRetain(&mut context, device))?;
                check("cuCtxSetCurrent", sys::cuCtxSetCurrent(context))?;
            }
            Ok(Driver {
                device,
                elapsed_time,
                load_function: symbol("cuFuncLoad"),
                parameter_info: symbol("cuFuncGetParamInfo"),
                has_batch_copies: symbol::<*const c_void>("cuMemcpyBatchAsync_v2").is_some(),
            })
        })
    }

    /// A property of the GPU; `None` where the driver does not know it.
    pub(in crate::device::cuda) fn attribute(&self, attribute: sys::CUdevice_attribute) -> Option<u32> {
        let mut value = 0;
        // SAFETY: fills an int.
        let result = unsafe { sys::cuDeviceGetAttribute(&mut value, attribute, self.device) };
        (result == CUresult::CUDA_SUCCESS).then(|| u32::try_from(value).ok()).flatten()
    }

    /// The GPU's number for the batch interface's location hints.
    pub(in crate::device::cuda) fn ordinal(&self) -> c_int {
        self.device
    }

    /// The GPU's name.
    pub(in crate::device::cuda) fn name(&self) -> Result<String, DeviceError> {
        let mut name: [c_char; 256] = [0; 256];
        // SAFETY: the array is longer than said, so its last element stays 0.
        unsafe {
            check("cuDeviceGetName", sys::cuDeviceGetName(name.as_mut_ptr(), 255, self.device))?;
            Ok(CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned())
        }
    }

    /// `domain:bus:device.function`.
    pub(in crate::device::cuda) fn pci_bus_id(&self) -> Result<String, DeviceError> {
        let mut id: [c_char; 32] = [0; 32];
        // SAFETY: the array is longer than said, so its last element stays 0.
        unsafe {
            check("cuDeviceGetPCIBusId", sys::cuDeviceGetPCIBusId(id.as_mut_ptr(), 31, self.device))?;
            Ok(CStr::from_ptr(id.as_ptr()).to_string_lossy().into_owned())
        }
    }

    /// The sixteen bytes of the GPU's unique id.
    pub(in crate::device::cuda) fn uuid(&self) -> Result<[u8; 16], DeviceError> {
        let mut uuid = sys::CUuuid { bytes: [0; 16] };
        // SAFETY: fills a local.
        unsafe { check("cuDeviceGetUuid_v2", sys::cuDeviceGetUuid_v2(&mut uuid, self.device))? };
        Ok(uuid.bytes.map(|byte| byte as u8))
    }

    /// Version of the driver's interface, for example 13000.
    pub(in crate::device::cuda) fn api_version(&self) -> Result<u32, DeviceError> {
        let mut version = 0;
        // SAFETY: fills an int.
        unsafe { check("cuDriverGetVersion", sys::cuDriverGetVersion(&mut version))? };
        Ok(version.max(0) as u32)
    }

    /// Waits for everything in this context, and answers an error of any of it.
    pub(in crate::device::cuda) fn synchronize(&self) -> Result<(), DeviceError> {
        // SAFETY: no arguments.
        unsafe { check("cuCtxSynchronize", sys::cuCtxSynchronize()) }
    }

    /// All memory of the GPU, in bytes.
    pub(in crate::device::cuda) fn total_memory(&self) -> Result<u64, DeviceError> {
        let mut bytes = 0;
        // SAFETY: fills a local.
        unsafe { check("cuDeviceTotalMem_v2", sys::cuDeviceTotalMem_v2(&mut bytes, self.device))? };
        Ok(bytes as u64)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // SAFETY: the context was retained once in `open`; a failure here has no one left to tell.
        unsafe {
            let _ = sys::cuCtxSetCurrent(ptr::null_mut());
            let _ = sys::cuDevicePrimaryCtxRelease_v2(self.device);
        }
    }
}
