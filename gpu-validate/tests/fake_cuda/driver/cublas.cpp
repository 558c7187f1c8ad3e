// A stand-in for cuBLAS on the CPU: cublasGemmEx as its documentation describes it, of columns, for bf16 with fp32 sums,
// and the few calls around it. It shares no code and no mapping of rows with the program that calls it.
#include "fake_cuda.h"

#include <cstring>

using namespace fake;

namespace {

enum Status { OK = 0, NOT_INITIALIZED_HANDLE = 1, BAD_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED_HERE = 15 };
enum { OPERATION_N = 0, OPERATION_T = 1, TYPE_BF16 = 14, COMPUTE_32F = 68, DEFAULT_ALGORITHM = -1 };

struct Handle {
    void *stream = nullptr;
    uint64_t workspace = 0;
    size_t workspace_bytes = 0;
};
std::set<Handle *> &handles() {
    static auto *all = new std::set<Handle *>;
    return *all;
}

float from_bf16(uint16_t bits) {
    const uint32_t word = (uint32_t)bits << 16;
    float value;
    std::memcpy(&value, &word, 4);
    return value;
}
uint16_t to_bf16(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (value != value) {
        return (uint16_t)((bits >> 16) | 0x40);
    }
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// A matrix of columns: element (row, column) is at row + column · leading.
struct Matrix {
    uint64_t address;
    int rows, columns, leading;

    bool fits() const { return rows >= 0 && columns >= 0 && leading >= (rows > 1 ? rows : 1); }
    size_t bytes() const { return rows == 0 || columns == 0 ? 0 : 2 * ((size_t)(columns - 1) * leading + rows); }
    uint16_t *at(int row, int column) const {
        return reinterpret_cast<uint16_t *>(address) + (size_t)column * leading + row;
    }
};

struct Product {
    bool transpose_a, transpose_b;
    int m, n, k;
    float alpha, beta;
    Matrix a, b, c;
};

// Row `i` of op(A), or column `j` of op(B), as fp32.
void gather(std::vector<float> &line, const Matrix &from, bool along_column, int which) {
    for (size_t at = 0; at < line.size(); at++) {
        line[at] = from_bf16(along_column ? *from.at((int)at, which) : *from.at(which, (int)at));
    }
}

float dot(const float *a, const float *b, int count) {
    float sum = 0;
    for (int i = 0; i < count; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

void run(const Product &p) {
    need_reachable(p.a.address, p.a.bytes(), "cublasGemmEx, A");
    need_reachable(p.b.address, p.b.bytes(), "cublasGemmEx, B");
    need_reachable(p.c.address, p.c.bytes(), "cublasGemmEx, C");
    std::vector<float> row(p.k), column(p.k), columns((size_t)p.n * p.k);
    for (int j = 0; j < p.n; j++) {
        gather(column, p.b, !p.transpose_b, j);
        std::memcpy(columns.data() + (size_t)j * p.k, column.data(), sizeof(float) * p.k);
    }
    for (int i = 0; i < p.m; i++) {
        gather(row, p.a, p.transpose_a, i);
        for (int j = 0; j < p.n; j++) {
            float value = p.alpha * dot(row.data(), columns.data() + (size_t)j * p.k, p.k);
            if (p.beta != 0.0f) {
                value += p.beta * from_bf16(*p.c.at(i, j));
            }
            *p.c.at(i, j) = to_bf16(value);
        }
    }
}

} // namespace

#define CUBLAS_HANDLE(handle)                                                                                          \
    std::lock_guard<std::recursive_mutex> lock(state().mutex);                                                         \
    if (handles().count(static_cast<Handle *>(handle)) == 0) {                                                         \
        return NOT_INITIALIZED_HANDLE;                                                                                 \
    }                                                                                                                  \
    Handle &own = *static_cast<Handle *>(handle);                                                                      \
    (void)own

FAKE_EXPORT int cublasGetProperty(int which, int *value) {
    *value = which == 0 ? 13 : 0;
    return which >= 0 && which <= 2 ? OK : BAD_VALUE;
}

FAKE_EXPORT int cublasCreate_v2(void **handle) {
    std::lock_guard<std::recursive_mutex> lock(state().mutex);
    if (const int code = enter("cublasCreate_v2")) {
        return code == SUCCESS ? OK : NOT_INITIALIZED_HANDLE;
    }
    *handle = *handles().insert(new Handle).first;
    return OK;
}

FAKE_EXPORT int cublasDestroy_v2(void *handle) {
    CUBLAS_HANDLE(handle);
    handles().erase(&own);
    delete &own;
    return OK;
}

FAKE_EXPORT int cublasGetVersion_v2(void *handle, int *version) {
    CUBLAS_HANDLE(handle);
    *version = 130000;
    return OK;
}

FAKE_EXPORT int cublasSetMathMode(void *handle, int mode) {
    CUBLAS_HANDLE(handle);
    return mode == 0 || mode == 16 ? OK : NOT_SUPPORTED_HERE;
}

FAKE_EXPORT int cublasSetStream_v2(void *handle, void *stream) {
    CUBLAS_HANDLE(handle);
    own.stream = stream;
    own.workspace = 0;
    return OK;
}

FAKE_EXPORT int cublasSetWorkspace_v2(void *handle, void *workspace, size_t bytes) {
    CUBLAS_HANDLE(handle);
    own.workspace = reinterpret_cast<uint64_t>(workspace);
    own.workspace_bytes = bytes;
    need_reachable(own.workspace, bytes, "cublasSetWorkspace");
    return own.workspace % 256 == 0 ? OK : BAD_VALUE;
}

FAKE_EXPORT int cublasGemmEx(void *handle, int operation_a, int operation_b, int m, int n, int k, const void *alpha,
                             const void *a, int type_a, int lda, const void *b, int type_b, int ldb, const void *beta,
                             void *c, int type_c, int ldc, int compute, int algorithm) {
    CUBLAS_HANDLE(handle);
    if (enter("cublasGemmEx") != SUCCESS) {
        return EXECUTION_FAILED;
    }
    const bool types = type_a == TYPE_BF16 && type_b == TYPE_BF16 && type_c == TYPE_BF16 && compute == COMPUTE_32F;
    if (!types || algorithm != DEFAULT_ALGORITHM) {
        return NOT_SUPPORTED_HERE;
    }
    if (operation_a < OPERATION_N || operation_a > OPERATION_T || operation_b < OPERATION_N ||
        operation_b > OPERATION_T || alpha == nullptr || beta == nullptr) {
        return BAD_VALUE;
    }
    Product p = {operation_a == OPERATION_T, operation_b == OPERATION_T, m, n, k, 0, 0, {}, {}, {}};
    std::memcpy(&p.alpha, alpha, 4);
    std::memcpy(&p.beta, beta, 4);
    p.a = {reinterpret_cast<uint64_t>(a), p.transpose_a ? k : m, p.transpose_a ? m : k, lda};
    p.b = {reinterpret_cast<uint64_t>(b), p.transpose_b ? n : k, p.transpose_b ? k : n, ldb};
    p.c = {reinterpret_cast<uint64_t>(c), m, n, ldc};
    if (!p.a.fits() || !p.b.fits() || !p.c.fits() || k < 0) {
        return BAD_VALUE;
    }
    if (own.workspace == 0) {
        fail("cublasGemmEx without a workspace of the program's own since its stream was set");
    }
    const uint64_t workspace = own.workspace;
    const size_t bytes = own.workspace_bytes;
    return submit_from_library(own.stream, "cublasGemmEx", [p, workspace, bytes] {
               need_reachable(workspace, bytes, "cublasGemmEx, workspace");
               std::memset(reinterpret_cast<void *>(workspace), 0x5a, bytes < 4096 ? bytes : 4096);
               run(p);
           }) == SUCCESS
               ? OK
               : EXECUTION_FAILED;
}
