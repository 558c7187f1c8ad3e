// Stream capture, as the driver's documentation has it: which calls are refused, which streams join, and what a graph
// that comes of it depends on.
#include "fake_cuda.h"

#include <algorithm>

namespace fake {
namespace {

int broken(Capture &capture, int code) {
    capture.invalid = true;
    return code;
}

// Everything that must have run before these nodes have, they included.
std::set<size_t> with_ancestors(const Capture &capture, const std::set<size_t> &nodes) {
    std::set<size_t> all;
    std::vector<size_t> open(nodes.begin(), nodes.end());
    while (!open.empty()) {
        const size_t node = open.back();
        open.pop_back();
        if (all.insert(node).second) {
            open.insert(open.end(), capture.nodes[node].after.begin(), capture.nodes[node].after.end());
        }
    }
    return all;
}

bool is_joined(const Capture &capture) {
    const std::set<size_t> joined = with_ancestors(capture, capture.origin->front);
    return std::all_of(capture.streams.begin(), capture.streams.end(), [&](const Stream *stream) {
        return std::includes(joined.begin(), joined.end(), stream->front.begin(), stream->front.end());
    });
}

void leave(const std::shared_ptr<Capture> &capture) {
    for (Stream *stream : capture->streams) {
        stream->capture.reset();
        stream->front.clear();
    }
    state().captures.erase(capture);
}

} // namespace

int not_while_capturing() {
    int code = SUCCESS;
    for (const std::shared_ptr<Capture> &capture : state().captures) {
        code = broken(*capture, CAPTURE_UNSUPPORTED);
    }
    return code;
}

int capture_operation(Stream *stream, Operation operation) {
    Capture &capture = *stream->capture;
    if (capture.invalid) {
        return CAPTURE_INVALIDATED;
    }
    if (operation.kind == Operation::hold) {
        fail("a hold was captured: whoever launches the graph waits for a host that does not know of it");
    }
    if (operation.kind == Operation::graph) {
        fail("a graph was launched into a capture: this driver does not know child graphs");
    }
    capture.nodes.push_back({std::move(operation), stream->front});
    stream->front = {capture.nodes.size() - 1};
    return SUCCESS;
}

int capture_record(Stream *stream, Event *event) {
    if (stream->capture->invalid) {
        return CAPTURE_INVALIDATED;
    }
    event->capture = stream->capture;
    event->front = stream->front;
    event->last.reset();
    return SUCCESS;
}

// The stream waits for an event, and one of the two is of a capture.
int capture_wait(Stream *stream, Event *event) {
    if (!event->capture) {
        // Something outside of the capture; an event that was never recorded is no wait at all.
        return event->last ? broken(*stream->capture, CAPTURE_ISOLATION) : SUCCESS;
    }
    Capture &capture = *event->capture;
    if (state().captures.count(event->capture) == 0) {
        return stream->capture ? broken(*stream->capture, CAPTURE_ISOLATION) : CAPTURED_EVENT;
    }
    if (capture.invalid) {
        return CAPTURE_INVALIDATED;
    }
    if (stream == &state().default_stream) {
        return broken(capture, CAPTURE_IMPLICIT);
    }
    if (stream->capture && stream->capture != event->capture) {
        stream->capture->invalid = true;
        return broken(capture, CAPTURE_MERGE);
    }
    stream->capture = event->capture;
    stream->front.insert(event->front.begin(), event->front.end());
    capture.streams.insert(stream);
    return SUCCESS;
}

} // namespace fake

using namespace fake;

FAKE_EXPORT int cuStreamBeginCapture_v2(void *handle, int mode) {
    FAKE_ENTER("cuStreamBeginCapture_v2");
    Stream *const stream = find_stream(handle);
    if (stream == nullptr) {
        return INVALID_HANDLE;
    }
    if (stream == &state().default_stream) {
        return CAPTURE_UNSUPPORTED;
    }
    if (stream->capture) {
        return ILLEGAL_STATE;
    }
    if (mode < 0 || mode > 2) {
        return INVALID_VALUE;
    }
    stream->capture = std::make_shared<Capture>();
    stream->capture->origin = stream;
    stream->capture->streams = {stream};
    stream->front.clear();
    state().captures.insert(stream->capture);
    return SUCCESS;
}

FAKE_EXPORT int cuStreamEndCapture(void *handle, void **graph) {
    FAKE_ENTER("cuStreamEndCapture");
    *graph = nullptr;
    Stream *const stream = find_stream(handle);
    if (stream == nullptr || !stream->capture) {
        return stream == nullptr ? INVALID_HANDLE : ILLEGAL_STATE;
    }
    const std::shared_ptr<Capture> capture = stream->capture;
    if (capture->origin != stream) {
        return broken(*capture, CAPTURE_UNMATCHED);
    }
    const bool joined = is_joined(*capture);
    leave(capture);
    if (capture->invalid) {
        return CAPTURE_INVALIDATED;
    }
    if (!joined) {
        return CAPTURE_UNJOINED;
    }
    auto *made = new std::shared_ptr<Graph>(std::make_shared<Graph>());
    (*made)->nodes = capture->nodes;
    state().graphs.insert(made);
    state().counts["graphs"]++;
    *graph = made;
    return SUCCESS;
}

FAKE_EXPORT int cuGraphInstantiateWithFlags(void **ready, void *graph, unsigned long long flags) {
    FAKE_ENTER("cuGraphInstantiateWithFlags");
    const auto found = state().graphs.find(static_cast<std::shared_ptr<Graph> *>(graph));
    if (found == state().graphs.end() || flags > 15) {
        return INVALID_VALUE;
    }
    auto *made = new std::shared_ptr<Graph>(std::make_shared<Graph>());
    (*made)->nodes = (**found)->nodes;
    state().ready_graphs.insert(made);
    *ready = made;
    return SUCCESS;
}

namespace {
const std::shared_ptr<Graph> *find_ready(void *handle) {
    const auto found = state().ready_graphs.find(static_cast<std::shared_ptr<Graph> *>(handle));
    return found == state().ready_graphs.end() ? nullptr : *found;
}
} // namespace

FAKE_EXPORT int cuGraphUpload(void *ready, void *stream) {
    FAKE_ENTER("cuGraphUpload");
    return find_ready(ready) == nullptr || find_stream(stream) == nullptr ? INVALID_VALUE : SUCCESS;
}

FAKE_EXPORT int cuGraphLaunch(void *ready, void *handle) {
    FAKE_ENTER("cuGraphLaunch");
    const std::shared_ptr<Graph> *const graph = find_ready(ready);
    Stream *const stream = find_stream(handle);
    if (graph == nullptr || stream == nullptr) {
        return INVALID_VALUE;
    }
    Operation launch;
    launch.kind = Operation::graph;
    launch.name = "graph";
    launch.launched = *graph;
    launch.done.assign((*graph)->nodes.size(), false);
    launch.before = (*graph)->last_launch;
    launch.point = std::make_shared<Mark>();
    (*graph)->last_launch = launch.point;
    state().counts["graph launches"]++;
    return submit(stream, std::move(launch));
}

FAKE_EXPORT int cuGraphExecDestroy(void *ready) {
    FAKE_ENTER("cuGraphExecDestroy");
    auto *const handle = static_cast<std::shared_ptr<Graph> *>(ready);
    if (state().ready_graphs.erase(handle) == 0) {
        return INVALID_VALUE;
    }
    delete handle;
    return SUCCESS;
}

FAKE_EXPORT int cuGraphDestroy(void *graph) {
    FAKE_ENTER("cuGraphDestroy");
    auto *const handle = static_cast<std::shared_ptr<Graph> *>(graph);
    if (state().graphs.erase(handle) == 0) {
        return INVALID_VALUE;
    }
    delete handle;
    return SUCCESS;
}
