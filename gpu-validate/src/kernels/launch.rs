//! One kernel launch as data, and what it moves. It knows no kernel by name.

/// An address on the device, or of mapped host memory as the device sees it. 0 is null.
pub type Address = u64;

/// One argument of a kernel, in the type the kernel declares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// A pointer.
    Pointer(Address),
    /// A 32-bit count or stride.
    U32(u32),
    /// A 64-bit count, seed or time.
    U64(u64),
    /// A number.
    F32(f32),
}

impl Argument {
    /// The argument's letter in a list of kinds: `p`, `i`, `l` or `f`.
    pub const fn kind(self) -> char {
        match self {
            Argument::Pointer(_) => 'p',
            Argument::U32(_) => 'i',
            Argument::U64(_) => 'l',
            Argument::F32(_) => 'f',
        }
    }

    /// The argument's bits, zero-extended.
    pub const fn bits(self) -> u64 {
        match self {
            Argument::Pointer(bits) | Argument::U64(bits) => bits,
            Argument::U32(value) => value as u64,
            Argument::F32(value) => value.to_bits() as u64,
        }
    }
}

/// One kernel launch. Blocks are one-dimensional; no kernel takes dynamic shared memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// The kernel's name in its module.
    pub kernel: &'static str,
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads per block.
    pub block: u32,
    /// In the order the kernel declares them.
    pub arguments: Vec<Argument>,
}

/// What a launch moves and computes, by the module's convention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of inputs, each once.
    pub read_bytes: u64,
    /// Bytes of outputs, each once.
    pub written_bytes: u64,
    /// Bytes of partial results, written once and read once: both are counted.
    pub workspace_bytes: u64,
    /// Floating point operations; a multiplication with an addition counts two.
    pub flops: u64,
}

impl Traffic {
    /// Bytes read and written, partial results apart: what an achieved rate is made from.
    pub const fn bytes(self) -> u64 {
        self.read_bytes + self.written_bytes
    }
}

/// Blocks for a grid-stride kernel: enough threads for `items`, at most `per_sm` blocks on each SM, at least one.
pub(super) fn grid_stride(items: u64, block: u32, sm_count: u32, per_sm: u32) -> u32 {
    let wanted = items.div_ceil(u64::from(block)).max(1);
    u32::try_from(wanted).unwrap_or(u32::MAX).min(sm_count.max(1).saturating_mul(per_sm))
}
