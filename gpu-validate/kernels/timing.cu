// Kernels that hold a stream, pass time, or do nothing: they make measurements possible and move no data.

// One thread waits until the host sets `gate` (a word of mapped host memory), at most `limit_ns`, so that a host
// thread that died cannot hang the device. `outcome` becomes 1 when the host let go and 2 when the limit passed.
extern "C" __global__ __launch_bounds__(32) void hold(const volatile u32 *gate, u32 *outcome, u64 limit_ns) {
    if (threadIdx.x != 0) {
        return;
    }
    const u64 start = read_globaltimer();
    u32 result = 1u;
    while (*gate == 0u) {
        if (read_globaltimer() - start >= limit_ns) {
            result = 2u;
            break;
        }
    }
    *outcome = result;
}

// One thread is busy for `duration_ns`: compute dilation. It ends at the first tick of the timer at or after that.
extern "C" __global__ __launch_bounds__(32) void spin(u64 duration_ns) {
    if (threadIdx.x != 0) {
        return;
    }
    const u64 start = read_globaltimer();
    while (read_globaltimer() - start < duration_ns) {
    }
}

// What a launch costs when there is nothing to do.
extern "C" __global__ __launch_bounds__(32) void empty() {}
