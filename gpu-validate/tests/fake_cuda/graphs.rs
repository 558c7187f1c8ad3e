//! Captured work: the same bytes as when it is submitted, forks and joins included, and captures that cannot be.

use gpu_validate::device::cuda::CudaDevice;
use gpu_validate::device::{
    CopyApi, CopyPiece, CopyWork, Device, DeviceBuffer, DeviceError, Direction, Event, FillWith, GemmWork,
    HostBuffer, HostMemory, Stream, Work,
};

use super::child::scenario;
use super::data::{noise, poisoned, random};

const BYTES: u64 = 4096;

/// Two streams: one copies pieces in, the other waits for them, multiplies and copies on.
struct Step {
    compute: Stream,
    copies: Stream,
    begun: Event,
    copied: Event,
    host: HostBuffer,
    slot: DeviceBuffer,
    result: DeviceBuffer,
    product: GemmWork,
}

fn step(device: &mut CudaDevice) -> Step {
    let (compute, copies) = (device.stream().expect("a stream"), device.stream().expect("a stream"));
    let host = device.alloc_host(BYTES, HostMemory::Pinned).expect("host memory");
    let [slot, result] = [(); 2].map(|()| poisoned(device, compute, BYTES));
    let (weights, _) = random(device, 64 * 32, 1, 0.5);
    let (input, _) = random(device, 4 * 32, 2, 0.5);
    let output = poisoned(device, compute, 2 * 4 * 64);
    let [weights, input, output] = [weights, input, output].map(DeviceBuffer::all);
    let product = GemmWork { rows: 4, out: 64, inner: 32, weights, input, output };
    let (begun, copied) = (device.event().expect("an event"), device.event().expect("an event"));
    Step { compute, copies, begun, copied, host, slot, result, product }
}

fn submit(device: &mut CudaDevice, step: &Step, api: CopyApi) -> Result<(), DeviceError> {
    let pieces =
        [0, 1024, 2048, 3072].map(|at| CopyPiece { host_offset: at, device_offset: at, bytes: 1024 });
    device.record(step.compute, step.begun)?;
    device.wait(step.copies, step.begun)?;
    let work =
        CopyWork { direction: Direction::H2d, api, host: step.host, device: step.slot, pieces: &pieces };
    device.copy(step.copies, &work)?;
    device.record(step.copies, step.copied)?;
    device.submit(step.compute, &Work::Gemm(step.product))?;
    device.wait(step.compute, step.copied)?;
    device.submit(step.compute, &Work::DeviceCopy { from: step.slot.all(), to: step.result.all() })
}

#[test]
fn a_captured_step_gives_the_bytes_of_a_submitted_one_at_every_launch() {
    for seed in [0, 1, 2, 3] {
        let ended = scenario("step").seed(seed).succeeds(|device| {
            for api in [CopyApi::Async, CopyApi::SmGather { blocks: 3 }] {
                let step = step(device);
                device.write_host(step.host.all(), &noise(BYTES, 1)).expect("written");
                submit(device, &step, api).expect("submitted");
                let product = device.read(step.product.output).expect("read");
                assert!(device.read(step.result.all()).expect("read") == noise(BYTES, 1), "{api:?}");
                device.begin_capture(step.compute).expect("begun");
                submit(device, &step, api).expect("captured");
                let graph = device.end_capture(step.compute).expect("joined");
                for round in 2..5 {
                    device.write_host(step.host.all(), &noise(BYTES, round)).expect("written");
                    let with = FillWith::Word(0x7fc0_7fc0);
                    device
                        .submit(step.compute, &Work::Fill { to: step.product.output, with })
                        .expect("submitted");
                    device.launch(step.compute, graph).expect("launched");
                    device.launch(step.copies, graph).expect("twice at once: one after the other");
                    assert!(device.read(step.result.all()).expect("read") == noise(BYTES, round), "{api:?}");
                    assert_eq!(device.read(step.product.output).expect("read"), product, "bit for bit");
                }
            }
        });
        if let Some(ended) = ended {
            assert_eq!((ended.counts["graphs"], ended.counts["graph launches"]), (2, 12));
        }
    }
}

#[test]
fn a_batch_in_a_capture_works_where_the_driver_takes_it_and_is_waived_where_not() {
    for (answer, taken) in [("taken", true), ("refused", false)] {
        scenario(answer).set("FAKE_CUDA_BATCH_IN_CAPTURE", answer).succeeds(move |device| {
            let step = step(device);
            device.write_host(step.host.all(), &noise(BYTES, 1)).expect("written");
            device.begin_capture(step.compute).expect("begun");
            let captured = submit(device, &step, CopyApi::Batch);
            let graph = device.end_capture(step.compute);
            if taken {
                captured.expect("captured");
                device.launch(step.compute, graph.expect("a graph")).expect("launched");
            } else {
                assert!(captured.expect_err("refused").is_waived());
                assert!(graph.expect_err("the capture is broken").is_waived());
                submit(device, &step, CopyApi::Batch).expect("the streams work on");
            }
            assert!(device.read(step.result.all()).expect("read") == noise(BYTES, 1));
        });
    }
}

#[test]
fn a_stream_that_was_not_joined_back_is_an_error_and_the_device_goes_on() {
    scenario("unjoined").succeeds(|device| {
        let step = step(device);
        device.begin_capture(step.compute).expect("begun");
        device.record(step.compute, step.begun).expect("captured");
        device.wait(step.copies, step.begun).expect("joins the capture");
        device.submit(step.copies, &Work::Empty).expect("captured");
        let error = device.end_capture(step.compute).expect_err("the second stream was not joined");
        assert!(error.to_string().contains("STREAM_CAPTURE_UNJOINED"), "{error}");
        device.write_host(step.host.all(), &noise(BYTES, 5)).expect("written");
        submit(device, &step, CopyApi::Async).expect("submitted");
        assert!(device.read(step.result.all()).expect("read") == noise(BYTES, 5));
    });
}

#[test]
fn what_a_capture_does_not_allow_ends_it_and_is_waived() {
    type Forbidden = fn(&mut CudaDevice, &Step) -> Result<(), DeviceError>;
    let forbidden: [(&str, Forbidden); 6] = [
        ("memory", |device, _| device.alloc(64).map(drop)),
        ("host memory", |device, _| device.alloc_host(64, HostMemory::Pinned).map(drop)),
        ("waiting", |device, _| device.synchronize()),
        ("reading", |device, step| device.read(step.slot.all()).map(drop)),
        ("writing", |device, step| device.write(step.slot.slice(0, 4), &[0; 4])),
        ("a table", |device, _| device.kv_table(&[]).map(drop)),
    ];
    scenario("forbidden").succeeds(move |device| {
        let step = step(device);
        for (what, forbidden) in forbidden {
            device.begin_capture(step.compute).expect("begun");
            device.submit(step.compute, &Work::Empty).expect("captured");
            let error = forbidden(device, &step).expect_err(what);
            assert!(error.is_waived(), "{what}: {error}");
            assert!(device.end_capture(step.compute).expect_err(what).is_waived());
            device.synchronize().unwrap_or_else(|error| panic!("after {what}: {error}"));
        }
    });
}

#[test]
fn an_event_from_outside_a_capture_cannot_be_waited_for_in_it() {
    scenario("isolation").succeeds(|device| {
        let step = step(device);
        device.record(step.copies, step.begun).expect("submitted");
        device.begin_capture(step.compute).expect("begun");
        let error = device.wait(step.compute, step.begun).expect_err("it was recorded outside");
        assert!(error.to_string().contains("STREAM_CAPTURE_ISOLATION"), "{error}");
        assert!(device.end_capture(step.compute).is_err());
        device.synchronize().expect("goes on");
    });
}
