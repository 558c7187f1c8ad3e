// Decode attention for grouped-query heads, split over the context, and the kernel that combines the splits.
//
// One block works on one KV head (and at most five of its query heads), one split of one request's context. Its 128
// threads are eight groups of 16 lanes; a group takes four consecutive tokens of every 32, a lane eight consecutive
// elements of their K and V rows. Each group runs its own online softmax, with one rescale per four tokens; the
// groups meet in shared memory at the end. Sums are fp32; scores are kept in base 2 (times log2 e).
//
// Each request has its own KV base pointer and token count, so requests whose KV is resident and requests whose KV
// was staged mix in one launch. No atomics: the same inputs and splits give the same bits at every launch.
//
// The buffer of one (request, layer): blocks of 16 tokens, each K [16][kv_heads][head_dim], then V likewise.

#define TOKENS_PER_BLOCK 16u
#define THREADS 128
#define GROUPS 8u            // of 16 lanes
#define GROUP_TOKENS 4u      // a group's tokens in one round
#define ROUND_TOKENS 32u     // GROUPS · GROUP_TOKENS, a multiple of TOKENS_PER_BLOCK
#define LOWEST_SCORE -1.0e30f // below every real score, and finite, so differences are never NaN

// Tokens per split of a request: its equal share, at least `least`, in whole rounds. All its tokens are covered
// whatever the number of splits; splits past the last token stay empty.
__device__ __forceinline__ u32 split_length(u32 tokens, u32 splits, u32 least) {
    const u32 share = (tokens + splits - 1) / splits;
    const u32 length = share > least ? share : least;
    return (length + ROUND_TOKENS - 1) / ROUND_TOKENS * ROUND_TOKENS;
}

// Sums four values over 16 lanes at once: the result is value (lane / 4) % 4's sum, on each lane. Five shuffles.
__device__ __forceinline__ float sum_four(const float (&values)[GROUP_TOKENS], u32 lane) {
    const bool upper = (lane & 8u) != 0u;
    const float send0 = upper ? values[0] : values[2];
    const float send1 = upper ? values[1] : values[3];
    const float first = (upper ? values[2] : values[0]) + __shfl_xor_sync(ALL_LANES, send0, 8);
    const float second = (upper ? values[3] : values[1]) + __shfl_xor_sync(ALL_LANES, send1, 8);
    const bool odd = (lane & 4u) != 0u;
    const float send = odd ? first : second;
    float sum = (odd ? second : first) + __shfl_xor_sync(ALL_LANES, send, 4);
    sum += __shfl_xor_sync(ALL_LANES, sum, 2);
    sum += __shfl_xor_sync(ALL_LANES, sum, 1);
    return sum;
}

// What a group knows of its tokens: per query head the largest score, the lane's part of the sum of exponentials,
// and the weighted values of the lane's eight elements.
template <int Heads> struct Running {
    float largest[Heads];
    float sum[Heads];
    float values[Heads][8];
};

// The lane's part of the scores of four tokens for each query head.
template <int Heads>
__device__ __forceinline__ void score_tokens(float (&scores)[Heads][GROUP_TOKENS], const float (&query)[Heads][8],
                                             const uint4 (&key)[GROUP_TOKENS]) {
#pragma unroll
    for (u32 t = 0; t < GROUP_TOKENS; t++) {
        float elements[8];
        unpack_eight(key[t], elements);
#pragma unroll
        for (int h = 0; h < Heads; h++) {
            float dot = query[h][0] * elements[0];
#pragma unroll
            for (int j = 1; j < 8; j++) {
                dot += query[h][j] * elements[j];
            }
            scores[h][t] = dot;
        }
    }
}

// Takes four tokens into the running softmax. `mine` says whether token (lane / 4) % 4 exists. Every lane of the
// warp comes here together, whatever its tokens.
template <int Heads>
__device__ __forceinline__ void take_tokens(Running<Heads> &running, const float (&scores)[Heads][GROUP_TOKENS],
                                            const uint4 (&value)[GROUP_TOKENS], bool mine, u32 lane) {
    float weight[Heads], correction[Heads];
    bool rose = false;
#pragma unroll
    for (int h = 0; h < Heads; h++) {
        const float sum = sum_four(scores[h], lane);
        const float score = mine ? sum : LOWEST_SCORE;
        float largest = fmaxf(running.largest[h], score);
        largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, 8));
        largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, 4));
        rose = rose || largest > running.largest[h];
        correction[h] = exp2f(running.largest[h] - largest);
        weight[h] = mine ? exp2f(score - largest) : 0.0f;
        running.sum[h] = running.sum[h] * correction[h] + weight[h];
        running.largest[h] = largest;
    }
    if (__any_sync(ALL_LANES, rose)) {
#pragma unroll
        for (int h = 0; h < Heads; h++) {
#pragma unroll
            for (int j = 0; j < 8; j++) {
                running.values[h][j] *= correction[h];
            }
        }
    }
#pragma unroll
    for (u32 t = 0; t < GROUP_TOKENS; t++) {
        float elements[8];
        unpack_eight(value[t], elements);
#pragma unroll
        for (int h = 0; h < Heads; h++) {
            const float share = __shfl_sync(ALL_LANES, weight[h], (int)(4u * t), 16);
#pragma unroll
            for (int j = 0; j < 8; j++) {
                running.values[h][j] += share * elements[j];
            }
        }
    }
}

// The lane's eight elements of each query head of the pass, times log2(e) / sqrt(head_dim); heads past the pass's
// own and lanes past the row are zero.
template <int HeadDim, int Heads>
__device__ __forceinline__ void load_query(float (&query)[Heads][8], const bf16 *row, u32 first_head, u32 heads_here,
                                           u32 lane) {
    const float scale = 1.4426950408889634f * rsqrtf((float)HeadDim);
#pragma unroll
    for (int h = 0; h < Heads; h++) {
        uint4 word = zero_word();
        if ((u32)h < heads_here && lane * 8 < HeadDim) {
            word = *reinterpret_cast<const uint4 *>(row + (first_head + h) * HeadDim + lane * 8);
        }
        unpack_eight(word, query[h]);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            query[h][j] *= scale;
        }
    }
}

// Merges the eight groups' softmaxes and writes the split's unnormalised values, largest score and sum.
template <int HeadDim, int Heads>
__device__ __forceinline__ void write_split(const Running<Heads> &running, u32 heads_here, u64 first_slot, u32 splits,
                                            float *partial_values, float *partial_stats) {
    __shared__ float values[GROUPS][Heads][HeadDim];
    __shared__ float stats[GROUPS][Heads][2];
    const u32 group = threadIdx.x / 16u;
    const u32 lane = threadIdx.x % 16u;
#pragma unroll
    for (int h = 0; h < Heads; h++) {
        float sum = running.sum[h];
        sum += __shfl_xor_sync(ALL_LANES, sum, 8);
        sum += __shfl_xor_sync(ALL_LANES, sum, 4);
        if (lane * 8 < HeadDim) {
#pragma unroll
            for (int j = 0; j < 8; j++) {
                values[group][h][lane * 8 + j] = running.values[h][j];
            }
        }
        if (lane == 0) {
            stats[group][h][0] = running.largest[h];
            stats[group][h][1] = sum;
        }
    }
    __syncthreads();
#pragma unroll
    for (int h = 0; h < Heads; h++) {
        float largest = LOWEST_SCORE;
#pragma unroll
        for (u32 g = 0; g < GROUPS; g++) {
            largest = fmaxf(largest, stats[g][h][0]);
        }
        float value = 0.0f, sum = 0.0f;
#pragma unroll
        for (u32 g = 0; g < GROUPS; g++) {
            const float correction = exp2f(stats[g][h][0] - largest);
            sum += stats[g][h][1] * correction;
            value += threadIdx.x < HeadDim ? values[g][h][threadIdx.x] * correction : 0.0f;
        }
        const u64 slot = first_slot + (u64)h * splits;
        if ((u32)h < heads_here && threadIdx.x < HeadDim) {
            partial_values[slot * HeadDim + threadIdx.x] = value;
        }
        if ((u32)h < heads_here && threadIdx.x == 0) {
            partial_stats[slot * 2] = largest;
            partial_stats[slot * 2 + 1] = sum;
        }
    }
}

// K or V of four consecutive tokens, 16 bytes a lane. A token past the end reads the split's first row and gets no
// weight later: every load is unconditional, so all are in flight together. `offset` is token's, in bytes.
__device__ __forceinline__ void load_rows(uint4 (&rows)[GROUP_TOKENS], const char *first, u32 offset, u32 row_bytes,
                                          u32 token, u32 split_tokens) {
#pragma unroll
    for (u32 t = 0; t < GROUP_TOKENS; t++) {
        const u32 there = token + t < split_tokens ? offset + t * row_bytes : 0u;
        rows[t] = __ldg(reinterpret_cast<const uint4 *>(first + there));
    }
}

// The kernel proper. `Group` query heads share a KV head and are done `Heads` at a time, in ceil(Group / Heads)
// passes that are neighbouring blocks, so that the later pass finds K and V in L2.
//
// Grid: (kv_heads · passes, splits, batch). Slot of (request, head, split) in the workspace:
// (request · heads + head) · splits + split, with head_dim values and 2 stats (largest score in base 2, sum).
template <int HeadDim, int Group, int Heads>
__device__ __forceinline__ void attention_split(const bf16 *__restrict__ q, u32 row_stride,
                                                const u64 *__restrict__ kv_bases,
                                                const u32 *__restrict__ token_counts, u32 least_split,
                                                float *__restrict__ partial_values,
                                                float *__restrict__ partial_stats) {
    const u32 passes = (Group + Heads - 1) / Heads;
    const u32 request = blockIdx.z;
    const u32 tokens = token_counts[request];
    const u32 length = split_length(tokens, gridDim.y, least_split);
    const u64 begin = (u64)blockIdx.y * length;
    if (begin >= tokens) {
        return;
    }
    const u32 remaining_tokens = tokens - (u32)begin;
    const u32 split_tokens = remaining_tokens < length ? remaining_tokens : length;

    const u32 kv_heads = gridDim.x / passes;
    const u32 kv_head = blockIdx.x / passes;
    const u32 done_heads = blockIdx.x % passes * Heads;
    const u32 heads_here = Group - done_heads < Heads ? Group - done_heads : Heads;
    const u32 first_head = kv_head * Group + done_heads;
    const u32 group_token = threadIdx.x / 16u * GROUP_TOKENS;
    const u32 lane = threadIdx.x % 16u;

    float query[Heads][8];
    load_query<HeadDim, Heads>(query, q + (u64)request * row_stride, first_head, heads_here, lane);
    Running<Heads> running;
#pragma unroll
    for (int h = 0; h < Heads; h++) {
        running.largest[h] = LOWEST_SCORE;
        running.sum[h] = 0.0f;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            running.values[h][j] = 0.0f;
        }
    }

    // In bytes: a token's row of all KV heads, and K and V of a block of tokens. Offsets count from the split's
    // first token, which lies at the start of a block. While V is read the scores are made; while the next K is read
    // the softmax is.
    const u32 row_bytes = kv_heads * HeadDim * 2;
    const u32 block_bytes = row_bytes * 2 * TOKENS_PER_BLOCK;
    const char *first_key = reinterpret_cast<const char *>(kv_bases[request]) +
                            begin / TOKENS_PER_BLOCK * block_bytes + kv_head * HeadDim * 2 +
                            (lane * 8 < HeadDim ? lane * 16 : 0u);
    const char *first_value = first_key + TOKENS_PER_BLOCK * row_bytes;
    u32 offset = group_token / TOKENS_PER_BLOCK * block_bytes + group_token % TOKENS_PER_BLOCK * row_bytes;
    uint4 key[GROUP_TOKENS], value[GROUP_TOKENS];
    load_rows(key, first_key, offset, row_bytes, group_token, split_tokens);
    for (u32 done = 0; done < split_tokens; done += ROUND_TOKENS) {
        const u32 token = done + group_token;
        load_rows(value, first_value, offset, row_bytes, token, split_tokens);
        float scores[Heads][GROUP_TOKENS];
        score_tokens<Heads>(scores, query, key);
        offset += ROUND_TOKENS / TOKENS_PER_BLOCK * block_bytes;
        load_rows(key, first_key, offset, row_bytes, token + ROUND_TOKENS, split_tokens);
#ifdef GPU_VALIDATE_BREAK_TAIL_MASK
        const bool mine = true;
#else
        const bool mine = token + lane / 4u < split_tokens;
#endif
        take_tokens<Heads>(running, scores, value, mine, lane);
    }
    const u64 heads = (u64)kv_heads * Group;
    const u64 first_slot = (request * heads + first_head) * gridDim.y + blockIdx.y;
    write_split<HeadDim, Heads>(running, heads_here, first_slot, gridDim.y, partial_values, partial_stats);
}

// One output element of one head: the splits' values weighted by their share of the softmax. A request without
// tokens gives zero. Splits that had no tokens wrote nothing and are not read.
__device__ __forceinline__ float combine_splits(const float *partial_values, const float *partial_stats, u64 first_slot,
                                                u32 tokens, u32 splits, u32 least_split, u32 head_dim) {
    const u32 length = split_length(tokens, splits, least_split);
    const u32 used = length == 0u ? 0u : (tokens + length - 1) / length;
    float largest = LOWEST_SCORE;
#pragma unroll 4
    for (u32 split = 0; split < used; split++) {
        largest = fmaxf(largest, partial_stats[(first_slot + split) * 2]);
    }
    float value = 0.0f, sum = 0.0f;
#pragma unroll 4
    for (u32 split = 0; split < used; split++) {
        const u64 slot = first_slot + split;
        const float correction = exp2f(partial_stats[slot * 2] - largest);
        sum += partial_stats[slot * 2 + 1] * correction;
        value += partial_values[slot * head_dim + threadIdx.x] * correction;
    }
    return used == 0u ? 0.0f : value / sum;
}

// Grid: (heads, batch); one thread per element of the head. `out` is [batch][heads][head_dim].
extern "C" __global__ __launch_bounds__(THREADS) void attention_combine_bf16(const float *partial_values,
                                                                             const float *partial_stats,
                                                                             const u32 *token_counts, bf16 *out,
                                                                             u32 splits, u32 least_split) {
    const u64 head = (u64)blockIdx.y * gridDim.x + blockIdx.x;
    out[head * blockDim.x + threadIdx.x] =
        bf16_from_float(combine_splits(partial_values, partial_stats, head * splits, token_counts[blockIdx.y], splits,
                                       least_split, blockDim.x));
}

extern "C" __global__ __launch_bounds__(THREADS) void attention_combine_fp32(const float *partial_values,
                                                                             const float *partial_stats,
                                                                             const u32 *token_counts, float *out,
                                                                             u32 splits, u32 least_split) {
    const u64 head = (u64)blockIdx.y * gridDim.x + blockIdx.x;
    out[head * blockDim.x + threadIdx.x] =
        combine_splits(partial_values, partial_stats, head * splits, token_counts[blockIdx.y], splits, least_split,
                       blockDim.x);
}

// attention_d<head_dim>_g<query heads per KV head>, done `heads` at a time with `blocks` blocks per SM.
#define ATTENTION(head_dim, group, heads, blocks)                                                                      \
    extern "C" __global__ __launch_bounds__(THREADS, blocks) void attention_d##head_dim##_g##group(                    \
        const bf16 *q, u32 row_stride, const u64 *kv_bases, const u32 *token_counts, u32 least_split,                  \
        float *partial_values, float *partial_stats) {                                                                 \
        attention_split<head_dim, group, heads>(q, row_stride, kv_bases, token_counts, least_split, partial_values,    \
                                                partial_stats);                                                        \
    }

// Four heads want about 128 registers; the compiler needs a few more from sm_100 on.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
#define FOUR_HEAD_BLOCKS 3
#else
#define FOUR_HEAD_BLOCKS 4
#endif

ATTENTION(128, 1, 1, 6)
ATTENTION(128, 4, 4, FOUR_HEAD_BLOCKS)
ATTENTION(128, 5, 5, 3)
ATTENTION(128, 7, 4, FOUR_HEAD_BLOCKS)
ATTENTION(128, 8, 4, FOUR_HEAD_BLOCKS)
ATTENTION(128, 16, 4, FOUR_HEAD_BLOCKS)
ATTENTION(96, 1, 1, 6)
ATTENTION(64, 1, 1, 6)
ATTENTION(64, 4, 4, FOUR_HEAD_BLOCKS)
