// What every kernel file starts with: bf16 by shifts, 16-byte words, warp sums and the clock.
//
// Each kernel file is compiled as this text followed by its own, so no header and no include path is needed. bf16
// is an `unsigned short` that holds the upper half of an fp32. Everything here is portable from sm_80 up. It knows
// no model and no buffer.

typedef unsigned short bf16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define ALL_LANES 0xffffffffu

// An fp32 and its bits.
union Fp32Bits {
    float value;
    u32 bits;
};

__device__ __forceinline__ float float_from_bits(u32 bits) {
    Fp32Bits word;
    word.bits = bits;
    return word.value;
}

__device__ __forceinline__ u32 bits_from_float(float value) {
    Fp32Bits word;
    word.value = value;
    return word.bits;
}

// The two bf16 of a 32-bit word: element 0 lies in the low half.
__device__ __forceinline__ float low_bf16(u32 pair) { return float_from_bits(pair << 16); }
__device__ __forceinline__ float high_bf16(u32 pair) { return float_from_bits(pair & 0xffff0000u); }
__device__ __forceinline__ float float_from_bf16(bf16 value) { return float_from_bits((u32)value << 16); }

// Round to nearest, ties to even; a NaN stays a NaN (its payload's upper bits could be zero, so one is set).
__device__ __forceinline__ bf16 bf16_from_float(float value) {
    const u32 bits = bits_from_float(value);
    const u32 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    return (bf16)(is_nan ? ((bits >> 16) | 0x40u) : rounded);
}

__device__ __forceinline__ u32 bf16_pair(float low, float high) {
    return (u32)bf16_from_float(low) | ((u32)bf16_from_float(high) << 16);
}

// Eight bf16 are one 16-byte word.
__device__ __forceinline__ void unpack_eight(uint4 word, float (&values)[8]) {
    values[0] = low_bf16(word.x);
    values[1] = high_bf16(word.x);
    values[2] = low_bf16(word.y);
    values[3] = high_bf16(word.y);
    values[4] = low_bf16(word.z);
    values[5] = high_bf16(word.z);
    values[6] = low_bf16(word.w);
    values[7] = high_bf16(word.w);
}

__device__ __forceinline__ uint4 pack_eight(const float (&values)[8]) {
    return make_uint4(bf16_pair(values[0], values[1]), bf16_pair(values[2], values[3]),
                      bf16_pair(values[4], values[5]), bf16_pair(values[6], values[7]));
}

__device__ __forceinline__ uint4 zero_word() { return make_uint4(0u, 0u, 0u, 0u); }

// The sum over a warp, the same on every lane and in the same order at every launch.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance >>= 1) {
        value += __shfl_xor_sync(ALL_LANES, value, distance);
    }
    return value;
}

// Nanoseconds of the device's global timer. Its step is from 32 ns to about 1 µs, by device.
#ifdef GPU_VALIDATE_ON_CPU
#define read_globaltimer() shim_nanoseconds()
#else
__device__ __forceinline__ u64 read_globaltimer() {
    u64 now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
    return now;
}
#endif
