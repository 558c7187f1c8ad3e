//! The calls of the CUDA driver that this backend makes, each with its return code checked and turned into a
//! [`DeviceError`] that names the call.
//!
//! cudarc resolves each symbol at its first call and panics where it is missing; [`Driver::open`] therefore looks every
//! one of them up beforehand, so that no later call can panic. Its safe layer is not used: it orders streams by events
//! of its own, pins memory write-combined and allocates in stream order (`gpu-measurement.md` §0). Knows no buffer
//! table, no kernel by name and no experiment. Addresses are plain `u64`.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use cudarc::driver::sys::{self, CUresult};

use crate::device::DeviceError;
use crate::kernels::{Argument, Launch};

/// Every symbol that is called without asking first.
const NEEDED: [&str; 42] = [
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
];

/// The rest of them.
const NEEDED_TOO: [&str; 3] = ["cuStreamDestroy_v2", "cuStreamEndCapture", "cuStreamWaitEvent"];

type ElapsedTime = unsafe extern "C" fn(*mut f32, sys::CUevent, sys::CUevent) -> CUresult;
type LoadFunction = unsafe extern "C" fn(sys::CUfunction) -> CUresult;
type ParameterInfo = unsafe extern "C" fn(sys::CUfunction, usize, *mut usize, *mut usize) -> CUresult;

/// The driver with one GPU's primary context current on this thread.
pub(super) struct Driver {
    device: sys::CUdevice,
    elapsed_time: ElapsedTime,
    load_function: Option<LoadFunction>,
    parameter_info: Option<ParameterInfo>,
    /// Whether this driver has `cuMemcpyBatchAsync_v2` (CUDA 13).
    pub has_batch_copies: bool,
}

/// An in-order queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct RawStream(pub(super) sys::CUstream);

/// A point in a stream, with a time.
#[derive(Clone, Copy)]
pub(super) struct RawEvent(sys::CUevent);

/// A captured graph, made ready to launch.
#[derive(Clone, Copy)]
pub(super) struct RawGraph {
    graph: sys::CUgraph,
    ready: sys::CUgraphExec,
}

/// A loaded piece of machine code.
#[derive(Clone, Copy)]
pub(super) struct RawModule(sys::CUmodule);

/// A kernel.
#[derive(Clone, Copy)]
pub(super) struct RawFunction(sys::CUfunction);

/// How host memory is pinned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pinning {
    /// Cached by the CPU.
    Cached,
    /// Write-combined.
    WriteCombined,
}

/// `Ok` for success; the call, the code's name and its text otherwise.
pub(super) fn check(what: impl Into<String>, result: CUresult) -> Result<(), DeviceError> {
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
pub(super) fn without_panic<T>(
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
    pub(super) fn open(ordinal: u32) -> Result<Self, DeviceError> {
        without_panic("opening the CUDA driver", || {
            let missing = |name: &&&str| symbol::<*const c_void>(name).is_none();
            if let Some(name) = NEEDED.iter().chain(&NEEDED_TOO).find(missing) {
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
    pub(super) fn attribute(&self, attribute: sys::CUdevice_attribute) -> Option<u32> {
        let mut value = 0;
        // SAFETY: fills an int.
        let result = unsafe { sys::cuDeviceGetAttribute(&mut value, attribute, self.device) };
        (result == CUresult::CUDA_SUCCESS).then(|| u32::try_from(value).ok()).flatten()
    }

    /// The GPU's number for the batch interface's location hints.
    pub(super) fn ordinal(&self) -> c_int {
        self.device
    }

    /// The GPU's name.
    pub(super) fn name(&self) -> Result<String, DeviceError> {
        let mut name: [c_char; 256] = [0; 256];
        // SAFETY: the array is longer than said, so its last element stays 0.
        unsafe {
            check("cuDeviceGetName", sys::cuDeviceGetName(name.as_mut_ptr(), 255, self.device))?;
            Ok(CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned())
        }
    }

    /// `domain:bus:device.function`.
    pub(super) fn pci_bus_id(&self) -> Result<String, DeviceError> {
        let mut id: [c_char; 32] = [0; 32];
        // SAFETY: the array is longer than said, so its last element stays 0.
        unsafe {
            check("cuDeviceGetPCIBusId", sys::cuDeviceGetPCIBusId(id.as_mut_ptr(), 31, self.device))?;
            Ok(CStr::from_ptr(id.as_ptr()).to_string_lossy().into_owned())
        }
    }

    /// The sixteen bytes of the GPU's unique id.
    pub(super) fn uuid(&self) -> Result<[u8; 16], DeviceError> {
        let mut uuid = sys::CUuuid { bytes: [0; 16] };
        // SAFETY: fills a local.
        unsafe { check("cuDeviceGetUuid_v2", sys::cuDeviceGetUuid_v2(&mut uuid, self.device))? };
        Ok(uuid.bytes.map(|byte| byte as u8))
    }

    /// Version of the driver's interface, for example 13000.
    pub(super) fn api_version(&self) -> Result<u32, DeviceError> {
        let mut version = 0;
        // SAFETY: fills an int.
        unsafe { check("cuDriverGetVersion", sys::cuDriverGetVersion(&mut version))? };
        Ok(version.max(0) as u32)
    }

    /// All memory of the GPU, in bytes.
    pub(super) fn total_memory(&self) -> Result<u64, DeviceError> {
        let mut bytes = 0;
        // SAFETY: fills a local.
        unsafe { check("cuDeviceTotalMem_v2", sys::cuDeviceTotalMem_v2(&mut bytes, self.device))? };
        Ok(bytes as u64)
    }

    /// Free memory of the GPU, in bytes.
    pub(super) fn free_memory(&self) -> Result<u64, DeviceError> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: fills two locals.
        unsafe { check("cuMemGetInfo_v2", sys::cuMemGetInfo_v2(&mut free, &mut total))? };
        Ok(free as u64)
    }

    /// Device memory, not in stream order. Aligned to 256 bytes.
    pub(super) fn alloc(&self, bytes: u64) -> Result<u64, DeviceError> {
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
    pub(super) fn free(&self, address: u64) -> Result<(), DeviceError> {
        // SAFETY: the address came from `alloc` and its owner hands it over once.
        unsafe { check("cuMemFree", sys::cuMemFree_v2(address)) }
    }

    /// Host memory that the GPU can reach, page-locked by the driver; `None` if there is not enough.
    pub(super) fn alloc_pinned(&self, bytes: u64, pinning: Pinning) -> Result<Option<*mut u8>, DeviceError> {
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
    pub(super) fn free_pinned(&self, memory: *mut u8) -> Result<(), DeviceError> {
        // SAFETY: the pointer came from `alloc_pinned` and its owner hands it over once.
        unsafe { check("cuMemFreeHost", sys::cuMemFreeHost(memory.cast())) }
    }

    /// Page-locks memory that was mapped by us.
    pub(super) fn register(&self, memory: *mut u8, bytes: u64) -> Result<(), DeviceError> {
        let flags = sys::CU_MEMHOSTREGISTER_PORTABLE | sys::CU_MEMHOSTREGISTER_DEVICEMAP;
        // SAFETY: the caller's mapping is `bytes` long and stays mapped until `unregister`.
        let result = unsafe { sys::cuMemHostRegister_v2(memory.cast(), bytes as usize, flags) };
        check(format!("cuMemHostRegister({bytes} bytes)"), result)
    }

    /// Takes the page-lock away.
    pub(super) fn unregister(&self, memory: *mut u8) -> Result<(), DeviceError> {
        // SAFETY: the pointer was registered and its owner unregisters it once.
        unsafe { check("cuMemHostUnregister", sys::cuMemHostUnregister(memory.cast())) }
    }

    /// The address by which the GPU reaches pinned or registered memory.
    pub(super) fn device_address(&self, memory: *mut u8) -> Result<u64, DeviceError> {
        let mut address = 0;
        // SAFETY: fills a local; the pointer is to memory that is pinned or registered with a device mapping.
        unsafe {
            let result = sys::cuMemHostGetDevicePointer_v2(&mut address, memory.cast(), 0);
            check("cuMemHostGetDevicePointer", result)?;
        }
        Ok(address)
    }

    /// A stream that does not wait for the legacy default stream.
    pub(super) fn stream(&self) -> Result<RawStream, DeviceError> {
        let mut stream = ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: fills a local.
        unsafe { check("cuStreamCreate", sys::cuStreamCreate(&mut stream, flags))? };
        Ok(RawStream(stream))
    }

    /// Ends a stream.
    pub(super) fn destroy_stream(&self, stream: RawStream) -> Result<(), DeviceError> {
        // SAFETY: the stream came from `stream` and its owner hands it over once.
        unsafe { check("cuStreamDestroy", sys::cuStreamDestroy_v2(stream.0)) }
    }

    /// An event with a time.
    pub(super) fn event(&self) -> Result<RawEvent, DeviceError> {
        let mut event = ptr::null_mut();
        let flags = sys::CUevent_flags::CU_EVENT_DEFAULT as u32;
        // SAFETY: fills a local.
        unsafe { check("cuEventCreate", sys::cuEventCreate(&mut event, flags))? };
        Ok(RawEvent(event))
    }

    /// Ends an event.
    pub(super) fn destroy_event(&self, event: RawEvent) -> Result<(), DeviceError> {
        // SAFETY: the event came from `event` and its owner hands it over once.
        unsafe { check("cuEventDestroy", sys::cuEventDestroy_v2(event.0)) }
    }

    /// Marks this point of `stream`.
    pub(super) fn record(&self, stream: RawStream, event: RawEvent) -> Result<(), DeviceError> {
        // SAFETY: both handles are alive.
        unsafe { check("cuEventRecord", sys::cuEventRecord(event.0, stream.0)) }
    }

    /// Makes what follows in `stream` wait for `event`.
    pub(super) fn wait(&self, stream: RawStream, event: RawEvent) -> Result<(), DeviceError> {
        // SAFETY: both handles are alive.
        unsafe { check("cuStreamWaitEvent", sys::cuStreamWaitEvent(stream.0, event.0, 0)) }
    }

    /// Seconds between two events that were recorded and waited for.
    pub(super) fn elapsed_s(&self, from: RawEvent, to: RawEvent) -> Result<f64, DeviceError> {
        let mut milliseconds = 0.0_f32;
        // SAFETY: fills a local; both handles are alive.
        unsafe { check("cuEventElapsedTime", (self.elapsed_time)(&mut milliseconds, from.0, to.0))? };
        Ok(f64::from(milliseconds) / 1e3)
    }

    /// Waits for everything in this context, and answers an error of any of it.
    pub(super) fn synchronize(&self) -> Result<(), DeviceError> {
        // SAFETY: no arguments.
        unsafe { check("cuCtxSynchronize", sys::cuCtxSynchronize()) }
    }

    /// Starts a copy to the device.
    pub(super) fn copy_to_device(
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
    pub(super) fn copy_to_host(
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
    pub(super) fn copy_within(
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
    pub(super) fn write(&self, to: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        // SAFETY: the caller's slice holds as many bytes from `to`.
        unsafe { check("cuMemcpyHtoD", sys::cuMemcpyHtoD_v2(to, bytes.as_ptr().cast(), bytes.len()))? };
        self.synchronize()
    }

    /// Reads device memory.
    pub(super) fn read(&self, from: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        // SAFETY: the caller's slice holds as many bytes from `from`.
        unsafe { check("cuMemcpyDtoH", sys::cuMemcpyDtoH_v2(bytes.as_mut_ptr().cast(), from, bytes.len())) }
    }

    /// Begins to capture; calls of this thread that would break a capture are refused by the driver meanwhile.
    pub(super) fn begin_capture(&self, stream: RawStream) -> Result<(), DeviceError> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the handle is alive.
        unsafe { check("cuStreamBeginCapture", sys::cuStreamBeginCapture_v2(stream.0, mode)) }
    }

    /// Ends a capture, makes it ready and uploads it.
    pub(super) fn end_capture(&self, stream: RawStream) -> Result<RawGraph, DeviceError> {
        let (mut graph, mut ready) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: fills two locals; the handles used are alive.
        unsafe {
            check("cuStreamEndCapture", sys::cuStreamEndCapture(stream.0, &mut graph))?;
            let instantiated = sys::cuGraphInstantiateWithFlags(&mut ready, graph, 0);
            if let Err(error) = check("cuGraphInstantiate", instantiated) {
                check("cuGraphDestroy", sys::cuGraphDestroy(graph))?;
                return Err(error);
            }
            check("cuGraphUpload", sys::cuGraphUpload(ready, stream.0))?;
        }
        Ok(RawGraph { graph, ready })
    }

    /// Leaves a capture that cannot be finished.
    pub(super) fn abandon_capture(&self, stream: RawStream) {
        let mut graph = ptr::null_mut();
        // SAFETY: fills a local; a graph that comes back is destroyed at once. Errors are those of the broken capture.
        unsafe {
            let _ = sys::cuStreamEndCapture(stream.0, &mut graph);
            if !graph.is_null() {
                let _ = sys::cuGraphDestroy(graph);
            }
        }
    }

    /// Submits a graph.
    pub(super) fn launch_graph(&self, stream: RawStream, graph: RawGraph) -> Result<(), DeviceError> {
        // SAFETY: both handles are alive.
        unsafe { check("cuGraphLaunch", sys::cuGraphLaunch(graph.ready, stream.0)) }
    }

    /// Ends a graph.
    pub(super) fn destroy_graph(&self, graph: RawGraph) -> Result<(), DeviceError> {
        // SAFETY: both handles came from `end_capture` and their owner hands them over once.
        unsafe {
            check("cuGraphExecDestroy", sys::cuGraphExecDestroy(graph.ready))?;
            check("cuGraphDestroy", sys::cuGraphDestroy(graph.graph))
        }
    }

    /// Loads machine code.
    pub(super) fn load_module(&self, what: &str, code: &[u8]) -> Result<RawModule, DeviceError> {
        let mut module = ptr::null_mut();
        // SAFETY: fills a local; the code is a whole cubin, whose header says its length, and is copied by the driver.
        unsafe {
            let result = sys::cuModuleLoadData(&mut module, code.as_ptr().cast());
            check(format!("cuModuleLoadData({what})"), result)?;
        }
        Ok(RawModule(module))
    }

    /// Unloads machine code.
    pub(super) fn unload_module(&self, module: RawModule) -> Result<(), DeviceError> {
        // SAFETY: the module came from `load_module` and its owner hands it over once.
        unsafe { check("cuModuleUnload", sys::cuModuleUnload(module.0)) }
    }

    /// A kernel of a module, loaded now rather than at its first launch.
    pub(super) fn function(&self, module: RawModule, name: &str) -> Result<RawFunction, DeviceError> {
        let c_name = CString::new(name).expect("Invariant: names of kernels have no zero byte");
        let mut function = ptr::null_mut();
        // SAFETY: fills a local; the module is alive, the name ends with a zero.
        unsafe {
            let result = sys::cuModuleGetFunction(&mut function, module.0, c_name.as_ptr());
            check(format!("cuModuleGetFunction({name})"), result)?;
            if let Some(load) = self.load_function {
                check(format!("cuFuncLoad({name})"), load(function))?;
            }
        }
        Ok(RawFunction(function))
    }

    /// Bytes of local memory per thread: above 0 where registers were spilled.
    pub(super) fn local_bytes(&self, function: RawFunction) -> Result<u32, DeviceError> {
        let mut bytes = 0;
        let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES;
        // SAFETY: fills an int; the function is alive.
        unsafe {
            check("cuFuncGetAttribute", sys::cuFuncGetAttribute(&mut bytes, attribute, function.0))?;
        }
        Ok(bytes.max(0) as u32)
    }

    /// Sizes of a kernel's parameters, in bytes; `None` where the driver cannot tell (before CUDA 12.4).
    pub(super) fn parameter_bytes(&self, function: RawFunction) -> Option<Vec<usize>> {
        let ask = self.parameter_info?;
        let mut sizes = Vec::new();
        loop {
            let (mut offset, mut bytes) = (0, 0);
            // SAFETY: fills two locals; the function is alive; an index past the last parameter is answered by an error.
            match unsafe { ask(function.0, sizes.len(), &mut offset, &mut bytes) } {
                CUresult::CUDA_SUCCESS => sizes.push(bytes),
                _ => return Some(sizes),
            }
        }
    }

    /// Submits a kernel. Its arguments must be the kernel's own, in order; their addresses must be reachable.
    pub(super) fn launch(
        &self,
        stream: RawStream,
        function: RawFunction,
        launch: &Launch,
    ) -> Result<(), DeviceError> {
        let mut addresses: Vec<*mut c_void> = launch.arguments.iter().map(address_of).collect();
        let [x, y, z] = launch.grid;
        // SAFETY: each address is of an argument that outlives the call, which copies them; that they are the kernel's
        // own in number and size was compared before its first launch, where the driver can tell.
        let result = unsafe {
            sys::cuLaunchKernel(
                function.0,
                x,
                y,
                z,
                launch.block,
                1,
                1,
                0,
                stream.0,
                addresses.as_mut_ptr(),
                ptr::null_mut(),
            )
        };
        if result == CUresult::CUDA_SUCCESS {
            return Ok(());
        }
        let Launch { kernel, grid, block, .. } = launch;
        check(format!("cuLaunchKernel({kernel}, grid {grid:?}, block {block})"), result)
    }
}

/// Where an argument's value lies: the driver reads as many bytes from there as the kernel declares.
fn address_of(argument: &Argument) -> *mut c_void {
    match argument {
        Argument::U32(value) => ptr::from_ref(value).cast_mut().cast(),
        Argument::F32(value) => ptr::from_ref(value).cast_mut().cast(),
        Argument::U64(value) | Argument::Pointer(value) => ptr::from_ref(value).cast_mut().cast(),
    }
}

/// Sizes of arguments, in bytes.
pub(super) fn argument_bytes(arguments: &[Argument]) -> Vec<usize> {
    let bytes = |argument: &Argument| match argument {
        Argument::U32(_) | Argument::F32(_) => 4,
        Argument::U64(_) | Argument::Pointer(_) => 8,
    };
    arguments.iter().map(bytes).collect()
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
