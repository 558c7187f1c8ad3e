//! Runs work and copies on the GPU: slices become addresses, work becomes kernels, copies become calls.

use super::CudaDevice;
use super::batch::{self, Pieces};
use super::driver::{RawStream, argument_bytes};
use super::products::ProductAddresses;
use crate::device::{
    AttentionShape, AttentionWork, CopyApi, CopyWork, DeviceError, DeviceSlice, Direction, FillWith,
    GemmWork, NormWork, RopeWork, Work, sizes,
};
use crate::kernels::attention::{Attention, Heads, Splits};
use crate::kernels::layer::{KvAppend, RmsNorm, Rope, SiluMul};
use crate::kernels::{Launch, memory};

/// Added to the mean square: Llama-3's.
const NORM_EPSILON: f32 = 1e-5;

impl CudaDevice {
    /// Where a slice lies.
    pub(super) fn place(&self, slice: DeviceSlice) -> u64 {
        self.memory.get(slice.buffer().id()).address + slice.offset()
    }

    /// Where a slice lies that kernels read in words of 16 bytes.
    fn words(&self, slice: DeviceSlice) -> u64 {
        let address = self.place(slice);
        assert_words(address);
        address
    }

    /// Submits a kernel, or several.
    pub(super) fn run(&mut self, stream: RawStream, work: &Work) -> Result<(), DeviceError> {
        let rows = sizes::table_of(work).map(|table| self.tables.get(table.0).rows.as_slice());
        sizes::assert_sizes(work, rows.unwrap_or_default());
        let sm_count = self.facts.sm_count;
        match *work {
            Work::Empty => self.launch(stream, &memory::empty()),
            Work::Spin { seconds } => self.launch(stream, &memory::spin((seconds * 1e9).round() as u64)),
            Work::Fill { to, .. } if to.bytes() == 0 => Ok(()),
            Work::Fill { to, with } => self.launch(stream, &self.fill(to, with)),
            Work::Checksum { of, into } => {
                let launch = memory::checksum(self.words(of), of.bytes(), self.place(into), sm_count);
                self.launch(stream, &launch)
            }
            Work::ReadOnly { of, into } => {
                let launch = memory::read_only(self.words(of), of.bytes(), self.place(into), sm_count);
                self.launch(stream, &launch)
            }
            Work::DeviceCopy { from, to } => {
                self.driver.copy_within(stream, self.place(to), self.place(from), from.bytes())
            }
            Work::Gemm(gemm) => self.multiply(stream, &gemm),
            Work::Norm(norm) => self.launch(stream, &self.norm(&norm)),
            Work::Rope(rope) => self.launch(stream, &self.rotation(&rope)?),
            Work::KvAppend(rope) => self.launch(stream, &self.append(&rope)?),
            Work::Attention(attention) => {
                let [split, combine] = self.attention(&attention)?;
                self.launch(stream, &split)?;
                self.launch(stream, &combine)
            }
            Work::SiluMul { rows, width, gate_up, output } => {
                let (gate_up, output) = (self.words(gate_up), self.words(output));
                self.launch(stream, &SiluMul { rows, width, gate_up, output }.launch())
            }
        }
    }

    /// In words of 16 bytes where the place allows it, so that a fill runs at the memory's full rate.
    fn fill(&self, to: DeviceSlice, with: FillWith) -> Launch {
        let (address, bytes, sm_count) = (self.place(to), to.bytes(), self.facts.sm_count);
        match with {
            FillWith::Random { seed, scale } => {
                let aligned = address.is_multiple_of(8);
                assert!(aligned, "Invariant: a random fill begins at a multiple of 8 bytes");
                memory::fill_random(address, bytes / 2, seed, scale, sm_count)
            }
            FillWith::Word(word) if address.is_multiple_of(16) && bytes.is_multiple_of(16) => {
                memory::write_only(address, bytes, word, sm_count)
            }
            FillWith::Word(word) => {
                assert!(address.is_multiple_of(4), "Invariant: a fill begins at a multiple of 4 bytes");
                memory::fill_word(address, bytes / 4, word, sm_count)
            }
        }
    }

    fn norm(&self, work: &NormWork) -> Launch {
        let norm = RmsNorm {
            rows: work.rows,
            hidden: work.width,
            residual: self.words(work.residual),
            delta: work.delta.map(|delta| self.words(delta)),
            weight: self.words(work.weights),
            output: self.words(work.output),
            epsilon: NORM_EPSILON,
        };
        norm.launch()
    }

    fn rotation(&self, work: &RopeWork) -> Result<Launch, DeviceError> {
        let heads = heads_of(work.shape)?;
        let turns = self.turns.get(&work.shape.head_dim).copied();
        let rope = Rope {
            heads,
            batch: work.batch,
            qkv: self.words(work.qkv),
            row_stride: work.shape.qkv_width(),
            token_counts: self.tables.get(work.table.0).tokens,
            turns: turns.expect("Invariant: every size of heads with a kernel has its rotations"),
        };
        Ok(rope.launch())
    }

    fn append(&self, work: &RopeWork) -> Result<Launch, DeviceError> {
        let table = self.tables.get(work.table.0);
        let append = KvAppend {
            heads: heads_of(work.shape)?,
            batch: work.batch,
            qkv: self.words(work.qkv),
            row_stride: work.shape.qkv_width(),
            kv_bases: table.bases,
            token_counts: table.tokens,
        };
        Ok(append.launch())
    }

    /// The split pass and the one that combines. Contexts are cut in equal shares: what the other backends do.
    fn attention(&self, work: &AttentionWork) -> Result<[Launch; 2], DeviceError> {
        let (heads, table) = (heads_of(work.shape)?, self.tables.get(work.table.0));
        let values = self.words(work.workspace);
        let attention = Attention {
            heads,
            batch: work.batch,
            splits: Splits { splits: work.splits, least_tokens: 0 },
            q: self.words(work.qkv),
            row_stride: work.shape.qkv_width(),
            kv_bases: table.bases,
            token_counts: table.tokens,
            partial_values: values,
            partial_stats: values + Attention::values_bytes(heads, work.batch, work.splits),
        };
        Ok([attention.launch(), attention.combine_bf16(self.place(work.output))])
    }

    fn multiply(&mut self, stream: RawStream, work: &GemmWork) -> Result<(), DeviceError> {
        let [weights, input, output] = [work.weights, work.input, work.output].map(|slice| self.place(slice));
        self.first_behind_latch |= self.held && !self.products.has_run(work);
        self.products.submit(&self.driver, stream, work, ProductAddresses { weights, input, output })
    }

    /// Submits one kernel. Before its first launch, its parameters are compared with what it is given.
    pub(super) fn launch(&mut self, stream: RawStream, launch: &Launch) -> Result<(), DeviceError> {
        let kernel = self.kernels.get_mut(launch.kernel);
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
        self.driver.launch(stream, kernel.function, launch)
    }

    /// Submits copies.
    pub(super) fn run_copies(&mut self, stream: RawStream, work: &CopyWork<'_>) -> Result<(), DeviceError> {
        work.assert_inside();
        match work.api {
            CopyApi::Async => self.copy_one_by_one(stream, work),
            CopyApi::Batch | CopyApi::BatchOverlap => {
                if self.host.get(work.host.id()).device_address.is_none() {
                    let reason = "whether a driver takes pageable memory depends on the machine".to_owned();
                    return Err(unsupported("a batch of copies", reason));
                }
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
        let capturing = self.capturing();
        let places = (&self.driver, &mut self.pool, &mut self.arena);
        let list = self.lists.place(places, stream, words, capturing)?;
        let count = pieces.to.len() as u32;
        let copy = memory::GatherCopy {
            sources: list,
            destinations: list + 8 * u64::from(count),
            lengths: list + 16 * u64::from(count),
            pieces: count,
            parts: memory::gather_parts(count, work.bytes() / u64::from(count), blocks),
            blocks,
        };
        self.launch(stream, &copy.launch())
    }

    /// Addresses of all pieces; on the host side the GPU's own for a kernel, the CPU's otherwise.
    fn addresses(&self, work: &CopyWork<'_>, by_kernel: bool) -> Result<Pieces, DeviceError> {
        let host = self.host.get(work.host.id());
        let device = self.memory.get(work.device.id()).address;
        let host = match (by_kernel, host.device_address) {
            (false, _) => host.at(0) as u64,
            (true, Some(address)) => address,
            (true, None) => {
                return Err(unsupported("a gather", "kernels do not reach pageable memory".to_owned()));
            }
        };
        let hosts = work.pieces.iter().map(|piece| host + piece.host_offset).collect::<Vec<_>>();
        let devices = work.pieces.iter().map(|piece| device + piece.device_offset).collect::<Vec<_>>();
        if by_kernel {
            hosts.iter().chain(&devices).for_each(|address| assert_words(*address));
        }
        let bytes = work.pieces.iter().map(|piece| piece.bytes as usize).collect();
        Ok(match work.direction {
            Direction::H2d => Pieces { to: devices, from: hosts, bytes },
            Direction::D2h => Pieces { to: hosts, from: devices, bytes },
        })
    }
}

/// The kernel of these heads.
fn heads_of(shape: AttentionShape) -> Result<Heads, DeviceError> {
    Heads::new(shape.heads, shape.kv_heads, shape.head_dim).ok_or_else(|| {
        let AttentionShape { heads, kv_heads, head_dim } = shape;
        unsupported(
            "attention",
            format!("no kernel for {heads} heads, {kv_heads} KV heads of {head_dim} elements"),
        )
    })
}

fn assert_words(address: u64) {
    assert!(address.is_multiple_of(16), "Invariant: kernels read 16-byte words from multiples of 16 bytes");
}

fn unsupported(what: &str, reason: String) -> DeviceError {
    DeviceError::Unsupported { what: what.to_owned(), reason }
}
