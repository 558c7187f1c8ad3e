//! Where one run of a point puts its work: a stream, with a count of the operations that went in.
//!
//! The count bounds what stands behind a closed latch. It is an upper estimate of places in the driver's launch queue:
//! a copy call takes one place per piece, a matrix product or an attention two kernels, a graph one per node. Too many
//! costs nothing but a longer interval; too few could block the thread that must open the latch.

use crate::device::{CopyApi, CopyWork, Device, DeviceError, Event, Graph, Stream, Work};

/// A stream of a device, with a count of what was put into it.
pub struct Queue<'d> {
    device: &'d mut dyn Device,
    stream: Stream,
    operations: usize,
}

impl<'d> Queue<'d> {
    /// Nothing put in yet.
    pub fn new(device: &'d mut dyn Device, stream: Stream) -> Self {
        Queue { device, stream, operations: 0 }
    }

    /// The stream.
    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// Operations put in so far, in places of the launch queue.
    pub fn operations(&self) -> usize {
        self.operations
    }

    /// Submits a kernel.
    ///
    /// # Errors
    /// The device's.
    pub fn submit(&mut self, work: &Work) -> Result<(), DeviceError> {
        self.operations += operations_of(work);
        self.device.submit(self.stream, work)
    }

    /// Submits copies.
    ///
    /// # Errors
    /// The device's.
    pub fn copy(&mut self, work: &CopyWork<'_>) -> Result<(), DeviceError> {
        self.operations += operations_of_copy(work);
        self.device.copy(self.stream, work)
    }

    /// Submits a graph of `nodes` nodes.
    ///
    /// # Errors
    /// The device's.
    pub fn launch(&mut self, graph: Graph, nodes: usize) -> Result<(), DeviceError> {
        self.operations += nodes;
        self.device.launch(self.stream, graph)
    }

    /// Marks this point of `stream`, which may be another than the queue's.
    ///
    /// # Errors
    /// The device's.
    pub fn record_in(&mut self, stream: Stream, event: Event) -> Result<(), DeviceError> {
        self.operations += 1;
        self.device.record(stream, event)
    }

    /// What follows in `stream`, which may be another than the queue's, waits for `event`.
    ///
    /// # Errors
    /// The device's.
    pub fn wait_in(&mut self, stream: Stream, event: Event) -> Result<(), DeviceError> {
        self.operations += 1;
        self.device.wait(stream, event)
    }
}

fn operations_of(work: &Work) -> usize {
    match work {
        Work::Gemm(_) | Work::Attention(_) | Work::ReadOnly { .. } => 2,
        _ => 1,
    }
}

fn operations_of_copy(work: &CopyWork<'_>) -> usize {
    match work.api {
        CopyApi::Async | CopyApi::Batch | CopyApi::BatchOverlap => work.pieces.len(),
        CopyApi::SmGather { .. } => 2, // its list of pieces, then the kernel
    }
}
