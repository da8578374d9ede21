// The limits of the persistent kernel. Where a block or another rank does not come the kernel ends by itself, with
// rings full of weights that nobody takes any more; and what it does with little shared memory.
#include "persistent_test.h"

#include <chrono>

namespace
{
enum { WARPS = 8 }; // of a block, each with a ring

// A step that must end before its end, after `least_ms`: nothing behind the barrier that it ends at has run.
void check_gives_up(recording &r, int least_ms, const char *what)
{
    must(r.status, "the end of recording");
    const auto began = std::chrono::steady_clock::now();
    must(oct_cuda_program_launch(&r.program, nullptr), "the persistent kernel");
    must(cudaDeviceSynchronize(), "the persistent kernel");
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - began;
    if (took.count() < least_ms)
        fail("%s: given up after %.1f ms, expected %d", what, took.count(), least_ms);
    const oct_status status = oct_cuda_program_check(&r.program.words);
    if (status != OCT_ERR_LOST || strstr(oct_failure_text(), "waited in vain for each other") == nullptr)
        fail("%s: status %d, \"%s\"", what, (int)status, oct_failure_text());
    oct_failure_clear();
    for (float logit : r.memory.logits.values())
        if (!is_poison(logit))
            return fail("%s: there are logits", what);
}

// One arrival is missing, for ever, at the first barrier; the rings are filled for the first projection.
void miss_an_arrival(recording &r)
{
    const uint32_t one_less[OCT_CUDA_GRID_WORDS] = {UINT32_MAX, 0};
    r.words.put(0, one_less, OCT_CUDA_GRID_WORDS);
}

void test_clock_limit(int columns)
{
    const layer l(OCT_Q4, OCT_Q8, 64, columns);
    recording r(l);
    miss_an_arrival(r);
    r.program.limit_ns = 50000000;
    shuffle();
    check_gives_up(r, 50, "a block that does not come");
}

// The host says that a rank is lost; there is no limit.
void test_leaves(int columns)
{
    const layer l(OCT_Q2_K, OCT_BF16, 32, columns);
    peer other(l, 0);
    recording r(l, &other);
    miss_an_arrival(r);
    const uint32_t leaves = OCT_DEVICE_LEAVES;
    other.abort.put(0, &leaves, 1);
    shuffle();
    check_gives_up(r, 0, "a host that calls back");
}

// Another rank does not come in the middle of the step: that the grid leaves is because of the word, not of the clock;
// the rings are filled for the projection behind the reduction.
void test_silent_peer(int columns)
{
    const layer l(OCT_Q8, OCT_Q4, 96, columns);
    const peer other(l, 30000000);
    recording r(l, &other);
    shuffle();
    check_gives_up(r, 30, "a rank that does not come");
    if (other.abort.values()[0] != OCT_DEVICE_GAVE_UP + 1)
        fail("a rank that does not come: the word is %u", other.abort.values()[0]);
    if (r.words.values()[0] < 4u * (unsigned)r.program.blocks)
        fail("a rank that does not come: only %u arrivals of %d blocks", r.words.values()[0], r.program.blocks);
}

size_t larger_stage(const layer &l)
{
    size_t largest = 0;
    for (const matrix *m : {&l.qkv, &l.output, &l.gate, &l.up, &l.down, &l.head})
        largest = std::max(largest, oct_cuda_stage_bytes(&m->plan));
    return largest;
}

// With shared memory for one stage of the larger encoding the bits are the same; with a byte less a step is refused.
void test_little_shared(oct_encoding a, oct_encoding b, int32_t head_dim, int columns)
{
    const layer l(a, b, head_dim, columns);
    on_device launched(l);
    launched.issue(nullptr);
    const std::vector<uint8_t> expected = launched.results();
    const recording whole(l);
    must(whole.status, "the end of recording");
    const size_t scratch = whole.program.shared_bytes - WARPS * whole.program.ring_bytes;
    const size_t least = scratch + WARPS * larger_stage(l);
    recording small(l, nullptr, least);
    if (small.status != OCT_OK || small.program.ring_bytes != larger_stage(l))
        fail("%d columns: no rings of one stage in %zu bytes", columns, least);
    else if (shuffle(); small.run() != expected)
        fail("%d columns: other bits with rings of one stage", columns);
    char needs[100];
    snprintf(needs, sizeof needs, "a step of %d columns by the persistent executor needs %zu bytes", columns,
             least);
    const recording refused(l, nullptr, least - 1);
    if (refused.status != OCT_ERR_MACHINE || strstr(oct_failure_text(), needs) == nullptr)
        fail("%d columns: status %d, \"%s\", expected \"%s\"", columns, (int)refused.status, oct_failure_text(), needs);
    oct_failure_clear();
}
} // namespace

int main()
{
    begin_tests();
    must(oct_cuda_device_read(&device), "the device");
    must(oct_cuda_projection_load(&device), "loading");
    for (int columns : {1, 2 + random_below(7), 9 + random_below(8)}) {
        test_clock_limit(columns);
        test_leaves(columns);
        test_silent_peer(columns);
        test_little_shared(OCT_Q4, OCT_Q8, 64, columns);
        test_little_shared(OCT_BF16, OCT_Q2_K, 128, columns);
    }
    return end_tests("the limits of the persistent kernel");
}
