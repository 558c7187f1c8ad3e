//! Runs work and copies on the GPU: slices become addresses, work becomes kernels, copies become calls.

use super::batch::{self, Pieces};
use super::driver::{RawStream, argument_bytes};
use super::launches::{
    self, AttentionAddresses, Launch, NormAddresses, TableAddresses, address, read_only_scratch_bytes,
};
use super::products::ProductAddresses;
use super::CudaDevice;
use crate::device::{
    AttentionWork, CopyApi, CopyWork, DeviceError, DeviceSlice, Direction, GemmWork, KvTable, RopeWork, Work, sizes,
};

impl CudaDevice {
    /// Where a slice lies.
    pub(super) fn place(&self, slice: DeviceSlice) -> u64 {
        address(self.memory.get(slice.buffer().id()).address, slice)
    }

    /// Submits a kernel, or several.
    pub(super) fn run(&mut self, stream: RawStream, work: &Work) -> Result<(), DeviceError> {
        let rows = sizes::table_of(work).map(|table| self.tables.get(table.0).rows.as_slice());
        sizes::assert_sizes(work, rows.unwrap_or_default());
        let sm_count = self.facts.sm_count;
        match *work {
            Work::Empty => self.launch(stream, launches::empty()),
            Work::Spin { seconds } => self.launch(stream, launches::spin(seconds)),
            Work::Fill { to, .. } if to.bytes() == 0 => Ok(()),
            Work::Fill { to, with } => {
                self.launch(stream, launches::fill(self.place(to), to.bytes(), with, sm_count))
            }
            Work::Checksum { of, into } => {
                self.launch(stream, launches::checksum(self.place(of), of.bytes(), self.place(into), sm_count))
            }
            Work::ReadOnly { of, into } => {
                let (of_at, into) = (self.place(of), self.place(into));
                let [read, fold] = launches::read_only(of_at, of.bytes(), self.scratch, into, sm_count);
                self.launch(stream, read)?;
                self.launch(stream, fold)
            }
            Work::DeviceCopy { from, to } => {
                self.driver.copy_within(stream, self.place(to), self.place(from), from.bytes())
            }
            Work::Gemm(gemm) => self.multiply(stream, &gemm),
            Work::Norm(norm) => {
                let delta = norm.delta.map_or(0, |delta| self.place(delta));
                let [residual, weights, output] =
                    [norm.residual, norm.weights, norm.output].map(|slice| self.place(slice));
                let at = NormAddresses { residual, delta, weights, output };
                self.launch(stream, launches::norm(&norm, &at))
            }
            Work::Rope(rope) => self.rotate(stream, &rope),
            Work::KvAppend(rope) => {
                let table = self.table(rope.table);
                self.launch(stream, launches::kv_append(&rope, self.place(rope.qkv), table))
            }
            Work::Attention(attention) => self.attend(stream, &attention),
            Work::SiluMul { rows, width, gate_up, output } => {
                let [gate_up, output] = [gate_up, output].map(|slice| self.place(slice));
                self.launch(stream, launches::silu_mul(rows, width, gate_up, output))
            }
        }
    }

    fn table(&self, table: KvTable) -> TableAddresses {
        self.tables.get(table.0).at
    }

    fn multiply(&mut self, stream: RawStream, work: &GemmWork) -> Result<(), DeviceError> {
        let [weights, input, output] =
            [work.weights, work.input, work.output].map(|slice| self.place(slice));
        self.first_behind_latch |= self.held && !self.products.has_run(work);
        self.products.submit(&self.driver, stream, work, ProductAddresses { weights, input, output })
    }

    fn rotate(&mut self, stream: RawStream, work: &RopeWork) -> Result<(), DeviceError> {
        let Some(turns) = self.turns.get(&work.shape.head_dim).copied() else {
            return Err(unsupported("a rotary embedding", format!("head_dim {}", work.shape.head_dim)));
        };
        self.launch(stream, launches::rope(work, self.place(work.qkv), self.table(work.table), turns))
    }

    fn attend(&mut self, stream: RawStream, work: &AttentionWork) -> Result<(), DeviceError> {
        let Some(kernel) = self.attention.iter().find(|kernel| kernel.fits(work.shape)) else {
            let (group, head_dim) = (work.shape.group(), work.shape.head_dim);
            return Err(unsupported("attention", format!("{group} query heads per KV head of {head_dim} elements")));
        };
        let at = AttentionAddresses {
            qkv: self.place(work.qkv),
            workspace: self.place(work.workspace),
            output: self.place(work.output),
        };
        let [split, combine] = launches::attention(kernel, work, &at, self.table(work.table));
        self.launch(stream, split)?;
        self.launch(stream, combine)
    }

    /// Submits one kernel. At its first launch, its parameters are compared with what it is given.
    pub(super) fn launch(&mut self, stream: RawStream, launch: Launch) -> Result<(), DeviceError> {
        let kernel = self.kernels.get_mut(launch.kernel.as_str());
        let kernel = kernel.unwrap_or_else(|| panic!("Invariant: kernel {} was loaded", launch.kernel));
        if !kernel.compared {
            let given = argument_bytes(&launch.arguments);
            if let Some(own) = self.driver.parameter_bytes(kernel.function)
                && own != given
            {
                return Err(DeviceError::Failed {
                    what: format!("launching {}", launch.kernel),
                    message: format!("its parameters take {own:?} bytes, it is given {given:?}"),
                });
            }
            kernel.compared = true;
        }
        self.driver.launch(stream, kernel.function, &launch.kernel, launch.shape, &launch.arguments)
    }

    /// Submits copies.
    pub(super) fn run_copies(&mut self, stream: RawStream, work: &CopyWork<'_>) -> Result<(), DeviceError> {
        work.assert_inside();
        match work.api {
            CopyApi::Async => self.copy_one_by_one(stream, work),
            CopyApi::Batch | CopyApi::BatchOverlap => {
                let mut pieces = self.addresses(work, false)?;
                let overlap = work.api == CopyApi::BatchOverlap;
                batch::copy(&self.driver, stream, work.direction, overlap, &mut pieces)
            }
            CopyApi::SmGather { blocks } => self.gather(stream, work, blocks),
        }
    }

    fn copy_one_by_one(&self, stream: RawStream, work: &CopyWork<'_>) -> Result<(), DeviceError> {
        let host = self.host.get(work.host.id());
        let device = self.memory.get(work.device.id()).address;
        for piece in work.pieces {
            let (host, device) = (host.at(piece.host_offset), device + piece.device_offset);
            match work.direction {
                Direction::H2d => self.driver.copy_to_device(stream, device, host, piece.bytes)?,
                Direction::D2h => self.driver.copy_to_host(stream, host, device, piece.bytes)?,
            }
        }
        Ok(())
    }

    fn gather(&mut self, stream: RawStream, work: &CopyWork<'_>, blocks: u32) -> Result<(), DeviceError> {
        assert!(blocks > 0, "Invariant: a gather has at least one thread block");
        let pieces = self.addresses(work, true)?;
        let lengths = pieces.bytes.iter().map(|bytes| *bytes as u64);
        let words: Vec<u64> = pieces.from.iter().chain(&pieces.to).copied().chain(lengths).collect();
        let places = (&self.driver, &mut self.pool, &mut self.arena);
        let list = self.lists.place(places, stream, words, self.capture.is_some())?;
        self.launch(stream, launches::gather(list, pieces.to.len() as u32, blocks))
    }

    /// Addresses of all pieces; on the host side the GPU's own for a kernel, the CPU's otherwise.
    fn addresses(&self, work: &CopyWork<'_>, by_kernel: bool) -> Result<Pieces, DeviceError> {
        let host = self.host.get(work.host.id());
        let device = self.memory.get(work.device.id()).address;
        let host = match (by_kernel, host.device_address) {
            (false, _) => host.at(0) as u64,
            (true, Some(address)) => address,
            (true, None) => return Err(unsupported("a gather", "kernels do not reach pageable memory".to_owned())),
        };
        let hosts = work.pieces.iter().map(|piece| host + piece.host_offset).collect::<Vec<_>>();
        let devices = work.pieces.iter().map(|piece| device + piece.device_offset).collect::<Vec<_>>();
        if by_kernel {
            hosts.iter().zip(&devices).for_each(|(host, device)| launches::assert_gatherable(*host, *device));
        }
        let bytes = work.pieces.iter().map(|piece| piece.bytes as usize).collect();
        Ok(match work.direction {
            Direction::H2d => Pieces { to: devices, from: hosts, bytes },
            Direction::D2h => Pieces { to: hosts, from: devices, bytes },
        })
    }

    /// Scratch of the reading kernel, in bytes.
    pub(super) fn scratch_bytes(sm_count: u32) -> u64 {
        read_only_scratch_bytes(sm_count)
    }
}

fn unsupported(what: &str, reason: String) -> DeviceError {
    DeviceError::Unsupported { what: what.to_owned(), reason: format!("no kernel for it: {reason}") }
}
