// A CPU that pretends to be a CUDA device, for tests: enough of the language to run the very same kernel sources.
//
// Every thread of a block is a fiber. A warp runs lane by lane up to its next shuffle or vote, where all 32 lanes
// must meet at the same source line; a block meets at __syncthreads in the same way. Anything else (a divergent
// shuffle, a barrier that some threads never reach) ends the program with a message: on a device it would hang or
// be undefined. It says nothing about speed, and nothing about memory ordering between blocks, which run in turn.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

#define GPU_VALIDATE_ON_CPU 1
#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)

struct uint4 {
    unsigned int x, y, z, w;
};
inline uint4 make_uint4(unsigned int x, unsigned int y, unsigned int z, unsigned int w) { return {x, y, z, w}; }

struct ShimIndex {
    unsigned int x, y, z;
};
extern ShimIndex shim_thread, shim_block, shim_block_size, shim_grid;
#define threadIdx shim_thread
#define blockIdx shim_block
#define blockDim shim_block_size
#define gridDim shim_grid

// Where a lane waits for its warp: what it gives, whose it wants, and what it got.
enum class ShimStop { running, shuffle, vote, barrier, finished };
uint64_t shim_exchange(ShimStop kind, int line, unsigned int mask, uint64_t given, unsigned int source_lane);
void shim_barrier(int line);
unsigned int shim_lane();
unsigned long long shim_nanoseconds();

template <typename T> inline T shim_shuffle(int line, unsigned int mask, T value, unsigned int source_lane) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most eight bytes");
    uint64_t bits = 0;
    __builtin_memcpy(&bits, &value, sizeof(T));
    bits = shim_exchange(ShimStop::shuffle, line, mask, bits, source_lane);
    __builtin_memcpy(&value, &bits, sizeof(T));
    return value;
}
template <typename T> inline T shim_shuffle_indexed(int line, unsigned int mask, T value, int source, int width = 32) {
    const unsigned int segment = shim_lane() / width * width;
    return shim_shuffle(line, mask, value, segment + (unsigned int)source % width);
}

#define __shfl_xor_sync(mask, value, distance) shim_shuffle(__LINE__, mask, value, shim_lane() ^ (distance))
#define __shfl_sync(mask, ...) shim_shuffle_indexed(__LINE__, mask, __VA_ARGS__)
#define __any_sync(mask, predicate) (shim_exchange(ShimStop::vote, __LINE__, mask, (predicate) ? 1 : 0, 0) != 0)
#define __syncthreads() shim_barrier(__LINE__)

template <typename T> inline T __ldg(const T *address) { return *address; }
template <typename T> inline T __ldcs(const T *address) { return *address; }
template <typename T> inline void __stcs(T *address, T value) { *address = value; }
inline unsigned int atomicXor(unsigned int *address, unsigned int value) {
    const unsigned int old = *address;
    *address = old ^ value;
    return old;
}
inline float rsqrtf(float value) { return 1.0f / std::sqrt(value); }
inline float __expf(float value) { return std::exp(value); }
using std::fmaxf;

// A kernel that can be called with arguments taken from 64-bit words, and the kinds of its parameters: p for a
// pointer, i for a 32-bit integer, l for a 64-bit integer, f for an fp32.
struct ShimKernel {
    const char *name;
    void (*call)(const uint64_t *arguments);
    const char *kinds;
};

template <typename T> struct ShimArgument;
template <typename T> struct ShimArgument<T *> {
    static constexpr char kind = 'p';
    static T *from(uint64_t bits) { return reinterpret_cast<T *>(bits); }
};
template <> struct ShimArgument<unsigned int> {
    static constexpr char kind = 'i';
    static unsigned int from(uint64_t bits) { return (unsigned int)bits; }
};
template <> struct ShimArgument<unsigned long long> {
    static constexpr char kind = 'l';
    static unsigned long long from(uint64_t bits) { return bits; }
};
template <> struct ShimArgument<float> {
    static constexpr char kind = 'f';
    static float from(uint64_t bits) {
        float value;
        __builtin_memcpy(&value, &bits, sizeof value);
        return value;
    }
};

template <auto Kernel, typename Signature> struct ShimCall;
template <auto Kernel, typename... Arguments> struct ShimCall<Kernel, void (*)(Arguments...)> {
    static constexpr char kinds[] = {ShimArgument<Arguments>::kind..., '\0'};
    template <size_t... I> static void spread(const uint64_t *given, std::index_sequence<I...>) {
        Kernel(ShimArgument<Arguments>::from(given[I])...);
    }
    static void call(const uint64_t *given) { spread(given, std::index_sequence_for<Arguments...>()); }
};
#define SHIM_KERNEL(name) \
    { #name, ShimCall<&name, decltype(&name)>::call, ShimCall<&name, decltype(&name)>::kinds }

extern const ShimKernel SHIM_KERNELS[];
extern const size_t SHIM_KERNEL_COUNT;
