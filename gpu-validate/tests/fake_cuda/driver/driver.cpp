// The driver's own calls: start, the device's properties, memory, modules and kernels. Streams are in stream_calls.cpp.
#include "fake_cuda.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <unistd.h>

namespace fake {
namespace {

const char DEVICE_NAME[] = "FAKE CUDA (test driver, no GPU)";
constexpr int MULTIPROCESSORS = 4;
constexpr int CONTEXT = 1; // what a context handle points at

thread_local bool has_context = false;

struct Failure {
    std::string what;
    uint64_t left; // calls that succeed before
    int code;
};

// FAKE_CUDA_FAIL: `what=code` or `what@n=code` (the n-th, from 1), separated by commas. Counted once the path in
// FAKE_CUDA_FAIL_FROM exists, if there is one.
std::vector<Failure> read_failures() {
    std::vector<Failure> all;
    std::string rest = setting("FAKE_CUDA_FAIL", "");
    while (!rest.empty()) {
        const size_t comma = rest.find(',');
        const std::string one = rest.substr(0, comma);
        rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
        const size_t equals = one.rfind('=');
        if (equals == std::string::npos) {
            fail("FAKE_CUDA_FAIL: `" + one + "`; expected what=code or what@n=code");
        }
        const size_t at = one.rfind('@', equals);
        const uint64_t nth = at == std::string::npos ? 1 : std::strtoull(one.c_str() + at + 1, nullptr, 10);
        all.push_back({one.substr(0, at == std::string::npos ? equals : at), nth, std::atoi(one.c_str() + equals + 1)});
    }
    return all;
}

const std::map<int, const char *> &names() {
    static const std::map<int, const char *> all = {
        {SUCCESS, "CUDA_SUCCESS"},
        {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
        {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
        {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"},
        {NO_DEVICE, "CUDA_ERROR_NO_DEVICE"},
        {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"},
        {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE"},
        {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
        {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"},
        {ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE"},
        {NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
        {NOT_READY, "CUDA_ERROR_NOT_READY"},
        {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"},
        {LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"},
        {ALREADY_REGISTERED, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED"},
        {NOT_REGISTERED, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED"},
        {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED"},
        {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED"},
        {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
        {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
        {CAPTURE_MERGE, "CUDA_ERROR_STREAM_CAPTURE_MERGE"},
        {CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED"},
        {CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED"},
        {CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION"},
        {CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT"},
        {CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT"},
    };
    return all;
}

void write_counts(const std::string &leaks) {
    const std::string path = setting("FAKE_CUDA_COUNTS", "");
    if (path.empty()) {
        return;
    }
    std::ofstream file(path);
    for (const auto &entry : state().counts) {
        file << entry.first << " " << entry.second << "\n";
    }
    file << "left " << leaks << "\n";
}

void end_context() {
    State &all = state();
    const std::string left = leaks() + " streams=" + std::to_string(all.streams.size()) +
                             " events=" + std::to_string(all.events.size()) +
                             " graphs=" + std::to_string(all.graphs.size() + all.ready_graphs.size());
    std::fprintf(stderr, "FAKE CUDA: left at the end: %s\n", left.c_str());
    write_counts(left);
    close_context();
}

} // namespace

State &state() {
    static State *all = new State;
    return *all;
}

__attribute__((visibility("default"))) void fail(const std::string &what) {
    std::fprintf(stderr, "FAKE CUDA: %s\n", what.c_str());
    std::fflush(stderr);
    _exit(134);
}

std::string setting(const char *name, const char *otherwise) {
    const char *const value = std::getenv(name);
    return value == nullptr ? otherwise : value;
}

const char *name_of(int code) {
    const auto found = names().find(code);
    return found == names().end() ? nullptr : found->second;
}

int injected(const std::string &what) {
    static std::vector<Failure> all = read_failures();
    static const std::string from = setting("FAKE_CUDA_FAIL_FROM", "");
    static bool begun = from.empty();
    const auto is_listed = [&](const Failure &failure) { return failure.what == what && failure.left > 0; };
    if (std::none_of(all.begin(), all.end(), is_listed) || !(begun = begun || access(from.c_str(), F_OK) == 0)) {
        return SUCCESS;
    }
    for (Failure &failure : all) {
        if (failure.what == what && failure.left > 0 && --failure.left == 0) {
            return failure.code;
        }
    }
    return SUCCESS;
}

int enter(const char *call, bool needs_context) {
    if (needs_context && !state().started) {
        return NOT_INITIALIZED;
    }
    if (needs_context && !has_context) {
        return INVALID_CONTEXT;
    }
    if (const int code = injected(call)) {
        return code;
    }
    return needs_context ? state().broken : SUCCESS;
}

} // namespace fake

using namespace fake;

#define FAKE_ENTER_EARLY(call)                                                                                         \
    std::lock_guard<std::recursive_mutex> fake_lock(fake::state().mutex);                                              \
    if (const int code = fake::enter(call, false)) {                                                                   \
        return code;                                                                                                   \
    }

FAKE_EXPORT int cuInit(unsigned int flags) {
    FAKE_ENTER_EARLY("cuInit");
    if (flags != 0) {
        return INVALID_VALUE;
    }
    if (!state().started) {
        std::fprintf(stderr, "FAKE CUDA: a test driver without a GPU; nothing that is timed on it is a measurement\n");
        state().seed = std::strtoull(setting("FAKE_CUDA_SEED", "0").c_str(), nullptr, 10);
        state().dice.seed(state().seed);
    }
    state().started = true;
    return SUCCESS;
}

FAKE_EXPORT int cuDriverGetVersion(int *version) {
    FAKE_ENTER_EARLY("cuDriverGetVersion");
    *version = 13000;
    return SUCCESS;
}

FAKE_EXPORT int cuDeviceGetCount(int *count) {
    FAKE_ENTER_EARLY("cuDeviceGetCount");
    *count = 1;
    return state().started ? SUCCESS : NOT_INITIALIZED;
}

FAKE_EXPORT int cuDeviceGet(int *device, int ordinal) {
    FAKE_ENTER_EARLY("cuDeviceGet");
    *device = 0;
    return !state().started ? NOT_INITIALIZED : ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}

FAKE_EXPORT int cuDeviceGetName(char *name, int length, int device) {
    FAKE_ENTER_EARLY("cuDeviceGetName");
    if (device != 0 || length <= 0) {
        return INVALID_DEVICE;
    }
    std::snprintf(name, (size_t)length, "%s", DEVICE_NAME);
    return SUCCESS;
}

FAKE_EXPORT int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
    FAKE_ENTER_EARLY("cuDeviceGetUuid_v2");
    std::memcpy(uuid, "FAKE-CUDA-NO-GPU", 16);
    return device == 0 ? SUCCESS : INVALID_DEVICE;
}

FAKE_EXPORT int cuDeviceGetPCIBusId(char *id, int length, int device) {
    FAKE_ENTER_EARLY("cuDeviceGetPCIBusId");
    std::snprintf(id, (size_t)length, "ffff:ff:1f.0");
    return device == 0 ? SUCCESS : INVALID_DEVICE;
}

FAKE_EXPORT int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    FAKE_ENTER_EARLY("cuDeviceTotalMem_v2");
    *bytes = total_bytes();
    return device == 0 ? SUCCESS : INVALID_DEVICE;
}

FAKE_EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device) {
    FAKE_ENTER_EARLY("cuDeviceGetAttribute");
    static const std::map<int, int> known = {
        {16, MULTIPROCESSORS}, {32, 0}, {38, 1 << 20}, {75, 9}, {76, 0}, // SMs, ECC, L2, compute capability
    };
    const auto found = known.find(attribute);
    if (device != 0 || found == known.end()) {
        return device != 0 ? INVALID_DEVICE : INVALID_VALUE;
    }
    *value = found->second;
    return SUCCESS;
}

FAKE_EXPORT int cuDevicePrimaryCtxRetain(void **context, int device) {
    FAKE_ENTER_EARLY("cuDevicePrimaryCtxRetain");
    if (device != 0) {
        return INVALID_DEVICE;
    }
    state().users_of_context++;
    *context = const_cast<int *>(&CONTEXT);
    return SUCCESS;
}

FAKE_EXPORT int cuDevicePrimaryCtxRelease_v2(int device) {
    FAKE_ENTER_EARLY("cuDevicePrimaryCtxRelease_v2");
    if (device != 0 || state().users_of_context == 0) {
        return INVALID_CONTEXT;
    }
    if (--state().users_of_context == 0) {
        end_context();
    }
    return SUCCESS;
}

FAKE_EXPORT int cuCtxSetCurrent(void *context) {
    FAKE_ENTER_EARLY("cuCtxSetCurrent");
    has_context = context != nullptr;
    return context == nullptr || context == &CONTEXT ? SUCCESS : INVALID_CONTEXT;
}

FAKE_EXPORT int cuGetErrorName(int code, const char **text) {
    *text = name_of(code);
    return *text == nullptr ? INVALID_VALUE : SUCCESS;
}

FAKE_EXPORT int cuGetErrorString(int code, const char **text) {
    *text = name_of(code) == nullptr ? nullptr : "as the fake CUDA driver answers it";
    return *text == nullptr ? INVALID_VALUE : SUCCESS;
}

FAKE_EXPORT int cuMemGetInfo_v2(size_t *free, size_t *total) {
    FAKE_ENTER("cuMemGetInfo_v2");
    *free = free_bytes();
    *total = total_bytes();
    return SUCCESS;
}

FAKE_EXPORT int cuMemAlloc_v2(uint64_t *address, size_t bytes) {
    FAKE_ENTER("cuMemAlloc_v2");
    const int captured = not_while_capturing();
    return captured ? captured : allocate(address, bytes);
}

FAKE_EXPORT int cuMemFree_v2(uint64_t address) {
    FAKE_ENTER("cuMemFree_v2");
    if (const int captured = not_while_capturing()) {
        return captured;
    }
    run_all();
    return address == 0 ? SUCCESS : release(address);
}

FAKE_EXPORT int cuMemHostAlloc(void **memory, size_t bytes, unsigned int flags) {
    FAKE_ENTER("cuMemHostAlloc");
    if (flags > 7) {
        return INVALID_VALUE;
    }
    const int captured = not_while_capturing();
    return captured ? captured : allocate_pinned(memory, bytes);
}

FAKE_EXPORT int cuMemFreeHost(void *memory) {
    FAKE_ENTER("cuMemFreeHost");
    if (const int captured = not_while_capturing()) {
        return captured;
    }
    run_all();
    return release_pinned(memory);
}

FAKE_EXPORT int cuMemHostRegister_v2(void *memory, size_t bytes, unsigned int flags) {
    FAKE_ENTER("cuMemHostRegister_v2");
    if (flags > 15) {
        return INVALID_VALUE;
    }
    const int captured = not_while_capturing();
    return captured ? captured : add_registered(memory, bytes);
}

FAKE_EXPORT int cuMemHostUnregister(void *memory) {
    FAKE_ENTER("cuMemHostUnregister");
    for (const Stream *stream : state().streams) {
        if (!is_idle(*stream)) {
            fail("cuMemHostUnregister while work is queued that may use the memory");
        }
    }
    const int captured = not_while_capturing();
    return captured ? captured : remove_registered(memory);
}

FAKE_EXPORT int cuMemHostGetDevicePointer_v2(uint64_t *address, void *memory, unsigned int flags) {
    FAKE_ENTER("cuMemHostGetDevicePointer_v2");
    return flags != 0 ? INVALID_VALUE : device_view(address, memory);
}

// The real NVRTC asks a driver that it finds for a table of its own, and takes no for an answer.
FAKE_EXPORT int cuGetExportTable(const void **table, const void *) {
    *table = nullptr;
    return NOT_FOUND;
}
