//! Calls of the driver that order work and tell its time: streams, events, captured graphs.

use std::ptr;

use cudarc::driver::sys;

use super::{Driver, check};
use crate::device::DeviceError;

/// An in-order queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::device::cuda) struct RawStream(pub(in crate::device::cuda) sys::CUstream);

/// A point in a stream, with a time.
#[derive(Clone, Copy)]
pub(in crate::device::cuda) struct RawEvent(sys::CUevent);

/// A captured graph, made ready to launch.
#[derive(Clone, Copy)]
pub(in crate::device::cuda) struct RawGraph {
    graph: sys::CUgraph,
    ready: sys::CUgraphExec,
}

impl Driver {
    /// A stream that does not wait for the legacy default stream.
    pub(in crate::device::cuda) fn stream(&self) -> Result<RawStream, DeviceError> {
        let mut stream = ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: fills a local.
        unsafe { check("cuStreamCreate", sys::cuStreamCreate(&mut stream, flags))? };
        Ok(RawStream(stream))
    }

    /// Ends a stream.
    pub(in crate::device::cuda) fn destroy_stream(&self, stream: RawStream) -> Result<(), DeviceError> {
        // SAFETY: the stream came from `stream` and its owner hands it over once.
        unsafe { check("cuStreamDestroy", sys::cuStreamDestroy_v2(stream.0)) }
    }

    /// An event with a time.
    pub(in crate::device::cuda) fn event(&self) -> Result<RawEvent, DeviceError> {
        let mut event = ptr::null_mut();
        let flags = sys::CUevent_flags::CU_EVENT_DEFAULT as u32;
        // SAFETY: fills a local.
        unsafe { check("cuEventCreate", sys::cuEventCreate(&mut event, flags))? };
        Ok(RawEvent(event))
    }

    /// Ends an event.
    pub(in crate::device::cuda) fn destroy_event(&self, event: RawEvent) -> Result<(), DeviceError> {
        // SAFETY: the event came from `event` and its owner hands it over once.
        unsafe { check("cuEventDestroy", sys::cuEventDestroy_v2(event.0)) }
    }

    /// Marks this point of `stream`.
    pub(in crate::device::cuda) fn record(
        &self,
        stream: RawStream,
        event: RawEvent,
    ) -> Result<(), DeviceError> {
        // SAFETY: both handles are alive.
        unsafe { check("cuEventRecord", sys::cuEventRecord(event.0, stream.0)) }
    }

    /// Makes what follows in `stream` wait for `event`.
    pub(in crate::device::cuda) fn wait(
        &self,
        stream: RawStream,
        event: RawEvent,
    ) -> Result<(), DeviceError> {
        // SAFETY: both handles are alive.
        unsafe { check("cuStreamWaitEvent", sys::cuStreamWaitEvent(stream.0, event.0, 0)) }
    }

    /// Seconds between two events that were recorded and waited for.
    pub(in crate::device::cuda) fn elapsed_s(
        &self,
        from: RawEvent,
        to: RawEvent,
    ) -> Result<f64, DeviceError> {
        let mut milliseconds = 0.0_f32;
        // SAFETY: fills a local; both handles are alive.
        unsafe { check("cuEventElapsedTime", (self.elapsed_time)(&mut milliseconds, from.0, to.0))? };
        Ok(f64::from(milliseconds) / 1e3)
    }

    /// Begins to capture; calls of this thread that would break a capture are refused by the driver meanwhile.
    pub(in crate::device::cuda) fn begin_capture(&self, stream: RawStream) -> Result<(), DeviceError> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the handle is alive.
        unsafe { check("cuStreamBeginCapture", sys::cuStreamBeginCapture_v2(stream.0, mode)) }
    }

    /// Ends a capture, makes it ready and uploads it.
    pub(in crate::device::cuda) fn end_capture(&self, stream: RawStream) -> Result<RawGraph, DeviceError> {
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
    pub(in crate::device::cuda) fn abandon_capture(&self, stream: RawStream) {
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
    pub(in crate::device::cuda) fn launch_graph(
        &self,
        stream: RawStream,
        graph: RawGraph,
    ) -> Result<(), DeviceError> {
        // SAFETY: both handles are alive.
        unsafe { check("cuGraphLaunch", sys::cuGraphLaunch(graph.ready, stream.0)) }
    }

    /// Ends a graph.
    pub(in crate::device::cuda) fn destroy_graph(&self, graph: RawGraph) -> Result<(), DeviceError> {
        // SAFETY: both handles came from `end_capture` and their owner hands them over once.
        unsafe {
            check("cuGraphExecDestroy", sys::cuGraphExecDestroy(graph.ready))?;
            check("cuGraphDestroy", sys::cuGraphDestroy(graph.graph))
        }
    }
}
