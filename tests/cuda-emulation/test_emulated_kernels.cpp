// Kernels under emulation: the examples give the right results, and the same bits whatever the schedule; the
// functions of warps, atomics, barriers of a part of a block and integer arithmetic do what CUDA says.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
extern "C" {
#include <cmocka.h>
}

#include <cooperative_groups.h>

#include "settings.h"
#include "test_support.h"

static void configure_fresh(const char *schedule, uint64_t seed, const char *streams)
{
    cuda_emulation_configure(schedule, seed, streams);
    random_state = 88172645463325252ull; // the same inputs again
}

static void examples_are_right_under_every_schedule(void **state)
{
    (void)state;
    for (const Example &example : examples)
        for (int shape = 0; shape < SHAPES; shape++) {
            configure_fresh("fifo", 1, "eager");
            Outcome first = example.run(BUG_NONE, shape);
            if (!first.good())
                fail_msg("%s, shape %d: a wrong result", example.name, shape);
            configure_fresh("lifo", 1, "lazy");
            for (uint64_t seed = 1; seed < 5; seed++) {
                Outcome again = example.run(BUG_NONE, shape);
                assert_memory_equal(first.found.data(), again.found.data(),
                                    first.found.size() * sizeof(float));
                configure_fresh("random", seed, seed % 2 ? "lazy" : "eager");
            }
        }
    configure_fresh("fifo", 1, "eager");
}

// Blocks that live together: more of them than one, and shared memory of each for itself.
static void resident_blocks_have_their_own_shared_memory(void **state)
{
    (void)state;
    configure_fresh("random", 3, "eager");
    cuda_emulation::settings.resident_blocks = 3;
    for (const Example &example : examples)
        assert_true(example.run(BUG_NONE, 2).good());
    cuda_emulation::settings.resident_blocks = 1;
    configure_fresh("fifo", 1, "eager");
}

template <class... Parameters, class... Arguments>
static void run(void (*kernel)(Parameters...), dim3 blocks, dim3 threads, Arguments... argument)
{
    cudaLaunchConfig_t configuration = {};
    configuration.gridDim = blocks;
    configuration.blockDim = threads;
    CUDA(cudaLaunchKernelEx(&configuration, kernel, argument...));
    CUDA(cudaDeviceSynchronize());
}

enum { SHUFFLES = 11 };

static __global__ void shuffle_kernel(unsigned *out)
{
    unsigned lane = threadIdx.x, *mine = out + lane * SHUFFLES;
    auto tile = cooperative_groups::tiled_partition<8>(cooperative_groups::this_thread_block());
    mine[0] = __shfl_sync(~0u, lane * 10, 5);
    mine[1] = __shfl_sync(~0u, lane * 10, (int)lane + 3, 8);
    mine[2] = __shfl_down_sync(~0u, lane, 4);
    mine[3] = __shfl_down_sync(~0u, lane, 2, 8);
    mine[4] = __shfl_up_sync(~0u, lane, 4);
    mine[5] = __shfl_up_sync(~0u, lane, 3, 16);
    mine[6] = __shfl_xor_sync(~0u, lane, 9);
    mine[7] = tile.shfl_xor(lane, 1) + 100 * tile.thread_rank();
    mine[8] = (unsigned)(__shfl_xor_sync(~0u, (double)lane, 16) * 2);
    mine[9] = tile.ballot(lane % 3 == 0);
    mine[10] = lane < 12 ? __shfl_down_sync(0xfffu, lane, 1) : 0; // lane 11 reads a lane that takes no part
}

static void shuffles_take_from_the_right_lane(void **state)
{
    (void)state;
    Array<unsigned> out(32 * SHUFFLES);
    run(shuffle_kernel, dim3(1), dim3(32), out.at);
    std::vector<unsigned> found = out.values();
    for (unsigned lane = 0; lane < 32; lane++) {
        unsigned base8 = lane / 8 * 8, ballot = 0;
        for (unsigned i = 0; i < 8; i++)
            ballot |= (unsigned)((base8 + i) % 3 == 0) << i;
        const unsigned expected[SHUFFLES] = {50,
                                             (base8 + (lane + 3) % 8) * 10,
                                             lane < 28 ? lane + 4 : lane,
                                             lane % 8 < 6 ? lane + 2 : lane,
                                             lane >= 4 ? lane - 4 : lane,
                                             lane % 16 >= 3 ? lane - 3 : lane,
                                             lane ^ 9,
                                             (lane ^ 1) + 100 * (lane % 8),
                                             (lane ^ 16) * 2,
                                             ballot,
                                             lane < 11    ? lane + 1
                                             : lane == 11 ? ~0u
                                                          : 0};
        for (int i = 0; i < SHUFFLES; i++)
            assert_int_equal(found[lane * SHUFFLES + (unsigned)i], expected[i]);
    }
}

enum { VOTES = 9 };

static __global__ void vote_kernel(unsigned *out)
{
    unsigned lane = threadIdx.x, *mine = out + lane * VOTES;
    mine[0] = __ballot_sync(~0u, lane % 5 == 0);
    mine[1] = (unsigned)__all_sync(~0u, lane < 31);
    mine[2] = (unsigned)__any_sync(~0u, lane == 31);
    mine[3] = __reduce_add_sync(~0u, lane);
    mine[4] = __reduce_max_sync(~0u, lane ^ 5);
    mine[5] = __reduce_min_sync(~0u, lane + 7);
    mine[6] = __reduce_or_sync(~0u, 1u << lane % 4);
    mine[7] = __match_any_sync(~0u, lane / 8);
    mine[8] = lane % 2 ? __ballot_sync(0xaaaaaaaau, 1) : __ballot_sync(0x55555555u, lane < 16);
}

static void votes_and_reductions_are_right(void **state)
{
    (void)state;
    Array<unsigned> out(32 * VOTES);
    run(vote_kernel, dim3(1), dim3(32), out.at);
    std::vector<unsigned> found = out.values();
    for (unsigned lane = 0; lane < 32; lane++) {
        const unsigned expected[VOTES] = {
            0x42108421u, 0, 1, 496, 31, 7, 15, 0xffu << lane / 8 * 8, lane % 2 ? 0xaaaaaaaau : 0x5555u};
        for (int i = 0; i < VOTES; i++)
            assert_int_equal(found[lane * VOTES + (unsigned)i], expected[i]);
    }
}

static __global__ void atomics_kernel(unsigned *words, float *sum, unsigned long long *wide, int *least)
{
    unsigned id = blockIdx.x * blockDim.x + threadIdx.x;
    atomicAdd(&words[0], 3);
    atomicSub(&words[1], 1);
    atomicMax(&words[2], id);
    atomicOr(&words[3], 1u << id % 7);
    atomicAnd(&words[4], ~(1u << id % 7));
    if (atomicCAS(&words[5], 0, id + 1) == 0) // one thread finds it empty
        atomicExch(&words[6], id + 1);
    atomicAdd(sum, 0.5f);
    atomicAdd(wide, 1ull << 33);
    atomicMin(least, -(int)id);
}

static void atomics_are_atomic(void **state)
{
    (void)state;
    Array<unsigned> words(std::vector<unsigned>{0, 1000, 0, 0, ~0u, 0, 0});
    Array<float> sum(std::vector<float>{0});
    Array<unsigned long long> wide(std::vector<unsigned long long>{5});
    Array<int> least(std::vector<int>{9});
    run(atomics_kernel, dim3(3), dim3(70), words.at, sum.at, wide.at, least.at);
    std::vector<unsigned> found = words.values();
    const unsigned expected[] = {630, 790, 209, 127, ~127u};
    for (int i = 0; i < 5; i++)
        assert_int_equal(found[(size_t)i], expected[i]);
    assert_true(found[5] && found[5] == found[6]);
    assert_true(sum.values()[0] == 105 && wide.values()[0] == 5 + (210ull << 33) &&
                least.values()[0] == -209);
}

struct Handover {
    int value;
};

// Threads 0…31 give thread 32…63 a number by a barrier of those 64 alone; the others of the block do not wait.
static __global__ void part_barrier_kernel(int *out)
{
    SHARED(Handover, handover);
    if (threadIdx.x >= 64)
        return;
    if (threadIdx.x == 5)
        handover.value = 42;
    __barrier_sync_count(3, 64);
    if (threadIdx.x >= 32)
        out[threadIdx.x - 32] = handover.value;
}

static void a_part_of_a_block_has_barriers(void **state)
{
    (void)state;
    Array<int> out(32);
    run(part_barrier_kernel, dim3(1), dim3(96), out.at);
    for (int value : out.values())
        assert_int_equal(value, 42);
}

static __global__ void place_kernel(unsigned *out)
{
    unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    __syncthreads(); // the indices are the thread's own after a change of fibers too
    out[block * 24 + thread] =
        blockIdx.z * 10000 + blockIdx.y * 1000 + threadIdx.z * 100 + threadIdx.y * 10 + threadIdx.x;
}

static void indices_are_the_thread_s(void **state)
{
    (void)state;
    Array<unsigned> out(6 * 24);
    run(place_kernel, dim3(1, 2, 3), dim3(4, 3, 2), out.at);
    std::vector<unsigned> found = out.values();
    for (unsigned i = 0; i < found.size(); i++) {
        unsigned block = i / 24, thread = i % 24;
        assert_int_equal(found[i], block / 2 * 10000 + block % 2 * 1000 + thread / 12 * 100 +
                                       thread / 4 % 3 * 10 + thread % 4);
    }
}

static void integer_functions_are_cuda_s(void **state)
{
    (void)state;
    assert_int_equal(__byte_perm(0x33221100u, 0x77665544u, 0x7531), 0x77553311u);
    assert_int_equal(__funnelshift_r(0x89abcdefu, 0x01234567u, 8), 0x6789abcdu);
    assert_int_equal(__dp4a((int)0xff028001u, (int)0x01030280u, 5), -1 + 6 - 256 - 128 + 5);
    assert_int_equal(__umulhi(0xffffffffu, 0xffffffffu), 0xfffffffeu);
    assert_int_equal(__clz(0), 32);
    assert_int_equal(__clz(1 << 20), 11);
    assert_int_equal(__ffs(0), 0);
    assert_int_equal(__popc(0xf0f0u), 8);
}

static __global__ void nothing_kernel() {}

static cudaError_t launch_with(unsigned blocks, unsigned threads, size_t dynamic_bytes, bool cooperative)
{
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = cooperative;
    cudaLaunchConfig_t configuration = {};
    configuration.gridDim = dim3(blocks);
    configuration.blockDim = dim3(threads);
    configuration.dynamicSmemBytes = dynamic_bytes;
    configuration.attrs = &attribute;
    configuration.numAttrs = 1;
    return cudaLaunchKernelEx(&configuration, nothing_kernel);
}

static void launches_beyond_the_device_are_refused(void **state)
{
    (void)state;
    int processors, resident;
    const int usual = cuda_emulation::settings.processors;
    cuda_emulation::settings.processors = 2; // with 4 they would be 8192 threads, more than gcc's ThreadSanitizer knows
    CUDA(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0));
    CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, nothing_kernel, 512, 0));
    assert_int_equal(resident, 4);
    assert_int_equal(launch_with(1, 1025, 0, false), cudaErrorInvalidConfiguration);
    assert_int_equal(launch_with(0, 32, 0, false), cudaErrorInvalidConfiguration);
    assert_int_equal(launch_with((unsigned)(processors * resident), 512, 0, true), cudaSuccess);
    assert_int_equal(launch_with((unsigned)(processors * resident + 1), 512, 0, true),
                     cudaErrorCooperativeLaunchTooLarge);
    assert_int_equal(launch_with(1, 32, (48 << 10) + 1, false), cudaErrorInvalidValue);
    CUDA(cudaFuncSetAttribute(nothing_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 100 << 10));
    assert_int_equal(launch_with(1, 32, 100 << 10, false), cudaSuccess);
    assert_int_equal(launch_with((unsigned)processors * 2 + 1, 32, 100 << 10, true),
                     cudaErrorCooperativeLaunchTooLarge);
    assert_int_equal(cudaGetLastError(), cudaErrorCooperativeLaunchTooLarge);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    cuda_emulation::settings.processors = usual;
}

static void devices_are_as_many_as_set(void **state)
{
    (void)state;
    int count = 7;
    cuda_emulation::settings.devices.clear(); // as without a driver
    assert_int_equal(cudaGetDeviceCount(&count), cudaErrorInsufficientDriver);
    assert_int_equal(count, 7);
    cuda_emulation::settings.devices = {0, 1, 2};
    CUDA(cudaGetDeviceCount(&count));
    assert_int_equal(count, 3);
    cudaDeviceProp first, last;
    CUDA(cudaGetDeviceProperties(&first, 0));
    CUDA(cudaGetDeviceProperties(&last, 2));
    assert_memory_not_equal(&first.uuid, &last.uuid, sizeof first.uuid);
    CUDA(cudaSetDevice(2));
    CUDA(cudaGetDevice(&count));
    assert_int_equal(count, 2);
    assert_int_equal(cudaSetDevice(3), cudaErrorInvalidDevice);
    CUDA(cudaSetDevice(0));
    cuda_emulation::settings.devices = {0};
    (void)cudaGetLastError();
}

int main()
{
    const CMUnitTest tests[] = {
        cmocka_unit_test(examples_are_right_under_every_schedule),
        cmocka_unit_test(resident_blocks_have_their_own_shared_memory),
        cmocka_unit_test(shuffles_take_from_the_right_lane),
        cmocka_unit_test(votes_and_reductions_are_right),
        cmocka_unit_test(atomics_are_atomic),
        cmocka_unit_test(a_part_of_a_block_has_barriers),
        cmocka_unit_test(indices_are_the_thread_s),
        cmocka_unit_test(integer_functions_are_cuda_s),
        cmocka_unit_test(devices_are_as_many_as_set),
        cmocka_unit_test(launches_beyond_the_device_are_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
