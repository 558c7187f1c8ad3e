// The project's kernel sources, compiled for the CPU by the shim of gpu-validate/kernels, and what each launch needs of
// its arguments. The build writes kernel_sources.inc (includes of the sources) and kernel_table.inc (one
// FAKE_KERNEL(name, most threads of a block) each), from the texts that the Rust crate compiles.
#define main shim_command_line
#include "cpu_shim.cpp"
#undef main
#include "kernel_sources.inc"

#include "fake_cuda.h"

#include <array>
#include <type_traits>

namespace fake {

struct Kernel {
    ShimKernel shim;
    unsigned int most_threads;
    std::array<unsigned int, 8> alignments; // of each pointer, by what it points at
};

namespace {

template <typename T> constexpr unsigned int alignment_of() {
    if constexpr (std::is_pointer_v<T>) {
        using Pointee = std::remove_cv_t<std::remove_pointer_t<T>>;
        return std::is_same_v<Pointee, uint4> ? 16u : (unsigned int)sizeof(Pointee);
    }
    return 1;
}
template <typename... Arguments>
constexpr std::array<unsigned int, 8> alignments_of(void (*)(Arguments...)) {
    return {alignment_of<Arguments>()...};
}

#define FAKE_KERNEL(name, most_threads) {SHIM_KERNEL(name), most_threads, alignments_of(&name)},
const Kernel KERNELS[] = {
#include "kernel_table.inc"
};

// Pointers that are read in wider words than their type says.
unsigned int alignment(const Kernel &kernel, size_t argument) {
    const std::string name = kernel.shim.name;
    const bool query = argument == 0 && name.compare(0, 11, "attention_d") == 0;
    return query ? 16 : argument == 0 && name == "fill_random" ? 8 : kernel.alignments[argument];
}

const uint64_t *words_at(uint64_t address, size_t count, const std::string &what) {
    need_reachable(address, 8 * count, what);
    return reinterpret_cast<const uint64_t *>(address);
}

void need_aligned(uint64_t address, unsigned int bytes, const std::string &what) {
    if (address % bytes != 0) {
        ::fake::fail(what + " is at no multiple of " + std::to_string(bytes) + " bytes: a misaligned address on a GPU");
    }
}

// What lies behind addresses that are data.
void check_tables(const Kernel &kernel, const uint32_t grid[3], const std::vector<uint64_t> &arguments) {
    const std::string name = kernel.shim.name;
    if (name == "gather_copy") {
        const size_t pieces = arguments[3];
        const uint64_t *const from = words_at(arguments[0], pieces, name + ", sources");
        const uint64_t *const to = words_at(arguments[1], pieces, name + ", destinations");
        const uint64_t *const lengths = words_at(arguments[2], pieces, name + ", lengths");
        for (size_t i = 0; i < pieces; i++) {
            const std::string piece = name + ", piece " + std::to_string(i);
            need_reachable(from[i], lengths[i], piece + " (source)");
            need_reachable(to[i], lengths[i], piece + " (destination)");
            need_aligned(from[i] | to[i], 16, piece);
        }
    }
    const bool split = name.compare(0, 11, "attention_d") == 0;
    if (split || name == "kv_append") {
        const size_t requests = split ? grid[2] : grid[0];
        const size_t first = split ? 2 : 3;
        const uint64_t *const bases = words_at(arguments[first], requests, name + ", KV table");
        need_reachable(arguments[first + 1], 4 * requests, name + ", token counts");
        for (size_t i = 0; i < requests; i++) {
            need_reachable(bases[i], 16, name + ", KV of request " + std::to_string(i));
            need_aligned(bases[i], 16, name + ", KV of request " + std::to_string(i));
        }
    }
}

void check_pointers(const Kernel &kernel, const std::vector<uint64_t> &arguments) {
    for (size_t i = 0; i < arguments.size(); i++) {
        const bool optional = i == 1 && std::string(kernel.shim.name) == "rms_norm";
        if (kernel.shim.kinds[i] != 'p' || (optional && arguments[i] == 0)) {
            continue;
        }
        const std::string what = std::string("kernel ") + kernel.shim.name + ", argument " + std::to_string(i);
        need_reachable(arguments[i], 1, what);
        need_aligned(arguments[i], alignment(kernel, i), what);
    }
}

void run_blocks(const Kernel &chosen, const uint32_t grid[3], uint32_t threads, const std::vector<uint64_t> &arguments) {
    kernel = &chosen.shim;
    kernel_arguments = arguments.data();
    shim_grid = {grid[0], grid[1], grid[2]};
    shim_block_size = {threads, 1, 1};
    need_fibers(threads);
    for (shim_block.z = 0; shim_block.z < shim_grid.z; shim_block.z++) {
        for (shim_block.y = 0; shim_block.y < shim_grid.y; shim_block.y++) {
            for (shim_block.x = 0; shim_block.x < shim_grid.x; shim_block.x++) {
                run_block();
            }
        }
    }
    kernel = nullptr;
}

// A hold ends when the host lets go, which only this driver's clock may decide while others run: the kernel itself
// runs at the end, with no time left if it ran out.
void make_hold(Operation &operation, const Kernel &kernel, std::vector<uint64_t> arguments) {
    operation.kind = Operation::hold;
    operation.limit = arguments[2];
    operation.opened = [gate = arguments[0]] {
        const Reach reach;
        need_reachable(gate, 4, "kernel hold, gate");
        return *reinterpret_cast<const volatile uint32_t *>(gate) != 0;
    };
    operation.close = [&kernel, arguments](bool late) mutable {
        check_pointers(kernel, arguments);
        arguments[2] = late ? 0 : arguments[2];
        const uint32_t grid[3] = {1, 1, 1};
        run_blocks(kernel, grid, 32, arguments);
    };
}

} // namespace

const Kernel *find_kernel(const std::string &name) {
    for (const Kernel &kernel : KERNELS) {
        if (name == kernel.shim.name) {
            return &kernel;
        }
    }
    return nullptr;
}
const char *kinds_of(const Kernel &kernel) { return kernel.shim.kinds; }
const char *name_of(const Kernel &kernel) { return kernel.shim.name; }
unsigned int most_threads(const Kernel &kernel) { return kernel.most_threads; }

Operation launch_operation(const Kernel &kernel, const uint32_t grid[3], uint32_t threads,
                           std::vector<uint64_t> arguments) {
    Operation operation;
    operation.name = kernel.shim.name;
    if (threads % 32 != 0) {
        ::fake::fail(operation.name + ": blocks of " + std::to_string(threads) + " threads; expected whole warps");
    }
    if (operation.name == "hold") {
        make_hold(operation, kernel, std::move(arguments));
        return operation;
    }
    const std::array<uint32_t, 3> size = {grid[0], grid[1], grid[2]};
    operation.run = [&kernel, size, threads, arguments = std::move(arguments)] {
        check_pointers(kernel, arguments);
        check_tables(kernel, size.data(), arguments);
        run_blocks(kernel, size.data(), threads, arguments);
    };
    return operation;
}

} // namespace fake

// The shim's own command line is not used here; it asks for these.
const ShimKernel SHIM_KERNELS[] = {{"", nullptr, ""}};
const size_t SHIM_KERNEL_COUNT = 0;
