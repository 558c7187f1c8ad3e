// The driver's calls that put something into a stream, or wait for one.
#include "fake_cuda.h"

#include <algorithm>
#include <cstring>
#include <malloc.h>

using namespace fake;

namespace {

Operation copying(const char *name, uint64_t to, uint64_t from, size_t bytes) {
    Operation operation;
    operation.name = name;
    operation.run = [=] {
        const auto check = [&](uint64_t address, const char *side) {
            const std::string what = std::string(name) + ", " + side;
            if (is_device_side(address)) {
                need_reachable(address, bytes, what);
            } else {
                need_host(address, bytes, what);
            }
        };
        check(to, "destination");
        check(from, "source");
        std::memmove(reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), bytes);
    };
    state().counts[name]++;
    return operation;
}

// What is copied from pageable memory is taken at once, as a GPU's driver takes it to memory of its own.
Operation copying_staged(const char *name, uint64_t to, const void *from, size_t bytes) {
    const auto *const begin = static_cast<const unsigned char *>(from);
    auto staged = std::make_shared<std::vector<unsigned char>>(begin, begin + bytes);
    Operation operation;
    operation.name = name;
    operation.run = [=] {
        need_reachable(to, bytes, std::string(name) + ", destination");
        std::memcpy(reinterpret_cast<void *>(to), staged->data(), bytes);
    };
    state().counts[name]++;
    return operation;
}

Operation marking(const std::shared_ptr<Mark> &point) {
    Operation operation;
    operation.kind = Operation::mark;
    operation.point = point;
    return operation;
}

int wait_for_stream(Stream *stream) {
    const auto point = std::make_shared<Mark>();
    if (const int code = submit(stream, marking(point))) {
        return code;
    }
    run_until(point);
    return state().broken;
}

} // namespace

FAKE_EXPORT int cuCtxSynchronize() {
    FAKE_ENTER("cuCtxSynchronize");
    if (const int captured = not_while_capturing()) {
        return captured;
    }
    run_all();
    return state().broken;
}

FAKE_EXPORT int cuStreamCreate(void **handle, unsigned int flags) {
    FAKE_ENTER("cuStreamCreate");
    if (flags != 1) {
        fail("cuStreamCreate with flags " + std::to_string(flags) + "; this driver knows CU_STREAM_NON_BLOCKING alone");
    }
    Stream *const stream = new Stream;
    state().streams.push_back(stream);
    *handle = stream;
    return SUCCESS;
}

FAKE_EXPORT int cuStreamDestroy_v2(void *handle) {
    FAKE_ENTER("cuStreamDestroy_v2");
    Stream *const stream = find_stream(handle);
    if (stream == nullptr || stream == &state().default_stream) {
        return INVALID_HANDLE;
    }
    if (stream->capture) {
        stream->capture->invalid = true;
        return CAPTURE_UNSUPPORTED;
    }
    stream->ended = true;
    if (is_idle(*stream)) {
        std::vector<Stream *> &all = state().streams;
        all.erase(std::remove(all.begin(), all.end(), stream), all.end());
        delete stream;
    }
    return SUCCESS;
}

FAKE_EXPORT int cuEventCreate(void **handle, unsigned int flags) {
    FAKE_ENTER("cuEventCreate");
    if (flags > 1) {
        fail("cuEventCreate with flags " + std::to_string(flags) + "; this driver knows events with times alone");
    }
    Event *const event = new Event;
    state().events.insert(event);
    *handle = event;
    return SUCCESS;
}

FAKE_EXPORT int cuEventDestroy_v2(void *handle) {
    FAKE_ENTER("cuEventDestroy_v2");
    if (find_event(handle) == nullptr) {
        return INVALID_HANDLE;
    }
    state().events.erase(static_cast<Event *>(handle));
    delete static_cast<Event *>(handle);
    return SUCCESS;
}

FAKE_EXPORT int cuEventRecord(void *handle, void *stream_handle) {
    FAKE_ENTER("cuEventRecord");
    Event *const event = find_event(handle);
    Stream *const stream = find_stream(stream_handle);
    if (event == nullptr || stream == nullptr) {
        return INVALID_HANDLE;
    }
    if (stream->capture) {
        return capture_record(stream, event);
    }
    event->capture.reset();
    event->last = std::make_shared<Mark>();
    return submit(stream, marking(event->last));
}

FAKE_EXPORT int cuStreamWaitEvent(void *stream_handle, void *handle, unsigned int flags) {
    FAKE_ENTER("cuStreamWaitEvent");
    Event *const event = find_event(handle);
    Stream *const stream = find_stream(stream_handle);
    if (event == nullptr || stream == nullptr || flags > 1) {
        return flags > 1 ? INVALID_VALUE : INVALID_HANDLE;
    }
    if (stream->capture || event->capture) {
        return capture_wait(stream, event);
    }
    if (!event->last) {
        return SUCCESS;
    }
    Operation operation;
    operation.kind = Operation::wait;
    operation.point = event->last;
    return submit(stream, std::move(operation));
}

FAKE_EXPORT int cuEventElapsedTime_v2(float *milliseconds, void *from, void *to) {
    FAKE_ENTER("cuEventElapsedTime_v2");
    const Event *const events[2] = {find_event(from), find_event(to)};
    for (const Event *event : events) {
        if (event == nullptr || (!event->last && !event->capture)) {
            return INVALID_HANDLE;
        }
        if (event->capture) {
            return CAPTURED_EVENT;
        }
        if (!event->last->passed) {
            return NOT_READY;
        }
    }
    *milliseconds = (float)((double)(int64_t)(events[1]->last->at - events[0]->last->at) / 1e6);
    return SUCCESS;
}

FAKE_EXPORT int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *handle) {
    FAKE_ENTER("cuMemcpyHtoDAsync_v2");
    Stream *const stream = find_stream(handle);
    if (stream == nullptr) {
        return INVALID_HANDLE;
    }
    need_host(reinterpret_cast<uint64_t>(from), bytes, "cuMemcpyHtoDAsync, source");
    need_reachable(to, bytes, "cuMemcpyHtoDAsync, destination");
    const uint64_t source = reinterpret_cast<uint64_t>(from);
    if (!is_page_locked(source, bytes) && !stream->capture) {
        return submit(stream, copying_staged("cuMemcpyHtoDAsync", to, from, bytes));
    }
    return submit(stream, copying("cuMemcpyHtoDAsync", to, source, bytes));
}

FAKE_EXPORT int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *handle) {
    FAKE_ENTER("cuMemcpyDtoHAsync_v2");
    Stream *const stream = find_stream(handle);
    if (stream == nullptr) {
        return INVALID_HANDLE;
    }
    const uint64_t target = reinterpret_cast<uint64_t>(to);
    need_host(target, bytes, "cuMemcpyDtoHAsync, destination");
    need_reachable(from, bytes, "cuMemcpyDtoHAsync, source");
    const int code = submit(stream, copying("cuMemcpyDtoHAsync", target, from, bytes));
    // Into pageable memory, the call returns when the copy is done.
    const bool waits = code == SUCCESS && !stream->capture && !is_page_locked(target, bytes);
    return waits ? wait_for_stream(stream) : code;
}

FAKE_EXPORT int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *handle) {
    FAKE_ENTER("cuMemcpyDtoDAsync_v2");
    Stream *const stream = find_stream(handle);
    if (stream == nullptr) {
        return INVALID_HANDLE;
    }
    need_reachable(to, bytes, "cuMemcpyDtoDAsync, destination");
    need_reachable(from, bytes, "cuMemcpyDtoDAsync, source");
    return submit(stream, copying("cuMemcpyDtoDAsync", to, from, bytes));
}

// From pageable memory the call returns when the bytes are staged; their way to the GPU is in the default stream, for
// which streams of the program do not wait.
FAKE_EXPORT int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) {
    FAKE_ENTER("cuMemcpyHtoD_v2");
    if (const int captured = not_while_capturing()) {
        return captured;
    }
    need_host(reinterpret_cast<uint64_t>(from), bytes, "cuMemcpyHtoD, source");
    need_reachable(to, bytes, "cuMemcpyHtoD, destination");
    return submit(&state().default_stream, copying_staged("cuMemcpyHtoD", to, from, bytes));
}

FAKE_EXPORT int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) {
    FAKE_ENTER("cuMemcpyDtoH_v2");
    if (const int captured = not_while_capturing()) {
        return captured;
    }
    need_host(reinterpret_cast<uint64_t>(to), bytes, "cuMemcpyDtoH, destination");
    need_reachable(from, bytes, "cuMemcpyDtoH, source");
    submit(&state().default_stream, copying("cuMemcpyDtoH", reinterpret_cast<uint64_t>(to), from, bytes));
    return wait_for_stream(&state().default_stream);
}

namespace {

struct Location {
    int kind;
    int id;
};
struct BatchAttributes {
    int source_order;
    Location source, target;
    unsigned int flags;
};

bool is_location(const Location &location) {
    return (location.kind == 1 && location.id == 0) || (location.kind >= 0 && location.kind <= 4 && location.kind != 1);
}

// The rules of cuMemcpyBatchAsync's documentation. `indices` must be as long as the batch, although only one per
// attribute has a meaning: two projects found the driver reading that many.
int check_batch(const uint64_t *to, const uint64_t *from, const size_t *sizes, size_t count,
                const BatchAttributes *attributes, size_t *indices, size_t kinds) {
    if (to == nullptr || from == nullptr || sizes == nullptr || attributes == nullptr || indices == nullptr) {
        return INVALID_VALUE;
    }
    if (count == 0 || kinds == 0 || kinds > count || indices[0] != 0) {
        return INVALID_VALUE;
    }
    if (setting("FAKE_CUDA_HEAP_INDICES", "0") == "1" && malloc_usable_size(indices) < count * sizeof(size_t)) {
        fail("cuMemcpyBatchAsync: fewer indices of attributes than the " + std::to_string(count) + " pieces");
    }
    for (size_t i = 0; i < kinds; i++) {
        const BatchAttributes &each = attributes[i];
        const bool ordered = i == 0 || (indices[i] > indices[i - 1] && indices[i] < count);
        const bool known = each.source_order >= 1 && each.source_order <= 3 && each.flags <= 1;
        if (!ordered || !known || !is_location(each.source) || !is_location(each.target)) {
            return INVALID_VALUE;
        }
    }
    return std::count(sizes, sizes + count, 0) > 0 ? INVALID_VALUE : SUCCESS;
}

} // namespace

FAKE_EXPORT int cuMemcpyBatchAsync_v2(uint64_t *to, uint64_t *from, size_t *sizes, size_t count,
                                      BatchAttributes *attributes, size_t *indices, size_t kinds, void *handle) {
    FAKE_ENTER("cuMemcpyBatchAsync_v2");
    Stream *const stream = find_stream(handle);
    if (stream == nullptr || stream == &state().default_stream) {
        return stream == nullptr ? INVALID_HANDLE : INVALID_VALUE;
    }
    if (const int code = check_batch(to, from, sizes, count, attributes, indices, kinds)) {
        return code;
    }
    if (stream->capture && setting("FAKE_CUDA_BATCH_IN_CAPTURE", "refused") == "refused") {
        stream->capture->invalid = true;
        return CAPTURE_UNSUPPORTED;
    }
    const char name[] = "cuMemcpyBatchAsync";
    std::vector<Operation> pieces;
    for (size_t i = 0; i < count; i++) {
        if (is_device_side(to[i]) == is_device_side(from[i])) {
            fail(std::string(name) + ": piece " + std::to_string(i) + " has both ends on one side");
        }
        const uint64_t host = is_device_side(to[i]) ? from[i] : to[i];
        if (!is_page_locked(host, sizes[i])) {
            return INVALID_VALUE;
        }
        pieces.push_back(copying(name, to[i], from[i], sizes[i]));
    }
    state().counts["batches"]++;
    state().counts["batches that prefer overlap"] += attributes[0].flags;
    // Pieces of a batch have no order among each other.
    std::shuffle(pieces.begin(), pieces.end(), state().dice);
    Operation batch;
    batch.name = name;
    batch.run = [pieces] {
        for (const Operation &piece : pieces) {
            piece.run();
        }
    };
    return submit(stream, std::move(batch));
}
