// The candidates of sampled columns. A block looks at a part of a column's logits, a second kernel joins the parts. A
// score's noise is made anew wherever it is needed: it is a function of seed, position and token.
#include "kernels/cuda/head.h"

#include "kernels/cuda/elementary.h"
#include "runtime/noise_law.h"
#include "runtime/sampling_numbers.h"

enum { SELECT_THREADS = 256, SORTED_KEYS = OCT_CUDA_PART_ROWS, WARPS = SELECT_THREADS / OCT_WARP };

// What is known of a part. Keys are those of oct_law_key(): a larger one stands for a larger number, then a smaller
// token; 0 stands for no token at all.
typedef struct oct_part {
    uint64_t best;                     // of the scores above −infinity
    uint64_t largest;                  // of the logits
    uint64_t list[OCT_MAX_CANDIDATES]; // [list_size] of the logits, descending
} oct_part;

typedef struct oct_sort_memory {
    uint64_t keys[SORTED_KEYS];
} oct_sort_memory;

typedef struct oct_warp_keys {
    uint64_t key[2][WARPS];
} oct_warp_keys;

static int part_count(int32_t rows)
{
    return (rows + OCT_CUDA_PART_ROWS - 1) / OCT_CUDA_PART_ROWS;
}

OCT_DEVICE uint64_t oct_larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

// The largest of the block's keys, for thread 0; `which` of the two places.
OCT_DEVICE uint64_t oct_block_largest(oct_warp_keys &memory, int which, uint64_t key)
{
    for (int apart = 16; apart > 0; apart /= 2) {
        const uint32_t high = __shfl_xor_sync(OCT_WARP_MASK, static_cast<uint32_t>(key >> 32), apart);
        const uint32_t low = __shfl_xor_sync(OCT_WARP_MASK, static_cast<uint32_t>(key), apart);
        key = oct_larger(key, static_cast<uint64_t>(high) << 32 | low);
    }
    if (oct_lane() == 0)
        memory.key[which][oct_warp()] = key;
    __syncthreads();
    for (int warp = 0; warp < WARPS; warp++)
        key = oct_larger(key, memory.key[which][warp]);
    return key;
}

// Sorts the block's keys, descending (Batcher's bitonic network: Knuth, The Art of Computer Programming 3, 5.3.4). Ends
// with a barrier.
OCT_DEVICE void oct_sort_keys(uint64_t *keys)
{
    for (int size = 2; size <= SORTED_KEYS; size *= 2)
        for (int apart = size / 2; apart > 0; apart /= 2) {
            __syncthreads();
            for (int i = static_cast<int>(threadIdx.x); i < SORTED_KEYS / 2; i += SELECT_THREADS) {
                const int low = i / apart * 2 * apart + i % apart, high = low + apart;
                const bool descending = (low & size) == 0;
                const uint64_t a = keys[low], b = keys[high];
                if ((a < b) == descending) {
                    keys[low] = b;
                    keys[high] = a;
                }
            }
        }
    __syncthreads();
}

// Bias, then penalties, of the tokens begin … end − 1: as oct_sampling_adjust(). Ends with a barrier.
OCT_DEVICE void oct_adjust(const oct_cuda_selection &s, const oct_cuda_sampled_column &column, float *logits, int begin,
                           int end)
{
    const int thread = static_cast<int>(threadIdx.x);
    for (int i = column.bias_begin + thread; i < column.bias_end; i += SELECT_THREADS)
        if (s.biases[i].token >= begin && s.biases[i].token < end)
            logits[s.biases[i].token - s.first] += s.biases[i].bias;
    __syncthreads();
    for (int i = column.penalty_begin + thread; i < column.penalty_end; i += SELECT_THREADS) {
        const oct_cuda_penalty penalty = s.penalties[i];
        if (penalty.token < begin || penalty.token >= end)
            continue;
        float l = logits[penalty.token - s.first];
        l = l < 0 ? l * column.repetition : oct_divide(l, column.repetition);
        if (penalty.outputs > 0)
            l = l - (column.presence + column.frequency * static_cast<float>(penalty.outputs));
        logits[penalty.token - s.first] = l;
    }
    __syncthreads();
}

OCT_DEVICE void oct_noise_words(const oct_cuda_sampled_column &column, int token, uint32_t words[4])
{
    const uint32_t counter[4] = {static_cast<uint32_t>(token) / 4, 0, static_cast<uint32_t>(column.position),
                                 static_cast<uint32_t>(column.position >> 32)};
    const uint32_t key[2] = {static_cast<uint32_t>(column.seed), static_cast<uint32_t>(column.seed >> 32)};
    oct_law_philox(counter, key, words);
}

// The score of a token: its logit, or that and noise. NaN stays what it is.
OCT_DEVICE float oct_score(const oct_cuda_sampled_column &column, float logit, uint32_t word)
{
    return column.greedy ? logit : fmaf(logit, column.inverse_temperature, oct_law_gumbel(word));
}

// Block (part, column).
__global__ void __launch_bounds__(SELECT_THREADS) oct_select_kernel(oct_cuda_selection s)
{
    SHARED(oct_sort_memory, sorted);
    SHARED(oct_warp_keys, warps);
    const oct_cuda_sampled_column &column = s.sampled[blockIdx.y];
    if (!column.sampled)
        return;
    float *logits = s.logits + blockIdx.y * s.stride;
    const int thread = static_cast<int>(threadIdx.x);
    const int begin = s.first + static_cast<int>(blockIdx.x) * OCT_CUDA_PART_ROWS;
    const int left = s.first + s.rows - begin, end = begin + (left < OCT_CUDA_PART_ROWS ? left : OCT_CUDA_PART_ROWS);
    oct_adjust(s, column, logits, begin, end);
    uint64_t best = 0, largest = 0;
    for (int quad = thread; quad < OCT_CUDA_PART_ROWS / 4; quad += SELECT_THREADS) {
        uint32_t words[4] = {0, 0, 0, 0};
        if (!column.greedy && begin + quad * 4 < end)
            oct_noise_words(column, begin + quad * 4, words);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int token = begin + quad * 4 + i;
            const bool real = token < end;
            const float logit = real ? logits[token - s.first] : 0.0f, score = oct_score(column, logit, words[i]);
            const uint64_t key = real ? oct_law_key(logit, token) : 0;
            largest = oct_larger(largest, key);
            best = real && score > -INFINITY ? oct_larger(best, oct_law_key(score, token)) : best;
            sorted.keys[quad * 4 + i] = key;
        }
    }
    oct_part &part = static_cast<oct_part *>(s.scratch)[blockIdx.y * gridDim.x + blockIdx.x];
    best = oct_block_largest(warps, 0, best);
    largest = oct_block_largest(warps, 1, largest);
    if (thread == 0) {
        part.best = best;
        part.largest = largest;
    }
    if (column.list_size == 0)
        return;
    oct_sort_keys(sorted.keys);
    for (int i = thread; i < column.list_size; i += SELECT_THREADS)
        part.list[i] = sorted.keys[i];
}

// The best token from its key: the first one where no score is above −infinity.
OCT_DEVICE oct_best oct_best_of_key(const oct_cuda_selection &s, const oct_cuda_sampled_column &column,
                                    const float *logits, uint64_t key)
{
    if (s.rows == 0)
        return {-1, -INFINITY, -INFINITY};
    if (key == 0)
        return {s.first, -INFINITY, column.greedy ? -INFINITY : oct_law_logit(logits[0])};
    const int token = oct_law_key_token(key);
    uint32_t words[4] = {0, 0, 0, 0};
    if (!column.greedy)
        oct_noise_words(column, token, words);
    const float logit = logits[token - s.first];
    const uint32_t word = token % 4 == 0 ? words[0] : token % 4 == 1 ? words[1] : token % 4 == 2 ? words[2] : words[3];
    return {token, oct_score(column, logit, word), oct_law_logit(logit)};
}

// The largest list_size keys of all parts, sorted, in the first places: what is kept and what is new are sorted
// together until nothing is left.
OCT_DEVICE void oct_join_lists(const oct_part *parts, int count, int list_size, uint64_t *keys)
{
    const int total = count * list_size;
    int kept = 0, taken = 0;
    do {
        const int room = SORTED_KEYS - kept, take = total - taken < room ? total - taken : room;
        __syncthreads();
        for (int i = static_cast<int>(threadIdx.x); i < room; i += SELECT_THREADS)
            keys[kept + i] = i < take ? parts[(taken + i) / list_size].list[(taken + i) % list_size] : 0;
        oct_sort_keys(keys);
        taken += take;
        kept = list_size;
    } while (taken < total);
}

// A column a block.
__global__ void __launch_bounds__(SELECT_THREADS) oct_join_kernel(oct_cuda_selection s, int count)
{
    SHARED(oct_sort_memory, sorted);
    SHARED(oct_warp_keys, warps);
    const oct_cuda_sampled_column &column = s.sampled[blockIdx.x];
    if (!column.sampled)
        return;
    const oct_part *parts = static_cast<const oct_part *>(s.scratch) + blockIdx.x * count;
    const int thread = static_cast<int>(threadIdx.x);
    uint64_t best = 0, largest = 0;
    for (int i = thread; i < count; i += SELECT_THREADS) {
        best = oct_larger(best, parts[i].best);
        largest = oct_larger(largest, parts[i].largest);
    }
    best = oct_block_largest(warps, 0, best);
    largest = oct_block_largest(warps, 1, largest);
    oct_candidates &candidates = s.candidates[blockIdx.x];
    if (thread == 0) {
        s.maxima[blockIdx.x] = largest == 0 ? -INFINITY : oct_law_key_logit(largest);
        candidates.residual_hash = 0;
        candidates.mass = candidates.unit_mass = 0;
        candidates.best = oct_best_of_key(s, column, s.logits + blockIdx.x * s.stride, best);
        candidates.not_numbers = 0;
        candidates.whole = s.rows <= column.list_size;
        candidates.count = s.rows < column.list_size ? s.rows : column.list_size;
    }
    if (column.list_size == 0)
        return;
    oct_join_lists(parts, count, column.list_size, sorted.keys);
    for (int i = thread; i < column.list_size; i += SELECT_THREADS) {
        const uint64_t key = sorted.keys[i];
        candidates.list[i].token = i < s.rows ? oct_law_key_token(key) : 0;
        candidates.list[i].logit = i < s.rows ? oct_law_key_logit(key) : 0.0f;
    }
}

// Block (part, column): masses are whole numbers, so that the order of additions is nobody's business.
__global__ void __launch_bounds__(SELECT_THREADS) oct_mass_kernel(oct_cuda_selection s, const float *maxima)
{
    const oct_cuda_sampled_column &column = s.sampled[blockIdx.y];
    if (!column.sampled || !(column.by_temperature || column.by_unit))
        return;
    const float *logits = s.logits + blockIdx.y * s.stride;
    const float maximum = maxima[blockIdx.y];
    const int begin = static_cast<int>(blockIdx.x) * OCT_CUDA_PART_ROWS;
    const int end = s.rows - begin < OCT_CUDA_PART_ROWS ? s.rows : begin + OCT_CUDA_PART_ROWS;
    int64_t mass = 0, unit_mass = 0;
    int broken = 0;
    for (int row = begin + static_cast<int>(threadIdx.x); row < end; row += SELECT_THREADS) {
        broken += !(logits[row] < INFINITY);
        if (column.by_temperature)
            mass += oct_law_mass(logits[row], maximum, column.inverse_temperature);
        if (column.by_unit)
            unit_mass += oct_law_mass(logits[row], maximum, 1.0f);
    }
    oct_candidates &candidates = s.candidates[blockIdx.y];
    atomicAdd(reinterpret_cast<unsigned long long *>(&candidates.mass), static_cast<unsigned long long>(mass));
    atomicAdd(reinterpret_cast<unsigned long long *>(&candidates.unit_mass),
              static_cast<unsigned long long>(unit_mass));
    atomicAdd(&candidates.not_numbers, broken);
}

size_t oct_cuda_selection_scratch_bytes(int32_t rows, int32_t columns)
{
    return sizeof(oct_part) * static_cast<size_t>(part_count(rows)) * static_cast<size_t>(columns);
}

oct_status oct_cuda_select(const oct_cuda_selection *s, cudaStream_t stream)
{
    const int parts = part_count(s->rows);
    const dim3 threads(SELECT_THREADS), columns(static_cast<unsigned>(s->columns));
    if (s->columns < 1 || s->first % 4 != 0)
        return oct_fail(OCT_ERR_INTERNAL,
                        "a selection of %d columns from token %d on, expected 1 or more, and a multiple of 4",
                        static_cast<int>(s->columns), static_cast<int>(s->first));
    cudaError_t error = cudaSuccess;
    if (parts > 0)
        error = oct_launch(oct_select_kernel, dim3(static_cast<unsigned>(parts), columns.x), threads, 0, stream,
                           OCT_LAUNCH_PLAIN, *s);
    if (error == cudaSuccess)
        error = oct_launch(oct_join_kernel, columns, threads, 0, stream, OCT_LAUNCH_PLAIN, *s, parts);
    return oct_cuda_check(error, "launching the selection of candidates");
}

uint64_t oct_cuda_select_bytes(const oct_cuda_selection *s)
{
    const uint64_t columns = static_cast<uint64_t>(s->columns);
    return columns * static_cast<uint64_t>(s->rows) * sizeof(float) +
           2 * oct_cuda_selection_scratch_bytes(s->rows, s->columns) + columns * sizeof(oct_candidates);
}

oct_status oct_cuda_add_masses(const oct_cuda_selection *s, const float *maxima, cudaStream_t stream)
{
    const int parts = part_count(s->rows);
    if (parts == 0)
        return OCT_OK;
    return oct_cuda_check(oct_launch(oct_mass_kernel,
                                     dim3(static_cast<unsigned>(parts), static_cast<unsigned>(s->columns)),
                                     dim3(SELECT_THREADS), 0, stream, OCT_LAUNCH_PLAIN, *s, maxima),
                          "launching the masses of candidates");
}
