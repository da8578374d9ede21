// Exchanges between the devices of ranks: their operands, and the kernels that do nothing else.
#include "kernels/cuda/peers.h"

#include <string.h>

#include "kernels/cuda/peers_body.h"
#include "kernels/cuda/record.h"

static size_t align(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

oct_cuda_peer_layout oct_cuda_peer_layout_make(int32_t ranks, int32_t nodes, int32_t columns, int32_t hidden)
{
    const size_t groups = static_cast<size_t>(oct_peer_groups(hidden)), tiles = groups * OCT_PEER_TILES;
    const size_t owned = static_cast<size_t>(oct_peer_owned_groups(hidden, ranks, 0)), c = static_cast<size_t>(columns);
    const size_t narrow = columns < OCT_CUDA_ONE_SHOT_COLUMNS ? c : static_cast<size_t>(OCT_CUDA_ONE_SHOT_COLUMNS);
    const size_t all = static_cast<size_t>(nodes), column = OCT_CUDA_GROUP_ROWS * sizeof(float); // of a group
    const size_t one_shot = all * groups * narrow * column, two_shots = all * owned * c * column;
    const size_t rows = groups * c * column; // of the embedding
    const size_t half = one_shot > two_shots ? one_shot : two_shots;
    oct_cuda_peer_layout layout;
    layout.arrivals = align(sizeof(uint32_t));
    layout.delivered = layout.arrivals + align(tiles * static_cast<size_t>(ranks) * sizeof(uint32_t));
    layout.results = layout.delivered + align(groups * c * sizeof(uint32_t));
    layout.halves = layout.results + align(groups * c * column);
    layout.half_bytes = align(half > rows ? half : rows);
    layout.bytes = layout.halves + 2 * layout.half_bytes;
    return layout;
}

// Bytes of all nodes in a half.
static size_t nodes_bytes(const oct_cuda_reduction *r)
{
    return static_cast<size_t>(r->nodes) * static_cast<size_t>(oct_peer_tiles(*r)) * static_cast<size_t>(r->columns) *
           OCT_PEER_TILE * sizeof(float);
}

static oct_status check(const oct_cuda_reduction *r, int32_t depth)
{
    if (depth > OCT_CUDA_PEER_DEPTH || r->nodes > OCT_MAX_GRANULES || nodes_bytes(r) > r->peers.layout.half_bytes)
        return oct_fail(OCT_ERR_INTERNAL,
                        "a tree of depth %d with %d nodes of %zu bytes; expected at most %d, %d, and %zu bytes", depth,
                        r->nodes, nodes_bytes(r), OCT_CUDA_PEER_DEPTH, OCT_MAX_GRANULES,
                        static_cast<size_t>(r->peers.layout.half_bytes));
    return OCT_OK;
}

oct_status oct_cuda_plan_reduction(oct_cuda_reduction *r, const oct_cuda_peers *peers, const oct_tree_finish *tree,
                                   int32_t columns, uint32_t number, size_t two_shot_bytes, float *residual,
                                   float *squares)
{
    memset(r, 0, sizeof *r);
    r->peers = *peers;
    r->columns = columns;
    r->nodes = tree->nodes;
    int32_t most = 0;
    for (int32_t rank = 0; rank < peers->ranks; rank++) {
        r->first_node += rank < peers->rank ? tree->nodes_of_rank[rank] : 0;
        most = tree->nodes_of_rank[rank] > most ? tree->nodes_of_rank[rank] : most;
    }
    r->own_nodes = tree->nodes_of_rank[peers->rank];
    const size_t bytes = static_cast<size_t>(most) * static_cast<size_t>(columns) * static_cast<size_t>(peers->hidden) *
                         sizeof(float);
    r->two_shot = columns > OCT_CUDA_ONE_SHOT_COLUMNS || bytes > two_shot_bytes;
    r->number = number;
    memcpy(r->merges, tree->merges, sizeof r->merges);
    r->residual = residual;
    r->squares = squares;
    return check(r, tree->depth);
}

__global__ void __launch_bounds__(OCT_BLOCK_THREADS) oct_reduce_kernel(const __grid_constant__ oct_cuda_reduction r)
{
    oct_reduce_body(r, oct_place_of_launch());
}

// Blocks of a kernel for so many units of a warp, all of which are resident.
template <class... Parameters>
static cudaError_t resident_grid(const oct_cuda_device *device, void (*kernel)(Parameters...), int units, dim3 *grid)
{
    int of_multiprocessor = 0;
    const cudaError_t error =
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_multiprocessor, kernel, OCT_BLOCK_THREADS, 0);
    const int wanted = (units + OCT_BLOCK_THREADS / OCT_WARP - 1) / (OCT_BLOCK_THREADS / OCT_WARP);
    const int resident = of_multiprocessor * device->multiprocessors;
    *grid = dim3(static_cast<unsigned>(wanted < resident ? wanted : resident));
    return error;
}

static int units_of(const oct_cuda_reduction *r)
{
    const int size = oct_peer_unit_columns(r->columns);
    return oct_peer_groups(r->peers.hidden) * ((r->columns + size - 1) / size);
}

cudaError_t oct_cuda_start_reduction(const oct_cuda_device *device, const oct_cuda_reduction *r, cudaStream_t stream)
{
    if (oct_recording(stream))
        return oct_record(OCT_BODY_REDUCE, dim3(1), 0, r, sizeof *r);
    dim3 grid;
    const cudaError_t error = resident_grid(device, oct_reduce_kernel, units_of(r), &grid);
    return error != cudaSuccess
               ? error
               : oct_launch(oct_reduce_kernel, grid, dim3(OCT_BLOCK_THREADS), 0, stream, OCT_LAUNCH_COOPERATIVE, *r);
}

oct_status oct_cuda_reduce(const oct_cuda_device *device, const oct_cuda_reduction *r, cudaStream_t stream)
{
    return oct_cuda_check(oct_cuda_start_reduction(device, r, stream), "starting a reduction over ranks");
}

// In two shots a rank reads the nodes of what it owns, and the sums of all.
uint64_t oct_cuda_reduce_bytes(const oct_cuda_reduction *r)
{
    const uint64_t residual =
        static_cast<uint64_t>(r->columns) * static_cast<uint64_t>(r->peers.hidden) * sizeof(float);
    const uint64_t nodes = static_cast<uint64_t>(r->nodes) * residual, all = nodes + 2 * residual;
    if (r->two_shot == 0)
        return all;
    const uint64_t ranks = static_cast<uint64_t>(r->peers.ranks);
    return nodes / ranks + 3 * residual;
}

__global__ void __launch_bounds__(OCT_BLOCK_THREADS)
    oct_exchange_rows_kernel(const __grid_constant__ oct_cuda_row_exchange rows)
{
    oct_exchange_rows_body(rows, oct_place_of_launch());
}

oct_status oct_cuda_exchange_rows(const oct_cuda_device *device, const oct_cuda_row_exchange *rows, cudaStream_t stream)
{
    if (oct_recording(stream))
        return oct_cuda_check(oct_record(OCT_BODY_EXCHANGE_ROWS, dim3(1), 0, rows, sizeof *rows), "recording a step");
    dim3 grid;
    cudaError_t error =
        resident_grid(device, oct_exchange_rows_kernel, oct_peer_groups(rows->exchange.peers.hidden), &grid);
    if (error == cudaSuccess)
        error = oct_launch(oct_exchange_rows_kernel, grid, dim3(OCT_BLOCK_THREADS), 0, stream, OCT_LAUNCH_COOPERATIVE,
                           *rows);
    return oct_cuda_check(error, "starting the exchange of rows");
}

uint64_t oct_cuda_exchange_rows_bytes(const oct_cuda_row_exchange *rows)
{
    return static_cast<uint64_t>(rows->exchange.columns) * static_cast<uint64_t>(rows->exchange.peers.hidden) * 2 *
           sizeof(float);
}
