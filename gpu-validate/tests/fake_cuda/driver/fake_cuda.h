// A CUDA driver for tests that has no GPU: what its parts share. It says nothing about any GPU.
//
// memory.cpp ── allocations behind guard zones, which pointers are whose
// queue.cpp ─── streams, events and the scheduler      capture.cpp ── stream capture and graphs
// kernels.cpp ─ the project's own kernel sources, run by the CPU shim
// driver.cpp, stream_calls.cpp ── the C functions that a program calls
//
// Work runs on the calling thread, inside driver calls: always when the documentation says that a call waits, and now
// and then before that. Of everything that may run, a generator seeded by FAKE_CUDA_SEED picks the next, so a wait
// that is missing shows under some seed. Seed 0 runs nothing before it must; seed 1 runs everything as soon as it may.
//
// Stricter than CUDA on purpose: memory that the program should not reach is not mapped, the GPU's address of pinned
// memory differs from the CPU's, and what is undefined there ends the process here, with one line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace fake {

// Codes of cuda.h that this driver answers.
enum Code {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    ILLEGAL_STATE = 401,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_OUT_OF_RESOURCES = 701,
    ALREADY_REGISTERED = 712,
    NOT_REGISTERED = 713,
    LAUNCH_FAILED = 719,
    NOT_SUPPORTED = 801,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901,
    CAPTURE_MERGE = 902,
    CAPTURE_UNMATCHED = 903,
    CAPTURE_UNJOINED = 904,
    CAPTURE_ISOLATION = 905,
    CAPTURE_IMPLICIT = 906,
    CAPTURED_EVENT = 907,
};
const char *name_of(int code);

// A point of a stream that was passed, and when, in nanoseconds of the device's clock.
struct Mark {
    bool passed = false;
    uint64_t at = 0;
};

struct Graph;

// One thing that a stream does. `run` may be empty.
struct Operation {
    enum Kind { work, mark, wait, hold, graph } kind = work;
    std::string name;
    std::function<void()> run;
    std::shared_ptr<Mark> point;
    // Of `hold`: until when, whether it may end before, and what runs at its end, told whether time ran out.
    uint64_t started = 0;
    uint64_t limit = 0;
    std::function<bool()> opened;
    std::function<void(bool)> close;
    // Of `graph`: the nodes that have not run, and the launch of the same graph before this one.
    std::shared_ptr<Graph> launched;
    std::vector<bool> done;
    std::shared_ptr<Mark> before;
};

struct Node {
    Operation operation;
    std::set<size_t> after;
};

struct Graph {
    std::vector<Node> nodes;
    std::shared_ptr<Mark> last_launch;
};

struct Stream;

struct Capture {
    Stream *origin = nullptr;
    std::set<Stream *> streams;
    std::vector<Node> nodes;
    bool invalid = false;
};

struct Stream {
    std::deque<Operation> queue;
    bool ended = false;
    std::shared_ptr<Capture> capture;
    std::set<size_t> front;
};

struct Event {
    std::shared_ptr<Mark> last;
    std::shared_ptr<Capture> capture;
    std::set<size_t> front;
};

// What was done, for leaks and for tests that ask whether something ran at all.
using Counts = std::map<std::string, uint64_t>;

struct State {
    std::recursive_mutex mutex;
    bool started = false;
    int users_of_context = 0;
    int broken = SUCCESS; // an error of the device's own: every later call answers it
    std::vector<Stream *> streams; // by age: choices must not depend on where memory lies
    std::set<Event *> events;
    std::set<std::shared_ptr<Graph> *> graphs, ready_graphs;
    std::set<std::shared_ptr<Capture>> captures;
    Stream default_stream;
    std::mt19937_64 dice;
    uint64_t seed = 0;
    uint64_t operations = 0;
    Counts counts;
};
State &state();

// Ends the process: what was done is undefined on a GPU, or this driver does not know it.
[[noreturn]] void fail(const std::string &what);
std::string setting(const char *name, const char *otherwise);
// The code to answer instead of doing anything; 0 to go on. Every call begins with it.
int enter(const char *call, bool needs_context = true);
// Whether FAKE_CUDA_FAIL asks this thing, a call or `kernel:NAME`, to fail now: the code, or 0.
int injected(const std::string &what);

// memory.cpp
int allocate(uint64_t *address, size_t bytes);
int release(uint64_t address);
int allocate_pinned(void **memory, size_t bytes);
int release_pinned(void *memory);
int add_registered(void *memory, size_t bytes);
int remove_registered(void *memory);
int device_view(uint64_t *address, void *memory);
size_t free_bytes();
size_t total_bytes();
bool is_device_side(uint64_t address);
bool is_page_locked(uint64_t address, size_t bytes);
// Ends the process unless the bytes lie in one live allocation that the GPU reaches (or the CPU, as host memory).
void need_reachable(uint64_t address, size_t bytes, const std::string &what);
void need_host(uint64_t address, size_t bytes, const std::string &what);
void check_guards();
std::string leaks();
void close_context();
// While one is alive, device memory is mapped for this process.
struct Reach {
    Reach();
    ~Reach();
};

// queue.cpp
uint64_t device_clock();
// Appends to a stream, or to the capture that it is part of. Answers a code.
int submit(Stream *stream, Operation operation);
void run_all();
void run_until(const std::shared_ptr<Mark> &point);
Stream *find_stream(void *handle);
Event *find_event(void *handle);
bool is_idle(const Stream &stream);

// capture.cpp
// The code for a call that is not allowed while this thread captures, which breaks the capture; 0 if none is going on.
int not_while_capturing();
int capture_operation(Stream *stream, Operation operation);
int capture_record(Stream *stream, Event *event);
int capture_wait(Stream *stream, Event *event);

// kernels.cpp
struct Kernel;
const Kernel *find_kernel(const std::string &name);
const char *kinds_of(const Kernel &kernel);
const char *name_of(const Kernel &kernel);
unsigned int most_threads(const Kernel &kernel);
// A launch as an operation; what it needs of its arguments is checked when it runs.
Operation launch_operation(const Kernel &kernel, const uint32_t grid[3], uint32_t threads,
                           std::vector<uint64_t> arguments);

// For other libraries of this driver, such as the matrix products.
int submit_from_library(void *stream, const std::string &name, std::function<void()> work);

} // namespace fake

#define FAKE_EXPORT extern "C" __attribute__((visibility("default")))
#define FAKE_ENTER(call)                                                                                               \
    std::lock_guard<std::recursive_mutex> fake_lock(fake::state().mutex);                                              \
    if (const int code = fake::enter(call)) {                                                                          \
        return code;                                                                                                   \
    }
