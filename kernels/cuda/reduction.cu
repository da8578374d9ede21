// The end of a reduction on the device, and the hash of the residual.
#include "kernels/cuda/reduction.h"

#include <string.h>

#include "kernels/cuda/device.h"

enum { THREADS = 128, HASH_THREADS = 256, AHEAD = 8 /* nodes that a thread has under way */ };

typedef float4 oct_waiting[OCT_CUDA_TREE_DEPTH][THREADS];

OCT_DEVICE float4 add(float4 a, float4 b)
{
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

// A thread has four elements of one column, and a stack of its own in shared memory.
__global__ void __launch_bounds__(THREADS) oct_finish_kernel(const __grid_constant__ oct_cuda_finish f)
{
    SHARED(oct_waiting, stack);
    const int32_t element = static_cast<int32_t>(blockIdx.x * THREADS + threadIdx.x) * 4;
    if (element >= f.hidden)
        return;
    const int64_t at = static_cast<int64_t>(blockIdx.y) * f.hidden + element;
    const float4 before = oct_load<float4>(f.residual + at);
    int top = 0;
    for (int32_t begin = 0; begin < f.nodes; begin += AHEAD) {
        float4 nodes[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            if (begin + i < f.nodes)
                nodes[i] = oct_load<float4>(f.node[begin + i] + at);
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            if (begin + i < f.nodes) {
                float4 sum = nodes[i];
                for (int merge = 0; merge < f.merges[begin + i]; merge++)
                    sum = add(stack[--top][threadIdx.x], sum);
                stack[top++][threadIdx.x] = sum;
            }
    }
    oct_store(f.residual + at, add(before, stack[0][threadIdx.x]));
}

void oct_cuda_plan_finish(oct_cuda_finish *finish, const oct_tree_finish *tree, const float *const *of_rank,
                          int32_t ranks, int32_t columns, int32_t hidden, float *residual)
{
    memset(finish, 0, sizeof *finish);
    finish->depth = tree->depth;
    finish->columns = columns;
    finish->hidden = hidden;
    finish->residual = residual;
    for (int32_t rank = 0; rank < ranks; rank++)
        for (int32_t i = 0; i < tree->nodes_of_rank[rank]; i++) {
            finish->merges[finish->nodes] = tree->merges[finish->nodes];
            finish->node[finish->nodes++] = of_rank[rank] + static_cast<int64_t>(i) * columns * hidden;
        }
}

oct_status oct_cuda_finish_tree(const oct_cuda_finish *f, cudaStream_t stream)
{
    if (f->depth > OCT_CUDA_TREE_DEPTH || f->hidden % 4 != 0)
        return oct_fail(OCT_ERR_INTERNAL, "a tree of depth %d over columns of %d elements: at most %d, and a multiple of 4",
                        f->depth, f->hidden, OCT_CUDA_TREE_DEPTH);
    const dim3 grid(static_cast<unsigned>((f->hidden + 4 * THREADS - 1) / (4 * THREADS)),
                    static_cast<unsigned>(f->columns));
    return oct_cuda_check(oct_launch(oct_finish_kernel, grid, dim3(THREADS), 0, stream, OCT_LAUNCH_PLAIN, *f),
                          "starting the end of a reduction");
}

uint64_t oct_cuda_finish_bytes(const oct_cuda_finish *f)
{
    return static_cast<uint64_t>(f->nodes + 2) * static_cast<uint64_t>(f->columns) * static_cast<uint64_t>(f->hidden) *
           sizeof(float);
}

// The finaliser of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
static __host__ __device__ __forceinline__ uint64_t scatter(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

typedef uint64_t oct_warp_hashes[HASH_THREADS / OCT_WARP];

// The sum of a number for each element that depends on its place and its bits: in any order, so by all threads.
__global__ void __launch_bounds__(HASH_THREADS)
    oct_hash_kernel(const int32_t *logit_column, const float *residual, int32_t hidden, uint64_t *hashes)
{
    SHARED(oct_warp_hashes, of_warp);
    const int32_t column = logit_column[blockIdx.x];
    uint64_t hash = 0;
    for (int32_t i = static_cast<int32_t>(threadIdx.x); column >= 0 && i < hidden; i += HASH_THREADS) {
        const float value = residual[static_cast<int64_t>(column) * hidden + i];
        hash += scatter(static_cast<uint64_t>(i) << 32 | __float_as_uint(value));
    }
    for (int offset = OCT_WARP / 2; offset > 0; offset /= 2)
        hash += __shfl_xor_sync(OCT_WARP_MASK, hash, offset);
    if (oct_lane() == 0)
        of_warp[oct_warp()] = hash;
    __syncthreads();
    if (threadIdx.x != 0)
        return;
    for (int w = 1; w < HASH_THREADS / OCT_WARP; w++)
        hash += of_warp[w];
    hashes[blockIdx.x] = hash;
}

oct_status oct_cuda_hash_columns(const oct_cuda_step *step, const float *residual, int32_t hidden, uint64_t *hashes,
                                 cudaStream_t stream)
{
    if (step->logit_columns == 0)
        return OCT_OK;
    const dim3 grid(static_cast<unsigned>(step->logit_columns));
    return oct_cuda_check(oct_launch(oct_hash_kernel, grid, dim3(HASH_THREADS), 0, stream, OCT_LAUNCH_PLAIN,
                                     step->logit_column, residual, hidden, hashes),
                          "starting the hash of the residual");
}

uint64_t oct_cuda_hash_bytes(const oct_cuda_step *step, int32_t hidden)
{
    return static_cast<uint64_t>(step->logit_columns) *
           (static_cast<uint64_t>(hidden) * sizeof(float) + sizeof(uint64_t));
}

uint64_t oct_cuda_join_hashes(const uint64_t *hashes, int32_t count)
{
    uint64_t joined = 0;
    for (int32_t i = 0; i < count; i++)
        joined = scatter(joined ^ hashes[i]);
    return joined;
}
