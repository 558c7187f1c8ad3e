//! What a driver may answer becomes a `DeviceError` with the call in it, and never a panic.

use std::any::type_name_of_val;
use std::path::PathBuf;

use gpu_validate::device::cuda::CudaDevice;
use gpu_validate::device::{
    CopyApi, CopyPiece, CopyWork, Device, DeviceError, Direction, HostMemory, POISON, Work,
};

use super::child::{scenario, try_open};
use super::data::poisoned;

/// The driver's failures begin when this path exists.
const ARMED: &str = "FAKE_CUDA_FAIL_FROM";

const OPENING: [&str; 17] = [
    "cuInit",
    "cuDeviceGet",
    "cuDevicePrimaryCtxRetain",
    "cuCtxSetCurrent",
    "cuDeviceGetName",
    "cuDeviceGetUuid_v2",
    "cuDeviceGetPCIBusId",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuMemGetInfo_v2",
    "cuModuleLoadData",
    "cuModuleGetFunction",
    "cuFuncLoad",
    "cuFuncGetAttribute",
    "cuMemAlloc_v2",
    "cuMemcpyHtoD_v2",
    "cublasCreate_v2",
];

#[test]
fn every_call_that_fails_while_a_device_is_opened_is_one_line() {
    // 999 is CUDA_ERROR_UNKNOWN. `preflight` itself makes the first calls of four of them.
    let first = |call: &str| match call {
        "cuInit" | "cuDeviceGet" | "cuDeviceGetName" | "cuDriverGetVersion" => 2,
        _ => 1,
    };
    for call in OPENING {
        let fails = format!("{call}@{}=999", first(call));
        let steps = || {
            let error = try_open().err().expect("the call fails");
            let line = error.to_string();
            assert_eq!(line.lines().count(), 1, "{line}");
            println!("LINE={line}");
        };
        let name = type_name_of_val(&steps);
        let ended = scenario(call).set("FAKE_CUDA_FAIL", fails).run_without_device(steps, name);
        let Some(ended) = ended else { continue };
        assert!(ended.succeeded, "{call}:\n{}", ended.said);
        let line = ended.said.lines().find_map(|line| line.split("LINE=").nth(1)).expect("said");
        assert!(line.contains(call.trim_end_matches("_v2")), "{call}: {line}");
    }
}

/// One round of everything that an experiment does. Host memory is kept for the next one of about the same size.
fn round(device: &mut CudaDevice, host_bytes: u64) -> Result<(), DeviceError> {
    let (stream, event) = (device.stream()?, device.event()?);
    let host = device.alloc_host(host_bytes, HostMemory::Pinned)?;
    let registered = device.alloc_host(host_bytes, HostMemory::RegisteredHugePages)?;
    let buffer = device.alloc(4096)?;
    let latch = device.latch()?;
    let pieces = [CopyPiece { host_offset: 0, device_offset: 0, bytes: 4096 }];
    device.hold(stream, latch)?;
    for api in [CopyApi::Async, CopyApi::Batch, CopyApi::SmGather { blocks: 1 }] {
        for direction in [Direction::H2d, Direction::D2h] {
            device.copy(stream, &CopyWork { direction, api, host, device: buffer, pieces: &pieces })?;
        }
    }
    let work = CopyWork {
        direction: Direction::H2d,
        api: CopyApi::Async,
        host: registered,
        device: buffer,
        pieces: &pieces,
    };
    device.copy(stream, &work)?;
    device.record(stream, event)?;
    device.wait(stream, event)?;
    device.release(latch)?;
    device.synchronize()?;
    device.begin_capture(stream)?;
    device.submit(stream, &Work::Fill { to: buffer.all(), with: POISON })?;
    device.submit(stream, &Work::DeviceCopy { from: buffer.slice(0, 64), to: buffer.slice(64, 64) })?;
    let graph = device.end_capture(stream)?;
    device.launch(stream, graph)?;
    device.read(buffer.all())?;
    device.elapsed_s(event, event)?;
    device.free_all()
}

const RUNNING: [&str; 27] = [
    "cuStreamCreate",
    "cuEventCreate",
    "cuMemHostAlloc",
    "cuMemHostRegister_v2",
    "cuMemHostGetDevicePointer_v2",
    "cuMemAlloc_v2",
    "cuLaunchKernel",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyBatchAsync_v2",
    "cuEventRecord",
    "cuStreamWaitEvent",
    "cuCtxSynchronize",
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags",
    "cuGraphUpload",
    "cuGraphLaunch",
    "cuMemcpyDtoH_v2",
    "cuEventElapsedTime_v2",
    "cuGraphExecDestroy",
    "cuGraphDestroy",
    "cuEventDestroy_v2",
    "cuStreamDestroy_v2",
    "cuMemFree_v2",
    "kernel:gather_copy",
];

#[test]
fn every_call_that_fails_later_becomes_an_error_and_never_a_panic() {
    for call in RUNNING {
        let armed = tempfile::tempdir().expect("a folder").path().join("armed");
        let armed = std::env::var_os(ARMED).map_or(armed, PathBuf::from);
        let fails = scenario(call).set("FAKE_CUDA_FAIL", format!("{call}=719")).set(ARMED, armed.display());
        let ended = fails.run(|device| {
            round(device, 4096).expect("nothing fails yet");
            std::fs::create_dir_all(&armed).expect("a folder");
            let error = round(device, 16 << 20).expect_err("a call fails");
            println!("LINE={error}");
        });
        let Some(ended) = ended else { continue };
        assert!(ended.succeeded && !ended.said.contains("panicked"), "{call}:\n{}", ended.said);
        let line = ended.said.lines().find_map(|line| line.split("LINE=").nth(1)).expect("said");
        assert!(line.contains("CUDA_ERROR_LAUNCH_FAILED (719)"), "{call}: {line}");
        let named = call.trim_end_matches("_v2").trim_end_matches("WithFlags");
        assert!(call.starts_with("kernel:") || line.contains(named), "{call}: {line}");
    }
}

#[test]
fn too_little_memory_is_said_with_numbers_on_both_sides() {
    scenario("little").set("FAKE_CUDA_MEMORY", 256 << 20).succeeds(|device| {
        let free = match device.alloc(1 << 40) {
            Err(DeviceError::OutOfMemory { asked, free, .. }) if asked == 1 << 40 => free,
            other => panic!("{other:?}"),
        };
        assert!((1..256 << 20).contains(&free), "{free}");
        let host = device.alloc_host(1 << 50, HostMemory::Pinned);
        assert!(matches!(host, Err(DeviceError::OutOfMemory { .. })), "{host:?}");
        poison_and_read(device);
    });
}

#[test]
fn a_kernels_fault_is_the_answer_of_every_later_call() {
    let ended = scenario("fault").set("FAKE_CUDA_FAIL", "kernel:fill_word@2=700").run(|device| {
        let stream = device.stream().expect("a stream");
        let buffer = poisoned(device, stream, 20);
        device.synchronize().expect("the first fill runs");
        device.submit(stream, &Work::Fill { to: buffer.all(), with: POISON }).expect("submitted");
        for error in [device.synchronize().err(), device.read(buffer.all()).err(), device.alloc(8).err()] {
            let line = error.expect("the driver keeps the error").to_string();
            assert!(line.contains("CUDA_ERROR_ILLEGAL_ADDRESS (700)"), "{line}");
        }
    });
    if let Some(ended) = ended {
        assert!(ended.succeeded, "{}", ended.said);
    }
}

fn poison_and_read(device: &mut CudaDevice) {
    let stream = device.stream().expect("a stream");
    let buffer = poisoned(device, stream, 64);
    assert_eq!(device.read(buffer.all()).expect("read"), [0xc0, 0x7f].repeat(32));
}
