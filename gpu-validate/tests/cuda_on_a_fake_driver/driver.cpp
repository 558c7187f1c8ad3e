// A CUDA driver, an NVRTC and a cuBLAS that pretend, in one library, for tests of `device::cuda` without a GPU.
//
// Just the calls that the program makes. Kernels are the program's own, run by ../../kernels/cpu_shim.cpp; one thread
// plays the GPU: it takes the next operation of a stream that may go on, chosen by a seeded generator, so that a missing
// wait between streams shows. It is strict where real drivers are quiet: sizes, handles and addresses are checked, a
// product needs its own workspace, a batch needs a stream and at most 4,096 pieces, and calls that a capture forbids
// break it. It says nothing about speed.
#define main shim_main
#include "cpu_shim.cpp"
#undef main
#include "prelude.cu"

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <thread>

namespace {

enum : unsigned int {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NO_DEVICE = 100,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_UNJOINED = 904,
    CAPTURE_ISOLATION = 905,
};

using Clock = std::chrono::steady_clock;

struct Operation {
    std::function<bool()> ready;
    std::function<void()> run;
};
struct Node {
    std::set<size_t> after;
    Operation operation;
};
struct Capture {
    struct Stream *origin;
    std::vector<Node> nodes;
    bool broken = false;
};
struct Graph {
    std::vector<Node> nodes;
};
struct Stream {
    std::deque<Operation> queue;
    Capture *capture = nullptr;
    std::set<size_t> last;
};
struct Event {
    uint64_t submitted = 0, completed = 0;
    Clock::time_point time;
    Capture *capture = nullptr;
    std::set<size_t> after;
};
struct Extent {
    size_t bytes;
    void *mapped;
    size_t mapped_bytes;
    bool on_device;
};

// Never destroyed: the thread that plays the GPU outlives main.
struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::set<Stream *> streams;
    std::map<uint64_t, Extent> extents;
    size_t device_free = size_t(1) << 30;
    bool running = false, started = false;
    Capture *capture = nullptr;
    uint64_t random = 0x9e3779b97f4a7c15ull;
};
State &state() {
    static State *one = new State;
    return *one;
}
using Lock = std::unique_lock<std::mutex>;

[[noreturn]] void refuse(const std::string &what) {
    std::fprintf(stderr, "fake CUDA: %s\n", what.c_str());
    std::_Exit(1);
}

size_t pick(size_t count) {
    uint64_t &x = state().random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return x % count;
}

bool may_go_on(const Operation &operation) { return !operation.ready || operation.ready(); }

void play() {
    State &s = state();
    Lock lock(s.mutex);
    for (;;) {
        std::vector<Stream *> able;
        for (Stream *stream : s.streams) {
            if (!stream->queue.empty() && may_go_on(stream->queue.front())) {
                able.push_back(stream);
            }
        }
        if (able.empty()) {
            s.changed.wait_for(lock, std::chrono::microseconds(200));
            continue;
        }
        Stream *chosen = able[pick(able.size())];
        Operation operation = std::move(chosen->queue.front());
        chosen->queue.pop_front();
        s.running = true;
        lock.unlock();
        operation.run();
        lock.lock();
        s.running = false;
        s.changed.notify_all();
    }
}

void start() {
    State &s = state();
    if (!s.started) {
        s.started = true;
        std::thread(play).detach();
    }
}

bool idle() {
    State &s = state();
    for (Stream *stream : s.streams) {
        if (!stream->queue.empty()) {
            return false;
        }
    }
    return !s.running;
}

void wait_until_idle(Lock &lock) {
    while (!idle()) {
        state().changed.wait(lock);
    }
}

// A call that a capture of this thread forbids.
bool forbidden() {
    State &s = state();
    if (s.capture) {
        s.capture->broken = true;
    }
    return s.capture != nullptr;
}

unsigned int submit(Stream *stream, Operation operation) {
    State &s = state();
    if (!stream || !s.streams.count(stream)) {
        refuse("work for a stream that is not there");
    }
    if (Capture *capture = stream->capture) {
        if (capture->broken) {
            return CAPTURE_INVALIDATED;
        }
        capture->nodes.push_back({stream->last, std::move(operation)});
        stream->last = {capture->nodes.size() - 1};
    } else {
        stream->queue.push_back(std::move(operation));
        s.changed.notify_all();
    }
    return SUCCESS;
}

const std::pair<const uint64_t, Extent> *extent_of(uint64_t address, size_t bytes) {
    auto &extents = state().extents;
    auto after = extents.upper_bound(address);
    if (after == extents.begin()) {
        return nullptr;
    }
    const auto &found = *--after;
    return address + bytes <= found.first + found.second.bytes ? &found : nullptr;
}

void need(uint64_t address, size_t bytes, bool on_device, const char *call) {
    const auto *found = extent_of(address, bytes);
    const bool right = on_device ? found && found->second.on_device : !found || !found->second.on_device;
    if (!right) {
        refuse(std::string(call) + ": " + std::to_string(bytes) + " bytes are not all in " +
               (on_device ? "one device allocation" : "host memory"));
    }
}

// Memory that ends, to within 256 bytes, at a page that may not be touched.
uint64_t make(size_t bytes, bool on_device) {
    const size_t page = 4096, aligned = (bytes + 255) / 256 * 256, whole = (aligned + page - 1) / page * page;
    void *mapped = mmap(nullptr, whole + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED || mprotect(mapped, whole, PROT_READ | PROT_WRITE) != 0) {
        return 0;
    }
    // Host memory is aligned to pages, as a driver's is.
    const uint64_t address = reinterpret_cast<uint64_t>(mapped) + (on_device ? whole - aligned : 0);
    state().extents[address] = {bytes, mapped, whole + page, on_device};
    return address;
}

void unmake(uint64_t address, bool on_device) {
    auto found = state().extents.find(address);
    if (found == state().extents.end() || found->second.on_device != on_device || !found->second.mapped) {
        refuse("memory is given back that was not made so");
    }
    munmap(found->second.mapped, found->second.mapped_bytes);
    state().extents.erase(found);
}

void *pointer(uint64_t address) { return reinterpret_cast<void *>(address); }
uint64_t number(const void *pointer) { return reinterpret_cast<uint64_t>(pointer); }

Operation copying(uint64_t to, uint64_t from, size_t bytes) {
    return {nullptr, [=] { std::memmove(pointer(to), pointer(from), bytes); }};
}

void run_kernel(const ShimKernel *which, ShimIndex grid, unsigned int block, const std::vector<uint64_t> &arguments) {
    kernel = which;
    kernel_arguments = arguments.data();
    shim_grid = grid;
    shim_block_size = {block, 1, 1};
    need_fibers(block);
    for (shim_block.z = 0; shim_block.z < grid.z; shim_block.z++) {
        for (shim_block.y = 0; shim_block.y < grid.y; shim_block.y++) {
            for (shim_block.x = 0; shim_block.x < grid.x; shim_block.x++) {
                run_block();
            }
        }
    }
    kernel = nullptr;
}

// The kernel `hold` as something that lets other streams go on meanwhile.
Operation holding(const std::vector<uint64_t> &arguments) {
    volatile unsigned int *gate = static_cast<volatile unsigned int *>(pointer(arguments[0]));
    volatile unsigned int *outcome = static_cast<volatile unsigned int *>(pointer(arguments[1]));
    const auto limit = std::chrono::nanoseconds(arguments[2]);
    auto since = std::make_shared<Clock::time_point>(Clock::time_point::max());
    return {[=] {
                if (*since == Clock::time_point::max()) {
                    *since = Clock::now();
                }
                return *gate != 0 || Clock::now() - *since >= limit;
            },
            [=] { *outcome = *gate != 0 ? 1u : 2u; }};
}

} // namespace

#define CALL extern "C" __attribute__((visibility("default"))) unsigned int

// ---------------------------------------------------------------------------------------------- driver: device
CALL cuInit(unsigned int) { return std::getenv("FAKE_CUDA_NO_DEVICE") ? NO_DEVICE : SUCCESS; }
CALL cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
CALL cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
CALL cuDeviceGet(int *device, int ordinal) { return *device = ordinal, ordinal == 0 ? SUCCESS : 101u; }
CALL cuDeviceGetName(char *name, int length, int) { return std::snprintf(name, length, "Fake GPU"), SUCCESS; }
CALL cuDeviceGetPCIBusId(char *id, int length, int) { return std::snprintf(id, length, "0000:FE:00.0"), SUCCESS; }
CALL cuDeviceGetUuid_v2(unsigned char *uuid, int) { return std::memset(uuid, 0xab, 16), SUCCESS; }
CALL cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = size_t(1) << 30, SUCCESS; }
CALL cuDeviceGetAttribute(int *value, int attribute, int) {
    const std::map<int, int> known = {{16, 4}, {32, 1}, {38, 1 << 20}, {75, 9}, {76, 0}};
    const auto found = known.find(attribute);
    return found == known.end() ? INVALID_VALUE : (*value = found->second, SUCCESS);
}
CALL cuDevicePrimaryCtxRetain(void **context, int) { return *context = &state(), SUCCESS; }
CALL cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
CALL cuCtxSetCurrent(void *) { return SUCCESS; }
CALL cuCtxSynchronize() {
    Lock lock(state().mutex);
    if (forbidden()) {
        return CAPTURE_UNSUPPORTED;
    }
    wait_until_idle(lock);
    return SUCCESS;
}
CALL cuGetErrorName(unsigned int code, const char **text) {
    *text = code == NO_DEVICE ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_OF_THE_FAKE";
    return SUCCESS;
}
CALL cuGetErrorString(unsigned int, const char **text) { return *text = "the fake driver refuses", SUCCESS; }

// ---------------------------------------------------------------------------------------------- driver: memory
CALL cuMemGetInfo_v2(size_t *free, size_t *total) {
    Lock lock(state().mutex);
    *free = state().device_free;
    *total = size_t(1) << 30;
    return SUCCESS;
}
CALL cuMemAlloc_v2(uint64_t *address, size_t bytes) {
    Lock lock(state().mutex);
    if (forbidden()) {
        return CAPTURE_UNSUPPORTED;
    }
    if (bytes == 0 || bytes > state().device_free) {
        return bytes == 0 ? INVALID_VALUE : OUT_OF_MEMORY;
    }
    *address = make(bytes, true);
    state().device_free -= bytes;
    return SUCCESS;
}
CALL cuMemFree_v2(uint64_t address) {
    Lock lock(state().mutex);
    wait_until_idle(lock);
    state().device_free += state().extents[address].bytes;
    unmake(address, true);
    return SUCCESS;
}
CALL cuMemHostAlloc(void **memory, size_t bytes, unsigned int flags) {
    Lock lock(state().mutex);
    if (forbidden()) {
        return CAPTURE_UNSUPPORTED;
    }
    if ((flags & 3u) != 3u) { // portable and mapped
        return INVALID_VALUE;
    }
    *memory = pointer(make(bytes, false));
    return *memory ? SUCCESS : OUT_OF_MEMORY;
}
CALL cuMemFreeHost(void *memory) {
    Lock lock(state().mutex);
    wait_until_idle(lock);
    unmake(number(memory), false);
    return SUCCESS;
}
CALL cuMemHostRegister_v2(void *memory, size_t bytes, unsigned int flags) {
    Lock lock(state().mutex);
    if ((flags & 3u) != 3u || state().extents.count(number(memory))) {
        return INVALID_VALUE;
    }
    state().extents[number(memory)] = {bytes, nullptr, 0, false};
    return SUCCESS;
}
CALL cuMemHostUnregister(void *memory) {
    Lock lock(state().mutex);
    return state().extents.erase(number(memory)) == 1 ? SUCCESS : INVALID_VALUE;
}
CALL cuMemHostGetDevicePointer_v2(uint64_t *address, void *memory, unsigned int flags) {
    Lock lock(state().mutex);
    *address = number(memory);
    return flags == 0 && state().extents.count(number(memory)) ? SUCCESS : INVALID_VALUE;
}
CALL cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) {
    Lock lock(state().mutex);
    if (forbidden()) {
        return CAPTURE_UNSUPPORTED;
    }
    need(to, bytes, true, "cuMemcpyHtoD");
    std::memcpy(pointer(to), from, bytes);
    return SUCCESS;
}
CALL cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) {
    Lock lock(state().mutex);
    if (forbidden()) {
        return CAPTURE_UNSUPPORTED;
    }
    need(from, bytes, true, "cuMemcpyDtoH");
    std::memcpy(to, pointer(from), bytes);
    return SUCCESS;
}
CALL cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, Stream *stream) {
    Lock lock(state().mutex);
    need(to, bytes, true, "cuMemcpyHtoDAsync");
    need(number(from), bytes, false, "cuMemcpyHtoDAsync");
    return submit(stream, copying(to, number(from), bytes));
}
CALL cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, Stream *stream) {
    Lock lock(state().mutex);
    need(from, bytes, true, "cuMemcpyDtoHAsync");
    need(number(to), bytes, false, "cuMemcpyDtoHAsync");
    return submit(stream, copying(number(to), from, bytes));
}
CALL cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, Stream *stream) {
    Lock lock(state().mutex);
    need(to, bytes, true, "cuMemcpyDtoDAsync");
    need(from, bytes, true, "cuMemcpyDtoDAsync");
    return submit(stream, copying(to, from, bytes));
}
struct Location {
    unsigned int type; // 1 device, 2 host
    int id;
};
struct Attributes {
    unsigned int order;
    Location from, to;
    unsigned int flags;
};
CALL cuMemcpyBatchAsync_v2(uint64_t *to, uint64_t *from, size_t *bytes, size_t count, Attributes *attributes,
                           size_t *first_pieces, size_t attribute_count, Stream *stream) {
    Lock lock(state().mutex);
    if (!stream || count == 0 || count > 4096 || attribute_count != 1 || attributes->order != 1 ||
        attributes->flags > 1) {
        return INVALID_VALUE;
    }
    if (stream->capture) {
        stream->capture->broken = true;
        return CAPTURE_UNSUPPORTED;
    }
    for (size_t i = 0; i < count; i++) {
        if (first_pieces[i] != 0) { // read to the last, as two real users of the call found it does
            return INVALID_VALUE;
        }
        need(to[i], bytes[i], attributes->to.type == 1, "cuMemcpyBatchAsync");
        need(from[i], bytes[i], attributes->from.type == 1, "cuMemcpyBatchAsync");
        submit(stream, copying(to[i], from[i], bytes[i]));
    }
    return SUCCESS;
}

// ---------------------------------------------------------------------------------------------- driver: streams
CALL cuStreamCreate(Stream **stream, unsigned int flags) {
    Lock lock(state().mutex);
    if (flags != 1) { // non-blocking
        return INVALID_VALUE;
    }
    start();
    *stream = new Stream;
    state().streams.insert(*stream);
    return SUCCESS;
}
CALL cuStreamDestroy_v2(Stream *stream) {
    Lock lock(state().mutex);
    wait_until_idle(lock);
    const bool known = state().streams.erase(stream) == 1;
    delete stream;
    return known ? SUCCESS : INVALID_HANDLE;
}
CALL cuEventCreate(Event **event, unsigned int flags) { return *event = new Event, flags == 0 ? SUCCESS : INVALID_VALUE; }
CALL cuEventDestroy_v2(Event *event) { return delete event, SUCCESS; }
CALL cuEventRecord(Event *event, Stream *stream) {
    Lock lock(state().mutex);
    event->capture = stream->capture;
    event->after = stream->last;
    if (stream->capture) {
        return stream->capture->broken ? CAPTURE_INVALIDATED : SUCCESS;
    }
    const uint64_t version = ++event->submitted;
    return submit(stream, {nullptr, [=] {
                               event->completed = version;
                               event->time = Clock::now();
                           }});
}
CALL cuStreamWaitEvent(Stream *stream, Event *event, unsigned int) {
    Lock lock(state().mutex);
    if (event->capture && event->capture == state().capture) {
        if (stream->capture != event->capture) {
            stream->last.clear();
        }
        stream->capture = event->capture;
        stream->last.insert(event->after.begin(), event->after.end());
        return SUCCESS;
    }
    if (stream->capture) {
        stream->capture->broken = true;
        return CAPTURE_ISOLATION;
    }
    const uint64_t version = event->submitted;
    return submit(stream, {[=] { return event->completed >= version; }, [] {}});
}
CALL cuEventElapsedTime_v2(float *milliseconds, Event *from, Event *to) {
    Lock lock(state().mutex);
    if (from->capture || to->capture || from->submitted == 0 || to->submitted == 0) {
        return INVALID_HANDLE;
    }
    if (from->completed < from->submitted || to->completed < to->submitted) {
        return NOT_READY;
    }
    *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
    return SUCCESS;
}

// ---------------------------------------------------------------------------------------------- driver: graphs
CALL cuStreamBeginCapture_v2(Stream *stream, unsigned int mode) {
    Lock lock(state().mutex);
    if (mode != 1 || state().capture) { // of this thread
        return INVALID_VALUE;
    }
    stream->capture = state().capture = new Capture{stream, {}};
    stream->last.clear();
    return SUCCESS;
}
CALL cuStreamEndCapture(Stream *stream, Graph **graph) {
    Lock lock(state().mutex);
    *graph = nullptr;
    Capture *capture = state().capture;
    if (!capture || capture->origin != stream) {
        return INVALID_VALUE;
    }
    std::set<size_t> joined;
    std::vector<size_t> left(stream->last.begin(), stream->last.end());
    while (!left.empty()) {
        const size_t node = left.back();
        left.pop_back();
        if (joined.insert(node).second) {
            left.insert(left.end(), capture->nodes[node].after.begin(), capture->nodes[node].after.end());
        }
    }
    const bool whole = joined.size() == capture->nodes.size(), broken = capture->broken;
    for (Stream *other : state().streams) {
        if (other->capture == capture) {
            other->capture = nullptr;
            other->last.clear();
        }
    }
    state().capture = nullptr;
    if (!broken && whole) {
        *graph = new Graph{capture->nodes};
    }
    return broken ? CAPTURE_INVALIDATED : whole ? SUCCESS : CAPTURE_UNJOINED;
}
CALL cuGraphInstantiateWithFlags(Graph **ready, Graph *graph, unsigned long long) {
    return *ready = new Graph(*graph), SUCCESS;
}
CALL cuGraphUpload(Graph *, Stream *) { return SUCCESS; }
CALL cuGraphLaunch(Graph *graph, Stream *stream) {
    Lock lock(state().mutex);
    const std::vector<Node> nodes = graph->nodes;
    return submit(stream, {nullptr, [nodes] {
                               std::set<size_t> done;
                               while (done.size() < nodes.size()) {
                                   std::vector<size_t> able;
                                   for (size_t i = 0; i < nodes.size(); i++) {
                                       bool after_all = !done.count(i);
                                       for (size_t before : nodes[i].after) {
                                           after_all = after_all && done.count(before);
                                       }
                                       if (after_all) {
                                           able.push_back(i);
                                       }
                                   }
                                   const size_t chosen = able[pick(able.size())];
                                   nodes[chosen].operation.run();
                                   done.insert(chosen);
                               }
                           }});
}
CALL cuGraphExecDestroy(Graph *graph) { return delete graph, SUCCESS; }
CALL cuGraphDestroy(Graph *graph) { return delete graph, SUCCESS; }

// ---------------------------------------------------------------------------------------------- driver: kernels
CALL cuModuleLoadData(void **module, const void *image) {
    *module = new std::string(static_cast<const char *>(image));
    return static_cast<std::string *>(*module)->rfind("fake machine code", 0) == 0 ? SUCCESS : INVALID_VALUE;
}
CALL cuModuleUnload(void *module) { return delete static_cast<std::string *>(module), SUCCESS; }
CALL cuModuleGetFunction(const ShimKernel **function, void *, const char *name) {
    for (size_t i = 0; i < SHIM_KERNEL_COUNT; i++) {
        if (std::strcmp(name, SHIM_KERNELS[i].name) == 0) {
            return *function = &SHIM_KERNELS[i], SUCCESS;
        }
    }
    return NOT_FOUND;
}
CALL cuFuncLoad(const ShimKernel *) { return SUCCESS; }
CALL cuFuncGetAttribute(int *value, int attribute, const ShimKernel *) { return *value = 0, attribute == 3 ? SUCCESS : INVALID_VALUE; }
CALL cuFuncGetParamInfo(const ShimKernel *function, size_t index, size_t *offset, size_t *bytes) {
    if (index >= std::strlen(function->kinds)) {
        return INVALID_VALUE;
    }
    *offset = 8 * index;
    *bytes = std::strchr("pl", function->kinds[index]) ? 8 : 4;
    return SUCCESS;
}
CALL cuLaunchKernel(const ShimKernel *function, unsigned int x, unsigned int y, unsigned int z, unsigned int block,
                    unsigned int block_y, unsigned int block_z, unsigned int shared, Stream *stream, void **given,
                    void **extra) {
    Lock lock(state().mutex);
    if (!x || !y || !z || !block || block > 1024 || block % 32 || block_y != 1 || block_z != 1 || shared || extra) {
        return INVALID_VALUE;
    }
    std::vector<uint64_t> arguments;
    for (size_t i = 0; function->kinds[i]; i++) {
        uint64_t word = 0;
        std::memcpy(&word, given[i], std::strchr("pl", function->kinds[i]) ? 8 : 4);
        arguments.push_back(word);
    }
    if (std::strcmp(function->name, "hold") == 0) {
        return submit(stream, holding(arguments));
    }
    return submit(stream, {nullptr, [=] { run_kernel(function, {x, y, z}, block, arguments); }});
}

// ---------------------------------------------------------------------------------------------- NVRTC
CALL nvrtcVersion(int *major, int *minor) { return *major = 13, *minor = 0, 0; }
CALL nvrtcCreateProgram(std::string **program, const char *source, const char *name, int headers, const char *const *,
                        const char *const *) {
    *program = new std::string(std::string("fake machine code of ") + name);
    return headers == 0 && std::strstr(source, "__global__") ? 0 : 1;
}
CALL nvrtcCompileProgram(std::string *, int count, const char *const *options) {
    bool arch = false;
    for (int i = 0; i < count; i++) {
        arch = arch || std::strcmp(options[i], "--gpu-architecture=sm_90") == 0;
    }
    return arch ? 0 : 5;
}
CALL nvrtcGetProgramLogSize(std::string *, size_t *bytes) { return *bytes = 1, 0; }
CALL nvrtcGetProgramLog(std::string *, char *log) { return *log = 0, 0; }
CALL nvrtcGetCUBINSize(std::string *program, size_t *bytes) { return *bytes = program->size() + 1, 0; }
CALL nvrtcGetCUBIN(std::string *program, char *code) { return std::strcpy(code, program->c_str()), 0; }
CALL nvrtcDestroyProgram(std::string **program) { return delete *program, *program = nullptr, 0; }
extern "C" __attribute__((visibility("default"))) const char *nvrtcGetErrorString(unsigned int) {
    return "the fake compiler refuses";
}

// ---------------------------------------------------------------------------------------------- cuBLAS
struct Handle {
    Stream *stream = nullptr;
    uint64_t workspace = 0;
};
CALL cublasCreate_v2(Handle **handle) { return *handle = new Handle, 0; }
CALL cublasDestroy_v2(Handle *handle) { return delete handle, 0; }
CALL cublasGetVersion_v2(Handle *, int *version) { return *version = 130100, 0; }
CALL cublasGetProperty(unsigned int which, int *value) { return *value = which == 0 ? 13 : which == 1 ? 1 : 0, 0; }
CALL cublasSetMathMode(Handle *, unsigned int mode) { return mode == 16 ? 0 : 7; }
CALL cublasSetStream_v2(Handle *handle, Stream *stream) { return *handle = {stream, 0}, 0; } // forgets the workspace
CALL cublasSetWorkspace_v2(Handle *handle, void *workspace, size_t bytes) {
    Lock lock(state().mutex);
    need(number(workspace), bytes, true, "cublasSetWorkspace");
    handle->workspace = number(workspace);
    return number(workspace) % 256 == 0 ? 0 : 7;
}
// op(A)[m][k] · op(B)[k][n] = C[m][n], each by columns: the definition, whatever is transposed.
CALL cublasGemmEx(Handle *handle, unsigned int transpose_a, unsigned int transpose_b, int m, int n, int k,
                  const float *alpha, const bf16 *a, unsigned int type_a, int lda, const bf16 *b, unsigned int type_b,
                  int ldb, const float *beta, bf16 *c, unsigned int type_c, int ldc, unsigned int compute, int) {
    Lock lock(state().mutex);
    if (!handle->stream || !handle->workspace || type_a != 14 || type_b != 14 || type_c != 14 || compute != 68 ||
        *alpha != 1.0f || *beta != 0.0f || lda < (transpose_a ? k : m) || ldb < (transpose_b ? n : k) || ldc < m) {
        return 7;
    }
    need(number(a), 2 * size_t(lda) * (transpose_a ? m : k), true, "cublasGemmEx");
    need(number(b), 2 * size_t(ldb) * (transpose_b ? k : n), true, "cublasGemmEx");
    need(number(c), 2 * size_t(ldc) * n, true, "cublasGemmEx");
    return submit(handle->stream, {nullptr, [=] {
                                       for (int column = 0; column < n; column++) {
                                           for (int row = 0; row < m; row++) {
                                               float sum = 0.0f;
                                               for (int i = 0; i < k; i++) {
                                                   const bf16 left = transpose_a ? a[i + size_t(row) * lda] : a[row + size_t(i) * lda];
                                                   const bf16 right = transpose_b ? b[column + size_t(i) * ldb] : b[i + size_t(column) * ldb];
                                                   sum += float_from_bf16(left) * float_from_bf16(right);
                                               }
                                               c[row + size_t(column) * ldc] = bf16_from_float(sum);
                                           }
                                       }
                                   }});
}
