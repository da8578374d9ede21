// The persistent kernel. A block stays for the whole step and plays its share of the blocks of one operation after
// another; between two operations the grid waits for its last block. Shared memory: the operations that come next, the
// barriers of the rings, a ring of weights for each warp, and scratch that operations take turns with. The rings are
// filled for the next projection as soon as one is over, before the barrier is waited for and whatever stands between.
#ifndef OCT_KERNELS_CUDA_PERSISTENT_KERNEL_H
#define OCT_KERNELS_CUDA_PERSISTENT_KERNEL_H

#include "kernels/cuda/persistent_list.h"

enum { OCT_POLLS_A_LOOK = 64 /* at the clock and at what the host says, which is far away */ };

// Operations are functions that are called: compiled into one, the kernel would need more registers than there are.
// What they work on they find in shared memory.
#ifndef OCT_CUDA_EMULATED
#define OCT_OPERATION static __device__ __noinline__
#else
#define OCT_OPERATION static __attribute__((noinline))
#endif

OCT_DEVICE oct_persistent_shared &oct_shared(void)
{
    DYN_SHARED(oct_persistent_shared, shared);
    return *shared;
}

OCT_DEVICE uint8_t *oct_rings(void)
{
    DYN_SHARED(uint8_t, memory);
    return memory + oct_align_16(sizeof(oct_persistent_shared));
}

// That operations take turns with, as what they need.
template <class T> OCT_DEVICE T &oct_scratch(void)
{
    return *reinterpret_cast<T *>(oct_rings() + OCT_NARROW_WARPS * oct_shared().ring_bytes);
}

// The projection that the rings are filled for, or that runs.
OCT_DEVICE oct_record_entry &oct_projection(void)
{
    return oct_shared().projection[oct_shared().turn];
}

// The warp's ring as the last operation left it, and how an operation leaves it.
OCT_DEVICE oct_ring oct_ring_of_warp(void)
{
    oct_persistent_shared &shared = oct_shared();
    const int warp = oct_warp();
    return {oct_rings() + warp * shared.ring_bytes, shared.barriers[warp], oct_projection().stages,
            static_cast<int>(shared.filled[warp]), shared.phases[warp]};
}

OCT_DEVICE void oct_keep_ring(const oct_ring &ring)
{
    __syncwarp();
    if (oct_lane() == 0) {
        oct_shared().filled[oct_warp()] = static_cast<uint32_t>(ring.filled);
        oct_shared().phases[oct_warp()] = ring.phases;
    }
    __syncwarp();
}

// Copies an operation to shared memory, by all threads; ends without a barrier.
OCT_DEVICE void oct_fetch_record(oct_record_entry &to, const oct_record_entry *from)
{
    for (unsigned i = threadIdx.x; i < sizeof to / sizeof(uint4); i += OCT_BLOCK_THREADS)
        reinterpret_cast<uint4 *>(&to)[i] = reinterpret_cast<const uint4 *>(from)[i];
}

// Plays the block's share of the next operation's blocks.
template <class Body> OCT_DEVICE void oct_play(Body body)
{
    const oct_record_entry &record = oct_shared().next;
    const int32_t x = record.blocks[0], y = record.blocks[1], z = record.blocks[2];
    for (int32_t i = static_cast<int32_t>(blockIdx.x); i < x * y * z; i += static_cast<int32_t>(gridDim.x)) {
        const oct_place place = {i % x, i / x % y, i / x / y, x, y, z};
        body(record.operands, place);
        __syncthreads();
    }
}

OCT_DEVICE oct_place oct_place_in_row(void)
{
    return {static_cast<int32_t>(blockIdx.x), 0, 0, static_cast<int32_t>(gridDim.x), 1, 1};
}

// Asks for the first weights of the projection in shared memory.
template <class Weights> OCT_OPERATION void oct_fill_ring(void)
{
    oct_ring ring = oct_ring_of_warp();
    const oct_cuda_projection &p = oct_projection().operands.projection;
    oct_narrow_stream<Weights>(oct_place_in_row(), ring).start(p);
    oct_keep_ring(ring);
}

template <class Weights, int N> OCT_OPERATION void oct_run_projection(void)
{
    oct_ring ring = oct_ring_of_warp();
    oct_project_body<Weights, N>(oct_projection().operands.projection, oct_place_in_row(), ring,
                                 &oct_scratch<uint8_t>());
    oct_keep_ring(ring);
}

#define OCT_FOR_ENCODINGS(X) OCT_INTEGER_ENCODINGS(X) X(OCT_BF16, bf16, )

OCT_DEVICE void oct_fill_rings(void)
{
    switch (oct_projection().operands.projection.plan.encoding) {
#define OCT_CASE(number, name, ...)                                                                                    \
    case number:                                                                                                       \
        oct_fill_ring<oct_weights_##name>();                                                                           \
        break;
        OCT_FOR_ENCODINGS(OCT_CASE)
#undef OCT_CASE
    default:
        break;
    }
}

template <int N> OCT_DEVICE void oct_run_projections(void)
{
    switch (oct_projection().operands.projection.plan.encoding) {
#define OCT_CASE(number, name, ...)                                                                                    \
    case number:                                                                                                       \
        oct_run_projection<oct_weights_##name, N>();                                                                   \
        break;
        OCT_FOR_ENCODINGS(OCT_CASE)
#undef OCT_CASE
    default:
        break;
    }
}

template <int DIM, int TILES> OCT_OPERATION void oct_run_attention(void)
{
    oct_play([](const oct_operands &operands, const oct_place &place) {
        oct_attention_body<DIM, TILES>(operands.attention, place, oct_scratch<attention_shared<DIM, TILES>>());
    });
}

template <bool WIDE> OCT_DEVICE void oct_run_attentions(void)
{
    switch (oct_shared().next.operands.attention.launch.cache.head_dim) {
#define OCT_CASE(dim)                                                                                                  \
    case dim:                                                                                                          \
        oct_run_attention<dim, WIDE ? attention_wide_tiles(dim) : 1>();                                                \
        break;
        OCT_CASE(32)
        OCT_CASE(64)
        OCT_CASE(96)
        OCT_CASE(128)
        OCT_CASE(160)
        OCT_CASE(192)
        OCT_CASE(224)
        OCT_CASE(256)
#undef OCT_CASE
    }
}

OCT_OPERATION void oct_run_embed(void)
{
    oct_play([](const oct_operands &operands, const oct_place &place) { oct_embed_body(operands.embed, place); });
}

OCT_OPERATION void oct_run_prepare(void)
{
    oct_play([](const oct_operands &operands, const oct_place &place) {
        oct_prepare_body(operands.input, place, &oct_scratch<float>());
    });
}

OCT_OPERATION void oct_run_reduce(void)
{
    oct_reduce_body(oct_shared().next.operands.reduction, oct_place_in_row());
}

OCT_OPERATION void oct_run_exchange_rows(void)
{
    oct_exchange_rows_body(oct_shared().next.operands.rows, oct_place_in_row());
}

// Of the projection that has run: the rings are filled for the next one, in the other place, while others send.
OCT_OPERATION void oct_run_end_of_reduction(void)
{
    oct_end_reduction(oct_shared().projection[oct_shared().ran].operands.projection, oct_place_in_row());
}

OCT_OPERATION void oct_run_select(void)
{
    oct_play([](const oct_operands &operands, const oct_place &place) {
        oct_select_body(operands.select, place, oct_scratch<oct_selection_memory>());
    });
}

// Runs an operation; N: 8 N columns at most, WIDE: attention of several tiles of queries.
template <int N, bool WIDE> OCT_DEVICE void oct_run_operation(int32_t body)
{
    switch (body) {
    case OCT_BODY_EMBED:
        return oct_run_embed();
    case OCT_BODY_PREPARE:
        return oct_run_prepare();
    case OCT_BODY_PROJECT:
        return oct_run_projections<N>();
    case OCT_BODY_ATTENTION:
    case OCT_BODY_ATTENTION_WIDE:
        return oct_run_attentions<WIDE>();
    case OCT_BODY_REDUCE:
        return oct_run_reduce();
    case OCT_BODY_EXCHANGE_ROWS:
        return oct_run_exchange_rows();
    case OCT_BODY_SELECT:
        return oct_run_select();
    }
}

// Says that the block has done its share; what it wrote is seen by all blocks that have waited.
OCT_DEVICE void oct_arrive(const oct_persistent_operands &of)
{
    __syncthreads();
    if (threadIdx.x == 0)
        atom_add_acq_rel_gpu(&of.words.arrived[0], 1);
}

// Whether a wait at a barrier that began at began_ns is over without the others: other ranks are not waited for any
// more, or it took longer than limit_ns.
OCT_DEVICE bool oct_gives_up(const oct_persistent_operands &of, uint64_t began_ns)
{
    const bool told = of.words.abort != nullptr && ld_acquire_sys(of.words.abort) != OCT_DEVICE_WAITS;
    return told || (of.limit_ns != 0 && globaltimer() - began_ns > of.limit_ns);
}

// Thread 0: waits until `expected` blocks have come; false: given up.
OCT_DEVICE bool oct_poll_arrivals(const oct_persistent_operands &of, uint32_t expected)
{
    const uint64_t began_ns = globaltimer();
    for (uint32_t polls = 1; ld_acquire_gpu(&of.words.arrived[0]) < expected; polls++)
        if (polls % OCT_POLLS_A_LOOK == 0 && oct_gives_up(of, began_ns))
            return false;
    return true;
}

// Waits for the end of operation i, and goes on to the next.
OCT_DEVICE bool oct_wait_for_grid(const oct_persistent_operands &of, int32_t i)
{
    oct_persistent_shared &shared = oct_shared();
    if (threadIdx.x == 0) {
        shared.may_go_on = oct_poll_arrivals(of, gridDim.x * static_cast<uint32_t>(i + 1));
        shared.step = i + 1;
    }
    __syncthreads();
    return shared.may_go_on != 0;
}

// Brings what comes behind operation i, while other blocks are still at it.
OCT_DEVICE void oct_look_ahead(const oct_persistent_operands &of, int32_t i, bool is_projection)
{
    oct_persistent_shared &shared = oct_shared();
    const uint32_t turn = shared.turn;
    const int32_t next = is_projection ? shared.projection[turn].next_projection : -1;
    __syncthreads(); // nobody reads the operation that is over
    if (of.records[i + 1].body != OCT_BODY_PROJECT)
        oct_fetch_record(shared.next, &of.records[i + 1]);
    if (next >= 0)
        oct_fetch_record(shared.projection[turn ^ 1], &of.records[next]);
    if (is_projection && threadIdx.x == 0) {
        shared.next_projection = next;
        shared.turn = next >= 0 ? turn ^ 1 : turn;
    }
    __syncthreads();
    if (next >= 0)
        oct_fill_rings();
}

// The last block to leave makes the words ready for the next launch.
OCT_DEVICE void oct_leave(const oct_persistent_operands &of)
{
    __syncthreads();
    if (threadIdx.x == 0 && atom_add_acq_rel_gpu(&of.words.arrived[1], 1) == gridDim.x - 1) {
        st_release_gpu(&of.words.arrived[0], 0);
        st_release_gpu(&of.words.arrived[1], 0);
    }
}

// Nobody takes what the rings have asked for: it must have come before the block leaves.
OCT_DEVICE void oct_leave_early(const oct_persistent_operands &of)
{
    const oct_ring ring = oct_ring_of_warp();
    for (int slot = 0; slot < ring.filled; slot++)
        mbar_wait(&ring.barriers[slot], ring.phases >> slot & 1);
    if (threadIdx.x == 0)
        st_release_sys(of.words.gave_up, 1);
}

// The first operations and the first weights.
OCT_DEVICE void oct_begin_walk(const oct_persistent_operands &of)
{
    oct_persistent_shared &shared = oct_shared();
    if (threadIdx.x == 0)
        shared.ring_bytes = of.ring_bytes, shared.turn = 0, shared.step = 0,
        shared.next_projection = of.first_projection;
    if (oct_lane() == 0)
        shared.filled[oct_warp()] = shared.phases[oct_warp()] = 0;
    oct_init_barriers(shared.barriers[oct_warp()], OCT_MAX_STAGES);
    oct_fetch_record(shared.next, &of.records[0]);
    if (of.first_projection >= 0)
        oct_fetch_record(shared.projection[0], &of.records[of.first_projection]);
    __syncthreads();
    if (of.first_projection >= 0)
        oct_fill_rings();
}

OCT_DEVICE bool oct_is_projection(void)
{
    return oct_shared().step == oct_shared().next_projection;
}

// The operation whose turn it is. Nothing is kept in registers meanwhile: it may need them all.
template <int N, bool WIDE> OCT_DEVICE void oct_run_step(void)
{
    oct_persistent_shared &shared = oct_shared();
    if (threadIdx.x == 0)
        shared.ran = shared.turn; // for the end of a reduction, barriers later
    oct_run_operation<N, WIDE>(oct_is_projection() ? oct_projection().body : shared.next.body);
}

// The way to the next operation. False: the block leaves.
OCT_DEVICE bool oct_move_on(const oct_persistent_operands &of)
{
    const int32_t i = oct_shared().step;
    const bool is_projection = oct_is_projection();
    const bool reduces = is_projection && oct_projection().operands.projection.epilogue == OCT_CUDA_REDUCE;
    if (!reduces)
        oct_arrive(of);
    oct_look_ahead(of, i, is_projection);
    if (reduces) {
        oct_run_end_of_reduction();
        oct_arrive(of);
    }
    return oct_wait_for_grid(of, i);
}

template <int N, bool WIDE>
__global__ void __launch_bounds__(OCT_BLOCK_THREADS, 1)
    oct_persistent_kernel(const __grid_constant__ oct_persistent_operands of)
{
    oct_begin_walk(of);
    for (;;) {
        oct_run_step<N, WIDE>();
        if (oct_shared().step + 1 == of.count) // a reduction is never the last
            break;
        if (!oct_move_on(of))
            return oct_leave_early(of);
    }
    oct_leave(of);
}

#endif
