// Modules, kernels and their launches. A module is an image of the stand-in compiler, or a cubin of the real one, from
// which nothing is taken but the kernels' names: what runs is the same source, compiled for the CPU.
#include "fake_cuda.h"

#include <cstring>
#include <elf.h>

using namespace fake;

namespace {

struct Module {
    std::string text; // where a kernel's name must stand: ` NAME(` of a source, `.text.NAME` of a cubin
    bool is_source;
};
std::set<Module *> &modules() {
    static auto *all = new std::set<Module *>;
    return *all;
}

const char IMAGE_START[] = "FAKE CUBIN ";

size_t bytes_of_cubin(const unsigned char *image) {
    Elf64_Ehdr header;
    std::memcpy(&header, image, sizeof header);
    return header.e_shoff + (size_t)header.e_shnum * header.e_shentsize;
}

bool has_kernel(const Module &module, const std::string &name) {
    if (!module.is_source) {
        return module.text.find(std::string(".text.") + name + '\0') != std::string::npos;
    }
    const std::string attention = "attention_d";
    const size_t group = name.find("_g");
    if (name.compare(0, attention.size(), attention) == 0 && group != std::string::npos) {
        const std::string dim = name.substr(attention.size(), group - attention.size());
        return module.text.find("\nATTENTION(" + dim + ", " + name.substr(group + 2) + ",") != std::string::npos;
    }
    return module.text.find(" void " + name + "(") != std::string::npos;
}

const Kernel *kernel_of(const void *function) { return static_cast<const Kernel *>(function); }

size_t bytes_of_kind(char kind) { return kind == 'p' || kind == 'l' ? 8 : 4; }

} // namespace

FAKE_EXPORT int cuModuleLoadData(void **handle, const void *image) {
    FAKE_ENTER("cuModuleLoadData");
    const auto *const bytes = static_cast<const unsigned char *>(image);
    Module *const module = new Module;
    if (std::memcmp(bytes, IMAGE_START, sizeof IMAGE_START - 1) == 0) {
        *module = {reinterpret_cast<const char *>(bytes), true};
    } else if (std::memcmp(bytes, ELFMAG, SELFMAG) == 0) {
        *module = {std::string(reinterpret_cast<const char *>(bytes), bytes_of_cubin(bytes)), false};
    } else {
        delete module;
        return INVALID_IMAGE;
    }
    modules().insert(module);
    *handle = module;
    return SUCCESS;
}

FAKE_EXPORT int cuModuleUnload(void *handle) {
    FAKE_ENTER("cuModuleUnload");
    if (modules().erase(static_cast<Module *>(handle)) == 0) {
        return INVALID_HANDLE;
    }
    delete static_cast<Module *>(handle);
    return SUCCESS;
}

FAKE_EXPORT int cuModuleGetFunction(const void **function, void *handle, const char *name) {
    FAKE_ENTER("cuModuleGetFunction");
    if (modules().count(static_cast<Module *>(handle)) == 0) {
        return INVALID_HANDLE;
    }
    if (!has_kernel(*static_cast<Module *>(handle), name)) {
        return NOT_FOUND;
    }
    *function = find_kernel(name);
    if (*function == nullptr) {
        fail(std::string("kernel ") + name + " is in a module and not in this driver: it was built from other sources");
    }
    return SUCCESS;
}

FAKE_EXPORT int cuFuncLoad(const void *function) {
    FAKE_ENTER("cuFuncLoad");
    return function == nullptr ? INVALID_HANDLE : SUCCESS;
}

FAKE_EXPORT int cuFuncGetAttribute(int *value, int attribute, const void *function) {
    FAKE_ENTER("cuFuncGetAttribute");
    if (attribute < 0 || attribute > 10) {
        return INVALID_VALUE;
    }
    const int REGISTERS = 4;
    *value = attribute == 0 ? (int)most_threads(*kernel_of(function)) : attribute == REGISTERS ? 32 : 0;
    return SUCCESS;
}

FAKE_EXPORT int cuFuncGetParamInfo(const void *function, size_t index, size_t *offset, size_t *bytes) {
    FAKE_ENTER("cuFuncGetParamInfo");
    const char *const kinds = kinds_of(*kernel_of(function));
    if (index >= std::strlen(kinds)) {
        return INVALID_VALUE;
    }
    *offset = 0;
    for (size_t i = 0; i < index; i++) {
        const size_t own = bytes_of_kind(kinds[i]), next = bytes_of_kind(kinds[i + 1]);
        *offset = (*offset + own + next - 1) / next * next;
    }
    *bytes = bytes_of_kind(kinds[index]);
    return SUCCESS;
}

FAKE_EXPORT int cuLaunchKernel(const void *function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                               unsigned int block_x, unsigned int block_y, unsigned int block_z,
                               unsigned int shared_bytes, void *handle, void **parameters, void **extra) {
    FAKE_ENTER("cuLaunchKernel");
    Stream *const stream = find_stream(handle);
    if (stream == nullptr || function == nullptr) {
        return INVALID_HANDLE;
    }
    const bool grid_fits = grid_x > 0 && grid_x < 1u << 31 && grid_y - 1 < 65535 && grid_z - 1 < 65535;
    const uint64_t threads = (uint64_t)block_x * block_y * block_z;
    if (!grid_fits || threads == 0 || threads > 1024 || block_z > 64 || shared_bytes > 48 * 1024 || extra != nullptr) {
        return INVALID_VALUE;
    }
    const Kernel &kernel = *kernel_of(function);
    if (threads > most_threads(kernel)) {
        return LAUNCH_OUT_OF_RESOURCES;
    }
    if (block_y != 1 || block_z != 1) {
        fail(std::string(name_of(kernel)) + ": this driver knows blocks in x alone");
    }
    const char *const kinds = kinds_of(kernel);
    if (kinds[0] != '\0' && parameters == nullptr) {
        return INVALID_VALUE;
    }
    std::vector<uint64_t> arguments;
    for (size_t i = 0; kinds[i] != '\0'; i++) {
        uint64_t word = 0;
        std::memcpy(&word, parameters[i], bytes_of_kind(kinds[i]));
        arguments.push_back(word);
    }
    const uint32_t grid[3] = {grid_x, grid_y, grid_z};
    state().counts[std::string("kernel ") + name_of(kernel)]++;
    return submit(stream, launch_operation(kernel, grid, block_x, std::move(arguments)));
}
