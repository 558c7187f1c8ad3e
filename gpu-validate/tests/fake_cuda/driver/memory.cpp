// Memory of the fake driver: what is alive, who may reach it, and guard zones around it.
//
// Device memory lies in a reserved range of addresses that is used once and never again, each allocation between two
// pages that are never mapped. Outside of device work the whole range is unmapped for the program, so the CPU cannot
// read it by accident. Pinned memory is mapped twice, at the CPU's address and at another one in the device's range.
#include "fake_cuda.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

namespace fake {
namespace {

constexpr size_t PAGE = 4096;
constexpr size_t ALIGNMENT = 256; // what cuMemAlloc promises
constexpr unsigned char CANARY = 0xa5, UNDEFINED = 0xff;
constexpr size_t MOST_POISONED = 4 << 20; // larger allocations start as zeros, to spare the machine's memory

struct Allocation {
    uint64_t address; // for the GPU
    size_t bytes;
    unsigned char *mapped;
    size_t mapped_bytes;
    unsigned char *host; // the CPU's address, of pinned and registered memory
    bool registered;
};

struct Memory {
    uint64_t begin = 0, next = 0, end = 0;
    std::map<uint64_t, Allocation> by_device, freed;
    std::map<uint64_t, Allocation> by_host;
    size_t used = 0;
    size_t total = 0;
    bool protect = true;
    int open = 0;
};
Memory &memory() {
    static Memory *all = new Memory;
    return *all;
}

std::string hex(uint64_t value) {
    char text[32];
    std::snprintf(text, sizeof text, "0x%llx", (unsigned long long)value);
    return text;
}

void write_line(const char *text) {
    const ssize_t written = write(2, text, std::strlen(text));
    (void)written;
}

// Says what kind of memory was touched, then ends the process. Only reads maps that nothing changes meanwhile.
void on_fault(int, siginfo_t *info, void *) {
    const uint64_t at = reinterpret_cast<uint64_t>(info->si_addr);
    const Memory &all = memory();
    char text[256];
    const char *what = "not of this driver";
    if (at >= all.begin && at < all.end) {
        what = all.open > 0 ? "in a guard zone: past the end or before the start of an allocation"
                            : "device memory, touched by the CPU";
        for (const auto &entry : all.freed) {
            if (at >= entry.first && at < entry.first + entry.second.bytes) {
                what = "in device memory that was freed";
            }
        }
    }
    std::snprintf(text, sizeof text, "FAKE CUDA: access to %p, %s\n", info->si_addr, what);
    write_line(text);
    _exit(134);
}

void catch_faults() {
    static unsigned char stack[64 * 1024];
    stack_t alternate = {};
    alternate.ss_sp = stack;
    alternate.ss_size = sizeof stack;
    sigaltstack(&alternate, nullptr);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
}

void reserve() {
    Memory &all = memory();
    if (all.begin != 0) {
        return;
    }
    all.total = std::strtoull(setting("FAKE_CUDA_MEMORY", "2147483648").c_str(), nullptr, 10);
    all.protect = setting("FAKE_CUDA_PROTECT", "1") == "1";
    for (size_t bytes = 1ull << 44; bytes >= 1ull << 36; bytes >>= 1) {
        void *range = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (range != MAP_FAILED) {
            all.begin = all.next = reinterpret_cast<uint64_t>(range);
            all.end = all.begin + bytes;
            catch_faults();
            return;
        }
    }
    fail("no addresses for device memory");
}

int protection() { return memory().open > 0 || !memory().protect ? PROT_READ | PROT_WRITE : PROT_NONE; }

// A new place for `bytes` bytes in the device's range, mapped from `file` (or from nothing).
bool place(Allocation &allocation, size_t bytes, int file) {
    Memory &all = memory();
    allocation.bytes = bytes;
    const size_t padded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    allocation.mapped_bytes = (padded + PAGE - 1) / PAGE * PAGE;
    if (all.next + allocation.mapped_bytes + 2 * PAGE > all.end) {
        fail("out of device addresses");
    }
    allocation.mapped = reinterpret_cast<unsigned char *>(all.next + PAGE);
    all.next += allocation.mapped_bytes + PAGE;
    const int flags = MAP_FIXED | (file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
    if (mmap(allocation.mapped, allocation.mapped_bytes, PROT_READ | PROT_WRITE, flags, file, 0) == MAP_FAILED) {
        return false;
    }
    // Memory that starts a file must start a page, so only memory of its own ends at the guard zone.
    const size_t before = file < 0 ? allocation.mapped_bytes - padded : 0;
    allocation.address = reinterpret_cast<uint64_t>(allocation.mapped) + before;
    return true;
}

unsigned char *bytes_of(const Allocation &allocation) { return reinterpret_cast<unsigned char *>(allocation.address); }

void fill_new(const Allocation &allocation) {
    unsigned char *const end = allocation.mapped + allocation.mapped_bytes;
    if (allocation.bytes <= MOST_POISONED) {
        std::memset(bytes_of(allocation), UNDEFINED, allocation.bytes);
    }
    std::memset(allocation.mapped, CANARY, bytes_of(allocation) - allocation.mapped);
    std::memset(bytes_of(allocation) + allocation.bytes, CANARY, end - bytes_of(allocation) - allocation.bytes);
}

void check_canaries(const Allocation &allocation) {
    const unsigned char *const end = allocation.mapped + allocation.mapped_bytes;
    const auto check = [&](const unsigned char *from, const unsigned char *to) {
        for (; from < to; from++) {
            if (*from != CANARY) {
                fail("something wrote next to the allocation of " + std::to_string(allocation.bytes) + " bytes at " +
                     hex(allocation.address));
            }
        }
    };
    check(allocation.mapped, bytes_of(allocation));
    check(bytes_of(allocation) + allocation.bytes, end);
}

const Allocation *containing(const std::map<uint64_t, Allocation> &map, uint64_t address, size_t bytes) {
    auto after = map.upper_bound(address);
    if (after == map.begin()) {
        return nullptr;
    }
    const auto &found = *--after;
    const bool inside = address - found.first <= found.second.bytes && bytes <= found.second.bytes - (address - found.first);
    return inside ? &found.second : nullptr;
}

void unmap(const Allocation &allocation) {
    const int flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    mmap(allocation.mapped, allocation.mapped_bytes, PROT_NONE, flags, -1, 0);
}

} // namespace

Reach::Reach() {
    if (memory().open++ == 0 && memory().protect) {
        for (const auto &entry : memory().by_device) {
            mprotect(entry.second.mapped, entry.second.mapped_bytes, PROT_READ | PROT_WRITE);
        }
    }
}

Reach::~Reach() {
    if (--memory().open == 0 && memory().protect) {
        for (const auto &entry : memory().by_device) {
            mprotect(entry.second.mapped, entry.second.mapped_bytes, PROT_NONE);
        }
    }
}

size_t total_bytes() {
    reserve();
    return memory().total;
}
size_t free_bytes() { return total_bytes() - memory().used; }

int allocate(uint64_t *address, size_t bytes) {
    if (bytes == 0) {
        return INVALID_VALUE;
    }
    if (bytes > free_bytes()) {
        return OUT_OF_MEMORY;
    }
    Allocation made = {};
    if (!place(made, bytes, -1)) {
        return OUT_OF_MEMORY;
    }
    fill_new(made);
    memory().used += bytes;
    memory().by_device[made.address] = made;
    mprotect(made.mapped, made.mapped_bytes, protection());
    *address = made.address;
    return SUCCESS;
}

int release(uint64_t address) {
    const auto found = memory().by_device.find(address);
    if (found == memory().by_device.end() || found->second.host != nullptr) {
        fail("cuMemFree of " + hex(address) + ", which is no device memory that is alive");
    }
    {
        const Reach reach;
        check_canaries(found->second);
    }
    unmap(found->second);
    memory().used -= found->second.bytes;
    memory().freed[address] = found->second;
    memory().by_device.erase(found);
    return SUCCESS;
}

int allocate_pinned(void **host, size_t bytes) {
    reserve();
    if (bytes == 0) {
        return INVALID_VALUE;
    }
    Allocation made = {};
    const int file = memfd_create("fake-cuda-pinned", MFD_CLOEXEC);
    const size_t whole = (bytes + PAGE - 1) / PAGE * PAGE;
    if (file < 0 || ftruncate(file, (off_t)whole) != 0 || !place(made, bytes, file)) {
        return OUT_OF_MEMORY;
    }
    void *const view = mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (view == MAP_FAILED) {
        return OUT_OF_MEMORY;
    }
    made.host = static_cast<unsigned char *>(view);
    memory().by_device[made.address] = made;
    memory().by_host[reinterpret_cast<uint64_t>(view)] = made;
    mprotect(made.mapped, made.mapped_bytes, protection());
    *host = view;
    return SUCCESS;
}

int release_pinned(void *host) {
    const auto found = memory().by_host.find(reinterpret_cast<uint64_t>(host));
    if (found == memory().by_host.end() || found->second.registered) {
        fail("cuMemFreeHost of " + hex(reinterpret_cast<uint64_t>(host)) + ", which is not pinned by this driver");
    }
    unmap(found->second);
    munmap(found->second.host, found->second.mapped_bytes);
    memory().freed[found->second.address] = found->second;
    memory().by_device.erase(found->second.address);
    memory().by_host.erase(found);
    return SUCCESS;
}

int add_registered(void *host, size_t bytes) {
    reserve();
    const uint64_t address = reinterpret_cast<uint64_t>(host);
    if (bytes == 0 || is_device_side(address)) {
        return INVALID_VALUE;
    }
    if (containing(memory().by_host, address, 0) != nullptr) {
        return ALREADY_REGISTERED;
    }
    Allocation made = {};
    made.address = address;
    made.bytes = bytes;
    made.host = static_cast<unsigned char *>(host);
    made.registered = true;
    memory().by_host[address] = made;
    return SUCCESS;
}

int remove_registered(void *host) {
    const auto found = memory().by_host.find(reinterpret_cast<uint64_t>(host));
    if (found == memory().by_host.end() || !found->second.registered) {
        return NOT_REGISTERED;
    }
    memory().by_host.erase(found);
    return SUCCESS;
}

int device_view(uint64_t *address, void *host) {
    const Allocation *found = containing(memory().by_host, reinterpret_cast<uint64_t>(host), 1);
    if (found == nullptr) {
        return INVALID_VALUE;
    }
    *address = found->address + (static_cast<unsigned char *>(host) - found->host);
    return SUCCESS;
}

bool is_device_side(uint64_t address) { return address >= memory().begin && address < memory().end; }

bool is_page_locked(uint64_t address, size_t bytes) {
    return containing(memory().by_host, address, bytes) != nullptr;
}

void need_reachable(uint64_t address, size_t bytes, const std::string &what) {
    const Allocation *pinned = containing(memory().by_host, address, bytes);
    if (containing(memory().by_device, address, bytes) != nullptr || (pinned != nullptr && pinned->registered)) {
        return;
    }
    std::string why = "which is in no allocation that is alive";
    if (pinned != nullptr) {
        why = "which is the CPU's address of pinned memory; expected cuMemHostGetDevicePointer's";
    } else if (!is_device_side(address)) {
        why = "which is host memory that is not page-locked";
    }
    fail(what + ": " + std::to_string(bytes) + " bytes at " + hex(address) + ", " + why);
}

void need_host(uint64_t address, size_t bytes, const std::string &what) {
    if (address == 0 || is_device_side(address)) {
        fail(what + ": " + hex(address) + " is no host address");
    }
    const Allocation *begins = containing(memory().by_host, address, 0);
    if (begins != nullptr && containing(memory().by_host, address, bytes) == nullptr) {
        fail(what + ": " + std::to_string(bytes) + " bytes at " + hex(address) + " leave their page-locked memory");
    }
}

void check_guards() {
    const Reach reach;
    for (const auto &entry : memory().by_device) {
        if (entry.second.host == nullptr) {
            check_canaries(entry.second);
        }
    }
}

std::string leaks() {
    size_t device = 0, pinned = 0, registered = 0;
    for (const auto &entry : memory().by_device) {
        device += entry.second.host == nullptr;
    }
    for (const auto &entry : memory().by_host) {
        pinned += !entry.second.registered;
        registered += entry.second.registered;
    }
    return "device=" + std::to_string(device) + " pinned=" + std::to_string(pinned) +
           " registered=" + std::to_string(registered);
}

// What is left goes with the context.
void close_context() {
    while (!memory().by_device.empty()) {
        const Allocation left = memory().by_device.begin()->second;
        if (left.host != nullptr) {
            release_pinned(left.host);
        } else {
            release(left.address);
        }
    }
    memory().by_host.clear();
}

} // namespace fake
