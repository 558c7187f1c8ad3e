// A stand-in for NVRTC: takes any source and answers an image that the fake driver knows, the source itself. It compiles
// nothing and checks nothing of the source but that there is a kernel in it.
#include <cstring>
#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {
enum Result { OK = 0, INVALID_INPUT = 3, INVALID_PROGRAM = 4, INVALID_OPTION = 5, COMPILATION = 6 };

struct Program {
    std::string source, image, log;
};
} // namespace

EXPORT int nvrtcVersion(int *major, int *minor) {
    *major = 13;
    *minor = 0;
    return OK;
}

EXPORT const char *nvrtcGetErrorString(int result) {
    return result == OK ? "NVRTC_SUCCESS" : "an error of the fake NVRTC";
}

EXPORT int nvrtcGetNumSupportedArchs(int *count) {
    *count = 2;
    return OK;
}

EXPORT int nvrtcGetSupportedArchs(int *archs) {
    archs[0] = 80;
    archs[1] = 90;
    return OK;
}

EXPORT int nvrtcCreateProgram(Program **program, const char *source, const char *, int headers, const char *const *,
                              const char *const *) {
    if (source == nullptr || headers != 0) {
        return INVALID_INPUT;
    }
    *program = new Program{source, "", ""};
    return OK;
}

EXPORT int nvrtcDestroyProgram(Program **program) {
    delete *program;
    *program = nullptr;
    return OK;
}

EXPORT int nvrtcCompileProgram(Program *program, int count, const char *const *options) {
    std::string arch;
    for (int i = 0; i < count; i++) {
        const std::string option = options[i];
        const std::string key = "--gpu-architecture=sm_";
        if (option.compare(0, 2, "--") != 0) {
            program->log = "fake NVRTC: unknown option " + option;
            return INVALID_OPTION;
        }
        if (option.compare(0, key.size(), key) == 0) {
            arch = option.substr(key.size());
        }
    }
    if (arch != "80" && arch != "90") {
        program->log = "fake NVRTC: invalid value for --gpu-architecture: sm_" + arch;
        return INVALID_OPTION;
    }
    if (program->source.find("__global__") == std::string::npos) {
        program->log = "fake NVRTC: error: there is no kernel";
        return COMPILATION;
    }
    program->log = "fake NVRTC: nothing was compiled";
    program->image = "FAKE CUBIN sm_" + arch + "\n" + program->source;
    return OK;
}

EXPORT int nvrtcGetProgramLogSize(Program *program, size_t *bytes) {
    *bytes = program->log.size() + 1;
    return OK;
}

EXPORT int nvrtcGetProgramLog(Program *program, char *log) {
    std::memcpy(log, program->log.c_str(), program->log.size() + 1);
    return OK;
}

EXPORT int nvrtcGetCUBINSize(Program *program, size_t *bytes) {
    *bytes = program->image.empty() ? 0 : program->image.size() + 1;
    return program->image.empty() ? INVALID_PROGRAM : OK;
}

EXPORT int nvrtcGetCUBIN(Program *program, char *image) {
    std::memcpy(image, program->image.c_str(), program->image.size() + 1);
    return program->image.empty() ? INVALID_PROGRAM : OK;
}
