//! Handles of device and host memory. A slice is checked against its buffer when it is made.

/// How host memory was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostMemory {
    /// Page-locked, cached by the CPU: what serving engines use.
    Pinned,
    /// Page-locked and write-combined: the CPU reads it very slowly.
    PinnedWriteCombined,
    /// Ordinary memory.
    Pageable,
    /// Mapped with huge pages, then registered with the driver.
    RegisteredHugePages,
}

impl HostMemory {
    /// The word used in files.
    pub const fn key(self) -> &'static str {
        match self {
            HostMemory::Pinned => "pinned",
            HostMemory::PinnedWriteCombined => "pinned-write-combined",
            HostMemory::Pageable => "pageable",
            HostMemory::RegisteredHugePages => "registered-huge-pages",
        }
    }
}

macro_rules! memory {
    ($buffer:ident, $slice:ident, $side:literal) => {
        #[doc = concat!($side, " memory.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $buffer {
            id: u32,
            bytes: u64,
        }

        #[doc = concat!("A part of a buffer of ", $side, " memory.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $slice {
            buffer: $buffer,
            offset: u64,
            bytes: u64,
        }

        impl $buffer {
            pub(in crate::device) const fn new(id: u32, bytes: u64) -> Self {
                $buffer { id, bytes }
            }

            pub(in crate::device) const fn id(self) -> u32 {
                self.id
            }

            /// Its size.
            pub const fn bytes(self) -> u64 {
                self.bytes
            }

            /// All of it.
            pub const fn all(self) -> $slice {
                $slice { buffer: self, offset: 0, bytes: self.bytes }
            }

            /// `bytes` bytes from `offset`. Panics if they are not all inside.
            pub fn slice(self, offset: u64, bytes: u64) -> $slice {
                let inside = offset.checked_add(bytes).is_some_and(|end| end <= self.bytes);
                assert!(inside, "Invariant: {bytes} bytes from {offset} lie in a buffer of {}", self.bytes);
                $slice { buffer: self, offset, bytes }
            }
        }

        impl $slice {
            /// The buffer it is a part of.
            pub const fn buffer(self) -> $buffer {
                self.buffer
            }

            /// Where it starts in its buffer, in bytes.
            pub const fn offset(self) -> u64 {
                self.offset
            }

            /// Its size.
            pub const fn bytes(self) -> u64 {
                self.bytes
            }

            /// `bytes` bytes from `offset` of this slice. Panics if they are not all inside.
            pub fn slice(self, offset: u64, bytes: u64) -> Self {
                let inside = offset.checked_add(bytes).is_some_and(|end| end <= self.bytes);
                assert!(inside, "Invariant: {bytes} bytes from {offset} lie in a slice of {}", self.bytes);
                self.buffer.slice(self.offset + offset, bytes)
            }
        }
    };
}

memory!(DeviceBuffer, DeviceSlice, "device");
memory!(HostBuffer, HostSlice, "host");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_of_a_slice_starts_where_both_offsets_say() {
        let slice = DeviceBuffer::new(0, 100).slice(40, 60).slice(10, 50);
        assert_eq!((slice.offset(), slice.bytes()), (50, 50)); // 40 + 10; ends at 100
    }

    #[test]
    #[should_panic(expected = "Invariant: 51 bytes from 50 lie in a buffer of 100")]
    fn a_slice_beyond_its_buffer_is_a_bug() {
        let _ = HostBuffer::new(0, 100).slice(50, 51);
    }
}
