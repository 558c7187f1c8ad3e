//! Copies by `cuMemcpyBatchAsync`, with what is known of its traps (`gpu-measurement.md` §0, item 6): never in the legacy
//! default stream, at most 4,096 pieces a call, and as many indices of attributes as pieces although one is used.
//!
//! The source is read in stream order: the order that allows any time is unsafe for copies from the GPU right after
//! compute. Knows no buffers.

use cudarc::driver::sys::{
    self, CUmemLocation, CUmemLocationType_enum, CUmemcpyAttributes, CUmemcpyFlags_enum,
    CUmemcpySrcAccessOrder_enum,
};

use super::driver::{Driver, RawStream, check};
use crate::device::{DeviceError, Direction};

/// The most pieces of one call: 51,828 hung a driver.
const MOST_PIECES: usize = 4096;

/// Addresses and sizes of pieces.
pub(super) struct Pieces {
    pub(super) to: Vec<u64>,
    pub(super) from: Vec<u64>,
    pub(super) bytes: Vec<usize>,
}

/// Starts the copies. `overlap` asks the driver to keep them off the multiprocessors.
pub(super) fn copy(
    driver: &Driver,
    stream: RawStream,
    direction: Direction,
    overlap: bool,
    pieces: &mut Pieces,
) -> Result<(), DeviceError> {
    if !driver.has_batch_copies {
        return Err(DeviceError::Unsupported {
            what: "copies in a batch".to_owned(),
            reason: "this driver has no `cuMemcpyBatchAsync_v2`; hint: CUDA 13 has it".to_owned(),
        });
    }
    let mut attributes = attributes(driver, direction, overlap);
    let chunks = (pieces.to.chunks_mut(MOST_PIECES))
        .zip(pieces.from.chunks_mut(MOST_PIECES))
        .zip(pieces.bytes.chunks_mut(MOST_PIECES));
    for ((to, from), bytes) in chunks {
        let mut first_pieces = vec![0_usize; to.len()];
        // SAFETY: four arrays of `to.len()` elements and one attribute, all read during the call; the pieces lie within
        // buffers that the caller checked and that live until the stream has been waited for.
        let result = unsafe {
            sys::cuMemcpyBatchAsync_v2(
                to.as_mut_ptr(),
                from.as_mut_ptr(),
                bytes.as_mut_ptr(),
                to.len(),
                &mut attributes,
                first_pieces.as_mut_ptr(),
                1,
                stream.0,
            )
        };
        check(format!("cuMemcpyBatchAsync({} pieces)", to.len()), result)?;
    }
    Ok(())
}

fn attributes(driver: &Driver, direction: Direction, overlap: bool) -> CUmemcpyAttributes {
    let host = CUmemLocation { type_: CUmemLocationType_enum::CU_MEM_LOCATION_TYPE_HOST, id: 0 };
    let device =
        CUmemLocation { type_: CUmemLocationType_enum::CU_MEM_LOCATION_TYPE_DEVICE, id: driver.ordinal() };
    let (from, to) = match direction {
        Direction::H2d => (host, device),
        Direction::D2h => (device, host),
    };
    let flags = if overlap {
        CUmemcpyFlags_enum::CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE
    } else {
        CUmemcpyFlags_enum::CU_MEMCPY_FLAG_DEFAULT
    };
    CUmemcpyAttributes {
        srcAccessOrder: CUmemcpySrcAccessOrder_enum::CU_MEMCPY_SRC_ACCESS_ORDER_STREAM,
        srcLocHint: from,
        dstLocHint: to,
        flags: flags as u32,
    }
}
