// The scheduler of the pretended device, and its command line: a program on standard input, buffers on standard
// output. See cpu_shim.h for what it checks.
//
// Input, all little-endian 64-bit words unless said otherwise: the number of buffers, and per buffer a word that is 1
// when it holds addresses, its length in bytes and its bytes; the number of launches, and per launch the length and
// bytes of the kernel's name, grid x, y, z, block size, the number of arguments and the arguments. An address is
// (buffer + 1) << 40 | offset, and 0 is null. Output: the bytes of every buffer in order. Every buffer ends at a
// page that may not be touched (to within 16 bytes), so an access past its end ends the program.
#include "cpu_shim.h"

#include <chrono>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

ShimIndex shim_thread, shim_block, shim_block_size, shim_grid;

namespace {

constexpr size_t STACK_BYTES = 64 * 1024;
constexpr unsigned int WARP = 32;

struct Fiber {
    jmp_buf point;
    ucontext_t birth;
    bool born = false;
    ShimStop stop = ShimStop::running;
    int line = 0;
    unsigned int mask = 0;
    uint64_t given = 0;
    unsigned int source_lane = 0;
    uint64_t received = 0;
};

std::vector<Fiber *> fibers;
Fiber *current = nullptr;
unsigned int current_index = 0;
jmp_buf scheduler;
const ShimKernel *kernel = nullptr;
const uint64_t *kernel_arguments = nullptr;

[[noreturn]] void fail(const std::string &what) {
    std::fprintf(stderr, "cpu_shim: %s%s%s\n", kernel ? kernel->name : "", kernel ? ": " : "", what.c_str());
    std::exit(1);
}

// Gives the processor back to the scheduler until this lane is run again.
__attribute__((noinline)) void park(ShimStop stop) {
    current->stop = stop;
    if (_setjmp(current->point) == 0) {
        _longjmp(scheduler, 1);
    }
}

void fiber_main() {
    for (;;) {
        kernel->call(kernel_arguments);
        park(ShimStop::finished);
    }
}

__attribute__((noinline)) void run(unsigned int index) {
    current = fibers[index];
    current_index = index;
    shim_thread = {index, 0, 0};
    current->stop = ShimStop::running;
    if (_setjmp(scheduler) != 0) {
        return;
    }
    if (current->born) {
        _longjmp(current->point, 1);
    }
    current->born = true;
    setcontext(&current->birth);
    fail("a fiber did not start");
}

void need_fibers(unsigned int count) {
    while (fibers.size() < count) {
        Fiber *fiber = new Fiber;
        getcontext(&fiber->birth);
        fiber->birth.uc_stack.ss_sp = std::malloc(STACK_BYTES);
        fiber->birth.uc_stack.ss_size = STACK_BYTES;
        fiber->birth.uc_link = nullptr;
        makecontext(&fiber->birth, fiber_main, 0);
        fibers.push_back(fiber);
    }
}

bool is_warp_stop(ShimStop stop) { return stop == ShimStop::shuffle || stop == ShimStop::vote; }

// All lanes of a warp stand at the same shuffle or vote: each gets what it asked for.
void exchange(unsigned int first) {
    const Fiber &leader = *fibers[first];
    uint64_t any = 0;
    for (unsigned int lane = 0; lane < WARP; lane++) {
        const Fiber &fiber = *fibers[first + lane];
        if (fiber.stop != leader.stop || fiber.line != leader.line || fiber.mask != 0xffffffffu) {
            fail("divergent warp: lane 0 is at line " + std::to_string(leader.line) + ", lane " +
                 std::to_string(lane) + " at line " + std::to_string(fiber.line) +
                 "; expected all 32 lanes at the same shuffle or vote with a full mask");
        }
        any |= fiber.given;
    }
    for (unsigned int lane = 0; lane < WARP; lane++) {
        Fiber &fiber = *fibers[first + lane];
        if (fiber.source_lane >= WARP) {
            fail("a shuffle asks for lane " + std::to_string(fiber.source_lane));
        }
        fiber.received = leader.stop == ShimStop::vote ? any : fibers[first + fiber.source_lane]->given;
    }
}

// Runs one warp until its lanes are all at a barrier or finished.
void run_warp(unsigned int first) {
    for (;;) {
        for (unsigned int lane = 0; lane < WARP; lane++) {
            if (fibers[first + lane]->stop != ShimStop::finished) {
                run(first + lane);
            }
        }
        bool meets = false;
        for (unsigned int lane = 0; lane < WARP; lane++) {
            meets = meets || is_warp_stop(fibers[first + lane]->stop);
        }
        if (!meets) {
            return;
        }
        if (!is_warp_stop(fibers[first]->stop)) {
            fail("divergent warp: lane 0 is at a barrier or has finished, another lane is at a shuffle or vote");
        }
        exchange(first);
    }
}

void run_block() {
    const unsigned int threads = shim_block_size.x;
    for (unsigned int i = 0; i < threads; i++) {
        fibers[i]->stop = ShimStop::running;
    }
    for (;;) {
        for (unsigned int first = 0; first < threads; first += WARP) {
            run_warp(first);
        }
        const Fiber &leader = *fibers[0];
        for (unsigned int i = 0; i < threads; i++) {
            const Fiber &fiber = *fibers[i];
            if (fiber.stop != leader.stop || (leader.stop == ShimStop::barrier && fiber.line != leader.line)) {
                fail("divergent block: thread " + std::to_string(i) + " and thread 0 are not at the same barrier");
            }
        }
        if (leader.stop == ShimStop::finished) {
            return;
        }
    }
}

std::vector<unsigned char> input;
size_t input_at = 0;

const unsigned char *take(size_t bytes) {
    if (input.size() - input_at < bytes) {
        fail("the program on standard input ends too early");
    }
    input_at += bytes;
    return input.data() + input_at - bytes;
}
uint64_t take_word() {
    uint64_t word;
    std::memcpy(&word, take(8), 8);
    return word;
}

struct Buffer {
    unsigned char *start;
    size_t bytes;
    bool holds_addresses;
};
std::vector<Buffer> buffers;

Buffer read_buffer() {
    const size_t page = 4096;
    Buffer buffer;
    buffer.holds_addresses = take_word() == 1;
    buffer.bytes = take_word();
    const size_t aligned = (buffer.bytes + 15) / 16 * 16;
    const size_t whole = (aligned + page - 1) / page * page;
    void *mapped = mmap(nullptr, whole + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED || (whole > 0 && mprotect(mapped, whole, PROT_READ | PROT_WRITE) != 0)) {
        fail("no memory for a buffer of " + std::to_string(buffer.bytes) + " bytes");
    }
    buffer.start = static_cast<unsigned char *>(mapped) + whole - aligned;
    std::memcpy(buffer.start, take(buffer.bytes), buffer.bytes);
    return buffer;
}

uint64_t real_address(uint64_t given) {
    const uint64_t index = given >> 40;
    if (index == 0) {
        if (given != 0) {
            fail("an address is no buffer's: " + std::to_string(given));
        }
        return 0;
    }
    if (index > buffers.size()) {
        fail("an address names buffer " + std::to_string(index - 1) + " of " + std::to_string(buffers.size()));
    }
    return reinterpret_cast<uint64_t>(buffers[index - 1].start) + (given & ((1ull << 40) - 1));
}

const ShimKernel *find_kernel(const std::string &name) {
    for (size_t i = 0; i < SHIM_KERNEL_COUNT; i++) {
        if (name == SHIM_KERNELS[i].name) {
            return &SHIM_KERNELS[i];
        }
    }
    fail("no kernel is called " + name);
}

void launch() {
    const uint64_t length = take_word();
    const unsigned char *bytes = take(length);
    kernel = find_kernel(std::string(reinterpret_cast<const char *>(bytes), length));
    shim_grid.x = (unsigned int)take_word();
    shim_grid.y = (unsigned int)take_word();
    shim_grid.z = (unsigned int)take_word();
    shim_block_size = {(unsigned int)take_word(), 1, 1};
    const uint64_t count = take_word();
    if (count != std::strlen(kernel->kinds)) {
        fail(std::to_string(count) + " arguments given; expected " + std::to_string(std::strlen(kernel->kinds)));
    }
    std::vector<uint64_t> arguments;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t word = take_word();
        arguments.push_back(kernel->kinds[i] == 'p' ? real_address(word) : word);
    }
    kernel_arguments = arguments.data();
    if (shim_block_size.x == 0 || shim_block_size.x > 1024 || shim_block_size.x % WARP != 0) {
        fail("blocks of " + std::to_string(shim_block_size.x) + " threads; expected whole warps, at most 1024");
    }
    need_fibers(shim_block_size.x);
    for (shim_block.z = 0; shim_block.z < shim_grid.z; shim_block.z++) {
        for (shim_block.y = 0; shim_block.y < shim_grid.y; shim_block.y++) {
            for (shim_block.x = 0; shim_block.x < shim_grid.x; shim_block.x++) {
                run_block();
            }
        }
    }
    kernel = nullptr;
}

} // namespace

uint64_t shim_exchange(ShimStop kind, int line, unsigned int mask, uint64_t given, unsigned int source_lane) {
    current->line = line;
    current->mask = mask;
    current->given = given;
    current->source_lane = source_lane;
    park(kind);
    return current->received;
}

void shim_barrier(int line) {
    current->line = line;
    park(ShimStop::barrier);
}

unsigned int shim_lane() { return current_index % WARP; }

unsigned long long shim_nanoseconds() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return (unsigned long long)std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

int main(int count, char **) {
    if (count > 1) {
        for (size_t i = 0; i < SHIM_KERNEL_COUNT; i++) {
            std::printf("%s %s\n", SHIM_KERNELS[i].name, SHIM_KERNELS[i].kinds);
        }
        return 0;
    }
    unsigned char piece[65536];
    for (size_t got; (got = std::fread(piece, 1, sizeof piece, stdin)) > 0;) {
        input.insert(input.end(), piece, piece + got);
    }
    for (uint64_t left = take_word(); left > 0; left--) {
        buffers.push_back(read_buffer());
    }
    for (const Buffer &buffer : buffers) {
        for (size_t i = 0; buffer.holds_addresses && i + 8 <= buffer.bytes; i += 8) {
            uint64_t word;
            std::memcpy(&word, buffer.start + i, 8);
            word = real_address(word);
            std::memcpy(buffer.start + i, &word, 8);
        }
    }
    for (uint64_t left = take_word(); left > 0; left--) {
        launch();
    }
    for (const Buffer &buffer : buffers) {
        std::fwrite(buffer.start, 1, buffer.bytes, stdout);
    }
    return 0;
}
