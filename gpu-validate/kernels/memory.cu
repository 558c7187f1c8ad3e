// Kernels that fill, read, check and copy memory: they know bytes, not tensors.

// Stafford's mix 13 of a 64-bit counter (the finaliser of SplitMix64, Steele et al. 2014): a bijection, so distinct
// counters never collide. The Rust twin is `reference::mix`.
__device__ __forceinline__ u64 mix(u64 z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

#define GOLDEN 0x9e3779b97f4a7c15ull // 2^64 over the golden ratio: SplitMix64's odd increment

__device__ __forceinline__ u64 global_thread() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ u64 all_threads() { return (u64)gridDim.x * blockDim.x; }

// One bf16 in [-scale, scale] from 16 random bits: the odd integers of (-2^16, 2^16) times scale · 2^-16, rounded
// once in fp32 and once to bf16. Never zero, never NaN.
__device__ __forceinline__ u64 random_bf16(u64 bits, float step) {
    const int odd = 2 * (int)(short)(unsigned short)bits + 1;
    return (u64)bf16_from_float((float)odd * step);
}

// `count` bf16 values that depend on (seed, index) only. `out` is 8-byte aligned.
extern "C" __global__ __launch_bounds__(256) void fill_random(bf16 *out, u64 count, u64 seed, float scale) {
    const float step = scale * (1.0f / 65536.0f);
    const u64 words = (count + 3) / 4;
    for (u64 word = global_thread(); word < words; word += all_threads()) {
        const u64 bits = mix(seed + (word + 1) * GOLDEN);
        const u64 four = random_bf16(bits, step) | (random_bf16(bits >> 16, step) << 16) |
                         (random_bf16(bits >> 32, step) << 32) | (random_bf16(bits >> 48, step) << 48);
        if (4 * word + 4 <= count) {
            reinterpret_cast<u64 *>(out)[word] = four;
        } else {
            for (u32 i = 0; 4 * word + i < count; i++) {
                out[4 * word + i] = (bf16)(four >> (16 * i));
            }
        }
    }
}

// `count` copies of a 32-bit word: poison (0x7fc07fc0 is two bf16 NaN) or zero.
extern "C" __global__ __launch_bounds__(256) void fill_word(u32 *out, u64 count, u32 word) {
    for (u64 i = global_thread(); i < count; i += all_threads()) {
        out[i] = word;
    }
}

#define CHUNK_WORDS 256u // 16-byte words of a 4 KiB chunk

// One sum per 4 KiB of `data` (the last chunk may be shorter): Σ mix(word_i + (i + 1) · odd constant) over the
// chunk's 8-byte words i, modulo 2^64. Addition commutes, so the sum does not depend on the threads; i enters every
// term, so swapped words change it. One warp per chunk; `words` counts 16-byte words.
extern "C" __global__ __launch_bounds__(256) void checksum(const uint4 *data, u64 words, u64 *sums) {
    const u32 lane = threadIdx.x % 32u;
    const u64 chunks = (words + CHUNK_WORDS - 1) / CHUNK_WORDS;
    for (u64 chunk = global_thread() / 32; chunk < chunks; chunk += all_threads() / 32) {
        const u64 first = chunk * CHUNK_WORDS;
        uint4 word[CHUNK_WORDS / 32];
#pragma unroll
        for (u32 i = 0; i < CHUNK_WORDS / 32; i++) {
            const u64 at = first + 32 * i + lane;
            word[i] = data[at < words ? at : first];
        }
        u64 sum = 0;
#pragma unroll
        for (u32 i = 0; i < CHUNK_WORDS / 32; i++) {
            const u64 index = 2 * (u64)(32 * i + lane) + 1;
            const u64 low = mix(((u64)word[i].x | ((u64)word[i].y << 32)) + index * GOLDEN);
            const u64 high = mix(((u64)word[i].z | ((u64)word[i].w << 32)) + (index + 1) * GOLDEN);
            sum += first + 32 * i + lane < words ? low + high : 0;
        }
#pragma unroll
        for (int distance = 16; distance > 0; distance >>= 1) {
            sum += __shfl_xor_sync(ALL_LANES, sum, distance);
        }
        if (lane == 0) {
            sums[chunk] = sum;
        }
    }
}

#define WORDS_IN_FLIGHT 8

// Reads every 16-byte word once and folds the exclusive or of all 32-bit words into `sink`, so no load can be left
// out; xor commutes, so the order of the warps does not matter. The caller zeroes `sink` to read a meaning into it.
extern "C" __global__ __launch_bounds__(256) void read_only(const uint4 *data, u64 words, u32 *sink) {
    const u64 stride = all_threads();
    u32 folded = 0;
    u64 i = global_thread();
    for (; i + (WORDS_IN_FLIGHT - 1) * stride < words; i += WORDS_IN_FLIGHT * stride) {
        uint4 word[WORDS_IN_FLIGHT];
#pragma unroll
        for (int k = 0; k < WORDS_IN_FLIGHT; k++) {
            word[k] = __ldcs(data + i + k * stride);
        }
#pragma unroll
        for (int k = 0; k < WORDS_IN_FLIGHT; k++) {
            folded ^= word[k].x ^ word[k].y ^ word[k].z ^ word[k].w;
        }
    }
    for (; i < words; i += stride) {
        const uint4 word = __ldcs(data + i);
        folded ^= word.x ^ word.y ^ word.z ^ word.w;
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance >>= 1) {
        folded ^= __shfl_xor_sync(ALL_LANES, folded, distance);
    }
    if (threadIdx.x % 32 == 0) {
        atomicXor(sink, folded);
    }
}

// Writes every 16-byte word once.
extern "C" __global__ __launch_bounds__(256) void write_only(uint4 *out, u64 words, u32 word) {
    const uint4 value = make_uint4(word, word, word, word);
    for (u64 i = global_thread(); i < words; i += all_threads()) {
        out[i] = value;
    }
}

// Copies `pieces` pieces through registers. Each piece is cut into `parts` runs of 16-byte words, and the
// pieces · parts runs go round the blocks, so one large piece can use many blocks. Addresses are 16-byte aligned;
// a length that is no multiple of 16 ends with single bytes. Works between device and mapped host memory.
extern "C" __global__ __launch_bounds__(512) void gather_copy(const u64 *sources, const u64 *destinations,
                                                              const u64 *lengths, u32 pieces, u32 parts) {
    const u64 runs = (u64)pieces * parts;
    for (u64 run = blockIdx.x; run < runs; run += gridDim.x) {
        const u64 piece = run / parts;
        const u64 part = run % parts;
        const u64 bytes = lengths[piece];
        const u64 words = bytes / 16;
        const u64 run_words = (words + parts - 1) / parts;
        const u64 first = part * run_words;
        const u64 last = first + run_words < words ? first + run_words : words;
        const uint4 *source = reinterpret_cast<const uint4 *>(sources[piece]);
        uint4 *destination = reinterpret_cast<uint4 *>(destinations[piece]);
        for (u64 i = first + threadIdx.x; i < last; i += WORDS_IN_FLIGHT * 512) {
            uint4 word[WORDS_IN_FLIGHT];
#pragma unroll
            for (int k = 0; k < WORDS_IN_FLIGHT; k++) {
                if (i + k * 512 < last) {
                    word[k] = __ldcs(source + i + k * 512);
                }
            }
#pragma unroll
            for (int k = 0; k < WORDS_IN_FLIGHT; k++) {
                if (i + k * 512 < last) {
                    __stcs(destination + i + k * 512, word[k]);
                }
            }
        }
        const u64 done = words * 16;
        if (part + 1 == parts && threadIdx.x < bytes - done) {
            reinterpret_cast<unsigned char *>(destination)[done + threadIdx.x] =
                reinterpret_cast<const unsigned char *>(source)[done + threadIdx.x];
        }
    }
}
