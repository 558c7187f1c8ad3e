// Streams, events, and the scheduler that picks what runs next.
#include "fake_cuda.h"

#include <algorithm>
#include <chrono>
#include <thread>

namespace fake {
namespace {

constexpr size_t MOST_QUEUED = 1024; // a GPU's launch queue: submitting into a full one waits

uint64_t now() {
    const auto since = std::chrono::steady_clock::now().time_since_epoch();
    return (uint64_t)std::chrono::duration_cast<std::chrono::nanoseconds>(since).count();
}

std::vector<Stream *> all_streams() {
    std::vector<Stream *> all = state().streams;
    all.push_back(&state().default_stream);
    return all;
}

void pass(const std::shared_ptr<Mark> &point) {
    point->passed = true;
    point->at = device_clock();
}

void run_one(Operation &operation) {
    state().operations++;
    if (state().broken != SUCCESS) {
        return;
    }
    const int code = injected("kernel:" + operation.name);
    if (code != SUCCESS) {
        state().broken = code;
        return;
    }
    if (operation.run) {
        const Reach reach;
        operation.run();
    }
}

// Nodes of a launched graph that may run now.
std::vector<size_t> ready_nodes(const Operation &operation) {
    std::vector<size_t> ready;
    if (operation.before && !operation.before->passed) {
        return ready;
    }
    const std::vector<Node> &nodes = operation.launched->nodes;
    for (size_t i = 0; i < nodes.size(); i++) {
        const auto done = [&](size_t other) { return operation.done[other]; };
        if (!operation.done[i] && std::all_of(nodes[i].after.begin(), nodes[i].after.end(), done)) {
            ready.push_back(i);
        }
    }
    return ready;
}

bool try_hold(Operation &operation) {
    if (operation.started == 0) {
        operation.started = now();
    }
    const bool late = now() - operation.started >= operation.limit;
    if (!late && !operation.opened()) {
        return false;
    }
    const Reach reach;
    operation.close(late);
    state().operations++;
    return true;
}

// What a stream's first operation allows: nothing, itself, or some node of a graph.
struct Choice {
    Stream *stream;
    size_t node;
};
constexpr size_t WHOLE = SIZE_MAX;

void add_choices(Stream *stream, std::vector<Choice> &choices, bool &holds) {
    if (stream->queue.empty()) {
        return;
    }
    Operation &first = stream->queue.front();
    switch (first.kind) {
    case Operation::wait:
        if (first.point->passed) {
            choices.push_back({stream, WHOLE});
        }
        return;
    case Operation::hold:
        if (first.started != 0 && (first.opened() || now() - first.started >= first.limit)) {
            choices.push_back({stream, WHOLE});
        } else if (first.started == 0) {
            first.started = now();
        }
        holds = true;
        return;
    case Operation::graph:
        for (const size_t node : ready_nodes(first)) {
            choices.push_back({stream, node});
        }
        if (std::find(first.done.begin(), first.done.end(), false) == first.done.end()) {
            choices.push_back({stream, WHOLE});
        }
        return;
    default:
        choices.push_back({stream, WHOLE});
    }
}

// Runs one of the things that may run. False if there is none.
bool step(bool &holds) {
    std::vector<Choice> choices;
    holds = false;
    for (Stream *stream : all_streams()) {
        add_choices(stream, choices, holds);
    }
    if (choices.empty()) {
        return false;
    }
    const Choice chosen = choices[state().dice() % choices.size()];
    Operation &first = chosen.stream->queue.front();
    if (chosen.node != WHOLE) {
        Operation node = first.launched->nodes[chosen.node].operation;
        run_one(node);
        first.done[chosen.node] = true;
        return true;
    }
    switch (first.kind) {
    case Operation::work:
        run_one(first);
        break;
    case Operation::hold:
        if (!try_hold(first)) {
            return true;
        }
        break;
    case Operation::mark:
    case Operation::graph:
        pass(first.point);
        break;
    case Operation::wait:
        break;
    }
    chosen.stream->queue.pop_front();
    return true;
}

void run_while(const std::function<bool()> &unfinished) {
    while (unfinished()) {
        bool holds = false;
        if (step(holds)) {
            continue;
        }
        if (!holds) {
            fail("nothing can run any more and work is left: a wait for something that never comes");
        }
        // The limit of a hold ends this. Others may not come in meanwhile: this call waits, as the documentation says.
        std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
}

// A GPU ends a hold by itself while the program does something else entirely.
void watch_holds() {
    for (;;) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        const std::unique_lock<std::recursive_mutex> lock(state().mutex, std::try_to_lock);
        if (!lock.owns_lock()) {
            continue;
        }
        for (Stream *stream : all_streams()) {
            if (stream->queue.empty() || stream->queue.front().kind != Operation::hold) {
                continue;
            }
            Operation &first = stream->queue.front();
            if (first.started != 0 && (first.opened() || now() - first.started >= first.limit) && try_hold(first)) {
                stream->queue.pop_front();
            }
        }
    }
}

void run_some() {
    bool holds = false;
    if (state().seed == 0) {
        return;
    }
    const uint64_t most = state().seed == 1 ? UINT64_MAX : state().dice() % 3;
    for (uint64_t i = 0; i < most && step(holds); i++) {
    }
}

void start_holds() {
    for (Stream *stream : all_streams()) {
        if (!stream->queue.empty() && stream->queue.front().kind == Operation::hold) {
            Operation &first = stream->queue.front();
            first.started = first.started == 0 ? now() : first.started;
        }
    }
}

} // namespace

// Real time, and a microsecond more for every operation: two events never have the same time.
uint64_t device_clock() { return now() + 1000 * state().operations; }

bool is_idle(const Stream &stream) { return stream.queue.empty(); }

int submit(Stream *stream, Operation operation) {
    if (stream->capture) {
        return capture_operation(stream, std::move(operation));
    }
    if (stream->queue.size() >= MOST_QUEUED) {
        run_while([&] { return stream->queue.size() >= MOST_QUEUED; });
    }
    if (operation.kind == Operation::hold) {
        static const bool watching = (std::thread(watch_holds).detach(), true);
        (void)watching;
    }
    stream->queue.push_back(std::move(operation));
    start_holds();
    run_some();
    return SUCCESS;
}

void run_all() {
    run_while([] {
        const std::vector<Stream *> all = all_streams();
        return std::any_of(all.begin(), all.end(), [](Stream *stream) { return !stream->queue.empty(); });
    });
    check_guards();
    std::vector<Stream *> alive;
    for (Stream *stream : state().streams) {
        if (stream->ended) {
            delete stream;
        } else {
            alive.push_back(stream);
        }
    }
    state().streams = alive;
}

void run_until(const std::shared_ptr<Mark> &point) {
    run_while([&] { return !point->passed; });
}

Stream *find_stream(void *handle) {
    if (handle == nullptr) {
        return &state().default_stream;
    }
    const std::vector<Stream *> &all = state().streams;
    const auto found = std::find(all.begin(), all.end(), static_cast<Stream *>(handle));
    return found == all.end() || (*found)->ended ? nullptr : *found;
}

Event *find_event(void *handle) {
    const auto found = state().events.find(static_cast<Event *>(handle));
    return found == state().events.end() ? nullptr : *found;
}

__attribute__((visibility("default"))) int submit_from_library(void *stream, const std::string &name,
                                                               std::function<void()> work) {
    Stream *const found = find_stream(stream);
    if (found == nullptr) {
        fail(name + ": its stream is not alive");
    }
    Operation operation;
    operation.name = name;
    operation.run = std::move(work);
    state().counts[name]++;
    return submit(found, std::move(operation));
}

} // namespace fake
