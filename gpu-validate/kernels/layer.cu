// The small kernels of a decode layer: norm, rotary embedding, KV append and activation, with the mathematics and
// the bytes of a real model. Rows are bf16; sums are fp32. Each is one launch over the whole batch.

// The KV buffer of one (request, layer): blocks of 16 tokens, each K [16][kv_heads][head_dim], then V likewise.
#define TOKENS_PER_BLOCK 16u

// residual += delta (when there is one), out = residual / rms(residual) · weight. The residual stream is bf16 and
// the norm is taken of its rounded values, as serving engines do. One block per row; `hidden` is a multiple of 8.
extern "C" __global__ __launch_bounds__(256) void rms_norm(uint4 *residual, const uint4 *delta, const uint4 *weight,
                                                           uint4 *out, u32 hidden, float epsilon) {
    __shared__ float warp_sums[8];
    const u32 words = hidden / 8;
    const u64 row = (u64)blockIdx.x * words;
    float squares = 0.0f;
    for (u32 i = threadIdx.x; i < words; i += 256) {
        uint4 word = residual[row + i];
        float values[8];
        unpack_eight(word, values);
        if (delta != 0) {
            float added[8];
            unpack_eight(delta[row + i], added);
#pragma unroll
            for (int j = 0; j < 8; j++) {
                values[j] += added[j];
            }
            word = pack_eight(values);
            residual[row + i] = word;
            unpack_eight(word, values);
        }
#pragma unroll
        for (int j = 0; j < 8; j++) {
            squares += values[j] * values[j];
        }
    }
    squares = warp_sum(squares);
    if (threadIdx.x % 32 == 0) {
        warp_sums[threadIdx.x / 32] = squares;
    }
    __syncthreads();
    float total = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        total += warp_sums[i];
    }
    const float scale = rsqrtf(total / (float)hidden + epsilon);
    for (u32 i = threadIdx.x; i < words; i += 256) {
        float values[8], gain[8];
        unpack_eight(residual[row + i], values);
        unpack_eight(weight[i], gain);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            values[j] = values[j] * scale * gain[j];
        }
        out[row + i] = pack_eight(values);
    }
}

// Rotates q and k of each qkv row in place by the position of the newest token, tokens - 1: dimension i pairs with
// i + head_dim / 2. `turns[i]` is the pair's rotation per position in units of 2^-64 of a full turn: position ·
// turns wraps exactly at whole turns, so long contexts lose no precision. Grid: (heads + kv_heads, batch).
extern "C" __global__ __launch_bounds__(64) void rope(bf16 *qkv, u32 row_stride, const u32 *token_counts,
                                                      const u64 *turns, u32 head_dim) {
    const u32 tokens = token_counts[blockIdx.y];
    if (tokens == 0u) {
        return;
    }
    const u32 half = head_dim / 2;
    bf16 *head = qkv + (u64)blockIdx.y * row_stride + (u64)blockIdx.x * head_dim;
    for (u32 i = threadIdx.x; i < half; i += 64) {
        const u64 turned = (u64)(tokens - 1) * turns[i];
        const float signed_turn = (float)(int)(u32)(turned >> 32) * (1.0f / 4294967296.0f);
        const float angle = signed_turn * 6.283185307179586f;
        const float c = cosf(angle);
        const float s = sinf(angle);
        const float a = float_from_bf16(head[i]);
        const float b = float_from_bf16(head[i + half]);
        head[i] = bf16_from_float(a * c - b * s);
        head[i + half] = bf16_from_float(b * c + a * s);
    }
}

// Writes the newest token's K and V, which follow q in the qkv row, as token tokens - 1 of each request's buffer.
// `row_words` is K (or V) of one token in 16-byte words; strides too. One block per request.
extern "C" __global__ __launch_bounds__(256) void kv_append(const uint4 *qkv, u32 row_stride_words, u32 q_words,
                                                            const u64 *kv_bases, const u32 *token_counts,
                                                            u32 row_words) {
    const u32 tokens = token_counts[blockIdx.x];
    if (tokens == 0u) {
        return;
    }
    const u64 block = (tokens - 1) / TOKENS_PER_BLOCK;
    const u64 slot = (tokens - 1) % TOKENS_PER_BLOCK;
    const uint4 *key = qkv + (u64)blockIdx.x * row_stride_words + q_words;
    uint4 *base = reinterpret_cast<uint4 *>(kv_bases[blockIdx.x]);
    uint4 *key_row = base + (block * 2 * TOKENS_PER_BLOCK + slot) * row_words;
    uint4 *value_row = key_row + (u64)TOKENS_PER_BLOCK * row_words;
    for (u32 i = threadIdx.x; i < row_words; i += 256) {
        key_row[i] = key[i];
        value_row[i] = key[row_words + i];
    }
}

// out = silu(gate) · up, with gate and up side by side in each row. Grid: (words of a row / 256 rounded up, batch).
extern "C" __global__ __launch_bounds__(256) void silu_mul(const uint4 *gate_up, uint4 *out, u32 row_words) {
    const u32 i = blockIdx.x * 256u + threadIdx.x;
    if (i >= row_words) {
        return;
    }
    const u64 row = blockIdx.y;
    float gate[8], up[8];
    unpack_eight(gate_up[row * 2 * row_words + i], gate);
    unpack_eight(gate_up[row * 2 * row_words + row_words + i], up);
#pragma unroll
    for (int j = 0; j < 8; j++) {
        gate[j] = gate[j] / (1.0f + __expf(-gate[j])) * up[j];
    }
    out[row * row_words + i] = pack_eight(gate);
}
